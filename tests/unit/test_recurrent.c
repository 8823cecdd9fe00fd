/* test_recurrent.c - LSTM and GRU against the same in C, step by step against single ops, and their
 * gradients against differences and on every way. */
#include "eager.h"

enum { STEPS = 5, BATCH = 3, IN = 4, WIDE = 6 };

static ig_tensor *normal(uint64_t seed, ig_dtype d, ig_dims dims) {
    return ig_normal(ig_rng(seed), d, dims, 0, 1);
}

/* x, h, c, then w, u, b (bu) of a layer with this many gates. */
enum { X, H, C, W, U, B, BU, ARGS };
static void arguments(ig_dtype d, int gates, int steps, int batch, int wide, ig_tensor **in) {
    in[X] = normal(1, d, IG_DIMS(steps, batch, IN));
    in[H] = normal(2, d, IG_DIMS(batch, wide));
    in[C] = normal(3, d, IG_DIMS(batch, wide));
    in[W] = normal(4, d, IG_DIMS(IN, gates * wide));
    in[U] = ig_mul(normal(5, d, IG_DIMS(wide, gates * wide)), 0.3);
    in[B] = normal(6, d, IG_DIMS(gates * wide));
    in[BU] = normal(7, d, IG_DIMS(gates * wide));
}

static bool lstm(ig_tensor *const *in, bool reverse, ig_tensor **out) {
    return ig_lstm(in[X], in[W], in[U], in[B], in[H], in[C], reverse, out);
}

static bool gru(ig_tensor *const *in, bool reverse, ig_tensor **out) {
    return ig_gru(in[X], in[W], in[U], in[B], in[BU], in[H], reverse, out);
}

/* --- The same in C ---------------------------------------------------------------------------- */

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* Gates of row b: x w + bias, and h u + bias. */
static void gates_in_c(ig_tensor *const *in, int t, int b, const double *h, int n, double *a,
                       double *v) {
    const double *x = (const double *)ig_data(in[X]) + (t * BATCH + b) * IN;
    const double *w = ig_data(in[W]), *u = ig_data(in[U]), *bias = ig_data(in[B]);
    const double *bu = ig_data(in[BU]);
    for (int k = 0; k < n; k++) {
        a[k] = bias[k];
        v[k] = n == 3 * WIDE ? bu[k] : 0;
        for (int i = 0; i < IN; i++) a[k] += x[i] * w[i * n + k];
        for (int i = 0; i < WIDE; i++) v[k] += h[i] * u[i * n + k];
    }
}

static void lstm_in_c(ig_tensor *const *in, bool reverse, double *all, double *h, double *c) {
    double a[4 * WIDE], v[4 * WIDE];
    for (int s = 0; s < STEPS; s++)
        for (int b = 0; b < BATCH; b++) {
            int t = reverse ? STEPS - 1 - s : s;
            double *hb = h + b * WIDE, *cb = c + b * WIDE;
            gates_in_c(in, t, b, hb, 4 * WIDE, a, v);
            for (int k = 0; k < 4 * WIDE; k++) a[k] += v[k];
            for (int k = 0; k < WIDE; k++) {
                cb[k] = sigmoid(a[WIDE + k]) * cb[k] + sigmoid(a[k]) * tanh(a[2 * WIDE + k]);
                hb[k] = sigmoid(a[3 * WIDE + k]) * tanh(cb[k]);
                all[(t * BATCH + b) * WIDE + k] = hb[k];
            }
        }
}

static void gru_in_c(ig_tensor *const *in, bool reverse, double *all, double *h) {
    double a[3 * WIDE], v[3 * WIDE];
    for (int s = 0; s < STEPS; s++)
        for (int b = 0; b < BATCH; b++) {
            int t = reverse ? STEPS - 1 - s : s;
            double *hb = h + b * WIDE;
            gates_in_c(in, t, b, hb, 3 * WIDE, a, v);
            for (int k = 0; k < WIDE; k++) {
                double r = sigmoid(a[k] + v[k]), z = sigmoid(a[WIDE + k] + v[WIDE + k]);
                double m = tanh(a[2 * WIDE + k] + r * v[2 * WIDE + k]);
                hb[k] = (1 - z) * m + z * hb[k];
                all[(t * BATCH + b) * WIDE + k] = hb[k];
            }
        }
}

static void near(const char *what, ig_tensor *got, const double *want) {
    const double *x = ig_data(got);
    ck_assert_msg(x != NULL, "%s", ig_error_text());
    for (int64_t i = 0; i < ig_numel(got); i++)
        /* 1e-13: five steps of sums in another order and the C library's exp and tanh */
        ck_assert_msg(fabs(x[i] - want[i]) < 1e-13, "%s, element %lld: %.17g, not %.17g", what,
                      (long long)i, x[i], want[i]);
}

START_TEST(layers_are_the_same_in_c) {
    static double all[STEPS * BATCH * WIDE], h[BATCH * WIDE], c[BATCH * WIDE];
    ig_tensor *in[ARGS], *out[3];
    const bool reverse = _i;
    arguments(IG_f64, 4, STEPS, BATCH, WIDE, in);
    memcpy(h, ig_data(in[H]), sizeof h);
    memcpy(c, ig_data(in[C]), sizeof c);
    ck_assert_msg(lstm(in, reverse, out), "%s", ig_error_text());
    lstm_in_c(in, reverse, all, h, c);
    near("lstm, all", out[0], all);
    near("lstm, h", out[1], h);
    near("lstm, c", out[2], c);
    arguments(IG_f64, 3, STEPS, BATCH, WIDE, in);
    memcpy(h, ig_data(in[H]), sizeof h);
    ck_assert_msg(gru(in, reverse, out), "%s", ig_error_text());
    gru_in_c(in, reverse, all, h);
    near("gru, all", out[0], all);
    near("gru, h", out[1], h);
    eager_end();
}
END_TEST

START_TEST(states_and_biases_may_be_left_out) {
    ig_tensor *in[ARGS], *out[3], *want[3], *zero = ig_zeros(IG_f32, IG_DIMS(BATCH, WIDE));
    arguments(IG_f32, 4, STEPS, BATCH, WIDE, in);
    ck_assert(ig_lstm(in[X], in[W], in[U], NULL, NULL, NULL, false, out));
    ck_assert(ig_lstm(in[X], in[W], in[U], ig_zeros_like(in[B]), zero, zero, false, want));
    for (int k = 0; k < 3; k++) ck_assert(ig_equal(out[k], want[k]));
    /* no batch axis: the same bits as a row of the batch */
    ck_assert(
        ig_lstm(ig_slice(in[X], IG_FULL, IG_AT(1)), in[W], in[U], NULL, NULL, NULL, false, want));
    ck_assert(ig_equal(ig_slice(out[0], IG_FULL, IG_AT(1)), want[0]));
    arguments(IG_f32, 3, STEPS, BATCH, WIDE, in);
    ck_assert(ig_gru(in[X], in[W], in[U], in[B], NULL, NULL, false, out));
    ck_assert(ig_gru(in[X], in[W], in[U], in[B], ig_zeros_like(in[BU]), zero, false, want));
    for (int k = 0; k < 2; k++) ck_assert(ig_equal(out[k], want[k]));
    ck_assert(ig_equal(ig_slice(out[0], IG_AT(-1)), out[1]));
    eager_end();
}
END_TEST

START_TEST(initial_weights_and_errors) {
    ig_tensor *w[4], *out[3];
    ck_assert(ig_lstm_weights(ig_rng(1), IG_f32, 10, 64, w));
    ck_assert(ig_dim(w[0], 0) == 10 && ig_dim(w[0], 1) == 256 && ig_dim(w[1], 0) == 64);
    double far = ig_item_f64(ig_max(ig_abs(w[1]), IG_ALL_AXES));
    ck_assert(far <= 0.125 && far > 0.12);
    ck_assert(ig_item_f64(ig_sum(w[2], 0)) == 64 && ig_item_f64(ig_slice(w[2], IG_AT(64))) == 1);
    ck_assert(ig_gru_weights(ig_rng(1), IG_f32, 10, 64, w) && ig_dim(w[3], 0) == 192);
    ck_assert(
        !ig_lstm(ig_ones(IG_f32, IG_DIMS(3, 2, 10)), w[0], w[1], NULL, NULL, NULL, false, out));
    WANT_ERROR(IG_SHAPE, "lstm", "u f32[64,192]", "u[n,4 n]", "test_recurrent.c");
    ck_assert(ig_is_poison(out[2]));
    ck_assert(!ig_gru(ig_ones(IG_f32, IG_DIMS(10)), w[0], w[1], NULL, NULL, NULL, false, out));
    WANT_ERROR(IG_SHAPE, "gru", "x is f32[10]");
    ck_assert(!ig_gru(ig_ones(IG_f32, IG_DIMS(3, 2, 9)), w[0], w[1], NULL, NULL, NULL, false, out));
    WANT_ERROR(IG_SHAPE, "f32[3,2,9]");
    ck_assert(!ig_gru_weights(NULL, IG_f32, 0, 3, w));
    WANT_ERROR(IG_SHAPE, "gru_weights", "0 inputs");
    eager_end();
}
END_TEST

/* --- Gradients -------------------------------------------------------------------------------- */

static bool (*const layer[2])(ig_tensor *const *, bool, ig_tensor **) = {lstm, gru};

/* All arguments -> a number of all results. */
static void loss(void *user, ig_tensor *const *in, ig_tensor **out) {
    int kind = *(int *)user;
    ig_tensor *got[3];
    if (!layer[kind](in, false, got)) return;
    ig_tensor *sum = ig_add(ig_sum(ig_mul(got[0], got[0]), IG_ALL_AXES),
                            ig_sum(ig_mul(got[1], 0.7), IG_ALL_AXES));
    out[0] = kind ? sum : ig_add(sum, ig_sum(ig_mul(got[2], got[2]), IG_ALL_AXES));
}

START_TEST(gradients_are_those_of_differences) {
    ig_tensor *in[ARGS];
    int kind = _i;
    arguments(IG_f64, 4 - kind, 3, 2, 2, in);
    /* 1e-7: the error of a central difference with 1e-6, and its rounding */
    eager_differences(loss, &kind, ARGS, in, (1u << ARGS) - 1 - (1u << (kind ? C : BU)), 1, 1e-6,
                      1e-7);
    eager_end();
}
END_TEST

/* Eager, traced and compiled, on one and two threads: values; the gradient of the module compiled
 * and not. */
START_TEST(every_way_gives_the_same_bits) {
    ig_tensor *in[ARGS], *want, *got[2][ARGS + 1];
    ig_module *m, *g;
    int kind = _i;
    arguments(IG_f32, 4 - kind, 20, 32, 64, in);
    loss(&kind, in, &want);
    OK(ig_trace(loss, &kind, ARGS, in, 1,
                &(ig_trace_options){.dims = "[T,B,4], [B,64], [B,64]; T in 1..64, B in 1..64"},
                &m));
    OK(ig_value_and_grad(m, kind ? "0,1,3,4,5,6" : "0,1,2,3,4,5", &g));
    OK(ig_module_run(g, ARGS, in, ARGS, got[0]));
    ck_assert(ig_equal(got[0][0], want));
    OK(ig_module_compile(m, NULL));
    OK(ig_module_compile(g, NULL));
    for (int threads = 1; threads <= 2; threads++) {
        OK(ig_threads(&(ig_thread_options){.count = threads}));
        OK(ig_module_run(m, ARGS, in, 1, got[1]));
        ck_assert(ig_equal(got[1][0], want));
        OK(ig_module_run(g, ARGS, in, ARGS, got[1]));
        for (int k = 0; k < ARGS; k++)
            ck_assert_msg(ig_equal(got[0][k], got[1][k]), "result %d, %d threads", k, threads);
    }
    ig_module_free(g), ig_module_free(m);
    eager_end();
}
END_TEST

int main(void) {
    Suite *s = suite_create("recurrent");
    TCase *t = tcase_create("recurrent");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, layers_are_the_same_in_c, 0, 2);
    tcase_add_test(t, states_and_biases_may_be_left_out);
    tcase_add_test(t, initial_weights_and_errors);
    tcase_add_loop_test(t, gradients_are_those_of_differences, 0, 2);
    tcase_add_loop_test(t, every_way_gives_the_same_bits, 0, 2);
    suite_add_tcase(s, t);
    return eager_main(s);
}
