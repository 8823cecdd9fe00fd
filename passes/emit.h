/* emit.h - short ways to emit what rules of derivatives and batching need: constants of a shape,
 * movement of axes, contractions. */
#ifndef PASS_EMIT_H
#define PASS_EMIT_H
#include "ir/ir.h"

/* EMIT(b, mul, x, y) and EMIT_AS(b, cmp, &attr, x, y): an op on operands that are listed. */
#define EMIT_AS(b, op, attr, ...) \
    ir_emit(b, OP_##op, attr, (int)IR_NARG(__VA_ARGS__), (const ir_ref[]){__VA_ARGS__})
#define EMIT(b, op, ...) EMIT_AS(b, op, NULL, __VA_ARGS__)

/* Where an op was written, in another module. */
ir_loc emit_loc(ir_module *m, const ir_func *f, const ir_op *o);

ir_ref emit_cmp(ir_builder *b, ir_cmpop op, ir_ref x, ir_ref y);
/* One number everywhere in this shape, and of the element type of a type. */
ir_ref emit_fill(ir_builder *b, const ir_type *type, double x);
ir_ref emit_scalar(ir_builder *b, const ir_type *type, double x);
/* A value that does not have the axes `lost` (increasing) of `full`, repeated along them. */
ir_ref emit_repeat(ir_builder *b, ir_ref x, const ir_type *full, const ir_axes *lost);
/* A value n times, in front; one that has one element for each of these lanes, repeated over the
 * other axes of a type with the lanes in front. */
ir_ref emit_lanes(ir_builder *b, ir_ref x, ir_dim n);
ir_ref emit_over_lanes(ir_builder *b, ir_ref x, const ir_type *full);
/* The elements of x moved by `by` places along an axis, up or (back) down; `fill` comes in. */
ir_ref emit_shift(ir_builder *b, ir_ref x, int axis, ir_dim by, bool back, ir_ref fill);
/* Axis `from` becomes axis `to`, the others keep their order. */
ir_ref emit_move_axis(ir_builder *b, ir_ref x, int from, int to);
/* x cut to [lo, hi) along every axis, step 1 when NULL. */
ir_ref emit_slice(ir_builder *b, ir_ref x, const ir_dims *lo, const ir_dims *hi,
                  const ir_ints *step);
/* Where pad (of attribute a, giving y) puts its value: a bool of y's shape. */
ir_ref emit_pad_mask(ir_builder *b, const ir_attr_pad *a, const ir_type *x);

ir_dims emit_dims(const ir_type *type);
/* A type of rank below IG_MAX_RANK with an axis of n more. */
ir_type emit_longer(ir_type t, int axis, ir_dim n);
/* The axes that are not in a list. */
ir_axes emit_other_axes(const ir_axes *axes, int rank);

/* out[..] += product of the operands, each with its list of variables in any numbers below
 * IR_EIN_VARS: one contraction, in the order of first appearance among the operands, or where no
 * variable is summed a product, elementwise.  Every variable of out is one of an operand. */
ir_ref emit_contract(ir_builder *b, const ir_axes *out, int n, const ir_axes *in, const ir_ref *x);
/* x, whose axes are these increasing or not variables, on all variables `vars` of extents dim. */
ir_ref emit_spread(ir_builder *b, ir_ref x, const ir_axes *access, const ir_axes *vars,
                   const ir_dim *dim);
#endif
