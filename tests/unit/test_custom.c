/* test_custom.c - C functions as ops, callbacks and assertions: eager, traced, compiled, saved,
 * loaded, deployed; derivatives and batches; what is refused. */
#include "codegen/target.h"
#include "eager.h"
#include "frontend/fe.h"
#include "ingot/runtime.h"
#include "ir/file.h"
#include "passes/transform.h"

#include <dlfcn.h>
#include <unistd.h>

/* --- The functions -------------------------------------------------------------------------- */

static int cubed; /* calls */

static int32_t cube(const ig_custom_args *a) {
    int64_t n = 1;
    for (int k = 0; k < a->in[0].rank; k++) n *= a->in[0].dim[k];
    const float *x = a->in[0].data;
    float *y = a->out[0].data;
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * x[i] * x[i];
    cubed++;
    return a->nin != 1 || a->nout != 1 || a->out[0].dtype != IG_f32 || a->user != &cubed;
}
static ig_custom cube_op = {.fn = cube,
                            .user = &cubed,
                            .name = "test_cube",
                            .version = 1,
                            .type = "f32[...] -> f32[...]",
                            .flags = IG_CUSTOM_LANES};

/* y[i] = sum of x[i, :] * w, and twice the extents. */
static int32_t rows(const ig_custom_args *a) {
    const float *x = a->in[0].data, *w = a->in[1].data;
    float *y = a->out[0].data;
    int32_t *z = a->out[1].data;
    int64_t n = a->in[0].dim[0], k = a->in[0].dim[1];
    for (int64_t i = 0; i < n; i++) {
        y[i] = 0;
        for (int64_t j = 0; j < k; j++) y[i] += x[i * k + j] * w[j];
    }
    for (int64_t i = 0; i < 2 * n + 1; i++) z[i] = (int32_t)(i * k);
    return a->out[0].dim[0] != n || a->out[1].dim[0] != 2 * n + 1;
}
static ig_custom rows_op = {.fn = rows,
                            .name = "test_rows",
                            .version = 2,
                            .type = "f32[n,k], f32[k] -> f32[n], i32[2*n+1]"};

static int32_t broken(const ig_custom_args *a) {
    (void)a;
    return 7;
}
static ig_custom broken_op = {
    .fn = broken, .name = "test_broken", .version = 1, .type = "T[n] -> T[n]"};

/* The same bits eagerly, from the module by the reference, and compiled. */
static ig_module *want_same(int line, ig_body_fn fn, void *user, const char *dims, int nin,
                            ig_tensor *const *in, int nout) {
    ig_tensor *want[6] = {0}, *got[6] = {0};
    ig_module *m;
    fn(user, in, want);
    ig_status e = ig_trace(fn, user, nin, in, nout, &(ig_trace_options){.dims = dims}, &m);
    ck_assert_msg(!e, "line %d: %s", line, ig_status_text(e));
    for (int native = 0; native < 2; native++) {
        if (native) {
            e = ig_module_compile(m, NULL);
            ck_assert_msg(!e, "line %d: %s", line, ig_status_text(e));
        }
        e = ig_module_run(m, nin, in, nout, got);
        ck_assert_msg(!e, "line %d: %s", line, ig_status_text(e));
        for (int i = 0; i < nout; i++)
            ck_assert_msg(ig_equal(want[i], got[i]), "line %d: result %d differs, native %d", line,
                          i, native);
    }
    return m;
}
#define SAME(fn, user, dims, nin, in, nout) want_same(__LINE__, fn, user, dims, nin, in, nout)

/* --- Ops ------------------------------------------------------------------------------------ */

static void with_cube(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_add(ig_custom1(&cube_op, ig_mul(in[0], 2.0)), in[0]);
}

static void with_rows(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ck_assert_msg(ig_custom(&rows_op, IG_LIST(in[0], in[1]), 2, out), "%s", ig_error_text());
    out[2] = ig_exp(ig_custom1(&cube_op, out[0]));
}

START_TEST(ops_run_alike) {
    ig_tensor *x = VECTOR(IG_f32, 1, -2, 0.5), *y;
    with_cube(NULL, &x, &y);
    WANT(y, IG_f32, IG_DIMS(3), 9, -66, 1.5);
    ig_module_free(SAME(with_cube, NULL, "[N]; N in 0..9", 1, &x, 1));
    ig_tensor *in[2] = {ig_normal(NULL, IG_f32, IG_DIMS(3, 4), 0, 1),
                        ig_normal(NULL, IG_f32, IG_DIMS(4), 0, 1)};
    ig_module *m = SAME(with_rows, NULL, "[N,K], [K]; N in 0..9, K in 1..9", 2, in, 3);
    ig_tensor *other[2] = {ig_normal(NULL, IG_f32, IG_DIMS(5, 2), 0, 1),
                           ig_normal(NULL, IG_f32, IG_DIMS(2), 0, 1)};
    ig_tensor *want[3], *got[3];
    with_rows(NULL, other, want);
    OK(ig_module_run(m, 2, other, 3, got));
    for (int i = 0; i < 3; i++) ck_assert(ig_equal(want[i], got[i]));
    ck_assert_int_eq(ig_dim(got[1], 0), 11);
    ig_module_free(m);
    eager_end();
}
END_TEST

/* Operands that no kernel makes: constants, weights, arguments, other names of these. */
static void with_leaves(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_check(ig_full(IG_bool, IG_DIMS(2), 1), "constants");
    out[0] = ig_custom1(&cube_op, ig_full(IG_f32, IG_DIMS(3), 2));
    out[1] = ig_custom1(&cube_op, user);
    out[2] = ig_custom1(&cube_op, ig_reshape(in[0], IG_DIMS(2, 2)));
    out[3] = ig_custom1(&cube_op, ig_custom1(&cube_op, in[0]));
    out[4] = in[0];
    out[5] = ig_custom1(&cube_op, ig_tensor_from(IG_f32, IG_DIMS(0), NULL));
}

START_TEST(ops_take_anything) {
    ig_tensor *w = ig_name(VECTOR(IG_f32, 3, 4), "w"), *x = VECTOR(IG_f32, 1, 2, 3, -1);
    ig_module_free(SAME(with_leaves, w, NULL, 1, &x, 6));
    eager_end();
}
END_TEST

static void in_loop(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_custom1(&cube_op, ig_mul(in[0], 0.5));
    out[1] = ig_custom1(&cube_op, out[0]);
}

static void loops(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_scan(in_loop, user, 1, in, 0, NULL, 1, &(ig_scan_options){.steps = 4}, out);
}

START_TEST(ops_run_in_loops) {
    ig_tensor *x = VECTOR(IG_f32, 1, -2, 1.5);
    ig_module_free(SAME(loops, NULL, NULL, 1, &x, 2));
    eager_end();
}
END_TEST

START_TEST(ops_are_saved_by_name) {
    char path[] = "/tmp/ingot-custom-XXXXXX";
    ig_tensor *x = VECTOR(IG_f32, 1, -2, 0.5), *want, *got;
    ig_module *m, *n;
    close(mkstemp(path));
    with_cube(NULL, &x, &want);
    OK(ig_trace(with_cube, NULL, 1, &x, 1, NULL, &m));
    OK(ig_module_compile(m, NULL));
    OK(ig_module_save(m, path));
    ig_module_free(m);
    OK(ig_module_load(path, &n));
    int before = cubed;
    OK(ig_module_run(n, 1, &x, 1, &got));
    ck_assert(ig_equal(want, got) && cubed == before + 1);
    ig_module_free(n);
    ig_program *p; /* the runtime alone */
    float y[3];
    size_t bytes;
    const void *in = ig_data(x);
    void *out = y, *ws;
    OK(ig_program_load(path, &p));
    OK(ig_program_workspace(p, NULL, &bytes));
    ck_assert(!posix_memalign(&ws, 64, bytes + 1));
    OK(ig_program_run(p, &in, &out, NULL, ws, NULL));
    ck_assert(!memcmp(y, ig_data(want), sizeof y));
    free(ws);
    ig_program_free(p);
    remove(path);
    eager_end();
}
END_TEST

static ig_custom late_op = {
    .fn = broken, .name = "test_late", .version = 3, .type = "T[...] -> T[...]"};

static void with_late(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_custom1(&late_op, in[0]);
}

/* A file names a function: who loads it must have it, whoever prints or builds it need not. */
START_TEST(who_loads_must_register) {
    static const char text[] = "module m {\n  fn @m(%x: f32[3]) -> (f32[3]) {\n"
                               "    %y = custom %x name=@test_nobody version=3 "
                               "type=@\"T[...] -> T[...]\" lanes=false\n    return %y\n  }\n}\n";
    char path[] = "/tmp/ingot-custom-XXXXXX", object[64];
    ir_module *ir;
    rt_str bytes;
    ig_module *m;
    ig_tensor *x = VECTOR(IG_f32, 1, 2, 3), *y;
    close(mkstemp(path));
    snprintf(object, sizeof object, "%s.o", path);
    rt_str_init(&bytes, ig_allocator_default());
    OK(ir_parse(ig_allocator_default(), "text", text, sizeof text - 1, &ir));
    OK(ir_verify(ir));
    OK(ir_save(ir, NULL, 0, &bytes));
    FILE *f = fopen(path, "wb");
    ck_assert(f && fwrite(bytes.data, 1, bytes.n, f) == bytes.n && !fclose(f));
    rt_str_free(&bytes);
    WANT_STATUS(ig_module_load(path, &m), IG_UNSUPPORTED, "test_nobody", "version 3",
                "ig_custom_register");
    cg_bytes built;
    OK(cg_build(ir, "m", "m", cg_cpu_find("v3"), &built));
    cg_bytes_free(&built);
    ir_module_free(ir);
    remove(path);
    with_late(NULL, &x, &y); /* it registers itself, and fails */
    WANT_ERROR(IG_FAILED, "test_late failed with code 7");
    eager_end();
}
END_TEST

/* What a program that deploys the object is linked with. */
IG_API int32_t test_cube(const ig_custom_args *a);
int32_t test_cube(const ig_custom_args *a) {
    ig_custom_args own = *a;
    own.user = a->user ? NULL : &cubed;
    return cube(&own);
}

static void deployable(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_check_values(ig_lt(in[0], 10.0), "too large: {}", in[0]);
    with_cube(user, in, out);
}

START_TEST(objects_call_what_they_are_linked_with) {
    ig_tensor *x = VECTOR(IG_f32, 1, -2, 0.5), *want;
    float got[3], large[3] = {1, 100, 2};
    const void *in = ig_data(x), *wrong = large;
    void *out = got, *ws = NULL, *sym;
    int (*run)(const void *const *, void *const *, const int64_t *, void *, const ig_exec *);
    char dir[] = "/tmp/ingot-custom-XXXXXX", object[64], library[64], command[256];
    ig_module *m;
    ck_assert(mkdtemp(dir) != NULL);
    snprintf(object, sizeof object, "%s/f.o", dir);
    snprintf(library, sizeof library, "%s/f.so", dir);
    snprintf(command, sizeof command, "cc -shared -o %s %s", library, object);
    with_cube(NULL, &x, &want);
    OK(ig_trace(deployable, NULL, 1, &x, 1, &(ig_trace_options){.name = "f"}, &m));
    OK(ig_module_build(m, "f", NULL, object));
    ck_assert_int_eq(system(command), 0);
    void *lib = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(lib && (sym = dlsym(lib, "f_run")), "%s", dlerror());
    memcpy(&run, &sym, sizeof run);
    ck_assert(!posix_memalign(&ws, 64, 65536));
    ck_assert_int_eq(run(&in, &out, NULL, ws, NULL), 0);
    ck_assert(!memcmp(got, ig_data(want), sizeof got));
    ck_assert_int_eq(run(&wrong, &out, NULL, ws, NULL), 16);
    free(ws);
    dlclose(lib);
    remove(object);
    remove(library);
    rmdir(dir);
    ig_module_free(m);
    eager_end();
}
END_TEST

/* --- Derivatives and batches ----------------------------------------------------------------- */

static void only_rows(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *y[2];
    (void)user;
    ig_custom(&rows_op, IG_LIST(in[0], in[1]), 2, y);
    out[0] = y[0];
}

START_TEST(lanes) {
    ig_tensor *x = ig_normal(NULL, IG_f32, IG_DIMS(5, 3), 0, 1),
              *a[2] = {ig_normal(NULL, IG_f32, IG_DIMS(4, 2, 3), 0, 1),
                       ig_normal(NULL, IG_f32, IG_DIMS(3), 0, 1)};
    ig_tensor *row = ig_take(x, (int64_t[]){0}, 1, 0), *one = ig_reshape(row, IG_DIMS(3)), *want,
              *got;
    ig_module *m, *v;
    OK(ig_trace(with_cube, NULL, 1, &one, 1, NULL, &m));
    OK(ig_vmap(m, "5", NULL, NULL, &v));
    with_cube(NULL, &x, &want);
    int before = cubed;
    OK(ig_module_run(v, 1, &x, 1, &got));
    ck_assert(ig_equal(want, got) && cubed == before + 1); /* all lanes at once */
    ig_module_free(v);
    ig_module_free(m);
    ig_tensor *first[2] = {ig_reshape(ig_take(a[0], (int64_t[]){0}, 1, 0), IG_DIMS(2, 3)), a[1]};
    OK(ig_trace(only_rows, NULL, 2, first, 1, NULL, &m));
    OK(ig_vmap(m, "4", (int[]){0, -1}, NULL, &v));
    for (int native = 0; native < 2; native++) {
        if (native) OK(ig_module_compile(v, NULL));
        OK(ig_module_run(v, 2, a, 1, &got));
        for (int64_t k = 0; k < 4; k++) {
            ig_tensor *lane[2] = {ig_reshape(ig_take(a[0], &k, 1, 0), IG_DIMS(2, 3)), a[1]};
            only_rows(NULL, lane, &want);
            ck_assert(ig_equal(ig_reshape(ig_take(got, &k, 1, 0), IG_DIMS(2)), want));
        }
    }
    ig_module_free(v);
    ig_module_free(m);
    eager_end();
}
END_TEST

/* --- Rules ----------------------------------------------------------------------------------- */

static void round_it(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_round(in[0]);
}
static void pass_through(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = in[2]; /* x, y, x' -> y' */
}
static const ig_rule straight_through = {"straight_through", .fn = round_it, .lin = pass_through};

/* log(1 + e^x), whose derivative does not overflow where e^x does. */
static void log1pexp(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_log1p(ig_exp(in[0]));
}
static void log1pexp_lin(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *p = ig_sub(1.0, ig_div(1.0, ig_add(1.0, ig_exp(in[0]))));
    out[0] = ig_mul(in[2], p);
}
static const ig_rule softplus = {"softplus", .fn = log1pexp, .lin = log1pexp_lin};

static void same(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_copy(in[0]);
}
static void clip_it(void *user, ig_tensor *const *in, ig_tensor **out) {
    double most = *(const double *)user;
    out[0] = ig_maximum(ig_minimum(in[2], most), -most); /* x, y, ^y -> ^x */
}
static double one = 1;
static const ig_rule clip = {"clip_gradient", .fn = same, .vjp = clip_it, .user = &one};

static void rounded(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_sum(ig_mul(ig_composite1(&straight_through, in[0]), in[0]), IG_ALL_AXES);
}
static void soft(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_sum(ig_composite1(&softplus, in[0]), IG_ALL_AXES);
}
static void clipped(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *x = ig_composite1(&clip, in[0]);
    out[0] = ig_sum(ig_mul(ig_mul(x, x), x), IG_ALL_AXES);
}

/* A module of fn by the transformations, on one argument and what more there is. */
static ig_module *derived(ig_body_fn fn, ig_tensor *x, const char *words) {
    ig_module *m, *d;
    ir_module *ir;
    OK(ig_trace(fn, NULL, 1, &x, 1, NULL, &m));
    OK(pass_transform(words, fe_module_ir(m), &ir));
    OK(fe_module_derived(m, ir, &d));
    ig_module_free(m);
    return d;
}

START_TEST(rules_replace_derivatives) {
    ig_tensor *x = VECTOR(IG_f64, 0.4, -1.6, 2.2), *v = VECTOR(IG_f64, 1, 2, -1), *y[3];
    ig_module *m = derived(rounded, x, "grad");
    for (int native = 0; native < 2; native++) { /* round(x) + x * 1 */
        if (native) OK(ig_module_compile(m, NULL));
        OK(ig_module_run(m, 1, &x, 1, y));
        WANT_NEAR(1e-15, y[0], IG_f64, IG_DIMS(3), 0.4, -3.6, 4.2);
    }
    ig_module_free(m);
    ig_tensor *two[2] = {x, v};
    m = derived(rounded, x, "jvp");
    OK(ig_module_run(m, 2, two, 2, y));
    WANT_NEAR(1e-14, y[1], IG_f64, IG_SCALAR, 0.4 - 7.2 - 4.2);
    ig_module_free(m);
    m = derived(rounded, x, "hvp"); /* d(round(x) + x) = 2 v */
    OK(ig_module_run(m, 2, two, 1, y));
    WANT_NEAR(1e-15, y[0], IG_f64, IG_DIMS(3), 2, 4, -2);
    ig_module_free(m);
    eager_end();
}
END_TEST

START_TEST(rules_go_to_any_order_and_batch) {
    ig_tensor *x = VECTOR(IG_f64, 1000, 0, -3), *v = VECTOR(IG_f64, 1, 2, -1), *y[3];
    const double p = 1 - 1 / (1 + exp(-3.0));
    ig_module *m = derived(soft, x, "grad");
    OK(ig_module_run(m, 1, &x, 1, y));
    WANT_NEAR(1e-15, y[0], IG_f64, IG_DIMS(3), 1, 0.5, p);
    ig_module_free(m);
    ig_tensor *small[2] = {VECTOR(IG_f64, 0.5, 0, -3), v};
    const double q = 1 / (1 + exp(-0.5));
    m = derived(soft, x, "hvp");
    OK(ig_module_run(m, 2, small, 1, y));
    WANT_NEAR(1e-14, y[0], IG_f64, IG_DIMS(3), q * (1 - q), 0.5, -p * (1 - p));
    ig_module_free(m);
    m = derived(soft, x, "grad; vjp"); /* reverse over reverse */
    OK(ig_module_run(m, 2, small, 2, y));
    WANT_NEAR(1e-14, y[1], IG_f64, IG_DIMS(3), q * (1 - q), 0.5, -p * (1 - p));
    ig_module_free(m);
    m = derived(soft, x, "grad; vmap 2");
    ig_tensor *lanes = TENSOR(IG_f64, IG_DIMS(2, 3), 1000, 0, -3, 0, 0, 0);
    OK(ig_module_run(m, 1, &lanes, 1, y));
    WANT_NEAR(1e-15, y[0], IG_f64, IG_DIMS(2, 3), 1, 0.5, p, 0.5, 0.5, 0.5);
    ig_module_free(m);
    m = derived(soft, x, "vmap 2; vjp"); /* the rule of the batched function */
    ig_tensor *in[2] = {lanes, VECTOR(IG_f64, 1, 2)};
    OK(ig_module_compile(m, NULL));
    OK(ig_module_run(m, 2, in, 2, y));
    WANT_NEAR(1e-15, y[1], IG_f64, IG_DIMS(2, 3), 1, 0.5, p, 1, 1, 1);
    ig_module_free(m);
    eager_end();
}
END_TEST

START_TEST(vjp_rules_are_for_reverse_mode) {
    ig_tensor *x = VECTOR(IG_f64, 0.1, -2, 1), *y[3];
    ig_module *m = derived(clipped, x, "grad"), *f, *bad;
    OK(ig_module_run(m, 1, &x, 1, y));
    WANT_NEAR(1e-15, y[0], IG_f64, IG_DIMS(3), 0.03, 1, 1);
    ig_module_free(m);
    m = derived(clipped, x, "vmap 2; vjp");
    ig_tensor *in[2] = {TENSOR(IG_f64, IG_DIMS(2, 3), 0.1, -2, 1, 1, 0, 0.2),
                        VECTOR(IG_f64, 1, -1)};
    OK(ig_module_run(m, 2, in, 2, y));
    WANT_NEAR(1e-15, y[1], IG_f64, IG_DIMS(2, 3), 0.03, 1, 1, -1, -0.0, -0.12);
    ig_module_free(m);
    OK(ig_trace(clipped, NULL, 1, &x, 1, NULL, &f));
    WANT_STATUS(ig_jvp(f, NULL, &bad), IG_UNSUPPORTED, "test_custom.c", "clip_gradient",
                "forward mode", "lin rule");
    ig_module_free(f);
    eager_end();
}
END_TEST

static void scoped(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *w = in[0];
    (void)user;
    IG_GRAD_SCOPE {
        ig_watch(w);
        ig_tensor *y = ig_composite1(&clip, ig_mul(w, 1.0));
        ig_backward(ig_sum(ig_mul(ig_composite1(&softplus, y), ig_composite1(&straight_through, y)),
                           IG_ALL_AXES));
    }
    out[0] = ig_copy(ig_grad_of(w));
    ig_grad_clear(w);
}

static void straight(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *y = ig_composite1(&clip, ig_mul(in[0], 1.0));
    out[0] = ig_sum(ig_mul(ig_composite1(&softplus, y), ig_composite1(&straight_through, y)),
                    IG_ALL_AXES);
}

static void through_module(void *user, ig_tensor *const *in, ig_tensor **out) {
    OK(ig_module_run(user, 1, in, 1, out));
    out[0] = ig_mul(out[0], 2.0);
}

/* Eager gradients, traced steps and loaded modules know the rules. */
START_TEST(rules_are_known_everywhere) {
    char path[] = "/tmp/ingot-custom-XXXXXX";
    ig_tensor *x = VECTOR(IG_f64, 0.3, -2, 1.7), *want, *got, *twice;
    ig_module *g = derived(straight, x, "grad"), *m, *n, *h;
    OK(ig_module_run(g, 1, &x, 1, &want));
    ig_module_free(g);
    for (int k = 0; k < 3; k++) { /* op by op, found again, compiled */
        scoped(NULL, &x, &got);
        ck_assert_msg(ig_equal(want, got), "%d: %s", k, ig_error_text());
    }
    OK(ig_trace(straight, NULL, 1, &x, 1, NULL, &m));
    close(mkstemp(path));
    OK(ig_module_save(m, path));
    ig_module_free(m);
    OK(ig_module_load(path, &n));
    remove(path);
    OK(ig_grad(n, NULL, &g));
    OK(ig_module_run(g, 1, &x, 1, &got));
    ck_assert(ig_equal(want, got));
    ig_module_free(g);
    OK(ig_trace(through_module, n, 1, &x, 1, NULL, &m)); /* a module in a trace */
    OK(ig_grad(m, NULL, &h));
    OK(ig_module_run(h, 1, &x, 1, &twice));
    double w[3], t[3];
    OK(ig_read(want, w, sizeof w));
    OK(ig_read(twice, t, sizeof t));
    for (int k = 0; k < 3; k++) { /* clipped at 1 where the cotangent is twice as large */
        double c = w[k];
        ck_assert_msg(fabs(t[k]) <= 1 && fabs(t[k]) >= fabs(c) - 1e-15, "%g %g", t[k], c);
    }
    ig_module_free(h);
    ig_module_free(m);
    ig_module_free(n);
    eager_end();
}
END_TEST

static void captures(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)in;
    out[0] = ig_copy(*(ig_tensor **)user);
}
static void one_argument(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = in[0];
}

static void captured(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *hidden = ig_mul(in[0], 2.0);
    ig_rule rule = {"hiding", .fn = captures, .vjp = one_argument, .user = &hidden};
    (void)user;
    out[0] = ig_sum(ig_composite1(&rule, in[0]), IG_ALL_AXES);
}

START_TEST(rules_are_closed) {
    ig_tensor *x = VECTOR(IG_f64, 1, 2), *y;
    ig_module *m, *g;
    OK(ig_trace(captured, NULL, 1, &x, 1, NULL, &m));
    WANT_STATUS(ig_grad(m, NULL, &g), IG_INVALID, "test_custom.c", "hiding", "from outside",
                "pass it as an argument");
    ig_module_free(m);
    static const ig_rule both = {"both", .fn = same, .lin = pass_through, .vjp = clip_it},
                         short_one = {"short", .fn = same, .lin = round_it};
    y = ig_composite1(&both, x);
    WANT_ERROR(IG_INVALID, "one rule: lin or vjp");
    (void)y;
    (void)short_one;
    eager_end();
}
END_TEST

/* --- Errors ---------------------------------------------------------------------------------- */

static void with_broken(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_custom1(&broken_op, in[0]);
}

static void summed_cube(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_sum(ig_custom1(&cube_op, in[0]), IG_ALL_AXES);
}

START_TEST(refused) {
    ig_tensor *x = VECTOR(IG_f32, 1, 2, 3), *m23 = ig_zeros(IG_f32, IG_DIMS(2, 3)), *y, *two[2];
    ig_custom1(&cube_op, ig_cast(x, IG_i32));
    WANT_ERROR(IG_DTYPE, "test_custom.c", "test_cube", "operand 0 is i32[3], not f32");
    ig_custom(&rows_op, IG_LIST(m23, VECTOR(IG_f32, 1, 2)), 2, two);
    WANT_ERROR(IG_SHAPE, "test_rows", "operand 1 is f32[2]", "k is 3");
    ig_custom(&rows_op, IG_LIST(x, x), 2, two);
    WANT_ERROR(IG_SHAPE, "operand 0 is f32[3], which is no f32[n,k]");
    ig_custom1(&rows_op, x);
    WANT_ERROR(IG_SHAPE, "f32[n,k]");
    ig_custom1(&cube_op, x, x);
    WANT_ERROR(IG_INVALID, "2 operands", "has 1");
    static const struct {
        const char *type, *why;
    } bad[] = {
        {"f32[n", "`]` is expected"},          {"f32[n] f32[n]", "`->` is expected"},
        {"f32[n] -> f32[m]", "no operand"},    {"f32[n] -> T[n]", "no operand"},
        {"f32[n] -> f32[n] x", "the end"},     {"f32[n] -> f32[n-4]", "negative"},
        {"f32[n] -> f32[((((((((((n", "nest"}, {"f32[n] -> f32[...,n]", "no operand has `...`"}};
    static ig_custom wrong[sizeof bad / sizeof *bad];
    static char name[sizeof bad / sizeof *bad][16];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(name[i], sizeof name[i], "test_wrong%zu", i);
        wrong[i] = (ig_custom){.fn = cube, .name = name[i], .version = 1, .type = bad[i].type};
        ig_custom1(&wrong[i], x);
        ck_assert_msg(strstr(ig_error_text(), bad[i].why) != NULL, "%s: %s", bad[i].type,
                      ig_error_text());
        ig_error_clear();
    }
    ig_custom again = cube_op, no_name = {.fn = cube, .name = "a b", .version = 1};
    WANT_STATUS(ig_custom_register(&again), IG_INVALID, "another C function", "test_cube");
    WANT_STATUS(ig_custom_register(&no_name), IG_INVALID, "not a C identifier");
    OK(ig_custom_register(&cube_op));

    with_broken(NULL, &x, &y);
    WANT_ERROR(IG_FAILED, "test_broken failed with code 7");
    ig_module *m, *n;
    WANT_STATUS(ig_trace(with_broken, NULL, 1, &x, 1, NULL, &m), IG_FAILED, "code 7");
    OK(ig_trace(summed_cube, NULL, 1, &x, 1, NULL, &m));
    WANT_STATUS(ig_grad(m, NULL, &n), IG_UNSUPPORTED, "test_custom.c", "test_cube", "no derivative",
                "lin or vjp");
    ig_module_free(m);
    eager_end();
}
END_TEST

/* --- Callbacks and assertions ----------------------------------------------------------------- */

static char said[256]; /* what the callback was told, in order */

static int32_t listen(const ig_custom_args *a) {
    size_t n = strlen(said);
    snprintf(said + n, sizeof said - n, "%s%g;", a->text ? a->text : "",
             (double)*(const float *)a->in[0].data);
    return 0;
}
static ig_custom listen_op = {.fn = listen, .name = "test_listen", .version = 1};

static void tell(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_host(&listen_op, "body ", in[0]);
    out[0] = ig_mul(in[0], 2.0);
}

static void say_nothing(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_copy(in[0]);
}

static void telling(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *y;
    ig_host(&listen_op, "first ", in[0]);
    ig_scan(tell, user, 1, in, 0, NULL, 0, &(ig_scan_options){.steps = 3}, &y);
    ig_if(ig_lt(y, 0.0), tell, say_nothing, user, 1, &y, 1, out);
    ig_host(&listen_op, "last ", out[0]);
}

static void want_said(int line, const char *want) {
    ck_assert_msg(!strcmp(said, want), "line %d: %s, not %s", line, said, want);
    said[0] = 0;
}
#define SAID(want) want_said(__LINE__, want)

START_TEST(callbacks_keep_their_order) {
    ig_tensor *x = ig_scalar(IG_f32, 1), *minus = ig_scalar(IG_f32, -1), *y;
    const char *plus = "first 1;body 1;body 2;body 4;last 8;",
               *less = "first -1;body -1;body -2;body -4;body -8;last -16;";
    ig_module *m, *g, *v;
    telling(NULL, &x, &y);
    SAID(plus);
    OK(ig_trace(telling, NULL, 1, &x, 1, &(ig_trace_options){.flags = IG_TRACE_ONCE}, &m));
    said[0] = 0;
    for (int native = 0; native < 2; native++) {
        if (native) OK(ig_module_compile(m, NULL));
        OK(ig_module_run(m, 1, &x, 1, &y));
        SAID(plus);
        OK(ig_module_run(m, 1, &minus, 1, &y));
        SAID(less);
    }
    OK(ig_grad(m, NULL, &g)); /* a callback has no results: the derivative passes it by */
    OK(ig_module_run(g, 1, &x, 1, &y));
    WANT(y, IG_f32, IG_SCALAR, 8);
    SAID(plus);
    OK(ig_vmap(m, "2", NULL, NULL, &v));
    ig_tensor *lanes = VECTOR(IG_f32, 1, 2);
    OK(ig_module_run(v, 1, &lanes, 1, &y));
    WANT(y, IG_f32, IG_DIMS(2), 8, 16);
    SAID("first 1;first 2;body 1;body 2;body 2;body 4;body 4;body 8;last 8;last 16;");
    ig_module_free(v);
    ig_module_free(g);
    ig_module_free(m);
    eager_end();
}
END_TEST

static void checked(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_check(ig_lt(in[0], 100.0), "not too large");
    ig_check_values(ig_lt(0.0, in[0]), "must be positive: {} of {}", in[0],
                    ig_sum(in[0], IG_ALL_AXES));
    out[0] = ig_sum(ig_log(in[0]), IG_ALL_AXES);
}

static void check_each(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_check_values(ig_lt(in[0], 10.0), "step {}", in[0]);
    out[0] = ig_add(in[0], 4.0);
}

static void checked_loop(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_scan(check_each, user, 1, in, 0, NULL, 0, &(ig_scan_options){.steps = 5}, out);
}

START_TEST(assertions_say_what_and_where) {
    ig_tensor *x = VECTOR(IG_f32, 1, 2, 3), *bad = VECTOR(IG_f32, 1, -2, 3), *y;
    ig_tensor *big = VECTOR(IG_f32, 1, 2000, 3), *zero = ig_scalar(IG_f32, 0);
    ig_module *m, *g, *v, *loop;
    checked(NULL, &bad, &y);
    WANT_ERROR(IG_FAILED, "test_custom.c", "must be positive: [1, -2, 3] of 2");
    ig_module_free(SAME(checked, NULL, "[N]; N in 1..9", 1, &x, 1));
    OK(ig_trace(checked, NULL, 1, &x, 1, NULL, &m));
    OK(ig_trace(checked_loop, NULL, 1, &zero, 1, &(ig_trace_options){.flags = IG_TRACE_ONCE},
                &loop));
    for (int native = 0; native < 2; native++) {
        if (native) {
            OK(ig_module_compile(m, NULL));
            OK(ig_module_compile(loop, NULL));
        }
        WANT_STATUS(ig_module_run(m, 1, &bad, 1, &y), IG_FAILED, "test_custom.c", "assert",
                    "must be positive: [1, -2, 3] of 2");
        WANT_STATUS(ig_module_run(m, 1, &big, 1, &y), IG_FAILED, "test_custom.c", "not too large");
        WANT_STATUS(ig_module_run(loop, 1, &zero, 1, &y), IG_FAILED, "step 12");
        OK(ig_module_run(m, 1, &x, 1, &y));
    }
    OK(ig_grad(m, NULL, &g));
    WANT_STATUS(ig_module_run(g, 1, &bad, 1, &y), IG_FAILED, "must be positive");
    OK(ig_vmap(m, "2", NULL, NULL, &v));
    OK(ig_module_compile(v, NULL));
    ig_tensor *two = TENSOR(IG_f32, IG_DIMS(2, 3), 1, 2, 3, 1, 2, -3);
    WANT_STATUS(ig_module_run(v, 1, &two, 1, &y), IG_FAILED, "must be positive");
    ig_module_free(loop);
    ig_module_free(v);
    ig_module_free(g);
    ig_module_free(m);
    ig_check(x, "of bools");
    WANT_ERROR(IG_DTYPE, "bools are needed");
    eager_end();
}
END_TEST

int main(void) {
    Suite *s = suite_create("custom");
    TCase *t = tcase_create("custom");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, ops_run_alike);
    tcase_add_test(t, ops_take_anything);
    tcase_add_test(t, ops_run_in_loops);
    tcase_add_test(t, ops_are_saved_by_name);
    tcase_add_test(t, who_loads_must_register);
    tcase_add_test(t, objects_call_what_they_are_linked_with);
    tcase_add_test(t, lanes);
    tcase_add_test(t, rules_replace_derivatives);
    tcase_add_test(t, rules_go_to_any_order_and_batch);
    tcase_add_test(t, vjp_rules_are_for_reverse_mode);
    tcase_add_test(t, rules_are_known_everywhere);
    tcase_add_test(t, rules_are_closed);
    tcase_add_test(t, refused);
    tcase_add_test(t, callbacks_keep_their_order);
    tcase_add_test(t, assertions_say_what_and_where);
    suite_add_tcase(s, t);
    return suite_run(s);
}
