/* test_ckpt.c - what reverse mode keeps of loops and of the inside of branches: every policy gives
 * the same bytes, in every sequence of transformations up to three that goes backwards once.  A
 * second time backwards sees another program, in which a value that is computed twice gets its
 * cotangents in two parts: these are equal up to rounding. */
#include "passes/transform.h"
#include "tests/closure.h"
#include "tests/gen.h"
#include "tests/unit/ref_tools.h"
#include "tests/ways.h"
#include <math.h>
#include <stdio.h>

enum { ARGS = 256, CAP = 90 };

/* What an op may keep: its policy, or the default where the op has another kind of inside. */
static ir_field_ckpt fitting(ir_opcode op, int64_t regions, ir_field_ckpt v) {
    if (op == OP_scan || (op == OP_while && v != IR_CKPT_DOTS)) return v;
    return op == OP_if && regions == 1 && (v == IR_CKPT_ALL || v == IR_CKPT_DOTS) ? v : 0;
}

/* The policy of every op with regions; a cap for every while, which some of them need. */
static bool set_policy(ir_module *m, ir_field_ckpt v) {
    ir_func *f = (ir_func *)ir_entry(m);
    bool any = false;
    for (uint32_t i = 0; i < f->ops.n; i++) {
        ir_op *o = &f->ops.data[i];
        ir_attr_any a = {{0}};
        if (!o->nregion) continue;
        any = true;
        ir_import_attr(m, m, o->attr, &a);
        if (o->code == OP_scan) a.a_scan.ckpt = fitting(OP_scan, 1, v);
        if (o->code == OP_while)
            a.a_while = (ir_attr_while){.cap = CAP, .ckpt = fitting(OP_while, 2, v)};
        if (o->code == OP_if) a.a_regions.ckpt = fitting(OP_if, a.a_regions.n, v);
        o->attr = ir_intern_attr(m, (ir_attr_kind)ir_op_tab[o->code].attr, &a);
    }
    return any;
}

static ir_module *read_with(const closure_program *p, ir_field_ckpt v, bool *any_) {
    ir_module *m;
    ig_status s = ir_parse(A(), p->name, p->text, strlen(p->text), &m);
    ck_assert_msg(!s, "%s", ig_status_text(s));
    *any_ = set_policy(m, v);
    s = ir_verify(m);
    ck_assert_msg(!s, "%s", ig_status_text(s));
    return m;
}

/* Symbols in the middle of their ranges; numbers of which some are zeros of both signs. */
static void fill_inputs(const ir_module *m, int64_t *symbols, ir_tensor *in) {
    gen g = {7};
    const ir_func *f = ir_entry(m);
    for (uint32_t i = 0; i < m->symbols.n; i++)
        symbols[i] = (m->symbols.data[i].lo + m->symbols.data[i].hi) / 2;
    ck_assert(ir_nparam(f) < ARGS);
    for (uint32_t k = 0; k < ir_nparam(f); k++) {
        ir_type t = *ir_val_type(f, ir_param_ref(f, k));
        in[k] = (ir_tensor){.dtype = t.dtype, .rank = t.rank};
        for (int i = 0; i < t.rank; i++) ir_dim_eval(m, t.dim[i], symbols, &in[k].dim[i]);
        size_t bytes = way_bytes(&in[k]), n = bytes / rt_dtype_bytes(t.dtype);
        in[k].data = rt_alloc_buffer(A(), bytes + 64);
        for (size_t i = 0; i < n; i++) {
            uint64_t r = gen_u64(&g);
            double x = (double)(r >> 11) * 0x1p-52 - 1;
            if (t.dtype == IG_f64) ((double *)in[k].data)[i] = r & 7 ? x : r & 8 ? 0.0 : -0.0;
            if (t.dtype == IG_i64) ((int64_t *)in[k].data)[i] = (int64_t)(r % 7);
            if (t.dtype == IG_i32) ((int32_t *)in[k].data)[i] = (int32_t)(r % 3);
            if (t.dtype == IG_bool) ((uint8_t *)in[k].data)[i] = r & 1;
        }
    }
}

/* What a module gives on its inputs, on a way to run. */
typedef struct answer {
    int n;
    ir_tensor y[ARGS];
} answer;

static void run_way(const ir_module *m, const char *way, answer *a) {
    ir_tensor in[ARGS];
    int64_t symbols[8];
    const ir_func *f = ir_entry(m);
    fill_inputs(m, symbols, in);
    way_case c = {.module = m,
                  .f = f,
                  .nin = (int)ir_nparam(f),
                  .nout = (int)f->results.n,
                  .in = in,
                  .symbols = symbols};
    a->n = c.nout;
    ck_assert(way_alloc_outputs(&c, a->y));
    ig_status s = way_find(way)->run(&c, a->y);
    ck_assert_msg(!s, "%s", ig_status_text(s));
    way_free_outputs(c.nin, in);
}

/* How far two results are from each other, over the size of the larger. */
static double distance(const ir_tensor *x, const ir_tensor *y) {
    double away = 0, size = 1;
    for (size_t i = 0; x->dtype == IG_f64 && i < way_bytes(x) / sizeof(double); i++) {
        double a = ((double *)x->data)[i], b = ((double *)y->data)[i];
        if (isnan(a) && isnan(b)) continue;
        away = fmax(away, a == b ? 0 : fabs(a - b));
        if (isfinite(a)) size = fmax(size, fabs(a));
    }
    return away / size;
}

static void compare(const char *name, const char *words, answer *want, answer *got, bool twice) {
    int64_t at;
    ck_assert_int_eq(want->n, got->n);
    for (int k = 0; twice && k < want->n; k++) {
        double d = distance(&want->y[k], &got->y[k]); /* sums in another order, in f64 */
        ck_assert_msg(d < 1e-12, "%s, %s: result %d is %g away", name, words, k, d);
    }
    if (twice) return;
    int k = way_compare(want->n, want->y, got->y, &at);
    ck_assert_msg(k < 0, "%s, %s: result %d differs at element %lld", name, words, k,
                  (long long)at);
}

static ir_module *transformed(const ir_module *m, const char *words) {
    ir_module *out = NULL;
    ig_status s = pass_transform(words, m, &out);
    ck_assert_msg(!s, "%s: %s", words, ig_status_text(s));
    return out;
}

static const ir_field_ckpt policies[] = {IR_CKPT_ALL, IR_CKPT_SQRT, IR_CKPT_DOTS, 1, 2, 3, 64};
static const char *const words[] = {"vjp", "jvp", "vmap 2"};

/* All sequences of words, as numbers of three digits; those that never go backwards say nothing. */
static bool sequence(int number, char text[64], bool *twice_) {
    int back = 0;
    for (text[0] = 0; number; number /= 4) {
        if (number % 4 == 0) return false;
        back += number % 4 == 1;
        snprintf(text + strlen(text), 64 - strlen(text), "%s%s", *text ? "; " : "",
                 words[number % 4 - 1]);
    }
    *twice_ = back > 1;
    return back;
}

static void check_program(const closure_program *p, size_t policy) {
    bool any, twice;
    ir_module *plain = read_with(p, IR_CKPT_AUTO, &any),
              *kept = read_with(p, policies[policy], &any);
    int most = strcmp(p->name, "long") ? 64
                                       : 16; /* 60 trips, computed again: two words are enough */
    for (int i = 1; any && i < most; i++) {
        char text[64];
        answer want, got;
        if (!sequence(i, text, &twice)) continue;
        ir_module *a = transformed(plain, text), *b = transformed(kept, text);
        run_way(a, "reference", &want);
        run_way(b, "reference", &got);
        compare(p->name, text, &want, &got, twice);
        way_free_outputs(got.n, got.y);
        if (i == 1) {
            run_way(b, "compiled", &got);
            compare(p->name, text, &want, &got, twice);
            way_free_outputs(got.n, got.y);
        }
        way_free_outputs(want.n, want.y);
        ir_module_free(a);
        ir_module_free(b);
    }
    ir_module_free(plain);
    ir_module_free(kept);
}

START_TEST(same_bits) {
    ig_status s = closure_register();
    ck_assert_msg(!s, "%s", ig_status_text(s));
    for (const closure_program *p = closure_programs; p->name; p++) check_program(p, (size_t)_i);
}
END_TEST

int main(void) {
    TCase *t = tcase_create("ckpt");
    tcase_add_loop_test(t, same_bits, 0, (int)LEN(policies));
    return run_suite(t);
}
