/* ingot/module.h - recorded functions: run, compile, save, load.
 *
 * A module is one function with its weights.  It runs by the reference until it is compiled, and
 * gives the same bits either way.  A module object serves one thread at a time: ig_module_share
 * gives another thread its own.  A module that holds handles of state is freed before their
 * session. */
#ifndef INGOT_MODULE_H
#define INGOT_MODULE_H

#include "ingot/trace.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Arguments and results without, then state: the last nstate arguments and results belong to state.
 */
typedef struct ig_module_info {
    const char *name, *entry; /* owned by the module */
    int nin, nout, nstate;    /* nin and nout do not count state */
    bool unchecked;           /* traced with IG_TRACE_ONCE */
    const char *level;        /* the CPU level it is compiled for, or NULL */
} ig_module_info;
IG_API ig_module_info ig_module_get_info(const ig_module *m);

/* How many weights the module has; a copy of weight k, which has its name. */
IG_API int ig_module_weights(const ig_module *m);
IG_API ig_tensor *ig_module_weight_at(const ig_site *site, const ig_module *m, int k);
/* Run.  Either nin and nout count the state (arguments and results explicit, nothing else changes),
 * or they do not, and the state lives in the handles the trace found (or ig_module_bind_state set),
 * which are assigned. Results belong to the innermost scope.
 * While a trace is under way, or a gradient scope is open, the module runs op by op and its ops are
 * recorded as if the caller had written them; its
 * state is state of the traced function, its weights are weights of the new module. */
IG_API IG_MUST_USE ig_status ig_module_run_at(const ig_site *site, ig_module *m, int nin,
                                              ig_tensor *const *in, int nout, ig_tensor **out_);
/* The handle of state k, or NULL; the name (ig_name) it had in the trace, or NULL. */
IG_API ig_tensor *ig_module_state(const ig_module *m, int k);
IG_API const char *ig_module_state_name(const ig_module *m, int k);
IG_API IG_MUST_USE ig_status ig_module_bind_state(ig_module *m, int nstate,
                                                  ig_tensor *const *state);
/* Compile for a CPU level by name; NULL: the best of this machine. */
IG_API IG_MUST_USE ig_status ig_module_compile(ig_module *m, const char *level);
/* Run compiled kernels by an executor (borrowed); NULL: serially.  A module begins with the
 * process's threads (ingot/threads.h), as many as there are CPUs. */
IG_API void ig_module_set_exec(ig_module *m, const ig_exec *exec);
/* A run may take so many bytes besides arguments, results and weights (0, as at first: no limit);
 * one that takes more is an IG_MEMORY error which names the loop, or else the op, that gives most,
 * its file:line and its bytes.  Derivatives, batches and shares of a module begin with its limit.
 */
IG_API void ig_module_set_limit(ig_module *m, size_t bytes);
/* A second module object on the same code and weights, for another thread. */
IG_API IG_MUST_USE ig_status ig_module_share(ig_module *m, ig_module **out_);
/* A file with the module and, when it is compiled, its native code. */
IG_API IG_MUST_USE ig_status ig_module_save(const ig_module *m, const char *path);
IG_API IG_MUST_USE ig_status ig_module_load(const char *path, ig_module **out_);
/* The module as text; free it with ig_text_free. */
IG_API IG_MUST_USE ig_status ig_module_text(const ig_module *m, char **text_);
/* A relocatable object for a CPU level with the functions <prefix>_run and <prefix>_workspace. */
IG_API IG_MUST_USE ig_status ig_module_build(const ig_module *m, const char *prefix,
                                             const char *level, const char *path);
IG_API void ig_module_free(ig_module *m); /* NULL is allowed */

#define ig_module_run(...)     ig_module_run_at(IG_SITE, __VA_ARGS__)
#define ig_module_weight(m, k) ig_module_weight_at(IG_SITE, m, k)

#ifdef __cplusplus
}
#endif
#endif
