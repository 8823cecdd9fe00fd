/* part.c - smaller programs out of one: what a value is computed from, and edits of single ops. */
#include "passes/emit.h"
#include "passes/pass.h"
#include "tests/fuzz/fuzz.h"
#include <string.h>

static const ig_allocator *A(void) { return ig_allocator_default(); }

uint32_t fuzz_ops(const fuzz_case *c) {
    uint32_t n = 0;
    for (uint32_t o = 0; o < c->f->ops.n; o++)
        n += c->f->ops.data[o].code != OP_const && c->f->ops.data[o].code != OP_return;
    return n;
}

/* Whether all results of an op that are needed are inputs. */
static bool part_is_cut(const ir_op *op, ir_ref target, const bool *cut, const bool *need) {
    bool cuts = true;
    for (uint32_t k = 0; k < op->nout; k++)
        cuts &= !need[op->out0 + k] || (cut && cut[op->out0 + k] && op->out0 + k != target.i);
    return cuts;
}

/* Mark what the target needs, stopping at cuts and parameters.  Ops with regions are wholes. */
static void part_mark(const ir_func *f, ir_ref target, const bool *cut, bool *need) {
    need[target.i] = true;
    for (uint32_t o = f->ops.n; o-- > 0;) {
        const ir_op *op = &f->ops.data[o];
        if (op->parent || part_is_cut(op, target, cut, need)) continue;
        for (uint32_t i = o; i < ir_op_after(f, o); i++)
            for (uint32_t k = 0; k < f->ops.data[i].nin; k++) {
                ir_ref v = ir_op_in(f, &f->ops.data[i], k);
                if (!ir_home(f, v)) need[v.i] = true;
            }
    }
}

static bool part_is_input(const ir_func *f, uint32_t v, ir_ref target, const bool *cut) {
    return f->values.data[v].is_param || (cut && cut[v] && v != target.i);
}

/* Fill a parameter that stands for value v of c: an old input, or what the reference computes. */
static bool part_fill(const fuzz_case *c, uint32_t v, ir_tensor *out) {
    const ir_value *value = &c->f->values.data[v];
    if (value->is_param) return memcpy(out->data, c->in[value->index].data, way_bytes(out)), true;
    fuzz_case part;
    if (!fuzz_extract(c, (ir_ref){v}, NULL, &part)) return false;
    ig_status s = ir_ref_run(part.f, A(), part.symbols, part.nin, part.in, 1, out);
    fuzz_free(&part);
    return s ? (ig_status_free(s), false) : true;
}

bool fuzz_extract(const fuzz_case *c, ir_ref target, const bool *cut, fuzz_case *out_) {
    const ir_func *f = c->f;
    uint32_t n = f->values.n, source[FUZZ_PARAMS], nsource = 0;
    bool *need = rt_alloc_zero(A(), n);
    ir_ref *map = rt_alloc_zero(A(), n * sizeof *map);
    ir_builder b;
    memset(out_, 0, sizeof *out_);
    if (ir_home(f, target)) { /* of a region: it has no value outside of it */
        rt_free(A(), need, n);
        rt_free(A(), map, n * sizeof *map);
        return false;
    }
    ig_status s = need && map ? ir_module_shell(c->m, &out_->m) : rt_fail_memory();
    if (!s) {
        memcpy(out_->symbols, c->symbols, sizeof c->symbols);
        part_mark(f, target, cut, need);
        ir_build_begin(&b, out_->m, "f", IR_FN, IR_BUILD_RAW);
        for (uint32_t v = 1; v < n; v++)
            if (need[v] && part_is_input(f, v, target, cut) && nsource < FUZZ_PARAMS) {
                ir_type type = ir_import_type(out_->m, f->module, *ir_val_type(f, (ir_ref){v}));
                map[v] = ir_param(&b, type, NULL);
                source[nsource++] = v;
            }
        for (uint32_t o = 0; o < f->ops.n; o = ir_op_after(f, o)) {
            const ir_op *op = &f->ops.data[o];
            bool made = true;
            for (uint32_t k = 0; k < op->nout; k++)
                made &= !need[op->out0 + k] || map[op->out0 + k].i;
            for (uint32_t i = o; !made && i < ir_op_after(f, o); i++) ir_copy_op(&b, f, i, map);
        }
        s = ir_build_end(&b, 1, &map[target.i], NULL);
    }
    bool ok = !s;
    if (ok) {
        out_->f = ir_find_func(out_->m, "f");
        ok = fuzz_inputs(NULL, out_);
        for (uint32_t k = 0; ok && k < nsource; k++) ok = part_fill(c, source[k], &out_->in[k]);
    }
    ig_status_free(s);
    rt_free(A(), need, n);
    rt_free(A(), map, n * sizeof *map);
    if (!ok) fuzz_free(out_);
    return ok;
}

/* --- Edits ------------------------------------------------------------------------------------ */

typedef struct part_edit {
    ir_builder b;
    const ir_func *f;
    ir_ref *map; /* by value of f; owned */
} part_edit;

static ir_type part_type(part_edit *e, ir_ref v) {
    return ir_import_type(e->b.m, e->f->module, *ir_val_type(e->f, v));
}

static ir_ref part_zeros(part_edit *e, ir_ref v) {
    ir_type t = part_type(e, v);
    return emit_fill(&e->b, &t, 0);
}

/* Operand k, or zeros, takes the place of the results. */
static bool part_replace(part_edit *e, const ir_op *op, uint32_t k) {
    for (uint32_t i = 0; i < op->nout; i++) {
        ir_ref v = ir_op_out(op, i), in = k < op->nin ? ir_op_in(e->f, op, k) : (ir_ref){0};
        bool fits = in.i && ir_type_eq(ir_val_type(e->f, v), ir_val_type(e->f, in));
        if (!i && in.i && !fits) return false;
        e->map[v.i] = fits ? e->map[in.i] : part_zeros(e, v);
    }
    return true;
}

static void part_copy_region(part_edit *e, const ir_region *r) {
    for (uint32_t i = r->first; i + 1 < r->end; i++) ir_copy_op(&e->b, e->f, i, e->map);
}

/* The first row of x. */
static ir_ref part_row(part_edit *e, ir_ref x, ir_type row) {
    ir_type t = ir_type_of(&e->b, x);
    ir_dims lo = {.n = t.rank}, hi = emit_dims(&t);
    ir_attr_dims a = {.dims = emit_dims(&row)};
    hi.d[0] = 1;
    return EMIT_AS(&e->b, reshape, &a, emit_slice(&e->b, x, &lo, &hi, NULL));
}

/* Region k of the op takes its place: a branch, or one trip of a loop. */
static bool part_unwrap(part_edit *e, const ir_op *op, uint32_t k) {
    const ir_region *r = &e->f->regions.data[op->region0 + k];
    const ir_op *yield = &e->f->ops.data[r->end - 1];
    const ir_attr_scan *scan = ir_attr_get(e->f->module, op->attr);
    uint32_t carries = op->code == OP_scan ? (uint32_t)scan->carries : op->nout;
    if (op->code == OP_while && !k) return false;
    for (uint32_t i = 0; i < r->nparam; i++) {
        uint32_t at = op->code == OP_scan ? i - 1 : i; /* the step comes first */
        ir_ref p = {r->param0 + i};
        if (op->code == OP_scan && !i)
            e->map[p.i] = ir_const_i(&e->b, IG_i64, 0);
        else
            e->map[p.i] = e->map[ir_op_in(e->f, op, at).i];
        if (op->code == OP_scan && i > carries)
            e->map[p.i] = part_row(e, e->map[p.i], part_type(e, p));
    }
    part_copy_region(e, r);
    for (uint32_t i = 0; i < op->nout; i++) {
        ir_ref v = e->map[ir_op_in(e->f, yield, i).i];
        ir_type t = part_type(e, ir_op_out(op, i));
        e->map[op->out0 + i] = i < carries ? v : emit_repeat(&e->b, v, &t, &(ir_axes){.n = 1});
    }
    return true;
}

/* The op without result k: a carried value stays what it is, what is stacked or chosen is zeros. */
static bool part_drop(part_edit *e, const ir_op *op, uint32_t k) {
    ir_ref in[IR_MAX_RESULTS], param[IR_MAX_RESULTS + 1];
    ir_type type[IR_MAX_RESULTS + 1];
    ir_attr_any attr;
    ir_import_attr(e->b.m, e->f->module, op->attr, &attr);
    ir_attr_scan *scan = (ir_attr_scan *)(void *)&attr;
    bool carried = op->code == OP_while || (op->code == OP_scan && k < scan->carries);
    uint32_t n = 0, first = op->code == OP_scan;
    for (uint32_t i = 0; i < op->nin; i++)
        if (!carried || i != k) in[n++] = e->map[ir_op_in(e->f, op, i).i];
    if (op->code == OP_scan && carried) scan->carries--;
    uint32_t mine = ir_op_begin(&e->b, (ir_opcode)op->code, &attr, (int)n, in, op->nregion);
    for (uint32_t g = 0; g < op->nregion && !e->b.error; g++) {
        const ir_region *r = &e->f->regions.data[op->region0 + g];
        const ir_op *yield = &e->f->ops.data[r->end - 1];
        bool whole = op->code == OP_while && !g; /* the condition */
        n = 0;
        for (uint32_t i = 0; i < r->nparam; i++)
            if (!carried || i != k + first) type[n++] = part_type(e, (ir_ref){r->param0 + i});
        ir_region_begin(&e->b, mine, (int)g, (int)n, type, param);
        n = 0;
        for (uint32_t i = 0; i < r->nparam; i++)
            e->map[r->param0 + i] = carried && i == k + first ? e->map[ir_op_in(e->f, op, k).i]
                                                              : param[n++];
        part_copy_region(e, r);
        n = 0;
        for (uint32_t i = 0; i < yield->nin; i++)
            if (whole || i != k) in[n++] = e->map[ir_op_in(e->f, yield, i).i];
        ir_region_end(&e->b, (int)n, in);
    }
    if (e->b.error) return false;
    ir_ref made = ir_op_end(&e->b, mine);
    n = 0;
    for (uint32_t i = 0; i < op->nout; i++)
        e->map[op->out0 + i] = i != k    ? ir_result(made, n++)
                               : carried ? e->map[ir_op_in(e->f, op, k).i]
                                         : part_zeros(e, ir_op_out(op, k));
    return true;
}

/* Copy f with op o edited. */
static ig_status part_write(part_edit *e, uint32_t o, fuzz_edit kind, uint32_t k) {
    static bool (*const edit[])(part_edit *, const ir_op *, uint32_t) = {part_replace, part_unwrap,
                                                                         part_drop};
    bool done = true;
    for (uint32_t i = 0; i + 1 < e->f->ops.n && !e->b.error && done; i++) {
        if (i != o) {
            ir_copy_op(&e->b, e->f, i, e->map);
            continue;
        }
        done = edit[kind](e, &e->f->ops.data[o], k);
        i = ir_op_after(e->f, o) - 1;
    }
    ig_status s = pass_end(&e->b, e->f, e->map);
    return s || done ? s : rt_fail(A(), IG_INVALID, "it does not apply");
}

bool fuzz_edited(const fuzz_case *c, uint32_t o, fuzz_edit kind, uint32_t k, fuzz_case *out_) {
    part_edit e = {.f = c->f};
    fuzz_case whole = *c;
    ir_module *made = NULL;
    bool ok = false;
    ig_status s = ir_module_shell(c->m, &made);
    if (!s) s = ir_module_shell(c->m, &whole.m);
    if (!s && (e.map = pass_begin(&e.b, made, c->f, IR_BUILD_RAW))) {
        s = part_write(&e, o, kind, k);
        if (!s) s = pass_copy_live(whole.m, ir_find_func(made, "f"));
    }
    if (!s && (whole.f = ir_find_func(whole.m, "f")))
        ok = fuzz_extract(&whole, ir_op_in(whole.f, ir_return_op(whole.f), 0), NULL, out_);
    ig_status_free(s);
    ir_module_free(made);
    if (whole.m != c->m) ir_module_free(whole.m);
    return ok;
}
