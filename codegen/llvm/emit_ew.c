/* emit_ew.c - elementwise ops.  Each has exactly the meaning that ops.def and the reference give
 * it, edge values of integers included; where LLVM leaves a case open (division by zero, wide
 * shifts) a guard is emitted unless the operand is a constant that cannot reach it.  What no
 * target computes in an instruction or two (transcendentals, float remainder, arithmetic on
 * 16-bit floats) has been expanded by lowering and is an error here. */
#include "codegen/llvm/emit.h"
#include <math.h>
#include <stdio.h>

typedef struct ew {
    emit *e;
    LLVMBuilderRef b;
    const ir_op *op;
    const LLVMValueRef *x;
    ig_dtype from, to; /* of operand 0 and of the result */
    LLVMTypeRef t, r;  /* the same as LLVM types */
} ew;

/* --- Facts --- */

/* f32 and f64: the types LLVM computes on. */
static bool ew_is_float(ig_dtype d) { return rt_is_float(d) && rt_dtype_bytes(d) >= 4; }
static bool ew_is_half(ig_dtype d) { return rt_is_float(d) && rt_dtype_bytes(d) == 2; }
static bool ew_is_bool(ig_dtype d) { return rt_dtype_tab[d].kind == 'b'; }
static uint64_t ew_bits(ig_dtype d) { return 8 * rt_dtype_bytes(d); }
static uint64_t ew_sign(ig_dtype d) { return UINT64_C(1) << (ew_bits(d) - 1); }

bool emit_needs_fpenv(const cg_llvm_host *host, const ir_func *f, const ir_op *op) {
    if (!host->ops[op->code].elementwise || op->code == OP_select) return false;
    for (uint32_t k = 0; k < op->nin; k++)
        if (ew_is_float((ig_dtype)ir_val_type(f, ir_op_in(f, op, k))->dtype)) return true;
    return op->nout && ew_is_float((ig_dtype)ir_val_type(f, ir_op_out(op, 0))->dtype);
}

static LLVMValueRef ew_refuse(const ew *w) {
    emit_fail(w->e, IG_INTERNAL, "%s has no instruction: lowering should have expanded it",
              ig_dtype_name(w->from));
    return NULL;
}

/* An integer constant of the operands' type. */
static LLVMValueRef ew_int(const ew *w, uint64_t x) { return emit_int(w->t, x); }
static LLVMValueRef ew_zero(const ew *w) { return LLVMConstNull(w->t); }

/* A conversion-free intrinsic on the operands' type. */
static LLVMValueRef ew_intrinsic(const ew *w, const char *name, unsigned n) {
    LLVMValueRef args[3];
    LLVMTypeRef t = w->t;
    for (unsigned k = 0; k < n; k++) args[k] = w->x[k];
    return emit_intrinsic(w->e, name, &t, 1, args, n);
}

/* Whether a condition was folded to all true, or all false. */
static bool ew_is_always(LLVMValueRef c) {
    return LLVMIsConstant(c) && c == LLVMConstAllOnes(LLVMTypeOf(c));
}
static bool ew_is_never(LLVMValueRef c) { return LLVMIsConstant(c) && LLVMIsNull(c); }

/* select, without the instruction when the condition is known. */
static LLVMValueRef ew_choose(const ew *w, LLVMValueRef c, LLVMValueRef yes, LLVMValueRef no) {
    if (ew_is_always(c)) return yes;
    if (ew_is_never(c)) return no;
    return LLVMBuildSelect(w->b, c, yes, no, "");
}

/* --- Arithmetic --- */

static LLVMValueRef ew_neg(const ew *w) {
    if (ew_is_float(w->from)) return LLVMBuildFNeg(w->b, w->x[0], "");
    if (ew_is_half(w->from)) return LLVMBuildXor(w->b, w->x[0], ew_int(w, ew_sign(w->from)), "");
    return LLVMBuildNeg(w->b, w->x[0], "");
}

static LLVMValueRef ew_abs(const ew *w) {
    if (ew_is_float(w->from)) return ew_intrinsic(w, "llvm.fabs", 1);
    if (ew_is_half(w->from))
        return LLVMBuildAnd(w->b, w->x[0], ew_int(w, ew_sign(w->from) - 1), "");
    if (!rt_is_signed(w->from)) return w->x[0];
    LLVMValueRef args[2] = {w->x[0], LLVMConstNull(w->e->i1)}; /* the least value wraps to itself */
    LLVMTypeRef t = w->t;
    return emit_intrinsic(w->e, "llvm.abs", &t, 1, args, 2);
}

static LLVMValueRef ew_rint(const ew *w) {
    static const char *const name[] = {[IR_rmode_even] = "llvm.roundeven",
                                       [IR_rmode_floor] = "llvm.floor",
                                       [IR_rmode_ceil] = "llvm.ceil",
                                       [IR_rmode_trunc] = "llvm.trunc"};
    const ir_attr_rmode *a = w->e->host->attr_get(w->e->m, w->op->attr);
    return ew_is_float(w->from) ? ew_intrinsic(w, name[a->mode], 1) : ew_refuse(w);
}

static LLVMValueRef ew_sqrt(const ew *w) {
    return ew_is_float(w->from) ? ew_intrinsic(w, "llvm.sqrt", 1) : ew_refuse(w);
}

static LLVMValueRef ew_bitcount(const ew *w) {
    const ir_attr_count *a = w->e->host->attr_get(w->e->m, w->op->attr);
    if (a->kind == IR_count_pop) return ew_intrinsic(w, "llvm.ctpop", 1);
    LLVMValueRef args[2] = {w->x[0], LLVMConstNull(w->e->i1)}; /* zero counts the width */
    LLVMTypeRef t = w->t;
    return emit_intrinsic(w->e, a->kind == IR_count_clz ? "llvm.ctlz" : "llvm.cttz", &t, 1, args,
                          2);
}

/* add, sub, mul. */
static LLVMValueRef ew_ring(const ew *w, LLVMOpcode on_int, LLVMOpcode on_float) {
    if (ew_is_half(w->from)) return ew_refuse(w);
    return LLVMBuildBinOp(w->b, ew_is_float(w->from) ? on_float : on_int, w->x[0], w->x[1], "");
}

/* Integer division or remainder: x / 0 = 0, x rem 0 = x, and the least value by -1 wraps. */
static LLVMValueRef ew_divide(const ew *w, bool rem) {
    LLVMValueRef x = w->x[0], y = w->x[1], one = ew_int(w, 1);
    bool sign = rt_is_signed(w->from);
    LLVMValueRef zero = LLVMBuildICmp(w->b, LLVMIntEQ, y, ew_zero(w), ""), bad = zero;
    if (sign) {
        LLVMValueRef minus = LLVMBuildICmp(w->b, LLVMIntEQ, y, LLVMConstAllOnes(w->t), "");
        if (!ew_is_never(minus)) {
            LLVMValueRef least = LLVMBuildICmp(w->b, LLVMIntEQ, x, ew_int(w, ew_sign(w->from)), "");
            bad = LLVMBuildOr(w->b, zero, LLVMBuildAnd(w->b, minus, least, ""), "");
        }
    }
    y = ew_choose(w, bad, one, y); /* the least value / 1 is itself and leaves 0 */
    LLVMOpcode op = rem ? (sign ? LLVMSRem : LLVMURem) : (sign ? LLVMSDiv : LLVMUDiv);
    LLVMValueRef q = LLVMBuildBinOp(w->b, op, x, y, "");
    return ew_choose(w, zero, rem ? x : ew_zero(w), q);
}

static LLVMValueRef ew_div(const ew *w) {
    if (ew_is_half(w->from)) return ew_refuse(w);
    if (ew_is_float(w->from)) return LLVMBuildFDiv(w->b, w->x[0], w->x[1], "");
    return ew_divide(w, false);
}

static LLVMValueRef ew_rem(const ew *w) {
    return rt_is_int(w->from) ? ew_divide(w, true) : ew_refuse(w);
}

/* x < y ? x : y (max: x > y), which is one instruction of x86: y when they are equal or NaN. */
static LLVMValueRef ew_pick(const ew *w, bool max, LLVMValueRef x, LLVMValueRef y) {
    LLVMValueRef c = LLVMBuildFCmp(w->b, max ? LLVMRealOGT : LLVMRealOLT, x, y, "");
    return LLVMBuildSelect(w->b, c, x, y, "");
}

/* The only element of a constant scalar or vector, when that is a number. */
static bool ew_number(LLVMValueRef c, double *x_) {
    LLVMBool lost;
    if (!LLVMIsConstant(c)) return false;
    LLVMValueRef one = c;
    if (LLVMGetTypeKind(LLVMTypeOf(c)) == LLVMVectorTypeKind) {
        unsigned n = LLVMGetVectorSize(LLVMTypeOf(c));
        one = LLVMGetAggregateElement(c, 0);
        for (unsigned k = 1; k < n; k++)
            if (LLVMGetAggregateElement(c, k) != one) return false;
    }
    if (!LLVMIsAConstantFP(one)) return false;
    *x_ = LLVMConstRealGetDouble(one, &lost);
    return *x_ == *x_;
}

/* n lanes of v (or v, a scalar) from `first` on as a vector of so many; lanes behind its end are
 * anything. */
static LLVMValueRef ew_lanes(const ew *w, LLVMValueRef v, unsigned first, unsigned n) {
    LLVMValueRef lane[UINT8_MAX];
    LLVMTypeRef t = LLVMTypeOf(v);
    if (LLVMGetTypeKind(t) != LLVMVectorTypeKind)
        return LLVMBuildInsertElement(w->b, LLVMGetPoison(LLVMVectorType(t, n)), v,
                                      LLVMConstNull(w->e->i32), "");
    for (unsigned k = 0; k < n; k++)
        lane[k] = first + k < LLVMGetVectorSize(t) ? LLVMConstInt(w->e->i32, first + k, 0)
                                                   : LLVMGetPoison(w->e->i32);
    return LLVMBuildShuffleVector(w->b, v, LLVMGetPoison(t), LLVMConstVector(lane, n), "");
}

/* The bits that at least two of x, y, z have: one instruction of AVX-512 that no pattern of LLVM's
 * gives. */
static LLVMValueRef ew_majority(const ew *w, LLVMValueRef x, LLVMValueRef y, LLVMValueRef z) {
    unsigned n = LLVMGetVectorSize(LLVMTypeOf(x)), bits = n * (unsigned)ew_bits(w->from);
    char name[64];
    if (bits <= 512) {
        snprintf(name, sizeof name, "llvm.x86.avx512.pternlog.%c.%u",
                 ew_bits(w->from) == 64 ? 'q' : 'd', bits);
        LLVMValueRef in[4] = {x, y, z, LLVMConstInt(w->e->i32, 0xe8, 0)};
        return emit_intrinsic(w->e, name, NULL, 0, in, 4);
    }
    LLVMValueRef lane[UINT8_MAX], half[2];
    for (unsigned k = 0; k < n; k++) lane[k] = LLVMConstInt(w->e->i32, k, 0);
    for (unsigned h = 0; h < 2; h++)
        half[h] = ew_majority(w, ew_lanes(w, x, h * n / 2, n / 2), ew_lanes(w, y, h * n / 2, n / 2),
                              ew_lanes(w, z, h * n / 2, n / 2));
    return LLVMBuildShuffleVector(w->b, half[0], half[1], LLVMConstVector(lane, n), "");
}

/* Of vectors.  The instruction gives the second operand when either is NaN and when both are
 * zeros: ask in both orders.  The answers differ in these two cases only.  NaN or anything is NaN,
 * so what is left is the sign of zero: for min it is the `or` of both, for max the `and`. */
static LLVMValueRef ew_extreme_both(const ew *w, bool max, LLVMValueRef x, LLVMValueRef y) {
    LLVMTypeRef t = LLVMVectorType(LLVMIntTypeInContext(w->e->ctx, (unsigned)ew_bits(w->from)),
                                   LLVMGetVectorSize(LLVMTypeOf(x)));
    LLVMValueRef a = LLVMBuildBitCast(w->b, ew_pick(w, max, x, y), t, "");
    LLVMValueRef b = LLVMBuildBitCast(w->b, ew_pick(w, max, y, x), t, "");
    if (!max) {
        a = LLVMBuildOr(w->b, a, b, "");
    } else if (w->e->job->cpu->vector_bits == 512) {
        a = ew_majority(w, a, b, emit_int(t, ew_sign(w->from) - 1));
    } else {
        LLVMValueRef nan = LLVMBuildFCmp(w->b, LLVMRealUNO, x, y, "");
        a = LLVMBuildOr(w->b, LLVMBuildAnd(w->b, a, b, ""), LLVMBuildSExt(w->b, nan, t, ""), "");
    }
    return LLVMBuildBitCast(w->b, a, LLVMTypeOf(x), "");
}

/* On x86, where what LLVM makes of llvm.maximum asks for signs and blends.  With a number that no
 * zero of another sign can meet, the instruction alone is right; max(x, 0) adds 0 to -0. */
static LLVMValueRef ew_extreme_x86(const ew *w, bool max) {
    double c;
    LLVMValueRef x = w->x[0], y = w->x[1];
    if (ew_number(x, &c)) x = w->x[1], y = w->x[0];
    if (ew_number(y, &c)) {
        bool zero = c == 0 && max != (signbit(c) != 0);
        if (!zero) return ew_pick(w, max, y, x);
        if (max) return LLVMBuildFAdd(w->b, ew_pick(w, max, y, x), y, "");
    }
    bool vector = LLVMGetTypeKind(w->t) == LLVMVectorTypeKind;
    unsigned n = vector ? LLVMGetVectorSize(w->t) : 1, least = 128 / (unsigned)ew_bits(w->from);
    if (n >= least) return ew_extreme_both(w, max, x, y);
    LLVMValueRef r = ew_extreme_both(w, max, ew_lanes(w, x, 0, least), ew_lanes(w, y, 0, least));
    if (vector) return ew_lanes(w, r, 0, n);
    return LLVMBuildExtractElement(w->b, r, LLVMConstNull(w->e->i32), "");
}

/* max and min: NaN propagates and -0 < +0, which is what llvm.maximum and llvm.minimum promise. */
static LLVMValueRef ew_extreme(const ew *w, bool max) {
    if (ew_is_bool(w->from))
        return LLVMBuildBinOp(w->b, max ? LLVMOr : LLVMAnd, w->x[0], w->x[1], "");
    if (ew_is_float(w->from)) {
        if (w->e->job->cpu->arch != RT_ARCH_AARCH64) return ew_extreme_x86(w, max);
        return ew_intrinsic(w, max ? "llvm.maximum" : "llvm.minimum", 2);
    }
    if (ew_is_half(w->from)) return ew_refuse(w);
    if (rt_is_signed(w->from)) return ew_intrinsic(w, max ? "llvm.smax" : "llvm.smin", 2);
    return ew_intrinsic(w, max ? "llvm.umax" : "llvm.umin", 2);
}

/* One rounding in the fma class, two in the nofma class (numerics rule 12). */
static LLVMValueRef ew_fma(const ew *w) {
    if (!ew_is_float(w->from)) return ew_refuse(w);
    if (w->e->m->class == IR_CLASS_FMA) return ew_intrinsic(w, "llvm.fma", 3);
    return LLVMBuildFAdd(w->b, LLVMBuildFMul(w->b, w->x[0], w->x[1], ""), w->x[2], "");
}

/* --- Bits --- */

static LLVMValueRef ew_bit(const ew *w) {
    static const LLVMOpcode op[] = {
        [IR_bitop_band] = LLVMAnd, [IR_bitop_bor] = LLVMOr, [IR_bitop_bxor] = LLVMXor};
    const ir_attr_bitop *a = w->e->host->attr_get(w->e->m, w->op->attr);
    return LLVMBuildBinOp(w->b, op[a->op], w->x[0], w->x[1], "");
}

/* Counts are unsigned; from the width on, 0 (arith: the sign). */
static LLVMValueRef ew_shift(const ew *w) {
    const ir_attr_shop *a = w->e->host->attr_get(w->e->m, w->op->attr);
    LLVMValueRef n = w->x[1];
    uint64_t width = ew_bits(w->from);
    LLVMValueRef fits = LLVMBuildICmp(w->b, LLVMIntULT, n, ew_int(w, width), "");
    if (a->op == IR_shop_arith) {
        n = ew_choose(w, fits, n, ew_int(w, width - 1));
        return LLVMBuildAShr(w->b, w->x[0], n, "");
    }
    LLVMValueRef y =
        LLVMBuildBinOp(w->b, a->op == IR_shop_left ? LLVMShl : LLVMLShr, w->x[0], n, "");
    return ew_choose(w, fits, y, ew_zero(w));
}

/* --- Comparison, choice --- */

static LLVMValueRef ew_cmp(const ew *w) {
    static const LLVMRealPredicate real[] = {[IR_cmpop_eq] = LLVMRealOEQ,
                                             [IR_cmpop_ne] = LLVMRealUNE,
                                             [IR_cmpop_lt] = LLVMRealOLT,
                                             [IR_cmpop_le] = LLVMRealOLE};
    static const LLVMIntPredicate with_sign[] = {[IR_cmpop_eq] = LLVMIntEQ,
                                                 [IR_cmpop_ne] = LLVMIntNE,
                                                 [IR_cmpop_lt] = LLVMIntSLT,
                                                 [IR_cmpop_le] = LLVMIntSLE};
    static const LLVMIntPredicate plain[] = {[IR_cmpop_eq] = LLVMIntEQ,
                                             [IR_cmpop_ne] = LLVMIntNE,
                                             [IR_cmpop_lt] = LLVMIntULT,
                                             [IR_cmpop_le] = LLVMIntULE};
    const ir_attr_cmpop *a = w->e->host->attr_get(w->e->m, w->op->attr);
    if (ew_is_half(w->from)) return ew_refuse(w);
    if (ew_is_float(w->from)) return LLVMBuildFCmp(w->b, real[a->op], w->x[0], w->x[1], "");
    return LLVMBuildICmp(w->b, (rt_is_signed(w->from) ? with_sign : plain)[a->op], w->x[0], w->x[1],
                         "");
}

/* --- Conversion --- */

/* x != 0; NaN is true. */
static LLVMValueRef ew_to_bool(const ew *w) {
    if (ew_is_float(w->from)) return LLVMBuildFCmp(w->b, LLVMRealUNE, w->x[0], ew_zero(w), "");
    LLVMValueRef x = w->x[0];
    if (ew_is_half(w->from))
        x = LLVMBuildAnd(w->b, x, ew_int(w, ew_sign(w->from) - 1), ""); /* -0 is 0 */
    return LLVMBuildICmp(w->b, LLVMIntNE, x, ew_zero(w), "");
}

/* Truncates, saturates, NaN gives 0. */
static LLVMValueRef ew_float_to_int(const ew *w) {
    LLVMTypeRef over[2] = {w->r, w->t};
    LLVMValueRef x = w->x[0];
    return emit_intrinsic(w->e, rt_is_signed(w->to) ? "llvm.fptosi.sat" : "llvm.fptoui.sat", over,
                          2, &x, 1);
}

static LLVMValueRef ew_convert(const ew *w) {
    LLVMValueRef x = w->x[0];
    if (w->from == w->to) return x;
    if (ew_is_bool(w->to)) return ew_to_bool(w);
    if (ew_is_half(w->from) || ew_is_half(w->to)) return ew_refuse(w);
    if (ew_is_float(w->from)) {
        if (!ew_is_float(w->to)) return ew_float_to_int(w);
        return rt_dtype_bytes(w->to) > rt_dtype_bytes(w->from)
                   ? LLVMBuildFPExt(w->b, x, w->r, "")
                   : LLVMBuildFPTrunc(w->b, x, w->r, "");
    }
    bool sign = rt_is_signed(w->from);
    if (ew_is_float(w->to)) return LLVMBuildCast(w->b, sign ? LLVMSIToFP : LLVMUIToFP, x, w->r, "");
    if (ew_is_bool(w->from) || rt_dtype_bytes(w->to) > rt_dtype_bytes(w->from))
        return LLVMBuildCast(w->b, sign ? LLVMSExt : LLVMZExt, x, w->r, "");
    return rt_dtype_bytes(w->to) < rt_dtype_bytes(w->from) ? LLVMBuildTrunc(w->b, x, w->r, "") : x;
}

/* The bits as they are: lowering has made NaNs canonical where they are observed (numerics rule
 * 2). */
static LLVMValueRef ew_bitcast(const ew *w) { return LLVMBuildBitCast(w->b, w->x[0], w->r, ""); }

/* --- The table --- */

LLVMValueRef emit_elementwise(emit *e, const ir_op *op, const LLVMValueRef *x) {
    const ir_type *in = ir_val_type(e->f, ir_op_in(e->f, op, 0)),
                  *out = ir_val_type(e->f, ir_op_out(op, 0));
    ew w = {.e = e,
            .b = e->b,
            .op = op,
            .x = x,
            .from = (ig_dtype)in->dtype,
            .to = (ig_dtype)out->dtype,
            .t = emit_type(e, in),
            .r = emit_type(e, out)};
    switch (op->code) {
    case OP_neg: return ew_neg(&w);
    case OP_abs: return ew_abs(&w);
    case OP_rint: return ew_rint(&w);
    case OP_sqrt: return ew_sqrt(&w);
    case OP_lnot: return LLVMBuildNot(e->b, x[0], "");
    case OP_bitcount: return ew_bitcount(&w);
    case OP_add: return ew_ring(&w, LLVMAdd, LLVMFAdd);
    case OP_sub: return ew_ring(&w, LLVMSub, LLVMFSub);
    case OP_mul: return ew_ring(&w, LLVMMul, LLVMFMul);
    case OP_div: return ew_div(&w);
    case OP_rem: return ew_rem(&w);
    case OP_max: return ew_extreme(&w, true);
    case OP_min: return ew_extreme(&w, false);
    case OP_bit: return ew_bit(&w);
    case OP_shift: return ew_shift(&w);
    case OP_cmp: return ew_cmp(&w);
    case OP_select: return LLVMBuildSelect(e->b, x[0], x[1], x[2], "");
    case OP_fma: return ew_fma(&w);
    case OP_convert: return ew_convert(&w);
    case OP_bitcast: return ew_bitcast(&w);
    default: return ew_refuse(&w);
    }
}
