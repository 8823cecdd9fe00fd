/* rows.c PROGRAM [ROWS LENGTH] - a row kernel beside a copy of the same bytes.
 *
 * The program is traced, built as an object, linked and run on the process's threads (IG_THREADS,
 * see ingot/threads.h), in turn with the C library's memcpy of input to output on the same
 * threads.  Prints the medians in milliseconds and the ratio: 1 is the speed of the copy. */
#include "bench/contender.h"
#include "bench/deploy.h"
#include "ingot/threads.h"
#include <unistd.h>

enum { ROUNDS = 31 };

/* --- Programs ------------------------------------------------------------------------------- */

static ig_tensor *layer_norm(ig_tensor *x) {
    ig_tensor *off = ig_sub(x, ig_mean(x, IG_KEEP(-1)));
    ig_tensor *var = ig_mean(ig_mul(off, off), IG_KEEP(-1));
    return ig_mul(off, ig_rsqrt(ig_add(var, 1e-5)));
}

static ig_tensor *rms_norm(ig_tensor *x) {
    return ig_mul(x, ig_rsqrt(ig_add(ig_mean(ig_mul(x, x), IG_KEEP(-1)), 1e-6)));
}

static ig_tensor *chain(ig_tensor *x) {
    for (int i = 0; i < 10; i++) x = ig_add(ig_mul(x, 0.9), 0.1 * i);
    return x;
}

static void record(void *user, ig_tensor *const *in, ig_tensor **out) {
    const char *name = user;
    if (!strcmp(name, "softmax")) out[0] = ig_softmax(in[0], -1);
    if (!strcmp(name, "log_softmax")) out[0] = ig_log_softmax(in[0], -1);
    if (!strcmp(name, "softmax_columns")) out[0] = ig_softmax(in[0], 0);
    if (!strcmp(name, "layer_norm")) out[0] = layer_norm(in[0]);
    if (!strcmp(name, "gelu_layer_norm")) out[0] = layer_norm(ig_gelu(in[0]));
    if (!strcmp(name, "rms_norm")) out[0] = rms_norm(in[0]);
    if (!strcmp(name, "sum")) out[0] = ig_sum(in[0], IG_ALL_AXES);
    if (!strcmp(name, "sum_rows")) out[0] = ig_sum(in[0], IG_AXES(-1));
    if (!strcmp(name, "sum_columns")) out[0] = ig_sum(in[0], IG_AXES(0));
    if (!strcmp(name, "max_columns")) out[0] = ig_max(in[0], IG_AXES(0));
    if (!strcmp(name, "chain")) out[0] = chain(in[0]); /* 20 ops */
}

/* --- Measuring ------------------------------------------------------------------------------ */

/* Milliseconds. */
static double now(void) { return 1e3 * bench_now(); }

/* Rows [lo, hi) of dims[0] elements. */
static void copy_rows(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi) {
    size_t n = (size_t)dims[0];
    memcpy((float *)bufs[1] + (size_t)lo * n, (const float *)bufs[0] + (size_t)lo * n,
           (size_t)(hi - lo) * n * sizeof(float));
}

int main(int argc, char **argv) {
    static double ours[ROUNDS], copy[ROUNDS];
    char dir[] = "/tmp/ingot-rows-XXXXXX";
    int64_t rows = argc > 3 ? atoll(argv[2]) : 16384, length = argc > 3 ? atoll(argv[3]) : 1024;
    if (argc < 2 || rows < 1 || length < 1 || !mkdtemp(dir)) {
        fprintf(stderr, "usage: %s PROGRAM [ROWS LENGTH]\n", argv[0]);
        return 2;
    }
    ig_tensor *x = ig_normal(NULL, IG_f32, IG_DIMS(rows, length), 0, 1);
    run_fn *run = deploy(record, argv[1], 1, &x, 1, dir, NULL);
    size_t bytes = ((size_t)(rows * length) * sizeof(float) + 63) / 64 * 64;
    void *in = aligned_alloc(64, bytes), *out = aligned_alloc(64, bytes);
    void *ws = aligned_alloc(64, 1 << 20);
    rmdir(dir);
    if (!run || !in || !out || !ws) return 1;
    ig_status s = ig_read(x, in, (size_t)(rows * length) * sizeof(float));
    if (s) return fprintf(stderr, "%s\n", ig_status_text(s)), 1;
    memset(out, 0, bytes);
    const ig_exec *exec = ig_pool_exec();
    for (int k = 0; k < ROUNDS; k++) {
        double start = now();
        exec->run(exec, copy_rows, (void *const[]){in, out}, &length, rows, INT64_MAX);
        copy[k] = now() - start;
        start = now();
        run((const void *const[]){in}, (void *const[]){out}, NULL, ws, exec);
        ours[k] = now() - start;
    }
    qsort(ours, ROUNDS, sizeof *ours, bench_by_value);
    qsort(copy, ROUNDS, sizeof *copy, bench_by_value);
    printf("%-16s %8.3f ms  copy %8.3f ms  ratio %.2f\n", argv[1], ours[ROUNDS / 2],
           copy[ROUNDS / 2], copy[ROUNDS / 2] / ours[ROUNDS / 2]);
    free(in), free(out), free(ws);
    return 0;
}
