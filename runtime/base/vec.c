/* vec.c - growth of RT_VEC arrays. */
#include "runtime/base/vec.h"
#include <string.h>

#define VEC_FIRST 8u

bool rt_vec_grow(const ig_allocator *a, void *data_, uint32_t *cap, uint32_t need, size_t elem) {
    void *old;
    memcpy(&old, data_, sizeof old); /* the caller's T *, whatever T is */
    uint32_t want = *cap ? *cap : VEC_FIRST;
    while (want < need)
        if (__builtin_mul_overflow(want, 2u, &want)) want = need;
    size_t size;
    if (!rt_mul_size(want, elem, &size)) return false;
    void *p = rt_resize(a, old, (size_t)*cap * elem, size);
    if (!p) return false;
    memcpy(data_, &p, sizeof p);
    *cap = want;
    return true;
}
