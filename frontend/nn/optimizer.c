/* optimizer.c - updates of parameters: formulas of ingot/nn.h, written in public ops, so that they
 * run eagerly and are recorded by a trace.  What an update remembers are handles that it assigns.
 */
#include "frontend/fe.h"
#include "ingot/nn.h"
#include <stdio.h>
#include <string.h>

struct ig_optimizer {
    const ig_allocator *alloc; /* borrowed */
    ig_optimizer_options opt;
    int n, nstate;
    ig_tensor **param;           /* retained */
    ig_tensor **first, **second; /* moments; NULL where the update has none; in state */
    ig_tensor **state;           /* owned: moments, then the count of steps */
};

#define OP1(name, x)    ig_##name##_at(c->site, ig_arg_t(x))
#define OP2(name, x, y) ig_##name##_at(c->site, ig_arg_t(x), ig_arg_t(y))
#define NUM(name, x, n) ig_##name##_at(c->site, ig_arg_t(x), ig_arg_f(n))

/* --- Life ------------------------------------------------------------------------------------ */

static int optimizer_moments(const ig_optimizer_options *o) {
    return o->update != IG_SGD ? 2 : o->momentum != 0;
}

void ig_optimizer_free(ig_optimizer *o) {
    if (!o) return;
    for (int k = 0; k < o->n; k++)
        if (o->param && o->param[k]) fe_release(o->param[k]);
    for (int k = 0; k < o->nstate; k++)
        if (o->state && o->state[k]) ig_free(o->state[k]);
    rt_free(o->alloc, o->param, ((size_t)o->n + 1) * sizeof *o->param);
    rt_free(o->alloc, o->state, ((size_t)o->nstate + 1) * sizeof *o->state);
    rt_free(o->alloc, o, sizeof *o);
}

/* A moment of a parameter: zeros, kept, named after it. */
static ig_tensor *optimizer_moment(fe_call *c, const ig_tensor *param, int k, const char *suffix) {
    char name[224];
    if (param->name)
        snprintf(name, sizeof name, "%s_%s", param->name, suffix);
    else
        snprintf(name, sizeof name, "p%d_%s", k, suffix);
    ig_tensor *t = ig_name(ig_full_like_at(c->site, ig_arg_t(param), IG_NONE, ig_arg_i(0)), name);
    return fe_is_poison(t) ? NULL : ig_keep(t);
}

static void optimizer_fill(fe_call *c, ig_optimizer *o, ig_list params) {
    int moments = optimizer_moments(&o->opt), at = 0;
    for (int k = 0; k < o->n; k++) {
        ig_tensor *t = params.t[k];
        if (!fe_is_usable(c, t, k)) {
            fe_error(c, IG_INVALID, "parameter %d is poison: an op before failed", k);
            return;
        }
        if (!rt_is_float((ig_dtype)t->dtype)) {
            fe_error(c, IG_DTYPE, "parameter %d is %s: floats are needed", k, FE_TYPE(t));
            return;
        }
        fe_retain(o->param[k] = t);
    }
    o->first = o->state;
    o->second = o->state + o->n;
    for (int j = 0; j < moments; j++)
        for (int k = 0; k < o->n; k++)
            if (!(o->state[at++] = optimizer_moment(c, o->param[k], k, j ? "v" : "m"))) return;
    ig_tensor *steps = ig_name(ig_scalar_at(c->site, IG_i64, ig_arg_i(0)), "steps");
    if (!fe_is_poison(steps)) o->state[at] = ig_keep(steps);
}

static ig_status optimizer_new(fe_call *c, ig_list params, const ig_optimizer_options *opt,
                               ig_optimizer **out_) {
    const ig_allocator *a = fe_alloc(c);
    if (params.n < 1) return fe_status(c, rt_fail(a, IG_INVALID, "there are no parameters"));
    ig_optimizer *o = rt_alloc_zero(a, sizeof *o);
    if (!o) return fe_status(c, rt_fail_memory());
    o->alloc = a;
    o->opt = *opt;
    if (o->opt.beta1 == 0) o->opt.beta1 = 0.9;
    if (o->opt.beta2 == 0) o->opt.beta2 = 0.999;
    if (o->opt.eps == 0) o->opt.eps = 1e-8;
    o->n = params.n;
    o->nstate = params.n * optimizer_moments(opt) + 1;
    o->param = rt_alloc_zero(a, ((size_t)o->n + 1) * sizeof *o->param);
    o->state = rt_alloc_zero(a, ((size_t)o->nstate + 1) * sizeof *o->state);
    if (!o->param || !o->state) {
        ig_optimizer_free(o);
        return fe_status(c, rt_fail_memory());
    }
    ig_status before = fe_error_aside(c);
    optimizer_fill(c, o, params);
    ig_status s = fe_error_back(c, before);
    if (s)
        ig_optimizer_free(o);
    else
        *out_ = o;
    return s;
}

ig_status ig_optimizer_new_at(const ig_site *site, ig_list params, const ig_optimizer_options *opt,
                              ig_optimizer **out_) {
    fe_call c;
    *out_ = NULL;
    RT_TRY(fe_enter_status(&c, site, "optimizer_new"));
    ig_status s = c.s->rec ? fe_status(&c, rt_fail(fe_alloc(&c), IG_TRACE,
                                                   "an optimiser is made outside of what is "
                                                   "recorded: what it remembers outlives it"))
                           : optimizer_new(&c, params, opt, out_);
    fe_exit(&c);
    return s;
}

ig_list ig_optimizer_params(const ig_optimizer *o) { return (ig_list){o->n, o->param}; }

ig_list ig_optimizer_state(const ig_optimizer *o) { return (ig_list){o->nstate, o->state}; }

ig_tensor *ig_optimizer_steps(const ig_optimizer *o) { return o->state[o->nstate - 1]; }

void ig_optimizer_watch_at(const ig_site *site, ig_optimizer *o) {
    FE_ENTER_OR(site, "optimizer_watch", );
    for (int k = 0; k < o->n; k++) {
        ig_grad_clear(o->param[k]);
        ig_watch_at(site, o->param[k]);
    }
    fe_exit(c);
}

/* --- Clipping -------------------------------------------------------------------------------- */

/* The sum of all squares, at least in f32. */
static ig_tensor *optimizer_squares(fe_call *c, int n, ig_tensor *const *list) {
    ig_tensor *sum = NULL;
    for (int k = 0; k < n; k++) {
        ig_tensor *g = fe_is_usable(c, list[k], k) ? list[k] : fe_poison(c);
        if (!fe_is_poison(g) && g->dtype != IG_f64) g = fe_convert(c, g, IG_f32);
        ig_tensor *one = ig_sum_at(c->site, ig_arg_t(OP2(mul, g, g)), IG_ALL_AXES);
        if (sum && !fe_is_poison(one) && !fe_is_poison(sum) && sum->dtype != one->dtype) {
            sum = fe_convert(c, sum, IG_f64);
            one = fe_convert(c, one, IG_f64);
        }
        sum = sum ? OP2(add, sum, one) : one;
    }
    return sum;
}

ig_tensor *ig_global_norm_at(const ig_site *site, ig_list list) {
    FE_ENTER(site, "global_norm");
    if (list.n < 1) return fe_leave(c, fe_error(c, IG_INVALID, "there are no tensors"));
    return fe_leave(c, OP1(sqrt, optimizer_squares(c, list.n, list.t)));
}

static void optimizer_clip(fe_call *c, const ig_optimizer *o, ig_tensor **g) {
    const double value = o->opt.clip_value;
    if (o->opt.clip_norm != 0) {
        ig_tensor *norm = OP1(sqrt, optimizer_squares(c, o->n, g));
        ig_tensor *by = ig_div_at(c->site, ig_arg_f(o->opt.clip_norm), ig_arg_t(norm));
        by = NUM(minimum, by, 1);
        for (int k = 0; k < o->n; k++)
            g[k] = OP2(mul, g[k], fe_convert(c, by, (ig_dtype)g[k]->dtype));
    }
    for (int k = 0; value != 0 && k < o->n; k++)
        g[k] = ig_clip_at(c->site, ig_arg_t(g[k]), ig_arg_f(-value), ig_arg_f(value));
}

/* --- Updates --------------------------------------------------------------------------------- */

/* What one update needs beside the gradient. */
typedef struct optimizer_step {
    fe_call *c;
    const ig_optimizer *o;
    ig_tensor *rate;        /* f64 */
    ig_tensor *fix1, *fix2; /* f64: 1 / (1 - beta^t) */
} optimizer_step;

/* x + number * y */
static ig_tensor *optimizer_add(fe_call *c, ig_tensor *x, double number, ig_tensor *y) {
    return OP2(add, x, NUM(mul, y, number));
}

/* m = keep * m + add * g, assigned. */
static ig_tensor *optimizer_remember(fe_call *c, ig_tensor *m, double keep, double add,
                                     ig_tensor *g) {
    ig_tensor *by = add == 1 ? g : NUM(mul, g, add);
    ig_assign_at(c->site, m, ig_arg_t(OP2(add, NUM(mul, m, keep), by)));
    return m;
}

/* What the rate is multiplied with. */
static ig_tensor *optimizer_sgd(const optimizer_step *s, int k, ig_tensor *g) {
    fe_call *c = s->c;
    const ig_optimizer_options *opt = &s->o->opt;
    if (opt->momentum == 0) return g;
    ig_tensor *m = optimizer_remember(c, s->o->first[k], opt->momentum, 1, g);
    return opt->nesterov ? optimizer_add(c, g, opt->momentum, m) : m;
}

static void optimizer_param(const optimizer_step *s, int k, ig_tensor *g) {
    fe_call *c = s->c;
    const ig_optimizer_options *opt = &s->o->opt;
    ig_tensor *w = s->o->param[k], *by;
    ig_dtype d = (ig_dtype)w->dtype;
    ig_tensor *rate = fe_convert(c, s->rate, d), *from = w;
    if (opt->decay != 0 && opt->update != IG_ADAMW) g = optimizer_add(c, g, opt->decay, w);
    if (opt->decay != 0 && opt->update == IG_ADAMW) {
        ig_tensor *left = ig_sub_at(c->site, ig_arg_f(1), ig_arg_t(NUM(mul, s->rate, opt->decay)));
        from = OP2(mul, w, fe_convert(c, left, d));
    }
    if (opt->update == IG_SGD) {
        by = OP2(mul, rate, optimizer_sgd(s, k, g));
    } else {
        ig_tensor *m = optimizer_remember(c, s->o->first[k], opt->beta1, 1 - opt->beta1, g);
        ig_tensor *v =
            optimizer_remember(c, s->o->second[k], opt->beta2, 1 - opt->beta2, OP2(mul, g, g));
        ig_tensor *root = OP1(sqrt, OP2(mul, v, fe_convert(c, s->fix2, d)));
        by = OP2(mul, rate, OP2(mul, m, fe_convert(c, s->fix1, d)));
        by = OP2(div, by, NUM(add, root, opt->eps));
    }
    ig_assign_at(c->site, w, ig_arg_t(OP2(sub, from, by)));
}

/* 1 / (1 - beta^t) in f64. */
static ig_tensor *optimizer_fix(fe_call *c, ig_tensor *t, double beta) {
    ig_tensor *power = ig_pow_at(c->site, ig_arg_f(beta), ig_arg_t(t));
    return ig_div_at(c->site, ig_arg_f(1),
                     ig_arg_t(ig_sub_at(c->site, ig_arg_f(1), ig_arg_t(power))));
}

static void optimizer_all(fe_call *c, ig_optimizer *o, ig_arg rate, ig_tensor **g) {
    optimizer_step s = {.c = c, .o = o};
    ig_tensor *steps = ig_optimizer_steps(o);
    s.rate = rate.kind == IG_ARG_TENSOR ? fe_arg(c, rate) : fe_number(c, IG_f64, rate);
    if (fe_is_poison(s.rate)) return;
    if (s.rate->rank || !rt_is_float((ig_dtype)s.rate->dtype)) {
        fe_error(c, IG_SHAPE, "the rate is %s: a floating scalar is needed", FE_TYPE(s.rate));
        return;
    }
    s.rate = fe_convert(c, s.rate, IG_f64);
    for (int k = 0; k < o->n; k++) {
        if (!fe_is_usable(c, g[k], k)) return;
        if (g[k]->dtype != o->param[k]->dtype || !fe_same_shape(g[k], o->param[k])) {
            fe_error(c, IG_SHAPE, "gradient %d is %s, its parameter %s", k, FE_TYPE(g[k]),
                     FE_TYPE(o->param[k]));
            return;
        }
    }
    optimizer_clip(c, o, g);
    ig_assign_at(c->site, steps, ig_arg_t(ig_add_at(c->site, ig_arg_t(steps), ig_arg_i(1))));
    if (o->opt.update != IG_SGD) {
        ig_tensor *t = fe_convert(c, steps, IG_f64);
        s.fix1 = optimizer_fix(c, t, o->opt.beta1);
        s.fix2 = optimizer_fix(c, t, o->opt.beta2);
    }
    for (int k = 0; k < o->n; k++) optimizer_param(&s, k, g[k]);
}

/* One update; grads NULL: the parameters' own. */
static void optimizer_run(const ig_site *site, const char *name, ig_optimizer *o, ig_arg rate,
                          ig_tensor *const *grads) {
    FE_ENTER_OR(site, name, );
    size_t bytes = (size_t)o->n * sizeof *grads;
    ig_tensor **g = rt_alloc(fe_alloc(c), bytes);
    if (!g) fe_error_memory(c);
    for (int k = 0; g && k < o->n; k++) g[k] = grads ? grads[k] : ig_grad_of_at(site, o->param[k]);
    if (g) optimizer_all(c, o, rate, g);
    rt_free(fe_alloc(c), g, bytes);
    fe_exit(c);
}

void ig_optimizer_step_at(const ig_site *site, ig_optimizer *o, ig_arg rate) {
    optimizer_run(site, "optimizer_step", o, rate, NULL);
}

void ig_optimizer_apply_at(const ig_site *site, ig_optimizer *o, ig_arg rate,
                           ig_tensor *const *grads) {
    optimizer_run(site, "optimizer_apply", o, rate, grads);
}

/* --- Rates ----------------------------------------------------------------------------------- */

ig_tensor *ig_rate_at(const ig_site *site, ig_tensor *steps, const ig_rate_options *opt) {
    FE_ENTER(site, "rate");
    if (!fe_is_usable(c, steps, 0)) return fe_leave(c, NULL);
    ig_tensor *t = ig_cast_at(site, ig_arg_t(steps), IG_f64), *rate;
    rate = ig_scalar_at(site, IG_f64, ig_arg_f(opt->base));
    if (opt->total > opt->warmup) {
        double span = (double)(opt->total - opt->warmup);
        ig_tensor *way = NUM(div, NUM(sub, t, (double)opt->warmup), span);
        way = ig_clip_at(site, ig_arg_t(way), ig_arg_f(0), ig_arg_f(1));
        ig_tensor *half =
            NUM(mul, NUM(add, OP1(cos, NUM(mul, way, 3.14159265358979323846)), 1), 0.5);
        rate = NUM(add, NUM(mul, half, opt->base - opt->last), opt->last);
    }
    if (opt->warmup > 0) {
        ig_tensor *up = NUM(div, NUM(add, t, 1), (double)opt->warmup);
        rate = OP2(mul, rate, NUM(minimum, up, 1));
    }
    return fe_leave(c, rate);
}
