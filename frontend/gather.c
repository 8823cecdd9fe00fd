/* gather.c - reading and writing at index tensors: x[i, j], take along an axis, scatter, embedding.
 *
 * The ops gather and scatter put the positions' axes first; here they come where numpy has them: in
 * the place of the indexed axes, or first when others stand between these.  Negative positions
 * count from the end.  What is out of range then reads 0, and writes nothing: a traced program
 * cannot stop for an index. */
#include "frontend/fe.h"
#include <string.h>

/* Whether all positions are counted from the front, so that nothing need be computed: known of
 * values, so not in a recording. */
static bool gather_from_front(const fe_call *c, const ig_tensor *t) {
    const int64_t *at = t->buf->data;
    int64_t any = 0;
    if (c->s->rec) return false;
    for (int64_t i = 0, n = fe_numel(t); i < n; i++) any |= at[i];
    return any >= 0;
}

/* Positions of one shape, as i64 (i32 where they are), with those below 0 counted from the end. */
bool fe_pick_ready(fe_call *c, ig_tensor *x, fe_pick *p) {
    for (int i = 0; i < p->n; i++) {
        ig_tensor *t = p->at[i];
        if (!fe_is_usable(c, t, i + 1)) return false;
        if (!rt_is_int((ig_dtype)t->dtype)) {
            fe_error(c, IG_DTYPE, "positions are %s: integers are needed", FE_TYPE(t));
            return false;
        }
        ir_axes axis = {.n = 1, .a = {(uint8_t)p->axis[i]}};
        t = fe_convert(c, t, IG_i64);
        if (!fe_is_poison(t) && gather_from_front(c, t)) {
            p->at[i] = t;
            continue;
        }
        ig_tensor *n = fe_count(c, x, &axis, IG_i64);
        if (fe_is_poison(t) || fe_is_poison(n)) return false;
        ig_tensor *below = fe_cmp(c, IR_cmpop_lt, t, fe_int(c, IG_i64, 0));
        p->at[i] = fe_select(c, below, fe_add(c, t, n), t);
        if (fe_is_poison(p->at[i])) return false;
    }
    return fe_spread(c, p->n, p->at);
}

/* Where the axes of a gather's result stand for the user: result axis i is axis perm[i] of it. */
static ir_axes gather_perm(const ig_tensor *x, const fe_pick *p) {
    int rank = p->at[0]->rank, rest = x->rank - p->n, first = p->apart ? 0 : p->axis[0];
    ir_axes perm = {.n = (uint8_t)(rank + rest)};
    for (int i = 0; i < perm.n; i++)
        perm.a[i] = (uint8_t)(i < first ? rank + i : i < first + rank ? i - first : i);
    return perm;
}

static bool gather_fits(fe_call *c, const ig_tensor *x, const fe_pick *p) {
    int rank = p->at[0]->rank + x->rank - p->n;
    if (rank <= IG_MAX_RANK) return true;
    fe_error(c, IG_SHAPE, "%s at positions %s has more than %d axes", FE_TYPE(x), FE_TYPE(p->at[0]),
             IG_MAX_RANK);
    return false;
}

static ir_axes gather_axes(const fe_pick *p) {
    ir_axes a = {.n = (uint8_t)p->n};
    for (int i = 0; i < p->n; i++) a.a[i] = (uint8_t)p->axis[i];
    return a;
}

ig_tensor *fe_pick_get(fe_call *c, ig_tensor *x, fe_pick *p) {
    ir_attr_gather attr = {.axes = gather_axes(p), .oob = IR_oob_fill};
    ig_tensor *in[1 + IG_MAX_RANK] = {x};
    if (!fe_pick_ready(c, x, p) || !gather_fits(c, x, p)) return fe_poison(c);
    memcpy(in + 1, p->at, (size_t)p->n * sizeof *in);
    ig_tensor *r = fe_op(c, OP_gather, &attr, 1 + p->n, in);
    ir_axes perm = gather_perm(x, p);
    return fe_is_poison(r) ? r : fe_transpose(c, r, &perm);
}

ig_tensor *fe_pick_put(fe_call *c, ig_tensor *x, fe_pick *p, ir_putop op, ig_tensor *v) {
    ir_attr_scatter attr = {.op = op, .axes = gather_axes(p), .oob = IR_oob_drop};
    ig_tensor *in[2 + IG_MAX_RANK] = {x};
    if (!fe_pick_ready(c, x, p) || !gather_fits(c, x, p)) return fe_poison(c);
    memcpy(in + 2, p->at, (size_t)p->n * sizeof *in);
    ir_axes perm = gather_perm(x, p), back = {.n = perm.n};
    ir_dims at = fe_dims(c, p->at[0]), d = fe_dims(c, x), user = {.n = perm.n};
    int first = p->apart ? 0 : p->axis[0];
    for (int i = 0, to = at.n, k = 0; i < d.n; i++) { /* the shape for the user */
        if (k < p->n && p->axis[k] == i)
            k++;
        else
            user.d[to - at.n < first ? to - at.n : to] = d.d[i], to++;
    }
    for (int i = 0; i < at.n; i++) user.d[first + i] = at.d[i];
    for (int i = 0; i < perm.n; i++) back.a[perm.a[i]] = (uint8_t)i;
    if (fe_is_poison(v) || fe_is_poison(v = fe_expand(c, v, &user))) return v;
    in[1] = fe_transpose(c, v, &back);
    return fe_is_poison(in[1]) ? in[1] : fe_op(c, OP_scatter, &attr, 2 + p->n, in);
}

/* --- Public -------------------------------------------------------------------------------- */

/* The two operands of a call about one axis; false after an error. */
static bool gather_begin(fe_call *c, ig_arg x, ig_tensor *index, int axis, ig_tensor **x_,
                         fe_pick *p_) {
    *x_ = fe_arg(c, x);
    *p_ = (fe_pick){.n = 1, .at = {index}};
    return !fe_is_poison(*x_) && fe_axis(c, axis, (*x_)->rank, &p_->axis[0]);
}

ig_tensor *ig_gather_at(const ig_site *site, ig_arg x, ig_tensor *index, int axis) {
    FE_ENTER(site, "gather");
    fe_pick p;
    ig_tensor *t;
    if (!gather_begin(c, x, index, axis, &t, &p)) return fe_leave(c, NULL);
    return fe_leave(c, fe_pick_get(c, t, &p));
}

ig_tensor *ig_embedding_at(const ig_site *site, ig_arg table, ig_tensor *index) {
    FE_ENTER(site, "embedding");
    fe_pick p;
    ig_tensor *t;
    if (!gather_begin(c, table, index, 0, &t, &p)) return fe_leave(c, NULL);
    return fe_leave(c, fe_pick_get(c, t, &p));
}

ig_tensor *ig_scatter_at(const ig_site *site, ig_arg x, ig_tensor *index, ig_arg v, int axis,
                         ig_put op) {
    FE_ENTER(site, "scatter");
    fe_pick p;
    ig_tensor *t;
    if (!gather_begin(c, x, index, axis, &t, &p)) return fe_leave(c, NULL);
    if ((unsigned)op > IG_PUT_MAX)
        return fe_leave(c, fe_error(c, IG_INVALID, "there is no such way to put an element"));
    return fe_leave(c, fe_pick_put(c, t, &p, (ir_putop)op, fe_put_value(c, t, v)));
}

/* The axis last, those before it together with those of the index. */
static ig_tensor *gather_along(fe_call *c, ig_tensor *x, ig_tensor *index, int axis) {
    ir_attr_gather attr = {.batch = x->rank - 1, .oob = IR_oob_fill};
    ir_axes last = {.n = x->rank}, back = {.n = x->rank};
    fe_pick p = {.n = 1, .axis = {axis}, .at = {index}};
    if (!fe_pick_ready(c, x, &p)) return fe_poison(c);
    if (index->rank != x->rank)
        return fe_error(c, IG_SHAPE, "%s along axis %d of %s: both have one rank", FE_TYPE(index),
                        axis, FE_TYPE(x));
    for (int i = 0, k = 0; i < x->rank; i++) {
        int at = i == axis ? x->rank - 1 : k++;
        last.a[at] = (uint8_t)i;
        back.a[i] = (uint8_t)at;
    }
    attr.axes = (ir_axes){.n = 1, .a = {(uint8_t)(x->rank - 1)}};
    ig_tensor *to = fe_transpose(c, x, &last), *at = fe_transpose(c, p.at[0], &last);
    if (fe_is_poison(to) || fe_is_poison(at)) return fe_poison(c);
    ig_tensor *r = fe_op2(c, OP_gather, &attr, to, at);
    return fe_is_poison(r) ? r : fe_transpose(c, r, &back);
}

ig_tensor *ig_take_along_at(const ig_site *site, ig_arg x, ig_tensor *index, int axis) {
    FE_ENTER(site, "take_along");
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t) || !fe_axis(c, axis, t->rank, &axis)) return fe_leave(c, NULL);
    return fe_leave(c, gather_along(c, t, index, axis));
}
