/* ein_rel.c - chains of a contraction whose variables are bound by constraints: convolutions,
 * windows, masks, gathers and their transposes.
 *
 * The loops over the reduction variables stand in the order of the relation, and each constraint is
 * met in the outermost loop where its variables are known (ir_ein_meet_all): an equation gives a
 * variable, an index is read, a test is made.  A tile of rows x one vector of columns runs side by
 * side, and what excludes a tuple for the whole tile skips the loops inside.  What may exclude it
 * for some rows or lanes only splits the tile at the innermost such level:
 *
 *     if all rows and lanes have the tuple      the interior: no tests in the loops inside
 *         loops inside
 *     else if some have it                      the border: subscripts kept inside, results
 * selected loops inside
 *
 * A variable grows by a constant from row to row wherever equations divide, so that of the rows the
 * first and the last are tested.  The rows of a tile may lie a stride apart for this (ein.c).
 *
 * Tuples that do not exist keep their place: blocks of K are cut by position (numerics rule 7), in
 * the innermost loop, which runs in pieces where blocks may end in it. */
#include "codegen/gemm.h"

#include <string.h>

#define REL_CHAINS (CG_EIN_ROWS + 1) /* and the block that they are in */

typedef struct rel {
    cg_low *l;
    const cg_ein *g;
    int n;         /* rows */
    int64_t lanes; /* of each; 0: single elements */
    bool blocks;   /* there may be more than one block of K; then the last chain is its number */
    ir_ref id;     /* what chains start from */
    int split;     /* the level at which the tile is split; -1: at none */
    bool border;   /* some rows or lanes may lack the tuple */
    bool convex;   /* in[] holds for all rows when it does for the first and the last */
    ir_ref common; /* of the level being written: bool, {0}: nothing to test */
    ir_ref in[CG_EIN_ROWS];    /* whether a row has the tuple; {0}: it does */
    int64_t step[IR_EIN_VARS]; /* by how much a variable grows from row to row, */
    bool even[IR_EIN_VARS];    /* if that is known */
    cg_ix value[CG_EIN_ROWS][IR_EIN_VARS];
} rel;

static void rel_level(rel *s, int level, ir_ref *chain);
static void rel_inside(rel *s, int level, ir_ref *chain);

/* --- Analysis ------------------------------------------------------------------------------- */

/* Loop variables on which a step depends. */
static uint32_t rel_step_deps(const cg_ein *g, ir_ein_step s) {
    uint32_t deps = 0;
    if (s.meet == IR_EIN_LOOK || s.meet == IR_EIN_MATCH) {
        for (int j = 0; j < g->rel->in[s.number].n; j++) deps |= g->deps[g->rel->in[s.number].a[j]];
        return s.meet == IR_EIN_MATCH ? deps | g->deps[s.var] : deps;
    }
    for (unsigned v = 0; v < g->rel->nvar; v++)
        if (g->rel->con[s.number].c[v] && (s.meet == IR_EIN_TEST || v != s.var)) deps |= g->deps[v];
    return deps;
}

void cg_ein_depend(cg_ein *g) {
    for (int i = 0; i < g->rel->out.n; i++)
        g->deps[g->rel->out.a[i]] = UINT32_C(1) << g->rel->out.a[i];
    for (int i = 0; i < g->rel->norder; i++)
        g->deps[g->rel->order[i]] = UINT32_C(1) << g->rel->order[i];
    for (int i = 0; i < g->plan.n; i++)
        if (g->plan.step[i].meet <= IR_EIN_LOOK)
            g->deps[g->plan.step[i].var] = rel_step_deps(g, g->plan.step[i]);
}

/* Whether a variable that an equation gives is within its extent wherever the others are. */
static bool rel_is_within(cg_low *l, const cg_ein *g, ir_ein_step s) {
    const ir_ein_con *c = &g->rel->con[s.number];
    ir_module *m = l->k.b.m;
    int sign = c->c[s.var] > 0 ? -1 : 1;
    int64_t least = sign * c->c0;
    ir_dim plus = sign * c->c0 > 0 ? sign * c->c0 : 0, minus = sign * c->c0 < 0 ? -sign * c->c0 : 0;
    if (s.meet != IR_EIN_SOLVE || (c->c[s.var] != 1 && c->c[s.var] != -1)) return false;
    for (unsigned v = 0; v < g->rel->nvar; v++) {
        int by = sign * c->c[v];
        if (!by || v == s.var) continue;
        if (by < 0) return false;
        plus = ir_dim_add(m, plus, ir_dim_mul(m, g->extent[v], by));
        minus = ir_dim_add(m, minus, by);
    }
    minus = ir_dim_add(m, minus, g->extent[s.var]);
    if (plus == IR_DIM_BAD || minus == IR_DIM_BAD) return false;
    return least >= 0 && ir_dim_le(m, ir_dim_add(m, plus, 1), minus);
}

int64_t cg_ein_stride(const cg_ein *g, int var) {
    for (int i = 0; i < g->plan.n; i++) {
        ir_ein_step s = g->plan.step[i];
        const ir_ein_con *c = &g->rel->con[s.number];
        if (s.meet != IR_EIN_SOLVE || !c->c[var]) continue;
        int64_t a = c->c[s.var] < 0 ? -c->c[s.var] : c->c[s.var], b = c->c[var] % a, t, n = a;
        for (b = b < 0 ? -b : b; b; t = n % b, n = b, b = t) {
        }
        if (a / n > 1) return a / n;
    }
    return 1;
}

/* The innermost level at which the tuple may exist for some of the tile only. */
static int rel_find_split(rel *s, const cg_ein_ix *ix) {
    const cg_ein *g = s->g;
    uint32_t vary = 0;
    int split = -1;
    for (int i = 0; i < g->rel->out.n; i++)
        if (ix[0][i].kind != CG_IX_UNIFORM || (s->n > 1 && i == g->row))
            vary |= UINT32_C(1) << g->rel->out.a[i];
    for (int i = 0; i < g->plan.n; i++)
        if (rel_step_deps(g, g->plan.step[i]) & vary && !rel_is_within(s->l, g, g->plan.step[i]))
            split = g->plan.step[i].level;
    return split;
}

/* --- Meeting constraints -------------------------------------------------------------------- */

static ir_ref rel_and(rel *s, ir_ref x, ir_ref y) {
    return !x.i ? y : !y.i ? x : cg_bit(&s->l->k, IR_bitop_band, x, y);
}

/* Row i needs cond; common: so does every other one. */
static void rel_need(rel *s, int i, bool common, ir_ref cond) {
    if (common && !cg_lanes_of(&s->l->k, cond))
        s->common = rel_and(s, s->common, cond);
    else
        s->in[i] = rel_and(s, s->in[i], cond);
}

/* sign times the terms of a constraint, without variable `but`, at row i. */
static cg_ix rel_sum(rel *s, const ir_ein_con *c, int sign, unsigned but, int i) {
    cg_ix sum = {0};
    for (unsigned v = 0; v < s->g->rel->nvar; v++) {
        if (!c->c[v] || v == but) continue;
        cg_ix t = cg_ix_mul(s->l, s->value[i][v], sign * c->c[v]);
        sum = sum.r ? cg_ix_add(s->l, sum, t) : t;
    }
    if (!sum.r) return cg_ix_const(s->l, sign * c->c0);
    return c->c0 ? cg_ix_add(s->l, sum, cg_ix_const(s->l, sign * c->c0)) : sum;
}

/* By how much that grows from row to row; false when it is not known. */
static bool rel_sum_step(const rel *s, const ir_ein_con *c, int sign, unsigned but, int64_t *out_) {
    *out_ = 0;
    for (unsigned v = 0; v < s->g->rel->nvar; v++) {
        if (!c->c[v] || v == but) continue;
        if (!s->even[v]) return false;
        *out_ += s->step[v] * sign * c->c[v];
    }
    return true;
}

static ir_ref rel_in_range(rel *s, cg_ix v, ir_dim extent) {
    cg_kernel *k = &s->l->k;
    ir_ref x = cg_ix_value(s->l, v), in = cg_cmp(k, IR_cmpop_le, cg_i64(k, 0), x);
    return rel_and(s, in, cg_cmp(k, IR_cmpop_lt, x, cg_dim(k, extent)));
}

/* t / by; *divides_: whether that is exact, {0}: always. */
static cg_ix rel_divide(rel *s, cg_ix t, int64_t by, ir_ref *divides_) {
    cg_kernel *k = &s->l->k;
    *divides_ = (ir_ref){0};
    if (by == 1) return t;
    bool linear = t.kind == CG_IX_LINEAR && t.stride % by == 0;
    ir_ref x = linear ? (ir_ref){t.r} : cg_ix_value(s->l, t), q, rest, d = cg_i64(k, by);
    if (by & (by - 1)) {
        q = cg_bin(k, OP_div, x, d);
        rest = cg_bin(k, OP_rem, x, d);
    } else {
        q = cg_shift(k, IR_shop_arith, x, __builtin_ctzll((unsigned long long)by));
        rest = cg_bit(k, IR_bitop_band, x, cg_i64(k, by - 1));
    }
    *divides_ = cg_cmp(k, IR_cmpop_eq, rest, cg_i64(k, 0));
    if (linear) return (cg_ix){CG_IX_LINEAR, 0, q.i, t.stride / by};
    return (cg_ix){t.kind == CG_IX_UNIFORM ? CG_IX_UNIFORM : CG_IX_VECTOR, 0, q.i, 0};
}

/* An equation gives a variable. */
static void rel_solve(rel *s, ir_ein_step e) {
    const ir_ein_con *c = &s->g->rel->con[e.number];
    int sign = c->c[e.var] > 0 ? -1 : 1;
    int64_t by = -sign * c->c[e.var], step;
    bool within = rel_is_within(s->l, s->g, e);
    bool even = rel_sum_step(s, c, sign, e.var, &step) && step % by == 0;
    s->even[e.var] = even;
    s->step[e.var] = even ? step / by : 0;
    for (int i = 0; i < s->n && !cg_lower_failed(s->l); i++) {
        ir_ref divides = {0};
        cg_ix first = s->value[0][e.var];
        cg_ix v = i && even ? cg_ix_add(s->l, first, cg_ix_const(s->l, i * s->step[e.var]))
                            : rel_divide(s, rel_sum(s, c, sign, e.var, i), by, &divides);
        s->value[i][e.var] = v;
        if (divides.i) {
            rel_need(s, i, even, divides);
            for (int j = 1; even && j < s->n && cg_lanes_of(&s->l->k, divides); j++)
                rel_need(s, j, false, divides);
        }
        if (!within) rel_need(s, i, even && !step, rel_in_range(s, v, s->g->extent[e.var]));
    }
    s->convex &= even;
}

static void rel_test(rel *s, ir_ein_step e) {
    const ir_ein_con *c = &s->g->rel->con[e.number];
    cg_kernel *k = &s->l->k;
    int64_t step;
    bool even = rel_sum_step(s, c, 1, IR_EIN_VARS, &step);
    for (int i = 0; i < s->n && !cg_lower_failed(s->l); i++) {
        ir_ref sum = cg_ix_value(s->l, rel_sum(s, c, 1, IR_EIN_VARS, i)), zero = cg_i64(k, 0);
        rel_need(s, i, even && !step,
                 c->least ? cg_cmp(k, IR_cmpop_le, zero, sum) : cg_cmp(k, IR_cmpop_eq, sum, zero));
    }
    s->convex &= even;
}

/* A subscript kept inside of an extent that is not 0. */
static cg_ix rel_clamp(rel *s, cg_ix v, ir_dim extent) {
    cg_kernel *k = &s->l->k;
    ir_ref last = cg_bin(k, OP_sub, cg_dim(k, extent), cg_i64(k, 1));
    ir_ref x = cg_bin(k, OP_max, cg_bin(k, OP_min, cg_ix_value(s->l, v), last), cg_i64(k, 0));
    return (cg_ix){v.kind == CG_IX_UNIFORM ? CG_IX_UNIFORM : CG_IX_VECTOR, 0, x.i, 0};
}

/* Whether a variable is a loop, and so within its extent. */
static bool rel_is_loop(const cg_ein *g, unsigned v) { return g->deps[v] == UINT32_C(1) << v; }

/* Operand k at row i, subscripts as they are or kept inside. */
static ir_ref rel_operand(rel *s, int k, int i, bool clamp) {
    const ir_rel *r = s->g->rel;
    cg_ix sub[IG_MAX_RANK] = {{0}};
    for (int j = 0; j < r->in[k].n; j++) {
        unsigned v = r->in[k].a[j];
        sub[j] = s->value[i][v];
        if (clamp && !rel_is_loop(s->g, v)) sub[j] = rel_clamp(s, sub[j], s->g->extent[v]);
    }
    return cg_pull(s->l, ir_op_in(s->l->f, s->g->o, (uint32_t)k), sub);
}

/* The element of an index at row i, also for the rows behind it before row `end`; 0 where what was
 * tested so far excludes all of them. */
static ir_ref rel_read_index(rel *s, int k, int i, int end) {
    cg_kernel *kk = &s->l->k;
    ir_ref have = s->in[i], zero = cg_i64(kk, 0), x;
    for (int j = i + 1; j < end && have.i; j++)
        have = s->in[j].i ? cg_bit(kk, IR_bitop_bor, have, s->in[j]) : (ir_ref){0};
    have = rel_and(s, s->common, have);
    if (!have.i) return cg_cast(kk, rel_operand(s, k, i, false), IG_i64);
    cg_nest nest = cg_open_if(s->l, cg_test(kk, IR_bitop_bor, have));
    x = cg_splat(kk, cg_cast(kk, rel_operand(s, k, i, true), IG_i64), s->lanes);
    cg_open_else(s->l, nest, 1, &x);
    zero = cg_splat(kk, zero, s->lanes);
    return cg_close_if(s->l, nest, 1, &zero);
}

/* An index gives a variable, or is compared with it. */
static void rel_look(rel *s, ir_ein_step e) {
    cg_kernel *k = &s->l->k;
    bool same = true;
    for (int j = 0; j < s->g->rel->in[e.number].n; j++) {
        unsigned v = s->g->rel->in[e.number].a[j];
        same &= s->even[v] && !s->step[v];
    }
    ir_ref x[CG_EIN_ROWS];
    for (int i = 0; i < s->n && !cg_lower_failed(s->l); i++)
        x[i] = i && same ? x[0] : rel_read_index(s, e.number, i, same ? s->n : i + 1);
    for (int i = 0; i < s->n && !cg_lower_failed(s->l); i++) {
        if (e.meet == IR_EIN_MATCH) {
            bool all = same && s->even[e.var] && !s->step[e.var];
            rel_need(s, i, all,
                     cg_cmp(k, IR_cmpop_eq, x[i], cg_ix_value(s->l, s->value[i][e.var])));
            s->convex &= all;
            continue;
        }
        cg_ix v = {cg_lanes_of(k, x[i]) ? CG_IX_VECTOR : CG_IX_UNIFORM, 0, x[i].i, 0};
        s->value[i][e.var] = v;
        rel_need(s, i, same, rel_in_range(s, v, s->g->extent[e.var]));
        s->convex &= same;
    }
    if (e.meet == IR_EIN_MATCH) return;
    s->even[e.var] = same;
    s->step[e.var] = 0;
}

static void rel_meet(rel *s, int level) {
    for (int i = 0; i < s->g->plan.n && !cg_lower_failed(s->l); i++) {
        ir_ein_step e = s->g->plan.step[i];
        if (e.level != level) continue;
        if (e.meet == IR_EIN_SOLVE)
            rel_solve(s, e);
        else if (e.meet == IR_EIN_TEST)
            rel_test(s, e);
        else
            rel_look(s, e);
    }
}

/* --- Loops ---------------------------------------------------------------------------------- */

static int rel_carried(const rel *s) { return s->n + s->blocks; }

typedef void (*rel_part)(rel *s, int level, ir_ref *chain);

/* A part under a condition; without it the chains stay. */
static void rel_if(rel *s, ir_ref cond, rel_part part, int level, ir_ref *chain) {
    ir_ref was[REL_CHAINS];
    int n = rel_carried(s);
    memcpy(was, chain, (size_t)n * sizeof *chain);
    cg_nest nest = cg_open_if(s->l, cond);
    part(s, level, chain);
    cg_open_else(s->l, nest, n, chain);
    ir_ref r = cg_close_if(s->l, nest, n, was);
    for (int i = 0; i < n; i++) chain[i] = ir_result(r, (uint32_t)i);
}

/* One tuple into the chains. */
static void rel_tuple(rel *s, ir_ref *chain) {
    const cg_ein *g = s->g;
    cg_kernel *k = &s->l->k;
    ig_dtype r = cg_reg(g->d);
    ir_redop op = (ir_redop)g->rel->monoid;
    bool fused = op == IR_redop_sum && g->factors == 2 && rt_is_float(r);
    for (int i = 0; i < s->n && !cg_lower_failed(s->l); i++) {
        ir_ref in[3], next = rel_operand(s, 0, i, s->border);
        for (int f = 1; f < g->factors; f++) {
            in[0] = next, in[1] = rel_operand(s, f, i, s->border), in[2] = chain[i];
            next = fused ? cg_ew(k, OP_fma, NULL, r, 3, in) : cg_ew(k, OP_mul, NULL, r, 2, in);
        }
        if (!fused) next = cg_monoid(s->l, op, g->d, chain[i], next);
        next = cg_splat(k, next, s->lanes);
        if (s->border && s->in[i].i)
            next = cg_select(k, cg_splat(k, s->in[i], s->lanes), next, chain[i]);
        chain[i] = next;
    }
}

/* The loop of order[level] over [lo, hi). */
static void rel_loop(rel *s, int level, ir_ref lo, ir_ref hi, ir_ref *chain) {
    ir_ref in[REL_CHAINS];
    int n = rel_carried(s), var = s->g->rel->order[level];
    cg_nest nest = cg_open_for(s->l, lo, hi, 1, n, chain, in);
    for (int i = 0; i < s->n; i++) s->value[i][var] = cg_ix_uniform(nest.loop.index);
    rel_level(s, level + 1, in);
    ir_ref r = cg_close_for(s->l, nest, n, in);
    for (int i = 0; i < n; i++) chain[i] = ir_result(r, (uint32_t)i);
}

/* What the chains hold goes to the totals; they begin again. */
static void rel_flush(rel *s, int level, ir_ref *chain) {
    cg_kernel *k = &s->l->k;
    ir_ref total = s->l->scratch[s->g->v.i];
    (void)level;
    for (int i = 0; i < s->n; i++) {
        ir_ref slot = cg_i64(k, i * (s->lanes ? s->lanes : 1));
        cg_store(
            k, total, slot,
            cg_monoid(s->l, IR_redop_sum, s->g->d, cg_load(k, total, slot, s->lanes), chain[i]));
        chain[i] = s->id;
    }
}

/* The innermost loop, in pieces that are each in one block. */
static void rel_pieces(rel *s, int level, ir_ref *chain) {
    const cg_ein *g = s->g;
    cg_kernel *k = &s->l->k;
    int n = rel_carried(s);
    cg_ix at[IR_EIN_VARS];
    ir_dim dim[IR_EIN_VARS], extent = g->extent[g->rel->order[level]];
    ir_ref in[REL_CHAINS], zero = cg_i64(k, 0), one = cg_i64(k, 1), size = cg_i64(k, CG_KB);
    for (int i = 0; i <= level; i++) {
        at[i] = i < level ? s->value[0][g->rel->order[i]] : cg_ix_uniform(zero);
        dim[i] = g->extent[g->rel->order[i]];
    }
    ir_ref first = {cg_ix_flat(s->l, level + 1, dim, at).r};
    ir_ref count = cg_dim(k, extent),
           last = cg_bin(k, OP_add, first, cg_bin(k, OP_sub, count, one));
    ir_ref end = cg_bin(k, OP_add, cg_bin(k, OP_div, last, size), one);
    cg_nest piece = cg_open_for(s->l, cg_bin(k, OP_div, first, size), end, 1, n, chain, in);
    ir_ref block = piece.loop.index,
           here = cg_bin(k, OP_sub, cg_bin(k, OP_mul, block, size), first);
    rel_if(s, cg_cmp(k, IR_cmpop_ne, block, in[s->n]), rel_flush, level, in);
    in[s->n] = block;
    rel_loop(s, level, cg_bin(k, OP_max, here, zero),
             cg_bin(k, OP_min, cg_bin(k, OP_add, here, size), count), in);
    ir_ref r = cg_close_for(s->l, piece, n, in);
    for (int i = 0; i < n; i++) chain[i] = ir_result(r, (uint32_t)i);
}

/* Write the parts of places that are known before a loop, where value numbering finds them. */
static void rel_warm(rel *s) {
    for (int i = 0; i < s->n; i++)
        for (int f = 0; f < s->g->factors; f++) {
            const ir_axes *a = &s->g->rel->in[f];
            const ir_type *t = cg_type(s->l, ir_op_in(s->l->f, s->g->o, (uint32_t)f));
            cg_ix sub[IG_MAX_RANK] = {{0}};
            for (int j = 0; j < a->n; j++)
                sub[j] = s->value[i][a->a[j]].r ? s->value[i][a->a[j]] : cg_ix_const(s->l, 0);
            cg_ix_flat(s->l, t->rank, t->dim, sub);
        }
}

static void rel_forget(rel *s, unsigned v) {
    for (int i = 0; i < s->n; i++) s->value[i][v] = (cg_ix){0};
}

/* What is inside of a level whose constraints are met. */
static void rel_inside(rel *s, int level, ir_ref *chain) {
    const ir_rel *r = s->g->rel;
    cg_kernel *k = &s->l->k;
    if (level == r->norder) {
        rel_tuple(s, chain);
        return;
    }
    if (level + 1 == r->norder) rel_warm(s);
    if (level + 1 == r->norder && s->blocks)
        rel_pieces(s, level, chain);
    else
        rel_loop(s, level, cg_i64(k, 0), cg_dim(k, s->g->extent[r->order[level]]), chain);
    rel_forget(s, r->order[level]);
}

static void rel_border(rel *s, int level, ir_ref *chain) {
    s->border = true;
    rel_inside(s, level, chain);
    s->border = false;
}

/* The interior, or else the border of the tile. */
static void rel_split(rel *s, int level, ir_ref *chain) {
    cg_kernel *k = &s->l->k;
    ir_ref was[REL_CHAINS], all = {0}, any = {0};
    int n = rel_carried(s);
    for (int i = 0; i < s->n; i++) {
        if (!s->in[i].i) continue;
        ir_ref some = cg_test(k, IR_bitop_bor, s->in[i]);
        any = any.i ? cg_bit(k, IR_bitop_bor, any, some) : some;
        if (!s->convex || i == 0 || i == s->n - 1)
            all = rel_and(s, all, cg_test(k, IR_bitop_band, s->in[i]));
    }
    if (!all.i) {
        rel_inside(s, level, chain);
        return;
    }
    memcpy(was, chain, (size_t)n * sizeof *chain);
    cg_nest nest = cg_open_if(s->l, all);
    rel_inside(s, level, chain);
    cg_open_else(s->l, nest, n, chain);
    rel_if(s, any, rel_border, level, was);
    ir_ref r = cg_close_if(s->l, nest, n, was);
    for (int i = 0; i < n; i++) chain[i] = ir_result(r, (uint32_t)i);
}

/* Meet the constraints of a level, then what is inside. */
static void rel_level(rel *s, int level, ir_ref *chain) {
    ir_ref in[CG_EIN_ROWS];
    bool convex = s->convex;
    if (cg_lower_failed(s->l)) return;
    memcpy(in, s->in, sizeof in);
    s->common = (ir_ref){0};
    rel_meet(s, level);
    rel_part part = level == s->split ? rel_split : rel_inside;
    if (s->common.i)
        rel_if(s, s->common, part, level, chain);
    else
        part(s, level, chain);
    memcpy(s->in, in, sizeof in);
    s->convex = convex;
    for (int i = 0; i < s->g->plan.n; i++) {
        ir_ein_step e = s->g->plan.step[i];
        if (e.level == level && e.meet <= IR_EIN_LOOK) rel_forget(s, e.var);
    }
}

void cg_ein_rel_chains(cg_low *l, const cg_ein *g, int n, const cg_ein_ix *ix, bool vary,
                       ir_ref *out) {
    cg_kernel *k = &l->k;
    rel s = {.l = l, .g = g, .n = n, .lanes = vary ? k->lanes : 0, .convex = true};
    ir_ref chain[REL_CHAINS];
    int64_t lo, hi;
    bool sum = g->rel->monoid == IR_redop_sum;
    ir_dim_range(k->b.m, g->k, &lo, &hi);
    s.blocks = sum && hi > CG_KB && g->rel->norder;
    s.id = cg_splat(k, cg_identity(l, (ir_redop)g->rel->monoid, g->d), s.lanes);
    for (unsigned v = 0; v < IR_EIN_VARS; v++) s.even[v] = true;
    for (int i = 0; i < g->rel->out.n; i++) {
        unsigned v = g->rel->out.a[i];
        s.step[v] = n > 1 && i == g->row ? g->step : 0;
        for (int row = 0; row < n; row++) s.value[row][v] = ix[row][i];
    }
    s.split = rel_find_split(&s, ix);
    for (int i = 0; i < n; i++) {
        chain[i] = s.id;
        if (s.blocks) cg_store(k, l->scratch[g->v.i], cg_i64(k, i * (s.lanes ? s.lanes : 1)), s.id);
    }
    chain[n] = cg_i64(k, 0);
    rel_level(&s, 0, chain);
    for (int i = 0; i < n && !cg_lower_failed(l); i++) {
        ir_ref slot = cg_i64(k, i * (s.lanes ? s.lanes : 1)), total = s.id;
        if (s.blocks) total = cg_load(k, l->scratch[g->v.i], slot, s.lanes);
        out[i] = sum ? cg_monoid(l, IR_redop_sum, g->d, total, chain[i]) : chain[i];
    }
}
