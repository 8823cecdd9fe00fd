/* ways.h - the ways to run a tensor function.  All of them must give the reference's bytes
 * (docs/numerics). */
#ifndef TESTS_WAYS_H
#define TESTS_WAYS_H
#include "codegen/target.h"
#include "ir/ir.h"
#include "runtime/image.h"

/* What a way made of a function, for the next inputs of the same function on the same way. */
typedef struct way_kept {
    rt_image *image;
    void *lib;
} way_kept;
void way_release(way_kept *kept);

/* A function with inputs: what a way runs. */
typedef struct way_case {
    const ir_module *module;
    const ir_func *f;
    int nin, nout;
    const ir_tensor *in;
    const int64_t *symbols; /* bound dims, in module order */
    way_kept *kept;         /* NULL: nothing is kept.  Zero at first; the caller releases it */
} way_case;

typedef struct way {
    const char *name;
    bool (*available)(void);
    /* out: types and memory set by the caller. */
    ig_status (*run)(const way_case *c, ir_tensor *out);
} way;

/* The reference first; ended by a NULL name. */
extern const way way_tab[];
const way *way_find(const char *name);
/* Whether the way compiles a module of that class for the very level that `compiled` takes. */
bool way_repeats(const way *w, ir_class cls);

/* Outputs of a case with memory (64-aligned, poisoned with a pattern); false when memory is out. */
bool way_alloc_outputs(const way_case *c, ir_tensor *out);
void way_free_outputs(int n, ir_tensor *out);
/* Byte-compare outputs after canonicalising NaNs; the first differing output and element, or -1. */
int way_compare(int n, ir_tensor *want, ir_tensor *got, int64_t *element_);
size_t way_bytes(const ir_tensor *t);
#endif
