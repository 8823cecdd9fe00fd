/* vec.c - growth of RT_VEC arrays: by an eighth, so that little memory is idle. */
#include "runtime/base/vec.h"
#include <string.h>

#define VEC_FIRST 8u

bool rt_vec_grow(const ig_allocator *a, void *data_, uint32_t *cap, uint32_t need, size_t elem) {
    void *old;
    memcpy(&old, data_, sizeof old); /* the caller's T *, whatever T is */
    uint32_t want = *cap < UINT32_MAX / 2 ? *cap + *cap / 8 + VEC_FIRST : UINT32_MAX;
    if (want < need || !*cap) want = need > VEC_FIRST ? need : VEC_FIRST;
    size_t size;
    if (!rt_mul_size(want, elem, &size)) return false;
    void *p = rt_resize(a, old, (size_t)*cap * elem, size);
    if (!p) return false;
    memcpy(data_, &p, sizeof p);
    *cap = want;
    return true;
}

void rt_vec_fit(const ig_allocator *a, void *data_, uint32_t *cap, uint32_t n, size_t elem) {
    void *old;
    memcpy(&old, data_, sizeof old);
    if (n == *cap) return;
    void *p = n ? rt_resize(a, old, (size_t)*cap * elem, (size_t)n * elem) : NULL;
    if (n && !p) return; /* it stays as large as it is */
    if (!n) rt_free(a, old, (size_t)*cap * elem);
    memcpy(data_, &p, sizeof p);
    *cap = n;
}
