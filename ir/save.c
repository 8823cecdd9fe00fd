/* save.c - modules as `.ingot` files; docs/format.md is the specification, load.c the reader.
 *
 * Nothing in a file depends on a number that a later library may change: ops are named with their
 * version, attribute kinds, their fields and enumerated values by name; element types have frozen
 * codes.  Tables (strings, dims, types, attributes, ops) are filled in order of first use while
 * the functions are written, so equal modules give equal bytes.  NaNs of weights are made
 * canonical on the way out (numerics: files are observable). */
#include "ir/file.h"
#include "ir/intern.h"
#include "ir/text.h"
#include "ir/sections.h"
#include "runtime/base/hash.h"
#include <string.h>

#define SAVE_CHUNK \
    4096 /* bytes of a weight canonicalised at a time; a multiple of every element size */

typedef struct save_str {
    size_t at;
    uint32_t n;
} save_str; /* place in the STRS section */

typedef struct saver {
    const ig_allocator *alloc;
    const ir_module *m;
    rt_str sec[FILE_SECTIONS];
    bool no_memory;
    ir_index str_ix, dim_ix, type_ix;
    RT_VEC(save_str) strs;
    RT_VEC(ir_dim) dims;
    RT_VEC(ir_type) types;
    uint32_t *attr_id, nattr; /* by ir_attr: number in the ATTR section + 1 */
    uint32_t op_id[OP_END], nop;
    size_t ndim_at; /* place of the count of dims */
} saver;

/* --- Tables ----------------------------------------------------------------------------------- */

static uint32_t save_string(saver *s, const char *text, size_t n) {
    rt_str *sec = &s->sec[FILE_STRS];
    uint64_t h = rt_hash(text, n, 0);
    uint32_t at = ir_index_start(&s->str_ix, h), id;
    while (ir_index_next(&s->str_ix, h, &at, &id))
        if (s->strs.data[id].n == n && !memcmp(sec->data + s->strs.data[id].at, text, n)) return id;
    if (n > UINT32_MAX || !ir_index_reserve(s->alloc, &s->str_ix)) goto failed;
    rt_write_u32(sec, (uint32_t)n);
    if (!rt_vec_push(s->alloc, &s->strs, ((save_str){sec->n, (uint32_t)n}))) goto failed;
    rt_str_add(sec, text, n);
    if (sec->failed) goto failed;
    ir_index_add(&s->str_ix, h, s->strs.n - 1);
    return s->strs.n - 1;
failed:
    s->no_memory = true;
    return 0;
}

static uint32_t save_name(saver *s, const char *name) {
    return save_string(s, name ? name : "", name ? strlen(name) : 0);
}

static void save_dim(saver *s, rt_str *out, ir_dim d);

static void save_atom(saver *s, rt_str *out, const ir_dim_atom *a) {
    rt_write_u8(out, (uint8_t)a->kind);
    if (a->kind == DIM_SYM) {
        rt_write_u32(out, a->sym);
        return;
    }
    save_dim(s, out, a->a);
    save_dim(s, out, a->b);
}

/* -1 - the number of a polynomial in the table; recursion is bounded by the nesting of a dim. */
static int64_t save_poly(saver *s, ir_dim d) {
    const ir_dim_term *term;
    rt_str rec;
    uint64_t h = rt_hash_mix(0, (uint64_t)d);
    uint32_t at = ir_index_start(&s->dim_ix, h), id;
    while (ir_index_next(&s->dim_ix, h, &at, &id))
        if (s->dims.data[id] == d) return -(int64_t)id - 1;
    rt_str_init(&rec, s->alloc);
    uint32_t n = ir_dim_terms(s->m, d, &term);
    rt_write_u32(&rec, n);
    for (uint32_t i = 0; i < n; i++) {
        rt_write_u64(&rec, (uint64_t)term[i].coef);
        rt_write_u32(&rec, term[i].natom);
        for (uint32_t k = 0; k < term[i].natom; k++) save_atom(s, &rec, term[i].atom[k]);
    }
    rt_str_add(&s->sec[FILE_DIMS], rt_str_text(&rec), rec.n);
    if (rec.failed || !ir_index_reserve(s->alloc, &s->dim_ix) ||
        !rt_vec_push(s->alloc, &s->dims, d))
        s->no_memory = true;
    else
        ir_index_add(&s->dim_ix, h, s->dims.n - 1);
    rt_str_free(&rec);
    return -(int64_t)s->dims.n;
}

/* A constant as it is, a polynomial as -1 - its number. */
static void save_dim(saver *s, rt_str *out, ir_dim d) {
    rt_write_u64(out, (uint64_t)(ir_dim_is_const(d) ? d : save_poly(s, d)));
}

static uint32_t save_type(saver *s, const ir_type *t) {
    rt_str *sec = &s->sec[FILE_TYPE];
    uint64_t h = rt_hash(t, 4, 0) /* dtype, rank, lanes, mem */;
    for (int i = 0; i < t->rank; i++) h = rt_hash_mix(h, (uint64_t)t->dim[i]);
    uint32_t at = ir_index_start(&s->type_ix, h), id;
    while (ir_index_next(&s->type_ix, h, &at, &id))
        if (ir_type_eq(&s->types.data[id], t)) return id;
    if (!ir_index_reserve(s->alloc, &s->type_ix) || !rt_vec_push(s->alloc, &s->types, *t)) {
        s->no_memory = true;
        return 0;
    }
    ir_index_add(&s->type_ix, h, s->types.n - 1);
    rt_write_u8(sec, t->dtype);
    rt_write_u8(sec, t->rank);
    rt_write_u8(sec, t->lanes);
    rt_write_u8(sec, t->mem);
    for (int i = 0; i < t->rank; i++) save_dim(s, sec, t->dim[i]);
    return s->types.n - 1;
}

static uint32_t save_opcode(saver *s, uint16_t code) {
    if (!s->op_id[code]) {
        rt_write_u32(&s->sec[FILE_OPNM], save_name(s, ir_op_tab[code].name));
        rt_write_u32(&s->sec[FILE_OPNM], ir_op_tab[code].version);
        s->op_id[code] = ++s->nop;
    }
    return s->op_id[code] - 1;
}

/* --- Attributes ------------------------------------------------------------------------------- */

static void save_rel(saver *s, rt_str *out, const ir_rel *rel) {
    rt_str text;
    rt_str_init(&text, s->alloc);
    ir_ein_print(s->m, rel, &text);
    rt_write_u32(out, save_string(s, rt_str_text(&text), text.n));
    if (text.failed) s->no_memory = true;
    rt_str_free(&text);
}

static void save_places(saver *s, rt_str *out, const ir_places *v) {
    rt_write_u8(out, v->n);
    for (int i = 0; i < v->n; i++) {
        rt_write_u8(out, v->p[i].kind);
        save_dim(s, out, v->p[i].at);
    }
}

static void save_dims(saver *s, rt_str *out, const ir_dims *d) {
    rt_write_u8(out, d->n);
    for (int i = 0; i < d->n; i++) save_dim(s, out, d->d[i]);
}

static void save_ints(rt_str *out, const ir_ints *v) {
    rt_write_u8(out, v->n);
    for (int i = 0; i < v->n; i++) rt_write_u64(out, (uint64_t)v->v[i]);
}

/* The payload of a field. */
static void save_field(saver *s, rt_str *out, ir_field_kind kind, const void *at) {
    const ir_axes *axes = at;
    const ir_data *data = at;
    const char *const *names = ir_enum_names(kind);
    switch (kind) {
    case FIELD_int: rt_write_u64(out, (uint64_t) * (const int64_t *)at); break;
    case FIELD_flag:
    case FIELD_dtype: rt_write_u8(out, *(const uint8_t *)at); break;
    case FIELD_dim: save_dim(s, out, *(const ir_dim *)at); break;
    case FIELD_dims: save_dims(s, out, at); break;
    case FIELD_axes: rt_write_u8(out, axes->n), rt_str_add(out, axes->a, axes->n); break;
    case FIELD_ints: save_ints(out, at); break;
    case FIELD_sym: rt_write_u32(out, save_name(s, *(const char *const *)at)); break;
    case FIELD_type: rt_write_u32(out, save_type(s, at)); break;
    case FIELD_data: rt_str_add(out, data->bytes, (size_t)data->n); break;
    case FIELD_rel: save_rel(s, out, at); break;
    case FIELD_places: save_places(s, out, at); break;
    case FIELD_ckpt: rt_write_u64(out, (uint64_t) * (const ir_field_ckpt *)at); break;
    default: rt_write_u32(out, save_name(s, names[*(const uint8_t *)at]));
    }
}

static uint32_t save_attr(saver *s, ir_attr attr) {
    rt_str *sec = &s->sec[FILE_ATTR], body;
    const ir_attr_info *info = &ir_attr_tab[ir_attr_kind_of(s->m, attr)];
    const char *base = ir_attr_get(s->m, attr);
    if (s->attr_id[attr.i]) return s->attr_id[attr.i] - 1;
    uint32_t n = info->nfield;
    for (uint32_t i = 0; i < info->nfield; i++)
        n -= ir_field_is_absent(&info->field[i], base + info->field[i].offset);
    rt_write_u32(sec, save_name(s, info->name));
    rt_write_u32(sec, n);
    for (uint32_t i = 0; i < info->nfield; i++) {
        if (ir_field_is_absent(&info->field[i], base + info->field[i].offset)) continue;
        rt_str_init(&body, s->alloc);
        save_field(s, &body, info->field[i].kind, base + info->field[i].offset);
        rt_write_u32(sec, save_name(s, info->field[i].name));
        rt_write_u32(sec, FILE_FIELD_CRITICAL);
        rt_write_u64(sec, body.n);
        rt_str_add(sec, rt_str_text(&body), body.n);
        if (body.failed) s->no_memory = true;
        rt_str_free(&body);
    }
    s->attr_id[attr.i] = ++s->nattr;
    return s->nattr - 1;
}

/* --- Functions -------------------------------------------------------------------------------- */

static void save_value_types(saver *s, rt_str *out, const ir_func *f, uint32_t first, uint32_t n) {
    rt_write_u32(out, n);
    for (uint32_t i = 0; i < n; i++)
        rt_write_u32(out, save_type(s, ir_val_type(f, (ir_ref){first + i})));
}

/* An op; the parameters of a region stand before the region's first op. */
static void save_op(saver *s, rt_str *out, const ir_func *f, const ir_op *o) {
    rt_write_u32(out, save_opcode(s, o->code));
    rt_write_u32(out, save_attr(s, o->attr));
    rt_write_u32(out, o->nin);
    for (uint32_t k = 0; k < o->nin; k++) rt_write_u32(out, ir_op_in(f, o, k).i);
    save_value_types(s, out, f, o->out0, o->nout);
}

static void save_func(saver *s, const ir_func *f) {
    rt_str *out = &s->sec[FILE_FUNC];
    rt_write_u32(out, save_name(s, f->name));
    rt_write_u32(out, save_name(s, ir_func_kind_names[f->kind]));
    rt_write_u32(out, ir_nparam(f));
    for (uint32_t i = 0; i < ir_nparam(f); i++) {
        const char *name = f->param_names.data[i];
        rt_write_u32(out, save_type(s, ir_val_type(f, ir_param_ref(f, i))));
        rt_write_u32(out, name ? save_name(s, name) : FILE_NO_NAME);
    }
    rt_write_u32(out, f->results.n);
    for (uint32_t i = 0; i < f->results.n; i++)
        rt_write_u32(out, save_type(s, ir_result_type(f, i)));
    rt_write_u32(out, f->ops.n);
    for (uint32_t i = 0; i < f->ops.n; i++) {
        const ir_op *o = &f->ops.data[i];
        if (o->parent && i == f->regions.data[o->parent].first) {
            const ir_region *r = &f->regions.data[o->parent];
            save_value_types(s, out, f, r->param0, r->nparam);
        }
        save_op(s, out, f, o);
    }
}

/* The locations of all ops in order; none at all when none is known. */
static void save_locs(saver *s) {
    rt_str *out = &s->sec[FILE_LOCS];
    const ir_intern *t = s->m->intern;
    rt_write_u32(out, t->locs.n - 1);
    for (uint32_t i = 1; i < t->locs.n; i++) {
        ir_loc_rec l = ir_loc_get(s->m, (ir_loc){i});
        rt_write_u32(out, save_name(s, l.file));
        rt_write_u32(out, l.line);
    }
    for (uint32_t i = 0; i < s->m->funcs.n; i++) {
        const ir_func *f = s->m->funcs.data[i];
        for (uint32_t k = 0; k < f->ops.n; k++)
            rt_write_u32(out, f->ops.data[k].loc.i < t->locs.n ? f->ops.data[k].loc.i : 0);
    }
}

/* --- Weights ---------------------------------------------------------------------------------- */

/* Append n bytes of elements with canonical NaNs. */
static void save_canonical(rt_str *out, ig_dtype dtype, const uint8_t *bytes, size_t n) {
    uint64_t chunk[SAVE_CHUNK / 8];
    for (size_t i = 0; i < n; i += SAVE_CHUNK) {
        size_t k = n - i < SAVE_CHUNK ? n - i : SAVE_CHUNK;
        memcpy(chunk, bytes + i, k);
        if (rt_is_float(dtype)) ir_canon_nan(dtype, chunk, (int64_t)(k / rt_dtype_bytes(dtype)));
        rt_str_add(out, chunk, k);
    }
}

static void save_weight_head(saver *s, const ir_weight *w) {
    rt_str *out = &s->sec[FILE_WGHT];
    rt_write_u32(out, save_name(s, w->name));
    rt_write_u32(out, save_type(s, &w->type));
}

/* A weight with 128 bits of hash in place of its elements. */
static void save_weight_hash(saver *s, const ir_weight *w) {
    save_weight_head(s, w);
    for (uint64_t seed = 1; seed <= 2; seed++)
        rt_write_u64(&s->sec[FILE_WGHT], w->bytes ? rt_hash(w->data, (size_t)w->bytes, seed) : 0);
}

static ig_status save_weight(saver *s, const ir_weight *w) {
    static const uint8_t zero[RT_ALIGN_BUFFER];
    rt_str *blob = &s->sec[FILE_BLOB], *out = &s->sec[FILE_WGHT];
    size_t over = blob->n % RT_ALIGN_BUFFER;
    if (w->type.dtype == IG_bool && ir_data_bad(IG_bool, w->data, w->bytes) < w->bytes)
        return rt_fail(s->alloc, IG_INVALID, "weight @%s has a bool other than 0 and 1", w->name);
    if (over && w->bytes) rt_str_add(blob, zero, RT_ALIGN_BUFFER - over);
    save_weight_head(s, w);
    rt_write_u64(out, w->bytes ? blob->n : 0);
    rt_write_u64(out, w->bytes);
    if (w->bytes) save_canonical(blob, w->type.dtype, w->data, (size_t)w->bytes);
    return NULL;
}

/* --- The file --------------------------------------------------------------------------------- */

static void save_patch(rt_str *sec, size_t at, uint32_t n) {
    for (int i = 0; i < 4 && !sec->failed; i++)
        sec->data[at + (size_t)i] = (char)(uint8_t)(n >> 8 * i);
}

/* What a file holds beside the code. */
enum { SAVE_ELEMENTS = 1, SAVE_LOCS = 2 };

/* Write all sections; the counts of the tables are filled in last. */
static ig_status save_sections(saver *s, int parts) {
    const ir_module *m = s->m;
    static const int counted[] = {FILE_STRS, FILE_TYPE, FILE_ATTR, FILE_OPNM};
    for (size_t i = 0; i < sizeof counted / sizeof counted[0]; i++)
        rt_write_u32(&s->sec[counted[i]], 0);
    rt_write_u32(&s->sec[FILE_MODL], save_name(s, m->name));
    rt_write_u32(&s->sec[FILE_MODL], save_name(s, ir_class_names[m->class]));
    rt_write_u32(&s->sec[FILE_MODL], m->unchecked ? FILE_UNCHECKED : 0);
    rt_write_u32(&s->sec[FILE_MODL], m->nstate);
    rt_write_u32(&s->sec[FILE_DIMS], m->symbols.n);
    for (uint32_t i = 0; i < m->symbols.n; i++) {
        rt_write_u32(&s->sec[FILE_DIMS], save_name(s, m->symbols.data[i].name));
        rt_write_u64(&s->sec[FILE_DIMS], (uint64_t)m->symbols.data[i].lo);
        rt_write_u64(&s->sec[FILE_DIMS], (uint64_t)m->symbols.data[i].hi);
    }
    s->ndim_at = s->sec[FILE_DIMS].n;
    rt_write_u32(&s->sec[FILE_DIMS], 0);
    rt_write_u32(&s->sec[FILE_WGHT], m->weights.n);
    for (uint32_t i = 0; i < m->weights.n; i++)
        if (parts & SAVE_ELEMENTS)
            RT_TRY(save_weight(s, &m->weights.data[i]));
        else
            save_weight_hash(s, &m->weights.data[i]);
    rt_write_u32(&s->sec[FILE_FUNC], m->funcs.n);
    for (uint32_t i = 0; i < m->funcs.n; i++) save_func(s, m->funcs.data[i]);
    if (parts & SAVE_LOCS && m->intern->locs.n > 1) save_locs(s);
    save_patch(&s->sec[FILE_STRS], 0, s->strs.n);
    save_patch(&s->sec[FILE_TYPE], 0, s->types.n);
    save_patch(&s->sec[FILE_ATTR], 0, s->nattr);
    save_patch(&s->sec[FILE_OPNM], 0, s->nop);
    save_patch(&s->sec[FILE_DIMS], s->ndim_at, s->dims.n);
    return NULL;
}

/* Hand the sections and the caller's to the container. */
static ig_status save_container(saver *s, const rt_section *extra, uint32_t nextra, rt_str *out) {
    rt_section sec[RT_SECTION_MAX];
    uint32_t n = 0;
    for (int i = 0; i < FILE_SECTIONS; i++) {
        if (s->sec[i].failed) return rt_fail_memory();
        if (i == FILE_LOCS && !s->sec[i].n) continue;
        sec[n] = (rt_section){.flags = i == FILE_LOCS ? 0 : RT_SECTION_CRITICAL,
                              .size = s->sec[i].n,
                              .data = (const uint8_t *)rt_str_text(&s->sec[i])};
        memcpy(sec[n++].tag, ir_file_tags[i], 4);
    }
    for (uint32_t i = 0; i < nextra; i++) {
        for (int k = 0; k < FILE_SECTIONS; k++)
            if (!memcmp(extra[i].tag, ir_file_tags[k], 4))
                return rt_fail(s->alloc, IG_INVALID, "section %.4s belongs to the module itself",
                               extra[i].tag);
        if (n == RT_SECTION_MAX)
            return rt_fail(s->alloc, IG_UNSUPPORTED, "a file holds at most %d sections",
                           RT_SECTION_MAX);
        sec[n++] = extra[i];
    }
    return rt_container_write(s->alloc, sec, n, out);
}

static void save_free(saver *s) {
    for (int i = 0; i < FILE_SECTIONS; i++) rt_str_free(&s->sec[i]);
    ir_index_free(s->alloc, &s->str_ix);
    ir_index_free(s->alloc, &s->dim_ix);
    ir_index_free(s->alloc, &s->type_ix);
    rt_vec_free(s->alloc, &s->strs);
    rt_vec_free(s->alloc, &s->dims);
    rt_vec_free(s->alloc, &s->types);
    rt_free(s->alloc, s->attr_id, s->m->intern->attrs.n * sizeof *s->attr_id);
}

static ig_status save_module(const ir_module *m, int parts, const rt_section *extra,
                             uint32_t nextra, rt_str *out) {
    if (parts) RT_TRY(ir_verify(m)); /* a file; else a key, of what has been verified */
    saver s = {.alloc = m->alloc, .m = m};
    for (int i = 0; i < FILE_SECTIONS; i++) rt_str_init(&s.sec[i], m->alloc);
    s.attr_id = rt_alloc_zero(m->alloc, m->intern->attrs.n * sizeof *s.attr_id);
    ig_status e = s.attr_id ? save_sections(&s, parts) : rt_fail_memory();
    if (!e && s.no_memory) e = rt_fail_memory();
    if (!e) e = save_container(&s, extra, nextra, out);
    save_free(&s);
    return e;
}

ig_status ir_save(const ir_module *m, const rt_section *extra, uint32_t nextra, rt_str *out) {
    return save_module(m, SAVE_ELEMENTS | SAVE_LOCS, extra, nextra, out);
}

ig_status ir_save_stripped(const ir_module *m, const rt_section *extra, uint32_t nextra,
                           rt_str *out) {
    return save_module(m, SAVE_ELEMENTS, extra, nextra, out);
}

ig_status ir_save_code(const ir_module *m, rt_str *out) { return save_module(m, 0, NULL, 0, out); }
