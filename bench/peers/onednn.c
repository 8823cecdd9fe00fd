/* onednn.c - oneDNN: its sgemm. */
#include "bench/contender.h"
#include <dnnl.h>

typedef struct job {
    bench_row r;
    float *a, *b, *c;
} job;

static void run(void *user) {
    job *j = user;
    int64_t m = j->r.n[0], n = j->r.n[1], k = j->r.n[2];
    for (int64_t i = 0; i < j->r.batch; i++)
        if (dnnl_sgemm(j->r.ta ? 'T' : 'N', j->r.tb ? 'T' : 'N', m, n, k, 1, j->a + i * m * k,
                       j->r.ta ? m : k, j->b + i * k * n, j->r.tb ? k : n, 0, j->c + i * m * n, n))
            exit(1);
}

int main(int argc, char **argv) {
    job j = {.r = bench_parse(argc, argv)};
    if (bench_is(&j.r, "gemv")) { /* as a product with one column */
        j.r.n[2] = j.r.n[1];
        j.r.n[1] = 1;
    } else if (!bench_is(&j.r, "gemm")) {
        return BENCH_SKIP;
    }
    const dnnl_version_t *v = dnnl_version();
    int isa = (int)dnnl_get_effective_cpu_isa();
    printf("info version %d.%d.%d\ninfo isa %s (0x%x)\n", v->major, v->minor, v->patch,
           isa >= (int)dnnl_cpu_isa_avx512_core ? "AVX-512"
           : isa >= (int)dnnl_cpu_isa_avx2      ? "AVX2"
                                                : "below AVX2",
           (unsigned)isa);
    j.a = bench_floats(j.r.n[0] * j.r.n[2] * j.r.batch);
    j.b = bench_floats(j.r.n[2] * j.r.n[1] * j.r.batch);
    j.c = bench_floats(j.r.n[0] * j.r.n[1] * j.r.batch);
    return bench_run(run, &j);
}
