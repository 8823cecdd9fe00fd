/* walk.h - the rules of derivatives and batching, and the three walkers that apply them.
 *
 * Rules stand in three columns of ops.def:
 *
 *   lin    linearize.c: primal ops go to a builder P, tangent ops to a builder T.  P == T is
 * forward mode; P != T splits a function into what is computed and a linear function of it tr
 * transpose.c: a linear function is walked backwards, which emits its transpose: reverse mode batch
 * vmap.c: emits a function on values with one more axis, the first */
#ifndef PASS_WALK_H
#define PASS_WALK_H
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
 * by the caller, and so may be values of ops, which are then not computed; weight holds tangents by
 * number of weight (NULL: absent).  Where P is not T, *captured_ lists pairs (value of T, value of
 * P), freed by the caller. */
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
#endif
