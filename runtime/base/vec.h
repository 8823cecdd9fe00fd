/* vec.h - a growing array.  RT_VEC(T) v = {0};  rt_vec_push(alloc, &v, x) is false when memory is
 * out. */
#ifndef RT_VEC_H
#define RT_VEC_H
#include "runtime/base/alloc.h"

#define RT_VEC(T)        \
    struct {             \
        T *data;         \
        uint32_t n, cap; \
    }

bool rt_vec_grow(const ig_allocator *a, void *data_, uint32_t *cap, uint32_t need, size_t elem);
void rt_vec_fit(const ig_allocator *a, void *data_, uint32_t *cap, uint32_t n, size_t elem);

#define rt_vec_reserve(a, v, need) \
    ((need) <= (v)->cap || rt_vec_grow((a), &(v)->data, &(v)->cap, (need), sizeof *(v)->data))
/* Give back what is not used; a vector that is complete need not be larger. */
#define rt_vec_trim(a, v) rt_vec_fit((a), &(v)->data, &(v)->cap, (v)->n, sizeof *(v)->data)
#define rt_vec_push(a, v, x) \
    (rt_vec_reserve((a), (v), (v)->n + 1) && ((v)->data[(v)->n++] = (x), true))
#define rt_vec_free(a, v)                                                             \
    (rt_free((a), (v)->data, (size_t)(v)->cap * sizeof *(v)->data), (v)->data = NULL, \
     (v)->n = (v)->cap = 0)
#endif
