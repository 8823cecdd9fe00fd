/* ingot/custom.h - C functions of the user as ops, callbacks, and assertions.
 *
 * An op is described once, in memory that lives as long as the process:
 *
 *     static int32_t cube(const ig_custom_args *a) {
 *         const float *x = a->in[0].data;
 *         float *y = a->out[0].data;
 *         for (int64_t i = 0; i < a->in[0].dim[0]; i++) y[i] = x[i] * x[i] * x[i];
 *         return 0;
 *     }
 *     static ig_custom cube_op = {.fn = cube, .name = "cube", .version = 1, .type = "f32[n] ->
 * f32[n]"};
 *
 *     y = ig_custom1(&cube_op, x);
 *
 * Called, it runs at once.  In a trace it becomes an op of the module, which knows it by name and
 * version; the reference, compiled code and loaded modules call the function that is registered
 * under them.  A deployed object calls a C function of that name, which its program supplies; its
 * header declares it.  The function may be called from any thread, and for all the library knows it
 * gives the same results for the same operands: calls may be merged, dropped or repeated.
 *
 * The type says for which operands the op is and what it gives: `f32[n,k], f32[k] -> f32[n]`.  A
 * name in brackets is an extent, the same everywhere; results may compute with them: + - * floordiv
 * mod min max.  `...`, first in brackets, are any axes in front, the same everywhere.  A name
 * before the brackets that is no element type is any one, the same everywhere: `T[...] -> T[...]`.
 */
#ifndef INGOT_CUSTOM_H
#define INGOT_CUSTOM_H

#include "ingot/flow.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What `...` stands for are independent elements: a batch is one more axis in front.  Without it a
 * batched call goes through its lanes one by one. */
#define IG_CUSTOM_LANES 1u

/* --- Derivatives ---------------------------------------------------------------------------- */

/* A function of tensors whose derivative is given.  fn: x.. -> y..; one rule, made of tensor ops,
 * too:
 *
 *   lin   x.., y.., x'.. -> y'..  linear in x': serves both modes, to any order
 *   vjp   x.., y.., ^y.. -> ^x..  need not be linear in ^y; forward mode is then an error
 *
 * x' and ^y are derivatives of the floating ones among x and y, and so are y' and ^x.  What the
 * functions use beside their arguments must have no derivative.  In a trace both are recorded, on
 * the example, and saved with the module. */
typedef struct ig_rule {
    const char *name; /* for errors and the text of modules */
    ig_body_fn fn, lin, vjp;
    void *user;
} ig_rule;

/* Run such a function: nout results, new handles of the caller's scope; all poison after an error.
 */
IG_API bool ig_composite_at(const ig_site *site, const ig_rule *rule, ig_list in, int nout,
                            ig_tensor **out_);
IG_API ig_tensor *ig_composite1_at(const ig_site *site, const ig_rule *rule, ig_list in);
#define ig_composite(rule, in, nout, out) ig_composite_at(IG_SITE, rule, in, nout, out)
#define ig_composite1(rule, ...)          ig_composite1_at(IG_SITE, rule, IG_LIST(__VA_ARGS__))

/* --- C functions ---------------------------------------------------------------------------- */

typedef struct ig_custom {
    ig_custom_fn fn;        /* the first two are where compiled code finds them */
    void *user;             /* handed to fn; NULL in a deployed object */
    const char *name;       /* a C identifier */
    int version;            /* from 1 on: another meaning is another version */
    const char *type;       /* NULL: a callback, which takes any tensors and gives none (ig_host) */
    unsigned flags;         /* IG_CUSTOM_... */
    ig_body_fn lin, vjp;    /* its derivative, at most one of them (ig_rule); they get `user` */
    struct ig_custom *next; /* the library's, NULL */
} ig_custom;

/* Make an op known to modules that are loaded; ops that are called register themselves.  INVALID
 * when another one has the name and version. */
IG_API IG_MUST_USE ig_status ig_custom_register(ig_custom *op);

/* Call an op on a list of tensors (up to 16): nout results (up to 8), which are new handles of the
 * caller's scope, all poison after an error. */
IG_API bool ig_custom_at(const ig_site *site, ig_custom *op, ig_list in, int nout,
                         ig_tensor **out_);
/* The same with one result. */
IG_API ig_tensor *ig_custom1_at(const ig_site *site, ig_custom *op, ig_list in);

/* Call a callback, for what it does: print, log, write a file.  It sees the tensors and the text.
 * In a trace it becomes part of the module, which calls it whenever it gets there, in the order of
 * the program, from loops and branches too.  It has no results: a derivative passes it by, and
 * ig_vmap calls it once a lane. */
IG_API bool ig_host_at(const ig_site *site, ig_custom *op, const char *text, ig_list in);
/* Print a line: the text, each {} in it replaced by the next tensor (the first 8 elements). */
IG_API void ig_debug_print_at(const ig_site *site, const char *text, ig_list in);
/* The function behind it, for deployed objects: they need it from libingot-rt, or another one. */
IG_API int32_t ig_host_print(const ig_custom_args *args);

/* Fail (FAILED) unless all elements of cond, bools, are true; the message is the text, with values
 * as above.  A module checks it at every run, compiled or not; a deployed object returns a code,
 * which its header lists.  False after an error; in a trace: if the example fails. */
IG_API bool ig_check_at(const ig_site *site, ig_arg cond, const char *text, ig_list values);

#define ig_custom(op, in, nout, out) ig_custom_at(IG_SITE, op, in, nout, out)
#define ig_custom1(op, ...)          ig_custom1_at(IG_SITE, op, IG_LIST(__VA_ARGS__))
#define ig_host(op, text, ...)       ig_host_at(IG_SITE, op, text, IG_LIST(__VA_ARGS__))
#define ig_debug_print(text, ...)    ig_debug_print_at(IG_SITE, text, IG_LIST(__VA_ARGS__))
#define ig_check(cond, text) \
    ig_check_at(IG_SITE, IG_ARG(cond), text, IG_MAKE(ig_list, 0, NULL))
#define ig_check_values(cond, text, ...) \
    ig_check_at(IG_SITE, IG_ARG(cond), text, IG_LIST(__VA_ARGS__))

#ifdef __cplusplus
}
#endif
#endif
