/* sort.c - sort, argsort and topk: the op `sort`, with positions that move beside the elements. */
#include "frontend/fe.h"

/* Sorted x along an axis, and the positions its elements came from unless at_ is NULL. */
static bool sort_axis(fe_call *c, ig_tensor *x, int axis, bool descending, ig_tensor **sorted_,
                      ig_tensor **at_) {
    ir_attr_sort attr = {.axis = axis, .keys = 1, .descending = descending};
    ir_dims d = fe_dims(c, x);
    ig_tensor *in[2] = {x, NULL}, *out[2];
    int n = at_ ? 2 : 1;
    if (at_) in[1] = fe_iota(c, IG_i64, &d, axis);
    bool ok = fe_ops(c, OP_sort, &attr, n, in, n, out);
    *sorted_ = out[0];
    if (at_) *at_ = out[1];
    return ok;
}

ig_tensor *ig_sort_at(const ig_site *site, ig_arg x, int axis, bool descending) {
    FE_ENTER(site, "sort");
    ig_tensor *t = fe_arg(c, x), *sorted;
    if (fe_is_poison(t) || !fe_axis(c, axis, t->rank, &axis)) return fe_leave(c, NULL);
    return fe_leave(c, sort_axis(c, t, axis, descending, &sorted, NULL) ? sorted : NULL);
}

ig_tensor *ig_argsort_at(const ig_site *site, ig_arg x, int axis, bool descending) {
    FE_ENTER(site, "argsort");
    ig_tensor *t = fe_arg(c, x), *sorted, *at;
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
