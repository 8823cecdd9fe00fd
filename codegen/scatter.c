/* scatter.c - the kernel of a scatter: a copy of x, unless the result lies there, then the updates
 * one after the other.
 *
 * Batches are the outermost loop, which threads share; within one the positions are taken in their
 * order, so that the result does not depend on how the work is split.  The elements of one window
 * are distinct: vectors run along them. */
#include "codegen/lower.h"

typedef struct scatter_work {
    const ir_op *o;
    const ir_attr_scatter *a;
    const ir_type *type, *at;            /* of x and of the indices */
    int batch, nrest, axis[IG_MAX_RANK]; /* the axes of a window */
    ir_dim rest[IG_MAX_RANK];
    cg_ix ix[IG_MAX_RANK];  /* into x */
    cg_ix pos[IG_MAX_RANK]; /* into the indices; the window's subscripts follow in u */
} scatter_work;

typedef void (*scatter_body)(cg_low *l, scatter_work *w, cg_ix t);

/* Vectors, then single elements, over [0, n). */
static void scatter_loop(cg_low *l, scatter_work *w, ir_dim extent, scatter_body body) {
    cg_kernel *k = &l->k;
    ir_ref n = cg_dim(k, extent), end = cg_i64(k, 0);
    if (extent < 0 || extent >= CG_LANES) {
        end = cg_bit(k, IR_bitop_band, n, cg_i64(k, -CG_LANES));
        cg_nest v = cg_open_for(l, cg_i64(k, 0), end, CG_LANES, 0, NULL, NULL);
        k->lanes = CG_LANES;
        body(l, w, cg_ix_aligned(v.loop.index));
        k->lanes = 0;
        cg_close_for(l, v, 0, NULL);
    }
    if (extent >= 0 && extent % CG_LANES == 0) return;
    cg_nest s = cg_open_for(l, end, n, 1, 0, NULL, NULL);
    body(l, w, cg_ix_uniform(s.loop.index));
    cg_close_for(l, s, 0, NULL);
}

static ir_dim scatter_extent(cg_low *l, int n, const ir_dim *dim) {
    ir_dim d = 1;
    for (int i = 0; i < n; i++) d = ir_dim_mul(l->k.b.m, d, dim[i]);
    return d;
}

static cg_ix scatter_place(cg_low *l, const scatter_work *w) {
    return cg_ix_flat(l, w->type->rank, w->type->dim, w->ix);
}

static ir_ref scatter_at(cg_low *l, cg_ix at) {
    bool plain = at.kind == CG_IX_UNIFORM || (at.kind == CG_IX_LINEAR && at.stride == 1);
    return plain ? (ir_ref){at.r} : cg_ix_value(l, at);
}

/* Element (or vector) t of a batch of x goes to the result. */
static void scatter_copy(cg_low *l, scatter_work *w, cg_ix t) {
    cg_ix_split(l, t, w->type->rank - w->batch, w->type->dim + w->batch, w->ix + w->batch);
    ir_ref r = cg_pull(l, ir_op_in(l->f, w->o, 0), w->ix);
    cg_ix at = scatter_place(l, w);
    r = cg_splat(&l->k, r, l->k.lanes);
    cg_store(&l->k, l->out[0], scatter_at(l, at), r);
}

/* Element (or vector) t of the window meets its update. */
static void scatter_put(cg_low *l, scatter_work *w, cg_ix t) {
    cg_kernel *k = &l->k;
    ig_dtype d = (ig_dtype)w->type->dtype;
    cg_ix part[IG_MAX_RANK] = {{0}};
    cg_ix_split(l, t, w->nrest, w->rest, part);
    for (int i = 0; i < w->nrest; i++) w->ix[w->axis[i]] = w->pos[w->at->rank + i] = part[i];
    cg_ix at = scatter_place(l, w);
    ir_ref to = scatter_at(l, at), r = cg_pull(l, ir_op_in(l->f, w->o, 1), w->pos);
    r = cg_splat(k, r, k->lanes);
    if (w->a->op != IR_putop_set) {
        ir_ref in[2] = {cg_load(k, l->out[0], to, k->lanes), r};
        if (k->lanes && at.kind == CG_IX_UNIFORM) in[0] = cg_splat(k, in[0], k->lanes);
        r = cg_ew(k, ir_put_code(w->a->op), NULL, d, 2, in);
    }
    cg_store(k, l->out[0], to, r);
}

/* Read the indices of a position into w->ix; whether all are in range, {0}: they were clamped. */
static ir_ref scatter_indices(cg_low *l, scatter_work *w) {
    cg_kernel *k = &l->k;
    ir_ref inside = {0}, zero = cg_i64(k, 0);
    for (int i = 0; i < w->a->axes.n; i++) {
        int axis = w->a->axes.a[i];
        ir_ref n = cg_dim(k, w->type->dim[axis]);
        ir_ref t = cg_cast(k, cg_pull(l, ir_op_in(l->f, w->o, 2u + (uint32_t)i), w->pos), IG_i64);
        if (w->a->oob == IR_oob_clamp) {
            t = cg_bin(k, OP_max, cg_bin(k, OP_min, t, cg_bin(k, OP_sub, n, cg_i64(k, 1))), zero);
        } else {
            ir_ref in = cg_cmp(k, IR_cmpop_lt, t, n);
            in = cg_bit(k, IR_bitop_band, cg_cmp(k, IR_cmpop_le, zero, t), in);
            inside = inside.i ? cg_bit(k, IR_bitop_band, inside, in) : in;
        }
        w->ix[axis] = cg_ix_uniform(t);
    }
    return inside;
}

static void scatter_position(cg_low *l, scatter_work *w, cg_ix t) {
    int n = w->at->rank - w->batch;
    cg_nest nest = {0};
    for (int i = 0; i < w->batch; i++) w->pos[i] = w->ix[i];
    cg_ix_split(l, t, n, w->at->dim + w->batch, w->pos + w->batch);
    for (int i = w->batch; i < w->at->rank; i++) w->pos[i] = cg_ix_solid(l, w->pos[i]);
    ir_ref inside = scatter_indices(l, w);
    if (inside.i) nest = cg_open_if(l, inside);
    scatter_loop(l, w, scatter_extent(l, w->nrest, w->rest), scatter_put);
    if (!inside.i) return;
    cg_open_else(l, nest, 0, NULL);
    cg_close_if(l, nest, 0, NULL);
}

bool cg_scatter_nest(cg_low *l, ir_dim *n_) {
    const ir_op *ret = ir_return_op(l->f);
    const ir_op *o = ret->nin == 1 ? ir_def_op(l->f, ir_op_in(l->f, ret, 0)) : NULL;
    if (!o || o->code != OP_scatter) return false;
    scatter_work w = {.o = o,
                      .a = ir_attr_get(l->f->module, o->attr),
                      .type = cg_type(l, ir_op_out(o, 0)),
                      .at = cg_type(l, ir_op_in(l->f, o, 2))};
    w.batch = (int)w.a->batch;
    for (int i = w.batch, k = 0; i < w.type->rank; i++) {
        if (k < w.a->axes.n && w.a->axes.a[k] == i) {
            k++;
            continue;
        }
        w.axis[w.nrest] = i;
        w.rest[w.nrest++] = w.type->dim[i];
    }
    cg_nest row = cg_open_for(l, l->lo, l->hi, 1, 0, NULL, NULL);
    cg_ix_split(l, cg_ix_uniform(row.loop.index), w.batch, w.type->dim, w.ix);
    for (int i = 0; i < w.batch; i++) w.ix[i] = cg_ix_solid(l, w.ix[i]);
    int inner = w.type->rank - w.batch;
    if (!l->update)
        scatter_loop(l, &w, scatter_extent(l, inner, w.type->dim + w.batch), scatter_copy);
    ir_dim positions = scatter_extent(l, w.at->rank - w.batch, w.at->dim + w.batch);
    ir_ref end = cg_dim(&l->k, positions);
    cg_nest each = cg_open_for(l, cg_i64(&l->k, 0), end, 1, 0, NULL, NULL);
    scatter_position(l, &w, cg_ix_uniform(each.loop.index));
    cg_close_for(l, each, 0, NULL);
    cg_close_for(l, row, 0, NULL);
    *n_ = scatter_extent(l, w.batch, w.type->dim);
    return true;
}
