/* gen_ein.c - random relations: products of up to four operands, with strides, dilation, padding,
 * diagonals, windows, masks, and indices whose elements repeat or lie out of range. */
#include "tests/gen.h"
#include <string.h>

enum { GEN_EIN_TUPLES = 60000 };

typedef struct gen_ein {
    gen *g;
    gen_op *o;
    ir_rel *r;
    uint8_t nvar;
    int64_t extent[IR_EIN_VARS];
    bool bound[IR_EIN_VARS]; /* a subscript of an operand */
} gen_ein;

static int ein_new(gen_ein *e, int64_t extent) {
    if (e->nvar == IR_EIN_VARS) return -1;
    e->extent[e->nvar] = extent;
    return e->nvar++;
}

static bool ein_in(const ir_axes *a, int v) {
    for (int i = 0; i < a->n; i++)
        if (a->a[i] == v) return true;
    return false;
}

/* A variable there is, or a new one. */
static int ein_some_var(gen_ein *e) {
    bool old = e->nvar && gen_below(e->g, 3);
    return old ? (int)gen_below(e->g, e->nvar) : ein_new(e, (int64_t)gen_below(e->g, 7));
}

/* v is a sum of one or two variables; its extent may be too small or too large for it. */
static bool ein_equate(gen_ein *e, int v) {
    static const int16_t coef[] = {1, 1, 1, 2, 3, -1, -2};
    if (e->r->ncon == IR_EIN_CONSTRAINTS) return false;
    ir_ein_con c = {.c0 = (int64_t)gen_below(e->g, 5) - 2};
    for (uint64_t n = gen_below(e->g, 3); n > 0; n--) {
        int u = ein_some_var(e);
        if (u >= 0 && u != v) c.c[u] = coef[gen_below(e->g, sizeof coef / sizeof *coef)];
    }
    c.c[v] = (int16_t)(gen_below(e->g, 6) ? -1 : gen_below(e->g, 2) ? 2 : -3);
    e->r->con[e->r->ncon++] = c;
    return true;
}

/* An axis of extent n of operand k: its variable, or -1. */
static int ein_axis(gen_ein *e, const ir_axes *have, int64_t n) {
    for (int v = 0; v < e->nvar && gen_below(e->g, 4); v++)
        if (e->extent[v] == n && !ein_in(have, v) && gen_below(e->g, 2)) return v;
    int v = ein_new(e, n);
    if (v >= 0 && gen_below(e->g, 2) && !ein_equate(e, v)) return -1;
    return v;
}

static bool ein_operand(gen_ein *e, int k) {
    const ir_type *t = &e->o->in[k];
    ir_axes *a = &e->r->in[k];
    for (int i = 0; i < t->rank; i++) {
        int v = ein_axis(e, a, t->dim[i]);
        if (v < 0) return false;
        a->a[a->n++] = (uint8_t)v;
        e->bound[v] = true;
    }
    return true;
}

/* A further operand over variables there are and new ones. */
static bool ein_further(gen_ein *e, int k, ig_dtype dtype) {
    ir_type *t = &e->o->in[k];
    *t = (ir_type){.dtype = (uint8_t)dtype, .rank = (uint8_t)gen_below(e->g, 4)};
    for (int i = 0; i < t->rank; i++) {
        int v = gen_below(e->g, 3) && e->nvar ? (int)gen_below(e->g, e->nvar) : -1;
        t->dim[i] = v >= 0 ? e->extent[v] : 1 + (int64_t)gen_below(e->g, 20);
    }
    return ein_operand(e, k);
}

/* The result: some of the variables; then any order of the others. */
static void ein_split(gen_ein *e) {
    uint8_t want[IR_EIN_VARS];
    for (uint8_t v = 0; v < e->nvar; v++) {
        if (e->r->out.n < 5 && gen_below(e->g, 2)) e->r->out.a[e->r->out.n++] = v;
        uint64_t at = gen_below(e->g, v + 1u);
        want[v] = want[at];
        want[at] = v;
    }
    ir_ein_list_order(e->r, e->nvar, want);
}

/* Whether it is soon computed. */
static bool ein_is_small(const gen_ein *e) {
    int64_t n = 1;
    for (int i = 0; i < e->r->out.n; i++) n *= e->extent[e->r->out.a[i]];
    if (n > 40000) return false;
    for (int i = 0; i < e->r->norder; i++) {
        n *= e->extent[e->r->order[i]];
        if (n > GEN_EIN_TUPLES) return false;
    }
    return true;
}

static bool ein_has_room(const ir_type *t) {
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->dim[i];
    return n <= 20000;
}

/* With constraints. */
static bool gen_relation(gen *g, gen_op *o) {
    gen_ein e = {.g = g, .o = o, .r = &((ir_attr_ein *)&o->attr)->rel};
    char msg[256];
    ir_rel *r = e.r;
    int factors = 1 + (int)gen_below(g, 3), indices = gen_below(g, 3) ? 0 : 1;
    *r = (ir_rel){.nin = (uint8_t)(factors + indices)};
    r->monoid = gen_below(g, 3) ? IR_redop_sum : (uint8_t)gen_below(g, 4);
    if (!ein_operand(&e, 0)) return false;
    for (int k = 1; k < factors; k++)
        if (!ein_further(&e, k, (ig_dtype)o->in[0].dtype) || !ein_has_room(&o->in[k])) return false;
    if (indices) {
        int v = ein_some_var(&e);
        ig_dtype dtype = gen_below(g, 2) ? IG_i32 : gen_below(g, 2) ? IG_i64 : IG_u8;
        if (v < 0 || !ein_further(&e, factors, dtype)) return false;
        r->look[factors] = (uint8_t)(v + 1);
    }
    if (gen_one_in(g, 4) && r->ncon < IR_EIN_CONSTRAINTS && e.nvar > 1) {
        r->con[r->ncon].least = 1;
        r->con[r->ncon].c0 = (int64_t)gen_below(g, 3) - 1;
        r->con[r->ncon].c[0] = 1;
        r->con[r->ncon++].c[1] = -1;
    }
    r->nvar = e.nvar;
    ein_split(&e);
    for (unsigned v = 0; v < e.nvar; v++) {
        if (e.bound[v]) continue;
        r->given = (uint16_t)(r->given | 1u << v);
        r->extent[v] = e.extent[v];
    }
    bool small = ein_is_small(&e);
    ir_ein_number(r);
    o->nin = r->nin;
    return small && ir_ein_check(r, msg, sizeof msg) && !ir_ein_is_sum(r);
}

/* Plain subscripts: the first operand's axes get variables, the second shares some of them. */
static bool gen_product(gen *g, gen_op *o) {
    ir_rel *r = &((ir_attr_ein *)&o->attr)->rel;
    int64_t extent[IR_EIN_VARS];
    int nvar = 0;
    if (!o->in[0].rank || o->in[0].rank > IG_MAX_RANK) return false;
    *r = (ir_rel){.nin = 2};
    r->in[0].n = o->in[0].rank;
    for (; nvar < o->in[0].rank; nvar++) {
        extent[nvar] = o->in[0].dim[nvar];
        r->in[0].a[nvar] = (uint8_t)nvar;
    }
    o->in[1] = (ir_type){.dtype = o->in[0].dtype};
    for (int i = 0, n = 1 + (int)gen_below(g, 3); i < n; i++) {
        int v = gen_below(g, 3) ? (int)gen_below(g, (uint64_t)nvar) : nvar;
        if (ein_in(&r->in[1], v)) v = nvar;
        if (v == nvar) extent[nvar++] = 1 + (int64_t)gen_below(g, 40);
        r->in[1].a[r->in[1].n++] = (uint8_t)v;
        o->in[1].dim[o->in[1].rank++] = extent[v];
    }
    for (uint8_t v = 0; v < nvar; v++)
        if (r->out.n < 5 && gen_below(g, 2)) r->out.a[r->out.n++] = v;
    ir_ein_number(r);
    for (uint8_t v = r->out.n; v < r->nvar; v++) r->order[r->norder++] = v;
    r->monoid = gen_below(g, 3) ? IR_redop_sum : (uint8_t)gen_below(g, 4);
    if (r->norder > 1 && gen_below(g, 2)) { /* another canonical order */
        uint8_t t = r->order[0];
        r->order[0] = r->order[r->norder - 1];
        r->order[r->norder - 1] = t;
    }
    ir_ein_number(r);
    o->nin = 2;
    return true;
}

bool gen_in_ein(gen *g, gen_op *o) {
    return gen_below(g, 2) ? gen_product(g, o) : gen_relation(g, o);
}
