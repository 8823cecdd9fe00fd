/* fuse.c - which ops become one kernel.
 *
 * A cluster is evaluated by pulling: the element of its result at an index is computed from
 * elements of its operands, recursively.  So movement costs an index map and nothing else, and a
 * chain of elementwise ops costs one pass over memory.  The walk is greedy in reverse order: when
 * an op's turn comes, everything that uses it is decided.  If all its users sit in clusters that
 * can take it, it is absorbed there; else it becomes the root of a cluster of its own and its
 * result lives in memory.
 *
 * Results.  What is read elsewhere, too, may be a further result of a cluster that uses it, or that
 * reads the same memory: one pass instead of two.  All results of a cluster have one shape.  Its
 * call stands at the place of its root, so a value becomes a result only where nothing before that
 * place reads it; then the calls, in the order of their roots, never wait for each other.
 *
 * Spaces.  A use happens at an index, and what matters is how that index comes about: a space is
 * one index map inside a cluster.  The root's own index is the first; elementwise ops pass their
 * space on; movement and cores open new ones.  An op needed in two spaces of a cluster is computed
 * twice, in a space marked `many` (under a broadcast, say) many times; such costs have a small
 * budget.  In a space marked `operand` an element is read again and again by a contraction, so
 * only index maps may stand between it and memory.
 *
 * Cores (reduce, cumred, ein): a core is absorbed only in the root's own space, where what is
 * around it is its epilogue, and one a cluster; but reductions over the same rows (ir/rows.h) share
 * a cluster with everything that is one element a row or one element of a row: softmax and the
 * norms are one kernel.  It makes one pass over a row for each reduction and one for the result; a
 * value used in several of them sits in one space, for the kernel keeps it or can read it again.
 *
 * Recomputing.  Dear ops (transcendentals, rem, random bits) are computed once.  A cheap one with
 * users in several clusters is copied into them when that adds no memory traffic: it reads at most
 * one operand that is in memory anyway.  Movement, iota and uniform constants are copied freely.
 *
 * Regions.  A cluster stands in one region, that of its root: what it uses from outside is in
 * memory.
 *
 * Cost: linear in the uses times the clusters that share an op (bounded).  All decisions depend on
 * the program's structure only, so they are the same on every run and machine.  Bits never change:
 * every op is evaluated as it is, cores keep their orders. */
#include "passes/fuse.h"
#include "runtime/base/log.h"

#include <string.h>

#define FUSE_WEIGHT_MAX 64 /* a larger kernel spills registers and gains nothing */
#define FUSE_AGAIN      8  /* elementwise ops computed again per element: the price of a load */
#define FUSE_SHARES     4  /* clusters that may each hold a copy of one elementwise op */
#define FUSE_PLACES     8  /* spaces of a cluster that are found again */
/* One row alone is not shared by threads: it should be no more than they would take to start. */
#define FUSE_LONE_ROW 16384

/* --- The op table as fusion sees it --------------------------------------------------------- */

/* A new token in the `lower` column does not compile until fusion knows what it is. */
enum {
    FUSE_AS__ = FUSE_CALL,
    FUSE_AS_flow = FUSE_CALL,
    FUSE_AS_kernel = FUSE_NONE,
    FUSE_AS_weight = FUSE_WEIGHT,
    FUSE_AS_const = FUSE_CONST,
    FUSE_AS_reshape = FUSE_ALIAS,
    FUSE_AS_copy = FUSE_COPY,
    FUSE_AS_ew = FUSE_EW,
    FUSE_AS_iota = FUSE_EW,
    FUSE_AS_dim = FUSE_EW,
    FUSE_AS_math = FUSE_MATH,
    FUSE_AS_rem = FUSE_MATH,
    FUSE_AS_rng = FUSE_MATH,
    FUSE_AS_transpose = FUSE_MOVE,
    FUSE_AS_slice = FUSE_MOVE,
    FUSE_AS_reverse = FUSE_MOVE,
    FUSE_AS_pad = FUSE_MOVE,
    FUSE_AS_dslice = FUSE_MOVE,
    FUSE_AS_broadcast = FUSE_SPREAD,
    FUSE_AS_concat = FUSE_JOIN,
    FUSE_AS_dupdate = FUSE_UPDATE,
    FUSE_AS_gather = FUSE_PICK,
    FUSE_AS_scatter = FUSE_PUT,
    FUSE_AS_sort = FUSE_WHOLE,
    FUSE_AS_custom = FUSE_WHOLE,
    FUSE_AS_reduce = FUSE_REDUCE,
    FUSE_AS_cumred = FUSE_SCAN,
    FUSE_AS_ein = FUSE_CONTRACT
};

#define F(...)                                            0
#define R(fold, ref, lower, ...)                          FUSE_AS_##lower
#define OP(name, ver, n, level, attr, type, domain, f, r) [OP_##name] = r,
static const uint8_t fuse_kind_tab[OP_END] = {
#include "ir/ops.def"
};
#undef OP
#undef F
#undef R

fuse_kind fuse_kind_of(ir_opcode op) { return (fuse_kind)fuse_kind_tab[op]; }

static bool fuse_is_core(fuse_kind k) {
    return k == FUSE_REDUCE || k == FUSE_SCAN || k == FUSE_CONTRACT || k == FUSE_PUT;
}

/* Share of FUSE_WEIGHT_MAX: a dear op is some twenty cheap ones, but its registers die with it. */
static uint32_t fuse_weight(fuse_kind k) { return k == FUSE_MATH ? 4 : 1; }

static bool fuse_is_movement(fuse_kind k) {
    return k == FUSE_MOVE || k == FUSE_SPREAD || k == FUSE_JOIN || k == FUSE_ALIAS;
}

bool fuse_is_uniform(const ir_func *f, const ir_op *o) {
    if (o->code != OP_const) return false;
    const ir_attr_const *a = ir_attr_get(f->module, o->attr);
    size_t size = rt_dtype_bytes((ig_dtype)a->type.dtype);
    return a->data.n == size ||
           (a->data.n > size &&
            !memcmp(a->data.bytes, (const char *)a->data.bytes + size, (size_t)a->data.n - size));
}

/* The op that computes a value; NULL for a parameter. */
static const ir_op *fuse_def(const fuse_plan *p, ir_ref v) { return ir_def_op(p->f, v); }

static fuse_kind fuse_def_kind(const fuse_plan *p, ir_ref v) {
    const ir_op *o = fuse_def(p, v);
    return o ? fuse_kind_of((ir_opcode)o->code) : FUSE_WEIGHT;
}

/* Whether a value needs no memory wherever it is used: a uniform constant. */
static bool fuse_is_free(const fuse_plan *p, ir_ref v) {
    const ir_op *o = fuse_def(p, v);
    return o && fuse_is_uniform(p->f, o);
}

static ir_ref fuse_in(const fuse_plan *p, const ir_op *o, uint32_t k) {
    return p->alias[ir_op_in(p->f, o, k).i];
}

/* --- Needs ---------------------------------------------------------------------------------- */

/* The space of a cluster that is like s, a new one when there is none. */
static uint32_t fuse_new_space(fuse_plan *p, fuse_space s) {
    fuse_cluster *c = &p->clusters.data[s.cluster];
    bool place = ir_rowmap_known(&s.at) && !s.operand && c->placed.n < FUSE_PLACES;
    for (uint32_t i = 0; i < c->placed.n && place; i++) {
        const fuse_space *old = &p->spaces.data[c->placed.data[i]];
        if (ir_rowmap_same(&old->at, &s.at) && old->many == s.many) return c->placed.data[i];
    }
    if (!rt_vec_push(p->alloc, &p->spaces, s)) p->failed = true;
    if (place && !p->failed && !rt_vec_push(p->alloc, &c->placed, p->spaces.n - 1))
        p->failed = true;
    return p->spaces.n - 1;
}

static void fuse_add_edge(fuse_plan *p, fuse_cluster *c, ir_ref v) {
    if (!fuse_has_edge(c, v) && !rt_vec_push(p->alloc, &c->edge, v.i)) p->failed = true;
}

static void fuse_drop_edge(fuse_cluster *c, uint32_t v) {
    for (uint32_t i = 0; i < c->edge.n; i++) {
        if (c->edge.data[i] != v) continue;
        c->edge.data[i] = c->edge.data[--c->edge.n];
        return;
    }
}

/* Value v is used in a space. */
static void fuse_add_need(fuse_plan *p, ir_ref v, uint32_t space) {
    fuse_space s = p->spaces.data[space];
    fuse_cluster *c = &p->clusters.data[s.cluster];
    if (fuse_is_free(p, v) && !s.operand && !c->wide) return;
    fuse_add_edge(p, c, v);
    if (p->first[v.i] > c->root) p->first[v.i] = c->root;
    if (ir_home(p->f, v) != p->f->ops.data[c->root].parent) p->must[v.i] = true;
    if (c->wide || (s.operand && fuse_is_free(p, v))) p->must[v.i] = true;
    for (uint32_t i = p->need[v.i]; i; i = p->needs.data[i - 1].next)
        if (p->needs.data[i - 1].space == space) return;
    if (rt_vec_push(p->alloc, &p->needs, ((fuse_need){space, p->need[v.i]})))
        p->need[v.i] = p->needs.n;
    else
        p->failed = true;
}

/* Whether reductions of these rows are worth one kernel. */
static bool fuse_rows_pay(const fuse_plan *p, const ir_rows *r) {
    int64_t lo, hi, n = 1;
    bool lone = true;
    for (int i = 0; i < r->full.n; i++) {
        ir_dim_range(p->f->module, r->full.d[i], &lo, &hi);
        lone &= r->full.d[i] == 1 || (r->row >> i & 1);
        if (__builtin_mul_overflow(n, hi, &n)) n = INT64_MAX;
    }
    return !lone || n <= FUSE_LONE_ROW;
}

/* Whether a reduction evaluated in space s is over the rows of its cluster. */
static bool fuse_is_over_rows(const fuse_plan *p, const ir_op *o, const fuse_space *s) {
    const fuse_cluster *c = &p->clusters.data[s->cluster];
    ir_rows r = c->rows;
    ir_rowmap x;
    if (s->operand || (c->core && !r.row)) return false;
    return ir_rows_reduce(&r, p->f, o, &s->at, &x) && fuse_rows_pay(p, &r);
}

/* Whether it would make the rows of its cluster: its space is as long as the result. */
static bool fuse_opens_rows(const fuse_plan *p, const fuse_space *s) {
    const fuse_cluster *c = &p->clusters.data[s->cluster];
    return !s->many && !s->operand && !c->core && ir_rows_is_full(&c->rows, &s->at);
}

/* The space of a reduction's operand: all elements of the row.  A reduction in the root's space
 * makes the rows of its cluster. */
static fuse_space fuse_row_space(fuse_plan *p, const ir_op *o, fuse_space s) {
    fuse_cluster *c = &p->clusters.data[s.cluster];
    int8_t to[IG_MAX_RANK];
    ir_rowmap x = {.n = -1};
    if (fuse_is_over_rows(p, o, &s)) {
        ir_rows_reduce(&c->rows, p->f, o, &s.at, &x);
    } else if (fuse_opens_rows(p, &s) && ir_rows_open(&c->rows, p->f, o, &s.at, &x, to)) {
        for (uint32_t i = 0; i < c->placed.n; i++)
            ir_rowmap_turn(&p->spaces.data[c->placed.data[i]].at, to);
    }
    for (uint32_t i = 0; i < c->placed.n; i++) { /* what is one element a row is computed so */
        fuse_space *at = &p->spaces.data[c->placed.data[i]];
        at->many &= !ir_rows_is_row(&c->rows, &at->at);
    }
    s.many = false;
    s.at = x;
    return s;
}

/* The space in which operand k of an op is used, when the op is evaluated in `space`. */
static uint32_t fuse_operand_space(fuse_plan *p, const ir_op *o, uint32_t k, uint32_t space) {
    fuse_space s = p->spaces.data[space];
    fuse_kind kind = fuse_kind_of((ir_opcode)o->code);
    if (kind == FUSE_REDUCE) return fuse_new_space(p, fuse_row_space(p, o, s));
    if (ir_is_elementwise((ir_opcode)o->code)) return space;
    const ir_rows *rows = &p->clusters.data[s.cluster].rows;
    s.at = ir_rows_operand(p->f, o, k, &s.at);
    switch (kind) {
    case FUSE_EW: break;
    case FUSE_MATH: s.many = true; break; /* the key of random bits */
    case FUSE_ALIAS: break;
    case FUSE_MOVE: s.many |= k > 0; break; /* the fill value, the window's start */
    case FUSE_SPREAD:                       /* once a row, before a loop along it */
        s.many |= !ir_rows_is_row(rows, &s.at) && !ir_rows_is_prefix(rows, &s.at);
        break;
    case FUSE_PICK: s.many = true; break;
    case FUSE_JOIN: s.many |= o->nin > 1; break;
    case FUSE_UPDATE: s.many |= k > 0; break;
    case FUSE_CONTRACT: s.operand = true; break;
    default: s.many = false; /* the input of a running reduction: each element once */
    }
    return fuse_new_space(p, s);
}

/* Op o is evaluated in a space: its operands are needed. */
static void fuse_place(fuse_plan *p, const ir_op *o, uint32_t space) {
    p->clusters.data[p->spaces.data[space].cluster].weight +=
        fuse_weight(fuse_kind_of((ir_opcode)o->code));
    for (uint32_t k = 0; k < o->nin && !p->failed; k++) {
        uint32_t s = fuse_operand_space(p, o, k, space);
        if (!p->failed) fuse_add_need(p, fuse_in(p, o, k), s);
    }
}

static void fuse_add_member(fuse_plan *p, uint32_t cluster, uint32_t op) {
    fuse_cluster *c = &p->clusters.data[cluster];
    for (uint32_t i = 0; i < c->member.n; i++)
        if (c->member.data[i] == op) return;
    if (!rt_vec_push(p->alloc, &c->member, op)) p->failed = true;
    fuse_drop_edge(c, p->f->ops.data[op].out0);
}

/* Distinct values that an op reads from memory or from undecided ops. */
static uint32_t fuse_count_operands(const fuse_plan *p, const ir_op *o) {
    uint32_t n = 0;
    for (uint32_t k = 0; k < o->nin; k++) {
        ir_ref v = fuse_in(p, o, k);
        bool fresh = !fuse_is_free(p, v);
        for (uint32_t i = 0; i < k && fresh; i++) fresh = fuse_in(p, o, i).i != v.i;
        n += fresh;
    }
    return n;
}

/* Make op number `op` the root of a cluster. */
static void fuse_root(fuse_plan *p, uint32_t op) {
    const ir_op *o = &p->f->ops.data[op];
    fuse_kind kind = fuse_kind_of((ir_opcode)o->code);
    fuse_cluster c = {.root = op, .root_space = p->spaces.n, .result = {op}, .nresult = 1};
    ir_rowmap at = ir_rows_begin(&c.rows, ir_val_type(p->f, ir_op_out(o, 0)));
    c.wide = kind == FUSE_JOIN && fuse_count_operands(p, o) > FUSE_OPERANDS;
    uint32_t n = p->clusters.n;
    if (!rt_vec_push(p->alloc, &p->clusters, c)) p->failed = true;
    if (p->failed) return;
    p->root_of[op] = n + 1;
    uint32_t space = fuse_new_space(p, (fuse_space){.cluster = n, .at = at});
    if (p->failed) return;
    fuse_add_member(p, n, op);
    fuse_place(p, o, space);
    p->clusters.data[n].core = fuse_is_core(kind);
}

/* --- Absorbing ------------------------------------------------------------------------------ */

/* What the users of an op are, counted before it is decided; the clusters are in p->users. */
typedef struct fuse_users {
    bool many, operand, two; /* some space is marked; two spaces in one cluster */
    bool root_only;          /* all in the root space of a cluster */
    bool rows;               /* a reduction, and all its users' rows are (or become) its own */
} fuse_users;

static fuse_users fuse_count_users(fuse_plan *p, const ir_op *o) {
    ir_ref v = ir_op_out(o, 0);
    fuse_users u = {.root_only = true, .rows = o->code == OP_reduce};
    p->users.n = 0;
    for (uint32_t i = p->need[v.i]; i; i = p->needs.data[i - 1].next) {
        uint32_t space = p->needs.data[i - 1].space, k = 0;
        fuse_space s = p->spaces.data[space];
        u.many |= s.many;
        u.operand |= s.operand;
        u.root_only &= p->clusters.data[s.cluster].root_space == space;
        u.rows = u.rows && (fuse_is_over_rows(p, o, &s) || fuse_opens_rows(p, &s));
        while (k < p->users.n && p->users.data[k] != s.cluster) k++;
        if (k < p->users.n)
            u.two = true;
        else if (!rt_vec_push(p->alloc, &p->users, s.cluster))
            p->failed = true;
    }
    return u;
}

/* Whether an op is counted, not read. */
static bool fuse_is_counted(const ir_op *o) { return o->code == OP_iota || o->code == OP_dim; }

/* Whether a copy of an elementwise op in every user's cluster adds no memory traffic: it reads at
 * most one value, and that one is in memory anyway. */
static bool fuse_is_cheap_copy(const fuse_plan *p, const ir_op *o) {
    uint32_t reads = 0;
    for (uint32_t k = 0; k < o->nin; k++) {
        ir_ref v = fuse_in(p, o, k);
        const ir_op *d = fuse_def(p, v);
        fuse_kind kind = fuse_def_kind(p, v);
        if (fuse_is_free(p, v) || (d && fuse_is_counted(d))) continue;
        if (kind == FUSE_SPREAD && !ir_val_type(p->f, fuse_in(p, d, 0))->rank) continue;
        bool in_memory = kind == FUSE_WEIGHT || kind == FUSE_CONST || kind == FUSE_ALIAS ||
                         kind == FUSE_CALL;
        if (!in_memory && p->uses[v.i] < 2 && !p->must[v.i]) return false;
        reads++;
    }
    return reads <= 1;
}

/* Why this op may not be computed where its users are; NULL when it may. */
static const char *fuse_refuse(const fuse_plan *p, const ir_op *o, const fuse_users *u) {
    bool one = p->users.n == 1;
    if (u->operand) { /* only plain index maps of something in memory */
        ir_ref v = o->nin ? fuse_in(p, o, 0) : (ir_ref){0};
        bool map = o->code == OP_transpose || o->code == OP_broadcast;
        return map && ir_val_type(p->f, v)->rank ? NULL : "a contraction reads it from memory";
    }
    switch (fuse_kind_of((ir_opcode)o->code)) {
    case FUSE_MOVE:
    case FUSE_SPREAD:
    case FUSE_PICK:
    case FUSE_ALIAS:
    case FUSE_JOIN: return NULL;
    case FUSE_EW:
        if (one || fuse_is_counted(o)) return NULL;
        return p->users.n <= FUSE_SHARES && fuse_is_cheap_copy(p, o) ? NULL
                                                                     : "several kernels use it";
    case FUSE_MATH:
    case FUSE_UPDATE:
        if (!one) return "several kernels use it";
        return u->many || u->two ? "it would be computed more than once" : NULL;
    case FUSE_REDUCE:
    case FUSE_CONTRACT:
        if (!one) return "several kernels use it";
        if (o->code == OP_ein && p->clusters.data[p->users.data[0]].nresult > 1)
            return "its user has several results";
        if (u->rows) return NULL;
        if (!u->root_only) return "its user needs it at another index than that of the result";
        return p->clusters.data[p->users.data[0]].core ? "its user reduces something already"
                                                       : NULL;
    default: return "its result comes out in one piece";
    }
}

/* Why a cluster has no room for an op evaluated `times` times in it, `again` of these more than
 * once. */
static const char *fuse_lack(const fuse_plan *p, const fuse_cluster *c, const ir_op *o,
                             uint32_t times, uint32_t again) {
    uint32_t weight = fuse_weight(fuse_kind_of((ir_opcode)o->code));
    if (c->wide) return "a concat of many values reads them from memory";
    if (c->weight + times * weight > FUSE_WEIGHT_MAX) return "the kernel is large enough";
    if (c->again + again > FUSE_AGAIN) return "too much would be computed again";
    uint32_t edges = c->edge.n - fuse_has_edge(c, ir_op_out(o, 0));
    for (uint32_t k = 0; k < o->nin; k++) {
        ir_ref v = fuse_in(p, o, k);
        bool fresh = !fuse_is_free(p, v) && !fuse_has_edge(c, v);
        for (uint32_t i = 0; i < k && fresh; i++) fresh = fuse_in(p, o, i).i != v.i;
        edges += fresh;
    }
    return edges + c->nresult <= FUSE_OPERANDS + 1 ? NULL
                                                   : "the kernel has as many operands as it may";
}

/* How often a cluster evaluates an op, and how much of that is computing again. */
static void fuse_count_times(const fuse_plan *p, const ir_op *o, uint32_t cluster, uint32_t *times_,
                             uint32_t *again_) {
    bool dear = !fuse_is_movement(fuse_kind_of((ir_opcode)o->code));
    *times_ = *again_ = 0;
    for (uint32_t i = p->need[o->out0]; i; i = p->needs.data[i - 1].next) {
        fuse_space s = p->spaces.data[p->needs.data[i - 1].space];
        if (s.cluster != cluster) continue;
        *again_ += dear && (s.many || *times_);
        ++*times_;
    }
}

/* Put op number `op` into the clusters of its users: NULL, or why it has to stand alone. */
static const char *fuse_absorb(fuse_plan *p, uint32_t op) {
    const ir_op *o = &p->f->ops.data[op];
    fuse_users u = fuse_count_users(p, o);
    uint32_t times, again;
    const char *why = p->failed ? "memory is out" : fuse_refuse(p, o, &u);
    for (uint32_t k = 0; k < p->users.n && !why; k++) {
        fuse_count_times(p, o, p->users.data[k], &times, &again);
        why = fuse_lack(p, &p->clusters.data[p->users.data[k]], o, times, again);
    }
    if (why) return why;
    for (uint32_t k = 0; k < p->users.n; k++) {
        fuse_cluster *c = &p->clusters.data[p->users.data[k]];
        fuse_count_times(p, o, p->users.data[k], &times, &again);
        fuse_add_member(p, p->users.data[k], op);
        c->again += again;
    }
    for (uint32_t i = p->need[o->out0]; i && !p->failed; i = p->needs.data[i - 1].next)
        fuse_place(p, o, p->needs.data[i - 1].space);
    for (uint32_t k = 0; k < p->users.n; k++)
        p->clusters.data[p->users.data[k]].core |= fuse_is_core(fuse_kind_of((ir_opcode)o->code));
    return NULL;
}

/* --- Further results ------------------------------------------------------------------------ */

#define FUSE_LOOK 8 /* ops or uses that are looked at */

/* v and the values behind it that nothing else needs, as far as elementwise ops go; how many. */
static uint32_t fuse_behind(const fuse_plan *p, ir_ref v, ir_ref list_[FUSE_LOOK]) {
    uint32_t n = 0;
    list_[n++] = v;
    for (uint32_t i = 0; i < n; i++) {
        const ir_op *o = fuse_def(p, list_[i]);
        if (!o || (i && (p->uses[list_[i].i] > 1 || p->must[list_[i].i]))) continue;
        bool plain = ir_is_elementwise((ir_opcode)o->code) || ir_rows_is_unit_reshape(p->f, o);
        for (uint32_t k = 0; plain && k < o->nin && n < FUSE_LOOK; k++) {
            const ir_op *d = fuse_def(p, ir_op_in(p->f, o, k));
            list_[n] = fuse_in(p, o, k);
            n += !fuse_is_free(p, list_[n]) && !(d && ir_op_tab[d->code].effect);
        }
    }
    return n;
}

/* Whether v is, or would be, an epilogue of a contraction, which only v needs. */
static bool fuse_is_epilogue(const fuse_plan *p, ir_ref v) {
    ir_ref list[FUSE_LOOK];
    for (uint32_t n = fuse_behind(p, v, list), i = 0; i < n; i++) {
        const ir_op *o = fuse_def(p, list[i]);
        if (o && o->code == OP_ein && p->uses[list[i].i] == 1 && !p->must[list[i].i]) return true;
    }
    return false;
}

/* Whether a cluster uses v nowhere but at its root's own index. */
static bool fuse_is_at_root(const fuse_plan *p, ir_ref v, const fuse_cluster *c) {
    for (uint32_t i = p->need[v.i]; i; i = p->needs.data[i - 1].next) {
        uint32_t space = p->needs.data[i - 1].space;
        if (&p->clusters.data[p->spaces.data[space].cluster] == c && space != c->root_space)
            return false;
    }
    return true;
}

/* Whether op o may give a further result of cluster c. */
static bool fuse_may_join(const fuse_plan *p, const ir_op *o, const fuse_cluster *c) {
    const ir_op *root = &p->f->ops.data[c->root];
    ir_ref v = ir_op_out(o, 0);
    if (c->nresult == FUSE_RESULTS || root->parent != o->parent || p->first[v.i] < c->root)
        return false;
    if (c->core && !c->rows.row) return false;
    if (root->code == OP_broadcast) return false; /* a last result that is room looks like that */
    if (!ir_same_dims(ir_val_type(p->f, ir_op_out(root, 0)), ir_val_type(p->f, v))) return false;
    if (!fuse_is_at_root(p, v, c)) return false;
    for (uint32_t i = 0; i < c->edge.n && c->nresult == 1; i++)
        if (c->edge.data[i] != v.i && fuse_is_epilogue(p, (ir_ref){c->edge.data[i]})) return false;
    return !fuse_lack(p, c, o, 1, 0);
}

/* The cluster that uses v at its root's own index, or UINT32_MAX, of those that op o may join. */
static uint32_t fuse_find_user(const fuse_plan *p, const ir_op *o, ir_ref v) {
    const ir_op *d = fuse_def(p, v), *of = d && d->nin ? fuse_def(p, fuse_in(p, d, 0)) : NULL;
    uint32_t look = FUSE_LOOK;
    bool row = of && of->code == OP_reduce;
    bool free = d && (fuse_is_counted(d) || (d->code == OP_broadcast && !row));
    if (free) return UINT32_MAX; /* no memory is read for it */
    for (uint32_t i = p->need[v.i]; i && look; i = p->needs.data[i - 1].next, look--) {
        uint32_t space = p->needs.data[i - 1].space, id = p->spaces.data[space].cluster;
        const fuse_cluster *c = &p->clusters.data[id];
        if (c->root_space == space && fuse_may_join(p, o, c)) return id;
    }
    return UINT32_MAX;
}

/* The same for a single element: any of the newest clusters, as a launch costs more than it does.
 */
static uint32_t fuse_find_single(const fuse_plan *p, const ir_op *o, ir_ref v) {
    const ir_type *t = ir_val_type(p->f, v);
    if (ir_type_numel(p->f->module, t) != 1) return UINT32_MAX;
    for (uint32_t n = p->clusters.n, i = n; i > 0 && i + FUSE_LOOK > n; i--)
        if (fuse_may_join(p, o, &p->clusters.data[i - 1])) return i - 1;
    return UINT32_MAX;
}

/* Make an op that has to be in memory a further result of a cluster that uses it, or what it is
 * computed from. */
static bool fuse_join(fuse_plan *p, uint32_t op) {
    const ir_op *o = &p->f->ops.data[op];
    ir_ref v = ir_op_out(o, 0), list[FUSE_LOOK];
    uint32_t id = UINT32_MAX, n = fuse_behind(p, v, list);
    if (!ir_is_elementwise((ir_opcode)o->code) || fuse_is_epilogue(p, v)) return false;
    for (uint32_t k = 0; k < n && id == UINT32_MAX; k++) id = fuse_find_user(p, o, list[k]);
    if (id == UINT32_MAX) id = fuse_find_single(p, o, v);
    if (id == UINT32_MAX) return false;
    fuse_cluster *c = &p->clusters.data[id];
    c->result[c->nresult++] = op;
    fuse_add_member(p, id, op);
    fuse_place(p, o, c->root_space);
    return true;
}

/* --- Long reductions ------------------------------------------------------------------------ */

/* Few results of many elements: threads could share nothing but the elements.  So many f32 take
 * 6 us, and a launch below 2 us runs in one part (docs/native.md). */
#define FUSE_SPLIT_RESULTS 7
#define FUSE_SPLIT_COUNT   65536

const ir_op *fuse_split(const fuse_plan *p, const fuse_cluster *c) {
    const ir_module *m = p->f->module;
    const ir_op *o = NULL, *root = &p->f->ops.data[c->root];
    uint32_t cores = 0;
    int64_t lo, hi, n = 1, count = 1;
    for (uint32_t i = 0; i < c->member.n; i++) {
        const ir_op *x = &p->f->ops.data[c->member.data[i]];
        cores += fuse_is_core(fuse_kind_of((ir_opcode)x->code));
        if (x->code == OP_reduce) o = x;
    }
    if (!o || cores != 1 || c->nresult >= FUSE_RESULTS) return NULL;
    const ir_type *t = ir_val_type(p->f, ir_op_out(root, 0));
    const ir_type *x = ir_val_type(p->f, fuse_in(p, o, 0));
    const ir_attr_reduce *a = ir_attr_get(m, o->attr);
    if (!ir_same_dims(t, ir_val_type(p->f, ir_op_out(o, 0))) || t->rank == IG_MAX_RANK) return NULL;
    if (!a->axes.n || a->axes.a[a->axes.n - 1] != x->rank - 1) return NULL;
    for (int i = 0; i < t->rank; i++) {
        if (!ir_dim_is_const(t->dim[i]) || t->dim[i] > FUSE_SPLIT_RESULTS) return NULL;
        n *= t->dim[i];
    }
    for (int i = 0; i < a->axes.n; i++) {
        ir_dim_range(m, x->dim[a->axes.a[i]], &lo, &hi);
        if (__builtin_mul_overflow(count, hi, &count)) count = INT64_MAX;
    }
    return n && n <= FUSE_SPLIT_RESULTS && count >= FUSE_SPLIT_COUNT ? o : NULL;
}

/* Say under IG_LOG=fusion why an op begins a kernel. */
static void fuse_log(const fuse_plan *p, const ir_op *o, const char *why) {
    ir_loc_rec at = ir_loc_get(p->f->module, o->loc);
    rt_log("fusion", "%s:%u: %s in @%s begins a kernel: %s", at.file ? at.file : "?", at.line,
           ir_op_tab[o->code].name, p->f->name, why);
}

/* --- The walk ------------------------------------------------------------------------------- */

/* Op number `at` reads v from memory. */
static void fuse_must(fuse_plan *p, ir_ref v, uint32_t at) {
    uint32_t base = p->alias[v.i].i;
    p->must[base] = true;
    if (p->first[base] > at) p->first[base] = at;
}

/* A reshape is another name of its operand's memory.  Where a computed value only gains or loses
 * axes of extent 1, it is an index map, and its operand need not be in memory. */
static bool fuse_reshape(fuse_plan *p, uint32_t op) {
    const ir_op *o = &p->f->ops.data[op];
    fuse_kind of = fuse_def_kind(p, fuse_in(p, o, 0));
    bool memory = of == FUSE_WEIGHT || of == FUSE_CONST || of == FUSE_CALL;
    if (p->must[o->out0] || memory || !ir_rows_is_unit_reshape(p->f, o)) return false;
    if (fuse_absorb(p, op)) return false;
    p->need[o->out0] = 0; /* nobody asks the entry for it */
    return true;
}

bool fuse_is_used(const fuse_plan *p, const ir_op *o) {
    bool used = false;
    for (uint32_t k = 0; k < o->nout; k++) used |= p->must[o->out0 + k] || p->need[o->out0 + k];
    return used;
}

/* What a loop that is one kernel, or an op inside of it, reads from outside is in memory. */
static void fuse_whole_loop(fuse_plan *p, const ir_op *o) {
    for (uint32_t k = 0; k < o->nin; k++) {
        ir_ref v = fuse_in(p, o, k);
        bool inside = !o->nregion && ir_home(p->f, v) == o->parent;
        if (!inside && !fuse_is_free(p, v)) fuse_must(p, v, (uint32_t)(o - p->f->ops.data));
    }
}

/* Decide about one op; all its users are decided. */
static void fuse_decide(fuse_plan *p, uint32_t op) {
    const ir_op *o = &p->f->ops.data[op];
    ir_ref v = ir_op_out(o, 0);
    bool used = fuse_is_used(p, o) || (!o->nout && ir_op_tab[o->code].effect);
    if (p->whole[op]) {
        fuse_whole_loop(p, o);
        return;
    }
    switch (fuse_kind_of((ir_opcode)o->code)) {
    case FUSE_NONE:
    case FUSE_WEIGHT:
    case FUSE_CONST: break;
    case FUSE_COPY:
        if (ir_op_tab[o->code].effect) fuse_must(p, v, op);
        break;
    case FUSE_CALL: /* calls, ops with regions, yields and the return */
        for (uint32_t k = 0; k < o->nin; k++) fuse_must(p, ir_op_in(p->f, o, k), op);
        break;
    case FUSE_WHOLE:
        for (uint32_t k = 0; used && k < o->nin; k++) fuse_must(p, ir_op_in(p->f, o, k), op);
        break;
    case FUSE_ALIAS:
        if (used && !fuse_reshape(p, op)) fuse_must(p, ir_op_in(p->f, o, 0), op);
        break;
    default:
        if (used) {
            const char *why = p->must[v.i] ? "it is needed in memory" : fuse_absorb(p, op);
            if (!why || fuse_join(p, op)) break;
            if (p->log) fuse_log(p, o, why);
            fuse_root(p, op);
        }
    }
}

static bool fuse_begin(fuse_plan *p, const ir_func *f) {
    const ig_allocator *a = f->module->alloc;
    size_t n = f->values.n;
    *p = (fuse_plan){.f = f, .alloc = a, .log = rt_log_on("fusion")};
    p->alias = rt_alloc(a, n * sizeof *p->alias);
    p->must = rt_alloc_zero(a, n * sizeof *p->must);
    p->first = rt_alloc(a, n * sizeof *p->first);
    p->need = rt_alloc_zero(a, n * sizeof *p->need);
    p->uses = ir_count_uses(f, a);
    p->root_of = rt_alloc_zero(a, f->ops.n * sizeof *p->root_of);
    p->whole = rt_alloc_zero(a, f->ops.n);
    if (!p->alias || !p->must || !p->first || !p->need) return false;
    if (!p->uses || !p->root_of || !p->whole) return false;
    for (uint32_t i = 0; i < n; i++) p->alias[i] = (ir_ref){i}, p->first[i] = UINT32_MAX;
    for (uint32_t o = 0; o < f->ops.n; o++) {
        const ir_op *op = &f->ops.data[o];
        if (fuse_kind_of((ir_opcode)op->code) == FUSE_COPY) p->alias[op->out0] = fuse_in(p, op, 0);
        if (op->code == OP_scan && fuse_is_loop_kernel(f, op))
            memset(p->whole + o, true, ir_op_after(f, o) - o);
    }
    return true;
}

static void fuse_end(fuse_plan *p) {
    const ig_allocator *a = p->alloc;
    size_t n = p->f->values.n;
    for (uint32_t i = 0; i < p->clusters.n; i++) {
        rt_vec_free(a, &p->clusters.data[i].member);
        rt_vec_free(a, &p->clusters.data[i].edge);
        rt_vec_free(a, &p->clusters.data[i].placed);
    }
    rt_vec_free(a, &p->clusters);
    rt_vec_free(a, &p->spaces);
    rt_vec_free(a, &p->needs);
    rt_vec_free(a, &p->users);
    rt_free(a, p->alias, n * sizeof *p->alias);
    rt_free(a, p->must, n * sizeof *p->must);
    rt_free(a, p->first, n * sizeof *p->first);
    rt_free(a, p->need, n * sizeof *p->need);
    rt_free(a, p->uses, n * sizeof *p->uses);
    rt_free(a, p->root_of, p->f->ops.n * sizeof *p->root_of);
    rt_free(a, p->whole, p->f->ops.n);
}

/* Fuse one tensor function into out. */
static ig_status fuse_func(const ir_func *f, ir_module *out, fuse_made *made) {
    fuse_plan p;
    p.failed = !fuse_begin(&p, f);
    for (uint32_t o = f->ops.n; o-- > 0 && !p.failed;) fuse_decide(&p, o);
    ig_status s = p.failed ? rt_fail_memory() : fuse_outline(&p, out, made);
    fuse_end(&p);
    return s;
}

ig_status pass_run_fuse(const ir_module *in, ir_module *out) {
    fuse_made made = {0};
    ig_status s = NULL;
    for (uint32_t i = 0; i < in->funcs.n && !s; i++)
        if (in->funcs.data[i]->kind != IR_FN) s = pass_copy_func(out, in->funcs.data[i]);
    for (uint32_t i = 0; i < in->funcs.n && !s; i++)
        if (in->funcs.data[i]->kind == IR_FN) s = fuse_func(in->funcs.data[i], out, &made);
    ir_index_free(out->alloc, &made.twins);
    return s;
}
