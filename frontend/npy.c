/* npy.c - numpy's .npy files.
 *
 * "\x93NUMPY", major, minor, the header's length (u16 in version 1, u32 in 2 and 3), the header: a
 * Python literal
 * {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } padded to a multiple of 64, then the
 * elements.  The reader trusts nothing: the header is read by a small parser of exactly this form,
 * every size is checked against the bytes that are there before anything is allocated, and what is
 * allocated is the file and the tensor. */
#include "frontend/fe.h"
#include "runtime/base/container.h"
#include <stdio.h>
#include <string.h>

typedef struct npy_header {
    ig_dtype dtype;
    bool swap, fortran;
    int rank;
    int64_t dim[IG_MAX_RANK];
    size_t data; /* where the elements begin */
} npy_header;

/* A place in the header text. */
typedef struct npy_text {
    const char *at, *end;
} npy_text;

/* Element types as numpy names them: kind letter and size. */
static const char npy_names[IG_DTYPE_END][4] = {
    [IG_bool] = "b1", [IG_i8] = "i1",  [IG_i16] = "i2", [IG_i32] = "i4", [IG_i64] = "i8",
    [IG_u8] = "u1",   [IG_u16] = "u2", [IG_u32] = "u4", [IG_u64] = "u8", [IG_f16] = "f2",
    [IG_bf16] = "V2", [IG_f32] = "f4", [IG_f64] = "f8"};

/* --- Reading the header -------------------------------------------------------------------- */

static void npy_skip(npy_text *t) {
    while (t->at < t->end && (*t->at == ' ' || *t->at == '\n' || *t->at == '\t' || *t->at == '\r'))
        t->at++;
}

/* Take a character, spaces before it skipped. */
static bool npy_take(npy_text *t, char ch) {
    npy_skip(t);
    if (t->at == t->end || *t->at != ch) return false;
    t->at++;
    return true;
}

/* A string in single or double quotes without escapes; at most size - 1 bytes. */
static bool npy_string(npy_text *t, char *out, size_t size) {
    npy_skip(t);
    if (t->at == t->end || (*t->at != '\'' && *t->at != '"')) return false;
    char quote = *t->at++;
    size_t n = 0;
    for (; t->at < t->end && *t->at != quote; t->at++) {
        if (*t->at == '\\' || n + 1 >= size) return false;
        out[n++] = *t->at;
    }
    out[n] = 0;
    return npy_take(t, quote);
}

static bool npy_word(npy_text *t, const char *word) {
    size_t n = strlen(word);
    npy_skip(t);
    if ((size_t)(t->end - t->at) < n || memcmp(t->at, word, n)) return false;
    t->at += n;
    return true;
}

static bool npy_int(npy_text *t, int64_t *out_) {
    int64_t x = 0;
    npy_skip(t);
    const char *first = t->at;
    for (; t->at < t->end && *t->at >= '0' && *t->at <= '9'; t->at++)
        if (__builtin_mul_overflow(x, (int64_t)10, &x) ||
            __builtin_add_overflow(x, (int64_t)(*t->at - '0'), &x))
            return false;
    *out_ = x;
    return t->at > first;
}

static const char *npy_read_shape(npy_text *t, npy_header *h) {
    if (!npy_take(t, '(')) return "the shape is not a tuple";
    for (h->rank = 0; !npy_take(t, ')'); h->rank++) {
        if (h->rank == IG_MAX_RANK) return "more than 8 axes";
        if (!npy_int(t, &h->dim[h->rank])) return "an extent is not a number in range";
        if (npy_take(t, ')')) {
            h->rank++;
            return NULL;
        }
        if (!npy_take(t, ',')) return "the shape is not a tuple";
    }
    return NULL;
}

static const char *npy_read_descr(npy_text *t, npy_header *h) {
    char name[16];
    if (!npy_string(t, name, sizeof name))
        return "the element type is not a plain one (structured types are not supported)";
    char order = name[0];
    const char *kind = strchr("<>=|", order) && order ? name + 1 : name;
    if (*kind == 'O') return "it holds pickled Python objects, which are never loaded";
    if (*kind == '?') kind = "b1";
    for (int d = IG_NONE + 1; d < IG_DTYPE_END; d++)
        if (!strcmp(kind, npy_names[d])) {
            h->dtype = (ig_dtype)d;
            h->swap = order == '>' && rt_dtype_bytes((ig_dtype)d) > 1;
            return NULL;
        }
    return "its element type has no counterpart here";
}

/* The dictionary; each key once.  NULL, or what is wrong. */
static const char *npy_read_dict(npy_text *t, npy_header *h) {
    static const char *const key[3] = {"descr", "fortran_order", "shape"};
    unsigned seen = 0;
    char name[16];
    if (!npy_take(t, '{')) return "the header is not a dictionary";
    while (!npy_take(t, '}')) {
        int k = 0;
        const char *wrong = NULL;
        if (!npy_string(t, name, sizeof name) || !npy_take(t, ':'))
            return "the header is not a dictionary";
        while (k < 3 && strcmp(name, key[k])) k++;
        if (k == 3 || seen >> k & 1) return "an unknown or repeated key in the header";
        seen |= 1u << k;
        if (k == 0) wrong = npy_read_descr(t, h);
        if (k == 1 && !(h->fortran = npy_word(t, "True")) && !npy_word(t, "False"))
            wrong = "fortran_order is not a bool";
        if (k == 2) wrong = npy_read_shape(t, h);
        if (wrong) return wrong;
        if (npy_take(t, ',')) continue;
        if (npy_take(t, '}')) break;
        return "the header is not a dictionary";
    }
    npy_skip(t);
    if (t->at != t->end) return "something after the header's dictionary";
    return seen == 7 ? NULL : "the header lacks a key";
}

/* NULL, or what is wrong with the file. */
static const char *npy_read_header(const uint8_t *p, size_t n, npy_header *h) {
    if (n < 10 || memcmp(p, "\x93NUMPY", 6)) return "it does not begin as an .npy file";
    if (p[6] < 1 || p[6] > 3) return "its version is not 1, 2 or 3";
    size_t lead = p[6] == 1 ? 10 : 12;
    if (n < lead) return "it is cut off";
    size_t length = p[8] | (size_t)p[9] << 8;
    if (p[6] > 1) length |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
    if (length > n - lead) return "it is cut off inside the header";
    npy_text t = {(const char *)p + lead, (const char *)p + lead + length};
    h->data = lead + length;
    return npy_read_dict(&t, h);
}

/* --- Elements ------------------------------------------------------------------------------ */

static void npy_swap(void *data, size_t n, size_t width) {
    uint8_t *p = data;
    for (size_t i = 0; i < n; i++, p += width)
        for (size_t a = 0, b = width - 1; a < b; a++, b--) {
            uint8_t x = p[a];
            p[a] = p[b];
            p[b] = x;
        }
}

/* Copy elements whose first axis runs fastest. */
static void npy_copy_fortran(const npy_header *h, const uint8_t *from, uint8_t *to, size_t n,
                             size_t width) {
    int64_t at[IG_MAX_RANK] = {0}, stride[IG_MAX_RANK];
    int64_t source = 0, run = 1;
    for (int i = 0; i < h->rank; i++) {
        stride[i] = run;
        run *= h->dim[i];
    }
    for (size_t k = 0; k < n; k++, to += width) {
        memcpy(to, from + (size_t)source * width, width);
        for (int i = h->rank - 1; i >= 0; i--) {
            source += stride[i];
            if (++at[i] < h->dim[i]) break;
            source -= stride[i] * h->dim[i];
            at[i] = 0;
        }
    }
}

static ig_tensor *npy_read(fe_call *c, const char *name, const void *bytes, size_t n) {
    npy_header h = {0};
    int64_t numel;
    size_t size;
    const uint8_t *p = bytes;
    const char *wrong = npy_read_header(p, n, &h);
    if (wrong) return fe_error(c, IG_FORMAT, "%s: %s", name, wrong);
    size_t width = rt_dtype_bytes(h.dtype);
    if (!rt_numel_checked(h.dim, h.rank, &numel) || !rt_mul_size((size_t)numel, width, &size) ||
        size != n - h.data)
        return fe_error(c, IG_FORMAT,
                        "%s: its shape asks for another number of bytes than the %zu there are",
                        name, n - h.data);
    if (!h.fortran && !h.swap) return fe_leaf(c, h.dtype, h.rank, h.dim, p + h.data);
    ig_tensor *raw = fe_new(c, h.dtype, h.rank, h.dim);
    if (fe_is_poison(raw) || !size) return raw;
    if (h.fortran)
        npy_copy_fortran(&h, p + h.data, raw->buf->data, (size_t)numel, width);
    else
        memcpy(raw->buf->data, p + h.data, size);
    if (h.swap) npy_swap(raw->buf->data, (size_t)numel, width);
    fe_clean(raw);
    return raw;
}

ig_tensor *ig_npy_read_at(const ig_site *site, const void *bytes, size_t n) {
    FE_ENTER(site, "npy_read");
    return fe_leave(c, npy_read(c, "the bytes", bytes, n));
}

ig_tensor *ig_npy_load_at(const ig_site *site, const char *path) {
    FE_ENTER(site, "npy_load");
    void *bytes;
    size_t n;
    if (!path) return fe_leave(c, fe_error(c, IG_INVALID, "the path is NULL"));
    ig_status e = rt_file_read(fe_alloc(c), path, PTRDIFF_MAX, &bytes, &n);
    if (e) return fe_leave(c, fe_error_status(c, e));
    ig_tensor *t = npy_read(c, path, bytes, n);
    rt_free(fe_alloc(c), bytes, n);
    return fe_leave(c, t);
}

/* --- Writing ------------------------------------------------------------------------------- */

/* Version 1.0 with the header padded so that the elements begin at a multiple of 64. */
static void npy_put(rt_str *s, const ig_tensor *t) {
    char head[512];
    char order = rt_dtype_bytes((ig_dtype)t->dtype) == 1 ? '|' : '<';
    int n = snprintf(head, sizeof head, "{'descr': '%c%s', 'fortran_order': False, 'shape': (",
                     order, npy_names[t->dtype]);
    for (int i = 0; i < t->rank; i++)
        n += snprintf(head + n, sizeof head - (size_t)n, i ? ", %lld" : "%lld",
                      (long long)t->dim[i]);
    n += snprintf(head + n, sizeof head - (size_t)n, t->rank == 1 ? ",), }" : "), }");
    while ((10 + n + 1) % 64) head[n++] = ' ';
    head[n++] = '\n';
    uint8_t lead[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (uint8_t)n, (uint8_t)(n >> 8)};
    rt_str_add(s, lead, sizeof lead);
    rt_str_add(s, head, (size_t)n);
    rt_str_add(s, t->buf->data, t->buf->bytes);
}

static ig_status npy_write(fe_call *c, ig_tensor *t, rt_str *out) {
    ig_status e = fe_readable(c, t);
    if (!e) npy_put(out, t);
    return !e && out->failed ? fe_status(c, rt_fail_memory()) : e;
}

ig_status ig_npy_write_at(const ig_site *site, ig_tensor *t, char **bytes_, size_t *n_) {
    fe_call c;
    rt_str s;
    *bytes_ = NULL;
    *n_ = 0;
    RT_TRY(fe_enter_status(&c, site, "npy_write"));
    rt_str_init(&s, fe_alloc(&c));
    ig_status e = npy_write(&c, t, &s);
    if (!e && !(*bytes_ = fe_text_new(fe_alloc(&c), s.data, s.n)))
        e = fe_status(&c, rt_fail_memory());
    if (!e) *n_ = s.n;
    rt_str_free(&s);
    fe_exit(&c);
    return e;
}

ig_status ig_npy_save_at(const ig_site *site, ig_tensor *t, const char *path) {
    fe_call c;
    rt_str s;
    RT_TRY(fe_enter_status(&c, site, "npy_save"));
    rt_str_init(&s, fe_alloc(&c));
    ig_status e = path ? npy_write(&c, t, &s)
                       : fe_status(&c, rt_fail(fe_alloc(&c), IG_INVALID, "the path is NULL"));
    if (!e) e = rt_file_write(fe_alloc(&c), path, s.data, s.n);
    rt_str_free(&s);
    fe_exit(&c);
    return e;
}
