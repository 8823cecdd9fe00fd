/* main.c - the differential fuzzer: `fuzz [--programs N] [--seed S] [--ways a,b] [--transform]
 * [--standard] [--plants]`.
 *
 * --transform: derivatives and batches of the programs take their place.
 * --standard: 10,000 programs on reference, eager and compiled, 500 on every way, and 1,000
 * derivatives and batches.  --plants (only
 * in the build that has them): every planted miscompile must be found and shrunk to at most 10 ops.
 */
#include "runtime/base/plant.h"
#include "tests/fuzz/fuzz.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    MAIN_STANDARD = 10000,
    MAIN_EVERY = 500,
    MAIN_TRANSFORMED = 1000,
    MAIN_PLANT_TRIES = MAIN_STANDARD,
    MAIN_PLANT_OPS = 10,
    MAIN_WORKERS = 2
};

#ifdef IG_PLANT
int rt_planted;
#endif

static bool main_transform; /* derivatives and batches take the place of programs */

static void main_report(fuzz_case *c, const way *w, uint64_t seed, int output, int64_t element,
                        const char *why) {
    const char *op = "?";
    printf("program %llu differs on `%s`: output %d element %lld %s\n", (unsigned long long)seed,
           w->name, output, (long long)element, why);
    fuzz_shrink(c, w, &op);
    rt_str text;
    rt_str_init(&text, ig_allocator_default());
    ir_print(c->m, &text, 0);
    printf("first differing op: %s; shrunk to %u ops:\n%s\n", op, fuzz_ops(c), rt_str_text(&text));
    rt_str_free(&text);
    fflush(stdout);
}

/* A transformation failed. */
static void main_report_broken(const fuzz_case *c, uint64_t seed) {
    rt_str text;
    rt_str_init(&text, ig_allocator_default());
    ir_print(c->m, &text, 0);
    printf("program %llu: %s\n%s\n", (unsigned long long)seed, c->broken, rt_str_text(&text));
    rt_str_free(&text);
    fflush(stdout);
}

static bool main_has(const char *list, const char *name) {
    size_t n = strlen(name);
    for (const char *p = list; (p = strstr(p, name)); p += n)
        if ((p == list || p[-1] == ',') && (!p[n] || p[n] == ',')) return true;
    return false;
}

/* Programs seed, seed + step, ... on some ways; failures and invalid programs are counted. */
static int main_run(uint64_t seed, uint64_t n, uint64_t step, const char *ways, uint64_t *made_) {
    int bad = 0;
    for (uint64_t k = 0; k < n && bad < 5; k += step) {
        gen g = {(seed + k) * 0x9e3779b97f4a7c15u};
        fuzz_case c;
        if (!fuzz_generate(&g, &c)) continue;
        if (main_transform && !fuzz_transform(&g, &c)) continue;
        if (c.broken[0]) main_report_broken(&c, seed + k), bad++;
        ++*made_;
        for (const way *w = way_tab + 1; w->name; w++) {
            int64_t element;
            char why[600];
            if ((ways && !main_has(ways, w->name)) || !w->available()) continue;
            if (c.m->class == IR_CLASS_FMA && !strcmp(w->name, "v2"))
                continue;                                      /* refused: numerics rule 12 */
            if (!ways && way_repeats(w, c.m->class)) continue; /* it was `compiled` */
            int output = fuzz_differs(&c, w, &element, why, sizeof why);
            if (output < 0) continue;
            main_report(&c, w, seed + k, output, element, why);
            bad++;
            break;
        }
        fuzz_free(&c);
    }
    return bad;
}

/* The same in worker processes. */
static int main_parallel(uint64_t seed, uint64_t n, const char *ways, const char *what) {
    int bad = 0;
    uint64_t made = 0;
    pid_t pid[MAIN_WORKERS];
    int from[MAIN_WORKERS][2];
    fflush(stdout);
    for (uint64_t w = 0; w < MAIN_WORKERS; w++) {
        if (pipe(from[w]) || (pid[w] = fork()) < 0) return perror("fuzz"), 1;
        if (pid[w]) continue;
        uint64_t mine = 0;
        int failed = main_run(seed + w, n - w, MAIN_WORKERS, ways, &mine);
        fflush(stdout);
        if (write(from[w][1], &mine, sizeof mine) != sizeof mine) _exit(99);
        _exit(failed);
    }
    for (int w = 0; w < MAIN_WORKERS; w++) {
        int status;
        uint64_t mine = 0;
        waitpid(pid[w], &status, 0);
        close(from[w][1]);
        if (read(from[w][0], &mine, sizeof mine) == sizeof mine) made += mine;
        close(from[w][0]);
        if (!WIFEXITED(status))
            printf("a worker died by signal %d\n", WTERMSIG(status)), bad++;
        else
            bad += WEXITSTATUS(status);
    }
    printf("fuzz: %llu programs from seed %llu on reference, %s: %d differ\n",
           (unsigned long long)made, (unsigned long long)seed, what, bad);
    if (made < n / 2) printf("fuzz: the generator made too few programs\n"), bad++;
    return bad;
}

#ifdef IG_PLANT
/* Find one planted miscompile and shrink it; 0 when all went well. */
static int main_plant(int id, const char *name) {
    const way *w = way_find("compiled");
    for (uint64_t k = 0; k < MAIN_PLANT_TRIES; k++) {
        gen g = {k * 0x9e3779b97f4a7c15u};
        fuzz_case c;
        if (!fuzz_generate(&g, &c)) continue;
        int64_t element;
        char why[200];
        rt_planted = id;
        if (fuzz_differs(&c, w, &element, why, sizeof why) >= 0) {
            const char *op = "?";
            fuzz_shrink(&c, w, &op);
            uint32_t ops = fuzz_ops(&c);
            printf("plant %-24s found at program %llu, first differing op %s, shrunk to %u ops%s\n",
                   name, (unsigned long long)k, op, ops, why[0] ? " (as an error)" : "");
            rt_planted = 0;
            fuzz_free(&c);
            return ops > MAIN_PLANT_OPS;
        }
        rt_planted = 0;
        fuzz_free(&c);
    }
    printf("plant %-24s NOT FOUND in %d programs\n", name, MAIN_PLANT_TRIES);
    return 1;
}
#endif

static int main_plants(void) {
#ifdef IG_PLANT
    int bad = 0, n = 0;
#define X(name, what) bad += main_plant(RT_PLANT_##name, #name), n++;
    RT_PLANTS(X)
#undef X
    printf("fuzz: %d of %d planted miscompiles found and shrunk\n", n - bad, n);
    printf("%d passed, %d failed\n", n - bad, bad);
    return bad != 0;
#else
    puts("this build has no planted miscompiles");
    return 2;
#endif
}

static int main_standard(uint64_t seed) {
    int bad = main_parallel(seed, MAIN_STANDARD, "eager,compiled", "eager and compiled");
    bad += main_parallel(seed + 1000000, MAIN_EVERY, NULL, "every way");
    main_transform = true;
    bad += main_parallel(seed, MAIN_TRANSFORMED, "lanes,compiled", "in lanes and compiled");
    int skipped = 0;
    for (const way *w = way_tab; w->name; w++)
        if (!w->available()) printf("fuzz: way `%s` cannot run here\n", w->name), skipped++;
    printf("%d passed, %d failed, %d skipped\n", 3 - (bad > 3 ? 3 : bad), bad, skipped);
    return bad != 0;
}

int main(int argc, char **argv) {
    setenv("IG_CACHE", "0", 1); /* what is compared has been compiled */
    uint64_t programs = 1000, seed = 1;
    const char *ways = NULL;
    for (int k = 1; k < argc; k++) {
        const char *value = k + 1 < argc ? argv[k + 1] : "";
        if (!strcmp(argv[k], "--standard")) return main_standard(seed);
        if (!strcmp(argv[k], "--plants")) return main_plants();
        if (!strcmp(argv[k], "--transform"))
            main_transform = true;
        else if (!strcmp(argv[k], "--programs"))
            programs = strtoull(value, NULL, 10), k++;
        else if (!strcmp(argv[k], "--seed"))
            seed = strtoull(value, NULL, 10), k++;
        else if (!strcmp(argv[k], "--ways"))
            ways = value, k++;
        else
            return fprintf(stderr,
                           "usage: fuzz [--programs N] [--seed S] [--ways a,b] [--transform] | "
                           "--standard | --plants\n"),
                   2;
    }
    int bad = main_parallel(seed, programs, ways ? ways : "eager,compiled",
                            ways ? ways : "eager and compiled");
    printf("%d passed, %d failed\n", bad == 0, bad);
    return bad != 0;
}
