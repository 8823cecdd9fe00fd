/* dtype.c - the element types as data, and the 16-bit floats in integer operations.
 *
 * Hardware conversions of bf16 flush denormals and compiler run times lack some of them, so both
 * directions are written out here (numerics rule 13).  Rounding works on the significand as an
 * integer: with the exponent field one lower than it should be, the hidden bit that is added with
 * the significand puts it right, and a carry out of the rounding goes into the exponent by itself,
 * up to infinity. */
#include "runtime/dtype.h"

#include <string.h>

const rt_dtype_info rt_dtype_tab[IG_DTYPE_END] = {
    [IG_NONE] = {"none", 0, 0},
#define DTYPE_KIND_b                       'b'
#define DTYPE_KIND_i                       'i'
#define DTYPE_KIND_u                       'u'
#define DTYPE_KIND_f                       'f'
#define DT(name, code, bytes, kind, ctype) [code] = {#name, bytes, DTYPE_KIND_##kind},
#include "ingot/dtypes.def"
#undef DT
};

#define DT(name, code, bytes, kind, ctype)                                                 \
    _Static_assert(sizeof(ctype) == (bytes), #name ": the storage type has another size"); \
    _Static_assert((code) > IG_NONE && (code) < IG_DTYPE_END, #name ": code out of range");
#include "ingot/dtypes.def"
#undef DT

ig_dtype rt_dtype_find(const char *name, size_t n) {
    for (int d = IG_NONE + 1; d < IG_DTYPE_END; d++)
        if (strlen(rt_dtype_tab[d].name) == n && !memcmp(rt_dtype_tab[d].name, name, n))
            return (ig_dtype)d;
    return IG_NONE;
}

const char *ig_dtype_name(ig_dtype d) {
    return rt_dtype_tab[(unsigned)d < IG_DTYPE_END ? d : IG_NONE].name;
}

const char *ig_version(void) { return IG_VERSION_STRING; }

size_t ig_dtype_size(ig_dtype d) {
    return rt_dtype_tab[(unsigned)d < IG_DTYPE_END ? d : IG_NONE].bytes;
}

/* --- 16-bit floats ---------------------------------------------------------------------------- */

/* Round the IEEE pattern x (xe exponent and xm mantissa bits) to one with e and m, once. */
static inline uint16_t dtype_narrow(uint64_t x, int xe, int xm, int e, int m) {
    const int xmax = (1 << xe) - 1, max = (1 << e) - 1;
    uint64_t man = x & ((UINT64_C(1) << xm) - 1);
    int exp = (int)(x >> xm) & xmax;
    unsigned sign = (unsigned)(x >> (xe + xm)) << (e + m), inf = (unsigned)max << m;
    if (exp == xmax) return (uint16_t)(man ? inf | 1u << (m - 1) : sign | inf);
    if (exp)
        man |= UINT64_C(1) << xm;
    else
        exp = 1;
    exp += (max >> 1) - (xmax >> 1); /* from one bias to the other */
    if (exp >= max) return (uint16_t)(sign | inf);
    int shift = xm - m;
    if (exp < 1) shift += 1 - exp, exp = 1; /* denormal */
    if (shift > xm + 2) shift = xm + 2;     /* less than half of the smallest: rounds to zero */
    uint64_t kept = man >> shift, lost = man << (64 - shift), half = UINT64_C(1) << 63;
    kept += lost > half || (lost == half && (kept & 1));
    return (uint16_t)(sign | (((unsigned)(exp - 1) << m) + (unsigned)kept));
}

static inline uint32_t dtype_bits32(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline uint64_t dtype_bits64(double x) {
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float dtype_float(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

#define DTYPE_NAN 0x7fc00000u

float rt_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h >> 15) << 31, exp = h >> 10 & 31, man = h & 0x3ff;
    if (exp == 31) return dtype_float(man ? DTYPE_NAN : sign | 0x7f800000u);
    if (!exp) {
        if (!man) return dtype_float(sign);
        for (exp = 1; !(man & 0x400); exp--)
            man <<= 1; /* normalise: f32 holds it as a normal number */
        man &= 0x3ff;
    }
    return dtype_float(sign | (exp + (127 - 15)) << 23 | man << 13);
}

float rt_bf16_to_f32(uint16_t h) {
    return dtype_float((h & 0x7fff) > 0x7f80 ? DTYPE_NAN : (uint32_t)h << 16);
}

uint16_t rt_f32_to_f16(float x) { return dtype_narrow(dtype_bits32(x), 8, 23, 5, 10); }
uint16_t rt_f32_to_bf16(float x) { return dtype_narrow(dtype_bits32(x), 8, 23, 8, 7); }
uint16_t rt_f64_to_f16(double x) { return dtype_narrow(dtype_bits64(x), 11, 52, 5, 10); }
uint16_t rt_f64_to_bf16(double x) { return dtype_narrow(dtype_bits64(x), 11, 52, 8, 7); }
