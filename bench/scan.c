/* scan.c [LEVEL] - scans of small cells beside the same loops in C.
 *
 * Each cell is traced with ig_scan, built as an object for a CPU level (the best here), linked and
 * run on one thread, in turn with a loop written by hand (this file is compiled with -O3
 * -march=native).  Prints the medians of the time a step and the ratio: 1 is the speed of C. */
#include "bench/contender.h"
#include "bench/deploy.h"
#include <math.h>
#include <unistd.h>

enum { ROUNDS = 31, STEPS = 10000 };

/* x[STEPS, n], h[n], w[n] -> the last h, and all of them. */
typedef void loop_fn(int n, const float *restrict x, const float *restrict h0,
                     const float *restrict w, float *restrict h, float *restrict ys);

/* --- Cells ---------------------------------------------------------------------------------- */

static void leaky(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *w = *(ig_tensor **)user;
    out[0] = out[1] = ig_add(ig_mul(in[0], w), in[1]);
}

static void leaky_c(int n, const float *restrict x, const float *restrict h0,
                    const float *restrict w, float *restrict h, float *restrict ys) {
    memcpy(h, h0, (size_t)n * sizeof *h);
    for (int t = 0; t < STEPS; t++)
        for (int i = 0; i < n; i++) ys[t * n + i] = h[i] = h[i] * w[i] + x[t * n + i];
}

/* A step of a gated filter: some dozen flops an element. */
static void gated(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *w = *(ig_tensor **)user, *u = ig_mul(in[0], w);
    ig_tensor *z = ig_div(in[1], ig_add(ig_abs(in[1]), 1)); /* a cheap squash */
    ig_tensor *y = ig_add(ig_mul(z, ig_sub(in[1], u)), u);
    out[0] = out[1] = ig_maximum(ig_minimum(y, 4), -4);
}

static void gated_c(int n, const float *restrict x, const float *restrict h0,
                    const float *restrict w, float *restrict h, float *restrict ys) {
    memcpy(h, h0, (size_t)n * sizeof *h);
    for (int t = 0; t < STEPS; t++)
        for (int i = 0; i < n; i++) {
            float v = x[t * n + i], u = h[i] * w[i], z = v / (fabsf(v) + 1);
            float y = z * (v - u) + u;
            y = y < 4 ? y : 4;
            ys[t * n + i] = h[i] = y > -4 ? y : -4;
        }
}

static const struct {
    const char *name;
    ig_body_fn cell;
    loop_fn *loop;
    int n;
} cases[] = {{"leaky", leaky, leaky_c, 1},    {"leaky", leaky, leaky_c, 16},
             {"leaky", leaky, leaky_c, 64},   {"leaky", leaky, leaky_c, 100},
             {"leaky", leaky, leaky_c, 1024}, {"gated", gated, gated_c, 1},
             {"gated", gated, gated_c, 64},   {"gated", gated, gated_c, 256}};

/* --- A selective state space: 256 channels of 16 states, decays and inputs that depend on the step
 */

enum { CHANNELS = 256, STATES = 16 };

/* in: h[256,16]; x[256], dt[256], b[16], c[16]. */
static void selective(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *a = *(ig_tensor **)user, *dt = ig_expand_dims(in[2], 1);
    ig_tensor *u = ig_mul(ig_expand_dims(ig_mul(in[2], in[1]), 1), in[3]);
    out[0] = ig_add(ig_mul(ig_exp(ig_mul(dt, a)), in[0]), u);
    out[1] = ig_sum(ig_mul(out[0], in[4]), 1);
}

static void selective_record(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user; /* x, dt, b, c, a, h */
    ig_tensor *a = in[4];
    ig_scan(selective, &a, 1, &in[5], 4, in, 1, NULL, out);
}

static void selective_c(float *const *in, float *restrict h, float *restrict ys) {
    const float *restrict x = in[0], *restrict dt = in[1], *restrict b = in[2];
    const float *restrict c = in[3], *restrict a = in[4];
    memcpy(h, in[5], CHANNELS * STATES * sizeof *h);
    for (int t = 0; t < STEPS; t++)
        for (int i = 0; i < CHANNELS; i++) {
            float d = dt[t * CHANNELS + i], u = d * x[t * CHANNELS + i], sum = 0;
            for (int k = 0; k < STATES; k++) {
                float *s = &h[i * STATES + k];
                *s = expf(d * a[i * STATES + k]) * *s + u * b[t * STATES + k];
                sum += *s * c[t * STATES + k];
            }
            ys[t * CHANNELS + i] = sum;
        }
}

static void record(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *w = in[2];
    ig_scan(*(const ig_body_fn *)user, &w, 1, &in[1], 1, &in[0], 1, NULL, out);
}

/* --- Measuring ------------------------------------------------------------------------------ */

/* Nanoseconds. */
static double now(void) { return 1e9 * bench_now(); }

static float *room(size_t n, uint32_t seed) {
    float *x = aligned_alloc(64, (n * sizeof *x + 63) / 64 * 64);
    for (size_t i = 0; x && i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) / (float)(1 << 24) - 0.5f;
    }
    return x;
}

static int measure(const char *name, run_fn *run, loop_fn *loop, int n) {
    static double ours[ROUNDS], theirs[ROUNDS];
    size_t all = (size_t)STEPS * (size_t)n;
    float *x = room(all, 1), *h0 = room((size_t)n, 2), *w = room((size_t)n, 3);
    float *h = room((size_t)n, 0), *ys = room(all, 0), *h2 = room((size_t)n, 0);
    float *ys2 = room(all, 0);
    void *ws = aligned_alloc(64, 1 << 20);
    const void *const in[] = {x, h0, w};
    for (int k = 0; k < ROUNDS; k++) {
        double start = now();
        loop(n, x, h0, w, h2, ys2);
        theirs[k] = now() - start;
        start = now();
        run(in, (void *const[]){h, ys}, NULL, ws, NULL);
        ours[k] = now() - start;
    }
    bool same = !memcmp(h, h2, (size_t)n * sizeof *h) && !memcmp(ys, ys2, all * sizeof *ys);
    qsort(ours, ROUNDS, sizeof *ours, bench_by_value);
    qsort(theirs, ROUNDS, sizeof *theirs, bench_by_value);
    double a = ours[ROUNDS / 2] / STEPS, b = theirs[ROUNDS / 2] / STEPS;
    printf("%-8s %5d elements  %8.2f ns a step   C %8.2f   ratio %.2f   %s\n", name, n, a, b, a / b,
           same ? "equal bits" : "other bits");
    free(x), free(h0), free(w), free(h), free(ys), free(h2), free(ys2), free(ws);
    return same ? 0 : 1;
}

static int measure_selective(run_fn *run) {
    static double ours[5], theirs[5];
    static const size_t size[] = {(size_t)STEPS * CHANNELS, (size_t)STEPS * CHANNELS,
                                  (size_t)STEPS * STATES,   (size_t)STEPS * STATES,
                                  CHANNELS * STATES,        CHANNELS * STATES};
    float *in[6], *h = room(size[4], 0), *ys = room(size[0], 0), *ys2 = room(size[0], 0);
    void *ws = aligned_alloc(64, 1 << 22);
    double most = 0;
    for (uint32_t k = 0; k < 6; k++) in[k] = room(size[k], k);
    for (size_t i = 0; i < size[1]; i++) in[1][i] = 0.1f * fabsf(in[1][i]);
    for (size_t i = 0; i < size[4]; i++) in[4][i] -= 1;
    for (int k = 0; k < 5; k++) {
        double start = now();
        selective_c(in, h, ys2);
        theirs[k] = now() - start;
        start = now();
        run((const void *const *)in, (void *const[]){h, ys}, NULL, ws, NULL);
        ours[k] = now() - start;
    }
    for (size_t i = 0; i < size[0]; i++) most = fmax(most, fabs(ys[i] - ys2[i]));
    qsort(ours, 5, sizeof *ours, bench_by_value);
    qsort(theirs, 5, sizeof *theirs, bench_by_value);
    printf(
        "selective scan, %d x %d states: %.2f us a step   C with expf %.2f   ratio %.2f   largest "
        "difference %.1e\n",
        CHANNELS, STATES, ours[2] / STEPS / 1e3, theirs[2] / STEPS / 1e3, ours[2] / theirs[2],
        most);
    for (int k = 0; k < 6; k++) free(in[k]);
    free(h), free(ys), free(ys2), free(ws);
    return most < 1e-4 ? 0 : 1;
}

int main(int argc, char **argv) {
    char dir[] = "/tmp/ingot-scan-XXXXXX";
    const char *level = argc > 1 ? argv[1] : NULL;
    size_t ncase = sizeof cases / sizeof *cases;
    int failed = 0;
    if (!mkdtemp(dir)) return 1;
    for (size_t k = 0; k < ncase; k++) {
        int n = cases[k].n;
        ig_body_fn cell = cases[k].cell;
        ig_tensor *in[3] = {ig_zeros(IG_f32, IG_DIMS(STEPS, n)), ig_zeros(IG_f32, IG_DIMS(n)),
                            ig_zeros(IG_f32, IG_DIMS(n))};
        run_fn *run = deploy(record, &cell, 3, in, 2, dir, level);
        failed |= run ? measure(cases[k].name, run, cases[k].loop, n) : 1;
    }
    ig_tensor *x = ig_zeros(IG_f32, IG_DIMS(STEPS, CHANNELS));
    ig_tensor *b = ig_zeros(IG_f32, IG_DIMS(STEPS, STATES));
    ig_tensor *h = ig_zeros(IG_f32, IG_DIMS(CHANNELS, STATES));
    run_fn *run =
        deploy(selective_record, NULL, 6, (ig_tensor *[]){x, x, b, b, h, h}, 2, dir, level);
    failed |= run ? measure_selective(run) : 1;
    rmdir(dir);
    return failed;
}
