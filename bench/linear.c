/* linear.c - whether the time of a compile is linear in the ops of a program: chains of elementwise
 * ops, networks, and their gradients, of 10 to 10,000 ops; kernels that are all equal, and kernels
 * that are all different.
 *
 *     bench/linear [MOST]     programs of up to MOST ops (10000); milliseconds of one thread
 *
 * A row is one compile (three of the short ones, and the least of them).  The last column is the
 * time an op beside that of the shortest program of a hundred ops and more: the goal is 1.5. */
#include <ingot/ingot.h>
#include <ingot/threads.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { WIDTH = 32, BATCH = 8, MAX_LAYERS = 5000 };

typedef struct program {
    const char *name;
    void (*fn)(void *user, ig_tensor *const *in, ig_tensor **out);
    int ops_each; /* of a layer, about */
    bool gradient, weights;
    int64_t grows; /* how much wider each layer is: no two kernels are equal */
    int layers;    /* now */
} program;

static ig_tensor *weight[MAX_LAYERS];

static void check(ig_status s) {
    if (!s && !ig_error()) return;
    fprintf(stderr, "linear: %s\n", s ? ig_status_text(s) : ig_error_text());
    exit(1);
}

/* All in one line; numbers of their own make every kernel another one. */
static void chain(void *user, ig_tensor *const *in, ig_tensor **out) {
    const program *p = user;
    ig_tensor *x = in[0];
    for (int k = 0; k < p->layers; k++)
        x = ig_add(ig_mul(x, p->grows ? 1 + k * 1e-3 : 0.5), in[1]);
    out[0] = x;
}

static int64_t width(const program *p, int layer) { return WIDTH + p->grows * layer; }

static void network(void *user, ig_tensor *const *in, ig_tensor **out) {
    const program *p = user;
    ig_tensor *h = in[0];
    for (int k = 0; k < p->layers; k++) h = ig_tanh(ig_matmul(h, weight[k]));
    out[0] = ig_mean(h, IG_ALL_AXES);
}

static program programs[] = {
    {"chain, equal kernels", chain, 2, false, false, 0, 0},
    {"chain, distinct kernels", chain, 2, false, false, 1, 0},
    {"network, equal layers", network, 2, false, true, 0, 0},
    {"network, distinct layers", network, 2, false, true, 1, 0},
    {"its gradient, equal layers", network, 8, true, true, 0, 0},
    {"its gradient, distinct layers", network, 8, true, true, 1, 0},
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* The module of a program. */
static ig_module *make(program *p) {
    ig_module *m, *gradient;
    ig_tensor *in[2] = {ig_full(IG_f32, IG_DIMS(BATCH, WIDTH), 0.5),
                        ig_full(IG_f32, IG_DIMS(BATCH, WIDTH), 0.25)};
    for (int k = 0; p->weights && k < p->layers; k++) {
        char name[16];
        snprintf(name, sizeof name, "w%d", k);
        weight[k] = ig_name(ig_zeros(IG_f32, IG_DIMS(width(p, k), width(p, k + 1))), name);
    }
    check(ig_trace(p->fn, p, 2, in, 1, &(ig_trace_options){.name = "linear"}, &m));
    if (!p->gradient) return m;
    check(ig_grad(m, "@*", &gradient));
    ig_module_free(m);
    return gradient;
}

/* Milliseconds of a compile of about n ops. */
static double measure(program *p, int n, int *ops_) {
    double least = 1e30;
    p->layers = n / p->ops_each;
    IG_SCOPE {
        ig_module *m = make(p);
        for (int r = 0; r < (n <= 1000 ? 3 : 1); r++) {
            double start = now();
            check(ig_module_compile(m, NULL));
            double ms = now() - start;
            if (ms < least) least = ms;
        }
        ig_module_free(m);
    }
    *ops_ = p->layers * p->ops_each;
    return least;
}

int main(int argc, char **argv) {
    int most = argc > 1 ? atoi(argv[1]) : 10000, ops;
    setenv("IG_CACHE", "0", 1);
    check(ig_threads(&(ig_thread_options){.count = 1}));
    measure(&programs[0], 10, &ops); /* opens LLVM */
    printf("| program | ops | ms | us an op | beside the first |\n|---|---|---|---|---|\n");
    for (size_t k = 0; k < sizeof programs / sizeof *programs; k++) {
        double first = 0;
        bool distinct = programs[k].weights && programs[k].grows;
        for (int n = 10; n <= most && !(distinct && n > 1000); n *= 10) {
            double ms = measure(&programs[k], n, &ops), each = 1e3 * ms / ops;
            if (n == 100) first = each;
            printf("| %s | %d | %.2f | %.1f |", programs[k].name, ops, ms, each);
            if (first > 0) printf(" %.2f", each / first);
            printf(" |\n");
            fflush(stdout);
        }
    }
    return 0;
}
