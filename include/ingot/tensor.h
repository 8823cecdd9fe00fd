/* ingot/tensor.h - sessions, tensors and their lifetime, errors, creation, reading, printing,
 * files.
 *
 * A tensor is a handle, that is a variable; the value behind it never changes.  Functions that
 * "assign" give the handle a new value.  An op runs when it is called.  Its result belongs to the
 * innermost open scope, or to the session when none is open: see IG_SCOPE, ig_keep and ig_free.
 *
 * A failed op returns a poison tensor; ops on poison give poison.  The first error of the thread's
 * session is kept with the op, both shapes and the caller's file and line: see ig_error.
 *
 * A macro such as ig_add(a, b) notes the place of the call in a static record (IG_SITE) and calls
 * the plain function ig_add_at(site, ...), which may also be called directly, with a site that
 * outlives the session, or NULL. */
#ifndef INGOT_TENSOR_H
#define INGOT_TENSOR_H

#include "ingot/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ig_session ig_session;
typedef struct ig_tensor ig_tensor;

/* --- The place of a call ------------------------------------------------------------------- */

/* One static record for every call in the source; its address identifies the call. */
typedef struct ig_site {
    const char *file;
    int line;
} ig_site;

#if defined(__GNUC__) || defined(__clang__)
#define IG_SITE                                               \
    (__extension__({                                          \
        static const ig_site ig_site_ = {__FILE__, __LINE__}; \
        &ig_site_;                                            \
    }))
#else
#define IG_SITE ((const ig_site *)0)
#endif

/* --- Shapes -------------------------------------------------------------------------------- */

/* A list of extents.  IG_DIMS(2, 3) is the shape [2,3]; IG_SCALAR the shape of a scalar. */
typedef struct ig_dims {
    int n;
    int64_t d[IG_MAX_RANK];
} ig_dims;

/* A list of axes, negative ones counted from the end.  all: every axis.  keep: reductions keep the
 * axis as 1. */
typedef struct ig_axes {
    int n;
    bool all, keep;
    int a[IG_MAX_RANK];
} ig_axes;

/* clang-format off */
#define IG_NARG_(a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q, n, ...) n
#define IG_NARG(...) \
    IG_NARG_(__VA_ARGS__, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
/* clang-format on */

#ifdef __cplusplus
#define IG_MAKE(type, ...) (type{__VA_ARGS__})
#else
#define IG_MAKE(type, ...) ((type){__VA_ARGS__})
#endif
#define IG_DIMS(...) IG_MAKE(ig_dims, IG_NARG(__VA_ARGS__), {__VA_ARGS__})
#define IG_SCALAR    IG_MAKE(ig_dims, 0, {0})
#define IG_AXES(...) IG_MAKE(ig_axes, IG_NARG(__VA_ARGS__), false, false, {__VA_ARGS__})
#define IG_KEEP(...) IG_MAKE(ig_axes, IG_NARG(__VA_ARGS__), false, true, {__VA_ARGS__})
#define IG_ALL_AXES  IG_MAKE(ig_axes, 0, true, false, {0})
#define IG_KEEP_ALL  IG_MAKE(ig_axes, 0, true, true, {0})

/* A list of tensors: IG_LIST(a, b, c). */
typedef struct ig_list {
    int n;
    ig_tensor *const *t; /* borrowed for the call */
} ig_list;

/* --- Sessions ------------------------------------------------------------------------------ */

typedef struct ig_session_options {
    const ig_allocator *alloc; /* borrowed; NULL: the C library's */
    bool nofma;                /* compute in the class without fused multiply-add */
    bool
        nan_trap; /* an op that makes a NaN from operands without one is an error (also IG_NAN=1) */
} ig_session_options;

/* A session owns tensors, the first error and the default random generator.  It serves one thread
 * at a time. Most programs need none: a thread that calls an op first gets a default session. */
IG_API IG_MUST_USE ig_status ig_session_new(const ig_session_options *opt /* may be NULL */,
                                            ig_session **out_);
/* Make s the calling thread's session and return the one before; NULL: a default one at the next
 * call. */
IG_API ig_session *ig_session_use(ig_session *s);
/* The calling thread's session, made when there is none; NULL when memory is out. */
IG_API ig_session *ig_session_current(void);
/* Free a session (NULL: the calling thread's) with all its tensors.  Returns how many tensors were
 * still kept or held by a scope never ended; IG_LOG=leak lists them with the place where each was
 * made. */
IG_API size_t ig_session_free(ig_session *s);
IG_API void ig_session_nan_trap(ig_session *s /* NULL: current */, bool on);

typedef struct ig_memory {
    size_t live_bytes, peak_bytes; /* tensor data */
    size_t live_tensors;           /* handles */
    uint64_t allocations;          /* of tensor data, since the session began */
} ig_memory;
IG_API ig_memory ig_memory_stats(const ig_session *s /* NULL: current */);

/* How many ops a session has run by the kernels that were built into the library, and by the slower
 * reference: when it was built without LLVM, for element types and forms that have no kernel
 * (IG_LOG=slow names them), and under IG_EAGER=reference.  The bits are the same. */
typedef struct ig_eager_count {
    uint64_t kernels, reference;
} ig_eager_count;
IG_API ig_eager_count ig_eager_counts(const ig_session *s /* NULL: current */);

/* --- Errors -------------------------------------------------------------------------------- */

/* The first error of the calling thread's session, or NULL; it stays the session's. */
IG_API ig_status ig_error(void);
/* Its text, or "ok". */
IG_API const char *ig_error_text(void);
/* Hand the first error to the caller, who frees it; later errors count as first again. */
IG_API IG_MUST_USE ig_status ig_error_take(void);
IG_API void ig_error_clear(void);
/* Called when a first error was recorded, as the last thing the failing call does, so that it may
 * longjmp.  Scopes that are open stay open. */
typedef void (*ig_error_hook)(void *user, ig_status s);
IG_API void ig_error_set_hook(ig_session *s /* NULL: current */, ig_error_hook hook, void *user);

/* --- Lifetime ------------------------------------------------------------------------------ */

IG_API void ig_scope_begin(void);
/* Release every tensor made since the matching begin and not kept. */
IG_API void ig_scope_end(void);
/* Move a tensor out of its scope to the caller, who ends it with ig_free; kept again, it needs one
 * more ig_free. Returns t. */
IG_API ig_tensor *ig_keep(ig_tensor *t);
/* Release a kept tensor, or a tensor of a scope before the scope ends.  NULL and poison are
 * allowed. */
IG_API void ig_free(ig_tensor *t);

#if defined(__GNUC__) || defined(__clang__)
/* IG_SCOPE { ... }: a scope that also ends by return, break or goto. */
static inline int ig_scope_enter_(void) {
    ig_scope_begin();
    return 1;
}
static inline void ig_scope_leave_(int *open) {
    (void)open;
    ig_scope_end();
}
#define IG_SCOPE                                                                               \
    for (int ig_open_ __attribute__((cleanup(ig_scope_leave_))) = ig_scope_enter_(); ig_open_; \
         ig_open_ = 0)
#endif

/* --- Arguments that are tensors or host numbers -------------------------------------------- */

typedef enum ig_arg_kind {
    IG_ARG_TENSOR,
    IG_ARG_BOOL,
    IG_ARG_INT,
    IG_ARG_UINT,
    IG_ARG_FLOAT
} ig_arg_kind;

/* A host number takes the element type of the tensor beside it; alone it is bool, i64 or f32. */
typedef struct ig_arg {
    ig_arg_kind kind;
    union {
        ig_tensor *t; /* borrowed */
        int64_t i;
        uint64_t u;
        double f;
    } v;
} ig_arg;

static inline ig_arg ig_arg_t(const ig_tensor *t) {
    ig_arg a;
    a.kind = IG_ARG_TENSOR;
    a.v.t = (ig_tensor *)(uintptr_t)t;
    return a;
}
static inline ig_arg ig_arg_b(bool x) {
    ig_arg a;
    a.kind = IG_ARG_BOOL;
    a.v.i = x;
    return a;
}
static inline ig_arg ig_arg_i(int64_t x) {
    ig_arg a;
    a.kind = IG_ARG_INT;
    a.v.i = x;
    return a;
}
static inline ig_arg ig_arg_u(uint64_t x) {
    ig_arg a;
    a.kind = IG_ARG_UINT;
    a.v.u = x;
    return a;
}
static inline ig_arg ig_arg_f(double x) {
    ig_arg a;
    a.kind = IG_ARG_FLOAT;
    a.v.f = x;
    return a;
}
static inline ig_axes ig_axes_of_int(long axis) {
    ig_axes a = {1, false, false, {axis == (int)axis ? (int)axis : INT32_MAX}};
    return a;
}
static inline ig_axes ig_axes_of_axes(ig_axes a) { return a; }

#ifndef __cplusplus
/* clang-format off */
#define IG_ARG(x)                                                                    \
    _Generic((x),                                                                    \
        ig_tensor *: ig_arg_t, const ig_tensor *: ig_arg_t, ig_arg: ig_arg_same,     \
        bool: ig_arg_b, char: ig_arg_i, signed char: ig_arg_i, short: ig_arg_i,      \
        int: ig_arg_i, long: ig_arg_i, long long: ig_arg_i, unsigned char: ig_arg_u, \
        unsigned short: ig_arg_u, unsigned: ig_arg_u, unsigned long: ig_arg_u,       \
        unsigned long long: ig_arg_u, float: ig_arg_f, double: ig_arg_f)(x)
/* clang-format on */
static inline ig_arg ig_arg_same(ig_arg a) { return a; }
/* One axis as an int, or a list. */
#define IG_AXES_ARG(x) \
    _Generic((x), int : ig_axes_of_int, long : ig_axes_of_int, ig_axes : ig_axes_of_axes)(x)
#define IG_LIST(...)                                                              \
    ((ig_list){(int)(sizeof((ig_tensor *[]){__VA_ARGS__}) / sizeof(ig_tensor *)), \
               (ig_tensor *[]){__VA_ARGS__}})
#else
}
static inline ig_arg ig_arg_of(const ig_tensor *t) { return ig_arg_t(t); }
static inline ig_arg ig_arg_of(ig_tensor *t) { return ig_arg_t(t); }
static inline ig_arg ig_arg_of(ig_arg a) { return a; }
static inline ig_arg ig_arg_of(bool x) { return ig_arg_b(x); }
static inline ig_arg ig_arg_of(int x) { return ig_arg_i(x); }
static inline ig_arg ig_arg_of(long x) { return ig_arg_i(x); }
static inline ig_arg ig_arg_of(long long x) { return ig_arg_i(x); }
static inline ig_arg ig_arg_of(unsigned x) { return ig_arg_u(x); }
static inline ig_arg ig_arg_of(unsigned long x) { return ig_arg_u(x); }
static inline ig_arg ig_arg_of(unsigned long long x) { return ig_arg_u(x); }
static inline ig_arg ig_arg_of(float x) { return ig_arg_f(static_cast<double>(x)); }
static inline ig_arg ig_arg_of(double x) { return ig_arg_f(x); }
static inline ig_axes ig_axes_of(int axis) { return ig_axes_of_int(axis); }
static inline ig_axes ig_axes_of(long axis) { return ig_axes_of_int(static_cast<int>(axis)); }
static inline ig_axes ig_axes_of(ig_axes a) { return a; }
template <int N> struct ig_list_store {
    ig_tensor *t[N];
    operator ig_list() const { return ig_list{N, t}; }
};
#define IG_ARG(x)      ig_arg_of(x)
#define IG_AXES_ARG(x) ig_axes_of(x)
#define IG_LIST(...)   (ig_list_store<IG_NARG(__VA_ARGS__)>{{__VA_ARGS__}})
extern "C" {
#endif

/* --- Creation ------------------------------------------------------------------------------ */

/* A tensor with a copy of row-major elements. */
IG_API ig_tensor *ig_tensor_from_at(const ig_site *site, ig_dtype dtype, ig_dims dims,
                                    const void *data);
/* A tensor over the caller's memory, which must neither change nor go before release(user, data) is
 * called (release may be NULL: it must then outlive the session). */
IG_API ig_tensor *ig_borrow_at(const ig_site *site, ig_dtype dtype, ig_dims dims, const void *data,
                               void (*release)(void *user, const void *data), void *user);
IG_API ig_tensor *ig_scalar_at(const ig_site *site, ig_dtype dtype, ig_arg value);
IG_API ig_tensor *ig_full_at(const ig_site *site, ig_dtype dtype, ig_dims dims, ig_arg value);
/* The shape and, when dtype is IG_NONE, the element type of another tensor. */
IG_API ig_tensor *ig_full_like_at(const ig_site *site, ig_arg like, ig_dtype dtype, ig_arg value);
/* lo, lo+step, ... below hi (above it for a negative step): ceil((hi - lo) / step) numbers lo + i *
 * step. */
IG_API ig_tensor *ig_arange_at(const ig_site *site, ig_dtype dtype, ig_arg lo, ig_arg hi,
                               ig_arg step);
/* n numbers from lo to hi, both included: lo + i * ((hi - lo) / (n - 1)). */
IG_API ig_tensor *ig_linspace_at(const ig_site *site, ig_dtype dtype, double lo, double hi,
                                 int64_t n);
/* n rows, m columns, ones on the diagonal k above the main one. */
IG_API ig_tensor *ig_eye_at(const ig_site *site, ig_dtype dtype, int64_t n, int64_t m, int k);
/* A new handle with the value of x. */
IG_API ig_tensor *ig_copy_at(const ig_site *site, ig_arg x);
/* Name a tensor: a trace that captures it makes it the weight of that name.  The name is copied.
 * Returns t, or poison after an error. */
IG_API ig_tensor *ig_name(ig_tensor *t, const char *name);

#define ig_tensor_from(...) \
    ig_tensor_from_at(IG_SITE, __VA_ARGS__) /* variadic where an argument may be (T[]){..} */
#define ig_borrow(...)              ig_borrow_at(IG_SITE, __VA_ARGS__)
#define ig_scalar(dtype, value)     ig_scalar_at(IG_SITE, dtype, IG_ARG(value))
#define ig_full(dtype, dims, value) ig_full_at(IG_SITE, dtype, dims, IG_ARG(value))
#define ig_zeros(dtype, dims)       ig_full_at(IG_SITE, dtype, dims, ig_arg_i(0))
#define ig_ones(dtype, dims)        ig_full_at(IG_SITE, dtype, dims, ig_arg_i(1))
#define ig_full_like(x, value)      ig_full_like_at(IG_SITE, IG_ARG(x), IG_NONE, IG_ARG(value))
#define ig_zeros_like(x)            ig_full_like_at(IG_SITE, IG_ARG(x), IG_NONE, ig_arg_i(0))
#define ig_ones_like(x)             ig_full_like_at(IG_SITE, IG_ARG(x), IG_NONE, ig_arg_i(1))
#define ig_arange(dtype, lo, hi, step) \
    ig_arange_at(IG_SITE, dtype, IG_ARG(lo), IG_ARG(hi), IG_ARG(step))
#define ig_linspace(dtype, lo, hi, n) ig_linspace_at(IG_SITE, dtype, lo, hi, n)
#define ig_eye(dtype, n)              ig_eye_at(IG_SITE, dtype, n, n, 0)
#define ig_copy(x)                    ig_copy_at(IG_SITE, IG_ARG(x))

/* --- Reading ------------------------------------------------------------------------------- */

IG_API ig_dtype ig_dtype_of(const ig_tensor *t);
IG_API int ig_rank(const ig_tensor *t);
/* The extent of an axis (negative: from the end); -1 when there is no such axis. */
IG_API int64_t ig_dim(const ig_tensor *t, int axis);
IG_API ig_dims ig_shape(const ig_tensor *t);
IG_API int64_t ig_numel(const ig_tensor *t);
IG_API size_t ig_nbytes(const ig_tensor *t);
IG_API bool ig_is_poison(const ig_tensor *t); /* true for NULL */
/* The extent of an axis for use in a list of extents only.  The same number as ig_dim outside a
 * trace; in a trace of a dynamic dim it stands for that dim, where ig_dim would bake the example's
 * number into the module. */
IG_API int64_t ig_extent(const ig_tensor *t, int axis);

/* The only element of a tensor, converted (rules of `cast`).  NaN, 0, false after an error. */
IG_API double ig_item_f64_at(const ig_site *site, ig_tensor *t);
IG_API int64_t ig_item_i64_at(const ig_site *site, ig_tensor *t);
IG_API bool ig_item_bool_at(const ig_site *site, ig_tensor *t);
/* The row-major elements, ig_nbytes(t) bytes, valid until t is freed or assigned; NULL after an
 * error. */
IG_API const void *ig_data_at(const ig_site *site, ig_tensor *t);
/* Copy the elements out; bytes must be ig_nbytes(t). */
IG_API IG_MUST_USE ig_status ig_read_at(const ig_site *site, ig_tensor *t, void *dst, size_t bytes);
/* Same element type, shape and bits (NaNs are equal to each other, -0 is not +0). */
IG_API bool ig_equal_at(const ig_site *site, ig_tensor *a, ig_tensor *b);
/* |a - b| <= atol + rtol * |b| everywhere, in double; infinities must be equal; NaN only fits NaN
 * under equal_nan. Shapes must be equal.  False after an error. */
IG_API bool ig_allclose_at(const ig_site *site, ig_tensor *a, ig_tensor *b, double rtol,
                           double atol, bool equal_nan);

#define ig_item_f64(t)                ig_item_f64_at(IG_SITE, t)
#define ig_item_f32(t)                ((float)ig_item_f64_at(IG_SITE, t))
#define ig_item_i64(t)                ig_item_i64_at(IG_SITE, t)
#define ig_item_bool(t)               ig_item_bool_at(IG_SITE, t)
#define ig_data(t)                    ig_data_at(IG_SITE, t)
#define ig_read(t, dst, bytes)        ig_read_at(IG_SITE, t, dst, bytes)
#define ig_equal(a, b)                ig_equal_at(IG_SITE, a, b)
#define ig_allclose(a, b, rtol, atol) ig_allclose_at(IG_SITE, a, b, rtol, atol, false)

/* --- Printing and files -------------------------------------------------------------------- */

/* Print as numpy does (8 digits, 3 items at each edge beyond 1000 elements, lines of 75) and a
 * newline, to stdout. */
IG_API void ig_print_at(const ig_site *site, ig_tensor *t);
/* The same text without the newline; free it with ig_text_free. */
IG_API IG_MUST_USE ig_status ig_text_at(const ig_site *site, ig_tensor *t, char **text_);
IG_API void ig_text_free(char *text);
/* numpy's .npy files, versions 1 to 3, either byte order, C or Fortran order; bf16 is saved as V2.
 */
IG_API ig_tensor *ig_npy_load_at(const ig_site *site, const char *path);
IG_API IG_MUST_USE ig_status ig_npy_save_at(const ig_site *site, ig_tensor *t, const char *path);
/* The same from and to memory; the text of ig_npy_write is freed with ig_text_free. */
IG_API ig_tensor *ig_npy_read_at(const ig_site *site, const void *bytes, size_t n);
IG_API IG_MUST_USE ig_status ig_npy_write_at(const ig_site *site, ig_tensor *t, char **bytes_,
                                             size_t *n_);

#define ig_print(t)                 ig_print_at(IG_SITE, t)
#define ig_text(t, text_)           ig_text_at(IG_SITE, t, text_)
#define ig_npy_load(path)           ig_npy_load_at(IG_SITE, path)
#define ig_npy_save(t, path)        ig_npy_save_at(IG_SITE, t, path)
#define ig_npy_read(bytes, n)       ig_npy_read_at(IG_SITE, bytes, n)
#define ig_npy_write(t, bytes_, n_) ig_npy_write_at(IG_SITE, t, bytes_, n_)

#ifdef __cplusplus
}
#endif
#endif
