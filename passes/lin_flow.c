/* lin_flow.c - derivatives of `if`, `scan` and `while`.
 *
 * Which values have a tangent is found beforehand, for all regions at once: sweeps over the ops
 * until nothing is new.  Then every region is walked once, in the order of the ops, without
 * recursion.  A carried value that has a tangent in some step has one in all, zeros at first.
 *
 * Forward mode (P == T): one loop carries values and tangents side by side.
 *
 * Reverse mode: P keeps its loop, and T has a loop of the same steps over the tangents alone; that
 * of a `while` is a `scan` there, because its trips are counted in P.  T's loop is walked backwards
 * afterwards, and needs values of the steps of P then.  Those of an `if` are computed again, from
 * what is visible there.  Those of a `scan` are stored, as further stacked results, where they
 * depend on the step; the others, and what depends on the number of the step alone, are computed
 * again.  When there would be too many results, or in a `while`, which has no stacked results,
 * carried values are stored, and the others are computed from them.  A `while` stores those of at
 * most LIN_SLOTS trips, evenly spaced, however many there are; the trips between are computed once
 * more from the one before (tr_while.c).
 *
 * All this is `auto`; an op that says `ckpt` stores more or less (lin_how, lin_slots; what is left
 * of a scan that keeps n states was cut by segment.c).  Whatever is stored, the same ops compute
 * the same values. */
#include "passes/lin.h"
#include <string.h>

static const ig_allocator *lin_alloc(const lin_walk *w) { return w->c.p->m->alloc; }
static bool lin_is_split(const lin_walk *w) { return w->c.p != w->c.t; }
static lin_list *lin_tangents(lin_walk *w) { return &w->list[lin_is_split(w)]; }
static void lin_no_memory(lin_walk *w) { ir_build_error(w->c.p, rt_fail_memory()); }

/* --- Which values have a tangent -------------------------------------------------------------- */

/* A carried value, by its operand, its parameters and its result, is active in all or in none. */
static bool lin_spread(lin_walk *w, ir_ref from, uint32_t to) {
    const ir_func *f = w->c.f;
    if (!w->active[from.i] || w->active[to] || !rt_is_float(ir_val_type(f, (ir_ref){to})->dtype))
        return false;
    w->active[to] = true;
    return true;
}

static bool lin_spread_begin(lin_walk *w, const ir_op *o) {
    const ir_func *f = w->c.f;
    bool more = false;
    for (uint32_t r = 0; o->code != OP_if && r < o->nregion; r++)
        for (uint32_t k = 0; k < o->nin; k++)
            more |= lin_spread(w, ir_op_in(f, o, k),
                               f->regions.data[o->region0 + r].param0 + (o->code == OP_scan) + k);
    for (uint32_t k = 0; o->code == OP_while && k < o->nin; k++)
        more |= lin_spread(w, ir_op_in(f, o, k), o->out0 + k);
    return more;
}

/* What is asked to be kept of an op with regions. */
static ir_field_ckpt lin_ckpt(const ir_func *f, const ir_op *o) {
    const void *a = ir_attr_get(f->module, o->attr);
    return o->code == OP_scan    ? ((const ir_attr_scan *)a)->ckpt
           : o->code == OP_while ? ((const ir_attr_while *)a)->ckpt
                                 : ((const ir_attr_regions *)a)->ckpt;
}

static uint32_t lin_carries(const ir_func *f, const ir_op *o) {
    return o->code == OP_scan
               ? (uint32_t)((const ir_attr_scan *)ir_attr_get(f->module, o->attr))->carries
               : o->nout;
}

static bool lin_spread_yield(lin_walk *w, const ir_op *y) {
    const ir_func *f = w->c.f;
    const ir_op *o = &f->ops.data[f->regions.data[y->parent].op];
    uint32_t carries = o->code == OP_if ? 0 : lin_carries(f, o);
    bool more = false;
    if (o->code == OP_while && y->parent == o->region0) return false;
    for (uint32_t k = 0; k < y->nin; k++) {
        more |= lin_spread(w, ir_op_in(f, y, k), o->out0 + k);
        for (uint32_t r = 0; k < carries && r < o->nregion; r++)
            more |= lin_spread(w, ir_op_out(o, k),
                               f->regions.data[o->region0 + r].param0 + (o->code == OP_scan) + k);
    }
    for (uint32_t k = 0; k < carries && o->code == OP_scan; k++)
        more |= lin_spread(w, (ir_ref){f->regions.data[o->region0].param0 + 1 + k}, o->out0 + k);
    return more;
}

static bool lin_spread_op(lin_walk *w, const ir_op *o) {
    const ir_func *f = w->c.f;
    bool more = false;
    const ir_op *owner = o->code == OP_yield ? &f->ops.data[f->regions.data[o->parent].op] : o;
    if (owner->code == OP_composite)
        return pass_lin_spread_rule(w, owner, o->code == OP_yield ? o : NULL);
    if (o->code == OP_yield) return lin_spread_yield(w, o);
    if (o->nregion) return lin_spread_begin(w, o);
    if (pass_lin_is_zero(o->code)) return false;
    for (uint32_t k = 0; k < o->nin; k++)
        for (uint32_t i = 0; i < o->nout; i++)
            more |= lin_spread(w, ir_op_in(f, o, k), o->out0 + i);
    return more;
}

void pass_lin_activity(lin_walk *w) {
    const ir_func *f = w->c.f;
    for (uint32_t i = 0; i < f->values.n; i++) w->active[i] = w->tangent[i].i != 0;
    for (bool more = true; more;) {
        more = false;
        for (uint32_t i = 0; i < f->ops.n; i++) {
            const ir_op *o = &f->ops.data[i];
            if (o->code == OP_return) continue;
            more |= lin_spread_op(w, o);
        }
        more &= f->regions.n > 1; /* without regions one sweep is enough */
    }
}

bool pass_lin_is_quiet(const lin_walk *w) {
    const lin_open *top = w->open.n ? &w->open.data[w->open.n - 1] : NULL;
    return top && (top->quiet || (top->o->code == OP_while && top->region == 0));
}

/* --- Lists of values and tangents --------------------------------------------------------------
 */

static void lin_push(lin_walk *w, lin_list *l, ir_ref v) {
    if (!rt_vec_push(lin_alloc(w), &l->v, v)) lin_no_memory(w);
}

static void lin_push_type(lin_walk *w, lin_list *l, ir_type t) {
    if (!rt_vec_push(lin_alloc(w), &l->type, t)) lin_no_memory(w);
}

static void lin_clear(lin_walk *w) {
    for (int i = 0; i < 2; i++) w->list[i].v.n = w->list[i].type.n = 0;
}

/* The tangent of a value of f, zeros where it has none. */
static ir_ref lin_or_zeros(lin_walk *w, ir_ref v) {
    if (w->tangent[v.i].i || w->c.p->error) return w->tangent[v.i];
    ir_type t = ir_import_type(w->c.p->m, w->c.f->module, *ir_val_type(w->c.f, v));
    return pass_lin_residual(&w->c, emit_fill(w->c.p, &t, 0));
}

/* Operands of an op of f, from number `first` on: values, then the tangents of those whose place,
 * key.., has one. */
static void lin_put(lin_walk *w, const ir_op *o, uint32_t first, uint32_t n, uint32_t key) {
    for (uint32_t k = 0; k < n; k++)
        lin_push(w, &w->list[0], w->primal[ir_op_in(w->c.f, o, first + k).i]);
    for (uint32_t k = 0; k < n; k++)
        if (w->active[key + k])
            lin_push(w, lin_tangents(w), lin_or_zeros(w, ir_op_in(w->c.f, o, first + k)));
}

/* The types of such a list of parameters. */
static void lin_put_types(lin_walk *w, uint32_t first, uint32_t n) {
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t k = 0; k < n; k++) {
            ir_type t = *ir_val_type(w->c.f, (ir_ref){first + k});
            if (pass && !w->active[first + k]) continue;
            lin_push_type(w, pass ? lin_tangents(w) : &w->list[0],
                          ir_import_type(w->c.p->m, w->c.f->module, t));
        }
}

/* Enter such a list, from *p on and *t on (the same place when P is T). */
static void lin_bind(lin_walk *w, uint32_t first, uint32_t n, const ir_ref **p, const ir_ref **t) {
    for (uint32_t k = 0; k < n; k++) w->primal[first + k] = *(*p)++;
    for (uint32_t k = 0; k < n; k++)
        w->tangent[first + k] = w->active[first + k] ? *(*t)++ : (ir_ref){0};
}

/* --- States of a while ------------------------------------------------------------------------ */

/* How many states a `while` stores. */
static int64_t lin_slots(const lin_walk *w, const ir_op *o) {
    const ir_attr_while *a = ir_attr_get(w->c.f->module, o->attr);
    switch (a->ckpt) {
    case IR_CKPT_AUTO: return LIN_SLOTS;
    case IR_CKPT_ALL: return a->cap;
    case IR_CKPT_SQRT: return pass_sqrt(a->cap);
    default: return a->ckpt;
    }
}

/* The length of the table of slots, which `all` does not need. */
static int64_t lin_table(const lin_walk *w, const ir_op *o) {
    return lin_ckpt(w->c.f, o) == IR_CKPT_ALL ? 0 : lin_slots(w, o);
}

static void lin_fail_rank(lin_walk *w, const ir_type *t) {
    rt_str s;
    rt_str_init(&s, lin_alloc(w));
    ir_type_print(w->c.p->m, t, &s);
    ir_build_error(w->c.p,
                   rt_status_op(rt_fail(lin_alloc(w), IG_UNSUPPORTED,
                                        "reverse mode stacks carried values: one is %s, which has "
                                        "%d axes already",
                                        rt_str_text(&s), IG_MAX_RANK),
                                ir_op_tab[OP_while].name));
    rt_str_free(&s);
}

/* P's loop carries, behind its own values: the number of the trip, the stride, for every multiple
 * of the stride the slot that has the state before that trip, and the slots, with one more for
 * states that are not kept.  When a trip comes for which there is no slot the stride doubles: the
 * slots of odd multiples are free then. */
static void lin_put_states(lin_walk *w, const ir_op *o) {
    const int64_t n = lin_slots(w, o);
    ir_attr_iota slots = {.dtype = IG_i64, .dims = {.n = 1, .d = {lin_table(w, o)}}};
    lin_push(w, &w->list[0], ir_const_i(w->c.p, IG_i64, 0));
    lin_push(w, &w->list[0], ir_const_i(w->c.p, IG_i64, 1));
    lin_push(w, &w->list[0], ir_emit0(w->c.p, OP_iota, &slots));
    for (uint32_t k = 0; k < o->nin && !w->c.p->error; k++) {
        ir_type t = ir_type_of(w->c.p, w->list[0].v.data[k]);
        if (t.rank == IG_MAX_RANK) {
            lin_fail_rank(w, &t);
            return;
        }
        t = emit_longer(t, 0, n + 1);
        lin_push(w, &w->list[0], emit_fill(w->c.p, &t, 0));
    }
}

static void lin_put_state_types(lin_walk *w, const ir_op *o) {
    const int64_t n = lin_slots(w, o);
    ir_type count = ir_scalar_type(IG_i64);
    lin_push_type(w, &w->list[0], count);
    lin_push_type(w, &w->list[0], count);
    lin_push_type(w, &w->list[0], emit_longer(count, 0, lin_table(w, o)));
    for (uint32_t k = 0; k < o->nin && !w->c.p->error; k++)
        lin_push_type(w, &w->list[0], emit_longer(w->list[0].type.data[k], 0, n + 1));
}

/* Put the stride and the table of n slots for a trip into the list; the slot of its state. */
static ir_ref lin_yield_slot(lin_walk *w, int64_t n, ir_ref trip, ir_ref stride, ir_ref table) {
    ir_builder *p = w->c.p;
    ir_attr_slice even = {.lo = {.n = 1}, .hi = {.n = 1, .d = {n}}, .step = {.n = 1, .v = {2}}};
    ir_attr_slice odd = even;
    ir_attr_bcast all = {.dims = {.n = 1, .d = {n}}};
    ir_attr_dims one = {.dims = {.n = 1, .d = {1}}}, none = {{0}, 0};
    odd.lo.d[0] = 1;
    ir_ref slots = ir_const_i(p, IG_i64, n);
    ir_ref full = emit_cmp(p, IR_cmpop_eq, trip, EMIT(p, mul, stride, slots));
    stride = EMIT(p, select, full, EMIT(p, add, stride, stride), stride);
    ir_ref first = EMIT_AS(p, slice, &even, table), rest = EMIT_AS(p, slice, &odd, table);
    ir_ref turned = EMIT_AS(p, concat, (&(ir_attr_axis){.axis = 0}), first, rest);
    table = EMIT(p, select, EMIT_AS(p, broadcast, &all, full), turned, table);
    ir_ref at = EMIT(p, div, trip, stride), slot = EMIT_AS(p, dslice, &one, table, at);
    ir_ref kept = emit_cmp(p, IR_cmpop_eq, EMIT(p, mul, at, stride), trip);
    lin_push(w, &w->list[0], stride);
    lin_push(w, &w->list[0], table);
    return EMIT(p, select, kept, EMIT_AS(p, reshape, &none, slot), slots);
}

/* Store the state that a trip began with: parameters of the body. */
static void lin_yield_states(lin_walk *w, const ir_op *o, uint32_t param0) {
    ir_builder *p = w->c.p;
    ir_ref trip = {param0 + o->nin}, zero = ir_const_i(p, IG_i64, 0), slot = trip;
    lin_push(w, &w->list[0], EMIT(p, add, trip, ir_const_i(p, IG_i64, 1)));
    if (lin_ckpt(w->c.f, o) == IR_CKPT_ALL) { /* there is a slot for every trip */
        lin_push(w, &w->list[0], ir_result(trip, 1));
        lin_push(w, &w->list[0], ir_result(trip, 2));
    } else {
        slot = lin_yield_slot(w, lin_slots(w, o), trip, ir_result(trip, 1), ir_result(trip, 2));
    }
    for (uint32_t k = 0; k < o->nin && !p->error; k++) {
        ir_ref in[IG_MAX_RANK + 2] = {ir_result(trip, 3 + k), {param0 + k}, slot};
        ir_type t = emit_longer(ir_type_of(p, in[1]), 0, 1);
        ir_attr_dims row = {.dims = emit_dims(&t)};
        ir_attr_dupd set = {.op = IR_setop_set};
        in[1] = EMIT_AS(p, reshape, &row, in[1]);
        for (int i = 1; i < t.rank; i++) in[2 + i] = zero;
        lin_push(w, &w->list[0], ir_emit(p, OP_dupdate, &set, 2 + t.rank, in));
    }
}

/* --- What is stored and what is computed again ------------------------------------------------ */

static uint32_t lin_p_region(const lin_walk *w, const lin_open *open) {
    return w->c.p->f->ops.data[open->p].region0 + open->region;
}

/* The op directly in region r that holds op i, or is it. */
static uint32_t lin_holder(const ir_func *f, uint32_t i, uint32_t r) {
    while (f->ops.data[i].parent != r) i = f->regions.data[f->ops.data[i].parent].op;
    return i;
}

/* Room to say something about all values and ops that P has by now. */
static bool lin_grow(lin_walk *w) {
    const ir_func *f = w->c.p->f;
    if (w->c.p->error) return false;
    while (w->need.n < f->values.n)
        if (!rt_vec_push(lin_alloc(w), &w->need, 0)) lin_no_memory(w), w->need.n = f->values.n;
    while (w->tape->keep.n < f->ops.n)
        if (!rt_vec_push(lin_alloc(w), &w->tape->keep, 0))
            lin_no_memory(w), w->tape->keep.n = f->ops.n;
    return !w->c.p->error;
}

static void lin_needs(lin_walk *w, ir_ref v) {
    if (lin_grow(w)) w->need.data[v.i] |= LIN_AGAIN;
}

/* Mark the ops of region r that values with a need are computed by, and what those use. */
static void lin_keep(lin_walk *w, uint32_t r, uint8_t need) {
    const ir_func *f = w->c.p->f;
    if (!lin_grow(w)) return;
    for (uint32_t i = f->ops.n; i-- > f->regions.data[r].first;) {
        uint32_t at = lin_holder(f, i, r);
        const ir_op *o = &f->ops.data[i], *holder = &f->ops.data[at];
        bool keep = false;
        for (uint32_t k = 0; k < holder->nout; k++)
            keep |= (w->need.data[holder->out0 + k] & (need | LIN_STORED)) == need;
        if (!keep) continue;
        w->tape->keep.data[at] |= need;
        for (uint32_t k = 0; k < o->nin; k++) {
            ir_ref x = ir_op_in(f, o, k);
            w->need.data[x.i] |= ir_home(f, x) == r ? need : LIN_AGAIN;
        }
    }
}

/* How a value of a region is had when the region is walked backwards: not at all, computed from
 * what is had, or stored.  Beside that: whether it depends on the step, and whether it is stacked
 * already (an `if` is one step: all depends on it, and what it yields is stacked). */
enum { LIN_LOST, LIN_CHEAP, LIN_KEPT, LIN_HOW = 3, LIN_VARIES = 4, LIN_STACKED = 8 };

/* An op that costs less than to store its result and load it again. */
static bool lin_is_cheap(const ir_func *f, const ir_op *o) {
    const ig_dtype d = o->nin ? (ig_dtype)ir_val_type(f, ir_op_in(f, o, 0))->dtype : IG_NONE;
    return o->code == OP_broadcast || o->code == OP_reshape ||
           (ir_is_elementwise((ir_opcode)o->code) && !ir_math_has((ir_opcode)o->code, d));
}

/* How the results of an op are had under a policy, and what they depend on; how: by value from
 * `base` on.  all: everything that is needed and varies is stored.  dots: contractions.  auto: what
 * is needed and dear.  k(n): nothing but parameters. */
static uint8_t lin_how(const lin_walk *w, const ir_op *o, uint32_t base, ir_field_ckpt policy,
                       const uint8_t *how) {
    const ir_func *f = w->c.p->f;
    bool varies = o->nregion || !f->regions.data[o->parent].nparam, had = lin_is_cheap(f, o);
    bool dot = policy == IR_CKPT_DOTS && o->code == OP_ein;
    for (uint32_t k = 0; k < o->nin; k++) {
        uint32_t x = ir_op_in(f, o, k).i;
        if (x < base) continue;
        varies |= how[x - base] & LIN_VARIES;
        had &= (how[x - base] & LIN_HOW) != LIN_LOST;
    }
    if (policy > 0 || !varies) return LIN_CHEAP;
    had |= policy == IR_CKPT_DOTS;
    return LIN_VARIES | (dot ? LIN_KEPT : had && policy != IR_CKPT_ALL ? LIN_CHEAP : LIN_LOST);
}

/* Fill how.  Gives how many values are stored that are not stacked already. */
static uint32_t lin_fill_how(const lin_walk *w, uint32_t r, uint32_t carries, ir_field_ckpt policy,
                             uint8_t *how) {
    const ir_func *f = w->c.p->f;
    const ir_region *region = &f->regions.data[r];
    const uint32_t base = region->param0;
    uint32_t stored = 0;
    for (uint32_t k = 0; k < region->nparam; k++) {
        bool all = policy > 0 || policy == IR_CKPT_DOTS || w->need.data[base + k] & LIN_AGAIN;
        bool kept = k > carries || all;
        how[k] |= !k ? LIN_CHEAP : LIN_VARIES | (kept ? LIN_KEPT : LIN_LOST);
        stored += k && k <= carries && kept;
    }
    for (uint32_t i = region->first; i < f->ops.n; i++) {
        const ir_op *o = &f->ops.data[i];
        if (o->parent != r) continue;
        uint8_t is = lin_how(w, o, base, policy, how);
        for (uint32_t k = 0; k < o->nout; k++) {
            uint8_t *y = &how[o->out0 + k - base];
            bool needed = w->need.data[o->out0 + k] & LIN_AGAIN, lost = !(is & LIN_HOW);
            *y |= lost && needed ? LIN_KEPT : is;
            if (*y & LIN_STACKED && *y & LIN_VARIES) *y |= LIN_KEPT, *y &= (uint8_t)~LIN_CHEAP;
            stored += (*y & LIN_HOW) == LIN_KEPT && !(*y & LIN_STACKED);
        }
    }
    return stored;
}

/* Store a value of the op that is open, as one more result; slices are stacked already. */
static void lin_store_value(lin_walk *w, const lin_open *open, uint32_t r, ir_ref v) {
    const ir_func *f = w->c.p->f;
    const ir_op *o = &f->ops.data[open->p];
    const bool scan = o->code == OP_scan;
    uint32_t carries = scan ? lin_carries(f, o) : 0;
    uint32_t slices = f->regions.data[r].param0 + 1 + carries;
    lin_store s = {.region = r, .in = v, .at = carries};
    if (scan && v.i >= slices && v.i < slices + o->nin - carries) {
        s.out = ir_op_in(f, o, carries + v.i - slices);
        lin_needs(w, s.out);
    } else {
        while (s.at < w->list[0].v.n && w->list[0].v.data[s.at].i != v.i) s.at++;
        if (s.at == w->list[0].v.n) lin_push(w, &w->list[0], v);
    }
    if (!rt_vec_push(lin_alloc(w), &w->tape->stores, s)) lin_no_memory(w);
}

/* Choose what region r, of the op that is open, stores, and mark what is computed again. */
static void lin_choose(lin_walk *w, const lin_open *open, uint32_t r) {
    const ir_func *f = w->c.p->f;
    uint32_t base = f->regions.data[r].param0, n = f->values.n, yields = w->list[0].v.n;
    uint32_t carries = open->o->code == OP_scan ? lin_carries(f, &f->ops.data[open->p]) : 0;
    ir_field_ckpt policy = lin_ckpt(w->c.f, open->o);
    uint8_t *how = rt_alloc_zero(lin_alloc(w), n - base + 1);
    if (!how) {
        lin_no_memory(w);
        return;
    }
    if (policy == IR_CKPT_SQRT) policy = 1; /* what is left to keep: segment.c has cut the steps */
    for (;;) {                              /* if there are too many results: the carried values */
        memset(how, 0, n - base);
        for (uint32_t k = carries; k < yields; k++)
            if (w->list[0].v.data[k].i >= base) how[w->list[0].v.data[k].i - base] = LIN_STACKED;
        uint32_t stored = lin_fill_how(w, r, carries, policy, how);
        if (policy > 0 || stored + yields <= IR_MAX_RESULTS) break;
        policy = 1;
    }
    for (uint32_t v = base; v < n; v++)
        if ((how[v - base] & LIN_HOW) == LIN_KEPT) w->need.data[v] |= LIN_STORED;
    lin_keep(w, r, LIN_AGAIN);
    for (uint32_t v = base; v < n && !w->c.p->error; v++)
        if ((how[v - base] & LIN_HOW) == LIN_KEPT && w->need.data[v] & LIN_AGAIN)
            lin_store_value(w, open, r, (ir_ref){v});
    rt_free(lin_alloc(w), how, n - base + 1);
}

/* Before the region of P ends: what it has to keep for T. */
static void lin_close(lin_walk *w, const lin_open *open) {
    uint32_t r = lin_p_region(w, open);
    if (!lin_grow(w)) return;
    if (open->o->code == OP_scan ||
        (open->o->code == OP_if && lin_ckpt(w->c.f, open->o) != IR_CKPT_AUTO)) {
        lin_choose(w, open, r);
        return;
    }
    lin_keep(w, r, LIN_AGAIN);
    if (open->o->code == OP_if) return;
    for (uint32_t k = 0; k < open->o->nin; k++) {
        ir_ref v = w->list[0].v.data[k];
        w->need.data[v.i] |= ir_home(w->c.p->f, v) == r ? LIN_ADVANCE : LIN_AGAIN;
    }
    lin_keep(w, r, LIN_ADVANCE);
}

/* When the op of P has ended, y being its first result. */
static void lin_closed(lin_walk *w, const lin_open *open, ir_ref y) {
    const ir_func *f = w->c.p->f;
    const ir_op *o = &f->ops.data[open->p];
    lin_tape *tape = w->tape;
    if (!lin_grow(w)) return;
    for (uint32_t i = 0; i < tape->stores.n; i++) {
        lin_store *s = &tape->stores.data[i];
        if (s->region != o->region0 || s->out.i) continue;
        s->out = ir_result(y, s->at);
        lin_needs(w, s->out);
    }
    if (o->code != OP_while) return;
    for (uint32_t i = 0; i < tape->regions.n; i++) {
        lin_region *region = &tape->regions.data[i];
        if (region->p != o->region0 + 1) continue;
        region->trips = ir_result(y, open->o->nin);
        region->carries = open->o->nin;
        if (lin_ckpt(w->c.f, open->o) != IR_CKPT_AUTO)
            region->attr = *(const ir_attr_while *)ir_attr_get(w->c.f->module, open->o->attr);
    }
    for (uint32_t k = open->o->nin; k < o->nout; k++) lin_needs(w, ir_result(y, k));
}

/* --- The walk --------------------------------------------------------------------------------- */

static void lin_begin_region(lin_walk *w, lin_open *open) {
    const ir_op *o = open->o;
    const ir_region *r = &w->c.f->regions.data[o->region0 + open->region];
    bool step = o->code == OP_scan, split = lin_is_split(w);
    bool in_t = split && (o->code != OP_while || open->region == 1);
    uint32_t first = r->param0 + step, n = r->nparam - step, carries = lin_carries(w->c.f, o);
    lin_clear(w);
    if (carries > n) carries = n;
    for (int i = 0; i < (step ? 1 + split : 0); i++)
        lin_push_type(w, &w->list[i], ir_scalar_type(IG_i64));
    if (in_t && o->code == OP_while) lin_push_type(w, &w->list[1], ir_scalar_type(IG_i64));
    lin_put_types(w, first, carries);
    lin_put_types(w, first + carries, n - carries);
    if (split && o->code == OP_while) lin_put_state_types(w, o);
    for (int i = 0; i <= in_t && !w->c.p->error; i++) {
        lin_list *l = &w->list[i];
        if (!rt_vec_reserve(lin_alloc(w), &l->v, l->type.n + 1)) {
            lin_no_memory(w);
            return;
        }
        ir_region_begin(i ? w->c.t : w->c.p, i ? open->t : open->p,
                        i && o->code == OP_while ? 0 : (int)open->region, (int)l->type.n,
                        l->type.data, l->v.data);
    }
    if (w->c.p->error || w->c.t->error) return;
    const ir_ref *p = w->list[0].v.data + step, *t = w->list[1].v.data + (o->code != OP_if);
    if (step) w->primal[r->param0] = p[-1];
    if (in_t || !split) {
        lin_bind(w, first, carries, &p, split ? &t : &p);
        lin_bind(w, first + carries, n - carries, &p, split ? &t : &p);
    } else {
        for (uint32_t k = 0; k < n; k++) w->primal[first + k] = p[k];
    }
    if (!in_t) return;
    lin_region made = {.t = w->c.t->region, .p = w->c.p->region};
    if (!rt_vec_push(lin_alloc(w), &w->tape->regions, made)) lin_no_memory(w);
}

/* Begin the op in P, and in T when it is another. */
static void lin_begin_ops(lin_walk *w, lin_open *open) {
    const ir_func *f = w->c.f;
    const ir_op *o = open->o;
    const bool split = lin_is_split(w);
    uint32_t carries = lin_carries(f, o), first = f->regions.data[o->region0].param0;
    ir_attr_any attr, linear;
    ir_opcode code = (ir_opcode)o->code, t_code = code == OP_if ? OP_if : OP_scan;
    ir_import_attr(w->c.p->m, f->module, o->attr, &attr);
    linear = attr;
    lin_clear(w);
    if (code == OP_if) {
        ir_ref index = w->primal[ir_op_in(f, o, 0).i];
        lin_push(w, &w->list[0], index);
        if (split) lin_push(w, &w->list[1], pass_lin_residual(&w->c, index));
    } else {
        lin_put(w, o, 0, carries, first + (code == OP_scan));
        int64_t active = lin_tangents(w)->v.n - (split ? 0 : carries);
        if (code == OP_while) linear.a_scan = (ir_attr_scan){.n = 1};
        linear.a_scan.carries = active;
        if (code == OP_scan && !split) attr.a_scan.carries += active;
        lin_put(w, o, carries, o->nin - carries, first + 1 + carries);
        if (code == OP_while && split) lin_put_states(w, o);
    }
    open->p = ir_op_begin(w->c.p, code, &attr, (int)w->list[0].v.n, w->list[0].v.data, o->nregion);
    if (split)
        open->t = ir_op_begin(w->c.t, t_code, &linear, (int)w->list[1].v.n, w->list[1].v.data,
                              t_code == OP_if ? o->nregion : 1);
}

void pass_lin_begin(lin_walk *w, const ir_op *o) {
    lin_open open = {.o = o, .quiet = true};
    for (uint32_t k = 0; k < o->nout; k++) open.quiet &= !w->active[o->out0 + k];
    open.quiet |= pass_lin_is_quiet(w);
    if (open.quiet)
        ir_copy_op(w->c.p, w->c.f, (uint32_t)(o - w->c.f->ops.data), w->primal);
    else
        lin_begin_ops(w, &open);
    if (w->c.p->error || w->c.t->error) return;
    if (!open.quiet) lin_begin_region(w, &open);
    if (!rt_vec_push(lin_alloc(w), &w->open, open)) lin_no_memory(w);
}

/* End the open region as the yield y does. */
static void lin_end_region(lin_walk *w, const lin_open *open, const ir_op *y) {
    const ir_op *o = open->o;
    uint32_t carries = lin_carries(w->c.f, o);
    const ir_region *r = &w->c.p->f->regions.data[w->c.p->region];
    lin_clear(w);
    if (o->code == OP_while && open->region == 0) {
        ir_region_end(w->c.p, 1, &w->primal[ir_op_in(w->c.f, y, 0).i]);
        return;
    }
    lin_put(w, y, 0, carries, o->out0);
    lin_put(w, y, carries, y->nin - carries, o->out0 + carries);
    if (lin_is_split(w)) {
        uint32_t param0 = r->param0;
        lin_close(w, open);
        if (o->code == OP_while) lin_yield_states(w, o, param0);
        ir_region_end(w->c.t, (int)w->list[1].v.n, w->list[1].v.data);
    }
    ir_region_end(w->c.p, (int)w->list[0].v.n, w->list[0].v.data);
}

/* End the op: its results. */
static void lin_end_op(lin_walk *w, const lin_open *open) {
    const ir_op *o = open->o;
    ir_builder *b[2] = {w->c.p, w->c.t};
    uint32_t carries = lin_carries(w->c.f, o), split = lin_is_split(w);
    ir_ref first[2] = {{0}};
    lin_clear(w);
    for (uint32_t i = 0; i <= split; i++) {
        uint32_t op = i ? open->t : open->p;
        first[i] = ir_op_end(b[i], op);
        for (uint32_t k = 0; !b[i]->error && k < b[i]->f->ops.data[op].nout; k++)
            lin_push(w, &w->list[i], ir_result(first[i], k));
    }
    if (w->c.p->error || w->c.t->error) return;
    const ir_ref *p = w->list[0].v.data, *t = w->list[split].v.data;
    lin_bind(w, o->out0, carries, &p, split ? &t : &p);
    lin_bind(w, o->out0 + carries, o->nout - carries, &p, split ? &t : &p);
    if (split) lin_closed(w, open, first[0]);
}

void pass_lin_yield(lin_walk *w, uint32_t i) {
    lin_open *top = &w->open.data[w->open.n - 1];
    const ir_func *f = w->c.f;
    const bool last = top->region + 1u == top->o->nregion;
    if (top->quiet)
        ir_copy_op(w->c.p, f, i, w->primal);
    else
        lin_end_region(w, top, &f->ops.data[i]);
    if (w->c.p->error || w->c.t->error) return;
    if (!last) {
        top->region++;
        if (!top->quiet) lin_begin_region(w, top);
        return;
    }
    w->open.n--;
    if (!top->quiet) lin_end_op(w, top);
    for (uint32_t k = 0; PASS_PLANTED(lin, top->o->code) && !top->quiet && k < top->o->nout; k++) {
        ir_ref *t = &w->tangent[top->o->out0 + k];
        if (t->i) *t = EMIT(w->c.t, neg, *t);
    }
}

void pass_lin_free(lin_walk *w) {
    const ig_allocator *a = lin_alloc(w);
    rt_vec_free(a, &w->of);
    rt_vec_free(a, &w->need);
    rt_vec_free(a, &w->open);
    for (int i = 0; i < 2; i++) {
        rt_vec_free(a, &w->list[i].v);
        rt_vec_free(a, &w->list[i].type);
    }
}

void pass_free_tape(const ig_allocator *a, lin_tape *tape) {
    rt_vec_free(a, &tape->pairs);
    rt_vec_free(a, &tape->stores);
    rt_vec_free(a, &tape->regions);
    rt_vec_free(a, &tape->keep);
}
