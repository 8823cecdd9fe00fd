/* emit_mem.c - constants, memory and vectors.  An access is aligned to its element only: buffers
 * come from users. */
#include "codegen/llvm/emit.h"
#include <string.h>

#define MEM_MAX_STACK \
    (UINT64_C(1) << 18) /* bytes of scratch in one function: pool threads have small stacks */

static ig_dtype mem_dtype(const emit *e, ir_ref r) { return (ig_dtype)ir_val_type(e->f, r)->dtype; }
static bool mem_is_bool(ig_dtype d) { return rt_dtype_tab[d].kind == 'b'; }

/* --- Constants --- */

/* One element as an integer. */
static uint64_t mem_read(const uint8_t *p, size_t n) {
    uint64_t x = 0;
    for (size_t i = 0; i < n; i++) x |= (uint64_t)p[i] << (8 * i);
    return x;
}

LLVMValueRef emit_const(emit *e, const ir_type *t, const void *bytes) {
    LLVMValueRef lane[UINT8_MAX];
    ig_dtype d = (ig_dtype)t->dtype;
    size_t size = rt_dtype_bytes(d);
    LLVMTypeRef type = emit_scalar_type(e, d),
                bits = LLVMIntTypeInContext(e->ctx, (unsigned)size * 8);
    unsigned n = t->lanes ? t->lanes : 1;
    for (unsigned k = 0; k < n; k++) {
        uint64_t x = mem_read((const uint8_t *)bytes + k * size, size);
        LLVMValueRef c = LLVMConstInt(mem_is_bool(d) ? type : bits, x, 0);
        lane[k] = LLVMTypeOf(c) == type ? c : LLVMConstBitCast(c, type);
    }
    return t->lanes ? LLVMConstVector(lane, n) : lane[0];
}

static LLVMValueRef mem_const(emit *e, const ir_op *op) {
    const ir_attr_const *a = e->host->attr_get(e->m, op->attr);
    if (!a->type.rank) return emit_const(e, &a->type, a->data.bytes);
    emit_fail(e, IG_INTERNAL,
              "a tensor constant in a kernel: lowering should have made it a weight");
    return NULL;
}

/* --- Load and store --- */

static LLVMValueRef mem_address(emit *e, ig_dtype d, LLVMValueRef base, LLVMValueRef index) {
    return LLVMBuildInBoundsGEP2(e->b, emit_cell_type(e, d), base, &index, 1, "");
}

static LLVMValueRef mem_lane(emit *e, LLVMValueRef v, unsigned k) {
    return LLVMBuildExtractElement(e->b, v, LLVMConstInt(e->i32, k, 0), "");
}

/* The memory form of a type: bools are bytes. */
static LLVMTypeRef mem_form(emit *e, ig_dtype d, unsigned lanes) {
    LLVMTypeRef cell = emit_cell_type(e, d);
    return lanes ? LLVMVectorType(cell, lanes) : cell;
}

static LLVMValueRef mem_load_at(emit *e, ig_dtype d, unsigned lanes, LLVMValueRef at) {
    LLVMTypeRef t = mem_form(e, d, lanes);
    LLVMValueRef x = LLVMBuildLoad2(e->b, t, at, "");
    LLVMSetAlignment(x, (unsigned)rt_dtype_bytes(d));
    return mem_is_bool(d) ? LLVMBuildICmp(e->b, LLVMIntNE, x, LLVMConstNull(t), "") : x;
}

static void mem_store_at(emit *e, ig_dtype d, unsigned lanes, LLVMValueRef at, LLVMValueRef x) {
    if (mem_is_bool(d)) x = LLVMBuildZExt(e->b, x, mem_form(e, d, lanes), "");
    LLVMSetAlignment(LLVMBuildStore(e->b, x, at), (unsigned)rt_dtype_bytes(d));
}

/* A scalar, a run of lanes, or with a vector of indices one load a lane: a hardware gather is no
 * faster on the processors of level v3, and never splits across a call. */
static LLVMValueRef mem_load(emit *e, const ir_op *op, const LLVMValueRef *x) {
    ig_dtype d = mem_dtype(e, ir_op_in(e->f, op, 0));
    unsigned lanes = ir_val_type(e->f, ir_op_out(op, 0))->lanes;
    if (!ir_val_type(e->f, ir_op_in(e->f, op, 1))->lanes)
        return mem_load_at(e, d, lanes, mem_address(e, d, x[0], x[1]));
    LLVMValueRef v = LLVMGetPoison(LLVMVectorType(emit_cell_type(e, d), lanes));
    for (unsigned k = 0; k < lanes; k++) {
        LLVMValueRef at = mem_address(e, d, x[0], mem_lane(e, x[1], k));
        LLVMValueRef one = LLVMBuildLoad2(e->b, emit_cell_type(e, d), at, "");
        LLVMSetAlignment(one, (unsigned)rt_dtype_bytes(d));
        v = LLVMBuildInsertElement(e->b, v, one, LLVMConstInt(e->i32, k, 0), "");
    }
    return mem_is_bool(d) ? LLVMBuildICmp(e->b, LLVMIntNE, v, LLVMConstNull(LLVMTypeOf(v)), "") : v;
}

/* The same for stores; lanes in order, so that the last of equal indices wins. */
static void mem_store(emit *e, const ir_op *op, const LLVMValueRef *x) {
    ig_dtype d = mem_dtype(e, ir_op_in(e->f, op, 0));
    unsigned lanes = ir_val_type(e->f, ir_op_in(e->f, op, 2))->lanes;
    if (!ir_val_type(e->f, ir_op_in(e->f, op, 1))->lanes) {
        mem_store_at(e, d, lanes, mem_address(e, d, x[0], x[1]), x[2]);
        return;
    }
    for (unsigned k = 0; k < lanes; k++)
        mem_store_at(e, d, 0, mem_address(e, d, x[0], mem_lane(e, x[1], k)), mem_lane(e, x[2], k));
}

/* Past the caches.  The vector is as aligned as it is long, up to a cache line. */
static void mem_stream(emit *e, const ir_op *op, const LLVMValueRef *x) {
    ig_dtype d = mem_dtype(e, ir_op_in(e->f, op, 0));
    unsigned lanes = ir_val_type(e->f, ir_op_in(e->f, op, 2))->lanes;
    unsigned bytes = lanes * (unsigned)rt_dtype_bytes(d);
    LLVMValueRef v = mem_is_bool(d) ? LLVMBuildZExt(e->b, x[2], mem_form(e, d, lanes), "") : x[2];
    LLVMValueRef store = LLVMBuildStore(e->b, v, mem_address(e, d, x[0], x[1]));
    LLVMMetadataRef one = LLVMValueAsMetadata(LLVMConstInt(e->i32, 1, 0));
    unsigned kind = LLVMGetMDKindIDInContext(e->ctx, "nontemporal", sizeof "nontemporal" - 1);
    LLVMSetAlignment(store, bytes < RT_ALIGN_BUFFER ? bytes : RT_ALIGN_BUFFER);
    LLVMSetMetadata(store, kind,
                    LLVMMetadataAsValue(e->ctx, LLVMMDNodeInContext2(e->ctx, &one, 1)));
    e->streams = true;
}

static LLVMValueRef mem_aligned(emit *e, const LLVMValueRef *x) {
    LLVMValueRef at = LLVMBuildPtrToInt(e->b, x[0], e->i64, "");
    at = LLVMBuildAnd(e->b, at, emit_i64(e, RT_ALIGN_BUFFER - 1), "");
    return LLVMBuildICmp(e->b, LLVMIntEQ, at, LLVMConstNull(e->i64), "");
}

void emit_fence(emit *e) {
    if (e->job->cpu->arch == RT_ARCH_AARCH64) return; /* as ordered as other stores */
    emit_intrinsic(e, "llvm.x86.sse.sfence", NULL, 0, NULL, 0);
}

/* For reading, into every level. */
static void mem_prefetch(emit *e, const ir_op *op, const LLVMValueRef *x) {
    LLVMValueRef at = mem_address(e, mem_dtype(e, ir_op_in(e->f, op, 0)), x[0], x[1]);
    LLVMValueRef arg[4] = {at, LLVMConstInt(e->i32, 0, 0), LLVMConstInt(e->i32, 3, 0),
                           LLVMConstInt(e->i32, 1, 0)};
    emit_intrinsic(e, "llvm.prefetch", &e->ptr, 1, arg, 4);
}

/* Scratch on the stack, made once a call of the kernel whatever loop the op is in, unrolled ones
 * included. */
static LLVMValueRef mem_alloc(emit *e, const ir_op *op) {
    const ir_attr_alloc *a = e->host->attr_get(e->m, op->attr);
    if (e->val[op->out0]) return e->val[op->out0];
    uint64_t bytes = rt_dtype_bytes((ig_dtype)a->dtype);
    if (a->n < 1 || (uint64_t)a->n > MEM_MAX_STACK / bytes ||
        e->stack > MEM_MAX_STACK - (uint64_t)a->n * bytes) {
        emit_fail(e, IG_UNSUPPORTED,
                  "%lld elements of scratch memory do not fit the stack; the limit is %llu bytes a "
                  "kernel",
                  (long long)a->n, (unsigned long long)MEM_MAX_STACK);
        return NULL;
    }
    LLVMTypeRef t = LLVMArrayType2(emit_cell_type(e, (ig_dtype)a->dtype), (uint64_t)a->n);
    return emit_slot(e, t, (uint64_t)a->n * bytes, RT_ALIGN_BUFFER, "scratch");
}

/* --- Vectors --- */

static LLVMValueRef mem_splat(emit *e, const ir_op *op, const LLVMValueRef *x) {
    unsigned lanes = ir_val_type(e->f, ir_op_out(op, 0))->lanes;
    LLVMValueRef lane[UINT8_MAX];
    if (LLVMIsConstant(x[0])) {
        for (unsigned k = 0; k < lanes; k++) lane[k] = x[0];
        return LLVMConstVector(lane, lanes);
    }
    LLVMValueRef poison = LLVMGetPoison(LLVMVectorType(LLVMTypeOf(x[0]), lanes));
    LLVMValueRef first = LLVMBuildInsertElement(e->b, poison, x[0], LLVMConstNull(e->i32), "");
    return LLVMBuildShuffleVector(e->b, first, poison, LLVMConstNull(LLVMVectorType(e->i32, lanes)),
                                  "");
}

static LLVMValueRef mem_viota(emit *e, const ir_op *op) {
    unsigned lanes = ir_val_type(e->f, ir_op_out(op, 0))->lanes;
    LLVMValueRef lane[UINT8_MAX];
    for (unsigned k = 0; k < lanes; k++) lane[k] = LLVMConstInt(e->i64, k, 0);
    return LLVMConstVector(lane, lanes);
}

static LLVMValueRef mem_half(emit *e, const ir_op *op, const LLVMValueRef *x) {
    const ir_attr_index *a = e->host->attr_get(e->m, op->attr);
    unsigned half = ir_val_type(e->f, ir_op_in(e->f, op, 0))->lanes / 2u,
             first = a->index ? half : 0;
    LLVMValueRef lane[UINT8_MAX];
    if (half == 1) return mem_lane(e, x[0], first);
    for (unsigned k = 0; k < half; k++) lane[k] = LLVMConstInt(e->i32, first + k, 0);
    return LLVMBuildShuffleVector(e->b, x[0], LLVMGetPoison(LLVMTypeOf(x[0])),
                                  LLVMConstVector(lane, half), "");
}

static LLVMValueRef mem_deal(emit *e, const ir_op *op, const LLVMValueRef *x) {
    const ir_attr_deal *a = e->host->attr_get(e->m, op->attr);
    unsigned lanes = ir_val_type(e->f, ir_op_out(op, 0))->lanes;
    LLVMValueRef lane[UINT8_MAX];
    for (unsigned k = 0; k < lanes; k++)
        lane[k] = LLVMConstInt(e->i32, (uint64_t)ir_deal_lane(a, lanes, k), 0);
    return LLVMBuildShuffleVector(e->b, x[0], x[1], LLVMConstVector(lane, lanes), "");
}

static LLVMValueRef mem_extract(emit *e, const ir_op *op, const LLVMValueRef *x) {
    const ir_attr_index *a = e->host->attr_get(e->m, op->attr);
    return mem_lane(e, x[0], (unsigned)a->index);
}

/* All lanes, or some: on x86 as the bits of an integer, which is one test. */
static LLVMValueRef mem_test(emit *e, const ir_op *op, LLVMValueRef x) {
    const ir_attr_bitop *a = e->host->attr_get(e->m, op->attr);
    LLVMTypeRef t = LLVMTypeOf(x);
    bool all = a->op == IR_bitop_band;
    if (e->job->cpu->arch == RT_ARCH_AARCH64)
        return emit_intrinsic(e, all ? "llvm.vector.reduce.and" : "llvm.vector.reduce.or", &t, 1,
                              &x, 1);
    LLVMTypeRef bits = LLVMIntTypeInContext(e->ctx, LLVMGetVectorSize(t));
    return LLVMBuildICmp(e->b, all ? LLVMIntEQ : LLVMIntNE, LLVMBuildBitCast(e->b, x, bits, ""),
                         all ? LLVMConstAllOnes(bits) : LLVMConstNull(bits), "");
}

static LLVMValueRef mem_zip(emit *e, const ir_op *op, const LLVMValueRef *x) {
    unsigned lanes = ir_val_type(e->f, ir_op_out(op, 0))->lanes;
    LLVMValueRef lane[UINT8_MAX];
    for (unsigned k = 0; k < lanes; k++)
        lane[k] = LLVMConstInt(e->i32, (k & 1) * lanes / 2 + k / 2, 0);
    return LLVMBuildShuffleVector(e->b, x[0], x[1], LLVMConstVector(lane, lanes), "");
}

LLVMValueRef emit_memory(emit *e, const ir_op *op, const LLVMValueRef *x) {
    switch (op->code) {
    case OP_const: return mem_const(e, op);
    case OP_load: return mem_load(e, op, x);
    case OP_store: mem_store(e, op, x); return NULL;
    case OP_stream: mem_stream(e, op, x); return NULL;
    case OP_aligned: return mem_aligned(e, x);
    case OP_prefetch: mem_prefetch(e, op, x); return NULL;
    case OP_view:
        return mem_address(e, mem_dtype(e, ir_op_in(e->f, op, 0)), x[0], x[1]);
    case OP_alloc: return mem_alloc(e, op);
    case OP_splat: return mem_splat(e, op, x);
    case OP_viota: return mem_viota(e, op);
    case OP_vhalf: return mem_half(e, op, x);
    case OP_deal: return mem_deal(e, op, x);
    case OP_extract: return mem_extract(e, op, x);
    case OP_vtest: return mem_test(e, op, x[0]);
    case OP_vzip: return mem_zip(e, op, x);
    default: emit_fail(e, IG_INTERNAL, "no machine form"); return NULL;
    }
}
