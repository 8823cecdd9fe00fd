/* container.c - the `.ingot` header and section table, bounds-checked reading, and whole files. */
#include "runtime/base/container.h"
#include "runtime/base/hash.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONTAINER_HEADER 64u
#define CONTAINER_ENTRY  32u /* tag 4, flags 4, offset 8, size 8, hash 8 */
#define CONTAINER_ALIGN  64u

static const uint8_t container_magic[8] = {'I', 'N', 'G', 'O', 'T', 0x0d, 0x0a, 0x1a};

/* --- Bounds-checked reading
 * --------------------------------------------------------------------------- */

const void *rt_read_bytes(rt_reader *r, uint64_t n) {
    if (r->failed || n > (uint64_t)(r->end - r->at)) {
        r->failed = true;
        return NULL;
    }
    const void *p = r->at;
    r->at += n;
    return p;
}

static uint64_t container_read_le(rt_reader *r, unsigned n) {
    const uint8_t *p = rt_read_bytes(r, n);
    uint64_t x = 0;
    for (unsigned i = 0; p && i < n; i++) x |= (uint64_t)p[i] << (8 * i);
    return x;
}

uint8_t rt_read_u8(rt_reader *r) { return (uint8_t)container_read_le(r, 1); }
uint32_t rt_read_u32(rt_reader *r) { return (uint32_t)container_read_le(r, 4); }
uint64_t rt_read_u64(rt_reader *r) { return container_read_le(r, 8); }

uint32_t rt_read_count(rt_reader *r, uint32_t item) {
    uint32_t n = rt_read_u32(r);
    if (!r->failed && (uint64_t)n * item > (uint64_t)(r->end - r->at)) r->failed = true;
    return r->failed ? 0 : n;
}

static void container_write_le(rt_str *s, uint64_t x, unsigned n) {
    uint8_t b[8];
    for (unsigned i = 0; i < n; i++) b[i] = (uint8_t)(x >> (8 * i));
    rt_str_add(s, b, n);
}

void rt_write_u8(rt_str *s, uint8_t x) { container_write_le(s, x, 1); }
void rt_write_u32(rt_str *s, uint32_t x) { container_write_le(s, x, 4); }
void rt_write_u64(rt_str *s, uint64_t x) { container_write_le(s, x, 8); }

/* --- The container
 * ------------------------------------------------------------------------------------ */

/* Read one table entry and check its range and hash. */
static ig_status container_section(const ig_allocator *a, rt_reader *r, const uint8_t *file,
                                   size_t n, uint64_t least, rt_section *s) {
    const void *tag = rt_read_bytes(r, 4);
    if (tag) memcpy(s->tag, tag, 4);
    s->flags = rt_read_u32(r);
    s->off = rt_read_u64(r);
    s->size = rt_read_u64(r);
    s->hash = rt_read_u64(r);
    for (int i = 0; i < 4; i++)
        if (s->tag[i] < 32 || s->tag[i] > 126)
            return rt_fail(a, IG_FORMAT, "a section has a malformed tag");
    if (s->off % CONTAINER_ALIGN || s->off < least || s->off > n || s->size > n - s->off)
        return rt_fail(a, IG_FORMAT,
                       "section %.4s lies outside the file (offset %llu, %llu bytes, file of %zu)",
                       s->tag, (unsigned long long)s->off, (unsigned long long)s->size, n);
    s->data = file + s->off;
    if (rt_hash(s->data, s->size, 0) != s->hash)
        return rt_fail(a, IG_FORMAT, "section %.4s is damaged (its hash does not match)", s->tag);
    return NULL;
}

ig_status rt_container_read(const ig_allocator *a, const void *bytes, size_t n,
                            rt_container *out_) {
    rt_reader r = {bytes, (const uint8_t *)bytes + n, false};
    *out_ = (rt_container){0};
    const void *magic = rt_read_bytes(&r, 8);
    if (!magic || memcmp(magic, container_magic, 8))
        return rt_fail(a, IG_FORMAT,
                       "not an Ingot module (the file does not begin with the magic bytes)");
    out_->version = rt_read_u32(&r);
    uint32_t count = rt_read_u32(&r);
    uint64_t size = rt_read_u64(&r), hash = rt_read_u64(&r);
    const uint8_t *reserved = rt_read_bytes(&r, 32);
    if (r.failed) return rt_fail(a, IG_FORMAT, "the file ends inside its header (%zu bytes)", n);
    if (out_->version != RT_CONTAINER_VERSION)
        return rt_fail(
            a, IG_FORMAT,
            "container version %u; this library reads version %u: write the file again, or upgrade",
            out_->version, RT_CONTAINER_VERSION);
    for (int i = 0; i < 32; i++)
        if (reserved[i]) return rt_fail(a, IG_FORMAT, "reserved header bytes are not zero");
    if (size != n)
        return rt_fail(
            a, IG_FORMAT,
            "the header promises %llu bytes, the file has %zu: it is truncated or padded",
            (unsigned long long)size, n);
    if (count > RT_SECTION_MAX)
        return rt_fail(a, IG_FORMAT, "%u sections; at most %d are allowed", count, RT_SECTION_MAX);
    uint64_t table = (uint64_t)count * CONTAINER_ENTRY;
    if (table > n - CONTAINER_HEADER)
        return rt_fail(a, IG_FORMAT, "the file ends inside its section table");
    if (rt_hash(r.at, table, 0) != hash)
        return rt_fail(a, IG_FORMAT, "the section table is damaged (its hash does not match)");
    for (uint32_t i = 0; i < count; i++)
        RT_TRY(container_section(a, &r, bytes, n, CONTAINER_HEADER + table, &out_->section[i]));
    out_->nsection = count;
    return NULL;
}

const rt_section *rt_container_find(const rt_container *c, const char tag[4], uint32_t nth) {
    for (uint32_t i = 0; i < c->nsection; i++)
        if (!memcmp(c->section[i].tag, tag, 4) && nth-- == 0) return &c->section[i];
    return NULL;
}

static void container_pad(rt_str *s, size_t base) {
    static const uint8_t zero[CONTAINER_ALIGN];
    size_t over = (s->n - base) % CONTAINER_ALIGN;
    if (over) rt_str_add(s, zero, CONTAINER_ALIGN - over);
}

ig_status rt_container_write(const ig_allocator *a, const rt_section *section, uint32_t n,
                             rt_str *out) {
    if (n > RT_SECTION_MAX)
        return rt_fail(a, IG_UNSUPPORTED, "%u sections; a module file holds at most %d", n,
                       RT_SECTION_MAX);
    size_t base = out->n;
    rt_str table;
    rt_str_init(&table, a);
    uint64_t at = CONTAINER_HEADER + (uint64_t)n * CONTAINER_ENTRY;
    for (uint32_t i = 0; i < n; i++) {
        at = (at + CONTAINER_ALIGN - 1) / CONTAINER_ALIGN * CONTAINER_ALIGN;
        rt_str_add(&table, section[i].tag, 4);
        rt_write_u32(&table, section[i].flags);
        rt_write_u64(&table, at);
        rt_write_u64(&table, section[i].size);
        rt_write_u64(&table, rt_hash(section[i].data, section[i].size, 0));
        at += section[i].size;
    }
    static const uint8_t reserved[32];
    rt_str_add(out, container_magic, 8);
    rt_write_u32(out, RT_CONTAINER_VERSION);
    rt_write_u32(out, n);
    rt_write_u64(out, at);
    rt_write_u64(out, rt_hash(rt_str_text(&table), table.n, 0));
    rt_str_add(out, reserved, 32);
    rt_str_add(out, rt_str_text(&table), table.n);
    for (uint32_t i = 0; i < n; i++) {
        container_pad(out, base);
        rt_str_add(out, section[i].data, section[i].size);
    }
    bool failed = table.failed || out->failed;
    rt_str_free(&table);
    return failed ? rt_fail_memory() : NULL;
}

/* --- Whole files
 * -------------------------------------------------------------------------------------- */

/* Read exactly n bytes; false with errno set, or with errno 0 at an early end. */
static bool container_read_all(int fd, uint8_t *p, size_t n) {
    while (n) {
        ssize_t k = read(fd, p, n);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) {
            if (k == 0) errno = 0;
            return false;
        }
        p += k;
        n -= (size_t)k;
    }
    return true;
}

ig_status rt_file_read(const ig_allocator *a, const char *path, size_t max, void **bytes_,
                       size_t *n_) {
    *bytes_ = NULL;
    *n_ = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return rt_fail(a, IG_IO, "cannot open %s: %s", path, strerror(errno));
    struct stat st;
    ig_status s = NULL;
    if (fstat(fd, &st))
        s = rt_fail(a, IG_IO, "cannot read %s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        s = rt_fail(a, IG_IO, "%s is not a regular file", path);
    else if ((uint64_t)st.st_size > max)
        s = rt_fail(a, IG_IO, "%s has %lld bytes; at most %zu are read", path,
                    (long long)st.st_size, max);
    size_t n = s ? 0 : (size_t)st.st_size;
    void *p = n ? rt_alloc(a, n) : NULL;
    if (!s && n && !p) s = rt_fail_memory();
    if (!s && n && !container_read_all(fd, p, n))
        s = rt_fail(a, IG_IO, "cannot read %s: %s", path,
                    errno ? strerror(errno) : "it became shorter while it was read");
    close(fd);
    if (s) {
        rt_free(a, p, n);
        return s;
    }
    *bytes_ = p;
    *n_ = n;
    return NULL;
}

static bool container_write_all(int fd, const uint8_t *p, size_t n) {
    while (n) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return false;
        p += k;
        n -= (size_t)k;
    }
    return true;
}

ig_status rt_file_write(const ig_allocator *a, const char *path, const void *bytes, size_t n) {
    rt_str temp;
    rt_str_init(&temp, a);
    rt_str_printf(&temp, "%s.tmp%ld", path, (long)getpid());
    if (temp.failed) return rt_str_free(&temp), rt_fail_memory();
    int fd = open(temp.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool ok = fd >= 0 && container_write_all(fd, bytes, n) && !fsync(fd);
    if (fd >= 0 && close(fd)) ok = false;
    ok = ok && !rename(temp.data, path);
    ig_status s = ok ? NULL : rt_fail(a, IG_IO, "cannot write %s: %s", path, strerror(errno));
    if (!ok && fd >= 0) unlink(temp.data);
    rt_str_free(&temp);
    return s;
}
