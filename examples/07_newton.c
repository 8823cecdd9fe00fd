/* 07_newton.c - Newton's method, a loop that stops when its data say so: eager, traced, deployed.
 *
 *   newton
 *
 * Solves x^2 + y^2 = 4, x y = 1 in f64 from several starts.  The same C function runs eagerly,
 * inside of a trace, compiled, and as an object that is linked to nothing of ours; the four answers
 * have the same bits.  Needs `cc` to link the object. */
#include "ingot/ingot.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STARTS = 5, CAP = 50 };

typedef int run_fn(const void *const *in, void *const *out, const int64_t *dims, void *ws,
                   const ig_exec *exec);

/* --- The method ----------------------------------------------------------------------------- */

static ig_tensor *residual(ig_tensor *p) {
    ig_tensor *x = ig_slice(p, IG_AT(0)), *y = ig_slice(p, IG_AT(1));
    ig_tensor *circle = ig_sub(ig_add(ig_mul(x, x), ig_mul(y, y)), 4);
    return ig_stack(IG_LIST(circle, ig_sub(ig_mul(x, y), 1)), 0);
}

/* in[0]: the point; in[1]: turns so far. */
static void is_far(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_gt(ig_max(ig_abs(residual(in[0])), IG_ALL_AXES), 1e-13);
}

static void step(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *f = residual(in[0]);
    ig_tensor *x = ig_slice(in[0], IG_AT(0)), *y = ig_slice(in[0], IG_AT(1));
    ig_tensor *a = ig_mul(x, 2), *b = ig_mul(y, 2), *c = y, *d = x; /* the Jacobian */
    ig_tensor *u = ig_slice(f, IG_AT(0)), *v = ig_slice(f, IG_AT(1));
    ig_tensor *det = ig_sub(ig_mul(a, d), ig_mul(b, c));
    ig_tensor *dx = ig_div(ig_sub(ig_mul(u, d), ig_mul(v, b)), det);
    ig_tensor *dy = ig_div(ig_sub(ig_mul(a, v), ig_mul(c, u)), det);
    out[0] = ig_sub(in[0], ig_stack(IG_LIST(dx, dy), 0));
    out[1] = ig_add(in[1], 1);
}

static void newton(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *init[2] = {in[0], ig_scalar(IG_i64, 0)};
    ig_while(is_far, step, user, 2, init, CAP, out);
}

/* --- Deployed ------------------------------------------------------------------------------- */

/* Build the object, link it, open it; NULL after a message. */
static run_fn *deploy(ig_module *m) {
    char dir[] = "/tmp/ingot-newton-XXXXXX", object[64], library[64], command[256];
    run_fn *run = NULL;
    if (!mkdtemp(dir)) return NULL;
    snprintf(object, sizeof object, "%s/newton.o", dir);
    snprintf(library, sizeof library, "%s/newton.so", dir);
    snprintf(command, sizeof command, "cc -shared -nostdlib -o %s %s", library, object);
    ig_status s = ig_module_build(m, "newton", NULL, object);
    if (s) fprintf(stderr, "%s\n", ig_status_text(s));
    void *lib = !s && !system(command) ? dlopen(library, RTLD_NOW | RTLD_LOCAL) : NULL;
    void *sym = lib ? dlsym(lib, "newton_run") : NULL;
    memcpy(&run, &sym, sizeof sym);
    ig_status_free(s);
    remove(object);
    remove(library);
    rmdir(dir);
    return run;
}

/* The answer of the object for a start, as tensors. */
static bool run_deployed(run_fn *run, ig_tensor *start, ig_tensor **out) {
    static _Alignas(64) char workspace[1 << 16];
    double p[2];
    int64_t turns;
    const void *const in[] = {ig_data(start)};
    if (run(in, (void *const[]){p, &turns}, NULL, workspace, NULL)) return false;
    out[0] = ig_tensor_from(IG_f64, IG_DIMS(2), p);
    out[1] = ig_scalar(IG_i64, turns);
    return true;
}

/* --- The whole ------------------------------------------------------------------------------ */

/* The four answers for one start; whether they are the same. */
static bool compare(ig_module *traced, ig_module *compiled, run_fn *run, const double *start) {
    ig_tensor *p = ig_tensor_from(IG_f64, IG_DIMS(2), start), *want[2], *got[2];
    bool same = true;
    newton(NULL, &p, want);
    for (int way = 0; way < 3 && !ig_error(); way++) {
        ig_status s = way < 2 ? ig_module_run(way ? compiled : traced, 1, &p, 2, got) : NULL;
        if (s) return fprintf(stderr, "%s\n", ig_status_text(s)), ig_status_free(s), false;
        if (way == 2 && !run_deployed(run, p, got)) return false;
        same = same && ig_equal(want[0], got[0]) && ig_equal(want[1], got[1]);
    }
    if (ig_error()) return fprintf(stderr, "%s\n", ig_error_text()), false;
    const double *x = ig_data(want[0]);
    printf("from (%4.1f, %4.1f): (%.15f, %.15f) after %d turns, %s\n", start[0], start[1], x[0],
           x[1], (int)ig_item_i64(want[1]), same ? "same bits four ways" : "OTHER BITS");
    return same;
}

int main(void) {
    static const double starts[STARTS][2] = {
        {2, 0.3}, {-2, -0.1}, {0.1, 3}, {100, -50}, {1.5, 0.5}};
    ig_tensor *example = ig_tensor_from(IG_f64, IG_DIMS(2), starts[0]);
    ig_module *traced = NULL, *compiled = NULL;
    ig_status s = ig_trace(newton, NULL, 1, &example, 2, NULL, &traced);
    if (!s) s = ig_trace(newton, NULL, 1, &example, 2, NULL, &compiled);
    if (!s) s = ig_module_compile(compiled, NULL);
    if (s) fprintf(stderr, "%s\n", ig_status_text(s));
    run_fn *run = s ? NULL : deploy(compiled);
    bool ok = run != NULL;
    for (int k = 0; ok && k < STARTS; k++) IG_SCOPE ok = compare(traced, compiled, run, starts[k]);
    ig_status_free(s);
    ig_module_free(traced);
    ig_module_free(compiled);
    return ok ? 0 : 1;
}
