/* ein.c - contractions that read their operands where they lie, in the order of numerics rule 7.
 *
 * The reduction index runs over the box of the listed variables, cut into blocks of IR_KB; a block
 * is one chain (fused multiply-adds when the body is a product of two) from +0, and total = total +
 * partial for every block.  The chains of different output elements are independent, so a tile of
 * rows x one vector of columns runs side by side in registers: the loads of a column vector serve
 * all rows, and those of a row element all columns, because the pull evaluator writes each
 * (operand, subscript) once.
 *
 * This serves any relation: small and odd ones, few rows, single elements inside other clusters.
 * What is worth packing is gemm.c's; chains under constraints are ein_rel.c's.
 *
 * Elementwise ops on the contraction (the epilogue) run on the finished tile, row by row
 * from scratch memory, so that their code is written once. */
#include "codegen/gemm.h"

#include <string.h>

typedef struct ein {
    cg_ein e;
    int rows;   /* rows of a tile */
    bool plain; /* the kernel's result is the contraction itself */
    bool dots;  /* rows run along the last axis, in single elements */
    bool few;   /* elements one by one: ein_deep.c */
} ein;

cg_ein cg_ein_begin(cg_low *l, const ir_op *o) {
    const ir_attr_ein *a = ir_attr_get(l->f->module, o->attr);
    cg_ein g = {.o = o, .rel = &a->rel, .v = ir_op_out(o, 0), .k = 1};
    g.type = cg_type(l, g.v);
    g.d = (ig_dtype)g.type->dtype;
    memset(g.axis, -1, sizeof g.axis);
    g.row = -1, g.step = 1;
    g.plain = ir_ein_is_plain(g.rel);
    while (g.factors < g.rel->nin && !g.rel->look[g.factors]) g.factors++;
    ir_ein_meet_all(g.rel, &g.plan);
    cg_ein_depend(&g);
    for (unsigned v = 0; v < g.rel->nvar; v++)
        if (g.rel->given >> v & 1) g.extent[v] = g.rel->extent[v];
    for (int i = 0; i < g.rel->nin; i++)
        for (int j = 0; j < g.rel->in[i].n; j++)
            g.extent[g.rel->in[i].a[j]] = cg_type(l, ir_op_in(l->f, o, (uint32_t)i))->dim[j];
    for (int i = 0; i < g.rel->out.n; i++) g.axis[g.rel->out.a[i]] = (int8_t)i;
    for (int i = 0; i < g.rel->norder; i++)
        g.k = ir_dim_mul(l->k.b.m, g.k, g.extent[g.rel->order[i]]);
    return g;
}

/* --- Chains --------------------------------------------------------------------------------- */

/* The reduction variables as they are carried through the loops: one counter each, last one
 * fastest. */
typedef struct ein_at {
    int n;
    ir_ref at[IR_EIN_VARS];
} ein_at;

/* Operand i for the output element at `ix`. */
static ir_ref ein_operand(cg_low *l, const cg_ein *g, int i, const cg_ix *ix, const ein_at *at) {
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
static ir_ref ein_tuple(cg_low *l, const cg_ein *g, const cg_ix *ix, const ein_at *at,
                        ir_ref chain) {
    ig_dtype r = cg_reg(g->d);
    ir_redop op = (ir_redop)g->rel->monoid;
    ir_ref body = ein_operand(l, g, 0, ix, at), in[3];
    if (op == IR_redop_sum && g->rel->nin == 2 && rt_is_float(r)) {
        in[0] = body, in[1] = ein_operand(l, g, 1, ix, at), in[2] = chain;
        return cg_ew(&l->k, OP_fma, NULL, r, 3, in);
    }
    for (int i = 1; i < g->rel->nin; i++) {
        in[0] = body, in[1] = ein_operand(l, g, i, ix, at);
        body = cg_ew(&l->k, OP_mul, NULL, r, 2, in);
    }
    return cg_monoid(l, op, g->d, chain, body);
}

/* The next tuple: count the last variable up, carry into the ones before. */
static void ein_next(cg_low *l, const cg_ein *g, ein_at *at) {
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
static void ein_run(cg_low *l, const cg_ein *g, int n, const cg_ein_ix *ix, ir_ref lo, ir_ref hi,
                    ein_at *at, ir_ref *chain) {
    ir_ref in[CG_EIN_ROWS + IR_EIN_VARS], init[CG_EIN_ROWS + IR_EIN_VARS],
        out[CG_EIN_ROWS + IR_EIN_VARS];
    int vars = at->n > 1 ? at->n : 0, total = n + vars;
    memcpy(init, chain, (size_t)n * sizeof *chain);
    memcpy(init + n, at->at, (size_t)vars * sizeof *at->at);
    cg_nest nest = cg_open_for(l, lo, hi, 1, total, init, in);
    ein_at here = {.n = at->n};
    memcpy(here.at, in + n, (size_t)vars * sizeof *in);
    if (at->n == 1) here.at[0] = nest.loop.index;
    for (int i = 0; i < n; i++) out[i] = ein_tuple(l, g, ix[i], &here, in[i]);
    if (vars) ein_next(l, g, &here);
    memcpy(out + n, here.at, (size_t)vars * sizeof *out);
    ir_ref r = cg_close_for(l, nest, total, out);
    for (int i = 0; i < n; i++) chain[i] = ir_result(r, (uint32_t)i);
    for (int i = 0; i < vars; i++) at->at[i] = ir_result(r, (uint32_t)(n + i));
}

/* Write the products and sums of subscripts that do not depend on the reduction before its loop;
 * the code inside finds them by value numbering. */
static void ein_warm(cg_low *l, const cg_ein *g, int n, const cg_ein_ix *ix) {
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
static void ein_blocks(cg_low *l, const cg_ein *g, int n, const cg_ein_ix *ix, int64_t lanes,
                       ir_ref id, ein_at *at, ir_ref *out) {
    cg_kernel *k = &l->k;
    ir_ref size = cg_dim(k, g->k), total = l->scratch[g->v.i], in[IR_EIN_VARS], part[CG_EIN_ROWS];
    ir_ref slot[CG_EIN_ROWS], from = cg_i64(k, 0), sum = id;
    int vars = at->n > 1 ? at->n : 0;
    if (n == 1 && !lanes && cg_ein_is_deep(l, g)) {
        sum = cg_ein_deep(l, g, ix[0]);
        if (g->k >= 0 && g->k % CG_KB == 0) {
            out[0] = sum;
            return;
        }
        from = cg_bin(k, OP_mul, cg_bin(k, OP_div, size, cg_i64(k, CG_KB)), cg_i64(k, CG_KB));
    }
    for (int i = 0; i < n; i++) {
        slot[i] = cg_i64(k, i * (lanes ? lanes : 1));
        cg_store(k, total, slot[i], sum);
        part[i] = id;
    }
    cg_nest nest = cg_open_for(l, from, size, CG_KB, vars, at->at, in);
    ir_ref end = cg_bin(k, OP_min, cg_bin(k, OP_add, nest.loop.index, cg_i64(k, CG_KB)), size);
    memcpy(at->at, in, (size_t)vars * sizeof *in);
    ein_run(l, g, n, ix, nest.loop.index, end, at, part);
    for (int i = 0; i < n; i++)
        cg_store(k, total, slot[i],
                 cg_monoid(l, IR_redop_sum, g->d, cg_load(k, total, slot[i], lanes), part[i]));
    cg_close_for(l, nest, vars, at->at);
    for (int i = 0; i < n; i++) out[i] = cg_load(k, total, slot[i], lanes);
}

/* The registers of n output elements (vectors where the subscripts differ between lanes),
 * unrounded. */
void cg_ein_chains(cg_low *l, const cg_ein *g, int n, const cg_ein_ix *ix, bool vary, ir_ref *out) {
    cg_kernel *k = &l->k;
    int64_t lo, hi, lanes = vary ? k->lanes : 0;
    ein_at at = {.n = g->rel->norder};
    if (!g->plain) {
        cg_ein_rel_chains(l, g, n, ix, vary, out);
        return;
    }
    bool sum = g->rel->monoid == IR_redop_sum;
    ir_ref zero = cg_i64(k, 0),
           id = cg_splat(k, cg_identity(l, (ir_redop)g->rel->monoid, g->d), lanes);
    for (int i = 0; i < at.n; i++) at.at[i] = zero;
    ein_warm(l, g, n, ix);
    ir_dim_range(k->b.m, g->k, &lo, &hi);
    if (sum && hi > CG_KB) {
        ein_blocks(l, g, n, ix, lanes, id, &at, out);
        return;
    }
    for (int i = 0; i < n; i++) out[i] = id; /* one chain */
    ein_run(l, g, n, ix, zero, cg_dim(k, g->k), &at, out);
    for (int i = 0; i < n && sum; i++) out[i] = cg_monoid(l, IR_redop_sum, g->d, id, out[i]);
}

void cg_ein_prepare(cg_low *l) {
    for (uint32_t i = 0; i < l->f->ops.n && !cg_lower_failed(l); i++) {
        const ir_op *o = &l->f->ops.data[i];
        if (o->code != OP_ein) continue; /* `return` has no result to look at */
        cg_ein e = cg_ein_begin(l, o);
        for (unsigned v = 0; v < e.rel->nvar; v++) cg_dim(&l->k, e.extent[v]); /* not in a loop */
        int64_t vectors = cg_ein_is_deep(l, &e) ? CG_DEEP_RUN : CG_EIN_ROWS;
        l->scratch[o->out0] = cg_alloc(&l->k, cg_reg(e.d), vectors * CG_LANES);
    }
}

ir_ref cg_ein_at(cg_low *l, const ir_op *o, const cg_ix *ix) {
    cg_ein g = cg_ein_begin(l, o);
    cg_ein_ix one;
    ir_ref r;
    bool vary = false;
    memcpy(one, ix, sizeof one);
    for (int i = 0; i < g.type->rank; i++) vary |= ix[i].kind != CG_IX_UNIFORM;
    cg_ein_chains(l, &g, 1, (const cg_ein_ix *)&one, vary, &r);
    return cg_round(&l->k, g.d, r);
}

/* --- Epilogue ------------------------------------------------------------------------------- */

/* Pull the results at an element whose contraction is known, and store them. */
void cg_ein_store(cg_low *l, const cg_ein *g, const cg_ix *ix, ir_ref r) {
    const ir_op *ret = ir_return_op(l->f);
    ir_ref y[IG_MAX_RANK];
    r = cg_round(&l->k, g->d, r);
    cg_seed(l, g->v, ix, r);
    for (uint32_t i = 0; i < ret->nin; i++) y[i] = cg_pull(l, ir_op_in(l->f, ret, i), ix);
    cg_ix at = cg_ix_flat(l, g->type->rank, g->type->dim, ix);
    for (uint32_t i = 0; i < ret->nin; i++)
        cg_store(&l->k, l->out[i], (ir_ref){at.r}, cg_splat(&l->k, y[i], l->k.lanes));
}

/* The epilogue of a tile.  More than one row goes through scratch memory, so that the code of the
 * epilogue is written once. */
static void ein_finish(cg_low *l, const ein *g, int n, cg_ein_ix *ix, const ir_ref *chain) {
    cg_kernel *k = &l->k;
    int64_t width = k->lanes ? k->lanes : 1;
    ir_ref tile = l->scratch[g->e.v.i];
    if (n == 1 || g->plain) {
        for (int i = 0; i < n; i++) cg_ein_store(l, &g->e, ix[i], chain[i]);
        return;
    }
    for (int i = 0; i < n; i++)
        cg_store(k, tile, cg_i64(k, i * width), cg_splat(k, chain[i], k->lanes));
    cg_nest nest = cg_open_for(l, cg_i64(k, 0), cg_i64(k, n), 1, 0, NULL, NULL);
    ix[0][g->e.row] =
        cg_ix_add(l, ix[0][g->e.row], cg_ix_mul(l, cg_ix_uniform(nest.loop.index), g->e.step));
    ir_ref line = cg_bin(k, OP_mul, nest.loop.index, cg_i64(k, width));
    cg_ein_store(l, &g->e, ix[0], cg_load(k, tile, line, k->lanes));
    cg_close_for(l, nest, 0, NULL);
}

/* A tile of n rows from ix on, at the column (or columns) ix names. */
static void ein_tile(cg_low *l, const ein *g, int n, const cg_ix *ix) {
    cg_ein_ix rows[CG_EIN_ROWS];
    ir_ref chain[CG_EIN_ROWS];
    for (int i = 0; i < n; i++) {
        memcpy(rows[i], ix, sizeof rows[i]);
        if (i) rows[i][g->e.row] = cg_ix_add(l, ix[g->e.row], cg_ix_const(l, i * g->e.step));
    }
    cg_ein_chains(l, &g->e, n, (const cg_ein_ix *)rows, l->k.lanes != 0, chain);
    ein_finish(l, g, n, rows, chain);
}

/* --- Nests ---------------------------------------------------------------------------------- */

/* Loop over columns [from, to) in steps of `lanes` (0: single elements); the end of what is done.
 */
static ir_ref ein_columns(cg_low *l, const ein *g, int n, cg_ix *ix, ir_ref from, ir_ref to,
                          int64_t lanes) {
    cg_kernel *k = &l->k;
    int last = g->e.type->rank - 1;
    ir_ref end = to;
    if (lanes) {
        ir_ref whole = cg_bit(k, IR_bitop_band, cg_bin(k, OP_sub, to, from), cg_i64(k, -lanes));
        end = cg_bin(k, OP_add, from, whole);
    }
    cg_nest nest = cg_open_for(l, from, end, lanes ? lanes : 1, 0, NULL, NULL);
    k->lanes = lanes;
    ix[last] = lanes ? cg_ix_linear(nest.loop.index) : cg_ix_uniform(nest.loop.index);
    ein_tile(l, g, n, ix);
    k->lanes = 0;
    cg_close_for(l, nest, 0, NULL);
    return end;
}

/* Columns [at, end) of n rows, where they lie: vectors, narrower vectors where the number of
 * columns is known, single elements. */
static void ein_direct(cg_low *l, const ein *g, int n, cg_ix *ix, ir_ref at, ir_ref end,
                       ir_dim extent) {
    int64_t left = extent;
    for (int64_t lanes = CG_LANES; lanes >= CG_LANES / 4 && !g->few; lanes /= 2) {
        if (extent >= 0 ? left < lanes : lanes != CG_LANES) continue;
        at = ein_columns(l, g, n, ix, at, end, lanes);
        if (extent >= 0) left %= lanes;
    }
    if (extent < 0 || left) ein_columns(l, g, n, ix, at, end, 0);
}

/* All columns of n rows, operands where they lie; or single elements, when the rows run along the
 * last axis (see ein_is_dots). */
static void ein_some_rows(cg_low *l, const ein *g, int n, cg_ix *ix) {
    ir_dim cols = g->e.type->dim[g->e.type->rank - 1];
    if (g->dots)
        ein_tile(l, g, n, ix);
    else
        ein_direct(l, g, n, ix, cg_i64(&l->k, 0), cg_dim(&l->k, cols), cols);
}

/* Tile number t of the rows: where it begins.  Rows that lie apart are taken in turns. */
static ir_ref ein_rows_begin(cg_low *l, const ein *g, ir_ref t) {
    cg_kernel *k = &l->k;
    ir_ref rows = cg_i64(k, g->rows), step = cg_i64(k, g->e.step);
    if (g->e.step == 1) return cg_bin(k, OP_mul, t, rows);
    ir_ref at = cg_bin(k, OP_mul, cg_bin(k, OP_div, t, step), rows);
    return cg_bin(k, OP_add, cg_bin(k, OP_mul, at, step), cg_bin(k, OP_rem, t, step));
}

/* The rows from subscript `at` of the row axis on: a whole tile, or what is left one by one. */
static void ein_rows_at(cg_low *l, const ein *g, cg_ix *ix, ir_ref at) {
    cg_kernel *k = &l->k;
    ir_dim rows = g->e.type->dim[g->e.row];
    int64_t span = (g->rows - 1) * g->e.step + 1;
    ir_ref n = cg_dim(k, rows), end = cg_bin(k, OP_add, at, cg_i64(k, span));
    bool exact = rows >= 0 && rows % (g->rows * g->e.step) == 0;
    cg_nest branch = {0};
    if (!exact) branch = cg_open_if(l, cg_cmp(k, IR_cmpop_le, end, n));
    ix[g->e.row] = cg_ix_uniform(at);
    ein_some_rows(l, g, g->rows, ix);
    if (exact) return;
    cg_open_else(l, branch, 0, NULL);
    cg_nest one = cg_open_for(l, at, n, g->e.step, 0, NULL, NULL);
    ix[g->e.row] = cg_ix_uniform(one.loop.index);
    ein_some_rows(l, g, 1, ix);
    cg_close_for(l, one, 0, NULL);
    cg_close_if(l, branch, 0, NULL);
}

/* --- Plan ----------------------------------------------------------------------------------- */

bool cg_ein_has(const cg_ein *g, int operand, int var) {
    for (int j = 0; j < g->rel->in[operand].n; j++)
        if (g->deps[g->rel->in[operand].a[j]] >> var & 1) return true;
    return false;
}

/* The row axis: the last one before the columns along which an operand that varies along the
 * columns does not vary, so that its loads are shared. */
static int ein_row_axis(const ein *g) {
    int last = g->e.type->rank - 1, col = g->e.rel->out.a[last];
    for (int axis = last - 1; axis >= 0; axis--)
        for (int i = 0; i < g->e.factors; i++)
            if (cg_ein_has(&g->e, i, col) && !cg_ein_has(&g->e, i, g->e.rel->out.a[axis]))
                return axis;
    return -1;
}

/* Rows whose accumulators, with the loads they need, fit the registers of the target. */
static int ein_rows(const cg_low *l, const ein *g) {
    int bits = (int)rt_dtype_bytes(cg_reg(g->e.d)) * 8 * CG_LANES;
    int each = bits > l->cpu->vector_bits ? bits / l->cpu->vector_bits : 1;
    int rows = (l->cpu->registers - each - 1) / each;
    int64_t most = g->e.type->dim[g->e.row];
    if (g->dots) rows = CG_EIN_ROWS;
    if (rows > CG_EIN_ROWS) rows = CG_EIN_ROWS;
    if (most >= 0 && most < rows) rows = (int)most;
    return rows < 1 ? 1 : rows;
}

/* The one contraction of the cluster whose shape all results have; NULL when there is none. */
const ir_op *cg_ein_find(const cg_low *l) {
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
static bool ein_is_dots(const ein *g) {
    int last = g->e.type->rank - 1;
    for (int i = 0; i < g->e.factors; i++) {
        const ir_axes *a = &g->e.rel->in[i];
        if (a->n && g->e.deps[a->a[a->n - 1]] >> g->e.rel->out.a[last] & 1) return false;
    }
    return g->e.row < 0;
}

static void ein_plan(cg_low *l, ein *g) {
    const ir_op *ret = ir_return_op(l->f);
    g->plain = ret->nin == 1 && ir_op_in(l->f, ret, 0).i == g->e.v.i;
    g->e.row = ein_row_axis(g);
    g->dots = ein_is_dots(g);
    if (g->dots) g->e.row = g->e.type->rank - 1;
    g->few = cg_ein_is_few(l, &g->e);
    if (g->e.row >= 0) g->rows = g->few ? 1 : ein_rows(l, g);
    if (g->rows > 1 && !g->dots) g->e.step = cg_ein_stride(&g->e, g->e.rel->out.a[g->e.row]);
}

/* How many steps of the outermost loop an axis takes. */
static ir_dim ein_steps(cg_low *l, const ein *g, int axis) {
    ir_module *m = l->k.b.m;
    ir_dim d = g->e.type->dim[axis];
    int64_t by = axis == g->e.row ? g->rows * g->e.step : 1;
    if (by == 1) return d;
    d = ir_dim_floordiv(m, ir_dim_add(m, d, by - 1), by);
    return axis == g->e.row ? ir_dim_mul(m, d, g->e.step) : d;
}

void cg_ein_nest(cg_low *l, const ir_op *o, ir_dim *n_) {
    ein g = {.e = cg_ein_begin(l, o), .rows = 1};
    cg_kernel *k = &l->k;
    ein_plan(l, &g);
    int last = g.e.type->rank - 1, n = g.dots ? last + 1 : last;
    ir_dim dim[IG_MAX_RANK], cols = g.e.type->dim[last];
    cg_ix ix[IG_MAX_RANK] = {{0}};
    *n_ = 1;
    for (int i = 0; i < n; i++) {
        dim[i] = ein_steps(l, &g, i);
        *n_ = ir_dim_mul(k->b.m, *n_, dim[i]);
    }
    if (!last && !g.dots) { /* one axis: the columns themselves are shared out */
        *n_ = cols;
        ein_direct(l, &g, 1, ix, l->lo, l->hi, -1);
        return;
    }
    cg_nest nest = cg_open_for(l, l->lo, l->hi, 1, 0, NULL, NULL);
    cg_ix_split(l, cg_ix_uniform(nest.loop.index), n, dim, ix);
    for (int i = 0; i < n; i++) ix[i] = cg_ix_solid(l, ix[i]);
    if (g.e.row >= 0)
        ein_rows_at(l, &g, ix, ein_rows_begin(l, &g, (ir_ref){ix[g.e.row].r}));
    else
        ein_direct(l, &g, 1, ix, cg_i64(k, 0), cg_dim(k, cols), cols);
    cg_close_for(l, nest, 0, NULL);
}
