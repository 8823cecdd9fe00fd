/* relation.c - eager relations with constraints: there are no built-in kernels for them, as each is
 * another one.
 *
 * What the reference computes in a moment it does.  Larger ones are compiled for their sizes, at
 * once when the reference would take long, else when they come again; a session keeps the last
 * RELATION_KEPT.  The bits are the same either way. */
#include "frontend/fe.h"
#include <stddef.h>
#include <string.h>

#define RELATION_KEPT  64
#define RELATION_SMALL (INT64_C(1) << 15) /* tuples: half a millisecond on the reference */
#define RELATION_LARGE (INT64_C(1) << 22) /* as long as compiling takes */

typedef struct relation_key {
    ir_rel rel;
    int nin;
    ir_type in[IR_EIN_OPERANDS];
} relation_key;

typedef struct relation_made {
    relation_key key;
    ig_module *module; /* owned; NULL: seen once, or it cannot be compiled */
    bool failed;
} relation_made;

struct fe_relations {
    RT_VEC(relation_made *) list;
    uint32_t next; /* to be replaced when the list is full */
};

/* Tuples that a relation runs over. */
static int64_t relation_tuples(const relation_key *k, const ig_tensor *out) {
    ir_dim extent[IR_EIN_VARS];
    int operand, axis;
    int64_t n = fe_numel(out);
    ir_ein_extents(&k->rel, k->in, extent, &operand, &axis);
    for (int i = 0; i < k->rel.norder; i++)
        if (__builtin_mul_overflow(n, extent[k->rel.order[i]], &n)) return INT64_MAX;
    return n;
}

static relation_key relation_key_of(const ir_rel *rel, ig_tensor *const *in) {
    relation_key k;
    bool more = rel->given || rel->ncon;
    memset(&k, 0, sizeof k);
    k.nin = rel->nin;
    memcpy(&k.rel, rel,
           more ? offsetof(ir_rel, con) + rel->ncon * sizeof rel->con[0]
                : offsetof(ir_rel, order) + rel->norder);
    for (int i = 0; i < k.nin; i++) {
        k.in[i].dtype = in[i]->dtype;
        k.in[i].rank = in[i]->rank;
        memcpy(k.in[i].dim, in[i]->dim, in[i]->rank * sizeof *in[i]->dim);
    }
    return k;
}

static void relation_free(const ig_allocator *a, relation_made *r) {
    ig_module_free(r->module);
    rt_free(a, r, sizeof *r);
}

void fe_relations_forget(ig_session *s) {
    struct fe_relations *all = s->relations;
    if (!all) return;
    for (uint32_t i = 0; i < all->list.n; i++) relation_free(s->alloc, all->list.data[i]);
    rt_vec_free(s->alloc, &all->list);
    rt_free(s->alloc, all, sizeof *all);
    s->relations = NULL;
}

/* What is kept of a relation, new when it comes the first time; NULL when memory is out. */
static relation_made *relation_find(ig_session *s, const relation_key *k, bool *new_) {
    struct fe_relations *all = s->relations;
    *new_ = false;
    if (!all && !(all = s->relations = rt_alloc_zero(s->alloc, sizeof *all))) return NULL;
    for (uint32_t i = 0; i < all->list.n; i++)
        if (!memcmp(&all->list.data[i]->key, k, sizeof *k)) return all->list.data[i];
    relation_made *r = rt_alloc_zero(s->alloc, sizeof *r);
    if (!r) return NULL;
    r->key = *k;
    *new_ = true;
    if (all->list.n == RELATION_KEPT) {
        relation_made **old = &all->list.data[all->next++ % RELATION_KEPT];
        relation_free(s->alloc, *old);
        *old = r;
    } else if (!rt_vec_push(s->alloc, &all->list, r)) {
        relation_free(s->alloc, r);
        return NULL;
    }
    return r;
}

/* A module of the one op. */
static ig_status relation_build(ig_session *s, const relation_key *k, ig_module **out_) {
    ir_attr_ein attr = {.rel = k->rel};
    ir_module *m;
    ir_builder b;
    ir_ref in[IR_EIN_OPERANDS], y;
    RT_TRY(ir_module_new(s->alloc, "ein", &m));
    m->class = s->class;
    ir_build_begin(&b, m, "ein", IR_FN, IR_BUILD_RAW);
    for (int i = 0; i < k->nin; i++) in[i] = ir_param(&b, k->in[i], NULL);
    y = ir_emit(&b, OP_ein, &attr, k->nin, in);
    ig_status e = ir_build_end(&b, 1, &y, NULL);
    if (!e) return fe_module_new(s->alloc, m, 0, NULL, out_);
    ir_module_free(m);
    return e;
}

static void relation_compile(ig_session *s, relation_made *r) {
    ig_status e = relation_build(s, &r->key, &r->module);
    if (!e) e = ig_module_compile(r->module, NULL);
    if (!e) return;
    ig_status_free(e); /* without a compiler it is the reference's */
    ig_module_free(r->module);
    r->module = NULL;
    r->failed = true;
}

fe_ran fe_relation_run(fe_call *c, const ir_rel *rel, ig_tensor *const *in, ig_tensor *out) {
    ig_session *s = c->s->session;
    relation_key k = relation_key_of(rel, in);
    int64_t tuples = relation_tuples(&k, out);
    ig_tensor *y;
    bool first;
    if (tuples < RELATION_SMALL) return FE_NO_KERNEL;
    relation_made *r = relation_find(s, &k, &first);
    if (!r) return FE_NO_KERNEL;
    if (!r->module && !r->failed && (!first || tuples >= RELATION_LARGE)) relation_compile(s, r);
    if (!r->module) return FE_NO_KERNEL;
    fe_rec *rec = c->s->rec; /* the op itself is recorded */
    c->s->rec = NULL;
    ig_status e = fe_module_run(c, r->module, in, &y);
    c->s->rec = rec;
    if (e) {
        fe_error_status(c, e);
        return FE_FAILED;
    }
    memcpy(out->buf->data, y->buf->data, out->buf->bytes);
    return FE_RAN;
}
