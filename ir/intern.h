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
/* Room for so many entries in all, without growth on the way. */
bool ir_index_reserve_all(const ig_allocator *a, ir_index *ix, uint32_t n);
void ir_index_add(ir_index *ix, uint64_t hash, uint32_t id);
uint32_t ir_index_start(const ir_index *ix, uint64_t hash);
bool ir_index_next(const ir_index *ix, uint64_t hash, uint32_t *at, uint32_t *id_);
void ir_index_free(const ig_allocator *a, ir_index *ix);

/* A location as it is kept: the number of its file among the strings. */
typedef struct ir_loc_kept {
    uint32_t file, line;
} ir_loc_kept;

/* Where the next attribute of three lists of one rank goes (attr.c). */
typedef struct ir_comb {
    char *at;
    uint32_t left;
} ir_comb;

/* By string: number + 1 of what has the name, or 0. */
typedef RT_VEC(uint32_t) ir_names;

struct ir_intern {
    RT_VEC(const char *) strs;
    RT_VEC(ir_loc_kept) locs;  /* locs.data[0] is the unknown location */
    RT_VEC(const void *) attrs; /* attrs.data[0] is the none attribute */
    RT_VEC(uint8_t) kinds;      /* ir_attr_kind of each */
    ir_comb comb[IG_MAX_RANK + 1];
    ir_index str_ix, loc_ix, attr_ix, type_ix;
    ir_names func_of, weight_of;
};

/* Add a finished function; false when memory is out. */
bool ir_add_func(ir_module *m, ir_func *f);

/* Let a module that was built with one allocator go on with another that has the same blocks. */
void ir_module_use_alloc(ir_module *m, const ig_allocator *a);

/* dim.c */
void ir_dims_use_alloc(ir_dim_table *t, const ig_allocator *a);
ir_dim_table *ir_dims_new(const ig_allocator *a);
void ir_dims_free(ir_dim_table *t);
/* Fill an empty table with the dims of another, under the same numbers. */
bool ir_dims_copy(ir_dim_table *to, const ir_dim_table *from);
/* The dim that is symbol number `sym`. */
ir_dim ir_dim_symbol(ir_module *m, uint32_t sym);
#endif
