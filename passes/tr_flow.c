/* tr_flow.c - the transposes of `if` and `scan`, which a `while` is in T, too.
 *
 * A loop over tangents becomes a loop in the other direction over cotangents.  It carries those of
 * carried values, and those of values from outside that the region uses: they are added up there,
 * on what has reached them before.  Values of P come as stored or are computed again, before
 * anything else in the region.  An `if` gives what its branches make of the cotangents of values
 * from outside. */
#include "passes/tr.h"
#include <string.h>

static const ig_allocator *tr_alloc(const tr_walk *w) { return w->b->m->alloc; }

void pass_tr_push(tr_walk *w, ir_ref v) {
    if (!rt_vec_push(tr_alloc(w), &w->list, v)) ir_build_error(w->b, rt_fail_memory());
}

static uint32_t tr_carries(const ir_func *f, const ir_op *o) {
    return o->code == OP_scan
               ? (uint32_t)((const ir_attr_scan *)ir_attr_get(f->module, o->attr))->carries
               : 0;
}

static const ir_region *tr_region(const tr_walk *w, const ir_op *o) {
    return &w->f->regions.data[o->region0];
}

/* --- What is reached ----------------------------------------------------------------------------
 */

static bool tr_reach(tr_walk *w, bool from, ir_ref to) {
    if (!from || w->reached[to.i] || w->of[to.i].i) return false;
    return w->reached[to.i] = true;
}

/* A carried value is reached in all steps or in none: its parameter says which. */
static bool tr_reach_op(tr_walk *w, const ir_op *o) {
    const ir_op *owner = o->code == OP_yield ? &w->f->ops.data[w->f->regions.data[o->parent].op]
                                             : o;
    uint32_t carries = tr_carries(w->f, owner), first = 0;
    bool more = false, any = false;
    if (owner->nregion) first = tr_region(w, owner)->param0 + 1;
    if (o->code == OP_yield) {
        for (uint32_t k = 0; k < carries; k++)
            more |= tr_reach(w, w->reached[owner->out0 + k], (ir_ref){first + k});
        for (uint32_t k = 0; k < o->nin; k++)
            more |= tr_reach(w, w->reached[k < carries ? first + k : owner->out0 + k],
                             ir_op_in(w->f, o, k));
    } else if (o->code == OP_scan) {
        for (uint32_t k = 0; k < o->nin; k++)
            more |= tr_reach(w, w->reached[first + k], ir_op_in(w->f, o, k));
    } else {
        for (uint32_t k = 0; k < o->nout; k++) any |= w->reached[o->out0 + k];
        for (uint32_t k = 0; k < o->nin; k++) more |= tr_reach(w, any, ir_op_in(w->f, o, k));
    }
    return more;
}

void pass_tr_reach(tr_walk *w) {
    for (uint32_t v = 0; v < w->f->values.n; v++) w->reached[v] = w->ct[v].i != 0;
    for (bool more = true; more;) {
        more = false;
        for (uint32_t i = w->f->ops.n; i-- > 0;) more |= tr_reach_op(w, &w->f->ops.data[i]);
        more &= w->f->regions.n > 1;
    }
}

/* --- Cotangents ---------------------------------------------------------------------------------
 */

void pass_tr_add(tr_walk *w, ir_ref v, ir_ref d) {
    if (!d.i || w->of[v.i].i) return;
    w->ct[v.i] = w->ct[v.i].i ? EMIT(w->b, add, w->ct[v.i], d) : d;
}

static ir_ref tr_or_zeros(tr_walk *w, ir_ref v, ir_ref type_of) {
    if (w->ct[v.i].i || w->b->error) return w->ct[v.i];
    return emit_fill(w->b, ir_val_type(w->f, type_of), 0);
}

/* List the values from outside that are reached in the regions of an op, in the order of uses. */
static void tr_list_outer(tr_walk *w, tr_open *open, uint32_t end) {
    uint32_t from = tr_region(w, open->o)->param0;
    open->outer0 = w->outer.n;
    for (uint32_t i = tr_region(w, open->o)->first; i < end; i++) {
        const ir_op *o = &w->f->ops.data[i];
        for (uint32_t k = 0; k < o->nin; k++) {
            ir_ref v = ir_op_in(w->f, o, k);
            bool known = v.i >= from || w->of[v.i].i || !w->reached[v.i];
            for (uint32_t n = open->outer0; n < w->outer.n && !known; n++)
                known = w->outer.data[n].v.i == v.i;
            if (!known && !rt_vec_push(tr_alloc(w), &w->outer, ((tr_outer){v, w->ct[v.i]})))
                ir_build_error(w->b, rt_fail_memory());
        }
    }
    open->nouter = w->outer.n - open->outer0;
}

static ir_ref tr_outside(const tr_walk *w, const tr_open *open, uint32_t k) {
    return w->outer.data[open->outer0 + k].v;
}

/* --- Values of P --------------------------------------------------------------------------------
 */

void pass_tr_compute(tr_walk *w, uint32_t region, uint8_t need) {
    const ir_func *p = &w->primal;
    const ir_region *r = &p->regions.data[region];
    for (uint32_t i = r->first; i + 1 < r->end && !w->b->error; i++) {
        uint32_t at = i;
        while (p->ops.data[at].parent != region) at = p->regions.data[p->ops.data[at].parent].op;
        if (w->tape->keep.data[at] & need) ir_copy_op(w->b, p, i, w->again);
    }
}

/* --- Regions ------------------------------------------------------------------------------------
 */

static const lin_region *tr_made(const tr_walk *w, uint32_t region) {
    uint32_t i = 0;
    while (w->tape->regions.data[i].t != region) i++;
    return &w->tape->regions.data[i];
}

/* The carried cotangents of a loop, behind what is in the list. */
static void tr_push_carried(tr_walk *w, const tr_open *open, bool inside) {
    const ir_region *r = tr_region(w, open->o);
    for (uint32_t k = 0; k < tr_carries(w->f, open->o); k++) {
        ir_ref param = {r->param0 + 1 + k};
        if (w->reached[param.i])
            pass_tr_push(w, tr_or_zeros(w, inside ? param : ir_op_out(open->o, k), param));
    }
    for (uint32_t k = 0; k < open->nouter; k++)
        pass_tr_push(w, tr_or_zeros(w, tr_outside(w, open, k), tr_outside(w, open, k)));
}

/* The carried cotangents are `from..` now; what the yield y names has got them. */
static const ir_ref *tr_take_carried(tr_walk *w, const tr_open *open, const ir_op *y,
                                     const ir_ref *from) {
    const ir_region *r = tr_region(w, open->o);
    const ir_ref *at = from;
    for (uint32_t k = 0; k < tr_carries(w->f, open->o); k++) at += w->reached[r->param0 + 1 + k];
    for (uint32_t k = 0; k < open->nouter; k++) w->ct[tr_outside(w, open, k).i] = *at++;
    for (uint32_t k = 0; k < tr_carries(w->f, open->o); k++)
        if (w->reached[r->param0 + 1 + k]) pass_tr_add(w, ir_op_in(w->f, y, k), *from++);
    return at;
}

/* The types of w->list from `first` on are those of parameters; the list becomes these. */
static bool tr_params(tr_walk *w, uint32_t op, uint32_t k, const ir_type *step, uint32_t carries) {
    uint32_t n = w->list.n, more = step != NULL;
    if (w->b->error) return false;
    if (!rt_vec_reserve(tr_alloc(w), &w->types, n + 1) ||
        !rt_vec_reserve(tr_alloc(w), &w->list, n + 1)) {
        ir_build_error(w->b, rt_fail_memory());
        return false;
    }
    if (step) w->types.data[0] = *step;
    for (uint32_t i = 0; i < n; i++) {
        ir_type t = ir_type_of(w->b, w->list.data[i]);
        w->types.data[more + i] =
            i < carries ? t : ir_tensor_type((ig_dtype)t.dtype, t.rank - 1, t.dim + 1);
    }
    ir_region_begin(w->b, op, (int)k, (int)(n + more), w->types.data, w->list.data);
    w->list.n = n + more;
    return !w->b->error;
}

static void tr_begin_while(tr_walk *w, tr_open *open, const ir_op *y) {
    ir_builder *b = w->b;
    pass_tr_push(w, pass_tr_again(w, open->made->trips));
    tr_push_carried(w, open, false);
    uint32_t kept = w->list.n;
    pass_tr_put_states(w, open->made);
    uint32_t n = w->list.n;
    open->b = ir_op_begin(b, OP_while, &open->made->attr, (int)n, w->list.data, 2);
    if (!tr_params(w, open->b, 0, NULL, n)) return;
    ir_ref more = emit_cmp(b, IR_cmpop_lt, ir_const_i(b, IG_i64, 0), w->list.data[0]);
    ir_region_end(b, 1, &more);
    if (!tr_params(w, open->b, 1, NULL, n)) return;
    ir_ref trip = EMIT(b, sub, w->list.data[0], ir_const_i(b, IG_i64, 1));
    tr_take_carried(w, open, y, w->list.data + 1);
    open->states = pass_tr_rewind(w, open->made, kept < n ? w->list.data[kept] : trip, trip);
}

static void tr_begin_scan(tr_walk *w, tr_open *open, const ir_op *y) {
    const ir_op *o = open->o;
    ir_attr_scan a = *(const ir_attr_scan *)ir_attr_get(w->f->module, o->attr);
    ir_type step = ir_scalar_type(IG_i64);
    uint32_t p = open->made->p, carries = (uint32_t)a.carries;
    tr_push_carried(w, open, false);
    a.carries = w->list.n;
    a.reverse = !a.reverse;
    for (uint32_t k = carries; k < o->nout; k++)
        if (w->ct[o->out0 + k].i) pass_tr_push(w, w->ct[o->out0 + k]);
    for (uint32_t i = 0; i < w->tape->stores.n; i++)
        if (w->tape->stores.data[i].region == p)
            pass_tr_push(w, pass_tr_again(w, w->tape->stores.data[i].out));
    open->b = ir_op_begin(w->b, OP_scan, &a, (int)w->list.n, w->list.data, 1);
    if (!tr_params(w, open->b, 0, &step, (uint32_t)a.carries)) return;
    const ir_ref *at = tr_take_carried(w, open, y, w->list.data + 1);
    for (uint32_t k = carries; k < o->nout; k++)
        if (w->ct[o->out0 + k].i) pass_tr_add(w, ir_op_in(w->f, y, k), *at++);
    w->again[w->primal.regions.data[p].param0] = w->list.data[0];
    for (uint32_t i = 0; i < w->tape->stores.n; i++)
        if (w->tape->stores.data[i].region == p) w->again[w->tape->stores.data[i].in.i] = *at++;
}

/* Begin region k of an `if`. */
static void tr_begin_branch(tr_walk *w, tr_open *open, const ir_op *y, uint32_t k) {
    const ir_op *o = open->o;
    if (!k) {
        ir_attr_regions a = {.n = o->nregion};
        ir_ref index = pass_tr_again(w, w->of[ir_op_in(w->f, o, 0).i]);
        open->b = ir_op_begin(w->b, OP_if, &a, 1, &index, o->nregion);
    }
    ir_region_begin(w->b, open->b, (int)k, 0, NULL, NULL);
    for (uint32_t i = 0; i < w->tape->stores.n; i++) {
        const lin_store *s = &w->tape->stores.data[i];
        if (s->region == open->made->p) w->again[s->in.i] = pass_tr_again(w, s->out);
    }
    for (uint32_t i = 0; i < o->nout; i++) pass_tr_add(w, ir_op_in(w->f, y, i), w->ct[o->out0 + i]);
}

/* Begin a region: of an `if` region k, which goes with the region that is in *open. */
static void tr_begin_region(tr_walk *w, tr_open *open) {
    const ir_op *o = open->o, *y = &w->f->ops.data[w->f->regions.data[open->region].end - 1];
    open->made = tr_made(w, open->region);
    w->list.n = 0;
    if (o->code == OP_if)
        tr_begin_branch(w, open, y, open->region - o->region0);
    else if (open->made->trips.i)
        tr_begin_while(w, open, y);
    else
        tr_begin_scan(w, open, y);
    pass_tr_compute(w, open->made->p, LIN_AGAIN);
}

void pass_tr_begin(tr_walk *w, const ir_op *o) {
    tr_open open = {.o = o, .region = o->region0};
    tr_list_outer(w, &open, w->f->regions.data[o->region0 + o->nregion - 1u].end);
    if (!w->b->error) tr_begin_region(w, &open);
    if (!w->b->error && !rt_vec_push(tr_alloc(w), &w->open, open))
        ir_build_error(w->b, rt_fail_memory());
}

/* What reached the operands of a loop: results of b from y on. */
static void tr_end_loop(tr_walk *w, const tr_open *open, ir_ref y) {
    const ir_op *o = open->o;
    const ir_region *r = tr_region(w, o);
    uint32_t carries = tr_carries(w->f, o), n = 0;
    for (uint32_t k = 0; k < carries; k++) n += w->reached[r->param0 + 1 + k];
    for (uint32_t k = 0; k < open->nouter; k++)
        w->ct[tr_outside(w, open, k).i] = ir_result(y, n + k);
    n = 0;
    for (uint32_t k = 0; k < carries; k++)
        if (w->reached[r->param0 + 1 + k]) pass_tr_add(w, ir_op_in(w->f, o, k), ir_result(y, n++));
    n += open->nouter;
    for (uint32_t k = carries; k < o->nin; k++)
        if (w->ct[r->param0 + 1 + k].i) pass_tr_add(w, ir_op_in(w->f, o, k), ir_result(y, n++));
}

/* What the region that is open yields. */
static void tr_end_region(tr_walk *w, const tr_open *open) {
    const ir_op *o = open->o;
    const ir_region *r = tr_region(w, o);
    uint32_t carries = tr_carries(w->f, o);
    w->list.n = 0;
    if (open->made->trips.i)
        pass_tr_push(w, pass_tr_again(w, (ir_ref){w->primal.regions.data[open->made->p].param0 +
                                        open->made->carries}));
    tr_push_carried(w, open, true);
    for (uint32_t k = carries; o->code == OP_scan && k < o->nin; k++)
        if (w->ct[r->param0 + 1 + k].i) pass_tr_push(w, w->ct[r->param0 + 1 + k]);
    for (uint32_t k = open->made->trips.i != 0; PASS_PLANTED(tr, o->code) && k < w->list.n; k++)
        w->list.data[k] = EMIT(w->b, neg, w->list.data[k]);
    if (open->made->trips.i) pass_tr_push_states(w, open->made, open->states);
    ir_region_end(w->b, (int)w->list.n, w->list.data);
}

void pass_tr_leave(tr_walk *w) {
    tr_open *open = &w->open.data[w->open.n - 1];
    const ir_op *o = open->o;
    tr_end_region(w, open);
    if (o->code == OP_if) {
        for (uint32_t k = 0; k < open->nouter; k++)
            w->ct[tr_outside(w, open, k).i] = w->outer.data[open->outer0 + k].ct;
        if (open->region + 1u < o->region0 + o->nregion) {
            open->region++;
            tr_begin_region(w, open);
            return;
        }
    }
    ir_ref y = ir_op_end(w->b, open->b);
    if (open->made->trips.i) y = ir_result(y, 1);
    if (o->code == OP_scan)
        tr_end_loop(w, open, y);
    else
        for (uint32_t k = 0; k < open->nouter; k++)
            w->ct[tr_outside(w, open, k).i] = ir_result(y, k);
    w->outer.n = open->outer0;
    w->open.n--;
}
