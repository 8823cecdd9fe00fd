/* hostile.h - for the tests of readers: the bound of their memory, the golden texts,
 * and random damage. */
#ifndef TESTS_HOSTILE_H
#define TESTS_HOSTILE_H
#include "ir/ir.h"
#include "runtime/base/container.h"
#include "tests/unit/suite.h"
#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- Memory ----------------------------------------------------------------------------------- */

/* A reader of n bytes kept to its bound (docs/format.md, docs/ir-text.md). */
static inline void hostile_check_peak(const char *what, size_t n, size_t peak) {
    ck_assert_msg(peak <= 4 * n + (256u << 10), "%s: %zu bytes need %zu", what, n, peak);
}

/* The same, said aloud; refused: whether the reader said that the bound would not do. */
static inline void hostile_tell_peak(const char *what, size_t n, size_t peak, bool refused) {
    printf("  %8zu bytes, %5.2f bytes of memory for each%s: %.50s\n", n, (double)peak / (double)n,
           refused ? ", refused" : "", what);
    hostile_check_peak(what, n, peak);
}

/* Whether an error says that reading would take too much memory. */
static inline bool hostile_is_refusal(ig_status s) {
    return s && ig_status_code(s) == IG_UNSUPPORTED && strstr(ig_status_text(s), "bytes of memory");
}

/* --- Random ----------------------------------------------------------------------------------- */

static inline uint64_t hostile_random(uint64_t *state) { /* xorshift64 */
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Fewer rounds where everything is slow. */
static inline long hostile_rounds(long n) { return getenv("IG_TEST_QUICK") ? n / 10 : n; }

/* --- Golden texts ----------------------------------------------------------------------------- */

#define HOSTILE_MAX 256
typedef struct hostile_text {
    char name[256];
    char *text;
    size_t n;
} hostile_text;
static hostile_text hostile_tab[HOSTILE_MAX];
static int hostile_n;

static inline int hostile_is_ir(const struct dirent *e) {
    const char *dot = strrchr(e->d_name, '.');
    return dot && !strcmp(dot, ".ir");
}

/* Read the inputs of all golden files of a kind that are not about errors. */
static inline void hostile_read(const char *kind) {
    char path[600];
    struct dirent **list;
    snprintf(path, sizeof path, "tests/ir/%s", kind);
    int n = scandir(path, &list, hostile_is_ir, alphasort);
    ck_assert_msg(n > 0, "no golden text under %s: run from the root of the repository", path);
    for (int i = 0; i < n; i++) {
        void *bytes;
        size_t size;
        snprintf(path, sizeof path, "tests/ir/%s/%s", kind, list[i]->d_name);
        if (strncmp(list[i]->d_name, "error_", 6) && hostile_n < HOSTILE_MAX) {
            ck_assert_ptr_null(rt_file_read(ig_allocator_default(), path, 1 << 24, &bytes, &size));
            hostile_text *t = &hostile_tab[hostile_n++];
            snprintf(t->name, sizeof t->name, "%s", list[i]->d_name);
            t->text = malloc(size + 1);
            memcpy(t->text, bytes, size);
            t->text[size] = 0;
            char *mark = strstr(t->text, "\n; ---\n");
            t->n = mark ? (size_t)(mark - t->text) : size;
            rt_free(ig_allocator_default(), bytes, size);
        }
        free(list[i]);
    }
    free(list);
}

static inline void hostile_free(void) {
    while (hostile_n) free(hostile_tab[--hostile_n].text);
}

#endif
