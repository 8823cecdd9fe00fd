/* batch_flow.c - `if`, `scan` and `while` on many lanes.
 *
 * Which values differ by lane is found beforehand, for all regions at once: sweeps over the ops
 * until nothing is new.  A carried value that differs in some step is carried for every lane.
 *
 *   scan    the lanes go through the steps together
 *   while   as long as some lane goes on; a lane that does not keeps its values.  The condition is
 *           asked once more in the body, to say which lanes those are
 *   if      where all lanes choose alike: the branches, for all lanes.  Where they choose apart:
 *           every branch that some lane chose, one after the other, and a choice lane by lane.  In
 *           a branch the other lanes have the values of the first lane that chose it: what they
 *           compute is dropped, and no branch sees values that it was not chosen for, so that
 *           neither its results nor its derivatives are NaN on their account */
#include "passes/batch.h"
#include <string.h>

#define B(op, ...)     EMIT(w->c.b, op, __VA_ARGS__)
#define BA(op, a, ...) EMIT_AS(w->c.b, op, a, __VA_ARGS__)

static const ig_allocator *batch_alloc(const batch_walk *w) { return w->c.b->m->alloc; }
static void batch_no_memory(batch_walk *w) { ir_build_error(w->c.b, rt_fail_memory()); }

static void batch_push(batch_walk *w, ir_ref v) {
    if (!rt_vec_push(batch_alloc(w), &w->list, v)) batch_no_memory(w);
}

static uint32_t batch_carries(const ir_func *f, const ir_op *o) {
    return o->code == OP_scan
               ? (uint32_t)((const ir_attr_scan *)ir_attr_get(f->module, o->attr))->carries
               : o->nout;
}

/* --- Which values differ by lane ----------------------------------------------------------------
 */

static bool batch_spread(batch_walk *w, bool from, uint32_t to) {
    if (!from || w->lanes[to]) return false;
    return w->lanes[to] = true;
}

/* All that a composite takes, computes and gives differs by lane, or nothing does. */
static bool batch_spread_composite(batch_walk *w, const ir_op *o, const ir_op *y) {
    const ir_func *f = w->c.f;
    const ir_op *x = y ? y : o;
    bool any = w->lanes[o->out0], more = false;
    for (uint32_t k = 0; k < x->nin; k++) any |= w->lanes[ir_op_in(f, x, k).i];
    for (uint32_t k = 0; k < o->nout; k++) more |= batch_spread(w, any, o->out0 + k);
    for (uint32_t r = 0; r < o->nregion; r++) {
        const ir_region *region = &f->regions.data[o->region0 + r];
        for (uint32_t k = 0; k < region->nparam; k++)
            more |= batch_spread(w, any, region->param0 + k);
    }
    return more;
}

/* Operands, parameters and results of an op with regions; y: a yield in it, or NULL. */
static bool batch_spread_flow(batch_walk *w, const ir_op *o, const ir_op *y) {
    const ir_func *f = w->c.f;
    if (o->code == OP_composite) return batch_spread_composite(w, o, y);
    uint32_t carries = batch_carries(f, o), step = o->code == OP_scan;
    bool more = false, ask = o->code == OP_while && y && y->parent == o->region0, apart = false;
    if (ask || o->code == OP_if) apart = w->lanes[ir_op_in(f, ask ? y : o, 0).i];
    for (uint32_t k = 0; k < o->nout; k++) {
        bool from = apart || (y && !ask && w->lanes[ir_op_in(f, y, k).i]);
        more |= batch_spread(w, from, o->out0 + k);
    }
    for (uint32_t r = 0; o->code != OP_if && r < o->nregion; r++) {
        uint32_t first = f->regions.data[o->region0 + r].param0 + step;
        for (uint32_t k = 0; k < o->nin; k++) {
            more |= batch_spread(w, w->lanes[ir_op_in(f, o, k).i], first + k);
            if (k >= carries) continue;
            more |= batch_spread(w, w->lanes[o->out0 + k], first + k);
            more |= batch_spread(w, w->lanes[first + k], o->out0 + k);
        }
    }
    return more;
}

static bool batch_spread_op(batch_walk *w, const ir_op *o) {
    const ir_func *f = w->c.f;
    bool any = false, more = false;
    if (o->code == OP_yield)
        return batch_spread_flow(w, &f->ops.data[f->regions.data[o->parent].op], o);
    if (o->nregion) return batch_spread_flow(w, o, NULL);
    for (uint32_t k = 0; k < o->nin; k++) any |= w->lanes[ir_op_in(f, o, k).i];
    for (uint32_t k = 0; k < o->nout; k++) more |= batch_spread(w, any, o->out0 + k);
    return more;
}

void pass_batch_spread(batch_walk *w) {
    const ir_func *f = w->c.f;
    for (bool more = true; more;) {
        more = false;
        for (uint32_t i = 0; i + 1 < f->ops.n; i++) more |= batch_spread_op(w, &f->ops.data[i]);
        more &= f->regions.n > 1;
    }
}

/* --- Shared -------------------------------------------------------------------------------------
 */

/* Operand k of an op of f, in every lane if its place has lanes. */
static ir_ref batch_value(batch_walk *w, const ir_op *o, uint32_t k, bool lanes) {
    ir_ref v = ir_op_in(w->c.f, o, k);
    return lanes && !w->lanes[v.i] ? emit_lanes(w->c.b, w->map[v.i], w->c.n) : w->map[v.i];
}

/* Begin region k of the op: its parameters. */
static void batch_region(batch_walk *w, batch_open *open, uint32_t k) {
    const ir_region *r = &w->c.f->regions.data[open->o->region0 + k];
    w->types.n = 0;
    for (uint32_t i = 0; i < r->nparam; i++) {
        ir_type t = *ir_val_type(w->c.f, (ir_ref){r->param0 + i});
        t = ir_import_type(w->c.b->m, w->c.f->module, t);
        if (w->lanes[r->param0 + i]) t = emit_longer(t, 0, w->c.n);
        if (!rt_vec_push(batch_alloc(w), &w->types, t)) batch_no_memory(w);
    }
    if (w->c.b->error) return;
    ir_region_begin(w->c.b, open->b, (int)k, (int)r->nparam, w->types.data, &w->map[r->param0]);
    open->region = k;
}

static ir_ref batch_any(batch_walk *w, ir_ref mask) {
    return BA(reduce, (&(ir_attr_reduce){.op = IR_redop_any, .axes = {.n = 1}}), mask);
}

/* yes where the mask of lanes holds, else no. */
static ir_ref batch_choose(batch_walk *w, ir_ref mask, ir_ref yes, ir_ref no) {
    ir_type t = ir_type_of(w->c.b, yes);
    return w->c.b->error ? yes : B(select, emit_over_lanes(w->c.b, mask, &t), yes, no);
}

/* --- Branches that lanes choose apart ------------------------------------------------------------
 */

/* A value with the lanes that are not in the mask like the first one that is. */
static ir_ref batch_like_first(batch_walk *w, ir_ref x, ir_ref mask, ir_ref first) {
    ir_type t = ir_type_of(w->c.b, x), one = t;
    ir_ref in[IG_MAX_RANK + 1] = {x, first}, zero = ir_const_i(w->c.b, IG_i64, 0);
    if (w->c.b->error) return x;
    one.dim[0] = 1;
    ir_attr_dims window = {.dims = emit_dims(&one)}, whole = {.dims = {.n = (uint8_t)(t.rank - 1)}};
    memcpy(whole.dims.d, t.dim + 1, whole.dims.n * sizeof *t.dim);
    for (int i = 1; i < t.rank; i++) in[1 + i] = zero;
    ir_ref lane = ir_emit(w->c.b, OP_dslice, &window, 1 + t.rank, in);
    lane = BA(reshape, &whole, lane);
    return batch_choose(w, mask, x, emit_lanes(w->c.b, lane, w->c.n));
}

/* Begin branch k, in the first region of an `if` that asks whether a lane chose it. */
static void batch_branch(batch_walk *w, batch_open *open, uint32_t k) {
    const ir_func *f = w->c.f;
    const ir_region *r = &f->regions.data[open->o->region0 + k];
    ir_type index = ir_type_of(w->c.b, open->index);
    ir_attr_regions two = {.n = 2};
    ir_attr_reduce which = {.op = IR_redop_argmax, .axes = {.n = 1}};
    open->region = k;
    if (index.dtype == IG_bool)
        open->mask = k ? B(lnot, open->index) : open->index;
    else
        open->mask =
            emit_cmp(w->c.b, IR_cmpop_eq, open->index, ir_const_like(w->c.b, open->index, k));
    ir_ref any = batch_any(w, open->mask);
    open->b = ir_op_begin(w->c.b, OP_if, &two, 1, &any, 2);
    ir_region_begin(w->c.b, open->b, 0, 0, NULL, NULL);
    ir_ref first = BA(reduce, &which, open->mask);
    for (uint32_t i = r->first; i < r->end && !w->c.b->error; i++)
        for (uint32_t n = 0; n < f->ops.data[i].nin; n++) {
            uint32_t v = ir_op_in(f, &f->ops.data[i], n).i;
            bool known = v >= r->param0 || !w->lanes[v];
            for (uint32_t s = open->saved0; s < w->saved.n && !known; s++)
                known = w->saved.data[s].v == v;
            if (known) continue;
            if (!rt_vec_push(batch_alloc(w), &w->saved, ((batch_saved){v, w->map[v]})))
                batch_no_memory(w);
            w->map[v] = batch_like_first(w, w->map[v], open->mask, first);
        }
}

static void batch_begin_apart(batch_walk *w, batch_open *open) {
    const ir_op *o = open->o;
    ir_ref x = w->map[ir_op_in(w->c.f, o, 0).i];
    ir_type t = ir_type_of(w->c.b, x);
    open->saved0 = w->saved.n;
    open->results0 = w->results.n;
    open->index = x;
    if (t.dtype != IG_bool && !w->c.b->error) {
        ir_ref least = ir_const_like(w->c.b, x, 0), most = ir_const_like(w->c.b, x, o->nregion - 1);
        open->index = B(min, B(max, x, least), most);
    }
    batch_branch(w, open, 0);
}

/* End a branch as the yield does, and choose its results in its lanes. */
static void batch_end_branch(batch_walk *w, batch_open *open, const ir_op *y) {
    w->list.n = 0;
    for (uint32_t k = 0; k < y->nin; k++) batch_push(w, batch_value(w, y, k, true));
    ir_region_end(w->c.b, (int)w->list.n, w->list.data);
    ir_region_begin(w->c.b, open->b, 1, 0, NULL, NULL);
    for (uint32_t k = 0; k < y->nin && !w->c.b->error; k++) {
        ir_type t = ir_type_of(w->c.b, w->list.data[k]);
        w->list.data[k] = emit_fill(w->c.b, &t, 0);
    }
    ir_region_end(w->c.b, (int)w->list.n, w->list.data);
    ir_ref first = ir_op_end(w->c.b, open->b);
    for (uint32_t k = 0; k < y->nin && !w->c.b->error; k++) {
        ir_ref v = ir_result(first, k);
        if (open->region) {
            ir_ref *was = &w->results.data[open->results0 + k];
            *was = batch_choose(w, open->mask, v, *was);
        } else if (!rt_vec_push(batch_alloc(w), &w->results, v)) {
            batch_no_memory(w);
        }
    }
    while (w->saved.n > open->saved0) {
        batch_saved s = w->saved.data[--w->saved.n];
        w->map[s.v] = s.was;
    }
}

/* --- The walk -----------------------------------------------------------------------------------
 */

void pass_batch_begin(batch_walk *w, const ir_op *o) {
    const ir_func *f = w->c.f;
    batch_open open = {.o = o};
    ir_attr_any attr;
    uint32_t carries = batch_carries(f, o);
    if (o->code == OP_if) open.apart = w->lanes[ir_op_in(f, o, 0).i];
    if (o->code == OP_while)
        open.apart = w->lanes[ir_op_in(f, &f->ops.data[f->regions.data[o->region0].end - 1], 0).i];
    for (uint32_t k = 0; k < o->nout; k++)
        if (w->lanes[o->out0 + k]) pass_batch_check_rank(&w->c, ir_val_type(f, ir_op_out(o, k)));
    if (w->c.b->error) return;
    if (o->code == OP_if && open.apart) {
        batch_begin_apart(w, &open);
    } else {
        ir_import_attr(w->c.b->m, f->module, o->attr, &attr);
        w->list.n = 0;
        for (uint32_t k = 0; k < o->nin; k++) {
            uint32_t param = f->regions.data[o->region0].param0 + (o->code == OP_scan) + k;
            ir_ref x = batch_value(w, o, k, o->code != OP_if && w->lanes[param]);
            bool turn = o->code == OP_scan && k >= carries && w->lanes[param];
            batch_push(w, turn ? emit_move_axis(w->c.b, x, 0, 1) : x);
        }
        open.b =
            ir_op_begin(w->c.b, (ir_opcode)o->code, &attr, (int)o->nin, w->list.data, o->nregion);
        batch_region(w, &open, 0);
    }
    if (!w->c.b->error && !rt_vec_push(batch_alloc(w), &w->open, open)) batch_no_memory(w);
}

/* The condition of a while: some lane goes on; in the body, once more, which of them. */
static uint32_t batch_condition(batch_walk *w, batch_open *open, const ir_op *y) {
    const ir_region *ask = &w->c.f->regions.data[open->o->region0], *body = ask + 1;
    ir_ref go = w->map[ir_op_in(w->c.f, y, 0).i];
    if (open->again) {
        open->mask = go;
        return body->first;
    }
    if (open->apart) go = batch_any(w, go);
    ir_region_end(w->c.b, 1, &go);
    batch_region(w, open, 1);
    open->again = open->apart;
    if (!open->apart) return body->first;
    for (uint32_t k = 0; k < ask->nparam; k++) w->map[ask->param0 + k] = w->map[body->param0 + k];
    return ask->first;
}

/* End a region that is not a branch chosen apart. */
static void batch_end_region(batch_walk *w, batch_open *open, const ir_op *y) {
    const ir_op *o = open->o;
    uint32_t param0 = w->c.f->regions.data[y->parent].param0;
    w->list.n = 0;
    for (uint32_t k = 0; k < y->nin; k++) {
        bool lanes = w->lanes[o->out0 + (o->code == OP_composite ? 0 : k)];
        ir_ref v = batch_value(w, y, k, lanes);
        batch_push(w, open->apart ? batch_choose(w, open->mask, v, w->map[param0 + k]) : v);
    }
    ir_region_end(w->c.b, (int)w->list.n, w->list.data);
}

/* Enter the results of the op, whose last region has ended. */
static void batch_end_op(batch_walk *w, batch_open *open) {
    const ir_op *o = open->o;
    bool apart = o->code == OP_if && open->apart;
    uint32_t carries = batch_carries(w->c.f, o);
    ir_ref first = apart ? (ir_ref){0} : ir_op_end(w->c.b, open->b);
    for (uint32_t k = 0; k < o->nout && !w->c.b->error; k++) {
        ir_ref y = apart ? w->results.data[open->results0 + k] : ir_result(first, k);
        if (k >= carries && w->lanes[o->out0 + k]) y = emit_move_axis(w->c.b, y, 1, 0);
        if (PASS_PLANTED(batch, o->code) && w->lanes[o->out0 + k])
            y = BA(reverse, (&(ir_attr_axes){.axes = {.n = 1}}), y);
        w->map[o->out0 + k] = y;
    }
    if (apart) w->results.n = open->results0;
}

uint32_t pass_batch_yield(batch_walk *w, uint32_t i) {
    batch_open *open = &w->open.data[w->open.n - 1];
    const ir_op *o = open->o, *y = &w->c.f->ops.data[i];
    bool apart = o->code == OP_if && open->apart;
    if (o->code == OP_while && y->parent == o->region0) return batch_condition(w, open, y);
    if (apart)
        batch_end_branch(w, open, y);
    else
        batch_end_region(w, open, y);
    if (w->c.b->error) return i + 1;
    if (open->region + 1u < o->nregion) {
        if (apart)
            batch_branch(w, open, open->region + 1);
        else
            batch_region(w, open, open->region + 1);
        return i + 1;
    }
    batch_end_op(w, open);
    w->open.n--;
    return i + 1;
}

void pass_batch_free(batch_walk *w) {
    const ig_allocator *a = batch_alloc(w);
    rt_vec_free(a, &w->open);
    rt_vec_free(a, &w->list);
    rt_vec_free(a, &w->types);
    rt_vec_free(a, &w->saved);
    rt_vec_free(a, &w->results);
}
