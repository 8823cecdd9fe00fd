/* container.h - the `.ingot` file: header and section table.  docs/format.md is the specification.
 *
 * All integers little-endian.  Header (64 bytes): magic "INGOT\r\n\x1a", u32 container version, u32
 * section count, u64 file size, u64 hash of the section table, 32 reserved zero bytes.  Then the
 * section table, then the sections, 64-byte aligned.  A reader checks every range before it
 * allocates anything; unknown sections with the critical bit are an error, others are skipped. */
#ifndef RT_CONTAINER_H
#define RT_CONTAINER_H
#include "runtime/base/status.h"
#include "runtime/base/str.h"

#define RT_CONTAINER_VERSION 0u
#define RT_SECTION_CRITICAL  1u
#define RT_SECTION_MAX       64

typedef struct rt_section {
    char tag[4]; /* "STRS", "OPNM", "DIMS", "FUNC", "BLOB", "IMAG", ... */
    uint32_t flags;
    uint64_t off, size; /* in the file */
    uint64_t hash;      /* rt_hash of the bytes, seed 0 */
    const uint8_t
        *data; /* in memory (reader: into the file's bytes; writer: set by the caller, borrowed) */
} rt_section;

typedef struct rt_container {
    uint32_t version, nsection;
    rt_section section[RT_SECTION_MAX];
} rt_container;

/* Check a file in memory (borrowed by the container) and fill the table. */
ig_status rt_container_read(const ig_allocator *a, const void *bytes, size_t n, rt_container *out_);
const rt_section *rt_container_find(const rt_container *c, const char tag[4], uint32_t nth);
/* Lay the sections out and append the whole file to out. */
ig_status rt_container_write(const ig_allocator *a, const rt_section *section, uint32_t n,
                             rt_str *out);

/* A bounds-checked reader over bytes: failure is sticky and reads give 0. */
typedef struct rt_reader {
    const uint8_t *at, *end;
    bool failed;
} rt_reader;
uint8_t rt_read_u8(rt_reader *r);
uint32_t rt_read_u32(rt_reader *r);
uint64_t rt_read_u64(rt_reader *r);
const void *rt_read_bytes(rt_reader *r, uint64_t n); /* NULL on failure */
/* A count whose items take at least `item` bytes each: fails when they cannot fit in what is left.
 */
uint32_t rt_read_count(rt_reader *r, uint32_t item);
void rt_write_u8(rt_str *s, uint8_t x);
void rt_write_u32(rt_str *s, uint32_t x);
void rt_write_u64(rt_str *s, uint64_t x);

/* Whole files: read (with a cap), write atomically (temporary file in the same folder, fsync,
 * rename). */
ig_status rt_file_read(const ig_allocator *a, const char *path, size_t max, void **bytes_,
                       size_t *n_); /* free with rt_free */
ig_status rt_file_write(const ig_allocator *a, const char *path, const void *bytes, size_t n);
#endif
