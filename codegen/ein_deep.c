/* ein_deep.c - a single element of a contraction over a long K: blocks side by side.
 *
 * A block of K is one chain, and a chain takes the latency of a multiplication a step (numerics
 * rule 7).  The blocks do not depend on each other: as many as a vector has lanes run in its lanes,
 * and their partial sums are added to the total one after the other, so the bits are the same.
 * Lanes are a block apart in memory; both operands are transposed in registers, the first one some
 * steps ahead, into memory, because two transpositions do not fit the registers.
 *
 *     for group of blocks                     the last one overlaps; what was added is not again
 *         for run of K in a block
 *             for vector of steps             transpose the first operand
 *             for vector of steps             transpose the second one; chains
 *         for lane                            total += partial
 */
#include "codegen/gemm.h"

#define DEEP_LEAST 8192 /* of K */
#define DEEP_FEW   8    /* elements: more run side by side */

typedef struct deep {
    const cg_ein *e;
    const cg_ix *ix; /* of the element */
    int lanes;
    ir_ref run; /* memory: the first operand, transposed */
} deep;

bool cg_ein_is_deep(const cg_low *l, const cg_ein *e) {
    int64_t lo, hi;
    ir_dim_range(l->k.b.m, e->k, &lo, &hi);
    return e->plain && e->rel->nin == 2 && e->rel->norder == 1 && e->rel->monoid == IR_redop_sum &&
           rt_is_float(cg_reg(e->d)) && lo >= DEEP_LEAST;
}

/* Whether K is contiguous along an operand. */
static bool deep_lies_well(const cg_low *l, const cg_ein *e, int i) {
    const ir_type *t = cg_type(l, ir_op_in(l->f, e->o, (uint32_t)i));
    int j = t->rank - 1;
    while (j >= 0 && e->rel->in[i].a[j] != e->rel->order[0] && t->dim[j] == 1) j--;
    return j >= 0 && e->rel->in[i].a[j] == e->rel->order[0];
}

bool cg_ein_is_few(const cg_low *l, const cg_ein *e) {
    ir_dim n = ir_type_numel(l->k.b.m, e->type);
    return n >= 0 && n <= DEEP_FEW && cg_ein_is_deep(l, e) && deep_lies_well(l, e, 0) &&
           deep_lies_well(l, e, 1);
}

/* Steps [at, at + lanes) of the first block, and the same ones of the others, of operand i: vectors
 * of blocks. */
static void deep_turn(cg_low *l, const deep *p, int i, ir_ref at, ir_ref *x_) {
    const ir_rel *rel = p->e->rel;
    cg_kernel *k = &l->k;
    for (int b = 0; b < p->lanes; b++) {
        cg_ix sub[IG_MAX_RANK] = {{0}};
        for (int j = 0; j < rel->in[i].n; j++) {
            int axis = p->e->axis[rel->in[i].a[j]];
            sub[j] = axis >= 0 ? p->ix[axis]
                               : cg_ix_linear(cg_bin(k, OP_add, at, cg_i64(k, b * CG_KB)));
        }
        k->lanes = p->lanes;
        x_[b] = cg_splat(k, cg_pull(l, ir_op_in(l->f, p->e->o, (uint32_t)i), sub), p->lanes);
        k->lanes = 0;
    }
    if (!cg_lower_failed(l)) cg_turn(k, p->lanes, x_);
}

/* Advance the chains of the blocks by a run. */
static ir_ref deep_run(cg_low *l, const deep *p, ir_ref at, ir_ref chain) {
    cg_kernel *k = &l->k;
    ir_ref x[CG_LANES], in[3], zero = cg_i64(k, 0), end = cg_i64(k, CG_DEEP_RUN);
    cg_nest first = cg_open_for(l, zero, end, p->lanes, 0, NULL, NULL);
    deep_turn(l, p, 0, cg_bin(k, OP_add, at, first.loop.index), x);
    for (int s = 0; s < p->lanes; s++) {
        ir_ref step = cg_bin(k, OP_add, first.loop.index, cg_i64(k, s));
        cg_store(k, p->run, cg_bin(k, OP_mul, step, cg_i64(k, p->lanes)), x[s]);
    }
    cg_close_for(l, first, 0, NULL);
    cg_nest second = cg_open_for(l, zero, end, p->lanes, 1, &chain, &in[2]);
    deep_turn(l, p, 1, cg_bin(k, OP_add, at, second.loop.index), x);
    for (int s = 0; s < p->lanes; s++) {
        ir_ref step = cg_bin(k, OP_add, second.loop.index, cg_i64(k, s));
        in[0] = cg_load(k, p->run, cg_bin(k, OP_mul, step, cg_i64(k, p->lanes)), p->lanes);
        in[1] = x[s];
        in[2] = cg_ew(k, OP_fma, NULL, cg_reg(p->e->d), 3, in);
    }
    return cg_close_for(l, second, 1, &in[2]);
}

ir_ref cg_ein_deep(cg_low *l, const cg_ein *e, const cg_ix *ix) {
    cg_kernel *k = &l->k;
    ig_dtype r = cg_reg(e->d);
    deep p = {.e = e, .ix = ix, .run = l->scratch[e->v.i]};
    p.lanes = l->cpu->vector_bits / 8 / (int)rt_dtype_bytes(r);
    if (p.lanes > CG_LANES) p.lanes = CG_LANES;
    ir_ref block = cg_i64(k, CG_KB), lanes = cg_i64(k, p.lanes), zero = cg_i64(k, 0), before;
    ir_ref blocks = cg_bin(k, OP_div, cg_dim(k, e->k), block), none = cg_int(k, r, 0), total;
    cg_nest group = cg_open_for(l, zero, blocks, p.lanes, 1, &none, &total);
    ir_ref first = cg_bin(k, OP_min, group.loop.index, cg_bin(k, OP_sub, blocks, lanes));
    ir_ref at = cg_bin(k, OP_mul, first, block);
    ir_ref chain = cg_splat(k, none, p.lanes);
    cg_nest run = cg_open_for(l, zero, block, CG_DEEP_RUN, 1, &chain, &before);
    chain = deep_run(l, &p, cg_bin(k, OP_add, at, run.loop.index), before);
    chain = cg_close_for(l, run, 1, &chain);
    for (int i = 0; i < p.lanes && !cg_lower_failed(l); i++) {
        ir_ref sum = cg_monoid(l, IR_redop_sum, e->d, total, cg_extract(k, chain, i));
        ir_ref mine = cg_bin(k, OP_add, first, cg_i64(k, i));
        total = cg_select(k, cg_cmp(k, IR_cmpop_le, group.loop.index, mine), sum, total);
    }
    return cg_close_for(l, group, 1, &total);
}
