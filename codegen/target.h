/* target.h - targets, lowering to kernels, and the door to LLVM. */
#ifndef CG_TARGET_H
#define CG_TARGET_H
#include "ir/ir.h"
#include "runtime/image.h"

typedef struct cg_cpu {
    const char *name;
    uint32_t arch; /* rt_image_arch */
    ir_class class;
    uint64_t feature; /* RT_CPU_* the host must have */
    const char *triple, *cpu, *features;
    int vector_bits, registers, tile_rows, tile_vectors;
} cg_cpu;
extern const cg_cpu cg_cpu_tab[]; /* from cpus.def, ended by a NULL name */
const cg_cpu *cg_cpu_find(const char *name);
/* The best level of this machine that serves a class; NULL when there is none. */
const cg_cpu *cg_cpu_host(ir_class cls);
bool cg_cpu_runs_here(const cg_cpu *cpu);
/* Whether a module of this class may be built for the target: an fma target also emits nofma
 * modules. */
bool cg_cpu_serves(const cg_cpu *cpu, ir_class cls);

/* lower.c: a planned module (after memplan) -> kernels, the host program "<entry>" and
 * "<entry>_workspace". Dumped under IG_DUMP=kernel.
 *
 * kernel @k(%b0: mem<f32>, ..., %lo: i64[], %hi: i64[])         operands in order, results,
 * constants; ends in `return` host   @entry() : launch ops name kernels: launch (mem..., n,
 * picoseconds) callee=@k ; returns an i32 rt_host_code host   @entry_workspace() : returns i64
 * bytes and i32 code */
/* The weights of the planned module keep their numbers (and are borrowed from it, which must
 * outlive the result); a constant that needs memory becomes a weight after them whose name begins
 * with a dot.  Nobody passes those in: an image holds them in its read-only data, as a deployment
 * object holds all weights. */
static inline bool cg_weight_is_const(const char *name) { return name[0] == '.'; }
ig_status cg_lower(const ir_module *planned, const char *entry, const cg_cpu *cpu,
                   ir_module **out_);
/* One cluster -> a kernel of its name in `out` (a shell of its module), for callers of their own.
 * stride: by operand, in elements (0: the same element again), n 0: contiguous; NULL: all are.
 * *n_: the extent of the outermost loop; *ps_: the estimated picoseconds of the whole. */
ig_status cg_lower_cluster(const ir_func *cluster, const ir_dims *stride, const cg_cpu *cpu,
                           ir_module *out, ir_dim *n_, ir_dim *ps_);

/* compile.c */
typedef struct cg_bytes {
    void *data;
    size_t n;
    const ig_allocator *alloc;
} cg_bytes; /* owned */
void cg_bytes_free(cg_bytes *b);
/* Module as recorded -> image for this machine or another: passes, lowering, LLVM, linking. */
ig_status cg_compile(const ir_module *m, const char *entry, const cg_cpu *cpu, cg_bytes *image_);
/* Module -> relocatable object with the deployment entry points <prefix>_run and
 * <prefix>_workspace; weights inside. */
ig_status cg_build(const ir_module *m, const char *entry, const char *prefix, const cg_cpu *cpu,
                   cg_bytes *object_);
/* Kernels -> relocatable object that exports each under its name, hidden. */
ig_status cg_build_kernels(const ir_module *kernels, const cg_cpu *cpu, cg_bytes *object_);

/* link.c: ELF objects as LLVM emits them, in order -> image; refuses what leaves a relocation or an
 * undefined symbol. */
typedef struct cg_object {
    const void *data;
    size_t n;
} cg_object;
ig_status cg_link(const ig_allocator *a, const cg_object *objects, uint32_t n, const cg_cpu *cpu,
                  cg_bytes *image_);
/* The same for code that calls C functions, which the loader finds by name. */
typedef struct cg_import {
    const char *name; /* borrowed */
    int64_t version;
} cg_import;
ig_status cg_link_importing(const ig_allocator *a, const cg_object *objects, uint32_t n,
                            const cg_import *import, uint32_t nimport, const cg_cpu *cpu,
                            cg_bytes *image_);
#endif
