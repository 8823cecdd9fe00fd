/* gen.c - one generator a `domain` token of ops.def; attributes with enumerated fields need none of
 * their own. */
#include "tests/gen.h"
#include <math.h>
#include <string.h>

uint64_t gen_u64(gen *g) { /* splitmix64, S. Vigna */
    uint64_t z = g->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t gen_below(gen *g, uint64_t n) { return n ? gen_u64(g) % n : 0; }
bool gen_one_in(gen *g, uint64_t n) { return gen_below(g, n) == 0; }

/* --- Types and data
 * ----------------------------------------------------------------------------------- */

ig_dtype gen_dtype(gen *g) {
    /* f32 and f64 often, every other type sometimes */
    if (gen_below(g, 3)) return gen_below(g, 4) ? IG_f32 : IG_f64;
    return (ig_dtype)(1 + gen_below(g, IG_DTYPE_END - 1));
}

static int64_t gen_extent(gen *g) {
    static const int64_t extents[] = {1,  2,  3,  4,  5,  7,  8,  13,  16,
                                      17, 31, 32, 33, 61, 64, 97, 128, 131};
    if (gen_one_in(g, 40)) return 0;
    if (gen_one_in(g, 60))
        return 4097 + (int64_t)gen_below(g, 40); /* more than a reduction block */
    return extents[gen_below(g, gen_below(g, 3) ? 10 : sizeof extents / sizeof *extents)];
}

ir_type gen_type(gen *g, ig_dtype dtype, int64_t limit) {
    ir_type t = {.dtype = (uint8_t)dtype, .rank = (uint8_t)gen_below(g, 5)};
    int64_t n = 1;
    for (int i = 0; i < t.rank; i++) {
        t.dim[i] = gen_extent(g);
        if (t.dim[i] && n * t.dim[i] > limit) t.dim[i] = 1;
        if (t.dim[i]) n *= t.dim[i];
    }
    return t;
}

/* In [-2, 2), with a full mantissa: f64 sums of fewer bits are exact in any order. */
static double gen_plain(gen *g) { return ldexp((double)(gen_u64(g) >> 11), -51) - 2.0; }

static double gen_double(gen *g) {
    static const double special[] = {0.0,   -0.0,     1.0,       -1.0,  0.5,     2.0,
                                     1e-40, -1e-310,  1e30,      -3e38, 65504.0, 1e300,
                                     NAN,   INFINITY, -INFINITY, 1e-7,  3.0,     100.0};
    double x;
    if (gen_one_in(g, 8))
        x = special[gen_below(g, sizeof special / sizeof *special)];
    else if (gen_one_in(g, 8))
        x = ldexp((double)(int64_t)gen_u64(g), (int)gen_below(g, 80) - 100);
    else
        x = gen_plain(g);
    return x;
}

void gen_data(gen *g, ig_dtype dtype, int64_t n, bool positive, void *out) {
    bool plain = gen_one_in(g, 2); /* sums of ordinary numbers show their order */
    size_t size = rt_dtype_bytes(dtype);
    for (int64_t i = 0; i < n; i++) {
        char *p = (char *)out + (size_t)i * size;
        if (rt_is_float(dtype)) {
            double x = plain ? gen_plain(g) : gen_double(g);
            if (positive) x = fabs(x);
            float f = (float)x;
            uint16_t h = dtype == IG_f16 ? rt_f64_to_f16(x) : rt_f64_to_bf16(x);
            memcpy(p,
                   dtype == IG_f64   ? (void *)&x
                   : dtype == IG_f32 ? (void *)&f
                                     : (void *)&h,
                   size);
        } else {
            uint64_t x = gen_u64(g);
            if (gen_below(g, 3))
                x = gen_below(g, 9) - (gen_one_in(g, 3) ? 4u : 0u);
            else if (gen_one_in(g, 3))
                x = (uint64_t)1 << (8 * size - 1); /* the most negative */
            if (dtype == IG_bool) x &= 1;
            memcpy(p, &x, size); /* little-endian hosts: x86-64, aarch64 */
        }
    }
    ir_canon_nan(dtype, out, n);
}

/* --- Attributes
 * --------------------------------------------------------------------------------------- */

/* Random values for enumerated and flag fields, a random element type for dtype fields. */
static void gen_attr(gen *g, gen_op *o) {
    const ir_attr_info *info = &ir_attr_tab[ir_op_tab[o->op].attr];
    for (uint32_t k = 0; k < info->nfield; k++) {
        uint8_t *field = (uint8_t *)&o->attr + info->field[k].offset;
        const char *const *names = ir_enum_names(info->field[k].kind);
        if (names) {
            uint64_t n = 0;
            while (names[n]) n++;
            *field = (uint8_t)gen_below(g, n);
        } else if (info->field[k].kind == FIELD_flag)
            *field = (uint8_t)gen_below(g, 2);
        else if (info->field[k].kind == FIELD_dtype)
            *field = (uint8_t)gen_dtype(g);
    }
}

/* A random subset of the axes, increasing; at least one when the rank allows and `least` says so.
 */
static ir_axes gen_axes(gen *g, int rank, bool least) {
    ir_axes a = {0};
    for (int i = 0; i < rank; i++)
        if (gen_below(g, 2)) a.a[a.n++] = (uint8_t)i;
    if (least && !a.n && rank) a.a[a.n++] = (uint8_t)gen_below(g, (uint64_t)rank);
    return a;
}

static ir_dims gen_dims_of(const ir_type *t) {
    ir_dims d = {.n = t->rank};
    memcpy(d.d, t->dim, sizeof d.d);
    return d;
}

/* --- One generator a domain: in[0] has a type already, which may be changed
 * ----------------------------- */

static bool gen_in_any(gen *g, gen_op *o) {
    (void)g;
    const ir_op_info *info = &ir_op_tab[o->op];
    o->nin = info->arity;
    for (int k = 1; k < o->nin; k++) o->in[k] = o->in[0];
    return true;
}
static bool gen_in_positive(gen *g, gen_op *o) { return gen_in_any(g, o); }
static bool gen_in_shift(gen *g, gen_op *o) { return gen_in_any(g, o); }
static bool gen_in_convert(gen *g, gen_op *o) { return gen_in_any(g, o); }
static bool gen_in_bitcast(gen *g, gen_op *o) { return gen_in_any(g, o); }
static bool gen_in_none(gen *g, gen_op *o) { return (void)g, (void)o, false; }

static bool gen_in_select(gen *g, gen_op *o) {
    (void)g;
    o->nin = 3;
    o->in[1] = o->in[2] = o->in[0];
    o->in[0].dtype = IG_bool;
    return true;
}

static bool gen_in_const(gen *g, gen_op *o) {
    ir_attr_const *a = (ir_attr_const *)&o->attr;
    a->type = gen_type(g, o->in[0].dtype, 64);
    int64_t n = 1;
    for (int i = 0; i < a->type.rank; i++) n *= a->type.dim[i];
    gen_data(g, a->type.dtype, n, false, o->store);
    a->data = (ir_data){o->store, (uint64_t)n * rt_dtype_bytes(a->type.dtype)};
    return true;
}

static bool gen_in_iota(gen *g, gen_op *o) {
    ir_attr_iota *a = (ir_attr_iota *)&o->attr;
    a->dims = gen_dims_of(&o->in[0]);
    a->axis = (int64_t)gen_below(g, o->in[0].rank);
    return o->in[0].rank > 0;
}

static bool gen_in_dim(gen *g, gen_op *o) {
    ir_attr_extent *a = (ir_attr_extent *)&o->attr;
    a->n = o->in[0].rank ? o->in[0].dim[gen_below(g, o->in[0].rank)] : 1;
    return true;
}

static bool gen_in_rng(gen *g, gen_op *o) {
    (void)g;
    ir_attr_rng *a = (ir_attr_rng *)&o->attr;
    a->dims = gen_dims_of(&o->in[0]);
    o->in[0] = (ir_type){.dtype = IG_u32, .rank = 1, .dim = {2}};
    o->nin = 1;
    return true;
}

static bool gen_in_reshape(gen *g, gen_op *o) {
    ir_attr_dims *a = (ir_attr_dims *)&o->attr;
    int64_t n = 1;
    for (int i = 0; i < o->in[0].rank; i++) n *= o->in[0].dim[i];
    a->dims.n = (uint8_t)(n == 1 ? gen_below(g, 4) : 1 + gen_below(g, 4));
    for (int i = 0; i < a->dims.n; i++) { /* take random divisors, the last axis takes the rest */
        int64_t d = 1;
        for (int64_t p = 2; n > 1 && p <= n && p < 200; p++)
            if (n % p == 0 && gen_below(g, 2)) {
                d = p;
                break;
            }
        a->dims.d[i] = i + 1 == a->dims.n || n == 0 ? n : d;
        if (n) n /= a->dims.d[i];
    }
    o->nin = 1;
    return true;
}

static bool gen_in_transpose(gen *g, gen_op *o) {
    ir_attr_perm *a = (ir_attr_perm *)&o->attr;
    a->perm.n = o->in[0].rank;
    for (int i = 0; i < a->perm.n; i++) a->perm.a[i] = (uint8_t)i;
    for (int i = a->perm.n - 1; i > 0; i--) {
        uint64_t k = gen_below(g, (uint64_t)i + 1);
        uint8_t t = a->perm.a[i];
        a->perm.a[i] = a->perm.a[k];
        a->perm.a[k] = t;
    }
    o->nin = 1;
    return true;
}

static bool gen_in_broadcast(gen *g, gen_op *o) {
    ir_attr_bcast *a = (ir_attr_bcast *)&o->attr;
    const ir_type *x = &o->in[0];
    for (int i = 0; i <= x->rank; i++) {
        if (gen_below(g, 2) && a->dims.n + (x->rank - i) < IG_MAX_RANK)
            a->dims.d[a->dims.n++] = 1 + (int64_t)gen_below(g, 5); /* a new axis */
        if (i == x->rank) break;
        a->axes.a[a->axes.n++] = a->dims.n;
        a->dims.d[a->dims.n++] = x->dim[i] == 1 && gen_below(g, 2) ? (int64_t)gen_below(g, 9)
                                                                   : x->dim[i];
    }
    o->nin = 1;
    return true;
}

static bool gen_in_slice(gen *g, gen_op *o) {
    ir_attr_slice *a = (ir_attr_slice *)&o->attr;
    a->lo.n = a->hi.n = a->step.n = o->in[0].rank;
    for (int i = 0; i < a->lo.n; i++) {
        a->lo.d[i] = (int64_t)gen_below(g, (uint64_t)o->in[0].dim[i] + 1);
        a->hi.d[i] = a->lo.d[i] +
                     (int64_t)gen_below(g, (uint64_t)(o->in[0].dim[i] - a->lo.d[i]) + 1);
        a->step.v[i] = 1 + (int64_t)gen_below(g, gen_below(g, 2) ? 1 : 4);
    }
    o->nin = 1;
    return true;
}

static bool gen_in_pad(gen *g, gen_op *o) {
    ir_attr_pad *a = (ir_attr_pad *)&o->attr;
    a->lo.n = a->hi.n = a->interior.n = o->in[0].rank;
    for (int i = 0; i < a->lo.n; i++) {
        a->lo.d[i] = (int64_t)gen_below(g, 4);
        a->hi.d[i] = (int64_t)gen_below(g, 4);
        a->interior.v[i] = gen_below(g, 3) ? 0 : (int64_t)gen_below(g, 3);
    }
    o->in[1] = ir_scalar_type(o->in[0].dtype);
    o->nin = 2;
    return true;
}

static bool gen_in_concat(gen *g, gen_op *o) {
    ir_attr_axis *a = (ir_attr_axis *)&o->attr;
    if (!o->in[0].rank) return false;
    a->axis = (int64_t)gen_below(g, o->in[0].rank);
    o->nin = 1 + (int)gen_below(g, 4);
    for (int k = 1; k < o->nin; k++) {
        o->in[k] = o->in[0];
        o->in[k].dim[a->axis] = gen_extent(g) % 40;
    }
    return true;
}

static bool gen_in_reverse(gen *g, gen_op *o) {
    ((ir_attr_axes *)&o->attr)->axes = gen_axes(g, o->in[0].rank, false);
    o->nin = 1;
    return true;
}

static void gen_positions(gen_op *o, int first, int rank) {
    for (int i = 0; i < rank; i++) o->in[first + i] = ir_scalar_type(IG_i64);
    o->nin = first + rank;
}

static bool gen_in_dslice(gen *g, gen_op *o) {
    ir_attr_dims *a = (ir_attr_dims *)&o->attr;
    a->dims.n = o->in[0].rank;
    for (int i = 0; i < a->dims.n; i++)
        a->dims.d[i] = (int64_t)gen_below(g, (uint64_t)o->in[0].dim[i] + 1);
    gen_positions(o, 1, o->in[0].rank);
    return true;
}

static bool gen_in_dupdate(gen *g, gen_op *o) {
    o->in[1] = o->in[0];
    for (int i = 0; i < o->in[0].rank; i++)
        o->in[1].dim[i] = (int64_t)gen_below(g, (uint64_t)o->in[0].dim[i] + 1);
    gen_positions(o, 2, o->in[0].rank);
    return true;
}

/* Batch axes, indexed axes among the others, a shape of positions; indices from operand `first` on.
 */
static bool gen_indices(gen *g, gen_op *o, int first, ir_axes *axes_, int64_t *batch_) {
    const ir_type *x = &o->in[0];
    ir_type at = {.dtype = gen_below(g, 2) ? IG_i32 : IG_i64};
    if (!x->rank) return false;
    *batch_ = gen_below(g, 2) ? 0 : (int64_t)gen_below(g, x->rank);
    *axes_ = (ir_axes){0};
    for (int i = (int)*batch_; i < x->rank; i++)
        if (gen_below(g, 2)) axes_->a[axes_->n++] = (uint8_t)i;
    if (!axes_->n) axes_->a[axes_->n++] = (uint8_t)(x->rank - 1);
    for (int i = 0; i < *batch_; i++) at.dim[at.rank++] = x->dim[i];
    for (uint64_t i = gen_below(g, 3); i > 0; i--) at.dim[at.rank++] = gen_extent(g) % 20;
    o->nin = first + axes_->n;
    for (int k = first; k < o->nin; k++) o->in[k] = at;
    return true;
}

static bool gen_in_gather(gen *g, gen_op *o) {
    ir_attr_gather *a = (ir_attr_gather *)&o->attr;
    a->oob = gen_below(g, 2) ? IR_oob_clamp : IR_oob_fill;
    return gen_indices(g, o, 1, &a->axes, &a->batch);
}

static bool gen_in_scatter(gen *g, gen_op *o) {
    ir_attr_scatter *a = (ir_attr_scatter *)&o->attr;
    ir_type *u = &o->in[1];
    a->oob = gen_below(g, 2) ? IR_oob_clamp : IR_oob_drop;
    if (!gen_indices(g, o, 2, &a->axes, &a->batch)) return false;
    *u = o->in[2];
    u->dtype = o->in[0].dtype;
    for (int i = (int)a->batch, k = 0; i < o->in[0].rank; i++) {
        bool indexed = k < a->axes.n && a->axes.a[k] == i;
        k += indexed;
        if (!indexed && u->rank < IG_MAX_RANK) u->dim[u->rank++] = o->in[0].dim[i];
    }
    int64_t n;
    return rt_numel_checked(u->dim, u->rank, &n) && n <= 40000;
}

static bool gen_in_sort(gen *g, gen_op *o) {
    ir_attr_sort *a = (ir_attr_sort *)&o->attr;
    if (!o->in[0].rank) return false;
    a->axis = (int64_t)gen_below(g, o->in[0].rank);
    o->nin = 1 + (int)gen_below(g, 3);
    a->keys = 1 + (int64_t)gen_below(g, (uint64_t)o->nin);
    for (int k = 1; k < o->nin; k++) {
        o->in[k] = o->in[0];
        o->in[k].dtype = (uint8_t)gen_dtype(g);
    }
    return true;
}

static bool gen_in_reduce(gen *g, gen_op *o) {
    ir_attr_reduce *a = (ir_attr_reduce *)&o->attr;
    bool one = a->op == IR_redop_argmax || a->op == IR_redop_argmin;
    if (a->op == IR_redop_all || a->op == IR_redop_any) o->in[0].dtype = IG_bool;
    if (one && !o->in[0].rank) return false;
    a->axes = gen_axes(g, o->in[0].rank, true);
    if (one) a->axes.n = 1;
    for (int i = a->axes.n; i < IG_MAX_RANK; i++) a->axes.a[i] = 0;
    o->nin = 1;
    return true;
}

static bool gen_in_cumred(gen *g, gen_op *o) {
    ir_attr_cumred *a = (ir_attr_cumred *)&o->attr;
    if (!o->in[0].rank) return false;
    a->op = (uint8_t)gen_below(g, 4); /* sum, prod, max, min */
    a->axis = (int64_t)gen_below(g, o->in[0].rank);
    o->nin = 1;
    return true;
}

/* --- Instances
 * ---------------------------------------------------------------------------------------- */

typedef bool (*gen_fn)(gen *, gen_op *);
static const gen_fn gen_tab[OP_END] = {
#define OP(name, ver, n, level, attr, type, domain, ...) [OP_##name] = gen_in_##domain,
#include "ir/ops.def"
#undef OP
};

bool gen_has(ir_opcode op) { return gen_tab[op] != gen_in_none; }

bool gen_instance(gen *g, ir_opcode op, const ir_type *like, gen_op *out_) {
    ir_type result[IR_MAX_RESULTS];
    for (int tries = 0; tries < 60; tries++) {
        memset(out_, 0, sizeof *out_);
        out_->op = op;
        out_->in[0] = like && tries < 20 ? *like : gen_type(g, gen_dtype(g), 3000);
        if (tries > 30) out_->in[0].dtype = (uint8_t)gen_dtype(g);
        gen_attr(g, out_);
        if (!gen_tab[op](g, out_)) continue;
        ir_infer c = {
            .op = op, .nin = out_->nin, .in = out_->in, .attr = &out_->attr, .out = result};
        if (!ir_infer_types(&c)) continue;
        int64_t n = 1;
        if (rt_numel_checked(result[0].dim, result[0].rank, &n) && n <= 40000) return true;
    }
    return false;
}
