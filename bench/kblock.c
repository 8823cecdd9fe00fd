/* kblock.c - what the cut of a contraction costs: the measurement behind IR_KB (docs/numerics.md,
 * rule 7).
 *
 * Rule 7 cuts the reduction index at multiples of KB; every block is a chain of its own and
 * total = total + partial.  KB is part of every result's bits, so it is chosen once.  A small KB
 * costs additions (one pass over the output a block); a large one costs freedom: fewer blocks for
 * threads and for the lanes of a dot product, and a kernel whose cache block KC is smaller than KB
 * must keep the open chains in memory between cache blocks.
 *
 * The kernels here are near the limit and obey the rule exactly (checked against a scalar loop of
 * fmaf before anything is timed): packed blocked GEMM with a tile of registers, operands in place
 * for few rows, and for a single dot its blocks as side-by-side chains.  Shapes: square (where the
 * machine peak shows), skinny (1..32 rows: operands stream) and deep (few outputs, long K).  All
 * variants of a shape take turns, round by round; the table shows GFLOP/s of KB 512 and the speed
 * of the others relative to it (above 1: faster).
 *
 *     bench/kblock [rounds]       Markdown on stdout; AVX2, and AVX-512 where the machine has it */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef __x86_64__
#include <immintrin.h>

enum { KB_ROWS = 6, KB_ROUNDS_MAX = 101, KB_L2 = 256 << 10, KB_NC = 3072, KB_PLACE_ROWS = 32 };

static double kb_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); /* one thread: what others run does not count */
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* One tile of c: rows x nv vectors.  init: open chains to go on with, NULL: from +0.  total: what
 * the finished block is added to; NULL: the chains stay open and are stored as they are. */
typedef struct tile {
    int64_t k, a_row, a_k, b_k, c_row;
    const float *a, *b, *init, *total;
    float *c;
} tile;
typedef void (*tile_fn)(const tile *);

#define TILE(name, target_, vec, width, rows, nv, loadu, storeu, set1, fmadd, addv)             \
    __attribute__((target(target_))) static void name(const tile *t) {                          \
        vec acc[rows][nv];                                                                      \
        const float *a = t->a, *b = t->b;                                                       \
        _Pragma("GCC unroll 16") for (int i = 0; i < (rows); i++)                               \
            _Pragma("GCC unroll 16") for (int j = 0; j < (nv); j++)                             \
                acc[i][j] = t->init ? loadu(t->init + i * t->c_row + j * (width)) : set1(0.0f); \
        for (int64_t k = 0; k < t->k; k++, a += t->a_k, b += t->b_k) {                          \
            vec bv[nv];                                                                         \
            _Pragma("GCC unroll 16") for (int j = 0; j < (nv); j++)                             \
                bv[j] = loadu(b + j * (width));                                                 \
            _Pragma("GCC unroll 16") for (int i = 0; i < (rows); i++) {                         \
                vec av = set1(a[i * t->a_row]);                                                 \
                _Pragma("GCC unroll 16") for (int j = 0; j < (nv); j++)                         \
                    acc[i][j] = fmadd(av, bv[j], acc[i][j]);                                    \
            }                                                                                   \
        }                                                                                       \
        _Pragma("GCC unroll 16") for (int i = 0; i < (rows); i++)                               \
            _Pragma("GCC unroll 16") for (int j = 0; j < (nv); j++) {                           \
            int64_t at = i * t->c_row + j * (width);                                            \
            storeu(t->c + at, t->total ? addv(loadu(t->total + at), acc[i][j]) : acc[i][j]);    \
        }                                                                                       \
    }

#define AVX2(rows, nv)                                                              \
    TILE(tile_avx2_##rows##_##nv, "avx2,fma", __m256, 8, rows, nv, _mm256_loadu_ps, \
         _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_add_ps)
AVX2(1, 2)
AVX2(2, 2) AVX2(3, 2) AVX2(4, 2) AVX2(5, 2) AVX2(6, 2) AVX2(1, 8) AVX2(2, 4)

#define AVX512(rows, nv)                                                              \
    TILE(tile_avx512_##rows##_##nv, "avx512f", __m512, 16, rows, nv, _mm512_loadu_ps, \
         _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_add_ps)
    AVX512(1, 4) AVX512(2, 4) AVX512(3, 4) AVX512(4, 4) AVX512(5, 4) AVX512(6, 4) AVX512(1, 8)

        typedef struct isa {
    const char *name;
    int width, nv; /* vectors of a tile */
    tile_fn tile[KB_ROWS + 1];
    int nv1, nv2; /* vectors of the tiles of one and of two rows in place */
    tile_fn one, two;
    double (*peak)(void);
} isa;

#define PEAK(name, target_, vec, width, set1, fmadd)                                       \
    __attribute__((target(target_))) static double name(void) {                            \
        vec acc[12];                                                                       \
        vec x = set1(1.0f), y = set1(1e-9f);                                               \
        double best = 0;                                                                   \
        for (int round = 0; round < 5; round++) {                                          \
            _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) acc[i] = set1((float)i); \
            double t0 = kb_now();                                                          \
            for (int64_t n = 0; n < 4000000; n++)                                          \
                _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) {                    \
                    acc[i] = fmadd(x, y, acc[i]);                                          \
                    __asm__ volatile("" : "+v"(acc[i]));                                   \
                }                                                                          \
            double rate = 4000000.0 * 12 * 2 * (width) / (kb_now() - t0) * 1e-9;           \
            if (rate > best) best = rate;                                                  \
        }                                                                                  \
        return best;                                                                       \
    }
PEAK(peak_avx2, "avx2,fma", __m256, 8, _mm256_set1_ps, _mm256_fmadd_ps)
PEAK(peak_avx512, "avx512f", __m512, 16, _mm512_set1_ps, _mm512_fmadd_ps)

static const isa isa_tab[] = {
    {"AVX2",
     8,
     2,
     {NULL, tile_avx2_1_2, tile_avx2_2_2, tile_avx2_3_2, tile_avx2_4_2, tile_avx2_5_2,
      tile_avx2_6_2},
     8,
     4,
     tile_avx2_1_8,
     tile_avx2_2_4,
     peak_avx2},
    {"AVX-512",
     16,
     4,
     {NULL, tile_avx512_1_4, tile_avx512_2_4, tile_avx512_3_4, tile_avx512_4_4, tile_avx512_5_4,
      tile_avx512_6_4},
     8,
     4,
     tile_avx512_1_8,
     tile_avx512_2_4,
     peak_avx512},
};

/* --- The contraction ------------------------------------------------------------------------ */

typedef struct job {
    int64_t m, n, k;
    float *a, *b, *c, *open; /* row-major; open: chains between cache blocks */
    float *packed_a, *packed_b;
    const isa *isa;
} job;

/* A variant: where the sum is cut, and how much of K a cache block takes. */
typedef struct variant {
    const char *name;
    int64_t kb, kc;
} variant;

static void pack_b(const job *j, int64_t k0, int64_t kn, int64_t j0, int64_t jn, int64_t nr) {
    float *to = j->packed_b;
    for (int64_t c = 0; c < jn; c += nr)
        for (int64_t k = 0; k < kn; k++, to += nr)
            memcpy(to, j->b + (k0 + k) * j->n + j0 + c, (size_t)nr * sizeof *to);
}

static void pack_a(const job *j, int64_t k0, int64_t kn, int64_t i0, int64_t in) {
    float *to = j->packed_a;
    for (int64_t i = 0; i < in; i += KB_ROWS) {
        int64_t rows = in - i < KB_ROWS ? in - i : KB_ROWS;
        for (int64_t k = 0; k < kn; k++)
            for (int64_t r = 0; r < rows; r++) *to++ = j->a[(i0 + i + r) * j->k + k0 + k];
    }
}

/* What a tile at (i, c) does with the part of K from k0 to k0 + kn. */
static tile tile_at(const job *j, const variant *v, int64_t i, int64_t c, int64_t k0, int64_t kn) {
    float *out = j->c + i * j->n + c, *open = j->open + i * j->n + c;
    bool first = k0 % v->kb == 0, last = (k0 + kn) % v->kb == 0 || k0 + kn == j->k;
    return (tile){.k = kn,
                  .c_row = j->n,
                  .init = first ? NULL : open,
                  .total = last ? out : NULL,
                  .c = last ? out : open};
}

static void run_packed(const job *j, const variant *v, int64_t k0, int64_t kn) {
    int64_t nr = j->isa->width * j->isa->nv;
    int64_t mc = KB_L2 / (int64_t)sizeof(float) / v->kc / KB_ROWS * KB_ROWS;
    for (int64_t j0 = 0; j0 < j->n; j0 += KB_NC) {
        int64_t jn = j->n - j0 < KB_NC ? j->n - j0 : KB_NC;
        pack_b(j, k0, kn, j0, jn, nr);
        for (int64_t i0 = 0; i0 < j->m; i0 += mc) {
            int64_t in = j->m - i0 < mc ? j->m - i0 : mc;
            pack_a(j, k0, kn, i0, in);
            for (int64_t c = 0; c < jn; c += nr)
                for (int64_t i = 0; i < in; i += KB_ROWS) {
                    int64_t rows = in - i < KB_ROWS ? in - i : KB_ROWS;
                    tile t = tile_at(j, v, i0 + i, j0 + c, k0, kn);
                    t.a = j->packed_a + i * kn, t.a_row = 1, t.a_k = rows;
                    t.b = j->packed_b + c * kn, t.b_k = nr;
                    j->isa->tile[rows](&t);
                }
        }
    }
}

static void run_in_place(const job *j, const variant *v, int64_t k0, int64_t kn) {
    const isa *s = j->isa;
    int nv = j->m == 1 ? s->nv1 : j->m == 2 ? s->nv2 : s->nv;
    tile_fn few = j->m == 1 ? s->one : j->m == 2 ? s->two : NULL;
    for (int64_t c = 0; c < j->n; c += s->width * nv)
        for (int64_t i = 0; i < j->m; i += KB_ROWS) {
            int64_t rows = j->m - i < KB_ROWS ? j->m - i : KB_ROWS;
            tile t = tile_at(j, v, i, c, k0, kn);
            t.a = j->a + i * j->k + k0, t.a_row = j->k, t.a_k = 1;
            t.b = j->b + k0 * j->n + c, t.b_k = j->n;
            (few ? few : s->tile[rows])(&t);
        }
}

/* Dot products of one output: up to eight blocks at a time, a chain each. */
__attribute__((target("fma"))) static float run_dot(const float *a, const float *b, int64_t k,
                                                    int64_t kb) {
    float total = 0;
    int64_t k0 = 0;
    if (kb > k) kb = k;
    for (; k0 + 8 * kb <= k; k0 += 8 * kb) {
        float p[8] = {0};
        for (int64_t i = k0; i < k0 + kb; i++)
            _Pragma("GCC unroll 8") for (int l = 0; l < 8; l++)
                p[l] = __builtin_fmaf(a[i + l * kb], b[i + l * kb], p[l]);
        for (int l = 0; l < 8; l++) total += p[l];
    }
    for (; k0 + 4 * kb <= k; k0 += 4 * kb) {
        float p[4] = {0};
        for (int64_t i = k0; i < k0 + kb; i++)
            _Pragma("GCC unroll 4") for (int l = 0; l < 4; l++)
                p[l] = __builtin_fmaf(a[i + l * kb], b[i + l * kb], p[l]);
        for (int l = 0; l < 4; l++) total += p[l];
    }
    for (; k0 + 2 * kb <= k; k0 += 2 * kb) {
        float p[2] = {0};
        for (int64_t i = k0; i < k0 + kb; i++)
            _Pragma("GCC unroll 2") for (int l = 0; l < 2; l++)
                p[l] = __builtin_fmaf(a[i + l * kb], b[i + l * kb], p[l]);
        total += p[0];
        total += p[1];
    }
    for (; k0 < k; k0 += kb) {
        float p = 0;
        for (int64_t i = k0; i < k0 + kb && i < k; i++) p = __builtin_fmaf(a[i], b[i], p);
        total += p;
    }
    return total;
}

static void run(const job *j, const variant *v) {
    if (j->m == 1 && j->n == 1) {
        *j->c = run_dot(j->a, j->b, j->k, v->kb);
        return;
    }
    memset(j->c, 0, (size_t)(j->m * j->n) * sizeof *j->c); /* total = +0 */
    for (int64_t k0 = 0; k0 < j->k;) {
        int64_t kn = v->kb - k0 % v->kb; /* never across a cut */
        if (kn > v->kc) kn = v->kc;
        if (kn > j->k - k0) kn = j->k - k0;
        (j->m <= KB_PLACE_ROWS ? run_in_place : run_packed)(j, v, k0, kn);
        k0 += kn;
    }
}

/* --- Rule 7, as it is written ---------------------------------------------------------------- */

static float rule7(const job *j, int64_t i, int64_t c, int64_t kb) {
    float total = 0;
    for (int64_t k0 = 0; k0 < j->k; k0 += kb) {
        float partial = 0;
        for (int64_t k = k0; k < j->k && k < k0 + kb; k++)
            partial = fmaf(j->a[i * j->k + k], j->b[k * j->n + c], partial);
        total += partial;
    }
    return total;
}

static float *make(int64_t n, uint32_t seed) {
    float *p = aligned_alloc(64, ((size_t)n * sizeof *p + 127) / 64 * 64);
    if (!p) {
        fprintf(stderr, "kblock: out of memory\n");
        exit(1);
    }
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = (float)(seed >> 8) / 8388608.0f - 1.0f;
    }
    return p;
}

static job job_new(const isa *s, int64_t m, int64_t n, int64_t k) {
    job j = {.m = m, .n = n, .k = k, .isa = s};
    j.a = make(m * k, 1), j.b = make(k * n, 2), j.c = make(m * n, 3), j.open = make(m * n, 4);
    j.packed_a = make(KB_L2 / (int64_t)sizeof(float) + KB_ROWS * k, 5);
    j.packed_b = make((n < KB_NC ? n : KB_NC) * k, 6);
    return j;
}

static void job_free(job *j) {
    free(j->a), free(j->b), free(j->c), free(j->open), free(j->packed_a), free(j->packed_b);
}

static const variant variant_tab[] = {
    {"256", 256, 256},
    {"512", 512, 512},
    {"1024", 1024, 1024},
    {"1024 in 2x512", 1024, 512},
    {"uncut, 512 at a time", INT64_MAX / 2, 512},
};
enum { KB_VARIANTS = sizeof variant_tab / sizeof *variant_tab, KB_BASE = 1 };

static bool check(const isa *s) {
    static const int64_t shape[][3] = {{37, 128, 1100}, {13, 64, 2050}, {2, 64, 1536},
                                       {1, 128, 600},   {1, 1, 16000},  {7, 64, 3}};
    bool ok = true;
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
        job j = job_new(s, shape[i][0], shape[i][1], shape[i][2]);
        for (int v = 0; v < KB_VARIANTS; v++) {
            run(&j, &variant_tab[v]);
            for (int64_t o = 0; o < j.m * j.n; o++) {
                float want = rule7(&j, o / j.n, o % j.n, variant_tab[v].kb);
                ok &= !memcmp(&want, &j.c[o], sizeof want);
            }
        }
        job_free(&j);
    }
    return ok;
}

/* --- Timing --------------------------------------------------------------------------------- */

static int by_value(const void *x, const void *y) {
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static void row(const isa *s, int rounds, double peak, int64_t m, int64_t n, int64_t k) {
    static double t[KB_VARIANTS][KB_ROUNDS_MAX];
    job j = job_new(s, m, n, k);
    double flops = 2.0 * (double)m * (double)n * (double)k;
    int64_t times = (int64_t)(4e8 / flops);
    if (times < 1) times = 1;
    for (int r = -1; r < rounds; r++) /* round -1 warms up */
        for (int v = 0; v < KB_VARIANTS; v++) {
            double t0 = kb_now();
            for (int64_t i = 0; i < times; i++) run(&j, &variant_tab[v]);
            if (r >= 0) t[v][r] = (kb_now() - t0) / (double)times;
        }
    double median[KB_VARIANTS];
    for (int v = 0; v < KB_VARIANTS; v++) {
        qsort(t[v], (size_t)rounds, sizeof **t, by_value);
        median[v] = t[v][rounds / 2];
    }
    double rate = flops / median[KB_BASE] * 1e-9;
    printf("| %lldx%lldx%lld | %.1f (%.0f %%) |", (long long)m, (long long)n, (long long)k, rate,
           100 * rate / peak);
    for (int v = 0; v < KB_VARIANTS; v++)
        if (v != KB_BASE) printf(" %.2f |", median[KB_BASE] / median[v]);
    printf("\n");
    fflush(stdout);
    job_free(&j);
}

static void table(const isa *s, int rounds) {
    static const int64_t square[] = {64, 128, 256, 512, 1024, 2048}, few[] = {1, 2, 4, 8, 16, 32},
                         deep[] = {2048, 4096, 8192, 16384};
    double peak = s->peak();
    printf("\n%s, one core, FMA peak %.0f GFLOP/s, median of %d rounds\n\n", s->name, peak, rounds);
    printf("| M x N x K | KB %s, GFLOP/s (of peak) |", variant_tab[KB_BASE].name);
    for (int v = 0; v < KB_VARIANTS; v++)
        if (v != KB_BASE) printf(" %s |", variant_tab[v].name);
    printf("\n|---|---|---|---|---|---|\n");
    for (int i = 0; i < 6; i++) row(s, rounds, peak, square[i], square[i], square[i]);
    for (int i = 0; i < 6; i++) row(s, rounds, peak, few[i], 1024, 4096);
    for (int i = 0; i < 4; i++) row(s, rounds, peak, 1, 1, deep[i]);
    for (int i = 0; i < 4; i++) row(s, rounds, peak, 64, 64, deep[i]);
    for (int i = 0; i < 4; i++) row(s, rounds, peak, 192, 256, deep[i]);
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 9, bad = 0;
    if (rounds < 1 || rounds > KB_ROUNDS_MAX) rounds = 9;
    for (size_t i = 0; i < sizeof isa_tab / sizeof *isa_tab; i++) {
        const isa *s = &isa_tab[i];
        bool here = s->width == 8 ? __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
                                  : __builtin_cpu_supports("avx512f") != 0;
        if (!here) {
            printf("\n%s: skipped, this machine does not have it\n", s->name);
        } else if (!check(s)) {
            printf("\n%s: the kernels do not give the bits of rule 7\n", s->name);
            bad = 1;
        } else {
            table(s, rounds);
        }
    }
    return bad;
}
#else
int main(void) {
    puts("kblock: skipped, the kernels are for x86-64");
    return 0;
}
#endif
