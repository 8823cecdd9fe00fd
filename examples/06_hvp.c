/* 06_hvp.c - gradient and Hessian times a vector of a recorded function: Newton's method without a
 * Hessian.
 *
 * The Rosenbrock function in eight variables is traced once; ig_value_and_grad and ig_hvp make two
 * modules of it, which are compiled.  Every step solves H s = -g by conjugate gradients, where H
 * appears only in products H v, each about as dear as a few gradients, and is halved until the
 * function falls.  At last the Hessian at the minimum is computed by both routes: forward over
 * backward and backward over backward. */
#include "ingot/ingot.h"
#include <math.h>
#include <stdio.h>

enum { N = 8 };

/* sum over i of 100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2 */
static void rosenbrock(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *x = ig_slice(in[0], IG_RANGE(0, N - 1)), *y = ig_slice(in[0], IG_RANGE(1, N));
    ig_tensor *bent = ig_sub(y, ig_square(x)), *far = ig_sub(1, x);
    out[0] = ig_sum(ig_add(ig_mul(100, ig_square(bent)), ig_square(far)), 0);
}

static double dot(ig_tensor *x, ig_tensor *y) { return ig_item_f64(ig_sum(ig_mul(x, y), 0)); }

static ig_status apply(ig_module *hvp, ig_tensor *x, ig_tensor *v, ig_tensor **hv_) {
    return ig_module_run(hvp, 2, (ig_tensor *[]){x, v}, 1, hv_);
}

/* s with H s = -g, by conjugate gradients: until the rest is small, or H bends the wrong way. */
static ig_status solve(ig_module *hvp, ig_tensor *x, ig_tensor *g, ig_tensor **s_, int *products) {
    ig_tensor *r = ig_neg(g), *p = r, *s = ig_zeros(IG_f64, IG_DIMS(N)), *hp;
    double rest = dot(r, r), enough = 1e-20 + 1e-8 * rest;
    for (int i = 0; i < 2 * N && rest > enough; i++) {
        ig_status e = apply(hvp, x, p, &hp);
        if (e) return e;
        ++*products;
        double curve = dot(p, hp);
        if (curve <= 0) {
            if (i == 0) s = p;
            break;
        }
        double a = rest / curve, before = rest;
        s = ig_add(s, ig_mul(a, p));
        r = ig_sub(r, ig_mul(a, hp));
        rest = dot(r, r);
        p = ig_add(r, ig_mul(rest / before, p));
    }
    *s_ = s;
    return NULL;
}

/* Newton steps from x; x becomes the minimum. */
static ig_status minimise(ig_module *vgrad, ig_module *hvp, ig_tensor *x) {
    ig_tensor *y[2], *next[2], *s, *to;
    int products = 0;
    ig_status e = ig_module_run(vgrad, 1, &x, 2, y);
    for (int step = 0; !e && step < 100; step++) {
        double slope = sqrt(dot(y[1], y[1]));
        printf("step %2d  f %.10f  |gradient| %.3e  products H v %3d\n", step, ig_item_f64(y[0]),
               slope, products);
        if (slope < 1e-9) break;
        if ((e = solve(hvp, x, y[1], &s, &products))) break;
        for (double part = 1; !e; part /= 2) {
            to = ig_add(x, ig_mul(part, s));
            e = ig_module_run(vgrad, 1, &to, 2, next);
            if (!e && ig_item_f64(next[0]) < ig_item_f64(y[0]) + 1e-4 * part * dot(y[1], s)) break;
            if (part < 1e-12) break;
        }
        ig_assign(x, to);
        y[0] = next[0];
        y[1] = next[1];
    }
    return e;
}

/* The largest difference of the Hessians by two routes. */
static ig_status compare_routes(ig_module *f, ig_tensor *x, double *worst_) {
    ig_module *forward = NULL, *grad = NULL, *backward = NULL;
    ig_tensor *h[2];
    ig_status e = ig_hessian(f, NULL, &forward);
    if (!e) e = ig_grad(f, NULL, &grad);
    if (!e) e = ig_jacrev(grad, NULL, &backward);
    if (!e) e = ig_module_run(forward, 1, &x, 1, &h[0]);
    if (!e) e = ig_module_run(backward, 1, &x, 1, &h[1]);
    if (!e) *worst_ = ig_item_f64(ig_max(ig_abs(ig_sub(h[0], h[1])), IG_ALL_AXES));
    if (!e)
        printf("row 0 of the Hessian there: %.3f %.3f %.3f ...\n",
               ig_item_f64(ig_slice(h[0], IG_AT(0), IG_AT(0))),
               ig_item_f64(ig_slice(h[0], IG_AT(0), IG_AT(1))),
               ig_item_f64(ig_slice(h[0], IG_AT(0), IG_AT(2))));
    ig_module_free(forward);
    ig_module_free(grad);
    ig_module_free(backward);
    return e;
}

int main(void) {
    double start[N], worst = INFINITY;
    for (int i = 0; i < N; i++) start[i] = i % 2 ? 1.5 : 0;
    ig_tensor *x = ig_tensor_from(IG_f64, IG_DIMS(N), start);
    ig_module *f = NULL, *vgrad = NULL, *hvp = NULL;
    ig_status e = ig_trace(rosenbrock, NULL, 1, &x, 1, NULL, &f);
    if (!e) e = ig_value_and_grad(f, NULL, &vgrad);
    if (!e) e = ig_hvp(f, NULL, &hvp);
    if (!e) e = ig_module_compile(vgrad, NULL);
    if (!e) e = ig_module_compile(hvp, NULL);
    if (!e) e = minimise(vgrad, hvp, x);
    if (!e) e = compare_routes(f, x, &worst);
    if (e) {
        puts(ig_status_text(e));
        ig_status_free(e);
        return 1;
    }
    double off = ig_item_f64(ig_max(ig_abs(ig_sub(x, 1)), 0));
    printf("farthest from (1, ..., 1): %.1e; Hessians by two routes differ by %.1e\n", off, worst);
    ig_module_free(f);
    ig_module_free(vgrad);
    ig_module_free(hvp);
    return !(off < 1e-9 && worst < 1e-9);
}
