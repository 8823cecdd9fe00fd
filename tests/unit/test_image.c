/* test_image.c - the image loader: what it maps, and that it refuses everything malformed.
 * Images are made here by hand, so no compiler is needed. */
#include "runtime/image.h"
#include "tests/unit/suite.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PAGE RT_IMAGE_PAGE

static const ig_allocator *A;

static void ok(ig_status s) { ck_assert_msg(!s, "%s", ig_status_text(s)); }

/* --- An image with two functions: `seven` gives 7, `word` loads from the data, one page before
 * the text --- */

#if defined(__aarch64__)
static const uint8_t code_seven[] = {0xe0, 0x00, 0x80, 0x52,
                                     0xc0, 0x03, 0x5f, 0xd6}; /* mov w0, 7; ret */
/* adrp x0, -1 page; ldr w0, [x0, 16]; ret */
static const uint8_t code_word[] = {0xe0, 0xff, 0xff, 0xf0, 0x00, 0x10,
                                    0x40, 0xb9, 0xc0, 0x03, 0x5f, 0xd6};
#else
static const uint8_t code_seven[] = {0xb8, 7, 0, 0, 0, 0xc3}; /* mov eax, 7; ret */
/* mov eax, [rip + 16 - PAGE - 16 - 6]; ret */
static const uint8_t code_word[] = {0x8b, 0x05, 0xfa, 0xef, 0xff, 0xff, 0xc3};
#endif

typedef struct builder {
    uint8_t bytes[3 * PAGE];
    size_t n;
    rt_image_header *head;
    rt_image_symbol *sym;
} builder;

static void seal(builder *b) { b->head->hash = rt_image_hash(b->bytes, b->n); }

static builder *make(void) {
    static builder b __attribute__((aligned(16)));
    memset(&b, 0, sizeof b);
    b.head = (rt_image_header *)b.bytes;
    b.sym = (rt_image_symbol *)(b.bytes + sizeof *b.head);
    b.n = 2 * PAGE + 64;
    *b.head = (rt_image_header){.magic = RT_IMAGE_MAGIC,
                                .version = RT_IMAGE_VERSION,
                                .arch = rt_cpu_arch(),
                                .level = "test",
                                .features = 0,
                                .size = b.n,
                                .sym_off = sizeof *b.head,
                                .data_off = PAGE,
                                .data_size = 20,
                                .text_off = 2 * PAGE,
                                .text_size = 64,
                                .nsym = 2};
    b.head->str_off = sizeof *b.head + 2 * sizeof *b.sym;
    memcpy(b.bytes + b.head->str_off, "seven\0word", b.head->str_size = 11);
    b.sym[0] = (rt_image_symbol){.off = 0, .size = sizeof code_seven, .name = 0};
    b.sym[1] = (rt_image_symbol){.off = 16, .size = sizeof code_word, .name = 6};
    memcpy(b.bytes + PAGE + 16, "\x39\x30\0\0", 4);
    memcpy(b.bytes + 2 * PAGE, code_seven, sizeof code_seven);
    memcpy(b.bytes + 2 * PAGE + 16, code_word, sizeof code_word);
    seal(&b);
    return &b;
}

typedef int (*function)(void);
static function find(const rt_image *img, const char *name) {
    function f;
    *(void **)&f = rt_image_find(img, name);
    return f;
}

static void check_runs(void) {
    builder *b = make();
    rt_image *img;
    ok(rt_image_load(A, b->bytes, b->n, &img));
    memset(b->bytes, 0xff, b->n); /* copied */
    ck_assert_int_eq(find(img, "seven")(), 7);
    ck_assert_int_eq(find(img, "word")(), 12345);
    ck_assert_ptr_null(rt_image_find(img, "eight"));
    ck_assert_ptr_null(rt_image_find(img, ""));
    ck_assert_str_eq(rt_image_level(img), "test");
    rt_image_free(img);
}

START_TEST(runs) {
    check_runs();
    rt_image_free(NULL);
}
END_TEST

/* The same with the process forbidden to make memory executable (Linux 6.3's PR_SET_MDWE). */
START_TEST(runs_under_mdwe) {
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif
    if (prctl(PR_SET_MDWE, 1, 0, 0, 0))
        printf("image: this kernel has no PR_SET_MDWE, 1 skipped\n");
    check_runs();
}
END_TEST

START_TEST(many) {
    rt_image *img[64];
    builder *b = make();
    for (int i = 0; i < 64; i++) ok(rt_image_load(A, b->bytes, b->n, &img[i]));
    for (int i = 0; i < 64; i += 2) rt_image_free(img[i]);
    for (int i = 1; i < 64; i += 2) ck_assert_int_eq(find(img[i], "seven")(), 7);
    for (int i = 63; i > 0; i -= 2) rt_image_free(img[i]);
}
END_TEST

/* An image without code, without symbols. */
START_TEST(empty) {
    builder *b = make();
    b->head->nsym = 0;
    b->head->text_size = b->head->data_size = b->head->str_size = 0;
    b->n = b->head->size = 2 * PAGE;
    seal(b);
    rt_image *img;
    ok(rt_image_load(A, b->bytes, b->n, &img));
    ck_assert_ptr_null(rt_image_find(img, "seven"));
    rt_image_free(img);
}
END_TEST

/* --- Refusals --- */

static void refused(const void *bytes, size_t n, ig_code code) {
    rt_image *img = (rt_image *)1;
    ig_status s = rt_image_load(A, bytes, n, &img);
    ck_assert_msg(ig_status_code(s) == code, "%s", ig_status_text(s));
    ck_assert_ptr_null(img);
    ig_status_free(s);
}

START_TEST(truncated) {
    builder *b = make();
    refused(NULL, 0, IG_FORMAT);
    for (size_t n = 0; n < b->n; n++) {
        uint8_t *part = malloc(n ? n : 1);
        memcpy(part, b->bytes, n);
        refused(part, n, IG_FORMAT);
        free(part);
    }
    refused(b->bytes, b->n + 1, IG_FORMAT);
}
END_TEST

/* Any single flipped bit is refused. */
START_TEST(flipped) {
    builder *b = make();
    for (size_t i = 0; i < b->n; i++)
        for (int bit = 0; bit < 8; bit++) {
            b->bytes[i] ^= (uint8_t)(1u << bit);
            rt_image *img;
            ig_status s = rt_image_load(A, b->bytes, b->n, &img);
            ck_assert_msg(s, "byte %zu, bit %d", i, bit);
            ck_assert_ptr_null(img);
            ig_status_free(s);
            b->bytes[i] ^= (uint8_t)(1u << bit);
        }
    check_runs();
}
END_TEST

/* A forged hash: every field of header and symbols set to values at and past the edges. */
START_TEST(forged) {
    static const uint64_t edge[] = {0,
                                    1,
                                    7,
                                    8,
                                    63,
                                    64,
                                    111,
                                    112,
                                    127,
                                    128,
                                    PAGE - 1,
                                    PAGE,
                                    PAGE + 1,
                                    2 * PAGE,
                                    2 * PAGE + 1,
                                    2 * PAGE + 64,
                                    3 * PAGE,
                                    UINT32_MAX,
                                    UINT64_C(1) << 32,
                                    INT64_MAX,
                                    UINT64_C(1) << 63,
                                    UINT64_MAX - PAGE + 1,
                                    UINT64_MAX - 7,
                                    UINT64_MAX};
    size_t end = sizeof(rt_image_header) + 2 * sizeof(rt_image_symbol);
    for (size_t at = 8; at + 4 <= end; at += 4)
        for (size_t k = 0; k < sizeof edge / sizeof *edge; k++)
            for (size_t width = 4; width <= 8; width += 4) {
                builder *b = make();
                if (at + width > end) continue;
                memcpy(b->bytes + at, &edge[k], width);
                if (at + width <= offsetof(rt_image_header, hash) || at >= sizeof *b->head) seal(b);
                rt_image *img;
                ig_status s = rt_image_load(A, b->bytes, b->n, &img);
                if (!s) {
                    const char *p = rt_image_find(img, "seven"), *q = rt_image_find(img, "word");
                    if (p && q) ck_assert_int_le(labs((long)(q - p)), 64);
                    rt_image_free(img);
                }
                ig_status_free(s);
            }
}
END_TEST

START_TEST(wrong_machine) {
    builder *b = make();
    b->head->arch = RT_ARCH_X86_64 + RT_ARCH_AARCH64 - rt_cpu_arch();
    seal(b);
    refused(b->bytes, b->n, IG_UNSUPPORTED);
    b = make();
    b->head->features = UINT64_C(1) << 40;
    seal(b);
    refused(b->bytes, b->n, IG_UNSUPPORTED);
    b = make();
    b->head->version++;
    seal(b);
    refused(b->bytes, b->n, IG_UNSUPPORTED);
    if (rt_cpu_arch() == RT_ARCH_X86_64) {
        b = make();
        b->head->features = RT_CPU_AARCH64;
        seal(b);
        refused(b->bytes, b->n, IG_UNSUPPORTED);
    }
    b = make();
    b->head->features = rt_cpu_features();
    seal(b);
    rt_image *img;
    ok(rt_image_load(A, b->bytes, b->n, &img));
    rt_image_free(img);
}
END_TEST

/* --- Memory --- */

static int left, live;
static void *limited_resize(void *user, void *p, size_t old, size_t new, size_t align) {
    (void)user;
    if (new &&left-- <= 0) return NULL;
    live += !p - !new;
    return A->resize(A->user, p, old, new, align);
}

START_TEST(no_memory) {
    const ig_allocator limited = {limited_resize, NULL};
    builder *b = make();
    rt_image *img = NULL;
    for (left = 0; !img;) {
        int try = left;
        ig_status s = rt_image_load(&limited, b->bytes, b->n, &img);
        if (s) ck_assert_int_eq(ig_status_code(s), IG_MEMORY);
        ck_assert(!s == !!img);
        left = try + 1;
        ck_assert_int_lt(left, 100);
    }
    ck_assert_int_eq(find(img, "seven")(), 7);
    rt_image_free(img);
    ck_assert_int_eq(live, 0);
}
END_TEST

/* --- perf --- */

START_TEST(perf_map) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/tmp/perf-%ld.map", (long)getpid());
    setenv("IG_PERF", "1", 1);
    builder *b = make();
    rt_image *img;
    ok(rt_image_load(A, b->bytes, b->n, &img));
    unsetenv("IG_PERF");
    FILE *f = fopen(path, "r");
    ck_assert(f);
    int found = 0;
    while (fgets(line, sizeof line, f)) {
        unsigned long long at, size;
        char name[64];
        ck_assert_int_eq(sscanf(line, "%llx %llx %63s", &at, &size, name), 3);
        ck_assert_ptr_eq((void *)(uintptr_t)at, rt_image_find(img, name));
        found++;
    }
    ck_assert_int_eq(found, 2);
    fclose(f);
    unlink(path);
    rt_image_free(img);
}
END_TEST

int main(void) {
    A = ig_allocator_default();
    Suite *suite = suite_create("image");
    TCase *t = tcase_create("image");
    tcase_set_timeout(t, 120);
    if (!rt_cpu_arch()) {
        printf("image: no code for this machine, 1 skipped\n");
        return 0;
    }
    tcase_add_test(t, runs);
    tcase_add_test(t, runs_under_mdwe);
    tcase_add_test(t, many);
    tcase_add_test(t, empty);
    tcase_add_test(t, truncated);
    tcase_add_test(t, flipped);
    tcase_add_test(t, forged);
    tcase_add_test(t, wrong_machine);
    tcase_add_test(t, no_memory);
    tcase_add_test(t, perf_map);
    suite_add_tcase(suite, t);
    return suite_run(suite);
}
