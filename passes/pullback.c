/* pullback.c - the gradient of a function that has run: its values are known, and only what the
 * linear half needs of them is asked for.
 *
 * The rules are those of every derivative, and so are the bits: a value that goes in is the one
 * that the gradient of the whole function would compute again. */
#include "passes/derive.h"
#include "passes/pass.h"

/* The values of f that the parameters of its derivative are, in order. */
static bool pullback_fill(const ir_func *f, pass_numbers *given) {
    const ig_allocator *a = f->module->alloc;
    for (uint32_t k = 0; k < ir_nparam(f); k++)
        if (!rt_vec_push(a, given, ir_param_ref(f, k).i)) return false;
    for (uint32_t i = 0; i + 1 < f->ops.n; i++) {
        const ir_op *o = &f->ops.data[i];
        for (uint32_t k = 0; pass_is_given(o) && k < o->nout; k++)
            if (!rt_vec_push(a, given, ir_op_out(o, k).i)) return false;
    }
    return true;
}

/* Copy f without the parameters that nobody reads, and their entries. */
static ig_status pullback_copy(ir_module *out, const ir_func *f, pass_numbers *given) {
    ir_builder b;
    const ig_allocator *a = out->alloc;
    size_t bytes = f->values.n * sizeof(ir_ref);
    uint32_t *uses = ir_count_uses(f, a), n = 0;
    ir_build_begin(&b, out, f->name, f->kind, IR_BUILD_RAW);
    ir_ref *map = rt_alloc_zero(a, bytes);
    if (!map || !uses) ir_build_error(&b, rt_fail_memory());
    for (uint32_t k = 0; !b.error && k < ir_nparam(f); k++) {
        ir_ref p = ir_param_ref(f, k);
        if (!uses[p.i]) continue;
        map[p.i] = ir_param(&b, ir_import_type(out, f->module, *ir_val_type(f, p)), NULL);
        given->data[n++] = given->data[k];
    }
    given->n = n;
    for (uint32_t i = 0; i + 1 < f->ops.n && !b.error; i++) ir_copy_op(&b, f, i, map);
    rt_free(a, uses, f->values.n * sizeof *uses);
    return pass_end(&b, f, map);
}

ig_status pass_pullback(const ir_module *in, uint32_t n, const uint32_t *wrt, ir_module **out_,
                        pass_numbers *given_) {
    pass_ask ask = {.what = PASS_SCALAR | PASS_GIVEN, .result = -1};
    ir_module *whole = NULL;
    *out_ = NULL;
    *given_ = (pass_numbers){0};
    bool ok = pullback_fill(ir_entry(in), given_);
    for (uint32_t k = 0; k < n; k++) ok = ok && rt_vec_push(in->alloc, &ask.wrt, wrt[k]);
    ig_status s = ok ? pass_differentiate(in, &ask, &whole) : rt_fail_memory();
    if (!s) s = ir_module_shell(whole, out_);
    if (!s) s = pullback_copy(*out_, ir_entry(whole), given_);
    ir_module_free(whole);
    rt_vec_free(in->alloc, &ask.wrt);
    if (!s) return NULL;
    ir_module_free(*out_);
    *out_ = NULL;
    rt_vec_free(in->alloc, given_);
    return s;
}
