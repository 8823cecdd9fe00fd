/* program.c - a compiled module without its IR: an image, and the weights it is given.
 *
 * Reads three sections of the container: IMAG (native code, one a CPU level), WGHT (24 bytes a
 * weight: name, type, place and size in BLOB) and BLOB (docs/format.md).  The rest of a module is
 * for libingot. */
#include "ingot/runtime.h"
#include "runtime/base/container.h"
#include "runtime/custom.h"
#include <string.h>

#define PROGRAM_MAX_FILE     ((size_t)1 << 40)
#define PROGRAM_WEIGHT_BYTES 24u

struct ig_program {
    const ig_allocator *alloc; /* borrowed */
    rt_image *image;           /* owned */
    rt_host_fn run;
    rt_workspace_fn workspace;
    uint32_t room;
    const void **table;   /* owned: `room` pointers, imports and weights */
    const void **weights; /* in the table: pointers into blob */
    void *blob;           /* owned */
    size_t blob_bytes;
};

void ig_program_free(ig_program *p) {
    if (!p) return;
    rt_image_free(p->image);
    rt_free(p->alloc, p->table, p->room * sizeof *p->table);
    rt_free_buffer(p->alloc, p->blob, p->blob_bytes);
    rt_free(p->alloc, p, sizeof *p);
}

/* Map the first image that this machine can run, and find its entry points. */
static ig_status program_image(ig_program *p, const rt_container *file) {
    const rt_section *s;
    ig_status why = NULL;
    for (uint32_t k = 0; !p->image && (s = rt_container_find(file, "IMAG", k)); k++) {
        ig_status_free(why);
        why = rt_image_load(p->alloc, s->data, (size_t)s->size, &p->image);
        if (why && ig_status_code(why) != IG_UNSUPPORTED) return why;
    }
    if (!p->image)
        return why ? why
                   : rt_fail(p->alloc, IG_UNSUPPORTED,
                             "the file holds no native code: save it after ig_module_compile");
    ig_status_free(why);
    rt_image_entry entry = rt_image_find_entry(p->image, NULL);
    if (!entry.run) return rt_fail(p->alloc, IG_FORMAT, "the native code has no entry point");
    p->run = entry.run;
    p->workspace = entry.workspace;
    return NULL;
}

/* Copy the weights and note where each begins. */
static ig_status program_weights(ig_program *p, const rt_container *file) {
    const rt_section *list = rt_container_find(file, "WGHT", 0);
    const rt_section *blob = rt_container_find(file, "BLOB", 0);
    if (!list || !blob) return rt_fail(p->alloc, IG_FORMAT, "the file has no section WGHT or BLOB");
    rt_reader r = {list->data, list->data + list->size, false};
    uint32_t nweight = rt_read_count(&r, PROGRAM_WEIGHT_BYTES);
    if (blob->size && !(p->blob = rt_alloc_buffer(p->alloc, (size_t)blob->size)))
        return rt_fail_memory();
    p->blob_bytes = (size_t)blob->size;
    if (blob->size) memcpy(p->blob, blob->data, (size_t)blob->size);
    RT_TRY(rt_custom_table(p->alloc, p->image, nweight, &p->table, &p->room, &p->weights));
    for (uint32_t k = 0; k < nweight; k++) {
        rt_read_bytes(&r, 8); /* name and type */
        uint64_t at = rt_read_u64(&r), n = rt_read_u64(&r);
        if (at > blob->size || n > blob->size - at)
            return rt_fail(p->alloc, IG_FORMAT, "weight %u does not lie in section BLOB", k);
        if (n) p->weights[k] = (const char *)p->blob + at;
    }
    return r.failed ? rt_fail(p->alloc, IG_FORMAT, "section WGHT ends early") : NULL;
}

ig_status ig_program_read(const ig_allocator *alloc, const void *bytes, size_t n,
                          ig_program **out_) {
    const ig_allocator *a = alloc ? alloc : ig_allocator_default();
    *out_ = NULL;
    rt_container *file = rt_alloc(a, sizeof *file); /* too large for the stack */
    ig_program *p = rt_alloc_zero(a, sizeof *p);
    ig_status s = file && p ? NULL : rt_fail_memory();
    if (!s) {
        p->alloc = a;
        s = rt_container_read(a, bytes, n, file);
    }
    if (!s) s = program_image(p, file);
    if (!s) s = program_weights(p, file);
    rt_free(a, file, sizeof *file);
    if (s && p && p->alloc)
        ig_program_free(p);
    else if (s)
        rt_free(a, p, sizeof *p);
    else
        *out_ = p;
    return s;
}

ig_status ig_program_load(const char *path, ig_program **out_) {
    const ig_allocator *a = ig_allocator_default();
    void *bytes;
    size_t n;
    *out_ = NULL;
    RT_TRY(rt_file_read(a, path, PROGRAM_MAX_FILE, &bytes, &n));
    ig_status s = ig_program_read(a, bytes, n, out_);
    rt_free(a, bytes, n);
    return rt_status_note(s, "in %s", path);
}

const char *ig_program_level(const ig_program *p) { return rt_image_level(p->image); }

ig_status ig_program_workspace(const ig_program *p, const int64_t *dims, size_t *bytes_) {
    uint64_t bytes = 0;
    int32_t code = p->workspace(dims, &bytes);
    *bytes_ = (size_t)bytes;
    if (!code && bytes > SIZE_MAX) code = RT_HOST_OVERFLOW;
    return rt_host_status(p->alloc, code);
}

ig_status ig_program_run(const ig_program *p, const void *const *in, void *const *out,
                         const int64_t *dims, void *ws, const ig_exec *exec) {
    return rt_host_status(p->alloc, p->run(in, out, dims, ws, exec, p->weights));
}
