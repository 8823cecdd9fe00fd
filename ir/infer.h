/* infer.h - what the files of type rules share: messages, and checks. */
#ifndef IR_INFER_H
#define IR_INFER_H
#include "ir/ir.h"

/* Types and dims print into a buffer of their own: a rule prints several without an allocator. */
typedef struct ir_infer_text {
    char s[256];
} ir_infer_text;
ir_infer_text ir_infer_type_text(const ir_infer *c, const ir_type *t);
ir_infer_text ir_infer_dim_text(const ir_infer *c, ir_dim d);
#define IR_INFER_TYPE(t) ir_infer_type_text(c, (t)).s
#define IR_INFER_DIM(d)  ir_infer_dim_text(c, (d)).s

/* Record what is wrong; false. */
bool ir_infer_fail(ir_infer *c, ig_code code, const char *fmt, ...) IG_PRINTF(3, 4);
/* The one result; true. */
bool ir_infer_one(ir_infer *c, ir_type t);

static inline bool ir_infer_is_num(const ir_type *t) {
    return rt_is_int(t->dtype) || rt_is_float(t->dtype);
}
/* Operand k is neither memory nor a vector. */
bool ir_infer_check_tensor(ir_infer *c, int k);
/* Strictly increasing and below rank; below rank. */
bool ir_infer_check_axes(ir_infer *c, const ir_axes *a, int rank);
bool ir_infer_check_axis(ir_infer *c, int64_t axis, int rank);

/* Rules in files of their own. */
bool ir_infer_gather(ir_infer *c);
bool ir_infer_scatter(ir_infer *c);
bool ir_infer_sort(ir_infer *c);
bool ir_infer_if(ir_infer *c);
bool ir_infer_scan(ir_infer *c);
bool ir_infer_while(ir_infer *c);
bool ir_infer_composite(ir_infer *c);
bool ir_infer_pull(ir_infer *c);
bool ir_infer_custom(ir_infer *c);
bool ir_infer_host(ir_infer *c);
bool ir_infer_assert(ir_infer *c);
bool ir_infer_invoke(ir_infer *c);
#endif
