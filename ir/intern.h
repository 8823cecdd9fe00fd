/* intern.h - what the tables of a module share: a hash index, the interner, the dim table. */
#ifndef IR_INTERN_H
#define IR_INTERN_H
#include "ir/ir.h"

/* An index from hash to entry number; the entries and their equality belong to the caller.
 *     uint32_t at = ir_index_start(ix, h), id;
 *     while (ir_index_next(ix, h, &at, &id)) if (entry id is equal) return id;
 *     ir_index_reserve before the entry is made, ir_index_add (cannot fail) once it exists. */
typedef struct ir_slot {
    uint32_t hash, id1;
} ir_slot; /* id1: entry + 1, 0 = free */
typedef struct ir_index {
    ir_slot *slot;
    uint32_t n, cap;
} ir_index;

bool ir_index_reserve(const ig_allocator *a, ir_index *ix);
void ir_index_add(ir_index *ix, uint64_t hash, uint32_t id);
uint32_t ir_index_start(const ir_index *ix, uint64_t hash);
bool ir_index_next(const ir_index *ix, uint64_t hash, uint32_t *at, uint32_t *id_);
void ir_index_free(const ig_allocator *a, ir_index *ix);

typedef struct ir_attr_rec {
    ir_attr_kind kind;
    const void *attr;
} ir_attr_rec;

struct ir_intern {
    RT_VEC(const char *) strs;
    RT_VEC(ir_loc_rec) locs;   /* locs.data[0] is the unknown location */
    RT_VEC(ir_attr_rec) attrs; /* attrs.data[0] is the none attribute */
    ir_index str_ix, loc_ix, attr_ix, type_ix;
};

/* dim.c */
ir_dim_table *ir_dims_new(const ig_allocator *a);
void ir_dims_free(ir_dim_table *t);
/* Fill an empty table with the dims of another, under the same numbers. */
bool ir_dims_copy(ir_dim_table *to, const ir_dim_table *from);
/* The dim that is symbol number `sym`. */
ir_dim ir_dim_symbol(ir_module *m, uint32_t sym);
#endif
