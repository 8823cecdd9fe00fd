/* test_ein.c - the text of contractions: grammar, default order, canonical form, carets, I10. */
#include "ir/ir.h"
#include "tests/unit/suite.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char msg[384];

/* Canonical text of a relation, or the message. */
static const char *canon(const char *text) {
    static char out[512];
    ir_rel r;
    if (!ir_ein_parse(NULL, text, strlen(text), &r, msg, sizeof msg)) return msg;
    rt_str s;
    rt_str_init(&s, ig_allocator_default());
    ir_ein_print(NULL, &r, &s);
    snprintf(out, sizeof out, "%s", rt_str_text(&s));
    rt_str_free(&s);
    return out;
}

START_TEST(canonical_text) {
    static const char *const pair[][2] = {
        {"y[b,o] += x[b,i]*w[i,o] over (i)", "y[i,j] += a[i,k]*b[k,j] over (k)"},
        {"y[b,o] += x[b,i] * w[i,o]", "y[i,j] += a[i,k]*b[k,j] over (k)"},
        {" out [ row ]max=m[row , col]", "y[i] max= a[i,j] over (j)"},
        {"s[] += u[i]*v[i]", "y[] += a[i]*b[i] over (i)"},
        {"s *= u[i]", "y[] *= a[i] over (i)"},
        {"t[i,j] min= u*v[j,i]", "y[i,j] min= a[]*b[j,i]"},
        {"y[a] += p[a,b,c]*q[c,b] over (c,b)", "y[i] += a[i,j,k]*b[k,j] over (k,j)"},
        {"y[a] += p[a,b,c]*q[c,b] over(b,c)", "y[i] += a[i,j,k]*b[k,j] over (j,k)"},
        {"y[a] += p[a,b,c]*q[c,b]", "y[i] += a[i,j,k]*b[k,j] over (j,k)"},
        {"y[i,j] += x[i]*x[j] over ()", "y[i,j] += a[i]*b[j]"},
        {"o[n,h] += a[n]*b[h]*c[n,h]*d[q]", "y[i,j] += a[i]*b[j]*c[i,j]*d[k] over (k)"},
        {"overt[over] += over[over]", "y[i] += a[i]"},
        {"y[i] = x[i]", "y[i] += a[i]"},
        {"o[i,d] = t[n[i],d]", "y[i,j] += a[k,j] where k = b[i]"},
        {"y[n,i,o] += x[n,2*i+r-1,c]*w[r,c,o] over (r,c) where i in 0..16",
         "y[i,j,k] += a[i,l,m]*b[n,m,k] over (n,m) where j in 0..16, 2*j+n = l+1"},
        {"y[i] max= x[i*3+r] where r in 0..2, i in 0..7",
         "y[i] max= a[j] over (k) where i in 0..7, k in 0..2, 3*i+k = j"},
        {"t[] += x[i,i]", "y[] += a[i,j] over (i) where i = j"},
        {"y[i] += x[i,2]*w[i-2*j] where j in 0..9",
         "y[i] += a[i,j]*b[k] over (l) where l in 0..9, j = 2, i = k+2*l"},
        {"y[i,j] += x[i]*z[j] where i <= j, 3 > i, i-j < 2",
         "y[i,j] += a[i]*b[j] where j >= i, 2 >= i, j+1 >= i"},
        {"h[v] += x[n] where v in 0..10, v = i[n]",
         "y[i] += a[j] over (j) where i in 0..10, i = b[j]"},
        {"y[n] += x[i[n+1]]*z[n]", "y[i] += a[j]*b[i] where i+1 = k, j = c[k]"},
        {"y[] += x[a,b,c,d,e,f,g,h]*z[i,j,k,l,m,n,o,p]",
         "y[] += a[i,j,k,l,m,n,o,p]*b[q,r,s,t,u,v,w,x] over (i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x)"},
    };
    for (size_t k = 0; k < sizeof pair / sizeof *pair; k++) {
        ck_assert_str_eq(canon(pair[k][0]), pair[k][1]);
        ck_assert_str_eq(canon(pair[k][1]), pair[k][1]); /* printing is a fixed point */
    }
}
END_TEST

START_TEST(numbering) {
    ir_rel r;
    const char *t = "y[b,o] += x[b,i]*w[i,o]";
    ck_assert(ir_ein_parse(NULL, t, strlen(t), &r, msg, sizeof msg));
    ck_assert(r.nvar == 3 && r.nin == 2 && r.norder == 1 && r.order[0] == 2);
    ck_assert(r.monoid == IR_redop_sum && r.out.n == 2 && r.in[1].a[0] == 2 && r.in[1].a[1] == 1);
}
END_TEST

/* Each error names what is wrong, and its caret stands under the place. */
START_TEST(carets) {
    static const struct {
        const char *text, *part;
        int column;
    } bad[] = {
        {"", "a tensor is expected", 0},
        {"y[i]", "+=, *=, max= or min=", 4},
        {"y[i] = x[i]*z[j]", "`=` sums nothing", 14},
        {"y[i] == x[i]", "a tensor is expected", 6},
        {"y[i] += ", "a tensor is expected", 8},
        {"y[i] += x[i+1]", "the extent of i is unknown", 2},
        {"y[i] += x[2]", "the extent of i is unknown", 2},
        {"y[i+1] += x[i]", "`,` or `]`", 3},
        {"y[i] += x[i*j]", "a number is expected", 12},
        {"y[i] += x[40000*i]", "too large", 10},
        {"y[i] += x[99999999999999999999]", "too large", 10},
        {"y[i] += x[i:N]", "the names of the module's dims", 12},
        {"y[i] += x[i] where i in 0..4", "axis 0 of x (operand 0)", 27},
        {"y[i] += x[j] where i in 1..4", "ranges begin at 0", 24},
        {"y[i] += x[j] where i in 0..2-4", "is negative", 27},
        {"y[i] += x[j] where i in 0..+", "no extent", 27},
        {"y[i] += x[j] where i in 0..N", "no extent is called N", 27},
        {"y[i] += x[j] where i in 0..4, i in 0..4", "given twice", 35},
        {"y[i] += x[i] where i", "`in`, =, <", 20},
        {"y[i] += x[i] where i = i", "no variable is left", 19},
        {"y[i] += x[i] where j = 1", "the extent of j is unknown", 19},
        {"y[i] += x[i] where i = n[", "a variable is expected", 25},
        {"y[i] += x[a[b[c[d[i]]]]]", "more than 4 operands", 16},
        {"y[i] += x[j]*z[i] over (j) where j = i", "determined by what is known", 10},
        {"y[i] += x[1+i,1+i,1+i]*z[1+i,1+i,1+i]*w[1+i,1+i,1+i]", "more than 8 equations", 48},
        {"y[i] += x[i,]", "a variable is expected", 12},
        {"y[i] += x[i", "`,` or `]`", 11},
        {"y[i,k] += x[i]", "the extent of k is unknown", 4},
        {"y[i,i] += x[i]", "twice in the result", 4},
        {"y[i] += x[i,j] over (k)", "does not list j", 15},
        {"y[i] += x[i] over (k)", "the extent of k is unknown", 19},
        {"y[i] += x[i,j] over (i)", "a subscript of the result", 21},
        {"y[i] += x[i,j] over (j,j)", "listed twice", 23},
        {"y[i] += x[i,j] over ()", "does not list j", 15},
        {"y[i] += x[i,j] over j", "`(` is expected", 20},
        {"y[i] += x[i,j] over (j", "`,` or `)`", 22},
        {"y[i] += x[i,j] over (j) z", "the end is expected", 24},
        {"y[i] += x[i] + z[i]", "the end is expected", 13},
        {"y[i] += a[i]*b[i]*c[i]*d[i]*e[i]", "more than 4 operands", 28},
        {"y[i] += a[i,j,k,l,m,n,o,p,q]", "more than 8 subscripts", 26},
        {"y[] += a[a,b,c,d,e,f,g,h]*b[i,j,k,l,m,n,o,p]*c[q]", "more than 16 variables", 47},
    };
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        const char *got = canon(bad[k].text);
        ck_assert_msg(got == msg && strstr(got, bad[k].part), "%s: %s", bad[k].text, got);
        int column = (int)strlen(strrchr(got, '\n')) - 6; /* newline, four blanks, caret */
        ck_assert_msg(column == bad[k].column, "%s: column %d\n%s", bad[k].text, column, got);
    }
}
END_TEST

/* Long texts show the part around the place, and no byte is copied raw to a terminal. */
START_TEST(long_and_binary_texts) {
    char text[3000];
    memset(text, ' ', sizeof text);
    memcpy(text, "y[i] += x[i]", 12);
    text[2000] = '?';
    ir_rel r;
    ck_assert(!ir_ein_parse(NULL, text, sizeof text, &r, msg, sizeof msg));
    ck_assert_int_lt((int)strlen(msg), 200);
    const char *line = strchr(msg, '\n') + 1, *caret = strrchr(msg, '\n') + 1;
    ck_assert_int_eq(line[strlen(caret) - 1], '?');
    for (int c = 0; c < 256; c++) {
        memset(text, c, 64);
        ir_ein_parse(NULL, text, 64, &r, msg, sizeof msg);
        for (const char *s = msg; *s; s++) ck_assert(*s == '\n' || (*s >= ' ' && *s <= '~'));
    }
}
END_TEST

/* Every byte of a valid text cut or changed: an answer, and what is accepted is I10. */
START_TEST(mutations) {
    static const char *const texts[] = {
        "y[b,o] += x[b,i]*w[i,o]*v over (i)",
        "y[n,i] max= x[n,2*i+r-1]*w[n,r] over (r) where i in 0..8/2, i <= n, n = k[r]"};
    char copy[96], check[384];
    ir_rel r;
    for (size_t t = 0; t < 2; t++) {
        size_t n = strlen(texts[t]);
        ck_assert(ir_ein_parse(NULL, texts[t], n, &r, msg, sizeof msg) || !printf("%s\n", msg));
        for (size_t k = 0; k <= n; k++) ir_ein_parse(NULL, texts[t], k, &r, msg, sizeof msg);
        for (size_t k = 0; k < n; k++)
            for (int c = 0; c < 256; c++) {
                memcpy(copy, texts[t], n);
                copy[k] = (char)c;
                if (!ir_ein_parse(NULL, copy, n, &r, msg, sizeof msg)) continue;
                ck_assert(ir_ein_check(&r, check, sizeof check));
                copy[n] = 0; /* what is accepted prints, and the print is accepted */
                const char *first = canon(copy);
                char again[512];
                snprintf(again, sizeof again, "%s", first);
                ck_assert_str_eq(canon(again), again);
            }
    }
    ck_assert(!ir_ein_parse(NULL, "y[i]", 4, &r, msg, 1)); /* no room for a message */
}
END_TEST

START_TEST(malformed_relations) {
    const char *t = "y[b,o] += x[b,i]*w[i,o]";
    ir_rel good, r;
    ck_assert(ir_ein_parse(NULL, t, strlen(t), &good, msg, sizeof msg));
    ck_assert(ir_ein_check(&good, msg, sizeof msg));
#define BROKEN(change, part)                           \
    do {                                               \
        r = good;                                      \
        change;                                        \
        ck_assert(!ir_ein_check(&r, msg, sizeof msg)); \
        ck_assert_msg(strstr(msg, part), "%s", msg);   \
    } while (0)
    BROKEN(r.monoid = IR_redop_all, "+=, *=");
    BROKEN(r.nin = 0, "operands");
    BROKEN(r.nin = 5, "operands");
    BROKEN(r.nvar = 17, "variables");
    BROKEN(r.norder = 4, "variables");
    BROKEN(r.in[0].n = 9, "subscripts");
    BROKEN(r.in[0].a[0] = 3, "variable number 3");
    BROKEN(r.in[0].a[0] = 2, "twice");
    BROKEN(r.nvar = 4, "not a subscript of any operand");
    BROKEN(r.order[0] = 1, "each once");
    BROKEN(r.order[0] = 200, "each once");
    BROKEN(r.norder = 0, "not listed");
    BROKEN((r.out.a[0] = 1, r.out.a[1] = 0), "numbered");
}
END_TEST

/* Each part of I10 that constraints bring. */
START_TEST(malformed_constraints) {
    const char *t = "y[i] += x[2*i+r]*w[r] where i in 0..5";
    ir_rel good, r;
    ck_assert(ir_ein_parse(NULL, t, strlen(t), &good, msg, sizeof msg));
    ck_assert(ir_ein_check(&good, msg, sizeof msg));
    BROKEN(r.ncon = 9, "9 constraints");
    BROKEN(r.given = 0, "not given");
    BROKEN(r.given = 3, "none is given");
    BROKEN(r.given = 1 | 8, "to no variable");
    BROKEN(r.extent[0] = IR_EIN_FAR + 1, "too large");
    BROKEN(r.extent[0] = IR_DIM_BAD, "too large");
    BROKEN(r.con[0].c0 = IR_EIN_FAR + 1, "too large");
    BROKEN(r.con[0].c[0] = INT16_MIN, "too large");
    BROKEN(r.con[0].c[3] = 1, "too large");
    BROKEN(r.con[0].least = 2, "too large");
    BROKEN(memset(r.con[0].c, 0, sizeof r.con[0].c), "no variable");
    BROKEN(r.con[0].c[0] = -2, "negative term");
    BROKEN(r.con[0].least = 1, "not listed");
    BROKEN((r.order[0] = 1, r.order[1] = 2, r.norder = 2), "determines");
    BROKEN(r.look[0] = 1, "factors stand before indices");
    BROKEN(r.look[1] = 4, "factors stand before indices");
}
END_TEST

/* Extents that the text leaves out, and what is said when they cannot be known. */
static const char *for_call(const char *text, int n, const ir_dims *dims) {
    static char out[512];
    ir_rel r;
    rt_str s;
    if (!ir_ein_parse_for(NULL, text, strlen(text), n, dims, &r, msg, sizeof msg)) return msg;
    rt_str_init(&s, ig_allocator_default());
    ir_ein_print(NULL, &r, &s);
    snprintf(out, sizeof out, "%s", rt_str_text(&s));
    rt_str_free(&s);
    return out;
}

START_TEST(extents) {
    const ir_dims xw[2] = {{.n = 2, .d = {10, 3}}, {.n = 2, .d = {4, 3}}};
    static const struct {
        const char *text, *part;
        int column;
    } row[] = {
        {"y[i] += x[i+r,c]*w[r,c]", "where i in 0..7, i+l", -1},
        {"y[i] += x[2*i+r,c]*w[r,c]", "where i in 0..4, 2*i+l", -1},
        {"y[i] += x[3*i+2*r,c]*w[r,c]", "where i in 0..2, ", -1},
        {"y[i] += x[i+r:N,c]*w[r:R,c] where i in 0..(N-R+2)/2", "i in 0..4, ", -1},
        {"y[i] += x[i+r-1,c]*w[r,c] where i in 0..10", "i in 0..10, ", -1},
        {"y[i] += x[i+r-1,c]*w[r,c]", "would read outside", 2},
        {"y[i] += x[9-i,c]*w[r,c]", "would read outside", 2},
        {"y[i] += x[i+4*r,c]*w[r,c]", "the window is larger", 2},
        {"y[i,j] += x[i+j,c]*w[r,c]", "the extent of i is unknown", 2},
        {"y[i] += x[i,c]*w[i,c]",
         "4 elements along axis 0 of w (operand 1), but 10 along axis 0 of x "
         "(operand 0)",
         17},
        {"y[i] += x[i]*w[r,c]", "operand 0 has 2 axes, here are 1 subscripts", 8},
        {"y[i] += x[i,j]", "1 operands, 2 are given", 14},
        {"y[i] += x[i,c]*w[r,c] where i in 0..9", "runs as far as axis 0 of x", 36},
        {"y[i] += x[i,c]*w[r,c] where i in 0..10", "y[i] += a[i,j]*b[k,j] over (j,k)", -1},
        {"y[i] += x[i+r:N,c]*w[r,c] where i in 0..M", "no extent is called M", 40},
    };
    for (size_t k = 0; k < sizeof row / sizeof *row; k++) {
        const char *got = for_call(row[k].text, 2, xw);
        ck_assert_msg((got == msg) == (row[k].column >= 0) && strstr(got, row[k].part), "%s: %s",
                      row[k].text, got);
        if (got != msg) continue;
        int column = (int)strlen(strrchr(got, '\n')) - 6;
        ck_assert_msg(column == row[k].column, "%s: column %d\n%s", row[k].text, column, got);
    }
}
END_TEST

/* A transpose is the same relation; the second one is the first again. */
START_TEST(transposes) {
    static const char *const row[][2] = {
        {"y[n,i,o] += x[n,2*i+r-1,c]*w[r,c,o] over (r,c) where i in 0..16",
         "y[i,j,k] += a[i,l,m]*b[n,k,m] over (n,m) where j in 0..33, j+1 = 2*l+n"},
        {"y[n,d] += t[i[n],d]*s[n]", "y[i,j] += a[k,j]*b[k] over (k) where i in 0..33, i = c[k]"},
    };
    for (size_t k = 0; k < 2; k++) {
        ir_rel first, r;
        const ir_type x = {.rank = (uint8_t)(3 - k), .dim = {k ? 33 : 2, 33, 5}};
        const ir_type y = {.rank = (uint8_t)(3 - k), .dim = {2, 16, 4}};
        char was[512];
        rt_str s;
        snprintf(was, sizeof was, "%s", canon(row[k][0]));
        ck_assert(ir_ein_parse(NULL, row[k][0], strlen(row[k][0]), &first, msg, sizeof msg));
        r = first;
        ir_ein_swap(&r, 0, &x);
        ck_assert_msg(ir_ein_check(&r, msg, sizeof msg), "%s", msg);
        rt_str_init(&s, ig_allocator_default());
        ir_ein_print(NULL, &r, &s);
        ck_assert_str_eq(rt_str_text(&s), row[k][1]);
        rt_str_free(&s);
        ir_ein_swap(&r, 0, &y);
        rt_str_init(&s, ig_allocator_default());
        ir_ein_print(NULL, &r, &s);
        ck_assert_str_eq(rt_str_text(&s), was);
        rt_str_free(&s);
    }
}
END_TEST

START_TEST(steps_of_a_sum) {
    ir_rel r;
    ir_ein_steps s;
    const char *t = "y[k,i] += a[i,j,k,l] over (l,j)";
    ck_assert(ir_ein_parse(NULL, t, strlen(t), &r, msg, sizeof msg) && ir_ein_is_sum(&r));
    ir_ein_sum_steps(&r, &s);
    ck_assert(s.moves_first && !s.moves_last && s.reduce.axes.n == 2);
    ck_assert(s.first.perm.a[0] == 2 && s.first.perm.a[1] == 0 && s.first.perm.a[2] == 3 &&
              s.first.perm.a[3] == 1);
    ck_assert(s.reduce.axes.a[0] == 2 && s.reduce.axes.a[1] == 3);
    t = "y[k,i] += a[i,j,k,l] over (j,l)";
    ck_assert(ir_ein_parse(NULL, t, strlen(t), &r, msg, sizeof msg));
    ir_ein_sum_steps(&r, &s);
    ck_assert(!s.moves_first && s.moves_last && s.reduce.axes.a[0] == 1 && s.reduce.axes.a[1] == 3);
    ck_assert(s.last.perm.n == 2 && s.last.perm.a[0] == 1 && s.last.perm.a[1] == 0);
}
END_TEST

int main(void) {
    Suite *s = suite_create("ein");
    TCase *t = tcase_create("ein");
    tcase_add_test(t, canonical_text);
    tcase_add_test(t, numbering);
    tcase_add_test(t, carets);
    tcase_add_test(t, long_and_binary_texts);
    tcase_add_test(t, mutations);
    tcase_add_test(t, malformed_relations);
    tcase_add_test(t, malformed_constraints);
    tcase_add_test(t, extents);
    tcase_add_test(t, transposes);
    tcase_add_test(t, steps_of_a_sum);
    suite_add_tcase(s, t);
    return suite_run(s);
}
