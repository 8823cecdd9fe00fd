/* words.c - transformations as text: what tests and the `ingot` program say.
 *
 *     jvp, vjp, grad, value_and_grad, hvp, jacfwd, jacrev, hessian [WRT]
 *     lift [WRT]
 *     vmap LANES [(AXES)] [-> (AXES)]      an axis is a number, or `_` for a shared argument
 *
 * WRT as pass_wrt_read takes it.  Several are written with `;` between them. */
#include "passes/transform.h"
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX_AXES 256

/* --- One row a word ------------------------------------------------------------------------- */

typedef ig_status (*words_run)(const ir_module *in, const char *rest, ir_module **out_);

static const char *words_wrt(const char *rest) { return *rest ? rest : NULL; }

#define DERIVE(name, what)                                                                   \
    static ig_status words_##name(const ir_module *in, const char *rest, ir_module **out_) { \
        return pass_derive(in, what, words_wrt(rest), out_);                                 \
    }
DERIVE(jvp, PASS_JVP)
DERIVE(vjp, PASS_VJP)
DERIVE(grad, PASS_GRAD)
DERIVE(value_and_grad, PASS_VALUE_AND_GRAD)

static ig_status words_hvp(const ir_module *in, const char *rest, ir_module **out_) {
    return pass_hvp(in, words_wrt(rest), out_);
}
static ig_status words_jacfwd(const ir_module *in, const char *rest, ir_module **out_) {
    return pass_jacobian(in, true, words_wrt(rest), out_);
}
static ig_status words_jacrev(const ir_module *in, const char *rest, ir_module **out_) {
    return pass_jacobian(in, false, words_wrt(rest), out_);
}
static ig_status words_hessian(const ir_module *in, const char *rest, ir_module **out_) {
    return pass_hessian(in, words_wrt(rest), out_);
}

static ig_status words_lift(const ir_module *in, const char *rest, ir_module **out_) {
    return pass_lift(in, words_wrt(rest), out_);
}

/* The axes in brackets at *at, `need` of them; *axes_ stays NULL when there is no bracket. */
static ig_status words_axes(const ir_module *m, const char **at, uint32_t need, int *room,
                            int **axes_) {
    const char *s = *at + strspn(*at, " ");
    uint32_t n = 0;
    *axes_ = NULL;
    if (*s != '(') return NULL;
    for (s++; *s && *s != ')' && n < WORDS_MAX_AXES; n++) {
        char *end;
        s += strspn(s, " ,");
        room[n] = *s == '_' ? -1 : (int)strtol(s, &end, 10);
        s = *s == '_' ? s + 1 : end;
        s += strspn(s, " ,");
    }
    if (*s != ')' || n != need)
        return rt_fail(m->alloc, IG_FORMAT, "%u axes in brackets are needed, not `%s`", need, *at);
    *at = s + 1;
    *axes_ = room;
    return NULL;
}

static ig_status words_vmap(const ir_module *in, const char *rest, ir_module **out_) {
    int in_room[WORDS_MAX_AXES], out_room[WORDS_MAX_AXES], *in_axes, *out_axes = NULL;
    char lanes[80];
    const ir_func *f = ir_entry(in);
    size_t n = strcspn(rest, "(-");
    if (!f) return rt_fail(in->alloc, IG_INVALID, "the module %s has no function", in->name);
    if (n >= sizeof lanes) return rt_fail(in->alloc, IG_FORMAT, "the word is too long: %s", rest);
    memcpy(lanes, rest, n);
    while (n && lanes[n - 1] == ' ') n--;
    lanes[n] = 0;
    rest += strcspn(rest, "(-");
    RT_TRY(words_axes(in, &rest, ir_nparam(f), in_room, &in_axes));
    rest += strspn(rest, " ");
    if (!strncmp(rest, "->", 2)) {
        rest += 2;
        RT_TRY(words_axes(in, &rest, f->results.n, out_room, &out_axes));
    }
    return pass_vmap(in, lanes, in_axes, out_axes, out_);
}

static const struct {
    const char *name;
    words_run run;
} words_tab[] = {
    {"jvp", words_jvp},
    {"vjp", words_vjp},
    {"grad", words_grad},
    {"value_and_grad", words_value_and_grad},
    {"hvp", words_hvp},
    {"jacfwd", words_jacfwd},
    {"jacrev", words_jacrev},
    {"hessian", words_hessian},
    {"lift", words_lift},
    {"vmap", words_vmap},
    {NULL, NULL},
};

/* --- The list ------------------------------------------------------------------------------- */

/* One transformation, n characters. */
static ig_status words_one(const ir_module *in, const char *s, size_t n, ir_module **out_) {
    char text[256];
    while (n && *s == ' ') s++, n--;
    while (n && s[n - 1] == ' ') n--;
    if (n >= sizeof text) return rt_fail(in->alloc, IG_FORMAT, "the word is too long: %s", s);
    memcpy(text, s, n);
    text[n] = 0;
    size_t word = strcspn(text, " ");
    const char *rest = text + word + strspn(text + word, " ");
    for (int i = 0; words_tab[i].name; i++)
        if (strlen(words_tab[i].name) == word && !memcmp(words_tab[i].name, text, word))
            return words_tab[i].run(in, rest, out_);
    return rt_fail(in->alloc, IG_INVALID, "there is no transformation `%s`", text);
}

ig_status pass_transform(const char *words, const ir_module *in, ir_module **out_) {
    ir_module *last = NULL, *next;
    *out_ = NULL;
    for (const char *s = words; *s;) {
        size_t n = strcspn(s, ";");
        ig_status e = words_one(last ? last : in, s, n, &next);
        ir_module_free(last);
        if (e) return e;
        last = next;
        s += n + (s[n] == ';');
    }
    *out_ = last;
    return last ? NULL : rt_fail(in->alloc, IG_INVALID, "no transformation is named");
}
