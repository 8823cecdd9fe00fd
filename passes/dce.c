/* dce.c - no pure op without a use is left.
 *
 * One backward walk marks what effects, yields and returns need; operands come before their uses,
 * so that one walk is enough.  The walk meets the yields of an op before the op, but after all uses
 * of its results: a yield is needed when its op is, and then the op has an effect inside or a
 * result that is used.  Parameters stay: they are the signature. */
#include "passes/pass.h"

ig_status pass_run_dce(const ir_module *in, ir_module *out);

/* Mark the region ops that hold an op with an effect; a yield is none. */
static void dce_fill_effects(const ir_func *f, bool *effect) {
    for (uint32_t i = f->ops.n; i-- > 0;) {
        const ir_op *o = &f->ops.data[i];
        effect[i] |= ir_op_tab[o->code].effect && o->code != OP_yield;
        if (effect[i] && o->parent) effect[f->regions.data[o->parent].op] = true;
    }
}

static bool dce_is_needed(const ir_func *f, uint32_t i, const bool *needed, const bool *effect) {
    const ir_op *o = &f->ops.data[i];
    bool any = effect[i];
    for (uint32_t k = 0; k < o->nout; k++) any |= needed[ir_op_out(o, k).i];
    return any;
}

/* keep[op] for every op of f; it comes with the effects. */
static void dce_fill_keep(const ir_func *f, bool *needed, bool *keep) {
    dce_fill_effects(f, keep);
    for (uint32_t i = f->ops.n; i-- > 0;) {
        const ir_op *o = &f->ops.data[i];
        uint32_t asked = o->code == OP_yield ? f->regions.data[o->parent].op : i;
        keep[i] = dce_is_needed(f, asked, needed, keep);
        for (uint32_t k = 0; keep[i] && k < o->nin; k++) needed[ir_op_in(f, o, k).i] = true;
    }
}

ig_status pass_copy_live(ir_module *out, const ir_func *f) {
    const ig_allocator *a = out->alloc;
    ir_builder b;
    bool *needed = rt_alloc_zero(a, f->values.n), *keep = rt_alloc_zero(a, f->ops.n);
    ir_ref *map = pass_begin(&b, out, f, IR_BUILD_RAW);
    uint32_t end = f->regions.data[0].end - 1;
    if (!needed || !keep)
        ir_build_error(&b, rt_fail_memory());
    else
        dce_fill_keep(f, needed, keep);
    for (uint32_t o = 0; map && !b.error && o < end; o++)
        if (keep[o]) ir_copy_op(&b, f, o, map);
    rt_free(a, needed, f->values.n);
    rt_free(a, keep, f->ops.n);
    return pass_end(&b, f, map);
}

ig_status pass_run_dce(const ir_module *in, ir_module *out) {
    for (uint32_t i = 0; i < in->funcs.n; i++) RT_TRY(pass_copy_live(out, in->funcs.data[i]));
    return NULL;
}
