/* object.c - machine code for a module, through LLVM's code generator without IR passes of its own.
 *
 * Measured on a 6 x 16 contraction tile (level v3): passes over vector IR double the time and give
 * nothing.  Loop strength reduction is part of code generation: without it that tile runs at 49
 * GFLOP/s instead of 58.  It can only be turned off for the whole process; see emit.c for how it is
 * kept from other loops. */
#include "codegen/llvm/emit.h"
#include <llvm-c/Analysis.h>
#include <llvm-c/Target.h>
#include <pthread.h>
#include <string.h>

void emit_init_targets(void) {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    LLVMInitializeAArch64TargetInfo();
    LLVMInitializeAArch64Target();
    LLVMInitializeAArch64TargetMC();
    LLVMInitializeAArch64AsmPrinter();
}

/* --- Machines --- */

/* An LLVM target machine, with tables of the processor that it makes on first use: 0.35 ms, a fifth
 * of a small kernel's time.  So all are kept; one serves one job at a time. */
typedef struct object_machine {
    struct object_machine *next;
    LLVMTargetMachineRef tm;
    char level[16]; /* the name of its row in cpus.def */
    bool quick;
    bool busy; /* for good, when LLVM gave up in its job */
} object_machine;

static pthread_mutex_t object_lock = PTHREAD_MUTEX_INITIALIZER;
static object_machine *object_machines; /* under the lock; owned */

/* A new LLVM machine for the job, or NULL. */
static LLVMTargetMachineRef object_make_machine(emit *e) {
    const cg_cpu *cpu = e->job->cpu;
    LLVMCodeGenOptLevel level = e->job->quick ? LLVMCodeGenLevelNone : LLVMCodeGenLevelDefault;
    LLVMTargetRef target;
    char *why = NULL;
    if (LLVMGetTargetFromTriple(cpu->triple, &target, &why)) {
        emit_fail(e, IG_UNSUPPORTED, "LLVM has no target %s: %s", cpu->triple, why ? why : "");
        LLVMDisposeMessage(why);
        return NULL;
    }
    LLVMTargetMachineRef tm = LLVMCreateTargetMachine(target, cpu->triple, cpu->cpu, cpu->features,
                                                      level, LLVMRelocPIC, LLVMCodeModelSmall);
    if (!tm) emit_fail(e, IG_UNSUPPORTED, "LLVM cannot generate code for %s", cpu->name);
    return tm;
}

/* Take an idle machine that fits the job, or make one; NULL after an error. */
static object_machine *object_take_machine(emit *e) {
    const char *level = e->job->cpu->name;
    pthread_mutex_lock(&object_lock);
    object_machine *m = object_machines;
    while (m && (m->busy || strcmp(m->level, level) || m->quick != e->job->quick)) m = m->next;
    if (m) m->busy = true;
    pthread_mutex_unlock(&object_lock);
    if (m) return m;
    const ig_allocator *a = ig_allocator_default(); /* it lives as long as the process */
    m = rt_alloc_zero(a, sizeof *m);
    if (!m || strlen(level) >= sizeof m->level) {
        emit_fail(e, m ? IG_INTERNAL : IG_MEMORY, "no machine for %s", level);
        rt_free(a, m, sizeof *m);
        return NULL;
    }
    strcpy(m->level, level);
    m->quick = e->job->quick;
    m->busy = true;
    m->tm = object_make_machine(e);
    if (!m->tm) {
        rt_free(a, m, sizeof *m);
        return NULL;
    }
    pthread_mutex_lock(&object_lock);
    m->next = object_machines;
    object_machines = m;
    pthread_mutex_unlock(&object_lock);
    return m;
}

static void object_give_back(object_machine *m) {
    pthread_mutex_lock(&object_lock);
    m->busy = false;
    pthread_mutex_unlock(&object_lock);
}

/* --- Code --- */

/* Generate code; LLVM's message becomes the error. */
static bool object_generate(emit *e, LLVMTargetMachineRef tm, LLVMModuleRef mod,
                            LLVMCodeGenFileType kind, LLVMMemoryBufferRef *buf_) {
    char *why = NULL;
    *buf_ = NULL;
    if (!LLVMTargetMachineEmitToMemoryBuffer(tm, mod, kind, &why, buf_)) return true;
    emit_fail(e, IG_INTERNAL, "LLVM: %s", why ? why : "no code");
    LLVMDisposeMessage(why);
    return false;
}

static void object_dump_llvm(emit *e) {
    char *text = LLVMPrintModuleToString(e->mod);
    e->host->dump("llvm", text);
    LLVMDisposeMessage(text);
}

/* From a copy: generating code changes the module. */
static void object_dump_asm(emit *e, LLVMTargetMachineRef tm) {
    LLVMModuleRef copy = LLVMCloneModule(e->mod);
    LLVMMemoryBufferRef buf;
    if (object_generate(e, tm, copy, LLVMAssemblyFile, &buf)) {
        e->host->dump("asm", LLVMGetBufferStart(buf)); /* LLVM ends its buffers with a NUL */
        LLVMDisposeMemoryBuffer(buf);
    }
    LLVMDisposeModule(copy);
}

/* Make code generation fail inside LLVM: it ends the process on an intrinsic of another machine. */
static void object_force_fatal(emit *e) {
    LLVMTypeRef type = LLVMFunctionType(e->none, NULL, 0, 0);
    e->fn = LLVMAddFunction(e->mod, "ingot.fatal", type);
    LLVMPositionBuilderAtEnd(e->b, emit_block(e, "entry"));
    LLVMValueRef slot = LLVMBuildAlloca(e->b, e->i32, "");
    if (e->job->cpu->arch == RT_ARCH_AARCH64)
        emit_intrinsic(e, "llvm.x86.sse.stmxcsr", NULL, 0, &slot, 1);
    else
        emit_intrinsic(e, "llvm.aarch64.get.fpcr", NULL, 0, NULL, 0);
    LLVMBuildRetVoid(e->b);
}

/* A module that LLVM's verifier rejects would crash its code generator. */
static bool object_check(emit *e) {
    char *why = NULL;
    bool bad = LLVMVerifyModule(e->mod, LLVMReturnStatusAction, &why);
    if (bad) emit_fail(e, IG_INTERNAL, "LLVM's verifier: %s", why ? why : "");
    LLVMDisposeMessage(why);
    return !bad;
}

bool emit_object(emit *e, LLVMMemoryBufferRef *buf_) {
    *buf_ = NULL;
    object_machine *machine = object_take_machine(e);
    if (!machine) return false;
    LLVMTargetMachineRef tm = machine->tm;
    LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(tm);
    LLVMSetModuleDataLayout(e->mod, layout);
    LLVMDisposeTargetData(layout);
    LLVMSetTarget(e->mod, e->job->cpu->triple);
    if (e->host->force_fatal) object_force_fatal(e);
    if (e->host->dump_llvm) object_dump_llvm(e);
    bool done = object_check(e);
    if (done && e->host->dump_asm) object_dump_asm(e, tm);
    done = done && !e->code && object_generate(e, tm, e->mod, LLVMObjectFile, buf_);
    if (done && e->code) { /* a diagnostic of error severity, see plugin.c */
        LLVMDisposeMemoryBuffer(*buf_);
        *buf_ = NULL;
        done = false;
    }
    object_give_back(machine);
    return done;
}
