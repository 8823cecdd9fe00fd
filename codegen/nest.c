/* nest.c - the loop nest of a cluster without a loop of its own: every element of the results, one
 * after the other.
 *
 * Axes that every operand lays out alike run as one loop (cg_joint_axes), so that an elementwise
 * kernel on [B,12,64] is one long loop and not 64 elements at a time.  The joint trailing axes are
 * the vector loop; the axes before them, flattened, are the outermost loop, which threads share.
 *
 * A scalar tail would be more than half of a kernel's code.  Where the extent is known there is
 * none: the last vector begins as late as it can, and computes some elements a second time.  That
 * is the same bits, unless a result lies in the memory of an operand.  Threads share these vectors,
 * where there are no axes before them; else the elements.
 *
 * An operand that lies the other way round (a transpose) is read by gathers, one line of it a lane.
 * So that the lines are used up while they are in the cache, the axis along which it lies
 * contiguous is walked in tiles inside the vector loop.
 *
 * Where the result is a dupdate and lies in the memory of what it updates, the nest is that of the
 * update, which is stored at its window. */
#include "codegen/lower.h"
#include "runtime/base/plant.h"

#include <string.h>

/* --- Joint axes ----------------------------------------------------------------------------- */

/* For each value: which of its axes carries result axis i (JOINT_NONE: not read along it;
 * JOINT_CUT: read, but not from end to end). */
enum { JOINT_NONE = -1, JOINT_CUT = -2 };
typedef struct joint_map {
    bool set;
    bool many; /* read in different ways */
    int8_t axis[IG_MAX_RANK];
} joint_map;

typedef struct joint_work {
    const cg_low *l;
    const ir_type *root;
    joint_map *map;
    unsigned apart; /* bit i: result axes i and i + 1 must not run as one */
    int other; /* an axis along which an operand lies contiguous that does not along the last one,
                  or -1 */
} joint_work;

/* Enter how operand v is read. */
static void joint_read(joint_work *w, ir_ref v, const joint_map *m) {
    joint_map *old = &w->map[v.i];
    for (int i = 0; i < w->root->rank; i++) {
        bool differ = old->set && old->axis[i] != m->axis[i];
        old->many |= differ;
        if (!differ && m->axis[i] != JOINT_CUT) continue;
        w->apart |= 1u << i;
        if (i) w->apart |= 1u << (i - 1);
    }
    if (!old->set) *old = *m;
    old->set = true;
}

/* Memory of its own: neighbours must be neighbours in it, or both absent. */
static void joint_leaf(joint_work *w, ir_ref v) {
    const int8_t *axis = w->map[v.i].axis;
    const ir_type *t = cg_type(w->l, v);
    int last = w->root->rank - 1;
    if (cg_strides(w->l, v)) { /* neighbours may lie anywhere */
        w->apart = ~0u;
        return;
    }
    for (int i = 0; i < last; i++)
        if (axis[last] >= 0 && axis[i] == t->rank - 1 && t->dim[t->rank - 1] != 1) w->other = i;
    for (int i = 0; i + 1 < w->root->rank; i++) {
        bool absent = axis[i] < 0 && axis[i + 1] < 0;
        bool follow = axis[i] >= 0 && axis[i + 1] == axis[i] + 1 &&
                      t->dim[axis[i + 1]] == w->root->dim[i + 1];
        if (!absent && !follow) w->apart |= 1u << i;
    }
}

/* The map of an operand whose axis j is axis from[j] of the result (negative: as a joint_map says).
 */
static joint_map joint_through(const joint_work *w, const joint_map *m, int rank, const int *from) {
    joint_map r = {.set = true};
    for (int i = 0; i < w->root->rank; i++) {
        r.axis[i] = m->axis[i] == JOINT_CUT ? JOINT_CUT : JOINT_NONE;
        for (int j = 0; j < rank; j++)
            if (m->axis[i] >= 0 && from[j] == m->axis[i]) r.axis[i] = (int8_t)j;
    }
    return r;
}

/* Mark axis `axis` of the result as not read from end to end. */
static void joint_cut(const joint_work *w, joint_map *m, int axis) {
    for (int i = 0; i < w->root->rank; i++)
        if (m->axis[i] == axis) m->axis[i] = JOINT_CUT;
}

/* How a movement op reads its first operand; false when it is not one. */
static bool joint_move(const joint_work *w, const ir_op *o, const ir_type *t, const ir_type *x,
                       joint_map *m) {
    const void *attr = ir_attr_get(w->l->f->module, o->attr);
    int from[IG_MAX_RANK];
    switch (o->code) {
    case OP_transpose:
        for (int i = 0; i < t->rank; i++) from[((const ir_attr_perm *)attr)->perm.a[i]] = i;
        break;
    case OP_broadcast:
        for (int i = 0; i < x->rank; i++) {
            int to = ((const ir_attr_bcast *)attr)->axes.a[i];
            from[i] = x->dim[i] == t->dim[to] ? to : JOINT_NONE;
        }
        break;
    case OP_slice:
    case OP_pad:
    case OP_dslice:
        for (int i = 0; i < t->rank; i++) {
            from[i] = i;
            if (t->dim[i] != x->dim[i] || o->code == OP_dslice) joint_cut(w, m, i);
        }
        break;
    case OP_reverse:
        for (int i = 0; i < t->rank; i++) from[i] = i;
        for (int i = 0; i < ((const ir_attr_axes *)attr)->axes.n; i++)
            joint_cut(w, m, ((const ir_attr_axes *)attr)->axes.a[i]);
        break;
    case OP_concat:
        for (int i = 0; i < t->rank; i++) from[i] = i;
        joint_cut(w, m, (int)((const ir_attr_axis *)attr)->axis);
        break;
    case OP_reshape:
        if (!ir_rows_is_unit_reshape(w->l->f, o)) return false;
        for (int i = 0, j = 0; i < x->rank; i++) {
            from[i] = JOINT_NONE;
            if (x->dim[i] == 1) continue;
            while (t->dim[j] == 1) j++;
            from[i] = j++;
        }
        break;
    default: return false;
    }
    *m = joint_through(w, m, x->rank, from);
    return true;
}

/* Hand the map of a value on to its operands. */
static void joint_op(joint_work *w, ir_ref v) {
    const ir_func *f = w->l->f;
    const ir_op *o = ir_def_op(f, v);
    const ir_type *t = cg_type(w->l, v);
    joint_map m = w->map[v.i], none = {.set = true};
    memset(none.axis, JOINT_NONE, sizeof none.axis);
    if (!o || o->code == OP_rng_bits || o->code == OP_const || o->code == OP_dim) {
        if (!o || o->nin || w->l->mem[v.i].i) joint_leaf(w, v);
    } else if (ir_is_elementwise((ir_opcode)o->code) || o->code == OP_detach ||
               o->code == OP_barrier) {
        for (uint32_t i = 0; i < o->nin; i++) joint_read(w, ir_op_in(f, o, i), &m);
        return;
    } else if (o->code == OP_iota) {
        joint_cut(w, &m, (int)((const ir_attr_iota *)ir_attr_get(f->module, o->attr))->axis);
        joint_read(w, v, &m);
    } else if (o->code == OP_reduce && w->l->rows) { /* its loop runs like that of the result */
        for (int i = 0; i < w->root->rank; i++) m.axis[i] = (int8_t)i;
        joint_read(w, ir_op_in(f, o, 0), &m);
        return;
    } else if (o->nin && joint_move(w, o, t, cg_type(w->l, ir_op_in(f, o, 0)), &m)) {
        uint32_t like = o->code == OP_concat ? o->nin : 1;
        for (uint32_t i = 0; i < like; i++) joint_read(w, ir_op_in(f, o, i), &m);
        for (uint32_t i = like; i < o->nin; i++) joint_read(w, ir_op_in(f, o, i), &none);
        return;
    } else { /* anything else (dupdate, reshape, a core): no two axes of it run as one */
        for (int i = 0; i < t->rank; i++) joint_cut(w, &m, i);
        joint_read(w, v, &m);
    }
    for (uint32_t i = 0; o && i < o->nin; i++) joint_read(w, ir_op_in(f, o, i), &none);
}

/* Axes of an update that must not run as one: they are no neighbours in what it updates, or the
 * first of them begins later there. */
static unsigned nest_window_apart(const cg_low *l) {
    const ir_type *x = cg_type(l, ir_op_in(l->f, l->update, 0));
    const ir_type *u = cg_type(l, ir_op_in(l->f, l->update, 1));
    unsigned apart = 0;
    for (int i = 0; i + 1 < u->rank; i++)
        if (u->dim[i + 1] != x->dim[i + 1] || (u->dim[i] != x->dim[i] && u->dim[i] != 1))
            apart |= 1u << i;
    return apart;
}

/* What is computed for result i: of an update in place, what it puts there. */
static ir_ref nest_result(const cg_low *l, uint32_t i) {
    return l->update ? ir_op_in(l->f, l->update, 1) : ir_op_in(l->f, ir_return_op(l->f), i);
}

/* How many trailing axes of n results of one shape may run as one.  map: an entry a value, zeroed;
 * *other_ is set to an axis along which an operand lies contiguous that does not along the last
 * one. */
static int joint_axes(cg_low *l, uint32_t first, uint32_t n, joint_map *map, int *other_) {
    const ir_type *t = cg_type(l, nest_result(l, first));
    joint_work w = {.l = l, .root = t, .map = map, .other = -1};
    joint_map m = {.set = true};
    int joint = t->rank ? 1 : 0;
    for (int i = 0; i < t->rank; i++) m.axis[i] = (int8_t)i;
    for (uint32_t i = 0; i < n; i++) joint_read(&w, nest_result(l, first + i), &m);
    for (uint32_t i = l->f->values.n - 1; i > 0; i--)
        if (w.map[i].set) joint_op(&w, (ir_ref){i});
    if (w.other >= 0) *other_ = w.other;
    if (l->update) w.apart |= nest_window_apart(l);
    while (joint && joint < t->rank && !(w.apart >> (t->rank - 1 - joint) & 1)) joint++;
    return joint;
}

/* --- The nest ------------------------------------------------------------------------------- */

typedef struct nest_plan {
    uint32_t first, n; /* the results that share it */
    joint_map *map; /* by value of the cluster: how they read it; borrowed */
    const ir_type *type;
    int outer;     /* axes of the outermost loop; the others are the vector loop */
    int64_t lanes; /* of vectors that do without a tail; 0: there is one */
    int tile;      /* the outer axis that is walked in tiles inside the vector loop, -1: none */
    ir_dim steps[IG_MAX_RANK]; /* extents of the outer axes, tiles counted */
    ir_ref from, to;           /* the tile */
    int64_t streams;           /* lanes of the loop whose vectors may be stored past the caches, */
    ir_ref stream;             /* and whether they are; {0}: never */
    cg_ix ix[IG_MAX_RANK];
    ir_ref start[IG_MAX_RANK]; /* of an update in place: where its window begins */
} nest_plan;

#define NEST_LONG 4  /* steps: of fewer, the last one would do too much again */
#define NEST_TILE 16 /* elements of 4 bytes in a cache line */

/* Results that a last-level cache does not hold.  16384 x 1024 f32, two threads, beside stores
 * through the caches: softmax 2.7 ms and 3.2, layer norm 2.4 and 2.8, a copy 2.9. */
#define NEST_STREAM_BYTES (INT64_C(32) << 20)

/* Compute where the window of an update begins: inside of what it updates. */
static void nest_starts(cg_low *l, nest_plan *p) {
    cg_kernel *k = &l->k;
    if (!l->update) return;
    const ir_type *x = cg_type(l, ir_op_in(l->f, l->update, 0));
    for (int i = 0; i < x->rank; i++) {
        if (x->dim[i] == p->type->dim[i]) continue;
        ir_ref last = cg_bin(k, OP_sub, cg_dim(k, x->dim[i]), cg_dim(k, p->type->dim[i]));
        ir_ref at = cg_pull(l, ir_op_in(l->f, l->update, 2 + (uint32_t)i), NULL);
        p->start[i] = cg_bin(k, OP_max, cg_bin(k, OP_min, at, last), cg_i64(k, 0));
    }
}

/* Where the element (or vector) at p->ix lies in the result. */
static ir_ref nest_place(cg_low *l, const nest_plan *p) {
    cg_ix ix[IG_MAX_RANK] = {{0}};
    const ir_type *t = l->update ? cg_type(l, ir_op_in(l->f, l->update, 0)) : p->type;
    for (int i = 0; i < t->rank; i++) {
        ix[i] = p->type->dim[i] == 1 ? cg_ix_const(l, 0) : p->ix[i];
        if (p->start[i].i) ix[i] = cg_ix_add(l, ix[i], cg_ix_uniform(p->start[i]));
    }
    return (ir_ref){cg_ix_flat(l, t->rank, t->dim, ix).r};
}

/* Store an element (or vector) of result i. */
static void nest_store(cg_low *l, const nest_plan *p, uint32_t i, ir_ref at, ir_ref r) {
    cg_kernel *k = &l->k;
    const ir_attr_dupd *a = l->update ? ir_attr_get(l->f->module, l->update->attr) : NULL;
    ir_ref in[2] = {{0}, r};
    if (a && a->op == IR_setop_add) {
        in[0] = cg_load(k, l->out[p->first + i], at, k->lanes);
        in[1] = cg_ew(k, OP_add, NULL, (ig_dtype)p->type->dtype, 2, in);
    }
    cg_store(k, l->out[p->first + i], at, in[1]);
}

/* Pull the element (or vector) at subscript t of the inner axes, of all results; then store, as a
 * result may lie in the memory of an operand that is read at this very element. */
static void nest_body(cg_low *l, nest_plan *p, cg_ix t) {
    const ir_type *type = p->type;
    ir_ref r[IG_MAX_RANK];
    cg_ix_split(l, t, type->rank - p->outer, type->dim + p->outer, p->ix + p->outer);
    for (uint32_t i = 0; i < p->n; i++) r[i] = cg_pull(l, nest_result(l, p->first + i), p->ix);
    ir_ref at = nest_place(l, p);
    cg_nest branch = {0};
    for (uint32_t i = 0; i < p->n; i++) r[i] = cg_splat(&l->k, r[i], l->k.lanes);
    bool may = p->stream.i && p->streams == l->k.lanes;
    if (may) {
        branch = cg_open_if(l, p->stream);
        for (uint32_t i = 0; i < p->n; i++)
            cg_stream(&l->k, l->out[p->first + i], at, r[i]);
        cg_open_else(l, branch, 0, NULL);
    }
    for (uint32_t i = 0; i < p->n; i++) nest_store(l, p, i, at, r[i]);
    if (may) cg_close_if(l, branch, 0, NULL);
}

/* The same for every row of a tile: lines of an operand that lies the other way round are used up
 * before the next ones are touched. */
static void nest_cell(cg_low *l, nest_plan *p, cg_ix t) {
    if (p->tile < 0) {
        nest_body(l, p, t);
        return;
    }
    cg_nest row = cg_open_for(l, p->from, p->to, 1, 0, NULL, NULL);
    int64_t lanes = l->k.lanes;
    p->ix[p->tile] = cg_ix_uniform(row.loop.index);
    nest_body(l, p, t);
    l->k.lanes = lanes;
    cg_close_for(l, row, 0, NULL);
}

/* Lanes of a step: lines of a tile are as long as a cache line. */
static int64_t nest_step(const cg_low *l, const nest_plan *p) {
    if (p->tile >= 0) return CG_LANES;
    return l->strip && !l->rows ? l->strip : l->step;
}

/* The next narrower step. */
static int64_t nest_narrower(int64_t lanes) { return lanes > CG_LANES ? CG_LANES : lanes / 2; }

/* The lanes of vectors that cover an extent without a tail, 0: none do. */
static int64_t nest_lanes(const cg_low *l, const nest_plan *p, ir_dim extent) {
    int64_t wide = nest_step(l, p), lanes = CG_LANES;
    if (l->scalar && !l->rows) return 0;
    if (!p->outer && !l->rows && !l->strip) wide = l->whole;
    if (extent > 0 && extent % wide == 0) return wide;
    if (l->apart && wide == nest_step(l, p) && extent >= NEST_LONG * wide) return wide;
    while (lanes > extent && lanes > CG_LANES / 4) lanes /= 2;
    return lanes <= extent && (l->apart || extent % lanes == 0) ? lanes : 0;
}

/* Where whole steps of `lanes` from lo on end. */
static ir_ref nest_end(cg_kernel *k, ir_ref lo, ir_ref hi, int64_t lanes) {
    ir_ref n = cg_bin(k, OP_sub, hi, lo);
    return cg_bin(k, OP_add, lo, cg_bit(k, IR_bitop_band, n, cg_i64(k, -lanes)));
}

/* Steps of `lanes` over [lo, end). */
static void nest_vectors(cg_low *l, nest_plan *p, ir_ref lo, ir_ref end, int64_t lanes,
                         bool aligned) {
    cg_nest v = cg_open_for(l, lo, end, lanes, 0, NULL, NULL);
    l->k.lanes = lanes;
    nest_cell(l, p, aligned ? cg_ix_aligned(v.loop.index) : cg_ix_linear(v.loop.index));
    l->k.lanes = 0;
    cg_close_for(l, v, 0, NULL);
}

/* Steps over [lo, hi), which ends at the extent or at a multiple of the lanes; the last one begins
 * where it still fits. */
static void nest_covered(cg_low *l, nest_plan *p, ir_ref lo, ir_ref hi, ir_dim extent) {
    int64_t lanes = p->lanes, last = extent - lanes;
    if (extent % lanes == 0) {
        nest_vectors(l, p, lo, hi, lanes, true);
        return;
    }
    if (RT_PLANTED(skipped_tail)) last--;
    cg_nest v = cg_open_for(l, lo, hi, lanes, 0, NULL, NULL);
    l->k.lanes = lanes;
    nest_cell(l, p, cg_ix_linear(cg_bin(&l->k, OP_min, v.loop.index, cg_i64(&l->k, last))));
    l->k.lanes = 0;
    cg_close_for(l, v, 0, NULL);
}

/* The vector loop over [lo, hi), then single elements; narrower vectors before them where what is
 * left is known. */
static void nest_inner(cg_low *l, nest_plan *p, ir_ref lo, ir_ref hi, ir_dim extent) {
    cg_kernel *k = &l->k;
    int64_t left = extent;
    bool vectors = l->rows || !l->scalar;
    if (p->lanes) {
        nest_covered(l, p, lo, hi, extent);
        return;
    }
    int64_t most = nest_step(l, p);
    for (int64_t lanes = most; lanes >= CG_LANES / 4 && vectors; lanes = nest_narrower(lanes)) {
        if (extent < 0 || (!p->outer && extent >= most) ? lanes < CG_LANES : left < lanes) continue;
        ir_ref end = nest_end(k, lo, hi, lanes);
        nest_vectors(l, p, lo, end, lanes, p->outer);
        lo = end;
        if (p->outer && extent >= 0) left %= lanes;
    }
    if (p->outer && !left) return;
    if (RT_PLANTED(skipped_tail)) hi = cg_bin(k, OP_sub, hi, cg_i64(k, 1));
    cg_nest s = cg_open_for(l, lo, hi, 1, 0, NULL, NULL);
    nest_cell(l, p, cg_ix_uniform(s.loop.index));
    cg_close_for(l, s, 0, NULL);
}

static ir_dim nest_extent(cg_low *l, const ir_dim *dim, int n) {
    ir_dim d = 1;
    for (int i = 0; i < n; i++) d = ir_dim_mul(l->k.b.m, d, dim[i]);
    return d;
}

/* The subscript at which the nest reads value v, when it is the same along the inner axes. */
static bool nest_fixed(cg_low *l, const nest_plan *p, ir_ref v, cg_ix *ix_) {
    const joint_map *m = &p->map[v.i];
    const ir_type *t = cg_type(l, v);
    if (!m->set || m->many) return false;
    for (int i = 0; i < p->type->rank; i++)
        if (m->axis[i] == JOINT_CUT || (i >= p->outer && m->axis[i] != JOINT_NONE)) return false;
    for (int j = 0; j < t->rank; j++) {
        int from = 0;
        while (from < p->outer && m->axis[from] != j) from++;
        if (from == p->outer && t->dim[j] != 1) return false;
        ix_[j] = from < p->outer ? p->ix[from] : cg_ix_const(l, 0);
    }
    return true;
}

/* Compute what does not change along the inner axes before their loop begins; inside it is known.
 */
static void nest_hoist(cg_low *l, const nest_plan *p) {
    if (p->tile >= 0) return;
    for (uint32_t i = 1; i < l->f->values.n && !cg_lower_failed(l); i++) {
        cg_ix ix[IG_MAX_RANK] = {{0}};
        const ir_op *o = ir_def_op(l->f, (ir_ref){i});
        if (o && o->code == OP_const) continue;
        if (nest_fixed(l, p, (ir_ref){i}, ix)) cg_pull(l, (ir_ref){i}, ix);
    }
}

/* Whether to store whole vectors past the caches: when the results are larger than these, so that
 * whoever reads them finds them in memory anyway, and every vector is aligned.  lo is where the
 * vector loop begins, `inner` its extent. */
static void nest_streams(cg_low *l, nest_plan *p, ir_ref lo, ir_dim inner) {
    cg_kernel *k = &l->k;
    ir_dim n = ir_type_numel(k->b.m, p->type);
    int64_t lanes = p->lanes ? p->lanes : nest_step(l, p), size = 0, least, most, enough;
    for (uint32_t i = 0; i < p->n; i++)
        size += (int64_t)rt_dtype_bytes((ig_dtype)cg_type(l, nest_result(l, p->first + i))->dtype);
    ir_dim_range(k->b.m, n, &least, &most);
    enough = NEST_STREAM_BYTES / size;
    if (most < enough || p->tile >= 0 || l->update || (inner >= 0 && inner % lanes)) return;
    ir_ref c = cg_un(k, OP_aligned, l->out[p->first]);
    for (uint32_t i = 1; i < p->n; i++)
        c = cg_bit(k, IR_bitop_band, c, cg_un(k, OP_aligned, l->out[p->first + i]));
    if (least < enough) {
        ir_ref all = cg_dim(k, n);
        c = cg_bit(k, IR_bitop_band, c, cg_cmp(k, IR_cmpop_le, cg_i64(k, enough), all));
    }
    if (inner < 0) { /* where a vector loop begins: at a line, or at lo */
        ir_ref at = p->outer || l->rows ? cg_dim(k, inner) : lo;
        at = cg_bit(k, IR_bitop_band, at, cg_i64(k, lanes - 1));
        c = cg_bit(k, IR_bitop_band, c, cg_cmp(k, IR_cmpop_eq, at, cg_i64(k, 0)));
    }
    p->stream = c;
    p->streams = lanes;
}

/* Write the nest of results that share dims, over [lo, hi) of its outermost loop. */
static void nest_write(cg_low *l, nest_plan *p, ir_ref lo, ir_ref hi) {
    const ir_type *t = p->type;
    nest_starts(l, p);
    if (!t->rank) { /* one element: the loop runs once, or not at all */
        cg_nest one = cg_open_for(l, lo, hi, 1, 0, NULL, NULL);
        cg_ix none[IG_MAX_RANK] = {{0}};
        ir_ref r[IG_MAX_RANK];
        for (uint32_t i = 0; i < p->n; i++) r[i] = cg_pull(l, nest_result(l, p->first + i), none);
        for (uint32_t i = 0; i < p->n; i++) nest_store(l, p, i, cg_i64(&l->k, 0), r[i]);
        cg_close_for(l, one, 0, NULL);
        return;
    }
    ir_dim inner = nest_extent(l, t->dim + p->outer, t->rank - p->outer);
    if (!p->outer) {
        nest_hoist(l, p);
        nest_streams(l, p, lo, inner);
        if (p->lanes) {
            lo = cg_bin(&l->k, OP_mul, lo, cg_i64(&l->k, p->lanes));
            hi = cg_bin(&l->k, OP_mul, hi, cg_i64(&l->k, p->lanes));
        }
        nest_inner(l, p, lo, hi, inner);
        return;
    }
    nest_streams(l, p, lo, inner);
    cg_nest row = cg_open_for(l, lo, hi, 1, 0, NULL, NULL);
    cg_ix_split(l, cg_ix_uniform(row.loop.index), p->outer, p->steps, p->ix);
    for (int i = 0; i < p->outer; i++) /* written here once, found again inside */
        p->ix[i] = i == p->tile ? cg_ix_solid(l, p->ix[i]) : (cg_ix_solid(l, p->ix[i]), p->ix[i]);
    if (p->tile >= 0) {
        ir_ref size = cg_i64(&l->k, NEST_TILE);
        p->from = cg_bin(&l->k, OP_mul, (ir_ref){p->ix[p->tile].r}, size);
        ir_ref all = cg_dim(&l->k, t->dim[p->tile]);
        p->to = cg_bin(&l->k, OP_min, cg_bin(&l->k, OP_add, p->from, size), all);
    }
    nest_hoist(l, p);
    ir_ref end = cg_dim(&l->k, inner);
    nest_inner(l, p, cg_i64(&l->k, 0), end, inner);
    cg_close_for(l, row, 0, NULL);
}

/* The innermost loops of a row: those of its trailing axes run as one where they can. */
static void nest_row(cg_low *l, uint32_t row, const cg_ix *ix, joint_map *map) {
    ir_ref v = nest_result(l, 0);
    const ir_type *t = cg_type(l, v);
    nest_plan p = {.n = cg_nresult(l), .map = map, .type = t, .tile = -1};
    cg_nest loop[IG_MAX_RANK];
    int n = 0, other, first = t->rank;
    while (first > 0 && (t->dim[first - 1] == 1 || (row >> (first - 1) & 1))) first--;
    int joint = joint_axes(l, 0, p.n, map, &other);
    p.outer = t->rank - joint > first ? t->rank - joint : first;
    memcpy(p.ix, ix, sizeof p.ix);
    for (int i = 0; i < p.outer; i++) {
        if (!(row >> i & 1)) continue;
        ir_ref end = cg_dim(&l->k, t->dim[i]);
        loop[n] = cg_open_for(l, cg_i64(&l->k, 0), end, 1, 0, NULL, NULL);
        p.ix[i] = cg_ix_uniform(loop[n++].loop.index);
    }
    ir_dim inner = nest_extent(l, t->dim + p.outer, t->rank - p.outer);
    p.lanes = nest_lanes(l, &p, inner);
    nest_streams(l, &p, (ir_ref){0}, inner);
    ir_ref end = cg_dim(&l->k, inner);
    nest_inner(l, &p, cg_i64(&l->k, 0), end, inner);
    while (n-- > 0) cg_close_for(l, loop[n], 0, NULL);
}

void cg_nest_inner(cg_low *l, uint32_t row, const cg_ix *ix) {
    const ig_allocator *a = l->k.b.m->alloc;
    size_t size = l->f->values.n * sizeof(joint_map);
    joint_map *map = rt_alloc_zero(a, size);
    if (map)
        nest_row(l, row, ix, map);
    else
        ir_build_error(&l->k.b, rt_fail_memory());
    rt_free(a, map, size);
}

/* Choose the loops; the extent of the outermost one. */
static ir_dim nest_plan_one(cg_low *l, nest_plan *p) {
    const ir_type *t = p->type;
    ir_module *m = l->k.b.m;
    int other = -1;
    memset(p->map, 0, l->f->values.n * sizeof *p->map);
    p->outer = t->rank - joint_axes(l, p->first, p->n, p->map, &other);
    p->tile = -1;
    if (!t->rank) return 1;
    ir_dim inner = nest_extent(l, t->dim + p->outer, t->rank - p->outer);
    p->lanes = nest_lanes(l, p, inner);
    if (!p->outer) return p->lanes ? (inner + p->lanes - 1) / p->lanes : inner;
    memcpy(p->steps, t->dim, sizeof p->steps);
    bool worth = other >= 0 && other < p->outer && !l->scalar;
    if (worth && (t->dim[other] < 0 || t->dim[other] > NEST_TILE)) {
        p->tile = other;
        p->steps[other] =
            ir_dim_floordiv(m, ir_dim_add(m, t->dim[other], NEST_TILE - 1), NEST_TILE);
    }
    return nest_extent(l, p->steps, p->outer);
}

static void nest_all(cg_low *l, joint_map *map, ir_dim *n_) {
    uint32_t n = cg_nresult(l);
    bool alike = n <= IG_MAX_RANK;
    for (uint32_t i = 1; i < n; i++)
        alike &= ir_same_dims(cg_type(l, nest_result(l, 0)), cg_type(l, nest_result(l, i)));
    if (alike && n) {
        nest_plan p = {.first = 0, .n = n, .map = map, .type = cg_type(l, nest_result(l, 0))};
        *n_ = nest_plan_one(l, &p);
        nest_write(l, &p, l->lo, l->hi);
        return;
    }
    *n_ = 1; /* results of different shapes: one after the other, in one part */
    cg_nest once = cg_open_for(l, l->lo, l->hi, 1, 0, NULL, NULL);
    for (uint32_t i = 0; i < n; i++) {
        nest_plan p = {.first = i, .n = 1, .map = map, .type = cg_type(l, nest_result(l, i))};
        ir_dim extent = nest_plan_one(l, &p);
        ir_ref end = cg_dim(&l->k, extent);
        nest_write(l, &p, cg_i64(&l->k, 0), end);
    }
    cg_close_for(l, once, 0, NULL);
}

void cg_plain_nest(cg_low *l, ir_dim *n_) {
    const ig_allocator *a = l->k.b.m->alloc;
    size_t size = l->f->values.n * sizeof(joint_map);
    joint_map *map = rt_alloc(a, size);
    *n_ = 1;
    if (map)
        nest_all(l, map, n_);
    else
        ir_build_error(&l->k.b, rt_fail_memory());
    rt_free(a, map, size);
}
