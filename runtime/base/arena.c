/* arena.c - bump allocation from chunks that grow with the whole, so that little of it is idle. */
#include "runtime/base/arena.h"
#include <string.h>

#define ARENA_ALIGN   16u
#define ARENA_FIRST   4096u
#define ARENA_LARGEST (1u << 20)

struct rt_chunk {
    rt_chunk *next;
    size_t size;
};

void rt_arena_init(rt_arena *a, const ig_allocator *alloc) { *a = (rt_arena){.alloc = alloc}; }

static size_t arena_up(size_t x, size_t align) { return (x + align - 1) & ~(align - 1); }

/* Start a chunk that has room for `need` bytes. */
static bool arena_grow(rt_arena *a, size_t need) {
    size_t size = a->total / 32, least;
    if (size > ARENA_LARGEST) size = ARENA_LARGEST;
    if (size < ARENA_FIRST) size = ARENA_FIRST;
    if (!rt_add_size(need, sizeof(rt_chunk) + ARENA_ALIGN, &least)) return false;
    if (size < least) size = least;
    rt_chunk *c = rt_alloc(a->alloc, size);
    if (!c) return false;
    *c = (rt_chunk){a->chunk, size};
    a->chunk = c;
    a->at = (char *)c + arena_up(sizeof *c, ARENA_ALIGN);
    a->end = (char *)c + size;
    a->total += size;
    return true;
}

void *rt_arena_take(rt_arena *a, size_t size, size_t align) {
    size_t pad = a->at ? (size_t)-(uintptr_t)a->at & (align - 1) : 0;
    if (size > SIZE_MAX - 2 * ARENA_ALIGN) return NULL;
    if (!size) size = 1;
    if (!a->at || (size_t)(a->end - a->at) < size + pad) {
        if (!arena_grow(a, size)) return NULL;
        pad = 0;
    }
    void *p = a->at + pad;
    a->at += pad + size;
    return p;
}

void *rt_arena_alloc(rt_arena *a, size_t size) { return rt_arena_take(a, size, ARENA_ALIGN); }

void *rt_arena_zero(rt_arena *a, size_t size) {
    void *p = rt_arena_alloc(a, size);
    return p ? memset(p, 0, size) : NULL;
}

void rt_arena_shrink(rt_arena *a, void *p, size_t size, size_t kept) {
    if ((char *)p + size == a->at) a->at = (char *)p + kept;
}

char *rt_arena_strdup(rt_arena *a, const char *s, size_t n) {
    if (n == SIZE_MAX) return NULL;
    char *p = rt_arena_take(a, n + 1, 1);
    if (!p) return NULL;
    if (n) memcpy(p, s, n);
    p[n] = 0;
    return p;
}

void rt_arena_free(rt_arena *a) {
    for (rt_chunk *c = a->chunk, *next; c; c = next) {
        next = c->next;
        rt_free(a->alloc, c, c->size);
    }
    rt_arena_init(a, a->alloc);
}
