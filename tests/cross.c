/* cross.c - one freestanding driver (corpus/driver.c), linked with each object in turn. */
#include "tests/cross.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const ig_allocator *A(void) { return ig_allocator_default(); }

static char cross_dir[64];
static int cross_state; /* 0 not tried, 1 here, -1 missing */
static const char *cross_linker, *cross_qemu;

/* Run a shell command quietly; whether it went well. */
static bool cross_shell(const char *command) {
    char line[1024];
    int n = snprintf(line, sizeof line, "{ %s; } >/dev/null 2>&1", command);
    return n > 0 && (size_t)n < sizeof line && system(line) == 0;
}

static const char *cross_first(const char *const *names) {
    char line[128];
    for (; *names; names++) {
        snprintf(line, sizeof line, "command -v %s", *names);
        if (cross_shell(line)) return *names;
    }
    return NULL;
}

static bool cross_make_driver(void) {
    static const char *const compilers[] = {"aarch64-linux-gnu-gcc",
                                            "clang --target=aarch64-linux-gnu",
                                            "clang-19 --target=aarch64-linux-gnu", NULL};
    char line[512];
    for (const char *const *c = compilers; *c; c++) {
        snprintf(line, sizeof line,
                 "%s -O1 -ffreestanding -fno-builtin -fno-stack-protector -fno-pic -c "
                 "-o %s/driver.o tests/corpus/driver.c",
                 *c, cross_dir);
        if (cross_shell(line)) return true;
    }
    return false;
}

bool cross_available(void) {
    static const char *const linkers[] = {"aarch64-linux-gnu-ld", "ld.lld", "ld.lld-19", NULL};
    static const char *const qemus[] = {"qemu-aarch64", "qemu-aarch64-static", NULL};
    if (cross_state) return cross_state > 0;
    strcpy(cross_dir, "/tmp/ingot-cross-XXXXXX");
    cross_linker = cross_first(linkers);
    cross_qemu = cross_first(qemus);
    bool here = cross_linker && cross_qemu && mkdtemp(cross_dir);
    cross_state = here && cross_make_driver() ? 1 : -1;
    return cross_state > 0;
}

void cross_end(void) {
    char line[128];
    snprintf(line, sizeof line, "rm -rf %s", cross_dir);
    if (cross_state && !strstr(cross_dir, "XXXXXX")) cross_shell(line);
    cross_state = 0;
}

/* --- One function --------------------------------------------------------------------------- */

static void cross_put(FILE *f, int64_t x) { fwrite(&x, sizeof x, 1, f); }

static bool cross_write(const way_case *c, int n, ir_tensor *const *out) {
    char path[128];
    snprintf(path, sizeof path, "%s/in", cross_dir);
    FILE *f = fopen(path, "wb");
    if (!f) return false;
    for (int i = 0; i < n; i++) {
        int64_t ndims = (int64_t)c[i].module->symbols.n;
        cross_put(f, c[i].nin), cross_put(f, c[i].nout), cross_put(f, ndims);
        for (int64_t k = 0; k < ndims; k++) cross_put(f, c[i].symbols[k]);
        for (int k = 0; k < c[i].nin; k++) {
            cross_put(f, (int64_t)way_bytes(&c[i].in[k]));
            fwrite(c[i].in[k].data, 1, way_bytes(&c[i].in[k]), f);
        }
        for (int k = 0; k < c[i].nout; k++) cross_put(f, (int64_t)way_bytes(&out[i][k]));
    }
    return fclose(f) == 0;
}

static ig_status cross_read(const way_case *c, int n, ir_tensor *const *out) {
    char path[128];
    snprintf(path, sizeof path, "%s/out", cross_dir);
    FILE *f = fopen(path, "rb");
    ig_status s = f ? NULL : rt_fail(A(), IG_IO, "%s cannot be read", path);
    for (int i = 0; i < n && !s; i++) {
        int64_t code = -1;
        if (fread(&code, sizeof code, 1, f) != 1 || code)
            s = rt_fail(A(), IG_INTERNAL, "binding %d: the deployed program returned %lld", i,
                        (long long)code);
        for (int k = 0; k < c[i].nout && !s; k++) {
            size_t bytes = way_bytes(&out[i][k]) + 64;
            if (fread(out[i][k].data, 1, bytes, f) != bytes)
                s = rt_fail(A(), IG_INTERNAL, "binding %d: output %d is cut off", i, k);
        }
    }
    if (f) fclose(f);
    return s;
}

ig_status cross_run(const way_case *c, int n, ir_tensor *const *out) {
    char line[512], path[128];
    cg_bytes object = {0};
    ig_status s = cg_build(c->module, c->f->name, "m", cg_cpu_find("aarch64"), &object);
    if (s) return s;
    snprintf(path, sizeof path, "%s/m.o", cross_dir);
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(object.data, 1, object.n, f) == object.n;
    if (f && fclose(f)) ok = false;
    cg_bytes_free(&object);
    if (!ok || !cross_write(c, n, out)) return rt_fail(A(), IG_IO, "%s: cannot write", cross_dir);
    snprintf(line, sizeof line, "cd %s && %s -static -o m driver.o m.o && %s ./m <in >out",
             cross_dir, cross_linker, cross_qemu);
    if (!cross_shell(line))
        return rt_fail(A(), IG_INTERNAL, "the object cannot be linked or does not run");
    return cross_read(c, n, out);
}
