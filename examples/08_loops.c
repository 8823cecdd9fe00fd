/* 08_loops.c - derivatives through loops whose course depends on the data.
 *
 * First a program of two loops: six steps of a recurrence, then one that goes on until a number is
 * reached, as often as its argument says.  Its value, gradient and Hessian at a point are printed,
 * the Hessian by both routes: forward over backward and backward over backward.
 *
 * Then a solver: Kepler's equation E - e sin E = M by Newton's method, which takes as many steps as
 * it needs.  Its derivative by M and e goes through these steps, for many planets at once, each of
 * which takes steps of its own; what the implicit function theorem says stands beside. */
#include "ingot/ingot.h"
#include <math.h>
#include <stdio.h>

#define TRY(call) \
    if ((e = (call))) goto done

/* --- A recurrence, then growth until 20 ------------------------------------------------------- */

typedef struct point {
    ig_tensor *x, *w;
} point;

static void step(void *user, ig_tensor *const *in, ig_tensor **out) {
    const point *p = user;
    out[0] = ig_sin(ig_add(ig_mul(p->w, in[0]), p->x));
}

static void is_small(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_lt(in[0], 20);
}

static void grow(void *user, ig_tensor *const *in, ig_tensor **out) {
    const point *p = user;
    out[0] = ig_add(ig_add(ig_mul(in[0], p->w), ig_sin(in[0])), p->x);
}

static void two_loops(void *user, ig_tensor *const *in, ig_tensor **out) {
    point p = {in[0], in[1]};
    ig_tensor *h, *z;
    (void)user;
    ig_scan(step, &p, 1, in, 0, NULL, 0, &(ig_scan_options){.steps = 6}, &h);
    ig_while(is_small, grow, &p, 1, &h, 100, &z);
    out[0] = ig_mul(z, h);
}

static ig_status show_hessian(const char *name, ig_module *h, ig_tensor *const *at) {
    ig_tensor *y[4];
    ig_status e = ig_module_run(h, 2, at, 4, y);
    if (!e)
        printf("%s ((%.8f, %.8f), (%.8f, %.8f))\n", name, ig_item_f64(y[0]), ig_item_f64(y[1]),
               ig_item_f64(y[2]), ig_item_f64(y[3]));
    return e;
}

static ig_status show_two_loops(void) {
    ig_module *f = NULL, *vgrad = NULL, *grad = NULL, *forward = NULL, *backward = NULL;
    ig_tensor *at[2] = {ig_full(IG_f64, IG_SCALAR, 1.1), ig_full(IG_f64, IG_SCALAR, 1.4)}, *y[3];
    ig_status e;
    TRY(ig_trace(two_loops, NULL, 2, at, 1, &(ig_trace_options){.name = "two_loops"}, &f));
    TRY(ig_value_and_grad(f, NULL, &vgrad));
    TRY(ig_module_compile(vgrad, NULL));
    TRY(ig_module_run(vgrad, 2, at, 3, y));
    printf("f        %.8f\ngradient (%.8f, %.8f)\n", ig_item_f64(y[0]), ig_item_f64(y[1]),
           ig_item_f64(y[2]));
    TRY(ig_grad(f, NULL, &grad));
    TRY(ig_jacfwd(grad, NULL, &forward));
    TRY(ig_jacrev(grad, NULL, &backward));
    TRY(ig_module_compile(forward, NULL));
    TRY(ig_module_compile(backward, NULL));
    TRY(show_hessian("Hessian, forward over backward ", forward, at));
    TRY(show_hessian("Hessian, backward over backward", backward, at));
done:
    ig_module_free(backward);
    ig_module_free(forward);
    ig_module_free(grad);
    ig_module_free(vgrad);
    ig_module_free(f);
    return e;
}

/* --- Kepler's equation ------------------------------------------------------------------------ */

typedef struct orbit {
    ig_tensor *mean, *e; /* mean anomaly and eccentricity */
} orbit;

/* E, the last change of it, the number of steps */
static void is_moving(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_lt(1e-9, ig_abs(in[1]));
}

static void newton(void *user, ig_tensor *const *in, ig_tensor **out) {
    const orbit *o = user;
    ig_tensor *miss = ig_sub(ig_sub(in[0], ig_mul(o->e, ig_sin(in[0]))), o->mean);
    ig_tensor *slope = ig_sub(1, ig_mul(o->e, ig_cos(in[0])));
    out[1] = ig_div(miss, slope);
    out[0] = ig_sub(in[0], out[1]);
    out[2] = ig_add(in[2], 1);
}

static void kepler(void *user, ig_tensor *const *in, ig_tensor **out) {
    orbit o = {in[0], in[1]};
    ig_tensor *y[3],
        *start[3] = {in[0], ig_full(IG_f64, IG_SCALAR, 1), ig_full(IG_i64, IG_SCALAR, 0)};
    (void)user;
    ig_while(is_moving, newton, &o, 3, start, 50, y);
    out[0] = y[0];
    out[1] = y[2];
}

static ig_status show_kepler(void) {
    static const double mean[] = {0.1, 0.7, 1.5, 3.0}, ecc[] = {0.97, 0.8, 0.2, 0.05};
    ig_module *f = NULL, *vgrad = NULL, *all = NULL;
    ig_tensor *one[2] = {ig_full(IG_f64, IG_SCALAR, 0.7), ig_full(IG_f64, IG_SCALAR, 0.8)};
    ig_tensor *in[2] = {ig_tensor_from(IG_f64, IG_DIMS(4), mean),
                        ig_tensor_from(IG_f64, IG_DIMS(4), ecc)},
              *y[4];
    double worst = 0;
    ig_status e;
    TRY(ig_trace(kepler, NULL, 2, one, 2, &(ig_trace_options){.name = "kepler"}, &f));
    TRY(ig_value_and_grad(f, NULL, &vgrad));
    TRY(ig_vmap(vgrad, "4", NULL, NULL, &all));
    TRY(ig_module_compile(all, NULL));
    TRY(ig_module_run(all, 2, in, 4, y));
    for (int i = 0; i < 4; i++) {
        double big = ig_item_f64(ig_slice(y[0], IG_AT(i)));
        double by_m = ig_item_f64(ig_slice(y[2], IG_AT(i)));
        double by_e = ig_item_f64(ig_slice(y[3], IG_AT(i)));
        double slope = 1 - ecc[i] * cos(big);
        printf("M %.2f  e %.2f  E %.10f  steps %2d  dE/dM %.10f  dE/de %.10f\n", mean[i], ecc[i],
               big, (int)ig_item_i64(ig_slice(y[1], IG_AT(i))), by_m, by_e);
        worst = fmax(worst, fabs(by_m - 1 / slope));
        worst = fmax(worst, fabs(by_e - sin(big) / slope));
    }
    printf("the implicit function theorem %s\n", worst < 1e-12 ? "agrees" : "differs");
done:
    ig_module_free(all);
    ig_module_free(vgrad);
    ig_module_free(f);
    return e;
}

int main(void) {
    ig_status e = show_two_loops();
    if (!e) e = show_kepler();
    if (e) fprintf(stderr, "%s\n", ig_status_text(e));
    return ig_status_free(e), e != NULL;
}
