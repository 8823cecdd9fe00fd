/* compile.c - from a recorded module to an image or a deployment object, and the door to the LLVM
 * plug-in.
 *
 * The plug-in is opened on the first compile and kept for the life of the process: unloading
 * libLLVM is not safe, and opening it costs 13-20 ms.  That handle, behind a mutex, is the
 * library's only global state beside the thread-local stream pointer.  It is looked for in
 * IG_LLVM_PLUGIN (a path), then beside the library that holds this code, then where the loader
 * looks.  A failed attempt is not remembered, so that installing the plug-in helps at once.
 *
 * An image that was compiled before comes from the cache on disk (runtime/cache.h), and then the
 * plug-in is not opened at all. */
#include "codegen/header.h"
#include "codegen/invoke.h"
#include "codegen/parts.h"
#include "ir/file.h"
#include "passes/pass.h"
#include "runtime/base/log.h"
#include "runtime/cache.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void cg_bytes_free(cg_bytes *b) {
    if (b->data) rt_free(b->alloc, b->data, b->n);
    *b = (cg_bytes){0};
}

/* --- The plug-in ---------------------------------------------------------------------------- */

#ifndef IG_LIBDIR
#define IG_LIBDIR "lib" /* the build says where libraries are installed, below the prefix */
#endif
#define PLUGIN_FILE "libingot-llvm.so"

static pthread_mutex_t plugin_lock = PTHREAD_MUTEX_INITIALIZER;
static const cg_llvm_api *plugin_api; /* under the lock */

static ig_status plugin_missing(const ig_allocator *a, const char *why) {
    return rt_fail(a, IG_UNSUPPORTED,
                   "compiling needs the LLVM plug-in: %s; install " PLUGIN_FILE
                   " and LLVM 19 (package libllvm19), "
                   "or set IG_LLVM_PLUGIN to its path",
                   why ? why : "not found");
}

/* The file that holds this code, or NULL. */
static const char *plugin_here(void) {
    static const char here = 0;
    Dl_info info;
    return dladdr(&here, &info) ? info.dli_fname : NULL;
}

/* Where the plug-in may be, the k-th place: what IG_LLVM_PLUGIN says and nothing else; or beside
 * this library or program; one folder up, for the tests; where the libraries of an installed
 * program are; where the loader looks.  False behind the last one. */
static bool plugin_place(int k, rt_str *path) {
    static const char *const place[] = {PLUGIN_FILE, "../" PLUGIN_FILE,
                                        "../" IG_LIBDIR "/" PLUGIN_FILE};
    const int places = sizeof place / sizeof *place;
    const char *given = getenv("IG_LLVM_PLUGIN"), *here = plugin_here();
    const char *slash = here ? strrchr(here, '/') : NULL;
    path->n = 0;
    if (given && *given) {
        rt_str_puts(path, given);
        return k == 0;
    }
    if (!slash) k += places;
    if (k < places) {
        rt_str_add(path, here, (size_t)(slash - here) + 1);
        rt_str_puts(path, place[k]);
    } else {
        rt_str_puts(path, PLUGIN_FILE);
    }
    return k <= places;
}

/* Open it at the first place where that works. */
static void *plugin_open(const ig_allocator *a) {
    rt_str path;
    void *so = NULL;
    rt_str_init(&path, a);
    for (int k = 0; !so && plugin_place(k, &path) && !path.failed; k++)
        so = dlopen(path.data, RTLD_NOW | RTLD_LOCAL);
    rt_str_free(&path);
    return so;
}

/* Find the table; called under the lock. */
static ig_status plugin_find(const ig_allocator *a, const cg_llvm_api **api_) {
    void *so = plugin_open(a);
    cg_llvm_entry_fn entry;
    if (!so) return plugin_missing(a, dlerror());
    void *symbol = dlsym(so, CG_LLVM_ENTRY);
    if (!symbol) {
        dlclose(so);
        return plugin_missing(a, "the file found is no plug-in");
    }
    memcpy(&entry, &symbol, sizeof entry);
    const cg_llvm_api *api = entry();
    if (api->abi != CG_LLVM_ABI)
        return rt_fail(
            a, IG_UNSUPPORTED,
            "the LLVM plug-in has ABI %u, this library needs %u: install the same version",
            api->abi, CG_LLVM_ABI);
    rt_log("llvm", "LLVM %s", api->version);
    *api_ = api;
    return NULL;
}

static ig_status plugin_get(const ig_allocator *a, const cg_llvm_api **api_) {
    ig_status s = NULL;
    pthread_mutex_lock(&plugin_lock);
    if (!plugin_api) s = plugin_find(a, &plugin_api);
    *api_ = plugin_api;
    pthread_mutex_unlock(&plugin_lock);
    return s;
}

static const ir_func *plugin_find_func(const ir_module *m, const char *name) {
    return ir_find_func(m, name);
}

ig_status cg_plugin(const ig_allocator *a, const cg_llvm_api **api_, cg_llvm_host *host_) {
    *host_ = (cg_llvm_host){.ops = ir_op_tab,
                            .attr_get = ir_attr_get,
                            .loc_get = ir_loc_get,
                            .find_func = plugin_find_func,
                            .find_weight = ir_find_weight,
                            .alloc = malloc,
                            .free_ = free,
                            .dump = rt_dump,
                            .dump_llvm = rt_dump_on("llvm"),
                            .dump_asm = rt_dump_on("asm"),
                            .force_fatal = getenv("IG_LLVM_FATAL") != NULL}; /* tests */
    return plugin_get(a, api_);
}

/* --- Modules -------------------------------------------------------------------------------- */

/* Relocatable objects -> what they are wanted for. */
typedef ig_status (*compile_use)(const ir_module *lowered, cg_parts *parts, const cg_cpu *cpu,
                                 cg_bytes *out_);

/* Recorded module -> relocatable objects; with a prefix, one. */
static ig_status compile_objects(const ir_module *m, const char *entry, const char *prefix,
                                 const cg_cpu *cpu, compile_use use, cg_bytes *out_) {
    ir_module *planned, *lowered;
    cg_parts parts;
    if (!cg_cpu_serves(cpu, m->class))
        return rt_fail(m->alloc, IG_UNSUPPORTED,
                       "target %s has no fused multiply-add: it needs a module of class nofma",
                       cpu->name);
    RT_TRY(pass_pipeline(m, &planned));
    ig_status s = cg_lower(planned, entry, cpu, &lowered);
    if (!s) {
        cg_llvm_job job = {.module = lowered, .cpu = cpu, .prefix = prefix};
        s = prefix ? cg_parts_whole(&job, &parts) : cg_parts_split(&job, &parts);
        if (!s) s = use(lowered, &parts, cpu, out_);
        ir_module_free(lowered);
    }
    ir_module_free(planned);
    return s;
}

/* This machine's level when none is given. */
static ig_status compile_target(const ir_module *m, const cg_cpu **cpu) {
    if (!*cpu) *cpu = cg_cpu_host(m->class);
    return *cpu ? NULL
                : rt_fail(m->alloc, IG_UNSUPPORTED,
                          "this processor is below every level that can be compiled for%s",
                          m->class == IR_CLASS_FMA ? " (a module of class nofma needs less)" : "");
}

/* --- The cache ------------------------------------------------------------------------------ */

/* Not when the user asked to see a compile, or to change it. */
static bool compile_may_cache(void) {
    const char *log = getenv("IG_LOG");
    bool watched = getenv("IG_DUMP") || getenv("IG_FUEL") || getenv("IG_TILE") ||
                   getenv("IG_LLVM_FATAL") || (log && strcmp(log, "cache") != 0);
    if (watched) rt_log("cache", "off: the compile is watched");
    return !watched && rt_cache_on();
}

/* Which build a file is: its size and time; nothing when it is not there. */
static bool compile_add_file(rt_str *key, const char *path) {
    struct stat st;
    if (!path || !strchr(path, '/') || stat(path, &st)) return false;
    rt_str_printf(key, " %lld %lld.%ld", (long long)st.st_size, (long long)st.st_mtim.tv_sec,
                  st.st_mtim.tv_nsec);
    return true;
}

/* All that an image depends on: this version and build of the library and of the plug-in, the
 * level, the entry, the module but for locations.  It is known before any pass runs, so that a hit
 * costs none. */
static ig_status compile_key(const ir_module *m, const char *entry, const cg_cpu *cpu,
                             rt_str *key) {
    rt_str path;
    rt_str_init(&path, m->alloc);
    rt_str_printf(key, "ingot %s image %u plugin %u", IG_VERSION_STRING, RT_IMAGE_VERSION,
                  CG_LLVM_ABI);
    compile_add_file(key, plugin_here());
    for (int k = 0; plugin_place(k, &path) && !path.failed; k++)
        if (compile_add_file(key, path.data)) break;
    bool failed = path.failed;
    rt_str_free(&path);
    rt_str_printf(key, " %s %s\n", cpu->name, entry);
    RT_TRY(ir_save_code(m, key));
    return failed || key->failed ? rt_fail_memory() : NULL;
}

static ig_status compile_link(const ir_module *lowered, cg_parts *parts, const cg_cpu *cpu,
                              cg_bytes *image_) {
    uint32_t n;
    cg_import *import;
    const ig_allocator *a = lowered->alloc;
    ig_status s = cg_imports(lowered, &import, &n);
    if (!s) s = cg_link_importing(a, parts->object, parts->n, import, n, cpu, image_);
    if (n) rt_free(a, import, n * sizeof *import);
    cg_parts_free(parts);
    return s;
}

static ig_status compile_image(const ir_module *m, const char *entry, const cg_cpu *cpu,
                               cg_bytes *image_) {
    return compile_objects(m, entry, NULL, cpu, compile_link, image_);
}

ig_status cg_compile(const ir_module *m, const char *entry, const cg_cpu *cpu, cg_bytes *image_) {
    *image_ = (cg_bytes){0};
    RT_TRY(compile_target(m, &cpu));
    if (!compile_may_cache()) return compile_image(m, entry, cpu, image_);
    rt_str key;
    rt_str_init(&key, m->alloc);
    ig_status s = compile_key(m, entry, cpu, &key);
    if (!s && rt_cache_get(m->alloc, key.data, key.n, &image_->data, &image_->n)) {
        image_->alloc = m->alloc;
    } else if (!s) {
        s = compile_image(m, entry, cpu, image_);
        if (!s) rt_cache_put(m->alloc, key.data, key.n, image_->data, image_->n);
    }
    rt_str_free(&key);
    return s;
}

/* Take over the one object from the plug-in's allocator. */
static ig_status compile_keep(const ir_module *lowered, cg_parts *parts, const cg_cpu *cpu,
                              cg_bytes *object_) {
    const ig_allocator *a = lowered->alloc;
    const cg_object *o = &parts->object[0];
    (void)cpu;
    *object_ = (cg_bytes){.data = rt_alloc(a, o->n), .n = o->n, .alloc = a};
    if (object_->data) memcpy(object_->data, o->data, o->n);
    cg_parts_free(parts);
    return object_->data ? NULL : rt_fail_memory();
}

ig_status cg_build(const ir_module *m, const char *entry, const char *prefix, const cg_cpu *cpu,
                   cg_bytes *object_) {
    *object_ = (cg_bytes){0};
    if (!cg_is_identifier(prefix))
        return rt_fail(m->alloc, IG_INVALID, "`%s` cannot begin the name of a C function", prefix);
    RT_TRY(compile_target(m, &cpu));
    return compile_objects(m, entry, prefix, cpu, compile_keep, object_);
}

ig_status cg_build_kernels(const ir_module *kernels, const cg_cpu *cpu, cg_bytes *object_) {
    cg_llvm_job job = {.module = kernels, .cpu = cpu, .export_kernels = true};
    cg_parts parts;
    *object_ = (cg_bytes){0};
    RT_TRY(cg_parts_whole(&job, &parts));
    return compile_keep(kernels, &parts, cpu, object_);
}
