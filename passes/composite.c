/* composite.c - functions with derivatives of their own.
 *
 * A `composite` holds a body and a rule.  Who computes takes the body: the pass expand puts it in
 * the place of the op.  Who derives takes the rule, and leaves the op itself where it was: so a
 * derivative of the derivative meets the rule again.
 *
 *   lin   the rule is walked in the place of the body, as ops of the function itself, with x' for
 *         the tangents that its last parameters stand for.  Their values are never needed, as the
 *         rule is linear in them: they are zeros.
 *   vjp   forward mode has nothing to say.  In reverse mode the linear half gets a `pull`, whose
 *         transpose is the rule.
 *
 * Tangents come in by operands alone: a body or rule that uses a value from outside which has one
 * is refused, as its part of the derivative would be lost. */
#include "passes/lin.h"
#include "passes/pass.h"
#include "passes/tr.h"

ig_status pass_run_expand(const ir_module *in, ir_module *out);

static const ir_region *composite_region(const ir_func *f, const ir_op *o, uint32_t k) {
    return &f->regions.data[o->region0 + k];
}

static bool composite_is_float(const ir_func *f, ir_ref v) {
    return rt_is_float((ig_dtype)ir_val_type(f, v)->dtype);
}

static bool composite_is_lin(const ir_func *f, const ir_op *o) {
    const ir_attr_composite *a = ir_attr_get(f->module, o->attr);
    return a->rule == IR_rule_lin;
}

/* The parameter of a rule of kind lin that is the tangent of operand k. */
static uint32_t composite_tangent(const ir_func *f, const ir_op *o, uint32_t k) {
    uint32_t at = composite_region(f, o, 1)->param0 + o->nin + o->nout;
    for (uint32_t i = 0; i < k; i++) at += composite_is_float(f, ir_op_in(f, o, i));
    return at;
}

/* --- Expanding ------------------------------------------------------------------------------ */

static ig_status expand_func(ir_module *out, const ir_func *f) {
    ir_builder b;
    ir_ref *map = pass_begin(&b, out, f, IR_BUILD_RAW);
    uint32_t end = f->regions.data[0].end - 1;
    for (uint32_t i = 0; map && !b.error && i < end; i++) {
        const ir_op *o = &f->ops.data[i];
        const ir_op *owner = o->code == OP_yield ? &f->ops.data[f->regions.data[o->parent].op] : o;
        if (owner->code != OP_composite) {
            ir_copy_op(&b, f, i, map);
        } else if (o == owner) {
            uint32_t param0 = composite_region(f, o, 0)->param0;
            for (uint32_t k = 0; k < o->nin; k++) map[param0 + k] = map[ir_op_in(f, o, k).i];
        } else { /* its body ends here; the rule is left out */
            for (uint32_t k = 0; k < o->nin; k++) map[owner->out0 + k] = map[ir_op_in(f, o, k).i];
            i = composite_region(f, owner, 1)->end - 1;
        }
    }
    return pass_end(&b, f, map);
}

ig_status pass_run_expand(const ir_module *in, ir_module *out) {
    for (uint32_t i = 0; i < in->funcs.n; i++) RT_TRY(expand_func(out, in->funcs.data[i]));
    return NULL;
}

/* --- Which values have a tangent ------------------------------------------------------------ */

static bool composite_spread(lin_walk *w, ir_ref from, uint32_t to) {
    if (!w->active[from.i] || w->active[to] || !composite_is_float(w->c.f, (ir_ref){to}))
        return false;
    w->active[to] = true;
    return true;
}

bool pass_lin_spread_rule(lin_walk *w, const ir_op *o, const ir_op *yield) {
    const ir_func *f = w->c.f;
    bool more = false, lin = composite_is_lin(f, o);
    if (!yield && lin) {
        for (uint32_t k = 0; k < o->nin; k++)
            if (composite_is_float(f, ir_op_in(f, o, k)))
                more |= composite_spread(w, ir_op_in(f, o, k), composite_tangent(f, o, k));
    } else if (!yield) {
        for (uint32_t k = 0; k < o->nin; k++)
            for (uint32_t i = 0; i < o->nout; i++)
                more |= composite_spread(w, ir_op_in(f, o, k), o->out0 + i);
    } else if (lin && yield->parent == o->region0 + 1) {
        for (uint32_t i = 0, k = 0; i < o->nout; i++)
            if (composite_is_float(f, ir_op_out(o, i)))
                more |= composite_spread(w, ir_op_in(f, yield, k++), o->out0 + i);
    }
    return more;
}

/* --- Linearizing ---------------------------------------------------------------------------- */

static ig_status composite_name(ig_status s, const ir_func *f, const ir_op *o) {
    const ir_attr_composite *a = ir_attr_get(f->module, o->attr);
    return rt_status_op(s, a->name ? a->name : ir_op_tab[OP_composite].name);
}

/* Whether a composite uses no value from outside that has a tangent, but by its operands. */
static bool composite_is_closed(lin_walk *w, const ir_op *o) {
    const ir_func *f = w->c.f;
    uint32_t from = (uint32_t)(o - f->ops.data), first = composite_region(f, o, 0)->param0;
    for (uint32_t i = from + 1; i < ir_op_after(f, from); i++) {
        const ir_op *x = &f->ops.data[i];
        bool open = x->code == OP_weight && w->tangent[x->out0].i;
        for (uint32_t k = 0; k < x->nin; k++)
            open |= ir_op_in(f, x, k).i < first && w->active[ir_op_in(f, x, k).i];
        if (!open) continue;
        w->c.p->loc = emit_loc(w->c.p->m, f, x);
        ir_build_error(w->c.p, composite_name(rt_fail(w->c.p->m->alloc, IG_INVALID,
                                                      "the function uses a value from outside that "
                                                      "has a derivative: pass it as an argument"),
                                              f, o));
        return false;
    }
    return true;
}

/* The values from outside that the rule uses, each once, in the order of use; how many. */
static uint32_t composite_captures(const ir_func *f, const ir_op *o, ir_ref *list_, uint32_t room) {
    const ir_region *r = composite_region(f, o, 1);
    uint32_t n = 0;
    for (uint32_t i = r->first; i < r->end; i++)
        for (uint32_t k = 0; k < f->ops.data[i].nin; k++) {
            ir_ref v = ir_op_in(f, &f->ops.data[i], k);
            bool known = v.i >= composite_region(f, o, 0)->param0;
            for (uint32_t j = 0; j < n && !known; j++) known = list_[j].i == v.i;
            if (!known && n < room) list_[n++] = v;
        }
    return n;
}

/* The linear half of a vjp. */
static void composite_pull(lin_walk *w, uint32_t op) {
    const ir_func *f = w->c.f;
    const ir_op *o = &f->ops.data[op];
    ir_attr_pull a = {.op = op, .nx = o->nin, .ny = o->nout};
    ir_ref in[4 * IR_MAX_RESULTS], used[IR_MAX_RESULTS];
    int n = 0;
    for (uint32_t k = 0; k < o->nin; k++)
        in[n++] = pass_lin_residual(&w->c, w->primal[ir_op_in(f, o, k).i]);
    for (uint32_t k = 0; k < o->nout; k++)
        in[n++] = pass_lin_residual(&w->c, w->primal[o->out0 + k]);
    uint32_t more = composite_captures(f, o, used, IR_MAX_RESULTS);
    for (uint32_t k = 0; k < more; k++) in[n++] = pass_lin_residual(&w->c, w->primal[used[k].i]);
    for (uint32_t k = 0; k < o->nin && !w->c.p->error; k++) {
        ir_ref x = ir_op_in(f, o, k);
        ir_type t = ir_type_of(w->c.p, w->primal[x.i]);
        if (!composite_is_float(f, x)) continue;
        in[n++] = w->tangent[x.i].i ? w->tangent[x.i]
                                    : pass_lin_residual(&w->c, emit_fill(w->c.p, &t, 0));
    }
    ir_ref dy = w->c.p->error ? (ir_ref){0} : ir_emit(w->c.t, OP_pull, &a, n, in);
    for (uint32_t k = 0, i = 0; k < o->nout; k++) {
        if (!composite_is_float(f, ir_op_out(o, k))) continue;
        ir_ref t = ir_result(dy, i++);
        if (PASS_PLANTED(lin, OP_composite) && t.i) t = EMIT(w->c.t, neg, t);
        w->tangent[o->out0 + k] = t;
    }
}

/* Enter the parameters of a rule of kind lin, which is walked next. */
static void composite_enter(lin_walk *w, const ir_op *o) {
    const ir_func *f = w->c.f;
    uint32_t param0 = composite_region(f, o, 1)->param0;
    for (uint32_t v = param0; v < o->out0; v++) w->primal[v] = (ir_ref){0}; /* those of the copy */
    for (uint32_t k = 0; k < o->nin; k++) w->primal[param0 + k] = w->primal[ir_op_in(f, o, k).i];
    for (uint32_t k = 0; k < o->nout; k++) w->primal[param0 + o->nin + k] = w->primal[o->out0 + k];
    for (uint32_t k = 0; k < o->nin && !w->c.p->error; k++) {
        ir_ref x = ir_op_in(f, o, k);
        if (!composite_is_float(f, x)) continue;
        ir_type t = ir_type_of(w->c.p, w->primal[x.i]);
        uint32_t at = composite_tangent(f, o, k);
        w->primal[at] = emit_fill(w->c.p, &t, 0);
        w->tangent[at] = w->tangent[x.i];
    }
}

uint32_t pass_lin_composite(lin_walk *w, uint32_t i) {
    const ir_func *f = w->c.f;
    const ir_op *o = &f->ops.data[i];
    uint32_t end = ir_op_after(f, i);
    bool active = false;
    if (!w->primal[o->out0].i)
        for (uint32_t k = i; k < end && !w->c.p->error; k++) ir_copy_op(w->c.p, f, k, w->primal);
    for (uint32_t k = 0; k < o->nout; k++) active |= w->active[o->out0 + k];
    if (!active || pass_lin_is_quiet(w) || w->c.p->error || !composite_is_closed(w, o)) return end;
    if (composite_is_lin(f, o)) {
        composite_enter(w, o);
        return composite_region(f, o, 1)->first;
    }
    if (w->c.p != w->c.t)
        composite_pull(w, i);
    else
        ir_build_error(w->c.p, composite_name(rt_fail(w->c.p->m->alloc, IG_UNSUPPORTED,
                                                      "its derivative is a vjp rule, which forward "
                                                      "mode cannot use: give it a lin rule"),
                                              f, o));
    return end;
}

bool pass_lin_rule_end(lin_walk *w, const ir_op *yield) {
    const ir_func *f = w->c.f;
    const ir_op *o = &f->ops.data[f->regions.data[yield->parent].op];
    if (o->code != OP_composite) return false;
    for (uint32_t k = 0, i = 0; k < o->nout; k++) {
        if (!composite_is_float(f, ir_op_out(o, k))) continue;
        ir_ref t = w->tangent[ir_op_in(f, yield, i++).i];
        if (PASS_PLANTED(lin, OP_composite) && t.i) t = EMIT(w->c.t, neg, t);
        w->tangent[o->out0 + k] = t;
    }
    return true;
}

/* --- Transposing ---------------------------------------------------------------------------- */

void pass_tr_pull(tr_call *c) {
    const ir_func *f = c->walk->tape->source;
    const ir_attr_pull *a = c->attr;
    const ir_op *o = &f->ops.data[a->op];
    const ir_region *r = composite_region(f, o, 1);
    size_t bytes = f->values.n * sizeof(ir_ref);
    ir_ref used[IR_MAX_RESULTS], *map = rt_alloc_zero(c->b->m->alloc, bytes);
    uint32_t given = o->nin + o->nout, n = composite_captures(f, o, used, IR_MAX_RESULTS);
    if (!map) {
        ir_build_error(c->b, rt_fail_memory());
        return;
    }
    for (uint32_t k = 0; k < given; k++) map[r->param0 + k] = c->x[k];
    for (uint32_t k = 0; k < n; k++) map[used[k].i] = c->x[given + k];
    for (uint32_t k = given; k < r->nparam && !c->b->error; k++) {
        ir_ref ct = c->ct[k - given], p = {r->param0 + k};
        ir_type t = ir_import_type(c->b->m, f->module, *ir_val_type(f, p));
        map[p.i] = ct.i ? ct : emit_fill(c->b, &t, 0);
    }
    for (uint32_t i = r->first; i + 1 < r->end && !c->b->error; i++) ir_copy_op(c->b, f, i, map);
    const ir_op *yield = &f->ops.data[r->end - 1];
    for (uint32_t k = 0; k < yield->nin; k++) c->dx[given + n + k] = map[ir_op_in(f, yield, k).i];
    rt_free(c->b->m->alloc, map, bytes);
}
