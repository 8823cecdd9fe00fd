/* operands.c - what an op is given: numbers of the host, promotion to one element type,
 * broadcasting to one shape. */
#include "frontend/fe.h"
#include <string.h>

/* --- Numbers of the host ------------------------------------------------------------------- */

/* Whether an integer fits an integer type. */
static bool operands_fits(ig_dtype d, bool negative, uint64_t magnitude) {
    unsigned bits = (unsigned)(8 * rt_dtype_bytes(d));
    uint64_t max = rt_is_signed(d) ? ((uint64_t)1 << (bits - 1)) - !negative
                   : bits == 64    ? UINT64_MAX
                                   : ((uint64_t)1 << bits) - 1;
    if (negative) return rt_is_signed(d) && magnitude <= max;
    return magnitude <= max;
}

/* The bytes of a float element, rounded once. */
static void operands_put_float(ig_dtype d, double x, void *out) {
    if (d == IG_f64) memcpy(out, &x, sizeof x);
    if (d == IG_f32) {
        float f = (float)x;
        memcpy(out, &f, sizeof f);
    }
    if (d == IG_f16 || d == IG_bf16) {
        uint16_t h = d == IG_f16 ? rt_f64_to_f16(x) : rt_f64_to_bf16(x);
        memcpy(out, &h, sizeof h);
    }
}

ig_tensor *fe_number(fe_call *c, ig_dtype d, ig_arg x) {
    uint64_t word = 0;
    bool negative = x.kind != IG_ARG_FLOAT && x.kind != IG_ARG_UINT && x.v.i < 0;
    uint64_t magnitude = negative ? 0 - (uint64_t)x.v.i : x.v.u;
    if (!fe_is_dtype(d)) return fe_error(c, IG_DTYPE, "%d is not an element type", (int)d);
    if (rt_is_float(d)) {
        double f = x.kind == IG_ARG_FLOAT ? x.v.f : negative ? (double)x.v.i : (double)magnitude;
        operands_put_float(d, f, &word);
    } else if (x.kind == IG_ARG_FLOAT) {
        return fe_error(
            c, IG_DTYPE,
            "the number %g beside a tensor of %s: cast the tensor to a float type first", x.v.f,
            ig_dtype_name(d));
    } else if (d == IG_bool ? negative || magnitude > 1 : !operands_fits(d, negative, magnitude)) {
        return fe_error(c, IG_RANGE, "the number %s%llu does not fit %s", negative ? "-" : "",
                        (unsigned long long)magnitude, ig_dtype_name(d));
    } else {
        word = negative ? 0 - magnitude
                        : magnitude; /* little-endian: the low bytes are the element */
    }
    return fe_leaf(c, d, 0, NULL, &word);
}

ig_tensor *fe_arg(fe_call *c, ig_arg a) {
    if (a.kind == IG_ARG_TENSOR) return fe_is_usable(c, a.v.t, 0) ? a.v.t : fe_poison(c);
    return fe_number(c,
                     a.kind == IG_ARG_FLOAT  ? IG_f32
                     : a.kind == IG_ARG_BOOL ? IG_bool
                                             : IG_i64,
                     a);
}

/* --- Promotion (ir.md 4.1) ----------------------------------------------------------------- */

/* The type two tensors meet in; IG_NONE when they do not. */
static ig_dtype operands_meet(ig_dtype a, ig_dtype b) {
    if (a == b) return a;
    if (rt_is_float(a) && rt_is_int(b)) return a;
    if (rt_is_int(a) && rt_is_float(b)) return b;
    return IG_NONE;
}

/* The type of the operands together; IG_NONE after an error. */
static ig_dtype operands_common(fe_call *c, int n, const ig_arg *args) {
    ig_dtype d = IG_NONE;
    int first = 0;
    for (int k = 0; k < n; k++) {
        if (args[k].kind != IG_ARG_TENSOR) continue;
        const ig_tensor *t = args[k].v.t;
        if (!fe_is_usable(c, t, k)) return IG_NONE;
        if (d == IG_NONE) {
            d = (ig_dtype)t->dtype;
            first = k;
        } else if (operands_meet(d, (ig_dtype)t->dtype) == IG_NONE) {
            fe_error(c, IG_DTYPE,
                     "%s and %s have different element types: write ig_cast(x, IG_%s) or "
                     "ig_cast(y, IG_%s)",
                     FE_TYPE(args[first].v.t), FE_TYPE(t), ig_dtype_name((ig_dtype)t->dtype),
                     ig_dtype_name(d));
            return IG_NONE;
        } else {
            d = operands_meet(d, (ig_dtype)t->dtype);
        }
    }
    for (int k = 0; d == IG_NONE && k < n; k++)
        if (args[k].kind == IG_ARG_FLOAT) d = IG_f32;
    for (int k = 0; d == IG_NONE && k < n; k++)
        if (args[k].kind != IG_ARG_BOOL) d = IG_i64;
    return d == IG_NONE ? IG_bool : d;
}

ig_tensor *fe_convert(fe_call *c, ig_tensor *t, ig_dtype dtype) {
    ir_attr_dtype attr = {.dtype = (uint8_t)dtype};
    if (t->dtype == dtype || fe_is_poison(t)) return t;
    return fe_op1(c, OP_convert, &attr, t);
}

/* Tensors of one element type are what they are promoted to. */
static bool operands_alike(fe_call *c, int n, const ig_arg *args, ig_tensor **out_) {
    for (int k = 0; k < n; k++) {
        out_[k] = args[k].v.t;
        if (args[k].kind != IG_ARG_TENSOR || !fe_is_usable(c, out_[k], k) ||
            out_[k]->dtype != out_[0]->dtype)
            return false;
    }
    return true;
}

bool fe_promote(fe_call *c, int n, const ig_arg *args, ig_tensor **out_) {
    if (operands_alike(c, n, args, out_)) return true;
    ig_dtype d = operands_common(c, n, args);
    if (d == IG_NONE) return false;
    for (int k = 0; k < n; k++) {
        out_[k] = args[k].kind == IG_ARG_TENSOR ? fe_convert(c, args[k].v.t, d)
                                                : fe_number(c, d, args[k]);
        if (fe_is_poison(out_[k])) return false;
    }
    return true;
}

/* --- Broadcasting -------------------------------------------------------------------------- */

/* Merge dims y into x, aligned at the last axis; the axis of the result where they differ, or -1.
 */
static int operands_merge(ir_dims *x, const ir_dims *y) {
    ir_dims r = {.n = x->n > y->n ? x->n : y->n};
    for (int i = r.n; i > 0; i--) { /* counted from the last axis */
        ir_dim p = i <= x->n ? x->d[x->n - i] : 1, q = i <= y->n ? y->d[y->n - i] : 1;
        if (p != q && p != 1 && q != 1) return r.n - i;
        r.d[r.n - i] = p == 1 ? q : p;
    }
    *x = r;
    return -1;
}

bool fe_broadcast_dims(fe_call *c, ig_tensor *a, ig_tensor *b, ir_dims *out_) {
    ir_dims x = fe_dims(c, a), y = fe_dims(c, b);
    int n = x.n > y.n ? x.n : y.n, axis = operands_merge(&x, &y);
    *out_ = x;
    if (axis < 0) return true;
    ig_tensor *in[2] = {a, b};
    ir_dim p = x.d[axis - n + x.n], q = y.d[axis - n + y.n];
    ig_status e =
        rt_fail(fe_alloc(c), IG_SHAPE, "%s vs %s: dim %d: %s != %s%s", FE_TYPE(a), FE_TYPE(b), axis,
                FE_DIM(p), FE_DIM(q),
                ir_dim_is_const(p) && ir_dim_is_const(q) ? "" : " for every size declared");
    fe_error_status(c, fe_note_operands(c, e, 2, in));
    return false;
}

bool fe_spread(fe_call *c, int n, ig_tensor **t) {
    ir_dims dims = {0}, pair;
    for (int k = 0; k < n; k++) {
        if (fe_is_poison(t[k])) return false;
        ir_dims d = fe_dims(c, t[k]);
        if (operands_merge(&dims, &d) < 0) continue;
        for (int j = 0; j < k; j++) /* some pair is at fault */
            if (!fe_broadcast_dims(c, t[j], t[k], &pair)) return false;
    }
    for (int k = 0; k < n; k++)
        if (fe_is_poison(t[k] = fe_expand(c, t[k], &dims))) return false;
    return true;
}

ig_tensor *fe_expand(fe_call *c, ig_tensor *t, const ir_dims *dims) {
    ir_dims have = fe_dims(c, t);
    if (fe_is_poison(t)) return t;
    if (have.n == dims->n && !memcmp(have.d, dims->d, sizeof(ir_dim) * have.n)) return t;
    if (have.n > dims->n)
        return fe_error(c, IG_SHAPE, "%s cannot be broadcast to %d dims", FE_TYPE(t), dims->n);
    ir_attr_bcast attr = {.dims = *dims};
    attr.axes.n = have.n;
    for (int i = 0; i < have.n; i++) attr.axes.a[i] = (uint8_t)(i + dims->n - have.n);
    return fe_op1(c, OP_broadcast, &attr, t);
}

ig_tensor *fe_fill(fe_call *c, ig_tensor *scalar, const ir_dims *dims) {
    return fe_expand(c, scalar, dims);
}

ig_tensor *fe_iota(fe_call *c, ig_dtype dtype, const ir_dims *dims, int axis) {
    ir_attr_iota attr = {.dtype = (uint8_t)dtype, .dims = *dims, .axis = axis};
    return fe_op(c, OP_iota, &attr, 0, NULL);
}
