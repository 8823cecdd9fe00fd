/* shape.c - moving elements: reshape, transpose, pad, join, split, tile. */
#include "frontend/fe.h"
#include <string.h>

/* --- By value ------------------------------------------------------------------------------ */

ig_tensor *fe_reshape(fe_call *c, ig_tensor *x, const ir_dims *dims) {
    ir_attr_dims attr = {.dims = *dims};
    if (fe_is_poison(x)) return x;
    ir_dims have = fe_dims(c, x);
    if (have.n == dims->n && !memcmp(have.d, dims->d, sizeof(ir_dim) * have.n)) return x;
    return fe_op1(c, OP_reshape, &attr, x);
}

ig_tensor *fe_transpose(fe_call *c, ig_tensor *x, const ir_axes *perm) {
    ir_attr_perm attr = {.perm = *perm};
    bool same = true;
    for (int i = 0; i < perm->n; i++) same = same && perm->a[i] == i;
    if (fe_is_poison(x) || (same && perm->n == x->rank)) return x;
    return fe_op1(c, OP_transpose, &attr, x);
}

ig_tensor *fe_flip(fe_call *c, ig_tensor *x, const ir_axes *axes) {
    ir_attr_axes attr = {.axes = *axes};
    return axes->n ? fe_op1(c, OP_reverse, &attr, x) : x;
}

ig_tensor *fe_cut(fe_call *c, ig_tensor *x, int axis, ir_dim lo, ir_dim hi) {
    ir_attr_slice attr = {0};
    if (fe_is_poison(x)) return x;
    ir_dims d = fe_dims(c, x);
    attr.lo.n = attr.hi.n = attr.step.n = d.n;
    for (int i = 0; i < d.n; i++) {
        attr.lo.d[i] = i == axis ? lo : 0;
        attr.hi.d[i] = i == axis ? hi : d.d[i];
        attr.step.v[i] = 1;
    }
    return lo == 0 && hi == d.d[axis] ? x : fe_op1(c, OP_slice, &attr, x);
}

ig_tensor *fe_pad_with(fe_call *c, ig_tensor *x, const ir_attr_pad *pad, ig_tensor *value) {
    bool any = false;
    for (int i = 0; i < pad->lo.n; i++)
        any = any || pad->lo.d[i] || pad->hi.d[i] || pad->interior.v[i];
    return any ? fe_op2(c, OP_pad, pad, x, value) : x;
}

ig_tensor *fe_concat(fe_call *c, int n, ig_tensor *const *list, int axis) {
    ir_attr_axis attr = {.axis = axis};
    return n == 1 ? list[0] : fe_op(c, OP_concat, &attr, n, list);
}

ig_tensor *fe_drop_axes(fe_call *c, ig_tensor *x, const ir_axes *axes) {
    if (fe_is_poison(x) || !axes->n) return x;
    ir_dims d = fe_dims(c, x), r = {0};
    for (int i = 0, k = 0; i < d.n; i++) {
        if (k < axes->n && axes->a[k] == i)
            k++;
        else
            r.d[r.n++] = d.d[i];
    }
    return fe_reshape(c, x, &r);
}

ig_tensor *fe_new_axes(fe_call *c, ig_tensor *x, const ir_axes *axes) {
    if (fe_is_poison(x) || !axes->n) return x;
    ir_dims d = fe_dims(c, x), r = {0};
    if (d.n + axes->n > IG_MAX_RANK)
        return fe_error(c, IG_SHAPE, "%s with %d new axes has more than %d", FE_TYPE(x), axes->n,
                        IG_MAX_RANK);
    for (int i = 0, k = 0, j = 0; i < d.n + axes->n; i++) {
        bool is_new = k < axes->n && axes->a[k] == i;
        if (is_new) k++;
        r.d[r.n++] = is_new ? 1 : d.d[j++];
    }
    return fe_reshape(c, x, &r);
}

/* --- Shape only ---------------------------------------------------------------------------- */

/* Put what is left in place of -1. */
static bool shape_infer_dim(fe_call *c, ig_tensor *x, ir_dims *d) {
    ir_module *m = fe_module(c);
    ir_dims have = fe_dims(c, x);
    ir_dim numel = 1, rest = 1;
    int at = -1;
    for (int i = 0; i < have.n; i++) numel = ir_dim_mul(m, numel, have.d[i]);
    for (int i = 0; i < d->n; i++) {
        if (d->d[i] == IR_DIM_BAD)
            at = i;
        else
            rest = ir_dim_mul(m, rest, d->d[i]);
    }
    if (at < 0) return true;
    ir_dim left = rest == 0 || rest == IR_DIM_BAD || numel == IR_DIM_BAD
                      ? IR_DIM_BAD
                      : ir_dim_floordiv(m, numel, rest);
    if (left != IR_DIM_BAD && ir_dim_mul(m, left, rest) == numel) {
        d->d[at] = left;
        return true;
    }
    fe_error(c, IG_SHAPE, "%s has %s elements: %s do not divide them, so -1 has no value",
             FE_TYPE(x), FE_DIM(numel), FE_DIM(rest));
    return false;
}

ig_tensor *ig_reshape_at(const ig_site *site, ig_arg x, ig_dims dims) {
    FE_ENTER(site, "reshape");
    ir_dims d;
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t) || !fe_user_dims(c, dims, true, &d) || !shape_infer_dim(c, t, &d))
        return fe_leave(c, NULL);
    return fe_leave(c, fe_reshape(c, t, &d));
}

ig_tensor *ig_broadcast_to_at(const ig_site *site, ig_arg x, ig_dims dims) {
    FE_ENTER(site, "broadcast_to");
    ir_dims d;
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t) || !fe_user_dims(c, dims, false, &d)) return fe_leave(c, NULL);
    return fe_leave(c, fe_expand(c, t, &d));
}

ig_tensor *ig_expand_dims_at(const ig_site *site, ig_arg x, ig_axes axes) {
    FE_ENTER(site, "expand_dims");
    ir_axes a;
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t)) return fe_leave(c, t);
    if (axes.all || t->rank + axes.n > IG_MAX_RANK)
        return fe_leave(c, fe_error(c, IG_INVALID, "%s: name at most %d new axes", FE_TYPE(t),
                                    IG_MAX_RANK - t->rank));
    return fe_leave(c, fe_axes(c, axes, t->rank + axes.n, &a) ? fe_new_axes(c, t, &a) : NULL);
}

ig_tensor *ig_squeeze_at(const ig_site *site, ig_arg x, ig_axes axes) {
    FE_ENTER(site, "squeeze");
    ir_axes a, drop = {0};
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t) || !fe_axes(c, axes, t->rank, &a)) return fe_leave(c, NULL);
    ir_dims d = fe_dims(c, t);
    for (int i = 0; i < a.n; i++) {
        if (d.d[a.a[i]] == 1)
            drop.a[drop.n++] = a.a[i];
        else if (!axes.all)
            return fe_leave(c, fe_error(c, IG_SHAPE, "axis %d of %s has extent %s, not 1", a.a[i],
                                        FE_TYPE(t), FE_DIM(d.d[a.a[i]])));
    }
    return fe_leave(c, fe_drop_axes(c, t, &drop));
}

/* --- Order of axes and elements ------------------------------------------------------------ */

ig_tensor *ig_transpose_at(const ig_site *site, ig_arg x, ig_axes perm) {
    FE_ENTER(site, "transpose");
    ir_axes p = {0};
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t)) return fe_leave(c, t);
    if (!perm.all && perm.n != t->rank)
        return fe_leave(c, fe_error(c, IG_SHAPE, "%d axes for %s: name each of its %d axes once",
                                    perm.n, FE_TYPE(t), t->rank));
    p.n = t->rank;
    for (int i = 0; i < t->rank; i++) {
        int axis = t->rank - 1 - i;
        if (!perm.all && !fe_axis(c, perm.a[i], t->rank, &axis)) return fe_leave(c, NULL);
        p.a[i] = (uint8_t)axis;
    }
    return fe_leave(c, fe_transpose(c, t, &p));
}

ig_tensor *ig_swap_axes_at(const ig_site *site, ig_arg x, int a, int b) {
    FE_ENTER(site, "swap_axes");
    ir_axes p = {0};
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t) || !fe_axis(c, a, t->rank, &a) || !fe_axis(c, b, t->rank, &b))
        return fe_leave(c, NULL);
    p.n = t->rank;
    for (int i = 0; i < t->rank; i++) p.a[i] = (uint8_t)(i == a ? b : i == b ? a : i);
    return fe_leave(c, fe_transpose(c, t, &p));
}

ig_tensor *ig_move_axis_at(const ig_site *site, ig_arg x, int from, int to) {
    FE_ENTER(site, "move_axis");
    ir_axes p = {0};
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t) || !fe_axis(c, from, t->rank, &from) || !fe_axis(c, to, t->rank, &to))
        return fe_leave(c, NULL);
    p.n = t->rank;
    for (int i = 0, k = 0; i < t->rank; i++) {
        k += k == from;
        p.a[i] = (uint8_t)(i == to ? from : k++);
    }
    return fe_leave(c, fe_transpose(c, t, &p));
}

ig_tensor *ig_flip_at(const ig_site *site, ig_arg x, ig_axes axes) {
    FE_ENTER(site, "flip");
    ir_axes a;
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t) || !fe_axes(c, axes, t->rank, &a)) return fe_leave(c, NULL);
    return fe_leave(c, fe_flip(c, t, &a));
}

ig_tensor *ig_roll_at(const ig_site *site, ig_arg x, int64_t shift, int axis) {
    FE_ENTER(site, "roll");
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t) || !fe_axis(c, axis, t->rank, &axis)) return fe_leave(c, NULL);
    ir_dim n = fe_dims(c, t).d[axis], cut;
    if (ir_dim_is_const(n)) {
        int64_t by = n ? shift % n : 0;
        cut = by > 0 ? n - by : -by;
    } else { /* the type rule proves that the shift is within every size, or says so */
        cut = shift > 0 ? ir_dim_sub(fe_module(c), n, shift) : -shift;
    }
    if (cut == 0) return fe_leave(c, t);
    ig_tensor *part[2] = {fe_cut(c, t, axis, cut, n), fe_cut(c, t, axis, 0, cut)};
    return fe_leave(c, fe_concat(c, 2, part, axis));
}

/* --- Padding, joining, splitting ----------------------------------------------------------- */

ig_tensor *ig_pad_at(const ig_site *site, ig_arg x, ig_dims lo, ig_dims hi, ig_arg value) {
    FE_ENTER(site, "pad");
    ir_attr_pad attr = {0};
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t) || !fe_user_dims(c, lo, false, &attr.lo) ||
        !fe_user_dims(c, hi, false, &attr.hi))
        return fe_leave(c, NULL);
    if (attr.lo.n != t->rank || attr.hi.n != t->rank)
        return fe_leave(c, fe_error(c, IG_SHAPE,
                                    "%s: give the widths before and after each of its %d axes",
                                    FE_TYPE(t), t->rank));
    attr.interior.n = t->rank;
    ig_tensor *v = value.kind == IG_ARG_TENSOR ? fe_arg(c, value)
                                               : fe_number(c, (ig_dtype)t->dtype, value);
    return fe_leave(c, fe_pad_with(c, t, &attr, v));
}

/* A list of usable tensors. */
static bool shape_check_list(fe_call *c, ig_list list) {
    if (list.n < 1 || !list.t) {
        fe_error(c, IG_INVALID, "nothing to join: give at least one tensor");
        return false;
    }
    for (int i = 0; i < list.n; i++)
        if (!fe_is_usable(c, list.t[i], i)) return false;
    return true;
}

ig_tensor *ig_concat_at(const ig_site *site, ig_list list, int axis) {
    FE_ENTER(site, "concat");
    if (!shape_check_list(c, list) || !fe_axis(c, axis, list.t[0]->rank, &axis))
        return fe_leave(c, NULL);
    return fe_leave(c, fe_concat(c, list.n, list.t, axis));
}

ig_tensor *ig_stack_at(const ig_site *site, ig_list list, int axis) {
    FE_ENTER(site, "stack");
    if (!shape_check_list(c, list) || !fe_axis(c, axis, list.t[0]->rank + 1, &axis))
        return fe_leave(c, NULL);
    ig_tensor **t = rt_alloc(fe_alloc(c), (size_t)list.n * sizeof *t);
    if (!t) return fe_leave(c, fe_error_memory(c));
    ir_axes at = {.n = 1, .a = {(uint8_t)axis}};
    ig_tensor *r = NULL;
    bool ok = true;
    for (int i = 0; i < list.n; i++) {
        if (ok && list.t[i]->rank != list.t[0]->rank) {
            fe_error(c, IG_SHAPE, "%s vs %s: stacked tensors have one shape", FE_TYPE(list.t[0]),
                     FE_TYPE(list.t[i]));
            ok = false;
        }
        t[i] = ok ? fe_new_axes(c, list.t[i], &at) : fe_poison(c);
        ok = ok && !fe_is_poison(t[i]);
    }
    if (ok) r = fe_concat(c, list.n, t, axis);
    rt_free(fe_alloc(c), t, (size_t)list.n * sizeof *t);
    return fe_leave(c, r);
}

bool ig_split_at(const ig_site *site, ig_arg x, int n, int axis, ig_tensor **parts_) {
    for (int i = 0; i < n; i++) parts_[i] = fe_poison_none();
    FE_ENTER_OR(site, "split", false);
    ig_tensor *t = fe_arg(c, x);
    bool ok = !fe_is_poison(t) && fe_axis(c, axis, t->rank, &axis);
    ir_dim d = ok ? fe_dims(c, t).d[axis] : 0, part = 0;
    if (ok && n >= 1) part = ir_dim_floordiv(fe_module(c), d, n);
    if (ok && (n < 1 || part == IR_DIM_BAD || ir_dim_mul(fe_module(c), part, n) != d)) {
        fe_error(c, IG_SHAPE, "axis %d of %s is not divisible into %d equal parts", axis,
                 FE_TYPE(t), n);
        ok = false;
    }
    for (int i = 0; i < n; i++) {
        ir_dim lo = ok ? ir_dim_mul(fe_module(c), part, i) : 0;
        ig_tensor *r = ok ? fe_cut(c, t, axis, lo, ir_dim_add(fe_module(c), lo, part))
                          : fe_poison(c);
        parts_[i] = fe_hand_out(c, r);
        ok = ok && !fe_is_poison(parts_[i]);
    }
    fe_exit(c);
    return ok;
}

/* Repeat blocks: x[.., n, rest] becomes [.., n * times, rest] by a new axis before (tile) or after
 * (repeat) the axis. */
static ig_tensor *shape_repeat(fe_call *c, ig_tensor *x, int axis, int64_t times, bool each) {
    if (fe_is_poison(x) || times == 1) return x;
    ir_dims d = fe_dims(c, x), wide = {.n = (uint8_t)(d.n + 1)}, r = d;
    ir_axes at = {.n = 1, .a = {(uint8_t)(each ? axis + 1 : axis)}};
    if (d.n == IG_MAX_RANK)
        return fe_error(c, IG_SHAPE, "%s has the largest rank already", FE_TYPE(x));
    for (int i = 0, k = 0; i < wide.n; i++) wide.d[i] = i == at.a[0] ? times : d.d[k++];
    r.d[axis] = ir_dim_mul(fe_module(c), d.d[axis], times);
    return fe_reshape(c, fe_expand(c, fe_new_axes(c, x, &at), &wide), &r);
}

ig_tensor *ig_repeat_at(const ig_site *site, ig_arg x, int64_t n, int axis) {
    FE_ENTER(site, "repeat");
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t) || !fe_axis(c, axis, t->rank, &axis)) return fe_leave(c, NULL);
    if (n < 0) return fe_leave(c, fe_error(c, IG_RANGE, "%lld repetitions", (long long)n));
    return fe_leave(c, shape_repeat(c, t, axis, n, true));
}

ig_tensor *ig_tile_at(const ig_site *site, ig_arg x, ig_dims times) {
    FE_ENTER(site, "tile");
    ir_dims n;
    ir_axes front = {0};
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t) || !fe_user_dims(c, times, false, &n)) return fe_leave(c, NULL);
    while (front.n + t->rank < n.n) {
        front.a[front.n] = front.n;
        front.n++;
    }
    t = fe_new_axes(c, t, &front);
    for (int i = 1; i <= n.n && !fe_is_poison(t); i++) {
        if (!ir_dim_is_const(n.d[n.n - i]))
            t = fe_error(c, IG_UNSUPPORTED, "tile: the counts are numbers, not dynamic dims");
        else
            t = shape_repeat(c, t, t->rank - i, n.d[n.n - i], false);
    }
    return fe_leave(c, t);
}

/* --- Triangles ----------------------------------------------------------------------------- */

/* Keep x where column - row <= k (lower) or >= k (upper). */
static ig_tensor *shape_triangle(fe_call *c, ig_tensor *x, int k, bool lower) {
    if (fe_is_poison(x)) return x;
    if (x->rank < 2) return fe_error(c, IG_SHAPE, "%s has no last two axes", FE_TYPE(x));
    ir_dims d = fe_dims(c, x), plane = {.n = 2, .d = {d.d[d.n - 2], d.d[d.n - 1]}};
    ig_tensor *row = fe_iota(c, IG_i64, &plane, 0), *column = fe_iota(c, IG_i64, &plane, 1);
    ig_tensor *edge = fe_add(c, row, fe_int(c, IG_i64, k));
    ig_tensor *in = lower ? fe_cmp(c, IR_cmpop_le, column, edge)
                          : fe_cmp(c, IR_cmpop_le, edge, column);
    return fe_select(c, in, x, fe_int(c, (ig_dtype)x->dtype, 0));
}

ig_tensor *ig_tril_at(const ig_site *site, ig_arg x, int k) {
    FE_ENTER(site, "tril");
    return fe_leave(c, shape_triangle(c, fe_arg(c, x), k, true));
}

ig_tensor *ig_triu_at(const ig_site *site, ig_arg x, int k) {
    FE_ENTER(site, "triu");
    return fe_leave(c, shape_triangle(c, fe_arg(c, x), k, false));
}
