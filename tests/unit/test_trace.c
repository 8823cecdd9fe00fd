/* test_trace.c - recording functions: what becomes an argument, a constant, a weight, state; what
 * is refused; modules. */
#include "eager.h"
#include <fenv.h>
#include <unistd.h>

/* Run the function eagerly and by the module on the same inputs: the same bits. */
static void want_same(int line, ig_trace_fn fn, void *user, ig_module *m, int nin,
                      ig_tensor *const *in, int nout) {
    ig_tensor *want[4] = {0}, *got[4] = {0};
    fn(user, in, want);
    ig_status e = ig_module_run(m, nin, in, nout, got);
    ck_assert_msg(!e, "line %d: %s", line, ig_status_text(e));
    for (int i = 0; i < nout; i++)
        ck_assert_msg(ig_equal(want[i], got[i]), "line %d: result %d differs", line, i);
}
#define SAME(fn, user, m, nin, in, nout) want_same(__LINE__, fn, user, m, nin, in, nout)

static char *module_text(ig_module *m) {
    static char text[16384];
    char *t;
    OK(ig_module_text(m, &t));
    snprintf(text, sizeof text, "%s", t);
    ig_text_free(t);
    return text;
}
#define HAS(m, word) \
    ck_assert_msg(strstr(module_text(m), word) != NULL, "`%s` is not in:\n%s", word, module_text(m))
#define LACKS(m, word) \
    ck_assert_msg(!strstr(module_text(m), word), "`%s` is in:\n%s", word, module_text(m))

/* --- Static and dynamic -------------------------------------------------------------------- */

static void mlp(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor **w = user;
    ig_tensor *h = ig_relu(ig_add(ig_matmul(in[0], w[0]), w[1]));
    out[0] = ig_softmax(ig_matmul(h, w[2]), -1);
    out[1] = ig_mean(h, 0);
}

static void make_weights(ig_tensor **w) {
    w[0] = ig_name(ig_normal(NULL, IG_f32, IG_DIMS(6, 5), 0, 1), "w0");
    w[1] = ig_name(ig_normal(NULL, IG_f32, IG_DIMS(5), 0, 1), "b0");
    w[2] = ig_name(ig_normal(NULL, IG_f32, IG_DIMS(5, 3), 0, 1), "w1");
}

START_TEST(network) {
    ig_tensor *w[3], *x = ig_normal(NULL, IG_f32, IG_DIMS(4, 6), 0, 1);
    ig_module *m;
    make_weights(w);
    OK(ig_trace(mlp, w, 1, &x, 2, &(ig_trace_options){.name = "mlp", .dims = "[B,6]; B in 1..64"},
                &m));
    ig_module_info info = ig_module_get_info(m);
    ck_assert(info.nin == 1 && info.nout == 2 && info.nstate == 0 && !info.unchecked &&
              !info.level);
    ck_assert_str_eq(info.name, "mlp");
    HAS(m, "dim B in 1..64");
    HAS(m, "f32[B,6]");
    HAS(m, "@w0 : f32[6,5]");
    HAS(m, "test_trace.c");
    SAME(mlp, w, m, 1, &x, 2);
    for (int64_t n = 1; n <= 64; n += 21) {
        ig_tensor *y = ig_normal(NULL, IG_f32, IG_DIMS(n, 6), 0, 1), *out[2];
        SAME(mlp, w, m, 1, &y, 2);
        OK(ig_module_run(m, 1, &y, 2, out));
        ck_assert_int_eq(ig_dim(out[0], 0), n);
    }
    ig_tensor *big = ig_zeros(IG_f32, IG_DIMS(65, 6)), *wrong = ig_zeros(IG_f32, IG_DIMS(4, 7)),
              *out[2];
    WANT_STATUS(ig_module_run(m, 1, &big, 2, out), IG_SHAPE, "module_run", "65");
    ck_assert(ig_is_poison(out[0]));
    WANT_STATUS(ig_module_run(m, 1, &wrong, 2, out), IG_SHAPE, "7");
    WANT_STATUS(ig_module_run(m, 0, NULL, 2, out), IG_INVALID, "0 arguments");
    ig_module_free(m);
    eager_end();
}
END_TEST

/* Shape functions keep dynamic dims. */
static void dynamic(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *x = in[0], *y = in[1]; /* [B,4], [B] */
    ig_tensor *a = ig_transpose(ig_reshape(x, IG_DIMS(-1, 2, 2)), IG_AXES(0, 2, 1));
    a = ig_reshape(a, IG_DIMS(ig_extent(x, 0), -1));
    a = ig_concat(IG_LIST(a, ig_expand_dims(y, 1), ig_zeros(IG_f32, IG_DIMS(ig_extent(x, 0), 1))),
                  1);
    a = ig_sub(a, ig_mean(a, IG_KEEP(0)));
    a = ig_div(a, ig_add(ig_std(a, IG_KEEP(0)), 1e-3));
    a = ig_tile(ig_repeat(a, 2, 0), IG_DIMS(2, 1));
    a = ig_pad(a, IG_DIMS(1, 0), IG_DIMS(2, 0), 7);
    out[0] = ig_flip(ig_slice(a, IG_RANGE(1, -1), IG_STEP(IG_OPEN, IG_OPEN, -2)), 0);
    ig_tensor *z = ig_copy(y);
    ig_assign_slice(z, 5, IG_RANGE(-1, IG_OPEN));
    ig_assign_slice(z, 6, IG_AT(0));
    ig_assign_mask(z, ig_gt(z, 5.5), ig_neg(z));
    out[1] = ig_roll(ig_cumsum(z, 0), 1, 0);
    out[2] = ig_logsumexp(ig_outer(z, ig_full_like(y, 0.5)), IG_ALL_AXES);
}

START_TEST(dynamic_shapes) {
    ig_tensor *in[2] = {ig_normal(NULL, IG_f32, IG_DIMS(3, 4), 0, 1),
                        ig_normal(NULL, IG_f32, IG_DIMS(3), 0, 1)};
    ig_module *m;
    OK(ig_trace(dynamic, NULL, 2, in, 3, &(ig_trace_options){.dims = "[B,4], [B]; B in 1..1000"},
                &m));
    for (int64_t n = 1; n < 6; n++) {
        ig_tensor *other[2] = {ig_normal(NULL, IG_f32, IG_DIMS(n, 4), 0, 1),
                               ig_normal(NULL, IG_f32, IG_DIMS(n), 0, 1)};
        SAME(dynamic, NULL, m, 2, other, 3);
    }
    ig_module_free(m);
    eager_end();
}
END_TEST

/* --- Captures ------------------------------------------------------------------------------ */

static void add_user(void *user, ig_tensor *const *in, ig_tensor **out) {
    out[0] = ig_add(in[0], (ig_tensor *)user);
}

START_TEST(captures) {
    ig_tensor *x = ig_zeros(IG_f32, IG_DIMS(2, 32)), *small = ig_ones(IG_f32, IG_SCALAR);
    ig_module *m;
    OK(ig_trace(add_user, small, 1, &x, 1, NULL, &m));
    LACKS(m, "weight");
    HAS(m, "const");
    ig_module_free(m);
    int line = __LINE__ + 1;
    ig_tensor *large = ig_ones(IG_f32, IG_DIMS(32));
    char place[64];
    snprintf(place, sizeof place, "test_trace.c:%d", line);
    WANT_STATUS(ig_trace(add_user, large, 1, &x, 1, NULL, &m), IG_TRACE, "add", "128 bytes", place,
                "ig_name");
    ck_assert_ptr_null(m);
    ig_name(large, "large");
    OK(ig_trace(add_user, large, 1, &x, 1, NULL, &m));
    HAS(m, "weight @large : f32[32]");
    ig_assign(large, 5); /* the module keeps the value it saw */
    ig_tensor *out;
    OK(ig_module_run(m, 1, &x, 1, &out));
    ck_assert(ig_item_f64(ig_max(out, IG_ALL_AXES)) == 1);
    ig_module_free(m);
    OK(ig_trace(add_user, ig_name(ig_ones(IG_f32, IG_SCALAR), "tiny"), 1, &x, 1, NULL, &m));
    HAS(m, "weight @tiny");
    ig_module_free(m);
    eager_end();
}
END_TEST

static void two_weights(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor **w = user;
    out[0] = ig_add(ig_add(in[0], w[0]), w[1]);
}

START_TEST(weight_names) {
    ig_tensor *x = ig_zeros(IG_f32, IG_DIMS(3)),
              *w[2] = {ig_name(VECTOR(IG_f32, 1, 2, 3), "w"), NULL};
    ig_module *m;
    w[1] = ig_name(VECTOR(IG_f32, 1, 2, 4), "w");
    WANT_STATUS(ig_trace(two_weights, w, 1, &x, 1, NULL, &m), IG_TRACE,
                "two different tensors are named w");
    w[1] = ig_name(VECTOR(IG_f32, 1, 2, 3), "w");
    OK(ig_trace(two_weights, w, 1, &x, 1, NULL, &m));
    ig_module_free(m);
    w[1] = ig_name(VECTOR(IG_f32, 1, 2, 3), "a name/with \"signs\"");
    OK(ig_trace(two_weights, w, 1, &x, 1, NULL, &m));
    SAME(two_weights, w, m, 1, &x, 1);
    ig_module_free(m);
    eager_end();
}
END_TEST

static void passes(void *user, ig_tensor *const *in, ig_tensor **out) {
    out[0] = in[0];
    out[1] = in[0];
    out[2] = user;
}

START_TEST(plain_results) {
    ig_tensor *x = VECTOR(IG_f32, 1, 2), *c = VECTOR(IG_i32, 3);
    ig_module *m;
    OK(ig_trace(passes, c, 1, &x, 3, NULL, &m));
    SAME(passes, c, m, 1, &x, 3);
    ig_module_free(m);
    eager_end();
}
END_TEST

/* --- State --------------------------------------------------------------------------------- */

static void count(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *n = user;
    ig_assign(n, ig_add(n, in[0]));
    out[0] = ig_mul(n, 10);
}

START_TEST(state) {
    ig_tensor *n = ig_scalar(IG_f32, 5), *x = ig_scalar(IG_f32, 2), *out[2], *in[2];
    ig_module *m;
    OK(ig_trace(count, n, 1, &x, 1, NULL, &m));
    WANT(n, IG_f32, IG_SCALAR, 5);
    ig_module_info info = ig_module_get_info(m);
    ck_assert(info.nin == 1 && info.nout == 1 && info.nstate == 1);
    ck_assert_ptr_eq(ig_module_state(m, 0), n);
    OK(ig_module_run(m, 1, &x, 1, out));
    WANT(out[0], IG_f32, IG_SCALAR, 70);
    WANT(n, IG_f32, IG_SCALAR, 7);
    in[0] = x;
    in[1] = ig_scalar(IG_f32, 100);
    OK(ig_module_run(m, 2, in, 2, out));
    WANT(out[1], IG_f32, IG_SCALAR, 102);
    WANT(n, IG_f32, IG_SCALAR, 7);
    ig_module_free(m);
    eager_end();
}
END_TEST

static void dropout(void *user, ig_tensor *const *in, ig_tensor **out) {
    out[0] = ig_where(ig_bernoulli(user, IG_DIMS(ig_extent(in[0], 0)), 0.5), in[0], 0);
}

START_TEST(random_state) {
    ig_tensor *x = ig_ones(IG_f32, IG_DIMS(100)), *a, *b;
    ig_module *m;
    ig_seed(3);
    OK(ig_trace(dropout, NULL, 1, &x, 1, &(ig_trace_options){.dims = "[N]"}, &m));
    ck_assert_int_eq(ig_module_get_info(m).nstate, 1);
    ig_tensor *want[2];
    dropout(NULL, &x, &want[0]);
    dropout(NULL, &x, &want[1]);
    ig_seed(3);
    OK(ig_module_run(m, 1, &x, 1, &a));
    OK(ig_module_run(m, 1, &x, 1, &b));
    ck_assert(ig_equal(a, want[0]) && ig_equal(b, want[1]) && !ig_equal(a, b));
    ig_module_free(m);
    eager_end();
}
END_TEST

static void assigns_argument(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_assign(in[0], 1);
    out[0] = in[0];
}

static void assigns_local(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *t = ig_copy(in[0]);
    for (int i = 0; i < 3; i++) ig_assign(t, ig_mul(t, 2));
    out[0] = t;
}

START_TEST(assignment) {
    ig_tensor *x = VECTOR(IG_f32, 1, 2);
    ig_module *m;
    WANT_STATUS(ig_trace(assigns_argument, NULL, 1, &x, 1, NULL, &m), IG_TRACE, "assign",
                "ig_copy");
    WANT(x, IG_f32, IG_DIMS(2), 1, 2);
    OK(ig_trace(assigns_local, NULL, 1, &x, 1, NULL, &m));
    ck_assert_int_eq(ig_module_get_info(m).nstate, 0);
    SAME(assigns_local, NULL, m, 1, &x, 1);
    ig_module_free(m);
    eager_end();
}
END_TEST

/* --- Reading inside a trace ---------------------------------------------------------------- */

static int read_line, sum_line;
static void reads(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    sum_line = __LINE__ + 1;
    ig_tensor *s = ig_sum(ig_mul(in[1], 2), IG_ALL_AXES);
    read_line = __LINE__ + 1;
    if (ig_item_f64(s) > 0) s = ig_neg(s);
    out[0] = s;
}

static void reads_constant(void *user, ig_tensor *const *in, ig_tensor **out) {
    double k = ig_item_f64(ig_sum((ig_tensor *)user, IG_ALL_AXES));
    out[0] = ig_mul(in[0], k);
}

static void reads_state(void *user, ig_tensor *const *in, ig_tensor **out) {
    read_line = __LINE__ + 1;
    double k = ig_item_f64(ig_mul((ig_tensor *)user, 3));
    ig_assign((ig_tensor *)user, ig_add((ig_tensor *)user, 1));
    out[0] = ig_mul(in[0], k);
}

START_TEST(observation) {
    ig_tensor *in[2] = {ig_scalar(IG_f32, 1), VECTOR(IG_f32, 1, 2)}, *k = ig_scalar(IG_f32, 4);
    ig_module *m;
    char at[64], from[64];
    ig_status e = ig_trace(reads, NULL, 2, in, 1, NULL, &m);
    snprintf(at, sizeof at, "test_trace.c:%d: item: ", read_line);
    snprintf(from, sizeof from, "sum at %s:%d", __FILE__, sum_line);
    WANT_STATUS(e, IG_TRACE, at, from, "from mul", "from argument 1");
    OK(ig_trace(reads_constant, k, 1, in, 1, NULL, &m));
    SAME(reads_constant, k, m, 1, in, 1);
    ig_module_free(m);
    e = ig_trace(reads_state, k, 1, in, 1, NULL, &m);
    snprintf(at, sizeof at, "test_trace.c:%d: item: ", read_line);
    WANT_STATUS(e, IG_TRACE, at, "the value is mul", "from the state");
    WANT(k, IG_f32, IG_SCALAR, 4);
    ck_assert(!ig_tracing() && !ig_error());
    eager_end();
}
END_TEST

static void selects(void *user, ig_tensor *const *in, ig_tensor **out) {
    out[0] = ig_select_mask(in[0], (ig_tensor *)user);
}

START_TEST(constant_masks) {
    ig_tensor *x = VECTOR(IG_f32, 1, 2, 3, 4, 5), *mask = VECTOR(IG_bool, 1, 1, 0, 1, 0);
    ig_module *m;
    OK(ig_trace(selects, mask, 1, &x, 1, NULL, &m));
    SAME(selects, mask, m, 1, &x, 1);
    ig_module_free(m);
    eager_end();
}
END_TEST

/* --- The check ----------------------------------------------------------------------------- */

static void bakes_dim(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_mul(in[0], (double)ig_dim(in[0], 0));
}

static void bakes_shape(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *z = ig_zeros(IG_f32, IG_DIMS(ig_dim(in[0], 0)));
    out[0] = ig_sum(in[0], 0);
    out[1] = z;
}

static void bakes_mismatch(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_add(in[0], ig_zeros(IG_f32, IG_DIMS(ig_dim(in[0], 0))));
}

static void bakes_random(void *user, ig_tensor *const *in, ig_tensor **out) {
    static int calls;
    (void)user;
    out[0] = ig_mul(in[0], (double)++calls);
}

static void bakes_branch(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_dim(in[0], 0) > 4 ? ig_exp(in[0]) : ig_neg(in[0]);
}

static void bakes_more(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = in[0];
    for (int64_t i = 0; i < ig_dim(in[0], 0); i++) out[0] = ig_neg(out[0]);
}

static void bakes_limit(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_slice(in[0], IG_RANGE(0, ig_dim(in[0], 0)));
}

START_TEST(trace_check) {
    ig_tensor *x = VECTOR(IG_f32, 1, 2, 3, 4);
    ig_module *m;
    ig_trace_options o = {.dims = "[B]"}, once = {.dims = "[B]", .flags = IG_TRACE_ONCE};
    WANT_STATUS(ig_trace(bakes_dim, NULL, 1, &x, 1, &o, &m), IG_TRACE, "trace check", "constant",
                "mul at");
    WANT_STATUS(ig_trace(bakes_shape, NULL, 1, &x, 2, &o, &m), IG_TRACE, "trace check", "ig_extent",
                "full");
    WANT_STATUS(ig_trace(bakes_mismatch, NULL, 1, &x, 1, &o, &m), IG_SHAPE, "add: f32[B] vs f32[4]",
                "B != 4");
    WANT_STATUS(ig_trace(bakes_random, NULL, 1, &x, 1, &o, &m), IG_TRACE, "trace check",
                "constant");
    WANT_STATUS(ig_trace(bakes_branch, NULL, 1, &x, 1, &o, &m), IG_TRACE, "trace check",
                "first run: neg", "second run: exp");
    WANT_STATUS(ig_trace(bakes_more, NULL, 1, &x, 1, &o, &m), IG_TRACE, "trace check",
                "more or fewer");
    ig_status e = ig_trace(bakes_limit, NULL, 1, &x, 1, &o, &m);
    ck_assert(e != NULL);
    ig_status_free(e);
    OK(ig_trace(bakes_branch, NULL, 1, &x, 1, &once, &m));
    ck_assert(ig_module_get_info(m).unchecked);
    HAS(m, "unchecked");
    ig_module_free(m);
    OK(ig_trace(bakes_branch, NULL, 1, &x, 1, NULL,
                &m)); /* static: the branch is always the same */
    ig_module_free(m);
    eager_end();
}
END_TEST

/* --- Wrong uses ---------------------------------------------------------------------------- */

static void fails(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_matmul(in[0], in[0]);
}
static void forgets(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user, (void)in, (void)out;
}
static void nests(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_module *m;
    ig_status *e = user;
    ig_status_free(*e);
    *e = ig_trace(forgets, NULL, 0, NULL, 1, NULL, &m);
    out[0] = in[0];
}
static void unbalanced(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_scope_begin();
    out[0] = ig_add(in[0], 1);
}
static void ends_scope(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = in[0];
    ig_scope_end();
}

START_TEST(misuse) {
    ig_tensor *x = ig_zeros(IG_f32, IG_DIMS(2, 3)), *bad = ig_add(x, VECTOR(IG_f32, 1));
    ig_module *m;
    ig_status inner = NULL;
    WANT_STATUS(ig_trace(fails, NULL, 1, &x, 1, NULL, &m), IG_SHAPE,
                "matmul: f32[2,3] vs f32[2,3]");
    WANT_STATUS(ig_trace(forgets, NULL, 1, &x, 1, NULL, &m), IG_TRACE, "result 0 NULL");
    OK(ig_trace(nests, &inner, 1, &x, 1, NULL, &m));
    WANT_STATUS(inner, IG_TRACE, "under way");
    ig_module_free(m);
    OK(ig_trace(unbalanced, NULL, 1, &x, 1, NULL, &m));
    ig_module_free(m);
    WANT_STATUS(ig_trace(ends_scope, NULL, 1, &x, 1, NULL, &m), IG_INVALID, "ig_scope_begin");
    static const struct {
        const char *dims;
        ig_code code;
        const char *why;
    } text[] = {
        {"[B", IG_FORMAT, "more dims"},
        {"[B,C,D]", IG_FORMAT, "`]`"},
        {"B", IG_FORMAT, "`[`"},
        {"[2,4]", IG_SHAPE, "is 3, not 4"},
        {"[B,B]", IG_SHAPE, "B is 2"},
        {"[B,3], [C]", IG_FORMAT, "more brackets"},
        {"[B,3]; B in 5..9", IG_RANGE, "5..9"},
        {"[B,3]; B in 9..5", IG_FORMAT, "empty"},
        {"[B,3]; B 1..2", IG_FORMAT, "range"},
        {"[_,3]; N in 1..2", IG_INVALID, "N"},
        {"[B,3] x", IG_FORMAT, "^"},
        {"[99999999999999999999,3]", IG_FORMAT, "^"},
    };
    for (size_t i = 0; i < sizeof text / sizeof *text; i++)
        WANT_STATUS(
            ig_trace(forgets, NULL, 1, &x, 1, &(ig_trace_options){.dims = text[i].dims}, &m),
            text[i].code, text[i].why);
    ck_assert(!ig_is_poison(bad) && !ig_error());
    bad = ig_add(x, VECTOR(IG_f32, 1, 2));
    ck_assert(ig_error() != NULL);
    OK(ig_trace(unbalanced, NULL, 1, &x, 1, NULL,
                &m)); /* an error from before is not the trace's */
    ig_module_free(m);
    WANT_STATUS(ig_trace(unbalanced, NULL, 1, &bad, 1, NULL, &m), IG_SHAPE, "trace",
                "nothing to read");
    WANT_ERROR(IG_SHAPE, "add");
    eager_end();
}
END_TEST

/* --- Files, sharing, compiling ------------------------------------------------------------- */

START_TEST(files) {
    char path[] = "/tmp/ingot-module-XXXXXX";
    int fd = mkstemp(path);
    ck_assert(fd >= 0);
    close(fd);
    ig_tensor *w[3], *x = ig_normal(NULL, IG_f32, IG_DIMS(4, 6), 0, 1);
    ig_module *m, *loaded, *shared;
    make_weights(w);
    OK(ig_trace(mlp, w, 1, &x, 2, &(ig_trace_options){.name = "mlp", .dims = "[B,6]; B in 1..64"},
                &m));
    OK(ig_module_save(m, path));
    OK(ig_module_load(path, &loaded));
    char first[16384];
    snprintf(first, sizeof first, "%s", module_text(m));
    ck_assert_str_eq(first, module_text(loaded));
    SAME(mlp, w, loaded, 1, &x, 2);
    OK(ig_module_share(loaded, &shared));
    ig_module_free(loaded);
    SAME(mlp, w, shared, 1, &x, 2);
    ig_module_free(shared);
    ig_module_free(m);
    unlink(path);
    WANT_STATUS(ig_module_load(path, &m), IG_IO, path);
    ck_assert_ptr_null(m);
    eager_end();
}
END_TEST

/* An executor that runs the parts of a loop backwards. */
static int exec_parts;
static void exec_run(const ig_exec *self, ig_kernel kernel, void *const *bufs, const int64_t *dims,
                     int64_t n, int64_t ps) {
    (void)self;
    ck_assert_int_gt(ps, 0);
    for (int64_t hi = n; hi > 0; hi -= 3, exec_parts++) kernel(bufs, dims, hi > 3 ? hi - 3 : 0, hi);
}

/* With the code generator at hand: compiled, saved and loaded, the same bits. */
START_TEST(compiled) {
    char path[] = "/tmp/ingot-image-XXXXXX";
    int fd = mkstemp(path);
    ck_assert(fd >= 0);
    close(fd);
    ig_tensor *w[3], *x = ig_normal(NULL, IG_f32, IG_DIMS(4, 6), 0, 1), *n = ig_scalar(IG_f32, 5),
                     *two = ig_scalar(IG_f32, 2);
    ig_module *m, *loaded;
    make_weights(w);
    OK(ig_trace(mlp, w, 1, &x, 2, &(ig_trace_options){.name = "mlp", .dims = "[B,6]; B in 1..64"},
                &m));
    ig_status e = ig_module_compile(m, NULL);
    if (ig_status_code(e) == IG_UNSUPPORTED) {
        printf("trace: compiling skipped: %s\n", ig_status_text(e));
        ig_status_free(e);
    } else {
        OK(e);
        ck_assert_ptr_nonnull(ig_module_get_info(m).level);
        SAME(mlp, w, m, 1, &x, 2);
        OK(ig_module_save(m, path));
        OK(ig_module_load(path, &loaded));
        ck_assert_ptr_nonnull(ig_module_get_info(loaded).level);
        for (int64_t k = 1; k < 30; k += 7) {
            ig_tensor *y = ig_normal(NULL, IG_f32, IG_DIMS(k, 6), 0, 1);
            SAME(mlp, w, loaded, 1, &y, 2);
        }
        fesetround(FE_DOWNWARD);
        e = ig_module_compile(m, NULL);
        fesetround(FE_TONEAREST);
        OK(e);
        SAME(mlp, w, m, 1, &x, 2);
        WANT_STATUS(ig_module_build(m, "not-c", NULL, path), IG_INVALID, "not-c");
        OK(ig_module_build(m, "net", NULL, path));
        ig_exec exec = {exec_run};
        ig_module_set_exec(loaded, &exec);
        SAME(mlp, w, loaded, 1, &x, 2);
        ck_assert(exec_parts > 0);
        ig_module_free(loaded);
        OK(ig_trace(count, n, 1, &two, 1, NULL, &loaded));
        OK(ig_module_compile(loaded, NULL));
        ig_tensor *out;
        OK(ig_module_run(loaded, 1, &two, 1, &out));
        WANT(out, IG_f32, IG_SCALAR, 70);
        WANT(n, IG_f32, IG_SCALAR, 7);
        ig_module_free(loaded);
    }
    ig_module_free(m);
    unlink(path);
    eager_end();
}
END_TEST

int main(void) {
    Suite *s = suite_create("trace");
    TCase *t = tcase_create("trace");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, network);
    tcase_add_test(t, dynamic_shapes);
    tcase_add_test(t, captures);
    tcase_add_test(t, weight_names);
    tcase_add_test(t, plain_results);
    tcase_add_test(t, state);
    tcase_add_test(t, random_state);
    tcase_add_test(t, assignment);
    tcase_add_test(t, observation);
    tcase_add_test(t, constant_masks);
    tcase_add_test(t, trace_check);
    tcase_add_test(t, misuse);
    tcase_add_test(t, files);
    tcase_add_test(t, compiled);
    suite_add_tcase(s, t);
    return eager_main(s);
}
