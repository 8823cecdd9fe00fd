/* ein.h - a relation as its text says it, shared by the reader of the text and the one of extents.
 */
#ifndef IR_EIN_H
#define IR_EIN_H
#include "ir/ir.h"

typedef struct ein_word {
    size_t at, n; /* in the text; n 0: none */
} ein_word;

/* One access of an operand. */
typedef struct ein_operand {
    ein_word name;
    ir_axes a;
    uint8_t look;               /* of an index: the variable that it gives, + 1 */
    size_t at[IG_MAX_RANK];     /* where each subscript stands */
    ein_word size[IG_MAX_RANK]; /* what the extent of the axis is called */
} ein_operand;

typedef struct ein_text {
    ir_module *m; /* borrowed; its symbols may stand in dims.  NULL: there are none */
    const char *text;
    size_t n, at;
    ir_rel *rel;
    ein_word var[IR_EIN_VARS];        /* the name of each variable; none: made for a subscript */
    size_t range[IR_EIN_VARS];        /* where the end of its range stands, 0: no range is given */
    uint8_t made[IR_EIN_CONSTRAINTS]; /* the variable that an equation was made for, + 1 */
    int nfactor, nindex;
    ein_operand factor[IR_EIN_OPERANDS], index[IR_EIN_OPERANDS];
    const ir_dims *dims; /* of the operands; NULL: extents are given in the text */
    int ngiven;          /* how many they are */
    bool dry;            /* names of extents are not known yet */
    char *msg;
    size_t size;
} ein_text;

/* An error at a place: the message, the text around it, and a caret under it; false. */
bool ein_error(ein_text *p, size_t at, const char *fmt, ...) IG_PRINTF(3, 4);
/* Read a dim at p->at, which moves behind it. */
bool ein_dim(ein_text *p, ir_dim *out_);
/* Operand k of the relation: factors, then indices. */
static inline const ein_operand *ein_operand_at(const ein_text *p, int k) {
    return k < p->nfactor ? &p->factor[k] : &p->index[k - p->nfactor];
}
static inline int ein_shown(ein_word w) { return (int)(w.n < 40 ? w.n : 40); }

/* ein_extent.c: give every variable that no operand has its extent. */
bool ein_give_extents(ein_text *p);
/* The extent of an axis that has this name. */
bool ein_find_size(const ein_text *p, const char *s, size_t n, ir_dim *out_);
#endif
