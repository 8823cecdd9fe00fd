/* key.c - ops under their attributes as numbers: what the table of eager kernels is indexed by. */
#include "codegen/eager/eager.h"

#include <string.h>

const uint16_t cg_eager_first[OP_END] = {
#define OP(name, ...) [OP_##name] = CG_EAGER_##name,
#include "ir/ops.def"
#undef OP
};

/* How many values a field has that count as variants; 0 for other fields. */
static const int key_values[FIELD_END] = {
#define ENUM(kind, ...) [FIELD_##kind] = CG_EAGER_OF_##kind,
#include "ir/attrs.def"
    [FIELD_flag] = CG_EAGER_OF_flag,
    [FIELD_dtype] = CG_EAGER_OF_dtype,
};

int cg_eager_variant(ir_opcode op, const void *attr) {
    const ir_attr_info *info = &ir_attr_tab[ir_op_tab[op].attr];
    int v = 0;
    for (uint32_t i = 0; i < info->nfield; i++) {
        int n = key_values[info->field[i].kind];
        if (n) v = v * n + ((const uint8_t *)attr)[info->field[i].offset] % n;
    }
    return v;
}

int cg_eager_variants(ir_opcode op) {
    return (op + 1 < OP_END ? cg_eager_first[op + 1] : CG_EAGER_VARIANTS) - cg_eager_first[op];
}

void cg_eager_set_variant(ir_opcode op, int variant, void *attr) {
    const ir_attr_info *info = &ir_attr_tab[ir_op_tab[op].attr];
    for (uint32_t i = info->nfield; i-- > 0;) {
        int n = key_values[info->field[i].kind];
        if (!n) continue;
        ((uint8_t *)attr)[info->field[i].offset] = (uint8_t)(variant % n);
        variant /= n;
    }
}
