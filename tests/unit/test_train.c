/* test_train.c - training steps: modules called inside a trace, gradients by eager ops, optimisers,
 * checkpoints.  Bytes are compared: a step gives the same weights however it runs. */
#include "eager.h"
#include <unistd.h>

/* --- A network whose gradient is a module's -------------------------------------------------- */

enum { IN = 5, HIDDEN = 7, OUT = 3, PARAMS = 4, ROWS = 6, STEPS = 4 };

typedef struct net {
    ig_tensor *p[PARAMS], *m[PARAMS], *v[PARAMS], *count;
    ig_module *grad; /* (x, y, params..) -> (loss, gradients..) */
} net;

static void net_new(net *n, uint64_t seed) {
    static const char *name[PARAMS] = {"w1", "b1", "w2", "b2"};
    ig_tensor *rng = ig_rng(seed);
    ig_dims dims[PARAMS] = {IG_DIMS(IN, HIDDEN), IG_DIMS(HIDDEN), IG_DIMS(HIDDEN, OUT),
                            IG_DIMS(OUT)};
    for (int k = 0; k < PARAMS; k++) {
        n->p[k] = ig_keep(ig_name(ig_normal(rng, IG_f32, dims[k], 0, 0.4), name[k]));
        char text[2][16];
        snprintf(text[0], sizeof text[0], "%s_m", name[k]);
        snprintf(text[1], sizeof text[1], "%s_v", name[k]);
        n->m[k] = ig_keep(ig_name(ig_zeros_like(n->p[k]), text[0]));
        n->v[k] = ig_keep(ig_name(ig_zeros_like(n->p[k]), text[1]));
    }
    n->count = ig_keep(ig_name(ig_scalar(IG_f32, 0), "count"));
}

static void net_free(net *n) {
    for (int k = 0; k < PARAMS; k++) ig_free(n->p[k]), ig_free(n->m[k]), ig_free(n->v[k]);
    ig_free(n->count);
    ig_module_free(n->grad);
}

/* The tensor of that name. */
static ig_tensor *net_tensor(const net *n, const char *name) {
    static const char *of[PARAMS] = {"w1", "b1", "w2", "b2"};
    for (int k = 0; k < PARAMS; k++)
        if (!strncmp(of[k], name, 2))
            return !name[2] ? n->p[k] : name[3] == 'm' ? n->m[k] : n->v[k];
    return strcmp(name, "count") ? NULL : n->count;
}

/* Mean cross-entropy of x[B,IN] and y i64[B]. */
static void net_loss(void *user, ig_tensor *const *in, ig_tensor **out) {
    net *n = user;
    ig_tensor *h = ig_tanh(ig_add(ig_matmul(in[0], n->p[0]), n->p[1]));
    ig_tensor *z = ig_log_softmax(ig_add(ig_matmul(h, n->p[2]), n->p[3]), -1);
    ig_tensor *picked = ig_sum(ig_mul(z, ig_one_hot(in[1], OUT, IG_f32)), 1);
    out[0] = ig_neg(ig_mean(picked, IG_ALL_AXES));
}

static void make_batch(ig_tensor **in, uint64_t seed, int64_t rows) {
    ig_tensor *rng = ig_rng(seed);
    in[0] = ig_uniform(rng, IG_f32, IG_DIMS(rows, IN), -1, 1);
    in[1] = ig_randint(rng, IG_i64, IG_DIMS(rows), 0, OUT);
}

static const ig_trace_options net_dims = {.name = "loss", .dims = "[B,5], [B]; B in 1..64"};

static void net_differentiate(net *n) {
    ig_tensor *in[2];
    ig_module *m, *g;
    make_batch(in, 99, ROWS);
    OK(ig_trace(net_loss, n, 2, in, 1, &net_dims, &m));
    OK(ig_value_and_grad(m, "@*", &g));
    OK(ig_lift(g, NULL, &n->grad));
    ck_assert_int_eq(ig_module_get_info(n->grad).nin, 2 + PARAMS);
    ck_assert_int_eq(ig_module_weights(n->grad), PARAMS);
    ck_assert(ig_equal(ig_module_weight(n->grad, 2), n->p[2]));
    ig_module_free(g);
    ig_module_free(m);
}

/* Adam by hand, on the gradient of the module. */
static void net_step(void *user, ig_tensor *const *in, ig_tensor **out) {
    net *n = user;
    ig_tensor *arg[2 + PARAMS] = {in[0], in[1]}, *r[1 + PARAMS];
    for (int k = 0; k < PARAMS; k++) arg[2 + k] = n->p[k];
    ig_status s = ig_module_run(n->grad, 2 + PARAMS, arg, 1 + PARAMS, r);
    ck_assert_msg(!s, "%s", ig_status_text(s));
    ig_assign(n->count, ig_add(n->count, 1));
    ig_tensor *fix1 = ig_sub(1, ig_pow(0.9f, n->count)),
              *fix2 = ig_sub(1, ig_pow(0.999f, n->count));
    for (int k = 0; k < PARAMS; k++) {
        ig_tensor *g = r[1 + k];
        ig_assign(n->m[k], ig_add(ig_mul(n->m[k], 0.9f), ig_mul(g, 0.1f)));
        ig_assign(n->v[k], ig_add(ig_mul(n->v[k], 0.999f), ig_mul(ig_mul(g, g), 0.001f)));
        ig_tensor *by =
            ig_div(ig_div(n->m[k], fix1), ig_add(ig_sqrt(ig_div(n->v[k], fix2)), 1e-8f));
        ig_assign(n->p[k], ig_sub(n->p[k], ig_mul(by, 0.05f)));
    }
    out[0] = r[0];
}

static void want_same_net(const net *a, const net *b, const char *what) {
    for (int k = 0; k < PARAMS; k++) {
        ck_assert_msg(ig_equal(a->p[k], b->p[k]), "%s: parameter %d", what, k);
        ck_assert_msg(ig_equal(a->m[k], b->m[k]) && ig_equal(a->v[k], b->v[k]), "%s: moment %d",
                      what, k);
    }
}

static void train_eagerly(net *n) {
    for (int i = 0; i < STEPS; i++) IG_SCOPE {
            ig_tensor *in[2], *out;
            make_batch(in, (uint64_t)i, i == 2 ? 1 : ROWS);
            net_step(n, in, &out);
        }
}

static void train_by(ig_module *m, ig_tensor **losses) {
    for (int i = 0; i < STEPS; i++) IG_SCOPE {
            ig_tensor *in[2], *out;
            make_batch(in, (uint64_t)i, i == 2 ? 1 : ROWS);
            OK(ig_module_run(m, 2, in, 1, &out));
            losses[i] = ig_keep(out);
        }
}

START_TEST(a_step_is_one_module) {
    net eager = {0}, traced = {0};
    ig_tensor *in[2], *loss[2][STEPS];
    char path[] = "/tmp/ingot_train_XXXXXX";
    int file = mkstemp(path);
    close(file);
    net_new(&eager, 5), net_new(&traced, 5);
    net_differentiate(&eager), net_differentiate(&traced);
    train_eagerly(&eager);

    ig_module *m, *loaded;
    ig_trace_options opt = {.name = "step", .dims = net_dims.dims};
    make_batch(in, 7, ROWS);
    OK(ig_trace(net_step, &traced, 2, in, 1, &opt, &m));
    ig_module_info info = ig_module_get_info(m);
    ck_assert_int_eq(info.nstate, 3 * PARAMS + 1);
    ck_assert_int_eq(ig_module_weights(m), 0); /* all of them are state */
    train_by(m, loss[0]);
    want_same_net(&eager, &traced, "traced");

    net_free(&traced); /* once more from the beginning, compiled and loaded */
    traced = (net){0};
    net_new(&traced, 5);
    ig_tensor *state[3 * PARAMS + 1];
    OK(ig_module_compile(m, NULL));
    OK(ig_module_save(m, path));
    OK(ig_module_load(path, &loaded));
    unlink(path);
    ck_assert_ptr_null(ig_module_state(loaded, 0));
    for (int k = 0; k < info.nstate; k++)
        ck_assert_ptr_nonnull(state[k] = net_tensor(&traced, ig_module_state_name(loaded, k)));
    ck_assert_ptr_null(ig_module_state_name(loaded, info.nstate));
    OK(ig_module_bind_state(loaded, info.nstate, state));
    train_by(loaded, loss[1]);
    want_same_net(&eager, &traced, "loaded");
    for (int i = 0; i < STEPS; i++) {
        ck_assert(ig_equal(loss[0][i], loss[1][i]));
        ig_free(loss[0][i]), ig_free(loss[1][i]);
    }
    ig_module_free(loaded), ig_module_free(m);
    net_free(&traced), net_free(&eager);
    eager_end();
}
END_TEST

/* --- State that stays in its buffer ----------------------------------------------------------- */

enum { KINDS = 5 };
static ig_tensor *kind[KINDS];

/* 0: by element; 1: read after 0 is written, by element; 2: another order; 3: read by what is
 * written later; 4: not read at all. */
static void kinds(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *a = ig_add(ig_mul(kind[0], 2), in[0]);
    ig_tensor *b = ig_add(kind[1], ig_cumsum(a, 0)), *c = ig_flip(kind[2], 0);
    ig_tensor *d = ig_add(kind[3], 1), *e = ig_cumsum(ig_exp(ig_mul(kind[3], 0.1f)), 0);
    out[0] = ig_sum(ig_mul(e, ig_cumsum(d, 0)), IG_ALL_AXES);
    ig_assign(kind[0], a), ig_assign(kind[1], b), ig_assign(kind[2], c), ig_assign(kind[3], d);
    ig_assign(kind[4], ig_cumsum(in[0], 0));
}

static void kinds_new(int64_t n) {
    static const char *name[KINDS] = {"a", "b", "c", "d", "e"};
    for (int k = 0; k < KINDS; k++)
        kind[k] = ig_name(ig_normal(ig_rng((uint64_t)k), IG_f32, IG_DIMS(n), 0, 1), name[k]);
}

START_TEST(state_stays_in_its_buffer_when_it_may) {
    const int64_t n[] = {1, 7, 16, 37, 1000};
    ig_tensor *x = ig_normal(ig_rng(9), IG_f32, IG_DIMS(n[_i]), 0, 1), *out, *want[KINDS], *loss;
    kinds_new(n[_i]);
    for (int k = 0; k < 3; k++) kinds(NULL, &x, &loss);
    memcpy(want, kind, sizeof want);
    kinds_new(n[_i]);
    ig_module *m;
    OK(ig_trace(kinds, NULL, 1, &x, 1, NULL, &m));
    OK(ig_module_compile(m, NULL));
    const void *at[KINDS];
    ig_tensor *alias = ig_copy(kind[0]), *was = ig_add(kind[0], 0);
    for (int k = 0; k < 3; k++) { /* the first run must leave the value that the alias has */
        for (int i = 0; i < KINDS; i++) at[i] = ig_data(kind[i]);
        OK(ig_module_run(m, 1, &x, 1, &out));
    }
    ck_assert(ig_equal(alias, was) && ig_equal(out, loss));
    for (int i = 0; i < KINDS; i++) ck_assert_msg(ig_equal(kind[i], want[i]), "state %d", i);
    ck_assert(ig_data(kind[0]) == at[0] && ig_data(kind[1]) == at[1]);
    ck_assert(n[_i] == 1 || ig_data(kind[2]) != at[2]);
    ig_tensor *self = kind[0], *twice = ig_add(ig_mul(kind[0], 2), kind[0]);
    OK(ig_module_run(m, 1, &self, 1, &out)); /* the state is an argument, too */
    ck_assert(ig_equal(kind[0], twice));
    ig_module_free(m);
    eager_end();
}
END_TEST

/* Two states that are written by one kernel, each from both. */
static void pair(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *a = ig_add(kind[1], in[0]), *b = ig_mul(ig_sub(kind[0], a), 0.5);
    out[0] = ig_mul(kind[0], kind[1]);
    ig_assign(kind[0], a), ig_assign(kind[1], b);
}

START_TEST(states_of_one_kernel_stay_in_their_buffers) {
    const int64_t n[] = {1, 7, 16, 37, 1000};
    ig_tensor *x = ig_normal(ig_rng(9), IG_f32, IG_DIMS(n[_i]), 0, 1), *out, *want[2], *last;
    kinds_new(n[_i]);
    for (int k = 0; k < 3; k++) pair(NULL, &x, &last);
    memcpy(want, kind, sizeof want);
    kinds_new(n[_i]);
    ig_module *m;
    OK(ig_trace(pair, NULL, 1, &x, 1, NULL, &m));
    OK(ig_module_compile(m, NULL));
    const void *at[2] = {ig_data(kind[0]), ig_data(kind[1])};
    for (int k = 0; k < 3; k++) OK(ig_module_run(m, 1, &x, 1, &out));
    ck_assert(ig_equal(out, last));
    for (int i = 0; i < 2; i++)
        ck_assert_msg(ig_equal(kind[i], want[i]) && ig_data(kind[i]) == at[i], "state %d", i);
    ig_module_free(m);
    eager_end();
}
END_TEST

/* --- Modules inside a trace ------------------------------------------------------------------ */

static ig_tensor *inner_w;

static void inner(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_mul(ig_add(in[0], inner_w), ig_extent(in[0], 0) > 0 ? 2 : 2);
    out[1] = ig_concat(IG_LIST(in[0], in[0]), 0);
}

static void outer(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *r[2], *twice = ig_concat(IG_LIST(in[0], in[0]), 0);
    ig_status s = ig_module_run((ig_module *)user, 1, &twice, 2, r);
    ck_assert_msg(!s, "%s", ig_status_text(s));
    out[0] = ig_sum(r[0], IG_ALL_AXES);
    out[1] = r[1];
}

START_TEST(a_module_in_a_trace_takes_its_dims) {
    ig_tensor *x = TENSOR(IG_f32, IG_DIMS(2, 3), 1, 2, 3, 4, 5, 6), *plain[2], *run[2];
    inner_w = ig_name(VECTOR(IG_f32, 1, -1, 0.5), "w");
    ig_module *m, *n;
    OK(ig_trace(inner, NULL, 1, &x, 2,
                &(ig_trace_options){.name = "inner", .dims = "[B,3]; B in 1..100"}, &m));
    OK(ig_trace(outer, m, 1, &x, 2,
                &(ig_trace_options){.name = "outer", .dims = "[N,3]; N in 1..50"}, &n));
    ck_assert_int_eq(ig_module_weights(n), 1);
    ck_assert(ig_equal(ig_module_weight(n, 0), inner_w));
    outer(m, &x, plain);
    OK(ig_module_run(n, 1, &x, 2, run));
    ck_assert(ig_equal(plain[0], run[0]) && ig_equal(plain[1], run[1]));
    ck_assert_int_eq(ig_dim(run[1], 0), 8);
    OK(ig_module_compile(n, NULL));
    OK(ig_module_run(n, 1, &x, 2, run));
    ck_assert(ig_equal(plain[0], run[0]) && ig_equal(plain[1], run[1]));
    ig_module_free(n), ig_module_free(m);
    eager_end();
}
END_TEST

static ig_status outer_error;

static void outer_wrong(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *r[2];
    ig_status_free(outer_error);
    outer_error = ig_module_run((ig_module *)user, 1, in, 2, r);
    out[0] = in[0];
}

START_TEST(a_module_in_a_trace_that_does_not_fit) {
    ig_tensor *x = TENSOR(IG_f32, IG_DIMS(2, 3), 1, 2, 3, 4, 5, 6);
    inner_w = ig_name(VECTOR(IG_f32, 1, -1, 0.5), "w");
    ig_module *m, *n;
    OK(ig_trace(inner, NULL, 1, &x, 2,
                &(ig_trace_options){.name = "inner", .dims = "[B,3]; B in 1..100"}, &m));
    OK(ig_trace(outer_wrong, m, 1, &x, 1,
                &(ig_trace_options){.name = "outer", .dims = "[N,3]; N in 1..101"}, &n));
    WANT_STATUS(outer_error, IG_RANGE, "N", "1..100", "test_train.c");
    ig_module_free(n);
    outer_error = NULL;
    OK(ig_trace(outer_wrong, m, 1, &x, 1,
                &(ig_trace_options){.name = "outer", .dims = "[2,N]", .flags = IG_TRACE_ONCE}, &n));
    WANT_STATUS(outer_error, IG_SHAPE, "argument 0 is N", "every size");
    outer_error = NULL;
    ig_module_free(n), ig_module_free(m);
    eager_end();
}
END_TEST

/* x w with w a constant, packed when it is compiled. */
static void product(void *user, ig_tensor *const *in, ig_tensor **out) {
    out[0] = ig_matmul(in[0], (ig_tensor *)user);
}

START_TEST(constant_weights_of_every_float) {
    const ig_dtype types[] = {IG_f16, IG_bf16, IG_f32, IG_f64};
    for (int64_t n = 1; n <= 65; n += 16) {
        ig_tensor *w = ig_normal(ig_rng(1), types[_i], IG_DIMS(5, n), 0, 1), *y, *z;
        ig_tensor *x = ig_normal(ig_rng(2), types[_i], IG_DIMS(6, 5), 0, 1);
        ig_module *m;
        ig_trace_options opt = {.name = "f", .dims = "[B,5]"};
        OK(ig_trace(product, ig_name(w, "w"), 1, &x, 1, &opt, &m));
        OK(ig_module_run(m, 1, &x, 1, &y));
        OK(ig_module_compile(m, NULL));
        OK(ig_module_run(m, 1, &x, 1, &z));
        ck_assert(ig_equal(y, z));
        ig_module_free(m);
    }
    eager_end();
}
END_TEST

int main(void) {
    Suite *s = suite_create("train");
    TCase *t = tcase_create("train");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, a_step_is_one_module);
    tcase_add_loop_test(t, state_stays_in_its_buffer_when_it_may, 0, 5);
    tcase_add_loop_test(t, states_of_one_kernel_stay_in_their_buffers, 0, 5);
    tcase_add_loop_test(t, constant_weights_of_every_float, 0, 4);
    tcase_add_test(t, a_module_in_a_trace_takes_its_dims);
    tcase_add_test(t, a_module_in_a_trace_that_does_not_fit);
    suite_add_tcase(s, t);
    return eager_main(s);
}
