/* ref_index.c - reference of the ops that read and write at index tensors, and of sort.
 *
 * gather and scatter go through the positions in row-major order, batch axes first.  A position
 * names a window of x: the axes that are neither batch nor indexed.  sort orders positions by words
 * made from the keys, which compare as unsigned integers, and then moves every operand. */
#include "ir/ref.h"

#include <string.h>

/* --- Windows at indices ----------------------------------------------------------------------- */

ir_windows ir_windows_at(const ir_tensor *x, const ir_tensor *at, const ir_axes *axes,
                         int64_t batch, bool clamp) {
    ir_windows j = {x, at, axes, clamp, {0}, 1, 1, 1, 1, 0, {0}, {0}};
    ir_ref_strides(x, j.stride);
    for (int i = 0; i < at->rank; i++) *(i < batch ? &j.batches : &j.positions) *= at->dim[i];
    for (int i = (int)batch, a = 0; i < x->rank; i++) {
        j.batch_step *= x->dim[i];
        if (a < axes->n && axes->a[a] == i) {
            a++;
            continue;
        }
        j.dim[j.nrest] = x->dim[i];
        j.step[j.nrest++] = j.stride[i];
        j.count *= x->dim[i];
    }
    return j;
}

/* Begin a walk over the window of position k of all; false when it is out of range. */
static bool index_window(const ir_windows *j, int64_t k, ir_walk *w_) {
    int64_t first = ir_windows_first(j, k / j->positions * j->batch_step, k);
    if (first >= 0) ir_walk_init(w_, j->nrest, j->dim, j->step, first);
    return first >= 0;
}

ig_status ir_ref_gather(const ir_ref_call *c) {
    const ir_attr_gather *a = c->attr;
    size_t size = rt_dtype_bytes(c->out[0].dtype), row;
    char *to = c->out[0].data;
    ir_windows j;
    ir_walk w;
    if (!ir_ref_numel(&c->out[0])) return NULL;
    j = ir_windows_at(&c->in[0], &c->in[1], &a->axes, a->batch, a->oob == IR_oob_clamp);
    row = (size_t)j.count * size;
    for (int64_t k = 0; k < j.batches * j.positions; k++, to += row) {
        if (index_window(&j, k, &w))
            ir_walk_gather(&w, size, j.count, c->in[0].data, to);
        else
            memset(to, 0, row);
    }
    return NULL;
}

/* Combine a window with its update, in `room`, and put it back. */
static void index_put(const ir_ref_call *c, const ir_windows *j, ir_walk w, const void *u,
                      void *room) {
    const ir_attr_scatter *a = c->attr;
    ig_dtype d = (ig_dtype)c->out[0].dtype;
    size_t size = rt_dtype_bytes(d);
    ir_walk back = w;
    if (a->op != IR_putop_set) {
        ir_walk_gather(&w, size, j->count, c->out[0].data, room);
        ir_ew_run(&(ir_ew){.cls = c->cls,
                           .op = ir_put_code(a->op),
                           .from = d,
                           .to = d,
                           .n = j->count,
                           .in = {room, u},
                           .out = room});
        u = room;
    }
    ir_walk_scatter(&back, size, j->count, u, c->out[0].data);
}

ig_status ir_ref_scatter(const ir_ref_call *c) {
    const ir_attr_scatter *a = c->attr;
    const char *u = c->in[1].data;
    ir_windows j;
    ir_walk w;
    RT_TRY(ir_ref_copy(c));
    if (!ir_ref_numel(&c->in[1])) return NULL;
    j = ir_windows_at(&c->out[0], &c->in[2], &a->axes, a->batch, a->oob == IR_oob_clamp);
    size_t row = (size_t)j.count * rt_dtype_bytes(c->out[0].dtype);
    void *room = rt_alloc(c->alloc, row);
    if (!room) return rt_fail_memory();
    for (int64_t k = 0; k < j.batches * j.positions; k++, u += row)
        if (index_window(&j, k, &w)) index_put(c, &j, w, u, room);
    rt_free(c->alloc, room, row);
    return NULL;
}

/* --- Order ------------------------------------------------------------------------------------ */

/* The bits of an element as an unsigned integer of the order: -0 before +0, NaNs equal and last. */
static uint64_t sort_word(ig_dtype d, const void *element) {
    static const uint64_t inf[IG_DTYPE_END] = {[IG_f16] = 0x7c00,
                                               [IG_bf16] = 0x7f80,
                                               [IG_f32] = 0x7f800000,
                                               [IG_f64] = 0x7ff0000000000000};
    size_t size = rt_dtype_bytes(d);
    uint64_t bits = 0, top = (uint64_t)1 << (8 * size - 1), all = top | (top - 1);
    memcpy(&bits, element, size);
    if (rt_is_signed(d)) return bits ^ top;
    if (!rt_is_float(d)) return bits;
    if ((bits & ~top) > inf[d]) return all;
    return bits & top ? ~bits & all : bits | top;
}

typedef struct sort_job {
    int keys;
    const uint64_t *word[IG_MAX_RANK]; /* of the line, by key */
} sort_job;

static bool sort_is_less(const sort_job *j, int64_t a, int64_t b) {
    for (int k = 0; k < j->keys; k++)
        if (j->word[k][a] != j->word[k][b]) return j->word[k][a] < j->word[k][b];
    return false;
}

/* Order the positions 0..n-1, merging runs of growing width; `other` has room for as many. */
static const int64_t *sort_positions(const sort_job *j, int64_t n, int64_t *at, int64_t *other) {
    for (int64_t i = 0; i < n; i++) at[i] = i;
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t lo = 0; lo < n; lo += 2 * width) {
            int64_t mid = lo + width < n ? lo + width : n;
            int64_t hi = mid + width < n ? mid + width : n;
            for (int64_t i = lo, k = mid, to = lo; to < hi; to++) {
                bool second = i == mid || (k < hi && sort_is_less(j, at[k], at[i]));
                other[to] = second ? at[k++] : at[i++];
            }
        }
        int64_t *swap = at;
        at = other;
        other = swap;
    }
    return at;
}

/* Sort the line that begins at element `first`. */
static void sort_line(const ir_ref_call *c, int64_t first, int64_t step, int64_t n,
                      uint64_t *room) {
    const ir_attr_sort *a = c->attr;
    sort_job j = {.keys = (int)a->keys};
    int64_t *at = (int64_t *)room, *other = at + n;
    for (int k = 0; k < j.keys; k++) {
        uint64_t *word = room + (2 + k) * n;
        ig_dtype d = (ig_dtype)c->in[k].dtype;
        size_t size = rt_dtype_bytes(d);
        j.word[k] = word;
        for (int64_t i = 0; i < n; i++) {
            word[i] = sort_word(d, (const char *)c->in[k].data + (size_t)(first + i * step) * size);
            if (a->descending) word[i] = ~word[i];
        }
    }
    const int64_t *order = sort_positions(&j, n, at, other);
    for (int k = 0; k < c->nin; k++) {
        size_t size = rt_dtype_bytes((ig_dtype)c->in[k].dtype);
        const char *from = c->in[k].data;
        char *to = c->out[k].data;
        for (int64_t i = 0; i < n; i++)
            memcpy(to + (size_t)(first + i * step) * size,
                   from + (size_t)(first + order[i] * step) * size, size);
    }
}

ig_status ir_ref_sort(const ir_ref_call *c) {
    const ir_attr_sort *a = c->attr;
    int64_t stride[IG_MAX_RANK], n = c->in[0].dim[a->axis], all = ir_ref_numel(&c->in[0]);
    size_t size;
    if (!all) return NULL;
    ir_ref_strides(&c->in[0], stride);
    int64_t step = stride[a->axis];
    if (!rt_mul_size((size_t)n, (size_t)(2 + a->keys) * sizeof(uint64_t), &size))
        return rt_fail_memory();
    uint64_t *room = rt_alloc(c->alloc, size);
    if (!room) return rt_fail_memory();
    for (int64_t outer = 0; outer < all; outer += n * step)
        for (int64_t inner = 0; inner < step; inner++) sort_line(c, outer + inner, step, n, room);
    rt_free(c->alloc, room, size);
    return NULL;
}
