/* derive.c - derivatives of modules: which values go in and come out of jvp, vjp and grad.
 *
 * Forward, one builder takes values and tangents; backward, tangent ops go to a builder of their
 * own, whose function is walked backwards into the first and then dropped.  Arguments and results
 * that are state of the module are neither differentiated nor moved: they stay the last.  An
 * argument without influence has a derivative of zeros, the only zeros that are made. */
#include "passes/derive.h"
#include "passes/walk.h"
#include <stdlib.h>
#include <string.h>

/* --- Modules on the way --------------------------------------------------------------------- */

ig_status pass_flatten(const ir_module *in, ir_module **out_) {
    const ir_func *f = ir_entry(in);
    ir_module *inlined = NULL;
    bool calls = false, refs = false;
    *out_ = NULL;
    if (!f) return rt_fail(in->alloc, IG_INVALID, "the module %s has no function", in->name);
    for (uint32_t i = 0; i < f->ops.n; i++) {
        calls |= f->ops.data[i].code == OP_call;
        refs |= f->ops.data[i].code == OP_ref;
    }
    if (calls || refs) { /* a callee may have refs, too */
        RT_TRY(pass_run_list("inline,discharge", in, &inlined));
        f = ir_find_func(inlined, f->name);
    }
    ig_status s = ir_module_shell(in, out_);
    if (!s) s = pass_copy_live(*out_, f);
    ir_module_free(inlined);
    if (!s) return NULL;
    ir_module_free(*out_);
    *out_ = NULL;
    return s;
}

ig_status pass_begin_more(const ir_module *flat, const char *word, pass_made *made_,
                          ir_builder *b) {
    rt_str name;
    *made_ = (pass_made){.word = word, .clock = pass_clock_start(flat)};
    RT_TRY(ir_module_shell(flat, &made_->m));
    rt_str_init(&name, flat->alloc);
    rt_str_printf(&name, "%s_%s", ir_entry(flat)->name, word);
    ir_build_begin(b, made_->m, rt_str_text(&name), IR_FN, IR_BUILD_RAW);
    if (name.failed) ir_build_error(b, rt_fail_memory());
    if (!b->error) made_->m->name = b->f->name;
    rt_str_free(&name);
    return NULL;
}

ig_status pass_finish(pass_made *made, ig_status s, ir_module **out_) {
    ir_module *out = NULL;
    *out_ = NULL;
    if (!s) s = ir_module_shell(made->m, &out);
    if (!s) s = pass_copy_live(out, ir_entry(made->m));
    ir_module_free(made->m);
    if (s) {
        ir_module_free(out);
        return rt_status_note(s, "in %s", made->word);
    }
    RT_TRY(pass_after(made->word, made->clock, out));
    *out_ = out;
    return NULL;
}

ig_status pass_no_state(const ir_module *m, const char *word) {
    return m->nstate ? rt_fail(m->alloc, IG_UNSUPPORTED,
                               "the module %s has state: %s takes functions of their arguments "
                               "only (pass the generator of random numbers as an argument)",
                               m->name, word)
                     : NULL;
}

/* --- By what -------------------------------------------------------------------------------- */

static uint32_t derive_nin(const ir_module *m) { return ir_nparam(ir_entry(m)) - m->nstate; }

ir_type pass_wrt_type(const ir_module *m, uint32_t wrt) {
    const ir_func *f = ir_entry(m);
    return wrt & PASS_WRT_WEIGHT ? m->weights.data[wrt & ~PASS_WRT_WEIGHT].type
                                 : *ir_val_type(f, ir_param_ref(f, wrt));
}

static ig_status derive_wrt_push(const ir_module *m, pass_wrt *wrt, uint32_t v) {
    for (uint32_t i = 0; i < wrt->n; i++)
        if (wrt->data[i] == v)
            return rt_fail(m->alloc, IG_INVALID,
                           "the list of what to differentiate by names one "
                           "thing twice");
    return rt_vec_push(m->alloc, wrt, v) ? NULL : rt_fail_memory();
}

/* All floating arguments, or weights (bit PASS_WRT_WEIGHT). */
static ig_status derive_wrt_all(const ir_module *m, uint32_t kind, pass_wrt *wrt) {
    uint32_t n = kind ? m->weights.n : derive_nin(m);
    for (uint32_t i = 0; i < n; i++)
        if (rt_is_float(pass_wrt_type(m, i | kind).dtype))
            RT_TRY(derive_wrt_push(m, wrt, i | kind));
    return NULL;
}

/* One word of the list, n characters. */
static ig_status derive_wrt_word(const ir_module *m, const char *s, size_t n, pass_wrt *wrt) {
    uint32_t v = 0;
    if (n == 1 && *s == '*') return derive_wrt_all(m, 0, wrt);
    if (n == 2 && !memcmp(s, "@*", 2)) return derive_wrt_all(m, PASS_WRT_WEIGHT, wrt);
    if (*s == '@') {
        while (v < m->weights.n && (strlen(m->weights.data[v].name) != n - 1 ||
                                    memcmp(m->weights.data[v].name, s + 1, n - 1)))
            v++;
        if (v == m->weights.n)
            return rt_fail(m->alloc, IG_INVALID, "there is no weight %.*s", (int)n, s);
        v |= PASS_WRT_WEIGHT;
    } else {
        char *end;
        unsigned long k = strtoul(s, &end, 10);
        if (end != s + n || k >= derive_nin(m))
            return rt_fail(m->alloc, IG_INVALID,
                           "`%.*s` is neither an argument (0 to %d), nor `@` and the name of a "
                           "weight, nor `*` or `@*`",
                           (int)n, s, (int)derive_nin(m) - 1);
        v = (uint32_t)k;
    }
    ig_dtype d = (ig_dtype)pass_wrt_type(m, v).dtype;
    if (!rt_is_float(d))
        return rt_fail(m->alloc, IG_DTYPE, "%s%.*s is %s: derivatives are by floats only",
                       *s == '@' ? "" : "argument ", (int)n, s, ig_dtype_name(d));
    return derive_wrt_push(m, wrt, v);
}

ig_status pass_wrt_read(const ir_module *m, const char *text, pass_wrt *wrt) {
    *wrt = (pass_wrt){0};
    for (const char *s = text ? text : "*"; *s;) {
        s += strspn(s, " ,");
        size_t n = strcspn(s, " ,");
        ig_status e = n ? derive_wrt_word(m, s, n, wrt) : NULL;
        if (e) {
            rt_vec_free(m->alloc, wrt);
            return e;
        }
        s += n;
    }
    return wrt->n ? NULL
                  : rt_fail(m->alloc, IG_INVALID, "there is nothing to differentiate by: %s",
                            text ? "the list is empty" : "no argument is floating; name weights");
}

/* --- One function --------------------------------------------------------------------------- */

typedef struct derive {
    const ir_func *f;
    const ir_func *asked; /* what f was made of (segment.c), or f */
    const ir_ref *where;  /* by value of `asked`: where it is in f; NULL: the same */
    const pass_ask *ask;
    uint32_t nin, nout;       /* without state */
    ir_builder p, t;          /* t: of the linear half, backward only */
    ir_ref *primal, *tangent; /* by value of f */
    ir_ref *weight;           /* tangents by number of weight */
    ir_ref *seed;             /* tangents of the wrt, or cotangents of results */
    lin_tape tape;
    RT_VEC(ir_ref) results;
} derive;

static bool derive_is_forward(const derive *d) { return d->ask->what & PASS_FORWARD; }

static ir_ref derive_result(const derive *d, uint32_t k) {
    return ir_op_in(d->f, ir_return_op(d->f), k);
}

/* Whether result k has a derivative, and this derivative is about it. */
static bool derive_has(const derive *d, uint32_t k) {
    int only = d->ask->what & PASS_SCALAR ? 0 : d->ask->result;
    return rt_is_float(ir_val_type(d->f, derive_result(d, k))->dtype) &&
           (only < 0 || (uint32_t)only == k);
}

static ir_type derive_type(derive *d, const ir_type *t) {
    return ir_import_type(d->p.m, d->f->module, *t);
}

static void derive_push(derive *d, ir_ref r) {
    if (!rt_vec_push(d->p.m->alloc, &d->results, r)) ir_build_error(&d->p, rt_fail_memory());
}

static void derive_params(derive *d, uint32_t from, uint32_t to) {
    for (uint32_t k = from; k < to; k++) {
        ir_ref p = ir_param_ref(d->f, k);
        d->primal[p.i] =
            ir_param(&d->p, derive_type(d, ir_val_type(d->f, p)), d->f->param_names.data[k]);
    }
}

bool pass_is_given(const ir_op *o) {
    return o->nout && !o->parent && o->code != OP_const && o->code != OP_weight;
}

/* Parameters that stand for what the ops of f have computed. */
static void derive_given(derive *d) {
    for (uint32_t i = 0; i + 1 < d->asked->ops.n; i++) {
        const ir_op *o = &d->asked->ops.data[i];
        for (uint32_t k = 0; pass_is_given(o) && k < o->nout; k++) {
            ir_ref y = ir_op_out(o, k);
            d->primal[d->where ? d->where[y.i].i : y.i] =
                ir_param(&d->p, derive_type(d, ir_val_type(d->asked, y)), NULL);
        }
    }
}

/* Parameters of a builder for tangents of what is differentiated by, entered where they belong. */
static void derive_tangents(derive *d, ir_builder *b) {
    for (uint32_t i = 0; i < d->ask->wrt.n; i++) {
        uint32_t v = d->ask->wrt.data[i];
        ir_type type = pass_wrt_type(d->f->module, v);
        ir_ref t = ir_param(b, derive_type(d, &type), NULL);
        if (v & PASS_WRT_WEIGHT)
            d->weight[v & ~PASS_WRT_WEIGHT] = t;
        else
            d->tangent[ir_param_ref(d->f, v).i] = t;
    }
}

static void derive_cotangents(derive *d) {
    for (uint32_t k = 0; k < d->nout; k++)
        if (derive_has(d, k))
            d->seed[k] =
                ir_param(&d->p, derive_type(d, ir_val_type(d->f, derive_result(d, k))), NULL);
}

/* A value or, where it is absent, zeros. */
static ir_ref derive_or_zeros(derive *d, ir_ref r, ir_type type) {
    return r.i ? r : emit_fill(&d->p, &type, 0);
}

static void derive_forward(derive *d) {
    for (uint32_t k = 0; k < d->nout; k++) {
        ir_ref y = derive_result(d, k);
        if (derive_has(d, k))
            derive_push(d,
                        derive_or_zeros(d, d->tangent[y.i], derive_type(d, ir_val_type(d->f, y))));
    }
}

/* Transpose the linear half; ct has room for its values. */
static void derive_backward(derive *d, ir_ref *ct) {
    const ir_func *t = d->t.f;
    for (uint32_t k = 0; k < d->nout; k++) {
        ir_ref y = d->tangent[derive_result(d, k).i], *at = &ct[y.i];
        if (!y.i || !derive_has(d, k)) continue;
        ir_ref seed = d->seed[k];
        if (!seed.i) {
            ir_type type = ir_type_of(&d->t, y);
            seed = emit_scalar(&d->p, &type, 1);
        }
        *at = at->i ? EMIT(&d->p, add, *at, seed) : seed;
    }
    pass_transpose(&d->p, t, &d->tape, ct);
    for (uint32_t i = 0; i < d->ask->wrt.n; i++) {
        ir_ref p = ir_param_ref(t, i);
        derive_push(d, derive_or_zeros(d, ct[p.i], ir_type_of(&d->t, p)));
    }
}

static void derive_reverse(derive *d) {
    const ig_allocator *a = d->p.m->alloc;
    size_t bytes = d->t.f ? d->t.f->values.n * sizeof(ir_ref) : 0;
    ir_ref *ct = rt_alloc_zero(a, bytes);
    if (ct)
        derive_backward(d, ct);
    else
        ir_build_error(&d->p, rt_fail_memory());
    rt_free(a, ct, bytes);
}

/* Emit all of it; an error is in p or t. */
static void derive_emit(derive *d) {
    ir_builder *t = derive_is_forward(d) ? &d->p : &d->t;
    derive_params(d, 0, d->nin);
    if (derive_is_forward(d))
        derive_tangents(d, &d->p);
    else if (!(d->ask->what & PASS_SCALAR))
        derive_cotangents(d);
    derive_params(d, d->nin, ir_nparam(d->f));
    if (d->ask->what & PASS_GIVEN) derive_given(d);
    if (!derive_is_forward(d)) {
        ir_build_begin(t, d->p.m, "tangent", IR_FN, IR_BUILD_RAW);
        derive_tangents(d, t);
    }
    pass_linearize(&d->p, t, d->f, d->primal, d->tangent, d->weight, &d->tape);
    if (d->p.error || t->error) return;
    for (uint32_t k = 0; k < d->nout && d->ask->what & PASS_VALUES; k++)
        derive_push(d, d->primal[derive_result(d, k).i]);
    if (derive_is_forward(d))
        derive_forward(d);
    else
        derive_reverse(d);
    for (uint32_t k = d->nout; k < d->f->results.n; k++)
        derive_push(d, d->primal[derive_result(d, k).i]);
}

/* --- What cannot be differentiated ---------------------------------------------------------- */

/* An error about result k, at the op that makes it. */
static ig_status derive_fail(const derive *d, uint32_t k, const char *why) {
    const ir_func *f = d->f;
    ir_ref y = derive_result(d, k);
    const ir_op *o = ir_def_op(f, y);
    rt_str type;
    rt_str_init(&type, f->module->alloc);
    ir_type_print(f->module, ir_val_type(f, y), &type);
    ig_status s =
        rt_fail(f->module->alloc, IG_SHAPE, "result %u is %s: %s", k, rt_str_text(&type), why);
    rt_str_free(&type);
    if (!o) return s;
    ir_loc_rec at = ir_loc_get(f->module, o->loc);
    s = rt_status_op(s, ir_op_tab[o->code].name);
    return at.file ? rt_status_at(s, at.file, (int)at.line) : s;
}

static ig_status derive_check(const derive *d) {
    const ir_type *y;
    if (!(d->ask->what & PASS_SCALAR)) return NULL;
    if (!d->nout) return rt_fail(d->f->module->alloc, IG_INVALID, "the module has no result");
    y = ir_val_type(d->f, derive_result(d, 0));
    if (!rt_is_float(y->dtype))
        return derive_fail(d, 0, "no derivative goes through integers or bools");
    return y->rank ? derive_fail(d, 0,
                                 "a gradient is that of a scalar: reduce it (ig_sum, "
                                 "ig_mean), or use vjp")
                   : NULL;
}

#define DERIVE_LIVE UINT32_MAX

/* What reaches value `from` reaches value `to` by op number i: as a float, or lost in an op, by
 * number + 1.  decides: `from` says which value `to` is. */
static bool derive_reach(const derive *d, uint32_t *mark, uint32_t i, uint32_t from, uint32_t to,
                         bool decides) {
    const ir_func *f = d->f;
    bool was = rt_is_float(ir_val_type(f, (ir_ref){from})->dtype);
    bool is = rt_is_float(ir_val_type(f, (ir_ref){to})->dtype);
    uint32_t m = mark[from];
    if (m == DERIVE_LIVE && (!is || decides)) m = i + 1;
    if (!m || mark[to] == m || mark[to] == DERIVE_LIVE) return false;
    if (m != DERIVE_LIVE &&
        (mark[to] || !(was || !is || decides || f->ops.data[i].code == OP_convert)))
        return false;
    mark[to] = m;
    return true;
}

/* The same for all that an op reaches; a yield reaches results, and parameters of the next turn. */
static bool derive_reach_op(const derive *d, uint32_t *mark, uint32_t i) {
    const ir_func *f = d->f;
    const ir_op *o = &f->ops.data[i], *owner = o;
    bool more = false;
    if (o->code == OP_return) return false;
    if (o->code == OP_yield) owner = &f->ops.data[f->regions.data[o->parent].op];
    if (owner->code == OP_composite && o != owner) return false; /* as an op without regions */
    bool asks = owner->code == OP_while && o != owner && o->parent == owner->region0;
    bool decides = asks || (o == owner && o->code == OP_if),
         flows = owner->nregion && !decides && owner->code != OP_composite;
    for (uint32_t k = 0; k < o->nin; k++) {
        uint32_t x = ir_op_in(f, o, k).i;
        for (uint32_t n = 0; n < owner->nout; n++)
            if (!flows || (n == k && (o != owner || o->code == OP_while)))
                more |= derive_reach(d, mark, i, x, owner->out0 + n, decides);
        for (uint32_t r = 0; flows && owner->code != OP_if && r < owner->nregion; r++) {
            const ir_region *region = &f->regions.data[owner->region0 + r];
            uint32_t p = (owner->code == OP_scan) + k;
            bool carried = o == owner || owner->code == OP_while ||
                           k < ((const ir_attr_scan *)ir_attr_get(f->module, owner->attr))->carries;
            if (carried && p < region->nparam)
                more |= derive_reach(d, mark, i, x, region->param0 + p, false);
        }
    }
    return more;
}

/* Where the arguments that matter became integers or bools on their way to the first result: the
 * op, which a conversion back to floats follows, or a choice.  NULL: nowhere. */
static const ir_op *derive_lost(const derive *d, uint32_t *mark) {
    const ir_func *f = d->f;
    for (uint32_t i = 0; i < d->ask->wrt.n; i++)
        if (!(d->ask->wrt.data[i] & PASS_WRT_WEIGHT))
            mark[ir_param_ref(f, d->ask->wrt.data[i]).i] = DERIVE_LIVE;
    for (uint32_t i = 0; i < f->ops.n; i++)
        if (f->ops.data[i].code == OP_weight && d->tangent[f->ops.data[i].out0].i)
            mark[f->ops.data[i].out0] = DERIVE_LIVE;
    for (bool more = true; more;) {
        more = false;
        for (uint32_t i = 0; i < f->ops.n; i++) more |= derive_reach_op(d, mark, i);
    }
    uint32_t at = mark[derive_result(d, 0).i];
    return at && at != DERIVE_LIVE ? &f->ops.data[at - 1] : NULL;
}

/* A gradient that is zero because all goes through integers is an error that says where. */
static ig_status derive_check_path(const derive *d) {
    const ig_allocator *a = d->f->module->alloc;
    size_t bytes = d->f->values.n * sizeof(uint32_t);
    if (!(d->ask->what & PASS_SCALAR) || d->tangent[derive_result(d, 0).i].i) return NULL;
    uint32_t *cut = rt_alloc_zero(a, bytes);
    if (!cut) return rt_fail_memory();
    const ir_op *o = derive_lost(d, cut);
    rt_free(a, cut, bytes);
    if (!o) return NULL;
    ir_loc_rec at = ir_loc_get(d->f->module, o->loc);
    ig_status s = rt_status_op(
        rt_fail(a, IG_DTYPE,
                "the result depends on the arguments through integers or bools only, which begin "
                "here: its gradient is zero everywhere"),
        ir_op_tab[o->code].name);
    return at.file ? rt_status_at(s, at.file, (int)at.line) : s;
}

/* --- The whole ------------------------------------------------------------------------------ */

static const char *derive_word(pass_derivative what) {
    switch ((int)what) {
    case PASS_JVP: return "jvp";
    case PASS_FORWARD: return "push";
    case PASS_VJP: return "vjp";
    case PASS_GRAD: return "grad";
    case PASS_VALUE_AND_GRAD: return "vgrad";
    default: return "pull";
    }
}

static ig_status derive_build(derive *d) {
    ig_status s = derive_check(d);
    if (!s) derive_emit(d);
    ir_build_error(&d->p, d->t.error);
    d->t.error = NULL;
    if (!s && !d->p.error) s = derive_check_path(d);
    if (!s) return ir_build_end(&d->p, (int)d->results.n, d->results.data, NULL);
    ir_build_abort(&d->p);
    return s;
}

/* Differentiate f, which was made of the entry of flat; where: as in derive. */
static ig_status derive_func(const ir_module *flat, const ir_func *f, const ir_ref *where,
                             const pass_ask *ask, ir_module **out_) {
    const ig_allocator *a = flat->alloc;
    size_t values = f->values.n * sizeof(ir_ref), weights = (flat->weights.n + 1u) * sizeof(ir_ref);
    size_t seeds = (f->results.n + 1u) * sizeof(ir_ref);
    derive d = {.f = f,
                .asked = ir_entry(flat),
                .where = where,
                .ask = ask,
                .nin = derive_nin(flat),
                .nout = f->results.n - flat->nstate};
    pass_made made;
    *out_ = NULL;
    RT_TRY(pass_begin_more(flat, derive_word(ask->what), &made, &d.p));
    d.primal = rt_alloc_zero(a, values);
    d.tangent = rt_alloc_zero(a, values);
    d.weight = rt_alloc_zero(a, weights);
    d.seed = rt_alloc_zero(a, seeds);
    ig_status s = NULL;
    if (d.primal && d.tangent && d.weight && d.seed) {
        s = derive_build(&d);
    } else {
        ir_build_abort(&d.p);
        s = rt_fail_memory();
    }
    ir_build_abort(&d.t);
    rt_free(a, d.primal, values);
    rt_free(a, d.tangent, values);
    rt_free(a, d.weight, weights);
    rt_free(a, d.seed, seeds);
    pass_free_tape(a, &d.tape);
    rt_vec_free(a, &d.results);
    return pass_finish(&made, s, out_);
}

ig_status pass_differentiate(const ir_module *flat, const pass_ask *ask, ir_module **out_) {
    const ir_func *f = ir_entry(flat);
    if (ask->what & PASS_FORWARD || !pass_has_segments(f))
        return derive_func(flat, f, NULL, ask, out_);
    const size_t bytes = f->values.n * sizeof(ir_ref);
    ir_ref *where = rt_alloc(flat->alloc, bytes);
    ir_module *cut = NULL;
    *out_ = NULL;
    ig_status s = where ? pass_segment(flat, &cut, where) : rt_fail_memory();
    if (!s) s = derive_func(flat, ir_entry(cut), where, ask, out_);
    ir_module_free(cut);
    rt_free(flat->alloc, where, bytes);
    return s;
}

ig_status pass_derive(const ir_module *in, pass_derivative what, const char *wrt,
                      ir_module **out_) {
    ir_module *flat;
    pass_ask ask = {.what = what, .result = -1};
    *out_ = NULL;
    RT_TRY(pass_flatten(in, &flat));
    ig_status s = pass_wrt_read(flat, wrt, &ask.wrt);
    if (!s) s = pass_differentiate(flat, &ask, out_);
    rt_vec_free(flat->alloc, &ask.wrt);
    ir_module_free(flat);
    return s;
}

ig_status pass_hvp(const ir_module *in, const char *wrt, ir_module **out_) {
    ir_module *grad;
    *out_ = NULL;
    RT_TRY(pass_derive(in, PASS_GRAD, wrt, &grad));
    ig_status s = pass_derive(grad, PASS_FORWARD, wrt, out_);
    ir_module_free(grad);
    return s;
}
