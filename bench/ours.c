/* ours.c - this library in the benchmarks: a row is traced, compiled, saved, loaded and run as a
 * deployed program would (ig_program_run on the pool); `add` and products with `:e` are eager.
 * Public headers only. */
#include "bench/contender.h"
#include "ingot/ingot.h"
#include "ingot/runtime.h"
#include "ingot/threads.h"
#include <unistd.h>

typedef struct job {
    const bench_row *row;
    ig_program *program;
    const void *in[4];
    void *out[1], *ws;
    const ig_exec *exec;     /* NULL: one thread */
    ig_tensor *x, *y, *w[4]; /* eager operands; weights */
} job;

static void ours_must(ig_status s) {
    if (!s) return;
    fprintf(stderr, "%s\n", ig_status_text(s));
    exit(1);
}

static ig_tensor *ours_gemm(const bench_row *r, ig_tensor *a, ig_tensor *b) {
    int m = r->batch > 1;
    ig_axes swap = m ? IG_AXES(0, 2, 1) : IG_AXES(1, 0);
    if (r->ta) a = ig_transpose(a, swap);
    if (r->tb) b = ig_transpose(b, swap);
    return ig_matmul(a, b);
}

/* Twenty elementwise ops. */
static ig_tensor *ours_chain(ig_tensor *x, ig_tensor *y) {
    ig_tensor *t = x;
    for (int i = 0; i < 5; i++) t = ig_maximum(ig_sub(ig_add(ig_mul(t, y), x), y), x);
    return t;
}

static ig_tensor *ours_layernorm(ig_tensor *x) {
    ig_tensor *c = ig_sub(x, ig_mean(x, IG_KEEP(-1)));
    ig_tensor *v = ig_mean(ig_square(c), IG_KEEP(-1));
    return ig_mul(c, ig_rsqrt(ig_add(v, 1e-5)));
}

static ig_tensor *ours_rmsnorm(ig_tensor *x) {
    return ig_mul(x, ig_rsqrt(ig_add(ig_mean(ig_square(x), IG_KEEP(-1)), 1e-5)));
}

static ig_tensor *ours_digits(const job *j, ig_tensor *x) {
    ig_tensor *h = ig_relu(ig_add(ig_matmul(x, j->w[0]), j->w[1]));
    return ig_softmax(ig_add(ig_matmul(h, j->w[2]), j->w[3]), -1);
}

/* A layer with its residual connection: gelu(x w + b) + y. */
static ig_tensor *ours_dense(const job *j, ig_tensor *x, ig_tensor *y) {
    return ig_add(ig_gelu(ig_add(ig_matmul(x, j->w[0]), j->w[1])), y);
}

static void record(void *user, ig_tensor *const *in, ig_tensor **out) {
    const job *j = user;
    const bench_row *r = j->row;
    out[0] = bench_is(r, "gemm")        ? ours_gemm(r, in[0], r->w ? j->w[0] : in[1])
                    : bench_is(r, "gemv") ? ig_matmul(r->w ? j->w[0] : in[0], in[!r->w])
             : bench_is(r, "dense")     ? ours_dense(j, in[0], in[1])
             : bench_is(r, "chain")     ? ours_chain(in[0], in[1])
             : bench_is(r, "sum")       ? ig_sum(in[0], IG_ALL_AXES)
             : bench_is(r, "argmax")    ? ig_argmax(in[0], 0)
             : bench_is(r, "softmax")   ? ig_softmax(in[0], -1)
             : bench_is(r, "layernorm") ? ours_layernorm(in[0])
             : bench_is(r, "rmsnorm")   ? ours_rmsnorm(in[0])
                                        : ours_digits(j, in[0]);
}

static ig_tensor *ours_tensor(ig_dims d) {
    int64_t n = 1;
    for (int i = 0; i < d.n; i++) n *= d.d[i];
    float *p = bench_floats(n);
    ig_tensor *t = ig_tensor_from(IG_f32, d, p);
    free(p);
    return ig_keep(t);
}

static ig_dims ours_matrix(int64_t batch, int64_t rows, int64_t cols) {
    return batch > 1 ? IG_DIMS(batch, rows, cols) : IG_DIMS(rows, cols);
}

/* Example arguments of a row; how many, or 0 for an unknown row. */
static int ours_arguments(job *j, ig_tensor **in, int64_t *out_) {
    const bench_row *r = j->row;
    int64_t m = r->n[0], n = r->n[1], k = r->n[2], b = r->batch;
    *out_ = m * n;
    if (bench_is(r, "gemm")) {
        in[0] = ours_tensor(r->ta ? ours_matrix(b, k, m) : ours_matrix(b, m, k));
        in[1] = ours_tensor(r->tb ? ours_matrix(b, n, k) : ours_matrix(b, k, n));
        if (r->w) j->w[0] = ig_name(in[1], "w");
        *out_ *= b;
        return 2 - r->w;
    }
    if (bench_is(r, "dense")) {
        in[0] = ours_tensor(IG_DIMS(m, k)), in[1] = ours_tensor(IG_DIMS(m, n));
        j->w[0] = ig_name(ours_tensor(IG_DIMS(k, n)), "w");
        j->w[1] = ig_name(ours_tensor(IG_DIMS(n)), "b");
        return 2;
    }
    if (bench_is(r, "gemv")) { /* m x n matrix */
        ig_tensor *a = ours_tensor(IG_DIMS(m, n)), *x = ours_tensor(IG_DIMS(n));
        if (r->w) j->w[0] = ig_name(a, "w");
        in[0] = r->w ? x : a, in[1] = x;
        *out_ = m;
        return 2 - r->w;
    }
    if (bench_is(r, "chain")) {
        in[0] = ours_tensor(IG_DIMS(m)), in[1] = ours_tensor(IG_DIMS(m));
        return 2;
    }
    if (bench_is(r, "sum") || bench_is(r, "argmax")) {
        in[0] = ours_tensor(IG_DIMS(m));
        *out_ = 2; /* an index has 8 bytes */
        return 1;
    }
    if (bench_is(r, "digits")) {
        static const char *const name[] = {"w1", "b1", "w2", "b2"};
        const ig_dims dims[] = {IG_DIMS(64, 64), IG_DIMS(64), IG_DIMS(64, 10), IG_DIMS(10)};
        for (int i = 0; i < 4; i++) j->w[i] = ig_name(ours_tensor(dims[i]), name[i]);
        in[0] = ours_tensor(IG_DIMS(m, 64));
        *out_ = m * 10;
        return 1;
    }
    if (!bench_is(r, "softmax") && !bench_is(r, "layernorm") && !bench_is(r, "rmsnorm")) return 0;
    in[0] = ours_tensor(IG_DIMS(m, n));
    return 1;
}

static void ours_prepare(job *j) {
    ig_tensor *in[2];
    int64_t out = 0;
    int nin = ours_arguments(j, in, &out);
    char path[] = "/tmp/ingot-bench-XXXXXX";
    ig_module *m = NULL;
    size_t bytes = 0;
    ig_trace_options rows = {.dims = "[M,_], [_,_]; M in 1..65536"};
    if (!nin || (j->row->d && (!bench_is(j->row, "gemm") || j->row->ta || j->row->batch > 1)))
        exit(BENCH_SKIP);
    if (j->row->w) rows.dims = "[M,_]; M in 1..65536";
    int fd = mkstemp(path);
    if (fd < 0) exit(1);
    close(fd);
    ours_must(ig_trace(record, j, nin, in, 1, j->row->d ? &rows : NULL, &m));
    ours_must(ig_module_compile(m, getenv("BENCH_LEVEL")));
    printf("info isa %s\n", ig_module_get_info(m).level);
    ours_must(ig_module_save(m, path));
    ours_must(ig_program_load(path, &j->program));
    unlink(path);
    for (int i = 0; i < nin; i++) j->in[i] = ig_data(in[i]);
    j->out[0] = bench_floats(out);
    ours_must(ig_program_workspace(j->program, j->row->n, &bytes));
    j->ws = aligned_alloc(64, (bytes + 127) / 64 * 64);
    if (!j->ws) exit(1);
    if (bench_threads() > 1) j->exec = ig_pool_exec();
    ig_module_free(m);
}

static void ours_run(void *user) {
    job *j = user;
    ig_status s = ig_program_run(j->program, j->in, j->out, j->row->n, j->ws, j->exec);
    if (s) ours_must(s);
}

static void ours_add(void *user) {
    job *j = user;
    ig_free(ig_add(j->x, j->y));
}

static void ours_product(void *user) {
    job *j = user;
    ig_free(ours_gemm(j->row, j->x, j->y));
}

int main(int argc, char **argv) {
    bench_row r = bench_parse(argc, argv);
    job j = {.row = &r};
    printf("info version %s\n", ig_version());
    if (bench_is(&r, "add")) {
        j.x = ours_tensor(IG_DIMS(r.n[0])), j.y = ours_tensor(IG_DIMS(r.n[0]));
        return bench_run(ours_add, &j);
    }
    if (r.e) {
        ig_tensor *in[2];
        int64_t out;
        if (!bench_is(&r, "gemm") || ours_arguments(&j, in, &out) != 2) return BENCH_SKIP;
        j.x = in[0], j.y = in[1];
        return bench_run(ours_product, &j);
    }
    ours_prepare(&j);
    return bench_run(ours_run, &j);
}
