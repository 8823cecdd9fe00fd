/* record.c - what a trace remembers while the traced function runs.
 *
 * Values are numbered; a handle remembers the recording and the number of its value.  A handle the
 * recording does not know is captured when it is first used.  Whether a capture is a weight, a
 * constant or state is decided when the function is done: only then is it known which handles it
 * assigned.  For the same reason a read of a value that is not known to depend on an argument is
 * only noted, and judged at the end. */
#include "frontend/fe_rec.h"
#include <string.h>

void rec_init(fe_rec *r, ig_session *s, ir_module *m, const int64_t *binding) {
    memset(r, 0, sizeof *r);
    r->session = s;
    r->module = m;
    r->id = ++s->ntrace;
    r->binding = binding;
}

void rec_restore(fe_rec *r) {
    for (uint32_t i = r->grads.n; i-- > 0;) {
        rec_grad *k = &r->grads.data[i];
        if (k->of->grad) fe_release(k->of->grad);
        k->of->grad = k->before;
        fe_release(k->of);
    }
    r->grads.n = 0;
    for (uint32_t i = 0; i < r->captures.n; i++) {
        rec_capture *k = &r->captures.data[i];
        if (!k->state) continue;
        fe_buf_retain(k->buf);
        fe_buf_release(r->session, k->handle->buf);
        k->handle->buf = k->buf;
    }
}

void rec_free(fe_rec *r) {
    ig_session *s = r->session;
    for (uint32_t i = r->captures.n; i-- > 0;) {
        fe_buf_release(s, r->captures.data[i].buf);
        fe_release(r->captures.data[i].handle);
    }
    rt_vec_free(s->alloc, &r->values);
    rt_vec_free(s->alloc, &r->nodes);
    rt_vec_free(s->alloc, &r->operands);
    rt_vec_free(s->alloc, &r->captures);
    rt_vec_free(s->alloc, &r->reads);
    rt_vec_free(s->alloc, &r->grads);
    rt_vec_free(s->alloc, &r->open);
}

/* A new value; false when memory is out. */
static bool rec_add(fe_rec *r, rec_kind kind, uint32_t index, const ir_type *type, ig_tensor *t) {
    rec_value v = {.type = *type, .kind = kind, .index = index};
    if (kind == REC_OP) v.region = fe_rec_region(r);
    if (!rt_vec_push(r->session->alloc, &r->values, v)) return false;
    t->trace = r->id;
    t->val = r->values.n - 1;
    return true;
}

bool rec_argument(fe_rec *r, ig_tensor *t, const ir_type *type) {
    t->argument = true;
    t->born = r->id;
    return rec_add(r, REC_ARGUMENT, r->values.n, type, t);
}

static bool rec_capture_new(fe_call *c, fe_rec *r, ig_tensor *t) {
    ir_type type = ir_tensor_type((ig_dtype)t->dtype, t->rank, t->dim);
    rec_capture k = {
        .handle = t, .buf = t->buf, .used = c->site, .used_by = c->op, .val = r->values.n};
    if (!rt_vec_reserve(r->session->alloc, &r->captures, r->captures.n + 1)) return false;
    if (!rec_add(r, REC_CAPTURE, r->captures.n, &type, t)) return false;
    r->captures.data[r->captures.n++] = k;
    fe_retain(t);
    fe_buf_retain(t->buf);
    return true;
}

uint32_t fe_rec_region(const fe_rec *r) { return r->open.n ? r->open.data[r->open.n - 1] : 0; }

/* Whether a value may be used here: its region is open. */
static bool rec_is_visible(const fe_rec *r, uint32_t val) {
    uint32_t region = r->values.data[val].region;
    bool open = !region;
    for (uint32_t i = 0; i < r->open.n; i++) open |= r->open.data[i] == region;
    return open;
}

bool rec_value_of(fe_call *c, fe_rec *r, ig_tensor *t, uint32_t *val_) {
    if (t->trace == r->id && !rec_is_visible(r, t->val)) {
        fe_error(c, IG_TRACE,
                 "%s, made at %s:%d, is a value of a loop's or branch's body and has none outside "
                 "of it: give it as a result of the body",
                 FE_TYPE(t), t->site ? t->site->file : "(unknown)", t->site ? t->site->line : 0);
        return false;
    }
    if (t->trace != r->id && !rec_capture_new(c, r, t)) {
        fe_error_memory(c);
        return false;
    }
    *val_ = t->val;
    return true;
}

/* --- Asked by the ops ---------------------------------------------------------------------- */

bool fe_rec_type(fe_call *c, ig_tensor *t, ir_type *out_) {
    uint32_t val;
    if (!rec_value_of(c, c->s->rec, t, &val)) return false;
    *out_ = c->s->rec->values.data[val].type;
    return true;
}

const ir_type *fe_rec_known(const fe_rec *r, const ig_tensor *t) {
    return t->trace == r->id && !fe_is_poison(t) ? &r->values.data[t->val].type : NULL;
}

ir_module *fe_rec_module(const fe_rec *r) { return r->module; }

uint32_t fe_rec_id(const fe_rec *r) { return r->id; }

bool fe_rec_eval(const fe_rec *r, ir_dim d, int64_t *out_) {
    return ir_dim_eval(r->module, d, r->binding, out_);
}

bool fe_rec_eval_attr(const fe_rec *r, ir_attr_kind kind, const void *attr, ir_attr_any *out_) {
    return fe_eval_attr(r->module, r->binding, kind, attr, out_);
}

/* Append a node. */
static bool rec_append(fe_call *c, rec_part part, ir_opcode op, const void *attr, int nin,
                       ig_tensor *const *in, int nout, const ir_type *type, ig_tensor *const *out) {
    fe_rec *r = c->s->rec;
    const ig_allocator *a = r->session->alloc;
    rec_node node = {.site = c->site,
                     .api = c->op,
                     .op = (uint16_t)op,
                     .part = (uint8_t)part,
                     .nin = (uint32_t)nin,
                     .in0 = r->operands.n};
    node.attr = ir_intern_attr(r->module, (ir_attr_kind)ir_op_tab[op].attr, attr);
    bool ok = node.attr.i != UINT32_MAX &&
              rt_vec_reserve(a, &r->operands, r->operands.n + (uint32_t)nin) &&
              rt_vec_reserve(a, &r->nodes, r->nodes.n + 1);
    for (int k = 0; ok && k < nin; k++) r->operands.data[r->operands.n++] = in[k]->val;
    node.out = r->values.n;
    node.nout = (uint32_t)nout;
    for (int k = 0; ok && k < nout; k++) ok = rec_add(r, REC_OP, r->nodes.n, &type[k], out[k]);
    if (!ok) {
        fe_error_memory(c);
        return false;
    }
    r->nodes.data[r->nodes.n++] = node;
    return !c->s->grad || fe_grad_note(c, nin, in, nout, out);
}

bool fe_is_traced(const fe_call *c) { return c->s->rec && !c->s->rec->tape; }

bool fe_rec_append(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor *const *in,
                   int nout, const ir_type *type, ig_tensor *const *out) {
    return rec_append(c, REC_WHOLE, op, attr, nin, in, nout, type, out);
}

/* --- Regions ------------------------------------------------------------------------------- */

bool fe_rec_begin(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor *const *in) {
    uint32_t val;
    if (c->s->rec->broken && c->s->rec->tape) {
        fe_error(
            c, IG_INVALID,
            "a loop or checkpoint failed in this gradient scope, which records no more of them");
        return false;
    }
    for (int k = 0; k < nin; k++)
        if (!rec_value_of(c, c->s->rec, in[k], &val)) return false;
    return rec_append(c, REC_BEGIN, op, attr, nin, in, 0, NULL, NULL);
}

bool fe_rec_enter(fe_call *c, int n, const ir_type *type, ig_tensor *const *param) {
    fe_rec *r = c->s->rec;
    if (!rt_vec_push(r->session->alloc, &r->open, r->nregion + 1)) return fe_error_memory(c), false;
    r->nregion++;
    for (int k = 0; k < n; k++) param[k]->region = fe_rec_region(r);
    return rec_append(c, REC_PARAMS, OP_yield, NULL, 0, NULL, n, type, param);
}

bool fe_rec_yield(fe_call *c, int n, ig_tensor *const *in) {
    fe_rec *r = c->s->rec;
    uint32_t val;
    bool ok = !r->broken;
    for (int k = 0; k < n && ok; k++) ok = rec_value_of(c, r, in[k], &val);
    ok = ok && rec_append(c, REC_YIELD, OP_yield, NULL, n, in, 0, NULL, NULL);
    r->open.n--;
    return ok;
}

bool fe_rec_end(fe_call *c, int n, const ir_type *type, ig_tensor *const *out) {
    return rec_append(c, REC_END, OP_yield, NULL, 0, NULL, n, type, out);
}

bool fe_rec_check(fe_call *c, bool ok) {
    if (!ok && c->s->rec) c->s->rec->broken = true;
    return ok;
}

bool fe_rec_rebind(fe_call *c, ig_tensor *t, ig_tensor *v) {
    fe_rec *r = c->s->rec;
    uint32_t val;
    if (!rec_value_of(c, r, v, &val)) return false;
    if (c->s->grad) fe_grad_assigned(c, t);
    if (r->tape && !r->open.n) return true;
    if (t->argument && t->born == r->id) {
        fe_error(c, IG_TRACE,
                 "an argument of the traced function is assigned, which its callers would not see: "
                 "assign a copy "
                 "(ig_copy), or use the tensor from outside, which makes it state");
        return false;
    }
    if (t->born == r->id && t->region == fe_rec_region(r))
        return true; /* a local of the function, or of the body that runs */
    if (r->open.n) {
        fe_error(c, IG_TRACE,
                 "a tensor from outside of a loop's or branch's body is assigned in it: carry it "
                 "(pass it in and give its new value as a result)");
        return false;
    }
    for (uint32_t i = 0; i < r->captures.n; i++)
        if (r->captures.data[i].handle == t) {
            r->captures.data[i].state = true;
            return true;
        }
    if (!rec_value_of(c, r, t, &val)) return false;
    r->captures.data[r->values.data[val].index].state = true;
    return true;
}

/* --- As a function ------------------------------------------------------------------------- */

/* The op whose regions are being built: the last one that has any, where the builder stands. */
static uint32_t rec_owner(const ir_builder *b) {
    const ir_func *f = b->f;
    uint32_t o = f->ops.n;
    while (o-- > 0) {
        const ir_op *op = &f->ops.data[o];
        if (op->nregion && op->parent == b->region) return o;
    }
    return 0;
}

static void rec_emit_params(const fe_rec *r, ir_builder *b, const rec_node *n, ir_ref *out_) {
    ir_type type[3 * IR_MAX_RESULTS];
    if (b->error) return;
    uint32_t owner = rec_owner(b);
    int k = 0;
    while (b->f->regions.data[b->f->ops.data[owner].region0 + (uint32_t)k].end) k++;
    for (uint32_t i = 0; i < n->nout; i++)
        type[i] = ir_import_type(b->m, r->module, r->values.data[n->out + i].type);
    ir_region_begin(b, owner, k, (int)n->nout, type, out_);
}

void rec_place(ir_builder *b, const rec_node *n) {
    b->loc = n->site ? ir_intern_loc(b->m, n->site->file, (uint32_t)n->site->line) : (ir_loc){0};
}

void rec_emit(const fe_rec *r, ir_builder *b, const rec_node *n, const ir_ref *in, ir_ref *out_) {
    ir_opcode op = (ir_opcode)n->op;
    ir_attr_any attr;
    ir_ref first = {0};
    rec_place(b, n);
    ir_import_attr(b->m, r->module, n->attr, &attr);
    switch ((rec_part)n->part) {
    case REC_BEGIN: ir_op_begin(b, op, &attr, (int)n->nin, in, ir_region_count(op, &attr)); return;
    case REC_PARAMS: rec_emit_params(r, b, n, out_); return;
    case REC_YIELD: ir_region_end(b, (int)n->nin, in); return;
    case REC_WHOLE: first = ir_emit(b, op, &attr, (int)n->nin, in); break;
    case REC_END: first = ir_op_end(b, rec_owner(b)); break;
    }
    for (uint32_t k = 0; k < n->nout; k++) out_[k] = ir_result(first, k);
}

/* --- Dependence ---------------------------------------------------------------------------- */

bool *rec_dependence(const fe_rec *r) {
    bool *depends = rt_alloc_zero(r->session->alloc, r->values.n + 1u);
    for (uint32_t v = 0; depends && v < r->values.n; v++) {
        const rec_value *x = &r->values.data[v];
        if (x->kind == REC_ARGUMENT) depends[v] = true;
        if (x->kind == REC_CAPTURE) depends[v] = r->captures.data[x->index].state;
        if (x->kind != REC_OP) continue;
        const rec_node *n = &r->nodes.data[x->index];
        depends[v] = n->part != REC_WHOLE; /* nobody knows how often a body runs */
        for (uint32_t k = 0; k < n->nin; k++)
            depends[v] = depends[v] || depends[r->operands.data[n->in0 + k]];
    }
    return depends;
}

/* One line of the chain. */
static ig_status rec_note(const fe_rec *r, ig_status e, uint32_t val, bool first) {
    const rec_value *x = &r->values.data[val];
    const char *lead = first ? "the value is" : "from";
    if (x->kind == REC_ARGUMENT) return rt_status_note(e, "%s argument %u", lead, x->index);
    if (x->kind == REC_CAPTURE) {
        const ig_tensor *t = r->captures.data[x->index].handle;
        return rt_status_note(e, "%s the state %s, made at %s:%d, which the function assigns", lead,
                              t->name ? t->name : "tensor", t->site ? t->site->file : "(unknown)",
                              t->site ? t->site->line : 0);
    }
    const rec_node *n = &r->nodes.data[x->index];
    return rt_status_note(e, "%s %s at %s:%d", lead, n->api, n->site ? n->site->file : "(unknown)",
                          n->site ? n->site->line : 0);
}

#define REC_CHAIN 12

ig_status rec_read_error(const fe_rec *r, const bool *depends, uint32_t val) {
    ig_status e = rt_fail(
        r->session->alloc, IG_TRACE,
        "this reads a value that depends on the arguments of the traced function; what the program "
        "does with it would be lost: keep it in tensor ops (ig_where, ...), or return it");
    const ig_site *before = NULL;
    int lines = 0;
    for (bool first = true;; first = false) {
        const rec_value *x = &r->values.data[val];
        const rec_node *n = x->kind == REC_OP ? &r->nodes.data[x->index] : NULL;
        bool same_call = n && n->site &&
                         n->site == before; /* inner ops of one composite: one line */
        if (!same_call && lines == REC_CHAIN && n) e = rt_status_note(e, "...");
        if (!same_call && (lines < REC_CHAIN || !n)) e = rec_note(r, e, val, first);
        lines += !same_call;
        if (!n || !n->nin) return e;
        before = n->site;
        uint32_t k = 0;
        while (k + 1 < n->nin && !depends[r->operands.data[n->in0 + k]]) k++;
        val = r->operands.data[n->in0 + k];
    }
}

bool fe_rec_observe(fe_call *c, ig_tensor *t) {
    fe_rec *r = c->s->rec;
    rec_read read = {.site = c->site, .api = c->op};
    if (r->tape && r->open.n) {
        r->broken = true;
        fe_error(c, IG_TRACE,
                 "this reads a value in the body of a loop or checkpoint, which a gradient scope "
                 "records once: what the program does with it would be lost (keep it in tensor "
                 "ops, or read results)");
        return false;
    }
    if (r->tape) return true;
    if (!rec_value_of(c, r, t, &read.val)) return false;
    bool *depends = rec_dependence(r);
    bool ok = depends && rt_vec_push(r->session->alloc, &r->reads, read);
    if (!ok)
        fe_error_memory(c);
    else if (depends[read.val]) {
        fe_error_status(c, rec_read_error(r, depends, read.val));
        ok = false;
    }
    rt_free(r->session->alloc, depends, depends ? r->values.n + 1u : 0);
    return ok;
}
