/* eager_add.c - what one eager call costs: ns for adding two tensors of 8 elements, the result's
 * allocation and release and all checks included.  CPU time of the thread, so that other programs
 * do not count; the median of several runs. */
#include "ingot/ingot.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { RUNS = 15, CALLS = 200000 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_value(const void *x, const void *y) {
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static void measure(const char *what, ig_tensor *x, ig_tensor *y) {
    double ns[RUNS];
    for (int r = 0; r < RUNS; r++) {
        double start = now();
        for (int i = 0; i < CALLS; i++) ig_free(ig_add(x, y));
        ns[r] = (now() - start) / CALLS;
    }
    qsort(ns, RUNS, sizeof *ns, by_value);
    printf("%-30s %6.1f ns (best run %.1f)\n", what, ns[RUNS / 2], ns[0]);
}

int main(void) {
    static const float a[8] = {1, 2, 3, 4, 5, 6, 7, 8}, b[8] = {8, 7, 6, 5, 4, 3, 2, 1};
    ig_tensor *x = ig_keep(ig_tensor_from(IG_f32, IG_DIMS(8), a));
    ig_tensor *y = ig_keep(ig_tensor_from(IG_f32, IG_DIMS(8), b));
    ig_tensor *one = ig_keep(ig_scalar(IG_f32, 1));
    measure("add of 8 elements", x, y);
    measure("add of 8 elements and a scalar", x, one);
    if (ig_error()) printf("%s\n", ig_error_text());
    return ig_error() != NULL;
}
