/* main.c - the `ingot` program: commands, options, files. */
#include "frontend/cli/cli.h"
#include "ir/file.h"
#include "runtime/base/container.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLI_MAX_FILE ((size_t)1 << 40)

const cli_command cli_commands[] = {
    {"show", "show MODULE [--locs] [--full]", "print a module as text", cli_show},
    {"opt", "opt MODULE [--passes a,b,c] [--locs]", "run passes and print the result", cli_opt},
    {"transform", "transform MODULE \"grad 0,@w; vmap 8\" [--locs]",
     "derivatives and batching, as text", cli_transform},
    {"check", "check MODULE...", "read and verify modules", cli_check},
    {"run", "run MODULE [IN.npy...] [-o OUT.npy] [--reference]", "run on .npy inputs", cli_run},
    {"build", "build MODULE -o DIR [--cpu LEVEL] [--name N] [--entry F]",
     "native object and header", cli_build},
    {"ops", "ops [--json]", "list the operations", cli_ops},
    {"doctor", "doctor", "this machine, libraries, self-test", cli_doctor},
    {NULL, NULL, NULL, NULL},
};

int cli_fail(ig_status s) {
    fprintf(stderr, "ingot: %s\n", ig_status_text(s));
    ig_status_free(s);
    return CLI_FAILED;
}

int cli_usage(const char *command, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "ingot %s: ", command);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    for (const cli_command *c = cli_commands; c->name; c++)
        if (!strcmp(c->name, command)) fprintf(stderr, "usage: ingot %s\n", c->usage);
    return CLI_USAGE;
}

static void cli_help(FILE *out) {
    fputs("ingot " IG_VERSION_STRING " - tensor code in C, cast into native code\n\n", out);
    for (const cli_command *c = cli_commands; c->name; c++)
        fprintf(out, "  ingot %-58s %s\n", c->usage, c->doc);
    fputs("\nMODULE is an .ingot file or IR text; `-` reads standard input.  Exit: 0 done, 1 "
          "failed, 2 wrong\n"
          "usage.  Environment: IG_DUMP=fuse,kernel,llvm,asm  IG_LOG=pass,fusion,licence,leak  "
          "IG_NAN=1  IG_THREADS=n\n",
          out);
}

/* The option that argv[i] spells, or NULL; *value_ is what follows '='. */
static cli_option *cli_find_option(const char *arg, cli_option *options, int n,
                                   const char **value_) {
    *value_ = NULL;
    for (int k = 0; k < n; k++) {
        size_t len = options[k].name ? strlen(options[k].name) : 0;
        if (arg[1] == '-' && len && !strncmp(arg + 2, options[k].name, len) &&
            (!arg[2 + len] || arg[2 + len] == '=')) {
            if (arg[2 + len]) *value_ = arg + 3 + len;
            return &options[k];
        }
        if (arg[1] != '-' && options[k].letter && arg[1] == options[k].letter && !arg[2])
            return &options[k];
    }
    return NULL;
}

int cli_options(int argc, char **argv, cli_option *options, int n) {
    int at = 0;
    bool only_files = false;
    for (int i = 1; i < argc; i++) {
        if (only_files || argv[i][0] != '-' || !argv[i][1]) {
            argv[++at] = argv[i];
            continue;
        }
        if (!strcmp(argv[i], "--")) {
            only_files = true;
            continue;
        }
        const char *value;
        cli_option *o = cli_find_option(argv[i], options, n, &value);
        if (!o) return cli_usage(argv[0], "unknown option %s", argv[i]), -1;
        if (!o->takes_value && value) return cli_usage(argv[0], "--%s takes no value", o->name), -1;
        if (o->takes_value && !value) {
            if (++i == argc) return cli_usage(argv[0], "%s needs a value", argv[i - 1]), -1;
            value = argv[i];
        }
        o->value = value;
        o->given = true;
    }
    return at;
}

/* All of standard input. */
static ig_status cli_read_stdin(void **bytes_, size_t *n_) {
    rt_str s;
    rt_str_init(&s, ig_allocator_default());
    char buf[65536];
    ssize_t k;
    while ((k = read(0, buf, sizeof buf)) > 0) rt_str_add(&s, buf, (size_t)k);
    if (s.failed) return rt_str_free(&s), rt_fail_memory();
    *n_ = s.n;
    *bytes_ = rt_alloc(s.alloc, s.n ? s.n : 1);
    if (*bytes_ && s.n) memcpy(*bytes_, s.data, s.n);
    rt_str_free(&s);
    return *bytes_ ? NULL : rt_fail_memory();
}

ig_status cli_load(const char *path, ir_module **out_) {
    const ig_allocator *a = ig_allocator_default();
    void *bytes = NULL;
    size_t n = 0;
    *out_ = NULL;
    bool from_stdin = !strcmp(path, "-");
    RT_TRY(from_stdin ? cli_read_stdin(&bytes, &n)
                      : rt_file_read(a, path, CLI_MAX_FILE, &bytes, &n));
    const char *name = from_stdin ? "<stdin>" : path;
    ig_status s;
    if (n >= 5 && !memcmp(bytes, "INGOT", 5))
        s = rt_status_note(ir_load(a, bytes, n, out_), "in %s", name);
    else
        s = ir_parse(a, name, bytes ? bytes : "", n, out_);
    rt_free(a, bytes, n ? n : 1);
    if (!s && (s = ir_verify(*out_))) {
        ir_module_free(*out_);
        *out_ = NULL;
    }
    return s;
}

ig_status cli_entry(const ir_module *m, const char *name, const ir_func **out_) {
    const ir_func *last = NULL;
    if (name) {
        last = ir_find_func(m, name);
        if (!last)
            return rt_fail(m->alloc, IG_INVALID,
                           "the module has no function @%s; `ingot show` lists them", name);
    }
    for (uint32_t k = 0; !name && k < m->funcs.n; k++)
        if (m->funcs.data[k]->kind == IR_FN) last = m->funcs.data[k];
    if (!last) return rt_fail(m->alloc, IG_INVALID, "the module has no function to run");
    *out_ = last;
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 2) return cli_help(stderr), CLI_USAGE;
    const char *name = argv[1];
    if (!strcmp(name, "help") || !strcmp(name, "--help") || !strcmp(name, "-h"))
        return cli_help(stdout), CLI_OK;
    if (!strcmp(name, "--version")) return puts("ingot " IG_VERSION_STRING), CLI_OK;
    for (const cli_command *c = cli_commands; c->name; c++)
        if (!strcmp(c->name, name)) {
            if (argc > 2 && (!strcmp(argv[2], "--help") || !strcmp(argv[2], "-h")))
                return printf("usage: ingot %s\n  %s\n", c->usage, c->doc), CLI_OK;
            int code = c->run(argc - 1, argv + 1);
            if (fflush(stdout) || ferror(stdout))
                return fputs("ingot: cannot write the output\n", stderr), CLI_FAILED;
            return code;
        }
    fprintf(stderr, "ingot: unknown command '%s'; `ingot help` lists them\n", name);
    return CLI_USAGE;
}
