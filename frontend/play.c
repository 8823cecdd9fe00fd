/* play.c - a function of the IR as a sequence of eager calls.
 *
 * What a recording is made of are eager calls, so a module that is called while one is under way
 * must become such calls: its ops then stand in the recording as if the user had written them, with
 * the dims of the recording in the place of the module's own.  Outside of a recording it is the way
 * to run a function once, without compiling it, on the kernels that are built in.
 *
 * A value goes when its last reader has run.  A composite is recorded as one; where nothing is
 * recorded its body is all there is of it. */
#include "frontend/fe.h"
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
    for (uint32_t k = 0; k < o->nin; k++) p->in[k] = p->value[ir_op_in(p->f, o, k).i];
    if (o->nout != 1) return fe_ops(c, (ir_opcode)o->code, &attr, o->nin, p->in, o->nout, out);
    return !fe_is_poison(*out = fe_op(c, (ir_opcode)o->code, &attr, o->nin, p->in));
}

/* One reader of the operands is done. */
static void play_consume(play *p, const ir_op *o) {
    for (uint32_t k = 0; k < o->nin; k++) {
        ir_ref v = ir_op_in(p->f, o, k);
        if (--p->uses[v.i] || p->f->values.data[v.i].is_param) continue;
        ig_free(p->value[v.i]);
        p->value[v.i] = NULL;
    }
}

/* --- Composites ---------------------------------------------------------------------------- */

/* Begin region r of a composite: each parameter is like an operand or result of it, which is there
 * (of results, as the body has given them). */
static bool play_enter(play *p, const ir_op *o, uint32_t r) {
    const ir_func *f = p->f;
    const ir_region *region = &f->regions.data[o->region0 + r];
    const ir_attr_composite *a = ir_attr_get(f->module, o->attr);
    ir_type type[3 * IR_MAX_RESULTS];
    uint32_t n = 0;
    for (uint32_t pass = 0; pass <= r; pass++)
        for (uint32_t k = 0; k < o->nin + (r ? o->nout : 0u); k++) {
            bool of_x = k < o->nin;
            ir_ref v = of_x ? ir_op_in(f, o, k) : ir_op_out(o, k - o->nin);
            ig_tensor *t = p->value[v.i], **param = &p->value[region->param0 + n];
            if (pass && (!rt_is_float((ig_dtype)t->dtype) || of_x != (a->rule == IR_rule_lin)))
                continue;
            type[n++] = *fe_rec_known(p->c->s->rec, t);
            if (fe_is_poison(*param = fe_alias(p->c, t, t->rank, t->dim))) return false;
        }
    return fe_rec_enter(p->c, (int)n, type, &p->value[region->param0]);
}

static bool play_begin(play *p, const ir_op *o) {
    fe_call *c = p->c;
    ir_attr_any attr;
    ir_type type;
    if (o->code != OP_composite)
        return fe_error(c, IG_UNSUPPORTED, "the op %s cannot run op by op",
                        ir_op_tab[o->code].name),
               false;
    ir_import_attr_by(fe_module(c), p->f->module, o->attr, p->dims, &attr);
    for (uint32_t k = 0; k < o->nin; k++) {
        p->in[k] = p->value[ir_op_in(p->f, o, k).i];
        if (!fe_rec_type(c, p->in[k], &type)) return false;
    }
    return fe_rec_begin(c, OP_composite, &attr, o->nin, p->in) && play_enter(p, o, 0);
}

/* A yield: of the body, or of the rule, which ends the op. */
static bool play_yield(play *p, const ir_op *y) {
    const ir_op *o = &p->f->ops.data[p->f->regions.data[y->parent].op];
    ig_tensor **out = &p->value[o->out0];
    ir_type type[IR_MAX_RESULTS];
    for (uint32_t k = 0; k < y->nin; k++) p->in[k] = p->value[ir_op_in(p->f, y, k).i];
    if (!fe_rec_yield(p->c, y->nin, p->in)) return false;
    if (y->parent == o->region0) {
        for (uint32_t k = 0; k < o->nout; k++) out[k] = p->in[k];
        return play_enter(p, o, 1);
    }
    for (uint32_t k = 0; k < o->nout; k++) {
        type[k] = *fe_rec_known(p->c->s->rec, out[k]);
        if (fe_is_poison(out[k] = fe_alias(p->c, out[k], out[k]->rank, out[k]->dim))) return false;
    }
    return fe_rec_end(p->c, o->nout, type, out);
}

/* --- All of it ------------------------------------------------------------------------------ */

static bool play_all(play *p, ig_tensor **out_) {
    const ir_func *f = p->f;
    const ir_op *ret = ir_return_op(f);
    for (const ir_op *o = f->ops.data; o != ret; o++) {
        bool ok = o->nregion              ? play_begin(p, o)
                  : o->code == OP_yield   ? play_yield(p, o)
                                          : play_op(p, o);
        if (!ok) return false;
        if (f->regions.n == 1) play_consume(p, o); /* values of regions have several names */
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
