/* module.c - a module's life and its tables of strings, locations, weights and symbols. */
#include "ir/intern.h"
#include "runtime/base/hash.h"

#include <string.h>

/* --- Life ------------------------------------------------------------------------------------- */

static bool module_init(ir_module *m, const char *name) {
    m->dims = ir_dims_new(m->alloc);
    m->intern = rt_alloc_zero(m->alloc, sizeof *m->intern);
    if (!m->dims || !m->intern) return false;
    if (!rt_vec_push(m->alloc, &m->intern->locs, ((ir_loc_kept){0, 0}))) return false;
    if (ir_intern_type(m, &(ir_type){0})) return false; /* the first one: number 0 */
    ir_attr none = ir_intern_attr(m, ATTR_none, NULL); /* the first one: number 0 */
    if (none.i) return false;
    m->name = ir_intern_str(m, name, strlen(name));
    return m->name;
}

ig_status ir_module_new(const ig_allocator *alloc, const char *name, ir_module **out_) {
    *out_ = NULL;
    ir_module *m = rt_alloc_zero(alloc, sizeof *m);
    if (!m) return rt_fail_memory();
    m->alloc = alloc;
    rt_arena_init(&m->arena, alloc);
    if (!module_init(m, name ? name : "")) {
        ir_module_free(m);
        return rt_fail_memory();
    }
    *out_ = m;
    return NULL;
}

static void module_free_func(const ig_allocator *a, ir_func *f) {
    rt_vec_free(a, &f->ops);
    rt_vec_free(a, &f->values);
    rt_vec_free(a, &f->operands);
    rt_vec_free(a, &f->regions);
    rt_vec_free(a, &f->results);
    rt_vec_free(a, &f->param_names);
    rt_free(a, f, sizeof *f);
}

static void module_free_intern(const ig_allocator *a, ir_intern *t) {
    rt_vec_free(a, &t->strs);
    rt_vec_free(a, &t->locs);
    rt_vec_free(a, &t->attrs);
    rt_vec_free(a, &t->kinds);
    rt_vec_free(a, &t->func_of);
    rt_vec_free(a, &t->weight_of);
    ir_index_free(a, &t->str_ix);
    ir_index_free(a, &t->loc_ix);
    ir_index_free(a, &t->attr_ix);
    ir_index_free(a, &t->type_ix);
    rt_free(a, t, sizeof *t);
}

void ir_module_free(ir_module *m) {
    if (!m) return;
    const ig_allocator *a = m->alloc;
    for (uint32_t i = 0; i < m->funcs.n; i++) module_free_func(a, m->funcs.data[i]);
    rt_vec_free(a, &m->funcs);
    for (uint32_t i = 0; i < m->weights.n; i++) {
        ir_weight *w = &m->weights.data[i];
        if (w->owned) rt_free_buffer(a, (void *)(uintptr_t)w->data, (size_t)w->bytes);
    }
    rt_vec_free(a, &m->weights);
    rt_vec_free(a, &m->symbols);
    rt_vec_free(a, &m->types);
    if (m->intern) module_free_intern(a, m->intern);
    if (m->dims) ir_dims_free(m->dims);
    rt_arena_free(&m->arena);
    rt_free(a, m, sizeof *m);
}

void ir_module_use_alloc(ir_module *m, const ig_allocator *a) {
    m->alloc = m->arena.alloc = a;
    ir_dims_use_alloc(m->dims, a);
}

/* --- Strings and locations -------------------------------------------------------------------- */

/* The number of a string; UINT32_MAX when the module never saw it. */
static uint32_t module_find_str(const ir_module *m, const char *s, size_t n, uint64_t h) {
    const ir_intern *t = m->intern;
    uint32_t at = ir_index_start(&t->str_ix, h), id;
    while (ir_index_next(&t->str_ix, h, &at, &id)) {
        const char *old = t->strs.data[id];
        if (!strncmp(old, s, n) && old[n] == '\0') return id;
    }
    return UINT32_MAX;
}

/* The number of an interned copy; UINT32_MAX when memory is out. */
static uint32_t module_intern_str(ir_module *m, const char *s, size_t n) {
    ir_intern *t = m->intern;
    const char *nul = n ? memchr(s, 0, n) : NULL; /* an interned string ends at its first NUL */
    if (nul) n = (size_t)(nul - s);
    uint64_t h = rt_hash(s, n, 0);
    uint32_t old = module_find_str(m, s, n, h);
    if (old != UINT32_MAX) return old;
    if (!ir_index_reserve(m->alloc, &t->str_ix)) return UINT32_MAX;
    char *kept = rt_arena_strdup(&m->arena, s, n);
    if (!kept || !rt_vec_push(m->alloc, &t->strs, kept)) return UINT32_MAX;
    ir_index_add(&t->str_ix, h, t->strs.n - 1);
    return t->strs.n - 1;
}

const char *ir_intern_str(ir_module *m, const char *s, size_t n) {
    uint32_t id = module_intern_str(m, s, n);
    return id == UINT32_MAX ? NULL : m->intern->strs.data[id];
}

/* The number of a string that may be NULL. */
static uint32_t module_known_str(const ir_module *m, const char *s) {
    size_t n = s ? strlen(s) : 0;
    return s ? module_find_str(m, s, n, rt_hash(s, n, 0)) : UINT32_MAX;
}

ir_loc ir_intern_loc(ir_module *m, const char *file, uint32_t line) {
    ir_intern *t = m->intern;
    if (!file) return (ir_loc){0};
    uint32_t name = module_intern_str(m, file, strlen(file));
    if (name == UINT32_MAX) return (ir_loc){0};
    uint64_t h = rt_hash_mix(name, line);
    uint32_t at = ir_index_start(&t->loc_ix, h), id;
    while (ir_index_next(&t->loc_ix, h, &at, &id))
        if (t->locs.data[id].file == name && t->locs.data[id].line == line) return (ir_loc){id};
    if (!ir_index_reserve(m->alloc, &t->loc_ix)) return (ir_loc){0};
    if (!rt_vec_push(m->alloc, &t->locs, ((ir_loc_kept){name, line}))) return (ir_loc){0};
    ir_index_add(&t->loc_ix, h, t->locs.n - 1);
    return (ir_loc){t->locs.n - 1};
}

ir_loc_rec ir_loc_get(const ir_module *m, ir_loc loc) {
    const ir_intern *t = m->intern;
    if (!loc.i || loc.i >= t->locs.n) return (ir_loc_rec){0};
    ir_loc_kept l = t->locs.data[loc.i];
    return (ir_loc_rec){t->strs.data[l.file], l.line};
}

/* --- Types ------------------------------------------------------------------------------------ */

static uint64_t module_type_hash(const ir_type *t) {
    uint64_t h = (uint64_t)t->dtype << 24 | t->rank << 16 | t->lanes << 8 | t->mem;
    h = rt_hash_mix(0, h);
    for (int i = 0; i < t->rank && i < IG_MAX_RANK; i++) h = rt_hash_mix(h, (uint64_t)t->dim[i]);
    return h;
}

/* A copy in the arena that ends after its last dim.  The room of a whole type is asked for first,
 * so that copying the struct reads no byte outside of the arena. */
static const ir_type *module_keep_type(ir_module *m, const ir_type *t) {
    size_t n = t->rank < IG_MAX_RANK ? t->rank : IG_MAX_RANK;
    size_t size = offsetof(ir_type, dim) + n * sizeof t->dim[0];
    ir_type *kept = rt_arena_take(&m->arena, sizeof *kept, _Alignof(ir_type));
    if (!kept) return NULL;
    memcpy(kept, t, size);
    rt_arena_shrink(&m->arena, kept, sizeof *kept, size);
    return kept;
}

uint32_t ir_intern_type(ir_module *m, const ir_type *type) {
    ir_index *ix = &m->intern->type_ix;
    uint64_t h = module_type_hash(type);
    uint32_t at = ir_index_start(ix, h), id;
    while (ir_index_next(ix, h, &at, &id))
        if (ir_type_eq(m->types.data[id], type)) return id;
    if (!ir_index_reserve(m->alloc, ix) || !rt_vec_reserve(m->alloc, &m->types, m->types.n + 1))
        return UINT32_MAX;
    const ir_type *kept = module_keep_type(m, type);
    if (!kept) return UINT32_MAX;
    m->types.data[m->types.n++] = kept;
    ir_index_add(ix, h, m->types.n - 1);
    return m->types.n - 1;
}

/* --- Functions, weights, symbols -------------------------------------------------------------- */

/* Note what has a name, unless something has it already. */
static bool module_note(ir_module *m, ir_names *of, const char *name, uint32_t number) {
    uint32_t id = module_known_str(m, name);
    if (id == UINT32_MAX) return true;
    while (of->n <= id)
        if (!rt_vec_push(m->alloc, of, 0)) return false;
    if (!of->data[id]) of->data[id] = number + 1;
    return true;
}

ir_func *ir_find_func(const ir_module *m, const char *name) {
    uint32_t id = module_known_str(m, name);
    uint32_t number = id < m->intern->func_of.n ? m->intern->func_of.data[id] : 0;
    return number ? m->funcs.data[number - 1] : NULL;
}

bool ir_add_func(ir_module *m, ir_func *f) {
    return rt_vec_reserve(m->alloc, &m->funcs, m->funcs.n + 1) &&
           module_note(m, &m->intern->func_of, f->name, m->funcs.n) &&
           rt_vec_push(m->alloc, &m->funcs, f);
}

const ir_func *ir_entry(const ir_module *m) {
    const ir_func *f = ir_find_func(m, m->name);
    if (f && f->kind == IR_FN) return f;
    f = NULL;
    for (uint32_t i = 0; i < m->funcs.n; i++)
        if (m->funcs.data[i]->kind == IR_FN) f = m->funcs.data[i];
    return f;
}

void ir_drop_func(ir_module *m) {
    ir_func *f = m->funcs.data[--m->funcs.n];
    uint32_t id = module_known_str(m, f->name);
    if (id < m->intern->func_of.n && m->intern->func_of.data[id] == m->funcs.n + 1)
        m->intern->func_of.data[id] = 0;
    module_free_func(m->alloc, f);
}

const ir_weight *ir_find_weight(const ir_module *m, const char *name) {
    uint32_t id = module_known_str(m, name);
    uint32_t number = id < m->intern->weight_of.n ? m->intern->weight_of.data[id] : 0;
    return number ? &m->weights.data[number - 1] : NULL;
}

static bool module_push_weight(ir_module *m, ir_weight w) {
    return rt_vec_reserve(m->alloc, &m->weights, m->weights.n + 1) &&
           module_note(m, &m->intern->weight_of, w.name, m->weights.n) &&
           rt_vec_push(m->alloc, &m->weights, w);
}

/* Bytes of a weight's type, or an error that says what is wrong with it. */
static ig_status module_weight_bytes(ir_module *m, const char *name, const ir_type *type,
                                     size_t *bytes_) {
    int64_t numel;
    if (ir_find_weight(m, name))
        return rt_fail(m->alloc, IG_INVALID, "weight @%s exists already", name);
    if (type->lanes || type->mem)
        return rt_fail(m->alloc, IG_INVALID, "weight @%s: a weight is a tensor", name);
    if (!ir_type_is_static(type))
        return rt_fail(m->alloc, IG_SHAPE, "weight @%s: the dims of a weight are constants", name);
    if (!ir_type_bytes(type, &numel, bytes_))
        return rt_fail(m->alloc, IG_SHAPE, "weight @%s: its size overflows", name);
    return NULL;
}

static ig_status module_add_weight(ir_module *m, const char *name, const ir_type *type,
                                   const void *data, bool owned) {
    size_t bytes;
    RT_TRY(module_weight_bytes(m, name, type, &bytes));
    ir_weight w = {.type = *type, .data = data, .bytes = bytes, .owned = owned && bytes};
    w.name = ir_intern_str(m, name, strlen(name));
    return w.name && module_push_weight(m, w) ? NULL : rt_fail_memory();
}

ig_status ir_add_weight_owned(ir_module *m, const char *name, ir_type type, void *data) {
    return module_add_weight(m, name, &type, data, true);
}

ig_status ir_add_weight(ir_module *m, const char *name, ir_type type, const void *data, bool copy) {
    size_t bytes;
    if (!copy) return module_add_weight(m, name, &type, data, false);
    RT_TRY(module_weight_bytes(m, name, &type, &bytes));
    void *p = rt_alloc_buffer(m->alloc, bytes);
    if (bytes && !p) return rt_fail_memory();
    if (bytes) memcpy(p, data, bytes);
    ig_status s = module_add_weight(m, name, &type, p, true);
    if (s) rt_free_buffer(m->alloc, p, bytes);
    return s;
}

ir_dim ir_add_symbol(ir_module *m, const char *name, int64_t lo, int64_t hi) {
    const char *kept = ir_intern_str(m, name, strlen(name));
    if (!kept) return IR_DIM_BAD;
    for (uint32_t i = 0; i < m->symbols.n; i++)
        if (m->symbols.data[i].name == kept) return ir_dim_symbol(m, i);
    if (!rt_vec_push(m->alloc, &m->symbols, ((ir_symbol){kept, lo, hi}))) return IR_DIM_BAD;
    ir_dim d = ir_dim_symbol(m, m->symbols.n - 1);
    if (d == IR_DIM_BAD) m->symbols.n--;
    return d;
}

/* --- Shells ----------------------------------------------------------------------------------- */

/* Symbols, dims, locations and weights keep their numbers, so that types and locs can be copied as
 * they are. */
static bool module_copy_tables(ir_module *to, const ir_module *from) {
    for (uint32_t i = 0; i < from->symbols.n; i++) {
        ir_symbol s = from->symbols.data[i];
        s.name = ir_intern_str(to, s.name, strlen(s.name));
        if (!s.name || !rt_vec_push(to->alloc, &to->symbols, s)) return false;
    }
    if (!ir_dims_copy(to->dims, from->dims)) return false;
    for (uint32_t i = 1; i < from->intern->locs.n; i++) {
        ir_loc_rec l = ir_loc_get(from, (ir_loc){i});
        if (ir_intern_loc(to, l.file, l.line).i != i) return false;
    }
    for (uint32_t i = 0; i < from->weights.n; i++) {
        ir_weight w = from->weights.data[i];
        w.owned = false;
        w.name = ir_intern_str(to, w.name, strlen(w.name));
        if (!w.name || !module_push_weight(to, w)) return false;
    }
    return true;
}

ig_status ir_module_shell(const ir_module *m, ir_module **out_) {
    RT_TRY(ir_module_new(m->alloc, m->name, out_));
    ir_module *n = *out_;
    n->class = m->class;
    n->unchecked = m->unchecked;
    n->nstate = m->nstate;
    if (!module_copy_tables(n, m)) {
        ir_module_free(n);
        *out_ = NULL;
        return rt_fail_memory();
    }
    return NULL;
}
