/* grad.c - gradient scopes: gradients of eager code.
 *
 * A scope records what a trace would record (record.c): the tape is the IR that it already is.
 * ig_backward cuts out of it the ops that the loss is made of, as a function of the values that
 * they take from elsewhere, has its pullback made (passes/pullback.c: every value of that function
 * is known), and runs it on the values that it asks for.
 *
 * Outside of a trace the cut is known again by a key of integers: ops, attributes (interned in one
 * module for all scopes of the session), operands by number, types of what comes from elsewhere.  A
 * gradient function runs op by op the first time; when it is found again it is compiled, once, and
 * goes on op by op where that fails.  Inside a trace its ops are recorded like any others.
 *
 * What ig_backward itself computes is not looked into by a later ig_backward: gradients are
 * constants there. */
#include "frontend/grad_needs.h"
#include "ir/intern.h"
#include "passes/transform.h"
#include "runtime/base/hash.h"
#include <string.h>

enum {
    GRAD_BACKS = 64,     /* gradient functions that are kept */
    GRAD_ATTRS = 1 << 16 /* attributes in the module of the tapes, above which it begins anew */
};

typedef struct grad_watch {
    ig_tensor *handle; /* retained */
    uint32_t val;
    const ig_site *site, *assigned; /* assigned: NULL, or where the handle got another value */
} grad_watch;

typedef struct grad_range {
    uint32_t lo, hi;
} grad_range;

struct fe_grad {
    ig_session *session;
    fe_rec *rec;      /* owned when it is a tape, else that of the trace */
    uint32_t first;   /* node */
    uint32_t nregion; /* begun before the scope: values of later ones are not held */
    const ig_site *begun;
    RT_VEC(grad_watch) watched;
    RT_VEC(grad_range) closed; /* nodes that ig_backward recorded */
    RT_VEC(fe_buf *) bufs;     /* by value of the recording: one share, or NULL */
};

/* A gradient function. */
typedef struct grad_back {
    uint64_t hash;
    RT_VEC(uint32_t) key;
    pass_numbers given; /* the parameters, by number in the cut */
    ig_module *module;  /* owned */
    bool found;         /* came a second time: compiled, or that failed */
} grad_back;

typedef struct fe_backs {
    ir_module *tape; /* owned: attributes, types */
    grad_need needs[GRAD_NEEDS];
    RT_VEC(grad_back) list;
    uint32_t next; /* to be replaced when the list is full */
} fe_backs;

/* --- Scopes --------------------------------------------------------------------------------- */

static const char *grad_file(const ig_site *s) { return s ? s->file : "(unknown)"; }
static int grad_line(const ig_site *s) { return s ? s->line : 0; }

static void grad_back_free(const ig_allocator *a, grad_back *b) {
    ig_module_free(b->module);
    rt_vec_free(a, &b->key);
    rt_vec_free(a, &b->given);
}

void fe_grad_forget(ig_session *s) {
    fe_backs *b = s->backs;
    if (!b) return;
    for (uint32_t i = 0; i < b->list.n; i++) grad_back_free(s->alloc, &b->list.data[i]);
    rt_vec_free(s->alloc, &b->list);
    ir_module_free(b->tape);
    rt_free(s->alloc, b, sizeof *b);
    s->backs = NULL;
}

void fe_grad_close(fe_stream *s) {
    fe_grad *g = s->grad;
    if (!g) return;
    const ig_allocator *a = g->session->alloc;
    for (uint32_t i = 0; i < g->bufs.n; i++)
        if (g->bufs.data[i]) fe_buf_release(g->session, g->bufs.data[i]);
    for (uint32_t i = 0; i < g->watched.n; i++) fe_release(g->watched.data[i].handle);
    if (g->rec->tape) {
        rec_free(g->rec);
        rt_free(a, g->rec, sizeof *g->rec);
        s->rec = NULL;
    }
    rt_vec_free(a, &g->bufs);
    rt_vec_free(a, &g->watched);
    rt_vec_free(a, &g->closed);
    rt_free(a, g, sizeof *g);
    s->grad = NULL;
}

/* The module whose tables all tapes of the session share; NULL when memory is out. */
static ir_module *grad_tape_module(fe_call *c) {
    ig_session *s = c->s->session;
    if (s->backs && s->backs->tape->intern->attrs.n > GRAD_ATTRS) fe_grad_forget(s);
    if (s->backs) return s->backs->tape;
    fe_backs *b = rt_alloc_zero(s->alloc, sizeof *b);
    ig_status e = b ? ir_module_new(s->alloc, "tape", &b->tape) : rt_fail_memory();
    if (e) {
        rt_free(s->alloc, b, sizeof *b);
        fe_error_status(c, e);
        return NULL;
    }
    s->backs = b;
    return b->tape;
}

/* A recording of its own, when no trace is under way. */
static bool grad_own_rec(fe_call *c, fe_grad *g) {
    ir_module *tape = grad_tape_module(c);
    fe_rec *r = tape ? rt_alloc_zero(fe_alloc(c), sizeof *r) : NULL;
    if (!r) return false;
    rec_init(r, c->s->session, tape, NULL);
    r->tape = true;
    g->rec = r;
    return true;
}

static bool grad_open(fe_call *c) {
    if (c->s->grad) {
        fe_error(c, IG_INVALID, "a gradient scope is open since %s:%d",
                 grad_file(c->s->grad->begun), grad_line(c->s->grad->begun));
        return false;
    }
    fe_grad *g = rt_alloc_zero(fe_alloc(c), sizeof *g);
    if (!g) return fe_error_memory(c), false;
    g->session = c->s->session;
    g->begun = c->site;
    g->rec = c->s->rec;
    if (!g->rec && !grad_own_rec(c, g)) {
        rt_free(fe_alloc(c), g, sizeof *g);
        return fe_error_memory(c), false;
    }
    g->first = g->rec->nodes.n;
    g->nregion = g->rec->nregion;
    c->s->rec = g->rec;
    c->s->grad = g;
    return true;
}

void ig_grad_begin_at(const ig_site *site) {
    FE_ENTER_OR(site, "grad_begin", );
    if (!grad_open(c)) c->s->missing_grad++;
    fe_exit(c);
}

void ig_grad_end_at(const ig_site *site) {
    FE_ENTER_OR(site, "grad_end", );
    if (c->s->missing_grad)
        c->s->missing_grad--;
    else if (!c->s->grad)
        fe_error(c, IG_INVALID, "no gradient scope is open");
    else {
        c->s->graded = c->s->grad->begun;
        fe_grad_close(c->s);
    }
    fe_exit(c);
}

/* --- What the recorder tells ---------------------------------------------------------------- */

static void grad_keep_value(fe_grad *g, const ig_tensor *t) {
    fe_buf **at = &g->bufs.data[t->val];
    if (*at || g->rec->values.data[t->val].region > g->nregion) return;
    fe_buf_retain(t->buf);
    *at = t->buf;
}

bool fe_grad_note(fe_call *c, int nin, ig_tensor *const *in, int nout, ig_tensor *const *out) {
    fe_grad *g = c->s->grad;
    if (!rt_vec_reserve(fe_alloc(c), &g->bufs, g->rec->values.n)) return fe_error_memory(c), false;
    while (g->bufs.n < g->rec->values.n) g->bufs.data[g->bufs.n++] = NULL;
    const rec_node *n = &g->rec->nodes.data[g->rec->nodes.n - 1];
    uint32_t needs = g->rec->tape ? fe_grad_needs(c->s->session->backs->needs, g->rec, n)
                                  : GRAD_NEED_ALL;
    for (int k = 0; k < nin; k++)
        if (needs == GRAD_NEED_ALL || needs >> k & 1) grad_keep_value(g, in[k]);
    for (int k = 0; k < nout; k++)
        if (needs & GRAD_NEED_RESULT) grad_keep_value(g, out[k]);
    return true;
}

void fe_grad_assigned(fe_call *c, const ig_tensor *t) {
    fe_grad *g = c->s->grad;
    for (uint32_t i = 0; i < g->watched.n; i++)
        if (g->watched.data[i].handle == t) g->watched.data[i].assigned = c->site;
}

/* Whether the value was computed in the scope, by an op that may be looked into. */
static bool grad_is_inside(const fe_grad *g, uint32_t val) {
    const rec_value *v = &g->rec->values.data[val];
    if (v->kind != REC_OP || v->index < g->first) return false;
    for (uint32_t i = 0; i < g->closed.n; i++)
        if (v->index >= g->closed.data[i].lo && v->index < g->closed.data[i].hi) return false;
    return true;
}

/* --- Watching ------------------------------------------------------------------------------- */

static bool grad_needs_scope(fe_call *c) {
    if (c->s->grad) return true;
    if (c->s->graded)
        fe_error(c, IG_INVALID,
                 "no gradient scope is open: the last one, begun at %s:%d, has ended, and what it "
                 "recorded is gone",
                 grad_file(c->s->graded), grad_line(c->s->graded));
    else
        fe_error(c, IG_INVALID, "no gradient scope is open: begin one by IG_GRAD_SCOPE");
    return false;
}

static void grad_watch_now(fe_call *c, ig_tensor *t) {
    fe_grad *g = c->s->grad;
    grad_watch w = {.handle = t, .site = c->site};
    if (!rt_is_float((ig_dtype)t->dtype)) {
        fe_error(c, IG_DTYPE, "%s: gradients are by floats only", FE_TYPE(t));
        return;
    }
    if (!rec_value_of(c, g->rec, t, &w.val)) return;
    if (grad_is_inside(g, w.val)) {
        fe_error(c, IG_INVALID,
                 "the tensor, made at %s:%d, was computed in the gradient scope: watch what it is "
                 "computed from, or begin the scope behind it",
                 grad_file(t->site), grad_line(t->site));
        return;
    }
    for (uint32_t i = 0; i < g->watched.n; i++)
        if (g->watched.data[i].handle == t) { /* again: by the value it has now */
            g->watched.data[i].val = w.val;
            g->watched.data[i].assigned = NULL;
            return;
        }
    if (!rt_vec_push(fe_alloc(c), &g->watched, w)) {
        fe_error_memory(c);
        return;
    }
    fe_retain(t);
}

void ig_watch_at(const ig_site *site, ig_tensor *t) {
    FE_ENTER_OR(site, "watch", );
    if (grad_needs_scope(c) && fe_is_usable(c, t, 0)) grad_watch_now(c, t);
    fe_exit(c);
}

/* --- The cut: what the loss is made of ------------------------------------------------------ */

typedef struct grad_cut {
    fe_call *c;
    fe_grad *g;
    const fe_rec *r;
    uint32_t loss, nvalue;  /* values recorded when the cut is made */
    uint32_t nnode;         /* of the scope; one is added so that none is not empty */
    bool *live;             /* by value of the recording */
    bool *keep;             /* by node from the scope's first on */
    uint32_t *number;       /* value of the recording -> value of the function, or 0 */
    RT_VEC(uint32_t) value; /* the way back; value.data[0] is none */
    RT_VEC(uint32_t) nodes; /* in order */
    uint32_t nleaf;         /* values 1 .. nleaf are the arguments */
    RT_VEC(uint32_t) wrt;   /* arguments, one a watched tensor */
    RT_VEC(uint32_t) key;
} grad_cut;

static bool grad_memory(grad_cut *k, bool ok) {
    if (!ok) fe_error_memory(k->c);
    return ok;
}

static bool grad_keeps(const grad_cut *k, uint32_t i) { return k->keep[i - k->g->first]; }

/* Whether the loss depends on a node of the scope. */
static bool grad_needs(const grad_cut *k, const rec_node *n) {
    bool live = false;
    for (uint32_t j = 0; j < n->nout; j++) live |= k->live[n->out + j];
    return live && grad_is_inside(k->g, n->out);
}

/* The first node of the op that ends with node i. */
static uint32_t grad_begin_of(const grad_cut *k, uint32_t i) {
    for (uint32_t depth = 1; depth;) {
        rec_part part = (rec_part)k->r->nodes.data[--i].part;
        depth += part == REC_END;
        depth -= part == REC_BEGIN;
    }
    return i;
}

/* Everything the loss depends on.  An op with regions is kept whole. */
static bool grad_fill_live(grad_cut *k) {
    uint32_t whole = UINT32_MAX; /* nodes from here on belong to an op that is kept */
    k->live[k->loss] = true;
    for (uint32_t i = k->r->nodes.n; i-- > k->g->first;) {
        const rec_node *n = &k->r->nodes.data[i];
        bool inside = i >= whole;
        if (!inside && !grad_needs(k, n)) continue;
        if (!inside && n->part == REC_END)
            whole = grad_begin_of(k, i), inside = whole >= k->g->first;
        if (!inside && n->part != REC_WHOLE) {
            fe_error(k->c, IG_INVALID,
                     "the loss is computed in the body of %s at %s:%d, which is outside of the "
                     "gradient scope's part of it: begin the scope in the body, or call "
                     "ig_backward behind it",
                     n->api, grad_file(n->site), grad_line(n->site));
            return false;
        }
        k->keep[i - k->g->first] = true;
        for (uint32_t j = 0; j < n->nin; j++) k->live[k->r->operands.data[n->in0 + j]] = true;
        if (i == whole) whole = UINT32_MAX;
    }
    return true;
}

static bool grad_number(grad_cut *k, uint32_t val) {
    if (k->number[val]) return true;
    k->number[val] = k->value.n;
    return rt_vec_push(fe_alloc(k->c), &k->value, val);
}

/* Number what comes from elsewhere in the order of first use, then what is computed. */
static bool grad_fill_values(grad_cut *k) {
    bool ok = rt_vec_push(fe_alloc(k->c), &k->value, 0);
    for (uint32_t i = k->g->first; ok && i < k->r->nodes.n; i++) {
        const rec_node *n = &k->r->nodes.data[i];
        if (!grad_keeps(k, i)) continue;
        ok = rt_vec_push(fe_alloc(k->c), &k->nodes, i);
        for (uint32_t j = 0; ok && j < n->nin; j++) {
            uint32_t val = k->r->operands.data[n->in0 + j];
            if (!grad_is_inside(k->g, val)) ok = grad_number(k, val);
        }
    }
    k->nleaf = k->value.n - 1;
    for (uint32_t i = 0; ok && i < k->nodes.n; i++) {
        const rec_node *n = &k->r->nodes.data[k->nodes.data[i]];
        for (uint32_t j = 0; ok && j < n->nout; j++) ok = grad_number(k, n->out + j);
    }
    return grad_memory(k, ok);
}

/* The arguments that are watched, or which tensor cannot be one. */
static bool grad_fill_wrt(grad_cut *k, const ig_tensor *loss) {
    for (uint32_t i = 0; i < k->g->watched.n; i++) {
        const grad_watch *w = &k->g->watched.data[i];
        const char *name = w->handle->name ? w->handle->name : "a tensor";
        if (w->assigned) {
            fe_error(k->c, IG_INVALID,
                     "%s, watched at %s:%d, was assigned at %s:%d: its gradient would be that of "
                     "the value before (assign behind ig_backward, or watch it again)",
                     name, grad_file(w->site), grad_line(w->site), grad_file(w->assigned),
                     grad_line(w->assigned));
            return false;
        }
        if (!k->live[w->val]) {
            fe_error(k->c, IG_INVALID,
                     "the loss, made at %s:%d, does not depend on %s, watched at %s:%d",
                     grad_file(loss->site), grad_line(loss->site), name, grad_file(w->site),
                     grad_line(w->site));
            return false;
        }
        if (!rt_vec_push(fe_alloc(k->c), &k->wrt, k->number[w->val] - 1))
            return grad_memory(k, false);
    }
    return true;
}

/* The loss: a floating scalar that the scope has computed. */
static bool grad_check_loss(fe_call *c, const ig_tensor *loss) {
    const fe_grad *g = c->s->grad;
    if (!g->watched.n) {
        fe_error(c, IG_INVALID, "no tensor is watched in the scope begun at %s:%d",
                 grad_file(g->begun), grad_line(g->begun));
        return false;
    }
    if (g->rec->broken) {
        fe_error(c, IG_INVALID,
                 "a loop, branch or checkpoint that failed was recorded in the gradient scope "
                 "begun at %s:%d: there is no gradient",
                 grad_file(g->begun), grad_line(g->begun));
        return false;
    }
    if (loss->trace != g->rec->id || !grad_is_inside(g, loss->val)) {
        fe_error(c, IG_INVALID,
                 "the loss, made at %s:%d, is not the result of ops recorded in this gradient "
                 "scope, which was begun at %s:%d",
                 grad_file(loss->site), grad_line(loss->site), grad_file(g->begun),
                 grad_line(g->begun));
        return false;
    }
    bool is_float = rt_is_float((ig_dtype)loss->dtype);
    if (is_float && !loss->rank) return true;
    fe_error(c, is_float ? IG_SHAPE : IG_DTYPE,
             "the loss, made at %s:%d, is %s: a gradient is that of a floating scalar",
             grad_file(loss->site), grad_line(loss->site), FE_TYPE(loss));
    return false;
}

static bool grad_fill(grad_cut *k, const ig_tensor *loss) {
    const ig_allocator *a = fe_alloc(k->c);
    k->live = rt_alloc_zero(a, k->nvalue + 1u);
    k->number = rt_alloc_zero(a, (k->nvalue + 1u) * sizeof *k->number);
    k->keep = rt_alloc_zero(a, k->nnode);
    if (!k->live || !k->number || !k->keep) return grad_memory(k, false);
    return grad_fill_live(k) && grad_fill_values(k) && grad_fill_wrt(k, loss);
}

static void grad_cut_free(grad_cut *k) {
    const ig_allocator *a = fe_alloc(k->c);
    rt_free(a, k->live, k->nvalue + 1u);
    rt_free(a, k->number, (k->nvalue + 1u) * sizeof *k->number);
    rt_free(a, k->keep, k->nnode);
    rt_vec_free(a, &k->value);
    rt_vec_free(a, &k->nodes);
    rt_vec_free(a, &k->wrt);
    rt_vec_free(a, &k->key);
}

/* --- The gradient function ------------------------------------------------------------------ */

/* The cut as a function of a module. */
static ig_status grad_emit(const grad_cut *k, ir_module *m) {
    ir_builder b;
    ir_ref in[UINT8_MAX], out[3 * IR_MAX_RESULTS]; /* of a composite's rule: x, y, x' */
    ir_build_begin(&b, m, "tape", IR_FN, IR_BUILD_RAW);
    for (uint32_t i = 1; i <= k->nleaf; i++)
        ir_param(&b, ir_import_type(m, k->r->module, k->r->values.data[k->value.data[i]].type),
                 NULL);
    for (uint32_t i = 0; i < k->nodes.n && !b.error; i++) {
        const rec_node *n = &k->r->nodes.data[k->nodes.data[i]];
        if (n->nin > UINT8_MAX) {
            ir_build_error(&b, rt_fail(m->alloc, IG_UNSUPPORTED, "an op has too many operands"));
            break;
        }
        for (uint32_t j = 0; j < n->nin; j++)
            in[j] = (ir_ref){k->number[k->r->operands.data[n->in0 + j]]};
        rec_emit(k->r, &b, n, in, out); /* numbered as grad_fill_values does */
    }
    in[0] = (ir_ref){k->number[k->loss]};
    return ir_build_end(&b, 1, in, NULL);
}

static ig_status grad_derive(const grad_cut *k, grad_back *back) {
    ir_module *m, *ir = NULL;
    const ig_allocator *a = fe_alloc(k->c);
    RT_TRY(ir_module_new(a, "tape", &m));
    m->class = k->c->s->session->class;
    ig_status s = grad_emit(k, m);
    if (!s) s = pass_pullback(m, k->wrt.n, k->wrt.data, &ir, &back->given);
    if (s)
        s = rt_status_note(s, "in ig_backward at %s:%d", grad_file(k->c->site),
                           grad_line(k->c->site));
    ir_module_free(m);
    if (!s) s = fe_module_new(a, ir, 0, NULL, &back->module);
    if (!s) k->c->s->session->grad_count.derived++;
    return s;
}

/* --- Finding it again ----------------------------------------------------------------------- */

static bool grad_fill_key(grad_cut *k) {
    const ig_allocator *a = fe_alloc(k->c);
    bool ok = rt_vec_push(a, &k->key, k->nleaf) && rt_vec_push(a, &k->key, k->wrt.n);
    for (uint32_t i = 1; ok && i <= k->nleaf; i++) {
        const ir_type *t = &k->r->values.data[k->value.data[i]].type;
        uint32_t id = ir_intern_type(k->r->module, t);
        ok = id != UINT32_MAX && rt_vec_push(a, &k->key, id);
    }
    for (uint32_t i = 0; ok && i < k->wrt.n; i++) ok = rt_vec_push(a, &k->key, k->wrt.data[i]);
    for (uint32_t i = 0; ok && i < k->nodes.n; i++) {
        const rec_node *n = &k->r->nodes.data[k->nodes.data[i]];
        ok = rt_vec_push(a, &k->key, n->op | (uint32_t)n->part << 16) &&
             rt_vec_push(a, &k->key, n->attr.i) && rt_vec_push(a, &k->key, n->nin) &&
             rt_vec_push(a, &k->key, n->nout);
        for (uint32_t j = 0; ok && j < n->nin; j++)
            ok = rt_vec_push(a, &k->key, k->number[k->r->operands.data[n->in0 + j]]);
    }
    return grad_memory(k, ok);
}

/* Its place in the list; NULL when it is new. */
static grad_back *grad_find(const grad_cut *k, uint64_t hash) {
    fe_backs *all = k->c->s->session->backs;
    for (uint32_t i = 0; i < all->list.n; i++) {
        grad_back *b = &all->list.data[i];
        if (b->hash == hash && b->key.n == k->key.n &&
            !memcmp(b->key.data, k->key.data, k->key.n * sizeof *k->key.data))
            return b;
    }
    return NULL;
}

/* Keep a new one, which takes over the cut's key; the oldest makes room. */
static grad_back *grad_add(grad_cut *k, grad_back *made) {
    fe_backs *all = k->c->s->session->backs;
    const ig_allocator *a = fe_alloc(k->c);
    made->key.data = k->key.data;
    made->key.n = k->key.n;
    made->key.cap = k->key.cap;
    memset(&k->key, 0, sizeof k->key);
    if (all->list.n < GRAD_BACKS) {
        if (rt_vec_push(a, &all->list, *made)) return &all->list.data[all->list.n - 1];
        grad_back_free(a, made);
        grad_memory(k, false);
        return NULL;
    }
    grad_back *b = &all->list.data[all->next++ % GRAD_BACKS];
    grad_back_free(a, b);
    *b = *made;
    return b;
}

/* The gradient function of a tape; compiled when it comes a second time. */
static grad_back *grad_of_tape(grad_cut *k) {
    grad_back made = {0}, *b;
    if (!grad_fill_key(k)) return NULL;
    made.hash = rt_hash(k->key.data, k->key.n * sizeof *k->key.data, 0);
    b = grad_find(k, made.hash);
    if (b && !b->found) {
        ig_status s = ig_module_compile(b->module, NULL);
        b->found = true; /* also when it failed: it goes on op by op */
        if (!s) k->c->s->session->grad_count.compiled++;
        ig_status_free(s);
    }
    if (b) return b;
    ig_status s = grad_derive(k, &made);
    if (!s) return grad_add(k, &made);
    rt_vec_free(fe_alloc(k->c), &made.given);
    fe_error_status(k->c, s);
    return NULL;
}

/* --- Running it ----------------------------------------------------------------------------- */

/* A handle with a value of the recording. */
static ig_tensor *grad_value(const grad_cut *k, uint32_t val) {
    const ir_type *type = &k->r->values.data[val].type;
    int64_t dim[IG_MAX_RANK] = {0};
    for (int i = 0; i < type->rank; i++)
        if (!ir_dim_eval(k->r->module, type->dim[i], k->r->binding, &dim[i]))
            return fe_error(k->c, IG_RANGE, "a dim is too large");
    if (!k->g->bufs.data[val])
        return fe_error(k->c, IG_INTERNAL, "a value that the gradient needs was not held");
    fe_buf_retain(k->g->bufs.data[val]);
    ig_tensor *t = fe_over(k->c, (ig_dtype)type->dtype, type->rank, dim, k->g->bufs.data[val]);
    if (!fe_is_poison(t)) t->trace = k->r->id, t->val = val;
    return t;
}

static bool grad_call(grad_cut *k, grad_back *b, ig_tensor **in, ig_tensor **out) {
    ig_grad_count *count = &k->c->s->session->grad_count;
    for (uint32_t i = 0; i < b->given.n; i++)
        if (fe_is_poison(in[i] = grad_value(k, k->value.data[b->given.data[i]]))) return false;
    if (!ig_module_get_info(b->module).level) {
        count->plain++;
        return fe_play(k->c, ir_entry(fe_module_ir(b->module)), NULL, NULL, in, out);
    }
    count->native++;
    ig_status s = fe_module_run(k->c, b->module, in, out);
    if (s) fe_error_status(k->c, s);
    return !s;
}

/* Note the gradient that t has before a traced function changes it. */
static bool grad_touch(fe_call *c, ig_tensor *t) {
    fe_rec *r = c->s->rec;
    if (!r || r->tape) return true;
    for (uint32_t i = 0; i < r->grads.n; i++)
        if (r->grads.data[i].of == t) return true;
    if (!rt_vec_push(fe_alloc(c), &r->grads, ((rec_grad){t, t->grad})))
        return fe_error_memory(c), false;
    fe_retain(t);
    if (t->grad) fe_retain(t->grad);
    return true;
}

static bool grad_add_to(fe_call *c, ig_tensor *t, ig_tensor *g) {
    if (!grad_touch(c, t)) return false;
    if (t->grad) {
        ig_tensor *sum = fe_add(c, t->grad, g);
        fe_rebind(c, t->grad, sum);
        return !fe_is_poison(sum);
    }
    ig_tensor *own = fe_alias(c, g, g->rank, NULL);
    if (fe_is_poison(own)) return false;
    fe_move(own, &c->s->grads);
    t->grad = own;
    return true;
}

/* Run the gradient function and add up.  A tape is set aside meanwhile: it is that of the user's
 * ops.  What a trace records of it is closed to the next ig_backward. */
static void grad_run(grad_cut *k, grad_back *b) {
    fe_stream *s = k->c->s;
    const ig_allocator *a = fe_alloc(k->c);
    fe_rec *rec = s->rec;
    grad_range range = {.lo = rec->nodes.n};
    uint32_t n = b->given.n + k->wrt.n + 1;
    ig_tensor **in = rt_alloc(a, n * sizeof *in), **out = in + b->given.n;
    bool ok = in && rt_vec_reserve(a, &k->g->closed, k->g->closed.n + 1);
    if (rec->tape) s->rec = NULL;
    s->grad = NULL;
    if (grad_memory(k, ok)) ok = grad_call(k, b, in, out);
    for (uint32_t i = 0; ok && i < k->wrt.n; i++)
        ok = grad_add_to(k->c, k->g->watched.data[i].handle, out[i]);
    rt_free(a, in, n * sizeof *in);
    s->rec = rec;
    s->grad = k->g;
    range.hi = rec->nodes.n;
    if (range.hi > range.lo && k->g->closed.n < k->g->closed.cap)
        k->g->closed.data[k->g->closed.n++] = range;
}

/* In a trace: derived for this one call. */
static void grad_run_traced(grad_cut *k) {
    grad_back b = {0};
    ig_status s = grad_derive(k, &b);
    if (s)
        fe_error_status(k->c, s);
    else
        grad_run(k, &b);
    grad_back_free(fe_alloc(k->c), &b);
}

void ig_backward_at(const ig_site *site, ig_tensor *loss) {
    FE_ENTER_OR(site, "backward", );
    if (grad_needs_scope(c) && fe_is_usable(c, loss, 0) && grad_check_loss(c, loss)) {
        grad_cut k = {.c = c, .g = c->s->grad, .r = c->s->grad->rec, .loss = loss->val};
        k.nvalue = k.r->values.n;
        k.nnode = k.r->nodes.n - k.g->first + 1;
        grad_back *b = NULL;
        if (grad_fill(&k, loss)) {
            if (!k.r->tape)
                grad_run_traced(&k);
            else if ((b = grad_of_tape(&k)))
                grad_run(&k, b);
        }
        grad_cut_free(&k);
    }
    fe_exit(c);
}

/* --- Gradients ------------------------------------------------------------------------------ */

ig_tensor *ig_grad_of_at(const ig_site *site, ig_tensor *t) {
    FE_ENTER(site, "grad_of");
    if (!fe_is_usable(c, t, 0)) return fe_leave(c, NULL);
    if (t->grad) return fe_leave(c, fe_alias(c, t->grad, t->rank, NULL));
    return fe_leave(c, fe_error(c, IG_INVALID,
                                "the tensor, made at %s:%d, has no gradient: watch it in a "
                                "gradient scope and call ig_backward",
                                grad_file(t->site), grad_line(t->site)));
}

bool ig_has_grad(const ig_tensor *t) { return t && !fe_is_poison(t) && t->grad; }

void ig_grad_clear(ig_tensor *t) {
    FE_ENTER_OR(t ? t->site : NULL, "grad_clear", );
    if (fe_is_usable(c, t, 0) && t->grad && grad_touch(c, t)) {
        fe_release(t->grad);
        t->grad = NULL;
    }
    fe_exit(c);
}

ig_grad_count ig_grad_counts(const ig_session *s) {
    if (!s) s = ig_session_current();
    return s ? s->grad_count : (ig_grad_count){0};
}
