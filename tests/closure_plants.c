/* closure_plants.c - rules turned wrong on purpose, to prove that the closure test sees them.
 *
 * For every op: the sign of what its `lin` rule gives and of what its `tr` rule gives is flipped,
 * and the lanes that its `batch` rule gives are reversed.  Each has to be found within the
 * instances of the standard run.  A row that says `zero` or `_` has nothing to turn. */
#include "passes/walk.h"
#include "tests/closure.h"
#include "tests/gen.h"
#include <stdio.h>

int pass_plant_lin = -1, pass_plant_tr = -1, pass_plant_batch = -1;

typedef struct plant {
    const char *name;
    int *op;
    bool has[OP_END];
} plant;

#define NONE__            ~, 0
#define NONE_zero         ~, 0
#define NONE_opaque       ~, 0 /* an error */
#define NONE_turn         ~, 0 /* no results that could be wrong: see test_custom */
#define NONE_all          ~, 0
#define NONE_pull         ~, 0 /* what the user wrote, in reverse mode only: see test_custom */
#define SECOND(a, b, ...) b
#define HAS_(...)         SECOND(__VA_ARGS__, 1, ~)
#define HAS(x)            HAS_(x)
#define F(...)
static plant plants[] = {
#define OP(name, ver, n, level, attr, type, domain, flags, rules) [OP_##name] = rules,
#define R(fold, ref, lower, lin, tr, batch)                       HAS(NONE_##lin)
    {"lin",
     &pass_plant_lin,
     {
#include "ir/ops.def"
     }},
#undef R
#define R(fold, ref, lower, lin, tr, batch) HAS(NONE_##tr)
    {"tr",
     &pass_plant_tr,
     {
#include "ir/ops.def"
     }},
#undef R
#define R(fold, ref, lower, lin, tr, batch) HAS(NONE_##batch)
    {"batch",
     &pass_plant_batch,
     {
#include "ir/ops.def"
     }},
#undef R
#undef OP
};

/* One instance of an op, or program number `seed`: whether it is as it should be. */
static bool plant_check(ir_opcode op, uint64_t seed, int programs, closure_count *count) {
    char what[1024];
    if (gen_has(op)) return closure_check(op, seed, 2, count, what);
    return closure_check_program(&closure_programs[seed % (uint64_t)programs], seed, 2, count,
                                 what);
}

/* Whether the plant is found; where derivatives are not compared there is none to find. */
static bool plant_found(const plant *p, ir_opcode op, bool *compared_) {
    bool found = false;
    int programs = 0;
    while (closure_programs[programs].name) programs++;
    *p->op = op;
    *compared_ = true;
    for (uint64_t seed = 1; seed <= 40 && !found && *compared_; seed++) {
        closure_count count = {0};
        found = !plant_check(op, seed, programs, &count);
        *compared_ = !count.why || p->op == &pass_plant_batch;
    }
    *p->op = -1;
    return found;
}

int main(void) {
    int passed = 0, failed = 0;
    if (closure_register()) return 1;
    for (size_t i = 0; i < sizeof plants / sizeof *plants; i++) {
        int found = 0, all = 0;
        for (int op = 0; op < OP_END; op++) {
            if (!plants[i].has[op]) continue;
            bool compared, ok = plant_found(&plants[i], (ir_opcode)op, &compared);
            if (!compared) continue;
            if (!ok)
                printf("FAIL the %s rule of %s, turned wrong, is not noticed\n", plants[i].name,
                       ir_op_tab[op].name);
            all++;
            found += ok;
        }
        printf("%s: %d of %d wrong rules are found\n", plants[i].name, found, all);
        passed += found;
        failed += all - found;
    }
    printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed != 0;
}
