/* move.c - ops that only move elements, as copies between strided boxes.
 *
 * They know the size of an element and nothing else, and what limits them is memory, not code: so
 * the kernels here are written in C (they have the type of all kernels, and the pool splits their
 * rows), and work without LLVM, too.  Axes that lie on one line in both boxes are one.  An operand
 * that lies the other way round is walked in tiles, so that a line of the cache is used up while it
 * is there. */
#include "frontend/fe.h"
#include "ir/ref.h"
#include <string.h>

/* Where the elements of an operand go: axis 0 is the innermost; strides in elements. */
typedef struct move_box {
    int rank;
    size_t size; /* of an element */
    int64_t dim[IG_MAX_RANK], from[IG_MAX_RANK], to[IG_MAX_RANK];
} move_box;

/* The box of a shape whose axes have these strides. */
static move_box move_join(size_t size, int rank, const int64_t *dim, const int64_t *from,
                          const int64_t *to) {
    move_box b = {.size = size};
    for (int i = rank - 1; i >= 0; i--) {
        int top = b.rank - 1;
        if (dim[i] == 1) continue;
        if (top >= 0 && from[i] == fe_wrap_mul(b.from[top], b.dim[top]) &&
            to[i] == fe_wrap_mul(b.to[top], b.dim[top])) {
            b.dim[top] = fe_wrap_mul(b.dim[top], dim[i]);
            continue;
        }
        b.dim[b.rank] = dim[i];
        b.from[b.rank] = from[i];
        b.to[b.rank++] = to[i];
    }
    return b;
}

/* --- Kernels -------------------------------------------------------------------------------- */

/* dims of both kernels */
enum { MOVE_ROWS, MOVE_N, MOVE_SIZE, MOVE_FROM_ROW, MOVE_FROM, MOVE_TO_ROW, MOVE_TO, MOVE_DIMS };

/* n copies of one element. */
static void move_fill(char *to, const char *from, size_t size, size_t n) {
    size_t done = size, all = n * size;
    memcpy(to, from, size);
    while (done < all) {
        size_t part = done < all - done ? done : all - done;
        if (part > 4096) part = 4096 / size * size; /* from the first-level cache */
        memcpy(to + done, to, part);
        done += part;
    }
}

/* n elements whose strides in bytes are given. */
static void move_line(char *to, int64_t to_step, const char *from, int64_t from_step, size_t size,
                      int64_t n) {
#define MOVE_ELEMENTS(bytes)                                                                   \
    case bytes:                                                                                \
        for (int64_t i = 0; i < n; i++) memcpy(to + i * to_step, from + i * from_step, bytes); \
        break
    switch (size) {
        MOVE_ELEMENTS(1);
        MOVE_ELEMENTS(2);
        MOVE_ELEMENTS(4);
        MOVE_ELEMENTS(8);
    }
}

static void move_rows(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi) {
    size_t size = (size_t)dims[MOVE_SIZE];
    int64_t bytes = dims[MOVE_SIZE], n = dims[MOVE_N];
    for (int64_t r = lo; r < hi; r++) {
        const char *from = (const char *)bufs[0] + r * dims[MOVE_FROM_ROW] * bytes;
        char *to = (char *)bufs[1] + r * dims[MOVE_TO_ROW] * bytes;
        if (dims[MOVE_TO] == 1 && dims[MOVE_FROM] == 1)
            memcpy(to, from, (size_t)(n * bytes));
        else if (dims[MOVE_TO] == 1 && dims[MOVE_FROM] == 0)
            move_fill(to, from, size, (size_t)n);
        else
            move_line(to, dims[MOVE_TO] * bytes, from, dims[MOVE_FROM] * bytes, size, n);
    }
}

#define MOVE_TILE 16 /* elements of 4 bytes in a line of the cache */

/* Rows in groups of MOVE_TILE, so many elements of each at a time. */
static void move_tiles(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi) {
    int64_t bytes = dims[MOVE_SIZE], n = dims[MOVE_N], rows = dims[MOVE_ROWS];
    for (int64_t tile = lo; tile < hi; tile++)
        for (int64_t i = 0; i < n; i += MOVE_TILE) {
            int64_t first = tile * MOVE_TILE, left = n - i < MOVE_TILE ? n - i : MOVE_TILE;
            int64_t end = rows - first < MOVE_TILE ? rows : first + MOVE_TILE;
            for (int64_t r = first; r < end; r++)
                move_line((char *)bufs[1] + (r * dims[MOVE_TO_ROW] + i * dims[MOVE_TO]) * bytes,
                          dims[MOVE_TO] * bytes,
                          (const char *)bufs[0] +
                              (r * dims[MOVE_FROM_ROW] + i * dims[MOVE_FROM]) * bytes,
                          dims[MOVE_FROM] * bytes, (size_t)bytes, left);
        }
}

/* --- Boxes ---------------------------------------------------------------------------------- */

#define MOVE_PS   INT64_C(100) /* estimated picoseconds a byte, at least */
#define MOVE_PART ((int64_t)1 << 16)

/* Make axis `axis` the second one: rows of the kernel. */
static void move_swap(move_box *b, int axis) {
    int64_t *list[3] = {b->dim, b->from, b->to};
    for (int i = 0; i < 3; i++) {
        int64_t x = list[i][1];
        list[i][1] = list[i][axis];
        list[i][axis] = x;
    }
}

/* Cut a long single line into rows, so that threads may share it. */
static void move_cut(move_box *b) {
    int64_t part = MOVE_PART;
    while (part > 1 && b->dim[0] % part) part /= 2;
    if (b->rank != 1 || b->dim[0] < 16 * MOVE_PART || part < 1024) return;
    b->dim[1] = b->dim[0] / part;
    b->from[1] = fe_wrap_mul(b->from[0], part);
    b->to[1] = fe_wrap_mul(b->to[0], part);
    b->dim[0] = part;
    b->rank = 2;
}

/* Copy; from and to are the places of the first element. */
static void move_copy(move_box b, const void *from, void *to) {
    int64_t at[IG_MAX_RANK] = {0}, count = 1;
    char *buf[2];
    int across = 0;
    memcpy(&buf[0], &from, sizeof from); /* only read */
    buf[1] = to;
    move_cut(&b);
    for (int i = 0; i < b.rank; i++) count = fe_wrap_mul(count, b.dim[i]);
    if (!count) return;
    if (!b.rank) b.rank = 1, b.dim[0] = 1, b.from[0] = b.to[0] = 1;
    for (int i = 1; i < b.rank && (b.from[0] > 1 || b.from[0] < -1); i++)
        if (b.from[i] == 1 || b.from[i] == -1) across = i;
    if (across) move_swap(&b, across);
    int64_t rows = b.rank > 1 ? b.dim[1] : 1;
    int64_t dims[MOVE_DIMS] = {rows,
                               b.dim[0],
                               (int64_t)b.size,
                               b.rank > 1 ? b.from[1] : 0,
                               b.from[0],
                               b.rank > 1 ? b.to[1] : 0,
                               b.to[0]};
    int64_t ps = rows * b.dim[0] * (int64_t)b.size * MOVE_PS;
    for (;;) {
        fe_launch(across ? move_tiles : move_rows, (void *const *)buf, dims,
                  across ? (rows + MOVE_TILE - 1) / MOVE_TILE : rows, ps);
        int i = 2;
        for (; i < b.rank; i++) {
            bool more = ++at[i] < b.dim[i];
            int64_t by = more ? 1 : 1 - b.dim[i];
            buf[0] += b.from[i] * by * (int64_t)b.size;
            buf[1] += b.to[i] * by * (int64_t)b.size;
            if (more) break;
            at[i] = 0;
        }
        if (i >= b.rank) return;
    }
}

/* Read x with strides from its element `at` on; the result is contiguous. */
static void move_read(const ir_tensor *x, int64_t at, const int64_t *stride, const ir_tensor *y) {
    int64_t own[IG_MAX_RANK];
    size_t size = rt_dtype_bytes((ig_dtype)y->dtype);
    ir_ref_strides(y, own);
    move_copy(move_join(size, y->rank, y->dim, stride, own),
              (const char *)x->data + at * (int64_t)size, y->data);
}

/* Write the contiguous x with strides from element `at` of y on. */
static void move_write(const ir_tensor *x, const ir_tensor *y, int64_t at, const int64_t *stride) {
    int64_t own[IG_MAX_RANK];
    size_t size = rt_dtype_bytes((ig_dtype)y->dtype);
    ir_ref_strides(x, own);
    move_copy(move_join(size, x->rank, x->dim, own, stride), x->data,
              (char *)y->data + at * (int64_t)size);
}

/* --- Ops ------------------------------------------------------------------------------------ */

static void move_pad(const ir_attr_pad *a, const ir_tensor *x, const ir_tensor *value,
                     const ir_tensor *y) {
    int64_t stride[IG_MAX_RANK], at = 0;
    static const int64_t still[IG_MAX_RANK];
    move_read(value, 0, still, y);
    ir_ref_strides(y, stride);
    for (int i = 0; i < y->rank; i++) {
        at += fe_wrap_mul(a->lo.d[i], stride[i]);
        stride[i] = fe_wrap_mul(a->interior.v[i] + 1, stride[i]);
    }
    move_write(x, y, at, stride);
}

static void move_concat(const ir_attr_axis *a, int nin, ig_tensor *const *in, const ir_tensor *y) {
    int64_t stride[IG_MAX_RANK], at = 0;
    ir_ref_strides(y, stride);
    for (int k = 0; k < nin; k++) {
        ir_tensor x = fe_ir_tensor(in[k]);
        move_write(&x, y, at, stride);
        at += fe_wrap_mul(x.dim[a->axis], stride[a->axis]);
    }
}

bool fe_move_run(ir_opcode op, const void *attr, int nin, ig_tensor *const *in, ig_tensor *out) {
    ir_tensor x[IG_MAX_RANK + 2], y = fe_ir_tensor(out);
    int64_t stride[IG_MAX_RANK] = {0}, at;
    if (op == OP_concat) {
        move_concat(attr, nin, in, &y);
        return true;
    }
    if (nin < 1 || nin > IG_MAX_RANK + 2) return false;
    for (int k = 0; k < nin; k++) x[k] = fe_ir_tensor(in[k]);
    switch (op) {
    case OP_transpose:
    case OP_broadcast:
    case OP_slice:
    case OP_reverse:
        at = ir_move_strides(op, attr, &x[0], stride);
        move_read(&x[0], at, stride, &y);
        return true;
    case OP_dslice:
        ir_ref_strides(&x[0], stride);
        move_read(&x[0], ir_move_window(&x[0], y.dim, &x[1]), stride, &y);
        return true;
    case OP_dupdate:
        if (((const ir_attr_dupd *)attr)->op != IR_setop_set) return false;
        ir_ref_strides(&y, stride);
        move_read(&x[0], 0, stride, &y);
        move_write(&x[1], &y, ir_move_window(&y, x[1].dim, &x[2]), stride);
        return true;
    case OP_pad: move_pad(attr, &x[0], &x[1], &y); return true;
    default: return false;
    }
}
