/* fuzz.h - random programs, each run every way; a single differing byte fails and is shrunk. */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H
#include "tests/gen.h"
#include "tests/ways.h"

enum { FUZZ_PARAMS = 40, FUZZ_RESULTS = 40, FUZZ_SYMBOLS = 2 };

/* A program with its inputs; owns both. */
typedef struct fuzz_case {
    char broken[200]; /* what a transformation of it said that should not fail, or "" */
    ir_module *m;
    const ir_func *f; /* @f of m */
    int nin;
    ir_tensor in[FUZZ_PARAMS];
    int64_t symbols[FUZZ_SYMBOLS]; /* sizes of the dim symbols */
} fuzz_case;

/* program.c */
bool fuzz_generate(gen *g, fuzz_case *out_);
/* Turn the program into a derivative of it, a batch, or one of the other, with new inputs; as it
 * was where that is refused.  False when memory is out. */
bool fuzz_transform(gen *g, fuzz_case *c);
void fuzz_free(fuzz_case *c);
way_case fuzz_way_case(const fuzz_case *c);
/* Memory for the inputs of c->f, with random elements unless g is NULL. */
bool fuzz_inputs(gen *g, fuzz_case *c);

/* part.c */
/* A program that returns one value of c, with the values of `cut` (by value number, may be NULL)
 * turned into parameters that hold what the reference computes. */
bool fuzz_extract(const fuzz_case *c, ir_ref target, const bool *cut, fuzz_case *out_);
uint32_t fuzz_ops(const fuzz_case *c); /* without const and return */
/* c, which has one result, with op o changed and what is dead dropped; false where that cannot be.
 * FUZZ_REPLACE: operand k takes the place of its results, zeros where k is no operand.
 * FUZZ_UNWRAP: its region k does, for one trip.  FUZZ_DROP: it has no result k. */
typedef enum fuzz_edit { FUZZ_REPLACE, FUZZ_UNWRAP, FUZZ_DROP } fuzz_edit;
bool fuzz_edited(const fuzz_case *c, uint32_t o, fuzz_edit kind, uint32_t k, fuzz_case *out_);

/* shrink.c */
/* -1: the way gives the reference's bytes; else the first differing output, and why (an error, or
 * NULL). */
int fuzz_differs(const fuzz_case *c, const way *w, int64_t *element_, char *why, size_t size);
/* Make a differing case smaller while it differs; the first differing op by name. */
void fuzz_shrink(fuzz_case *c, const way *w, const char **op_);
#endif
