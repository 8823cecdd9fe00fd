/* gemm_pack.c - panels: lines of an operand side by side, [K][width], in the order a tile reads. */
#include "codegen/gemm.h"

#include <stdio.h>
#include <string.h>

#define PACK_MOST ((size_t)1 << 28) /* bytes of a weight that is packed ahead */

/* Where line 0 of position `at` of panel p lies. */
static ir_ref pack_place(cg_low *l, const gemm *g, ir_ref p, ir_ref at) {
    cg_kernel *k = &l->k;
    return cg_bin(k, OP_add, gemm_panel(l, g, p), cg_bin(k, OP_mul, at, cg_i64(k, g->col.width)));
}

/* The whole panels: line by line of K when columns lie side by side, else panel by panel, so that
 * few lines of memory are in use at a time. */
static void pack_whole(cg_low *l, const gemm *g, ir_ref n) {
    cg_kernel *k = &l->k;
    cg_ein_ix ix;
    bool lines = gemm_columns_lie_well(l, g);
    ir_ref lo[2] = {g->k0, cg_i64(k, 0)}, hi[2] = {g->k1, n};
    cg_nest outer = cg_open_for(l, lo[!lines], hi[!lines], 1, 0, NULL, NULL);
    cg_nest inner = cg_open_for(l, lo[lines], hi[lines], 1, 0, NULL, NULL);
    ir_ref t = (lines ? outer : inner).loop.index, p = (lines ? inner : outer).loop.index;
    ir_ref at = cg_bin(k, OP_mul, p, cg_i64(k, g->col.width));
    memcpy(ix, g->ix, sizeof ix);
    k->lanes = g->col.width;
    gemm_line(l, g, &g->col, cg_ix_linear(cg_bin(k, OP_add, g->col0, at)), ix);
    ir_ref x = gemm_element(l, g, &g->col, cg_ix_uniform(t), ix);
    cg_store(k, g->b, pack_place(l, g, p, t), cg_splat(k, x, g->col.width));
    k->lanes = 0;
    cg_close_for(l, inner, 0, NULL);
    cg_close_for(l, outer, 0, NULL);
}

/* A panel of fewer lines, the others zero: their chains are dropped. */
static void pack_rest(cg_low *l, const gemm *g, ir_ref p, ir_ref left) {
    cg_kernel *k = &l->k;
    cg_ein_ix ix;
    ir_ref zero = cg_splat(k, cg_int(k, cg_reg(g->e.d), 0), g->lanes);
    ir_ref col = cg_bin(k, OP_add, g->col0, cg_bin(k, OP_mul, p, cg_i64(k, g->col.width)));
    cg_nest some = cg_open_if(l, cg_cmp(k, IR_cmpop_lt, cg_i64(k, 0), left));
    cg_nest nest = cg_open_for(l, g->k0, g->k1, 1, 0, NULL, NULL);
    ir_ref at = pack_place(l, g, p, nest.loop.index);
    for (int j = 0; j < g->vectors; j++)
        cg_store(k, g->b, cg_bin(k, OP_add, at, cg_i64(k, j * g->lanes)), zero);
    cg_nest line = cg_open_for(l, cg_i64(k, 0), left, 1, 0, NULL, NULL);
    memcpy(ix, g->ix, sizeof ix);
    gemm_line(l, g, &g->col, cg_ix_uniform(cg_bin(k, OP_add, col, line.loop.index)), ix);
    cg_store(k, g->b, cg_bin(k, OP_add, at, line.loop.index),
             gemm_element(l, g, &g->col, cg_ix_uniform(nest.loop.index), ix));
    cg_close_for(l, line, 0, NULL);
    cg_close_for(l, nest, 0, NULL);
    cg_open_else(l, some, 0, NULL);
    cg_close_if(l, some, 0, NULL);
}

void gemm_pack_rest(cg_low *l, const gemm *g) {
    cg_kernel *k = &l->k;
    ir_ref width = cg_i64(k, g->col.width);
    if (g->col.lines < 0 || g->col.lines % g->col.width)
        pack_rest(l, g, cg_bin(k, OP_div, g->cols, width), cg_bin(k, OP_rem, g->cols, width));
}

/* The whole panels of columns that lie along K: blocks of vectors, transposed.  The last block ends
 * with K and overlaps, so K is at least a vector. */
static void pack_turned(cg_low *l, const gemm *g, ir_ref n) {
    cg_kernel *k = &l->k;
    ir_ref x[CG_LANES], lanes = cg_i64(k, g->lanes), zero = cg_i64(k, 0);
    cg_nest panel = cg_open_for(l, zero, n, 1, 0, NULL, NULL);
    ir_ref p = panel.loop.index, first = cg_bin(k, OP_mul, p, cg_i64(k, g->col.width));
    cg_nest line = cg_open_for(l, zero, cg_i64(k, g->col.width), g->lanes, 0, NULL, NULL);
    ir_ref at = cg_bin(k, OP_add, cg_bin(k, OP_add, g->col0, first), line.loop.index);
    cg_nest nest = cg_open_for(l, g->k0, g->k1, g->lanes, 0, NULL, NULL);
    ir_ref t = cg_bin(k, OP_min, nest.loop.index, cg_bin(k, OP_sub, g->k1, lanes));
    gemm_turn(l, g, at, t, x);
    for (int i = 0; i < g->lanes; i++) {
        ir_ref to = pack_place(l, g, p, cg_bin(k, OP_add, t, cg_i64(k, i)));
        cg_store(k, g->b, cg_bin(k, OP_add, to, line.loop.index), x[i]);
    }
    cg_close_for(l, nest, 0, NULL);
    cg_close_for(l, line, 0, NULL);
    cg_close_for(l, panel, 0, NULL);
}

void gemm_pack_columns(cg_low *l, const gemm *g) {
    cg_kernel *k = &l->k;
    ir_ref n = cg_bin(k, OP_div, g->cols, cg_i64(k, g->col.width));
    cg_nest some = {0};
    if (g->turned) {
        ir_ref depth = cg_bin(k, OP_sub, g->k1, g->k0);
        some = cg_open_if(l, cg_cmp(k, IR_cmpop_le, cg_i64(k, g->lanes), depth));
        pack_turned(l, g, n);
        cg_open_else(l, some, 0, NULL);
    }
    if (!g->turned || g->e.k < 0 || (g->e.k % CG_KB && g->e.k % CG_KB < g->lanes))
        pack_whole(l, g, n);
    if (g->turned) cg_close_if(l, some, 0, NULL);
    gemm_pack_rest(l, g);
}

void gemm_pack_rows(cg_low *l, const gemm *g, int n, ir_ref row, bool whole) {
    cg_kernel *k = &l->k;
    ir_ref last = cg_bin(k, OP_sub, g->row1, cg_i64(k, 1));
    cg_nest nest = cg_open_for(l, g->k0, g->k1, 1, 0, NULL, NULL);
    ir_ref line = cg_bin(k, OP_sub, nest.loop.index, g->k0);
    line = cg_bin(k, OP_mul, line, cg_i64(k, g->height));
    for (int i = 0; i < n; i++) {
        cg_ein_ix ix;
        ir_ref at = cg_bin(k, OP_add, row, cg_i64(k, i));
        if (i && !whole) at = cg_bin(k, OP_min, at, last);
        memcpy(ix, g->ix, sizeof ix);
        gemm_line(l, g, &g->row, cg_ix_uniform(at), ix);
        cg_store(k, g->a, cg_bin(k, OP_add, line, cg_i64(k, i)),
                 gemm_element(l, g, &g->row, cg_ix_uniform(nest.loop.index), ix));
    }
    cg_close_for(l, nest, 0, NULL);
}

/* --- Ahead ---------------------------------------------------------------------------------- */

/* The operand of the columns as the parameter it is a transpose of: how far apart neighbours along
 * each of its axes are, in elements. */
typedef struct pack_source {
    uint32_t param;
    int64_t stride[IG_MAX_RANK];
} pack_source;

/* Whether nothing but op `user` reads v. */
static bool pack_is_only_use(const ir_func *f, ir_ref v, const ir_op *user) {
    for (uint32_t i = 0; i < f->ops.n; i++)
        for (uint32_t j = 0; j < f->ops.data[i].nin; j++)
            if (ir_op_in(f, &f->ops.data[i], j).i == v.i && &f->ops.data[i] != user) return false;
    return true;
}

/* Look through transposes for a parameter of constant size that is read here only. */
static bool pack_find(const cg_low *l, const gemm *g, pack_source *s_) {
    const ir_op *user = g->e.o, *o;
    ir_ref v = ir_op_in(l->f, user, (uint32_t)g->col.operand);
    int rank = cg_type(l, v)->rank, axis[IG_MAX_RANK];
    if (ir_op_in(l->f, user, 0).i == ir_op_in(l->f, user, 1).i) return false;
    for (int i = 0; i < rank; i++) axis[i] = i;
    for (; (o = ir_def_op(l->f, v)); v = ir_op_in(l->f, o, 0), user = o) {
        if (o->code != OP_transpose || !pack_is_only_use(l->f, v, user)) return false;
        const ir_attr_perm *a = ir_attr_get(l->f->module, o->attr);
        for (int i = 0; i < rank; i++) axis[i] = a->perm.a[axis[i]];
    }
    if (!pack_is_only_use(l->f, v, user) || !ir_type_is_static(cg_type(l, v))) return false;
    int64_t stride[IG_MAX_RANK], n = 1;
    for (int i = rank; i-- > 0; n *= cg_type(l, v)->dim[i]) stride[i] = n;
    for (int i = 0; i < rank; i++) s_->stride[i] = stride[axis[i]];
    s_->param = v.i - ir_param_ref(l->f, 0).i;
    return true;
}

bool cg_gemm_packs(cg_low *l, uint32_t *param_) {
    const ir_op *o = cg_ein_find(l);
    gemm g;
    pack_source s;
    if (!o || !gemm_plan(l, o, true, &g) || !pack_find(l, &g, &s)) return false;
    *param_ = s.param;
    return g.col.lines > 0 && g.e.k > 0;
}

/* Axes of a box with their strides in the source. */
typedef struct pack_box {
    int n;
    int64_t size, dim[IR_EIN_VARS], stride[IR_EIN_VARS];
} pack_box;

static void pack_box_add(pack_box *b, const gemm *g, const pack_source *s, int var) {
    const ir_axes *a = &g->e.rel->in[g->col.operand];
    b->dim[b->n] = g->e.extent[var];
    b->size *= b->dim[b->n];
    b->stride[b->n] = 0;
    for (int j = 0; j < a->n; j++)
        if (a->a[j] == var) b->stride[b->n] = s->stride[j];
    b->n++;
}

/* Where entry i of the box lies. */
static int64_t pack_offset(const pack_box *b, int64_t i) {
    int64_t at = 0;
    for (int v = b->n; v-- > 0; i /= b->dim[v]) at += i % b->dim[v] * b->stride[v];
    return at;
}

static void pack_element(ig_dtype d, const char *from, char *to) {
    uint16_t h;
    if (cg_reg(d) == d) {
        memcpy(to, from, rt_dtype_bytes(d));
        return;
    }
    memcpy(&h, from, sizeof h);
    float f = d == IG_f16 ? rt_f16_to_f32(h) : rt_bf16_to_f32(h);
    memcpy(to, &f, sizeof f);
}

/* How far apart consecutive entries are, or -1 when that differs. */
static int64_t pack_step(const pack_box *b) {
    for (int v = 0; v + 1 < b->n; v++)
        if (b->stride[v] != b->stride[v + 1] * b->dim[v + 1]) return -1;
    return b->n ? b->stride[b->n - 1] : 0;
}

/* One line of K into its panels, which are `apart` elements from each other. */
static void pack_spread(const gemm *g, const pack_box *line, const char *from, char *to,
                        int64_t apart) {
    size_t size = rt_dtype_bytes(g->e.d), wide = rt_dtype_bytes(cg_reg(g->e.d));
    int64_t step = pack_step(line), w = g->col.width;
    for (int64_t p = 0; p < line->size; p += w, to += (size_t)apart * wide) {
        int64_t n = g->open && p + w > line->size ? line->size - w : p; /* panels overlap there */
        for (int64_t i = 0; i < w && n + i < line->size; i++) {
            int64_t at = step < 0 ? pack_offset(line, n + i) : (n + i) * step;
            pack_element(g->e.d, from + (size_t)at * size, to + (size_t)i * wide);
        }
    }
}

/* Fill zeroed panels: [matrix][panel][K][width]. */
static void pack_fill(const gemm *g, const pack_source *s, const char *data, char *out) {
    pack_box matrix = {.size = 1}, k = {.size = 1}, line = {.size = 1};
    const ir_rel *rel = g->e.rel;
    size_t size = rt_dtype_bytes(g->e.d), wide = rt_dtype_bytes(cg_reg(g->e.d));
    for (int i = 0; i < g->n; i++)
        if (cg_ein_has(&g->e, g->col.operand, rel->out.a[g->axis[i]]))
            pack_box_add(&matrix, g, s, rel->out.a[g->axis[i]]);
    for (int i = 0; i < rel->norder; i++) pack_box_add(&k, g, s, rel->order[i]);
    for (int i = g->col.first; i <= g->col.last; i++) pack_box_add(&line, g, s, rel->out.a[i]);
    int64_t w = g->col.width, panels = (line.size + w - 1) / w;
    for (int64_t m = 0; m < matrix.size; m++)
        for (int64_t t = 0; t < k.size; t++)
            pack_spread(g, &line,
                        data + (size_t)(pack_offset(&matrix, m) + pack_offset(&k, t)) * size,
                        out + (size_t)((m * panels * k.size + t) * w) * wide, k.size * w);
}

/* The weight of the lowered module with these bytes, added when there is none. */
static ig_status pack_keep(ir_module *m, ig_dtype d, const char *data, size_t n,
                           const char **name_) {
    char name[32];
    for (uint32_t i = 0; i < m->weights.n; i++) {
        const ir_weight *w = &m->weights.data[i];
        if (!cg_weight_is_const(w->name) || w->bytes != n || w->type.dtype != d) continue;
        *name_ = w->name;
        if (!memcmp(w->data, data, n)) return NULL;
    }
    snprintf(name, sizeof name, ".p%u", m->weights.n);
    ir_type type = {.dtype = (uint8_t)d, .rank = 1, .dim = {(ir_dim)(n / rt_dtype_bytes(d))}};
    RT_TRY(ir_add_weight(m, name, type, data, true));
    *name_ = ir_find_weight(m, name)->name;
    return NULL;
}

ig_status cg_gemm_pack_weight(cg_low *l, const void *data, const char **name_) {
    gemm g;
    pack_source s;
    const ig_allocator *a = l->k.b.m->alloc;
    gemm_plan(l, cg_ein_find(l), true, &g);
    pack_find(l, &g, &s);
    size_t n = rt_dtype_bytes(cg_reg(g.e.d));
    ir_dim dim[IG_MAX_RANK];
    cg_ix none[IG_MAX_RANK];
    int outer = gemm_matrices(&g, dim, none);
    bool fits =
        rt_mul_size(n, (size_t)g.e.k, &n) &&
        rt_mul_size(n, (size_t)((g.col.lines + g.col.width - 1) / g.col.width * g.col.width), &n);
    for (int i = 0; i < outer; i++) fits = fits && rt_mul_size(n, (size_t)dim[i], &n);
    if (!fits || !n || n > PACK_MOST) return NULL;
    char *out = rt_alloc_zero(a, n);
    if (!out) return rt_fail_memory();
    pack_fill(&g, &s, data, out);
    ig_status e = pack_keep(l->k.b.m, cg_reg(g.e.d), out, n, name_);
    rt_free(a, out, n);
    return e;
}
