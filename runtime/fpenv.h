/* fpenv.h - the floating-point environment at public entries and in pool tasks (numerics rule 14):
 * reading it costs a quarter of a nanosecond, setting and restoring it nine.  (Generated kernels do
 * the same for themselves.) */
#ifndef RT_FPENV_H
#define RT_FPENV_H
#include <stdint.h>

#if defined(__x86_64__) || defined(__i386__)
#include <xmmintrin.h>
#define RT_FP_DEFAULT 0x1f80u /* all exceptions masked, to nearest, denormals kept */
#define RT_FP_FLAGS   0x3fu   /* exceptions seen: not part of the mode */

/* Set the default environment; the token goes to rt_fp_leave. */
static inline uint32_t rt_fp_enter(void) {
    uint32_t mode = _mm_getcsr();
    if ((mode & ~RT_FP_FLAGS) != RT_FP_DEFAULT) _mm_setcsr(RT_FP_DEFAULT);
    return mode;
}

static inline void rt_fp_leave(uint32_t token) {
    if ((token & ~RT_FP_FLAGS) != RT_FP_DEFAULT) _mm_setcsr(token);
}
#elif defined(__aarch64__)
static inline uint32_t rt_fp_enter(void) {
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    if (mode) __asm__ volatile("msr fpcr, %0" ::"r"((uint64_t)0));
    return (uint32_t)mode;
}

static inline void rt_fp_leave(uint32_t token) {
    if (token) __asm__ volatile("msr fpcr, %0" ::"r"((uint64_t)token));
}
#else
static inline uint32_t rt_fp_enter(void) { return 0; }
static inline void rt_fp_leave(uint32_t token) { (void)token; }
#endif
#endif
