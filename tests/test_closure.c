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
    printf("%d instances were drawn again near a tie\n", redrawn);
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed != 0;
}
