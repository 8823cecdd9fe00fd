/* derive_loops.c - what derivatives of loops cost: a recurrent cell through a scan, elementwise and
 * with a matrix, and a while that goes on for as many trips as an argument says; the time of value
 * and gradient, and of the Hessian times a vector, compiled, over that of the function.  f32. */
#include "ingot/ingot.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RUNS = 9, LEAST_US = 400000, BATCH = 8, PORTS = 8 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static void check(ig_status s) {
    if (!s) return;
    puts(ig_status_text(s));
    exit(1);
}

/* --- The loops -------------------------------------------------------------------------------- */

static void elementwise(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *const *arg = user;
    out[0] = ig_tanh(ig_add(ig_mul(in[0], arg[2]), in[1]));
}

static void recurrent(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *const *arg = user;
    out[0] = ig_tanh(ig_add(ig_matmul(in[0], arg[2]), in[1]));
}

/* h, the steps' inputs, the factor -> a number */
static void scan(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *arg[3] = {in[0], in[1], in[2]}, *h;
    ig_scan(*(ig_body_fn *)user, arg, 1, in, 1, &in[1], 0, NULL, &h);
    out[0] = ig_sum(ig_square(h), IG_ALL_AXES);
}

static void is_early(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *const *arg = user;
    out[0] = ig_lt(in[1], arg[1]);
}

static void turn(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_sin(ig_mul(in[0], 1.01));
    out[1] = ig_add(in[1], 1);
}

/* h, how many trips -> a number */
static void trips(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *arg[2] = {in[0], in[1]}, *y[2], *init[2] = {in[0], ig_full(IG_i64, IG_SCALAR, 0)};
    (void)user;
    ig_while(is_early, turn, arg, 2, init, 0, y);
    out[0] = ig_sum(ig_square(y[0]), IG_ALL_AXES);
}

/* --- Their times ------------------------------------------------------------------------------ */

/* The least time of a run in us: of so many runs, and of as many as that time holds. */
static double measure(ig_module *m, int nin, ig_tensor *const *in) {
    ig_tensor *out[PORTS];
    double best = 1e12, begin = now();
    check(ig_module_compile(m, NULL));
    for (int r = 0; r < RUNS || now() - begin < LEAST_US; r++) {
        double start = now();
        IG_SCOPE { check(ig_module_run(m, nin, in, ig_module_get_info(m).nout, out)); }
        if (now() - start < best) best = now() - start;
    }
    return best;
}

static void report(const char *name, ig_trace_fn fn, void *user, int nin, ig_tensor *const *in,
                   int reals) {
    ig_module *f, *vgrad, *hvp;
    ig_tensor *more[2 * PORTS];
    for (int k = 0; k < nin + reals; k++) more[k] = in[k < nin ? k : k - nin];
    check(ig_trace(fn, user, nin, in, 1, NULL, &f));
    check(ig_value_and_grad(f, NULL, &vgrad));
    check(ig_hvp(f, NULL, &hvp));
    double t = measure(f, nin, in);
    printf("| %-36s | %9.1f us |", name, t);
    printf(" %5.1f |", measure(vgrad, nin, in) / t);
    printf(" %5.1f |\n", measure(hvp, nin + reals, more) / t);
    ig_module_free(hvp);
    ig_module_free(vgrad);
    ig_module_free(f);
}

static void report_scan(int steps, int width, ig_body_fn cell) {
    char name[64];
    bool matrix = cell == recurrent;
    ig_tensor *in[3] = {ig_full(IG_f32, IG_DIMS(BATCH, width), 0.1),
                        ig_full(IG_f32, IG_DIMS(steps, BATCH, width), 0.01),
                        matrix ? ig_full(IG_f32, IG_DIMS(width, width), 0.01)
                               : ig_full(IG_f32, IG_DIMS(BATCH, width), 0.9)};
    snprintf(name, sizeof name, "scan, %d steps of %d x %d%s", steps, BATCH, width,
             matrix ? ", matrix" : "");
    report(name, scan, &cell, 3, in, 3);
}

static void report_while(int n, int width) {
    char name[64];
    ig_tensor *in[2] = {ig_full(IG_f32, IG_DIMS(width), 0.3), ig_full(IG_i64, IG_SCALAR, n)};
    snprintf(name, sizeof name, "while, %d trips of %d", n, width);
    report(name, trips, NULL, 2, in, 1);
}

int main(void) {
    printf("| %-36s | %12s | %5s | %5s |\n", "loop", "time", "vgrad", "hvp");
    report_scan(10000, 1, elementwise);
    report_scan(1000, 64, elementwise);
    report_scan(1000, 16, recurrent);
    report_scan(1000, 64, recurrent);
    report_scan(200, 256, recurrent);
    report_while(10, 1);
    report_while(10, 1024);
    report_while(200, 1);
    report_while(200, 1024);
    return 0;
}
