/* plugin.h - the table between libingot and libingot-llvm, the only library that is linked to
 * LLVM.  libingot opens the plug-in with RTLD_LOCAL on the first compile; the plug-in calls back
 * only through cg_llvm_host. */
#ifndef CG_LLVM_PLUGIN_H
#define CG_LLVM_PLUGIN_H
#include "codegen/target.h"

#define CG_LLVM_ABI 4u

typedef struct cg_llvm_host {
    const ir_op_info *ops; /* ir_op_tab */
    const void *(*attr_get)(const ir_module *, ir_attr);
    ir_loc_rec (*loc_get)(const ir_module *, ir_loc);
    const ir_func *(*find_func)(const ir_module *, const char *);
    const ir_weight *(*find_weight)(const ir_module *, const char *);
    void *(*alloc)(size_t); /* for the object handed back; freed by the host with free_ */
    void (*free_)(void *);
    void (*dump)(const char *word, const char *text); /* IG_DUMP=llvm, asm */
    bool dump_llvm, dump_asm;
    bool force_fatal; /* tests: make LLVM report a fatal error */
} cg_llvm_host;

typedef struct cg_llvm_job {
    const ir_module *module; /* kernels and host functions after cg_lower */
    const cg_cpu *cpu;
    const ig_allocator *alloc; /* scratch; the jobs that run at once may share it */
    const char *prefix;        /* NULL: an image; else the name prefix of a deployment object */
    bool export_kernels; /* kernels are hidden symbols of the object; else they are local to it */
    /* The functions that the object holds; last 0: all.  A kernel outside, which must be exported
     * by another object, is undefined in it. */
    uint32_t first, last;
    bool quick; /* generate code quickly: it runs once a call */
} cg_llvm_job;

typedef struct cg_llvm_api {
    uint32_t abi;
    const char *version; /* of LLVM */
    /* 0 and an ELF object (host->alloc'ed), or a nonzero ig_code and a message. */
    int (*compile)(const cg_llvm_host *host, const cg_llvm_job *job, void **object_, size_t *n_,
                   char *message, size_t message_size);
} cg_llvm_api;

/* The one exported symbol. */
typedef const cg_llvm_api *(*cg_llvm_entry_fn)(void);
#define CG_LLVM_ENTRY "ig_llvm_plugin"
#endif
