/* intern.c - an open-addressing hash index with linear probing; entries are never removed. */
#include "ir/intern.h"

#define INDEX_FIRST 16u

static uint32_t index_fold(uint64_t hash) { return (uint32_t)(hash ^ hash >> 32); }

static bool index_resize(const ig_allocator *a, ir_index *ix, uint32_t cap) {
    size_t bytes;
    if (!rt_mul_size(cap, sizeof(ir_slot), &bytes)) return false;
    ir_index grown = {.slot = rt_alloc_zero(a, bytes), .cap = cap};
    if (!grown.slot) return false;
    for (uint32_t i = 0; i < ix->cap; i++)
        if (ix->slot[i].id1) ir_index_add(&grown, ix->slot[i].hash, ix->slot[i].id1 - 1);
    ir_index_free(a, ix);
    *ix = grown;
    return true;
}

/* Make room for one more entry at a load of at most 3/4. */
bool ir_index_reserve(const ig_allocator *a, ir_index *ix) {
    if (ix->n + 1 <= ix->cap / 4 * 3) return true;
    if (ix->cap > UINT32_MAX / 2) return false;
    return index_resize(a, ix, ix->cap ? ix->cap * 2 : INDEX_FIRST);
}

bool ir_index_reserve_all(const ig_allocator *a, ir_index *ix, uint32_t n) {
    uint32_t cap = INDEX_FIRST;
    while (cap / 4 * 3 < n && cap <= UINT32_MAX / 2) cap *= 2;
    if (cap / 4 * 3 < n) return false;
    return cap <= ix->cap || index_resize(a, ix, cap);
}

/* Enter an entry; room was reserved.  Folding a folded hash changes nothing, so growth may pass
 * slot hashes. */
void ir_index_add(ir_index *ix, uint64_t hash, uint32_t id) {
    uint32_t h = index_fold(hash), i = h & (ix->cap - 1);
    while (ix->slot[i].id1) i = (i + 1) & (ix->cap - 1);
    ix->slot[i] = (ir_slot){h, id + 1};
    ix->n++;
}

uint32_t ir_index_start(const ir_index *ix, uint64_t hash) {
    return ix->cap ? index_fold(hash) & (ix->cap - 1) : 0;
}

/* The next entry that may be equal; false when there is none left. */
bool ir_index_next(const ir_index *ix, uint64_t hash, uint32_t *at, uint32_t *id_) {
    uint32_t h = index_fold(hash);
    while (ix->cap && ix->slot[*at].id1) {
        ir_slot s = ix->slot[*at];
        *at = (*at + 1) & (ix->cap - 1);
        if (s.hash == h) {
            *id_ = s.id1 - 1;
            return true;
        }
    }
    return false;
}

void ir_index_free(const ig_allocator *a, ir_index *ix) {
    rt_free(a, ix->slot, (size_t)ix->cap * sizeof *ix->slot);
    *ix = (ir_index){0};
}
