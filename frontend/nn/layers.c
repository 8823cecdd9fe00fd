/* layers.c - layers, losses and initial values: composites of public ops, as a user would write
 * them. */
#include "frontend/nn/nn.h"
#include <math.h>

static const ig_axes layers_last = {.n = 1, .keep = true, .a = {-1}};

/* A tensor among the arguments, of a floating type; poison after an error. */
static ig_tensor *layers_float(fe_call *c, ig_arg x) {
    ig_tensor *t = fe_arg(c, x);
    if (fe_is_poison(t) || rt_is_float((ig_dtype)t->dtype)) return t;
    return fe_error(c, IG_DTYPE, "%s: floats are needed", FE_TYPE(t));
}

/* --- Layers ---------------------------------------------------------------------------------- */

ig_tensor *ig_linear_at(const ig_site *site, ig_arg x, ig_arg w, ig_tensor *b) {
    FE_ENTER(site, "linear");
    ig_tensor *y = ig_matmul_at(site, x, w);
    return fe_leave(c, b ? NN_OP2(add, y, b) : y);
}

/* x / sqrt(mean(x x) + eps), times gain, plus bias. */
static ig_tensor *layers_scale(fe_call *c, ig_tensor *x, ig_tensor *gain, ig_tensor *bias,
                               double eps) {
    ig_tensor *power = ig_mean_at(c->site, ig_arg_t(NN_OP2(mul, x, x)), layers_last);
    ig_tensor *y = NN_OP2(div, x, NN_OP1(sqrt, NN_NUM(add, power, eps)));
    if (gain) y = NN_OP2(mul, y, gain);
    return bias ? NN_OP2(add, y, bias) : y;
}

ig_tensor *ig_layer_norm_at(const ig_site *site, ig_arg x, ig_tensor *gain, ig_tensor *bias,
                            double eps) {
    FE_ENTER(site, "layer_norm");
    ig_tensor *t = layers_float(c, x);
    if (fe_is_poison(t)) return fe_leave(c, t);
    ig_tensor *off = NN_OP2(sub, t, ig_mean_at(site, ig_arg_t(t), layers_last));
    return fe_leave(c, layers_scale(c, off, gain, bias, eps));
}

ig_tensor *ig_rms_norm_at(const ig_site *site, ig_arg x, ig_tensor *gain, double eps) {
    FE_ENTER(site, "rms_norm");
    ig_tensor *t = layers_float(c, x);
    return fe_leave(c, fe_is_poison(t) ? t : layers_scale(c, t, gain, NULL, eps));
}

ig_tensor *ig_dropout_at(const ig_site *site, ig_arg x, ig_tensor *rng, double p) {
    FE_ENTER(site, "dropout");
    ig_tensor *t = layers_float(c, x);
    if (!(p >= 0 && p < 1))
        return fe_leave(c, fe_error(c, IG_RANGE, "%g is not a probability below 1", p));
    if (fe_is_poison(t)) return fe_leave(c, t);
    ig_dims dims = {.n = t->rank};
    for (int i = 0; i < t->rank; i++) dims.d[i] = ig_extent(t, i);
    ig_tensor *kept = ig_bernoulli_at(site, rng, dims, 1 - p);
    return fe_leave(
        c, ig_where_at(site, ig_arg_t(kept), ig_arg_t(NN_NUM(div, t, 1 - p)), ig_arg_f(0)));
}

/* --- Losses ---------------------------------------------------------------------------------- */

ig_tensor *ig_cross_entropy_at(const ig_site *site, ig_arg logits, ig_arg labels) {
    FE_ENTER(site, "cross_entropy");
    ig_tensor *t = layers_float(c, logits), *y = fe_arg(c, labels);
    if (fe_is_poison(t) || fe_is_poison(y)) return fe_leave(c, NULL);
    if (t->rank != y->rank + 1 || !rt_is_int((ig_dtype)y->dtype))
        return fe_leave(c, fe_error(c, rt_is_int((ig_dtype)y->dtype) ? IG_SHAPE : IG_DTYPE,
                                    "logits %s need integer labels of one axis less, not %s",
                                    FE_TYPE(t), FE_TYPE(y)));
    ig_tensor *z = ig_log_softmax_at(site, ig_arg_t(t), -1);
    ig_tensor *hot = ig_one_hot_at(site, ig_arg_t(y), ig_dim(t, -1), IG_bool);
    ig_tensor *picked = ig_where_at(site, ig_arg_t(hot), ig_arg_t(z), ig_arg_f(0));
    ig_tensor *rows = ig_sum_at(site, ig_arg_t(picked), ig_axes_of_int(-1));
    return fe_leave(c, NN_OP1(neg, ig_mean_at(site, ig_arg_t(rows), IG_ALL_AXES)));
}

ig_tensor *ig_mse_at(const ig_site *site, ig_arg x, ig_arg y) {
    FE_ENTER(site, "mse");
    ig_tensor *off = ig_sub_at(site, x, y);
    return fe_leave(c, ig_mean_at(site, ig_arg_t(NN_OP2(mul, off, off)), IG_ALL_AXES));
}

/* --- Initial values -------------------------------------------------------------------------- */

ig_tensor *ig_weights_at(const ig_site *site, ig_init init, ig_tensor *rng, ig_dtype dtype,
                         ig_dims dims) {
    FE_ENTER(site, "weights");
    double in = 1, out = 1;
    if (dims.n < 2 || dims.n > IG_MAX_RANK)
        return fe_leave(c, fe_error(c, IG_SHAPE, "weights have two axes or more"));
    for (int i = 0; i < dims.n; i++) {
        if (i != dims.n - 1) in *= (double)dims.d[i];
        if (i != dims.n - 2) out *= (double)dims.d[i];
    }
    bool xavier = init == IG_XAVIER_UNIFORM || init == IG_XAVIER_NORMAL;
    double fan = xavier ? in + out : in;
    if (init == IG_XAVIER_NORMAL || init == IG_HE_NORMAL)
        return fe_leave(c, ig_normal_at(site, rng, dtype, dims, 0, sqrt(2 / fan)));
    double bound = sqrt(6 / fan);
    return fe_leave(c, ig_uniform_at(site, rng, dtype, dims, -bound, bound));
}
