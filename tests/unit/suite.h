/* suite.h - what every unit test needs: running its suite, and an allocator that counts and
 * fails. */
#ifndef TESTS_SUITE_H
#define TESTS_SUITE_H
#include "ingot/base.h"
#include <check.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>

/* Run all cases of a suite; main's result. */
static inline int suite_run(Suite *s) {
    SRunner *r = srunner_create(s);
    setenv("IG_CACHE", "0", 0); /* what is tested is compiled, and no user's folder is touched */
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}

/* An allocator that counts the bytes alive, and fails from request `fail` on, or that one only. */
typedef struct counting {
    long at, fail;
    bool once;
    size_t live, peak;
} counting;

static inline void *counting_resize(void *user, void *p, size_t old_size, size_t new_size,
                                    size_t align) {
    counting *c = user;
    const ig_allocator *libc = ig_allocator_default();
    long at = new_size ? c->at++ : -1;
    if (c->once ? at == c->fail : at >= c->fail) return NULL;
    void *q = libc->resize(libc->user, p, old_size, new_size, align);
    if (new_size && !q) return NULL;
    c->live += new_size - (p ? old_size : 0);
    if (c->live > c->peak) c->peak = c->live;
    return q;
}
#define COUNTING(limit) \
    (counting) { .fail = (limit) }
#endif
