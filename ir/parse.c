/* parse.c - text to modules; docs/ir-text.md is the grammar.
 *
 * One pass over the text, building through the builder exactly what is written (IR_BUILD_RAW):
 * types are inferred by the rules every builder uses and compared with those the text gives.  The
 * result is not verified (ir_verify is), yet everything that could make a later step unsafe is
 * refused here: ranges of dim symbols, data of the wrong size, numbers outside their fields.
 *
 * Hostile text: nesting is bounded (regions by IR_MAX_NEST with an explicit stack, dims by
 * PARSE_MAX_DIM), nothing is allocated from a size in the text before as many characters were
 * seen, and names hash with a seed taken from the whole text.  So memory is linear in the text;
 * docs/ir-text.md states the factor. */
#include "ir/text.h"
#include "runtime/base/hash.h"
#include <string.h>

#define PARSE_MAX_DIM 80  /* nesting of one dim; more than ir_dim allows itself */
#define PARSE_SOURCE  100 /* columns of the source line shown under an error */

typedef struct parse_name {
    const char *s; /* borrowed from the text or interned */
    uint32_t n, hash;
    bool number;
    ir_ref ref;
} parse_name;

/* A region op that is open. */
typedef struct parse_frame {
    uint32_t op;             /* as the builder numbers it */
    int k, nregion;          /* the region being read */
    uint32_t mark;           /* names visible outside of the region */
    uint32_t result0, type0; /* in parser.pending and parser.types: to be bound when the op ends */
    size_t at;               /* place in the text, for errors */
} parse_frame;

typedef struct parser {
    const ig_allocator *alloc;
    const char *name, *text;
    size_t n, at, tok; /* length, position, start of the last token */
    uint64_t seed;
    ir_module *m; /* owned until it is handed out */
    ir_builder b;
    bool building;
    ig_status error;
    rt_str buf;               /* the last string read */
    rt_arena scratch;         /* data of the op being read */
    RT_VEC(parse_name) names; /* visible values in order of definition */
    uint32_t *slot;           /* hash table: index into names + 1 */
    uint32_t nslot;
    RT_VEC(parse_name) pending; /* names of results whose op is not complete */
    RT_VEC(ir_type) types;      /* result types given, and parameter types of a region */
    RT_VEC(ir_ref) refs;
    parse_frame frame[IR_MAX_NEST];
    int nframe;
} parser;

/* --- Errors ----------------------------------------------------------------------------------- */

/* Record an error with its line and a caret under `at`; false.  Keeps the first. */
static bool parse_fail_at(parser *p, size_t at, ig_code code, const char *message) {
    size_t line = 1, start = 0, end, from;
    char src[PARSE_SOURCE + 1];
    if (p->error) return false;
    if (at > p->n) at = p->n;
    for (size_t i = 0; i < at; i++)
        if (p->text[i] == '\n') line++, start = i + 1;
    for (end = start; end < p->n && p->text[end] != '\n';) end++;
    from = at - start > PARSE_SOURCE - 20 ? at - (PARSE_SOURCE - 20) : start;
    if (end - from > PARSE_SOURCE) end = from + PARSE_SOURCE;
    for (size_t i = from; i < end; i++)
        src[i - from] = (char)((unsigned char)p->text[i] < 32 ? ' ' : p->text[i]);
    src[end - from] = 0;
    p->error = rt_fail(p->alloc, code, "%s:%zu:%zu: %s\n  %s\n  %*s", p->name, line, at - start + 1,
                       message, src, (int)(at - from) + 1, "^");
    return false;
}

static bool parse_vfail(parser *p, ig_code code, const char *fmt, va_list ap) {
    rt_str s;
    if (p->error) return false;
    rt_str_init(&s, p->alloc);
    rt_str_vprintf(&s, fmt, ap);
    if (s.failed)
        p->error = rt_fail_memory();
    else
        parse_fail_at(p, p->tok, code, rt_str_text(&s));
    rt_str_free(&s);
    return false;
}

/* Fail at the last token. */
IG_PRINTF(2, 3)
static bool parse_fail(parser *p, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    parse_vfail(p, IG_FORMAT, fmt, ap);
    va_end(ap);
    return false;
}

IG_PRINTF(3, 4)
static bool parse_fail_code(parser *p, ig_code code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    parse_vfail(p, code, fmt, ap);
    va_end(ap);
    return false;
}

/* "what is a, not b", with an invariant. */
static bool parse_fail_types(parser *p, const char *what, uint32_t i, const ir_type *is,
                             const ir_type *want, int inv) {
    rt_str a, b;
    rt_str_init(&a, p->alloc);
    rt_str_init(&b, p->alloc);
    ir_type_print(p->m, is, &a);
    ir_type_print(p->m, want, &b);
    parse_fail_code(p, IG_SHAPE, "result %u of %s is %s, not %s (I%d)", i, what, rt_str_text(&a),
                    rt_str_text(&b), inv);
    rt_str_free(&a);
    rt_str_free(&b);
    return false;
}

static bool parse_no_memory(parser *p) {
    if (!p->error) p->error = rt_fail_memory();
    return false;
}

/* Take over an error of another part, giving it the place in the text; false when there was one. */
static bool parse_take(parser *p, size_t at, ig_status s) {
    if (!s) return true;
    if (!p->error && ig_status_code(s) == IG_MEMORY) {
        p->error = s;
        return false;
    }
    parse_fail_at(p, at, ig_status_code(s), ig_status_text(s));
    ig_status_free(s);
    return false;
}

/* Whether the builder is free of errors; else its error becomes ours. */
static bool parse_built(parser *p, size_t at) {
    ig_status s = p->b.error;
    p->b.error = NULL;
    return parse_take(p, at, s);
}

/* The same after an emission of `op`, naming the invariant that it would break. */
static bool parse_emitted(parser *p, size_t at, ir_opcode op) {
    ig_status s = p->b.error;
    int inv = ir_rule_invariant(op, p->refs.n);
    if (!s || ig_status_code(s) == IG_MEMORY) return parse_built(p, at);
    p->b.error = NULL;
    p->tok = at;
    parse_fail_code(p, ig_status_code(s), "%s (I%d)", ig_status_text(s), inv);
    ig_status_free(s);
    return false;
}

/* --- Tokens ----------------------------------------------------------------------------------- */

static void parse_space(parser *p) {
    for (; p->at < p->n; p->at++) {
        char c = p->text[p->at];
        if (c == ';')
            while (p->at + 1 < p->n && p->text[p->at + 1] != '\n') p->at++;
        else if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
            break;
    }
    p->tok = p->at;
}

/* The next character that is not space, not consumed; 0 at the end. */
static char parse_peek(parser *p) {
    parse_space(p);
    return p->at < p->n ? p->text[p->at] : 0;
}

static bool parse_accept(parser *p, const char *punct) {
    size_t n = strlen(punct);
    parse_space(p);
    if (p->n - p->at < n || memcmp(p->text + p->at, punct, n)) return false;
    p->at += n;
    return true;
}

static bool parse_expect(parser *p, const char *punct) {
    return parse_accept(p, punct) || parse_fail(p, "`%s` is expected here", punct);
}

/* An identifier that is in the text. */
static bool parse_ident(parser *p, const char **s_, size_t *n_) {
    parse_space(p);
    size_t i = p->at;
    if (i >= p->n || !ir_is_ident_start(p->text[i])) return false;
    while (i < p->n && ir_is_ident_char(p->text[i])) i++;
    *s_ = p->text + p->at;
    *n_ = i - p->at;
    p->at = i;
    return true;
}

/* Consume a word if it is next. */
static bool parse_word(parser *p, const char *word) {
    const char *s;
    size_t n;
    size_t at = p->at;
    if (parse_ident(p, &s, &n) && n == strlen(word) && !memcmp(s, word, n)) return true;
    p->at = at;
    return false;
}

static int parse_hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

/* One character of a string into buf; the backslash was consumed when `escaped`. */
static bool parse_string_char(parser *p, char c, bool escaped) {
    if (escaped && c == 'x') {
        int hi = p->n - p->at >= 2 ? parse_hex_digit(p->text[p->at]) : -1;
        int lo = hi >= 0 ? parse_hex_digit(p->text[p->at + 1]) : -1;
        if (lo < 0 || hi + lo == 0)
            return parse_fail(p, "\\x is followed by two hex digits, not 00");
        c = (char)(hi * 16 + lo);
        p->at += 2;
    } else if (escaped) {
        if (c != 'n' && c != 't' && c != '"' && c != '\\')
            return parse_fail(p, "the escapes are \\n \\t \\\" \\\\ and \\xHH");
        c = c == 'n' ? '\n' : c == 't' ? '\t' : c;
    }
    rt_str_add(&p->buf, &c, 1);
    return true;
}

/* A quoted string into p->buf. */
static bool parse_string(parser *p) {
    if (!parse_expect(p, "\"")) return false;
    p->buf.n = 0;
    rt_str_add(&p->buf, "", 0);
    for (;;) {
        char c = p->at < p->n ? p->text[p->at] : '\n';
        if (c == '\n' || c == 0) return parse_fail(p, "the string does not end on its line");
        p->at++;
        if (c == '"') break;
        bool escaped = c == '\\';
        if (escaped) {
            if (p->at >= p->n) continue;
            c = p->text[p->at++];
        }
        if (!parse_string_char(p, c, escaped)) return false;
    }
    return !p->buf.failed || parse_no_memory(p);
}

/* An identifier or a quoted string, interned. */
static const char *parse_symbol(parser *p) {
    const char *s;
    size_t n;
    if (!parse_ident(p, &s, &n)) {
        if (parse_peek(p) != '"') {
            parse_fail(p, "a name is expected here");
            return NULL;
        }
        if (!parse_string(p)) return NULL;
        s = rt_str_text(&p->buf);
        n = p->buf.n;
    }
    const char *kept = ir_intern_str(p->m, s, n);
    if (!kept) parse_no_memory(p);
    return kept;
}

static bool parse_is_digit(const parser *p, size_t i) {
    return i < p->n && p->text[i] >= '0' && p->text[i] <= '9';
}

static bool parse_int(parser *p, int64_t *out_) {
    parse_space(p);
    size_t i = p->at;
    bool minus = i < p->n && p->text[i] == '-';
    int64_t x = 0;
    if (minus) i++;
    if (!parse_is_digit(p, i)) return parse_fail(p, "a whole number is expected here");
    for (; parse_is_digit(p, i); i++) { /* negative numbers reach one further */
        int digit = p->text[i] - '0';
        if (__builtin_mul_overflow(x, 10, &x) || __builtin_sub_overflow(x, digit, &x))
            return parse_fail(p, "the number does not fit 64 bits");
    }
    if (!minus && x == INT64_MIN) return parse_fail(p, "the number does not fit 64 bits");
    p->at = i;
    *out_ = minus ? x : -x;
    return true;
}

static bool parse_range(parser *p, int64_t lo, int64_t hi, int64_t *out_) {
    if (!parse_int(p, out_)) return false;
    if (*out_ >= lo && *out_ <= hi) return true;
    return parse_fail(p, "the number must be in %lld..%lld", (long long)lo, (long long)hi);
}

/* --- Dims and types --------------------------------------------------------------------------- */

static bool parse_dim_sum(parser *p, int depth, ir_dim *out_);

static bool parse_dim_call(parser *p, const char *s, size_t n, int depth, ir_dim *out_) {
    typedef ir_dim (*dim_fn)(ir_module *, ir_dim, ir_dim);
    static const struct {
        const char *name;
        dim_fn fn;
    } tab[] = {{"floordiv", ir_dim_floordiv},
               {"mod", ir_dim_mod},
               {"min", ir_dim_min},
               {"max", ir_dim_max}};
    ir_dim a, b;
    for (size_t i = 0; i < sizeof tab / sizeof tab[0]; i++) {
        if (strlen(tab[i].name) != n || memcmp(tab[i].name, s, n)) continue;
        if (!parse_expect(p, "(") || !parse_dim_sum(p, depth + 1, &a) || !parse_expect(p, ",") ||
            !parse_dim_sum(p, depth + 1, &b) || !parse_expect(p, ")"))
            return false;
        *out_ = tab[i].fn(p->m, a, b);
        return true;
    }
    return parse_fail(p, "dims know floordiv, mod, min and max, not this function");
}

/* A declared symbol. */
static bool parse_dim_symbol(parser *p, const char *s, size_t n, ir_dim *out_) {
    const char *name = ir_intern_str(p->m, s, n);
    if (!name) return parse_no_memory(p);
    for (uint32_t i = 0; i < p->m->symbols.n; i++) {
        const ir_symbol *y = &p->m->symbols.data[i];
        if (y->name != name) continue;
        *out_ = ir_add_symbol(p->m, name, y->lo, y->hi);
        return true;
    }
    return parse_fail(p, "the module declares no dim %s (I6)", name);
}

static bool parse_dim_factor(parser *p, int depth, ir_dim *out_) {
    const char *s;
    size_t n;
    if (depth > PARSE_MAX_DIM) return parse_fail(p, "the dim is nested too deep");
    if (parse_accept(p, "(")) return parse_dim_sum(p, depth + 1, out_) && parse_expect(p, ")");
    if (parse_ident(p, &s, &n))
        return parse_peek(p) == '(' ? parse_dim_call(p, s, n, depth, out_)
                                    : parse_dim_symbol(p, s, n, out_);
    return parse_range(p, 0, INT64_MAX, out_);
}

static bool parse_dim_product(parser *p, int depth, ir_dim *out_) {
    ir_dim x;
    if (!parse_dim_factor(p, depth, out_)) return false;
    while (parse_accept(p, "*")) {
        if (!parse_dim_factor(p, depth, &x)) return false;
        *out_ = ir_dim_mul(p->m, *out_, x);
    }
    return true;
}

/* Terms with plus and with minus are collected apart: a dim is never negative on the way. */
static bool parse_dim_sum(parser *p, int depth, ir_dim *out_) {
    ir_dim plus, minus = 0, x;
    if (!parse_dim_product(p, depth, &plus)) return false;
    for (;;) {
        bool add = parse_accept(p, "+");
        if (!add && !parse_accept(p, "-")) break;
        if (!parse_dim_product(p, depth, &x)) return false;
        if (add)
            plus = ir_dim_add(p->m, plus, x);
        else
            minus = ir_dim_add(p->m, minus, x);
    }
    *out_ = minus ? ir_dim_sub(p->m, plus, minus) : plus;
    return true;
}

/* A dim; one that succeeds at the second attempt failed for want of memory. */
static bool parse_dim(parser *p, ir_dim *out_) {
    parse_space(p);
    size_t at = p->at;
    for (int attempt = 0; attempt < 2; attempt++) {
        p->at = at;
        if (!parse_dim_sum(p, 0, out_)) return false;
        if (*out_ != IR_DIM_BAD) return attempt == 0 || parse_no_memory(p);
    }
    p->tok = at;
    return parse_fail(p, "the dim is negative, too large or too complicated");
}

/* `[dim, dim]` after the bracket was read. */
static bool parse_dim_list(parser *p, uint8_t *n_, ir_dim *dim) {
    for (*n_ = 0; !parse_accept(p, "]"); ++*n_) {
        if (*n_ && !parse_expect(p, ",")) return false;
        if (*n_ == IG_MAX_RANK) return parse_fail(p, "at most %d dims", IG_MAX_RANK);
        if (!parse_dim(p, &dim[*n_])) return false;
    }
    return true;
}

static bool parse_dtype(parser *p, uint8_t *out_) {
    const char *s;
    size_t n;
    if (!parse_ident(p, &s, &n)) return parse_fail(p, "an element type is expected here");
    *out_ = (uint8_t)rt_dtype_find(s, n);
    return *out_ != IG_NONE ||
           parse_fail(p, "there is no element type %.*s", n > 40 ? 40 : (int)n, s);
}

static bool parse_type(parser *p, ir_type *out_) {
    int64_t lanes;
    *out_ = (ir_type){0};
    if (parse_word(p, "vec")) {
        if (!parse_expect(p, "<") || !parse_range(p, 1, UINT8_MAX, &lanes)) return false;
        if (!parse_word(p, "x")) return parse_fail(p, "`x` is expected here");
        out_->lanes = (uint8_t)lanes;
        return parse_dtype(p, &out_->dtype) && parse_expect(p, ">");
    }
    if (parse_word(p, "mem")) {
        out_->mem = 1;
        return parse_expect(p, "<") && parse_dtype(p, &out_->dtype) && parse_expect(p, ">");
    }
    return parse_dtype(p, &out_->dtype) && parse_expect(p, "[") &&
           parse_dim_list(p, &out_->rank, out_->dim);
}

/* --- Data ------------------------------------------------------------------------------------- */

/* Length of the run of characters that may belong to a number or to true and false. */
static size_t parse_element_length(const parser *p) {
    size_t i = p->at;
    while (i < p->n && (ir_is_ident_char(p->text[i]) || p->text[i] == '-' || p->text[i] == '+'))
        i++;
    return i - p->at;
}

static bool parse_element(parser *p, ig_dtype dtype, uint8_t *out_) {
    parse_space(p);
    size_t n = parse_element_length(p);
    if (!n || !ir_parse_element(p->text + p->at, n, dtype, out_))
        return parse_fail(p, "an element of type %s is expected here", ig_dtype_name(dtype));
    p->at += n;
    return true;
}

static bool parse_elements(parser *p, ig_dtype dtype, uint64_t n, uint8_t *out_) {
    size_t size = rt_dtype_bytes(dtype);
    for (uint64_t i = 0; i < n; i++) {
        if (i ? !parse_accept(p, ",") : parse_peek(p) == ']')
            return parse_fail(p, "the type has %llu elements, the list has %llu",
                              (unsigned long long)n, (unsigned long long)i);
        if (!parse_element(p, dtype, out_ + i * size)) return false;
    }
    return parse_accept(p, "]") ||
           parse_fail(p, "the type has %llu elements, the list has more", (unsigned long long)n);
}

static bool parse_hex(parser *p, uint64_t n, uint8_t *out_) {
    for (uint64_t i = 0; i < 2 * n; i++) {
        int x = parse_hex_digit(parse_peek(p));
        if (x < 0)
            return parse_fail(p, "%llu hex digits are expected, there are %llu",
                              (unsigned long long)(2 * n), (unsigned long long)i);
        out_[i / 2] = (uint8_t)(i % 2 ? out_[i / 2] | x : x << 4);
        p->at++;
    }
    return parse_expect(p, "}");
}

/* Elements of a type: `[1.0, 2.0]`, `splat 1.0` or `hex{...}`; the bytes live in p->scratch. */
static bool parse_data(parser *p, const ir_type *type, ir_data *out_) {
    ir_type t = *type;
    int64_t n;
    size_t bytes, size = rt_dtype_bytes(t.dtype), left;
    if (t.lanes) t.rank = 1, t.dim[0] = t.lanes, t.lanes = 0;
    parse_space(p);
    if (!t.dtype || t.mem || !ir_type_bytes(&t, &n, &bytes))
        return parse_fail(p, "data needs a type with constant dims before it");
    bool list = parse_accept(p, "["), hex = !list && parse_accept(p, "hex{");
    bool splat = !list && !hex && parse_word(p, "splat");
    if (!list && !hex && !splat) {
        if (parse_word(p, "elided"))
            return parse_fail(p, "the data was left out of this text when it was printed");
        return parse_fail(p, "`[`, `splat` or `hex{` is expected here");
    }
    left = p->n - p->at;
    if (splat && n > IR_INLINE_ELEMENTS)
        return parse_fail(p, "splat is for up to %d elements; broadcast a scalar instead",
                          IR_INLINE_ELEMENTS);
    if ((list && (uint64_t)n > left / 2 + 1) || (hex && bytes > left / 2))
        return parse_fail(p, "the text ends before %lld elements", (long long)n);
    uint8_t *data = rt_arena_zero(&p->scratch, bytes);
    if (!data) return parse_no_memory(p);
    *out_ = (ir_data){data, bytes};
    if (list) return parse_elements(p, t.dtype, (uint64_t)n, data);
    if (hex) return parse_hex(p, bytes, data);
    if (!n) data = rt_arena_zero(&p->scratch, size);
    if (!data) return parse_no_memory(p);
    if (!parse_element(p, t.dtype, data)) return false;
    for (size_t i = size; i < bytes; i++) data[i] = data[i - size];
    return true;
}

/* --- Attributes ------------------------------------------------------------------------------- */

/* Room for any attribute. */
typedef union parse_attr_any {
#define ATTR(name, fields) ir_attr_##name any_##name;
#include "ir/attrs.def"
} parse_attr_any;

static bool parse_int_list(parser *p, uint8_t *n_, int64_t lo, int64_t hi, int64_t *v) {
    if (!parse_expect(p, "[")) return false;
    for (*n_ = 0; !parse_accept(p, "]"); ++*n_) {
        if (*n_ && !parse_expect(p, ",")) return false;
        if (*n_ == IG_MAX_RANK) return parse_fail(p, "at most %d numbers", IG_MAX_RANK);
        if (!parse_range(p, lo, hi, &v[*n_])) return false;
    }
    return true;
}

static bool parse_axes(parser *p, ir_axes *out_) {
    int64_t v[IG_MAX_RANK];
    if (!parse_int_list(p, &out_->n, 0, UINT8_MAX, v)) return false;
    for (int i = 0; i < out_->n; i++) out_->a[i] = (uint8_t)v[i];
    return true;
}

static bool parse_places(parser *p, ir_places *out_) {
    if (!parse_expect(p, "[")) return false;
    for (out_->n = 0; !parse_accept(p, "]"); ++out_->n) {
        if (out_->n && !parse_expect(p, ",")) return false;
        if (out_->n == IG_MAX_RANK) return parse_fail(p, "at most %d places", IG_MAX_RANK);
        bool out = parse_word(p, "out");
        if (!out && !parse_word(p, "ws")) return parse_fail(p, "`out` or `ws` is expected here");
        out_->p[out_->n].kind = out ? IR_PLACE_OUT : IR_PLACE_WS;
        if (!parse_dim(p, &out_->p[out_->n].at)) return false;
    }
    return true;
}

static bool parse_rel(parser *p, ir_rel *out_) {
    char msg[256];
    parse_space(p);
    size_t at = p->at;
    if (!parse_string(p)) return false;
    if (ir_ein_parse(rt_str_text(&p->buf), p->buf.n, out_, msg, sizeof msg)) return true;
    return parse_fail_at(p, at, IG_FORMAT, msg);
}

static bool parse_enum(parser *p, const char *const *names, uint8_t *out_) {
    for (uint8_t i = 0; names && names[i]; i++)
        if (parse_word(p, names[i])) {
            *out_ = i;
            return true;
        }
    return parse_fail(p, "this is none of the words that may stand here");
}

static bool parse_flag(parser *p, uint8_t *out_) {
    static const char *const names[] = {"false", "true", NULL};
    return parse_enum(p, names, out_);
}

static bool parse_sym(parser *p, const char **out_) {
    return parse_expect(p, "@") && (*out_ = parse_symbol(p));
}

static bool parse_ints(parser *p, ir_ints *out_) {
    return parse_int_list(p, &out_->n, INT64_MIN, INT64_MAX, out_->v);
}

static bool parse_dims(parser *p, ir_dims *out_) {
    return parse_expect(p, "[") && parse_dim_list(p, &out_->n, out_->d);
}

/* `type` is the attribute's type field, as far as it was read. */
static bool parse_field(parser *p, ir_field_kind kind, void *at, const ir_type *type) {
    switch (kind) {
    case FIELD_int: return parse_int(p, at);
    case FIELD_flag: return parse_flag(p, at);
    case FIELD_dtype: return parse_dtype(p, at);
    case FIELD_dim: return parse_dim(p, at);
    case FIELD_dims: return parse_dims(p, at);
    case FIELD_axes: return parse_axes(p, at);
    case FIELD_ints: return parse_ints(p, at);
    case FIELD_sym: return parse_sym(p, at);
    case FIELD_type: return parse_type(p, at);
    case FIELD_data: return parse_data(p, type, at);
    case FIELD_rel: return parse_rel(p, at);
    case FIELD_places: return parse_places(p, at);
    default: return parse_enum(p, ir_enum_names(kind), at);
    }
}

/* Fields `name=value` in any order, each at most once; a missing one is zero. */
static bool parse_attr(parser *p, ir_attr_kind kind, parse_attr_any *out_) {
    const ir_attr_info *info = &ir_attr_tab[kind];
    ir_type none = {0};
    const ir_type *type = &none;
    uint32_t seen = 0;
    memset(out_, 0, sizeof *out_);
    for (;;) {
        const char *s;
        size_t n, at = p->at;
        uint32_t i = 0;
        if (!parse_ident(p, &s, &n) || parse_peek(p) != '=') {
            p->at = at;
            return true;
        }
        while (i < info->nfield &&
               (strlen(info->field[i].name) != n || memcmp(info->field[i].name, s, n)))
            i++;
        if (i == info->nfield || seen >> i & 1) {
            p->tok = (size_t)(s - p->text);
            return parse_fail(p, i == info->nfield ? "the op has no such field"
                                                   : "the field is given twice");
        }
        seen |= 1u << i;
        void *field = (char *)out_ + info->field[i].offset;
        if (!parse_expect(p, "=") || !parse_field(p, info->field[i].kind, field, type))
            return false;
        if (info->field[i].kind == FIELD_type) type = field;
    }
}

/* --- Names of values -------------------------------------------------------------------------- */

/* The slot of a name, or the free one where it would be. */
static uint32_t parse_slot(const parser *p, const parse_name *x) {
    uint32_t i = x->hash & (p->nslot - 1);
    for (; p->slot[i]; i = (i + 1) & (p->nslot - 1)) {
        const parse_name *y = &p->names.data[p->slot[i] - 1];
        if (y->hash == x->hash && y->n == x->n && y->number == x->number &&
            !memcmp(y->s, x->s, x->n))
            break;
    }
    return i;
}

/* Keep the table at most half full; names are entered again in their order, so that undoing
 * stays simple. */
static bool parse_grow_names(parser *p) {
    if (p->nslot > 2 * p->names.n + 2) return true;
    if (p->nslot > UINT32_MAX / 4) return parse_no_memory(p);
    uint32_t cap = p->nslot ? p->nslot * 2 : 64;
    uint32_t *slot = rt_alloc_zero(p->alloc, (size_t)cap * sizeof *slot);
    if (!slot) return parse_no_memory(p);
    rt_free(p->alloc, p->slot, (size_t)p->nslot * sizeof *slot);
    p->slot = slot;
    p->nslot = cap;
    for (uint32_t i = 0; i < p->names.n; i++) p->slot[parse_slot(p, &p->names.data[i])] = i + 1;
    return true;
}

static bool parse_define(parser *p, parse_name x, ir_ref ref) {
    if (!parse_grow_names(p)) return false;
    uint32_t i = parse_slot(p, &x);
    if (p->slot[i]) {
        p->tok = x.s >= p->text && x.s < p->text + p->n ? (size_t)(x.s - p->text) : p->tok;
        return parse_fail(p, "%%%.*s is defined already", x.n > 60 ? 60 : (int)x.n, x.s);
    }
    x.ref = ref;
    if (!rt_vec_push(p->alloc, &p->names, x)) return parse_no_memory(p);
    p->slot[i] = p->names.n;
    return true;
}

/* Forget all names but the first `mark`, newest first: probe chains of older names never need a
 * newer one. */
static void parse_forget(parser *p, uint32_t mark) {
    while (p->names.n > mark) {
        p->slot[parse_slot(p, &p->names.data[p->names.n - 1])] = 0;
        p->names.n--;
    }
}

/* `%7`, `%x` or `%"x y"`. */
static bool parse_value_name(parser *p, parse_name *out_) {
    size_t n;
    *out_ = (parse_name){0};
    if (!parse_expect(p, "%")) return false;
    size_t at = p->at - 1;
    if (parse_is_digit(p, p->at)) {
        out_->s = p->text + p->at;
        out_->number = true;
        while (parse_is_digit(p, p->at)) p->at++;
        n = (size_t)(p->text + p->at - out_->s);
    } else if (p->at < p->n && p->text[p->at] == '"') {
        if (!(out_->s = parse_symbol(p))) return false;
        n = strlen(out_->s);
    } else if (p->at >= p->n || !ir_is_ident_start(p->text[p->at]) ||
               !parse_ident(p, &out_->s, &n)) {
        return parse_fail(p, "a value is %%number, %%name or %%\"name\"");
    }
    p->tok = at;
    if (n > UINT32_MAX) return parse_fail(p, "the name is too long");
    out_->n = (uint32_t)n;
    out_->hash = (uint32_t)rt_hash(out_->s, n, p->seed + out_->number);
    return true;
}

/* A value in scope, pushed to p->refs. */
static bool parse_operand(parser *p) {
    parse_name x;
    if (!parse_value_name(p, &x)) return false;
    uint32_t i = p->nslot ? p->slot[parse_slot(p, &x)] : 0;
    if (!i) return parse_fail(p, "%%%.*s is not defined here (I1)", x.n > 60 ? 60 : (int)x.n, x.s);
    return rt_vec_push(p->alloc, &p->refs, p->names.data[i - 1].ref) || parse_no_memory(p);
}

/* --- Ops -------------------------------------------------------------------------------------- */

/* `%1, %2 =`, pushed to p->pending. */
static bool parse_results(parser *p) {
    while (parse_peek(p) == '%') {
        parse_name x;
        if (!parse_value_name(p, &x)) return false;
        if (!rt_vec_push(p->alloc, &p->pending, x)) return parse_no_memory(p);
        if (parse_accept(p, "=")) return true;
        if (!parse_expect(p, ",")) return false;
        if (parse_peek(p) != '%') return parse_fail(p, "a result is expected here");
    }
    return true;
}

static bool parse_operands(parser *p) {
    p->refs.n = 0;
    if (parse_peek(p) != '%') return true;
    do
        if (!parse_operand(p)) return false;
    while (parse_accept(p, ","));
    return p->refs.n <= UINT16_MAX || parse_fail(p, "more than %d operands", UINT16_MAX);
}

/* `: type, type`, pushed to p->types. */
static bool parse_types(parser *p) {
    ir_type t;
    if (!parse_accept(p, ":")) return true;
    do {
        if (!parse_type(p, &t)) return false;
        if (!rt_vec_push(p->alloc, &p->types, t)) return parse_no_memory(p);
    } while (parse_accept(p, ","));
    return true;
}

/* `at "file":line`, into the builder. */
static bool parse_loc(parser *p) {
    int64_t line;
    p->b.loc = (ir_loc){0};
    if (!parse_word(p, "at")) return true;
    if (!parse_string(p)) return false;
    const char *file = ir_intern_str(p->m, rt_str_text(&p->buf), p->buf.n);
    if (!file) return parse_no_memory(p);
    if (!parse_expect(p, ":") || !parse_range(p, 0, UINT32_MAX, &line)) return false;
    p->b.loc = ir_intern_loc(p->m, file, (uint32_t)line);
    return true;
}

/* Bind the results of a complete op to the names and types given since result0 and type0. */
static bool parse_bind(parser *p, uint32_t op, uint32_t result0, uint32_t type0, size_t at) {
    const ir_func *f = p->b.f;
    const ir_op *o = &f->ops.data[op];
    uint32_t nname = p->pending.n - result0, ntype = p->types.n - type0;
    p->tok = at;
    const char *name = ir_op_tab[o->code].name;
    if (nname != o->nout)
        return parse_fail(p, "%s gives %u result%s; named: %u", name, o->nout,
                          o->nout == 1 ? "" : "s", nname);
    if (ntype && ntype != o->nout)
        return parse_fail(p, "%s gives %u result%s; types: %u", name, o->nout,
                          o->nout == 1 ? "" : "s", ntype);
    for (uint32_t i = 0; i < ntype; i++) {
        const ir_type *is = &f->values.data[o->out0 + i].type;
        if (!ir_type_eq(is, &p->types.data[type0 + i]))
            return parse_fail_types(p, name, i, is, &p->types.data[type0 + i], 2);
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
    ir_type t;
    if (!parse_expect(p, "(")) return false;
    for (uint32_t n = 0; !parse_accept(p, ")"); n++) {
        if (n && !parse_expect(p, ",")) return false;
        if (n == UINT16_MAX) return parse_fail(p, "more than %d parameters", UINT16_MAX);
        if (!parse_value_name(p, &x) || !parse_expect(p, ":") || !parse_type(p, &t)) return false;
        if (!rt_vec_push(p->alloc, &p->pending, x) || !rt_vec_push(p->alloc, &p->types, t))
            return parse_no_memory(p);
    }
    return true;
}

/* Open region k of the top frame: `[(params)] {`. */
static bool parse_region(parser *p) {
    parse_frame *fr = &p->frame[p->nframe - 1];
    uint32_t name0 = p->pending.n, type0 = p->types.n;
    if (parse_peek(p) == '(' && !parse_params(p)) return false;
    if (!parse_expect(p, "{")) return false;
    uint32_t n = p->types.n - type0;
    if (!rt_vec_reserve(p->alloc, &p->refs, n + 1)) return parse_no_memory(p);
    fr->mark = p->names.n;
    ir_region_begin(&p->b, fr->op, fr->k, (int)n, p->types.data ? p->types.data + type0 : NULL,
                    p->refs.data);
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
    if (!parse_built(p, at) || !parse_expect(p, "}")) return false;
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
        return parse_fail(p, "regions nest at most %d deep (I5)", IR_MAX_NEST);
    fr.nregion = ir_region_count(code);
    fr.op = ir_op_begin(&p->b, code, attr, (int)p->refs.n, p->refs.data, fr.nregion);
    if (!parse_emitted(p, fr.at, code)) return false;
    p->frame[p->nframe++] = fr;
    return parse_region(p);
}

void ir_read_op(ir_builder *b, ir_opcode op, const void *attr, uint32_t nin, const ir_ref *in) {
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
    parse_attr_any attr;
    parse_frame fr = {.result0 = p->pending.n, .type0 = p->types.n};
    if (!parse_results(p)) return false;
    parse_space(p);
    fr.at = p->at;
    if (!parse_ident(p, &s, &n)) return parse_fail(p, "an op is expected here");
    ir_opcode code = ir_op_find(s, n);
    if (code == OP_END) return parse_fail(p, "there is no op %.*s", n > 60 ? 60 : (int)n, s);
    if (!parse_operands(p) || !parse_attr(p, (ir_attr_kind)ir_op_tab[code].attr, &attr))
        return false;
    if (!parse_types(p) || !parse_loc(p)) return false;
    if (code == OP_return || code == OP_yield) {
        p->tok = fr.at;
        if ((code == OP_yield) != (p->nframe > 0))
            return parse_fail(p, "a region ends in yield, a function in return (I5)");
        if (p->pending.n != fr.result0 || p->types.n != fr.type0)
            return parse_fail(p, "%.*s has no results", (int)n, s);
        *done_ = code == OP_return;
        return *done_ || parse_region_end(p, fr.at);
    }
    p->tok = fr.at;
    if (ir_region_count(code)) return parse_region_op(p, code, &attr, fr);
    ir_read_op(&p->b, code, &attr, p->refs.n, p->refs.data);
    return parse_emitted(p, fr.at, code) &&
           parse_bind(p, p->b.f->ops.n - 1, fr.result0, fr.type0, fr.at);
}

/* --- Functions and modules -------------------------------------------------------------------- */

static bool parse_func_params(parser *p) {
    if (!parse_params(p)) return false;
    for (uint32_t i = 0; i < p->types.n; i++) {
        parse_name x = p->pending.data[i];
        const char *name = NULL;
        if (!x.number && !(name = ir_intern_str(p->m, x.s, x.n))) return parse_no_memory(p);
        ir_ref r = ir_param(&p->b, p->types.data[i], name);
        if (!parse_built(p, p->tok) || !parse_define(p, x, r)) return false;
    }
    p->types.n = p->pending.n = 0;
    return true;
}

/* `-> (types)` into p->types. */
static bool parse_func_results(parser *p) {
    ir_type t;
    if (!parse_expect(p, "->") || !parse_expect(p, "(")) return false;
    while (!parse_accept(p, ")")) {
        if (p->types.n && !parse_expect(p, ",")) return false;
        if (!parse_type(p, &t)) return false;
        if (!rt_vec_push(p->alloc, &p->types, t)) return parse_no_memory(p);
    }
    return true;
}

/* Compare the results promised with those returned. */
static bool parse_check_results(parser *p, const ir_func *f, const ir_type *promised, uint32_t n,
                                size_t at) {
    p->tok = at;
    if (f->results.n != n)
        return parse_fail(p, "@%s promises %u result%s and returns %u (I5)", f->name, n,
                          n == 1 ? "" : "s", f->results.n);
    for (uint32_t i = 0; i < n; i++)
        if (!ir_type_eq(&f->results.data[i], &promised[i]))
            return parse_fail_types(p, f->name, i, &f->results.data[i], &promised[i], 5);
    return true;
}

/* The body's ops and the closing brace.  The promised result types are p->types[0..n). */
static bool parse_func_body(parser *p, uint32_t n) {
    bool done = false;
    size_t at;
    ir_func *f;
    do {
        parse_space(p);
        at = p->at;
        if (!parse_op(p, &done)) return false;
        if (p->scratch.chunk) rt_arena_free(&p->scratch);
    } while (!done);
    ig_status s = ir_build_end(&p->b, (int)p->refs.n, p->refs.data, &f);
    p->building = false;
    return parse_take(p, at, s) && parse_check_results(p, f, p->types.data, n, at) &&
           parse_expect(p, "}");
}

static bool parse_func(parser *p, ir_func_kind kind) {
    if (!parse_expect(p, "@")) return false;
    const char *name = parse_symbol(p);
    if (!name) return false;
    p->types.n = p->pending.n = 0;
    p->building = true;
    ir_build_begin(&p->b, p->m, name, kind, IR_BUILD_RAW);
    if (!parse_built(p, p->tok)) return false;
    if (!parse_func_params(p) || !parse_func_results(p) || !parse_expect(p, "{")) return false;
    if (!parse_func_body(p, p->types.n)) return false;
    parse_forget(p, 0);
    return true;
}

static bool parse_dim_decl(parser *p) {
    int64_t lo, hi;
    const char *name = parse_symbol(p);
    if (!name) return false;
    uint32_t n = p->m->symbols.n;
    if (!ir_is_ident(name, strlen(name)))
        return parse_fail(p, "the name of a dim is an identifier (I9)");
    size_t at = p->tok;
    if (!parse_word(p, "in")) return parse_fail(p, "`in` is expected here");
    if (!parse_range(p, 0, INT64_MAX, &lo) || !parse_expect(p, "..") || !parse_int(p, &hi))
        return false;
    if (hi < lo) return parse_fail(p, "the range of dim %s is empty (I6)", name);
    if (ir_add_symbol(p->m, name, lo, hi) == IR_DIM_BAD) return parse_no_memory(p);
    p->tok = at;
    return p->m->symbols.n > n || parse_fail(p, "dim %s is declared twice (I9)", name);
}

static bool parse_weight(parser *p) {
    ir_type t;
    ir_data data;
    if (!parse_expect(p, "@")) return false;
    const char *name = parse_symbol(p);
    size_t at = p->tok;
    if (!name || !parse_expect(p, ":") || !parse_type(p, &t) || !parse_expect(p, "=")) return false;
    if (!parse_data(p, &t, &data)) return false;
    uint64_t n = data.n / rt_dtype_bytes(t.dtype), bad = ir_data_bad(t.dtype, data.bytes, n);
    if (bad < n)
        return parse_fail(
            p, "element %llu of @%s is neither 0 nor 1, or a NaN that is not canonical (I7)",
            (unsigned long long)bad, name);
    bool ok = parse_take(p, at, ir_add_weight(p->m, name, t, data.bytes, true));
    rt_arena_free(&p->scratch);
    return ok;
}

/* `module name class fma state 0 [unchecked] {` */
static bool parse_header(parser *p) {
    uint8_t class = IR_CLASS_FMA;
    int64_t nstate = 0;
    if (!parse_word(p, "module")) return parse_fail(p, "a text begins with `module`");
    const char *name = parse_symbol(p);
    if (!name) return false;
    if (parse_word(p, "class") && !parse_enum(p, ir_class_names, &class)) return false;
    if (parse_word(p, "state") && !parse_range(p, 0, UINT32_MAX, &nstate)) return false;
    p->m->name = name;
    p->m->class = class;
    p->m->nstate = (uint32_t)nstate;
    p->m->unchecked = parse_word(p, "unchecked");
    return parse_expect(p, "{");
}

static bool parse_item(parser *p) {
    uint8_t kind;
    if (parse_word(p, "dim")) return parse_dim_decl(p);
    if (parse_word(p, "weight")) return parse_weight(p);
    for (kind = 0; ir_func_kind_names[kind]; kind++)
        if (parse_word(p, ir_func_kind_names[kind])) return parse_func(p, (ir_func_kind)kind);
    return parse_fail(p,
                      "`dim`, `weight`, `fn`, `cluster`, `kernel`, `host` or `}` is expected here");
}

static bool parse_module(parser *p) {
    if (!parse_header(p)) return false;
    while (!parse_accept(p, "}"))
        if (!parse_item(p)) return false;
    return parse_peek(p) == 0 && p->at == p->n ? true
                                               : parse_fail(p, "nothing may follow the module");
}

static void parse_free(parser *p) {
    if (p->building) ir_build_abort(&p->b);
    rt_str_free(&p->buf);
    rt_arena_free(&p->scratch);
    rt_vec_free(p->alloc, &p->names);
    rt_vec_free(p->alloc, &p->pending);
    rt_vec_free(p->alloc, &p->types);
    rt_vec_free(p->alloc, &p->refs);
    rt_free(p->alloc, p->slot, (size_t)p->nslot * sizeof *p->slot);
}

ig_status ir_parse(const ig_allocator *alloc, const char *name, const char *text, size_t n,
                   ir_module **out_) {
    *out_ = NULL;
    parser p = {.alloc = alloc, .name = name, .text = text, .n = n};
    p.seed = rt_hash(text, n, 0);
    RT_TRY(ir_module_new(alloc, "", &p.m));
    rt_str_init(&p.buf, alloc);
    rt_arena_init(&p.scratch, alloc);
    bool ok = parse_module(&p);
    parse_free(&p);
    if (!ok) {
        ir_module_free(p.m);
        return p.error;
    }
    *out_ = p.m;
    return NULL;
}
