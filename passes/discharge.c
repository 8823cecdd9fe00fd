/* discharge.c - memory that changes becomes values.
 *
 * A ref has one value at every place of a program, as nothing else can name it (I12): a read gives
 * it, a write replaces it.  An op with regions that writes to a ref from outside gets one more
 * result: what the ref holds behind it.  A loop carries it, behind its carried values; a branch
 * gives it, whether it wrote or not.  So the result is a program of values, which derivatives,
 * batches and code generation know how to treat, and nothing of refs is left. */
#include "passes/emit.h"
#include "passes/pass.h"

#include <string.h>

ig_status pass_run_discharge(const ir_module *in, ir_module *out);

/* An op with regions that is being copied. */
typedef struct discharge_open {
    const ir_op *o;
    uint32_t b, region; /* the op in the copy; the open region */
    uint32_t first, n;  /* in `written`: the refs from outside that it writes */
} discharge_open;

typedef struct discharge {
    ir_builder b;
    const ir_func *f;
    ir_ref *map; /* by value of f; of a ref: what it holds */
    RT_VEC(discharge_open) open;
    RT_VEC(uint32_t) written; /* values of f, of all that is open */
    RT_VEC(ir_ref) before;    /* beside it: what each held before the op */
    RT_VEC(ir_ref) list;
    RT_VEC(ir_type) types;
} discharge;

static void discharge_check(discharge *d, bool room) {
    if (!room) ir_build_error(&d->b, rt_fail_memory());
}
static void discharge_push(discharge *d, ir_ref v) {
    discharge_check(d, rt_vec_push(d->b.m->alloc, &d->list, v));
}

static void discharge_fail(discharge *d, const ir_op *o, const char *why) {
    d->b.loc = emit_loc(d->b.m, d->f, o);
    ir_build_error(&d->b, rt_status_op(rt_fail(d->b.m->alloc, IG_UNSUPPORTED, "%s", why),
                                       ir_op_tab[o->code].name));
}

/* List the refs from outside of an op that it writes, in the order of the first write. */
static void discharge_written(discharge *d, discharge_open *open) {
    const ir_func *f = d->f;
    uint32_t at = (uint32_t)(open->o - f->ops.data), end = ir_op_after(f, at);
    open->first = d->written.n;
    for (uint32_t i = at + 1; i < end; i++) {
        const ir_op *o = &f->ops.data[i];
        if (o->code != OP_write && o->code != OP_read) continue;
        uint32_t ref = ir_op_in(f, o, 0).i;
        bool known = f->values.data[ref].def > at; /* its own */
        if (!known && open->o->code == OP_composite)
            discharge_fail(d, o, "a composite uses a ref from outside: pass what it holds");
        for (uint32_t k = open->first; k < d->written.n; k++) known |= d->written.data[k] == ref;
        if (known || o->code == OP_read) continue;
        discharge_check(d, rt_vec_push(d->b.m->alloc, &d->written, ref) &&
                               rt_vec_push(d->b.m->alloc, &d->before, d->map[ref]));
    }
    open->n = d->written.n - open->first;
}

/* What the written refs hold now. */
static void discharge_push_written(discharge *d, const discharge_open *open) {
    for (uint32_t k = 0; k < open->n; k++)
        discharge_push(d, d->map[d->written.data[open->first + k]]);
}

/* How many of its operands, and of what its region takes and yields, stand before the refs. */
static uint32_t discharge_carries(const discharge *d, const ir_op *o) {
    if (o->code == OP_scan)
        return (uint32_t)((const ir_attr_scan *)ir_attr_get(d->f->module, o->attr))->carries;
    return o->code == OP_if ? 0 : o->nin;
}

static void discharge_begin_region(discharge *d, discharge_open *open) {
    const ir_op *o = open->o;
    const ir_region *r = &d->f->regions.data[o->region0 + open->region];
    uint32_t step = o->code == OP_scan, before = step + discharge_carries(d, o), extra = open->n;
    if (o->code == OP_if || o->code == OP_composite) extra = 0, before = r->nparam;
    d->types.n = d->list.n = 0;
    for (uint32_t k = 0; k < r->nparam + extra && !d->b.error; k++) {
        uint32_t p = k < before ? k : k - extra;
        bool mine = k >= before && k < before + extra;
        ir_type t = mine ? ir_type_of(&d->b, d->before.data[open->first + k - before])
                         : ir_import_type(d->b.m, d->f->module,
                                          *ir_val_type(d->f, (ir_ref){r->param0 + p}));
        discharge_check(d, rt_vec_push(d->b.m->alloc, &d->types, t));
        discharge_push(d, (ir_ref){0});
    }
    if (d->b.error) return;
    ir_region_begin(&d->b, open->b, (int)open->region, (int)d->types.n, d->types.data,
                    d->list.data);
    for (uint32_t k = 0; k < r->nparam; k++)
        d->map[r->param0 + k] = d->list.data[k < before ? k : k + extra];
    for (uint32_t k = 0; k < open->n; k++)
        d->map[d->written.data[open->first + k]] = extra ? d->list.data[before + k]
                                                         : d->before.data[open->first + k];
}

static void discharge_begin(discharge *d, const ir_op *o) {
    discharge_open open = {.o = o};
    uint32_t carries = discharge_carries(d, o);
    ir_attr_any attr;
    ir_import_attr(d->b.m, d->f->module, o->attr, &attr);
    discharge_written(d, &open);
    d->list.n = 0;
    for (uint32_t k = 0; k < o->nin; k++) {
        if (k == carries && o->code == OP_scan) discharge_push_written(d, &open);
        discharge_push(d, d->map[ir_op_in(d->f, o, k).i]);
    }
    if (carries == o->nin && o->code != OP_if) discharge_push_written(d, &open);
    if (o->code == OP_scan) attr.a_scan.carries += open.n;
    open.b =
        ir_op_begin(&d->b, (ir_opcode)o->code, &attr, (int)d->list.n, d->list.data, o->nregion);
    if (!d->b.error) discharge_begin_region(d, &open);
    discharge_check(d, rt_vec_push(d->b.m->alloc, &d->open, open));
}

/* Enter the results of the op, whose last region has ended. */
static void discharge_end(discharge *d, const discharge_open *open) {
    const ir_op *o = open->o;
    ir_ref first = ir_op_end(&d->b, open->b);
    uint32_t before = o->code == OP_scan ? discharge_carries(d, o) : o->nout;
    for (uint32_t k = 0; k < o->nout; k++)
        d->map[o->out0 + k] = ir_result(first, k < before ? k : k + open->n);
    if (!open->n) return;
    for (uint32_t k = 0; k < open->n; k++)
        d->map[d->written.data[open->first + k]] = ir_result(first, before + k);
    d->written.n = d->before.n = open->first;
}

static void discharge_yield(discharge *d, const ir_op *y) {
    discharge_open *open = &d->open.data[d->open.n - 1];
    const ir_op *o = open->o;
    bool asks = o->code == OP_while && !open->region;
    uint32_t before = o->code == OP_scan ? discharge_carries(d, o) : y->nin;
    d->list.n = 0;
    for (uint32_t k = 0; k < y->nin; k++) {
        if (k == before) discharge_push_written(d, open);
        discharge_push(d, d->map[ir_op_in(d->f, y, k).i]);
    }
    if (before == y->nin && !asks) discharge_push_written(d, open);
    for (uint32_t k = 0; asks && k < open->n; k++)
        if (d->map[d->written.data[open->first + k]].i !=
            d->b.f->regions.data[d->b.region].param0 + o->nin + k)
            discharge_fail(d, o, "its condition writes to a ref: write in the body");
    ir_region_end(&d->b, (int)d->list.n, d->list.data);
    if (++open->region < o->nregion) {
        discharge_begin_region(d, open);
        return;
    }
    discharge_open done = *open;
    d->open.n--;
    if (!d->b.error) discharge_end(d, &done);
}

/* A write, as the value that the ref holds behind it. */
static void discharge_write(discharge *d, const ir_op *o) {
    ir_attr_any attr;
    ir_ref *now = &d->map[ir_op_in(d->f, o, 0).i];
    ir_import_attr(d->b.m, d->f->module, o->attr, &attr);
    bool add = attr.a_dupd.op == IR_setop_add;
    d->list.n = 0;
    for (uint32_t k = 0; k < o->nin; k++) discharge_push(d, d->map[ir_op_in(d->f, o, k).i]);
    if (d->b.error) return;
    if (o->nin > 2)
        *now = ir_emit(&d->b, OP_dupdate, &attr, o->nin, d->list.data);
    else
        *now = add ? EMIT(&d->b, add, *now, d->list.data[1]) : d->list.data[1];
}

static void discharge_op(discharge *d, uint32_t i) {
    const ir_op *o = &d->f->ops.data[i];
    d->b.loc = emit_loc(d->b.m, d->f, o);
    if (o->code == OP_ref || (o->code == OP_read && o->nin == 1)) {
        d->map[o->out0] = d->map[ir_op_in(d->f, o, 0).i];
    } else if (o->code == OP_read) {
        ir_attr_any attr;
        ir_import_attr(d->b.m, d->f->module, o->attr, &attr);
        d->list.n = 0;
        for (uint32_t k = 0; k < o->nin; k++) discharge_push(d, d->map[ir_op_in(d->f, o, k).i]);
        if (!d->b.error) d->map[o->out0] = ir_emit(&d->b, OP_dslice, &attr, o->nin, d->list.data);
    } else if (o->code == OP_write) {
        discharge_write(d, o);
    } else if (o->code == OP_yield) {
        discharge_yield(d, o);
    } else if (o->nregion) {
        discharge_begin(d, o);
    } else {
        ir_copy_op(&d->b, d->f, i, d->map);
    }
}

static ig_status discharge_func(ir_module *out, const ir_func *f) {
    const ig_allocator *a = out->alloc;
    bool refs = false;
    for (uint32_t i = 0; i < f->ops.n; i++) refs |= f->ops.data[i].code == OP_ref;
    if (!refs) return pass_copy_func(out, f);
    discharge d = {.f = f};
    d.map = pass_begin(&d.b, out, f, IR_BUILD_RAW);
    uint32_t end = f->regions.data[0].end - 1;
    for (uint32_t i = 0; d.map && i < end && !d.b.error; i++) discharge_op(&d, i);
    rt_vec_free(a, &d.open);
    rt_vec_free(a, &d.written);
    rt_vec_free(a, &d.before);
    rt_vec_free(a, &d.list);
    rt_vec_free(a, &d.types);
    return pass_end(&d.b, f, d.map);
}

ig_status pass_run_discharge(const ir_module *in, ir_module *out) {
    for (uint32_t i = 0; i < in->funcs.n; i++) RT_TRY(discharge_func(out, in->funcs.data[i]));
    return NULL;
}
