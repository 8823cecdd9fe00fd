/* budget.h - an allocator that hands out a limited sum of bytes of another one. */
#ifndef RT_BUDGET_H
#define RT_BUDGET_H
#include "runtime/base/alloc.h"

typedef struct rt_budget {
    ig_allocator alloc;        /* the limited one; valid as long as the budget stays where it is */
    const ig_allocator *under; /* borrowed; has the same blocks, so it may free them later */
    size_t used, limit;
    size_t wanted; /* what the first request that was refused would have come to; 0 = none was */
} rt_budget;

void rt_budget_init(rt_budget *b, const ig_allocator *under, size_t limit);
#endif
