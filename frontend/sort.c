/* sort.c - sort, argsort and topk as a network of compare-exchanges, made of elementwise ops and
 * slices, so that they trace like everything else.
 *
 * Elements become signed integer keys in the order of the contract (numerics rule 8): -0 before +0,
 * NaN last.  Keys up to 32 bits are packed above their position into one i64 word, so that words
 * are distinct, the sort is stable and an exchange is a min and a max; 64-bit keys carry their
 * position in a second tensor.  The network is Batcher's bitonic sort in the form without
 * directions: to merge two sorted halves of a block, compare element i with its mirror image, then
 * at distances block/4, ..., 1.  The axis is padded to a power of two with largest words. */
#include "frontend/fe.h"
#include <string.h>

/* Words along the last axis, and for 64-bit keys their positions. */
typedef struct sort_words {
    ig_tensor *key, *at; /* at NULL: packed */
} sort_words;

/* --- Keys ---------------------------------------------------------------------------------- */

static ig_dtype sort_signed(ig_dtype d) {
    static const uint8_t by_bytes[9] = {[1] = IG_i8, [2] = IG_i16, [4] = IG_i32, [8] = IG_i64};
    return (ig_dtype)by_bytes[rt_dtype_bytes(d)];
}

static ig_tensor *sort_bitcast(fe_call *c, ig_tensor *x, ig_dtype d) {
    ir_attr_dtype attr = {.dtype = (uint8_t)d};
    return fe_is_poison(x) || x->dtype == d ? x : fe_op1(c, OP_bitcast, &attr, x);
}

static ig_tensor *sort_shift(fe_call *c, ir_shop op, ig_tensor *x, int64_t by) {
    ir_attr_shop attr = {.op = (uint8_t)op};
    return fe_is_poison(x) ? x : fe_ew2(c, OP_shift, &attr, x, fe_int(c, (ig_dtype)x->dtype, by));
}

/* Bits of a float as an integer that orders as the float does; its own inverse. */
static ig_tensor *sort_fold_sign(fe_call *c, ig_tensor *bits) {
    if (fe_is_poison(bits)) return bits;
    int64_t top = (int64_t)(8 * rt_dtype_bytes((ig_dtype)bits->dtype)) - 1;
    ig_tensor *sign = sort_shift(c, IR_shop_arith, bits, top);
    return fe_bit(c, IR_bitop_bxor, bits, sort_shift(c, IR_shop_right, sign, 1));
}

/* Unsigned bits as a signed integer of the same order; its own inverse. */
static ig_tensor *sort_flip_top(fe_call *c, ig_tensor *bits) {
    if (fe_is_poison(bits)) return bits;
    int64_t least = (int64_t)(UINT64_MAX << (8 * rt_dtype_bytes((ig_dtype)bits->dtype) - 1));
    return fe_bit(c, IR_bitop_bxor, bits, fe_int(c, (ig_dtype)bits->dtype, least));
}

static ig_tensor *sort_key(fe_call *c, ig_tensor *x, bool descending) {
    ig_dtype d = (ig_dtype)x->dtype, s = sort_signed(d);
    ig_tensor *key = d == IG_bool ? fe_convert(c, x, s) : sort_bitcast(c, x, s);
    if (rt_is_float(d)) key = sort_fold_sign(c, key);
    if (rt_is_int(d) && !rt_is_signed(d)) key = sort_flip_top(c, key);
    return descending ? fe_op1(c, OP_lnot, NULL, key) : key;
}

static ig_tensor *sort_unkey(fe_call *c, ig_tensor *key, ig_dtype d, bool descending) {
    if (descending) key = fe_op1(c, OP_lnot, NULL, key);
    if (rt_is_float(d)) key = sort_fold_sign(c, key);
    if (rt_is_int(d) && !rt_is_signed(d)) key = sort_flip_top(c, key);
    return d == IG_bool ? fe_convert(c, key, d) : sort_bitcast(c, key, d);
}

/* --- The network --------------------------------------------------------------------------- */

/* x[..., n] as [rows, n / size, 2, size / 2]. */
static ig_tensor *sort_halves(fe_call *c, ig_tensor *x, ir_dim rows, int64_t n, int64_t size) {
    ir_dims d = {.n = 4, .d = {rows, n / size, 2, size / 2}};
    return fe_is_poison(x) ? x : fe_reshape(c, x, &d);
}

/* Half 0 or 1 of the blocks, the second one mirrored for the first step of a merge. */
static ig_tensor *sort_half(fe_call *c, ig_tensor *x, int half, bool mirror) {
    ir_axes last = {.n = 1, .a = {3}};
    ig_tensor *h = fe_cut(c, x, 2, half, half + 1);
    return mirror && !fe_is_poison(h) ? fe_flip(c, h, &last) : h;
}

static ig_tensor *sort_join(fe_call *c, ig_tensor *lo, ig_tensor *hi, bool mirror) {
    ir_axes last = {.n = 1, .a = {3}};
    ig_tensor *half[2] = {lo, mirror && !fe_is_poison(hi) ? fe_flip(c, hi, &last) : hi};
    return fe_is_poison(lo) || fe_is_poison(hi) ? fe_poison(c) : fe_concat(c, 2, half, 2);
}

/* Compare and exchange the halves of every block of `size`. */
static void sort_exchange(fe_call *c, sort_words *w, ir_dim rows, int64_t n, int64_t size,
                          bool mirror) {
    ig_tensor *key = sort_halves(c, w->key, rows, n, size);
    ig_tensor *a = sort_half(c, key, 0, false), *b = sort_half(c, key, 1, mirror);
    if (!w->at) {
        w->key = sort_join(c, fe_ew2(c, OP_min, NULL, a, b), fe_ew2(c, OP_max, NULL, a, b), mirror);
        return;
    }
    ig_tensor *at = sort_halves(c, w->at, rows, n, size);
    ig_tensor *p = sort_half(c, at, 0, false), *q = sort_half(c, at, 1, mirror);
    ig_tensor *tie =
        fe_bit(c, IR_bitop_band, fe_cmp(c, IR_cmpop_eq, a, b), fe_cmp(c, IR_cmpop_lt, q, p));
    ig_tensor *swap = fe_bit(c, IR_bitop_bor, fe_cmp(c, IR_cmpop_lt, b, a), tie);
    w->key = sort_join(c, fe_select(c, swap, b, a), fe_select(c, swap, a, b), mirror);
    w->at = sort_join(c, fe_select(c, swap, q, p), fe_select(c, swap, p, q), mirror);
}

/* One step in a call of its own, so that its temporaries go at once; the words before it go too. */
static void sort_step(fe_call *c, sort_words *w, ir_dim rows, int64_t n, int64_t size,
                      bool mirror) {
    sort_words before = *w;
    fe_call step;
    if (fe_is_poison(w->key) || !fe_enter(&step, c->site, c->op)) return;
    sort_exchange(&step, w, rows, n, size, mirror);
    w->key = fe_hand_out(&step, w->key);
    if (w->at) w->at = fe_hand_out(&step, w->at);
    fe_exit(&step);
    fe_release(before.key);
    if (before.at) fe_release(before.at);
}

/* Sort words, temporaries of this call, along their last axis of n = 2^k elements, rows of them. */
static void sort_network(fe_call *c, sort_words *w, ir_dim rows, int64_t n) {
    for (int64_t block = 2; block <= n; block *= 2)
        for (int64_t size = block; size >= 2; size /= 2)
            sort_step(c, w, rows, n, size, size == block);
}

/* --- Sorting ------------------------------------------------------------------------------- */

static int64_t sort_power(int64_t n) {
    int64_t p = 1;
    while (p < n) p *= 2;
    return p;
}

/* x[rows, n] padded to n = 2^k with the largest i64. */
static ig_tensor *sort_pad(fe_call *c, ig_tensor *x, int64_t n, int64_t to) {
    ir_attr_pad pad = {.lo = {.n = 2}, .hi = {.n = 2, .d = {0, to - n}}, .interior = {.n = 2}};
    return fe_pad_with(c, x, &pad, fe_int(c, IG_i64, INT64_MAX));
}

/* The words of x[rows, n]: new tensors of this call, ready for the network. */
static sort_words sort_load(fe_call *c, ig_tensor *x, int64_t n, int64_t to, bool descending) {
    ir_dims d = fe_dims(c, x);
    ig_tensor *key = fe_convert(c, sort_key(c, x, descending), IG_i64);
    ig_tensor *at = fe_iota(c, IG_i64, &d, 1);
    sort_words w = {key, at};
    if (rt_dtype_bytes((ig_dtype)x->dtype) < 8) {
        w.key = fe_add(c, sort_shift(c, IR_shop_left, key, 32), at);
        w.at = NULL;
    }
    if (w.at) w.at = sort_pad(c, w.at, n, to);
    w.key = sort_pad(c, w.key, n, to);
    if (!fe_is_poison(w.key)) w.key = fe_alias(c, w.key, w.key->rank, NULL);
    if (w.at && !fe_is_poison(w.at)) w.at = fe_alias(c, w.at, w.at->rank, NULL);
    if (w.at && fe_is_poison(w.at)) w.key = w.at;
    return w;
}

/* Sorted x[rows, n] and the positions the elements came from. */
static bool sort_rows(fe_call *c, ig_tensor *x, int64_t n, bool descending, ig_tensor **sorted_,
                      ig_tensor **at_) {
    int64_t to = sort_power(n);
    ig_dtype d = (ig_dtype)x->dtype;
    ir_dim rows = fe_dims(c, x).d[0];
    ir_dims shape = {.n = 2, .d = {rows, to}};
    sort_words w = sort_load(c, x, n, to, descending);
    sort_network(c, &w, rows, to);
    if (fe_is_poison(w.key) || (w.at && fe_is_poison(w.at))) return false;
    ig_tensor *key = fe_cut(c, fe_reshape(c, w.key, &shape), 1, 0, n);
    *at_ = w.at ? fe_cut(c, fe_reshape(c, w.at, &shape), 1, 0, n)
                : fe_bit(c, IR_bitop_band, key, fe_int(c, IG_i64, UINT32_MAX));
    if (!w.at) key = sort_shift(c, IR_shop_arith, key, 32);
    if (fe_is_poison(key)) return false;
    *sorted_ = sort_unkey(c, fe_convert(c, key, sort_signed(d)), d, descending);
    return !fe_is_poison(*sorted_) && !fe_is_poison(*at_);
}

/* The axis last, rows before it joined. */
static bool sort_axis(fe_call *c, ig_tensor *x, int axis, bool descending, ig_tensor **sorted_,
                      ig_tensor **at_) {
    ir_axes to_last = {.n = x->rank}, back = {.n = x->rank};
    ir_dims d = fe_dims(c, x), flat = {.n = 2, .d = {1, d.d[axis]}}, moved = {.n = d.n};
    if (!ir_dim_is_const(d.d[axis]) || d.d[axis] > (int64_t)1 << 31) {
        fe_error(c, IG_UNSUPPORTED, "axis %d of %s is %s: the network needs a fixed extent", axis,
                 FE_TYPE(x), ir_dim_is_const(d.d[axis]) ? "too long" : "dynamic");
        return false;
    }
    for (int i = 0, k = 0; i < d.n; i++) {
        int at = i == axis ? d.n - 1 : k++;
        to_last.a[at] = (uint8_t)i;
        back.a[i] = (uint8_t)at;
        moved.d[at] = d.d[i];
        if (i != axis) flat.d[0] = ir_dim_mul(fe_module(c), flat.d[0], d.d[i]);
    }
    ig_tensor *rows = fe_reshape(c, fe_transpose(c, x, &to_last), &flat);
    if (fe_is_poison(rows) || !sort_rows(c, rows, flat.d[1], descending, sorted_, at_))
        return false;
    *sorted_ = fe_transpose(c, fe_reshape(c, *sorted_, &moved), &back);
    *at_ = fe_transpose(c, fe_reshape(c, *at_, &moved), &back);
    return !fe_is_poison(*sorted_) && !fe_is_poison(*at_);
}

ig_tensor *fe_sort_words(fe_call *c, ig_tensor *words) {
    int64_t n = words->rank == 1 ? words->dim[0] : 0, to = sort_power(n);
    ir_dims row = {.n = 2, .d = {1, n}}, shape = {.n = 2, .d = {1, to}}, flat = {.n = 1, .d = {n}};
    sort_words w = {sort_pad(c, fe_reshape(c, words, &row), n, to), NULL};
    if (fe_is_poison(w.key)) return w.key;
    w.key = fe_alias(c, w.key, w.key->rank, NULL);
    sort_network(c, &w, 1, to);
    if (fe_is_poison(w.key)) return w.key;
    return fe_reshape(c, fe_cut(c, fe_reshape(c, w.key, &shape), 1, 0, n), &flat);
}

/* --- Public -------------------------------------------------------------------------------- */

ig_tensor *ig_sort_at(const ig_site *site, ig_arg x, int axis, bool descending) {
    FE_ENTER(site, "sort");
    ig_tensor *t = fe_arg(c, x), *sorted = NULL, *at;
    if (fe_is_poison(t) || !fe_axis(c, axis, t->rank, &axis)) return fe_leave(c, NULL);
    return fe_leave(c, sort_axis(c, t, axis, descending, &sorted, &at) ? sorted : NULL);
}

ig_tensor *ig_argsort_at(const ig_site *site, ig_arg x, int axis, bool descending) {
    FE_ENTER(site, "argsort");
    ig_tensor *t = fe_arg(c, x), *sorted, *at = NULL;
    if (fe_is_poison(t) || !fe_axis(c, axis, t->rank, &axis)) return fe_leave(c, NULL);
    return fe_leave(c, sort_axis(c, t, axis, descending, &sorted, &at) ? at : NULL);
}

bool ig_topk_at(const ig_site *site, ig_arg x, int k, int axis, ig_tensor **values_,
                ig_tensor **positions_) {
    *values_ = *positions_ = fe_poison_none();
    FE_ENTER_OR(site, "topk", false);
    ig_tensor *t = fe_arg(c, x), *sorted = fe_poison(c), *at = sorted;
    bool ok = !fe_is_poison(t) && fe_axis(c, axis, t->rank, &axis);
    if (ok && (k < 0 || k > t->dim[axis])) {
        fe_error(c, IG_RANGE, "%d of the %lld elements of axis %d of %s", k,
                 (long long)t->dim[axis], axis, FE_TYPE(t));
        ok = false;
    }
    ok = ok && sort_axis(c, t, axis, true, &sorted, &at);
    *values_ = fe_hand_out(c, ok ? fe_cut(c, sorted, axis, 0, k) : NULL);
    *positions_ = fe_hand_out(c, ok ? fe_cut(c, at, axis, 0, k) : NULL);
    ok = !fe_is_poison(*values_) && !fe_is_poison(*positions_);
    fe_exit(c);
    return ok;
}
