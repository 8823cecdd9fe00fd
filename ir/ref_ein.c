/* ref_ein.c - reference of ein: the contraction arithmetic of numerics rule 7.
 *
 * The reduction index runs over the box of the listed variables in the listed order, cut into
 * blocks of IR_KB.
 *   product of exactly two accesses, +   a block is one chain of fused multiply-adds from +0; then
 *                                        total = total + partial for every block, from +0
 *   any other body, +                    the body from left to right, then a plain chain with the
 *   same blocks
 *   *                                    one chain from 1
 *   max, min                             one chain from -inf, inf (the ends of an integer type)
 * With constraints, tuples run over the same box: the other variables follow from the constraints
 * in the order of ir_ein_meet_all, and where one does not hold, does not divide or leaves an
 * extent, the tuple keeps its place and does nothing. Operands convert exactly to the accumulation
 * type (f32 for 16-bit floats, 64 bits for integers) and the result converts back once.  Every
 * output element is one such chain; without constraints a row of them is computed side by side,
 * which changes nothing but the speed. */
#include "ir/ref.h"

#include <math.h>
#include <string.h>

enum { EIN_ROW = 256, EIN_CELL = EIN_ROW * 8 };

typedef struct ein_run {
    const ir_rel *rel;
    int factors;
    ir_ein_plan plan;
    int64_t value[IR_EIN_VARS]; /* with constraints: of the variables at this tuple */
    ir_class cls;
    ig_dtype dtype, acc;
    size_t bytes; /* of an element in the accumulation type */
    int64_t extent[IR_EIN_VARS];
    int64_t stride[IR_EIN_OPERANDS][IR_EIN_VARS]; /* of each operand along each variable */
    const char *data[IR_EIN_OPERANDS];            /* in the accumulation type; indices: i64 */
    char total[EIN_CELL], part[EIN_CELL], body[EIN_CELL], side[EIN_CELL]; /* rows */
} ein_run;

/* One row elementwise in the accumulation type: z = x op y. */
static void ein_combine(const ein_run *r, ir_opcode op, int64_t n, const void *x, const void *y,
                        void *z) {
    ir_ew_run(&(ir_ew){
        .cls = r->cls, .op = op, .from = r->acc, .to = r->acc, .n = n, .in = {x, y}, .out = z});
}

/* A strided row of an operand, made contiguous. */
static void ein_gather(const ein_run *r, int64_t n, const char *x, int64_t stride, char *row) {
    if (r->bytes == 4)
        for (int64_t j = 0; j < n; j++) memcpy(row + j * 4, x + j * stride * 4, 4);
    else
        for (int64_t j = 0; j < n; j++) memcpy(row + j * 8, x + j * stride * 8, 8);
}

/* x, as the element type holds it, all along a row. */
static void ein_fill(const ein_run *r, int64_t n, double x, char *row) {
    uint64_t narrow = 0, one = 0;
    ir_convert(IG_f64, r->dtype, 1, &x, &narrow);
    ir_convert(r->dtype, r->acc, 1, &narrow, &one);
    ein_gather(r, n, (const char *)&one, 0, row);
}

/* What the chain starts from. */
static double ein_identity(int monoid) {
    switch (monoid) {
    case IR_redop_prod: return 1;
    case IR_redop_max: return -(double)INFINITY;
    case IR_redop_min: return (double)INFINITY;
    default: return 0;
    }
}

static ir_opcode ein_op(int monoid) {
    switch (monoid) {
    case IR_redop_prod: return OP_mul;
    case IR_redop_max: return OP_max;
    case IR_redop_min: return OP_min;
    default: return OP_add;
    }
}

/* One tuple of the reduction index: combine its body into a row of chains.  j: the variable along
 * the row. */
static void ein_tuple(ein_run *r, ir_opcode op, bool fused, int64_t n, const int64_t *at,
                      const int64_t *js, char *chain) {
    const char *x[IR_EIN_OPERANDS];
    for (int k = 0; k < r->factors; k++) x[k] = r->data[k] + at[k] * (int64_t)r->bytes;
    if (fused && r->acc == IG_f32) {
        ir_fma_f32(r->cls, n, (const float *)(const void *)x[0], js[0],
                   (const float *)(const void *)x[1], js[1], (float *)(void *)chain,
                   (float *)(void *)chain);
        return;
    }
    if (fused && r->acc == IG_f64) {
        ir_fma_f64(r->cls, n, (const double *)(const void *)x[0], js[0],
                   (const double *)(const void *)x[1], js[1], (double *)(void *)chain,
                   (double *)(void *)chain);
        return;
    }
    ein_gather(r, n, x[0], js[0], r->body);
    for (int k = 1; k < r->factors; k++) {
        ein_gather(r, n, x[k], js[k], r->side);
        ein_combine(r, OP_mul, n, r->body, r->side, r->body);
    }
    if (rt_is_int(r->dtype) &&
        (op == OP_max || op == OP_min)) { /* these see the product modulo 2^n */
        ir_convert(r->acc, r->dtype, n, r->body, r->side);
        ir_convert(r->dtype, r->acc, n, r->side, r->body);
    }
    ein_combine(r, op, n, chain, r->body, chain);
}

/* Advance the reduction index; false after the last tuple. */
static bool ein_next(const ein_run *r, int64_t *idx, int64_t *at) {
    for (int i = r->rel->norder - 1; i >= 0; i--) {
        int v = r->rel->order[i];
        idx[i]++;
        for (int k = 0; k < r->rel->nin; k++) at[k] += r->stride[k][v];
        if (idx[i] < r->extent[v]) return true;
        for (int k = 0; k < r->rel->nin; k++) at[k] -= idx[i] * r->stride[k][v];
        idx[i] = 0;
    }
    return false;
}

/* --- Constraints ------------------------------------------------------------------------------ */

/* Where an operand is read. */
static int64_t ein_place(const ein_run *r, int k) {
    int64_t at = 0;
    for (int i = 0; i < r->rel->in[k].n; i++) {
        int v = r->rel->in[k].a[i];
        at += r->value[v] * r->stride[k][v];
    }
    return at;
}

/* Meet one constraint; false: the tuple does not exist. */
static bool ein_meet(ein_run *r, ir_ein_step s) {
    const ir_ein_con *c = &r->rel->con[s.number];
    int64_t sum = 0, v;
    if (s.meet == IR_EIN_LOOK || s.meet == IR_EIN_MATCH) {
        memcpy(&v, r->data[s.number] + ein_place(r, s.number) * 8, sizeof v);
        if (s.meet == IR_EIN_MATCH) return v == r->value[s.var];
    } else {
        for (unsigned u = 0; u < r->rel->nvar; u++)
            if (s.meet == IR_EIN_TEST || u != s.var) sum += c->c[u] * r->value[u];
        sum += c->c0;
        if (s.meet == IR_EIN_TEST) return c->least ? sum >= 0 : sum == 0;
        if (sum % c->c[s.var]) return false;
        v = -sum / c->c[s.var];
    }
    r->value[s.var] = v;
    return v >= 0 && v < r->extent[s.var];
}

/* The tuple at idx: where the factors are read; false when there is no such tuple. */
static bool ein_exists(ein_run *r, const int64_t *idx, int64_t *at) {
    for (int i = 0; i < r->rel->norder; i++) r->value[r->rel->order[i]] = idx[i];
    for (int i = 0; i < r->plan.n; i++)
        if (!ein_meet(r, r->plan.step[i])) return false;
    for (int k = 0; k < r->factors; k++) at[k] = ein_place(r, k);
    return true;
}

/* --- Chains ----------------------------------------------------------------------------------- */

/* n output elements side by side into r->total; `at` is where each operand begins, js its stride
 * along the row. */
static void ein_row(ein_run *r, int64_t n, const int64_t *begin, const int64_t *js) {
    const int monoid = r->rel->monoid;
    const bool sum = monoid == IR_redop_sum, fused = sum && r->factors == 2;
    const bool plain = ir_ein_is_plain(r->rel);
    int64_t idx[IR_EIN_VARS] = {0}, at[IR_EIN_OPERANDS] = {0};
    bool more = true;
    for (int i = 0; i < r->rel->norder; i++) more = more && r->extent[r->rel->order[i]] > 0;
    memcpy(at, begin, sizeof at);
    ein_fill(r, n, ein_identity(monoid), r->total);
    if (!sum) {
        for (; more; more = ein_next(r, idx, at))
            if (plain || ein_exists(r, idx, at))
                ein_tuple(r, ein_op(monoid), fused, n, at, js, r->total);
        return;
    }
    while (more) {
        ein_fill(r, n, 0, r->part);
        for (int k = 0; k < IR_KB && more; k++, more = ein_next(r, idx, at))
            if (plain || ein_exists(r, idx, at)) ein_tuple(r, OP_add, fused, n, at, js, r->part);
        ein_combine(r, OP_add, n, r->total, r->part, r->total);
    }
}

/* All output elements: rows along the last axis, the other axes like an odometer. */
static void ein_fill_output(ein_run *r, ir_tensor *y) {
    const ir_axes *out = &r->rel->out;
    const int last = out->n - 1, nin = r->rel->nin;
    const int64_t len = last < 0 ? 1 : y->dim[last], lines = ir_ref_numel(y) / len;
    const size_t bytes = rt_dtype_bytes(y->dtype);
    const int64_t row = ir_ein_is_plain(r->rel) ? EIN_ROW : 1;
    int64_t idx[IG_MAX_RANK] = {0}, begin[IR_EIN_OPERANDS] = {0}, js[IR_EIN_OPERANDS] = {0};
    char *to = y->data;
    for (int k = 0; k < nin; k++) js[k] = last < 0 ? 0 : r->stride[k][out->a[last]];
    for (int64_t line = 0; line < lines; line++) {
        for (int64_t j = 0, n; j < len; j += n, to += (size_t)n * bytes) {
            int64_t at[IR_EIN_OPERANDS] = {0};
            n = len - j < row ? len - j : row;
            for (int i = 0; i < out->n; i++) r->value[out->a[i]] = i == last ? j : idx[i];
            for (int k = 0; k < nin; k++) at[k] = begin[k] + j * js[k];
            ein_row(r, n, at, js);
            ir_convert(r->acc, (ig_dtype)y->dtype, n, r->total, to);
        }
        for (int i = last - 1; i >= 0; i--) {
            int v = out->a[i];
            idx[i]++;
            for (int k = 0; k < nin; k++) begin[k] += r->stride[k][v];
            if (idx[i] < y->dim[i]) break;
            for (int k = 0; k < nin; k++) begin[k] -= idx[i] * r->stride[k][v];
            idx[i] = 0;
        }
    }
}

/* Extents of the variables and strides of the operands along them. */
static void ein_bind(ein_run *r, const ir_ref_call *c) {
    for (unsigned v = 0; v < r->rel->nvar; v++)
        if (r->rel->given >> v & 1) r->extent[v] = r->rel->extent[v];
    while (r->factors < r->rel->nin && !r->rel->look[r->factors]) r->factors++;
    ir_ein_meet_all(r->rel, &r->plan);
    for (int k = 0; k < r->rel->nin; k++) {
        int64_t stride[IG_MAX_RANK];
        ir_ref_strides(&c->in[k], stride);
        for (int i = 0; i < r->rel->in[k].n; i++) {
            int v = r->rel->in[k].a[i];
            r->extent[v] = c->in[k].dim[i];
            r->stride[k][v] = stride[i];
        }
    }
}

static size_t ein_widened(const ein_run *r, const ir_ref_call *c, int k) {
    return (size_t)ir_ref_numel(&c->in[k]) * (k < r->factors ? r->bytes : sizeof(int64_t));
}

/* The factors in the accumulation type, indices in 64 bits; those that are copies are owned by the
 * caller. */
static bool ein_widen(ein_run *r, const ir_ref_call *c, void **owned) {
    for (int k = 0; k < c->nin; k++) {
        int64_t n = ir_ref_numel(&c->in[k]);
        ig_dtype d = (ig_dtype)c->in[k].dtype, to = k < r->factors ? r->acc : IG_i64;
        r->data[k] = c->in[k].data;
        if (!n || d == to) continue;
        owned[k] = rt_alloc_buffer(c->alloc, ein_widened(r, c, k));
        if (!owned[k]) return false;
        ir_convert(d, to, n, c->in[k].data, owned[k]);
        r->data[k] = owned[k];
    }
    return true;
}

ig_status ir_ref_ein(const ir_ref_call *c) {
    const ir_attr_ein *a = c->attr;
    void *owned[IR_EIN_OPERANDS] = {NULL};
    if (!ir_ref_numel(&c->out[0])) return NULL;
    ein_run *r = rt_alloc_buffer(c->alloc, sizeof *r);
    if (!r) return rt_fail_memory();
    memset(r, 0, sizeof *r);
    r->rel = &a->rel;
    r->cls = c->cls;
    r->dtype = (ig_dtype)c->in[0].dtype;
    r->acc = ir_ref_acc(r->dtype);
    r->bytes = rt_dtype_bytes(r->acc);
    ein_bind(r, c);
    bool ok = ein_widen(r, c, owned);
    if (ok) ein_fill_output(r, &c->out[0]);
    for (int k = 0; k < c->nin; k++)
        if (owned[k]) rt_free_buffer(c->alloc, owned[k], ein_widened(r, c, k));
    rt_free_buffer(c->alloc, r, sizeof *r);
    return ok ? NULL : rt_fail_memory();
}
