/* number.c - decimal text to elements, rounded once and the same under every locale.
 *
 * The value is digits * 10^e exactly: two big integers, numerator and denominator.  Long division
 * gives the first 64 bits of the quotient and whether anything is left below; these are rounded to
 * the target format in one step, so that f16 and f32 never suffer from a rounding to f64 in
 * between.  Digits beyond NUMBER_DIGITS can only break a tie (the exact decimal expansion of a
 * midpoint of binary64 has at most 767 digits) and become one sticky digit. */
#include "ir/text.h"
#include <string.h>

#define NUMBER_DIGITS 800
#define NUMBER_EXP    1200 /* beyond 10^+-1200 with 800 digits every format overflows or is zero */
#define NUMBER_WORDS  216  /* 32-bit words: 10^2000 < 2^6645, and a few bits of scaling */

typedef struct number {
    uint32_t n, w[NUMBER_WORDS];
} number;

/* x = x * mul + add */
static void number_mul_add(number *x, uint32_t mul, uint32_t add) {
    uint64_t carry = add;
    for (uint32_t i = 0; i < x->n; i++) {
        carry += (uint64_t)x->w[i] * mul;
        x->w[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry && x->n < NUMBER_WORDS) x->w[x->n++] = (uint32_t)carry;
}

static void number_mul_pow10(number *x, int e) {
    for (; e >= 9; e -= 9) number_mul_add(x, 1000000000u, 0);
    for (; e > 0; e--) number_mul_add(x, 10, 0);
}

static int number_bits(const number *x) {
    return x->n ? (int)(32 * x->n) - __builtin_clz(x->w[x->n - 1]) : 0;
}

/* x = x * 2^k */
static void number_shift_left(number *x, int k) {
    uint32_t words = (uint32_t)k / 32, bits = (uint32_t)k % 32, carry = 0;
    if (!x->n) return;
    for (uint32_t i = 0; bits && i < x->n; i++) {
        uint32_t v = x->w[i];
        x->w[i] = v << bits | carry;
        carry = v >> (32 - bits);
    }
    if (carry) x->w[x->n++] = carry;
    if (!words) return;
    memmove(x->w + words, x->w, x->n * sizeof x->w[0]);
    memset(x->w, 0, words * sizeof x->w[0]);
    x->n += words;
}

static int number_compare(const number *x, const number *y) {
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    for (uint32_t i = x->n; i-- > 0;)
        if (x->w[i] != y->w[i]) return x->w[i] < y->w[i] ? -1 : 1;
    return 0;
}

/* x -= y, where x >= y */
static void number_sub(number *x, const number *y) {
    uint64_t borrow = 0;
    for (uint32_t i = 0; i < x->n; i++) {
        uint64_t d = (uint64_t)x->w[i] - (i < y->n ? y->w[i] : 0) - borrow;
        x->w[i] = (uint32_t)d;
        borrow = d >> 63;
    }
    while (x->n && !x->w[x->n - 1]) x->n--;
}

/* num / den as q * 2^exp with 2^63 <= q, by long division; true in *sticky_ when a remainder is
 * left. */
static uint64_t number_divide(number *num, number *den, int *exp_, bool *sticky_) {
    int shift = number_bits(den) - number_bits(num);
    uint64_t q = 0;
    number_shift_left(shift > 0 ? num : den, shift > 0 ? shift : -shift);
    if (number_compare(num, den) < 0) {
        number_shift_left(num, 1);
        shift++;
    }
    for (int i = 0; i < 64; i++) { /* num / den lies in [1, 2), then in [0, 2) */
        q <<= 1;
        if (number_compare(num, den) >= 0) {
            number_sub(num, den);
            q |= 1;
        }
        number_shift_left(num, 1);
    }
    *sticky_ = num->n != 0;
    *exp_ = -63 - shift;
    return q;
}

typedef struct number_format {
    int bits, least, most;
} number_format; /* precision; exponents of 1.x */

static number_format number_format_of(ig_dtype dtype) {
    switch (dtype) {
    case IG_f64: return (number_format){53, -1022, 1023};
    case IG_f32: return (number_format){24, -126, 127};
    case IG_bf16: return (number_format){8, -126, 127};
    default: return (number_format){11, -14, 15};
    }
}

/* Round q * 2^exp (q has its top bit set) to nearest even; the bits of the format without the
 * sign. */
static uint64_t number_round(ig_dtype dtype, uint64_t q, int exp, bool sticky) {
    number_format f = number_format_of(dtype);
    int e = exp + 63, drop = 64 - f.bits; /* value = 1.x * 2^e */
    if (e < f.least) drop += f.least - e;
    if (drop > 65) drop = 65;
    uint64_t kept = drop > 63 ? 0 : q >> drop;
    uint64_t rest = drop > 64 ? 0 : q << (64 - drop); /* the dropped bits, the first one on top */
    if (drop > 64 && q) sticky = true;
    uint64_t half = (uint64_t)1 << 63;
    if (rest > half || (rest == half && (sticky || (kept & 1)))) kept++;
    uint64_t biased = e < f.least ? 0 : (uint64_t)(e - f.least);
    uint64_t bits = (biased << (f.bits - 1)) +
                    kept; /* the hidden bit and a carry step the exponent */
    uint64_t inf = (uint64_t)(f.most - f.least + 2) << (f.bits - 1);
    return e > f.most || bits > inf ? inf : bits;
}

static bool number_is_digit(char c) { return c >= '0' && c <= '9'; }

/* [digits][.digits][e[+-]digits] -> digits * 10^e; false when malformed. */
static bool number_scan(const char *s, size_t n, number *digits, int *exp10_) {
    size_t i = 0, count = 0;
    int64_t exp = 0;
    bool any = false, point = false, sticky = false;
    digits->n = 0;
    for (; i < n && (number_is_digit(s[i]) || (s[i] == '.' && !point)); i++) {
        if (s[i] == '.') {
            point = true;
            continue;
        }
        any = true;
        if (count < NUMBER_DIGITS) {
            if (digits->n || s[i] != '0') count++;
            number_mul_add(digits, 10, (uint32_t)(s[i] - '0'));
            if (point) exp--;
        } else {
            if (s[i] != '0') sticky = true;
            if (!point) exp++;
        }
    }
    if (!any) return false;
    if (sticky) {
        number_mul_add(digits, 10, 1);
        exp--;
    }
    if (i < n && (s[i] == 'e' || s[i] == 'E')) {
        bool minus = ++i < n && s[i] == '-';
        int64_t x = 0;
        if (i < n && (s[i] == '-' || s[i] == '+')) i++;
        if (i >= n) return false;
        for (; i < n && number_is_digit(s[i]); i++)
            if (x < INT32_MAX) x = x * 10 + (s[i] - '0');
        exp += minus ? -x : x;
    }
    if (i != n) return false;
    *exp10_ = exp < -2000 ? -2000 : exp > NUMBER_EXP ? NUMBER_EXP : (int)exp;
    return true;
}

static bool number_float(const char *s, size_t n, ig_dtype dtype, uint64_t *bits_) {
    number_format f = number_format_of(dtype);
    uint64_t inf = (uint64_t)(f.most - f.least + 2) << (f.bits - 1);
    uint64_t sign = 0;
    number num, den;
    int exp10, exp2;
    bool sticky;
    if (n && (*s == '-' || *s == '+')) {
        sign = *s == '-' ? (uint64_t)1 << (8 * rt_dtype_bytes(dtype) - 1) : 0;
        s++, n--;
    }
    if (n == 3 && !memcmp(s, "nan", 3)) {
        *bits_ = inf | (uint64_t)1 << (f.bits - 2);
        return !sign;
    }
    if (n == 3 && !memcmp(s, "inf", 3)) {
        *bits_ = sign | inf;
        return true;
    }
    if (!number_scan(s, n, &num, &exp10)) return false;
    if (!num.n) {
        *bits_ = sign;
        return true;
    }
    den.n = 1;
    den.w[0] = 1;
    if (exp10 > 0)
        number_mul_pow10(&num, exp10);
    else
        number_mul_pow10(&den, -exp10);
    uint64_t q = number_divide(&num, &den, &exp2, &sticky);
    *bits_ = sign | number_round(dtype, q, exp2, sticky);
    return true;
}

static bool number_int(const char *s, size_t n, ig_dtype dtype, uint64_t *bits_) {
    unsigned width = 8 * (unsigned)rt_dtype_bytes(dtype);
    bool minus = n && *s == '-';
    uint64_t x = 0, most = UINT64_MAX >> (64 - width);
    if (rt_is_signed(dtype)) most = (most >> 1) + minus;
    if (n && (*s == '-' || *s == '+')) s++, n--;
    if (!n || (minus && !rt_is_signed(dtype))) return false;
    for (size_t i = 0; i < n; i++) {
        if (!number_is_digit(s[i])) return false;
        uint64_t d = (uint64_t)(s[i] - '0');
        if (x > (most - d) / 10 || d > most) return false;
        x = x * 10 + d;
    }
    *bits_ = minus ? 0 - x : x;
    return true;
}

bool ir_parse_element(const char *s, size_t n, ig_dtype dtype, void *out_) {
    uint64_t bits;
    uint8_t *out = out_;
    if (dtype == IG_bool) {
        bool yes = n == 4 && !memcmp(s, "true", 4);
        if (!yes && !(n == 5 && !memcmp(s, "false", 5))) return false;
        bits = yes;
    } else if (rt_is_float(dtype) ? !number_float(s, n, dtype, &bits)
                                  : !number_int(s, n, dtype, &bits)) {
        return false;
    }
    for (size_t k = 0; k < rt_dtype_bytes(dtype); k++) out[k] = (uint8_t)(bits >> (8 * k));
    return true;
}
