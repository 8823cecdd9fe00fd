/* rows.c - the loop nest of a cluster whose reductions share their rows: softmax, norms, and what
 * else is made of sums along an axis and what they are used for.
 *
 * The outermost loop takes one row after the other (threads share it).  A row is passed over once
 * for each reduction, in the order of the program, and once for the result when that is as long as
 * the row.  Before a pass everything is known that is one element a row; the pull evaluator finds
 * it in its memo.
 *
 * What several passes need is computed in each of them, for a row is in the cache and a sum or a
 * product costs less than to keep it.  A transcendental function does not: the first pass that
 * computes such a value stores it in memory for one row, the others load it.  A row that does not
 * fit there is computed again.
 *
 * Rows that follow each other in memory are fetched ahead: a pass over a row in the cache leaves
 * memory idle, and a row that ends with a page ends what the hardware fetches by itself.
 *
 * When the last axis is not one of the row, rows lie side by side: a strip of them is taken at a
 * time, one a lane. */
#include "codegen/lower.h"

#include <string.h>

#define ROWS_KEPT_BYTES (96 << 10) /* of the stack: an L2 cache holds it with room to spare */
#define ROWS_PASSES     32

/* --- Finding the rows ----------------------------------------------------------------------- */

#define ROWS_UNSEEN (-2)

/* Value v is read at m. */
static void rows_read(cg_rows *r, ir_ref v, const ir_rowmap *m) {
    ir_rowmap *at = &r->at[v.i];
    if (at->n == ROWS_UNSEEN)
        *at = *m;
    else if (!ir_rowmap_same(at, m))
        at->n = -1; /* in two ways */
}

/* Place the operands of an op; false when it is a core that is not over the rows. */
static bool rows_op(cg_low *l, cg_rows *r, const ir_op *o) {
    const ir_rowmap at = r->at[o->out0];
    ir_rowmap x;
    int8_t to[IG_MAX_RANK];
    if (o->code == OP_cumred || o->code == OP_ein) return false;
    if (o->code == OP_reduce) {
        if (ir_rows_reduce(&r->rows, l->f, o, &at, &x)) {
            rows_read(r, ir_op_in(l->f, o, 0), &x);
            return true;
        }
        if (!ir_rows_open(&r->rows, l->f, o, &at, &x, to)) return false;
        for (uint32_t i = 0; i < l->f->values.n; i++) ir_rowmap_turn(&r->at[i], to);
        rows_read(r, ir_op_in(l->f, o, 0), &x);
        return true;
    }
    for (uint32_t k = 0; k < o->nin; k++) {
        x = ir_rows_operand(l->f, o, k, &at);
        rows_read(r, ir_op_in(l->f, o, k), &x);
    }
    return true;
}

/* The first of the results, which have one shape. */
static ir_ref rows_result(const cg_low *l) { return ir_op_in(l->f, ir_return_op(l->f), 0); }

/* Whether all results have one shape. */
static bool rows_are_alike(const cg_low *l) {
    const ir_op *ret = ir_return_op(l->f);
    for (uint32_t i = 1; i < ret->nin; i++)
        if (!ir_same_dims(cg_type(l, rows_result(l)), cg_type(l, ir_op_in(l->f, ret, i))))
            return false;
    return ret->nin && ret->nin <= IG_MAX_RANK;
}

/* Fill the maps; false when the cluster has no rows, or a single reduction and nothing after it
 * that is longer. */
static bool rows_find(cg_low *l, cg_rows *r) {
    const ir_func *f = l->f;
    ir_ref result = rows_result(l);
    uint32_t reductions = 0;
    for (uint32_t i = 0; i < f->values.n; i++) r->at[i].n = ROWS_UNSEEN;
    ir_rowmap m = ir_rows_begin(&r->rows, cg_type(l, result));
    for (uint32_t i = 0; i < ir_return_op(f)->nin; i++)
        rows_read(r, ir_op_in(f, ir_return_op(f), i), &m);
    for (uint32_t i = f->ops.n; i-- > 0;) {
        const ir_op *o = &f->ops.data[i];
        if (!o->nout || r->at[o->out0].n == ROWS_UNSEEN) continue;
        if (!rows_op(l, r, o)) return false;
        reductions += o->code == OP_reduce;
    }
    for (uint32_t i = 1; i < ir_return_op(f)->nin; i++)
        if (!ir_rowmap_same(&r->at[result.i], &r->at[ir_op_in(f, ir_return_op(f), i).i]))
            return false;
    bool full = ir_rows_is_full(&r->rows, &r->at[result.i]);
    return r->rows.row && reductions < ROWS_PASSES && (full || reductions > 1) &&
           (full || ir_rows_is_row(&r->rows, &r->at[result.i]));
}

/* --- Passes, and what is kept between them -------------------------------------------------- */

static bool rows_is_elementwise(const ir_op *o) {
    return o && ir_is_elementwise((ir_opcode)o->code);
}

static bool rows_is_full(const cg_rows *r, ir_ref v) {
    return ir_rows_is_full(&r->rows, &r->at[v.i]);
}

/* Find the passes that compute each value; edge[v]: some user of it is not in all of them. */
static void rows_fill_passes(const cg_low *l, cg_rows *r, bool *edge) {
    const ir_func *f = l->f;
    uint32_t n = 0;
    ir_ref result = rows_result(l);
    for (uint32_t i = 0; i < f->ops.n; i++) {
        const ir_op *o = &f->ops.data[i];
        if (o->code != OP_reduce) continue;
        ir_ref x = ir_op_in(f, o, 0);
        if (rows_is_full(r, x)) r->pass[x.i] |= 1u << n, edge[x.i] = true;
        n++;
    }
    for (uint32_t i = 0; rows_is_full(r, result) && i < ir_return_op(f)->nin; i++) {
        ir_ref x = ir_op_in(f, ir_return_op(f), i);
        r->pass[x.i] |= 1u << n, edge[x.i] = true;
    }
    for (uint32_t i = f->ops.n; i-- > 0;) {
        const ir_op *o = &f->ops.data[i];
        if (!rows_is_elementwise(o)) continue;
        for (uint32_t k = 0; k < o->nin; k++) {
            ir_ref x = ir_op_in(f, o, k);
            if (rows_is_full(r, x)) r->pass[x.i] |= r->pass[o->out0];
        }
    }
    for (uint32_t i = 0; i < f->ops.n; i++) {
        const ir_op *o = &f->ops.data[i];
        for (uint32_t k = 0; k < o->nin && rows_is_elementwise(o); k++) {
            ir_ref x = ir_op_in(f, o, k);
            edge[x.i] |= r->pass[x.i] != r->pass[o->out0];
        }
    }
}

/* Elements of a row, at most; INT64_MAX when that is not known. */
static int64_t rows_longest(const cg_low *l, const cg_rows *r) {
    int64_t lo, hi, n = r->columns ? l->strip : 1;
    for (int i = 0; i < r->rows.full.n; i++) {
        if (!(r->rows.row >> i & 1)) continue;
        ir_dim_range(l->f->module, r->rows.full.d[i], &lo, &hi);
        if (__builtin_mul_overflow(n, hi, &n)) return INT64_MAX;
    }
    return n;
}

static bool rows_is_dear(const cg_low *l, const ir_op *o) {
    return ir_math_has((ir_opcode)o->code, (ig_dtype)cg_type(l, ir_op_out(o, 0))->dtype) ||
           o->code == OP_rem;
}

/* Make memory for dear values that several passes need: the last ones they agree on. */
static void rows_keep(cg_low *l, cg_rows *r, const bool *edge, bool *dear) {
    const ir_func *f = l->f;
    int64_t n = rows_longest(l, r), left = ROWS_KEPT_BYTES;
    for (uint32_t i = 0; i < f->ops.n; i++) {
        const ir_op *o = &f->ops.data[i];
        ir_ref v = ir_op_out(o, 0);
        if (!rows_is_elementwise(o) || !r->pass[v.i]) continue;
        dear[v.i] = rows_is_dear(l, o);
        for (uint32_t k = 0; k < o->nin; k++) {
            ir_ref x = ir_op_in(f, o, k);
            dear[v.i] |= dear[x.i] && !r->kept[x.i].i;
        }
        ig_dtype d = cg_reg((ig_dtype)cg_type(l, v)->dtype);
        int64_t size = (int64_t)rt_dtype_bytes(d);
        bool many = r->pass[v.i] & (r->pass[v.i] - 1);
        if (!dear[v.i] || !edge[v.i] || !many || n < 1 || n > left / size) continue;
        left -= n * size;
        r->kept[v.i] = cg_alloc(&l->k, d, n);
    }
}

static bool rows_same_ix(cg_ix a, cg_ix b) {
    return a.kind == b.kind && a.pos == b.pos && a.r == b.r && a.stride == b.stride;
}

/* Where the element of a kept value lies in its memory; false when it is of another row. */
static bool rows_place(cg_low *l, ir_ref v, const cg_ix *ix, cg_ix *at_) {
    const cg_rows *r = l->rows;
    const ir_rowmap *m = &r->at[v.i];
    cg_ix part[IG_MAX_RANK] = {{0}};
    ir_dim dim[IG_MAX_RANK] = {0};
    int n = 0;
    for (int k = 0; k < m->n && k < IG_MAX_RANK; k++) {
        int a = m->at[k];
        if (a < 0) continue;
        if (r->rows.row >> a & 1)
            part[n] = ix[k], dim[n++] = r->rows.full.d[a];
        else if (!rows_same_ix(ix[k], r->ix[a]))
            return false;
    }
    *at_ = cg_ix_flat(l, n, dim, part);
    if (r->columns) *at_ = cg_ix_mul(l, *at_, l->strip);
    return !cg_lower_failed(l);
}

ir_ref cg_rows_find(cg_low *l, ir_ref v, const cg_ix *ix) {
    const cg_rows *r = l->rows;
    cg_ix at;
    if (!r->kept[v.i].i || r->now <= (uint32_t)__builtin_ctz(r->pass[v.i])) return (ir_ref){0};
    if (!rows_place(l, v, ix, &at)) return (ir_ref){0};
    bool run = r->columns || (at.kind == CG_IX_LINEAR && at.stride == 1);
    if (run) return cg_load(&l->k, r->kept[v.i], (ir_ref){at.r}, l->k.lanes);
    return cg_load(&l->k, r->kept[v.i], cg_ix_value(l, at),
                   at.kind == CG_IX_UNIFORM ? 0 : l->k.lanes);
}

void cg_rows_tell(cg_low *l, ir_ref v, const cg_ix *ix, ir_ref x) {
    const cg_rows *r = l->rows;
    cg_ix at;
    if (!r->kept[v.i].i || r->now != (uint32_t)__builtin_ctz(r->pass[v.i])) return;
    if (!rows_place(l, v, ix, &at)) return;
    bool run = r->columns || (at.kind == CG_IX_LINEAR && at.stride == 1);
    bool one = !r->columns && at.kind == CG_IX_UNIFORM;
    x = cg_splat(&l->k, x, one ? 0 : l->k.lanes);
    cg_store(&l->k, r->kept[v.i], run ? (ir_ref){at.r} : cg_ix_value(l, at), x);
}

/* --- The next row ---------------------------------------------------------------------------- */

/* The subscripts of value v at the row. */
static void rows_subscripts(cg_low *l, ir_ref v, cg_ix *ix_) {
    const ir_rowmap *m = &l->rows->at[v.i];
    for (int k = 0; k < m->n && k < IG_MAX_RANK; k++)
        ix_[k] = m->at[k] < 0 ? cg_ix_const(l, 0) : l->rows->ix[m->at[k]];
}

#define ROWS_AHEAD      16384 /* elements: a longer row is not in the cache when its turn comes */
#define ROWS_NO_PASS    UINT32_MAX
#define ROWS_LINE_BYTES 64

void cg_rows_ahead(cg_low *l, ir_ref t, int64_t lanes) {
    const cg_rows *r = l->rows;
    cg_kernel *k = &l->k;
    if (r->now != r->ahead) return;
    ir_dim dim[IG_MAX_RANK], count = 1;
    cg_ix part[IG_MAX_RANK] = {{0}};
    int axis[IG_MAX_RANK], n = 0;
    for (int i = 0; i < r->rows.full.n; i++)
        if (r->rows.row >> i & 1) axis[n] = i, dim[n++] = r->rows.full.d[i];
    for (int i = 0; i < n; i++) count = ir_dim_mul(k->b.m, count, dim[i]);
    cg_ix_split(l, cg_ix_uniform(t), n, dim, part);
    ir_ref far = cg_i64(k, ROWS_AHEAD);
    far = cg_bin(k, OP_min, cg_dim(k, count), far);
    for (uint32_t p = 0; p < ir_nparam(l->f) && !cg_lower_failed(l); p++) {
        ir_ref v = ir_param_ref(l->f, p);
        const ir_type *type = cg_type(l, v);
        const ir_rowmap *m = &r->at[v.i];
        cg_ix ix[IG_MAX_RANK] = {{0}};
        if (!ir_rows_is_full(&r->rows, m) || cg_strides(l, v)) continue;
        rows_subscripts(l, v, ix);
        for (int j = 0; j < m->n && j < IG_MAX_RANK; j++)
            for (int i = 0; i < n; i++)
                if (m->at[j] == axis[i]) ix[j] = part[i];
        cg_ix at = cg_ix_flat(l, type->rank, type->dim, ix);
        ir_ref next = cg_bin(k, OP_add, cg_ix_value(l, at), far);
        int64_t line = ROWS_LINE_BYTES / (int64_t)rt_dtype_bytes((ig_dtype)type->dtype);
        for (int64_t j = 0; j < lanes; j += line)
            cg_prefetch(k, l->mem[v.i], cg_bin(k, OP_add, next, cg_i64(k, j)));
    }
}

/* --- The nest ------------------------------------------------------------------------------- */

/* Compute what is one element a row: one pass for each reduction. */
static void rows_prologue(cg_low *l) {
    cg_rows *r = l->rows;
    r->now = 0;
    for (uint32_t i = 1; i < l->f->values.n && !cg_lower_failed(l); i++) {
        ir_ref v = {i};
        const ir_op *o = ir_def_op(l->f, v);
        cg_ix ix[IG_MAX_RANK] = {{0}};
        bool reduce = o && o->code == OP_reduce;
        if (ir_rows_is_row(&r->rows, &r->at[i]) && (!o || reduce || rows_is_elementwise(o))) {
            rows_subscripts(l, v, ix);
            cg_pull(l, v, ix);
        }
        r->now += reduce;
    }
}

/* Pull the results at their subscripts, then store them. */
static void rows_store(cg_low *l, const cg_ix *ix) {
    const ir_op *ret = ir_return_op(l->f);
    const ir_type *t = cg_type(l, rows_result(l));
    ir_ref x[IG_MAX_RANK];
    for (uint32_t i = 0; i < ret->nin; i++) x[i] = cg_pull(l, ir_op_in(l->f, ret, i), ix);
    cg_ix at = cg_ix_flat(l, t->rank, t->dim, ix);
    for (uint32_t i = 0; i < ret->nin; i++)
        cg_store(&l->k, l->out[i], (ir_ref){at.r}, cg_splat(&l->k, x[i], l->k.lanes));
}

/* Store the result of all elements of the row, rows side by side: a loop for each of its axes. */
static void rows_walk(cg_low *l, cg_ix *ix) {
    const cg_rows *r = l->rows;
    cg_nest loop[IG_MAX_RANK];
    int n = 0;
    int64_t lanes = l->k.lanes;
    for (int i = 0; i < r->rows.full.n; i++) {
        if (!(r->rows.row >> i & 1)) continue;
        ir_ref end = cg_dim(&l->k, r->rows.full.d[i]);
        loop[n] = cg_open_for(l, cg_i64(&l->k, 0), end, 1, 0, NULL, NULL);
        ix[i] = cg_ix_uniform(loop[n++].loop.index);
    }
    l->k.lanes = lanes;
    rows_store(l, ix);
    while (n-- > 0) cg_close_for(l, loop[n], 0, NULL);
}

/* Everything about one row, or as many as there are lanes. */
static void rows_one(cg_low *l) {
    cg_rows *r = l->rows;
    cg_ix ix[IG_MAX_RANK] = {{0}};
    ir_ref v = rows_result(l);
    rows_prologue(l);
    rows_subscripts(l, v, ix);
    if (!rows_is_full(r, v))
        rows_store(l, ix);
    else if (r->columns)
        rows_walk(l, ix);
    else
        cg_nest_inner(l, r->rows.row, ix);
}

/* Rows side by side in columns [from, end) of the last axis, so many at a time; where they end. */
static ir_ref rows_abreast(cg_low *l, int last, ir_ref from, ir_ref end, int64_t lanes) {
    cg_kernel *k = &l->k;
    if (lanes > 1) {
        ir_ref n = cg_i64(k, -lanes);
        n = cg_bit(k, IR_bitop_band, cg_bin(k, OP_sub, end, from), n);
        end = cg_bin(k, OP_add, from, n);
    }
    cg_nest nest = cg_open_for(l, from, end, lanes, 0, NULL, NULL);
    k->lanes = lanes > 1 ? lanes : 0;
    l->rows->ix[last] = lanes > 1 ? cg_ix_aligned(nest.loop.index) : cg_ix_uniform(nest.loop.index);
    rows_one(l);
    k->lanes = 0;
    cg_close_for(l, nest, 0, NULL);
    return end;
}

/* A strip of columns of the last axis of the full index, from `from` on: as a whole, or what there
 * is of it. */
static void rows_strip(cg_low *l, int last, ir_ref from) {
    cg_kernel *k = &l->k;
    ir_dim extent = l->rows->rows.full.d[last];
    ir_ref end = cg_dim(k, extent), next = cg_bin(k, OP_add, from, cg_i64(k, l->strip));
    int64_t left = extent < 0 ? l->strip - 1 : extent % l->strip;
    bool some = extent < 0 || extent >= l->strip;
    cg_nest fits = {0};
    if (some && left) fits = cg_open_if(l, cg_cmp(k, IR_cmpop_le, next, end));
    if (some) {
        k->lanes = l->strip;
        l->rows->ix[last] = cg_ix_aligned(from);
        rows_one(l);
        k->lanes = 0;
    }
    if (!left) return;
    if (some) cg_open_else(l, fits, 0, NULL);
    if (left >= CG_LANES) from = rows_abreast(l, last, from, end, CG_LANES);
    if (extent < 0 || left % CG_LANES) rows_abreast(l, last, from, end, 1);
    if (some) cg_close_if(l, fits, 0, NULL);
}

/* Write the loops; the extent of the outermost one. */
static ir_dim rows_write(cg_low *l) {
    cg_rows *r = l->rows;
    ir_module *m = l->k.b.m;
    int axis[IG_MAX_RANK], n = 0, last = -1;
    ir_dim dim[IG_MAX_RANK], outer = 1;
    cg_ix part[IG_MAX_RANK] = {{0}};
    for (int i = 0; i < r->rows.full.n; i++) {
        if (r->rows.full.d[i] == 1)
            r->ix[i] = cg_ix_const(l, 0);
        else if (!(r->rows.row >> i & 1))
            axis[n] = i, dim[n++] = r->rows.full.d[i];
    }
    if (r->columns) {
        last = axis[n - 1];
        dim[n - 1] = ir_dim_floordiv(m, ir_dim_add(m, dim[n - 1], l->strip - 1), l->strip);
    }
    for (int i = 0; i < n; i++) outer = ir_dim_mul(m, outer, dim[i]);
    cg_nest row = cg_open_for(l, l->lo, l->hi, 1, 0, NULL, NULL);
    cg_ix_split(l, cg_ix_uniform(row.loop.index), n, dim, part);
    for (int i = 0; i < n; i++) r->ix[axis[i]] = cg_ix_solid(l, part[i]);
    if (r->columns)
        rows_strip(l, last, cg_ix_value(l, cg_ix_mul(l, r->ix[last], l->strip)));
    else
        rows_one(l);
    cg_close_for(l, row, 0, NULL);
    return outer;
}

/* --- The kernel ----------------------------------------------------------------------------- */

/* Whether the last axis that is longer than 1 is not of the row. */
static bool rows_is_columns(const cg_rows *r) {
    int i = r->rows.full.n - 1;
    while (i > 0 && r->rows.full.d[i] == 1) i--;
    return !(r->rows.row >> i & 1);
}

/* The last pass before that of the result fetches the next row, when rows follow each other in
 * memory. */
static uint32_t rows_ahead_pass(const cg_low *l, const cg_rows *r) {
    uint32_t n = 0, axes = 0;
    for (int i = 0; i < r->rows.full.n; i++) axes |= (uint32_t)(r->rows.full.d[i] != 1) << i;
    uint32_t outer = axes & ~r->rows.row;
    if (!outer || outer > (r->rows.row & -r->rows.row)) return ROWS_NO_PASS;
    for (uint32_t i = 0; i < l->f->ops.n; i++) n += l->f->ops.data[i].code == OP_reduce;
    return n - 1;
}

static bool rows_begin(cg_low *l, cg_rows *r, bool *edge, bool *dear) {
    if (!rows_find(l, r)) return false;
    r->columns = rows_is_columns(r);
    r->ahead = rows_ahead_pass(l, r);
    rows_fill_passes(l, r, edge);
    rows_keep(l, r, edge, dear);
    return true;
}

bool cg_rows_nest(cg_low *l, ir_dim *n_) {
    const ig_allocator *a = l->k.b.m->alloc;
    size_t n = l->f->values.n;
    bool ours = false;
    if (l->room || !rows_are_alike(l)) return false;
    cg_rows r = {.at = rt_alloc(a, n * sizeof *r.at),
                 .pass = rt_alloc_zero(a, n * sizeof *r.pass),
                 .kept = rt_alloc_zero(a, n * sizeof *r.kept)};
    bool *mark = rt_alloc_zero(a, 2 * n * sizeof *mark);
    if (!r.at || !r.pass || !r.kept || !mark) {
        ir_build_error(&l->k.b, rt_fail_memory());
        ours = true;
    } else if (rows_begin(l, &r, mark, mark + n)) {
        l->rows = &r;
        *n_ = rows_write(l);
        l->rows = NULL;
        ours = true;
    }
    rt_free(a, mark, 2 * n * sizeof *mark);
    rt_free(a, r.at, n * sizeof *r.at);
    rt_free(a, r.pass, n * sizeof *r.pass);
    rt_free(a, r.kept, n * sizeof *r.kept);
    return ours;
}
