/* compile.c - how long compiling takes: one elementwise kernel, a softmax, a matrix product, and a
 * network of 100 kernels; cold, and from the cache of compiled images.
 *
 * The network has 50 elementwise kernels, 25 gelu, 20 softmax and 5 products; no two are equal, as
 * each has a shape of its own.  A cold compile is everything from the traced module to mapped
 * code, with the cache off, in a process that has compiled before: opening LLVM is not counted.
 * The ways take turns, round by round.
 *
 *     bench/compile [rounds]      Markdown on stdout: medians of wall time, and of processor time
 */
#include <ingot/ingot.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_ROUNDS = 101, MAX_PARTS = 128, MAX_IN = 2 * MAX_PARTS };

typedef enum part { PART_ELEMENTWISE, PART_GELU, PART_SOFTMAX, PART_MATMUL } part;

/* A program: its parts, each with shapes of its own. */
typedef struct program {
    const char *name;
    int count[4];             /* by part */
    double goal, cached_goal; /* ms; 0: none */
} program;

static const program programs[] = {
    {"elementwise", {1, 0, 0, 0}, 2, 0},
    {"softmax", {0, 0, 1, 0}, 5, 0},
    {"matrix product", {0, 0, 0, 1}, 6, 0},
    {"100 kernels", {50, 25, 20, 5}, 150, 2},
};

/* --- Programs --- */

static void run_part(part p, int k, ig_tensor *const *in, ig_tensor **out) {
    switch (p) {
    case PART_ELEMENTWISE:
        out[0] = k % 2 ? ig_add(ig_mul(in[0], in[1]), in[0])
                       : ig_maximum(ig_sub(in[0], in[1]), ig_mul(in[1], 0.5));
        break;
    case PART_GELU: out[0] = ig_gelu(ig_add(in[0], in[1])); break;
    case PART_SOFTMAX: out[0] = ig_softmax(in[0], -1); break;
    case PART_MATMUL: out[0] = ig_matmul(in[0], in[1]); break;
    }
}

static void run_program(void *user, ig_tensor *const *in, ig_tensor **out) {
    const program *p = user;
    for (int kind = 0; kind < 4; kind++)
        for (int k = 0; k < p->count[kind]; k++, in += 2) run_part((part)kind, k, in, out++);
}

static ig_tensor *make_input(int64_t rows, int64_t columns) {
    return ig_full(IG_f32, IG_DIMS(rows, columns), 0.5);
}

/* Two inputs a part. */
static int make_inputs(const program *p, ig_tensor **in) {
    int n = 0;
    for (int kind = 0; kind < 4; kind++)
        for (int k = 0; k < p->count[kind]; k++) {
            int64_t rows = 8 + n / 2, columns = 64 + 16 * (n / 2);
            in[n++] = make_input(rows, columns);
            in[n++] = kind == PART_MATMUL ? make_input(columns, 512) : make_input(rows, columns);
        }
    return n;
}

/* --- Measuring --- */

typedef enum way { WAY_COLD, WAY_CACHED, WAYS } way;
static const char *const way_name[] = {"cold", "cached"};

static double seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void set_way(way w) { setenv("IG_CACHE", w == WAY_CACHED ? "1" : "0", 1); }

static int compare(const void *x, const void *y) {
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, compare);
    return x[n / 2];
}

static ig_status measure(const program *p, int rounds) {
    static double wall[WAYS][MAX_ROUNDS], work[WAYS][MAX_ROUNDS];
    ig_tensor *in[MAX_IN];
    ig_module *m = NULL;
    int nin = make_inputs(p, in), nout = nin / 2;
    ig_trace_options options = {.name = "bench"};
    ig_status s = ig_trace(run_program, (void *)(uintptr_t)p, nin, in, nout, &options, &m);
    set_way(WAY_CACHED);
    if (!s) s = ig_module_compile(m, NULL); /* fills the cache */
    for (int r = 0; r < rounds && !s; r++)
        for (int w = 0; w < WAYS && !s; w++) {
            set_way((way)w);
            double from = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
            s = ig_module_compile(m, NULL);
            wall[w][r] = 1e3 * (seconds(CLOCK_MONOTONIC) - from);
            work[w][r] = 1e3 * (seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
        }
    for (int w = 0; w < WAYS && !s; w++) {
        double goal = w == WAY_CACHED ? p->cached_goal : p->goal;
        printf("| %s | %s | %.2f | %.2f |", p->name, way_name[w], median(wall[w], rounds),
               median(work[w], rounds));
        if (goal > 0) printf(" %.0f", goal);
        printf(" |\n");
    }
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
    int rounds = argc > 1 ? atoi(argv[1]) : 21;
    if (rounds < 1 || rounds > MAX_ROUNDS)
        return fprintf(stderr, "usage: compile [rounds, 1 to %d]\n", MAX_ROUNDS), 2;
    char dir[] = "/tmp/ingot-bench-XXXXXX";
    if (!mkdtemp(dir)) return perror("mkdtemp"), 1;
    setenv("IG_CACHE_DIR", dir, 1);
    printf("%d rounds; milliseconds, medians\n\n", rounds);
    printf("| program | way | wall | processor | goal |\n|---|---|---|---|---|\n");
    ig_status s = NULL;
    for (size_t k = 0; k < sizeof programs / sizeof *programs && !s; k++)
        s = measure(&programs[k], rounds);
    if (s) fprintf(stderr, "%s\n", ig_status_text(s));
    drop_folder(dir);
    return s != NULL;
}
