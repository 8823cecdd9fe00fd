/* ref.c - the reference: one op by the rule of its row, a whole function op by op.
 *
 * This is the definition of every bit (numerics); what an op means is in ref_ew.c, ref_convert.c,
 * ref_move.c, ref_index.c, ref_reduce.c, ref_ein.c and ref_body.c.  Here is the `ref` column of the
 * op table, with one static function behind every token, and the evaluation of functions: values
 * are freed after their last use; calls and regions go through stacks, so that neither long nor
 * deep programs cost more than they must.
 *
 * Regions.  A value used in a region inside of its own lives as long as its function's frame.  The
 * others are counted anew every time their region is entered.  An open op holds the carried values;
 * the region's parameters borrow them, and slices are views of whole operands. */
#include "ir/ref.h"

#include <string.h>

/* --- The ref column --------------------------------------------------------------------------- */

typedef ig_status (*ref_rule)(const ir_ref_call *c);

static ig_status ref_no(const ir_ref_call *c, const char *why) {
    return rt_fail(c->alloc, IG_UNSUPPORTED, "%s %s", ir_op_tab[c->op].name, why);
}

static ig_status rule_const(const ir_ref_call *c) { return ir_ref_const(c); }
static ig_status rule_iota(const ir_ref_call *c) { return ir_ref_iota(c); }
static ig_status rule_dim(const ir_ref_call *c) { return ir_ref_dim(c); }
static ig_status rule_rng(const ir_ref_call *c) { return ir_ref_rng(c); }
static ig_status rule_ew(const ir_ref_call *c) { return ir_ref_ew(c); }
static ig_status rule_copy(const ir_ref_call *c) { return ir_ref_copy(c); }
static ig_status rule_move(const ir_ref_call *c) { return ir_ref_move(c); }
static ig_status rule_pad(const ir_ref_call *c) { return ir_ref_pad(c); }
static ig_status rule_concat(const ir_ref_call *c) { return ir_ref_concat(c); }
static ig_status rule_dslice(const ir_ref_call *c) { return ir_ref_dslice(c); }
static ig_status rule_dupdate(const ir_ref_call *c) { return ir_ref_dupdate(c); }
static ig_status rule_read(const ir_ref_call *c) { return ir_ref_read(c); }
static ig_status rule_write(const ir_ref_call *c) { return ir_ref_write(c); }
static ig_status rule_gather(const ir_ref_call *c) { return ir_ref_gather(c); }
static ig_status rule_scatter(const ir_ref_call *c) { return ir_ref_scatter(c); }
static ig_status rule_sort(const ir_ref_call *c) { return ir_ref_sort(c); }
static ig_status rule_reduce(const ir_ref_call *c) { return ir_ref_reduce(c); }
static ig_status rule_cumred(const ir_ref_call *c) { return ir_ref_cumred(c); }
static ig_status rule_ein(const ir_ref_call *c) { return ir_ref_ein(c); }
static ig_status rule_custom(const ir_ref_call *c) { return ir_ref_custom(c); }
static ig_status rule_host(const ir_ref_call *c) { return ir_ref_host(c); }
static ig_status rule_assert(const ir_ref_call *c) { return ir_ref_assert(c); }
/* Functions are evaluated by ir_ref_run, which knows the module. */
static ig_status rule_weight(const ir_ref_call *c) { return ref_no(c, "needs a module"); }
static ig_status rule_call(const ir_ref_call *c) { return ref_no(c, "needs a module"); }
static ig_status rule_flow(const ir_ref_call *c) { return ref_no(c, "needs its regions"); }
static ig_status rule_end(const ir_ref_call *c) { return ref_no(c, "computes nothing"); }
static ig_status rule_kernel(const ir_ref_call *c) {
    return ref_no(c, "is a kernel op: the reference is for tensors");
}

static const ref_rule rule_tab[OP_END] = {
#define F(...)
#define R(fold, ref, ...)                                         rule_##ref
#define OP(name, ver, n, level, attr, type, domain, flags, rules) [OP_##name] = rules,
#include "ir/ops.def"
#undef OP
#undef R
#undef F
};

/* The elements of every tensor fit an int64_t and their bytes a size_t. */
static bool ref_fits(int n, const ir_tensor *t) {
    for (int i = 0; i < n; i++) {
        int64_t numel;
        size_t bytes;
        if (!rt_numel_checked(t[i].dim, t[i].rank, &numel)) return false;
        if (!rt_mul_size((size_t)numel, rt_dtype_bytes(t[i].dtype), &bytes) || bytes > INT64_MAX)
            return false;
    }
    return true;
}

static ig_status ref_op(const ir_ref_call *c) {
    ig_assert(c->alloc, c->op < OP_END);
    if (!ref_fits(c->nin, c->in) || !ref_fits(c->nout, c->out))
        return rt_status_op(rt_fail(c->alloc, IG_RANGE, "too many elements"),
                            ir_op_tab[c->op].name);
    ig_status s = rule_tab[c->op](c);
    return s ? rt_status_op(s, ir_op_tab[c->op].name) : NULL;
}

ig_status ir_ref_op_in(ir_ref_ctx *ctx, ir_class cls, ir_opcode op, const void *attr, int nin,
                       const ir_tensor *in, int nout, ir_tensor *out) {
    return ref_op(&(ir_ref_call){ir_ref_ctx_alloc(ctx), ctx, cls, op, attr, nin, nout, in, out});
}

ig_status ir_ref_op(const ig_allocator *a, ir_class cls, ir_opcode op, const void *attr, int nin,
                    const ir_tensor *in, int nout, ir_tensor *out) {
    return ref_op(&(ir_ref_call){a, NULL, cls, op, attr, nin, nout, in, out});
}

/* --- Attributes with their dims evaluated ----------------------------------------------------- */

typedef union ref_attr {
#define F(kind, name)
#define ATTR(name, fields) ir_attr_##name as_##name;
#include "ir/attrs.def"
#undef F
} ref_attr;

/* The attribute of an op with constant dims: itself, or a copy in `room`; NULL when a dim
 * overflows. */
static const void *ref_eval_attr(const ir_module *m, ir_attr ref, const int64_t *symbols,
                                 ref_attr *room) {
    const ir_attr_info *info = &ir_attr_tab[ir_attr_kind_of(m, ref)];
    memcpy(room, ir_attr_get(m, ref), info->size);
    for (uint32_t i = 0; i < info->nfield; i++) {
        int n;
        ir_dim *d = ir_dims_in(info->field[i].kind, (char *)room + info->field[i].offset, &n);
        for (int k = 0; k < n; k++)
            if (!ir_dim_eval(m, d[k], symbols, &d[k])) return NULL;
    }
    return room;
}

static bool ref_eval_type(const ir_module *m, const ir_type *type, const int64_t *symbols,
                          ir_tensor *t) {
    *t = (ir_tensor){.dtype = type->dtype, .rank = type->rank};
    for (int i = 0; i < type->rank; i++)
        if (!ir_dim_eval(m, type->dim[i], symbols, &t->dim[i])) return false;
    return ref_fits(1, t);
}

ig_status ir_result_shape(const ir_func *f, const int64_t *symbols, uint32_t k, ir_tensor *out_) {
    const ir_module *m = f->module;
    ig_assert(m->alloc, k < f->results.n);
    if (ref_eval_type(m, ir_result_type(f, k), symbols, out_)) return NULL;
    return rt_fail(m->alloc, IG_RANGE, "result %u of %s is too large for these dims", k, f->name);
}

/* --- Functions -------------------------------------------------------------------------------- */

/* A value of a running function. */
typedef struct ref_value {
    ir_tensor t;
    bool owned; /* the data is ours, of ref_bytes(t) */
} ref_value;

typedef struct ref_frame {
    const ir_func *f;
    uint32_t pc;      /* the next op */
    uint32_t out0;    /* where the caller's results go: a value of the frame below */
    uint32_t *uses;   /* owned: uses left of every value; returns are never counted down */
    uint32_t *count;  /* owned: all uses of it */
    ref_value *value; /* owned, one a value */
} ref_frame;

#define REF_KEPT (UINT32_C(1) << 31) /* in a count: used in a region inside of the value's own */

/* An op whose region runs. */
typedef struct ref_open {
    uint32_t op;
    int64_t step, steps;             /* of a scan; of a while, the trips done */
    ref_value carry[IR_MAX_RESULTS]; /* borrowed from the operands at first */
} ref_open;

typedef struct ref_machine {
    const ig_allocator *alloc;
    const int64_t *symbols;
    ir_ref_ctx *ctx; /* owned */
    RT_VEC(ref_frame) frames;
    RT_VEC(ref_open *) open; /* of all frames, the innermost last; owned */
} ref_machine;

static size_t ref_bytes(const ir_tensor *t) {
    return (size_t)ir_ref_numel(t) * rt_dtype_bytes(t->dtype);
}

static void ref_drop(const ig_allocator *a, ref_value *v) {
    if (v->owned) rt_free_buffer(a, v->t.data, ref_bytes(&v->t));
    *v = (ref_value){.owned = false};
}

static void ref_pop(ref_machine *r) {
    ref_frame *fr = &r->frames.data[--r->frames.n];
    size_t n = fr->f->values.n;
    for (size_t i = 0; fr->value && i < n; i++) ref_drop(r->alloc, &fr->value[i]);
    rt_free(r->alloc, fr->value, n * sizeof *fr->value);
    rt_free(r->alloc, fr->uses, n * sizeof *fr->uses);
    rt_free(r->alloc, fr->count, n * sizeof *fr->count);
}

/* How often every value is used; NULL when memory is out. */
static uint32_t *ref_count_uses(const ir_func *f, const ig_allocator *a) {
    uint32_t *count = ir_count_uses(f, a);
    for (uint32_t i = 0; count && f->regions.n > 1 && i < f->ops.n; i++)
        for (uint32_t k = 0; k < f->ops.data[i].nin; k++) {
            uint32_t v = ir_op_in(f, &f->ops.data[i], k).i;
            if (ir_home(f, (ir_ref){v}) != f->ops.data[i].parent) count[v] |= REF_KEPT;
        }
    return count;
}

/* Enter a function; its parameters borrow the arguments, which outlive the frame. */
static ig_status ref_push(ref_machine *r, const ir_func *f, uint32_t out0) {
    ref_frame fr = {.f = f, .out0 = out0};
    if (f->kind != IR_FN && f->kind != IR_CLUSTER)
        return rt_fail(r->alloc, IG_UNSUPPORTED, "%s is not a tensor function", f->name);
    if (!rt_vec_reserve(r->alloc, &r->frames, r->frames.n + 1)) return rt_fail_memory();
    fr.count = ref_count_uses(f, r->alloc);
    fr.uses = rt_alloc(r->alloc, (size_t)f->values.n * sizeof *fr.uses);
    fr.value = rt_alloc_zero(r->alloc, (size_t)f->values.n * sizeof *fr.value);
    r->frames.data[r->frames.n++] = fr;
    if (fr.count && fr.uses && fr.value) {
        memcpy(fr.uses, fr.count, (size_t)f->values.n * sizeof *fr.uses);
        return NULL;
    }
    ref_pop(r);
    return rt_fail_memory();
}

static ig_status ref_bind_arg(ref_machine *r, const ir_func *f, ref_value *value, uint32_t k,
                              const ir_tensor *x) {
    ir_ref p = ir_param_ref(f, k);
    ir_tensor want;
    if (!ref_eval_type(f->module, ir_val_type(f, p), r->symbols, &want))
        return rt_fail(r->alloc, IG_RANGE, "argument %u of %s is too large for these dims", k,
                       f->name);
    bool same = x->dtype == want.dtype && x->rank == want.rank;
    for (int i = 0; same && i < want.rank; i++) same = x->dim[i] == want.dim[i];
    if (!same)
        return rt_fail(r->alloc, IG_SHAPE, "argument %u of %s has another type than its parameter",
                       k, f->name);
    value[p.i].t = *x;
    return NULL;
}

/* Count down the operands of an op that has run and free what nobody needs any more, its own
 * results included. */
static void ref_consume(ref_machine *r, const ref_frame *fr, const ir_op *o) {
    for (uint32_t k = 0; k < o->nin; k++) {
        uint32_t v = ir_op_in(fr->f, o, k).i;
        if (fr->uses[v] && !--fr->uses[v]) ref_drop(r->alloc, &fr->value[v]);
    }
    for (uint32_t k = 0; k < o->nout; k++)
        if (!fr->uses[o->out0 + k]) ref_drop(r->alloc, &fr->value[o->out0 + k]);
}

/* Give the results of an op their memory. */
static ig_status ref_alloc_out(ref_machine *r, const ref_frame *fr, const ir_op *o,
                               ir_tensor *out) {
    for (uint32_t k = 0; k < o->nout; k++) {
        ref_value *v = &fr->value[o->out0 + k];
        if (!ref_eval_type(fr->f->module, ir_val_type(fr->f, ir_op_out(o, k)), r->symbols, &v->t))
            return rt_fail(r->alloc, IG_RANGE, "a result is too large for these dims");
        size_t bytes = ref_bytes(&v->t);
        v->t.data = rt_alloc_buffer(r->alloc, bytes);
        if (bytes && !v->t.data) return rt_fail_memory();
        v->owned = bytes != 0;
        out[k] = v->t;
    }
    return NULL;
}

/* Run an op that is neither a call nor a return. */
static ig_status ref_step(ref_machine *r, const ref_frame *fr, const ir_op *o) {
    const ir_module *m = fr->f->module;
    RT_VEC(ir_tensor) in = {0};
    ir_tensor out[IR_MAX_RESULTS];
    ref_attr room;
    if (o->code == OP_weight) {
        const ir_weight *w =
            ir_find_weight(m, ((const ir_attr_sym *)ir_attr_get(m, o->attr))->name);
        ig_assert(r->alloc, w && o->nout == 1);
        ref_value *v = &fr->value[o->out0];
        ig_assert(r->alloc, ref_eval_type(m, &w->type, r->symbols, &v->t));
        memcpy(&v->t.data, &w->data, sizeof w->data); /* borrowed; only ever read */
        return NULL;
    }
    const void *attr = ref_eval_attr(m, o->attr, r->symbols, &room);
    if (!attr || o->nout > IR_MAX_RESULTS)
        return rt_fail(r->alloc, IG_RANGE, "a dim is out of range");
    if (!rt_vec_reserve(r->alloc, &in, (uint32_t)o->nin + 1)) return rt_fail_memory();
    for (uint32_t k = 0; k < o->nin; k++) in.data[in.n++] = fr->value[ir_op_in(fr->f, o, k).i].t;
    ig_status s = ref_alloc_out(r, fr, o, out);
    if (!s)
        s = ir_ref_op_in(r->ctx, m->class, (ir_opcode)o->code, attr, o->nin, in.data, o->nout, out);
    rt_vec_free(r->alloc, &in);
    return s;
}

/* Enter the callee of a call. */
static ig_status ref_enter(ref_machine *r, const ir_op *o) {
    uint32_t caller = r->frames.n - 1;
    const ir_func *f = r->frames.data[caller].f;
    const ir_attr_call *a = ir_attr_get(f->module, o->attr);
    const ir_func *callee = ir_find_func(f->module, a->callee);
    ig_assert(r->alloc, callee && ir_nparam(callee) == o->nin && callee->results.n == o->nout);
    RT_TRY(ref_push(r, callee, o->out0));
    const ref_value *from = r->frames.data[caller].value;
    for (uint32_t k = 0; k < o->nin; k++) {
        ref_value *to = r->frames.data[caller + 1].value;
        RT_TRY(ref_bind_arg(r, callee, to, k, &from[ir_op_in(f, o, k).i].t));
    }
    return NULL;
}

/* Take the value of v: the memory itself when it is ours and not needed again, else a copy. */
static ig_status ref_take(ref_machine *r, ref_frame *fr, uint32_t v, ref_value *out_) {
    ref_value *x = &fr->value[v];
    *out_ = (ref_value){.t = x->t};
    if (fr->uses[v]) fr->uses[v]--;
    if (x->owned && !fr->uses[v]) {
        out_->owned = true;
        x->owned = false;
        return NULL;
    }
    size_t bytes = ref_bytes(&x->t);
    out_->t.data = rt_alloc_buffer(r->alloc, bytes);
    if (bytes && !out_->t.data) return rt_fail_memory();
    out_->owned = bytes != 0;
    if (bytes) memcpy(out_->t.data, x->t.data, bytes);
    return NULL;
}

/* Hand the results of the innermost frame to the caller's values. */
static ig_status ref_leave(ref_machine *r, const ir_op *ret) {
    ref_frame *fr = &r->frames.data[r->frames.n - 1], *to = fr - 1;
    for (uint32_t k = 0; k < ret->nin; k++)
        RT_TRY(ref_take(r, fr, ir_op_in(fr->f, ret, k).i, &to->value[fr->out0 + k]));
    ref_pop(r);
    fr = &r->frames.data[r->frames.n - 1];
    ref_consume(r, fr, &fr->f->ops.data[fr->pc++]);
    return NULL;
}

/* --- Regions --------------------------------------------------------------------------------- */

/* Go on with the first op of region k of an op; its values are new. */
static void ref_enter_region(ref_machine *r, ref_frame *fr, const ir_op *o, uint32_t k) {
    uint32_t number = o->region0 + k;
    const ir_region *region = &fr->f->regions.data[number];
    for (uint32_t i = 0; i < region->nparam; i++) {
        uint32_t v = region->param0 + i;
        ref_drop(r->alloc, &fr->value[v]);
        fr->uses[v] = fr->count[v];
    }
    for (uint32_t i = region->first; i < region->end; i++) {
        const ir_op *x = &fr->f->ops.data[i];
        for (uint32_t n = 0; x->parent == number && n < x->nout; n++) {
            ref_drop(r->alloc, &fr->value[x->out0 + n]);
            fr->uses[x->out0 + n] = fr->count[x->out0 + n];
        }
    }
    fr->pc = region->first;
}

/* Parameter v borrows a value. */
static void ref_lend(ref_frame *fr, uint32_t v, const ir_tensor *t) {
    fr->value[v] = (ref_value){.t = *t};
}

/* The i-th element along the first axis of a value. */
static ir_tensor ref_slice(const ir_tensor *x, int64_t i) {
    ir_tensor t = {.dtype = x->dtype, .rank = (uint8_t)(x->rank - 1)};
    memcpy(t.dim, x->dim + 1, t.rank * sizeof *t.dim);
    size_t bytes = ref_bytes(&t);
    if (bytes) t.data = (char *)x->data + (size_t)i * bytes;
    return t;
}

/* The op is done: its results are there. */
static void ref_close(ref_machine *r, ref_frame *fr, const ir_op *o) {
    ref_open *open = r->open.data[--r->open.n];
    for (int k = 0; k < IR_MAX_RESULTS; k++) ref_drop(r->alloc, &open->carry[k]);
    rt_free(r->alloc, open, sizeof *open);
    uint32_t op = (uint32_t)(o - fr->f->ops.data);
    ref_consume(r, fr, o);
    fr->pc = ir_op_after(fr->f, op);
}

/* Carried value k becomes result k. */
static ig_status ref_give(ref_machine *r, ref_frame *fr, const ir_op *o, uint32_t n) {
    ref_open *open = r->open.data[r->open.n - 1];
    for (uint32_t k = 0; k < n; k++) {
        ref_value *from = &open->carry[k], *to = &fr->value[o->out0 + k];
        *to = (ref_value){.t = from->t, .owned = from->owned};
        size_t bytes = ref_bytes(&from->t);
        if (!from->owned && bytes) { /* an operand, as the region never ran */
            to->t.data = rt_alloc_buffer(r->alloc, bytes);
            if (!to->t.data) return rt_fail_memory();
            to->owned = true;
            memcpy(to->t.data, from->t.data, bytes);
        }
        from->owned = false;
    }
    return NULL;
}

/* The next step of a scan, or its end. */
static ig_status ref_scan_step(ref_machine *r, ref_frame *fr, const ir_op *o) {
    const ir_attr_scan *a = ir_attr_get(fr->f->module, o->attr);
    ref_open *open = r->open.data[r->open.n - 1];
    uint32_t carries = (uint32_t)a->carries, p = fr->f->regions.data[o->region0].param0;
    if (open->step == open->steps) {
        RT_TRY(ref_give(r, fr, o, carries));
        ref_close(r, fr, o);
        return NULL;
    }
    int64_t at = a->reverse ? open->steps - 1 - open->step : open->step;
    ref_enter_region(r, fr, o, 0);
    ref_value *index = &fr->value[p];
    index->t = (ir_tensor){.dtype = IG_i64, .data = rt_alloc_buffer(r->alloc, sizeof at)};
    if (!index->t.data) return rt_fail_memory();
    index->owned = true;
    memcpy(index->t.data, &at, sizeof at);
    for (uint32_t k = 0; k < carries; k++) ref_lend(fr, p + 1 + k, &open->carry[k].t);
    for (uint32_t k = carries; k < o->nin; k++) {
        ir_tensor t = ref_slice(&fr->value[ir_op_in(fr->f, o, k).i].t, at);
        ref_lend(fr, p + 1 + k, &t);
    }
    return NULL;
}

/* Begin an op with regions. */
static ig_status ref_begin(ref_machine *r, ref_frame *fr, const ir_op *o) {
    const ir_module *m = fr->f->module;
    const ir_attr_scan *a = ir_attr_get(m, o->attr);
    ref_open *open = rt_alloc_zero(r->alloc, sizeof *open);
    ir_tensor out[IR_MAX_RESULTS];
    if (!open || !rt_vec_push(r->alloc, &r->open, open)) {
        rt_free(r->alloc, open, sizeof *open);
        return rt_fail_memory();
    }
    open->op = (uint32_t)(o - fr->f->ops.data);
    if (o->code == OP_if) {
        const ir_tensor *t = &fr->value[ir_op_in(fr->f, o, 0).i].t;
        int64_t k = t->dtype == IG_bool ? !*(const uint8_t *)t->data : *(const int32_t *)t->data;
        ref_enter_region(r, fr, o, k < 0 ? 0 : k >= o->nregion ? o->nregion - 1u : (uint32_t)k);
        return NULL;
    }
    if (o->code == OP_composite) { /* its body, on the operands */
        uint32_t p = fr->f->regions.data[o->region0].param0;
        ref_enter_region(r, fr, o, 0);
        for (uint32_t k = 0; k < o->nin; k++)
            ref_lend(fr, p + k, &fr->value[ir_op_in(fr->f, o, k).i].t);
        return NULL;
    }
    uint32_t carries = o->code == OP_scan ? (uint32_t)a->carries : o->nin;
    for (uint32_t k = 0; k < carries; k++) open->carry[k].t = fr->value[ir_op_in(fr->f, o, k).i].t;
    if (o->code == OP_scan) {
        ir_op ys = *o; /* the stacked results */
        ys.out0 += carries;
        ys.nout = (uint16_t)(ys.nout - carries);
        if (!ir_dim_eval(m, a->n, r->symbols, &open->steps))
            return rt_fail(r->alloc, IG_RANGE, "a dim is out of range");
        RT_TRY(ref_alloc_out(r, fr, &ys, out));
        return ref_scan_step(r, fr, o);
    }
    ref_enter_region(r, fr, o, 0);
    for (uint32_t k = 0; k < carries; k++)
        ref_lend(fr, fr->f->regions.data[o->region0].param0 + k, &open->carry[k].t);
    return NULL;
}

/* The condition of a while is known. */
static ig_status ref_decide(ref_machine *r, ref_frame *fr, const ir_op *o, const ir_op *yield) {
    const ir_attr_while *a = ir_attr_get(fr->f->module, o->attr);
    ref_open *open = r->open.data[r->open.n - 1];
    if (!*(const uint8_t *)fr->value[ir_op_in(fr->f, yield, 0).i].t.data) {
        RT_TRY(ref_give(r, fr, o, o->nin));
        ref_close(r, fr, o);
        return NULL;
    }
    if (a->cap && open->step == a->cap) {
        ir_loc_rec at = ir_loc_get(fr->f->module, o->loc);
        ig_status s = rt_fail(r->alloc, IG_RANGE,
                              "the loop would go round more than %lld times, its cap",
                              (long long)a->cap);
        return rt_status_op(rt_status_at(s, at.file, (int)at.line), ir_op_tab[o->code].name);
    }
    open->step++;
    ref_enter_region(r, fr, o, 1);
    for (uint32_t k = 0; k < o->nin; k++)
        ref_lend(fr, fr->f->regions.data[o->region0 + 1].param0 + k, &open->carry[k].t);
    return NULL;
}

/* Take what a region yields as the next carried values, all of it before any is replaced. */
static ig_status ref_carry(ref_machine *r, ref_frame *fr, const ir_op *yield, uint32_t n) {
    ref_open *open = r->open.data[r->open.n - 1];
    ref_value next[IR_MAX_RESULTS];
    ig_status s = NULL;
    uint32_t got = 0;
    for (; got < n && !s; got++) {
        s = ref_take(r, fr, ir_op_in(fr->f, yield, got).i, &next[got]);
        if (s) break;
    }
    for (uint32_t k = 0; k < got; k++) {
        ref_drop(r->alloc, s ? &next[k] : &open->carry[k]);
        if (!s) open->carry[k] = next[k];
    }
    return s;
}

/* A region has ended. */
static ig_status ref_yield(ref_machine *r, ref_frame *fr, const ir_op *yield) {
    ref_open *open = r->open.data[r->open.n - 1];
    const ir_op *o = &fr->f->ops.data[open->op];
    const ir_attr_scan *a = ir_attr_get(fr->f->module, o->attr);
    if (o->code == OP_while && yield->parent == o->region0) return ref_decide(r, fr, o, yield);
    if (o->code == OP_if || o->code == OP_composite) {
        RT_TRY(ref_carry(r, fr, yield, yield->nin));
        RT_TRY(ref_give(r, fr, o, o->nout));
        ref_close(r, fr, o);
        return NULL;
    }
    if (o->code == OP_while) {
        RT_TRY(ref_carry(r, fr, yield, yield->nin));
        ref_enter_region(r, fr, o, 0);
        for (uint32_t k = 0; k < o->nin; k++)
            ref_lend(fr, fr->f->regions.data[o->region0].param0 + k, &open->carry[k].t);
        return NULL;
    }
    int64_t at = a->reverse ? open->steps - 1 - open->step : open->step;
    for (uint32_t k = (uint32_t)a->carries; k < yield->nin; k++) {
        ir_tensor to = ref_slice(&fr->value[o->out0 + k].t, at);
        size_t bytes = ref_bytes(&to);
        if (bytes) memcpy(to.data, fr->value[ir_op_in(fr->f, yield, k).i].t.data, bytes);
    }
    RT_TRY(ref_carry(r, fr, yield, (uint32_t)a->carries));
    open->step++;
    return ref_scan_step(r, fr, o);
}

/* --- Running ---------------------------------------------------------------------------------- */

/* Copy the results of the outermost frame into the caller's memory. */
static void ref_finish(ref_machine *r, const ir_op *ret, ir_tensor *out) {
    const ref_frame *fr = &r->frames.data[0];
    for (uint32_t k = 0; k < ret->nin; k++) {
        const ref_value *v = &fr->value[ir_op_in(fr->f, ret, k).i];
        size_t bytes = ref_bytes(&v->t);
        if (bytes) memcpy(out[k].data, v->t.data, bytes);
    }
}

static ig_status ref_loop(ref_machine *r, ir_tensor *out) {
    for (;;) {
        ref_frame *fr = &r->frames.data[r->frames.n - 1]; /* stale once a call was entered */
        const ir_func *f = fr->f;
        const ir_op *o = &f->ops.data[fr->pc];
        ig_status s = NULL;
        if (o->code == OP_return && r->frames.n == 1) return ref_finish(r, o, out), NULL;
        if (o->code == OP_return)
            s = ref_leave(r, o);
        else if (o->code == OP_call)
            s = ref_enter(r, o);
        else if (o->code == OP_yield)
            s = ref_yield(r, fr, o);
        else if (o->nregion)
            s = ref_begin(r, fr, o);
        else if (!(s = ref_step(r, fr, o))) {
            ref_consume(r, fr, o);
            fr->pc++;
        }
        if (s) {
            ir_loc_rec at = ir_loc_get(f->module, o->loc);
            return at.file ? rt_status_at(s, at.file, (int)at.line) : s;
        }
    }
}

ig_status ir_ref_run(const ir_func *f, const ig_allocator *a, const int64_t *symbols, int nin,
                     const ir_tensor *in, int nout, ir_tensor *out) {
    ref_machine r = {.alloc = a, .symbols = symbols};
    if (nin != (int)ir_nparam(f) || nout != (int)f->results.n)
        return rt_fail(a, IG_INVALID, "%s takes %u arguments and gives %u results, not %d and %d",
                       f->name, ir_nparam(f), f->results.n, nin, nout);
    ig_status s = ir_ref_ctx_new(a, &r.ctx);
    if (!s) s = ref_push(&r, f, 0);
    for (int k = 0; !s && k < nin; k++)
        s = ref_bind_arg(&r, f, r.frames.data[0].value, (uint32_t)k, &in[k]);
    if (!s) s = ref_loop(&r, out);
    while (r.open.n) {
        ref_open *open = r.open.data[--r.open.n];
        for (int k = 0; k < IR_MAX_RESULTS; k++) ref_drop(a, &open->carry[k]);
        rt_free(a, open, sizeof *open);
    }
    while (r.frames.n) ref_pop(&r);
    rt_vec_free(a, &r.frames);
    rt_vec_free(a, &r.open);
    ir_ref_ctx_free(r.ctx);
    return s;
}
