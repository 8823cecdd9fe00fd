/* fe_rec.h - a recording under way, for record.c (which fills it) and trace.c (which checks it and
 * makes a module). */
#ifndef FE_REC_H
#define FE_REC_H

#include "frontend/fe.h"

typedef enum rec_kind { REC_ARGUMENT, REC_CAPTURE, REC_OP } rec_kind;

/* A value of the recording. */
typedef struct rec_value {
    ir_type type; /* with symbolic dims */
    rec_kind kind;
    uint32_t index;  /* argument number, capture or node */
    uint32_t region; /* where it is visible; 0: everywhere */
} rec_value;

/* A tensor the function took from outside, or made from data. */
typedef struct rec_capture {
    ig_tensor *handle; /* retained */
    fe_buf *buf;       /* retained: the value it had */
    const ig_site *used;
    const char *used_by;
    uint32_t val;
    bool state; /* assigned by the function */
} rec_capture;

/* An op with regions is several nodes: its begin, then for each region its parameters and its
 * yield, then its end, which has the results. */
typedef enum rec_part { REC_WHOLE, REC_BEGIN, REC_PARAMS, REC_YIELD, REC_END } rec_part;

typedef struct rec_node {
    const ig_site *site;
    const char *api; /* the public call it is part of */
    uint16_t op;
    uint8_t part;
    uint32_t nin, in0;  /* operands[in0 .. in0 + nin): values */
    ir_attr attr;       /* interned in the module */
    uint32_t nout, out; /* values [out .. out + nout) */
} rec_node;

/* A tensor whose gradient a traced function changed, and the gradient it had before. */
typedef struct rec_grad {
    ig_tensor *of, *before; /* retained */
} rec_grad;

/* A value that was read though no argument was known to reach it. */
typedef struct rec_read {
    const ig_site *site;
    const char *api;
    uint32_t val;
} rec_read;

struct fe_rec {
    ig_session *session;
    ir_module *module; /* borrowed: shared by the recordings of one trace */
    uint32_t id;
    const int64_t *binding; /* borrowed: the symbols' values */
    RT_VEC(rec_value) values;
    RT_VEC(rec_node) nodes;
    RT_VEC(uint32_t) operands;
    RT_VEC(rec_capture) captures;
    RT_VEC(rec_read) reads;
    RT_VEC(rec_grad) grads;
    bool tape; /* of a gradient scope, not of a trace: handles may be read and assigned */
    RT_VEC(uint32_t) open; /* regions, the innermost last */
    uint32_t nregion;      /* begun so far */
    bool broken;           /* an op with regions was begun and failed before its end */
};

void rec_init(fe_rec *r, ig_session *s, ir_module *m, const int64_t *binding);
/* Give the handles the function assigned their old values back. */
void rec_restore(fe_rec *r);
void rec_free(fe_rec *r);
/* The next argument: t has the value, with these dims. */
bool rec_argument(fe_rec *r, ig_tensor *t, const ir_type *type);
/* The value of a tensor now, captured when it is new; false when memory is out. */
bool rec_value_of(fe_call *c, fe_rec *r, ig_tensor *t, uint32_t *val_);
void rec_place(ir_builder *b, const rec_node *n); /* what is emitted next was written there */
/* Emit a node: its operands in b; out_ gets n->nout results, or parameters of the region that it
 * begins. */
void rec_emit(const fe_rec *r, ir_builder *b, const rec_node *n, const ir_ref *in, ir_ref *out_);
/* Whether values depend on an argument or on state: one flag a value, owned by the caller; NULL
 * when memory is out. */
bool *rec_dependence(const fe_rec *r);
/* An error for the read of a dependent value, with the chain of dependence. */
ig_status rec_read_error(const fe_rec *r, const bool *depends, uint32_t val);

#endif
