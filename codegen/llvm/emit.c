/* emit.c - the walk over a module: functions, loops, branches.
 *
 * Ops are stored in one pre-order, so a region is met as a run of ops that ends in its `yield`:
 * the walk is a loop over op numbers with a stack of open regions, and depth costs no C stack.
 * A loop is rotated (guard, body, test at the end) and its carried values are phis; a loop
 * marked `unroll` with few constant trips is walked that many times.
 *
 * LLVM's strength reduction gives addresses in a loop pointers of their own.  In the tile of a
 * contraction that is worth a sixth of its speed; where few addresses share one index it gives
 * nothing, and takes a fifth of the time of code generation.  It does not look for what it could
 * do where the index is no arithmetic: so in such functions the step of a loop is hidden. */
#include "codegen/llvm/emit.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define EMIT_UNROLL_OPS 16384u /* ops that unrolling may add to one function */
#define EMIT_PLAIN      6u     /* accesses in a loop that needs no strength reduction */

struct emit_frame {
    emit_frame *up;
    const ir_op *op;
    uint32_t region;              /* the open one, in func.regions */
    LLVMBasicBlockRef body, exit; /* for: the loop; kif: else and join */
    LLVMValueRef index, hi;       /* for */
    LLVMValueRef *carried;        /* for: phis of the body.  kif: values of the first branch */
    LLVMBasicBlockRef from;       /* kif: end of the first branch */
    uint64_t trip, trips;         /* unrolled: the iteration, how many; trips 0 for a real loop */
};

/* --- Errors and small things --- */

bool emit_fail(emit *e, ig_code code, const char *fmt, ...) {
    if (e->code) return false;
    e->code = (int)code;
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    ir_loc_rec loc = e->op ? e->host->loc_get(e->m, e->op->loc) : (ir_loc_rec){0};
    char place[256] = "";
    if (loc.file) snprintf(place, sizeof place, "%s:%u: ", loc.file, loc.line);
    snprintf(e->message, e->message_size, "%s%s%s%s%s%s", place, e->f ? e->f->name : "",
             e->f ? ": " : "", e->op ? e->host->ops[e->op->code].name : "", e->op ? ": " : "",
             text);
    return false;
}

static void *emit_alloc(emit *e, size_t n, size_t size) {
    size_t bytes;
    void *p = rt_mul_size(n ? n : 1, size, &bytes) ? rt_arena_zero(&e->arena, bytes) : NULL;
    if (!p) emit_fail(e, IG_MEMORY, "out of memory");
    return p;
}

LLVMTypeRef emit_scalar_type(const emit *e, ig_dtype d) {
    const rt_dtype_info *info = &rt_dtype_tab[d];
    if (info->kind == 'b') return e->i1;
    if (info->kind == 'f' && info->bytes == 4) return LLVMFloatTypeInContext(e->ctx);
    if (info->kind == 'f' && info->bytes == 8) return LLVMDoubleTypeInContext(e->ctx);
    return LLVMIntTypeInContext(e->ctx, info->bytes * 8u);
}

LLVMTypeRef emit_cell_type(const emit *e, ig_dtype d) {
    return rt_dtype_tab[d].kind == 'b' ? e->i8 : emit_scalar_type(e, d);
}

LLVMTypeRef emit_type(const emit *e, const ir_type *t) {
    if (t->mem) return e->ptr;
    LLVMTypeRef s = emit_scalar_type(e, (ig_dtype)t->dtype);
    return t->lanes ? LLVMVectorType(s, t->lanes) : s;
}

LLVMValueRef emit_int(LLVMTypeRef t, uint64_t x) {
    if (LLVMGetTypeKind(t) != LLVMVectorTypeKind) return LLVMConstInt(t, x, 0);
    LLVMValueRef lane[UINT8_MAX], c = LLVMConstInt(LLVMGetElementType(t), x, 0);
    unsigned n = LLVMGetVectorSize(t);
    for (unsigned k = 0; k < n; k++) lane[k] = c;
    return LLVMConstVector(lane, n);
}

LLVMValueRef emit_i64(const emit *e, int64_t x) { return LLVMConstInt(e->i64, (uint64_t)x, 1); }

LLVMValueRef emit_intrinsic(emit *e, const char *name, LLVMTypeRef *over, unsigned nover,
                            LLVMValueRef *args, unsigned n) {
    unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
    LLVMValueRef fn = LLVMGetIntrinsicDeclaration(e->mod, id, over, nover);
    return LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, n, "");
}

void emit_attr(emit *e, LLVMValueRef fn, unsigned where, const char *name) {
    unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
    LLVMAddAttributeAtIndex(fn, where ? where : (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
                            LLVMCreateEnumAttribute(e->ctx, kind, 0));
}

void emit_str_attr(emit *e, LLVMValueRef fn, const char *name, const char *value) {
    LLVMAttributeRef a = LLVMCreateStringAttribute(e->ctx, name, (unsigned)strlen(name), value,
                                                   (unsigned)strlen(value));
    LLVMAddAttributeAtIndex(fn, (LLVMAttributeIndex)LLVMAttributeFunctionIndex, a);
}

void emit_frame_attrs(emit *e, LLVMValueRef fn) {
    unsigned kind = LLVMGetEnumAttributeKindForName("uwtable", sizeof "uwtable" - 1);
    emit_attr(e, fn, 0, "nounwind");
    LLVMAddAttributeAtIndex(fn, (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
                            LLVMCreateEnumAttribute(e->ctx, kind, 2)); /* at every instruction */
    emit_str_attr(e, fn, "frame-pointer", "all");
}

LLVMBasicBlockRef emit_block(emit *e, const char *name) {
    return LLVMAppendBasicBlockInContext(e->ctx, e->fn, name);
}

LLVMValueRef emit_slot(emit *e, LLVMTypeRef t, uint64_t bytes, unsigned align, const char *name) {
    LLVMBasicBlockRef back = LLVMGetInsertBlock(e->b);
    LLVMPositionBuilderBefore(e->b, e->entry_end);
    LLVMValueRef p = LLVMBuildAlloca(e->b, t, name);
    LLVMSetAlignment(p, align);
    LLVMPositionBuilderAtEnd(e->b, back);
    e->stack += bytes;
    return p;
}

void emit_set_invariant(emit *e, LLVMValueRef load) {
    unsigned kind = LLVMGetMDKindIDInContext(e->ctx, "invariant.load", sizeof "invariant.load" - 1);
    LLVMSetMetadata(load, kind, LLVMMetadataAsValue(e->ctx, LLVMMDNodeInContext2(e->ctx, NULL, 0)));
}

/* --- Regions --- */

static LLVMValueRef emit_value(const emit *e, ir_ref r) { return e->val[r.i]; }

/* Operands from `first` on. */
static LLVMValueRef *emit_operands(emit *e, const ir_op *op, uint32_t first) {
    uint32_t n = op->nin > first ? op->nin - first : 0;
    LLVMValueRef *x = emit_alloc(e, n, sizeof *x);
    for (uint32_t k = 0; x && k < n; k++) x[k] = emit_value(e, ir_op_in(e->f, op, first + k));
    return x;
}

static const ir_region *emit_region(const emit *e, const emit_frame *fr) {
    return &e->f->regions.data[fr->region];
}

/* Trips of a loop with constant bounds that is to be unrolled and may be; else 0. */
static uint64_t emit_unroll_trips(emit *e, const ir_op *op, const ir_attr_for *a) {
    LLVMValueRef lo = emit_value(e, ir_op_in(e->f, op, 0)),
                 hi = emit_value(e, ir_op_in(e->f, op, 1));
    if (a->kind != IR_loop_unroll || !LLVMIsAConstantInt(lo) || !LLVMIsAConstantInt(hi)) return 0;
    int64_t from = (int64_t)LLVMConstIntGetSExtValue(lo),
            to = (int64_t)LLVMConstIntGetSExtValue(hi);
    if (from >= to) return 0;
    const ir_region *r = &e->f->regions.data[op->region0];
    uint64_t trips = ((uint64_t)to - (uint64_t)from - 1) / (uint64_t)a->step + 1,
             size = r->end - r->first;
    if (trips > e->unroll / size) return 0;
    e->unroll -= trips * size;
    return trips;
}

/* Enter the next iteration of an unrolled loop. */
static void emit_unroll_next(emit *e, emit_frame *fr) {
    const ir_region *r = emit_region(e, fr);
    const ir_attr_for *a = e->host->attr_get(e->m, fr->op->attr);
    int64_t lo = (int64_t)LLVMConstIntGetSExtValue(emit_value(e, ir_op_in(e->f, fr->op, 0)));
    e->val[r->param0] = emit_i64(e, (int64_t)((uint64_t)lo + fr->trip * (uint64_t)a->step));
    for (uint32_t k = 1; k < r->nparam; k++) e->val[r->param0 + k] = fr->carried[k - 1];
}

/* Open a loop: guard, phis of the body, phis of the exit (the results). */
static void emit_loop_begin(emit *e, emit_frame *fr) {
    const ir_region *r = emit_region(e, fr);
    LLVMValueRef lo = emit_value(e, ir_op_in(e->f, fr->op, 0)), *init = fr->carried;
    fr->hi = emit_value(e, ir_op_in(e->f, fr->op, 1));
    LLVMBasicBlockRef before = LLVMGetInsertBlock(e->b);
    fr->body = emit_block(e, "loop");
    fr->exit = emit_block(e, "exit");
    LLVMValueRef some = LLVMBuildICmp(e->b, LLVMIntSLT, lo, fr->hi, "");
    bool always = LLVMIsAConstantInt(some) && LLVMConstIntGetZExtValue(some);
    if (always)
        LLVMBuildBr(e->b, fr->body);
    else
        LLVMBuildCondBr(e->b, some, fr->body, fr->exit);
    LLVMPositionBuilderAtEnd(e->b, fr->exit);
    for (uint32_t k = 0; k < fr->op->nout; k++) {
        LLVMValueRef phi = LLVMBuildPhi(e->b, LLVMTypeOf(init[k]), "");
        if (!always) LLVMAddIncoming(phi, &init[k], &before, 1);
        e->val[fr->op->out0 + k] = phi;
    }
    LLVMPositionBuilderAtEnd(e->b, fr->body);
    e->val[r->param0] = fr->index = LLVMBuildPhi(e->b, e->i64, "");
    LLVMAddIncoming(fr->index, &lo, &before, 1);
    for (uint32_t k = 1; k < r->nparam; k++) {
        LLVMValueRef phi = LLVMBuildPhi(e->b, LLVMTypeOf(init[k - 1]), "");
        LLVMAddIncoming(phi, &init[k - 1], &before, 1);
        e->val[r->param0 + k] = fr->carried[k - 1] = phi;
    }
}

/* Whether the innermost loops of the function have few accesses each. */
static bool emit_is_plain(const ir_func *f) {
    for (uint32_t i = 1; i < f->regions.n; i++) {
        const ir_region *r = &f->regions.data[i];
        uint32_t accesses = 0, loops = 0;
        for (uint32_t o = r->first; o < r->end; o++) {
            uint16_t code = f->ops.data[o].code;
            accesses += code == OP_load || code == OP_store;
            loops += code == OP_for;
        }
        if (!loops && accesses > EMIT_PLAIN) return false;
    }
    return true;
}

/* What x is, in a way that hides how it came about. */
static LLVMValueRef emit_hide(emit *e, LLVMValueRef x) {
    LLVMTypeRef t = LLVMTypeOf(x);
    return emit_intrinsic(e, "llvm.expect", &t, 1, (LLVMValueRef[]){x, LLVMConstNull(t)}, 2);
}

/* Close it. */
static void emit_loop_end(emit *e, emit_frame *fr, LLVMValueRef *next) {
    const ir_attr_for *a = e->host->attr_get(e->m, fr->op->attr);
    LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b);
    LLVMValueRef step = LLVMBuildAdd(e->b, fr->index, emit_i64(e, a->step), "");
    if (e->plain) step = emit_hide(e, step);
    LLVMValueRef more = LLVMBuildICmp(e->b, LLVMIntSLT, step, fr->hi, "");
    LLVMBuildCondBr(e->b, more, fr->body, fr->exit);
    LLVMAddIncoming(fr->index, &step, &here, 1);
    for (uint32_t k = 0; k < fr->op->nout; k++) {
        LLVMAddIncoming(fr->carried[k], &next[k], &here, 1);
        LLVMAddIncoming(e->val[fr->op->out0 + k], &next[k], &here, 1);
    }
    LLVMMoveBasicBlockAfter(fr->exit, here);
    LLVMPositionBuilderAtEnd(e->b, fr->exit);
}

/* Open a `while`: the carried values are phis of the block that the condition begins. */
static uint32_t emit_while_begin(emit *e, emit_frame *fr) {
    const ir_region *cond = &e->f->regions.data[fr->op->region0], *body = cond + 1;
    LLVMBasicBlockRef before = LLVMGetInsertBlock(e->b);
    fr->carried = emit_operands(e, fr->op, 0);
    if (!fr->carried) return 0;
    fr->body = emit_block(e, "while");
    LLVMBuildBr(e->b, fr->body);
    LLVMPositionBuilderAtEnd(e->b, fr->body);
    for (uint32_t k = 0; k < fr->op->nin; k++) {
        LLVMValueRef phi = LLVMBuildPhi(e->b, LLVMTypeOf(fr->carried[k]), "");
        LLVMAddIncoming(phi, &fr->carried[k], &before, 1);
        e->val[cond->param0 + k] = e->val[body->param0 + k] = fr->carried[k] = phi;
    }
    return cond->first;
}

/* A region of a `while` ends; gives the number of the op to go on with. */
static uint32_t emit_while_end(emit *e, emit_frame *fr, LLVMValueRef *yield) {
    LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b);
    if (fr->region == fr->op->region0) {
        LLVMBasicBlockRef go = emit_block(e, "do");
        fr->exit = emit_block(e, "done");
        LLVMBuildCondBr(e->b, yield[0], go, fr->exit);
        LLVMPositionBuilderAtEnd(e->b, go);
        for (uint32_t k = 0; k < fr->op->nout; k++) e->val[fr->op->out0 + k] = fr->carried[k];
        return e->f->regions.data[++fr->region].first;
    }
    LLVMBuildBr(e->b, fr->body);
    for (uint32_t k = 0; k < fr->op->nin; k++) LLVMAddIncoming(fr->carried[k], &yield[k], &here, 1);
    LLVMMoveBasicBlockAfter(fr->exit, here);
    LLVMPositionBuilderAtEnd(e->b, fr->exit);
    e->frame = fr->up;
    return emit_region(e, fr)->end;
}

/* Open a `for`, `kif` or `while`; gives the number of the op to go on with. */
static uint32_t emit_region_begin(emit *e, uint32_t o) {
    emit_frame *fr = emit_alloc(e, 1, sizeof *fr);
    if (!fr) return o;
    const ir_op *op = &e->f->ops.data[o];
    *fr = (emit_frame){.up = e->frame, .op = op, .region = op->region0};
    e->frame = fr;
    if (op->code == OP_kif) {
        LLVMBasicBlockRef yes = emit_block(e, "then");
        fr->body = emit_block(e, "else");
        fr->exit = emit_block(e, "join");
        LLVMBuildCondBr(e->b, emit_value(e, ir_op_in(e->f, op, 0)), yes, fr->body);
        LLVMPositionBuilderAtEnd(e->b, yes);
        return emit_region(e, fr)->first;
    }
    if (op->code == OP_while) return emit_while_begin(e, fr);
    fr->carried = emit_operands(e, op, 2);
    if (!fr->carried) return o;
    fr->trips = emit_unroll_trips(e, op, e->host->attr_get(e->m, op->attr));
    if (fr->trips)
        emit_unroll_next(e, fr);
    else
        emit_loop_begin(e, fr);
    return emit_region(e, fr)->first;
}

/* Join the branches of a `kif`; gives the number of the op to go on with. */
static uint32_t emit_branch_end(emit *e, emit_frame *fr, LLVMValueRef *yield) {
    LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b);
    LLVMBuildBr(e->b, fr->exit);
    if (fr->region == fr->op->region0) { /* the first branch */
        fr->from = here;
        fr->carried = yield;
        LLVMMoveBasicBlockAfter(fr->body, here);
        LLVMPositionBuilderAtEnd(e->b, fr->body);
        return e->f->regions.data[++fr->region].first;
    }
    LLVMMoveBasicBlockAfter(fr->exit, here);
    LLVMPositionBuilderAtEnd(e->b, fr->exit);
    for (uint32_t k = 0; k < fr->op->nout; k++) {
        LLVMValueRef phi = LLVMBuildPhi(e->b, LLVMTypeOf(yield[k]), "");
        LLVMAddIncoming(phi, &fr->carried[k], &fr->from, 1);
        LLVMAddIncoming(phi, &yield[k], &here, 1);
        e->val[fr->op->out0 + k] = phi;
    }
    e->frame = fr->up;
    return emit_region(e, fr)->end;
}

/* A region ends; gives the number of the op to go on with. */
static uint32_t emit_region_end(emit *e, const ir_op *op) {
    emit_frame *fr = e->frame;
    LLVMValueRef *yield = emit_operands(e, op, 0);
    if (!yield) return 0;
    if (fr->op->code == OP_kif) return emit_branch_end(e, fr, yield);
    if (fr->op->code == OP_while) return emit_while_end(e, fr, yield);
    if (fr->trips) {
        fr->carried = yield;
        if (++fr->trip < fr->trips) {
            emit_unroll_next(e, fr);
            return emit_region(e, fr)->first;
        }
        for (uint32_t k = 0; k < fr->op->nout; k++) e->val[fr->op->out0 + k] = yield[k];
    } else {
        emit_loop_end(e, fr, yield);
    }
    e->frame = fr->up;
    return emit_region(e, fr)->end;
}

/* --- Functions --- */

/* Whether an op belongs to emit_host.c. */
static bool emit_is_host_op(const ir_op *op) {
    return op->code == OP_ksym || op->code == OP_kin || op->code == OP_kout || op->code == OP_kws ||
           op->code == OP_kweight || op->code == OP_launch || op->code == OP_invoke;
}

/* Emit an op without regions. */
static void emit_op(emit *e, const ir_op *op) {
    LLVMValueRef x[IR_MAX_RESULTS], y;
    LLVMValueRef *in = op->nin > IR_MAX_RESULTS ? emit_operands(e, op, 0) : x;
    if (!in) return;
    for (uint32_t k = 0; k < op->nin; k++) in[k] = emit_value(e, ir_op_in(e->f, op, k));
    if (e->host->ops[op->code].elementwise)
        y = emit_elementwise(e, op, in);
    else if (emit_is_host_op(op))
        y = emit_host_op(e, op, in);
    else
        y = emit_memory(e, op, in);
    if (op->nout) e->val[op->out0] = y;
    if (op->nout && !y) emit_fail(e, IG_INTERNAL, "no machine form");
}

/* Walk the body. */
static void emit_body(emit *e, emit_env *env) {
    const ir_func *f = e->f;
    for (uint32_t o = f->regions.data[0].first; o < f->ops.n && !e->code;) {
        const ir_op *op = e->op = &f->ops.data[o];
        if (op->nregion)
            o = emit_region_begin(e, o);
        else if (op->code == OP_yield)
            o = emit_region_end(e, op);
        else if (op->code == OP_return) {
            LLVMValueRef *x = emit_operands(e, op, 0);
            if (!x) return;
            if (f->kind == IR_HOST)
                emit_host_return(e, x);
            else {
                if (e->streams) emit_fence(e);
                if (env) emit_env_leave(e, *env);
                LLVMBuildRetVoid(e->b);
            }
            return;
        } else {
            if (e->live[o]) emit_op(e, op);
            o++;
        }
    }
}

/* The buffers of a kernel, loaded in its entry block; lo and hi. */
static void emit_kernel_params(emit *e) {
    uint32_t n = ir_nparam(e->f);
    for (uint32_t k = 0; k + 2 < n; k++) {
        LLVMValueRef at = emit_i64(e, k), bufs = LLVMGetParam(e->fn, 0);
        LLVMValueRef p =
            LLVMBuildLoad2(e->b, e->ptr, LLVMBuildInBoundsGEP2(e->b, e->ptr, bufs, &at, 1, ""), "");
        emit_set_invariant(e, p);
        e->val[ir_param_ref(e->f, k).i] = p;
    }
    e->val[ir_param_ref(e->f, n - 2).i] = LLVMGetParam(e->fn, 2);
    e->val[ir_param_ref(e->f, n - 1).i] = LLVMGetParam(e->fn, 3);
}

static bool emit_needs_env(const emit *e) {
    for (uint32_t o = 0; o < e->f->ops.n; o++)
        if (e->live[o] && emit_needs_fpenv(e->host, e->f, &e->f->ops.data[o])) return true;
    return false;
}

/* Mark the ops whose results count: those that write memory or leave a region, and what they read.
 * A value is used behind its definition, or yielded by an op that is kept anyway, so one walk from
 * the end finds them all.  Lowering leaves what it did not know to be needless (the value behind a
 * rounded store, say), and LLVM would carry it through instruction selection. */
static bool emit_fill_live(emit *e) {
    const ir_func *f = e->f;
    bool *used = emit_alloc(e, f->values.n, sizeof *used);
    e->live = emit_alloc(e, f->ops.n, sizeof *e->live);
    if (!used || !e->live) return false;
    for (uint32_t o = f->ops.n; o-- > 0;) {
        const ir_op *op = &f->ops.data[o];
        bool live = !op->nout || op->nregion || op->code == OP_invoke;
        for (uint32_t k = 0; k < op->nout; k++) live |= used[ir_op_out(op, k).i];
        e->live[o] = live;
        for (uint32_t k = 0; live && k < op->nin; k++) used[ir_op_in(f, op, k).i] = true;
    }
    return true;
}

/* Emit one kernel or host function into its declaration. */
static void emit_func(emit *e, const ir_func *f, LLVMValueRef fn) {
    e->f = f;
    e->fn = fn;
    e->op = NULL;
    e->frame = NULL;
    e->bufs = NULL;
    e->streams = false;
    e->stack = 0;
    e->unroll = EMIT_UNROLL_OPS;
    e->plain = emit_is_plain(f);
    e->val = emit_alloc(e, f->values.n, sizeof *e->val);
    if (!e->val || !emit_fill_live(e)) return;
    LLVMBasicBlockRef entry = emit_block(e, "entry"), start = emit_block(e, "start");
    LLVMPositionBuilderAtEnd(e->b, entry);
    if (f->kind == IR_KERNEL) emit_kernel_params(e);
    e->entry_end = LLVMBuildBr(e->b, start);
    LLVMPositionBuilderAtEnd(e->b, start);
    if (f->kind == IR_KERNEL && emit_needs_env(e)) {
        emit_env env = emit_env_enter(e);
        emit_body(e, &env);
    } else {
        emit_body(e, NULL);
    }
    e->f = NULL;
    e->op = NULL;
}

/* Declare a kernel: void(bufs, dims, lo, hi). */
LLVMValueRef emit_declare_kernel(emit *e, const ir_func *f) {
    uint32_t n = ir_nparam(f);
    bool fits = n >= 2;
    for (uint32_t k = 0; fits && k < n; k++) {
        const ir_type *t = ir_val_type(f, ir_param_ref(f, k));
        fits = k + 2 < n ? t->mem : t->dtype == IG_i64 && !t->mem && !t->lanes && !t->rank;
    }
    if (!fits) {
        emit_fail(e, IG_INTERNAL, "kernel @%s does not take buffers, then lo and hi", f->name);
        return NULL;
    }
    LLVMTypeRef param[4] = {e->ptr, e->ptr, e->i64, e->i64};
    LLVMValueRef fn = LLVMAddFunction(e->mod, f->name, LLVMFunctionType(e->none, param, 4, 0));
    if (e->job->export_kernels)
        LLVMSetVisibility(fn, LLVMHiddenVisibility);
    else
        LLVMSetLinkage(fn, LLVMInternalLinkage);
    for (unsigned k = 1; k <= 2; k++) {
        emit_attr(e, fn, k, "noalias");
        emit_attr(e, fn, k, "readonly");
    }
    return fn;
}

bool emit_module(emit *e) {
    const ir_module *m = e->m;
    uint32_t last = e->job->last ? e->job->last : m->funcs.n;
    e->fns = emit_alloc(e, m->funcs.n, sizeof *e->fns);
    e->weights = emit_alloc(e, m->weights.n, sizeof *e->weights);
    for (int hosts = 1; hosts >= 0;
         hosts--) /* exported names first: LLVM renames what clashes later */
        for (uint32_t k = e->job->first; k < last && !e->code; k++) {
            const ir_func *f = m->funcs.data[k];
            if (f->kind != (hosts ? IR_HOST : IR_KERNEL)) continue;
            LLVMValueRef fn = e->fns[k] = hosts ? emit_host_declare(e, f)
                                                : emit_declare_kernel(e, f);
            if (!fn) return false;
            emit_frame_attrs(e, fn);
        }
    for (uint32_t k = e->job->first; k < last && !e->code; k++)
        if (e->fns[k]) emit_func(e, m->funcs.data[k], e->fns[k]);
    return !e->code;
}

void emit_init(emit *e, const cg_llvm_host *host, const cg_llvm_job *job, char *message,
               size_t size) {
    *e = (emit){
        .host = host, .job = job, .m = job->module, .message = message, .message_size = size};
    rt_arena_init(&e->arena, job->alloc);
    e->ctx = LLVMContextCreate();
    e->mod =
        LLVMModuleCreateWithNameInContext(job->module->name ? job->module->name : "ingot", e->ctx);
    e->b = LLVMCreateBuilderInContext(e->ctx);
    e->i1 = LLVMInt1TypeInContext(e->ctx);
    e->i8 = LLVMInt8TypeInContext(e->ctx);
    e->i32 = LLVMInt32TypeInContext(e->ctx);
    e->i64 = LLVMInt64TypeInContext(e->ctx);
    e->ptr = LLVMPointerTypeInContext(e->ctx, 0);
    e->none = LLVMVoidTypeInContext(e->ctx);
}

void emit_free(emit *e) {
    LLVMDisposeBuilder(e->b);
    LLVMDisposeModule(e->mod);
    LLVMContextDispose(e->ctx);
    rt_arena_free(&e->arena);
}
