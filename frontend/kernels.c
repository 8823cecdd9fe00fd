/* kernels.c - running an op by the kernels that were built in (codegen/eager/eager.h).
 *
 * A session chooses the kernels of one CPU level when it is made: the best one here of its class of
 * arithmetic.  What an op asks for is brought to one of a few forms by joining axes that lie on one
 * line; shapes that no form has are first moved into one that a form has.  An op, an element type
 * or a form without a kernel is left to the reference, which gives the same bits. */
#include "codegen/eager/eager.h"
#include "frontend/fe.h"
#include "runtime/kernel_abi.h"
#include <stdlib.h>
#include <string.h>

void fe_kernels_choose(ig_session *s) {
    const char *want = getenv("IG_EAGER");
    s->kernels = NULL;
    s->refer = want && !strcmp(want, "reference");
    for (const cg_eager_level *l = cg_eager_tab; l->name; l++) {
        const cg_cpu *cpu = cg_cpu_find(l->name);
        bool wanted = !want || !*want || !strcmp(want, l->name);
        if (wanted && cpu && cpu->class == s->class && cg_cpu_runs_here(cpu)) s->kernels = l;
    }
}

void fe_launch(ig_kernel kernel, void *const *bufs, const int64_t *dims, int64_t rows, int64_t ps) {
    const ig_exec *pool;
    if (rows <= 0) return;
    if (ps < RT_WORTH_PS || rows == 1) {
        kernel(bufs, dims, 0, rows);
        return;
    }
    pool = ig_pool_exec();
    pool->run(pool, kernel, bufs, dims, rows, ps);
}

/* --- Elementwise ---------------------------------------------------------------------------- */

/* The elements of a result and, for each operand, how far apart they lie; axis 0 is the innermost.
 * Neighbouring axes that lie on one line in every operand are one. */
typedef struct kernels_box {
    int rank;
    int64_t dim[IG_MAX_RANK], stride[3][IG_MAX_RANK];
} kernels_box;

/* Append an axis outside the others. */
static void box_add(kernels_box *b, int nin, int64_t dim, const int64_t *stride) {
    int top = b->rank - 1;
    bool joins = top >= 0;
    if (dim == 1) return;
    for (int k = 0; k < nin && joins; k++)
        joins = stride[k] == fe_wrap_mul(b->stride[k][top], b->dim[top]);
    if (joins) {
        b->dim[top] *= dim;
        return;
    }
    b->dim[b->rank] = dim;
    for (int k = 0; k < nin; k++) b->stride[k][b->rank] = stride[k];
    b->rank++;
}

/* The box of operands that broadcast to dims (aligned at the last axis). */
static void box_init(kernels_box *b, int rank, const int64_t *dim, int nin, ig_tensor *const *in) {
    int64_t own[3] = {1, 1, 1};
    b->rank = 0;
    for (int i = 1; i <= rank; i++) { /* counted from the last axis */
        int64_t stride[3];
        for (int k = 0; k < nin; k++) {
            int64_t d = i <= in[k]->rank ? in[k]->dim[in[k]->rank - i] : 1;
            stride[k] = d == 1 ? 0 : own[k];
            own[k] = fe_wrap_mul(own[k], d);
        }
        box_add(b, nin, dim[rank - i], stride);
    }
}

/* --- Elementwise calls ---------------------------------------------------------------------- */

typedef struct ew_call {
    ig_kernel kernel;
    int nin, form;
    int64_t ps;     /* estimated, an element */
    void *buf[4];   /* operands, then the result */
    size_t size[4]; /* of an element of each */
} ew_call;

/* Find the kernel of a form.  Where only the first operand is a scalar, and the op commutes, there
 * is one for the operands swapped: *swap_ tells to swap. */
static bool ew_find(ew_call *e, const cg_eager_level *l, int row, ir_opcode op, int form,
                    bool *swap_) {
    *swap_ = form == 1 && ir_op_tab[op].commutes;
    e->form = *swap_ ? 2 : form;
    e->kernel = cg_eager_kernel(l, row, e->form);
    e->ps = l->ps[row];
    return e->kernel != NULL;
}

#define EW_CHUNK 4096 /* elements of a row when a long one is cut for the pool */

/* n elements in one row. */
static void ew_run_row(ew_call *e, int64_t n) {
    int64_t dims[CG_EAGER_DIMS], rows = n / EW_CHUNK;
    dims[0] = 1;
    dims[1] = n;
    for (int k = 0; k < e->nin; k++) dims[2 + k] = 0;
    if (rows > 1 && n > RT_WORTH_PS / e->ps) {
        dims[0] = rows;
        dims[1] = EW_CHUNK;
        for (int k = 0; k < e->nin; k++) dims[2 + k] = e->form >> k & 1 ? 0 : EW_CHUNK;
        fe_launch(e->kernel, e->buf, dims, rows, n * e->ps);
        for (int k = 0; k <= e->nin; k++) {
            int64_t step = k == e->nin ? EW_CHUNK : dims[2 + k];
            e->buf[k] = (char *)e->buf[k] + rows * step * (int64_t)e->size[k];
        }
        dims[0] = 1;
        dims[1] = n % EW_CHUNK;
    }
    if (dims[1]) e->kernel(e->buf, dims, 0, 1);
}

/* The rows of a box; the axes outside of them one after the other. */
static void ew_run_box(ew_call *e, const kernels_box *b) {
    int64_t dims[CG_EAGER_DIMS] = {b->dim[1], b->dim[0]}, at[IG_MAX_RANK] = {0};
    int64_t ps = b->dim[0] > INT64_MAX / UINT16_MAX / b->dim[1] ? INT64_MAX
                                                                : b->dim[0] * b->dim[1] * e->ps;
    for (int k = 0; k < e->nin; k++) dims[2 + k] = b->stride[k][1];
    for (;;) {
        fe_launch(e->kernel, e->buf, dims, dims[0], ps);
        int i = 2;
        for (; i < b->rank; i++) {
            bool more = ++at[i] < b->dim[i];
            int64_t by = more ? 1 : 1 - b->dim[i];
            for (int k = 0; k < e->nin; k++)
                e->buf[k] = (char *)e->buf[k] + b->stride[k][i] * by * (int64_t)e->size[k];
            if (more) break;
            at[i] = 0;
        }
        if (i >= b->rank) return;
        e->buf[e->nin] = (char *)e->buf[e->nin] + dims[0] * dims[1] * (int64_t)e->size[e->nin];
    }
}

/* The row of an elementwise op on these operands, or -1. */
static int kernels_row(const cg_eager_level *l, ir_opcode op, const void *attr, int nin,
                       ig_tensor *const *in) {
    ig_dtype d = (ig_dtype)in[nin - 1]->dtype;
    for (int k = 0; k + 1 < nin; k++)
        if (in[k]->dtype != cg_eager_operand(op, k, d)) return -1;
    return cg_eager_row(l, op, attr, d);
}

/* The shape operands broadcast to; false when they do not (who reports that knows more). */
static bool kernels_shape(int nin, ig_tensor *const *in, int *rank_, int64_t *dim_) {
    int rank = 0;
    for (int k = 0; k < nin; k++)
        if (in[k]->rank > rank) rank = in[k]->rank;
    for (int i = 1; i <= rank; i++) {
        int64_t d = 1;
        for (int k = 0; k < nin; k++) {
            int64_t e = i <= in[k]->rank ? in[k]->dim[in[k]->rank - i] : 1;
            if (e != d && e != 1 && d != 1) return false;
            if (d == 1) d = e;
        }
        dim_[rank - i] = d;
    }
    *rank_ = rank;
    return true;
}

/* Allocate the result and the room it needs; false after an error. */
static ig_tensor *ew_result(fe_call *c, ew_call *e, ig_dtype d, int rank, const int64_t *dim) {
    ig_tensor *out = fe_new(c, d, rank, dim);
    e->buf[e->nin] = fe_is_poison(out) ? NULL : out->buf->data;
    e->size[e->nin] = rt_dtype_bytes(d);
    return out;
}

/* Operands of different shapes. */
static ig_tensor *ew_broadcast(fe_call *c, ir_opcode op, int row, ew_call *e,
                               ig_tensor *const *given) {
    const cg_eager_level *l = c->s->session->kernels;
    ig_tensor *in[3];
    int64_t dim[IG_MAX_RANK];
    kernels_box box;
    int rank, form = 0;
    bool swap;
    memcpy(in, given, (size_t)e->nin * sizeof *in);
    if (!kernels_shape(e->nin, in, &rank, dim)) return NULL;
    box_init(&box, rank, dim, e->nin, in);
    for (int k = 0; k < e->nin && box.rank; k++) form |= (box.stride[k][0] == 0) << k;
    if (!ew_find(e, l, row, op, form, &swap)) return NULL;
    if (swap) {
        in[0] = given[1];
        in[1] = given[0];
        box_init(&box, rank, dim, e->nin, in);
    }
    for (int k = 0; k < e->nin; k++) {
        e->buf[k] = in[k]->buf->data;
        e->size[k] = rt_dtype_bytes((ig_dtype)in[k]->dtype);
    }
    ig_tensor *out = ew_result(c, e, (ig_dtype)l->dtype[row], rank, dim);
    if (e->buf[e->nin] && box.rank > 1)
        ew_run_box(e, &box);
    else if (e->buf[e->nin])
        ew_run_row(e, box.rank ? box.dim[0] : 1);
    return out;
}

ig_tensor *fe_kernels_ew(fe_call *c, ir_opcode op, const void *attr, int nin,
                         ig_tensor *const *in) {
    const cg_eager_level *l = c->s->session->kernels;
    int row = kernels_row(l, op, attr, nin, in);
    ew_call e;
    bool same = true, swap;
    e.nin = nin;
    if (row < 0) return NULL;
    for (int k = 1; k < nin; k++) same = same && fe_same_shape(in[0], in[k]);
    if (!same) {
        ig_tensor *out = ew_broadcast(c, op, row, &e, in);
        c->s->session->count.kernels += out != NULL;
        return out;
    }
    if (!ew_find(&e, l, row, op, 0, &swap)) return NULL;
    for (int k = 0; k < nin; k++) {
        e.buf[k] = in[k]->buf->data;
        e.size[k] = rt_dtype_bytes((ig_dtype)in[k]->dtype);
    }
    ig_tensor *out = ew_result(c, &e, (ig_dtype)l->dtype[row], in[0]->rank, in[0]->dim);
    if (e.buf[nin]) ew_run_row(&e, fe_numel(out));
    c->s->session->count.kernels++;
    return out;
}

/* --- Lines: reductions, running reductions, iota -------------------------------------------- */

/* [outer, n, inner] around the axes from `first` to before `end`. */
typedef struct kernels_lines {
    int64_t dims[3];
} kernels_lines;

static kernels_lines lines_around(const ig_tensor *t, int first, int end) {
    kernels_lines r = {{1, 1, 1}};
    for (int i = 0; i < t->rank; i++) {
        int64_t *d = &r.dims[i < first ? 0 : i < end ? 1 : 2];
        *d = fe_wrap_mul(*d, t->dim[i]);
    }
    return r;
}

fe_ran fe_kernels_lines(fe_call *c, int row, int form, void *const *bufs, const int64_t *dims) {
    const cg_eager_level *l = c->s->session->kernels;
    ig_kernel kernel = row < 0 ? NULL : cg_eager_kernel(l, row, form);
    int64_t size[2]; /* rows, picoseconds */
    void *to[1] = {size};
    if (!kernel) return FE_NO_KERNEL;
    cg_eager_kernel(l, row, form + CG_EAGER_SIZE)(to, dims, 0, 1);
    fe_launch(kernel, bufs, dims, size[0], size[1]);
    return FE_RAN;
}

/* x with its axes in another order, as a temporary; x itself when they already are; NULL after an
 * error. */
static ig_tensor *kernels_permute(fe_call *c, ig_tensor *x, const ir_axes *perm) {
    ir_attr_perm attr = {.perm = *perm};
    int64_t dim[IG_MAX_RANK];
    bool same = true;
    for (int i = 0; i < perm->n; i++) {
        dim[i] = x->dim[perm->a[i]];
        same = same && perm->a[i] == i;
    }
    if (same) return x;
    ig_tensor *y = fe_new(c, (ig_dtype)x->dtype, perm->n, dim);
    return !fe_is_poison(y) && fe_run_op(c, OP_transpose, &attr, 1, &x, y) ? y : NULL;
}

/* Reduced axes that are not neighbours go to the end first. */
static fe_ran kernels_reduce(fe_call *c, int row, const ir_attr_reduce *a, ig_tensor *x,
                             const ig_tensor *out) {
    int first = a->axes.n ? a->axes.a[0] : x->rank, end = first + a->axes.n;
    if (a->axes.n && a->axes.a[a->axes.n - 1] != end - 1) {
        ir_axes perm = {.n = 0};
        for (int i = 0, k = 0; i < x->rank; i++) {
            if (k < a->axes.n && a->axes.a[k] == i)
                k++;
            else
                perm.a[perm.n++] = (uint8_t)i;
        }
        first = perm.n;
        end = x->rank;
        for (int k = 0; k < a->axes.n; k++) perm.a[perm.n++] = a->axes.a[k];
        if (!(x = kernels_permute(c, x, &perm))) return FE_FAILED;
    }
    kernels_lines at = lines_around(x, first, end);
    void *bufs[2] = {x->buf->data, out->buf->data};
    return fe_kernels_lines(c, row, at.dims[2] > 1, bufs, at.dims);
}

static fe_ran kernels_along(fe_call *c, int row, int axis, const ig_tensor *t, void *const *bufs) {
    kernels_lines at = lines_around(t, axis, axis + 1);
    return fe_kernels_lines(c, row, at.dims[2] > 1, bufs, at.dims);
}

static fe_ran kernels_try(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor *const *in,
                          ig_tensor *out);

/* From the end: reversed, from the front, reversed again. */
static fe_ran kernels_cumred(fe_call *c, int row, const ir_attr_cumred *a, ig_tensor *x,
                             ig_tensor *out) {
    if (!a->reverse) {
        void *bufs[2] = {x->buf->data, out->buf->data};
        return kernels_along(c, row, (int)a->axis, out, bufs);
    }
    ir_attr_cumred forward = {.op = a->op, .axis = a->axis, .exclusive = a->exclusive};
    ir_attr_axes axes = {.axes = {.n = 1, .a = {(uint8_t)a->axis}}};
    ig_tensor *from = fe_new(c, (ig_dtype)x->dtype, x->rank, x->dim);
    ig_tensor *to = fe_new(c, (ig_dtype)x->dtype, x->rank, x->dim);
    if (fe_is_poison(from) || fe_is_poison(to)) return FE_FAILED;
    if (!fe_run_op(c, OP_reverse, &axes, 1, &x, from)) return FE_FAILED;
    fe_ran ran = kernels_try(c, OP_cumred, &forward, 1, &from, to);
    if (ran != FE_RAN) return ran;
    return fe_run_op(c, OP_reverse, &axes, 1, &to, out) ? FE_RAN : FE_FAILED;
}

/* Adding to a window: the window, the sum, the window set. */
static fe_ran kernels_add_window(fe_call *c, int nin, ig_tensor *const *in, ig_tensor *out) {
    ig_tensor *part[1 + IG_MAX_RANK], *both[2], *set[2 + IG_MAX_RANK];
    const ig_tensor *u = in[1];
    ir_attr_dims dims = {.dims = {.n = u->rank}};
    ir_attr_dupd attr = {.op = IR_setop_set};
    for (int i = 0; i < u->rank; i++) dims.dims.d[i] = u->dim[i];
    both[0] = fe_new(c, (ig_dtype)u->dtype, u->rank, u->dim);
    both[1] = in[1];
    set[1] = fe_new(c, (ig_dtype)u->dtype, u->rank, u->dim);
    if (fe_is_poison(both[0]) || fe_is_poison(set[1])) return FE_FAILED;
    part[0] = set[0] = in[0];
    for (int i = 2; i < nin; i++) part[i - 1] = set[i] = in[i];
    bool ok = fe_run_op(c, OP_dslice, &dims, nin - 1, part, both[0]) &&
              fe_run_op(c, OP_add, NULL, 2, both, set[1]) &&
              fe_run_op(c, OP_dupdate, &attr, nin, set, out);
    return ok ? FE_RAN : FE_FAILED;
}

/* --- Contractions --------------------------------------------------------------------------- */

/* Variables of a contraction in some order; those of extent 1 are left out. */
typedef struct kernels_vars {
    int n;
    uint8_t v[IR_EIN_VARS];
    int64_t extent; /* the product */
} kernels_vars;

enum { EIN_BATCH, EIN_M, EIN_N, EIN_K, EIN_CLASSES };

typedef struct kernels_ein {
    int64_t extent[IR_EIN_VARS];
    kernels_vars of[EIN_CLASSES];
} kernels_ein;

static void vars_add(kernels_vars *s, const kernels_ein *e, uint8_t var) {
    if (e->extent[var] == 1) return;
    s->v[s->n++] = var;
    s->extent = fe_wrap_mul(s->extent, e->extent[var]);
}

/* Where a variable is used: bit 0, 1: operands, bit 2: the result; 8: twice in one of them. */
static unsigned ein_uses(const ir_rel *rel, uint8_t var) {
    unsigned r = 0;
    for (int k = 0; k < 3; k++) {
        const ir_axes *a = k == 2 ? &rel->out : &rel->in[k];
        for (int i = 0; i < a->n; i++)
            if (a->a[i] == var) r |= r >> k & 1 ? 8 : 1u << k;
    }
    return r;
}

/* Sort the variables into batch, M, N and K; false when there are others. */
static bool ein_classify(kernels_ein *e, const ir_rel *rel, ig_tensor *const *in) {
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < rel->in[k].n; i++) e->extent[rel->in[k].a[i]] = in[k]->dim[i];
    for (int k = 0; k < EIN_CLASSES; k++) e->of[k] = (kernels_vars){.extent = 1};
    for (int i = 0; i < rel->out.n; i++) {
        unsigned uses = ein_uses(rel, rel->out.a[i]);
        if (uses < 5 || uses > 7) return false;
        vars_add(&e->of[uses == 7 ? EIN_BATCH : uses == 5 ? EIN_M : EIN_N], e, rel->out.a[i]);
    }
    for (int i = 0; i < rel->norder; i++) {
        if (ein_uses(rel, rel->order[i]) != 3) return false;
        vars_add(&e->of[EIN_K], e, rel->order[i]);
    }
    return true;
}

/* Whether a list of variables is these three classes one after the other. */
static bool ein_is(const kernels_ein *e, const ir_axes *a, int first, int second, int third) {
    const kernels_vars *want[3] = {&e->of[first], &e->of[second], &e->of[third]};
    int k = 0, at = 0;
    for (int i = 0; i < a->n; i++) {
        if (e->extent[a->a[i]] == 1) continue;
        while (k < 3 && at == want[k]->n) k++, at = 0;
        if (k == 3 || want[k]->v[at++] != a->a[i]) return false;
    }
    return true;
}

/* The axes of a list of variables in the order of three classes, then those of extent 1. */
static ir_axes ein_axes(const kernels_ein *e, const ir_axes *a, int first, int second, int third) {
    int class[3] = {first, second, third};
    ir_axes perm = {.n = 0};
    for (int k = 0; k < 3; k++)
        for (int j = 0; j < e->of[class[k]].n; j++)
            for (int i = 0; i < a->n; i++)
                if (a->a[i] == e->of[class[k]].v[j]) perm.a[perm.n++] = (uint8_t)i;
    for (int i = 0; i < a->n; i++)
        if (e->extent[a->a[i]] == 1) perm.a[perm.n++] = (uint8_t)i;
    return perm;
}

/* Bring an operand with the free variables `free` into one of its two forms; *swapped_ when K
 * comes first.  NULL after an error. */
static ig_tensor *ein_operand(fe_call *c, const kernels_ein *e, const ir_axes *a, ig_tensor *x,
                              int free, bool *k_first_) {
    int plain[2] = {free == EIN_M ? EIN_M : EIN_K, free == EIN_M ? EIN_K : EIN_N};
    *k_first_ = free == EIN_N;
    if (ein_is(e, a, EIN_BATCH, plain[0], plain[1])) return x;
    *k_first_ = free == EIN_M;
    if (ein_is(e, a, EIN_BATCH, plain[1], plain[0])) return x;
    *k_first_ = free == EIN_N;
    ir_axes perm = ein_axes(e, a, EIN_BATCH, plain[0], plain[1]);
    return kernels_permute(c, x, &perm);
}

/* Sums of products of two operands. */
static fe_ran kernels_ein_run(fe_call *c, int row, const ir_rel *given, ig_tensor *const *in,
                              ig_tensor *out) {
    ir_rel rel = *given;
    ig_tensor *x[2] = {in[0], in[1]}, *to = out;
    kernels_ein e;
    bool k_first[2];
    if (!ir_ein_is_plain(given)) return fe_relation_run(c, given, in, out);
    if (rel.nin != 2 || rel.monoid != IR_redop_sum || row < 0) return FE_NO_KERNEL;
    if (!ein_classify(&e, &rel, x)) return FE_NO_KERNEL;
    if (!ein_is(&e, &rel.out, EIN_BATCH, EIN_M, EIN_N) &&
        ein_is(&e, &rel.out, EIN_BATCH, EIN_N, EIN_M)) { /* the product of the transposes */
        rel.in[0] = given->in[1], rel.in[1] = given->in[0];
        x[0] = in[1], x[1] = in[0];
        ein_classify(&e, &rel, x);
    }
    for (int k = 0; k < 2; k++)
        if (!(x[k] = ein_operand(c, &e, &rel.in[k], x[k], k ? EIN_N : EIN_M, &k_first[k])))
            return FE_FAILED;
    bool direct = ein_is(&e, &rel.out, EIN_BATCH, EIN_M, EIN_N);
    ir_axes perm = ein_axes(&e, &rel.out, EIN_BATCH, EIN_M, EIN_N), back = {.n = perm.n};
    if (!direct) {
        int64_t dim[IG_MAX_RANK];
        for (int i = 0; i < perm.n; i++) {
            dim[i] = out->dim[perm.a[i]];
            back.a[perm.a[i]] = (uint8_t)i;
        }
        to = fe_new(c, (ig_dtype)out->dtype, perm.n, dim);
        if (fe_is_poison(to)) return FE_FAILED;
    }
    int64_t dims[4] = {e.of[EIN_BATCH].extent, e.of[EIN_M].extent, e.of[EIN_N].extent,
                       e.of[EIN_K].extent};
    void *bufs[3] = {x[0]->buf->data, x[1]->buf->data, to->buf->data};
    fe_ran ran = fe_kernels_lines(c, row, (k_first[0] ? 1 : 0) | (k_first[1] ? 0 : 2), bufs, dims);
    if (direct || ran != FE_RAN) return ran;
    bool ok = fe_run_op(c, OP_transpose, &(ir_attr_perm){.perm = back}, 1, &to, out);
    return ok ? FE_RAN : FE_FAILED;
}

/* --- Any op --------------------------------------------------------------------------------- */

static fe_ran kernels_elementwise(fe_call *c, int row, ir_opcode op, int nin, ig_tensor *const *in,
                                  ig_tensor *out) {
    ew_call e;
    bool swap;
    e.nin = nin;
    if (row < 0 || !ew_find(&e, c->s->session->kernels, row, op, 0, &swap)) return FE_NO_KERNEL;
    for (int k = 0; k <= nin; k++) {
        const ig_tensor *t = k == nin ? out : in[k];
        e.buf[k] = t->buf->data;
        e.size[k] = rt_dtype_bytes((ig_dtype)t->dtype);
    }
    ew_run_row(&e, fe_numel(out));
    return FE_RAN;
}

static fe_ran kernels_try(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor *const *in,
                          ig_tensor *out) {
    const cg_eager_level *l = c->s->session->kernels;
    ig_dtype d = nin ? (ig_dtype)in[nin - 1]->dtype : IG_NONE;
    int row = cg_eager_row(l, op, attr, d);
    void *bufs[2] = {nin ? in[0]->buf->data : out->buf->data, out->buf->data};
    int64_t n = fe_numel(out);
    switch (op) {
    case OP_reduce: return kernels_reduce(c, row, attr, in[0], out);
    case OP_cumred: return kernels_cumred(c, row, attr, in[0], out);
    case OP_dupdate: return kernels_add_window(c, nin, in, out);
    case OP_iota:
        return kernels_along(c, row, (int)((const ir_attr_iota *)attr)->axis, out, bufs + 1);
    case OP_rng_bits: return fe_kernels_lines(c, row, 0, bufs, &n);
    case OP_ein: return kernels_ein_run(c, row, &((const ir_attr_ein *)attr)->rel, in, out);
    default:
        if (!ir_is_elementwise(op)) return FE_NO_KERNEL;
        return kernels_elementwise(c, row, op, nin, in, out);
    }
}

fe_ran fe_kernels_run(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor *const *in,
                      ig_tensor *const *out) {
    const ig_session *s = c->s->session;
    fe_ran ran = FE_RAN;
    if (s->refer) return FE_NO_KERNEL;
    if (out[0]->buf->bytes && op == OP_gather)
        ran = fe_gather_run(attr, nin, in, out[0]);
    else if (out[0]->buf->bytes && op == OP_scatter)
        ran = fe_scatter_run(c, attr, nin, in, out[0]);
    else if (out[0]->buf->bytes && op == OP_sort)
        ran = s->kernels ? fe_sort_run(c, attr, nin, in, out) : FE_NO_KERNEL;
    else if (out[0]->buf->bytes && !fe_move_run(op, attr, nin, in, out[0]))
        ran = s->kernels ? kernels_try(c, op, attr, nin, in, out[0]) : FE_NO_KERNEL;
    if (ran == FE_RAN) c->s->session->count.kernels++;
    return ran;
}
