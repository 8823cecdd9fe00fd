/* test_lower.c - lowering, checked where everything is checked: kernels run in an interpreter that
 * tests every access and every rule of kernel-level code, and give the reference's bytes. */
#include "codegen/target.h"
#include "passes/pass.h"
#include "tests/gen.h"
#include "tests/kernel_run.h"
#include "tests/unit/suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const ig_allocator *A(void) { return ig_allocator_default(); }
static bool is_quick(void) { return getenv("IG_TEST_QUICK") != NULL; }

#define GUARD 64 /* bytes behind an output that must stay as they are */

static size_t bytes_of(const ir_tensor *t) {
    size_t n = rt_dtype_bytes((ig_dtype)t->dtype);
    for (int i = 0; i < t->rank; i++) n *= (size_t)t->dim[i];
    return n;
}

static void must(ig_status s, const char *what, const ir_module *m) {
    rt_str text;
    if (!s) return;
    rt_str_init(&text, A());
    if (m) ir_print(m, &text, IR_PRINT_ELIDE);
    fprintf(stderr, "%s\n", rt_str_text(&text));
    ck_abort_msg("%s: %s", what, ig_status_text(s));
}

/* --- Running one function both ways --------------------------------------------------------- */

typedef struct job {
    const ir_module *m;
    const ir_func *f;
    int nin, nout;
    ir_tensor in[16], want[8], got[8];
    int64_t symbols[8];
} job;

static void alloc_outputs(job *j, ir_tensor *t) {
    for (int k = 0; k < j->nout; k++) {
        must(ir_result_shape(j->f, j->symbols, (uint32_t)k, &t[k]), "shape", j->m);
        size_t n = bytes_of(&t[k]);
        t[k].data = rt_alloc_buffer(A(), n + GUARD);
        ck_assert_ptr_nonnull(t[k].data);
        memset(t[k].data, 0xa5, n + GUARD);
    }
}

static void free_tensors(int n, ir_tensor *t, size_t extra) {
    for (int k = 0; k < n; k++) rt_free_buffer(A(), t[k].data, bytes_of(&t[k]) + extra);
}

static void compare(const job *j, const ir_module *lowered, int parts) {
    for (int k = 0; k < j->nout; k++) {
        size_t n = bytes_of(&j->want[k]), size = rt_dtype_bytes((ig_dtype)j->want[k].dtype);
        ig_dtype d = (ig_dtype)j->want[k].dtype;
        ir_canon_nan(d, j->want[k].data, (int64_t)(n / size));
        ir_canon_nan(d, j->got[k].data, (int64_t)(n / size));
        const uint8_t *w = j->want[k].data, *g = j->got[k].data;
        for (size_t i = 0; i < n + GUARD; i++) {
            if (w[i] == g[i]) continue;
            uint64_t a = 0, b = 0;
            memcpy(&a, w + i / size * size, i < n ? size : 1);
            memcpy(&b, g + i / size * size, i < n ? size : 1);
            rt_str text;
            rt_str_init(&text, A());
            ir_print(j->m, &text, IR_PRINT_ELIDE);
            if (getenv("LOWER_VERBOSE")) ir_print(lowered, &text, IR_PRINT_ELIDE);
            fprintf(stderr, "%s\n", rt_str_text(&text));
            ck_abort_msg("@%s result %d element %zu of %zu (%d parts): want %llx, got %llx",
                         j->f->name, k, i / size, n / size, parts, (unsigned long long)a,
                         (unsigned long long)b);
        }
    }
}

/* The dump of a lowered module reads back. */
static void check_text(const ir_module *lowered) {
    rt_str a, b;
    ir_module *again;
    rt_str_init(&a, A());
    rt_str_init(&b, A());
    ir_print(lowered, &a, 0);
    must(ir_parse(A(), "kernel", rt_str_text(&a), a.n, &again), "parse", lowered);
    ir_print(again, &b, 0);
    ck_assert_str_eq(rt_str_text(&a), rt_str_text(&b));
    ir_module_free(again);
    rt_str_free(&a);
    rt_str_free(&b);
}

static void run_lowered(job *j, const ir_module *lowered) {
    static const int parts[] = {1, 3, 1000};
    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
        kernel_run_opts opts = {.parts = parts[p]};
        int32_t code;
        alloc_outputs(j, j->got);
        must(kernel_run(lowered, j->f->name, j->symbols, j->nin, j->in, j->nout, j->got, &opts,
                        &code),
             "run", getenv("LOWER_VERBOSE") ? lowered : j->m);
        ck_assert_int_eq(code, 0);
        compare(j, lowered, parts[p]);
        free_tensors(j->nout, j->got, GUARD);
    }
}

/* Reference, passes, lowering, interpreter. */
static void run_job(job *j, const cg_cpu *cpu) {
    ir_module *planned, *lowered;
    must(ir_bind_dims(j->f, j->nin, j->in, j->symbols), "bind", j->m);
    j->nout = (int)j->f->results.n;
    alloc_outputs(j, j->want);
    must(ir_ref_run(j->f, A(), j->symbols, j->nin, j->in, j->nout, j->want), "reference", j->m);
    must(pass_pipeline(j->m, &planned), "passes", j->m);
    must(cg_lower(planned, j->f->name, cpu, &lowered), "lower", planned);
    must(ir_verify(lowered), "verify", lowered);
    check_text(lowered);
    run_lowered(j, lowered);
    ir_module_free(lowered);
    ir_module_free(planned);
    free_tensors(j->nout, j->want, GUARD);
}

/* Inputs with random data for the types of the parameters, symbols given. */
static void fill_inputs(job *j, gen *g, const int64_t *symbols, bool positive) {
    j->nin = (int)ir_nparam(j->f);
    for (int k = 0; k < j->nin; k++) {
        const ir_type *t = ir_val_type(j->f, ir_param_ref(j->f, (uint32_t)k));
        j->in[k] = (ir_tensor){.dtype = t->dtype, .rank = t->rank};
        for (int i = 0; i < t->rank; i++)
            ck_assert(ir_dim_eval(j->m, t->dim[i], symbols, &j->in[k].dim[i]));
        size_t n = bytes_of(&j->in[k]);
        j->in[k].data = rt_alloc_buffer(A(), n + 1);
        gen_data(g, (ig_dtype)t->dtype, (int64_t)(n / rt_dtype_bytes((ig_dtype)t->dtype)), positive,
                 j->in[k].data);
    }
}

/* --- Every op, random instances ------------------------------------------------------------- */

static void one_op(ir_opcode op, uint64_t seed, ir_class cls, const cg_cpu *cpu) {
    gen g = {seed};
    gen_op o;
    ir_builder b;
    ir_ref in[GEN_OPERANDS], out[IR_MAX_RESULTS];
    ir_module *m;
    ir_func *f;
    if (!gen_instance(&g, op, NULL, &o)) return;
    must(ir_module_new(A(), "m", &m), "module", NULL);
    m->class = cls;
    ir_build_begin(&b, m, "f", IR_FN, IR_BUILD_RAW);
    for (int k = 0; k < o.nin; k++) in[k] = ir_param(&b, o.in[k], NULL);
    out[0] = ir_emit(&b, op, &o.attr, o.nin, in);
    const ir_op *def = ir_def_op(b.f, out[0]);
    int n = def && def->code == op ? def->nout : 1;
    for (int k = 1; k < n; k++) out[k] = ir_result(out[0], (uint32_t)k);
    must(ir_build_end(&b, n, out, &f), "build", NULL);
    job j = {.m = m, .f = f};
    fill_inputs(&j, &g, NULL, !strcmp(ir_op_tab[op].domain, "positive") && seed % 2);
    run_job(&j, cpu);
    free_tensors(j.nin, j.in, 1);
    ir_module_free(m);
}

START_TEST(ops) {
    ir_opcode op = (ir_opcode)_i;
    if (!gen_has(op)) return;
    int n = is_quick() ? 30 : 200;
    const char *seeds = getenv("LOWER_SEEDS");
    if (seeds) n = atoi(seeds);
    for (int k = 0; k < n; k++) {
        const cg_cpu *cpu = cg_cpu_find(k % 3 == 0 ? "v3" : k % 3 == 1 ? "v4" : "v2");
        if (getenv("LOWER_VERBOSE")) fprintf(stderr, "%s %d\n", ir_op_tab[op].name, k);
        one_op(op, (uint64_t)_i * 1000003u + (uint64_t)k, cpu->class, cpu);
    }
}
END_TEST

/* --- Programs in text ----------------------------------------------------------------------- */

static void run_on(const char *level, const char *text, const int64_t *symbols, uint64_t seed,
                   bool positive) {
    ir_module *m;
    gen g = {seed};
    must(ir_parse(A(), "test", text, strlen(text), &m), "parse", NULL);
    m->class = cg_cpu_find(level)->class;
    job j = {.m = m, .f = m->funcs.data[m->funcs.n - 1]};
    fill_inputs(&j, &g, symbols, positive);
    run_job(&j, cg_cpu_find(level));
    free_tensors(j.nin, j.in, 1);
    ir_module_free(m);
}

/* Run a program for one binding of its symbols. */
static void run_text(const char *text, const int64_t *symbols, uint64_t seed, bool positive) {
    run_on("v3", text, symbols, seed, positive);
    run_on("v2", text, symbols, seed, positive);
}

static void run_sizes(const char *text, int n, const int64_t (*symbols)[3], bool positive) {
    for (int i = 0; i < n; i += is_quick() ? 2 : 1)
        run_text(text, symbols[i], (uint64_t)i, positive);
}

#define SIZES(...)                                                                                \
    (int)(sizeof((const int64_t[][3]){__VA_ARGS__}) / sizeof(int64_t[3])), (const int64_t[][3]) { \
        __VA_ARGS__                                                                               \
    }

START_TEST(chain) {
    run_sizes("module m class fma state 0 {\n"
              "  dim B in 0..100000\n"
              "  fn @f(%x: f32[B,7], %b: f32[7]) -> (f32[B,7]) {\n"
              "    %1 = broadcast %b dims=[B,7] axes=[1] : f32[B,7]\n"
              "    %2 = add %x, %1 : f32[B,7]\n"
              "    %3 = tanh %2 : f32[B,7]\n"
              "    %4 = mul %3, %x : f32[B,7]\n"
              "    return %4\n"
              "  }\n"
              "}\n",
              SIZES({0}, {1}, {3}, {16}, {37}), false);
}
END_TEST

START_TEST(mlp) {
    run_sizes("module m class fma state 0 {\n"
              "  dim B in 0..100000\n"
              "  fn @f(%x: f32[B,20], %w: f32[20,33], %b: f32[33]) -> (f32[B,33]) {\n"
              "    %1 = ein %x, %w rel=\"y[i,j] += a[i,k]*b[k,j] over (k)\" : f32[B,33]\n"
              "    %2 = broadcast %b dims=[B,33] axes=[1] : f32[B,33]\n"
              "    %3 = add %1, %2 : f32[B,33]\n"
              "    %4 = tanh %3 : f32[B,33]\n"
              "    return %4\n"
              "  }\n"
              "}\n",
              SIZES({0}, {1}, {5}, {6}, {13}), false);
}
END_TEST

START_TEST(
    gemm_blocks) { /* more than one block of the reduction, symbolic and transposed operands */
    run_sizes("module m class fma state 0 {\n"
              "  dim K in 0..100000\n  dim N in 0..100000\n"
              "  fn @f(%x: f32[7,K], %w: f32[N,K]) -> (f32[7,N]) {\n"
              "    %1 = ein %x, %w rel=\"y[i,j] += a[i,k]*b[j,k] over (k)\" : f32[7,N]\n"
              "    return %1\n"
              "  }\n"
              "}\n",
              SIZES({0, 3}, {1, 17}, {511, 4}, {512, 18}, {513, 16}, {1100, 2}), false);
}
END_TEST

START_TEST(gemm_variables) { /* several reduction variables, a batch, three operands */
    run_sizes(
        "module m class fma state 0 {\n"
        "  dim B in 0..100\n  dim K in 0..1000\n"
        "  fn @f(%x: f32[B,5,K,3], %w: f32[3,K,19], %s: f32[B,19]) -> (f32[B,5,19], f32[B,19]) {\n"
        "    %1 = ein %x, %w rel=\"y[i,j,k] += a[i,j,l,m]*b[m,l,k] over (m,l)\" : f32[B,5,19]\n"
        "    %2 = ein %x, %w, %s rel=\"y[i,j] += a[i,k,l,m]*b[m,l,j]*c[i,j] over (k,l,m)\" : "
        "f32[B,19]\n"
        "    return %1, %2\n"
        "  }\n"
        "}\n",
        SIZES({0, 3}, {2, 0}, {2, 7}, {1, 300}), false);
}
END_TEST

START_TEST(gemm_edges) { /* no size divides a tile, a chunk or a block of K */
    run_sizes("module m class fma state 0 {\n"
              "  dim M in 0..1000\n  dim N in 0..1000\n  dim K in 0..3000\n"
              "  fn @f(%x: f32[M,K], %y: f32[K,N], %r: f32[M,N], %b: f32[N]) -> "
              "(f32[M,N], f32[M,N], f32[N,M], f32[N]) {\n"
              "    %1 = ein %x, %y rel=\"y[i,j] += a[i,k]*b[k,j] over (k)\" : f32[M,N]\n"
              "    %2 = broadcast %b dims=[M,N] axes=[1] : f32[M,N]\n"
              "    %3 = add %1, %2 : f32[M,N]\n"
              "    %4 = mul %3, %r : f32[M,N]\n"
              "    %5 = transpose %y perm=[1,0] : f32[N,K]\n"
              "    %6 = ein %x, %5 rel=\"y[i,j] += a[i,k]*b[j,k] over (k)\" : f32[M,N]\n"
              "    %7 = ein %x, %y rel=\"y[j,i] += a[i,k]*b[k,j] over (k)\" : f32[N,M]\n"
              "    %8 = ein %r, %4 rel=\"y[j] += a[i,j]*b[i,j] over (i)\" : f32[N]\n"
              "    return %4, %6, %7, %8\n"
              "  }\n"
              "}\n",
              SIZES({0, 3, 2}, {3, 0, 2}, {3, 2, 0}, {1, 1, 1}, {1, 70, 513}, {5, 15, 511},
                    {6, 16, 512}, {7, 17, 513}, {8, 31, 9}, {13, 65, 4}, {12, 64, 1}, {391, 3, 2},
                    {9, 33, 1025}),
              false);
}
END_TEST

/* The same with known sizes: tiles and panels that overlap, columns where they lie, transposed in
 * registers, packed ahead or once for all rows; an epilogue on registers and one on memory. */
static void run_static(const char *level, int m, int n, int k, const char *type) {
    rt_str s;
    rt_str_init(&s, A());
    rt_str_printf(&s, "module m class %s state 0 {\n  weight @w : %s[%d,%d] = [",
                  strcmp(level, "v2") ? "fma" : "nofma", type, k, n);
    for (int i = 0; i < k * n; i++) rt_str_printf(&s, "%s%d.5", i ? ", " : "", i * 7 % 19 - 9);
    rt_str_printf(&s, "]\n  fn @f(%%x: %s[%d,%d], %%y: %s[%d,%d], %%z: %s[%d,%d], %%t: %s[%d,%d], ",
                  type, m, k, type, k, n, type, n, k, type, k, m);
    rt_str_printf(&s, "%%b: %s[%d], %%v: %s[%d]) -> (", type, n, type, k);
    for (int i = 0; i < 3; i++) rt_str_printf(&s, "%s[%d,%d], ", type, m, n);
    rt_str_printf(&s, "%s[%d]) {\n", type, n);
    rt_str_printf(&s,
                  "    %%1 = ein %%x, %%y rel=\"y[i,j] += a[i,k]*b[k,j] over (k)\"\n"
                  "    %%2 = broadcast %%b dims=[%d,%d] axes=[1]\n"
                  "    %%3 = add %%1, %%2\n"
                  "    %%4 = ein %%x, %%z rel=\"y[i,j] += a[i,k]*b[j,k] over (k)\"\n"
                  "    %%5 = tanh %%4\n    %%6 = add %%5, %%2\n    %%7 = weight name=@w\n"
                  "    %%8 = ein %%t, %%7 rel=\"y[i,j] += a[k,i]*b[k,j] over (k)\"\n"
                  "    %%9 = ein %%z, %%v rel=\"y[i] += a[i,k]*b[k] over (k)\"\n"
                  "    return %%3, %%6, %%8, %%9\n  }\n}\n",
                  m, n);
    run_on(level, rt_str_text(&s), NULL, (uint64_t)(m + n + k), false);
    rt_str_free(&s);
}

START_TEST(gemm_static) {
    static const char *const level[] = {"v4", "v3", "v2"};
    static const int size[][3] = {{1, 70, 513},  {5, 15, 511}, {13, 65, 4},    {12, 64, 1},
                                  {37, 53, 71},  {16, 16, 16}, {2, 33, 40},    {3, 17, 19},
                                  {4, 16, 15},   {9, 4, 530},  {49, 208, 520}, {50, 3, 33},
                                  {25, 100, 100}, {0, 33, 40}};
    for (size_t i = 0; i < sizeof size / sizeof *size; i += is_quick() ? 2 : 1)
        for (int c = 0; c < 3; c++) {
            run_static(level[c], size[i][0], size[i][1], size[i][2], "f32");
            if (i % 3 == (size_t)c) run_static(level[c], size[i][0], size[i][1], size[i][2], "f64");
        }
}
END_TEST

/* Weights packed ahead, and a number of rows that is known when it runs: fewer than a tile has, as
 * many, and such that the last tile overlaps. */
static void run_batch(const char *level, int k, int n, int64_t rows) {
    rt_str s;
    rt_str_init(&s, A());
    rt_str_printf(&s,
                  "module m class %s state 0 {\n  dim B in 0..5000\n  weight @w : f32[%d,%d] = [",
                  strcmp(level, "v2") ? "fma" : "nofma", k, n);
    for (int i = 0; i < k * n; i++) rt_str_printf(&s, "%s%d.5", i ? ", " : "", i * 7 % 19 - 9);
    rt_str_printf(&s,
                  "]\n  fn @f(%%x: f32[B,%d]) -> (f32[B,%d], f32[B,%d]) {\n"
                  "    %%1 = weight name=@w\n"
                  "    %%2 = ein %%x, %%1 rel=\"y[i,j] += a[i,k]*b[k,j] over (k)\"\n"
                  "    %%3 = tanh %%2\n    return %%3, %%2\n  }\n}\n",
                  k, n, n);
    run_on(level, rt_str_text(&s), (int64_t[3]){rows}, (uint64_t)rows, false);
    rt_str_free(&s);
}

START_TEST(gemm_batch) {
    static const char *const level[] = {"v4", "v3", "v2"};
    static const int64_t rows[] = {0, 1, 3, 4, 5, 6, 11, 12, 13, 25};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int c = 0; c < 3; c++) {
            run_batch(level[c], 7, 10, rows[i]);
            if (i % 3 == (size_t)c) run_batch(level[c], 515, 37, rows[i]);
        }
}
END_TEST

/* Blocks of one element side by side: groups that overlap, a last block that is not whole, few
 * elements, and inside another cluster. */
START_TEST(gemm_deep) {
    static const char *const type[] = {"f32", "f64", "bf16"};
    static const int k[] = {8192, 8704, 17 * 1024 + 77};
    for (int i = 0; i < 9; i += is_quick() ? 2 : 1) {
        rt_str s;
        rt_str_init(&s, A());
        const char *t = type[i % 3];
        int n = k[i / 3];
        rt_str_printf(
            &s,
            "module m class fma state 0 {\n"
            "  fn @f(%%x: %s[%d], %%y: %s[%d], %%z: %s[2,%d], %%w: %s[3,%d], %%v: %s[%d,1]) "
            "-> (%s[], %s[2,3], %s[2,1]) {\n"
            "    %%1 = ein %%x, %%y rel=\"y[] += a[k]*b[k] over (k)\"\n"
            "    %%2 = tanh %%1\n"
            "    %%3 = ein %%z, %%w rel=\"y[i,j] += a[i,k]*b[j,k] over (k)\"\n"
            "    %%4 = ein %%z, %%v rel=\"y[i,j] += a[i,k]*b[k,j] over (k)\"\n"
            "    %%5 = neg %%4\n    return %%2, %%3, %%5\n  }\n}\n",
            t, n, t, n, t, n, t, n, t, n, t, t, t);
        run_on("v4", rt_str_text(&s), NULL, (uint64_t)i, false);
        run_text(rt_str_text(&s), NULL, (uint64_t)i, false);
        rt_str_free(&s);
    }
}
END_TEST

START_TEST(gemm_types) { /* batches, rows of several axes, every element type */
    static const char *const type[] = {"f64", "f16", "bf16", "i8", "u16", "i32", "i64"};
    for (size_t i = 0; i < sizeof type / sizeof *type; i++) {
        rt_str s;
        rt_str_init(&s, A());
        const char *t = type[i];
        rt_str_printf(&s,
                      "module m class fma state 0 {\n"
                      "  dim B in 0..100\n  dim K in 0..3000\n"
                      "  fn @f(%%x: %s[B,3,4,K], %%y: %s[B,K,19], %%z: %s[4,K,19]) -> "
                      "(%s[B,3,4,19], %s[B,3,4,19]) {\n"
                      "    %%1 = ein %%x, %%y rel=\"y[i,j,k,l] += a[i,j,k,m]*b[i,m,l] over (m)\" "
                      ": %s[B,3,4,19]\n"
                      "    %%2 = ein %%x, %%z rel=\"y[i,j,k,l] += a[i,j,k,m]*b[k,m,l] over (m)\" "
                      ": %s[B,3,4,19]\n"
                      "    return %%1, %%2\n"
                      "  }\n"
                      "}\n",
                      t, t, t, t, t, t, t);
        run_sizes(rt_str_text(&s), SIZES({2, 7}, {1, 515}), false);
        rt_str_free(&s);
    }
}
END_TEST

START_TEST(reductions) {
    run_sizes("module m class fma state 0 {\n"
              "  dim B in 0..100000\n  dim N in 0..100000\n"
              "  fn @f(%x: f32[B,N]) -> (f32[B], f32[N], f32[], f32[B]) {\n"
              "    %1 = reduce %x op=sum axes=[1] : f32[B]\n"
              "    %2 = reduce %x op=sum axes=[0] : f32[N]\n"
              "    %3 = mul %x, %x : f32[B,N]\n"
              "    %4 = reduce %3 op=max axes=[0,1] : f32[]\n"
              "    %5 = exp %1 : f32[B]\n"
              "    return %1, %2, %4, %5\n"
              "  }\n"
              "}\n",
              SIZES({0, 3}, {3, 0}, {2, 15}, {3, 16}, {5, 33}, {2, 4096}, {1, 4097}, {1, 12300},
                    {8200, 1}, {4100, 17}),
              true);
}
END_TEST

START_TEST(
    middle_axes) { /* reductions over axes that are not neighbours, or cross rows of vectors */
    run_sizes("module m class fma state 0 {\n"
              "  dim B in 0..100000\n"
              "  fn @f(%x: f64[B,5,4,16], %y: f16[B,6,7]) -> (f64[5], f64[B,4], f16[6], f16[B]) {\n"
              "    %1 = reduce %x op=sum axes=[0,2,3] : f64[5]\n"
              "    %2 = reduce %x op=prod axes=[1,3] : f64[B,4]\n"
              "    %3 = reduce %y op=sum axes=[0,2] : f16[6]\n"
              "    %4 = reduce %y op=sum axes=[1,2] : f16[B]\n"
              "    return %1, %2, %3, %4\n"
              "  }\n"
              "}\n",
              SIZES({0}, {1}, {3}, {20}), true);
}
END_TEST

START_TEST(running) {
    run_sizes("module m class fma state 0 {\n"
              "  dim B in 0..100000\n  dim N in 0..100000\n"
              "  fn @f(%x: f32[B,N]) -> (f32[B,N], f32[B,N], f32[B,N]) {\n"
              "    %1 = cumred %x op=sum axis=1 reverse=false exclusive=false : f32[B,N]\n"
              "    %2 = cumred %x op=sum axis=0 reverse=true exclusive=true : f32[B,N]\n"
              "    %3 = cumred %x op=max axis=0 reverse=false exclusive=true : f32[B,N]\n"
              "    return %1, %2, %3\n"
              "  }\n"
              "}\n",
              SIZES({0, 3}, {3, 0}, {1, 1}, {3, 33}, {2, 1025}, {1026, 17}, {2500, 1}), true);
}
END_TEST

START_TEST(
    windows) { /* padding, joining and windows inside one another, in vectors and single elements */
    run_sizes("module m class fma state 0 {\n"
              "  dim B in 0..1000\n  dim N in 0..1000\n"
              "  fn @f(%x: f32[B,N], %y: f32[B,N], %v: f32[], %i: i64[]) -> (f32[B+3,2*N+5], "
              "f32[B+3,2*N+5], f32[N+2,B]) {\n"
              "    %1 = concat %x, %y axis=1 : f32[B,2*N]\n"
              "    %2 = pad %1, %v lo=[1,2] hi=[2,3] interior=[0,0] : f32[B+3,2*N+5]\n"
              "    %3 = mul %2, %2 : f32[B+3,2*N+5]\n"
              "    %4 = dupdate %3, %x, %i, %i op=add : f32[B+3,2*N+5]\n"
              "    %5 = reverse %4 axes=[0,1] : f32[B+3,2*N+5]\n"
              "    %6 = dslice %5, %i, %i dims=[B,N+2] : f32[B,N+2]\n"
              "    %7 = transpose %6 perm=[1,0] : f32[N+2,B]\n"
              "    return %4, %5, %7\n"
              "  }\n"
              "}\n",
              SIZES({0, 3}, {3, 0}, {1, 1}, {3, 7}, {2, 33}, {20, 16}), false);
}
END_TEST

START_TEST(remainders) { /* x rem y at every distance of exponents */
    static const char text[] =
        "module m class fma state 0 {\n"
        "  dim N in 0..1000\n"
        "  fn @f(%x: f32[N], %y: f32[N], %u: f64[N], %v: f64[N]) -> (f32[N], f64[N]) {\n"
        "    %1 = rem %x, %y : f32[N]\n"
        "    %2 = rem %u, %v : f64[N]\n"
        "    return %1, %2\n"
        "  }\n"
        "}\n";
    for (uint64_t seed = 0; seed < 8; seed++) run_text(text, (const int64_t[3]){67}, seed, false);
}
END_TEST

START_TEST(constants) { /* tables in kernels, large constants as operands, weights */
    static const char text[] = "module m class fma state 0 {\n"
                               "  dim B in 0..1000\n"
                               "  fn @f(%x: f32[B,4]) -> (f32[B,4], f32[4], i32[3]) {\n"
                               "    %1 = const type=f32[4] data=[1.0, 2.0, 3.0, -4.5] : f32[4]\n"
                               "    %2 = broadcast %1 dims=[B,4] axes=[1] : f32[B,4]\n"
                               "    %3 = mul %x, %2 : f32[B,4]\n"
                               "    %4 = const type=i32[3] data=[7, 8, 9] : i32[3]\n"
                               "    return %3, %1, %4\n"
                               "  }\n"
                               "}\n";
    run_sizes(text, SIZES({0}, {1}, {9}), false);
}
END_TEST

START_TEST(
    range_checks) { /* the host program refuses what is out of range, before it touches memory */
    static const char text[] = "module m class fma state 0 {\n"
                               "  dim B in 2..1000000000000\n  dim N in 0..4000000000000000000\n"
                               "  fn @f(%x: f32[B,N]) -> (f32[N*B], f32[B]) {\n"
                               "    %1 = exp %x : f32[B,N]\n"
                               "    %2 = reduce %1 op=sum axes=[1] : f32[B]\n"
                               "    %3 = reshape %1 dims=[B*N] : f32[B*N]\n"
                               "    return %3, %2\n"
                               "  }\n"
                               "}\n";
    static const struct {
        int64_t b, n;
        int32_t code;
    } bad[] = {
        {1, 1, 1},
        {-5, 1, 1},
        {2, -1, 1},
        {INT64_C(1000000000001), 1, 1},
        {INT64_C(1000000000000), INT64_C(4000000000000000000), 2},
        {INT64_C(4000000000), INT64_C(4000000000), 2},
    };
    ir_module *m, *planned, *lowered;
    must(ir_parse(A(), "test", text, strlen(text), &m), "parse", NULL);
    must(pass_pipeline(m, &planned), "passes", m);
    must(cg_lower(planned, "f", cg_cpu_find("v3"), &lowered), "lower", planned);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t symbols[2] = {bad[i].b, bad[i].n};
        int32_t code;
        must(kernel_run(lowered, "f", symbols, 0, NULL, 0, NULL, NULL, &code), "run", lowered);
        ck_assert_msg(code == bad[i].code, "case %zu: code %d", i, code);
    }
    ir_module_free(lowered);
    ir_module_free(planned);
    ir_module_free(m);
}
END_TEST

/* 62 loops in each other are compiled; what is read, but deeper, is refused by its number. */
START_TEST(nesting_limit) {
    for (int depth = 62; depth <= 64; depth++) {
        ir_module *m, *planned, *lowered;
        rt_str text;
        rt_str_init(&text, A());
        rt_str_puts(&text, "module m {\n  fn @f(%x: f32[4], %p: bool[]) -> (f32[4]) {\n");
        for (int i = 0; i < depth; i++)
            rt_str_printf(&text, "%%r%d = while %%x cap=5 (%%a%d: f32[4]) {\nyield %%p\n} "
                                 "(%%b%d: f32[4]) {\n", i, i, i);
        rt_str_printf(&text, "%%y = sin %%b%d\nyield %%y\n}\n", depth - 1);
        for (int i = depth - 1; i > 0; i--) rt_str_printf(&text, "yield %%r%d\n}\n", i);
        rt_str_puts(&text, "return %r0\n}\n}\n");
        must(ir_parse(A(), "test", rt_str_text(&text), text.n, &m), "parse", NULL);
        must(pass_pipeline(m, &planned), "passes", m);
        ig_status s = cg_lower(planned, "f", cg_cpu_find("v3"), &lowered);
        ck_assert_int_eq(s != NULL, depth > 62);
        if (s) ck_assert_ptr_nonnull(strstr(ig_status_text(s), "nest at most 62 deep"));
        ig_status_free(s);
        ir_module_free(lowered);
        ir_module_free(planned);
        ir_module_free(m);
        rt_str_free(&text);
    }
}
END_TEST

/* --- Failing allocations -------------------------------------------------------------------- */

START_TEST(allocations) {
    static const char text[] =
        "module m class fma state 0 {\n"
        "  dim B in 0..100000\n"
        "  fn @f(%x: f32[B,20], %w: f32[20,33], %v: f32[]) -> (f32[B,33], f32[33], f32[B+1,33]) {\n"
        "    %1 = ein %x, %w rel=\"y[i,j] += a[i,k]*b[k,j] over (k)\" : f32[B,33]\n"
        "    %2 = exp %1 : f32[B,33]\n"
        "    %3 = reduce %2 op=sum axes=[0] : f32[33]\n"
        "    %4 = pad %1, %v lo=[1,0] hi=[0,0] interior=[0,0] : f32[B+1,33]\n"
        "    return %2, %3, %4\n"
        "  }\n"
        "}\n";
    counting f = COUNTING(LONG_MAX);
    const ig_allocator a = {counting_resize, &f};
    bool done = false;
    for (long n = 0; !done; n += is_quick() ? 97 : 7) {
        ir_module *m, *planned, *lowered;
        must(ir_parse(&a, "test", text, strlen(text), &m), "parse", NULL);
        must(pass_pipeline(m, &planned), "passes", m);
        f.fail = f.at + n;
        ig_status s = cg_lower(planned, "f", cg_cpu_find("v3"), &lowered);
        f.fail = LONG_MAX;
        done = !s;
        if (s)
            ck_assert_int_eq(ig_status_code(s), IG_MEMORY);
        else
            ir_module_free(lowered);
        ig_status_free(s);
        ir_module_free(planned);
        ir_module_free(m);
        ck_assert_int_eq((long)f.live, 0);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("lower");
    TCase *t = tcase_create("lower");
    tcase_set_timeout(t, 600);
    tcase_add_loop_test(t, ops, 0, OP_END);
    tcase_add_test(t, chain);
    tcase_add_test(t, mlp);
    tcase_add_test(t, gemm_blocks);
    tcase_add_test(t, gemm_variables);
    tcase_add_test(t, gemm_edges);
    tcase_add_test(t, gemm_static);
    tcase_add_test(t, gemm_batch);
    tcase_add_test(t, gemm_deep);
    tcase_add_test(t, gemm_types);
    tcase_add_test(t, reductions);
    tcase_add_test(t, middle_axes);
    tcase_add_test(t, running);
    tcase_add_test(t, windows);
    tcase_add_test(t, remainders);
    tcase_add_test(t, constants);
    tcase_add_test(t, range_checks);
    tcase_add_test(t, nesting_limit);
    tcase_add_test(t, allocations);
    suite_add_tcase(s, t);
    return suite_run(s);
}
