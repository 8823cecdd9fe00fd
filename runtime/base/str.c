/* str.c - growing strings and float text. */
#include "runtime/base/str.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void rt_str_init(rt_str *s, const ig_allocator *alloc) { *s = (rt_str){.alloc = alloc}; }

/* Make room for n more bytes and a NUL. */
static bool str_room(rt_str *s, size_t n) {
    size_t need, cap = s->cap ? s->cap : 64;
    if (s->failed) return false;
    if (!rt_add_size(s->n, n, &need) || !rt_add_size(need, 1, &need))
        return s->failed = true, false;
    if (need <= s->cap) return true;
    while (cap < need)
        if (!rt_mul_size(cap, 2, &cap)) cap = need;
    char *p = rt_resize(s->alloc, s->data, s->cap, cap);
    if (!p) return s->failed = true, false;
    s->data = p;
    s->cap = cap;
    return true;
}

void rt_str_add(rt_str *s, const void *bytes, size_t n) {
    if (!str_room(s, n)) return;
    if (n) memcpy(s->data + s->n, bytes, n);
    s->n += n;
    s->data[s->n] = 0;
}

void rt_str_puts(rt_str *s, const char *text) { rt_str_add(s, text, strlen(text)); }

void rt_str_vprintf(rt_str *s, const char *fmt, va_list ap) {
    char small[256];
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(small, sizeof small, fmt, ap);
    if (n < 0)
        s->failed = true;
    else if ((size_t)n < sizeof small)
        rt_str_add(s, small, (size_t)n);
    else if (str_room(s, (size_t)n)) {
        vsnprintf(s->data + s->n, (size_t)n + 1, fmt, again);
        s->n += (size_t)n;
    }
    va_end(again);
}

void rt_str_printf(rt_str *s, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    rt_str_vprintf(s, fmt, ap);
    va_end(ap);
}

const char *rt_str_text(const rt_str *s) { return s->data ? s->data : ""; }

void rt_str_free(rt_str *s) {
    rt_free(s->alloc, s->data, s->cap);
    rt_str_init(s, s->alloc);
}

/* Add a number's text, with ".0" when it would read as an integer; the locale's point becomes '.'.
 */
static void str_number(rt_str *s, char *text) {
    for (char *c = text; *c; c++)
        if (*c == ',') *c = '.';
    rt_str_puts(s, text);
    if (!strpbrk(text, ".e")) rt_str_puts(s, ".0");
}

void rt_str_f32(rt_str *s, float x) { /* 9 digits always suffice for binary32 */
    char text[32];
    if (isnan(x))
        rt_str_puts(s, "nan");
    else if (isinf(x))
        rt_str_puts(s, x < 0 ? "-inf" : "inf");
    else {
        for (int digits = 1; digits <= 9; digits++) {
            snprintf(text, sizeof text, "%.*g", digits, (double)x);
            if (strtof(text, NULL) == x) break;
        }
        str_number(s, text);
    }
}

void rt_str_f64(rt_str *s, double x) { /* 17 digits always suffice for binary64 */
    char text[40];
    if (isnan(x))
        rt_str_puts(s, "nan");
    else if (isinf(x))
        rt_str_puts(s, x < 0 ? "-inf" : "inf");
    else {
        for (int digits = 1; digits <= 17; digits++) {
            snprintf(text, sizeof text, "%.*g", digits, x);
            if (strtod(text, NULL) == x) break;
        }
        str_number(s, text);
    }
}
