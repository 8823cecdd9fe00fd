/* test_math.c - transcendental functions: accuracy, edges, and the table of docs/math.md.
 *
 * Bodies run in the reference, op by op, in both classes of arithmetic.  Oracles: for f32 the C
 * library's double functions (their error is below 2^-28 ulp of f32), for f64 libquadmath's
 * __float128, found at run time; where it is missing the f64 table is counted as skipped.  The
 * error is in units of the last place of the exact result, the smallest denormal where that is
 * denormal; a NaN, an infinity or a zero that is not as it should be counts as 1e9.
 *
 * Inputs are stratified: every sign and exponent as often, fractions spread and random, then edges.
 * 2^20 a function by default, 2^24 with IG_MATH_FULL=1; with IG_MATH_EXHAUSTIVE=1 every f32 is
 * tried in functions of one argument. IG_MATH_ONLY=<op> takes one function,
 * IG_MATH_TABLE=1 makes rows for docs/math.md: a body whose hash is not in the table fails. */
#include "ir/ref.h"
#include "runtime/base/hash.h"
#include "tests/unit/suite.h"
#include <check.h>
#include <dlfcn.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SIZEOF_FLOAT128__
typedef __float128 quad;
#define HAS_QUAD 1
#else
typedef long double quad;
#define HAS_QUAD 0
#endif

#define LEN(a) ((int)(sizeof(a) / sizeof *(a)))
enum { BATCH = 4096 };
static const double WRONG = 1e9;

static const ig_allocator *A(void) { return ig_allocator_default(); }

/* --- Functions under test --------------------------------------------------------------------- */

/* bound: max ulp in class fma (numerics rule 4) at f32 and f64. */
typedef struct math_fn {
    ir_opcode op;
    double (*real1)(double), (*real2)(double, double);
    const char *quad_name;
    double bound32, bound64;
} math_fn;

static const math_fn fns[] = {
    {OP_exp, exp, NULL, "expq", 1.0, 2},    {OP_expm1, expm1, NULL, "expm1q", 1.5, 2},
    {OP_log, log, NULL, "logq", 1.0, 2},    {OP_log1p, log1p, NULL, "log1pq", 1.5, 2},
    {OP_sin, sin, NULL, "sinq", 1.5, 2},    {OP_cos, cos, NULL, "cosq", 1.5, 2},
    {OP_tanh, tanh, NULL, "tanhq", 1.5, 2}, {OP_erf, erf, NULL, "erfq", 1.5, 2},
    {OP_pow, NULL, pow, "powq", 2, 4},      {OP_atan2, NULL, atan2, "atan2q", 2, 2},
};

typedef struct body {
    ir_module *m;
    ir_body *b[2]; /* by class */
    uint64_t hash;
    int ops; /* without constants and bitcasts */
} body;

static void fail_on(ig_status s) {
    if (s) ck_abort_msg("%s", ig_status_text(s));
}

static void body_make(body *x, ir_opcode op, ig_dtype d) {
    ir_builder b;
    ir_func *f;
    ir_ref in[2], y;
    rt_str text;
    memset(x, 0, sizeof *x);
    fail_on(ir_module_new(A(), "math", &x->m));
    ir_build_begin(&b, x->m, ir_op_tab[op].name, IR_FN, IR_BUILD_CSE);
    for (int k = 0; k < ir_op_tab[op].arity; k++) in[k] = ir_param(&b, ir_scalar_type(d), NULL);
    y = ir_math_emit(&b, op, in, NULL);
    fail_on(ir_build_end(&b, 1, &y, &f));
    fail_on(ir_verify(x->m));
    for (int cls = 0; cls < 2; cls++) fail_on(ir_body_new(A(), f, (ir_class)cls, &x->b[cls]));
    for (uint32_t i = 0; i + 1 < f->ops.n; i++)
        x->ops += f->ops.data[i].code != OP_const && f->ops.data[i].code != OP_bitcast;
    rt_str_init(&text, A());
    ir_print_func(f, &text, 0);
    ck_assert(!text.failed);
    x->hash = rt_hash(text.data, text.n, 0);
    rt_str_free(&text);
}

static void body_free(body *x) {
    for (int cls = 0; cls < 2; cls++) ir_body_free(x->b[cls]);
    ir_module_free(x->m);
}

/* --- Errors ----------------------------------------------------------------------------------- */

/* What a result must be whatever its precision: 0 where it is right, WRONG, or -1 to go on. */
static double ulps_class(double y, double want, bool negative) {
    if (isnan(want) || isnan(y)) return isnan(want) && isnan(y) ? 0 : WRONG;
    return signbit(y) != negative ? WRONG : -1;
}

/* Distance of y from the exact value t in ulps of f32. */
static double ulps_f32(float y, double t) {
    double c = ulps_class(y, t, signbit(t)), max = 0x1.fffffep127;
    if (c >= 0) return c;
    if (isinf(t) || t == 0) return y == t ? 0 : WRONG;
    int e = ilogb(t) < -126 ? -126 : ilogb(t) > 127 ? 127 : ilogb(t);
    if (isinf(y)) return fabs(t) > max ? 0 : (max - fabs(t)) * 0x1p-104 + 1;
    return fabs(y - t) * ldexp(1, 23 - e);
}

/* The same for f64; d is t rounded. */
static double ulps_f64(double y, quad t) {
    double d = (double)t, c = ulps_class(y, d, signbit(d)), max = 0x1.fffffffffffffp1023;
    if (c >= 0) return c;
    if (t - t != 0 || t == 0) return y == d ? 0 : WRONG;
    quad size = t < 0 ? -t : t, have = isinf(y) ? (quad)max : (quad)fabs(y);
    if (isinf(y) && size > have) return 0;
    int e = d == 0 ? -1022 : isinf(d) ? 1023 : ilogb(d);
    int scale = 52 - (e < -1022 ? -1022 : e); /* up to 1074: in two steps */
    quad off = (have > size ? have - size : size - have) * (quad)ldexp(1, scale / 2);
    return (double)(off * (quad)ldexp(1, scale - scale / 2)) + (isinf(y) ? 1 : 0);
}

/* --- Oracles ---------------------------------------------------------------------------------- */

static void *oracle_library(void) {
    static void *lib;
    if (!lib && HAS_QUAD) lib = dlopen("libquadmath.so.0", RTLD_NOW | RTLD_LOCAL);
    return lib;
}

typedef struct oracle {
    const math_fn *fn;
    ig_dtype dtype;
    quad (*quad1)(quad);
    quad (*quad2)(quad, quad);
} oracle;

/* False when there is none on this host. */
static bool oracle_open(oracle *o, const math_fn *fn, ig_dtype d) {
    *o = (oracle){.fn = fn, .dtype = d};
    if (d == IG_f32) return true;
    void *sym = oracle_library() ? dlsym(oracle_library(), fn->quad_name) : NULL;
    if (fn->real2)
        memcpy(&o->quad2, &sym, sizeof sym);
    else
        memcpy(&o->quad1, &sym, sizeof sym);
    return sym != NULL;
}

/* Exact results (f64: to 113 bits) of a run of inputs. */
typedef union exact {
    double narrow[BATCH];
    quad wide[BATCH];
} exact;

static void oracle_run(const oracle *o, int n, const double *x, const double *y, exact *out) {
    const math_fn *fn = o->fn;
    for (int i = 0; i < n; i++) {
        if (o->dtype == IG_f32)
            out->narrow[i] = fn->real2 ? fn->real2(x[i], y[i]) : fn->real1(x[i]);
        else
            out->wide[i] = o->quad2 ? o->quad2(x[i], y[i]) : o->quad1(x[i]);
    }
}

/* --- Inputs ----------------------------------------------------------------------------------- */

static uint64_t seed = 88172645463325252u;
static uint64_t next_random(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed * UINT64_C(0x2545F4914F6CDD1D);
}

static double real_of(ig_dtype d, uint64_t bits) {
    uint32_t low = (uint32_t)bits;
    double x;
    float f;
    memcpy(&x, &bits, sizeof x);
    memcpy(&f, &low, sizeof f);
    return d == IG_f64 ? x : f;
}

/* The last one is the f64 closest to a multiple of pi/2. */
static const double edges[] = {0,
                               1,
                               2,
                               3,
                               0.5,
                               10,
                               1e-3,
                               88.72284,
                               709.782712893384,
                               0x1.921fb54442d18p+0,
                               0x1p-149,
                               0x1p-126,
                               0x1.fffffep127,
                               0x1p-1074,
                               0x1p-1022,
                               INFINITY,
                               NAN,
                               12800,
                               32768,
                               0.55,
                               0.625,
                               0.92,
                               0x1.fffffffffffffp1023,
                               1e9 + 7,
                               0x1.6ac5b262ca1ffp+849};

/* Input i of n: exponents in turn, in each the fractions in steps with random low bits; a share is
 * edges with a few ulps around, and numbers of everyday size. */
static double input(ig_dtype d, uint64_t i, uint64_t n) {
    int mant = d == IG_f64 ? 52 : 23, exps = d == IG_f64 ? 4096 : 512;
    uint64_t r = next_random(), each = n / (uint64_t)exps + 1;
    if (i % 16 == 15) {
        double x = edges[r % LEN(edges)] * ((r >> 8) & 1 ? -1 : 1);
        if (d == IG_f32) x = (float)x;
        for (int k = (int)(r >> 16 & 3); k > 0 && isfinite(x); k--)
            x = d == IG_f64 ? nextafter(x, r >> 9 & 1 ? 2 * x : 0)
                            : nextafterf((float)x, r >> 9 & 1 ? 2 * (float)x : 0);
        return x;
    }
    if (i % 16 >= (d == IG_f64 ? 4 : 12)) {
        double x = ldexp((double)(int64_t)r, -63) * (r & 1 ? 2 : r & 2 ? 32 : 800);
        return d == IG_f64 ? x : (float)x;
    }
    uint64_t bits = (i % (uint64_t)exps) << mant, step = (i / (uint64_t)exps) % each;
    uint64_t fraction = step * ((UINT64_C(1) << mant) / each);
    fraction += r % ((UINT64_C(1) << mant) / each + 1);
    return real_of(d, bits | (fraction & ((UINT64_C(1) << mant) - 1)));
}

/* The second argument: as the first, but for pow every other time one that gives a finite result.
 */
static double second_input(const oracle *o, uint64_t i, uint64_t n, double x) {
    double y = input(o->dtype, next_random() % n, n);
    if (o->fn->op == OP_pow && i % 2) {
        double size = o->dtype == IG_f64 ? 745 : 104;
        y = ldexp((double)(int64_t)next_random(), -63) * size / log(fabs(x));
    }
    return o->dtype == IG_f64 ? y : (float)y;
}

/* --- Measuring -------------------------------------------------------------------------------- */

typedef struct worst {
    double ulp, x, y, got, want;
} worst;

typedef struct batch {
    int n, arity;
    ig_dtype dtype;
    double x[2][BATCH];
    double out64[BATCH];
    float narrow[2][BATCH], out32[BATCH];
} batch;

/* Run one batch in both classes and keep the worst errors. */
static void batch_measure(batch *t, const body *b, const oracle *o, worst w[2]) {
    static exact want;
    bool wide = t->dtype == IG_f64;
    const void *in[2];
    void *out = wide ? (void *)t->out64 : (void *)t->out32;
    for (int k = 0; k < t->arity; k++) {
        for (int i = 0; i < t->n; i++) t->narrow[k][i] = (float)t->x[k][i];
        in[k] = wide ? (void *)t->x[k] : (void *)t->narrow[k];
    }
    oracle_run(o, t->n, t->x[0], t->x[1], &want);
    for (int cls = 0; cls < 2; cls++) {
        ir_body_run(b->b[cls], t->n, in, &out);
        for (int i = 0; i < t->n; i++) {
            double e = wide ? ulps_f64(t->out64[i], want.wide[i])
                            : ulps_f32(t->out32[i], want.narrow[i]);
            if (e <= w[cls].ulp) continue;
            w[cls] = (worst){e, t->x[0][i], t->x[1][i], 0, 0};
            w[cls].got = wide ? t->out64[i] : t->out32[i];
            w[cls].want = wide ? (double)want.wide[i] : want.narrow[i];
        }
    }
    t->n = 0;
}

static uint64_t sample_count(void) {
    uint64_t n = UINT64_C(1) << 20;
    if (getenv("IG_TEST_QUICK")) n = UINT64_C(1) << 14;
    if (getenv("IG_MATH_FULL")) n = UINT64_C(1) << 24;
    return n;
}

/* Number of inputs tried. */
static uint64_t measure(const body *b, const oracle *o, worst w[2]) {
    static batch t;
    bool all = o->dtype == IG_f32 && !o->fn->real2 && getenv("IG_MATH_EXHAUSTIVE");
    uint64_t n = all ? UINT64_C(1) << 32 : sample_count();
    t.n = 0;
    t.arity = o->fn->real2 ? 2 : 1;
    t.dtype = o->dtype;
    memset(w, 0, 2 * sizeof *w);
    seed = 88172645463325252u;
    for (uint64_t i = 0; i < n; i++) {
        t.x[0][t.n] = all ? real_of(IG_f32, i) : input(o->dtype, i, n);
        if (t.arity > 1) t.x[1][t.n] = second_input(o, i, n, t.x[0][t.n]);
        if (++t.n == BATCH) batch_measure(&t, b, o, w);
    }
    batch_measure(&t, b, o, w);
    return n;
}

/* --- The committed table ---------------------------------------------------------------------- */

typedef struct row {
    double ulp[2];
    bool all; /* every input was tried; else another sample may find a little more */
    uint64_t hash;
} row;

/* The row of docs/math.md; false when there is none. */
static bool row_find(const char *op, const char *dtype, row *out) {
    FILE *f = fopen("docs/math.md", "r");
    char line[512], name[32], type[32], inputs[32];
    int ops;
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f))
        found = sscanf(line, "| %31s | %31s | %d | %lf | %lf | %31s | %" SCNx64, name, type, &ops,
                       &out->ulp[0], &out->ulp[1], inputs, &out->hash) == 7 &&
                !strcmp(name, op) && !strcmp(type, dtype);
    out->all = found && !strcmp(inputs, "all");
    if (f) fclose(f);
    return found;
}

START_TEST(accuracy) {
    const math_fn *fn = &fns[_i / 2];
    ig_dtype d = _i % 2 ? IG_f64 : IG_f32;
    const char *op = ir_op_tab[fn->op].name;
    oracle o;
    body b;
    worst w[2];
    row r = {.hash = 0};
    if (getenv("IG_MATH_ONLY") && strcmp(getenv("IG_MATH_ONLY"), op)) return;
    body_make(&b, fn->op, d);
    if (!getenv("IG_MATH_TABLE")) {
        ck_assert_msg(row_find(op, ig_dtype_name(d), &r), "docs/math.md has no row for %s %s", op,
                      ig_dtype_name(d));
        ck_assert_msg(r.hash == b.hash,
                      "%s %s: the body's hash is %016" PRIx64 " and docs/math.md has %016" PRIx64
                      ": measure again with IG_MATH_EXHAUSTIVE=1 IG_MATH_FULL=1 IG_MATH_TABLE=1",
                      op, ig_dtype_name(d), b.hash, r.hash);
    }
    if (!oracle_open(&o, fn, d)) {
        printf("%s %s: no oracle on this host, 1 skipped\n", op, ig_dtype_name(d));
    } else {
        uint64_t n = measure(&b, &o, w);
        char inputs[32] = "all";
        if (n >> 32 == 0) snprintf(inputs, sizeof inputs, "2^%d", ilogb((double)n));
        printf("| %-5s | %s | %3d | %.3f | %.3f | %-4s | %016" PRIx64 " |\n", op, ig_dtype_name(d),
               b.ops, ceil(w[0].ulp * 1000) / 1000, ceil(w[1].ulp * 1000) / 1000, inputs, b.hash);
        fflush(stdout);
        for (int cls = 0; cls < 2; cls++) {
            double bound = cls ? 16 : d == IG_f64 ? fn->bound64 : fn->bound32;
            double most = r.ulp[cls] + (r.all ? 0 : 0.1);
            if (r.hash && most < bound) bound = most;
            ck_assert_msg(w[cls].ulp <= bound, "%s %s, class %s: %.4f ulp at (%a, %a): %a, not %a",
                          op, ig_dtype_name(d), cls ? "nofma" : "fma", w[cls].ulp, w[cls].x,
                          w[cls].y, w[cls].got, w[cls].want);
        }
    }
    body_free(&b);
}
END_TEST

/* --- Edges ------------------------------------------------------------------------------------ */

typedef struct edge {
    ir_opcode op;
    double x, y, want;
} edge;

#define PI 0x1.921fb54442d18p+1
static const edge edge_tab[] = {
    {OP_exp, 0.0, 0, 1},
    {OP_exp, -0.0, 0, 1},
    {OP_exp, INFINITY, 0, INFINITY},
    {OP_exp, -INFINITY, 0, 0},
    {OP_exp, 1e9, 0, INFINITY},
    {OP_exp, -1e9, 0, 0},
    {OP_exp, NAN, 0, NAN},
    {OP_expm1, 0.0, 0, 0.0},
    {OP_expm1, -0.0, 0, -0.0},
    {OP_expm1, INFINITY, 0, INFINITY},
    {OP_expm1, -INFINITY, 0, -1},
    {OP_expm1, -1e9, 0, -1},
    {OP_expm1, 1e9, 0, INFINITY},
    {OP_expm1, NAN, 0, NAN},
    {OP_expm1, 0x1p-140, 0, 0x1p-140},
    {OP_expm1, -0x1p-149, 0, -0x1p-149},
    {OP_log, 0.0, 0, -INFINITY},
    {OP_log, -0.0, 0, -INFINITY},
    {OP_log, 1, 0, 0.0},
    {OP_log, -1, 0, NAN},
    {OP_log, INFINITY, 0, INFINITY},
    {OP_log, -INFINITY, 0, NAN},
    {OP_log, NAN, 0, NAN},
    {OP_log, -0x1p-149, 0, NAN},
    {OP_log1p, 0.0, 0, 0.0},
    {OP_log1p, -0.0, 0, -0.0},
    {OP_log1p, -1, 0, -INFINITY},
    {OP_log1p, -2, 0, NAN},
    {OP_log1p, INFINITY, 0, INFINITY},
    {OP_log1p, -INFINITY, 0, NAN},
    {OP_log1p, NAN, 0, NAN},
    {OP_log1p, 0x1p-149, 0, 0x1p-149},
    {OP_sin, 0.0, 0, 0.0},
    {OP_sin, -0.0, 0, -0.0},
    {OP_sin, INFINITY, 0, NAN},
    {OP_sin, -INFINITY, 0, NAN},
    {OP_sin, NAN, 0, NAN},
    {OP_sin, 0x1p-149, 0, 0x1p-149},
    {OP_sin, -0x1p-126, 0, -0x1p-126},
    {OP_cos, 0.0, 0, 1},
    {OP_cos, -0.0, 0, 1},
    {OP_cos, INFINITY, 0, NAN},
    {OP_cos, -INFINITY, 0, NAN},
    {OP_cos, NAN, 0, NAN},
    {OP_cos, 0x1p-149, 0, 1},
    {OP_tanh, 0.0, 0, 0.0},
    {OP_tanh, -0.0, 0, -0.0},
    {OP_tanh, INFINITY, 0, 1},
    {OP_tanh, -INFINITY, 0, -1},
    {OP_tanh, NAN, 0, NAN},
    {OP_tanh, 1e9, 0, 1},
    {OP_tanh, 0x1p-149, 0, 0x1p-149},
    {OP_erf, 0.0, 0, 0.0},
    {OP_erf, -0.0, 0, -0.0},
    {OP_erf, INFINITY, 0, 1},
    {OP_erf, -INFINITY, 0, -1},
    {OP_erf, NAN, 0, NAN},
    {OP_erf, -7, 0, -1},
    {OP_pow, NAN, 0.0, 1},
    {OP_pow, NAN, -0.0, 1},
    {OP_pow, 1, NAN, 1},
    {OP_pow, INFINITY, 0.0, 1},
    {OP_pow, NAN, 1, NAN},
    {OP_pow, 2, NAN, NAN},
    {OP_pow, 0.0, -3, INFINITY},
    {OP_pow, -0.0, -3, -INFINITY},
    {OP_pow, -0.0, -2, INFINITY},
    {OP_pow, -0.0, -2.5, INFINITY},
    {OP_pow, 0.0, -INFINITY, INFINITY},
    {OP_pow, 0.0, 3, 0.0},
    {OP_pow, -0.0, 3, -0.0},
    {OP_pow, -0.0, 2, 0.0},
    {OP_pow, -0.0, 0.5, 0.0},
    {OP_pow, -1, INFINITY, 1},
    {OP_pow, -1, -INFINITY, 1},
    {OP_pow, -1, NAN, NAN},
    {OP_pow, 0.5, -INFINITY, INFINITY},
    {OP_pow, 2, -INFINITY, 0.0},
    {OP_pow, 0.5, INFINITY, 0.0},
    {OP_pow, -2, INFINITY, INFINITY},
    {OP_pow, -INFINITY, -3, -0.0},
    {OP_pow, -INFINITY, -2.5, 0.0},
    {OP_pow, -INFINITY, 3, -INFINITY},
    {OP_pow, -INFINITY, 2.5, INFINITY},
    {OP_pow, INFINITY, -1, 0.0},
    {OP_pow, INFINITY, 1e-9, INFINITY},
    {OP_pow, -8, 1.0 / 3, NAN},
    {OP_pow, -2, 3, -8},
    {OP_pow, -2, 4, 16},
    {OP_pow, -2, -1, -0.5},
    {OP_pow, 2, 1e9, INFINITY},
    {OP_pow, 2, -1e9, 0.0},
    {OP_pow, -2, 0x1p30, INFINITY},
    {OP_pow, 4, 0.5, 2},
    {OP_atan2, 0.0, 0.0, 0.0},
    {OP_atan2, -0.0, 0.0, -0.0},
    {OP_atan2, 0.0, -0.0, PI},
    {OP_atan2, -0.0, -0.0, -PI},
    {OP_atan2, 0.0, 1, 0.0},
    {OP_atan2, -0.0, 1, -0.0},
    {OP_atan2, 0.0, -1, PI},
    {OP_atan2, -0.0, -1, -PI},
    {OP_atan2, 1, 0.0, PI / 2},
    {OP_atan2, 1, -0.0, PI / 2},
    {OP_atan2, -1, 0.0, -PI / 2},
    {OP_atan2, INFINITY, INFINITY, PI / 4},
    {OP_atan2, -INFINITY, INFINITY, -PI / 4},
    {OP_atan2, INFINITY, -INFINITY, PI * 3 / 4},
    {OP_atan2, -INFINITY, -INFINITY, -PI * 3 / 4},
    {OP_atan2, 1, INFINITY, 0.0},
    {OP_atan2, -1, INFINITY, -0.0},
    {OP_atan2, 1, -INFINITY, PI},
    {OP_atan2, INFINITY, 1, PI / 2},
    {OP_atan2, -INFINITY, 1, -PI / 2},
    {OP_atan2, NAN, 0.0, NAN},
    {OP_atan2, 1, NAN, NAN},
    {OP_atan2, NAN, INFINITY, NAN},
    {OP_atan2, INFINITY, NAN, NAN},
};

static bool same_real(double x, double y) {
    if (isnan(x) || isnan(y)) return isnan(x) && isnan(y);
    return x == y && !signbit(x) == !signbit(y);
}

START_TEST(edge_values) {
    for (int k = 0; k < 2 * LEN(edge_tab); k++) {
        const edge *e = &edge_tab[k / 2];
        ig_dtype d = k % 2 ? IG_f64 : IG_f32;
        float x32 = (float)e->x, y32 = (float)e->y, out32;
        const void *in[2] = {d == IG_f64 ? (void *)&e->x : (void *)&x32,
                             d == IG_f64 ? (void *)&e->y : (void *)&y32};
        double out64, want = d == IG_f64 ? e->want : (float)e->want;
        body b;
        body_make(&b, e->op, d);
        for (int cls = 0; cls < 2; cls++) {
            void *out = d == IG_f64 ? (void *)&out64 : (void *)&out32;
            ir_body_run(b.b[cls], 1, in, &out);
            double got = d == IG_f64 ? out64 : out32;
            ck_assert_msg(same_real(got, want), "%s %s(%a, %a) = %a, not %a", ir_op_tab[e->op].name,
                          ig_dtype_name(d), e->x, e->y, got, want);
        }
        body_free(&b);
    }
}
END_TEST

/* --- 16-bit floats, shapes, memory ------------------------------------------------------------ */

/* Every f16 and bf16: widen, the f32 function, round. */
START_TEST(half_types) {
    enum { N = 1 << 16 };
    static uint16_t x[2][N], y[N];
    static float wide[2][N], out[N];
    for (int k = 0; k < 2 * LEN(fns); k++) {
        const math_fn *fn = &fns[k / 2];
        ig_dtype d = k % 2 ? IG_bf16 : IG_f16;
        ir_tensor in[2], to = {.dtype = (uint8_t)d, .rank = 1, .dim = {N}, .data = y};
        const void *ptr[2] = {wide[0], wide[1]};
        void *res = out;
        body b;
        for (int a = 0; a < 2; a++) {
            for (int i = 0; i < N; i++) {
                x[a][i] = (uint16_t)(a ? next_random() >> 48 : (uint64_t)i);
                wide[a][i] = d == IG_f16 ? rt_f16_to_f32(x[a][i]) : rt_bf16_to_f32(x[a][i]);
            }
            in[a] = (ir_tensor){.dtype = (uint8_t)d, .rank = 1, .dim = {N}, .data = x[a]};
        }
        fail_on(ir_ref_op(A(), IR_CLASS_FMA, fn->op, &(ir_attr_none){0}, fn->real2 ? 2 : 1, in, 1,
                          &to));
        body_make(&b, fn->op, IG_f32);
        ir_body_run(b.b[IR_CLASS_FMA], N, ptr, &res);
        for (int i = 0; i < N; i++) {
            uint16_t want = d == IG_f16 ? rt_f32_to_f16(out[i]) : rt_f32_to_bf16(out[i]);
            ck_assert_msg(y[i] == want, "%s %s of %04x: %04x, not %04x", ir_op_tab[fn->op].name,
                          ig_dtype_name(d), x[0][i], y[i], want);
        }
        body_free(&b);
    }
}
END_TEST

/* Bodies on tensors of any shape and on vectors of a kernel. */
START_TEST(shapes) {
    for (int k = 0; k < 2 * LEN(fns); k++) {
        ir_opcode op = fns[k / 2].op;
        ig_dtype d = k % 2 ? IG_f64 : IG_f32;
        ir_module *m;
        fail_on(ir_module_new(A(), "shapes", &m));
        ir_dim sym = ir_add_symbol(m, "B", 0, 100);
        ir_type type[2] = {ir_tensor_type(d, 2, (const ir_dim[]){sym, 3}), ir_vec_type(d, 16)};
        for (int t = 0; t < 2; t++) {
            ir_builder b;
            ir_func *f;
            ir_ref in[2], y;
            ir_build_begin(&b, m, t ? "vector" : "tensor", t ? IR_KERNEL : IR_FN, IR_BUILD_CSE);
            for (int a = 0; a < ir_op_tab[op].arity; a++) in[a] = ir_param(&b, type[t], NULL);
            y = ir_math_emit(&b, op, in, NULL);
            ir_type have = ir_type_of(&b, y);
            ck_assert(ir_type_eq(&have, &type[t]));
            fail_on(ir_build_end(&b, t ? 0 : 1, &y, &f));
        }
        fail_on(ir_verify(m));
        ir_module_free(m);
    }
}
END_TEST

START_TEST(out_of_memory) {
    const ir_opcode ops[] = {OP_sin, OP_pow, OP_rng_bits};
    for (int k = 0; k < LEN(ops); k++) {
        bool done = false;
        for (long n = 0; !done; n++) {
            counting state = COUNTING(n);
            ig_allocator a = {counting_resize, &state};
            ir_module *m = NULL;
            ir_builder b;
            ir_ref in[4], out[4] = {{0}};
            ig_status s = ir_module_new(&a, "memory", &m);
            if (!s) {
                ir_build_begin(&b, m, "f", IR_FN, IR_BUILD_CSE);
                for (int i = 0; i < 4; i++)
                    in[i] =
                        ir_param(&b, ir_scalar_type(ops[k] == OP_rng_bits ? IG_u32 : IG_f64), NULL);
                if (ops[k] == OP_rng_bits)
                    ir_philox_emit(&b, in, out);
                else
                    out[0] = ir_math_emit(&b, ops[k], in, NULL);
                s = ir_build_end(&b, ops[k] == OP_rng_bits ? 4 : 1, out, NULL);
            }
            done = !s;
            if (s) ck_assert_int_eq(ig_status_code(s), IG_MEMORY);
            ig_status_free(s);
            ir_module_free(m);
            ck_assert_msg(state.live == 0, "%zu bytes are left when allocation %ld fails",
                          state.live, n);
        }
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("math");
    TCase *t = tcase_create("accuracy"), *e = tcase_create("edges");
    tcase_set_timeout(t, 0);
    tcase_set_timeout(e, 0);
    tcase_add_loop_test(t, accuracy, 0, 2 * LEN(fns));
    tcase_add_test(e, edge_values);
    tcase_add_test(e, half_types);
    tcase_add_test(e, shapes);
    tcase_add_test(e, out_of_memory);
    suite_add_tcase(s, e);
    suite_add_tcase(s, t);
    printf("| op    | type | ops | fma | nofma | inputs | hash |\n");
    fflush(stdout);
    return suite_run(s);
}
