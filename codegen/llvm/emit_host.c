/* emit_host.c - what host functions add: the module's ports, and launches.
 *
 * In an image a host function is rt_host_fn or rt_workspace_fn (runtime/kernel_abi.h) and finds
 * weights through a table; only the program's own constants are in the image.  In a deployment
 * object it is itself the exported entry point, without that last argument, and all weights are
 * constants of the object. */
#include "codegen/invoke.h"
#include "codegen/llvm/emit.h"
#include <stdio.h>
#include <string.h>

#define HOST_MAX_WEIGHTS (UINT64_C(1) << 30) /* bytes in one object: its code reaches 2 GiB */

/* Parameters of rt_host_fn, and of rt_workspace_fn. */
enum { HOST_IN, HOST_OUT, HOST_DIMS, HOST_WS, HOST_EXEC, HOST_WEIGHTS, HOST_END };
enum { WORKSPACE_DIMS, WORKSPACE_BYTES, WORKSPACE_END };

/* Which host function it is, by its results: (i32) the program, (i64, i32) its workspace. */
static bool host_is_workspace(const ir_func *f) { return f->results.n == 2; }

LLVMValueRef emit_host_declare(emit *e, const ir_func *f) {
    LLVMTypeRef param[HOST_END];
    for (int k = 0; k < HOST_END; k++) param[k] = e->ptr;
    const char *prefix = e->job->prefix;
    bool workspace = host_is_workspace(f);
    unsigned n = workspace ? WORKSPACE_END : prefix ? HOST_WEIGHTS : HOST_END;
    LLVMTypeRef type = LLVMFunctionType(e->i32, param, n, 0);
    const char *name = f->name;
    if (prefix) {
        size_t size = strlen(prefix) + sizeof "_workspace";
        char *text = rt_arena_alloc(&e->arena, size);
        if (!text) {
            emit_fail(e, IG_MEMORY, "out of memory");
            return NULL;
        }
        snprintf(text, size, "%s%s", prefix, workspace ? "_workspace" : "_run");
        name = text;
        if (LLVMGetNamedFunction(e->mod, name)) {
            emit_fail(e, IG_INTERNAL, "two host functions want the name `%s`", name);
            return NULL;
        }
    }
    LLVMValueRef fn = LLVMAddFunction(e->mod, name, type);
    if (!prefix) LLVMSetVisibility(fn, LLVMHiddenVisibility);
    return fn;
}

/* The dims of the function being emitted. */
LLVMValueRef emit_dims(const emit *e) {
    if (e->f->kind == IR_KERNEL) return LLVMGetParam(e->fn, 1);
    return LLVMGetParam(e->fn, host_is_workspace(e->f) ? WORKSPACE_DIMS : HOST_DIMS);
}

void emit_host_return(emit *e, const LLVMValueRef *x) {
    if (host_is_workspace(e->f)) {
        LLVMBuildStore(e->b, x[0], LLVMGetParam(e->fn, WORKSPACE_BYTES));
        LLVMBuildRet(e->b, x[1]);
    } else {
        LLVMBuildRet(e->b, x[0]);
    }
}

/* --- Ports --- */

/* Entry `index` of a table of pointers or sizes that does not change during the call. */
static LLVMValueRef host_entry(emit *e, LLVMTypeRef t, LLVMValueRef table, int64_t index) {
    LLVMValueRef at = emit_i64(e, index);
    LLVMValueRef x = LLVMBuildLoad2(e->b, t, LLVMBuildInBoundsGEP2(e->b, t, table, &at, 1, ""), "");
    emit_set_invariant(e, x);
    return x;
}

/* An argument of the host program; workspace functions and kernels have none. */
static LLVMValueRef host_param(emit *e, unsigned k) {
    if (e->f->kind == IR_HOST && !host_is_workspace(e->f)) return LLVMGetParam(e->fn, k);
    emit_fail(e, IG_INTERNAL, "only the host program has buffers to name");
    return NULL;
}

static LLVMValueRef host_port(emit *e, const ir_op *op, unsigned param) {
    const ir_attr_port *a = e->host->attr_get(e->m, op->attr);
    LLVMValueRef table = host_param(e, param);
    return table ? host_entry(e, e->ptr, table, a->index) : NULL;
}

static LLVMValueRef host_workspace(emit *e, LLVMValueRef offset) {
    LLVMValueRef ws = host_param(e, HOST_WS);
    return ws ? LLVMBuildGEP2(e->b, e->i8, ws, &offset, 1, "") : NULL;
}

/* --- Weights --- */

/* A constant of the object, 64-aligned. */
static LLVMValueRef host_weight_constant(emit *e, const ir_weight *w) {
    static const char nothing[1] = "";
    if (w->bytes > HOST_MAX_WEIGHTS) {
        emit_fail(e, IG_UNSUPPORTED, "weight @%s has %llu bytes; an object holds up to %llu",
                  w->name, (unsigned long long)w->bytes, (unsigned long long)HOST_MAX_WEIGHTS);
        return NULL;
    }
    const char *data = w->bytes ? w->data : nothing;
    size_t n = w->bytes ? (size_t)w->bytes : sizeof nothing;
    LLVMValueRef init = LLVMConstStringInContext2(e->ctx, data, n, 1);
    LLVMValueRef g = LLVMAddGlobal(e->mod, LLVMTypeOf(init), w->name);
    LLVMSetInitializer(g, init);
    LLVMSetGlobalConstant(g, 1);
    LLVMSetLinkage(g, LLVMInternalLinkage);
    LLVMSetAlignment(g, RT_ALIGN_BUFFER);
    return g;
}

static LLVMValueRef host_weight(emit *e, const ir_op *op) {
    const ir_attr_wport *a = e->host->attr_get(e->m, op->attr);
    const ir_weight *w = e->host->find_weight(e->m, a->name);
    if (!w) {
        emit_fail(e, IG_INTERNAL, "there is no weight @%s", a->name);
        return NULL;
    }
    size_t k = (size_t)(w - e->m->weights.data);
    if (e->job->prefix || cg_weight_is_const(w->name)) {
        if (!e->weights[k]) e->weights[k] = host_weight_constant(e, w);
        return e->weights[k];
    }
    LLVMValueRef table = host_param(e, HOST_WEIGHTS);
    return table ? host_entry(e, e->ptr, table, (int64_t)k) : NULL;
}

/* --- Launches --- */

/* What ig_exec.run takes: exec, kernel, bufs, dims, n, picoseconds.  As many as registers hold. */
enum { LAUNCH_ARGS = 6 };

/* The helper behind every launch: nothing for an empty range, a plain call without executor,
 * else exec->run. */
static void host_make_launch(emit *e) {
    LLVMTypeRef param[LAUNCH_ARGS] = {e->ptr, e->ptr, e->ptr, e->ptr, e->i64, e->i64};
    LLVMTypeRef type = LLVMFunctionType(e->none, param, LAUNCH_ARGS, 0);
    LLVMTypeRef kernel_param[4] = {e->ptr, e->ptr, e->i64, e->i64};
    LLVMTypeRef kernel_type = LLVMFunctionType(e->none, kernel_param, 4, 0);
    LLVMBasicBlockRef back = LLVMGetInsertBlock(e->b);
    LLVMValueRef outer = e->fn, fn = LLVMAddFunction(e->mod, "ingot_launch", type);
    LLVMValueRef p[LAUNCH_ARGS];
    e->launch = e->fn = fn;
    LLVMSetLinkage(fn, LLVMInternalLinkage);
    emit_frame_attrs(e, fn);
    LLVMGetParams(fn, p);
    LLVMBasicBlockRef some = emit_block(e, "check"), test = emit_block(e, "some"),
                      here = emit_block(e, "serial"), there = emit_block(e, "executor"),
                      done = emit_block(e, "done");
    LLVMPositionBuilderAtEnd(e->b, some);
    LLVMBuildCondBr(e->b, LLVMBuildICmp(e->b, LLVMIntSGT, p[4], LLVMConstNull(e->i64), ""), test,
                    done);
    LLVMPositionBuilderAtEnd(e->b, test);
    LLVMBuildCondBr(e->b, LLVMBuildICmp(e->b, LLVMIntEQ, p[0], LLVMConstNull(e->ptr), ""), here,
                    there);
    LLVMPositionBuilderAtEnd(e->b, here);
    LLVMValueRef serial[4] = {p[2], p[3], LLVMConstNull(e->i64), p[4]};
    LLVMBuildCall2(e->b, kernel_type, p[1], serial, 4, "");
    LLVMBuildBr(e->b, done);
    LLVMPositionBuilderAtEnd(e->b, there);
    LLVMValueRef run = LLVMBuildLoad2(e->b, e->ptr, p[0], ""); /* ig_exec.run is its first member */
    LLVMBuildCall2(e->b, type, run, p, LAUNCH_ARGS, "");
    LLVMBuildBr(e->b, done);
    LLVMPositionBuilderAtEnd(e->b, done);
    LLVMBuildRetVoid(e->b);
    e->fn = outer;
    LLVMPositionBuilderAtEnd(e->b, back);
}

/* Room for the buffers of the largest launch of this function, made once. */
static LLVMValueRef host_buffers(emit *e) {
    if (e->bufs) return e->bufs;
    unsigned most = 1;
    for (uint32_t o = 0; o < e->f->ops.n; o++)
        if (e->f->ops.data[o].code == OP_launch && e->f->ops.data[o].nin > most)
            most = e->f->ops.data[o].nin;
    e->bufs = emit_slot(e, LLVMArrayType2(e->ptr, most), most * sizeof(void *), 16, "bufs");
    return e->bufs;
}

/* The kernel of that name, which may be in another object; or NULL. */
static LLVMValueRef host_kernel(emit *e, const char *name) {
    for (uint32_t k = 0; k < e->m->funcs.n && name; k++) {
        const ir_func *f = e->m->funcs.data[k];
        if (f->kind != IR_KERNEL || strcmp(f->name, name)) continue;
        if (!e->fns[k]) e->fns[k] = emit_declare_kernel(e, f);
        return e->fns[k];
    }
    return NULL;
}

static bool host_is_zero(LLVMValueRef x) {
    return LLVMIsAConstantInt(x) && !LLVMConstIntGetZExtValue(x);
}

/* Call a kernel for all of [0, n).  It is not inlined: its loads of buffer addresses are marked as
 * invariant, and the next launch has others in the same place. */
static void host_call(emit *e, LLVMValueRef kernel, LLVMValueRef bufs, LLVMValueRef n) {
    LLVMValueRef args[4] = {bufs, emit_dims(e), LLVMConstNull(e->i64), n};
    LLVMValueRef call = LLVMBuildCall2(e->b, LLVMGlobalGetValueType(kernel), kernel, args, 4, "");
    unsigned kind = LLVMGetEnumAttributeKindForName("noinline", sizeof "noinline" - 1);
    LLVMAddCallSiteAttribute(call, (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
                             LLVMCreateEnumAttribute(e->ctx, kind, 0));
}

static void host_launch(emit *e, const ir_op *op, const LLVMValueRef *x) {
    const ir_attr_call *a = e->host->attr_get(e->m, op->attr);
    LLVMValueRef kernel = host_kernel(e, a->callee), exec = host_param(e, HOST_EXEC);
    if (!kernel) emit_fail(e, IG_INTERNAL, "there is no kernel @%s", a->callee ? a->callee : "");
    if (!kernel || !exec) return;
    LLVMValueRef bufs = host_buffers(e);
    for (unsigned k = 0; k + 2 < op->nin; k++) {
        LLVMValueRef at = emit_i64(e, k);
        LLVMBuildStore(e->b, x[k], LLVMBuildInBoundsGEP2(e->b, e->ptr, bufs, &at, 1, ""));
    }
    if (host_is_zero(x[op->nin - 1]) && !host_is_zero(x[op->nin - 2])) {
        host_call(e, kernel, bufs, x[op->nin - 2]);
        return;
    }
    if (!e->launch) host_make_launch(e);
    LLVMValueRef args[LAUNCH_ARGS] = {exec,         kernel,         bufs,
                                      emit_dims(e), x[op->nin - 2], x[op->nin - 1]};
    LLVMBuildCall2(e->b, LLVMGlobalGetValueType(e->launch), e->launch, args, LAUNCH_ARGS, "");
}

/* --- C functions --- */

/* Store at a byte offset. */
static void host_put(emit *e, LLVMValueRef base, int64_t offset, LLVMValueRef x) {
    LLVMValueRef at = emit_i64(e, offset);
    LLVMBuildStore(e->b, x, LLVMBuildInBoundsGEP2(e->b, e->i8, base, &at, 1, ""));
}

/* The NUL-terminated text of a call. */
static LLVMValueRef host_text(emit *e, const char *text) {
    if (!text) return LLVMConstNull(e->ptr);
    LLVMValueRef init = LLVMConstStringInContext2(e->ctx, text, strlen(text), 0);
    LLVMValueRef g = LLVMAddGlobal(e->mod, LLVMTypeOf(init), "text");
    LLVMSetInitializer(g, init);
    LLVMSetGlobalConstant(g, 1);
    LLVMSetLinkage(g, LLVMInternalLinkage);
    return g;
}

/* The function and what belongs to it: in an object the symbol, in an image the ig_custom of the
 * import, which begins with both. */
static LLVMValueRef host_function(emit *e, const ir_attr_invoke *a, LLVMTypeRef type,
                                  LLVMValueRef *user_) {
    *user_ = LLVMConstNull(e->ptr);
    if (e->job->prefix) {
        LLVMValueRef fn = LLVMGetNamedFunction(e->mod, a->name);
        if (!fn) return LLVMAddFunction(e->mod, a->name, type);
        if (LLVMGlobalGetValueType(fn) == type && LLVMIsDeclaration(fn)) return fn;
        emit_fail(e, IG_INVALID, "`%s` is the name of a C function and of one of the program",
                  a->name);
        return NULL;
    }
    LLVMValueRef table = host_param(e, HOST_WEIGHTS);
    if (!table) return NULL;
    LLVMValueRef import = host_entry(e, e->ptr, table, -1 - a->index);
    *user_ = host_entry(e, e->ptr, import, 1);
    return host_entry(e, e->ptr, import, 0);
}

/* x: the cells of the arrays, then the memory of each; what the function returns. */
static LLVMValueRef host_invoke(emit *e, const ir_op *op, const LLVMValueRef *x) {
    enum {
        ARGS_TEXT = 8,
        ARGS_NIN = 16,
        ARGS_NOUT = 20,
        ARGS_IN = 24,
        ARGS_OUT = 32,
        ARGS_END = 40
    };
    _Static_assert(
        offsetof(ig_custom_args, text) == ARGS_TEXT && offsetof(ig_custom_args, nin) == ARGS_NIN &&
            offsetof(ig_custom_args, nout) == ARGS_NOUT &&
            offsetof(ig_custom_args, in) == ARGS_IN && offsetof(ig_custom_args, out) == ARGS_OUT,
        "as it is declared in base.h");
    const ir_attr_invoke *a = e->host->attr_get(e->m, op->attr);
    LLVMTypeRef type = LLVMFunctionType(e->i32, &e->ptr, 1, 0);
    LLVMValueRef user, fn;
    int64_t n = op->nin - 1, nin = n - a->nout, out = nin * CG_ARRAY_BYTES;
    if (e->job->prefix && !strcmp(a->name, RT_ASSERT_REPORT)) return LLVMConstNull(e->i32);
    if (!(fn = host_function(e, a, type, &user))) return NULL;
    LLVMValueRef args = emit_slot(e, LLVMArrayType2(e->i8, ARGS_END), ARGS_END, 16, "args");
    for (int64_t k = 0; k < n; k++) host_put(e, x[0], k * CG_ARRAY_BYTES, x[1 + k]);
    host_put(e, args, 0, user);
    host_put(e, args, ARGS_TEXT, host_text(e, a->text));
    host_put(e, args, ARGS_NIN, LLVMConstInt(e->i32, (uint64_t)nin, 0));
    host_put(e, args, ARGS_NOUT, LLVMConstInt(e->i32, (uint64_t)a->nout, 0));
    host_put(e, args, ARGS_IN, x[0]);
    LLVMValueRef at = emit_i64(e, out);
    host_put(e, args, ARGS_OUT, LLVMBuildGEP2(e->b, e->i8, x[0], &at, 1, ""));
    return LLVMBuildCall2(e->b, type, fn, &args, 1, "");
}

LLVMValueRef emit_host_op(emit *e, const ir_op *op, const LLVMValueRef *x) {
    switch (op->code) {
    case OP_ksym: {
        const ir_attr_index *a = e->host->attr_get(e->m, op->attr);
        return host_entry(e, e->i64, emit_dims(e), a->index);
    }
    case OP_kin: return host_port(e, op, HOST_IN);
    case OP_kout: return host_port(e, op, HOST_OUT);
    case OP_kws: return host_workspace(e, x[0]);
    case OP_kweight: return host_weight(e, op);
    case OP_invoke: return host_invoke(e, op, x);
    default: host_launch(e, op, x); return NULL;
    }
}
