/* attr.c - attribute kinds as data (attrs.def) and their interning.
 *
 * An attribute is brought into one form first: unused entries of lists and padding zero, symbols
 * interned, so that equal attributes are equal bytes field by field; only `data` is compared by
 * content.  Every other file walks the fields through ir_attr_tab and knows no kind by name. */
#include "ir/intern.h"
#include "runtime/base/hash.h"

#include <string.h>

/* --- The tables ------------------------------------------------------------------------------- */

/* A field arrives as the tuple (kind, text, member); the struct it is a member of is known one
 * macro further out. */
#define ATTR_ROW_(s, kind, text, member) {kind, text, (uint32_t)offsetof(s, member)},
#define ATTR_UNPACK(...)                 __VA_ARGS__
#define ATTR_ROW(...)                    ATTR_ROW_(__VA_ARGS__)
#define ATTR_FIELD(s, f)                 ATTR_ROW(s, ATTR_UNPACK f)
#define ATTR_F0(s)
#define ATTR_F1(s, f)                     ATTR_FIELD(s, f)
#define ATTR_F2(s, f, ...)                ATTR_FIELD(s, f) ATTR_F1(s, __VA_ARGS__)
#define ATTR_F3(s, f, ...)                ATTR_FIELD(s, f) ATTR_F2(s, __VA_ARGS__)
#define ATTR_F4(s, f, ...)                ATTR_FIELD(s, f) ATTR_F3(s, __VA_ARGS__)
#define ATTR_F5(s, f, ...)                ATTR_FIELD(s, f) ATTR_F4(s, __VA_ARGS__)
#define ATTR_N_(s, a, b, c, d, e, n, ...) n
#define ATTR_N(...)                       ATTR_N_(__VA_ARGS__, 5, 4, 3, 2, 1, 0, ~)
#define ATTR_FIELDS(...)                  IR_CAT(ATTR_F, ATTR_N(__VA_ARGS__))(__VA_ARGS__)

#define F(kind, member) , (FIELD_##kind, #member, member)
#define ATTR(name, fields)                         \
    static const ir_field attr_fields_##name[] = { \
        ATTR_FIELDS(ir_attr_##name fields){FIELD_END, NULL, 0}};
#include "ir/attrs.def"
#undef F

#define F(kind, member)    +1
#define ATTR(name, fields) {#name, (uint32_t)sizeof(ir_attr_##name), 0u fields, attr_fields_##name},
const ir_attr_info ir_attr_tab[ATTR_END] = {
#include "ir/attrs.def"
};
#undef F

/* Room for any attribute. */
typedef union attr_any {
#define ATTR(name, fields) ir_attr_##name any_##name;
#include "ir/attrs.def"
} attr_any;

#define ATTR_S1(a)      #a, NULL
#define ATTR_S2(a, ...) #a, ATTR_S1(__VA_ARGS__)
#define ATTR_S3(a, ...) #a, ATTR_S2(__VA_ARGS__)
#define ATTR_S4(a, ...) #a, ATTR_S3(__VA_ARGS__)
#define ATTR_S5(a, ...) #a, ATTR_S4(__VA_ARGS__)
#define ATTR_S6(a, ...) #a, ATTR_S5(__VA_ARGS__)
#define ATTR_S7(a, ...) #a, ATTR_S6(__VA_ARGS__)
#define ATTR_S8(a, ...) #a, ATTR_S7(__VA_ARGS__)
#define ENUM(kind, ...)                              \
    static const char *const attr_names_##kind[] = { \
        IR_CAT(ATTR_S, IR_NARG(__VA_ARGS__))(__VA_ARGS__)};
#include "ir/attrs.def"

static const char *const *const attr_names[FIELD_END] = {
#define ENUM(kind, ...) [FIELD_##kind] = attr_names_##kind,
#include "ir/attrs.def"
};

const char *const *ir_enum_names(ir_field_kind kind) {
    return kind < FIELD_END ? attr_names[kind] : NULL;
}

bool ir_field_is_absent(const ir_field *f, const void *at) {
    switch (f->kind) {
    case FIELD_places: return !((const ir_places *)at)->n;
    case FIELD_ckpt: return *(const ir_field_ckpt *)at == IR_CKPT_AUTO;
    default: return false;
    }
}

/* Bytes of a field. */
#define ATTR_SIZE(kind) [FIELD_##kind] = (uint16_t)sizeof(ir_field_##kind)
static const uint16_t attr_size[FIELD_END] = {
    ATTR_SIZE(int),  ATTR_SIZE(flag),   ATTR_SIZE(dtype), ATTR_SIZE(dim),  ATTR_SIZE(dims),
    ATTR_SIZE(axes), ATTR_SIZE(ints),   ATTR_SIZE(sym),   ATTR_SIZE(type), ATTR_SIZE(data),
    ATTR_SIZE(rel),  ATTR_SIZE(places), ATTR_SIZE(ckpt),
#define ENUM(kind, ...) ATTR_SIZE(kind),
#include "ir/attrs.def"
};

/* Bytes of a field up to the last one that says something: what follows the entries of a list is
 * not compared, and not kept at the end of an attribute. */
static size_t attr_used(ir_field_kind kind, const void *p) {
    switch (kind) {
    case FIELD_dims: return offsetof(ir_dims, d) + ((const ir_dims *)p)->n * sizeof(ir_dim);
    case FIELD_axes: return offsetof(ir_axes, a) + ((const ir_axes *)p)->n;
    case FIELD_ints: return offsetof(ir_ints, v) + ((const ir_ints *)p)->n * sizeof(int64_t);
    case FIELD_type: return offsetof(ir_type, dim) + ((const ir_type *)p)->rank * sizeof(ir_dim);
    case FIELD_rel: {
        const ir_rel *v = p;
        if (v->given || v->ncon) return offsetof(ir_rel, con) + v->ncon * sizeof v->con[0];
        return offsetof(ir_rel, order) + v->norder;
    }
    case FIELD_places: {
        const ir_places *v = p;
        return offsetof(ir_places, p) + v->n * sizeof v->p[0];
    }
    default: return attr_size[kind];
    }
}

ir_dim *ir_dims_in(ir_field_kind kind, void *at, int *n_) {
    ir_dims *dims = at;
    ir_rel *rel = at;
    *n_ = kind == FIELD_dim ? 1 : 0;
    if (kind == FIELD_dims) *n_ = dims->n;
    if (kind == FIELD_rel && rel->given) *n_ = IR_EIN_VARS;
    return kind == FIELD_dims ? dims->d : kind == FIELD_rel ? rel->extent : at;
}

/* --- One form --------------------------------------------------------------------------------- */

static uint8_t attr_count(uint8_t n) { return n < IG_MAX_RANK ? n : IG_MAX_RANK; }

static void attr_copy_dims(void *dst, const void *src) {
    const ir_dims *s = src;
    ir_dims *d = dst;
    d->n = attr_count(s->n);
    for (uint8_t i = 0; i < d->n; i++) d->d[i] = s->d[i];
}

static void attr_copy_axes(ir_axes *d, const ir_axes *s) {
    d->n = attr_count(s->n);
    memcpy(d->a, s->a, d->n);
}

static void attr_copy_ints(void *dst, const void *src) {
    const ir_ints *s = src;
    ir_ints *d = dst;
    d->n = attr_count(s->n);
    for (uint8_t i = 0; i < d->n; i++) d->v[i] = s->v[i];
}

static void attr_copy_type(void *dst, const void *src) {
    const ir_type *s = src;
    ir_type *d = dst;
    d->dtype = s->dtype;
    d->rank = attr_count(s->rank);
    d->lanes = s->lanes;
    d->mem = s->mem;
    for (uint8_t i = 0; i < d->rank; i++) d->dim[i] = s->dim[i];
}

static void attr_copy_rel(void *dst, const void *src) {
    const ir_rel *s = src;
    ir_rel *d = dst;
    d->nvar = s->nvar;
    d->nin = s->nin < IR_EIN_OPERANDS ? s->nin : IR_EIN_OPERANDS;
    d->norder = s->norder < IR_EIN_VARS ? s->norder : IR_EIN_VARS;
    d->monoid = s->monoid;
    attr_copy_axes(&d->out, &s->out);
    for (uint8_t i = 0; i < d->nin; i++) attr_copy_axes(&d->in[i], &s->in[i]);
    memcpy(d->order, s->order, d->norder);
    memcpy(d->look, s->look, sizeof d->look);
    d->given = s->given;
    d->ncon = s->ncon < IR_EIN_CONSTRAINTS ? s->ncon : IR_EIN_CONSTRAINTS;
    if (!d->given && !d->ncon) return;
    for (unsigned v = 0; v < IR_EIN_VARS; v++)
        if (d->given >> v & 1) d->extent[v] = s->extent[v];
    for (unsigned i = 0; i < d->ncon; i++) {
        d->con[i].c0 = s->con[i].c0;
        d->con[i].least = s->con[i].least;
        memcpy(d->con[i].c, s->con[i].c, sizeof d->con[i].c);
    }
}

static void attr_copy_places(void *dst, const void *src) {
    const ir_places *s = src;
    ir_places *d = dst;
    d->n = attr_count(s->n);
    for (uint8_t i = 0; i < d->n; i++) {
        d->p[i].kind = s->p[i].kind;
        d->p[i].at = s->p[i].at;
    }
}

/* Copy an attribute into zeroed memory in its one form.  `data` stays borrowed.  False when memory
 * is out. */
static bool attr_normalise(ir_module *m, const ir_attr_info *info, const char *src, char *dst) {
    for (uint32_t i = 0; i < info->nfield; i++) {
        const ir_field *f = &info->field[i];
        const void *s = src + f->offset;
        void *d = dst + f->offset;
        switch (f->kind) {
        case FIELD_dims: attr_copy_dims(d, s); break;
        case FIELD_axes: attr_copy_axes(d, s); break;
        case FIELD_ints: attr_copy_ints(d, s); break;
        case FIELD_type: attr_copy_type(d, s); break;
        case FIELD_rel: attr_copy_rel(d, s); break;
        case FIELD_places: attr_copy_places(d, s); break;
        case FIELD_sym: {
            const char *name;
            memcpy(&name, s, sizeof name);
            if (name && !(name = ir_intern_str(m, name, strlen(name)))) return false;
            memcpy(d, &name, sizeof name);
            break;
        }
        default: memcpy(d, s, attr_size[f->kind]);
        }
    }
    return true;
}

static uint64_t attr_hash(ir_attr_kind kind, const char *attr) {
    const ir_attr_info *info = &ir_attr_tab[kind];
    uint64_t h = rt_hash_mix(0, (uint64_t)kind);
    for (uint32_t i = 0; i < info->nfield; i++) {
        const ir_field *f = &info->field[i];
        const void *p = attr + f->offset;
        if (f->kind == FIELD_data) {
            ir_data d = *(const ir_data *)p;
            h = rt_hash(d.bytes, (size_t)d.n, h);
        } else if (f->kind == FIELD_sym) {
            const char *s = *(const char *const *)p;
            h = s ? rt_hash(s, strlen(s), h) : rt_hash_mix(h, 1);
        } else {
            h = rt_hash(p, attr_used(f->kind, p), h);
        }
    }
    return h;
}

/* Whether two attributes in their one form are equal. */
static bool attr_eq(ir_attr_kind kind, const char *a, const char *b) {
    const ir_attr_info *info = &ir_attr_tab[kind];
    for (uint32_t i = 0; i < info->nfield; i++) {
        const ir_field *f = &info->field[i];
        if (f->kind == FIELD_data) {
            ir_data x = *(const ir_data *)(const void *)(a + f->offset);
            ir_data y = *(const ir_data *)(const void *)(b + f->offset);
            if (x.n != y.n || (x.n && memcmp(x.bytes, y.bytes, (size_t)x.n))) return false;
        } else if (memcmp(a + f->offset, b + f->offset, attr_used(f->kind, a + f->offset))) {
            return false;
        }
    }
    return true;
}

/* Slices and pads are three lists of equal room, and programs have many of them, each another one.
 * They are kept like the teeth of combs: one begins where the first list of the one before ends,
 * and so on, as long as the lists fit between those that stand there:
 *
 *     lo of 1, lo of 2, lo of 3, -- hi of 1, hi of 2, hi of 3, -- step of 1, step of 2, step of 3
 *
 * Whoever copies a whole struct reads its neighbours behind its lists; see ir_attr_get. */
typedef struct attr_lists {
    ir_dims a, b;
    ir_ints c;
} attr_lists;
#define ATTR_IS_LISTS(name, x, y, z)                                                         \
    _Static_assert(sizeof(ir_dims) == sizeof(ir_ints) && offsetof(ir_attr_##name, x) == 0 && \
                       offsetof(ir_attr_##name, y) == offsetof(attr_lists, b) &&             \
                       offsetof(ir_attr_##name, z) == offsetof(attr_lists, c),               \
                   #name " is three lists")
ATTR_IS_LISTS(slice, lo, hi, step);
ATTR_IS_LISTS(pad, lo, hi, interior);

static const void *attr_keep_lists(ir_module *m, const attr_lists *v) {
    uint8_t n = v->a.n > v->b.n ? v->a.n : v->b.n;
    if (v->c.n > n) n = v->c.n;
    size_t tooth = offsetof(ir_dims, d) + n * sizeof v->a.d[0], room = sizeof(attr_any) + tooth;
    ir_comb *comb = &m->intern->comb[n];
    if (!comb->left) {
        size_t teeth = sizeof(ir_dims) / tooth, size = sizeof v->a * 2 + teeth * tooth;
        char *at = rt_arena_take(&m->arena, size + room, _Alignof(attr_any));
        if (!at) return NULL;
        rt_arena_shrink(&m->arena, at, size + room, size);
        *comb = (ir_comb){at, (uint32_t)teeth};
    }
    attr_lists *kept = (attr_lists *)(void *)comb->at;
    memcpy(&kept->a, &v->a, attr_used(FIELD_dims, &v->a));
    memcpy(&kept->b, &v->b, attr_used(FIELD_dims, &v->b));
    memcpy(&kept->c, &v->c, attr_used(FIELD_ints, &v->c));
    comb->at += tooth;
    comb->left--;
    return kept;
}

/* Copy an attribute, its data included, into the arena; NULL when memory is out.  It ends where its
 * last field says nothing more.  The room of the whole struct is asked for first, so that copying
 * the struct reads no byte outside of the arena. */
static const void *attr_keep(ir_module *m, ir_attr_kind kind, const attr_any *any) {
    const ir_attr_info *info = &ir_attr_tab[kind];
    if (kind == ATTR_slice || kind == ATTR_pad) return attr_keep_lists(m, (const attr_lists *)any);
    const ir_field *last = info->nfield ? &info->field[info->nfield - 1] : NULL;
    const char *from = (const char *)any;
    size_t size = last ? last->offset + attr_used(last->kind, from + last->offset) : 1;
    char *kept = rt_arena_take(&m->arena, info->size, _Alignof(attr_any));
    if (!kept) return NULL;
    memcpy(kept, any, size);
    rt_arena_shrink(&m->arena, kept, info->size, size);
    for (uint32_t i = 0; i < info->nfield; i++) {
        if (info->field[i].kind != FIELD_data) continue;
        ir_data *d = (ir_data *)(void *)(kept + info->field[i].offset);
        if (!d->n) {
            d->bytes = NULL;
            continue;
        }
        void *bytes = d->n <= SIZE_MAX ? rt_arena_take(&m->arena, (size_t)d->n, sizeof(uint64_t))
                                       : NULL;
        if (!bytes) return NULL;
        d->bytes = memcpy(bytes, d->bytes, (size_t)d->n);
    }
    return kept;
}

/* --- Interning -------------------------------------------------------------------------------- */

ir_attr ir_intern_attr(ir_module *m, ir_attr_kind kind, const void *attr) {
    static const attr_any zero;
    const ir_attr failed = {UINT32_MAX};
    ir_intern *t = m->intern;
    attr_any any;
    memset(&any, 0, sizeof any);
    if (!attr_normalise(m, &ir_attr_tab[kind], attr ? attr : (const void *)&zero, (char *)&any))
        return failed;
    uint64_t h = attr_hash(kind, (const char *)&any);
    uint32_t at = ir_index_start(&t->attr_ix, h), id;
    while (ir_index_next(&t->attr_ix, h, &at, &id)) {
        if (t->kinds.data[id] == kind && attr_eq(kind, (const char *)&any, t->attrs.data[id]))
            return (ir_attr){id};
    }
    if (!ir_index_reserve(m->alloc, &t->attr_ix) ||
        !rt_vec_reserve(m->alloc, &t->attrs, t->attrs.n + 1) ||
        !rt_vec_reserve(m->alloc, &t->kinds, t->kinds.n + 1))
        return failed;
    const void *kept = attr_keep(m, kind, &any);
    if (!kept) return failed;
    t->attrs.data[t->attrs.n++] = kept;
    t->kinds.data[t->kinds.n++] = (uint8_t)kind;
    ir_index_add(&t->attr_ix, h, t->attrs.n - 1);
    return (ir_attr){t->attrs.n - 1};
}

const void *ir_attr_get(const ir_module *m, ir_attr a) {
    const ir_intern *t = m->intern;
    return t->attrs.data[a.i < t->attrs.n ? a.i : 0];
}

ir_attr_kind ir_attr_kind_of(const ir_module *m, ir_attr a) {
    const ir_intern *t = m->intern;
    return (ir_attr_kind)t->kinds.data[a.i < t->kinds.n ? a.i : 0];
}
