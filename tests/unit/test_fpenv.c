/* test_fpenv.c - numerics rule 14: a caller that has flush-to-zero on or rounds another way gets
 * the same bits however the program runs, and has its own mode afterwards. */
#include "eager.h"
#include "ingot/runtime.h"
#include "ingot/threads.h"
#include <dlfcn.h>
#include <fenv.h>
#include <libgen.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

/* --- Modes --- */

#if defined(__x86_64__)
static const struct mode {
    const char *name;
    unsigned csr;
} mode_tab[] = {{"default", 0x1f80},
                {"flush to zero, denormals are zero", 0x9fc0},
                {"downwards", 0x3f80},
                {"upwards", 0x5f80},
                {"towards zero, flush, denormals are zero", 0xffc0}};
static void mode_set(int k) { _mm_setcsr(mode_tab[k].csr); }
static bool mode_is(int k) { return (_mm_getcsr() & ~0x3fu) == mode_tab[k].csr; }
#else
static const struct mode {
    const char *name;
    int round;
} mode_tab[] = {
    {"default", FE_TONEAREST}, {"downwards", FE_DOWNWARD}, {"towards zero", FE_TOWARDZERO}};
static void mode_set(int k) { fesetround(mode_tab[k].round); }
static bool mode_is(int k) { return fegetround() == mode_tab[k].round; }
#endif
enum { NMODE = sizeof mode_tab / sizeof *mode_tab };

/* Do something in mode k, which must survive it. */
#define IN_MODE(k, what)                                                                       \
    do {                                                                                       \
        mode_set(k);                                                                           \
        what;                                                                                  \
        bool kept_ = mode_is(k);                                                               \
        mode_set(0);                                                                           \
        ck_assert_msg(kept_, "line %d: the mode \"%s\" was lost", __LINE__, mode_tab[k].name); \
    } while (0)

/* --- A program that every mode would change --- */

enum { ROWS = 97, COLS = 33, NOUT = 6 };

static void sensitive(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *x = in[0], *w = in[1]; /* w holds denormals */
    out[0] = ig_matmul(x, ig_mul(w, 0.1));
    out[1] = ig_exp(ig_div(x, 3));
    out[2] = ig_sum(ig_mul(w, 1e-3), IG_AXES(0));
    out[3] = ig_cast(ig_div(x, 7), IG_bf16);
    out[4] = ig_cast(ig_tanh(ig_cast(x, IG_f64)), IG_f16);
    out[5] = ig_sqrt(ig_abs(w));
}

static ig_tensor *in_tab[2], *want[NOUT];
static float x_data[ROWS * COLS], w_data[COLS * COLS];

static void inputs(void) {
    in_tab[0] = ig_tensor_from(IG_f32, IG_DIMS(ROWS, COLS), x_data);
    in_tab[1] = ig_tensor_from(IG_f32, IG_DIMS(COLS, COLS), w_data);
}

static void same(const char *how, int mode, ig_tensor *const *got) {
    for (int k = 0; k < NOUT; k++)
        ck_assert_msg(ig_equal(want[k], got[k]), "%s, mode \"%s\": result %d differs", how,
                      mode_tab[mode].name, k);
}

static void begin(void) {
    for (int i = 0; i < ROWS * COLS; i++) x_data[i] = (float)(i * 7919 % 1000) / 991 - 0.5f;
    for (int i = 0; i < COLS * COLS; i++)
        w_data[i] = (i % 3 ? 1e-39f : 1e-3f) * (float)(i % 17 - 8);
    inputs();
    sensitive(NULL, in_tab, want);
    for (int k = 0; k < NOUT; k++) ck_assert_msg(!ig_is_poison(want[k]), "%s", ig_error_text());
}

START_TEST(eager) {
    begin();
    for (int k = 0; k < NMODE; k++) {
        ig_tensor *got[NOUT];
        IN_MODE(k, inputs());
        IN_MODE(k, sensitive(NULL, in_tab, got));
        same("eager", k, got);
        /* numbers that come in, go out, are made */
        char *text[2];
        ig_tensor *n[2], *t = ig_scalar(IG_f64, 0.1);
        OK(ig_text(t, &text[0]));
        IN_MODE(k, OK(ig_text(t, &text[1])));
        ck_assert_str_eq(text[0], text[1]);
        ig_text_free(text[0]);
        ig_text_free(text[1]);
        n[0] = ig_linspace(IG_f32, 0, 1, 37);
        IN_MODE(k, n[1] = ig_linspace(IG_f32, 0, 1, 37));
        ck_assert(ig_equal(n[0], n[1]));
    }
    eager_end();
}
END_TEST

/* Traced, compiled, saved and loaded in each mode, run in each. */
static ig_module *module_in(int mode, bool compile) {
    ig_module *m;
    ig_trace_options opt = {.name = "sensitive", .dims = "[B,33]; B in 1..200"};
    IN_MODE(mode, OK(ig_trace(sensitive, NULL, 2, in_tab, NOUT, &opt, &m)));
    if (compile) IN_MODE(mode, OK(ig_module_compile(m, NULL)));
    return m;
}

static void run_in_all(const char *how, ig_module *m) {
    for (int k = 0; k < NMODE; k++) {
        ig_tensor *got[NOUT];
        IN_MODE(k, OK(ig_module_run(m, 2, in_tab, NOUT, got)));
        same(how, k, got);
    }
}

START_TEST(by_reference) {
    begin();
    ig_module *m = module_in(_i, false);
    run_in_all("by the reference", m);
    ig_module_free(m);
    eager_end();
}
END_TEST

/* The pool, made to believe that everything is long. */
static void run_pool(const ig_exec *self, ig_kernel kernel, void *const *bufs, const int64_t *dims,
                     int64_t n, int64_t ps) {
    const ig_exec *pool = ig_pool_exec();
    (void)self, (void)ps;
    pool->run(pool, kernel, bufs, dims, n, INT64_MAX);
}
static const ig_exec exec_pool = {run_pool};

/* Results of a program or object as tensors. */
typedef struct buffers {
    float y[ROWS * COLS], e[ROWS * COLS], s[COLS], r[COLS * COLS];
    uint16_t b[ROWS * COLS], h[ROWS * COLS];
} buffers;
static _Alignas(64) buffers buffer;
static const void *buffer_in[2] = {x_data, w_data};
static void *buffer_out[NOUT] = {buffer.y, buffer.e, buffer.s, buffer.b, buffer.h, buffer.r};

static void same_buffers(const char *how, int mode) {
    for (int k = 0; k < NOUT; k++)
        ck_assert_msg(!memcmp(ig_data(want[k]), buffer_out[k], ig_nbytes(want[k])),
                      "%s, mode \"%s\": result %d differs", how, mode_tab[mode].name, k);
}

static bool can_compile(void) {
    ig_module *m = module_in(0, false);
    ig_status s = ig_module_compile(m, NULL);
    bool can = ig_status_code(s) != IG_UNSUPPORTED;
    if (!can) printf("fpenv: %s, 1 skipped\n", ig_status_text(s));
    if (can) OK(s);
    ig_status_free(s);
    ig_module_free(m);
    return can;
}

START_TEST(compiled) {
    char path[] = "/tmp/ingot-fpenv-XXXXXX";
    int fd = mkstemp(path);
    ck_assert(fd >= 0);
    close(fd);
    begin();
    if (can_compile()) {
        ig_module *m = module_in(_i, true), *loaded;
        int64_t dims[1] = {ROWS};
        size_t bytes;
        ig_program *p;
        run_in_all("compiled", m);
        IN_MODE(_i, OK(ig_module_save(m, path)));
        IN_MODE(_i, OK(ig_module_load(path, &loaded)));
        IN_MODE(_i, OK(ig_threads(&(ig_thread_options){.count = 3})));
        ig_module_set_exec(loaded, &exec_pool); /* threads are started in this mode */
        run_in_all("loaded, on three threads", loaded);
        ig_module_free(loaded);
        ig_module_free(m);
        IN_MODE(_i, OK(ig_program_load(path, &p)));
        IN_MODE(_i, OK(ig_program_workspace(p, dims, &bytes)));
        void *ws = aligned_alloc(64, (bytes + 64) / 64 * 64);
        for (int k = 0; k < 2 * NMODE; k++) {
            memset(&buffer, 0, sizeof buffer);
            IN_MODE(k / 2, OK(ig_program_run(p, buffer_in, buffer_out, dims, ws,
                                             k % 2 ? &exec_pool : NULL)));
            same_buffers("a program", k / 2);
        }
        free(ws);
        ig_program_free(p);
    }
    unlink(path);
    eager_end();
}
END_TEST

/* The object, linked by the C compiler to nothing of ours. */
START_TEST(deployed) {
    char dir[] = "/tmp/ingot-fpenv-XXXXXX", path[64], so[64], command[256];
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/net.o", dir);
    snprintf(so, sizeof so, "%s/net.so", dir);
    snprintf(command, sizeof command, "cc -shared -nostdlib -o %s %s -lc", so, path);
    begin();
    if (can_compile()) {
        ig_module *m = module_in(_i, false);
        IN_MODE(_i, OK(ig_module_build(m, "net", NULL, path)));
        ig_module_free(m);
        ck_assert_int_eq(system(command), 0);
        void *lib = dlopen(so, RTLD_NOW | RTLD_LOCAL);
        ck_assert_msg(lib != NULL, "%s", dlerror());
        int (*run)(const void *const *, void *const *, const int64_t *, void *, const ig_exec *);
        int (*workspace)(const int64_t *, size_t *);
        *(void **)&run = dlsym(lib, "net_run");
        *(void **)&workspace = dlsym(lib, "net_workspace");
        int64_t dims[1] = {ROWS};
        size_t bytes;
        IN_MODE(_i, ck_assert_int_eq(workspace(dims, &bytes), 0));
        void *ws = aligned_alloc(64, (bytes + 64) / 64 * 64);
        for (int k = 0; k < 2 * NMODE; k++) {
            memset(&buffer, 0, sizeof buffer);
            IN_MODE(k / 2, ck_assert_int_eq(
                               run(buffer_in, buffer_out, dims, ws, k % 2 ? &exec_pool : NULL), 0));
            same_buffers("deployed", k / 2);
        }
        free(ws);
        dlclose(lib);
    }
    unlink(path);
    unlink(so);
    rmdir(dir);
    eager_end();
}
END_TEST

/* The program would notice: computed by the C compiler's own arithmetic, these modes change it. */
START_TEST(modes_matter) {
    volatile float third = 1, tiny = 1e-39f, one = 1;
    float results[NMODE][2];
    for (int k = 0; k < NMODE; k++) {
        mode_set(k);
        results[k][0] = third / 3 * one;
        results[k][1] = -(third / 3) + tiny * one;
        mode_set(0);
        bool differs = memcmp(results[k], results[0], sizeof results[0]) != 0;
        volatile float t = 0;
        mode_set(k);
        t = tiny * one;
        mode_set(0);
        differs |= k && t == 0;
        ck_assert_int_eq(differs, k != 0);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("fpenv");
    TCase *t = tcase_create("fpenv");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, modes_matter);
    tcase_add_test(t, eager);
    tcase_add_loop_test(t, by_reference, 0, NMODE);
    tcase_add_loop_test(t, compiled, 0, NMODE);
    tcase_add_loop_test(t, deployed, 0, NMODE);
    suite_add_tcase(suite, t);
    return eager_main(suite);
}
