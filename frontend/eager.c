/* eager.c - running an op: the one function every op goes through, and what prepares its operands.
 *
 * fe_op checks the operands by the op's type rule, allocates the result, evaluates the op by the
 * reference and, when a trace is under way, appends it to the recording.  Frontend code computes
 * shapes in ir_dim: in a trace these are the dims of the recorded types, symbolic where the user
 * said so, so that what is recorded holds for every size; the attribute that is executed is the
 * recorded one evaluated under the example's sizes.  Broadcasting and conversion are ops of their
 * own (ir.md 4.1). */
#include "frontend/fe.h"
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- Texts of types ------------------------------------------------------------------------ */

/* Lend the one buffer of a text. */
static void *eager_lend(void *user, void *ptr, size_t old_size, size_t new_size, size_t align) {
    (void)ptr, (void)old_size, (void)align;
    return new_size && new_size <= sizeof(fe_text) ? user : NULL;
}

static ir_type eager_plain_type(const ig_tensor *t) {
    return ir_tensor_type((ig_dtype)t->dtype, t->rank, t->dim);
}

fe_text fe_type_text(const fe_call *c, const ig_tensor *t) {
    fe_text text = {{0}};
    ig_allocator lend = {eager_lend, text.s};
    ir_type plain = eager_plain_type(t);
    const ir_type *known = c->s->rec ? fe_rec_known(c->s->rec, t) : NULL;
    rt_str s;
    rt_str_init(&s, &lend);
    ir_type_print(fe_module(c), known ? known : &plain, &s);
    return text;
}

fe_text fe_dim_text(const fe_call *c, ir_dim d) {
    fe_text text = {{0}};
    ig_allocator lend = {eager_lend, text.s};
    rt_str s;
    rt_str_init(&s, &lend);
    if (d == IR_DIM_BAD)
        rt_str_puts(&s, "(too large)");
    else
        ir_dim_print(fe_module(c), d, &s);
    return text;
}

/* --- Dims ---------------------------------------------------------------------------------- */

ir_module *fe_module(const fe_call *c) { return c->s->rec ? fe_rec_module(c->s->rec) : NULL; }

ir_dims fe_dims(const fe_call *c, const ig_tensor *t) {
    const ir_type *known = c->s->rec ? fe_rec_known(c->s->rec, t) : NULL;
    const ir_dim *d = known ? known->dim : t->dim;
    ir_dims r = {.n = t->rank};
    for (int i = 0; i < t->rank; i++) r.d[i] = d[i];
    return r;
}

/* Symbolic dims reach the user as numbers far below zero, which only lists of extents understand.
 */
#define EXTENT_BASE (INT64_MIN / 2)

int64_t ig_extent(const ig_tensor *t, int axis) {
    int64_t plain = ig_dim(t, axis);
    if (plain < 0 || fe_is_poison(t) || !t->session->stream.rec) return plain;
    const ir_type *known = fe_rec_known(t->session->stream.rec, t);
    if (!known) return plain;
    ir_dim d = known->dim[axis < 0 ? axis + t->rank : axis];
    return ir_dim_is_const(d) ? d : d + EXTENT_BASE;
}

bool fe_user_dims(fe_call *c, ig_dims dims, bool infer, ir_dims *out_) {
    int left = 0;
    if (dims.n < 0 || dims.n > IG_MAX_RANK) {
        fe_error(c, IG_INVALID, "%d dims; a tensor has 0 to %d", dims.n, IG_MAX_RANK);
        return false;
    }
    memset(out_, 0, sizeof *out_);
    out_->n = (uint8_t)dims.n;
    for (int i = 0; i < dims.n; i++) {
        int64_t d = dims.d[i];
        bool symbolic = d < EXTENT_BASE && d > INT64_MIN && c->s->rec;
        if (infer && d == -1) left++;
        if ((d < 0 && !symbolic && !(infer && d == -1)) || left > 1) {
            fe_error(c, IG_RANGE, "dim %d is %lld; %s", i, (long long)d,
                     left > 1 ? "only one may be -1" : "extents are at least 0");
            return false;
        }
        out_->d[i] = symbolic ? d - EXTENT_BASE : d < 0 ? IR_DIM_BAD : d;
    }
    return true;
}

bool fe_axis(fe_call *c, int axis, int rank, int *out_) {
    if (axis >= -rank && axis < rank) {
        *out_ = axis < 0 ? axis + rank : axis;
        return true;
    }
    fe_error(c, IG_RANGE, "axis %d of a tensor of rank %d: axes go from %d to %d", axis, rank,
             -rank, rank - 1);
    return false;
}

bool fe_axes(fe_call *c, ig_axes axes, int rank, ir_axes *out_) {
    unsigned seen = 0;
    memset(out_, 0, sizeof *out_);
    if (axes.n < 0 || axes.n > IG_MAX_RANK) {
        fe_error(c, IG_INVALID, "%d axes; a tensor has at most %d", axes.n, IG_MAX_RANK);
        return false;
    }
    for (int i = 0; !axes.all && i < axes.n; i++) {
        int axis;
        if (!fe_axis(c, axes.a[i], rank, &axis)) return false;
        if (seen >> axis & 1) {
            fe_error(c, IG_INVALID, "axis %d is listed twice", axis);
            return false;
        }
        seen |= 1u << axis;
    }
    for (int i = 0; i < rank; i++)
        if (axes.all || seen >> i & 1) out_->a[out_->n++] = (uint8_t)i;
    return true;
}

/* --- Running an op ------------------------------------------------------------------------- */

/* Room for any attribute. */
typedef union eager_attr {
#define ATTR(name, fields) ir_attr_##name of_##name;
#include "ir/attrs.def"
} eager_attr;

/* The attribute with every dim evaluated under the example's sizes. */
static bool eager_eval_attr(const fe_rec *rec, ir_attr_kind kind, const void *attr,
                            eager_attr *out_) {
    const ir_attr_info *info = &ir_attr_tab[kind];
    memcpy(out_, attr, info->size);
    for (uint32_t i = 0; i < info->nfield; i++) {
        char *at = (char *)out_ + info->field[i].offset;
        if (info->field[i].kind == FIELD_dims) {
            ir_dims *d = (ir_dims *)(void *)at;
            for (int k = 0; k < d->n; k++)
                if (!fe_rec_eval(rec, d->d[k], &d->d[k])) return false;
        } else if (info->field[i].kind == FIELD_dim) {
            if (!fe_rec_eval(rec, *(ir_dim *)(void *)at, (ir_dim *)(void *)at)) return false;
        }
    }
    return true;
}

/* Note where the operands of a failed op were made. */
static ig_status eager_note(fe_call *c, ig_status e, int nin, ig_tensor *const *in) {
    for (int k = 0; k < nin && k < 4; k++)
        if (in[k]->site && in[k]->site != c->site)
            e = rt_status_note(e, "operand %d: %s, made at %s:%d", k, FE_TYPE(in[k]),
                               in[k]->site->file, in[k]->site->line);
    return e;
}

/* Apply the type rule to types; false and the error recorded. */
static bool eager_infer(fe_call *c, ir_module *m, ir_opcode op, const void *attr, int nin,
                        const ir_type *type, ig_tensor *const *in, ir_type *out_) {
    ir_type out[IR_MAX_RESULTS];
    ir_infer rule = {.m = m, .op = op, .nin = nin, .in = type, .attr = attr, .out = out};
    if (ir_infer_types(&rule)) {
        *out_ = out[0];
        return true;
    }
    ig_status e = rt_fail(fe_alloc(c), rule.code, "%s", rule.message);
    if (strcmp(c->op, ir_op_tab[op].name))
        e = rt_status_note(e, "in the op %s that it is made of", ir_op_tab[op].name);
    fe_error_status(c, eager_note(c, e, nin, in));
    return false;
}

/* Whether a float tensor holds a NaN; its first position. */
static bool eager_find_nan(const ig_tensor *t, int64_t *at_) {
    if (!rt_is_float((ig_dtype)t->dtype)) return false;
    int64_t n = fe_numel(t);
    for (int64_t i = 0; i < n; i++)
        if (isnan(fe_get_f64(t, i))) {
            *at_ = i;
            return true;
        }
    return false;
}

/* IG_NAN=1: a NaN none of the operands had is an error. */
static bool eager_trap_nan(fe_call *c, ir_opcode op, int nin, ig_tensor *const *in,
                           const ig_tensor *out) {
    int64_t at, other;
    if (!eager_find_nan(out, &at)) return true;
    for (int k = 0; k < nin; k++)
        if (eager_find_nan(in[k], &other)) return true;
    ig_status e = rt_fail(fe_alloc(c), IG_RANGE,
                          "NaN at element %lld of %s, made by %s from operands without NaN",
                          (long long)at, FE_TYPE(out), ir_op_tab[op].name);
    for (int k = 0; k < nin && k < 3; k++)
        if (ir_is_elementwise(op) && fe_numel(in[k]) > at)
            e = rt_status_note(e, "operand %d there: %.9g", k, fe_get_f64(in[k], at));
    fe_error_status(c, eager_note(c, e, nin, in));
    return false;
}

/* Evaluate by the reference; ops that keep the elements as they are share the buffer. */
static ig_tensor *eager_run(fe_call *c, ir_opcode op, const void *attr, int nin,
                            ig_tensor *const *in, const ir_type *type, ir_tensor *arg) {
    if (op == OP_reshape || op == OP_detach || op == OP_barrier)
        return fe_alias(c, in[0], type->rank, type->dim);
    ig_tensor *out = fe_new(c, (ig_dtype)type->dtype, type->rank, type->dim);
    if (fe_is_poison(out)) return out;
    for (int k = 0; k < nin; k++) arg[k] = fe_ir_tensor(in[k]);
    ir_tensor result = fe_ir_tensor(out);
    ig_status e =
        ir_ref_op_in(c->s->session->ref, c->s->session->class, op, attr, nin, arg, 1, &result);
    if (e) return fe_error_status(c, e);
    if (c->s->session->nan_trap && !eager_trap_nan(c, op, nin, in, out)) return fe_poison(c);
    return out;
}

/* Scratch for the operands of one op: on the stack, or allocated for a long concat. */
#define EAGER_FEW 4
typedef struct eager_scratch {
    ir_type *type;
    ir_tensor *arg;
    ir_type few_types[EAGER_FEW];
    ir_tensor few_args[EAGER_FEW];
} eager_scratch;

static bool eager_scratch_init(fe_call *c, eager_scratch *s, int nin) {
    s->type = s->few_types;
    s->arg = s->few_args;
    if (nin <= EAGER_FEW) return true;
    s->type = rt_alloc(fe_alloc(c), (size_t)nin * sizeof *s->type);
    s->arg = rt_alloc(fe_alloc(c), (size_t)nin * sizeof *s->arg);
    if (s->type && s->arg) return true;
    rt_free(fe_alloc(c), s->type, (size_t)nin * sizeof *s->type);
    rt_free(fe_alloc(c), s->arg, (size_t)nin * sizeof *s->arg);
    fe_error_memory(c);
    return false;
}

static void eager_scratch_free(fe_call *c, eager_scratch *s, int nin) {
    if (s->type == s->few_types) return;
    rt_free(fe_alloc(c), s->type, (size_t)nin * sizeof *s->type);
    rt_free(fe_alloc(c), s->arg, (size_t)nin * sizeof *s->arg);
}

static ig_tensor *eager_op(fe_call *c, ir_opcode op, const void *attr, int nin,
                           ig_tensor *const *in, eager_scratch *s) {
    ir_type known, plain;
    eager_attr now;
    const void *run = attr;
    if (c->s->rec) {
        for (int k = 0; k < nin; k++)
            if (!fe_rec_type(c, in[k], &s->type[k])) return fe_poison(c);
        if (!eager_infer(c, fe_module(c), op, attr, nin, s->type, in, &known)) return fe_poison(c);
        if (!eager_eval_attr(c->s->rec, (ir_attr_kind)ir_op_tab[op].attr, attr, &now))
            return fe_error(c, IG_RANGE, "a dim is too large or negative for the example's sizes");
        run = &now;
    }
    for (int k = 0; k < nin; k++) s->type[k] = eager_plain_type(in[k]);
    if (!eager_infer(c, NULL, op, run, nin, s->type, in, &plain)) return fe_poison(c);
    ig_tensor *out = eager_run(c, op, run, nin, in, &plain, s->arg);
    if (c->s->rec && !fe_is_poison(out) && !fe_rec_append(c, op, attr, nin, in, &known, out))
        return fe_poison(c);
    return out;
}

ig_tensor *fe_op(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor *const *in) {
    eager_attr none = {0};
    eager_scratch s;
    for (int k = 0; k < nin; k++)
        if (!fe_is_usable(c, in[k], k)) return fe_poison(c);
    if (!eager_scratch_init(c, &s, nin)) return fe_poison(c);
    ig_tensor *out = eager_op(c, op, attr ? attr : &none, nin, in, &s);
    eager_scratch_free(c, &s, nin);
    return out;
}

/* --- Numbers of the host ------------------------------------------------------------------- */

/* Whether an integer fits an integer type. */
static bool eager_fits(ig_dtype d, bool negative, uint64_t magnitude) {
    unsigned bits = (unsigned)(8 * rt_dtype_bytes(d));
    uint64_t max = rt_is_signed(d) ? ((uint64_t)1 << (bits - 1)) - !negative
                   : bits == 64    ? UINT64_MAX
                                   : ((uint64_t)1 << bits) - 1;
    if (negative) return rt_is_signed(d) && magnitude <= max;
    return magnitude <= max;
}

/* The bytes of a float element, rounded once. */
static void eager_put_float(ig_dtype d, double x, void *out) {
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
        eager_put_float(d, f, &word);
    } else if (x.kind == IG_ARG_FLOAT) {
        return fe_error(
            c, IG_DTYPE,
            "the number %g beside a tensor of %s: cast the tensor to a float type first", x.v.f,
            ig_dtype_name(d));
    } else if (d == IG_bool ? negative || magnitude > 1 : !eager_fits(d, negative, magnitude)) {
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
static ig_dtype eager_meet(ig_dtype a, ig_dtype b) {
    if (a == b) return a;
    if (rt_is_float(a) && rt_is_int(b)) return a;
    if (rt_is_int(a) && rt_is_float(b)) return b;
    return IG_NONE;
}

/* The type of the operands together; IG_NONE after an error. */
static ig_dtype eager_common(fe_call *c, int n, const ig_arg *args) {
    ig_dtype d = IG_NONE;
    int first = 0;
    for (int k = 0; k < n; k++) {
        if (args[k].kind != IG_ARG_TENSOR) continue;
        const ig_tensor *t = args[k].v.t;
        if (!fe_is_usable(c, t, k)) return IG_NONE;
        if (d == IG_NONE) {
            d = (ig_dtype)t->dtype;
            first = k;
        } else if (eager_meet(d, (ig_dtype)t->dtype) == IG_NONE) {
            fe_error(c, IG_DTYPE,
                     "%s and %s have different element types: write ig_cast(x, IG_%s) or "
                     "ig_cast(y, IG_%s)",
                     FE_TYPE(args[first].v.t), FE_TYPE(t), ig_dtype_name((ig_dtype)t->dtype),
                     ig_dtype_name(d));
            return IG_NONE;
        } else {
            d = eager_meet(d, (ig_dtype)t->dtype);
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

bool fe_promote(fe_call *c, int n, const ig_arg *args, ig_tensor **out_) {
    ig_dtype d = eager_common(c, n, args);
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
static int eager_merge(ir_dims *x, const ir_dims *y) {
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
    int n = x.n > y.n ? x.n : y.n, axis = eager_merge(&x, &y);
    *out_ = x;
    if (axis < 0) return true;
    ig_tensor *in[2] = {a, b};
    ir_dim p = x.d[axis - n + x.n], q = y.d[axis - n + y.n];
    ig_status e =
        rt_fail(fe_alloc(c), IG_SHAPE, "%s vs %s: dim %d: %s != %s%s", FE_TYPE(a), FE_TYPE(b), axis,
                FE_DIM(p), FE_DIM(q),
                ir_dim_is_const(p) && ir_dim_is_const(q) ? "" : " for every size declared");
    fe_error_status(c, eager_note(c, e, 2, in));
    return false;
}

bool fe_spread(fe_call *c, int n, ig_tensor **t) {
    ir_dims dims = {0}, pair;
    for (int k = 0; k < n; k++) {
        if (fe_is_poison(t[k])) return false;
        ir_dims d = fe_dims(c, t[k]);
        if (eager_merge(&dims, &d) < 0) continue;
        for (int j = 0; j < k; j++) /* some pair is at fault */
            if (!fe_broadcast_dims(c, t[j], t[k], &pair)) return false;
    }
    for (int k = 0; k < n; k++)
        if (fe_is_poison(t[k] = fe_expand(c, t[k], &dims))) return false;
    return true;
}

bool fe_unify(fe_call *c, int n, const ig_arg *args, ig_tensor **out_) {
    return fe_promote(c, n, args, out_) && fe_spread(c, n, out_);
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
