/* ingot/threads.h - the threads of the process, over which compiled kernels are split.
 *
 * There is one pool a process; all sessions, modules and programs share it.  Nothing runs until a
 * launch is worth splitting: then the pool starts its threads, the calling thread being one of
 * those that are counted.  A launch estimated below 2 us runs on the calling thread alone, as does
 * one that finds the pool at work for another thread, and one from inside a kernel.  Results never
 * depend on any of this.
 *
 * An idle thread waits awake for a while, so that the next launch finds it at once, and then
 * sleeps.  How long follows the gaps between its launches: a little longer than they are, up to
 * `spin_us`, and not at all when they are longer than that.  So an idle process uses no CPU.
 *
 * After fork the child has a pool of its own; fork must not be called from inside a kernel. */
#ifndef INGOT_THREADS_H
#define INGOT_THREADS_H

#include "ingot/base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define IG_MAX_THREADS 256

/* Zero is the default everywhere. */
typedef struct ig_thread_options {
    int count;   /* threads of a launch with the calling one, up to IG_MAX_THREADS; 1: serial; 0:
                    IG_THREADS, else the CPUs this thread may run on */
    int spin_us; /* longest wait awake in microseconds; negative: none; 0: IG_SPIN, else 2000 */
    const int *cores; /* CPUs to which the pool's own threads are pinned, in turn; NULL: not pinned.
                         The calling thread is never moved. */
    int ncores;
} ig_thread_options;

/* Set the options (NULL: the defaults); copied.  Threads that run are ended, and start again when
 * needed.  Waits for a launch of another thread to end.  INVALID for a count or core out of range
 * and inside a kernel. */
IG_API IG_MUST_USE ig_status ig_threads(const ig_thread_options *opt);
/* How many threads a launch may use.  Starts none. */
IG_API int ig_threads_count(void);
/* End the pool's threads until the next launch that is worth splitting.  Also happens when the
 * library is unloaded.  Does nothing inside a kernel. */
IG_API void ig_threads_stop(void);
/* The pool as an executor, for ig_program_run and deployed objects; never NULL.  (Modules use it
 * unless ig_module_set_exec says otherwise.) */
IG_API const ig_exec *ig_pool_exec(void);

#ifdef __cplusplus
}
#endif
#endif
