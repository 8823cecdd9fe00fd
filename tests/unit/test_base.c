/* test_base.c - runtime/base: allocation, arenas, vectors, strings, hashes, status, the container.
 */
#include "runtime/base/arena.h"
#include "runtime/base/container.h"
#include "runtime/base/hash.h"
#include "runtime/base/str.h"
#include "runtime/base/vec.h"
#include "tests/unit/suite.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const ig_allocator *A(void) { return ig_allocator_default(); }

START_TEST(numel_is_checked) {
    int64_t n;
    ck_assert(rt_numel_checked((int64_t[]){2, 3, 5}, 3, &n) && n == 30);
    ck_assert(rt_numel_checked(NULL, 0, &n) && n == 1);
    ck_assert(rt_numel_checked((int64_t[]){INT64_MAX, 0, INT64_MAX}, 3, &n) && n == 0);
    ck_assert(!rt_numel_checked((int64_t[]){INT64_MAX, 2}, 2, &n));
    ck_assert(!rt_numel_checked((int64_t[]){3, -1}, 2, &n));
}
END_TEST

START_TEST(buffers_are_aligned) {
    for (size_t n = 1; n < 5000; n = n * 3 + 1) {
        void *p = rt_alloc_buffer(A(), n);
        ck_assert_uint_eq((uintptr_t)p % RT_ALIGN_BUFFER, 0);
        memset(p, 1, n);
        rt_free_buffer(A(), p, n);
    }
}
END_TEST

START_TEST(arena_keeps_what_it_gave) {
    rt_arena a;
    rt_arena_init(&a, A());
    char *p[300];
    for (int i = 0; i < 300; i++) {
        p[i] = rt_arena_alloc(&a, (size_t)i * 37);
        ck_assert_uint_eq((uintptr_t)p[i] % 16, 0);
        memset(p[i], i & 127, (size_t)i * 37);
    }
    for (int i = 0; i < 300; i++)
        for (int k = 0; k < i * 37; k++)
            if (p[i][k] != (i & 127)) ck_abort_msg("block %d was overwritten at %d", i, k);
    ck_assert_ptr_null(rt_arena_alloc(&a, SIZE_MAX - 3));
    rt_arena_free(&a);
}
END_TEST

START_TEST(vec_grows) {
    RT_VEC(uint64_t) v = {0};
    for (uint64_t i = 0; i < 1000; i++) ck_assert(rt_vec_push(A(), &v, i * i));
    for (uint64_t i = 0; i < 1000; i++) ck_assert_uint_eq(v.data[i], i * i);
    rt_vec_free(A(), &v);
    ck_assert_ptr_null(v.data);
}
END_TEST

/* Every float must read back as itself from the shortest text that does. */
START_TEST(floats_print_shortest) {
    rt_str s;
    rt_str_init(&s, A());
    static const struct {
        float x;
        const char *text;
    } cases[] = {{0.1f, "0.1"},
                 {1.0f, "1.0"},
                 {-0.0f, "-0.0"},
                 {16777216.0f, "16777216.0"},
                 {1e10f, "1e+10"},
                 {INFINITY, "inf"},
                 {-INFINITY, "-inf"},
                 {1e-45f, "1e-45"},
                 {3.4028235e38f, "3.4028235e+38"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        s.n = 0;
        rt_str_f32(&s, cases[i].x);
        ck_assert_str_eq(rt_str_text(&s), cases[i].text);
    }
    uint32_t bits = 1;
    for (int i = 0; i < 20000; i++, bits = bits * 1664525u + 1013904223u) {
        float x;
        memcpy(&x, &bits, 4);
        if (isnan(x)) continue;
        s.n = 0;
        rt_str_f32(&s, x);
        float y = strtof(rt_str_text(&s), NULL);
        ck_assert(!memcmp(&x, &y, 4));
    }
    rt_str_free(&s);
}
END_TEST

START_TEST(hash_is_fixed) { /* files depend on these values */
    ck_assert_uint_eq(rt_hash("", 0, 0), rt_hash("x", 0, 0));
    ck_assert(rt_hash("abc", 3, 0) != rt_hash("abd", 3, 0));
    ck_assert(rt_hash("a", 1, 0) != rt_hash("a\0", 2, 0));
    ck_assert_uint_eq(rt_hash("ingot", 5, 0), 0x5f4ea211af2b238du);
}
END_TEST

START_TEST(status_reports) {
    ck_assert_str_eq(ig_status_text(NULL), "ok");
    ig_status s = rt_fail(A(), IG_SHAPE, "dims differ: %d != %d", 3, 4);
    s = rt_status_op(s, "add");
    s = rt_status_at(s, "mlp.c", 12);
    s = rt_status_at(s, "other.c", 99); /* the first place stays */
    ck_assert_str_eq(ig_status_text(s), "mlp.c:12: add: dims differ: 3 != 4");
    s = rt_status_note(s, "while tracing %s", "predict");
    ck_assert_str_eq(ig_status_text(s),
                     "mlp.c:12: add: dims differ: 3 != 4\n  while tracing predict");
    ck_assert_int_eq(ig_status_code(s), IG_SHAPE);
    ig_status_free(s);
    ck_assert_int_eq(ig_status_code(rt_fail_memory()), IG_MEMORY);
    ig_status_free(rt_fail_memory());
}
END_TEST

static rt_str container_sample(void) {
    rt_section in[2] = {
        {.tag = {'A', 'A', 'A', 'A'}, .data = (const uint8_t *)"hello", .size = 5},
        {.tag = {'B', 'B', 'B', 'B'}, .flags = 1, .data = (const uint8_t *)"", .size = 0}};
    rt_str file;
    rt_str_init(&file, A());
    ck_assert_ptr_null(rt_container_write(A(), in, 2, &file));
    return file;
}

START_TEST(container_reads_back) {
    rt_str file = container_sample();
    rt_container c;
    ck_assert_ptr_null(rt_container_read(A(), file.data, file.n, &c));
    const rt_section *a = rt_container_find(&c, "AAAA", 0);
    ck_assert(a && a->size == 5 && !memcmp(a->data, "hello", 5));
    ck_assert_ptr_nonnull(rt_container_find(&c, "BBBB", 0));
    ck_assert_ptr_null(rt_container_find(&c, "BBBB", 1));
    rt_str_free(&file);
}
END_TEST

/* Every truncation and every flipped bit is noticed (padding between sections carries no meaning).
 */
START_TEST(container_notices_damage) {
    rt_str file = container_sample();
    rt_container c;
    for (size_t n = 0; n < file.n; n++) {
        ig_status s = rt_container_read(A(), file.data, n, &c);
        ck_assert_int_eq(ig_status_code(s), IG_FORMAT);
        ig_status_free(s);
    }
    for (size_t bit = 0; bit < 8 * 128; bit++) { /* header and table */
        file.data[bit / 8] ^= (char)(1 << bit % 8);
        ig_status s = rt_container_read(A(), file.data, file.n, &c);
        ck_assert_msg(s != NULL, "flip of bit %zu went unnoticed", bit);
        ig_status_free(s);
        file.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    rt_str_free(&file);
}
END_TEST

int main(void) {
    Suite *s = suite_create("base");
    TCase *t = tcase_create("base");
    tcase_add_test(t, numel_is_checked);
    tcase_add_test(t, buffers_are_aligned);
    tcase_add_test(t, arena_keeps_what_it_gave);
    tcase_add_test(t, vec_grows);
    tcase_add_test(t, floats_print_shortest);
    tcase_add_test(t, hash_is_fixed);
    tcase_add_test(t, status_reports);
    tcase_add_test(t, container_reads_back);
    tcase_add_test(t, container_notices_damage);
    suite_add_tcase(s, t);
    return suite_run(s);
}
