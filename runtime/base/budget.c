/* budget.c - bytes are counted as they are asked for; a request beyond the limit fails. */
#include "runtime/base/budget.h"

static void *budget_resize(void *user, void *p, size_t old_size, size_t new_size, size_t align) {
    rt_budget *b = user;
    size_t held = p ? old_size : 0, rest = b->used - held, sum;
    if (!rt_add_size(rest, new_size, &sum)) sum = SIZE_MAX;
    if (new_size > held && sum > b->limit) {
        if (!b->wanted) b->wanted = sum;
        return NULL;
    }
    void *q = b->under->resize(b->under->user, p, old_size, new_size, align);
    if (new_size && !q) return NULL;
    b->used = sum;
    return q;
}

void rt_budget_init(rt_budget *b, const ig_allocator *under, size_t limit) {
    *b = (rt_budget){.under = under, .limit = limit};
    b->alloc = (ig_allocator){budget_resize, b};
}
