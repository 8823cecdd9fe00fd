/* cpu.c - what this processor can run, as the levels of codegen/cpus.def.
 *
 * A level counts only when the operating system also saves its registers (XCR0), so that code of
 * that level can be run. */
#include "runtime/image.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <stdatomic.h>

#define CPU_XCR0_AVX    0x06u /* xmm, ymm */
#define CPU_XCR0_AVX512 0xe6u /* and the mask registers, the upper halves, zmm16-31 */

/* Register states the operating system saves. */
static uint32_t cpu_xcr0(uint32_t leaf1_ecx) {
    if (!(leaf1_ecx & bit_OSXSAVE)) return 0;
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return lo;
}

static bool cpu_has(uint32_t have, uint32_t want) { return (have & want) == want; }

/* Ask the processor. */
static uint64_t cpu_probe(void) {
    const uint32_t v2 = bit_SSE3 | bit_SSSE3 | bit_SSE4_1 | bit_SSE4_2 | bit_POPCNT |
                        bit_CMPXCHG16B;
    const uint32_t v3 = bit_AVX | bit_F16C | bit_FMA | bit_MOVBE;
    const uint32_t v3_7 = bit_BMI | bit_BMI2 | bit_AVX2;
    const uint32_t v4_7 = bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL;
    uint32_t a, b, c, d, b7, c7, d7, c8;
    uint64_t have = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) b7 = 0;
    if (!__get_cpuid(0x80000001u, &a, &b, &c8, &d)) c8 = 0;
    if (!cpu_has(c, v2) || !cpu_has(c8, bit_LAHF_LM)) return have;
    have |= RT_CPU_X86_V2;
    uint32_t xcr0 = cpu_xcr0(c);
    if (!cpu_has(c, v3) || !cpu_has(b7, v3_7) || !cpu_has(c8, bit_ABM) ||
        !cpu_has(xcr0, CPU_XCR0_AVX))
        return have;
    have |= RT_CPU_X86_V3;
    if (cpu_has(b7, v4_7) && cpu_has(xcr0, CPU_XCR0_AVX512)) have |= RT_CPU_X86_V4;
    return have;
}

/* Asked once: under a hypervisor every CPUID costs tens of microseconds.  Racing threads write
 * the same. */
uint64_t rt_cpu_features(void) {
    static _Atomic uint64_t known; /* and a bit that no level uses, once it is known */
    const uint64_t asked = UINT64_C(1) << 63;
    uint64_t have = atomic_load_explicit(&known, memory_order_relaxed);
    if (!have) {
        have = cpu_probe() | asked;
        atomic_store_explicit(&known, have, memory_order_relaxed);
    }
    return have & ~asked;
}

uint32_t rt_cpu_arch(void) { return RT_ARCH_X86_64; }

#elif defined(__aarch64__)

/* Advanced SIMD and fused multiply-add belong to every AArch64. */
uint64_t rt_cpu_features(void) { return RT_CPU_AARCH64; }
uint32_t rt_cpu_arch(void) { return RT_ARCH_AARCH64; }

#else

uint64_t rt_cpu_features(void) { return 0; }
uint32_t rt_cpu_arch(void) { return 0; }

#endif
