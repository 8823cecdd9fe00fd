/* image.h - compiled code as data: position-independent, no relocation, no undefined symbol.
 *
 * An image is little-endian: rt_image_header, then symbols (rt_image_symbol[nsym]) and their names,
 * then at page boundaries (RT_IMAGE_PAGE) the read-only data and the text, in this order.  The
 * loader checks ranges and maps; it parses no ELF.  Pages are never writable and executable at
 * once: an image in memory is written through a memfd mapped RW, run from a second RX mapping. */
#ifndef RT_IMAGE_H
#define RT_IMAGE_H
#include "runtime/base/status.h"
#include "runtime/kernel_abi.h"

#define RT_IMAGE_MAGIC   "IGIMAGE"
#define RT_IMAGE_VERSION 4u
#define RT_IMAGE_PAGE    4096u

enum rt_image_arch { RT_ARCH_X86_64 = 1, RT_ARCH_AARCH64 = 2 };

typedef struct rt_image_header {
    char magic[8]; /* RT_IMAGE_MAGIC with its NUL */
    uint32_t version, arch;
    char level[16];    /* name of the cpu level (codegen/cpus.def), NUL-padded */
    uint64_t features; /* RT_CPU_* bits the code needs */
    uint64_t size;     /* of the whole image */
    uint64_t sym_off, str_off, str_size, data_off, data_size, text_off, text_size;
    uint32_t nsym;
    uint32_t unwind_size; /* of the DWARF call frames (.eh_frame) that the data begins with */
    uint64_t hash;        /* rt_image_hash: over everything else */
} rt_image_header;

/* A function: off in the text, name in the strings.  An import: a C function that the code finds in
 * its table (kernel_abi.h); off is its version, size 0, import its number + 1. */
typedef struct rt_image_symbol {
    uint64_t off, size;
    uint32_t name, import;
} rt_image_symbol;

typedef struct rt_image rt_image;
/* Map an image from memory (copied).  Errors: FORMAT for a malformed image, UNSUPPORTED for another
 * architecture or missing CPU features, MEMORY or IO when mapping fails. */
ig_status rt_image_load(const ig_allocator *a, const void *bytes, size_t n, rt_image **out_);
void rt_image_free(rt_image *img);
/* Address of a symbol, or NULL. */
void *rt_image_find(const rt_image *img, const char *name);
/* The host program "<entry>" with its "<entry>_workspace" (entry NULL: the first there is); NULLs
 * when the image has none. */
typedef struct rt_image_entry {
    rt_host_fn run;
    rt_workspace_fn workspace;
} rt_image_entry;
rt_image_entry rt_image_find_entry(const rt_image *img, const char *entry);
const char *rt_image_level(const rt_image *img);
/* How many imports there are; the name and version of one, NULL when there is none. */
uint32_t rt_image_imports(const rt_image *img);
const char *rt_image_import(const rt_image *img, uint32_t k, int64_t *version_);
/* The hash of an image of n bytes, at least a header. */
uint64_t rt_image_hash(const void *image, size_t n);

/* Features of this CPU as RT_CPU_* bits, and the architecture (rt_image_arch). */
enum rt_cpu_feature { RT_CPU_X86_V2 = 1, RT_CPU_X86_V3 = 2, RT_CPU_X86_V4 = 4, RT_CPU_AARCH64 = 8 };
uint64_t rt_cpu_features(void);
uint32_t rt_cpu_arch(void);
#endif
