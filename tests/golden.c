/* golden.c - golden text tests: tests/ir/<folder>/<name>.ir, or the files named as arguments.
 *
 * A file is a first line that says what is done, the input, a line `; ---`, the expected output:
 *
 *     ; parse           parse and print
 *     ; verify          parse and verify: the error, or `ok`
 *     ; run: fold,dce   run passes and print
 *     ; run: lower      lower a planned module to kernels; also last in a list of passes, and with
 *                       a target, `fuse,memplan,lower v4` (v3 unless named)
 *     ; transform: grad; vmap 8
 *                       transformations by words (passes/words.c), and print
 *     ; exec @f         run by the reference on the input's lines `; in f32[2] = [1.0, 2.0]`
 *
 * With ` locs` at the end of its first line a file prints with locations.  Line numbers in errors
 * are those of the file.  Whatever is printed is parsed and printed again, which must give the same
 * bytes.  IG_BLESS=1 rewrites the expected parts. */
#include "codegen/target.h"
#include "ir/ir.h"
#include "ir/text.h"
#include "passes/pass.h"
#include "passes/transform.h"
#include "runtime/base/container.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN_MAX_FILE (16u << 20)
#define GOLDEN_MAX_ARGS 64

static const char golden_mark[] = "\n; ---\n";
static int golden_passed, golden_failed;

static const ig_allocator *golden_alloc(void) { return ig_allocator_default(); }

/* --- What a file asks for --------------------------------------------------------------------- */

/* Append a status as text and free it; false. */
static bool golden_error(rt_str *out, ig_status s) {
    rt_str_printf(out, "%s\n", ig_status_text(s));
    ig_status_free(s);
    return false;
}

/* Parse what was printed and print it again: the same bytes, or a line that says so. */
static void golden_again(rt_str *out, unsigned flags) {
    ir_module *m;
    rt_str again;
    ig_status s = ir_parse(golden_alloc(), "printed", rt_str_text(out), out->n, &m);
    if (s) {
        rt_str_puts(out, "; does not read back: ");
        golden_error(out, s);
        return;
    }
    rt_str_init(&again, golden_alloc());
    ir_print(m, &again, flags);
    if (again.n != out->n || memcmp(rt_str_text(&again), rt_str_text(out), out->n))
        rt_str_printf(out, "; prints differently when it is read back:\n%s", rt_str_text(&again));
    rt_str_free(&again);
    ir_module_free(m);
}

static void golden_print(const ir_module *m, rt_str *out, unsigned flags) {
    ir_print(m, out, flags);
    golden_again(out, flags);
}

static void golden_verify(const ir_module *m, rt_str *out) {
    ig_status s = ir_verify(m);
    if (s)
        golden_error(out, s);
    else
        rt_str_puts(out, "ok\n");
}

/* Cut `lower` or `lower LEVEL` off the end of a list of passes: the target, or NULL. */
static const cg_cpu *golden_target(char *passes) {
    char *last = strrchr(passes, ',');
    char *word = last ? last + 1 : passes;
    size_t n = strlen("lower");
    if (strncmp(word, "lower", n) || (word[n] && word[n] != ' ')) return NULL;
    const cg_cpu *cpu = cg_cpu_find(word[n] ? word + n + 1 : "v3");
    if (cpu) *(last ? last : passes) = 0;
    return cpu; /* of an unknown level nothing is cut: there is no pass of that name */
}

static void golden_run(const ir_module *m, char *passes, rt_str *out, unsigned flags) {
    ir_module *planned = NULL, *lowered = NULL;
    const cg_cpu *cpu = golden_target(passes);
    ig_status s = ir_verify(m);
    if (!s && *passes) s = pass_run_list(passes, m, &planned);
    const ir_module *done = planned ? planned : m;
    if (!s && cpu) s = cg_lower(done, done->funcs.data[done->funcs.n - 1]->name, cpu, &lowered);
    if (!s && cpu) s = ir_verify(lowered);
    if (s)
        golden_error(out, s);
    else
        golden_print(lowered ? lowered : done, out, flags);
    ir_module_free(lowered);
    ir_module_free(planned);
}

static void golden_transform(const ir_module *m, const char *words, rt_str *out, unsigned flags) {
    ir_module *done = NULL;
    ig_status s = ir_verify(m);
    if (!s) s = pass_transform(words, m, &done);
    if (s)
        golden_error(out, s);
    else
        golden_print(done, out, flags);
    ir_module_free(done);
}

/* The lines `; in type = data` of the input as a module whose weights are the inputs. */
static ig_status golden_inputs(const char *text, ir_module **out_) {
    rt_str s;
    int n = 0;
    rt_str_init(&s, golden_alloc());
    rt_str_puts(&s, "module inputs {\n");
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += line != text;
        if (strncmp(line, "; in ", 5)) continue;
        const char *eq = strchr(line, '='), *end = strchr(line, '\n');
        if (!eq || (end && eq > end)) continue;
        rt_str_printf(&s, "weight @in%d : %.*s\n", n++,
                      (int)((end ? end : line + strlen(line)) - line - 5), line + 5);
    }
    rt_str_puts(&s, "}\n");
    ig_status e = ir_parse(golden_alloc(), "inputs", rt_str_text(&s), s.n, out_);
    rt_str_free(&s);
    return e;
}

static ir_tensor golden_tensor(const ir_weight *w) {
    ir_tensor t = {
        .dtype = w->type.dtype, .rank = w->type.rank, .data = (void *)(uintptr_t)w->data};
    for (int i = 0; i < t.rank; i++) t.dim[i] = w->type.dim[i];
    return t;
}

static void golden_print_tensor(const ir_module *m, const ir_tensor *t, rt_str *out) {
    ir_type type = ir_tensor_type((ig_dtype)t->dtype, t->rank, t->dim);
    int64_t numel;
    size_t bytes;
    if (!ir_type_bytes(&type, &numel, &bytes)) return;
    ir_canon_nan((ig_dtype)t->dtype, t->data, numel);
    ir_type_print(m, &type, out);
    rt_str_puts(out, " = ");
    ir_print_data((ig_dtype)t->dtype, t->data, (uint64_t)numel, out, 0);
    rt_str_puts(out, "\n");
}

static size_t golden_bytes(const ir_tensor *t) {
    ir_type type = ir_tensor_type((ig_dtype)t->dtype, t->rank, t->dim);
    int64_t numel;
    size_t bytes = 0;
    return ir_type_bytes(&type, &numel, &bytes) ? bytes : 0;
}

/* Run f on the inputs and print its results. */
static ig_status golden_exec_on(const ir_func *f, const ir_module *inputs, rt_str *out) {
    int64_t symbols[GOLDEN_MAX_ARGS] = {0};
    ir_tensor in[GOLDEN_MAX_ARGS], res[GOLDEN_MAX_ARGS] = {{0}};
    int nin = (int)inputs->weights.n, nout = (int)f->results.n;
    if (nin > GOLDEN_MAX_ARGS || nout > GOLDEN_MAX_ARGS || f->module->symbols.n > GOLDEN_MAX_ARGS)
        return rt_fail(golden_alloc(), IG_UNSUPPORTED,
                       "too many inputs, results or dims for a golden test");
    for (int i = 0; i < nin; i++) in[i] = golden_tensor(&inputs->weights.data[i]);
    ig_status s = ir_bind_dims(f, nin, in, symbols);
    for (int i = 0; i < nout && !s; i++) {
        s = ir_result_shape(f, symbols, (uint32_t)i, &res[i]);
        if (!s) res[i].data = rt_alloc_buffer(golden_alloc(), golden_bytes(&res[i]) + 1);
    }
    if (!s) s = ir_ref_run(f, golden_alloc(), symbols, nin, in, nout, res);
    for (int i = 0; i < nout; i++) {
        if (!s) golden_print_tensor(f->module, &res[i], out);
        if (res[i].data) rt_free_buffer(golden_alloc(), res[i].data, golden_bytes(&res[i]) + 1);
    }
    return s;
}

static void golden_exec(const ir_module *m, const char *name, const char *text, rt_str *out) {
    ir_module *inputs = NULL;
    ig_status s = ir_verify(m);
    const ir_func *f = ir_find_func(m, name);
    if (!s && !f) s = rt_fail(golden_alloc(), IG_INVALID, "there is no function @%s", name);
    if (!s) s = golden_inputs(text, &inputs);
    if (!s) s = golden_exec_on(f, inputs, out);
    if (s) golden_error(out, s);
    ir_module_free(inputs);
}

/* Do what the first line says; the outcome goes to out. */
static void golden_do(char *what, const char *name, const char *text, size_t n, rt_str *out) {
    ir_module *m;
    ig_status s = ir_parse(golden_alloc(), name, text, n, &m);
    if (s) {
        golden_error(out, s);
        return;
    }
    char *locs = strstr(what, " locs");
    unsigned flags = locs ? IR_PRINT_LOCS : 0;
    if (locs) *locs = 0;
    if (!strncmp(what, "parse", 5))
        golden_print(m, out, flags);
    else if (!strncmp(what, "verify", 6))
        golden_verify(m, out);
    else if (!strncmp(what, "run: ", 5))
        golden_run(m, what + 5, out, flags);
    else if (!strncmp(what, "transform: ", 11))
        golden_transform(m, what + 11, out, flags);
    else if (!strncmp(what, "exec @", 6))
        golden_exec(m, what + 6, text, out);
    else
        rt_str_printf(out, "; the first line asks for nothing known: %s\n", what);
    ir_module_free(m);
}

/* --- Files ------------------------------------------------------------------------------------ */

/* Show the first line that differs. */
static void golden_show(const char *path, const char *want, const char *got) {
    int line = 1;
    const char *w = want, *g = got;
    for (size_t i = 0; want[i] && want[i] == got[i]; i++)
        if (want[i] == '\n') line++, w = want + i + 1, g = got + i + 1;
    printf("FAIL %s: line %d of the output\n  expected: %.*s\n  is:       %.*s\n", path, line,
           (int)strcspn(w, "\n"), w, (int)strcspn(g, "\n"), g);
}

/* Rewrite the expected part. */
static bool golden_bless(const char *path, const char *text, size_t n, const rt_str *out) {
    rt_str all;
    rt_str_init(&all, golden_alloc());
    rt_str_add(&all, text, n);
    rt_str_puts(&all, golden_mark);
    rt_str_add(&all, rt_str_text(out), out->n);
    ig_status s = all.failed ? rt_fail_memory()
                             : rt_file_write(golden_alloc(), path, all.data, all.n);
    if (s) printf("FAIL %s: %s\n", path, ig_status_text(s));
    bool ok = !s;
    ig_status_free(s);
    rt_str_free(&all);
    return ok;
}

/* `text` is the file with a NUL after it. */
static bool golden_check(const char *path, const char *text) {
    char what[200];
    const char *mark = strstr(text, golden_mark), *base = strrchr(path, '/');
    size_t n = mark ? (size_t)(mark - text) : strlen(text), line = strcspn(text, "\n");
    if (!mark && n && text[n - 1] == '\n') n--;
    const char *want = mark ? mark + strlen(golden_mark) : "";
    rt_str out;
    bool ok;
    if (strncmp(text, "; ", 2) || line >= sizeof what) {
        printf("FAIL %s: the first line does not say what to do\n", path);
        return false;
    }
    snprintf(what, sizeof what, "%.*s", (int)line - 2, text + 2);
    rt_str_init(&out, golden_alloc());
    char *input = malloc(n + 1); /* the input alone, ended by a NUL */
    if (!input) return false;
    memcpy(input, text, n);
    input[n] = 0;
    golden_do(what, base ? base + 1 : path, input, n, &out);
    ok = mark && !out.failed && !strcmp(want, rt_str_text(&out));
    if (!ok && getenv("IG_BLESS")) {
        ok = golden_bless(path, text, n, &out);
        if (ok) printf("blessed %s\n", path);
    } else if (!ok) {
        golden_show(path, want, rt_str_text(&out));
    }
    free(input);
    rt_str_free(&out);
    return ok;
}

static void golden_file(const char *path) {
    void *bytes;
    size_t n;
    bool ok = false;
    ig_status s = rt_file_read(golden_alloc(), path, GOLDEN_MAX_FILE, &bytes, &n);
    char *text = s ? NULL : malloc(n + 1);
    if (s) printf("FAIL %s: %s\n", path, ig_status_text(s));
    if (text) {
        if (n) memcpy(text, bytes, n);
        text[n] = 0;
        ok = golden_check(path, text);
        free(text);
    }
    if (!s) rt_free(golden_alloc(), bytes, n);
    ig_status_free(s);
    golden_passed += ok;
    golden_failed += !ok;
}

static int golden_visible(const struct dirent *e) { return e->d_name[0] != '.'; }

/* Every .ir file of a folder and its sub-folders, in the order of their names. */
static void golden_folder(const char *path, int depth) {
    struct dirent **list;
    int n = scandir(path, &list, golden_visible, alphasort);
    if (n < 0) return;
    for (int i = 0; i < n; i++) {
        char child[1024];
        const char *dot = strrchr(list[i]->d_name, '.');
        int len = snprintf(child, sizeof child, "%s/%s", path, list[i]->d_name);
        if (len < 0 || (size_t)len >= sizeof child)
            printf("skip %s: the path is too long\n", list[i]->d_name);
        else if (dot && !strcmp(dot, ".ir"))
            golden_file(child);
        else if (depth < 3)
            golden_folder(child, depth + 1);
        free(list[i]);
    }
    free(list);
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) golden_file(argv[i]);
    if (argc == 1) golden_folder("tests/ir", 0);
    if (golden_passed + golden_failed == 0)
        printf("FAIL: no golden file was found under tests/ir\n");
    printf("%d passed, %d failed, 0 skipped\n", golden_passed,
           golden_failed + (golden_passed + golden_failed == 0));
    return golden_failed || !golden_passed;
}
