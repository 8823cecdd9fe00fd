/* gemm.c - contractions in the order of numerics rule 7.
 *
 * The reduction index runs over the box of the listed variables, cut into blocks of IR_KB; a block is one chain (fused
 * multiply-adds when the body is a product of two) from +0, and total = total + partial for every block.  The chains of
 * different output elements are independent, so a tile of rows x one vector of columns runs side by side in registers:
 * the loads of a column vector serve all rows, and those of a row element all columns, because the pull evaluator writes
 * each (operand, subscript) once.
 *
 * The vector runs along the last output axis.  An operand whose elements do not lie side by side along it (x . w^T) is
 * packed: a panel of IR_KB x CG_LANES elements is copied, transposed, once per block of the reduction and reused by all
 * row tiles of the kernel's part.  Elementwise ops on the contraction (the epilogue) run on the finished tile, row by row
 * from scratch memory, so that their code is written once. */
#include "codegen/lower.h"

#include <string.h>

#define GEMM_ROWS_MAX 12

typedef struct gemm {
    const ir_op *o;
    const ir_rel *rel;
    ir_ref v;                  /* the contraction */
    const ir_type *type;
    ig_dtype d;
    ir_dim extent[IR_EIN_VARS];
    int8_t axis[IR_EIN_VARS];  /* output axis of a variable, -1: reduced */
    ir_dim k;                  /* size of the reduction box */
    int row;                   /* output axis of the tile's rows, -1: none */
    int rows;                  /* rows of a tile */
    bool plain;                /* the kernel's result is the contraction itself */
} gemm;

static gemm gemm_begin(cg_low *l, const ir_op *o) {
    const ir_attr_ein *a = ir_attr_get(l->f->module, o->attr);
    gemm g = {.o = o, .rel = &a->rel, .v = ir_op_out(o, 0), .k = 1, .row = -1, .rows = 1};
    g.type = cg_type(l, g.v);
    g.d = (ig_dtype)g.type->dtype;
    memset(g.axis, -1, sizeof g.axis);
    for (int i = 0; i < g.rel->nin; i++)
        for (int j = 0; j < g.rel->in[i].n; j++)
            g.extent[g.rel->in[i].a[j]] = cg_type(l, ir_op_in(l->f, o, (uint32_t)i))->dim[j];
    for (int i = 0; i < g.rel->out.n; i++) g.axis[g.rel->out.a[i]] = (int8_t)i;
    for (int i = 0; i < g.rel->norder; i++) g.k = ir_dim_mul(l->k.b.m, g.k, g.extent[g.rel->order[i]]);
    return g;
}

/* --- Chains ------------------------------------------------------------------------------------------- */

typedef cg_ix gemm_ix[IG_MAX_RANK];

/* The reduction variables as they are carried through the loops: one counter each, last one fastest. */
typedef struct gemm_at { int n; ir_ref at[IR_EIN_VARS]; } gemm_at;

/* Operand i for the output element at `ix`. */
static ir_ref gemm_operand(cg_low *l, const gemm *g, int i, const cg_ix *ix, const gemm_at *at) {
    cg_ix sub[IG_MAX_RANK] = {{0}};
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
static ir_ref gemm_tuple(cg_low *l, const gemm *g, const cg_ix *ix, const gemm_at *at, ir_ref chain) {
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

/* Advance n chains over [lo, hi) of the reduction index.  A single variable is the loop index itself. */
static void gemm_run(cg_low *l, const gemm *g, int n, const gemm_ix *ix, ir_ref lo, ir_ref hi, gemm_at *at,
                     ir_ref *chain) {
    ir_ref in[GEMM_ROWS_MAX + IR_EIN_VARS], init[GEMM_ROWS_MAX + IR_EIN_VARS], out[GEMM_ROWS_MAX + IR_EIN_VARS];
    int vars = at->n > 1 ? at->n : 0, total = n + vars;
    memcpy(init, chain, (size_t)n * sizeof *chain);
    memcpy(init + n, at->at, (size_t)vars * sizeof *at->at);
    cg_nest nest = cg_open_for(l, lo, hi, 1, total, init, in);
    gemm_at here = {.n = at->n};
    memcpy(here.at, in + n, (size_t)vars * sizeof *in);
    if (at->n == 1) here.at[0] = nest.loop.index;
    for (int i = 0; i < n; i++) out[i] = gemm_tuple(l, g, ix[i], &here, in[i]);
    if (vars) gemm_next(l, g, &here);
    memcpy(out + n, here.at, (size_t)vars * sizeof *out);
    ir_ref r = cg_close_for(l, nest, total, out);
    for (int i = 0; i < n; i++) chain[i] = ir_result(r, (uint32_t)i);
    for (int i = 0; i < vars; i++) at->at[i] = ir_result(r, (uint32_t)(n + i));
}

/* Write the products and sums of subscripts that do not depend on the reduction before its loop; the code inside finds
 * them by value numbering. */
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

/* The registers of n output elements (vectors where the subscripts differ between lanes), unrounded. */
static void gemm_chains(cg_low *l, const gemm *g, int n, const gemm_ix *ix, bool vary, ir_ref *out) {
    cg_kernel *k = &l->k;
    int64_t lo, hi, lanes = vary ? k->lanes : 0;
    ir_ref zero = cg_i64(k, 0), size = cg_dim(k, g->k), id, in[GEMM_ROWS_MAX + IR_EIN_VARS];
    ir_ref init[GEMM_ROWS_MAX + IR_EIN_VARS], part[GEMM_ROWS_MAX];
    gemm_at at = {.n = g->rel->norder};
    bool sum = g->rel->monoid == IR_redop_sum;
    id = cg_splat(k, cg_identity(l, (ir_redop)g->rel->monoid, g->d), lanes);
    for (int i = 0; i < n; i++) out[i] = init[i] = part[i] = id;
    for (int i = 0; i < at.n; i++) at.at[i] = zero;
    gemm_warm(l, g, n, ix);
    ir_dim_range(k->b.m, g->k, &lo, &hi);
    if (!sum || hi <= IR_KB) { /* one chain */
        gemm_run(l, g, n, ix, zero, size, &at, out);
        for (int i = 0; i < n && sum; i++) out[i] = cg_monoid(l, IR_redop_sum, g->d, id, out[i]);
        return;
    }
    int vars = at.n > 1 ? at.n : 0, total = n + vars;
    memcpy(init + n, at.at, (size_t)vars * sizeof *init);
    cg_nest nest = cg_open_for(l, zero, size, IR_KB, total, init, in);
    ir_ref end = cg_bin(k, OP_min, cg_bin(k, OP_add, nest.loop.index, cg_i64(k, IR_KB)), size);
    memcpy(at.at, vars ? in + n : at.at, (size_t)vars * sizeof *in);
    gemm_run(l, g, n, ix, nest.loop.index, end, &at, part);
    for (int i = 0; i < n; i++) part[i] = cg_monoid(l, IR_redop_sum, g->d, in[i], part[i]);
    memcpy(init, part, (size_t)n * sizeof *part);
    memcpy(init + n, at.at, (size_t)vars * sizeof *init);
    ir_ref r = cg_close_for(l, nest, total, init);
    for (int i = 0; i < n; i++) out[i] = ir_result(r, (uint32_t)i);
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

/* --- Tiles -------------------------------------------------------------------------------------------- */

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

/* The epilogue of a whole tile: rows go through scratch memory, so that its code is written once. */
static void gemm_finish(cg_low *l, const gemm *g, int n, gemm_ix *ix, const ir_ref *chain) {
    cg_kernel *k = &l->k;
    if (n == 1 || g->plain) {
        for (int i = 0; i < n; i++) gemm_epilogue(l, g, ix[i], chain[i]);
        return;
    }
    int64_t width = k->lanes ? k->lanes : 1;
    ir_ref tile = l->scratch[g->v.i];
    for (int i = 0; i < n; i++) cg_store(k, tile, cg_i64(k, i * width), cg_splat(k, chain[i], k->lanes));
    cg_nest nest = cg_open_for(l, cg_i64(k, 0), cg_i64(k, n), 1, 0, NULL, NULL);
    gemm_ix here;
    memcpy(here, ix[0], sizeof here);
    here[g->row] = cg_ix_add(l, ix[0][g->row], cg_ix_uniform(nest.loop.index));
    ir_ref r = cg_load(k, tile, cg_bin(k, OP_mul, nest.loop.index, cg_i64(k, width)), k->lanes);
    gemm_epilogue(l, g, here, r);
    cg_close_for(l, nest, 0, NULL);
}

/* A tile of n rows from ix on, at the column (or columns) ix names. */
static void gemm_tile(cg_low *l, const gemm *g, int n, const cg_ix *ix) {
    gemm_ix rows[GEMM_ROWS_MAX];
    ir_ref chain[GEMM_ROWS_MAX];
    for (int i = 0; i < n; i++) {
        memcpy(rows[i], ix, sizeof rows[i]);
        if (i) rows[i][g->row] = cg_ix_add(l, ix[g->row], cg_ix_const(l, i));
    }
    gemm_chains(l, g, n, (const gemm_ix *)rows, l->k.lanes != 0, chain);
    gemm_finish(l, g, n, rows, chain);
}

/* Loop over columns [from, to) in steps of `lanes` (0: single elements); the end of what is done. */
static ir_ref gemm_columns(cg_low *l, const gemm *g, int n, cg_ix *ix, ir_ref from, ir_ref to, int64_t lanes) {
    cg_kernel *k = &l->k;
    int last = g->type->rank - 1;
    ir_ref end = to;
    if (lanes) {
        ir_ref whole = cg_bit(k, IR_bitop_and, cg_bin(k, OP_sub, to, from), cg_i64(k, -lanes));
        end = cg_bin(k, OP_add, from, whole);
    }
    cg_nest nest = cg_open_for(l, from, end, lanes ? lanes : 1, 0, NULL, NULL);
    k->lanes = lanes;
    ix[last] = lanes ? cg_ix_linear(nest.loop.index) : cg_ix_uniform(nest.loop.index);
    gemm_tile(l, g, n, ix);
    k->lanes = 0;
    cg_close_for(l, nest, 0, NULL);
    return end;
}

/* All columns of n rows: vectors, narrower vectors where the number of columns is known, single elements. */
static void gemm_row_block(cg_low *l, const gemm *g, int n, cg_ix *ix) {
    ir_dim extent = g->type->dim[g->type->rank - 1];
    ir_ref at = cg_i64(&l->k, 0), end = cg_dim(&l->k, extent);
    int64_t left = extent;
    for (int64_t lanes = CG_LANES; lanes >= CG_LANES / 4; lanes /= 2) {
        if (extent >= 0 ? left < lanes : lanes != CG_LANES) continue;
        at = gemm_columns(l, g, n, ix, at, end, lanes);
        if (extent >= 0) left %= lanes;
    }
    if (extent < 0 || left) gemm_columns(l, g, n, ix, at, end, 0);
}

/* --- The kernel --------------------------------------------------------------------------------------- */

/* Whether an operand has the variable. */
static bool gemm_has(const gemm *g, int operand, int var) {
    for (int j = 0; j < g->rel->in[operand].n; j++)
        if (g->rel->in[operand].a[j] == var) return true;
    return false;
}

/* The row axis: the last one before the columns along which an operand that varies along the columns does not vary, so
 * that its loads are shared. */
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
    return rows < 1 ? 1 : rows > GEMM_ROWS_MAX ? GEMM_ROWS_MAX : rows;
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
        if (!ir_same_dims(cg_type(l, ir_op_in(l->f, ret, i)), cg_type(l, ir_op_out(found, 0)))) return NULL;
    return cg_type(l, ir_op_out(found, 0))->rank ? found : NULL;
}

/* The rows from subscript `at` of the row axis on: a whole tile, or what is left one by one. */
static void gemm_rows_at(cg_low *l, const gemm *g, cg_ix *ix, ir_ref at) {
    cg_kernel *k = &l->k;
    ir_dim extent = g->type->dim[g->row];
    ir_ref n = cg_dim(k, extent), end = cg_bin(k, OP_add, at, cg_i64(k, g->rows));
    bool exact = extent >= 0 && extent % g->rows == 0;
    cg_nest branch = {0};
    if (!exact) branch = cg_open_if(l, cg_cmp(k, IR_cmpop_le, end, n));
    ix[g->row] = cg_ix_uniform(at);
    gemm_row_block(l, g, g->rows, ix);
    if (exact) return;
    cg_open_else(l, branch, 0, NULL);
    cg_nest one = cg_open_for(l, at, n, 1, 0, NULL, NULL);
    ix[g->row] = cg_ix_uniform(one.loop.index);
    gemm_row_block(l, g, 1, ix);
    cg_close_for(l, one, 0, NULL);
    cg_close_if(l, branch, 0, NULL);
}

bool cg_gemm_nest(cg_low *l, ir_dim *n_) {
    const ir_op *o = gemm_find(l);
    if (!o) return false;
    gemm g = gemm_begin(l, o);
    const ir_op *ret = ir_return_op(l->f);
    ir_module *m = l->k.b.m;
    int last = g.type->rank - 1, n = 0, from[IG_MAX_RANK];
    ir_dim dim[IG_MAX_RANK], outer = 1;
    cg_ix ix[IG_MAX_RANK] = {{0}}, part[IG_MAX_RANK] = {{0}};
    g.row = gemm_row_axis(&g);
    g.plain = ret->nin == 1 && ir_op_in(l->f, ret, 0).i == g.v.i;
    if (g.row >= 0) g.rows = gemm_rows(l, &g);
    if (g.row >= 0 && g.type->dim[g.row] >= 0 && g.type->dim[g.row] < g.rows)
        g.rows = g.type->dim[g.row] > 1 ? (int)g.type->dim[g.row] : 1;
    if (!g.plain) l->scratch[g.v.i] = cg_alloc(&l->k, cg_reg(g.d), GEMM_ROWS_MAX * CG_LANES);
    for (int i = 0; i < last; i++) {
        ir_dim d = g.type->dim[i];
        if (i == g.row) d = ir_dim_floordiv(m, ir_dim_add(m, d, g.rows - 1), g.rows);
        from[n] = i;
        dim[n++] = d;
        outer = ir_dim_mul(m, outer, d);
    }
    cg_nest nest = cg_open_for(l, l->lo, l->hi, 1, 0, NULL, NULL);
    cg_ix_split(l, cg_ix_uniform(nest.loop.index), n, dim, part);
    for (int i = 0; i < n; i++) ix[from[i]] = cg_ix_solid(l, part[i]);
    if (g.row < 0)
        gemm_row_block(l, &g, 1, ix);
    else
        gemm_rows_at(l, &g, ix, cg_bin(&l->k, OP_mul, (ir_ref){ix[g.row].r}, cg_i64(&l->k, g.rows)));
    cg_close_for(l, nest, 0, NULL);
    *n_ = outer;
    return true;
}
