/* str.h - a growing string.  Failure is sticky: append freely, test `failed` once at the end. */
#ifndef RT_STR_H
#define RT_STR_H
#include "runtime/base/alloc.h"
#include <stdarg.h>

typedef struct rt_str {
    const ig_allocator *alloc; /* borrowed */
    char *data;                /* owned; NUL-terminated once anything was added */
    size_t n, cap;
    bool failed;
} rt_str;

void rt_str_init(rt_str *s, const ig_allocator *alloc);
void rt_str_add(rt_str *s, const void *bytes, size_t n);
void rt_str_puts(rt_str *s, const char *text);
void rt_str_printf(rt_str *s, const char *fmt, ...) IG_PRINTF(2, 3);
void rt_str_vprintf(rt_str *s, const char *fmt, va_list ap);
const char *rt_str_text(const rt_str *s); /* never NULL */
void rt_str_free(rt_str *s);
/* Shortest decimal that reads back as the same f32 / f64; `inf`, `-inf`, `nan`; always has '.', 'e'
 * or a name, so that it never reads as an integer. */
void rt_str_f32(rt_str *s, float x);
void rt_str_f64(rt_str *s, double x);
#endif
