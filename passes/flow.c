/* flow.c - loops and branches without what is known before they begin.
 *
 *   A carried value that a loop hands on as it is, is the operand.  (dce drops it then.)
 *   A branch whose choice is a constant stands where its op stood; but not one of an `if` that has
 *   no other: that is there to keep its inside apart (docs/transform.md, ig_checkpoint).
 *   What is the same in every step and dear is computed before the loop; and what is cheap, where
 *   something dear needs it, or a contraction would have it written to memory at every step.
 *   Else a cheap op stays: fused into what uses it, it costs less than to load its result.
 *
 * An op moves out of all loops in which its operands do not change, and out of no branch.  It may
 * be computed for a loop of no steps then, which costs what one step would.  Nothing can fail that
 * is moved.  Bits never change.
 *
 * Cost: each op is looked at once for every loop around it. */
#include "passes/fuse.h"

#include <string.h>

ig_status pass_run_flow(const ir_module *in, ir_module *out);

typedef struct flow {
    const ir_func *f;
    ir_builder b;
    ir_ref *map;    /* value of f -> value of b; owned */
    ir_ref *same;   /* value -> the value that it always is; owned */
    uint32_t *home; /* value -> the region where it is known; owned */
    uint32_t *as;   /* region -> itself, or the one that it stands in; UINT32_MAX: not chosen */
    bool *wanted;   /* value -> an op that moves uses it; owned */
    bool *read;     /* value -> a contraction reads it, perhaps through index maps; owned */
    bool *moves;    /* op -> it leaves its region; owned */
} flow;

/* --- What is known ---------------------------------------------------------------------------- */

/* The chosen region of an `if` of several with a constant operand, or -1. */
static int flow_choice(const flow *w, const ir_op *o) {
    if (o->code != OP_if || o->nregion == 1) return -1;
    ir_ref v = w->same[ir_op_in(w->f, o, 0).i];
    const ir_op *c = ir_def_op(w->f, v);
    if (!c || c->code != OP_const) return -1;
    const void *bytes = ((const ir_attr_const *)ir_attr_get(w->f->module, c->attr))->data.bytes;
    int32_t k;
    if (ir_val_type(w->f, v)->dtype == IG_bool) return *(const bool *)bytes ? 0 : o->nregion - 1;
    memcpy(&k, bytes, sizeof k);
    return k < 0 ? 0 : k < o->nregion ? k : o->nregion - 1;
}

static uint32_t flow_carries(const flow *w, const ir_op *o) {
    if (o->code == OP_scan)
        return (uint32_t)((const ir_attr_scan *)ir_attr_get(w->f->module, o->attr))->carries;
    return o->code == OP_while ? o->nin : 0;
}

/* Enter the parameters and results of an op with regions. */
static void flow_enter(flow *w, const ir_op *o) {
    const ir_func *f = w->f;
    const int choice = flow_choice(w, o);
    const uint32_t step = o->code == OP_scan, last = o->region0 + o->nregion - 1u;
    const ir_op *yield = &f->ops.data[f->regions.data[last].end - 1];
    for (uint32_t r = o->region0; r <= last; r++) {
        const ir_region *region = &f->regions.data[r];
        bool chosen = choice >= 0 && r == o->region0 + (uint32_t)choice;
        w->as[r] = choice < 0 ? r : chosen ? w->as[o->parent] : UINT32_MAX;
        for (uint32_t i = 0; i < region->nparam; i++) w->home[region->param0 + i] = r;
    }
    for (uint32_t k = 0; k < flow_carries(w, o); k++) {
        ir_ref v = w->same[ir_op_in(f, o, k).i];
        if (ir_op_in(f, yield, k).i != f->regions.data[last].param0 + step + k) continue;
        w->same[o->out0 + k] = v;
        for (uint32_t r = o->region0; r <= last; r++) {
            uint32_t p = f->regions.data[r].param0 + step + k;
            w->same[p] = v;
            w->home[p] = w->home[v.i];
        }
    }
}

/* The region that an op may be computed in. */
static uint32_t flow_target(const flow *w, const ir_op *o) {
    const ir_func *f = w->f;
    uint32_t r = w->as[o->parent];
    if (o->code == OP_yield || o->nregion || ir_op_tab[o->code].effect) return r;
    for (;; r = w->as[f->ops.data[f->regions.data[r].op].parent]) {
        ir_opcode in = r ? (ir_opcode)f->ops.data[f->regions.data[r].op].code : OP_if;
        bool free = in == OP_scan || in == OP_while;
        for (uint32_t k = 0; k < o->nin && free; k++)
            free = w->home[w->same[ir_op_in(f, o, k).i].i] != r;
        if (!free) return r;
    }
}

static void flow_fill_known(flow *w) {
    const ir_func *f = w->f;
    for (uint32_t v = 0; v < f->values.n; v++) w->same[v] = (ir_ref){v};
    for (uint32_t i = 0; i < f->ops.n; i++) {
        const ir_op *o = &f->ops.data[i];
        if (w->as[o->parent] == UINT32_MAX) {
            for (uint32_t r = 0; r < o->nregion; r++) w->as[o->region0 + r] = UINT32_MAX;
            continue;
        }
        uint32_t home = flow_target(w, o);
        if (o->nregion) flow_enter(w, o);
        for (uint32_t k = 0; k < o->nout; k++) w->home[o->out0 + k] = home;
    }
}

/* --- What moves ------------------------------------------------------------------------------- */

static bool flow_is_dear(fuse_kind k) {
    return k == FUSE_MATH || k == FUSE_PICK || k == FUSE_REDUCE || k == FUSE_SCAN ||
           k == FUSE_CONTRACT || k == FUSE_PUT || k == FUSE_WHOLE;
}

static void flow_fill_moves(flow *w) {
    const ir_func *f = w->f;
    for (uint32_t i = f->ops.n; i-- > 0;) {
        const ir_op *o = &f->ops.data[i];
        const fuse_kind kind = fuse_kind_of((ir_opcode)o->code);
        if (w->as[o->parent] == UINT32_MAX || o->code == OP_return) continue;
        bool leaves = o->nout && !o->nregion && w->home[o->out0] != w->as[o->parent];
        bool map = kind == FUSE_MOVE || kind == FUSE_SPREAD || kind == FUSE_ALIAS;
        bool read = o->nout && w->read[o->out0];
        w->moves[i] = leaves && (flow_is_dear(kind) || w->wanted[o->out0] ||
                                 (read && ir_is_elementwise((ir_opcode)o->code)));
        bool reads = kind == FUSE_CONTRACT || kind == FUSE_WHOLE || (map && read);
        for (uint32_t k = 0; k < o->nin; k++) {
            uint32_t v = w->same[ir_op_in(f, o, k).i].i;
            w->wanted[v] |= w->moves[i];
            w->read[v] |= reads;
        }
    }
}

/* --- Emission --------------------------------------------------------------------------------- */

static void flow_emit(flow *w, uint32_t i) {
    const ir_func *f = w->f;
    const ir_op *o = &f->ops.data[i];
    for (uint32_t k = 0; k < o->nin; k++) {
        ir_ref v = ir_op_in(f, o, k);
        w->map[v.i] = w->map[w->same[v.i].i];
    }
    ir_copy_op(&w->b, f, i, w->map);
}

/* Before an op with regions begins: what moves from these to where it stands. */
static void flow_move(flow *w, uint32_t op) {
    const uint32_t here = w->as[w->f->ops.data[op].parent], end = ir_op_after(w->f, op);
    for (uint32_t i = op + 1; i < end && !w->b.error; i++)
        if (w->moves[i] && w->home[w->f->ops.data[i].out0] == here) flow_emit(w, i);
}

/* The yield of a branch that stands where its op stood. */
static void flow_yield_here(flow *w, const ir_op *y) {
    const ir_op *o = &w->f->ops.data[w->f->regions.data[y->parent].op];
    for (uint32_t k = 0; k < y->nin; k++)
        w->map[o->out0 + k] = w->map[w->same[ir_op_in(w->f, y, k).i].i];
}

static void flow_op(flow *w, uint32_t i) {
    const ir_op *o = &w->f->ops.data[i];
    if (w->as[o->parent] == UINT32_MAX || w->moves[i]) return;
    if (flow_choice(w, o) >= 0) return;
    if (o->nregion) flow_move(w, i);
    if (o->code == OP_yield && w->as[o->parent] != o->parent)
        flow_yield_here(w, o);
    else
        flow_emit(w, i);
}

static ig_status flow_func(ir_module *out, const ir_func *f) {
    const ig_allocator *a = out->alloc;
    const size_t values = f->values.n, regions = f->regions.n;
    flow w = {.f = f, .map = NULL};
    w.same = rt_alloc(a, values * sizeof *w.same);
    w.home = rt_alloc_zero(a, values * sizeof *w.home);
    w.as = rt_alloc_zero(a, regions * sizeof *w.as);
    w.wanted = rt_alloc_zero(a, values);
    w.read = rt_alloc_zero(a, values);
    w.moves = rt_alloc_zero(a, f->ops.n);
    w.map = pass_begin(&w.b, out, f, IR_BUILD_OPT);
    if (w.same && w.home && w.as && w.wanted && w.read && w.moves) {
        flow_fill_known(&w);
        flow_fill_moves(&w);
    } else {
        ir_build_error(&w.b, rt_fail_memory());
    }
    const ir_op *ret = ir_return_op(f);
    for (uint32_t i = 0; i + 1 < f->ops.n && !w.b.error; i++) flow_op(&w, i);
    for (uint32_t k = 0; k < ret->nin && !w.b.error; k++)
        w.map[ir_op_in(f, ret, k).i] = w.map[w.same[ir_op_in(f, ret, k).i].i];
    rt_free(a, w.same, values * sizeof *w.same);
    rt_free(a, w.home, values * sizeof *w.home);
    rt_free(a, w.as, regions * sizeof *w.as);
    rt_free(a, w.wanted, values);
    rt_free(a, w.read, values);
    rt_free(a, w.moves, f->ops.n);
    return pass_end(&w.b, f, w.map);
}

ig_status pass_run_flow(const ir_module *in, ir_module *out) {
    for (uint32_t i = 0; i < in->funcs.n; i++) {
        const ir_func *f = in->funcs.data[i];
        RT_TRY(f->kind == IR_FN ? flow_func(out, f) : pass_copy_func(out, f));
    }
    return NULL;
}
