/* native.h - kernel-level IR to running code, for tests: the plug-in without the rest of the
 * compiler. */
#ifndef TESTS_NATIVE_H
#define TESTS_NATIVE_H
#include "codegen/parts.h"
#include "runtime/base/str.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The plug-in, or NULL; and what it may call back. */
static inline const cg_llvm_api *native_find(cg_llvm_host *host_) {
    const cg_llvm_api *api = NULL;
    ig_status_free(cg_plugin(ig_allocator_default(), &api, host_));
    return api;
}
static inline const cg_llvm_api *native_plugin(void) {
    cg_llvm_host host;
    return native_find(&host);
}

/* For a leak checker: what is lost when LLVM gives up (its own memory, the text of its reason); and
 * not to look into thread-local memory, where gcc 12's crashes once libraries came by dlopen. */
IG_API const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libLLVM\nleak:basic_string"; }
IG_API const char *__lsan_default_options(void);
const char *__lsan_default_options(void) { return "use_tls=0"; }

static rt_str *native_dumped; /* where dumps go */
static inline void native_dump(const char *word, const char *text) {
    if (native_dumped) rt_str_printf(native_dumped, ";; %s\n%s", word, text);
}
static inline cg_llvm_host native_host(void) {
    cg_llvm_host host;
    native_find(&host);
    host.dump = native_dump;
    host.dump_llvm = host.dump_asm = false;
    return host;
}

/* Compile to an object (free()); the code, with the message in `message`. */
static inline int native_object(const cg_llvm_host *host, const ir_module *m, const cg_cpu *cpu,
                                const char *prefix, void **object_, size_t *n_, char message[512]) {
    cg_llvm_job job = {.module = m, .cpu = cpu, .alloc = m->alloc, .prefix = prefix};
    return native_plugin()->compile(host, &job, object_, n_, message, 512);
}

/* Compile and link; NULL data and a printed reason when it fails. */
static inline cg_bytes native_image(const ir_module *m, const cg_cpu *cpu, const char *prefix) {
    cg_llvm_host host = native_host();
    void *object;
    size_t n;
    char message[512];
    cg_bytes image = {0};
    if (native_object(&host, m, cpu, prefix, &object, &n, message)) {
        printf("compile for %s: %s\n", cpu->name, message);
        return image;
    }
    ig_status s = cg_link(ig_allocator_default(), &(cg_object){object, n}, 1, cpu, &image);
    if (s) printf("link for %s: %s\n", cpu->name, ig_status_text(s));
    ig_status_free(s);
    free(object);
    return image;
}

static inline void native_free(cg_bytes b) {
    if (b.data) rt_free(b.alloc, b.data, b.n);
}
#endif
