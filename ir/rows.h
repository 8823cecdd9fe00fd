/* rows.h - programs that reduce rows: which values share the index of a whole row, which are one
 * element a row.  Fusion decides with it what fits in one kernel, lowering finds the rows again.
 *
 * The full index has one subscript for every axis of the longest values; some of its axes are
 * reduced: these are the row.  A value is placed by a map that says where each of its own
 * subscripts comes from.  Axes of extent 1 count for nothing. */
#ifndef IR_ROWS_H
#define IR_ROWS_H
#include "ir/ir.h"

#define IR_ROWS_UNIT (-1)

typedef struct ir_rows {
    ir_dims full;
    uint32_t row; /* bit i: axis i is reduced; 0: nothing is reduced yet */
} ir_rows;

/* Axis k is read at the subscript of axis at[k] of the full index, or is IR_ROWS_UNIT long.  n < 0:
 * the value is read in some other way. */
typedef struct ir_rowmap {
    int8_t n, at[IG_MAX_RANK];
} ir_rowmap;

static inline bool ir_rowmap_known(const ir_rowmap *m) { return m->n >= 0; }
bool ir_rowmap_same(const ir_rowmap *a, const ir_rowmap *b);

/* Whether the last result of a cluster is room for the totals of blocks: a constant that nobody
 * reads, with one axis more than the other results.  Its one reduction is computed in two steps, so
 * that threads can share it: totals of blocks, then the tree over them (numerics rule 5). */
bool ir_rows_has_room(const ir_func *cluster);

/* Begin with the dims of the result; its map. */
ir_rowmap ir_rows_begin(ir_rows *r, const ir_type *result);
/* The map of operand k of an op that is evaluated at `at`: elementwise ops, broadcast, and reshape
 * that inserts or removes axes of extent 1. */
ir_rowmap ir_rows_operand(const ir_func *f, const ir_op *o, uint32_t k, const ir_rowmap *at);
bool ir_rows_is_unit_reshape(const ir_func *f, const ir_op *o);
/* Whether a reduction evaluated at `at` is one over the row (the first one decides which axes are
 * the row); then *x_ is the map of its operand. */
bool ir_rows_reduce(ir_rows *r, const ir_func *f, const ir_op *o, const ir_rowmap *at,
                    ir_rowmap *x_);
/* When nothing is reduced yet and `at` reads every element once: the operand's dims become the full
 * index and the axes before are one element a row.  Axis i of the full index was turned into
 * axis to_[i]; maps made before go through ir_rowmap_turn. */
bool ir_rows_open(ir_rows *r, const ir_func *f, const ir_op *o, const ir_rowmap *at,
                  ir_rowmap *x_, int8_t to_[IG_MAX_RANK]);
void ir_rowmap_turn(ir_rowmap *m, const int8_t to[IG_MAX_RANK]);
/* Whether a value is one element a row, and whether it has all axes of the full index. */
bool ir_rows_is_row(const ir_rows *r, const ir_rowmap *m);
bool ir_rows_is_full(const ir_rows *r, const ir_rowmap *m);
/* Whether a value lacks the last axes only: it is the same along an inner loop. */
bool ir_rows_is_prefix(const ir_rows *r, const ir_rowmap *m);
#endif
