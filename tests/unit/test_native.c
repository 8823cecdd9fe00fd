/* test_native.c - whole programs through passes, lowering, LLVM, linker and loader, against the
 * reference: every level that runs here, many sizes of the dynamic dims, any split of a launch,
 * several threads, any floating-point environment.  (Single ops on random instances:
 * test_property.c.) */
#include "native.h"
#include "ingot/threads.h"
#include "tests/gen.h"
#include "tests/unit/suite.h"
#include <check.h>
#include <math.h>
#include <pthread.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define PORTS 8

static const ig_allocator *A;

static void ok(ig_status s) { ck_assert_msg(!s, "%s", ig_status_text(s)); }

/* Entry @f of each; the dims are B and, where declared, C. */
static const char *const program_tab[] = {
    /* a small network with its softmax */
    "module mlp { dim B in 1..200\n"
    "  weight @one : f32[1] = [1.0]\n"
    "  fn @f(%x: f32[B,19], %w: f32[19,33], %b: f32[33], %v: f32[33,10]) -> (f32[B,10], i64[B]) {\n"
    "    %1 = ein %x, %w rel=\"y[b,o] += x[b,i]*w[i,o]\"\n"
    "    %2 = broadcast %b dims=[B,33] axes=[1]\n"
    "    %3 = add %1, %2\n"
    "    %4 = tanh %3\n"
    "    %5 = ein %4, %v rel=\"y[b,o] += x[b,i]*w[i,o]\"\n"
    "    %6 = reduce %5 op=max axes=[1]\n"
    "    %7 = broadcast %6 dims=[B,10] axes=[0]\n"
    "    %8 = sub %5, %7\n"
    "    %9 = exp %8\n"
    "    %10 = reduce %9 op=sum axes=[1]\n"
    "    %11 = weight name=@one\n"
    "    %12 = broadcast %11 dims=[B] axes=[0]\n"
    "    %13 = mul %10, %12\n"
    "    %14 = broadcast %13 dims=[B,10] axes=[0]\n"
    "    %15 = div %9, %14\n"
    "    %16 = reduce %15 op=argmax axes=[1]\n"
    "    return %15, %16\n"
    "  }\n}\n",
    /* reductions over every axis, long enough for two blocks; scans */
    "module reduce { dim B in 0..200\n  dim C in 0..9000\n"
    "  fn @f(%x: f32[B,C], %h: f16[C,3]) -> (f32[B], f32[C], f32[], f16[3], f32[B,C], i64[B]) {\n"
    "    %1 = reduce %x op=sum axes=[1]\n"
    "    %2 = reduce %x op=prod axes=[0]\n"
    "    %3 = reduce %x op=sum axes=[0,1]\n"
    "    %4 = reduce %h op=sum axes=[0]\n"
    "    %5 = cumred %x op=sum axis=1\n"
    "    %6 = cmp %x, %5 op=lt\n"
    "    %7 = convert %6 dtype=i64\n"
    "    %8 = reduce %7 op=sum axes=[1]\n"
    "    return %1, %2, %3, %4, %5, %8\n"
    "  }\n}\n",
    /* movement */
    "module move { dim B in 1..200\n"
    "  fn @f(%x: i32[B,6], %y: i32[4,B]) -> (i32[6,B], i32[B,15], i32[B,6], u8[2,B,2]) {\n"
    "    %1 = transpose %x perm=[1,0]\n"
    "    %2 = transpose %y perm=[1,0]\n"
    "    %3 = slice %x lo=[0,1] hi=[B,6] step=[1,2]\n"
    "    %zero = const type=i32[] data=[7]\n"
    "    %4 = pad %3, %zero lo=[0,1] hi=[0,0] interior=[0,1]\n"
    "    %5 = concat %2, %4, %2 axis=1\n"
    "    %a5 = slice %5 lo=[0,0] hi=[B,14] step=[1,1]\n"
    "    %b5 = slice %x lo=[0,2] hi=[B,3] step=[1,1]\n"
    "    %c5 = concat %a5, %b5 axis=1\n"
    "    %6 = reverse %x axes=[0,1]\n"
    "    %7 = slice %y lo=[0,0] hi=[4,B] step=[1,1]\n"
    "    %8 = reshape %7 dims=[2,2,B]\n"
    "    %9 = transpose %8 perm=[0,2,1]\n"
    "    %10 = convert %9 dtype=u8\n"
    "    return %1, %c5, %6, %10\n"
    "  }\n}\n",
    /* awkward arithmetic */
    "module awkward { dim B in 0..200\n"
    "  fn @f(%x: f32[B], %y: f32[B], %i: i32[B], %j: i32[B], %u: u64[B], %h: bf16[B])\n"
    "      -> (f32[B], i32[B], i32[B], f32[B], i8[B], bf16[B]) {\n"
    "    %1 = rem %x, %y\n"
    "    %2 = div %i, %j\n"
    "    %3 = rem %i, %j\n"
    "    %a3 = shift %3, %j op=arith\n"
    "    %4 = convert %u dtype=f32\n"
    "    %5 = convert %x dtype=i8\n"
    "    %6 = convert %x dtype=bf16\n"
    "    %7 = mul %6, %h\n"
    "    %8 = max %7, %h\n"
    "    %9 = sin %4\n"
    "    return %1, %2, %a3, %9, %5, %8\n"
    "  }\n}\n",
    /* contractions of several kinds; extents past one block */
    "module ein { dim B in 1..60\n  dim C in 1..1200\n"
    "  fn @f(%x: f32[B,C], %w: f32[7,C], %q: f64[3,B,5], %k: f64[3,B,5], %n: u8[B,C])\n"
    "      -> (f32[B,7], f64[3,5,5], f32[B], u8[C]) {\n"
    "    %1 = ein %x, %w rel=\"y[b,o] += x[b,i]*w[o,i]\"\n"
    "    %2 = ein %q, %k rel=\"y[h,i,j] += q[h,b,i]*k[h,b,j]\"\n"
    "    %3 = ein %x, %x rel=\"y[b] += x[b,i]*x[b,i]\"\n"
    "    %4 = ein %n, %n rel=\"y[i] += x[b,i]*z[b,i]\"\n"
    "    return %1, %2, %3, %4\n"
    "  }\n}\n",
    /* kernels enough for several parts of an image, no two alike */
    "module deep { dim B in 1..200\n"
    "  fn @f(%x: f32[B,19], %w: f32[19,19]) -> (f32[B,19]) {\n"
    "    %1 = ein %x, %w rel=\"y[b,o] += x[b,i]*w[i,o]\"\n"
    "    %2 = tanh %1\n"
    "    %3 = ein %2, %w rel=\"y[b,o] += x[b,i]*w[i,o]\"\n"
    "    %4 = sin %3\n"
    "    %5 = ein %4, %w rel=\"y[b,o] += x[b,i]*w[i,o]\"\n"
    "    %6 = neg %5\n"
    "    %7 = ein %6, %w rel=\"y[b,o] += x[b,i]*w[i,o]\"\n"
    "    %8 = abs %7\n"
    "    %9 = ein %8, %w rel=\"y[b,o] += x[b,i]*w[i,o]\"\n"
    "    %10 = sqrt %9\n"
    "    return %10\n"
    "  }\n}\n",
};
enum { NPROGRAM = sizeof program_tab / sizeof *program_tab };

static ir_module *parse(const char *text, ir_class cls) {
    ir_module *m;
    ok(ir_parse(A, "program", text, strlen(text), &m));
    m->class = cls;
    ok(ir_verify(m));
    return m;
}

/* --- One run --- */

typedef struct io {
    int nin, nout;
    int64_t dims[4];
    ir_tensor in[PORTS], want[PORTS], got[PORTS];
} io;

static size_t bytes_of(const ir_tensor *t, int64_t *n_) {
    ck_assert(rt_numel_checked(t->dim, t->rank, n_));
    return (size_t)*n_ * rt_dtype_bytes(t->dtype);
}

/* Random inputs for these dims, and what the reference makes of them. */
static void io_make(io *t, const ir_func *f, const int64_t *dims, uint64_t seed) {
    gen g = {seed};
    int64_t n;
    *t = (io){.nin = (int)ir_nparam(f), .nout = (int)f->results.n};
    memcpy(t->dims, dims, f->module->symbols.n * sizeof *dims);
    for (int k = 0; k < t->nin; k++) {
        const ir_type *type = ir_val_type(f, ir_param_ref(f, (uint32_t)k));
        ir_tensor *x = &t->in[k];
        x->dtype = type->dtype, x->rank = type->rank;
        for (int i = 0; i < type->rank; i++)
            ck_assert(ir_dim_eval(f->module, type->dim[i], dims, &x->dim[i]));
        x->data = rt_alloc_buffer(A, bytes_of(x, &n) + 64);
        gen_data(&g, x->dtype, n, false, x->data);
    }
    for (int k = 0; k < t->nout; k++) {
        ok(ir_result_shape(f, dims, (uint32_t)k, &t->want[k]));
        t->got[k] = t->want[k];
        t->want[k].data = rt_alloc_buffer(A, bytes_of(&t->want[k], &n) + 64);
        t->got[k].data = rt_alloc_buffer(A, bytes_of(&t->want[k], &n) + 64);
    }
    ok(ir_ref_run(f, A, dims, t->nin, t->in, t->nout, t->want));
    for (int k = 0; k < t->nout; k++) {
        bytes_of(&t->want[k], &n);
        ir_canon_nan(t->want[k].dtype, t->want[k].data, n);
    }
}

static void io_free(io *t) {
    int64_t n;
    for (int k = 0; k < t->nin; k++) rt_free_buffer(A, t->in[k].data, bytes_of(&t->in[k], &n) + 64);
    for (int k = 0; k < t->nout; k++) {
        rt_free_buffer(A, t->want[k].data, bytes_of(&t->want[k], &n) + 64);
        rt_free_buffer(A, t->got[k].data, bytes_of(&t->want[k], &n) + 64);
    }
}

/* Run the image and compare every byte. */
static void io_check(io *t, const rt_image *img, const ir_func *f, const ig_exec *exec,
                     const char *how) {
    rt_host_fn run;
    rt_workspace_fn size;
    const void *in[PORTS], *weights[PORTS];
    void *out[PORTS];
    uint64_t bytes = 0;
    int64_t n;
    *(void **)&run = rt_image_find(img, "f");
    *(void **)&size = rt_image_find(img, "f_workspace");
    ck_assert(run && size);
    for (int k = 0; k < t->nin; k++) in[k] = t->in[k].data;
    for (int k = 0; k < t->nout; k++)
        memset(out[k] = t->got[k].data, 0xa5, bytes_of(&t->got[k], &n) + 64);
    for (uint32_t k = 0; k < f->module->weights.n; k++)
        weights[k] = f->module->weights.data[k].data;
    ck_assert_int_eq(size(t->dims, &bytes), RT_HOST_OK);
    void *ws = rt_alloc_buffer(A, bytes + 64);
    ck_assert_int_eq(run(in, out, t->dims, ws, exec, weights), RT_HOST_OK);
    rt_free_buffer(A, ws, bytes + 64);
    for (int k = 0; k < t->nout; k++) {
        size_t total = bytes_of(&t->got[k], &n), each = rt_dtype_bytes(t->got[k].dtype);
        ir_canon_nan(t->got[k].dtype, t->got[k].data, n);
        for (size_t i = 0; i < total; i++)
            ck_assert_msg(((uint8_t *)t->got[k].data)[i] == ((uint8_t *)t->want[k].data)[i],
                          "%s, %s, level %s, B = %lld: output %d, element %zu differs",
                          f->module->name, how, rt_image_level(img), (long long)t->dims[0], k,
                          i / each);
        for (size_t i = 0; i < 64; i++)
            ck_assert_uint_eq(((uint8_t *)t->got[k].data)[total + i], 0xa5);
    }
}

static rt_image *compile(const ir_module *m, const cg_cpu *cpu) {
    cg_bytes bytes;
    rt_image *img;
    ok(cg_compile(m, "f", cpu, &bytes));
    ok(rt_image_load(A, bytes.data, bytes.n, &img));
    cg_bytes_free(&bytes);
    return img;
}

/* Pieces of 1, 2, 3, ... from the end. */
static void run_pieces(const ig_exec *self, ig_kernel kernel, void *const *bufs,
                       const int64_t *dims, int64_t n, int64_t ps) {
    (void)self;
    ck_assert_int_gt(ps, 0);
    for (int64_t hi = n, by = 1; hi > 0; hi -= by, by++) {
        if (by > hi) by = hi;
        kernel(bufs, dims, hi - by, hi);
    }
}
static const ig_exec exec_pieces = {run_pieces};

/* Parts at random cuts, in random order. */
static gen exec_random = {2024};
static void run_shuffled(const ig_exec *self, ig_kernel kernel, void *const *bufs,
                         const int64_t *dims, int64_t n, int64_t ps) {
    enum { MOST = 16 };
    int64_t cut[MOST + 1] = {0}, left = n;
    int parts = 1 + (int)gen_below(&exec_random, MOST), order[MOST];
    (void)self, (void)ps;
    for (int k = 0; k < parts; k++) {
        int64_t by = k + 1 < parts ? (int64_t)gen_below(&exec_random, (uint64_t)left + 1) : left;
        cut[k + 1] = cut[k] + by;
        left -= by;
        int at = (int)gen_below(&exec_random, (uint64_t)k + 1);
        order[k] = order[at];
        order[at] = k;
    }
    for (int k = 0; k < parts; k++)
        if (cut[order[k]] < cut[order[k] + 1]) kernel(bufs, dims, cut[order[k]], cut[order[k] + 1]);
}
static const ig_exec exec_shuffled = {run_shuffled};

/* The pool, made to believe that everything is long. */
static void run_pool(const ig_exec *self, ig_kernel kernel, void *const *bufs, const int64_t *dims,
                     int64_t n, int64_t ps) {
    const ig_exec *pool = ig_pool_exec();
    (void)self, (void)ps;
    pool->run(pool, kernel, bufs, dims, n, INT64_MAX);
}
static const ig_exec exec_pool = {run_pool};

/* --- Every program, level, class and size --- */

static int nlevel(void) {
    int n = 0;
    while (cg_cpu_tab[n].name) n++;
    return n;
}

static const int64_t size_tab[][2] = {{1, 1},     {2, 3},   {7, 15},   {16, 16},
                                      {17, 1025}, {60, 31}, {33, 513}, {5, 1199}};
enum { NSIZE = sizeof size_tab / sizeof *size_tab };

START_TEST(levels) {
    const cg_cpu *cpu = &cg_cpu_tab[_i % nlevel()];
    const char *text = program_tab[_i / nlevel()];
    for (int cls = IR_CLASS_FMA; cls <= IR_CLASS_NOFMA; cls++) {
        if (!cg_cpu_serves(cpu, cls)) continue;
        if (getenv("IG_TEST_QUICK") && cpu != cg_cpu_host(cls)) continue; /* a sanitizer build */
        ir_module *m = parse(text, cls);
        if (cg_cpu_runs_here(cpu)) {
            rt_image *img = compile(m, cpu);
            for (int k = 0; k < NSIZE; k++) {
                io t;
                io_make(&t, ir_find_func(m, "f"), size_tab[k], (uint64_t)(k * 7 + _i));
                io_check(&t, img, ir_find_func(m, "f"), NULL, "serial");
                io_check(&t, img, ir_find_func(m, "f"), &exec_pieces, "in pieces");
                io_free(&t);
            }
            rt_image_free(img);
        } else { /* it compiles and links, calling no library */
            cg_bytes bytes;
            ok(cg_compile(m, "f", cpu, &bytes));
            cg_bytes_free(&bytes);
        }
        ir_module_free(m);
    }
}
END_TEST

/* More than one block of every order: 4096 of a reduction, 1024 of a scan, 512 of a contraction. */
START_TEST(blocks) {
    ir_module *m = parse(program_tab[1], IR_CLASS_FMA);
    rt_image *img = compile(m, NULL);
    static const int64_t c[] = {0, 4095, 4096, 4097, 8192, 8999};
    for (int k = 0; k < 6; k++) {
        io t;
        io_make(&t, ir_find_func(m, "f"), (int64_t[2]){k % 3, c[k]}, (uint64_t)k);
        io_check(&t, img, ir_find_func(m, "f"), NULL, "blocks");
        io_free(&t);
    }
    rt_image_free(img);
    ir_module_free(m);
}
END_TEST

/* Dims outside their range are refused before anything is touched. */
START_TEST(bad_dims) {
    ir_module *m = parse(program_tab[0], IR_CLASS_FMA);
    rt_image *img = compile(m, NULL);
    rt_host_fn run;
    rt_workspace_fn size;
    *(void **)&run = rt_image_find(img, "f");
    *(void **)&size = rt_image_find(img, "f_workspace");
    static const int64_t bad[] = {0, 201, -1, INT64_MAX, INT64_MIN};
    for (int k = 0; k < 5; k++) {
        uint64_t bytes;
        ck_assert_int_eq(run(NULL, NULL, &bad[k], NULL, NULL, NULL), RT_HOST_BAD_DIMS);
        ck_assert_int_eq(size(&bad[k], &bytes), RT_HOST_BAD_DIMS);
    }
    rt_image_free(img);
    ir_module_free(m);
}
END_TEST

/* --- Environments and threads --- */

#if defined(__x86_64__)
START_TEST(environment) {
    static const unsigned csr[] = {0x9fc0, 0x3f80, 0x5f80,
                                   0xffc0}; /* FTZ and DAZ; down; up; all, and towards 0 */
    ir_module *m = parse(program_tab[_i], IR_CLASS_FMA);
    rt_image *img = compile(m, NULL);
    io t;
    io_make(&t, ir_find_func(m, "f"), (int64_t[2]){13, 57}, 99);
    for (int k = 0; k < 4; k++) {
        unsigned before = _mm_getcsr();
        _mm_setcsr(csr[k]);
        io_check(&t, img, ir_find_func(m, "f"), NULL, "another floating-point environment");
        unsigned after = _mm_getcsr();
        _mm_setcsr(before);
        ck_assert_uint_eq(after & ~0x3fu, csr[k] & ~0x3fu);
    }
    io_free(&t);
    rt_image_free(img);
    ir_module_free(m);
}
END_TEST
#endif

static void *compile_many(void *arg) {
    int first = *(int *)arg;
    for (int k = 0; k < NPROGRAM; k++) {
        ir_module *m = parse(program_tab[(first + k) % NPROGRAM], IR_CLASS_FMA);
        rt_image *img = compile(m, NULL);
        io t;
        io_make(&t, ir_find_func(m, "f"), (int64_t[2]){9, 40}, (uint64_t)k);
        io_check(&t, img, ir_find_func(m, "f"), &exec_pieces, "from several threads");
        io_free(&t);
        rt_image_free(img);
        ir_module_free(m);
    }
    return NULL;
}

START_TEST(threads) {
    pthread_t thread[4];
    int first[4] = {0, 1, 2, 3};
    for (int k = 0; k < 4; k++)
        ck_assert_int_eq(pthread_create(&thread[k], NULL, compile_many, &first[k]), 0);
    for (int k = 0; k < 4; k++) pthread_join(thread[k], NULL);
}
END_TEST

/* Any cuts, any order, any number of threads. */
START_TEST(executors) {
    ir_module *m = parse(program_tab[_i], IR_CLASS_FMA);
    const ir_func *f = ir_find_func(m, "f");
    rt_image *img = compile(m, NULL);
    for (int k = 0; k < NSIZE; k++) {
        io t;
        io_make(&t, f, size_tab[k], (uint64_t)(k * 5 + _i));
        for (int r = 0; r < 5; r++) {
            io_check(&t, img, f, &exec_shuffled, "in random parts");
            ok(ig_threads(&(ig_thread_options){.count = 1 + (int)gen_below(&exec_random, 9)}));
            io_check(&t, img, f, &exec_pool, "on the pool");
        }
        io_free(&t);
    }
    rt_image_free(img);
    ir_module_free(m);
}
END_TEST

/* An image does not depend on who generates its parts. */
START_TEST(parts) {
    const cg_cpu *cpu = &cg_cpu_tab[_i];
    ir_module *m = parse(program_tab[NPROGRAM - 1], cpu->class);
    cg_bytes first = {0}, other;
    for (int threads = 1; threads < 6; threads++) {
        ok(ig_threads(&(ig_thread_options){.count = threads}));
        ok(cg_compile(m, "f", cpu, &other));
        if (threads == 1) {
            first = other;
            continue;
        }
        ck_assert_uint_eq(first.n, other.n);
        ck_assert(!memcmp(first.data, other.data, other.n));
        cg_bytes_free(&other);
    }
    cg_bytes_free(&first);
    ir_module_free(m);
}
END_TEST

/* --- Failure --- */

/* LLVM ends the process: the compile fails with a report, and so do later ones. */
START_TEST(fatal) {
    ir_module *m = parse(program_tab[_i ? NPROGRAM - 1 : 0], IR_CLASS_FMA);
    cg_bytes bytes;
    ok(ig_threads(&(ig_thread_options){.count = 4}));
    setenv("IG_LLVM_FATAL", "1", 1);
    ig_status s = cg_compile(m, "f", NULL, &bytes);
    unsetenv("IG_LLVM_FATAL");
    ck_assert_int_eq(ig_status_code(s), IG_INTERNAL);
    ck_assert_ptr_null(bytes.data);
    ig_status_free(s);
    s = cg_compile(m, "f", NULL, &bytes);
    ck_assert_int_eq(ig_status_code(s), IG_INTERNAL);
    ig_status_free(s);
    ir_module_free(m);
}
END_TEST

int main(void) {
    A = ig_allocator_default();
    if (!native_plugin()) {
        printf("native: no plug-in, 1 skipped\n");
        return 0;
    }
    Suite *suite = suite_create("native");
    TCase *t = tcase_create("native");
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, levels, 0, NPROGRAM * nlevel());
    tcase_add_test(t, blocks);
    tcase_add_test(t, bad_dims);
#if defined(__x86_64__)
    tcase_add_loop_test(t, environment, 0, NPROGRAM);
#endif
    tcase_add_test(t, threads);
    tcase_add_loop_test(t, executors, 0, NPROGRAM);
    tcase_add_loop_test(t, parts, 0, nlevel());
    tcase_add_loop_test(t, fatal, 0, 2);
    suite_add_tcase(suite, t);
    return suite_run(suite);
}
