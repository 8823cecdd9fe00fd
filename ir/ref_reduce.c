/* ref_reduce.c - reference of reduce and cumred: the orders of numerics rule 5.
 *
 * reduce.  Element i of the row-major flattened reduction index belongs to block i / 4096 and,
 * inside it, to lane i mod 16. A lane starts at the identity and takes its elements in order; lanes
 * combine as l[j] += l[j+8], then +4, +2, +1; blocks combine as T(lo, n) = T(lo, m) + T(lo+m, n-m),
 * m the largest power of two below n.  T is streamed: partials lie on a stack like the binary
 * digits of their number, two of one size combine at once, and what is left combines from the top.
 * No elements give the identity.
 *
 * argmax, argmin.  The first index of the largest (smallest) element, compared as cmp does: zeros
 * are equal; the first NaN wins over everything.
 *
 * cumred.  The axis is cut at multiples of 1024; inside a block the local results are a plain chain
 * that begins with the block's first element; the carry into block b is the chain of the totals of
 * blocks 0 .. b-1; y = carry + local, and block 0 has no carry.  reverse runs from the end (blocks
 * too); exclusive shifts the result by one, identity first.
 *
 * 16-bit floats accumulate in f32 and round once at the end; integers in 64 bits, which only n of
 * remain. */
#include "ir/ref.h"

#include <math.h>
#include <string.h>

ig_dtype ir_ref_acc(ig_dtype d) {
    if (d == IG_f64) return IG_f64;
    if (rt_is_float(d)) return IG_f32;
    return rt_is_signed(d) ? IG_i64 : IG_u64;
}

/* --- Combining -------------------------------------------------------------------------------- */

/* z = x op y in the accumulation type; `identity` is what a lane starts from. */
typedef union reduce_cell {
    float f32;
    double f64;
    int64_t i64;
    uint64_t u64;
} reduce_cell;

/* Integers combine modulo 2^64; the result is cut to its type. */
#define REDUCE_WRAP(T, x, op, y) (T)((uint64_t)(x)op(uint64_t)(y))
#define REDUCE_INT_MAX(x, y)     ((x) > (y) ? (x) : (y))
#define REDUCE_INT_MIN(x, y)     ((x) < (y) ? (x) : (y))
#define REDUCE_SUM_f32(x, y)     ((x) + (y))
#define REDUCE_SUM_f64(x, y)     ((x) + (y))
#define REDUCE_SUM_i64(x, y)     REDUCE_WRAP(int64_t, x, +, y)
#define REDUCE_SUM_u64(x, y)     ((x) + (y))
#define REDUCE_PROD_f32(x, y)    ((x) * (y))
#define REDUCE_PROD_f64(x, y)    ((x) * (y))
#define REDUCE_PROD_i64(x, y)    REDUCE_WRAP(int64_t, x, *, y)
#define REDUCE_PROD_u64(x, y)    ((x) * (y))
#define REDUCE_MAX_f32           ir_max_f32
#define REDUCE_MAX_f64           ir_max_f64
#define REDUCE_MAX_i64           REDUCE_INT_MAX
#define REDUCE_MAX_u64           REDUCE_INT_MAX
#define REDUCE_MIN_f32           ir_min_f32
#define REDUCE_MIN_f64           ir_min_f64
#define REDUCE_MIN_i64           REDUCE_INT_MIN
#define REDUCE_MIN_u64           REDUCE_INT_MIN

/* Lanes of one block: x[0..n) into lane[0..16), then into lane 0. */
#define REDUCE_LANES(T, combine)                                                            \
    for (int64_t i = 0; i < n; i++) lane[i % IR_LANES] = combine(lane[i % IR_LANES], x[i]); \
    for (int step = IR_LANES / 2; step; step /= 2)                                          \
        for (int j = 0; j < step; j++) lane[j] = combine(lane[j], lane[j + step]);          \
    break
#define REDUCE_CHAIN(T, combine)                                    \
    for (int64_t i = 1; i < n; i++) x[i] = combine(x[i - 1], x[i]); \
    break
#define REDUCE_CARRY(T, combine)                                 \
    for (int64_t i = 0; i < n; i++) x[i] = combine(carry, x[i]); \
    break

#define REDUCE_SWITCH(T, loop)                    \
    switch (op) {                                 \
    case IR_redop_sum: loop(T, REDUCE_SUM_##T);   \
    case IR_redop_prod: loop(T, REDUCE_PROD_##T); \
    case IR_redop_max:                            \
    case IR_redop_any: loop(T, REDUCE_MAX_##T);    \
    case IR_redop_min:                            \
    case IR_redop_all: loop(T, REDUCE_MIN_##T);   \
    default: break;                               \
    }

/* For each accumulation type: the partial of a block, one combination, the two halves of a
 * cumulative block. */
#define REDUCE_TYPE(T, ctype)                                                                    \
    static reduce_cell reduce_block_##T(int op, reduce_cell id, const ctype *x, int64_t n) {     \
        ctype lane[IR_LANES];                                                                    \
        for (int j = 0; j < IR_LANES; j++) lane[j] = id.T;                                       \
        REDUCE_SWITCH(T, REDUCE_LANES)                                                           \
        return (reduce_cell){.T = lane[0]};                                                      \
    }                                                                                            \
    static void reduce_chain_##T(int op, ctype *x, int64_t n) { REDUCE_SWITCH(T, REDUCE_CHAIN) } \
    static void reduce_carry_##T(int op, ctype carry, ctype *x, int64_t n) {                     \
        REDUCE_SWITCH(T, REDUCE_CARRY)                                                           \
    }

REDUCE_TYPE(f32, float)
REDUCE_TYPE(f64, double)
REDUCE_TYPE(i64, int64_t)
REDUCE_TYPE(u64, uint64_t)

static reduce_cell reduce_block(ig_dtype acc, int op, reduce_cell id, const void *x, int64_t n) {
    switch (acc) {
    case IG_f32: return reduce_block_f32(op, id, x, n);
    case IG_f64: return reduce_block_f64(op, id, x, n);
    case IG_i64: return reduce_block_i64(op, id, x, n);
    default: return reduce_block_u64(op, id, x, n);
    }
}

static void reduce_chain(ig_dtype acc, int op, void *x, int64_t n) {
    switch (acc) {
    case IG_f32: reduce_chain_f32(op, x, n); break;
    case IG_f64: reduce_chain_f64(op, x, n); break;
    case IG_i64: reduce_chain_i64(op, x, n); break;
    default: reduce_chain_u64(op, x, n); break;
    }
}

/* x[i] = carry op x[i]. */
static void reduce_carry(ig_dtype acc, int op, reduce_cell carry, void *x, int64_t n) {
    switch (acc) {
    case IG_f32: reduce_carry_f32(op, carry.f32, x, n); break;
    case IG_f64: reduce_carry_f64(op, carry.f64, x, n); break;
    case IG_i64: reduce_carry_i64(op, carry.i64, x, n); break;
    default: reduce_carry_u64(op, carry.u64, x, n); break;
    }
}

/* The identity: +0, 1, and what max and min of no elements give: -inf and inf, or the ends of the
 * integer type d. */
static reduce_cell reduce_identity(ig_dtype d, int op) {
    ig_dtype acc = ir_ref_acc(d);
    bool low = op == IR_redop_max || op == IR_redop_any,
         high = op == IR_redop_min || op == IR_redop_all;
    double x = op == IR_redop_prod ? 1 : low ? -(double)INFINITY : high ? (double)INFINITY : 0;
    uint64_t raw = 0;
    reduce_cell id = {0};
    if (d == IG_bool)
        id.u64 = op == IR_redop_prod || high;
    else {
        ir_convert(IG_f64, d, 1, &x, &raw); /* saturates */
        ir_convert(d, acc, 1, &raw, &id);
    }
    return id;
}

static reduce_cell reduce_combine(ig_dtype acc, int op, reduce_cell x, reduce_cell y) {
    reduce_carry(acc, op, x, &y, 1);
    return y;
}

/* --- reduce ----------------------------------------------------------------------------------- */

/* The tree T over block partials, streamed. */
typedef struct reduce_tree {
    reduce_cell stack[64];
    uint64_t n; /* partials so far; bit k set: a subtree of 2^k partials lies on the stack */
    int top;
} reduce_tree;

static void tree_push(reduce_tree *t, ig_dtype acc, int op, reduce_cell partial) {
    for (uint64_t bits = t->n++; bits & 1; bits >>= 1)
        partial = reduce_combine(acc, op, t->stack[--t->top], partial);
    t->stack[t->top++] = partial;
}

static reduce_cell tree_take(reduce_tree *t, ig_dtype acc, int op) {
    reduce_cell x = t->stack[--t->top];
    while (t->top) x = reduce_combine(acc, op, t->stack[--t->top], x);
    return x;
}

/* One operand's walk over the reduced axes, and the buffers of a block. */
typedef struct reduce_row {
    ig_dtype dtype, acc;
    int op;
    int64_t count; /* elements to reduce */
    char *raw;     /* IR_REDUCE_BLOCK elements as stored */
    void *wide;    /* the same in the accumulation type */
} reduce_row;

static reduce_cell reduce_fold(const reduce_row *r, ir_walk w, const void *data) {
    reduce_cell id = reduce_identity(r->dtype, r->op);
    reduce_tree tree = {.n = 0};
    if (!r->count) return id;
    for (int64_t at = 0; at < r->count; at += IR_REDUCE_BLOCK) {
        int64_t n = r->count - at < IR_REDUCE_BLOCK ? r->count - at : IR_REDUCE_BLOCK;
        ir_walk_gather(&w, rt_dtype_bytes(r->dtype), n, data, r->raw);
        ir_convert(r->dtype, r->acc, n, r->raw, r->wide);
        tree_push(&tree, r->acc, r->op, reduce_block(r->acc, r->op, id, r->wide, n));
    }
    return tree_take(&tree, r->acc, r->op);
}

/* Whether x beats the best so far. */
#define ARG_BEATS(x, best) (max ? (x) > (best) : (x) < (best))
#define ARG_SCAN(T, is_nan)                                                  \
    do {                                                                     \
        const T *x = r->wide;                                                \
        for (int64_t i = 0; i < n; i++) {                                    \
            if (at + i && !(ARG_BEATS(x[i], best.T##_) || is_nan)) continue; \
            best.T##_ = x[i];                                                \
            index = at + i;                                                  \
            if (is_nan) return index;                                        \
        }                                                                    \
    } while (0)

static int64_t reduce_arg(const reduce_row *r, ir_walk w, const void *data) {
    union {
        float float_;
        double double_;
        int64_t int64_t_;
        uint64_t uint64_t_;
    } best = {0};
    const bool max = r->op == IR_redop_argmax;
    int64_t index = 0;
    for (int64_t at = 0; at < r->count; at += IR_REDUCE_BLOCK) {
        int64_t n = r->count - at < IR_REDUCE_BLOCK ? r->count - at : IR_REDUCE_BLOCK;
        ir_walk_gather(&w, rt_dtype_bytes(r->dtype), n, data, r->raw);
        ir_convert(r->dtype, r->acc, n, r->raw, r->wide);
        switch (r->acc) {
        case IG_f32: ARG_SCAN(float, x[i] != x[i]); break;
        case IG_f64: ARG_SCAN(double, x[i] != x[i]); break;
        case IG_i64: ARG_SCAN(int64_t, false); break;
        default: ARG_SCAN(uint64_t, false); break;
        }
    }
    return index;
}

/* Split the axes of x: `inner` walks the reduced ones, `outer` the kept ones. */
static int64_t reduce_split(const ir_tensor *x, const ir_axes *axes, ir_walk *inner,
                            ir_walk *outer) {
    int64_t stride[IG_MAX_RANK], dim[2][IG_MAX_RANK], step[2][IG_MAX_RANK], count = 1;
    int n[2] = {0, 0};
    bool reduced[IG_MAX_RANK] = {false};
    for (int i = 0; i < axes->n; i++) reduced[axes->a[i]] = true;
    ir_ref_strides(x, stride);
    for (int i = 0; i < x->rank; i++) {
        int k = reduced[i];
        if (k) count = (int64_t)((uint64_t)count * (uint64_t)x->dim[i]);
        dim[k][n[k]] = x->dim[i];
        step[k][n[k]++] = stride[i];
    }
    ir_walk_init(outer, n[0], dim[0], step[0], 0);
    ir_walk_init(inner, n[1], dim[1], step[1], 0);
    return count;
}

ig_status ir_ref_reduce(const ir_ref_call *c) {
    const ir_attr_reduce *a = c->attr;
    const ir_tensor *x = &c->in[0];
    ir_tensor *y = &c->out[0];
    const bool arg = a->op == IR_redop_argmax || a->op == IR_redop_argmin;
    const size_t bytes = rt_dtype_bytes(y->dtype), cell = sizeof(reduce_cell);
    int64_t count = ir_ref_numel(y);
    ir_walk inner, outer;
    if (!count) return NULL;
    reduce_row r = {
        .dtype = (ig_dtype)x->dtype, .acc = ir_ref_acc((ig_dtype)x->dtype), .op = a->op};
    r.count = reduce_split(x, &a->axes, &inner, &outer);
    r.raw = rt_alloc_buffer(c->alloc, 2 * IR_REDUCE_BLOCK * cell);
    if (!r.raw) return rt_fail_memory();
    r.wide = r.raw + IR_REDUCE_BLOCK * cell;
    for (int64_t i = 0; i < count; i++) {
        ir_walk w = inner;
        w.at = outer.at;
        char *to = (char *)y->data + (size_t)i * bytes;
        if (arg) {
            int64_t index = reduce_arg(&r, w, x->data);
            memcpy(to, &index, sizeof index);
        } else {
            reduce_cell z = reduce_fold(&r, w, x->data);
            ir_convert(r.acc, r.dtype, 1, &z, to);
        }
        ir_walk_next(&outer);
    }
    rt_free_buffer(c->alloc, r.raw, 2 * IR_REDUCE_BLOCK * cell);
    return NULL;
}

/* --- cumred ----------------------------------------------------------------------------------- */

/* Cumulate one line of `count` elements; the walks read x and write y in the order of the
 * reduction. */
static void cumred_line(const reduce_row *r, bool exclusive, const ir_tensor *x, ir_walk from,
                        ir_tensor *y, ir_walk to) {
    const size_t bytes = rt_dtype_bytes(r->dtype), wide = rt_dtype_bytes(r->acc);
    reduce_cell id = reduce_identity(r->dtype, r->op), total = id, block = id;
    int64_t left = r->count;
    if (exclusive) {
        ir_convert(r->acc, r->dtype, 1, &id, r->raw);
        ir_walk_scatter(&to, bytes, 1, r->raw, y->data);
        left--;
    }
    for (int64_t at = 0; at < left; at += IR_CUMRED_BLOCK) {
        int64_t n = left - at < IR_CUMRED_BLOCK ? left - at : IR_CUMRED_BLOCK;
        ir_walk_gather(&from, bytes, n, x->data, r->raw);
        ir_convert(r->dtype, r->acc, n, r->raw, r->wide);
        reduce_chain(r->acc, r->op, r->wide, n);
        memcpy(&block, (const char *)r->wide + (size_t)(n - 1) * wide, wide);
        if (at) reduce_carry(r->acc, r->op, total, r->wide, n);
        total = at ? reduce_combine(r->acc, r->op, total, block) : block;
        ir_convert(r->acc, r->dtype, n, r->wide, r->raw);
        ir_walk_scatter(&to, bytes, n, r->raw, y->data);
    }
}

ig_status ir_ref_cumred(const ir_ref_call *c) {
    const ir_attr_cumred *a = c->attr;
    const ir_tensor *x = &c->in[0];
    const size_t cell = sizeof(reduce_cell);
    int64_t stride[IG_MAX_RANK], total = ir_ref_numel(x), count = x->dim[a->axis];
    ir_walk outer, line;
    if (!total) return NULL;
    ir_axes axes = {.n = 1, .a = {(uint8_t)a->axis}};
    reduce_row r = {
        .dtype = (ig_dtype)x->dtype, .acc = ir_ref_acc((ig_dtype)x->dtype), .op = a->op};
    r.count = reduce_split(x, &axes, &line, &outer);
    r.raw = rt_alloc_buffer(c->alloc, 2 * IR_CUMRED_BLOCK * cell);
    if (!r.raw) return rt_fail_memory();
    r.wide = r.raw + IR_CUMRED_BLOCK * cell;
    ir_ref_strides(x, stride);
    int64_t step = a->reverse ? -stride[a->axis] : stride[a->axis];
    for (int64_t i = 0; i < total / count; i++) {
        ir_walk_init(&line, 1, &count, &step,
                     outer.at + (a->reverse ? (count - 1) * stride[a->axis] : 0));
        cumred_line(&r, a->exclusive, x, line, &c->out[0], line);
        ir_walk_next(&outer);
    }
    rt_free_buffer(c->alloc, r.raw, 2 * IR_CUMRED_BLOCK * cell);
    return NULL;
}
