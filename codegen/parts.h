/* parts.h - machine code for a lowered module, by the LLVM plug-in. */
#ifndef CG_PARTS_H
#define CG_PARTS_H
#include "codegen/llvm/plugin.h"

#define CG_MAX_PARTS 16 /* objects of one module */

/* The objects of a module; each `data` is freed by cg_parts_free. */
typedef struct cg_parts {
    cg_object object[CG_MAX_PARTS];
    uint32_t n;
} cg_parts;

/* compile.c: the plug-in, opened on the first call, and what it may call back. */
ig_status cg_plugin(const ig_allocator *a, const cg_llvm_api **api_, cg_llvm_host *host_);
/* One object. */
ig_status cg_parts_whole(const cg_llvm_job *job, cg_parts *parts_);
/* As many objects as pay, on as many threads as a launch may use.  How the module is cut depends on
 * the module alone. */
ig_status cg_parts_split(const cg_llvm_job *job, cg_parts *parts_);
void cg_parts_free(cg_parts *parts);
#endif
