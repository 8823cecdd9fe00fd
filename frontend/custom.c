/* custom.c - C functions of the user as ops, callbacks, and assertions.
 *
 * The functions have one fixed signature, so that nothing here or in compiled code makes up calls
 * at run time: what differs from one function to the next, how many tensors of what types, is data.
 */
#include "frontend/fe.h"
#include "passes/pass.h"
#include "runtime/custom.h"

#include <string.h>

/* --- Ops ------------------------------------------------------------------------------------ */

/* Whether the description is one, and is registered from now on. */
static bool custom_known(fe_call *c, ig_custom *op, bool gives) {
    ig_status e = ig_custom_register(op);
    if (!e && !op->type == gives)
        e = rt_fail(fe_alloc(c), IG_INVALID, "%s",
                    gives ? "it has no type, so that it is a callback: call it by ig_host"
                          : "it has a type, so that it is an op: call it by ig_custom");
    if (e) fe_error_status(c, e);
    return !e;
}

static bool custom_op(fe_call *c, const ig_custom *op, int nin, ig_tensor *const *in, int nout,
                      ig_tensor **out_) {
    ir_attr_custom attr = {.name = op->name,
                           .version = op->version,
                           .type = op->type,
                           .lanes = (op->flags & IG_CUSTOM_LANES) != 0};
    return fe_ops(c, OP_custom, &attr, nin, in, nout, out_);
}

/* An op with a derivative is the body of a function that has one. */
typedef struct custom_body {
    const ig_site *site;
    const ig_custom *op;
    int nin, nout;
} custom_body;

static void custom_run(void *user, ig_tensor *const *in, ig_tensor **out) {
    const custom_body *b = user;
    fe_call call, *c = &call;
    if (!fe_enter(c, b->site, b->op->name)) return;
    custom_op(c, b->op, b->nin, in, b->nout, out);
    for (int k = 0; k < b->nout; k++) out[k] = fe_hand_out(c, out[k]);
    fe_exit(c);
}

static bool custom_derived(fe_call *c, const ig_custom *op, ig_list in, int nout,
                           ig_tensor **out_) {
    custom_body body = {c->site, op, in.n, nout};
    fe_composite d = {.name = op->name,
                      .fn = custom_run,
                      .lin = op->lin,
                      .vjp = op->vjp,
                      .fn_user = &body,
                      .user = op->user};
    return fe_composite_run(c, &d, in.n, in.t, nout, out_);
}

bool ig_custom_at(const ig_site *site, ig_custom *op, ig_list in, int nout, ig_tensor **out_) {
    for (int k = 0; k < nout; k++) out_[k] = fe_poison_none();
    FE_ENTER_OR(site, op && op->name ? op->name : "custom", false);
    bool ok = custom_known(c, op, true);
    if (ok && (in.n < 0 || in.n > IR_CUSTOM_OPERANDS || nout < 1 || nout > FE_RESULTS))
        ok = (fe_error(c, IG_INVALID, "%d operands and %d results; there are up to %d and %d", in.n,
                       nout, IR_CUSTOM_OPERANDS, FE_RESULTS),
              false);
    if (ok && op->lin && op->vjp)
        ok = (fe_error(c, IG_INVALID, "it has two derivatives: lin or vjp"), false);
    if (ok)
        ok = c->s->rec && (op->lin || op->vjp) ? custom_derived(c, op, in, nout, out_)
                                               : custom_op(c, op, in.n, in.t, nout, out_);
    for (int k = 0; k < nout; k++) out_[k] = fe_hand_out(c, ok ? out_[k] : NULL);
    fe_exit(c);
    return ok;
}

ig_tensor *ig_custom1_at(const ig_site *site, ig_custom *op, ig_list in) {
    ig_tensor *out;
    ig_custom_at(site, op, in, 1, &out);
    return out;
}

/* --- Callbacks ------------------------------------------------------------------------------ */

static bool custom_host(fe_call *c, ig_custom *op, const char *text, ig_list in) {
    if (!custom_known(c, op, false)) return false;
    ir_attr_host attr = {.name = op->name, .version = op->version, .text = text};
    return fe_ops(c, OP_host, &attr, in.n, in.t, 0, NULL);
}

bool ig_host_at(const ig_site *site, ig_custom *op, const char *text, ig_list in) {
    FE_ENTER_OR(site, op && op->name ? op->name : "host", false);
    bool ok = custom_host(c, op, text, in);
    fe_exit(c);
    return ok;
}

void ig_debug_print_at(const ig_site *site, const char *text, ig_list in) {
    FE_ENTER_OR(site, "debug_print", );
    custom_host(c, &rt_print_op, text, in);
    fe_exit(c);
}

/* --- Assertions ----------------------------------------------------------------------------- */

bool ig_check_at(const ig_site *site, ig_arg cond, const char *text, ig_list values) {
    FE_ENTER_OR(site, "check", false);
    ig_tensor *in[IR_CUSTOM_OPERANDS] = {fe_arg(c, cond)};
    bool ok = !fe_is_poison(in[0]);
    if (ok && (values.n < 0 || values.n >= IR_CUSTOM_OPERANDS))
        ok = (fe_error(c, IG_INVALID, "%d values in a message; there are up to %d", values.n,
                       IR_CUSTOM_OPERANDS - 1),
              false);
    for (int k = 0; ok && k < values.n; k++) in[1 + k] = values.t[k];
    if (ok && in[0]->rank && in[0]->dtype == IG_bool)
        in[0] = fe_reduce(c, IR_redop_all, in[0], &(ir_axes){in[0]->rank, {0, 1, 2, 3, 4, 5, 6, 7}},
                          false);
    ok = ok && !fe_is_poison(in[0]) &&
         fe_ops(c, OP_assert, &(ir_attr_assert){.text = text}, 1 + values.n, in, 0, NULL);
    fe_exit(c);
    return ok;
}

/* --- Modules -------------------------------------------------------------------------------- */

ig_status fe_custom_check(const ir_module *m) {
    RT_TRY(rt_custom_builtin());
    for (uint32_t k = 0; k < m->funcs.n; k++)
        for (uint32_t i = 0; i < m->funcs.data[k]->ops.n; i++) {
            const ir_op *o = &m->funcs.data[k]->ops.data[i];
            const ig_custom *op;
            if (o->code != OP_custom && o->code != OP_host) continue;
            const ir_attr_host *a = ir_attr_get(m, o->attr);
            RT_TRY(rt_custom_get(m->alloc, a->name, a->version, &op));
        }
    return NULL;
}

/* An error at the place where assertion number k of the compiled function was written: calls are
 * inlined there. */
static ig_status custom_place(ig_status e, const ir_module *m, int64_t k) {
    ir_module *flat;
    ig_status failed = pass_run_list("inline,expand", m, &flat);
    ig_status_free(failed);
    if (failed) return e;
    const ir_func *f = ir_find_func(flat, ir_entry(m)->name);
    for (uint32_t i = 0; f && i < f->ops.n; i++) {
        if (f->ops.data[i].code != OP_assert || k--) continue;
        ir_loc_rec at = ir_loc_get(flat, f->ops.data[i].loc);
        if (at.file) e = rt_status_at(e, at.file, (int)at.line);
    }
    ir_module_free(flat);
    return e;
}

ig_status fe_custom_failed(const ig_allocator *a, const ir_module *m, int32_t code) {
    ig_status e = rt_host_status(a, code);
    return code < RT_HOST_ASSERT ? e : custom_place(e, m, code - RT_HOST_ASSERT);
}
