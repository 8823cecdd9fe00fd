/* relation.c - the relation of an ein as data: I10, numbering, how constraints are met, transposes.
 *
 *     out[o] = sum over the tuples of `order` of the product of the factors
 *
 * The variables of the result and of `order` are loops; every other variable is determined by a
 * constraint from variables before it.  A tuple exists when all constraints hold and all variables
 * are within their extents; one that does not exist keeps its place in the order and does nothing
 * (numerics rule 6).  So padding, strides, windows, diagonals and masks are constraints, and a
 * transpose is the same relation with two accesses exchanged: what was determined may become a loop
 * and what was a loop may be determined, but the tuples are the same ones. */
#include "ir/ir.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char rel_name(unsigned v) { return (char)('i' + v); }

/* --- Sets of variables ----------------------------------------------------------------------- */

static uint32_t rel_set(const ir_axes *a) {
    uint32_t set = 0;
    for (int i = 0; i < a->n; i++) set |= UINT32_C(1) << a->a[i];
    return set;
}

/* Variables that some operand has. */
static uint32_t rel_bound(const ir_rel *r) {
    uint32_t set = 0;
    for (int k = 0; k < r->nin; k++) set |= rel_set(&r->in[k]);
    return set;
}

static uint32_t rel_con_set(const ir_rel *r, const ir_ein_con *c) {
    uint32_t set = 0;
    for (unsigned v = 0; v < r->nvar; v++)
        if (c->c[v]) set |= UINT32_C(1) << v;
    return set;
}

bool ir_ein_is_plain(const ir_rel *r) {
    for (int k = 0; k < IR_EIN_OPERANDS; k++)
        if (r->look[k]) return false;
    return !r->ncon && !r->given;
}

/* --- How constraints are met ----------------------------------------------------------------- */

/* The state of a plan under way: what has been met. */
typedef struct rel_meet {
    const ir_rel *r;
    ir_ein_plan *p;
    uint8_t level;
    unsigned cons, looks;
} rel_meet;

static void meet_add(rel_meet *m, ir_ein_meet how, int number, unsigned var) {
    m->p->step[m->p->n++] = (ir_ein_step){(uint8_t)how, (uint8_t)number, (uint8_t)var, m->level};
    if (how == IR_EIN_SOLVE || how == IR_EIN_LOOK) m->p->known |= UINT32_C(1) << var;
}

/* Meet what can be met now. */
static bool meet_con(rel_meet *m, int i) {
    const ir_ein_con *c = &m->r->con[i];
    uint32_t open = rel_con_set(m->r, c) & ~m->p->known;
    if (m->cons >> i & 1 || open & (open - 1) || (open && c->least)) return false;
    m->cons |= 1u << i;
    if (open)
        meet_add(m, IR_EIN_SOLVE, i, (unsigned)__builtin_ctz(open));
    else
        meet_add(m, IR_EIN_TEST, i, 0);
    return true;
}

static bool meet_look(rel_meet *m, int k) {
    unsigned var = m->r->look[k] - 1u;
    if (!m->r->look[k] || m->looks >> k & 1 || rel_set(&m->r->in[k]) & ~m->p->known) return false;
    m->looks |= 1u << k;
    meet_add(m, m->p->known >> var & 1 ? IR_EIN_MATCH : IR_EIN_LOOK, k, var);
    return true;
}

static void meet_open(rel_meet *m) {
    for (bool more = true; more;) {
        more = false;
        for (int i = 0; i < m->r->ncon; i++) more |= meet_con(m, i);
        for (int k = 0; k < m->r->nin; k++) more |= meet_look(m, k);
    }
}

void ir_ein_meet_all(const ir_rel *r, ir_ein_plan *out_) {
    rel_meet m = {.r = r, .p = out_};
    *out_ = (ir_ein_plan){.known = rel_set(&r->out)};
    for (int i = 0; i <= r->norder; i++) {
        m.level = (uint8_t)i;
        if (i) out_->known |= UINT32_C(1) << r->order[i - 1];
        meet_open(&m);
    }
}

void ir_ein_list_order(ir_rel *r, int n, const uint8_t *var) {
    ir_ein_plan p = {.known = rel_set(&r->out)};
    rel_meet m = {.r = r, .p = &p};
    r->norder = 0;
    meet_open(&m);
    for (int i = 0; i < n; i++) {
        if (p.known >> var[i] & 1) continue;
        p.known |= UINT32_C(1) << var[i];
        r->order[r->norder++] = var[i];
        meet_open(&m);
    }
}

/* --- Numbering ------------------------------------------------------------------------------- */

/* An equation and its negative say the same: the first coefficient is positive. */
static bool rel_is_turned(const ir_ein_con *c) {
    unsigned v = 0;
    while (v < IR_EIN_VARS - 1 && !c->c[v]) v++;
    return !c->least && c->c[v] < 0;
}

/* The number of every variable by first appearance; those that stand nowhere have none.  How many
 * have one. */
static uint8_t rel_numbers(const ir_rel *r, uint8_t to[IR_EIN_VARS]) {
    uint8_t n = 0;
    uint32_t seen = 0;
    for (int k = -1; k <= r->nin; k++) {
        const uint8_t *a = k < 0 ? r->out.a : k < r->nin ? r->in[k].a : r->order;
        int count = k < 0 ? r->out.n : k < r->nin ? r->in[k].n : r->norder;
        for (int i = 0; i < count; i++) {
            if (!(seen >> a[i] & 1)) to[a[i]] = n++;
            seen |= UINT32_C(1) << a[i];
        }
    }
    for (unsigned v = 0; v < IR_EIN_VARS; v++) {
        bool used = false;
        for (int i = 0; i < r->ncon; i++) used |= r->con[i].c[v] != 0;
        for (int k = 0; k < r->nin; k++) used |= r->look[k] == v + 1;
        if (used && !(seen >> v & 1)) to[v] = n++, seen |= UINT32_C(1) << v;
    }
    return n;
}

void ir_ein_number(ir_rel *r) {
    uint8_t to[IR_EIN_VARS] = {0};
    ir_rel was = *r;
    r->nvar = rel_numbers(r, to);
    for (int i = 0; i < r->out.n; i++) r->out.a[i] = to[was.out.a[i]];
    for (int k = 0; k < r->nin; k++) {
        for (int i = 0; i < r->in[k].n; i++) r->in[k].a[i] = to[was.in[k].a[i]];
        if (was.look[k]) r->look[k] = (uint8_t)(to[was.look[k] - 1] + 1);
    }
    for (int i = 0; i < r->norder; i++) r->order[i] = to[was.order[i]];
    if (!was.ncon && !was.given) return; /* the rest may not be there */
    r->given = 0;
    for (unsigned v = 0; v < IR_EIN_VARS; v++) r->extent[v] = 0;
    for (int i = 0; i < r->ncon; i++) memset(r->con[i].c, 0, sizeof r->con[i].c);
    for (unsigned v = 0; v < IR_EIN_VARS; v++) {
        for (int i = 0; i < r->ncon; i++)
            if (was.con[i].c[v]) r->con[i].c[to[v]] = was.con[i].c[v];
        if (!(was.given >> v & 1)) continue;
        r->given = (uint16_t)(r->given | 1u << to[v]);
        r->extent[to[v]] = was.extent[v];
    }
    for (int i = 0; i < r->ncon; i++) {
        if (!rel_is_turned(&r->con[i])) continue;
        r->con[i].c0 = -r->con[i].c0;
        for (unsigned v = 0; v < IR_EIN_VARS; v++) r->con[i].c[v] = (int16_t)-r->con[i].c[v];
    }
}

static bool rel_is_numbered(const ir_rel *r) {
    uint8_t to[IR_EIN_VARS];
    for (unsigned v = 0; v < IR_EIN_VARS; v++) to[v] = (uint8_t)v;
    ir_rel copy = {.nin = r->nin, .norder = r->norder, .out = r->out};
    memcpy(copy.in, r->in, sizeof copy.in);
    memcpy(copy.order, r->order, r->norder);
    memcpy(copy.look, r->look, sizeof copy.look);
    if ((copy.ncon = r->ncon)) memcpy(copy.con, r->con, r->ncon * sizeof *r->con);
    if (rel_numbers(&copy, to) != r->nvar) return false;
    for (unsigned v = 0; v < r->nvar; v++)
        if (to[v] != v) return false;
    return true;
}

/* --- Checking -------------------------------------------------------------------------------- */

typedef struct rel_checker {
    const ir_rel *r;
    char *msg;
    size_t size;
} rel_checker;

IG_PRINTF(2, 3)
static bool check_wrong(const rel_checker *c, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->msg, c->size, fmt, ap);
    va_end(ap);
    return false;
}

/* One access: variables in range, each once. */
static bool check_access(const rel_checker *c, const ir_axes *a) {
    uint32_t here = 0;
    if (a->n > IG_MAX_RANK)
        return check_wrong(c, "%d subscripts; the limit is %d", a->n, IG_MAX_RANK);
    for (int i = 0; i < a->n; i++) {
        if (a->a[i] >= c->r->nvar)
            return check_wrong(c, "variable number %d of %d", a->a[i], c->r->nvar);
        if (here >> a->a[i] & 1)
            return check_wrong(c, "variable %c twice in one access", rel_name(a->a[i]));
        here |= UINT32_C(1) << a->a[i];
    }
    return true;
}

/* The parts that say how much of the others there is. */
static bool check_counts(const rel_checker *c) {
    const ir_rel *r = c->r;
    if (r->monoid > IR_redop_min) return check_wrong(c, "the reduction is +=, *=, max= or min=");
    if (r->nin < 1 || r->nin > IR_EIN_OPERANDS)
        return check_wrong(c, "%d operands; there are 1 to %d", r->nin, IR_EIN_OPERANDS);
    if (r->nvar > IR_EIN_VARS || r->norder > r->nvar)
        return check_wrong(c, "%d variables, %d reduced; the limit is %d", r->nvar, r->norder,
                           IR_EIN_VARS);
    if (r->ncon > IR_EIN_CONSTRAINTS)
        return check_wrong(c, "%d constraints; the limit is %d", r->ncon, IR_EIN_CONSTRAINTS);
    for (int k = 0; k < r->nin; k++)
        if (r->look[k] > r->nvar || (!k && r->look[k]) || (k && r->look[k - 1] && !r->look[k]))
            return check_wrong(c, "factors stand before indices, and one there must be");
    return true;
}

/* Every variable has one extent. */
static bool check_extents(const rel_checker *c) {
    uint32_t bound = rel_bound(c->r);
    for (unsigned v = 0; v < c->r->nvar; v++) {
        bool given = c->r->given >> v & 1;
        if (!given && !(bound >> v & 1))
            return check_wrong(c,
                               "variable %c is not a subscript of any operand and its range is "
                               "not given",
                               rel_name(v));
        if (given && bound >> v & 1)
            return check_wrong(c, "variable %c has the extent of an operand; none is given",
                               rel_name(v));
        if (given && (c->r->extent[v] == IR_DIM_BAD || c->r->extent[v] > IR_EIN_FAR))
            return check_wrong(c, "the extent given to %c is too large", rel_name(v));
    }
    if (c->r->given >> c->r->nvar) return check_wrong(c, "an extent is given to no variable");
    return true;
}

static bool check_constraints(const rel_checker *c) {
    const ir_rel *r = c->r;
    for (int i = 0; i < r->ncon; i++) {
        const ir_ein_con *e = &r->con[i];
        bool fits = e->c0 >= -IR_EIN_FAR && e->c0 <= IR_EIN_FAR && e->least <= 1;
        for (unsigned v = 0; v < IR_EIN_VARS; v++)
            fits = fits && e->c[v] >= -IR_EIN_COEF && (v < r->nvar || !e->c[v]);
        if (!fits || !rel_con_set(r, e))
            return check_wrong(c, "constraint %d has no variable, or a number that is too large",
                               i);
        if (rel_is_turned(e)) return check_wrong(c, "equation %d begins with a negative term", i);
    }
    return true;
}

/* What is listed in `over` and what is determined are all that is reduced. */
static bool check_order(const rel_checker *c) {
    const ir_rel *r = c->r;
    uint32_t out = rel_set(&r->out), listed = 0;
    ir_ein_plan p;
    for (int i = 0; i < r->norder; i++) {
        unsigned v = r->order[i];
        if (v >= r->nvar || out >> v & 1 || listed >> v & 1)
            return check_wrong(c, "`over` lists the reduced variables, each once");
        listed |= UINT32_C(1) << v;
    }
    ir_ein_meet_all(r, &p);
    for (unsigned v = 0; v < r->nvar; v++)
        if (!(p.known >> v & 1))
            return check_wrong(c, "variable %c is reduced but not listed in `over`", rel_name(v));
    for (int i = 0; i < p.n; i++)
        if ((p.step[i].meet == IR_EIN_SOLVE || p.step[i].meet == IR_EIN_LOOK) &&
            listed >> p.step[i].var & 1)
            return check_wrong(c, "`over` lists %c, which what stands before it determines",
                               rel_name(p.step[i].var));
    return true;
}

bool ir_ein_check(const ir_rel *r, char *msg, size_t size) {
    rel_checker c = {r, msg, size};
    if (!check_counts(&c) || !check_access(&c, &r->out)) return false;
    for (int k = 0; k < r->nin; k++)
        if (!check_access(&c, &r->in[k])) return false;
    if (!check_extents(&c) || !check_constraints(&c) || !check_order(&c)) return false;
    return rel_is_numbered(r) || check_wrong(&c, "variables are not numbered by first appearance");
}

/* --- Extents --------------------------------------------------------------------------------- */

bool ir_ein_extents(const ir_rel *r, const ir_type *in, ir_dim *extent_, int *k_, int *i_) {
    uint32_t known = 0;
    for (unsigned v = 0; v < r->nvar; v++) extent_[v] = r->given >> v & 1 ? r->extent[v] : 0;
    for (int k = 0; k < r->nin; k++)
        for (int i = 0; i < r->in[k].n; i++) {
            unsigned v = r->in[k].a[i];
            if (known >> v & 1 && extent_[v] != in[k].dim[i]) {
                *k_ = k, *i_ = i;
                return false;
            }
            known |= UINT32_C(1) << v;
            extent_[v] = in[k].dim[i];
        }
    return true;
}

/* --- Transposes ------------------------------------------------------------------------------ */

void ir_ein_swap(ir_rel *r, int k, const ir_type *type) {
    uint8_t want[IR_EIN_VARS + (IR_EIN_OPERANDS + 1) * IG_MAX_RANK];
    int n = r->norder;
    ir_axes mine = r->in[k];
    memcpy(want, r->order, r->norder);
    r->in[k] = r->out;
    r->out = mine;
    uint32_t bound = rel_bound(r);
    for (int i = 0; i < mine.n; i++) {
        if (!r->given && !r->ncon) memset(r->extent, 0, sizeof r->extent);
        r->given = (uint16_t)(r->given | 1u << mine.a[i]);
        r->extent[mine.a[i]] = type->dim[i];
    }
    r->given = (uint16_t)(r->given & ~bound);
    for (int j = 0; j < r->nin; j++)
        for (int i = 0; i < r->in[j].n; i++) want[n++] = r->in[j].a[i];
    for (uint8_t v = 0; v < r->nvar; v++) want[n++] = v;
    for (unsigned v = 0; v < r->nvar; v++)
        if (!(r->given >> v & 1)) r->extent[v] = 0;
    ir_ein_list_order(r, n, want);
    ir_ein_number(r);
}

/* --- Sums of one operand --------------------------------------------------------------------- */

bool ir_ein_is_sum(const ir_rel *r) {
    return r->nin == 1 && r->monoid == IR_redop_sum && ir_ein_is_plain(r);
}

/* Append to perm the places of the variables of `want` in `have`; whether anything moves. */
static bool sum_permutation(const ir_axes *have, const ir_axes *want, ir_axes *perm) {
    bool moves = false;
    for (int i = 0; i < want->n; i++)
        for (int k = 0; k < have->n; k++)
            if (have->a[k] == want->a[i]) {
                perm->a[perm->n++] = (uint8_t)k;
                moves |= i != k;
            }
    return moves;
}

/* The reduced axes must lie in the order of the relation; the rest moves after the reduction. */
void ir_ein_sum_steps(const ir_rel *r, ir_ein_steps *s) {
    ir_axes have = r->in[0], kept = {.n = 0};
    int next = 0;
    *s = (ir_ein_steps){.reduce = {.op = IR_redop_sum}};
    for (int i = 0; i < have.n; i++)
        if (have.a[i] >= r->out.n && have.a[i] != r->order[next++]) s->moves_first = true;
    if (s->moves_first) {
        ir_axes want = r->out;
        for (int i = 0; i < r->norder; i++) want.a[want.n++] = r->order[i];
        sum_permutation(&have, &want, &s->first.perm);
        have = want;
    }
    for (int i = 0; i < have.n; i++) {
        if (have.a[i] >= r->out.n)
            s->reduce.axes.a[s->reduce.axes.n++] = (uint8_t)i;
        else
            kept.a[kept.n++] = have.a[i];
    }
    s->moves_last = sum_permutation(&kept, &r->out, &s->last.perm);
}
