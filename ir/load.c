/* load.c - `.ingot` files as modules; docs/format.md is the specification, save.c the writer.
 *
 * A file is hostile until proved otherwise.  Counts are checked against the bytes that are left
 * before anything is allocated, every number that indexes a table against the table, and sections
 * must be used up exactly.  Functions are rebuilt through the builder, so types are inferred by
 * the rules of this library and compared with those in the file, and the finished module is
 * verified.  Polynomial dims must be in the normal form in which they are written: so a short file
 * cannot describe large ones.  Memory is limited (ir_reader_budget). */
#include "ir/file.h"
#include "ir/intern.h"
#include "ir/sections.h"
#include "ir/text.h"
#include <string.h>

#define LOAD_MESSAGE 2000 /* bytes of an error that are shown */

/* A region op that is open. */
typedef struct load_frame {
    uint32_t op;
    int k, nregion;
    uint32_t type0, ntype; /* its result types in loader.expect */
} load_frame;

typedef struct loader {
    const ig_allocator *alloc; /* the limited one */
    const ig_allocator *under; /* of errors */
    bool borrow;
    rt_container file;
    const rt_section *sec[FILE_SECTIONS]; /* NULL when absent (LOCS) */
    ir_module *m;
    ir_builder b;
    bool building;
    ig_status error;
    enum file_section at; /* being read */
    rt_reader r, locs;
    RT_VEC(const char *) strs; /* interned */
    RT_VEC(ir_dim) dims;
    RT_VEC(uint32_t) types; /* interned */
    RT_VEC(ir_attr) attrs;
    RT_VEC(ir_opcode) ops;
    RT_VEC(ir_loc) loc;
    RT_VEC(ir_ref) refs;
    RT_VEC(uint32_t) expect; /* result types the file gives */
    RT_VEC(ir_type) params;  /* parameter types of a region */
    load_frame frame[IR_MAX_NEST];
    int nframe;
} loader;

/* --- Errors and numbers ----------------------------------------------------------------------- */

/* Record an error of the section being read, naming function and op; false.  Keeps the first. */
IG_PRINTF(3, 4)
static bool load_fail(loader *l, ig_code code, const char *fmt, ...) {
    rt_str s;
    va_list ap;
    if (l->error) return false;
    rt_str_init(&s, l->alloc);
    rt_str_printf(&s, "section %s: ", ir_file_tags[l->at]);
    if (l->building && l->b.f && l->b.f->name)
        rt_str_printf(&s, "@%s op %u: ", l->b.f->name, l->b.f->ops.n);
    va_start(ap, fmt);
    rt_str_vprintf(&s, fmt, ap);
    va_end(ap);
    l->error = s.failed ? rt_fail_memory()
                        : rt_fail(l->under, code, "%.*s", LOAD_MESSAGE, rt_str_text(&s));
    rt_str_free(&s);
    return false;
}

static bool load_no_memory(loader *l) {
    if (!l->error) l->error = rt_fail_memory();
    return false;
}

static bool load_ended(loader *l) {
    return load_fail(l, IG_FORMAT, "it ends too early, or a count is too large");
}

/* Take over an error of another part. */
static bool load_take(loader *l, ig_status s) {
    if (!s) return true;
    if (ig_status_code(s) == IG_MEMORY)
        load_no_memory(l);
    else
        load_fail(l, IG_FORMAT, "%s", ig_status_text(s));
    ig_status_free(s);
    return false;
}

static bool load_built(loader *l) {
    ig_status s = l->b.error;
    l->b.error = NULL;
    return load_take(l, s);
}

/* A number below n, which indexes the table `what`. */
static bool load_index(loader *l, rt_reader *r, uint32_t n, const char *what, uint32_t *out_) {
    *out_ = rt_read_u32(r);
    if (r->failed) return load_ended(l);
    return *out_ < n || load_fail(l, IG_FORMAT, "%s %u of %u", what, *out_, n);
}

static bool load_string(loader *l, rt_reader *r, const char **out_) {
    uint32_t i;
    if (!load_index(l, r, l->strs.n, "string", &i)) return false;
    *out_ = l->strs.data[i];
    return true;
}

/* A count of items of at least `item` bytes each. */
static bool load_count(loader *l, rt_reader *r, uint32_t item, uint32_t *out_) {
    *out_ = rt_read_count(r, item);
    return !r->failed || load_ended(l);
}

/* A dim: a constant, or the number of a polynomial. */
static bool load_dim(loader *l, rt_reader *r, ir_dim *out_) {
    int64_t d = (int64_t)rt_read_u64(r);
    if (r->failed) return load_ended(l);
    *out_ = d;
    if (d >= 0) return true;
    if (-(d + 1) >= (int64_t)l->dims.n) return load_fail(l, IG_FORMAT, "there is no such dim");
    *out_ = l->dims.data[-(d + 1)];
    return true;
}

static bool load_type_number(loader *l, rt_reader *r, uint32_t *out_) {
    uint32_t i;
    if (!load_index(l, r, l->types.n, "type", &i)) return false;
    *out_ = l->types.data[i];
    return true;
}

static bool load_type_ref(loader *l, rt_reader *r, ir_type *out_) {
    uint32_t number;
    if (!load_type_number(l, r, &number)) return false;
    *out_ = *l->m->types.data[number];
    return true;
}

/* --- Tables ----------------------------------------------------------------------------------- */

static bool load_strs(loader *l) {
    uint32_t n, size;
    if (!load_count(l, &l->r, 4, &n)) return false;
    ir_intern *t = l->m->intern;
    if (!rt_vec_reserve(l->alloc, &l->strs, n) ||
        !rt_vec_reserve(l->alloc, &t->strs, t->strs.n + n) ||
        !ir_index_reserve_all(l->alloc, &t->str_ix, t->str_ix.n + n))
        return load_no_memory(l);
    for (uint32_t i = 0; i < n; i++) {
        if (!load_count(l, &l->r, 1, &size)) return false;
        const char *s = rt_read_bytes(&l->r, size);
        if (size && memchr(s, 0, size))
            return load_fail(l, IG_FORMAT, "string %u contains a NUL", i);
        if (!(s = ir_intern_str(l->m, s, size))) return load_no_memory(l);
        l->strs.data[l->strs.n++] = s;
    }
    return true;
}

/* The place of a name in a NULL-terminated list; false when it is not there. */
static bool load_word(const char *name, const char *const *names, uint8_t *out_) {
    for (uint8_t i = 0; names[i]; i++)
        if (!strcmp(names[i], name)) {
            *out_ = i;
            return true;
        }
    return false;
}

static bool load_modl(loader *l) {
    const char *class;
    uint8_t number;
    if (!load_string(l, &l->r, &l->m->name) || !load_string(l, &l->r, &class)) return false;
    if (!load_word(class, ir_class_names, &number))
        return load_fail(l, IG_UNSUPPORTED, "class %s is not known to this library", class);
    uint32_t flags = rt_read_u32(&l->r);
    l->m->nstate = rt_read_u32(&l->r);
    if (l->r.failed) return load_ended(l);
    if (flags & ~FILE_UNCHECKED)
        return load_fail(l, IG_UNSUPPORTED, "flags %#x are not known to this library", flags);
    l->m->class = (ir_class)number;
    l->m->unchecked = flags & FILE_UNCHECKED;
    return true;
}

/* An atom other than a symbol; IR_DIM_BAD when it simplifies. */
static bool load_atom_op(loader *l, uint8_t kind, ir_dim *out_) {
    const ir_dim_term *t;
    ir_dim a = 0, b = 0, x;
    if (!load_dim(l, &l->r, &a) || !load_dim(l, &l->r, &b)) return false;
    switch (kind) {
    case DIM_FLOORDIV: x = ir_dim_floordiv(l->m, a, b); break;
    case DIM_MOD: x = ir_dim_mod(l->m, a, b); break;
    case DIM_MIN: x = ir_dim_min(l->m, a, b); break;
    case DIM_MAX: x = ir_dim_max(l->m, a, b); break;
    default:
        return load_fail(l, IG_FORMAT, "dim %u has an atom of unknown kind %u", l->dims.n, kind);
    }
    bool normal = x < 0 && x != IR_DIM_BAD && ir_dim_terms(l->m, x, &t) == 1 && t->natom == 1 &&
                  t->coef == 1 && t->atom[0]->kind == (ir_dim_node_kind)kind &&
                  t->atom[0]->a == a && t->atom[0]->b == b;
    *out_ = normal ? x : IR_DIM_BAD;
    return true;
}

/* coef * atom * atom ..., without the sign of coef; IR_DIM_BAD when it is not in normal form. */
static bool load_dim_term(loader *l, bool *minus_, ir_dim *out_) {
    int64_t coef = (int64_t)rt_read_u64(&l->r);
    uint32_t natom, sym;
    ir_dim atom = 0;
    if (!load_count(l, &l->r, 5, &natom)) return false;
    *minus_ = coef < 0;
    *out_ = coef == 0 || coef == INT64_MIN ? IR_DIM_BAD : coef < 0 ? -coef : coef;
    for (uint32_t k = 0; k < natom; k++) {
        uint8_t kind = rt_read_u8(&l->r);
        if (kind == DIM_SYM) {
            if (!load_index(l, &l->r, l->m->symbols.n, "dim symbol", &sym)) return false;
            const ir_symbol *y = &l->m->symbols.data[sym];
            if ((atom = ir_add_symbol(l->m, y->name, y->lo, y->hi)) == IR_DIM_BAD)
                return load_no_memory(l);
        } else if (!load_atom_op(l, kind, &atom)) {
            return false;
        }
        *out_ = ir_dim_mul(l->m, *out_, atom);
    }
    return true;
}

/* One polynomial, its terms in any order; IR_DIM_BAD unless it comes out with as many terms. */
static bool load_poly(loader *l, ir_dim *out_) {
    const ir_dim_term *t;
    ir_dim plus = 0, minus = 0, x;
    uint32_t n;
    bool neg;
    if (!load_count(l, &l->r, 12, &n)) return false;
    for (uint32_t i = 0; i < n; i++) {
        if (!load_dim_term(l, &neg, &x)) return false;
        if (neg)
            minus = ir_dim_add(l->m, minus, x);
        else
            plus = ir_dim_add(l->m, plus, x);
    }
    x = ir_dim_sub(l->m, plus, minus);
    *out_ = x != IR_DIM_BAD && x < 0 && ir_dim_terms(l->m, x, &t) == n ? x : IR_DIM_BAD;
    return true;
}

static bool load_polys(loader *l) {
    uint32_t n;
    ir_dim d;
    if (!load_count(l, &l->r, 16, &n)) return false;
    if (!rt_vec_reserve(l->alloc, &l->dims, n)) return load_no_memory(l);
    for (uint32_t i = 0; i < n; i++) {
        if (!load_poly(l, &d)) return false;
        if (d == IR_DIM_BAD)
            return ir_dims_lacked_memory(l->m)
                       ? load_no_memory(l)
                       : load_fail(l, IG_FORMAT, "dim %u is not in normal form", i);
        l->dims.data[l->dims.n++] = d;
    }
    return true;
}

static bool load_dims(loader *l) {
    uint32_t n;
    const char *name;
    if (!load_count(l, &l->r, 20, &n)) return false;
    for (uint32_t i = 0; i < n; i++) {
        if (!load_string(l, &l->r, &name)) return false;
        int64_t lo = (int64_t)rt_read_u64(&l->r), hi = (int64_t)rt_read_u64(&l->r);
        if (l->r.failed) return load_ended(l);
        if (!ir_is_ident(name, strlen(name)) || lo < 0 || lo > hi)
            return load_fail(l, IG_FORMAT, "dim symbol %u has no proper name or range (I6)", i);
        if (ir_add_symbol(l->m, name, lo, hi) == IR_DIM_BAD) return load_no_memory(l);
        if (l->m->symbols.n != i + 1)
            return load_fail(l, IG_FORMAT, "two dim symbols are called %s (I9)", name);
    }
    return load_polys(l);
}

static bool load_types(loader *l) {
    uint32_t n;
    if (!load_count(l, &l->r, 4, &n)) return false;
    ir_module *m = l->m;
    if (!rt_vec_reserve(l->alloc, &l->types, n) || !rt_vec_reserve(l->alloc, &m->types, n + 1) ||
        !ir_index_reserve_all(l->alloc, &m->intern->type_ix, n + 1))
        return load_no_memory(l);
    for (uint32_t i = 0; i < n; i++) {
        ir_type t = {.dtype = rt_read_u8(&l->r), .rank = rt_read_u8(&l->r)};
        t.lanes = rt_read_u8(&l->r);
        t.mem = rt_read_u8(&l->r);
        if (l->r.failed) return load_ended(l);
        if (t.dtype == IG_NONE || t.dtype >= IG_DTYPE_END || t.rank > IG_MAX_RANK || t.mem > 1 ||
            (t.mem && t.lanes) || ((t.mem || t.lanes) && t.rank))
            return load_fail(l, IG_FORMAT, "type %u is none", i);
        for (int k = 0; k < t.rank; k++)
            if (!load_dim(l, &l->r, &t.dim[k])) return false;
        uint32_t number = ir_intern_type(m, &t);
        if (number == UINT32_MAX) return load_no_memory(l);
        l->types.data[l->types.n++] = number;
    }
    return true;
}

/* --- Attributes ------------------------------------------------------------------------------- */

/* A count of list elements within the rank limit. */
static bool load_list(loader *l, rt_reader *r, uint8_t *n_) {
    *n_ = rt_read_u8(r);
    if (r->failed) return load_ended(l);
    return *n_ <= IG_MAX_RANK || load_fail(l, IG_FORMAT, "a list of %u elements", *n_);
}

static bool load_dim_list(loader *l, rt_reader *r, ir_dims *v) {
    if (!load_list(l, r, &v->n)) return false;
    for (int i = 0; i < v->n; i++)
        if (!load_dim(l, r, &v->d[i])) return false;
    return true;
}

static bool load_axes(loader *l, rt_reader *r, ir_axes *v) {
    if (!load_list(l, r, &v->n)) return false;
    const uint8_t *axes = rt_read_bytes(r, v->n);
    if (axes && v->n) memcpy(v->a, axes, v->n);
    return true;
}

static bool load_ints(loader *l, rt_reader *r, ir_ints *v) {
    if (!load_list(l, r, &v->n)) return false;
    for (int i = 0; i < v->n; i++) v->v[i] = (int64_t)rt_read_u64(r);
    return true;
}

static bool load_places(loader *l, rt_reader *r, ir_places *v) {
    if (!load_list(l, r, &v->n)) return false;
    for (int i = 0; i < v->n; i++) {
        v->p[i].kind = rt_read_u8(r);
        if (v->p[i].kind < IR_PLACE_WS || v->p[i].kind > IR_PLACE_IN)
            return load_fail(l, IG_FORMAT, "a place of unknown kind %u", v->p[i].kind);
        if (!load_dim(l, r, &v->p[i].at)) return false;
    }
    return true;
}

static bool load_rel(loader *l, rt_reader *r, ir_rel *v) {
    const char *text;
    char msg[256];
    if (!load_string(l, r, &text)) return false;
    if (ir_ein_parse(l->m, text, strlen(text), v, msg, sizeof msg)) return true;
    return ir_dims_lacked_memory(l->m) ? load_no_memory(l)
                                       : load_fail(l, IG_FORMAT, "%s (I10)", msg);
}

static bool load_enum(loader *l, rt_reader *r, ir_field_kind kind, uint8_t *v) {
    const char *name;
    if (!load_string(l, r, &name)) return false;
    return load_word(name, ir_enum_names(kind), v) ||
           load_fail(l, IG_UNSUPPORTED, "the value `%s` is not known to this library", name);
}

static bool load_ckpt(loader *l, rt_reader *r, ir_field_ckpt *v) {
    *v = (int64_t)rt_read_u64(r);
    return ir_ckpt_is_valid(*v) ||
           load_fail(l, IG_UNSUPPORTED, "checkpoint policy %lld is not known to this library",
                     (long long)*v);
}

static bool load_flag(loader *l, rt_reader *r, uint8_t *v) {
    *v = rt_read_u8(r);
    return *v <= 1 || load_fail(l, IG_FORMAT, "a flag that is neither 0 nor 1");
}

static bool load_dtype(loader *l, rt_reader *r, uint8_t *v) {
    *v = rt_read_u8(r);
    return (*v > IG_NONE && *v < IG_DTYPE_END) ||
           load_fail(l, IG_UNSUPPORTED, "element type %u is not known", *v);
}

/* The payload of a field, all of it. */
static bool load_field(loader *l, rt_reader *r, ir_field_kind kind, void *at) {
    ir_data *data = at;
    switch (kind) {
    case FIELD_int: *(int64_t *)at = (int64_t)rt_read_u64(r); return true;
    case FIELD_flag: return load_flag(l, r, at);
    case FIELD_dtype: return load_dtype(l, r, at);
    case FIELD_dim: return load_dim(l, r, at);
    case FIELD_dims: return load_dim_list(l, r, at);
    case FIELD_axes: return load_axes(l, r, at);
    case FIELD_ints: return load_ints(l, r, at);
    case FIELD_sym: return load_string(l, r, at);
    case FIELD_type: return load_type_ref(l, r, at);
    case FIELD_rel: return load_rel(l, r, at);
    case FIELD_places: return load_places(l, r, at);
    case FIELD_ckpt: return load_ckpt(l, r, at);
    case FIELD_data:
        data->n = (uint64_t)(r->end - r->at);
        data->bytes = rt_read_bytes(r, data->n);
        return true;
    default: return load_enum(l, r, kind, at);
    }
}

/* One `name flags size payload`; an unknown field that is not critical is skipped. */
static bool load_tagged(loader *l, const ir_attr_info *info, ir_attr_any *any, uint32_t *seen) {
    const char *name;
    uint32_t i = 0;
    if (!load_string(l, &l->r, &name)) return false;
    uint32_t flags = rt_read_u32(&l->r);
    uint64_t size = rt_read_u64(&l->r);
    const uint8_t *bytes = rt_read_bytes(&l->r, size);
    if (l->r.failed) return load_ended(l);
    while (i < info->nfield && strcmp(info->field[i].name, name)) i++;
    if (i == info->nfield) {
        if (!(flags & FILE_FIELD_CRITICAL)) return true;
        return load_fail(l, IG_UNSUPPORTED,
                         "field `%s` of attribute `%s` is not known to this library", name,
                         info->name);
    }
    if (*seen >> i & 1) return load_fail(l, IG_FORMAT, "field `%s` stands twice", name);
    *seen |= 1u << i;
    rt_reader r = {bytes, bytes + size, false};
    if (!load_field(l, &r, info->field[i].kind, (char *)any + info->field[i].offset)) return false;
    if (!r.failed && r.at == r.end) return true;
    return load_fail(l, IG_FORMAT, "field `%s` of attribute `%s` has the wrong size", name,
                     info->name);
}

static bool load_attrs(loader *l) {
    uint32_t n, nfield;
    if (!load_count(l, &l->r, 8, &n)) return false;
    ir_intern *t = l->m->intern;
    if (!rt_vec_reserve(l->alloc, &l->attrs, n) || !rt_vec_reserve(l->alloc, &t->attrs, n + 1) ||
        !rt_vec_reserve(l->alloc, &t->kinds, n + 1) ||
        !ir_index_reserve_all(l->alloc, &t->attr_ix, n + 1))
        return load_no_memory(l);
    for (uint32_t i = 0; i < n; i++) {
        const char *name;
        int kind = 0;
        ir_attr_any any;
        uint32_t seen = 0;
        memset(&any, 0, sizeof any);
        if (!load_string(l, &l->r, &name) || !load_count(l, &l->r, 16, &nfield)) return false;
        while (kind < ATTR_END && strcmp(ir_attr_tab[kind].name, name)) kind++;
        if (kind == ATTR_END)
            return load_fail(l, IG_UNSUPPORTED, "attribute kind `%s` is not known to this library",
                             name);
        for (uint32_t k = 0; k < nfield; k++)
            if (!load_tagged(l, &ir_attr_tab[kind], &any, &seen)) return false;
        ir_attr a = ir_intern_attr(l->m, (ir_attr_kind)kind, &any);
        if (a.i == UINT32_MAX) return load_no_memory(l);
        l->attrs.data[l->attrs.n++] = a;
    }
    return true;
}

static bool load_opnm(loader *l) {
    uint32_t n;
    const char *name;
    if (!load_count(l, &l->r, 8, &n)) return false;
    if (!rt_vec_reserve(l->alloc, &l->ops, n)) return load_no_memory(l);
    for (uint32_t i = 0; i < n; i++) {
        if (!load_string(l, &l->r, &name)) return false;
        uint32_t version = rt_read_u32(&l->r);
        ir_opcode op = ir_op_find(name, strlen(name));
        if (l->r.failed) return load_ended(l);
        if (op == OP_END)
            return load_fail(l, IG_UNSUPPORTED, "op `%s` is not known to this library", name);
        if (version != ir_op_tab[op].version)
            return load_fail(l, IG_UNSUPPORTED,
                             "op `%s` has version %u; this library knows version %u", name, version,
                             ir_op_tab[op].version);
        l->ops.data[l->ops.n++] = op;
    }
    return true;
}

/* --- Weights ---------------------------------------------------------------------------------- */

/* One weight; its bytes begin at or after `*end_` in BLOB, so that no byte is counted twice. */
static bool load_weight(loader *l, uint64_t *end_) {
    const rt_section *blob = l->sec[FILE_BLOB];
    const char *name;
    ir_type t;
    int64_t numel;
    size_t bytes;
    if (!load_string(l, &l->r, &name) || !load_type_ref(l, &l->r, &t)) return false;
    uint64_t off = rt_read_u64(&l->r), size = rt_read_u64(&l->r);
    if (l->r.failed) return load_ended(l);
    if (t.mem || t.lanes || !ir_type_bytes(&t, &numel, &bytes) || bytes != size)
        return load_fail(l, IG_FORMAT,
                         "weight @%s has %llu bytes, which are not those of its type (I7)", name,
                         (unsigned long long)size);
    if (size ? off % RT_ALIGN_BUFFER || off < *end_ || off > blob->size || size > blob->size - off
             : off)
        return load_fail(l, IG_FORMAT,
                         "weight @%s does not lie in section BLOB, after those before it", name);
    const uint8_t *data = size ? blob->data + off : NULL;
    uint64_t bad = ir_data_bad(t.dtype, data, (uint64_t)numel);
    if (bad < (uint64_t)numel)
        return load_fail(
            l, IG_FORMAT, "element %llu of weight @%s is %s (I7)", (unsigned long long)bad, name,
            t.dtype == IG_bool ? "a bool other than 0 and 1" : "a NaN that is not canonical");
    if (size) *end_ = off + size;
    return load_take(l, ir_add_weight(l->m, name, t, data, !l->borrow));
}

static bool load_weights(loader *l) {
    uint32_t n;
    uint64_t end = 0;
    if (!load_count(l, &l->r, 24, &n)) return false;
    for (uint32_t i = 0; i < n; i++)
        if (!load_weight(l, &end)) return false;
    if (end == l->sec[FILE_BLOB]->size) return true;
    return load_fail(l, IG_FORMAT, "section BLOB has bytes that belong to no weight");
}

/* --- Functions -------------------------------------------------------------------------------- */

static bool load_locs(loader *l) {
    uint32_t n;
    const char *file;
    rt_reader *r = &l->locs;
    if (!load_count(l, r, 8, &n)) return false;
    ir_intern *t = l->m->intern;
    if (!rt_vec_reserve(l->alloc, &l->loc, n + 1) || !rt_vec_reserve(l->alloc, &t->locs, n + 1) ||
        !ir_index_reserve_all(l->alloc, &t->loc_ix, n + 1))
        return load_no_memory(l);
    l->loc.data[l->loc.n++] = (ir_loc){0};
    for (uint32_t i = 0; i < n; i++) {
        if (!load_string(l, r, &file)) return false;
        ir_loc x = ir_intern_loc(l->m, file, rt_read_u32(r));
        if (r->failed) return load_ended(l);
        if (!x.i) return load_no_memory(l);
        l->loc.data[l->loc.n++] = x;
    }
    return true;
}

/* The location of the next op, into the builder. */
static bool load_next_loc(loader *l) {
    uint32_t i;
    l->b.loc = (ir_loc){0};
    if (!l->sec[FILE_LOCS]) return true;
    if (!load_index(l, &l->locs, l->loc.n, "location", &i)) return false;
    l->b.loc = l->loc.data[i];
    return true;
}

/* Operands into l->refs. */
static bool load_operands(loader *l) {
    uint32_t n;
    if (!load_count(l, &l->r, 4, &n)) return false;
    if (n > UINT16_MAX) return load_fail(l, IG_FORMAT, "%u operands", n);
    if (!rt_vec_reserve(l->alloc, &l->refs, n + 1)) return load_no_memory(l);
    l->refs.n = 0;
    for (uint32_t i = 0; i < n; i++) l->refs.data[l->refs.n++] = (ir_ref){rt_read_u32(&l->r)};
    return true;
}

/* A list of types, pushed to l->expect. */
static bool load_type_list(loader *l, uint32_t *n_) {
    uint32_t t;
    if (!load_count(l, &l->r, 4, n_)) return false;
    if (*n_ > UINT16_MAX) return load_fail(l, IG_FORMAT, "%u values", *n_);
    for (uint32_t i = 0; i < *n_; i++) {
        if (!load_type_number(l, &l->r, &t)) return false;
        if (!rt_vec_push(l->alloc, &l->expect, t)) return load_no_memory(l);
    }
    return true;
}

/* Compare the results of a complete op with those in the file. */
static bool load_check_results(loader *l, uint32_t op, uint32_t type0, uint32_t ntype) {
    const ir_func *f = l->b.f;
    const ir_op *o = &f->ops.data[op];
    bool same = o->nout == ntype;
    for (uint32_t i = 0; i < ntype && same; i++)
        same = f->values.data[o->out0 + i].type == l->expect.data[type0 + i];
    l->expect.n = type0;
    return same || load_fail(l, IG_FORMAT, "the results of %s are not those of its type rule (I2)",
                             ir_op_tab[o->code].name);
}

/* Open region k of the top frame. */
static bool load_region(loader *l) {
    load_frame *fr = &l->frame[l->nframe - 1];
    uint32_t n, type0 = l->expect.n;
    if (!load_type_list(l, &n)) return false;
    if (!rt_vec_reserve(l->alloc, &l->refs, n + 1) || !rt_vec_reserve(l->alloc, &l->params, n + 1))
        return load_no_memory(l);
    for (uint32_t i = 0; i < n; i++)
        l->params.data[i] = *l->m->types.data[l->expect.data[type0 + i]];
    ir_region_begin(&l->b, fr->op, fr->k, (int)n, l->params.data, l->refs.data);
    l->expect.n = type0;
    return load_built(l);
}

/* After the `yield` of a region. */
static bool load_region_end(loader *l) {
    load_frame *fr = &l->frame[l->nframe - 1];
    ir_region_end(&l->b, (int)l->refs.n, l->refs.data);
    if (!load_built(l)) return false;
    if (++fr->k < fr->nregion) return load_region(l);
    ir_op_end(&l->b, fr->op);
    l->nframe--;
    return load_built(l) && load_check_results(l, fr->op, fr->type0, fr->ntype);
}

static bool load_region_op(loader *l, ir_opcode code, const void *attr, load_frame fr) {
    if (l->nframe == IR_MAX_NEST)
        return load_fail(l, IG_FORMAT, "regions nest deeper than %d (I5)", IR_MAX_NEST);
    fr.nregion = ir_region_count(code, attr);
    fr.op = ir_op_begin(&l->b, code, attr, (int)l->refs.n, l->refs.data, fr.nregion);
    if (!load_built(l)) return false;
    l->frame[l->nframe++] = fr;
    return load_region(l);
}

/* One op.  *done_ is set by the function's `return`, whose operands stay in l->refs. */
static bool load_op(loader *l, bool *done_) {
    uint32_t name, number;
    load_frame fr = {.type0 = l->expect.n};
    if (!load_next_loc(l)) return false;
    if (!load_index(l, &l->r, l->ops.n, "op name", &name)) return false;
    if (!load_index(l, &l->r, l->attrs.n, "attribute", &number)) return false;
    if (!load_operands(l) || !load_type_list(l, &fr.ntype)) return false;
    ir_opcode code = l->ops.data[name];
    ir_attr attr = l->attrs.data[number];
    if (ir_attr_kind_of(l->m, attr) != (ir_attr_kind)ir_op_tab[code].attr)
        return load_fail(l, IG_FORMAT, "%s has an attribute of another kind (I4)",
                         ir_op_tab[code].name);
    if (code == OP_return || code == OP_yield) {
        if ((code == OP_yield) != (l->nframe > 0) || fr.ntype)
            return load_fail(l, IG_FORMAT, "a region ends in yield, a function in return (I5)");
        *done_ = code == OP_return;
        return *done_ || load_region_end(l);
    }
    if (ir_has_regions(code)) return load_region_op(l, code, ir_attr_get(l->m, attr), fr);
    uint32_t nops = l->b.f->ops.n;
    ir_read_emit(&l->b, code, ir_attr_get(l->m, attr), l->refs.n, l->refs.data);
    if (!load_built(l)) return false;
    if (l->b.f->ops.n != nops + 1)
        return load_fail(l, IG_FORMAT, "%s is not in the form in which it is saved",
                         ir_op_tab[code].name);
    return load_check_results(l, nops, fr.type0, fr.ntype);
}

static bool load_params(loader *l) {
    uint32_t n, name;
    ir_type t;
    if (!load_count(l, &l->r, 8, &n)) return false;
    for (uint32_t i = 0; i < n; i++) {
        if (!load_type_ref(l, &l->r, &t)) return false;
        rt_reader peek = l->r;
        const char *text = NULL;
        if (rt_read_u32(&peek) == FILE_NO_NAME)
            l->r = peek;
        else if (load_index(l, &l->r, l->strs.n, "string", &name))
            text = l->strs.data[name];
        else
            return false;
        ir_param(&l->b, t, text);
        if (!load_built(l)) return false;
    }
    return true;
}

static bool load_check_func(loader *l, const ir_func *f, uint32_t nresult, uint32_t nop) {
    bool same = f->results.n == nresult && f->ops.n == nop;
    for (uint32_t i = 0; i < nresult && same; i++) same = f->results.data[i] == l->expect.data[i];
    return same || load_fail(l, IG_FORMAT, "@%s does not return what it promises (I5)", f->name);
}

static bool load_func(loader *l) {
    const char *name, *kind;
    uint8_t number;
    uint32_t nresult, nop;
    bool done = false;
    ir_func *f;
    if (!load_string(l, &l->r, &name) || !load_string(l, &l->r, &kind)) return false;
    if (!load_word(kind, ir_func_kind_names, &number))
        return load_fail(l, IG_UNSUPPORTED, "function kind `%s` is not known to this library",
                         kind);
    l->expect.n = 0;
    l->building = true;
    ir_build_begin(&l->b, l->m, name, (ir_func_kind)number, IR_BUILD_RAW);
    if (!load_built(l) || !load_params(l)) return false;
    if (!load_type_list(l, &nresult) || !load_count(l, &l->r, 16, &nop)) return false;
    if (!rt_vec_reserve(l->alloc, &l->b.f->ops, nop)) return load_no_memory(l);
    while (!done)
        if (!load_op(l, &done)) return false;
    ig_status s = ir_build_end(&l->b, (int)l->refs.n, l->refs.data, &f);
    l->building = false;
    return load_take(l, s) && load_check_func(l, f, nresult, nop);
}

static bool load_funcs(loader *l) {
    uint32_t n;
    if (l->sec[FILE_LOCS]) {
        l->at = FILE_LOCS;
        if (!load_locs(l)) return false;
        l->at = FILE_FUNC;
    }
    if (!load_count(l, &l->r, 20, &n)) return false;
    for (uint32_t i = 0; i < n; i++)
        if (!load_func(l)) return false;
    if (!l->sec[FILE_LOCS] || l->locs.at == l->locs.end) return true;
    l->at = FILE_LOCS;
    return load_fail(l, IG_FORMAT, "there are more locations than ops");
}

/* --- The file --------------------------------------------------------------------------------- */

/* Find the module's sections: each once; unknown ones only when they may be skipped. */
static bool load_sections(loader *l) {
    for (uint32_t i = 0; i < l->file.nsection; i++) {
        const rt_section *s = &l->file.section[i];
        int k = 0;
        while (k < FILE_SECTIONS && memcmp(s->tag, ir_file_tags[k], 4)) k++;
        if (k == FILE_SECTIONS) {
            if (!(s->flags & RT_SECTION_CRITICAL)) continue;
            l->error = rt_fail(l->under, IG_UNSUPPORTED,
                               "section %.4s is critical and not known to this library", s->tag);
            return false;
        }
        l->at = (enum file_section)k;
        if (l->sec[k]) return load_fail(l, IG_FORMAT, "it stands twice");
        l->sec[k] = s;
    }
    for (int k = 0; k < FILE_SECTIONS; k++) {
        l->at = (enum file_section)k;
        if (!l->sec[k] && k != FILE_LOCS) return load_fail(l, IG_FORMAT, "it is missing");
    }
    if (l->sec[FILE_LOCS])
        l->locs = (rt_reader){l->sec[FILE_LOCS]->data,
                              l->sec[FILE_LOCS]->data + l->sec[FILE_LOCS]->size, false};
    return true;
}

/* Read every section in the order of its dependences, each to its last byte. */
static bool load_module(loader *l) {
    static const struct {
        enum file_section at;
        bool (*read)(loader *);
    } steps[] = {{FILE_STRS, load_strs},    {FILE_MODL, load_modl},  {FILE_DIMS, load_dims},
                 {FILE_TYPE, load_types},   {FILE_ATTR, load_attrs}, {FILE_OPNM, load_opnm},
                 {FILE_WGHT, load_weights}, {FILE_FUNC, load_funcs}};
    if (!load_sections(l)) return false;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        const rt_section *s = l->sec[steps[i].at];
        l->at = steps[i].at;
        l->r = (rt_reader){s->data, s->data + s->size, false};
        if (!steps[i].read(l)) return false;
        if (l->r.failed) return load_ended(l);
        if (l->r.at != l->r.end)
            return load_fail(l, IG_FORMAT, "it has %zu bytes too many",
                             (size_t)(l->r.end - l->r.at));
    }
    ig_status s = ir_verify(l->m);
    if (!s) return true;
    l->at = FILE_FUNC;
    return load_take(l, s);
}

static void load_free(loader *l) {
    if (l->building) ir_build_abort(&l->b);
    rt_vec_free(l->alloc, &l->strs);
    rt_vec_free(l->alloc, &l->dims);
    rt_vec_free(l->alloc, &l->types);
    rt_vec_free(l->alloc, &l->attrs);
    rt_vec_free(l->alloc, &l->ops);
    rt_vec_free(l->alloc, &l->loc);
    rt_vec_free(l->alloc, &l->refs);
    rt_vec_free(l->alloc, &l->expect);
    rt_vec_free(l->alloc, &l->params);
}

static ig_status load_file(const ig_allocator *alloc, bool borrow, const void *bytes, size_t n,
                           ir_module **out_) {
    rt_budget budget;
    *out_ = NULL;
    ir_reader_budget(&budget, alloc, n);
    loader l = {.alloc = &budget.alloc, .under = alloc, .borrow = borrow};
    RT_TRY(rt_container_read(alloc, bytes, n, &l.file));
    RT_TRY(ir_module_new(l.alloc, "", &l.m));
    bool ok = load_module(&l);
    load_free(&l);
    return ir_reader_end(&budget, "module file", n, ok ? NULL : l.error, l.m, out_);
}

ig_status ir_load(const ig_allocator *alloc, const void *bytes, size_t n, ir_module **out_) {
    return load_file(alloc, false, bytes, n, out_);
}

ig_status ir_load_borrowed(const ig_allocator *alloc, const void *bytes, size_t n,
                           ir_module **out_) {
    *out_ = NULL;
    if ((uintptr_t)bytes % RT_ALIGN_BUFFER)
        return rt_fail(alloc, IG_INVALID,
                       "weights can be borrowed only from bytes at a multiple of %d",
                       RT_ALIGN_BUFFER);
    return load_file(alloc, true, bytes, n, out_);
}
