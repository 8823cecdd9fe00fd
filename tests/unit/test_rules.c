/* test_rules.c - every algebraic rule of simplify on every value (numerics rule 11).
 *
 * Both sides of a rule are built from its text and run on the reference.  One operand: all values
 * of the 16-bit floats and the 8-bit integers.  Two: all pairs of 8-bit integers, a dense set of
 * pairs of floats that holds all special values.  Constants run over the special values (over all
 * 8-bit integers when there is one constant).  A rule without a licence must give equal bits
 * everywhere; a rule with one must give different bits somewhere, or it does not need it.
 * IG_TEST_QUICK, for the slow sanitizer builds, thins values and constants. */
#include "passes/simplify.h"
#include "tests/unit/suite.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const ig_allocator *A(void) { return ig_allocator_default(); }

static void must(ig_status s, const char *what) {
    if (s) ck_abort_msg("%s: %s", what, ig_status_text(s));
}

/* --- Values ---------------------------------------------------------------------------------- */

#define VALUES_MAX 65536
typedef struct values {
    int n;
    uint64_t bits[VALUES_MAX];
} values;

static uint64_t next_random(uint64_t *seed) {
    *seed += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *seed;
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void add_value(values *v, uint64_t bits, int limit) {
    for (int i = 0; i < v->n && v->n < 1024; i++)
        if (v->bits[i] == bits) return;
    if (v->n < limit) v->bits[v->n++] = bits;
}

/* Floats: zeros, least and greatest denormal and normal, ones and their neighbours, small numbers,
 * infinity, NaN; then powers of two; then random bits with every exponent. */
static void fill_floats(values *v, ig_dtype d, int limit, uint64_t *seed) {
    unsigned bits = 8 * (unsigned)rt_dtype_bytes(d);
    unsigned fraction = d == IG_f16 ? 10 : d == IG_bf16 ? 7 : d == IG_f32 ? 23 : 52;
    uint64_t sign = UINT64_C(1) << (bits - 1), unit = UINT64_C(1) << fraction;
    uint64_t top = (sign - 1) / unit, one = top / 2 * unit; /* top: the exponent of infinity */
    const uint64_t special[] = {0,
                                1,
                                unit - 1,
                                unit,
                                one,
                                one + 1,
                                one - 1,
                                one + unit,
                                one - unit,
                                one + unit + unit / 2,
                                top * unit - 1,
                                top * unit,
                                top * unit + unit / 2,
                                one + 3 * unit,
                                one - 3 * unit,
                                one + fraction * unit,
                                2 * unit,
                                (top - 1) * unit,
                                (top - 2) * unit,
                                unit / 2,
                                one + unit / 2,
                                one + unit / 8 * 5};
    for (size_t k = 0; k < sizeof special / sizeof *special; k++) {
        add_value(v, special[k], limit);
        if (special[k] != top * unit + unit / 2) add_value(v, special[k] | sign, limit);
    }
    while (v->n < limit) {
        uint64_t r = next_random(seed), e = next_random(seed) % top;
        if (r >> 40 & 1) e = top / 2 + r % 12 - 6;
        add_value(v, (r & (unit - 1)) | e * unit | (r >> 50 & 1 ? sign : 0), limit);
    }
}

static void fill_ints(values *v, ig_dtype d, int limit, uint64_t *seed) {
    unsigned bits = 8 * (unsigned)rt_dtype_bytes(d);
    uint64_t mask = UINT64_MAX >> (64 - bits), most = mask >> 1;
    const uint64_t special[] = {0,        1,        mask,     2,    mask - 1, most,    most + 1,
                                most - 1, most + 2, 3,        4,    7,        8,       10,
                                16,       64,       bits - 1, bits, bits + 1, mask / 3};
    for (size_t k = 0; k < sizeof special / sizeof *special; k++)
        add_value(v, special[k] & mask, limit);
    while (v->n < limit) add_value(v, (next_random(seed) >> next_random(seed) % 63) & mask, limit);
}

/* At most `limit` values of a type; all of them when they are that few. */
static void fill_values(values *v, ig_dtype d, int limit) {
    uint64_t seed = (uint64_t)d * 977 + 5;
    unsigned bits = d == IG_bool ? 1 : 8 * (unsigned)rt_dtype_bytes(d);
    v->n = 0;
    if (bits <= 16 && limit >= 1 << bits) {
        for (int i = 0; i < 1 << bits; i++) v->bits[v->n++] = (uint64_t)i;
        return;
    }
    if (rt_is_float(d))
        fill_floats(v, d, limit, &seed);
    else if (d == IG_bool)
        v->n = 2, v->bits[0] = 0, v->bits[1] = 1;
    else
        fill_ints(v, d, limit, &seed);
}

/* --- One rule at one type -------------------------------------------------------------------- */

typedef struct trial {
    const simplify_rule *rule;
    simplify_pattern from, to;
    ig_dtype dtype;
    char var[8], con[8]; /* letters of values and of constants; p is bool */
    int nvar, ncon;
    int64_t n; /* elements */
    ir_tensor in[8];
    int64_t differences, admitted;
} trial;

static bool has_letter(const char *s, char c) { return c && strchr(s, c); }

static void find_letters(trial *t, const simplify_pattern *p) {
    for (int k = 0; k < p->n; k++) {
        char c = p->node[k].letter;
        if (p->node[k].kind == NODE_ANY && !has_letter(t->var, c)) t->var[t->nvar++] = c;
        if (p->node[k].kind == NODE_CONST && !has_letter(t->con, c)) t->con[t->ncon++] = c;
    }
}

static bool is_quick(void) { return getenv("IG_TEST_QUICK") != NULL; }

static ig_dtype letter_type(const trial *t, char c) { return c == 'p' ? IG_bool : t->dtype; }

/* Inputs: the product of the value sets, one value of each letter in every place. */
static void make_inputs(trial *t) {
    static values v[8];
    int typed = 0;
    for (int k = 0; k < t->nvar; k++) typed += t->var[k] != 'p';
    bool small = rt_dtype_bytes(t->dtype) == 1, half = rt_dtype_bytes(t->dtype) == 2;
    int limit = 48;
    if (typed == 2) limit = small ? 256 : half ? 560 : 160;
    if (typed <= 1) limit = small || (half && !is_quick()) ? VALUES_MAX : 4096;
    if (t->ncon == 1 && typed == 2) limit = small ? 64 : 96;
    t->n = 1;
    for (int k = 0; k < t->nvar; k++) {
        fill_values(&v[k], letter_type(t, t->var[k]), limit);
        t->n *= v[k].n;
    }
    int64_t run = 1;
    for (int k = 0; k < t->nvar; k++) {
        size_t size = rt_dtype_bytes(letter_type(t, t->var[k]));
        char *data = malloc((size_t)t->n * size);
        for (int64_t i = 0; i < t->n; i++)
            memcpy(data + (size_t)i * size, &v[k].bits[i / run % v[k].n], size);
        run *= v[k].n;
        t->in[k] = (ir_tensor){
            .dtype = (uint8_t)letter_type(t, t->var[k]), .rank = 1, .dim = {t->n}, .data = data};
    }
}

static ir_ref emit_raw(void *user, ir_builder *b, ir_opcode op, const void *attr, int nin,
                       const ir_ref *in) {
    (void)user;
    return ir_emit(b, op, attr, nin, in);
}

/* A function of one side with these constants; NULL when the guard refuses them. */
static const ir_func *make_side(trial *t, ir_module *m, const char *name, const simplify_pattern *p,
                                const uint64_t *con, bool check) {
    ir_builder b;
    ir_func *f;
    simplify_bind bind = {{{0}}}, found;
    ir_build_begin(&b, m, name, IR_FN, IR_BUILD_RAW);
    for (int k = 0; k < t->nvar; k++)
        bind.of[(int)t->var[k]] = ir_param(&b, ir_tensor_type(t->in[k].dtype, 1, &t->n), NULL);
    for (int k = 0; k < t->ncon; k++) {
        ir_ref c = ir_const(&b, ir_scalar_type(t->dtype), &con[k], rt_dtype_bytes(t->dtype));
        ir_attr_bcast a = {.dims = {.n = 1, .d = {t->n}}};
        bind.of[(int)t->con[k]] = ir_emit1(&b, OP_broadcast, &a, c);
    }
    ir_ref r = simplify_build(&b, p, &bind, emit_raw, NULL);
    if (check) { /* what was built is found again, and the rule admits it or not */
        const ir_op *o = ir_def_op(b.f, r);
        ck_assert_msg(simplify_match(b.f, &t->from, (ir_opcode)o->code, ir_attr_get(m, o->attr),
                                     o->nin, &b.f->operands.data[o->in0], &found),
                      "%s does not match itself", t->rule->name);
        if (!simplify_admits(b.f, t->rule, &bind)) {
            ck_assert_ptr_null(b.error);
            ir_build_abort(&b);
            return NULL;
        }
    }
    must(ir_build_end(&b, 1, &r, &f), t->rule->name);
    return f;
}

static void run_side(const trial *t, const ir_func *f, void *data) {
    ir_tensor out = {.dtype = ir_result_type(f, 0)->dtype, .rank = 1, .dim = {t->n}, .data = data};
    must(ir_ref_run(f, A(), NULL, t->nvar, t->in, 1, &out), t->rule->name);
    ir_canon_nan(out.dtype, data, t->n);
}

/* Name the first difference. */
static void report(const trial *t, const uint64_t *con, const char *a, const char *b, size_t size) {
    char where[512] = "";
    int64_t i = 0;
    while (!memcmp(a + (size_t)i * size, b + (size_t)i * size, size)) i++;
    for (int k = 0; k < t->nvar + t->ncon; k++) {
        uint64_t v = 0;
        if (k < t->nvar)
            memcpy(&v, (char *)t->in[k].data + (size_t)i * rt_dtype_bytes(t->in[k].dtype),
                   rt_dtype_bytes(t->in[k].dtype));
        else
            v = con[k - t->nvar];
        snprintf(where + strlen(where), sizeof where - strlen(where), " %c=0x%llx",
                 k < t->nvar ? t->var[k] : t->con[k - t->nvar], (unsigned long long)v);
    }
    uint64_t x = 0, y = 0;
    memcpy(&x, a + (size_t)i * size, size);
    memcpy(&y, b + (size_t)i * size, size);
    ck_abort_msg("%s at %s:%s: %s is 0x%llx, %s is 0x%llx", t->rule->name, ig_dtype_name(t->dtype),
                 where, t->rule->from, (unsigned long long)x, t->rule->to, (unsigned long long)y);
}

static void try_constants(trial *t, const uint64_t *con) {
    ir_module *m;
    must(ir_module_new(A(), "rules", &m), "module");
    const ir_func *from = make_side(t, m, "from", &t->from, con, true);
    if (from) {
        const ir_func *to = make_side(t, m, "to", &t->to, con, false);
        size_t size = rt_dtype_bytes(ir_result_type(from, 0)->dtype);
        char *a = malloc((size_t)t->n * size), *b = malloc((size_t)t->n * size);
        ck_assert(ir_type_eq(ir_result_type(from, 0), ir_result_type(to, 0)));
        run_side(t, from, a);
        run_side(t, to, b);
        t->admitted++;
        if (memcmp(a, b, (size_t)t->n * size)) {
            if (!t->rule->need) report(t, con, a, b, size);
            t->differences++;
        }
        free(a);
        free(b);
    }
    ir_module_free(m);
}

static void try_type(trial *t, ig_dtype d) {
    static values c;
    t->dtype = d;
    make_inputs(t);
    int most = t->ncon == 2 ? 20 : rt_dtype_bytes(d) == 1 ? 256 : 48;
    fill_values(&c, d, is_quick() && most > 20 ? 20 : most);
    uint64_t con[2];
    for (int i = 0; i < (t->ncon ? c.n : 1); i++)
        for (int k = 0; k < (t->ncon > 1 ? c.n : 1); k++) {
            con[0] = c.bits[i];
            con[1] = c.bits[k];
            try_constants(t, con);
        }
    for (int k = 0; k < t->nvar; k++) free(t->in[k].data);
}

static bool read_rule(trial *t, const simplify_rule *r) {
    *t = (trial){.rule = r};
    if (!simplify_parse(r->from, &t->from) || !simplify_parse(r->to, &t->to)) return false;
    find_letters(t, &t->from);
    return true;
}

/* Rule number i of the table at all types that its letters name. */
static void try_rule(int i) {
    static const struct {
        char kind;
        ig_dtype type[5];
    } kinds[] = {
        {'f', {IG_f16, IG_bf16, IG_f32, IG_f64}},
        {'i', {IG_i8, IG_i16, IG_i32, IG_i64}},
        {'u', {IG_u8, IG_u16, IG_u32, IG_u64}},
        {'b', {IG_bool}},
    };
    trial t;
    const simplify_rule *r = &simplify_rules[i];
    ck_assert_msg(read_rule(&t, r), "%s is malformed", r->name);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int j = 0; strchr(r->types, kinds[k].kind) && kinds[k].type[j]; j++)
            try_type(&t, kinds[k].type[j]);
    ck_assert_msg(t.admitted > 0, "%s: its guard admits no constant", r->name);
    if (r->need)
        ck_assert_msg(t.differences > 0, "%s keeps every bit: it needs no licence", r->name);
}

static int rule_count(void) {
    int n = 0;
    while (simplify_rules[n].name) n++;
    return n;
}

START_TEST(every_rule_on_every_value) { try_rule(_i); }
END_TEST

START_TEST(the_table_is_well_formed) {
    trial t;
    for (int i = 0; simplify_rules[i].name; i++) {
        ck_assert_msg(read_rule(&t, &simplify_rules[i]), "%s", simplify_rules[i].name);
        ck_assert_msg(has_letter(t.var, 'x'), "%s has no x", simplify_rules[i].name);
        ck_assert_msg(t.nvar <= 4 && t.ncon <= 2, "%s has too many letters",
                      simplify_rules[i].name);
        for (int k = 0; k < t.to.n; k++) { /* nothing on the right that the left does not bind */
            const simplify_node *x = &t.to.node[k];
            if (x->kind == NODE_ANY) ck_assert(has_letter(t.var, x->letter));
            if (x->kind == NODE_CONST) ck_assert(has_letter(t.con, x->letter));
        }
        ck_assert(!simplify_rules[i].guard || has_letter(t.con, 'C'));
        for (int k = 0; k < i; k++)
            ck_assert_str_ne(simplify_rules[i].name, simplify_rules[k].name);
    }
    simplify_pattern p;
    static const char *const bad[] = {"",           "add",         "add(x",     "add(x)",
                                      "add(x,y,z)", "cmp.gt(x,y)", "add(x,y))", "foo(x)"};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
        ck_assert_msg(!simplify_parse(bad[k], &p), "%s", bad[k]);
}
END_TEST

/* --- Rules about movement -------------------------------------------------------------------- */

/* Functions in which the named rule applies; the bits before and after must be equal. */
static const struct {
    const char *name, *body;
} moves[] = {
    {"elementwise_of_broadcast",
     "fn @f(%x: f32[5], %y: f32[5]) -> (f32[4,5]) {\n %1 = broadcast %x dims=[4,5] axes=[1]\n"
     " %2 = broadcast %y dims=[4,5] axes=[1]\n %3 = mul %1, %2\n return %3\n }"},
    {"elementwise_of_broadcast",
     "fn @f(%x: f32[1,5]) -> (f32[4,5]) {\n %1 = broadcast %x dims=[4,5] axes=[0,1]\n"
     " %2 = exp %1\n %3 = const type=f32[] data=[2.0]\n %4 = broadcast %3 dims=[4,5] axes=[]\n"
     " %5 = sub %4, %2\n return %5\n }"},
    {"elementwise_of_broadcast",
     "fn @f(%x: f32[]) -> (bool[7]) {\n %1 = broadcast %x dims=[7] axes=[]\n"
     " %2 = convert %1 dtype=i8\n %3 = convert %2 dtype=bool\n return %3\n }"},
    {"broadcast_units", "fn @f(%x: f32[5]) -> (f32[1,5,1]) {\n %1 = broadcast %x dims=[1,5,1] "
                        "axes=[1]\n return %1\n }"},
    {"transpose_units",
     "fn @f(%x: f32[5,1,3]) -> (f32[1,5,3]) {\n %1 = transpose %x perm=[1,0,2]\n return %1\n }"},
    {"transpose_of_ein", "fn @f(%x: f32[5,7], %w: f32[7,3]) -> (f32[3,5]) {\n"
                         " %1 = ein %x, %w rel=\"y[i,j] += a[i,k]*b[k,j]\"\n %2 = transpose %1 "
                         "perm=[1,0]\n return %2\n }"},
    {"ein_operands",
     "fn @f(%x: f32[7,5], %w: f32[3,7]) -> (f32[5,3]) {\n %1 = transpose %x perm=[1,0]\n"
     " %2 = transpose %w perm=[1,0]\n %3 = ein %1, %2 rel=\"y[i,j] += a[i,k]*b[k,j]\"\n return "
     "%3\n }"},
    {"ein_operands",
     "fn @f(%x: f32[4,7,5,2], %w: f32[2,7]) -> (f32[5,4]) {\n %1 = transpose %x perm=[2,0,3,1]\n"
     " %2 = ein %1, %w rel=\"y[i,j] += a[i,j,k,l]*b[k,l] over (l,k)\"\n return %2\n }"},
    {"ein_operands",
     "fn @f(%x: f32[7], %w: f32[5,7]) -> (f32[5]) {\n %1 = broadcast %x dims=[5,7] axes=[1]\n"
     " %2 = ein %1, %w rel=\"y[i] += a[i,k]*b[i,k]\"\n return %2\n }"},
    {"reduce_of_reverse", "fn @f(%x: f32[5,700]) -> (f32[5]) {\n %1 = reverse %x axes=[1]\n"
                          " %2 = reduce %1 op=max axes=[1]\n return %2\n }"},
    {"reduce_of_reverse", "fn @f(%x: i8[5,7]) -> (i8[]) {\n %1 = reverse %x axes=[0,1]\n"
                          " %2 = reduce %1 op=prod axes=[0,1]\n return %2\n }"},
    {"slice_of_concat",
     "fn @f(%x: f32[2,5], %y: f32[2,4]) -> (f32[1,2]) {\n %1 = concat %x, %y axis=1\n"
     " %2 = slice %1 lo=[1,6] hi=[2,9] step=[1,2]\n return %2\n }"},
    {"slice_of_pad", "fn @f(%x: f32[4,5], %y: f32[]) -> (f32[2,4]) {\n %1 = pad %x, %y lo=[2,1] "
                     "hi=[0,3] interior=[0,0]\n"
                     " %2 = slice %1 lo=[3,1] hi=[6,5] step=[2,1]\n return %2\n }"},
};
/* Functions in which the movement rules must not apply. */
static const char *const stays[] = {
    "fn @f(%x: f32[5,7], %w: f32[7,3]) -> (f32[3,5], f32[5,3]) {\n" /* the ein has another use */
    " %1 = ein %x, %w rel=\"y[i,j] += a[i,k]*b[k,j]\"\n %2 = transpose %1 perm=[1,0]\n return %2, "
    "%1\n }",
    "fn @f(%x: f32[1,7], %w: f32[7,3]) -> (f32[5,3]) {\n" /* the only bound of a variable */
    " %1 = broadcast %x dims=[5,7] axes=[0,1]\n %2 = ein %1, %w rel=\"y[i,j] += a[i,k]*b[k,j]\"\n "
    "return %2\n }",
    "fn @f(%x: f32[5,7]) -> (f32[5]) {\n %1 = reverse %x axes=[1]\n" /* a float sum has an order */
    " %2 = reduce %1 op=sum axes=[1]\n return %2\n }",
    "fn @f(%x: f32[5,7]) -> (i64[5]) {\n %1 = reverse %x axes=[1]\n"
    " %2 = reduce %1 op=argmax axes=[1]\n return %2\n }",
    "fn @f(%x: f32[2,5], %y: f32[2,4]) -> (f32[2,3]) {\n %1 = concat %x, %y axis=1\n"
    " %2 = slice %1 lo=[0,3] hi=[2,6] step=[1,1]\n return %2\n }",
    "fn @f(%x: f32[4], %y: f32[]) -> (f32[5]) {\n %1 = pad %x, %y lo=[2] hi=[0] interior=[0]\n"
    " %2 = slice %1 lo=[1] hi=[6] step=[1]\n return %2\n }",
    "fn @f(%x: f32[5,3]) -> (f32[3,5]) {\n %1 = transpose %x perm=[1,0]\n return %1\n }",
    "fn @f(%x: f32[5], %y: f32[4]) -> (f32[4,5]) {\n %1 = broadcast %x dims=[4,5] axes=[1]\n"
    " %2 = broadcast %y dims=[4,5] axes=[0]\n %3 = mul %1, %2\n return %3\n }",
};

static ir_module *parse(const char *body) {
    char text[2048];
    ir_module *m;
    snprintf(text, sizeof text, "module m {\n%s\n}\n", body);
    must(ir_parse(A(), "move", text, strlen(text), &m), body);
    must(ir_verify(m), body);
    return m;
}

static ir_module *run_passes(const ir_module *m, const char *names) {
    ir_module *out;
    must(pass_run_list(names, m, &out), names);
    return out;
}

/* Text of the function f of a module. */
static char *func_text(const ir_module *m) {
    rt_str s;
    rt_str_init(&s, A());
    ir_print_func(ir_find_func(m, "f"), &s, 0);
    char *copy = strdup(rt_str_text(&s));
    rt_str_free(&s);
    return copy;
}

/* Results of f on data that tells elements apart; NaN and infinities among them. */
static void run_func(const ir_func *f, char out[2][1 << 14], size_t *bytes_) {
    ir_tensor in[4], res[2];
    char *data[4];
    uint64_t seed = 11;
    static values v[IG_DTYPE_END];
    for (uint32_t k = 0; k < ir_nparam(f); k++) {
        const ir_type *t = ir_val_type(f, ir_param_ref(f, k));
        int64_t n;
        size_t bytes, size = rt_dtype_bytes(t->dtype);
        ck_assert(ir_type_bytes(t, &n, &bytes));
        if (!v[t->dtype].n) fill_values(&v[t->dtype], t->dtype, 200);
        data[k] = malloc(bytes + 1);
        for (int64_t i = 0; i < n; i++)
            memcpy(data[k] + (size_t)i * size,
                   &v[t->dtype].bits[next_random(&seed) % (uint64_t)v[t->dtype].n], size);
        in[k] = (ir_tensor){.dtype = t->dtype, .rank = t->rank, .data = data[k]};
        memcpy(in[k].dim, t->dim, sizeof in[k].dim);
    }
    for (uint32_t k = 0; k < f->results.n; k++) {
        const ir_type *t = ir_result_type(f, k);
        int64_t n;
        ck_assert(ir_type_bytes(t, &n, &bytes_[k]) && bytes_[k] <= 1 << 14);
        res[k] = (ir_tensor){.dtype = t->dtype, .rank = t->rank, .data = out[k]};
        memcpy(res[k].dim, t->dim, sizeof res[k].dim);
    }
    must(ir_ref_run(f, A(), NULL, (int)ir_nparam(f), in, (int)f->results.n, res), "run");
    for (uint32_t k = 0; k < f->results.n; k++)
        ir_canon_nan(res[k].dtype, out[k], (int64_t)(bytes_[k] / rt_dtype_bytes(res[k].dtype)));
    for (uint32_t k = 0; k < ir_nparam(f); k++) free(data[k]);
}

static void check_same_bits(const ir_module *a, const ir_module *b, const char *what) {
    static char x[2][1 << 14], y[2][1 << 14];
    size_t n[2], k[2];
    run_func(ir_find_func(a, "f"), x, n);
    run_func(ir_find_func(b, "f"), y, k);
    ck_assert_msg(n[0] == k[0] && !memcmp(x[0], y[0], n[0]), "%s changes bits", what);
}

START_TEST(movement_rules_apply_and_keep_the_bits) {
    ir_module *m = parse(moves[_i].body), *folded = run_passes(m, "fold,dce");
    ir_module *done = run_passes(m, "simplify,dce"), *twice = run_passes(done, "simplify,dce");
    char *before = func_text(folded), *after = func_text(done), *again = func_text(twice);
    ck_assert_msg(strcmp(before, after), "%s does not apply to\n%s", moves[_i].name, before);
    ck_assert_str_eq(after, again); /* a fixpoint */
    check_same_bits(m, done, moves[_i].name);
    free(before);
    free(after);
    free(again);
    ir_module_free(twice);
    ir_module_free(done);
    ir_module_free(folded);
    ir_module_free(m);
}
END_TEST

START_TEST(movement_rules_know_their_limits) {
    ir_module *m = parse(stays[_i]), *done = run_passes(m, "simplify");
    char *before = func_text(m), *after = func_text(done);
    ck_assert_str_eq(before, after);
    free(before);
    free(after);
    ir_module_free(done);
    ir_module_free(m);
}
END_TEST

START_TEST(every_movement_rule_is_tested) {
    for (const simplify_move *r = simplify_moves; r->name; r++) {
        bool found = false;
        for (size_t k = 0; k < sizeof moves / sizeof *moves; k++)
            found |= !strcmp(moves[k].name, r->name);
        ck_assert_msg(found, "%s has no case", r->name);
    }
}
END_TEST

/* --- The pass -------------------------------------------------------------------------------- */

START_TEST(fuel_counts_rewrites) {
    ir_module *m =
        parse("fn @f(%x: f32[3], %y: f32[3]) -> (f32[3]) {\n %1 = neg %y\n %2 = sub %x, %1\n"
              " %3 = neg %2\n %4 = add %2, %3\n return %4\n }");
    const char *fuel[] = {"0", "1", "2", "1000"};
    const char *want[] = {"sub %x, %3", "add %x, %y", "add %x, %y", "add %x, %y"};
    for (size_t k = 0; k < sizeof fuel / sizeof *fuel; k++) {
        setenv("IG_FUEL", fuel[k], 1);
        ir_module *done = run_passes(m, "simplify");
        char *text = func_text(done);
        ck_assert_msg(strstr(text, want[k]), "fuel %s: %s", fuel[k], text);
        ck_assert_int_eq(strstr(text, "sub %4, %4") != NULL, k >= 2);
        free(text);
        ir_module_free(done);
    }
    unsetenv("IG_FUEL");
    ir_module_free(m);
}
END_TEST

START_TEST(licensed_rules_are_off) {
    for (int i = 0; simplify_rules[i].name; i++) {
        trial t;
        if (!simplify_rules[i].need) continue;
        ck_assert(read_rule(&t, &simplify_rules[i]));
        t.dtype = IG_f32;
        make_inputs(&t);
        ir_module *m;
        must(ir_module_new(A(), "m", &m), "module");
        uint64_t con[2] = {0x40400000, 0x3fa00000}; /* 3, 1.25 */
        ck_assert_ptr_nonnull(make_side(&t, m, "f", &t.from, con, true));
        ir_module *done = run_passes(m, "simplify,dce");
        static char x[1 << 20], y[1 << 20];
        ck_assert_int_lt(t.n * 8, 1 << 20);
        run_side(&t, ir_find_func(m, "f"), x);
        run_side(&t, ir_find_func(done, "f"), y);
        ck_assert_msg(
            !memcmp(x, y,
                    (size_t)t.n * rt_dtype_bytes(ir_result_type(ir_find_func(m, "f"), 0)->dtype)),
            "%s was applied without its licence", t.rule->name);
        for (int k = 0; k < t.nvar; k++) free(t.in[k].data);
        ir_module_free(done);
        ir_module_free(m);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("rules");
    TCase *t = tcase_create("rules");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, the_table_is_well_formed);
    tcase_add_loop_test(t, every_rule_on_every_value, 0, rule_count());
    tcase_add_loop_test(t, movement_rules_apply_and_keep_the_bits, 0,
                        (int)(sizeof moves / sizeof *moves));
    tcase_add_loop_test(t, movement_rules_know_their_limits, 0,
                        (int)(sizeof stays / sizeof *stays));
    tcase_add_test(t, every_movement_rule_is_tested);
    tcase_add_test(t, fuel_counts_rewrites);
    tcase_add_test(t, licensed_rules_are_off);
    suite_add_tcase(s, t);
    return suite_run(s);
}
