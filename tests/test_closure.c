/* test_closure.c - the closure of the op table under jvp, vjp and vmap (closure.h).
 *
 *     test_closure [--exhaustive] [--seed N] [OP]
 *
 * Prints for every op how many sequences of transformations were compared.  The standard run takes
 * a few instances of every op to depth 3, --exhaustive ten times as many. */
#include "tests/closure.h"
#include "passes/pass.h"
#include "passes/transform.h"
#include "tests/gen.h"
#include "tests/ways.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLOSURE_PORTS = 64 };

/* How many ways the enumerated fields of an attribute can be set. */
static int closure_variants(ir_opcode op) {
    const ir_attr_info *info = &ir_attr_tab[ir_op_tab[op].attr];
    int n = 1;
    for (uint32_t k = 0; k < info->nfield; k++) {
        const char *const *names = ir_enum_names(info->field[k].kind);
        int values = info->field[k].kind == FIELD_flag ? 2 : 1;
        while (names && names[values]) values++;
        n *= values;
    }
    return n;
}

static int run_programs(const char *only, uint64_t seed, int n, int depth, int *passed,
                        int *redrawn) {
    int failed = 0;
    for (const closure_program *p = closure_programs; p->name; p++) {
        closure_count count = {0};
        char what[1024];
        if (only && strcmp(only, p->name)) continue;
        for (int i = 0; i < n; i++)
            if (!closure_check_program(p, seed + (uint64_t)i, depth, &count, what)) {
                printf("FAIL program %s, draw %d: %s\n", p->name, i, what);
                failed++;
            }
        printf("%-10s %9d %9d\n", p->name, n, count.checked);
        *passed += count.checked;
        *redrawn += count.redrawn;
    }
    return failed;
}

/* --- Every way to run what transformations make of the programs --------------------------------
 */

static const ig_allocator *A(void) { return ig_allocator_default(); }

static bool status_is_ok(ig_status s, const char *name, const char *words) {
    if (s) printf("FAIL program %s, %s: %s\n", name, words, ig_status_text(s));
    ig_status_free(s);
    return !s;
}

/* Random inputs, special values included. */
static void draw_inputs(const ir_func *f, const int64_t *symbols, uint64_t seed, ir_tensor *in) {
    gen g = {seed};
    for (uint32_t k = 0; k < ir_nparam(f); k++) {
        const ir_type *t = ir_val_type(f, ir_param_ref(f, k));
        int64_t n = 1;
        in[k] = (ir_tensor){.dtype = t->dtype, .rank = t->rank};
        for (int i = 0; i < t->rank; i++) ir_dim_eval(f->module, t->dim[i], symbols, &in[k].dim[i]);
        for (int i = 0; i < t->rank; i++) n *= in[k].dim[i];
        in[k].data = rt_alloc_buffer(A(), way_bytes(&in[k]) + 64);
        gen_data(&g, (ig_dtype)t->dtype, n, false, in[k].data);
    }
}

/* A deployed program with a C function would have to be linked with it (test_custom does that);
 * eager calls have handles, no refs. */
static bool cannot_run(const ir_func *f, const char *way) {
    unsigned code = !strcmp(way, "deployed") ? OP_custom : !strcmp(way, "eager") ? OP_ref : OP_END;
    bool any = false;
    for (uint32_t i = 0; i < f->ops.n; i++) any |= f->ops.data[i].code == code;
    return any;
}

/* The first way whose bytes are not the reference's, or NULL. */
static const char *wrong_way(const way_case *c) {
    ir_tensor want[CLOSURE_PORTS], got[CLOSURE_PORTS];
    const char *wrong = NULL;
    int64_t at;
    if (!way_alloc_outputs(c, want)) return "memory";
    ig_status s = way_tab[0].run(c, want);
    if (s) wrong = "reference";
    ig_status_free(s);
    for (const way *w = way_tab + 1; w->name && !wrong; w++) {
        const cg_cpu *cpu = cg_cpu_find(w->name);
        if (!w->available() || way_repeats(w, c->module->class) ||
            (cpu && !cg_cpu_serves(cpu, c->module->class)))
            continue;
        if (cannot_run(c->f, w->name)) continue;
        if (!way_alloc_outputs(c, got)) return "memory";
        s = w->run(c, got);
        if (s) printf("%s: %s\n", w->name, ig_status_text(s));
        if (s || way_compare(c->nout, want, got, &at) >= 0) wrong = w->name;
        ig_status_free(s);
        way_free_outputs(c->nout, got);
    }
    way_free_outputs(c->nout, want);
    return wrong;
}

static bool run_ways(const closure_program *p, const char *words, uint64_t seed) {
    ir_module *m = NULL, *made = NULL;
    ir_tensor in[CLOSURE_PORTS];
    int64_t symbols[8] = {0};
    if (!status_is_ok(ir_parse(A(), "text", p->text, strlen(p->text), &m), p->name, words))
        return false;
    bool ok = status_is_ok(
        *words ? pass_transform(words, m, &made) : pass_run_list("dce", m, &made), p->name, words);
    if (ok) {
        const ir_func *f = ir_entry(made);
        made->class = seed % 2 ? IR_CLASS_FMA : IR_CLASS_NOFMA;
        for (uint32_t i = 0; i < made->symbols.n; i++)
            symbols[i] = (made->symbols.data[i].lo + made->symbols.data[i].hi) / 2;
        way_case c = {.module = made, .f = f, .in = in, .symbols = symbols};
        c.nin = (int)ir_nparam(f);
        c.nout = (int)f->results.n;
        draw_inputs(f, symbols, seed, in);
        const char *wrong = wrong_way(&c);
        if (wrong) printf("FAIL program %s, %s: %s has other bits\n", p->name, words, wrong);
        ok = !wrong;
        way_free_outputs(c.nin, in);
    }
    ir_module_free(made);
    ir_module_free(m);
    return ok;
}

static int run_all_ways(const char *only, uint64_t seed, int *passed) {
    static const char *const words[] = {"",         "jvp",      "vjp",         "vmap 3",
                                        "vjp; vjp", "vjp; jvp", "vmap 2; vjp", "vjp; vmap 2"};
    const int n = (int)(sizeof words / sizeof *words), before = *passed;
    int failed = 0;
    for (const closure_program *p = closure_programs; p->name; p++)
        for (int i = 0; i < n; i++) {
            if (only && strcmp(only, p->name)) continue;
            bool ok = run_ways(p, words[i], seed + (uint64_t)i);
            failed += !ok;
            *passed += ok;
        }
    printf("%d programs and derived ones are the same every way\n", *passed - before);
    return failed;
}

int main(int argc, char **argv) {
    int factor = 10, passed = 0, failed = 0, skipped = 0, redrawn = 0;
    uint64_t seed = 1;
    const char *only = NULL;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--exhaustive"))
            factor = 100;
        else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 10);
        else
            only = argv[i];
    }
    bool quick = getenv("IG_TEST_QUICK") != NULL;
    if (closure_register()) return 1;
    printf("%-10s %9s %9s\n", "op", "instances", "sequences");
    for (int op = 0; op < OP_END; op++) {
        closure_count count = {0};
        char what[1024];
        int n = 0, want = quick ? 1 : factor * (2 + closure_variants((ir_opcode)op));
        if (!gen_has((ir_opcode)op) || (only && strcmp(only, ir_op_tab[op].name))) continue;
        if (want > 12 * factor) want = 12 * factor;
        for (; n < want; n++)
            if (!closure_check((ir_opcode)op, seed + (uint64_t)n, quick ? 2 : 3, &count, what)) {
                printf("FAIL instance %d of %s\n", n, what);
                failed++;
            }
        printf("%-10s %9d %9d", ir_op_tab[op].name, n, count.checked);
        if (count.why) printf("  %d skipped: %s", count.skipped, count.why);
        puts("");
        passed += count.checked;
        skipped += count.skipped;
        redrawn += count.redrawn;
    }
    failed += run_programs(only, seed, quick ? 1 : factor, quick ? 2 : 3, &passed, &redrawn);
    if (!quick || only) failed += run_all_ways(only, seed, &passed);
    printf("%d instances were drawn again near a tie\n", redrawn);
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed != 0;
}
