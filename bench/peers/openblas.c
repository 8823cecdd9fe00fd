/* openblas.c - OpenBLAS: sgemm, sgemv. */
#include "bench/contender.h"
#include <cblas.h>

char *openblas_get_config(void);
char *openblas_get_corename(void);

typedef struct job {
    bench_row r;
    float *a, *b, *c;
} job;

static void run_gemm(void *user) {
    job *j = user;
    int m = (int)j->r.n[0], n = (int)j->r.n[1], k = (int)j->r.n[2];
    for (int64_t i = 0; i < j->r.batch; i++)
        cblas_sgemm(CblasRowMajor, j->r.ta ? CblasTrans : CblasNoTrans,
                    j->r.tb ? CblasTrans : CblasNoTrans, m, n, k, 1, j->a + i * m * k,
                    j->r.ta ? m : k, j->b + i * k * n, j->r.tb ? k : n, 0, j->c + i * m * n, n);
}

static void run_gemv(void *user) {
    job *j = user;
    int m = (int)j->r.n[0], n = (int)j->r.n[1];
    cblas_sgemv(CblasRowMajor, CblasNoTrans, m, n, 1, j->a, n, j->b, 1, 0, j->c, 1);
}

int main(int argc, char **argv) {
    job j = {.r = bench_parse(argc, argv)};
    int64_t m = j.r.n[0], n = j.r.n[1], k = j.r.n[2];
    int gemm = bench_is(&j.r, "gemm");
    if (!gemm && !bench_is(&j.r, "gemv")) return BENCH_SKIP;
    printf("info version %s\ninfo isa %s\n", openblas_get_config(), openblas_get_corename());
    j.a = bench_floats(gemm ? m * k * j.r.batch : m * n);
    j.b = bench_floats(gemm ? k * n * j.r.batch : n);
    j.c = bench_floats(m * n * j.r.batch);
    return bench_run(gemm ? run_gemm : run_gemv, &j);
}
