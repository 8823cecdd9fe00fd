/* copy.c - what every pass does: begin a function like another, copy ops, return the same. */
#include "passes/pass.h"

ir_ref *pass_begin(ir_builder *b, ir_module *out, const ir_func *f, unsigned flags) {
    ir_build_begin(b, out, f->name, f->kind, flags);
    ir_ref *map = rt_alloc_zero(out->alloc, (size_t)f->values.n * sizeof *map);
    if (!map) {
        ir_build_error(b, rt_fail_memory());
        return NULL;
    }
    for (uint32_t k = 0; k < ir_nparam(f); k++) {
        ir_ref p = ir_param_ref(f, k);
        ir_type t = ir_import_type(out, f->module, *ir_val_type(f, p));
        map[p.i] = ir_param(b, t, f->param_names.data[k]);
    }
    return map;
}

ig_status pass_end(ir_builder *b, const ir_func *f, ir_ref *map) {
    const ig_allocator *a = b->m->alloc;
    const ir_op *ret = ir_return_op(f);
    ir_ref *results = map ? rt_alloc(a, ((size_t)ret->nin + 1) * sizeof *results) : NULL;
    if (!results) ir_build_error(b, rt_fail_memory());
    for (uint32_t k = 0; results && k < ret->nin; k++) results[k] = map[ir_op_in(f, ret, k).i];
    ig_status s = ir_build_end(b, ret->nin, results, NULL);
    rt_free(a, results, ((size_t)ret->nin + 1) * sizeof *results);
    rt_free(a, map, (size_t)f->values.n * sizeof *map);
    return s;
}

ig_status pass_copy_func(ir_module *out, const ir_func *f) {
    ir_builder b;
    ir_ref *map = pass_begin(&b, out, f, IR_BUILD_RAW);
    uint32_t end = f->regions.data[0].end - 1;
    for (uint32_t o = f->regions.data[0].first; map && o < end; o++) ir_copy_op(&b, f, o, map);
    return pass_end(&b, f, map);
}
