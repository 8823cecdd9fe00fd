/* flow.c - ig_if, ig_switch, ig_while, ig_scan: C functions as bodies, run or recorded.
 *
 * Eagerly a body runs in a call of its own, so that its temporaries go after every turn.  In a
 * trace it runs once, on the values at hand, between the marks that make a region of it
 * (record.c); its results stand for those of the loop, and are never read.  In a gradient scope a
 * loop is recorded so, then runs with the recording set aside, and what comes out takes the place
 * of those results. */
#include "frontend/flow.h"
#include "ir/text.h"

#include <string.h>

enum { FLOW_MOST = IR_MAX_RESULTS };
_Static_assert(IG_CKPT_AUTO == (int)IR_CKPT_AUTO && IG_CKPT_ALL == (int)IR_CKPT_ALL &&
                   IG_CKPT_SQRT == (int)IR_CKPT_SQRT && IG_CKPT_DOTS == (int)IR_CKPT_DOTS,
               "policies of the API are those of the IR");

/* Results of a body, moved to c: nres of them, usable; false after an error. */
static bool flow_body(fe_call *c, fe_body body, ig_tensor *const *in, int nres, ig_tensor **out_) {
    ig_tensor *out[FLOW_MOST] = {NULL};
    fe_call turn;
    bool ok = true;
    if (!fe_enter(&turn, c->site, c->op)) return false;
    fe_call_user(&turn, body.fn, body.user, in, out);
    for (int k = 0; k < nres; k++) {
        if (ok && !out[k] && !turn.s->error)
            fe_error(&turn, IG_INVALID, "a body left result %d NULL", k);
        ok = ok && out[k] && fe_is_usable(&turn, out[k], k);
        out_[k] = ok ? fe_hand_out(&turn, out[k]) : NULL;
        ok = ok && !fe_is_poison(out_[k]);
    }
    fe_exit(&turn);
    return ok;
}

static bool flow_misfit(fe_call *c, const char *what, int k, ig_tensor *now, ig_tensor *before) {
    ig_status e = rt_fail(fe_alloc(c), now->dtype == before->dtype ? IG_SHAPE : IG_DTYPE,
                          "%s %d is %s, not %s", what, k, FE_TYPE(now), FE_TYPE(before));
    if (now->site) e = rt_status_note(e, "it is made at %s:%d", now->site->file, now->site->line);
    fe_error_status(c, e);
    return false;
}

/* Whether a value may take the place of another: one element type and shape. */
static bool flow_fits(fe_call *c, const char *what, int k, ig_tensor *now, ig_tensor *before) {
    bool same = now->dtype == before->dtype && fe_same_shape(now, before);
    if (same && fe_is_traced(c)) {
        ir_dims a = fe_dims(c, now), b = fe_dims(c, before);
        for (int i = 0; i < a.n; i++) same = same && a.d[i] == b.d[i];
    }
    return same || flow_misfit(c, what, k, now, before);
}

static bool flow_usable(fe_call *c, int n, ig_tensor *const *t) {
    for (int k = 0; k < n; k++)
        if (!fe_is_usable(c, t[k], k)) return false;
    return true;
}

static bool flow_counts(fe_call *c, int nin, int nout) {
    if (nin >= 0 && nout >= 0 && nin < FLOW_MOST && nout < FLOW_MOST) return true;
    fe_error(c, IG_INVALID, "%d values in and %d out; up to %d each", nin, nout, FLOW_MOST - 1);
    return false;
}

/* End a call with n results. */
static bool flow_leave(fe_call *c, bool ok, int n, ig_tensor **out_) {
    for (int k = 0; k < n; k++) out_[k] = fe_hand_out(c, ok ? out_[k] : NULL);
    for (int k = 0; k < n; k++) ok = ok && !fe_is_poison(out_[k]);
    fe_exit(c);
    return ok;
}

/* The results of a recorded op: handles with the values of its body. */
static bool flow_record_end(fe_call *c, int n, const ir_type *type, ig_tensor **out_) {
    for (int k = 0; k < n; k++) {
        out_[k] = fe_alias(c, out_[k], out_[k]->rank, out_[k]->dim);
        if (fe_is_poison(out_[k])) return false;
    }
    return fe_rec_end(c, n, type, out_);
}

/* --- Branches ------------------------------------------------------------------------------ */

static bool flow_if_record(fe_call *c, ig_tensor *index, const ir_attr_regions *attr,
                           const fe_body *body, ig_tensor *const *in, int nout, ig_tensor **out_) {
    ir_type type[FLOW_MOST];
    ig_tensor *out[FLOW_MOST];
    if (!fe_rec_begin(c, OP_if, attr, 1, &index)) return false;
    for (int k = 0; k < attr->n; k++) {
        if (!fe_rec_enter(c, 0, NULL, NULL)) return false;
        bool ok = flow_body(c, body[k], in, nout, k ? out : out_);
        for (int i = 0; ok && i < nout; i++) {
            ok = !k || flow_fits(c, "another branch's result", i, out[i], out_[i]);
            ok = ok && fe_rec_type(c, (k ? out : out_)[i], &type[i]);
        }
        if (!fe_rec_yield(c, ok ? nout : 0, k ? out : out_) || !ok) return false;
    }
    return flow_record_end(c, nout, type, out_);
}

static bool flow_if_run(fe_call *c, ig_tensor *index, int64_t n, const fe_body *body,
                        ig_tensor *const *in, int nout, ig_tensor **out_) {
    int64_t k = fe_get_i64(index, 0);
    if (index->dtype == IG_bool) k = !k;
    return flow_body(c, body[k < 0 ? 0 : k >= n ? n - 1 : k], in, nout, out_);
}

bool fe_if(fe_call *c, ig_tensor *index, const ir_attr_regions *attr, const fe_body *body,
           ig_tensor *const *in, int nout, ig_tensor **out_) {
    bool recorded = fe_is_traced(c) || (c->s->rec && attr->n == 1);
    if (!recorded) return flow_if_run(c, index, attr->n, body, in, nout, out_);
    return fe_rec_check(c, flow_if_record(c, index, attr, body, in, nout, out_));
}

static bool flow_choose(fe_call *c, ig_tensor *index, int n, const ig_body_fn *fn, void *user,
                        int nin, ig_tensor *const *in, int nout, ig_tensor **out_) {
    fe_body body[IR_MAX_BRANCHES];
    if (fe_is_poison(index) || !flow_counts(c, nin, nout) || !flow_usable(c, nin, in)) return false;
    if (index->rank) {
        fe_error(c, IG_SHAPE, "what chooses the branch is %s: a scalar is needed", FE_TYPE(index));
        return false;
    }
    for (int k = 0; k < n; k++) body[k] = (fe_body){fn[k], user};
    return fe_if(c, index, &(ir_attr_regions){.n = n}, body, in, nout, out_);
}

bool ig_if_at(const ig_site *site, ig_arg cond, ig_body_fn then, ig_body_fn otherwise, void *user,
              int nin, ig_tensor *const *in, int nout, ig_tensor **out_) {
    const ig_body_fn body[2] = {then, otherwise};
    for (int k = 0; k < nout; k++) out_[k] = fe_poison_none();
    FE_ENTER_OR(site, "if", false);
    ig_tensor *p = cond.kind == IG_ARG_TENSOR ? fe_arg(c, cond) : fe_number(c, IG_bool, cond);
    if (!fe_is_poison(p) && p->dtype != IG_bool)
        p = fe_error(c, IG_DTYPE, "the condition is %s: compare to make it bool", FE_TYPE(p));
    return flow_leave(c, flow_choose(c, p, 2, body, user, nin, in, nout, out_), nout, out_);
}

bool ig_switch_at(const ig_site *site, ig_arg index, int n, const ig_body_fn *body, void *user,
                  int nin, ig_tensor *const *in, int nout, ig_tensor **out_) {
    for (int k = 0; k < nout; k++) out_[k] = fe_poison_none();
    FE_ENTER_OR(site, "switch", false);
    ig_tensor *i = fe_arg(c, index);
    if (n < 1 || n > IR_MAX_BRANCHES)
        i = fe_error(c, IG_INVALID, "%d bodies; a switch has 1 to %d", n, IR_MAX_BRANCHES);
    else if (!fe_is_poison(i) && !rt_is_int((ig_dtype)i->dtype))
        i = fe_error(c, IG_DTYPE, "the index is %s: an integer is needed", FE_TYPE(i));
    if (!fe_is_poison(i) && i->dtype != IG_i32) { /* clamped first: it may not fit */
        i = fe_convert(c, i, IG_i64);
        i = fe_ew2(c, OP_min, NULL, i, fe_int(c, IG_i64, n - 1));
        i = fe_convert(c, fe_ew2(c, OP_max, NULL, i, fe_int(c, IG_i64, 0)), IG_i32);
    }
    return flow_leave(c, flow_choose(c, i, n, body, user, nin, in, nout, out_), nout, out_);
}

/* Whether the op may be asked to keep what its attribute says. */
static bool flow_policy(fe_call *c, ir_opcode op, const void *attr) {
    const char *wrong = ir_ckpt_wrong(op, attr);
    if (wrong) fe_error(c, IG_INVALID, "%s", wrong);
    return !wrong;
}

bool ig_checkpoint_at(const ig_site *site, ig_body_fn body, void *user, int nin,
                      ig_tensor *const *in, int nout, ig_ckpt keep, ig_tensor **out_) {
    const ir_attr_regions attr = {.n = 1, .ckpt = keep};
    const fe_body only = {body, user};
    ig_tensor *given[FLOW_MOST]; /* out_ may be in */
    for (int k = 0; k < nin && k < FLOW_MOST; k++) given[k] = in[k];
    for (int k = 0; k < nout; k++) out_[k] = fe_poison_none();
    FE_ENTER_OR(site, "checkpoint", false);
    bool ok = flow_counts(c, nin, nout) && flow_usable(c, nin, given) &&
              flow_policy(c, OP_if, &attr);
    if (ok) {
        ig_tensor *first = fe_int(c, IG_i32, 0);
        ok = !fe_is_poison(first) && fe_if(c, first, &attr, &only, given, nout, out_);
    }
    return flow_leave(c, ok, nout, out_);
}

/* --- Composites ---------------------------------------------------------------------------- */

/* Parameters of a region: handles with the values at hand. */
static bool flow_enter(fe_call *c, int n, ig_tensor *const *value, const ir_type *type,
                       ig_tensor **param_) {
    for (int k = 0; k < n; k++)
        if (fe_is_poison(param_[k] = fe_alias(c, value[k], value[k]->rank, value[k]->dim)))
            return false;
    return fe_rec_enter(c, n, type, param_);
}

/* Record the rule on values x.., y.. and, in the place of derivatives, on those that they are of:
 * nobody reads what it computes from them. */
static bool flow_rule_record(fe_call *c, const fe_composite *d, int nx, int ny,
                             ig_tensor *const *value, const ir_type *known) {
    ig_tensor *list[3 * FLOW_MOST], *param[3 * FLOW_MOST], *given[FLOW_MOST], *like[FLOW_MOST];
    ir_type type[3 * FLOW_MOST];
    int n = 0, want = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int k = 0; k < nx + ny; k++) {
            bool is_float = rt_is_float((ig_dtype)value[k]->dtype), of_x = k < nx;
            if (pass && is_float && of_x != (d->lin != NULL)) like[want++] = value[k];
            if (pass && (!is_float || of_x != (d->lin != NULL))) continue;
            type[n] = known[k];
            list[n++] = value[k];
        }
    if (!flow_enter(c, n, list, type, param)) return false;
    bool ok = flow_body(c, (fe_body){d->lin ? d->lin : d->vjp, d->user}, param, want, given);
    for (int k = 0; ok && k < want; k++)
        ok = flow_fits(c, "the rule's result", k, given[k], like[k]);
    return fe_rec_yield(c, ok ? want : 0, given) && ok;
}

static bool flow_composite_record(fe_call *c, const fe_composite *d, int nin, ig_tensor *const *in,
                                  int nout, ig_tensor **out_) {
    ir_attr_composite attr = {.name = d->name, .rule = d->lin ? IR_rule_lin : IR_rule_vjp};
    ig_tensor *value[2 * FLOW_MOST], *param[FLOW_MOST];
    ir_type type[2 * FLOW_MOST];
    for (int k = 0; k < nin; k++)
        if (!fe_rec_type(c, value[k] = in[k], &type[k])) return false;
    if (!fe_rec_begin(c, OP_composite, &attr, nin, in) || !flow_enter(c, nin, in, type, param))
        return false;
    bool ok = flow_body(c, (fe_body){d->fn, d->fn_user}, param, nout, out_);
    for (int k = 0; ok && k < nout; k++)
        ok = fe_rec_type(c, value[nin + k] = out_[k], &type[nin + k]);
    if (!fe_rec_yield(c, ok ? nout : 0, out_) || !ok) return false;
    return flow_rule_record(c, d, nin, nout, value, type) &&
           flow_record_end(c, nout, type + nin, out_);
}

bool fe_composite_run(fe_call *c, const fe_composite *d, int nin, ig_tensor *const *in, int nout,
                      ig_tensor **out_) {
    if (nin < 1 || nout < 1 || !flow_counts(c, nin, nout) || !flow_usable(c, nin, in)) {
        if (!c->s->error) fe_error(c, IG_INVALID, "a function takes and gives something");
        return false;
    }
    return c->s->rec ? flow_composite_record(c, d, nin, in, nout, out_)
                     : flow_body(c, (fe_body){d->fn, d->fn_user}, in, nout, out_);
}

bool ig_composite_at(const ig_site *site, const ig_rule *rule, ig_list in, int nout,
                     ig_tensor **out_) {
    for (int k = 0; k < nout; k++) out_[k] = fe_poison_none();
    FE_ENTER_OR(site, rule && rule->name ? rule->name : "composite", false);
    bool ok = rule && rule->fn && !rule->lin != !rule->vjp;
    if (!ok)
        fe_error(c, IG_INVALID, "a composite has a function, and one rule: lin or vjp");
    else
        ok = fe_composite_run(c,
                              &(fe_composite){.name = rule->name,
                                              .fn = rule->fn,
                                              .lin = rule->lin,
                                              .vjp = rule->vjp,
                                              .fn_user = rule->user,
                                              .user = rule->user},
                              in.n, in.t, nout, out_);
    return flow_leave(c, ok, nout, out_);
}

ig_tensor *ig_composite1_at(const ig_site *site, const ig_rule *rule, ig_list in) {
    ig_tensor *out;
    ig_composite_at(site, rule, in, 1, &out);
    return out;
}

/* --- Loops in a gradient scope ------------------------------------------------------------- */

/* Set the recording aside, and put it back. */
typedef struct flow_aside {
    fe_rec *rec;
    fe_grad *grad;
} flow_aside;

static flow_aside flow_set_aside(fe_call *c) {
    flow_aside a = {c->s->rec, c->s->grad};
    c->s->rec = NULL;
    c->s->grad = NULL;
    return a;
}

static bool flow_put_back(fe_call *c, flow_aside a, bool ok) {
    c->s->rec = a.rec;
    c->s->grad = a.grad;
    return ok;
}

/* --- While --------------------------------------------------------------------------------- */

typedef struct flow_loop {
    fe_body cond, body;
    int n, nx, ny; /* carried values, sliced ones, elements given */
    union {
        ir_attr_while loop;
        ir_attr_scan scan; /* of a step whose number may be a dim of the recording */
    } attr;
    ig_tensor *const *xs;
} flow_loop;

static bool flow_truth(fe_call *c, const flow_loop *l, ig_tensor *const *in, ig_tensor **cond_) {
    if (!flow_body(c, l->cond, in, 1, cond_)) return false;
    if ((*cond_)->dtype == IG_bool && !(*cond_)->rank) return true;
    fe_error(c, IG_DTYPE, "the condition is %s: a bool scalar is needed", FE_TYPE(*cond_));
    return false;
}

/* The next carried values take the place of those before. */
static bool flow_replace(fe_call *c, const flow_loop *l, ig_tensor **now, ig_tensor **next,
                         bool first) {
    for (int k = 0; k < l->n; k++)
        if (!flow_fits(c, "carried value", k, next[k], now[k])) return false;
    for (int k = 0; k < l->n; k++) {
        if (!first) fe_release(now[k]);
        now[k] = next[k];
    }
    return true;
}

static bool flow_while_run(fe_call *c, const flow_loop *l, ig_tensor **now) {
    ig_tensor *cond, *next[FLOW_MOST];
    for (int64_t trip = 0;; trip++) {
        if (!flow_truth(c, l, now, &cond)) return false;
        bool more = fe_get_i64(cond, 0);
        fe_release(cond);
        if (!more) return true;
        if (l->attr.loop.cap && trip == l->attr.loop.cap) {
            fe_error(c, IG_RANGE, "the loop would go round more than %lld times, its cap",
                     (long long)l->attr.loop.cap);
            return false;
        }
        if (!flow_body(c, l->body, now, l->n, next) || !flow_replace(c, l, now, next, !trip))
            return false;
    }
}

static bool flow_while_record(fe_call *c, const flow_loop *l, ig_tensor **now) {
    ir_type type[FLOW_MOST];
    ig_tensor *param[FLOW_MOST], *cond, *next[FLOW_MOST];
    for (int k = 0; k < l->n; k++)
        if (!fe_rec_type(c, now[k], &type[k])) return false;
    if (!fe_rec_begin(c, OP_while, &l->attr.loop, l->n, now) ||
        !flow_enter(c, l->n, now, type, param))
        return false;
    bool ok = flow_truth(c, l, param, &cond);
    if (!fe_rec_yield(c, ok, &cond) || !ok || !flow_enter(c, l->n, now, type, param)) return false;
    ok = flow_body(c, l->body, param, l->n, next);
    for (int k = 0; k < l->n && ok; k++) ok = flow_fits(c, "carried value", k, next[k], param[k]);
    if (!fe_rec_yield(c, ok ? l->n : 0, next) || !ok) return false;
    if (fe_is_traced(c)) {
        for (int k = 0; k < l->n; k++) now[k] = next[k];
    } else {
        flow_aside aside = flow_set_aside(c);
        if (!flow_put_back(c, aside, flow_while_run(c, l, now))) return false;
    }
    return flow_record_end(c, l->n, type, now);
}

bool fe_while(fe_call *c, fe_body cond, fe_body body, int n, ig_tensor *const *init,
              const ir_attr_while *attr, ig_tensor **out_) {
    flow_loop l = {.cond = cond, .body = body, .n = n, .attr.loop = *attr};
    for (int k = 0; k < n; k++) out_[k] = init[k];
    if (!c->s->rec) return flow_while_run(c, &l, out_);
    return fe_rec_check(c, flow_while_record(c, &l, out_));
}

bool ig_while_with_at(const ig_site *site, ig_body_fn cond, ig_body_fn body, void *user, int n,
                      ig_tensor *const *init, const ig_while_options *opt, ig_tensor **out_) {
    ir_attr_while attr = {.cap = opt ? opt->cap : 0, .ckpt = opt ? opt->keep : 0};
    for (int k = 0; k < n; k++) out_[k] = fe_poison_none();
    FE_ENTER_OR(site, "while", false);
    bool ok = flow_counts(c, n, n) && flow_usable(c, n, init);
    if (ok && attr.cap < 0)
        ok = (fe_error(c, IG_RANGE, "a cap of %lld", (long long)attr.cap), false);
    ok = ok && flow_policy(c, OP_while, &attr) &&
         fe_while(c, (fe_body){cond, user}, (fe_body){body, user}, n, init, &attr, out_);
    return flow_leave(c, ok, n, out_);
}

bool ig_while_at(const ig_site *site, ig_body_fn cond, ig_body_fn body, void *user, int n,
                 ig_tensor *const *init, int64_t cap, ig_tensor **out_) {
    return ig_while_with_at(site, cond, body, user, n, init, &(ig_while_options){.cap = cap}, out_);
}

/* --- Scan ---------------------------------------------------------------------------------- */

/* Slice i of x along its first axis; zeros when it has none. */
static ig_tensor *flow_slice(fe_call *c, const ig_tensor *x, int64_t i) {
    ig_tensor *t = fe_new(c, (ig_dtype)x->dtype, x->rank - 1, x->dim + 1);
    if (fe_is_poison(t) || !t->buf->bytes) return t;
    if (i < x->dim[0])
        memcpy(t->buf->data, (const char *)x->buf->data + (size_t)i * t->buf->bytes, t->buf->bytes);
    else
        memset(t->buf->data, 0, t->buf->bytes);
    return t;
}

/* Results n, like element y, for every step. */
static ig_tensor *flow_stack(fe_call *c, const ig_tensor *y, int64_t n) {
    int64_t dim[IG_MAX_RANK] = {n};
    if (y->rank == IG_MAX_RANK)
        return fe_error(c, IG_SHAPE, "%s has %d axes already", FE_TYPE(y), IG_MAX_RANK);
    memcpy(dim + 1, y->dim, y->rank * sizeof *dim);
    return fe_new(c, (ig_dtype)y->dtype, y->rank + 1, dim);
}

static void flow_put(ig_tensor *all, const ig_tensor *y, int64_t i) {
    if (y->buf->bytes)
        memcpy((char *)all->buf->data + (size_t)i * y->buf->bytes, y->buf->data, y->buf->bytes);
}

/* Arguments of a body at step i: carried values, slices, the step. */
static bool flow_arguments(fe_call *c, const flow_loop *l, ig_tensor *const *now, int64_t i,
                           ig_tensor **in) {
    for (int k = 0; k < l->n; k++) in[k] = now[k];
    for (int k = 0; k < l->nx; k++)
        if (fe_is_poison(in[l->n + k] = flow_slice(c, l->xs[k], i))) return false;
    return !fe_is_poison(in[l->n + l->nx] = fe_int(c, IG_i64, i));
}

/* One step at i; out holds the carried values, then the stacks, made at the first step. */
static bool flow_step(fe_call *c, const flow_loop *l, int64_t steps, int64_t i, bool first,
                      ig_tensor **out) {
    ig_tensor *in[FLOW_MOST], *next[FLOW_MOST];
    if (!flow_arguments(c, l, out, i, in) || !flow_body(c, l->body, in, l->n + l->ny, next))
        return false;
    for (int k = l->n; k < l->n + l->nx + 1; k++) fe_release(in[k]);
    for (int k = l->n; k < l->n + l->ny; k++) {
        if (first && fe_is_poison(out[k] = flow_stack(c, next[k], steps))) return false;
        bool same = out[k]->rank == next[k]->rank + 1 && out[k]->dtype == next[k]->dtype &&
                    !memcmp(out[k]->dim + 1, next[k]->dim, next[k]->rank * sizeof *next[k]->dim);
        if (!same) {
            fe_error(c, IG_SHAPE, "element %d is %s, which does not fit %s of the steps before",
                     k - l->n, FE_TYPE(next[k]), FE_TYPE(out[k]));
            return false;
        }
        if (i < steps) flow_put(out[k], next[k], i);
        fe_release(next[k]);
    }
    return steps == 0 || flow_replace(c, l, out, next, first);
}

static bool flow_scan_run(fe_call *c, const flow_loop *l, int64_t steps, ig_tensor **out) {
    if (!steps) return !l->ny || flow_step(c, l, 0, 0, true, out); /* what would its elements be? */
    for (int64_t i = 0; i < steps; i++)
        if (!flow_step(c, l, steps, l->attr.scan.reverse ? steps - 1 - i : i, !i, out))
            return false;
    return true;
}

/* The types of a region's parameters; operands are the carried values and xs. */
static bool flow_scan_types(fe_call *c, const flow_loop *l, ig_tensor *const *operand,
                            ir_type *type_) {
    for (int k = 0; k < l->n + l->nx; k++) {
        ir_type t;
        if (!fe_rec_type(c, operand[k], &t)) return false;
        if (k >= l->n) t = ir_tensor_type((ig_dtype)t.dtype, t.rank - 1, t.dim + 1);
        type_[1 + k] = t;
    }
    type_[0] = ir_scalar_type(IG_i64);
    return true;
}

/* What a recorded scan gives: one step's carried values, and its elements everywhere; in a gradient
 * scope what it gives indeed. */
static bool flow_scan_results(fe_call *c, const flow_loop *l, int64_t steps, ig_tensor *const *next,
                              ig_tensor **out) {
    if (!fe_is_traced(c)) {
        flow_aside aside = flow_set_aside(c);
        return flow_put_back(c, aside, flow_scan_run(c, l, steps, out));
    }
    for (int k = 0; k < l->n + l->ny; k++) {
        out[k] = k < l->n ? next[k] : flow_stack(c, next[k], steps);
        if (fe_is_poison(out[k])) return false;
        for (int64_t i = 0; k >= l->n && i < steps; i++) flow_put(out[k], next[k], i);
    }
    return true;
}

/* Record one step on the first slices. */
static bool flow_scan_record(fe_call *c, const flow_loop *l, int64_t steps, ig_tensor **out) {
    ir_type type[FLOW_MOST + 1];
    ig_tensor *operand[FLOW_MOST], *in[FLOW_MOST], *region[FLOW_MOST], *next[FLOW_MOST];
    for (int k = 0; k < l->n; k++) operand[k] = out[k];
    for (int k = 0; k < l->nx; k++) operand[l->n + k] = l->xs[k];
    int nin = l->n + l->nx, nout = l->n + l->ny;
    if (!flow_scan_types(c, l, operand, type) || !flow_arguments(c, l, out, 0, in) ||
        !fe_rec_begin(c, OP_scan, &l->attr.scan, nin, operand))
        return false;
    for (int k = 0; k <= nin; k++) { /* the region has the step first */
        ig_tensor *x = in[k];
        region[k < nin ? k + 1 : 0] = x = fe_alias(c, x, x->rank, x->dim);
        if (fe_is_poison(x)) return false;
        in[k] = x;
    }
    if (!fe_rec_enter(c, nin + 1, type, region)) return false;
    bool ok = flow_body(c, l->body, in, nout, next);
    for (int k = 0; k < l->n && ok; k++) ok = flow_fits(c, "carried value", k, next[k], in[k]);
    for (int k = 0; k < nout && ok; k++) ok = fe_rec_type(c, next[k], &type[k]);
    if (!fe_rec_yield(c, ok ? nout : 0, next) || !ok) return false;
    if (!flow_scan_results(c, l, steps, next, out)) return false;
    for (int k = l->n; k < nout; k++) {
        memmove(type[k].dim + 1, type[k].dim, type[k].rank * sizeof *type[k].dim);
        type[k].dim[0] = l->attr.scan.n;
        type[k].rank++;
    }
    return flow_record_end(c, nout, type, out);
}

/* How many steps: the extent that all xs share, or what the options say. */
static bool flow_steps(fe_call *c, const flow_loop *l, const ig_scan_options *opt, ir_dim *n_) {
    ir_dims d;
    if (!l->nx) {
        ig_dims one = {1, {opt ? opt->steps : 0}};
        if (!fe_user_dims(c, one, false, &d)) return false;
        *n_ = d.d[0];
        return true;
    }
    for (int k = 0; k < l->nx; k++) {
        d = fe_dims(c, l->xs[k]);
        if (d.n && (!k || d.d[0] == *n_)) {
            *n_ = d.d[0];
            continue;
        }
        fe_error(c, IG_SHAPE, "sliced tensor %d is %s: all have one extent in their first axis", k,
                 FE_TYPE(l->xs[k]));
        return false;
    }
    return true;
}

static bool flow_scan(fe_call *c, const flow_loop *l, ig_tensor **out_) {
    int64_t steps = l->attr.scan.n;
    if (!c->s->rec) return flow_scan_run(c, l, steps, out_);
    if (fe_rec_eval(c->s->rec, l->attr.scan.n, &steps))
        return fe_rec_check(c, flow_scan_record(c, l, steps, out_));
    fe_error(c, IG_RANGE, "the number of steps is out of range for the example's sizes");
    return false;
}

bool fe_scan(fe_call *c, fe_body body, ig_tensor *const *in, int nx, int ny,
             const ir_attr_scan *attr, ig_tensor **out_) {
    int n = (int)attr->carries;
    flow_loop l = {.body = body, .n = n, .nx = nx, .ny = ny, .xs = in + n, .attr.scan = *attr};
    for (int k = 0; k < n; k++) out_[k] = in[k];
    return flow_scan(c, &l, out_);
}

bool ig_scan_at(const ig_site *site, ig_body_fn body, void *user, int ncarry,
                ig_tensor *const *init, int nx, ig_tensor *const *xs, int ny,
                const ig_scan_options *opt, ig_tensor **out_) {
    flow_loop l = {.body = {body, user}, .n = ncarry, .nx = nx, .ny = ny, .xs = xs};
    bool some = ncarry >= 0 && nx >= 0 && ny >= 0;
    int nout = some ? ncarry + ny : 0;
    l.attr.scan = (ir_attr_scan){
        .carries = ncarry, .reverse = opt && opt->reverse, .ckpt = opt ? opt->keep : 0};
    for (int k = 0; k < nout; k++) out_[k] = fe_poison_none();
    FE_ENTER_OR(site, "scan", false);
    bool ok = flow_counts(c, some ? ncarry + nx : -1, nout) && flow_usable(c, ncarry, init) &&
              flow_usable(c, nx, xs) && flow_policy(c, OP_scan, &l.attr.scan) &&
              flow_steps(c, &l, opt, &l.attr.scan.n);
    for (int k = 0; ok && k < ncarry; k++) out_[k] = init[k];
    ok = ok && flow_scan(c, &l, out_);
    return flow_leave(c, ok, nout, out_);
}
