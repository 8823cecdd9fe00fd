/* doctor.c - `ingot doctor`: what this machine offers, what is missing, and a self-test of every
 * level. */
#include "codegen/target.h"
#include "frontend/cli/cli.h"
#include "ingot/threads.h"
#include "runtime/image.h"
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

static const char doctor_program[] = "module doctor class %s {\n"
                                     "  fn @f(%%x: f32[37], %%w: f32[37,19]) -> (f32[19]) {\n"
                                     "    %%1 = ein %%x, %%w rel=\"y[a] += a[b]*b[b,a] over (b)\"\n"
                                     "    %%2 = tanh %%1\n"
                                     "    return %%2\n  }\n}\n";

enum { DOCTOR_K = 37, DOCTOR_N = 19 };

/* Compile for a level, run, and compare with the reference. */
static ig_status doctor_level(const ir_module *m, const cg_cpu *cpu, const float *x, const float *w,
                              const float *want) {
    cg_bytes image = {0};
    rt_image *loaded = NULL;
    float got[DOCTOR_N] = {0};
    ig_status s = cg_compile(m, "f", cpu, &image);
    if (!s) s = rt_image_load(m->alloc, image.data, image.n, &loaded);
    rt_host_fn run = s ? NULL : rt_image_find_entry(loaded, "f").run;
    if (!s && !run) s = rt_fail(m->alloc, IG_INTERNAL, "the image has no entry");
    static _Alignas(64) char ws[65536];
    const void *in[2] = {x, w};
    void *out[1] = {got};
    if (!s && run(in, out, NULL, ws, NULL, NULL))
        s = rt_fail(m->alloc, IG_INTERNAL, "the kernel failed");
    if (!s && memcmp(want, got, sizeof got))
        s = rt_fail(m->alloc, IG_INTERNAL, "its bits differ from the reference");
    rt_image_free(loaded);
    cg_bytes_free(&image);
    return s;
}

static ig_status doctor_class(ir_class cls, ir_module **out_, const float *x, const float *w,
                              float *want) {
    const ig_allocator *a = ig_allocator_default();
    char text[512];
    int n = snprintf(text, sizeof text, doctor_program, cls == IR_CLASS_FMA ? "fma" : "nofma");
    RT_TRY(ir_parse(a, "doctor", text, (size_t)n, out_));
    ir_tensor in[2] = {{IG_f32, 1, {DOCTOR_K}, (void *)(uintptr_t)x},
                       {IG_f32, 2, {DOCTOR_K, DOCTOR_N}, (void *)(uintptr_t)w}};
    ir_tensor out = {IG_f32, 1, {DOCTOR_N}, want};
    return ir_ref_run(ir_find_func(*out_, "f"), a, NULL, 2, in, 1, &out);
}

int cli_doctor(int argc, char **argv) {
    int n = cli_options(argc, argv, NULL, 0);
    if (n < 0) return CLI_USAGE;
    if (n) return cli_usage("doctor", "takes no file");
    struct utsname u;
    uname(&u);
    printf("ingot %s on %s %s, %d threads\n", IG_VERSION_STRING, u.sysname, u.machine,
           ig_threads_count());
    static float x[DOCTOR_K], w[DOCTOR_K * DOCTOR_N], want[2][DOCTOR_N];
    for (int i = 0; i < DOCTOR_K; i++) x[i] = (float)(i % 7) * 0.37f - 1;
    for (int i = 0; i < DOCTOR_K * DOCTOR_N; i++) w[i] = (float)(i % 11) * 0.013f - 0.05f;
    ir_module *m[2] = {NULL, NULL};
    ig_status s = doctor_class(IR_CLASS_FMA, &m[0], x, w, want[0]);
    if (!s) s = doctor_class(IR_CLASS_NOFMA, &m[1], x, w, want[1]);
    if (s) return cli_fail(s);
    int code = CLI_OK;
    for (const cg_cpu *c = cg_cpu_tab; c->name; c++) {
        int k = c->class == IR_CLASS_FMA ? 0 : 1;
        printf("  %-8s %-28s ", c->name, c->triple);
        if (!cg_cpu_runs_here(c)) {
            puts("not on this machine (builds are possible)");
            continue;
        }
        s = doctor_level(m[k], c, x, w, want[k]);
        printf("%s\n", s ? ig_status_text(s) : "self-test ok");
        if (s) code = CLI_FAILED;
        ig_status_free(s);
    }
    ir_module_free(m[0]);
    ir_module_free(m[1]);
    return code;
}
