/* custom.h - the C functions that a program finds in the runtime. */
#ifndef RT_CUSTOM_BUILTIN_H
#define RT_CUSTOM_BUILTIN_H
#include "runtime/base/custom.h"
#include "runtime/image.h"
#include "runtime/kernel_abi.h"

extern ig_custom rt_print_op;
/* Register what comes with the library; who resolves imports calls it first. */
ig_status rt_custom_builtin(void);
/* The table of weights of an image, n of them, to be filled, with its imports before the start.
 * *table_ is owned by the caller, also after an error: *room_ pointers; *weights_ lies in it. */
ig_status rt_custom_table(const ig_allocator *a, const rt_image *image, uint32_t n,
                          const void ***table_, uint32_t *room_, const void ***weights_);
/* The error for a code of a run of this thread, NULL for 0. */
ig_status rt_host_status(const ig_allocator *a, int32_t code);
#endif
