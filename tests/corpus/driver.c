/* driver.c - runs a deployed object for aarch64 without a C library: cases come in on the standard
 * input, outputs go out on the standard output (tests/cross.c is the other end).
 *
 * A case: int64 nin, nout, ndims; the dims; for each input its size and bytes; for each output its
 * size.  The answer: int64 code, then the bytes of every output and the guard behind it. */
#include <stddef.h>
#include <stdint.h>

enum { GUARD = 64, PORTS = 64, ARENA = 64 << 20 };

int m_run(const void *const *in, void *const *out, const int64_t *dims, void *ws, const void *exec);
int m_workspace(const int64_t *dims, size_t *bytes);

static uint8_t arena[ARENA] __attribute__((aligned(64)));
static size_t used;

static long call(long number, long a, long b, long c) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
}

static void leave(int code) {
    for (;;) call(93, code, 0, 0);
}

/* What the object may ask for.  Volatile: a compiler must not turn the loop into the call it is. */
void *memcpy(void *to, const void *from, size_t n) {
    volatile uint8_t *t = to;
    for (size_t i = 0; i < n; i++) t[i] = ((const uint8_t *)from)[i];
    return to;
}
void *memset(void *to, int c, size_t n) {
    volatile uint8_t *t = to;
    for (size_t i = 0; i < n; i++) t[i] = (uint8_t)c;
    return to;
}
void *memmove(void *to, const void *from, size_t n) {
    volatile uint8_t *t = to;
    if (t <= (const uint8_t *)from) return memcpy(to, from, n);
    while (n--) t[n] = ((const uint8_t *)from)[n];
    return to;
}

/* False at the end of the input before the first byte. */
static int get(void *to, size_t n) {
    uint8_t *t = to;
    for (size_t have = 0; have < n;) {
        long got = call(63, 0, (long)(t + have), (long)(n - have));
        if (got <= 0 && have == 0) return 0;
        if (got <= 0) leave(3);
        have += (size_t)got;
    }
    return 1;
}

static void put(const void *from, size_t n) {
    const uint8_t *f = from;
    while (n) {
        long done = call(64, 1, (long)f, (long)n);
        if (done <= 0) leave(4);
        f += done, n -= (size_t)done;
    }
}

static uint8_t *take(size_t n) {
    uint8_t *p = arena + used;
    if (n > ARENA - GUARD - used) leave(5);
    used = (used + n + GUARD + 63) / 64 * 64;
    return p;
}

static void one_case(const int64_t *head) {
    static int64_t dims[PORTS];
    static void *in[PORTS], *out[PORTS];
    static int64_t size[PORTS];
    size_t ws = 0;
    used = 0;
    if (head[0] > PORTS || head[1] > PORTS || head[2] > PORTS) leave(6);
    if (head[2] && !get(dims, (size_t)head[2] * sizeof *dims)) leave(3);
    for (int64_t k = 0; k < head[0]; k++) {
        int64_t n;
        if (!get(&n, sizeof n)) leave(3);
        in[k] = take((size_t)n);
        if (n && !get(in[k], (size_t)n)) leave(3);
    }
    for (int64_t k = 0; k < head[1]; k++) {
        if (!get(&size[k], sizeof *size)) leave(3);
        out[k] = take((size_t)size[k]);
        memset(out[k], 0xa5, (size_t)size[k] + GUARD);
    }
    int64_t code = m_workspace(dims, &ws);
    if (!code) code = m_run((const void *const *)in, out, dims, take(ws), NULL);
    put(&code, sizeof code);
    for (int64_t k = 0; k < head[1]; k++) put(out[k], (size_t)size[k] + GUARD);
}

void _start(void) {
    int64_t head[3];
    while (get(head, sizeof head)) one_case(head);
    leave(0);
}
