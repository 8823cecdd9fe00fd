/* transform.h - derivatives and batching: passes that make other functions, not faster ones.
 *
 * Rules stand in three columns of ops.def: `lin` (linearize.c), `tr` (transpose.c) and `batch`
 * (vmap.c).  One walker each applies them:
 *
 *   linearize   primal ops go to a builder P, tangent ops to a builder T.  P == T is forward mode;
 *               P != T splits a function into what is computed and a linear function of it
 *   transpose   walks a linear function backwards and emits its transpose: reverse mode
 *   vmap        emits a function on values with one more axis, the first
 *
 * No pass runs before (numerics rule 10): rules see the program as it was recorded, with calls
 * replaced by the bodies of what they call, and what they emit is neither folded nor numbered.
 * Afterwards dead ops are dropped, which no later derivative can notice. */
#ifndef PASS_TRANSFORM_H
#define PASS_TRANSFORM_H
#include "passes/emit.h"

/* --- What rules see ------------------------------------------------------------------------- */

/* An absent value, {0}, is zero: zeros are never computed with. */
typedef struct lin_residuals lin_residuals;
typedef struct lin_call {
    ir_builder *p, *t;
    const ir_func *f; /* the function that is walked */
    const ir_op *o;   /* its op, which P has by now */
    const void *attr; /* of the op, with the dims of P's module */
    int nin, nout;
    const ir_ref *x, *y; /* operands and results, in P */
    const ir_ref *dx;    /* tangents of the operands in T, at least one present */
    ir_ref *dy;          /* to fill: tangents of the results; absent at first */
    lin_residuals *residuals;
} lin_call;

typedef struct tr_call {
    ir_builder *b;
    const ir_func *f; /* the linear function, in the same module */
    const ir_op *o;
    const void *attr;
    int nin;
    const ir_ref *x;     /* operands that are not linear, in b; absent: the op is linear in it */
    const ir_type *type; /* of every operand */
    const ir_ref *ct;    /* cotangents of the results, at least one present */
    ir_ref *dx;          /* to fill: what reaches the linear operands; absent at first */
} tr_call;

typedef struct batch_call {
    ir_builder *b;
    const ir_func *f;
    const ir_op *o;
    const void *attr;
    int nin;
    ir_dim n;          /* how many lanes */
    const ir_ref *x;   /* operands; batched ones have an axis of n in front */
    const bool *lanes; /* which are batched, at least one */
    ir_ref *y;         /* to fill: the results, all batched */
} batch_call;

/* --- The walkers ---------------------------------------------------------------------------- */

/* Walk f.  primal maps values of f to values of P, tangent to values of T: parameters are entered
 * by the caller; weight holds tangents by number of weight (NULL: absent).  Where P is not T,
 * *captured_ lists pairs (value of T, value of P), freed by the caller. */
typedef struct lin_pair {
    ir_ref t, p;
} lin_pair;
typedef RT_VEC(lin_pair) lin_pairs;
void pass_linearize(ir_builder *p, ir_builder *t, const ir_func *f, ir_ref *primal, ir_ref *tangent,
                    const ir_ref *weight, lin_pairs *captured_);
/* Walk the open function of t backwards, from its last op to the first, emitting into b.  outer
 * maps captured values of t to values of b; ct holds cotangents by value of t: those of results
 * are entered by the caller, those of parameters are there afterwards.  Where several meet they
 * are added in the order in which the walk meets them: the last use first, the operands of one op
 * from left to right. */
void pass_transpose(ir_builder *b, const ir_func *t, const ir_ref *outer, ir_ref *ct);
/* Walk f with n lanes.  map holds values of f, lanes says which of them are batched: parameters
 * are entered by the caller. */
void pass_batch(ir_builder *b, const ir_func *f, ir_dim n, ir_ref *map, bool *lanes);

/* --- Planted faults (tests): rules of one op are turned wrong ------------------------------- */

#ifdef IG_PLANT
extern int pass_plant_lin, pass_plant_tr, pass_plant_batch; /* opcodes, -1: none */
#define PASS_PLANTED(column, op) (pass_plant_##column == (int)(op))
#else
#define PASS_PLANTED(column, op) 0
#endif

/* --- Modules (derive.c, jacobian.c, words.c) ------------------------------------------------- */

/* Every transformation takes a module and gives one with a single function, made of its entry: the
 * same name and what was done to it.  The result borrows the weights of the first module. */

/* What a derivative is by and what it gives. */
typedef enum pass_derivative {
    PASS_FORWARD = 1, /* tangents of arguments go in, those of results come out; else cotangents of
                         results go in, those of arguments come out */
    PASS_VALUES = 2,  /* the results themselves come out, too, first */
    PASS_SCALAR = 4,  /* backward from the first result, a scalar, with 1: nothing goes in */
    PASS_JVP = PASS_FORWARD | PASS_VALUES,          /* (x.., x'..) -> (y.., y'..) */
    PASS_VJP = PASS_VALUES,                         /* (x.., ^y..) -> (y.., ^x..) */
    PASS_GRAD = PASS_SCALAR,                        /* (x..) -> (^x..) */
    PASS_VALUE_AND_GRAD = PASS_SCALAR | PASS_VALUES /* (x..) -> (y.., ^x..) */
} pass_derivative;

/* wrt, what is differentiated by, in this order: `0,2,@w`, numbers of arguments and names of
 * weights; `*` all floating arguments, `@*` all floating weights; NULL is `*`. */
ig_status pass_derive(const ir_module *in, pass_derivative what, const char *wrt, ir_module **out_);
/* (x.., v..) -> (H v..) for a scalar result. */
ig_status pass_hvp(const ir_module *in, const char *wrt, ir_module **out_);
/* (x..) -> for every floating result and every wrt its Jacobian [result dims.., wrt dims..], by
 * columns (forward) or by rows. */
ig_status pass_jacobian(const ir_module *in, bool forward, const char *wrt, ir_module **out_);
/* Forward over backward. */
ig_status pass_hessian(const ir_module *in, const char *wrt, ir_module **out_);
/* lanes: `8`, `N` or `N in 1..64`; axes of the lanes by argument (-1: one value for all lanes) and
 * by result; NULL: all 0. */
ig_status pass_vmap(const ir_module *in, const char *lanes, const int *in_axes, const int *out_axes,
                    ir_module **out_);
/* Transformations by words, `;` between them: `grad 0,@w; vmap 8 (0,_) -> (1); jvp`. */
ig_status pass_transform(const char *words, const ir_module *in, ir_module **out_);

/* --- For transformations only --------------------------------------------------------------- */

#define PASS_WRT_WEIGHT 0x80000000u
typedef RT_VEC(uint32_t) pass_wrt; /* numbers of arguments; of weights with PASS_WRT_WEIGHT */
ig_status pass_wrt_read(const ir_module *m, const char *text, pass_wrt *wrt);
ir_type pass_wrt_type(const ir_module *m, uint32_t wrt);

typedef struct pass_ask {
    pass_derivative what;
    pass_wrt wrt; /* borrowed */
    int result;   /* backward: from this result only; -1: all */
} pass_ask;
/* These take and give flat modules: one function, no calls, nothing dead. */
ig_status pass_flatten(const ir_module *in, ir_module **out_);
ig_status pass_differentiate(const ir_module *flat, const pass_ask *ask, ir_module **out_);
/* n is a dim of flat. */
ig_status pass_vmap_by(const ir_module *flat, ir_dim n, const int *in_axes, const int *out_axes,
                       ir_module **out_);
/* The module under construction, with one function: without what is dead, verified; freed. */
ig_status pass_finish(ir_module *made, ig_status s, const char *word, ir_module **out_);
/* Begin a module and in it a function that is like f and does more. */
ig_status pass_begin_more(const ir_module *flat, const char *word, ir_module **out_, ir_builder *b);
#endif
