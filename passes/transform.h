/* transform.h - derivatives and batching: passes that make other functions, not faster ones.
 *
 * Each takes a module and gives one with a single function, made of the entry of the first: its
 * name and what was done to it.  The result borrows the weights of the first module.
 *
 * No pass runs before (numerics rule 10): rules see the program as it was recorded, with calls
 * replaced by the bodies of what they call, and what they emit is neither folded nor numbered.
 * Afterwards dead ops are dropped, which no later derivative can notice. */
#ifndef PASS_TRANSFORM_H
#define PASS_TRANSFORM_H
#include "ir/ir.h"

/* What a derivative is by and what it gives. */
typedef enum pass_derivative {
    PASS_FORWARD = 1, /* tangents of arguments go in, those of results come out; else cotangents of
                         results go in, those of arguments come out */
    PASS_VALUES = 2,  /* the results themselves come out, too, first */
    PASS_SCALAR = 4,  /* backward from the first result, a scalar, with 1: nothing goes in */
    PASS_GIVEN = 8,   /* the values of the function have been computed: they go in, behind the
                         arguments (pass_is_given), and are not computed again */
    PASS_JVP = PASS_FORWARD | PASS_VALUES,          /* (x.., x'..) -> (y.., y'..) */
    PASS_VJP = PASS_VALUES,                         /* (x.., ^y..) -> (y.., ^x..) */
    PASS_GRAD = PASS_SCALAR,                        /* (x..) -> (^x..) */
    PASS_VALUE_AND_GRAD = PASS_SCALAR | PASS_VALUES /* (x..) -> (y.., ^x..) */
} pass_derivative;

/* wrt, what is differentiated by, in this order: `0,2,@w`, numbers of arguments and names of
 * weights; `*` all floating arguments, `@*` all floating weights; NULL is `*`. */
ig_status pass_derive(const ir_module *in, pass_derivative what, const char *wrt, ir_module **out_);
/* The gradient of a scalar whose function has run: (v..) -> (^x..).  in: one flat function without
 * state; wrt: numbers of arguments, n of them.  given_, owned by the caller, lists the values of
 * the function that the parameters are; values that the gradient does not need are not among them.
 */
typedef RT_VEC(uint32_t) pass_numbers;
ig_status pass_pullback(const ir_module *in, uint32_t n, const uint32_t *wrt, ir_module **out_,
                        pass_numbers *given_);
/* (x.., v..) -> (H v..) for a scalar result. */
ig_status pass_hvp(const ir_module *in, const char *wrt, ir_module **out_);
/* (x..) -> for every floating result and every wrt its Jacobian [result dims.., wrt dims..], by
 * columns (forward) or by rows. */
ig_status pass_jacobian(const ir_module *in, bool forward, const char *wrt, ir_module **out_);
/* Forward over backward. */
ig_status pass_hessian(const ir_module *in, const char *wrt, ir_module **out_);
/* (x..) -> (y..) becomes (x.., w..) -> (y..): weights are arguments, behind the others; of as wrt,
 * NULL is `@*`. */
ig_status pass_lift(const ir_module *in, const char *of, ir_module **out_);
/* lanes: `8`, `N` or `N in 1..64`; axes of the lanes by argument (-1: one value for all lanes) and
 * by result; NULL: all 0. */
ig_status pass_vmap(const ir_module *in, const char *lanes, const int *in_axes, const int *out_axes,
                    ir_module **out_);
/* Transformations by words, `;` between them: `grad 0,@w; vmap 8 (0,_) -> (1); jvp`. */
ig_status pass_transform(const char *words, const ir_module *in, ir_module **out_);
#endif
