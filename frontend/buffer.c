/* buffer.c - the memory behind tensors: blocks of a few sizes, kept for the next tensor.
 *
 * An eager program makes and drops tensors of the same few sizes all the time, and asking the
 * allocator twice for each costs more than a small op.  So the elements of a value stand behind its
 * fe_buf in one block, blocks have four sizes an octave, and a session keeps freed ones (and
 * freed handles) up to a limit, newest first, as these are still in the cache.  Large blocks gain
 * most: the allocator would give their pages back to the system and fault them in again. */
#include "frontend/fe.h"
#include <string.h>

#if defined(__SANITIZE_ADDRESS__) /* which is to see who uses a freed tensor */
#define KEEP_BYTES 0
#else
#define KEEP_BYTES ((size_t)64 << 20) /* of one session */
#endif
#define HEAD RT_ALIGN_BUFFER /* an fe_buf, with the elements aligned behind it */
_Static_assert(sizeof(fe_buf) <= HEAD, "the head of a block holds an fe_buf");

/* A block that is kept. */
struct fe_kept {
    fe_kept *next;
};

/* --- Sizes ---------------------------------------------------------------------------------- */

/* The class of a block, and its size: 2^e, 1.25 * 2^e, 1.5 * 2^e, 1.75 * 2^e from 128 bytes on. */
static unsigned buffer_class(size_t n) {
    if (n <= 128) return 0;
    unsigned e = 63u - (unsigned)__builtin_clzll(n - 1), step = e - 2;
    return (e - 7) * 4 + (unsigned)((n - 1) >> step & 3) + 1;
}

static size_t buffer_size(unsigned class) { return (size_t)(4 + class % 4) << (class / 4 + 5); }

/* --- Keeping -------------------------------------------------------------------------------- */

static void *buffer_reuse(fe_keep *k, unsigned class) {
    fe_kept *b = k->block[class];
    if (!b) return NULL;
    k->block[class] = b->next;
    k->bytes -= buffer_size(class);
    return b;
}

static bool buffer_keep(fe_keep *k, unsigned class, void *block) {
    fe_kept *b = block;
    size_t size = buffer_size(class);
    if (class >= FE_KEEP_CLASSES || size > KEEP_BYTES - k->bytes) return false;
    b->next = k->block[class];
    k->block[class] = b;
    k->bytes += size;
    return true;
}

void fe_keep_free(ig_session *s) {
    fe_keep *k = &s->keep;
    for (unsigned class = 0; class < FE_KEEP_CLASSES; class ++)
        for (void *b; (b = buffer_reuse(k, class));)
            rt_free_buffer(s->alloc, b, buffer_size(class));
    while (k->handle) {
        fe_kept *b = k->handle;
        k->handle = b->next;
        rt_free(s->alloc, b, sizeof(ig_tensor));
    }
    k->handles = 0;
}

/* --- Handles -------------------------------------------------------------------------------- */

#define KEEP_HANDLES (KEEP_BYTES ? 4096 : 0)

ig_tensor *fe_handle_new(ig_session *s) {
    fe_kept *b = s->keep.handle;
    if (!b) return rt_alloc(s->alloc, sizeof(ig_tensor));
    s->keep.handle = b->next;
    s->keep.handles--;
    return (ig_tensor *)(void *)b;
}

void fe_handle_free(ig_session *s, ig_tensor *t) {
    fe_kept *b = (fe_kept *)(void *)t;
    if (s->keep.handles >= KEEP_HANDLES) {
        rt_free(s->alloc, t, sizeof *t);
        return;
    }
    b->next = s->keep.handle;
    s->keep.handle = b;
    s->keep.handles++;
}

/* --- Buffers -------------------------------------------------------------------------------- */

/* A block from the allocator; when it has none, what is kept is given back first. */
static void *buffer_alloc(ig_session *s, size_t size) {
    void *b = rt_alloc_buffer(s->alloc, size);
    if (b || !s->keep.bytes) return b;
    fe_keep_free(s);
    return rt_alloc_buffer(s->alloc, size);
}

fe_buf *fe_buf_new(ig_session *s, size_t bytes) {
    size_t total;
    if (!rt_add_size(bytes, HEAD, &total) || total > PTRDIFF_MAX / 2) return NULL;
    unsigned class = buffer_class(total);
    fe_buf *b = class < FE_KEEP_CLASSES ? buffer_reuse(&s->keep, class) : NULL;
    if (!b) b = buffer_alloc(s, buffer_size(class));
    if (!b) return NULL;
    *b = (fe_buf){.refs = 1, .owned = true, .bytes = bytes};
    if (bytes) b->data = (char *)b + HEAD;
    s->memory.live_bytes += bytes;
    if (s->memory.live_bytes > s->memory.peak_bytes) s->memory.peak_bytes = s->memory.live_bytes;
    s->memory.allocations++;
    return b;
}

fe_buf *fe_buf_borrow(ig_session *s, const void *data, size_t bytes) {
    fe_buf *b = rt_alloc(s->alloc, sizeof *b);
    if (!b) return NULL;
    *b = (fe_buf){.refs = 1, .data = (void *)(uintptr_t)data, .bytes = bytes};
    return b;
}

void fe_buf_retain(fe_buf *b) { b->refs++; }

void fe_buf_release(ig_session *s, fe_buf *b) {
    if (--b->refs) return;
    if (b->owned) {
        unsigned class = buffer_class(b->bytes + HEAD);
        s->memory.live_bytes -= b->bytes;
        if (!buffer_keep(&s->keep, class, b)) rt_free_buffer(s->alloc, b, buffer_size(class));
        return;
    }
    if (b->release) b->release(b->user, b->data);
    rt_free(s->alloc, b, sizeof *b);
}
