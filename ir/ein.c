/* ein.c - the text of a relation.
 *
 *     y[b,o] += x[b,i]*w[i,o] over (i)
 *     y[n,i,o] += x[n,2*i+r-1,c]*w[r,c,o] over (r,c) where i in 0..16
 *
 *     relation := access ('+=' | '*=' | 'max=' | 'min=' | '=') access {'*' access}
 *                 ['over' '(' [var {',' var}] ')'] ['where' clause {',' clause}]
 *     access   := name ['[' [sub {',' sub}] ']']
 *     sub      := (sum | access) [':' name]
 *     sum      := ['-'] term {('+' | '-') term}
 *     term     := int ['*' var] | var ['*' int]
 *     clause   := var 'in' '0' '..' dim | var '=' name '[' [sub {',' sub}] ']'
 *               | sum ('=' | '<=' | '>=' | '<' | '>') sum
 *     name, var: letters, digits and '_', not starting with a digit
 *
 * The result is written first, its subscripts plain variables; names of tensors mean nothing:
 * operands are those of the product from left to right, then the indices (accesses that stand in
 * place of a subscript, or give a variable) from left to right.  A subscript that is not a variable
 * of its own is a new variable and an equation.  '=' is '+=' of a relation that sums nothing.
 * `x[i:N]` calls the extent of an axis N, for ranges; text that stands in a module has its symbols
 * instead, and leaves no extent out.
 *
 * `over` lists the variables that are summed, outermost first: it is the order of the sum (numerics
 * rule 6).  Left out, it is the order of first appearance in the text, of those that equations do
 * not determine.
 *
 * Canonical form: variables are numbered by first appearance, the result's first, and print as
 * i, j, k ... x (sixteen letters, IR_EIN_VARS); the result prints as y, operands as a, b, c, d;
 * subscripts are variables, ranges stand before constraints and those before indices.  Equal
 * relations have equal text. */
#include "ir/ein.h"
#include "ir/read.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const ein_ops[] = {[IR_redop_sum] = "+=",
                                      [IR_redop_prod] = "*=",
                                      [IR_redop_max] = "max=",
                                      [IR_redop_min] = "min="};
#define EIN_NOPS (sizeof ein_ops / sizeof *ein_ops)

static char ein_var_name(unsigned v) { return (char)('i' + v); }
_Static_assert('i' + IR_EIN_VARS - 1 < 'y', "a variable would print as the result");

/* --- Printing -------------------------------------------------------------------------------- */

static void ein_print_vars(const uint8_t *v, int n, rt_str *out) {
    for (int i = 0; i < n; i++) rt_str_printf(out, i ? ",%c" : "%c", ein_var_name(v[i]));
}

static void ein_print_access(char name, const ir_axes *a, rt_str *out) {
    rt_str_printf(out, "%c[", name);
    ein_print_vars(a->a, a->n, out);
    rt_str_puts(out, "]");
}

/* The terms of one sign, with a plus between them. */
static void ein_print_side(const ir_ein_con *c, int sign, rt_str *out) {
    bool some = false;
    for (unsigned v = 0; v < IR_EIN_VARS; v++) {
        int by = c->c[v] * sign;
        if (by <= 0) continue;
        if (some) rt_str_puts(out, "+");
        if (by > 1) rt_str_printf(out, "%d*", by);
        rt_str_printf(out, "%c", ein_var_name(v));
        some = true;
    }
    if (c->c0 * sign > 0 || !some)
        rt_str_printf(out, some ? "+%lld" : "%lld",
                      c->c0 * sign > 0 ? (long long)c->c0 * sign : 0LL);
}

static void ein_print_where(const ir_module *m, const ir_rel *r, rt_str *out) {
    const char *before = " where ";
    for (unsigned v = 0; v < r->nvar && v < IR_EIN_VARS; v++) {
        if (!(r->given >> v & 1)) continue;
        rt_str_printf(out, "%s%c in 0..", before, ein_var_name(v));
        ir_dim_print(m, r->extent[v], out);
        before = ", ";
    }
    for (int i = 0; i < r->ncon && i < IR_EIN_CONSTRAINTS; i++) {
        rt_str_puts(out, before);
        ein_print_side(&r->con[i], 1, out);
        rt_str_puts(out, r->con[i].least ? " >= " : " = ");
        ein_print_side(&r->con[i], -1, out);
        before = ", ";
    }
    for (int k = 0; k < r->nin && k < IR_EIN_OPERANDS; k++) {
        if (!r->look[k]) continue;
        rt_str_printf(out, "%s%c = ", before, ein_var_name(r->look[k] - 1u));
        ein_print_access((char)('a' + k), &r->in[k], out);
        before = ", ";
    }
}

void ir_ein_print(const ir_module *m, const ir_rel *r, rt_str *out) {
    ein_print_access('y', &r->out, out);
    rt_str_printf(out, " %s ", r->monoid < EIN_NOPS ? ein_ops[r->monoid] : "?=");
    for (int k = 0; k < r->nin && k < IR_EIN_OPERANDS && !r->look[k]; k++) {
        if (k) rt_str_puts(out, "*");
        ein_print_access((char)('a' + k), &r->in[k], out);
    }
    if (r->norder) {
        rt_str_puts(out, " over (");
        ein_print_vars(r->order, r->norder, out);
        rt_str_puts(out, ")");
    }
    ein_print_where(m, r, out);
}

/* --- Words ----------------------------------------------------------------------------------- */

#define EIN_SHOWN 60 /* characters of a long text that an error shows */

bool ein_error(ein_text *p, size_t at, const char *fmt, ...) {
    char what[256];
    size_t from = p->n > EIN_SHOWN && at > EIN_SHOWN / 2 ? at - EIN_SHOWN / 2 : 0;
    size_t n = p->n - from < EIN_SHOWN ? p->n - from : EIN_SHOWN;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    char shown[EIN_SHOWN + 1];
    for (size_t i = 0; i < n; i++) {
        char c = p->text[from + i];
        shown[i] = c >= ' ' && c <= '~' ? c : ' ';
    }
    shown[n] = 0;
    snprintf(p->msg, p->size, "%s\n    %s\n    %*s^", what, shown, (int)(at - from), "");
    return false;
}

static void ein_space(ein_text *p) {
    while (p->at < p->n && memchr(" \t\r\n", p->text[p->at], 4)) p->at++;
}

/* Skip blanks and take these characters when they are next. */
static bool ein_take(ein_text *p, const char *s) {
    size_t n = strlen(s);
    ein_space(p);
    if (p->n - p->at < n || memcmp(p->text + p->at, s, n)) return false;
    p->at += n;
    return true;
}

static bool ein_is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
static bool ein_is_digit(char c) { return c >= '0' && c <= '9'; }

/* Read a name; n is 0 when there is none. */
static ein_word ein_name(ein_text *p) {
    ein_space(p);
    ein_word w = {p->at, 0};
    while (p->at < p->n) {
        char c = p->text[p->at];
        if (!ein_is_letter(c) && (!w.n || !ein_is_digit(c))) break;
        p->at++;
        w.n++;
    }
    return w;
}

/* Take this word when it is next. */
static bool ein_take_word(ein_text *p, const char *word) {
    size_t at = p->at;
    ein_word w = ein_name(p);
    if (w.n == strlen(word) && !memcmp(p->text + w.at, word, w.n)) return true;
    p->at = at;
    return false;
}

/* A number up to IR_EIN_FAR. */
static bool ein_int(ein_text *p, int64_t *out_) {
    ein_space(p);
    size_t at = p->at;
    *out_ = 0;
    while (p->at < p->n && ein_is_digit(p->text[p->at])) {
        *out_ = *out_ * 10 + (p->text[p->at++] - '0');
        if (*out_ > IR_EIN_FAR) return ein_error(p, at, "the number is too large");
    }
    return p->at > at;
}

/* --- Dims ------------------------------------------------------------------------------------ */

/* The extent that a name stands for. */
static bool ein_symbol(void *user, const char *s, size_t n, ir_dim *out_) {
    ein_text *p = user;
    if (p->dry) return *out_ = 1, true;
    if (p->dims && ein_find_size(p, s, n, out_)) return true;
    for (uint32_t i = 0; p->m && i < p->m->symbols.n; i++) {
        const ir_symbol y = p->m->symbols.data[i];
        if (strlen(y.name) != n || memcmp(y.name, s, n)) continue;
        *out_ = ir_add_symbol(p->m, y.name, y.lo, y.hi);
        return true;
    }
    return ein_error(p, (size_t)(s - p->text), "no extent is called %.*s%s", (int)(n < 40 ? n : 40),
                     s, p->dims ? ": name that of an axis, like x[i:N]" : " (I6)");
}

bool ein_dim(ein_text *p, ir_dim *out_) {
    ir_reader r = {
        .text = p->text, .n = p->n, .at = p->at, .m = p->m, .symbol = ein_symbol, .user = p};
    p->msg[0] = 0;
    if (!ir_read_dim(&r, out_))
        return p->msg[0] ? false : ein_error(p, r.at, "the end of the range is no extent");
    if (*out_ == IR_DIM_BAD && !p->dry)
        return ein_error(p, p->at, "the end of the range is negative or too large");
    p->at = r.at;
    return true;
}

/* --- Variables and sums ---------------------------------------------------------------------- */

/* A new variable. */
static bool ein_new_var(ein_text *p, size_t at, ein_word name, unsigned *out_) {
    if (p->rel->nvar == IR_EIN_VARS) return ein_error(p, at, "more than %d variables", IR_EIN_VARS);
    p->var[p->rel->nvar] = name;
    *out_ = p->rel->nvar++;
    return true;
}

/* The variable of a name, a new one if need be. */
static bool ein_var_of(ein_text *p, ein_word w, unsigned *out_) {
    if (!w.n) return ein_error(p, w.at, "a variable is expected");
    for (unsigned v = 0; v < p->rel->nvar; v++)
        if (p->var[v].n == w.n && !memcmp(p->text + p->var[v].at, p->text + w.at, w.n)) {
            *out_ = v;
            return true;
        }
    return ein_new_var(p, w.at, w, out_);
}

/* Add `by` times a variable (or, v < 0, one) to a sum. */
static bool ein_add(ein_text *p, size_t at, ir_ein_con *sum, int v, int64_t by) {
    int64_t r = by + (v < 0 ? sum->c0 : sum->c[v]), most = v < 0 ? IR_EIN_FAR : IR_EIN_COEF;
    if (r > most || r < -most) return ein_error(p, at, "the number is too large");
    if (v < 0)
        sum->c0 = r;
    else
        sum->c[v] = (int16_t)r;
    return true;
}

static bool ein_term(ein_text *p, ir_ein_con *sum, int sign) {
    int64_t by = 1;
    unsigned v;
    ein_space(p);
    size_t at = p->at;
    if (p->at < p->n && ein_is_digit(p->text[p->at])) {
        if (!ein_int(p, &by)) return false;
        if (!ein_take(p, "*")) return ein_add(p, at, sum, -1, sign * by);
        return ein_var_of(p, ein_name(p), &v) && ein_add(p, at, sum, (int)v, sign * by);
    }
    if (!ein_var_of(p, ein_name(p), &v)) return false;
    if (ein_take(p, "*") && !ein_int(p, &by)) return ein_error(p, p->at, "a number is expected");
    return ein_add(p, at, sum, (int)v, sign * by);
}

/* Add `sign` times the sum that is next. */
static bool ein_sum(ein_text *p, ir_ein_con *sum, int sign) {
    int s = ein_take(p, "-") ? -sign : sign;
    for (;;) {
        if (!ein_term(p, sum, s)) return false;
        if (ein_take(p, "+"))
            s = sign;
        else if (ein_take(p, "-"))
            s = -sign;
        else
            return true;
    }
}

static ir_ein_con *ein_new_con(ein_text *p, size_t at) {
    if (p->rel->ncon < IR_EIN_CONSTRAINTS) return &p->rel->con[p->rel->ncon++];
    ein_error(p, at, "more than %d equations and inequalities", IR_EIN_CONSTRAINTS);
    return NULL;
}

/* --- Accesses -------------------------------------------------------------------------------- */

static bool ein_subs(ein_text *p, ein_operand *o);

/* `name[subs]` as an index, behind the name; look is the variable that it gives. */
static bool ein_index(ein_text *p, ein_word name, unsigned look) {
    if (p->nfactor + p->nindex >= IR_EIN_OPERANDS)
        return ein_error(p, name.at, "more than %d operands", IR_EIN_OPERANDS);
    ein_operand *o = &p->index[p->nindex++];
    *o = (ein_operand){.name = name, .look = (uint8_t)(look + 1)};
    return ein_subs(p, o);
}

/* The one variable of a sum that is no more than it, or IR_EIN_VARS. */
static unsigned ein_alone(const ir_ein_con *sum) {
    unsigned found = IR_EIN_VARS;
    for (unsigned v = 0; v < IR_EIN_VARS; v++) {
        if (!sum->c[v]) continue;
        if (found < IR_EIN_VARS || sum->c[v] != 1) return IR_EIN_VARS;
        found = v;
    }
    return sum->c0 ? IR_EIN_VARS : found;
}

/* One subscript: a variable of its own, or a new one that equals it. */
static bool ein_sub(ein_text *p, const ein_operand *o, unsigned *v_) {
    ir_ein_con sum = {0}, *con;
    size_t at = p->at;
    ein_word name = ein_name(p);
    bool seen = false;
    if (name.n && ein_take(p, "[")) {
        p->at--;
        return ein_new_var(p, at, (ein_word){0}, v_) && ein_index(p, name, *v_);
    }
    p->at = at;
    if (!ein_sum(p, &sum, 1)) return false;
    *v_ = ein_alone(&sum);
    for (int i = 0; i < o->a.n; i++) seen |= o->a.a[i] == *v_;
    if (*v_ < IR_EIN_VARS && !seen) return true;
    if (!(con = ein_new_con(p, at)) || !ein_new_var(p, at, (ein_word){0}, v_)) return false;
    *con = sum;
    con->c[*v_] = -1;
    p->made[con - p->rel->con] = (uint8_t)(*v_ + 1);
    return true;
}

/* The list of subscripts of an operand, brackets included. */
static bool ein_subs(ein_text *p, ein_operand *o) {
    if (!ein_take(p, "[") || ein_take(p, "]")) return true;
    do {
        unsigned v = 0;
        ein_space(p);
        if (o->a.n == IG_MAX_RANK)
            return ein_error(p, p->at, "more than %d subscripts", IG_MAX_RANK);
        o->at[o->a.n] = p->at;
        if (!ein_sub(p, o, &v)) return false;
        if (ein_take(p, ":")) {
            size_t at = p->at;
            o->size[o->a.n] = ein_name(p);
            if (!p->dims || !o->size[o->a.n].n)
                return ein_error(p, at,
                                 p->dims ? "a name for the extent is expected"
                                         : "extents have the names of the module's dims");
        }
        o->a.a[o->a.n++] = (uint8_t)v;
    } while (ein_take(p, ","));
    return ein_take(p, "]") || ein_error(p, p->at, "`,` or `]` is expected");
}

/* The result: plain variables. */
static bool ein_result(ein_text *p) {
    ir_axes *a = &p->rel->out;
    ein_word name = ein_name(p);
    if (!name.n) return ein_error(p, name.at, "a tensor is expected, like x[i,j]");
    if (!ein_take(p, "[") || ein_take(p, "]")) return true;
    do {
        unsigned v;
        ein_space(p);
        size_t at = p->at;
        if (!ein_var_of(p, ein_name(p), &v)) return false;
        for (int i = 0; i < a->n; i++)
            if (a->a[i] == v) return ein_error(p, at, "twice in the result: which one is meant?");
        if (a->n == IG_MAX_RANK) return ein_error(p, at, "more than %d subscripts", IG_MAX_RANK);
        a->a[a->n++] = (uint8_t)v;
    } while (ein_take(p, ","));
    return ein_take(p, "]") ||
           ein_error(p, p->at, "`,` or `]` is expected; the result has plain variables");
}

/* The factors. */
static bool ein_product(ein_text *p) {
    do {
        ein_word name = ein_name(p);
        if (p->nfactor + p->nindex >= IR_EIN_OPERANDS)
            return ein_error(p, name.at, "more than %d operands", IR_EIN_OPERANDS);
        if (!name.n) return ein_error(p, name.at, "a tensor is expected, like x[i,j]");
        ein_operand *o = &p->factor[p->nfactor++];
        *o = (ein_operand){.name = name};
        if (!ein_subs(p, o)) return false;
    } while (ein_take(p, "*"));
    return true;
}

/* --- Clauses --------------------------------------------------------------------------------- */

static bool ein_over(ein_text *p) {
    ir_rel *r = p->rel;
    uint32_t listed = 0;
    if (!ein_take(p, "(")) return ein_error(p, p->at, "`(` is expected after over");
    if (ein_take(p, ")")) return true;
    do {
        unsigned v;
        ein_space(p);
        size_t at = p->at;
        if (!ein_var_of(p, ein_name(p), &v)) return false;
        for (int i = 0; i < r->out.n; i++)
            if (r->out.a[i] == v)
                return ein_error(p, at, "a subscript of the result is not reduced over");
        if (listed >> v & 1) return ein_error(p, at, "listed twice");
        listed |= UINT32_C(1) << v;
        r->order[r->norder++] = (uint8_t)v;
    } while (ein_take(p, ","));
    return ein_take(p, ")") || ein_error(p, p->at, "`,` or `)` is expected");
}

/* `0..dim` of variable v. */
static bool ein_range(ein_text *p, unsigned v) {
    int64_t from;
    ein_space(p);
    size_t at = p->at;
    if (!ein_int(p, &from) || from) return ein_error(p, at, "ranges begin at 0");
    if (!ein_take(p, "..")) return ein_error(p, p->at, "`..` is expected");
    if (p->range[v]) return ein_error(p, at, "the range is given twice");
    p->range[v] = p->at;
    return ein_dim(p, &(ir_dim){0});
}

static bool ein_compare(ein_text *p) {
    static const struct {
        const char *text;
        int8_t left, plus;
        uint8_t least;
    } tab[] = {
        {"=", 1, 0, 0}, {"<=", -1, 0, 1}, {">=", 1, 0, 1}, {"<", -1, -1, 1}, {">", 1, -1, 1}};
    ir_ein_con left = {0};
    ein_space(p);
    size_t at = p->at, i = 0;
    if (!ein_sum(p, &left, 1)) return false;
    while (i < 5 && !ein_take(p, tab[i].text)) i++;
    if (i == 5) return ein_error(p, p->at, "`in`, =, <, <=, > or >= is expected");
    ir_ein_con sum = {.least = tab[i].least}, *con;
    for (unsigned v = 0; v < IR_EIN_VARS; v++) sum.c[v] = (int16_t)(left.c[v] * tab[i].left);
    sum.c0 = left.c0 * tab[i].left;
    if (!ein_sum(p, &sum, -tab[i].left) || !ein_add(p, at, &sum, -1, tab[i].plus)) return false;
    if (!(con = ein_new_con(p, at))) return false;
    *con = sum;
    for (unsigned v = 0; v < IR_EIN_VARS; v++)
        if (sum.c[v]) return true;
    return ein_error(p, at, "no variable is left of this");
}

static bool ein_clause(ein_text *p) {
    unsigned v;
    ein_space(p);
    size_t at = p->at;
    ein_word name = ein_name(p);
    if (name.n && ein_take_word(p, "in")) return ein_var_of(p, name, &v) && ein_range(p, v);
    if (name.n && ein_take(p, "=")) {
        ein_word index = ein_name(p);
        if (index.n && ein_take(p, "[")) {
            p->at--;
            return ein_var_of(p, name, &v) && ein_index(p, index, v);
        }
    }
    p->at = at;
    return ein_compare(p);
}

static bool ein_where(ein_text *p) {
    if (!ein_take_word(p, "where")) return true;
    do {
        if (!ein_clause(p)) return false;
    } while (ein_take(p, ","));
    return true;
}

/* --- The whole ------------------------------------------------------------------------------- */

/* Operands into the relation; the default order; whether what is listed is what has to be. */
static bool ein_complete(ein_text *p, bool listed, size_t at) {
    ir_rel *r = p->rel;
    ir_ein_plan plan;
    uint8_t want[IR_EIN_VARS];
    int n = 0;
    for (int k = 0; k < p->nfactor + p->nindex; k++) {
        r->in[k] = ein_operand_at(p, k)->a;
        r->look[k] = ein_operand_at(p, k)->look;
    }
    r->nin = (uint8_t)(p->nfactor + p->nindex);
    for (uint8_t v = 0; v < r->nvar; v++)
        if (p->var[v].n) want[n++] = v;
    if (!listed) ir_ein_list_order(r, n, want);
    ir_ein_meet_all(r, &plan);
    for (unsigned v = 0; v < r->nvar; v++)
        if (!(plan.known >> v & 1) && p->var[v].n)
            return ein_error(p, at, "`over` does not list %.*s, which the result lacks",
                             ein_shown(p->var[v]), p->text + p->var[v].at);
    for (int i = 0; i < plan.n; i++)
        for (int j = 0; j < r->norder; j++)
            if (plan.step[i].meet <= IR_EIN_LOOK && plan.step[i].var == r->order[j])
                return ein_error(p, p->var[r->order[j]].at,
                                 "determined by what is known before it: `over` does not list it");
    return true;
}

static bool ein_relation(ein_text *p) {
    ir_rel *r = p->rel;
    unsigned op = 0;
    if (!ein_result(p)) return false;
    while (op < EIN_NOPS && !ein_take(p, ein_ops[op])) op++;
    bool plain = op == EIN_NOPS && ein_take(p, "=");
    if (op == EIN_NOPS && !plain) return ein_error(p, p->at, "+=, *=, max= or min= is expected");
    r->monoid = (uint8_t)(plain ? IR_redop_sum : op);
    if (!ein_product(p)) return false;
    ein_space(p);
    size_t at = p->at;
    bool listed = ein_take_word(p, "over");
    if (listed && !ein_over(p)) return false;
    if (!ein_where(p)) return false;
    ein_space(p);
    if (p->at != p->n) return ein_error(p, p->at, "`*`, `over`, `where` or the end is expected");
    if (!ein_complete(p, listed, at)) return false;
    if (plain && r->norder)
        return ein_error(p, p->var[r->order[0]].at, "`=` sums nothing: write += to sum over this");
    return true;
}

static bool ein_read(ein_text *p) {
    *p->rel = (ir_rel){0};
    p->dry = true;
    if (!ein_relation(p)) return false;
    p->dry = false;
    if (!ein_give_extents(p)) return false;
    ir_ein_number(p->rel);
    return ir_ein_check(p->rel, p->msg, p->size);
}

bool ir_ein_parse(ir_module *m, const char *text, size_t n, ir_rel *out_, char *msg, size_t size) {
    ein_text p = {.m = m, .text = text, .n = n, .rel = out_, .msg = msg, .size = size};
    return ein_read(&p);
}

bool ir_ein_parse_for(ir_module *m, const char *text, size_t n, int nin, const ir_dims *dims,
                      ir_rel *out_, char *msg, size_t size) {
    ein_text p = {.m = m, .text = text, .n = n, .rel = out_, .msg = msg, .size = size};
    p.dims = dims;
    p.ngiven = nin;
    return ein_read(&p);
}
