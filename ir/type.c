/* type.c - types are small values; nothing here allocates but through dims. */
#include "ir/ir.h"

ir_type ir_tensor_type(ig_dtype dtype, int rank, const ir_dim *dims) {
    ir_type t = {.dtype = (uint8_t)dtype, .rank = (uint8_t)rank};
    for (int i = 0; i < rank && i < IG_MAX_RANK; i++) t.dim[i] = dims[i];
    return t;
}

bool ir_same_dims(const ir_type *a, const ir_type *b) {
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank && i < IG_MAX_RANK; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

bool ir_type_eq(const ir_type *a, const ir_type *b) {
    return a->dtype == b->dtype && a->lanes == b->lanes && a->mem == b->mem && ir_same_dims(a, b);
}

bool ir_type_is_static(const ir_type *t) {
    for (int i = 0; i < t->rank; i++)
        if (!ir_dim_is_const(t->dim[i])) return false;
    return true;
}

ir_dim ir_type_numel(ir_module *m, const ir_type *t) {
    ir_dim n = 1;
    for (int i = 0; i < t->rank; i++) n = ir_dim_mul(m, n, t->dim[i]);
    return n;
}

bool ir_type_bytes(const ir_type *t, int64_t *numel_, size_t *bytes_) {
    int64_t n;
    if (t->rank > IG_MAX_RANK || t->dtype >= IG_DTYPE_END) return false;
    if (!ir_type_is_static(t) || !rt_numel_checked(t->dim, t->rank, &n)) return false;
    if ((uint64_t)n > SIZE_MAX || !rt_mul_size((size_t)n, rt_dtype_bytes(t->dtype), bytes_))
        return false;
    *numel_ = n;
    return true;
}

void ir_type_print(const ir_module *m, const ir_type *t, rt_str *out) {
    const char *name = ig_dtype_name(t->dtype);
    if (t->mem) {
        rt_str_printf(out, "mem<%s>", name);
    } else if (t->lanes) {
        rt_str_printf(out, "vec<%u x %s>", t->lanes, name);
    } else {
        rt_str_printf(out, "%s[", name);
        for (int i = 0; i < t->rank && i < IG_MAX_RANK; i++) {
            if (i) rt_str_puts(out, ",");
            ir_dim_print(m, t->dim[i], out);
        }
        rt_str_puts(out, "]");
    }
}
