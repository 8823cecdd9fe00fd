/* hash.h - 64-bit hash of bytes (not for hostile keys), the same on every host. */
#ifndef RT_HASH_H
#define RT_HASH_H
#include <stddef.h>
#include <stdint.h>
uint64_t rt_hash(const void *bytes, size_t n, uint64_t seed);
uint64_t rt_hash_mix(uint64_t h, uint64_t x);
#endif
