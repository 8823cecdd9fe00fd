/* vmap.c - the `batch` column: an op on many lanes at once, and the walker that batches functions.
 *
 * A batched value has the axis of lanes in front.  What no lane changes stays as it is: an op
 * without a batched operand is copied.  A rule emits one or several ops that give in every lane the
 * bits that the op gives there alone.
 *
 * Orders of reductions depend on extents only (numerics rules 5 and 6), so that a reduction over
 * other axes and a contraction with one more variable in result and operands keep the bits.
 * Windows at places that differ by lane are rolled there: for every bit of the place all lanes
 * that have it move by that power of two. */
#include "passes/batch.h"
#include "passes/derive.h"
#include "runtime/base/log.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define B(op, ...)     EMIT(c->b, op, __VA_ARGS__)
#define BA(op, a, ...) EMIT_AS(c->b, op, a, __VA_ARGS__)

/* --- Shared by rules ------------------------------------------------------------------------ */

static ir_type batch_type(const batch_call *c, ir_ref x) { return ir_type_of(c->b, x); }

/* A value that all lanes share, once a lane. */
static ir_ref batch_repeat(const batch_call *c, ir_ref x) { return emit_lanes(c->b, x, c->n); }

/* Operand k in every lane. */
static ir_ref batch_in(const batch_call *c, int k) {
    return c->lanes[k] ? c->x[k] : batch_repeat(c, c->x[k]);
}

/* A value of one element a lane, repeated over the other axes of a batched type. */
static ir_ref batch_over(const batch_call *c, ir_ref x, const ir_type *full) {
    return emit_over_lanes(c->b, x, full);
}

/* One more axis or variable is too many: n of them, where there may be `limit`. */
static void batch_no_room(batch_call *c, const char *what, int n, int limit) {
    ir_build_error(c->b, rt_status_op(rt_fail(c->b->m->alloc, IG_SHAPE, what, n, limit),
                                      ir_op_tab[c->o->code].name));
}

void pass_batch_check_rank(batch_call *c, const ir_type *t) {
    if (t->rank == IG_MAX_RANK)
        batch_no_room(c, "a batched value of rank %d; the limit is %d", IG_MAX_RANK + 1,
                      IG_MAX_RANK);
}

/* The lists of an attribute with the axis of lanes. */
static ir_axes batch_axes(const ir_axes *a) {
    ir_axes y = {.n = a->n};
    for (int i = 0; i < a->n; i++) y.a[i] = (uint8_t)(a->a[i] + 1);
    return y;
}

static ir_axes batch_axes_first(const ir_axes *a) {
    ir_axes y = batch_axes(a);
    memmove(y.a + 1, y.a, sizeof y.a - 1);
    y.a[0] = 0;
    y.n++;
    return y;
}

static ir_dims batch_dims(const ir_dims *a, ir_dim first) {
    ir_dims y = {.n = (uint8_t)(a->n + 1), .d = {first}};
    memcpy(y.d + 1, a->d, sizeof y.d - sizeof *y.d);
    return y;
}

static ir_ints batch_ints(const ir_ints *a, int64_t first) {
    ir_ints y = {.n = (uint8_t)(a->n + 1), .v = {first}};
    memcpy(y.v + 1, a->v, sizeof y.v - sizeof *y.v);
    return y;
}

/* The op with another attribute, on operands in every lane. */
static void batch_as(batch_call *c, const void *attr) {
    size_t bytes = (size_t)c->nin * sizeof(ir_ref);
    ir_ref *in = rt_alloc(c->b->m->alloc, bytes);
    if (!in) {
        ir_build_error(c->b, rt_fail_memory());
        return;
    }
    for (int k = 0; k < c->nin; k++) in[k] = batch_in(c, k);
    ir_ref y = ir_emit(c->b, (ir_opcode)c->o->code, attr, c->nin, in);
    for (uint32_t k = 0; k < c->o->nout; k++) c->y[k] = ir_result(y, k);
    rt_free(c->b->m->alloc, in, bytes);
}

/* --- Elementwise and movement --------------------------------------------------------------- */

static void batch_ew(batch_call *c) { batch_as(c, c->attr); }

static void batch_reshape(batch_call *c) {
    ir_attr_dims a = {.dims = batch_dims(&((const ir_attr_dims *)c->attr)->dims, c->n)};
    batch_as(c, &a);
}

static void batch_transpose(batch_call *c) {
    ir_attr_perm a = {.perm = batch_axes_first(&((const ir_attr_perm *)c->attr)->perm)};
    batch_as(c, &a);
}

static void batch_broadcast(batch_call *c) {
    const ir_attr_bcast *o = c->attr;
    ir_attr_bcast a = {.dims = batch_dims(&o->dims, c->n), .axes = batch_axes_first(&o->axes)};
    batch_as(c, &a);
}

static void batch_slice(batch_call *c) {
    const ir_attr_slice *o = c->attr;
    ir_attr_slice a = {.lo = batch_dims(&o->lo, 0),
                       .hi = batch_dims(&o->hi, c->n),
                       .step = batch_ints(&o->step, 1)};
    batch_as(c, &a);
}

static void batch_reverse(batch_call *c) {
    ir_attr_axes a = {.axes = batch_axes(&((const ir_attr_axes *)c->attr)->axes)};
    batch_as(c, &a);
}

static void batch_concat(batch_call *c) {
    ir_attr_axis a = {.axis = ((const ir_attr_axis *)c->attr)->axis + 1};
    batch_as(c, &a);
}

/* A value that differs by lane is put where a mask says. */
static void batch_pad(batch_call *c) {
    const ir_attr_pad *o = c->attr;
    ir_attr_pad a = {.lo = batch_dims(&o->lo, 0),
                     .hi = batch_dims(&o->hi, 0),
                     .interior = batch_ints(&o->interior, 0)};
    ir_ref x = batch_in(c, 0);
    ir_type in = batch_type(c, x);
    ir_ref fill = c->lanes[1] ? emit_scalar(c->b, &in, 0) : c->x[1], y = BA(pad, &a, x, fill);
    ir_type out = batch_type(c, y);
    if (c->lanes[1]) {
        ir_ref mask = emit_pad_mask(c->b, &a, &in);
        y = B(select, mask, batch_over(c, c->x[1], &out), y);
    }
    c->y[0] = y;
}

/* --- Windows -------------------------------------------------------------------------------- */

/* A dim as an i64 scalar. */
static ir_ref batch_dim_value(batch_call *c, ir_dim d) {
    if (ir_dim_is_const(d)) return ir_const_i(c->b, IG_i64, d);
    ir_attr_iota count = {
        .dtype = IG_i64, .dims = {.n = 1, .d = {ir_dim_add(c->b->m, d, 1)}}, .axis = 0};
    ir_attr_reduce last = {.op = IR_redop_max, .axes = {.n = 1}};
    return BA(reduce, &last, ir_emit0(c->b, OP_iota, &count));
}

/* Where the window begins in every lane: operand k, clamped to 0 .. room. */
static ir_ref batch_start(batch_call *c, int k, ir_dim room) {
    ir_ref least = batch_repeat(c, ir_const_i(c->b, IG_i64, 0));
    ir_ref most = batch_repeat(c, batch_dim_value(c, room));
    return B(min, B(max, c->x[k], least), most);
}

/* x moved along an axis by so many places as `by` (at most `room`) says for each lane. */
static ir_ref batch_roll(batch_call *c, ir_ref x, int axis, ir_ref by, ir_dim room, bool back) {
    ir_type t = batch_type(c, x), by_type = batch_type(c, by);
    ir_ref fill = emit_scalar(c->b, &t, 0), zero = emit_fill(c->b, &by_type, 0);
    int64_t lo, hi;
    ir_dim_range(c->b->m, room, &lo, &hi);
    for (int64_t bit = 1; bit > 0 && bit <= hi && !c->b->error; bit *= 2) {
        ir_ref has = BA(bit, &(ir_attr_bitop){.op = IR_bitop_band}, by,
                        batch_repeat(c, ir_const_i(c->b, IG_i64, bit)));
        ir_ref moves = batch_over(c, emit_cmp(c->b, IR_cmpop_ne, has, zero), &t);
        x = B(select, moves, emit_shift(c->b, x, axis, bit, back, fill), x);
        if (bit > INT64_MAX / 2) break;
    }
    return x;
}

/* The lanes are one more batch axis. */
static void batch_gather(batch_call *c) {
    ir_attr_gather a = *(const ir_attr_gather *)c->attr;
    a.axes = batch_axes(&a.axes);
    a.batch++;
    batch_as(c, &a);
}

static void batch_scatter(batch_call *c) {
    ir_attr_scatter a = *(const ir_attr_scatter *)c->attr;
    a.axes = batch_axes(&a.axes);
    a.batch++;
    batch_as(c, &a);
}

static void batch_sort(batch_call *c) {
    ir_attr_sort a = *(const ir_attr_sort *)c->attr;
    a.axis++;
    batch_as(c, &a);
    for (int k = 1; k < c->nin; k++) c->y[k] = ir_result(c->y[0], (uint32_t)k);
}

/* dslice and dupdate in all lanes with the starts that they share; axes whose starts differ (or
 * the lanes') are taken whole, from 0. */
static ir_ref batch_window(batch_call *c, ir_opcode op, const void *attr, int n, const ir_ref *x,
                           int first) {
    ir_ref in[IG_MAX_RANK + 3], zero = ir_const_i(c->b, IG_i64, 0);
    memcpy(in, x, (size_t)n * sizeof *in);
    in[n++] = zero;
    for (int k = first; k < c->nin; k++) in[n++] = c->lanes[k] ? zero : c->x[k];
    return ir_emit(c->b, op, attr, n, in);
}

static void batch_dslice(batch_call *c) {
    const ir_attr_dims *o = c->attr;
    ir_attr_dims a = {.dims = batch_dims(&o->dims, c->n)};
    ir_ref x = batch_in(c, 0);
    ir_type t = batch_type(c, x);
    for (int i = 0; i < o->dims.n; i++) {
        if (!c->lanes[1 + i]) continue;
        ir_dim room = ir_dim_sub(c->b->m, t.dim[1 + i], o->dims.d[i]);
        x = batch_roll(c, x, 1 + i, batch_start(c, 1 + i, room), room, true);
    }
    c->y[0] = batch_window(c, OP_dslice, &a, 1, &x, 1);
}

/* Whether a place along an axis of a type lies in the window of `size` places from start on. */
static ir_ref batch_inside(batch_call *c, const ir_type *t, int axis, ir_ref start, ir_dim size) {
    ir_attr_iota places = {.dtype = IG_i64, .dims = emit_dims(t), .axis = axis};
    ir_ref at = ir_emit0(c->b, OP_iota, &places);
    ir_ref end = B(add, start, batch_repeat(c, batch_dim_value(c, size)));
    ir_ref from = emit_cmp(c->b, IR_cmpop_le, batch_over(c, start, t), at);
    ir_ref to = emit_cmp(c->b, IR_cmpop_lt, at, batch_over(c, end, t));
    return BA(bit, &(ir_attr_bitop){.op = IR_bitop_band}, from, to);
}

/* The window grows to whole axes and is rolled there; a mask keeps what was around it.  Then it is
 * an update by a window whose places all lanes share. */
static void batch_dupdate(batch_call *c) {
    const ir_attr_dupd *o = c->attr;
    ir_ref x = batch_in(c, 0), u = batch_in(c, 1), mask = {0};
    ir_type t = batch_type(c, x), window = batch_type(c, u), whole = window;
    ir_ref zero = emit_scalar(c->b, &t, 0), start[IG_MAX_RANK] = {{0}};
    ir_attr_dupd set = *o;
    for (int i = 1; i < t.rank; i++) {
        if (!c->lanes[1 + i]) continue;
        ir_dim room = ir_dim_sub(c->b->m, t.dim[i], window.dim[i]);
        ir_attr_pad grow = {.lo = {.n = t.rank}, .hi = {.n = t.rank}, .interior = {.n = t.rank}};
        start[i] = batch_start(c, 1 + i, room);
        grow.hi.d[i] = room;
        whole.dim[i] = t.dim[i];
        u = batch_roll(c, BA(pad, &grow, u, zero), i, start[i], room, false);
    }
    for (int i = 1; i < t.rank; i++) {
        if (!start[i].i) continue;
        ir_ref in = batch_inside(c, &whole, i, start[i], window.dim[i]);
        mask = mask.i ? BA(bit, &(ir_attr_bitop){.op = IR_bitop_band}, mask, in) : in;
    }
    if (mask.i) {
        ir_attr_dims size = {.dims = emit_dims(&whole)};
        ir_ref old = batch_window(c, OP_dslice, &size, 1, &x, 2);
        u = B(select, mask, o->op == IR_setop_add ? B(add, old, u) : u, old);
        set.op = IR_setop_set;
    }
    c->y[0] = batch_window(c, OP_dupdate, &set, 2, (ir_ref[]){x, u}, 2);
}

/* --- Reductions and contractions ------------------------------------------------------------ */

static void batch_reduce(batch_call *c) {
    const ir_attr_reduce *o = c->attr;
    ir_attr_reduce a = {.op = o->op, .axes = batch_axes(&o->axes)};
    batch_as(c, &a);
}

static void batch_cumred(batch_call *c) {
    ir_attr_cumred a = *(const ir_attr_cumred *)c->attr;
    a.axis++;
    batch_as(c, &a);
}

static void batch_prepend(ir_axes *a, uint8_t var) {
    memmove(a->a + 1, a->a, sizeof a->a - 1);
    a->a[0] = var;
    a->n++;
}

/* One more variable, the first of the result and of the batched operands. */
static void batch_ein(batch_call *c) {
    ir_attr_ein a = *(const ir_attr_ein *)c->attr;
    ir_rel *r = &a.rel;
    if (r->nvar == IR_EIN_VARS) {
        batch_no_room(c, "a relation with %d variables; the limit is %d", IR_EIN_VARS + 1,
                      IR_EIN_VARS);
        return;
    }
    uint8_t lane = r->nvar++;
    batch_prepend(&r->out, lane);
    for (int k = 0; k < r->nin; k++)
        if (c->lanes[k]) batch_prepend(&r->in[k], lane);
    ir_ein_number(r);
    c->y[0] = ir_emit(c->b, OP_ein, &a, c->nin, c->x);
}

/* --- Random bits ---------------------------------------------------------------------------- */

/* The words of Philox for element numbers i: block i >> `per`, word i mod 2^per of it. */
static ir_ref batch_word(batch_call *c, ir_ref i, const ir_ref word[4], int first, int step,
                         int count) {
    ir_ref y = word[first];
    for (int k = 1; k < count; k++) {
        ir_ref is = emit_cmp(c->b, IR_cmpop_eq, i, ir_const_like(c->b, i, k));
        y = B(select, is, word[first + k * step], y);
    }
    return y;
}

static ir_ref batch_convert(batch_call *c, ir_ref x, ig_dtype to) {
    return BA(convert, &(ir_attr_dtype){.dtype = (uint8_t)to}, x);
}

static ir_ref batch_shift(batch_call *c, ir_shop op, ir_ref x, int by) {
    return BA(shift, &(ir_attr_shop){.op = (uint8_t)op}, x, ir_const_like(c->b, x, by));
}

/* One of the two words of a key, repeated for every element. */
static ir_ref batch_key(batch_call *c, int word, const ir_type *full) {
    ir_dims lo = {.n = 2, .d = {0, word}}, hi = {.n = 2, .d = {c->n, word + 1}};
    ir_attr_dims flat = {.dims = {.n = 1, .d = {c->n}}};
    return batch_over(c, BA(reshape, &flat, emit_slice(c->b, c->x[0], &lo, &hi, NULL)), full);
}

/* A key a lane: the definition of the op, element by element. */
static void batch_rng(batch_call *c) {
    const ir_attr_rng *o = c->attr;
    bool wide = o->width == IR_width_u64;
    ir_type one = ir_tensor_type(wide ? IG_u64 : IG_u32, o->dims.n, o->dims.d);
    ir_dim count = ir_type_numel(c->b->m, &one);
    ir_type all = {.dtype = IG_u32, .rank = 2, .dim = {c->n, count}};
    ir_attr_iota numbers = {.dtype = IG_u64, .dims = {.n = 2, .d = {c->n, count}}, .axis = 1};
    ir_attr_dims shape = {.dims = batch_dims(&o->dims, c->n)};
    ir_ref i = ir_emit0(c->b, OP_iota, &numbers), word[4];
    ir_ref block = batch_shift(c, IR_shop_right, i, wide ? 1 : 2);
    ir_ref key0 = batch_key(c, 0, &all), key1 = batch_key(c, 1, &all);
    ir_ref low = batch_convert(c, block, IG_u32);
    ir_ref top = batch_convert(c, batch_shift(c, IR_shop_right, block, 32), IG_u32);
    ir_philox_emit(c->b, (const ir_ref[]){key0, key1, low, top}, word);
    i = BA(bit, &(ir_attr_bitop){.op = IR_bitop_band}, i, ir_const_like(c->b, i, wide ? 1 : 3));
    ir_ref y = wide ? batch_word(c, i, word, 0, 2, 2) : batch_word(c, i, word, 0, 1, 4);
    if (wide) {
        ir_ref high = batch_convert(c, batch_word(c, i, word, 1, 2, 2), IG_u64);
        y = batch_convert(c, y, IG_u64);
        y = BA(bit, &(ir_attr_bitop){.op = IR_bitop_bor}, y,
               batch_shift(c, IR_shop_left, high, 32));
    }
    c->y[0] = BA(reshape, &shape, y);
}

/* --- C functions and assertions ------------------------------------------------------------- */

/* The op for every lane, one after the other. */
static void batch_turn(batch_call *c) {
    ir_attr_scan scan = {.n = c->n};
    ir_type type[1 + IR_CUSTOM_OPERANDS] = {ir_scalar_type(IG_i64)};
    ir_ref xs[IR_CUSTOM_OPERANDS], param[1 + IR_CUSTOM_OPERANDS], in[IR_CUSTOM_OPERANDS];
    ir_ref out[IR_CUSTOM_RESULTS];
    int nxs = 0;
    for (int k = 0; k < c->nin; k++) {
        if (!c->lanes[k]) continue;
        ir_type t = ir_type_of(c->b, c->x[k]);
        type[1 + nxs] = ir_tensor_type((ig_dtype)t.dtype, t.rank - 1, t.dim + 1);
        xs[nxs++] = c->x[k];
    }
    uint32_t op = ir_op_begin(c->b, OP_scan, &scan, nxs, xs, 1);
    ir_region_begin(c->b, op, 0, 1 + nxs, type, param);
    for (int k = 0, n = 0; k < c->nin; k++) in[k] = c->lanes[k] ? param[1 + n++] : c->x[k];
    ir_ref y = ir_emit(c->b, (ir_opcode)c->o->code, c->attr, c->nin, in);
    for (uint32_t k = 0; k < c->o->nout; k++) out[k] = ir_result(y, k);
    ir_region_end(c->b, c->o->nout, out);
    y = ir_op_end(c->b, op);
    for (uint32_t k = 0; k < c->o->nout; k++) c->y[k] = ir_result(y, k);
}

static void batch_custom(batch_call *c) {
    const ir_attr_custom *a = c->attr;
    ir_loc_rec at = ir_loc_get(c->f->module, c->o->loc);
    if (a->lanes) {
        batch_as(c, a);
        return;
    }
    rt_log("vmap", "%s:%u: %s goes through the lanes one by one: it has no IG_CUSTOM_LANES",
           at.file ? at.file : "?", at.line, a->name);
    batch_turn(c);
}

/* Every lane must hold. */
static void batch_all(batch_call *c) { ir_emit(c->b, OP_assert, c->attr, c->nin, c->x); }

/* --- Control flow: batch_flow.c ------------------------------------------------------------- */

static void batch_composite(batch_call *c) { pass_batch_begin(c->walk, c->o); }
static void batch_if(batch_call *c) { pass_batch_begin(c->walk, c->o); }
static void batch_scan(batch_call *c) { pass_batch_begin(c->walk, c->o); }
static void batch_while(batch_call *c) { pass_batch_begin(c->walk, c->o); }

/* --- The table ------------------------------------------------------------------------------ */

typedef void (*batch_rule)(batch_call *c);
#define batch__ NULL
static const batch_rule batch_tab[OP_END] = {
#define F(...)
#define R(fold, ref, lower, lin, tr, batch)                       batch_##batch
#define OP(name, ver, n, level, attr, type, domain, flags, rules) [OP_##name] = rules,
#include "ir/ops.def"
#undef OP
#undef R
#undef F
};

/* --- The walker ----------------------------------------------------------------------------- */

/* Give the results of o, which has a batched operand. */
static void batch_op(batch_call *c, const ir_op *o, ir_ref *map) {
    ir_attr_any attr;
    ir_ref y[IR_MAX_RESULTS] = {{0}};
    ir_import_attr(c->b->m, c->f->module, o->attr, &attr);
    c->o = o;
    c->attr = &attr;
    c->nin = o->nin;
    c->y = y;
    c->b->loc = emit_loc(c->b->m, c->f, o);
    for (uint32_t k = 0; k < o->nin; k++)
        pass_batch_check_rank(c, ir_val_type(c->f, ir_op_in(c->f, o, k)));
    for (uint32_t k = 0; k < o->nout; k++)
        pass_batch_check_rank(c, ir_val_type(c->f, ir_op_out(o, k)));
    if (c->b->error) return;
    if (batch_tab[o->code])
        batch_tab[o->code](c);
    else
        ir_build_error(c->b, rt_fail(c->b->m->alloc, IG_INTERNAL, "%s has no batch rule",
                                     ir_op_tab[o->code].name));
    for (uint32_t k = 0; k < o->nout; k++) {
        if (PASS_PLANTED(batch, o->code)) {
            ir_attr_axes first = {.axes = {.n = 1}};
            y[k] = EMIT_AS(c->b, reverse, &first, y[k]);
        }
        map[o->out0 + k] = y[k];
    }
}

typedef RT_VEC(ir_ref) batch_refs;
typedef RT_VEC(bool) batch_flags;

/* Walk op number i of f; the one to go on with. */
static uint32_t batch_step(batch_walk *w, uint32_t i, batch_refs *x, batch_flags *on) {
    const ir_op *o = &w->c.f->ops.data[i];
    bool any = false;
    w->c.b->loc = emit_loc(w->c.b->m, w->c.f, o);
    w->c.o = o;
    if (o->code == OP_yield) return pass_batch_yield(w, i);
    for (uint32_t k = 0; k < o->nin && !o->nregion; k++) {
        ir_ref in = ir_op_in(w->c.f, o, k);
        x->data[k] = w->map[in.i];
        on->data[k] = w->lanes[in.i];
        any |= w->lanes[in.i];
    }
    w->c.x = x->data;
    w->c.lanes = on->data;
    if (o->nregion)
        batch_tab[o->code](&w->c);
    else if (any)
        batch_op(&w->c, o, w->map);
    else
        ir_copy_op(w->c.b, w->c.f, i, w->map);
    return i + 1;
}

void pass_batch(ir_builder *b, const ir_func *f, ir_dim n, ir_ref *map, bool *lanes) {
    const ig_allocator *a = b->m->alloc;
    batch_walk w = {.c = {.b = b, .f = f, .n = n}, .map = map, .lanes = lanes};
    batch_refs x = {0};
    batch_flags on = {0};
    uint32_t widest = 1;
    w.c.walk = &w;
    for (uint32_t i = 0; i < f->ops.n; i++)
        if (f->ops.data[i].nin > widest) widest = f->ops.data[i].nin;
    if (!rt_vec_reserve(a, &x, widest) || !rt_vec_reserve(a, &on, widest))
        ir_build_error(b, rt_fail_memory());
    else
        pass_batch_spread(&w);
    for (uint32_t i = 0; i + 1 < f->ops.n && !b->error;) i = batch_step(&w, i, &x, &on);
    rt_vec_free(a, &x);
    rt_vec_free(a, &on);
    pass_batch_free(&w);
}

/* --- Modules -------------------------------------------------------------------------------- */

typedef struct vmap_job {
    const ir_func *f;
    ir_builder b;
    ir_dim n;
    ir_ref *map, *results;
    bool *lanes;
} vmap_job;

static int vmap_axis(const int *axes, uint32_t k) { return axes ? axes[k] : 0; }

static ig_status vmap_check(const ir_module *m, const char *what, uint32_t n, const int *axes,
                            int least, const ir_func *f) {
    for (uint32_t k = 0; k < n; k++) {
        const ir_type *t = *what == 'a' ? ir_val_type(f, ir_param_ref(f, k)) : ir_result_type(f, k);
        int axis = vmap_axis(axes, k);
        if (axis < least || axis > t->rank)
            return rt_fail(m->alloc, IG_RANGE, "%s %u has rank %d: the lanes go to axis %d to %d%s",
                           what, k, t->rank, 0, t->rank,
                           least < 0 ? ", or -1 for one value that all lanes share" : "");
        if (axis >= 0 && t->rank == IG_MAX_RANK)
            return rt_fail(m->alloc, IG_SHAPE, "%s %u has rank %d already", what, k, IG_MAX_RANK);
    }
    return NULL;
}

static void vmap_emit(vmap_job *j, const int *in_axes, const int *out_axes) {
    const ir_func *f = j->f;
    for (uint32_t k = 0; k < ir_nparam(f); k++) {
        ir_ref p = ir_param_ref(f, k);
        ir_type t = ir_import_type(j->b.m, f->module, *ir_val_type(f, p));
        int axis = vmap_axis(in_axes, k);
        if (axis >= 0) t = emit_longer(t, axis, j->n);
        j->map[p.i] = ir_param(&j->b, t, f->param_names.data[k]);
        j->lanes[p.i] = axis >= 0;
    }
    for (uint32_t k = 0; k < ir_nparam(f); k++) {
        ir_ref *p = &j->map[ir_param_ref(f, k).i];
        if (vmap_axis(in_axes, k) > 0) *p = emit_move_axis(&j->b, *p, vmap_axis(in_axes, k), 0);
    }
    pass_batch(&j->b, f, j->n, j->map, j->lanes);
    for (uint32_t k = 0; k < f->results.n; k++) {
        ir_ref y = ir_op_in(f, ir_return_op(f), k), r = j->map[y.i];
        if (!j->lanes[y.i]) {
            ir_type t = emit_longer(ir_type_of(&j->b, r), 0, j->n);
            r = emit_repeat(&j->b, r, &t, &(ir_axes){.n = 1});
        }
        j->results[k] = emit_move_axis(&j->b, r, 0, vmap_axis(out_axes, k));
    }
}

static ig_status vmap_run(vmap_job *j, const int *in_axes, const int *out_axes) {
    const ig_allocator *a = j->b.m->alloc;
    const ir_func *f = j->f;
    size_t n = f->values.n, nout = f->results.n + 1u;
    j->map = rt_alloc_zero(a, n * sizeof *j->map);
    j->lanes = rt_alloc_zero(a, n * sizeof *j->lanes);
    j->results = rt_alloc_zero(a, nout * sizeof *j->results);
    if (j->map && j->lanes && j->results)
        vmap_emit(j, in_axes, out_axes);
    else
        ir_build_error(&j->b, rt_fail_memory());
    ig_status s = ir_build_end(&j->b, (int)f->results.n, j->results, NULL);
    rt_free(a, j->map, n * sizeof *j->map);
    rt_free(a, j->lanes, n * sizeof *j->lanes);
    rt_free(a, j->results, nout * sizeof *j->results);
    return s;
}

ig_status pass_vmap_by(const ir_module *flat, ir_dim n, const int *in_axes, const int *out_axes,
                       ir_module **out_) {
    pass_made made;
    vmap_job j = {.f = ir_entry(flat)};
    *out_ = NULL;
    RT_TRY(pass_no_state(flat, "vmap"));
    RT_TRY(vmap_check(flat, "argument", ir_nparam(j.f), in_axes, -1, j.f));
    RT_TRY(vmap_check(flat, "result", j.f->results.n, out_axes, 0, j.f));
    RT_TRY(pass_begin_more(flat, "vmap", &made, &j.b));
    j.n = ir_dim_import(made.m, flat, n);
    return pass_finish(&made, vmap_run(&j, in_axes, out_axes), out_);
}

/* `8`, `N` or `N in 1..64`. */
static ig_status vmap_read(ir_module *m, const char *text, ir_dim *out_) {
    char name[64];
    long long lo = 1, hi = 16777216;
    int at = 0, more = 0;
    if (!text) text = "";
    while (isspace((unsigned char)*text)) text++;
    if (isdigit((unsigned char)*text)) {
        char *end;
        *out_ = (ir_dim)strtoll(text, &end, 10);
        if (!*end && *out_ < INT64_MAX) return NULL;
    } else if (sscanf(text, "%63[A-Za-z0-9_]%n in %lld..%lld%n", name, &at, &lo, &hi, &more) >= 1 &&
               !text[more ? more : at] && lo >= 0 && lo <= hi) {
        for (uint32_t i = 0; i < m->symbols.n; i++)
            if (!strcmp(m->symbols.data[i].name, name))
                return rt_fail(m->alloc, IG_INVALID, "the module has a dim %s already", name);
        *out_ = ir_add_symbol(m, name, lo, hi);
        return *out_ == IR_DIM_BAD ? rt_fail_memory() : NULL;
    }
    return rt_fail(m->alloc, IG_FORMAT,
                   "the number of lanes is written `8`, `N` or `N in 1..64`, not `%s`", text);
}

ig_status pass_vmap(const ir_module *in, const char *lanes, const int *in_axes, const int *out_axes,
                    ir_module **out_) {
    ir_module *flat;
    ir_dim n = 0;
    *out_ = NULL;
    RT_TRY(pass_flatten(in, &flat));
    ig_status s = vmap_read(flat, lanes, &n);
    if (!s) s = pass_vmap_by(flat, n, in_axes, out_axes, out_);
    ir_module_free(flat);
    return s;
}
