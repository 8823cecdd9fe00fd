/* order.c - how an eager sort runs.
 *
 * There are kernels for one key with positions (codegen/eager/eager.h).  Keys are brought to a type
 * and a shape that these have; several keys are sorted by one after the other, the last one first,
 * which a stable sort allows; operands then go where the positions say. */
#include "codegen/eager/eager.h"
#include "frontend/fe.h"

typedef struct order_job {
    fe_call *c;
    const ir_attr_sort *a;
    int rank;
    bool last;                /* the lines lie along the last axis */
    ir_axes there, back;      /* transposes that bring them there, and back */
    int64_t lines[2];         /* how many, of how many elements */
    int64_t dim[IG_MAX_RANK]; /* lines along the last axis */
} order_job;

static order_job order_job_of(fe_call *c, const ir_attr_sort *a, const ig_tensor *x) {
    order_job j = {.c = c, .a = a, .rank = x->rank, .last = a->axis == x->rank - 1};
    j.there.n = j.back.n = x->rank;
    j.lines[0] = 1;
    j.lines[1] = x->dim[a->axis];
    for (int i = 0, k = 0; i < x->rank; i++) {
        int at = i == a->axis ? x->rank - 1 : k++;
        j.there.a[at] = (uint8_t)i;
        j.back.a[i] = (uint8_t)at;
        j.dim[at] = x->dim[i];
        if (i != a->axis) j.lines[0] *= x->dim[i];
    }
    return j;
}

/* A temporary with lines along the last axis that an op makes of x and y (or NULL); NULL after an
 * error. */
static ig_tensor *order_make(const order_job *j, ir_opcode op, const void *attr, ig_dtype dtype,
                             ig_tensor *x, ig_tensor *y) {
    ig_tensor *in[2] = {x, y}, *t = fe_new(j->c, dtype, j->rank, j->dim);
    if (fe_is_poison(t)) return NULL;
    return fe_run_op(j->c, op, attr, x ? 1 + (y != NULL) : 0, in, t) ? t : NULL;
}

/* x with its lines along the last axis; NULL after an error. */
static ig_tensor *order_turn(const order_job *j, ig_tensor *x) {
    ir_attr_perm perm = {.perm = j->there};
    return j->last ? x : order_make(j, OP_transpose, &perm, (ig_dtype)x->dtype, x, NULL);
}

static ir_attr_gather order_along(const order_job *j) {
    ir_attr_gather a = {.batch = j->rank - 1, .axes = {.n = 1}, .oob = IR_oob_clamp};
    a.axes.a[0] = (uint8_t)(j->rank - 1);
    return a;
}

/* A key in the type of a kernel, in the order of positions (NULL: as it is); NULL after an error.
 */
static ig_tensor *order_key(const order_job *j, ig_tensor *x, ig_tensor *at) {
    ir_attr_dtype as = {.dtype = (uint8_t)cg_eager_sorted_as((ig_dtype)x->dtype)};
    ir_attr_gather along = order_along(j);
    ig_tensor *t = order_turn(j, x);
    if (t && as.dtype != t->dtype) t = order_make(j, OP_convert, &as, (ig_dtype)as.dtype, t, NULL);
    return t && at ? order_make(j, OP_gather, &along, (ig_dtype)as.dtype, t, at) : t;
}

/* Sort a key with what stands beside it, into these. */
static fe_ran order_one(const order_job *j, ig_tensor *key, ig_tensor *beside, ig_tensor *key_,
                        ig_tensor *beside_) {
    ig_dtype d = (ig_dtype)key->dtype;
    int row = cg_eager_row(j->c->s->session->kernels, OP_sort, j->a, d);
    if (row < 0) return FE_NO_KERNEL;
    ig_tensor *room[2] = {fe_new(j->c, d, j->rank, j->dim), fe_new(j->c, IG_i64, j->rank, j->dim)};
    if (fe_is_poison(room[0]) || fe_is_poison(room[1])) return FE_FAILED;
    void *bufs[6] = {key->buf->data,     beside->buf->data,  key_->buf->data,
                     beside_->buf->data, room[0]->buf->data, room[1]->buf->data};
    return fe_kernels_lines(j->c, row, 0, bufs, j->lines);
}

/* Positions in the order of all keys. */
static fe_ran order_positions(const order_job *j, ig_tensor *const *in, ig_tensor **at_) {
    ir_attr_iota count = {.dtype = IG_i64, .axis = j->rank - 1, .dims = {.n = (uint8_t)j->rank}};
    for (int i = 0; i < j->rank; i++) count.dims.d[i] = j->dim[i];
    ig_tensor *at = order_make(j, OP_iota, &count, IG_i64, NULL, NULL);
    for (int64_t k = j->a->keys; at && k-- > 0;) {
        ig_tensor *key = order_key(j, in[k], k + 1 < j->a->keys ? at : NULL);
        if (!key) return FE_FAILED;
        ig_tensor *sorted = fe_new(j->c, (ig_dtype)key->dtype, j->rank, j->dim);
        ig_tensor *next = fe_new(j->c, IG_i64, j->rank, j->dim);
        if (fe_is_poison(sorted) || fe_is_poison(next)) return FE_FAILED;
        fe_ran ran = order_one(j, key, at, sorted, next);
        if (ran != FE_RAN) return ran;
        at = next;
    }
    *at_ = at;
    return at ? FE_RAN : FE_FAILED;
}

/* The operand by positions, into its result. */
static bool order_place(const order_job *j, ig_tensor *x, ig_tensor *at, ig_tensor *out) {
    ir_attr_gather along = order_along(j);
    ir_attr_perm perm = {.perm = j->back};
    ig_tensor *in[2] = {order_turn(j, x), at}, *t;
    if (!in[0]) return false;
    if (j->last) return fe_run_op(j->c, OP_gather, &along, 2, in, out);
    t = order_make(j, OP_gather, &along, (ig_dtype)x->dtype, in[0], at);
    return t && fe_run_op(j->c, OP_transpose, &perm, 1, &t, out);
}

fe_ran fe_sort_run(fe_call *c, const void *attr, int nin, ig_tensor *const *in,
                   ig_tensor *const *out) {
    order_job j = order_job_of(c, attr, in[0]);
    bool plain = j.last && j.a->keys == 1 &&
                 cg_eager_sorted_as((ig_dtype)in[0]->dtype) == in[0]->dtype;
    ig_tensor *at;
    if (plain && nin == 2 && in[1]->dtype == IG_i64)
        return order_one(&j, in[0], in[1], out[0], out[1]);
    fe_ran ran = order_positions(&j, in, &at);
    for (int k = 0; k < nin && ran == FE_RAN; k++)
        if (!order_place(&j, in[k], at, out[k])) ran = FE_FAILED;
    return ran;
}
