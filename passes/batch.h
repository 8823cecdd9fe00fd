/* batch.h - what vmap.c and batch_flow.c share: the walker of batching. */
#ifndef PASS_BATCH_H
#define PASS_BATCH_H
#include "passes/walk.h"

/* An op with regions that is being walked. */
typedef struct batch_open {
    const ir_op *o;            /* of f */
    uint32_t region;           /* which of its regions is open */
    uint32_t b;                /* the op in b; of a chosen branch the `if` around it */
    bool apart;                /* a while: lanes end apart; an if: lanes choose apart */
    bool again;                /* the condition of a while is walked in its body */
    ir_ref mask, index;        /* lanes that go on, or are in the branch; clamped choices */
    uint32_t saved0, results0; /* in the walk's lists */
} batch_open;

/* A value of f that lanes of other branches must not see in this branch. */
typedef struct batch_saved {
    uint32_t v;
    ir_ref was;
} batch_saved;

struct batch_walk {
    batch_call c; /* the builder, the function and the lanes */
    ir_ref *map;
    bool *lanes;
    RT_VEC(batch_open) open;
    RT_VEC(ir_ref) list;
    RT_VEC(ir_type) types;
    RT_VEC(batch_saved) saved;
    RT_VEC(ir_ref) results; /* of ifs whose lanes choose apart, so far */
};

/* Fill w->lanes: those of parameters are entered. */
void pass_batch_spread(batch_walk *w);
void pass_batch_begin(batch_walk *w, const ir_op *o);
/* End a region as op number i, a yield, does; the op to go on with. */
uint32_t pass_batch_yield(batch_walk *w, uint32_t i);
void pass_batch_free(batch_walk *w);
/* The op that c->o is has values of this type: an error when there is no room for the lanes. */
void pass_batch_check_rank(batch_call *c, const ir_type *t);
#endif
