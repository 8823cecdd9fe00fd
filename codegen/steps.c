/* steps.c - the kernel of a scan whose elements go their ways apart (passes/loop.c).
 *
 * The outermost loop is over elements; some vectors of them at a time go through all steps, with
 * what they carry in registers.  Several vectors side by side hide the latency of the chain from
 * one step to the next.  What does not change from step to step is computed before the loop.  A
 * slice is its whole operand read with the step as first subscript. */
#include "codegen/lower.h"
#include "runtime/base/plant.h"

#include <string.h>

#define STEPS_SIDE 12 /* vectors side by side at most */
#define STEPS_BITS \
    42 /* so many bits of a vector register are one carried vector side by side: 12, 6, 3 */

typedef struct cg_steps {
    const ir_op *o;
    const ir_attr_scan *a;
    const ir_region *region;
    const ir_op *yield;
    uint32_t carries;
    ir_type shape;                              /* of an element's whole, the same for all */
    bool *varies;                               /* by value: with the step; owned */
    bool whole;                                 /* nothing but whole vectors */
    ir_ref at;                                  /* the step */
    int side;                                   /* vectors being written, */
    int64_t lanes[STEPS_SIDE], off[STEPS_SIDE]; /* their lanes, and where they begin */
    cg_ix ix[STEPS_SIDE][IG_MAX_RANK];
} cg_steps;

ir_ref cg_steps_slice(const cg_low *l, ir_ref v, const cg_ix *ix, cg_ix *whole_) {
    const cg_steps *s = l->steps;
    uint32_t first = s ? s->region->param0 + 1 + s->carries : 0;
    if (!s || v.i < first || v.i >= s->region->param0 + s->region->nparam) return (ir_ref){0};
    whole_[0] = cg_ix_uniform(s->at);
    memcpy(whole_ + 1, ix, cg_type(l, v)->rank * sizeof *ix);
    return ir_op_in(l->f, s->o, v.i - s->region->param0 - 1);
}

/* Mark what changes from step to step. */
static void steps_fill_varies(const cg_low *l, cg_steps *s) {
    for (uint32_t i = 0; i < s->region->nparam; i++) s->varies[s->region->param0 + i] = true;
    for (uint32_t i = s->region->first; i < s->region->end; i++) {
        const ir_op *o = &l->f->ops.data[i];
        for (uint32_t k = 0; k < o->nin && o->nout; k++)
            s->varies[o->out0] |= s->varies[ir_op_in(l->f, o, k).i];
    }
}

/* Compute what elementwise ops take of the values that stay the same. */
static void steps_hoist(cg_low *l, const cg_steps *s) {
    for (uint32_t i = s->region->first; i < s->region->end; i++) {
        const ir_op *o = &l->f->ops.data[i];
        bool here = o->nout && s->varies[o->out0] && ir_is_elementwise((ir_opcode)o->code);
        for (uint32_t k = 0; here && k < o->nin; k++) {
            ir_ref v = ir_op_in(l->f, o, k);
            if (s->varies[v.i] || !ir_same_dims(cg_type(l, v), &s->shape)) continue;
            for (int u = 0; u < s->side; u++) {
                l->k.lanes = s->lanes[u];
                cg_pull(l, v, s->ix[u]);
            }
        }
    }
}

static void steps_store(cg_low *l, uint32_t result, const cg_ix *ix, ir_ref r) {
    const ir_type *t = ir_result_type(l->f, result);
    cg_ix at = cg_ix_flat(l, t->rank, t->dim, ix);
    cg_store(&l->k, l->out[result], (ir_ref){at.r}, cg_splat(&l->k, r, l->k.lanes));
}

/* One step of every vector: from the carried registers `in` to the next ones. */
static void steps_one(cg_low *l, const cg_steps *s, const ir_ref *in, ir_ref *out) {
    cg_kernel *k = &l->k;
    uint32_t n = s->carries, p = s->region->param0;
    bool late = RT_PLANTED(reverse_step_late) && s->a->reverse;
    cg_seed(l, (ir_ref){p}, NULL, late ? cg_bin(k, OP_add, s->at, cg_i64(k, 1)) : s->at);
    for (int u = 0; u < s->side; u++) {
        k->lanes = s->lanes[u];
        for (uint32_t c = 0; c < n; c++)
            cg_seed(l, (ir_ref){p + 1 + c}, s->ix[u], in[(uint32_t)u * n + c]);
    }
    for (uint32_t c = 0; c < s->yield->nin; c++)
        for (int u = 0; u < s->side; u++) {
            cg_ix ix[IG_MAX_RANK + 1] = {cg_ix_uniform(s->at)};
            k->lanes = s->lanes[u];
            ir_ref r = cg_splat(k, cg_pull(l, ir_op_in(l->f, s->yield, c), s->ix[u]), k->lanes);
            memcpy(ix + 1, s->ix[u], s->shape.rank * sizeof *ix);
            if (c >= n)
                steps_store(l, c, ix, r);
            else
                out[(uint32_t)u * n + c] = r;
        }
}

/* All steps of the vectors of s, which begin at subscript t. */
static void steps_run(cg_low *l, cg_steps *s, cg_ix t) {
    cg_kernel *k = &l->k;
    ir_ref in[STEPS_SIDE * IG_MAX_RANK], out[STEPS_SIDE * IG_MAX_RANK];
    uint32_t n = s->carries;
    for (int u = 0; u < s->side; u++) {
        cg_ix at = cg_ix_add(l, t, cg_ix_const(l, s->off[u]));
        k->lanes = s->lanes[u];
        at = (cg_ix){k->lanes ? CG_IX_LINEAR : CG_IX_UNIFORM, s->whole, at.r, k->lanes ? 1 : 0};
        cg_ix_split(l, at, s->shape.rank, s->shape.dim, s->ix[u]);
        for (uint32_t c = 0; c < n; c++)
            out[(uint32_t)u * n + c] =
                cg_splat(k, cg_pull(l, ir_op_in(l->f, s->o, c), s->ix[u]), k->lanes);
    }
    steps_hoist(l, s);
    k->lanes = 0;
    ir_ref steps = cg_dim(k, s->a->n), zero = cg_i64(k, 0);
    cg_nest loop = cg_open_for(l, zero, steps, 1, s->side * (int)n, out, in);
    s->at = loop.loop.index;
    if (s->a->reverse)
        s->at = cg_bin(k, OP_sub, cg_bin(k, OP_sub, steps, cg_i64(k, 1)), loop.loop.index);
    l->steps = s;
    steps_one(l, s, in, out);
    l->steps = NULL;
    k->lanes = 0;
    ir_ref first = cg_close_for(l, loop, s->side * (int)n, out);
    for (int u = 0; u < s->side; u++) {
        k->lanes = s->lanes[u];
        for (uint32_t c = 0; c < n; c++)
            steps_store(l, c, s->ix[u], ir_result(first, (uint32_t)u * n + c));
    }
    k->lanes = 0;
}

/* Elements [lo, hi) in steps of `side` vectors of `lanes`; where that ends. */
static ir_ref steps_vectors(cg_low *l, cg_steps *s, ir_ref lo, ir_ref hi, int side, int64_t lanes) {
    cg_kernel *k = &l->k;
    int64_t by = side * (lanes ? lanes : 1);
    ir_ref n = cg_bin(k, OP_sub, hi, lo);
    ir_ref end = cg_bin(k, OP_add, lo, cg_bit(k, IR_bitop_band, n, cg_i64(k, -by)));
    for (int u = 0; u < side; u++) s->lanes[u] = lanes, s->off[u] = u * lanes;
    s->side = side;
    cg_nest v = cg_open_for(l, lo, lanes ? end : hi, by, 0, NULL, NULL);
    steps_run(l, s, cg_ix_uniform(v.loop.index));
    cg_close_for(l, v, 0, NULL);
    return end;
}

/* Cut so many elements into vectors, the last ones narrower; false when there are too many. */
static bool steps_cut(cg_steps *s, int64_t numel, int most) {
    int64_t lanes = CG_LANES;
    s->side = 0;
    for (int64_t at = 0; at < numel; at += lanes ? lanes : 1) {
        while (lanes && numel - at < lanes) lanes = lanes > CG_LANES / 4 ? lanes / 2 : 0;
        if (s->side == most) return false;
        s->off[s->side] = at;
        s->lanes[s->side++] = lanes;
    }
    return true;
}

/* Write the loops; the extent of the outermost.  A few elements go side by side; of known extents
 * that are whole vectors, threads share vectors and nothing else is left. */
static ir_dim steps_write(cg_low *l, cg_steps *s, ir_dim numel) {
    cg_kernel *k = &l->k;
    ir_ref lo = l->lo, hi = l->hi, lanes = cg_i64(k, CG_LANES);
    int64_t left = numel < 0 ? INT64_MAX : numel;
    int most = l->cpu->vector_bits / STEPS_BITS / (s->carries ? (int)s->carries : 1);
    if (most > STEPS_SIDE) most = STEPS_SIDE;
    if (numel >= 0 && steps_cut(s, numel, most)) {
        cg_nest one = cg_open_for(l, lo, hi, 1, 0, NULL, NULL);
        steps_run(l, s, cg_ix_const(l, 0));
        cg_close_for(l, one, 0, NULL);
        return numel ? 1 : 0;
    }
    s->whole = numel > 0 && numel % CG_LANES == 0;
    if (s->whole) lo = cg_bin(k, OP_mul, lo, lanes), hi = cg_bin(k, OP_mul, hi, lanes);
    for (int side = most < 2 ? 1 : most < 4 ? 2 : 4; side >= 1; side /= 2)
        if (left >= side * CG_LANES) lo = steps_vectors(l, s, lo, hi, side, CG_LANES);
    if (s->whole) return numel / CG_LANES;
    for (int64_t n = CG_LANES / 2; n >= CG_LANES / 4; n /= 2)
        if (left % CG_LANES >= n) lo = steps_vectors(l, s, lo, hi, 1, n);
    steps_vectors(l, s, lo, hi, 1, 0);
    return numel;
}

/* A cluster whose result is a scan: its elements are the outermost loop. */
bool cg_steps_nest(cg_low *l, ir_dim *n_) {
    const ir_op *o = ir_def_op(l->f, ir_op_in(l->f, ir_return_op(l->f), 0));
    const ig_allocator *alloc = l->k.b.m->alloc;
    if (!o || o->code != OP_scan) return false;
    cg_steps s = {.o = o, .a = ir_attr_get(l->f->module, o->attr)};
    s.region = &l->f->regions.data[o->region0];
    s.yield = &l->f->ops.data[s.region->end - 1];
    s.carries = (uint32_t)s.a->carries;
    s.shape = *cg_type(l, ir_op_in(l->f, s.yield, 0));
    s.varies = rt_alloc_zero(alloc, l->f->values.n);
    ir_dim numel = ir_type_numel(l->k.b.m, &s.shape);
    *n_ = numel;
    if (s.varies) {
        steps_fill_varies(l, &s);
        *n_ = steps_write(l, &s, numel);
    } else {
        ir_build_error(&l->k.b, rt_fail_memory());
    }
    rt_free(alloc, s.varies, l->f->values.n);
    return true;
}
