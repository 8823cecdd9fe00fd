/* ref_move.c - reference of the ops that only move elements.
 *
 * All of them are a walk over a strided box: transpose, broadcast, slice and reverse read one, pad,
 * concat and dupdate write one.  A walk keeps its index like an odometer, so that no element costs
 * a division. */
#include "ir/ref.h"

#include <string.h>

/* The product, wrapping: strides of an empty tensor may be meaningless but must not be undefined
 * behaviour. */
static int64_t move_mul(int64_t a, int64_t b) { return (int64_t)((uint64_t)a * (uint64_t)b); }

int64_t ir_ref_numel(const ir_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) {
        if (!t->dim[i]) return 0;
        n = move_mul(n, t->dim[i]);
    }
    return n;
}

void ir_ref_strides(const ir_tensor *t, int64_t stride_[IG_MAX_RANK]) {
    int64_t step = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        stride_[i] = step;
        step = move_mul(step, t->dim[i]);
    }
}

/* --- Walks ------------------------------------------------------------------------------------ */

void ir_walk_init(ir_walk *w, int rank, const int64_t *dim, const int64_t *stride, int64_t at) {
    *w = (ir_walk){.rank = 0, .at = at};
    for (int i = 0; i < rank; i++) {
        int k = w->rank - 1;
        if (dim[i] == 1) continue;
        if (k >= 0 && w->stride[k] == move_mul(dim[i], stride[i])) {
            w->dim[k] = move_mul(w->dim[k], dim[i]);
            w->stride[k] = stride[i];
        } else {
            w->dim[w->rank] = dim[i];
            w->stride[w->rank++] = stride[i];
        }
    }
    if (!w->rank) w->dim[w->rank++] = 1;
}

/* Go n elements on along the last axis, and carry. */
static void walk_advance(ir_walk *w, int64_t n) {
    int k = w->rank - 1;
    w->idx[k] += n;
    w->at += move_mul(n, w->stride[k]);
    while (w->idx[k] == w->dim[k]) {
        w->at -= move_mul(w->dim[k], w->stride[k]);
        w->idx[k] = 0;
        if (!k) return;
        k--;
        w->idx[k]++;
        w->at += w->stride[k];
    }
}

void ir_walk_next(ir_walk *w) { walk_advance(w, 1); }

/* Elements left on the current line, at most n. */
static int64_t walk_line(const ir_walk *w, int64_t n) {
    int64_t left = w->dim[w->rank - 1] - w->idx[w->rank - 1];
    return n < left ? n : left;
}

/* Copy one line; the strides are in elements. */
static void move_line(size_t bytes, int64_t n, const char *x, int64_t xs, char *y, int64_t ys) {
    if (xs == 1 && ys == 1) {
        memcpy(y, x, (size_t)n * bytes);
        return;
    }
    int64_t xb = xs * (int64_t)bytes, yb = ys * (int64_t)bytes;
#define MOVE_LINE(size)                                                       \
    case size:                                                                \
        for (int64_t i = 0; i < n; i++) memcpy(y + i * yb, x + i * xb, size); \
        break
    switch (bytes) {
        MOVE_LINE(1);
        MOVE_LINE(2);
        MOVE_LINE(4);
        MOVE_LINE(8);
    }
}

void ir_walk_gather(ir_walk *w, size_t bytes, int64_t n, const void *box, void *out) {
    char *to = out;
    while (n > 0) {
        int64_t run = walk_line(w, n);
        move_line(bytes, run, (const char *)box + w->at * (int64_t)bytes, w->stride[w->rank - 1],
                  to, 1);
        walk_advance(w, run);
        to += (size_t)run * bytes;
        n -= run;
    }
}

void ir_walk_scatter(ir_walk *w, size_t bytes, int64_t n, const void *in, void *box) {
    const char *from = in;
    while (n > 0) {
        int64_t run = walk_line(w, n);
        move_line(bytes, run, from, 1, (char *)box + w->at * (int64_t)bytes,
                  w->stride[w->rank - 1]);
        walk_advance(w, run);
        from += (size_t)run * bytes;
        n -= run;
    }
}

/* Copy a whole contiguous tensor into a window of another. */
static void move_into(const ir_tensor *x, ir_tensor *y, const int64_t *stride, int64_t at) {
    ir_walk w;
    ir_walk_init(&w, x->rank, x->dim, stride, at);
    ir_walk_scatter(&w, rt_dtype_bytes(x->dtype), ir_ref_numel(x), x->data, y->data);
}

/* --- Constants -------------------------------------------------------------------------------- */

ig_status ir_ref_const(const ir_ref_call *c) {
    const ir_attr_const *a = c->attr;
    if (a->data.n) memcpy(c->out[0].data, a->data.bytes, a->data.n);
    return NULL;
}

ig_status ir_ref_iota(const ir_ref_call *c) {
    enum { CHUNK = 256 };
    const ir_attr_iota *a = c->attr;
    ir_tensor *y = &c->out[0];
    size_t bytes = rt_dtype_bytes(y->dtype), at = 0;
    int64_t count = ir_ref_numel(y), len = y->dim[a->axis], inner = 1, index[CHUNK];
    char value[CHUNK * 8], *out = y->data;
    if (!count) return NULL;
    for (int i = (int)a->axis + 1; i < y->rank; i++) inner *= y->dim[i];
    for (int64_t i = 0; i < len; i += CHUNK) {
        int64_t n = len - i < CHUNK ? len - i : CHUNK;
        for (int64_t k = 0; k < n; k++) index[k] = i + k;
        ir_convert(IG_i64, (ig_dtype)y->dtype, n, index, value);
        for (int64_t k = 0; k < n; k++)
            for (int64_t r = 0; r < inner; r++, at += bytes)
                memcpy(out + at, value + (size_t)k * bytes, bytes);
    }
    for (size_t all = (size_t)count * bytes, period = at; at < all; at += period)
        memcpy(out + at, out, period);
    return NULL;
}

ig_status ir_ref_dim(const ir_ref_call *c) {
    const ir_attr_extent *a = c->attr;
    memcpy(c->out[0].data, &a->n, sizeof a->n); /* in a run its symbols have their sizes */
    return NULL;
}

/* --- Whole tensors and strided reads ---------------------------------------------------------- */

ig_status ir_ref_copy(const ir_ref_call *c) {
    size_t n = (size_t)ir_ref_numel(&c->out[0]) * rt_dtype_bytes(c->out[0].dtype);
    if (n) memcpy(c->out[0].data, c->in[0].data, n);
    return NULL;
}

int64_t ir_move_strides(ir_opcode op, const void *attr, const ir_tensor *x,
                        int64_t stride_[IG_MAX_RANK]) {
    int64_t own[IG_MAX_RANK] = {0}, at = 0;
    ir_ref_strides(x, own);
    memcpy(stride_, own, sizeof own);
    if (op == OP_transpose) {
        const ir_attr_perm *a = attr;
        for (int i = 0; i < x->rank; i++) stride_[i] = own[a->perm.a[i]];
    } else if (op == OP_broadcast) {
        const ir_attr_bcast *a = attr;
        memset(stride_, 0, sizeof own);
        for (int i = 0; i < x->rank; i++)
            if (x->dim[i] != 1) stride_[a->axes.a[i]] = own[i]; /* an extent of 1 stretches */
    } else if (op == OP_slice) {
        const ir_attr_slice *a = attr;
        for (int i = 0; i < x->rank; i++) {
            at += move_mul(a->lo.d[i], own[i]);
            stride_[i] = move_mul(own[i], a->step.v[i]);
        }
    } else { /* reverse */
        const ir_attr_axes *a = attr;
        for (int i = 0; i < a->axes.n; i++) {
            int k = a->axes.a[i];
            at += move_mul(x->dim[k] - 1, own[k]);
            stride_[k] = -own[k];
        }
    }
    return at;
}

ig_status ir_ref_move(const ir_ref_call *c) {
    ir_tensor *y = &c->out[0];
    int64_t stride[IG_MAX_RANK] = {0}, count = ir_ref_numel(y);
    ir_walk w;
    if (!count) return NULL;
    int64_t at = ir_move_strides(c->op, c->attr, &c->in[0], stride);
    ir_walk_init(&w, y->rank, y->dim, stride, at);
    ir_walk_gather(&w, rt_dtype_bytes(y->dtype), count, c->in[0].data, y->data);
    return NULL;
}

/* --- Strided writes --------------------------------------------------------------------------- */

ig_status ir_ref_pad(const ir_ref_call *c) {
    const ir_attr_pad *a = c->attr;
    const ir_tensor *x = &c->in[0];
    ir_tensor *y = &c->out[0];
    static const int64_t still[1] = {0};
    int64_t own[IG_MAX_RANK], stride[IG_MAX_RANK], count = ir_ref_numel(y), at = 0;
    ir_walk w;
    if (!count) return NULL;
    ir_walk_init(&w, 1, &count, still, 0);
    ir_walk_gather(&w, rt_dtype_bytes(y->dtype), count, c->in[1].data, y->data);
    if (!ir_ref_numel(x)) return NULL;
    ir_ref_strides(y, own);
    for (int i = 0; i < y->rank; i++) {
        at += a->lo.d[i] * own[i];
        stride[i] = move_mul(a->interior.v[i] + 1, own[i]);
    }
    move_into(x, y, stride, at);
    return NULL;
}

ig_status ir_ref_concat(const ir_ref_call *c) {
    const ir_attr_axis *a = c->attr;
    int64_t stride[IG_MAX_RANK], at = 0;
    ir_ref_strides(&c->out[0], stride);
    for (int k = 0; k < c->nin; k++) {
        if (!ir_ref_numel(&c->in[k])) continue;
        move_into(&c->in[k], &c->out[0], stride, at);
        at += c->in[k].dim[a->axis] * stride[a->axis];
    }
    return NULL;
}

/* --- Windows ---------------------------------------------------------------------------------- */

int64_t ir_move_window(const ir_tensor *x, const int64_t *size, const ir_tensor *start) {
    int64_t stride[IG_MAX_RANK], at = 0;
    ir_ref_strides(x, stride);
    for (int i = 0; i < x->rank; i++) {
        int64_t s, last = x->dim[i] - size[i];
        memcpy(&s, start[i].data, sizeof s);
        at += move_mul(s < 0 ? 0 : s > last ? last : s, stride[i]);
    }
    return at;
}

ig_status ir_ref_dslice(const ir_ref_call *c) {
    const ir_tensor *x = &c->in[0];
    ir_tensor *y = &c->out[0];
    int64_t stride[IG_MAX_RANK], count = ir_ref_numel(y);
    ir_walk w;
    if (!count) return NULL;
    ir_ref_strides(x, stride);
    ir_walk_init(&w, y->rank, y->dim, stride, ir_move_window(x, y->dim, &c->in[1]));
    ir_walk_gather(&w, rt_dtype_bytes(y->dtype), count, x->data, y->data);
    return NULL;
}

ig_status ir_ref_dupdate(const ir_ref_call *c) {
    const ir_attr_dupd *a = c->attr;
    const ir_tensor *u = &c->in[1];
    ir_tensor *y = &c->out[0];
    size_t bytes = rt_dtype_bytes(y->dtype);
    int64_t stride[IG_MAX_RANK], count = ir_ref_numel(u);
    ir_walk w;
    RT_TRY(ir_ref_copy(c));
    if (!count) return NULL;
    ir_ref_strides(y, stride);
    int64_t at = ir_move_window(y, u->dim, &c->in[2]);
    if (a->op == IR_setop_set) {
        move_into(u, y, stride, at);
        return NULL;
    }
    ir_walk_init(&w, u->rank, u->dim, stride, at);
    for (int64_t i = 0, run; i < count; i += run, walk_advance(&w, run)) {
        run = walk_line(&w, count - i);
        if (w.stride[w.rank - 1] != 1) run = 1; /* a line across rows: its elements lie apart */
        char *to = (char *)y->data + w.at * (int64_t)bytes;
        ir_ew_run(&(ir_ew){.cls = c->cls,
                           .op = OP_add,
                           .from = (ig_dtype)y->dtype,
                           .to = (ig_dtype)y->dtype,
                           .n = run,
                           .in = {to, (const char *)u->data + i * (int64_t)bytes},
                           .out = to});
    }
    return NULL;
}

ig_status ir_ref_read(const ir_ref_call *c) {
    return c->nin == 1 ? ir_ref_copy(c) : ir_ref_dslice(c);
}

/* What the ref holds, in place: its memory is its own. */
ig_status ir_ref_write(const ir_ref_call *c) {
    static const int64_t start;
    ir_tensor in[IG_MAX_RANK + 2], out = c->in[0];
    size_t bytes = (size_t)ir_ref_numel(&out) * rt_dtype_bytes(out.dtype);
    ir_ref_call update = *c;
    memcpy(in, c->in, (size_t)c->nin * sizeof *in);
    for (int k = c->nin; k < out.rank + 2; k++) /* all of it: from the first element on */
        in[k] = (ir_tensor){.dtype = IG_i64, .data = (void *)(uintptr_t)&start};
    if (!bytes) return NULL;
    if (!(out.data = rt_alloc_buffer(c->alloc, bytes))) return rt_fail_memory();
    update.in = in;
    update.nout = 1;
    update.out = &out;
    ig_status s = ir_ref_dupdate(&update);
    if (!s) memcpy(c->in[0].data, out.data, bytes);
    rt_free_buffer(c->alloc, out.data, bytes);
    return s;
}
