/* fold.c - the builder's identities, constants and value numbering over a whole module.
 *
 * Nothing is decided here: every op is emitted again through a builder that folds (ir/fold.c). */
#include "passes/pass.h"

ig_status pass_run_fold(const ir_module *in, ir_module *out);

static ig_status fold_func(ir_module *out, const ir_func *f) {
    ir_builder b;
    ir_ref *map = pass_begin(&b, out, f, IR_BUILD_OPT);
    uint32_t end = f->regions.data[0].end - 1;
    for (uint32_t o = 0; map && o < end; o++) ir_copy_op(&b, f, o, map);
    return pass_end(&b, f, map);
}

ig_status pass_run_fold(const ir_module *in, ir_module *out) {
    for (uint32_t i = 0; i < in->funcs.n; i++) RT_TRY(fold_func(out, in->funcs.data[i]));
    return NULL;
}
