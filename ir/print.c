/* print.c - modules as text.
 *
 * docs/ir-text.md is the grammar.  Three promises: every module that ir_verify accepts reads back
 * as the same module (ir_parse) and prints again as the same bytes; nothing is printed from a list
 * of its own (ops, attributes, enums and types come from their tables); and a broken module prints
 * too, because dumps are needed most then: every index is checked before it is followed, and what
 * cannot be named is printed as `%?7`.
 *
 * Values are numbered by their index, which the builder gives in order of definition (I1). */
#include "ir/text.h"
#include "runtime/base/hash.h"
#include <inttypes.h>
#include <string.h>

const char *const ir_place_names[] = {"none", "ws", "out", "wsrow", "outrow", "in"};
const char *const ir_ckpt_names[] = {"auto", "all", "sqrt", "dots", NULL};
const char *const ir_class_names[] = {"fma", "nofma", NULL};
const char *const ir_func_kind_names[] = {"fn", "cluster", "kernel", "host", NULL};

typedef struct printer {
    const ir_module *m;
    const ir_func *f;
    rt_str *s;
    unsigned flags;
    const char **names; /* owned: usable parameter names, one a parameter, or NULL */
    uint32_t nname;
    int depth; /* indentation of the function's header */
} printer;

/* --- Names and data --------------------------------------------------------------------------- */

bool ir_is_ident(const char *s, size_t n) {
    if (!n || !ir_is_ident_start(s[0])) return false;
    for (size_t i = 1; i < n; i++)
        if (!ir_is_ident_char(s[i])) return false;
    return true;
}

void ir_print_quoted(rt_str *out, const char *s, size_t n) {
    rt_str_puts(out, "\"");
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\')
            rt_str_printf(out, "\\%c", c);
        else if (c == '\n')
            rt_str_puts(out, "\\n");
        else if (c == '\t')
            rt_str_puts(out, "\\t");
        else if (c < 32 || c == 127)
            rt_str_printf(out, "\\x%02x", c);
        else
            rt_str_add(out, s + i, 1);
    }
    rt_str_puts(out, "\"");
}

/* Print a name after its sigil, quoted unless it is an identifier. */
static void print_name(rt_str *s, const char *sigil, const char *name) {
    size_t n = name ? strlen(name) : 0;
    rt_str_puts(s, sigil);
    if (ir_is_ident(name, n))
        rt_str_add(s, name, n);
    else
        ir_print_quoted(s, name ? name : "", n);
}

/* Unsigned element i of `size` bytes, little-endian. */
static uint64_t print_bits(const uint8_t *bytes, size_t size, uint64_t i) {
    uint64_t x = 0;
    for (size_t k = 0; k < size; k++) x |= (uint64_t)bytes[i * size + k] << (8 * k);
    return x;
}

static void print_element(rt_str *s, ig_dtype dtype, uint64_t bits) {
    unsigned shift = 64 - 8 * (unsigned)rt_dtype_bytes(dtype);
    uint32_t b32 = (uint32_t)bits;
    float x;
    double y;
    switch (dtype) {
    case IG_f64: memcpy(&y, &bits, sizeof y), rt_str_f64(s, y); break;
    case IG_f32: memcpy(&x, &b32, sizeof x), rt_str_f32(s, x); break;
    case IG_f16: rt_str_f32(s, rt_f16_to_f32((uint16_t)bits)); break;
    case IG_bf16: rt_str_f32(s, rt_bf16_to_f32((uint16_t)bits)); break;
    case IG_bool: rt_str_puts(s, bits ? "true" : "false"); break;
    default:
        if (rt_is_signed(dtype))
            rt_str_printf(s, "%" PRId64, (int64_t)(bits << shift) >> shift);
        else
            rt_str_printf(s, "%" PRIu64, bits);
    }
}

/* Whether the bits are a NaN other than the positive quiet one, or a bool other than 0 and 1. */
static bool print_bits_bad(ig_dtype dtype, uint64_t bits) {
    static const struct {
        uint64_t inf, nan;
    } tab[IG_DTYPE_END] = {
        [IG_f16] = {0x7c00, 0x7e00},
        [IG_bf16] = {0x7f80, 0x7fc0},
        [IG_f32] = {0x7f800000, 0x7fc00000},
        [IG_f64] = {0x7ff0000000000000, 0x7ff8000000000000},
    };
    if (dtype == IG_bool) return bits > 1;
    uint64_t sign = (uint64_t)1 << (8 * rt_dtype_bytes(dtype) - 1);
    return (bits & ~sign) > tab[dtype].inf && bits != tab[dtype].nan;
}

uint64_t ir_data_bad(ig_dtype dtype, const void *bytes, uint64_t n) {
    size_t size = rt_dtype_bytes(dtype);
    if (dtype != IG_bool && !rt_is_float(dtype)) return n;
    for (uint64_t i = 0; i < n; i++)
        if (print_bits_bad(dtype, print_bits(bytes, size, i))) return i;
    return n;
}

/* Print bytes as hex digits in the order of memory, 32 bytes a line when they do not fit one. */
static void print_hex(rt_str *s, const uint8_t *bytes, uint64_t n) {
    static const char digit[] = "0123456789abcdef";
    rt_str_puts(s, "hex{");
    for (uint64_t i = 0; i < n; i += 32) {
        char line[65];
        size_t k = 0;
        if (n > 32) line[k++] = '\n';
        for (uint64_t j = i; j < n && j < i + 32; j++) {
            line[k++] = digit[bytes[j] >> 4];
            line[k++] = digit[bytes[j] & 15];
        }
        rt_str_add(s, line, k);
    }
    rt_str_puts(s, n > 32 ? "\n}" : "}");
}

void ir_print_data(ig_dtype dtype, const void *bytes, uint64_t n, rt_str *out, unsigned flags) {
    size_t size = rt_dtype_bytes(dtype);
    if (n > IR_INLINE_ELEMENTS && (flags & IR_PRINT_ELIDE)) {
        rt_str_puts(out, "elided");
        return;
    }
    if (n > IR_INLINE_ELEMENTS || ir_data_bad(dtype, bytes, n) < n) {
        print_hex(out, bytes, n * size);
        return;
    }
    if (n > 1 && !memcmp(bytes, (const uint8_t *)bytes + size, (n - 1) * size)) {
        rt_str_puts(out, "splat ");
        print_element(out, dtype, print_bits(bytes, size, 0));
        return;
    }
    rt_str_puts(out, "[");
    for (uint64_t i = 0; i < n; i++) {
        if (i) rt_str_puts(out, ", ");
        print_element(out, dtype, print_bits(bytes, size, i));
    }
    rt_str_puts(out, "]");
}

/* --- Attributes ------------------------------------------------------------------------------- */

static void print_enum(rt_str *s, const char *const *names, unsigned x) {
    unsigned n = 0;
    while (names[n]) n++;
    if (x < n)
        rt_str_puts(s, names[x]);
    else
        rt_str_printf(s, "?%u", x);
}

static void print_dtype(rt_str *s, unsigned x) {
    rt_str_puts(s, x > IG_NONE && x < IG_DTYPE_END ? rt_dtype_tab[x].name : "none");
}

static void print_dims(const printer *p, const ir_dims *d) {
    rt_str_puts(p->s, "[");
    for (unsigned i = 0; i < d->n && i < IG_MAX_RANK; i++) {
        if (i) rt_str_puts(p->s, ",");
        ir_dim_print(p->m, d->d[i], p->s);
    }
    rt_str_puts(p->s, "]");
}

static void print_ints(const printer *p, const ir_ints *v) {
    rt_str_puts(p->s, "[");
    for (unsigned i = 0; i < v->n && i < IG_MAX_RANK; i++)
        rt_str_printf(p->s, "%s%" PRId64, i ? "," : "", v->v[i]);
    rt_str_puts(p->s, "]");
}

static void print_axes(const printer *p, const ir_axes *v) {
    rt_str_puts(p->s, "[");
    for (unsigned i = 0; i < v->n && i < IG_MAX_RANK; i++)
        rt_str_printf(p->s, "%s%u", i ? "," : "", v->a[i]);
    rt_str_puts(p->s, "]");
}

static void print_places(const printer *p, const ir_places *v) {
    rt_str_puts(p->s, "[");
    for (unsigned i = 0; i < v->n && i < IG_MAX_RANK; i++) {
        rt_str_puts(p->s, i ? ", " : "");
        rt_str_printf(p->s, "%s ",
                      ir_place_names[v->p[i].kind <= IR_PLACE_IN ? v->p[i].kind : 0]);
        ir_dim_print(p->m, v->p[i].at, p->s);
    }
    rt_str_puts(p->s, "]");
}

static void print_ckpt(rt_str *s, int64_t v) {
    if (v > 0)
        rt_str_printf(s, "k(%" PRId64 ")", v);
    else
        rt_str_puts(s, ir_ckpt_names[v <= 0 && ir_ckpt_is_valid(v) ? -v : 0]);
}

/* The relation in quotes, or its raw numbers when it is malformed and has no text. */
static void print_rel(const printer *p, const ir_rel *rel) {
    char msg[160];
    rt_str_puts(p->s, "\"");
    if (ir_ein_check(rel, msg, sizeof msg))
        ir_ein_print(p->m, rel, p->s);
    else
        rt_str_puts(p->s, "?");
    rt_str_puts(p->s, "\"");
}

/* `type` is the attribute's type field seen so far: it gives the elements of a data field. */
static void print_field(const printer *p, const ir_field *fd, const void *at, const ir_type *type) {
    uint8_t u8 = *(const uint8_t *)at;
    int64_t i64;
    const ir_data *data;
    const char *sym;
    size_t size;
    switch (fd->kind) {
    case FIELD_int: memcpy(&i64, at, sizeof i64), rt_str_printf(p->s, "%" PRId64, i64); break;
    case FIELD_flag: rt_str_puts(p->s, u8 ? "true" : "false"); break;
    case FIELD_dtype: print_dtype(p->s, u8); break;
    case FIELD_dim: memcpy(&i64, at, sizeof i64), ir_dim_print(p->m, i64, p->s); break;
    case FIELD_dims: print_dims(p, at); break;
    case FIELD_axes: print_axes(p, at); break;
    case FIELD_ints: print_ints(p, at); break;
    case FIELD_sym: memcpy(&sym, at, sizeof sym), print_name(p->s, "@", sym); break;
    case FIELD_type: ir_type_print(p->m, at, p->s); break;
    case FIELD_rel: print_rel(p, at); break;
    case FIELD_places: print_places(p, at); break;
    case FIELD_ckpt: memcpy(&i64, at, sizeof i64), print_ckpt(p->s, i64); break;
    case FIELD_data:
        data = at;
        size = type && type->dtype < IG_DTYPE_END ? rt_dtype_bytes(type->dtype) : 0;
        if (size && data->n % size == 0)
            ir_print_data(type->dtype, data->bytes, data->n / size, p->s, p->flags);
        else
            print_hex(p->s, data->bytes, data->n);
        break;
    default: print_enum(p->s, ir_enum_names(fd->kind), u8);
    }
}

static void print_attr(const printer *p, ir_attr attr) {
    const char *base = ir_attr_get(p->m, attr);
    const ir_attr_info *info = &ir_attr_tab[ir_attr_kind_of(p->m, attr)];
    const ir_type *type = NULL;
    for (uint32_t i = 0; i < info->nfield; i++) {
        const ir_field *fd = &info->field[i];
        const void *at = base + fd->offset;
        if (ir_field_is_absent(fd, at)) continue;
        rt_str_printf(p->s, " %s=", fd->name);
        print_field(p, fd, at, type);
        if (fd->kind == FIELD_type) type = at;
    }
}

/* --- Functions -------------------------------------------------------------------------------- */

/* Collect the parameter names that are set and unique; without memory the output is marked
 * failed. */
static void print_param_names(printer *p) {
    const ir_func *f = p->f;
    uint32_t n = f->param_names.n, cap = 4;
    p->names = NULL;
    p->nname = 0;
    if (!n) return;
    while (cap < n * 2) cap *= 2;
    size_t size = (size_t)cap * sizeof(uint32_t);
    uint32_t *set = rt_alloc_zero(p->s->alloc, size);
    p->names = rt_alloc_zero(p->s->alloc, (size_t)n * sizeof *p->names);
    if (!set || !p->names) {
        p->s->failed = true;
        rt_free(p->s->alloc, set, size);
        return;
    }
    p->nname = n;
    for (uint32_t i = 0; i < n; i++) { /* names are interned: equal names are equal pointers */
        const char *name = f->param_names.data[i];
        if (!name || !name[0]) continue;
        uint32_t h = (uint32_t)rt_hash_mix(0, (uintptr_t)name) & (cap - 1);
        while (set[h] && f->param_names.data[set[h] - 1] != name) h = (h + 1) & (cap - 1);
        if (set[h]) {
            p->names[set[h] - 1] = NULL;
        } else {
            set[h] = i + 1;
            p->names[i] = name;
        }
    }
    rt_free(p->s->alloc, set, size);
}

static void print_begin(printer *p, const ir_func *f, rt_str *out, unsigned flags, int depth) {
    *p = (printer){.m = f->module, .f = f, .s = out, .flags = flags, .depth = depth};
    print_param_names(p);
}

static void print_end(printer *p) {
    if (p->names) rt_free(p->s->alloc, p->names, (size_t)p->f->param_names.n * sizeof *p->names);
}

static void print_ref(const printer *p, uint32_t v) {
    const ir_region *body = p->f->regions.n ? &p->f->regions.data[0] : NULL;
    if (v == 0 || v >= p->f->values.n) {
        rt_str_printf(p->s, "%%?%u", v);
        return;
    }
    if (body && v >= body->param0 && v - body->param0 < body->nparam) {
        uint32_t k = v - body->param0;
        if (k < p->nname && p->names[k]) {
            print_name(p->s, "%", p->names[k]);
            return;
        }
    }
    rt_str_printf(p->s, "%%%u", v);
}

static void print_indent(const printer *p, int n) {
    for (int i = 0; i < n; i++) rt_str_puts(p->s, "  ");
}

/* The type with a number that may be broken. */
static void print_type(const printer *p, uint32_t type) {
    if (type < p->m->types.n)
        ir_type_print(p->m, p->m->types.data[type], p->s);
    else
        rt_str_puts(p->s, "?");
}

static void print_value_type(const printer *p, uint32_t v) {
    print_type(p, v < p->f->values.n ? p->f->values.data[v].type : UINT32_MAX);
}

static void print_params(const printer *p, const ir_region *r) {
    rt_str_puts(p->s, "(");
    uint32_t n = r->nparam < p->f->values.n ? r->nparam : p->f->values.n;
    for (uint32_t i = 0; i < n; i++) {
        if (i) rt_str_puts(p->s, ", ");
        print_ref(p, r->param0 + i);
        rt_str_puts(p->s, ": ");
        print_value_type(p, r->param0 + i);
    }
    rt_str_puts(p->s, ")");
}

/* Print one op without its regions and without a newline. */
static void print_head(const printer *p, const ir_op *o) {
    for (uint32_t i = 0; i < o->nout; i++) {
        if (i) rt_str_puts(p->s, ", ");
        print_ref(p, o->out0 + i);
    }
    if (o->nout) rt_str_puts(p->s, " = ");
    rt_str_puts(p->s, o->code < OP_END ? ir_op_tab[o->code].name : "?");
    for (uint32_t i = 0; i < o->nin; i++) {
        bool known = (uint64_t)o->in0 + i < p->f->operands.n;
        rt_str_puts(p->s, i ? ", " : " ");
        print_ref(p, known ? p->f->operands.data[o->in0 + i].i : 0);
    }
    print_attr(p, o->attr);
    for (uint32_t i = 0; i < o->nout; i++) {
        rt_str_puts(p->s, i ? ", " : " : ");
        print_value_type(p, o->out0 + i);
    }
    ir_loc_rec loc = ir_loc_get(p->m, o->loc);
    if ((p->flags & IR_PRINT_LOCS) && loc.file) {
        rt_str_puts(p->s, " at ");
        ir_print_quoted(p->s, loc.file, strlen(loc.file));
        rt_str_printf(p->s, ":%u", loc.line);
    }
}

/* Open region k of op o if there is one: `(params) {`. */
static bool print_open(const printer *p, const ir_op *o, uint32_t k) {
    if (k >= o->nregion || (uint64_t)o->region0 + k >= p->f->regions.n) return false;
    const ir_region *r = &p->f->regions.data[o->region0 + k];
    rt_str_puts(p->s, " ");
    if (r->nparam) {
        print_params(p, r);
        rt_str_puts(p->s, " ");
    }
    rt_str_puts(p->s, "{\n");
    return true;
}

/* Print the ops [first, end) with the regions among them, one a line. */
static void print_ops(const printer *p, uint32_t first, uint32_t end, int depth) {
    struct {
        const ir_op *op;
        uint32_t k;
    } open[IR_MAX_NEST];
    int n = 0;
    if (end > p->f->ops.n) end = p->f->ops.n;
    for (uint32_t i = first; i < end; i++) {
        const ir_op *o = &p->f->ops.data[i];
        print_indent(p, depth + n);
        print_head(p, o);
        if (o->nregion && n < IR_MAX_NEST && print_open(p, o, 0)) {
            open[n].op = o;
            open[n++].k = 0;
        } else {
            rt_str_puts(p->s, "\n");
        }
        while (n && p->f->regions.data[open[n - 1].op->region0 + open[n - 1].k].end <= i + 1) {
            print_indent(p, depth + n - 1);
            rt_str_puts(p->s, "}");
            if (!print_open(p, open[n - 1].op, ++open[n - 1].k)) {
                rt_str_puts(p->s, "\n");
                n--;
            }
        }
    }
    while (n-- > 0) { /* only in a broken function: close what it left open */
        print_indent(p, depth + n);
        rt_str_puts(p->s, "}\n");
    }
}

/* The op after o and everything inside it. */
static uint32_t print_op_end(const ir_func *f, uint32_t o) {
    const ir_op *op = &f->ops.data[o];
    uint64_t last = (uint64_t)op->region0 + op->nregion;
    return op->nregion && last <= f->regions.n && f->regions.data[last - 1].end > o
               ? f->regions.data[last - 1].end
               : o + 1;
}

static void print_func(const printer *p) {
    const ir_func *f = p->f;
    print_indent(p, p->depth);
    print_enum(p->s, ir_func_kind_names, f->kind);
    print_name(p->s, " @", f->name);
    if (f->regions.n)
        print_params(p, &f->regions.data[0]);
    else
        rt_str_puts(p->s, "()");
    rt_str_puts(p->s, " -> (");
    for (uint32_t i = 0; i < f->results.n; i++) {
        if (i) rt_str_puts(p->s, ", ");
        print_type(p, f->results.data[i]);
    }
    rt_str_puts(p->s, ") {\n");
    print_ops(p, 0, f->ops.n, p->depth + 1);
    print_indent(p, p->depth);
    rt_str_puts(p->s, "}\n");
}

void ir_print_func(const ir_func *f, rt_str *out, unsigned flags) {
    printer p;
    print_begin(&p, f, out, flags, 0);
    print_func(&p);
    print_end(&p);
}

void ir_print_op(const ir_func *f, uint32_t o, rt_str *out, unsigned flags) {
    printer p;
    if (o >= f->ops.n) return;
    print_begin(&p, f, out, flags, 0);
    print_ops(&p, o, print_op_end(f, o), 0);
    print_end(&p);
}

/* --- Modules ---------------------------------------------------------------------------------- */

static void print_weight(const printer *p, const ir_weight *w) {
    size_t size = w->type.dtype < IG_DTYPE_END ? rt_dtype_bytes(w->type.dtype) : 0;
    print_name(p->s, "  weight @", w->name);
    rt_str_puts(p->s, " : ");
    ir_type_print(p->m, &w->type, p->s);
    rt_str_puts(p->s, " = ");
    if (size && w->bytes % size == 0)
        ir_print_data(w->type.dtype, w->data, w->bytes / size, p->s, p->flags);
    else
        print_hex(p->s, w->data, w->bytes);
    rt_str_puts(p->s, "\n");
}

void ir_print(const ir_module *m, rt_str *out, unsigned flags) {
    printer p = {.m = m, .s = out, .flags = flags};
    print_name(out, "module ", m->name);
    rt_str_puts(out, " class ");
    print_enum(out, ir_class_names, m->class);
    rt_str_printf(out, " state %u%s {\n", m->nstate, m->unchecked ? " unchecked" : "");
    for (uint32_t i = 0; i < m->symbols.n; i++) {
        const ir_symbol *y = &m->symbols.data[i];
        print_name(out, "  dim ", y->name);
        rt_str_printf(out, " in %" PRId64 "..%" PRId64 "\n", y->lo, y->hi);
    }
    for (uint32_t i = 0; i < m->weights.n; i++) print_weight(&p, &m->weights.data[i]);
    for (uint32_t i = 0; i < m->funcs.n; i++) {
        print_begin(&p, m->funcs.data[i], out, flags, 1);
        print_func(&p);
        print_end(&p);
    }
    rt_str_puts(out, "}\n");
}
