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
#define ATTR_F1(s, f)                  ATTR_FIELD(s, f)
#define ATTR_F2(s, f, ...)             ATTR_FIELD(s, f) ATTR_F1(s, __VA_ARGS__)
#define ATTR_F3(s, f, ...)             ATTR_FIELD(s, f) ATTR_F2(s, __VA_ARGS__)
#define ATTR_F4(s, f, ...)             ATTR_FIELD(s, f) ATTR_F3(s, __VA_ARGS__)
#define ATTR_N_(s, a, b, c, d, n, ...) n
#define ATTR_N(...)                    ATTR_N_(__VA_ARGS__, 4, 3, 2, 1, 0, ~)
#define ATTR_FIELDS(...)               IR_CAT(ATTR_F, ATTR_N(__VA_ARGS__))(__VA_ARGS__)

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

/* Bytes of a field. */
#define ATTR_SIZE(kind) [FIELD_##kind] = (uint16_t)sizeof(ir_field_##kind)
static const uint16_t attr_size[FIELD_END] = {
    ATTR_SIZE(int),  ATTR_SIZE(flag), ATTR_SIZE(dtype), ATTR_SIZE(dim),
    ATTR_SIZE(dims), ATTR_SIZE(axes), ATTR_SIZE(ints),  ATTR_SIZE(sym),
    ATTR_SIZE(type), ATTR_SIZE(data), ATTR_SIZE(rel),   ATTR_SIZE(places),
#define ENUM(kind, ...) ATTR_SIZE(kind),
#include "ir/attrs.def"
};

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
            h = rt_hash(p, attr_size[f->kind], h);
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
        } else if (memcmp(a + f->offset, b + f->offset, attr_size[f->kind])) {
            return false;
        }
    }
    return true;
}

/* Copy an attribute, its data included, into the arena; NULL when memory is out. */
static void *attr_keep(ir_module *m, ir_attr_kind kind, const attr_any *any) {
    const ir_attr_info *info = &ir_attr_tab[kind];
    char *kept = rt_arena_alloc(&m->arena, info->size);
    if (!kept) return NULL;
    memcpy(kept, any, info->size);
    for (uint32_t i = 0; i < info->nfield; i++) {
        if (info->field[i].kind != FIELD_data) continue;
        ir_data *d = (ir_data *)(void *)(kept + info->field[i].offset);
        if (!d->n) {
            d->bytes = NULL;
            continue;
        }
        void *bytes = d->n <= SIZE_MAX ? rt_arena_alloc(&m->arena, (size_t)d->n) : NULL;
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
        const ir_attr_rec *r = &t->attrs.data[id];
        if (r->kind == kind && attr_eq(kind, (const char *)&any, r->attr)) return (ir_attr){id};
    }
    if (!ir_index_reserve(m->alloc, &t->attr_ix)) return failed;
    const void *kept = attr_keep(m, kind, &any);
    if (!kept || !rt_vec_push(m->alloc, &t->attrs, ((ir_attr_rec){kind, kept}))) return failed;
    ir_index_add(&t->attr_ix, h, t->attrs.n - 1);
    return (ir_attr){t->attrs.n - 1};
}

const void *ir_attr_get(const ir_module *m, ir_attr a) {
    const ir_intern *t = m->intern;
    return t->attrs.data[a.i < t->attrs.n ? a.i : 0].attr;
}

ir_attr_kind ir_attr_kind_of(const ir_module *m, ir_attr a) {
    const ir_intern *t = m->intern;
    return t->attrs.data[a.i < t->attrs.n ? a.i : 0].kind;
}
