/* debug.h - makes the code of an image known to gdb and perf. */
#ifndef RT_DEBUG_H
#define RT_DEBUG_H
#include "runtime/image.h"

/* What the registration needs to know; all borrowed for the call. */
typedef struct rt_debug_info {
    const void *text; /* where the code runs */
    uint64_t text_size;
    const void *unwind; /* .eh_frame */
    uint64_t unwind_size;
    const rt_image_symbol *sym;
    uint32_t nsym;
    const char *str;
} rt_debug_info;

typedef struct rt_debug rt_debug;
/* Tell gdb about the functions, and perf when IG_PERF=1.  Debugging is never worth an error:
 * NULL when there is no memory for it. */
rt_debug *rt_debug_add(const ig_allocator *a, const rt_debug_info *info);
void rt_debug_remove(const ig_allocator *a, rt_debug *d);
#endif
