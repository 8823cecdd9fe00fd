/* levels.c - the eager kernels that were built in: IG_EAGER_LEVELS lists their levels, each as
 * LEVEL(name).  Without LLVM the build has none. */
#include "codegen/eager/eager.h"

#ifndef IG_EAGER_LEVELS
#define IG_EAGER_LEVELS
#endif

#define LEVEL(name)                                                                       \
    extern const uint16_t ig_eager_##name##_row[] __attribute__((visibility("hidden")));  \
    extern const uint8_t ig_eager_##name##_dtype[] __attribute__((visibility("hidden"))); \
    extern const uint16_t ig_eager_##name##_ps[] __attribute__((visibility("hidden")));   \
    extern const int32_t ig_eager_##name##_code[] __attribute__((visibility("hidden")));
IG_EAGER_LEVELS
#undef LEVEL

const cg_eager_level cg_eager_tab[] = {
#define LEVEL(name)                                                               \
    {#name, ig_eager_##name##_row, ig_eager_##name##_dtype, ig_eager_##name##_ps, \
     ig_eager_##name##_code},
    IG_EAGER_LEVELS
#undef LEVEL
    {0},
};
