/* pass.h - a pass reads an immutable module and emits a new one. */
#ifndef PASS_PASS_H
#define PASS_PASS_H
#include "ir/ir.h"

typedef struct pass_info {
    const char *name, *doc;
    ig_status (*run)(const ir_module *in, ir_module *out); /* out is ir_module_shell(in) */
} pass_info;

/* All passes in pipeline order, ended by a NULL name. */
extern const pass_info pass_tab[];
const pass_info *pass_find(const char *name, size_t n);

/* What is done around every pass and transformation: taken before, and given afterwards with the
 * module, which is dumped (IG_DUMP=<word>), verified, its time logged (IG_LOG=pass), or freed. */
typedef struct pass_clock {
    double start; /* microseconds */
    uint32_t ops; /* of the module that went in */
} pass_clock;
pass_clock pass_clock_start(const ir_module *in);
ig_status pass_after(const char *word, pass_clock clock, ir_module *out);

/* Run one pass, verify its result, dump it (IG_DUMP=<pass>), log its time (IG_LOG=pass). */
ig_status pass_run(const pass_info *p, const ir_module *in, ir_module **out_);
/* Run passes by comma-separated names. */
ig_status pass_run_list(const char *names, const ir_module *in, ir_module **out_);
/* pipeline.c: everything from a recorded module to a planned one. */
ig_status pass_pipeline(const ir_module *in, ir_module **out_);

/* After memplan: bytes of workspace of a function, as a dim (0 when none). */
ir_dim pass_workspace(const ir_func *f);

/* The op that a cluster's only result is, when it updates (dupdate, scatter) parameter k, which is
 * read for nothing else; NULL.  In the memory of that operand only what is updated is written. */
const ir_op *pass_update_of(const ir_func *cluster, uint32_t k);

/* After memplan: which state of the entry function may come out in the memory where it went in, one
 * flag a state: every other call that reads it runs before the one that writes it, which reads it
 * only at the index that it writes. */
ig_status pass_fill_in_place(const ir_module *planned, bool *in_place_);
/* The same for a recorded module, which is planned for the question. */
ig_status pass_in_place(const ir_module *m, bool *in_place_);

/* --- For writing passes (copy.c) ------------------------------------------------------------ */

/* Begin a function of `out` with the name, kind and parameters of f.  Gives the map from values of
 * f to values of the copy (values.n entries, parameters entered, freed with pass_end); NULL after
 * an error, which is in b->error. */
ir_ref *pass_begin(ir_builder *b, ir_module *out, const ir_func *f, unsigned flags);
/* Return what f returns, add the function to its module, free the map. */
ig_status pass_end(ir_builder *b, const ir_func *f, ir_ref *map);
/* A function as it is, in another module. */
ig_status pass_copy_func(ir_module *out, const ir_func *f);
/* The same without dead ops (dce.c). */
ig_status pass_copy_live(ir_module *out, const ir_func *f);
/* The body of a function without regions of its own at the end of b (inline.c): args are its
 * parameters, results_ what it returns. */
void pass_splice(ir_builder *b, const ir_func *callee, const ir_ref *args, ir_ref *results_);
#endif
