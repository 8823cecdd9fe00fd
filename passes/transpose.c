/* transpose.c - the `tr` column: what reaches the operands of a linear op when something arrives at
 * its result, and the walker that goes backwards.
 *
 * A linear op is y = A x, where A may depend on operands that are not linear (a factor, a
 * condition, an index); its rule emits A^T ^y for every linear operand.  An op that is linear in
 * one or another of its operands (mul) has just one linear operand here; one that is linear in
 * several together (add, concat) may have constants, then zero, in the place of some.
 *
 * Reductions that a transpose needs have the canonical orders of reduce and ein; the variables that
 * a contraction sums over are listed in the order of their first appearance among its operands,
 * the cotangent standing in the place of the operand (numerics rule 6). */
#include "passes/tr.h"
#include <string.h>

#define B(op, ...)     EMIT(c->b, op, __VA_ARGS__)
#define BA(op, a, ...) EMIT_AS(c->b, op, a, __VA_ARGS__)

static bool tr_is_linear(const tr_call *c, int k) { return !c->x[k].i; }

/* Whether the op is linear in operand k, and then dx[k] is v. */
#define TR(k, v) \
    if (tr_is_linear(c, k)) c->dx[k] = (v)

/* --- Elementwise ---------------------------------------------------------------------------- */

static void tr_neg(tr_call *c) { c->dx[0] = B(neg, c->ct[0]); }
static void tr_barrier(tr_call *c) { c->dx[0] = B(barrier, c->ct[0]); }
static void tr_div(tr_call *c) { c->dx[0] = B(div, c->ct[0], c->x[1]); }

static void tr_add(tr_call *c) {
    TR(0, c->ct[0]);
    TR(1, c->ct[0]);
}

static void tr_sub(tr_call *c) {
    TR(0, c->ct[0]);
    TR(1, B(neg, c->ct[0]));
}

static void tr_mul(tr_call *c) {
    TR(0, B(mul, c->ct[0], c->x[1]));
    TR(1, B(mul, c->ct[0], c->x[0]));
}

static void tr_fma(tr_call *c) {
    TR(0, B(mul, c->ct[0], c->x[1]));
    TR(1, B(mul, c->ct[0], c->x[0]));
    TR(2, c->ct[0]);
}

static void tr_select(tr_call *c) {
    ir_ref zero = emit_fill(c->b, &c->type[1], 0);
    TR(1, B(select, c->x[0], c->ct[0], zero));
    TR(2, B(select, c->x[0], zero, c->ct[0]));
}

static void tr_convert(tr_call *c) {
    c->dx[0] = BA(convert, &(ir_attr_dtype){.dtype = c->type[0].dtype}, c->ct[0]);
}

/* --- Movement ------------------------------------------------------------------------------- */

static ir_ref tr_reshape_to(tr_call *c, ir_ref x, const ir_type *type) {
    ir_attr_dims a = {.dims = emit_dims(type)};
    return BA(reshape, &a, x);
}

static void tr_reshape(tr_call *c) { c->dx[0] = tr_reshape_to(c, c->ct[0], &c->type[0]); }

static void tr_transpose(tr_call *c) {
    const ir_attr_perm *a = c->attr;
    ir_attr_perm back = {.perm = {.n = a->perm.n}};
    for (int i = 0; i < a->perm.n; i++) back.perm.a[a->perm.a[i]] = (uint8_t)i;
    c->dx[0] = BA(transpose, &back, c->ct[0]);
}

static ir_ref tr_sum(tr_call *c, ir_ref x, const ir_axes *axes) {
    ir_attr_reduce a = {.op = IR_redop_sum, .axes = *axes};
    return axes->n ? BA(reduce, &a, x) : x;
}

/* Sum over the axes that are new or were stretched from 1. */
static void tr_broadcast(tr_call *c) {
    const ir_attr_bcast *a = c->attr;
    const ir_type *x = &c->type[0];
    ir_axes kept = {0};
    for (int i = 0; i < x->rank; i++)
        if (x->dim[i] == a->dims.d[a->axes.a[i]]) kept.a[kept.n++] = a->axes.a[i];
    ir_axes sum = emit_other_axes(&kept, a->dims.n);
    ir_ref t = tr_sum(c, c->ct[0], &sum);
    c->dx[0] = kept.n < x->rank ? tr_reshape_to(c, t, x) : t;
}

static void tr_slice(tr_call *c) {
    const ir_attr_slice *a = c->attr;
    const ir_type *x = &c->type[0];
    ir_type y = ir_type_of(c->b, c->ct[0]);
    ir_attr_pad pad = {.lo = a->lo, .hi = {.n = x->rank}, .interior = a->step};
    for (int i = 0; i < x->rank; i++) {
        pad.interior.v[i]--;
        ir_dim used = ir_dim_spread(c->b->m, y.dim[i], pad.interior.v[i]);
        pad.hi.d[i] = ir_dim_sub(c->b->m, ir_dim_sub(c->b->m, x->dim[i], a->lo.d[i]), used);
    }
    c->dx[0] = BA(pad, &pad, c->ct[0], emit_scalar(c->b, x, 0));
}

static void tr_pad(tr_call *c) {
    const ir_attr_pad *a = c->attr;
    const ir_type *x = &c->type[0];
    ir_type y = ir_type_of(c->b, c->ct[0]);
    ir_dims hi = {.n = x->rank};
    ir_ints step = a->interior;
    ir_axes all = emit_other_axes(&(ir_axes){0}, x->rank);
    for (int i = 0; i < x->rank; i++) {
        hi.d[i] = ir_dim_sub(c->b->m, y.dim[i], a->hi.d[i]);
        step.v[i]++;
    }
    TR(0, emit_slice(c->b, c->ct[0], &a->lo, &hi, &step));
    if (!tr_is_linear(c, 1)) return;
    ir_ref mask = emit_pad_mask(c->b, a, x), zero = emit_fill(c->b, &y, 0);
    c->dx[1] = tr_sum(c, B(select, mask, c->ct[0], zero), &all);
}

static void tr_concat(tr_call *c) {
    const int axis = (int)((const ir_attr_axis *)c->attr)->axis;
    ir_type y = ir_type_of(c->b, c->ct[0]);
    ir_dims lo = {.n = y.rank}, hi = emit_dims(&y);
    ir_dim at = 0;
    for (int k = 0; k < c->nin; k++) {
        lo.d[axis] = at;
        hi.d[axis] = at = ir_dim_add(c->b->m, at, c->type[k].dim[axis]);
        TR(k, emit_slice(c->b, c->ct[0], &lo, &hi, NULL));
    }
}

static void tr_reverse(tr_call *c) { c->dx[0] = BA(reverse, c->attr, c->ct[0]); }

/* dslice or dupdate with the starts c->x[first..] of the op. */
static ir_ref tr_window(tr_call *c, ir_opcode op, const void *attr, int n, const ir_ref *x,
                        int first) {
    ir_ref in[IG_MAX_RANK + 2];
    int rank = c->nin - first;
    memcpy(in, x, (size_t)n * sizeof *in);
    memcpy(in + n, c->x + first, (size_t)rank * sizeof *in);
    return ir_emit(c->b, op, attr, n + rank, in);
}

static void tr_dslice(tr_call *c) {
    ir_attr_dupd set = {.op = IR_setop_set};
    ir_ref in[2] = {emit_fill(c->b, &c->type[0], 0), c->ct[0]};
    c->dx[0] = tr_window(c, OP_dupdate, &set, 2, in, 1);
}

static void tr_dupdate(tr_call *c) {
    const ir_attr_dupd *a = c->attr;
    ir_attr_dims window = {.dims = emit_dims(&c->type[1])};
    if (tr_is_linear(c, 0) && a->op == IR_setop_set) {
        ir_ref in[2] = {c->ct[0], emit_fill(c->b, &c->type[1], 0)};
        c->dx[0] = tr_window(c, OP_dupdate, a, 2, in, 2);
    } else {
        TR(0, c->ct[0]);
    }
    TR(1, tr_window(c, OP_dslice, &window, 1, c->ct, 2));
}

/* What was read at indices goes back there; what was read out of range goes nowhere. */
static void tr_gather(tr_call *c) {
    const ir_attr_gather *a = c->attr;
    ir_attr_scatter add = {.op = IR_putop_add,
                           .axes = a->axes,
                           .batch = a->batch,
                           .oob = a->oob == IR_oob_fill ? IR_oob_drop : IR_oob_clamp};
    ir_ref in[IG_MAX_RANK + 2] = {emit_fill(c->b, &c->type[0], 0), c->ct[0]};
    memcpy(in + 2, c->x + 1, (size_t)(c->nin - 1) * sizeof *in);
    c->dx[0] = ir_emit(c->b, OP_scatter, &add, c->nin + 1, in);
}

/* Of what derivatives emit: updates that are added. */
static void tr_scatter(tr_call *c) {
    const ir_attr_scatter *a = c->attr;
    ir_attr_gather get = {.axes = a->axes,
                          .batch = a->batch,
                          .oob = a->oob == IR_oob_drop ? IR_oob_fill : IR_oob_clamp};
    ir_ref in[IG_MAX_RANK + 1] = {c->ct[0]};
    memcpy(in + 1, c->x + 2, (size_t)(c->nin - 2) * sizeof *in);
    TR(0, c->ct[0]);
    TR(1, ir_emit(c->b, OP_gather, &get, c->nin - 1, in));
}

/* --- Reductions and contractions, all of them sums ------------------------------------------ */

static void tr_reduce(tr_call *c) {
    c->dx[0] = emit_repeat(c->b, c->ct[0], &c->type[0], &((const ir_attr_reduce *)c->attr)->axes);
}

static void tr_cumred(tr_call *c) {
    ir_attr_cumred a = *(const ir_attr_cumred *)c->attr;
    a.reverse = !a.reverse;
    c->dx[0] = BA(cumred, &a, c->ct[0]);
}

/* Constraints stay as they are: the same tuples, summed by other variables. */
static void tr_relation(tr_call *c, int k) {
    ir_attr_ein a = *(const ir_attr_ein *)c->attr;
    ir_ref x[IR_EIN_OPERANDS];
    for (int i = 0; i < c->nin; i++) x[i] = i == k ? c->ct[0] : c->x[i];
    ir_ein_swap(&a.rel, k, &c->type[k]);
    c->dx[k] = ir_emit(c->b, OP_ein, &a, c->nin, x);
}

/* The cotangent takes the operand's place and the operand that of the result.  What only the
 * operand had is repeated. */
static void tr_ein(tr_call *c) {
    const ir_rel *r = &((const ir_attr_ein *)c->attr)->rel;
    ir_ref x[IR_EIN_OPERANDS];
    ir_axes in[IR_EIN_OPERANDS], out = {0}, alone = {0};
    unsigned have = 0;
    int k = 0;
    while (!tr_is_linear(c, k)) k++;
    if (!ir_ein_is_plain(r)) {
        tr_relation(c, k);
        return;
    }
    for (int i = 0; i < c->nin; i++) {
        x[i] = i == k ? c->ct[0] : c->x[i];
        in[i] = i == k ? r->out : r->in[i];
        for (int v = 0; v < in[i].n; v++) have |= 1u << in[i].a[v];
    }
    for (int i = 0; i < r->in[k].n; i++) {
        unsigned v = r->in[k].a[i];
        if (have >> v & 1)
            out.a[out.n++] = (uint8_t)v;
        else
            alone.a[alone.n++] = (uint8_t)i;
    }
    c->dx[k] = emit_repeat(c->b, emit_contract(c->b, &out, c->nin, in, x), &c->type[k], &alone);
}

/* --- Control flow: tr_flow.c ---------------------------------------------------------------- */

static void tr_pull(tr_call *c) { pass_tr_pull(c); }
static void tr_if(tr_call *c) { pass_tr_begin(c->walk, c->o); }
static void tr_scan(tr_call *c) { pass_tr_begin(c->walk, c->o); }

/* --- The table ------------------------------------------------------------------------------ */

typedef void (*tr_rule)(tr_call *c);
#define tr__ NULL
static const tr_rule tr_tab[OP_END] = {
#define F(...)
#define R(fold, ref, lower, lin, tr, batch)                       tr_##tr
#define OP(name, ver, n, level, attr, type, domain, flags, rules) [OP_##name] = rules,
#include "ir/ops.def"
#undef OP
#undef R
#undef F
};

/* --- The walker ----------------------------------------------------------------------------- */

/* Add what reached the operands to what did before. */
static void tr_accumulate(tr_walk *w, const ir_op *o, const ir_ref *dx) {
    for (uint32_t k = 0; k < o->nin; k++) {
        ir_ref d = dx[k];
        if (PASS_PLANTED(tr, o->code) && d.i) d = EMIT(w->b, neg, d);
        pass_tr_add(w, ir_op_in(w->f, o, k), d);
    }
}

static void tr_op(tr_walk *w, const ir_op *o) {
    const ig_allocator *a = w->b->m->alloc;
    bool reached = false;
    for (uint32_t k = 0; k < o->nout; k++) reached |= w->ct[o->out0 + k].i != 0;
    if (!reached) return;
    if (!rt_vec_reserve(a, &w->types, (uint32_t)o->nin) ||
        !rt_vec_reserve(a, &w->room, 2u * o->nin) || !tr_tab[o->code]) {
        ir_build_error(w->b, tr_tab[o->code] ? rt_fail_memory()
                                             : rt_fail(a, IG_INTERNAL, "%s has no transpose rule",
                                                       ir_op_tab[o->code].name));
        return;
    }
    ir_ref *x = w->room.data, *dx = x + o->nin;
    for (uint32_t k = 0; k < o->nin; k++) {
        ir_ref in = ir_op_in(w->f, o, k);
        x[k] = w->of[in.i].i ? w->again[w->of[in.i].i] : (ir_ref){0};
        dx[k] = (ir_ref){0};
        w->types.data[k] = *ir_val_type(w->f, in);
    }
    tr_call c = {.walk = w,
                 .b = w->b,
                 .f = w->f,
                 .o = o,
                 .attr = ir_attr_get(w->f->module, o->attr),
                 .nin = o->nin,
                 .x = x,
                 .type = w->types.data,
                 .ct = &w->ct[o->out0],
                 .dx = dx};
    w->b->loc = o->loc;
    tr_tab[o->code](&c);
    if (!o->nregion) tr_accumulate(w, o, dx);
}

/* Regions are met at their ends: op number i - 1 is next.  Gives the number of ops still to walk.
 */
static uint32_t tr_step(tr_walk *w, uint32_t i) {
    const ir_op *o = &w->f->ops.data[--i];
    if (o->code == OP_yield) {
        uint32_t owner = w->f->regions.data[o->parent].op, open = w->open.n;
        tr_op(w, &w->f->ops.data[owner]);
        bool reached = w->open.n > open; /* else all of it is behind us */
        i = reached ? w->f->regions.data[w->open.data[open].region].end - 1 : owner;
    } else {
        tr_op(w, o);
    }
    while (w->open.n && !w->b->error) {
        const tr_open *top = &w->open.data[w->open.n - 1];
        uint32_t depth = w->open.n;
        if (i != w->f->regions.data[top->region].first) break;
        uint32_t owner = w->f->regions.data[top->region].op;
        pass_tr_leave(w);
        i = w->open.n < depth ? owner : w->f->regions.data[w->open.data[depth - 1].region].end - 1;
    }
    return i;
}

/* A list of P, which goes on growing, as it is now. */
#define TR_COPY(field)                                                                             \
    (w->primal.field.cap = w->primal.field.n, w->primal.field.data = NULL,                         \
     (w->primal.field.data = rt_alloc(a, (size_t)p->field.n * sizeof *p->field.data)) != NULL &&   \
         (memcpy(w->primal.field.data, p->field.data, (size_t)p->field.n * sizeof *p->field.data), \
          true))

static bool tr_copy_primal(tr_walk *w, const ir_func *p) {
    const ig_allocator *a = w->b->m->alloc;
    w->primal = *p;
    bool ok = TR_COPY(values) & TR_COPY(regions);
    w->primal.ops.data = NULL;
    w->primal.operands.data = NULL;
    if (p->ops.n) ok &= TR_COPY(ops);
    if (p->operands.n) ok &= TR_COPY(operands);
    return ok;
}

static bool tr_begin(tr_walk *w) {
    const ig_allocator *a = w->b->m->alloc;
    size_t n = w->f->values.n;
    bool ok = tr_copy_primal(w, w->b->f);
    w->reached = rt_alloc_zero(a, n);
    w->of = rt_alloc_zero(a, n * sizeof *w->of);
    w->again = rt_alloc_zero(a, w->primal.values.n * sizeof *w->again);
    if (!ok || !w->reached || !w->of || !w->again) return false;
    for (uint32_t i = 0; i < w->tape->pairs.n; i++)
        w->of[w->tape->pairs.data[i].t.i] = w->tape->pairs.data[i].p;
    for (uint32_t v = 1; v < w->primal.values.n; v++)
        if (!ir_home(&w->primal, (ir_ref){v})) w->again[v] = (ir_ref){v};
    pass_tr_reach(w);
    return true;
}

static void tr_free(tr_walk *w) {
    const ig_allocator *a = w->b->m->alloc;
    size_t n = w->f->values.n;
    rt_free(a, w->reached, n);
    rt_free(a, w->of, n * sizeof *w->of);
    rt_free(a, w->again, w->primal.values.n * sizeof *w->again);
    rt_vec_free(a, &w->primal.ops);
    rt_vec_free(a, &w->primal.values);
    rt_vec_free(a, &w->primal.operands);
    rt_vec_free(a, &w->primal.regions);
    rt_vec_free(a, &w->types);
    rt_vec_free(a, &w->room);
    rt_vec_free(a, &w->outer);
    rt_vec_free(a, &w->open);
    rt_vec_free(a, &w->list);
}

void pass_transpose(ir_builder *b, const ir_func *t, const lin_tape *tape, ir_ref *ct) {
    tr_walk w = {.b = b, .f = t, .tape = tape, .ct = ct};
    if (!tr_begin(&w)) ir_build_error(b, rt_fail_memory());
    for (uint32_t i = t->ops.n; i > 0 && !b->error;) i = tr_step(&w, i);
    tr_free(&w);
}
