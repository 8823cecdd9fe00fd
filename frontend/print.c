/* print.c - tensors as text, laid out as numpy does: 8 digits, shortest where fewer are exact,
 * columns aligned, lines of 75, and beyond 1000 elements only 3 at each edge.
 *
 * Two walks over the elements shown: the first measures (how many digits, positional or
 * scientific), the second prints.  Both recurse over the axes, of which there are at most
 * IG_MAX_RANK. */
#include "frontend/fe.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PRINT_WIDTH  75
#define PRINT_MANY   1000
#define PRINT_EDGE   3
#define PRINT_DIGITS 8

/* A finite number as 0.d1d2d3... * 10^point; no trailing zeros. */
typedef struct print_digits {
    char d[40];
    int n, point;
    bool negative;
} print_digits;

typedef struct print_state {
    const ig_tensor *t;
    bool edges, scientific, special; /* special: a NaN or infinity is shown */
    double least, most;              /* magnitudes of the finite numbers shown, without 0 */
    int left, right, exponent;       /* width before the point, after it, digits of the exponent */
    rt_str out, line;
    int skip; /* columns of the line that are in the output already */
    char word[96];
} print_state;

/* --- Digits -------------------------------------------------------------------------------- */

/* Whether a decimal text reads back as the element it came from. */
static bool print_reads_back(ig_dtype d, const char *text, double x) {
    if (d == IG_f64) return strtod(text, NULL) == x;
    if (d == IG_f32) return (double)strtof(text, NULL) == x;
    double y = strtod(text, NULL);
    return (d == IG_f16 ? rt_f16_to_f32(rt_f64_to_f16(y)) : rt_bf16_to_f32(rt_f64_to_bf16(y))) ==
           (float)x;
}

/* Take the digits out of `d.ddde+xx`, whatever the point looks like. */
static void print_parse(const char *text, print_digits *r) {
    const char *e = strchr(text, 'e');
    r->n = 0;
    r->negative = *text == '-';
    for (const char *p = text; p < e; p++)
        if (*p >= '0' && *p <= '9') r->d[r->n++] = *p;
    r->point = atoi(e + 1) + 1;
    while (r->n && r->d[r->n - 1] == '0') r->n--;
    if (!r->n) r->point = 1;
}

/* Round to `frac` digits after the point. */
static void print_round(double x, int frac, print_digits *r) {
    char text[400];
    snprintf(text, sizeof text, "%.*f", frac, x);
    bool any = false;
    int before = 0, n = 0;
    const char *end = text + strlen(text) - frac;
    for (const char *p = text; *p; p++) {
        if (*p < '0' || *p > '9' || n >= (int)sizeof r->d) continue;
        if (!any && *p == '0') {
            if (p >= end) before--;
            continue;
        }
        any = true;
        if (p < end) before++;
        r->d[n++] = *p;
    }
    r->n = n;
    r->point = any ? before : 1;
    while (r->n && r->d[r->n - 1] == '0') r->n--;
}

/* The shortest digits of an element, at most PRINT_DIGITS after the point. */
static void print_find_digits(const print_state *s, double x, print_digits *r) {
    char text[64];
    for (int p = 0; p <= 17; p++) {
        snprintf(text, sizeof text, "%.*e", p, x);
        if (print_reads_back((ig_dtype)s->t->dtype, text, x)) break;
    }
    print_parse(text, r);
    if (s->scientific && r->n - 1 > PRINT_DIGITS) {
        snprintf(text, sizeof text, "%.*e", PRINT_DIGITS, x);
        print_parse(text, r);
    } else if (!s->scientific && r->n - r->point > PRINT_DIGITS) {
        print_round(x, PRINT_DIGITS, r);
    }
    r->negative = signbit(x) != 0;
}

/* --- Elements ------------------------------------------------------------------------------ */

static bool print_is_float(const print_state *s) { return rt_is_float((ig_dtype)s->t->dtype); }

/* Text of an integer or bool element. */
static int print_int(const print_state *s, int64_t k, char *out, size_t n) {
    int64_t i = s->t->dtype == IG_u64 ? 0 : fe_get_i64(s->t, k);
    if (s->t->dtype == IG_bool) return snprintf(out, n, "%s", i ? "True" : "False");
    if (s->t->dtype == IG_u64)
        return snprintf(out, n, "%llu", (unsigned long long)((const uint64_t *)s->t->buf->data)[k]);
    return snprintf(out, n, "%lld", (long long)i);
}

static void print_measure_range(print_state *s, int64_t k) {
    double x = fabs(fe_get_f64(s->t, k));
    if (!isfinite(x))
        s->special = true;
    else if (x > 0) {
        s->least = s->least < x && s->least > 0 ? s->least : x;
        s->most = s->most > x ? s->most : x;
    }
}

static int print_max(int a, int b) { return a > b ? a : b; }

static void print_measure(print_state *s, int64_t k) {
    print_digits r;
    if (!print_is_float(s)) {
        s->left = print_max(s->left, print_int(s, k, s->word, sizeof s->word));
        if (s->t->dtype == IG_bool) s->left = 5;
        return;
    }
    double x = fe_get_f64(s->t, k);
    if (!isfinite(x)) return;
    print_find_digits(s, x, &r);
    if (s->scientific) {
        int e = abs(r.n ? r.point - 1 : 0);
        s->left = print_max(s->left, 1 + r.negative);
        s->right = print_max(s->right, r.n - 1);
        s->exponent = print_max(s->exponent, e >= 100 ? 3 : 2);
    } else {
        s->left = print_max(s->left, print_max(1, r.point) + r.negative);
        s->right = print_max(s->right, r.n - r.point);
    }
}

/* The word of a finite float: sign, digits, point, digits, spaces or zeros, exponent. */
static void print_float(print_state *s, double x) {
    print_digits r;
    char *p = s->word;
    print_find_digits(s, x, &r);
    int point = s->scientific ? 1 : r.point, whole = print_max(1, point);
    for (int i = s->left - whole - r.negative; i > 0; i--) *p++ = ' ';
    if (r.negative) *p++ = '-';
    if (point <= 0 || !r.n) *p++ = '0';
    for (int i = 0; i < point && r.n; i++) *p++ = i < r.n ? r.d[i] : '0';
    *p++ = '.';
    for (int i = 0; i < s->right; i++) {
        int at = (r.n ? point : 0) + i;
        bool shown = at < r.n || s->scientific;
        *p++ = !shown ? ' ' : at >= 0 && at < r.n ? r.d[at] : '0';
    }
    if (s->scientific) {
        int e = r.n ? r.point - 1 : 0;
        snprintf(p, 8, "e%c%0*d", e < 0 ? '-' : '+', s->exponent, abs(e));
    } else {
        *p = 0;
    }
}

static void print_word(print_state *s, int64_t k) {
    char text[40];
    double x;
    if (!print_is_float(s)) {
        print_int(s, k, text, sizeof text);
        snprintf(s->word, sizeof s->word, "%*s", s->left, text);
    } else if (isfinite(x = fe_get_f64(s->t, k))) {
        print_float(s, x);
    } else {
        int width = s->left + 1 + s->right + (s->scientific ? 2 + s->exponent : 0);
        snprintf(s->word, sizeof s->word, "%*s", width, isnan(x) ? "nan" : x < 0 ? "-inf" : "inf");
    }
}

/* --- Layout -------------------------------------------------------------------------------- */

/* The number of entries of an axis shown at each side; 0 sides: all. */
static bool print_has_gap(const print_state *s, int axis) {
    return s->edges && s->t->dim[axis] > 2 * PRINT_EDGE;
}

/* Visit the elements shown. */
static void print_visit(print_state *s, int axis, int64_t at,
                        void (*visit)(print_state *, int64_t)) {
    if (axis == s->t->rank) {
        visit(s, at);
        return;
    }
    int64_t n = s->t->dim[axis];
    for (int64_t i = 0; i < n; i++) {
        if (print_has_gap(s, axis) && i == PRINT_EDGE) i = n - PRINT_EDGE;
        print_visit(s, axis + 1, at * n + i, visit);
    }
}

static void print_spaces(rt_str *s, int n) {
    for (int i = 0; i < n; i++) rt_str_add(s, " ", 1);
}

/* End the line; of the first one the indent is in the output already. */
static void print_flush(print_state *s) {
    size_t from = (size_t)s->skip < s->line.n ? (size_t)s->skip : s->line.n;
    rt_str_add(&s->out, s->line.data + from, s->line.n - from);
    s->line.n = 0;
    s->skip = 0;
}

/* Add a word to the line, on a new line when it does not fit. */
static void print_add(print_state *s, const char *word, int width, int indent) {
    if ((int)(s->line.n + strlen(word)) > width && (int)s->line.n > indent) {
        while (s->line.n && s->line.data[s->line.n - 1] == ' ') s->line.n--;
        print_flush(s);
        rt_str_add(&s->out, "\n", 1);
        print_spaces(&s->line, indent);
    }
    rt_str_puts(&s->line, word);
}

/* The last axis: a line, wrapped, that begins after `indent` columns. */
static void print_row(print_state *s, int64_t at, int indent, int width) {
    int64_t n = s->t->dim[s->t->rank - 1];
    s->line.n = 0;
    s->skip = indent;
    print_spaces(&s->line, indent);
    for (int64_t i = 0; i < n; i++) {
        if (print_has_gap(s, s->t->rank - 1) && i == PRINT_EDGE) {
            print_add(s, "...", width - 1, indent);
            rt_str_add(&s->line, " ", 1);
            i = n - PRINT_EDGE;
        }
        print_word(s, at * n + i);
        print_add(s, s->word, width - 1, indent);
        if (i < n - 1) rt_str_add(&s->line, " ", 1);
    }
    print_flush(s);
}

/* One axis and what is inside it, after `indent` columns that were written already. */
static void print_axis(print_state *s, int axis, int64_t at, int indent, int width) {
    int64_t n = s->t->dim[axis];
    int inner = s->t->rank - axis - 1;
    rt_str_add(&s->out, "[", 1);
    if (!inner) print_row(s, at, indent + 1, width);
    for (int64_t i = 0; inner && i < n; i++) {
        if (i) {
            for (int k = 0; k < inner; k++) rt_str_add(&s->out, "\n", 1);
            print_spaces(&s->out, indent + 1);
        }
        if (print_has_gap(s, axis) && i == PRINT_EDGE) {
            rt_str_puts(&s->out, "...");
            i = n - PRINT_EDGE - 1;
            continue;
        }
        print_axis(s, axis + 1, at * n + i, indent + 1, width - 1);
    }
    rt_str_add(&s->out, "]", 1);
}

static void print_scalar(print_state *s) {
    if (s->t->dtype == IG_f64)
        rt_str_f64(&s->out, fe_get_f64(s->t, 0));
    else if (s->t->dtype == IG_f32)
        rt_str_f32(&s->out, (float)fe_get_f64(s->t, 0));
    else {
        print_visit(s, 0, 0, print_measure_range);
        print_visit(s, 0, 0, print_measure);
        print_word(s, 0);
        rt_str_puts(&s->out, s->word + (s->t->dtype == IG_bool && s->word[0] == ' '));
    }
}

/* The text of a readable tensor into s->out. */
static void print_tensor(print_state *s) {
    int64_t n = fe_numel(s->t);
    s->edges = n > PRINT_MANY;
    if (!s->t->rank) {
        print_scalar(s);
    } else if (!n) {
        rt_str_puts(&s->out, "[]");
    } else {
        if (print_is_float(s)) {
            print_visit(s, 0, 0, print_measure_range);
            s->scientific = s->most > 0 &&
                            (s->most >= 1e8 || s->least < 1e-4 || s->most / s->least > 1000);
        }
        print_visit(s, 0, 0, print_measure);
        if (s->special) { /* room for -inf, as numpy: nan and inf count 3 columns, signs one more */
            int tail = 1 + s->right + (s->scientific ? 2 + s->exponent : 0);
            s->left = print_max(s->left, 4 - tail);
        }
        print_axis(s, 0, 0, 0, PRINT_WIDTH);
    }
}

static ig_status print_text(fe_call *c, ig_tensor *t, char **text_) {
    *text_ = NULL;
    RT_TRY(fe_readable(c, t));
    print_state s = {.t = t};
    rt_str_init(&s.out, fe_alloc(c));
    rt_str_init(&s.line, fe_alloc(c));
    print_tensor(&s);
    if (!s.out.failed && !s.line.failed) *text_ = fe_text_new(fe_alloc(c), s.out.data, s.out.n);
    rt_str_free(&s.out);
    rt_str_free(&s.line);
    return *text_ ? NULL : fe_status(c, rt_fail_memory());
}

ig_status ig_text_at(const ig_site *site, ig_tensor *t, char **text_) {
    fe_call c;
    *text_ = NULL;
    RT_TRY(fe_enter_status(&c, site, "text"));
    ig_status e = print_text(&c, t, text_);
    fe_exit(&c);
    return e;
}

void ig_print_at(const ig_site *site, ig_tensor *t) {
    FE_ENTER_OR(site, "print", );
    char *text;
    ig_status e = print_text(c, t, &text);
    if (!e) puts(text);
    if (e && !c->s->error)
        fe_error_status(c, e);
    else
        ig_status_free(e);
    ig_text_free(text);
    fe_exit(c);
}
