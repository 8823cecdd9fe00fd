/* moves.c - rules about movement and contractions.
 *
 * Movement commutes with what works element by element, and a contraction reads its operands
 * through any permutation; the orders of reductions belong to the ops (numerics rules 5 to 7), so
 * that none of these changes a bit.  What is gained: work at the smaller side of a broadcast, no
 * kernel for a transpose that a contraction can read through, no copy for what is a reshape. */
#include "passes/simplify.h"

#include <string.h>

static const ir_ref move_none = {0};

static const ir_type *move_type(const simplify_move_call *c, ir_ref r) {
    return ir_val_type(c->b->f, r);
}

/* The op that defines a value when its code is `op`, else NULL. */
static const ir_op *move_def(const simplify_move_call *c, ir_ref r, ir_opcode op) {
    const ir_op *o = ir_def_op(c->b->f, r);
    return o && o->code == op ? o : NULL;
}

static const void *move_attr(const simplify_move_call *c, const ir_op *o) {
    return ir_attr_get(c->b->m, o->attr);
}

static ir_ref move_in(const simplify_move_call *c, const ir_op *o) {
    return ir_op_in(c->b->f, o, 0);
}

static ir_ref move_emit(const simplify_move_call *c, ir_opcode op, const void *attr, int nin,
                        const ir_ref *in) {
    return c->emit(c->user, c->b, op, attr, nin, in);
}

/* --- Broadcasts ------------------------------------------------------------------------------ */

/* Operands of an elementwise op that are one broadcast each, from one shape by one map. */
typedef struct move_spread {
    ir_ref in[3];
    const ir_attr_bcast *how; /* of the operands that are no splats */
    ir_type small;            /* their shape before the broadcast */
} move_spread;

static bool move_same_axes(const ir_axes *a, const ir_axes *b) {
    return a->n == b->n && !memcmp(a->a, b->a, a->n);
}

/* Find the common broadcast; splats adapt to any shape.  False when there is none. */
static bool move_fill_spread(const simplify_move_call *c, move_spread *s) {
    *s = (move_spread){0};
    for (int k = 0; k < c->nin; k++) {
        const ir_op *o = move_def(c, c->in[k], OP_broadcast);
        if (ir_splat(c->b->f, c->in[k])) continue;
        if (!o) return false;
        const ir_attr_bcast *a = move_attr(c, o);
        s->in[k] = move_in(c, o);
        const ir_type *t = move_type(c, s->in[k]);
        if (s->how && (!move_same_axes(&s->how->axes, &a->axes) || !ir_same_dims(&s->small, t)))
            return false;
        s->how = a;
        s->small = *t;
    }
    return s->how != NULL;
}

/* A splat in the shape of `like`, with the element type and value of r. */
static ir_ref move_splat(const simplify_move_call *c, ir_ref r, const ir_type *like) {
    ig_dtype d = (ig_dtype)move_type(c, r)->dtype;
    ir_ref scalar = ir_const(c->b, ir_scalar_type(d), ir_splat(c->b->f, r), rt_dtype_bytes(d));
    ir_attr_bcast a = {.dims = {.n = like->rank}};
    memcpy(a.dims.d, like->dim, sizeof like->dim);
    return like->rank ? ir_emit1(c->b, OP_broadcast, &a, scalar) : scalar;
}

/* f(broadcast(x), broadcast(y)) computes the same element many times: broadcast(f(x, y)). */
static ir_ref move_elementwise_of_broadcast(const simplify_move_call *c) {
    move_spread s;
    if (!ir_is_elementwise(c->op) || c->nin < 1 || c->nin > 3 || !move_type(c, c->in[0])->rank)
        return move_none;
    if (!move_fill_spread(c, &s)) return move_none;
    for (int k = 0; k < c->nin; k++)
        if (!s.in[k].i) s.in[k] = move_splat(c, c->in[k], &s.small);
    ir_attr_bcast how = *s.how; /* emission may move what it points into */
    ir_ref small = move_emit(c, c->op, c->attr, c->nin, s.in);
    return move_emit(c, OP_broadcast, &how, 1, &small);
}

/* A broadcast that only adds axes of one element is a reshape, which is free. */
static ir_ref move_broadcast_units(const simplify_move_call *c) {
    const ir_attr_bcast *a = c->attr;
    const ir_type *t = move_type(c, c->in[0]);
    unsigned from = 0;
    for (int i = 0; i < t->rank; i++) {
        if (t->dim[i] != a->dims.d[a->axes.a[i]]) return move_none;
        from |= 1u << a->axes.a[i];
    }
    for (int i = 0; i < a->dims.n; i++)
        if (!(from >> i & 1) && a->dims.d[i] != 1) return move_none;
    ir_attr_dims dims = {.dims = a->dims};
    return move_emit(c, OP_reshape, &dims, 1, c->in);
}

/* --- Transposes ------------------------------------------------------------------------------ */

/* A transpose that keeps the order of all axes longer than one is a reshape, which is free. */
static ir_ref move_transpose_units(const simplify_move_call *c) {
    const ir_attr_perm *a = c->attr;
    const ir_type *t = move_type(c, c->in[0]);
    ir_attr_dims dims = {.dims = {.n = t->rank}};
    int last = -1;
    for (int i = 0; i < t->rank; i++) {
        dims.dims.d[i] = t->dim[a->perm.a[i]];
        if (dims.dims.d[i] == 1) continue;
        if (a->perm.a[i] < last) return move_none;
        last = a->perm.a[i];
    }
    return move_emit(c, OP_reshape, &dims, 1, c->in);
}

/* transpose(ein) is the ein with its result's subscripts permuted, when nothing else uses it. */
static ir_ref move_transpose_of_ein(const simplify_move_call *c) {
    const ir_attr_perm *a = c->attr;
    const ir_op *o = move_def(c, c->in[0], OP_ein);
    ir_ref in[IR_EIN_OPERANDS];
    if (!o || c->in[0].i >= c->nuses || c->uses[c->in[0].i] != 1) return move_none;
    ir_attr_ein e = *(const ir_attr_ein *)move_attr(c, o);
    ir_axes out = e.rel.out;
    for (int i = 0; i < out.n; i++) e.rel.out.a[i] = out.a[a->perm.a[i]];
    ir_ein_number(&e.rel);
    for (uint32_t k = 0; k < o->nin; k++) in[k] = ir_op_in(c->b->f, o, k);
    return move_emit(c, OP_ein, &e, o->nin, in);
}

/* --- Contractions ---------------------------------------------------------------------------- */

/* Read operand k through its transpose, or without the axes its broadcast made; false when it is
 * neither.  A variable may lose an access only when another operand still bounds it. */
static bool move_ein_operand(const simplify_move_call *c, ir_rel *r, ir_ref *in, int k) {
    ir_axes *mine = &r->in[k], had = *mine;
    const ir_op *o = move_def(c, in[k], OP_transpose);
    if (o) {
        const ir_attr_perm *a = move_attr(c, o);
        for (int i = 0; i < had.n; i++) mine->a[a->perm.a[i]] = had.a[i];
        in[k] = move_in(c, o);
        return true;
    }
    if (!(o = move_def(c, in[k], OP_broadcast))) return false;
    const ir_attr_bcast *a = move_attr(c, o);
    const ir_type *t = move_type(c, move_in(c, o));
    unsigned bound = 0, kept = 0;
    for (int j = 0; j < r->nin; j++)
        for (int i = 0; j != k && i < r->in[j].n; i++) bound |= 1u << r->in[j].a[i];
    *mine = (ir_axes){.n = a->axes.n};
    for (int i = 0; i < a->axes.n; i++) {
        if (t->dim[i] != a->dims.d[a->axes.a[i]]) break; /* stretched: not this variable's extent */
        mine->a[i] = had.a[a->axes.a[i]];
        kept |= 1u << i;
    }
    bool fits = kept == (1u << a->axes.n) - 1;
    for (int i = 0; fits && i < had.n; i++) {
        bool still = false;
        for (int j = 0; j < mine->n; j++) still |= mine->a[j] == had.a[i];
        fits = still || bound >> had.a[i] & 1;
    }
    if (fits)
        in[k] = move_in(c, o);
    else
        *mine = had;
    return fits;
}

static ir_ref move_ein_operands(const simplify_move_call *c) {
    ir_attr_ein e = *(const ir_attr_ein *)c->attr;
    ir_ref in[IR_EIN_OPERANDS];
    bool moved = false;
    memcpy(in, c->in, (size_t)c->nin * sizeof *in);
    for (int k = 0; k < c->nin; k++) moved |= move_ein_operand(c, &e.rel, in, k);
    if (!moved) return move_none;
    ir_ein_number(&e.rel);
    return move_emit(c, OP_ein, &e, c->nin, in);
}

/* --- Reductions ------------------------------------------------------------------------------ */

/* Whether a reduction gives the same bits in any order. */
static bool move_is_free_order(const simplify_move_call *c, ir_redop op) {
    bool arg = op == IR_redop_argmax || op == IR_redop_argmin;
    bool rounds = op == IR_redop_sum || op == IR_redop_prod;
    return !arg && !(rounds && rt_is_float(move_type(c, c->in[0])->dtype));
}

/* A reduction in any order does not see a reversal of the axes it reduces. */
static ir_ref move_reduce_of_reverse(const simplify_move_call *c) {
    const ir_attr_reduce *a = c->attr;
    const ir_op *o = move_def(c, c->in[0], OP_reverse);
    if (!o || !move_is_free_order(c, (ir_redop)a->op)) return move_none;
    const ir_attr_axes *r = move_attr(c, o);
    unsigned reduced = 0;
    for (int i = 0; i < a->axes.n; i++) reduced |= 1u << a->axes.a[i];
    for (int i = 0; i < r->axes.n; i++)
        if (!(reduced >> r->axes.a[i] & 1)) return move_none;
    ir_ref x = move_in(c, o);
    return move_emit(c, OP_reduce, a, 1, &x);
}

/* --- Windows --------------------------------------------------------------------------------- */

/* A window that lies within one part of a concat. */
static ir_ref move_slice_of_concat(const simplify_move_call *c) {
    ir_attr_slice a = *(const ir_attr_slice *)c->attr;
    const ir_op *o = move_def(c, c->in[0], OP_concat);
    if (!o) return move_none;
    int64_t axis = ((const ir_attr_axis *)move_attr(c, o))->axis;
    ir_dim lo = a.lo.d[axis], hi = a.hi.d[axis], at = 0;
    if (!ir_dim_is_const(lo) || !ir_dim_is_const(hi)) return move_none;
    for (uint32_t k = 0; k < o->nin; k++) {
        ir_ref part = ir_op_in(c->b->f, o, k);
        ir_dim n = move_type(c, part)->dim[axis];
        if (!ir_dim_is_const(n)) return move_none;
        if (lo >= at && hi <= at + n) {
            a.lo.d[axis] = lo - at;
            a.hi.d[axis] = hi - at;
            return move_emit(c, OP_slice, &a, 1, &part);
        }
        at += n;
    }
    return move_none;
}

/* A window that lies within what was padded. */
static ir_ref move_slice_of_pad(const simplify_move_call *c) {
    ir_attr_slice a = *(const ir_attr_slice *)c->attr;
    const ir_op *o = move_def(c, c->in[0], OP_pad);
    if (!o) return move_none;
    const ir_attr_pad *p = move_attr(c, o);
    ir_ref x = move_in(c, o);
    const ir_type *t = move_type(c, x);
    for (int i = 0; i < t->rank; i++) {
        ir_dim lo = a.lo.d[i], hi = a.hi.d[i], before = p->lo.d[i];
        if (lo < 0 || hi < 0 || before < 0 || t->dim[i] < 0 || p->interior.v[i]) return move_none;
        if (lo < before || hi > before + t->dim[i]) return move_none;
        a.lo.d[i] = lo - before;
        a.hi.d[i] = hi - before;
    }
    return move_emit(c, OP_slice, &a, 1, &x);
}

/* --- The table ------------------------------------------------------------------------------- */

const simplify_move simplify_moves[] = {
    {"elementwise_of_broadcast", OP_END, move_elementwise_of_broadcast},
    {"broadcast_units", OP_broadcast, move_broadcast_units},
    {"transpose_units", OP_transpose, move_transpose_units},
    {"transpose_of_ein", OP_transpose, move_transpose_of_ein},
    {"ein_operands", OP_ein, move_ein_operands},
    {"reduce_of_reverse", OP_reduce, move_reduce_of_reverse},
    {"slice_of_concat", OP_slice, move_slice_of_concat},
    {"slice_of_pad", OP_slice, move_slice_of_pad},
    {NULL, OP_END, NULL}};
