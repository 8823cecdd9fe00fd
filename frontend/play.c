/* play.c - a function of the IR as a sequence of eager calls.
 *
 * What a recording is made of are eager calls, so a module that is called while one is under way
 * must become such calls: its ops then stand in the recording as if the user had written them, with
 * the dims of the recording in the place of the module's own.  Outside of a recording it is the way
 * to run a function once, without compiling it, on the kernels that are built in.
 *
 * A loop, branch or composite is one of eager code, whose bodies play its regions.  A value goes
 * when its last reader has run; in a region, when its turn is over. */
#include "frontend/flow.h"
#include "passes/pass.h"
#include <string.h>

typedef struct play {
    fe_call *c;
    const ir_func *f;
    const int64_t *symbols;
    const ir_dim *dims;
    ig_tensor **value; /* by value of f */
    uint32_t *uses;    /* readers left */
    ig_tensor **in;    /* operands of the widest op */
} play;

/* A weight is data that the caller does not know: a named leaf. */
static ig_tensor *play_weight(play *p, const char *name) {
    fe_call *c = p->c;
    const ir_weight *w = ir_find_weight(p->f->module, name);
    ig_tensor *t = fe_leaf(c, (ig_dtype)w->type.dtype, w->type.rank, w->type.dim, w->data);
    return fe_is_poison(t) ? t : ig_name(t, name);
}

static bool play_op(play *p, const ir_op *o);

/* A region as the body of a loop or branch; that of a scan gets the step last. */
typedef struct play_region {
    play *p;
    uint32_t region;
} play_region;

static void play_body(void *user, ig_tensor *const *in, ig_tensor **out_) {
    const play_region *b = user;
    play *p = b->p;
    const ir_region *r = &p->f->regions.data[b->region];
    const ir_op *ops = p->f->ops.data, *yield = &ops[r->end - 1];
    const uint32_t first = ops[r->op].code == OP_scan;
    fe_call turn, *outer = p->c;
    if (!fe_enter(&turn, outer->site, outer->op)) return;
    p->c = &turn;
    if (first) p->value[r->param0] = in[r->nparam - 1];
    for (uint32_t k = first; k < r->nparam; k++) p->value[r->param0 + k] = in[k - first];
    bool ok = true;
    for (uint32_t i = r->first; ok && i + 1 < r->end; i = ir_op_after(p->f, i))
        ok = play_op(p, &ops[i]);
    for (uint32_t k = 0; k < yield->nin; k++)
        out_[k] = ok ? fe_hand_out(&turn, p->value[ir_op_in(p->f, yield, k).i]) : NULL;
    p->c = outer;
    fe_exit(&turn);
}

/* Run a composite: where nothing is recorded its body is all there is of it. */
static bool play_composite(fe_call *c, const ir_attr_composite *a, play_region *region,
                           const ir_op *o, ig_tensor *const *in, ig_tensor **out) {
    fe_composite d = {.name = a->name, .fn = play_body, .fn_user = &region[0], .user = &region[1]};
    if (a->rule == IR_rule_lin)
        d.lin = play_body;
    else
        d.vjp = play_body;
    return fe_composite_run(c, &d, o->nin, in, o->nout, out);
}

/* Run an op with regions. */
static bool play_regions(play *p, const ir_op *o, const ir_attr_any *attr) {
    fe_call *c = p->c;
    ig_tensor *in[IR_MAX_RESULTS], **out = &p->value[o->out0];
    play_region region[IR_MAX_BRANCHES];
    fe_body body[IR_MAX_BRANCHES];
    for (uint32_t k = 0; k < o->nin; k++) in[k] = p->value[ir_op_in(p->f, o, k).i];
    for (uint32_t k = 0; k < o->nregion; k++) {
        region[k] = (play_region){p, o->region0 + k};
        body[k] = (fe_body){play_body, &region[k]};
    }
    switch (o->code) {
    case OP_if: return fe_if(c, in[0], &attr->a_regions, body, NULL, o->nout, out);
    case OP_while: return fe_while(c, body[0], body[1], o->nin, in, &attr->a_while, out);
    case OP_composite: return play_composite(c, &attr->a_composite, region, o, in, out);
    default: break;
    }
    int carries = (int)attr->a_scan.carries;
    return fe_scan(c, body[0], in, o->nin - carries, o->nout - carries, &attr->a_scan, out);
}

/* Run an op; false after an error. */
static bool play_op(play *p, const ir_op *o) {
    fe_call *c = p->c;
    const ir_module *m = p->f->module;
    const void *plain = ir_attr_get(m, o->attr);
    ir_attr_any attr = {{0}};
    ig_tensor **out = &p->value[o->out0];
    if (o->code == OP_weight)
        return !fe_is_poison(*out = play_weight(p, ((const ir_attr_sym *)plain)->name));
    if (c->s->rec)
        ir_import_attr_by(fe_module(c), m, o->attr, p->dims, &attr);
    else if (!fe_eval_attr(m, p->symbols, (ir_attr_kind)ir_op_tab[o->code].attr, plain, &attr))
        return fe_error(c, IG_RANGE, "a dim is too large or negative for these sizes"), false;
    if (o->nregion) return play_regions(p, o, &attr);
    for (uint32_t k = 0; k < o->nin; k++) p->in[k] = p->value[ir_op_in(p->f, o, k).i];
    if (o->nout != 1) return fe_ops(c, (ir_opcode)o->code, &attr, o->nin, p->in, o->nout, out);
    return !fe_is_poison(*out = fe_op(c, (ir_opcode)o->code, &attr, o->nin, p->in));
}

/* One reader of the operands is done, and with it what it has inside. */
static void play_consume(play *p, const ir_op *o) {
    const ir_op *end = p->f->ops.data + ir_op_after(p->f, (uint32_t)(o - p->f->ops.data));
    for (; o != end; o++)
        for (uint32_t k = 0; k < o->nin; k++) {
            ir_ref v = ir_op_in(p->f, o, k);
            if (--p->uses[v.i] || p->f->values.data[v.i].is_param || ir_home(p->f, v)) continue;
            ig_free(p->value[v.i]);
            p->value[v.i] = NULL;
        }
}

/* --- All of it ------------------------------------------------------------------------------ */

static bool play_all(play *p, ig_tensor **out_) {
    const ir_func *f = p->f;
    const ir_op *ret = ir_return_op(f);
    for (const ir_op *o = f->ops.data; o != ret;
         o = f->ops.data + ir_op_after(f, (uint32_t)(o - f->ops.data))) {
        if (!play_op(p, o)) return false;
        play_consume(p, o);
    }
    for (uint32_t k = 0; k < ret->nin; k++) out_[k] = p->value[ir_op_in(f, ret, k).i];
    return true;
}

static uint32_t play_widest(const ir_func *f) {
    uint32_t n = 1;
    for (uint32_t i = 0; i < f->ops.n; i++)
        if (f->ops.data[i].nin > n) n = f->ops.data[i].nin;
    return n;
}

static bool play_run(fe_call *c, const ir_func *f, const int64_t *symbols, const ir_dim *dims,
                     ig_tensor *const *in, ig_tensor **out_) {
    const ig_allocator *a = fe_alloc(c);
    size_t values = f->values.n * sizeof(ig_tensor *), widest = play_widest(f) * sizeof *in;
    play p = {.c = c, .f = f, .symbols = symbols, .dims = dims};
    p.value = rt_alloc_zero(a, values);
    p.in = rt_alloc(a, widest);
    p.uses = ir_count_uses(f, a);
    bool ok = p.value && p.in && p.uses;
    if (!ok) fe_error_memory(c);
    for (uint32_t k = 0; ok && k < ir_nparam(f); k++) p.value[ir_param_ref(f, k).i] = in[k];
    ok = ok && play_all(&p, out_);
    rt_free(a, p.value, values);
    rt_free(a, p.in, widest);
    rt_free(a, p.uses, f->values.n * sizeof *p.uses);
    return ok;
}

bool fe_play(fe_call *c, const ir_func *f, const int64_t *symbols, const ir_dim *dims,
             ig_tensor *const *in, ig_tensor **out_) {
    ir_module *plain;
    if (c->s->rec || f->regions.n == 1) return play_run(c, f, symbols, dims, in, out_);
    ig_status e = pass_run_list("expand", f->module, &plain);
    if (e) return fe_error_status(c, e), false;
    bool ok = play_run(c, ir_find_func(plain, f->name), symbols, dims, in, out_);
    ir_module_free(plain);
    return ok;
}
