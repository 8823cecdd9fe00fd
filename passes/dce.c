/* dce.c - no pure op without a use is left, no result of a loop or branch, and nothing that a loop
 * carries or takes slices of for no one.
 *
 * Backward walks mark what effects, yields and returns need; operands come before their uses, so
 * that one is enough where nothing is carried.  The walk meets the yields of an op before the op,
 * but after all uses of its results: a yield is needed when its op is, and then the op has an
 * effect inside or a result that is used.  A carried value is needed when its result is, or when
 * its parameter is in a region: the next walk finds what it is made of.  What only makes the next
 * one of itself is needed by no one.  Parameters of the function stay: they are the signature. */
#include "passes/pass.h"

ig_status pass_run_dce(const ir_module *in, ir_module *out);

typedef struct dce {
    const ir_func *f;
    bool trim;    /* results of ops with regions go one by one, else with their op */
    bool *needed; /* by value; owned */
    bool *keep;   /* by op; owned */
    bool *effect; /* by op: it or what it holds has an effect; owned */
    bool more;
} dce;

/* --- What is needed --------------------------------------------------------------------------- */

/* Mark the region ops that hold an op with an effect; a yield is none. */
static void dce_fill_effects(dce *d) {
    const ir_func *f = d->f;
    for (uint32_t i = f->ops.n; i-- > 0;) {
        const ir_op *o = &f->ops.data[i];
        d->effect[i] |= ir_op_tab[o->code].effect && o->code != OP_yield;
        if (d->effect[i] && o->parent) d->effect[f->regions.data[o->parent].op] = true;
    }
}

static bool dce_is_used(const dce *d, const ir_op *o) {
    bool any = false;
    for (uint32_t k = 0; k < o->nout; k++) any |= d->needed[o->out0 + k];
    return any;
}

/* Whether result k of a needed op with regions is kept: all are, if it is needed for none. */
static bool dce_has_result(const dce *d, const ir_op *o, uint32_t k) {
    return !d->trim || d->needed[o->out0 + k] || !dce_is_used(d, o);
}

static uint32_t dce_carries(const dce *d, const ir_op *o) {
    if (o->code == OP_scan)
        return (uint32_t)((const ir_attr_scan *)ir_attr_get(d->f->module, o->attr))->carries;
    return o->code == OP_while ? o->nin : 0;
}

/* Whether operand k of a needed op is kept, and with it the parameters that it becomes. */
static bool dce_has_operand(const dce *d, const ir_op *o, uint32_t k) {
    if (o->code != OP_scan && o->code != OP_while) return true;
    if (k < dce_carries(d, o)) return dce_has_result(d, o, k);
    uint32_t slice = d->f->regions.data[o->region0].param0 + 1 + k;
    return !d->trim || d->needed[slice] || !dce_is_used(d, o);
}

static bool dce_has_yield(const dce *d, const ir_op *y, uint32_t k) {
    const ir_op *o = &d->f->ops.data[d->f->regions.data[y->parent].op];
    return (o->code == OP_while && y->parent == o->region0) || dce_has_result(d, o, k);
}

/* A carried value that a region reads is needed as its result is. */
static void dce_carry(dce *d, const ir_op *o) {
    for (uint32_t k = 0; k < dce_carries(d, o); k++)
        for (uint32_t r = 0; r < o->nregion && !d->needed[o->out0 + k]; r++) {
            uint32_t first = d->f->regions.data[o->region0 + r].param0 + (o->code == OP_scan);
            if (d->needed[first + k]) d->needed[o->out0 + k] = d->more = true;
        }
}

static void dce_walk(dce *d) {
    const ir_func *f = d->f;
    d->more = false;
    for (uint32_t i = f->ops.n; i-- > 0;) {
        const ir_op *o = &f->ops.data[i];
        bool yield = o->code == OP_yield;
        if (o->nregion) dce_carry(d, o);
        uint32_t asked = yield ? f->regions.data[o->parent].op : i;
        d->keep[i] = d->effect[asked] || dce_is_used(d, &f->ops.data[asked]);
        for (uint32_t k = 0; d->keep[i] && k < o->nin; k++)
            if (yield ? dce_has_yield(d, o, k) : dce_has_operand(d, o, k))
                d->needed[ir_op_in(f, o, k).i] = true;
    }
}

/* --- Emission --------------------------------------------------------------------------------- */

/* Begin region k of the open op `mine`. */
static void dce_begin_region(const dce *d, ir_builder *b, const ir_op *o, uint32_t k, uint32_t mine,
                             ir_ref *map) {
    ir_type type[IR_MAX_RESULTS + 1];
    ir_ref param[IR_MAX_RESULTS + 1];
    const ir_region *r = &d->f->regions.data[o->region0 + k];
    uint32_t n = 0, step = o->code == OP_scan;
    for (int pass = 0; pass < 2; pass++) {
        if (pass) ir_region_begin(b, mine, (int)k, (int)n, type, param);
        n = 0;
        for (uint32_t i = 0; i < r->nparam && !b->error; i++) {
            uint32_t v = r->param0 + i;
            if (i >= step && !dce_has_operand(d, o, i - step)) continue;
            if (pass)
                map[v] = param[n++];
            else
                type[n++] = ir_import_type(b->m, d->f->module, *ir_val_type(d->f, (ir_ref){v}));
        }
    }
}

/* Begin an op with regions; or end a region, and begin the next one or end the op. */
static void dce_copy_flow(const dce *d, ir_builder *b, const ir_op *o, ir_ref *map) {
    const ir_func *f = d->f;
    const ir_op *owner = o->nregion ? o : &f->ops.data[f->regions.data[o->parent].op];
    ir_ref in[IR_MAX_RESULTS + 1];
    uint32_t n = 0, carries = 0, next = 0, mine;
    for (uint32_t k = 0; k < o->nin; k++) {
        if (o->nregion ? !dce_has_operand(d, o, k) : !dce_has_yield(d, o, k)) continue;
        in[n++] = map[ir_op_in(f, o, k).i];
        carries += k < dce_carries(d, o);
    }
    if (o->nregion) {
        ir_attr_any attr;
        ir_import_attr(b->m, f->module, o->attr, &attr);
        if (o->code == OP_scan) attr.a_scan.carries = carries;
        mine = ir_op_begin(b, (ir_opcode)o->code, &attr, (int)n, in, o->nregion);
    } else {
        next = o->parent - owner->region0 + 1;
        mine = b->f->regions.data[b->region].op;
        ir_region_end(b, (int)n, in);
    }
    if (next < owner->nregion) {
        dce_begin_region(d, b, owner, next, mine, map);
        return;
    }
    ir_ref r = ir_op_end(b, mine);
    for (uint32_t k = 0, at = 0; k < owner->nout; k++)
        if (dce_has_result(d, owner, k)) map[owner->out0 + k] = ir_result(r, at++);
}

static void dce_copy(const dce *d, ir_builder *b, uint32_t i, ir_ref *map) {
    const ir_op *o = &d->f->ops.data[i];
    if (!d->trim || (!o->nregion && o->code != OP_yield) || o->nin > IR_MAX_RESULTS) {
        ir_copy_op(b, d->f, i, map);
        return;
    }
    ir_loc_rec at = ir_loc_get(d->f->module, o->loc);
    b->loc = ir_intern_loc(b->m, at.file, at.line);
    dce_copy_flow(d, b, o, map);
}

static ig_status dce_func(ir_module *out, const ir_func *f, bool trim) {
    const ig_allocator *a = out->alloc;
    ir_builder b;
    dce d = {.f = f, .trim = trim, .needed = rt_alloc_zero(a, f->values.n)};
    d.keep = rt_alloc_zero(a, f->ops.n);
    d.effect = rt_alloc_zero(a, f->ops.n);
    ir_ref *map = pass_begin(&b, out, f, IR_BUILD_RAW);
    uint32_t end = f->regions.data[0].end - 1;
    if (!d.needed || !d.keep || !d.effect) {
        ir_build_error(&b, rt_fail_memory());
    } else {
        dce_fill_effects(&d);
        do dce_walk(&d);
        while (d.more);
    }
    for (uint32_t o = 0; map && !b.error && o < end; o++)
        if (d.keep[o]) dce_copy(&d, &b, o, map);
    rt_free(a, d.needed, f->values.n);
    rt_free(a, d.keep, f->ops.n);
    rt_free(a, d.effect, f->ops.n);
    return pass_end(&b, f, map);
}

ig_status pass_copy_live(ir_module *out, const ir_func *f) { return dce_func(out, f, false); }

ig_status pass_run_dce(const ir_module *in, ir_module *out) {
    for (uint32_t i = 0; i < in->funcs.n; i++) RT_TRY(dce_func(out, in->funcs.data[i], true));
    return NULL;
}
