/* train.c - a training step of 784-512-512-10 (relu, cross-entropy, Adam) as one compiled module:
 * the row train:BATCH of bench/run.py (protocol: contender.h).
 *
 * Beside the time of a step it says what the eight matrix products in it take alone, how many
 * kernels are launched, what is left when the time of all kernels is subtracted (handles, pointers,
 * results; caches are cold after the kernels), and what a step takes whose kernels are not run. */
#include "bench/contender.h"
#include "ingot/ingot.h"

enum { LAYERS = 3, PARAMS = 2 * LAYERS };
static const int64_t wide[LAYERS + 1] = {784, 512, 512, 10};

typedef struct net {
    ig_tensor *p[PARAMS], *in[2];
    ig_optimizer *adam;
    ig_module *step;
} net;

static void check(ig_status s) {
    if (!s && !ig_error()) return;
    fprintf(stderr, "train: %s\n", s ? ig_status_text(s) : ig_error_text());
    exit(1);
}

static void step(void *user, ig_tensor *const *in, ig_tensor **out) {
    net *n = user;
    IG_GRAD_SCOPE {
        ig_optimizer_watch(n->adam);
        ig_tensor *h = in[0];
        for (int k = 0; k < LAYERS; k++) {
            h = ig_linear(h, n->p[2 * k], n->p[2 * k + 1]);
            if (k + 1 < LAYERS) h = ig_relu(h);
        }
        out[0] = ig_cross_entropy(h, in[1]);
        ig_backward(out[0]);
    }
    ig_optimizer_step(n->adam, 0.001);
}

static void net_new(net *n, int64_t batch) {
    static char name[PARAMS][8];
    ig_tensor *rng = ig_rng(1);
    for (int k = 0; k < PARAMS; k++) {
        ig_dims w = IG_DIMS(wide[k / 2], wide[k / 2 + 1]), b = IG_DIMS(wide[k / 2 + 1]);
        snprintf(name[k], sizeof *name, "%c%d", k % 2 ? 'b' : 'w', k / 2);
        ig_tensor *t = k % 2 ? ig_zeros(IG_f32, b) : ig_weights(IG_HE_NORMAL, rng, IG_f32, w);
        n->p[k] = ig_keep(ig_name(t, name[k]));
    }
    n->in[0] = ig_keep(ig_uniform(rng, IG_f32, IG_DIMS(batch, wide[0]), 0, 1));
    n->in[1] = ig_keep(ig_randint(rng, IG_i64, IG_DIMS(batch), 0, wide[LAYERS]));
    check(ig_optimizer_new(((ig_list){PARAMS, n->p}), &(ig_optimizer_options){.update = IG_ADAM},
                           &n->adam));
}

static void run_eager(void *user) {
    net *n = user;
    IG_SCOPE {
        ig_tensor *loss;
        step(n, n->in, &loss);
    }
    check(NULL);
}

static void run_step(void *user) {
    net *n = user;
    IG_SCOPE {
        ig_tensor *loss;
        check(ig_module_run(n->step, 2, n->in, 1, &loss));
    }
}

/* The products of a step: in[0] x, in[1..3] weights, in[4..6] what comes back to each layer's sums;
 * forward, by weights, and by what goes into all layers but the first. */
static void products(void *user, ig_tensor *const *in, ig_tensor **out) {
    const ig_tensor *h[LAYERS] = {in[0], in[5 - 1], in[6 - 1]};
    (void)user;
    for (int k = 0; k < LAYERS; k++) {
        out[k] = ig_matmul(h[k], in[1 + k]);
        out[LAYERS + k] = ig_matmul(ig_transpose(h[k], IG_AXES(1, 0)), in[4 + k]);
        if (k)
            out[2 * LAYERS - 1 + k] = ig_matmul(in[4 + k], ig_transpose(in[1 + k], IG_AXES(1, 0)));
    }
}

typedef struct gemms {
    ig_module *m;
    ig_tensor *in[1 + 2 * LAYERS];
} gemms;

static void run_gemms(void *user) {
    gemms *g = user;
    IG_SCOPE {
        ig_tensor *out[3 * LAYERS - 1];
        check(ig_module_run(g->m, 1 + 2 * LAYERS, g->in, 3 * LAYERS - 1, out));
    }
}

/* The best time of a few runs. */
static double best_of(void (*fn)(void *), void *user) {
    double best = 1e9;
    for (int k = 0; k < 200; k++) {
        double t = bench_now();
        fn(user);
        t = bench_now() - t;
        if (t < best) best = t;
    }
    return best;
}

static double gemm_seconds(int64_t batch) {
    gemms g = {0};
    g.in[0] = ig_normal(NULL, IG_f32, IG_DIMS(batch, wide[0]), 0, 1);
    for (int k = 0; k < LAYERS; k++) {
        g.in[1 + k] = ig_normal(NULL, IG_f32, IG_DIMS(wide[k], wide[k + 1]), 0, 1);
        g.in[4 + k] = ig_normal(NULL, IG_f32, IG_DIMS(batch, wide[k + 1]), 0, 1);
    }
    check(ig_trace(products, NULL, 1 + 2 * LAYERS, g.in, 3 * LAYERS - 1, NULL, &g.m));
    check(ig_module_compile(g.m, NULL));
    double s = best_of(run_gemms, &g);
    ig_module_free(g.m);
    return s;
}

/* An executor that runs kernels serially and adds up their time, with that of one clock reading. */
static double in_kernels;
static int launches;

static void timed_run(const ig_exec *self, ig_kernel kernel, void *const *bufs, const int64_t *dims,
                      int64_t n, int64_t ps) {
    double t = bench_now();
    (void)self, (void)ps;
    kernel(bufs, dims, 0, n);
    in_kernels += bench_now() - t;
    launches++;
}

/* A launch reads the clock twice, of which one reading is not in the kernels' time. */
static double overhead_seconds(net *n) {
    static const ig_exec timed = {timed_run};
    double least = 1e9, clock = bench_now();
    for (int k = 0; k < 10000; k++) bench_now();
    clock = (bench_now() - clock) / 10001;
    ig_module_set_exec(n->step, &timed);
    for (int k = 0; k < 200; k++) {
        in_kernels = 0;
        launches = 0;
        double t = bench_now();
        run_step(n);
        t = bench_now() - t - in_kernels - launches * clock;
        if (t < least) least = t;
    }
    ig_module_set_exec(n->step, ig_pool_exec());
    return least;
}

static void no_run(const ig_exec *self, ig_kernel kernel, void *const *bufs, const int64_t *dims,
                   int64_t n, int64_t ps) {
    (void)self, (void)kernel, (void)bufs, (void)dims, (void)n, (void)ps;
}

/* A step without its kernels. */
static double host_seconds(net *n) {
    static const ig_exec none = {no_run};
    ig_module_set_exec(n->step, &none);
    double s = best_of(run_step, n);
    ig_module_set_exec(n->step, ig_pool_exec());
    return s;
}

int main(int argc, char **argv) {
    bench_row row = bench_parse(argc, argv);
    net n;
    if (!bench_is(&row, "train") && !bench_is(&row, "train_eager")) return BENCH_SKIP;
    check(ig_threads(&(ig_thread_options){.count = bench_threads()}));
    net_new(&n, row.n[0]);
    printf("info version %s\n", ig_version());
    if (bench_is(&row, "train_eager")) return bench_run(run_eager, &n);
    check(ig_trace(step, &n, 2, n.in, 1, &(ig_trace_options){.name = "step"}, &n.step));
    check(ig_module_compile(n.step, NULL));
    printf("info isa %s\n", ig_module_get_info(n.step).level);
    int code = bench_run(run_step, &n);
    printf("info gemm_us %.1f\n", 1e6 * gemm_seconds(row.n[0]));
    printf("info step_us %.1f\n", 1e6 * best_of(run_step, &n));
    printf("info overhead_us %.2f\n", 1e6 * overhead_seconds(&n));
    printf("info launches %d\n", launches);
    printf("info host_us %.2f\n", 1e6 * host_seconds(&n));
    return code;
}
