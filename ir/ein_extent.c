/* ein_extent.c - how far the variables of a relation run.
 *
 * A variable that is a subscript of an operand runs as far as that axis, and all such axes must
 * agree.  Another one has the range that `where` gives it.  In the text of a call, where the
 * operands are known, a range may be left out: when a variable stands in the subscripts of operands
 * with others whose extents are known, x[2*i+r-1], it runs as far as all subscripts stay in range,
 * if it may begin at 0; what would read outside has to be said.  Padding is never implied. */
#include "ir/ein.h"
#include <stdio.h>
#include <string.h>

/* What is known so far. */
typedef struct extents {
    ein_text *p;
    uint32_t bound, known;     /* by an operand; at all */
    uint8_t from[IR_EIN_VARS]; /* the operand and the axis that bind a variable */
    uint8_t axis[IR_EIN_VARS];
    ir_dim dim[IR_EIN_VARS];
} extents;

typedef struct extent_text {
    char s[64];
} extent_text;

static extent_text extent_show(const extents *e, ir_dim d) {
    extent_text t = {"?"};
    rt_str s;
    if (ir_dim_is_const(d) || !e->p->m) {
        snprintf(t.s, sizeof t.s, "%lld", (long long)d);
        return t;
    }
    rt_str_init(&s, e->p->m->alloc);
    ir_dim_print(e->p->m, d, &s);
    snprintf(t.s, sizeof t.s, "%s", rt_str_text(&s));
    rt_str_free(&s);
    return t;
}

static const char *extent_name(const extents *e, unsigned v, int *n_) {
    ein_word w = e->p->var[v];
    *n_ = ein_shown(w);
    return e->p->text + w.at;
}

bool ein_find_size(const ein_text *p, const char *s, size_t n, ir_dim *out_) {
    for (int k = 0; k < p->nfactor + p->nindex && k < p->ngiven; k++) {
        const ein_operand *o = ein_operand_at(p, k);
        for (int i = 0; i < o->a.n; i++) {
            if (o->size[i].n != n || memcmp(p->text + o->size[i].at, s, n)) continue;
            *out_ = p->dims[k].d[i];
            return true;
        }
    }
    return false;
}

/* The extents of operands. */
static bool extents_of_operands(extents *e) {
    ein_text *p = e->p;
    for (int k = 0; k < p->nfactor + p->nindex; k++) {
        const ein_operand *o = ein_operand_at(p, k);
        if (p->dims && p->dims[k].n != o->a.n)
            return ein_error(p, o->name.at, "operand %d has %d axes, here are %d subscripts", k,
                             p->dims[k].n, o->a.n);
        for (int i = 0; i < o->a.n; i++) {
            unsigned v = o->a.a[i];
            ir_dim d = p->dims ? p->dims[k].d[i] : 0;
            const ein_operand *was = ein_operand_at(p, e->from[v]);
            if (e->bound >> v & 1 && d != e->dim[v])
                return ein_error(p, o->at[i],
                                 "%s elements along axis %d of %.*s (operand %d), but %s along "
                                 "axis %d of %.*s (operand %d)",
                                 extent_show(e, d).s, i, ein_shown(o->name), p->text + o->name.at,
                                 k, extent_show(e, e->dim[v]).s, e->axis[v], ein_shown(was->name),
                                 p->text + was->name.at, e->from[v]);
            if (e->bound >> v & 1) continue;
            e->bound |= UINT32_C(1) << v;
            e->dim[v] = d;
            e->from[v] = (uint8_t)k;
            e->axis[v] = (uint8_t)i;
        }
    }
    e->known = e->bound;
    return true;
}

/* Those that ranges give. */
static bool extents_of_ranges(extents *e) {
    ein_text *p = e->p;
    for (unsigned v = 0; v < p->rel->nvar; v++) {
        int n;
        ir_dim d;
        if (!p->range[v]) continue;
        p->at = p->range[v];
        if (!ein_dim(p, &d)) return false;
        if (d > IR_EIN_FAR) return ein_error(p, p->range[v], "the range is too long");
        const char *name = extent_name(e, v, &n);
        const ein_operand *o = ein_operand_at(p, e->from[v]);
        if (e->bound >> v & 1 && (!p->dims || d != e->dim[v]))
            return ein_error(p, p->range[v],
                             "%.*s runs as far as axis %d of %.*s (operand %d): the range is not "
                             "given again",
                             n, name, e->axis[v], ein_shown(o->name), p->text + o->name.at,
                             e->from[v]);
        e->known |= UINT32_C(1) << v;
        e->dim[v] = d;
    }
    return true;
}

/* --- Those that windows leave ---------------------------------------------------------------- */

/* How far v may run in equation c, made for subscript f: f = by * v + rest, rest known.  False with
 * an error, or (*later_) while something in it is not known. */
static bool extent_of_window(extents *e, const ir_ein_con *c, unsigned v, unsigned f, ir_dim *out_,
                             bool *later_) {
    ein_text *p = e->p;
    ir_module *m = p->m;
    ir_dim plus = ir_dim_add(m, e->dim[f], c->c[v] - 1), minus = c->c0 > 0 ? c->c0 : 0;
    int64_t least = c->c0;
    int n;
    const char *name = extent_name(e, v, &n);
    if (c->c0 < 0) plus = ir_dim_add(m, plus, -c->c0);
    for (unsigned u = 0; u < p->rel->nvar; u++) {
        if (!c->c[u] || u == v || u == f) continue;
        if (!(e->known >> u & 1)) return *later_ = true, true;
        if (c->c[u] < 0) least = -1;
        if (c->c[u] < 0) continue;
        plus = ir_dim_add(m, plus, c->c[u]);
        minus = ir_dim_add(m, minus, ir_dim_mul(m, e->dim[u], c->c[u]));
    }
    if (c->c[v] < 0 || least < 0)
        return ein_error(p, p->var[v].at,
                         "%.*s = 0 would read outside of the tensor: say how far it runs, `where "
                         "%.*s in 0..N`",
                         n, name, n, name);
    ir_dim room = ir_dim_sub(m, plus, minus);
    *out_ = room == IR_DIM_BAD ? room : ir_dim_floordiv(m, room, c->c[v]);
    return *out_ != IR_DIM_BAD ||
           ein_error(p, p->var[v].at,
                     "the window is larger than the tensor: say how far %.*s runs, `where %.*s in "
                     "0..N`",
                     n, name, n, name);
}

/* The smallest of what all windows with v leave. */
static bool extent_of_windows(extents *e, unsigned v, bool *later_) {
    const ein_text *p = e->p;
    ir_dim best = IR_DIM_BAD, d = 0;
    for (int i = 0; i < p->rel->ncon; i++) {
        const ir_ein_con *c = &p->rel->con[i];
        if (!p->made[i] || !c->c[v]) continue;
        if (!extent_of_window(e, c, v, p->made[i] - 1u, &d, later_)) return false;
        if (*later_) return true;
        best = best == IR_DIM_BAD ? d : ir_dim_min(p->m, best, d);
    }
    if (best == IR_DIM_BAD) return *later_ = true, true;
    e->dim[v] = best;
    e->known |= UINT32_C(1) << v;
    return true;
}

static bool extents_of_windows(extents *e) {
    ein_text *p = e->p;
    for (bool more = p->dims != NULL; more;) {
        more = false;
        for (unsigned v = 0; v < p->rel->nvar; v++) {
            bool later = false;
            if (e->known >> v & 1) continue;
            if (!extent_of_windows(e, v, &later)) return false;
            more |= !later;
        }
    }
    for (unsigned v = 0; v < p->rel->nvar; v++) {
        int n;
        const char *name = extent_name(e, v, &n);
        if (!(e->known >> v & 1))
            return ein_error(p, p->var[v].at,
                             "the extent of %.*s is unknown: it is not a subscript of any operand; "
                             "say how far it runs, `where %.*s in 0..N`",
                             n ? n : 5, n ? name : "this ", n, name);
    }
    return true;
}

bool ein_give_extents(ein_text *p) {
    extents e = {.p = p};
    int n = p->nfactor + p->nindex;
    if (p->dims && n != p->ngiven)
        return ein_error(p, p->n, "the relation has %d operands, %d are given", n, p->ngiven);
    if (!extents_of_operands(&e) || !extents_of_ranges(&e) || !extents_of_windows(&e)) return false;
    for (unsigned v = 0; v < p->rel->nvar; v++) {
        if (e.bound >> v & 1) continue;
        p->rel->given = (uint16_t)(p->rel->given | 1u << v);
        p->rel->extent[v] = e.dim[v];
    }
    return true;
}
