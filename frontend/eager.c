/* eager.c - running an op: the one function every op goes through.
 *
 * fe_op checks the operands by the op's type rule, allocates the result, runs the op by a kernel
 * (kernels.c) or else by the reference and, when a trace is under way, appends it to the recording.
 * Frontend code computes shapes in ir_dim: in a trace these are the dims of the recorded types,
 * symbolic where the user said so, so that what is recorded holds for every size; the attribute
 * that is executed is the recorded one evaluated under the example's sizes.  Broadcasting and
 * conversion are ops of their own (ir.md 4.1). */
#include "frontend/fe.h"
#include "runtime/base/log.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- Texts of types ------------------------------------------------------------------------ */

/* Lend the one buffer of a text. */
static void *eager_lend(void *user, void *ptr, size_t old_size, size_t new_size, size_t align) {
    (void)ptr, (void)old_size, (void)align;
    return new_size && new_size <= sizeof(fe_text) ? user : NULL;
}

static ir_type eager_plain_type(const ig_tensor *t) {
    return ir_tensor_type((ig_dtype)t->dtype, t->rank, t->dim);
}

fe_text fe_type_text(const fe_call *c, const ig_tensor *t) {
    fe_text text = {{0}};
    ig_allocator lend = {eager_lend, text.s};
    ir_type plain = eager_plain_type(t);
    const ir_type *known = c->s->rec ? fe_rec_known(c->s->rec, t) : NULL;
    rt_str s;
    rt_str_init(&s, &lend);
    ir_type_print(fe_module(c), known ? known : &plain, &s);
    return text;
}

fe_text fe_dim_text(const fe_call *c, ir_dim d) {
    fe_text text = {{0}};
    ig_allocator lend = {eager_lend, text.s};
    rt_str s;
    rt_str_init(&s, &lend);
    if (d == IR_DIM_BAD)
        rt_str_puts(&s, "(too large)");
    else
        ir_dim_print(fe_module(c), d, &s);
    return text;
}

/* --- Dims ---------------------------------------------------------------------------------- */

ir_module *fe_module(const fe_call *c) { return c->s->rec ? fe_rec_module(c->s->rec) : NULL; }

ir_dims fe_dims(const fe_call *c, const ig_tensor *t) {
    const ir_type *known = c->s->rec ? fe_rec_known(c->s->rec, t) : NULL;
    const ir_dim *d = known ? known->dim : t->dim;
    ir_dims r = {.n = t->rank};
    for (int i = 0; i < t->rank; i++) r.d[i] = d[i];
    return r;
}

/* Symbolic dims reach the user as numbers far below zero, which only lists of extents understand.
 */
#define EXTENT_BASE (INT64_MIN / 2)

int64_t ig_extent(const ig_tensor *t, int axis) {
    int64_t plain = ig_dim(t, axis);
    if (plain < 0 || fe_is_poison(t) || !t->session->stream.rec) return plain;
    const ir_type *known = fe_rec_known(t->session->stream.rec, t);
    if (!known) return plain;
    ir_dim d = known->dim[axis < 0 ? axis + t->rank : axis];
    return ir_dim_is_const(d) ? d : d + EXTENT_BASE;
}

bool fe_user_dims(fe_call *c, ig_dims dims, bool infer, ir_dims *out_) {
    int left = 0;
    if (dims.n < 0 || dims.n > IG_MAX_RANK) {
        fe_error(c, IG_INVALID, "%d dims; a tensor has 0 to %d", dims.n, IG_MAX_RANK);
        return false;
    }
    memset(out_, 0, sizeof *out_);
    out_->n = (uint8_t)dims.n;
    for (int i = 0; i < dims.n; i++) {
        int64_t d = dims.d[i];
        bool symbolic = d < EXTENT_BASE && d > INT64_MIN && c->s->rec;
        if (infer && d == -1) left++;
        if ((d < 0 && !symbolic && !(infer && d == -1)) || left > 1) {
            fe_error(c, IG_RANGE, "dim %d is %lld; %s", i, (long long)d,
                     left > 1 ? "only one may be -1" : "extents are at least 0");
            return false;
        }
        out_->d[i] = symbolic ? d - EXTENT_BASE : d < 0 ? IR_DIM_BAD : d;
    }
    return true;
}

bool fe_axis(fe_call *c, int axis, int rank, int *out_) {
    if (axis >= -rank && axis < rank) {
        *out_ = axis < 0 ? axis + rank : axis;
        return true;
    }
    fe_error(c, IG_RANGE, "axis %d of a tensor of rank %d: axes go from %d to %d", axis, rank,
             -rank, rank - 1);
    return false;
}

bool fe_axes(fe_call *c, ig_axes axes, int rank, ir_axes *out_) {
    unsigned seen = 0;
    memset(out_, 0, sizeof *out_);
    if (axes.n < 0 || axes.n > IG_MAX_RANK) {
        fe_error(c, IG_INVALID, "%d axes; a tensor has at most %d", axes.n, IG_MAX_RANK);
        return false;
    }
    for (int i = 0; !axes.all && i < axes.n; i++) {
        int axis;
        if (!fe_axis(c, axes.a[i], rank, &axis)) return false;
        if (seen >> axis & 1) {
            fe_error(c, IG_INVALID, "axis %d is listed twice", axis);
            return false;
        }
        seen |= 1u << axis;
    }
    for (int i = 0; i < rank; i++)
        if (axes.all || seen >> i & 1) out_->a[out_->n++] = (uint8_t)i;
    return true;
}

/* --- Running an op ------------------------------------------------------------------------- */

#define EAGER_FEW 4 /* operands without an allocation; only concat and windows have more */

bool fe_eval_attr(const ir_module *m, const int64_t *symbols, ir_attr_kind kind, const void *attr,
                  ir_attr_any *out_) {
    const ir_attr_info *info = &ir_attr_tab[kind];
    memcpy(out_, attr, info->size);
    for (uint32_t i = 0; i < info->nfield; i++) {
        int n;
        ir_dim *d = ir_dims_in(info->field[i].kind, (char *)out_ + info->field[i].offset, &n);
        for (int k = 0; k < n; k++)
            if (!ir_dim_eval(m, d[k], symbols, &d[k])) return false;
    }
    return true;
}

ig_status fe_note_operands(fe_call *c, ig_status e, int nin, ig_tensor *const *in) {
    for (int k = 0; k < nin && k < 4; k++)
        if (in[k]->site && in[k]->site != c->site)
            e = rt_status_note(e, "operand %d: %s, made at %s:%d", k, FE_TYPE(in[k]),
                               in[k]->site->file, in[k]->site->line);
    return e;
}

/* Apply the type rule to types; false and the error recorded. */
static bool eager_infer(fe_call *c, ir_module *m, ir_opcode op, const void *attr, int nin,
                        const ir_type *type, ig_tensor *const *in, int nout,
                        ir_type out_[FE_RESULTS]) {
    ir_type out[IR_MAX_RESULTS];
    ir_infer rule = {.m = m, .op = op, .nin = nin, .in = type, .attr = attr, .out = out};
    if (ir_infer_types(&rule)) {
        if (rule.nout != nout) {
            fe_error(c, IG_INTERNAL, "%s gives %d results, not %d", ir_op_tab[op].name, rule.nout,
                     nout);
            return false;
        }
        memcpy(out_, out, (size_t)nout * sizeof *out);
        return true;
    }
    ig_status e = rt_fail(fe_alloc(c), rule.code, "%s", rule.message);
    bool own = op == OP_custom || op == OP_host; /* the call is the op, under its own name */
    if (!own && strcmp(c->op, ir_op_tab[op].name))
        e = rt_status_note(e, "in the op %s that it is made of", ir_op_tab[op].name);
    fe_error_status(c, fe_note_operands(c, e, nin, in));
    return false;
}

/* Whether a float tensor holds a NaN; its first position. */
static bool eager_find_nan(const ig_tensor *t, int64_t *at_) {
    if (!rt_is_float((ig_dtype)t->dtype)) return false;
    int64_t n = fe_numel(t);
    for (int64_t i = 0; i < n; i++)
        if (isnan(fe_get_f64(t, i))) {
            *at_ = i;
            return true;
        }
    return false;
}

/* IG_NAN=1: a NaN none of the operands had is an error. */
static bool eager_trap_nan(fe_call *c, ir_opcode op, int nin, ig_tensor *const *in,
                           const ig_tensor *out) {
    int64_t at, other;
    if (!eager_find_nan(out, &at)) return true;
    for (int k = 0; k < nin; k++)
        if (eager_find_nan(in[k], &other)) return true;
    ig_status e = rt_fail(fe_alloc(c), IG_RANGE,
                          "NaN at element %lld of %s, made by %s from operands without NaN",
                          (long long)at, FE_TYPE(out), ir_op_tab[op].name);
    for (int k = 0; k < nin && k < 3; k++)
        if (ir_is_elementwise(op) && fe_numel(in[k]) > at)
            e = rt_status_note(e, "operand %d there: %.9g", k, fe_get_f64(in[k], at));
    fe_error_status(c, fe_note_operands(c, e, nin, in));
    return false;
}

/* An op that calls the user's code: no kernels exist, and it is not ours to be slow. */
static bool eager_is_own(ir_opcode op, int nout) { return op == OP_custom || !nout; }

/* Evaluate by the reference. */
static bool eager_refer(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor *const *in,
                        int nout, ig_tensor *const *out) {
    ir_tensor few[EAGER_FEW], *arg = few, result[FE_RESULTS];
    ig_session *s = c->s->session;
    if (nin > EAGER_FEW) arg = rt_alloc(s->alloc, (size_t)nin * sizeof *arg);
    if (!arg) return fe_error_memory(c), false;
    for (int k = 0; k < nin; k++) arg[k] = fe_ir_tensor(in[k]);
    for (int k = 0; k < nout; k++) result[k] = fe_ir_tensor(out[k]);
    ig_status e = ir_ref_op_in(s->ref, s->class, op, attr, nin, arg, nout, result);
    if (arg != few) rt_free(s->alloc, arg, (size_t)nin * sizeof *arg);
    bool own = eager_is_own(op, nout);
    s->count.reference += !own;
    if (!own && rt_log_on("slow"))
        rt_log("slow", "%s:%d: %s to %s ran on the reference",
               c->site ? c->site->file : "(unknown)", c->site ? c->site->line : 0,
               ir_op_tab[op].name, FE_TYPE(out[0]));
    if (e) fe_error_status(c, e);
    return !e;
}

static bool eager_run_all(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor *const *in,
                          int nout, ig_tensor *const *out) {
    fe_ran ran = eager_is_own(op, nout) ? FE_NO_KERNEL : fe_kernels_run(c, op, attr, nin, in, out);
    if (ran != FE_NO_KERNEL) return ran == FE_RAN;
    return eager_refer(c, op, attr, nin, in, nout, out);
}

bool fe_run_op(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor *const *in,
               ig_tensor *out) {
    return eager_run_all(c, op, attr, nin, in, 1, &out);
}

/* Run an op; those that keep the elements as they are share the buffer. */
static bool eager_run(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor *const *in,
                      int nout, const ir_type *type, ig_tensor **out_) {
    if (op == OP_reshape || op == OP_detach || op == OP_barrier) {
        out_[0] = fe_alias(c, in[0], type->rank, type->dim);
        return !fe_is_poison(out_[0]);
    }
    for (int k = 0; k < nout; k++) {
        out_[k] = fe_new(c, (ig_dtype)type[k].dtype, type[k].rank, type[k].dim);
        if (fe_is_poison(out_[k])) return false;
    }
    if (!eager_run_all(c, op, attr, nin, in, nout, out_)) return false;
    bool fine = true;
    for (int k = 0; k < nout && c->s->session->nan_trap && fine; k++)
        fine = eager_trap_nan(c, op, nin, in, out_[k]);
    return fine;
}

static bool eager_op(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor *const *in,
                     ir_type *type, int nout, ig_tensor **out_) {
    ir_type known[FE_RESULTS], plain[FE_RESULTS];
    ir_attr_any now;
    const void *run = attr;
    if (c->s->rec) {
        for (int k = 0; k < nin; k++)
            if (!fe_rec_type(c, in[k], &type[k])) return false;
        if (!eager_infer(c, fe_module(c), op, attr, nin, type, in, nout, known)) return false;
        if (!fe_rec_eval_attr(c->s->rec, (ir_attr_kind)ir_op_tab[op].attr, attr, &now)) {
            fe_error(c, IG_RANGE, "a dim is too large or negative for the example's sizes");
            return false;
        }
        run = &now;
    }
    for (int k = 0; k < nin; k++) type[k] = eager_plain_type(in[k]);
    return eager_infer(c, NULL, op, run, nin, type, in, nout, plain) &&
           eager_run(c, op, run, nin, in, nout, plain, out_) &&
           (!c->s->rec || fe_rec_append(c, op, attr, nin, in, nout, known, out_));
}

/* Whether an elementwise op may run without its type rule: it is not recorded, and nothing looks at
 * its operands again. */
static bool eager_is_quick(const fe_call *c, ir_opcode op) {
    const ig_session *s = c->s->session;
    return s->kernels && !c->s->rec && !s->nan_trap && ir_is_elementwise(op);
}

static bool eager_same_shapes(int n, ig_tensor *const *t) {
    for (int k = 1; k < n; k++)
        if (!fe_same_shape(t[0], t[k])) return false;
    return true;
}

static bool eager_checked(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor *const *in,
                          int nout, ig_tensor **out_) {
    ir_type few[EAGER_FEW], *type = few;
    if (nin > EAGER_FEW) type = rt_alloc(fe_alloc(c), (size_t)nin * sizeof *type);
    if (!type) return fe_error_memory(c), false;
    bool ok = eager_op(c, op, attr, nin, in, type, nout, out_);
    if (type != few) rt_free(fe_alloc(c), type, (size_t)nin * sizeof *type);
    return ok;
}

static ig_tensor *eager_one(fe_call *c, ir_opcode op, const void *attr, int nin,
                            ig_tensor *const *in) {
    ig_tensor *out;
    return eager_checked(c, op, attr, nin, in, 1, &out) ? out : fe_poison(c);
}

static const ir_attr_any eager_zero;

ig_tensor *fe_op(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor *const *in) {
    ig_tensor *out = NULL;
    if (!attr) attr = &eager_zero;
    for (int k = 0; k < nin; k++)
        if (!fe_is_usable(c, in[k], k)) return fe_poison(c);
    if (eager_is_quick(c, op) && eager_same_shapes(nin, in))
        out = fe_kernels_ew(c, op, attr, nin, in);
    return out ? out : eager_one(c, op, attr, nin, in);
}

ig_tensor *fe_ew(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor **in) {
    ig_tensor *out = NULL;
    if (!attr) attr = &eager_zero;
    for (int k = 0; k < nin; k++)
        if (!fe_is_usable(c, in[k], k)) return fe_poison(c);
    if (eager_is_quick(c, op)) out = fe_kernels_ew(c, op, attr, nin, in);
    if (out) return out;
    return fe_spread(c, nin, in) ? eager_one(c, op, attr, nin, in) : fe_poison(c);
}

bool fe_ops(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor *const *in, int nout,
            ig_tensor **out_) {
    bool ok = true;
    for (int k = 0; k < nin && ok; k++) ok = fe_is_usable(c, in[k], k);
    ok = ok && eager_checked(c, op, attr, nin, in, nout, out_);
    for (int k = 0; k < nout && !ok; k++) out_[k] = fe_poison(c);
    return ok;
}
