/* image.c - checks an image and maps it.
 *
 * Everything is checked against the caller's bytes before memory is mapped: all ranges lie inside
 * the image, in order, and names end.  The loader does not judge the code itself; an image is
 * trusted as a library is, its hash only catches accidents.
 *
 * Mapping never makes a page writable and executable, nor a written page executable by mprotect
 * (both are refused under systemd's MemoryDenyWriteExecute and PR_SET_MDWE): the bytes are
 * written through one mapping of a memfd, that mapping is removed, the memfd is sealed against
 * writing, and only then mapped again, read-only, with the text executable. */
#include "runtime/image.h"
#include "runtime/base/hash.h"
#include "runtime/debug.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MFD_EXEC
/* Linux 6.3: needed where the default is vm.memfd_noexec=1; older kernels reject it. */
#define MFD_EXEC 0x0010u
#endif

struct rt_image {
    const ig_allocator *alloc;
    rt_image_header head;
    uint8_t *base;   /* the mapping */
    size_t map_size; /* whole pages */
    const rt_image_symbol *sym;
    const char *str;
    rt_debug *debug; /* owned; may be NULL */
};

/* --- Checking --- */

static bool image_is_range(uint64_t off, uint64_t size, uint64_t lo, uint64_t hi) {
    return off >= lo && off <= hi && size <= hi - off;
}

/* What is wrong with the layout, or NULL. */
static const char *image_check_layout(const rt_image_header *h, size_t n) {
    uint64_t sym_size = (uint64_t)h->nsym * sizeof(rt_image_symbol);
    if (h->size != n) return "its size is not the size in its header";
    if (!memchr(h->level, 0, sizeof h->level)) return "the name of its cpu level does not end";
    if (h->sym_off % 8 || !image_is_range(h->sym_off, sym_size, sizeof *h, n))
        return "its symbol table lies outside";
    if (!image_is_range(h->str_off, h->str_size, h->sym_off + sym_size, n))
        return "its names lie outside";
    if (h->nsym && !h->str_size) return "its symbols have no names";
    if (h->data_off % RT_IMAGE_PAGE ||
        !image_is_range(h->data_off, h->data_size, h->str_off + h->str_size, n))
        return "its data lies outside";
    if (h->unwind_size > h->data_size) return "its call frames lie outside the data";
    if (h->text_off % RT_IMAGE_PAGE ||
        !image_is_range(h->text_off, h->text_size, h->data_off + h->data_size, n))
        return "its text lies outside";
    return NULL;
}

/* What is wrong with the symbols, or NULL. */
static const char *image_check_symbols(const rt_image_header *h, const uint8_t *bytes) {
    uint32_t imports = 0;
    if (h->str_size && bytes[h->str_off + h->str_size - 1]) return "its names do not end";
    for (uint32_t i = 0; i < h->nsym; i++) {
        rt_image_symbol s;
        memcpy(&s, bytes + h->sym_off + i * sizeof s, sizeof s);
        if (s.name >= h->str_size) return "a symbol's name lies outside the names";
        if (imports != s.import && ++imports != s.import) return "its imports are out of order";
        if (s.import) continue;
        if (s.off >= h->text_size || s.size > h->text_size - s.off)
            return "a symbol lies outside the text";
    }
    return NULL;
}

/* The first feature the image needs and this processor lacks, in words; NULL when there is none. */
static const char *image_lacks(uint64_t features) {
    static const struct {
        uint64_t bit;
        const char *words;
    } feature_tab[] = {
        {RT_CPU_X86_V2, "x86-64-v2 (SSE4.2)"},
        {RT_CPU_X86_V3, "x86-64-v3 (AVX2 and FMA)"},
        {RT_CPU_X86_V4, "x86-64-v4 (AVX-512)"},
        {RT_CPU_AARCH64, "AArch64 with Advanced SIMD"},
    };
    uint64_t lacks = features & ~rt_cpu_features();
    for (size_t i = 0; i < sizeof feature_tab / sizeof *feature_tab; i++)
        if (lacks & feature_tab[i].bit) return feature_tab[i].words;
    return lacks ? "a feature unknown to this version" : NULL;
}

/* Everything a malformed or foreign image can be refused for. */
static ig_status image_check(const ig_allocator *a, const uint8_t *bytes, size_t n,
                             rt_image_header *h) {
    if (!bytes || n < sizeof *h)
        return rt_fail(a, IG_FORMAT, "not an image: %zu bytes are too few", n);
    memcpy(h, bytes, sizeof *h);
    if (memcmp(h->magic, RT_IMAGE_MAGIC, sizeof RT_IMAGE_MAGIC))
        return rt_fail(a, IG_FORMAT, "not an image: wrong magic");
    if (h->version != RT_IMAGE_VERSION)
        return rt_fail(a, IG_UNSUPPORTED, "image of version %u; this library reads version %u",
                       h->version, RT_IMAGE_VERSION);
    const char *wrong = image_check_layout(h, n);
    if (!wrong && rt_image_hash(bytes, n) != h->hash) wrong = "its hash does not match";
    if (!wrong) wrong = image_check_symbols(h, bytes);
    if (wrong) return rt_fail(a, IG_FORMAT, "malformed image: %s", wrong);
    if (h->arch != rt_cpu_arch())
        return rt_fail(a, IG_UNSUPPORTED, "the image was built for another architecture (level %s)",
                       h->level);
    const char *lacks = image_lacks(h->features);
    if (lacks)
        return rt_fail(a, IG_UNSUPPORTED,
                       "the image was built for level %s, which needs %s; this processor lacks it",
                       h->level, lacks);
    return NULL;
}

/* --- Mapping --- */

/* Write all of it; false and errno on failure. */
static bool image_write(int fd, const uint8_t *bytes, size_t n) {
    for (size_t at = 0; at < n;) {
        ssize_t done = write(fd, bytes + at, n - at);
        if (done < 0 && errno != EINTR) return false;
        if (done > 0) at += (size_t)done;
    }
    return true;
}

/* A memory file with the bytes, sealed; -1 and errno on failure. */
static int image_write_memfd(const void *bytes, size_t n, size_t map_size) {
    int fd = memfd_create("ingot-image", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("ingot-image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -1;
    if (image_write(fd, bytes, n) && ftruncate(fd, (off_t)map_size) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* Map the file read-only with the text executable; MAP_FAILED and errno on failure.  Where pages
 * are larger than RT_IMAGE_PAGE and text shares one with data, all of it is executable: still
 * never writable. */
static void *image_map_memfd(int fd, size_t map_size, size_t page, const rt_image_header *h) {
    bool apart = h->text_off % page == 0;
    int prot = apart || !h->text_size ? PROT_READ : PROT_READ | PROT_EXEC;
    uint8_t *base = mmap(NULL, map_size, prot, MAP_PRIVATE, fd, 0);
    if (base == MAP_FAILED || !apart || !h->text_size) return base;
    size_t text = ((size_t)h->text_size + page - 1) &
                  ~(page - 1); /* stays inside: text_off is at a page */
    if (mmap(base + h->text_off, text, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd,
             (off_t)h->text_off) != MAP_FAILED)
        return base;
    int error = errno;
    munmap(base, map_size);
    errno = error;
    return MAP_FAILED;
}

/* Fill in base and map_size. */
static ig_status image_map(rt_image *img, const void *bytes, size_t n) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (page < RT_IMAGE_PAGE) page = RT_IMAGE_PAGE;
    if (n > (size_t)INT64_MAX - page) return rt_fail_memory();
    img->map_size = (n + page - 1) & ~(page - 1);
    int fd = image_write_memfd(bytes, n, img->map_size);
    void *base = fd < 0 ? MAP_FAILED : image_map_memfd(fd, img->map_size, page, &img->head);
    int error = errno;
    if (fd >= 0) close(fd);
    if (base == MAP_FAILED) {
        img->base = NULL;
        return rt_fail(
            img->alloc, error == ENOMEM ? IG_MEMORY : IG_IO,
            "compiled code cannot be mapped: %s (%s)", strerror(error),
            fd < 0
                ? "no memory file could be made: memfd_create is refused or memory is out"
                : "the system forbids executable mappings of memory files, e.g. vm.memfd_noexec=2");
    }
    img->base = base;
    char *text = (char *)base +
                 img->head.text_off; /* written through other addresses: matters on AArch64 */
    __builtin___clear_cache(text, text + img->head.text_size);
    return NULL;
}

/* --- Interface --- */

uint64_t rt_image_hash(const void *image, size_t n) {
    const uint8_t *bytes = image;
    uint64_t head = rt_hash(bytes, offsetof(rt_image_header, hash), 0); /* its last field */
    return rt_hash(bytes + sizeof(rt_image_header), n - sizeof(rt_image_header), head);
}

ig_status rt_image_load(const ig_allocator *a, const void *bytes, size_t n, rt_image **out_) {
    *out_ = NULL;
    rt_image_header head;
    RT_TRY(image_check(a, bytes, n, &head));
    rt_image *img = rt_alloc_zero(a, sizeof *img);
    if (!img) return rt_fail_memory();
    img->alloc = a;
    img->head = head;
    ig_status s = image_map(img, bytes, n);
    if (s) {
        rt_image_free(img);
        return s;
    }
    img->sym = (const rt_image_symbol *)(const void *)(img->base + head.sym_off);
    img->str = (const char *)img->base + head.str_off;
    rt_debug_info debug = {.text = img->base + head.text_off,
                           .text_size = head.text_size,
                           .unwind = img->base + head.data_off,
                           .unwind_size = head.unwind_size,
                           .sym = img->sym,
                           .nsym = head.nsym - rt_image_imports(img),
                           .str = img->str};
    img->debug = rt_debug_add(a, &debug);
    *out_ = img;
    return NULL;
}

void rt_image_free(rt_image *img) {
    if (!img) return;
    rt_debug_remove(img->alloc, img->debug);
    if (img->base) munmap(img->base, img->map_size);
    rt_free(img->alloc, img, sizeof *img);
}

void *rt_image_find(const rt_image *img, const char *name) {
    for (uint32_t i = 0; i < img->head.nsym; i++)
        if (!img->sym[i].import && !strcmp(img->str + img->sym[i].name, name))
            return img->base + img->head.text_off + img->sym[i].off;
    return NULL;
}

rt_image_entry rt_image_find_entry(const rt_image *img, const char *entry) {
    static const char suffix[] = "_workspace";
    for (uint32_t i = 0; i < img->head.nsym; i++) {
        const char *name = img->str + img->sym[i].name;
        size_t n = strlen(name);
        if (img->sym[i].import || (entry && strcmp(name, entry))) continue;
        for (uint32_t j = 0; j < img->head.nsym; j++) {
            const char *other = img->str + img->sym[j].name;
            if (img->sym[j].import || strncmp(other, name, n) || strcmp(other + n, suffix))
                continue;
            uintptr_t text = (uintptr_t)img->base + img->head.text_off;
            return (rt_image_entry){(rt_host_fn)(text + img->sym[i].off),
                                    (rt_workspace_fn)(text + img->sym[j].off)};
        }
    }
    return (rt_image_entry){NULL, NULL};
}

const char *rt_image_level(const rt_image *img) { return img->head.level; }

uint32_t rt_image_imports(const rt_image *img) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < img->head.nsym; i++) n += img->sym[i].import != 0;
    return n;
}

const char *rt_image_import(const rt_image *img, uint32_t k, int64_t *version_) {
    for (uint32_t i = 0; i < img->head.nsym; i++) {
        if (img->sym[i].import != k + 1) continue;
        *version_ = (int64_t)img->sym[i].off;
        return img->str + img->sym[i].name;
    }
    return NULL;
}
