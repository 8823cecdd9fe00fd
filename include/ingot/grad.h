/* ingot/grad.h - gradients of eager code.
 *
 *     IG_GRAD_SCOPE {
 *         ig_watch(w);
 *         ig_tensor *loss = ...ops on w...;
 *         ig_backward(loss);
 *     }
 *     ... ig_grad_of(w) ...
 *
 * Inside a gradient scope ops run as always and are recorded besides: what is recorded is the
 * program that a trace of the same ops would record, ig_backward differentiates it by the same
 * passes as ig_grad does (ingot/transform.h), and the gradients have the same bits.  When the same
 * sequence of ops comes again its gradient function is found, and compiled at its second use; where
 * nothing can be compiled it runs op by op, with the same bits.
 *
 * The scope holds until it ends what derivatives will read: both operands of ig_mul, the result of
 * ig_exp, nothing of ig_add; other values go when their handles do.  Reading values (ig_item,
 * ig_data, ig_print) is allowed outside of the bodies of loops; what the program does with them is
 * not differentiated.
 *
 * In a function that is traced the same calls record the gradient's ops into the trace, so that a
 * training step is written once, runs eagerly, and becomes one module by ig_trace. */
#ifndef INGOT_GRAD_H
#define INGOT_GRAD_H

#include "ingot/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Begin and end a gradient scope; there is one at a time. */
IG_API void ig_grad_begin_at(const ig_site *site);
IG_API void ig_grad_end_at(const ig_site *site);
/* Gradients are wanted by the value t has now: a float that no op of the scope has computed. */
IG_API void ig_watch_at(const ig_site *site, ig_tensor *t);
/* Add the gradients of loss, a floating scalar computed in the scope, to those of the watched
 * tensors.  May be called several times in one scope.
 * Errors: IG_INVALID outside of a scope, for a loss that does not depend on a watched tensor, or
 * when a watched tensor was assigned since; IG_SHAPE, IG_DTYPE for a loss that is no floating
 * scalar; those of ig_grad.  No gradient is changed then. */
IG_API void ig_backward_at(const ig_site *site, ig_tensor *loss);
/* A new handle with the gradient of t: the sum over the calls of ig_backward since it was cleared.
 * It outlives the scope. */
IG_API ig_tensor *ig_grad_of_at(const ig_site *site, ig_tensor *t);
IG_API bool ig_has_grad(const ig_tensor *t);
/* Forget the gradient of t. */
IG_API void ig_grad_clear(ig_tensor *t);

/* What ig_backward did in a session: recordings that it differentiated; gradient functions that it
 * compiled; runs of compiled ones, and op by op. */
typedef struct ig_grad_count {
    uint64_t derived, compiled, native, plain;
} ig_grad_count;
IG_API ig_grad_count ig_grad_counts(const ig_session *s /* NULL: current */);

#define ig_grad_begin()   ig_grad_begin_at(IG_SITE)
#define ig_grad_end()     ig_grad_end_at(IG_SITE)
#define ig_watch(t)       ig_watch_at(IG_SITE, t)
#define ig_backward(loss) ig_backward_at(IG_SITE, loss)
#define ig_grad_of(t)     ig_grad_of_at(IG_SITE, t)

#if defined(__GNUC__) || defined(__clang__)
/* IG_GRAD_SCOPE { ... }: a gradient scope that also ends by return, break or goto. */
static inline int ig_grad_enter_(const ig_site *site) {
    ig_grad_begin_at(site);
    return 1;
}
static inline void ig_grad_leave_(int *open) {
    (void)open;
    ig_grad_end_at((const ig_site *)0);
}
#define IG_GRAD_SCOPE                                                                          \
    for (int ig_grad_open_ __attribute__((cleanup(ig_grad_leave_))) = ig_grad_enter_(IG_SITE); \
         ig_grad_open_; ig_grad_open_ = 0)
#endif

#ifdef __cplusplus
}
#endif
#endif
