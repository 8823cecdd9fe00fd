/* test_oom.c - the n-th allocation fails, for every n: each scenario must give an error or succeed,
 * and leak nothing. The number of allocation points is printed for every scenario; 0 would mean
 * that the sweep sweeps nothing. */
#include "codegen/invoke.h"
#include "frontend/fe.h"
#include "ir/file.h"
#include "passes/pass.h"
#include "passes/transform.h"
#include "tests/unit/suite.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- An allocator that fails once, at the n-th request, and counts what is alive
 * ------------------------ */

typedef struct oom {
    long at, fail;
    size_t live;
} oom;

static void *oom_resize(void *user, void *p, size_t old_size, size_t new_size, size_t align) {
    oom *o = user;
    const ig_allocator *libc = ig_allocator_default();
    if (new_size && o->at++ == o->fail) return NULL;
    void *q = libc->resize(libc->user, p, old_size, new_size, align);
    if (!new_size || q) o->live += new_size - (p ? old_size : 0);
    return q;
}

typedef ig_status (*oom_scenario)(const ig_allocator *a);

static void oom_sweep(const char *name, oom_scenario run) {
    long points = 0;
    for (long n = 0;; n++) {
        oom o = {.fail = n};
        ig_allocator a = {oom_resize, &o};
        ig_status s = run(&a);
        bool reached = o.at > n;
        if (s && ig_status_code(s) != IG_MEMORY)
            ck_abort_msg("%s: allocation %ld failed, and the error is not about memory: %s", name,
                         n, ig_status_text(s));
        if (!reached && s)
            ck_abort_msg("%s fails without a failing allocation: %s", name, ig_status_text(s));
        ig_status_free(s);
        if (o.live) ck_abort_msg("%s: %zu bytes leak when allocation %ld fails", name, o.live, n);
        if (!reached) break;
        points++;
    }
    printf("oom: %-10s %5ld allocation points\n", name, points);
    fflush(stdout);
    ck_assert_msg(points > 0, "%s allocates nothing: the sweep proves nothing", name);
}

/* --- Scenarios
 * ---------------------------------------------------------------------------------------- */

static const char oom_text[] =
    "module m class fma {\n"
    "  dim B in 1..64\n"
    "  weight @w : f32[3,4] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0]\n"
    "  fn @f(%x: f32[B,3], %b: f32[4]) -> (f32[B,4], f32[B]) {\n"
    "    %1 = weight name=@w\n"
    "    %2 = ein %x, %1 rel=\"y[a,b] += a[a,c]*b[c,b] over (c)\"\n"
    "    %3 = broadcast %b dims=[B,4] axes=[1]\n"
    "    %4 = add %2, %3 at \"m.c\":3\n"
    "    %5 = tanh %4\n"
    "    %6 = reduce %5 op=sum axes=[1]\n"
    "    %7 = exp %6\n"
    "    return %5, %7\n"
    "  }\n"
    "}\n";

static ig_status oom_parse(const ig_allocator *a, ir_module **m_) {
    RT_TRY(ir_parse(a, "m", oom_text, sizeof oom_text - 1, m_));
    ig_status s = ir_verify(*m_);
    if (s) {
        ir_module_free(*m_);
        *m_ = NULL;
    }
    return s;
}

static ig_status scenario_text(const ig_allocator *a) {
    ir_module *m;
    RT_TRY(oom_parse(a, &m));
    rt_str out;
    rt_str_init(&out, a);
    ir_print(m, &out, IR_PRINT_LOCS);
    ig_status s = out.failed ? rt_fail_memory() : NULL;
    rt_str_free(&out);
    ir_module_free(m);
    return s;
}

static ig_status scenario_file(const ig_allocator *a) {
    ir_module *m, *back = NULL;
    RT_TRY(oom_parse(a, &m));
    rt_str out;
    rt_str_init(&out, a);
    ig_status s = ir_save(m, NULL, 0, &out);
    if (!s) s = ir_load(a, out.data, out.n, &back);
    ir_module_free(back);
    rt_str_free(&out);
    ir_module_free(m);
    return s;
}

static ig_status scenario_passes(const ig_allocator *a) {
    ir_module *m, *planned = NULL;
    RT_TRY(oom_parse(a, &m));
    ig_status s = pass_pipeline(m, &planned);
    ir_module_free(planned);
    ir_module_free(m);
    return s;
}

static ig_status scenario_lower(const ig_allocator *a) {
    ir_module *m, *planned = NULL, *kernels = NULL;
    RT_TRY(oom_parse(a, &m));
    ig_status s = pass_pipeline(m, &planned);
    if (!s) s = cg_lower(planned, "f", cg_cpu_tab + 1, &kernels);
    ir_module_free(kernels);
    ir_module_free(planned);
    ir_module_free(m);
    return s;
}

/* A loop in a branch in a loop: derivatives and lanes of it, and of these. */
static const char oom_nested[] =
    "module m {\n"
    "  fn @f(%x: f32[3,2], %w: f32[2], %p: bool[3]) -> (f32[2], f32[3]) {\n"
    "    %big = const type=f32[] data=[3.0]\n"
    "    %1, %2 = scan %w, %x, %p n=3 carries=1 reverse=false (%t: i64[], %c: f32[2], %s: f32[2], "
    "%q: bool[]) {\n"
    "      %3 = if %q n=2 {\n"
    "        %4 = while %c cap=9 (%a: f32[2]) {\n"
    "          %5 = reduce %a op=sum axes=[0]\n"
    "          %6 = cmp %5, %big op=lt\n"
    "          yield %6\n"
    "        } (%a: f32[2]) {\n"
    "          %7 = fma %a, %s, %w\n"
    "          yield %7\n"
    "        }\n"
    "        yield %4\n"
    "      } {\n"
    "        yield %s\n"
    "      }\n"
    "      %8 = tanh %3\n"
    "      %9 = reduce %8 op=sum axes=[0]\n"
    "      yield %8, %9\n"
    "    }\n"
    "    return %1, %2\n"
    "  }\n"
    "}\n";

static ig_status scenario_transform(const ig_allocator *a) {
    static const char *const words[] = {"jvp", "vjp", "vmap 3", "vjp; vmap 2"};
    ir_module *m, *made;
    RT_TRY(ir_parse(a, "m", oom_nested, sizeof oom_nested - 1, &m));
    ig_status s = NULL;
    for (int i = 0; i < 4 && !s; i++) {
        s = pass_transform(words[i], m, &made);
        ir_module_free(made);
    }
    ir_module_free(m);
    return s;
}

static ig_status scenario_reference(const ig_allocator *a) {
    ir_module *m;
    RT_TRY(oom_parse(a, &m));
    float x[6] = {1, 2, 3, 4, 5, 6}, b[4] = {0}, y[8], z[2];
    ir_tensor in[2] = {{IG_f32, 2, {2, 3}, x}, {IG_f32, 1, {4}, b}};
    ir_tensor out[2] = {{IG_f32, 2, {2, 4}, y}, {IG_f32, 1, {2}, z}};
    int64_t B = 2;
    ig_status s = ir_ref_run(ir_find_func(m, "f"), a, &B, 2, in, 2, out);
    ir_module_free(m);
    return s;
}

static ig_status scenario_compile(const ig_allocator *a) {
    ir_module *m;
    cg_bytes image = {0};
    rt_image *loaded = NULL;
    const cg_cpu *cpu = cg_cpu_host(IR_CLASS_FMA);
    RT_TRY(oom_parse(a, &m));
    ig_status s = cpu ? cg_compile(m, "f", cpu, &image) : NULL;
    if (!s && cpu) s = rt_image_load(a, image.data, image.n, &loaded);
    rt_image_free(loaded);
    cg_bytes_free(&image);
    ir_module_free(m);
    return s;
}

/* Regions and index tensors: text, file, passes, kernels, the reference. */
static const char oom_flow_text[] =
    "module m class fma {\n"
    "  dim N in 0..64\n"
    "  fn @f(%x: f32[N,3], %h: f32[3], %i: i64[2]) -> (f32[3], f32[N,3], f32[3], f32[2,3], i64[2]) "
    "{\n"
    "    %1, %2 = scan %h, %x n=N carries=1 reverse=true (%t: i64[], %c: f32[3], %s: f32[3]) {\n"
    "      %3 = add %c, %s\n"
    "      yield %3, %c\n"
    "    }\n"
    "    %4 = while %1 cap=5 (%c: f32[3]) {\n"
    "      %5 = reduce %c op=sum axes=[0]\n"
    "      %6 = cmp %5, %5 op=lt\n"
    "      yield %6\n"
    "    } (%c: f32[3]) {\n"
    "      %7 = cumred %c op=sum axis=0 reverse=false exclusive=false\n"
    "      %8 = reduce %c op=max axes=[0]\n"
    "      %9 = cmp %8, %8 op=le\n"
    "      %10 = if %9 n=2 {\n"
    "        yield %7\n"
    "      } {\n"
    "        yield %h\n"
    "      }\n"
    "      yield %10\n"
    "    }\n"
    "    %11 = gather %x, %i axes=[0] batch=0 oob=fill\n"
    "    %12 = scatter %11, %11, %i op=add axes=[0] batch=0 oob=drop\n"
    "    %13, %14 = sort %i, %i axis=0 keys=1 descending=false\n"
    "    return %1, %2, %4, %12, %13\n"
    "  }\n"
    "}\n";

static ig_status oom_flow_run(const ig_allocator *a, const ir_module *m) {
    float x[6] = {1, 2, 3, 4, 5, 6}, h[3] = {0}, y[5][8];
    int64_t at[2] = {1, 7}, sorted[2], n = 2;
    ir_tensor in[3] = {{IG_f32, 2, {2, 3}, x}, {IG_f32, 1, {3}, h}, {IG_i64, 1, {2}, at}};
    ir_tensor out[5] = {{IG_f32, 1, {3}, y[0]},
                        {IG_f32, 2, {2, 3}, y[1]},
                        {IG_f32, 1, {3}, y[2]},
                        {IG_f32, 2, {2, 3}, y[3]},
                        {IG_i64, 1, {2}, sorted}};
    return ir_ref_run(ir_find_func(m, "f"), a, &n, 3, in, 5, out);
}

static ig_status scenario_flow(const ig_allocator *a) {
    ir_module *m, *back = NULL, *planned = NULL, *kernels = NULL;
    rt_str text, file;
    rt_str_init(&text, a);
    rt_str_init(&file, a);
    RT_TRY(ir_parse(a, "m", oom_flow_text, sizeof oom_flow_text - 1, &m));
    ig_status s = ir_verify(m);
    ir_print(m, &text, 0);
    if (!s && text.failed) s = rt_fail_memory();
    if (!s) s = ir_save(m, NULL, 0, &file);
    if (!s) s = ir_load(a, file.data, file.n, &back);
    if (!s) s = oom_flow_run(a, back);
    if (!s) s = pass_pipeline(m, &planned);
    if (!s) s = cg_lower(planned, "f", cg_cpu_tab + 1, &kernels);
    ir_module_free(kernels);
    ir_module_free(planned);
    ir_module_free(back);
    rt_str_free(&text);
    rt_str_free(&file);
    ir_module_free(m);
    return s;
}

/* Run eager code in a session on the allocator. */
static ig_status oom_session(const ig_allocator *a, ig_status (*body)(void)) {
    ig_session_options opt = {.alloc = a};
    ig_session *s;
    RT_TRY(ig_session_new(&opt, &s));
    ig_session *before = ig_session_use(s);
    ig_status st = body();
    ig_status kept = ig_error_take();
    if (st)
        ig_status_free(kept);
    else
        st = kept;
    ig_session_free(s);
    ig_session_use(before);
    return st;
}

static ig_status oom_eager_body(void) {
    ig_tensor *x = ig_uniform(NULL, IG_f32, IG_DIMS(4, 6), -1, 1), *y, *z;
    y = ig_softmax(ig_matmul(ig_tanh(x), ig_transpose(x, IG_AXES(1, 0))), -1);
    ig_assign_slice(y, 1, IG_AT(0));
    ig_assign_mask(y, ig_gt(y, 0.5), 2);
    z = ig_concat(IG_LIST(y, ig_sort(y, 1)), 0);
    ig_tensor *v, *p;
    ig_topk(z, 2, 1, &v, &p);
    char *text = NULL, *npy = NULL;
    size_t n = 0;
    RT_TRY(ig_text(z, &text));
    ig_text_free(text);
    RT_TRY(ig_npy_write(z, &npy, &n));
    ig_tensor *back = ig_npy_read(npy, n);
    ig_text_free(npy);
    if (!ig_error() && !ig_equal(z, back)) abort();
    return NULL;
}
static ig_status scenario_eager(const ig_allocator *a) { return oom_session(a, oom_eager_body); }

static void oom_traced(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor **w = user;
    ig_assign(w[1], ig_add(w[1], 1));
    out[0] = ig_tanh(ig_add(ig_matmul(in[0], w[0]), w[1]));
}

static ig_status oom_trace_body(void) {
    ig_tensor *w[2] = {ig_name(ig_ones(IG_f32, IG_DIMS(3, 40)), "w"),
                       ig_zeros(IG_f32, IG_DIMS(40))};
    ig_tensor *x = ig_ones(IG_f32, IG_DIMS(2, 3)), *y;
    ig_trace_options opt = {.name = "t", .dims = "[B,3]; B in 1..64"};
    ig_module *m = NULL;
    RT_TRY(ig_trace(oom_traced, w, 1, &x, 1, &opt, &m));
    ig_status s = ig_module_run(m, 1, &x, 1, &y);
    ig_module_free(m);
    return s;
}
static ig_status scenario_trace(const ig_allocator *a) { return oom_session(a, oom_trace_body); }

static void oom_step(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = out[1] = ig_add(in[0], in[1]);
}
static void oom_more(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_lt(ig_sum(in[0], IG_ALL_AXES), 9);
}
static void oom_twice(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_add(in[0], in[0]);
}
static void oom_loops(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_scan(oom_step, user, 1, &in[1], 1, &in[0], 1, NULL, out);
    ig_while(oom_more, oom_twice, user, 1, &in[1], 7, &out[2]);
    ig_if(ig_lt(ig_sum(in[1], IG_ALL_AXES), 9), oom_twice, oom_more, user, 1, in, 0, NULL);
    ig_tensor *picked = ig_gather(in[0], ig_argsort(in[1], 0), 1);
    out[3] = ig_scatter_add(picked, ig_scalar(IG_i32, 1), 2, 0);
}

static ig_status oom_loops_body(void) {
    ig_tensor *in[2] = {ig_ones(IG_f32, IG_DIMS(2, 3)), ig_ones(IG_f32, IG_DIMS(3))}, *out[4];
    ig_module *m = NULL;
    oom_loops(NULL, in, out);
    RT_TRY(ig_trace(oom_loops, NULL, 2, in, 4, NULL, &m));
    ig_status s = ig_module_run(m, 2, in, 4, out);
    ig_module_free(m);
    return s;
}
static ig_status scenario_loops(const ig_allocator *a) { return oom_session(a, oom_loops_body); }

static int32_t oom_double(const ig_custom_args *args) {
    const float *x = args->in[0].data;
    float *y = args->nout ? args->out[0].data : NULL;
    for (int64_t i = 0; y && i < args->in[0].dim[0]; i++) y[i] = x[i] + x[i];
    return 0;
}
static void oom_same(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_mul(in[0], 1);
}
static void oom_rule(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_mul(in[2], 2); /* x, y, and x' or ^y */
}
static ig_custom oom_op = {.fn = oom_double,
                           .name = "oom_double",
                           .version = 1,
                           .type = "f32[n] -> f32[n]",
                           .lin = oom_rule},
                 oom_call = {.fn = oom_double, .name = "oom_call", .version = 1};

static void oom_asks(void *user, ig_tensor *const *in, ig_tensor **out) {
    static const ig_rule rule = {"same", .fn = oom_same, .vjp = oom_rule};
    (void)user;
    ig_check_values(ig_lt(in[0], 9), "too large: {}", in[0]);
    ig_tensor *y = ig_composite1(&rule, ig_custom1(&oom_op, in[0]));
    ig_host(&oom_call, "text", y);
    out[0] = ig_sum(y, IG_ALL_AXES);
}

static ig_status oom_lower(const ir_module *m) {
    ir_module *planned = NULL, *kernels = NULL;
    cg_import *import = NULL;
    uint32_t n = 0;
    ig_status s = pass_pipeline(m, &planned);
    if (!s) s = cg_lower(planned, "traced", cg_cpu_tab + 1, &kernels);
    if (!s) s = cg_imports(kernels, &import, &n);
    if (n) rt_free(kernels->alloc, import, n * sizeof *import);
    ir_module_free(kernels);
    ir_module_free(planned);
    return s;
}

static ig_status oom_discharge(void) {
    static const char text[] =
        "module m {\n  fn @m(%x: f32[3], %w: f32[]) -> (f32[3], f32[]) {\n    %r = ref %x\n"
        "    %s = ref %w\n    %c = scan %w n=2 carries=1 reverse=false (%t: i64[], %a: f32[]) {\n"
        "      %1 = read %r, %t dims=[1]\n      write %r, %1, %t op=add\n      write %s, %a "
        "op=add\n"
        "      yield %a\n    }\n    %2 = read %r\n    %3 = read %s\n    return %2, %3\n  }\n}\n";
    const ig_allocator *a = ig_session_current()->alloc;
    ir_module *m = NULL, *out = NULL;
    ig_status s = ir_parse(a, "text", text, sizeof text - 1, &m);
    if (!s) s = pass_run_list("discharge", m, &out);
    ir_module_free(out);
    ir_module_free(m);
    return s;
}

static ig_status oom_custom_body(void) {
    ig_tensor *x = ig_ones(IG_f32, IG_DIMS(3)), *two = ig_ones(IG_f32, IG_DIMS(2, 3)), *y;
    ig_module *m = NULL, *g = NULL, *v = NULL;
    ig_trace_options opt = {.flags = IG_TRACE_ONCE};
    ig_status s = ig_trace(oom_asks, NULL, 1, &x, 1, &opt, &m);
    if (!s) s = oom_lower(fe_module_ir(m));
    if (!s) s = ig_grad(m, NULL, &g);
    if (!s) s = ig_vmap(g, "2", NULL, NULL, &v);
    if (!s) s = ig_module_run(v, 1, &two, 1, &y);
    if (!s) s = oom_discharge();
    ig_module_free(v);
    ig_module_free(g);
    ig_module_free(m);
    return s;
}
static ig_status scenario_custom(const ig_allocator *a) { return oom_session(a, oom_custom_body); }

#define SWEEP(name)                                                 \
    START_TEST(sweep_##name) { oom_sweep(#name, scenario_##name); } \
    END_TEST
SWEEP(text)
SWEEP(file)
SWEEP(passes)
SWEEP(lower)
SWEEP(transform)
SWEEP(reference)
SWEEP(compile)
SWEEP(eager)
SWEEP(trace)
SWEEP(flow)
SWEEP(loops)
SWEEP(custom)

int main(void) {
    Suite *s = suite_create("oom");
    TCase *t = tcase_create("oom");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, sweep_text);
    tcase_add_test(t, sweep_file);
    tcase_add_test(t, sweep_passes);
    tcase_add_test(t, sweep_lower);
    tcase_add_test(t, sweep_transform);
    tcase_add_test(t, sweep_reference);
    tcase_add_test(t, sweep_compile);
    tcase_add_test(t, sweep_eager);
    tcase_add_test(t, sweep_trace);
    tcase_add_test(t, sweep_flow);
    tcase_add_test(t, sweep_loops);
    tcase_add_test(t, sweep_custom);
    suite_add_tcase(s, t);
    return suite_run(s);
}
