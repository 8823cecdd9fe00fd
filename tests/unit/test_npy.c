/* test_npy.c - .npy files: what numpy writes, what it reads, and what a hostile file may try. */
#include "eager.h"
#include <unistd.h>

static const ig_dtype all_types[] = {
#define DT(name, code, bytes, kind, ctype) IG_##name,
#include "ingot/dtypes.def"
#undef DT
};
#define NTYPES (sizeof all_types / sizeof *all_types)

/* A file from its dictionary and elements, as numpy would pad it. */
static size_t npy_build(char *out, int version, const char *dict, const void *data, size_t n) {
    size_t lead = version == 1 ? 10 : 12, length = strlen(dict) + 1;
    while ((lead + length) % 64) length++;
    memset(out, ' ', lead + length);
    memcpy(out, "\x93NUMPY", 6);
    out[6] = (char)version;
    out[7] = 0;
    for (size_t i = 8; i < lead; i++) out[i] = (char)(length >> 8 * (i - 8));
    memcpy(out + lead, dict, strlen(dict));
    out[lead + length - 1] = '\n';
    memcpy(out + lead + length, data, n);
    return lead + length + n;
}

START_TEST(round_trip) {
    ig_dims dims[] = {IG_SCALAR, IG_DIMS(7), IG_DIMS(2, 3), IG_DIMS(2, 0, 3),
                      IG_DIMS(1, 2, 1, 2, 1, 2, 1, 2)};
    for (size_t d = 0; d < NTYPES; d++)
        for (size_t k = 0; k < sizeof dims / sizeof *dims; k++) IG_SCOPE {
                int64_t n = 1;
                for (int i = 0; i < dims[k].n; i++) n *= dims[k].d[i];
                ig_tensor *t =
                    ig_reshape(ig_cast(ig_arange(IG_f64, -2, n - 2, 1), all_types[d]), dims[k]);
                char *bytes;
                size_t size;
                OK(ig_npy_write(t, &bytes, &size));
                ck_assert_uint_eq((size - ig_nbytes(t)) % 64, 0);
                ck_assert_msg(ig_equal(ig_npy_read(bytes, size), t), "%s: %s",
                              ig_dtype_name(all_types[d]), ig_error_text());
                ig_text_free(bytes);
            }
    eager_end();
}
END_TEST

START_TEST(files) {
    char path[] = "/tmp/ingot-npy-XXXXXX";
    int fd = mkstemp(path);
    ck_assert(fd >= 0);
    close(fd);
    ig_tensor *t = TENSOR(IG_f32, IG_DIMS(2, 2), 1, 2, (double)NAN, 4);
    OK(ig_npy_save(t, path));
    ck_assert(ig_equal(ig_npy_load(path), t));
    unlink(path);
    ck_assert(ig_is_poison(ig_npy_load(path)));
    WANT_ERROR(IG_IO, "npy_load", path);
    WANT_STATUS(ig_npy_save(t, "/nonexistent/x.npy"), IG_IO, "/nonexistent/x.npy");
    ck_assert(ig_is_poison(ig_npy_load("tests")));
    WANT_ERROR(IG_IO, "tests");
    ig_tensor *digits = ig_npy_load("examples/data/digits_images.npy");
    ck_assert_msg(ig_rank(digits) >= 2, "%s", ig_error_text());
    eager_end();
}
END_TEST

/* The exact bytes numpy 1.26 writes for np.save(np.arange(3, dtype='<i2')). */
START_TEST(numpy_bytes) {
    static const char head[] = "{'descr': '<i2', 'fortran_order': False, 'shape': (3,), }";
    char file[256], *bytes;
    int16_t x[3] = {0, 1, 2};
    size_t n = npy_build(file, 1, head, x, sizeof x), size;
    ck_assert_uint_eq(n, 134);
    OK(ig_npy_write(ig_arange(IG_i16, 0, 3, 1), &bytes, &size));
    ck_assert_uint_eq(size, n);
    ck_assert(!memcmp(bytes, file, n));
    ig_text_free(bytes);
    eager_end();
}
END_TEST

START_TEST(variants) {
    char file[512];
    size_t n;
    float x[6] = {1, 2, 3, 4, 5, 6};
    for (int version = 1; version <= 3; version++) {
        n = npy_build(file, version, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }",
                      x, sizeof x);
        WANT(ig_npy_read(file, n), IG_f32, IG_DIMS(2, 3), 1, 3, 5, 2, 4, 6);
    }
    uint8_t big[8] = {0x3f, 0x80, 0, 0, 0xc0, 0, 0, 0};
    n = npy_build(file, 1, "{\"shape\":(2,),\"descr\":\">f4\",\"fortran_order\":False}", big, 8);
    WANT(ig_npy_read(file, n), IG_f32, IG_DIMS(2), 1, -2);
    n = npy_build(file, 1, "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 2)}",
                  "\0\1\0\2\0\3\0\4", 8);
    WANT(ig_npy_read(file, n), IG_i16, IG_DIMS(2, 2), 1, 3, 2, 4);
    n = npy_build(file, 1, "{'descr': '|b1', 'fortran_order': False, 'shape': ()}", "\7", 1);
    WANT(ig_npy_read(file, n), IG_bool, IG_SCALAR, 1);
    eager_end();
}
END_TEST

START_TEST(refused) {
    static const struct {
        const char *dict;
        size_t n;
        const char *why;
    } bad[] = {
        {"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", 8, "pickled"},
        {"{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", 8, "counterpart"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", 4, "structured"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 4)}", 4, "bytes"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", 4, "range"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", 0, "bytes"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", 4, "number"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}", 4, "axes"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 4, "bytes"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", 5, "bytes"},
        {"{'descr': '<f4', 'fortran_order': 1, 'shape': (1,)}", 4, "fortran_order"},
        {"{'descr': '<f4', 'shape': (1,)}", 4, "lacks"},
        {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", 4, "repeated"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x", 4, "after"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'extra': 1}", 4, "unknown"},
        {"{'descr': '<f\\x34', 'fortran_order': False, 'shape': (1,)}", 4, "structured"},
        {"('descr')", 4, "dictionary"},
        {"", 4, "dictionary"},
    };
    char file[1024];
    char data[8] = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        size_t n = npy_build(file, 1, bad[i].dict, data, bad[i].n);
        ck_assert_msg(ig_is_poison(ig_npy_read(file, n)), "%s", bad[i].dict);
        ck_assert_msg(strstr(ig_error_text(), bad[i].why) != NULL, "%s: %s", bad[i].dict,
                      ig_error_text());
        WANT_ERROR(IG_FORMAT, "npy_read");
    }
    eager_end();
}
END_TEST

/* --- Damage -------------------------------------------------------------------------------- */

typedef struct counted {
    size_t live, peak;
} counted;

static void *counted_resize(void *user, void *p, size_t old_size, size_t new_size, size_t align) {
    counted *c = user;
    const ig_allocator *libc = ig_allocator_default();
    void *q = libc->resize(libc->user, p, old_size, new_size, align);
    if (new_size && !q) return NULL;
    c->live += new_size - (p ? old_size : 0);
    if (c->live > c->peak) c->peak = c->live;
    return q;
}

/* Truncation at every byte, every bit flipped: an error or a tensor, and never more than 4 times
 * the file. */
START_TEST(damage) {
    counted c = {0};
    ig_allocator a = {counted_resize, &c};
    ig_session *s;
    OK(ig_session_new(&(ig_session_options){.alloc = &a}, &s));
    ig_session_use(s);
    char file[1024];
    float x[64] = {1};
    size_t n = npy_build(file, 1, "{'descr': '>f4', 'fortran_order': True, 'shape': (8, 8), }", x,
                         sizeof x),
           read = 0;
    size_t idle = c.live;
    for (size_t k = 0; k < n; k++) {
        char *cut = malloc(k + 1); /* exactly so large: a read beyond it is seen */
        memcpy(cut, file, k);
        ck_assert(ig_is_poison(ig_npy_read(cut, k)));
        ig_error_clear();
        free(cut);
    }
    for (size_t bit = 0; bit < 8 * n; bit++) IG_SCOPE {
            file[bit / 8] = (char)(file[bit / 8] ^ 1 << bit % 8);
            c.peak = c.live;
            read += !ig_is_poison(ig_npy_read(file, n));
            ck_assert_msg(c.peak - idle <= 4 * n, "bit %zu: %zu bytes", bit, c.peak - idle);
            ig_error_clear();
            file[bit / 8] = (char)(file[bit / 8] ^ 1 << bit % 8);
        }
    ck_assert(read >= 8 * sizeof x); /* damaged elements are still elements */
    ig_session_free(s);
    ck_assert_uint_eq(c.live, 0);
}
END_TEST

int main(void) {
    Suite *s = suite_create("npy");
    TCase *t = tcase_create("npy");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, round_trip);
    tcase_add_test(t, files);
    tcase_add_test(t, numpy_bytes);
    tcase_add_test(t, variants);
    tcase_add_test(t, refused);
    tcase_add_test(t, damage);
    suite_add_tcase(s, t);
    return eager_main(s);
}
