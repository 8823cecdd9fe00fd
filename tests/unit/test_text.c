/* test_text.c - the text form: round trips, numbers, and a parser that no text can hurt. */
#include "hostile.h"
#include "ir/text.h"
#include "tests/unit/suite.h"
#include <math.h>

static const ig_allocator *A(void) { return ig_allocator_default(); }
static void setup(void) { hostile_read("parse"); }
static void teardown(void) { hostile_free(); }

/* --- Helpers ---------------------------------------------------------------------------------- */

static ir_module *must_parse(const char *name, const char *text, size_t n) {
    ir_module *m;
    ig_status s = ir_parse(A(), name, text, n, &m);
    ck_assert_msg(!s, "%s", ig_status_text(s));
    return m;
}

static rt_str printed(const ir_module *m, unsigned flags) {
    rt_str s;
    rt_str_init(&s, A());
    ir_print(m, &s, flags);
    ck_assert(!s.failed);
    return s;
}

/* What parses prints, reads back and prints again as the same bytes. */
static void check_again(const ir_module *m) {
    rt_str one = printed(m, IR_PRINT_LOCS);
    ir_module *m2 = must_parse("printed", rt_str_text(&one), one.n);
    rt_str two = printed(m2, IR_PRINT_LOCS);
    ck_assert_msg(one.n == two.n && !memcmp(one.data, two.data, one.n), "%s\n---\n%s",
                  rt_str_text(&one), rt_str_text(&two));
    rt_str_free(&one);
    rt_str_free(&two);
    ir_module_free(m2);
}

/* Parse whatever it is: an error with a text, or a module that prints and reads back.  True when
 * it parsed. */
static bool try_text(const char *text, size_t n) {
    counting c = COUNTING(LONG_MAX);
    ig_allocator a = {counting_resize, &c};
    ir_module *m;
    ig_status s = ir_parse(&a, "t", text, n, &m);
    bool ok = !s;
    hostile_check_peak("text", n, c.peak);
    if (s) {
        ck_assert_ptr_null(m);
        ck_assert(ig_status_code(s) != IG_INTERNAL && strlen(ig_status_text(s)) > 0);
        ig_status_free(s);
    } else {
        s = ir_verify(m);
        if (s)
            ck_assert(ig_status_code(s) == IG_INVALID);
        else
            check_again(m);
        ig_status_free(s);
        ir_module_free(m);
    }
    ck_assert_msg(c.live == 0, "%zu bytes leak", c.live);
    return ok;
}

/* The text of the error, for comparing; the module must not parse. */
static const char *error_of(const char *text) {
    static char kept[1024];
    ir_module *m;
    ig_status s = ir_parse(A(), "t", text, strlen(text), &m);
    ck_assert_msg(s != NULL, "this parses: %s", text);
    snprintf(kept, sizeof kept, "%s", ig_status_text(s));
    ig_status_free(s);
    return kept;
}

/* --- Round trips ------------------------------------------------------------------------------ */

START_TEST(goldens_round_trip) {
    for (int i = 0; i < hostile_n; i++) {
        ir_module *m = must_parse(hostile_tab[i].name, hostile_tab[i].text, hostile_tab[i].n);
        ig_status s = ir_verify(m);
        ck_assert_msg(!s, "%s: %s", hostile_tab[i].name, ig_status_text(s));
        check_again(m);
        ir_module_free(m);
    }
}
END_TEST

/* Every op and attribute kind stands in some golden text. */
START_TEST(goldens_are_complete) {
    bool op[OP_END] = {0}, attr[ATTR_END] = {0};
    for (int i = 0; i < hostile_n; i++) {
        ir_module *m = must_parse(hostile_tab[i].name, hostile_tab[i].text, hostile_tab[i].n);
        for (uint32_t k = 0; k < m->funcs.n; k++)
            for (uint32_t j = 0; j < m->funcs.data[k]->ops.n; j++) {
                const ir_op *o = &m->funcs.data[k]->ops.data[j];
                op[o->code] = attr[ir_attr_kind_of(m, o->attr)] = true;
            }
        ir_module_free(m);
    }
    for (int i = 0; i < OP_END; i++) {
        ck_assert_msg(op[i], "no golden text has the op %s", ir_op_tab[i].name);
        ck_assert(attr[ir_op_tab[i].attr]);
    }
}
END_TEST

START_TEST(locations_are_kept) {
    static const char text[] =
        "module m {\n  fn @f(%x: f32[]) -> (f32[]) {\n"
        "    %1 = neg %x at \"a b.c\":7\n    return %1 at \"q\\\"\":0\n  }\n}\n";
    ir_module *m = must_parse("t", text, strlen(text));
    const ir_op *o = m->funcs.data[0]->ops.data;
    ck_assert_str_eq(ir_loc_get(m, o[0].loc).file, "a b.c");
    ck_assert_uint_eq(ir_loc_get(m, o[0].loc).line, 7);
    ck_assert_str_eq(ir_loc_get(m, o[1].loc).file, "q\"");
    rt_str with = printed(m, IR_PRINT_LOCS), without = printed(m, 0);
    ck_assert(strstr(rt_str_text(&with), " at \"q\\\"\":0") &&
              !strstr(rt_str_text(&without), " at "));
    rt_str_free(&with);
    rt_str_free(&without);
    ir_module_free(m);
}
END_TEST

START_TEST(one_op_and_one_function_print) {
    const char *text =
        "module m { kernel @k(%p: bool[], %x: f32[]) -> () { %1 = kif %p { yield %x } "
        "{ %2 = neg %x yield %2 } return } }";
    ir_module *m = must_parse("t", text, strlen(text));
    rt_str s;
    rt_str_init(&s, A());
    ir_print_op(m->funcs.data[0], 0, &s, 0);
    ck_assert_str_eq(rt_str_text(&s),
                     "%4 = kif %p : f32[] {\n  yield %x\n} {\n  %3 = neg %x : f32[]\n"
                     "  yield %3\n}\n");
    s.n = 0;
    ir_print_op(m->funcs.data[0], 2, &s, 0);
    ck_assert_str_eq(rt_str_text(&s), "%3 = neg %x : f32[]\n");
    s.n = 0;
    ir_print_op(m->funcs.data[0], 99, &s, 0);
    ir_print_func(m->funcs.data[0], &s, 0);
    ck_assert_int_eq(
        strncmp(rt_str_text(&s), "kernel @k(%p: bool[], %x: f32[]) -> () {\n  %4 = kif", 51), 0);
    rt_str_free(&s);
    ir_module_free(m);
}
END_TEST

START_TEST(parameter_names_print_when_unique) {
    ir_module *m;
    ir_builder b;
    ir_type t = ir_scalar_type(IG_f32);
    ck_assert_ptr_null(ir_module_new(A(), "m", &m));
    ir_build_begin(&b, m, "f", IR_FN, IR_BUILD_RAW);
    ir_param(&b, t, "x");
    ir_param(&b, t, "y");
    ir_param(&b, t, "x");
    ir_ref r = ir_param(&b, t, NULL);
    ir_param(&b, t, "");
    ck_assert_ptr_null(ir_build_end(&b, 1, &r, NULL));
    rt_str s = printed(m, 0);
    ck_assert(strstr(rt_str_text(&s), "(%1: f32[], %y: f32[], %3: f32[], %4: f32[], %5: f32[])"));
    check_again(m);
    rt_str_free(&s);
    ir_module_free(m);
}
END_TEST

START_TEST(elided_data_is_for_reading_only) {
    static float w[65];
    ir_module *m;
    ck_assert_ptr_null(ir_module_new(A(), "m", &m));
    ck_assert_ptr_null(ir_add_weight(m, "w", ir_tensor_type(IG_f32, 1, (ir_dim[]){65}), w, false));
    rt_str s = printed(m, IR_PRINT_ELIDE);
    ck_assert(strstr(rt_str_text(&s), "= elided\n"));
    ck_assert(strstr(error_of(rt_str_text(&s)), "left out of this text"));
    rt_str_free(&s);
    check_again(m);
    ir_module_free(m);
}
END_TEST

/* A broken function prints too. */
START_TEST(broken_functions_print) {
    for (int i = 0; i < hostile_n; i++) {
        uint64_t seed = 88172645463325252u + (uint64_t)i;
        for (long round = 0; round < hostile_rounds(60); round++) {
            ir_module *m = must_parse(hostile_tab[i].name, hostile_tab[i].text, hostile_tab[i].n);
            for (uint32_t k = 0; k < m->funcs.n; k++) {
                ir_func *f = m->funcs.data[k];
                ir_op *o = &f->ops.data[hostile_random(&seed) % f->ops.n];
                ir_region *r = &f->regions.data[hostile_random(&seed) % f->regions.n];
                uint32_t x = (uint32_t)hostile_random(&seed) % 2
                                 ? (uint32_t)hostile_random(&seed) % 40
                                 : UINT32_MAX;
                switch (hostile_random(&seed) % 12) {
                case 0: o->code = (uint16_t)x; break;
                case 1: o->in0 = x; break;
                case 2: o->out0 = x; break;
                case 3: o->region0 = x; break;
                case 4: o->parent = x; break;
                case 5: o->nregion = (uint16_t)(x % 5); break;
                case 6: o->nin = (uint16_t)(x % 9); break;
                case 7: o->nout = (uint16_t)(x % 9); break;
                case 8: r->first = x; break;
                case 9: r->end = x; break;
                case 10: r->param0 = x; break;
                default:
                    if (f->operands.n)
                        f->operands.data[hostile_random(&seed) % f->operands.n].i = x;
                }
            }
            rt_str s = printed(m, IR_PRINT_LOCS);
            ig_status_free(ir_verify(m)); /* must not crash either */
            rt_str_free(&s);
            ir_module_free(m);
        }
    }
}
END_TEST

/* --- Numbers ---------------------------------------------------------------------------------- */

static void check_element(ig_dtype dtype, const void *bytes) {
    rt_str s;
    uint8_t back[8];
    rt_str_init(&s, A());
    ir_print_data(dtype, bytes, 1, &s, 0);
    const char *t = rt_str_text(&s);
    ck_assert_msg(t[0] == '[', "%s", t);
    ck_assert_msg(ir_parse_element(t + 1, s.n - 2, dtype, back) &&
                      !memcmp(back, bytes, rt_dtype_bytes(dtype)),
                  "%s of %s reads back differently", t, ig_dtype_name(dtype));
    rt_str_free(&s);
}

START_TEST(every_16_bit_float_round_trips) {
    for (uint32_t h = 0; h < 65536; h++) {
        uint16_t x = (uint16_t)h;
        if (ir_data_bad(IG_f16, &x, 1) == 1) check_element(IG_f16, &x);
        if (ir_data_bad(IG_bf16, &x, 1) == 1) check_element(IG_bf16, &x);
    }
}
END_TEST

START_TEST(random_floats_round_trip) {
    uint64_t seed = 1;
    for (long i = 0; i < hostile_rounds(30000); i++) {
        uint64_t bits = hostile_random(&seed) >> (hostile_random(&seed) % 60);
        uint32_t low = (uint32_t)bits;
        if (ir_data_bad(IG_f64, &bits, 1) == 1) check_element(IG_f64, &bits);
        if (ir_data_bad(IG_f32, &low, 1) == 1) check_element(IG_f32, &low);
        for (int d = IG_i8; d <= IG_u64; d++) check_element((ig_dtype)d, &bits);
    }
}
END_TEST

static double f64_of(const char *s) {
    double x = 12345;
    ck_assert_msg(ir_parse_element(s, strlen(s), IG_f64, &x), "%s", s);
    return x;
}

static float f32_of(const char *s) {
    float x = 12345;
    ck_assert_msg(ir_parse_element(s, strlen(s), IG_f32, &x), "%s", s);
    return x;
}

START_TEST(decimals_round_once) {
    ck_assert(f64_of("2.4703282292062327e-324") == 0); /* below half of the least denormal */
    ck_assert(f64_of("2.4703282292062328e-324") == 0x1p-1074);
    ck_assert(f64_of("1.7976931348623158e308") == 0x1.fffffffffffffp1023);
    ck_assert(isinf(f64_of("1.7976931348623159e308")));
    ck_assert(isinf(f64_of("1e99999999999999999999")) && f64_of("1e-99999999999999999999") == 0);
    ck_assert(f64_of("9007199254740993") == 9007199254740992.0); /* a tie goes to even */
    ck_assert(f64_of("9007199254740993.0000000000000000001") == 9007199254740994.0);
    ck_assert(f32_of("16777217") == 16777216.0f && f32_of("16777217.0000001") == 16777218.0f);
    /* 1 + 2^-24 + 2^-60: through binary64 it would become a tie and go down */
    ck_assert(f32_of("1.00000005960464477626") == 0x1.000002p0f);
    ck_assert(signbit(f64_of("-0")) && !signbit(f64_of("0")) && isnan(f64_of("nan")) &&
              isinf(f64_of("-inf")));
    ck_assert(f64_of("+.5e1") == 5 && f64_of("5.") == 5 && f64_of("00012") == 12);
    uint16_t h;
    ck_assert(ir_parse_element("65519.99", 8, IG_f16, &h) && h == 0x7bff);
    ck_assert(ir_parse_element("65520", 5, IG_f16, &h) && h == 0x7c00);
}
END_TEST

/* A tie with 1074 decimals, and one more digit behind it. */
START_TEST(long_decimals_are_exact) {
    static char s[1200];
    double tie = 0x1p-1074, x;
    snprintf(s, sizeof s, "%.1074f", tie); /* exact; half of it needs one digit more */
    ck_assert(f64_of(s) == tie);
    char *digits = malloc(3000);
    memset(digits, '9', 2999);
    digits[0] = '0', digits[1] = '.', digits[2999] = 0;
    ck_assert(ir_parse_element(digits, 2999, IG_f64, &x) && x == 1.0);
    memset(digits, '0', 2999);
    digits[1] = '.', digits[2998] = '1';
    ck_assert(ir_parse_element(digits, 2999, IG_f64, &x) && x == 0.0);
    free(digits);
}
END_TEST

START_TEST(malformed_numbers_are_refused) {
    static const char *const bad[] = {"",         "-",   "+",     ".",    "e5",   "1e",
                                      "1e+",      "--1", "1.2.3", "-nan", "0x10", "1_000",
                                      "infinity", "1 2", "nanx",  "1e5e5"};
    static const struct {
        ig_dtype d;
        const char *s;
    } range[] = {{IG_i8, "128"},
                 {IG_i8, "-129"},
                 {IG_u8, "256"},
                 {IG_u8, "-1"},
                 {IG_i64, "9223372036854775808"},
                 {IG_i64, "-9223372036854775809"},
                 {IG_u64, "18446744073709551616"},
                 {IG_i32, "1.0"},
                 {IG_bool, "1"},
                 {IG_u64, "99999999999999999999999999"}};
    uint8_t out[8];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (int d = IG_bool; d <= IG_f64; d++)
            ck_assert_msg(!ir_parse_element(bad[i], strlen(bad[i]), (ig_dtype)d, out), "%s",
                          bad[i]);
    for (size_t i = 0; i < sizeof range / sizeof range[0]; i++)
        ck_assert_msg(!ir_parse_element(range[i].s, strlen(range[i].s), range[i].d, out), "%s",
                      range[i].s);
}
END_TEST

/* --- Hostile texts ---------------------------------------------------------------------------- */

START_TEST(truncation_at_every_byte) {
    for (int i = 0; i < hostile_n; i++) {
        long step = getenv("IG_TEST_QUICK") ? 7 : 1;
        for (size_t n = 0; n < hostile_tab[i].n; n += (size_t)step) {
            char *cut = malloc(n + 1); /* exact size: a read beyond it is seen by the sanitizer */
            memcpy(cut, hostile_tab[i].text, n);
            bool rest_is_space = true; /* a text may end in comments */
            for (size_t k = n; k < hostile_tab[i].n; k++)
                if (hostile_tab[i].text[k] == '}') rest_is_space = false;
            ck_assert_msg(!try_text(cut, n) || rest_is_space, "%s cut at %zu parses",
                          hostile_tab[i].name, n);
            free(cut);
        }
    }
}
END_TEST

START_TEST(every_bit_flipped) {
    static const char small[] =
        "module m class fma state 0 {\n dim B in 1..9\n weight @w : f32[2] = [1.0, nan]\n"
        " fn @f(%x: f32[B,2]) -> (f32[B]) {\n  %w = weight name=@w\n"
        "  %1 = ein %x, %w rel=\"y[b] += x[b,i]*w[i]\" : f32[B] at \"a\":1\n"
        "  %2 = iota dtype=f32 dims=[floordiv(B+3,4)*4] axis=0\n  return %1\n }\n}\n";
    char *text = malloc(sizeof small);
    for (size_t bit = 0; bit < 8 * (sizeof small - 1); bit++) {
        memcpy(text, small, sizeof small);
        text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
        try_text(text, sizeof small - 1);
    }
    free(text);
}
END_TEST

START_TEST(random_damage) {
    uint64_t seed = 42;
    long parsed = 0, rounds = hostile_rounds(40000);
    for (long round = 0; round < rounds; round++) {
        const hostile_text *t = &hostile_tab[hostile_random(&seed) % (uint64_t)hostile_n];
        const hostile_text *u = &hostile_tab[hostile_random(&seed) % (uint64_t)hostile_n];
        size_t n = t->n;
        char *text = malloc(n + 64);
        memcpy(text, t->text, n);
        for (int k = (int)(hostile_random(&seed) % 4); k >= 0; k--) {
            size_t at = hostile_random(&seed) % n, from = hostile_random(&seed) % u->n;
            size_t len = hostile_random(&seed) % 24;
            if (len > n - at) len = n - at;
            if (len > u->n - from) len = u->n - from;
            switch (hostile_random(&seed) % 4) {
            case 0: text[at] = (char)hostile_random(&seed); break;
            case 1: memcpy(text + at, u->text + from, len); break; /* a piece of another text */
            case 2:
                memmove(text + at, text + at + len, n - at - len), n -= len;
                break; /* a piece removed */
            default: text[at] = "0123456789%@[]{}(),:=-\"xB."[hostile_random(&seed) % 25];
            }
            if (!n) break;
        }
        char *exact = malloc(n + 1);
        memcpy(exact, text, n);
        parsed += try_text(exact, n);
        free(exact);
        free(text);
    }
    ck_assert_msg(parsed > rounds / 100,
                  "only %ld of %ld damaged texts parse: the damage is too coarse", parsed, rounds);
}
END_TEST

/* The text of `n` copies of `part` between `head` and `tail`. */
static char *repeat(const char *head, const char *part, long n, const char *tail, size_t *size_) {
    size_t h = strlen(head), p = strlen(part), t = strlen(tail);
    char *s = malloc(h + p * (size_t)n + t + 1);
    memcpy(s, head, h);
    for (long i = 0; i < n; i++) memcpy(s + h + p * (size_t)i, part, p);
    memcpy(s + h + p * (size_t)n, tail, t + 1);
    *size_ = h + p * (size_t)n + t;
    return s;
}

START_TEST(depth_bombs) {
    static const struct {
        const char *head, *part, *tail;
    } bombs[] = {
        {"module m { dim B in 1..2 fn @f(%x: f32[", "(", "B"},
        {"module m { dim B in 1..2 fn @f(%x: f32[", "floordiv(", "B"},
        {"module m { dim B in 1..2 fn @f(%x: f32[", "min(B,", "B"},
        {"module m { dim B in 1..2 fn @f(%x: f32[B", "*B", "]) -> () { return } }"},
        {"module m { dim B in 1..2 dim C in 1..2 fn @f(%x: f32[B", "*(B+C+1)",
         "]) -> () { return } }"},
        {"module m { kernel @k(%p: bool[]) -> () { ", "kif %p { ", "yield } { yield } return } }"},
        {"module m { kernel @k(%n: i64[]) -> () { ", "for %n, %n kind=seq step=1 (%i: i64[]) { ",
         ""},
        {"module ", "\"", ""},
        {"module m {", "{", ""},
        {"", ";", ""},
        {"module m ", "class ", ""},
        {"module m { weight @w : f32[", "9223372036854775807,", "2] = []}"}};
    for (size_t i = 0; i < sizeof bombs / sizeof bombs[0]; i++) {
        size_t n;
        char *text = repeat(bombs[i].head, bombs[i].part, 100000, bombs[i].tail, &n);
        ck_assert(!try_text(text, n));
        free(text);
    }
}
END_TEST

/* 64 nested regions are read, 65 are not. */
START_TEST(nesting_limit) {
    for (int depth = IR_MAX_NEST; depth <= IR_MAX_NEST + 1; depth++) {
        size_t n, k;
        char *open = repeat("module m { kernel @k(%p: bool[]) -> () { ", "kif %p { ", depth,
                            "yield } { yield } ", &n);
        char *text = repeat(open, "yield } { yield } ", depth - 1, "return } }", &k);
        ck_assert_int_eq(try_text(text, k), depth == IR_MAX_NEST);
        free(open);
        free(text);
    }
}
END_TEST

START_TEST(overflowing_shapes) {
    static const char *const shapes[] = {"f32[9223372036854775807]",
                                         "f32[4294967296,4294967296]",
                                         "f64[1152921504606846976,2]",
                                         "f32[0,9223372036854775807,9223372036854775807]",
                                         "i8[3037000500,3037000500]",
                                         "f32[9223372036854775808]",
                                         "f32[B*9223372036854775807]",
                                         "f32[B,9223372036854775807]",
                                         "vec<256 x f32>",
                                         "vec<0 x f32>",
                                         "f32[-1]"};
    char text[512];
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        static const char *const uses[] = {
            "module m { weight @w : %s = [] }", "module m { weight @w : %s = hex{} }",
            "module m { fn @f() -> () { %%1 = const type=%s data=[] return } }",
            "module m { dim B in 0..9 fn @f(%%x: %s) -> () { %%1 = neg %%x return } }",
            "module m { dim B in 0..9 fn @f(%%x: %s) -> () { %%1 = concat %%x, %%x axis=0 return } "
            "}"};
        for (size_t k = 0; k < sizeof uses / sizeof uses[0]; k++) {
            snprintf(text, sizeof text, uses[k], shapes[i]);
            try_text(text, strlen(text));
        }
    }
    ck_assert(!try_text("module m { weight @w : f32[4294967296,4294967296] = [] }", 57));
}
END_TEST

/* docs/ir-text.md promises 4 bytes of memory a character and 256 KiB.  Texts that would need more
 * are refused and say so; every other text here is within the bound by itself. */
START_TEST(memory_is_bounded) {
    static const struct {
        const char *head, *part, *tail;
    } texts[] = {
        {"module m { fn @f(%x: f32[]) -> () { ", "barrier %x ", "return } }"},
        {"module m { fn @f(%0: f32[]) -> () { ", "%1=neg %0 ", "return } }"},
        {"module m { fn @f() -> () { ", "call callee=@g ", "return } }"},
        {"module m { ", "fn @f()->(){return}", "}"},
        {"module m { fn @f(%x: f32[]) -> (", "f32[],", "f32[]) { return } }"},
        {"module m { fn @f(%0: f32[]", ",%1:i8[]", ") -> () { return } }"},
        {"module m { fn @f(%x: f32[]) -> () { call ", "%x,", "%x callee=@f return } }"},
        {"module m { fn @f(%x: f32[]) -> () { %1 = const type=f64[1000000] data=[", "0,",
         "0] return } }"},
        {"module m { fn @f(%x: f32[]) -> () { %1 = const type=f64[1000000] data=hex{", "00",
         "} return } }"},
        {"module m { weight @w : i8[100000] = hex{", "00", "} }"},
        {"module m { weight @w : f64[100000] = [0", ",0", "] }"},
        {"module ", "a", " { }"},
        {"module \"", "\\x41", "\" { }"},
        {"module m { kernel @k(%p: bool[]) -> () { ", "kif %p {yield}{yield}", "return } }"}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        counting c = COUNTING(LONG_MAX);
        ig_allocator a = {counting_resize, &c};
        size_t n;
        ir_module *m;
        char *text = repeat(texts[i].head, texts[i].part, 99999, texts[i].tail, &n);
        ig_status s = ir_parse(&a, "t", text, n, &m);
        hostile_tell_peak(texts[i].part, n, c.peak, hostile_is_refusal(s));
        ck_assert(!s || ig_status_code(s) != IG_MEMORY);
        ig_status_free(s);
        ir_module_free(m);
        ck_assert_uint_eq(c.live, 0);
        free(text);
    }
}
END_TEST

/* What would need more is refused, and the error says how much. */
START_TEST(what_needs_more_memory_is_refused) {
    size_t n;
    ir_module *m;
    char *text = repeat("module m { ", "fn @f()->(){return}", 99999, "}", &n);
    ig_status s = ir_parse(A(), "t", text, n, &m);
    ck_assert_ptr_null(m);
    ck_assert(hostile_is_refusal(s));
    ck_assert(strstr(ig_status_text(s), "t: reading these 1899993 bytes takes "));
    ck_assert(strstr(ig_status_text(s), "the limit is 4 for each byte and 256 KiB"));
    ig_status_free(s);
    free(text);
}
END_TEST

/* The same for a text of distinct small ops. */
START_TEST(memory_is_bounded_for_distinct_items) {
    static const char *const forms[] = {
        "    %%%ld = neg %%x\n", "    %%%ld = slice %%v lo=[%ld] hi=[%ld] step=[1] : f32[0]\n"};
    for (int form = 0; form < 2; form++) {
        counting c = COUNTING(LONG_MAX);
        ig_allocator a = {counting_resize, &c};
        ir_module *m;
        rt_str s;
        rt_str_init(&s, A());
        rt_str_puts(&s, "module m { fn @f(%x: f32[], %v: f32[99999]) -> () { ");
        for (long i = 0; i < 20000; i++) rt_str_printf(&s, forms[form], i, i, i);
        rt_str_puts(&s, "return } }");
        ig_status e = ir_parse(&a, "t", s.data, s.n, &m);
        ck_assert_msg(!e, "%s", ig_status_text(e));
        ir_module_free(m);
        hostile_tell_peak(forms[form], s.n, c.peak, false);
        rt_str_free(&s);
    }
}
END_TEST

/* Every allocation fails once: an error about memory, or success, and nothing leaks. */
START_TEST(failing_allocations) {
    for (int i = 0; i < hostile_n; i++) {
        for (long fail = 0;; fail++) {
            counting c = {.fail = fail, .once = true};
            ig_allocator a = {counting_resize, &c};
            ir_module *m;
            ig_status s = ir_parse(&a, "t", hostile_tab[i].text, hostile_tab[i].n, &m);
            if (!s) {
                rt_str out;
                s = ir_verify(m);
                rt_str_init(&out, &a);
                ir_print(m, &out, IR_PRINT_LOCS);
                rt_str_free(&out);
            }
            ck_assert_msg(!s || ig_status_code(s) == IG_MEMORY, "%s, allocation %ld: %s",
                          hostile_tab[i].name, fail, ig_status_text(s));
            ig_status_free(s);
            ir_module_free(m);
            ck_assert_uint_eq(c.live, 0);
            if (c.at <= fail) break;
            if (getenv("IG_TEST_QUICK")) fail += 6;
        }
    }
}
END_TEST

/* --- Errors ----------------------------------------------------------------------------------- */

START_TEST(errors_point_at_the_place) {
    ck_assert_str_eq(error_of("module m {\n  fn @f(%x: f32[2]) -> () {\n\tfoo %x\n  }\n}"),
                     "t:3:2: there is no op foo\n   foo %x\n   ^");
    ck_assert_str_eq(error_of(""), "t:1:1: a text begins with `module`\n  \n  ^");
    ck_assert(
        strstr(error_of("module m { weight @w : f32[2] = [1.0, x] }"), "an element of type f32"));
    ck_assert(strstr(error_of("module m { fn @f(%x: f32[2], %x: f32[2]) -> () { return } }"),
                     "%x is defined already"));
    ck_assert(strstr(error_of("module m { dim B in 3..2 }"), "(I6)"));
    ck_assert(
        strstr(error_of("module m { fn @f() -> () { %1 = weight name=@w return } }"), "(I9)"));
}
END_TEST

int main(void) {
    Suite *s = suite_create("text");
    TCase *t = tcase_create("text");
    tcase_set_timeout(t, 300);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, goldens_round_trip);
    tcase_add_test(t, goldens_are_complete);
    tcase_add_test(t, locations_are_kept);
    tcase_add_test(t, one_op_and_one_function_print);
    tcase_add_test(t, parameter_names_print_when_unique);
    tcase_add_test(t, elided_data_is_for_reading_only);
    tcase_add_test(t, broken_functions_print);
    tcase_add_test(t, every_16_bit_float_round_trips);
    tcase_add_test(t, random_floats_round_trip);
    tcase_add_test(t, decimals_round_once);
    tcase_add_test(t, long_decimals_are_exact);
    tcase_add_test(t, malformed_numbers_are_refused);
    tcase_add_test(t, truncation_at_every_byte);
    tcase_add_test(t, every_bit_flipped);
    tcase_add_test(t, random_damage);
    tcase_add_test(t, depth_bombs);
    tcase_add_test(t, nesting_limit);
    tcase_add_test(t, overflowing_shapes);
    tcase_add_test(t, memory_is_bounded);
    tcase_add_test(t, what_needs_more_memory_is_refused);
    tcase_add_test(t, memory_is_bounded_for_distinct_items);
    tcase_add_test(t, failing_allocations);
    tcase_add_test(t, errors_point_at_the_place);
    suite_add_tcase(s, t);
    return suite_run(s);
}
