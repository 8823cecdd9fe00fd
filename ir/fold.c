/* fold.c - identities applied as an op is emitted, and evaluation of small constants.
 *
 * One function fold_<rule> stands behind each token of the `fold` column of ops.def.  It answers
 * with a value that has the bits of the op about to be emitted, or {0}.
 *
 * The law for whoever adds a rule: the bits are equal for every input under numerics rules 1 to 5.
 * All NaNs are one value, but -0 and +0 are two, infinities and denormals count, integers wrap,
 * division by zero is defined.  So `x + 0` is x for integers and x + -0 is x for floats; `x * 0` is
 * 0 for integers only; `x - x` likewise; a float sum over one element is +0 + x, which is not x
 * when x is -0.  Rules that need more than one op, or a licence, live in passes/simplify.c.
 *
 * A splat is one constant element in every place: a scalar constant, a constant of equal elements,
 * or a broadcast, reshape or vector of one.  Splats stay broadcasts of scalars at any size: that
 * keeps them recognisable and costs nothing after fusion. */
#include "ir/ir.h"
#include <math.h>
#include <string.h>

#define FOLD_MAX_RESULT  64   /* elements: numerics rule 12 */
#define FOLD_MAX_OPERAND 4096 /* elements read to make them: bounds the work of one emission */
#define FOLD_MAX_NIN     16

typedef struct fold {
    ir_builder *b;
    ir_opcode op;
    const void *attr;
    int nin;
    const ir_ref *in;
} fold;

static const ir_ref fold_none = {0};

/* --- Reading operands ------------------------------------------------------------------------ */

static const ir_type *fold_type(const fold *x, int k) { return ir_val_type(x->b->f, x->in[k]); }

/* The op that defines a value when its code is `op`, else NULL. */
static const ir_op *fold_def(const fold *x, ir_ref r, ir_opcode op) {
    const ir_op *o = ir_def_op(x->b->f, r);
    return o && o->code == op ? o : NULL;
}

static const void *fold_attr(const fold *x, const ir_op *o) {
    return ir_attr_get(x->b->m, o->attr);
}
static ir_ref fold_in(const fold *x, const ir_op *o, uint32_t k) { return ir_op_in(x->b->f, o, k); }

static bool fold_is_float(const fold *x, int k) { return rt_is_float(fold_type(x, k)->dtype); }

const void *ir_splat(const ir_func *f, ir_ref r) {
    const ir_op *o = ir_def_op(f, r);
    while (o && (o->code == OP_broadcast || o->code == OP_reshape || o->code == OP_splat))
        o = ir_def_op(f, ir_op_in(f, o, 0));
    if (!o || o->code != OP_const) return NULL;
    const ir_attr_const *c = ir_attr_get(f->module, o->attr);
    size_t size = rt_dtype_bytes(c->type.dtype);
    if (!c->data.n || c->data.n > size * FOLD_MAX_RESULT) return NULL;
    const char *first = c->data.bytes;
    for (size_t i = size; i < c->data.n; i += size)
        if (memcmp(first, first + i, size)) return NULL;
    return first;
}

static const void *fold_splat(const fold *x, ir_ref r) { return ir_splat(x->b->f, r); }

/* The value of an integer or bool element, modulo 2^64. */
static int64_t fold_int(ig_dtype d, const void *e) {
    uint64_t u = 0;
    unsigned bits = 8 * (unsigned)rt_dtype_bytes(d);
    memcpy(&u, e, bits / 8);
    if (rt_is_signed(d) && bits < 64)
        u = (u ^ UINT64_C(1) << (bits - 1)) - (UINT64_C(1) << (bits - 1));
    return (int64_t)u;
}

static double fold_float(ig_dtype d, const void *e) {
    uint16_t h;
    float f;
    double v;
    if (rt_dtype_bytes(d) == 2) {
        memcpy(&h, e, sizeof h);
        return (double)(d == IG_f16 ? rt_f16_to_f32(h) : rt_bf16_to_f32(h));
    }
    if (d == IG_f32) {
        memcpy(&f, e, sizeof f);
        return (double)f;
    }
    memcpy(&v, e, sizeof v);
    return v;
}

bool ir_is_splat(const ir_func *f, ir_ref r, double v) {
    const void *e = ir_splat(f, r);
    ig_dtype d = (ig_dtype)ir_val_type(f, r)->dtype;
    if (!e) return false;
    if (!rt_is_float(d)) return fold_int(d, e) == (int64_t)v;
    double have = fold_float(d, e);
    return have == v && !signbit(have) == !signbit(v);
}

static bool fold_is(const fold *x, int k, double v) { return ir_is_splat(x->b->f, x->in[k], v); }

/* Whether operand k is the neutral element of addition: -0 for floats. */
static bool fold_is_zero_add(const fold *x, int k) {
    return fold_is(x, k, fold_is_float(x, k) ? -0.0 : 0.0);
}

/* Whether operand k is a splat with every bit set (true for bool). */
static bool fold_is_ones(const fold *x, int k) {
    const void *e = fold_splat(x, x->in[k]);
    ig_dtype d = (ig_dtype)fold_type(x, k)->dtype;
    if (!e || rt_is_float(d)) return false;
    if (d == IG_bool) return fold_int(d, e) == 1;
    unsigned bits = 8 * (unsigned)rt_dtype_bytes(d);
    return ((uint64_t)fold_int(d, e) & UINT64_MAX >> (64 - bits)) == UINT64_MAX >> (64 - bits);
}

/* --- Making results -------------------------------------------------------------------------- */

/* A splat with this element in every place of a value of this type (passed by value: emission moves
 * the table of values). */
static ir_ref fold_make_splat(const fold *x, ir_type type, const void *element) {
    size_t size = rt_dtype_bytes(type.dtype);
    uint8_t lane[UINT8_MAX * 8];
    if (type.lanes) {
        for (size_t k = 0; k < type.lanes; k++) memcpy(lane + k * size, element, size);
        return ir_const(x->b, type, lane, type.lanes * size);
    }
    ir_ref r = ir_const(x->b, ir_scalar_type((ig_dtype)type.dtype), element, size);
    if (!type.rank) return r;
    ir_attr_bcast a = {.dims = {.n = type.rank}};
    memcpy(a.dims.d, type.dim, sizeof type.dim);
    return ir_emit1(x->b, OP_broadcast, &a, r);
}

/* A splat of an integer or bool. */
static ir_ref fold_make_int(const fold *x, ir_type type, int64_t v) {
    return fold_make_splat(x, type, &v); /* little-endian: the low bytes come first */
}

/* Operand 0 of this op when it is a splat: the same splat in the shape `type`. */
static ir_ref fold_move_splat(const fold *x, ir_type type) {
    const void *e = fold_splat(x, x->in[0]);
    return e ? fold_make_splat(x, type, e) : fold_none;
}

/* --- Elementwise ----------------------------------------------------------------------------- */

static ir_ref fold_neg(const fold *x) {
    const ir_op *o = fold_def(x, x->in[0], OP_neg);
    return o ? fold_in(x, o, 0) : fold_none;
}

static ir_ref fold_abs(const fold *x) {
    const ir_op *o;
    if (rt_is_int(fold_type(x, 0)->dtype) && !rt_is_signed(fold_type(x, 0)->dtype)) return x->in[0];
    if (fold_def(x, x->in[0], OP_abs)) return x->in[0];
    if ((o = fold_def(x, x->in[0], OP_neg))) return ir_emit1(x->b, OP_abs, NULL, fold_in(x, o, 0));
    return fold_none;
}

/* What is integral already (or infinite) stays. */
static ir_ref fold_rint(const fold *x) {
    const ir_op *o = fold_def(x, x->in[0], OP_convert);
    if (fold_def(x, x->in[0], OP_rint)) return x->in[0];
    if (o && !rt_is_float(ir_val_type(x->b->f, fold_in(x, o, 0))->dtype)) return x->in[0];
    return fold_none;
}

static ir_ref fold_lnot(const fold *x) {
    const ir_op *o = fold_def(x, x->in[0], OP_lnot);
    return o ? fold_in(x, o, 0) : fold_none;
}

static ir_ref fold_add(const fold *x) {
    if (fold_is_zero_add(x, 1)) return x->in[0];
    if (fold_is_zero_add(x, 0)) return x->in[1];
    return fold_none;
}

/* +0 is neutral on the right for floats too; -0 - x is -x. */
static ir_ref fold_sub(const fold *x) {
    if (fold_is(x, 1, 0.0)) return x->in[0];
    if (fold_is_zero_add(x, 0)) return ir_emit1(x->b, OP_neg, NULL, x->in[1]);
    if (x->in[0].i == x->in[1].i && !fold_is_float(x, 0))
        return fold_make_int(x, *fold_type(x, 0), 0);
    return fold_none;
}

static ir_ref fold_mul(const fold *x) {
    for (int k = 0; k < 2; k++) {
        ir_ref other = x->in[1 - k];
        if (fold_is(x, k, 1)) return other;
        if (fold_is(x, k, 0) && !fold_is_float(x, k)) return x->in[k];
        if (fold_is_float(x, k) ? fold_is(x, k, -1) : fold_is_ones(x, k))
            return ir_emit1(x->b, OP_neg, NULL, other);
    }
    return fold_none;
}

static ir_ref fold_div(const fold *x) {
    bool is_unsigned = !fold_is_float(x, 0) && !rt_is_signed(fold_type(x, 0)->dtype);
    if (fold_is(x, 1, 1)) return x->in[0];
    if (!is_unsigned && fold_is(x, 1, -1)) return ir_emit1(x->b, OP_neg, NULL, x->in[0]);
    if (!fold_is_float(x, 0) && (fold_is(x, 0, 0) || fold_is(x, 1, 0)))
        return fold_make_int(x, *fold_type(x, 0), 0);
    return fold_none;
}

/* The least (or the greatest) value of an integer or bool type, modulo 2^64. */
static int64_t fold_extreme(ig_dtype d, bool greatest) {
    unsigned bits = d == IG_bool ? 1 : 8 * (unsigned)rt_dtype_bytes(d);
    if (!rt_is_signed(d)) return greatest ? (int64_t)(UINT64_MAX >> (64 - bits)) : 0;
    int64_t most = (int64_t)(UINT64_MAX >> (65 - bits));
    return greatest ? most : -most - 1;
}

/* The neutral element gives the other operand; for integers the absorbing one gives itself (for
 * floats it does not: NaN wins over infinity). */
static ir_ref fold_maxmin(const fold *x) {
    bool is_max = x->op == OP_max;
    ig_dtype d = (ig_dtype)fold_type(x, 0)->dtype;
    if (x->in[0].i == x->in[1].i) return x->in[0];
    for (int k = 0; k < 2; k++) {
        const void *e = fold_splat(x, x->in[k]);
        if (!e) continue;
        if (rt_is_float(d)) {
            if (fold_is(x, k, is_max ? (double)-INFINITY : (double)INFINITY)) return x->in[1 - k];
            continue;
        }
        if (fold_int(d, e) == fold_extreme(d, !is_max)) return x->in[1 - k];
        if (fold_int(d, e) == fold_extreme(d, is_max)) return x->in[k];
    }
    return fold_none;
}

static ir_ref fold_bit(const fold *x) {
    ir_bitop op = (ir_bitop)((const ir_attr_bitop *)x->attr)->op;
    if (x->in[0].i == x->in[1].i)
        return op == IR_bitop_bxor ? fold_make_int(x, *fold_type(x, 0), 0) : x->in[0];
    for (int k = 0; k < 2; k++) {
        ir_ref me = x->in[k], other = x->in[1 - k];
        if (fold_is(x, k, 0)) return op == IR_bitop_band ? me : other;
        if (!fold_is_ones(x, k)) continue;
        if (op == IR_bitop_bxor) return ir_emit1(x->b, OP_lnot, NULL, other);
        return op == IR_bitop_band ? other : me;
    }
    return fold_none;
}

static ir_ref fold_shift(const fold *x) {
    ir_shop op = (ir_shop)((const ir_attr_shop *)x->attr)->op;
    const ir_type *t = fold_type(x, 0);
    const void *e = fold_splat(x, x->in[1]);
    if (fold_is(x, 0, 0) || (e && fold_int((ig_dtype)t->dtype, e) == 0)) return x->in[0];
    if (!e || op == IR_shop_arith) return fold_none;
    unsigned bits = 8 * (unsigned)rt_dtype_bytes(t->dtype);
    uint64_t count = (uint64_t)fold_int((ig_dtype)t->dtype, e);
    if (count >= bits) return fold_make_int(x, *t, 0); /* a negative count is a huge one */
    return fold_none;
}

/* bool compared with a constant is itself or its opposite. */
static ir_ref fold_cmp_bool(const fold *x, ir_cmpop op) {
    if (op != IR_cmpop_eq && op != IR_cmpop_ne) return fold_none;
    for (int k = 0; k < 2; k++) {
        const void *e = fold_splat(x, x->in[k]);
        if (!e) continue;
        bool same = (fold_int(IG_bool, e) == 1) == (op == IR_cmpop_eq);
        return same ? x->in[1 - k] : ir_emit1(x->b, OP_lnot, NULL, x->in[1 - k]);
    }
    return fold_none;
}

static ir_ref fold_cmp(const fold *x) {
    ir_cmpop op = (ir_cmpop)((const ir_attr_cmpop *)x->attr)->op;
    const ir_type *t = fold_type(x, 0);
    ir_type result = *t;
    result.dtype = IG_bool;
    if (t->dtype == IG_bool) {
        ir_ref r = fold_cmp_bool(x, op);
        if (r.i) return r;
    }
    if (x->in[0].i == x->in[1].i) { /* NaN differs from itself, and is not below itself */
        bool strict = op == IR_cmpop_ne || op == IR_cmpop_lt;
        if (!rt_is_float(t->dtype)) return fold_make_int(x, result, !strict);
        if (op == IR_cmpop_lt) return fold_make_int(x, result, 0);
    }
    if (rt_is_int(t->dtype) && !rt_is_signed(t->dtype)) {
        if (op == IR_cmpop_lt && fold_is(x, 1, 0)) return fold_make_int(x, result, 0);
        if (op == IR_cmpop_le && fold_is(x, 0, 0)) return fold_make_int(x, result, 1);
    }
    return fold_none;
}

static ir_ref fold_select(const fold *x) {
    const void *p = fold_splat(x, x->in[0]);
    if (x->in[1].i == x->in[2].i) return x->in[1];
    if (p) return fold_int(IG_bool, p) ? x->in[1] : x->in[2];
    if (fold_type(x, 1)->dtype != IG_bool) return fold_none;
    if (fold_is(x, 1, 1) && fold_is(x, 2, 0)) return x->in[0];
    if (fold_is(x, 1, 0) && fold_is(x, 2, 1)) return ir_emit1(x->b, OP_lnot, NULL, x->in[0]);
    return fold_none;
}

/* Bits of precision: of a float's significand, or of the magnitude of an integer. */
static int fold_precision(ig_dtype d) {
    if (d == IG_bool) return 1;
    if (!rt_is_float(d)) return 8 * (int)rt_dtype_bytes(d) - (rt_is_signed(d) ? 1 : 0);
    return d == IG_f16 ? 11 : d == IG_bf16 ? 8 : d == IG_f32 ? 24 : 53;
}

/* Whether every value of type a has exactly that value in type b. */
static bool fold_is_exact(ig_dtype a, ig_dtype b) {
    if (a == b || a == IG_bool) return true;
    if (b == IG_bool || fold_precision(a) > fold_precision(b)) return false;
    if (rt_is_float(a)) return rt_is_float(b) && rt_dtype_bytes(b) > rt_dtype_bytes(a);
    return rt_is_float(b) || !rt_is_signed(a) || rt_is_signed(b);
}

/* convert(convert(x)) is one convert when the first keeps the value; not when integers come back
 * from floats, because integers wrap where floats saturate. */
static ir_ref fold_convert(const fold *x) {
    const ir_attr_dtype *a = x->attr;
    ig_dtype to = (ig_dtype)a->dtype, mid = (ig_dtype)fold_type(x, 0)->dtype;
    if (to == mid) return x->in[0];
    const ir_op *o = fold_def(x, x->in[0], OP_convert);
    if (!o) return fold_none;
    ir_ref first = fold_in(x, o, 0);
    ig_dtype from = (ig_dtype)ir_val_type(x->b->f, first)->dtype;
    if (!fold_is_exact(from, mid)) return fold_none;
    if (from == to) return first;
    if (rt_is_int(from) && rt_is_float(mid) && rt_is_int(to)) return fold_none;
    return ir_emit1(x->b, OP_convert, a, first);
}

/* A bitcast from a float canonicalises NaN, so that a float in the middle stays. */
static ir_ref fold_bitcast(const fold *x) {
    const ir_attr_dtype *a = x->attr;
    const ir_op *o = fold_def(x, x->in[0], OP_bitcast);
    if (a->dtype == fold_type(x, 0)->dtype) return x->in[0];
    if (!o || fold_is_float(x, 0)) return fold_none;
    ir_ref first = fold_in(x, o, 0);
    if (ir_val_type(x->b->f, first)->dtype == a->dtype) return first;
    return ir_emit1(x->b, OP_bitcast, a, first);
}

/* --- Movement -------------------------------------------------------------------------------- */

static ir_ref fold_dim(const fold *x) {
    const ir_attr_extent *a = x->attr;
    return ir_dim_is_const(a->n) ? ir_const_i(x->b, IG_i64, a->n) : (ir_ref){0};
}

static ir_ref fold_reshape(const fold *x) {
    const ir_attr_dims *a = x->attr;
    ir_type t = ir_tensor_type((ig_dtype)fold_type(x, 0)->dtype, a->dims.n, a->dims.d);
    if (ir_same_dims(&t, fold_type(x, 0))) return x->in[0];
    const ir_op *o = fold_def(x, x->in[0], OP_reshape);
    if (o) return ir_emit1(x->b, OP_reshape, a, fold_in(x, o, 0));
    return fold_move_splat(x, t);
}

static ir_ref fold_transpose(const fold *x) {
    const ir_attr_perm *a = x->attr;
    const ir_type *t = fold_type(x, 0);
    ir_type result = *t;
    bool moves = false;
    for (int i = 0; i < a->perm.n; i++) {
        moves |= a->perm.a[i] != i;
        result.dim[i] = t->dim[a->perm.a[i]];
    }
    if (!moves) return x->in[0];
    const ir_op *o = fold_def(x, x->in[0], OP_transpose);
    if (!o) return fold_move_splat(x, result);
    ir_attr_perm both = *(const ir_attr_perm *)fold_attr(x, o), first = both;
    for (int i = 0; i < a->perm.n; i++) both.perm.a[i] = first.perm.a[a->perm.a[i]];
    return ir_emit1(x->b, OP_transpose, &both, fold_in(x, o, 0));
}

static ir_ref fold_broadcast(const fold *x) {
    const ir_attr_bcast *a = x->attr;
    ir_type t = ir_tensor_type((ig_dtype)fold_type(x, 0)->dtype, a->dims.n, a->dims.d);
    if (ir_same_dims(&t, fold_type(x, 0))) return x->in[0]; /* axes increase: each is its own */
    const ir_op *o = fold_def(x, x->in[0], OP_broadcast);
    if (!o) return fold_none;
    ir_attr_bcast both = *a;
    const ir_attr_bcast *first = fold_attr(x, o);
    both.axes = first->axes;
    for (int i = 0; i < both.axes.n; i++) both.axes.a[i] = a->axes.a[first->axes.a[i]];
    return ir_emit1(x->b, OP_broadcast, &both, fold_in(x, o, 0));
}

/* Whether the type rule takes this; a proof about dims may be lost when two ops become one. */
static bool fold_fits(const fold *x, ir_opcode op, const void *attr, ir_ref operand) {
    ir_type out[IR_MAX_RESULTS];
    const ir_type *in = ir_val_type(x->b->f, operand);
    ir_infer c = {.m = x->b->m, .op = op, .nin = 1, .in = in, .attr = attr, .out = out};
    return ir_infer_types(&c);
}

/* Result type of this op by the type rule. */
static bool fold_result(const fold *x, ir_type *out_) {
    ir_type in[FOLD_MAX_NIN], out[IR_MAX_RESULTS];
    if (x->nin > FOLD_MAX_NIN) return false;
    for (int k = 0; k < x->nin; k++) in[k] = *fold_type(x, k);
    ir_infer c = {.m = x->b->m, .op = x->op, .nin = x->nin, .in = in, .attr = x->attr, .out = out};
    if (!ir_infer_types(&c) || c.nout != 1) return false;
    *out_ = out[0];
    return true;
}

/* The window of a window.  A first step above 1 needs numbers; the end moves to just behind the
 * last element taken, so that it stays within bounds. */
static bool fold_compose_slice(const fold *x, const ir_attr_slice *one, const ir_attr_slice *two,
                               ir_attr_slice *both) {
    ir_module *m = x->b->m;
    *both = *two;
    for (int i = 0; i < two->lo.n; i++) {
        ir_dim lo = two->lo.d[i], hi = two->hi.d[i];
        int64_t step = one->step.v[i];
        if (step == 1) {
            both->lo.d[i] = ir_dim_add(m, one->lo.d[i], lo);
            both->hi.d[i] = ir_dim_add(m, one->lo.d[i], hi);
        } else {
            if (lo < 0 || hi < 0 || one->lo.d[i] < 0) return false;
            both->lo.d[i] = lo == hi ? one->lo.d[i]
                                     : ir_dim_add(m, one->lo.d[i], ir_dim_mul(m, lo, step));
            both->hi.d[i] =
                lo == hi
                    ? one->lo.d[i]
                    : ir_dim_add(m, ir_dim_add(m, one->lo.d[i], ir_dim_mul(m, hi - 1, step)), 1);
            if (__builtin_mul_overflow(step, two->step.v[i], &both->step.v[i])) return false;
        }
        if (both->lo.d[i] == IR_DIM_BAD || both->hi.d[i] == IR_DIM_BAD) return false;
    }
    return true;
}

static ir_ref fold_slice(const fold *x) {
    const ir_attr_slice *a = x->attr;
    const ir_type *t = fold_type(x, 0);
    ir_type result;
    bool whole = true;
    for (int i = 0; i < t->rank; i++)
        whole &= a->lo.d[i] == 0 && a->hi.d[i] == t->dim[i] &&
                 (a->step.v[i] == 1 || t->dim[i] == 1);
    if (whole) return x->in[0];
    if (fold_splat(x, x->in[0]) && fold_result(x, &result)) return fold_move_splat(x, result);
    const ir_op *o = fold_def(x, x->in[0], OP_slice);
    ir_attr_slice both;
    if (!o || !fold_compose_slice(x, fold_attr(x, o), a, &both)) return fold_none;
    if (!fold_fits(x, OP_slice, &both, fold_in(x, o, 0))) return fold_none;
    return ir_emit1(x->b, OP_slice, &both, fold_in(x, o, 0));
}

static ir_ref fold_pad(const fold *x) {
    const ir_attr_pad *a = x->attr;
    const ir_type *t = fold_type(x, 0);
    const void *e = fold_splat(x, x->in[0]), *v = fold_splat(x, x->in[1]);
    ir_type result;
    bool none = true;
    for (int i = 0; i < t->rank; i++)
        none &= a->lo.d[i] == 0 && a->hi.d[i] == 0 && (a->interior.v[i] == 0 || t->dim[i] == 1);
    if (none) return x->in[0];
    if (e && v && !memcmp(e, v, rt_dtype_bytes(t->dtype)) && fold_result(x, &result))
        return fold_move_splat(x, result);
    return fold_none;
}

static ir_ref fold_concat(const fold *x) {
    const ir_attr_axis *a = x->attr;
    ir_ref kept[FOLD_MAX_NIN];
    int n = 0;
    if (x->nin > FOLD_MAX_NIN) return fold_none;
    for (int k = 0; k < x->nin; k++)
        if (fold_type(x, k)->dim[a->axis] != 0) kept[n++] = x->in[k];
    if (n == x->nin && n > 1) return fold_none;
    return n <= 1 ? n ? kept[0] : x->in[0] : ir_emit(x->b, OP_concat, a, n, kept);
}

static ir_ref fold_reverse(const fold *x) {
    const ir_attr_axes *a = x->attr;
    const ir_type *t = fold_type(x, 0);
    const ir_op *o = fold_def(x, x->in[0], OP_reverse);
    unsigned set = 0, before = 0;
    for (int i = 0; i < a->axes.n; i++)
        if (t->dim[a->axes.a[i]] != 1 && t->dim[a->axes.a[i]] != 0) set |= 1u << a->axes.a[i];
    if (!set || fold_splat(x, x->in[0])) return x->in[0];
    if (!o) return fold_none;
    const ir_attr_axes *first = fold_attr(x, o);
    for (int i = 0; i < first->axes.n; i++) before |= 1u << first->axes.a[i];
    ir_attr_axes both = {.axes = {.n = 0}};
    for (uint8_t i = 0; i < t->rank; i++)
        if ((set ^ before) >> i & 1) both.axes.a[both.axes.n++] = i;
    return ir_emit1(x->b, OP_reverse, &both, fold_in(x, o, 0));
}

/* A window of the whole extent starts at 0 after clamping; an empty one changes nothing. */
static ir_ref fold_dupdate(const fold *x) {
    const ir_type *t = fold_type(x, 0), *u = fold_type(x, 1);
    for (int i = 0; i < u->rank; i++)
        if (u->dim[i] == 0) return x->in[0];
    if (((const ir_attr_dupd *)x->attr)->op == IR_setop_set && ir_same_dims(t, u)) return x->in[1];
    return fold_none;
}

/* --- Index tensors and order ------------------------------------------------------------------ */

/* Any element of a splat is its element; with fill, 0 may be another. */
static ir_ref fold_gather(const fold *x) {
    const ir_attr_gather *a = x->attr;
    ir_type type;
    if (a->oob != IR_oob_clamp && !ir_is_splat(x->b->f, x->in[0], 0)) return fold_none;
    return ir_splat(x->b->f, x->in[0]) && fold_result(x, &type) ? fold_move_splat(x, type)
                                                                : fold_none;
}

/* Nothing is put. */
static ir_ref fold_scatter(const fold *x) {
    const ir_type *u = fold_type(x, 1);
    for (int i = 0; i < u->rank; i++)
        if (u->dim[i] == 0) return x->in[0];
    return fold_none;
}

/* One operand with lines of at most one element. */
static ir_ref fold_sort(const fold *x) {
    ir_dim n = fold_type(x, 0)->dim[((const ir_attr_sort *)x->attr)->axis];
    return x->nin == 1 && (n == 0 || n == 1) ? x->in[0] : fold_none;
}

/* --- Reductions and contractions ------------------------------------------------------------- */

/* Over one element: the element, but for float sums (+0 + -0 is +0) and arg*, which is 0. */
static ir_ref fold_reduce(const fold *x) {
    const ir_attr_reduce *a = x->attr;
    const ir_type *t = fold_type(x, 0);
    ir_type result;
    for (int i = 0; i < a->axes.n; i++)
        if (t->dim[a->axes.a[i]] != 1) return fold_none;
    if (!fold_result(x, &result)) return fold_none;
    if (a->op == IR_redop_argmax || a->op == IR_redop_argmin) return fold_make_int(x, result, 0);
    if (a->op == IR_redop_sum && rt_is_float(t->dtype)) return fold_none;
    ir_attr_dims dims = {.dims = {.n = result.rank}};
    memcpy(dims.dims.d, result.dim, sizeof result.dim);
    return ir_emit1(x->b, OP_reshape, &dims, x->in[0]);
}

/* One operand: the order of max and min is free, and a product of nothing else is a movement. */
static ir_ref fold_ein(const fold *x) {
    const ir_rel *r = &((const ir_attr_ein *)x->attr)->rel;
    ir_ein_steps steps;
    if (r->nin != 1 || !ir_ein_is_plain(r) || (r->monoid == IR_redop_prod && r->norder))
        return fold_none;
    ir_ein_sum_steps(r, &steps);
    steps.reduce.op = r->monoid;
    ir_ref y = x->in[0];
    if (steps.moves_first) y = ir_emit1(x->b, OP_transpose, &steps.first, y);
    if (steps.reduce.axes.n) y = ir_emit1(x->b, OP_reduce, &steps.reduce, y);
    return steps.moves_last ? ir_emit1(x->b, OP_transpose, &steps.last, y) : y;
}

/* --- Constants ------------------------------------------------------------------------------- */

/* A constant operand as the reference reads it. */
static bool fold_tensor(const fold *x, ir_ref r, ir_tensor *out_) {
    const ir_op *o = fold_def(x, r, OP_const);
    if (!o) return false;
    const ir_attr_const *c = fold_attr(x, o);
    *out_ = (ir_tensor){.dtype = c->type.dtype, .rank = c->type.rank};
    memcpy(out_->dim, c->type.dim, sizeof out_->dim);
    if (c->type.lanes) {
        out_->rank = 1;
        out_->dim[0] = c->type.lanes;
    }
    out_->data = (void *)(uintptr_t)c->data.bytes; /* read only */
    return c->data.n <= FOLD_MAX_OPERAND * rt_dtype_bytes(c->type.dtype);
}

/* Evaluate on the reference; false when it is not to be folded. */
static bool fold_eval(const fold *x, const ir_tensor *in, ir_tensor *out) {
    ig_status s = ir_ref_op(x->b->m->alloc, x->b->m->class, x->op, x->attr, x->nin, in, 1, out);
    if (!s) return true;
    if (ig_status_code(s) == IG_MEMORY)
        ir_build_error(x->b, s);
    else
        ig_status_free(s);
    return false;
}

/* All operands are constants, and the result is small. */
static ir_ref fold_constants(const fold *x, const ir_type *type) {
    ir_tensor in[FOLD_MAX_NIN], out = {.dtype = type->dtype, .rank = type->rank};
    uint64_t data[FOLD_MAX_RESULT];
    size_t n = type->lanes ? type->lanes : 1;
    for (int k = 0; k < x->nin; k++)
        if (!fold_tensor(x, x->in[k], &in[k])) return fold_none;
    for (int i = 0; i < type->rank; i++) {
        if (type->dim[i] < 0 || type->dim[i] > FOLD_MAX_RESULT) return fold_none;
        n *= (size_t)type->dim[i];
        if (n > FOLD_MAX_RESULT) return fold_none;
        out.dim[i] = type->dim[i];
    }
    if (n > FOLD_MAX_RESULT) return fold_none;
    if (type->lanes) {
        out.rank = 1;
        out.dim[0] = type->lanes;
    }
    out.data = data;
    if (!fold_eval(x, in, &out)) return fold_none;
    return ir_const(x->b, *type, data, n * rt_dtype_bytes(type->dtype));
}

/* All operands of an elementwise op are splats: so is the result, at any size. */
static ir_ref fold_splats(const fold *x, const ir_type *type) {
    ir_tensor in[FOLD_MAX_NIN] = {{0}}, out = {.dtype = type->dtype};
    uint64_t element = 0;
    for (int k = 0; k < x->nin; k++) {
        const void *e = fold_splat(x, x->in[k]);
        if (!e) return fold_none;
        in[k] = (ir_tensor){.dtype = fold_type(x, k)->dtype, .data = (void *)(uintptr_t)e};
    }
    out.data = &element;
    if (!fold_eval(x, in, &out)) return fold_none;
    return fold_make_splat(x, *type, &element);
}

/* Evaluate what has a value already.  A broadcast of a splat is left: it is the splat's form. */
static ir_ref fold_value(const fold *x) {
    const ir_op_info *info = &ir_op_tab[x->op];
    ir_type type;
    if (!x->nin || x->nin > FOLD_MAX_NIN || info->level == 'k' || x->op == OP_call ||
        x->op == OP_custom)
        return fold_none;
    for (int k = 0; k < x->nin; k++) {
        const ir_op *o = ir_def_op(x->b->f, x->in[k]);
        if (!o || (o->code != OP_const && !fold_splat(x, x->in[k]))) return fold_none;
    }
    if (x->op == OP_broadcast && fold_splat(x, x->in[0])) return fold_none;
    if (!fold_result(x, &type)) return fold_none;
    ir_ref r = fold_constants(x, &type);
    if (r.i || x->b->error || !info->elementwise) return r;
    return fold_splats(x, &type);
}

/* --- The table ------------------------------------------------------------------------------- */

typedef ir_ref (*fold_rule)(const fold *x);
#define fold__ NULL
static const fold_rule fold_tab[OP_END] = {
#define F(...)
#define R(rule, ...)                                              fold_##rule
#define OP(name, ver, n, level, attr, type, domain, flags, rules) [OP_##name] = rules,
#include "ir/ops.def"
#undef OP
#undef R
#undef F
};

ir_ref ir_fold(ir_builder *b, ir_opcode op, const void *attr, int nin, const ir_ref *in) {
    fold x = {.b = b, .op = op, .attr = attr, .nin = nin, .in = in};
    if (b->error || ir_op_tab[op].effect) return fold_none;
    ir_ref r = fold_tab[op] ? fold_tab[op](&x) : fold_none;
    return r.i || b->error ? r : fold_value(&x);
}
