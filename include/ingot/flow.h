/* ingot/flow.h - branches and loops whose course depends on tensors.
 *
 * The bodies are C functions.  Called eagerly they simply run, as often as the loop goes round.
 * Inside of ig_trace each runs once, on examples, and is recorded as a region of the module: a
 * compiled loop then takes as many turns as its data say, without a call back into C.  A body may
 * use every tensor it can see (they are captured), but assigns only handles that it made itself:
 * what changes from turn to turn is passed in and out.  Carried values keep their element type and
 * shape; an error shows both.  Results are new handles of the caller's scope; all are poison after
 * an error.
 *
 * In a gradient scope (ingot/grad.h) loops run, and are recorded as in a trace besides: their
 * bodies are called once more, first, and may not read values then.  A branch is what the body that
 * runs computes. */
#ifndef INGOT_FLOW_H
#define INGOT_FLOW_H

#include "ingot/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Compute the results of a body from its arguments; results may be tensors of any scope. */
typedef void (*ig_body_fn)(void *user, ig_tensor *const *in, ig_tensor **out_);

/* Run one of two bodies on nin tensors by a bool scalar; both give nout results of equal types. */
IG_API bool ig_if_at(const ig_site *site, ig_arg cond, ig_body_fn then, ig_body_fn otherwise,
                     void *user, int nin, ig_tensor *const *in, int nout, ig_tensor **out_);
/* Run body number i, clamped to [0, n), by an integer scalar.  A single body (n = 1) always runs:
 * reverse mode computes it again instead of keeping what it computed (docs/transform.md). */
IG_API bool ig_switch_at(const ig_site *site, ig_arg index, int n, const ig_body_fn *body,
                         void *user, int nin, ig_tensor *const *in, int nout, ig_tensor **out_);
/* What reverse mode keeps of a loop's turns, or of the inside of ig_checkpoint, and what it
 * computes again; gradients have the same bits under every policy.  docs/transform.md says what
 * each costs.
 *
 *   IG_CKPT_AUTO   ig_scan: what is dear to compute again.  ig_while: 16 states, evenly spaced.
 *                  ig_checkpoint: nothing
 *   IG_CKPT_ALL    all that is needed, of every turn; an ig_while needs a cap: there is room for as
 *                  many states
 *   IG_CKPT_DOTS   contractions (ig_matmul, ig_conv, ...); not for ig_while
 *   IG_CKPT_SQRT   about as many states as the root of the number of turns; an ig_while needs a
 * cap, whose root it is.  Not for ig_checkpoint n > 0          n states, up to 2^20.  Not for
 * ig_checkpoint */
typedef int64_t ig_ckpt;
enum { IG_CKPT_AUTO = 0, IG_CKPT_ALL = -1, IG_CKPT_SQRT = -2, IG_CKPT_DOTS = -3 };

/* As long as cond gives true (a bool scalar) of the n carried values: replace them by what body
 * gives of them.  More than cap turns (0: no limit) are an error. */
IG_API bool ig_while_at(const ig_site *site, ig_body_fn cond, ig_body_fn body, void *user, int n,
                        ig_tensor *const *init, int64_t cap, ig_tensor **out_);
typedef struct ig_while_options {
    int64_t cap; /* 0: no limit */
    ig_ckpt keep;
} ig_while_options;
/* The same with options. */
IG_API bool ig_while_with_at(const ig_site *site, ig_body_fn cond, ig_body_fn body, void *user,
                             int n, ig_tensor *const *init,
                             const ig_while_options *opt /* may be NULL */, ig_tensor **out_);

typedef struct ig_scan_options {
    int64_t steps; /* when there are no xs; an ig_extent code is one, too */
    bool reverse;  /* from the last step to the first */
    ig_ckpt keep;
} ig_scan_options;
/* Take one step for every element along the first axis of xs.  body: carried values, slices x[i],
 * then i (i64) -> carried values, then ny elements.  out_: the last carried values, then the
 * elements, stacked where their step is. */
IG_API bool ig_scan_at(const ig_site *site, ig_body_fn body, void *user, int ncarry,
                       ig_tensor *const *init, int nx, ig_tensor *const *xs, int ny,
                       const ig_scan_options *opt /* may be NULL */, ig_tensor **out_);

/* The results of body, whose inside reverse mode computes again instead of keeping it: memory of a
 * gradient in return for one more run of the body.  Nothing else changes.  In a trace or gradient
 * scope the body is one op, which may not read values; assignments in it follow the rules above. */
IG_API bool ig_checkpoint_at(const ig_site *site, ig_body_fn body, void *user, int nin,
                             ig_tensor *const *in, int nout, ig_ckpt keep, ig_tensor **out_);

#define ig_if(cond, ...)      ig_if_at(IG_SITE, IG_ARG(cond), __VA_ARGS__)
#define ig_switch(index, ...) ig_switch_at(IG_SITE, IG_ARG(index), __VA_ARGS__)
#define ig_while(...)         ig_while_at(IG_SITE, __VA_ARGS__)
#define ig_while_with(...)    ig_while_with_at(IG_SITE, __VA_ARGS__)
#define ig_scan(...)          ig_scan_at(IG_SITE, __VA_ARGS__)
#define ig_checkpoint(...)    ig_checkpoint_at(IG_SITE, __VA_ARGS__)

#ifdef __cplusplus
}
#endif
#endif
