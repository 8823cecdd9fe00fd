/* parse.c - text to modules; docs/ir-text.md is the grammar, read.c reads its words.
 *
 * One pass over the text, building through the builder exactly what is written (IR_BUILD_RAW):
 * types are inferred by the rules every builder uses and compared with those the text gives.  The
 * result is not verified (ir_verify is), yet everything that could make a later step unsafe is
 * refused here: ranges of dim symbols, data of the wrong size, numbers outside their fields.
 *
 * Hostile text: regions nest at most IR_MAX_NEST deep (an explicit stack), and names hash with a
 * seed taken from the whole text.  Memory is limited (ir_reader_budget); so names of values are
 * not copied but read again where they stand. */
#include "ir/read.h"
#include "runtime/base/hash.h"
#include <string.h>

/* A name as it was just read. */
typedef struct parse_name {
    const char *s; /* borrowed from the text, or interned */
    uint32_t n, at, hash; /* at: its place in the text, from parser.base */
    bool number;
} parse_name;

/* A name that is kept: it is read again where it stands. */
typedef struct parse_entry {
    uint32_t at, hash;
    ir_ref ref;
} parse_entry;

/* A region op that is open. */
typedef struct parse_frame {
    uint32_t op;             /* as the builder numbers it */
    int k, nregion;          /* the region being read */
    uint32_t mark;           /* names visible outside of the region */
    uint32_t result0, type0; /* in parser.pending and parser.types: to be bound when the op ends */
    size_t at;               /* place in the text, for errors */
} parse_frame;

typedef struct parser {
    const ig_allocator *alloc; /* the limited one */
    ir_reader r;
    ir_module *m; /* r.m: owned until it is handed out */
    size_t base;  /* where the text of the function begins */
    uint64_t seed;
    ir_builder b;
    bool building;
    RT_VEC(parse_entry) names; /* visible values in order of definition */
    uint32_t *slot;            /* hash table: index into names + 1 */
    uint32_t nslot;
    RT_VEC(parse_entry) pending; /* names of results whose op is not complete */
    RT_VEC(uint32_t) types;      /* result types given, and parameter types; interned */
    RT_VEC(ir_type) params;      /* parameter types of a region */
    RT_VEC(ir_ref) refs;
    parse_frame frame[IR_MAX_NEST];
    int nframe;
} parser;

/* --- Errors of the builder -------------------------------------------------------------------- */

/* Whether the builder is free of errors; else its error becomes ours. */
static bool parse_built(parser *p, size_t at) {
    ig_status s = p->b.error;
    p->b.error = NULL;
    return ir_read_take(&p->r, at, s);
}

/* The same after an emission of `op`, naming the invariant that it would break. */
static bool parse_emitted(parser *p, size_t at, ir_opcode op) {
    ig_status s = p->b.error;
    int inv = ir_rule_invariant(op, p->refs.n);
    if (!s || ig_status_code(s) == IG_MEMORY) return parse_built(p, at);
    p->b.error = NULL;
    p->r.tok = at;
    ir_read_fail_code(&p->r, ig_status_code(s), "%s (I%d)", ig_status_text(s), inv);
    ig_status_free(s);
    return false;
}

/* --- Names of values -------------------------------------------------------------------------- */

/* `%7`, `%x` or `%"x y"`. */
static bool parse_value_name(parser *p, parse_name *out_) {
    size_t n;
    *out_ = (parse_name){0};
    if (!ir_read_expect(&p->r, "%")) return false;
    size_t at = p->r.at - 1;
    if (ir_read_is_digit(&p->r, p->r.at)) {
        out_->s = p->r.text + p->r.at;
        out_->number = true;
        while (ir_read_is_digit(&p->r, p->r.at)) p->r.at++;
        n = (size_t)(p->r.text + p->r.at - out_->s);
    } else if (p->r.at < p->r.n && p->r.text[p->r.at] == '"') {
        if (!(out_->s = ir_read_symbol(&p->r))) return false;
        n = strlen(out_->s);
    } else if (p->r.at >= p->r.n || !ir_is_ident_start(p->r.text[p->r.at]) ||
               !ir_read_ident(&p->r, &out_->s, &n)) {
        return ir_read_fail(&p->r, "a value is %%number, %%name or %%\"name\"");
    }
    p->r.tok = at;
    if (p->r.at - p->base > UINT32_MAX)
        return ir_read_fail(&p->r, "the text of a function is longer than 4 GiB");
    out_->n = (uint32_t)n;
    out_->at = (uint32_t)(at - p->base);
    out_->hash = (uint32_t)rt_hash(out_->s, n, p->seed + out_->number);
    return true;
}

static parse_entry parse_keep(const parse_name *x) {
    return (parse_entry){.at = x->at, .hash = x->hash};
}

/* The name of an entry; false when memory is out. */
static bool parse_again(parser *p, const parse_entry *e, parse_name *out_) {
    size_t at = p->r.at, tok = p->r.tok;
    p->r.at = p->base + e->at;
    bool ok = parse_value_name(p, out_);
    p->r.at = at;
    p->r.tok = tok;
    return ok;
}

/* The slot of a name, or the free one where it would be. */
static uint32_t parse_slot(parser *p, const parse_name *x) {
    uint32_t i = x->hash & (p->nslot - 1);
    for (; p->slot[i]; i = (i + 1) & (p->nslot - 1)) {
        const parse_entry *e = &p->names.data[p->slot[i] - 1];
        parse_name y;
        if (e->hash == x->hash && parse_again(p, e, &y) && y.n == x->n && y.number == x->number &&
            !memcmp(y.s, x->s, x->n))
            break;
    }
    return i;
}

/* The slot of entry `id`, or the free one where it would be. */
static uint32_t parse_entry_slot(const parser *p, uint32_t id) {
    uint32_t i = p->names.data[id].hash & (p->nslot - 1);
    while (p->slot[i] && p->slot[i] != id + 1) i = (i + 1) & (p->nslot - 1);
    return i;
}

/* Keep the table at most three quarters full; names are entered again in their order, so that
 * undoing stays simple. */
static bool parse_grow_names(parser *p) {
    if (p->nslot / 4 * 3 > p->names.n) return true;
    if (p->nslot > UINT32_MAX / 4) return ir_read_no_memory(&p->r);
    uint32_t cap = p->nslot ? p->nslot * 2 : 64;
    rt_free(p->alloc, p->slot, (size_t)p->nslot * sizeof *p->slot);
    p->nslot = 0;
    p->slot = rt_alloc_zero(p->alloc, (size_t)cap * sizeof *p->slot);
    if (!p->slot) return ir_read_no_memory(&p->r);
    p->nslot = cap;
    for (uint32_t i = 0; i < p->names.n; i++) p->slot[parse_entry_slot(p, i)] = i + 1;
    return true;
}

static bool parse_define(parser *p, parse_entry e, ir_ref ref) {
    parse_name x;
    if (!parse_again(p, &e, &x) || !parse_grow_names(p)) return false;
    uint32_t i = parse_slot(p, &x);
    if (p->r.error) return false;
    if (p->slot[i]) {
        p->r.tok = p->base + e.at + 1;
        return ir_read_fail(&p->r, "%%%.*s is defined already", x.n > 60 ? 60 : (int)x.n, x.s);
    }
    e.ref = ref;
    if (!rt_vec_push(p->alloc, &p->names, e)) return ir_read_no_memory(&p->r);
    p->slot[i] = p->names.n;
    return true;
}

/* Forget all names but the first `mark`, newest first: probe chains of older names never need a
 * newer one. */
static void parse_forget(parser *p, uint32_t mark) {
    while (p->names.n > mark) {
        p->slot[parse_entry_slot(p, p->names.n - 1)] = 0;
        p->names.n--;
    }
}

/* A value in scope, pushed to p->refs. */
static bool parse_operand(parser *p) {
    parse_name x;
    if (!parse_value_name(p, &x)) return false;
    uint32_t i = p->nslot ? p->slot[parse_slot(p, &x)] : 0;
    if (!i)
        return ir_read_fail(&p->r, "%%%.*s is not defined here (I1)", x.n > 60 ? 60 : (int)x.n,
                            x.s);
    return rt_vec_push(p->alloc, &p->refs, p->names.data[i - 1].ref) || ir_read_no_memory(&p->r);
}

/* --- Ops -------------------------------------------------------------------------------------- */

/* A type, pushed to p->types. */
static bool parse_type(parser *p) {
    ir_type t;
    if (!ir_read_type(&p->r, &t)) return false;
    uint32_t number = ir_intern_type(p->m, &t);
    return (number != UINT32_MAX && rt_vec_push(p->alloc, &p->types, number)) ||
           ir_read_no_memory(&p->r);
}

/* `%1, %2 =`, pushed to p->pending. */
static bool parse_results(parser *p) {
    while (ir_read_peek(&p->r) == '%') {
        parse_name x;
        if (!parse_value_name(p, &x)) return false;
        if (!rt_vec_push(p->alloc, &p->pending, parse_keep(&x)))
            return ir_read_no_memory(&p->r);
        if (ir_read_accept(&p->r, "=")) return true;
        if (!ir_read_expect(&p->r, ",")) return false;
        if (ir_read_peek(&p->r) != '%') return ir_read_fail(&p->r, "a result is expected here");
    }
    return true;
}

static bool parse_operands(parser *p) {
    p->refs.n = 0;
    if (ir_read_peek(&p->r) != '%') return true;
    do
        if (!parse_operand(p)) return false;
    while (ir_read_accept(&p->r, ","));
    return p->refs.n <= UINT16_MAX || ir_read_fail(&p->r, "more than %d operands", UINT16_MAX);
}

/* `: type, type`, pushed to p->types. */
static bool parse_types(parser *p) {
    if (!ir_read_accept(&p->r, ":")) return true;
    do
        if (!parse_type(p)) return false;
    while (ir_read_accept(&p->r, ","));
    return true;
}

/* `at "file":line`, into the builder. */
static bool parse_loc(parser *p) {
    int64_t line;
    p->b.loc = (ir_loc){0};
    if (!ir_read_word(&p->r, "at")) return true;
    if (!ir_read_string(&p->r)) return false;
    const char *file = ir_intern_str(p->m, rt_str_text(&p->r.buf), p->r.buf.n);
    if (!file) return ir_read_no_memory(&p->r);
    if (!ir_read_expect(&p->r, ":") || !ir_read_range(&p->r, 0, UINT32_MAX, &line)) return false;
    p->b.loc = ir_intern_loc(p->m, file, (uint32_t)line);
    return true;
}

/* Bind the results of a complete op to the names and types given since result0 and type0. */
static bool parse_bind(parser *p, uint32_t op, uint32_t result0, uint32_t type0, size_t at) {
    const ir_func *f = p->b.f;
    const ir_op *o = &f->ops.data[op];
    uint32_t nname = p->pending.n - result0, ntype = p->types.n - type0;
    p->r.tok = at;
    const char *name = ir_op_tab[o->code].name;
    if (nname != o->nout)
        return ir_read_fail(&p->r, "%s gives %u result%s; named: %u", name, o->nout,
                            o->nout == 1 ? "" : "s", nname);
    if (ntype && ntype != o->nout)
        return ir_read_fail(&p->r, "%s gives %u result%s; types: %u", name, o->nout,
                            o->nout == 1 ? "" : "s", ntype);
    for (uint32_t i = 0; i < ntype; i++) {
        uint32_t is = f->values.data[o->out0 + i].type, given = p->types.data[type0 + i];
        if (is != given)
            return ir_read_fail_types(&p->r, name, i, p->m->types.data[is],
                                      p->m->types.data[given], 2);
    }
    for (uint32_t i = 0; i < nname; i++)
        if (!parse_define(p, p->pending.data[result0 + i], ir_op_out(o, i))) return false;
    p->pending.n = result0;
    p->types.n = type0;
    return true;
}

/* `(%1: type, %2: type)`: names to p->pending, types to p->types. */
static bool parse_params(parser *p) {
    parse_name x;
    if (!ir_read_expect(&p->r, "(")) return false;
    for (uint32_t n = 0; !ir_read_accept(&p->r, ")"); n++) {
        if (n && !ir_read_expect(&p->r, ",")) return false;
        if (n == UINT16_MAX) return ir_read_fail(&p->r, "more than %d parameters", UINT16_MAX);
        if (!parse_value_name(p, &x) || !ir_read_expect(&p->r, ":") || !parse_type(p)) return false;
        if (!rt_vec_push(p->alloc, &p->pending, parse_keep(&x))) return ir_read_no_memory(&p->r);
    }
    return true;
}

/* Open region k of the top frame: `[(params)] {`. */
static bool parse_region(parser *p) {
    parse_frame *fr = &p->frame[p->nframe - 1];
    uint32_t name0 = p->pending.n, type0 = p->types.n;
    if (ir_read_peek(&p->r) == '(' && !parse_params(p)) return false;
    if (!ir_read_expect(&p->r, "{")) return false;
    uint32_t n = p->types.n - type0;
    if (!rt_vec_reserve(p->alloc, &p->refs, n + 1) || !rt_vec_reserve(p->alloc, &p->params, n + 1))
        return ir_read_no_memory(&p->r);
    for (uint32_t i = 0; i < n; i++)
        p->params.data[i] = *p->m->types.data[p->types.data[type0 + i]];
    fr->mark = p->names.n;
    ir_region_begin(&p->b, fr->op, fr->k, (int)n, p->params.data, p->refs.data);
    if (!parse_built(p, fr->at)) return false;
    for (uint32_t i = 0; i < n; i++)
        if (!parse_define(p, p->pending.data[name0 + i], p->refs.data[i])) return false;
    p->pending.n = name0;
    p->types.n = type0;
    return true;
}

/* After the `yield` of a region: close it, and go on to the next one or finish the op. */
static bool parse_region_end(parser *p, size_t at) {
    parse_frame *fr = &p->frame[p->nframe - 1];
    ir_region_end(&p->b, (int)p->refs.n, p->refs.data);
    if (!parse_built(p, at) || !ir_read_expect(&p->r, "}")) return false;
    parse_forget(p, fr->mark);
    if (++fr->k < fr->nregion) return parse_region(p);
    ir_op_end(&p->b, fr->op);
    if (!parse_built(p, fr->at) || !parse_bind(p, fr->op, fr->result0, fr->type0, fr->at))
        return false;
    p->nframe--;
    return true;
}

/* Begin an op with regions; the rest of it is read by the loop over ops. */
static bool parse_region_op(parser *p, ir_opcode code, const void *attr, parse_frame fr) {
    if (p->nframe == IR_MAX_NEST)
        return ir_read_fail(&p->r, "regions nest at most %d deep (I5)", IR_MAX_NEST);
    fr.nregion = ir_region_count(code, attr);
    fr.op = ir_op_begin(&p->b, code, attr, (int)p->refs.n, p->refs.data, fr.nregion);
    if (!parse_emitted(p, fr.at, code)) return false;
    p->frame[p->nframe++] = fr;
    return parse_region(p);
}

void ir_read_emit(ir_builder *b, ir_opcode op, const void *attr, uint32_t nin, const ir_ref *in) {
    ir_emit(b, op, attr, (int)nin, in);
    ig_status first = b->error;
    if (!first || ig_status_code(first) == IG_MEMORY) return;
    b->error = NULL;
    ir_emit(b, op, attr, (int)nin, in);
    ig_status_free(b->error ? b->error : first);
    b->error = b->error ? first : rt_fail_memory();
}

/* One op up to its regions.  *done_ is set by the function's `return`, whose operands stay in
 * p->refs. */
static bool parse_op(parser *p, bool *done_) {
    const char *s;
    size_t n;
    ir_attr_any attr;
    parse_frame fr = {.result0 = p->pending.n, .type0 = p->types.n};
    if (!parse_results(p)) return false;
    ir_read_space(&p->r);
    fr.at = p->r.at;
    if (!ir_read_ident(&p->r, &s, &n)) return ir_read_fail(&p->r, "an op is expected here");
    ir_opcode code = ir_op_find(s, n);
    if (code == OP_END) return ir_read_fail(&p->r, "there is no op %.*s", n > 60 ? 60 : (int)n, s);
    if (!parse_operands(p) || !ir_read_attr(&p->r, (ir_attr_kind)ir_op_tab[code].attr, &attr))
        return false;
    if (!parse_types(p) || !parse_loc(p)) return false;
    if (code == OP_return || code == OP_yield) {
        p->r.tok = fr.at;
        if ((code == OP_yield) != (p->nframe > 0))
            return ir_read_fail(&p->r, "a region ends in yield, a function in return (I5)");
        if (p->pending.n != fr.result0 || p->types.n != fr.type0)
            return ir_read_fail(&p->r, "%.*s has no results", (int)n, s);
        *done_ = code == OP_return;
        return *done_ || parse_region_end(p, fr.at);
    }
    p->r.tok = fr.at;
    if (ir_has_regions(code)) return parse_region_op(p, code, &attr, fr);
    ir_read_emit(&p->b, code, &attr, p->refs.n, p->refs.data);
    return parse_emitted(p, fr.at, code) &&
           parse_bind(p, p->b.f->ops.n - 1, fr.result0, fr.type0, fr.at);
}

/* --- Functions and modules -------------------------------------------------------------------- */

static bool parse_func_params(parser *p) {
    if (!parse_params(p)) return false;
    for (uint32_t i = 0; i < p->types.n; i++) {
        parse_entry e = p->pending.data[i];
        parse_name x;
        const char *name = NULL;
        if (!parse_again(p, &e, &x)) return false;
        if (!x.number && !(name = ir_intern_str(p->m, x.s, x.n))) return ir_read_no_memory(&p->r);
        ir_ref r = ir_param(&p->b, *p->m->types.data[p->types.data[i]], name);
        if (!parse_built(p, p->r.tok) || !parse_define(p, e, r)) return false;
    }
    p->types.n = p->pending.n = 0;
    return true;
}

/* `-> (types)` into p->types. */
static bool parse_func_results(parser *p) {
    if (!ir_read_expect(&p->r, "->") || !ir_read_expect(&p->r, "(")) return false;
    while (!ir_read_accept(&p->r, ")")) {
        if (p->types.n && !ir_read_expect(&p->r, ",")) return false;
        if (!parse_type(p)) return false;
    }
    return true;
}

/* Compare the results promised with those returned. */
static bool parse_check_results(parser *p, const ir_func *f, const uint32_t *promised, uint32_t n,
                                size_t at) {
    p->r.tok = at;
    if (f->results.n != n)
        return ir_read_fail(&p->r, "@%s promises %u result%s and returns %u (I5)", f->name, n,
                            n == 1 ? "" : "s", f->results.n);
    for (uint32_t i = 0; i < n; i++)
        if (f->results.data[i] != promised[i])
            return ir_read_fail_types(&p->r, f->name, i, ir_result_type(f, i),
                                      p->m->types.data[promised[i]], 5);
    return true;
}

/* The body's ops and the closing brace.  The promised result types are p->types[0..n). */
static bool parse_func_body(parser *p, uint32_t n) {
    bool done = false;
    size_t at;
    ir_func *f;
    do {
        ir_read_space(&p->r);
        at = p->r.at;
        if (!parse_op(p, &done)) return false;
        if (p->r.scratch.chunk) rt_arena_free(&p->r.scratch);
    } while (!done);
    ig_status s = ir_build_end(&p->b, (int)p->refs.n, p->refs.data, &f);
    p->building = false;
    return ir_read_take(&p->r, at, s) && parse_check_results(p, f, p->types.data, n, at) &&
           ir_read_expect(&p->r, "}");
}

static bool parse_func(parser *p, ir_func_kind kind) {
    if (!ir_read_expect(&p->r, "@")) return false;
    p->base = p->r.at;
    const char *name = ir_read_symbol(&p->r);
    if (!name) return false;
    p->types.n = p->pending.n = 0;
    p->building = true;
    ir_build_begin(&p->b, p->m, name, kind, IR_BUILD_RAW);
    if (!parse_built(p, p->r.tok)) return false;
    if (!parse_func_params(p) || !parse_func_results(p) || !ir_read_expect(&p->r, "{"))
        return false;
    if (!parse_func_body(p, p->types.n)) return false;
    parse_forget(p, 0);
    return true;
}

static bool parse_dim_decl(parser *p) {
    int64_t lo, hi;
    const char *name = ir_read_symbol(&p->r);
    if (!name) return false;
    uint32_t n = p->m->symbols.n;
    if (!ir_is_ident(name, strlen(name)))
        return ir_read_fail(&p->r, "the name of a dim is an identifier (I9)");
    size_t at = p->r.tok;
    if (!ir_read_word(&p->r, "in")) return ir_read_fail(&p->r, "`in` is expected here");
    if (!ir_read_range(&p->r, 0, INT64_MAX, &lo) || !ir_read_expect(&p->r, "..") ||
        !ir_read_int(&p->r, &hi))
        return false;
    if (hi < lo) return ir_read_fail(&p->r, "the range of dim %s is empty (I6)", name);
    if (ir_add_symbol(p->m, name, lo, hi) == IR_DIM_BAD) return ir_read_no_memory(&p->r);
    p->r.tok = at;
    return p->m->symbols.n > n || ir_read_fail(&p->r, "dim %s is declared twice (I9)", name);
}

/* I7 */
static bool parse_check_weight(parser *p, const char *name, const ir_type *t, const ir_data *data) {
    uint64_t n = data->n / rt_dtype_bytes(t->dtype), bad = ir_data_bad(t->dtype, data->bytes, n);
    if (bad == n) return true;
    return ir_read_fail(
        &p->r, "element %llu of @%s is neither 0 nor 1, or a NaN that is not canonical (I7)",
        (unsigned long long)bad, name);
}

static bool parse_weight(parser *p) {
    ir_type t;
    ir_data data = {0};
    if (!ir_read_expect(&p->r, "@")) return false;
    const char *name = ir_read_symbol(&p->r);
    size_t at = p->r.tok;
    if (!name || !ir_read_expect(&p->r, ":") || !ir_read_type(&p->r, &t) ||
        !ir_read_expect(&p->r, "="))
        return false;
    bool ok = ir_read_data(&p->r, &t, true, &data) && parse_check_weight(p, name, &t, &data);
    ok = ok && ir_read_take(&p->r, at,
                            ir_add_weight_owned(p->m, name, t, (void *)(uintptr_t)data.bytes));
    if (!ok) rt_free_buffer(p->alloc, (void *)(uintptr_t)data.bytes, (size_t)data.n);
    return ok;
}

/* `module name class fma state 0 [unchecked] {` */
static bool parse_header(parser *p) {
    uint8_t class = IR_CLASS_FMA;
    int64_t nstate = 0;
    if (!ir_read_word(&p->r, "module")) return ir_read_fail(&p->r, "a text begins with `module`");
    const char *name = ir_read_symbol(&p->r);
    if (!name) return false;
    if (ir_read_word(&p->r, "class") && !ir_read_enum(&p->r, ir_class_names, &class)) return false;
    if (ir_read_word(&p->r, "state") && !ir_read_range(&p->r, 0, UINT32_MAX, &nstate)) return false;
    p->m->name = name;
    p->m->class = class;
    p->m->nstate = (uint32_t)nstate;
    p->m->unchecked = ir_read_word(&p->r, "unchecked");
    return ir_read_expect(&p->r, "{");
}

static bool parse_item(parser *p) {
    uint8_t kind;
    if (ir_read_word(&p->r, "dim")) return parse_dim_decl(p);
    if (ir_read_word(&p->r, "weight")) return parse_weight(p);
    for (kind = 0; ir_func_kind_names[kind]; kind++)
        if (ir_read_word(&p->r, ir_func_kind_names[kind])) return parse_func(p, (ir_func_kind)kind);
    return ir_read_fail(
        &p->r, "`dim`, `weight`, `fn`, `cluster`, `kernel`, `host` or `}` is expected here");
}

static bool parse_module(parser *p) {
    if (!parse_header(p)) return false;
    while (!ir_read_accept(&p->r, "}"))
        if (!parse_item(p)) return false;
    return ir_read_peek(&p->r) == 0 && p->r.at == p->r.n
               ? true
               : ir_read_fail(&p->r, "nothing may follow the module");
}

static void parse_free(parser *p) {
    if (p->building) ir_build_abort(&p->b);
    rt_str_free(&p->r.buf);
    rt_arena_free(&p->r.scratch);
    rt_vec_free(p->alloc, &p->names);
    rt_vec_free(p->alloc, &p->pending);
    rt_vec_free(p->alloc, &p->types);
    rt_vec_free(p->alloc, &p->params);
    rt_vec_free(p->alloc, &p->refs);
    rt_free(p->alloc, p->slot, (size_t)p->nslot * sizeof *p->slot);
}

ig_status ir_parse(const ig_allocator *alloc, const char *name, const char *text, size_t n,
                   ir_module **out_) {
    rt_budget budget;
    *out_ = NULL;
    ir_reader_budget(&budget, alloc, n);
    parser p = {.alloc = &budget.alloc, .r = {.alloc = alloc, .name = name, .text = text, .n = n}};
    p.seed = rt_hash(text, n, 0);
    RT_TRY(ir_module_new(p.alloc, "", &p.m));
    p.r.m = p.m;
    rt_str_init(&p.r.buf, p.alloc);
    rt_arena_init(&p.r.scratch, p.alloc);
    bool ok = parse_module(&p);
    parse_free(&p);
    return ir_reader_end(&budget, name, n, ok ? NULL : p.r.error, p.m, out_);
}
