/* text.c - texts with the values of tensors in them. */
#include "runtime/dtype.h"

#include <inttypes.h>

#define TEXT_ELEMENTS 8 /* of a tensor that are shown */

static int64_t text_int(int size, bool is_signed, const void *x) {
    switch (size) {
    case 1: return is_signed ? *(const int8_t *)x : *(const uint8_t *)x;
    case 2: return is_signed ? *(const int16_t *)x : *(const uint16_t *)x;
    case 4: return is_signed ? *(const int32_t *)x : (int64_t) * (const uint32_t *)x;
    default: return *(const int64_t *)x;
    }
}

static void text_element(rt_str *out, ig_dtype d, const void *x) {
    int64_t i;
    switch (d) {
    case IG_bool: rt_str_puts(out, *(const uint8_t *)x ? "true" : "false"); break;
    case IG_f64: rt_str_printf(out, "%.9g", *(const double *)x); break;
    case IG_f32: rt_str_printf(out, "%.9g", (double)*(const float *)x); break;
    case IG_f16: rt_str_printf(out, "%.9g", (double)rt_f16_to_f32(*(const uint16_t *)x)); break;
    case IG_bf16: rt_str_printf(out, "%.9g", (double)rt_bf16_to_f32(*(const uint16_t *)x)); break;
    default:
        i = text_int((int)rt_dtype_bytes(d), rt_is_signed(d), x);
        if (d == IG_u64)
            rt_str_printf(out, "%" PRIu64, (uint64_t)i);
        else
            rt_str_printf(out, "%" PRId64, i);
    }
}

/* A scalar, or the first elements in brackets. */
static void text_array(rt_str *out, const ig_array *a) {
    int64_t n = 1;
    const char *x = a->data;
    for (int i = 0; i < a->rank; i++) n *= a->dim[i];
    if (a->rank) rt_str_puts(out, "[");
    for (int64_t i = 0; i < n && i < TEXT_ELEMENTS; i++, x += rt_dtype_bytes((ig_dtype)a->dtype)) {
        if (i) rt_str_puts(out, ", ");
        text_element(out, (ig_dtype)a->dtype, x);
    }
    if (n > TEXT_ELEMENTS) rt_str_puts(out, ", ...");
    if (a->rank) rt_str_puts(out, "]");
}

void rt_text_fill(rt_str *out, const char *text, int n, const ig_array *x) {
    int k = 0;
    for (const char *s = text ? text : ""; *s; s++) {
        if (s[0] != '{' || s[1] != '}' || k == n) {
            rt_str_add(out, s, 1);
            continue;
        }
        text_array(out, &x[k++]);
        s++;
    }
    for (; k < n; k++) {
        if (out->n) rt_str_puts(out, " ");
        text_array(out, &x[k]);
    }
}
