/* gemm.h - contractions, as the files that lower them see one (ein.c, gemm*.c). */
#ifndef CG_GEMM_H
#define CG_GEMM_H
#include "codegen/lower.h"
#include "runtime/base/plant.h"

#define GEMM_CHAINS 48 /* of a tile, at most */
#define GEMM_THIN   48 /* rows: fewer do not pay for packing */
#define GEMM_LOW    4  /* rows of their tiles */
#define CG_KB       (RT_PLANTED(wrong_k_cut) ? 256 : IR_KB)

typedef cg_ix cg_ein_ix[IG_MAX_RANK];

#define CG_EIN_ROWS 12 /* of a tile that is read where it lies */

typedef struct cg_ein {
    const ir_op *o;
    const ir_rel *rel;
    ir_ref v; /* the contraction */
    const ir_type *type;
    ig_dtype d;
    ir_dim extent[IR_EIN_VARS];
    int8_t axis[IR_EIN_VARS]; /* output axis of a variable, -1: reduced */
    ir_dim k;                 /* size of the reduction box */
    bool plain;               /* no constraints */
    int factors;              /* operands that are multiplied: the first ones */
    int row;                  /* output axis of the rows of a tile, -1: there are none */
    int64_t step;             /* how far these are apart */
    ir_ein_plan plan;
    uint32_t deps[IR_EIN_VARS]; /* the loop variables on which a variable depends */
} cg_ein;

/* ein.c */
cg_ein cg_ein_begin(cg_low *l, const ir_op *o);
/* Whether an operand is read at subscripts that depend on a loop variable. */
bool cg_ein_has(const cg_ein *g, int operand, int var);
/* The one contraction of the cluster whose shape all results have; NULL when there is none. */
const ir_op *cg_ein_find(const cg_low *l);
/* The registers of n elements of the result (vectors where subscripts differ between lanes),
 * unrounded, operands read where they lie. */
void cg_ein_chains(cg_low *l, const cg_ein *g, int n, const cg_ein_ix *ix, bool vary, ir_ref *out_);
/* Store the results at an element (or a vector of them) whose contraction is known, unrounded. */
void cg_ein_store(cg_low *l, const cg_ein *g, const cg_ix *ix, ir_ref r);
/* The nest that reads the operands where they lie. */
void cg_ein_nest(cg_low *l, const ir_op *o, ir_dim *n_);

/* ein_rel.c: fill deps; the same as cg_ein_chains, of relations with constraints. */
void cg_ein_depend(cg_ein *g);
void cg_ein_rel_chains(cg_low *l, const cg_ein *g, int n, const cg_ein_ix *ix, bool vary,
                       ir_ref *out_);
/* How far apart values of a loop variable are for which an equation divides alike. */
int64_t cg_ein_stride(const cg_ein *g, int var);

/* ein_deep.c */
#define CG_DEEP_RUN 128 /* steps that are transposed ahead: 8 KiB of 16 lanes of f32 */
/* Whether K is so long that blocks of one element should run side by side. */
bool cg_ein_is_deep(const cg_low *l, const cg_ein *e);
/* Whether all elements should be computed so, one by one. */
bool cg_ein_is_few(const cg_low *l, const cg_ein *e);
/* The total over the whole blocks of K of the element at ix; its scratch holds CG_DEEP_RUN vectors.
 */
ir_ref cg_ein_deep(cg_low *l, const cg_ein *e, const cg_ix *ix);

/* gemm.c: one operand as the nest of panels sees it: lines (rows or columns of the result) of K
 * elements each. */
typedef struct gemm_side {
    int operand;
    int first, last; /* the axes of the result that its lines run over; first > last: one line */
    ir_dim lines;
    int width; /* lines of a panel */
} gemm_side;

typedef struct gemm {
    cg_ein e;
    gemm_side row, col;
    int lanes, vectors; /* of a panel of columns */
    int tail;           /* lanes of its last vector, */
    int columns;        /* with which it ends: that many columns of a tile */
    int rest;           /* open: columns of the last panel, 0: as many as of the others */
    int height;         /* rows of a tile */
    int panels;         /* of a chunk of columns */
    int64_t rows;       /* of a chunk, at most */
    bool turned;        /* K is contiguous along the columns, in memory */
    bool far;           /* columns, read where they lie, do not stay in a cache */
    int fetch;          /* steps of K that they are fetched ahead, 0: not */
    bool open;          /* nothing is packed here: gemm_open.c */
    bool home;          /* totals wait where the result goes: gemm_home.c */
    bool inside;        /* open: the epilogue runs on the registers of the tile */
    bool blocks;        /* there may be more than one block of K */
    bool few;           /* the rows may be too few to pack for; open: for a whole tile */
    bool pack_rows;
    bool direct;              /* whole panels of columns are read where they lie */
    bool constant;            /* the columns were packed when the program was compiled */
    ir_ref a, b, total;       /* memory: packed rows (open: chains), packed columns, totals */
    int n, axis[IG_MAX_RANK]; /* the other axes of the result */
    cg_ein_ix ix;             /* subscripts; those of the other axes are set */
    ir_ref row0, row1, col0, cols, npanel; /* the chunk */
    ir_ref matrix; /* constant: the first panel of the matrix that the outer subscripts name */
    ir_ref k0, k1; /* the block of K */
} gemm;

/* gemm_plan.c */
/* Plan the nest of panels; false when reading the operands where they lie is better, or the
 * contraction is no product of matrices. */
bool gemm_plan(cg_low *l, const ir_op *o, bool constant, gemm *g_);
/* The shape of a tile over so many columns. */
void gemm_shape(gemm *g, int64_t columns);
/* Lanes of vector j of a panel, and its first column there. */
static inline int gemm_lanes(const gemm *g, int j) {
    return j % g->vectors == g->vectors - 1 ? g->tail : g->lanes;
}
static inline int gemm_column(const gemm *g, int j) {
    return j % g->vectors == g->vectors - 1 ? g->columns - g->tail : j % g->vectors * g->lanes;
}
/* How far two panels are apart. */
int64_t gemm_depth(const gemm *g);
/* Whether vectors of columns are memory, in elements that need no conversion. */
bool gemm_columns_lie_well(const cg_low *l, const gemm *g);

/* gemm.c */
/* Subscripts of a line, or of consecutive lines. */
void gemm_line(cg_low *l, const gemm *g, const gemm_side *s, cg_ix line, cg_ix *ix_);
/* Element (line, k) of an operand; ix: subscripts with those of the line. */
ir_ref gemm_element(cg_low *l, const gemm *g, const gemm_side *s, cg_ix k, const cg_ix *ix);
/* The other axes of the result that the columns' operand has: extents and subscripts. */
int gemm_matrices(const gemm *g, ir_dim *dim_, cg_ix *ix_);
/* Where element 0 of K of panel p of the chunk would lie. */
ir_ref gemm_panel(cg_low *l, const gemm *g, ir_ref p);

/* Lines [line, line + lanes) of such columns, transposed: vectors of consecutive columns at
 * `lanes` consecutive k from `at` on. */
void gemm_turn(cg_low *l, const gemm *g, ir_ref line, ir_ref at, ir_ref *x_);
/* Fetch what lies at k = `at` of a column, from the line of memory on that it begins. */
void gemm_fetch(cg_low *l, const gemm *g, ir_ref line, ir_ref at);

/* gemm_pack.c: copy the block of K into panels. */
void gemm_pack_columns(cg_low *l, const gemm *g);
void gemm_pack_rest(cg_low *l, const gemm *g); /* the last panel only, when it is not whole */
void gemm_pack_rows(cg_low *l, const gemm *g, int n, ir_ref row, bool whole);

/* gemm_tile.c: one row of tiles: n rows from `row` on against the panels of the chunk, into the
 * totals.  whole: all n exist. */
void gemm_tiles(cg_low *l, const gemm *g, int n, ir_ref row, bool whole);
/* The chains of one tile over the block of K, row by row: rows at the subscripts `row`, against the
 * panel at `panel` (direct: its first column). */
void gemm_tile_chains(cg_low *l, const gemm *g, const ir_ref *row, ir_ref panel, ir_ref *chain_);

/* gemm_home.c: the chunk, columns packed, totals in the result. */
void gemm_home_chunk(cg_low *l, gemm *g);
/* gemm_open.c: the chunk, operands where they lie or packed ahead. */
void gemm_open_chunk(cg_low *l, gemm *g);
#endif
