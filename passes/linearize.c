/* linearize.c - the `lin` column: tangents, and the walker that computes with them.
 *
 * The rule of an op that has y = op(x..) emits into T what maps tangents of the operands to
 * tangents of the results.  It may emit into P what that needs of the values, and hands values of P
 * to T by RES.  So one rule serves both modes: with P == T values and tangents are computed side
 * by side, with P != T all of T is linear in T's parameters and every other value that it uses is
 * a residual, an operand made by RES.
 *
 * Laws for whoever adds a rule.  T gets linear ops only (those with a transpose rule), at least one
 * operand of each being a tangent; everything else, constants too, is made in P.  A tangent that
 * is absent is zero: it gives no op, unless the op needs all its operands (concat), then a zero
 * made in P stands for it.  What a rule emits is in one order, which later derivatives see: two
 * emissions never stand side by side as arguments of one call, whose order C leaves open. */
#include "passes/lin.h"
#include <math.h>
#include <string.h>

#define P(op, ...)      EMIT(c->p, op, __VA_ARGS__)
#define PA(op, a, ...)  EMIT_AS(c->p, op, a, __VA_ARGS__)
#define T(op, ...)      EMIT(c->t, op, __VA_ARGS__)
#define TA(op, a, ...)  EMIT_AS(c->t, op, a, __VA_ARGS__)
#define RES(v)          pass_lin_residual(c, v)
#define K(like, number) ir_const_like(c->p, like, number)

static const ir_ref lin_none = {0};

/* --- Residuals ------------------------------------------------------------------------------ */

ir_ref pass_lin_residual(lin_call *c, ir_ref v) {
    lin_walk *w = c->walk;
    const ig_allocator *a = c->p->m->alloc;
    if (c->p == c->t || c->p->error || c->t->error) return v;
    bool room = true;
    while (room && w->of.n <= v.i) room = rt_vec_push(a, &w->of, lin_none);
    while (room && w->need.n <= v.i) room = rt_vec_push(a, &w->need, 0);
    if (room && !w->of.data[v.i].i) {
        w->need.data[v.i] |= LIN_AGAIN;
        w->of.data[v.i] = ir_capture(c->t, ir_type_of(c->p, v));
        room = rt_vec_push(a, &w->tape->pairs, ((lin_pair){w->of.data[v.i], v}));
    }
    if (!room) ir_build_error(c->p, rt_fail_memory());
    return room ? w->of.data[v.i] : lin_none;
}

/* --- Shared by rules ------------------------------------------------------------------------ */

/* x' + y' of tangents that may be absent. */
static ir_ref lin_sum(lin_call *c, ir_ref x, ir_ref y) {
    return !x.i ? y : !y.i ? x : T(add, x, y);
}

/* The tangent of operand k times a factor of P. */
static ir_ref lin_times(lin_call *c, int k, ir_ref factor) {
    return c->dx[k].i ? T(mul, c->dx[k], RES(factor)) : lin_none;
}

static ir_type lin_type(const lin_call *c, int k) { return ir_type_of(c->p, c->x[k]); }

/* The op on tangents: operands that the row calls linear are tangents, the others values. */
static void lin_linear(lin_call *c) {
    unsigned linear = ir_op_tab[c->o->code].linear;
    size_t bytes = (size_t)c->nin * sizeof(ir_ref);
    ir_ref *in = rt_alloc(c->t->m->alloc, bytes);
    if (!in) {
        ir_build_error(c->p, rt_fail_memory());
        return;
    }
    for (int k = 0; k < c->nin; k++) {
        ir_type type = lin_type(c, k);
        bool is_linear = linear == IR_LINEAR_V || linear >> k & 1;
        in[k] = !is_linear ? RES(c->x[k]) : c->dx[k].i ? c->dx[k] : RES(emit_fill(c->p, &type, 0));
    }
    c->dy[0] = ir_emit(c->t, (ir_opcode)c->o->code, c->attr, c->nin, in);
    rt_free(c->t->m->alloc, in, bytes);
}

/* Integers, bools and steps. */
static void lin_zero(lin_call *c) { (void)c; }

/* --- One operand ---------------------------------------------------------------------------- */

/* The number where p holds, else the value. */
static ir_ref lin_where(lin_call *c, ir_ref p, double yes, ir_ref no) {
    return P(select, p, K(no, yes), no);
}

static void lin_abs(lin_call *c) {
    ir_ref x = c->x[0], zero = K(x, 0);
    ir_ref sign = lin_where(c, emit_cmp(c->p, IR_cmpop_lt, zero, x), 1, zero);
    c->dy[0] = lin_times(c, 0, lin_where(c, emit_cmp(c->p, IR_cmpop_lt, x, zero), -1, sign));
}

static void lin_exp(lin_call *c) { c->dy[0] = lin_times(c, 0, c->y[0]); }
static void lin_expm1(lin_call *c) { c->dy[0] = lin_times(c, 0, P(add, c->y[0], K(c->y[0], 1))); }
static void lin_sin(lin_call *c) { c->dy[0] = lin_times(c, 0, P(cos, c->x[0])); }
static void lin_cos(lin_call *c) { c->dy[0] = lin_times(c, 0, P(neg, P(sin, c->x[0]))); }

static void lin_log(lin_call *c) { c->dy[0] = T(div, c->dx[0], RES(c->x[0])); }
static void lin_log1p(lin_call *c) {
    c->dy[0] = T(div, c->dx[0], RES(P(add, c->x[0], K(c->x[0], 1))));
}
static void lin_sqrt(lin_call *c) { c->dy[0] = T(div, c->dx[0], RES(P(add, c->y[0], c->y[0]))); }

static void lin_tanh(lin_call *c) {
    ir_ref y = c->y[0], one = K(y, 1);
    c->dy[0] = lin_times(c, 0, P(sub, one, P(mul, y, y)));
}

static void lin_erf(lin_call *c) {
    ir_ref x = c->x[0], bell = P(exp, P(neg, P(mul, x, x)));
    c->dy[0] = lin_times(c, 0, P(mul, bell, K(x, 1.1283791670955126))); /* 2 / sqrt(pi) */
}

/* To a float type of another width, or out of the reals. */
static void lin_convert(lin_call *c) {
    if (rt_is_float(ir_type_of(c->p, c->y[0]).dtype)) lin_linear(c);
}

static void lin_bitcast(lin_call *c) {
    ir_build_error(c->p, rt_status_op(rt_fail(c->p->m->alloc, IG_UNSUPPORTED,
                                              "a derivative goes through the bits of a float; "
                                              "stop it (ig_stop_gradient) or convert"),
                                      ir_op_tab[OP_bitcast].name));
}

/* --- Two and three operands ----------------------------------------------------------------- */

static void lin_add(lin_call *c) { c->dy[0] = lin_sum(c, c->dx[0], c->dx[1]); }

static void lin_sub(lin_call *c) {
    c->dy[0] = !c->dx[1].i ? c->dx[0] : !c->dx[0].i ? T(neg, c->dx[1]) : T(sub, c->dx[0], c->dx[1]);
}

static void lin_mul(lin_call *c) {
    ir_ref dx = lin_times(c, 0, c->x[1]);
    c->dy[0] = lin_sum(c, dx, lin_times(c, 1, c->x[0]));
}

/* x'/y - (z/y) y' */
static void lin_div(lin_call *c) {
    ir_ref y = c->x[1], dx = c->dx[0].i ? T(div, c->dx[0], RES(y)) : lin_none;
    c->dy[0] = lin_sum(c, dx, lin_times(c, 1, P(neg, P(div, c->y[0], y))));
}

/* x = q y + z with a whole q, which rounding (x - z) / y finds where x / y may round past it. */
static void lin_rem(lin_call *c) {
    ir_ref q = P(rint, P(div, P(sub, c->x[0], c->y[0]), c->x[1]));
    c->dy[0] = lin_sum(c, c->dx[0], lin_times(c, 1, P(neg, q)));
}

/* y x^(y-1) x' + z log(x) y'.  Where that were 0 times infinity the factors are taken elsewhere, so
 * that higher derivatives see no infinity either. */
static void lin_pow(lin_call *c) {
    ir_ref x = c->x[0], y = c->x[1], one = K(x, 1), zero = K(x, 0);
    ir_ref x0 = emit_cmp(c->p, IR_cmpop_eq, x, zero), y0 = emit_cmp(c->p, IR_cmpop_eq, y, zero);
    ir_ref both = PA(bit, &(ir_attr_bitop){.op = IR_bitop_band}, x0, y0);
    ir_ref by_x = P(mul, y, P(pow, x, P(select, both, one, P(sub, y, one))));
    ir_ref by_y = P(mul, c->y[0], P(log, P(select, x0, one, x)));
    ir_ref dx = lin_times(c, 0, by_x);
    c->dy[0] = lin_sum(c, dx, lin_times(c, 1, by_y));
}

/* (y x' - x y') / (x^2 + y^2), x being the first operand */
static void lin_atan2(lin_call *c) {
    ir_ref x = c->x[0], y = c->x[1], xx = P(mul, x, x), r = P(add, xx, P(mul, y, y));
    ir_ref dx = lin_times(c, 0, P(div, y, r));
    c->dy[0] = lin_sum(c, dx, lin_times(c, 1, P(neg, P(div, x, r))));
}

/* How much of the larger (or smaller) of x and y is x: 1, 0, or a half of both. */
static ir_ref lin_share(lin_call *c, bool larger, ir_ref x, ir_ref y) {
    ir_ref zero = K(x, 0), half = lin_where(c, emit_cmp(c->p, IR_cmpop_eq, x, y), 0.5, zero);
    return lin_where(c, emit_cmp(c->p, IR_cmpop_lt, larger ? y : x, larger ? x : y), 1, half);
}

static void lin_pick(lin_call *c, bool larger) {
    ir_ref x = c->x[0], y = c->x[1];
    ir_ref dx = lin_times(c, 0, lin_share(c, larger, x, y));
    c->dy[0] = lin_sum(c, dx, lin_times(c, 1, lin_share(c, larger, y, x)));
}

static void lin_max(lin_call *c) { lin_pick(c, true); }
static void lin_min(lin_call *c) { lin_pick(c, false); }

/* x' * y + z, or x' * y */
static ir_ref lin_fused(lin_call *c, int k, ir_ref factor, ir_ref z) {
    return !c->dx[k].i ? z : z.i ? T(fma, c->dx[k], RES(factor), z) : lin_times(c, k, factor);
}

static void lin_fma(lin_call *c) {
    c->dy[0] = lin_fused(c, 0, c->x[1], lin_fused(c, 1, c->x[0], c->dx[2]));
}

/* --- Reductions ----------------------------------------------------------------------------- */

/* For every element along `axis` the product of the others: those before times those after. */
static ir_ref lin_others(lin_call *c, ir_ref x, int axis) {
    ir_attr_cumred a = {.op = IR_redop_prod, .axis = axis, .exclusive = 1}, b = a;
    b.reverse = 1;
    ir_ref before = PA(cumred, &a, x);
    return P(mul, before, PA(cumred, &b, x));
}

/* The same over several axes, one after the other. */
static ir_ref lin_all_others(lin_call *c, ir_ref x, const ir_axes *axes) {
    ir_type full = ir_type_of(c->p, x);
    ir_axes lost = {0};
    ir_ref product = K(x, 1);
    for (int i = axes->n; i-- > 0;) {
        ir_attr_reduce a = {.op = IR_redop_prod, .axes = {.n = 1, .a = {axes->a[i]}}};
        product = P(mul, product, emit_repeat(c->p, lin_others(c, x, axes->a[i]), &full, &lost));
        x = PA(reduce, &a, x);
        memmove(lost.a + 1, lost.a, lost.n++);
        lost.a[0] = axes->a[i];
    }
    return product;
}

/* The derivative of y = reduce(x, axes) by every element of x. */
static ir_ref lin_weights(lin_call *c, ir_redop op, ir_ref x, ir_ref y, const ir_axes *axes) {
    ir_type full = ir_type_of(c->p, x);
    if (op == IR_redop_prod) return lin_all_others(c, x, axes);
    ir_ref zero = K(x, 0);
    ir_ref best = emit_cmp(c->p, IR_cmpop_eq, x, emit_repeat(c->p, y, &full, axes));
    ir_ref ones = lin_where(c, best, 1, zero);
    ir_attr_reduce sum = {.op = IR_redop_sum, .axes = *axes};
    return P(div, ones, emit_repeat(c->p, PA(reduce, &sum, ones), &full, axes));
}

static bool lin_is_choice(unsigned op) {
    return op == IR_redop_prod || op == IR_redop_max || op == IR_redop_min;
}

/* --- Index tensors and order ---------------------------------------------------------------- */

/* scatter (op) of x and u, or gather of x, at the indices of the op that is walked; in T the
 * indices are residuals. */
static ir_ref lin_put(lin_call *c, ir_builder *b, ir_putop op, ir_ref x, ir_ref u) {
    ir_attr_scatter a = *(const ir_attr_scatter *)c->attr;
    ir_ref in[IG_MAX_RANK + 2] = {x, u};
    a.op = op;
    for (int k = 2; k < c->nin; k++) in[k] = b == c->t ? RES(c->x[k]) : c->x[k];
    return ir_emit(b, OP_scatter, &a, c->nin, in);
}

static ir_ref lin_get(lin_call *c, ir_ref x) {
    const ir_attr_scatter *a = c->attr;
    ir_attr_gather get = {.axes = a->axes,
                          .batch = a->batch,
                          .oob = a->oob == IR_oob_drop ? IR_oob_fill : IR_oob_clamp};
    ir_ref in[IG_MAX_RANK + 1] = {x};
    for (int k = 2; k < c->nin; k++) in[k - 1] = c->x[k];
    return ir_emit(c->p, OP_gather, &get, c->nin - 1, in);
}

/* The tangent of a scatter from factors of x' and u' (absent: 1). */
static void lin_put_tangents(lin_call *c, ir_ref of_x, ir_ref of_u) {
    ir_type xt = lin_type(c, 0), ut = lin_type(c, 1);
    ir_ref dx = c->dx[0], du = c->dx[1];
    if (dx.i && of_x.i) dx = T(mul, dx, RES(of_x));
    if (du.i && of_u.i) du = T(mul, du, RES(of_u));
    if (!dx.i) dx = RES(emit_fill(c->p, &xt, 0));
    if (!du.i) du = RES(emit_fill(c->p, &ut, 0));
    c->dy[0] = lin_put(c, c->t, IR_putop_add, dx, du);
}

/* 1 where p holds, else 0, as elements of this type. */
static ir_ref lin_mask(lin_call *c, ir_ref p, ir_type type) {
    ir_ref one = emit_fill(c->p, &type, 1);
    return P(select, p, one, emit_fill(c->p, &type, 0));
}

/* The number of its position in every element of the updates. */
static ir_ref lin_positions(lin_call *c, const ir_type *ut, const ir_type *at) {
    ir_module *m = c->p->m;
    ir_attr_iota count = {.dtype = IG_i64, .dims = {.n = 1, .d = {ir_type_numel(m, at)}}};
    ir_attr_dims dims = {.dims = emit_dims(at)};
    ir_attr_bcast over = {.dims = emit_dims(ut), .axes = {.n = at->rank}};
    for (int i = 0; i < at->rank; i++) over.axes.a[i] = (uint8_t)i;
    ir_ref flat = ir_emit0(c->p, OP_iota, &count);
    return ir_emit1(c->p, OP_broadcast, &over, ir_emit1(c->p, OP_reshape, &dims, flat));
}

/* set: who came last has the element, x where nobody did. */
static void lin_scatter_set(lin_call *c) {
    ir_type xt = lin_type(c, 0), ut = lin_type(c, 1), at = lin_type(c, 2), count = xt;
    count.dtype = IG_i64;
    ir_ref place = lin_positions(c, &ut, &at), none = emit_fill(c->p, &count, -1);
    ir_ref last = lin_put(c, c->p, IR_putop_set, none, place);
    ir_ref free = emit_cmp(c->p, IR_cmpop_lt, last, emit_fill(c->p, &count, 0));
    ir_ref won = emit_cmp(c->p, IR_cmpop_eq, lin_get(c, last), place);
    ir_ref of_u = lin_mask(c, won, ut);
    lin_put_tangents(c, lin_mask(c, free, xt), of_u);
}

/* max, min: each of the k that are equal to the result has 1/k. */
static void lin_scatter_choice(lin_call *c) {
    ir_type xt = lin_type(c, 0), ut = lin_type(c, 1);
    ir_ref x = lin_mask(c, emit_cmp(c->p, IR_cmpop_eq, c->x[0], c->y[0]), xt);
    ir_ref u = lin_mask(c, emit_cmp(c->p, IR_cmpop_eq, c->x[1], lin_get(c, c->y[0])), ut);
    ir_ref count = lin_put(c, c->p, IR_putop_add, x, u), there = lin_get(c, count);
    there = P(max, there, K(there, 1)); /* 0 out of range */
    u = P(div, u, there);
    lin_put_tangents(c, P(div, x, count), u);
}

/* Positions [b.., n] of updates in the order of the places they name. */
typedef struct lin_order {
    int axis;                 /* that of n */
    ir_ref place, from, back; /* what they name; where they stood; where each of those is now */
} lin_order;

/* x[b.., n, rest..] with its positions as `from` says. */
static ir_ref lin_arrange(lin_call *c, int axis, ir_ref x, ir_ref from) {
    ir_attr_gather a = {.axes = {.n = 1, .a = {(uint8_t)axis}}, .batch = axis};
    a.oob = IR_oob_fill;
    return PA(gather, &a, x, from);
}

/* x with its first n axes from `axis` on as one. */
static ir_ref lin_join(lin_call *c, ir_ref x, int axis, int n) {
    ir_type t = ir_type_of(c->p, x);
    ir_attr_dims a = {.dims = {.n = (uint8_t)(t.rank - n + 1)}};
    a.dims.d[axis] = 1;
    for (int i = 0; i < t.rank; i++) {
        ir_dim *d = &a.dims.d[i < axis ? i : i < axis + n ? axis : i - n + 1];
        *d = i < axis || i >= axis + n ? t.dim[i] : ir_dim_mul(c->p->m, *d, t.dim[i]);
    }
    return PA(reshape, &a, x);
}

/* Sort the positions: those out of range, which read 0, are together in front. */
static lin_order lin_by_place(lin_call *c) {
    const ir_attr_scatter *a = c->attr;
    const int batch = (int)a->batch;
    ir_type xt = lin_type(c, 0), at = lin_type(c, 2), table = {.dtype = IG_i64};
    ir_attr_gather get = {.batch = batch};
    ir_ref in[IG_MAX_RANK + 1];
    get.oob = a->oob == IR_oob_drop ? IR_oob_fill : IR_oob_clamp;
    for (int i = 0; i < batch; i++) table.dim[table.rank++] = xt.dim[i];
    for (int i = 0; i < a->axes.n; i++) {
        get.axes.a[get.axes.n++] = table.rank;
        table.dim[table.rank++] = xt.dim[a->axes.a[i]];
    }
    ir_attr_iota count = {.dtype = IG_i64, .dims = {.n = 1, .d = {ir_type_numel(c->p->m, &table)}}};
    ir_ref numbers = ir_emit0(c->p, OP_iota, &count);
    numbers = P(add, numbers, K(numbers, 1));
    in[0] = ir_emit1(c->p, OP_reshape, &(ir_attr_dims){.dims = emit_dims(&table)}, numbers);
    memcpy(in + 1, c->x + 2, (size_t)(c->nin - 2) * sizeof *in);
    ir_ref named = ir_emit(c->p, OP_gather, &get, c->nin - 1, in);
    named = lin_join(c, named, batch, at.rank - batch);
    ir_type flat = ir_type_of(c->p, named);
    ir_attr_iota along = {.dtype = IG_i64, .dims = emit_dims(&flat), .axis = batch};
    ir_attr_sort sort = {.axis = batch, .keys = 1};
    ir_ref here = ir_emit0(c->p, OP_iota, &along), place = PA(sort, &sort, named, here);
    ir_ref from = ir_result(place, 1), again = PA(sort, &sort, from, here);
    return (lin_order){batch, place, from, ir_result(again, 1)};
}

/* For every update, in order of places, the product of those before it (back: behind it) at its
 * place: after the step of s, of 2 s of them. */
static ir_ref lin_segment_product(lin_call *c, const lin_order *o, ir_ref u, bool back) {
    ir_type type = ir_type_of(c->p, u), at = ir_type_of(c->p, o->place);
    ir_attr_bcast over = {.dims = emit_dims(&type), .axes = {.n = at.rank}};
    ir_ref one = emit_scalar(c->p, &type, 1), ones = emit_fill(c->p, &type, 1), r = {0};
    ir_ref none = emit_scalar(c->p, &at, -1);
    int64_t lo, hi, s = 1;
    for (int i = 0; i < at.rank; i++) over.axes.a[i] = (uint8_t)i;
    ir_dim_range(c->p->m, at.dim[o->axis], &lo, &hi);
    do {
        ir_ref other = emit_shift(c->p, o->place, o->axis, s, back, none);
        ir_ref same = PA(broadcast, &over, emit_cmp(c->p, IR_cmpop_eq, o->place, other));
        ir_ref more = emit_shift(c->p, r.i ? r : u, o->axis, s, back, one);
        more = P(select, same, more, ones);
        s = r.i ? 2 * s : s;
        r = r.i ? P(mul, r, more) : more;
    } while (s < hi - 1 && !c->p->error);
    return r;
}

/* mul: the product of the others at the place.  It is made of products only, so that updates of 0,
 * and x of 0, have the right derivatives of every order. */
static void lin_scatter_product(lin_call *c) {
    ir_type xt = lin_type(c, 0), ut = lin_type(c, 1), at = lin_type(c, 2);
    ir_ref of_x = lin_none, of_u = lin_none;
    if (c->dx[0].i) of_x = lin_put(c, c->p, IR_putop_mul, emit_fill(c->p, &xt, 1), c->x[1]);
    if (c->dx[1].i) of_u = lin_get(c, c->x[0]);
    const int batch = (int)((const ir_attr_scatter *)c->attr)->batch;
    if (c->dx[1].i && at.rank > batch) {
        lin_order o = lin_by_place(c);
        ir_ref u = lin_join(c, c->x[1], batch, at.rank - batch);
        u = lin_arrange(c, batch, u, o.from);
        ir_ref before = lin_segment_product(c, &o, u, false);
        ir_ref others = P(mul, before, lin_segment_product(c, &o, u, true));
        others = lin_arrange(c, batch, others, o.back);
        others = ir_emit1(c->p, OP_reshape, &(ir_attr_dims){.dims = emit_dims(&ut)}, others);
        of_u = P(mul, of_u, others);
    }
    lin_put_tangents(c, of_x, of_u);
}

static void lin_scatter(lin_call *c) {
    switch (((const ir_attr_scatter *)c->attr)->op) {
    case IR_putop_set: lin_scatter_set(c); break;
    case IR_putop_add: lin_put_tangents(c, lin_none, lin_none); break;
    case IR_putop_mul: lin_scatter_product(c); break;
    default: lin_scatter_choice(c);
    }
}

/* Tangents go where their elements go: positions are sorted by the same keys. */
static void lin_sort(lin_call *c) {
    const ir_attr_sort *a = c->attr;
    ir_type type = lin_type(c, 0);
    int axis = (int)a->axis, last = type.rank - 1;
    ir_attr_iota places = {.dtype = IG_i64, .dims = emit_dims(&type), .axis = axis};
    ir_attr_gather along = {.axes = {.n = 1, .a = {(uint8_t)last}}, .batch = last};
    ir_ref in[IG_MAX_RANK + 1];
    along.oob = IR_oob_fill;
    int keys = (int)a->keys;
    memcpy(in, c->x, (size_t)keys * sizeof *in);
    in[keys] = ir_emit0(c->p, OP_iota, &places);
    ir_ref sorted = ir_emit(c->p, OP_sort, a, keys + 1, in);
    ir_ref from = emit_move_axis(c->p, ir_result(sorted, (uint32_t)keys), axis, last);
    for (int k = 0; k < c->nin; k++) {
        if (!c->dx[k].i) continue;
        ir_ref t = TA(gather, &along, emit_move_axis(c->t, c->dx[k], axis, last), RES(from));
        c->dy[k] = emit_move_axis(c->t, t, last, axis);
    }
}

static void lin_reduce(lin_call *c) {
    const ir_attr_reduce *a = c->attr;
    ir_attr_reduce sum = {.op = IR_redop_sum, .axes = a->axes};
    if (a->op == IR_redop_sum) lin_linear(c);
    if (!lin_is_choice(a->op)) return;
    ir_ref w = lin_weights(c, (ir_redop)a->op, c->x[0], c->y[0], &a->axes);
    c->dy[0] = TA(reduce, &sum, lin_times(c, 0, w));
}

/* Where the place along an axis is at least s. */
static ir_ref lin_from(lin_call *c, const ir_type *type, int axis, int64_t s) {
    ir_attr_iota places = {.dtype = IG_i64, .dims = emit_dims(type), .axis = axis};
    ir_ref at = ir_emit0(c->p, OP_iota, &places);
    return emit_cmp(c->p, IR_cmpop_le, K(at, (double)s), at);
}

/* t_i + p_i t_(i-1), solved along an axis by doubling: after the step of s, t_i is right but for
 * what comes from 2s places before and earlier, and p_i is the product of the factors over as many
 * places.  The first s elements are not touched, in no bit. */
static ir_ref lin_recurrence(lin_call *c, ir_ref t, ir_ref p, int axis) {
    ir_type type = lin_type(c, 0);
    int64_t lo, hi;
    ir_dim_range(c->p->m, type.dim[axis], &lo, &hi);
    ir_ref zero = emit_scalar(c->p, &type, 0), one = emit_scalar(c->p, &type, 1);
    for (int64_t s = 1; s < hi && !c->p->error; s *= 2) {
        ir_ref from = lin_from(c, &type, axis, s);
        ir_ref more = T(mul, emit_shift(c->t, t, axis, s, false, RES(zero)), RES(p));
        t = T(select, RES(from), T(add, t, more), t);
        if (s >= hi - s) break;
        p = P(mul, p, emit_shift(c->p, p, axis, s, false, one));
    }
    return t;
}

/* x, turned round along an axis if need be. */
static ir_ref lin_turned(ir_builder *b, ir_ref x, const ir_attr_cumred *a) {
    ir_attr_axes axes = {.axes = {.n = 1, .a = {(uint8_t)a->axis}}};
    return a->reverse ? EMIT_AS(b, reverse, &axes, x) : x;
}

/* y_i = op(y_(i-1), x_i), so that y'_i = p_i y'_(i-1) + q_i x'_i. */
static void lin_cumred(lin_call *c) {
    const ir_attr_cumred *a = c->attr;
    const double first = a->op == IR_redop_prod  ? 1
                         : a->op == IR_redop_max ? -(double)INFINITY
                                                 : (double)INFINITY;
    const int axis = (int)a->axis;
    const bool larger = a->op == IR_redop_max, product = a->op == IR_redop_prod;
    if (a->op == IR_redop_sum) {
        lin_linear(c);
        return;
    }
    ir_type type = lin_type(c, 0);
    ir_ref zero = emit_scalar(c->p, &type, 0), start = emit_scalar(c->p, &type, first);
    ir_ref x = lin_turned(c->p, c->x[0], a), y = lin_turned(c->p, c->y[0], a);
    ir_ref before = a->exclusive ? y : emit_shift(c->p, y, axis, 1, false, start);
    ir_ref p = product ? x : lin_share(c, larger, before, x);
    ir_ref q = product ? before : lin_share(c, larger, x, before);
    ir_ref t = T(mul, lin_turned(c->t, c->dx[0], a), RES(q));
    t = lin_recurrence(c, t, p, axis);
    if (a->exclusive) t = emit_shift(c->t, t, axis, 1, false, RES(zero));
    c->dy[0] = lin_turned(c->t, t, a);
}

/* --- Contractions --------------------------------------------------------------------------- */

/* Sums are linear in every factor. */
static ir_ref lin_ein_sum(lin_call *c, const ir_attr_ein *a) {
    ir_ref in[IR_EIN_OPERANDS], sum = {0};
    for (int k = 0; k < c->nin; k++) {
        if (!c->dx[k].i) continue;
        for (int i = 0; i < c->nin; i++) in[i] = i == k ? c->dx[k] : RES(c->x[i]);
        sum = lin_sum(c, sum, ir_emit(c->t, OP_ein, a, c->nin, in));
    }
    return sum;
}

/* The axes of a result that has the reduced variables behind its own. */
static bool lin_ein_wide(lin_call *c, const ir_rel *r, ir_axes *vars_, ir_axes *lost_) {
    int n = r->out.n + r->norder;
    *vars_ = r->out, *lost_ = (ir_axes){0};
    if (n > IG_MAX_RANK) {
        ir_build_error(c->p, rt_status_op(rt_fail(c->p->m->alloc, IG_UNSUPPORTED,
                                                  "the derivative of this relation has %d axes; "
                                                  "the limit is %d",
                                                  n, IG_MAX_RANK),
                                          ir_op_tab[OP_ein].name));
        return false;
    }
    for (int i = 0; i < r->norder; i++) {
        lost_->a[lost_->n++] = vars_->n;
        vars_->a[vars_->n++] = r->order[i];
    }
    return true;
}

/* With constraints: the relation that reduces nothing, then a reduction.  What a constraint
 * excludes is neutral, and its tangent zero. */
static void lin_ein_constrained(lin_call *c, const ir_rel *r) {
    ir_attr_ein wide = {.rel = *r}, sum;
    ir_axes lost;
    if (!lin_ein_wide(c, r, &wide.rel.out, &lost)) return;
    wide.rel.norder = 0;
    ir_ein_number(&wide.rel);
    sum = wide;
    sum.rel.monoid = IR_redop_sum;
    ir_ref w = lin_weights(c, (ir_redop)r->monoid, ir_emit(c->p, OP_ein, &wide, c->nin, c->x),
                           c->y[0], &lost);
    c->dy[0] = TA(reduce, (&(ir_attr_reduce){.op = IR_redop_sum, .axes = lost}),
                  T(mul, lin_ein_sum(c, &sum), RES(w)));
}

/* Others are a product of all operands on all variables, then a reduction. */
static void lin_ein(lin_call *c) {
    const ir_rel *r = &((const ir_attr_ein *)c->attr)->rel;
    ir_dim dim[IR_EIN_VARS] = {0};
    ir_axes vars, lost;
    ir_ref wide[IR_EIN_OPERANDS], product = {0}, sum = {0};
    if (r->monoid == IR_redop_sum) {
        c->dy[0] = lin_ein_sum(c, c->attr);
        return;
    }
    if (!ir_ein_is_plain(r)) {
        lin_ein_constrained(c, r);
        return;
    }
    if (!lin_ein_wide(c, r, &vars, &lost)) return;
    for (int k = 0; k < c->nin; k++)
        for (int i = 0; i < r->in[k].n; i++) dim[r->in[k].a[i]] = lin_type(c, k).dim[i];
    for (int k = 0; k < c->nin; k++) {
        wide[k] = emit_spread(c->p, c->x[k], &r->in[k], &vars, dim);
        product = product.i ? P(mul, product, wide[k]) : wide[k];
    }
    for (int k = 0; k < c->nin; k++) {
        if (!c->dx[k].i) continue;
        ir_ref t = emit_spread(c->t, c->dx[k], &r->in[k], &vars, dim);
        for (int i = 0; i < c->nin; i++)
            if (i != k) t = T(mul, t, RES(wide[i]));
        sum = lin_sum(c, sum, t);
    }
    ir_ref w = lin_weights(c, (ir_redop)r->monoid, product, c->y[0], &lost);
    c->dy[0] =
        TA(reduce, (&(ir_attr_reduce){.op = IR_redop_sum, .axes = lost}), T(mul, sum, RES(w)));
}

/* --- C functions ---------------------------------------------------------------------------- */

static void lin_opaque(lin_call *c) {
    const ir_attr_custom *a = c->attr;
    ir_build_error(c->p, rt_status_op(rt_fail(c->p->m->alloc, IG_UNSUPPORTED,
                                              "the C function has no derivative: give it a rule "
                                              "(lin or vjp), or stop it (ig_stop_gradient)"),
                                      a->name));
}

/* --- Control flow: lin_flow.c --------------------------------------------------------------- */

static void lin_composite(lin_call *c) { (void)c; } /* composite.c: it is no step of its own */
static void lin_if(lin_call *c) { pass_lin_begin(c->walk, c->o); }
static void lin_scan(lin_call *c) { pass_lin_begin(c->walk, c->o); }
static void lin_while(lin_call *c) { pass_lin_begin(c->walk, c->o); }

/* --- The table ------------------------------------------------------------------------------ */

typedef void (*lin_rule)(lin_call *c);
#define lin__ NULL
static const lin_rule lin_tab[OP_END] = {
#define F(...)
#define R(fold, ref, lower, lin, tr, batch)                       lin_##lin
#define OP(name, ver, n, level, attr, type, domain, flags, rules) [OP_##name] = rules,
#include "ir/ops.def"
#undef OP
#undef R
#undef F
};

/* --- The walker ----------------------------------------------------------------------------- */

static uint32_t lin_widest(const ir_func *f) {
    uint32_t n = 1;
    for (uint32_t i = 0; i < f->ops.n; i++)
        if (f->ops.data[i].nin > n) n = f->ops.data[i].nin;
    return n;
}

static void lin_weight(lin_walk *w, const ir_op *o) {
    const ir_module *m = w->c.f->module;
    const ir_weight *of = ir_find_weight(m, ((const ir_attr_sym *)ir_attr_get(m, o->attr))->name);
    if (w->weight) w->tangent[o->out0] = w->weight[of - m->weights.data];
}

static void lin_op(lin_walk *w, const ir_op *o) {
    lin_call c = w->c;
    ir_attr_any attr;
    ir_ref y[IR_MAX_RESULTS], dy[IR_MAX_RESULTS] = {{0}}, *x = w->room, *dx = x + o->nin;
    bool active = false;
    for (uint32_t k = 0; k < o->nin; k++) {
        ir_ref in = ir_op_in(c.f, o, k);
        x[k] = w->primal[in.i];
        dx[k] = w->tangent[in.i];
        active |= dx[k].i != 0;
    }
    if (!active) return;
    if (!lin_tab[o->code]) {
        ir_build_error(c.p, rt_fail(c.p->m->alloc, IG_INTERNAL, "%s has no derivative",
                                    ir_op_tab[o->code].name));
        return;
    }
    for (uint32_t k = 0; k < o->nout; k++) y[k] = w->primal[o->out0 + k];
    ir_import_attr(c.p->m, c.f->module, o->attr, &attr);
    c.o = o;
    c.attr = &attr;
    c.nin = o->nin;
    c.nout = o->nout;
    c.x = x;
    c.y = y;
    c.dx = dx;
    c.dy = dy;
    lin_tab[o->code](&c);
    for (uint32_t k = 0; k < o->nout; k++) {
        if (PASS_PLANTED(lin, o->code) && dy[k].i) dy[k] = EMIT(c.t, neg, dy[k]);
        w->tangent[o->out0 + k] = dy[k];
    }
}

/* Op number i of f: into P, and its tangents into T; the one to go on with. */
static uint32_t lin_step(lin_walk *w, uint32_t i) {
    const ir_op *o = &w->c.f->ops.data[i];
    w->c.p->loc = w->c.t->loc = emit_loc(w->c.p->m, w->c.f, o);
    w->c.o = o;
    if (o->code == OP_composite) return pass_lin_composite(w, i);
    if (o->code == OP_yield) {
        if (pass_lin_rule_end(w, o)) return i + 1;
        pass_lin_yield(w, i);
    } else if (o->nregion) {
        lin_tab[o->code](&w->c);
    } else {
        bool given = o->nout && w->primal[o->out0].i; /* the caller has its value */
        if (!given) ir_copy_op(w->c.p, w->c.f, i, w->primal);
        if (o->code != OP_weight && !pass_lin_is_quiet(w)) lin_op(w, o);
    }
    return i + 1;
}

bool pass_lin_is_zero(unsigned code) { return !lin_tab[code] || lin_tab[code] == lin_zero; }

/* Weights have their tangents before the walk, which asks first what has one. */
static void lin_weights_first(lin_walk *w) {
    for (uint32_t i = 0; i < w->c.f->ops.n; i++)
        if (w->c.f->ops.data[i].code == OP_weight) lin_weight(w, &w->c.f->ops.data[i]);
}

void pass_linearize(ir_builder *p, ir_builder *t, const ir_func *f, ir_ref *primal, ir_ref *tangent,
                    const ir_ref *weight, lin_tape *tape) {
    const ig_allocator *a = p->m->alloc;
    lin_walk w = {.c = {.p = p, .t = t, .f = f},
                  .primal = primal,
                  .tangent = tangent,
                  .weight = weight,
                  .tape = tape};
    size_t bytes = (size_t)lin_widest(f) * 2 * sizeof *w.room;
    w.c.walk = &w;
    w.room = rt_alloc(a, bytes);
    w.active = rt_alloc_zero(a, f->values.n);
    if (w.room && w.active) {
        lin_weights_first(&w);
        pass_lin_activity(&w);
    } else {
        ir_build_error(p, rt_fail_memory());
    }
    if (tape) tape->source = f;
    for (uint32_t i = 0; i + 1 < f->ops.n && !p->error && !t->error;) i = lin_step(&w, i);
    rt_free(a, w.room, bytes);
    rt_free(a, w.active, f->values.n);
    pass_lin_free(&w);
}
