/* test_closure.c - the closure of the op table under jvp, vjp and vmap (closure.h).
 *
 *     test_closure [--exhaustive] [--seed N] [OP]
 *
 * Prints for every op how many sequences of transformations were compared.  The standard run takes
 * a few instances of every op to depth 3, --exhaustive ten times as many. */
#include "tests/closure.h"
#include "tests/gen.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* What generators do not make: relations of one, three and four operands, dims that are symbols,
 * values used many times, conversions back and forth. */
static const struct {
    const char *name, *text;
} programs[] = {
#define PROGRAM(name, body) \
    { name, "module m {\n" body "\n}\n" }
    PROGRAM("three", "fn @f(%a: f64[2,3], %b: f64[3,2], %c: f64[2]) -> (f64[2]) {\n"
                     "%0 = ein %a, %b, %c rel=\"y[i] += a[i,j]*b[j,k]*c[k] over (k,j)\"\n"
                     "return %0\n}"),
    PROGRAM("four", "fn @f(%a: f64[2], %b: f64[3], %c: f64[2,3]) -> (f64[]) {\n"
                    "%0 = ein %a, %b, %c, %a rel=\"y[] += a[i]*b[j]*c[k,j]*d[k]\"\n"
                    "return %0\n}"),
    PROGRAM("product", "fn @f(%a: f64[2,3], %b: f64[3]) -> (f64[2], f64[3]) {\n"
                       "%0 = ein %a, %b rel=\"y[i] *= a[i,j]*b[j]\"\n"
                       "%1 = ein %a rel=\"y[j] *= a[i,j]\"\n"
                       "return %0, %1\n}"),
    PROGRAM("largest", "fn @f(%a: f64[2,3]) -> (f64[3,2], f64[]) {\n"
                       "%0 = ein %a, %a, %a rel=\"y[j,i] max= a[i,j]*b[k,j]*c[i,l]\"\n"
                       "%1 = ein %a rel=\"y[] min= a[i,j] over (j,i)\"\n"
                       "return %0, %1\n}"),
    PROGRAM("symbols", "dim N in 2..6\ndim M in 1..5\n"
                       "fn @f(%x: f64[N,M], %s: f64[]) -> (f64[N], f64[N+1,2*M]) {\n"
                       "%0 = cumred %x op=prod axis=1 reverse=true\n"
                       "%1 = cumred %0 op=max axis=0 exclusive=false\n"
                       "%2 = slice %1 lo=[0,0] hi=[N,M] step=[2,1]\n"
                       "%3 = reduce %2 op=prod axes=[0,1]\n"
                       "%4 = broadcast %3 dims=[N] axes=[]\n"
                       "%5 = pad %0, %s lo=[1,M] hi=[0,0] interior=[0,0]\n"
                       "return %4, %5\n}"),
    PROGRAM("windows", "dim N in 2..6\n"
                       "fn @f(%x: f64[N], %u: f64[2], %i: i64[]) -> (f64[2], f64[N]) {\n"
                       "%0 = dslice %x, %i dims=[2]\n"
                       "%1 = mul %0, %u\n"
                       "%2 = dupdate %x, %1, %i op=add\n"
                       "%3 = dupdate %2, %u, %i op=set\n"
                       "%4 = mul %3, %2\n"
                       "return %0, %4\n}"),
    PROGRAM("softmax", "fn @f(%x: f64[2,3], %w: f64[3,3]) -> (f64[]) {\n"
                       "%0 = ein %x, %w rel=\"y[b,o] += x[b,i]*w[i,o]\"\n"
                       "%1 = reduce %0 op=max axes=[1]\n"
                       "%2 = broadcast %1 dims=[2,3] axes=[0]\n"
                       "%3 = sub %0, %2\n"
                       "%4 = exp %3\n"
                       "%5 = reduce %4 op=sum axes=[1]\n"
                       "%6 = log %5\n"
                       "%7 = mul %6, %6\n"
                       "%8 = reduce %7 op=sum axes=[0]\n"
                       "return %8\n}"),
    PROGRAM("powers", "fn @f(%x: f64[3], %y: f64[3]) -> (f64[3], f64[3]) {\n"
                      "%0 = abs %x\n%1 = pow %0, %y\n%2 = pow %1, %y\n%3 = atan2 %2, %x\n"
                      "%4 = rem %3, %y\n%5 = fma %1, %3, %4\nreturn %5, %2\n}"),
};

static int run_programs(uint64_t seed, int n, int depth, int *passed, int *redrawn) {
    int failed = 0;
    for (size_t k = 0; k < sizeof programs / sizeof *programs; k++) {
        closure_count count = {0};
        char what[1024];
        for (int i = 0; i < n; i++)
            if (!closure_check_text(programs[k].text, seed + (uint64_t)i, depth, &count, what)) {
                printf("FAIL program %s, draw %d: %s\n", programs[k].name, i, what);
                failed++;
            }
        printf("%-10s %9d %9d\n", programs[k].name, n, count.checked);
        *passed += count.checked;
        *redrawn += count.redrawn;
    }
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
    if (!only) failed += run_programs(seed, quick ? 1 : factor, quick ? 2 : 3, &passed, &redrawn);
    printf("%d instances were drawn again near a tie\n", redrawn);
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed != 0;
}
