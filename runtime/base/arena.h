/* arena.h - memory that is freed as a whole. */
#ifndef RT_ARENA_H
#define RT_ARENA_H
#include "runtime/base/alloc.h"

typedef struct rt_chunk rt_chunk;
typedef struct rt_arena {
    const ig_allocator *alloc; /* borrowed */
    rt_chunk *chunk;           /* owned: newest first */
    char *at, *end;
    size_t total; /* bytes of all chunks */
} rt_arena;

void rt_arena_init(rt_arena *a, const ig_allocator *alloc);
/* 16-aligned, not zeroed; NULL on failure.  Size 0 gives a valid pointer. */
void *rt_arena_alloc(rt_arena *a, size_t size);
/* The same with an alignment of 1, 2, 4, 8 or 16. */
void *rt_arena_take(rt_arena *a, size_t size, size_t align);
void *rt_arena_zero(rt_arena *a, size_t size);
/* Give back the end of the newest allocation; of an older one nothing is given back. */
void rt_arena_shrink(rt_arena *a, void *p, size_t size, size_t kept);
char *rt_arena_strdup(rt_arena *a, const char *s, size_t n);
void rt_arena_free(rt_arena *a);
#endif
