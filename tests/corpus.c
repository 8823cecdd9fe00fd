/* corpus.c - the fixed corpus: programs whose output hashes are committed for each class.
 *
 * Every tests/corpus/NAME.ir runs on every way of ways.c and, where the tools are here, as a
 * deployed aarch64 object under qemu-user; the hash of each output must be the one that
 * tests/corpus/hashes has for the program and its class.  So a change of any bit, on any way, at
 * any time, shows, the reference's own included.  IG_BLESS=1 rewrites the hashes, from the
 * reference only.
 *
 * The head of a program says what it runs on:
 *
 *     ; data plain      ordinary numbers in [-2, 2); `wide`: any bits; else (`mixed`) ordinary
 *                       numbers with special ones among them
 *     ; dims B=7 N=33   values of its dynamic dims; one run a line, all of them in one hash
 *
 * Neither the inputs nor the hash are taken from code that may change for other reasons: a change
 * there would change every hash and hide what else did. */
#include "tests/cross.h"
#include "tests/gen.h"
#include "tests/ways.h"
#include "runtime/base/container.h"
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PORTS = 64, BINDINGS = 8, NAMES = 200, MAX_FILE = 1 << 20 };
static const char corpus_folder[] = "tests/corpus", corpus_hashes[] = "tests/corpus/hashes";
static int corpus_passed, corpus_failed, corpus_skipped;

static const ig_allocator *A(void) { return ig_allocator_default(); }
static const char *const corpus_class[] = {"fma", "nofma"};

/* One run of a program: its inputs and, for the way in hand, its outputs. */
typedef struct binding {
    int64_t symbols[PORTS];
    ir_tensor in[PORTS], want[PORTS], got[PORTS];
} binding;

typedef struct program {
    const char *name;
    char *text;
    ir_module *m;
    const ir_func *f;
    int nin, nout, n; /* n bindings */
    binding *b;
} program;

static int corpus_fail(const program *p, int cls, const char *way, const char *why) {
    printf("FAIL %s, class %s, way %s: %s\n", p->name, corpus_class[cls], way, why);
    return corpus_failed++;
}

static int corpus_fail_status(const program *p, int cls, const char *way, ig_status s) {
    int n = corpus_fail(p, cls, way, ig_status_text(s));
    ig_status_free(s);
    return n;
}

/* --- Inputs --------------------------------------------------------------------------------- */

static double fill_float(gen *g, const char *kind) {
    static const double special[] = {0.0,     -0.0,    1.0,  -1.0,     0.5,       1e-40,
                                     -1e-310, 1e30,    NAN,  INFINITY, -INFINITY, 65504.0,
                                     1e300,   -3.4e38, 1e-7, 100.0,    3.0,       88.5};
    double plain = ldexp((double)(gen_u64(g) >> 11), -51) - 2.0; /* a full mantissa of f64 */
    if (!strcmp(kind, "plain") || gen_below(g, 6)) return plain;
    return special[gen_below(g, sizeof special / sizeof *special)];
}

static void fill(gen *g, const char *kind, ig_dtype d, int64_t n, void *out) {
    size_t size = rt_dtype_bytes(d);
    for (int64_t i = 0; i < n; i++) {
        uint64_t bits = gen_u64(g);
        if (rt_is_float(d) && (strcmp(kind, "wide") || gen_below(g, 2))) {
            double x = fill_float(g, kind);
            float f = (float)x;
            uint16_t h = d == IG_f16 ? rt_f64_to_f16(x) : rt_f64_to_bf16(x);
            memcpy(&bits, d == IG_f64 ? (void *)&x : d == IG_f32 ? (void *)&f : (void *)&h, size);
        } else if (!rt_is_float(d) && gen_below(g, 3)) {
            bits = gen_below(g, 17) - 8;
        } else if (!rt_is_float(d) && !gen_below(g, 3)) {
            bits = (uint64_t)1 << (8 * size - 1);
        }
        if (d == IG_bool) bits &= 1;
        memcpy((char *)out + (size_t)i * size, &bits, size);
    }
    ir_canon_nan(d, out, n);
}

static uint64_t fnv(uint64_t h, const void *bytes, size_t n) { /* FNV-1a, 64 bits */
    for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3u;
    return h;
}
#define FNV_START 0xcbf29ce484222325u

/* --- Programs ------------------------------------------------------------------------------- */

/* The values of a line `; dims B=7 N=33`; the count of those that were understood. */
static uint32_t program_dims(const ir_module *m, const char *line, int64_t *symbols) {
    uint32_t found = 0;
    size_t end = strcspn(line, "\n");
    for (uint32_t k = 0; k < m->symbols.n; k++) {
        char key[64];
        snprintf(key, sizeof key, " %s=", m->symbols.data[k].name);
        const char *at = strstr(line, key);
        if (!at || at >= line + end) continue;
        symbols[k] = strtoll(at + strlen(key), NULL, 10);
        found++;
    }
    return found;
}

static ig_status program_inputs(program *p, binding *b, const char *kind, int number) {
    gen g = {fnv(FNV_START, p->name, strlen(p->name)) + (uint64_t)number};
    for (int k = 0; k < p->nin; k++) {
        const ir_type *t = ir_val_type(p->f, ir_param_ref(p->f, (uint32_t)k));
        b->in[k] = (ir_tensor){.dtype = t->dtype, .rank = t->rank};
        for (int i = 0; i < t->rank; i++)
            if (!ir_dim_eval(p->m, t->dim[i], b->symbols, &b->in[k].dim[i]))
                return rt_fail(A(), IG_RANGE, "a dim of parameter %d", k);
        size_t bytes = way_bytes(&b->in[k]);
        b->in[k].data = rt_alloc_buffer(A(), bytes + 64);
        if (!b->in[k].data) return rt_fail_memory();
        fill(&g, kind, t->dtype, (int64_t)(bytes / rt_dtype_bytes(t->dtype)), b->in[k].data);
    }
    return ir_bind_dims(p->f, p->nin, b->in, b->symbols);
}

static way_case program_case(const program *p, const binding *b) {
    return (way_case){.module = p->m,
                      .f = p->f,
                      .nin = p->nin,
                      .nout = p->nout,
                      .in = b->in,
                      .symbols = b->symbols};
}

static void program_free(program *p) {
    for (int i = 0; i < p->n; i++) {
        way_free_outputs(p->nin, p->b[i].in);
        way_free_outputs(p->nout, p->b[i].want);
    }
    free(p->b);
    ir_module_free(p->m);
}

/* Read the text as a module of a class, with its inputs and the reference's outputs. */
static ig_status program_make(program *p, int cls) {
    char kind[16] = "mixed";
    p->b = calloc(BINDINGS, sizeof *p->b);
    if (!p->b) return rt_fail_memory();
    RT_TRY(ir_parse(A(), p->name, p->text, strlen(p->text), &p->m));
    p->m->class = cls ? IR_CLASS_NOFMA : IR_CLASS_FMA;
    RT_TRY(ir_verify(p->m));
    p->f = ir_find_func(p->m, "f");
    if (!p->f) return rt_fail(A(), IG_INVALID, "there is no function @f");
    p->nin = (int)ir_nparam(p->f), p->nout = (int)p->f->results.n;
    if (p->nin > PORTS || p->nout > PORTS || p->m->symbols.n > PORTS)
        return rt_fail(A(), IG_INVALID, "too many parameters, results or dims");
    for (const char *l = p->text; *l == ';'; l += strcspn(l, "\n") + 1)
        if (sscanf(l, "; data %15s", kind) == 0 && !strncmp(l, "; dims ", 7)) {
            if (p->n == BINDINGS || program_dims(p->m, l, p->b[p->n].symbols) != p->m->symbols.n)
                return rt_fail(A(), IG_INVALID, "a line `; dims` is wrong, or one too many");
            p->n++;
        }
    if (!p->n && !p->m->symbols.n) p->n = 1;
    if (!p->n) return rt_fail(A(), IG_INVALID, "there is no line `; dims`");
    for (int i = 0; i < p->n; i++) RT_TRY(program_inputs(p, &p->b[i], kind, i));
    return NULL;
}

/* --- Ways ----------------------------------------------------------------------------------- */

static uint64_t corpus_hash(const program *p, ir_tensor *const *out) {
    uint64_t h = FNV_START;
    for (int i = 0; i < p->n; i++)
        for (int k = 0; k < p->nout; k++) {
            ir_tensor *t = &out[i][k];
            size_t bytes = way_bytes(t);
            ir_canon_nan(t->dtype, t->data, (int64_t)(bytes / rt_dtype_bytes(t->dtype)));
            h = fnv(h, &t->dtype, 1);
            h = fnv(h, t->dim, (size_t)t->rank * sizeof *t->dim);
            h = fnv(h, t->data, bytes);
        }
    return h;
}

/* Eager code has no dynamic dims, no weights and no functions.  The level of this machine is the
 * way `compiled`.  Where both classes have the same bits, the second one runs on the
 * levels that the first one cannot use. */
static bool way_applies(const program *p, const way *w, int cls, bool same) {
    const cg_cpu *cpu = cg_cpu_find(w->name);
    ir_class c = cls ? IR_CLASS_NOFMA : IR_CLASS_FMA;
    if (cls && same && w != way_tab && !(cpu && cpu->class == c)) return false;
    if (cpu && (!cg_cpu_serves(cpu, c) || cpu == cg_cpu_host(c))) return false;
    if (strcmp(w->name, "eager")) return true;
    if (p->m->symbols.n || p->m->weights.n) return false;
    for (uint32_t i = 0; i < p->f->ops.n; i++)
        if (p->f->ops.data[i].code == OP_call) return false;
    return true;
}

static bool way_here(const way *w) {
    if (getenv("IG_TEST_QUICK") && strcmp(w->name, "reference") && strcmp(w->name, "eager") &&
        strcmp(w->name, "compiled"))
        return false;
    return w->available() || (!strcmp(w->name, "aarch64") && cross_available());
}

static ig_status way_run_all(const program *p, const way *w, ir_tensor *const *out) {
    way_case c[BINDINGS];
    way_kept kept = {0};
    ig_status s = NULL;
    for (int i = 0; i < p->n; i++) c[i] = program_case(p, &p->b[i]), c[i].kept = &kept;
    if (!w->available()) return cross_run(c, p->n, out);
    for (int i = 0; i < p->n && !s; i++) s = w->run(&c[i], out[i]);
    way_release(&kept);
    return s;
}

/* Where a way's outputs first differ from the reference's. */
static void corpus_where(program *p, int cls, const char *way) {
    char why[160] = "the hash differs from the committed one, as does the reference's";
    for (int i = 0; i < p->n; i++) {
        int64_t element;
        int k = way_compare(p->nout, p->b[i].want, p->b[i].got, &element);
        if (k < 0) continue;
        snprintf(why, sizeof why, "binding %d, output %d, element %lld differs from the reference",
                 i, k, (long long)element);
        break;
    }
    corpus_fail(p, cls, way, why);
}

/* Run one way; its hash must be `want`.  The reference (outputs in b->want) tells its hash. */
static void corpus_way(program *p, const way *w, int cls, uint64_t *want, bool bless) {
    bool reference = w == way_tab;
    ir_tensor *out[BINDINGS];
    ig_status s = NULL;
    for (int i = 0; i < p->n; i++) {
        way_case c = program_case(p, &p->b[i]);
        out[i] = reference ? p->b[i].want : p->b[i].got;
        if (!way_alloc_outputs(&c, out[i])) s = rt_fail_memory();
    }
    if (!s) s = way_run_all(p, w, out);
    uint64_t hash = s ? 0 : corpus_hash(p, out);
    int64_t element;
    if (s) {
        corpus_fail_status(p, cls, w->name, s);
    } else if (reference) {
        if (bless) *want = hash;
        if (hash == *want)
            corpus_passed++;
        else
            corpus_fail(p, cls, w->name,
                        *want ? "the definition itself changed: the hash is not the committed one"
                              : "no hash is committed (IG_BLESS=1 writes them)");
    } else if (hash != *want || way_compare(p->nout, p->b[0].want, p->b[0].got, &element) >= 0) {
        corpus_where(p, cls, w->name);
    } else {
        corpus_passed++;
    }
    for (int i = 0; i < p->n && !reference; i++) way_free_outputs(p->nout, p->b[i].got);
}

static void corpus_program(const char *name, char *text, int cls, uint64_t *want, bool bless,
                           int *skipped) {
    bool same = cls && want[0] == want[-1];
    program p = {.name = name, .text = text};
    ig_status s = program_make(&p, cls);
    if (s) {
        corpus_fail_status(&p, cls, "reading", s);
    } else {
        for (int k = 0; way_tab[k].name; k++) {
            if (!way_applies(&p, &way_tab[k], cls, same)) continue;
            if (way_here(&way_tab[k]))
                corpus_way(&p, &way_tab[k], cls, want, bless);
            else
                skipped[k]++;
        }
    }
    program_free(&p);
}

/* --- Files ---------------------------------------------------------------------------------- */

typedef struct entry {
    char name[64];
    uint64_t hash[2];
    bool seen;
} entry;

static entry corpus_tab[NAMES];
static int corpus_n;

static char *corpus_read(const char *path) {
    void *bytes;
    size_t n;
    ig_status s = rt_file_read(A(), path, MAX_FILE, &bytes, &n);
    char *text = s ? NULL : malloc(n + 1);
    if (text) {
        if (n) memcpy(text, bytes, n);
        text[n] = 0;
    }
    if (!s) rt_free(A(), bytes, n);
    ig_status_free(s);
    return text;
}

static void corpus_read_hashes(void) {
    char *text = corpus_read(corpus_hashes);
    for (char *l = text; l && *l && corpus_n < NAMES; l += strcspn(l, "\n"), l += *l == '\n') {
        entry *e = &corpus_tab[corpus_n];
        unsigned long long fma, nofma;
        if (sscanf(l, "%63s %llx %llx", e->name, &fma, &nofma) != 3) continue; /* a comment */
        e->hash[0] = fma, e->hash[1] = nofma;
        corpus_n++;
    }
    free(text);
}

static void corpus_write_hashes(void) {
    rt_str out;
    rt_str_init(&out, A());
    rt_str_puts(&out, "# program, hash in class fma, hash in class nofma\n");
    for (int i = 0; i < corpus_n; i++)
        if (corpus_tab[i].seen)
            rt_str_printf(&out, "%-16s %016llx %016llx\n", corpus_tab[i].name,
                          (unsigned long long)corpus_tab[i].hash[0],
                          (unsigned long long)corpus_tab[i].hash[1]);
    ig_status s = out.failed ? rt_fail_memory()
                             : rt_file_write(A(), corpus_hashes, out.data, out.n);
    if (s) printf("FAIL %s: %s\n", corpus_hashes, ig_status_text(s)), corpus_failed++;
    ig_status_free(s);
    rt_str_free(&out);
}

static entry *corpus_entry(const char *name) {
    for (int i = 0; i < corpus_n; i++)
        if (!strcmp(corpus_tab[i].name, name)) return &corpus_tab[i];
    if (corpus_n == NAMES) return NULL;
    snprintf(corpus_tab[corpus_n].name, sizeof corpus_tab->name, "%s", name);
    return &corpus_tab[corpus_n++];
}

static void corpus_file(const char *file, bool bless, int *skipped) {
    char path[512], name[64];
    snprintf(path, sizeof path, "%s/%s", corpus_folder, file);
    snprintf(name, sizeof name, "%.*s", (int)(strlen(file) - 3), file);
    char *text = corpus_read(path);
    entry *e = corpus_entry(name);
    if (!text || !e) {
        printf("FAIL %s: cannot be read\n", path), corpus_failed++;
    } else {
        e->seen = true;
        for (int cls = 0; cls < 2; cls++)
            corpus_program(e->name, text, cls, &e->hash[cls], bless, skipped);
    }
    free(text);
}

static int corpus_is_program(const struct dirent *e) {
    size_t n = strlen(e->d_name);
    return n > 3 && n < 60 && !strcmp(e->d_name + n - 3, ".ir");
}

static int by_name(const void *x, const void *y) {
    return strcmp(((const entry *)x)->name, ((const entry *)y)->name);
}

int main(int argc, char **argv) {
    struct dirent **list;
    int skipped[32] = {0}, n = scandir(corpus_folder, &list, corpus_is_program, alphasort);
    bool bless = getenv("IG_BLESS") != NULL;
    corpus_read_hashes();
    for (int i = 0; i < n; i++) {
        if (argc < 2 || !strncmp(list[i]->d_name, argv[1], strlen(argv[1])))
            corpus_file(list[i]->d_name, bless, skipped);
        free(list[i]);
    }
    if (n > 0) free(list);
    if (bless && argc < 2) {
        qsort(corpus_tab, (size_t)corpus_n, sizeof *corpus_tab, by_name);
        corpus_write_hashes();
    }
    for (int i = 0; i < corpus_n && argc < 2 && !bless; i++)
        if (!corpus_tab[i].seen)
            printf("FAIL %s: hashes of a program that is not there\n", corpus_tab[i].name),
                corpus_failed++;
    for (int k = 0; way_tab[k].name; k++)
        if (skipped[k])
            printf("skipped: %d programs on way %s, which cannot run here\n", skipped[k],
                   way_tab[k].name),
                corpus_skipped += skipped[k];
    if (n <= 0) printf("FAIL: there are no programs in %s\n", corpus_folder), corpus_failed++;
    cross_end();
    printf("%d passed, %d failed, %d skipped\n", corpus_passed, corpus_failed, corpus_skipped);
    return corpus_failed != 0;
}
