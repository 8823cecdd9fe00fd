/* lin.h - what linearize.c and lin_flow.c share: the walker of derivatives. */
#ifndef PASS_LIN_H
#define PASS_LIN_H
#include "passes/walk.h"

/* An op with regions that is being walked. */
typedef struct lin_open {
    const ir_op *o;  /* of f */
    uint32_t region; /* which of its regions is open */
    uint32_t p, t;   /* the ops in P and T */
    bool quiet;      /* no result has a tangent: it is copied */
} lin_open;

typedef struct lin_list {
    RT_VEC(ir_ref) v;
    RT_VEC(ir_type) type;
} lin_list;

struct lin_walk {
    lin_call c; /* the builders and the function */
    ir_ref *primal, *tangent;
    const ir_ref *weight; /* may be NULL */
    ir_ref *room;         /* operands, then tangents of the widest op */
    bool *active;         /* by value of f: whether it has a tangent */
    lin_tape *tape;
    RT_VEC(ir_ref) of;    /* value of P -> its name in T */
    RT_VEC(uint8_t) need; /* by value of P: LIN_* */
    RT_VEC(lin_open) open;
    lin_list list[2]; /* values on their way into P and T */
};

/* A value of P for T. */
ir_ref pass_lin_residual(lin_call *c, ir_ref v);
/* Whether the rule of an op is `zero`. */
bool pass_lin_is_zero(unsigned code);
/* Fill w->active, tangents of parameters being entered. */
void pass_lin_activity(lin_walk *w);
/* Begin an op with regions; end a region as op number i, a yield, does. */
void pass_lin_begin(lin_walk *w, const ir_op *o);
void pass_lin_yield(lin_walk *w, uint32_t i);
bool pass_lin_is_quiet(const lin_walk *w);
/* composite.c: a composite; the op to go on with.  Whether a yield ends its rule; then its results
 * have their tangents. */
uint32_t pass_lin_composite(lin_walk *w, uint32_t i);
bool pass_lin_rule_end(lin_walk *w, const ir_op *yield);
/* Which values of a composite have a tangent: whether there are new ones. */
bool pass_lin_spread_rule(lin_walk *w, const ir_op *o, const ir_op *yield);
void pass_lin_free(lin_walk *w);
#endif
