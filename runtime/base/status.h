/* status.h - making errors.  See include/ingot/base.h for reading them. */
#ifndef RT_STATUS_H
#define RT_STATUS_H
#include "runtime/base/alloc.h"

/* A new error record; the preallocated out-of-memory record when there is no memory for one. */
ig_status rt_fail(const ig_allocator *a, ig_code code, const char *fmt, ...) IG_PRINTF(3, 4);
ig_status rt_fail_memory(void);
/* Fill in where it happened (strings are copied; only empty fields are filled).  Return s. */
ig_status rt_status_at(ig_status s, const char *file, int line);
ig_status rt_status_op(ig_status s, const char *op);
/* The record is freed by `a` from now on, an allocator of the same blocks.  Return s. */
ig_status rt_status_use_alloc(ig_status s, const ig_allocator *a);
/* Add a context line.  Return s. */
ig_status rt_status_note(ig_status s, const char *fmt, ...) IG_PRINTF(2, 3);

#define RT_TRY(expr)                 \
    do {                             \
        ig_status rt_try_ = (expr);  \
        if (rt_try_) return rt_try_; \
    } while (0)

/* An internal contradiction: a debug build stops here with the text, a release build returns
 * INTERNAL. */
#define ig_assert(alloc, cond)                                               \
    do {                                                                     \
        if (!(cond)) return rt_internal((alloc), #cond, __FILE__, __LINE__); \
    } while (0)
ig_status rt_internal(const ig_allocator *a, const char *cond, const char *file, int line);
#endif
