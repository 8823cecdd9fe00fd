/* ingot/transform.h - derivatives and batching of recorded functions.
 *
 * Each function takes a module, traced or loaded from a file, and makes another one, which runs, is
 * saved, compiled and transformed again like any other.  The first module is not changed; the new
 * one uses its weights, and keeps them alive.  What is derived never depends on whether the module
 * was compiled: it is the recorded function that is transformed.
 *
 * In what follows a module computes results y.. of arguments x..; x' are tangents (directions in
 * which arguments move, or how results move), ^y cotangents (how much something depends on y).
 * Both have the shape and element type of what they belong to.  Only floats have them: integer and
 * bool arguments and results are passed along.
 *
 * `wrt` says what is differentiated by, and in which order: a list like "0,2,@w" of numbers of
 * arguments and names of weights (ig_name); "*" stands for all floating arguments, "@*" for all
 * floating weights; NULL is "*".
 *
 * State of the module (handles that the traced function assigns: the generator of random numbers)
 * stays its last arguments and results; it is not differentiated.
 *
 * Errors: IG_INVALID when wrt names nothing that exists, one thing twice, or nothing;
 * IG_DTYPE when it names integers; IG_UNSUPPORTED for an op that no derivative goes through, with
 * its name and the line where it was called (a bitcast of floats).  *out_ is NULL then.
 * docs/transform.md tells the rules: ties, the order of sums, what batching does to each op. */
#ifndef INGOT_TRANSFORM_H
#define INGOT_TRANSFORM_H

#include "ingot/module.h"

#ifdef __cplusplus
extern "C" {
#endif

/* (x.., x'..) -> (y.., y'..): values, and how they move when the arguments move along x'; one x'
 * for every wrt, one y' for every floating result. */
IG_API IG_MUST_USE ig_status ig_jvp(const ig_module *m, const char *wrt, ig_module **out_);

/* (x.., ^y..) -> (y.., ^x..): values, and what reaches the arguments; one ^y for every floating
 * result, one ^x for every wrt. */
IG_API IG_MUST_USE ig_status ig_vjp(const ig_module *m, const char *wrt, ig_module **out_);

/* (x..) -> (^x..): the gradient of the first result, one for every wrt.
 * Also IG_SHAPE when the first result is no floating scalar, IG_DTYPE when it depends on the
 * arguments through integers or bools only (a count of hits); both name the op and its line. */
IG_API IG_MUST_USE ig_status ig_grad(const ig_module *m, const char *wrt, ig_module **out_);

/* (x..) -> (y.., ^x..): all results, then the gradient of the first.  Errors as of ig_grad. */
IG_API IG_MUST_USE ig_status ig_value_and_grad(const ig_module *m, const char *wrt,
                                               ig_module **out_);

/* (x.., v..) -> (H v..): the Hessian of the first result times a vector, forward over backward;
 * one v and one result for every wrt.  Errors as of ig_grad. */
IG_API IG_MUST_USE ig_status ig_hvp(const ig_module *m, const char *wrt, ig_module **out_);

/* (x..) -> (J..): for every floating result, for every wrt the Jacobian
 * f[dims of the result.., dims of the wrt..]: by one batched ig_jvp for every wrt (as many lanes
 * as it has elements), or one batched ig_vjp for every result.  Also IG_SHAPE when a rank exceeds
 * IG_MAX_RANK, IG_UNSUPPORTED for modules with state. */
IG_API IG_MUST_USE ig_status ig_jacfwd(const ig_module *m, const char *wrt, ig_module **out_);
IG_API IG_MUST_USE ig_status ig_jacrev(const ig_module *m, const char *wrt, ig_module **out_);

/* (x..) -> (H..): ig_jacfwd of ig_grad: for every wrt i, for every wrt k
 * f[dims of i.., dims of k..].  Errors as of both. */
IG_API IG_MUST_USE ig_status ig_hessian(const ig_module *m, const char *wrt, ig_module **out_);

/* (x.., w..) -> (y..): weights are arguments, behind the others, in the order that `of` names them
 * ("@w1,@b1"; NULL: "@*", all floating weights as the module has them).  So a module is used with
 * weights that are kept outside, as training does: lift after ig_value_and_grad(m, "@*"), and
 * results and new arguments have one order.  IG_INVALID when `of` names an argument. */
IG_API IG_MUST_USE ig_status ig_lift(const ig_module *m, const char *of, ig_module **out_);

/* The function on many lanes at once; every lane has the bits that the function gives alone.
 * lanes: how many, "32", or a dynamic dim, "N" or "N in 1..64".  in_axes: for every argument the
 * axis where it has the lanes, -1 for a value that all lanes share; out_axes: the same for every
 * result (one that no lane changes is repeated); NULL: all 0.
 * IG_RANGE for an axis that is not there, IG_FORMAT or IG_INVALID for lanes, IG_SHAPE when a rank
 * exceeds IG_MAX_RANK, IG_UNSUPPORTED for modules with state. */
IG_API IG_MUST_USE ig_status ig_vmap(const ig_module *m, const char *lanes, const int *in_axes,
                                     const int *out_axes, ig_module **out_);

#ifdef __cplusplus
}
#endif
#endif
