/* transform.c - transformations of module objects: passes on the recorded function. */
#include "frontend/fe.h"
#include "ingot/transform.h"
#include "passes/transform.h"
#include "runtime/fpenv.h"

/* What a call of a pass made of m becomes an object that shares m's weights.  Constants are folded
 * and numbers read here: the caller's rounding mode must not show. */
#define TRANSFORM(call)                         \
    ir_module *ir = NULL;                       \
    *out_ = NULL;                               \
    uint32_t fp = rt_fp_enter();                \
    ig_status e = (call);                       \
    if (!e) e = fe_module_derived(m, ir, out_); \
    rt_fp_leave(fp);                            \
    return e

#define DERIVE(name, what)                                                       \
    ig_status ig_##name(const ig_module *m, const char *wrt, ig_module **out_) { \
        TRANSFORM(pass_derive(fe_module_ir(m), what, wrt, &ir));                 \
    }
DERIVE(jvp, PASS_JVP)
DERIVE(vjp, PASS_VJP)
DERIVE(grad, PASS_GRAD)
DERIVE(value_and_grad, PASS_VALUE_AND_GRAD)

ig_status ig_hvp(const ig_module *m, const char *wrt, ig_module **out_) {
    TRANSFORM(pass_hvp(fe_module_ir(m), wrt, &ir));
}

ig_status ig_jacfwd(const ig_module *m, const char *wrt, ig_module **out_) {
    TRANSFORM(pass_jacobian(fe_module_ir(m), true, wrt, &ir));
}

ig_status ig_jacrev(const ig_module *m, const char *wrt, ig_module **out_) {
    TRANSFORM(pass_jacobian(fe_module_ir(m), false, wrt, &ir));
}

ig_status ig_hessian(const ig_module *m, const char *wrt, ig_module **out_) {
    TRANSFORM(pass_hessian(fe_module_ir(m), wrt, &ir));
}

ig_status ig_lift(const ig_module *m, const char *of, ig_module **out_) {
    TRANSFORM(pass_lift(fe_module_ir(m), of, &ir));
}

ig_status ig_vmap(const ig_module *m, const char *lanes, const int *in_axes, const int *out_axes,
                  ig_module **out_) {
    TRANSFORM(pass_vmap(fe_module_ir(m), lanes, in_axes, out_axes, &ir));
}
