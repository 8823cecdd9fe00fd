/* lower.h - the state of lowering one cluster to one kernel, shared by the files that write loop
 * nests.
 *
 * lower.c evaluates by pulling: cg_pull(value, index) writes the code that computes one element of
 * a value, or CG_LANES consecutive ones.  The nests (nest.c elementwise, rows.c, reduce.c, scan.c,
 * gemm.c) open the loops and pull what they store. */
#ifndef CG_LOWER_H
#define CG_LOWER_H
#include "codegen/kernel.h"
#include "ir/rows.h"

/* --- Indices (index.c) ---------------------------------------------------------------------- */

/* One subscript.  Lanes of a vector: the same for all, a constant apart, or anything.  FLAT is
 * entry `pos` of the row-major splitting of a flat index over some dims, divided out only when it
 * is not put together again. */
typedef enum cg_ix_kind { CG_IX_UNIFORM, CG_IX_LINEAR, CG_IX_VECTOR, CG_IX_FLAT } cg_ix_kind;
typedef struct cg_ix {
    uint16_t kind;
    uint16_t pos;   /* FLAT: which entry.  LINEAR: 1 when it is known to be aligned */
    uint32_t r;     /* the scalar of lane 0; the vector; or the group's number */
    int64_t stride; /* LINEAR: between lanes, not 0 */
} cg_ix;

typedef struct cg_group {
    cg_ix t;
    ir_dims dims;
} cg_group;

typedef struct cg_low cg_low;

static inline cg_ix cg_ix_uniform(ir_ref r) { return (cg_ix){CG_IX_UNIFORM, 0, r.i, 0}; }
static inline cg_ix cg_ix_linear(ir_ref r) { return (cg_ix){CG_IX_LINEAR, 0, r.i, 1}; }
/* Consecutive lanes from a multiple of the lanes on: what divides by such a number is uniform. */
static inline cg_ix cg_ix_aligned(ir_ref r) { return (cg_ix){CG_IX_LINEAR, 1, r.i, 1}; }
cg_ix cg_ix_const(cg_low *l, int64_t x);
/* The index as a register: an i64 scalar when uniform, else a vector. */
ir_ref cg_ix_value(cg_low *l, cg_ix x);
/* The same index, not FLAT. */
cg_ix cg_ix_solid(cg_low *l, cg_ix x);
cg_ix cg_ix_add(cg_low *l, cg_ix x, cg_ix y);
cg_ix cg_ix_mul(cg_low *l, cg_ix x, int64_t c);
cg_ix cg_ix_mul_dim(cg_low *l, cg_ix x, ir_dim d);
cg_ix cg_ix_div(cg_low *l, cg_ix x, ir_dim d, bool rem); /* x >= 0, d > 0 where it runs */
/* The row-major position of a subscript tuple in a box. */
cg_ix cg_ix_flat(cg_low *l, int n, const ir_dim *dim, const cg_ix *ix);
/* Subscripts of position t of a box. */
void cg_ix_split(cg_low *l, cg_ix t, int n, const ir_dim *dim, cg_ix *ix_);

/* --- The pull evaluator (lower.c) ----------------------------------------------------------- */

/* An element being computed.  What is suspended lives here, not on the C stack: a cluster may be
 * deep. */
typedef struct cg_frame {
    ir_ref v;
    uint32_t step;      /* how far its rule is */
    uint32_t arg, nest; /* where its own arguments and open branches begin */
    bool vary;          /* some subscript differs between lanes */
    ir_ref tmp[4];
    cg_ix ix[IG_MAX_RANK];
} cg_frame;

typedef struct cg_memo {
    uint32_t v, next, bucket;
    ir_ref r;
    int64_t lanes;
    cg_ix ix[IG_MAX_RANK];
} cg_memo;

/* An open loop or branch: memo entries and groups made inside go when it ends. */
typedef struct cg_nest {
    cg_loop loop;
    uint32_t memo, groups;
} cg_nest;

#define CG_MEMO_BUCKETS 256 /* a tile keeps a few hundred values alive */
#define CG_CORE_DEPTH   4   /* reductions inside reductions; the fusion pass makes one a cluster */

/* The rows of a cluster (rows.c). */
typedef struct cg_rows {
    ir_rows rows;
    ir_rowmap *at;         /* by value of the cluster; owned */
    uint32_t *pass;        /* by value: bit i: read in pass i, elementwise from its end; owned */
    ir_ref *kept;          /* by value: the memory that holds it for the row, or {0}; owned */
    uint32_t now;          /* the pass being written */
    uint32_t ahead;        /* the pass that fetches the next row */
    bool columns;          /* the vector runs along the last axis, which is not of the row */
    cg_ix ix[IG_MAX_RANK]; /* of the full index; those of the row are not valid */
} cg_rows;

/* A reduction in two steps (ir_rows_has_room) is two kernels: one fills the room with the totals of
 * the blocks, one reads it. */
typedef enum cg_room { CG_ROOM_NONE, CG_ROOM_FILL, CG_ROOM_READ } cg_room;

struct cg_low {
    cg_kernel k;
    const ir_func *f; /* the cluster */
    const cg_cpu *cpu;
    ir_ref *mem;           /* by value of f: the memory of a parameter or of a constant; owned */
    const char **blob;     /* by value of f: the weight that holds a constant, or NULL; owned */
    ir_ref *out;           /* by result: memory */
    ir_ref *scratch;       /* by value of f: memory a core works in; owned */
    const ir_dims *stride; /* by operand: of its memory, n 0: contiguous; borrowed, may be NULL */
    const char
        *packed_name; /* the weight that holds columns of the contraction in panels, or NULL */
    ir_ref packed;    /* its memory */
    bool apart;       /* no result lies in the memory of an operand */
    const ir_op *update; /* the result, where it lies in the memory of what it updates, or NULL */
    int64_t step;     /* lanes that loops along the results take at a time (lanes.c), */
    int64_t whole;    /* the same where all vectors are whole and the result is one loop */
    int64_t strip;    /* and when each is a reduction of a column; 0: no reductions */
    cg_room room;     /* what is done with the last result, when that is room */
    bool scalar;      /* no vectors along the results: a core runs them along its own loop */
    const struct cg_steps *steps; /* the open loop over steps, or NULL */
    cg_rows *rows;                /* NULL: its reductions do not share their rows */
    ir_ref lo, hi;                /* the part of the outermost loop */
    RT_VEC(cg_frame) frames;
    RT_VEC(cg_group) groups;
    RT_VEC(cg_memo) memo;
    RT_VEC(ir_ref) args;
    RT_VEC(cg_nest) nests;
    uint32_t bucket[CG_MEMO_BUCKETS]; /* newest memo entry + 1 */
    ir_ref ret;                       /* of the frame that ended last */
    uint32_t depth;                   /* cores being written inside cores */
};

/* The register of value v of the cluster at this subscript: a scalar when no lane differs, else a
 * vector. */
ir_ref cg_pull(cg_low *l, ir_ref v, const cg_ix *ix);
/* Strides of the memory of value v; NULL: contiguous, or no operand of the cluster. */
const ir_dims *cg_strides(const cg_low *l, ir_ref v);
/* Make a value known at a subscript, for as long as the open loop lasts. */
void cg_seed(cg_low *l, ir_ref v, const cg_ix *ix, ir_ref r);
static inline const ir_type *cg_type(const cg_low *l, ir_ref v) { return ir_val_type(l->f, v); }
/* Results that are computed: all but room. */
static inline uint32_t cg_nresult(const cg_low *l) {
    return ir_return_op(l->f)->nin - (l->room ? 1u : 0u);
}
static inline bool cg_lower_failed(const cg_low *l) { return cg_failed(&l->k); }

/* Loops and branches as in kernel.h, with the memo's scope. */
cg_nest cg_open_for(cg_low *l, ir_ref lo, ir_ref hi, int64_t step, int n, const ir_ref *init,
                    ir_ref *carried_);
ir_ref cg_close_for(cg_low *l, cg_nest nest, int n, const ir_ref *yield);
cg_nest cg_open_if(cg_low *l, ir_ref cond);
void cg_open_else(cg_low *l, cg_nest nest, int n, const ir_ref *yield);
ir_ref cg_close_if(cg_low *l, cg_nest nest, int n, const ir_ref *yield);

/* --- Nests ---------------------------------------------------------------------------------- */

/* Before the loops: make the scratch memory of every core, and decide l->scalar. */
void cg_reduce_prepare(cg_low *l);
void cg_ein_prepare(cg_low *l);
/* reduce.c, scan.c, gemm.c: the register of a reduction, running reduction or contraction at a
 * subscript. */
ir_ref cg_reduce_at(cg_low *l, const ir_op *o, const cg_ix *ix);
bool cg_room_nest(cg_low *l, ir_dim *n_); /* the first step of a reduction in two */
ir_ref cg_cumred_at(cg_low *l, const ir_op *o, const cg_ix *ix);
ir_ref cg_ein_at(cg_low *l, const ir_op *o, const cg_ix *ix);
/* Whole kernels; *n_ is the extent of the outermost loop.  All but the first return false, having
 * written nothing, when the cluster is not of their kind. */
void cg_plain_nest(cg_low *l, ir_dim *n_);
bool cg_gemm_nest(cg_low *l, ir_dim *n_);
bool cg_scan_nest(cg_low *l, ir_dim *n_);
bool cg_rows_nest(cg_low *l, ir_dim *n_);
bool cg_scatter_nest(cg_low *l, ir_dim *n_);
bool cg_sort_nest(cg_low *l, ir_dim *n_);
bool cg_steps_nest(cg_low *l, ir_dim *n_);
/* steps.c: the operand that a region's parameter is a slice of, and the subscript in it; {0} when
 * it is none. */
ir_ref cg_steps_slice(const cg_low *l, ir_ref v, const cg_ix *ix, cg_ix *whole_);
/* nest.c: store the elements of a row of the result: loops over the axes in the mask, the trailing
 * ones with vectors; ix has the subscripts of the others. */
void cg_nest_inner(cg_low *l, uint32_t row, const cg_ix *ix);
/* rows.c: what the pull evaluator asks and tells at every value: the register of a value kept
 * from an earlier pass over the row, or {0}; a value has been computed. */
ir_ref cg_rows_find(cg_low *l, ir_ref v, const cg_ix *ix);
void cg_rows_tell(cg_low *l, ir_ref v, const cg_ix *ix, ir_ref r);
/* A pass reads elements [t, t + lanes) of the row: fetch those of the next one. */
void cg_rows_ahead(cg_low *l, ir_ref t, int64_t lanes);
/* What a monoid starts from, and one step of it: registers of element type d, 16-bit floats not
 * rounded. */
ir_ref cg_identity(cg_low *l, ir_redop op, ig_dtype d);
ir_ref cg_monoid(cg_low *l, ir_redop op, ig_dtype d, ir_ref x, ir_ref y);

/* lanes.c: choose l->step and l->strip. */
void cg_lanes_prepare(cg_low *l);

/* cost.c: the estimated picoseconds of a kernel that has been written, all of it. */
ir_dim cg_cost(const cg_low *l);

/* gemm.c: whether the cluster's contraction reads a parameter in panels, and nothing else reads it:
 * then it may be packed ahead. */
bool cg_gemm_packs(cg_low *l, uint32_t *param_);
/* The panels as a weight of the lowered module; its name begins with a dot. */
ig_status cg_gemm_pack_weight(cg_low *l, const void *data, const char **name_);

/* program.c: the weight of the lowered module that holds a constant (see cg_weight_is_const). */
ig_status cg_const_weight(ir_module *out, ir_attr number, const ir_attr_const *a,
                          const char **name_);

/* host.c: write the host program and the workspace function into `out`. */
typedef struct cg_launch {
    const char *kernel;
    const char *end; /* the kernel of a second step, or NULL */
    ir_dim end_n;    /* and the extent of its outermost loop, a constant: it runs in one part */
    const ir_op *call;
    ir_dim n;    /* extent of the outermost loop */
    ir_dim cost; /* estimated picoseconds of the whole */
    const char *const *blob;
    uint32_t nblob;
    int packed; /* the operand that the last blob stands for, -1: none */
    bool apart; /* no result lies in the memory of an operand */
    int home;   /* the operand whose memory the first result is said to lie in, -1: none */
    const ir_op *invoked; /* of the callee: a C function or an assertion in place of a kernel */
} cg_launch;
/* invoke.c: that op of a call's callee, or NULL. */
const ir_op *cg_invoked(const ir_module *planned, const ir_op *call);
ig_status cg_host(const ir_module *planned, const ir_func *entry, ir_module *out,
                  const cg_launch *launch);
#endif
