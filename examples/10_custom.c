/* 10_custom.c - an op that is a C function, with its derivative: the positive root of y + y^3 = x,
 * which no other op computes; an assertion about its argument; a line printed from compiled code.
 *
 *   cc 10_custom.c -lingot && ./a.out */
#include "ingot/ingot.h"
#include <math.h>
#include <stdio.h>

/* Newton's method, element by element. */
static int32_t root(const ig_custom_args *a) {
    const double *x = a->in[0].data;
    double *y = a->out[0].data;
    int64_t n = 1;
    for (int k = 0; k < a->in[0].rank; k++) n *= a->in[0].dim[k];
    for (int64_t i = 0; i < n; i++) {
        y[i] = cbrt(x[i]);
        for (int k = 0; k < 50; k++)
            y[i] -= (y[i] + y[i] * y[i] * y[i] - x[i]) / (1 + 3 * y[i] * y[i]);
    }
    return 0;
}

/* y + y^3 = x, so y' (1 + 3 y^2) = x': both modes, to any order. */
static void root_lin(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *y = in[1], *dx = in[2];
    out[0] = ig_div(dx, ig_add(1.0, ig_mul(3.0, ig_mul(y, y))));
}

static ig_custom root_op = {.fn = root,
                            .name = "cubic_root",
                            .version = 1,
                            .type = "f64[...] -> f64[...]",
                            .flags = IG_CUSTOM_LANES,
                            .lin = root_lin};

static void energy(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_check_values(ig_le(0.0, in[0]), "a root of {} is asked for", in[0]);
    ig_tensor *y = ig_custom1(&root_op, in[0]);
    ig_debug_print("roots {}", y);
    out[0] = ig_sum(ig_mul(y, y), IG_ALL_AXES);
}

static int failed(ig_status s) {
    if (s) fprintf(stderr, "%s\n", ig_status_text(s));
    ig_status_free(s);
    return s != NULL;
}

int main(void) {
    ig_tensor *x = ig_tensor_from(IG_f64, IG_DIMS(3), ((double[]){2, 10, 30})), *e, *g, *h;
    ig_tensor *bad = ig_neg(x), *in[2] = {x, ig_ones(IG_f64, IG_DIMS(3))};
    ig_module *m, *grad, *hvp;
    ig_trace_options once = {.flags = IG_TRACE_ONCE};
    if (failed(ig_trace(energy, NULL, 1, &x, 1, &once, &m))) return 1;
    if (failed(ig_grad(m, NULL, &grad)) || failed(ig_hvp(m, NULL, &hvp))) return 1;
    if (failed(ig_module_compile(m, NULL)) || failed(ig_module_compile(grad, NULL))) return 1;
    if (failed(ig_module_run(m, 1, &x, 1, &e)) || failed(ig_module_run(grad, 1, &x, 1, &g)))
        return 1;
    if (failed(ig_module_run(hvp, 2, in, 1, &h))) return 1;
    ig_print(e);
    ig_print(g);
    ig_print(h);
    ig_status s = ig_module_run(m, 1, &bad, 1, &e);
    printf("%s at line %d\n", s ? "refused" : "not noticed", ig_status_line(s));
    ig_status_free(s);
    ig_module_free(hvp);
    ig_module_free(grad);
    ig_module_free(m);
    return 0;
}
