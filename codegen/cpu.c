/* cpu.c - the table of CPU levels, from cpus.def. */
#include "codegen/target.h"

#include <string.h>

const cg_cpu cg_cpu_tab[] = {
#define CPU(name, arch, cls, feature, triple, cpu, features, bits, registers, rows, vectors) \
    {#name, RT_ARCH_##arch, IR_CLASS_##cls, RT_CPU_##feature, triple, cpu, features,         \
     bits,  registers,      rows,           vectors},
#include "codegen/cpus.def"
#undef CPU
    {0},
};

const cg_cpu *cg_cpu_find(const char *name) {
    for (const cg_cpu *c = cg_cpu_tab; c->name; c++)
        if (!strcmp(c->name, name)) return c;
    return NULL;
}

bool cg_cpu_runs_here(const cg_cpu *cpu) {
    return cpu->arch == rt_cpu_arch() && (rt_cpu_features() & cpu->feature) == cpu->feature;
}

bool cg_cpu_serves(const cg_cpu *cpu, ir_class cls) {
    return cpu->class == IR_CLASS_FMA || cls == IR_CLASS_NOFMA;
}

/* Rows go from the least to the most able level of an architecture. */
const cg_cpu *cg_cpu_host(ir_class cls) {
    const cg_cpu *best = NULL;
    for (const cg_cpu *c = cg_cpu_tab; c->name; c++)
        if (cg_cpu_runs_here(c) && cg_cpu_serves(c, cls)) best = c;
    return best;
}
