/* emit.h - kernel-level IR to LLVM IR, one op at a time.
 *
 * Values in registers: bool is i1, integers have their width, f16 and bf16 are i16 (they are only
 * moved; lowering computes on them through f32), f32 and f64 are themselves; vectors are LLVM
 * vectors of these; mem is a pointer.  In memory a bool is an i8 of 0 or 1.  No value carries a
 * fast-math flag, and the only IR passes are those of code generation, so what is emitted here is
 * what runs.
 *
 * Errors are sticky: emit_fail records the first one, and an emission that failed gives NULL. */
#ifndef CG_LLVM_EMIT_H
#define CG_LLVM_EMIT_H
#include "codegen/llvm/plugin.h"
#include <llvm-c/Core.h>
#include <llvm-c/TargetMachine.h>

typedef struct emit_frame emit_frame;

typedef struct emit {
    const cg_llvm_host *host;
    const cg_llvm_job *job;
    const ir_module *m;
    LLVMContextRef ctx;
    LLVMModuleRef mod;
    LLVMBuilderRef b;
    LLVMTypeRef i1, i8, i32, i64, ptr, none;
    rt_arena arena;        /* scratch of the whole compile */
    LLVMValueRef *fns;     /* one a function of the module; NULL for those that are not code */
    LLVMValueRef *weights; /* those that are constants of the object, made on first use */
    LLVMValueRef launch;   /* the helper, made on first use */

    /* the function being emitted */
    const ir_func *f;
    const ir_op *op;
    LLVMValueRef fn, *val;  /* val: one a value */
    bool *live;             /* one an op */
    LLVMValueRef entry_end; /* terminator of the entry block, which holds the stack slots */
    LLVMValueRef bufs;      /* host functions: room for the buffers of a launch */
    bool streams;           /* it stores past the caches */
    uint64_t stack;         /* bytes of stack slots so far */
    uint64_t unroll;        /* ops that unrolling may still add */
    bool plain;             /* its loops have few addresses */
    emit_frame *frame;      /* innermost open region */

    int code;      /* ig_code of the first error */
    char *message; /* borrowed */
    size_t message_size;
} emit;

/* --- emit.c --- */
void emit_init(emit *e, const cg_llvm_host *host, const cg_llvm_job *job, char *message,
               size_t size);
void emit_free(emit *e);
/* Emit the whole module; false after an error. */
bool emit_module(emit *e);
/* Record an error at the current op; always false. */
bool emit_fail(emit *e, ig_code code, const char *fmt, ...) IG_PRINTF(3, 4);

LLVMTypeRef emit_scalar_type(const emit *e, ig_dtype d);
LLVMTypeRef emit_cell_type(const emit *e, ig_dtype d); /* in memory */
LLVMTypeRef emit_type(const emit *e, const ir_type *t);
/* An integer constant of an integer or integer vector type. */
LLVMValueRef emit_int(LLVMTypeRef t, uint64_t x);
LLVMValueRef emit_i64(const emit *e, int64_t x);
/* A constant from little-endian elements. */
LLVMValueRef emit_const(emit *e, const ir_type *t, const void *bytes);
/* Call an intrinsic overloaded on the given types. */
LLVMValueRef emit_intrinsic(emit *e, const char *name, LLVMTypeRef *over, unsigned nover,
                            LLVMValueRef *args, unsigned n);
/* Add an enum attribute without value to a function (0: the function, k: its k-th parameter from
 * 1). */
void emit_attr(emit *e, LLVMValueRef fn, unsigned where, const char *name);
/* What lets gdb (call frame information) and perf (frame pointers) walk through a function. */
void emit_frame_attrs(emit *e, LLVMValueRef fn);
void emit_str_attr(emit *e, LLVMValueRef fn, const char *name, const char *value);
LLVMBasicBlockRef emit_block(emit *e, const char *name);
/* A stack slot in the entry block. */
LLVMValueRef emit_slot(emit *e, LLVMTypeRef t, uint64_t bytes, unsigned align, const char *name);
/* Mark a load as one whose memory never changes. */
void emit_set_invariant(emit *e, LLVMValueRef load);

/* --- emit_ew.c: elementwise ops --- */
LLVMValueRef emit_elementwise(emit *e, const ir_op *op, const LLVMValueRef *x);
/* Whether the op's bits depend on the floating-point environment. */
bool emit_needs_fpenv(const cg_llvm_host *host, const ir_func *f, const ir_op *op);

/* --- emit_mem.c: memory, vectors --- */
LLVMValueRef emit_memory(emit *e, const ir_op *op, const LLVMValueRef *x);

/* Declare a kernel; NULL after an error. */
LLVMValueRef emit_declare_kernel(emit *e, const ir_func *f);
/* Order what was stored past the caches before what follows. */
void emit_fence(emit *e);

/* --- emit_host.c: host functions --- */
LLVMValueRef emit_host_declare(emit *e, const ir_func *f);
LLVMValueRef emit_host_op(emit *e, const ir_op *op, const LLVMValueRef *x);
void emit_host_return(emit *e, const LLVMValueRef *x);
LLVMValueRef emit_dims(const emit *e);

/* --- emit_env.c: the floating-point environment of a kernel --- */
typedef struct emit_env {
    LLVMValueRef slot, saved, changed;
} emit_env;
emit_env emit_env_enter(emit *e);
void emit_env_leave(emit *e, emit_env env);

/* --- object.c --- */
/* Code for the finished module; false after an error.  On success *buf is disposed by the
 * caller. */
bool emit_object(emit *e, LLVMMemoryBufferRef *buf_);
void emit_init_targets(void);
#endif
