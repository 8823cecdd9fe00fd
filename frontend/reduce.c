/* reduce.c - reductions, contractions, and the composites made of them. */
#include "frontend/fe.h"
#include <math.h>
#include <string.h>

/* --- Reductions ---------------------------------------------------------------------------- */

ig_tensor *fe_reduce(fe_call *c, ir_redop op, ig_tensor *x, const ir_axes *axes, bool keep) {
    ir_attr_reduce attr = {.op = (uint8_t)op, .axes = *axes};
    if (fe_is_poison(x)) return x;
    bool position = op == IR_redop_argmax || op == IR_redop_argmin;
    ig_tensor *r = axes->n || position ? fe_op1(c, OP_reduce, &attr, x) : x;
    return keep ? fe_new_axes(c, r, axes) : r;
}

/* A 16-bit float computes in f32. */
static ig_tensor *reduce_widen(fe_call *c, ig_tensor *x) {
    if (fe_is_poison(x)) return x;
    return x->dtype == IG_f16 || x->dtype == IG_bf16 ? fe_convert(c, x, IG_f32) : x;
}

ig_tensor *fe_count(fe_call *c, ig_tensor *x, const ir_axes *axes, ig_dtype dtype) {
    ir_dims d = fe_dims(c, x);
    ir_dim n = 1;
    for (int i = 0; i < axes->n; i++) n = ir_dim_mul(fe_module(c), n, d.d[axes->a[i]]);
    if (n == IR_DIM_BAD) return fe_error(c, IG_RANGE, "too many elements");
    if (ir_dim_is_const(n)) return fe_convert(c, fe_int(c, IG_i64, n), dtype);
    return fe_convert(c, fe_op(c, OP_dim, &(ir_attr_extent){.n = n}, 0, NULL), dtype);
}

static ig_tensor *reduce_mean(fe_call *c, ig_tensor *x, const ir_axes *axes, bool keep) {
    ig_tensor *w = reduce_widen(c, x);
    if (fe_is_poison(w)) return w;
    if (!rt_is_float((ig_dtype)w->dtype))
        return fe_error(c, IG_DTYPE, "%s: a mean is a float: write ig_cast(x, IG_f32)", FE_TYPE(x));
    ig_tensor *sum = fe_reduce(c, IR_redop_sum, w, axes, keep);
    return fe_div(c, sum, fe_count(c, w, axes, (ig_dtype)w->dtype));
}

static ig_tensor *reduce_var(fe_call *c, ig_tensor *x, const ir_axes *axes, bool keep, int ddof) {
    ig_tensor *w = reduce_widen(c, x), *mean = reduce_mean(c, w, axes, true);
    if (fe_is_poison(mean)) return mean;
    ig_tensor *off = fe_sub(c, w, mean);
    ig_tensor *sum = fe_reduce(c, IR_redop_sum, fe_mul(c, off, off), axes, keep);
    ig_tensor *n =
        fe_sub(c, fe_count(c, w, axes, (ig_dtype)w->dtype), fe_int(c, (ig_dtype)w->dtype, ddof));
    return fe_div(c, sum, fe_with(c, OP_max, n, 0));
}

static ig_tensor *reduce_logsumexp(fe_call *c, ig_tensor *x, const ir_axes *axes, bool keep) {
    ig_tensor *max = fe_reduce(c, IR_redop_max, x, axes, true);
    if (fe_is_poison(max) || !rt_is_float((ig_dtype)x->dtype))
        return fe_is_poison(max)
                   ? max
                   : fe_error(c, IG_DTYPE, "%s: floats are needed; cast first", FE_TYPE(x));
    ig_tensor *inf = fe_float(c, (ig_dtype)x->dtype, (double)INFINITY);
    ig_tensor *finite = fe_cmp(c, IR_cmpop_lt, fe_op1(c, OP_abs, NULL, max), inf);
    ig_tensor *m = fe_select(c, finite, max, fe_float(c, (ig_dtype)x->dtype, 0));
    ig_tensor *sum =
        fe_reduce(c, IR_redop_sum, fe_op1(c, OP_exp, NULL, fe_sub(c, x, m)), axes, true);
    ig_tensor *r = fe_add(c, fe_op1(c, OP_log, NULL, sum), m);
    return keep ? r : fe_drop_axes(c, r, axes);
}

static ig_tensor *reduce_plain(const ig_site *site, const char *name, ir_redop op, ig_arg x,
                               ig_axes axes) {
    FE_ENTER(site, name);
    ir_axes a;
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t) || !fe_axes(c, axes, t->rank, &a)) return fe_leave(c, NULL);
    if (t->dtype == IG_bool && op == IR_redop_sum) t = fe_convert(c, t, IG_i64);
    return fe_leave(c, fe_reduce(c, op, t, &a, axes.keep));
}

#define REDUCE_ROWS(ROW) \
    ROW(sum, sum) ROW(prod, prod) ROW(max, max) ROW(min, min) ROW(all, all) ROW(any, any)
#define REDUCE(name, op)                                                     \
    ig_tensor *ig_##name##_at(const ig_site *site, ig_arg x, ig_axes axes) { \
        return reduce_plain(site, #name, IR_redop_##op, x, axes);            \
    }
REDUCE_ROWS(REDUCE)

/* The position along one axis, or in the flattened tensor. */
static ig_tensor *reduce_position(const ig_site *site, const char *name, ir_redop op, ig_arg x,
                                  ig_axes axes) {
    FE_ENTER(site, name);
    ir_axes a, first = {.n = 1};
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t) || !fe_axes(c, axes, t->rank, &a)) return fe_leave(c, NULL);
    if (!axes.all) return fe_leave(c, fe_reduce(c, op, t, &a, axes.keep));
    ir_dims d = fe_dims(c, t), flat = {.n = 1, .d = {1}}, ones = {.n = d.n};
    for (int i = 0; i < d.n; i++) {
        flat.d[0] = ir_dim_mul(fe_module(c), flat.d[0], d.d[i]);
        ones.d[i] = 1;
    }
    ig_tensor *r = fe_reduce(c, op, fe_reshape(c, t, &flat), &first, false);
    return fe_leave(c, axes.keep ? fe_reshape(c, r, &ones) : r);
}

ig_tensor *ig_argmax_at(const ig_site *site, ig_arg x, ig_axes axes) {
    return reduce_position(site, "argmax", IR_redop_argmax, x, axes);
}

ig_tensor *ig_argmin_at(const ig_site *site, ig_arg x, ig_axes axes) {
    return reduce_position(site, "argmin", IR_redop_argmin, x, axes);
}

/* A composite over axes, its result in x's type. */
typedef ig_tensor *(*reduce_rule)(fe_call *c, ig_tensor *x, const ir_axes *axes, bool keep);

static ig_tensor *reduce_composite(const ig_site *site, const char *name, reduce_rule rule,
                                   ig_arg x, ig_axes axes) {
    FE_ENTER(site, name);
    ir_axes a;
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t) || !fe_axes(c, axes, t->rank, &a)) return fe_leave(c, NULL);
    return fe_leave(c, fe_convert(c, rule(c, t, &a, axes.keep), (ig_dtype)t->dtype));
}

ig_tensor *ig_count_at(const ig_site *site, ig_arg x, ig_axes axes) {
    FE_ENTER(site, "count");
    ir_axes a;
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t) || !fe_axes(c, axes, t->rank, &a)) return fe_leave(c, NULL);
    return fe_leave(c, fe_count(c, t, &a, IG_i64));
}

ig_tensor *ig_mean_at(const ig_site *site, ig_arg x, ig_axes axes) {
    return reduce_composite(site, "mean", reduce_mean, x, axes);
}

ig_tensor *ig_logsumexp_at(const ig_site *site, ig_arg x, ig_axes axes) {
    return reduce_composite(site, "logsumexp", reduce_logsumexp, x, axes);
}

static ig_tensor *reduce_spread(const ig_site *site, const char *name, ig_arg x, ig_axes axes,
                                int ddof, bool root) {
    FE_ENTER(site, name);
    ir_axes a;
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t) || !fe_axes(c, axes, t->rank, &a)) return fe_leave(c, NULL);
    ig_tensor *r = reduce_var(c, t, &a, axes.keep, ddof);
    if (root) r = fe_op1(c, OP_sqrt, NULL, r);
    return fe_leave(c, fe_convert(c, r, (ig_dtype)t->dtype));
}

ig_tensor *ig_var_at(const ig_site *site, ig_arg x, ig_axes axes, int ddof) {
    return reduce_spread(site, "var", x, axes, ddof, false);
}

ig_tensor *ig_std_at(const ig_site *site, ig_arg x, ig_axes axes, int ddof) {
    return reduce_spread(site, "std", x, axes, ddof, true);
}

ig_tensor *ig_cum_at(const ig_site *site, ig_arg x, ig_cum op, int axis, bool reverse,
                     bool exclusive) {
    FE_ENTER(site, "cum");
    static const uint8_t redop[] = {[IG_CUM_SUM] = IR_redop_sum,
                                    [IG_CUM_PROD] = IR_redop_prod,
                                    [IG_CUM_MAX] = IR_redop_max,
                                    [IG_CUM_MIN] = IR_redop_min};
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t) || !fe_axis(c, axis, t->rank, &axis)) return fe_leave(c, NULL);
    if ((unsigned)op > IG_CUM_MIN)
        return fe_leave(c, fe_error(c, IG_INVALID, "there is no running reduction %d", (int)op));
    ir_attr_cumred attr = {
        .op = redop[op], .axis = axis, .reverse = reverse, .exclusive = exclusive};
    return fe_leave(c, fe_op1(c, OP_cumred, &attr, t));
}

/* --- Contractions -------------------------------------------------------------------------- */

/* Subscripts under any numbering of variables. */
typedef struct reduce_subs {
    int n;
    int v[IG_MAX_RANK];
} reduce_subs;

static void subs_add(reduce_subs *s, int var) { s->v[s->n++] = var; }

/* out += x * y; reduction variables in order of appearance. */
static ig_tensor *reduce_contract(fe_call *c, const reduce_subs *out, ig_tensor *const in[2],
                                  const reduce_subs *subs) {
    ir_attr_ein attr = {.rel = {.nin = 2, .monoid = IR_redop_sum}};
    ir_rel *rel = &attr.rel;
    for (int k = -1; k < 2; k++) {
        const reduce_subs *from = k < 0 ? out : &subs[k];
        ir_axes *to = k < 0 ? &rel->out : &rel->in[k];
        to->n = (uint8_t)from->n;
        for (int i = 0; i < from->n; i++) to->a[i] = (uint8_t)from->v[i];
    }
    ir_ein_number(rel);
    for (uint8_t v = rel->out.n; v < rel->nvar; v++) rel->order[rel->norder++] = v;
    return fe_op2(c, OP_ein, &attr, in[0], in[1]);
}

/* Batch variables: 0.. from the last one; free ones of dot: all below VAR_K. */
enum { VAR_K = IR_EIN_VARS - 3, VAR_M, VAR_N };

static ig_tensor *reduce_mismatch(fe_call *c, const ig_tensor *x, const ig_tensor *y,
                                  const char *what, ir_dim p, ir_dim q) {
    return fe_error(c, IG_SHAPE, "%s vs %s: %s differ: %s != %s", FE_TYPE(x), FE_TYPE(y), what,
                    FE_DIM(p), FE_DIM(q));
}

static ig_tensor *reduce_matmul(fe_call *c, ig_tensor *x, ig_tensor *y) {
    ir_dims p = fe_dims(c, x), q = fe_dims(c, y);
    if (!p.n || !q.n)
        return fe_error(c, IG_SHAPE, "%s vs %s: a scalar has no axis to contract", FE_TYPE(x),
                        FE_TYPE(y));
    int pb = p.n > 2 ? p.n - 2 : 0, qb = q.n > 2 ? q.n - 2 : 0, nb = pb > qb ? pb : qb;
    ir_dim pk = p.d[p.n - 1], qk = q.d[q.n == 1 ? 0 : q.n - 2];
    if (pk != qk) return reduce_mismatch(c, x, y, "the inner extents", pk, qk);
    reduce_subs out = {0}, subs[2] = {{0}, {0}};
    ir_axes drop[2] = {{0}, {0}};
    for (int b = nb; b > 0; b--) { /* batch axes, from the first */
        ir_dim s = b <= pb ? p.d[pb - b] : 1, t = b <= qb ? q.d[qb - b] : 1;
        bool in_x = b <= pb && (s != 1 || t == 1), in_y = b <= qb && (t != 1 || s == 1);
        if (s != t && s != 1 && t != 1) return reduce_mismatch(c, x, y, "batch extents", s, t);
        subs_add(&out, b - 1);
        if (in_x) subs_add(&subs[0], b - 1);
        if (in_y) subs_add(&subs[1], b - 1);
        if (b <= pb && !in_x) drop[0].a[drop[0].n++] = (uint8_t)(pb - b);
        if (b <= qb && !in_y) drop[1].a[drop[1].n++] = (uint8_t)(qb - b);
    }
    if (p.n > 1) {
        subs_add(&out, VAR_M);
        subs_add(&subs[0], VAR_M);
    }
    subs_add(&subs[0], VAR_K);
    subs_add(&subs[1], VAR_K);
    if (q.n > 1) {
        subs_add(&out, VAR_N);
        subs_add(&subs[1], VAR_N);
    }
    ig_tensor *in[2] = {fe_drop_axes(c, x, &drop[0]), fe_drop_axes(c, y, &drop[1])};
    return reduce_contract(c, &out, in, subs);
}

static ig_tensor *reduce_dot(fe_call *c, ig_tensor *x, ig_tensor *y) {
    ir_dims p = fe_dims(c, x), q = fe_dims(c, y);
    reduce_subs out = {0}, subs[2] = {{0}, {0}};
    if (!p.n || !q.n) return fe_mul(c, x, y);
    int over = q.n == 1 ? 0 : q.n - 2; /* the contracted axis of y */
    int next = p.n - 1;
    if (p.d[p.n - 1] != q.d[over])
        return reduce_mismatch(c, x, y, "the contracted extents", p.d[p.n - 1], q.d[over]);
    if (p.n + q.n - 2 > IG_MAX_RANK)
        return fe_error(c, IG_SHAPE, "the result has more than %d axes", IG_MAX_RANK);
    for (int i = 0; i < p.n - 1; i++) {
        subs_add(&out, i);
        subs_add(&subs[0], i);
    }
    subs_add(&subs[0], VAR_K);
    for (int i = 0; i < q.n; i++) {
        int var = i == over ? VAR_K : next++;
        if (i != over) subs_add(&out, var);
        subs_add(&subs[1], var);
    }
    ig_tensor *in[2] = {x, y};
    return reduce_contract(c, &out, in, subs);
}

/* x[:, new] * y */
static ig_tensor *reduce_outer(fe_call *c, ig_tensor *x, ig_tensor *y) {
    ir_axes last = {.n = 1, .a = {1}};
    if (x->rank != 1 || y->rank != 1)
        return fe_error(c, IG_SHAPE, "%s vs %s: two vectors are needed", FE_TYPE(x), FE_TYPE(y));
    return fe_mul(c, fe_new_axes(c, x, &last), y);
}

typedef ig_tensor *(*reduce_rule2)(fe_call *c, ig_tensor *x, ig_tensor *y);

static ig_tensor *reduce_binary(const ig_site *site, const char *name, reduce_rule2 rule, ig_arg x,
                                ig_arg y) {
    FE_ENTER(site, name);
    ig_arg args[2] = {x, y};
    ig_tensor *in[2];
    return fe_leave(c, fe_promote(c, 2, args, in) ? rule(c, in[0], in[1]) : fe_poison(c));
}

ig_tensor *ig_matmul_at(const ig_site *site, ig_arg x, ig_arg y) {
    return reduce_binary(site, "matmul", reduce_matmul, x, y);
}

ig_tensor *ig_dot_at(const ig_site *site, ig_arg x, ig_arg y) {
    return reduce_binary(site, "dot", reduce_dot, x, y);
}

ig_tensor *ig_outer_at(const ig_site *site, ig_arg x, ig_arg y) {
    return reduce_binary(site, "outer", reduce_outer, x, y);
}

/* A sum over one access is a reduce (numerics rule 7): axes to [result.., reduction order..], then
 * the last ones go. */
static ig_tensor *reduce_single(fe_call *c, ig_tensor *x, const ir_rel *rel) {
    ir_axes perm = {0}, tail = {0};
    for (int i = 0; i < rel->out.n + rel->norder; i++) {
        uint8_t var = i < rel->out.n ? rel->out.a[i] : rel->order[i - rel->out.n];
        for (int k = 0; k < rel->in[0].n; k++)
            if (rel->in[0].a[k] == var) perm.a[perm.n++] = (uint8_t)k;
        if (i >= rel->out.n) tail.a[tail.n++] = (uint8_t)i;
    }
    return fe_reduce(c, IR_redop_sum, fe_transpose(c, x, &perm), &tail, false);
}

/* Factors meet in one type; indices are what they are. */
static bool ein_promote(fe_call *c, const ir_rel *rel, ig_tensor *const *given, ig_tensor **in_) {
    ig_arg args[IR_EIN_OPERANDS];
    int n = 0;
    for (int k = 0; k < rel->nin; k++) {
        in_[k] = given[k];
        if (!rel->look[k]) args[n++] = ig_arg_t(given[k]);
    }
    return fe_promote(c, n, args, in_);
}

ig_tensor *ig_ein_at(const ig_site *site, const char *relation, ig_list list) {
    FE_ENTER(site, "ein");
    ir_attr_ein attr = {0};
    char message[512];
    ir_dims dims[IR_EIN_OPERANDS];
    ig_tensor *in[IR_EIN_OPERANDS];
    if (!relation || !list.t || list.n < 1 || list.n > IR_EIN_OPERANDS)
        return fe_leave(
            c, fe_error(c, IG_INVALID, "give a relation and 1 to %d operands", IR_EIN_OPERANDS));
    for (int k = 0; k < list.n; k++) {
        if (!fe_is_usable(c, list.t[k], k)) return fe_leave(c, NULL);
        dims[k] = fe_dims(c, list.t[k]);
    }
    ir_module *m = fe_module(c);
    if (!ir_ein_parse_for(m, relation, strlen(relation), list.n, dims, &attr.rel, message,
                          sizeof message))
        return fe_leave(c, m && ir_dims_lacked_memory(m) ? fe_error_memory(c)
                                                         : fe_error(c, IG_FORMAT, "%s", message));
    if (!ein_promote(c, &attr.rel, list.t, in)) return fe_leave(c, NULL);
    if (ir_ein_is_sum(&attr.rel)) return fe_leave(c, reduce_single(c, in[0], &attr.rel));
    return fe_leave(c, fe_op(c, OP_ein, &attr, list.n, in));
}

/* --- Softmax and one-hot ------------------------------------------------------------------- */

static ig_tensor *reduce_softmax(fe_call *c, ig_tensor *x, const ir_axes *axis, bool log) {
    ig_tensor *w = reduce_widen(c, x);
    ig_tensor *off = fe_sub(c, w, fe_reduce(c, IR_redop_max, w, axis, true));
    ig_tensor *e = fe_op1(c, OP_exp, NULL, off), *sum = fe_reduce(c, IR_redop_sum, e, axis, true);
    return log ? fe_sub(c, off, fe_op1(c, OP_log, NULL, sum)) : fe_div(c, e, sum);
}

static ig_tensor *reduce_soft(const ig_site *site, const char *name, ig_arg x, int axis, bool log) {
    FE_ENTER(site, name);
    ir_axes a;
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t) || !fe_axes(c, ig_axes_of_int(axis), t->rank, &a)) return fe_leave(c, NULL);
    return fe_leave(c, fe_convert(c, reduce_softmax(c, t, &a, log), (ig_dtype)t->dtype));
}

ig_tensor *ig_softmax_at(const ig_site *site, ig_arg x, int axis) {
    return reduce_soft(site, "softmax", x, axis, false);
}

ig_tensor *ig_log_softmax_at(const ig_site *site, ig_arg x, int axis) {
    return reduce_soft(site, "log_softmax", x, axis, true);
}

ig_tensor *ig_one_hot_at(const ig_site *site, ig_arg x, int64_t n, ig_dtype dtype) {
    FE_ENTER(site, "one_hot");
    ir_dims classes = {.n = 1, .d = {n}};
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t)) return fe_leave(c, t);
    if (n < 0 || !fe_is_dtype(dtype))
        return fe_leave(c,
                        fe_error(c, IG_INVALID, "an extent >= 0 and an element type are needed"));
    if (!rt_is_int((ig_dtype)t->dtype))
        return fe_leave(c, fe_error(c, IG_DTYPE, "%s: integer classes are needed", FE_TYPE(t)));
    ir_axes last = {.n = 1, .a = {t->rank}};
    ig_tensor *at = fe_new_axes(c, fe_convert(c, t, IG_i64), &last);
    return fe_leave(
        c, fe_convert(c, fe_cmp(c, IR_cmpop_eq, at, fe_iota(c, IG_i64, &classes, 0)), dtype));
}
