/* closure.c - see closure.h.
 *
 * A program is one op on its operands, and s * s beside it, so that every program has a floating
 * argument.  To every program that arose, jvp, vjp and vmap are applied; each of the three results
 * is verified and compared with the program itself:
 *
 *   jvp   with differences of the program along a direction, in f64: five points, two step sizes
 *   vjp   by <jvp, c> = <v, vjp> for random c and v
 *   vmap  with the program run lane by lane, byte for byte
 *
 * and then takes its place, down to the depth asked for.  Nothing here knows an op: instances come
 * from the generators of the table, points are spread over the domain of the row with a distance
 * between any two.  Where the two step sizes disagree, a point lies near a tie, which says nothing
 * about rules: the instance is drawn again. */
#include "tests/closure.h"
#include "passes/transform.h"
#include "tests/gen.h"
#include "tests/ways.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { CLOSURE_ARGS = 256, CLOSURE_NUMEL = 30, CLOSURE_LANES = 3 };
static const double closure_step = 1.0 / 1024;

/* --- What is not compared, with the reason ---------------------------------------------------- */

static const struct closure_skip {
    ir_opcode op;
    ig_code code;
    const char *why;
} closure_skips[] = {
    {OP_bitcast, IG_UNSUPPORTED, "a derivative through the bits of a float is an error"},
    {OP_detach, IG_OK, "its derivative is zero by definition, whatever differences say"},
};

static const struct closure_skip *closure_skipped(ir_opcode op) {
    for (size_t i = 0; i < sizeof closure_skips / sizeof *closure_skips; i++)
        if (closure_skips[i].op == op) return &closure_skips[i];
    return NULL;
}

/* --- Tensors ---------------------------------------------------------------------------------- */

static const ig_allocator *A(void) { return ig_allocator_default(); }

typedef struct values {
    int n;
    ir_tensor t[CLOSURE_ARGS];
} values;

static int64_t values_numel(const ir_tensor *t) {
    return (int64_t)(way_bytes(t) / rt_dtype_bytes((ig_dtype)t->dtype));
}
static bool values_is_real(const ir_tensor *t) { return t->dtype == IG_f64; }

static ir_tensor *values_add(values *v, const ir_type *type) {
    ir_tensor *t = &v->t[v->n++];
    *t = (ir_tensor){.dtype = type->dtype, .rank = type->rank};
    memcpy(t->dim, type->dim, sizeof t->dim);
    t->data = rt_alloc_buffer(A(), way_bytes(t) + 64);
    memset(t->data, 0xa5, way_bytes(t) + 64);
    return t;
}

static void values_free(values *v) {
    way_free_outputs(v->n, v->t);
    v->n = 0;
}

static double closure_uniform(gen *g) { return (double)(gen_u64(g) >> 11) * 0x1p-53; }

/* A copy whose real tensors are moved by h along dir. */
static void values_moved(const values *x, const values *dir, double h, values *out_) {
    out_->n = 0;
    for (int k = 0; k < x->n; k++) {
        ir_type type = ir_tensor_type((ig_dtype)x->t[k].dtype, x->t[k].rank, x->t[k].dim);
        ir_tensor *t = values_add(out_, &type);
        memcpy(t->data, x->t[k].data, way_bytes(t));
        for (int64_t i = 0; values_is_real(t) && i < values_numel(t); i++)
            ((double *)t->data)[i] += h * ((double *)dir->t[k].data)[i];
    }
}

/* --- Programs --------------------------------------------------------------------------------- */

typedef struct closure {
    const char *name;
    const struct closure_skip *skip; /* or NULL */
    int64_t symbols[8];              /* sizes of the dim symbols */
    gen g;
    int depth;
    closure_count *count;
    char *what;    /* description of the failure */
    char path[64]; /* transformations so far */
    bool tie;      /* a point near a tie: all of the instance is given up */
    bool zeros;    /* some elements of the points are 0 */
} closure;

/* A type with the sizes of the dim symbols. */
static ir_type closure_type(const closure *c, const ir_module *m, ir_type t) {
    for (int i = 0; i < t.rank; i++) ir_dim_eval(m, t.dim[i], c->symbols, &t.dim[i]);
    return t;
}

IG_PRINTF(2, 3)
static bool closure_fail(closure *c, const char *fmt, ...) {
    char why[700];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    snprintf(c->what, 1024, "%s:%s: %s", c->name, c->path, why);
    return false;
}

static bool closure_status(closure *c, ig_status s) {
    if (!s) return true;
    closure_fail(c, "%s", ig_status_text(s));
    ig_status_free(s);
    return false;
}

/* Room for the results of f. */
static void closure_results(closure *c, const ir_func *f, values *y) {
    y->n = 0;
    for (uint32_t k = 0; k < f->results.n; k++) {
        ir_type type = closure_type(c, f->module, *ir_result_type(f, k));
        values_add(y, &type);
    }
}

/* Run by the reference; y gets memory. */
static bool closure_run(closure *c, const ir_module *m, const values *x, values *y) {
    const ir_func *f = ir_entry(m);
    closure_results(c, f, y);
    return closure_status(c, ir_ref_run(f, A(), c->symbols, x->n, x->t, y->n, y->t));
}

/* --- Derivatives ------------------------------------------------------------------------------ */

/* x - y, infinities included. */
static double closure_minus(double x, double y) { return x == y ? 0 : x - y; }

/* The real results of m at x + h dir and x - h dir: their difference by 2h, added times weight. */
static bool closure_slope(closure *c, const ir_module *m, const values *x, const values *dir,
                          double h, double weight, values *sum) {
    values at, up, down;
    values_moved(x, dir, h, &at);
    bool ok = closure_run(c, m, &at, &up);
    values_free(&at);
    values_moved(x, dir, -h, &at);
    ok = ok && closure_run(c, m, &at, &down);
    values_free(&at);
    if (!ok) return false;
    for (int k = 0; k < sum->n; k++)
        for (int64_t i = 0; values_is_real(&sum->t[k]) && i < values_numel(&sum->t[k]); i++)
            ((double *)sum->t[k].data)[i] +=
                weight * closure_minus(((double *)up.t[k].data)[i], ((double *)down.t[k].data)[i]) /
                (2 * h);
    values_free(&up);
    values_free(&down);
    return true;
}

/* The derivative of m along dir by four differences with step h. */
static bool closure_difference(closure *c, const ir_module *m, const values *x, const values *dir,
                               double h, values *out_) {
    closure_results(c, ir_entry(m), out_);
    for (int k = 0; k < out_->n; k++) memset(out_->t[k].data, 0, way_bytes(&out_->t[k]));
    return closure_slope(c, m, x, dir, h, 4.0 / 3, out_) &&
           closure_slope(c, m, x, dir, 2 * h, -1.0 / 3, out_);
}

/* How far differences a are from b, relative to the largest in b, or 1; differences of NaNs say
 * nothing. */
static double closure_distance(const ir_tensor *a, const ir_tensor *b) {
    const double *x = a->data, *y = b->data;
    double scale = 1, worst = 0;
    for (int64_t i = 0; i < values_numel(b); i++) scale = fmax(scale, fabs(y[i]));
    for (int64_t i = 0; i < values_numel(b); i++) {
        if (isnan(x[i])) continue;
        double d = fabs(x[i] - y[i]) / scale;
        worst = d >= 0 ? fmax(worst, d) : INFINITY;
    }
    return worst;
}

/* Two step sizes agree, or a tie is near. */
static bool closure_smooth(closure *c, const ir_module *m, const values *x, const values *dir,
                           const values *slope) {
    values finer = {0};
    bool ok = closure_difference(c, m, x, dir, closure_step / 2, &finer);
    for (int k = 0; ok && k < slope->n; k++)
        if (values_is_real(&slope->t[k]) && !(closure_distance(&slope->t[k], &finer.t[k]) < 3e-7))
            c->tie = true;
    values_free(&finer);
    return ok && !c->tie;
}

/* Directions for the real arguments of x; other tensors stay empty. */
static void closure_directions(closure *c, const values *x, values *dir) {
    dir->n = 0;
    for (int k = 0; k < x->n; k++) {
        ir_type type = ir_tensor_type((ig_dtype)x->t[k].dtype, x->t[k].rank, x->t[k].dim);
        ir_tensor *t = values_add(dir, &type);
        for (int64_t i = 0; values_is_real(t) && i < values_numel(t); i++)
            ((double *)t->data)[i] = 2 * closure_uniform(&c->g) - 1;
    }
}

/* The real tensors of v appended to x, as copies. */
static void closure_append(values *x, const values *v) {
    for (int k = 0, n = v->n; k < n; k++) {
        if (!values_is_real(&v->t[k])) continue;
        ir_type type = ir_tensor_type(IG_f64, v->t[k].rank, v->t[k].dim);
        ir_tensor *t = values_add(x, &type);
        memcpy(t->data, v->t[k].data, way_bytes(t));
    }
}

/* jvp of m at x along dir, whose tangents of results go to *dy (those of reals, in order). */
static bool closure_check_jvp(closure *c, const ir_module *m, const ir_module *jvp, const values *x,
                              const values *dir, const values *in, values *dy) {
    values slope = {0}, y = {0};
    bool ok = closure_difference(c, m, x, dir, closure_step, &slope) &&
              closure_smooth(c, m, x, dir, &slope) && closure_run(c, jvp, in, &y);
    dy->n = 0;
    for (int k = 0, at = slope.n, n = ok ? slope.n : 0; k < n; k++) {
        if (!values_is_real(&slope.t[k])) continue;
        double d = closure_distance(&slope.t[k], &y.t[at]);
        if (!(d <= 1e-6))
            ok = closure_fail(c, "jvp: result %d differs from differences by %g", k, d);
        ir_type type = ir_tensor_type(IG_f64, y.t[at].rank, y.t[at].dim);
        ir_tensor *t = values_add(dy, &type);
        memcpy(t->data, y.t[at].data, way_bytes(t));
        at++;
    }
    values_free(&slope);
    values_free(&y);
    return ok;
}

/* <a, b> of the reals of two lists, and the sum of the sizes of its terms. */
static double closure_dot(const values *a, const values *b, int first, double *size) {
    double sum = 0;
    for (int k = 0, at = first; k < a->n; k++) {
        if (!values_is_real(&a->t[k])) continue;
        const double *x = a->t[k].data, *y = b->t[at++].data;
        for (int64_t i = 0; i < values_numel(&a->t[k]); i++) {
            sum += x[i] * y[i];
            *size += fabs(x[i] * y[i]);
        }
    }
    return sum;
}

/* in: x, then cotangents of the real results, which are ct. */
static bool closure_check_vjp(closure *c, const ir_module *m, const ir_module *vjp,
                              const values *dir, const values *in, const values *dy,
                              const values *ct) {
    values y;
    double size = 0;
    if (!closure_run(c, vjp, in, &y)) return false;
    double forward = closure_dot(dy, ct, 0, &size);
    double backward = closure_dot(dir, &y, (int)ir_entry(m)->results.n, &size);
    values_free(&y);
    /* 1e-12: the two sums have other orders; size bounds their terms */
    if (fabs(forward - backward) <= 1e-12 * (1 + size)) return true;
    if (isnan(forward) && isnan(backward)) return true;
    return closure_fail(c, "vjp: %.17g forward, %.17g backward", forward, backward);
}

/* --- Lanes ------------------------------------------------------------------------------------ */

/* One lane of an argument: its elements at other places and moved a little, so that no two lanes
 * are alike and any two elements stay apart. */
static void closure_lane(closure *c, const ir_tensor *x, int lane, ir_tensor *t) {
    memcpy(t->data, x->data, way_bytes(x));
    for (int64_t i = 0, n = values_numel(x); i < n; i++) {
        if (values_is_real(x))
            ((double *)t->data)[i] = ((double *)x->data)[(i + lane) % n] * (1 + lane / 128.0);
        else if (lane) /* an index, a flag, a key: another one */
            gen_data(&c->g, (ig_dtype)x->dtype, 1, false,
                     (char *)t->data + (size_t)i * rt_dtype_bytes((ig_dtype)x->dtype));
    }
}

/* Copy between a tensor and lane `lane` along `axis` of one with lanes. */
static void closure_copy_lane(ir_tensor *one, ir_tensor *all, int axis, int lane, bool in) {
    size_t inner = rt_dtype_bytes((ig_dtype)one->dtype), outer = 1;
    for (int i = 0; i < axis; i++) outer *= (size_t)one->dim[i];
    for (int i = axis; i < one->rank; i++) inner *= (size_t)one->dim[i];
    for (size_t i = 0; i < outer; i++) {
        char *x = (char *)one->data + i * inner;
        char *y = (char *)all->data + (i * CLOSURE_LANES + (size_t)lane) * inner;
        memcpy(in ? y : x, in ? x : y, inner);
    }
}

/* Arguments of the batched program, and of every lane. */
static void closure_lanes(closure *c, const values *x, const int *axes, values *all,
                          values lane[CLOSURE_LANES]) {
    all->n = 0;
    for (int l = 0; l < CLOSURE_LANES; l++) lane[l].n = 0;
    for (int k = 0; k < x->n; k++) {
        ir_type one = ir_tensor_type((ig_dtype)x->t[k].dtype, x->t[k].rank, x->t[k].dim),
                type = one;
        if (axes[k] >= 0) {
            memmove(type.dim + axes[k] + 1, type.dim + axes[k],
                    (size_t)(type.rank++ - axes[k]) * sizeof *type.dim);
            type.dim[axes[k]] = CLOSURE_LANES;
        }
        ir_tensor *t = values_add(all, &type);
        if (axes[k] < 0) memcpy(t->data, x->t[k].data, way_bytes(t));
        for (int l = 0; l < CLOSURE_LANES; l++) {
            ir_tensor *own = values_add(&lane[l], &one);
            closure_lane(c, &x->t[k], axes[k] < 0 ? 0 : l, own);
            if (axes[k] >= 0) closure_copy_lane(own, t, axes[k], l, true);
        }
    }
}

static bool closure_check_vmap(closure *c, const ir_module *m, const ir_module *vmap,
                               const int *out_axes, const values *all,
                               const values lane[CLOSURE_LANES]) {
    values y, want, got;
    bool ok = true;
    if (!closure_run(c, vmap, all, &y)) return false;
    for (int l = 0; l < CLOSURE_LANES && ok; l++) {
        int64_t at;
        if (!closure_run(c, m, &lane[l], &want)) return false;
        got.n = 0;
        for (int k = 0; k < want.n; k++) {
            ir_type type = ir_tensor_type((ig_dtype)want.t[k].dtype, want.t[k].rank, want.t[k].dim);
            closure_copy_lane(values_add(&got, &type), &y.t[k], out_axes[k], l, false);
        }
        int k = way_compare(want.n, want.t, got.t, &at);
        if (k >= 0)
            ok = closure_fail(c, "vmap: lane %d differs in result %d at element %lld", l, k,
                              (long long)at);
        values_free(&want);
        values_free(&got);
    }
    values_free(&y);
    return ok;
}

/* --- The tree --------------------------------------------------------------------------------- */

static bool closure_node(closure *c, const ir_module *m, const values *x, int depth);

/* Go on with a program, unless it is deep enough. */
static bool closure_next(closure *c, const ir_module *m, const values *x, int depth,
                         const char *name) {
    size_t n = strlen(c->path);
    snprintf(c->path + n, sizeof c->path - n, " %s", name);
    c->count->checked++;
    bool ok = depth >= c->depth || closure_node(c, m, x, depth);
    if (ok) c->path[n] = 0;
    return ok;
}

static bool closure_derivatives(closure *c, const ir_module *m, const values *x, int depth) {
    ir_module *jvp = NULL, *vjp = NULL;
    values dir, in, back, dy = {0}, ct;
    if (!closure_status(c, pass_derive(m, PASS_JVP, NULL, &jvp))) return false;
    if (!closure_status(c, pass_derive(m, PASS_VJP, NULL, &vjp))) return false;
    closure_directions(c, x, &dir);
    values_moved(x, &dir, 0, &in);
    closure_append(&in, &dir);
    bool ok = closure_check_jvp(c, m, jvp, x, &dir, &in, &dy);
    if (ok) {
        closure_directions(c, &dy, &ct);
        values_moved(x, &dir, 0, &back);
        closure_append(&back, &ct);
        ok = closure_check_vjp(c, m, vjp, &dir, &back, &dy, &ct) &&
             closure_next(c, jvp, &in, depth + 1, "jvp") &&
             closure_next(c, vjp, &back, depth + 1, "vjp");
        values_free(&ct);
        values_free(&back);
    }
    values_free(&dir);
    values_free(&in);
    values_free(&dy);
    ir_module_free(jvp);
    ir_module_free(vjp);
    return ok;
}

static bool closure_batched(closure *c, const ir_module *m, const values *x, int depth) {
    const ir_func *f = ir_entry(m);
    ir_module *vmap = NULL;
    values all, lane[CLOSURE_LANES];
    int in_axes[CLOSURE_ARGS], out_axes[CLOSURE_ARGS], own = (int)gen_below(&c->g, (uint64_t)x->n);
    for (int k = 0; k < x->n; k++) {
        in_axes[k] = gen_one_in(&c->g, 3) && k != own ? -1
                                                      : (int)gen_below(&c->g, x->t[k].rank + 1u);
        if (x->t[k].rank == IG_MAX_RANK) in_axes[k] = -1;
    }
    for (uint32_t k = 0; k < f->results.n; k++)
        out_axes[k] = (int)gen_below(&c->g, ir_result_type(f, k)->rank + 1u);
    if (!closure_status(c, pass_vmap(m, "3", in_axes, out_axes, &vmap))) return false;
    closure_lanes(c, x, in_axes, &all, lane);
    bool ok = closure_check_vmap(c, m, vmap, out_axes, &all, lane) &&
              closure_next(c, vmap, &all, depth + 1, "vmap");
    values_free(&all);
    for (int l = 0; l < CLOSURE_LANES; l++) values_free(&lane[l]);
    ir_module_free(vmap);
    return ok;
}

/* An op on the list is refused as it says, at its line. */
static bool closure_not_compared(closure *c, const ir_module *m, const struct closure_skip *skip) {
    ir_module *jvp;
    ig_status s = pass_derive(m, PASS_JVP, NULL, &jvp);
    bool right = ig_status_code(s) == skip->code && (!s || ig_status_line(s) == 7);
    ig_status_free(s);
    ir_module_free(jvp);
    c->count->skipped += 2;
    c->count->why = skip->why;
    return right || closure_fail(c, "jvp is not as the list says");
}

static bool closure_node(closure *c, const ir_module *m, const values *x, int depth) {
    bool ok = c->skip ? closure_not_compared(c, m, c->skip) : closure_derivatives(c, m, x, depth);
    return ok && closure_batched(c, m, x, depth);
}

/* --- Instances -------------------------------------------------------------------------------- */

/* A small f64 shape for the first operand. */
static ir_type closure_like(gen *g) {
    ir_type t = {.dtype = IG_f64, .rank = (uint8_t)gen_below(g, 4)};
    for (int i = 0; i < t.rank; i++) t.dim[i] = 1 + (int64_t)gen_below(g, 4);
    return t;
}

static bool closure_is_small(const ir_type *t) {
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->dim[i];
    return n <= CLOSURE_NUMEL && t->rank <= 4 && (!rt_is_float(t->dtype) || t->dtype == IG_f64);
}

/* An instance whose floats are f64 (differences in narrower ones say little), of few elements. */
static bool closure_instance(gen *g, ir_opcode op, gen_op *o) {
    for (int tries = 0; tries < 400; tries++) {
        ir_type like = closure_like(g), out[IR_MAX_RESULTS];
        if (!gen_instance(g, op, &like, o)) continue;
        ir_infer c = {.op = op, .nin = o->nin, .in = o->in, .attr = &o->attr, .out = out};
        bool small = ir_infer_types(&c);
        for (int k = 0; k < o->nin && small; k++) small = closure_is_small(&o->in[k]);
        for (int k = 0; k < c.nout && small; k++) small = closure_is_small(&out[k]);
        if (small) return true;
    }
    return false;
}

static bool closure_op_program(closure *c, const gen_op *o, ir_module **out_) {
    ir_builder b;
    ir_ref in[GEN_OPERANDS], out[IR_MAX_RESULTS + 1], s;
    if (!closure_status(c, ir_module_new(A(), "f", out_))) return false;
    ir_build_begin(&b, *out_, "f", IR_FN, IR_BUILD_RAW);
    b.loc = ir_intern_loc(*out_, "closure.c", 7);
    for (int k = 0; k < o->nin; k++) in[k] = ir_param(&b, o->in[k], NULL);
    s = ir_param(&b, ir_scalar_type(IG_f64), NULL);
    out[0] = ir_emit(&b, o->op, &o->attr, o->nin, in);
    int n = b.error ? 1 : ir_def_op(b.f, out[0])->code == o->op ? ir_def_op(b.f, out[0])->nout : 1;
    for (int k = 1; k < n; k++) out[k] = ir_result(out[0], (uint32_t)k);
    out[n] = ir_emit2(&b, OP_mul, NULL, s, s);
    return closure_status(c, ir_build_end(&b, n + 1, out, NULL));
}

/* Points for the parameters of f, any two of them apart by 1/count: a shuffled grid, in both signs;
 * a third of them 0 where the program asks for zeros. */
static void closure_points(closure *c, const ir_func *f, bool positive, values *x) {
    int64_t count = 0, place[GEN_OPERANDS * CLOSURE_NUMEL + 1] = {0}, used = 0;
    x->n = 0;
    for (uint32_t k = 0; k < ir_nparam(f); k++) {
        ir_type type = closure_type(c, f->module, *ir_val_type(f, ir_param_ref(f, k)));
        values_add(x, &type);
        if (values_is_real(&x->t[k])) count += values_numel(&x->t[k]);
    }
    for (int64_t i = 0; i < count; i++) {
        int64_t k = (int64_t)gen_below(&c->g, (uint64_t)i + 1);
        place[i] = place[k];
        place[k] = i;
    }
    for (int k = 0; k < x->n; k++) {
        ir_tensor *t = &x->t[k];
        if (!values_is_real(t))
            gen_data(&c->g, (ig_dtype)t->dtype, values_numel(t), false, t->data);
        for (int64_t i = 0; values_is_real(t) && i < values_numel(t); i++) {
            double at = ((double)place[used++] + 0.25 + 0.5 * closure_uniform(&c->g));
            double v = 0.3 + 2 * at / (double)count;
            ((double *)t->data)[i] = !positive && gen_one_in(&c->g, 2) ? -v : v;
            if (c->zeros && gen_one_in(&c->g, 3)) ((double *)t->data)[i] = 0;
        }
    }
}

/* All sequences from m on, at drawn points. */
static bool closure_tree(closure *c, const ir_module *m, bool positive) {
    values x;
    closure_points(c, ir_entry(m), positive, &x);
    bool ok = closure_node(c, m, &x, 0);
    values_free(&x);
    return ok;
}

static bool closure_draw_op(closure *c, ir_opcode op) {
    gen_op o;
    ir_module *m = NULL;
    if (!closure_instance(&c->g, op, &o)) return closure_fail(c, "no small instance is found");
    if (!closure_op_program(c, &o, &m)) return false;
    bool ok = closure_tree(c, m, !strcmp(ir_op_tab[op].domain, "positive"));
    ir_module_free(m);
    return ok;
}

static bool closure_draw_text(closure *c, const char *text) {
    ir_module *m = NULL;
    if (!closure_status(c, ir_parse(A(), "text", text, strlen(text), &m))) return false;
    for (uint32_t i = 0; i < m->symbols.n; i++)
        c->symbols[i] = (m->symbols.data[i].lo + m->symbols.data[i].hi) / 2;
    bool ok = closure_status(c, ir_verify(m)) && closure_tree(c, m, false);
    ir_module_free(m);
    return ok;
}

/* Draw an op, or a text, until no tie is near. */
static bool closure_until(closure *c, ir_opcode op, const char *text) {
    for (int draws = 0; draws < 20; draws++) {
        closure_count before = *c->count;
        c->tie = false;
        c->path[0] = 0;
        if (text ? closure_draw_text(c, text) : closure_draw_op(c, op)) return true;
        if (!c->tie) return false;
        *c->count = before;
        c->count->redrawn++;
    }
    return closure_fail(c, "every point lies near a tie");
}

bool closure_check(ir_opcode op, uint64_t seed, int depth, closure_count *count, char what[1024]) {
    closure c = {.g = {seed * 0x9e3779b97f4a7c15u + op}, .depth = depth, .count = count};
    c.name = ir_op_tab[op].name;
    c.skip = closure_skipped(op);
    c.what = what;
    return closure_until(&c, op, NULL);
}

bool closure_check_program(const closure_program *p, uint64_t seed, int depth, closure_count *count,
                           char what[1024]) {
    closure c = {.g = {seed}, .depth = depth, .count = count, .what = what, .name = p->name};
    c.zeros = p->zeros;
    return closure_until(&c, OP_END, p->text);
}
