/* test_llvm.c - the LLVM plug-in: every elementwise op at every element type against the
 * reference, on every level that runs here; loops, branches, vectors, memory; the floating-point
 * environment; failure; deployment objects. */
#include "native.h"
#include "tests/unit/suite.h"
#include <check.h>
#include <elf.h>
#include <math.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define N         533 /* pairs of special values, then random ones; odd, so that there is a tail */
#define MAX_CASES 2048

static const ig_allocator *A;

static void ok(ig_status s) { ck_assert_msg(!s, "%s", ig_status_text(s)); }

static ir_module *new_module(ir_class cls) {
    ir_module *m;
    ok(ir_module_new(A, "test", &m));
    m->class = cls;
    return m;
}

/* --- Values --- */

static uint64_t rng_state = 88172645463325252u;
static uint64_t rng(void) {
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    return rng_state ^= rng_state << 17;
}

static uint64_t special_float(ig_dtype d, unsigned k) {
    static const double x[] = {0,
                               -0.0,
                               1,
                               -1,
                               0.5,
                               1.5,
                               2.5,
                               -2.5,
                               3,
                               INFINITY,
                               -INFINITY,
                               NAN,
                               255.5,
                               256,
                               -128.5,
                               127.99,
                               65535.5,
                               2147483648.0,
                               -2147483649.0,
                               4294967296.0,
                               9223372036854775808.0,
                               -9223372036854775808.0,
                               18446744073709551616.0,
                               1e30,
                               -1e30};
    unsigned n = sizeof x / sizeof *x;
    uint64_t r = 0;
    if (k >= n) { /* the least and the largest denormal, the least normal, the largest */
        static const uint64_t f64[] = {1, 0xfffffffffffff, 0x10000000000000, 0x7fefffffffffffff};
        static const uint64_t f32[] = {1, 0x7fffff, 0x800000, 0x7f7fffff};
        return (d == IG_f64 ? f64 : f32)[(k - n) % 4] | (k % 8 < 4     ? 0
                                                         : d == IG_f64 ? UINT64_C(1) << 63
                                                                       : 1u << 31);
    }
    float f = (float)x[k];
    if (d == IG_f64)
        memcpy(&r, &x[k], 8);
    else
        memcpy(&r, &f, 4);
    return r;
}

static uint64_t special_int(ig_dtype d, unsigned k) {
    uint64_t bits = 8 * rt_dtype_bytes(d), top = UINT64_C(1) << (bits - 1);
    uint64_t x[] = {0, 1,    UINT64_MAX, top,      top - 1, 2,
                    7, bits, bits - 1,   bits + 1, top + 1, UINT64_MAX - 6};
    return x[k % 12];
}

/* One element; `i` walks through pairs of special values, then anything. */
static uint64_t element(ig_dtype d, unsigned i, int operand) {
    unsigned k = operand ? i / 23 : i % 23;
    char kind = rt_dtype_tab[d].kind;
    if (kind == 'b') return rng() & 1;
    if (kind == 'f' && rt_dtype_bytes(d) == 2) return rng() & 0xffff;
    if (kind == 'f') {
        if (i < 23 * 20)
            return special_float(d, (k * (operand ? 7u : 1u) + (unsigned)operand * 3) % 33);
        double x = ((double)(rng() >> 11) * 0x1p-53 - 0.5) * ldexp(1, (int)(rng() % 80) - 30);
        float f = (float)x;
        uint64_t r = 0;
        if (d == IG_f64)
            memcpy(&r, &x, 8);
        else
            memcpy(&r, &f, 4);
        return r;
    }
    return i < 200 ? special_int(d, k) : i < 400 ? rng() % 40 - 5 : rng();
}

static void fill(ig_dtype d, void *p, int operand) {
    size_t size = rt_dtype_bytes(d);
    for (unsigned i = 0; i < N; i++) {
        uint64_t x = element(d, i, operand);
        memcpy((char *)p + i * size, &x, size);
    }
}

/* --- Elementwise cases: from the op table, the attribute enums and the element types --- */

typedef struct ewcase {
    ir_opcode op;
    union {
        ir_attr_dtype dtype;
        ir_attr_rmode e;
        char bytes[64];
    } attr;
    int nin;
    ig_dtype in[3], out;
    char name[64];
} ewcase;

static ewcase cases[MAX_CASES];
static int ncase;

static bool is_half(ig_dtype d) { return rt_is_float(d) && rt_dtype_bytes(d) == 2; }

/* What lowering expands before the plug-in sees it. */
static bool is_expanded(const ewcase *c) {
    if (c->op == OP_rem && rt_is_float(c->in[0])) return true;
    if (ir_math_has(c->op, IG_f32)) return true;
    if (c->op == OP_neg || c->op == OP_abs || c->op == OP_select || c->op == OP_bitcast)
        return false;
    if (c->op == OP_convert && (c->in[0] == c->out || c->out == IG_bool)) return false;
    return is_half(c->in[0]) || is_half(c->out);
}

/* Add a case when the type rule accepts it. */
static void add_case(ir_module *m, ir_opcode op, const void *attr, size_t attr_size, int nin,
                     ig_dtype d, const char *variant) {
    ewcase *c = &cases[ncase];
    memset(c, 0, sizeof *c);
    c->op = op;
    c->nin = nin;
    memcpy(c->attr.bytes, attr, attr_size);
    int64_t dims[1] = {N};
    ir_type in[3], out[IR_MAX_RESULTS];
    for (int k = 0; k < nin; k++) {
        c->in[k] = op == OP_select && k == 0 ? IG_bool : d;
        in[k] = ir_tensor_type(c->in[k], 1, dims);
    }
    ir_infer inf = {.m = m, .op = op, .nin = nin, .in = in, .attr = &c->attr, .out = out};
    if (!ir_infer_types(&inf)) return;
    c->out = (ig_dtype)out[0].dtype;
    snprintf(c->name, sizeof c->name, "%s_%s_%s", ir_op_tab[op].name, variant, ig_dtype_name(d));
    ck_assert_int_lt(++ncase, MAX_CASES);
}

static void make_cases(ir_module *m) {
    ncase = 0;
    for (int op = 0; op < OP_END; op++) {
        const ir_op_info *info = &ir_op_tab[op];
        if (!info->elementwise || info->level != 'b') continue;
        const ir_attr_info *attr = &ir_attr_tab[info->attr];
        const char *const *names = attr->nfield ? ir_enum_names(attr->field[0].kind) : NULL;
        for (int d = 1; d < IG_DTYPE_END; d++) {
            char bytes[64] = {0};
            ck_assert_uint_le(attr->size, sizeof bytes);
            if (names) {
                for (int v = 0; names[v]; v++) {
                    bytes[attr->field[0].offset] = (char)v;
                    add_case(m, op, bytes, attr->size, info->arity, d, names[v]);
                }
            } else if (attr->nfield && attr->field[0].kind == FIELD_dtype) {
                for (int to = 1; to < IG_DTYPE_END; to++) {
                    bytes[attr->field[0].offset] = (char)to;
                    add_case(m, op, bytes, attr->size, info->arity, d, ig_dtype_name(to));
                }
            } else {
                add_case(m, op, bytes, attr->size, info->arity, d, "");
            }
        }
    }
    ck_assert_int_gt(ncase, 200);
}

/* One loop of a kernel: load, op, store, with the given lanes. */
static void build_loop(ir_builder *b, const ewcase *c, const ir_ref *mem, ir_ref lo, ir_ref hi,
                       int lanes) {
    ir_ref bounds[2] = {lo, hi}, iv, x[3];
    ir_type i64 = ir_scalar_type(IG_i64);
    ir_attr_for loop = {.kind = IR_loop_seq, .step = lanes ? lanes : 1};
    ir_attr_lanes how = {.lanes = lanes};
    uint32_t op = ir_op_begin(b, OP_for, &loop, 2, bounds, 1);
    ir_region_begin(b, op, 0, 1, &i64, &iv);
    for (int k = 0; k < c->nin; k++) x[k] = ir_emit2(b, OP_load, &how, mem[k], iv);
    ir_ref y = ir_emit(b, c->op, &c->attr, c->nin, x);
    ir_emit3(b, OP_store, NULL, mem[c->nin], iv, y);
    ir_region_end(b, 0, NULL);
    ir_op_end(b, op);
}

/* A kernel: 16 lanes at a time, then one by one. */
static void build_case(ir_module *m, const ewcase *c) {
    ir_builder b;
    ir_ref mem[4];
    ir_build_begin(&b, m, c->name, IR_KERNEL, IR_BUILD_RAW);
    for (int k = 0; k < c->nin; k++) mem[k] = ir_param(&b, ir_mem_type(c->in[k]), NULL);
    mem[c->nin] = ir_param(&b, ir_mem_type(c->out), NULL);
    ir_ref lo = ir_param(&b, ir_scalar_type(IG_i64), "lo"),
           hi = ir_param(&b, ir_scalar_type(IG_i64), "hi");
    ir_ref n = ir_emit2(&b, OP_sub, NULL, hi, lo);
    n = ir_emit2(&b, OP_bit, &(ir_attr_bitop){.op = IR_bitop_band}, n, ir_const_i(&b, IG_i64, -16));
    ir_ref mid = ir_emit2(&b, OP_add, NULL, lo, n);
    build_loop(&b, c, mem, lo, mid, 16);
    build_loop(&b, c, mem, mid, hi, 0);
    ok(ir_build_end(&b, 0, NULL, NULL));
}

static const void *expected(ir_class cls, const ewcase *c, void *const in[3], void *out) {
    ir_tensor x[3], y = {.dtype = (uint8_t)c->out, .rank = 1, .dim = {N}, .data = out};
    for (int k = 0; k < c->nin; k++)
        x[k] = (ir_tensor){.dtype = (uint8_t)c->in[k], .rank = 1, .dim = {N}, .data = in[k]};
    ok(ir_ref_op(A, cls, c->op, &c->attr, c->nin, x, 1, &y));
    return out;
}

/* Run a case and compare with the reference; NaNs are equal. */
static void check_case(const rt_image *img, const cg_cpu *cpu, ir_class cls, const ewcase *c) {
    static char in[3][N * 8] __attribute__((aligned(64))), got[N * 8 + 8], want[N * 8];
    void *bufs[4], *const ins[3] = {in[0], in[1], in[2]};
    for (int k = 0; k < c->nin; k++)
        fill(c->in[k], bufs[k] = in[k], c->op == OP_select ? k - 1 : k);
    bufs[c->nin] = got;
    if (c->op == OP_bitcast)
        ir_canon_nan(c->in[0], in[0], N); /* in a kernel it is raw: lowering canonicalises */
    memset(got, 0xa5, sizeof got);
    ig_kernel run;
    *(void **)&run = rt_image_find(img, c->name);
    ck_assert_msg(run, "%s is missing", c->name);
    run(bufs, NULL, 0, N);
    expected(cls, c, ins, want);
    size_t size = rt_dtype_bytes(c->out);
    ck_assert_msg((uint8_t)got[N * size] == 0xa5, "%s writes too far", c->name);
    ir_canon_nan(c->out, got, N);
    ir_canon_nan(c->out, want, N);
    for (unsigned i = 0; i < N; i++) {
        uint64_t g = 0, w = 0, x = 0, y = 0;
        memcpy(&g, got + i * size, size);
        memcpy(&w, want + i * size, size);
        memcpy(&x, in[0] + i * rt_dtype_bytes(c->in[0]), rt_dtype_bytes(c->in[0]));
        if (c->nin > 1) memcpy(&y, in[1] + i * rt_dtype_bytes(c->in[1]), rt_dtype_bytes(c->in[1]));
        ck_assert_msg(g == w, "%s on %s: element %u of %#llx, %#llx is %#llx, not %#llx", c->name,
                      cpu->name, i, (unsigned long long)x, (unsigned long long)y,
                      (unsigned long long)g, (unsigned long long)w);
    }
}

static ir_module *module_of_cases(ir_class cls) {
    ir_module *m = new_module(cls);
    make_cases(m);
    for (int i = 0; i < ncase; i++)
        if (!is_expanded(&cases[i])) build_case(m, &cases[i]);
    ok(ir_verify(m));
    return m;
}

/* Compile all cases for one level and class: no library is called anywhere; run them where
 * possible. */
static void check_level(const cg_cpu *cpu, ir_class cls) {
    ir_module *m = module_of_cases(cls);
    cg_bytes image = native_image(m, cpu, NULL);
    ck_assert_msg(image.data, "no code for %s", cpu->name);
    rt_image *img;
    ig_status s = rt_image_load(A, image.data, image.n, &img);
    if (cg_cpu_runs_here(cpu)) {
        ok(s);
        ck_assert_str_eq(rt_image_level(img), cpu->name);
        for (int i = 0; i < ncase; i++)
            if (!is_expanded(&cases[i])) check_case(img, cpu, cls, &cases[i]);
        rt_image_free(img);
    } else {
        ck_assert_int_eq(ig_status_code(s), IG_UNSUPPORTED);
        ig_status_free(s);
    }
    native_free(image);
    ir_module_free(m);
}

static int nlevel(void) {
    int n = 0;
    while (cg_cpu_tab[n].name) n++;
    return n;
}

START_TEST(elementwise) {
    const cg_cpu *cpu = &cg_cpu_tab[_i / 2];
    ir_class cls = _i % 2 ? IR_CLASS_NOFMA : IR_CLASS_FMA;
    bool quick = getenv("IG_TEST_QUICK") != NULL; /* a sanitizer build: the host's level alone */
    if (cg_cpu_serves(cpu, cls) && (!quick || cpu == cg_cpu_host(cls))) check_level(cpu, cls);
}
END_TEST

/* What lowering must expand is refused by name, not left to a library. */
START_TEST(refused) {
    const cg_cpu *cpu = cg_cpu_host(IR_CLASS_FMA);
    int seen = 0;
    ir_module *types = new_module(IR_CLASS_FMA);
    make_cases(types);
    ir_module_free(types);
    for (int i = 0; i < ncase; i++) {
        const ewcase *c = &cases[i];
        if (!is_expanded(c) || (c->op == OP_convert && i % 5)) continue;
        ir_module *m = new_module(IR_CLASS_FMA);
        build_case(m, c);
        cg_llvm_host host = native_host();
        void *object;
        size_t n;
        char message[512];
        ck_assert_int_eq(native_object(&host, m, cpu, NULL, &object, &n, message), IG_INTERNAL);
        ck_assert_msg(strstr(message, ir_op_tab[c->op].name) && strstr(message, c->name), "%s",
                      message);
        ck_assert_ptr_null(object);
        ir_module_free(m);
        seen++;
    }
    ck_assert_int_gt(seen, 20);
}
END_TEST

/* --- Programs as text --- */

static ir_module *parse(const char *text) {
    ir_module *m;
    ok(ir_parse(A, "test", text, strlen(text), &m));
    ok(ir_verify(m));
    return m;
}

static rt_image *load(const ir_module *m, const cg_cpu *cpu, const char *prefix) {
    cg_bytes image = native_image(m, cpu, prefix);
    ck_assert(image.data);
    rt_image *img;
    ok(rt_image_load(A, image.data, image.n, &img));
    native_free(image);
    return img;
}

static ig_kernel find_kernel(const rt_image *img, const char *name) {
    ig_kernel k;
    *(void **)&k = rt_image_find(img, name);
    ck_assert_msg(k, "%s is missing", name);
    return k;
}

static const char *const loops_text =
    "module t class fma state 0 {\n"
    "  kernel @loops(%y: mem<i64>, %lo: i64[], %hi: i64[]) -> () {\n"
    "    %z = const type=i64[] data=[0] : i64[]\n"
    "    %one = const type=i64[] data=[1] : i64[]\n"
    "    %two = const type=i64[] data=[2] : i64[]\n"
    "    %three = const type=i64[] data=[3] : i64[]\n"
    "    %five = const type=i64[] data=[5] : i64[]\n"
    "    %ten = const type=i64[] data=[10] : i64[]\n"
    "    %many = const type=i64[] data=[100000] : i64[]\n"
    "    %s, %n = for %lo, %hi, %z, %z kind=par step=1 : i64[], i64[] (%i: i64[], %a: i64[], %b: "
    "i64[]) {\n"
    "      %t = for %z, %i, %a kind=seq step=2 : i64[] (%j: i64[], %c: i64[]) {\n"
    "        %odd = bit %i, %one op=band : i64[]\n"
    "        %p = cmp %odd, %z op=ne : bool[]\n"
    "        %q = kif %p : i64[] {\n"
    "          %r = mul %j, %i : i64[]\n"
    "          yield %r\n"
    "        } {\n"
    "          yield %one\n"
    "        }\n"
    "        %d = add %c, %q : i64[]\n"
    "        yield %d\n"
    "      }\n"
    "      %b1 = add %b, %one : i64[]\n"
    "      yield %t, %b1\n"
    "    }\n"
    "    store %y, %z, %s\n"
    "    store %y, %one, %n\n"
    "    %none = for %ten, %five, %many kind=seq step=1 : i64[] (%i1: i64[], %a1: i64[]) {\n"
    "      yield %i1\n"
    "    }\n"
    "    store %y, %two, %none\n"
    "    %u, %v = for %z, %ten, %one, %two kind=unroll step=3 : i64[], i64[] (%i2: i64[], %a2: "
    "i64[], %b2: i64[]) {\n"
    "      %w = for %z, %two, %a2 kind=unroll step=1 : i64[] (%i3: i64[], %a3: i64[]) {\n"
    "        %x = mul %a3, %ten : i64[]\n"
    "        %x1 = add %x, %i2 : i64[]\n"
    "        %x2 = add %x1, %i3 : i64[]\n"
    "        yield %x2\n"
    "      }\n"
    "      yield %b2, %w\n"
    "    }\n"
    "    store %y, %three, %u\n"
    "    %four = add %three, %one : i64[]\n"
    "    store %y, %four, %v\n"
    "    %big = for %z, %many, %z kind=unroll step=1 : i64[] (%i4: i64[], %a4: i64[]) {\n"
    "      %a5 = add %a4, %i4 : i64[]\n"
    "      yield %a5\n"
    "    }\n"
    "    store %y, %five, %big\n"
    "    return\n"
    "  }\n"
    "}\n";

START_TEST(loops) {
    ir_module *m = parse(loops_text);
    rt_image *img = load(m, cg_cpu_host(IR_CLASS_FMA), NULL);
    int64_t y[6] = {0}, s = 0, n = 0, u = 1, v = 2, big = 0;
    void *bufs[1] = {y};
    find_kernel(img, "loops")(bufs, NULL, 3, 20);
    for (int64_t i = 3; i < 20; i++, n++)
        for (int64_t j = 0; j < i; j += 2) s += i & 1 ? j * i : 1;
    for (int64_t i = 0; i < 10; i += 3) {
        int64_t w = u;
        for (int64_t j = 0; j < 2; j++) w = w * 10 + i + j;
        u = v, v = w;
    }
    for (int64_t i = 0; i < 100000; i++) big += i;
    int64_t want[6] = {s, n, 100000, u, v, big};
    for (int i = 0; i < 6; i++) ck_assert_int_eq(y[i], want[i]);
    find_kernel(img, "loops")(bufs, NULL, 5, 5);
    ck_assert_int_eq(y[0], 0);
    ck_assert_int_eq(y[1], 0);
    rt_image_free(img);
    ir_module_free(m);
}
END_TEST

static const char *const memory_text =
    "module t class fma state 0 {\n"
    "  kernel @memory(%a: mem<f32>, %y: mem<f32>, %flags: mem<bool>, %lo: i64[], %hi: i64[]) -> () "
    "{\n"
    "    %z = const type=i64[] data=[0] : i64[]\n"
    "    %i = viota lanes=8 : vec<8 x i64>\n"
    "    %three = const type=i64[] data=[3] : i64[]\n"
    "    %by3 = splat %three lanes=8 : vec<8 x i64>\n"
    "    %at = mul %i, %by3 : vec<8 x i64>\n"
    "    %g = load %a, %at lanes=8 : vec<8 x f32>\n"
    "    %t = alloc dtype=f32 n=32 : mem<f32>\n"
    "    store %t, %at, %g\n"
    "    %e = load %t, %z lanes=4 : vec<4 x f32>\n"
    "    %h0 = vhalf %g index=0 : vec<4 x f32>\n"
    "    %h1 = vhalf %g index=1 : vec<4 x f32>\n"
    "    %s = add %h0, %h1 : vec<4 x f32>\n"
    "    %s1 = vhalf %s index=1 : vec<2 x f32>\n"
    "    %s2 = vhalf %s1 index=1 : f32[]\n"
    "    %s3 = extract %g index=5 : f32[]\n"
    "    store %y, %z, %s\n"
    "    %c4 = const type=i64[] data=[4] : i64[]\n"
    "    store %y, %c4, %s2\n"
    "    %c5 = const type=i64[] data=[5] : i64[]\n"
    "    store %y, %c5, %s3\n"
    "    %w = const type=vec<4 x f32> data=[1.5, -0.0, inf, 7.0] : vec<4 x f32>\n"
    "    %c6 = const type=i64[] data=[6] : i64[]\n"
    "    store %y, %c6, %w\n"
    "    %p = cmp %g, %g op=lt : vec<8 x bool>\n"
    "    %q = lnot %p : vec<8 x bool>\n"
    "    store %flags, %z, %q\n"
    "    %f = load %flags, %at lanes=8 : vec<8 x bool>\n"
    "    %c8 = const type=i64[] data=[8] : i64[]\n"
    "    store %flags, %c8, %f\n"
    "    return\n"
    "  }\n"
    "}\n";

START_TEST(memory) {
    ir_module *m = parse(memory_text);
    rt_image *img = load(m, cg_cpu_host(IR_CLASS_FMA), NULL);
    float a[32], y[10];
    uint8_t flags[32] = {0};
    for (int i = 0; i < 32; i++) a[i] = (float)i, flags[i] = i >= 8 && i % 2;
    void *bufs[3] = {a, y, flags};
    find_kernel(img, "memory")(bufs, NULL, 0, 1);
    for (int i = 0; i < 4; i++) ck_assert_float_eq(y[i], a[3 * i] + a[3 * (i + 4)]);
    ck_assert_float_eq(y[4], a[9] + a[21]);
    ck_assert_float_eq(y[5], a[15]);
    ck_assert_float_eq(y[6], 1.5f);
    ck_assert(y[7] == 0 && signbit(y[7]) && isinf(y[8]) && y[9] == 7);
    for (int i = 0; i < 8; i++) ck_assert_int_eq(flags[i], 1);
    for (int i = 0; i < 8; i++) ck_assert_int_eq(flags[8 + i], 3 * i < 8 || (3 * i) % 2);
    rt_image_free(img);
    ir_module_free(m);
}
END_TEST

/* --- Host programs and deployment objects --- */

static const char *const host_text =
    "module t class fma state 0 {\n"
    "  dim B in 1..1000\n"
    "  weight @w.scale : f32[2] = [2.0, 3.0]\n"
    "  weight @\".c0\" : f32[2] = [7.0, 1.0]\n"
    "  kernel @k0_scale(%a: mem<f32>, %w: mem<f32>, %y: mem<f32>, %lo: i64[], %hi: i64[]) -> () {\n"
    "    %one = const type=i64[] data=[1] : i64[]\n"
    "    %s = load %w, %one lanes=0 : f32[]\n"
    "    for %lo, %hi kind=par step=1 (%i: i64[]) {\n"
    "      %x = load %a, %i lanes=0 : f32[]\n"
    "      %x1 = mul %x, %s : f32[]\n"
    "      store %y, %i, %x1\n"
    "      yield\n"
    "    }\n"
    "    return\n"
    "  }\n"
    "  host @predict() -> (i32[]) {\n"
    "    %n = ksym index=0 : i64[]\n"
    "    %off = const type=i64[] data=[64] : i64[]\n"
    "    %x = kin index=0 dtype=f32 : mem<f32>\n"
    "    %y = kout index=0 dtype=f32 : mem<f32>\n"
    "    %t = kws %off dtype=f32 : mem<f32>\n"
    "    %w = kweight name=@w.scale dtype=f32 : mem<f32>\n"
    "    launch %x, %w, %t, %n, %off callee=@k0_scale at=[]\n"
    "    launch %t, %w, %y, %n, %off callee=@k0_scale at=[]\n"
    "    %c = kweight name=@\".c0\" dtype=f32 : mem<f32>\n"
    "    launch %y, %c, %y, %n, %off callee=@k0_scale at=[]\n"
    "    %z = const type=i64[] data=[0] : i64[]\n"
    "    launch %y, %w, %y, %z, %off callee=@k0_scale at=[]\n"
    "    %ok = const type=i32[] data=[0] : i32[]\n"
    "    return %ok\n"
    "  }\n"
    "  host @predict_workspace() -> (i64[], i32[]) {\n"
    "    %n = ksym index=0 : i64[]\n"
    "    %four = const type=i64[] data=[4] : i64[]\n"
    "    %off = const type=i64[] data=[64] : i64[]\n"
    "    %b = mul %n, %four : i64[]\n"
    "    %b1 = add %b, %off : i64[]\n"
    "    %ok = const type=i32[] data=[0] : i32[]\n"
    "    return %b1, %ok\n"
    "  }\n"
    "}\n";

/* An executor that runs [0, n) backwards in pieces of 7. */
static int pieces;
static void run_pieces(const ig_exec *self, ig_kernel kernel, void *const *bufs,
                       const int64_t *dims, int64_t n, int64_t ps) {
    (void)self;
    ck_assert_int_eq(ps, 64);
    for (int64_t hi = n; hi > 0; hi -= 7, pieces++) kernel(bufs, dims, hi > 7 ? hi - 7 : 0, hi);
}

START_TEST(host) {
    ir_module *m = parse(host_text);
    rt_image *img = load(m, cg_cpu_host(IR_CLASS_FMA), NULL);
    rt_host_fn run;
    rt_workspace_fn size;
    *(void **)&run = rt_image_find(img, "predict");
    *(void **)&size = rt_image_find(img, "predict_workspace");
    ck_assert(run && size);
    float x[100], y[100], weight[2] = {2, 5};
    int64_t dims[1] = {100};
    uint64_t bytes = 0;
    ck_assert_int_eq(size(dims, &bytes), 0);
    ck_assert_uint_eq(bytes, 464);
    void *ws = aligned_alloc(64, 512), *out[1] = {y};
    const void *in[1] = {x}, *weights[1] = {weight};
    ig_exec exec = {run_pieces};
    for (int i = 0; i < 100; i++) x[i] = (float)i;
    for (int k = 0; k < 2; k++) {
        memset(y, 0, sizeof y);
        ck_assert_int_eq(run(in, out, dims, ws, k ? &exec : NULL, weights), 0);
        for (int i = 0; i < 100; i++) ck_assert_float_eq(y[i], 25 * x[i]);
    }
    ck_assert_int_eq(pieces, 45);
    free(ws);
    rt_image_free(img);
    ir_module_free(m);
}
END_TEST

/* Check the symbols of an object: exported names and nothing else, undefined ones at most
 * memcpy, memset, memmove. */
static void check_symbols(const char *elf, const char *prefix) {
    Elf64_Ehdr eh;
    memcpy(&eh, elf, sizeof eh);
    const Elf64_Shdr *sec = (const void *)(elf + eh.e_shoff);
    int exported = 0, kernels = 0;
    for (int i = 0; i < eh.e_shnum; i++) {
        if (sec[i].sh_type != SHT_SYMTAB) continue;
        const char *str = elf + sec[sec[i].sh_link].sh_offset;
        for (size_t k = 1; k < sec[i].sh_size / sizeof(Elf64_Sym); k++) {
            Elf64_Sym sym;
            memcpy(&sym, elf + sec[i].sh_offset + k * sizeof sym, sizeof sym);
            const char *name = str + sym.st_name;
            if (sym.st_shndx == SHN_UNDEF) {
                ck_assert_msg(!strcmp(name, "memcpy") || !strcmp(name, "memset") ||
                                  !strcmp(name, "memmove"),
                              "undefined: %s", name);
            } else if (ELF64_ST_BIND(sym.st_info) == STB_GLOBAL) {
                size_t n = strlen(prefix);
                ck_assert_msg(!strncmp(name, prefix, n) &&
                                  (!strcmp(name + n, "_run") || !strcmp(name + n, "_workspace")),
                              "exported: %s", name);
                exported++;
            } else if (ELF64_ST_TYPE(sym.st_info) == STT_FUNC && !strcmp(name, "k0_scale")) {
                kernels++;
            }
        }
    }
    ck_assert_int_eq(exported, 2);
    ck_assert_int_eq(kernels, 1);
}

START_TEST(deploy) {
    const cg_cpu *cpu = &cg_cpu_tab[_i];
    ir_module *m = parse(host_text);
    m->class = cpu->class;
    cg_llvm_host host_table = native_host();
    void *object;
    size_t n;
    char message[512];
    ck_assert_msg(!native_object(&host_table, m, cpu, "net", &object, &n, message), "%s", message);
    check_symbols(object, "net");
    cg_bytes image;
    ok(cg_link(A, &(cg_object){object, n}, 1, cpu, &image));
    rt_image *img;
    ig_status s = rt_image_load(A, image.data, image.n, &img);
    if (cg_cpu_runs_here(cpu)) {
        ok(s);
        int (*run)(const void *const *, void *const *, const int64_t *, void *, const ig_exec *);
        int (*size)(const int64_t *, size_t *);
        *(void **)&run = rt_image_find(img, "net_run");
        *(void **)&size = rt_image_find(img, "net_workspace");
        ck_assert(run && size);
        float x[100], y[100];
        int64_t dims[1] = {100};
        size_t bytes;
        ck_assert_int_eq(size(dims, &bytes), 0);
        ck_assert_uint_eq(bytes, 464);
        void *ws = aligned_alloc(64, 512), *out[1] = {y};
        const void *in[1] = {x};
        for (int i = 0; i < 100; i++) x[i] = (float)i;
        ck_assert_int_eq(run(in, out, dims, ws, NULL), 0);
        for (int i = 0; i < 100; i++) ck_assert_float_eq(y[i], 9 * x[i]);
        free(ws);
        rt_image_free(img);
    } else {
        ck_assert_int_eq(ig_status_code(s), IG_UNSUPPORTED);
        ig_status_free(s);
    }
    native_free(image);
    free(object);
    ir_module_free(m);
}
END_TEST

/* --- Addresses on AArch64, which does not run here: decoded --- */

static uint32_t insn_at(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Where a load of 1 << *scale_ bytes at `at` reads when its base register comes from the nearest
 * ADRP before it; 0 when it is no such load. */
static uint64_t adrp_target(const uint8_t *image, uint64_t from, uint64_t at, unsigned *scale_) {
    uint32_t ldr = insn_at(image + at), size = ldr >> 30, vector = ldr >> 26 & 1;
    if ((ldr & 0x3b400000) != 0x39400000) return 0; /* ldr with an unsigned offset */
    *scale_ = vector && (ldr & 0x00800000) ? 4 : size;
    uint32_t base = ldr >> 5 & 31;
    for (uint64_t p = at; p > from; p -= 4) {
        uint32_t adrp = insn_at(image + p - 4);
        if ((adrp & 0x9f00001f) != (0x90000000 | base)) continue;
        int64_t pages =
            (int64_t)((uint64_t)((adrp >> 5 & 0x7ffff) << 2 | (adrp >> 29 & 3)) << 43) >> 43;
        return (uint64_t)((int64_t)((p - 4) >> 12) + pages) * 4096 +
               ((uint64_t)(ldr >> 10 & 0xfff) << *scale_);
    }
    return 0;
}

START_TEST(aarch64_addresses) {
    static const float want[4] = {1.5f, -0.0f, INFINITY, 7.0f}; /* the constant of memory_text */
    ir_module *m = parse(memory_text);
    cg_bytes image = native_image(m, cg_cpu_find("aarch64"), NULL);
    ck_assert(image.data);
    rt_image_header h;
    memcpy(&h, image.data, sizeof h);
    int found = 0;
    for (uint64_t at = h.text_off; at + 4 <= h.text_off + h.text_size; at += 4) {
        unsigned scale;
        uint64_t to = adrp_target(image.data, h.text_off, at, &scale);
        if (!to || scale != 4) continue;
        ck_assert_uint_ge(to, h.data_off + h.unwind_size);
        ck_assert_uint_le(to + 16, h.data_off + h.data_size);
        found += !memcmp((char *)image.data + to, want, 16);
    }
    ck_assert_int_gt(found, 0);
    native_free(image);
    ir_module_free(m);
}
END_TEST

/* --- The floating-point environment --- */

#if defined(__x86_64__)
static float env_run(ig_kernel k, unsigned csr, float a, float b) {
    float x[1] = {a}, y[1] = {b}, z[1];
    void *bufs[3] = {x, y, z};
    unsigned before = _mm_getcsr();
    _mm_setcsr(csr);
    k(bufs, NULL, 0, 1);
    unsigned after = _mm_getcsr();
    _mm_setcsr(before);
    ck_assert_uint_eq(after & ~0x3fu, csr & ~0x3fu);
    return z[0];
}

START_TEST(environment) {
    ir_module *m = new_module(IR_CLASS_FMA), *types = new_module(IR_CLASS_FMA);
    make_cases(types);
    for (int i = 0; i < ncase; i++)
        if (!strcmp(cases[i].name, "mul__f32") || !strcmp(cases[i].name, "add__f32") ||
            !strcmp(cases[i].name, "div__f32"))
            build_case(m, &cases[i]);
    rt_image *img = load(m, cg_cpu_host(IR_CLASS_FMA), NULL);
    static const unsigned csr[] = {0x1f80, 0x9fc0, 0x3f80, 0x5f80, 0x7f80, 0xffc0, 0x1fbf};
    for (size_t i = 0; i < sizeof csr / sizeof *csr; i++) {
        ck_assert(env_run(find_kernel(img, "mul__f32"), csr[i], 0x1p-126f, 0.5f) == 0x1p-127f);
        ck_assert(env_run(find_kernel(img, "mul__f32"), csr[i], 0x1p-140f, 4.0f) == 0x1p-138f);
        ck_assert(env_run(find_kernel(img, "add__f32"), csr[i], 1.0f, 0x1p-24f) == 1.0f);
        ck_assert(env_run(find_kernel(img, "add__f32"), csr[i], -1.0f, -0x1p-24f) == -1.0f);
        ck_assert(env_run(find_kernel(img, "div__f32"), csr[i], 1.0f, 3.0f) == 0x1.555556p-2f);
    }
    rt_image_free(img);
    ir_module_free(m);
    ir_module_free(types);
}
END_TEST
#endif

/* --- Failure --- */

START_TEST(fatal) {
    ir_module *m = parse(loops_text);
    cg_llvm_host host_table = native_host();
    host_table.force_fatal = true;
    void *object;
    size_t n;
    char message[512];
    ck_assert_int_eq(native_object(&host_table, m, &cg_cpu_tab[_i], NULL, &object, &n, message),
                     IG_INTERNAL);
    ck_assert_msg(strstr(message, "LLVM gave up"), "%s", message);
    host_table.force_fatal = false;
    ck_assert_int_eq(native_object(&host_table, m, &cg_cpu_tab[_i], NULL, &object, &n, message),
                     IG_INTERNAL);
    ck_assert_msg(strstr(message, "earlier"), "%s", message);
    ir_module_free(m);
}
END_TEST

static int left;
static void *few_alloc(size_t n) { return left-- > 0 ? malloc(n) : NULL; }

static void *limited_resize(void *user, void *p, size_t old, size_t new, size_t align) {
    (void)user;
    if (new &&left-- <= 0) return NULL;
    return A->resize(A->user, p, old, new, align);
}

/* Every allocation of the plug-in and of the linker fails once. */
START_TEST(no_memory) {
    ir_module *m = parse(host_text);
    cg_llvm_host host_table = native_host();
    const ig_allocator limited = {limited_resize, NULL};
    host_table.alloc = few_alloc;
    const cg_cpu *cpu = cg_cpu_host(IR_CLASS_FMA);
    void *object = NULL;
    size_t n;
    char message[512];
    int code = 1;
    m->alloc = &limited;
    for (int k = 0; code && k < 1000; k++) {
        left = k;
        code = native_object(&host_table, m, cpu, NULL, &object, &n, message);
        ck_assert(!code || code == IG_MEMORY);
        ck_assert(!code == !!object);
    }
    m->alloc = A;
    ck_assert_int_eq(code, 0);
    ig_status s = NULL;
    for (int k = 0; k < 1000; k++) {
        cg_bytes image;
        left = k;
        ig_status_free(s);
        s = cg_link(&limited, &(cg_object){object, n}, 1, cpu, &image);
        left = 1000;
        native_free(image);
        if (!s) break;
        ck_assert_int_eq(ig_status_code(s), IG_MEMORY);
    }
    ck_assert_ptr_null(s);
    free(object);
    ir_module_free(m);
}
END_TEST

/* The linker reads whatever it is given: truncated and damaged objects. */
START_TEST(hostile_object) {
    ir_module *m = parse(host_text);
    const cg_cpu *cpu = &cg_cpu_tab[_i];
    cg_llvm_host host_table = native_host();
    void *object;
    size_t n;
    char message[512];
    ck_assert_int_eq(native_object(&host_table, m, cpu, NULL, &object, &n, message), 0);
    for (size_t k = 0; k < n; k++) {
        char *part = malloc(k ? k : 1); /* exact, so that a sanitizer sees every byte too far */
        memcpy(part, object, k);
        cg_bytes image;
        ig_status s = cg_link(A, &(cg_object){part, k}, 1, cpu, &image);
        ck_assert(s); /* the section table is at the end */
        ig_status_free(s);
        free(part);
    }
    for (int round = 0; round < 20000; round++) {
        char *bad = malloc(n);
        memcpy(bad, object, n);
        for (uint64_t k = rng() % 4 + 1; k; k--) bad[rng() % n] ^= (char)(1u << rng() % 8);
        if (round % 2)
            bad[n - rng() % 1024 % n - 1] = (char)rng(); /* more often the section table */
        cg_bytes image;
        ig_status s = cg_link(A, &(cg_object){bad, n}, 1, cpu, &image);
        if (!s) native_free(image);
        ig_status_free(s);
        free(bad);
    }
    free(object);
    ir_module_free(m);
}
END_TEST

/* Objects that refer to each other: all of them are needed, each once, whole. */
START_TEST(objects) {
    ir_module *m = parse(host_text);
    const cg_cpu *cpu = &cg_cpu_tab[_i];
    cg_llvm_host host_table = native_host();
    cg_object o[3];
    void *data[2];
    char message[512];
    cg_bytes image;
    for (uint32_t k = 0; k < 2; k++) {
        cg_llvm_job job = {.module = m,
                           .cpu = cpu,
                           .alloc = A,
                           .export_kernels = true,
                           .first = k ? 0 : 1,
                           .last = k ? 1 : m->funcs.n,
                           .quick = !k};
        ck_assert_msg(!native_plugin()->compile(&host_table, &job, &data[k], &o[k].n, message,
                                                sizeof message),
                      "%s", message);
        o[k].data = data[k];
    }
    o[2] = o[1];
    ok(cg_link(A, o, 2, cpu, &image));
    cg_bytes_free(&image);
    ig_status s = cg_link(A, o, 1, cpu, &image);
    ck_assert_msg(s && strstr(ig_status_text(s), "`k0_scale` is undefined"), "%s",
                  ig_status_text(s));
    ig_status_free(s);
    s = cg_link(A, o, 3, cpu, &image);
    ck_assert_msg(s && strstr(ig_status_text(s), "two functions"), "%s", ig_status_text(s));
    ig_status_free(s);
    for (int round = 0; round < 4000; round++) {
        size_t n = o[round % 2].n;
        char *bad = malloc(n);
        memcpy(bad, data[round % 2], n);
        for (uint64_t k = rng() % 4 + 1; k; k--) bad[rng() % n] ^= (char)(1u << rng() % 8);
        o[round % 2].data = bad;
        s = cg_link(A, o, 2, cpu, &image);
        if (!s) native_free(image);
        ig_status_free(s);
        o[round % 2].data = data[round % 2];
        free(bad);
    }
    free(data[0]);
    free(data[1]);
    ir_module_free(m);
}
END_TEST

/* --- Around the code --- */

START_TEST(never_writable_and_executable) {
    ir_module *m = parse(host_text);
    rt_image *img = load(m, cg_cpu_host(IR_CLASS_FMA), NULL);
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512];
    int code = 0;
    ck_assert(f);
    while (fgets(line, sizeof line, f)) {
        char perm[8] = "";
        ck_assert_int_eq(sscanf(line, "%*s %7s", perm), 1);
        ck_assert_msg(!(strchr(perm, 'w') && strchr(perm, 'x')), "%s", line);
        if (strstr(line, "ingot-image")) {
            ck_assert_msg(!strchr(perm, 'w'), "%s", line);
            code += strchr(perm, 'x') != NULL;
        }
    }
    ck_assert_int_eq(code, 1);
    fclose(f);
    rt_image_free(img);
    ir_module_free(m);
}
END_TEST

START_TEST(dumps) {
    ir_module *m = parse(host_text);
    cg_llvm_host host_table = native_host();
    host_table.dump_llvm = host_table.dump_asm = true;
    rt_str text;
    rt_str_init(&text, A);
    native_dumped = &text;
    void *object, *again;
    size_t n, n_again;
    char message[512];
    ck_assert_int_eq(
        native_object(&host_table, m, cg_cpu_host(IR_CLASS_FMA), NULL, &object, &n, message), 0);
    native_dumped = NULL;
    ck_assert(strstr(rt_str_text(&text), "define internal void @k0_scale"));
    ck_assert(strstr(rt_str_text(&text), "k0_scale:"));
    host_table.dump_llvm = host_table.dump_asm = false;
    ck_assert_int_eq(
        native_object(&host_table, m, cg_cpu_host(IR_CLASS_FMA), NULL, &again, &n_again, message),
        0);
    ck_assert(n == n_again &&
              !memcmp(object, again, n)); /* dumping changes nothing, and compiles repeat */
    free(object);
    free(again);
    rt_str_free(&text);
    ir_module_free(m);
}
END_TEST

static TCase *add_case_to(Suite *suite, const char *name) {
    TCase *t = tcase_create(name); /* CK_RUN_CASE selects by it; tests/scripts/gdb.sh does */
    tcase_set_timeout(t, 300);
    suite_add_tcase(suite, t);
    return t;
}

int main(void) {
    A = ig_allocator_default();
    Suite *suite = suite_create("llvm");
    if (!native_plugin()) {
        printf("llvm: no plug-in, 1 skipped\n");
        return 0;
    }
    int missing = 0;
    for (int i = 0; i < nlevel(); i++) missing += !cg_cpu_runs_here(&cg_cpu_tab[i]);
    TCase *t = add_case_to(suite, "elementwise");
    tcase_add_loop_test(t, elementwise, 0, 2 * nlevel());
    tcase_add_test(t, refused);
    t = add_case_to(suite, "kernels");
    tcase_add_test(t, loops);
    tcase_add_test(t, memory);
#if defined(__x86_64__)
    tcase_add_test(t, environment);
#endif
    t = add_case_to(suite, "host");
    tcase_add_test(t, host);
    t = add_case_to(suite, "objects");
    tcase_add_loop_test(t, deploy, 0, nlevel());
    tcase_add_test(t, never_writable_and_executable);
    tcase_add_test(t, dumps);
    tcase_add_test(t, aarch64_addresses);
    t = add_case_to(suite, "failure");
    tcase_add_loop_test(t, fatal, 0, nlevel());
    tcase_add_test(t, no_memory);
    tcase_add_loop_test(t, hostile_object, 0, nlevel());
    tcase_add_loop_test(t, objects, 0, nlevel());
    int failed = suite_run(suite);
    printf("llvm: levels that were compiled and linked but cannot run here: %d skipped\n", missing);
    return failed;
}
