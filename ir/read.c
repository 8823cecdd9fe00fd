/* read.c - tokens, dims, types, data and attributes of the text form; docs/ir-text.md is the
 * grammar.
 *
 * Nothing is allocated from a size in the text before as many characters were seen, and dims nest
 * at most READ_MAX_DIM deep, so that memory and stack are bounded whatever the text says. */
#include "ir/read.h"
#include <string.h>

#define READ_MAX_DIM 80   /* nesting of one dim; more than ir_dim allows itself */
#define READ_SOURCE  100  /* columns of the source line shown under an error */
#define READ_MESSAGE 2000 /* bytes of an error that are shown */

/* --- Errors ----------------------------------------------------------------------------------- */

/* Record an error with its line and a caret under `at`; false.  Keeps the first. */
bool ir_read_fail_at(ir_reader *r, size_t at, ig_code code, const char *message) {
    size_t line = 1, start = 0, end, from;
    char src[READ_SOURCE + 1];
    if (r->error || !r->name) return false;
    if (at > r->n) at = r->n;
    for (size_t i = 0; i < at; i++)
        if (r->text[i] == '\n') line++, start = i + 1;
    for (end = start; end < r->n && r->text[end] != '\n';) end++;
    from = at - start > READ_SOURCE - 20 ? at - (READ_SOURCE - 20) : start;
    if (end - from > READ_SOURCE) end = from + READ_SOURCE;
    for (size_t i = from; i < end; i++)
        src[i - from] = (char)((unsigned char)r->text[i] < 32 ? ' ' : r->text[i]);
    src[end - from] = 0;
    r->error = rt_fail(r->alloc, code, "%s:%zu:%zu: %.*s\n  %s\n  %*s", r->name, line,
                       at - start + 1, READ_MESSAGE, message, src, (int)(at - from) + 1, "^");
    return false;
}

static bool read_vfail(ir_reader *r, ig_code code, const char *fmt, va_list ap) {
    rt_str s;
    if (r->error || !r->name) return false;
    rt_str_init(&s, r->m->alloc);
    rt_str_vprintf(&s, fmt, ap);
    if (s.failed)
        r->error = rt_fail_memory();
    else
        ir_read_fail_at(r, r->tok, code, rt_str_text(&s));
    rt_str_free(&s);
    return false;
}

/* Fail at the last token. */
bool ir_read_fail(ir_reader *r, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    read_vfail(r, IG_FORMAT, fmt, ap);
    va_end(ap);
    return false;
}

bool ir_read_fail_code(ir_reader *r, ig_code code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    read_vfail(r, code, fmt, ap);
    va_end(ap);
    return false;
}

/* "what is a, not b", with an invariant. */
bool ir_read_fail_types(ir_reader *r, const char *what, uint32_t i, const ir_type *is,
                        const ir_type *want, int inv) {
    rt_str a, b;
    rt_str_init(&a, r->m->alloc);
    rt_str_init(&b, r->m->alloc);
    ir_type_print(r->m, is, &a);
    ir_type_print(r->m, want, &b);
    ir_read_fail_code(r, IG_SHAPE, "result %u of %s is %s, not %s (I%d)", i, what, rt_str_text(&a),
                      rt_str_text(&b), inv);
    rt_str_free(&a);
    rt_str_free(&b);
    return false;
}

bool ir_read_no_memory(ir_reader *r) {
    if (!r->error) r->error = rt_fail_memory();
    return false;
}

/* Take over an error of another part, giving it the place in the text; false when there was one. */
bool ir_read_take(ir_reader *r, size_t at, ig_status s) {
    if (!s) return true;
    if (ig_status_code(s) == IG_MEMORY)
        ir_read_no_memory(r);
    else
        ir_read_fail_at(r, at, ig_status_code(s), ig_status_text(s));
    ig_status_free(s);
    return false;
}

/* --- Tokens ----------------------------------------------------------------------------------- */

void ir_read_space(ir_reader *r) {
    for (; r->at < r->n; r->at++) {
        char c = r->text[r->at];
        if (c == ';')
            while (r->at + 1 < r->n && r->text[r->at + 1] != '\n') r->at++;
        else if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
            break;
    }
    r->tok = r->at;
}

/* The next character that is not space, not consumed; 0 at the end. */
char ir_read_peek(ir_reader *r) {
    ir_read_space(r);
    return r->at < r->n ? r->text[r->at] : 0;
}

bool ir_read_accept(ir_reader *r, const char *punct) {
    size_t n = strlen(punct);
    ir_read_space(r);
    if (r->n - r->at < n || memcmp(r->text + r->at, punct, n)) return false;
    r->at += n;
    return true;
}

bool ir_read_expect(ir_reader *r, const char *punct) {
    return ir_read_accept(r, punct) || ir_read_fail(r, "`%s` is expected here", punct);
}

/* An identifier that is in the text. */
bool ir_read_ident(ir_reader *r, const char **s_, size_t *n_) {
    ir_read_space(r);
    size_t i = r->at;
    if (i >= r->n || !ir_is_ident_start(r->text[i])) return false;
    while (i < r->n && ir_is_ident_char(r->text[i])) i++;
    *s_ = r->text + r->at;
    *n_ = i - r->at;
    r->at = i;
    return true;
}

/* Consume a word if it is next. */
bool ir_read_word(ir_reader *r, const char *word) {
    const char *s;
    size_t n;
    size_t at = r->at;
    if (ir_read_ident(r, &s, &n) && n == strlen(word) && !memcmp(s, word, n)) return true;
    r->at = at;
    return false;
}

static int read_hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

/* One character of a string into buf; the backslash was consumed when `escaped`. */
static bool read_string_char(ir_reader *r, char c, bool escaped) {
    if (escaped && c == 'x') {
        int hi = r->n - r->at >= 2 ? read_hex_digit(r->text[r->at]) : -1;
        int lo = hi >= 0 ? read_hex_digit(r->text[r->at + 1]) : -1;
        if (lo < 0 || hi + lo == 0)
            return ir_read_fail(r, "\\x is followed by two hex digits, not 00");
        c = (char)(hi * 16 + lo);
        r->at += 2;
    } else if (escaped) {
        if (c != 'n' && c != 't' && c != '"' && c != '\\')
            return ir_read_fail(r, "the escapes are \\n \\t \\\" \\\\ and \\xHH");
        c = c == 'n' ? '\n' : c == 't' ? '\t' : c;
    }
    rt_str_add(&r->buf, &c, 1);
    return true;
}

/* A quoted string into r->buf. */
bool ir_read_string(ir_reader *r) {
    if (!ir_read_expect(r, "\"")) return false;
    r->buf.n = 0;
    rt_str_add(&r->buf, "", 0);
    for (;;) {
        char c = r->at < r->n ? r->text[r->at] : '\n';
        if (c == '\n' || c == 0) return ir_read_fail(r, "the string does not end on its line");
        r->at++;
        if (c == '"') break;
        bool escaped = c == '\\';
        if (escaped) {
            if (r->at >= r->n) continue;
            c = r->text[r->at++];
        }
        if (!read_string_char(r, c, escaped)) return false;
    }
    return !r->buf.failed || ir_read_no_memory(r);
}

/* An identifier or a quoted string, interned. */
const char *ir_read_symbol(ir_reader *r) {
    const char *s;
    size_t n;
    if (!ir_read_ident(r, &s, &n)) {
        if (ir_read_peek(r) != '"') {
            ir_read_fail(r, "a name is expected here");
            return NULL;
        }
        if (!ir_read_string(r)) return NULL;
        s = rt_str_text(&r->buf);
        n = r->buf.n;
    }
    const char *kept = ir_intern_str(r->m, s, n);
    if (!kept) ir_read_no_memory(r);
    return kept;
}

bool ir_read_is_digit(const ir_reader *r, size_t i) {
    return i < r->n && r->text[i] >= '0' && r->text[i] <= '9';
}

bool ir_read_int(ir_reader *r, int64_t *out_) {
    ir_read_space(r);
    size_t i = r->at;
    bool minus = i < r->n && r->text[i] == '-';
    int64_t x = 0;
    if (minus) i++;
    if (!ir_read_is_digit(r, i)) return ir_read_fail(r, "a whole number is expected here");
    for (; ir_read_is_digit(r, i); i++) { /* negative numbers reach one further */
        int digit = r->text[i] - '0';
        if (__builtin_mul_overflow(x, 10, &x) || __builtin_sub_overflow(x, digit, &x))
            return ir_read_fail(r, "the number does not fit 64 bits");
    }
    if (!minus && x == INT64_MIN) return ir_read_fail(r, "the number does not fit 64 bits");
    r->at = i;
    *out_ = minus ? x : -x;
    return true;
}

bool ir_read_range(ir_reader *r, int64_t lo, int64_t hi, int64_t *out_) {
    if (!ir_read_int(r, out_)) return false;
    if (*out_ >= lo && *out_ <= hi) return true;
    return ir_read_fail(r, "the number must be in %lld..%lld", (long long)lo, (long long)hi);
}

/* --- Dims and types --------------------------------------------------------------------------- */

static bool read_dim_sum(ir_reader *r, int depth, ir_dim *out_);

static bool read_dim_call(ir_reader *r, const char *s, size_t n, int depth, ir_dim *out_) {
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
        if (!ir_read_expect(r, "(") || !read_dim_sum(r, depth + 1, &a) || !ir_read_expect(r, ",") ||
            !read_dim_sum(r, depth + 1, &b) || !ir_read_expect(r, ")"))
            return false;
        *out_ = tab[i].fn(r->m, a, b);
        return true;
    }
    return ir_read_fail(r, "dims know floordiv, mod, min and max, not this function");
}

/* A declared symbol. */
static bool read_dim_symbol(ir_reader *r, const char *s, size_t n, ir_dim *out_) {
    if (r->symbol) return r->symbol(r->user, s, n, out_);
    const char *name = ir_intern_str(r->m, s, n);
    if (!name) return ir_read_no_memory(r);
    for (uint32_t i = 0; i < r->m->symbols.n; i++) {
        const ir_symbol *y = &r->m->symbols.data[i];
        if (y->name != name) continue;
        *out_ = ir_add_symbol(r->m, name, y->lo, y->hi);
        return true;
    }
    return ir_read_fail(r, "the module declares no dim %s (I6)", name);
}

static bool read_dim_factor(ir_reader *r, int depth, ir_dim *out_) {
    const char *s;
    size_t n;
    if (depth > READ_MAX_DIM) return ir_read_fail(r, "the dim is nested too deep");
    if (ir_read_accept(r, "(")) return read_dim_sum(r, depth + 1, out_) && ir_read_expect(r, ")");
    if (ir_read_ident(r, &s, &n))
        return ir_read_peek(r) == '(' ? read_dim_call(r, s, n, depth, out_)
                                      : read_dim_symbol(r, s, n, out_);
    return ir_read_range(r, 0, INT64_MAX, out_);
}

static bool read_dim_product(ir_reader *r, int depth, ir_dim *out_) {
    ir_dim x;
    if (!read_dim_factor(r, depth, out_)) return false;
    for (;;) {
        bool by = ir_read_accept(r, "*");
        if (!by && !ir_read_accept(r, "/")) return true;
        if (!read_dim_factor(r, depth, &x)) return false;
        *out_ = (by ? ir_dim_mul : ir_dim_floordiv)(r->m, *out_, x);
    }
}

/* Terms with plus and with minus are collected apart: a dim is never negative on the way. */
static bool read_dim_sum(ir_reader *r, int depth, ir_dim *out_) {
    ir_dim plus, minus = 0, x;
    if (!read_dim_product(r, depth, &plus)) return false;
    for (;;) {
        bool add = ir_read_accept(r, "+");
        if (!add && !ir_read_accept(r, "-")) break;
        if (!read_dim_product(r, depth, &x)) return false;
        if (add)
            plus = ir_dim_add(r->m, plus, x);
        else
            minus = ir_dim_add(r->m, minus, x);
    }
    *out_ = minus ? ir_dim_sub(r->m, plus, minus) : plus;
    return true;
}

bool ir_read_dim(ir_reader *r, ir_dim *out_) {
    ir_read_space(r);
    size_t at = r->at;
    if (!read_dim_sum(r, 0, out_)) return false;
    if (*out_ != IR_DIM_BAD) return true;
    if (!r->name) return true;
    if (ir_dims_lacked_memory(r->m)) return ir_read_no_memory(r);
    r->tok = at;
    return ir_read_fail(r, "the dim is negative, too large or too complicated");
}

/* `[dim, dim]` after the bracket was read. */
static bool read_dim_list(ir_reader *r, uint8_t *n_, ir_dim *dim) {
    for (*n_ = 0; !ir_read_accept(r, "]"); ++*n_) {
        if (*n_ && !ir_read_expect(r, ",")) return false;
        if (*n_ == IG_MAX_RANK) return ir_read_fail(r, "at most %d dims", IG_MAX_RANK);
        if (!ir_read_dim(r, &dim[*n_])) return false;
    }
    return true;
}

static bool read_dtype(ir_reader *r, uint8_t *out_) {
    const char *s;
    size_t n;
    if (!ir_read_ident(r, &s, &n)) return ir_read_fail(r, "an element type is expected here");
    *out_ = (uint8_t)rt_dtype_find(s, n);
    return *out_ != IG_NONE ||
           ir_read_fail(r, "there is no element type %.*s", n > 40 ? 40 : (int)n, s);
}

bool ir_read_type(ir_reader *r, ir_type *out_) {
    int64_t lanes;
    *out_ = (ir_type){0};
    if (ir_read_word(r, "vec")) {
        if (!ir_read_expect(r, "<") || !ir_read_range(r, 1, UINT8_MAX, &lanes)) return false;
        if (!ir_read_word(r, "x")) return ir_read_fail(r, "`x` is expected here");
        out_->lanes = (uint8_t)lanes;
        return read_dtype(r, &out_->dtype) && ir_read_expect(r, ">");
    }
    if (ir_read_word(r, "mem")) {
        out_->mem = 1;
        return ir_read_expect(r, "<") && read_dtype(r, &out_->dtype) && ir_read_expect(r, ">");
    }
    return read_dtype(r, &out_->dtype) && ir_read_expect(r, "[") &&
           read_dim_list(r, &out_->rank, out_->dim);
}

/* --- Data ------------------------------------------------------------------------------------- */

/* Length of the run of characters that may belong to a number or to true and false. */
static size_t read_element_length(const ir_reader *r) {
    size_t i = r->at;
    while (i < r->n && (ir_is_ident_char(r->text[i]) || r->text[i] == '-' || r->text[i] == '+'))
        i++;
    return i - r->at;
}

static bool read_element(ir_reader *r, ig_dtype dtype, uint8_t *out_) {
    ir_read_space(r);
    size_t n = read_element_length(r);
    if (!n || !ir_parse_element(r->text + r->at, n, dtype, out_))
        return ir_read_fail(r, "an element of type %s is expected here", ig_dtype_name(dtype));
    r->at += n;
    return true;
}

static bool read_elements(ir_reader *r, ig_dtype dtype, uint64_t n, uint8_t *out_) {
    size_t size = rt_dtype_bytes(dtype);
    for (uint64_t i = 0; i < n; i++) {
        if (i ? !ir_read_accept(r, ",") : ir_read_peek(r) == ']')
            return ir_read_fail(r, "the type has %llu elements, the list has %llu",
                                (unsigned long long)n, (unsigned long long)i);
        if (!read_element(r, dtype, out_ + i * size)) return false;
    }
    return ir_read_accept(r, "]") ||
           ir_read_fail(r, "the type has %llu elements, the list has more", (unsigned long long)n);
}

static bool read_hex(ir_reader *r, uint64_t n, uint8_t *out_) {
    for (uint64_t i = 0; i < 2 * n; i++) {
        int x = read_hex_digit(ir_read_peek(r));
        if (x < 0)
            return ir_read_fail(r, "%llu hex digits are expected, there are %llu",
                                (unsigned long long)(2 * n), (unsigned long long)i);
        out_[i / 2] = (uint8_t)(i % 2 ? out_[i / 2] | x : x << 4);
        r->at++;
    }
    return ir_read_expect(r, "}");
}

bool ir_read_data(ir_reader *r, const ir_type *type, bool buffer, ir_data *out_) {
    ir_type t = *type;
    int64_t n;
    size_t bytes, size = rt_dtype_bytes(t.dtype), left;
    if (t.lanes) t.rank = 1, t.dim[0] = t.lanes, t.lanes = 0;
    ir_read_space(r);
    if (!t.dtype || t.mem || !ir_type_bytes(&t, &n, &bytes))
        return ir_read_fail(r, "data needs a type with constant dims before it");
    bool list = ir_read_accept(r, "["), hex = !list && ir_read_accept(r, "hex{");
    bool splat = !list && !hex && ir_read_word(r, "splat");
    if (!list && !hex && !splat) {
        if (ir_read_word(r, "elided"))
            return ir_read_fail(r, "the data was left out of this text when it was printed");
        return ir_read_fail(r, "`[`, `splat` or `hex{` is expected here");
    }
    left = r->n - r->at;
    if (splat && n > IR_INLINE_ELEMENTS)
        return ir_read_fail(r, "splat is for up to %d elements; broadcast a scalar instead",
                            IR_INLINE_ELEMENTS);
    if ((list && (uint64_t)n > left / 2 + 1) || (hex && bytes > left / 2))
        return ir_read_fail(r, "the text ends before %lld elements", (long long)n);
    uint8_t *data = buffer ? rt_alloc_buffer(r->m->alloc, bytes)
                           : rt_arena_alloc(&r->scratch, bytes);
    if (bytes && !data) return ir_read_no_memory(r);
    *out_ = (ir_data){data, bytes};
    if (list) return read_elements(r, t.dtype, (uint64_t)n, data);
    if (hex) return read_hex(r, bytes, data);
    uint64_t first;
    if (!read_element(r, t.dtype, (uint8_t *)&first)) return false;
    if (n) memcpy(data, &first, size);
    for (size_t i = size; i < bytes; i++) data[i] = data[i - size];
    return true;
}

/* --- Attributes ------------------------------------------------------------------------------- */

static bool read_int_list(ir_reader *r, uint8_t *n_, int64_t lo, int64_t hi, int64_t *v) {
    if (!ir_read_expect(r, "[")) return false;
    for (*n_ = 0; !ir_read_accept(r, "]"); ++*n_) {
        if (*n_ && !ir_read_expect(r, ",")) return false;
        if (*n_ == IG_MAX_RANK) return ir_read_fail(r, "at most %d numbers", IG_MAX_RANK);
        if (!ir_read_range(r, lo, hi, &v[*n_])) return false;
    }
    return true;
}

static bool read_axes(ir_reader *r, ir_axes *out_) {
    int64_t v[IG_MAX_RANK];
    if (!read_int_list(r, &out_->n, 0, UINT8_MAX, v)) return false;
    for (int i = 0; i < out_->n; i++) out_->a[i] = (uint8_t)v[i];
    return true;
}

static bool read_places(ir_reader *r, ir_places *out_) {
    if (!ir_read_expect(r, "[")) return false;
    for (out_->n = 0; !ir_read_accept(r, "]"); ++out_->n) {
        if (out_->n && !ir_read_expect(r, ",")) return false;
        if (out_->n == IG_MAX_RANK) return ir_read_fail(r, "at most %d places", IG_MAX_RANK);
        uint8_t kind = IR_PLACE_WS;
        while (kind <= IR_PLACE_IN && !ir_read_word(r, ir_place_names[kind])) kind++;
        if (kind > IR_PLACE_IN)
            return ir_read_fail(r, "`ws`, `out`, `wsrow`, `outrow` or `in` is expected here");
        out_->p[out_->n].kind = kind;
        if (!ir_read_dim(r, &out_->p[out_->n].at)) return false;
    }
    return true;
}

static bool read_ckpt(ir_reader *r, int64_t *out_) {
    for (*out_ = 0; ir_ckpt_names[-*out_]; --*out_)
        if (ir_read_word(r, ir_ckpt_names[-*out_])) return true;
    if (ir_read_word(r, "k"))
        return ir_read_expect(r, "(") && ir_read_range(r, 1, IR_CKPT_MOST, out_) &&
               ir_read_expect(r, ")");
    return ir_read_fail(r, "`auto`, `all`, `sqrt`, `dots` or `k(n)` is expected here");
}

static bool read_rel(ir_reader *r, ir_rel *out_) {
    char msg[256];
    ir_read_space(r);
    size_t at = r->at;
    if (!ir_read_string(r)) return false;
    if (ir_ein_parse(r->m, rt_str_text(&r->buf), r->buf.n, out_, msg, sizeof msg)) return true;
    if (ir_dims_lacked_memory(r->m)) return ir_read_no_memory(r);
    return ir_read_fail_at(r, at, IG_FORMAT, msg);
}

bool ir_read_enum(ir_reader *r, const char *const *names, uint8_t *out_) {
    for (uint8_t i = 0; names && names[i]; i++)
        if (ir_read_word(r, names[i])) {
            *out_ = i;
            return true;
        }
    return ir_read_fail(r, "this is none of the words that may stand here");
}

static bool read_flag(ir_reader *r, uint8_t *out_) {
    static const char *const names[] = {"false", "true", NULL};
    return ir_read_enum(r, names, out_);
}

static bool read_sym(ir_reader *r, const char **out_) {
    return ir_read_expect(r, "@") && (*out_ = ir_read_symbol(r));
}

static bool read_ints(ir_reader *r, ir_ints *out_) {
    return read_int_list(r, &out_->n, INT64_MIN, INT64_MAX, out_->v);
}

static bool read_dims(ir_reader *r, ir_dims *out_) {
    return ir_read_expect(r, "[") && read_dim_list(r, &out_->n, out_->d);
}

/* `type` is the attribute's type field, as far as it was read. */
static bool read_field(ir_reader *r, ir_field_kind kind, void *at, const ir_type *type) {
    switch (kind) {
    case FIELD_int: return ir_read_int(r, at);
    case FIELD_flag: return read_flag(r, at);
    case FIELD_dtype: return read_dtype(r, at);
    case FIELD_dim: return ir_read_dim(r, at);
    case FIELD_dims: return read_dims(r, at);
    case FIELD_axes: return read_axes(r, at);
    case FIELD_ints: return read_ints(r, at);
    case FIELD_sym: return read_sym(r, at);
    case FIELD_type: return ir_read_type(r, at);
    case FIELD_data: return ir_read_data(r, type, false, at);
    case FIELD_rel: return read_rel(r, at);
    case FIELD_places: return read_places(r, at);
    case FIELD_ckpt: return read_ckpt(r, at);
    default: return ir_read_enum(r, ir_enum_names(kind), at);
    }
}

/* Fields `name=value` in any order, each at most once; a missing one is zero. */
bool ir_read_attr(ir_reader *r, ir_attr_kind kind, ir_attr_any *out_) {
    const ir_attr_info *info = &ir_attr_tab[kind];
    ir_type none = {0};
    const ir_type *type = &none;
    uint32_t seen = 0;
    memset(out_, 0, sizeof *out_);
    for (;;) {
        const char *s;
        size_t n, at = r->at;
        uint32_t i = 0;
        if (!ir_read_ident(r, &s, &n) || ir_read_peek(r) != '=') {
            r->at = at;
            return true;
        }
        while (i < info->nfield &&
               (strlen(info->field[i].name) != n || memcmp(info->field[i].name, s, n)))
            i++;
        if (i == info->nfield || seen >> i & 1) {
            r->tok = (size_t)(s - r->text);
            return ir_read_fail(r, i == info->nfield ? "the op has no such field"
                                                     : "the field is given twice");
        }
        seen |= 1u << i;
        void *field = (char *)out_ + info->field[i].offset;
        if (!ir_read_expect(r, "=") || !read_field(r, info->field[i].kind, field, type))
            return false;
        if (info->field[i].kind == FIELD_type) type = field;
    }
}
