/* build.c - `ingot build`: a module becomes an object file and a header. */
#include "codegen/header.h"
#include "codegen/target.h"
#include "frontend/cli/cli.h"
#include "runtime/base/container.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* The level to build for: by name, `host`, or the baseline of this architecture for the module's
 * class. */
static ig_status build_target(const ir_module *m, const char *name, const cg_cpu **out_) {
    const cg_cpu *cpu = NULL;
    if (name && strcmp(name, "host")) {
        cpu = cg_cpu_find(name);
        if (!cpu) {
            ig_status s =
                rt_fail(m->alloc, IG_INVALID, "there is no cpu level '%s'; the levels are:", name);
            for (const cg_cpu *c = cg_cpu_tab; c->name; c++)
                rt_status_note(s, "%-8s %s", c->name, c->triple);
            return s;
        }
    } else if (name)
        cpu = cg_cpu_host(m->class);
    else
        for (const cg_cpu *c = cg_cpu_tab; c->name && !cpu; c++)
            if (c->arch == rt_cpu_arch() && c->class == m->class) cpu = c;
    if (!cpu)
        return rt_fail(m->alloc, IG_UNSUPPORTED,
                       "no cpu level of this machine serves the module; use --cpu");
    if (!cg_cpu_serves(cpu, m->class))
        return rt_fail(
            m->alloc, IG_UNSUPPORTED,
            "a build for %s, which has no fused multiply-add, needs a module of class nofma; "
            "this one is of class fma: trace it with class nofma",
            cpu->name);
    *out_ = cpu;
    return NULL;
}

/* The default prefix: the file's name without folder and ending, made an identifier. */
static void build_prefix(const char *path, char *out, size_t size) {
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    size_t n = strcspn(base, ".");
    if (n >= size) n = size - 1;
    memcpy(out, base, n);
    out[n] = 0;
    for (char *c = out; *c; c++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_", *c))
            *c = '_';
    if (!cg_is_identifier(out)) snprintf(out, size, "m");
}

static ig_status build_write(const ig_allocator *a, const char *dir, const char *prefix,
                             const char *ending, const void *bytes, size_t n) {
    rt_str path;
    rt_str_init(&path, a);
    rt_str_printf(&path, "%s/%s.%s", dir, prefix, ending);
    ig_status s = path.failed ? rt_fail_memory() : rt_file_write(a, path.data, bytes, n);
    if (!s) printf("%s  %zu bytes\n", path.data, n);
    rt_str_free(&path);
    return s;
}

static ig_status build_all(const ir_module *m, const char *entry_name, const char *dir,
                           const char *prefix, const char *level) {
    const cg_cpu *cpu = NULL;
    const ir_func *entry;
    RT_TRY(build_target(m, level, &cpu));
    RT_TRY(cli_entry(m, entry_name, &entry));
    if (mkdir(dir, 0777) && errno != EEXIST)
        return rt_fail(m->alloc, IG_IO, "cannot make the folder %s: %s", dir, strerror(errno));
    cg_bytes object = {0};
    rt_str header;
    rt_str_init(&header, m->alloc);
    ig_status s = cg_build(m, entry->name, prefix, cpu, &object);
    if (!s) s = cg_header(m, entry->name, prefix, cpu, &header);
    if (!s) s = build_write(m->alloc, dir, prefix, "o", object.data, object.n);
    if (!s) s = build_write(m->alloc, dir, prefix, "h", rt_str_text(&header), header.n);
    rt_str_free(&header);
    cg_bytes_free(&object);
    return s;
}

int cli_build(int argc, char **argv) {
    cli_option o[] = {{"output", 'o', true, NULL, false},
                      {"cpu", 0, true, NULL, false},
                      {"name", 'n', true, NULL, false},
                      {"entry", 'e', true, NULL, false}};
    int n = cli_options(argc, argv, o, 4);
    if (n < 0) return CLI_USAGE;
    if (n != 1) return cli_usage("build", "give one module");
    if (!o[0].given) return cli_usage("build", "say where to write: -o DIR");
    char prefix[64];
    build_prefix(argv[1], prefix, sizeof prefix);
    const char *name = o[2].given ? o[2].value : prefix;
    if (!cg_is_identifier(name))
        return cli_usage("build", "'%s' cannot be part of a C name; choose another with --name",
                         name);
    ir_module *m;
    ig_status s = cli_load(argv[1], &m);
    if (s) return cli_fail(s);
    s = build_all(m, o[3].value, o[0].value, name, o[1].value);
    ir_module_free(m);
    return s ? cli_fail(s) : CLI_OK;
}
