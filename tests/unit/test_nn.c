/* test_nn.c - layers and losses against their formulas, updates against the same arithmetic in C,
 * training with the same bits on any way, number of threads and after any interruption. */
#include "eager.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static ig_tensor *normal(uint64_t seed, ig_dtype d, ig_dims dims) {
    return ig_normal(ig_rng(seed), d, dims, 0, 1);
}

/* --- Layers ---------------------------------------------------------------------------------- */

START_TEST(layers_are_their_formulas) {
    ig_tensor *x = normal(1, IG_f32, IG_DIMS(4, 6)), *w = normal(2, IG_f32, IG_DIMS(6, 3)),
              *b = normal(3, IG_f32, IG_DIMS(3)), *g = normal(4, IG_f32, IG_DIMS(6)),
              *h = normal(5, IG_f32, IG_DIMS(6));
    ck_assert(ig_equal(ig_linear(x, w, b), ig_add(ig_matmul(x, w), b)));
    ck_assert(ig_equal(ig_linear(x, w, NULL), ig_matmul(x, w)));
    ig_tensor *off = ig_sub(x, ig_mean(x, IG_KEEP(1)));
    ig_tensor *norm = ig_div(off, ig_sqrt(ig_add(ig_mean(ig_mul(off, off), IG_KEEP(1)), 1e-5)));
    ck_assert(ig_equal(ig_layer_norm(x, NULL, NULL, 1e-5), norm));
    ck_assert(ig_equal(ig_layer_norm(x, g, h, 1e-5), ig_add(ig_mul(norm, g), h)));
    norm = ig_div(x, ig_sqrt(ig_add(ig_mean(ig_mul(x, x), IG_KEEP(1)), 1e-5)));
    ck_assert(ig_equal(ig_rms_norm(x, g, 1e-5), ig_mul(norm, g)));
    ig_tensor *table = TENSOR(IG_f32, IG_DIMS(3, 2), 1, 2, 3, 4, 5, 6);
    WANT(ig_embedding(table, TENSOR(IG_i32, IG_DIMS(2, 2), 2, 0, 1, 7)), IG_f32, IG_DIMS(2, 2, 2),
         5, 6, 1, 2, 3, 4, 0, 0);
    WANT(ig_mse(VECTOR(IG_f32, 1, 2, 3), VECTOR(IG_f32, 1, 4, 0)), IG_f32, IG_SCALAR, 13.0f / 3);
    eager_end();
}
END_TEST

START_TEST(cross_entropy_of_integer_labels) {
    ig_tensor *z = TENSOR(IG_f64, IG_DIMS(2, 3), 1, 2, 3, 0, (double)-INFINITY, 0);
    const double a = log(exp(-2) + exp(-1) + 1), b = log(2);
    /* 1e-14 here: want is of the C library's exp and log, 2 ulp apart from ours. */
    WANT_NEAR(1e-14, ig_cross_entropy(z, VECTOR(IG_u8, 2, 0)), IG_f64, IG_SCALAR, (a + b) / 2);
    WANT_NEAR(1e-14, ig_cross_entropy(z, VECTOR(IG_i64, -1, 2)), IG_f64, IG_SCALAR, b / 2);
    IG_GRAD_SCOPE {
        ig_watch(z);
        ig_backward(ig_cross_entropy(z, VECTOR(IG_i64, -1, 2)));
    }
    WANT_NEAR(1e-14, ig_grad_of(z), IG_f64, IG_DIMS(2, 3), 0, 0, 0, 0.25, 0, -0.25);
    ig_cross_entropy(z, VECTOR(IG_f64, 1, 2));
    WANT_ERROR(IG_DTYPE, "cross_entropy", "f64[2,3]", "f64[2]", "integer labels");
    ig_cross_entropy(z, ig_zeros(IG_i64, IG_DIMS(2, 3)));
    WANT_ERROR(IG_SHAPE, "one axis less");
    eager_end();
}
END_TEST

START_TEST(dropout_is_a_function_of_its_key) {
    ig_tensor *x = ig_ones(IG_f32, IG_DIMS(100, 100)), *a = ig_rng(9), *b = ig_rng(9);
    ig_tensor *y = ig_dropout(x, a, 0.25), *z = ig_dropout(x, b, 0.25);
    ck_assert(ig_equal(y, z));
    ck_assert(ig_equal(a, b) && !ig_equal(y, ig_dropout(x, a, 0.25)));
    double kept = ig_item_f64(ig_sum(ig_ne(y, 0), IG_ALL_AXES));
    ck_assert(kept > 7300 && kept < 7700);
    ck_assert(ig_item_f64(ig_max(y, IG_ALL_AXES)) == (double)(1 / 0.75f));
    ck_assert(ig_equal(ig_dropout(x, a, 0), x));
    ig_dropout(x, a, 1);
    WANT_ERROR(IG_RANGE, "dropout", "1 is not a probability");
    eager_end();
}
END_TEST

/* A sum of everything, for differences. */
static void everything(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *x = ig_linear(in[0], in[1], ig_slice(in[1], IG_AT(0)));
    ig_tensor *q = ig_layer_norm(x, ig_slice(in[1], IG_AT(1)), NULL, 1e-5);
    ig_tensor *a =
        ig_attention(q, ig_rms_norm(x, NULL, 1e-5), x, &(ig_attention_options){.causal = true});
    out[0] = ig_add(ig_cross_entropy(ig_dropout(a, ig_rng(4), 0.5), VECTOR(IG_i64, 0, 2, 1, 1)),
                    ig_mse(ig_embedding(in[1], VECTOR(IG_i64, 2, 1)), 1));
}

START_TEST(gradients_are_those_of_differences) {
    ig_tensor *in[2] = {normal(1, IG_f64, IG_DIMS(4, 3)), normal(2, IG_f64, IG_DIMS(3, 3))};
    /* 1e-7: the error of a central difference with 1e-6, and its rounding */
    eager_differences(everything, NULL, 2, in, 3, 1, 1e-6, 1e-7);
    eager_end();
}
END_TEST

START_TEST(initial_values_have_their_spread) {
    const ig_init init[] = {IG_XAVIER_UNIFORM, IG_XAVIER_NORMAL, IG_HE_UNIFORM, IG_HE_NORMAL};
    for (int k = 0; k < 4; k++) {
        ig_tensor *w = ig_weights(init[k], ig_rng(1), IG_f32, IG_DIMS(200, 300));
        double want = sqrt(2.0 / (k < 2 ? 500 : 200));
        ck_assert(fabs(ig_item_f64(ig_std(w, IG_ALL_AXES)) / want - 1) < 0.01); /* chance */
        ck_assert(fabs(ig_item_f64(ig_mean(w, IG_ALL_AXES)) / want) < 0.01);    /* chance */
        double far = ig_item_f64(ig_max(ig_abs(w), IG_ALL_AXES)) / want;
        ck_assert(k % 2 ? far > 3 : far <= sqrt(3.0) * 1.0001);
    }
    ig_weights(IG_HE_NORMAL, NULL, IG_f32, IG_DIMS(3));
    WANT_ERROR(IG_SHAPE, "two axes");
    eager_end();
}
END_TEST

/* --- Updates: the same in C ------------------------------------------------------------------- */

enum { N = 5 };
typedef struct update_case {
    const char *name;
    ig_optimizer_options opt;
} update_case;

static const update_case updates[] = {
    {"sgd", {.update = IG_SGD}},
    {"decay", {.update = IG_SGD, .decay = 0.1}},
    {"momentum", {.update = IG_SGD, .momentum = 0.9}},
    {"nesterov", {.update = IG_SGD, .momentum = 0.9, .nesterov = true, .decay = 0.01}},
    {"adam", {.update = IG_ADAM}},
    {"adam_l2", {.update = IG_ADAM, .beta1 = 0.8, .beta2 = 0.99, .eps = 1e-3, .decay = 0.1}},
    {"adamw", {.update = IG_ADAMW, .decay = 0.1}},
};

/* One element: w, m, v are changed. */
static void update_in_c(const ig_optimizer_options *o, int t, float rate, float g, float *w,
                        float *m, float *v) {
    const double b1 = o->beta1 ? o->beta1 : 0.9, b2 = o->beta2 ? o->beta2 : 0.999,
                 eps = o->eps ? o->eps : 1e-8;
    float from = *w, by;
    if (o->decay && o->update != IG_ADAMW) g = g + *w * (float)o->decay;
    if (o->decay && o->update == IG_ADAMW) from = *w * (float)(1 - (double)0.05 * o->decay);
    if (o->update == IG_SGD && o->momentum) {
        *m = *m * (float)o->momentum + g;
        by = rate * (o->nesterov ? g + *m * (float)o->momentum : *m);
    } else if (o->update == IG_SGD) {
        by = rate * g;
    } else {
        double p1 = ig_item_f64(ig_pow(ig_scalar(IG_f64, b1), (double)t));
        double p2 = ig_item_f64(ig_pow(ig_scalar(IG_f64, b2), (double)t));
        *m = *m * (float)b1 + g * (float)(1 - b1);
        *v = *v * (float)b2 + (g * g) * (float)(1 - b2);
        by = rate * (*m * (float)(1 / (1 - p1)));
        by = by / (sqrtf(*v * (float)(1 / (1 - p2))) + (float)eps);
    }
    *w = from - by;
}

START_TEST(updates_are_their_formulas) {
    const update_case *u = &updates[_i];
    float w[N] = {1, -2, 0.5f, 3, 0}, m[N] = {0}, v[N] = {0};
    ig_tensor *p = ig_name(ig_tensor_from(IG_f32, IG_DIMS(N), w), "p");
    ig_optimizer *o;
    OK(ig_optimizer_new(IG_LIST(p), &u->opt, &o));
    for (int t = 1; t <= 4; t++) {
        ig_tensor *g = normal((uint64_t)t, IG_f32, IG_DIMS(N));
        const float *gs = ig_data(g);
        ig_optimizer_apply(o, 0.05, &g);
        for (int i = 0; i < N; i++) update_in_c(&u->opt, t, 0.05f, gs[i], &w[i], &m[i], &v[i]);
        ck_assert_msg(ig_equal(p, ig_tensor_from(IG_f32, IG_DIMS(N), w)), "%s, step %d", u->name,
                      t);
        ck_assert(ig_item_i64(ig_optimizer_steps(o)) == t);
    }
    ig_list state = ig_optimizer_state(o);
    ck_assert_int_eq(state.n, u->opt.update != IG_SGD ? 3 : u->opt.momentum ? 2 : 1);
    if (state.n > 1) ck_assert(ig_equal(state.t[0], ig_tensor_from(IG_f32, IG_DIMS(N), m)));
    ig_tensor *wrong = ig_zeros(IG_f32, IG_DIMS(N + 1));
    ig_optimizer_apply(o, 0.05, &wrong);
    WANT_ERROR(IG_SHAPE, "gradient 0 is f32[6], its parameter f32[5]");
    ig_optimizer_step(o, 0.05);
    WANT_ERROR(IG_INVALID, "has no gradient");
    ig_optimizer_free(o);
    eager_end();
}
END_TEST

START_TEST(clipping_and_rates) {
    ig_tensor *p[2] = {ig_name(VECTOR(IG_f32, 0, 0), "a"), ig_name(VECTOR(IG_f32, 0), "b")};
    ig_tensor *g[2] = {VECTOR(IG_f32, 3, 0), VECTOR(IG_f32, -4)};
    ig_optimizer *o;
    WANT(ig_global_norm(IG_LIST(g[0], g[1])), IG_f32, IG_SCALAR, 5);
    OK(ig_optimizer_new(IG_LIST(p[0], p[1]), &(ig_optimizer_options){.clip_norm = 2.5}, &o));
    ig_optimizer_apply(o, 1, g);
    WANT(p[0], IG_f32, IG_DIMS(2), -1.5, 0);
    WANT(p[1], IG_f32, IG_DIMS(1), 2);
    ig_optimizer_free(o);
    OK(ig_optimizer_new(IG_LIST(p[0], p[1]),
                        &(ig_optimizer_options){.clip_norm = 100, .clip_value = 1}, &o));
    ig_optimizer_apply(o, ig_scalar(IG_f32, 0.5), g);
    WANT(p[0], IG_f32, IG_DIMS(2), -2, 0);
    WANT(p[1], IG_f32, IG_DIMS(1), 2.5);
    ig_optimizer_free(o);
    const ig_rate_options r = {.base = 2, .last = 1, .warmup = 4, .total = 12};
    const double want[][2] = {{0, 0.5}, {1, 1}, {3, 2}, {4, 2}, {8, 1.5}, {12, 1}, {99, 1}};
    for (int k = 0; k < 7; k++) /* 1e-15: an ulp or two of cos and of the division */
        WANT_NEAR(1e-15, ig_rate(ig_scalar(IG_i64, (int64_t)want[k][0]), &r), IG_f64, IG_SCALAR,
                  want[k][1]);
    WANT(ig_rate(ig_scalar(IG_i64, 5), &(ig_rate_options){.base = 3}), IG_f64, IG_SCALAR, 3);
    WANT_STATUS(ig_optimizer_new(IG_LIST(ig_scalar(IG_i32, 1)), &(ig_optimizer_options){0}, &o),
                IG_DTYPE, "parameter 0 is i32[]");
    eager_end();
}
END_TEST

/* --- Batches ---------------------------------------------------------------------------------- */

START_TEST(batches_are_orders_that_go_on) {
    ig_batches *b, *c;
    const int64_t *at;
    int64_t seen[2][10] = {{0}}, order[2][10];
    OK(ig_batches_new(&(ig_batches_options){.rows = 10, .batch = 4, .seed = 7}, &b));
    OK(ig_batches_new(&(ig_batches_options){.rows = 10, .batch = 4}, &c));
    for (int epoch = 0; epoch < 2; epoch++) {
        const int64_t want[] = {4, 4, 2, 0};
        for (int64_t k = 0, n = 0; k < 4; k++) {
            if (k == 1) ig_assign(ig_batches_state(c), ig_batches_state(b)); /* goes on there */
            ck_assert_int_eq(ig_batches_next(b, &at), want[k]);
            for (int64_t i = 0; i < want[k]; i++) seen[epoch][order[epoch][n++] = at[i]]++;
            if (k < 1) continue;
            ck_assert_int_eq(ig_batches_next(c, &at), want[k]);
            for (int64_t i = 0; i < want[k]; i++)
                ck_assert_int_eq(at[i], order[epoch][n - want[k] + i]);
        }
        for (int i = 0; i < 10; i++) ck_assert_int_eq(seen[epoch][i], 1);
    }
    ck_assert(memcmp(order[0], order[1], sizeof order[0]) != 0);
    ig_tensor *same = ig_permutation(ig_rng(7 + ((uint64_t)1 << 32)), 10);
    ck_assert(!memcmp(ig_data(same), order[1], sizeof order[1]));
    ig_batches_free(b), ig_batches_free(c);
    OK(ig_batches_new(
        &(ig_batches_options){.rows = 3, .batch = 2, .in_order = true, .drop_last = true}, &b));
    ck_assert(ig_batches_next(b, &at) == 2 && at[0] == 0 && at[1] == 1);
    ck_assert(ig_batches_next(b, &at) == 0 && ig_batches_next(b, &at) == 2);
    ig_assign(ig_batches_state(b), VECTOR(IG_i64, 0, 0, 9));
    ck_assert(ig_batches_next(b, &at) == 0);
    WANT_ERROR(IG_RANGE, "not one of these 3 rows");
    ig_batches_free(b);
    WANT_STATUS(ig_batches_new(&(ig_batches_options){.rows = 3}, &b), IG_RANGE, "batches of 0");
    eager_end();
}
END_TEST

/* --- Checkpoints ------------------------------------------------------------------------------ */

START_TEST(checkpoints_are_exact_and_strict) {
    char path[] = "/tmp/ingot_nn_XXXXXX";
    close(mkstemp(path));
    ig_tensor *a = ig_name(VECTOR(IG_f32, 1, -0.0, (double)NAN), "a"),
              *b = ig_name(ig_scalar(IG_i64, 5), "b"), *k = ig_name(ig_rng(3), "key");
    ig_tensor *was = ig_copy(a), *key = ig_copy(k);
    ig_list lists[2] = {IG_LIST(a, b), IG_LIST(k)};
    OK(ig_checkpoint_save(path, 2, lists));
    ig_assign(a, 0), ig_assign(b, 0), ig_uniform(k, IG_f32, IG_SCALAR, 0, 1);
    OK(ig_checkpoint_load(path, 2, lists));
    ck_assert(ig_equal(a, was) && ig_item_i64(b) == 5 && ig_equal(k, key));
    ig_assign(b, 6);
    ig_tensor *other = ig_name(VECTOR(IG_f32, 1, 2), "a");
    WANT_STATUS(ig_checkpoint_load(path, 1, &IG_LIST(b, other, k)), IG_SHAPE,
                "a is f32[2], and f32[3]", path);
    WANT_STATUS(ig_checkpoint_load(path, 1, &IG_LIST(b, a)), IG_INVALID, "3 tensors, 2 are asked");
    WANT_STATUS(ig_checkpoint_load(path, 1, &IG_LIST(b, ig_name(ig_copy(a), "c"), k)), IG_INVALID,
                "no c");
    ck_assert(ig_item_i64(b) == 6); /* nothing was assigned */
    WANT_STATUS(ig_checkpoint_save(path, 1, &IG_LIST(b, ig_scalar(IG_f32, 1))), IG_INVALID,
                "has no name");
    WANT_STATUS(ig_checkpoint_save(path, 1, &IG_LIST(b, b)), IG_INVALID, "two tensors");
    WANT_STATUS(ig_checkpoint_save("/nonexistent/x", 2, lists), IG_IO, "/nonexistent");
    int file = open(path, O_WRONLY | O_TRUNC);
    ck_assert(write(file, "ingot", 5) == 5 && !close(file));
    WANT_STATUS(ig_checkpoint_load(path, 2, lists), IG_FORMAT, path);
    unlink(path);
    eager_end();
}
END_TEST

/* --- Training --------------------------------------------------------------------------------- */

enum { IN = 12, WIDE = 64, OUT = 4, ROWS = 50, STEPS = 12 };

typedef struct run {
    ig_tensor *p[4], *rng, *x, *y;
    ig_optimizer *o;
    ig_batches *b;
} run;

static void run_begin(run *r) {
    static const char *name[4] = {"w1", "b1", "w2", "b2"};
    ig_tensor *rng = ig_rng(11);
    r->p[0] = ig_weights(IG_HE_NORMAL, rng, IG_f32, IG_DIMS(IN, WIDE));
    r->p[1] = ig_zeros(IG_f32, IG_DIMS(WIDE));
    r->p[2] = ig_weights(IG_XAVIER_UNIFORM, rng, IG_f32, IG_DIMS(WIDE, OUT));
    r->p[3] = ig_zeros(IG_f32, IG_DIMS(OUT));
    for (int k = 0; k < 4; k++) ig_keep(ig_name(r->p[k], name[k]));
    r->rng = ig_keep(ig_name(ig_rng(5), "rng"));
    r->x = ig_keep(normal(21, IG_f32, IG_DIMS(ROWS, IN)));
    r->y = ig_keep(ig_argmax(ig_matmul(r->x, normal(22, IG_f32, IG_DIMS(IN, OUT))), -1));
    OK(ig_optimizer_new(((ig_list){4, r->p}),
                        &(ig_optimizer_options){
                            .update = IG_ADAMW, .decay = 0.01, .clip_norm = 1, .clip_value = 0.5},
                        &r->o));
    OK(ig_batches_new(&(ig_batches_options){.rows = ROWS, .batch = 16, .seed = 3}, &r->b));
}

static void run_end(run *r) {
    ig_optimizer_free(r->o);
    ig_batches_free(r->b);
    for (int k = 0; k < 4; k++) ig_free(r->p[k]);
    ig_free(r->rng), ig_free(r->x), ig_free(r->y);
}

static void run_step(void *user, ig_tensor *const *in, ig_tensor **out) {
    run *r = user;
    IG_GRAD_SCOPE {
        ig_optimizer_watch(r->o);
        ig_tensor *h = ig_dropout(ig_relu(ig_linear(in[0], r->p[0], r->p[1])), r->rng, 0.2);
        out[0] = ig_cross_entropy(ig_linear(h, r->p[2], r->p[3]), in[1]);
        ig_backward(out[0]);
    }
    ig_rate_options rate = {.base = 0.1, .warmup = 3, .total = STEPS};
    ig_optimizer_step(r->o, ig_rate(ig_optimizer_steps(r->o), &rate));
}

/* One step on the next batch, by the module or eagerly; its loss. */
static float run_next(run *r, ig_module *m) {
    const int64_t *at;
    float loss = 0;
    IG_SCOPE {
        int64_t n = ig_batches_next(r->b, &at);
        if (!n) n = ig_batches_next(r->b, &at);
        ig_tensor *in[2] = {ig_take(r->x, at, n, 0), ig_take(r->y, at, n, 0)}, *out;
        if (m)
            OK(ig_module_run(m, 2, in, 1, &out));
        else
            run_step(r, in, &out);
        loss = ig_item_f32(out);
    }
    return loss;
}

static ig_module *run_trace(run *r) {
    ig_module *m;
    ig_tensor *in[2] = {ig_slice(r->x, IG_RANGE(0, 16)), ig_slice(r->y, IG_RANGE(0, 16))};
    OK(ig_trace(run_step, r, 2, in, 1,
                &(ig_trace_options){.name = "step", .dims = "[B,12], [B]; B in 1..16"}, &m));
    return m;
}

START_TEST(training_gives_the_same_bits_every_way) {
    float loss[5][STEPS];
    ig_tensor *last[5] = {0};
    /* eager, traced, compiled, compiled on one thread, compiled for another level */
    for (int way = 0; way < 5; way++) {
        run r;
        run_begin(&r);
        ig_module *m = way ? run_trace(&r) : NULL;
        if (way == 2 || way == 3) OK(ig_module_compile(m, NULL));
        if (way == 4) ig_status_free(ig_module_compile(m, "v3")); /* else by the reference */
        OK(ig_threads(&(ig_thread_options){.count = way == 3 ? 1 : 2}));
        for (int k = 0; k < STEPS; k++) loss[way][k] = run_next(&r, m);
        last[way] = ig_copy(r.p[0]);
        ig_module_free(m);
        run_end(&r);
        ck_assert_msg(!memcmp(loss[0], loss[way], sizeof *loss), "losses of way %d", way);
        ck_assert_msg(ig_equal(last[0], last[way]), "weights of way %d", way);
    }
    ck_assert(loss[0][STEPS - 1] < loss[0][0]);
    eager_end();
}
END_TEST

/* Large enough to be split over threads. */
static void wide_loss(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *h = ig_gelu(ig_layer_norm(ig_matmul(in[0], in[2]), NULL, NULL, 1e-5));
    out[0] = ig_cross_entropy(ig_matmul(h, in[3]), in[1]);
}

START_TEST(threads_do_not_change_a_gradient) {
    ig_tensor *in[4] = {normal(1, IG_f32, IG_DIMS(96, 300)),
                        ig_randint(ig_rng(2), IG_i64, IG_DIMS(96), 0, 40),
                        normal(3, IG_f32, IG_DIMS(300, 512)), normal(4, IG_f32, IG_DIMS(512, 40))};
    ig_tensor *got[2][3];
    ig_module *m, *g;
    OK(ig_trace(wide_loss, NULL, 4, in, 1, NULL, &m));
    OK(ig_value_and_grad(m, "2,3", &g));
    OK(ig_module_compile(g, NULL));
    for (int k = 0; k < 2; k++) {
        OK(ig_threads(&(ig_thread_options){.count = 1 + k}));
        OK(ig_module_run(g, 4, in, 3, got[k]));
    }
    for (int k = 0; k < 3; k++) ck_assert(ig_equal(got[0][k], got[1][k]));
    ig_module_free(g), ig_module_free(m);
    eager_end();
}
END_TEST

/* --- Interruption ------------------------------------------------------------------------------
 */

/* Train to the end, from where the file stands, saving after every step. */
static void resume_child(const char *path) {
    run r;
    struct stat st;
    run_begin(&r);
    ig_list more[] = {ig_optimizer_params(r.o), ig_optimizer_state(r.o),
                      IG_LIST(r.rng, ig_batches_state(r.b))};
    if (!stat(path, &st)) OK(ig_checkpoint_load(path, 3, more));
    while (ig_item_i64(ig_optimizer_steps(r.o)) < STEPS) {
        run_next(&r, NULL);
        OK(ig_checkpoint_save(path, 3, more));
    }
    run_end(&r);
    _exit(ig_error() != NULL);
}

static int resume_run(const char *path, int kill_after_us) {
    int status;
    pid_t child = fork();
    if (!child) resume_child(path);
    if (kill_after_us >= 0) {
        usleep((useconds_t)kill_after_us);
        kill(child, SIGKILL);
    }
    ck_assert(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static size_t resume_read(const char *path, char *bytes, size_t room) {
    int file = open(path, O_RDONLY);
    ssize_t n = read(file, bytes, room);
    close(file);
    return n < 0 ? 0 : (size_t)n;
}

START_TEST(killed_at_any_step_it_goes_on_with_the_same_bits) {
    static char want[1 << 16], got[1 << 16];
    char dir[] = "/tmp/ingot_resume_XXXXXX", path[64];
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/run.ingot", dir);
    ck_assert_int_eq(resume_run(path, -1), 0);
    size_t n = resume_read(path, want, sizeof want), kills = 0;
    ck_assert(n > 1000 && n < sizeof want);
    unlink(path);
    for (int wait = 500; kills < 40; wait += 700) { /* always a little later */
        if (!resume_run(path, wait)) break;
        kills++;
    }
    ck_assert_int_eq(resume_run(path, -1), 0);
    ck_assert(kills > 1);
    ck_assert_uint_eq(resume_read(path, got, sizeof got), n);
    ck_assert(!memcmp(want, got, n));
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", dir); /* a killed writer leaves its draft */
    ck_assert_int_eq(system(command), 0);
}
END_TEST

/* --- Memory ----------------------------------------------------------------------------------- */

static char oom_path[] = "/tmp/ingot_nn_oom_XXXXXX";

static ig_status oom_use(ig_tensor *w, ig_optimizer *o, ig_batches *b) {
    const int64_t *at;
    int64_t n = ig_batches_next(b, &at);
    if (!n) return NULL;
    IG_GRAD_SCOPE {
        ig_optimizer_watch(o);
        ig_tensor *y = ig_dropout(
            ig_rms_norm(ig_linear(ig_ones(IG_f32, IG_DIMS(n, 2)), w, NULL), NULL, 1), NULL, 0.5);
        ig_tensor *gates[3], *h[2], *x = ig_ones(IG_f32, IG_DIMS(2, n, 1));
        gates[0] = ig_ones(IG_f32, IG_DIMS(1, 9)), gates[1] = ig_ones(IG_f32, IG_DIMS(3, 9));
        ig_gru(x, gates[0], gates[1], NULL, NULL, y, false, h);
        y = ig_slice(ig_attention(h[0], ig_ones(IG_f32, IG_DIMS(130, 3)),
                                  ig_ones(IG_f32, IG_DIMS(130, 3)),
                                  &(ig_attention_options){.causal = true}),
                     IG_AT(0));
        ig_backward(ig_cross_entropy(y, ig_zeros(IG_i64, IG_DIMS(n))));
    }
    if (!ig_has_grad(w)) return NULL;
    ig_optimizer_step(o, 0.1);
    ig_list lists[] = {ig_optimizer_params(o), ig_optimizer_state(o)};
    ig_status s = ig_error() ? NULL : ig_checkpoint_save(oom_path, 2, lists);
    return s || ig_error() ? s : ig_checkpoint_load(oom_path, 2, lists);
}

static ig_status oom_body(void) {
    ig_optimizer *o = NULL;
    ig_batches *b = NULL;
    ig_tensor *w = ig_name(ig_weights(IG_HE_NORMAL, ig_rng(1), IG_f32, IG_DIMS(2, 3)), "w");
    if (ig_error()) return NULL;
    ig_status s = ig_optimizer_new(IG_LIST(w),
                                   &(ig_optimizer_options){.update = IG_ADAM, .clip_norm = 1}, &o);
    if (!s) s = ig_batches_new(&(ig_batches_options){.rows = 3, .batch = 2}, &b);
    if (!s) s = oom_use(w, o, b);
    ig_optimizer_free(o);
    ig_batches_free(b);
    return s;
}

START_TEST(every_allocation_fails_once) {
    setenv("IG_LLVM_PLUGIN", "/nonexistent/libingot-llvm.so", 1);
    close(mkstemp(oom_path));
    eager_sweep("nn", oom_body, getenv("IG_TEST_QUICK") ? 13 : 1);
    unlink(oom_path);
}
END_TEST

START_TEST(progress_is_silent_off_a_terminal) {
    int to[2], keep = dup(2);
    char text[8];
    ck_assert_int_eq(pipe(to), 0);
    dup2(to[1], 2);
    ig_progress p;
    ig_progress_begin(&p, "train", 3);
    for (int k = 1; k <= 3; k++) ig_progress_step(&p, k, 0.5);
    ig_progress_end(&p);
    dup2(keep, 2);
    close(to[1]);
    ck_assert_int_eq(read(to[0], text, sizeof text), 0);
}
END_TEST

int main(void) {
    Suite *s = suite_create("nn");
    TCase *t = tcase_create("nn");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, layers_are_their_formulas);
    tcase_add_test(t, cross_entropy_of_integer_labels);
    tcase_add_test(t, dropout_is_a_function_of_its_key);
    tcase_add_test(t, gradients_are_those_of_differences);
    tcase_add_test(t, initial_values_have_their_spread);
    tcase_add_loop_test(t, updates_are_their_formulas, 0, (int)(sizeof updates / sizeof *updates));
    tcase_add_test(t, clipping_and_rates);
    tcase_add_test(t, batches_are_orders_that_go_on);
    tcase_add_test(t, checkpoints_are_exact_and_strict);
    tcase_add_test(t, training_gives_the_same_bits_every_way);
    tcase_add_test(t, threads_do_not_change_a_gradient);
    tcase_add_test(t, killed_at_any_step_it_goes_on_with_the_same_bits);
    tcase_add_test(t, every_allocation_fails_once);
    tcase_add_test(t, progress_is_silent_off_a_terminal);
    suite_add_tcase(s, t);
    return eager_main(s);
}
