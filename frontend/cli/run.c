/* run.c - `ingot run`: a module on .npy inputs. */
#include "frontend/cli/cli.h"
#include "frontend/fe.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUN_MAX = 64 };

/* out.npy for the only result; out0.npy, out1.npy for several; `%d` in the name is the number. */
static ig_status run_save(ig_tensor *t, const char *pattern, int k, int n) {
    char path[4096];
    const char *mark = strstr(pattern, "%d"), *dot = strrchr(pattern, '.');
    if (mark)
        snprintf(path, sizeof path, "%.*s%d%s", (int)(mark - pattern), pattern, k, mark + 2);
    else if (n == 1)
        snprintf(path, sizeof path, "%s", pattern);
    else if (dot)
        snprintf(path, sizeof path, "%.*s%d%s", (int)(dot - pattern), pattern, k, dot);
    else
        snprintf(path, sizeof path, "%s%d", pattern, k);
    ig_status s = ig_npy_save(t, path);
    if (!s) printf("%s\n", path);
    return s;
}

static ig_status run_outputs(ig_tensor *const *out, int n, const char *pattern) {
    for (int k = 0; k < n; k++) {
        if (pattern)
            RT_TRY(run_save(out[k], pattern, k, n));
        else
            ig_print(out[k]);
    }
    return ig_error_take();
}

/* An error that names the inputs and their types. */
static ig_status run_fail_inputs(const ir_module *ir, int want, int given) {
    const ir_func *f = ir_entry(ir);
    const ig_allocator *a = ig_allocator_default();
    rt_str types;
    rt_str_init(&types, a);
    for (uint32_t k = 0; k < ir_nparam(f); k++) {
        rt_str_puts(&types, k ? ", " : "");
        ir_type_print(ir, ir_val_type(f, ir_param_ref(f, k)), &types);
    }
    ig_status s = rt_fail(a, IG_INVALID, "@%s takes %d input%s (%s); %d .npy file%s given", f->name,
                          want, want == 1 ? "" : "s", rt_str_text(&types), given,
                          given == 1 ? " was" : "s were");
    rt_str_free(&types);
    return s;
}

/* Load, run and write; everything made belongs to the open scope.  Errors name files and arguments,
 * not lines in here. */
static ig_status run_all(const char *path, int nin, char **files, const char *pattern,
                         bool reference) {
    ir_module *ir;
    ig_module *m;
    RT_TRY(cli_load(path, &ir));
    RT_TRY(fe_module_new(ig_allocator_default(), ir, ir->nstate, NULL, &m));
    ig_module_info info = ig_module_get_info(m);
    ig_tensor *in[RUN_MAX], *out[RUN_MAX];
    int want = info.nin + info.nstate, give = info.nout + info.nstate;
    ig_status s = NULL;
    if (want != nin)
        s = run_fail_inputs(fe_module_ir(m), want, nin);
    else if (want > RUN_MAX || give > RUN_MAX)
        s = rt_fail(ig_allocator_default(), IG_UNSUPPORTED, "at most %d inputs and outputs",
                    RUN_MAX);
    for (int k = 0; !s && k < nin; k++) {
        in[k] = ig_npy_load_at(NULL, files[k]);
        s = ig_error_take();
    }
    if (!s && !reference) s = ig_module_compile(m, NULL);
    if (!s) s = ig_module_run_at(NULL, m, nin, in, give, out);
    if (!s) s = run_outputs(out, give, pattern);
    ig_module_free(m);
    return s;
}

int cli_run(int argc, char **argv) {
    cli_option o[] = {{"output", 'o', true, NULL, false}, {"reference", 'r', false, NULL, false}};
    int n = cli_options(argc, argv, o, 2);
    if (n < 0) return CLI_USAGE;
    if (n < 1) return cli_usage("run", "give a module and its inputs");
    if (n > RUN_MAX) return cli_usage("run", "at most %d inputs", RUN_MAX - 1);
    ig_status s = NULL;
    ig_scope_begin();
    s = run_all(argv[1], n - 1, argv + 2, o[0].value, o[1].given);
    ig_scope_end();
    int code = s ? cli_fail(s) : CLI_OK;
    ig_session_free(NULL);
    return code;
}
