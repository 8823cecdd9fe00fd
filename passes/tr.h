/* tr.h - what transpose.c and tr_flow.c share: the walker backwards. */
#ifndef PASS_TR_H
#define PASS_TR_H
#include "passes/walk.h"

/* A value of T that something reaches in a region inside of its own, and what reached it before. */
typedef struct tr_outer {
    ir_ref v, ct;
} tr_outer;

/* What the walk back through a while knows of stored states: how many there are, the numbers of
 * their trips, and the slots, one stack for every value of a state. */
typedef struct tr_states {
    ir_ref count, numbers, slots; /* of the slots the first; the others follow */
} tr_states;

/* An op with regions that is being walked. */
typedef struct tr_open {
    const ir_op *o;          /* of T */
    uint32_t region;         /* the region of T that is open */
    uint32_t b;              /* the op in b */
    const lin_region *made;  /* where the region comes from */
    uint32_t outer0, nouter; /* in w->outer */
    tr_states states;        /* of a while: what goes on to the next trip */
} tr_open;

struct tr_walk {
    ir_builder *b;
    const ir_func *f; /* T */
    const lin_tape *tape;
    ir_ref *ct;     /* by value of T */
    bool *reached;  /* by value of T: whether there will be a cotangent */
    ir_ref *of;     /* by value of T: the value of P that it stands for */
    ir_func primal; /* P as it was when T was complete: owned copies of its lists */
    ir_ref *again;  /* by value of P: where it is now */
    RT_VEC(ir_type) types;
    RT_VEC(ir_ref) room;    /* operands, then what reaches them */
    RT_VEC(tr_outer) outer; /* of all that is open */
    RT_VEC(tr_open) open;
    RT_VEC(ir_ref) list;
};

void pass_tr_push(tr_walk *w, ir_ref v);
/* A value of P, where it is now. */
static inline ir_ref pass_tr_again(const tr_walk *w, ir_ref p) { return w->again[p.i]; }
/* Emit the ops that the tape keeps for `need` of a region of P. */
void pass_tr_compute(tr_walk *w, uint32_t region, uint8_t need);

/* tr_while.c: what the loop backwards carries beside its trip and cotangents goes to w->list:
 * when it begins, and when a trip ends. */
void pass_tr_put_states(tr_walk *w, const lin_region *made);
void pass_tr_push_states(tr_walk *w, const lin_region *made, tr_states s);
/* In a trip: the state that it begins with, where values of P are looked up.  count: the first of
 * what the loop carries of states. */
tr_states pass_tr_rewind(tr_walk *w, const lin_region *made, ir_ref count, ir_ref trip);

/* Fill w->reached: results have their cotangents. */
void pass_tr_reach(tr_walk *w);
/* What reaches a value, unless it is a residual. */
void pass_tr_add(tr_walk *w, ir_ref v, ir_ref d);
/* composite.c: the rule of a vjp, in the place of the linear function that it is about. */
void pass_tr_pull(tr_call *c);
/* Begin the transpose of an op with regions, with its first region. */
void pass_tr_begin(tr_walk *w, const ir_op *o);
/* The region that is open has been walked: begin the next one, or end the op. */
void pass_tr_leave(tr_walk *w);
#endif
