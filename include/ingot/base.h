/* ingot/base.h - what every other public header needs: element types, errors, the allocator, the
 * executor. */
#ifndef INGOT_BASE_H
#define INGOT_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) || defined(__clang__)
#define IG_API          __attribute__((visibility("default")))
#define IG_MUST_USE     __attribute__((warn_unused_result))
#define IG_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define IG_API
#define IG_MUST_USE
#define IG_PRINTF(f, a)
#endif

#define IG_VERSION_MAJOR  0
#define IG_VERSION_MINOR  1
#define IG_VERSION_STRING "0.1.0"

/* The largest number of dimensions of a tensor. */
#define IG_MAX_RANK 8

/* Element types; 0 is none.  See dtypes.def. */
typedef enum ig_dtype {
    IG_NONE = 0,
#define DT(name, code, bytes, kind, ctype) IG_##name = code,
#include "dtypes.def"
#undef DT
    IG_DTYPE_END = 14
} ig_dtype;

/* --- Errors
 * ------------------------------------------------------------------------------------------- */

typedef enum ig_code {
    IG_OK = 0,
    IG_INVALID,     /* an argument is wrong                         */
    IG_SHAPE,       /* shapes do not fit                            */
    IG_DTYPE,       /* element types do not fit                     */
    IG_MEMORY,      /* an allocation failed                         */
    IG_IO,          /* a file could not be read or written          */
    IG_FORMAT,      /* a file or a text is malformed                */
    IG_UNSUPPORTED, /* valid, but not offered here                  */
    IG_TRACE,       /* a function cannot be traced as written       */
    IG_RANGE,       /* a dimension or index is outside its range    */
    IG_INTERNAL,    /* a contradiction inside the library: a defect */
    IG_FAILED       /* an assertion or a C function of the program failed */
} ig_code;

/* A status is a pointer: NULL is success, anything else an error record that the receiver owns and
 * frees with ig_status_free.  Ignoring one is a compiler warning. */
typedef struct ig_status_rec *ig_status;

/* The class of an error; IG_OK for NULL. */
IG_API ig_code ig_status_code(ig_status s);
/* The whole report: `file:line: op: message`, then one line a context.  "ok" for NULL; lives as
 * long as s. */
IG_API const char *ig_status_text(ig_status s);
/* The user's source file (NULL when unknown) and line (0 when unknown). */
IG_API const char *ig_status_file(ig_status s);
IG_API int ig_status_line(ig_status s);
/* The op or pass that failed, or NULL. */
IG_API const char *ig_status_op(ig_status s);
/* Free an error record; NULL is allowed. */
IG_API void ig_status_free(ig_status s);

/* --- Memory
 * ------------------------------------------------------------------------------------------- */

/* One function allocates (ptr NULL), resizes and frees (new_size 0).  `align` is a power of two; it
 * is the same for all calls on one block.  Returns NULL on failure, and then the old block is
 * unchanged. */
typedef struct ig_allocator {
    void *(*resize)(void *user, void *ptr, size_t old_size, size_t new_size, size_t align);
    void *user;
} ig_allocator;

/* The C library's allocator. */
IG_API const ig_allocator *ig_allocator_default(void);

/* --- Compiled kernels
 * --------------------------------------------------------------------------------- */

/* A compiled kernel works on the part [lo, hi) of its outermost loop. */
typedef void (*ig_kernel)(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi);

/* An executor runs a kernel over [0, n), in any split and in any order, and returns when all is
 * done.  ps is an estimate of how many picoseconds the whole takes in one part: what is short is
 * not worth splitting.  The result never depends on the split.  A NULL executor is serial;
 * ig_pool_exec (ingot/threads.h) is the process's threads. */
#ifndef IG_EXEC_DEFINED
#define IG_EXEC_DEFINED
typedef struct ig_exec {
    void (*run)(const struct ig_exec *self, ig_kernel kernel, void *const *bufs,
                const int64_t *dims, int64_t n, int64_t ps);
} ig_exec;
#endif

/* --- C functions in compiled code
 * ---------------------------------------------------------------------------------- */

#ifndef IG_CUSTOM_DEFINED
#define IG_CUSTOM_DEFINED
/* A tensor as a C function sees it: contiguous, row-major; dtype is an ig_dtype, bool one byte, 0
 * or 1; data may be NULL when there are no elements. */
typedef struct ig_array {
    void *data;
    int32_t dtype, rank;
    int64_t dim[8];
} ig_array;
/* What a C function that a program calls is given: its own pointer (NULL in a deployed object), the
 * text of the call (NULL: none), the tensors that it reads, and those that it fills, whose shapes
 * are set. */
typedef struct ig_custom_args {
    void *user;
    const char *text;
    int32_t nin, nout;
    const ig_array *in, *out;
} ig_custom_args;
/* 0, or what the function failed with: the run fails. */
typedef int32_t (*ig_custom_fn)(const ig_custom_args *args);
#endif

/* Name and size in bytes of an element type; "none" and 0 for a bad code. */
IG_API const char *ig_dtype_name(ig_dtype d);
IG_API size_t ig_dtype_size(ig_dtype d);
IG_API const char *ig_version(void);

#ifdef __cplusplus
}
#endif
#endif
