/* test_dynamic.c - every public op under a dynamic dim: traced at one size, run at others, by the
 * reference and, when the code generator is at hand, compiled: the bits of the eager call each
 * time. */
#include "eager.h"

/* x f32[B,4], y f32[B], i i32[B,4], b bool[B,4] */
/* clang-format off */
#define ROWS(ROW) \
    ROW(ig_neg(x)) ROW(ig_abs(x)) ROW(ig_sign(x)) ROW(ig_square(x)) ROW(ig_reciprocal(x)) \
    ROW(ig_exp(x)) ROW(ig_expm1(x)) ROW(ig_log(ig_abs(x))) ROW(ig_log1p(ig_abs(x))) \
    ROW(ig_sqrt(ig_abs(x))) ROW(ig_rsqrt(ig_abs(x))) ROW(ig_sin(x)) ROW(ig_cos(x)) ROW(ig_tan(x)) \
    ROW(ig_tanh(x)) ROW(ig_erf(x)) ROW(ig_floor(x)) ROW(ig_ceil(x)) ROW(ig_round(x)) \
    ROW(ig_trunc(x)) ROW(ig_sigmoid(x)) ROW(ig_relu(x)) ROW(ig_silu(x)) ROW(ig_gelu(x)) \
    ROW(ig_softplus(x)) ROW(ig_isnan(x)) ROW(ig_isinf(x)) ROW(ig_isfinite(x)) ROW(ig_not(i)) \
    ROW(ig_not(b)) ROW(ig_popcount(i)) ROW(ig_clz(i)) ROW(ig_ctz(i)) ROW(ig_cast(x, IG_f16)) \
    ROW(ig_cast(x, IG_i8)) ROW(ig_bitcast(x, IG_u32)) ROW(ig_cast(ig_cast(x, IG_bf16), IG_f32)) \
    ROW(ig_add(x, 1)) ROW(ig_sub(1, x)) ROW(ig_mul(x, x)) ROW(ig_div(x, ig_expand_dims(y, 1))) \
    ROW(ig_rem(x, 0.3)) ROW(ig_div(i, 3)) ROW(ig_rem(i, 3)) ROW(ig_pow(ig_abs(x), 1.5)) \
    ROW(ig_pow(i, 5)) ROW(ig_atan2(x, y4)) ROW(ig_maximum(x, y4)) ROW(ig_minimum(x, 0)) \
    ROW(ig_eq(i, 2)) ROW(ig_ne(x, 0)) ROW(ig_lt(x, y4)) ROW(ig_le(i, 0)) ROW(ig_gt(x, 0)) \
    ROW(ig_ge(x, y4)) ROW(ig_and(i, 6)) ROW(ig_or(b, ig_gt(x, 0))) ROW(ig_xor(i, -1)) \
    ROW(ig_shl(i, 3)) ROW(ig_shr(i, 1)) ROW(ig_where(b, x, 0)) ROW(ig_clip(x, -0.5, y4)) \
    ROW(ig_fma(x, x, y4)) ROW(ig_add(i, x)) ROW(ig_flatten(x)) \
    ROW(ig_reshape(x, IG_DIMS(-1, 2, 2))) ROW(ig_reshape(x, IG_DIMS(2, ig_extent(x, 0), 2))) \
    ROW(ig_transpose(x, IG_ALL_AXES)) ROW(ig_swap_axes(x, 0, 1)) \
    ROW(ig_move_axis(ig_reshape(x, IG_DIMS(-1, 2, 2)), 0, 2)) \
    ROW(ig_broadcast_to(y, IG_DIMS(3, ig_extent(y, 0)))) ROW(ig_expand_dims(x, IG_AXES(0, -1))) \
    ROW(ig_squeeze(ig_expand_dims(x, 1), 1)) ROW(ig_flip(x, IG_ALL_AXES)) \
    ROW(ig_pad(x, IG_DIMS(1, 0), IG_DIMS(0, 2), 9)) \
    ROW(ig_concat(IG_LIST(x, y4, ig_ones(IG_f32, IG_DIMS(2, 4))), 0)) \
    ROW(ig_stack(IG_LIST(x, x), 1)) ROW(ig_repeat(x, 3, 0)) ROW(ig_tile(x, IG_DIMS(2, 1, 2))) \
    ROW(ig_roll(x, 1, 0)) ROW(ig_roll(x, -1, 1)) ROW(ig_tril(x, 0)) ROW(ig_triu(x, -1)) \
    ROW(ig_slice(x, IG_AT(0))) ROW(ig_slice(x, IG_AT(-1))) ROW(ig_slice(x, IG_RANGE(1, IG_OPEN))) \
    ROW(ig_slice(x, IG_RANGE(IG_OPEN, -1), IG_RANGE(1, 3))) \
    ROW(ig_slice(x, IG_STEP(IG_OPEN, IG_OPEN, 2))) \
    ROW(ig_slice(x, IG_STEP(IG_OPEN, IG_OPEN, -1), IG_STEP(3, 0, -2))) \
    ROW(ig_slice(x, IG_REST, IG_NEW, IG_AT(2))) ROW(ig_slice(x, IG_RANGE(0, 2))) \
    ROW(ig_take(x, (int64_t[]){1, 0, -1, 0}, 4, 0)) ROW(ig_take(x, (int64_t[]){3, 1}, 2, 1)) \
    ROW(ig_window(x, IG_LIST(ig_sum(ig_cast(b, IG_i64), IG_ALL_AXES), \
        ig_scalar(IG_i32, 1)), IG_DIMS(2, 2))) \
    ROW(ig_sum(x, 0)) ROW(ig_sum(x, 1)) ROW(ig_sum(x, IG_ALL_AXES)) ROW(ig_sum(b, IG_KEEP(0))) \
    ROW(ig_prod(x, 0)) ROW(ig_max(x, 0)) ROW(ig_min(x, IG_KEEP_ALL)) ROW(ig_all(b, 0)) \
    ROW(ig_any(b, 1)) ROW(ig_count(x, 0)) ROW(ig_count(x, IG_ALL_AXES)) \
    ROW(ig_mean(x, 0)) ROW(ig_mean(x, IG_ALL_AXES)) \
    ROW(ig_mean(ig_cast(x, IG_f16), 0)) ROW(ig_var(x, 0)) ROW(ig_std(x, IG_KEEP_ALL)) \
    ROW(ig_logsumexp(x, 0)) ROW(ig_argmax(x, 0)) ROW(ig_argmin(x, IG_ALL_AXES)) \
    ROW(ig_cumsum(x, 0)) ROW(ig_cumprod(x, 1)) ROW(ig_cummax(x, 0)) \
    ROW(ig_cum_at(NULL, ig_arg_t(i), IG_CUM_SUM, 0, true, true)) \
    ROW(ig_matmul(x, ig_transpose(x, IG_ALL_AXES))) \
    ROW(ig_matmul(ig_transpose(x, IG_ALL_AXES), x)) ROW(ig_matmul(y, x)) \
    ROW(ig_matmul(ig_expand_dims(x, 0), ig_ones(IG_f32, IG_DIMS(3, 4, 2)))) ROW(ig_dot(y, y)) \
    ROW(ig_outer(y, y)) ROW(ig_ein("o[j,k] += a[n,j]*b[n,k]", x, x)) \
    ROW(ig_ein("o[j] += a[n,j]", x)) ROW(ig_ein("o[n] max= a[n,j]", x)) ROW(ig_softmax(x, -1)) \
    ROW(ig_softmax(x, 0)) ROW(ig_log_softmax(x, 1)) ROW(ig_one_hot(i, 4, IG_f32)) \
    ROW(ig_sort(x, 1)) ROW(ig_argsort(x, -1)) ROW(ig_sort(ig_cast(x, IG_f64), 1)) \
    ROW(ig_sort_at(NULL, ig_arg_t(x), 0, true)) ROW(ig_gather(x, ig_argsort(y, 0), 0)) \
    ROW(ig_gather(x, i, 1)) ROW(ig_take_along(x, i, 0)) ROW(ig_embedding(x, ig_argmax(x, 1))) \
    ROW(ig_scatter_add(x, ig_argmax(x, 1), y4, 0)) ROW(ig_scatter(x, ig_scalar(IG_i32, -1), 7, 1)) \
    ROW(ig_slice(x, IG_PICK(i), IG_AT(1))) ROW(ig_slice(x, IG_PICK(i), IG_PICK(i))) \
    ROW(ig_zeros_like(x)) ROW(ig_full(IG_i16, IG_DIMS(ig_extent(x, 0), 2), -3)) ROW(ig_copy(x)) \
    ROW(ig_uniform(rng, IG_f32, IG_DIMS(ig_extent(x, 0)), -1, 1)) \
    ROW(ig_normal(rng, IG_f64, IG_DIMS(3, ig_extent(x, 0)), 0, 1)) \
    ROW(ig_randint(rng, IG_u8, IG_DIMS(ig_extent(x, 0)), 0, 10)) \
    ROW(ig_bernoulli(rng, IG_DIMS(ig_extent(x, 0)), 0.5)) ROW(ig_permutation(rng, 6))
/* clang-format on */

/* One switch over all rows: __COUNTER__ numbers the cases. */
static ig_tensor *op_run(int k, ig_tensor *const *in, ig_tensor *rng) {
    ig_tensor *x = in[0], *y = in[1], *i = in[2], *b = in[3];
    ig_tensor *y4 = ig_mul(ig_expand_dims(y, 1), ig_ones(IG_f32, IG_DIMS(4)));
    enum { FIRST = __COUNTER__ + 1 };
    switch (k + FIRST) {
#define ROW(expr) \
    case __COUNTER__: return expr;
        ROWS(ROW)
#undef ROW
    }
    return NULL;
}

static const char *const op_text[] = {
#define ROW(expr) #expr,
    ROWS(ROW)
#undef ROW
};
#define NOPS ((int)(sizeof op_text / sizeof *op_text))

#define DIMS "[B,4], [B], [B,4], [B,4]; B in 2..64"

typedef struct op_case {
    int k;
    ig_tensor *rng;
} op_case;

static void op_traced(void *user, ig_tensor *const *in, ig_tensor **out) {
    const op_case *c = user;
    out[0] = op_run(c->k, in, c->rng);
}

/* Inputs of a size, the same every time. */
static void make_inputs(int64_t n, ig_tensor **in) {
    ig_tensor *rng = ig_rng((uint64_t)n);
    in[0] = ig_normal(rng, IG_f32, IG_DIMS(n, 4), 0, 2);
    in[1] = ig_normal(rng, IG_f32, IG_DIMS(n), 0, 2);
    in[2] = ig_randint(rng, IG_i32, IG_DIMS(n, 4), -5, 10);
    in[3] = ig_bernoulli(rng, IG_DIMS(n, 4), 0.5);
}

static void check_sizes(op_case *c, ig_module *m) {
    static const int64_t size[] = {2, 3, 5, 17, 64};
    for (size_t s = 0; s < sizeof size / sizeof *size; s++) IG_SCOPE {
            ig_tensor *in[4], *want, *got, *key = ig_copy(c->rng);
            make_inputs(size[s], in);
            want = op_run(c->k, in, c->rng);
            ig_assign(c->rng, key);
            ig_status e = ig_module_run(m, 4, in, 1, &got);
            ig_assign(c->rng, key);
            ck_assert_msg(!e, "%s, B = %lld: %s", op_text[c->k], (long long)size[s],
                          ig_status_text(e));
            ck_assert_msg(!ig_error(), "%s: %s", op_text[c->k], ig_error_text());
            ck_assert_msg(ig_equal(want, got), "%s, B = %lld: other bits", op_text[c->k],
                          (long long)size[s]);
        }
}

/* Trace with 4 rows, run with others; compile when that is possible. */
static bool check_op(int k, bool compile) {
    op_case c = {k, ig_rng(5)};
    ig_tensor *in[4];
    ig_module *m;
    bool native = false;
    make_inputs(4, in);
    ig_status e = ig_trace(op_traced, &c, 4, in, 1, &(ig_trace_options){.dims = DIMS}, &m);
    ck_assert_msg(!e, "%s: %s", op_text[k], ig_status_text(e));
    if (!compile) {
        check_sizes(&c, m);
    } else {
        e = ig_module_compile(m, NULL);
        native = !e;
        ck_assert_msg(!e || ig_status_code(e) == IG_UNSUPPORTED, "%s: %s", op_text[k],
                      ig_status_text(e));
        ig_status_free(e);
        if (native) check_sizes(&c, m);
    }
    ig_module_free(m);
    return native;
}

START_TEST(traced) {
    for (int k = 0; k < NOPS; k++) IG_SCOPE {
            check_op(k, false);
        }
    printf("dynamic: %d ops traced\n", NOPS);
    eager_end();
}
END_TEST

START_TEST(compiled) {
    int native = 0;
    for (int k = 0; k < NOPS && native == k; k++) IG_SCOPE {
            native += check_op(k, true);
        }
    printf("dynamic: %d of %d ops compiled%s\n", native, NOPS,
           native ? "" : " (no code generator: skipped)");
    ck_assert(native == 0 || native == NOPS);
    eager_end();
}
END_TEST

/* One op, eager or traced, when an allocation fails: memory is the only complaint, but for traces,
 * where a dim that could not be made is "too large".  The sweep begins when the inputs are made. */
static ig_status op_once(int k, bool trace, eager_oom *o, long fail) {
    op_case c = {k, ig_rng(5)};
    ig_tensor *in[4];
    ig_module *m = NULL;
    make_inputs(4, in);
    o->at = 0;
    o->fail = fail;
    ig_status e = NULL;
    if (trace)
        e = ig_trace(op_traced, &c, 4, in, 1, &(ig_trace_options){.dims = DIMS}, &m);
    else
        op_run(k, in, c.rng);
    ig_module_free(m);
    return e;
}

static long sweep_op(int k, bool trace) {
    for (long n = 0;; n++) {
        eager_oom o = {.fail = -1};
        ig_allocator a = {eager_oom_resize, &o};
        ig_session *s;
        OK(ig_session_new(&(ig_session_options){.alloc = &a}, &s));
        ig_session_use(s);
        ig_status e = op_once(k, trace, &o, n);
        ig_code code = ig_status_code(e), first = ig_status_code(ig_error());
        ck_assert_msg(trace || (!code && !first) || code == IG_MEMORY || first == IG_MEMORY,
                      "%s, allocation %ld: %s, %s", op_text[k], n, ig_status_text(e),
                      ig_error_text());
        ck_assert_msg(o.at > n || (!code && !first), "%s: %s, %s", op_text[k], ig_status_text(e),
                      ig_error_text());
        ig_session_free(s);
        ig_status_free(e);
        ck_assert_msg(!o.live, "%s: %zu bytes leak when allocation %ld fails", op_text[k], o.live,
                      n);
        if (o.at <= n) return n;
    }
}

START_TEST(out_of_memory) {
    long points = 0;
    for (int k = 0; k < NOPS; k++) {
        points += sweep_op(k, false);
        if (k % 16 == 3) points += sweep_op(k, true);
    }
    printf("dynamic: %ld allocation points\n", points);
    ck_assert(points > 500); /* sessions keep freed blocks: not every tensor asks the allocator */
}
END_TEST

int main(void) {
    Suite *s = suite_create("dynamic");
    TCase *t = tcase_create("dynamic");
    tcase_set_timeout(t, 600);
    tcase_add_test(t, traced);
    tcase_add_test(t, compiled);
    tcase_add_test(t, out_of_memory);
    suite_add_tcase(s, t);
    return eager_main(s);
}
