/* derive.c - what derivatives by the weights cost: four equal layers of 512 with batch 64, f32, one
 * thread; the time of jvp, vjp, gradient and Hessian times a vector, compiled, over that of the
 * function, and beside it the same ratio of the contractions, all equally large: what arithmetic
 * alone would cost. */
#include "ingot/ingot.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RUNS = 9, WIDTH = 512, BATCH = 64, LAYERS = 4 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int by_value(const void *x, const void *y) {
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

/* in[0] is the batch, in[1..4] the layers. */
static void layers(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *h = in[0];
    for (int k = 1; k <= LAYERS; k++) h = ig_tanh(ig_matmul(h, in[k]));
    out[0] = ig_mean(ig_square(h), IG_ALL_AXES);
}

/* The median time of a run in ms. */
static double measure(ig_module *m, int nin, ig_tensor *const *in) {
    double ms[RUNS];
    ig_tensor *out[16];
    int nout = ig_module_get_info(m).nout;
    ig_module_set_exec(m, NULL);
    ig_status s = ig_module_compile(m, NULL);
    for (int r = 0; r < RUNS && !s; r++) {
        double start = now();
        IG_SCOPE { s = ig_module_run(m, nin, in, nout, out); }
        ms[r] = now() - start;
    }
    if (s) {
        puts(ig_status_text(s));
        exit(1);
    }
    qsort(ms, RUNS, sizeof *ms, by_value);
    return ms[RUNS / 2];
}

/* How many contractions a module has. */
static int contractions(const ig_module *m) {
    char *text;
    int n = 0;
    ig_status s = ig_module_text(m, &text);
    if (s) {
        puts(ig_status_text(s));
        exit(1);
    }
    for (const char *at = text; (at = strstr(at, " = ein ")); at++) n++;
    ig_text_free(text);
    return n;
}

int main(void) {
    static const struct {
        const char *name;
        ig_status (*make)(const ig_module *m, const char *wrt, ig_module **out_);
        bool along; /* takes directions of the weights */
        bool from;  /* takes a cotangent */
    } rows[] = {{"jvp", ig_jvp, true, false},
                {"vjp", ig_vjp, false, true},
                {"grad", ig_grad, false, false},
                {"hvp", ig_hvp, true, false}};
    ig_tensor *in[2 * LAYERS + 1], *one = ig_keep(ig_scalar(IG_f32, 1));
    ig_module *f = NULL, *d = NULL;
    for (int k = 0; k < 2 * LAYERS + 1; k++)
        in[k] = ig_keep(ig_normal(NULL, IG_f32, IG_DIMS(k ? WIDTH : BATCH, WIDTH), 0, 0.04));
    ig_status s = ig_trace(layers, NULL, LAYERS + 1, in, 1, NULL, &f);
    double base = s ? 1 : measure(f, LAYERS + 1, in);
    printf("%-8s %8.3f ms\n", "f", base);
    for (size_t i = 0; i < sizeof rows / sizeof *rows && !s; i++) {
        ig_tensor *all[2 * LAYERS + 1];
        memcpy(all, in, sizeof all);
        if (rows[i].from) all[LAYERS + 1] = one;
        if ((s = rows[i].make(f, "1,2,3,4", &d))) break;
        double ms = measure(d, LAYERS + 1 + (rows[i].along ? LAYERS : rows[i].from), all);
        printf("%-8s %8.3f ms  %5.2f x f   (contractions: %.2f x)\n", rows[i].name, ms, ms / base,
               (double)contractions(d) / contractions(f));
        ig_module_free(d);
    }
    if (s) puts(ig_status_text(s));
    ig_module_free(f);
    return s != NULL;
}
