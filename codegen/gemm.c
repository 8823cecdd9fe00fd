/* gemm.c - contractions in the order of numerics rule 7.
 *
 * The reduction index runs over the box of the listed variables, cut into blocks of IR_KB; a block
 * is one chain (fused multiply-adds when the body is a product of two) from +0, and total = total +
 * partial for every block.  The chains of different output elements are independent, so a tile of
 * rows x one vector of columns runs side by side in registers: the loads of a column vector serve
 * all rows, and those of a row element all columns, because the pull evaluator writes each
 * (operand, subscript) once.
 *
 * The vector runs along the last output axis.  The operand that has that axis and not the rows' is
 * packed: columns of it are copied into a few panels, each [K][CG_LANES] and contiguous, which all
 * row tiles of a chunk of rows use.  So the loop over K reads one line after the other whatever the
 * operand's layout is, a last panel is filled up with zeros (chains are independent, what its extra
 * lanes hold is dropped), and 16-bit floats are widened once.  Several panels at a time read whole
 * pages of the operand and use a tile of the other one several times.  Panels are scratch memory,
 * hence need a constant K; too few rows do not pay for them.  Otherwise operands are read where
 * they lie.
 *
 * Elementwise ops on the contraction (the epilogue) run on the finished tile, row by row
 * from scratch memory, so that their code is written once. */
#include "codegen/lower.h"
#include "runtime/base/plant.h"

#include <string.h>

#define GEMM_KB        (RT_PLANTED(wrong_k_cut) ? 256 : IR_KB)
#define GEMM_ROWS_MAX  12
#define GEMM_CHUNK     32 /* row tiles that share a panel: packing costs as much as 3 to 10 rows */
#define GEMM_PANELS    8  /* packed together, when they fit */
#define GEMM_PACK_ROWS 8  /* from here on packing pays */
/* Bytes of panels: of the stack, which has 256 KiB a kernel; an L2 cache holds them, and a chunk.
 */
#define GEMM_PANEL_BYTES (192 << 10)

typedef struct gemm {
    const ir_op *o;
    const ir_rel *rel;
    ir_ref v; /* the contraction */
    const ir_type *type;
    ig_dtype d;
    ir_dim extent[IR_EIN_VARS];
    int8_t axis[IR_EIN_VARS]; /* output axis of a variable, -1: reduced */
    ir_dim k;                 /* size of the reduction box */
    int row;                  /* output axis of the tile's rows, -1: none */
    int rows;                 /* rows of a tile */
    bool plain;               /* the kernel's result is the contraction itself */
    bool dots;                /* rows run along the last axis, in single elements */
    int pack;                 /* the operand read from the panels, -1: none */
    int panels;               /* packed together */
    ir_ref panel, line;       /* their memory, and where the one in use begins */
} gemm;

static gemm gemm_begin(cg_low *l, const ir_op *o) {
    const ir_attr_ein *a = ir_attr_get(l->f->module, o->attr);
    gemm g = {
        .o = o, .rel = &a->rel, .v = ir_op_out(o, 0), .k = 1, .row = -1, .rows = 1, .pack = -1};
    g.type = cg_type(l, g.v);
    g.d = (ig_dtype)g.type->dtype;
    memset(g.axis, -1, sizeof g.axis);
    for (int i = 0; i < g.rel->nin; i++)
        for (int j = 0; j < g.rel->in[i].n; j++)
            g.extent[g.rel->in[i].a[j]] = cg_type(l, ir_op_in(l->f, o, (uint32_t)i))->dim[j];
    for (int i = 0; i < g.rel->out.n; i++) g.axis[g.rel->out.a[i]] = (int8_t)i;
    for (int i = 0; i < g.rel->norder; i++)
        g.k = ir_dim_mul(l->k.b.m, g.k, g.extent[g.rel->order[i]]);
    return g;
}

/* --- Chains --------------------------------------------------------------------------------- */

typedef cg_ix gemm_ix[IG_MAX_RANK];

/* The reduction variables as they are carried through the loops: one counter each, last one
 * fastest. */
typedef struct gemm_at {
    int n;
    ir_ref at[IR_EIN_VARS], panel;
} gemm_at;

/* Operand i for the output element at `ix`. */
static ir_ref gemm_operand(cg_low *l, const gemm *g, int i, const cg_ix *ix, const gemm_at *at) {
    cg_ix sub[IG_MAX_RANK] = {{0}};
    if (i == g->pack) return at->panel;
    for (int j = 0; j < g->rel->in[i].n; j++) {
        int var = g->rel->in[i].a[j];
        if (g->axis[var] >= 0) {
            sub[j] = ix[g->axis[var]];
            continue;
        }
        for (int v = 0; v < at->n; v++)
            if (g->rel->order[v] == var) sub[j] = cg_ix_uniform(at->at[v]);
    }
    return cg_pull(l, ir_op_in(l->f, g->o, (uint32_t)i), sub);
}

/* One tuple of the reduction index into the chain. */
static ir_ref gemm_tuple(cg_low *l, const gemm *g, const cg_ix *ix, const gemm_at *at,
                         ir_ref chain) {
    ig_dtype r = cg_reg(g->d);
    ir_redop op = (ir_redop)g->rel->monoid;
    ir_ref body = gemm_operand(l, g, 0, ix, at), in[3];
    if (op == IR_redop_sum && g->rel->nin == 2 && rt_is_float(r)) {
        in[0] = body, in[1] = gemm_operand(l, g, 1, ix, at), in[2] = chain;
        return cg_ew(&l->k, OP_fma, NULL, r, 3, in);
    }
    for (int i = 1; i < g->rel->nin; i++) {
        in[0] = body, in[1] = gemm_operand(l, g, i, ix, at);
        body = cg_ew(&l->k, OP_mul, NULL, r, 2, in);
    }
    return cg_monoid(l, op, g->d, chain, body);
}

/* The next tuple: count the last variable up, carry into the ones before. */
static void gemm_next(cg_low *l, const gemm *g, gemm_at *at) {
    cg_kernel *k = &l->k;
    ir_ref one = cg_i64(k, 1), carry = {0};
    for (int v = at->n - 1; v >= 0; v--) {
        ir_ref up = cg_bin(k, OP_add, at->at[v], one);
        ir_ref next = carry.i ? cg_select(k, carry, up, at->at[v]) : up;
        if (v == 0) {
            at->at[v] = next;
            return;
        }
        ir_ref full = cg_cmp(k, IR_cmpop_eq, next, cg_dim(k, g->extent[g->rel->order[v]]));
        at->at[v] = cg_select(k, full, cg_i64(k, 0), next);
        carry = full;
    }
}

/* Advance n chains over [lo, hi) of the reduction index.  A single variable is the loop index
 * itself. */
static void gemm_run(cg_low *l, const gemm *g, int n, const gemm_ix *ix, ir_ref lo, ir_ref hi,
                     gemm_at *at, ir_ref *chain) {
    ir_ref in[GEMM_ROWS_MAX + IR_EIN_VARS], init[GEMM_ROWS_MAX + IR_EIN_VARS],
        out[GEMM_ROWS_MAX + IR_EIN_VARS];
    int vars = at->n > 1 ? at->n : 0, total = n + vars;
    memcpy(init, chain, (size_t)n * sizeof *chain);
    memcpy(init + n, at->at, (size_t)vars * sizeof *at->at);
    cg_nest nest = cg_open_for(l, lo, hi, 1, total, init, in);
    gemm_at here = {.n = at->n};
    memcpy(here.at, in + n, (size_t)vars * sizeof *in);
    if (at->n == 1) here.at[0] = nest.loop.index;
    if (g->pack >= 0) {
        ir_ref line = cg_bin(&l->k, OP_mul, nest.loop.index, cg_i64(&l->k, CG_LANES));
        here.panel = cg_load(&l->k, g->panel, cg_bin(&l->k, OP_add, g->line, line), CG_LANES);
    }
    for (int i = 0; i < n; i++) out[i] = gemm_tuple(l, g, ix[i], &here, in[i]);
    if (vars) gemm_next(l, g, &here);
    memcpy(out + n, here.at, (size_t)vars * sizeof *out);
    ir_ref r = cg_close_for(l, nest, total, out);
    for (int i = 0; i < n; i++) chain[i] = ir_result(r, (uint32_t)i);
    for (int i = 0; i < vars; i++) at->at[i] = ir_result(r, (uint32_t)(n + i));
}

/* Write the products and sums of subscripts that do not depend on the reduction before its loop;
 * the code inside finds them by value numbering. */
static void gemm_warm(cg_low *l, const gemm *g, int n, const gemm_ix *ix) {
    for (int i = 0; i < n; i++)
        for (int k = 0; k < g->rel->nin; k++) {
            const ir_type *t = cg_type(l, ir_op_in(l->f, g->o, (uint32_t)k));
            cg_ix sub[IG_MAX_RANK] = {{0}};
            for (int j = 0; j < t->rank; j++) {
                int axis = g->axis[g->rel->in[k].a[j]];
                sub[j] = axis >= 0 ? ix[i][axis] : cg_ix_const(l, 0);
            }
            cg_ix_flat(l, t->rank, t->dim, sub);
        }
}

/* total = total + partial for every block.  Totals wait in scratch memory: the registers are for
 * the chains. */
static void gemm_blocks(cg_low *l, const gemm *g, int n, const gemm_ix *ix, int64_t lanes,
                        ir_ref id, gemm_at *at, ir_ref *out) {
    cg_kernel *k = &l->k;
    ir_ref size = cg_dim(k, g->k), total = l->scratch[g->v.i], in[IR_EIN_VARS], part[GEMM_ROWS_MAX];
    ir_ref slot[GEMM_ROWS_MAX];
    int vars = at->n > 1 ? at->n : 0;
    for (int i = 0; i < n; i++) {
        slot[i] = cg_i64(k, i * (lanes ? lanes : 1));
        cg_store(k, total, slot[i], id);
        part[i] = id;
    }
    cg_nest nest = cg_open_for(l, cg_i64(k, 0), size, GEMM_KB, vars, at->at, in);
    ir_ref end = cg_bin(k, OP_min, cg_bin(k, OP_add, nest.loop.index, cg_i64(k, GEMM_KB)), size);
    memcpy(at->at, in, (size_t)vars * sizeof *in);
    gemm_run(l, g, n, ix, nest.loop.index, end, at, part);
    for (int i = 0; i < n; i++)
        cg_store(k, total, slot[i],
                 cg_monoid(l, IR_redop_sum, g->d, cg_load(k, total, slot[i], lanes), part[i]));
    cg_close_for(l, nest, vars, at->at);
    for (int i = 0; i < n; i++) out[i] = cg_load(k, total, slot[i], lanes);
}

/* The registers of n output elements (vectors where the subscripts differ between lanes),
 * unrounded. */
static void gemm_chains(cg_low *l, const gemm *g, int n, const gemm_ix *ix, bool vary,
                        ir_ref *out) {
    cg_kernel *k = &l->k;
    int64_t lo, hi, lanes = vary ? k->lanes : 0;
    gemm_at at = {.n = g->rel->norder};
    bool sum = g->rel->monoid == IR_redop_sum;
    ir_ref zero = cg_i64(k, 0),
           id = cg_splat(k, cg_identity(l, (ir_redop)g->rel->monoid, g->d), lanes);
    for (int i = 0; i < at.n; i++) at.at[i] = zero;
    gemm_warm(l, g, n, ix);
    ir_dim_range(k->b.m, g->k, &lo, &hi);
    if (sum && hi > GEMM_KB) {
        gemm_blocks(l, g, n, ix, lanes, id, &at, out);
        return;
    }
    for (int i = 0; i < n; i++) out[i] = id; /* one chain */
    gemm_run(l, g, n, ix, zero, cg_dim(k, g->k), &at, out);
    for (int i = 0; i < n && sum; i++) out[i] = cg_monoid(l, IR_redop_sum, g->d, id, out[i]);
}

void cg_ein_prepare(cg_low *l) {
    for (uint32_t i = 0; i < l->f->ops.n && !cg_lower_failed(l); i++) {
        const ir_op *o = &l->f->ops.data[i];
        if (o->code != OP_ein) continue; /* `return` has no result to look at */
        ig_dtype d = cg_reg((ig_dtype)ir_val_type(l->f, ir_op_out(o, 0))->dtype);
        l->scratch[o->out0] = cg_alloc(&l->k, d, GEMM_ROWS_MAX * CG_LANES);
    }
}

ir_ref cg_ein_at(cg_low *l, const ir_op *o, const cg_ix *ix) {
    gemm g = gemm_begin(l, o);
    gemm_ix one;
    ir_ref r;
    bool vary = false;
    memcpy(one, ix, sizeof one);
    for (int i = 0; i < g.type->rank; i++) vary |= ix[i].kind != CG_IX_UNIFORM;
    gemm_chains(l, &g, 1, (const gemm_ix *)&one, vary, &r);
    return cg_round(&l->k, g.d, r);
}

/* --- Epilogue ------------------------------------------------------------------------------- */

/* Pull the results at an element whose contraction is known, and store them. */
static void gemm_epilogue(cg_low *l, const gemm *g, const cg_ix *ix, ir_ref r) {
    const ir_op *ret = ir_return_op(l->f);
    ir_ref y[IG_MAX_RANK];
    r = cg_round(&l->k, g->d, r);
    cg_seed(l, g->v, ix, r);
    for (uint32_t i = 0; i < ret->nin; i++) y[i] = cg_pull(l, ir_op_in(l->f, ret, i), ix);
    cg_ix at = cg_ix_flat(l, g->type->rank, g->type->dim, ix);
    for (uint32_t i = 0; i < ret->nin; i++)
        cg_store(&l->k, l->out[i], (ir_ref){at.r}, cg_splat(&l->k, y[i], l->k.lanes));
}

/* One row of the tile in scratch memory, from subscript ix on: a vector, or the first `valid`
 * elements of it. */
static void gemm_finish_row(cg_low *l, const gemm *g, cg_ix *ix, ir_ref line, ir_ref valid) {
    cg_kernel *k = &l->k;
    int last = g->type->rank - 1;
    ir_ref tile = l->scratch[g->v.i];
    if (!valid.i) {
        gemm_epilogue(l, g, ix, cg_load(k, tile, line, k->lanes));
        return;
    }
    int64_t lanes = k->lanes;
    cg_ix col = cg_ix_uniform((ir_ref){ix[last].r});
    k->lanes = 0;
    cg_nest nest = cg_open_for(l, cg_i64(k, 0), valid, 1, 0, NULL, NULL);
    ix[last] = cg_ix_add(l, col, cg_ix_uniform(nest.loop.index));
    gemm_epilogue(l, g, ix, cg_load(k, tile, cg_bin(k, OP_add, line, nest.loop.index), 0));
    cg_close_for(l, nest, 0, NULL);
    k->lanes = lanes;
}

/* The rows of a tile, one after the other. */
static void gemm_finish_rows(cg_low *l, const gemm *g, int n, const cg_ix *ix, ir_ref valid) {
    cg_kernel *k = &l->k;
    gemm_ix here;
    cg_nest nest = cg_open_for(l, cg_i64(k, 0), cg_i64(k, n), 1, 0, NULL, NULL);
    memcpy(here, ix, sizeof here);
    here[g->row] = cg_ix_add(l, ix[g->row], cg_ix_uniform(nest.loop.index));
    ir_ref line = cg_bin(k, OP_mul, nest.loop.index, cg_i64(k, k->lanes ? k->lanes : 1));
    gemm_finish_row(l, g, here, line, valid);
    cg_close_for(l, nest, 0, NULL);
}

/* The epilogue of a tile.  valid: how many of its columns exist, {0}: all.  More than one row goes
 * through scratch memory, so that the code of the epilogue is written once. */
static void gemm_finish(cg_low *l, const gemm *g, int n, gemm_ix *ix, const ir_ref *chain,
                        ir_ref valid) {
    cg_kernel *k = &l->k;
    int64_t width = k->lanes ? k->lanes : 1;
    ir_dim extent = g->type->dim[g->type->rank - 1];
    if (!valid.i && (n == 1 || g->plain)) {
        for (int i = 0; i < n; i++) gemm_epilogue(l, g, ix[i], chain[i]);
        return;
    }
    for (int i = 0; i < n; i++)
        cg_store(k, l->scratch[g->v.i], cg_i64(k, i * width), cg_splat(k, chain[i], k->lanes));
    if (!valid.i || (extent >= 0 && extent < CG_LANES)) {
        gemm_finish_rows(l, g, n, ix[0], valid);
        return;
    }
    cg_nest branch = cg_open_if(l, cg_cmp(k, IR_cmpop_eq, valid, cg_i64(k, CG_LANES)));
    gemm_finish_rows(l, g, n, ix[0], (ir_ref){0});
    cg_open_else(l, branch, 0, NULL);
    gemm_finish_rows(l, g, n, ix[0], valid);
    cg_close_if(l, branch, 0, NULL);
}

/* A tile of n rows from ix on, at the column (or columns) ix names. */
static void gemm_tile(cg_low *l, const gemm *g, int n, const cg_ix *ix, ir_ref valid) {
    gemm_ix rows[GEMM_ROWS_MAX];
    ir_ref chain[GEMM_ROWS_MAX];
    for (int i = 0; i < n; i++) {
        memcpy(rows[i], ix, sizeof rows[i]);
        if (i) rows[i][g->row] = cg_ix_add(l, ix[g->row], cg_ix_const(l, i));
    }
    gemm_chains(l, g, n, (const gemm_ix *)rows, l->k.lanes != 0, chain);
    gemm_finish(l, g, n, rows, chain, valid);
}

/* --- Panels --------------------------------------------------------------------------------- */

/* Element (position t of the reduction, column) of the packed operand. */
static ir_ref gemm_packed(cg_low *l, const gemm *g, cg_ix t, const cg_ix *ix) {
    const ir_rel *rel = g->rel;
    ir_dim dim[IR_EIN_VARS];
    cg_ix part[IR_EIN_VARS] = {{0}}, sub[IG_MAX_RANK] = {{0}};
    for (int v = 0; v < rel->norder; v++) dim[v] = g->extent[rel->order[v]];
    cg_ix_split(l, t, rel->norder, dim, part);
    for (int j = 0; j < rel->in[g->pack].n; j++) {
        int var = rel->in[g->pack].a[j];
        if (g->axis[var] >= 0) sub[j] = ix[g->axis[var]];
        for (int v = 0; v < rel->norder; v++)
            if (rel->order[v] == var) sub[j] = part[v];
    }
    return cg_pull(l, ir_op_in(l->f, g->o, (uint32_t)g->pack), sub);
}

/* Where position t of panel p lies. */
static ir_ref gemm_line(cg_low *l, const gemm *g, ir_ref p, ir_ref t) {
    cg_kernel *k = &l->k;
    ir_ref line = cg_bin(k, OP_add, cg_bin(k, OP_mul, p, cg_i64(k, g->k)), t);
    return cg_bin(k, OP_mul, line, cg_i64(k, CG_LANES));
}

/* Copy whole lines into n panels: the columns lie side by side and all exist. */
static void gemm_pack_lines(cg_low *l, const gemm *g, cg_ix *ix, ir_ref col, ir_ref n) {
    cg_kernel *k = &l->k;
    k->lanes = CG_LANES;
    cg_nest nest = cg_open_for(l, cg_i64(k, 0), cg_i64(k, g->k), 1, 0, NULL, NULL);
    cg_nest panel = cg_open_for(l, cg_i64(k, 0), n, 1, 0, NULL, NULL);
    ir_ref at = cg_bin(k, OP_mul, panel.loop.index, cg_i64(k, CG_LANES));
    ix[g->type->rank - 1] = cg_ix_linear(cg_bin(k, OP_add, col, at));
    ir_ref line = gemm_packed(l, g, cg_ix_uniform(nest.loop.index), ix);
    cg_store(k, g->panel, gemm_line(l, g, panel.loop.index, nest.loop.index),
             cg_splat(k, line, CG_LANES));
    cg_close_for(l, panel, 0, NULL);
    cg_close_for(l, nest, 0, NULL);
    k->lanes = 0;
}

/* Copy `cols` columns one by one, the panels being zero where there is none. */
static void gemm_pack_columns(cg_low *l, const gemm *g, cg_ix *ix, ir_ref col, ir_ref cols,
                              ir_ref n) {
    cg_kernel *k = &l->k;
    ir_ref zero = cg_i64(k, 0), size = cg_i64(k, g->k), width = cg_i64(k, CG_LANES);
    ir_dim extent = g->type->dim[g->type->rank - 1];
    if (extent < 0 || extent % CG_LANES) {
        cg_nest clear = cg_open_for(l, zero, cg_bin(k, OP_mul, n, size), 1, 0, NULL, NULL);
        cg_store(k, g->panel, cg_bin(k, OP_mul, clear.loop.index, width),
                 cg_splat(k, cg_int(k, cg_reg(g->d), 0), CG_LANES));
        cg_close_for(l, clear, 0, NULL);
    }
    cg_nest column = cg_open_for(l, zero, cols, 1, 0, NULL, NULL);
    ix[g->type->rank - 1] = cg_ix_uniform(cg_bin(k, OP_add, col, column.loop.index));
    ir_ref panel = cg_shift(k, IR_shop_right, column.loop.index, __builtin_ctz(CG_LANES));
    ir_ref lane = cg_bit(k, IR_bitop_band, column.loop.index, cg_i64(k, CG_LANES - 1));
    cg_nest nest = cg_open_for(l, zero, size, 1, 0, NULL, NULL);
    ir_ref x = gemm_packed(l, g, cg_ix_uniform(nest.loop.index), ix);
    cg_store(k, g->panel, cg_bin(k, OP_add, gemm_line(l, g, panel, nest.loop.index), lane), x);
    cg_close_for(l, nest, 0, NULL);
    cg_close_for(l, column, 0, NULL);
}

/* Fill n panels with `cols` columns from `col` on. */
static void gemm_fill_panels(cg_low *l, const gemm *g, cg_ix *ix, ir_ref col, ir_ref cols,
                             ir_ref n) {
    cg_kernel *k = &l->k;
    const ir_axes *a = &g->rel->in[g->pack];
    ir_dim extent = g->type->dim[g->type->rank - 1];
    bool lines = a->a[a->n - 1] == g->rel->out.a[g->type->rank - 1]; /* the last axis of both */
    if (!lines || (extent >= 0 && extent < CG_LANES)) {
        gemm_pack_columns(l, g, ix, col, cols, n);
        return;
    }
    if (extent >= 0 && extent % CG_LANES == 0) {
        gemm_pack_lines(l, g, ix, col, n);
        return;
    }
    ir_ref whole = cg_cmp(k, IR_cmpop_eq, cols, cg_bin(k, OP_mul, n, cg_i64(k, CG_LANES)));
    cg_nest branch = cg_open_if(l, whole);
    gemm_pack_lines(l, g, ix, col, n);
    cg_open_else(l, branch, 0, NULL);
    gemm_pack_columns(l, g, ix, col, cols, n);
    cg_close_if(l, branch, 0, NULL);
}

/* --- Nests ---------------------------------------------------------------------------------- */

/* Loop over columns [from, to) in steps of `lanes` (0: single elements); the end of what is done.
 */
static ir_ref gemm_columns(cg_low *l, const gemm *g, int n, cg_ix *ix, ir_ref from, ir_ref to,
                           int64_t lanes) {
    cg_kernel *k = &l->k;
    int last = g->type->rank - 1;
    ir_ref end = to;
    if (lanes) {
        ir_ref whole = cg_bit(k, IR_bitop_band, cg_bin(k, OP_sub, to, from), cg_i64(k, -lanes));
        end = cg_bin(k, OP_add, from, whole);
    }
    cg_nest nest = cg_open_for(l, from, end, lanes ? lanes : 1, 0, NULL, NULL);
    k->lanes = lanes;
    ix[last] = lanes ? cg_ix_linear(nest.loop.index) : cg_ix_uniform(nest.loop.index);
    gemm_tile(l, g, n, ix, (ir_ref){0});
    k->lanes = 0;
    cg_close_for(l, nest, 0, NULL);
    return end;
}

/* Columns [at, end) of n rows, where they lie: vectors, narrower vectors where the number of
 * columns is known, single elements. */
static void gemm_direct(cg_low *l, const gemm *g, int n, cg_ix *ix, ir_ref at, ir_ref end,
                        ir_dim extent) {
    int64_t left = extent;
    for (int64_t lanes = CG_LANES; lanes >= CG_LANES / 4; lanes /= 2) {
        if (extent >= 0 ? left < lanes : lanes != CG_LANES) continue;
        at = gemm_columns(l, g, n, ix, at, end, lanes);
        if (extent >= 0) left %= lanes;
    }
    if (extent < 0 || left) gemm_columns(l, g, n, ix, at, end, 0);
}

/* n rows from subscript `row` on against each of the panels, which hold `cols` columns. */
static void gemm_against_panels(cg_low *l, gemm *g, int n, cg_ix *ix, ir_ref col, ir_ref cols,
                                ir_ref panels) {
    cg_kernel *k = &l->k;
    ir_dim extent = g->type->dim[g->type->rank - 1];
    bool whole = extent >= 0 && extent % CG_LANES == 0;
    cg_nest panel = cg_open_for(l, cg_i64(k, 0), panels, 1, 0, NULL, NULL);
    ir_ref at = cg_bin(k, OP_mul, panel.loop.index, cg_i64(k, CG_LANES));
    ir_ref valid = cg_bin(k, OP_min, cg_bin(k, OP_sub, cols, at), cg_i64(k, CG_LANES));
    g->line = gemm_line(l, g, panel.loop.index, cg_i64(k, 0));
    k->lanes = CG_LANES;
    ix[g->type->rank - 1] = cg_ix_linear(cg_bin(k, OP_add, col, at));
    gemm_tile(l, g, n, ix, whole ? (ir_ref){0} : valid);
    k->lanes = 0;
    cg_close_for(l, panel, 0, NULL);
}

/* Rows [from, to) with packed operands: tiles, then single rows. */
static void gemm_packed_rows(cg_low *l, gemm *g, cg_ix *ix, ir_ref from, ir_ref to, ir_ref col,
                             ir_ref cols) {
    cg_kernel *k = &l->k;
    ir_ref n = cg_bin(k, OP_add, cols, cg_i64(k, CG_LANES - 1));
    n = cg_shift(k, IR_shop_right, n, __builtin_ctz(CG_LANES));
    ir_ref left = cg_bin(k, OP_rem, cg_bin(k, OP_sub, to, from), cg_i64(k, g->rows));
    ir_ref end = cg_bin(k, OP_sub, to, left);
    gemm_fill_panels(l, g, ix, col, cols, n);
    cg_nest nest = cg_open_for(l, from, end, g->rows, 0, NULL, NULL);
    ix[g->row] = cg_ix_uniform(nest.loop.index);
    gemm_against_panels(l, g, g->rows, ix, col, cols, n);
    cg_close_for(l, nest, 0, NULL);
    if (g->rows == 1) return;
    nest = cg_open_for(l, end, to, 1, 0, NULL, NULL);
    ix[g->row] = cg_ix_uniform(nest.loop.index);
    gemm_against_panels(l, g, 1, ix, col, cols, n);
    cg_close_for(l, nest, 0, NULL);
}

/* One chunk of rows and one group of panels; ix holds their numbers. */
static void gemm_chunk(cg_low *l, gemm *g, cg_ix *ix) {
    cg_kernel *k = &l->k;
    int last = g->type->rank - 1, chunk = g->rows * GEMM_CHUNK;
    ir_ref from = cg_bin(k, OP_mul, (ir_ref){ix[g->row].r}, cg_i64(k, chunk)),
           width = cg_i64(k, g->panels * CG_LANES);
    ir_ref to = cg_bin(k, OP_min, cg_bin(k, OP_add, from, cg_i64(k, chunk)),
                       cg_dim(k, g->type->dim[g->row]));
    ir_ref col = cg_bin(k, OP_mul, (ir_ref){ix[last].r}, width);
    ir_ref cols = cg_bin(k, OP_min, cg_bin(k, OP_sub, cg_dim(k, g->type->dim[last]), col), width);
    if (g->type->dim[g->row] >= 0) {
        gemm_packed_rows(l, g, ix, from, to, col, cols);
        return;
    }
    gemm one = *g; /* at run time there may be too few rows to pack for */
    one.pack = -1;
    ir_ref enough = cg_i64(k, GEMM_PACK_ROWS);
    cg_nest few = cg_open_if(l, cg_cmp(k, IR_cmpop_lt, cg_bin(k, OP_sub, to, from), enough));
    cg_nest row = cg_open_for(l, from, to, 1, 0, NULL, NULL);
    ix[g->row] = cg_ix_uniform(row.loop.index);
    gemm_direct(l, &one, 1, ix, col, cg_bin(k, OP_add, col, cols), -1);
    cg_close_for(l, row, 0, NULL);
    cg_open_else(l, few, 0, NULL);
    gemm_packed_rows(l, g, ix, from, to, col, cols);
    cg_close_if(l, few, 0, NULL);
}

/* All columns of n rows, operands where they lie; or single elements, when the rows run along the
 * last axis (see gemm_is_dots). */
static void gemm_some_rows(cg_low *l, const gemm *g, int n, cg_ix *ix) {
    ir_dim cols = g->type->dim[g->type->rank - 1];
    if (g->dots)
        gemm_tile(l, g, n, ix, (ir_ref){0});
    else
        gemm_direct(l, g, n, ix, cg_i64(&l->k, 0), cg_dim(&l->k, cols), cols);
}

/* The rows from subscript `at` of the row axis on: a whole tile, or what is left one by one. */
static void gemm_rows_at(cg_low *l, const gemm *g, cg_ix *ix, ir_ref at) {
    cg_kernel *k = &l->k;
    ir_dim rows = g->type->dim[g->row];
    ir_ref n = cg_dim(k, rows), end = cg_bin(k, OP_add, at, cg_i64(k, g->rows));
    bool exact = rows >= 0 && rows % g->rows == 0;
    cg_nest branch = {0};
    if (!exact) branch = cg_open_if(l, cg_cmp(k, IR_cmpop_le, end, n));
    ix[g->row] = cg_ix_uniform(at);
    gemm_some_rows(l, g, g->rows, ix);
    if (exact) return;
    cg_open_else(l, branch, 0, NULL);
    cg_nest one = cg_open_for(l, at, n, 1, 0, NULL, NULL);
    ix[g->row] = cg_ix_uniform(one.loop.index);
    gemm_some_rows(l, g, 1, ix);
    cg_close_for(l, one, 0, NULL);
    cg_close_if(l, branch, 0, NULL);
}

/* --- Plan ----------------------------------------------------------------------------------- */

/* Whether an operand has the variable. */
static bool gemm_has(const gemm *g, int operand, int var) {
    for (int j = 0; j < g->rel->in[operand].n; j++)
        if (g->rel->in[operand].a[j] == var) return true;
    return false;
}

/* The row axis: the last one before the columns along which an operand that varies along the
 * columns does not vary, so that its loads are shared. */
static int gemm_row_axis(const gemm *g) {
    int last = g->type->rank - 1, col = g->rel->out.a[last];
    for (int axis = last - 1; axis >= 0; axis--)
        for (int i = 0; i < g->rel->nin; i++)
            if (gemm_has(g, i, col) && !gemm_has(g, i, g->rel->out.a[axis])) return axis;
    return -1;
}

/* Rows whose accumulators, with the loads they need, fit the registers of the target. */
static int gemm_rows(const cg_low *l, const gemm *g) {
    int bits = (int)rt_dtype_bytes(cg_reg(g->d)) * 8 * CG_LANES;
    int each = bits > l->cpu->vector_bits ? bits / l->cpu->vector_bits : 1;
    int rows = (l->cpu->registers - each - 1) / each;
    int64_t most = g->type->dim[g->row];
    if (g->dots) rows = GEMM_ROWS_MAX;
    if (rows > GEMM_ROWS_MAX) rows = GEMM_ROWS_MAX;
    if (most >= 0 && most < rows) rows = (int)most;
    return rows < 1 ? 1 : rows;
}

/* The operand to pack, or -1: the only one that varies along the columns (lanes without a column
 * read nothing). */
static int gemm_pack(const gemm *g) {
    int last = g->type->rank - 1, found = -1;
    ir_dim rows = g->row >= 0 ? g->type->dim[g->row] : 0;
    int64_t line = (int64_t)rt_dtype_bytes(cg_reg(g->d)) * CG_LANES;
    if ((rows >= 0 && rows < GEMM_PACK_ROWS) || g->k < 1 || g->k > GEMM_PANEL_BYTES / line)
        return -1;
    for (int i = 0; i < g->rel->nin; i++) {
        if (!gemm_has(g, i, g->rel->out.a[last])) continue;
        if (found >= 0 || gemm_has(g, i, g->rel->out.a[g->row])) return -1;
        found = i;
    }
    return found;
}

/* The one contraction of the cluster whose shape all results have; NULL when there is none. */
static const ir_op *gemm_find(const cg_low *l) {
    const ir_op *found = NULL, *ret = ir_return_op(l->f);
    for (uint32_t i = 0; i < l->f->ops.n; i++) {
        const ir_op *o = &l->f->ops.data[i];
        if (o->code == OP_reduce || o->code == OP_cumred) return NULL;
        if (o->code != OP_ein) continue;
        if (found) return NULL;
        found = o;
    }
    if (!found || !ret->nin || ret->nin > IG_MAX_RANK) return NULL;
    for (uint32_t i = 0; i < ret->nin; i++)
        if (!ir_same_dims(cg_type(l, ir_op_in(l->f, ret, i)), cg_type(l, ir_op_out(found, 0))))
            return NULL;
    return cg_type(l, ir_op_out(found, 0))->rank ? found : NULL;
}

/* Products of rows with a vector: no operand lies contiguous along the columns, and no rows share
 * loads.  Then chains of single elements, as many as keep the multipliers busy. */
static bool gemm_is_dots(const gemm *g) {
    int last = g->type->rank - 1;
    for (int i = 0; i < g->rel->nin; i++) {
        const ir_axes *a = &g->rel->in[i];
        if (a->n && a->a[a->n - 1] == g->rel->out.a[last]) return false;
    }
    return g->row < 0;
}

static void gemm_plan(cg_low *l, gemm *g) {
    const ir_op *ret = ir_return_op(l->f);
    g->plain = ret->nin == 1 && ir_op_in(l->f, ret, 0).i == g->v.i;
    g->row = gemm_row_axis(g);
    g->dots = gemm_is_dots(g);
    if (g->dots) g->row = g->type->rank - 1;
    if (g->row >= 0) g->rows = gemm_rows(l, g);
    g->pack = g->dots ? -1 : gemm_pack(g);
    if (g->pack < 0) return;
    int64_t fit = GEMM_PANEL_BYTES / (g->k * CG_LANES * (int64_t)rt_dtype_bytes(cg_reg(g->d)));
    ir_dim cols = g->type->dim[g->type->rank - 1];
    if (fit > GEMM_PANELS) fit = GEMM_PANELS;
    if (cols >= 0 && fit > (cols + CG_LANES - 1) / CG_LANES) fit = (cols + CG_LANES - 1) / CG_LANES;
    g->panels = fit < 1 ? 1 : (int)fit;
    g->panel = cg_alloc(&l->k, cg_reg(g->d), g->panels * g->k * CG_LANES);
}

/* How many steps of the outermost loop an axis takes. */
static ir_dim gemm_steps(cg_low *l, const gemm *g, int axis) {
    ir_module *m = l->k.b.m;
    ir_dim d = g->type->dim[axis];
    int64_t by = axis == g->row ? g->rows : 1;
    if (g->pack >= 0 && axis == g->row) by *= GEMM_CHUNK;
    if (g->pack >= 0 && axis == g->type->rank - 1) by = g->panels * CG_LANES;
    return by == 1 ? d : ir_dim_floordiv(m, ir_dim_add(m, d, by - 1), by);
}

bool cg_gemm_nest(cg_low *l, ir_dim *n_) {
    const ir_op *o = gemm_find(l);
    if (!o) return false;
    gemm g = gemm_begin(l, o);
    cg_kernel *k = &l->k;
    gemm_plan(l, &g);
    int last = g.type->rank - 1, n = g.pack >= 0 || g.dots ? last + 1 : last;
    ir_dim dim[IG_MAX_RANK], cols = g.type->dim[last];
    cg_ix ix[IG_MAX_RANK] = {{0}};
    *n_ = 1;
    for (int i = 0; i < n; i++) {
        dim[i] = gemm_steps(l, &g, i);
        *n_ = ir_dim_mul(k->b.m, *n_, dim[i]);
    }
    if (!last && !g.dots) { /* one axis: the columns themselves are shared out */
        *n_ = cols;
        gemm_direct(l, &g, 1, ix, l->lo, l->hi, -1);
        return true;
    }
    cg_nest nest = cg_open_for(l, l->lo, l->hi, 1, 0, NULL, NULL);
    cg_ix_split(l, cg_ix_uniform(nest.loop.index), n, dim, ix);
    for (int i = 0; i < n; i++) ix[i] = cg_ix_solid(l, ix[i]);
    if (g.pack >= 0)
        gemm_chunk(l, &g, ix);
    else if (g.row >= 0)
        gemm_rows_at(l, &g, ix, cg_bin(k, OP_mul, (ir_ref){ix[g.row].r}, cg_i64(k, g.rows)));
    else
        gemm_direct(l, &g, 1, ix, cg_i64(k, 0), cg_dim(k, cols), cols);
    cg_close_for(l, nest, 0, NULL);
    return true;
}
