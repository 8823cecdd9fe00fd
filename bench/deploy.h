/* deploy.h - a function traced, built as an object, linked and opened, as a program that deploys it
 * would have it. */
#ifndef BENCH_DEPLOY_H
#define BENCH_DEPLOY_H
#include "ingot/ingot.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int run_fn(const void *const *in, void *const *out, const int64_t *dims, void *ws,
                   const ig_exec *exec);

/* NULL after a message.  The files, in the folder, are gone afterwards; the library stays open.
 * level: of the CPU, NULL: the best here. */
static run_fn *deploy(ig_trace_fn fn, void *user, int nin, ig_tensor *const *in, int nout,
                      const char *dir, const char *level) {
    static int number; /* a library that is open is not opened again under its name */
    char object[256], library[256], command[600];
    ig_module *m = NULL;
    run_fn *run = NULL;
    snprintf(object, sizeof object, "%s/f.o", dir);
    snprintf(library, sizeof library, "%s/f%d.so", dir, number++);
    snprintf(command, sizeof command, "cc -shared -o %s %s", library, object);
    ig_status s = ig_trace(fn, user, nin, in, nout, &(ig_trace_options){.name = "f"}, &m);
    if (!s) s = ig_module_build(m, "f", level, object);
    ig_module_free(m);
    if (s) {
        fprintf(stderr, "%s\n", ig_status_text(s));
        ig_status_free(s);
        return NULL;
    }
    void *lib = system(command) ? NULL : dlopen(library, RTLD_NOW | RTLD_LOCAL);
    void *sym = lib ? dlsym(lib, "f_run") : NULL;
    memcpy(&run, &sym, sizeof sym);
    remove(object);
    remove(library);
    return run;
}
#endif
