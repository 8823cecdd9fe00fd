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
typedef struct lin_walk lin_walk;
typedef struct lin_call {
    ir_builder *p, *t;
    const ir_func *f; /* the function that is walked */
    const ir_op *o;   /* its op, which P has by now */
    const void *attr; /* of the op, with the dims of P's module */
    int nin, nout;
    const ir_ref *x, *y; /* operands and results, in P */
    const ir_ref *dx;    /* tangents of the operands in T, at least one present */
    ir_ref *dy;          /* to fill: tangents of the results; absent at first */
    lin_walk *walk;
} lin_call;

typedef struct tr_walk tr_walk;
typedef struct tr_call {
    tr_walk *walk;
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

typedef struct batch_walk batch_walk;
typedef struct batch_call {
    batch_walk *walk;
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

/* What the linear half T of a function needs of its primal half P.  Values of P that are visible
 * everywhere in the function are simply there.  A region of T goes with a region of P; where it is
 * walked backwards, some values of the region of P were stored and the others are computed again:
 * the ops that `keep` marks. */
typedef struct lin_pair {
    ir_ref t, p; /* a residual: its name in T, and the value of P */
} lin_pair;
typedef struct lin_store {
    uint32_t region; /* of P */
    ir_ref in, out;  /* a value in it; a value outside that has it for every step */
    uint32_t at;     /* until there is `out`: its place among the results */
} lin_store;
typedef struct lin_region {
    uint32_t t, p;
    ir_ref trips;       /* of a while: how many, in P; stride, slots and states follow */
    uint32_t carries;   /* of a while: values of a state */
    ir_attr_while attr; /* of a while: what the loop backwards is like */
} lin_region;
enum { LIN_SLOTS = 16 }; /* states of a while that `auto` stores */
enum { LIN_AGAIN = 1, LIN_STORED = 2, LIN_ADVANCE = 4 };
typedef struct lin_tape {
    const ir_func *source; /* the function that was walked */
    RT_VEC(lin_pair) pairs;
    RT_VEC(lin_store) stores;
    RT_VEC(lin_region) regions;
    RT_VEC(uint8_t)
    keep; /* by op of P: LIN_AGAIN, for residuals; LIN_ADVANCE, for the next state */
} lin_tape;
/* The least whole number whose square is n or more. */
int64_t pass_sqrt(int64_t n);
void pass_free_tape(const ig_allocator *a, lin_tape *tape);

/* Walk f.  primal maps values of f to values of P, tangent to values of T: parameters are entered
 * by the caller, and so may be values of ops, which are then not computed; weight holds tangents
 * by number of weight (NULL: absent).  Where P is not T, the
 * tape is filled; the caller frees it. */
void pass_linearize(ir_builder *p, ir_builder *t, const ir_func *f, ir_ref *primal, ir_ref *tangent,
                    const ir_ref *weight, lin_tape *tape);
/* Walk the open function of t backwards, from its last op to the first, emitting into b, which is
 * P.  ct holds cotangents by value of t: those of results are entered by the caller, those of
 * parameters are there afterwards.  Where several meet they are added in the order in which the
 * walk meets them: the last use first, the operands of one op from left to right. */
void pass_transpose(ir_builder *b, const ir_func *t, const lin_tape *tape, ir_ref *ct);
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
