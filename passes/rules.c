/* rules.c - the table of algebraic rules, and the patterns they are written in.
 *
 * A rule without a licence keeps every bit for every input: tests/unit/test_rules.c tries each on
 * all 16-bit floats, and on all pairs of 8-bit integers.  A rule with one changes bits somewhere
 * (the test shows where); it is never applied in `exact`, only reported (IG_LOG=licence).
 *
 * Whoever adds a rule: `to` has at most one op more than constants fold away, because an op inside
 * `from` may have other users and stay; and it is smaller or cheaper than `from` by some measure
 * that no other rule undoes. */
#include "passes/simplify.h"

#include <math.h>
#include <string.h>

/* --- Guards ---------------------------------------------------------------------------------- */

/* An integer power of two above 1, as a bit pattern. */
static bool guard_pow2(ig_dtype d, const void *e) {
    uint64_t u = 0;
    memcpy(&u, e, rt_dtype_bytes(d));
    return u > 1 && !(u & (u - 1));
}

/* A power of two whose reciprocal is exact: no fraction bits, and neither end of the range. */
static bool guard_exact_reciprocal(ig_dtype d, const void *e) {
    unsigned bits = 8 * (unsigned)rt_dtype_bytes(d);
    unsigned fraction = d == IG_f16 ? 10 : d == IG_bf16 ? 7 : d == IG_f32 ? 23 : 52;
    uint64_t u = 0, top = (UINT64_C(1) << (bits - 1 - fraction)) - 1;
    memcpy(&u, e, bits / 8);
    uint64_t exponent = u >> fraction & top;
    return !(u & ((UINT64_C(1) << fraction) - 1)) && exponent > 0 && exponent < top - 1;
}

/* --- The table ------------------------------------------------------------------------------- */

const simplify_rule simplify_rules[] = {
    /* signs */
    {"sub_neg", "sub(x,neg(y))", "add(x,y)", "fiu", 0, NULL},
    {"add_neg", "add(x,neg(y))", "sub(x,y)", "fiu", 0, NULL},
    {"mul_neg_neg", "mul(neg(x),neg(y))", "mul(x,y)", "fiu", 0, NULL},
    {"div_neg_neg", "div(neg(x),neg(y))", "div(x,y)", "f", 0, NULL},
    {"square_abs", "mul(abs(x),abs(x))", "mul(x,x)", "fi", 0, NULL},
    {"neg_mul_const", "neg(mul(x,C))", "mul(x,neg(C))", "fiu", 0, NULL},
    {"mul_neg_const", "mul(neg(x),C)", "mul(x,neg(C))", "fiu", 0, NULL},
    {"neg_div_const", "neg(div(x,C))", "div(x,neg(C))", "f", 0, NULL},
    {"neg_const_div", "neg(div(C,x))", "div(neg(C),x)", "f", 0, NULL},
    {"div_neg_const", "div(neg(x),C)", "div(x,neg(C))", "f", 0, NULL},
    {"const_div_neg", "div(C,neg(x))", "div(neg(C),x)", "f", 0, NULL},
    {"lt_neg_neg", "cmp.lt(neg(x),neg(y))", "cmp.lt(y,x)", "f", 0, NULL},
    {"le_neg_neg", "cmp.le(neg(x),neg(y))", "cmp.le(y,x)", "f", 0, NULL},
    {"eq_neg_neg", "cmp.eq(neg(x),neg(y))", "cmp.eq(x,y)", "fiu", 0, NULL},
    {"ne_neg_neg", "cmp.ne(neg(x),neg(y))", "cmp.ne(x,y)", "fiu", 0, NULL},
    {"lt_neg_const", "cmp.lt(neg(x),C)", "cmp.lt(neg(C),x)", "f", 0, NULL},
    {"lt_const_neg", "cmp.lt(C,neg(x))", "cmp.lt(x,neg(C))", "f", 0, NULL},
    {"le_neg_const", "cmp.le(neg(x),C)", "cmp.le(neg(C),x)", "f", 0, NULL},
    {"le_const_neg", "cmp.le(C,neg(x))", "cmp.le(x,neg(C))", "f", 0, NULL},
    /* strength */
    {"div_pow2", "div(x,C)", "mul(x,div(1,C))", "f", 0, guard_exact_reciprocal},
    {"mul_int_pow2", "mul(x,C)", "shift.left(x,bitcount.ctz(C))", "iu", 0, guard_pow2},
    {"div_uint_pow2", "div(x,C)", "shift.right(x,bitcount.ctz(C))", "u", 0, guard_pow2},
    {"rem_uint_pow2", "rem(x,C)", "bit.band(x,sub(C,1))", "u", 0, guard_pow2},
    {"rem_one", "rem(x,1)", "0", "iu", 0, NULL},
    {"rem_zero", "rem(x,0)", "x", "iu", 0, NULL},
    /* constants together */
    {"add_add_const", "add(add(x,C),D)", "add(x,add(C,D))", "iu", 0, NULL},
    {"sub_add_const", "sub(add(x,C),D)", "add(x,sub(C,D))", "iu", 0, NULL},
    {"add_sub_const", "add(sub(x,C),D)", "add(x,sub(D,C))", "iu", 0, NULL},
    {"sub_sub_const", "sub(sub(x,C),D)", "sub(x,add(C,D))", "iu", 0, NULL},
    {"const_sub_add", "sub(C,add(x,D))", "sub(sub(C,D),x)", "iu", 0, NULL},
    {"const_sub_sub", "sub(C,sub(D,x))", "add(x,sub(C,D))", "iu", 0, NULL},
    {"mul_mul_const", "mul(mul(x,C),D)", "mul(x,mul(C,D))", "iu", 0, NULL},
    {"max_max_const", "max(max(x,C),D)", "max(x,max(C,D))", "fiub", 0, NULL},
    {"min_min_const", "min(min(x,C),D)", "min(x,min(C,D))", "fiub", 0, NULL},
    {"and_and_const", "bit.band(bit.band(x,C),D)", "bit.band(x,bit.band(C,D))", "iub", 0, NULL},
    {"or_or_const", "bit.bor(bit.bor(x,C),D)", "bit.bor(x,bit.bor(C,D))", "iub", 0, NULL},
    {"xor_xor_const", "bit.bxor(bit.bxor(x,C),D)", "bit.bxor(x,bit.bxor(C,D))", "iub", 0, NULL},
    /* what cancels */
    {"add_sub", "add(sub(x,y),y)", "x", "iu", 0, NULL},
    {"sub_add", "sub(add(x,y),y)", "x", "iu", 0, NULL},
    {"sub_sub", "sub(x,sub(x,y))", "y", "iu", 0, NULL},
    {"xor_xor", "bit.bxor(bit.bxor(x,y),y)", "x", "iub", 0, NULL},
    {"and_not", "bit.band(x,lnot(x))", "0", "iub", 0, NULL},
    {"or_not", "bit.bor(x,lnot(x))", "lnot(0)", "iub", 0, NULL},
    {"and_or", "bit.band(bit.bor(x,y),x)", "x", "iub", 0, NULL},
    {"or_and", "bit.bor(bit.band(x,y),x)", "x", "iub", 0, NULL},
    {"max_max", "max(max(x,y),x)", "max(x,y)", "fiub", 0, NULL},
    {"min_min", "min(min(x,y),x)", "min(x,y)", "fiub", 0, NULL},
    {"max_min", "max(min(x,y),x)", "x", "iub", 0, NULL},
    {"min_max", "min(max(x,y),x)", "x", "iub", 0, NULL},
    /* conditions */
    {"not_eq", "lnot(cmp.eq(x,y))", "cmp.ne(x,y)", "fiub", 0, NULL},
    {"not_ne", "lnot(cmp.ne(x,y))", "cmp.eq(x,y)", "fiub", 0, NULL},
    {"not_lt", "lnot(cmp.lt(x,y))", "cmp.le(y,x)", "iub", 0, NULL},
    {"not_le", "lnot(cmp.le(x,y))", "cmp.lt(y,x)", "iub", 0, NULL},
    {"select_not", "select(lnot(p),x,y)", "select(p,y,x)", "fiub", 0, NULL},
    {"select_then", "select(p,select(p,x,y),z)", "select(p,x,z)", "fiub", 0, NULL},
    {"select_else", "select(p,z,select(p,x,y))", "select(p,z,y)", "fiub", 0, NULL},
    {"select_lt_min", "select(cmp.lt(x,y),x,y)", "min(x,y)", "iub", 0, NULL},
    {"select_lt_max", "select(cmp.lt(x,y),y,x)", "max(x,y)", "iub", 0, NULL},
    {"select_le_min", "select(cmp.le(x,y),x,y)", "min(x,y)", "iub", 0, NULL},
    {"select_le_max", "select(cmp.le(x,y),y,x)", "max(x,y)", "iub", 0, NULL},
    {"select_eq", "select(cmp.eq(x,y),x,y)", "y", "iub", 0, NULL},
    {"select_ne", "select(cmp.ne(x,y),x,y)", "x", "iub", 0, NULL},

    /* with a licence only */
    {"add_zero", "add(x,0)", "x", "f", NSZ, NULL},
    {"zero_sub", "sub(0,x)", "neg(x)", "f", NSZ, NULL},
    {"neg_sub", "neg(sub(x,y))", "sub(y,x)", "f", NSZ, NULL},
    {"select_eq_float", "select(cmp.eq(x,y),x,y)", "y", "f", NSZ, NULL},
    {"select_ne_float", "select(cmp.ne(x,y),x,y)", "x", "f", NSZ, NULL},
    {"mul_zero", "mul(x,0)", "0", "f", NSZ | NNAN, NULL},
    {"sub_self", "sub(x,x)", "0", "f", NNAN, NULL},
    {"div_self", "div(x,x)", "1", "f", NNAN, NULL},
    {"eq_self", "cmp.eq(x,x)", "true", "f", NNAN, NULL},
    {"ne_self", "cmp.ne(x,x)", "false", "f", NNAN, NULL},
    {"le_self", "cmp.le(x,x)", "true", "f", NNAN, NULL},
    {"max_inf", "max(x,inf)", "inf", "f", NNAN, NULL},
    {"min_inf", "min(x,-inf)", "-inf", "f", NNAN, NULL},
    {"max_min_float", "max(min(x,y),x)", "x", "f", NNAN, NULL},
    {"min_max_float", "min(max(x,y),x)", "x", "f", NNAN, NULL},
    {"not_lt_float", "lnot(cmp.lt(x,y))", "cmp.le(y,x)", "f", NNAN, NULL},
    {"not_le_float", "lnot(cmp.le(x,y))", "cmp.lt(y,x)", "f", NNAN, NULL},
    {"select_min_float", "select(cmp.lt(x,y),x,y)", "min(x,y)", "f", NNAN | NSZ, NULL},
    {"select_max_float", "select(cmp.lt(x,y),y,x)", "max(x,y)", "f", NNAN | NSZ, NULL},
    {"div_const", "div(x,C)", "mul(x,div(1,C))", "f", RECIP, NULL},
    {"mul_add", "add(mul(x,y),z)", "fma(x,y,z)", "f", CONTRACT, NULL},
    {"mul_sub", "sub(mul(x,y),z)", "fma(x,y,neg(z))", "f", CONTRACT, NULL},
    {"add_add_float", "add(add(x,C),D)", "add(x,add(C,D))", "f", REASSOC, NULL},
    {"mul_mul_float", "mul(mul(x,C),D)", "mul(x,mul(C,D))", "f", REASSOC, NULL},
    {"div_div_float", "div(div(x,C),D)", "div(x,mul(C,D))", "f", REASSOC, NULL},
    {"add_sub_float", "add(sub(x,y),y)", "x", "f", REASSOC, NULL},
    {"sub_add_float", "sub(add(x,y),y)", "x", "f", REASSOC, NULL},
    {"factor", "add(mul(x,y),mul(x,z))", "mul(x,add(y,z))", "f", REASSOC, NULL},
    {"sqrt_square", "sqrt(mul(x,x))", "abs(x)", "f", REASSOC, NULL},
    {"square_sqrt", "mul(sqrt(x),sqrt(x))", "x", "f", REASSOC | NNAN, NULL},
    {"log_exp", "log(exp(x))", "x", "f", AFN, NULL},
    {"exp_log", "exp(log(x))", "x", "f", AFN | NNAN, NULL},
    {"pow_half", "pow(x,0.5)", "sqrt(x)", "f", AFN | NINF | NSZ, NULL},
    {"pow_two", "pow(x,2)", "mul(x,x)", "f", AFN, NULL},
    {NULL, NULL, NULL, NULL, 0, NULL}};

void simplify_licence_text(unsigned set, rt_str *out) {
    static const char *const name[] = {"NSZ",      "NNAN",  "NINF", "REASSOC",
                                       "CONTRACT", "RECIP", "AFN"};
    size_t start = out->n;
    for (unsigned k = 0; k < sizeof name / sizeof *name; k++)
        if (set >> k & 1) rt_str_printf(out, "%s%s", out->n > start ? "|" : "", name[k]);
}

/* --- Reading patterns ------------------------------------------------------------------------ */

/* The one enumerated field of an op's attribute, or NULL. */
static const ir_field *pattern_word_field(ir_opcode op) {
    const ir_attr_info *info = &ir_attr_tab[ir_op_tab[op].attr];
    for (uint32_t k = 0; k < info->nfield; k++)
        if (ir_enum_names(info->field[k].kind)) return &info->field[k];
    return NULL;
}

static bool pattern_is_letter(char c, char first, char last) { return c >= first && c <= last; }

/* Length of the run of lower-case letters and digits at s. */
static size_t pattern_name(const char *s) {
    size_t n = 0;
    while (pattern_is_letter(s[n], 'a', 'z') || (n && pattern_is_letter(s[n], '0', '9'))) n++;
    return n;
}

/* Read `.word`; false when the op has no such word. */
static bool pattern_word(const char **s, simplify_node *node) {
    const ir_field *field = pattern_word_field(node->op);
    size_t n = pattern_name(++*s);
    const char *const *names = field ? ir_enum_names(field->kind) : NULL;
    for (int k = 0; names && names[k]; k++)
        if (strlen(names[k]) == n && !memcmp(names[k], *s, n)) {
            node->word = k;
            *s += n;
            return true;
        }
    return false;
}

/* Read `2`, `0.5`, `-0`, `inf`; not by strtod, which follows the user's locale. */
static bool pattern_number(const char **s, double *out_) {
    bool minus = **s == '-';
    const char *digits = *s += minus;
    double v = 0, unit = 1;
    if (!strncmp(*s, "inf", 3)) {
        v = (double)INFINITY;
        *s += 3;
    }
    for (; pattern_is_letter(**s, '0', '9'); ++*s) v = v * 10 + (**s - '0');
    if (**s == '.')
        for (++*s; pattern_is_letter(**s, '0', '9'); ++*s) v += (**s - '0') * (unit /= 10);
    *out_ = minus ? -v : v;
    return *s != digits;
}

/* Read what is not an op. */
static bool pattern_leaf(const char **s, size_t name, simplify_node *node) {
    if (name == 1 || pattern_is_letter(**s, 'A', 'Z')) {
        node->kind = pattern_is_letter(**s, 'A', 'Z') ? NODE_CONST : NODE_ANY;
        node->letter = *(*s)++;
        return true;
    }
    if ((name == 4 && !memcmp(*s, "true", 4)) || (name == 5 && !memcmp(*s, "false", 5))) {
        node->kind = NODE_BOOL;
        node->number = name == 4;
        *s += name;
        return true;
    }
    node->kind = NODE_NUMBER;
    return pattern_number(s, &node->number);
}

/* Read one node and what is under it; its number, or -1.  Depth is that of a text in this file. */
static int pattern_node(const char **s, simplify_pattern *p) {
    if (p->n == SIMPLIFY_NODES) return -1;
    int me = p->n++;
    simplify_node *node = &p->node[me];
    *node = (simplify_node){.word = -1};
    size_t n = pattern_name(*s);
    node->op = n > 1 ? ir_op_find(*s, n) : OP_END;
    if (node->op == OP_END) return pattern_leaf(s, n, node) ? me : -1;
    *s += n;
    if (**s == '.' && !pattern_word(s, node)) return -1;
    if (**s != '(') return -1;
    do {
        if (node->nin == 3) return -1;
        ++*s; /* ( or , */
        if ((node->in[node->nin++] = pattern_node(s, p)) < 0) return -1;
    } while (**s == ',');
    return *(*s)++ == ')' && node->nin == ir_op_tab[node->op].arity ? me : -1;
}

bool simplify_parse(const char *text, simplify_pattern *out_) {
    out_->n = 0;
    return pattern_node(&text, out_) == 0 && !*text;
}

/* --- Matching -------------------------------------------------------------------------------- */

typedef struct pattern_match {
    const ir_func *f;
    const simplify_pattern *p;
    simplify_bind *bind;
    unsigned swaps; /* bit i: the operands of commuting node i are swapped */
} pattern_match;

static bool match_node(const pattern_match *m, int node, ir_ref r);

/* The attribute has the node's word. */
static bool match_word(const simplify_node *node, const void *attr) {
    const ir_field *field = node->word >= 0 ? pattern_word_field(node->op) : NULL;
    return !field || ((const uint8_t *)attr)[field->offset] == node->word;
}

static bool match_operands(const pattern_match *m, int node, int nin, const ir_ref *in) {
    const simplify_node *x = &m->p->node[node];
    bool swap = m->swaps >> node & 1;
    if (nin != x->nin) return false;
    for (int k = 0; k < nin; k++)
        if (!match_node(m, x->in[k], in[swap ? 1 - k : k])) return false;
    return true;
}

static bool match_node(const pattern_match *m, int node, ir_ref r) {
    const simplify_node *x = &m->p->node[node];
    const ir_op *o = ir_def_op(m->f, r);
    ir_ref *slot;
    switch (x->kind) {
    case NODE_OP:
        return o && o->code == x->op && match_word(x, ir_attr_get(m->f->module, o->attr)) &&
               match_operands(m, node, o->nin, &m->f->operands.data[o->in0]);
    case NODE_NUMBER: return ir_is_splat(m->f, r, x->number);
    case NODE_BOOL:
        return ir_val_type(m->f, r)->dtype == IG_bool && ir_is_splat(m->f, r, x->number);
    case NODE_CONST:
        if (!ir_splat(m->f, r)) return false;
        break;
    case NODE_ANY: break;
    }
    slot = &m->bind->of[(unsigned char)x->letter];
    if (slot->i) return slot->i == r.i;
    *slot = r;
    return true;
}

bool simplify_match(const ir_func *f, const simplify_pattern *p, ir_opcode op, const void *attr,
                    int nin, const ir_ref *in, simplify_bind *bind) {
    unsigned commuting = 0;
    if (p->node[0].op != op || !match_word(&p->node[0], attr)) return false;
    for (int k = 0; k < p->n; k++)
        if (p->node[k].kind == NODE_OP && ir_op_tab[p->node[k].op].commutes) commuting |= 1u << k;
    unsigned swaps = 0;
    do { /* every subset of the commuting nodes */
        *bind = (simplify_bind){{{0}}};
        pattern_match m = {f, p, bind, swaps};
        if (match_operands(&m, 0, nin, in)) return true;
        swaps = (swaps - commuting) & commuting;
    } while (swaps);
    return false;
}

bool simplify_admits(const ir_func *f, const simplify_rule *r, const simplify_bind *bind) {
    ig_dtype d = (ig_dtype)ir_val_type(f, bind->of['x'])->dtype;
    if (!strchr(r->types, rt_dtype_tab[d].kind)) return false;
    return !r->guard || r->guard(d, ir_splat(f, bind->of['C']));
}

/* --- Building -------------------------------------------------------------------------------- */

/* A bool in the shape (or lanes) of `like`. */
static ir_ref build_bool(ir_builder *b, ir_ref like, bool v) {
    ir_type t = ir_type_of(b, like);
    uint8_t lane[UINT8_MAX];
    memset(lane, v, sizeof lane);
    t.dtype = IG_bool;
    if (t.lanes) return ir_const(b, t, lane, t.lanes);
    ir_ref scalar = ir_const(b, ir_scalar_type(IG_bool), lane, 1);
    ir_attr_bcast a = {.dims = {.n = t.rank}};
    memcpy(a.dims.d, t.dim, sizeof t.dim);
    return t.rank ? ir_emit1(b, OP_broadcast, &a, scalar) : scalar;
}

static ir_ref build_node(ir_builder *b, const simplify_pattern *p, int node,
                         const simplify_bind *bind, simplify_emit emit, void *user) {
    const simplify_node *x = &p->node[node];
    ir_attr_any attr = {{0}};
    ir_ref in[3];
    switch (x->kind) {
    case NODE_ANY:
    case NODE_CONST: return bind->of[(unsigned char)x->letter];
    case NODE_NUMBER: return ir_const_like(b, bind->of['x'], x->number);
    case NODE_BOOL: return build_bool(b, bind->of['x'], x->number != 0);
    case NODE_OP: break;
    }
    const ir_field *field = x->word >= 0 ? pattern_word_field(x->op) : NULL;
    if (field) ((uint8_t *)&attr)[field->offset] = (uint8_t)x->word;
    for (int k = 0; k < x->nin; k++) in[k] = build_node(b, p, x->in[k], bind, emit, user);
    return emit(user, b, x->op, &attr, x->nin, in);
}

ir_ref simplify_build(ir_builder *b, const simplify_pattern *p, const simplify_bind *bind,
                      simplify_emit emit, void *user) {
    return build_node(b, p, 0, bind, emit, user);
}
