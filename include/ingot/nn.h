/* ingot/nn.h - what training needs: layers, losses, initial values, optimisers, batches,
 * checkpoints.
 *
 * Layers and losses are composites: C functions of ops, without state of their own.  Parameters are
 * tensors that the program keeps (ig_keep) and names (ig_name); lists of them are ig_list.  All of
 * it may be traced: parameters, moments, the count of steps and generators are handles that a
 * training step assigns, hence state of its module.  The formulas are exact: operations are done in
 * the order written here, each rounded to the element type, which is that of the first operand. */
#ifndef INGOT_NN_H
#define INGOT_NN_H

#include "ingot/grad.h"
#include "ingot/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- Layers ---------------------------------------------------------------------------------- */

/* x[..,i] w[i,o] + b[o]; b may be NULL. */
IG_API ig_tensor *ig_linear_at(const ig_site *site, ig_arg x, ig_arg w, ig_tensor *b);
/* Over the last axis: o / sqrt(mean(o o) + eps) * gain + bias, o = x - mean(x).  gain and bias may
 * be NULL. */
IG_API ig_tensor *ig_layer_norm_at(const ig_site *site, ig_arg x, ig_tensor *gain, ig_tensor *bias,
                                   double eps);
/* x / sqrt(mean(x x) + eps) * gain */
IG_API ig_tensor *ig_rms_norm_at(const ig_site *site, ig_arg x, ig_tensor *gain, double eps);
/* Each element is 0 with probability p, else x / (1 - p).  rng: ig_rng, or NULL for the session's;
 * a key that is used again drops the same elements. */
IG_API ig_tensor *ig_dropout_at(const ig_site *site, ig_arg x, ig_tensor *rng, double p);
/* --- Windows: convolutions and pooling ------------------------------------------------------- */

/* How windows lie over the axes between the first and the last one of x[n,s..,c] (channels last).
 * Zeros stand for stride 1, dilation 1, no padding and 1 group.  Window t along an axis begins at
 * t*stride - before, and its taps are `dilation` apart; what is outside of x is left out of the
 * window. */
#define IG_WINDOW_AXES 3
typedef struct ig_window {
    int stride[IG_WINDOW_AXES], dilation[IG_WINDOW_AXES];
    int before[IG_WINDOW_AXES], after[IG_WINDOW_AXES]; /* padding */
    int groups; /* channels in this many groups that do not mix; of convolutions */
} ig_window;

/* Cross-correlation of x[n,s..,c] with filters f[r..,c/groups,o], 1 to 3 axes s: y[n,t..,o] with
 * t = (s + before + after - dilation*(r-1) - 1) / stride + 1; summed over taps, then channels.
 * bias[o] or NULL.  Errors: SHAPE, DTYPE, RANGE. */
IG_API ig_tensor *ig_conv_at(const ig_site *site, ig_arg x, ig_tensor *f, ig_tensor *bias,
                             ig_window window);
/* Its transpose along the window's axes: y[n,s..,o] of x[n,t..,c] with f[r..,c/groups,o] and
 * s = (t-1)*stride + dilation*(r-1) + 1 - before - after; summed over taps, then channels. */
IG_API ig_tensor *ig_conv_transposed_at(const ig_site *site, ig_arg x, ig_tensor *f,
                                        ig_tensor *bias, ig_window window);
/* The largest element of every window of size[..] taps; the gradient of a tie is shared evenly. */
IG_API ig_tensor *ig_max_pool_at(const ig_site *site, ig_arg x, ig_dims size, ig_window window);
/* The sum of every window over the number of its taps, those outside of x included. */
IG_API ig_tensor *ig_mean_pool_at(const ig_site *site, ig_arg x, ig_dims size, ig_window window);

/* ig_conv(x, f, NULL, (ig_window){.stride = {2, 2}, .before = {1, 1}, .after = {1, 1}}) */
#define ig_conv(x, f, bias, ...) ig_conv_at(IG_SITE, IG_ARG(x), f, bias, __VA_ARGS__)
#define ig_conv_transposed(x, f, bias, ...) \
    ig_conv_transposed_at(IG_SITE, IG_ARG(x), f, bias, __VA_ARGS__)
#define ig_max_pool(x, size, ...)  ig_max_pool_at(IG_SITE, IG_ARG(x), size, __VA_ARGS__)
#define ig_mean_pool(x, size, ...) ig_mean_pool_at(IG_SITE, IG_ARG(x), size, __VA_ARGS__)

/* --- Losses: scalars ------------------------------------------------------------------------- */

/* Mean over [..] of -log_softmax(logits[..,c])[label]; the integer labels [..] are 0 .. c-1, any
 * other counts as a loss of 0. */
IG_API ig_tensor *ig_cross_entropy_at(const ig_site *site, ig_arg logits, ig_arg labels);
/* mean((x - y)^2) */
IG_API ig_tensor *ig_mse_at(const ig_site *site, ig_arg x, ig_arg y);

#define ig_linear(x, w, b)                ig_linear_at(IG_SITE, IG_ARG(x), IG_ARG(w), b)
#define ig_layer_norm(x, gain, bias, eps) ig_layer_norm_at(IG_SITE, IG_ARG(x), gain, bias, eps)
#define ig_rms_norm(x, gain, eps)         ig_rms_norm_at(IG_SITE, IG_ARG(x), gain, eps)
#define ig_dropout(x, rng, p)             ig_dropout_at(IG_SITE, IG_ARG(x), rng, p)
#define ig_cross_entropy(logits, labels) \
    ig_cross_entropy_at(IG_SITE, IG_ARG(logits), IG_ARG(labels))
#define ig_mse(x, y) ig_mse_at(IG_SITE, IG_ARG(x), IG_ARG(y))

/* --- Attention ------------------------------------------------------------------------------- */

/* softmax((q * scale) k^T + mask) v for q[..,t,d] k[..,s,d] v[..,s,e], by the blocked online
 * algorithm that docs/numerics.md defines (rule 9): memory grows with t + s.  Batch axes broadcast,
 * so that k[b,h,1,s,d] serves the groups of heads q[b,h,g,t,d].  f16 and bf16 are computed in f32.
 * causal: query i sees the keys j <= i + s - t, the last query all of them (s > t: keys of earlier
 * calls).  A row that sees nothing is NaN. */
typedef struct ig_attention_options {
    double scale; /* 0: 1 / sqrt(d) */
    bool causal;
    ig_tensor *mask; /* NULL; or broadcasts to [..,t,s]: bool, true where seen, or floats to add */
} ig_attention_options;
IG_API ig_tensor *ig_attention_at(const ig_site *site, ig_tensor *q, ig_tensor *k, ig_tensor *v,
                                  const ig_attention_options *opt /* may be NULL */);
#define ig_attention(q, k, v, ...) ig_attention_at(IG_SITE, q, k, v, __VA_ARGS__)

/* --- Recurrent layers ------------------------------------------------------------------------- */

/* Layers over x[t,..,i], time first, any batch axes between; the result is true, or all of out_ are
 * poison after an error (IG_SHAPE, IG_DTYPE).  h (and c): the state [..,n] before the first step,
 * NULL is zeros.  reverse: from the last step to the first; each result stands at its step.  The
 * inputs' share x w + b is one product for all steps; a step adds h u.  b may be NULL.
 *
 * LSTM (Hochreiter and Schmidhuber 1997, with the forget gate of Gers, Schmidhuber and Cummins
 * 2000), w[i,4n] u[n,4n] b[4n], gates in the order input, forget, cell, output (that of PyTorch and
 * cuDNN): (zi, zf, zg, zo) = (x w + b) + h u c = sigmoid(zf) * c + sigmoid(zi) * tanh(zg);  h =
 * sigmoid(zo) * tanh(c) out_: h of all steps [t,..,n], the last h, the last c. */
IG_API bool ig_lstm_at(const ig_site *site, ig_tensor *x, ig_tensor *w, ig_tensor *u, ig_tensor *b,
                       ig_tensor *h, ig_tensor *c, bool reverse, ig_tensor **out_);
/* GRU (Cho et al. 2014, arXiv:1406.1078, its reset gate applied behind the product, as in PyTorch
 * and cuDNN), w[i,3n] u[n,3n] b[3n] and bu[3n] (may be NULL), gates in the order reset, update,
 * new: (ar, az, an) = x w + b;  (vr, vz, vn) = h u + bu r = sigmoid(ar + vr);  z = sigmoid(az +
 * vz);  m = tanh(an + r * vn);  h = (1 - z) * m + z * h out_: h of all steps [t,..,n], the last h.
 */
IG_API bool ig_gru_at(const ig_site *site, ig_tensor *x, ig_tensor *w, ig_tensor *u, ig_tensor *b,
                      ig_tensor *bu, ig_tensor *h, bool reverse, ig_tensor **out_);
/* Their weights for i inputs and n units: w and u uniform in +-1 / sqrt(n); biases 0, but 1 for the
 * forget gate (Jozefowicz, Zaremba and Sutskever 2015).  out_: w, u, b (of a GRU also bu). */
IG_API bool ig_lstm_weights_at(const ig_site *site, ig_tensor *rng, ig_dtype dtype, int64_t i,
                               int64_t n, ig_tensor **out_);
IG_API bool ig_gru_weights_at(const ig_site *site, ig_tensor *rng, ig_dtype dtype, int64_t i,
                              int64_t n, ig_tensor **out_);

#define ig_lstm(...)         ig_lstm_at(IG_SITE, __VA_ARGS__)
#define ig_gru(...)          ig_gru_at(IG_SITE, __VA_ARGS__)
#define ig_lstm_weights(...) ig_lstm_weights_at(IG_SITE, __VA_ARGS__)
#define ig_gru_weights(...)  ig_gru_weights_at(IG_SITE, __VA_ARGS__)

/* --- Initial values -------------------------------------------------------------------------- */

/* For weights f[..,i,o]: fan in is all extents but the last, fan out all but the last but one.
 * Xavier: uniform in +-sqrt(6 / (in + out)), or normal of deviation sqrt(2 / (in + out));
 * He: uniform in +-sqrt(6 / in), or normal of deviation sqrt(2 / in).
 * ig_normal and ig_uniform (ingot/ops.h) make the others. */
typedef enum ig_init { IG_XAVIER_UNIFORM, IG_XAVIER_NORMAL, IG_HE_UNIFORM, IG_HE_NORMAL } ig_init;
IG_API ig_tensor *ig_weights_at(const ig_site *site, ig_init init, ig_tensor *rng, ig_dtype dtype,
                                ig_dims dims);
#define ig_weights(init, rng, dtype, dims) ig_weights_at(IG_SITE, init, rng, dtype, dims)

/* --- Optimisers ------------------------------------------------------------------------------ */

typedef enum ig_update { IG_SGD, IG_ADAM, IG_ADAMW } ig_update;

/* Zero is the default everywhere.  With g the gradient and t the count of this step, from 1:
 *
 *   clip    g = g * min(1, clip_norm / sqrt(sum of all g g)), then clip to +-clip_value
 *   SGD     g = g + decay * w;  m = momentum * m + g;  w = w - rate * m
 *           (nesterov: w = w - rate * (g + momentum * m); momentum 0: w = w - rate * g)
 *   Adam    m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * (g * g)
 *           w = w - rate * (m * c1) / (sqrt(v * c2) + eps),  c = 1 / (1 - beta^t) computed in f64
 *           (decay: g = g + decay * w before)
 *   AdamW   the same with w = w * (1 - rate * decay) before, and no decay in g
 *
 * Moments have the type of their parameter and begin as zeros. */
typedef struct ig_optimizer_options {
    ig_update update;
    double momentum; /* SGD */
    bool nesterov;
    double beta1, beta2, eps; /* Adam; 0: 0.9, 0.999, 1e-8 */
    double decay;
    double clip_norm, clip_value; /* 0: gradients are not clipped */
} ig_optimizer_options;

/* Parameters with what an update remembers of them.  It is freed before their session. */
typedef struct ig_optimizer ig_optimizer;
IG_API IG_MUST_USE ig_status ig_optimizer_new_at(const ig_site *site, ig_list params,
                                                 const ig_optimizer_options *opt,
                                                 ig_optimizer **out_);
IG_API void ig_optimizer_free(ig_optimizer *o); /* NULL is allowed */
/* Watch all parameters in the gradient scope that is open, and forget their gradients. */
IG_API void ig_optimizer_watch_at(const ig_site *site, ig_optimizer *o);
/* One update by the parameters' gradients, or by these (one a parameter).  rate: a number, or a
 * floating scalar (ig_rate). */
IG_API void ig_optimizer_step_at(const ig_site *site, ig_optimizer *o, ig_arg rate);
IG_API void ig_optimizer_apply_at(const ig_site *site, ig_optimizer *o, ig_arg rate,
                                  ig_tensor *const *grads);
/* The parameters; moments and the count of steps (i64, named "steps"; moments as their parameters
 * with "_m" and "_v"), for checkpoints.  Both live as long as o. */
IG_API ig_list ig_optimizer_params(const ig_optimizer *o);
IG_API ig_list ig_optimizer_state(const ig_optimizer *o);
/* The count of steps done. */
IG_API ig_tensor *ig_optimizer_steps(const ig_optimizer *o);
/* sqrt of the sum of all squares of all tensors, summed up in f32 (f64 for f64). */
IG_API ig_tensor *ig_global_norm_at(const ig_site *site, ig_list list);

/* The rate of the step after `steps` steps (an i64 scalar), a scalar f64: from base/warmup up to
 * base over `warmup` steps; then, when total is not 0, down a half cosine to `last` at `total`. */
typedef struct ig_rate_options {
    double base, last;
    int64_t warmup, total;
} ig_rate_options;
IG_API ig_tensor *ig_rate_at(const ig_site *site, ig_tensor *steps, const ig_rate_options *opt);

#define ig_optimizer_new(...)      ig_optimizer_new_at(IG_SITE, __VA_ARGS__)
#define ig_optimizer_watch(o)      ig_optimizer_watch_at(IG_SITE, o)
#define ig_optimizer_step(o, rate) ig_optimizer_step_at(IG_SITE, o, IG_ARG(rate))
#define ig_optimizer_apply(o, rate, ...) \
    ig_optimizer_apply_at(IG_SITE, o, IG_ARG(rate), __VA_ARGS__)
#define ig_global_norm(list) ig_global_norm_at(IG_SITE, list)
#define ig_rate(steps, ...)  ig_rate_at(IG_SITE, steps, __VA_ARGS__)

/* --- Batches --------------------------------------------------------------------------------- */

/* The rows 0 .. rows-1 in batches, in another order every epoch: that of
 * ig_permutation(ig_rng(seed + epoch * 2^32), rows).  Where it stands is a tensor i64[3] named
 * "batches" (seed, epoch, rows given in it), which every batch assigns: saved and loaded it goes on
 * there. */
typedef struct ig_batches ig_batches;
typedef struct ig_batches_options {
    int64_t rows, batch;
    uint64_t seed;
    bool in_order, drop_last; /* no shuffling; no batch smaller than `batch` at the end */
} ig_batches_options;
IG_API IG_MUST_USE ig_status ig_batches_new(const ig_batches_options *opt, ig_batches **out_);
IG_API void ig_batches_free(ig_batches *b); /* NULL is allowed */
/* The next rows, valid until the next call, and how many; 0 once at the end of every epoch, and
 * after an error. */
IG_API int64_t ig_batches_next(ig_batches *b, const int64_t **rows_);
IG_API ig_tensor *ig_batches_state(const ig_batches *b);

/* --- Checkpoints ----------------------------------------------------------------------------- */

/* Write the tensors of some lists, each with a name of its own, to a file, which is replaced as a
 * whole or not at all; give tensors of these names the values in a file.  Element types, shapes and
 * names must be those of the file; nothing is assigned after an error.  The file is an .ingot
 * module without a function (docs/format.md). */
IG_API IG_MUST_USE ig_status ig_checkpoint_save(const char *path, int nlist, const ig_list *lists);
IG_API IG_MUST_USE ig_status ig_checkpoint_load(const char *path, int nlist, const ig_list *lists);

/* --- Progress -------------------------------------------------------------------------------- */

/* A line on stderr that is drawn over at most ten times a second: how far, how fast, how long
 * still, the loss.  Nothing at all when stderr is no terminal. */
typedef struct ig_progress {
    const char *what; /* borrowed */
    int64_t total;
    double begun, drawn; /* private: seconds */
    bool on;
} ig_progress;
IG_API void ig_progress_begin(ig_progress *p, const char *what, int64_t total);
IG_API void ig_progress_step(ig_progress *p, int64_t done, double loss);
IG_API void ig_progress_end(ig_progress *p);

#ifdef __cplusplus
}
#endif
#endif
