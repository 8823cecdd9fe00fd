/* alloc.c - the allocator interface and checked size arithmetic. */
#include "runtime/base/alloc.h"
#include <stdlib.h>
#include <string.h>

#define ALLOC_ALIGN 16

/* The C library behind the interface; blocks above malloc's alignment are moved by hand. */
static void *alloc_libc(void *user, void *ptr, size_t old_size, size_t new_size, size_t align) {
    (void)user;
    if (!new_size) {
        free(ptr);
        return NULL;
    }
    if (align <= ALLOC_ALIGN) return realloc(ptr, new_size);
    if (new_size > SIZE_MAX - align) return NULL;
    void *p = aligned_alloc(align, (new_size + align - 1) / align * align);
    if (p && ptr) {
        memcpy(p, ptr, old_size < new_size ? old_size : new_size);
        free(ptr);
    }
    return p;
}

const ig_allocator *ig_allocator_default(void) {
    static const ig_allocator libc_allocator = {alloc_libc, NULL};
    return &libc_allocator;
}

void *rt_alloc(const ig_allocator *a, size_t size) {
    return size ? a->resize(a->user, NULL, 0, size, ALLOC_ALIGN) : NULL;
}

void *rt_alloc_zero(const ig_allocator *a, size_t size) {
    void *p = rt_alloc(a, size);
    return p ? memset(p, 0, size) : NULL;
}

void *rt_resize(const ig_allocator *a, void *p, size_t old_size, size_t new_size) {
    return a->resize(a->user, p, old_size, new_size, ALLOC_ALIGN);
}

void rt_free(const ig_allocator *a, void *p, size_t size) {
    if (p) a->resize(a->user, p, size, 0, ALLOC_ALIGN);
}

void *rt_alloc_buffer(const ig_allocator *a, size_t size) {
    return size ? a->resize(a->user, NULL, 0, size, RT_ALIGN_BUFFER) : NULL;
}

void rt_free_buffer(const ig_allocator *a, void *p, size_t size) {
    if (p) a->resize(a->user, p, size, 0, RT_ALIGN_BUFFER);
}

bool rt_mul_size(size_t x, size_t y, size_t *out_) { return !__builtin_mul_overflow(x, y, out_); }
bool rt_add_size(size_t x, size_t y, size_t *out_) { return !__builtin_add_overflow(x, y, out_); }

bool rt_numel_checked(const int64_t *dims, int rank, int64_t *out_) {
    int64_t n = 1;
    bool empty = false, fits = true;
    for (int i = 0; i < rank; i++) {
        if (dims[i] < 0) return false;
        if (dims[i] == 0)
            empty = true;
        else if (__builtin_mul_overflow(n, dims[i], &n))
            fits = false, n = 1;
    }
    *out_ = empty ? 0 : n;
    return empty || fits; /* an empty tensor is empty whatever its other dims are */
}
