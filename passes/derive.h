/* derive.h - what transformations of modules share. */
#ifndef PASS_DERIVE_H
#define PASS_DERIVE_H
#include "passes/pass.h"
#include "passes/transform.h"

#define PASS_WRT_WEIGHT 0x80000000u
typedef RT_VEC(uint32_t) pass_wrt; /* numbers of arguments; of weights with PASS_WRT_WEIGHT */
ig_status pass_wrt_read(const ir_module *m, const char *text, pass_wrt *wrt);
ir_type pass_wrt_type(const ir_module *m, uint32_t wrt);

typedef struct pass_ask {
    pass_derivative what;
    pass_wrt wrt; /* borrowed */
    int result;   /* backward: from this result only; -1: all */
} pass_ask;
/* These take and give flat modules: one function, no calls, nothing dead. */
ig_status pass_flatten(const ir_module *in, ir_module **out_);
ig_status pass_differentiate(const ir_module *flat, const pass_ask *ask, ir_module **out_);
/* segment.c: cut the scans that are to keep few states; map has room for the values of the entry of
 * flat and becomes where they are, those outside of regions.  Only where pass_has_segments. */
bool pass_has_segments(const ir_func *f);
ig_status pass_segment(const ir_module *flat, ir_module **out_, ir_ref *map);
/* Whether the results of an op go in under PASS_GIVEN: all but constants and weights. */
bool pass_is_given(const ir_op *o);
/* n is a dim of flat. */
ig_status pass_vmap_by(const ir_module *flat, ir_dim n, const int *in_axes, const int *out_axes,
                       ir_module **out_);
/* A transformation under way: begun with a function that is to be like the one of flat and to do
 * more, its name ending in the word; finished without what is dead, or freed. */
typedef struct pass_made {
    ir_module *m;
    const char *word; /* a literal */
    pass_clock clock;
} pass_made;
ig_status pass_begin_more(const ir_module *flat, const char *word, pass_made *made_, ir_builder *b);
ig_status pass_finish(pass_made *made, ig_status s, ir_module **out_);
/* An error when the module has state, which `word` cannot take. */
ig_status pass_no_state(const ir_module *m, const char *word);
#endif
