/* kernel_abi.h - how generated code is called.  Shared by the code generator and the runtime. */
#ifndef RT_KERNEL_ABI_H
#define RT_KERNEL_ABI_H
#include "ingot/base.h"

/* Kernels have the public type ig_kernel: bufs are the launch's buffers in order, dims the values
 * of the module's dim symbols in order, [lo, hi) the part of the outermost loop.  Every kernel sets
 * the default floating-point environment on entry when it is not set, and restores it (numerics
 * rule 14). */

/* Picoseconds that a launch must be estimated to take before it is split: two parts, each ten
 * times what handing it to a thread costs (pool.c). */
#define RT_WORTH_PS INT64_C(2000000)

/* The host program of an image, symbol "<entry>".  Results: 0, or an rt_host_code.  weights: by
 * number; before its start, from weights[-1] on, the ig_custom of each import (image.h). */
typedef int32_t (*rt_host_fn)(const void *const *in, void *const *out, const int64_t *dims,
                              void *ws, const ig_exec *exec, const void *const *weights);
/* Workspace, symbol "<entry>_workspace": bytes for these dims, 64-aligned when run;
 * overflow-checked. */
typedef int32_t (*rt_workspace_fn)(const int64_t *dims, uint64_t *bytes_);

enum rt_host_code {
    RT_HOST_OK = 0,
    RT_HOST_BAD_DIMS = 1,
    RT_HOST_OVERFLOW = 2,
    RT_HOST_CAP = 3,    /* a loop would have gone round more often than its cap */
    RT_HOST_CUSTOM = 4, /* a C function failed */
    RT_HOST_ASSERT = 16 /* this one, and those above: the assertions of the program, in order */
};
/* The import that an image tells about an assertion that fails: the text with its values. */
#define RT_ASSERT_REPORT "ig_assert_report"
#endif
