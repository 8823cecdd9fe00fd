/* 02_train_digits.c - the main job: train on real images, trace, save, compile, compare every byte.
 *
 *   train_digits DATA_DIR OUT_DIR [SEEDS]
 *
 * A two-layer network for the 8x8 handwritten digits, with gradients written by hand in eager ops.
 * Writes OUT_DIR/digits.ingot (the traced `predict`, compiled), heldout.f32 (inputs for the
 * deployed program), eager.f32 (what it must answer) and labels.u8.  Prints `key value` lines for
 * examples/demo.sh. */
#include "ingot/ingot.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PIXELS = 64, HIDDEN = 64, CLASSES = 10, BATCH = 64, EPOCHS = 30, MAX_SEEDS = 9 };
static const float RATE = 0.1f, MOMENTUM = 0.9f;

typedef struct net {
    ig_tensor *w1, *b1, *w2, *b2;
} net;
typedef struct data {
    ig_tensor *x, *y;
} data; /* f32[N,64], i64[N] */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const char *what, ig_status s) {
    fprintf(stderr, "train_digits: %s: %s\n", what, s ? ig_status_text(s) : ig_error_text());
    exit(1);
}

/* --- The network: plain eager C
 * ----------------------------------------------------------------------- */

static ig_tensor *logits(const net *n, ig_tensor *x) {
    ig_tensor *h = ig_relu(ig_add(ig_matmul(x, n->w1), n->b1));
    return ig_add(ig_matmul(h, n->w2), n->b2);
}

static void predict(void *user, ig_tensor *const *in, ig_tensor **out) {
    out[0] = ig_softmax(logits(user, in[0]), -1);
}

static net net_new(ig_tensor *rng) {
    net n = {ig_normal(rng, IG_f32, IG_DIMS(PIXELS, HIDDEN), 0, 0.18),
             ig_zeros(IG_f32, IG_DIMS(HIDDEN)),
             ig_normal(rng, IG_f32, IG_DIMS(HIDDEN, CLASSES), 0, 0.18),
             ig_zeros(IG_f32, IG_DIMS(CLASSES))};
    ig_keep(ig_name(n.w1, "w1"));
    ig_keep(ig_name(n.b1, "b1"));
    ig_keep(ig_name(n.w2, "w2"));
    ig_keep(ig_name(n.b2, "b2"));
    return n;
}

static void net_free(net *n) {
    ig_free(n->w1);
    ig_free(n->b1);
    ig_free(n->w2);
    ig_free(n->b2);
}

static net net_zeros_like(const net *n) {
    return (net){ig_keep(ig_zeros_like(n->w1)), ig_keep(ig_zeros_like(n->b1)),
                 ig_keep(ig_zeros_like(n->w2)), ig_keep(ig_zeros_like(n->b2))};
}

/* v = MOMENTUM * v - RATE * g;  w = w + v */
static void update(ig_tensor *w, ig_tensor *v, ig_tensor *g) {
    ig_assign(v, ig_sub(ig_mul(v, MOMENTUM), ig_mul(g, RATE)));
    ig_assign(w, ig_add(w, v));
}

/* One step of gradient descent; the mean cross-entropy of the batch. */
static double step(net *n, net *v, ig_tensor *x, ig_tensor *y) {
    double loss = 0;
    IG_SCOPE {
        double batch = (double)ig_dim(x, 0);
        ig_tensor *a = ig_add(ig_matmul(x, n->w1), n->b1);
        ig_tensor *h = ig_relu(a);
        ig_tensor *p = ig_softmax(ig_add(ig_matmul(h, n->w2), n->b2), -1);
        ig_tensor *t = ig_one_hot(y, CLASSES, IG_f32);
        loss = -ig_item_f64(ig_sum(ig_mul(t, ig_log(ig_maximum(p, 1e-20f))), IG_ALL_AXES)) / batch;

        ig_tensor *dz = ig_div(ig_sub(p, t), batch);
        ig_tensor *dw2 = ig_ein("w[h,o] += h[b,h]*z[b,o]", h, dz);
        ig_tensor *dh = ig_ein("h[b,h] += z[b,o]*w[h,o]", dz, n->w2);
        ig_tensor *da = ig_where(ig_gt(a, 0), dh, 0);
        ig_tensor *dw1 = ig_ein("w[i,h] += x[b,i]*a[b,h]", x, da);
        update(n->w2, v->w2, dw2);
        update(n->b2, v->b2, ig_sum(dz, 0));
        update(n->w1, v->w1, dw1);
        update(n->b1, v->b1, ig_sum(da, 0));
    }
    return loss;
}

static double accuracy(const net *n, data d) {
    double right = 0;
    IG_SCOPE {
        ig_tensor *hit = ig_eq(ig_argmax(logits(n, d.x), -1), d.y);
        right = ig_item_f64(ig_mean(ig_cast(hit, IG_f64), IG_ALL_AXES));
    }
    return right;
}

/* --- Data
 * --------------------------------------------------------------------------------------------- */

/* The rows whose index modulo 3 is 2 (held) or is not. */
static data take_rows(ig_tensor *x, ig_tensor *y, bool held) {
    int64_t rows[2048], n = 0;
    for (int64_t i = 0; i < ig_dim(x, 0) && i < 2048; i++)
        if ((i % 3 == 2) == held) rows[n++] = i;
    return (data){ig_keep(ig_take(x, rows, n, 0)), ig_keep(ig_take(y, rows, n, 0))};
}

static void load(const char *dir, data *train, data *held) {
    char path[4096];
    snprintf(path, sizeof path, "%s/digits_images.npy", dir);
    ig_tensor *images = ig_npy_load(path);
    snprintf(path, sizeof path, "%s/digits_labels.npy", dir);
    ig_tensor *labels = ig_cast(ig_npy_load(path), IG_i64);
    ig_tensor *x = ig_div(ig_cast(ig_reshape(images, IG_DIMS(-1, PIXELS)), IG_f32), 16.0f);
    *train = take_rows(x, labels, false);
    *held = take_rows(x, labels, true);
    if (ig_error()) die("reading the digits", NULL);
}

static void progress(int seed, int seeds, int epoch, double loss) {
    if (!isatty(2)) return;
    fprintf(stderr, "\rseed %d/%d  epoch %2d/%d  loss %.4f ", seed + 1, seeds, epoch + 1, EPOCHS,
            loss);
    if (seed + 1 == seeds && epoch + 1 == EPOCHS) fputc('\n', stderr);
}

static net train_one(int seed, int seeds, data d) {
    ig_tensor *rng = ig_keep(ig_rng((uint64_t)seed + 1));
    net n = net_new(rng), v = net_zeros_like(&n);
    int64_t rows = ig_dim(d.x, 0);
    for (int epoch = 0; epoch < EPOCHS; epoch++) IG_SCOPE {
            ig_tensor *order = ig_permutation(rng, rows);
            const int64_t *at = ig_data(order);
            double loss = 0;
            if (!at) die("training", NULL);
            for (int64_t i = 0; i < rows; i += BATCH) {
                int64_t k = rows - i < BATCH ? rows - i : BATCH;
                loss += step(&n, &v, ig_take(d.x, at + i, k, 0), ig_take(d.y, at + i, k, 0)) *
                        (double)k;
            }
            progress(seed, seeds, epoch, loss / (double)rows);
        }
    net_free(&v);
    ig_free(rng);
    if (ig_error()) die("training", NULL);
    return n;
}

/* --- The same bits every way
 * -------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median seconds of one prediction: eager, or by the module. */
static double time_of(const net *n, ig_module *m, ig_tensor *x, int repeats) {
    static double seconds[2000];
    for (int k = 0; k < repeats; k++) {
        double t = now();
        IG_SCOPE {
            ig_tensor *y = NULL;
            ig_status s = NULL;
            if (m)
                s = ig_module_run(m, 1, &x, 1, &y);
            else
                predict((void *)n, &x, &y);
            if (s) die("running", s);
        }
        seconds[k] = now() - t;
    }
    qsort(seconds, (size_t)repeats, sizeof *seconds, by_size);
    return seconds[repeats / 2];
}

/* Whether the module gives the eager bits at this batch size. */
static bool same_bits(const net *n, ig_module *m, ig_tensor *x, int64_t batch) {
    bool same = true;
    IG_SCOPE
    for (int64_t i = 0; i < ig_dim(x, 0); i += batch) {
        int64_t hi = i + batch < ig_dim(x, 0) ? i + batch : ig_dim(x, 0);
        ig_tensor *part = ig_slice(x, IG_RANGE(i, hi)), *eager, *compiled;
        predict((void *)n, &part, &eager);
        ig_status s = ig_module_run(m, 1, &part, 1, &compiled);
        if (s) die("running the compiled module", s);
        same = same && ig_equal(eager, compiled);
    }
    return same;
}

static void write_file(const char *dir, const char *name, ig_tensor *t) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    const void *p = ig_data(t);
    if (!f || !p || fwrite(p, 1, ig_nbytes(t), f) != ig_nbytes(t) || fclose(f)) die(path, NULL);
}

static void cast_and_compare(const net *n, data held, const char *out) {
    ig_module *m = NULL;
    ig_trace_options opt = {.name = "digits", .dims = "[B,64]; B in 1..4096"};
    ig_status s = ig_trace(predict, (void *)n, 1, &held.x, 1, &opt, &m);
    if (s) die("tracing predict", s);
    double t = now();
    if ((s = ig_module_compile(m, NULL))) die("compiling", s);
    printf("compile_ms %.1f\n", 1e3 * (now() - t));
    char path[4096];
    snprintf(path, sizeof path, "%s/digits.ingot", out);
    if ((s = ig_module_save(m, path))) die("saving", s);

    int64_t rows = ig_dim(held.x, 0);
    bool same = same_bits(n, m, held.x, 1) && same_bits(n, m, held.x, 7) &&
                same_bits(n, m, held.x, rows);
    printf("compiled_bits %s\n", same ? "equal" : "DIFFER");
    ig_tensor *one = ig_slice(held.x, IG_RANGE(0, 1)), *y;
    printf("eager_us %.3f\n", 1e6 * time_of(n, NULL, held.x, 20) / (double)rows);
    printf("compiled_us %.3f\n", 1e6 * time_of(n, m, held.x, 50) / (double)rows);
    printf("eager_one_us %.3f\n", 1e6 * time_of(n, NULL, one, 200));
    printf("compiled_one_us %.3f\n", 1e6 * time_of(n, m, one, 2000));
    predict((void *)n, &held.x, &y);
    write_file(out, "heldout.f32", held.x);
    write_file(out, "eager.f32", y);
    write_file(out, "labels.u8", ig_cast(held.y, IG_u8));
    ig_module_free(m);
}

int main(int argc, char **argv) {
    if (argc < 3) return fprintf(stderr, "usage: train_digits DATA_DIR OUT_DIR [SEEDS]\n"), 2;
    int seeds = argc > 3 ? atoi(argv[3]) : 5;
    if (seeds < 1 || seeds > MAX_SEEDS)
        return fprintf(stderr, "train_digits: SEEDS is 1..%d\n", MAX_SEEDS), 2;
    data train, held;
    net nets[MAX_SEEDS];
    double acc[MAX_SEEDS];
    int order[MAX_SEEDS];
    load(argv[1], &train, &held);
    double t = now();
    for (int k = 0; k < seeds; k++) {
        nets[k] = train_one(k, seeds, train);
        acc[k] = accuracy(&nets[k], held);
        int at = k;
        for (; at > 0 && acc[order[at - 1]] > acc[k]; at--) order[at] = order[at - 1];
        order[at] = k;
    }
    printf("train_s %.2f\n", now() - t);
    int median = order[seeds / 2];
    printf("accuracy %.4f\naccuracy_min %.4f\naccuracy_max %.4f\n", acc[median], acc[order[0]],
           acc[order[seeds - 1]]);
    cast_and_compare(&nets[median], held, argv[2]);
    for (int k = 0; k < seeds; k++) net_free(&nets[k]);
    ig_free(train.x), ig_free(train.y), ig_free(held.x), ig_free(held.y);
    if (ig_error()) die("error", NULL);
    size_t left = ig_session_free(NULL);
    if (left) return fprintf(stderr, "train_digits: %zu tensors leaked\n", left), 1;
    return 0;
}
