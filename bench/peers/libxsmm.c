/* libxsmm.c - libxsmm: its sgemm for one thread.  It is column-major: the row-major product is that
 * of the operands in the other order. */
#include "bench/contender.h"
#include <libxsmm.h>

typedef struct job {
    bench_row r;
    float *a, *b, *c;
} job;

static void run(void *user) {
    job *j = user;
    libxsmm_blasint m = (libxsmm_blasint)j->r.n[0], n = (libxsmm_blasint)j->r.n[1],
                    k = (libxsmm_blasint)j->r.n[2], lda = j->r.ta ? m : k, ldb = j->r.tb ? k : n;
    const float one = 1, zero = 0;
    for (int64_t i = 0; i < j->r.batch; i++)
        libxsmm_sgemm(j->r.tb ? "T" : "N", j->r.ta ? "T" : "N", &n, &m, &k, &one, j->b + i * k * n,
                      &ldb, j->a + i * m * k, &lda, &zero, j->c + i * m * n, &n);
}

int main(int argc, char **argv) {
    job j = {.r = bench_parse(argc, argv)};
    if (!bench_is(&j.r, "gemm") || bench_threads() > 1) return BENCH_SKIP;
    libxsmm_init();
    printf("info version %s\ninfo isa %s\n", LIBXSMM_VERSION, libxsmm_get_target_arch());
    j.a = bench_floats(j.r.n[0] * j.r.n[2] * j.r.batch);
    j.b = bench_floats(j.r.n[2] * j.r.n[1] * j.r.batch);
    j.c = bench_floats(j.r.n[0] * j.r.n[1] * j.r.batch);
    return bench_run(run, &j);
}
