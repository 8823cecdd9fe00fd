/* ingot/ops.h - the operations on tensors.  Shapes broadcast as in numpy; negative axes count from
 * the end.
 *
 * Element types: a host number takes the type of the tensor beside it (a fraction beside an integer
 * tensor is an error); an integer tensor beside a floating one is converted to that type; every
 * other mixture is an error that says which ig_cast to write.  Integers wrap; x / 0 is 0 and x rem
 * 0 is x; division truncates toward zero; a shift by the width or more gives 0 (right shift of a
 * negative number: -1).  max and min propagate NaN. */
#ifndef INGOT_OPS_H
#define INGOT_OPS_H

#include "ingot/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

#define IG_OP1(name) IG_API ig_tensor *ig_##name##_at(const ig_site *site, ig_arg x)
#define IG_OP2(name) IG_API ig_tensor *ig_##name##_at(const ig_site *site, ig_arg x, ig_arg y)
#define IG_OP3(name) \
    IG_API ig_tensor *ig_##name##_at(const ig_site *site, ig_arg x, ig_arg y, ig_arg z)
#define IG_OPR(name) IG_API ig_tensor *ig_##name##_at(const ig_site *site, ig_arg x, ig_axes axes)

/* --- Elementwise, one operand -------------------------------------------------------------- */

IG_OP1(neg);
IG_OP1(abs);
IG_OP1(sign); /* -1, 0, 1; NaN stays */
IG_OP1(square);
IG_OP1(reciprocal);
IG_OP1(exp);
IG_OP1(expm1);
IG_OP1(log);
IG_OP1(log1p);
IG_OP1(sqrt);
IG_OP1(rsqrt); /* 1 / sqrt(x), two roundings */
IG_OP1(sin);
IG_OP1(cos);
IG_OP1(tan); /* sin(x) / cos(x) */
IG_OP1(tanh);
IG_OP1(erf);
IG_OP1(floor);
IG_OP1(ceil);
IG_OP1(round); /* to nearest, ties to even */
IG_OP1(trunc);
IG_OP1(sigmoid);  /* 1 / (1 + exp(-x)) */
IG_OP1(relu);     /* max(x, 0) */
IG_OP1(silu);     /* x * sigmoid(x) */
IG_OP1(gelu);     /* x/2 * (1 + erf(x / sqrt 2)) */
IG_OP1(softplus); /* max(x, 0) + log1p(exp(-|x|)) */
IG_OP1(isnan);
IG_OP1(isinf);
IG_OP1(isfinite);
IG_OP1(not ); /* bool: logical; integers: all bits */
IG_OP1(stop_gradient); /* x, whose derivative is zero (ingot/transform.h) */
IG_OP1(popcount);
IG_OP1(clz); /* of 0: the width */
IG_OP1(ctz);
IG_API ig_tensor *ig_cast_at(const ig_site *site, ig_arg x, ig_dtype dtype);
/* The same bits as another type of the same size. */
IG_API ig_tensor *ig_bitcast_at(const ig_site *site, ig_arg x, ig_dtype dtype);

#define ig_neg(x)            ig_neg_at(IG_SITE, IG_ARG(x))
#define ig_abs(x)            ig_abs_at(IG_SITE, IG_ARG(x))
#define ig_sign(x)           ig_sign_at(IG_SITE, IG_ARG(x))
#define ig_square(x)         ig_square_at(IG_SITE, IG_ARG(x))
#define ig_reciprocal(x)     ig_reciprocal_at(IG_SITE, IG_ARG(x))
#define ig_exp(x)            ig_exp_at(IG_SITE, IG_ARG(x))
#define ig_expm1(x)          ig_expm1_at(IG_SITE, IG_ARG(x))
#define ig_log(x)            ig_log_at(IG_SITE, IG_ARG(x))
#define ig_log1p(x)          ig_log1p_at(IG_SITE, IG_ARG(x))
#define ig_sqrt(x)           ig_sqrt_at(IG_SITE, IG_ARG(x))
#define ig_rsqrt(x)          ig_rsqrt_at(IG_SITE, IG_ARG(x))
#define ig_sin(x)            ig_sin_at(IG_SITE, IG_ARG(x))
#define ig_cos(x)            ig_cos_at(IG_SITE, IG_ARG(x))
#define ig_tan(x)            ig_tan_at(IG_SITE, IG_ARG(x))
#define ig_tanh(x)           ig_tanh_at(IG_SITE, IG_ARG(x))
#define ig_erf(x)            ig_erf_at(IG_SITE, IG_ARG(x))
#define ig_floor(x)          ig_floor_at(IG_SITE, IG_ARG(x))
#define ig_ceil(x)           ig_ceil_at(IG_SITE, IG_ARG(x))
#define ig_round(x)          ig_round_at(IG_SITE, IG_ARG(x))
#define ig_trunc(x)          ig_trunc_at(IG_SITE, IG_ARG(x))
#define ig_sigmoid(x)        ig_sigmoid_at(IG_SITE, IG_ARG(x))
#define ig_relu(x)           ig_relu_at(IG_SITE, IG_ARG(x))
#define ig_silu(x)           ig_silu_at(IG_SITE, IG_ARG(x))
#define ig_gelu(x)           ig_gelu_at(IG_SITE, IG_ARG(x))
#define ig_softplus(x)       ig_softplus_at(IG_SITE, IG_ARG(x))
#define ig_stop_gradient(x)  ig_stop_gradient_at(IG_SITE, IG_ARG(x))
#define ig_isnan(x)          ig_isnan_at(IG_SITE, IG_ARG(x))
#define ig_isinf(x)          ig_isinf_at(IG_SITE, IG_ARG(x))
#define ig_isfinite(x)       ig_isfinite_at(IG_SITE, IG_ARG(x))
#define ig_not(x)            ig_not_at(IG_SITE, IG_ARG(x))
#define ig_popcount(x)       ig_popcount_at(IG_SITE, IG_ARG(x))
#define ig_clz(x)            ig_clz_at(IG_SITE, IG_ARG(x))
#define ig_ctz(x)            ig_ctz_at(IG_SITE, IG_ARG(x))
#define ig_cast(x, dtype)    ig_cast_at(IG_SITE, IG_ARG(x), dtype)
#define ig_bitcast(x, dtype) ig_bitcast_at(IG_SITE, IG_ARG(x), dtype)

/* --- Elementwise, two and three operands --------------------------------------------------- */

IG_OP2(add);
IG_OP2(sub);
IG_OP2(mul);
IG_OP2(div);
IG_OP2(rem); /* sign of the dividend; exact for floats, as C's fmod */
IG_OP2(pow); /* floats; integers to the power of a host integer >= 0 */
IG_OP2(atan2);
IG_OP2(maximum);
IG_OP2(minimum);
IG_OP2(eq); /* comparisons give bool; NaN compares false, except ne */
IG_OP2(ne);
IG_OP2(lt);
IG_OP2(le);
IG_OP2(gt);
IG_OP2(ge);
IG_OP2(and); /* bool or integers */
IG_OP2(or);
IG_OP2(xor);
IG_OP2(shl);
IG_OP2(shr);   /* copies the sign of signed integers */
IG_OP3(where); /* x ? y : z, x bool */
IG_OP3(clip);  /* min(max(x, y), z) */
IG_OP3(fma);   /* x * y + z, one rounding (class nofma: two) */

#define ig_add(x, y)       ig_add_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_sub(x, y)       ig_sub_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_mul(x, y)       ig_mul_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_div(x, y)       ig_div_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_rem(x, y)       ig_rem_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_pow(x, y)       ig_pow_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_atan2(x, y)     ig_atan2_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_maximum(x, y)   ig_maximum_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_minimum(x, y)   ig_minimum_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_eq(x, y)        ig_eq_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_ne(x, y)        ig_ne_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_lt(x, y)        ig_lt_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_le(x, y)        ig_le_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_gt(x, y)        ig_gt_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_ge(x, y)        ig_ge_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_and(x, y)       ig_and_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_or(x, y)        ig_or_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_xor(x, y)       ig_xor_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_shl(x, y)       ig_shl_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_shr(x, y)       ig_shr_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_where(p, x, y)  ig_where_at(IG_SITE, IG_ARG(p), IG_ARG(x), IG_ARG(y))
#define ig_clip(x, lo, hi) ig_clip_at(IG_SITE, IG_ARG(x), IG_ARG(lo), IG_ARG(hi))
#define ig_fma(x, y, z)    ig_fma_at(IG_SITE, IG_ARG(x), IG_ARG(y), IG_ARG(z))

/* --- Shape --------------------------------------------------------------------------------- */

/* One extent may be -1: whatever is left. */
IG_API ig_tensor *ig_reshape_at(const ig_site *site, ig_arg x, ig_dims dims);
/* Axis i of the result is axis perm[i] of x; IG_ALL_AXES reverses the axes. */
IG_API ig_tensor *ig_transpose_at(const ig_site *site, ig_arg x, ig_axes perm);
IG_API ig_tensor *ig_swap_axes_at(const ig_site *site, ig_arg x, int a, int b);
IG_API ig_tensor *ig_move_axis_at(const ig_site *site, ig_arg x, int from, int to);
IG_API ig_tensor *ig_broadcast_to_at(const ig_site *site, ig_arg x, ig_dims dims);
/* New axes of extent 1 at these positions of the result. */
IG_API ig_tensor *ig_expand_dims_at(const ig_site *site, ig_arg x, ig_axes axes);
/* Drop axes of extent 1 (IG_ALL_AXES: all of those). */
IG_API ig_tensor *ig_squeeze_at(const ig_site *site, ig_arg x, ig_axes axes);
IG_API ig_tensor *ig_flip_at(const ig_site *site, ig_arg x, ig_axes axes);
/* lo[i] elements of value before and hi[i] after axis i. */
IG_API ig_tensor *ig_pad_at(const ig_site *site, ig_arg x, ig_dims lo, ig_dims hi, ig_arg value);
IG_API ig_tensor *ig_concat_at(const ig_site *site, ig_list list, int axis);
IG_API ig_tensor *ig_stack_at(const ig_site *site, ig_list list, int axis);
/* n equal parts of an axis; false and all parts poison after an error. */
IG_API bool ig_split_at(const ig_site *site, ig_arg x, int n, int axis, ig_tensor **parts_);
/* Every element n times in a row. */
IG_API ig_tensor *ig_repeat_at(const ig_site *site, ig_arg x, int64_t n, int axis);
/* The whole tensor times[i] times along axis i (aligned at the last axis). */
IG_API ig_tensor *ig_tile_at(const ig_site *site, ig_arg x, ig_dims times);
/* Elements move up by `shift` along the axis, those falling off come in at the start. */
IG_API ig_tensor *ig_roll_at(const ig_site *site, ig_arg x, int64_t shift, int axis);
/* Zero above (tril) or below (triu) the diagonal k of the last two axes. */
IG_API ig_tensor *ig_tril_at(const ig_site *site, ig_arg x, int k);
IG_API ig_tensor *ig_triu_at(const ig_site *site, ig_arg x, int k);

#define ig_reshape(x, dims)          ig_reshape_at(IG_SITE, IG_ARG(x), dims)
#define ig_flatten(x)                ig_reshape_at(IG_SITE, IG_ARG(x), IG_DIMS(-1))
#define ig_transpose(x, perm)        ig_transpose_at(IG_SITE, IG_ARG(x), perm)
#define ig_swap_axes(x, a, b)        ig_swap_axes_at(IG_SITE, IG_ARG(x), a, b)
#define ig_move_axis(x, from, to)    ig_move_axis_at(IG_SITE, IG_ARG(x), from, to)
#define ig_broadcast_to(x, dims)     ig_broadcast_to_at(IG_SITE, IG_ARG(x), dims)
#define ig_expand_dims(x, axes)      ig_expand_dims_at(IG_SITE, IG_ARG(x), IG_AXES_ARG(axes))
#define ig_squeeze(x, axes)          ig_squeeze_at(IG_SITE, IG_ARG(x), IG_AXES_ARG(axes))
#define ig_flip(x, axes)             ig_flip_at(IG_SITE, IG_ARG(x), IG_AXES_ARG(axes))
#define ig_pad(x, lo, hi, value)     ig_pad_at(IG_SITE, IG_ARG(x), lo, hi, IG_ARG(value))
#define ig_concat(list, axis)        ig_concat_at(IG_SITE, list, axis)
#define ig_stack(list, axis)         ig_stack_at(IG_SITE, list, axis)
#define ig_split(x, n, axis, parts_) ig_split_at(IG_SITE, IG_ARG(x), n, axis, parts_)
#define ig_repeat(x, n, axis)        ig_repeat_at(IG_SITE, IG_ARG(x), n, axis)
#define ig_tile(x, times)            ig_tile_at(IG_SITE, IG_ARG(x), times)
#define ig_roll(x, shift, axis)      ig_roll_at(IG_SITE, IG_ARG(x), shift, axis)
#define ig_tril(x, k)                ig_tril_at(IG_SITE, IG_ARG(x), k)
#define ig_triu(x, k)                ig_triu_at(IG_SITE, IG_ARG(x), k)

/* --- Indexing ------------------------------------------------------------------------------ */

/* One entry of x[...].  Python's rules: negative positions from the end, ranges clamped, IG_OPEN
 * for a bound left out, a negative step runs backwards. */
typedef enum ig_index_kind {
    IG_INDEX_AT,
    IG_INDEX_RANGE,
    IG_INDEX_NEW,
    IG_INDEX_REST,
    IG_INDEX_PICK
} ig_index_kind;
typedef struct ig_index {
    ig_index_kind kind;
    int64_t lo, hi, step; /* AT: lo */
    ig_tensor *t;         /* PICK */
} ig_index;
#define IG_INDEX_MAX 16
typedef struct ig_indices {
    int n;
    ig_index i[IG_INDEX_MAX];
} ig_indices;

#define IG_OPEN    INT64_MAX
#define IG_AT(pos) IG_MAKE(ig_index, IG_INDEX_AT, pos, 0, 1, NULL) /* x[pos]: drops the axis */
#define IG_RANGE(lo, hi) \
    IG_MAKE(ig_index, IG_INDEX_RANGE, lo, hi, 1, NULL) /* x[lo:hi]               */
#define IG_STEP(lo, hi, step) \
    IG_MAKE(ig_index, IG_INDEX_RANGE, lo, hi, step, NULL) /* x[lo:hi:step]          */
#define IG_FULL IG_MAKE(ig_index, IG_INDEX_RANGE, IG_OPEN, IG_OPEN, 1, NULL) /* x[:] */
#define IG_NEW  IG_MAKE(ig_index, IG_INDEX_NEW, 0, 0, 1, NULL)  /* a new axis of extent 1 */
#define IG_REST IG_MAKE(ig_index, IG_INDEX_REST, 0, 0, 1, NULL) /* x[...]                 */
/* x[t], t a tensor of positions: its axes take the place of x's; several broadcast to one shape and
 * go together, as in numpy.  A position out of range reads 0 and writes nothing. */
#define IG_PICK(t)    IG_MAKE(ig_index, IG_INDEX_PICK, 0, 0, 1, t)
#define IG_INDEX(...) IG_MAKE(ig_indices, IG_NARG(__VA_ARGS__), {__VA_ARGS__})

IG_API ig_tensor *ig_slice_at(const ig_site *site, ig_arg x, ig_indices index);
/* Give x the value v, broadcast to x's shape; its type is kept and v must promote to it. */
IG_API void ig_assign_at(const ig_site *site, ig_tensor *x, ig_arg v);
/* x[index] = v. */
IG_API void ig_assign_slice_at(const ig_site *site, ig_tensor *x, ig_indices index, ig_arg v);
/* x[mask] = v, v broadcast to x's shape. */
IG_API void ig_assign_mask_at(const ig_site *site, ig_tensor *x, ig_arg mask, ig_arg v);
/* The elements at n positions of an axis, negative ones from the end. */
IG_API ig_tensor *ig_take_at(const ig_site *site, ig_arg x, const int64_t *index, int64_t n,
                             int axis);
/* The elements at the positions that an integer tensor holds: its axes take the place of the axis
 * (numpy's take).  Negative positions count from the end; 0 is read out of range. */
IG_API ig_tensor *ig_gather_at(const ig_site *site, ig_arg x, ig_tensor *index, int axis);
/* x[.., index[.., i, ..], ..]: an index of x's rank, that of argsort for one. */
IG_API ig_tensor *ig_take_along_at(const ig_site *site, ig_arg x, ig_tensor *index, int axis);
/* Rows of a table [n, ...] by number: ig_gather along its first axis. */
IG_API ig_tensor *ig_embedding_at(const ig_site *site, ig_arg table, ig_tensor *index);
/* x with v, broadcast to the shape of ig_gather(x, index, axis), combined with the elements there,
 * one position after the other in their order; positions out of range are left out. */
typedef enum ig_put { IG_PUT_SET, IG_PUT_ADD, IG_PUT_MUL, IG_PUT_MIN, IG_PUT_MAX } ig_put;
IG_API ig_tensor *ig_scatter_at(const ig_site *site, ig_arg x, ig_tensor *index, ig_arg v, int axis,
                                ig_put op);
/* The elements where the mask (of x's shape, or of its first axes) is true.  The shape depends on
 * the mask's data: the mask is read. */
IG_API ig_tensor *ig_select_mask_at(const ig_site *site, ig_arg x, ig_arg mask);
/* A window of these sizes at a position given by one integer scalar an axis, clamped so that it
 * fits. */
IG_API ig_tensor *ig_window_at(const ig_site *site, ig_arg x, ig_list start, ig_dims sizes);
/* Give x the value with v set (or added, add) at such a window. */
IG_API void ig_assign_window_at(const ig_site *site, ig_tensor *x, ig_list start, ig_arg v,
                                bool add);

#define ig_slice(x, ...)           ig_slice_at(IG_SITE, IG_ARG(x), IG_INDEX(__VA_ARGS__))
#define ig_assign(x, v)            ig_assign_at(IG_SITE, x, IG_ARG(v))
#define ig_assign_slice(x, v, ...) ig_assign_slice_at(IG_SITE, x, IG_INDEX(__VA_ARGS__), IG_ARG(v))
#define ig_assign_mask(x, mask, v) ig_assign_mask_at(IG_SITE, x, IG_ARG(mask), IG_ARG(v))
#define ig_take(x, ...)            ig_take_at(IG_SITE, IG_ARG(x), __VA_ARGS__)

#define ig_gather(x, index, axis)     ig_gather_at(IG_SITE, IG_ARG(x), index, axis)
#define ig_take_along(x, index, axis) ig_take_along_at(IG_SITE, IG_ARG(x), index, axis)
#define ig_embedding(table, index)    ig_embedding_at(IG_SITE, IG_ARG(table), index)
#define ig_scatter(x, index, v, axis) \
    ig_scatter_at(IG_SITE, IG_ARG(x), index, IG_ARG(v), axis, IG_PUT_SET)
#define ig_scatter_add(x, index, v, axis) \
    ig_scatter_at(IG_SITE, IG_ARG(x), index, IG_ARG(v), axis, IG_PUT_ADD)
#define ig_scatter_mul(x, index, v, axis) \
    ig_scatter_at(IG_SITE, IG_ARG(x), index, IG_ARG(v), axis, IG_PUT_MUL)
#define ig_scatter_min(x, index, v, axis) \
    ig_scatter_at(IG_SITE, IG_ARG(x), index, IG_ARG(v), axis, IG_PUT_MIN)
#define ig_scatter_max(x, index, v, axis) \
    ig_scatter_at(IG_SITE, IG_ARG(x), index, IG_ARG(v), axis, IG_PUT_MAX)
#define ig_select_mask(x, mask)    ig_select_mask_at(IG_SITE, IG_ARG(x), IG_ARG(mask))
#define ig_window(x, start, sizes) ig_window_at(IG_SITE, IG_ARG(x), start, sizes)
#define ig_assign_window(x, at, v) ig_assign_window_at(IG_SITE, x, at, IG_ARG(v), false)

/* --- Reductions ---------------------------------------------------------------------------- */

/* The axes are one axis (an int), IG_AXES(...) or IG_ALL_AXES; IG_KEEP(...) and IG_KEEP_ALL keep
 * them with extent 1. */

IG_OPR(sum); /* keeps the element type; bool is counted as i64 */
IG_OPR(prod);
IG_OPR(max);
IG_OPR(min);
IG_OPR(all); /* of bool */
IG_OPR(any);
IG_OPR(count);     /* i64[]: how many elements the axes have, dynamic dims too; x is not read */
IG_OPR(mean);      /* floats: sum / count */
IG_OPR(logsumexp); /* log(sum(exp(x - m))) + m with m = max(x) */
IG_OPR(argmax);    /* one axis; i64; the first position; NaN wins */
IG_OPR(argmin);
/* sum((x - mean)^2) / (count - ddof), and its root. */
IG_API ig_tensor *ig_var_at(const ig_site *site, ig_arg x, ig_axes axes, int ddof);
IG_API ig_tensor *ig_std_at(const ig_site *site, ig_arg x, ig_axes axes, int ddof);
/* Running reductions along an axis; reverse: from the end; exclusive: without the element itself.
 */
typedef enum ig_cum { IG_CUM_SUM, IG_CUM_PROD, IG_CUM_MAX, IG_CUM_MIN } ig_cum;
IG_API ig_tensor *ig_cum_at(const ig_site *site, ig_arg x, ig_cum op, int axis, bool reverse,
                            bool exclusive);

#define ig_sum(x, axes)       ig_sum_at(IG_SITE, IG_ARG(x), IG_AXES_ARG(axes))
#define ig_prod(x, axes)      ig_prod_at(IG_SITE, IG_ARG(x), IG_AXES_ARG(axes))
#define ig_max(x, axes)       ig_max_at(IG_SITE, IG_ARG(x), IG_AXES_ARG(axes))
#define ig_min(x, axes)       ig_min_at(IG_SITE, IG_ARG(x), IG_AXES_ARG(axes))
#define ig_all(x, axes)       ig_all_at(IG_SITE, IG_ARG(x), IG_AXES_ARG(axes))
#define ig_any(x, axes)       ig_any_at(IG_SITE, IG_ARG(x), IG_AXES_ARG(axes))
#define ig_count(x, axes)     ig_count_at(IG_SITE, IG_ARG(x), IG_AXES_ARG(axes))
#define ig_mean(x, axes)      ig_mean_at(IG_SITE, IG_ARG(x), IG_AXES_ARG(axes))
#define ig_logsumexp(x, axes) ig_logsumexp_at(IG_SITE, IG_ARG(x), IG_AXES_ARG(axes))
#define ig_argmax(x, axes)    ig_argmax_at(IG_SITE, IG_ARG(x), IG_AXES_ARG(axes))
#define ig_argmin(x, axes)    ig_argmin_at(IG_SITE, IG_ARG(x), IG_AXES_ARG(axes))
#define ig_var(x, axes)       ig_var_at(IG_SITE, IG_ARG(x), IG_AXES_ARG(axes), 0)
#define ig_std(x, axes)       ig_std_at(IG_SITE, IG_ARG(x), IG_AXES_ARG(axes), 0)
#define ig_cumsum(x, axis)    ig_cum_at(IG_SITE, IG_ARG(x), IG_CUM_SUM, axis, false, false)
#define ig_cumprod(x, axis)   ig_cum_at(IG_SITE, IG_ARG(x), IG_CUM_PROD, axis, false, false)
#define ig_cummax(x, axis)    ig_cum_at(IG_SITE, IG_ARG(x), IG_CUM_MAX, axis, false, false)
#define ig_cummin(x, axis)    ig_cum_at(IG_SITE, IG_ARG(x), IG_CUM_MIN, axis, false, false)

/* --- Contractions -------------------------------------------------------------------------- */

/* numpy's matmul: vectors are rows or columns as needed, leading axes are batches and broadcast. */
IG_OP2(matmul);
/* numpy's dot: the last axis of x with the last but one of y (the last when y is a vector). */
IG_OP2(dot);
IG_OP2(outer); /* of two vectors */
/* An operator in index notation (docs/relations.md): "y[b,o] += x[b,i]*w[i,o] over (i)", with
 * strides, padding, windows, masks and indices: "e[n,d] = t[k[n],d]",
 * "y[n,i,o] += x[n,2*i+r-1,c]*w[r,c,o] over (r,c) where i in 0..16".  Factors in the order of their
 * appearance, then indices; 1 to 4 in all.  Factors are promoted to one type, which is the
 * result's; indices are integers, and what they say out of range is left out.  Extents that are not
 * given are those that keep all subscripts in range.  Errors: FORMAT with a caret into the text
 * (also for extents that do not fit), DTYPE. */
IG_API ig_tensor *ig_ein_at(const ig_site *site, const char *relation, ig_list list);

#define ig_matmul(x, y)       ig_matmul_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_dot(x, y)          ig_dot_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_outer(x, y)        ig_outer_at(IG_SITE, IG_ARG(x), IG_ARG(y))
#define ig_ein(relation, ...) ig_ein_at(IG_SITE, relation, IG_LIST(__VA_ARGS__))

/* --- Named composites ---------------------------------------------------------------------- */

IG_API ig_tensor *ig_softmax_at(const ig_site *site, ig_arg x, int axis);
IG_API ig_tensor *ig_log_softmax_at(const ig_site *site, ig_arg x, int axis);
/* A new last axis of extent n: 1 where its position equals x, else 0. */
IG_API ig_tensor *ig_one_hot_at(const ig_site *site, ig_arg x, int64_t n, ig_dtype dtype);
/* Stable order, -0 before +0, NaN last (descending: first); equal elements keep their order either
 * way. */
IG_API ig_tensor *ig_sort_at(const ig_site *site, ig_arg x, int axis, bool descending);
IG_API ig_tensor *ig_argsort_at(const ig_site *site, ig_arg x, int axis, bool descending);
/* The k largest of an axis, largest first (NaN counts as largest), and their positions (i64); ties:
 * first position. */
IG_API bool ig_topk_at(const ig_site *site, ig_arg x, int k, int axis, ig_tensor **values_,
                       ig_tensor **positions_);

#define ig_softmax(x, axis)     ig_softmax_at(IG_SITE, IG_ARG(x), axis)
#define ig_log_softmax(x, axis) ig_log_softmax_at(IG_SITE, IG_ARG(x), axis)
#define ig_one_hot(x, n, dtype) ig_one_hot_at(IG_SITE, IG_ARG(x), n, dtype)
#define ig_sort(x, axis)        ig_sort_at(IG_SITE, IG_ARG(x), axis, false)
#define ig_argsort(x, axis)     ig_argsort_at(IG_SITE, IG_ARG(x), axis, false)
#define ig_topk(x, k, axis, values_, positions_) \
    ig_topk_at(IG_SITE, IG_ARG(x), k, axis, values_, positions_)

/* --- Random numbers ------------------------------------------------------------------------ */

/* The state of a generator is a tensor u32[2], a Philox key, that every draw replaces:
 * rng_bits(key) gives the next key and the key of this draw.  A NULL generator is the session's
 * (seed 0 until ig_seed).  A trace that draws makes the state an argument and a result of its
 * module, as for any assigned tensor. */
IG_API void ig_seed(uint64_t seed);
IG_API ig_tensor *ig_rng_at(const ig_site *site, uint64_t seed); /* a new generator */
IG_API ig_tensor *ig_random_bits_at(const ig_site *site, ig_tensor *rng, ig_dtype dtype,
                                    ig_dims dims); /* u32, u64 */
/* Uniform in [lo, hi): lo + u * (hi - lo) with u of the full precision of the type. */
IG_API ig_tensor *ig_uniform_at(const ig_site *site, ig_tensor *rng, ig_dtype dtype, ig_dims dims,
                                double lo, double hi);
/* Box and Muller's transform of uniform numbers. */
IG_API ig_tensor *ig_normal_at(const ig_site *site, ig_tensor *rng, ig_dtype dtype, ig_dims dims,
                               double mean, double deviation);
/* Integers in [lo, hi): lo + bits64 mod (hi - lo). */
IG_API ig_tensor *ig_randint_at(const ig_site *site, ig_tensor *rng, ig_dtype dtype, ig_dims dims,
                                int64_t lo, int64_t hi);
/* True with probability p. */
IG_API ig_tensor *ig_bernoulli_at(const ig_site *site, ig_tensor *rng, ig_dims dims, double p);
/* 0..n-1 in random order, i64. */
IG_API ig_tensor *ig_permutation_at(const ig_site *site, ig_tensor *rng, int64_t n);

#define ig_rng(seed)                         ig_rng_at(IG_SITE, seed)
#define ig_random_bits(rng, dtype, dims)     ig_random_bits_at(IG_SITE, rng, dtype, dims)
#define ig_uniform(rng, dtype, dims, lo, hi) ig_uniform_at(IG_SITE, rng, dtype, dims, lo, hi)
#define ig_normal(rng, dtype, dims, mean, deviation) \
    ig_normal_at(IG_SITE, rng, dtype, dims, mean, deviation)
#define ig_randint(rng, dtype, dims, lo, hi) ig_randint_at(IG_SITE, rng, dtype, dims, lo, hi)
#define ig_bernoulli(rng, dims, p)           ig_bernoulli_at(IG_SITE, rng, dims, p)
#define ig_permutation(rng, n)               ig_permutation_at(IG_SITE, rng, n)

#undef IG_OP1
#undef IG_OP2
#undef IG_OP3
#undef IG_OPR

#ifdef __cplusplus
}
#endif
#endif
