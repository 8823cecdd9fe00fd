/* status.c - error records: one allocation that grows by its context lines. */
#include "runtime/base/status.h"
#include "runtime/base/str.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ig_status_rec {
    const ig_allocator *alloc; /* borrowed; NULL: the preallocated record, never freed or changed */
    ig_code code;
    int line;
    char *file, *op; /* owned, or NULL */
    rt_str message;  /* the message and its contexts, one a line */
    rt_str text;     /* the whole report, made on demand */
};

static struct ig_status_rec status_no_memory = {.code = IG_MEMORY};

ig_status rt_fail_memory(void) { return &status_no_memory; }

static char *status_strdup(const ig_allocator *a, const char *s) {
    size_t n = strlen(s) + 1;
    char *p = rt_alloc(a, n);
    return p ? memcpy(p, s, n) : NULL;
}

static void status_strfree(const ig_allocator *a, char *s) {
    if (s) rt_free(a, s, strlen(s) + 1);
}

ig_status rt_fail(const ig_allocator *a, ig_code code, const char *fmt, ...) {
    ig_status s = rt_alloc_zero(a, sizeof *s);
    if (!s) return rt_fail_memory();
    s->alloc = a;
    s->code = code;
    rt_str_init(&s->message, a);
    rt_str_init(&s->text, a);
    va_list ap;
    va_start(ap, fmt);
    rt_str_vprintf(&s->message, fmt, ap);
    va_end(ap);
    if (s->message.failed) {
        ig_status_free(s);
        return rt_fail_memory();
    }
    return s;
}

ig_status rt_internal(const ig_allocator *a, const char *cond, const char *file, int line) {
#ifndef NDEBUG
    fprintf(stderr, "ingot: %s:%d: assertion failed: %s\n", file, line, cond);
    abort();
#endif
    return rt_fail(a, IG_INTERNAL,
                   "internal contradiction: `%s` does not hold (%s:%d); please report it", cond,
                   file, line);
}

ig_status rt_status_at(ig_status s, const char *file, int line) {
    if (!s || !s->alloc || s->file || !file) return s;
    s->file = status_strdup(s->alloc, file);
    s->line = line;
    return s;
}

ig_status rt_status_use_alloc(ig_status s, const ig_allocator *a) {
    if (s && s->alloc) s->alloc = s->message.alloc = s->text.alloc = a;
    return s;
}

ig_status rt_status_op(ig_status s, const char *op) {
    if (s && s->alloc && !s->op && op) s->op = status_strdup(s->alloc, op);
    return s;
}

ig_status rt_status_note(ig_status s, const char *fmt, ...) {
    if (!s || !s->alloc) return s;
    va_list ap;
    va_start(ap, fmt);
    rt_str_puts(&s->message, "\n  ");
    rt_str_vprintf(&s->message, fmt, ap);
    va_end(ap);
    s->text.n = 0;
    s->message.failed = false; /* a note that found no memory is dropped, the error stays */
    return s;
}

ig_code ig_status_code(ig_status s) { return s ? s->code : IG_OK; }
const char *ig_status_file(ig_status s) { return s ? s->file : NULL; }
int ig_status_line(ig_status s) { return s ? s->line : 0; }
const char *ig_status_op(ig_status s) { return s ? s->op : NULL; }

const char *ig_status_text(ig_status s) {
    if (!s) return "ok";
    if (!s->alloc) return "out of memory";
    if (!s->text.n) {
        if (s->file) rt_str_printf(&s->text, "%s:%d: ", s->file, s->line);
        if (s->op) rt_str_printf(&s->text, "%s: ", s->op);
        rt_str_puts(&s->text, rt_str_text(&s->message));
    }
    return s->text.failed ? rt_str_text(&s->message) : rt_str_text(&s->text);
}

void ig_status_free(ig_status s) {
    if (!s || !s->alloc) return;
    status_strfree(s->alloc, s->file);
    status_strfree(s->alloc, s->op);
    rt_str_free(&s->message);
    rt_str_free(&s->text);
    rt_free(s->alloc, s, sizeof *s);
}
