/* ref.h - what the files of the reference share: one call, strided walks, elementwise rows,
 * prepared bodies. */
#ifndef IR_REF_H
#define IR_REF_H
#include "ir/ir.h"

/* One op on real data: dims are constant, types as the type rule says, output memory is set. */
typedef struct ir_ref_call {
    const ig_allocator *alloc;
    ir_ref_ctx *ctx; /* borrowed; may be NULL */
    ir_class cls;
    ir_opcode op;
    const void *attr; /* struct of the op's attribute kind, dims constant */
    int nin, nout;
    const ir_tensor *in;
    ir_tensor *out;
} ir_ref_call;

const ig_allocator *ir_ref_ctx_alloc(const ir_ref_ctx *ctx);
/* Number of elements; the caller checked that it fits. */
int64_t ir_ref_numel(const ir_tensor *t);
/* Row-major strides in elements. */
void ir_ref_strides(const ir_tensor *t, int64_t stride_[IG_MAX_RANK]);

/* --- Walks (ref_move.c) ----------------------------------------------------------------------- */

/* A walk visits a strided box in row-major order; it can stop anywhere and go on later. */
typedef struct ir_walk {
    int rank; /* >= 1; axes that lie on one line are merged */
    int64_t dim[IG_MAX_RANK], stride[IG_MAX_RANK], idx[IG_MAX_RANK];
    int64_t at; /* of the next element, in elements */
} ir_walk;
void ir_walk_init(ir_walk *w, int rank, const int64_t *dim, const int64_t *stride, int64_t at);
void ir_walk_next(ir_walk *w); /* one element on */
/* Copy the next n elements between the box in `box` and contiguous memory. */
void ir_walk_gather(ir_walk *w, size_t bytes, int64_t n, const void *box, void *out);
void ir_walk_scatter(ir_walk *w, size_t bytes, int64_t n, const void *in, void *box);

/* Strides with which the result of transpose, broadcast, slice or reverse reads its operand x, and
 * the first element. */
int64_t ir_move_strides(ir_opcode op, const void *attr, const ir_tensor *x,
                        int64_t stride_[IG_MAX_RANK]);
/* First element of the window of shape `size` in x; the start of every axis is clamped so that the
 * window fits. */
int64_t ir_move_window(const ir_tensor *x, const int64_t *size, const ir_tensor *start);

/* Windows of x at positions (ref_index.c): the axes that are neither batch nor indexed. */
typedef struct ir_windows {
    const ir_tensor *x, *at; /* what is indexed; one index tensor an axis */
    const ir_axes *axes;
    bool clamp;
    int64_t stride[IG_MAX_RANK]; /* of x */
    int64_t batches, positions;  /* positions a batch */
    int64_t batch_step;          /* elements of x a batch */
    int64_t count;               /* elements of a window */
    int nrest;
    int64_t dim[IG_MAX_RANK], step[IG_MAX_RANK]; /* of a window */
} ir_windows;
ir_windows ir_windows_at(const ir_tensor *x, const ir_tensor *at, const ir_axes *axes,
                         int64_t batch, bool clamp);
/* The first element of the window at position k of all, which is in the batch whose elements of x
 * begin at `base`; -1: it is out of range. */
static inline int64_t ir_windows_first(const ir_windows *j, int64_t base, int64_t k) {
    int64_t first = base;
    for (int i = 0; i < j->axes->n; i++) {
        const ir_tensor *t = &j->at[i];
        int64_t n = j->x->dim[j->axes->a[i]];
        int64_t at = t->dtype == IG_i32 ? ((const int32_t *)t->data)[k]
                                        : ((const int64_t *)t->data)[k];
        if (!j->clamp && (at < 0 || at >= n)) return -1;
        at = at < 0 ? 0 : at >= n ? n - 1 : at;
        first += at * j->stride[j->axes->a[i]];
    }
    return first;
}

ig_status ir_ref_const(const ir_ref_call *c);
ig_status ir_ref_iota(const ir_ref_call *c);
ig_status ir_ref_dim(const ir_ref_call *c);
ig_status ir_ref_copy(const ir_ref_call *c);
ig_status ir_ref_move(const ir_ref_call *c);
ig_status ir_ref_pad(const ir_ref_call *c);
ig_status ir_ref_concat(const ir_ref_call *c);
ig_status ir_ref_dslice(const ir_ref_call *c);
ig_status ir_ref_dupdate(const ir_ref_call *c);
ig_status ir_ref_read(const ir_ref_call *c);
ig_status ir_ref_write(const ir_ref_call *c);

/* --- Index tensors and order (ref_index.c) ---------------------------------------------------- */

ig_status ir_ref_gather(const ir_ref_call *c);
ig_status ir_ref_scatter(const ir_ref_call *c);
ig_status ir_ref_sort(const ir_ref_call *c);

/* --- Elementwise (ref_ew.c, ref_convert.c, ref_fma.c) ----------------------------------------- */

/* n elements of one elementwise op. */
typedef struct ir_ew {
    ir_class cls;
    ir_opcode op;
    const void *attr;
    ig_dtype from, to; /* element type of the last operand, and of the result */
    int64_t n;
    const void *in[3];
    void *out; /* may be an operand when from == to */
} ir_ew;
/* False when the op has no direct definition at this type: a transcendental function, which has a
 * body. */
bool ir_ew_run(const ir_ew *e);
/* y = convert x. */
void ir_convert(ig_dtype from, ig_dtype to, int64_t n, const void *x, void *y);
/* out[i] = a[i * sa] * b[i * sb] + c[i], rounded once, in class nofma twice.  out may be c. */
void ir_fma_f32(ir_class cls, int64_t n, const float *a, int64_t sa, const float *b, int64_t sb,
                const float *c, float *out);
void ir_fma_f64(ir_class cls, int64_t n, const double *a, int64_t sa, const double *b, int64_t sb,
                const double *c, double *out);
/* The order of max and min: NaN wins, -0 < +0. */
float ir_max_f32(float x, float y);
float ir_min_f32(float x, float y);
double ir_max_f64(double x, double y);
double ir_min_f64(double x, double y);

ig_status ir_ref_ew(const ir_ref_call *c);

/* --- Bodies (ref_body.c) ---------------------------------------------------------------------- */

/* A straight-line function of elementwise ops and constants on scalars, prepared to run over
 * arrays. */
typedef struct ir_body ir_body;
ig_status ir_body_new(const ig_allocator *a, const ir_func *f, ir_class cls,
                      ir_body **out_); /* f is borrowed */
void ir_body_free(ir_body *b);
/* Run over n elements: one array a parameter, one array a result. */
void ir_body_run(const ir_body *b, int64_t n, const void *const *in, void *const *out);
/* The body of a transcendental function, or of Philox (OP_rng_bits).  With a context the body
 * belongs to it; else *owned_ is set and the caller frees it with ir_body_drop. */
ig_status ir_body_find(const ir_ref_call *c, ir_opcode op, ig_dtype dtype, const ir_body **out_,
                       void **owned_);
void ir_body_drop(const ig_allocator *a, void *owned);

ig_status ir_ref_rng(const ir_ref_call *c);

/* --- C functions and assertions (custom.c) ---------------------------------------------------- */

ig_status ir_ref_custom(const ir_ref_call *c);
ig_status ir_ref_host(const ir_ref_call *c);
ig_status ir_ref_assert(const ir_ref_call *c);

/* --- Reductions and contractions (ref_reduce.c, ref_ein.c) ------------------------------------ */

/* The type in which reductions and contractions accumulate: f32 for the 16-bit floats, 64 bits for
 * integers (which only the remainder modulo 2^n leaves), else itself. */
ig_dtype ir_ref_acc(ig_dtype d);
ig_status ir_ref_reduce(const ir_ref_call *c);
ig_status ir_ref_cumred(const ir_ref_call *c);
ig_status ir_ref_ein(const ir_ref_call *c);

#endif
