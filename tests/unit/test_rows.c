/* test_rows.c - programs that reduce rows and use what they found on the rows again: random ones,
 * fused and compiled, against the reference.
 *
 * A program has values as long as its rows ("full"), one element a row ("row") and one row for all
 * ("one"); random ops lead from the ones to the others, through broadcasts with and without axes of
 * extent 1.  Which axes are the row is random too. */
#include "passes/pass.h"
#include "suite.h"
#include "tests/gen.h"
#include "tests/ways.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROGRAMS 24
#define VALUES   40

static const ig_allocator *A;

static void ok(ig_status s) { ck_assert_msg(!s, "%s", ig_status_text(s)); }

typedef struct writer {
    gen g;
    char text[8192];
    size_t n;
    int rank, next;
    bool row[4];          /* axis i is reduced */
    const char *dim[4];
    int full[VALUES], nfull, rows[VALUES], nrows;
    const char *dtype;
    bool real;
} writer;

static void put(writer *w, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    w->n += (size_t)vsnprintf(w->text + w->n, sizeof w->text - w->n, fmt, ap);
    va_end(ap);
    ck_assert(w->n < sizeof w->text);
}

/* Dims, or numbers of axes, of the axes that are the row or are not; `unit`: 1 for the others. */
static void put_axes(writer *w, bool all, bool row, bool unit, bool number) {
    const char *comma = "";
    put(w, "[");
    for (int i = 0; i < w->rank; i++) {
        bool mine = all || w->row[i] == row;
        if (!mine && !unit) continue;
        if (number)
            put(w, "%s%d", comma, i);
        else
            put(w, "%s%s", comma, mine ? w->dim[i] : "1");
        comma = ",";
    }
    put(w, "]");
}

static int pick(writer *w, const int *list, int n) { return list[gen_below(&w->g, (uint64_t)n)]; }

/* %v as long as the rows: one element a row, or one row for all. */
static int put_long(writer *w, int v, bool row) {
    if (gen_one_in(&w->g, 2)) {
        put(w, "%%%d = reshape %%%d dims=", w->next, v);
        put_axes(w, false, row, true, false);
        put(w, "\n%%%d = broadcast %%%d dims=", w->next + 1, w->next);
        put_axes(w, true, false, false, false);
        put(w, " axes=");
        put_axes(w, true, false, false, true);
        w->next++;
    } else {
        put(w, "%%%d = broadcast %%%d dims=", w->next, v);
        put_axes(w, true, false, false, false);
        put(w, " axes=");
        put_axes(w, false, row, false, true);
    }
    put(w, "\n");
    return w->next++;
}

static int put_elementwise(writer *w, int x, int y) {
    static const char *const two[] = {"add", "sub", "mul", "max", "min"};
    static const char *const one[] = {"exp", "tanh", "neg", "abs"};
    uint64_t k = gen_below(&w->g, w->real ? 9 : 7);
    if (k < 5)
        put(w, "%%%d = %s %%%d, %%%d\n", w->next, two[k], x, y);
    else
        put(w, "%%%d = %s %%%d\n", w->next, w->real ? one[k - 5] : one[k - 3], x);
    return w->next++;
}

static int put_reduce(writer *w, int x) {
    static const char *const op[] = {"sum", "max", "min", "prod"};
    put(w, "%%%d = reduce %%%d op=%s axes=", w->next, x, op[gen_below(&w->g, 4)]);
    put_axes(w, false, true, false, true);
    put(w, "\n");
    return w->next++;
}

static void put_step(writer *w) {
    int x = pick(w, w->full, w->nfull), y = pick(w, w->full, w->nfull);
    switch (gen_below(&w->g, 6)) {
    case 0:
    case 1: w->full[w->nfull++] = put_elementwise(w, x, y); break;
    case 2: w->rows[w->nrows++] = put_reduce(w, x); break;
    case 3:
        x = pick(w, w->rows, w->nrows), y = pick(w, w->rows, w->nrows);
        w->rows[w->nrows++] = put_elementwise(w, x, y);
        break;
    default:
        y = put_long(w, pick(w, w->rows, w->nrows), false);
        w->full[w->nfull++] = put_elementwise(w, x, y);
    }
}

/* A program whose last values use what came before. */
static void write_program(writer *w, uint64_t seed) {
    static const char *const dims[] = {"1", "2", "3", "5", "16", "17", "33", "B", "C", "48"};
    static const char *const dtypes[] = {"f32", "f32", "f64", "f16", "bf16", "i32"};
    bool some = false;
    *w = (writer){.g = {seed}, .next = 4};
    w->rank = 1 + (int)gen_below(&w->g, 4);
    w->dtype = dtypes[gen_below(&w->g, 6)];
    w->real = w->dtype[0] != 'i';
    for (int i = 0; i < w->rank; i++) {
        w->dim[i] = dims[gen_below(&w->g, w->rank > 2 ? 8 : 10)];
        some |= w->row[i] = gen_one_in(&w->g, 2);
    }
    if (!some) w->row[gen_below(&w->g, (uint64_t)w->rank)] = true;
    put(w, "module rows { dim B in 0..40\n dim C in 1..9000\n fn @f(%%1: %s", w->dtype);
    put_axes(w, true, false, false, false);
    put(w, ", %%2: %s", w->dtype);
    put_axes(w, false, false, false, false);
    put(w, ", %%3: %s", w->dtype);
    put_axes(w, false, true, false, false);
    bool full = gen_below(&w->g, 3);
    put(w, ") -> (%s", w->dtype);
    put_axes(w, full, false, false, false);
    put(w, ") {\n");
    w->full[w->nfull++] = 1;
    w->rows[w->nrows++] = 2;
    w->full[w->nfull++] = put_long(w, 3, true);
    for (int k = 4 + (int)gen_below(&w->g, 14); k > 0; k--) put_step(w);
    int r = put_reduce(w, w->full[w->nfull - 1]), last = w->rows[w->nrows - 1];
    put(w, "%%%d = add %%%d, %%%d\n", w->next, r, last);
    r = w->next++;
    if (full) {
        int y = put_long(w, r, false);
        put(w, "%%%d = mul %%%d, %%%d\n", w->next, w->full[w->nfull - 1], y);
        r = w->next++;
    }
    put(w, "return %%%d\n}\n}\n", r);
}

/* Reductions in the cluster of m that has most. */
static uint32_t most_reductions(const ir_module *m) {
    ir_module *fused;
    uint32_t most = 0;
    ok(pass_run_list("simplify,dce,fuse", m, &fused));
    for (uint32_t i = 0; i < fused->funcs.n; i++) {
        const ir_func *f = fused->funcs.data[i];
        uint32_t n = 0;
        for (uint32_t k = 0; k < f->ops.n && f->kind == IR_CLUSTER; k++)
            n += f->ops.data[k].code == OP_reduce;
        if (n > most) most = n;
    }
    ir_module_free(fused);
    return most;
}

/* Run the program at these dims both ways. */
static void compare(const ir_module *m, const char *text, gen *g, const int64_t *dims) {
    const ir_func *f = ir_find_func(m, "f");
    ir_tensor in[3], want, got;
    way_case c = {.module = m, .f = f, .nin = 3, .nout = 1, .in = in, .symbols = dims};
    int64_t n, at;
    for (int k = 0; k < 3; k++) {
        const ir_type *t = ir_val_type(f, ir_param_ref(f, (uint32_t)k));
        in[k] = (ir_tensor){.dtype = t->dtype, .rank = t->rank};
        for (int i = 0; i < t->rank; i++) ck_assert(ir_dim_eval(m, t->dim[i], dims, &in[k].dim[i]));
        ck_assert(rt_numel_checked(in[k].dim, in[k].rank, &n));
        in[k].data = malloc(way_bytes(&in[k]) + 8);
        gen_data(g, in[k].dtype, n, false, in[k].data);
    }
    ck_assert(way_alloc_outputs(&c, &want) && way_alloc_outputs(&c, &got));
    ok(way_tab[0].run(&c, &want));
    ok(way_find("compiled")->run(&c, &got));
    ck_assert_msg(way_compare(1, &want, &got, &at) < 0, "B = %lld, C = %lld: element %lld:\n%s",
                  (long long)dims[0], (long long)dims[1], (long long)at, text);
    way_free_outputs(1, &want);
    way_free_outputs(1, &got);
    for (int k = 0; k < 3; k++) free(in[k].data);
}

START_TEST(random_rows) {
    static const int64_t dims[][2] = {{7, 21}, {1, 4097}, {0, 3}};
    uint32_t several = 0;
    for (int k = 0; k < PROGRAMS; k++) {
        static writer w;
        ir_module *m;
        write_program(&w, UINT64_C(0x51ed2705) * (uint64_t)(_i * PROGRAMS + k + 1));
        ok(ir_parse(A, "rows", w.text, w.n, &m));
        ok(ir_verify(m));
        several += most_reductions(m) > 1;
        for (int i = 0; i < 3; i++) compare(m, w.text, &w.g, dims[i]);
        ir_module_free(m);
    }
    ck_assert_uint_gt(several, PROGRAMS / 3);
}
END_TEST

/* --- Results that are stored past the caches -------------------------------------------------- */

static const char *const large_tab[] = {
    "module m { dim B in 0..100000\n fn @f(%1: f32[B,512]) -> (f32[B,512]) {\n"
    "%2 = mul %1, %1\n%3 = add %2, %1\nreturn %3\n}\n}\n",
    "module m { dim B in 0..100000\n fn @f(%1: f32[B,512]) -> (f32[B,512]) {\n"
    "%2 = reduce %1 op=sum axes=[1]\n%3 = broadcast %2 dims=[B,512] axes=[0]\n"
    "%4 = sub %1, %3\nreturn %4\n}\n}\n",
};

/* Rows that repeat, so many of them, into memory that begins `off` bytes behind a cache line. */
static void run_large(const ir_module *m, way_kept *kept, int64_t rows, size_t off, char *out) {
    enum { LENGTH = 512, PERIOD = 7 };
    ir_tensor in = {.dtype = IG_f32, .rank = 2, .dim = {rows, LENGTH}}, y = in;
    way_case c = {.module = m,
                  .f = ir_find_func(m, "f"),
                  .nin = 1,
                  .nout = 1,
                  .in = &in,
                  .symbols = &rows,
                  .kept = kept};
    float *x = malloc(way_bytes(&in));
    for (int64_t i = 0; i < rows * LENGTH; i++)
        x[i] = (float)(i % (PERIOD * LENGTH) * 7919 % 1000) / 8.0f;
    in.data = x;
    y.data = out + off;
    ok(way_find("compiled")->run(&c, &y));
    free(x);
}

START_TEST(large_results) {
    enum { ROW = 512 * 4, PERIOD = 7, ROWS = 16400 };
    const char *text = large_tab[_i];
    char *want = aligned_alloc(64, PERIOD * ROW), *got = aligned_alloc(64, (ROWS + 1) * ROW);
    way_kept kept = {0};
    ir_module *m;
    ok(ir_parse(A, "large", text, strlen(text), &m));
    run_large(m, &kept, PERIOD, 0, want);
    for (size_t off = 0; off <= 64; off += 4 + off * 7) { /* 0, 4, 36 */
        memset(got, 0, (ROWS + 1) * ROW);
        run_large(m, &kept, ROWS, off, got);
        for (size_t r = 0; r < ROWS; r++)
            ck_assert_msg(!memcmp(got + off + r * ROW, want + r % PERIOD * ROW, ROW),
                          "row %zu at an offset of %zu bytes", r, off);
    }
    way_release(&kept);
    ir_module_free(m);
    free(want), free(got);
}
END_TEST

int main(void) {
    A = ig_allocator_default();
    Suite *s = suite_create("rows");
    TCase *t = tcase_create("rows");
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, random_rows, 0, 3);
    tcase_add_loop_test(t, large_results, 0, 2);
    suite_add_tcase(s, t);
    return suite_run(s);
}
