/* custom.c - ops that are C functions: their types, and how they are called.
 *
 * What types a function takes and gives is written in the op itself (ingot/custom.h has the
 * grammar), so that a module is read, checked, transformed and compiled where the function is not
 * known; only who runs it must have it.  One reader serves all: it binds extents and element types
 * at the operands and computes those of the results.
 *
 * Extents are dims, so that an op in a trace keeps the dynamic ones. */
#include "ir/infer.h"
#include "ir/ref.h"
#include "runtime/base/custom.h"

#include <string.h>

#define CUSTOM_NAMES  16 /* extents and element types that a type names */
#define CUSTOM_DEPTH  8  /* of brackets in an extent */
#define OPERAND(c, k) ir_infer_type_text((c), &(c)->in[k]).s

typedef struct custom_name {
    const char *s;
    size_t n;
    ir_dim d; /* an extent, or an element type */
} custom_name;

typedef struct custom_reader {
    ir_infer *c;
    const char *text, *at;
    custom_name extent[CUSTOM_NAMES], dtype[CUSTOM_NAMES];
    int nextent, ndtype;
    ir_dims lead; /* what ... stands for */
    bool led;
} custom_reader;

/* --- Words ------------------------------------------------------------------------------------ */

static bool custom_bad(custom_reader *r, const char *what) {
    return ir_infer_fail(r->c, IG_INVALID, "the type `%s`, at `%s`: %s", r->text, r->at, what);
}

static bool custom_take(custom_reader *r, const char *word) {
    while (*r->at == ' ') r->at++;
    size_t n = strlen(word);
    if (strncmp(r->at, word, n)) return false;
    r->at += n;
    return true;
}

static bool custom_is_name(char c, bool first) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!first && c >= '0' && c <= '9');
}

/* A name; false when none is next. */
static bool custom_word(custom_reader *r, custom_name *out_) {
    while (*r->at == ' ') r->at++;
    *out_ = (custom_name){.s = r->at};
    if (!custom_is_name(*r->at, true)) return false;
    while (custom_is_name(*r->at, false)) r->at++;
    out_->n = (size_t)(r->at - out_->s);
    return true;
}

static bool custom_same(const custom_name *a, const char *s, size_t n) {
    return a->n == n && !memcmp(a->s, s, n);
}

static custom_name *custom_find(custom_name *list, int n, const custom_name *name) {
    for (int i = 0; i < n; i++)
        if (custom_same(&list[i], name->s, name->n)) return &list[i];
    return NULL;
}

/* --- Extents of results ----------------------------------------------------------------------- */

typedef ir_dim (*custom_dim)(ir_module *, ir_dim, ir_dim);
static bool custom_sum(custom_reader *r, int depth, ir_dim *out_);

static bool custom_function(custom_reader *r, const custom_name *name, int depth, ir_dim *out_) {
    static const struct {
        const char *name;
        custom_dim fn;
    } tab[] = {{"floordiv", ir_dim_floordiv},
               {"mod", ir_dim_mod},
               {"min", ir_dim_min},
               {"max", ir_dim_max}};
    ir_dim a, b;
    for (size_t i = 0; i < sizeof tab / sizeof *tab; i++) {
        if (!custom_same(name, tab[i].name, strlen(tab[i].name))) continue;
        if (!custom_sum(r, depth + 1, &a) || !custom_take(r, ",") ||
            !custom_sum(r, depth + 1, &b) || !custom_take(r, ")"))
            return r->c->code ? false : custom_bad(r, "two extents in brackets are expected");
        *out_ = tab[i].fn(r->c->m, a, b);
        return true;
    }
    return custom_bad(r, "the functions are floordiv, mod, min and max");
}

static bool custom_factor(custom_reader *r, int depth, ir_dim *out_) {
    custom_name name;
    if (depth > CUSTOM_DEPTH) return custom_bad(r, "brackets nest too deeply");
    if (custom_take(r, "("))
        return custom_sum(r, depth + 1, out_) &&
               (custom_take(r, ")") || custom_bad(r, "`)` is expected"));
    if (custom_word(r, &name)) {
        if (custom_take(r, "(")) return custom_function(r, &name, depth, out_);
        const custom_name *known = custom_find(r->extent, r->nextent, &name);
        if (!known) return custom_bad(r, "no operand has the extent named before");
        *out_ = known->d;
        return true;
    }
    if (*r->at < '0' || *r->at > '9') return custom_bad(r, "an extent is expected");
    for (*out_ = 0; *r->at >= '0' && *r->at <= '9'; r->at++) {
        if (*out_ > INT64_MAX / 16) return custom_bad(r, "the number is too large");
        *out_ = *out_ * 10 + (*r->at - '0');
    }
    return true;
}

static bool custom_product(custom_reader *r, int depth, ir_dim *out_) {
    ir_dim x;
    if (!custom_factor(r, depth, out_)) return false;
    while (custom_take(r, "*")) {
        if (!custom_factor(r, depth, &x)) return false;
        *out_ = ir_dim_mul(r->c->m, *out_, x);
    }
    return true;
}

/* Terms with plus and with minus are collected apart: a dim is never negative on the way. */
static bool custom_sum(custom_reader *r, int depth, ir_dim *out_) {
    ir_dim plus, minus = 0, x;
    if (!custom_product(r, depth, &plus)) return false;
    for (bool add; (add = custom_take(r, "+")) || (*r->at == '-' && r->at[1] != '>');) {
        if (!add) r->at++;
        if (!custom_product(r, depth, &x)) return false;
        ir_dim *side = add ? &plus : &minus;
        *side = ir_dim_add(r->c->m, *side, x);
    }
    *out_ = minus ? ir_dim_sub(r->c->m, plus, minus) : plus;
    return true;
}

/* --- Operands --------------------------------------------------------------------------------- */

/* The element type at hand: of an operand (*d_ set), which a name is bound to, or of a result. */
static bool custom_dtype(custom_reader *r, int operand, uint8_t *d_) {
    custom_name name;
    if (!custom_word(r, &name)) return custom_bad(r, "an element type is expected");
    for (int d = IG_NONE + 1; d < IG_DTYPE_END; d++)
        if (custom_same(&name, ig_dtype_name((ig_dtype)d), strlen(ig_dtype_name((ig_dtype)d)))) {
            if (operand >= 0 && *d_ != d)
                return ir_infer_fail(r->c, IG_DTYPE, "operand %d is %s, not %s", operand,
                                     OPERAND(r->c, operand), ig_dtype_name((ig_dtype)d));
            *d_ = (uint8_t)d;
            return true;
        }
    custom_name *known = custom_find(r->dtype, r->ndtype, &name);
    if (!known && operand < 0) return custom_bad(r, "no operand has the element type named before");
    if (!known && r->ndtype == CUSTOM_NAMES) return custom_bad(r, "too many names");
    if (!known) {
        name.d = *d_;
        r->dtype[r->ndtype++] = name;
    } else if (operand >= 0 && *d_ != known->d) {
        return ir_infer_fail(r->c, IG_DTYPE, "operand %d is %s; %.*s is %s", operand,
                             OPERAND(r->c, operand), (int)name.n, name.s,
                             ig_dtype_name((ig_dtype)known->d));
    } else {
        *d_ = (uint8_t)known->d;
    }
    return true;
}

/* How many extents are written up to the bracket, beside `...`. */
static int custom_count(const custom_reader *r) {
    const char *s = r->at + strspn(r->at, " ");
    int n = *s != ']' && *s;
    if (!strncmp(s, "...", 3)) n = 0;
    for (; *s && *s != ']'; s++) n += *s == ',';
    return n;
}

static bool custom_misfit(custom_reader *r, int operand, const char *from) {
    int n = (int)strcspn(from, "]") + 1;
    return ir_infer_fail(r->c, IG_SHAPE, "operand %d is %s, which is no %.*s in `%s`", operand,
                         OPERAND(r->c, operand), n, from, r->text);
}

/* One extent of an operand: a name, bound here or before, or a number. */
static bool custom_bind(custom_reader *r, int operand, const char *from, ir_dim have) {
    custom_name name;
    ir_dim want;
    if (!custom_word(r, &name)) {
        if (!custom_factor(r, 0, &want)) return false;
        return want == have || custom_misfit(r, operand, from);
    }
    const custom_name *known = custom_find(r->extent, r->nextent, &name);
    if (known) {
        if (known->d == have) return true;
        return ir_infer_fail(r->c, IG_SHAPE, "operand %d is %s; %.*s is %s in `%s`", operand,
                             OPERAND(r->c, operand), (int)name.n, name.s,
                             ir_infer_dim_text(r->c, known->d).s, r->text);
    }
    if (r->nextent == CUSTOM_NAMES) return custom_bad(r, "too many names");
    name.d = have;
    r->extent[r->nextent++] = name;
    return true;
}

/* The axes that `...` stands for at an operand. */
static bool custom_lead(custom_reader *r, int operand, const char *from, int n) {
    const ir_type *t = &r->c->in[operand];
    for (int i = 0; i < n && r->led && r->lead.n == n; i++)
        if (r->lead.d[i] != t->dim[i]) return custom_misfit(r, operand, from);
    if (r->led && r->lead.n != n) return custom_misfit(r, operand, from);
    r->led = true;
    r->lead.n = (uint8_t)n;
    for (int i = 0; i < n; i++) r->lead.d[i] = t->dim[i];
    return true;
}

static bool custom_operand(custom_reader *r, int k) {
    const ir_type *t = &r->c->in[k];
    uint8_t dtype = t->dtype;
    while (*r->at == ' ') r->at++;
    const char *from = r->at;
    if (!ir_infer_check_tensor(r->c, k) || !custom_dtype(r, k, &dtype)) return false;
    if (!custom_take(r, "[")) return custom_bad(r, "`[` is expected");
    int written = custom_count(r), front = t->rank - written;
    bool lead = custom_take(r, "...");
    if (front < 0 || (front && !lead)) return custom_misfit(r, k, from);
    if (lead && !custom_lead(r, k, from, front)) return false;
    for (int i = 0; i < written; i++) {
        if ((i || lead) && !custom_take(r, ",")) return custom_bad(r, "`,` is expected");
        if (!custom_bind(r, k, from, t->dim[front + i])) return false;
    }
    return custom_take(r, "]") || custom_bad(r, "`]` is expected");
}

/* --- Results ---------------------------------------------------------------------------------- */

static bool custom_result(custom_reader *r, ir_type *t) {
    *t = (ir_type){0};
    if (!custom_dtype(r, -1, &t->dtype)) return false;
    if (!custom_take(r, "[")) return custom_bad(r, "`[` is expected");
    int written = custom_count(r);
    bool lead = custom_take(r, "...");
    if (lead && !r->led) return custom_bad(r, "no operand has `...`");
    if (written + (lead ? r->lead.n : 0) > IG_MAX_RANK)
        return ir_infer_fail(r->c, IG_SHAPE, "a result of `%s` would have more than %d axes",
                             r->text, IG_MAX_RANK);
    for (int i = 0; lead && i < r->lead.n; i++) t->dim[t->rank++] = r->lead.d[i];
    for (int i = 0; i < written; i++) {
        ir_dim d;
        if ((i || lead) && !custom_take(r, ",")) return custom_bad(r, "`,` is expected");
        if (!custom_sum(r, 0, &d)) return false;
        if (d == IR_DIM_BAD)
            return ir_infer_fail(r->c, IG_RANGE,
                                 "an extent of `%s` is negative or too large for these operands",
                                 r->text);
        t->dim[t->rank++] = d;
    }
    return custom_take(r, "]") || custom_bad(r, "`]` is expected");
}

bool ir_infer_custom(ir_infer *c) {
    const ir_attr_custom *a = c->attr;
    custom_reader r = {.c = c, .text = a->type ? a->type : ""};
    r.at = r.text;
    c->nout = 0;
    if (!a->name || a->version < 1)
        return ir_infer_fail(c, IG_INVALID, "a C function has a name and a version");
    if (c->nin > IR_CUSTOM_OPERANDS)
        return ir_infer_fail(c, IG_INVALID, "%d operands; the limit is %d", c->nin,
                             IR_CUSTOM_OPERANDS);
    for (int k = 0; k < c->nin; k++) {
        if (k && !custom_take(&r, ","))
            return ir_infer_fail(c, IG_INVALID, "%d operands; `%s` has %d", c->nin, r.text, k);
        if (!custom_operand(&r, k)) return false;
    }
    if (custom_take(&r, ","))
        return ir_infer_fail(c, IG_INVALID, "%d operands; `%s` has more", c->nin, r.text);
    if (!custom_take(&r, "->")) return custom_bad(&r, "`->` is expected");
    do {
        if (c->nout == IR_CUSTOM_RESULTS) return custom_bad(&r, "too many results");
        if (!custom_result(&r, &c->out[c->nout++])) return false;
    } while (custom_take(&r, ","));
    return (custom_take(&r, "") && !*r.at) || custom_bad(&r, "the end is expected");
}

/* --- Callbacks and assertions ----------------------------------------------------------------- */

static bool custom_are_tensors(ir_infer *c) {
    c->nout = 0;
    if (c->nin > IR_CUSTOM_OPERANDS)
        return ir_infer_fail(c, IG_INVALID, "%d operands; the limit is %d", c->nin,
                             IR_CUSTOM_OPERANDS);
    for (int k = 0; k < c->nin; k++)
        if (!ir_infer_check_tensor(c, k)) return false;
    return true;
}

bool ir_infer_host(ir_infer *c) {
    const ir_attr_host *a = c->attr;
    if (!a->name || a->version < 1)
        return ir_infer_fail(c, IG_INVALID, "a C function has a name and a version");
    return custom_are_tensors(c);
}

bool ir_infer_assert(ir_infer *c) {
    if (!custom_are_tensors(c)) return false;
    if (c->nin && c->in[0].dtype == IG_bool) return true;
    return ir_infer_fail(c, IG_DTYPE, "what must hold is %s; bools are needed",
                         c->nin ? OPERAND(c, 0) : "missing");
}

/* Kernel level: the cells of the ig_arrays, then the memory of each. */
bool ir_infer_invoke(ir_infer *c) {
    const ir_attr_invoke *a = c->attr;
    if (!a->name || a->version < 1 || a->index < 0 || a->nout < 0 || a->nout >= c->nin)
        return ir_infer_fail(c, IG_INVALID, "a C function has a name, a version and a number");
    for (int k = 0; k < c->nin; k++)
        if (!c->in[k].mem || (!k && c->in[k].dtype != IG_i64))
            return ir_infer_fail(c, IG_DTYPE, "operand %d is no memory%s", k, k ? "" : " of i64");
    return ir_infer_one(c, ir_scalar_type(IG_i32));
}

/* --- Calling (the reference) ------------------------------------------------------------------ */

static ig_array custom_array(const ir_tensor *t) {
    ig_array a = {.data = t->data, .dtype = t->dtype, .rank = t->rank};
    memcpy(a.dim, t->dim, t->rank * sizeof *t->dim);
    return a;
}

static ig_status custom_call(const ir_ref_call *c, const char *name, int64_t version,
                             const char *text) {
    ig_array arg[IR_CUSTOM_OPERANDS + IR_CUSTOM_RESULTS];
    const ig_custom *op;
    RT_TRY(rt_custom_get(c->alloc, name, version, &op));
    for (int k = 0; k < c->nin; k++) arg[k] = custom_array(&c->in[k]);
    for (int k = 0; k < c->nout; k++) arg[c->nin + k] = custom_array(&c->out[k]);
    ig_custom_args args = {op->user, text, c->nin, c->nout, arg, arg + c->nin};
    int32_t code = op->fn(&args);
    return code ? rt_fail(c->alloc, IG_FAILED, "the C function %s failed with code %d", name, code)
                : NULL;
}

ig_status ir_ref_custom(const ir_ref_call *c) {
    const ir_attr_custom *a = c->attr;
    return custom_call(c, a->name, a->version, NULL);
}

/* Where an element of the first operand is false: the text with the values of the others. */
ig_status ir_ref_assert(const ir_ref_call *c) {
    const ir_attr_assert *a = c->attr;
    const uint8_t *p = c->in[0].data;
    ig_array arg[IR_CUSTOM_OPERANDS];
    int64_t i = 0, n = ir_ref_numel(&c->in[0]);
    rt_str text;
    while (i < n && p[i]) i++;
    if (i == n) return NULL;
    for (int k = 1; k < c->nin; k++) arg[k] = custom_array(&c->in[k]);
    rt_str_init(&text, c->alloc);
    rt_text_fill(&text, a->text, c->nin - 1, arg + 1);
    ig_status s = rt_fail(c->alloc, IG_FAILED, "%s", rt_str_text(&text));
    rt_str_free(&text);
    return s;
}

ig_status ir_ref_host(const ir_ref_call *c) {
    const ir_attr_host *a = c->attr;
    return custom_call(c, a->name, a->version, a->text);
}
