/* gemm_plan.c - how a contraction runs as a product of matrices: which operand gives rows and which
 * columns, the size of a tile, what is packed, and how the result is cut into chunks.
 *
 * All of it comes from one model (gemm_plan): of the register tiles that the target holds, the one
 * whose steps over the whole result take the fewest cycles, where a step of K takes as long as its
 * multiplications, its loads, or the latency of too few chains; a chunk whose rows stay in the
 * second-level cache and that is long enough to be worth handing to a thread. */
#include "codegen/gemm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GEMM_CHUNK_BYTES 256 /* columns packed together: with IR_KB rows a quarter of an L2 */
#define GEMM_ROWS        384 /* of a chunk: packing costs as much as 4 to 8 of them */
#define GEMM_ALL         (INT64_C(1) << 40)

#define GEMM_PARTS 4  /* chunks wanted, for threads to share */
#define GEMM_WIDTH 32 /* columns of a packed panel, at most */
/* Of 256 KiB: what is pulled in between has scratch, too. */
#define GEMM_STACK (INT64_C(240) << 10)

/* Of the model (caches: of 48 and of 32 KiB, of 1 MiB): */
#define GEMM_L1_PERIOD 4096
#define GEMM_L1_WAYS   8 /* of 12: columns need some */
#define GEMM_L2_PERIOD (INT64_C(64) << 10)
#define GEMM_L2_WAYS   16
#define GEMM_HEIGHT    16                   /* rows of a tile: each is code */
#define GEMM_VECTORS   15                   /* of a tile */
#define GEMM_LATENCY   8                    /* chains that keep both multipliers busy */
#define GEMM_FAR       16                   /* half cycles a step: measured at strides of 12 KiB */
#define GEMM_ENTER     30                   /* cycles around the chains of a tile */
#define GEMM_NEAR      (INT64_C(384) << 10) /* bytes of rows that stay in L2 beside a panel */
#define GEMM_GRAIN     1024 /* cycles of a chunk: what a thread should get at least */
#define GEMM_NARROW    4    /* columns: fewer are filled up with zeros */
#define GEMM_USUAL     192  /* rows, where their number is known only when it runs */
#define GEMM_TURNED    4    /* rows: as many transpose columns in registers */
#define GEMM_LINES     32   /* that are transposed in turns, at most: half as many where these */
#define GEMM_PAGES     (INT64_C(96) << 10) /* bytes do not hold them */
#define GEMM_OUTER     (INT64_C(16) << 20) /* bytes that no cache keeps */
#define GEMM_AHEAD     128 /* elements that are then fetched ahead: more or fewer are slower */
#define GEMM_LATE      800 /* cycles that columns which do not stay in a cache are fetched ahead */
#define GEMM_HIDES     3   /* rows whose products take longer than the fetching */
#define GEMM_PACKED    64  /* columns of a panel that is packed as it runs: one vector of the IR */
#define GEMM_INSIDE    96  /* ops of an epilogue that may be written into a tile */

/* --- Roles ---------------------------------------------------------------------------------- */

/* The number of the axis of an operand that carries an axis of the result, or -1. */
static int gemm_position(const cg_ein *e, int operand, int axis) {
    for (int j = 0; j < e->rel->in[operand].n; j++)
        if (e->rel->in[operand].a[j] == e->rel->out.a[axis]) return j;
    return -1;
}

/* Lines along `axis` and the axes before it that one operand alone has, in the same order. */
static gemm_side gemm_find_side(cg_low *l, const cg_ein *e, int operand, int axis) {
    gemm_side s = {.operand = operand, .first = axis, .last = axis, .lines = e->type->dim[axis]};
    for (int i = axis - 1; i >= 0; i--) {
        int at = gemm_position(e, operand, i);
        if (at < 0 || gemm_position(e, 1 - operand, i) >= 0) break;
        if (at + 1 != gemm_position(e, operand, i + 1)) break;
        s.first = i;
        s.lines = ir_dim_mul(l->k.b.m, s.lines, e->type->dim[i]);
    }
    return s;
}

/* Find rows and columns; false when the contraction is no product of matrices. */
static bool gemm_roles(cg_low *l, gemm *g) {
    const cg_ein *e = &g->e;
    int last = e->type->rank - 1;
    if (!e->plain || e->rel->nin != 2 || e->rel->monoid != IR_redop_sum || !e->rel->norder)
        return false;
    int b = gemm_position(e, 1, last) >= 0, a = 1 - b;
    if (gemm_position(e, a, last) >= 0) return false;
    g->col = gemm_find_side(l, e, b, last);
    g->row = (gemm_side){.operand = a, .first = 0, .last = -1, .lines = 1};
    for (int i = g->col.first - 1; i >= 0; i--)
        if (gemm_position(e, a, i) >= 0 && gemm_position(e, b, i) < 0) {
            g->row = gemm_find_side(l, e, a, i);
            break;
        }
    for (int i = 0; i < g->col.first; i++)
        if (i < g->row.first || i > g->row.last) g->axis[g->n++] = i;
    return true;
}

/* Whether an operand is memory, in elements that need no conversion. */
static bool gemm_is_memory(const cg_low *l, const gemm *g, int operand) {
    return !ir_def_op(l->f, ir_op_in(l->f, g->e.o, (uint32_t)operand)) && cg_reg(g->e.d) == g->e.d;
}

/* Whether an operand is memory along which K is contiguous. */
static bool gemm_lies_along_k(const cg_low *l, const gemm *g, int operand) {
    const cg_ein *e = &g->e;
    const ir_axes *a = &e->rel->in[operand];
    if (!gemm_is_memory(l, g, operand)) return false;
    if (a->n < e->rel->norder) return false;
    for (int v = 0; v < e->rel->norder; v++)
        if (a->a[a->n - e->rel->norder + v] != e->rel->order[v]) return false;
    return true;
}

/* --- Plan ----------------------------------------------------------------------------------- */

bool gemm_columns_lie_well(const cg_low *l, const gemm *g) {
    const cg_ein *e = &g->e;
    const ir_axes *b = &e->rel->in[g->col.operand];
    ir_ref v = ir_op_in(l->f, e->o, (uint32_t)g->col.operand);
    return gemm_is_memory(l, g, g->col.operand) && !cg_strides(l, v) &&
           b->a[b->n - 1] == e->rel->out.a[e->type->rank - 1];
}

int64_t gemm_depth(const gemm *g) { return g->e.k >= 0 && g->e.k < CG_KB ? g->e.k : CG_KB; }

/* Chunks of equal rows, and enough of them to share out: each packs its columns, unless one follows
 * the other over a single block of K. */
static void gemm_even(gemm *g) {
    int64_t lines = g->row.lines, width = g->panels * g->col.width, parts = 1;
    if (lines < 1) return;
    if (g->col.lines >= 0) parts = (g->col.lines + width - 1) / width;
    for (int i = 0; i < g->n && parts < GEMM_PARTS; i++)
        if (g->e.type->dim[g->axis[i]] > 1) parts *= g->e.type->dim[g->axis[i]];
    int64_t n = (lines + g->rows - 1) / g->rows;
    int64_t least = g->height * (g->blocks && !g->constant ? 16 : 4);
    while (parts * n < GEMM_PARTS && lines / (2 * n) >= least) n *= 2;
    int64_t each = (lines + n - 1) / n;
    g->rows = (each + g->height - 1) / g->height * g->height;
}

/* --- The model ------------------------------------------------------------------------------ */

/* How often `by` has to be laid down to cover n; a size not known yet counts as one. */
static int64_t gemm_times(int64_t n, int64_t by) { return n > 0 ? (n + by - 1) / by : 1; }

/* Twice the cycles of a step of K.  A vector costs more to load than an element, and where the
 * columns have to come from afar, each time, a step waits for pages and lines. */
static int64_t gemm_step(const gemm *g, int height, int vectors) {
    int64_t work = (int64_t)height * vectors, loads = height + 4 * vectors;
    if (work < loads) work = loads;
    if (g->far && work < GEMM_FAR + 2 * vectors) work = GEMM_FAR + 2 * vectors;
    return work < GEMM_LATENCY ? GEMM_LATENCY : work;
}

/* Whether n lines of memory, so many bytes apart, are in a cache at once: lines a multiple of its
 * period apart share `ways` places. */
static bool gemm_is_spread(int64_t stride, int64_t period, int64_t ways, int64_t n) {
    int64_t apart = stride & -stride; /* what of the stride divides the period */
    return n <= (apart < period ? period / apart : 1) * ways;
}

/* Whether so many lines of K of a panel that is read where it lies stay in the second-level cache.
 */
static bool gemm_stays(const gemm *g, int64_t depth) {
    int64_t stride = g->col.lines * (int64_t)rt_dtype_bytes(g->e.d);
    return gemm_is_spread(stride, GEMM_L2_PERIOD, GEMM_L2_WAYS, depth);
}

/* Twice the cycles of a tile. */
static int64_t gemm_tile_time(const gemm *g, int height, int vectors, int64_t depth) {
    return gemm_step(g, height, vectors) * depth + 2 * GEMM_ENTER + 2 * height * vectors;
}

/* The same for a row of tiles.  The last panel overlaps the one before; where that is a waste, the
 * columns that are left, *rest_ of them, have a narrower one, which is more code. */
static int64_t gemm_across(const gemm *g, int height, int vectors, int64_t depth, int *rest_) {
    int64_t n = g->col.lines, width = (int64_t)vectors * g->lanes;
    int left = (int)gemm_times(n % width, g->lanes);
    int64_t each = gemm_tile_time(g, height, vectors, depth), over = gemm_times(n, width) * each;
    *rest_ = 0;
    if (n <= width || n % width == 0 || left == vectors) return over;
    int64_t narrow = n / width * each + gemm_tile_time(g, height, left, depth);
    if (narrow * 16 > over * 15) return over;
    *rest_ = (int)(n % width);
    return narrow;
}

/* Twice the tiles of a column of them; of a number of rows not known yet half a tile is idle. */
static int64_t gemm_down(const gemm *g, int height) {
    if (g->row.lines < 0) return (2 * GEMM_USUAL + height) / height;
    return 2 * gemm_times(g->row.lines, height);
}

/* The last vector has as few lanes as hold what is left; it overlaps the one before, or the panel
 * before when it is the only one.  Transposed columns come in whole vectors. */
void gemm_shape(gemm *g, int64_t columns) {
    int left = (int)(columns % g->lanes);
    g->vectors = (int)gemm_times(columns, g->lanes);
    g->tail = g->lanes;
    while (!g->turned && left && g->tail / 2 >= left && g->tail / 2 >= GEMM_NARROW) g->tail /= 2;
    if (g->turned) columns = (int64_t)g->vectors * g->lanes;
    g->columns = columns < g->tail ? g->tail : (int)columns;
}

/* Vectors of columns that lie along K, at most: as many lines as the processor fetches ahead by
 * itself. */
static int gemm_turned_most(const gemm *g) {
    int64_t stride = g->e.k > 0 ? g->e.k : CG_KB;
    int64_t near = GEMM_PAGES / (stride * (int64_t)rt_dtype_bytes(g->e.d)), most = near / g->lanes;
    int64_t few = GEMM_LINES / g->lanes;
    if (most < few / 2) most = few / 2;
    if (most > few) most = few;
    return most < 1 ? 1 : (int)most;
}

/* Choose among the tiles of so many rows and vectors, 0: any number.  Every one fits the registers
 * with a step's columns and the element (and without fused multiply-add the product). */
static bool gemm_search(const cg_low *l, gemm *g, int height, int vectors) {
    int64_t m = g->row.lines < 0 ? GEMM_USUAL : g->row.lines, n = g->col.lines,
            depth = g->e.k > 0 ? g->e.k : CG_KB;
    int64_t best = INT64_MAX, between = sizeof(float);
    bool turned = g->turned && !g->home;
    if (gemm_lies_along_k(l, g, g->row.operand))
        between = depth * (int64_t)rt_dtype_bytes(g->e.d); /* rows */
    int spare = l->cpu->class == IR_CLASS_FMA ? 1 : 2;
    int most = turned ? gemm_turned_most(g) : GEMM_VECTORS;
    int64_t across = turned ? n / g->lanes : gemm_times(n, g->lanes);
    for (int v = 1; v <= most && v <= across; v++)
        for (int h = 1; h <= GEMM_HEIGHT && h <= m; h++) {
            if ((height && h != height) || (vectors && v != vectors)) continue;
            if (!gemm_is_spread(between, GEMM_L1_PERIOD, GEMM_L1_WAYS, h)) continue;
            if (g->home && (n % (v * g->lanes) || v * g->lanes > GEMM_PACKED)) continue;
            if (h * v + (turned ? g->lanes : v) + spare > l->cpu->registers) continue;
            int rest;
            int64_t all = gemm_down(g, h) * gemm_across(g, h, v, depth, &rest);
            if (all >= best) continue;
            best = all;
            g->height = h, g->vectors = v, g->rest = rest;
        }
    return best < INT64_MAX;
}

/* Choose the tile of an open nest.  IG_TILE=<rows>x<vectors> asks for one, for measurements
 * (bench/blocking.py). */
static void gemm_tile_size(const cg_low *l, gemm *g) {
    int h, v;
    const char *want = getenv("IG_TILE");
    while (g->lanes > g->col.lines) g->lanes /= 2;
    bool found = want && sscanf(want, "%dx%d", &h, &v) == 2 && gemm_search(l, g, h, v);
    if (!found) gemm_search(l, g, 0, 0);
    int64_t width = (int64_t)g->vectors * g->lanes;
    gemm_shape(g, width < g->col.lines ? width : g->col.lines);
    g->col.width = g->columns;
}

/* Chunks of an open nest: rows that stay in L2, and as many of both as threads can use. */
static void gemm_open_chunks(gemm *g) {
    int64_t m = g->row.lines, depth = g->e.k > 0 ? g->e.k : CG_KB, h = g->height;
    int64_t bytes = (int64_t)rt_dtype_bytes(g->e.d) * depth, rows = GEMM_NEAR / bytes;
    int64_t panels = gemm_times(g->col.lines, g->col.width);
    int64_t line = gemm_step(g, g->height, g->vectors) * depth / (2 * h) +
                   1; /* cycles, of a panel */
    if (m >= 0 && rows > m) rows = m;
    rows = rows < h ? h : (rows + h - 1) / h * h;
    while (rows * line >= 2 * GEMM_GRAIN && gemm_times(m, rows) * panels < 2 * GEMM_PARTS &&
           rows > h)
        rows = (rows / h + 1) / 2 * h;
    g->rows = rows;
    g->panels = (int)(GEMM_GRAIN / (rows * line) + 1);
    if (g->panels > panels) g->panels = (int)panels;
}

/* Chunks of a home nest: as many columns as the stack holds packed, or up to half as many where
 * that shares out more evenly; and all rows, as far as there are threads enough for the columns. */
static void gemm_home_chunks(gemm *g) {
    int64_t panels = g->col.lines / g->col.width, best = INT64_MAX, parts = 1;
    int64_t bytes = gemm_depth(g) * g->col.width * (int64_t)rt_dtype_bytes(g->e.d);
    int64_t most = GEMM_STACK / bytes;
    for (int64_t p = most; p >= 1 && 2 * p >= most; p--) {
        int64_t n = gemm_times(panels, p), each = gemm_times(n, 2) * p;
        if (each < best) best = each, g->panels = (int)p, parts = n;
    }
    for (int i = 0; i < g->n && parts < GEMM_PARTS; i++)
        if (g->e.type->dim[g->axis[i]] > 1) parts *= g->e.type->dim[g->axis[i]];
    int64_t lines = g->row.lines < 0 ? GEMM_ROWS : g->row.lines;
    g->rows = gemm_times(lines, GEMM_PARTS / parts + (GEMM_PARTS % parts > 0));
    g->rows = gemm_times(g->rows, g->height) * g->height;
    if (g->row.lines < 0 && parts >= GEMM_PARTS) g->rows = GEMM_ALL;
}

/* Whether the result can hold totals, and columns and rows are such that it pays. */
static bool gemm_is_home(const cg_low *l, const gemm *g) {
    const ir_op *ret = ir_return_op(l->f);
    int64_t lo, hi;
    bool rows = gemm_is_memory(l, g, g->row.operand) && g->e.rel->norder == 1;
    ir_dim_range(l->k.b.m, g->row.lines, &lo, &hi);
    if (!rows || g->constant || hi < GEMM_THIN || g->col.lines < g->lanes) return false;
    if (lo < GEMM_THIN && g->turned) return false;
    if (g->e.k >= 0 && g->e.k * g->col.lines * 4 <= GEMM_NEAR) return false;
    if (g->col.lines % g->lanes || !(g->turned || gemm_columns_lie_well(l, g))) return false;
    return ret->nin == 1 && ir_result_type(l->f, 0)->dtype == g->e.d;
}

/* How many ops the epilogue has, or more than are worth copying. */
static int gemm_epilogue(const cg_low *l, const gemm *g) {
    int n = 0;
    for (uint32_t i = 0; i < l->f->ops.n; i++) {
        const ir_op *o = &l->f->ops.data[i];
        if (o == g->e.o || !ir_is_elementwise((ir_opcode)o->code)) continue;
        n += ir_op_tab[o->code].arity && !ir_math_has((ir_opcode)o->code, IG_f32) ? 1 : GEMM_INSIDE;
    }
    return n + (int)ir_return_op(l->f)->nin;
}

/* Whether nothing has to be packed: the rows are memory, the columns too or packed ahead. */
static bool gemm_is_open(const cg_low *l, const gemm *g) {
    bool rows = gemm_lies_along_k(l, g, g->row.operand) ||
                (gemm_is_memory(l, g, g->row.operand) && g->e.rel->norder == 1);
    if (!rows || g->col.lines < GEMM_NARROW) return false;
    if (g->constant) return true;
    int64_t lo, hi;
    ir_dim_range(l->k.b.m, g->row.lines, &lo, &hi);
    if (g->turned) return hi <= GEMM_TURNED && g->col.lines >= g->lanes;
    if (!gemm_columns_lie_well(l, g)) return false;
    int64_t depth = g->e.k > 0 ? g->e.k : CG_KB;
    return hi <= GEMM_THIN || depth * g->col.lines * 4 <= GEMM_NEAR;
}

/* Whether this nest is the way: a product of a matrix with a vector that lies along K is not, and
 * few long dots are not. */
static bool gemm_is_worth(const cg_low *l, const gemm *g) {
    if (!g->e.k || !g->row.lines || !g->col.lines) return false;
    if (cg_ein_is_few(l, &g->e)) return false;
    return g->open || g->row.first <= g->row.last || gemm_columns_lie_well(l, g);
}

/* Steps of K that columns which come from afar are fetched ahead. */
static int gemm_ahead(const gemm *g) {
    return (int)(2 * GEMM_LATE / gemm_step(g, g->height, g->vectors));
}

static void gemm_plan_open(cg_low *l, gemm *g) {
    g->direct = !g->constant;
    int64_t depth = g->e.k > 0 ? g->e.k : CG_KB;
    int64_t bytes = depth * g->col.lines * (int64_t)rt_dtype_bytes(g->e.d);
    bool once = g->row.lines <= GEMM_HEIGHT && bytes > GEMM_NEAR;
    g->far = g->direct && !g->turned && (once || !gemm_stays(g, depth));
    bool outer = g->e.k > 0 &&
                 g->e.k * g->col.lines >= GEMM_OUTER / (int64_t)rt_dtype_bytes(g->e.d);
    gemm_tile_size(l, g);
    if (g->turned && outer)
        g->fetch = GEMM_AHEAD;
    else if (g->far && g->height >= GEMM_HIDES)
        g->fetch = gemm_ahead(g);
    gemm_open_chunks(g);
    g->inside = !g->blocks && g->height * g->vectors * gemm_epilogue(l, g) <= GEMM_INSIDE;
}

static void gemm_plan_home(cg_low *l, gemm *g) {
    int64_t lo, hi;
    ir_dim_range(l->k.b.m, g->row.lines, &lo, &hi);
    gemm_tile_size(l, g);
    g->few = lo < GEMM_THIN;
    if (g->few) g->fetch = gemm_ahead(g);
    g->direct = !g->turned && gemm_stays(g, gemm_depth(g));
    gemm_home_chunks(g);
}

static void gemm_plan_packed(cg_low *l, gemm *g) {
    int64_t lo, hi;
    int bytes = (int)rt_dtype_bytes(cg_reg(g->e.d));
    g->vectors = l->cpu->tile_vectors;
    if (g->vectors * g->lanes > GEMM_WIDTH) g->vectors = GEMM_WIDTH / g->lanes;
    g->height = l->cpu->tile_rows;
    g->col.width = g->lanes * g->vectors;
    gemm_shape(g, g->col.width);
    g->panels = GEMM_CHUNK_BYTES / bytes / g->col.width;
    if (g->panels < 1) g->panels = 1;
    ir_dim_range(l->k.b.m, g->row.lines, &lo, &hi);
    bool few = lo < GEMM_THIN && !g->constant && gemm_columns_lie_well(l, g);
    g->direct = few && hi < GEMM_THIN;
    g->few = few && hi >= GEMM_THIN;
    g->pack_rows = !gemm_lies_along_k(l, g, g->row.operand);
    int64_t line = (int64_t)bytes * g->panels * g->col.width, depth = gemm_depth(g);
    int64_t left = GEMM_STACK - depth * line - depth * bytes * g->height * g->pack_rows;
    g->rows = left / line < GEMM_ROWS ? left / line : GEMM_ROWS;
    g->rows = g->rows / g->height * g->height;
    if (hi < g->rows) g->rows = (hi + g->height - 1) / g->height * g->height;
    if (g->rows < 1) g->rows = g->height;
    gemm_even(g);
}

bool gemm_plan(cg_low *l, const ir_op *o, bool constant, gemm *g) {
    int64_t lo, hi;
    *g = (gemm){.e = cg_ein_begin(l, o), .constant = constant};
    if (!gemm_roles(l, g)) return false;
    g->lanes = l->cpu->vector_bits / 8 / (int)rt_dtype_bytes(cg_reg(g->e.d));
    if (g->lanes > CG_LANES) g->lanes = CG_LANES;
    ir_dim_range(l->k.b.m, g->e.k, &lo, &hi);
    g->blocks = hi > CG_KB;
    g->turned = !constant && gemm_lies_along_k(l, g, g->col.operand) && g->e.rel->norder == 1 &&
                (g->e.k < 0 || g->e.k >= g->lanes);
    g->home = gemm_is_home(l, g);
    g->open = !g->home && gemm_is_open(l, g);
    if (!gemm_is_worth(l, g)) return false;
    if (g->open)
        gemm_plan_open(l, g);
    else if (g->home)
        gemm_plan_home(l, g);
    else
        gemm_plan_packed(l, g);
    return true;
}
