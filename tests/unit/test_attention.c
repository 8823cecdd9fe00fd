/* test_attention.c - attention against the textbook's in C, its blocks against each other and on
 * every way, gradients against differences, memory against the length. */
#include "eager.h"
#include "ingot/runtime.h"
#include <unistd.h>

static ig_tensor *normal(uint64_t seed, ig_dtype d, ig_dims dims) {
    return ig_normal(ig_rng(seed), d, dims, 0, 1);
}

static void qkv(ig_dtype type, int64_t t, int64_t s, int64_t d, int64_t e, ig_tensor **in) {
    in[0] = normal(1, type, IG_DIMS(t, d));
    in[1] = normal(2, type, IG_DIMS(s, d));
    in[2] = normal(3, type, IG_DIMS(s, e));
}

#define ATTEND(...) (&(ig_attention_options){__VA_ARGS__})

/* --- The same in C ---------------------------------------------------------------------------- */

/* One row, over keys 0 .. n-1, with what is added to their logits (may be NULL). */
static void row_in_c(const double *q, const double *k, const double *v, const double *add, int n,
                     int d, int e, double scale, double *y) {
    double top = (double)-INFINITY, sum = 0, x[512];
    for (int j = 0; j < n; j++) {
        x[j] = add ? add[j] : 0;
        for (int i = 0; i < d; i++) x[j] += q[i] * scale * k[j * d + i];
        top = fmax(top, x[j]);
    }
    memset(y, 0, (size_t)e * sizeof *y);
    for (int j = 0; j < n; j++) {
        double share = exp(x[j] - top);
        sum += share;
        for (int i = 0; i < e; i++) y[i] += share * v[j * e + i];
    }
    for (int i = 0; i < e; i++) y[i] /= sum;
}

static void near(ig_tensor *got, int row, int e, const double *want) {
    const double *y = ig_data(got);
    ck_assert_msg(y != NULL, "%s", ig_error_text());
    for (int i = 0; i < e; i++)
        /* 1e-13: sums of some hundred terms in another order, the C library's exp */
        ck_assert_msg(fabs(y[row * e + i] - want[i]) < 1e-13,
                      "row %d, element %d: %.17g, not %.17g", row, i, y[row * e + i], want[i]);
}

/* Lengths around the blocks of 128, in any combination. */
START_TEST(lengths_around_the_blocks) {
    static const int length[] = {1, 5, 127, 128, 129, 300};
    const int t = length[_i % 6], s = length[_i / 6], d = 3, e = 2;
    ig_tensor *in[3], *y, *mask = normal(4, IG_f64, IG_DIMS(t, s));
    double want[2], scale = 1 / sqrt(3.0);
    qkv(IG_f64, t, s, d, e, in);
    const double *q = ig_data(in[0]), *k = ig_data(in[1]), *v = ig_data(in[2]), *m = ig_data(mask);
    y = ig_attention(in[0], in[1], in[2], NULL);
    for (int i = 0; i < t; i++) {
        row_in_c(q + i * d, k, v, NULL, s, d, e, scale, want);
        near(y, i, e, want);
    }
    y = ig_attention(in[0], in[1], in[2], ATTEND(.causal = true, .scale = 0.5, .mask = mask));
    for (int i = 0; i < t; i++) {
        int n = i + 1 + s - t;
        if (n > 0) row_in_c(q + i * d, k, v, m + i * s, n, d, e, 0.5, want);
        if (n > 0)
            near(y, i, e, want);
        else
            ck_assert(isnan(((const double *)ig_data(y))[i * e]));
    }
    eager_end();
}
END_TEST

/* Masks of every shape that broadcasts: as adding 0 or -infinity where all axes are there. */
START_TEST(masks_broadcast) {
    static const int64_t shape[][4] = {{200, 300},     {1, 300},         {300},
                                       {200, 1},       {2, 1, 300},      {2, 200, 300},
                                       {3, 1, 1, 300}, {3, 2, 200, 300}, {1}};
    static const int rank[] = {2, 2, 1, 2, 3, 3, 4, 4, 1};
    ig_dims d = {.n = rank[_i]};
    memcpy(d.d, shape[_i], sizeof shape[_i]);
    ig_tensor *q = normal(1, IG_f32, IG_DIMS(3, 2, 200, 4)),
              *k = normal(2, IG_f32, IG_DIMS(3, 1, 300, 4));
    ig_tensor *v = normal(3, IG_f32, IG_DIMS(2, 300, 5)), *seen = ig_lt(normal(4, IG_f32, d), 1);
    ig_tensor *got = ig_attention(q, k, v, ATTEND(.mask = seen));
    ig_tensor *add = ig_where(seen, ig_scalar(IG_f32, 0), ig_scalar(IG_f32, (double)-INFINITY));
    ig_dims full = IG_DIMS(3, 2, 200, 300);
    ig_tensor *want = ig_attention(q, k, v, ATTEND(.mask = ig_broadcast_to(add, full)));
    ck_assert_msg(ig_equal(got, want), "%s", ig_error_text());
    ck_assert(ig_dim(got, 0) == 3 && ig_dim(got, 1) == 2 && ig_dim(got, 3) == 5);
    eager_end();
}
END_TEST

/* A row has the same bits alone, in a batch, among other rows, with keys that came before. */
START_TEST(a_row_is_the_same_in_any_company) {
    ig_tensor *q = normal(1, IG_f32, IG_DIMS(2, 3, 260, 16)),
              *k = normal(2, IG_f32, IG_DIMS(2, 1, 260, 16));
    ig_tensor *v = normal(3, IG_f32, IG_DIMS(2, 1, 260, 8));
    for (int causal = 0; causal < 2; causal++) {
        ig_tensor *all = ig_attention(q, k, v, ATTEND(.causal = causal));
        for (int64_t at = 0; at < 260; at += 37) {
            ig_indices one = IG_INDEX(IG_AT(1), IG_AT(2), IG_RANGE(at, at + 1));
            ig_indices keys = IG_INDEX(IG_AT(1), IG_AT(0), IG_RANGE(0, causal ? at + 1 : 260));
            ig_tensor *alone = ig_attention(
                ig_slice_at(NULL, ig_arg_t(q), one), ig_slice_at(NULL, ig_arg_t(k), keys),
                ig_slice_at(NULL, ig_arg_t(v), keys), ATTEND(.causal = causal));
            ck_assert_msg(ig_equal(alone, ig_slice_at(NULL, ig_arg_t(all), one)), "row %lld, %s",
                          (long long)at, ig_error_text());
        }
    }
    ig_tensor *h = ig_cast(q, IG_bf16),
              *w = ig_attention(h, ig_cast(k, IG_bf16), ig_cast(v, IG_bf16), NULL);
    ig_tensor *f = ig_attention(ig_cast(h, IG_f32), ig_cast(ig_cast(k, IG_bf16), IG_f32),
                                ig_cast(ig_cast(v, IG_bf16), IG_f32), NULL);
    ck_assert(ig_equal(w, ig_cast(f, IG_bf16)));
    eager_end();
}
END_TEST

START_TEST(what_is_out_of_sight) {
    ig_tensor *in[3], *mask = ig_full(IG_bool, IG_DIMS(3, 1), 0), *y;
    qkv(IG_f32, 3, 200, 4, 2, in);
    ig_assign_slice(mask, 1, IG_AT(1));
    y = ig_attention(in[0], in[1], in[2], ATTEND(.mask = mask));
    ck_assert(ig_item_i64(ig_sum(ig_isnan(y), IG_ALL_AXES)) == 4);
    ck_assert(ig_equal(ig_slice(y, IG_AT(1)),
                       ig_slice(ig_attention(in[0], in[1], in[2], NULL), IG_AT(1))));
    ig_tensor *few = ig_zeros(IG_f32, IG_DIMS(0, 4)), *all = ig_zeros(IG_f32, IG_DIMS(2, 200, 4));
    y = ig_attention(ig_slice(all, IG_FULL, IG_RANGE(0, 0)), all, all, ATTEND(.causal = true));
    WANT_EMPTY(y, IG_f32, IG_DIMS(2, 0, 4));
    for (int64_t n = 3; n <= 200; n += 197) {
        y = ig_attention(ig_slice(all, IG_FULL, IG_RANGE(0, n)), few, few, NULL);
        ck_assert(ig_item_i64(ig_sum(ig_isnan(y), IG_ALL_AXES)) == 8 * n);
    }
    /* blocks of keys that are not looked at may hold anything */
    qkv(IG_f32, 300, 300, 4, 2, in);
    y = ig_attention(in[0], in[1], in[2], ATTEND(.causal = true));
    ig_assign_slice(in[2], (double)NAN, IG_RANGE(128, IG_OPEN));
    ig_tensor *z = ig_attention(in[0], in[1], in[2], ATTEND(.causal = true));
    ck_assert(ig_equal(ig_slice(y, IG_RANGE(0, 128)), ig_slice(z, IG_RANGE(0, 128))));
    ck_assert(ig_item_i64(ig_sum(ig_isnan(z), IG_ALL_AXES)) == 172 * 2);
    eager_end();
}
END_TEST

/* The bits of one result, as docs/numerics.md froze them: another number is another contract. */
START_TEST(the_definition_is_frozen) {
    ig_tensor *in[3], *y;
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    qkv(IG_f32, 300, 300, 16, 8, in);
    y = ig_attention(in[0], in[1], in[2], ATTEND(.causal = true));
    const unsigned char *byte = ig_data(y);
    for (size_t i = 0; i < 300 * 8 * sizeof(float); i++)
        hash = (hash ^ byte[i]) * UINT64_C(0x100000001b3);
    ck_assert_msg(hash == UINT64_C(0x1060dde023e542a4), "%016llx", (unsigned long long)hash);
    eager_end();
}
END_TEST

START_TEST(errors_show_the_shapes) {
    ig_tensor *in[3];
    qkv(IG_f32, 3, 5, 4, 2, in);
    ig_attention(ig_ones(IG_f32, IG_DIMS(4)), in[1], in[2], NULL);
    WANT_ERROR(IG_SHAPE, "attention", "queries are f32[4]", "two axes", "test_attention.c");
    ig_attention(in[0], ig_cast(in[1], IG_f64), in[2], NULL);
    WANT_ERROR(IG_DTYPE, "keys are f64[5,4]", "one type");
    ig_attention(in[0], in[2], in[2], NULL);
    WANT_ERROR(IG_SHAPE, "not f32[3,4], f32[5,2] and f32[5,2]");
    ig_attention(ig_ones(IG_f32, IG_DIMS(2, 3, 4)), ig_ones(IG_f32, IG_DIMS(3, 5, 4)), in[2], NULL);
    WANT_ERROR(IG_SHAPE, "f32[2,3,4], f32[3,5,4]");
    ig_attention(in[0], in[1], in[2], ATTEND(.mask = ig_ones(IG_f32, IG_DIMS(5, 3))));
    WANT_ERROR(IG_SHAPE, "the mask is f32[5,3]", "f32[3,4]", "f32[5,4]");
    ig_attention(in[0], in[1], in[2], ATTEND(.mask = ig_ones(IG_i32, IG_DIMS(3, 5))));
    WANT_ERROR(IG_DTYPE, "the mask is i32[3,5]", "bool or floats");
    eager_end();
}
END_TEST

/* --- Traced ----------------------------------------------------------------------------------- */

/* q, k, v, mask -> attention, causal, masked, and a number */
static void attend(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_attention(in[0], in[1], in[2], NULL);
    out[1] = ig_attention(in[0], in[1], in[2], ATTEND(.causal = true));
    out[2] = ig_attention(in[0], in[1], in[2], ATTEND(.causal = true, .mask = ig_gt(in[3], -1)));
    ig_tensor *sum = ig_sum(ig_mul(out[0], out[0]), IG_ALL_AXES);
    sum = ig_add(sum, ig_sum(ig_mul(out[1], 0.5), IG_ALL_AXES));
    out[3] = ig_add(
        sum,
        ig_sum(ig_mul(ig_attention(in[0], in[1], in[2], ATTEND(.mask = in[3])), 0.3), IG_ALL_AXES));
}

static void attend_loss(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *all[4];
    attend(user, in, all);
    out[0] = all[3];
}

static void attend_arguments(ig_dtype type, int64_t b, int64_t t, int64_t s, int64_t d,
                             ig_tensor **in) {
    in[0] = normal(1, type, IG_DIMS(b, t, d));
    in[1] = normal(2, type, IG_DIMS(b, s, d));
    in[2] = normal(3, type, IG_DIMS(b, s, d));
    in[3] = normal(4, type, IG_DIMS(t, s));
}

/* One module for all lengths. */
START_TEST(every_way_gives_the_same_bits) {
    static const int64_t length[][2] = {{7, 7}, {128, 256}, {130, 200}, {300, 300}, {1, 290}};
    ig_tensor *in[4], *want[4], *got[4], *grad[2][5];
    ig_module *m, *n, *g, *h, *loss;
    attend_arguments(IG_f32, 2, 140, 150, 8, in);
    ig_trace_options dims = {
        .dims = "[2,T,8], [2,S,8], [2,S,8], [T,S]; T in 1..1000, S in 1..1000"};
    OK(ig_trace(attend, NULL, 4, in, 4, &dims, &m));
    OK(ig_trace(attend, NULL, 4, in, 4, &dims, &n));
    OK(ig_trace(attend_loss, NULL, 4, in, 1, &dims, &loss));
    OK(ig_value_and_grad(loss, NULL, &g));
    OK(ig_value_and_grad(loss, NULL, &h));
    OK(ig_module_compile(m, NULL));
    OK(ig_module_compile(g, NULL));
    for (int k = 0; k < 5; k++) {
        attend_arguments(IG_f32, 2, length[k][0], length[k][1], 8, in);
        attend(NULL, in, want);
        OK(ig_module_run(n, 4, in, 4, got)); /* the reference */
        for (int i = 0; i < 4; i++)
            ck_assert_msg(ig_equal(want[i], got[i]), "result %d of %d", i, k);
        OK(ig_module_run(h, 4, in, 5, grad[0]));
        for (int threads = 1; threads <= 2; threads++) {
            OK(ig_threads(&(ig_thread_options){.count = threads}));
            OK(ig_module_run(m, 4, in, 4, got));
            for (int i = 0; i < 4; i++)
                ck_assert_msg(ig_equal(want[i], got[i]), "compiled result %d of %d", i, k);
            OK(ig_module_run(g, 4, in, 5, grad[1]));
            for (int i = 0; i < 5; i++)
                ck_assert_msg(ig_equal(grad[0][i], grad[1][i]), "gradient %d of %d", i, k);
        }
    }
    ig_module_free(m), ig_module_free(n), ig_module_free(g), ig_module_free(h);
    ig_module_free(loss);
    eager_end();
}
END_TEST

START_TEST(gradients_are_those_of_differences) {
    static const int64_t length[][2] = {{3, 4}, {130, 140}};
    ig_tensor *in[4];
    attend_arguments(IG_f64, 2, length[_i][0], length[_i][1], 2, in);
    /* 1e-8: the error of a central difference with 1e-5, and the rounding of some hundred terms */
    eager_differences(attend_loss, NULL, 4, in, 15, _i ? 397 : 1, 1e-5, 1e-8);
    eager_end();
}
END_TEST

/* Lanes of a batch are the function alone; forward over reverse agrees with differences of
 * gradients. */
START_TEST(transformed) {
    ig_tensor *in[4], *lanes[4], *got, *one[4], *want, *out[8], *near_[2][8];
    ig_module *m, *v, *h, *g;
    attend_arguments(IG_f64, 2, 130, 140, 2, in);
    OK(ig_trace(attend_loss, NULL, 4, in, 1, NULL, &m));
    OK(ig_vmap(m, "3", (const int[]){0, -1, 0, -1}, NULL, &v));
    for (int k = 0; k < 4; k++) {
        ig_dims d = ig_shape(in[k]), more = {.n = d.n + 1, .d = {3}};
        memcpy(more.d + 1, d.d, sizeof *d.d * (size_t)d.n);
        lanes[k] = k % 2 ? in[k] : normal(10 + (uint64_t)k, IG_f64, more);
    }
    OK(ig_module_run(v, 4, lanes, 1, &got));
    for (int64_t i = 0; i < 3; i++) {
        for (int k = 0; k < 4; k++) one[k] = k % 2 ? in[k] : ig_slice(lanes[k], IG_AT(i));
        attend_loss(NULL, one, &want);
        ck_assert_msg(ig_equal(ig_slice(got, IG_AT(i)), want), "lane %lld", (long long)i);
    }
    OK(ig_hvp(m, "0,1,2", &h));
    OK(ig_grad(m, "0,1,2", &g));
    ig_tensor *all[7] = {in[0], in[1], in[2], in[3]};
    for (int k = 0; k < 3; k++) all[4 + k] = normal(20 + (uint64_t)k, IG_f64, ig_shape(in[k]));
    OK(ig_module_run(h, 7, all, 3, out));
    for (int s = 0; s < 2; s++) {
        for (int k = 0; k < 3; k++) one[k] = ig_add(in[k], ig_mul(all[4 + k], s ? 1e-5 : -1e-5));
        one[3] = in[3];
        OK(ig_module_run(g, 4, one, 3, near_[s]));
    }
    for (int k = 0; k < 3; k++) {
        ig_tensor *slope = ig_div(ig_sub(near_[1][k], near_[0][k]), 2e-5);
        double off = ig_item_f64(ig_max(ig_abs(ig_sub(slope, out[k])), IG_ALL_AXES));
        ck_assert_msg(off < 1e-7, "argument %d: off by %g", k,
                      off); /* a central difference's error */
    }
    ig_module_free(m), ig_module_free(v), ig_module_free(h), ig_module_free(g);
    eager_end();
}
END_TEST

static void square_loss(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *y = ig_attention(in[0], in[1], in[2], ATTEND(.causal = *(bool *)user));
    out[0] = ig_sum(ig_mul(y, y), IG_ALL_AXES);
}

/* Bytes of workspace of value and gradient. */
static size_t room(int64_t n, bool causal) {
    char path[] = "/tmp/ingot_attention_XXXXXX";
    ig_tensor *in[3];
    ig_module *m, *g;
    ig_program *p;
    size_t bytes;
    close(mkstemp(path));
    qkv(IG_f32, n, n, 32, 32, in);
    OK(ig_trace(square_loss, &causal, 3, in, 1, NULL, &m));
    OK(ig_value_and_grad(m, NULL, &g));
    OK(ig_module_compile(g, NULL));
    OK(ig_module_save(g, path));
    OK(ig_program_load(path, &p));
    OK(ig_program_workspace(p, NULL, &bytes));
    ig_program_free(p);
    ig_module_free(g), ig_module_free(m);
    unlink(path);
    return bytes;
}

START_TEST(memory_grows_with_the_length) {
    size_t one = room(1024, _i), four = room(4096, _i);
    ck_assert_msg(four < 4.5 * one, "%zu bytes for 1024, %zu for 4096", one, four);
    ck_assert_msg(four < 12 * 4 * 4096 * 32, "%zu bytes", four); /* a dozen arrays like q */
    eager_end();
}
END_TEST

int main(void) {
    Suite *s = suite_create("attention");
    TCase *t = tcase_create("attention");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, lengths_around_the_blocks, 0, 36);
    tcase_add_loop_test(t, masks_broadcast, 0, 9);
    tcase_add_test(t, a_row_is_the_same_in_any_company);
    tcase_add_test(t, what_is_out_of_sight);
    tcase_add_test(t, the_definition_is_frozen);
    tcase_add_test(t, errors_show_the_shapes);
    tcase_add_test(t, every_way_gives_the_same_bits);
    tcase_add_loop_test(t, gradients_are_those_of_differences, 0, 2);
    tcase_add_test(t, transformed);
    tcase_add_loop_test(t, memory_grows_with_the_length, 0, 2);
    suite_add_tcase(s, t);
    return eager_main(s);
}
