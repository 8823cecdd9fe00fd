/* eager.h - for the tests of the public API: tensors from numbers, and what they should hold. */
#ifndef TESTS_EAGER_H
#define TESTS_EAGER_H
#include "ingot/ingot.h"
#include "tests/unit/suite.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(...) (sizeof((double[]){__VA_ARGS__}) / sizeof(double))

/* A tensor of any element type from numbers. */
static inline ig_tensor *eager_make(ig_dtype d, ig_dims dims, size_t n, const double *x) {
    ig_tensor *t = ig_cast(ig_tensor_from(IG_f64, dims, x), d);
    ck_assert_msg(!ig_is_poison(t) && (size_t)ig_numel(t) == n, "%s", ig_error_text());
    return t;
}
#define TENSOR(dtype, dims, ...) \
    eager_make(dtype, dims, COUNT(__VA_ARGS__), (double[]){__VA_ARGS__})
#define VECTOR(dtype, ...)                                                      \
    eager_make(dtype, IG_DIMS((int64_t)COUNT(__VA_ARGS__)), COUNT(__VA_ARGS__), \
               (double[]){__VA_ARGS__})

static inline void eager_want(int line, ig_tensor *t, ig_dtype d, ig_dims dims, size_t n,
                              const double *x, double tol) {
    ck_assert_msg(!ig_is_poison(t), "line %d: %s", line, ig_error_text());
    ck_assert_msg(ig_dtype_of(t) == d, "line %d: element type %s, not %s", line,
                  ig_dtype_name(ig_dtype_of(t)), ig_dtype_name(d));
    ig_dims have = ig_shape(t);
    bool same = have.n == dims.n;
    for (int i = 0; same && i < dims.n; i++) same = have.d[i] == dims.d[i];
    char *text = NULL;
    ck_assert_ptr_null(ig_text(t, &text));
    ck_assert_msg(same, "line %d: another shape (rank %d):\n%s", line, have.n, text);
    ck_assert_msg((size_t)ig_numel(t) == n, "line %d: %zu numbers are expected", line, n);
    ig_tensor *wide = ig_cast(t, IG_f64);
    const double *got = ig_data(wide);
    for (size_t i = 0; i < n; i++) {
        bool ok = isnan(x[i])   ? isnan(got[i])
                  : isinf(x[i]) ? got[i] == x[i]
                                : fabs(got[i] - x[i]) <= tol;
        if (x[i] == 0 && got[i] == 0 && signbit(x[i]) != signbit(got[i])) ok = false;
        ck_assert_msg(ok, "line %d: element %zu is %.9g, not %.9g:\n%s", line, i, got[i], x[i],
                      text);
    }
    ig_text_free(text);
}
#define WANT(t, dtype, dims, ...) \
    eager_want(__LINE__, t, dtype, dims, COUNT(__VA_ARGS__), (double[]){__VA_ARGS__}, 0)
#define WANT_NEAR(tol, t, dtype, dims, ...) \
    eager_want(__LINE__, t, dtype, dims, COUNT(__VA_ARGS__), (double[]){__VA_ARGS__}, tol)
#define WANT_EMPTY(t, dtype, dims) eager_want(__LINE__, t, dtype, dims, 0, (double[]){0}, 0)

/* The first error has this code and all these words; it is cleared. */
static inline void eager_want_error(int line, ig_code code, const char *const *word, size_t n) {
    ck_assert_msg(ig_error() != NULL, "line %d: an error is expected", line);
    ck_assert_msg(ig_status_code(ig_error()) == code, "line %d: code %d, not %d: %s", line,
                  (int)ig_status_code(ig_error()), (int)code, ig_error_text());
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(strstr(ig_error_text(), word[i]) != NULL, "line %d: `%s` is not in: %s", line,
                      word[i], ig_error_text());
    ig_error_clear();
}
#define WANT_ERROR(code, ...)                                       \
    eager_want_error(__LINE__, code, (const char *[]){__VA_ARGS__}, \
                     sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *))

/* A status is an error with these words; it is freed. */
static inline void eager_want_status(int line, ig_status s, ig_code code, const char *const *word,
                                     size_t n) {
    ck_assert_msg(s != NULL, "line %d: an error is expected", line);
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(strstr(ig_status_text(s), word[i]) != NULL, "line %d: `%s` is not in: %s",
                      line, word[i], ig_status_text(s));
    ck_assert_msg(ig_status_code(s) == code, "line %d: code %d, not %d: %s", line,
                  (int)ig_status_code(s), (int)code, ig_status_text(s));
    ig_status_free(s);
}
#define WANT_STATUS(s, code, ...)                                       \
    eager_want_status(__LINE__, s, code, (const char *[]){__VA_ARGS__}, \
                      sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *))

#define OK(s)                                                              \
    do {                                                                   \
        ig_status ok_ = (s);                                               \
        ck_assert_msg(!ok_, "line %d: %s", __LINE__, ig_status_text(ok_)); \
    } while (0)

/* Gradients of a number by the arguments in the set `which`, taken in a gradient scope, are within
 * tol of central differences of step h, at every stride-th element.  f64. */
static inline void eager_differences(ig_trace_fn fn, void *user, int n, ig_tensor *const *in,
                                     unsigned which, int64_t stride, double h, double tol) {
    ig_tensor *y;
    IG_GRAD_SCOPE {
        for (int k = 0; k < n; k++)
            if (which >> k & 1) ig_watch(in[k]);
        fn(user, in, &y);
        ig_backward(y);
    }
    for (int k = 0; k < n; k++)
        for (int64_t i = 0; which >> k & 1 && i < ig_numel(in[k]); i += stride) {
            ig_tensor *moved[16];
            double f[2];
            for (int s = 0; s < 2; s++) {
                ig_tensor *at = ig_cast(ig_eq(ig_arange(IG_i64, 0, ig_numel(in[k]), 1), i), IG_f64);
                memcpy(moved, in, (size_t)n * sizeof *in);
                moved[k] = ig_add(in[k], ig_reshape(ig_mul(at, s ? h : -h), ig_shape(in[k])));
                fn(user, moved, &y);
                f[s] = ig_item_f64(y);
            }
            double want = (f[1] - f[0]) / (2 * h);
            ig_tensor *grad = ig_grad_of(in[k]);
            double got = ((const double *)ig_data(grad))[i];
            ck_assert_msg(fabs(got - want) < tol, "argument %d, element %lld: %g, not %g", k,
                          (long long)i, got, want);
        }
}

/* An allocator whose n-th request fails, and which counts what is alive. */
typedef struct eager_oom {
    long at, fail;
    size_t live;
} eager_oom;

static inline void *eager_oom_resize(void *user, void *p, size_t old_size, size_t new_size,
                                     size_t align) {
    eager_oom *o = user;
    const ig_allocator *libc = ig_allocator_default();
    if (new_size && o->at++ == o->fail) return NULL;
    void *q = libc->resize(libc->user, p, old_size, new_size, align);
    if (!new_size || q) o->live += new_size - (p ? old_size : 0);
    return q;
}

/* Run eager code in a session whose n-th allocation fails, for every n (with `stride`): it
 * succeeds, or the error is about memory, and nothing leaks. */
static inline void eager_sweep(const char *name, ig_status (*body)(void), long stride) {
    long points = 0;
    for (long n = 0;; n += stride, points++) {
        eager_oom o = {.fail = n};
        ig_allocator a = {eager_oom_resize, &o};
        ig_session *s;
        ig_status e = ig_session_new(&(ig_session_options){.alloc = &a}, &s), kept = NULL;
        if (!e) {
            ig_session *before = ig_session_use(s);
            e = body();
            kept = ig_error_take();
            ig_session_free(s);
            ig_session_use(before);
        }
        bool reached = o.at > n, memory = true;
        if (e) memory = ig_status_code(e) == IG_MEMORY;
        if (kept) memory = memory && ig_status_code(kept) == IG_MEMORY;
        ck_assert_msg(memory && (reached || (!e && !kept)), "allocation %ld: %s, %s", n,
                      ig_status_text(e), ig_status_text(kept));
        ig_status_free(e);
        ig_status_free(kept);
        ck_assert_msg(!o.live, "%zu bytes leak when allocation %ld fails", o.live, n);
        if (!reached) break;
    }
    printf("%s: %ld allocation points\n", name, points);
    ck_assert(points > 10);
}

/* End of a test: no error was left, nothing is still alive. */
static inline void eager_end(void) {
    ck_assert_msg(!ig_error(), "%s", ig_error_text());
    ck_assert_uint_eq(ig_session_free(NULL), 0);
}

static inline int eager_main(Suite *s) { return suite_run(s); }

#endif
