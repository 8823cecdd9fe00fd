/* eager.h - the kernels that eager calls run: which there are, and how they are called.
 *
 * When the project is built, codegen/eager/generate.c lowers one cluster for every row of the op
 * table, element type and form below, on symbolic sizes, and compiles them for each CPU level of
 * the machine.  What it writes is an object and a table; the frontend finds a kernel by three
 * loads, and neither waits for a compiler nor needs LLVM.
 *
 * A kernel is an ig_kernel: buffers are the operands, then the result; dims are listed here by
 * form; [lo, hi) is a part of its rows.
 *
 *   elementwise   dims: rows, n, then for each operand the distance of its rows in elements, which
 *                 may be 0.  Form: bit k says that operand k has one element a row.
 *   reduce,       0: [outer, n], 1: [outer, n, inner], reduced (or running) along n.  dims: outer,
 *   cumred        n, inner.
 *   iota          the same shapes, counting along n.
 *   rng_bits      0: n words in a row.  dims: n.
 *   ein           [batch, m, k] x [batch, k, n] -> [batch, m, n], a sum of products.  Form: bit 0:
 *                 the first operand is [batch, k, m], bit 1: the second one is [batch, n, k].
 *                 dims: batch, m, n, k.
 *   scatter       add, mul, min, max: x[n], updates and their places (i64) [m], out of range
 * nothing. dims: n, m. sort          one key [outer, n] of the type cg_eager_sorted_as gives, with
 * positions (i64).  The results are followed by as much room for each.  dims: outer, n.
 *
 * In all families but the first the kernel at form + CG_EAGER_SIZE writes two int64_t into buffer
 * 0: how many rows there are, and how many picoseconds they are estimated to take. */
#ifndef CG_EAGER_H
#define CG_EAGER_H
#include "codegen/target.h"

enum { CG_EAGER_FORMS = 8, CG_EAGER_SIZE = 4, CG_EAGER_DIMS = 5 };

/* An op under one of its attributes is one number: the enumerated fields, element types and flags
 * of the attribute are its digits, anything else is left to the form. */
enum {
    CG_EAGER_OF_int = 1,
    CG_EAGER_OF_flag = 2,
    CG_EAGER_OF_dtype = IG_DTYPE_END,
    CG_EAGER_OF_dim = 1,
    CG_EAGER_OF_dims = 1,
    CG_EAGER_OF_axes = 1,
    CG_EAGER_OF_ints = 1,
    CG_EAGER_OF_sym = 1,
    CG_EAGER_OF_type = 1,
    CG_EAGER_OF_data = 1,
    CG_EAGER_OF_rel = 1,
    CG_EAGER_OF_places = 1,
    CG_EAGER_OF_ckpt = 1,
#define ENUM(kind, ...) CG_EAGER_OF_##kind = IR_NARG(__VA_ARGS__),
#include "ir/attrs.def"
};
enum {
#define F(kind, name)      *CG_EAGER_OF_##kind
#define ATTR(name, fields) CG_EAGER_VARIANTS_##name = 1 fields,
#include "ir/attrs.def"
#undef F
};
enum {
#define OP(name, ver, n, level, attr, type, domain, flags, rules) \
    CG_EAGER_##name, CG_EAGER_##name##_last = CG_EAGER_##name + CG_EAGER_VARIANTS_##attr - 1,
#include "ir/ops.def"
#undef OP
    CG_EAGER_VARIANTS
};

/* The number of an op's first variant; of a variant, counted from there. */
extern const uint16_t cg_eager_first[OP_END];
int cg_eager_variant(ir_opcode op, const void *attr);
/* How many variants an op has; the fields of its attribute that a variant stands for. */
int cg_eager_variants(ir_opcode op);
void cg_eager_set_variant(ir_opcode op, int variant, void *attr);

/* The kernels of one level. */
typedef struct cg_eager_level {
    const char *name;     /* in cpus.def */
    const uint16_t *row;  /* by (number of the variant) * IG_DTYPE_END + element type of the last
                             operand (scatter: of x; sort: of the key): 1 + row, 0: none */
    const uint8_t *dtype; /* by row: element type of the result */
    const uint16_t *ps;   /* by row: estimated picoseconds an element, elementwise ops only */
    const int32_t *code;  /* by row * CG_EAGER_FORMS + form: where the kernel is, from here on in
                             bytes; 0: none */
} cg_eager_level;
extern const cg_eager_level cg_eager_tab[]; /* ended by a NULL name */

/* The row of an op at an element type, or -1. */
static inline int cg_eager_row(const cg_eager_level *l, ir_opcode op, const void *attr,
                               ig_dtype dtype) {
    int v = cg_eager_first[op] + (ir_op_tab[op].attr == ATTR_none ? 0 : cg_eager_variant(op, attr));
    return l->row[v * IG_DTYPE_END + (int)dtype] - 1;
}

static inline ig_kernel cg_eager_kernel(const cg_eager_level *l, int row, int form) {
    int32_t at = l->code[row * CG_EAGER_FORMS + form];
    return at ? (ig_kernel)((uintptr_t)l->code + (uintptr_t)(intptr_t)at) : NULL;
}

/* The element type in which keys of type d are sorted: all its values, in the same order. */
static inline ig_dtype cg_eager_sorted_as(ig_dtype d) {
    if (d == IG_f64 || d == IG_u64) return d;
    return rt_is_float(d) ? IG_f32 : IG_i64;
}

/* The element type of operand k of an elementwise op whose last operand has type d. */
static inline ig_dtype cg_eager_operand(ir_opcode op, int k, ig_dtype d) {
    return op == OP_select && !k ? IG_bool : d;
}
#endif
