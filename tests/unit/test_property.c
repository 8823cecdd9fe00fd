/* test_property.c - laws that hold for every op, checked on random instances of every row of the op
 * table.
 *
 * There is no code for single ops here: operands come from the generator that the row's `domain`
 * names, and every law reads the row.  For each op: the type rule accepts what the generator makes;
 * the one-op module verifies, prints and parses back byte for byte, saves and loads; the reference
 * writes exactly its outputs and gives the same bits twice; commuting, associating and elementwise
 * ops are so in every bit; folding with any operand constant, and every pass, keep the bits; every
 * way to run gives them. */
#include "ir/file.h"
#include "passes/pass.h"
#include "tests/gen.h"
#include "tests/ways.h"
#include "tests/unit/suite.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const ig_allocator *A(void) { return ig_allocator_default(); }
static bool is_quick(void) { return getenv("IG_TEST_QUICK") != NULL; }

/* --- A random instance with its data ---------------------------------------------------------- */

typedef struct prop {
    gen g;
    gen_op o;
    ir_tensor in[GEN_OPERANDS];
} prop;

static void fail_on(ig_status s, const char *what, const prop *p) {
    if (s) ck_abort_msg("%s: %s: %s", ir_op_tab[p->o.op].name, what, ig_status_text(s));
}

/* Operand data: random, and now and then one value everywhere (identities look for splats). */
static void prop_data(prop *p, int k) {
    ir_tensor *t = &p->in[k];
    size_t size = rt_dtype_bytes(t->dtype), bytes = way_bytes(t);
    bool positive = !strcmp(ir_op_tab[p->o.op].domain, "positive");
    t->data = rt_alloc_buffer(A(), bytes + 64);
    gen_data(&p->g, t->dtype, (int64_t)(bytes / size), positive, t->data);
    if (!gen_one_in(&p->g, 4)) return;
    for (size_t i = size; i < bytes; i++) ((char *)t->data)[i] = ((char *)t->data)[i - size];
}

static bool prop_begin(prop *p, ir_opcode op, uint64_t seed) {
    *p = (prop){.g = {seed}};
    if (!gen_instance(&p->g, op, NULL, &p->o)) return false;
    for (int k = 0; k < p->o.nin; k++) {
        const ir_type *type = &p->o.in[k];
        p->in[k] = (ir_tensor){.dtype = type->dtype, .rank = type->rank};
        memcpy(p->in[k].dim, type->dim, sizeof p->in[k].dim);
        prop_data(p, k);
    }
    return true;
}

static void prop_end(prop *p) {
    for (int k = 0; k < p->o.nin; k++)
        rt_free_buffer(A(), p->in[k].data, way_bytes(&p->in[k]) + 64);
}

/* A module of the one op; bit k of `constant` makes operand k a constant instead of a parameter. */
static ir_module *prop_module(const prop *p, ir_class cls, unsigned flags, unsigned constant) {
    ir_module *m;
    ir_builder b;
    ir_ref in[GEN_OPERANDS], out[IR_MAX_RESULTS];
    fail_on(ir_module_new(A(), "m", &m), "module", p);
    m->class = cls;
    ir_build_begin(&b, m, "f", IR_FN, flags);
    b.loc = ir_intern_loc(m, "prop.c", 7);
    for (int k = 0; k < p->o.nin; k++)
        if (!(constant >> k & 1)) in[k] = ir_param(&b, p->o.in[k], NULL);
    for (int k = 0; k < p->o.nin; k++)
        if (constant >> k & 1)
            in[k] = ir_const(&b, p->o.in[k], p->in[k].data, way_bytes(&p->in[k]));
    out[0] = ir_emit(&b, p->o.op, &p->o.attr, p->o.nin, in);
    fail_on(b.error, "build", p);
    int n = 1; /* an op with several results hands out the first: the others follow it */
    const ir_op *def = ir_def_op(b.f, out[0]);
    if (def && def->code == p->o.op) n = def->nout;
    for (int k = 1; k < n; k++) out[k] = ir_result(out[0], (uint32_t)k);
    fail_on(ir_build_end(&b, n, out, NULL), "build", p);
    fail_on(ir_verify(m), "verify", p);
    return m;
}

/* Run a way on a module of prop_module; out gets memory. */
static int prop_run(const prop *p, const ir_module *m, unsigned constant, const way *w,
                    ir_tensor *out) {
    ir_tensor in[GEN_OPERANDS];
    way_case c = {.module = m, .f = ir_find_func(m, "f"), .in = in};
    c.nout = (int)c.f->results.n;
    for (int k = 0; k < p->o.nin; k++)
        if (!(constant >> k & 1)) in[c.nin++] = p->in[k];
    if (!way_alloc_outputs(&c, out)) ck_abort_msg("no memory for outputs");
    fail_on(w->run(&c, out), w->name, p);
    return c.nout;
}

/* Compare outputs; on a difference stop with the module's text. */
static void prop_same(const prop *p, const ir_module *m, const char *what, int n, ir_tensor *want,
                      ir_tensor *got) {
    int64_t at;
    int k = way_compare(n, want, got, &at);
    if (k < 0) return;
    rt_str text;
    rt_str_init(&text, A());
    ir_print(m, &text, 0);
    ck_abort_msg("%s: %s differs in result %d at element %lld\n%s", ir_op_tab[p->o.op].name, what,
                 k, (long long)at, rt_str_text(&text));
}

/* Run m by the reference and compare with `want`. */
static void prop_ref_same(const prop *p, const ir_module *m, unsigned constant, const char *what,
                          int n, ir_tensor *want) {
    ir_tensor got[IR_MAX_RESULTS];
    ck_assert_int_eq(prop_run(p, m, constant, &way_tab[0], got), n);
    prop_same(p, m, what, n, want, got);
    way_free_outputs(n, got);
}

/* --- Laws of text and files ------------------------------------------------------------------- */

static void law_prints(const prop *p, const ir_module *m) {
    for (unsigned flags = 0; flags <= IR_PRINT_LOCS; flags += IR_PRINT_LOCS) {
        rt_str text, again;
        ir_module *back;
        rt_str_init(&text, A());
        rt_str_init(&again, A());
        ir_print(m, &text, flags);
        fail_on(ir_parse(A(), "printed", rt_str_text(&text), text.n, &back),
                "parse what was printed", p);
        fail_on(ir_verify(back), "verify what was parsed", p);
        ir_print(back, &again, flags);
        if (strcmp(rt_str_text(&text), rt_str_text(&again)))
            ck_abort_msg("printed:\n%sread back:\n%s", rt_str_text(&text), rt_str_text(&again));
        ir_module_free(back);
        rt_str_free(&text);
        rt_str_free(&again);
    }
}

static void law_saves(const prop *p, const ir_module *m, int n, ir_tensor *want) {
    rt_str file, again;
    ir_module *back;
    rt_str_init(&file, A());
    rt_str_init(&again, A());
    fail_on(ir_save(m, NULL, 0, &file), "save", p);
    fail_on(ir_load(A(), file.data, file.n, &back), "load", p);
    fail_on(ir_save(back, NULL, 0, &again), "save again", p);
    ck_assert(file.n == again.n && !memcmp(file.data, again.data, file.n));
    prop_ref_same(p, back, 0, "saved and loaded", n, want);
    ir_module_free(back);
    rt_str_free(&file);
    rt_str_free(&again);
}

/* --- Laws of the row -------------------------------------------------------------------------- */

/* x op y = y op x. */
static void law_commutes(const prop *p, const ir_module *m, int n, ir_tensor *want) {
    if (!ir_op_tab[p->o.op].commutes) return;
    prop q = *p;
    q.in[0] = p->in[1];
    q.in[1] = p->in[0];
    prop_ref_same(&q, m, 0, "swapped operands", n, want);
}

/* (x op y) op x = x op (y op x), where the row promises it: on everything but floats that are added
 * or multiplied, which is what `modulo 2^n or bits` means. */
static void law_associates(const prop *p, const ir_module *m, int n, ir_tensor *want) {
    if (!ir_op_tab[p->o.op].associative || n != 1 || want[0].dtype != p->in[0].dtype) return;
    if (rt_is_float(want[0].dtype)) return;
    prop q = *p;
    ir_tensor right[1], left[1], inner[1];
    q.in[0] = p->in[1];
    q.in[1] = p->in[0];
    prop_run(&q, m, 0, &way_tab[0], inner);
    q.in[0] = p->in[0];
    q.in[1] = inner[0];
    prop_run(&q, m, 0, &way_tab[0], right);
    q.in[0] = want[0];
    q.in[1] = p->in[0];
    prop_run(&q, m, 0, &way_tab[0], left);
    prop_same(p, m, "another grouping", 1, left, right);
    way_free_outputs(1, inner);
    way_free_outputs(1, left);
    way_free_outputs(1, right);
}

static void reverse_elements(ir_tensor *t) {
    size_t size = rt_dtype_bytes(t->dtype), n = way_bytes(t) / size;
    char *x = t->data, swap[8];
    for (size_t i = 0; i < n / 2; i++) {
        memcpy(swap, x + i * size, size);
        memcpy(x + i * size, x + (n - 1 - i) * size, size);
        memcpy(x + (n - 1 - i) * size, swap, size);
    }
}

/* An elementwise result depends on the elements at its own place only: reversing commutes with the
 * op. */
static void law_elementwise(prop *p, const ir_module *m, int n, ir_tensor *want) {
    ir_tensor got[IR_MAX_RESULTS];
    if (!ir_op_tab[p->o.op].elementwise) return;
    for (int k = 0; k < p->o.nin; k++) reverse_elements(&p->in[k]);
    prop_run(p, m, 0, &way_tab[0], got);
    for (int k = 0; k < p->o.nin; k++) reverse_elements(&p->in[k]);
    for (int k = 0; k < n; k++) reverse_elements(&got[k]);
    prop_same(p, m, "reversed elements", n, want, got);
    way_free_outputs(n, got);
}

/* --- Laws of the optimiser -------------------------------------------------------------------- */

/* Folding and value numbering keep the bits, whichever operands are constant. */
static void law_folds(const prop *p, ir_class cls, int n, ir_tensor *want) {
    if (n != 1) return;
    for (unsigned constant = 0; constant < 1u << p->o.nin && constant < 8; constant++) {
        ir_module *m = prop_module(p, cls, IR_BUILD_OPT, constant);
        prop_ref_same(p, m, constant, "folding", n, want);
        ir_module_free(m);
    }
}

/* The passes one after the other, in pipeline order; the reference runs what each of them made. */
static void law_passes(const prop *p, const ir_module *m, int n, ir_tensor *want) {
    ir_module *last = NULL, *next;
    for (const pass_info *pass = pass_tab; pass->name; pass++) {
        fail_on(pass_run(pass, last ? last : m, &next), pass->name, p);
        prop_ref_same(p, next, 0, pass->name, n, want);
        ir_module_free(last);
        last = next;
    }
    ir_module_free(last);
}

/* --- All laws of one op ----------------------------------------------------------------------- */

static void check_instance(prop *p, ir_class cls) {
    ir_tensor want[IR_MAX_RESULTS];
    ir_module *m = prop_module(p, cls, IR_BUILD_RAW, 0);
    int n = prop_run(p, m, 0, &way_tab[0], want);
    prop_ref_same(p, m, 0, "a second run", n, want); /* way_compare looks behind the end, too */
    law_prints(p, m);
    law_saves(p, m, n, want);
    law_commutes(p, m, n, want);
    law_associates(p, m, n, want);
    law_elementwise(p, m, n, want);
    law_folds(p, cls, n, want);
    law_passes(p, m, n, want);
    way_free_outputs(n, want);
    ir_module_free(m);
}

START_TEST(laws_of_the_row) {
    const ir_opcode op = (ir_opcode)_i;
    if (!gen_has(op)) {
        ck_assert_str_eq(ir_op_tab[op].domain, "none");
        return;
    }
    for (int i = 0, n = is_quick() ? 20 : 150; i < n; i++) {
        prop p;
        if (!prop_begin(&p, op, (uint64_t)i * 1000003u + (uint64_t)op))
            ck_abort_msg("%s: the generator made nothing", ir_op_tab[op].name);
        check_instance(&p, i % 5 ? IR_CLASS_FMA : IR_CLASS_NOFMA);
        prop_end(&p);
    }
}
END_TEST

/* Both classes in turn, as far as the way is a level that serves them. */
static ir_class way_class(const way *w, int i) {
    const cg_cpu *cpu = cg_cpu_find(w->name);
    ir_class cls = i % 2 ? IR_CLASS_NOFMA : IR_CLASS_FMA;
    return cpu && !cg_cpu_serves(cpu, cls) ? IR_CLASS_NOFMA : cls;
}

/* Every way gives the reference's bytes. */
START_TEST(ways_of_the_row) {
    const ir_opcode op = (ir_opcode)_i;
    if (!gen_has(op)) return;
    for (const way *w = way_tab + 1; w->name; w++) {
        if (!w->available()) continue;
        int n = is_quick()                     ? 2
                : !strcmp(w->name, "deployed") ? 2
                                               : 12; /* a C compiler runs for each */
        for (int i = 0; i < n; i++) {
            prop p;
            ir_tensor want[IR_MAX_RESULTS], got[IR_MAX_RESULTS];
            if (way_repeats(w, way_class(w, i))) continue; /* it was `compiled` */
            if (!prop_begin(&p, op, (uint64_t)i * 7919u + (uint64_t)op)) continue;
            ir_module *m = prop_module(&p, way_class(w, i), IR_BUILD_RAW, 0);
            int nout = prop_run(&p, m, 0, &way_tab[0], want);
            prop_run(&p, m, 0, w, got);
            prop_same(&p, m, w->name, nout, want, got);
            way_free_outputs(nout, want);
            way_free_outputs(nout, got);
            ir_module_free(m);
            prop_end(&p);
        }
    }
}
END_TEST

/* The generators reach what the laws are about: every element type, empty and odd shapes. */
START_TEST(generators_reach_edges) {
    unsigned dtypes = 0, ranks = 0;
    bool empty = false, odd = false, large = false;
    gen g = {1};
    for (int i = 0; i < 20000; i++) {
        ir_type t = gen_type(&g, gen_dtype(&g), 3000);
        dtypes |= 1u << t.dtype;
        ranks |= 1u << t.rank;
        for (int k = 0; k < t.rank; k++) {
            empty |= t.dim[k] == 0;
            odd |= t.dim[k] == 13;
            large |= t.dim[k] > 61;
        }
    }
    ck_assert_uint_eq(dtypes, (1u << IG_DTYPE_END) - 2);
    ck_assert_uint_eq(ranks & 31, 31);
    ck_assert(empty && odd && large);
}
END_TEST

int main(void) {
    Suite *s = suite_create("property");
    TCase *t = tcase_create("property");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, generators_reach_edges);
    tcase_add_loop_test(t, laws_of_the_row, 0, OP_END);
    tcase_add_loop_test(t, ways_of_the_row, 0, OP_END);
    suite_add_tcase(s, t);
    int failed = suite_run(s), without = 0;
    for (int op = 0; op < OP_END; op++) without += !gen_has((ir_opcode)op);
    printf("%d ops have laws, %d have the domain none\n", OP_END - without, without);
    return failed;
}
