/* gemm.c - contractions of two operands as products of matrices, in panels.
 *
 * Roles.  The operand that has the last axis of the result gives the columns, the other one the
 * rows; each side runs over as many neighbouring axes as its operand alone has, in its order
 * (gemm_find_side).  The other axes of the result (batches) are loops outside.  The reduction
 * variables are one index of K, cut at multiples of IR_KB (numerics rule 7).
 *
 * Panels.  The columns of a chunk are copied into panels, [K][width], width being the columns of a
 * register tile: the loop over K then reads one line after the other whatever the operand's layout
 * is, and 16-bit floats are widened once.  One block of K is packed at a time, which bounds the
 * memory: no size has to be known when the kernel is compiled, and none has to divide another.  A
 * last panel is filled up with zeros; chains are independent, so what its extra lanes hold is
 * dropped.  Rows are read where they lie when K is contiguous along them, else packed tile by tile.
 * When the columns' operand is known at compile time (a weight), it is packed then, whole.  What
 * has nothing to pack, then or because reading the columns where they lie is as good, is
 * gemm_open.c's; gemm_plan.c decides.
 *
 *     for chunk of (outer axes, columns, rows)               shared out to threads
 *         for block of K                                     totals wait in scratch memory
 *             pack the columns of the block
 *             for tile of rows                               its block of K stays in L1
 *                 for panel                                  all panels together stay in L2
 *                     chains of the register tile            gemm_tile.c
 *                     totals += chains
 *         elementwise ops on the totals, row by row, store   written once
 *
 * With one block of K the totals are those of one tile row, finished at once, and chunks of rows
 * that follow each other share the packed columns.  A chunk of columns is a few panels so that
 * everything fits the stack (256 KiB a kernel): a block of a chunk is 128 KiB, the totals at most
 * 96 KiB.
 *
 * Too few rows do not pay for packing, as a column element is used once a row: then whole panels of
 * columns are read where they lie (`direct`), if they lie side by side, and only a last panel that
 * is not whole is packed; what may have few rows at run time has both ways, lower tiles for few
 * (gemm_few; gemm_thin beside a home nest).  A product with a
 * vector where both operands lie along K goes to ein.c. */
#include "codegen/gemm.h"

#include <string.h>

static void gemm_alloc(cg_low *l, gemm *g) {
    ig_dtype r = cg_reg(g->e.d);
    int64_t line = g->panels * g->col.width;
    if (g->open) {
        g->b = l->packed;
        int tile = g->height * g->vectors * g->lanes;
        if (!g->inside) g->total = cg_alloc(&l->k, r, tile);
        if (g->turned) g->a = cg_alloc(&l->k, r, tile);
        return;
    }
    g->b = g->constant ? l->packed : cg_alloc(&l->k, r, gemm_depth(g) * line);
    if (g->home && g->few) g->total = cg_alloc(&l->k, r, GEMM_LOW * line);
    if (g->home) return;
    if (g->pack_rows) g->a = cg_alloc(&l->k, r, gemm_depth(g) * g->height);
    g->total = cg_alloc(&l->k, r, (g->blocks ? g->rows : g->height) * line);
}

/* --- Subscripts ----------------------------------------------------------------------------- */

void gemm_line(cg_low *l, const gemm *g, const gemm_side *s, cg_ix line, cg_ix *ix_) {
    int n = s->last - s->first + 1;
    if (n > 0) cg_ix_split(l, line, n, g->e.type->dim + s->first, ix_ + s->first);
}

/* The subscripts of element k of a line of an operand. */
static void gemm_subscripts(cg_low *l, const gemm *g, const gemm_side *s, cg_ix k, const cg_ix *ix,
                            cg_ix *sub_) {
    const cg_ein *e = &g->e;
    ir_dim dim[IR_EIN_VARS];
    cg_ix part[IR_EIN_VARS] = {{0}};
    for (int v = 0; v < e->rel->norder; v++) dim[v] = e->extent[e->rel->order[v]];
    cg_ix_split(l, k, e->rel->norder, dim, part);
    for (int j = 0; j < e->rel->in[s->operand].n; j++) {
        int var = e->rel->in[s->operand].a[j];
        if (e->axis[var] >= 0) sub_[j] = ix[e->axis[var]];
        for (int v = 0; v < e->rel->norder; v++)
            if (e->rel->order[v] == var) sub_[j] = part[v];
    }
}

ir_ref gemm_element(cg_low *l, const gemm *g, const gemm_side *s, cg_ix k, const cg_ix *ix) {
    cg_ix sub[IG_MAX_RANK] = {{0}};
    gemm_subscripts(l, g, s, k, ix, sub);
    return cg_pull(l, ir_op_in(l->f, g->e.o, (uint32_t)s->operand), sub);
}

void gemm_turn(cg_low *l, const gemm *g, ir_ref line, ir_ref at, ir_ref *x_) {
    cg_kernel *k = &l->k;
    cg_ein_ix ix;
    for (int i = 0; i < g->lanes; i++) {
        memcpy(ix, g->ix, sizeof ix);
        gemm_line(l, g, &g->col, cg_ix_uniform(cg_bin(k, OP_add, line, cg_i64(k, i))), ix);
        k->lanes = g->lanes;
        x_[i] = gemm_element(l, g, &g->col, cg_ix_linear(at), ix);
        k->lanes = 0;
    }
    if (!cg_lower_failed(l)) cg_turn(k, g->lanes, x_);
}

void gemm_fetch(cg_low *l, const gemm *g, ir_ref line, ir_ref at) {
    cg_kernel *k = &l->k;
    ir_ref v = ir_op_in(l->f, g->e.o, (uint32_t)g->col.operand);
    cg_ix sub[IG_MAX_RANK] = {{0}};
    cg_ein_ix ix;
    memcpy(ix, g->ix, sizeof ix);
    gemm_line(l, g, &g->col, cg_ix_uniform(line), ix);
    gemm_subscripts(l, g, &g->col, cg_ix_uniform(at), ix, sub);
    cg_ix flat = cg_ix_flat(l, cg_type(l, v)->rank, cg_type(l, v)->dim, sub);
    cg_prefetch(k, l->mem[v.i], cg_ix_value(l, flat));
}

ir_ref gemm_panel(cg_low *l, const gemm *g, ir_ref p) {
    cg_kernel *k = &l->k;
    ir_ref width = cg_i64(k, g->col.width);
    if (g->constant) {
        ir_ref n = cg_bin(k, OP_add, cg_bin(k, OP_div, g->col0, width), p);
        return cg_bin(k, OP_mul, cg_bin(k, OP_add, g->matrix, n), cg_i64(k, g->e.k * g->col.width));
    }
    ir_ref at = cg_bin(k, OP_mul, p, cg_i64(k, gemm_depth(g) * g->col.width));
    return cg_bin(k, OP_sub, at, cg_bin(k, OP_mul, g->k0, width));
}

/* The other axes of the result that the columns' operand has: extents and subscripts. */
int gemm_matrices(const gemm *g, ir_dim *dim_, cg_ix *ix_) {
    int n = 0;
    for (int i = 0; i < g->n; i++) {
        if (!cg_ein_has(&g->e, g->col.operand, g->e.rel->out.a[g->axis[i]])) continue;
        dim_[n] = g->e.type->dim[g->axis[i]];
        ix_[n++] = g->ix[g->axis[i]];
    }
    return n;
}

/* --- Epilogue ------------------------------------------------------------------------------- */

/* Columns [at, end) of one row, from the totals at `line`. */
static ir_ref gemm_finish_columns(cg_low *l, const gemm *g, cg_ix *ix, ir_ref line, ir_ref at,
                                  ir_ref end, int64_t lanes) {
    cg_kernel *k = &l->k;
    ir_ref to = end;
    if (lanes) to = cg_bit(k, IR_bitop_band, end, cg_i64(k, -lanes));
    cg_nest nest = cg_open_for(l, at, to, lanes ? lanes : 1, 0, NULL, NULL);
    ir_ref col = cg_bin(k, OP_add, g->col0, nest.loop.index);
    k->lanes = lanes;
    gemm_line(l, g, &g->col, lanes ? cg_ix_linear(col) : cg_ix_uniform(col), ix);
    cg_ein_store(l, &g->e, ix,
                 cg_load(k, g->total, cg_bin(k, OP_add, line, nest.loop.index), lanes));
    k->lanes = 0;
    cg_close_for(l, nest, 0, NULL);
    return to;
}

/* Rows [from, to), the totals of the first one at line 0. */
static void gemm_finish(cg_low *l, const gemm *g, ir_ref from, ir_ref to) {
    cg_kernel *k = &l->k;
    cg_ein_ix ix;
    ir_dim left = g->col.lines;
    cg_nest row = cg_open_for(l, from, to, 1, 0, NULL, NULL);
    ir_ref line = cg_bin(k, OP_mul, cg_bin(k, OP_sub, row.loop.index, from),
                         cg_i64(k, g->panels * g->col.width));
    memcpy(ix, g->ix, sizeof ix);
    gemm_line(l, g, &g->row, cg_ix_uniform(row.loop.index), ix);
    ir_ref at = cg_i64(k, 0);
    for (int64_t lanes = CG_LANES; lanes >= CG_LANES / 4; lanes /= 2) {
        if (left >= 0 ? left < lanes : lanes != CG_LANES) continue;
        at = gemm_finish_columns(l, g, ix, line, at, g->cols, lanes);
        if (left >= 0) left %= lanes;
    }
    if (left) gemm_finish_columns(l, g, ix, line, at, g->cols, 0);
    cg_close_for(l, row, 0, NULL);
}

/* --- The nest ------------------------------------------------------------------------------- */

/* Set the totals of the chunk to zero, those of a last tile's missing rows included. */
static void gemm_clear(cg_low *l, const gemm *g) {
    cg_kernel *k = &l->k;
    ir_ref up = cg_bin(k, OP_add, cg_bin(k, OP_sub, g->row1, g->row0), cg_i64(k, g->height - 1));
    ir_ref size = cg_bin(k, OP_mul, cg_bin(k, OP_div, up, cg_i64(k, g->height)),
                         cg_i64(k, g->height * g->panels * g->col.width));
    cg_nest nest = cg_open_for(l, cg_i64(k, 0), size, g->lanes, 0, NULL, NULL);
    cg_store(k, g->total, nest.loop.index, cg_splat(k, cg_int(k, cg_reg(g->e.d), 0), g->lanes));
    cg_close_for(l, nest, 0, NULL);
}

/* n rows from `row` on, against all panels of the chunk. */
static void gemm_tile_row(cg_low *l, const gemm *g, int n, ir_ref row, bool whole) {
    cg_kernel *k = &l->k;
    if (g->pack_rows) gemm_pack_rows(l, g, n, row, whole);
    gemm_tiles(l, g, n, row, whole);
    ir_ref end = cg_bin(k, OP_add, row, cg_i64(k, n));
    if (!whole) end = cg_bin(k, OP_min, end, g->row1);
    if (!g->blocks) gemm_finish(l, g, row, end);
}

/* The rows of the chunk over one block of K. */
static void gemm_rows(cg_low *l, const gemm *g) {
    cg_kernel *k = &l->k;
    ir_dim lines = g->row.lines;
    int left = lines >= 0 ? (int)(lines % g->height) : 0;
    if (lines < 0 || lines >= g->height) {
        ir_ref end = g->row1;
        if (lines >= 0) {
            ir_ref whole =
                cg_bin(k, OP_div, cg_bin(k, OP_sub, g->row1, g->row0), cg_i64(k, g->height));
            end = cg_bin(k, OP_add, g->row0, cg_bin(k, OP_mul, whole, cg_i64(k, g->height)));
        }
        cg_nest nest = cg_open_for(l, g->row0, end, g->height, 0, NULL, NULL);
        gemm_tile_row(l, g, g->height, nest.loop.index, lines >= 0);
        cg_close_for(l, nest, 0, NULL);
    }
    if (!left) return;
    ir_ref from = cg_i64(k, lines - left); /* the last rows of all, when they are in this chunk */
    cg_nest last = cg_open_if(l, cg_cmp(k, IR_cmpop_eq, g->row1, cg_i64(k, lines)));
    gemm_tile_row(l, g, left, from, true);
    cg_open_else(l, last, 0, NULL);
    cg_close_if(l, last, 0, NULL);
}

/* Pack what the block of K needs packed. */
static void gemm_pack(cg_low *l, const gemm *g) {
    if (g->direct)
        gemm_pack_rest(l, g);
    else
        gemm_pack_columns(l, g);
}

/* All of K for the chunk. */
static void gemm_chunk(cg_low *l, gemm *g, ir_ref fresh) {
    cg_kernel *k = &l->k;
    ir_ref size = cg_dim(k, g->e.k);
    ir_ref up = cg_bin(k, OP_add, g->cols, cg_i64(k, g->col.width - 1));
    g->npanel = cg_bin(k, OP_div, up, cg_i64(k, g->col.width));
    if (!g->blocks) {
        g->k0 = cg_i64(k, 0), g->k1 = size;
        if (!g->constant) {
            cg_nest pack = cg_open_if(l, fresh);
            gemm_pack(l, g);
            cg_open_else(l, pack, 0, NULL);
            cg_close_if(l, pack, 0, NULL);
        }
        gemm_rows(l, g);
        return;
    }
    gemm_clear(l, g);
    cg_nest nest = cg_open_for(l, cg_i64(k, 0), size, CG_KB, 0, NULL, NULL);
    g->k0 = nest.loop.index;
    g->k1 = cg_bin(k, OP_min, cg_bin(k, OP_add, g->k0, cg_i64(k, CG_KB)), size);
    if (!g->constant) gemm_pack(l, g);
    gemm_rows(l, g);
    cg_close_for(l, nest, 0, NULL);
    gemm_finish(l, g, g->row0, g->row1);
}

/* The same with too few rows to pack for: in tiles that are lower, and wider for it (tile_panels).
 */
static void gemm_few(cg_low *l, const gemm *g, ir_ref fresh) {
    cg_kernel *k = &l->k;
    gemm low = *g;
    low.direct = true;
    low.height = g->height / 3;
    cg_nest one =
        cg_open_if(l, cg_cmp(k, IR_cmpop_lt, cg_dim(k, g->row.lines), cg_i64(k, low.height)));
    low.height = 1;
    gemm_chunk(l, &low, fresh);
    cg_open_else(l, one, 0, NULL);
    low.height = g->height / 3;
    gemm_chunk(l, &low, fresh);
    cg_close_if(l, one, 0, NULL);
}

/* A home nest with too few rows for it: as an open one, in lower tiles.  One row or two, which wait
 * for memory, take all columns of the chunk at once, if they fit the registers. */
static void gemm_thin(cg_low *l, const gemm *g) {
    cg_kernel *k = &l->k;
    gemm open = *g, low;
    int64_t wide = g->panels * g->col.width, vectors = wide / g->lanes;
    open.open = open.direct = open.few = true;
    open.home = false;
    if (open.height > GEMM_LOW) open.height = GEMM_LOW;
    low = open;
    low.height = GEMM_LOW / 2, low.fetch = 0;
    if (g->col.lines % wide == 0 && (low.height + 1) * vectors < l->cpu->registers) {
        gemm_shape(&low, wide);
        low.col.width = (int)wide, low.panels = 1;
    }
    cg_nest one =
        cg_open_if(l, cg_cmp(k, IR_cmpop_le, cg_dim(k, g->row.lines), cg_i64(k, low.height)));
    gemm_open_chunk(l, &low);
    cg_open_else(l, one, 0, NULL);
    gemm_open_chunk(l, &open);
    cg_close_if(l, one, 0, NULL);
}

/* The chunk in the nest that was planned; fresh: whether its columns have to be packed. */
static void gemm_any_chunk(cg_low *l, gemm *g, ir_ref fresh) {
    cg_kernel *k = &l->k;
    cg_nest few = {0};
    bool both = g->few && !g->open;
    if (g->open) {
        gemm_open_chunk(l, g);
        return;
    }
    if (both) {
        few = cg_open_if(l, cg_cmp(k, IR_cmpop_lt, cg_dim(k, g->row.lines), cg_i64(k, GEMM_THIN)));
        if (g->home)
            gemm_thin(l, g);
        else
            gemm_few(l, g, fresh);
        cg_open_else(l, few, 0, NULL);
    }
    if (g->home) {
        g->fetch = 0;
        gemm_home_chunk(l, g);
    } else {
        gemm_chunk(l, g, fresh);
    }
    if (both) cg_close_if(l, few, 0, NULL);
}

/* The number of the packed matrix that the outer subscripts name, in panels. */
static ir_ref gemm_matrix(cg_low *l, const gemm *g) {
    ir_dim dim[IG_MAX_RANK];
    cg_ix ix[IG_MAX_RANK];
    int n = gemm_matrices(g, dim, ix);
    ir_ref panels = cg_i64(&l->k, (g->col.lines + g->col.width - 1) / g->col.width);
    return cg_bin(&l->k, OP_mul, cg_ix_value(l, cg_ix_flat(l, n, dim, ix)), panels);
}

/* How many chunks lines are shared out to. */
static ir_dim gemm_chunks(cg_low *l, ir_dim lines, int64_t by) {
    return ir_dim_floordiv(l->k.b.m, ir_dim_add(l->k.b.m, lines, by - 1), by);
}

/* Where the chunk with these numbers begins and ends. */
static void gemm_place(cg_low *l, gemm *g, ir_ref c, ir_ref r) {
    cg_kernel *k = &l->k;
    int64_t width = g->panels * g->col.width;
    ir_ref rows = cg_dim(k, g->row.lines), by = cg_i64(k, g->rows), zero = cg_i64(k, 0);
    if (g->row.lines >= 0 && g->row.lines <= g->rows) r = zero;
    if (g->col.lines >= 0 && g->col.lines <= width) c = zero;
    g->row0 = cg_bin(k, OP_mul, r, by);
    g->row1 = cg_bin(k, OP_min, cg_bin(k, OP_add, g->row0, by), rows);
    g->col0 = cg_bin(k, OP_mul, c, cg_i64(k, width));
    g->cols =
        cg_bin(k, OP_min, cg_bin(k, OP_sub, cg_dim(k, g->col.lines), g->col0), cg_i64(k, width));
}

bool cg_gemm_nest(cg_low *l, ir_dim *n_) {
    const ir_op *o = cg_ein_find(l);
    cg_kernel *k = &l->k;
    ir_dim dim[IG_MAX_RANK + 2];
    cg_ix at[IG_MAX_RANK + 2] = {{0}};
    gemm g;
    if (!o) return false;
    if (!gemm_plan(l, o, l->packed_name != NULL, &g)) {
        cg_ein_nest(l, o, n_);
        return true;
    }
    gemm_alloc(l, &g);
    for (int i = 0; i < g.n; i++) dim[i] = g.e.type->dim[g.axis[i]];
    int col = g.n + g.open, row = g.n + !g.open; /* columns that were packed serve rows in turn */
    dim[col] = gemm_chunks(l, g.col.lines, g.panels * g.col.width);
    dim[row] = gemm_chunks(l, g.row.lines, g.rows);
    *n_ = 1;
    for (int i = 0; i < g.n + 2; i++) *n_ = ir_dim_mul(k->b.m, *n_, dim[i]);
    cg_nest nest = cg_open_for(l, l->lo, l->hi, 1, 0, NULL, NULL);
    cg_ix_split(l, cg_ix_uniform(nest.loop.index), g.n + 2, dim, at);
    for (int i = 0; i < g.n + 2; i++) at[i] = cg_ix_solid(l, at[i]);
    for (int i = 0; i < g.n; i++) g.ix[g.axis[i]] = at[i];
    if (g.constant) g.matrix = gemm_matrix(l, &g);
    gemm_place(l, &g, (ir_ref){at[col].r}, (ir_ref){at[row].r});
    ir_ref fresh = {0};
    if (!g.open && !g.home)
        fresh = cg_bit(k, IR_bitop_bor, cg_cmp(k, IR_cmpop_eq, nest.loop.index, l->lo),
                       cg_cmp(k, IR_cmpop_eq, (ir_ref){at[row].r}, cg_i64(k, 0)));
    gemm_any_chunk(l, &g, fresh);
    cg_close_for(l, nest, 0, NULL);
    return true;
}
