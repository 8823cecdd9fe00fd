/* arena.c - bump allocation from growing chunks. */
#include "runtime/base/arena.h"
#include <string.h>

#define ARENA_FIRST   4096u
#define ARENA_LARGEST (1u << 20) /* chunks double up to this */

struct rt_chunk {
    rt_chunk *next;
    size_t size;
};

void rt_arena_init(rt_arena *a, const ig_allocator *alloc) { *a = (rt_arena){.alloc = alloc}; }

/* Start a chunk that has room for `need` bytes. */
static bool arena_grow(rt_arena *a, size_t need) {
    size_t size = a->chunk ? a->chunk->size * 2 : ARENA_FIRST, least;
    if (size > ARENA_LARGEST) size = ARENA_LARGEST;
    if (!rt_add_size(need, sizeof(rt_chunk) + 16, &least)) return false;
    if (size < least) size = least;
    rt_chunk *c = rt_alloc(a->alloc, size);
    if (!c) return false;
    *c = (rt_chunk){a->chunk, size};
    a->chunk = c;
    a->at = (char *)c + ((sizeof *c + 15) & ~(size_t)15);
    a->end = (char *)c + size;
    return true;
}

static size_t arena_round(size_t size) { return size ? (size + 15) & ~(size_t)15 : 16; }

void *rt_arena_alloc(rt_arena *a, size_t size) {
    if (size > SIZE_MAX - 15) return NULL;
    size = arena_round(size);
    if ((!a->at || (size_t)(a->end - a->at) < size) && !arena_grow(a, size)) return NULL;
    void *p = a->at;
    a->at += size;
    return p;
}

void *rt_arena_zero(rt_arena *a, size_t size) {
    void *p = rt_arena_alloc(a, size);
    return p ? memset(p, 0, size) : NULL;
}

void rt_arena_shrink(rt_arena *a, void *p, size_t size, size_t kept) {
    if ((char *)p + arena_round(size) == a->at) a->at = (char *)p + arena_round(kept);
}

char *rt_arena_strdup(rt_arena *a, const char *s, size_t n) {
    if (n == SIZE_MAX) return NULL;
    char *p = rt_arena_alloc(a, n + 1);
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
