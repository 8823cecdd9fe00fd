/* index.c - ops that read and write at positions, and order: milliseconds of an eager call and of
 * the same function compiled, the result's allocation included.  bench/peers/index.py prints the
 * same rows of numpy and torch. */
#include "ingot/ingot.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 7, MANY = 1 << 20 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int by_value(const void *x, const void *y) {
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

/* --- Rows ----------------------------------------------------------------------------------- */

static void gather(void *u, ig_tensor *const *in, ig_tensor **out) {
    (void)u;
    out[0] = ig_gather(in[0], in[1], 0);
}
static void embedding(void *u, ig_tensor *const *in, ig_tensor **out) {
    (void)u;
    out[0] = ig_embedding(in[0], in[1]);
}
static void scatter_add(void *u, ig_tensor *const *in, ig_tensor **out) {
    (void)u;
    out[0] = ig_scatter_add(in[0], in[1], in[2], 0);
}
static void sort(void *u, ig_tensor *const *in, ig_tensor **out) {
    (void)u;
    out[0] = ig_sort(in[0], -1);
}
static void argsort(void *u, ig_tensor *const *in, ig_tensor **out) {
    (void)u;
    out[0] = ig_argsort(in[0], -1);
}
static void topk(void *u, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *values;
    (void)u;
    ig_topk(in[0], 10, -1, &values, &out[0]);
}

static ig_tensor *normal(ig_dims dims) { return ig_keep(ig_normal(NULL, IG_f32, dims, 0, 1)); }
static ig_tensor *places(ig_dims dims, int64_t n) {
    return ig_keep(ig_randint(NULL, IG_i64, dims, 0, n));
}

/* --- Measuring ------------------------------------------------------------------------------ */

/* Median milliseconds of a call: eager where m is NULL. */
static double measure(ig_body_fn f, ig_module *m, int nin, ig_tensor *const *in) {
    double ms[ROUNDS];
    for (int r = -1; r < ROUNDS; r++) {
        ig_tensor *out = NULL;
        double start = now();
        IG_SCOPE {
            if (!m)
                f(NULL, in, &out);
            else
                ig_status_free(ig_module_run(m, nin, in, 1, &out));
        }
        if (r >= 0) ms[r] = now() - start;
    }
    qsort(ms, ROUNDS, sizeof *ms, by_value);
    return ms[ROUNDS / 2];
}

static void row(const char *name, ig_body_fn f, int nin, ig_tensor *const *in) {
    ig_module *m = NULL;
    double eager = measure(f, NULL, nin, in);
    ig_status s = ig_trace(f, NULL, nin, in, 1, NULL, &m);
    if (!s) s = ig_module_compile(m, NULL);
    double compiled = s ? 0 : measure(f, m, nin, in);
    printf("%-32s %9.3f %9.3f\n", name, eager, compiled);
    fflush(stdout);
    if (s) printf("%s\n", ig_status_text(s));
    ig_status_free(s);
    ig_module_free(m);
}
#define ROW(name, f, ...)                                \
    do {                                                 \
        ig_tensor *in[] = {__VA_ARGS__};                 \
        row(name, f, (int)(sizeof in / sizeof *in), in); \
    } while (0)

int main(void) {
    ig_tensor *x = normal(IG_DIMS(MANY)), *at = places(IG_DIMS(MANY), MANY);
    ig_tensor *table = normal(IG_DIMS(50000, 128)), *words = places(IG_DIMS(512), 50000);
    ig_tensor *lines = normal(IG_DIMS(1024, 1024)), *few = places(IG_DIMS(MANY), 1000);
    ig_tensor *u = normal(IG_DIMS(512, 128));
    printf("%-32s %9s %9s\n", "ms", "eager", "compiled");
    ROW("gather 1M of 1M", gather, x, at);
    ROW("embedding 512 of 50000x128", embedding, table, words);
    ROW("scatter add 1M to 1M", scatter_add, x, at, x);
    ROW("scatter add 1M to 1000 of 1M", scatter_add, x, few, x);
    ROW("scatter add 512 to 50000x128", scatter_add, table, words, u);
    ROW("sort 1M", sort, x);
    ROW("argsort 1M", argsort, x);
    ROW("sort 1024x1024", sort, lines);
    ROW("top 10 of 1M", topk, x);
    if (ig_error()) printf("%s\n", ig_error_text());
    return ig_error() != NULL;
}
