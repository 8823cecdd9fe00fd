/* test_cache.c - the cache of compiled images: what it keeps, what it refuses, and what many
 * processes that are killed at any moment leave behind. */
#include "eager.h"
#include "runtime/cache.h"
#include "suite.h"

#include <dirent.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char folder[64];
static const ig_allocator *A(void) { return ig_allocator_default(); }

/* --- A folder for each test --- */

/* Call `each` with the path of every file; their number. */
static int each_file(void (*each)(const char *path)) {
    DIR *d = opendir(folder);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[400];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (each) each(path);
        n++;
    }
    if (d) closedir(d);
    return n;
}

static void drop(const char *path) { unlink(path); }

static void begin(void) {
    strcpy(folder, "/tmp/ingot-cache-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    setenv("IG_CACHE", "1", 1);
    setenv("IG_CACHE_DIR", folder, 1);
    unsetenv("IG_CACHE_SIZE");
}

static void end(void) {
    chmod(folder, 0700);
    each_file(drop);
    rmdir(folder);
    ig_session_free(NULL);
}

/* --- Entries whose contents follow from their key --- */

enum { ENTRY_MAX = 20000 };

static size_t entry_bytes(int key, uint8_t *out) {
    size_t n = 1 + (size_t)key * 977 % ENTRY_MAX;
    for (size_t i = 0; i < n; i++) out[i] = (uint8_t)(i * 31 + (size_t)key * 7);
    return n;
}

static void put(int key) {
    uint8_t bytes[ENTRY_MAX + 1];
    size_t n = entry_bytes(key, bytes);
    rt_cache_put(A(), &key, sizeof key, bytes, n);
}

/* 1: there and right, 0: not there, -1: wrong bytes. */
static int get(int key) {
    uint8_t bytes[ENTRY_MAX + 1];
    size_t want = entry_bytes(key, bytes), n;
    void *found;
    if (!rt_cache_get(A(), &key, sizeof key, &found, &n)) return 0;
    int result = n == want && !memcmp(found, bytes, n) ? 1 : -1;
    rt_free(A(), found, n);
    return result;
}

static char the_file[400];
static void note_file(const char *path) { strcpy(the_file, path); }

START_TEST(round_trip) {
    ck_assert_int_eq(get(1), 0);
    for (int k = 0; k < 20; k++) put(k);
    for (int k = 0; k < 20; k++) ck_assert_int_eq(get(k), 1);
    ck_assert_int_eq(get(20), 0);
    put(3);
    ck_assert_int_eq(get(3), 1);
    ck_assert_int_eq(each_file(NULL), 20);
}
END_TEST

START_TEST(off) {
    put(1);
    setenv("IG_CACHE", "0", 1);
    ck_assert_int_eq(get(1), 0);
    put(2);
    setenv("IG_CACHE", "1", 1);
    ck_assert_int_eq(get(1), 1);
    ck_assert_int_eq(get(2), 0);
}
END_TEST

/* Every byte matters: a changed one is noticed, the file goes, and the next store heals it. */
START_TEST(damage) {
    struct stat st;
    put(5);
    each_file(note_file);
    ck_assert_int_eq(stat(the_file, &st), 0);
    int step = getenv("IG_TEST_QUICK") ? 97 : 7;
    for (off_t at = 0; at < st.st_size; at += at < 60 ? 1 : step) {
        int fd = open(the_file, O_RDWR);
        uint8_t b;
        ck_assert_int_eq(pread(fd, &b, 1, at), 1);
        b ^= 0x40;
        ck_assert_int_eq(pwrite(fd, &b, 1, at), 1);
        close(fd);
        ck_assert_msg(get(5) == 0, "a changed byte at %lld", (long long)at);
        put(5);
        ck_assert_int_eq(get(5), 1);
    }
    for (off_t size = 0; size < st.st_size; size += size < 60 ? 1 : 331) {
        ck_assert_int_eq(truncate(the_file, size), 0);
        ck_assert_int_eq(get(5), 0);
        ck_assert_int_eq(access(the_file, F_OK), -1); /* removed */
        put(5);
    }
    ck_assert_int_eq(truncate(the_file, st.st_size + 1), 0);
    ck_assert_int_eq(get(5), 0);
}
END_TEST

/* A file under the name of another key is not taken for it, and stays. */
START_TEST(other_key) {
    char other[400];
    put(1);
    each_file(note_file);
    strcpy(other, the_file);
    unlink(the_file);
    put(2);
    each_file(note_file);
    ck_assert_int_eq(rename(the_file, other), 0);
    ck_assert_int_eq(get(1), 0);
    ck_assert_int_eq(access(other, F_OK), 0);
}
END_TEST

/* Nothing is taken from files or folders that others may change. */
START_TEST(distrust) {
    char real[80];
    put(1);
    each_file(note_file);
    ck_assert_int_eq(chmod(the_file, 0620), 0);
    ck_assert_int_eq(get(1), 0);
    ck_assert_int_eq(chmod(the_file, 0602), 0);
    ck_assert_int_eq(get(1), 0);
    ck_assert_int_eq(chmod(the_file, 0600), 0);
    ck_assert_int_eq(get(1), 1);
    ck_assert_int_eq(chmod(folder, 0770), 0);
    ck_assert_int_eq(get(1), 0);
    ck_assert_int_eq(chmod(folder, 0700), 0);
    if (!geteuid()) { /* only root can give files away */
        ck_assert_int_eq(chown(the_file, 65534, 65534), 0);
        ck_assert_int_eq(get(1), 0);
        ck_assert_int_eq(chown(the_file, 0, 0), 0);
        ck_assert_int_eq(chown(folder, 65534, 65534), 0);
        ck_assert_int_eq(get(1), 0);
        ck_assert_int_eq(chown(folder, 0, 0), 0);
    }
    ck_assert_int_eq(get(1), 1);
    snprintf(real, sizeof real, "%s.real", folder);
    ck_assert_int_eq(rename(folder, real), 0); /* a link in place of the folder */
    ck_assert_int_eq(symlink(real, folder), 0);
    ck_assert_int_eq(get(1), 0);
    unlink(folder);
    ck_assert_int_eq(rename(real, folder), 0);
    snprintf(real, sizeof real, "%s/x", folder);
    ck_assert_int_eq(rename(the_file, real), 0); /* a link in place of the file */
    ck_assert_int_eq(symlink(real, the_file), 0);
    ck_assert_int_eq(get(1), 0);
    unlink(the_file);
    ck_assert_int_eq(mkfifo(the_file, 0600), 0); /* must not wait for a writer */
    ck_assert_int_eq(get(1), 0);
}
END_TEST

/* Where the folder is, and that a missing home is no error. */
START_TEST(places) {
    char text[256];
    unsetenv("IG_CACHE_DIR");
    setenv("XDG_CACHE_HOME", folder, 1);
    put(1);
    ck_assert_int_eq(get(1), 1);
    snprintf(text, sizeof text, "%s/ingot", folder);
    setenv("IG_CACHE_DIR", text, 1);
    ck_assert_int_eq(get(1), 1);
    unsetenv("IG_CACHE_DIR");
    unsetenv("XDG_CACHE_HOME");
    setenv("HOME", folder, 1);
    ck_assert_int_eq(get(1), 0);
    put(2);
    snprintf(text, sizeof text, "%s/.cache/ingot", folder);
    setenv("IG_CACHE_DIR", text, 1);
    ck_assert_int_eq(get(2), 1);
    unsetenv("IG_CACHE_DIR");
    setenv("HOME", "/nonexistent/home", 1);
    put(1);
    ck_assert_int_eq(get(1), 0);
    unsetenv("HOME");
    put(1);
    ck_assert_int_eq(get(1), 0);
    setenv("IG_CACHE_DIR", "/proc/self", 1); /* nothing can be written there */
    put(1);
    ck_assert_int_eq(get(1), 0);
    snprintf(text, sizeof text, "rm -rf '%s/ingot' '%s/.cache'", folder, folder);
    ck_assert_int_eq(system(text), 0);
}
END_TEST

static long long total;
static void add_size(const char *path) {
    struct stat st;
    if (!stat(path, &st)) total += st.st_size;
}

/* The cap holds, and what was used last stays. */
START_TEST(cap) {
    setenv("IG_CACHE_SIZE", "100K", 1);
    for (int k = 100; k < 140; k++) {
        put(k);
        usleep(2000); /* the clock of file times ticks */
        if (k > 100) ck_assert_int_eq(get(100), 1);
    }
    total = 0;
    ck_assert_int_lt(each_file(add_size), 40);
    ck_assert_int_le(total, 100 << 10);
    ck_assert_int_gt(total, 60 << 10);
    ck_assert_int_eq(get(100), 1);
    ck_assert_int_eq(get(101), 0);
    ck_assert_int_eq(get(139), 1);
    setenv("IG_CACHE_SIZE", "0", 1);
    put(500);
    ck_assert_int_eq(get(500), 0);
}
END_TEST

/* Memory may run out at any point: a miss, and nothing is lost. */
START_TEST(no_memory) {
    uint8_t want[ENTRY_MAX + 1];
    int key = 9;
    put(key);
    for (long fail = 0, done = 0; !done; fail++) {
        counting c = COUNTING(fail);
        ig_allocator a = {.user = &c, .resize = counting_resize};
        void *bytes;
        size_t n;
        done = rt_cache_get(&a, &key, sizeof key, &bytes, &n);
        if (done) rt_free(&a, bytes, n);
        ck_assert_uint_eq(c.live, 0);
        n = entry_bytes(key, want);
        c = COUNTING(fail);
        rt_cache_put(&a, &key, sizeof key, want, n);
        ck_assert_uint_eq(c.live, 0);
        ck_assert_int_lt(fail, 100);
    }
    ck_assert_int_eq(get(key), 1);
}
END_TEST

/* --- Through the compiler --- */

static void program(void *user, ig_tensor *const *in, ig_tensor **out) {
    out[0] = ig_add(ig_mul(in[0], *(double *)user), in[0]);
}

/* Trace, compile, run: whether the result is right. */
static bool compile_and_run(double by) {
    bool right = false;
    IG_SCOPE {
        ig_tensor *x = ig_arange(IG_f32, 0, 40, 1), *y = NULL;
        ig_module *m = NULL;
        ig_trace_options opt = {.name = "program"};
        ig_status s = ig_trace(program, &by, 1, &x, 1, &opt, &m);
        if (!s) s = ig_module_compile(m, NULL);
        if (!s) s = ig_module_run(m, 1, &x, 1, &y);
        right = !s && ig_equal(y, ig_add(ig_mul(x, by), x));
        ig_status_free(s);
        ig_module_free(m);
    }
    return right;
}

static int find_llvm(struct dl_phdr_info *info, size_t size, void *user) {
    (void)size;
    if (strstr(info->dlpi_name, "libingot-llvm")) *(bool *)user = true;
    return 0;
}

/* In a process of its own: 0 wrong, 1 right, 2 right and without LLVM. */
static int compile_apart(double by) {
    pid_t pid = fork();
    int status;
    if (!pid) {
        bool llvm = false, right = compile_and_run(by);
        dl_iterate_phdr(find_llvm, &llvm);
        _exit(right ? llvm ? 1 : 2 : 0);
    }
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

START_TEST(compiled_once) {
    ck_assert_int_eq(compile_apart(3), 1);
    ck_assert_int_eq(each_file(note_file), 1);
    ck_assert_int_eq(compile_apart(3), 2);
    ck_assert_int_eq(compile_apart(4), 1); /* another program */
    ck_assert_int_eq(each_file(NULL), 2);
    setenv("IG_FUEL", "100000", 1); /* watched: neither read nor written */
    ck_assert_int_eq(compile_apart(3), 1);
    ck_assert_int_eq(compile_apart(5), 1);
    unsetenv("IG_FUEL");
    ck_assert_int_eq(each_file(NULL), 2);
    ck_assert_int_eq(truncate(the_file, 700), 0);
    ck_assert_int_eq(compile_apart(3), 1); /* damaged: compiled again */
    ck_assert_int_eq(compile_apart(3), 2);
}
END_TEST

static void product(void *user, ig_tensor *const *in, ig_tensor **out) {
    out[0] = ig_matmul(in[0], (ig_tensor *)user);
}

/* The elements of weights are part of the key: an image may hold them packed. */
START_TEST(weights) {
    for (int round = 0; round < 2; round++)
        for (int by = 1; by <= 3; by++) IG_SCOPE {
                ig_tensor *x = ig_full(IG_f32, IG_DIMS(8, 40), 0.5), *y = NULL;
                ig_tensor *w = ig_name(ig_full(IG_f32, IG_DIMS(40, 48), by), "w");
                ig_module *m = NULL;
                ig_trace_options opt = {.name = "product"};
                ig_status s = ig_trace(product, w, 1, &x, 1, &opt, &m);
                ck_assert_msg(!s, "%s", s ? ig_status_text(s) : "");
                ck_assert_ptr_null(ig_module_compile(m, NULL));
                ck_assert_ptr_null(ig_module_run(m, 1, &x, 1, &y));
                ck_assert(ig_equal(y, ig_matmul(x, w)));
                ig_module_free(m);
            }
    ck_assert_int_eq(each_file(NULL), 3);
}
END_TEST

/* --- Many processes, killed --- */

enum { CRASH_PROCESSES = 8, CRASH_KILLS = 1000, CRASH_KEYS = 60, CRASH_SECONDS = 12 };

/* Read, check, write, now and then compile; ends by a wrong byte or by being killed. */
static pid_t crash_start(unsigned seed) {
    pid_t pid = fork();
    if (pid) return pid;
    for (;;) {
        int key = rand_r(&seed) % CRASH_KEYS, found = get(key);
        if (found < 0) _exit(1);
        if (!found) put(key);
        if (rand_r(&seed) % 64 == 0 && !compile_and_run(1 + rand_r(&seed) % 8)) _exit(1);
    }
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int strangers; /* files that are neither entries nor healthy */
static void check_name(const char *path) {
    const char *name = strrchr(path, '/') + 1;
    if (strspn(name, "0123456789abcdef") != 32 || name[32]) strangers++;
}

START_TEST(crashes) {
    pid_t pid[CRASH_PROCESSES];
    unsigned seed = 1;
    int kills = 0;
    setenv("IG_CACHE_SIZE", "300K", 1); /* dropping is part of the game */
    ck_assert(compile_and_run(1));      /* LLVM is open in all that are forked */
    for (int k = 0; k < CRASH_PROCESSES; k++) pid[k] = crash_start(seed++);
    for (double from = now(); kills < CRASH_KILLS && now() < from + CRASH_SECONDS; kills++) {
        int k = rand_r(&seed) % CRASH_PROCESSES, status;
        usleep((useconds_t)rand_r(&seed) % 8000);
        kill(pid[k], SIGKILL);
        waitpid(pid[k], &status, 0);
        ck_assert_msg(WIFSIGNALED(status), "a process read wrong bytes");
        pid[k] = crash_start(seed++);
    }
    for (int k = 0; k < CRASH_PROCESSES; k++) kill(pid[k], SIGKILL);
    for (int k = 0; k < CRASH_PROCESSES; k++) waitpid(pid[k], NULL, 0);
    printf("crashes: %d processes killed\n", kills);
    ck_assert_int_ge(kills, 10); /* a slow machine, under a sanitizer */
    int hits = 0;
    for (int k = 0; k < CRASH_KEYS; k++) {
        int found = get(k);
        ck_assert_int_ge(found, 0);
        hits += found;
    }
    ck_assert_int_gt(hits, 0);
    put(CRASH_KEYS); /* whoever stores next tidies up */
    strangers = 0;
    total = 0;
    each_file(check_name);
    each_file(add_size);
    ck_assert_int_eq(strangers, 0);
    ck_assert_int_le(total, 300 << 10);
    ck_assert(compile_and_run(1));
}
END_TEST

int main(void) {
    Suite *s = suite_create("cache");
    TCase *t = tcase_create("files"), *c = tcase_create("compiler");
    tcase_add_checked_fixture(t, begin, end);
    tcase_add_checked_fixture(c, begin, end);
    tcase_set_timeout(c, 120);
    tcase_add_test(t, round_trip);
    tcase_add_test(t, off);
    tcase_add_test(t, damage);
    tcase_add_test(t, other_key);
    tcase_add_test(t, distrust);
    tcase_add_test(t, places);
    tcase_add_test(t, cap);
    tcase_add_test(t, no_memory);
    tcase_add_test(c, compiled_once);
    tcase_add_test(c, weights);
    tcase_add_test(c, crashes);
    suite_add_tcase(s, t);
    suite_add_tcase(s, c);
    return suite_run(s);
}
