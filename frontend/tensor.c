/* tensor.c - handles and the values behind them: making, sharing, naming, reading. */
#include "frontend/fe.h"
#include <math.h>
#include <string.h>

/* --- Handles ------------------------------------------------------------------------------- */

static void tensor_link(ig_tensor *t, fe_scope *scope) {
    t->scope = scope;
    t->prev = NULL;
    t->next = scope->first;
    if (t->next) t->next->prev = t;
    scope->first = t;
}

static void tensor_unlink(ig_tensor *t) {
    if (t->prev)
        t->prev->next = t->next;
    else
        t->scope->first = t->next;
    if (t->next) t->next->prev = t->prev;
}

void fe_move(ig_tensor *t, fe_scope *to) {
    if (fe_is_poison(t) || t->scope == to) return;
    tensor_unlink(t);
    tensor_link(t, to);
}

void fe_retain(ig_tensor *t) {
    if (!fe_is_poison(t)) t->refs++;
}

static void tensor_free_name(ig_session *s, char *name) {
    if (name) rt_free(s->alloc, name, strlen(name) + 1);
}

void fe_release(ig_tensor *t) {
    if (fe_is_poison(t) || --t->refs) return;
    ig_session *s = t->session;
    tensor_unlink(t);
    fe_buf_release(s, t->buf);
    if (t->name) tensor_free_name(s, t->name);
    if (t->grad) fe_release(t->grad);
    s->memory.live_tensors--;
    fe_handle_free(s, t);
}

ig_tensor *fe_over(fe_call *c, ig_dtype dtype, int rank, const int64_t *dim, fe_buf *buf) {
    ig_session *s = c->s->session;
    ig_tensor *t = buf ? fe_handle_new(s) : NULL;
    if (!t) {
        if (buf) fe_buf_release(s, buf);
        return fe_error_memory(c);
    }
    t->session = s; /* field by field: clearing the whole of it costs as much as all the rest */
    t->buf = buf;
    t->site = c->site;
    t->name = NULL;
    t->grad = NULL;
    t->refs = 1;
    t->born = c->s->rec ? fe_rec_id(c->s->rec) : 0;
    t->region = c->s->rec ? fe_rec_region(c->s->rec) : 0;
    t->trace = t->val = 0;
    t->dtype = (uint8_t)dtype;
    t->rank = (uint8_t)rank;
    t->argument = false;
    for (int i = 0; i < IG_MAX_RANK; i++) t->dim[i] = i < rank ? dim[i] : 0;
    tensor_link(t, &c->scope);
    s->memory.live_tensors++;
    return t;
}

/* Bytes of a shape; false after an error. */
static bool tensor_bytes(fe_call *c, ig_dtype dtype, int rank, const int64_t *dim, size_t *bytes_) {
    int64_t numel;
    if (!fe_is_dtype(dtype)) {
        fe_error(c, IG_DTYPE, "%d is not an element type", (int)dtype);
        return false;
    }
    if (!rt_numel_checked(dim, rank, &numel) ||
        !rt_mul_size((size_t)numel, rt_dtype_bytes(dtype), bytes_) || *bytes_ > PTRDIFF_MAX) {
        fe_error(c, IG_RANGE, "the shape has a negative extent or too many elements");
        return false;
    }
    return true;
}

ig_tensor *fe_new(fe_call *c, ig_dtype dtype, int rank, const int64_t *dim) {
    size_t bytes;
    if (!tensor_bytes(c, dtype, rank, dim, &bytes)) return fe_poison(c);
    return fe_over(c, dtype, rank, dim, fe_buf_new(c->s->session, bytes));
}

ig_tensor *fe_alias(fe_call *c, ig_tensor *t, int rank, const int64_t *dim) {
    ir_type known;
    if (fe_is_poison(t)) return fe_poison(c);
    if (c->s->rec && !dim && !fe_rec_type(c, t, &known))
        return fe_poison(c); /* one capture for all its aliases */
    fe_buf_retain(t->buf);
    ig_tensor *r = fe_over(c, (ig_dtype)t->dtype, rank, dim ? dim : t->dim, t->buf);
    if (!fe_is_poison(r) && !dim) {
        r->trace = t->trace;
        r->val = t->val;
    }
    return r;
}

/* Elements from outside: bool becomes 0 or 1, NaN canonical. */
void fe_clean(ig_tensor *t) {
    if (t->dtype == IG_bool) {
        uint8_t *p = t->buf->data;
        for (size_t i = 0; i < t->buf->bytes; i++) p[i] = p[i] != 0;
    } else if (t->buf->bytes) {
        ir_canon_nan((ig_dtype)t->dtype, t->buf->data, fe_numel(t));
    }
    t->buf->canon = true;
}

ig_tensor *fe_leaf(fe_call *c, ig_dtype dtype, int rank, const int64_t *dim, const void *data) {
    ig_tensor *t = fe_new(c, dtype, rank, dim);
    if (fe_is_poison(t)) return t;
    if (t->buf->bytes) memcpy(t->buf->data, data, t->buf->bytes);
    fe_clean(t);
    return t;
}

void fe_rebind(fe_call *c, ig_tensor *t, ig_tensor *v) {
    if (fe_is_poison(t) || fe_is_poison(v)) return;
    if (c->s->rec && !fe_rec_rebind(c, t, v)) return;
    fe_buf_retain(v->buf);
    fe_buf_release(t->session, t->buf);
    t->buf = v->buf;
    t->trace = v->trace;
    t->val = v->val;
}

int64_t fe_numel(const ig_tensor *t) {
    if (!t->buf) return 0;
    /* sizes of elements are powers of 2, and a division costs as much as a short op */
    return (int64_t)(t->buf->bytes >> __builtin_ctzll(rt_dtype_bytes((ig_dtype)t->dtype)));
}

ir_tensor fe_ir_tensor(const ig_tensor *t) {
    ir_tensor r = {0};
    fe_fill_ir_tensor(t, &r);
    return r;
}

bool fe_refuse(fe_call *c, const ig_tensor *t, int operand) {
    if (!t) {
        fe_error(c, IG_INVALID, "operand %d is NULL", operand);
        return false;
    }
    if (fe_is_poison(t)) return false;
    fe_error(c, IG_INVALID,
             "operand %d belongs to another session; copy it through ig_read and ig_tensor_from",
             operand);
    return false;
}

bool fe_canon(fe_call *c, ig_tensor *t) {
    fe_buf *b = t->buf;
    if (b->canon || !rt_is_float((ig_dtype)t->dtype) || !b->bytes) return true;
    if (!b->owned) { /* not ours to write: go on with a copy */
        fe_buf *copy = fe_buf_new(t->session, b->bytes);
        if (!copy) {
            fe_error_memory(c);
            return false;
        }
        memcpy(copy->data, b->data, b->bytes);
        fe_buf_release(t->session, b);
        t->buf = b = copy;
    }
    ir_canon_nan((ig_dtype)t->dtype, b->data, fe_numel(t));
    b->canon = true;
    return true;
}

bool fe_observe(fe_call *c, ig_tensor *t) {
    if (!fe_is_usable(c, t, 0)) return false;
    if (c->s->rec && !fe_rec_observe(c, t)) return false;
    return fe_canon(c, t);
}

ig_status fe_readable(fe_call *c, ig_tensor *t) {
    if (fe_observe(c, t)) return NULL;
    if (!c->s->error)
        return fe_status(
            c, rt_fail(fe_alloc(c), IG_INVALID, "the tensor is poison: an op before failed"));
    return fe_status(c, rt_fail(fe_alloc(c), ig_status_code(c->s->error), "nothing to read: %s",
                                ig_status_text(c->s->error)));
}

/* --- Creation ------------------------------------------------------------------------------ */

/* Plain extents of data from the user; false after an error. */
static bool tensor_check_dims(fe_call *c, ig_dims dims) {
    if (dims.n < 0 || dims.n > IG_MAX_RANK) {
        fe_error(c, IG_INVALID, "%d dims; a tensor has 0 to %d", dims.n, IG_MAX_RANK);
        return false;
    }
    for (int i = 0; i < dims.n; i++)
        if (dims.d[i] < 0) {
            fe_error(c, IG_RANGE, "dim %d is %lld; the extents of given data are numbers >= 0", i,
                     (long long)dims.d[i]);
            return false;
        }
    return true;
}

ig_tensor *ig_tensor_from_at(const ig_site *site, ig_dtype dtype, ig_dims dims, const void *data) {
    FE_ENTER(site, "tensor_from");
    size_t bytes;
    ig_tensor *t = fe_poison(c);
    if (tensor_check_dims(c, dims) && tensor_bytes(c, dtype, dims.n, dims.d, &bytes)) {
        if (bytes && !data)
            fe_error(c, IG_INVALID, "data is NULL");
        else
            t = fe_leaf(c, dtype, dims.n, dims.d, data);
    }
    return fe_leave(c, t);
}

/* A handle over the user's memory. */
static ig_tensor *tensor_borrow(fe_call *c, ig_dtype dtype, ig_dims dims, const void *data,
                                size_t bytes) {
    if (bytes && !data) return fe_error(c, IG_INVALID, "data is NULL");
    if ((uintptr_t)data % rt_dtype_bytes(dtype))
        return fe_error(c, IG_INVALID,
                        "data is not aligned to its %zu-byte elements; use ig_tensor_from",
                        rt_dtype_bytes(dtype));
    for (size_t i = 0; dtype == IG_bool && i < bytes; i++)
        if (((const uint8_t *)data)[i] > 1)
            return fe_error(c, IG_INVALID, "element %zu of borrowed bool data is neither 0 nor 1",
                            i);
    fe_buf *b = fe_buf_borrow(c->s->session, data, bytes);
    return fe_over(c, dtype, dims.n, dims.d, b);
}

ig_tensor *ig_borrow_at(const ig_site *site, ig_dtype dtype, ig_dims dims, const void *data,
                        void (*release)(void *user, const void *data), void *user) {
    FE_ENTER(site, "borrow");
    size_t bytes;
    ig_tensor *t = fe_poison(c);
    if (tensor_check_dims(c, dims) && tensor_bytes(c, dtype, dims.n, dims.d, &bytes))
        t = tensor_borrow(c, dtype, dims, data, bytes);
    if (!fe_is_poison(t)) {
        t->buf->release = release;
        t->buf->user = user;
    }
    return fe_leave(c, t);
}

ig_tensor *ig_copy_at(const ig_site *site, ig_arg x) {
    FE_ENTER(site, "copy");
    ig_tensor *t = fe_arg(c, x);
    return fe_leave(c, fe_is_poison(t) ? t : fe_alias(c, t, t->rank, NULL));
}

ig_tensor *ig_name(ig_tensor *t, const char *name) {
    FE_ENTER(t ? t->site : NULL, "name");
    ig_tensor *r = fe_poison(c);
    if (fe_is_usable(c, t, 0)) {
        size_t n = name ? strlen(name) : 0;
        char *copy = NULL;
        if (!n || n > 200 || *name == '.')
            fe_error(c, IG_INVALID,
                     "a weight's name has 1 to 200 characters and does not begin with a dot");
        else if (!(copy = rt_alloc(fe_alloc(c), n + 1)))
            fe_error_memory(c);
        if (copy) {
            memcpy(copy, name, n + 1);
            tensor_free_name(t->session, t->name);
            t->name = copy;
            r = t;
        }
    }
    fe_exit(c);
    return r;
}

/* --- Reading ------------------------------------------------------------------------------- */

ig_dtype ig_dtype_of(const ig_tensor *t) { return t ? (ig_dtype)t->dtype : IG_NONE; }

int ig_rank(const ig_tensor *t) { return t ? t->rank : 0; }

int64_t ig_dim(const ig_tensor *t, int axis) {
    if (!t) return -1;
    if (axis < 0) axis += t->rank;
    return axis < 0 || axis >= t->rank ? -1 : t->dim[axis];
}

ig_dims ig_shape(const ig_tensor *t) {
    ig_dims r = {0};
    if (!t) return r;
    r.n = t->rank;
    for (int i = 0; i < t->rank; i++) r.d[i] = t->dim[i];
    return r;
}

int64_t ig_numel(const ig_tensor *t) { return t ? fe_numel(t) : 0; }

size_t ig_nbytes(const ig_tensor *t) { return t && t->buf ? t->buf->bytes : 0; }

bool ig_is_poison(const ig_tensor *t) { return !t || fe_is_poison(t); }

/* Element k, widened; integers to *i_, floats to *f_. */
static bool tensor_get(const ig_tensor *t, int64_t k, int64_t *i_, double *f_) {
    const void *p = t->buf->data;
    switch ((ig_dtype)t->dtype) {
    case IG_bool:
    case IG_u8: *i_ = ((const uint8_t *)p)[k]; return true;
    case IG_i8: *i_ = ((const int8_t *)p)[k]; return true;
    case IG_i16: *i_ = ((const int16_t *)p)[k]; return true;
    case IG_u16: *i_ = ((const uint16_t *)p)[k]; return true;
    case IG_i32: *i_ = ((const int32_t *)p)[k]; return true;
    case IG_u32: *i_ = ((const uint32_t *)p)[k]; return true;
    case IG_i64:
    case IG_u64: *i_ = ((const int64_t *)p)[k]; return true;
    case IG_f16: *f_ = (double)rt_f16_to_f32(((const uint16_t *)p)[k]); return false;
    case IG_bf16: *f_ = (double)rt_bf16_to_f32(((const uint16_t *)p)[k]); return false;
    case IG_f32: *f_ = (double)((const float *)p)[k]; return false;
    case IG_f64: *f_ = ((const double *)p)[k]; return false;
    case IG_NONE:
    case IG_DTYPE_END: break;
    }
    *i_ = 0;
    return true;
}

double fe_get_f64(const ig_tensor *t, int64_t k) {
    int64_t i;
    double f;
    if (!tensor_get(t, k, &i, &f)) return f;
    return t->dtype == IG_u64 ? (double)(uint64_t)i : (double)i;
}

int64_t fe_get_i64(const ig_tensor *t, int64_t k) {
    int64_t i;
    double f;
    if (tensor_get(t, k, &i, &f)) return t->dtype == IG_u64 && i < 0 ? INT64_MAX : i;
    if (isnan(f)) return 0;
    if (f >= 0x1p63) return INT64_MAX;
    if (f <= -0x1p63) return INT64_MIN;
    return (int64_t)f;
}

/* The tensor has one element and may be read. */
static bool tensor_is_item(fe_call *c, ig_tensor *t) {
    if (!fe_observe(c, t)) return false;
    if (fe_numel(t) == 1) return true;
    fe_error(c, IG_SHAPE, "%s has %lld elements; exactly one is needed", FE_TYPE(t),
             (long long)fe_numel(t));
    return false;
}

double ig_item_f64_at(const ig_site *site, ig_tensor *t) {
    FE_ENTER_OR(site, "item", (double)NAN);
    double r = tensor_is_item(c, t) ? fe_get_f64(t, 0) : (double)NAN;
    fe_exit(c);
    return r;
}

int64_t ig_item_i64_at(const ig_site *site, ig_tensor *t) {
    FE_ENTER_OR(site, "item", 0);
    int64_t r = tensor_is_item(c, t) ? fe_get_i64(t, 0) : 0;
    fe_exit(c);
    return r;
}

bool ig_item_bool_at(const ig_site *site, ig_tensor *t) {
    FE_ENTER_OR(site, "item", false);
    bool r = tensor_is_item(c, t) && fe_get_f64(t, 0) != 0;
    fe_exit(c);
    return r;
}

/* A valid address for tensors without elements. */
static const double tensor_empty[8];

const void *ig_data_at(const ig_site *site, ig_tensor *t) {
    FE_ENTER_OR(site, "data", NULL);
    const void *p = NULL;
    if (fe_observe(c, t)) p = t->buf->bytes ? t->buf->data : tensor_empty;
    fe_exit(c);
    return p;
}

ig_status ig_read_at(const ig_site *site, ig_tensor *t, void *dst, size_t bytes) {
    fe_call c;
    RT_TRY(fe_enter_status(&c, site, "read"));
    ig_status e = fe_readable(&c, t);
    if (!e && bytes != t->buf->bytes)
        e = fe_status(&c,
                      rt_fail(fe_alloc(&c), IG_INVALID, "%s has %zu bytes, room for %zu was given",
                              fe_type_text(&c, t).s, t->buf->bytes, bytes));
    if (!e && bytes) memcpy(dst, t->buf->data, bytes);
    fe_exit(&c);
    return e;
}

bool ig_equal_at(const ig_site *site, ig_tensor *a, ig_tensor *b) {
    FE_ENTER_OR(site, "equal", false);
    bool r = fe_observe(c, a) && fe_observe(c, b) && a->dtype == b->dtype && fe_same_shape(a, b) &&
             (!a->buf->bytes || !memcmp(a->buf->data, b->buf->data, a->buf->bytes));
    fe_exit(c);
    return r;
}

static bool tensor_is_close(double x, double y, double rtol, double atol, bool equal_nan) {
    if (isnan(x) || isnan(y)) return equal_nan && isnan(x) && isnan(y);
    if (isinf(x) || isinf(y)) return x == y;
    return fabs(x - y) <= atol + rtol * fabs(y);
}

bool ig_allclose_at(const ig_site *site, ig_tensor *a, ig_tensor *b, double rtol, double atol,
                    bool equal_nan) {
    FE_ENTER_OR(site, "allclose", false);
    bool r = fe_observe(c, a) && fe_observe(c, b);
    if (r && !fe_same_shape(a, b)) {
        fe_error(c, IG_SHAPE, "%s vs %s: the shapes must be equal", FE_TYPE(a), FE_TYPE(b));
        r = false;
    }
    int64_t n = r ? fe_numel(a) : 0;
    for (int64_t i = 0; r && i < n; i++)
        r = tensor_is_close(fe_get_f64(a, i), fe_get_f64(b, i), rtol, atol, equal_nan);
    fe_exit(c);
    return r;
}

/* --- Texts --------------------------------------------------------------------------------- */

/* What stands before a text: how to free it. */
typedef struct tensor_text {
    const ig_allocator *alloc;
    size_t bytes; /* of the whole block */
    char text[];
} tensor_text;

char *fe_text_new(const ig_allocator *a, const void *bytes, size_t n) {
    size_t total;
    if (!rt_add_size(sizeof(tensor_text) + 1, n, &total)) return NULL;
    tensor_text *t = rt_alloc(a, total);
    if (!t) return NULL;
    t->alloc = a;
    t->bytes = total;
    if (n) memcpy(t->text, bytes, n);
    t->text[n] = 0;
    return t->text;
}

void ig_text_free(char *text) {
    if (!text) return;
    tensor_text *t = (tensor_text *)(void *)(text - offsetof(tensor_text, text));
    rt_free(t->alloc, t, t->bytes);
}
