/* infer.c - the type rules: which operands an op takes and what it gives.
 *
 * ir_infer_types is the only place that knows; the builder, the parser, the verifier and eager
 * calls all ask it.  One static function type_<rule> stands behind each token of the `type` column
 * of ops.def.  A rule reads c->in and c->attr, sets c->out and c->nout, or fails with a message for
 * the user: both shapes, the axis, and what to do.  The caller adds the op's name and the place.
 * The arity was checked against the table before; the attribute's numbers may be anything (files
 * are hostile), so a rule checks every count and axis before it uses it.
 *
 * What the rules accept:
 *   num         operands of one type, integers or floats; the result has that type
 *   float, int  the same, floats only or integers only
 *   bits        integers or bool
 *   any2        num or bool (max is `or`, min is `and`)
 *   cmp         two of one type, any; bool of the same shape
 *   select      bool, then two of one type, all of one shape
 *   convert     any to any;  bitcast: the same width, no bool;  same: one operand of any type
 *   reshape     dims with provably the same product
 *   broadcast   dims is the result shape, axes[i] (increasing) the result axis of operand axis i;
 *               the two extents are equal, or the operand's is 1 and stretches
 *   slice       0 <= lo <= hi <= extent, provably; step > 0
 *   pad         the value is a scalar of the same type; lo, hi, interior >= 0 (to cut, slice)
 *   concat      one type and rank, equal extents off the axis
 *   reverse     increasing axes (so is every list of axes: one spelling for one meaning)
 *   dslice      x, one i64 scalar an axis; dims = window, which fits provably
 *   dupdate     x, window, one i64 scalar an axis; `add` takes no bool
 *   gather      axes (at least one), none before `batch`; an i32 or i64 tensor for each, of one
 *               type, which begins with x's batch axes; clamp: the axes have elements
 *   scatter     the same after u, which has the type that gather would give; add, mul: num
 *   sort        operands of one shape, at most 4; 1 to 3 of them are keys
 *   reduce      sum, prod: num; max, min: num or bool; and, or: bool; argmax, argmin: num or bool,
 *               exactly one axis, gives i64
 *   cumred      sum, prod: num; max, min: num or bool
 *   ein         num operands of one dtype, which the result keeps (16-bit floats accumulate in f32
 *               and round back); a sum of one operand is not an ein: its order is that of reduce
 *               (numerics rule 7), which the builder emits for it
 *   call        the callee's signature, dims included: symbols belong to the module, so types are
 *               equal or they are not
 *   for         lo, hi (i64), initial values; the results have the types of the initial values
 *   kif         a bool; the results are those of the regions and are set by ir_op_end
 *   if          a bool scalar with two regions, or an i32 scalar; results as for kif
 *   scan        carried values, then values whose first axis is n; results are set by ir_op_end
 *   while       carried values; the results have their types
 *   load, store element index i64; lanes 0 a scalar, lanes n contiguous, an index vector gathers
 *   prefetch    an i64 scalar index, of no element when there is none: it is fetched into the
 *               cache for reading, or nothing happens
 *   view        memory and an i64 scalar index
 *   vtest       band: whether all lanes of a bool vector are true, bor: some
 *   stream      as store, a run of lanes past the caches; memory is `aligned`, to 64 bytes, and the
 *               index a multiple of the lanes
 *   splat, viota, vhalf, deal, vzip, extract, ksym, port, kws, wport, launch   as ops.def describes
 *               them
 * Elementwise rules take tensors, scalars and vectors alike; memory only where `mem` is written. */
#include "ir/infer.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* --- Messages -------------------------------------------------------------------------------- */

/* Lend the one buffer of an ir_infer_text; a second block or a larger one is refused. */
static void *infer_lend(void *user, void *ptr, size_t old_size, size_t new_size, size_t align) {
    (void)ptr, (void)old_size, (void)align;
    return new_size && new_size <= sizeof(ir_infer_text) ? user : NULL;
}

/* The text of a type. */
ir_infer_text ir_infer_type_text(const ir_infer *c, const ir_type *t) {
    ir_infer_text text = {{0}};
    ig_allocator lend = {infer_lend, text.s};
    rt_str s;
    rt_str_init(&s, &lend);
    ir_type_print(c->m, t, &s);
    return text;
}

/* The text of a dim. */
ir_infer_text ir_infer_dim_text(const ir_infer *c, ir_dim d) {
    ir_infer_text text = {{0}};
    ig_allocator lend = {infer_lend, text.s};
    rt_str s;
    rt_str_init(&s, &lend);
    if (d == IR_DIM_BAD)
        rt_str_puts(&s, "(too large)");
    else
        ir_dim_print(c->m, d, &s);
    return text;
}

#define TYPE(t) IR_INFER_TYPE(t)
#define DIM(d)  IR_INFER_DIM(d)

/* Record what is wrong; false. */
bool ir_infer_fail(ir_infer *c, ig_code code, const char *fmt, ...) {
    va_list ap;
    c->code = code;
    va_start(ap, fmt);
    vsnprintf(c->message, sizeof c->message, fmt, ap);
    va_end(ap);
    return false;
}

bool ir_infer_one(ir_infer *c, ir_type t) {
    c->out[0] = t;
    c->nout = 1;
    return true;
}

/* --- Facts about types and dims -------------------------------------------------------------- */

static bool infer_is_dtype(unsigned d) { return d > IG_NONE && d < IG_DTYPE_END; }
static bool infer_is_bool(const ir_type *t) { return t->dtype == IG_bool; }
static bool infer_is_scalar(const ir_type *t, ig_dtype d) {
    return t->dtype == d && !t->rank && !t->lanes && !t->mem;
}
/* An index of load and store: an i64 scalar or vector. */
static bool infer_is_index(const ir_type *t) { return t->dtype == IG_i64 && !t->rank && !t->mem; }

static bool infer_same_shape(const ir_type *a, const ir_type *b) {
    return a->lanes == b->lanes && a->mem == b->mem && ir_same_dims(a, b);
}

/* --- Checks shared by rules ------------------------------------------------------------------ */

/* Dims of an attribute are within limits, and symbolic only when there is a module. */
static bool infer_check_dims(ir_infer *c, const char *what, const ir_dims *d, int rank) {
    if (d->n > IG_MAX_RANK)
        return ir_infer_fail(c, IG_INVALID, "%s has %d dims; the limit is %d", what, d->n,
                             IG_MAX_RANK);
    if (rank >= 0 && d->n != rank)
        return ir_infer_fail(c, IG_SHAPE,
                             "%s has %d dims but the operand has rank %d: give one for every axis",
                             what, d->n, rank);
    for (int i = 0; i < d->n; i++)
        if (d->d[i] == IR_DIM_BAD || (!c->m && d->d[i] < 0))
            return ir_infer_fail(c, IG_RANGE, "%s: dim %d is not a valid extent", what, i);
    return true;
}

/* A list of axes: strictly increasing and below rank. */
bool ir_infer_check_axes(ir_infer *c, const ir_axes *a, int rank) {
    if (a->n > IG_MAX_RANK)
        return ir_infer_fail(c, IG_INVALID, "%d axes; the limit is %d", a->n, IG_MAX_RANK);
    for (int i = 0; i < a->n; i++) {
        if (a->a[i] >= rank)
            return ir_infer_fail(c, IG_RANGE, "axis %d of a value of rank %d: axes go from 0 to %d",
                                 a->a[i], rank, rank - 1);
        if (i && a->a[i] <= a->a[i - 1])
            return ir_infer_fail(c, IG_INVALID,
                                 "axes %d, %d: list each axis once, in increasing order",
                                 a->a[i - 1], a->a[i]);
    }
    return true;
}

bool ir_infer_check_axis(ir_infer *c, int64_t axis, int rank) {
    if (axis >= 0 && axis < rank) return true;
    if (!rank) return ir_infer_fail(c, IG_RANGE, "a scalar has no axis %lld", (long long)axis);
    return ir_infer_fail(c, IG_RANGE, "axis %lld of a value of rank %d: axes go from 0 to %d",
                         (long long)axis, rank, rank - 1);
}

/* A tensor operand: neither memory nor a vector. */
bool ir_infer_check_tensor(ir_infer *c, int k) {
    if (!c->in[k].mem && !c->in[k].lanes) return true;
    return ir_infer_fail(c, IG_DTYPE, "operand %d is %s; a tensor is needed", k, TYPE(&c->in[k]));
}

/* Operands `from`..nin-1 have one type; the message names the axis. */
static bool infer_check_equal(ir_infer *c, int from) {
    const ir_type *a = &c->in[from];
    for (int k = from; k < c->nin; k++) {
        const ir_type *b = &c->in[k];
        if (b->mem)
            return ir_infer_fail(c, IG_DTYPE, "operand %d is %s: load from it first", k, TYPE(b));
        if (a->dtype != b->dtype)
            return ir_infer_fail(c, IG_DTYPE,
                                 "%s and %s have different element types: convert one of them",
                                 TYPE(a), TYPE(b));
        if (a->lanes != b->lanes)
            return ir_infer_fail(c, IG_SHAPE, "%s and %s have different lanes: splat one of them",
                                 TYPE(a), TYPE(b));
        if (a->rank != b->rank)
            return ir_infer_fail(c, IG_SHAPE,
                                 "%s and %s: rank %d and rank %d; broadcast or reshape one of them",
                                 TYPE(a), TYPE(b), a->rank, b->rank);
        for (int i = 0; i < a->rank; i++)
            if (a->dim[i] != b->dim[i])
                return ir_infer_fail(c, IG_SHAPE,
                                     "%s and %s differ in axis %d: %s and %s; broadcast or reshape "
                                     "one of them",
                                     TYPE(a), TYPE(b), i, DIM(a->dim[i]), DIM(b->dim[i]));
    }
    return true;
}

/* Operands first..nin-1 are i64 scalars, one for every axis of a value of this rank. */
static bool infer_check_starts(ir_infer *c, int first, int rank) {
    if (c->nin - first != rank)
        return ir_infer_fail(c, IG_INVALID,
                             "%d start indices for a value of rank %d: give one i64 scalar an axis",
                             c->nin - first, rank);
    for (int k = first; k < c->nin; k++)
        if (!infer_is_scalar(&c->in[k], IG_i64))
            return ir_infer_fail(c, IG_DTYPE, "start index %d is %s: convert it to an i64 scalar",
                                 k - first, TYPE(&c->in[k]));
    return true;
}

/* --- Constants and generators ---------------------------------------------------------------- */

static bool type_const(ir_infer *c) {
    const ir_attr_const *a = c->attr;
    int64_t numel;
    size_t bytes;
    if (!infer_is_dtype(a->type.dtype) || a->type.rank > IG_MAX_RANK || a->type.mem)
        return ir_infer_fail(c, IG_DTYPE, "a constant has an element type and at most %d axes",
                             IG_MAX_RANK);
    if (a->type.lanes && a->type.rank)
        return ir_infer_fail(c, IG_DTYPE, "a constant is a tensor or a vector, not both");
    if (!ir_type_is_static(&a->type))
        return ir_infer_fail(
            c, IG_SHAPE, "a constant of shape %s: dims must be numbers; broadcast a smaller one",
            TYPE(&a->type));
    ir_type element = a->type;
    element.lanes = 0;
    if (!ir_type_bytes(&element, &numel, &bytes))
        return ir_infer_fail(c, IG_RANGE, "a constant of shape %s is too large", TYPE(&a->type));
    if (a->type.lanes) bytes *= a->type.lanes;
    if (bytes != a->data.n)
        return ir_infer_fail(c, IG_INVALID, "%s needs %zu bytes of data, not %llu", TYPE(&a->type),
                             bytes, (unsigned long long)a->data.n);
    return ir_infer_one(c, a->type);
}

static bool type_weight(ir_infer *c) {
    const ir_attr_sym *a = c->attr;
    const ir_weight *w = c->m && a->name ? ir_find_weight(c->m, a->name) : NULL;
    if (!w) return ir_infer_fail(c, IG_INVALID, "there is no weight @%s", a->name ? a->name : "");
    return ir_infer_one(c, w->type);
}

static bool type_iota(ir_infer *c) {
    const ir_attr_iota *a = c->attr;
    ir_type t = {.dtype = a->dtype};
    if (!infer_is_dtype(a->dtype) || !ir_infer_is_num(&t))
        return ir_infer_fail(c, IG_DTYPE, "an iota counts in integers or floats, not %s",
                             ig_dtype_name((ig_dtype)a->dtype));
    if (!infer_check_dims(c, "the shape", &a->dims, -1)) return false;
    if (!ir_infer_check_axis(c, a->axis, a->dims.n)) return false;
    return ir_infer_one(c, ir_tensor_type((ig_dtype)a->dtype, a->dims.n, a->dims.d));
}

static bool type_dim(ir_infer *c) {
    const ir_dims one = {.n = 1, .d = {((const ir_attr_extent *)c->attr)->n}};
    return infer_check_dims(c, "the extent", &one, -1) && ir_infer_one(c, ir_scalar_type(IG_i64));
}

static bool type_rng(ir_infer *c) {
    const ir_attr_rng *a = c->attr;
    const ir_type *key = &c->in[0];
    if (key->dtype != IG_u32 || key->rank != 1 || key->dim[0] != 2 || key->lanes || key->mem)
        return ir_infer_fail(c, IG_DTYPE, "the key is %s; it must be u32[2]", TYPE(key));
    if (a->width > IR_width_u64) return ir_infer_fail(c, IG_INVALID, "the width is u32 or u64");
    if (!infer_check_dims(c, "the shape", &a->dims, -1)) return false;
    return ir_infer_one(
        c, ir_tensor_type(a->width == IR_width_u64 ? IG_u64 : IG_u32, a->dims.n, a->dims.d));
}

/* --- Elementwise ----------------------------------------------------------------------------- */

static bool type_num(ir_infer *c) {
    if (!infer_check_equal(c, 0)) return false;
    if (!ir_infer_is_num(&c->in[0]))
        return ir_infer_fail(c, IG_DTYPE, "%s: integers or floats are needed; convert, or use bit",
                             TYPE(&c->in[0]));
    return ir_infer_one(c, c->in[0]);
}

static bool type_float(ir_infer *c) {
    if (!infer_check_equal(c, 0)) return false;
    if (!rt_is_float(c->in[0].dtype))
        return ir_infer_fail(c, IG_DTYPE, "%s: floats are needed; convert first", TYPE(&c->in[0]));
    if (c->op == OP_rint && ((const ir_attr_rmode *)c->attr)->mode > IR_rmode_trunc)
        return ir_infer_fail(c, IG_INVALID, "there is no such rounding mode");
    return ir_infer_one(c, c->in[0]);
}

static bool type_int(ir_infer *c) {
    if (!infer_check_equal(c, 0)) return false;
    if (!rt_is_int(c->in[0].dtype))
        return ir_infer_fail(c, IG_DTYPE, "%s: integers are needed; convert first",
                             TYPE(&c->in[0]));
    if (c->op == OP_shift && ((const ir_attr_shop *)c->attr)->op > IR_shop_arith)
        return ir_infer_fail(c, IG_INVALID, "there is no such shift");
    if (c->op == OP_bitcount && ((const ir_attr_count *)c->attr)->kind > IR_count_ctz)
        return ir_infer_fail(c, IG_INVALID, "there is no such count");
    return ir_infer_one(c, c->in[0]);
}

static bool type_bits(ir_infer *c) {
    if (!infer_check_equal(c, 0)) return false;
    if (!rt_is_int(c->in[0].dtype) && !infer_is_bool(&c->in[0]))
        return ir_infer_fail(c, IG_DTYPE,
                             "%s: integers or bool are needed; compare, convert or bitcast first",
                             TYPE(&c->in[0]));
    if (c->op == OP_bit && ((const ir_attr_bitop *)c->attr)->op > IR_bitop_bxor)
        return ir_infer_fail(c, IG_INVALID, "there is no such bit operation");
    return ir_infer_one(c, c->in[0]);
}

static bool type_any2(ir_infer *c) { return infer_check_equal(c, 0) && ir_infer_one(c, c->in[0]); }

static bool type_cmp(ir_infer *c) {
    if (!infer_check_equal(c, 0)) return false;
    if (((const ir_attr_cmpop *)c->attr)->op > IR_cmpop_le)
        return ir_infer_fail(c, IG_INVALID, "there is no such comparison");
    ir_type t = c->in[0];
    t.dtype = IG_bool;
    return ir_infer_one(c, t);
}

static bool type_select(ir_infer *c) {
    if (!infer_is_bool(&c->in[0]))
        return ir_infer_fail(c, IG_DTYPE, "the condition is %s: compare it with 0 to make it bool",
                             TYPE(&c->in[0]));
    if (!infer_check_equal(c, 1)) return false;
    if (!infer_same_shape(&c->in[0], &c->in[1]))
        return ir_infer_fail(
            c, IG_SHAPE, "condition %s and values %s have different shapes: broadcast one of them",
            TYPE(&c->in[0]), TYPE(&c->in[1]));
    return ir_infer_one(c, c->in[1]);
}

static bool type_convert(ir_infer *c) {
    const ir_attr_dtype *a = c->attr;
    if (!infer_is_dtype(a->dtype))
        return ir_infer_fail(c, IG_DTYPE, "there is no such element type");
    if (c->in[0].mem) return ir_infer_fail(c, IG_DTYPE, "%s: load from it first", TYPE(&c->in[0]));
    ir_type t = c->in[0];
    t.dtype = a->dtype;
    return ir_infer_one(c, t);
}

static bool type_bitcast(ir_infer *c) {
    const ir_attr_dtype *a = c->attr;
    const ir_type *x = &c->in[0];
    if (!type_convert(c)) return false;
    if (infer_is_bool(x) || a->dtype == IG_bool)
        return ir_infer_fail(c, IG_DTYPE, "bool has no bit pattern of its own: use convert");
    if (rt_dtype_bytes(x->dtype) != rt_dtype_bytes((ig_dtype)a->dtype))
        return ir_infer_fail(
            c, IG_DTYPE, "%s and %s have elements of %zu and %zu bytes: a bitcast keeps the width",
            TYPE(x), ig_dtype_name((ig_dtype)a->dtype), rt_dtype_bytes(x->dtype),
            rt_dtype_bytes((ig_dtype)a->dtype));
    return true;
}

static bool type_same(ir_infer *c) { return infer_check_equal(c, 0) && ir_infer_one(c, c->in[0]); }

/* --- Movement -------------------------------------------------------------------------------- */

static bool type_reshape(ir_infer *c) {
    const ir_attr_dims *a = c->attr;
    if (!ir_infer_check_tensor(c, 0) || !infer_check_dims(c, "the shape", &a->dims, -1))
        return false;
    ir_type t = ir_tensor_type(c->in[0].dtype, a->dims.n, a->dims.d);
    ir_dim have = ir_type_numel(c->m, &c->in[0]), want = ir_type_numel(c->m, &t);
    if (have == IR_DIM_BAD || want == IR_DIM_BAD)
        return ir_infer_fail(c, IG_RANGE, "%s to %s: too many elements", TYPE(&c->in[0]), TYPE(&t));
    if (have != want)
        return ir_infer_fail(
            c, IG_SHAPE, "%s has %s elements, %s has %s: the products of the dims must be equal",
            TYPE(&c->in[0]), DIM(have), TYPE(&t), DIM(want));
    return ir_infer_one(c, t);
}

static bool type_transpose(ir_infer *c) {
    const ir_attr_perm *a = c->attr;
    const ir_type *x = &c->in[0];
    unsigned seen = 0;
    if (!ir_infer_check_tensor(c, 0)) return false;
    if (a->perm.n != x->rank)
        return ir_infer_fail(c, IG_SHAPE,
                             "a permutation of %d axes for %s: name each of its %d axes once",
                             a->perm.n, TYPE(x), x->rank);
    ir_type t = *x;
    for (int i = 0; i < x->rank; i++) {
        unsigned axis = a->perm.a[i];
        if (axis >= x->rank || seen >> axis & 1)
            return ir_infer_fail(c, IG_INVALID,
                                 "axis %u in a permutation of %s: name each of its %d axes once",
                                 axis, TYPE(x), x->rank);
        seen |= 1u << axis;
        t.dim[i] = x->dim[axis];
    }
    return ir_infer_one(c, t);
}

static bool type_broadcast(ir_infer *c) {
    const ir_attr_bcast *a = c->attr;
    const ir_type *x = &c->in[0];
    if (!ir_infer_check_tensor(c, 0) || !infer_check_dims(c, "the shape", &a->dims, -1))
        return false;
    ir_type t = ir_tensor_type(x->dtype, a->dims.n, a->dims.d);
    if (a->axes.n != x->rank)
        return ir_infer_fail(c, IG_SHAPE,
                             "%d axes for %s: name the result axis of each of its %d axes",
                             a->axes.n, TYPE(x), x->rank);
    if (!ir_infer_check_axes(c, &a->axes, t.rank)) return false;
    for (int i = 0; i < x->rank; i++) {
        int to = a->axes.a[i];
        if (x->dim[i] != t.dim[to] && x->dim[i] != 1)
            return ir_infer_fail(
                c, IG_SHAPE,
                "%s to %s: axis %d has %s elements, result axis %d has %s; only an "
                "extent of 1 stretches",
                TYPE(x), TYPE(&t), i, DIM(x->dim[i]), to, DIM(t.dim[to]));
    }
    return ir_infer_one(c, t);
}

static bool type_slice(ir_infer *c) {
    const ir_attr_slice *a = c->attr;
    const ir_type *x = &c->in[0];
    if (!ir_infer_check_tensor(c, 0) || !infer_check_dims(c, "lo", &a->lo, x->rank)) return false;
    if (!infer_check_dims(c, "hi", &a->hi, x->rank)) return false;
    if (a->step.n != x->rank)
        return ir_infer_fail(c, IG_SHAPE, "%d steps for %s: give one for every axis", a->step.n,
                             TYPE(x));
    ir_type t = *x;
    for (int i = 0; i < x->rank; i++) {
        ir_dim lo = a->lo.d[i], hi = a->hi.d[i];
        if (a->step.v[i] < 1)
            return ir_infer_fail(c, IG_RANGE,
                                 "axis %d: step %lld; steps are at least 1 (reverse turns an axis)",
                                 i, (long long)a->step.v[i]);
        if (!ir_dim_le(c->m, lo, hi) || !ir_dim_le(c->m, hi, x->dim[i]))
            return ir_infer_fail(c, IG_RANGE, "axis %d of %s: %s to %s is not within 0 to %s%s", i,
                                 TYPE(x), DIM(lo), DIM(hi), DIM(x->dim[i]),
                                 ir_dim_is_const(lo) && ir_dim_is_const(hi) &&
                                         ir_dim_is_const(x->dim[i])
                                     ? ""
                                     : " for every size declared: narrow the range");
        t.dim[i] = ir_dim_sub(c->m, hi, lo);
        if (a->step.v[i] > 1)
            t.dim[i] =
                ir_dim_floordiv(c->m, ir_dim_add(c->m, t.dim[i], a->step.v[i] - 1), a->step.v[i]);
    }
    return ir_infer_one(c, t);
}

static bool type_pad(ir_infer *c) {
    const ir_attr_pad *a = c->attr;
    const ir_type *x = &c->in[0];
    if (!ir_infer_check_tensor(c, 0)) return false;
    if (!infer_is_scalar(&c->in[1], x->dtype))
        return ir_infer_fail(c, IG_DTYPE,
                             "%s is padded with %s: the value must be a scalar of the same type",
                             TYPE(x), TYPE(&c->in[1]));
    if (!infer_check_dims(c, "lo", &a->lo, x->rank) || !infer_check_dims(c, "hi", &a->hi, x->rank))
        return false;
    if (a->interior.n != x->rank)
        return ir_infer_fail(c, IG_SHAPE, "%d interior widths for %s: give one for every axis",
                             a->interior.n, TYPE(x));
    ir_type t = *x;
    for (int i = 0; i < x->rank; i++) {
        if (a->interior.v[i] < 0)
            return ir_infer_fail(c, IG_RANGE,
                                 "axis %d: interior %lld; padding is never negative (use slice)", i,
                                 (long long)a->interior.v[i]);
        ir_dim d = ir_dim_spread(c->m, x->dim[i], a->interior.v[i]);
        t.dim[i] = ir_dim_add(c->m, d, ir_dim_add(c->m, a->lo.d[i], a->hi.d[i]));
    }
    return ir_infer_one(c, t);
}

static bool type_concat(ir_infer *c) {
    const ir_attr_axis *a = c->attr;
    const ir_type *x = &c->in[0];
    if (c->nin < 1)
        return ir_infer_fail(c, IG_INVALID, "nothing to join: give at least one operand");
    if (!ir_infer_check_axis(c, a->axis, x->rank)) return false;
    ir_type t = *x;
    for (int k = 0; k < c->nin; k++) {
        const ir_type *y = &c->in[k];
        if (!ir_infer_check_tensor(c, k)) return false;
        if (y->dtype != x->dtype)
            return ir_infer_fail(c, IG_DTYPE,
                                 "%s and %s have different element types: convert one of them",
                                 TYPE(x), TYPE(y));
        if (y->rank != x->rank)
            return ir_infer_fail(c, IG_SHAPE, "%s and %s: rank %d and rank %d; reshape one of them",
                                 TYPE(x), TYPE(y), x->rank, y->rank);
        for (int i = 0; i < x->rank; i++)
            if (i != a->axis && y->dim[i] != x->dim[i])
                return ir_infer_fail(
                    c, IG_SHAPE, "%s and %s joined along axis %lld differ in axis %d: %s and %s",
                    TYPE(x), TYPE(y), (long long)a->axis, i, DIM(x->dim[i]), DIM(y->dim[i]));
        if (k) t.dim[a->axis] = ir_dim_add(c->m, t.dim[a->axis], y->dim[a->axis]);
    }
    return ir_infer_one(c, t);
}

static bool type_reverse(ir_infer *c) {
    const ir_attr_axes *a = c->attr;
    if (!ir_infer_check_tensor(c, 0) || !ir_infer_check_axes(c, &a->axes, c->in[0].rank))
        return false;
    return ir_infer_one(c, c->in[0]);
}

static bool type_dslice(ir_infer *c) {
    const ir_attr_dims *a = c->attr;
    const ir_type *x = &c->in[0];
    if (c->nin < 1)
        return ir_infer_fail(c, IG_INVALID, "give the tensor, then one start index an axis");
    if (!ir_infer_check_tensor(c, 0) || !infer_check_dims(c, "the window", &a->dims, x->rank))
        return false;
    if (!infer_check_starts(c, 1, x->rank)) return false;
    for (int i = 0; i < x->rank; i++)
        if (!ir_dim_le(c->m, a->dims.d[i], x->dim[i]))
            return ir_infer_fail(c, IG_SHAPE, "axis %d: a window of %s does not fit into %s", i,
                                 DIM(a->dims.d[i]), TYPE(x));
    return ir_infer_one(c, ir_tensor_type(x->dtype, x->rank, a->dims.d));
}

static bool type_dupdate(ir_infer *c) {
    const ir_attr_dupd *a = c->attr;
    if (c->nin < 2)
        return ir_infer_fail(c, IG_INVALID,
                             "give the tensor, the window, then one start index an axis");
    const ir_type *x = &c->in[0], *u = &c->in[1];
    if (!ir_infer_check_tensor(c, 0) || !ir_infer_check_tensor(c, 1)) return false;
    if (x->dtype != u->dtype)
        return ir_infer_fail(c, IG_DTYPE,
                             "%s and %s have different element types: convert one of them", TYPE(x),
                             TYPE(u));
    if (x->rank != u->rank)
        return ir_infer_fail(c, IG_SHAPE, "%s and %s: rank %d and rank %d; reshape one of them",
                             TYPE(x), TYPE(u), x->rank, u->rank);
    if (a->op > IR_setop_add || (a->op == IR_setop_add && !ir_infer_is_num(x)))
        return ir_infer_fail(c, IG_DTYPE, "%s: op=set takes any type, op=add integers and floats",
                             TYPE(x));
    if (!infer_check_starts(c, 2, x->rank)) return false;
    for (int i = 0; i < x->rank; i++)
        if (!ir_dim_le(c->m, u->dim[i], x->dim[i]))
            return ir_infer_fail(c, IG_SHAPE, "axis %d: a window of %s does not fit into %s", i,
                                 TYPE(u), TYPE(x));
    return ir_infer_one(c, *x);
}

/* --- Index tensors and order (infer_index.c) -------------------------------------------------- */

static bool type_gather(ir_infer *c) { return ir_infer_gather(c); }
static bool type_scatter(ir_infer *c) { return ir_infer_scatter(c); }
static bool type_sort(ir_infer *c) { return ir_infer_sort(c); }

/* --- Reductions and contractions ------------------------------------------------------------- */

/* Whether a reduction of this kind takes this element type. */
static bool infer_check_redop(ir_infer *c, unsigned op, const ir_type *x) {
    static const char *const need[] = {
        [IR_redop_sum] = "integers or floats",
        [IR_redop_prod] = "integers or floats",
        [IR_redop_all] = "bool",
        [IR_redop_any] = "bool",
    };
    bool ok = true;
    if (op > IR_redop_argmin) return ir_infer_fail(c, IG_INVALID, "there is no such reduction");
    if (op == IR_redop_sum || op == IR_redop_prod) ok = ir_infer_is_num(x);
    if (op == IR_redop_all || op == IR_redop_any) ok = infer_is_bool(x);
    if (ok) return true;
    return ir_infer_fail(c, IG_DTYPE, "%s of %s: %s needed; convert first",
                         ir_enum_names(FIELD_redop)[op], TYPE(x), need[op]);
}

static bool type_reduce(ir_infer *c) {
    const ir_attr_reduce *a = c->attr;
    const ir_type *x = &c->in[0];
    if (!ir_infer_check_tensor(c, 0) || !infer_check_redop(c, a->op, x)) return false;
    if (!ir_infer_check_axes(c, &a->axes, x->rank)) return false;
    ir_type t = {.dtype = x->dtype};
    for (int i = 0, k = 0; i < x->rank; i++) {
        if (k < a->axes.n && a->axes.a[k] == i)
            k++;
        else
            t.dim[t.rank++] = x->dim[i];
    }
    if (a->op == IR_redop_argmax || a->op == IR_redop_argmin) {
        if (a->axes.n != 1)
            return ir_infer_fail(c, IG_INVALID,
                                 "%s takes exactly one axis, not %d: reshape to join axes",
                                 ir_enum_names(FIELD_redop)[a->op], a->axes.n);
        if (x->dim[a->axes.a[0]] == 0)
            return ir_infer_fail(c, IG_SHAPE, "%s of %s along axis %d, which is empty",
                                 ir_enum_names(FIELD_redop)[a->op], TYPE(x), a->axes.a[0]);
        t.dtype = IG_i64;
    }
    return ir_infer_one(c, t);
}

static bool type_cumred(ir_infer *c) {
    const ir_attr_cumred *a = c->attr;
    const ir_type *x = &c->in[0];
    if (!ir_infer_check_tensor(c, 0) || !ir_infer_check_axis(c, a->axis, x->rank)) return false;
    if (a->op > IR_redop_min)
        return ir_infer_fail(c, IG_INVALID, "a running reduction is one of sum, prod, max, min");
    return infer_check_redop(c, a->op, x) && ir_infer_one(c, *x);
}

/* The extent of every variable of the relation; operands that carry one must agree. */
static bool infer_extents(ir_infer *c, const ir_rel *r, ir_dim extent[IR_EIN_VARS]) {
    int k, i, other = 0, axis = 0;
    if (ir_ein_extents(r, c->in, extent, &k, &i)) return true;
    unsigned v = r->in[k].a[i];
    for (int at = k; at >= 0; at--)
        for (int j = 0; j < r->in[at].n; j++)
            if (r->in[at].a[j] == v && c->in[at].dim[j] == extent[v]) other = at, axis = j;
    return ir_infer_fail(c, IG_SHAPE,
                         "%s axis %d and %s axis %d share a variable but have %s and %s "
                         "elements",
                         TYPE(&c->in[other]), axis, TYPE(&c->in[k]), i, DIM(extent[v]),
                         DIM(c->in[k].dim[i]));
}

/* Factors are numbers of one type, indices are integers. */
static bool infer_ein_operand(ir_infer *c, const ir_rel *r, int k) {
    const ir_type *x = &c->in[k];
    if (!ir_infer_check_tensor(c, k)) return false;
    if (r->look[k] && !rt_is_int((ig_dtype)x->dtype))
        return ir_infer_fail(c, IG_DTYPE, "%s gives a subscript: it must have integers", TYPE(x));
    if (!r->look[k] && x->dtype != c->in[0].dtype)
        return ir_infer_fail(c, IG_DTYPE,
                             "%s and %s have different element types: convert one of them",
                             TYPE(&c->in[0]), TYPE(x));
    if (!ir_infer_is_num(x))
        return ir_infer_fail(c, IG_DTYPE, "%s: integers or floats are needed; convert first",
                             TYPE(x));
    if (x->rank != r->in[k].n)
        return ir_infer_fail(c, IG_SHAPE,
                             "operand %d is %s but the relation gives it %d subscripts", k, TYPE(x),
                             r->in[k].n);
    return true;
}

static bool type_ein(ir_infer *c) {
    const ir_rel *r = &((const ir_attr_ein *)c->attr)->rel;
    ir_dim extent[IR_EIN_VARS] = {0};
    if (!ir_ein_check(r, c->message, sizeof c->message)) return c->code = IG_INVALID, false;
    if (ir_ein_is_sum(r))
        return ir_infer_fail(c, IG_INVALID, "a sum of one operand is a reduce, not an ein");
    if (c->nin != r->nin)
        return ir_infer_fail(c, IG_INVALID, "the relation has %d operands, %d are given", r->nin,
                             c->nin);
    for (int k = 0; k < c->nin; k++)
        if (!infer_ein_operand(c, r, k)) return false;
    if (!infer_extents(c, r, extent)) return false;
    ir_type t = {.dtype = c->in[0].dtype, .rank = r->out.n};
    for (int i = 0; i < r->out.n; i++) t.dim[i] = extent[r->out.a[i]];
    return ir_infer_one(c, t);
}

/* --- Structure ------------------------------------------------------------------------------- */

static const ir_func *infer_callee(ir_infer *c, const char *name) {
    const ir_func *f = c->m && name ? ir_find_func(c->m, name) : NULL;
    if (!f)
        ir_infer_fail(c, IG_INVALID, "there is no function @%s: define it before its first call",
                      name ? name : "");
    return f;
}

/* Operand k fits parameter k of the callee. */
static bool infer_check_param(ir_infer *c, const ir_func *f, int k) {
    const ir_type *p = ir_val_type(f, ir_param_ref(f, (uint32_t)k));
    if (ir_type_eq(&c->in[k], p)) return true;
    return ir_infer_fail(c, IG_SHAPE, "operand %d of @%s is %s but the parameter is %s", k, f->name,
                         TYPE(&c->in[k]), TYPE(p));
}

static bool type_call(ir_infer *c) {
    const ir_func *f = infer_callee(c, ((const ir_attr_call *)c->attr)->callee);
    if (!f) return false;
    if (f->kind != IR_FN && f->kind != IR_CLUSTER)
        return ir_infer_fail(
            c, IG_INVALID, "@%s is a kernel or host function: it is launched, not called", f->name);
    if ((uint32_t)c->nin != ir_nparam(f))
        return ir_infer_fail(c, IG_INVALID, "@%s takes %u operands, not %d", f->name, ir_nparam(f),
                             c->nin);
    for (int k = 0; k < c->nin; k++)
        if (!infer_check_param(c, f, k)) return false;
    if (f->results.n > IR_MAX_RESULTS)
        return ir_infer_fail(c, IG_INVALID, "@%s has %u results; the limit is %d", f->name,
                             f->results.n, IR_MAX_RESULTS);
    for (uint32_t k = 0; k < f->results.n; k++) c->out[k] = *ir_result_type(f, k);
    c->nout = (int)f->results.n;
    return true;
}

/* yield and return hand values out of a region; what they must be is the region's affair (I5). */
static bool type_end(ir_infer *c) {
    c->nout = 0;
    return true;
}

/* --- Kernel level ---------------------------------------------------------------------------- */

#define INFER_MAX_LANES 128 /* the widest power of two that fits the type's byte */

static bool infer_check_lanes(ir_infer *c, int64_t lanes) {
    if (lanes >= 2 && lanes <= INFER_MAX_LANES) return true;
    return ir_infer_fail(c, IG_RANGE, "%lld lanes; a vector has 2 to %d", (long long)lanes,
                         INFER_MAX_LANES);
}

static bool infer_check_vector(ir_infer *c) {
    if (c->in[0].lanes && !c->in[0].mem) return true;
    return ir_infer_fail(c, IG_DTYPE, "%s is not a vector", TYPE(&c->in[0]));
}

static bool type_for(ir_infer *c) {
    const ir_attr_for *a = c->attr;
    if (c->nin < 2 || !infer_is_scalar(&c->in[0], IG_i64) || !infer_is_scalar(&c->in[1], IG_i64))
        return ir_infer_fail(c, IG_DTYPE,
                             "a loop takes its bounds as two i64 scalars, then the initial values");
    if (a->step < 1 || a->kind > IR_loop_unroll)
        return ir_infer_fail(c, IG_RANGE, "a loop needs a step of at least 1, not %lld",
                             (long long)a->step);
    if (c->nin - 2 > IR_MAX_RESULTS)
        return ir_infer_fail(c, IG_INVALID, "%d carried values; the limit is %d", c->nin - 2,
                             IR_MAX_RESULTS);
    for (int k = 2; k < c->nin; k++) c->out[k - 2] = c->in[k];
    c->nout = c->nin - 2;
    return true;
}

static bool type_kif(ir_infer *c) {
    c->nout = 0;
    if (infer_is_scalar(&c->in[0], IG_bool)) return true;
    return ir_infer_fail(c, IG_DTYPE, "the condition is %s; a bool scalar is needed",
                         TYPE(&c->in[0]));
}

/* flow.c, with what regions take and yield */
static bool type_if(ir_infer *c) { return ir_infer_if(c); }
static bool type_scan(ir_infer *c) { return ir_infer_scan(c); }
/* A read or write of all of a ref, or of a window. */
static bool type_read(ir_infer *c) {
    return c->nin == 1 ? ir_infer_one(c, c->in[0]) : type_dslice(c);
}
static bool type_write(ir_infer *c) {
    bool fits = c->nin == 2 ? ir_type_eq(&c->in[0], &c->in[1]) : type_dupdate(c);
    c->nout = 0;
    return fits || c->code ||
           ir_infer_fail(c, IG_SHAPE, "%s does not fit the ref, %s", TYPE(&c->in[1]),
                         TYPE(&c->in[0]));
}
static bool type_while(ir_infer *c) { return ir_infer_while(c); }
static bool type_composite(ir_infer *c) { return ir_infer_composite(c); }
static bool type_pull(ir_infer *c) { return ir_infer_pull(c); }
static bool type_custom(ir_infer *c) { return ir_infer_custom(c); }
static bool type_host(ir_infer *c) { return ir_infer_host(c); }
static bool type_assert(ir_infer *c) { return ir_infer_assert(c); }
static bool type_invoke(ir_infer *c) { return ir_infer_invoke(c); }

/* Memory and an element index. */
static bool infer_check_access(ir_infer *c) {
    if (!c->in[0].mem)
        return ir_infer_fail(c, IG_DTYPE, "operand 0 is %s; memory is needed", TYPE(&c->in[0]));
    if (!infer_is_index(&c->in[1]))
        return ir_infer_fail(c, IG_DTYPE, "the index is %s; an i64 scalar or vector is needed",
                             TYPE(&c->in[1]));
    return true;
}

static bool type_load(ir_infer *c) {
    const ir_attr_lanes *a = c->attr;
    if (!infer_check_access(c)) return false;
    if (a->lanes && !infer_check_lanes(c, a->lanes)) return false;
    if (c->in[1].lanes && c->in[1].lanes != a->lanes)
        return ir_infer_fail(c, IG_SHAPE, "an index of %d lanes loads %d lanes, not %lld",
                             c->in[1].lanes, c->in[1].lanes, (long long)a->lanes);
    return ir_infer_one(c, ir_vec_type(c->in[0].dtype, (int)a->lanes));
}

static bool type_store(ir_infer *c) {
    const ir_type *v = &c->in[2];
    if (!infer_check_access(c)) return false;
    c->nout = 0;
    if (v->dtype != c->in[0].dtype || v->rank || v->mem)
        return ir_infer_fail(c, IG_DTYPE, "%s cannot be stored to %s", TYPE(v), TYPE(&c->in[0]));
    if (c->in[1].lanes && c->in[1].lanes != v->lanes)
        return ir_infer_fail(c, IG_SHAPE, "an index of %d lanes and a value of %d", c->in[1].lanes,
                             v->lanes);
    return true;
}

/* A wish: the element need not exist. */
static bool type_prefetch(ir_infer *c) {
    c->nout = 0;
    if (!infer_check_access(c)) return false;
    return !c->in[1].lanes || ir_infer_fail(c, IG_SHAPE, "an index of %d lanes", c->in[1].lanes);
}

static bool type_stream(ir_infer *c) {
    if (!type_store(c)) return false;
    return (c->in[2].lanes && !c->in[1].lanes) ||
           ir_infer_fail(c, IG_SHAPE, "a run of lanes is needed");
}

/* Whether memory begins at a multiple of 64 bytes. */
static bool type_aligned(ir_infer *c) {
    if (c->in[0].mem) return ir_infer_one(c, ir_scalar_type(IG_bool));
    return ir_infer_fail(c, IG_DTYPE, "%s is no memory", TYPE(&c->in[0]));
}

/* The memory from an element on. */
static bool type_view(ir_infer *c) {
    if (!infer_check_access(c)) return false;
    if (c->in[1].lanes) return ir_infer_fail(c, IG_SHAPE, "an index of %d lanes", c->in[1].lanes);
    return ir_infer_one(c, c->in[0]);
}

static bool type_alloc(ir_infer *c) {
    const ir_attr_alloc *a = c->attr;
    if (!infer_is_dtype(a->dtype))
        return ir_infer_fail(c, IG_DTYPE, "there is no such element type");
    if (a->n < 1 || a->n > INT32_MAX)
        return ir_infer_fail(c, IG_RANGE, "%lld elements; scratch memory has 1 to 2^31-1",
                             (long long)a->n);
    return ir_infer_one(c, ir_mem_type((ig_dtype)a->dtype));
}

static bool type_splat(ir_infer *c) {
    const ir_attr_lanes *a = c->attr;
    if (!infer_check_lanes(c, a->lanes)) return false;
    if (!infer_is_scalar(&c->in[0], c->in[0].dtype))
        return ir_infer_fail(c, IG_DTYPE, "%s is not a scalar", TYPE(&c->in[0]));
    return ir_infer_one(c, ir_vec_type(c->in[0].dtype, (int)a->lanes));
}

static bool type_viota(ir_infer *c) {
    const ir_attr_lanes *a = c->attr;
    return infer_check_lanes(c, a->lanes) && ir_infer_one(c, ir_vec_type(IG_i64, (int)a->lanes));
}

/* Half of a vector; half of two lanes is a scalar. */
static bool type_vhalf(ir_infer *c) {
    const ir_attr_index *a = c->attr;
    int lanes = c->in[0].lanes;
    if (!infer_check_vector(c)) return false;
    if (lanes % 2) return ir_infer_fail(c, IG_SHAPE, "%d lanes have no halves", lanes);
    if (a->index < 0 || a->index > 1)
        return ir_infer_fail(c, IG_RANGE, "half %lld; 0 is the low one, 1 the high one",
                             (long long)a->index);
    return ir_infer_one(c, ir_vec_type(c->in[0].dtype, lanes == 2 ? 0 : lanes / 2));
}

static bool type_deal(ir_infer *c) {
    const ir_attr_deal *a = c->attr;
    int lanes = c->in[0].lanes;
    if (!infer_check_vector(c)) return false;
    if (c->in[1].dtype != c->in[0].dtype || c->in[1].lanes != lanes || c->in[1].mem)
        return ir_infer_fail(c, IG_DTYPE, "%s and %s differ", TYPE(&c->in[0]), TYPE(&c->in[1]));
    if (a->odd < 0 || a->odd > 1 || a->group < 1 || a->segment < 1 || a->segment > lanes ||
        a->group > lanes || a->segment % (2 * a->group) || lanes % a->segment)
        return ir_infer_fail(c, IG_RANGE, "%d lanes are not dealt by %lld in segments of %lld",
                             lanes, (long long)a->group, (long long)a->segment);
    return ir_infer_one(c, c->in[0]);
}

static bool type_vtest(ir_infer *c) {
    const ir_attr_bitop *a = c->attr;
    if (!infer_check_vector(c)) return false;
    if (c->in[0].dtype != IG_bool)
        return ir_infer_fail(c, IG_DTYPE, "%s is not a vector of bools", TYPE(&c->in[0]));
    if (a->op != IR_bitop_band && a->op != IR_bitop_bor)
        return ir_infer_fail(c, IG_RANGE, "lanes are tested by band or bor");
    return ir_infer_one(c, ir_scalar_type(IG_bool));
}

static bool type_extract(ir_infer *c) {
    const ir_attr_index *a = c->attr;
    if (!infer_check_vector(c)) return false;
    if (a->index < 0 || a->index >= c->in[0].lanes)
        return ir_infer_fail(c, IG_RANGE, "lane %lld of %s", (long long)a->index, TYPE(&c->in[0]));
    return ir_infer_one(c, ir_scalar_type(c->in[0].dtype));
}

/* Lanes of two vectors in turn, beginning with those of the first. */
static bool type_vzip(ir_infer *c) {
    int lanes = c->in[0].lanes;
    if (!infer_check_vector(c) || !infer_check_lanes(c, 2 * lanes)) return false;
    if (c->in[0].dtype != c->in[1].dtype || !infer_same_shape(&c->in[0], &c->in[1]))
        return ir_infer_fail(c, IG_SHAPE, "%s and %s differ", TYPE(&c->in[0]), TYPE(&c->in[1]));
    return ir_infer_one(c, ir_vec_type(c->in[0].dtype, 2 * lanes));
}

static bool type_ksym(ir_infer *c) {
    const ir_attr_index *a = c->attr;
    if (!c->m || a->index < 0 || a->index >= c->m->symbols.n)
        return ir_infer_fail(c, IG_RANGE, "there is no dim symbol number %lld",
                             (long long)a->index);
    return ir_infer_one(c, ir_scalar_type(IG_i64));
}

static bool type_port(ir_infer *c) {
    const ir_attr_port *a = c->attr;
    if (!infer_is_dtype(a->dtype))
        return ir_infer_fail(c, IG_DTYPE, "there is no such element type");
    if (a->index < 0 || a->index > UINT16_MAX)
        return ir_infer_fail(c, IG_RANGE, "there is no argument number %lld", (long long)a->index);
    return ir_infer_one(c, ir_mem_type((ig_dtype)a->dtype));
}

static bool type_kws(ir_infer *c) {
    const ir_attr_dtype *a = c->attr;
    if (!infer_is_dtype(a->dtype))
        return ir_infer_fail(c, IG_DTYPE, "there is no such element type");
    if (!infer_is_scalar(&c->in[0], IG_i64))
        return ir_infer_fail(c, IG_DTYPE, "the byte offset is %s; an i64 scalar is needed",
                             TYPE(&c->in[0]));
    return ir_infer_one(c, ir_mem_type((ig_dtype)a->dtype));
}

static bool type_wport(ir_infer *c) {
    const ir_attr_wport *a = c->attr;
    const ir_weight *w = c->m && a->name ? ir_find_weight(c->m, a->name) : NULL;
    if (!w) return ir_infer_fail(c, IG_INVALID, "there is no weight @%s", a->name ? a->name : "");
    if (w->type.dtype != a->dtype)
        return ir_infer_fail(c, IG_DTYPE, "weight @%s is %s", w->name, TYPE(&w->type));
    return ir_infer_one(c, ir_mem_type((ig_dtype)a->dtype));
}

/* A kernel takes memory, then lo and hi; a launch gives memory, then the extent they divide and the
 * estimated picoseconds of the whole, or 0 when no executor needs to be asked. */
static bool type_launch(ir_infer *c) {
    const ir_func *f = infer_callee(c, ((const ir_attr_call *)c->attr)->callee);
    if (!f) return false;
    c->nout = 0;
    if (f->kind != IR_KERNEL || ir_nparam(f) < 2)
        return ir_infer_fail(c, IG_INVALID, "@%s is not a kernel", f->name);
    if ((uint32_t)c->nin != ir_nparam(f))
        return ir_infer_fail(c, IG_INVALID,
                             "@%s takes %u buffers, an extent and a cost, not %d operands", f->name,
                             ir_nparam(f) - 2, c->nin);
    for (int k = 0; k + 2 < c->nin; k++)
        if (!infer_check_param(c, f, k)) return false;
    for (int k = c->nin - 2; k < c->nin; k++)
        if (!infer_is_scalar(&c->in[k], IG_i64))
            return ir_infer_fail(c, IG_DTYPE, "the %s is %s; an i64 scalar is needed",
                                 k + 1 < c->nin ? "extent" : "cost", TYPE(&c->in[k]));
    return true;
}

/* --- The table ------------------------------------------------------------------------------- */

typedef bool (*infer_rule)(ir_infer *c);
static const infer_rule infer_tab[OP_END] = {
#define OP(name, ver, n, level, attr, type, ...) [OP_##name] = type_##type,
#include "ir/ops.def"
#undef OP
};

/* A result that cannot be counted in 64 bits is refused here, once for every rule. */
static bool infer_check_size(ir_infer *c, int k) {
    ir_type t = c->out[k];
    int64_t numel;
    size_t bytes;
    if (t.mem || t.lanes) return true;
    for (int i = 0; i < t.rank; i++)
        if (t.dim[i] == IR_DIM_BAD)
            return ir_infer_fail(c, IG_RANGE, "axis %d of the result is too large", i);
    if (ir_type_is_static(&t) ? ir_type_bytes(&t, &numel, &bytes)
                              : ir_type_numel(c->m, &t) != IR_DIM_BAD)
        return true;
    return ir_infer_fail(c, IG_RANGE, "the result %s is too large", TYPE(&t));
}

/* Run the rule, and check the results. */
static bool infer_run(ir_infer *c) {
    const ir_op_info *info = &ir_op_tab[c->op];
    if (info->arity != IR_ARITY_V && c->nin != info->arity)
        return ir_infer_fail(c, IG_INVALID, "takes %d operand%s, not %d", info->arity,
                             info->arity == 1 ? "" : "s", c->nin);
    if (!infer_tab[c->op](c)) return false;
    for (int k = 0; k < c->nout; k++)
        if (!infer_check_size(c, k)) return false;
    return true;
}

bool ir_infer_types(ir_infer *c) {
    c->nout = 0;
    c->code = IG_OK;
    c->message[0] = 0;
    if (infer_run(c)) return true;
    return c->m && ir_dims_lacked_memory(c->m) ? ir_infer_fail(c, IG_MEMORY, "out of memory")
                                               : false;
}
