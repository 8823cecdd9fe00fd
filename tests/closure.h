/* closure.h - derivatives and batching of every row of the op table, in every order to depth 3. */
#ifndef TESTS_CLOSURE_H
#define TESTS_CLOSURE_H
#include "ir/ir.h"

typedef struct closure_count {
    int checked;     /* sequences that were compared */
    int skipped;     /* sequences of the committed list */
    int redrawn;     /* instances given up because a point lay near a tie */
    const char *why; /* of what was skipped */
} closure_count;

/* Check sequences up to `depth` on instance number `seed` of an op.  False on a failure, which is
 * described in what (its size is that of the array). */
bool closure_check(ir_opcode op, uint64_t seed, int depth, closure_count *count, char what[1024]);

/* Programs in text, ended by a NULL name. */
typedef struct closure_program {
    const char *name, *text;
    bool zeros; /* what it computes is smooth at 0 too: a third of the points' elements are 0 */
} closure_program;
extern const closure_program closure_programs[];
/* The same for the entry of a program, with its dim symbols at their middle. */
bool closure_check_program(const closure_program *p, uint64_t seed, int depth, closure_count *count,
                           char what[1024]);
/* Register the C function that one of them calls. */
ig_status closure_register(void);
#endif
