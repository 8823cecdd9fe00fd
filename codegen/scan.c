/* scan.c - running reductions in the order of numerics rule 5.
 *
 * The axis is cut at multiples of 1024; inside a block results are a chain that begins with its
 * first element, and from the second block on the carry (the chain of the totals of the blocks
 * before) is combined in front.  One loop along the axis holds (local, carry) in registers; the
 * vector runs along the last axis when that is another one.  `reverse` walks from the end,
 * `exclusive` stores one place later and begins with the identity. */
#include "codegen/lower.h"

#include <string.h>

typedef struct scan_work {
    const ir_attr_cumred *a;
    ig_dtype d;
    ir_ref v, x; /* the cumred and its operand */
    const ir_type *type;
    ir_dim extent;  /* along the axis */
    bool one_block; /* whatever the dims */
} scan_work;

static scan_work scan_begin(const cg_low *l, const ir_op *o) {
    scan_work w = {
        .a = ir_attr_get(l->f->module, o->attr), .v = ir_op_out(o, 0), .x = ir_op_in(l->f, o, 0)};
    int64_t lo, hi;
    w.type = cg_type(l, w.v);
    w.d = (ig_dtype)w.type->dtype;
    w.extent = w.type->dim[w.a->axis];
    ir_dim_range(l->k.b.m, w.extent, &lo, &hi);
    w.one_block = hi <= IR_CUMRED_BLOCK;
    return w;
}

/* Where step t of the walk lies on the axis. */
static cg_ix scan_place(cg_low *l, const scan_work *w, ir_ref t) {
    cg_kernel *k = &l->k;
    if (!w->a->reverse) return cg_ix_uniform(t);
    ir_ref last = cg_i64(k, 1);
    last = cg_bin(k, OP_sub, cg_dim(k, w->extent), last);
    return cg_ix_uniform(cg_bin(k, OP_sub, last, t));
}

/* Take element x at step t: new local and carry, and the inclusive result. */
static ir_ref scan_step(cg_low *l, const scan_work *w, ir_ref t, ir_ref x, const ir_ref in[2],
                        ir_ref out[2]) {
    cg_kernel *k = &l->k;
    ir_redop op = (ir_redop)w->a->op;
    ir_ref block = cg_i64(k, IR_CUMRED_BLOCK), zero = cg_i64(k, 0);
    ir_ref start =
        cg_cmp(k, IR_cmpop_eq, cg_bit(k, IR_bitop_band, t, cg_i64(k, IR_CUMRED_BLOCK - 1)), zero);
    int lanes = cg_lanes_of(k, in[0]);
    x = cg_splat(k, x, lanes);
    out[1] = in[1];
    if (!w->one_block) {
        ir_ref second = cg_cmp(k, IR_cmpop_eq, t, block), later = cg_cmp(k, IR_cmpop_lt, block, t);
        ir_ref next = cg_select(k, second, in[0], in[1]);
        next = cg_select(k, later, cg_monoid(l, op, w->d, in[1], in[0]), next);
        out[1] = cg_select(k, start, next, in[1]);
    }
    out[0] = cg_select(k, start, x, cg_monoid(l, op, w->d, in[0], x));
    if (w->one_block) return out[0];
    ir_ref carried = cg_monoid(l, op, w->d, out[1], out[0]);
    return cg_select(k, cg_cmp(k, IR_cmpop_lt, t, block), out[0], carried);
}

/* --- As an element of something else -------------------------------------------------------- */

/* The loop runs to the farthest lane; each lane keeps the result of its own step. */
ir_ref cg_cumred_at(cg_low *l, const ir_op *o, const cg_ix *ix) {
    scan_work w = scan_begin(l, o);
    cg_kernel *k = &l->k;
    int axis = (int)w.a->axis;
    bool vary = false;
    for (int i = 0; i < w.type->rank; i++) vary |= ix[i].kind != CG_IX_UNIFORM;
    int64_t lanes = vary ? k->lanes : 0;
    ir_ref to = cg_ix_value(l, ix[axis]), one = cg_i64(k, 1);
    if (w.a->reverse) to = cg_bin(k, OP_sub, cg_bin(k, OP_sub, cg_dim(k, w.extent), one), to);
    if (w.a->exclusive) to = cg_bin(k, OP_sub, to, one);
    ir_ref id = cg_splat(k, cg_identity(l, (ir_redop)w.a->op, w.d), lanes), in[3], out[3],
           init[3] = {id, id, id};
    ir_ref end = cg_bin(k, OP_add, cg_max_lane(k, to), one);
    cg_nest nest = cg_open_for(l, cg_i64(k, 0), end, 1, 3, init, in);
    cg_ix at[IG_MAX_RANK] = {{0}};
    memcpy(at, ix, (size_t)w.type->rank * sizeof *at);
    at[axis] = scan_place(l, &w, nest.loop.index);
    ir_ref y = scan_step(l, &w, nest.loop.index, cg_pull(l, w.x, at), in, out);
    out[2] = cg_select(k, cg_cmp(k, IR_cmpop_le, nest.loop.index, to), y, in[2]);
    return cg_round(k, w.d, ir_result(cg_close_for(l, nest, 3, out), 2));
}

/* --- As a kernel ---------------------------------------------------------------------------- */

static void scan_store(cg_low *l, const scan_work *w, const cg_ix *ix, ir_ref y) {
    cg_ix at = cg_ix_flat(l, w->type->rank, w->type->dim, ix);
    cg_store(&l->k, l->out[0], (ir_ref){at.r},
             cg_splat(&l->k, cg_round(&l->k, w->d, y), l->k.lanes));
}

/* One line along the axis, or CG_LANES lines side by side; ix holds the other subscripts. */
static void scan_line(cg_low *l, const scan_work *w, cg_ix *ix) {
    cg_kernel *k = &l->k;
    int axis = (int)w->a->axis;
    ir_ref zero = cg_i64(k, 0), one = cg_i64(k, 1), n = cg_dim(k, w->extent);
    ir_ref id = cg_splat(k, cg_identity(l, (ir_redop)w->a->op, w->d), k->lanes), in[2], out[2],
           init[2] = {id, id};
    if (w->a->exclusive) { /* runs at most once: there may be no elements */
        cg_nest first = cg_open_for(l, zero, cg_bin(k, OP_min, n, one), 1, 0, NULL, NULL);
        ix[axis] = scan_place(l, w, first.loop.index);
        scan_store(l, w, ix, id);
        cg_close_for(l, first, 0, NULL);
        n = cg_bin(k, OP_sub, n, one);
    }
    cg_nest nest = cg_open_for(l, zero, n, 1, 2, init, in);
    ir_ref t = nest.loop.index;
    ix[axis] = scan_place(l, w, t);
    ir_ref y = scan_step(l, w, t, cg_pull(l, w->x, ix), in, out);
    if (w->a->exclusive) ix[axis] = scan_place(l, w, cg_bin(k, OP_add, t, one));
    scan_store(l, w, ix, y);
    cg_close_for(l, nest, 2, out);
}

/* Lines side by side along the last axis. */
static void scan_columns(cg_low *l, const scan_work *w, cg_ix *ix) {
    cg_kernel *k = &l->k;
    int last = w->type->rank - 1;
    ir_dim extent = w->type->dim[last];
    ir_ref n = cg_dim(k, extent), end = cg_i64(k, 0);
    if (extent < 0 || extent >= CG_LANES) {
        end = cg_bit(k, IR_bitop_band, n, cg_i64(k, -CG_LANES));
        cg_nest v = cg_open_for(l, cg_i64(k, 0), end, CG_LANES, 0, NULL, NULL);
        k->lanes = CG_LANES;
        ix[last] = cg_ix_aligned(v.loop.index);
        scan_line(l, w, ix);
        k->lanes = 0;
        cg_close_for(l, v, 0, NULL);
    }
    if (extent >= 0 && extent % CG_LANES == 0) return;
    cg_nest s = cg_open_for(l, end, n, 1, 0, NULL, NULL);
    ix[last] = cg_ix_uniform(s.loop.index);
    scan_line(l, w, ix);
    cg_close_for(l, s, 0, NULL);
}

/* The cluster whose result is a running reduction: its other axes are the outermost loop, but for
 * the last, along which vectors run when it is not the axis itself. */
bool cg_scan_nest(cg_low *l, ir_dim *n_) {
    const ir_op *ret = ir_return_op(l->f);
    const ir_op *o = ret->nin == 1 ? ir_def_op(l->f, ir_op_in(l->f, ret, 0)) : NULL;
    if (!o || o->code != OP_cumred) return false;
    scan_work w = scan_begin(l, o);
    int axis = (int)w.a->axis, last = w.type->rank - 1, n = 0, from[IG_MAX_RANK];
    ir_dim dim[IG_MAX_RANK], outer = 1;
    cg_ix ix[IG_MAX_RANK] = {{0}}, part[IG_MAX_RANK] = {{0}};
    for (int i = 0; i < last + 1; i++)
        if (i != axis && i != last) {
            from[n] = i;
            dim[n++] = w.type->dim[i];
            outer = ir_dim_mul(l->k.b.m, outer, w.type->dim[i]);
        }
    cg_nest row = cg_open_for(l, l->lo, l->hi, 1, 0, NULL, NULL);
    cg_ix_split(l, cg_ix_uniform(row.loop.index), n, dim, part);
    for (int i = 0; i < n; i++) ix[from[i]] = cg_ix_solid(l, part[i]);
    if (axis == last)
        scan_line(l, &w, ix);
    else
        scan_columns(l, &w, ix);
    cg_close_for(l, row, 0, NULL);
    *n_ = outer;
    return true;
}
