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
    if (!ir_ein_parse(text, strlen(text), &r, msg, sizeof msg)) return msg;
    rt_str s;
    rt_str_init(&s, ig_allocator_default());
    ir_ein_print(&r, &s);
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
    ck_assert(ir_ein_parse(t, strlen(t), &r, msg, sizeof msg));
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
        {"y[i] = x[i]", "+=, *=, max= or min=", 5},
        {"y[i] += ", "a tensor is expected", 8},
        {"y[i] += x[i+1]", "plain variables", 11},
        {"y[i] += x[2]", "a variable is expected", 10},
        {"y[i] += x[i,]", "a variable is expected", 12},
        {"y[i] += x[i", "`,` or `]`", 11},
        {"y[i,k] += x[i]", "its extent is unknown", 4},
        {"y[i] += x[i,i]", "take the diagonal first", 12},
        {"y[i,i] += x[i]", "take the diagonal first", 4},
        {"y[i] += x[i,j] over (k)", "k is not a subscript of any operand", 21},
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
    ck_assert(!ir_ein_parse(text, sizeof text, &r, msg, sizeof msg));
    ck_assert_int_lt((int)strlen(msg), 200);
    const char *line = strchr(msg, '\n') + 1, *caret = strrchr(msg, '\n') + 1;
    ck_assert_int_eq(line[strlen(caret) - 1], '?');
    for (int c = 0; c < 256; c++) {
        memset(text, c, 64);
        ir_ein_parse(text, 64, &r, msg, sizeof msg);
        for (const char *s = msg; *s; s++) ck_assert(*s == '\n' || (*s >= ' ' && *s <= '~'));
    }
}
END_TEST

/* Every byte of a valid text cut or changed: an answer, and what is accepted is I10. */
START_TEST(mutations) {
    const char *text = "y[b,o] += x[b,i]*w[i,o]*v over (i)";
    size_t n = strlen(text);
    char copy[64], check[384];
    ir_rel r;
    for (size_t k = 0; k <= n; k++) ir_ein_parse(text, k, &r, msg, sizeof msg);
    for (size_t k = 0; k < n; k++)
        for (int c = 0; c < 256; c++) {
            memcpy(copy, text, n);
            copy[k] = (char)c;
            if (ir_ein_parse(copy, n, &r, msg, sizeof msg))
                ck_assert(ir_ein_check(&r, check, sizeof check));
        }
    ck_assert(!ir_ein_parse("y[i]", 4, &r, msg, 1)); /* no room for a message */
}
END_TEST

START_TEST(malformed_relations) {
    const char *t = "y[b,o] += x[b,i]*w[i,o]";
    ir_rel good, r;
    ck_assert(ir_ein_parse(t, strlen(t), &good, msg, sizeof msg));
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

START_TEST(steps_of_a_sum) {
    ir_rel r;
    ir_ein_steps s;
    const char *t = "y[k,i] += a[i,j,k,l] over (l,j)";
    ck_assert(ir_ein_parse(t, strlen(t), &r, msg, sizeof msg) && ir_ein_is_sum(&r));
    ir_ein_sum_steps(&r, &s);
    ck_assert(s.moves_first && !s.moves_last && s.reduce.axes.n == 2);
    ck_assert(s.first.perm.a[0] == 2 && s.first.perm.a[1] == 0 && s.first.perm.a[2] == 3 &&
              s.first.perm.a[3] == 1);
    ck_assert(s.reduce.axes.a[0] == 2 && s.reduce.axes.a[1] == 3);
    t = "y[k,i] += a[i,j,k,l] over (j,l)";
    ck_assert(ir_ein_parse(t, strlen(t), &r, msg, sizeof msg));
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
    tcase_add_test(t, steps_of_a_sum);
    suite_add_tcase(s, t);
    return suite_run(s);
}
