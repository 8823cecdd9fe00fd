/* cache.h - compiled images on disk, between processes.  docs/native.md describes folder and
 * files.
 *
 * Nothing here fails: what cannot be read or written is a miss, and IG_LOG=cache says why. */
#ifndef RT_CACHE_H
#define RT_CACHE_H
#include "runtime/base/alloc.h"

/* Whether there is a folder that may be used: IG_CACHE is not 0. */
bool rt_cache_on(void);
/* The bytes stored under a key, in memory of the allocator (n_ bytes); false when there are
 * none. */
bool rt_cache_get(const ig_allocator *a, const void *key, size_t nkey, void **bytes_, size_t *n_);
/* Store bytes under a key, and make room by dropping what was used longest ago. */
void rt_cache_put(const ig_allocator *a, const void *key, size_t nkey, const void *bytes, size_t n);
#endif
