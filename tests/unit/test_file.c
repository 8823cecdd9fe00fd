/* test_file.c - modules as files: round trips, refusals by name, and a loader that no bytes can
 * hurt.
 *
 * Hashes catch random damage; a hostile writer makes them fit.  So most tests here damage the
 * contents of a section and seal the file again. */
#include "hostile.h"
#include "ir/file.h"
#include "ir/sections.h"
#include "ir/text.h"
#include "tests/unit/suite.h"

static const ig_allocator *A(void) { return ig_allocator_default(); }
static void setup(void) { hostile_read("parse"); }
static void teardown(void) { hostile_free(); }

/* A module with every table in use. */
static const char small[] =
    "module small class fma state 0 {\n dim B in 1..9\n weight @w : f32[2] = [1.0, nan]\n"
    " weight @p : bool[3] = [true, false, true]\n"
    " cluster @g(%a: f32[B]) -> (f32[B]) {\n  %1 = neg %a\n  return %1\n }\n"
    " fn @f(%x: f32[B,2], %5: i64[]) -> (f32[B], f32[4*floordiv(B+3,4)]) {\n  %w = weight name=@w\n"
    "  %1 = ein %x, %w rel=\"y[b] *= x[b,i]*w[i]\" at \"a.c\":1\n"
    "  %2 = iota dtype=f32 dims=[floordiv(B+3,4)*4] axis=0\n"
    "  %3 = call %1 callee=@g at=[ws 64*B]\n  %4 = const type=f16[2] data=[0.5, -0.0]\n"
    "  %last = reduce %x op=argmax axes=[1]\n return %3, %2 at \"b.c\":2\n }\n"
    " kernel @k(%p: bool[], %b: mem<f32>, %n: i64[], %v: vec<4 x f32>) -> () {\n"
    "  %1 = for %n, %n, %v kind=par step=1 (%i: i64[], %c: vec<4 x f32>) {\n"
    "   kif %p {\n    store %b, %i, %c\n    yield\n   } {\n    yield\n   }\n   yield %c\n  }\n  "
    "return\n }\n}\n";

/* --- Helpers ---------------------------------------------------------------------------------- */

static ir_module *parse(const char *text, size_t n) {
    ir_module *m;
    ig_status s = ir_parse(A(), "t", text, n, &m);
    ck_assert_msg(!s, "%s", ig_status_text(s));
    return m;
}

static rt_str saved(const ir_module *m) {
    rt_str out;
    rt_str_init(&out, A());
    ig_status s = ir_save(m, NULL, 0, &out);
    ck_assert_msg(!s, "%s", ig_status_text(s));
    return out;
}

static rt_str saved_text(const char *text, size_t n) {
    ir_module *m = parse(text, n);
    rt_str out = saved(m);
    ir_module_free(m);
    return out;
}

static void check_same(const ir_module *a, const ir_module *b, unsigned flags) {
    rt_str x, y;
    rt_str_init(&x, A());
    rt_str_init(&y, A());
    ir_print(a, &x, flags);
    ir_print(b, &y, flags);
    ck_assert_msg(x.n == y.n && !memcmp(x.data, y.data, x.n), "%s\n---\n%s", rt_str_text(&x),
                  rt_str_text(&y));
    rt_str_free(&x);
    rt_str_free(&y);
}

/* Load whatever it is: an error with a text, or a verified module that is saved and loaded again
 * unchanged. */
static bool try_load(const void *bytes, size_t n) {
    counting c = COUNTING(LONG_MAX);
    ig_allocator a = {counting_resize, &c};
    ir_module *m, *back;
    ig_status s = ir_load(&a, bytes, n, &m);
    size_t peak = c.peak;
    bool ok = !s;
    if (s) {
        ck_assert_ptr_null(m);
        ck_assert(ig_status_code(s) != IG_INTERNAL && ig_status_code(s) != IG_MEMORY);
        ig_status_free(s);
    } else {
        ck_assert_ptr_null(ir_verify(m));
        rt_str again = saved(m);
        ck_assert_ptr_null(ir_load(A(), again.data, again.n, &back));
        check_same(m, back, IR_PRINT_LOCS);
        rt_str_free(&again);
        ir_module_free(back);
        ir_module_free(m);
    }
    ck_assert_msg(c.live == 0, "%zu bytes leak", c.live);
    hostile_check_peak("file", n, peak);
    return ok;
}

static const char *error_of(const void *bytes, size_t n) {
    static char kept[1024];
    ir_module *m;
    ig_status s = ir_load(A(), bytes, n, &m);
    ck_assert_msg(s != NULL, "this loads");
    snprintf(kept, sizeof kept, "%s", ig_status_text(s));
    ig_status_free(s);
    return kept;
}

static rt_container container_of(const rt_str *file) {
    rt_container c;
    ck_assert_ptr_null(rt_container_read(A(), file->data, file->n, &c));
    return c;
}

/* The file with the bytes of section k replaced. */
static rt_str reseal(const rt_container *c, uint32_t k, const void *bytes, size_t n) {
    rt_section sec[RT_SECTION_MAX];
    rt_str out;
    memcpy(sec, c->section, sizeof sec);
    sec[k].data = bytes;
    sec[k].size = n;
    rt_str_init(&out, A());
    ck_assert_ptr_null(rt_container_write(A(), sec, c->nsection, &out));
    return out;
}

static uint32_t section_of(const rt_container *c, const char *tag) {
    for (uint32_t i = 0; i < c->nsection; i++)
        if (!memcmp(c->section[i].tag, tag, 4)) return i;
    ck_abort_msg("no section %s", tag);
    return 0;
}

/* Replace the bytes `from` by `to` wherever they stand in a section, and load. */
static const char *error_with(const char *tag, const char *from, const char *to, size_t n) {
    static char kept[1024];
    rt_str file = saved_text(small, sizeof small - 1);
    rt_container c = container_of(&file);
    uint32_t k = section_of(&c, tag);
    size_t size = c.section[k].size;
    uint8_t *bytes = malloc(size);
    bool found = false;
    memcpy(bytes, c.section[k].data, size);
    for (size_t i = 0; i + n <= size; i++)
        if (!memcmp(bytes + i, from, n)) memcpy(bytes + i, to, n), found = true;
    ck_assert_msg(found, "%s is not in section %s", from, tag);
    rt_str bad = reseal(&c, k, bytes, size);
    snprintf(kept, sizeof kept, "%s", error_of(bad.data, bad.n));
    rt_str_free(&bad);
    rt_str_free(&file);
    free(bytes);
    return kept;
}

/* --- Round trips ------------------------------------------------------------------------------ */

START_TEST(goldens_round_trip) {
    for (int i = 0; i < hostile_n; i++) {
        ir_module *m = parse(hostile_tab[i].text, hostile_tab[i].n), *back;
        rt_str file = saved(m);
        ig_status s = ir_load(A(), file.data, file.n, &back);
        ck_assert_msg(!s, "%s: %s", hostile_tab[i].name, ig_status_text(s));
        check_same(m, back, IR_PRINT_LOCS);
        rt_str again = saved(back);
        ck_assert(again.n == file.n && !memcmp(again.data, file.data, file.n));
        rt_str_free(&again);
        rt_str_free(&file);
        ir_module_free(back);
        ir_module_free(m);
    }
}
END_TEST

START_TEST(stripping_removes_locations_only) {
    ir_module *m = parse(small, sizeof small - 1), *back;
    rt_str file;
    rt_str_init(&file, A());
    ck_assert_ptr_null(ir_save_stripped(m, NULL, 0, &file));
    rt_container c = container_of(&file);
    ck_assert_ptr_null(rt_container_find(&c, "LOCS", 0));
    ck_assert_ptr_null(ir_load(A(), file.data, file.n, &back));
    check_same(m, back, 0);
    ck_assert_uint_eq(back->funcs.data[1]->ops.data[1].loc.i, 0);
    ir_module_free(back);
    ir_module_free(m);
    rt_str_free(&file);
}
END_TEST

/* A reader that drops LOCS reads the rest. */
START_TEST(sections_that_may_be_skipped) {
    rt_str file = saved_text(small, sizeof small - 1), out;
    rt_container c = container_of(&file);
    rt_section sec[RT_SECTION_MAX];
    uint32_t n = 0;
    ir_module *m;
    for (uint32_t i = 0; i < c.nsection; i++)
        if (memcmp(c.section[i].tag, "LOCS", 4)) sec[n++] = c.section[i];
    sec[n++] = (rt_section){.tag = {'X', 'T', 'R', 'A'}, .data = (const uint8_t *)"abc", .size = 3};
    rt_str_init(&out, A());
    ck_assert_ptr_null(rt_container_write(A(), sec, n, &out));
    ck_assert_ptr_null(ir_load(A(), out.data, out.n, &m));
    ir_module_free(m);
    out.n = 0;
    sec[n - 1].flags = RT_SECTION_CRITICAL;
    ck_assert_ptr_null(rt_container_write(A(), sec, n, &out));
    ck_assert(strstr(error_of(out.data, out.n), "section XTRA is critical"));
    rt_str_free(&out);
    rt_str_free(&file);
}
END_TEST

START_TEST(extra_sections) {
    ir_module *m = parse(small, sizeof small - 1), *back;
    rt_section image = {
        .tag = {'I', 'M', 'A', 'G'}, .data = (const uint8_t *)"image bytes", .size = 11};
    rt_str file;
    rt_str_init(&file, A());
    ck_assert_ptr_null(ir_save(m, &image, 1, &file));
    rt_container c = container_of(&file);
    const rt_section *s = rt_container_find(&c, "IMAG", 0);
    ck_assert(s && s->size == 11 && !memcmp(s->data, "image bytes", 11) && s->off % 64 == 0);
    ck_assert_ptr_null(ir_load(A(), file.data, file.n, &back));
    ir_module_free(back);
    memcpy(image.tag, "FUNC", 4);
    ig_status e = ir_save(m, &image, 1, &file);
    ck_assert(e && strstr(ig_status_text(e), "section FUNC belongs to the module itself"));
    ig_status_free(e);
    rt_str_free(&file);
    ir_module_free(m);
}
END_TEST

START_TEST(weights_are_copied_or_borrowed) {
    rt_str file = saved_text(small, sizeof small - 1);
    ir_module *m;
    uint8_t *bytes = rt_alloc_buffer(A(), file.n + 1);
    memcpy(bytes, file.data, file.n);
    ck_assert_ptr_null(ir_load_borrowed(A(), bytes, file.n, &m));
    const ir_weight *w = ir_find_weight(m, "w");
    ck_assert(!w->owned && (const uint8_t *)w->data > bytes &&
              (const uint8_t *)w->data < bytes + file.n);
    ck_assert_uint_eq((uintptr_t)w->data % 64, 0);
    ir_module_free(m);
    ck_assert_ptr_null(ir_load(A(), bytes, file.n, &m));
    w = ir_find_weight(m, "w");
    ck_assert(w->owned &&
              ((const uint8_t *)w->data < bytes || (const uint8_t *)w->data >= bytes + file.n));
    ir_module_free(m);
    memmove(bytes + 1, bytes, file.n);
    ig_status s = ir_load_borrowed(A(), bytes + 1, file.n, &m);
    ck_assert(s && !m && strstr(ig_status_text(s), "multiple of 64"));
    ig_status_free(s);
    rt_free_buffer(A(), bytes, file.n + 1);
    rt_str_free(&file);
}
END_TEST

/* NaNs become canonical in the file; a bool of 2 is refused. */
START_TEST(contents_of_weights) {
    ir_module *m, *back;
    uint32_t nans[3] = {0xffc00001, 0x7f800001, 0x3f800000};
    uint8_t bools[2] = {1, 2};
    ck_assert_ptr_null(ir_module_new(A(), "m", &m));
    ck_assert_ptr_null(
        ir_add_weight(m, "n", ir_tensor_type(IG_f32, 1, (ir_dim[]){3}), nans, false));
    rt_str file = saved(m);
    ck_assert_ptr_null(ir_load(A(), file.data, file.n, &back));
    const uint32_t *x = ir_find_weight(back, "n")->data;
    ck_assert(x[0] == 0x7fc00000 && x[1] == 0x7fc00000 && x[2] == 0x3f800000);
    ir_module_free(back);
    file.n = 0;
    ck_assert_ptr_null(
        ir_add_weight(m, "b", ir_tensor_type(IG_bool, 1, (ir_dim[]){2}), bools, false));
    ig_status s = ir_save(m, NULL, 0, &file);
    ck_assert(s && strstr(ig_status_text(s), "@b"));
    ig_status_free(s);
    rt_str_free(&file);
    ir_module_free(m);
    ck_assert(strstr(error_with("BLOB", "\x01\x00\x01", "\x01\x07\x01", 3),
                     "a bool other than 0 and 1 (I7)"));
    ck_assert(strstr(error_with("BLOB", "\x00\x00\xc0\x7f", "\x00\x00\xc0\xff", 4),
                     "a NaN that is not canonical (I7)"));
}
END_TEST

/* A large weight costs its size and not much more. */
START_TEST(large_weights_cost_their_size) {
    const int64_t n = 1 << 20;
    float *data = calloc((size_t)n, sizeof *data);
    ir_module *m, *back;
    ck_assert_ptr_null(ir_module_new(A(), "m", &m));
    ck_assert_ptr_null(ir_add_weight(m, "w", ir_tensor_type(IG_f32, 1, &n), data, false));
    rt_str file = saved(m);
    counting c = COUNTING(LONG_MAX);
    ig_allocator a = {counting_resize, &c};
    ck_assert_ptr_null(ir_load(&a, file.data, file.n, &back));
    ck_assert_uint_lt(c.peak, file.n + 65536);
    ir_module_free(back);
    rt_str_free(&file);
    ir_module_free(m);
    free(data);
}
END_TEST

/* Many small items: memory is linear in the file (docs/format.md). */
START_TEST(memory_is_bounded) {
    static const char *const forms[] = {
        "fn @f%ld() -> () { return }\n",
        "cluster @f%ld(%%x: f32[2]) -> (f32[2]) { %%1 = neg %%x return %%1 }\n",
        "weight @w%ld : i8[] = [1]\n",
        "dim D%ld in 0..1\n",
        "fn @f%ld(%%a: i8[], %%b: i8[], %%c: i8[], %%d: i8[], %%e: i8[], %%f: i8[]) -> () { return "
        "}\n",
        "fn @f%ld(%%x: f32[%ld]) -> () { %%1 = slice %%x lo=[0] hi=[%ld] step=[1] return }\n",
        "fn @f%ld(%%x: f32[]) -> () { %%1 = neg %%x %%2 = neg %%1 %%3 = neg %%2 %%4 = neg %%3 %%5 "
        "= neg %%4 return }\n"};
    for (size_t k = 0; k < sizeof forms / sizeof forms[0]; k++) {
        rt_str text;
        rt_str_init(&text, A());
        rt_str_puts(&text, "module m {\n");
        for (long i = 1; i <= 2000; i++) { /* readers of text keep to a bound as well */
            rt_str_printf(&text, forms[k], i, i, i);
            rt_str_printf(&text, ";%150s\n", "");
        }
        rt_str_puts(&text, "}\n");
        rt_str file = saved_text(text.data, text.n);
        ck_assert(try_load(file.data, file.n));
        rt_str_free(&file);
        rt_str_free(&text);
    }
}
END_TEST

START_TEST(only_valid_modules_are_saved) {
    ir_module *m = parse(small, sizeof small - 1);
    rt_str file;
    rt_str_init(&file, A());
    m->funcs.data[1]->operands.data[0].i = 0;
    ig_status s = ir_save(m, NULL, 0, &file);
    ck_assert(s && strstr(ig_status_text(s), "I1: "));
    ig_status_free(s);
    ck_assert_uint_eq(file.n, 0);
    rt_str_free(&file);
    ir_module_free(m);
}
END_TEST

/* --- Refusals --------------------------------------------------------------------------------- */

START_TEST(what_is_unknown_is_named) {
    ck_assert(strstr(error_with("STRS", "iota", "itoa", 4), "is not known to this library"));
    ck_assert(strstr(error_with("STRS", "neg", "nge", 3), "op `nge` is not known to this library"));
    ck_assert(strstr(error_with("STRS", "argmax", "argmix", 6), "the value `argmix` is not known"));
    ck_assert(strstr(error_with("STRS", "callee", "caller", 6),
                     "field `caller` of attribute `call` is not known"));
    ck_assert(
        strstr(error_with("STRS", "reduce", "reduze", 6), "attribute kind `reduze` is not known"));
    ck_assert(
        strstr(error_with("STRS", "kernel", "kermit", 6), "function kind `kermit` is not known"));
    ck_assert(strstr(error_with("STRS", "fma", "fmb", 3), "class fmb is not known"));
    ck_assert(strstr(error_with("STRS", "y[i]", "y[j]", 4), "(I10)"));
}
END_TEST

START_TEST(versions_are_named) {
    rt_str file = saved_text(small, sizeof small - 1);
    rt_container c = container_of(&file);
    uint32_t k = section_of(&c, "OPNM");
    size_t size = c.section[k].size;
    uint8_t *bytes = malloc(size);
    memcpy(bytes, c.section[k].data, size);
    bytes[8] = 7; /* the version of the first op */
    rt_str bad = reseal(&c, k, bytes, size);
    ck_assert(
        strstr(error_of(bad.data, bad.n), "op `neg` has version 7; this library knows version 1"));
    rt_str_free(&bad);
    rt_str_free(&file);
    free(bytes);
}
END_TEST

/* A field that is not critical and not known is skipped, and the known ones keep their default. */
START_TEST(fields_that_may_be_skipped) {
    const char *text =
        "module m { fn @f(%x: f32[2]) -> (f32[2]) { %1 = cumred %x op=max axis=0 return %1 } }";
    rt_str file = saved_text(text, strlen(text));
    rt_container c = container_of(&file);
    uint32_t k = section_of(&c, "ATTR"), strs = section_of(&c, "STRS");
    uint8_t *bytes = malloc(c.section[k].size);
    memcpy(bytes, c.section[k].data, c.section[k].size);
    for (size_t i = 0; i + 12 <= c.section[k].size;
         i++) /* flags 1, size 1: `reverse` and `exclusive` */
        if (!memcmp(bytes + i, "\1\0\0\0\1\0\0\0\0\0\0\0", 12)) bytes[i] = 0;
    rt_str one = reseal(&c, k, bytes, c.section[k].size);
    rt_container c1 = container_of(&one);
    uint8_t *names = malloc(c.section[strs].size);
    memcpy(names, c.section[strs].data, c.section[strs].size);
    bool found = false;
    for (size_t i = 0; i + 7 <= c.section[strs].size; i++)
        if (!memcmp(names + i, "reverse", 7)) memcpy(names + i, "fevered", 7), found = true;
    ck_assert(found);
    rt_str two = reseal(&c1, strs, names, c.section[strs].size);
    ir_module *m;
    ig_status s = ir_load(A(), two.data, two.n, &m);
    ck_assert_msg(!s, "%s", ig_status_text(s));
    ir_module_free(m);
    rt_str_free(&one);
    rt_str_free(&two);
    rt_str_free(&file);
    free(bytes);
    free(names);
}
END_TEST

START_TEST(sections_once_and_all) {
    rt_str file = saved_text(small, sizeof small - 1), out;
    rt_container c = container_of(&file);
    for (uint32_t i = 0; i < c.nsection; i++) {
        rt_section sec[RT_SECTION_MAX];
        char words[64];
        rt_str_init(&out, A());
        memcpy(sec, c.section, sizeof sec);
        sec[c.nsection] = sec[i];
        ck_assert_ptr_null(rt_container_write(A(), sec, c.nsection + 1, &out));
        snprintf(words, sizeof words, "section %.4s: it stands twice", sec[i].tag);
        ck_assert_msg(strstr(error_of(out.data, out.n), words), "%s", error_of(out.data, out.n));
        out.n = 0;
        bool strippable = !memcmp(sec[i].tag, "LOCS", 4);
        snprintf(words, sizeof words, "section %.4s: it is missing", sec[i].tag);
        memmove(&sec[i], &sec[i + 1], (c.nsection - i) * sizeof sec[0]);
        ck_assert_ptr_null(rt_container_write(A(), sec, c.nsection - 1, &out));
        if (!strippable)
            ck_assert_msg(strstr(error_of(out.data, out.n), words), "%s",
                          error_of(out.data, out.n));
        rt_str_free(&out);
    }
    rt_str_free(&file);
}
END_TEST

/* --- Hostile files ---------------------------------------------------------------------------- */

START_TEST(truncation_at_every_byte) {
    rt_str file = saved_text(small, sizeof small - 1);
    for (size_t n = 0; n < file.n; n++) {
        uint8_t *cut = malloc(n + 1);
        memcpy(cut, file.data, n);
        ck_assert(!try_load(cut, n));
        free(cut);
    }
    rt_str_puts(&file, "x");
    ck_assert(!try_load(file.data, file.n));
    rt_str_free(&file);
}
END_TEST

START_TEST(every_bit_flipped) {
    rt_str file = saved_text(small, sizeof small - 1);
    rt_container c = container_of(&file);
    for (size_t bit = 0; bit < 8 * file.n; bit++) {
        bool padding = true; /* between sections: the only bytes without a hash */
        file.data[bit / 8] = (char)(file.data[bit / 8] ^ 1 << bit % 8);
        if (bit / 8 < 64 + 32 * c.nsection) padding = false;
        for (uint32_t i = 0; i < c.nsection; i++)
            if (bit / 8 >= c.section[i].off && bit / 8 < c.section[i].off + c.section[i].size)
                padding = false;
        ck_assert_msg(!try_load(file.data, file.n) || padding, "bit %zu of byte %zu", bit % 8,
                      bit / 8);
        file.data[bit / 8] = (char)(file.data[bit / 8] ^ 1 << bit % 8);
    }
    rt_str_free(&file);
}
END_TEST

/* Every bit of every section, with hashes that fit. */
START_TEST(every_bit_flipped_and_sealed) {
    rt_str file = saved_text(small, sizeof small - 1);
    rt_container c = container_of(&file);
    long loaded = 0, refused = 0;
    for (uint32_t k = 0; k < c.nsection; k++) {
        size_t n = c.section[k].size;
        uint8_t *bytes = malloc(n + 1);
        memcpy(bytes, c.section[k].data, n);
        for (size_t bit = 0; bit < 8 * n; bit += getenv("IG_TEST_QUICK") ? 5 : 1) {
            bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1 << bit % 8);
            rt_str bad = reseal(&c, k, bytes, n);
            if (try_load(bad.data, bad.n))
                loaded++;
            else
                refused++;
            rt_str_free(&bad);
            bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1 << bit % 8);
        }
        free(bytes);
    }
    ck_assert(loaded > 0 && refused > loaded); /* names, locations and weights may change unseen */
    rt_str_free(&file);
}
END_TEST

/* Extreme numbers at every place of every section; sections cut and stretched. */
START_TEST(extreme_numbers) {
    static const uint64_t extremes[] = {
        0, 1, 0x7fffffff, 0xffffffff, UINT64_MAX, (uint64_t)1 << 63, INT64_MAX, 9, 65535, 65536};
    rt_str file = saved_text(small, sizeof small - 1);
    rt_container c = container_of(&file);
    for (uint32_t k = 0; k < c.nsection; k++) {
        size_t n = c.section[k].size;
        for (size_t at = 0; at < n; at += getenv("IG_TEST_QUICK") ? 3 : 1) {
            for (size_t e = 0; e < 2 * sizeof extremes / sizeof extremes[0]; e++) {
                uint8_t *bytes = malloc(n);
                size_t width = e % 2 ? 4 : 8;
                memcpy(bytes, c.section[k].data, n);
                memcpy(bytes + at, &extremes[e / 2], width < n - at ? width : n - at);
                rt_str bad = reseal(&c, k, bytes, n);
                try_load(bad.data, bad.n);
                rt_str_free(&bad);
                free(bytes);
            }
        }
        for (size_t cut = 0; cut < n; cut++) {
            rt_str bad = reseal(&c, k, c.section[k].data, cut);
            ck_assert_msg(!try_load(bad.data, bad.n), "section %.4s cut at %zu", c.section[k].tag,
                          cut);
            rt_str_free(&bad);
        }
        uint8_t *longer = calloc(n + 8, 1);
        memcpy(longer, c.section[k].data, n);
        rt_str bad = reseal(&c, k, longer, n + 8);
        ck_assert(!try_load(bad.data, bad.n));
        rt_str_free(&bad);
        free(longer);
    }
    rt_str_free(&file);
}
END_TEST

START_TEST(random_damage_sealed) {
    uint64_t seed = 99;
    long loaded = 0, rounds = hostile_rounds(10000);
    for (long round = 0; round < rounds; round++) {
        const hostile_text *t = &hostile_tab[hostile_random(&seed) % (uint64_t)hostile_n];
        rt_str file = saved_text(t->text, t->n);
        rt_container c = container_of(&file);
        uint32_t k = (uint32_t)(hostile_random(&seed) % c.nsection);
        size_t n = c.section[k].size;
        uint8_t *bytes = malloc(n + 1);
        memcpy(bytes, c.section[k].data, n);
        for (int i = (int)(hostile_random(&seed) % 3); i >= 0 && n; i--) {
            size_t at = hostile_random(&seed) % n, from = hostile_random(&seed) % n,
                   len = hostile_random(&seed) % 9;
            if (len > n - at) len = n - at;
            if (len > n - from) len = n - from;
            if (hostile_random(&seed) % 2)
                bytes[at] = (uint8_t)(hostile_random(&seed) % 2 ? hostile_random(&seed)
                                                                : hostile_random(&seed) % 8);
            else
                memmove(bytes + at, bytes + from, len);
        }
        rt_str bad = reseal(&c, k, bytes, n);
        loaded += try_load(bad.data, bad.n);
        rt_str_free(&bad);
        rt_str_free(&file);
        free(bytes);
    }
    ck_assert_msg(loaded > rounds / 100,
                  "only %ld of %ld damaged files load: the damage is too coarse", loaded, rounds);
}
END_TEST

/* Every allocation fails once, in saving and in loading. */
START_TEST(failing_allocations) {
    for (int i = 0; i < hostile_n; i++) {
        for (long fail = 0;; fail++) {
            counting c = COUNTING(LONG_MAX);
            ig_allocator a = {counting_resize, &c};
            ir_module *m, *back = NULL;
            rt_str file;
            ck_assert_ptr_null(ir_parse(&a, "t", hostile_tab[i].text, hostile_tab[i].n, &m));
            c.at = 0, c.fail = fail, c.once = true;
            rt_str_init(&file, &a);
            ig_status s = ir_save(m, NULL, 0, &file);
            if (!s) s = ir_load(&a, file.data, file.n, &back);
            ck_assert_msg(!s || ig_status_code(s) == IG_MEMORY, "%s, allocation %ld: %s",
                          hostile_tab[i].name, fail, ig_status_text(s));
            ig_status_free(s);
            rt_str_free(&file);
            ir_module_free(back);
            ir_module_free(m);
            ck_assert_uint_eq(c.live, 0);
            if (c.at <= fail) break;
            if (getenv("IG_TEST_QUICK")) fail += 12;
        }
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("file");
    TCase *t = tcase_create("file");
    tcase_set_timeout(t, 300);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, goldens_round_trip);
    tcase_add_test(t, stripping_removes_locations_only);
    tcase_add_test(t, sections_that_may_be_skipped);
    tcase_add_test(t, extra_sections);
    tcase_add_test(t, weights_are_copied_or_borrowed);
    tcase_add_test(t, contents_of_weights);
    tcase_add_test(t, large_weights_cost_their_size);
    tcase_add_test(t, memory_is_bounded);
    tcase_add_test(t, only_valid_modules_are_saved);
    tcase_add_test(t, what_is_unknown_is_named);
    tcase_add_test(t, versions_are_named);
    tcase_add_test(t, fields_that_may_be_skipped);
    tcase_add_test(t, sections_once_and_all);
    tcase_add_test(t, truncation_at_every_byte);
    tcase_add_test(t, every_bit_flipped);
    tcase_add_test(t, every_bit_flipped_and_sealed);
    tcase_add_test(t, extreme_numbers);
    tcase_add_test(t, random_damage_sealed);
    tcase_add_test(t, failing_allocations);
    suite_add_tcase(s, t);
    return suite_run(s);
}
