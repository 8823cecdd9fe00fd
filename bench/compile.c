/* compile.c - how long compiling takes: one elementwise kernel, a softmax, a matrix product with a
 * constant weight and without, and a network of 100 kernels; cold on one thread and on two, from
 * the cache of compiled images, and in a process that begins with that cache.
 *
 * The network has 50 elementwise kernels, 25 gelu, 20 softmax and 5 products; no two are equal, as
 * each has a shape of its own.  A cold compile is everything from the traced module to mapped
 * code, with the cache off, in a process that has compiled before: opening LLVM is not counted.
 * A start is a process from exec to exit, which loads the module's file, compiles and runs it.
 * The ways take turns, round by round.
 *
 *     bench/compile [rounds]          Markdown on stdout: medians of wall and of processor time
 *     bench/compile --start FILE      load, compile and run
 */
#include <ingot/ingot.h>
#include <ingot/threads.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_ROUNDS = 101, MAX_PARTS = 128, MAX_IN = 2 * MAX_PARTS };

typedef enum part {
    PART_ELEMENTWISE,
    PART_GELU,
    PART_SOFTMAX,
    PART_MATMUL,
    PART_PACKED, /* a product with a constant weight */
    PARTS
} part;

typedef enum way { WAY_ONE, WAY_TWO, WAY_CACHED, WAY_START, WAYS } way;
static const char *const way_name[] = {"cold, 1 thread", "cold, 2 threads", "cached", "start"};

/* A program: its parts, each with shapes of its own. */
typedef struct program {
    const char *name;
    int count[PARTS];
    double goal[WAYS]; /* ms; 0: none */
} program;

static const program programs[] = {
    {"elementwise", {1, 0, 0, 0, 0}, {2, 2, 0, 5}},
    {"softmax", {0, 0, 1, 0, 0}, {5, 5, 0, 5}},
    {"matrix product", {0, 0, 0, 1, 0}, {0}},
    {"GEMM, constant weight", {0, 0, 0, 0, 1}, {6, 6, 0, 5}},
    {"100 kernels", {50, 25, 20, 5, 0}, {0, 150, 2, 5}},
};

/* --- Programs --- */

static ig_tensor *weight; /* of a product with a constant one */

static void run_part(part p, int k, ig_tensor *const *in, ig_tensor **out) {
    switch (p) {
    case PART_ELEMENTWISE:
        out[0] = k % 2 ? ig_add(ig_mul(in[0], in[1]), in[0])
                       : ig_maximum(ig_sub(in[0], in[1]), ig_mul(in[1], 0.5));
        break;
    case PART_GELU: out[0] = ig_gelu(ig_add(in[0], in[1])); break;
    case PART_SOFTMAX: out[0] = ig_softmax(in[0], -1); break;
    case PART_MATMUL: out[0] = ig_matmul(in[0], in[1]); break;
    case PART_PACKED: out[0] = ig_matmul(in[0], weight); break;
    case PARTS: break;
    }
}

static void run_program(void *user, ig_tensor *const *in, ig_tensor **out) {
    const program *p = user;
    for (int kind = 0; kind < PARTS; kind++)
        for (int k = 0; k < p->count[kind]; k++, in += 2) run_part((part)kind, k, in, out++);
}

static ig_tensor *make_input(int64_t rows, int64_t columns) {
    return ig_full(IG_f32, IG_DIMS(rows, columns), 0.5);
}

/* Two inputs a part. */
static int make_inputs(const program *p, ig_tensor **in) {
    int n = 0;
    for (int kind = 0; kind < PARTS; kind++)
        for (int k = 0; k < p->count[kind]; k++) {
            int64_t rows = 8 + n / 2, columns = 64 + 16 * (n / 2);
            in[n++] = make_input(rows, columns);
            in[n++] = kind == PART_MATMUL ? make_input(columns, 512) : make_input(rows, columns);
        }
    return n;
}

/* --- Measuring --- */

extern char **environ;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Processor time of this process, or of those that it waited for. */
static double work_of(int who) {
    struct rusage u;
    getrusage(who, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static ig_status set_way(way w) {
    setenv("IG_CACHE", w == WAY_CACHED || w == WAY_START ? "1" : "0", 1);
    return ig_threads(&(ig_thread_options){.count = w == WAY_ONE ? 1 : 2});
}

/* What a process that starts does. */
static int start(const char *path, const program *p) {
    ig_tensor *in[MAX_IN], *out[MAX_PARTS];
    int nin = make_inputs(p, in);
    ig_module *m = NULL;
    ig_status s = ig_module_load(path, &m);
    if (!s) s = ig_module_compile(m, NULL);
    if (!s) s = ig_module_run(m, nin, in, nin / 2, out);
    if (s) fprintf(stderr, "%s\n", ig_status_text(s));
    ig_module_free(m);
    return s != NULL;
}

/* Start such a process and wait for it. */
static ig_status run_start(const char *path, const program *p) {
    char number[12], *argv[] = {"compile", "--start", (char *)(uintptr_t)path, number, NULL};
    int code = 1;
    pid_t pid;
    snprintf(number, sizeof number, "%d", (int)(p - programs));
    if (!posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ)) waitpid(pid, &code, 0);
    if (code) fprintf(stderr, "the process that loads %s failed\n", path);
    return NULL;
}

static int compare(const void *x, const void *y) {
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, compare);
    return x[n / 2];
}

/* One round of one way. */
static ig_status measure_once(way w, ig_module *m, const char *path, const program *p,
                              double *wall_, double *work_) {
    int who = w == WAY_START ? RUSAGE_CHILDREN : RUSAGE_SELF;
    ig_status s = set_way(w);
    double from = seconds(), work = work_of(who);
    if (!s) s = w == WAY_START ? run_start(path, p) : ig_module_compile(m, NULL);
    *wall_ = 1e3 * (seconds() - from);
    *work_ = 1e3 * (work_of(who) - work);
    return s;
}

static void report(const program *p, way w, double *wall, double *work, int rounds) {
    printf("| %s | %s | %.2f | %.2f |", p->name, way_name[w], median(wall, rounds),
           median(work, rounds));
    if (p->goal[w] > 0) printf(" %.0f", p->goal[w]);
    printf(" |\n");
}

static ig_status measure(const program *p, const char *dir, int rounds) {
    static double wall[WAYS][MAX_ROUNDS], work[WAYS][MAX_ROUNDS];
    char path[300];
    ig_tensor *in[MAX_IN];
    ig_module *m = NULL;
    int nin = make_inputs(p, in), nout = nin / 2;
    int ways = nout == 1 ? WAYS : WAY_START; /* what many kernels work is no part of a start */
    ig_trace_options options = {.name = "bench"};
    ig_status s = ig_trace(run_program, (void *)(uintptr_t)p, nin, in, nout, &options, &m);
    snprintf(path, sizeof path, "%s/bench.ingot", dir);
    if (!s) s = ig_module_save(m, path);
    if (!s) s = set_way(WAY_CACHED);
    if (!s) s = ig_module_compile(m, NULL); /* fills the cache */
    for (int r = 0; r < rounds && !s; r++)
        for (int w = 0; w < ways && !s; w++)
            s = measure_once((way)w, m, path, p, &wall[w][r], &work[w][r]);
    for (int w = 0; w < ways && !s; w++) report(p, (way)w, wall[w], work[w], rounds);
    ig_module_free(m);
    return s;
}

/* --- A folder for the cache --- */

static void drop_folder(const char *dir) {
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    if (system(command)) fprintf(stderr, "cannot remove %s\n", dir);
}

int main(int argc, char **argv) {
    const int nprogram = sizeof programs / sizeof *programs;
    weight = ig_keep(ig_name(make_input(64, 512), "w"));
    if (argc == 4 && !strcmp(argv[1], "--start"))
        return start(argv[2], &programs[atoi(argv[3]) % nprogram]);
    int rounds = argc > 1 ? atoi(argv[1]) : 21;
    if (rounds < 1 || rounds > MAX_ROUNDS)
        return fprintf(stderr, "usage: compile [rounds, 1 to %d]\n", MAX_ROUNDS), 2;
    char dir[] = "/tmp/ingot-bench-XXXXXX";
    if (!mkdtemp(dir)) return perror("mkdtemp"), 1;
    setenv("IG_CACHE_DIR", dir, 1);
    printf("%d rounds; milliseconds, medians\n\n", rounds);
    printf("| program | way | wall | processor | goal |\n|---|---|---|---|---|\n");
    ig_status s = NULL;
    for (int k = 0; k < nprogram && !s; k++) s = measure(&programs[k], dir, rounds);
    if (s) fprintf(stderr, "%s\n", ig_status_text(s));
    drop_folder(dir);
    return s != NULL;
}
