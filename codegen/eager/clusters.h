/* clusters.h - what the program that writes the eager kernels is made of. */
#ifndef CG_EAGER_CLUSTERS_H
#define CG_EAGER_CLUSTERS_H
#include "codegen/eager/eager.h"

/* A kernel of the table. */
typedef struct eager_entry {
    uint32_t key; /* index of cg_eager_level.row */
    int form;
    ig_dtype dtype;   /* of the result */
    uint16_t ps;      /* estimated picoseconds an element; elementwise kernels only */
    const char *name; /* interned in the module of kernels */
} eager_entry;
typedef RT_VEC(eager_entry) eager_entries;

/* Lower every kernel of a level into *kernels_ (entries in order of key and form). */
ig_status eager_lower_all(const ig_allocator *a, const cg_cpu *cpu, ir_module **kernels_,
                          eager_entries *entries);
#endif
