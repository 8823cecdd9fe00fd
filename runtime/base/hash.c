/* hash.c - a multiply-fold hash (the wyhash construction of Wang Yi, simplified): 8 bytes a step.
 */
#include "runtime/base/hash.h"
#include <endian.h>
#include <string.h>

static uint64_t hash_fold(uint64_t a, uint64_t b) {
    uint64_t al = (uint32_t)a, ah = a >> 32, bl = (uint32_t)b, bh = b >> 32;
    uint64_t ll = al * bl, lh = al * bh, hl = ah * bl, hh = ah * bh;
    uint64_t mid = (ll >> 32) + (uint32_t)lh + (uint32_t)hl;
    uint64_t lo = (mid << 32) | (uint32_t)ll;
    uint64_t hi = hh + (lh >> 32) + (hl >> 32) + (mid >> 32);
    return lo ^ hi;
}

uint64_t rt_hash_mix(uint64_t h, uint64_t x) {
    return hash_fold(h ^ 0x9e3779b97f4a7c15u, x ^ 0xe7037ed1a0b428dbu);
}

/* 8 bytes, little-endian, so that hosts agree. */
static uint64_t hash_word(const uint8_t *p) {
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return le64toh(x);
}

/* Fewer than 8. */
static uint64_t hash_load(const uint8_t *p, size_t n) {
    uint64_t x = 0;
    for (size_t i = 0; i < n; i++) x |= (uint64_t)p[i] << (8 * i);
    return x;
}

uint64_t rt_hash(const void *bytes, size_t n, uint64_t seed) {
    const uint8_t *p = bytes;
    uint64_t h = rt_hash_mix(seed, n);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) h = rt_hash_mix(h, hash_word(p + i));
    return i < n ? rt_hash_mix(h, hash_load(p + i, n - i)) : h;
}
