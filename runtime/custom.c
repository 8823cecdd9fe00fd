/* custom.c - what programs find in the runtime: the C functions that come with the library, those
 * of the user by name, and the words for what a run fails with. */
#include "runtime/custom.h"
#include "runtime/base/str.h"
#include "runtime/dtype.h"

#include <stdio.h>

#define CUSTOM_TEXT 1024 /* bytes of a printed line or message */

/* A string that stands in room of its caller: what does not fit is left out. */
static void *custom_lend(void *user, void *ptr, size_t old_size, size_t new_size, size_t align) {
    (void)ptr, (void)old_size, (void)align;
    return new_size <= CUSTOM_TEXT && new_size ? user : NULL;
}

static void custom_make(const ig_custom_args *a, int first, char room[CUSTOM_TEXT]) {
    ig_allocator lend = {custom_lend, room};
    rt_str s;
    room[0] = 0;
    rt_str_init(&s, &lend);
    rt_text_fill(&s, a->text, a->nin - first, a->in + first);
}

int32_t ig_host_print(const ig_custom_args *args) {
    char room[CUSTOM_TEXT];
    custom_make(args, 0, room);
    return puts(room) == EOF || fflush(stdout) == EOF;
}

static _Thread_local char custom_failed[CUSTOM_TEXT];

static int32_t custom_report(const ig_custom_args *args) {
    custom_make(args, 1, custom_failed);
    return 0;
}

ig_custom rt_print_op = {.fn = ig_host_print, .name = "ig_host_print", .version = 1};
static ig_custom custom_fail_op = {.fn = custom_report, .name = RT_ASSERT_REPORT, .version = 1};

ig_status rt_custom_builtin(void) {
    RT_TRY(ig_custom_register(&rt_print_op));
    return ig_custom_register(&custom_fail_op);
}

/* --- Images ----------------------------------------------------------------------------------- */

ig_status rt_custom_table(const ig_allocator *a, const rt_image *image, uint32_t n,
                          const void ***table_, uint32_t *room_, const void ***weights_) {
    uint32_t imports = rt_image_imports(image);
    *room_ = 0;
    RT_TRY(rt_custom_builtin());
    *table_ = rt_alloc_zero(a, ((size_t)imports + n + 1) * sizeof **table_);
    if (!*table_) return rt_fail_memory();
    *room_ = imports + n + 1;
    *weights_ = *table_ + imports;
    for (uint32_t k = 0; k < imports; k++) {
        int64_t version = 0;
        const char *name = rt_image_import(image, k, &version);
        const ig_custom *op;
        RT_TRY(rt_custom_get(a, name, version, &op));
        (*table_)[imports - 1 - k] = op;
    }
    return NULL;
}

ig_status rt_host_status(const ig_allocator *a, int32_t code) {
    if (code == RT_HOST_OK) return NULL;
    if (code >= RT_HOST_ASSERT)
        return rt_status_op(rt_fail(a, IG_FAILED, "%s", custom_failed), "assert");
    if (code == RT_HOST_CUSTOM) return rt_fail(a, IG_FAILED, "a C function failed");
    return rt_fail(a, IG_RANGE,
                   code == RT_HOST_BAD_DIMS ? "a dynamic dim is outside its range"
                   : code == RT_HOST_CAP    ? "a loop would go round more often than its cap"
                                            : "a size overflows for these dynamic dims");
}
