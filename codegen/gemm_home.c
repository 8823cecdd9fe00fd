/* gemm_home.c - large products: columns are packed once for all rows of a chunk, and the totals
 * wait where the result goes, so that no size of the operands has to fit the stack.
 *
 *     for chunk of (outer axes, columns, rows)               shared out to threads
 *         for block of K
 *             pack the columns of the block                  a quarter of an L2
 *             for tile of rows                               its block of K stays in L1
 *                 for panel
 *                     chains of the register tile            gemm_tile.c
 *                     result = (result, or zero at first) + chains
 *         elementwise ops on the result, where there are any
 *
 * The result may hold totals because memplan never lets a contraction write over what it reads.
 * Panels divide the columns.  The last tile of rows repeats the last row; it reads all totals
 * before it writes one, so that what is written twice is the same. */
#include "codegen/gemm.h"

#include <string.h>

/* Where vector j of a row's panel lies in the result. */
static ir_ref home_place(cg_low *l, const gemm *g, ir_ref row, ir_ref col, cg_ix *ix_) {
    cg_kernel *k = &l->k;
    memcpy(ix_, g->ix, sizeof(cg_ein_ix));
    gemm_line(l, g, &g->row, cg_ix_uniform(row), ix_);
    k->lanes = g->lanes;
    gemm_line(l, g, &g->col, cg_ix_linear(col), ix_);
    ir_ref at = {cg_ix_flat(l, g->e.type->rank, g->e.type->dim, ix_).r};
    k->lanes = 0;
    return at;
}

/* Add the chains to the totals. */
static void home_add(cg_low *l, const gemm *g, const ir_ref *row, ir_ref col, const ir_ref *chain) {
    cg_kernel *k = &l->k;
    ir_ref at[GEMM_CHAINS], sum[GEMM_CHAINS];
    ir_ref zero = cg_splat(k, cg_int(k, cg_reg(g->e.d), 0), g->lanes);
    ir_ref first = cg_cmp(k, IR_cmpop_eq, g->k0, cg_i64(k, 0));
    int n = g->height * g->vectors;
    for (int i = 0; i < n; i++) {
        cg_ein_ix ix;
        ir_ref to = cg_bin(k, OP_add, col, cg_i64(k, i % g->vectors * g->lanes));
        at[i] = home_place(l, g, row[i / g->vectors], to, ix);
        sum[i] = zero;
        if (g->blocks) sum[i] = cg_select(k, first, zero, cg_load(k, l->out[0], at[i], g->lanes));
        sum[i] = cg_monoid(l, IR_redop_sum, g->e.d, sum[i], chain[i]);
    }
    for (int i = 0; i < n; i++) cg_store(k, l->out[0], at[i], sum[i]);
}

/* The rows of the chunk against the packed block. */
static void home_block(cg_low *l, const gemm *g) {
    cg_kernel *k = &l->k;
    ir_ref row[GEMM_CHAINS], chain[GEMM_CHAINS], one = cg_i64(k, 1);
    bool whole = g->row.lines % g->height == 0;
    cg_nest tile = cg_open_for(l, g->row0, g->row1, g->height, 0, NULL, NULL);
    for (int i = 0; i < g->height; i++) {
        row[i] = cg_bin(k, OP_add, tile.loop.index, cg_i64(k, i));
        if (!whole) row[i] = cg_bin(k, OP_min, row[i], cg_bin(k, OP_sub, g->row1, one));
    }
    cg_nest panel = cg_open_for(l, cg_i64(k, 0), g->npanel, 1, 0, NULL, NULL);
    ir_ref at = cg_bin(k, OP_mul, panel.loop.index, cg_i64(k, g->col.width));
    ir_ref col = cg_bin(k, OP_add, g->col0, at);
    gemm_tile_chains(l, g, row, g->direct ? col : gemm_panel(l, g, panel.loop.index), chain);
    home_add(l, g, row, col, chain);
    cg_close_for(l, panel, 0, NULL);
    cg_close_for(l, tile, 0, NULL);
}

/* The epilogue, over the result. */
static void home_finish(cg_low *l, const gemm *g) {
    cg_kernel *k = &l->k;
    cg_ein_ix ix;
    cg_nest row = cg_open_for(l, g->row0, g->row1, 1, 0, NULL, NULL);
    cg_nest nest = cg_open_for(l, cg_i64(k, 0), g->cols, g->lanes, 0, NULL, NULL);
    ir_ref col = cg_bin(k, OP_add, g->col0, nest.loop.index);
    ir_ref at = home_place(l, g, row.loop.index, col, ix);
    k->lanes = g->lanes;
    cg_ein_store(l, &g->e, ix, cg_load(k, l->out[0], at, g->lanes));
    k->lanes = 0;
    cg_close_for(l, nest, 0, NULL);
    cg_close_for(l, row, 0, NULL);
}

void gemm_home_chunk(cg_low *l, gemm *g) {
    cg_kernel *k = &l->k;
    ir_ref size = cg_dim(k, g->e.k);
    g->npanel = cg_bin(k, OP_div, g->cols, cg_i64(k, g->col.width));
    cg_nest nest = cg_open_for(l, cg_i64(k, 0), size, CG_KB, 0, NULL, NULL);
    g->k0 = nest.loop.index;
    g->k1 = cg_bin(k, OP_min, cg_bin(k, OP_add, g->k0, cg_i64(k, CG_KB)), size);
    if (!g->direct) gemm_pack_columns(l, g);
    home_block(l, g);
    cg_close_for(l, nest, 0, NULL);
    if (ir_op_in(l->f, ir_return_op(l->f), 0).i != g->e.v.i) home_finish(l, g);
}
