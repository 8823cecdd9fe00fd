/* window.c - convolutions and pooling: spellings of ein, channels last.
 *
 *     y[n,i,j,o] += x[n,s*i+d*r-p,s*j+d*q-p,c] * w[r,q,c,o] over (r,q,c)
 *
 * The text is written for the number of axes at hand; what is outside of x is no tuple of the
 * relation, so padding reads nothing.  Gradients are those of ein. */
#include "frontend/fe.h"
#include "ingot/nn.h"

/* A spelling under way. */
typedef struct window {
    fe_call *c;
    ig_window w; /* zeros replaced */
    int axes;
    rt_str text;
} window;

static bool window_number(const window *w, const char *what, int least, int n) {
    if (n >= least && n <= IR_EIN_COEF) return true;
    fe_error(w->c, IG_RANGE, "%s %d: it is %d..%d", what, n, least, IR_EIN_COEF);
    return false;
}

/* Check a window for a tensor, and begin the text; false after an error. */
static bool window_begin(window *w, fe_call *c, const ig_tensor *x, ig_window how) {
    *w = (window){.c = c, .w = how, .axes = x->rank - 2};
    if (w->axes < 1 || w->axes > IG_WINDOW_AXES) {
        fe_error(c, IG_SHAPE,
                 "%s: a batch, 1 to %d axes for the window and the channels are needed", FE_TYPE(x),
                 IG_WINDOW_AXES);
        return false;
    }
    for (int i = 0; i < w->axes; i++) {
        if (!how.stride[i]) w->w.stride[i] = 1;
        if (!how.dilation[i]) w->w.dilation[i] = 1;
        if (!window_number(w, "stride", 1, w->w.stride[i]) ||
            !window_number(w, "dilation", 1, w->w.dilation[i]) ||
            !window_number(w, "padding", 0, how.before[i]) ||
            !window_number(w, "padding", 0, how.after[i]))
            return false;
    }
    if (!how.groups) w->w.groups = 1;
    rt_str_init(&w->text, fe_alloc(c));
    return window_number(w, "groups", 1, w->w.groups);
}

/* Run the relation. */
static ig_tensor *window_end(window *w, ig_tensor *x, ig_tensor *filter) {
    ig_tensor *in[2] = {x, filter}, *y;
    if (w->text.failed)
        y = fe_error_memory(w->c);
    else
        y = ig_ein_at(w->c->site, rt_str_text(&w->text), (ig_list){filter ? 2 : 1, in});
    rt_str_free(&w->text);
    return y;
}

/* `,name0,name1` */
static void window_names(window *w, char name) {
    for (int i = 0; i < w->axes; i++) rt_str_printf(&w->text, ",%c%d", name, i);
}

/* `over (r0,r1,c)` */
static void window_over(window *w, const char *last) {
    rt_str_puts(&w->text, " over (");
    for (int i = 0; i < w->axes; i++) rt_str_printf(&w->text, i ? ",r%d" : "r%d", i);
    rt_str_printf(&w->text, "%s) where ", last);
}

/* The subscripts of x, `2*i0+1*r0-1:S0`. */
static void window_subs(window *w) {
    for (int i = 0; i < w->axes; i++)
        rt_str_printf(&w->text, ",%d*i%d+%d*r%d-%d:S%d", w->w.stride[i], i, w->w.dilation[i], i,
                      w->w.before[i], i);
}

/* `i0 in 0..` for windows whose taps are R0.. or, size not NULL, so many. */
static void window_ranges(window *w, const int *size) {
    for (int i = 0; i < w->axes; i++) {
        int s = w->w.stride[i], d = w->w.dilation[i];
        rt_str_printf(&w->text, "%si%d in 0..(S%d+%d-%d*", i ? ", " : "", i, i,
                      w->w.before[i] + w->w.after[i] + d - 1 + s, d);
        rt_str_printf(&w->text, size ? "%d" : "R%d", size ? size[i] : i);
        rt_str_printf(&w->text, ")/%d", s);
        if (size) rt_str_printf(&w->text, ", r%d in 0..%d", i, size[i]);
    }
}

/* Whether windows of these taps fit the padded tensor, as far as that is known. */
static bool window_fits(const window *w, const ig_tensor *x, const ir_dim *taps) {
    fe_call *c = w->c;
    ir_dims d = fe_dims(c, x);
    for (int i = 0; i < w->axes; i++) {
        if (!ir_dim_is_const(d.d[i + 1]) || !ir_dim_is_const(taps[i])) continue;
        int64_t have = d.d[i + 1] + w->w.before[i] + w->w.after[i];
        if (taps[i] > 0 && have > (taps[i] - 1) * (int64_t)w->w.dilation[i]) continue;
        fe_error(c, IG_SHAPE, "%s: a window of %lld taps is longer than axis %d with its padding",
                 FE_TYPE(x), (long long)taps[i], i + 1);
        return false;
    }
    return true;
}

/* The same elements with axis `axis`, from the end, in two: g and the rest; or, joined, these two
 * in one. */
static ig_tensor *window_split(fe_call *c, ig_tensor *t, int axis, int g, bool join) {
    ig_dims dims = {.n = 0};
    int at = t->rank - 1 - axis;
    for (int i = 0; i < t->rank; i++) {
        int64_t n = ig_extent(t, i);
        if (i == at && !join) dims.d[dims.n++] = g, n = t->dim[i] / g;
        if (i == at - 1 && join) n = t->dim[i] * t->dim[i + 1], i++;
        dims.d[dims.n++] = n;
    }
    return ig_reshape_at(c->site, ig_arg_t(t), dims);
}

/* --- Convolutions ---------------------------------------------------------------------------- */

/* How channels stand in the relation: `,g`, `,c` of x, w and y. */
typedef struct window_channels {
    const char *x, *w, *y, *over;
} window_channels;

/* x and the filter as their groups want them, and the names of channels; false after an error. */
static bool window_groups(window *w, ig_tensor **x_, ig_tensor **f_, window_channels *how_) {
    static const window_channels plain = {",c", ",c,o", ",o", ",c"}, each = {",g", ",g", ",g", ""},
                                 some = {",g,c", ",c,g,o", ",g,o", ",c"};
    fe_call *c = w->c;
    ig_tensor *x = *x_, *f = *f_;
    int64_t g = w->w.groups, in = x->dim[x->rank - 1], out = f->dim[f->rank - 1];
    if (in != g * f->dim[f->rank - 2] || out % g) {
        fe_error(c, IG_SHAPE,
                 "%s with filters %s [taps.., channels in a group, channels out] in %d groups",
                 FE_TYPE(x), FE_TYPE(f), w->w.groups);
        return false;
    }
    *how_ = g == 1 ? plain : in == g && out == g ? each : some;
    if (g == 1) return true;
    if (how_->x == each.x) {
        *f_ = window_split(c, f, 0, 1, true);
    } else {
        *f_ = window_split(c, f, 0, w->w.groups, false);
        *x_ = window_split(c, x, 0, w->w.groups, false);
    }
    return !fe_is_poison(*x_) && !fe_is_poison(*f_);
}

/* The operands of a convolution; false after an error. */
static bool window_operands(window *w, fe_call *c, ig_arg x, ig_tensor *filter, ig_window how,
                            ig_tensor **x_) {
    *x_ = fe_arg(c, x);
    if (fe_is_poison(*x_) || !fe_is_usable(c, filter, 1)) return false;
    if (!window_begin(w, c, *x_, how)) return false;
    if (filter->rank == (*x_)->rank) return true;
    fe_error(c, IG_SHAPE, "%s with filters %s: they have as many axes [taps.., in, out]",
             FE_TYPE(*x_), FE_TYPE(filter));
    return false;
}

/* Groups are joined again; the bias is added. */
static ig_tensor *window_finish(window *w, ig_tensor *y, ig_tensor *bias) {
    if (!fe_is_poison(y) && y->rank > w->axes + 2) y = window_split(w->c, y, 0, 0, true);
    if (!bias || fe_is_poison(y)) return y;
    return ig_add_at(w->c->site, ig_arg_t(y), ig_arg_t(bias));
}

ig_tensor *ig_conv_at(const ig_site *site, ig_arg x, ig_tensor *filter, ig_tensor *bias,
                      ig_window how) {
    FE_ENTER(site, "conv");
    window w;
    window_channels ch;
    ig_tensor *t, *f = filter;
    if (!window_operands(&w, c, x, filter, how, &t)) return fe_leave(c, fe_poison(c));
    ir_dims taps = fe_dims(c, filter);
    if (!window_fits(&w, t, taps.d) || !window_groups(&w, &t, &f, &ch))
        return fe_leave(c, fe_poison(c));
    rt_str_puts(&w.text, "y[n");
    window_names(&w, 'i');
    rt_str_printf(&w.text, "%s] += x[n", ch.y);
    window_subs(&w);
    rt_str_printf(&w.text, "%s]*w[", ch.x);
    for (int i = 0; i < w.axes; i++) rt_str_printf(&w.text, "%sr%d:R%d", i ? "," : "", i, i);
    rt_str_printf(&w.text, "%s]", ch.w);
    window_over(&w, ch.over);
    window_ranges(&w, NULL);
    return fe_leave(c, window_finish(&w, window_end(&w, t, f), bias));
}

ig_tensor *ig_conv_transposed_at(const ig_site *site, ig_arg x, ig_tensor *filter, ig_tensor *bias,
                                 ig_window how) {
    FE_ENTER(site, "conv_transposed");
    window w;
    window_channels ch;
    ig_tensor *t, *f = filter;
    if (!window_operands(&w, c, x, filter, how, &t)) return fe_leave(c, fe_poison(c));
    if (!window_groups(&w, &t, &f, &ch)) return fe_leave(c, fe_poison(c));
    rt_str_puts(&w.text, "y[n");
    window_names(&w, 'i');
    rt_str_printf(&w.text, "%s] += x[n", ch.y);
    for (int i = 0; i < w.axes; i++) rt_str_printf(&w.text, ",t%d:S%d", i, i);
    rt_str_printf(&w.text, "%s]*w[", ch.x);
    for (int i = 0; i < w.axes; i++) rt_str_printf(&w.text, "%sr%d:R%d", i ? "," : "", i, i);
    rt_str_printf(&w.text, "%s]", ch.w);
    window_over(&w, ch.over);
    for (int i = 0; i < w.axes; i++) {
        int s = w.w.stride[i], d = w.w.dilation[i], b = w.w.before[i];
        rt_str_printf(&w.text, "%si%d+%d = %d*t%d+%d*r%d, i%d in 0..%d*S%d+%d*R%d+1-%d",
                      i ? ", " : "", i, b, s, i, d, i, i, s, i, d, i, s + d + b + w.w.after[i]);
    }
    return fe_leave(c, window_finish(&w, window_end(&w, t, f), bias));
}

/* --- Pooling --------------------------------------------------------------------------------- */

/* The reduction of every window of so many taps. */
static ig_tensor *window_pool(fe_call *c, ig_arg x, ig_dims size, ig_window how, const char *op) {
    window w;
    ig_tensor *t = fe_arg(c, x);
    int taps[IG_WINDOW_AXES];
    ir_dim dims[IG_WINDOW_AXES];
    if (fe_is_poison(t) || !window_begin(&w, c, t, how)) return fe_poison(c);
    if (size.n != w.axes || w.w.groups != 1)
        return fe_error(c, IG_INVALID, "%s: %d extents of a window, and no groups, are needed",
                        FE_TYPE(t), w.axes);
    for (int i = 0; i < w.axes; i++) {
        if (size.d[i] < 1 || size.d[i] > IR_EIN_COEF)
            return fe_error(c, IG_RANGE, "a window has 1..%d taps along an axis", IR_EIN_COEF);
        taps[i] = (int)(dims[i] = size.d[i]);
    }
    if (!window_fits(&w, t, dims)) return fe_poison(c);
    rt_str_puts(&w.text, "y[n");
    window_names(&w, 'i');
    rt_str_printf(&w.text, ",c] %s x[n", op);
    window_subs(&w);
    rt_str_puts(&w.text, ",c]");
    window_over(&w, "");
    window_ranges(&w, taps);
    return window_end(&w, t, NULL);
}

ig_tensor *ig_max_pool_at(const ig_site *site, ig_arg x, ig_dims size, ig_window how) {
    FE_ENTER(site, "max_pool");
    return fe_leave(c, window_pool(c, x, size, how, "max="));
}

ig_tensor *ig_mean_pool_at(const ig_site *site, ig_arg x, ig_dims size, ig_window how) {
    FE_ENTER(site, "mean_pool");
    ig_tensor *y = window_pool(c, x, size, how, "+=");
    double taps = 1;
    if (fe_is_poison(y)) return fe_leave(c, y);
    for (int i = 0; i < size.n; i++) taps *= (double)size.d[i];
    return fe_leave(c, ig_div_at(site, ig_arg_t(y), ig_arg_f(taps)));
}
