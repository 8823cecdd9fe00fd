/* ingot/trace.h - recording a C function as a module.
 *
 * ig_trace runs fn on example tensors and records every op.  Tensors made outside that fn uses
 * become weights when they are named (ig_name), constants when they are small (64 bytes), else an
 * error that says where they were made. A handle made outside that fn assigns becomes a state
 * argument and a state result of the module, after the others, and gets its old value back when the
 * trace is done.
 *
 * Reading a traced value inside the trace (ig_item_*, ig_data, ig_read, ig_print, ...) is an error
 * that shows how the value depends on the arguments: what the program does with the number would be
 * lost.  What a C program can still bake in without a read (an extent taken by ig_dim, a random
 * number of its own, a hidden branch) is found by the trace check: fn runs a second time with
 * another size for every dynamic dim and with the examples' elements in another order, and the two
 * streams of ops must agree. */
#ifndef INGOT_TRACE_H
#define INGOT_TRACE_H

#include "ingot/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ig_module ig_module;

/* Compute nout results of nin arguments.  Results may be tensors of any scope. */
typedef void (*ig_trace_fn)(void *user, ig_tensor *const *in, ig_tensor **out_);

/* fn runs once only: for functions that cannot be called twice.  The module is marked unchecked. */
#define IG_TRACE_ONCE 1u

typedef struct ig_trace_options {
    const char *name; /* of the module and its function; NULL: "traced" */
    /* Dynamic dims, one bracket an argument: "[B,784], [B]; B in 1..4096".  A number must be the
     * example's extent,
     * `_` stands for it, a name is a dynamic dim, the same everywhere (range 1..16777216 when not
     * given); arguments left out are static.  NULL: all static. */
    const char *dims;
    unsigned flags;
} ig_trace_options;

IG_API IG_MUST_USE ig_status ig_trace_at(const ig_site *site, ig_trace_fn fn, void *user, int nin,
                                         ig_tensor *const *in, int nout,
                                         const ig_trace_options *opt /* may be NULL */,
                                         ig_module **out_);
/* Whether the calling thread is recording. */
IG_API bool ig_tracing(void);

#define ig_trace(...) ig_trace_at(IG_SITE, __VA_ARGS__)

#ifdef __cplusplus
}
#endif
#endif
