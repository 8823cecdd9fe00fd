/* onednn.c - oneDNN (version 2): its sgemm; its matmul primitive where the weight is a constant,
 * reordered once to the layout that the primitive asks for, with bias, gelu and the residual as
 * post-operations for `dense`. */
#include "bench/contender.h"
#include <dnnl.h>

typedef struct job {
    bench_row r;
    float *a, *b, *c;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t matmul;
    dnnl_exec_arg_t arg[5];
    int nargs;
} job;

static void must(dnnl_status_t s) {
    if (s == dnnl_success) return;
    fprintf(stderr, "oneDNN: status %d\n", (int)s);
    exit(1);
}

static void run(void *user) {
    job *j = user;
    int64_t m = j->r.n[0], n = j->r.n[1], k = j->r.n[2];
    for (int64_t i = 0; i < j->r.batch; i++)
        must(dnnl_sgemm(j->r.ta ? 'T' : 'N', j->r.tb ? 'T' : 'N', m, n, k, 1, j->a + i * m * k,
                        j->r.ta ? m : k, j->b + i * k * n, j->r.tb ? k : n, 0, j->c + i * m * n,
                        n));
}

static void run_matmul(void *user) {
    job *j = user;
    must(dnnl_primitive_execute(j->matmul, j->stream, j->nargs, j->arg));
    must(dnnl_stream_wait(j->stream));
}

static dnnl_memory_desc_t describe(int64_t rows, int64_t cols, dnnl_format_tag_t tag) {
    dnnl_memory_desc_t md;
    must(dnnl_memory_desc_init_by_tag(&md, 2, (dnnl_dims_t){rows, cols}, dnnl_f32, tag));
    return md;
}

static dnnl_memory_t memory(job *j, const dnnl_memory_desc_t *md, void *data) {
    dnnl_memory_t m;
    must(dnnl_memory_create(&m, md, j->engine, data));
    return m;
}

static void argument(job *j, int id, const dnnl_memory_desc_t *md, void *data) {
    j->arg[j->nargs++] = (dnnl_exec_arg_t){id, memory(j, md, data)};
}

/* The weight in the layout that the primitive chose. */
static void reorder(job *j, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to) {
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t p;
    dnnl_memory_t src = memory(j, from, j->b), dst = memory(j, to, DNNL_MEMORY_ALLOCATE);
    dnnl_exec_arg_t arg[] = {{DNNL_ARG_FROM, src}, {DNNL_ARG_TO, dst}};
    must(dnnl_reorder_primitive_desc_create(&pd, from, j->engine, to, j->engine, NULL));
    must(dnnl_primitive_create(&p, pd));
    must(dnnl_primitive_execute(p, j->stream, 2, arg));
    must(dnnl_stream_wait(j->stream));
    j->arg[j->nargs++] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, dst};
}

static dnnl_primitive_attr_t after(const dnnl_memory_desc_t *residual) {
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t ops;
    must(dnnl_primitive_attr_create(&attr));
    must(dnnl_post_ops_create(&ops));
    must(dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_gelu_erf, 0, 0));
    must(dnnl_post_ops_append_binary(ops, dnnl_binary_add, residual));
    must(dnnl_primitive_attr_set_post_ops(attr, ops));
    return attr;
}

static void prepare(job *j, int dense) {
    int64_t m = j->r.n[0], n = j->r.n[1], k = j->r.n[2];
    dnnl_memory_desc_t src = describe(m, k, j->r.ta ? dnnl_ba : dnnl_ab),
                       any = describe(k, n, dnnl_format_tag_any),
                       plain = describe(k, n, j->r.tb ? dnnl_ba : dnnl_ab),
                       bias = describe(1, n, dnnl_ab), dst = describe(m, n, dnnl_ab);
    dnnl_matmul_desc_t d;
    dnnl_primitive_desc_t pd;
    must(dnnl_engine_create(&j->engine, dnnl_cpu, 0));
    must(dnnl_stream_create(&j->stream, j->engine, dnnl_stream_default_flags));
    must(dnnl_matmul_desc_init(&d, &src, &any, dense ? &bias : NULL, &dst));
    must(dnnl_primitive_desc_create(&pd, &d, dense ? after(&dst) : NULL, j->engine, NULL));
    must(dnnl_primitive_create(&j->matmul, pd));
    argument(j, DNNL_ARG_SRC, &src, j->a);
    argument(j, DNNL_ARG_DST, &dst, j->c);
    reorder(j, &plain, dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0));
    if (!dense) return;
    argument(j, DNNL_ARG_BIAS, &bias, bench_floats(n));
    argument(j, DNNL_ARG_ATTR_MULTIPLE_POST_OP(1) | DNNL_ARG_SRC_1, &dst, bench_floats(m * n));
}

int main(int argc, char **argv) {
    job j = {.r = bench_parse(argc, argv)};
    int dense = bench_is(&j.r, "dense");
    if (bench_is(&j.r, "gemv")) { /* as a product with one row, or with one column */
        int64_t rows = j.r.n[0], cols = j.r.n[1];
        j.r.n[0] = j.r.w ? 1 : rows, j.r.n[1] = j.r.w ? rows : 1, j.r.n[2] = cols;
        j.r.tb = j.r.w;
    } else if (!bench_is(&j.r, "gemm") && !dense) {
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
    if (!dense && (!j.r.w || j.r.batch > 1)) return bench_run(run, &j);
    prepare(&j, dense);
    return bench_run(run_matmul, &j);
}
