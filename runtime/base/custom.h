/* custom.h - the C functions that programs call, by name. */
#ifndef RT_CUSTOM_H
#define RT_CUSTOM_H
#include "ingot/custom.h"
#include "runtime/base/status.h"

/* The function registered under a name and version; NULL: none. */
const ig_custom *rt_custom_find(const char *name, int64_t version);
/* The same as an error that says what to do. */
ig_status rt_custom_get(const ig_allocator *a, const char *name, int64_t version,
                        const ig_custom **out_);
/* What is wrong with a description, or NULL. */
const char *rt_custom_wrong(const ig_custom *op);
#endif
