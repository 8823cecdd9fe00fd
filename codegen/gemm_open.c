/* gemm_open.c - products of matrices that pack nothing while they run: the columns' operand is read
 * where it lies, or was packed when the program was compiled.
 *
 *     for chunk of (outer axes, rows, columns)               shared out to threads
 *         for panel                                          its lines of K stay in a cache
 *             for tile of rows                               the rows of the chunk stay in L2
 *                 for block of K                             totals of one tile, in L1
 *                     chains of the register tile            gemm_tile.c
 *                 elementwise ops, store
 *
 * There is one size of tile, or a second, narrower one for the last columns, whose last vector has
 * as few lanes as hold what is left.  What still does not divide is met by overlap: the last vector
 * ends with the last column and the last tile with the last row, and what lies in two of them is
 * computed and stored twice, with the same bits, since every element is a chain of its own and
 * memplan never lets a contraction write over what it reads.  So no element outside is touched, and
 * no test runs inside.  A number of rows that is known only then may be less than a tile's: such a
 * kernel has lower tiles as well, which repeat the last row.
 *
 * Elementwise ops that cost little run on the registers of the tile; others on a copy of it in L1,
 * row by row, so that their code is written once. */
#include "codegen/gemm.h"

#include <string.h>

#define OPEN_FEW 2 /* rows of a lower tile: as many take as long as one, memory being slower */

/* The first column of panel p of the chunk. */
static ir_ref open_column(cg_low *l, const gemm *g, ir_ref p) {
    cg_kernel *k = &l->k;
    ir_ref at = cg_bin(k, OP_add, g->col0, cg_bin(k, OP_mul, p, cg_i64(k, g->col.width)));
    if (g->col.lines % g->col.width == 0) return at;
    return cg_bin(k, OP_min, at, cg_i64(k, g->col.lines - g->col.width));
}

/* The rows of the tile that begins with row `at`; with fewer rows than that, the last one again. */
static void open_rows(cg_low *l, const gemm *g, ir_ref at, ir_ref *row) {
    cg_kernel *k = &l->k;
    ir_ref lines = cg_dim(k, g->row.lines), height = cg_i64(k, g->height);
    if (!g->few && (g->row.lines < 0 || g->row.lines % g->height))
        at = cg_bin(k, OP_min, at, cg_bin(k, OP_sub, lines, height));
    for (int i = 0; i < g->height; i++) {
        row[i] = cg_bin(k, OP_add, at, cg_i64(k, i));
        if (g->few && i) row[i] = cg_bin(k, OP_min, row[i], cg_bin(k, OP_sub, lines, cg_i64(k, 1)));
    }
}

/* Store a vector of a row, from column `col` on, whose contraction is known. */
static void open_store(cg_low *l, const gemm *g, ir_ref row, ir_ref col, ir_ref sum) {
    cg_kernel *k = &l->k;
    cg_ein_ix ix;
    memcpy(ix, g->ix, sizeof ix);
    gemm_line(l, g, &g->row, cg_ix_uniform(row), ix);
    k->lanes = cg_lanes_of(k, sum);
    gemm_line(l, g, &g->col, cg_ix_linear(col), ix);
    cg_ein_store(l, &g->e, ix, sum);
    k->lanes = 0;
}

/* The epilogue on the registers. */
static void open_finish_inside(cg_low *l, const gemm *g, const ir_ref *row, ir_ref col,
                               const ir_ref *chain) {
    cg_kernel *k = &l->k;
    ir_ref zero = cg_int(k, cg_reg(g->e.d), 0);
    for (int i = 0; i < g->height * g->vectors; i++) {
        ir_ref sum = cg_splat(k, zero, gemm_lanes(g, i));
        open_store(l, g, row[i / g->vectors], cg_bin(k, OP_add, col, cg_i64(k, gemm_column(g, i))),
                   cg_monoid(l, IR_redop_sum, g->e.d, sum, chain[i]));
    }
}

/* n columns of a row from `col` on, which lie at `at` in the copy, by so many lanes. */
static void open_finish_line(cg_low *l, const gemm *g, ir_ref row, ir_ref col, ir_ref at, int64_t n,
                             int64_t lanes) {
    cg_kernel *k = &l->k;
    cg_nest nest = cg_open_for(l, cg_i64(k, 0), cg_i64(k, n), lanes, 0, NULL, NULL);
    ir_ref sum = cg_load(k, g->total, cg_bin(k, OP_add, at, nest.loop.index), lanes);
    open_store(l, g, row, cg_bin(k, OP_add, col, nest.loop.index), sum);
    cg_close_for(l, nest, 0, NULL);
}

/* The epilogue on the copy, where every vector has a place of its own. */
static void open_finish(cg_low *l, const gemm *g, const ir_ref *row, ir_ref col) {
    cg_kernel *k = &l->k;
    int64_t pitch = (int64_t)g->vectors * g->lanes;
    int64_t whole = g->columns == pitch ? pitch : pitch - g->lanes;
    int64_t lanes = whole % CG_LANES ? g->lanes : CG_LANES;
    ir_ref n = cg_i64(k, g->height);
    if (g->few) n = cg_bin(k, OP_min, n, cg_bin(k, OP_sub, cg_dim(k, g->row.lines), row[0]));
    cg_nest line = cg_open_for(l, cg_i64(k, 0), n, 1, 0, NULL, NULL);
    ir_ref at = cg_bin(k, OP_mul, line.loop.index, cg_i64(k, pitch));
    ir_ref to = cg_bin(k, OP_add, row[0], line.loop.index);
    if (whole) open_finish_line(l, g, to, col, at, whole, lanes);
    if (whole < pitch)
        open_finish_line(l, g, to, cg_bin(k, OP_add, col, cg_i64(k, g->columns - g->tail)),
                         cg_bin(k, OP_add, at, cg_i64(k, whole)), g->tail, g->tail);
    cg_close_for(l, line, 0, NULL);
}

/* Put the chains into the copy: the first block of K adds to zero. */
static void open_add(cg_low *l, const gemm *g, bool first, const ir_ref *chain) {
    cg_kernel *k = &l->k;
    ir_ref zero = cg_int(k, cg_reg(g->e.d), 0);
    for (int i = 0; i < g->height * g->vectors; i++) {
        int lanes = gemm_lanes(g, i);
        ir_ref at = cg_i64(k, i * g->lanes);
        ir_ref sum = first ? cg_splat(k, zero, lanes) : cg_load(k, g->total, at, lanes);
        cg_store(k, g->total, at, cg_monoid(l, IR_redop_sum, g->e.d, sum, chain[i]));
    }
}

/* One tile over all of K. */
static void open_tile(cg_low *l, gemm *g, const ir_ref *row, ir_ref panel, ir_ref col) {
    cg_kernel *k = &l->k;
    ir_ref chain[GEMM_CHAINS], size = cg_dim(k, g->e.k), zero = cg_i64(k, 0);
    if (!g->blocks) {
        g->k0 = zero, g->k1 = size;
        gemm_tile_chains(l, g, row, panel, chain);
        if (g->inside) {
            open_finish_inside(l, g, row, col, chain);
            return;
        }
        open_add(l, g, true, chain);
    } else {
        ir_ref tile = cg_i64(k, g->height * g->vectors * g->lanes);
        cg_nest clear = cg_open_for(l, zero, tile, g->lanes, 0, NULL, NULL);
        cg_store(k, g->total, clear.loop.index,
                 cg_splat(k, cg_int(k, cg_reg(g->e.d), 0), g->lanes));
        cg_close_for(l, clear, 0, NULL);
        cg_nest nest = cg_open_for(l, zero, size, CG_KB, 0, NULL, NULL);
        g->k0 = nest.loop.index;
        g->k1 = cg_bin(k, OP_min, cg_bin(k, OP_add, g->k0, cg_i64(k, CG_KB)), size);
        gemm_tile_chains(l, g, row, panel, chain);
        open_add(l, g, false, chain);
        cg_close_for(l, nest, 0, NULL);
    }
    open_finish(l, g, row, col);
}

/* All rows of the chunk against one panel. */
static void open_column_of_tiles(cg_low *l, gemm *g, ir_ref panel, ir_ref col) {
    ir_ref row[GEMM_CHAINS];
    cg_nest tile = cg_open_for(l, g->row0, g->row1, g->height, 0, NULL, NULL);
    open_rows(l, g, tile.loop.index, row);
    open_tile(l, g, row, g->direct ? col : panel, col);
    cg_close_for(l, tile, 0, NULL);
}

/* The same, in lower tiles when the rows turn out to be fewer than a tile has. */
static void open_panel(cg_low *l, gemm *g, ir_ref panel, ir_ref col) {
    cg_kernel *k = &l->k;
    gemm few = *g;
    int64_t lo, hi;
    if (g->few) {
        open_column_of_tiles(l, g, panel, col);
        return;
    }
    ir_dim_range(k->b.m, g->row.lines, &lo, &hi);
    few.few = true;
    if (few.height > OPEN_FEW) few.height = OPEN_FEW;
    cg_nest branch = {0};
    if (lo < g->height && hi >= g->height)
        branch =
            cg_open_if(l, cg_cmp(k, IR_cmpop_le, cg_i64(k, g->height), cg_dim(k, g->row.lines)));
    if (hi >= g->height) open_column_of_tiles(l, g, panel, col);
    if (branch.loop.op) cg_open_else(l, branch, 0, NULL);
    if (lo < g->height) open_column_of_tiles(l, &few, panel, col);
    if (branch.loop.op) cg_close_if(l, branch, 0, NULL);
}

/* The narrower panel with the last columns, when they are in this chunk: packed, the end of the
 * last one. */
static void open_rest(cg_low *l, const gemm *g, ir_ref whole) {
    cg_kernel *k = &l->k;
    gemm rest = *g;
    gemm_shape(&rest, g->rest);
    ir_ref end = cg_bin(k, OP_add, g->col0, g->cols), lines = cg_i64(k, g->col.lines);
    cg_nest last = cg_open_if(l, cg_cmp(k, IR_cmpop_eq, end, lines));
    ir_ref panel = g->direct ? lines : gemm_panel(l, g, whole);
    panel = cg_bin(k, OP_add, panel, cg_i64(k, g->col.width - rest.columns));
    open_panel(l, &rest, panel, cg_i64(k, g->col.lines - rest.columns));
    cg_open_else(l, last, 0, NULL);
    cg_close_if(l, last, 0, NULL);
}

void gemm_open_chunk(cg_low *l, gemm *g) {
    cg_kernel *k = &l->k;
    ir_ref width = cg_i64(k, g->col.width), cols = g->cols;
    if (!g->rest) cols = cg_bin(k, OP_add, cols, cg_i64(k, g->col.width - 1));
    ir_ref n = cg_bin(k, OP_div, cols, width);
    cg_nest nest = cg_open_for(l, cg_i64(k, 0), n, 1, 0, NULL, NULL);
    ir_ref p = nest.loop.index, col = open_column(l, g, p);
    open_panel(l, g, g->direct ? col : gemm_panel(l, g, p), col);
    cg_close_for(l, nest, 0, NULL);
    if (g->rest) open_rest(l, g, n);
}
