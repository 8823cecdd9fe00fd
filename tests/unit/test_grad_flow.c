/* test_grad_flow.c - gradient scopes around loops, branches and checkpoints, eager and in a trace:
 * the bits are those of ig_value_and_grad of the traced function. */
#include "eager.h"
#include "frontend/fe.h"
#include "passes/pass.h"
#include <unistd.h>

/* --- Losses ---------------------------------------------------------------------------------- */

enum { STEPS = 5, WIDTH = 4 };

/* A recurrent cell; user: the weights. */
static void cell(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *w = user;
    out[0] = ig_tanh(ig_add(ig_matmul(in[0], w), in[1]));
    out[1] = ig_mul(ig_sum(out[0], IG_ALL_AXES), ig_cast(in[2], IG_f64));
}

/* (x, w) -> loss: a scan, forwards and back, of which everything is used. */
static ig_tensor *scan_loss(ig_tensor *x, ig_tensor *w, const ig_scan_options *opt) {
    ig_tensor *h = ig_zeros(IG_f64, IG_DIMS(2, WIDTH)), *out[2];
    ig_scan(cell, w, 1, &h, 1, &x, 1, opt, out);
    return ig_add(ig_sum(ig_square(out[0]), IG_ALL_AXES), ig_sum(ig_sin(out[1]), IG_ALL_AXES));
}

static ig_tensor *forward_scan(ig_tensor *x, ig_tensor *w) { return scan_loss(x, w, NULL); }
static ig_tensor *reverse_scan(ig_tensor *x, ig_tensor *w) {
    return scan_loss(x, w, &(ig_scan_options){.reverse = true, .keep = 2});
}

static void below(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_lt(ig_sum(ig_abs(in[0]), IG_ALL_AXES), 40);
}

static void grow(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *w = user;
    out[0] = ig_add(ig_mul(in[0], 1.5), ig_sum(w, 0));
    out[1] = ig_add(in[1], 1);
}

static ig_tensor *while_loss(ig_tensor *x, ig_tensor *w) {
    ig_tensor *init[2] = {ig_sum(x, 0), ig_scalar(IG_i64, 0)}, *out[2];
    ig_while_with(below, grow, w, 2, init, &(ig_while_options){.cap = 30, .keep = IG_CKPT_SQRT},
                  out);
    return ig_mean(out[0], IG_ALL_AXES);
}

static void layer(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *w = user;
    out[0] = ig_gelu(ig_matmul(in[0], w));
}

static ig_tensor *checkpoint_loss(ig_tensor *x, ig_tensor *w) {
    ig_tensor *h = ig_sum(x, 0);
    for (int i = 0; i < 4; i++) ig_checkpoint(layer, w, 1, &h, 1, i & 1 ? IG_CKPT_DOTS : 0, &h);
    return ig_sum(h, IG_ALL_AXES);
}

static void plus(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *w = user;
    out[0] = ig_add(in[0], ig_sum(w, IG_ALL_AXES));
}
static void times(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *h[2] = {in[0], in[0]};
    ig_scan(plus, user, 1, h, 0, NULL, 0, &(ig_scan_options){.steps = 3}, h + 1);
    out[0] = ig_mul(in[0], h[1]);
}
static ig_tensor *branch_loss(ig_tensor *x, ig_tensor *w) {
    ig_tensor *h = ig_sum(x, IG_ALL_AXES), *y;
    ig_if(ig_lt(h, 1e6), times, plus, w, 1, &h, 1, &y);
    return y;
}

typedef ig_tensor *(*loss_fn)(ig_tensor *x, ig_tensor *w);
static const struct {
    const char *name;
    loss_fn loss;
} losses[] = {{"scan", forward_scan},
              {"reverse", reverse_scan},
              {"while", while_loss},
              {"checkpoint", checkpoint_loss},
              {"branch", branch_loss}};
enum { LOSSES = sizeof losses / sizeof *losses };

static void traced_loss(void *user, ig_tensor *const *in, ig_tensor **out) {
    out[0] = losses[*(int *)user].loss(in[0], in[1]);
}

/* The same by a gradient scope: (x, w) -> (loss, ^x, ^w). */
static void by_scope(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *x = ig_copy(in[0]), *w = ig_copy(in[1]);
    IG_GRAD_SCOPE {
        ig_watch(x), ig_watch(w);
        traced_loss(user, (ig_tensor *[]){x, w}, out);
        ig_backward(out[0]);
    }
    out[1] = ig_grad_of(x), out[2] = ig_grad_of(w);
}

static void make_inputs(ig_tensor **in) {
    ig_tensor *rng = ig_rng(11);
    in[0] = ig_uniform(rng, IG_f64, IG_DIMS(STEPS, 2, WIDTH), -1, 1);
    in[1] = ig_uniform(rng, IG_f64, IG_DIMS(WIDTH, WIDTH), -1, 1);
}

static void same(const char *name, const char *how, ig_tensor *const *want, ig_tensor *const *got) {
    for (int k = 0; k < 3; k++) {
        ck_assert_msg(!ig_is_poison(got[k]), "%s, %s: %s", name, how, ig_error_text());
        size_t n = (size_t)ig_numel(want[k]) * sizeof(double);
        ck_assert_msg(!memcmp(ig_data(want[k]), ig_data(got[k]), n), "%s, %s: result %d", name, how,
                      k);
    }
}

START_TEST(scopes_and_derived_modules_give_the_same_bytes) {
    ig_tensor *in[2], *want[3], *got[3];
    ig_module *m, *g, *step, *inner;
    int which = _i;
    const char *name = losses[_i].name;
    make_inputs(in);
    OK(ig_trace(traced_loss, &which, 2, in, 1, NULL, &m));
    OK(ig_value_and_grad(m, NULL, &g));
    OK(ig_module_compile(g, NULL));
    OK(ig_module_run(g, 2, in, 3, want));
    for (int i = 0; i < 3; i++) { /* op by op, compiled, found again */
        by_scope(&which, in, got);
        same(name, "eager", want, got);
    }
    ck_assert_uint_eq(ig_grad_counts(NULL).derived, 1);
    OK(ig_trace(by_scope, &which, 2, in, 3, NULL, &step));
    OK(ig_module_run(step, 2, in, 3, got));
    same(name, "traced", want, got);
    OK(ig_module_compile(step, NULL));
    OK(ig_module_run(step, 2, in, 3, got));
    same(name, "compiled", want, got);

    /* A module with loops, saved and loaded, called in a scope and in a trace of one. */
    char path[] = "/tmp/ingot_grad_flow_XXXXXX";
    close(mkstemp(path));
    OK(ig_module_save(m, path));
    OK(ig_module_load(path, &inner));
    remove(path);
    ig_tensor *x = ig_copy(in[0]), *w = ig_copy(in[1]);
    IG_GRAD_SCOPE {
        ig_watch(x), ig_watch(w);
        OK(ig_module_run(inner, 2, (ig_tensor *[]){x, w}, 1, got));
        ig_backward(got[0]);
    }
    got[1] = ig_grad_of(x), got[2] = ig_grad_of(w);
    same(name, "module", want, got);
    ig_module_free(m), ig_module_free(g), ig_module_free(step), ig_module_free(inner);
    eager_end();
}
END_TEST

/* --- Scopes in bodies ------------------------------------------------------------------------- */

/* Gradient descent as a loop: every turn has a scope of its own. */
static void descend(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *w = ig_copy(in[0]);
    IG_GRAD_SCOPE {
        ig_watch(w);
        ig_backward(scan_loss(user, w, NULL));
    }
    out[0] = ig_sub(w, ig_mul(ig_grad_of(w), 0.01));
}

static void descent(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_scan(descend, in[0], 1, &in[1], 0, NULL, 0, &(ig_scan_options){.steps = 4}, out);
}

START_TEST(a_body_has_a_scope) {
    ig_tensor *in[2], *want, *got;
    ig_module *m;
    make_inputs(in);
    descent(NULL, in, &want);
    OK(ig_trace(descent, NULL, 2, in, 1, NULL, &m));
    OK(ig_module_compile(m, NULL));
    OK(ig_module_run(m, 2, in, 1, &got));
    ck_assert(ig_equal(want, got));
    ig_module_free(m);
    eager_end();
}
END_TEST

/* --- Memory ---------------------------------------------------------------------------------- */

enum { LAYERS = 12, BATCH = 64, UNITS = 32 };

typedef struct deep {
    bool checkpoint;
    ig_ckpt keep;
    ig_tensor *w[2 * LAYERS];
} deep;

static void block(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *const *w = user;
    ig_tensor *h = ig_gelu(ig_matmul(in[0], w[0]));
    out[0] = ig_add(ig_gelu(ig_matmul(h, w[1])), in[0]);
}

static void deep_net(void *user, ig_tensor *const *in, ig_tensor **out) {
    deep *d = user;
    ig_tensor *h = in[0], *next;
    for (int i = 0; i < LAYERS; i++, h = next) {
        if (d->checkpoint)
            ig_checkpoint(block, &d->w[2 * i], 1, &h, 1, d->keep, &next);
        else
            block(&d->w[2 * i], &h, &next);
    }
    out[0] = ig_sum(ig_square(h), IG_ALL_AXES);
}

/* Bytes that a compiled run takes besides arguments and results. */
static int64_t workspace(const ig_module *m) {
    ir_module *planned;
    int64_t bytes = 0;
    OK(pass_pipeline(fe_module_ir(m), &planned));
    ck_assert(ir_dim_eval(planned, pass_workspace(ir_entry(planned)), NULL, &bytes));
    ir_module_free(planned);
    return bytes;
}

/* Value and gradients of the net, and the workspace of that. */
static int64_t deep_gradients(deep *d, ig_tensor *x, ig_tensor **out) {
    ig_module *m, *g;
    OK(ig_trace(deep_net, d, 1, &x, 1, NULL, &m));
    OK(ig_value_and_grad(m, "@*", &g));
    OK(ig_module_compile(g, NULL));
    OK(ig_module_run(g, 1, &x, 1 + 2 * LAYERS, out));
    int64_t bytes = workspace(g);
    ig_module_free(m), ig_module_free(g);
    return bytes;
}

START_TEST(checkpoints_take_less_memory) {
    deep d = {.checkpoint = false};
    ig_tensor *rng = ig_rng(5), *want[1 + 2 * LAYERS], *got[1 + 2 * LAYERS];
    for (int i = 0; i < 2 * LAYERS; i++) {
        char name[8];
        snprintf(name, sizeof name, "w%d", i);
        d.w[i] = ig_name(ig_normal(rng, IG_f32, IG_DIMS(UNITS, UNITS), 0, 0.2), name);
    }
    ig_tensor *x = ig_normal(rng, IG_f32, IG_DIMS(BATCH, UNITS), 0, 1);
    int64_t plain = deep_gradients(&d, x, want), bytes[2];
    d.checkpoint = true;
    for (int k = 0; k < 2; k++) {
        d.keep = k ? IG_CKPT_DOTS : IG_CKPT_AUTO;
        bytes[k] = deep_gradients(&d, x, got);
        for (int i = 0; i < 1 + 2 * LAYERS; i++) ck_assert(ig_equal(want[i], got[i]));
    }
    printf(
        "gradient of %d blocks of %d x %d: workspace %lld bytes, with checkpoints %lld, those that "
        "keep contractions %lld\n",
        LAYERS, BATCH, UNITS, (long long)plain, (long long)bytes[0], (long long)bytes[1]);
    ck_assert_int_lt(bytes[0] * 3, plain);
    ck_assert_int_lt(bytes[0], bytes[1]);
    ck_assert_int_lt(bytes[1], plain);
    eager_end();
}
END_TEST

/* A long scan. */
static void long_net(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *h = ig_zeros(IG_f64, IG_DIMS(2, WIDTH));
    const ig_scan_options opt = {.keep = *(ig_ckpt *)user};
    ig_tensor *y[2];
    ig_scan(cell, in[1], 1, &h, 1, in, 1, &opt, y);
    out[0] = ig_sum(y[0], IG_ALL_AXES);
}

START_TEST(a_long_scan_keeps_the_root) {
    ig_tensor *rng = ig_rng(5), *in[2] = {ig_normal(rng, IG_f64, IG_DIMS(2500, 2, WIDTH), 0, 1),
                                          ig_normal(rng, IG_f64, IG_DIMS(WIDTH, WIDTH), 0, 0.4)};
    ig_tensor *out[2][3];
    int64_t bytes[2];
    for (int k = 0; k < 2; k++) {
        ig_ckpt keep = k ? IG_CKPT_SQRT : IG_CKPT_AUTO;
        ig_module *m, *g;
        OK(ig_trace(long_net, &keep, 2, in, 1, NULL, &m));
        OK(ig_value_and_grad(m, NULL, &g));
        OK(ig_module_compile(g, NULL));
        OK(ig_module_run(g, 2, in, 3, out[k]));
        bytes[k] = workspace(g);
        ig_module_free(m), ig_module_free(g);
    }
    for (int i = 0; i < 3; i++) ck_assert(ig_equal(out[0][i], out[1][i]));
    printf("gradient of 2500 steps: workspace %lld bytes, with the root of the states %lld\n",
           (long long)bytes[0], (long long)bytes[1]);
    ck_assert_int_lt(bytes[1] * 6, bytes[0]);
    eager_end();
}
END_TEST

/* A chain of ops whose derivatives read nothing holds nothing; what they read is held. */
START_TEST(only_what_is_needed_is_held) {
    enum { CHAIN = 1000, N = 1 << 18 };
    size_t peak[2];
    for (int exps = 0; exps < 2; exps++) {
        ig_session *s, *before;
        OK(ig_session_new(NULL, &s));
        before = ig_session_use(s);
        ig_tensor *x = ig_keep(ig_full(IG_f32, IG_DIMS(N), 0.5f)), *one = ig_scalar(IG_f32, 1);
        IG_GRAD_SCOPE {
            ig_watch(x);
            ig_tensor *y = ig_keep(ig_neg(x));
            for (int i = 0; i < (exps ? 20 : CHAIN); i++) {
                IG_SCOPE { ig_assign(y, exps ? ig_exp(ig_neg(y)) : ig_add(y, one)); }
            }
            ig_backward(ig_sum(y, 0));
            ig_free(y);
        }
        ck_assert_msg(!ig_error(), "%s", ig_error_text());
        double slope = ((const float *)ig_data(ig_grad_of(x)))[N - 1];
        ck_assert(exps ? slope < 0 : slope == -1);
        ig_free(x);
        peak[exps] = ig_memory_stats(NULL).peak_bytes;
        ig_session_free(s);
        ig_session_use(before);
    }
    printf("peak of %d adds on 1 MiB: %zu bytes; of 20 exps: %zu\n", CHAIN, peak[0], peak[1]);
    ck_assert_uint_lt(peak[0], 10u << 20);
    ck_assert_uint_gt(peak[1], 20u << 20);
    eager_end();
}
END_TEST

/* The memory of a run has a limit; an error names the loop, its line and its bytes. */
START_TEST(too_much_memory) {
    enum { LIMIT = 300000 };
    ig_tensor *rng = ig_rng(5), *out[2],
              *in[2] = {ig_normal(rng, IG_f64, IG_DIMS(2500, 2, WIDTH), 0, 1),
                        ig_normal(rng, IG_f64, IG_DIMS(WIDTH, WIDTH), 0, 0.4)};
    for (int k = 0; k < 2; k++) {
        ig_ckpt keep = k ? IG_CKPT_SQRT : IG_CKPT_AUTO;
        ig_module *m, *g;
        OK(ig_trace(long_net, &keep, 2, in, 1, NULL, &m));
        ig_module_set_limit(m, LIMIT);
        OK(ig_value_and_grad(m, "1", &g));           /* takes the limit over */
        for (int native = k; native < 2; native++) { /* the reference copies what it reshapes */
            if (native) OK(ig_module_compile(g, NULL));
            ig_status s = ig_module_run(g, 2, in, 2, out);
            if (k) {
                OK(s);
                continue;
            }
            WANT_STATUS(
                s, IG_MEMORY, "bytes or more besides arguments", "the limit is 300000",
                "340064 of them are what scan at ../tests/unit/test_grad_flow.c:", "IG_CKPT_SQRT");
        }
        ig_module_set_limit(g, 0);
        OK(ig_module_run(g, 2, in, 2, out));
        ig_module_free(m), ig_module_free(g);
    }
    eager_end();
}
END_TEST

static void far(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_lt(in[0], 1e9);
}
static void nearer(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_add(in[0], 1);
}
enum { CAPPED_LINE = __LINE__ + 3 };
static void capped(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_while(far, nearer, NULL, 1, in, 7, out);
}

START_TEST(a_cap_names_its_loop) {
    ig_tensor *x = ig_scalar(IG_f64, 1), *y;
    ig_module *m;
    char line[64];
    snprintf(line, sizeof line, "test_grad_flow.c:%d", CAPPED_LINE);
    OK(ig_trace(capped, NULL, 1, &x, 1, NULL, &m));
    WANT_STATUS(ig_module_run(m, 1, &x, 1, &y), IG_RANGE, line, "more than 7 times, its cap");
    OK(ig_module_compile(m, NULL));
    WANT_STATUS(ig_module_run(m, 1, &x, 1, &y), IG_RANGE, line, "than its cap", "(7)");
    capped(NULL, &x, &y);
    WANT_ERROR(IG_RANGE, line, "more than 7 times, its cap");
    ig_module_free(m);
    eager_end();
}
END_TEST

/* --- Errors ----------------------------------------------------------------------------------- */

static void reads(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_mul(in[0], ig_item_bool(in[0]));
}

static void differs(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_reshape(in[0], IG_DIMS(1));
}

static void backward_inside(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_mul(in[0], in[0]);
    ig_backward(out[0]);
}

START_TEST(errors) {
    const struct {
        ig_body_fn body;
        ig_code code;
        const char *words;
    } wrong[] = {{reads, IG_TRACE, "a gradient scope records once"},
                 {differs, IG_SHAPE, "carried value 0 is f64[1], not f64[]"},
                 {backward_inside, IG_INVALID, "the loss is computed in the body of scan"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ig_tensor *x = ig_scalar(IG_f64, 3), *y;
        IG_GRAD_SCOPE {
            ig_watch(x);
            ig_tensor *before = ig_mul(x, x);
            ig_scan(wrong[i].body, NULL, 1, &x, 0, NULL, 0, &(ig_scan_options){.steps = 2}, &y);
            WANT_ERROR(wrong[i].code, "test_grad_flow.c", wrong[i].words);
            if (i == 2) break;
            ig_backward(before);
            WANT_ERROR(IG_INVALID, "that failed was recorded in the gradient scope");
        }
    }
    ig_tensor *x = ig_scalar(IG_f64, 3), *y;
    char line[80];
    IG_GRAD_SCOPE {
        ig_watch(x);
        y = ig_cast(ig_cast(x, IG_i32), IG_f64);
        snprintf(line, sizeof line, "in ig_backward at %s:%d", __FILE__, __LINE__ + 1);
        ig_backward(y);
    }
    WANT_ERROR(IG_DTYPE, "convert: the result depends on the arguments through integers", line);
    ck_assert(
        !ig_while_with(below, grow, NULL, 1, &x, &(ig_while_options){.keep = IG_CKPT_ALL}, &y));
    WANT_ERROR(IG_INVALID, "test_grad_flow.c", "while", "give it a cap");
    ck_assert(!ig_while_with(below, grow, NULL, 1, &x,
                             &(ig_while_options){.cap = 5, .keep = IG_CKPT_DOTS}, &y));
    WANT_ERROR(IG_INVALID, "dots is not for while");
    ck_assert(!ig_checkpoint(layer, NULL, 1, &x, 1, 3, &y));
    WANT_ERROR(IG_INVALID, "checkpoint", "are for loops");
    ck_assert(!ig_scan(layer, NULL, 1, &x, 0, NULL, 0, &(ig_scan_options){.keep = -9}, &y));
    WANT_ERROR(IG_INVALID, "no such checkpoint policy");
    eager_end();
}
END_TEST

static ig_status oom_body(void) {
    ig_tensor *in[2], *out[3];
    int which = 0;
    make_inputs(in);
    by_scope(&which, in, out);
    which = 3;
    by_scope(&which, in, out);
    return NULL;
}

START_TEST(every_allocation_fails_once) {
    setenv("IG_LLVM_PLUGIN", "/nonexistent/libingot-llvm.so", 1); /* compiling has its own sweep */
    eager_sweep("grad_flow", oom_body, getenv("IG_TEST_QUICK") ? 13 : 3);
}
END_TEST

int main(void) {
    Suite *s = suite_create("grad_flow");
    TCase *t = tcase_create("grad_flow");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, scopes_and_derived_modules_give_the_same_bytes, 0, LOSSES);
    tcase_add_test(t, a_body_has_a_scope);
    tcase_add_test(t, checkpoints_take_less_memory);
    tcase_add_test(t, a_long_scan_keeps_the_root);
    tcase_add_test(t, only_what_is_needed_is_held);
    tcase_add_test(t, too_much_memory);
    tcase_add_test(t, a_cap_names_its_loop);
    tcase_add_test(t, errors);
    tcase_add_test(t, every_allocation_fails_once);
    suite_add_tcase(s, t);
    return eager_main(s);
}
