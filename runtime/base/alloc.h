/* alloc.h - every allocation of the library goes through these; sizes are overflow-checked. */
#ifndef RT_ALLOC_H
#define RT_ALLOC_H
#include "ingot/base.h"

#define RT_ALIGN_BUFFER 64 /* a cache line, and the widest vector */

/* NULL on failure, and for size 0. */
void *rt_alloc(const ig_allocator *a, size_t size);
void *rt_alloc_zero(const ig_allocator *a, size_t size);
void *rt_resize(const ig_allocator *a, void *p, size_t old_size, size_t new_size);
void rt_free(const ig_allocator *a, void *p, size_t size);
/* The same for tensor data: RT_ALIGN_BUFFER alignment. */
void *rt_alloc_buffer(const ig_allocator *a, size_t size);
void rt_free_buffer(const ig_allocator *a, void *p, size_t size);

/* True and *out_ set, or false on overflow. */
bool rt_mul_size(size_t x, size_t y, size_t *out_);
bool rt_add_size(size_t x, size_t y, size_t *out_);
/* The product of dims (each must be >= 0); false on overflow of int64_t or a negative dim. */
bool rt_numel_checked(const int64_t *dims, int rank, int64_t *out_);
#endif
