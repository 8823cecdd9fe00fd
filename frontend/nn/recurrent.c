/* recurrent.c - LSTM and GRU: one product for the inputs of all steps, then a scan over the steps.
 */
#include "frontend/nn/nn.h"
#include "ingot/flow.h"
#include <math.h>

/* What a cell uses beside what it carries. */
typedef struct recurrent_cell {
    fe_call *c;
    ig_tensor *u, *bu; /* bu may be NULL */
    ir_dim width;
} recurrent_cell;

/* Part k of a row of gates. */
static ig_tensor *recurrent_gate(fe_call *c, const recurrent_cell *r, ig_tensor *z, int k) {
    ir_module *m = fe_module(c);
    return fe_cut(c, z, z->rank - 1, ir_dim_mul(m, k, r->width), ir_dim_mul(m, k + 1, r->width));
}

/* in: h, c, row of x w + b, step -> h, c, h */
static void recurrent_lstm(void *user, ig_tensor *const *in, ig_tensor **out) {
    const recurrent_cell *r = user;
    fe_call c_, *const c = &c_;
    if (!fe_enter(c, r->c->site, r->c->op)) return;
    ig_tensor *z = NN_OP2(add, in[2], NN_OP2(matmul, in[0], r->u));
    ig_tensor *i = NN_OP1(sigmoid, recurrent_gate(c, r, z, 0));
    ig_tensor *f = NN_OP1(sigmoid, recurrent_gate(c, r, z, 1));
    ig_tensor *g = NN_OP1(tanh, recurrent_gate(c, r, z, 2));
    ig_tensor *o = NN_OP1(sigmoid, recurrent_gate(c, r, z, 3));
    ig_tensor *cell = NN_OP2(add, NN_OP2(mul, f, in[1]), NN_OP2(mul, i, g));
    ig_tensor *h = NN_OP2(mul, o, NN_OP1(tanh, cell));
    out[0] = out[2] = fe_hand_out(c, h);
    out[1] = fe_hand_out(c, cell);
    fe_exit(c);
}

/* in: h, row of x w + b, step -> h, h */
static void recurrent_gru(void *user, ig_tensor *const *in, ig_tensor **out) {
    const recurrent_cell *r = user;
    fe_call c_, *const c = &c_;
    if (!fe_enter(c, r->c->site, r->c->op)) return;
    ig_tensor *z[3], *v = NN_OP2(matmul, in[0], r->u);
    if (r->bu) v = NN_OP2(add, v, r->bu);
    for (int k = 0; k < 3; k++) {
        ig_tensor *mine = recurrent_gate(c, r, v, k);
        if (k == 2) mine = NN_OP2(mul, z[0], mine);
        z[k] = NN_OP2(add, recurrent_gate(c, r, in[1], k), mine);
        z[k] = k < 2 ? NN_OP1(sigmoid, z[k]) : NN_OP1(tanh, z[k]);
    }
    ig_tensor *rest = ig_sub_at(c->site, ig_arg_f(1), ig_arg_t(z[1]));
    ig_tensor *h = NN_OP2(add, NN_OP2(mul, rest, z[2]), NN_OP2(mul, z[1], in[0]));
    out[0] = out[1] = fe_hand_out(c, h);
    fe_exit(c);
}

/* The state before the first step: s, or zeros [..,n]; NULL after an error. */
static ig_tensor *recurrent_state(fe_call *c, const recurrent_cell *r, ig_tensor *x, ig_tensor *s) {
    if (s) return s;
    ir_dims d = fe_dims(c, x), row = {.n = d.n - 1};
    for (int k = 1; k < d.n; k++) row.d[k - 1] = d.d[k];
    row.d[row.n - 1] = r->width;
    return fe_fill(c, fe_int(c, (ig_dtype)x->dtype, 0), &row);
}

/* Whether x[t,..,i] and u[n,gates n] fit; what they say of the cell. */
static bool recurrent_begin(fe_call *c, ig_tensor *x, int gates, recurrent_cell *r) {
    if (!fe_is_usable(c, x, 0) || !fe_is_usable(c, r->u, 2)) return false;
    ir_dims d = fe_dims(c, r->u);
    if (d.n == 2) r->width = d.d[0];
    if (x->rank >= 2 && d.n == 2 && d.d[1] == ir_dim_mul(fe_module(c), gates, r->width))
        return true;
    fe_error(c, IG_SHAPE, "x is %s and u %s: x[t,..,i] and u[n,%d n] are needed", FE_TYPE(x),
             FE_TYPE(r->u), gates);
    return false;
}

/* Run the cell over all steps; out_: last states, then h of all steps. */
static bool recurrent_run(fe_call *c, recurrent_cell *r, ig_body_fn cell, int gates, ig_tensor *x,
                          ig_tensor *w, ig_tensor *b, int nstate, ig_tensor *const *from,
                          bool reverse, ig_tensor **out_) {
    ig_tensor *state[2];
    if (!recurrent_begin(c, x, gates, r)) return false;
    for (int k = 0; k < nstate; k++)
        if (fe_is_poison(state[k] = recurrent_state(c, r, x, from[k]))) return false;
    ig_tensor *rows = ig_linear_at(c->site, ig_arg_t(x), ig_arg_t(w), b);
    const ig_scan_options opt = {.reverse = reverse};
    return !fe_is_poison(rows) &&
           ig_scan_at(c->site, cell, r, nstate, state, 1, &rows, 1, &opt, out_);
}

/* End a call: all steps first, then the states. */
static bool recurrent_leave(fe_call *c, bool ok, int nstate, ig_tensor *const *got,
                            ig_tensor **out_) {
    for (int k = 0; k <= nstate; k++) out_[k] = fe_hand_out(c, ok ? got[k ? k - 1 : nstate] : NULL);
    fe_exit(c);
    return ok;
}

bool ig_lstm_at(const ig_site *site, ig_tensor *x, ig_tensor *w, ig_tensor *u, ig_tensor *b,
                ig_tensor *h, ig_tensor *cell, bool reverse, ig_tensor **out_) {
    for (int k = 0; k < 3; k++) out_[k] = fe_poison_none();
    FE_ENTER_OR(site, "lstm", false);
    recurrent_cell r = {.c = c, .u = u};
    ig_tensor *got[3], *const from[2] = {h, cell};
    bool ok = recurrent_run(c, &r, recurrent_lstm, 4, x, w, b, 2, from, reverse, got);
    return recurrent_leave(c, ok, 2, got, out_);
}

bool ig_gru_at(const ig_site *site, ig_tensor *x, ig_tensor *w, ig_tensor *u, ig_tensor *b,
               ig_tensor *bu, ig_tensor *h, bool reverse, ig_tensor **out_) {
    for (int k = 0; k < 2; k++) out_[k] = fe_poison_none();
    FE_ENTER_OR(site, "gru", false);
    recurrent_cell r = {.c = c, .u = u, .bu = bu};
    ig_tensor *got[2];
    bool ok = recurrent_run(c, &r, recurrent_gru, 3, x, w, b, 1, &h, reverse, got);
    return recurrent_leave(c, ok, 1, got, out_);
}

/* --- Initial values -------------------------------------------------------------------------- */

static bool recurrent_weights(fe_call *c, ig_tensor *rng, ig_dtype dtype, int64_t in, int64_t width,
                              int gates, ig_tensor **out_) {
    if (in < 1 || width < 1 || width > INT64_MAX / gates) {
        fe_error(c, IG_SHAPE, "%lld inputs, width %lld", (long long)in, (long long)width);
        return false;
    }
    const double bound = 1 / sqrt((double)width);
    for (int k = 0; k < 2; k++) {
        ig_dims d = {2, {k ? width : in, gates * width}};
        out_[k] = ig_uniform_at(c->site, rng, dtype, d, -bound, bound);
    }
    out_[2] = ig_full_at(c->site, dtype, (ig_dims){1, {gates * width}}, ig_arg_i(0));
    for (int k = 0; k < 3; k++)
        if (fe_is_poison(out_[k])) return false;
    return true;
}

static bool recurrent_weights_leave(fe_call *c, bool ok, int n, ig_tensor **out_) {
    for (int k = 0; k < n; k++) out_[k] = fe_hand_out(c, ok ? out_[k] : NULL);
    fe_exit(c);
    return ok;
}

bool ig_lstm_weights_at(const ig_site *site, ig_tensor *rng, ig_dtype dtype, int64_t in,
                        int64_t width, ig_tensor **out_) {
    for (int k = 0; k < 3; k++) out_[k] = fe_poison_none();
    FE_ENTER_OR(site, "lstm_weights", false);
    bool ok = recurrent_weights(c, rng, dtype, in, width, 4, out_);
    if (ok) ig_assign_slice_at(site, out_[2], IG_INDEX(IG_RANGE(width, 2 * width)), ig_arg_f(1));
    return recurrent_weights_leave(c, ok, 3, out_);
}

bool ig_gru_weights_at(const ig_site *site, ig_tensor *rng, ig_dtype dtype, int64_t in,
                       int64_t width, ig_tensor **out_) {
    for (int k = 0; k < 4; k++) out_[k] = fe_poison_none();
    FE_ENTER_OR(site, "gru_weights", false);
    bool ok = recurrent_weights(c, rng, dtype, in, width, 3, out_);
    if (ok) out_[3] = ig_full_at(site, dtype, (ig_dims){1, {3 * width}}, ig_arg_i(0));
    return recurrent_weights_leave(c, ok && !fe_is_poison(out_[3]), 4, out_);
}
