/* gemm_tile.c - the register tile of a contraction.
 *
 * n rows x w panels are n * w * vectors chains in registers.  A step of K loads the column vectors
 * once for all rows and each row's element once for all columns.  Rows past the last one repeat it,
 * panels past the last one repeat that, and what they give is dropped: no tile but the whole one is
 * written, and nothing outside the operands is read. */
#include "codegen/gemm.h"

#include <string.h>

#define TILE_PANELS 4

/* Where the elements of a tile's operands are. */
typedef struct tile {
    int n, w;
    ir_ref row[GEMM_CHAINS]; /* subscripts of the rows */
    ir_ref panel[TILE_PANELS];
    /* direct: the first column; else */ /* where k = 0 of a panel would lie */
    ir_ref first;                        /* the first panel's number */
} tile;

/* Panels side by side: few rows leave registers for several, whose chains overlap. */
static int tile_panels(const cg_low *l, const gemm *g, int n) {
    int w = 1;
    while (w < TILE_PANELS && 2 * w * n <= l->cpu->tile_rows && 2 * w <= g->panels) w *= 2;
    return w;
}

/* Row i's element at k: from the packed tile, or where the operand lies. */
static ir_ref tile_row(cg_low *l, const gemm *g, const tile *t, int i, ir_ref at) {
    cg_kernel *k = &l->k;
    cg_ein_ix ix;
    if (g->pack_rows) {
        ir_ref line = cg_bin(k, OP_mul, cg_bin(k, OP_sub, at, g->k0), cg_i64(k, g->height));
        return cg_load(k, g->a, cg_bin(k, OP_add, line, cg_i64(k, i)), 0);
    }
    memcpy(ix, g->ix, sizeof ix);
    gemm_line(l, g, &g->row, cg_ix_uniform(t->row[i]), ix);
    return gemm_element(l, g, &g->row, cg_ix_uniform(at), ix);
}

/* Vector j of a panel at k. */
static ir_ref tile_column(cg_low *l, const gemm *g, ir_ref panel, int j, ir_ref at) {
    cg_kernel *k = &l->k;
    cg_ein_ix ix;
    ir_ref first = cg_i64(k, gemm_column(g, j));
    if (!g->direct) {
        ir_ref line = cg_bin(k, OP_add, panel, cg_bin(k, OP_mul, at, cg_i64(k, g->col.width)));
        return cg_load(k, g->b, cg_bin(k, OP_add, line, first), gemm_lanes(g, j));
    }
    memcpy(ix, g->ix, sizeof ix);
    k->lanes = gemm_lanes(g, j);
    gemm_line(l, g, &g->col, cg_ix_linear(cg_bin(k, OP_add, panel, first)), ix);
    ir_ref x = gemm_element(l, g, &g->col, cg_ix_uniform(at), ix);
    k->lanes = 0;
    return x;
}

/* chain + x * y in the arithmetic of the element type. */
static ir_ref tile_product(cg_low *l, const gemm *g, ir_ref x, ir_ref y, ir_ref chain) {
    ir_ref in[3] = {x, y, chain};
    if (rt_is_float(cg_reg(g->e.d))) return cg_ew(&l->k, OP_fma, NULL, cg_reg(g->e.d), 3, in);
    return cg_bin(&l->k, OP_add, chain, cg_bin(&l->k, OP_mul, x, y));
}

/* One step of K into the chains. */
static void tile_step(cg_low *l, const gemm *g, const tile *t, ir_ref at, const ir_ref *in,
                      ir_ref *out) {
    cg_kernel *k = &l->k;
    int wide = t->w * g->vectors;
    ir_ref column[GEMM_CHAINS];
    for (int j = 0; j < wide; j++) {
        ir_ref panel = t->panel[j / g->vectors];
        column[j] = tile_column(l, g, panel, j % g->vectors, at);
        if (g->direct && g->fetch)
            gemm_fetch(l, g, cg_bin(k, OP_add, panel, cg_i64(k, gemm_column(g, j))),
                       cg_bin(k, OP_add, at, cg_i64(k, g->fetch)));
    }
    for (int i = 0; i < t->n; i++) {
        ir_ref x = cg_splat(k, tile_row(l, g, t, i, at), gemm_lanes(g, 0));
        for (int j = 0; j < wide; j++) {
            while (cg_lanes_of(k, x) > gemm_lanes(g, j)) x = cg_half(k, x, 0);
            out[i * wide + j] = tile_product(l, g, x, column[j], in[i * wide + j]);
        }
    }
}

/* Write the part of a row's address that does not depend on k before the loop over it; the code
 * inside finds it by value numbering. */
static void tile_warm(cg_low *l, const gemm *g, ir_ref row) {
    const ir_rel *rel = g->e.rel;
    const ir_axes *a = &rel->in[g->row.operand];
    cg_ein_ix ix, sub = {{0}};
    memcpy(ix, g->ix, sizeof ix);
    gemm_line(l, g, &g->row, cg_ix_uniform(row), ix);
    for (int j = 0; j < a->n; j++)
        sub[j] = g->e.axis[a->a[j]] >= 0 ? ix[g->e.axis[a->a[j]]] : cg_ix_const(l, 0);
    cg_ix_flat(l, a->n, cg_type(l, ir_op_in(l->f, g->e.o, (uint32_t)g->row.operand))->dim, sub);
}

/* As many steps of K as a vector has lanes, from `at` on, for the columns of vector j: lines of K
 * are transposed.  Their chains wait in memory. */
static void tile_steps_turned(cg_low *l, const gemm *g, const tile *t, ir_ref at, ir_ref j) {
    cg_kernel *k = &l->k;
    ir_ref column[CG_LANES], place[GEMM_CHAINS], sum[GEMM_CHAINS], lanes = cg_i64(k, g->lanes);
    ir_ref line = cg_bin(k, OP_add, t->panel[0], cg_bin(k, OP_mul, j, lanes));
    gemm_turn(l, g, line, at, column);
    for (int i = 0; i < g->lanes && g->fetch; i++)
        gemm_fetch(l, g, cg_bin(k, OP_add, line, cg_i64(k, i)),
                   cg_bin(k, OP_add, at, cg_i64(k, g->fetch)));
    for (int i = 0; i < t->n; i++) {
        place[i] = cg_bin(k, OP_mul, cg_bin(k, OP_add, cg_i64(k, i * g->vectors), j), lanes);
        sum[i] = cg_load(k, g->a, place[i], g->lanes);
    }
    for (int s = 0; s < g->lanes; s++)
        for (int i = 0; i < t->n; i++) {
            ir_ref x = tile_row(l, g, t, i, cg_bin(k, OP_add, at, cg_i64(k, s)));
            sum[i] = tile_product(l, g, cg_splat(k, x, g->lanes), column[s], sum[i]);
        }
    for (int i = 0; i < t->n; i++) cg_store(k, g->a, place[i], sum[i]);
}

/* The part of the block of K that is whole vectors; where it ends.  A transposition fills the
 * registers, so that the vectors of columns are a loop: they take turns, and while the products of
 * one wait for each other the next one is transposed. */
static ir_ref tile_run_turned(cg_low *l, const gemm *g, const tile *t, ir_ref *chain) {
    cg_kernel *k = &l->k;
    int n = t->n * g->vectors;
    ir_ref zero = cg_i64(k, 0), whole = cg_bin(k, OP_sub, g->k1, g->k0);
    whole = cg_bin(k, OP_add, g->k0, cg_bit(k, IR_bitop_band, whole, cg_i64(k, -g->lanes)));
    for (int i = 0; i < n; i++) cg_store(k, g->a, cg_i64(k, i * g->lanes), chain[i]);
    cg_nest nest = cg_open_for(l, g->k0, whole, g->lanes, 0, NULL, NULL);
    cg_nest turn = cg_open_for(l, zero, cg_i64(k, g->vectors), 1, 0, NULL, NULL);
    tile_steps_turned(l, g, t, nest.loop.index, turn.loop.index);
    cg_close_for(l, turn, 0, NULL);
    cg_close_for(l, nest, 0, NULL);
    for (int i = 0; i < n; i++) chain[i] = cg_load(k, g->a, cg_i64(k, i * g->lanes), g->lanes);
    return whole;
}

/* Run the chains over the block of K. */
static void tile_run(cg_low *l, const gemm *g, const tile *t, ir_ref *chain) {
    cg_kernel *k = &l->k;
    int n = t->n * t->w * g->vectors;
    ir_ref in[GEMM_CHAINS], out[GEMM_CHAINS], from = g->k0, zero = cg_int(k, cg_reg(g->e.d), 0);
    for (int i = 0; i < n; i++) chain[i] = cg_splat(k, zero, gemm_lanes(g, i));
    for (int i = 0; i < t->n && !g->pack_rows; i++) tile_warm(l, g, t->row[i]);
    if (g->direct && g->turned) {
        from = tile_run_turned(l, g, t, chain);
        if (g->e.k >= 0 && g->e.k % g->lanes == 0) return;
    }
    cg_nest nest = cg_open_for(l, from, g->k1, 1, n, chain, in);
    tile_step(l, g, t, nest.loop.index, in, out);
    ir_ref r = cg_close_for(l, nest, n, out);
    for (int i = 0; i < n; i++) chain[i] = ir_result(r, (uint32_t)i);
}

/* Add the partial sums to the totals. */
static void tile_add(cg_low *l, const gemm *g, const tile *t, ir_ref row, const ir_ref *chain) {
    cg_kernel *k = &l->k;
    int wide = t->w * g->vectors, line = g->panels * g->col.width;
    ir_ref zero = cg_splat(k, cg_int(k, cg_reg(g->e.d), 0), g->lanes);
    ir_ref at = cg_bin(k, OP_mul, t->first, cg_i64(k, g->col.width));
    if (g->blocks)
        at = cg_bin(k, OP_add, at,
                    cg_bin(k, OP_mul, cg_bin(k, OP_sub, row, g->row0), cg_i64(k, line)));
    for (int i = 0; i < t->n; i++)
        for (int j = 0; j < wide; j++) {
            ir_ref to = cg_bin(k, OP_add, at, cg_i64(k, i * line + j * g->lanes));
            ir_ref sum = g->blocks ? cg_load(k, g->total, to, g->lanes) : zero;
            cg_store(k, g->total, to, cg_monoid(l, IR_redop_sum, g->e.d, sum, chain[i * wide + j]));
        }
}

/* Panels [from, to), w at a time. */
static void tile_sweep(cg_low *l, const gemm *g, tile *t, ir_ref row, ir_ref from, ir_ref to) {
    cg_kernel *k = &l->k;
    ir_ref chain[GEMM_CHAINS], last = cg_bin(k, OP_sub, to, cg_i64(k, 1));
    cg_nest nest = cg_open_for(l, from, to, t->w, 0, NULL, NULL);
    t->first = nest.loop.index;
    for (int p = 0; p < t->w; p++) {
        ir_ref at = cg_bin(k, OP_add, t->first, cg_i64(k, p));
        if (p && !g->direct) at = cg_bin(k, OP_min, at, last);
        ir_ref col = cg_bin(k, OP_mul, at, cg_i64(k, g->col.width));
        t->panel[p] = g->direct ? cg_bin(k, OP_add, g->col0, col) : gemm_panel(l, g, at);
    }
    tile_run(l, g, t, chain);
    tile_add(l, g, t, row, chain);
    cg_close_for(l, nest, 0, NULL);
}

/* Whole panels where they lie, then the packed rest.  What repeats a last panel would meet that. */
static void tile_direct(cg_low *l, const gemm *g, tile *t, ir_ref row) {
    cg_kernel *k = &l->k;
    ir_ref from = cg_i64(k, 0), left = cg_bin(k, OP_div, g->cols, cg_i64(k, g->col.width));
    ir_dim lines = g->col.lines;
    gemm rest = *g;
    rest.direct = false;
    if (t->w > 1 && (lines < 0 || lines % (g->panels * g->col.width))) {
        ir_ref some = cg_bit(k, IR_bitop_band, left, cg_i64(k, -t->w));
        tile_sweep(l, g, t, row, from, some);
        t->w = 1, from = some;
    }
    tile_sweep(l, g, t, row, from, left);
    t->w = 1;
    if (lines < 0 || lines % g->col.width) tile_sweep(l, &rest, t, row, left, g->npanel);
}

void gemm_tiles(cg_low *l, const gemm *g, int n, ir_ref row, bool whole) {
    cg_kernel *k = &l->k;
    tile t = {.n = n, .w = tile_panels(l, g, n)};
    ir_ref last = cg_bin(k, OP_sub, g->row1, cg_i64(k, 1));
    for (int i = 0; i < n; i++) {
        t.row[i] = cg_bin(k, OP_add, row, cg_i64(k, i));
        if (i && !whole) t.row[i] = cg_bin(k, OP_min, t.row[i], last);
    }
    if (g->direct)
        tile_direct(l, g, &t, row);
    else
        tile_sweep(l, g, &t, row, cg_i64(k, 0), g->npanel);
}

void gemm_tile_chains(cg_low *l, const gemm *g, const ir_ref *row, ir_ref panel, ir_ref *chain_) {
    tile t = {.n = g->height, .w = 1, .panel = {panel}};
    memcpy(t.row, row, (size_t)g->height * sizeof *row);
    tile_run(l, g, &t, chain_);
}
