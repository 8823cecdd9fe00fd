/* sort.c - the kernel of a sort: short lines are merged, long ones dealt out by digits, between the
 * results and as much room again.
 *
 * The cluster returns every operand's result twice (passes/outline.c): the second memory of each is
 * the room.  Passes go from one memory into the other and come in pairs, so that the last one ends
 * in the results.
 *
 * A pass of merges joins neighbouring runs and doubles their length: bottom-up, log2(n) passes.  A
 * step takes the second run's element only when it is strictly less, which keeps the sort stable,
 * and chooses by selects: its branches would be mispredicted every other time.
 *
 * A round of digits (radix sort, the least one first) takes two digits of a key, counts how often
 * each occurs, and deals the elements out to where those with their digit begin: first by the lower
 * digit, then by the higher one.  The number of rounds does not depend on n, but each costs its
 * counters.  A round whose digits are the same in all elements is left out. */
#include "codegen/lower.h"

#define SORT_BITS  8  /* of a digit; half as many in elements of 8 bits */
#define SORT_SHORT 20 /* elements a round, below which lines are merged (measured) */

typedef struct sort_work {
    const ir_op *o;
    const ir_attr_sort *a;
    const ir_type *type;
    ir_ref n, last; /* elements of a line; n - 1 */
    ir_ref counter; /* memory: how many elements have a lower digit, or a higher one; {0}: merges */
    int64_t few;    /* elements of a line from which on digits are faster */
    cg_ix ix[IG_MAX_RANK];
} sort_work;

/* Where element t of the line lies, in every memory. */
static ir_ref sort_place(cg_low *l, sort_work *w, ir_ref t) {
    w->ix[w->a->axis] = cg_ix_uniform(t);
    return (ir_ref){cg_ix_flat(l, w->type->rank, w->type->dim, w->ix).r};
}

/* An integer that orders as the element does. */
static ir_ref sort_word(cg_kernel *k, ir_ref x) {
    ig_dtype d = cg_dtype_of(k, x);
    if (d == IG_bool) {
        ir_ref zero = cg_int(k, IG_u8, 0);
        return cg_select(k, x, cg_int(k, IG_u8, 1), zero);
    }
    if (!rt_is_float(d)) return x;
    ig_dtype i = d == IG_f64 ? IG_i64 : IG_i32;
    int64_t top = d == IG_f64 ? 63 : 31;
    ir_ref bits = cg_bits(k, x, i), sign = cg_shift(k, IR_shop_arith, bits, top);
    bits = cg_bit(k, IR_bitop_bxor, bits, cg_shift(k, IR_shop_right, sign, 1));
    ir_ref most = cg_int(k, i, d == IG_f64 ? INT64_MAX : INT32_MAX);
    return cg_select(k, cg_cmp(k, IR_cmpop_ne, x, x), most, bits);
}

/* Whether the element at y goes before the one at x. */
static ir_ref sort_is_less(cg_low *l, const sort_work *w, const ir_ref *from, ir_ref x, ir_ref y) {
    cg_kernel *k = &l->k;
    ir_ref less = {0};
    for (int64_t i = w->a->keys; i-- > 0;) {
        ir_ref a = sort_word(k, cg_load(k, from[i], x, 0));
        ir_ref b = sort_word(k, cg_load(k, from[i], y, 0));
        ir_ref before = w->a->descending ? cg_cmp(k, IR_cmpop_lt, a, b)
                                         : cg_cmp(k, IR_cmpop_lt, b, a);
        ir_ref same = cg_cmp(k, IR_cmpop_eq, a, b);
        less = less.i ? cg_bit(k, IR_bitop_bor, before, cg_bit(k, IR_bitop_band, same, less))
                      : before;
    }
    return less;
}

/* One element of a merge of [.., mid) and [mid, hi): carried are the next of each. */
static void sort_step(cg_low *l, sort_work *w, const ir_ref *from, const ir_ref *to, ir_ref at,
                      const ir_ref bound[2], const ir_ref next[2], ir_ref next_[2]) {
    cg_kernel *k = &l->k;
    ir_ref one = cg_i64(k, 1), i = sort_place(l, w, cg_bin(k, OP_min, next[0], w->last));
    ir_ref j = sort_place(l, w, cg_bin(k, OP_min, next[1], w->last));
    ir_ref left = sort_is_less(l, w, from, i, j);
    left = cg_bit(k, IR_bitop_band, cg_cmp(k, IR_cmpop_lt, next[1], bound[1]), left);
    ir_ref second = cg_bit(k, IR_bitop_bor, cg_cmp(k, IR_cmpop_eq, next[0], bound[0]), left);
    ir_ref take = cg_select(k, second, j, i), put = sort_place(l, w, at);
    for (uint32_t x = 0; x < w->o->nin; x++) cg_store(k, to[x], put, cg_load(k, from[x], take, 0));
    next_[0] = cg_select(k, second, next[0], cg_bin(k, OP_add, next[0], one));
    next_[1] = cg_select(k, second, cg_bin(k, OP_add, next[1], one), next[1]);
}

/* Merge all neighbouring runs of `width` elements. */
static void sort_pass(cg_low *l, sort_work *w, const ir_ref *from, const ir_ref *to, ir_ref width) {
    cg_kernel *k = &l->k;
    ir_ref one = cg_i64(k, 1), both = cg_bin(k, OP_add, width, width), next[2], after[2];
    ir_ref runs = cg_bin(k, OP_add, cg_bin(k, OP_div, w->last, both), one);
    cg_nest run = cg_open_for(l, cg_i64(k, 0), runs, 1, 0, NULL, NULL);
    ir_ref lo = cg_bin(k, OP_mul, run.loop.index, both);
    ir_ref mid = cg_bin(k, OP_min, cg_bin(k, OP_add, lo, width), w->n);
    ir_ref hi = cg_bin(k, OP_min, cg_bin(k, OP_add, mid, width), w->n);
    cg_nest each = cg_open_for(l, lo, hi, 1, 2, (ir_ref[]){lo, mid}, next);
    sort_step(l, w, from, to, each.loop.index, (ir_ref[]){mid, hi}, next, after);
    cg_close_for(l, each, 2, after);
    cg_close_for(l, run, 0, NULL);
}

/* Merges until the runs are the line. */
static void sort_merge(cg_low *l, sort_work *w) {
    cg_kernel *k = &l->k;
    ir_ref zero = cg_i64(k, 0), one = cg_i64(k, 1), *room = l->out + w->o->nin;
    /* 2^levels is the first power of two that is not below n */
    ir_ref zeros = ir_emit1(&k->b, OP_bitcount, &(ir_attr_count){.kind = IR_count_clz}, w->last);
    ir_ref levels = cg_bin(k, OP_sub, cg_i64(k, 64), zeros);
    cg_nest pair = cg_open_for(l, zero, levels, 2, 0, NULL, NULL);
    ir_ref in[2] = {one, pair.loop.index};
    ir_ref width = ir_emit(&k->b, OP_shift, &(ir_attr_shop){.op = IR_shop_left}, 2, in);
    sort_pass(l, w, l->out, room, width);
    sort_pass(l, w, room, l->out, cg_bin(k, OP_add, width, width));
    cg_close_for(l, pair, 0, NULL);
}

/* --- Digits --------------------------------------------------------------------------------- */

/* The bits of the words of key i, and of their digits. */
static int64_t sort_bits(const cg_low *l, const sort_work *w, uint32_t i) {
    ig_dtype d = (ig_dtype)cg_type(l, ir_op_in(l->f, w->o, i))->dtype;
    return d == IG_f16 || d == IG_bf16 ? 32 : 8 * (int64_t)rt_dtype_bytes(d);
}

static int64_t sort_digit_bits(int64_t bits) { return bits == 8 ? SORT_BITS / 2 : SORT_BITS; }

static int64_t sort_rounds(const cg_low *l, const sort_work *w) {
    int64_t n = 0;
    for (uint32_t i = 0; i < w->a->keys; i++) {
        int64_t bits = sort_bits(l, w, i);
        n += bits / (2 * sort_digit_bits(bits));
    }
    return n;
}

typedef struct sort_round {
    uint32_t key;
    int64_t bits, digit; /* of a word, of a digit */
    ir_ref from;         /* the lowest bit of the lower digit */
} sort_round;

/* Where the counter is of the lower or the higher digit of the element at a place. */
static ir_ref sort_digit(cg_low *l, const sort_work *w, const sort_round *r, ir_ref mem,
                         ir_ref place, bool higher) {
    cg_kernel *k = &l->k;
    ir_ref x = sort_word(k, cg_load(k, mem, place, 0));
    ig_dtype d = cg_dtype_of(k, x);
    uint64_t all = UINT64_MAX >> (64 - r->bits), top = all ^ all >> 1, flip = 0;
    if (rt_is_signed(d)) flip ^= top;
    if (w->a->descending) flip ^= all;
    if (flip)
        x = cg_bit(k, IR_bitop_bxor, x,
                   cg_int(k, d, (int64_t)(flip << (64 - r->bits)) >> (64 - r->bits)));
    ir_ref in[2] = {x, cg_cast(k, r->from, d)};
    x = ir_emit(&k->b, OP_shift, &(ir_attr_shop){.op = IR_shop_right}, 2, in);
    if (higher) x = cg_shift(k, IR_shop_right, x, r->digit);
    x = cg_bit(k, IR_bitop_band, x, cg_int(k, d, (1 << r->digit) - 1));
    x = cg_cast(k, x, IG_i64);
    return higher ? cg_bin(k, OP_add, x, cg_i64(k, 1 << r->digit)) : x;
}

/* A counter's value; it is one more afterwards. */
static ir_ref sort_count(cg_kernel *k, const sort_work *w, ir_ref at) {
    ir_ref n = cg_load(k, w->counter, at, 0);
    cg_store(k, w->counter, at, cg_bin(k, OP_add, n, cg_i64(k, 1)));
    return n;
}

/* Deal the elements out from one memory to the other. */
static void sort_deal(cg_low *l, sort_work *w, const sort_round *r, const ir_ref *from,
                      const ir_ref *to, bool higher) {
    cg_kernel *k = &l->k;
    cg_nest each = cg_open_for(l, cg_i64(k, 0), w->n, 1, 0, NULL, NULL);
    ir_ref take = sort_place(l, w, each.loop.index);
    ir_ref at = sort_digit(l, w, r, from[r->key], take, higher);
    ir_ref put = sort_place(l, w, sort_count(k, w, at));
    for (uint32_t x = 0; x < w->o->nin; x++) cg_store(k, to[x], put, cg_load(k, from[x], take, 0));
    cg_close_for(l, each, 0, NULL);
}

/* Count both digits of all elements; whether some element has others than the first one. */
static ir_ref sort_count_all(cg_low *l, sort_work *w, const sort_round *r) {
    cg_kernel *k = &l->k;
    ir_ref zero = cg_i64(k, 0), mem = l->out[r->key];
    cg_nest clear = cg_open_for(l, zero, cg_i64(k, 2 << r->digit), 1, 0, NULL, NULL);
    cg_store(k, w->counter, clear.loop.index, zero);
    cg_close_for(l, clear, 0, NULL);
    cg_nest each = cg_open_for(l, zero, w->n, 1, 0, NULL, NULL);
    ir_ref place = sort_place(l, w, each.loop.index);
    sort_count(k, w, sort_digit(l, w, r, mem, place, false));
    sort_count(k, w, sort_digit(l, w, r, mem, place, true));
    cg_close_for(l, each, 0, NULL);
    place = sort_place(l, w, zero);
    ir_ref low = cg_load(k, w->counter, sort_digit(l, w, r, mem, place, false), 0);
    ir_ref high = cg_load(k, w->counter, sort_digit(l, w, r, mem, place, true), 0);
    low = cg_cmp(k, IR_cmpop_ne, low, w->n);
    return cg_bit(k, IR_bitop_bor, low, cg_cmp(k, IR_cmpop_ne, high, w->n));
}

/* Counters become where the elements with a digit begin. */
static void sort_begins(cg_low *l, const sort_work *w, const sort_round *r) {
    cg_kernel *k = &l->k;
    ir_ref zero = cg_i64(k, 0), size = cg_i64(k, 1 << r->digit), before[2];
    cg_nest each = cg_open_for(l, zero, size, 1, 2, (ir_ref[]){zero, zero}, before);
    for (int i = 0; i < 2; i++) {
        ir_ref at = i ? cg_bin(k, OP_add, each.loop.index, size) : each.loop.index;
        ir_ref n = cg_load(k, w->counter, at, 0);
        cg_store(k, w->counter, at, before[i]);
        before[i] = cg_bin(k, OP_add, before[i], n);
    }
    cg_close_for(l, each, 2, before);
}

/* The last key first: later rounds keep the order of earlier ones. */
static void sort_digits(cg_low *l, sort_work *w) {
    cg_kernel *k = &l->k;
    const ir_ref *room = l->out + w->o->nin;
    for (uint32_t i = (uint32_t)w->a->keys; i-- > 0;) {
        sort_round r = {.key = i, .bits = sort_bits(l, w, i)};
        r.digit = sort_digit_bits(r.bits);
        ir_ref zero = cg_i64(k, 0), bits = cg_i64(k, r.bits);
        cg_nest round = cg_open_for(l, zero, bits, 2 * r.digit, 0, NULL, NULL);
        r.from = round.loop.index;
        cg_nest some = cg_open_if(l, sort_count_all(l, w, &r));
        sort_begins(l, w, &r);
        sort_deal(l, w, &r, l->out, room, false);
        sort_deal(l, w, &r, room, l->out, true);
        cg_open_else(l, some, 0, NULL);
        cg_close_if(l, some, 0, NULL);
        cg_close_for(l, round, 0, NULL);
    }
}

/* --- Lines ---------------------------------------------------------------------------------- */

static void sort_line(cg_low *l, sort_work *w) {
    cg_kernel *k = &l->k;
    ir_dim n = w->type->dim[w->a->axis];
    cg_nest copy = cg_open_for(l, cg_i64(k, 0), w->n, 1, 0, NULL, NULL);
    ir_ref at = sort_place(l, w, copy.loop.index);
    for (uint32_t x = 0; x < w->o->nin; x++)
        cg_store(k, l->out[x], at, cg_pull(l, ir_op_in(l->f, w->o, x), w->ix));
    cg_close_for(l, copy, 0, NULL);
    if (!w->counter.i) {
        sort_merge(l, w);
    } else if (n >= w->few) {
        sort_digits(l, w);
    } else {
        cg_nest many = cg_open_if(l, cg_cmp(k, IR_cmpop_le, cg_i64(k, w->few), w->n));
        sort_digits(l, w);
        cg_open_else(l, many, 0, NULL);
        sort_merge(l, w);
        cg_close_if(l, many, 0, NULL);
    }
}

/* A cluster that is one sort: the lines are the outermost loop.  Those without elements are not
 * looked at. */
bool cg_sort_nest(cg_low *l, ir_dim *n_) {
    const ir_op *o = ir_def_op(l->f, ir_op_in(l->f, ir_return_op(l->f), 0));
    if (!o || o->code != OP_sort) return false;
    cg_kernel *k = &l->k;
    sort_work w = {
        .o = o, .a = ir_attr_get(l->f->module, o->attr), .type = cg_type(l, ir_op_out(o, 0))};
    ir_dim dim[IG_MAX_RANK], lines = 1;
    cg_ix part[IG_MAX_RANK] = {{0}};
    int n = 0;
    for (int i = 0; i < w.type->rank; i++)
        if (i != w.a->axis) lines = ir_dim_mul(k->b.m, lines, dim[n++] = w.type->dim[i]);
    w.few = SORT_SHORT * sort_rounds(l, &w);
    if (w.type->dim[w.a->axis] < 0 || w.type->dim[w.a->axis] >= w.few)
        w.counter = cg_alloc(k, IG_i64, 2 << SORT_BITS);
    w.n = cg_dim(k, w.type->dim[w.a->axis]);
    w.last = cg_bin(k, OP_sub, w.n, cg_i64(k, 1));
    cg_nest row = cg_open_for(l, l->lo, l->hi, 1, 0, NULL, NULL);
    cg_ix_split(l, cg_ix_uniform(row.loop.index), n, dim, part);
    for (int i = 0, from = 0; i < w.type->rank; i++)
        if (i != w.a->axis) w.ix[i] = cg_ix_solid(l, part[from++]);
    cg_nest some = cg_open_if(l, cg_cmp(k, IR_cmpop_lt, cg_i64(k, 0), w.n));
    sort_line(l, &w);
    cg_open_else(l, some, 0, NULL);
    cg_close_if(l, some, 0, NULL);
    cg_close_for(l, row, 0, NULL);
    *n_ = lines;
    return true;
}
