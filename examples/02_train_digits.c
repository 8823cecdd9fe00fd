/* 02_train_digits.c - the main job: train on real images, trace, save, compile, compare every byte.
 *
 *   train_digits DATA_DIR OUT_DIR [SEEDS]
 *
 * A two-layer network for the 8x8 handwritten digits.  `step` is a training step as one writes it
 * eagerly: loss, gradient, Adam.  It is traced into one module, which trains the networks; the
 * first steps are run eagerly as well, and must give the same bits.  Writes OUT_DIR/digits.ingot
 * (the traced `predict`, compiled), heldout.f32 (inputs for the deployed program), eager.f32 (what
 * it must answer) and labels.u8.  Prints `key value` lines for examples/demo.sh. */
#include "ingot/ingot.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PIXELS = 64, HIDDEN = 64, CLASSES = 10, BATCH = 64, EPOCHS = 30, MAX_SEEDS = 9, PARAMS = 4 };
enum { CHECKED = 40 }; /* steps that are run eagerly, too */
static const double RATE = 0.004;

/* The parameters and what training needs beside them. */
typedef struct net {
    ig_tensor *p[PARAMS]; /* w1, b1, w2, b2 */
    ig_optimizer *adam;
    ig_batches *batches;
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
    ig_tensor *h = ig_relu(ig_linear(x, n->p[0], n->p[1]));
    return ig_linear(h, n->p[2], n->p[3]);
}

static void predict(void *user, ig_tensor *const *in, ig_tensor **out) {
    out[0] = ig_softmax(logits(user, in[0]), -1);
}

/* One step of training on images in[0] with labels in[1]; the mean cross-entropy before it. */
static void step(void *user, ig_tensor *const *in, ig_tensor **out) {
    net *n = user;
    IG_GRAD_SCOPE {
        ig_optimizer_watch(n->adam);
        out[0] = ig_cross_entropy(logits(n, in[0]), in[1]);
        ig_backward(out[0]);
    }
    ig_optimizer_step(n->adam, RATE);
}

/* Begin anew: the same handles get the values of another seed. */
static void net_reset(net *n, uint64_t seed) {
    ig_list state = ig_optimizer_state(n->adam);
    ig_tensor *rng = ig_rng(seed);
    ig_assign(n->p[0], ig_weights(IG_HE_NORMAL, rng, IG_f32, IG_DIMS(PIXELS, HIDDEN)));
    ig_assign(n->p[2], ig_weights(IG_XAVIER_NORMAL, rng, IG_f32, IG_DIMS(HIDDEN, CLASSES)));
    ig_assign(n->p[1], 0);
    ig_assign(n->p[3], 0);
    for (int k = 0; k < state.n; k++) ig_assign(state.t[k], 0);
    ig_assign(ig_batches_state(n->batches),
              ig_tensor_from(IG_i64, IG_DIMS(3), ((int64_t[]){(int64_t)seed, 0, 0})));
}

static void net_new(net *n, int64_t rows) {
    static const char *name[PARAMS] = {"w1", "b1", "w2", "b2"};
    const ig_dims dims[PARAMS] = {IG_DIMS(PIXELS, HIDDEN), IG_DIMS(HIDDEN),
                                  IG_DIMS(HIDDEN, CLASSES), IG_DIMS(CLASSES)};
    for (int k = 0; k < PARAMS; k++) n->p[k] = ig_keep(ig_name(ig_zeros(IG_f32, dims[k]), name[k]));
    const ig_optimizer_options adam = {.update = IG_ADAM};
    const ig_batches_options batches = {.rows = rows, .batch = BATCH};
    ig_status s = ig_optimizer_new(((ig_list){PARAMS, n->p}), &adam, &n->adam);
    if (!s) s = ig_batches_new(&batches, &n->batches);
    if (s) die("making the network", s);
}

static void net_free(net *n) {
    ig_optimizer_free(n->adam);
    ig_batches_free(n->batches);
    for (int k = 0; k < PARAMS; k++) ig_free(n->p[k]);
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

static void write_file(const char *dir, const char *name, ig_tensor *t) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    const void *p = ig_data(t);
    if (!f || !p || fwrite(p, 1, ig_nbytes(t), f) != ig_nbytes(t) || fclose(f)) die(path, NULL);
}

/* --- Training
 * ----------------------------------------------------------------------------------------- */

/* The step as a module, compiled. */
static ig_module *compiled_step(net *n, data d) {
    ig_module *m;
    ig_tensor *in[2] = {ig_slice(d.x, IG_RANGE(0, BATCH)), ig_slice(d.y, IG_RANGE(0, BATCH))};
    ig_trace_options opt = {.name = "step", .dims = "[B,64], [B]; B in 1..64"};
    ig_status s = ig_trace(step, n, 2, in, 1, &opt, &m);
    if (!s) s = ig_module_compile(m, NULL);
    if (s) die("making the training step", s);
    return m;
}

/* One step on the next batch, by the module or eagerly; false at the end of an epoch. */
static bool train_batch(net *n, ig_module *m, data d, double *loss) {
    const int64_t *rows;
    int64_t k = ig_batches_next(n->batches, &rows);
    if (!k) return false;
    IG_SCOPE {
        ig_tensor *in[2] = {ig_take(d.x, rows, k, 0), ig_take(d.y, rows, k, 0)}, *out = NULL;
        ig_status s = NULL;
        if (m)
            s = ig_module_run(m, 2, in, 1, &out);
        else
            step(n, in, &out);
        if (s || ig_error()) die("training", s);
        *loss = ig_item_f64(out);
    }
    return true;
}

static void train(net *n, ig_module *m, data d, uint64_t seed, ig_progress *p, int64_t done) {
    double loss = 0;
    net_reset(n, seed);
    for (int epoch = 0; epoch < EPOCHS; epoch++) IG_SCOPE {
            while (train_batch(n, m, d, &loss)) ig_progress_step(p, ++done, loss);
        }
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Whether CHECKED steps, eager and compiled, give the same weights; median seconds of a step. */
static bool compare_steps(net *n, ig_module *m, data d, double *seconds) {
    static double each[CHECKED];
    ig_tensor *after[2][PARAMS];
    bool same = true;
    for (int way = 0; way < 2; way++) {
        double loss;
        net_reset(n, 1);
        for (int k = 0; k < CHECKED; k++) {
            double t = now();
            train_batch(n, way ? m : NULL, d, &loss);
            each[k] = now() - t;
        }
        qsort(each, CHECKED, sizeof *each, by_size);
        seconds[way] = each[CHECKED / 2];
        for (int k = 0; k < PARAMS; k++) after[way][k] = ig_copy(n->p[k]);
    }
    for (int k = 0; k < PARAMS; k++) same = same && ig_equal(after[0][k], after[1][k]);
    return same;
}

/* Bytes of the module's state, in its order. */
static void write_state(const ig_module *m, const char *dir, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    for (int k = 0; f && k < ig_module_get_info(m).nstate; k++) {
        ig_tensor *t = ig_module_state(m, k);
        if (fwrite(ig_data(t), 1, ig_nbytes(t), f) != ig_nbytes(t)) die(path, NULL);
    }
    if (!f || fclose(f)) die(path, NULL);
}

/* What 05_train_deployed.c needs: the step, data, state before and after two epochs in order. */
static void save_training(net *n, ig_module *m, data d, const char *out) {
    char path[4096];
    int64_t rows = ig_dim(d.x, 0);
    snprintf(path, sizeof path, "%s/step.ingot", out);
    ig_status s = ig_module_save(m, path);
    if (s) die("saving the step", s);
    write_file(out, "train_x.f32", d.x);
    write_file(out, "train_y.i64", d.y);
    net_reset(n, 1);
    write_state(m, out, "begin.state");
    for (int epoch = 0; epoch < 2; epoch++)
        for (int64_t lo = 0; lo < rows; lo += BATCH) IG_SCOPE {
                int64_t hi = lo + BATCH < rows ? lo + BATCH : rows;
                ig_tensor *in[2] = {ig_slice(d.x, IG_RANGE(lo, hi)),
                                    ig_slice(d.y, IG_RANGE(lo, hi))};
                ig_tensor *loss;
                if ((s = ig_module_run(m, 2, in, 1, &loss))) die("training", s);
            }
    write_state(m, out, "end.state");
}

/* --- The same bits every way
 * -------------------------------------------------------------------------- */

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

/* Train with every seed; the parameters of the median go back into n. */
static void train_all(net *n, data train_rows, data held, int seeds, const char *out) {
    ig_tensor *after[MAX_SEEDS][PARAMS];
    double acc[MAX_SEEDS], seconds[2], t = now();
    int order[MAX_SEEDS];
    ig_progress bar;
    ig_module *m = compiled_step(n, train_rows);
    printf("step_compile_ms %.1f\n", 1e3 * (now() - t));
    bool same = compare_steps(n, m, train_rows, seconds);
    printf("step_eager_us %.1f\nstep_compiled_us %.1f\n", 1e6 * seconds[0], 1e6 * seconds[1]);
    printf("step_bits %s\n", same ? "equal" : "DIFFER");
    int64_t steps = EPOCHS * ((ig_dim(train_rows.x, 0) + BATCH - 1) / BATCH);
    ig_progress_begin(&bar, "training", seeds * steps);
    t = now();
    for (int k = 0; k < seeds; k++) {
        train(n, m, train_rows, (uint64_t)k + 1, &bar, k * steps);
        acc[k] = accuracy(n, held);
        for (int i = 0; i < PARAMS; i++) after[k][i] = ig_copy(n->p[i]);
        int at = k;
        for (; at > 0 && acc[order[at - 1]] > acc[k]; at--) order[at] = order[at - 1];
        order[at] = k;
    }
    ig_progress_end(&bar);
    printf("train_s %.2f\n", now() - t);
    int median = order[seeds / 2];
    printf("accuracy %.4f\naccuracy_min %.4f\naccuracy_max %.4f\n", acc[median], acc[order[0]],
           acc[order[seeds - 1]]);
    save_training(n, m, train_rows, out);
    for (int i = 0; i < PARAMS; i++) ig_assign(n->p[i], after[median][i]);
    ig_module_free(m);
}

int main(int argc, char **argv) {
    if (argc < 3) return fprintf(stderr, "usage: train_digits DATA_DIR OUT_DIR [SEEDS]\n"), 2;
    int seeds = argc > 3 ? atoi(argv[3]) : 5;
    if (seeds < 1 || seeds > MAX_SEEDS)
        return fprintf(stderr, "train_digits: SEEDS is 1..%d\n", MAX_SEEDS), 2;
    data train_rows, held;
    net n;
    load(argv[1], &train_rows, &held);
    net_new(&n, ig_dim(train_rows.x, 0));
    IG_SCOPE {
        train_all(&n, train_rows, held, seeds, argv[2]);
        cast_and_compare(&n, held, argv[2]);
    }
    net_free(&n);
    ig_free(train_rows.x), ig_free(train_rows.y), ig_free(held.x), ig_free(held.y);
    if (ig_error()) die("error", NULL);
    size_t left = ig_session_free(NULL);
    if (left) return fprintf(stderr, "train_digits: %zu tensors leaked\n", left), 1;
    return 0;
}
