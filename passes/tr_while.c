/* tr_while.c - the states of a while on the way back through its trips.
 *
 * P has stored the states of some trips, evenly spaced, the first one's among them (lin_flow.c).
 * They are a stack: what lies above the trip whose turn it is has been used, and its slot is free.
 * From the nearest state below, the trips to this one are computed once more, and on the way states
 * go to half of the free slots, evenly spaced: so the trips between are not all computed from the
 * same one, and there are slots for those between these.  When the stored states are far apart half
 * of them are forgotten at first, for the same reason.  With 16 slots each of 16 trips is computed
 * this often again, on the average: 0; of 200, 1.6; 1,000, 2.6; 10,000, 4.4; 100,000, 8.2.
 *
 * What is carried: the number of states, the numbers of their trips, and the slots.  Which slot is
 * the n-th in order does not change: P's table. */
#include "passes/tr.h"

#include <string.h>

static const ir_attr_dims while_one = {.dims = {.n = 1, .d = {1}}}, while_none = {{0}, 0};

static ir_ref while_number(ir_builder *b, int64_t x) { return ir_const_i(b, IG_i64, x); }

/* How many states there is room for. */
static int64_t while_room(const tr_walk *w, const lin_region *made) {
    return ir_type_of(w->b, pass_tr_again(w, ir_result(made->trips, 2))).dim[0];
}

/* Element `at` of a list. */
static ir_ref while_element(ir_builder *b, ir_ref list, ir_ref at) {
    return EMIT_AS(b, reshape, &while_none, EMIT_AS(b, dslice, &while_one, list, at));
}

/* A scalar, as often as a list is long. */
static ir_ref while_list(ir_builder *b, ir_ref x, int64_t n) {
    ir_attr_bcast to = {.dims = {.n = 1, .d = {n}}};
    return EMIT_AS(b, broadcast, &to, x);
}

static ir_ref while_positions(ir_builder *b, int64_t n) {
    ir_attr_iota a = {.dtype = IG_i64, .dims = {.n = 1, .d = {n}}};
    return ir_emit0(b, OP_iota, &a);
}

/* One value of the state in a slot. */
static ir_ref while_load(ir_builder *b, ir_ref slots, ir_ref slot) {
    ir_ref in[IG_MAX_RANK + 1] = {slots, slot}, zero = while_number(b, 0);
    if (b->error) return slots;
    ir_type t = ir_type_of(b, slots), row = t;
    row.dim[0] = 1;
    ir_attr_dims window = {.dims = emit_dims(&row)},
                 whole = {.dims = {.n = (uint8_t)(t.rank - 1)}};
    memcpy(whole.dims.d, t.dim + 1, whole.dims.n * sizeof *t.dim);
    for (int i = 1; i < t.rank; i++) in[1 + i] = zero;
    return EMIT_AS(b, reshape, &whole, ir_emit(b, OP_dslice, &window, 1 + t.rank, in));
}

/* The slots with a value in one of them. */
static ir_ref while_store(ir_builder *b, ir_ref slots, ir_ref slot, ir_ref x) {
    ir_ref in[IG_MAX_RANK + 2] = {slots, x, slot}, zero = while_number(b, 0);
    if (b->error) return slots;
    ir_type t = emit_longer(ir_type_of(b, x), 0, 1);
    ir_attr_dims row = {.dims = emit_dims(&t)};
    ir_attr_dupd set = {.op = IR_setop_set};
    in[1] = EMIT_AS(b, reshape, &row, x);
    for (int i = 1; i < t.rank; i++) in[2 + i] = zero;
    return ir_emit(b, OP_dupdate, &set, 2 + t.rank, in);
}

/* Forget every other state when they are farther apart than there are slots: the new distance. */
static ir_ref while_thin(tr_walk *w, const lin_region *made, int64_t room) {
    ir_builder *b = w->b;
    ir_attr_slice even = {
        .lo = {.n = 1}, .hi = {.n = 1, .d = {room}}, .step = {.n = 1, .v = {2}}};
    ir_attr_slice odd = even;
    ir_attr_axis axis = {.axis = 0};
    ir_ref stride = pass_tr_again(w, ir_result(made->trips, 1));
    ir_ref *table = &w->again[ir_result(made->trips, 2).i];
    odd.lo.d[0] = 1;
    ir_ref far = emit_cmp(b, IR_cmpop_lt, while_number(b, room), stride);
    ir_ref first = EMIT_AS(b, slice, &even, *table), rest = EMIT_AS(b, slice, &odd, *table);
    ir_ref turned = EMIT_AS(b, concat, &axis, first, rest);
    *table = EMIT(b, select, while_list(b, far, room), turned, *table);
    return EMIT(b, select, far, EMIT(b, add, stride, stride), stride);
}

/* Whether there is a slot for every trip: then nothing is computed again, and nothing carried. */
static bool while_has_all(const lin_region *made) { return made->attr.ckpt == IR_CKPT_ALL; }

void pass_tr_put_states(tr_walk *w, const lin_region *made) {
    ir_builder *b = w->b;
    if (b->error || while_has_all(made)) return;
    const int64_t room = while_room(w, made);
    ir_ref trips = pass_tr_again(w, made->trips), stride = while_thin(w, made, room);
    ir_ref up = EMIT(b, add, trips, EMIT(b, sub, stride, while_number(b, 1)));
    pass_tr_push(w, EMIT(b, div, up, stride));
    pass_tr_push(w, EMIT(b, mul, while_positions(b, room), while_list(b, stride, room)));
    for (uint32_t k = 0; k < made->carries; k++)
        pass_tr_push(w, pass_tr_again(w, ir_result(made->trips, 3 + k)));
}

void pass_tr_push_states(tr_walk *w, const lin_region *made, tr_states s) {
    if (while_has_all(made)) return;
    pass_tr_push(w, s.count);
    pass_tr_push(w, s.numbers);
    for (uint32_t k = 0; k < made->carries; k++) pass_tr_push(w, ir_result(s.slots, k));
}

/* The trips before the one whose turn it is, from the nearest stored state on. */
typedef struct while_run {
    ir_ref at, first, by; /* its place in the order, its trip, how far apart states are to be */
    ir_ref end;           /* the place after those that are used on the way */
    int64_t room;
} while_run;

/* Where the nearest state is, and how far apart the free slots are on the way from there. */
static while_run while_begin_run(tr_walk *w, const lin_region *made, ir_ref count, ir_ref trip) {
    ir_builder *b = w->b;
    while_run r = {.room = while_room(w, made)};
    ir_ref one = while_number(b, 1), numbers = ir_result(count, 1);
    ir_ref last = EMIT(b, sub, count, one);
    ir_ref used = emit_cmp(b, IR_cmpop_lt, trip, while_element(b, numbers, last));
    r.at = EMIT(b, select, used, EMIT(b, sub, last, one), last);
    r.first = while_element(b, numbers, r.at);
    ir_ref half = EMIT(b, div, EMIT(b, sub, while_number(b, r.room), r.at), while_number(b, 2));
    ir_ref parts = EMIT(b, add, half, one);
    r.end = EMIT(b, add, r.at, parts);
    ir_ref up = EMIT(b, add, EMIT(b, sub, trip, r.first), EMIT(b, sub, parts, one));
    r.by = EMIT(b, max, EMIT(b, div, up, parts), one);
    return r;
}

/* The slot for the state before trip i: none of the stack's, unless it is its turn. */
static ir_ref while_slot(tr_walk *w, const lin_region *made, const while_run *r, ir_ref i) {
    ir_builder *b = w->b;
    ir_ref none = while_number(b, r->room), far = EMIT(b, sub, i, r->first);
    ir_ref steps = EMIT(b, div, far, r->by), place = EMIT(b, add, r->at, steps);
    ir_ref whole = emit_cmp(b, IR_cmpop_eq, EMIT(b, mul, steps, r->by), far);
    ir_ref keep = EMIT_AS(b, bit, (&(ir_attr_bitop){.op = IR_bitop_band}), whole,
                          emit_cmp(b, IR_cmpop_lt, place, r->end));
    ir_ref slot = while_element(b, pass_tr_again(w, ir_result(made->trips, 2)), place);
    return EMIT(b, select, keep, slot, none);
}

/* Carry the state in v, its trip behind it and then the slots, on to a trip. */
static ir_ref while_advance(tr_walk *w, const lin_region *made, const while_run *r, ir_ref trip,
                            ir_ref *v) {
    const ir_func *p = &w->primal;
    const ir_region *body = &p->regions.data[made->p];
    const ir_op *yield = &p->ops.data[body->end - 1];
    ir_builder *b = w->b;
    const uint32_t n = made->carries;
    ir_type types[IR_MAX_RESULTS];
    for (uint32_t k = 0; k <= 2 * n; k++) types[k] = ir_type_of(b, v[k]);
    uint32_t op = ir_op_begin(b, OP_while, NULL, (int)(2 * n + 1), v, 2);
    ir_region_begin(b, op, 0, (int)(2 * n + 1), types, v);
    ir_ref more = emit_cmp(b, IR_cmpop_lt, v[n], trip);
    ir_region_end(b, 1, &more);
    ir_region_begin(b, op, 1, (int)(2 * n + 1), types, v);
    for (uint32_t k = 0; k <= n; k++) w->again[body->param0 + k] = v[k];
    pass_tr_compute(w, made->p, LIN_ADVANCE);
    v[n] = EMIT(b, add, v[n], while_number(b, 1));
    ir_ref slot = while_slot(w, made, r, v[n]);
    for (uint32_t k = 0; k < n && !b->error; k++) {
        v[k] = pass_tr_again(w, ir_op_in(p, yield, k));
        v[n + 1 + k] = while_store(b, v[n + 1 + k], slot, v[k]);
    }
    ir_region_end(b, (int)(2 * n + 1), v);
    return ir_op_end(b, op);
}

/* What the loop carries of states after the run to a trip; `slots` are there already. */
static tr_states while_end_run(tr_walk *w, const while_run *r, ir_ref numbers, ir_ref trip,
                               ir_ref slots) {
    ir_builder *b = w->b;
    ir_ref one = while_number(b, 1), at = while_list(b, r->at, r->room);
    ir_ref above = EMIT(b, sub, while_positions(b, r->room), at);
    ir_ref made_now = EMIT(b, add, while_list(b, r->first, r->room),
                           EMIT(b, mul, above, while_list(b, r->by, r->room)));
    ir_ref kept = emit_cmp(b, IR_cmpop_le, above, while_list(b, while_number(b, 0), r->room));
    ir_ref more = EMIT(b, div, EMIT(b, sub, trip, r->first), r->by);
    ir_ref end = EMIT(b, add, EMIT(b, add, r->at, more), one);
    return (tr_states){.count = EMIT(b, min, end, r->end),
                       .numbers = EMIT(b, select, kept, numbers, made_now),
                       .slots = slots};
}

tr_states pass_tr_rewind(tr_walk *w, const lin_region *made, ir_ref count, ir_ref trip) {
    ir_builder *b = w->b;
    ir_ref v[IR_MAX_RESULTS];
    const uint32_t n = made->carries, param0 = w->primal.regions.data[made->p].param0;
    w->again[param0 + n] = trip;
    for (uint32_t k = 0; k < n && while_has_all(made); k++)
        w->again[param0 + k] = while_load(b, pass_tr_again(w, ir_result(made->trips, 3 + k)), trip);
    if (b->error || while_has_all(made)) return (tr_states){{0}, {0}, {0}};
    if (2 * n + 1 > IR_MAX_RESULTS) {
        ir_build_error(b, rt_fail(b->m->alloc, IG_UNSUPPORTED,
                                  "reverse mode of a while takes at most %d carried values",
                                  (IR_MAX_RESULTS - 1) / 2));
        return (tr_states){{0}, {0}, {0}};
    }
    while_run r = while_begin_run(w, made, count, trip);
    ir_ref slot = while_element(b, pass_tr_again(w, ir_result(made->trips, 2)), r.at);
    for (uint32_t k = 0; k < n; k++) {
        v[k] = while_load(b, ir_result(count, 2 + k), slot);
        v[n + 1 + k] = ir_result(count, 2 + k);
    }
    v[n] = r.first;
    ir_ref y = b->error ? (ir_ref){0} : while_advance(w, made, &r, trip, v);
    if (b->error) return (tr_states){{0}, {0}, {0}};
    for (uint32_t k = 0; k < n; k++) w->again[param0 + k] = ir_result(y, k);
    w->again[param0 + n] = trip;
    return while_end_run(w, &r, ir_result(count, 1), trip, ir_result(y, n + 1));
}
