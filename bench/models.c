/* models.c - rows of models and derivatives (README.md): each is traced, derived by the passes,
 * compiled, and run as a module on handles, as a program would train it.  The numbers are those of
 * bench_floats, so that peers take as many trips.  Protocol: contender.h.  Public headers only. */
#include "bench/contender.h"
#include "ingot/ingot.h"

enum { MOST = 16, LAYERS = 4 };

typedef enum derive { VALUE, GRAD, JVP, HVP } derive;

typedef struct model {
    ig_module *m;
    int nin, nout;
    ig_tensor *in[2 * MOST];
} model;

static void check(ig_status s) {
    if (!s && !ig_error()) return;
    fprintf(stderr, "models: %s\n", s ? ig_status_text(s) : ig_error_text());
    exit(1);
}

/* A tensor of bench_floats times scale. */
static ig_tensor *floats(ig_dims d, double scale) {
    int64_t n = 1;
    for (int i = 0; i < d.n; i++) n *= d.d[i];
    float *p = bench_floats(n);
    ig_tensor *t = ig_keep(ig_mul(ig_tensor_from(IG_f32, d, p), scale));
    free(p);
    return t;
}

/* --- The models: what they compute, and their arguments --------------------------------------- */

/* x[b,w], four matrices -> mean of the squares */
static void mlp(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *h = in[0];
    for (int k = 1; k <= LAYERS; k++) h = ig_tanh(ig_matmul(h, in[k]));
    out[0] = ig_mean(ig_square(h), IG_ALL_AXES);
}

static int mlp_arguments(const int64_t *n, ig_tensor **in) {
    in[0] = floats(IG_DIMS(n[0], n[1]), 1);
    for (int k = 1; k <= LAYERS; k++) in[k] = floats(IG_DIMS(n[1], n[1]), 0.07);
    return 1 + LAYERS;
}

/* x, w, u, b -> mean of the squares of h of all steps */
static void lstm(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *got[3];
    (void)user;
    ig_lstm(in[0], in[1], in[2], in[3], NULL, NULL, false, got);
    out[0] = ig_mean(ig_square(got[0]), IG_ALL_AXES);
}

static int lstm_arguments(const int64_t *n, ig_tensor **in) {
    in[0] = floats(IG_DIMS(n[0], n[1], n[2]), 1);
    in[1] = floats(IG_DIMS(n[2], 4 * n[2]), 0.09);
    in[2] = floats(IG_DIMS(n[2], 4 * n[2]), 0.09);
    in[3] = floats(IG_DIMS(4 * n[2]), 0.09);
    return 4;
}

/* The fixed point of x = tanh(x w + b): as long as an element moves by more than 1e-5. */
static void solver_moves(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_gt(ig_max(ig_abs(ig_sub(in[0], in[1])), IG_ALL_AXES), 1e-5);
}

static void solver_turn(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *const *arg = user;
    out[0] = ig_tanh(ig_add(ig_matmul(in[0], arg[0]), arg[1]));
    out[1] = in[0];
}

/* w, b -> sum of the squares of the fixed point */
static void solver(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *arg[2] = {in[0], in[1]}, *x[2];
    ig_tensor *init[2] = {ig_zeros_like(in[1]), ig_ones(IG_f32, ig_shape(in[1]))};
    (void)user;
    ig_while(solver_moves, solver_turn, arg, 2, init, 0, x);
    out[0] = ig_sum(ig_square(x[0]), IG_ALL_AXES);
}

static int solver_arguments(const int64_t *n, ig_tensor **in) {
    in[0] = floats(IG_DIMS(n[1], n[1]), 0.06);
    in[1] = floats(IG_DIMS(n[0], n[1]), 1);
    return 2;
}

/* q, k, v -> attention; mean of its squares for a gradient */
static void attention(void *user, ig_tensor *const *in, ig_tensor **out) {
    out[0] = ig_attention(in[0], in[1], in[2], &(ig_attention_options){.causal = *(bool *)user});
}

static void attention_loss(void *user, ig_tensor *const *in, ig_tensor **out) {
    attention(user, in, out);
    out[0] = ig_mean(ig_square(out[0]), IG_ALL_AXES);
}

static int attention_arguments(const int64_t *n, ig_tensor **in) {
    for (int k = 0; k < 3; k++) in[k] = floats(IG_DIMS(n[0], n[1], n[2]), 1 + k);
    return 3;
}

/* A step of a selective state space; in: h[c,s]; x[c], dt[c], b[s], c[s]. */
static void ssm_step(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *a = user, *dt = ig_expand_dims(in[2], 1);
    ig_tensor *u = ig_mul(ig_expand_dims(ig_mul(in[2], in[1]), 1), in[3]);
    out[0] = ig_add(ig_mul(ig_exp(ig_mul(dt, a)), in[0]), u);
    out[1] = ig_sum(ig_mul(out[0], in[4]), 1);
}

/* x, dt, b, c, a, h -> h, all results */
static void ssm(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_scan(ssm_step, in[4], 1, &in[5], 4, in, 1, NULL, out);
}

static int ssm_arguments(const int64_t *n, ig_tensor **in) {
    in[0] = floats(IG_DIMS(n[0], n[1]), 1);
    in[1] = ig_keep(ig_abs(floats(IG_DIMS(n[0], n[1]), 0.1)));
    in[2] = floats(IG_DIMS(n[0], n[2]), 1);
    in[3] = floats(IG_DIMS(n[0], n[2]), 1);
    in[4] = ig_keep(ig_neg(ig_abs(floats(IG_DIMS(n[1], n[2]), 1))));
    in[5] = ig_keep(ig_zeros(IG_f32, IG_DIMS(n[1], n[2])));
    return 6;
}

/* --- Rows ------------------------------------------------------------------------------------- */

static bool yes = true, no = false;
static const struct row {
    const char *name;
    ig_trace_fn fn;
    void *user;
    int (*arguments)(const int64_t *n, ig_tensor **in);
    derive derive;
    const char *wrt; /* arguments from..: */
    int from, wrts, nout;
} rows[] = {
    {"hvp", mlp, NULL, mlp_arguments, HVP, "1,2,3,4", 1, 4, 1},
    {"lstm", lstm, NULL, lstm_arguments, VALUE, NULL, 0, 0, 1},
    {"lstm_grad", lstm, NULL, lstm_arguments, GRAD, "1,2,3", 1, 3, 1},
    {"lstm_hvp", lstm, NULL, lstm_arguments, HVP, "1,2,3", 1, 3, 1},
    {"solver", solver, NULL, solver_arguments, VALUE, NULL, 0, 0, 1},
    {"solver_jvp", solver, NULL, solver_arguments, JVP, "0,1", 0, 2, 1},
    {"solver_grad", solver, NULL, solver_arguments, GRAD, "0,1", 0, 2, 1},
    {"attention", attention, &no, attention_arguments, VALUE, NULL, 0, 0, 1},
    {"attention_causal", attention, &yes, attention_arguments, VALUE, NULL, 0, 0, 1},
    {"attention_grad", attention_loss, &no, attention_arguments, GRAD, "0,1,2", 0, 3, 1},
    {"ssm", ssm, NULL, ssm_arguments, VALUE, NULL, 0, 0, 2},
};

/* Trace and derive; directions are the arguments themselves. */
static void model_new(model *m, const struct row *r, const int64_t *n) {
    static ig_status (*const make[])(const ig_module *, const char *, ig_module **) = {
        [GRAD] = ig_value_and_grad, [JVP] = ig_jvp, [HVP] = ig_hvp};
    ig_module *f;
    m->nin = r->arguments(n, m->in);
    check(ig_trace(r->fn, r->user, m->nin, m->in, r->nout, &(ig_trace_options){.name = "f"}, &f));
    m->m = f;
    if (r->derive != VALUE) check(make[r->derive](f, r->wrt, &m->m));
    for (int k = 0; r->derive >= JVP && k < r->wrts; k++) m->in[m->nin++] = m->in[r->from + k];
    m->nout = ig_module_get_info(m->m).nout;
    check(ig_module_compile(m->m, NULL));
    printf("info isa %s\n", ig_module_get_info(m->m).level);
}

static void model_run(void *user) {
    model *m = user;
    IG_SCOPE {
        ig_tensor *out[MOST];
        check(ig_module_run(m->m, m->nin, m->in, m->nout, out));
    }
}

int main(int argc, char **argv) {
    bench_row row = bench_parse(argc, argv);
    model m = {0};
    check(ig_threads(&(ig_thread_options){.count = bench_threads()}));
    printf("info version %s\n", ig_version());
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!bench_is(&row, rows[i].name)) continue;
        model_new(&m, &rows[i], row.n);
        return bench_run(model_run, &m);
    }
    return BENCH_SKIP;
}
