/* dim.c - dims: polynomials with integer coefficients over symbols and opaque atoms, in one normal
 * form.
 *
 * Normal form.  A polynomial is a list of terms coef * atom * atom ...; coefficients are not 0, the
 * atoms of a term ascend (repeated for powers), and terms descend in the graded lexicographic
 * order, so the constant is last.  Atoms are ordered by structure, never by when they were made:
 * two modules that build a dim in different ways print the same text. Polynomials and atoms are
 * interned, hence equal dims are equal numbers, and == is proof of equality.
 *
 * floordiv(p, c) with a constant c splits p into c*p1 + p2 with the coefficients of p2 in [0, c),
 * and becomes p1 + floordiv(p2, c), or p1 alone when the range of p2 shows that nothing is left;
 * mod(p, c) likewise keeps p2 only. Other divisors are tried by polynomial long division.  min and
 * max disappear when the range of the difference decides.  All of this holds over the integers; a
 * dim is >= 0 wherever the program is valid.
 *
 * Bounds.  Walks over a dim (print, eval, range, compare, import) go down its nested atoms.  A dim
 * holds at most DIM_SIZE_MAX nodes counted as a tree and nests at most DIM_DEPTH_MAX deep; beyond
 * that it is IR_DIM_BAD, as with overflow.  So recursion is bounded by a constant and a hostile
 * file cannot make a small DAG cost exponential time. */
#include "ir/intern.h"
#include "runtime/base/hash.h"

#include <string.h>

#define DIM_SIZE_MAX     1024u
#define DIM_DEPTH_MAX    64u
#define DIM_DIVIDE_STEPS 256 /* of one long division; beyond it the quotient stays an atom */

/* An interned atom; the public part is first. */
typedef struct dim_atom {
    ir_dim_atom pub;
    uint32_t id, depth, size;
} dim_atom;

/* A polynomial: interned in the table, or being computed in a scratch arena. */
typedef struct dim_poly {
    ir_dim_term *term;
    uint32_t n, cap;
    uint32_t depth, size; /* interned ones only */
} dim_poly;

struct ir_dim_table {
    const ig_allocator *alloc; /* borrowed */
    rt_arena arena;            /* owns atoms, terms and their lists */
    RT_VEC(dim_atom *) atoms;
    RT_VEC(dim_poly) polys; /* dim d < 0 is polys.data[-(d + 1)] */
    ir_index atom_ix, poly_ix;
    bool no_memory; /* since ir_dims_lacked_memory last told */
};

/* One computation: its table and its scratch memory.  Failure is sticky; no_memory says that
 * scratch memory was why. */
typedef struct dim_work {
    const ir_module *m;
    ir_dim_table *t;
    rt_arena scratch;
    bool failed, no_memory;
} dim_work;

/* --- Life ----------------------------------------------------------------------------------- */

ir_dim_table *ir_dims_new(const ig_allocator *a) {
    ir_dim_table *t = rt_alloc_zero(a, sizeof *t);
    if (!t) return NULL;
    t->alloc = a;
    rt_arena_init(&t->arena, a);
    return t;
}

void ir_dims_free(ir_dim_table *t) {
    const ig_allocator *a = t->alloc;
    rt_vec_free(a, &t->atoms);
    rt_vec_free(a, &t->polys);
    ir_index_free(a, &t->atom_ix);
    ir_index_free(a, &t->poly_ix);
    rt_arena_free(&t->arena);
    rt_free(a, t, sizeof *t);
}

void ir_dims_use_alloc(ir_dim_table *t, const ig_allocator *a) { t->alloc = t->arena.alloc = a; }

/* Note that memory is out; false. */
static bool dim_no_memory(ir_dim_table *t) {
    t->no_memory = true;
    return false;
}

bool ir_dims_lacked_memory(const ir_module *m) {
    bool lacked = m->dims->no_memory;
    m->dims->no_memory = false;
    return lacked;
}

/* --- Views and order ------------------------------------------------------------------------ */

static const dim_poly *dim_poly_of(const ir_dim_table *t, ir_dim d) {
    if (d >= 0 || d == IR_DIM_BAD) return NULL;
    uint64_t i = (uint64_t)(-(d + 1));
    return i < t->polys.n ? &t->polys.data[i] : NULL;
}

static const dim_atom *dim_full(const ir_dim_atom *a) { return (const dim_atom *)(const void *)a; }

static int dim_compare(const ir_dim_table *t, ir_dim x, ir_dim y);

/* Order of atoms: kind, then symbol number or operands. */
static int dim_compare_atom(const ir_dim_table *t, const ir_dim_atom *x, const ir_dim_atom *y) {
    if (x == y) return 0;
    if (x->kind != y->kind) return x->kind < y->kind ? -1 : 1;
    if (x->kind == DIM_SYM) return x->sym < y->sym ? -1 : x->sym > y->sym;
    int c = dim_compare(t, x->a, y->a);
    return c ? c : dim_compare(t, x->b, y->b);
}

/* Order of terms without their coefficients: graded lexicographic, the greater one first in a
 * polynomial. */
static int dim_compare_term(const ir_dim_table *t, const ir_dim_term *x, const ir_dim_term *y) {
    if (x->natom != y->natom) return x->natom < y->natom ? -1 : 1;
    for (uint32_t i = 0; i < x->natom; i++) {
        int c = dim_compare_atom(t, x->atom[i], y->atom[i]);
        if (c) return -c; /* more of an earlier atom is a greater monomial */
    }
    return 0;
}

/* Order of dims by structure: as written, with the leading term first and constants last. */
static int dim_compare(const ir_dim_table *t, ir_dim x, ir_dim y) {
    if (x == y) return 0;
    if (x >= 0 || y >= 0) return x >= 0 && y >= 0 ? (x < y ? -1 : 1) : x >= 0 ? 1 : -1;
    const dim_poly *p = dim_poly_of(t, x), *q = dim_poly_of(t, y);
    if (!p || !q) return p ? 1 : q ? -1 : 0;
    for (uint32_t i = 0; i < p->n && i < q->n; i++) {
        int c = dim_compare_term(t, &p->term[i], &q->term[i]);
        if (c) return -c;
        if (p->term[i].coef != q->term[i].coef) return p->term[i].coef < q->term[i].coef ? -1 : 1;
    }
    return p->n < q->n ? -1 : p->n > q->n;
}

/* --- Polynomials in scratch memory ---------------------------------------------------------- */

static void dim_work_begin(dim_work *w, const ir_module *m) {
    *w = (dim_work){.m = m, .t = m->dims};
    rt_arena_init(&w->scratch, m->alloc);
}

/* Scratch memory for n items; NULL, and failed, when memory is out. */
static void *dim_scratch(dim_work *w, uint32_t n, size_t size) {
    void *p = rt_arena_alloc(&w->scratch, n * size);
    if (!p) w->failed = w->no_memory = !dim_no_memory(w->t);
    return p;
}

static bool dim_reserve(dim_work *w, dim_poly *p) {
    if (p->n < p->cap) return true;
    uint32_t cap = p->cap ? p->cap * 2 : 8;
    ir_dim_term *term = cap <= DIM_SIZE_MAX ? dim_scratch(w, cap, sizeof *term) : NULL;
    if (!term) return false;
    if (p->n) memcpy(term, p->term, p->n * sizeof *term);
    p->term = term;
    p->cap = cap;
    return true;
}

/* Add a term to a polynomial that is in order; equal monomials meet. */
static void dim_add_term(dim_work *w, dim_poly *p, ir_dim_term x) {
    if (w->failed || !x.coef) return;
    uint32_t lo = 0, hi = p->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int c = dim_compare_term(w->t, &x, &p->term[mid]);
        if (!c) {
            int64_t *coef = &p->term[mid].coef;
            w->failed = __builtin_add_overflow(*coef, x.coef, coef);
            if (*coef) return;
            memmove(&p->term[mid], &p->term[mid + 1], (p->n - mid - 1) * sizeof x);
            p->n--;
            return;
        }
        if (c > 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    if (!dim_reserve(w, p)) {
        w->failed = true;
        return;
    }
    memmove(&p->term[lo + 1], &p->term[lo], (p->n - lo) * sizeof x);
    p->term[lo] = x;
    p->n++;
}

static void dim_add_const(dim_work *w, dim_poly *p, int64_t c) {
    dim_add_term(w, p, (ir_dim_term){.coef = c});
}

/* p += scale * q */
static void dim_add_scaled(dim_work *w, dim_poly *p, const dim_poly *q, int64_t scale) {
    for (uint32_t i = 0; i < q->n && !w->failed; i++) {
        ir_dim_term x = q->term[i];
        if (__builtin_mul_overflow(x.coef, scale, &x.coef)) w->failed = true;
        dim_add_term(w, p, x);
    }
}

/* The product of two terms: coefficients multiply, atom lists merge. */
static ir_dim_term dim_mul_term(dim_work *w, const ir_dim_term *x, const ir_dim_term *y) {
    ir_dim_term r = {.natom = x->natom + y->natom};
    if (__builtin_mul_overflow(x->coef, y->coef, &r.coef) || r.natom > DIM_SIZE_MAX)
        w->failed = true;
    if (w->failed || !r.natom) return r;
    const ir_dim_atom **atom = dim_scratch(w, r.natom, sizeof *atom);
    if (!atom) return r;
    for (uint32_t i = 0, j = 0, k = 0; k < r.natom; k++) {
        bool first = j == y->natom ||
                     (i < x->natom && dim_compare_atom(w->t, x->atom[i], y->atom[j]) <= 0);
        atom[k] = first ? x->atom[i++] : y->atom[j++];
    }
    r.atom = atom;
    return r;
}

/* p += q * r */
static void dim_add_product(dim_work *w, dim_poly *p, const dim_poly *q, const dim_poly *r) {
    for (uint32_t i = 0; i < q->n && !w->failed; i++)
        for (uint32_t j = 0; j < r->n && !w->failed; j++)
            dim_add_term(w, p, dim_mul_term(w, &q->term[i], &r->term[j]));
}

/* A dim as a scratch polynomial that may be changed. */
static dim_poly dim_load(dim_work *w, ir_dim d) {
    dim_poly p = {0};
    const dim_poly *q = dim_poly_of(w->t, d);
    if (d >= 0)
        dim_add_const(w, &p, d);
    else if (q)
        dim_add_scaled(w, &p, q, 1);
    else
        w->failed = true;
    return p;
}

/* Whether p is a constant, and which. */
static bool dim_poly_const(const dim_poly *p, int64_t *c_) {
    if (p->n > 1 || (p->n == 1 && p->term[0].natom)) return false;
    *c_ = p->n ? p->term[0].coef : 0;
    return true;
}

/* --- Interning ------------------------------------------------------------------------------ */

static uint64_t dim_hash(const dim_poly *p) {
    uint64_t h = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        h = rt_hash_mix(h, (uint64_t)p->term[i].coef);
        for (uint32_t k = 0; k < p->term[i].natom; k++)
            h = rt_hash_mix(h, dim_full(p->term[i].atom[k])->id);
        h = rt_hash_mix(h, p->term[i].natom);
    }
    return h;
}

/* Atoms are interned, so equal atoms are equal pointers. */
static bool dim_poly_eq(const dim_poly *p, const dim_poly *q) {
    if (p->n != q->n) return false;
    for (uint32_t i = 0; i < p->n; i++) {
        const ir_dim_term *x = &p->term[i], *y = &q->term[i];
        if (x->coef != y->coef || x->natom != y->natom) return false;
        for (uint32_t k = 0; k < x->natom; k++)
            if (x->atom[k] != y->atom[k]) return false;
    }
    return true;
}

/* Copy terms into the table's arena, and measure; false when memory is out or they are too many. */
static bool dim_keep(ir_dim_table *t, dim_poly *p) {
    uint64_t size = 0;
    uint32_t depth = 0;
    ir_dim_term *term = rt_arena_take(&t->arena, p->n * sizeof *term, _Alignof(ir_dim_term));
    if (!term) return dim_no_memory(t);
    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t n = p->term[i].natom;
        const ir_dim_atom **atom = n ? rt_arena_take(&t->arena, n * sizeof *atom, _Alignof(void *))
                                     : NULL;
        if (n && !atom) return dim_no_memory(t);
        for (uint32_t k = 0; k < n; k++) {
            const dim_atom *a = dim_full(p->term[i].atom[k]);
            atom[k] = &a->pub;
            size += a->size;
            if (a->depth > depth) depth = a->depth;
        }
        size++;
        term[i] = (ir_dim_term){p->term[i].coef, n, atom};
    }
    *p = (dim_poly){term, p->n, p->n, depth, (uint32_t)size};
    return size <= DIM_SIZE_MAX && depth <= DIM_DEPTH_MAX;
}

/* The dim of a polynomial; a negative constant has none. */
static ir_dim dim_intern(dim_work *w, dim_poly *p) {
    ir_dim_table *t = w->t;
    int64_t c;
    if (w->failed) return IR_DIM_BAD;
    if (dim_poly_const(p, &c)) return c >= 0 ? c : IR_DIM_BAD;
    uint64_t h = dim_hash(p);
    uint32_t at = ir_index_start(&t->poly_ix, h), id;
    while (ir_index_next(&t->poly_ix, h, &at, &id))
        if (dim_poly_eq(p, &t->polys.data[id])) return -(ir_dim)id - 1;
    dim_poly kept = *p;
    if (!dim_keep(t, &kept)) return IR_DIM_BAD;
    if (!ir_index_reserve(t->alloc, &t->poly_ix) || !rt_vec_push(t->alloc, &t->polys, kept)) {
        dim_no_memory(t);
        return IR_DIM_BAD;
    }
    ir_index_add(&t->poly_ix, h, t->polys.n - 1);
    return -(ir_dim)t->polys.n;
}

static ir_dim dim_work_end(dim_work *w, dim_poly *result) {
    ir_dim d = dim_intern(w, result);
    rt_arena_free(&w->scratch);
    return d;
}

static uint64_t dim_atom_hash(const ir_dim_atom *a) {
    uint64_t h = rt_hash_mix((uint64_t)a->kind, a->sym);
    return rt_hash_mix(rt_hash_mix(h, (uint64_t)a->a), (uint64_t)a->b);
}

static void dim_measure(const ir_dim_table *t, ir_dim d, dim_atom *a) {
    const dim_poly *p = dim_poly_of(t, d);
    a->size += p ? p->size : 1;
    if (p && p->depth + 1 > a->depth) a->depth = p->depth + 1;
}

/* Find or make an atom; NULL when memory is out or it nests too deep. */
static const ir_dim_atom *dim_atom_of(ir_dim_table *t, ir_dim_atom pub) {
    uint64_t h = dim_atom_hash(&pub);
    uint32_t at = ir_index_start(&t->atom_ix, h), id;
    while (ir_index_next(&t->atom_ix, h, &at, &id)) {
        const ir_dim_atom *o = &t->atoms.data[id]->pub;
        if (o->kind == pub.kind && o->sym == pub.sym && o->a == pub.a && o->b == pub.b) return o;
    }
    dim_atom *a = rt_arena_alloc(&t->arena, sizeof *a);
    if (!a || !ir_index_reserve(t->alloc, &t->atom_ix)) {
        dim_no_memory(t);
        return NULL;
    }
    *a = (dim_atom){.pub = pub, .id = t->atoms.n, .depth = 1, .size = 1};
    if (pub.kind != DIM_SYM) {
        dim_measure(t, pub.a, a);
        dim_measure(t, pub.b, a);
    }
    if (a->depth > DIM_DEPTH_MAX || a->size > DIM_SIZE_MAX) return NULL;
    if (!rt_vec_push(t->alloc, &t->atoms, a)) {
        dim_no_memory(t);
        return NULL;
    }
    ir_index_add(&t->atom_ix, h, a->id);
    return &a->pub;
}

/* p += atom(a, b) */
static void dim_add_atom(dim_work *w, dim_poly *p, ir_dim_atom pub) {
    const ir_dim_atom **list = dim_scratch(w, 1, sizeof *list);
    const ir_dim_atom *atom = list && !w->failed ? dim_atom_of(w->t, pub) : NULL;
    if (!atom) {
        w->failed = true;
        return;
    }
    *list = atom;
    dim_add_term(w, p, (ir_dim_term){.coef = 1, .natom = 1, .atom = list});
}

ir_dim ir_dim_symbol(ir_module *m, uint32_t sym) {
    dim_work w;
    dim_poly p = {0};
    dim_work_begin(&w, m);
    dim_add_atom(&w, &p, (ir_dim_atom){.kind = DIM_SYM, .sym = sym});
    return dim_work_end(&w, &p);
}

bool ir_dims_copy(ir_dim_table *to, const ir_dim_table *from) {
    for (uint32_t i = 0; i < from->atoms.n; i++) {
        dim_atom *a = rt_arena_alloc(&to->arena, sizeof *a);
        if (!a || !ir_index_reserve(to->alloc, &to->atom_ix)) return false;
        *a = *from->atoms.data[i];
        if (!rt_vec_push(to->alloc, &to->atoms, a)) return false;
        ir_index_add(&to->atom_ix, dim_atom_hash(&a->pub), i);
    }
    for (uint32_t i = 0; i < from->polys.n; i++) {
        dim_poly p = from->polys.data[i];
        if (!ir_index_reserve(to->alloc, &to->poly_ix) || !dim_keep(to, &p)) return false;
        for (uint32_t k = 0; k < p.n; k++) {
            const ir_dim_atom **atom = (const ir_dim_atom **)(uintptr_t)p.term[k].atom;
            for (uint32_t j = 0; j < p.term[k].natom; j++)
                atom[j] = &to->atoms.data[dim_full(atom[j])->id]->pub;
        }
        if (!rt_vec_push(to->alloc, &to->polys, p)) return false;
        ir_index_add(&to->poly_ix, dim_hash(&p), i);
    }
    return true;
}

/* --- Ranges --------------------------------------------------------------------------------- */

/* Interval ends: INT64_MAX is "unbounded" as an upper end, INT64_MIN as a lower end. */
typedef struct dim_span {
    int64_t lo, hi;
} dim_span;

static dim_span dim_range(const ir_module *m, ir_dim d);

static int64_t dim_sat_mul(int64_t x, int64_t y) { /* x, y >= 0 */
    int64_t r;
    return __builtin_mul_overflow(x, y, &r) ? INT64_MAX : r;
}

/* Sum of lower ends (`up` false) or upper ends: unbounded is sticky, the other side saturates,
 * which stays a bound. */
static int64_t dim_sat_add(int64_t x, int64_t y, bool up) {
    int64_t end = up ? INT64_MAX : INT64_MIN, r;
    if (x == end || y == end) return end;
    if (!__builtin_add_overflow(x, y, &r)) return r;
    return x < 0 ? INT64_MIN : INT64_MAX;
}

static dim_span dim_range_atom(const ir_module *m, const ir_dim_atom *a) {
    if (a->kind == DIM_SYM) {
        if (a->sym >= m->symbols.n) return (dim_span){0, INT64_MAX};
        ir_symbol s = m->symbols.data[a->sym];
        return (dim_span){s.lo < 0 ? 0 : s.lo, s.hi < 0 ? 0 : s.hi};
    }
    dim_span x = dim_range(m, a->a), y = dim_range(m, a->b);
    if (x.lo < 0) x.lo = 0;
    if (y.lo < 0) y.lo = 0;
    if (x.hi < 0) x.hi = 0;
    if (y.hi < 0) y.hi = 0;
    switch (a->kind) {
    case DIM_FLOORDIV: {
        int64_t lo = y.hi == INT64_MAX ? 0 : x.lo / (y.hi ? y.hi : 1);
        return (dim_span){lo, x.hi == INT64_MAX ? INT64_MAX : x.hi / (y.lo ? y.lo : 1)};
    }
    case DIM_MOD: {
        int64_t most = y.hi == INT64_MAX ? INT64_MAX : y.hi ? y.hi - 1 : 0;
        return (dim_span){x.hi < y.lo ? x.lo : 0, x.hi < most ? x.hi : most};
    }
    case DIM_MIN: return (dim_span){x.lo < y.lo ? x.lo : y.lo, x.hi < y.hi ? x.hi : y.hi};
    case DIM_MAX: return (dim_span){x.lo > y.lo ? x.lo : y.lo, x.hi > y.hi ? x.hi : y.hi};
    default: return (dim_span){0, INT64_MAX};
    }
}

/* Bounds of one term; a negative coefficient swaps the ends. */
static dim_span dim_range_term(const ir_module *m, const ir_dim_term *x) {
    dim_span s = {1, 1};
    for (uint32_t i = 0; i < x->natom; i++) {
        dim_span a = dim_range_atom(m, x->atom[i]);
        s.lo = dim_sat_mul(s.lo, a.lo);
        s.hi = dim_sat_mul(s.hi, a.hi);
    }
    if (x->coef == INT64_MIN) return (dim_span){INT64_MIN, s.lo ? INT64_MIN + 1 : 0};
    int64_t c = x->coef < 0 ? -x->coef : x->coef;
    s.lo = dim_sat_mul(s.lo, c);
    s.hi = dim_sat_mul(s.hi, c);
    if (x->coef > 0) return s;
    return (dim_span){s.hi == INT64_MAX ? INT64_MIN : -s.hi, -s.lo};
}

static dim_span dim_range_poly(const ir_module *m, const dim_poly *p) {
    dim_span s = {0, 0};
    for (uint32_t i = 0; i < p->n; i++) {
        dim_span x = dim_range_term(m, &p->term[i]);
        s.lo = dim_sat_add(s.lo, x.lo, false);
        s.hi = dim_sat_add(s.hi, x.hi, true);
    }
    return s;
}

static dim_span dim_range(const ir_module *m, ir_dim d) {
    if (d >= 0) return (dim_span){d, d};
    const dim_poly *p = m ? dim_poly_of(m->dims, d) : NULL;
    if (p) return dim_range_poly(m, p);
    return (dim_span){0, INT64_MAX};
}

void ir_dim_range(const ir_module *m, ir_dim d, int64_t *lo_, int64_t *hi_) {
    dim_span s = dim_range(m, d);
    *lo_ = s.lo < 0 ? 0 : s.lo;
    *hi_ = s.hi < 0 ? 0 : s.hi;
}

/* --- Arithmetic ----------------------------------------------------------------------------- */

static bool dim_both_const(ir_dim a, ir_dim b) { return a >= 0 && b >= 0; }
static bool dim_unusable(const ir_module *m, ir_dim a, ir_dim b) {
    return a == IR_DIM_BAD || b == IR_DIM_BAD || (!m && !dim_both_const(a, b));
}

ir_dim ir_dim_add(ir_module *m, ir_dim a, ir_dim b) {
    if (dim_unusable(m, a, b)) return IR_DIM_BAD;
    if (dim_both_const(a, b)) return a <= INT64_MAX - b ? a + b : IR_DIM_BAD;
    if (!a || !b) return a ? a : b;
    dim_work w;
    dim_work_begin(&w, m);
    dim_poly p = dim_load(&w, a), q = dim_load(&w, b);
    dim_add_scaled(&w, &p, &q, 1);
    return dim_work_end(&w, &p);
}

ir_dim ir_dim_sub(ir_module *m, ir_dim a, ir_dim b) {
    if (dim_unusable(m, a, b)) return IR_DIM_BAD;
    if (dim_both_const(a, b)) return a >= b ? a - b : IR_DIM_BAD;
    dim_work w;
    dim_work_begin(&w, m);
    dim_poly p = dim_load(&w, a), q = dim_load(&w, b);
    dim_add_scaled(&w, &p, &q, -1);
    return dim_work_end(&w, &p);
}

ir_dim ir_dim_mul(ir_module *m, ir_dim a, ir_dim b) {
    int64_t r;
    if (dim_unusable(m, a, b)) return IR_DIM_BAD;
    if (dim_both_const(a, b)) return __builtin_mul_overflow(a, b, &r) ? IR_DIM_BAD : r;
    if (a == 1 || b == 1) return a == 1 ? b : a;
    dim_work w;
    dim_work_begin(&w, m);
    dim_poly p = {0}, q = dim_load(&w, a), s = dim_load(&w, b);
    dim_add_product(&w, &p, &q, &s);
    return dim_work_end(&w, &p);
}

/* p = c * quo + rem with the coefficients of rem in [0, c). */
static void dim_split(dim_work *w, const dim_poly *p, int64_t c, dim_poly *quo, dim_poly *rem) {
    for (uint32_t i = 0; i < p->n; i++) {
        ir_dim_term x = p->term[i];
        int64_t r = x.coef % c, q = x.coef / c;
        if (r < 0) r += c, q--;
        x.coef = q;
        dim_add_term(w, quo, x);
        x.coef = r;
        dim_add_term(w, rem, x);
    }
}

/* x / y when it divides, coefficients too. */
static bool dim_divide_term(dim_work *w, const ir_dim_term *x, const ir_dim_term *y,
                            ir_dim_term *out_) {
    if (y->natom > x->natom || (x->coef == INT64_MIN && y->coef == -1) || x->coef % y->coef)
        return false;
    uint32_t n = 0, j = 0;
    const ir_dim_atom **atom = dim_scratch(w, x->natom + 1, sizeof *atom);
    if (!atom) return false;
    for (uint32_t i = 0; i < x->natom; i++) {
        if (j < y->natom && x->atom[i] == y->atom[j])
            j++;
        else
            atom[n++] = x->atom[i];
    }
    *out_ = (ir_dim_term){x->coef / y->coef, n, atom};
    return j == y->natom;
}

/* p = d * quo + rem by long division; p becomes rem. */
static void dim_divide(dim_work *w, dim_poly *p, const dim_poly *d, dim_poly *quo) {
    for (int i = 0; i < DIM_DIVIDE_STEPS && p->n && !w->failed; i++) {
        ir_dim_term t;
        if (!dim_divide_term(w, &p->term[0], &d->term[0], &t)) return;
        dim_add_term(w, quo, t);
        dim_poly part = {0}, one = {.term = &t, .n = 1};
        dim_add_product(w, &part, &one, d);
        dim_add_scaled(w, p, &part, -1);
    }
}

static int64_t dim_gcd(int64_t a, int64_t b) {
    while (b) {
        int64_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

/* Divide p (coefficients in [0, *c)) and *c by their common divisor; the constant rounds down,
 * which is exact here. */
static void dim_reduce(dim_poly *p, int64_t *c) {
    int64_t g = *c;
    for (uint32_t i = 0; i < p->n; i++)
        if (p->term[i].natom) g = dim_gcd(g, p->term[i].coef);
    *c /= g;
    for (uint32_t i = 0; i < p->n; i++) p->term[i].coef /= g;
    if (p->n && !p->term[p->n - 1].coef) p->n--;
}

/* Whether every value of p is in [0, end). */
static bool dim_below(const dim_work *w, const dim_poly *p, int64_t end) {
    dim_span s = dim_range_poly(w->m, p);
    return s.lo >= 0 && s.hi < end;
}

/* sum += floordiv(p, c), coefficients of p in [0, c). */
static void dim_add_floordiv(dim_work *w, dim_poly *sum, dim_poly *p, int64_t c) {
    if (w->failed || dim_below(w, p, c)) return;
    dim_reduce(p, &c);
    const ir_dim_term *x = &p->term[0];
    if (p->n == 1 && x->coef == 1 && x->natom == 1 && x->atom[0]->kind == DIM_FLOORDIV &&
        x->atom[0]->b > 0) {
        int64_t both; /* floordiv(floordiv(a, b), c) = floordiv(a, b*c) */
        if (!__builtin_mul_overflow(x->atom[0]->b, c, &both)) {
            dim_poly inner = dim_load(w, x->atom[0]->a);
            dim_add_floordiv(w, sum, &inner, both);
            return;
        }
    }
    ir_dim rest = dim_intern(w, p);
    if (rest == IR_DIM_BAD) w->failed = true;
    dim_add_atom(w, sum, (ir_dim_atom){.kind = DIM_FLOORDIV, .a = rest, .b = c});
}

ir_dim ir_dim_floordiv(ir_module *m, ir_dim a, ir_dim b) {
    if (dim_unusable(m, a, b) || !b) return IR_DIM_BAD;
    if (dim_both_const(a, b)) return a / b;
    if (a == b || b == 1) return b == 1 ? a : 1;
    dim_work w;
    dim_work_begin(&w, m);
    dim_poly p = dim_load(&w, a), d = dim_load(&w, b), quo = {0}, rem = {0};
    if (b > 0) {
        dim_split(&w, &p, b, &quo, &rem);
        dim_add_floordiv(&w, &quo, &rem, b);
    } else if (!w.failed) {
        dim_divide(&w, &p, &d, &quo);
        if (p.n && !dim_below(&w, &p, dim_range_poly(m, &d).lo)) {
            quo = (dim_poly){0};
            dim_add_atom(&w, &quo, (ir_dim_atom){.kind = DIM_FLOORDIV, .a = a, .b = b});
        }
    }
    return dim_work_end(&w, &quo);
}

ir_dim ir_dim_mod(ir_module *m, ir_dim a, ir_dim b) {
    if (dim_unusable(m, a, b) || !b) return IR_DIM_BAD;
    if (dim_both_const(a, b)) return a % b;
    if (a == b || b == 1) return 0;
    dim_work w;
    dim_work_begin(&w, m);
    dim_poly p = dim_load(&w, a), d = dim_load(&w, b), quo = {0}, rem = {0};
    ir_dim_atom atom = {.kind = DIM_MOD, .a = a, .b = b};
    int64_t least = b;
    if (b > 0) {
        dim_split(&w, &p, b, &quo, &rem);
        if (!dim_below(&w, &rem, b) && (atom.a = dim_intern(&w, &rem)) == IR_DIM_BAD)
            w.failed = true;
    } else if (!w.failed) {
        dim_divide(&w, &p, &d, &quo);
        rem = p;
        least = dim_range_poly(m, &d).lo;
    }
    if (rem.n && !dim_below(&w, &rem, least)) {
        rem = (dim_poly){0};
        dim_add_atom(&w, &rem, atom);
    }
    return dim_work_end(&w, &rem);
}

/* --- Order ---------------------------------------------------------------------------------- */

/* Replace p by c*p with one floordiv(q, c) bounded by (q - c + 1)/c or q/c, whichever makes p
 * smaller; false when p has none. */
static bool dim_relax(dim_work *w, dim_poly *p) {
    for (uint32_t i = 0; i < p->n && !w->failed; i++) {
        ir_dim_term x = p->term[i];
        if (x.natom != 1 || x.atom[0]->kind != DIM_FLOORDIV || x.atom[0]->b <= 0) continue;
        dim_poly q = dim_load(w, x.atom[0]->a), sum = {0};
        int64_t c = x.atom[0]->b;
        dim_add_scaled(w, &sum, p, c);
        if (__builtin_mul_overflow(x.coef, -c, &x.coef)) w->failed = true;
        dim_add_term(w, &sum, x);
        if (p->term[i].coef > 0) dim_add_const(w, &q, 1 - c);
        dim_add_scaled(w, &sum, &q, p->term[i].coef);
        *p = sum;
        return !w->failed;
    }
    return false;
}

/* Whether p has no negative coefficient left when each atom is written as its least value plus a
 * rest. */
static bool dim_is_sum(dim_work *w, const dim_poly *p) {
    dim_poly sum = {0};
    for (uint32_t i = 0; i < p->n && !w->failed; i++) {
        dim_poly product = {0};
        dim_add_const(w, &product, p->term[i].coef);
        for (uint32_t k = 0; k < p->term[i].natom && !w->failed; k++) {
            dim_poly factor = {0}, next = {0};
            dim_add_term(w, &factor, (ir_dim_term){1, 1, &p->term[i].atom[k]});
            dim_add_const(w, &factor, dim_range_atom(w->m, p->term[i].atom[k]).lo);
            dim_add_product(w, &next, &product, &factor);
            product = next;
        }
        dim_add_scaled(w, &sum, &product, 1);
    }
    for (uint32_t i = 0; i < sum.n; i++)
        if (sum.term[i].coef < 0) return false;
    return !w->failed;
}

/* Whether scale * p >= 0 is proved, scale being 1 or -1: by its range, or term by term. */
static bool dim_is_nonneg(dim_work *w, const dim_poly *p, int64_t scale) {
    dim_poly q = {0};
    dim_add_scaled(w, &q, p, scale);
    for (int i = 0; i < 4 && !w->failed; i++) {
        if (dim_range_poly(w->m, &q).lo >= 0 || dim_is_sum(w, &q)) return true;
        if (!dim_relax(w, &q)) break;
    }
    return false;
}

/* 1: b - a >= 0 is proved, -1: a - b >= 0 is, 0: neither.  False when memory is out. */
static bool dim_decide(const ir_module *m, ir_dim a, ir_dim b, int *order_) {
    int scale[2] = {1, -1};
    *order_ = 0;
    for (int i = 0; i < 2 && !*order_; i++) {
        dim_work w;
        dim_work_begin(&w, m);
        dim_poly p = dim_load(&w, b), q = dim_load(&w, a);
        dim_add_scaled(&w, &p, &q, -1);
        if (!w.failed && dim_is_nonneg(&w, &p, scale[i])) *order_ = scale[i];
        rt_arena_free(&w.scratch);
        if (w.no_memory) return false;
    }
    return true;
}

bool ir_dim_le(const ir_module *m, ir_dim a, ir_dim b) {
    if (dim_unusable(m, a, b)) return false;
    if (a == b || dim_both_const(a, b)) return a <= b;
    int order;
    return dim_decide(m, a, b, &order) && order > 0;
}

/* min or max: decided when one is proved not to exceed the other, else an atom with its operands
 * in order. */
static ir_dim dim_pick(ir_module *m, ir_dim_node_kind kind, ir_dim a, ir_dim b) {
    bool min = kind == DIM_MIN;
    if (dim_unusable(m, a, b)) return IR_DIM_BAD;
    if (dim_both_const(a, b)) return min == (a < b) ? a : b;
    if (a == b) return a;
    int less; /* without this answer the atom might not be in normal form */
    if (!dim_decide(m, a, b, &less)) return IR_DIM_BAD;
    if (less) return min == (less > 0) ? a : b;
    dim_work w;
    dim_poly atom = {0};
    dim_work_begin(&w, m);
    bool swap = dim_compare(w.t, a, b) > 0;
    dim_add_atom(&w, &atom, (ir_dim_atom){.kind = kind, .a = swap ? b : a, .b = swap ? a : b});
    return dim_work_end(&w, &atom);
}

ir_dim ir_dim_min(ir_module *m, ir_dim a, ir_dim b) { return dim_pick(m, DIM_MIN, a, b); }
ir_dim ir_dim_max(ir_module *m, ir_dim a, ir_dim b) { return dim_pick(m, DIM_MAX, a, b); }

ir_dim ir_dim_spread(ir_module *m, ir_dim d, int64_t interior) {
    if (!interior || d == 0) return d;
    ir_dim gaps = ir_dim_sub(m, ir_dim_le(m, 1, d) ? d : ir_dim_max(m, d, 1), 1);
    return ir_dim_add(m, d, ir_dim_mul(m, gaps, interior));
}

/* --- Reading -------------------------------------------------------------------------------- */

uint32_t ir_dim_terms(const ir_module *m, ir_dim d, const ir_dim_term **out_) {
    const dim_poly *p = dim_poly_of(m->dims, d);
    *out_ = p ? p->term : NULL;
    return p ? p->n : 0;
}

static bool dim_eval(const ir_module *m, ir_dim d, const int64_t *symbols, int64_t *out_);

static bool dim_eval_atom(const ir_module *m, const ir_dim_atom *a, const int64_t *symbols,
                          int64_t *out_) {
    int64_t x, y;
    if (a->kind == DIM_SYM) {
        *out_ = symbols[a->sym];
        return *out_ >= 0;
    }
    if (!dim_eval(m, a->a, symbols, &x) || !dim_eval(m, a->b, symbols, &y) || x < 0 || y < 0)
        return false;
    switch (a->kind) {
    case DIM_FLOORDIV: *out_ = y ? x / y : 0; return y != 0;
    case DIM_MOD: *out_ = y ? x % y : 0; return y != 0;
    case DIM_MIN: *out_ = x < y ? x : y; return true;
    case DIM_MAX: *out_ = x > y ? x : y; return true;
    default: return false;
    }
}

/* Value of a dim, which may be negative; false on overflow. */
static bool dim_eval(const ir_module *m, ir_dim d, const int64_t *symbols, int64_t *out_) {
    *out_ = d;
    if (d >= 0) return true;
    const dim_poly *p = dim_poly_of(m->dims, d);
    if (!p) return false;
    int64_t sum = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        int64_t v = p->term[i].coef, x;
        for (uint32_t k = 0; k < p->term[i].natom; k++)
            if (!dim_eval_atom(m, p->term[i].atom[k], symbols, &x) ||
                __builtin_mul_overflow(v, x, &v))
                return false;
        if (__builtin_add_overflow(sum, v, &sum)) return false;
    }
    *out_ = sum;
    return true;
}

bool ir_dim_eval(const ir_module *m, ir_dim d, const int64_t *symbols, int64_t *out_) {
    return dim_eval(m, d, symbols, out_) && *out_ >= 0;
}

static void dim_print_atom(const ir_module *m, const ir_dim_atom *a, rt_str *out) {
    static const char *const name[] = {
        [DIM_FLOORDIV] = "floordiv", [DIM_MOD] = "mod", [DIM_MIN] = "min", [DIM_MAX] = "max"};
    if (a->kind == DIM_SYM) {
        rt_str_puts(out, a->sym < m->symbols.n ? m->symbols.data[a->sym].name : "?");
        return;
    }
    rt_str_printf(out, "%s(", name[a->kind]);
    ir_dim_print(m, a->a, out);
    rt_str_puts(out, ",");
    ir_dim_print(m, a->b, out);
    rt_str_puts(out, ")");
}

void ir_dim_print(const ir_module *m, ir_dim d, rt_str *out) {
    const dim_poly *p = d < 0 ? dim_poly_of(m->dims, d) : NULL; /* m may be NULL for numbers */
    if (d >= 0)
        rt_str_printf(out, "%lld", (long long)d);
    else if (!p)
        rt_str_puts(out, "?");
    for (uint32_t i = 0; p && i < p->n; i++) {
        const ir_dim_term *x = &p->term[i];
        uint64_t mag = x->coef < 0 ? 0 - (uint64_t)x->coef : (uint64_t)x->coef;
        if (x->coef < 0)
            rt_str_puts(out, i ? "-" : "0-"); /* the grammar has no unary minus */
        else if (i)
            rt_str_puts(out, "+");
        if (mag != 1 || !x->natom)
            rt_str_printf(out, x->natom ? "%llu*" : "%llu", (unsigned long long)mag);
        for (uint32_t k = 0; k < x->natom; k++) {
            if (k) rt_str_puts(out, "*");
            dim_print_atom(m, x->atom[k], out);
        }
    }
}

/* --- Import --------------------------------------------------------------------------------- */

static ir_dim dim_import_atom(ir_module *to, const ir_module *from, const ir_dim_atom *a,
                              const ir_dim *by) {
    if (a->kind == DIM_SYM) {
        if (a->sym >= from->symbols.n) return IR_DIM_BAD;
        if (by) return by[a->sym];
        ir_symbol s = from->symbols.data[a->sym];
        ir_dim d = ir_add_symbol(to, s.name, s.lo, s.hi);
        if (d == IR_DIM_BAD) dim_no_memory(to->dims);
        return d;
    }
    ir_dim x = ir_dim_import_by(to, from, a->a, by), y = ir_dim_import_by(to, from, a->b, by);
    switch (a->kind) {
    case DIM_FLOORDIV: return ir_dim_floordiv(to, x, y);
    case DIM_MOD: return ir_dim_mod(to, x, y);
    case DIM_MIN: return ir_dim_min(to, x, y);
    case DIM_MAX: return ir_dim_max(to, x, y);
    default: return IR_DIM_BAD;
    }
}

/* p += x with its atoms imported; they may simplify on the way, so a term becomes a polynomial. */
static void dim_import_term(dim_work *w, ir_module *to, const ir_module *from, const ir_dim_term *x,
                            const ir_dim *by, dim_poly *p) {
    dim_poly product = {0};
    dim_add_const(w, &product, x->coef);
    for (uint32_t k = 0; k < x->natom && !w->failed; k++) {
        ir_dim atom = dim_import_atom(to, from, x->atom[k], by);
        dim_poly next = {0}, a = dim_load(w, atom);
        dim_add_product(w, &next, &product, &a);
        product = next;
    }
    dim_add_scaled(w, p, &product, 1);
}

ir_dim ir_dim_import_by(ir_module *to, const ir_module *from, ir_dim d, const ir_dim *by) {
    if (d >= 0) return d;
    const dim_poly *p = dim_poly_of(from->dims, d);
    if (!p) return IR_DIM_BAD;
    const ir_dim_term *term = p->term; /* stays, while the table of polynomials may move */
    uint32_t n = p->n;
    dim_work w;
    dim_poly sum = {0};
    dim_work_begin(&w, to);
    for (uint32_t i = 0; i < n && !w.failed; i++) dim_import_term(&w, to, from, &term[i], by, &sum);
    return dim_work_end(&w, &sum);
}

ir_dim ir_dim_import(ir_module *to, const ir_module *from, ir_dim d) {
    return ir_dim_import_by(to, from, d, NULL);
}
