/* test_threads.c - programs and modules on the process's threads: one pool for all of them, the
 * same bits on any number of threads. */
#include "eager.h"
#include "ingot/runtime.h"
#include "ingot/threads.h"
#include "tests/unit/threads.h"
#include <pthread.h>
#include <unistd.h>

enum { ROWS = 2048, COLS = 64 }; /* a product alone is worth waking threads */

static void network(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *h = ig_tanh(ig_matmul(in[0], in[1]));
    out[0] = ig_softmax(ig_matmul(h, in[1]), -1);
    out[1] = ig_sum(ig_exp(h), IG_AXES(0));
}

static void use(int count) { ck_assert_ptr_null(ig_threads(&(ig_thread_options){.count = count})); }

static ig_tensor *in_tab[2];
static ig_module *make(void) {
    ig_module *m;
    in_tab[0] = ig_normal(NULL, IG_f32, IG_DIMS(ROWS, COLS), 0, 1);
    in_tab[1] = ig_normal(NULL, IG_f32, IG_DIMS(COLS, COLS), 0, 1);
    ig_trace_options opt = {.name = "network", .dims = "[B,64]; B in 1..4096"};
    OK(ig_trace(network, NULL, 2, in_tab, 2, &opt, &m));
    OK(ig_module_compile(m, NULL));
    return m;
}

static void same(ig_tensor *const *a, ig_tensor *const *b) {
    for (int k = 0; k < 2; k++) ck_assert(ig_equal(a[k], b[k]));
}

/* A module splits what is worth it; told to be serial it starts no thread. */
START_TEST(modules) {
    ig_module *m = make();
    ig_tensor *serial[2], *split[2];
    use(3);
    ig_module_set_exec(m, NULL);
    long before = threads_now();
    OK(ig_module_run(m, 2, in_tab, 2, serial));
    ck_assert_int_eq(threads_now(), before);
    ig_module_set_exec(m, ig_pool_exec());
    for (int count = 1; count < 9; count++) {
        use(count);
        OK(ig_module_run(m, 2, in_tab, 2, split));
        ck_assert_int_eq(threads_now(), before + count - 1);
        same(serial, split);
    }
    ig_module *again = make(); /* a new module begins with the pool */
    use(2);
    OK(ig_module_run(again, 2, in_tab, 2, split));
    ck_assert_int_eq(threads_now(), before + 1);
    ig_module_free(again);
    ig_module_free(m);
    eager_end();
}
END_TEST

enum { LONG = 1000003 };

static void reductions(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_sqrt(ig_sum(ig_exp(in[0]), IG_ALL_AXES));
    out[1] = ig_argmax(in[0], 0);
}

/* Counts how many elements the loops of the launches have to share. */
static int64_t shared;
static void count_shared(const ig_exec *self, ig_kernel kernel, void *const *bufs,
                         const int64_t *dims, int64_t n, int64_t ps) {
    (void)self, (void)ps;
    shared += n;
    for (int64_t k = n; k-- > 0;) kernel(bufs, dims, k, k + 1); /* in any order */
}

/* One result of many elements: these are shared, block by block, and the bits stay. */
START_TEST(long_reductions) {
    static const ig_exec counts = {count_shared};
    ig_tensor *x = ig_normal(NULL, IG_f32, IG_DIMS(LONG), 0, 1), *eager[2], *run[2];
    ig_module *m;
    reductions(NULL, &x, eager);
    OK(ig_trace(reductions, NULL, 1, &x, 2, &(ig_trace_options){.name = "long"}, &m));
    OK(ig_module_compile(m, NULL));
    ig_module_set_exec(m, NULL);
    OK(ig_module_run(m, 1, &x, 2, run));
    same(eager, run);
    ig_module_set_exec(m, &counts);
    OK(ig_module_run(m, 1, &x, 2, run));
    same(eager, run);
    ck_assert_int_ge(shared, 2 * (LONG / 4096));
    ig_module_set_exec(m, ig_pool_exec());
    for (int count = 1; count < 5; count++) {
        use(count);
        OK(ig_module_run(m, 1, &x, 2, run));
        same(eager, run);
    }
    ig_module_free(m);
    eager_end();
}
END_TEST

typedef struct caller {
    pthread_t thread;
    ig_module *m;
    const float *x, *w;
    float y[ROWS * COLS];
} caller;

static void *run_shared(void *arg) {
    caller *c = arg;
    for (int r = 0; r < 20; r++) {
        ig_scope_begin();
        ig_tensor *in[2] = {ig_tensor_from(IG_f32, IG_DIMS(ROWS, COLS), c->x),
                            ig_tensor_from(IG_f32, IG_DIMS(COLS, COLS), c->w)};
        ig_tensor *out[2];
        OK(ig_module_run(c->m, 2, in, 2, out));
        memcpy(c->y, ig_data(out[0]), sizeof c->y);
        ig_scope_end();
    }
    ig_module_free(c->m);
    ig_session_free(NULL);
    return NULL;
}

/* Several threads of the program, each with its module object, share the pool. */
START_TEST(callers) {
    static caller tab[4];
    ig_module *m = make();
    ig_tensor *want[2];
    use(3); /* ends what threads there are */
    long before = threads_now();
    OK(ig_module_run(m, 2, in_tab, 2, want));
    for (int k = 0; k < 4; k++) {
        tab[k].x = ig_data(in_tab[0]), tab[k].w = ig_data(in_tab[1]);
        OK(ig_module_share(m, &tab[k].m));
        ck_assert_int_eq(pthread_create(&tab[k].thread, NULL, run_shared, &tab[k]), 0);
    }
    for (int k = 0; k < 4; k++) pthread_join(tab[k].thread, NULL);
    ck_assert_int_eq(threads_now(), before + 2);
    for (int k = 0; k < 4; k++) ck_assert(!memcmp(tab[k].y, ig_data(want[0]), sizeof tab[k].y));
    ig_module_free(m);
    eager_end();
}
END_TEST

/* A thousand programs, one pool. */
START_TEST(programs) {
    enum { MANY = 1000 };
    static ig_program *program[MANY];
    static float y[2][ROWS * COLS];
    static float z[2][COLS];
    char path[] = "/tmp/ingot-threads-XXXXXX";
    int fd = mkstemp(path);
    ck_assert(fd >= 0);
    close(fd);
    ig_module *m = make();
    OK(ig_module_save(m, path));
    use(3);
    long before = threads_now();
    const void *in[2] = {ig_data(in_tab[0]), ig_data(in_tab[1])};
    int64_t dims[1] = {ROWS};
    size_t bytes = 0;
    void *ws = NULL;
    for (int k = 0; k < MANY; k++) {
        OK(ig_program_load(path, &program[k]));
        if (!k) OK(ig_program_workspace(program[k], dims, &bytes));
        if (!k) ws = aligned_alloc(64, (bytes + 64) / 64 * 64);
        ck_assert_ptr_nonnull(ws);
        void *out[2] = {y[k != 0], z[k != 0]};
        memset(y[1], 0, sizeof y[1]);
        OK(ig_program_run(program[k], in, out, dims, ws, k ? ig_pool_exec() : NULL));
        ck_assert(!k || (!memcmp(y[0], y[1], sizeof y[0]) && !memcmp(z[0], z[1], sizeof z[0])));
        ck_assert_int_eq(threads_now(), before + (k ? 2 : 0));
    }
    for (int k = 0; k < MANY; k++) ig_program_free(program[k]);
    free(ws);
    unlink(path);
    ig_module_free(m);
    eager_end();
}
END_TEST

int main(void) {
    ig_module *m = NULL;
    ig_tensor *x = ig_ones(IG_f32, IG_DIMS(1, COLS)),
              *in[2] = {x, ig_ones(IG_f32, IG_DIMS(COLS, COLS))};
    ig_status s = ig_trace(network, NULL, 2, in, 2, NULL, &m);
    if (!s) s = ig_module_compile(m, NULL);
    ig_module_free(m);
    ig_session_free(NULL);
    if (ig_status_code(s) == IG_UNSUPPORTED) {
        printf("threads: %s, 1 skipped\n", ig_status_text(s));
        ig_status_free(s);
        return 0;
    }
    ig_status_free(s);
    Suite *suite = suite_create("threads");
    TCase *t = tcase_create("threads");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, modules);
    tcase_add_test(t, long_reductions);
    tcase_add_test(t, callers);
    tcase_add_test(t, programs);
    suite_add_tcase(suite, t);
    return suite_run(suite);
}
