/* reduce.c - reductions in the order of numerics rule 5.
 *
 * Element i of the flattened reduction index goes to lane i mod 16 of block i / 4096; lanes and
 * blocks combine in fixed trees.  Two ways to write the same sums:
 *
 *   across  the 16 lanes are one vector, and one vector load feeds them all: for single output
 *           elements whose reduced elements lie side by side
 *   along   the vector runs along the output (or is one element), and the 16 lanes are 16 registers
 *           in scratch memory, taken in turn: for outputs that lie side by side
 *
 * Block partials stream through a stack of one slot a level: level v holds the tree of 2^v
 * blocks.  Or they are kept in room that the cluster has for them, where a second kernel takes them
 * from (ir_rows_has_room): so threads share the elements of one result.
 *
 * argmax across a vector is the maximum, then the first element that is it. */
#include "codegen/lower.h"
#include "runtime/base/plant.h"

#include <math.h>

#define REDUCE_LEVELS 52   /* 2^63 / 4096 blocks */
#define REDUCE_AHEAD  4096 /* bytes of a strip */

typedef struct reduce_work {
    const ir_op *o;
    const cg_ix *ix; /* of the output element */
    ir_redop op;
    ig_dtype d; /* element type */
    ir_ref x;   /* the operand */
    ir_axes axes;
    int n;
    ir_dim dim[IG_MAX_RANK], count; /* reduced extents, and their product */
    ir_ref scratch;
    int64_t width; /* elements of a register of the output: its lanes, or 1 */
} reduce_work;

/* --- Monoids -------------------------------------------------------------------------------- */

static int64_t reduce_int_end(ig_dtype d, bool low) {
    int64_t bits = (int64_t)rt_dtype_bytes(d) * 8;
    if (rt_is_signed(d))
        return low ? (int64_t)(UINT64_MAX << (bits - 1)) : (int64_t)(UINT64_MAX >> (65 - bits));
    return low ? 0 : -1;
}

ir_ref cg_identity(cg_low *l, ir_redop op, ig_dtype d) {
    ig_dtype r = cg_reg(d);
    bool low = op == IR_redop_max || op == IR_redop_any || op == IR_redop_argmax;
    if (op == IR_redop_sum || op == IR_redop_prod) return cg_int(&l->k, r, op == IR_redop_prod);
    if (d == IG_bool) return cg_int(&l->k, r, !low);
    if (rt_is_float(r)) return cg_flt(&l->k, r, low ? -(double)INFINITY : (double)INFINITY);
    return cg_int(&l->k, r, reduce_int_end(d, low));
}

ir_ref cg_monoid(cg_low *l, ir_redop op, ig_dtype d, ir_ref x, ir_ref y) {
    static const ir_opcode code[] = {
        [IR_redop_sum] = OP_add, [IR_redop_prod] = OP_mul, [IR_redop_max] = OP_max,
        [IR_redop_min] = OP_min, [IR_redop_all] = OP_min,  [IR_redop_any] = OP_max,
    };
    ir_ref in[2] = {x, y};
    return cg_ew(&l->k, code[op], NULL, cg_reg(d), 2, in);
}

/* Whether the order of the monoid's steps shows in the result. */
static bool reduce_is_ordered(const reduce_work *w) {
    return rt_is_float(w->d) && (w->op == IR_redop_sum || w->op == IR_redop_prod);
}

/* --- Elements ------------------------------------------------------------------------------- */

/* The operand at position t of the flattened reduction index, as a register of `lanes`. */
static ir_ref reduce_element(cg_low *l, const reduce_work *w, cg_ix t, int64_t lanes) {
    cg_ix part[IG_MAX_RANK] = {{0}}, ix[IG_MAX_RANK] = {{0}};
    int64_t outer = l->k.lanes;
    l->k.lanes = lanes;
    cg_ix_split(l, t, w->n, w->dim, part);
    int red = 0, kept = 0;
    for (int i = 0; i < cg_type(l, w->x)->rank; i++)
        ix[i] = red < w->n && w->axes.a[red] == i ? part[red++] : w->ix[kept++];
    ir_ref r = cg_pull(l, w->x, ix);
    l->k.lanes = outer;
    return r;
}

/* --- One block ------------------------------------------------------------------------------ */

/* l[j] += l[j+8], then +4, +2, +1. */
static ir_ref reduce_fold_lanes(cg_low *l, const reduce_work *w, ir_ref v) {
    if (RT_PLANTED(reordered_lanes)) {
        ir_ref sum = cg_identity(l, w->op, w->d);
        for (int j = 0; j < IR_LANES; j++)
            sum = cg_monoid(l, w->op, w->d, sum,
                            ir_emit1(&l->k.b, OP_extract, &(ir_attr_index){.index = j}, v));
        return sum;
    }
    while (!cg_lower_failed(l) && cg_lanes_of(&l->k, v)) {
        ir_ref high = cg_half(&l->k, v, 1);
        v = cg_monoid(l, w->op, w->d, cg_half(&l->k, v, 0), high);
    }
    return v;
}

/* The positions [from, hi), fewer than a vector: lanes behind the end read the last element, and
 * drop it. */
static ir_ref reduce_rest(cg_low *l, const reduce_work *w, ir_ref acc, ir_ref from, ir_ref hi) {
    cg_kernel *k = &l->k;
    ir_ref lane = ir_emit0(&k->b, OP_viota, &(ir_attr_lanes){.lanes = IR_LANES});
    cg_nest some = cg_open_if(l, cg_cmp(k, IR_cmpop_lt, from, hi));
    ir_ref at = cg_bin(k, OP_add, lane, from), here = cg_cmp(k, IR_cmpop_lt, at, hi);
    at = cg_bin(k, OP_min, at, cg_bin(k, OP_sub, hi, cg_i64(k, 1)));
    ir_ref x = reduce_element(l, w, (cg_ix){CG_IX_VECTOR, 0, at.i, 0}, IR_LANES);
    x = cg_monoid(l, w->op, w->d, acc, cg_splat(k, x, IR_LANES));
    x = cg_select(k, here, x, acc);
    cg_open_else(l, some, 1, &x);
    return cg_close_if(l, some, 1, &acc);
}

/* The lanes take the elements of x, twice as many or as many as they are. */
static ir_ref reduce_take_vector(cg_low *l, const reduce_work *w, ir_ref acc, ir_ref x) {
    if (cg_lanes_of(&l->k, x) <= IR_LANES) return cg_monoid(l, w->op, w->d, acc, x);
    ir_ref low = cg_half(&l->k, x, 0), high = cg_half(&l->k, x, 1);
    if (reduce_is_ordered(w))
        return cg_monoid(l, w->op, w->d, cg_monoid(l, w->op, w->d, acc, low), high);
    return cg_monoid(l, w->op, w->d, acc, cg_monoid(l, w->op, w->d, low, high));
}

/* The lanes of a loop over the row: those that other loops along it take, when they fill it. */
static int64_t reduce_step(const cg_low *l, const reduce_work *w) {
    bool wide = l->rows && l->step == 2 * IR_LANES && w->count > 0 && w->count % l->step == 0;
    return wide ? l->step : IR_LANES;
}

/* The partial of positions [lo, hi), lo a multiple of the block: lanes across a vector. */
static ir_ref reduce_across(cg_low *l, const reduce_work *w, ir_ref lo, ir_ref hi) {
    cg_kernel *k = &l->k;
    ir_ref acc = cg_splat(k, cg_identity(l, w->op, w->d), IR_LANES), in, x;
    int64_t step = reduce_step(l, w);
    if (w->count < 0 || w->count >= IR_LANES) {
        ir_ref whole = cg_i64(k, -IR_LANES);
        whole = cg_bit(k, IR_bitop_band, cg_bin(k, OP_sub, hi, lo), whole);
        ir_ref end = cg_bin(k, OP_add, lo, whole);
        cg_nest nest = cg_open_for(l, lo, end, step, 1, &acc, &in);
        x = reduce_element(l, w, cg_ix_aligned(nest.loop.index), step);
        if (l->rows) cg_rows_ahead(l, nest.loop.index, step);
        x = reduce_take_vector(l, w, in, cg_splat(k, x, step));
        acc = cg_close_for(l, nest, 1, &x);
        lo = end;
    }
    if (w->count < 0 || w->count % IR_LANES) acc = reduce_rest(l, w, acc, lo, hi);
    return reduce_fold_lanes(l, w, acc);
}

/* Slot `at` of the scratch memory: lanes first, then the levels of the tree. */
static ir_ref reduce_slot(cg_low *l, const reduce_work *w, ir_ref at) {
    return cg_bin(&l->k, OP_mul, at, cg_i64(&l->k, w->width));
}

static ir_ref reduce_get(cg_low *l, const reduce_work *w, ir_ref at) {
    return cg_load(&l->k, w->scratch, reduce_slot(l, w, at), w->width > 1 ? w->width : 0);
}

static void reduce_set(cg_low *l, const reduce_work *w, ir_ref at, ir_ref v) {
    v = cg_splat(&l->k, v, w->width > 1 ? w->width : 0);
    cg_store(&l->k, w->scratch, reduce_slot(l, w, at), v);
}

/* Rows of a strip are far apart: fetch those that are a few thousand bytes of it ahead of row t. */
static void reduce_ahead(cg_low *l, const reduce_work *w, ir_ref t) {
    const ir_type *type = cg_type(l, w->x);
    cg_kernel *k = &l->k;
    cg_ix ix[IG_MAX_RANK] = {{0}};
    if (w->width <= 1 || w->n != 1) return;
    for (uint32_t p = 0; p < ir_nparam(l->f) && !cg_lower_failed(l); p++) {
        ir_ref v = ir_param_ref(l->f, p);
        if (!ir_same_dims(cg_type(l, v), type) || cg_strides(l, v)) continue;
        int64_t size = (int64_t)rt_dtype_bytes((ig_dtype)cg_type(l, v)->dtype);
        int64_t rows = REDUCE_AHEAD / (w->width * size), kept = 0;
        ir_ref far = cg_bin(k, OP_add, t, cg_i64(k, rows));
        for (int i = 0; i < type->rank; i++)
            ix[i] = i == w->axes.a[0] ? cg_ix_uniform(far) : w->ix[kept++];
        cg_ix at = cg_ix_flat(l, type->rank, type->dim, ix);
        if (at.kind != CG_IX_LINEAR || at.stride != 1) continue;
        for (int64_t j = 0; j < w->width; j += 64 / size)
            cg_prefetch(k, l->mem[v.i], cg_bin(k, OP_add, (ir_ref){at.r}, cg_i64(k, j)));
    }
}

/* A monoid whose order does not show needs no lanes. */
static ir_ref reduce_free(cg_low *l, const reduce_work *w, ir_ref lo, ir_ref hi) {
    int64_t lanes = w->width > 1 ? w->width : 0;
    ir_ref acc = cg_splat(&l->k, cg_identity(l, w->op, w->d), lanes), in;
    cg_nest nest = cg_open_for(l, lo, hi, 1, 1, &acc, &in);
    ir_ref x = reduce_element(l, w, cg_ix_uniform(nest.loop.index), l->k.lanes);
    reduce_ahead(l, w, nest.loop.index);
    x = cg_monoid(l, w->op, w->d, in, x);
    return cg_close_for(l, nest, 1, &x);
}

/* The same with the lanes in scratch memory. */
static ir_ref reduce_along(cg_low *l, const reduce_work *w, ir_ref lo, ir_ref hi) {
    cg_kernel *k = &l->k;
    if (!reduce_is_ordered(w)) return reduce_free(l, w, lo, hi);
    ir_ref lane[IR_LANES], id = cg_identity(l, w->op, w->d);
    for (int j = 0; j < IR_LANES; j++) reduce_set(l, w, cg_i64(k, j), id);
    cg_nest nest = cg_open_for(l, lo, hi, 1, 0, NULL, NULL);
    ir_ref t = nest.loop.index, at = cg_bit(k, IR_bitop_band, t, cg_i64(k, IR_LANES - 1));
    ir_ref x = reduce_element(l, w, cg_ix_uniform(t), k->lanes);
    reduce_ahead(l, w, t);
    reduce_set(l, w, at, cg_monoid(l, w->op, w->d, reduce_get(l, w, at), x));
    cg_close_for(l, nest, 0, NULL);
    for (int j = 0; j < IR_LANES; j++) lane[j] = reduce_get(l, w, cg_i64(k, j));
    for (int j = 1; j < IR_LANES && RT_PLANTED(reordered_lanes); j++)
        lane[0] = cg_monoid(l, w->op, w->d, lane[0], lane[j]);
    if (RT_PLANTED(reordered_lanes)) return lane[0];
    for (int step = IR_LANES / 2; step; step /= 2)
        for (int j = 0; j < step; j++) lane[j] = cg_monoid(l, w->op, w->d, lane[j], lane[j + step]);
    return lane[0];
}

/* --- Blocks --------------------------------------------------------------------------------- */

typedef ir_ref (*reduce_block)(cg_low *l, const reduce_work *w, ir_ref lo, ir_ref hi);

static ir_ref reduce_level(cg_low *l, ir_ref v) {
    return cg_bin(&l->k, OP_add, v, cg_i64(&l->k, IR_LANES));
}

static ir_ref reduce_ctz(cg_low *l, ir_ref x) {
    return ir_emit1(&l->k.b, OP_bitcount, &(ir_attr_count){.kind = IR_count_ctz}, x);
}

/* Push the partial of block b: combine with the trees of the trailing ones of b. */
static void reduce_push(cg_low *l, const reduce_work *w, ir_ref b, ir_ref partial) {
    cg_kernel *k = &l->k;
    ir_ref level = reduce_ctz(l, cg_un(k, OP_lnot, b)), in;
    partial = cg_splat(k, partial, w->width > 1 ? w->width : 0);
    cg_nest nest = cg_open_for(l, cg_i64(k, 0), level, 1, 1, &partial, &in);
    ir_ref r = cg_monoid(l, w->op, w->d, reduce_get(l, w, reduce_level(l, nest.loop.index)), in);
    r = cg_close_for(l, nest, 1, &r);
    reduce_set(l, w, reduce_level(l, level), r);
}

/* Combine what is on the stack after n blocks, the smallest trees first. */
static ir_ref reduce_take(cg_low *l, const reduce_work *w, ir_ref n) {
    cg_kernel *k = &l->k;
    ir_ref low = reduce_ctz(l, n), one = cg_i64(k, 1), in,
           r = reduce_get(l, w, reduce_level(l, low));
    ir_ref lz = ir_emit1(&k->b, OP_bitcount, &(ir_attr_count){.kind = IR_count_clz}, n);
    ir_ref top = cg_bin(k, OP_sub, cg_i64(k, 64), lz);
    cg_nest nest = cg_open_for(l, cg_bin(k, OP_add, low, one), top, 1, 1, &r, &in);
    ir_ref by[2] = {n, nest.loop.index};
    ir_ref bit = ir_emit(&k->b, OP_shift, &(ir_attr_shop){.op = IR_shop_right}, 2, by);
    bit = cg_bit(k, IR_bitop_band, bit, one);
    cg_nest branch = cg_open_if(l, cg_cmp(k, IR_cmpop_eq, bit, one));
    r = cg_monoid(l, w->op, w->d, reduce_get(l, w, reduce_level(l, nest.loop.index)), in);
    cg_open_else(l, branch, 1, &r);
    r = cg_close_if(l, branch, 1, &in);
    return cg_close_for(l, nest, 1, &r);
}

/* Whether the count is at most one block, whatever the dims. */
static bool reduce_is_short(const cg_low *l, ir_dim count) {
    int64_t lo, hi;
    ir_dim_range(l->k.b.m, count, &lo, &hi);
    return hi <= IR_REDUCE_BLOCK;
}

/* Blocks of the reduction, at least one. */
static ir_ref reduce_count_blocks(cg_low *l, const reduce_work *w) {
    cg_kernel *k = &l->k;
    ir_ref n = cg_bin(k, OP_add, cg_dim(k, w->count), cg_i64(k, IR_REDUCE_BLOCK - 1));
    return cg_bin(k, OP_max, cg_bin(k, OP_div, n, cg_i64(k, IR_REDUCE_BLOCK)), cg_i64(k, 1));
}

static ir_ref reduce_blocks(cg_low *l, const reduce_work *w, reduce_block block) {
    cg_kernel *k = &l->k;
    ir_ref zero = cg_i64(k, 0), count = cg_dim(k, w->count), size = cg_i64(k, IR_REDUCE_BLOCK);
    if (reduce_is_short(l, w->count) || !reduce_is_ordered(w)) return block(l, w, zero, count);
    ir_ref n = reduce_count_blocks(l, w);
    cg_nest nest = cg_open_for(l, zero, n, 1, 0, NULL, NULL);
    ir_ref lo = cg_bin(k, OP_mul, nest.loop.index, size);
    ir_ref hi = cg_bin(k, OP_min, cg_bin(k, OP_add, lo, size), count);
    reduce_push(l, w, nest.loop.index, block(l, w, lo, hi));
    cg_close_for(l, nest, 0, NULL);
    return reduce_take(l, w, n);
}

/* --- argmax, argmin ------------------------------------------------------------------------- */

/* Whether x takes the place of the best so far: larger (smaller), or the first NaN. */
static ir_ref reduce_beats(cg_low *l, const reduce_work *w, ig_dtype r, ir_ref x, ir_ref best) {
    cg_kernel *k = &l->k;
    ir_ref better = w->op == IR_redop_argmax ? cg_cmp(k, IR_cmpop_lt, best, x)
                                             : cg_cmp(k, IR_cmpop_lt, x, best);
    if (!rt_is_float(r)) return better;
    better = cg_bit(k, IR_bitop_bor, better, cg_cmp(k, IR_cmpop_ne, x, x));
    return cg_bit(k, IR_bitop_band, better, cg_cmp(k, IR_cmpop_eq, best, best));
}

static ir_ref reduce_arg(cg_low *l, const reduce_work *w) {
    cg_kernel *k = &l->k;
    ig_dtype r = w->d == IG_bool ? IG_u8 : cg_reg(w->d);
    int64_t lanes = w->width > 1 ? w->width : 0;
    ir_ref init[2] = {cg_splat(k, cg_identity(l, w->op, w->d == IG_bool ? IG_u8 : w->d), lanes),
                      cg_splat(k, cg_i64(k, 0), lanes)};
    ir_ref in[2], out[2];
    ir_ref end = cg_dim(k, w->count);
    cg_nest nest = cg_open_for(l, cg_i64(k, 0), end, 1, 2, init, in);
    ir_ref x = reduce_element(l, w, cg_ix_uniform(nest.loop.index), k->lanes);
    if (w->d == IG_bool) x = cg_convert(k, IG_bool, IG_u8, x);
    ir_ref beats = reduce_beats(l, w, r, x, in[0]);
    out[0] = cg_select(k, beats, x, in[0]);
    out[1] = cg_select(k, beats, nest.loop.index, in[1]);
    return ir_result(cg_close_for(l, nest, 2, out), 1);
}

static bool reduce_is_arg(ir_redop op) { return op == IR_redop_argmax || op == IR_redop_argmin; }

/* What is looked for first: for argmax the maximum. */
static ir_redop arg_op(const reduce_work *w) {
    if (!reduce_is_arg(w->op)) return w->op;
    return w->op == IR_redop_argmax ? IR_redop_max : IR_redop_min;
}

/* The first position in [lo, hi) of an element that is `best` or NaN, or what is in `at` when that
 * is before it; as a vector, each lane for itself. */
static ir_ref arg_scan(cg_low *l, const reduce_work *w, ir_ref best, ir_ref lo, ir_ref hi,
                       ir_ref at) {
    cg_kernel *k = &l->k;
    int64_t lanes = cg_lanes_of(k, at);
    ir_ref in;
    cg_nest nest = cg_open_for(l, lo, hi, lanes ? lanes : 1, 1, &at, &in);
    ir_ref t = nest.loop.index;
    cg_ix ix = lanes ? cg_ix_aligned(t) : cg_ix_uniform(t);
    ir_ref x = cg_splat(k, reduce_element(l, w, ix, lanes), lanes);
    if (w->d == IG_bool) x = cg_convert(k, IG_bool, IG_u8, x);
    ir_ref is = cg_cmp(k, IR_cmpop_eq, x, best);
    if (rt_is_float(cg_reg(w->d)))
        is = cg_bit(k, IR_bitop_bor, is, cg_cmp(k, IR_cmpop_ne, x, x));
    ir_ref lane = lanes ? ir_emit0(&k->b, OP_viota, &(ir_attr_lanes){.lanes = IR_LANES}) : t;
    ir_ref here = cg_select(k, is, lanes ? cg_bin(k, OP_add, lane, t) : t, in);
    here = cg_bin(k, OP_min, here, in);
    return cg_close_for(l, nest, 1, &here);
}

/* The same in whole vectors, then one by one. */
static ir_ref arg_first(cg_low *l, const reduce_work *w, ir_ref best, ir_ref lo, ir_ref hi) {
    cg_kernel *k = &l->k;
    ir_ref whole = cg_bit(k, IR_bitop_band, cg_bin(k, OP_sub, hi, lo), cg_i64(k, -IR_LANES));
    ir_ref end = cg_bin(k, OP_add, lo, whole);
    ir_ref at = arg_scan(l, w, best, lo, end, cg_splat(k, hi, IR_LANES));
    while (!cg_lower_failed(l) && cg_lanes_of(k, at))
        at = cg_bin(k, OP_min, cg_half(k, at, 0), cg_half(k, at, 1));
    return arg_scan(l, w, best, end, hi, at);
}

/* Where the elements lie side by side: the best one, lanes across a vector, then where it is. */
static ir_ref reduce_arg_across(cg_low *l, const reduce_work *w) {
    cg_kernel *k = &l->k;
    reduce_work m = *w;
    ir_ref lo = cg_i64(k, 0), hi = cg_dim(k, w->count);
    m.op = arg_op(w);
    ir_ref best = reduce_across(l, &m, lo, hi);
    if (w->d == IG_bool) best = cg_convert(k, IG_bool, IG_u8, best);
    return arg_first(l, w, best, lo, hi);
}

/* --- In two steps --------------------------------------------------------------------------- */

/* The memory of the room. */
static ir_ref room_memory(const cg_low *l) { return l->out[ir_return_op(l->f)->nin - 1]; }

/* The total of block b of the reduction at w->ix, from the room. */
static ir_ref room_get(cg_low *l, const reduce_work *w, ir_ref b) {
    const ir_type *t = cg_type(l, ir_op_out(w->o, 0));
    cg_kernel *k = &l->k;
    ir_ref at = cg_ix_value(l, cg_ix_flat(l, t->rank, t->dim, w->ix));
    at = cg_bin(k, OP_add, cg_bin(k, OP_mul, at, reduce_count_blocks(l, w)), b);
    return cg_load(k, room_memory(l), at, 0);
}

/* The tree over the totals; any order where none shows. */
static ir_ref room_combine(cg_low *l, const reduce_work *w) {
    cg_kernel *k = &l->k;
    ir_ref n = reduce_count_blocks(l, w), acc = cg_identity(l, w->op, w->d), in;
    bool ordered = reduce_is_ordered(w);
    cg_nest nest = cg_open_for(l, cg_i64(k, 0), n, 1, !ordered, &acc, &in);
    ir_ref x = room_get(l, w, nest.loop.index);
    if (ordered)
        reduce_push(l, w, nest.loop.index, x);
    else
        x = cg_monoid(l, w->op, w->d, in, x);
    acc = cg_close_for(l, nest, !ordered, &x);
    return ordered ? reduce_take(l, w, n) : acc;
}

/* argmax, argmin: the room has the largest (smallest) element of each block.  The first element
 * that is as large as that of the best block is in the first such block. */
static ir_ref room_find(cg_low *l, const reduce_work *w) {
    cg_kernel *k = &l->k;
    ir_ref size = cg_i64(k, IR_REDUCE_BLOCK), one = cg_i64(k, 1), in[2], out[2];
    ig_dtype r = w->d == IG_bool ? IG_u8 : cg_reg(w->d);
    ir_ref init[2] = {room_get(l, w, cg_i64(k, 0)), cg_i64(k, 0)};
    if (w->d == IG_bool) init[0] = cg_convert(k, IG_bool, IG_u8, init[0]);
    cg_nest nest = cg_open_for(l, one, reduce_count_blocks(l, w), 1, 2, init, in);
    ir_ref x = room_get(l, w, nest.loop.index);
    if (w->d == IG_bool) x = cg_convert(k, IG_bool, IG_u8, x);
    ir_ref beats = reduce_beats(l, w, r, x, in[0]);
    out[0] = cg_select(k, beats, x, in[0]);
    out[1] = cg_select(k, beats, nest.loop.index, in[1]);
    ir_ref best = cg_close_for(l, nest, 2, out);
    ir_ref lo = cg_bin(k, OP_mul, ir_result(best, 1), size);
    ir_ref hi = cg_bin(k, OP_min, cg_bin(k, OP_add, lo, size), cg_dim(k, w->count));
    return arg_first(l, w, best, lo, hi);
}

/* --- The rule ------------------------------------------------------------------------------- */

static reduce_work reduce_begin(cg_low *l, const ir_op *o, const cg_ix *ix) {
    const ir_attr_reduce *a = ir_attr_get(l->f->module, o->attr);
    reduce_work w = {.o = o,
                     .ix = ix,
                     .op = (ir_redop)a->op,
                     .x = ir_op_in(l->f, o, 0),
                     .axes = a->axes,
                     .width = 1};
    const ir_type *x = cg_type(l, w.x);
    w.d = (ig_dtype)x->dtype;
    w.n = a->axes.n;
    w.count = 1;
    w.scratch = l->scratch[o->out0];
    for (int i = 0; i < w.n; i++) {
        w.dim[i] = x->dim[a->axes.a[i]];
        w.count = ir_dim_mul(l->k.b.m, w.count, w.dim[i]);
    }
    return w;
}

/* Levels that the tree over its blocks can have. */
static int64_t reduce_levels(const cg_low *l, const reduce_work *w) {
    int64_t lo, hi, levels = 0;
    ir_dim_range(l->k.b.m, w->count, &lo, &hi);
    while (levels < REDUCE_LEVELS && hi > IR_REDUCE_BLOCK) hi -= hi / 2, levels++;
    return levels + 1;
}

/* Whether the elements of one reduction lie side by side: the last axis is one of them. */
static bool reduce_is_inner(const cg_low *l, const ir_op *o) {
    const ir_attr_reduce *a = ir_attr_get(l->f->module, o->attr);
    const ir_type *x = cg_type(l, ir_op_in(l->f, o, 0));
    return a->axes.n && a->axes.a[a->axes.n - 1] == x->rank - 1;
}

bool cg_room_nest(cg_low *l, ir_dim *n_) {
    const ir_op *o = l->f->ops.data;
    cg_kernel *k = &l->k;
    cg_ix ix[IG_MAX_RANK] = {{0}};
    if (l->room != CG_ROOM_FILL) return false;
    while (o->code != OP_reduce) o++;
    const ir_type *room = ir_result_type(l->f, ir_return_op(l->f)->nin - 1);
    *n_ = ir_type_numel(k->b.m, room);
    cg_nest nest = cg_open_for(l, l->lo, l->hi, 1, 0, NULL, NULL);
    cg_ix_split(l, cg_ix_uniform(nest.loop.index), room->rank, room->dim, ix);
    for (int i = 0; i < room->rank; i++) ix[i] = cg_ix_solid(l, ix[i]);
    reduce_work w = reduce_begin(l, o, ix);
    w.op = arg_op(&w);
    ir_ref size = cg_i64(k, IR_REDUCE_BLOCK);
    ir_ref lo = cg_bin(k, OP_mul, (ir_ref){ix[room->rank - 1].r}, size);
    ir_ref hi = cg_bin(k, OP_min, cg_bin(k, OP_add, lo, size), cg_dim(k, w.count));
    cg_store(k, room_memory(l), nest.loop.index, reduce_across(l, &w, lo, hi));
    cg_close_for(l, nest, 0, NULL);
    return true;
}

ir_ref cg_reduce_at(cg_low *l, const ir_op *o, const cg_ix *ix) {
    reduce_work w = reduce_begin(l, o, ix);
    if (l->room && reduce_is_arg(w.op)) return room_find(l, &w);
    if (l->room) return cg_round(&l->k, w.d, room_combine(l, &w));
    bool vary = false;
    for (int i = 0; i < cg_type(l, ir_op_out(o, 0))->rank; i++) vary |= ix[i].kind != CG_IX_UNIFORM;
    if (vary) w.width = l->k.lanes;
    bool across = !vary && reduce_is_inner(l, o);
    bool few = w.count >= 0 && w.count < 2 * IR_LANES; /* no gain from vectors */
    if (reduce_is_arg(w.op))
        return across && !few ? reduce_arg_across(l, &w) : reduce_arg(l, &w);
    return cg_round(&l->k, w.d, reduce_blocks(l, &w, across ? reduce_across : reduce_along));
}

void cg_reduce_prepare(cg_low *l) {
    for (uint32_t i = 0; i < l->f->ops.n && !cg_lower_failed(l); i++) {
        const ir_op *o = &l->f->ops.data[i];
        if (o->code != OP_reduce) continue;
        l->scalar |= reduce_is_inner(l, o);
        reduce_work w = reduce_begin(l, o, NULL);
        if (reduce_is_arg(w.op) || !reduce_is_ordered(&w) || l->room == CG_ROOM_FILL) continue;
        int64_t width = reduce_is_inner(l, o) ? CG_LANES : l->strip;
        l->scratch[o->out0] =
            cg_alloc(&l->k, cg_reg(w.d), (IR_LANES + reduce_levels(l, &w)) * width);
    }
}
