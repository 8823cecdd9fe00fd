/* emit_env.c - the floating-point environment of a kernel (numerics rule 14).
 *
 * Rounding to nearest, denormals kept, nothing trapped: the default, and what nearly every caller
 * has.  A kernel reads the control register, and only when it differs sets it and restores it at
 * the end.  Blocks of their own hold the writes: instruction selection orders floating-point
 * operations freely within a block, not across.
 *
 *   MXCSR bits   0-5 sticky exception flags (ignored)   6 DAZ   7-12 masks (all set)   13-14
 * rounding   15 FTZ   FPCR         0 is the default */
#include "codegen/llvm/emit.h"

#define MXCSR_DEFAULT 0x1f80u
#define MXCSR_CONTROL 0xffc0u

static bool env_is_arm(const emit *e) { return e->job->cpu->arch == RT_ARCH_AARCH64; }

/* Read the register; on x86 through a slot. */
static LLVMValueRef env_read(emit *e, LLVMValueRef slot) {
    if (env_is_arm(e)) return emit_intrinsic(e, "llvm.aarch64.get.fpcr", NULL, 0, NULL, 0);
    emit_intrinsic(e, "llvm.x86.sse.stmxcsr", NULL, 0, &slot, 1);
    return LLVMBuildLoad2(e->b, e->i32, slot, "");
}

static void env_write(emit *e, LLVMValueRef slot, LLVMValueRef value) {
    if (env_is_arm(e)) {
        emit_intrinsic(e, "llvm.aarch64.set.fpcr", NULL, 0, &value, 1);
        return;
    }
    LLVMBuildStore(e->b, value, slot);
    emit_intrinsic(e, "llvm.x86.sse.ldmxcsr", NULL, 0, &slot, 1);
}

emit_env emit_env_enter(emit *e) {
    bool arm = env_is_arm(e);
    emit_env env = {.slot = arm ? NULL : emit_slot(e, e->i32, 4, 4, "mxcsr")};
    env.saved = env_read(e, env.slot);
    LLVMValueRef control =
        arm ? env.saved : LLVMBuildAnd(e->b, env.saved, LLVMConstInt(e->i32, MXCSR_CONTROL, 0), "");
    LLVMValueRef standard = LLVMConstInt(arm ? e->i64 : e->i32, arm ? 0 : MXCSR_DEFAULT, 0);
    env.changed = LLVMBuildICmp(e->b, LLVMIntNE, control, standard, "");
    LLVMBasicBlockRef set = emit_block(e, "fpenv.set"), body = emit_block(e, "body");
    LLVMBuildCondBr(e->b, env.changed, set, body);
    LLVMPositionBuilderAtEnd(e->b, set);
    env_write(e, env.slot, standard);
    LLVMBuildBr(e->b, body);
    LLVMPositionBuilderAtEnd(e->b, body);
    return env;
}

void emit_env_leave(emit *e, emit_env env) {
    LLVMBasicBlockRef restore = emit_block(e, "fpenv.restore"), done = emit_block(e, "done");
    LLVMBuildCondBr(e->b, env.changed, restore, done);
    LLVMPositionBuilderAtEnd(e->b, restore);
    env_write(e, env.slot, env.saved);
    LLVMBuildBr(e->b, done);
    LLVMPositionBuilderAtEnd(e->b, done);
}
