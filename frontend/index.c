/* index.c - x[...]: slices, assignment to slices, masks, positions, windows.
 *
 * A list of index entries becomes a plan: one slice op over all axes, the axes to turn around
 * (negative steps), and the shape with dropped and new axes.  Reading applies the three in this
 * order; assigning goes backwards, from the value's shape to a window of x, which is set by dupdate
 * when the steps are 1, else by padding the value (interior = step - 1) to x's shape and selecting.
 */
#include "frontend/fe.h"
#include <string.h>

typedef struct index_plan {
    ir_attr_slice slice;
    ir_axes flip;
    ir_dims sliced; /* shape after the slice */
    ir_dims result; /* shape after axes were dropped and added */
    fe_pick pick;   /* of axes of that result */
} index_plan;

/* --- Planning ------------------------------------------------------------------------------ */

/* A position counted from the end when negative; a bound is clamped to [0, n], a dynamic n
 * included. */
static ir_dim index_bound(fe_call *c, int64_t at, ir_dim n) {
    ir_module *m = fe_module(c);
    int64_t least, most;
    if (at == INT64_MIN) at++; /* its negation exists */
    if (ir_dim_is_const(n)) {
        if (at < 0) at = at < -n ? 0 : at + n;
        return at > n ? n : at;
    }
    ir_dim_range(m, n, &least, &most);
    if (at >= 0) return at <= least ? at : ir_dim_min(m, at, n);
    return ir_dim_sub(m, -at <= least ? n : ir_dim_max(m, n, -at), -at);
}

/* One element: [at, at + 1). */
static bool index_at(fe_call *c, const ig_tensor *x, int axis, int64_t at, ir_dim n, ir_dim *lo_) {
    ir_module *m = fe_module(c);
    if (!ir_dim_is_const(n))
        *lo_ = at < 0 ? ir_dim_sub(m, n, at == INT64_MIN ? INT64_MAX : -at) : at;
    else
        *lo_ = at < 0 ? at + n : at;
    if (*lo_ != IR_DIM_BAD && (!ir_dim_is_const(n) || (*lo_ >= 0 && *lo_ < n))) return true;
    fe_error(c, IG_RANGE, "position %lld of axis %d of %s is out of range", (long long)at, axis,
             FE_TYPE(x));
    return false;
}

/* lo:hi:step with Python's defaults and clamps; a negative step becomes the same elements forwards,
 * to be turned. */
static bool index_range(fe_call *c, const ig_tensor *x, int axis, ig_index e, ir_dim n,
                        index_plan *p) {
    ir_dim lo, hi;
    int64_t step = e.step;
    if (step == 0 || step == INT64_MIN) {
        fe_error(c, IG_RANGE, "axis %d of %s: a step is not 0", axis, FE_TYPE(x));
        return false;
    }
    if (step > 0) {
        lo = e.lo == IG_OPEN ? 0 : index_bound(c, e.lo, n);
        hi = e.hi == IG_OPEN ? n : index_bound(c, e.hi, n);
        if (ir_dim_is_const(lo) && ir_dim_is_const(hi) && hi < lo) hi = lo;
    } else if (e.lo == IG_OPEN && e.hi == IG_OPEN && step == -1) {
        lo = 0;
        hi = n;
    } else if (!ir_dim_is_const(n)) {
        fe_error(c, IG_UNSUPPORTED, "axis %d of %s is dynamic: flip it first, then slice forwards",
                 axis, FE_TYPE(x));
        return false;
    } else { /* from `first` down to above `last` */
        int64_t first = e.lo == IG_OPEN ? n - 1
                        : e.lo < -n     ? -1
                        : e.lo < 0      ? e.lo + n
                        : e.lo >= n     ? n - 1
                                        : e.lo;
        int64_t last = e.hi == IG_OPEN ? -1
                       : e.hi < -n     ? -1
                       : e.hi < 0      ? e.hi + n
                       : e.hi >= n     ? n - 1
                                       : e.hi;
        int64_t count = first > last ? (first - last - 1) / -step + 1 : 0;
        lo = count ? first + (count - 1) * step : 0;
        hi = count ? first + 1 : 0;
    }
    if (step < 0) {
        p->flip.a[p->flip.n++] = (uint8_t)axis;
        step = -step;
    }
    p->slice.lo.d[axis] = lo;
    p->slice.hi.d[axis] = hi;
    p->slice.step.v[axis] = step;
    ir_dim d = ir_dim_sub(fe_module(c), hi, lo);
    if (ir_dim_is_const(d) && step > d)
        p->slice.step.v[axis] = step = d > 1 ? d : 1; /* one element */
    p->sliced.d[axis] =
        step == 1 ? d : ir_dim_floordiv(fe_module(c), ir_dim_add(fe_module(c), d, step - 1), step);
    return true;
}

/* Write out `...`, at the end when it was not written: entries that take an axis number exactly the
 * rank. */
static bool index_spell(fe_call *c, const ig_tensor *x, const ig_indices *in, ig_index *entry,
                        int *n_) {
    int taken = 0, rests = 0, n = 0;
    if (in->n < 0 || in->n > IG_INDEX_MAX) {
        fe_error(c, IG_INVALID, "%d index entries; at most %d", in->n, IG_INDEX_MAX);
        return false;
    }
    for (int i = 0; i < in->n; i++) {
        taken += in->i[i].kind != IG_INDEX_NEW && in->i[i].kind != IG_INDEX_REST;
        rests += in->i[i].kind == IG_INDEX_REST;
    }
    if (taken > x->rank || rests > 1) {
        fe_error(c, IG_SHAPE,
                 rests > 1 ? "two `...` in an index of %s" : "too many index entries for %s",
                 FE_TYPE(x));
        return false;
    }
    for (int i = 0; i <= in->n; i++) {
        if (i == in->n ? rests == 0 : in->i[i].kind == IG_INDEX_REST)
            for (int k = taken; k < x->rank; k++)
                entry[n++] = (ig_index){IG_INDEX_RANGE, IG_OPEN, IG_OPEN, 1, NULL};
        else if (i < in->n)
            entry[n++] = in->i[i];
    }
    *n_ = n;
    return true;
}

/* Entry k of the result is picked by a tensor: the axis is taken whole here. */
static void index_pick(index_plan *p, ig_index *e) {
    fe_pick *k = &p->pick;
    int at = p->result.n - 1;
    k->apart |= k->n && k->axis[k->n - 1] != at - 1;
    k->axis[k->n] = at;
    k->at[k->n++] = e->t;
    *e = (ig_index){IG_INDEX_RANGE, IG_OPEN, IG_OPEN, 1, NULL};
}

static bool index_make_plan(fe_call *c, const ig_tensor *x, const ig_indices *in, index_plan *p) {
    ig_index entry[IG_INDEX_MAX + IG_MAX_RANK];
    ir_dims d = fe_dims(c, x);
    int n, axis = 0;
    memset(p, 0, sizeof *p);
    if (!index_spell(c, x, in, entry, &n)) return false;
    p->slice.lo.n = p->slice.hi.n = p->slice.step.n = p->sliced.n = d.n;
    for (int i = 0; i < n; i++) {
        if (entry[i].kind != IG_INDEX_AT) {
            if (p->result.n == IG_MAX_RANK) {
                fe_error(c, IG_SHAPE, "the result has more than %d axes", IG_MAX_RANK);
                return false;
            }
            p->result.d[p->result.n++] = 1;
        }
        if (entry[i].kind == IG_INDEX_NEW) continue;
        if (entry[i].kind == IG_INDEX_PICK) index_pick(p, &entry[i]);
        if (entry[i].kind == IG_INDEX_AT) {
            if (!index_at(c, x, axis, entry[i].lo, d.d[axis], &p->slice.lo.d[axis])) return false;
            p->slice.hi.d[axis] = ir_dim_add(fe_module(c), p->slice.lo.d[axis], 1);
            p->slice.step.v[axis] = 1;
            p->sliced.d[axis] = 1;
        } else {
            if (!index_range(c, x, axis, entry[i], d.d[axis], p)) return false;
            p->result.d[p->result.n - 1] = p->sliced.d[axis];
        }
        axis++;
    }
    return true;
}

/* Whether the slice is all of x. */
static bool index_is_all(const ir_dims *d, const ir_attr_slice *s) {
    for (int i = 0; i < d->n; i++)
        if (s->lo.d[i] != 0 || s->hi.d[i] != d->d[i] || s->step.v[i] != 1) return false;
    return true;
}

static ig_tensor *index_get(fe_call *c, ig_tensor *x, const index_plan *p) {
    ir_dims d = fe_dims(c, x);
    if (!index_is_all(&d, &p->slice)) x = fe_op1(c, OP_slice, &p->slice, x);
    return fe_reshape(c, fe_flip(c, x, &p->flip), &p->result);
}

ig_tensor *ig_slice_at(const ig_site *site, ig_arg x, ig_indices index) {
    FE_ENTER(site, "slice");
    index_plan p;
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t) || !index_make_plan(c, t, &index, &p)) return fe_leave(c, NULL);
    t = index_get(c, t, &p);
    return fe_leave(c, p.pick.n && !fe_is_poison(t) ? fe_pick_get(c, t, &p.pick) : t);
}

/* --- Assigning ----------------------------------------------------------------------------- */

ig_tensor *fe_put_value(fe_call *c, const ig_tensor *x, ig_arg v) {
    if (v.kind != IG_ARG_TENSOR) return fe_number(c, (ig_dtype)x->dtype, v);
    ig_tensor *t = fe_arg(c, v);
    if (fe_is_poison(t) || t->dtype == x->dtype) return t;
    if (rt_is_int((ig_dtype)t->dtype) && rt_is_float((ig_dtype)x->dtype))
        return fe_convert(c, t, (ig_dtype)x->dtype);
    return fe_error(c, IG_DTYPE, "%s cannot be assigned to %s: write ig_cast(v, IG_%s)", FE_TYPE(t),
                    FE_TYPE(x), ig_dtype_name((ig_dtype)x->dtype));
}

/* Give x a new value, unless that failed; a poison value leaves x as it was. */
static void index_set(fe_call *c, ig_tensor *x, ig_tensor *v) {
    fe_rebind(c, x, v);
    fe_exit(c);
}

void ig_assign_at(const ig_site *site, ig_tensor *x, ig_arg v) {
    FE_ENTER_OR(site, "assign", );
    if (!fe_is_usable(c, x, 0)) {
        fe_exit(c);
        return;
    }
    ir_dims d = fe_dims(c, x);
    index_set(c, x, fe_expand(c, fe_put_value(c, x, v), &d));
}

/* Starts of a window as scalars. */
static bool index_starts(fe_call *c, const ir_dims *lo, ig_tensor **start) {
    for (int i = 0; i < lo->n; i++)
        if (fe_is_poison(start[i] = fe_int(c, IG_i64, lo->d[i]))) return false;
    return true;
}

/* x with v, of the plan's sliced shape, spread over the slice by padding. */
static ig_tensor *index_spread(fe_call *c, ig_tensor *x, ig_tensor *v, const index_plan *p) {
    ir_module *m = fe_module(c);
    ir_dims d = fe_dims(c, x);
    ir_attr_pad pad = {.lo = p->slice.lo};
    pad.hi.n = pad.interior.n = d.n;
    for (int i = 0; i < d.n; i++) {
        int64_t step = p->slice.step.v[i];
        ir_dim last = step == 1
                          ? p->slice.hi.d[i]
                          : ir_dim_add(m, ir_dim_mul(m, ir_dim_sub(m, p->sliced.d[i], 1), step),
                                       ir_dim_add(m, p->slice.lo.d[i], 1));
        pad.interior.v[i] = step - 1;
        pad.hi.d[i] = ir_dim_sub(m, d.d[i], last);
    }
    ig_tensor *in = fe_fill(c, fe_int(c, IG_bool, 1), &p->sliced);
    in = fe_pad_with(c, in, &pad, fe_int(c, IG_bool, 0));
    return fe_select(c, in, fe_pad_with(c, v, &pad, fe_int(c, (ig_dtype)x->dtype, 0)), x);
}

/* x with v in place of the plan's elements. */
static ig_tensor *index_put(fe_call *c, ig_tensor *x, ig_tensor *v, const index_plan *p) {
    ig_tensor *in[2 + IG_MAX_RANK] = {x, NULL};
    ir_attr_dupd set = {.op = IR_setop_set};
    ir_dims d = fe_dims(c, x);
    bool plain = true;
    v = fe_expand(c, v, &p->result);
    v = fe_flip(c, fe_reshape(c, v, &p->sliced), &p->flip);
    if (fe_is_poison(v) || index_is_all(&d, &p->slice)) return v;
    for (int i = 0; i < d.n; i++) {
        if (p->sliced.d[i] == 0) return x;
        plain = plain && p->slice.step.v[i] == 1 && ir_dim_is_const(p->slice.lo.d[i]);
    }
    if (!plain) return index_spread(c, x, v, p);
    in[1] = v;
    return index_starts(c, &p->slice.lo, in + 2) ? fe_op(c, OP_dupdate, &set, 2 + d.n, in)
                                                 : fe_poison(c);
}

void ig_assign_slice_at(const ig_site *site, ig_tensor *x, ig_indices index, ig_arg v) {
    FE_ENTER_OR(site, "assign_slice", );
    index_plan p;
    ig_tensor *r = fe_poison(c);
    if (fe_is_usable(c, x, 0) && index_make_plan(c, x, &index, &p)) {
        ig_tensor *t = fe_put_value(c, x, v), *part;
        if (p.pick.n && !fe_is_poison(t)) {
            part = index_get(c, x, &p);
            t = fe_is_poison(part) ? part : fe_pick_put(c, part, &p.pick, IR_putop_set, t);
        }
        if (!fe_is_poison(t)) r = index_put(c, x, t, &p);
    }
    index_set(c, x ? x : fe_poison(c), r);
}

/* --- Masks --------------------------------------------------------------------------------- */

/* A bool mask with x's first axes; the others are added with extent 1. */
static ig_tensor *index_mask(fe_call *c, const ig_tensor *x, ig_arg mask) {
    ir_axes tail = {0};
    ig_tensor *m = mask.kind == IG_ARG_TENSOR ? fe_arg(c, mask) : fe_number(c, IG_bool, mask);
    if (fe_is_poison(m)) return m;
    ir_dims d = fe_dims(c, x), e = fe_dims(c, m);
    if (m->dtype != IG_bool)
        return fe_error(c, IG_DTYPE, "the mask is %s: compare to make it bool", FE_TYPE(m));
    for (int i = 0; i < e.n; i++)
        if (i >= d.n || e.d[i] != d.d[i])
            return fe_error(c, IG_SHAPE,
                            "mask %s vs %s: the mask has the extents of the first axes", FE_TYPE(m),
                            FE_TYPE(x));
    for (int i = e.n; i < d.n; i++) tail.a[tail.n++] = (uint8_t)i;
    return fe_new_axes(c, m, &tail);
}

void ig_assign_mask_at(const ig_site *site, ig_tensor *x, ig_arg mask, ig_arg v) {
    FE_ENTER_OR(site, "assign_mask", );
    ig_tensor *r = fe_poison(c);
    if (fe_is_usable(c, x, 0)) {
        ir_dims d = fe_dims(c, x);
        ig_tensor *m = index_mask(c, x, mask), *t = fe_is_poison(m) ? m : fe_put_value(c, x, v);
        if (!fe_is_poison(t)) r = fe_select(c, m, fe_expand(c, t, &d), x);
    }
    index_set(c, x ? x : fe_poison(c), r);
}

/* Positions of the true elements of a readable mask; owned by the caller. */
static int64_t *index_positions(fe_call *c, const ig_tensor *mask, int64_t *n_) {
    const uint8_t *p = mask->buf->data;
    int64_t n = 0, total = fe_numel(mask), *at;
    for (int64_t i = 0; i < total; i++) n += p[i];
    *n_ = n;
    if (!(at = rt_alloc(fe_alloc(c), ((size_t)n + 1) * sizeof *at))) {
        fe_error_memory(c);
        return NULL;
    }
    for (int64_t i = 0, k = 0; i < total; i++)
        if (p[i]) at[k++] = i;
    return at;
}

/* Whether a value is a result of the recording under way: its elements must then be moved by
 * recorded ops. */
static bool index_is_traced(const fe_call *c, const ig_tensor *x) {
    return c->s->rec && fe_rec_known(c->s->rec, x);
}

/* Rows of x, flattened to [rows, rest], at known positions, by plain copies. */
static ig_tensor *index_copy_rows(fe_call *c, const ig_tensor *x, int64_t rest, const int64_t *at,
                                  int64_t n, int rank, const int64_t *dim) {
    size_t bytes = (size_t)rest * rt_dtype_bytes((ig_dtype)x->dtype);
    ig_tensor *r = fe_new(c, (ig_dtype)x->dtype, rank, dim);
    if (fe_is_poison(r)) return r;
    for (int64_t i = 0; i < n && bytes; i++)
        memcpy((char *)r->buf->data + (size_t)i * bytes,
               (const char *)x->buf->data + (size_t)at[i] * bytes, bytes);
    return r;
}

static ig_tensor *index_select(fe_call *c, ig_tensor *x, ig_tensor *mask) {
    int64_t n, rest = 1, rows = 1;
    if (!fe_observe(c, mask)) return fe_poison(c);
    ir_dims flat = {.n = (uint8_t)(x->rank - mask->rank + 1)};
    for (int i = 0; i < mask->rank; i++) rows *= x->dim[i];
    for (int i = mask->rank; i < x->rank; i++) {
        flat.d[i - mask->rank + 1] = x->dim[i];
        rest *= x->dim[i];
    }
    int64_t *at = index_positions(c, mask, &n);
    if (!at) return fe_poison(c);
    ig_tensor *r;
    if (index_is_traced(c, x)) {
        ir_dims d = fe_dims(c, x);
        for (int i = mask->rank; i < d.n; i++) flat.d[i - mask->rank + 1] = d.d[i];
        flat.d[0] = rows;
        r = fe_take(c, fe_reshape(c, x, &flat), at, n, 0);
    } else {
        flat.d[0] = n;
        r = index_copy_rows(c, x, rest, at, n, flat.n, flat.d);
    }
    rt_free(fe_alloc(c), at, ((size_t)n + 1) * sizeof *at);
    return r;
}

ig_tensor *ig_select_mask_at(const ig_site *site, ig_arg x, ig_arg mask) {
    FE_ENTER(site, "select_mask");
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t)) return fe_leave(c, t);
    ig_tensor *m = index_mask(c, t, mask);
    if (fe_is_poison(m)) return fe_leave(c, m);
    return fe_leave(c, index_select(c, t, mask.kind == IG_ARG_TENSOR ? mask.v.t : m));
}

/* --- Positions ----------------------------------------------------------------------------- */

/* The length of a run index[0], index[0] + step, ... with one step >= 1. */
static int64_t index_run(const int64_t *index, int64_t n, int64_t *step_) {
    int64_t k = 1, step = 1;
    if (n > 1 && index[1] > index[0] && index[0] >= 0) {
        step = index[1] - index[0];
        while (k < n && index[k] > index[k - 1] && index[k] - index[k - 1] == step) k++;
    }
    *step_ = step;
    return k;
}

/* One run as a slice. */
static ig_tensor *index_take_run(fe_call *c, ig_tensor *x, int axis, int64_t first, int64_t count,
                                 int64_t step) {
    ir_attr_slice s = {0};
    ir_dims d = fe_dims(c, x);
    s.lo.n = s.hi.n = s.step.n = d.n;
    for (int i = 0; i < d.n; i++) {
        s.hi.d[i] = d.d[i];
        s.step.v[i] = 1;
    }
    if (!index_at(c, x, axis, first, d.d[axis], &s.lo.d[axis])) return fe_poison(c);
    if (count > 1 && ir_dim_is_const(d.d[axis]) && first + (count - 1) * step >= d.d[axis])
        return fe_error(c, IG_RANGE, "position %lld of axis %d of %s is out of range",
                        (long long)(first + (count - 1) * step), axis, FE_TYPE(x));
    s.hi.d[axis] = ir_dim_add(fe_module(c), s.lo.d[axis], (count - 1) * step + 1);
    s.step.v[axis] = step;
    return index_is_all(&d, &s) ? x : fe_op1(c, OP_slice, &s, x);
}

ig_tensor *fe_take(fe_call *c, ig_tensor *x, const int64_t *index, int64_t n, int axis) {
    int64_t runs = 0, step, k;
    if (fe_is_poison(x)) return x;
    if (n == 0) return fe_cut(c, x, axis, 0, 0);
    for (int64_t i = 0; i < n; i += index_run(index + i, n - i, &step)) runs++;
    if (runs > UINT16_MAX)
        return fe_error(c, IG_UNSUPPORTED, "more than %d separate runs of positions", UINT16_MAX);
    ig_tensor **part = rt_alloc(fe_alloc(c), (size_t)runs * sizeof(ig_tensor *)), *r = fe_poison(c);
    if (!part) return fe_error_memory(c);
    bool ok = true;
    for (int64_t i = 0, p = 0; ok && i < n; i += k) {
        k = index_run(index + i, n - i, &step);
        part[p] = index_take_run(c, x, axis, index[i], k, step);
        ok = !fe_is_poison(part[p++]);
    }
    if (ok) r = fe_concat(c, (int)runs, part, axis);
    rt_free(fe_alloc(c), part, (size_t)runs * sizeof(ig_tensor *));
    return r;
}

/* Positions outside a trace: plain copies of rows [outer, axis, inner]. */
static ig_tensor *index_take_now(fe_call *c, const ig_tensor *x, const int64_t *index, int64_t n,
                                 int axis) {
    int64_t dim[IG_MAX_RANK], extent = x->dim[axis];
    size_t inner = rt_dtype_bytes((ig_dtype)x->dtype), outer = 1;
    for (int i = 0; i < x->rank; i++) {
        dim[i] = i == axis ? n : x->dim[i];
        if (i < axis) outer *= (size_t)x->dim[i];
        if (i > axis) inner *= (size_t)x->dim[i];
    }
    for (int64_t i = 0; i < n; i++)
        if (index[i] < -extent || index[i] >= extent)
            return fe_error(c, IG_RANGE, "position %lld of axis %d of %s is out of range",
                            (long long)index[i], axis, FE_TYPE(x));
    ig_tensor *r = fe_new(c, (ig_dtype)x->dtype, x->rank, dim);
    if (fe_is_poison(r) || !r->buf->bytes) return r;
    char *to = r->buf->data;
    const char *from = x->buf->data;
    for (size_t o = 0; o < outer; o++, from += (size_t)extent * inner)
        for (int64_t i = 0; i < n; i++, to += inner)
            memcpy(to, from + (size_t)(index[i] < 0 ? index[i] + extent : index[i]) * inner, inner);
    return r;
}

ig_tensor *ig_take_at(const ig_site *site, ig_arg x, const int64_t *index, int64_t n, int axis) {
    FE_ENTER(site, "take");
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t) || !fe_axis(c, axis, t->rank, &axis)) return fe_leave(c, NULL);
    if (n < 0 || (n && !index))
        return fe_leave(c, fe_error(c, IG_INVALID, "give n >= 0 positions"));
    return fe_leave(c, c->s->rec ? fe_take(c, t, index, n, axis)
                                 : index_take_now(c, t, index, n, axis));
}

/* --- Windows at positions known only as tensors -------------------------------------------- */

/* Start positions as i64 scalars. */
static bool index_window(fe_call *c, const ig_tensor *x, ig_list start, ig_tensor **in) {
    if (start.n != x->rank) {
        fe_error(c, IG_SHAPE, "%d positions for %s: give one an axis", start.n, FE_TYPE(x));
        return false;
    }
    for (int i = 0; i < start.n; i++) {
        if (!fe_is_usable(c, start.t[i], i + 1)) return false;
        if (!rt_is_int((ig_dtype)start.t[i]->dtype) || start.t[i]->rank) {
            fe_error(c, IG_DTYPE, "position %d is %s: an integer scalar is needed", i,
                     FE_TYPE(start.t[i]));
            return false;
        }
        if (fe_is_poison(in[i] = fe_convert(c, start.t[i], IG_i64))) return false;
    }
    return true;
}

ig_tensor *ig_window_at(const ig_site *site, ig_arg x, ig_list start, ig_dims sizes) {
    FE_ENTER(site, "window");
    ir_attr_dims attr = {0};
    ig_tensor *in[1 + IG_MAX_RANK];
    in[0] = fe_arg(c, x);
    if (fe_is_poison(in[0]) || !fe_user_dims(c, sizes, false, &attr.dims) ||
        !index_window(c, in[0], start, in + 1))
        return fe_leave(c, NULL);
    return fe_leave(c, fe_op(c, OP_dslice, &attr, 1 + start.n, in));
}

void ig_assign_window_at(const ig_site *site, ig_tensor *x, ig_list start, ig_arg v, bool add) {
    FE_ENTER_OR(site, "assign_window", );
    ir_attr_dupd attr = {.op = add ? IR_setop_add : IR_setop_set};
    ig_tensor *in[2 + IG_MAX_RANK] = {x}, *r = fe_poison(c);
    if (fe_is_usable(c, x, 0) && index_window(c, x, start, in + 2)) {
        in[1] = fe_put_value(c, x, v);
        r = fe_op(c, OP_dupdate, &attr, 2 + start.n, in);
    }
    index_set(c, x ? x : fe_poison(c), r);
}
