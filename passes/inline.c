/* inline.c - calls of fn functions are replaced by their bodies, and so is a branch of one that
 * stands in a loop: derivatives have been made by now, and that is whom it told something (computed
 * again in reverse mode).  Outside of loops it stays: there what is computed again stands beside
 * what it was computed as first, and would become one with it.
 *
 * A callee stands before its callers (I8), so its own calls are gone when it is copied: one level
 * of copying is enough, and nothing recurses.  Bodies are copied as they are; every op keeps the
 * place where it was written.  The callees stay in the module: whoever exports them may.
 *
 * A chain of functions that call each other twice doubles at every step; above INLINE_MAX_OPS the
 * pass gives up with an error instead of the machine. */
#include "passes/pass.h"

#define INLINE_MAX_OPS (1u << 20)

ig_status pass_run_inline(const ir_module *in, ir_module *out);

/* The callee in `out` when op o is a call to inline, else NULL. */
static const ir_func *inline_callee(const ir_module *out, const ir_func *f, const ir_op *o) {
    if (o->code != OP_call) return NULL;
    const ir_attr_call *a = ir_attr_get(f->module, o->attr);
    const ir_func *callee = ir_find_func(out, a->callee);
    return callee && callee->kind == IR_FN ? callee : NULL;
}

void pass_splice(ir_builder *b, const ir_func *callee, const ir_ref *args, ir_ref *results_) {
    const ig_allocator *a = b->m->alloc;
    size_t size = (size_t)callee->values.n * sizeof(ir_ref);
    ir_ref *inner = rt_alloc_zero(a, size);
    if (!inner) {
        ir_build_error(b, rt_fail_memory());
        return;
    }
    for (uint32_t k = 0; k < ir_nparam(callee); k++) inner[ir_param_ref(callee, k).i] = args[k];
    uint32_t end = callee->regions.data[0].end - 1;
    for (uint32_t i = 0; i < end && !b->error; i++) ir_copy_op(b, callee, i, inner);
    const ir_op *ret = ir_return_op(callee);
    for (uint32_t k = 0; k < ret->nin; k++) results_[k] = inner[ir_op_in(callee, ret, k).i];
    rt_free(a, inner, size);
}

/* Copy the body of callee to the place of call o; the results are entered into map. */
static void inline_call(ir_builder *b, const ir_func *f, const ir_op *o, const ir_func *callee,
                        ir_ref *map) {
    size_t size = ((size_t)o->nin + 1) * sizeof(ir_ref);
    ir_ref *args = rt_alloc(b->m->alloc, size);
    if (!args) {
        ir_build_error(b, rt_fail_memory());
        return;
    }
    for (uint32_t k = 0; k < o->nin; k++) args[k] = map[ir_op_in(f, o, k).i];
    pass_splice(b, callee, args, &map[o->out0]);
    rt_free(b->m->alloc, args, size);
}

/* Whether op o is a branch of one in a loop. */
static bool inline_is_plain(const ir_func *f, const ir_op *o) {
    bool loop = false;
    if (o->code != OP_if || o->nregion != 1) return false;
    for (uint32_t r = o->parent; r && !loop; r = o->parent) {
        o = &f->ops.data[f->regions.data[r].op];
        loop = o->code == OP_scan || o->code == OP_while;
    }
    return loop;
}

/* Whether op o is a branch of one in a loop, or its end, whose results are entered into map. */
static bool inline_branch(const ir_func *f, const ir_op *o, ir_ref *map) {
    if (o->code == OP_if) return inline_is_plain(f, o);
    const ir_op *owner = &f->ops.data[f->regions.data[o->parent].op];
    if (o->code != OP_yield || !inline_is_plain(f, owner)) return false;
    for (uint32_t k = 0; k < owner->nout; k++) map[owner->out0 + k] = map[ir_op_in(f, o, k).i];
    return true;
}

static ig_status inline_func(ir_module *out, const ir_func *f) {
    ir_builder b;
    ir_ref *map = pass_begin(&b, out, f, IR_BUILD_RAW);
    uint32_t end = f->regions.data[0].end - 1;
    for (uint32_t i = 0; map && !b.error && i < end; i++) {
        const ir_op *o = &f->ops.data[i];
        const ir_func *callee = inline_callee(out, f, o);
        if (callee && b.f->ops.n + callee->ops.n > INLINE_MAX_OPS)
            ir_build_error(&b, rt_fail(out->alloc, IG_RANGE,
                                       "inlining @%s into @%s gives more than %u ops", callee->name,
                                       f->name, INLINE_MAX_OPS));
        else if (callee)
            inline_call(&b, f, o, callee, map);
        else if (!inline_branch(f, o, map))
            ir_copy_op(&b, f, i, map);
    }
    return pass_end(&b, f, map);
}

ig_status pass_run_inline(const ir_module *in, ir_module *out) {
    for (uint32_t i = 0; i < in->funcs.n; i++) RT_TRY(inline_func(out, in->funcs.data[i]));
    return NULL;
}
