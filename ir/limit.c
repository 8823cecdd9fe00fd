/* limit.c - the memory that a reader may use; docs/format.md and docs/ir-text.md state it. */
#include "ir/intern.h"
#include "ir/text.h"

#define LIMIT_ERRORS (16u << 10) /* of IR_READ_FIXED: an error outlives the reader's budget */

void ir_reader_budget(rt_budget *budget, const ig_allocator *alloc, size_t n) {
    size_t limit;
    if (!rt_mul_size(n, IR_READ_FACTOR, &limit) ||
        !rt_add_size(limit, IR_READ_FIXED - LIMIT_ERRORS, &limit))
        limit = SIZE_MAX;
    rt_budget_init(budget, alloc, limit);
}

ig_status ir_reader_end(const rt_budget *budget, const char *name, size_t n, ig_status error,
                        ir_module *m, ir_module **out_) {
    *out_ = NULL;
    if (budget->wanted) {
        ig_status_free(error);
        error = rt_fail(budget->under, IG_UNSUPPORTED,
                        "%s: reading these %zu bytes takes %zu bytes of memory or more; the limit "
                        "is %u for each byte and %u KiB: split the module into smaller ones",
                        name, n, budget->wanted, IR_READ_FACTOR, IR_READ_FIXED >> 10);
    }
    if (error) {
        ir_module_free(m);
        return error;
    }
    ir_module_use_alloc(m, budget->under);
    *out_ = m;
    return NULL;
}
