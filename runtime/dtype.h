/* dtype.h - properties of element types and the exact conversions of the 16-bit floats. */
#ifndef RT_DTYPE_H
#define RT_DTYPE_H
#include "ingot/base.h"
#include "runtime/base/str.h"

typedef struct rt_dtype_info {
    const char *name;
    uint8_t bytes;
    char kind;
} rt_dtype_info;
extern const rt_dtype_info rt_dtype_tab[IG_DTYPE_END];

static inline size_t rt_dtype_bytes(ig_dtype d) { return rt_dtype_tab[d].bytes; }
static inline bool rt_is_float(ig_dtype d) { return rt_dtype_tab[d].kind == 'f'; }
static inline bool rt_is_signed(ig_dtype d) { return rt_dtype_tab[d].kind == 'i'; }
static inline bool rt_is_int(ig_dtype d) {
    return rt_dtype_tab[d].kind == 'i' || rt_dtype_tab[d].kind == 'u';
}
/* IG_NONE when there is none of that name. */
ig_dtype rt_dtype_find(const char *name, size_t n);

/* Exact widening and round-to-nearest-even narrowing, denormals kept, NaN to the positive quiet
 * NaN, in integer operations only (numerics rule 13). */
float rt_f16_to_f32(uint16_t h);
uint16_t rt_f32_to_f16(float x);
float rt_bf16_to_f32(uint16_t h);
uint16_t rt_f32_to_bf16(float x);
uint16_t rt_f64_to_f16(double x);  /* one rounding */
uint16_t rt_f64_to_bf16(double x); /* one rounding */

/* text.c: a text, each `{}` in it replaced by the next tensor; what is left stands behind it. */
void rt_text_fill(rt_str *out, const char *text, int n, const ig_array *x);
#endif
