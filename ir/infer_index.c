/* infer_index.c - the type rules of gather, scatter and sort; infer.c says what they accept. */
#include "ir/infer.h"

#define TYPE(t) IR_INFER_TYPE(t)
#define DIM(d)  IR_INFER_DIM(d)

/* Operands first..nin-1 are the indices of the axes of x, whose batch axes they share. */
static bool index_check(ir_infer *c, int first, const ir_axes *axes, int64_t batch, bool clamp) {
    const ir_type *x = &c->in[0], *i = &c->in[first];
    if (!ir_infer_check_axes(c, axes, x->rank)) return false;
    if (!axes->n || c->nin - first != axes->n)
        return ir_infer_fail(c, IG_INVALID, "%d index tensors for %d axes: give one for every axis",
                             c->nin - first, axes->n);
    if (batch < 0 || batch > axes->a[0] || batch > i->rank)
        return ir_infer_fail(
            c, IG_RANGE,
            "%lld batch axes of %s and indices %s: they stand before the axes that "
            "are indexed",
            (long long)batch, TYPE(x), TYPE(i));
    for (int k = first; k < c->nin; k++) {
        if (!ir_infer_check_tensor(c, k)) return false;
        if (c->in[k].dtype != IG_i32 && c->in[k].dtype != IG_i64)
            return ir_infer_fail(c, IG_DTYPE, "indices are %s: convert them to i32 or i64",
                                 TYPE(&c->in[k]));
        if (!ir_type_eq(&c->in[k], i))
            return ir_infer_fail(c, IG_SHAPE, "indices %s and %s: they have one type", TYPE(i),
                                 TYPE(&c->in[k]));
    }
    for (int k = 0; k < batch; k++)
        if (i->dim[k] != x->dim[k])
            return ir_infer_fail(c, IG_SHAPE,
                                 "%s and indices %s differ in batch axis %d: %s and %s", TYPE(x),
                                 TYPE(i), k, DIM(x->dim[k]), DIM(i->dim[k]));
    for (int k = 0; k < axes->n; k++)
        if (clamp && !ir_dim_le(c->m, 1, x->dim[axes->a[k]]))
            return ir_infer_fail(c, IG_SHAPE,
                                 "axis %d of %s may be empty: oob=clamp needs an element",
                                 axes->a[k], TYPE(x));
    return true;
}

/* What a gather gives: the indices' dims, then those of x that are neither batch nor indexed. */
static bool index_gathered(ir_infer *c, const ir_type *i, const ir_axes *axes, int64_t batch,
                           ir_type *out_) {
    const ir_type *x = &c->in[0];
    int rank = i->rank + x->rank - (int)batch - axes->n;
    if (rank > IG_MAX_RANK)
        return ir_infer_fail(c, IG_SHAPE, "%s at indices %s: %d axes; the limit is %d", TYPE(x),
                             TYPE(i), rank, IG_MAX_RANK);
    *out_ = *i;
    out_->dtype = x->dtype;
    for (int k = (int)batch, a = 0; k < x->rank; k++) {
        if (a < axes->n && axes->a[a] == k)
            a++;
        else
            out_->dim[out_->rank++] = x->dim[k];
    }
    return true;
}

bool ir_infer_gather(ir_infer *c) {
    const ir_attr_gather *a = c->attr;
    ir_type t;
    if (c->nin < 2)
        return ir_infer_fail(c, IG_INVALID, "give the tensor, then one index tensor an axis");
    if (a->oob != IR_oob_clamp && a->oob != IR_oob_fill)
        return ir_infer_fail(c, IG_INVALID, "a gather out of range is oob=clamp or oob=fill");
    return ir_infer_check_tensor(c, 0) &&
           index_check(c, 1, &a->axes, a->batch, a->oob == IR_oob_clamp) &&
           index_gathered(c, &c->in[1], &a->axes, a->batch, &t) && ir_infer_one(c, t);
}

bool ir_infer_scatter(ir_infer *c) {
    const ir_attr_scatter *a = c->attr;
    ir_type t;
    if (c->nin < 3)
        return ir_infer_fail(c, IG_INVALID,
                             "give the tensor, the updates, then one index tensor an axis");
    const ir_type *x = &c->in[0], *u = &c->in[1];
    if (a->oob != IR_oob_clamp && a->oob != IR_oob_drop)
        return ir_infer_fail(c, IG_INVALID, "a scatter out of range is oob=clamp or oob=drop");
    if (a->op > IR_putop_max)
        return ir_infer_fail(c, IG_INVALID, "there is no such way to put an element");
    if ((a->op == IR_putop_add || a->op == IR_putop_mul) && !ir_infer_is_num(x))
        return ir_infer_fail(c, IG_DTYPE, "%s: op=%s takes integers and floats", TYPE(x),
                             ir_enum_names(FIELD_putop)[a->op]);
    if (!ir_infer_check_tensor(c, 0) || !ir_infer_check_tensor(c, 1) ||
        !index_check(c, 2, &a->axes, a->batch, a->oob == IR_oob_clamp) ||
        !index_gathered(c, &c->in[2], &a->axes, a->batch, &t))
        return false;
    if (!ir_type_eq(u, &t))
        return ir_infer_fail(c, IG_SHAPE, "the updates are %s; these indices take %s", TYPE(u),
                             TYPE(&t));
    return ir_infer_one(c, *x);
}

#define SORT_MOST (IG_MAX_RANK / 2) /* a call places so many results, and as much room */

bool ir_infer_sort(ir_infer *c) {
    const ir_attr_sort *a = c->attr;
    if (c->nin < 1 || c->nin > SORT_MOST)
        return ir_infer_fail(c, IG_INVALID, "%d operands; a sort takes 1 to %d", c->nin, SORT_MOST);
    if (a->keys < 1 || a->keys > c->nin || a->keys >= SORT_MOST) /* positions may join */
        return ir_infer_fail(c, IG_RANGE, "%lld keys of %d operands", (long long)a->keys, c->nin);
    for (int k = 0; k < c->nin; k++) {
        if (!ir_infer_check_tensor(c, k)) return false;
        if (!ir_same_dims(&c->in[k], &c->in[0]))
            return ir_infer_fail(c, IG_SHAPE, "%s and %s: what is sorted together has one shape",
                                 TYPE(&c->in[0]), TYPE(&c->in[k]));
        c->out[k] = c->in[k];
    }
    if (!ir_infer_check_axis(c, a->axis, c->in[0].rank)) return false;
    c->nout = c->nin;
    return true;
}
