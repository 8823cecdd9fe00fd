/* ein.c - the text of a contraction, its canonical form, and I10.
 *
 *     y[b,o] += x[b,i]*w[i,o] over (i)
 *
 *     relation := access ('+=' | '*=' | 'max=' | 'min=') access {'*' access}
 *                 ['over' '(' [var {',' var}] ')']
 *     access   := name ['[' [var {',' var}] ']']
 *     name, var: letters, digits and '_', not starting with a digit
 *
 * The result is written first; names of tensors mean nothing (operands go by position).  `over`
 * lists the variables that the result lacks, outermost first: it is the order of the sum (numerics
 * rule 6).  Left out, it is the order of first appearance in the operands, from left to right.
 *
 * Canonical form: variables are numbered by first appearance, the result's first, and print as
 * i, j, k ... x (sixteen letters, IR_EIN_VARS); the result prints as y, operands as a, b, c, d;
 * `over` is printed whenever a variable is reduced.  Equal relations have equal text. */
#include "ir/ir.h"
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

/* --- Checking -------------------------------------------------------------------------------- */

IG_PRINTF(3, 4)
static bool ein_wrong(char *msg, size_t size, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, size, fmt, ap);
    va_end(ap);
    return false;
}

/* One access: variables in range, each once; those seen are added to *set. */
static bool ein_check_access(const ir_rel *r, const ir_axes *a, unsigned *set, char *msg,
                             size_t size) {
    unsigned here = 0;
    if (a->n > IG_MAX_RANK)
        return ein_wrong(msg, size, "%d subscripts; the limit is %d", a->n, IG_MAX_RANK);
    for (int i = 0; i < a->n; i++) {
        if (a->a[i] >= r->nvar)
            return ein_wrong(msg, size, "variable number %d of %d", a->a[i], r->nvar);
        if (here >> a->a[i] & 1)
            return ein_wrong(msg, size, "variable %c twice in one access: take the diagonal first",
                             ein_var_name(a->a[i]));
        here |= 1u << a->a[i];
    }
    *set |= here;
    return true;
}

/* Variables are numbered by first appearance, so that equal relations are equal structs. */
static bool ein_is_numbered(const ir_rel *r) {
    unsigned next = 0;
    for (int i = 0; i < r->out.n; i++)
        if (r->out.a[i] == next) next++;
    if (next != r->out.n) return false;
    for (int k = 0; k < r->nin; k++)
        for (int i = 0; i < r->in[k].n; i++) {
            if (r->in[k].a[i] > next) return false;
            if (r->in[k].a[i] == next) next++;
        }
    return next == r->nvar;
}

bool ir_ein_check(const ir_rel *r, char *msg, size_t size) {
    unsigned out = 0, bound = 0, order = 0;
    if (r->monoid >= EIN_NOPS) return ein_wrong(msg, size, "the reduction is +=, *=, max= or min=");
    if (r->nin < 1 || r->nin > IR_EIN_OPERANDS)
        return ein_wrong(msg, size, "%d operands; there are 1 to %d", r->nin, IR_EIN_OPERANDS);
    if (r->nvar > IR_EIN_VARS || r->norder > r->nvar)
        return ein_wrong(msg, size, "%d variables, %d reduced; the limit is %d", r->nvar, r->norder,
                         IR_EIN_VARS);
    if (!ein_check_access(r, &r->out, &out, msg, size)) return false;
    for (int k = 0; k < r->nin; k++)
        if (!ein_check_access(r, &r->in[k], &bound, msg, size)) return false;
    for (unsigned v = 0; v < r->nvar; v++)
        if (!(bound >> v & 1))
            return ein_wrong(msg, size, "variable %c is not a subscript of any operand",
                             ein_var_name(v));
    for (int i = 0; i < r->norder; i++) {
        unsigned v = r->order[i];
        if (v >= r->nvar || out >> v & 1 || order >> v & 1)
            return ein_wrong(msg, size, "`over` lists the reduced variables, each once");
        order |= 1u << v;
    }
    for (unsigned v = 0; v < r->nvar; v++)
        if (!((out | order) >> v & 1))
            return ein_wrong(msg, size, "variable %c is reduced but not listed in `over`",
                             ein_var_name(v));
    if (!ein_is_numbered(r))
        return ein_wrong(msg, size, "variables are not numbered by first appearance");
    return true;
}

/* --- Printing -------------------------------------------------------------------------------- */

static void ein_print_vars(const uint8_t *v, int n, rt_str *out) {
    for (int i = 0; i < n; i++) rt_str_printf(out, i ? ",%c" : "%c", ein_var_name(v[i]));
}

static void ein_print_access(char name, const ir_axes *a, rt_str *out) {
    rt_str_printf(out, "%c[", name);
    ein_print_vars(a->a, a->n, out);
    rt_str_puts(out, "]");
}

void ir_ein_print(const ir_rel *r, rt_str *out) {
    ein_print_access('y', &r->out, out);
    rt_str_printf(out, " %s ", r->monoid < EIN_NOPS ? ein_ops[r->monoid] : "?=");
    for (int k = 0; k < r->nin && k < IR_EIN_OPERANDS; k++) {
        if (k) rt_str_puts(out, "*");
        ein_print_access((char)('a' + k), &r->in[k], out);
    }
    if (!r->norder) return;
    rt_str_puts(out, " over (");
    ein_print_vars(r->order, r->norder, out);
    rt_str_puts(out, ")");
}

/* --- Parsing --------------------------------------------------------------------------------- */

typedef struct ein_word {
    size_t at, n;
} ein_word;

typedef struct ein_parse {
    const char *text;
    size_t n, at;
    ir_rel *rel;
    ein_word var[IR_EIN_VARS]; /* the name of each variable, in the text */
    char *msg;
    size_t size;
} ein_parse;

#define EIN_SHOWN 60 /* characters of a long text that an error shows */

/* An error at a place: the message, the text around it, and a caret under it. */
IG_PRINTF(3, 4)
static bool ein_error(ein_parse *p, size_t at, const char *fmt, ...) {
    char what[128];
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

static void ein_space(ein_parse *p) {
    while (p->at < p->n && memchr(" \t\r\n", p->text[p->at], 4)) p->at++;
}

/* Skip blanks and take these characters when they are next. */
static bool ein_take(ein_parse *p, const char *s) {
    size_t n = strlen(s);
    ein_space(p);
    if (p->n - p->at < n || memcmp(p->text + p->at, s, n)) return false;
    p->at += n;
    return true;
}

static bool ein_is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* Read a name; n is 0 when there is none. */
static ein_word ein_name(ein_parse *p) {
    ein_space(p);
    ein_word w = {p->at, 0};
    while (p->at < p->n) {
        char c = p->text[p->at];
        if (!ein_is_letter(c) && (!w.n || c < '0' || c > '9')) break;
        p->at++;
        w.n++;
    }
    return w;
}

/* The variable of a name; a new one is added.  IR_EIN_VARS after an error. */
static unsigned ein_var(ein_parse *p, bool may_add) {
    ein_word w = ein_name(p);
    if (!w.n) return ein_error(p, w.at, "a variable is expected"), IR_EIN_VARS;
    for (unsigned v = 0; v < p->rel->nvar; v++)
        if (p->var[v].n == w.n && !memcmp(p->text + p->var[v].at, p->text + w.at, w.n)) return v;
    if (!may_add)
        return ein_error(p, w.at, "%.*s is not a subscript of any operand",
                         (int)(w.n < 40 ? w.n : 40), p->text + w.at),
               IR_EIN_VARS;
    if (p->rel->nvar == IR_EIN_VARS)
        return ein_error(p, w.at, "more than %d variables", IR_EIN_VARS), IR_EIN_VARS;
    p->var[p->rel->nvar] = w;
    return p->rel->nvar++;
}

static bool ein_access(ein_parse *p, ir_axes *a) {
    unsigned seen = 0;
    ein_word name = ein_name(p);
    if (!name.n) return ein_error(p, name.at, "a tensor is expected, like x[i,j]");
    if (!ein_take(p, "[") || ein_take(p, "]")) return true;
    do {
        ein_space(p);
        size_t at = p->at;
        unsigned v = ein_var(p, true);
        if (v == IR_EIN_VARS) return false;
        if (seen >> v & 1)
            return ein_error(p, at,
                             "the same variable twice in one access: take the diagonal first");
        if (a->n == IG_MAX_RANK) return ein_error(p, at, "more than %d subscripts", IG_MAX_RANK);
        seen |= 1u << v;
        a->a[a->n++] = (uint8_t)v;
    } while (ein_take(p, ","));
    if (ein_take(p, "]")) return true;
    return ein_error(p, p->at, "`,` or `]` is expected; subscripts are plain variables");
}

/* The list after `over`, or the default order. */
static bool ein_over(ein_parse *p) {
    ir_rel *r = p->rel;
    unsigned listed = 0;
    ein_space(p);
    size_t start = p->at;
    if (!ein_take(p, "over")) {
        for (unsigned v = r->out.n; v < r->nvar; v++) r->order[r->norder++] = (uint8_t)v;
        return true;
    }
    if (!ein_take(p, "(")) return ein_error(p, p->at, "`(` is expected after over");
    if (!ein_take(p, ")")) {
        do {
            ein_space(p);
            size_t at = p->at;
            unsigned v = ein_var(p, false);
            if (v == IR_EIN_VARS) return false;
            if (v < r->out.n)
                return ein_error(p, at, "a subscript of the result is not reduced over");
            if (listed >> v & 1) return ein_error(p, at, "listed twice");
            listed |= 1u << v;
            r->order[r->norder++] = (uint8_t)v;
        } while (ein_take(p, ","));
        if (!ein_take(p, ")")) return ein_error(p, p->at, "`,` or `)` is expected");
    }
    for (unsigned v = r->out.n; v < r->nvar; v++)
        if (!(listed >> v & 1))
            return ein_error(p, start, "`over` does not list %.*s, which the result lacks",
                             (int)(p->var[v].n < 40 ? p->var[v].n : 40), p->text + p->var[v].at);
    return true;
}

static bool ein_relation(ein_parse *p) {
    ir_rel *r = p->rel;
    unsigned op = 0, bound = 0;
    if (!ein_access(p, &r->out)) return false;
    while (op < EIN_NOPS && !ein_take(p, ein_ops[op])) op++;
    if (op == EIN_NOPS) return ein_error(p, p->at, "+=, *=, max= or min= is expected");
    r->monoid = (uint8_t)op;
    do {
        ein_space(p);
        if (r->nin == IR_EIN_OPERANDS)
            return ein_error(p, p->at, "more than %d operands", IR_EIN_OPERANDS);
        if (!ein_access(p, &r->in[r->nin])) return false;
        for (int i = 0; i < r->in[r->nin].n; i++) bound |= 1u << r->in[r->nin].a[i];
        r->nin++;
    } while (ein_take(p, "*"));
    for (unsigned v = 0; v < r->out.n; v++)
        if (!(bound >> v & 1))
            return ein_error(p, p->var[v].at,
                             "not a subscript of any operand: its extent is unknown");
    if (!ein_over(p)) return false;
    ein_space(p);
    if (p->at == p->n) return true;
    return ein_error(p, p->at, "`*`, `over` or the end is expected");
}

bool ir_ein_parse(const char *text, size_t n, ir_rel *out_, char *msg, size_t msg_size) {
    *out_ = (ir_rel){0};
    ein_parse p = {.text = text, .n = n, .rel = out_, .msg = msg, .size = msg_size};
    return ein_relation(&p) && ir_ein_check(out_, msg, msg_size);
}

/* --- Sums of one operand --------------------------------------------------------------------- */

bool ir_ein_is_sum(const ir_rel *r) { return r->nin == 1 && r->monoid == IR_redop_sum; }

/* Append to perm the places of the variables of `want` in `have`; whether anything moves. */
static bool ein_permutation(const ir_axes *have, const ir_axes *want, ir_axes *perm) {
    bool moves = false;
    for (int i = 0; i < want->n; i++)
        for (int k = 0; k < have->n; k++)
            if (have->a[k] == want->a[i]) {
                perm->a[perm->n++] = (uint8_t)k;
                moves |= i != k;
            }
    return moves;
}

/* The reduced axes must lie in the order of the relation; the rest moves after the reduction. */
void ir_ein_sum_steps(const ir_rel *r, ir_ein_steps *s) {
    ir_axes have = r->in[0], kept = {.n = 0};
    int next = 0;
    *s = (ir_ein_steps){.reduce = {.op = IR_redop_sum}};
    for (int i = 0; i < have.n; i++)
        if (have.a[i] >= r->out.n && have.a[i] != r->order[next++]) s->moves_first = true;
    if (s->moves_first) {
        ir_axes want = r->out;
        for (int i = 0; i < r->norder; i++) want.a[want.n++] = r->order[i];
        ein_permutation(&have, &want, &s->first.perm);
        have = want;
    }
    for (int i = 0; i < have.n; i++) {
        if (have.a[i] >= r->out.n)
            s->reduce.axes.a[s->reduce.axes.n++] = (uint8_t)i;
        else
            kept.a[kept.n++] = have.a[i];
    }
    s->moves_last = ein_permutation(&kept, &r->out, &s->last.perm);
}
