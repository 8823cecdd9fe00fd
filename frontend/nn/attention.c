/* attention.c - attention as the blocked online algorithm (Milakov and Gimelshein 2018,
 * arXiv:1805.02867; Rabe and Staats 2021, arXiv:2112.05682; Dao et al. 2022, arXiv:2205.14135).
 *
 * Keys are taken in blocks of ATTEND_KEYS, the last one as short as it is.  A row of queries
 * carries the greatest logit `top` so far, the sum of exp(logit - top) and the sum of the values
 * weighted by that; a block raises top, and fades what was summed before.  This is the definition
 * (docs/numerics.md, rule 9), hence the same bits however the loops around it are made:
 *
 *   few queries and keys   no loop, batch axes in every op
 *   else                   a scan over the batch, one over blocks of ATTEND_ROWS queries, one over
 *                          the blocks of keys: what a block works on stays in the cache
 *
 * Only one thing depends on the blocks of queries: under `causal` a block of keys that no query of
 * the block may see is not looked at.
 *
 * top is constant to derivatives: the result does not depend on it.  A block stands in a branch, so
 * that reverse mode computes its logits again instead of keeping them (docs/transform.md): memory
 * grows with the length, not with its square. */
#include "frontend/nn/nn.h"
#include "ingot/flow.h"
#include <math.h>
#include <string.h>

enum { ATTEND_KEYS = 128, ATTEND_ROWS = 128 };
enum { TOP, SUM, MIX, STATE }; /* [..,r,1], [..,r,1], [..,r,e] */

typedef struct attend {
    fe_call *c;
    bool causal;
    ig_tensor *q, *k, *v;         /* [..,r,d] times scale, [..,s,d], [..,s,e] */
    ig_tensor *full[2], *rest[2]; /* k and v: full blocks, in front, and the last; may be NULL */
    ig_tensor *mask;              /* broadcasts to [..,r,s], or NULL */
    ig_tensor *ahead;             /* i64: the last key that the first query may see; causal only */
    ig_tensor *const *state;
} attend;

static ir_dim attend_dim(const fe_call *c, const ig_tensor *t, int from_end) {
    ir_dims d = fe_dims(c, t);
    return d.d[d.n - from_end];
}

/* Whether a dim is known to be n at most. */
static bool attend_is_few(fe_call *c, ir_dim d, int64_t n) {
    return ir_dim_is_const(d) ? d <= n : ir_dim_le(fe_module(c), d, n);
}

static ig_tensor *attend_count(fe_call *c, ig_tensor *t, int from_end) {
    return fe_count(c, t, &(ir_axes){.n = 1, .a = {(uint8_t)(t->rank - from_end)}}, IG_i64);
}

/* --- A block ---------------------------------------------------------------------------------- */

/* Whether the key in column s may be seen by the query in row r: s - r <= ahead, bool [r,s]. */
static ig_tensor *attend_seen(fe_call *c, const attend *a, ig_tensor *logits) {
    ir_dims d = {2, {attend_dim(c, logits, 2), attend_dim(c, logits, 1)}};
    ig_tensor *far = fe_sub(c, fe_iota(c, IG_i32, &d, 1), fe_iota(c, IG_i32, &d, 0));
    ig_tensor *most = fe_int(c, IG_i64, ATTEND_KEYS), *least = fe_int(c, IG_i64, -ATTEND_ROWS);
    ig_tensor *ahead = fe_ew2(c, OP_min, NULL, fe_ew2(c, OP_max, NULL, a->ahead, least), most);
    return fe_cmp(c, IR_cmpop_le, far, fe_convert(c, ahead, IG_i32));
}

static ig_tensor *attend_logits(fe_call *c, const attend *a) {
    const ig_dtype d = (ig_dtype)a->q->dtype;
    ig_tensor *x = NN_OP2(matmul, a->q, fe_convert(c, a->k, d)),
              *none = fe_float(c, d, (double)-INFINITY);
    if (a->mask && a->mask->dtype == IG_bool)
        x = ig_where_at(c->site, ig_arg_t(a->mask), ig_arg_t(x), ig_arg_t(none));
    else if (a->mask)
        x = NN_OP2(add, x, fe_convert(c, a->mask, d));
    if (!a->causal || fe_is_poison(x)) return x;
    return ig_where_at(c->site, ig_arg_t(attend_seen(c, a, x)), ig_arg_t(x), ig_arg_t(none));
}

/* The state behind a block of keys. */
static void attend_block(fe_call *c, const attend *a, ig_tensor **out) {
    const ig_dtype d = (ig_dtype)a->q->dtype;
    const ig_axes last = {.n = 1, .keep = true, .a = {-1}};
    ig_tensor *const *s = a->state, *x = attend_logits(c, a);
    ig_tensor *top = NN_OP2(maximum, s[TOP], ig_max_at(c->site, ig_arg_t(x), last));
    top = NN_OP1(stop_gradient, top);
    ig_tensor *none = NN_NUM(eq, top, (double)-INFINITY); /* nothing seen: -inf - -inf is NaN */
    ig_tensor *base = ig_where_at(c->site, ig_arg_t(none), ig_arg_f(0), ig_arg_t(top));
    ig_tensor *share = NN_OP1(exp, NN_OP2(sub, x, base));
    ig_tensor *fade = NN_OP1(exp, NN_OP2(sub, s[TOP], base));
    ig_tensor *mix = NN_OP2(matmul, share, fe_convert(c, a->v, d));
    out[TOP] = top;
    out[SUM] = NN_OP2(add, NN_OP2(mul, s[SUM], fade), ig_sum_at(c->site, ig_arg_t(share), last));
    out[MIX] = NN_OP2(add, NN_OP2(mul, s[MIX], fade), mix);
}

/* The state before any key. */
static bool attend_begin(fe_call *c, const attend *a, ig_tensor **state) {
    const ig_dtype d = (ig_dtype)a->q->dtype;
    ir_dims row = fe_dims(c, a->q), mix = row;
    row.d[row.n - 1] = 1;
    mix.d[mix.n - 1] = attend_dim(c, a->v, 1);
    state[TOP] = fe_fill(c, fe_float(c, d, (double)-INFINITY), &row);
    state[SUM] = fe_fill(c, fe_float(c, d, 0), &row);
    state[MIX] = fe_fill(c, fe_float(c, d, 0), &mix);
    return !fe_is_poison(state[TOP]) && !fe_is_poison(state[SUM]) && !fe_is_poison(state[MIX]);
}

/* --- Blocks of keys --------------------------------------------------------------------------- */

static void attend_look(void *user, ig_tensor *const *in, ig_tensor **out) {
    attend a = *(const attend *)user;
    fe_call c_, *const c = &c_;
    (void)in;
    if (!fe_enter(c, a.c->site, a.c->op)) return;
    attend_block(c, &a, out);
    for (int k = 0; k < STATE; k++) out[k] = fe_hand_out(c, out[k]);
    fe_exit(c);
}

static void attend_pass(void *user, ig_tensor *const *in, ig_tensor **out) {
    const attend *a = user;
    (void)in;
    for (int k = 0; k < STATE; k++) out[k] = a->state[k];
}

/* A block that may be out of sight. */
static bool attend_try(fe_call *c, attend *a, ig_tensor **out) {
    const ig_body_fn look = attend_look;
    if (!a->causal)
        return ig_switch_at(c->site, ig_arg_t(fe_int(c, IG_i32, 0)), 1, &look, a, 0, NULL, STATE,
                            out);
    ig_tensor *rows = attend_count(c, a->q, 2), *reach = fe_add(c, a->ahead, rows);
    ig_tensor *sees = fe_cmp(c, IR_cmpop_lt, fe_int(c, IG_i64, 0), reach);
    return ig_if_at(c->site, ig_arg_t(sees), attend_look, attend_pass, a, 0, NULL, STATE, out);
}

/* in: state, keys, values (, mask), number of the block -> state */
static void attend_step(void *user, ig_tensor *const *in, ig_tensor **out) {
    attend a = *(const attend *)user;
    fe_call c_, *const c = &c_;
    if (!fe_enter(c, a.c->site, a.c->op)) return;
    bool masked = a.mask && attend_dim(c, a.mask, 1) != 1;
    a.c = c;
    a.state = in;
    a.k = in[STATE];
    a.v = in[STATE + 1];
    if (masked) a.mask = in[STATE + 2];
    if (a.causal) {
        ig_tensor *before = fe_mul(c, in[STATE + 2 + masked], fe_int(c, IG_i64, ATTEND_KEYS));
        a.ahead = fe_sub(c, a.ahead, before);
    }
    attend_try(c, &a, out);
    for (int k = 0; k < STATE; k++) out[k] = fe_hand_out(c, out[k]);
    fe_exit(c);
}

/* Axis `axis` of x as full blocks of n, in front, and the rest; NULL for what is known to be empty,
 * but not for both. */
static ig_tensor *attend_blocks(fe_call *c, ig_tensor *x, int axis, int64_t n, ig_tensor **rest_) {
    ir_module *m = fe_module(c);
    ir_dims d = fe_dims(c, x), split = {.n = d.n + 1};
    ir_dim blocks = ir_dim_floordiv(m, d.d[axis], n), full = ir_dim_mul(m, blocks, n);
    *rest_ = blocks != 0 && full == d.d[axis] ? NULL : fe_cut(c, x, axis, full, d.d[axis]);
    if (blocks == 0) return NULL;
    for (int i = 0; i < split.n; i++)
        split.d[i] = i < axis ? d.d[i] : i == axis ? blocks : i == axis + 1 ? n : d.d[i - 1];
    x = fe_reshape(c, *rest_ ? fe_cut(c, x, axis, 0, full) : x, &split);
    return axis ? ig_move_axis_at(c->site, ig_arg_t(x), axis, 0) : x;
}

/* Keys as the logits' contraction reads them: once for all queries. */
static ig_tensor *attend_turned(fe_call *c, ig_tensor *k) {
    return k ? ig_swap_axes_at(c->site, ig_arg_t(k), -1, -2) : NULL;
}

/* All blocks of keys, two axes each. */
static bool attend_keys(fe_call *c, const attend *a, ig_tensor **state) {
    ig_tensor *full[3] = {a->full[0], a->full[1]}, *rest = NULL, *behind[STATE];
    attend block = *a;
    int n = 2;
    block.c = c;
    if (a->mask && attend_dim(c, a->mask, 1) != 1) {
        full[2] = attend_blocks(c, a->mask, 1, ATTEND_KEYS, &rest);
        n = 3;
    }
    if (full[0]) {
        if (!ig_scan_at(c->site, attend_step, &block, STATE, state, n, full, 0, NULL, behind))
            return false;
        memcpy(state, behind, sizeof behind);
    }
    if (!a->rest[0]) return true;
    block.state = state;
    block.k = a->rest[0];
    block.v = a->rest[1];
    if (n == 3) block.mask = rest;
    if (a->causal)
        block.ahead =
            fe_sub(c, fe_add(c, a->ahead, attend_count(c, block.k, 1)), attend_count(c, a->k, 2));
    if (!attend_try(c, &block, behind)) return false;
    memcpy(state, behind, sizeof behind);
    return true;
}

/* --- Blocks of queries ------------------------------------------------------------------------ */

/* The state behind all keys, for a block of queries. */
static bool attend_rows(fe_call *c, const attend *whole, bool loops, ig_tensor **state) {
    ig_tensor *before[STATE];
    attend a = *whole;
    if (fe_is_poison(a.q) || !attend_begin(c, &a, before)) return false;
    memcpy(state, before, sizeof before);
    a.state = before;
    if (loops) return attend_keys(c, &a, state);
    attend_block(c, &a, state);
    return true;
}

/* -> sum, mix */
static void attend_rows_branch(void *user, ig_tensor *const *in, ig_tensor **out) {
    attend a = *(const attend *)user;
    ig_tensor *state[STATE];
    fe_call c_, *const c = &c_;
    (void)in;
    if (!fe_enter(c, a.c->site, a.c->op)) return;
    a.c = c;
    bool ok = attend_rows(c, &a, true, state);
    for (int k = SUM; k < STATE; k++) out[k - SUM] = fe_hand_out(c, ok ? state[k] : NULL);
    fe_exit(c);
}

/* The result for a block of queries.  The quotient stands outside of the branch: reverse mode takes
 * it from the result, and does not sum up the values again. */
static ig_tensor *attend_rows_again(fe_call *c, attend *a) {
    const ig_body_fn rows = attend_rows_branch;
    ig_tensor *y[2];
    ig_switch_at(c->site, ig_arg_t(fe_int(c, IG_i32, 0)), 1, &rows, a, 0, NULL, 2, y);
    return NN_OP2(div, y[1], y[0]);
}

/* in: queries (, mask), number of the block -> result */
static void attend_rows_step(void *user, ig_tensor *const *in, ig_tensor **out) {
    attend a = *(const attend *)user;
    fe_call c_, *const c = &c_;
    if (!fe_enter(c, a.c->site, a.c->op)) return;
    bool masked = a.mask && attend_dim(c, a.mask, 2) != 1;
    a.c = c;
    a.q = in[0];
    if (masked) a.mask = in[1];
    if (a.causal)
        a.ahead = fe_add(c, a.ahead, fe_mul(c, in[1 + masked], fe_int(c, IG_i64, ATTEND_ROWS)));
    out[0] = fe_leave(c, attend_rows_again(c, &a));
}

/* All queries, two axes each. */
static ig_tensor *attend_all(fe_call *c, attend *a) {
    ig_tensor *full[2], *rest[2] = {NULL}, *y[2] = {NULL};
    attend block = *a;
    int n = 1;
    block.c = c;
    block.full[0] = attend_turned(c, attend_blocks(c, a->k, 0, ATTEND_KEYS, &block.rest[0]));
    block.rest[0] = attend_turned(c, block.rest[0]);
    block.full[1] = attend_blocks(c, a->v, 0, ATTEND_KEYS, &block.rest[1]);
    if (a->causal) block.ahead = fe_sub(c, attend_count(c, a->k, 2), attend_count(c, a->q, 2));
    full[0] = attend_blocks(c, a->q, 0, ATTEND_ROWS, &rest[0]);
    if (a->mask && attend_dim(c, a->mask, 2) != 1) {
        full[1] = attend_blocks(c, a->mask, 0, ATTEND_ROWS, &rest[1]);
        n = 2;
    }
    if (full[0]) {
        if (!ig_scan_at(c->site, attend_rows_step, &block, 0, NULL, n, full, 1, NULL, y))
            return fe_poison(c);
        ir_dims d = fe_dims(c, y[0]),
                joined = {2, {ir_dim_mul(fe_module(c), d.d[0], d.d[1]), d.d[2]}};
        y[0] = fe_reshape(c, y[0], &joined);
    }
    if (!rest[0]) return y[0];
    block.q = rest[0];
    if (n == 2) block.mask = rest[1];
    if (a->causal) block.ahead = fe_sub(c, attend_count(c, a->k, 2), attend_count(c, rest[0], 2));
    y[1] = attend_rows_again(c, &block);
    if (fe_is_poison(y[1]) || !full[0]) return y[1];
    return fe_concat(c, 2, y, 0);
}

/* --- The batch -------------------------------------------------------------------------------- */

/* in: queries, keys, values (, mask) of one lane, its number -> result */
static void attend_lane(void *user, ig_tensor *const *in, ig_tensor **out) {
    attend a = *(const attend *)user;
    fe_call c_, *const c = &c_;
    if (!fe_enter(c, a.c->site, a.c->op)) return;
    a.c = c;
    a.q = in[0];
    a.k = in[1];
    a.v = in[2];
    if (a.mask && a.mask->rank > 2) a.mask = in[3];
    out[0] = fe_leave(c, attend_all(c, &a));
}

/* t with its batch axes, all of them or none, as one. */
static ig_tensor *attend_flat(fe_call *c, ig_tensor *t, ir_dim lanes) {
    ir_dims d = fe_dims(c, t), flat = {3, {lanes, d.d[d.n - 2], d.d[d.n - 1]}};
    return fe_reshape(c, t, &flat);
}

/* The batch axes go through a scan. */
static ig_tensor *attend_lanes(fe_call *c, attend *a) {
    ir_dims d = fe_dims(c, a->q), all = d;
    ir_dim lanes = 1;
    int n = 3;
    for (int i = 0; i + 2 < d.n; i++) lanes = ir_dim_mul(fe_module(c), lanes, d.d[i]);
    if (d.n == 2) return attend_all(c, a);
    ig_tensor *in[4] = {attend_flat(c, a->q, lanes), attend_flat(c, a->k, lanes),
                        attend_flat(c, a->v, lanes), NULL},
              *y;
    if (a->mask && a->mask->rank > 2) in[n++] = attend_flat(c, a->mask, lanes);
    if (!ig_scan_at(c->site, attend_lane, a, 0, NULL, n, in, 1, NULL, &y)) return fe_poison(c);
    all.d[all.n - 1] = attend_dim(c, a->v, 1);
    return fe_reshape(c, y, &all);
}

/* --- The call --------------------------------------------------------------------------------- */

/* Batch axes of t are broadcast to those of `batch`; axes from_end 2 and 1 stay. */
static ig_tensor *attend_spread(fe_call *c, ig_tensor *t, const ir_dims *batch) {
    ir_dims have = fe_dims(c, t), want = *batch;
    for (int k = 0; k < 2; k++) want.d[want.n++] = have.d[have.n - 2 + k];
    return fe_expand(c, t, &want);
}

/* Broadcast the batch axes d of the next tensor with those before; false when they do not fit. */
static bool attend_merge(ir_dims *batch, const ir_dims *d) {
    int n = d->n - 2;
    while (batch->n < n) {
        memmove(batch->d + 1, batch->d, (size_t)batch->n++ * sizeof *batch->d);
        batch->d[0] = 1;
    }
    for (int i = 0; i < n; i++) {
        ir_dim *have = &batch->d[batch->n - n + i];
        if (*have == 1) *have = d->d[i];
        if (*have != d->d[i] && d->d[i] != 1) return false;
    }
    return true;
}

/* Whether queries, keys and values fit; their batch axes. */
static bool attend_fits(fe_call *c, const attend *a, ir_dims *batch_) {
    static const char *const name[] = {"queries", "keys", "values"};
    ig_tensor *const t[] = {a->q, a->k, a->v};
    ir_dims d[3];
    *batch_ = (ir_dims){0};
    for (int k = 0; k < 3; k++) {
        if (!fe_is_usable(c, t[k], k)) return false;
        d[k] = fe_dims(c, t[k]);
        if (t[k]->rank < 2 || !rt_is_float((ig_dtype)t[k]->dtype) || t[k]->dtype != t[0]->dtype) {
            fe_error(c, t[k]->rank < 2 ? IG_SHAPE : IG_DTYPE,
                     "%s are %s: floats of one type with two axes or more are needed", name[k],
                     FE_TYPE(t[k]));
            return false;
        }
    }
    const ir_dim *q = &d[0].d[d[0].n - 2], *k = &d[1].d[d[1].n - 2], *v = &d[2].d[d[2].n - 2];
    bool fits = q[1] == k[1] && k[0] == v[0];
    for (int i = 0; fits && i < 3; i++) fits = attend_merge(batch_, &d[i]);
    if (!fits)
        fe_error(c, IG_SHAPE, "q[..,t,d] k[..,s,d] v[..,s,e] are needed, not %s, %s and %s",
                 FE_TYPE(a->q), FE_TYPE(a->k), FE_TYPE(a->v));
    return fits;
}

/* Whether the mask broadcasts to [..,t,s]; it gets the two last axes, and all batch axes or none.
 */
static bool attend_fits_mask(fe_call *c, attend *a, const ir_dims *batch) {
    if (!a->mask) return true;
    if (!fe_is_usable(c, a->mask, 3)) return false;
    ir_dims have = fe_dims(c, a->mask), want = *batch, two = {.n = 2};
    want.d[want.n++] = attend_dim(c, a->q, 2);
    want.d[want.n++] = attend_dim(c, a->k, 2);
    bool fits = have.n <= want.n, lanes = false;
    for (int i = 1; fits && i <= have.n; i++) {
        ir_dim d = have.d[have.n - i];
        fits = d == 1 || d == want.d[want.n - i];
        lanes |= i > 2 && d != 1;
    }
    if (!fits || (a->mask->dtype != IG_bool && !rt_is_float((ig_dtype)a->mask->dtype))) {
        fe_error(c, fits ? IG_DTYPE : IG_SHAPE,
                 "the mask is %s: bool or floats that broadcast to [..,t,s] of queries %s and keys "
                 "%s are needed",
                 FE_TYPE(a->mask), FE_TYPE(a->q), FE_TYPE(a->k));
        return false;
    }
    for (int i = 1; i <= 2; i++) two.d[2 - i] = have.n >= i ? have.d[have.n - i] : 1;
    if (lanes && have.n >= 2)
        a->mask = attend_spread(c, a->mask, batch);
    else
        a->mask = fe_reshape(c, a->mask, &two);
    return !fe_is_poison(a->mask);
}

ig_tensor *ig_attention_at(const ig_site *site, ig_tensor *q, ig_tensor *k, ig_tensor *v,
                           const ig_attention_options *opt) {
    FE_ENTER(site, "attention");
    const ig_attention_options o = opt ? *opt : (ig_attention_options){0};
    attend a = {.c = c, .causal = o.causal, .q = q, .k = k, .v = v, .mask = o.mask};
    ir_dims batch;
    if (!attend_fits(c, &a, &batch) || !attend_fits_mask(c, &a, &batch)) return fe_leave(c, NULL);
    const ig_dtype d = (ig_dtype)q->dtype, wide = d == IG_f64 ? IG_f64 : IG_f32;
    double scale = o.scale == 0 ? 1 / sqrt((double)ig_dim(q, -1)) : o.scale;
    a.q = NN_NUM(mul, fe_convert(c, attend_spread(c, q, &batch), wide), scale);
    a.k = attend_spread(c, k, &batch);
    a.v = attend_spread(c, v, &batch);
    if (fe_is_poison(a.q) || fe_is_poison(a.k) || fe_is_poison(a.v)) return fe_leave(c, NULL);
    ig_tensor *y;
    if (attend_is_few(c, attend_dim(c, a.q, 2), ATTEND_ROWS) &&
        attend_is_few(c, attend_dim(c, a.k, 2), ATTEND_KEYS)) {
        if (a.causal) a.ahead = fe_sub(c, attend_count(c, a.k, 2), attend_count(c, a.q, 2));
        a.k = attend_turned(c, a.k);
        ig_tensor *state[STATE];
        y = attend_rows(c, &a, false, state) ? NN_OP2(div, state[MIX], state[SUM]) : fe_poison(c);
    } else {
        y = attend_lanes(c, &a);
    }
    return fe_leave(c, fe_convert(c, y, d));
}
