/* windows.c - gather and scatter: windows of a tensor at positions.
 *
 * A gather only moves elements, and so does a scatter that sets: they know the size of an element
 * and nothing else (see move.c).  Any other scatter of small windows is brought to the one form of
 * its kernels, elements of one line at places in a line; where the neighbours in a window are many,
 * the kernel of the elementwise op combines them. */
#include "codegen/eager/eager.h"
#include "frontend/fe.h"
#include "ir/ref.h"
#include <string.h>

/* The windows of one op on their way between x and rows that lie one behind the other. */
typedef struct window_job {
    ir_windows at;
    size_t size, row; /* bytes of an element, of a window */
    int64_t run;      /* elements of a window that are neighbours in x */
    ig_kernel put;    /* of the op that combines; NULL: copies */
} window_job;

static window_job window_job_at(const ir_tensor *x, const ir_tensor *at, const ir_axes *axes,
                                int64_t batch, unsigned oob) {
    window_job j = {.at = ir_windows_at(x, at, axes, batch, oob == IR_oob_clamp)};
    int i = j.at.nrest;
    j.size = rt_dtype_bytes((ig_dtype)x->dtype);
    j.row = (size_t)j.at.count * j.size;
    j.run = 1;
    while (i > 0 && j.at.step[i - 1] == j.run) j.run *= j.at.dim[--i];
    return j;
}

static inline void window_copy(char *to, const char *from, size_t bytes) {
    switch (bytes) { /* a window is often one element */
    case 4: memcpy(to, from, 4); break;
    case 8: memcpy(to, from, 8); break;
    default: memcpy(to, from, bytes);
    }
}

/* --- Gather --------------------------------------------------------------------------------- */

/* Windows of `bytes` bytes at positions [lo, hi) of one batch and one axis. */
static inline void window_line(const window_job *j, const char *x, char *to, int64_t lo, int64_t hi,
                               bool wide, size_t bytes) {
    const void *data = j->at.at[0].data;
    const int axis = j->at.axes->a[0];
    const int64_t n = j->at.x->dim[axis], step = j->at.stride[axis] * (int64_t)j->size;
    for (int64_t k = lo; k < hi; k++, to += bytes) {
        int64_t at = wide ? ((const int64_t *)data)[k] : ((const int32_t *)data)[k];
        if (j->at.clamp) at = at < 0 ? 0 : at >= n ? n - 1 : at;
        if ((uint64_t)at < (uint64_t)n)
            memcpy(to, x + at * step, bytes);
        else
            memset(to, 0, bytes);
    }
}

/* Any windows at positions [lo, hi) of one batch, whose elements begin at `base`. */
static void window_boxes(const window_job *j, const char *x, char *to, int64_t base, int64_t lo,
                         int64_t hi) {
    for (int64_t k = lo; k < hi; k++, to += j->row) {
        int64_t first = ir_windows_first(&j->at, base, k);
        if (first < 0) {
            memset(to, 0, j->row);
        } else if (j->run == j->at.count) {
            window_copy(to, x + (size_t)first * j->size, j->row);
        } else {
            ir_walk w;
            ir_walk_init(&w, j->at.nrest, j->at.dim, j->at.step, first);
            ir_walk_gather(&w, j->size, j->at.count, x, to);
        }
    }
}

/* Positions [lo, hi): bufs are x, the rows, the job. */
static void window_gather(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi) {
    const window_job *j = bufs[2];
    char *to = (char *)bufs[1] + (size_t)lo * j->row;
    bool line = j->at.axes->n == 1 && j->run == j->at.count, wide = j->at.at[0].dtype == IG_i64;
    (void)dims;
    for (int64_t k = lo, end; k < hi; to += (size_t)(end - k) * j->row, k = end) {
        int64_t batch = k / j->at.positions, base = batch * j->at.batch_step;
        const char *x = (const char *)bufs[0] + (size_t)base * j->size;
        end = (batch + 1) * j->at.positions;
        if (end > hi) end = hi;
        if (line && j->row == 4 && wide)
            window_line(j, x, to, k, end, true, 4);
        else if (line && j->row == 8 && wide)
            window_line(j, x, to, k, end, true, 8);
        else if (line)
            window_line(j, x, to, k, end, wide, j->row);
        else
            window_boxes(j, bufs[0], to, base, k, end);
    }
}

#define WINDOW_PS INT64_C(3000) /* estimated picoseconds a position, at least */

static int64_t window_ps(const window_job *j) {
    return j->at.batches * j->at.positions * (WINDOW_PS + (int64_t)j->row * 100);
}

fe_ran fe_gather_run(const void *attr, int nin, ig_tensor *const *in, ig_tensor *out) {
    const ir_attr_gather *a = attr;
    ir_tensor x = fe_ir_tensor(in[0]), at[IG_MAX_RANK];
    for (int i = 1; i < nin; i++) at[i - 1] = fe_ir_tensor(in[i]);
    window_job j = window_job_at(&x, at, &a->axes, a->batch, a->oob);
    void *bufs[3] = {x.data, out->buf->data, &j};
    fe_launch(window_gather, bufs, NULL, j.at.batches * j.at.positions, window_ps(&j));
    return FE_RAN;
}

/* --- Scatter -------------------------------------------------------------------------------- */

/* Neighbours of x meet their updates. */
static void window_put_run(const window_job *j, char *x, char *u) {
    void *bufs[3] = {x, u, x};
    const int64_t dims[CG_EAGER_DIMS] = {1, j->run};
    if (j->put)
        j->put(bufs, dims, 0, 1);
    else
        window_copy(x, u, (size_t)j->run * j->size);
}

static void window_put(const window_job *j, char *x, char *u, int64_t first) {
    ir_walk w;
    if (j->run == j->at.count) {
        window_put_run(j, x + (size_t)first * j->size, u);
        return;
    }
    ir_walk_init(&w, j->at.nrest, j->at.dim, j->at.step, first);
    for (int64_t i = 0; i < j->at.count; i++, ir_walk_next(&w))
        if (i % j->run == 0) window_put_run(j, x + (size_t)w.at * j->size, u + (size_t)i * j->size);
}

/* All positions of batches [lo, hi), in order: bufs are x, the rows, the job. */
static void window_scatter(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi) {
    const window_job *j = bufs[2];
    char *u = (char *)bufs[1] + (size_t)(lo * j->at.positions) * j->row;
    (void)dims;
    for (int64_t batch = lo, k = lo * j->at.positions; batch < hi; batch++)
        for (int64_t i = 0; i < j->at.positions; i++, k++, u += j->row) {
            int64_t first = ir_windows_first(&j->at, batch * j->at.batch_step, k);
            if (first >= 0) window_put(j, bufs[0], u, first);
        }
}

/* The place in x of every update, -1 out of range. */
static void window_places(const window_job *j, int64_t *to) {
    for (int64_t batch = 0, k = 0; batch < j->at.batches; batch++)
        for (int64_t i = 0; i < j->at.positions; i++, k++, to += j->at.count) {
            int64_t first = ir_windows_first(&j->at, batch * j->at.batch_step, k);
            ir_walk w;
            *to = first;
            if (j->at.count == 1) continue;
            ir_walk_init(&w, j->at.nrest, j->at.dim, j->at.step, first);
            for (int64_t e = 0; e < j->at.count; e++, ir_walk_next(&w))
                to[e] = first < 0 ? -1 : w.at;
        }
}

#define WINDOW_RUN 16 /* neighbours from which on the elementwise kernel is faster */

/* Combine small windows by the kernel for elements of a line. */
static fe_ran window_elements(fe_call *c, const window_job *j, ir_putop op, ig_tensor *const *in,
                              ig_tensor *out) {
    const cg_eager_level *l = c->s->session->kernels;
    ir_attr_scatter attr = {.op = op, .axes = {.n = 1}, .oob = IR_oob_drop};
    int64_t dims[2] = {fe_numel(out), fe_numel(in[1])};
    int row = cg_eager_row(l, OP_scatter, &attr, (ig_dtype)out->dtype);
    if (row < 0) return FE_NO_KERNEL;
    ig_tensor *places = fe_new(c, IG_i64, 1, &dims[1]);
    if (fe_is_poison(places)) return FE_FAILED;
    window_places(j, places->buf->data);
    void *bufs[4] = {in[0]->buf->data, in[1]->buf->data, places->buf->data, out->buf->data};
    return fe_kernels_lines(c, row, 0, bufs, dims);
}

fe_ran fe_scatter_run(fe_call *c, const void *attr, int nin, ig_tensor *const *in, ig_tensor *out) {
    const ir_attr_scatter *a = attr;
    const cg_eager_level *l = c->s->session->kernels;
    ir_tensor y = fe_ir_tensor(out), at[IG_MAX_RANK];
    for (int i = 2; i < nin; i++) at[i - 2] = fe_ir_tensor(in[i]);
    window_job j = window_job_at(&y, at, &a->axes, a->batch, a->oob);
    if (a->op != IR_putop_set) {
        if (!l) return FE_NO_KERNEL;
        if (j.run < WINDOW_RUN) return window_elements(c, &j, (ir_putop)a->op, in, out);
        int row = cg_eager_row(l, ir_put_code(a->op), NULL, (ig_dtype)y.dtype);
        j.put = row < 0 ? NULL : cg_eager_kernel(l, row, 0);
        if (!j.put) return FE_NO_KERNEL;
    }
    memcpy(y.data, in[0]->buf->data, out->buf->bytes);
    if (!fe_numel(in[1])) return FE_RAN;
    void *bufs[3] = {y.data, in[1]->buf->data, &j};
    fe_launch(window_scatter, bufs, NULL, j.at.batches, window_ps(&j));
    return FE_RAN;
}
