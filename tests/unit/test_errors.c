/* test_errors.c - what happens when something is wrong: poison, the first error, traps, the
 * caller's environment. */
#include "eager.h"
#include <fenv.h>
#include <setjmp.h>
#include <unistd.h>

START_TEST(first_error) {
    ig_tensor *a = ig_zeros(IG_f32, IG_DIMS(64, 32)), *b = ig_zeros(IG_f32, IG_DIMS(32, 64));
    int line = __LINE__ + 1;
    ig_tensor *bad = ig_add(a, b);
    ck_assert(ig_is_poison(bad));
    ck_assert(ig_is_poison(ig_exp(ig_sum(ig_mul(bad, 2), 0))));
    ig_matmul(a, a); /* a second error is not the first */
    ck_assert_int_eq(ig_status_line(ig_error()), line);
    ck_assert(strstr(ig_status_file(ig_error()), "test_errors.c") != NULL);
    ck_assert_str_eq(ig_status_op(ig_error()), "add");
    WANT_ERROR(IG_SHAPE, "add: f32[64,32] vs f32[32,64]: dim 0: 64 != 32",
               "operand 1: f32[32,64], made at");
    ck_assert_str_eq(ig_error_text(), "ok");
    ck_assert(isnan(ig_item_f64(bad)));
    ck_assert_ptr_null(ig_data(bad));
    ck_assert(ig_error() == NULL); /* poison passes in silence */
    float x;
    WANT_STATUS(ig_read(bad, &x, 4), IG_INVALID, "poison");
    ig_add((ig_tensor *)NULL, 1);
    WANT_ERROR(IG_INVALID, "operand 0 is NULL");
    ig_add(a, b);
    ig_status taken = ig_error_take();
    ck_assert_int_eq(ig_status_code(taken), IG_SHAPE);
    ig_status_free(taken);
    ck_assert(ig_error() == NULL);
    eager_end();
}
END_TEST

START_TEST(composite_names) {
    ig_softmax(ig_zeros(IG_i32, IG_DIMS(3)), 0);
    WANT_ERROR(IG_DTYPE, "softmax: ", "in the op exp", "i32[3]");
    ig_concat(IG_LIST(ig_zeros(IG_f32, IG_DIMS(2)), ig_zeros(IG_f32, IG_DIMS(2, 2))), 0);
    WANT_ERROR(IG_SHAPE, "concat: f32[2] and f32[2,2]", "rank");
    ig_concat(IG_LIST(ig_zeros(IG_f32, IG_DIMS(2, 3)), ig_zeros(IG_f32, IG_DIMS(2, 2))), 0);
    WANT_ERROR(IG_SHAPE, "concat", "axis 1", "3 and 2");
    ig_reshape(ig_zeros(IG_f32, IG_DIMS(6)), IG_DIMS(4, -1));
    WANT_ERROR(IG_SHAPE, "reshape", "f32[6]", "-1");
    ig_reshape(ig_zeros(IG_f32, IG_DIMS(6)), IG_DIMS(4, 2));
    WANT_ERROR(IG_SHAPE, "reshape", "6 elements", "8");
    ig_zeros(IG_f32, IG_DIMS(2, -3));
    WANT_ERROR(IG_RANGE, "dim 1", "-3");
    ig_zeros(IG_f32, IG_DIMS(INT64_MAX, 2));
    WANT_ERROR(IG_RANGE, "too large");
    ig_tensor_from((ig_dtype)77, IG_DIMS(1), NULL);
    WANT_ERROR(IG_DTYPE, "77");
    ig_cast(ig_zeros(IG_f32, IG_SCALAR), IG_NONE);
    WANT_ERROR(IG_DTYPE, "cast");
    ig_arange(IG_f32, 0, 1, 0);
    WANT_ERROR(IG_RANGE, "step 0");
    ig_transpose(ig_zeros(IG_f32, IG_DIMS(2, 3)), IG_AXES(0, 0));
    WANT_ERROR(IG_INVALID, "transpose", "once");
    eager_end();
}
END_TEST

START_TEST(nan_trap) {
    ig_session_nan_trap(NULL, true);
    ig_tensor *x = VECTOR(IG_f32, 1, 0, 2), *z = VECTOR(IG_f32, 1, 0, 1);
    int line = __LINE__ + 1;
    ck_assert(ig_is_poison(ig_div(x, z)));
    ck_assert_int_eq(ig_status_line(ig_error()), line);
    WANT_ERROR(IG_RANGE, "div", "NaN at element 1", "operand 0 there: 0");
    ig_tensor *n = VECTOR(IG_f32, (double)NAN);
    ck_assert(!ig_is_poison(ig_add(n, 1))); /* it was there before */
    ig_session_nan_trap(NULL, false);
    ck_assert(!ig_is_poison(ig_div(x, z)));
    eager_end();
}
END_TEST

START_TEST(nan_trap_env) {
    setenv("IG_NAN", "1", 1);
    ck_assert(ig_is_poison(ig_log(VECTOR(IG_f64, -1))));
    WANT_ERROR(IG_RANGE, "log", "NaN");
    eager_end();
    setenv("IG_NAN", "0", 1);
    ck_assert(!ig_is_poison(ig_log(VECTOR(IG_f64, -1))));
    eager_end();
}
END_TEST

static jmp_buf hook_jump;
static int hook_calls;
static void hook(void *user, ig_status s) {
    hook_calls += user == &hook_calls && ig_status_code(s) == IG_SHAPE;
    if (hook_calls == 2) longjmp(hook_jump, 1);
}

START_TEST(hooks) {
    ig_error_set_hook(NULL, hook, &hook_calls);
    ig_tensor *x = VECTOR(IG_f32, 1, 2), *y = VECTOR(IG_f32, 1, 2, 3);
    ig_add(x, y);
    ck_assert_int_eq(hook_calls, 1);
    ig_add(x, y); /* not the first any more */
    ck_assert_int_eq(hook_calls, 1);
    ig_error_clear();
    if (!setjmp(hook_jump)) {
        ig_softmax(ig_add(x, y), 0);
        ck_abort_msg("the hook left by longjmp");
    }
    ig_error_clear();
    WANT(ig_add(x, 1), IG_f32, IG_DIMS(2), 2, 3);
    eager_end();
}
END_TEST

/* Every failing op names itself with the caller's line, whatever it is made of. */
START_TEST(weird_arguments) {
    ig_tensor *x = VECTOR(IG_f32, 1, 2), *part[2];
    ig_dims nine = {9, {1, 1, 1, 1, 1, 1, 1, 1}};
    ig_zeros(IG_f32, nine);
    WANT_ERROR(IG_INVALID, "9 dims");
    ig_sum_at(NULL, IG_ARG(x), (ig_axes){.n = 99});
    WANT_ERROR(IG_INVALID, "99 axes");
    ig_concat_at(NULL, (ig_list){0, NULL}, 0);
    WANT_ERROR(IG_INVALID, "nothing to join");
    ig_split(x, 0, 0, part);
    WANT_ERROR(IG_SHAPE, "0 equal parts");
    ig_stack(IG_LIST(x, ig_zeros(IG_f32, IG_SCALAR)), 0);
    WANT_ERROR(IG_SHAPE, "stack");
    ig_repeat(x, -1, 0);
    WANT_ERROR(IG_RANGE, "-1");
    ig_one_hot(x, 3, IG_f32);
    WANT_ERROR(IG_DTYPE, "integer");
    ig_window(x, IG_LIST(x), IG_DIMS(1));
    WANT_ERROR(IG_DTYPE, "position 0");
    ig_ein_at(NULL, NULL, (ig_list){0, NULL});
    WANT_ERROR(IG_INVALID, "relation");
    ig_ein("y[i] += a[i]*b[i]", x);
    WANT_ERROR(IG_FORMAT, "2 operands, 1");
    ig_name(x, "");
    WANT_ERROR(IG_INVALID, "name");
    ig_permutation(NULL, -1);
    WANT_ERROR(IG_RANGE, "permutation");
    ig_bernoulli(NULL, IG_DIMS(1), 2);
    WANT_ERROR(IG_RANGE, "probability");
    ig_slice(x, IG_STEP(0, 1, 0));
    WANT_ERROR(IG_RANGE, "step");
    ig_slice(x, IG_REST, IG_REST);
    WANT_ERROR(IG_SHAPE, "two");
    ig_assign(NULL, 1);
    WANT_ERROR(IG_INVALID, "NULL");
    ig_pow(VECTOR(IG_i32, 2), -1);
    WANT_ERROR(IG_RANGE, "power of -1");
    ig_topk(x, 3, 0, &part[0], &part[1]);
    WANT_ERROR(IG_RANGE, "topk", "3 of the 2");
    ig_free(NULL);
    ig_free(part[0]);
    ig_keep(part[0]);
    eager_end();
}
END_TEST

/* Numerics rule 14: the caller's modes change nothing, and are there again afterwards. */
START_TEST(float_environment) {
    ig_tensor *x = VECTOR(IG_f32, 1, 3, 1e-40), *y = VECTOR(IG_f32, 3, 7, 1);
    ig_tensor *q = ig_div(x, y), *e = ig_exp(x);
    fesetround(FE_UPWARD);
#if defined(__x86_64__)
    unsigned mode = __builtin_ia32_stmxcsr() | 0x8040; /* flush to zero, denormals are zero */
    __builtin_ia32_ldmxcsr(mode);
#endif
    ig_tensor *q2 = ig_div(x, y), *e2 = ig_exp(x);
    bool same = ig_equal(q, q2) && ig_equal(e, e2);
    bool kept = fegetround() == FE_UPWARD;
#if defined(__x86_64__)
    kept = kept && (__builtin_ia32_stmxcsr() & ~0x3fu) == (mode & ~0x3fu);
    __builtin_ia32_ldmxcsr(0x1f80);
#endif
    fesetround(FE_TONEAREST);
    ck_assert(same);
    ck_assert(kept);
    eager_end();
}
END_TEST

/* Tensors alive at the end are listed with their places under IG_LOG=leak. */
START_TEST(leak_report) {
    char path[] = "/tmp/ingot-leak-XXXXXX", text[4096] = {0};
    int fd = mkstemp(path), err = dup(2);
    ck_assert(fd >= 0 && err >= 0);
    setenv("IG_LOG", "leak", 1);
    dup2(fd, 2);
    int line = __LINE__ + 1;
    ig_keep(ig_zeros(IG_f32, IG_DIMS(5)));
    ig_scope_begin();
    ig_ones(IG_f32, IG_DIMS(7));
    size_t alive = ig_session_free(NULL);
    unsetenv("IG_LOG");
    dup2(err, 2);
    ck_assert(pread(fd, text, sizeof text - 1, 0) > 0);
    close(fd);
    close(err);
    unlink(path);
    char place[64];
    snprintf(place, sizeof place, "test_errors.c:%d", line);
    ck_assert_uint_eq(alive, 2);
    ck_assert_msg(strstr(text, place) && strstr(text, "20 bytes") && strstr(text, "kept") &&
                      strstr(text, "never ended"),
                  "%s", text);
}
END_TEST

/* --- The n-th allocation fails ------------------------------------------------------------- */

static void traced(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *w = user;
    ig_assign(w, ig_add(w, ig_mean(in[0], 0)));
    out[0] = ig_softmax(ig_add(ig_matmul(in[0], ig_reshape(w, IG_DIMS(3, 1))), 1), 0);
}

static ig_status oom_program(void) {
    ig_tensor *g = ig_reshape(ig_arange(IG_f32, 0, 6, 1), IG_DIMS(2, 3)), *out, *part[2], *top, *at;
    ig_module *m, *shared = NULL;
    char *text = NULL;
    IG_SCOPE {
        ig_assign_slice(g, 3, IG_AT(0), IG_STEP(0, IG_OPEN, 2));
        ig_assign_mask(g, ig_gt(g, 4), ig_sum(g, IG_ALL_AXES));
        ig_split(ig_concat(IG_LIST(g, g, g, g, g, g), 0), 2, 0, part);
        ig_topk(ig_stack(IG_LIST(g, g), 1), 2, -1, &top, &at);
        ig_select_mask(g, ig_gt(g, 3));
        ig_normal(NULL, IG_f32, IG_DIMS(5), 0, 1);
        ig_permutation(NULL, 5);
        ig_ein("y[j] += a[i,j]", g);
        ig_exp(g);
    }
    ig_status e = ig_text(g, &text);
    if (e) return e;
    ig_text_free(text);
    ig_tensor *w = ig_name(ig_zeros(IG_f32, IG_DIMS(3)), "w");
    e = ig_trace(traced, w, 1, &g, 1, &(ig_trace_options){.dims = "[B,3]; B in 1..9"}, &m);
    if (e) return e;
    e = ig_module_run(m, 1, &g, 1, &out);
    if (!e) e = ig_module_text(m, &text);
    if (!e) ig_text_free(text);
    if (!e) e = ig_module_share(m, &shared);
    ig_module_free(shared);
    ig_module_free(m);
    return e;
}

START_TEST(out_of_memory) {
    long points = 0;
    for (long n = 0;; n++) {
        eager_oom o = {.fail = n};
        ig_allocator a = {eager_oom_resize, &o};
        ig_session *s = NULL;
        ig_code first = IG_OK;
        ig_status e = ig_session_new(&(ig_session_options){.alloc = &a}, &s);
        if (!e) {
            ig_session_use(s);
            e = oom_program();
            first = ig_status_code(ig_error());
            ck_assert_msg(!first || first == IG_MEMORY, "allocation %ld: %s", n, ig_error_text());
            ig_session_free(s);
        }
        ck_assert_msg(!e || first == IG_MEMORY || ig_status_code(e) == IG_MEMORY,
                      "allocation %ld: %s", n, ig_status_text(e));
        ck_assert_msg(o.at > n || !e, "%s", ig_status_text(e));
        ig_status_free(e);
        ck_assert_msg(!o.live, "%zu bytes leak when allocation %ld fails", o.live, n);
        if (o.at <= n) break;
        points++;
    }
    printf("errors: %ld allocation points\n", points);
    ck_assert(points > 100);
}
END_TEST

int main(void) {
    Suite *s = suite_create("errors");
    TCase *t = tcase_create("errors");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, first_error);
    tcase_add_test(t, composite_names);
    tcase_add_test(t, nan_trap);
    tcase_add_test(t, nan_trap_env);
    tcase_add_test(t, hooks);
    tcase_add_test(t, weird_arguments);
    tcase_add_test(t, float_environment);
    tcase_add_test(t, leak_report);
    tcase_add_test(t, out_of_memory);
    suite_add_tcase(s, t);
    return eager_main(s);
}
