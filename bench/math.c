/* math.c FUNCTION [N] - seconds per element of one function of f32, compiled for this machine.
 *
 * The function is traced on N elements (4096: input and result stay in the first cache), built as
 * an object, linked and called as a program would that deploys it.  Prints the median of many
 * rounds.  peers/math.c measures vector libraries by the same protocol; docs/math.md shows how to
 * compare them. */
#include "bench/math_range.h"
#include "ingot/ingot.h"
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef int run_fn(const void *const *in, void *const *out, const int64_t *dims, void *ws,
                   const void *exec);

static run_fn *run;
static int arity;

static void call(size_t n, const float *x, const float *y, float *out) {
    static _Alignas(64) char ws[1 << 16];
    (void)n;
    run((const void *const[]){x, y}, (void *const[]){out}, NULL, ws, NULL);
}

static void record(void *user, ig_tensor *const *in, ig_tensor **out) {
    const char *name = user;
#define UNARY(fn) \
    if (!strcmp(name, #fn)) out[0] = ig_##fn(in[0]);
    UNARY(exp)
    UNARY(expm1)
    UNARY(log)
    UNARY(log1p)
    UNARY(sin)
    UNARY(cos)
    UNARY(tanh)
    UNARY(erf)
    UNARY(sigmoid)
    UNARY(gelu)
    if (!strcmp(name, "pow")) out[0] = ig_pow(in[0], in[1]);
    if (!strcmp(name, "atan2")) out[0] = ig_atan2(in[0], in[1]);
}

/* Trace, build, link, open. */
static int prepare(const char *name, size_t n, const char *dir) {
    char object[256], library[256], command[600];
    ig_tensor *in[2];
    for (int k = 0; k < 2; k++) in[k] = ig_zeros(IG_f32, IG_DIMS((int64_t)n));
    ig_module *m = NULL;
    snprintf(object, sizeof object, "%s/f.o", dir);
    snprintf(library, sizeof library, "%s/f.so", dir);
    snprintf(command, sizeof command, "cc -shared -o %s %s", library, object);
    ig_status s = ig_trace(record, (void *)(uintptr_t)name, arity, in, 1,
                           &(ig_trace_options){.name = "f"}, &m);
    if (!s) s = ig_module_build(m, "f", NULL, object);
    ig_module_free(m);
    if (s) {
        fprintf(stderr, "%s\n", ig_status_text(s));
        ig_status_free(s);
        return 1;
    }
    void *lib = system(command) ? NULL : dlopen(library, RTLD_NOW | RTLD_LOCAL);
    void *sym = lib ? dlsym(lib, "f_run") : NULL;
    memcpy(&run, &sym, sizeof sym);
    remove(object);
    remove(library);
    return !sym;
}

int main(int argc, char **argv) {
    char dir[] = "/tmp/ingot-math-XXXXXX";
    size_t n = argc > 2 ? strtoul(argv[2], NULL, 10) : 4096;
    const math_range *r = argc > 1 ? math_range_of(argv[1]) : NULL;
    if (!r || !n || !mkdtemp(dir)) {
        fprintf(stderr, "usage: %s FUNCTION [N]\n", argv[0]);
        return 2;
    }
    arity = r->arity;
    int bad = prepare(argv[1], n, dir);
    rmdir(dir);
    if (bad) return 1;
    return math_measure(r, n, call);
}
