/* trace.c - ig_trace: run a function, record it, check the recording by a second run, make a
 * module.
 *
 * Both runs record into one module, so that equal attributes have equal numbers and the comparison
 * of the streams is a comparison of integers.  The second run has another size for every dynamic
 * dim and the elements of the examples in another order; what differs between the streams then was
 * taken from the example and not from the arguments.  Handles the function assigned get their
 * values back after each run, so that both begin alike. */
#include "frontend/fe_rec.h"
#include "ir/text.h"
#include "runtime/fpenv.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define TRACE_DIM_MAX     16777216 /* the range of a dynamic dim that states none */
#define TRACE_MAX_ARGS    4096
#define TRACE_CONST_BYTES 64 /* captured constants up to this size go into the module unnamed */

typedef RT_VEC(int64_t) trace_sizes;

/* One run: the recording, and the values that are its results. */
typedef struct trace_run {
    fe_rec rec;
    trace_sizes binding;
    RT_VEC(uint32_t)
    results; /* those of the function, then final values of state in capture order */
} trace_run;

typedef struct trace_job {
    fe_call *c;
    ig_trace_fn fn;
    void *user;
    int nin, nout;
    ig_tensor *const *in; /* borrowed: the user's examples */
    const char *name;
    ir_module *module;     /* owned until it is handed over */
    RT_VEC(ir_type) types; /* of the arguments */
    trace_run first, second;
    ig_status earlier; /* borrowed: the error the stream had before the trace */
} trace_job;

#define trace_alloc(j)           fe_alloc((j)->c)
#define trace_fail(j, code, ...) fe_status((j)->c, rt_fail(trace_alloc(j), (code), __VA_ARGS__))

static const char *trace_file(const ig_site *site) { return site ? site->file : "(unknown)"; }
static int trace_line(const ig_site *site) { return site ? site->line : 0; }

/* --- Dynamic dims: "[B,784], [B]; B in 1..4096" -------------------------------------------- */

typedef struct trace_text {
    const char *all, *at;
} trace_text;

static bool trace_take(trace_text *t, char ch) {
    while (isspace((unsigned char)*t->at)) t->at++;
    if (*t->at != ch) return false;
    if (ch) t->at++;
    return true;
}

static bool trace_number(trace_text *t, int64_t *out_) {
    int64_t x = 0;
    while (isspace((unsigned char)*t->at)) t->at++;
    const char *first = t->at;
    for (; isdigit((unsigned char)*t->at); t->at++)
        if (__builtin_mul_overflow(x, (int64_t)10, &x) ||
            __builtin_add_overflow(x, (int64_t)(*t->at - '0'), &x))
            return false;
    *out_ = x;
    return t->at > first;
}

/* An identifier into a buffer. */
static bool trace_ident(trace_text *t, char *out, size_t size) {
    while (isspace((unsigned char)*t->at)) t->at++;
    size_t n = 0;
    if (!isalpha((unsigned char)*t->at) && *t->at != '_') return false;
    while (isalnum((unsigned char)*t->at) || *t->at == '_') {
        if (n + 1 >= size) return false;
        out[n++] = *t->at++;
    }
    out[n] = 0;
    return true;
}

static ig_status trace_bad_text(trace_job *j, const trace_text *t, const char *what) {
    return trace_fail(j, IG_FORMAT, "%s\n  %s\n  %*s^", what, t->all, (int)(t->at - t->all), "");
}

/* The number of a symbol, added with a range when it is new. */
static ig_status trace_symbol(trace_job *j, const char *name, int64_t lo, int64_t hi,
                              uint32_t *index_, ir_dim *dim_) {
    ir_module *m = j->module;
    *dim_ = ir_add_symbol(m, name, lo, hi);
    for (*index_ = 0; *index_ < m->symbols.n && strcmp(m->symbols.data[*index_].name, name);)
        ++*index_;
    bool ok = *dim_ != IR_DIM_BAD;
    while (ok && j->first.binding.n < m->symbols.n)
        ok = rt_vec_push(trace_alloc(j), &j->first.binding, -1);
    return ok ? NULL : fe_status(j->c, rt_fail_memory());
}

/* The part after `;`. */
static ig_status trace_read_ranges(trace_job *j, trace_text *t) {
    char name[64], word[8];
    do {
        int64_t lo, hi;
        uint32_t index;
        ir_dim dim;
        bool ok = trace_ident(t, name, sizeof name) && trace_ident(t, word, sizeof word) &&
                  !strcmp(word, "in") && trace_number(t, &lo) && trace_take(t, '.') &&
                  trace_take(t, '.') && trace_number(t, &hi);
        if (!ok) return trace_bad_text(j, t, "a range is written `B in 1..4096`");
        if (lo > hi) return trace_bad_text(j, t, "the range is empty");
        RT_TRY(trace_symbol(j, name, lo, hi, &index, &dim));
    } while (trace_take(t, ','));
    return trace_take(t, 0) ? NULL : trace_bad_text(j, t, "nothing is expected here");
}

/* One dim of an argument: a number, `_` or a name. */
static ig_status trace_read_dim(trace_job *j, trace_text *t, int arg, int axis, ir_dim *dim_) {
    char name[64];
    int64_t have = j->in[arg]->dim[axis], number;
    uint32_t index;
    if (trace_number(t, &number)) {
        *dim_ = have;
        return number == have ? NULL
                              : trace_fail(j, IG_SHAPE, "dim %d of argument %d is %lld, not %lld",
                                           axis, arg, (long long)have, (long long)number);
    }
    if (!trace_ident(t, name, sizeof name))
        return trace_bad_text(j, t, "a dim is a number, `_` or a name");
    *dim_ = have;
    if (!strcmp(name, "_")) return NULL;
    RT_TRY(trace_symbol(j, name, 1, TRACE_DIM_MAX, &index, dim_));
    const ir_symbol *s = &j->module->symbols.data[index];
    int64_t *bound = &j->first.binding.data[index];
    if (have < s->lo || have > s->hi)
        return trace_fail(j, IG_RANGE, "dim %d of argument %d is %lld, outside %s in %lld..%lld",
                          axis, arg, (long long)have, name, (long long)s->lo, (long long)s->hi);
    if (*bound >= 0 && *bound != have)
        return trace_fail(j, IG_SHAPE, "%s is %lld, but dim %d of argument %d is %lld", name,
                          (long long)*bound, axis, arg, (long long)have);
    *bound = have;
    return NULL;
}

/* One bracket. */
static ig_status trace_read_type(trace_job *j, trace_text *t, int arg) {
    const ig_tensor *x = arg < j->nin ? j->in[arg] : NULL;
    if (!x) return trace_bad_text(j, t, "more brackets than arguments");
    if (!trace_take(t, '[')) return trace_bad_text(j, t, "a `[` is expected here");
    ir_type *type = &j->types.data[arg];
    for (int i = 0; i < x->rank; i++) {
        if (i && !trace_take(t, ',')) return trace_bad_text(j, t, "the argument has more dims");
        RT_TRY(trace_read_dim(j, t, arg, i, &type->dim[i]));
    }
    return trace_take(t, ']') ? NULL : trace_bad_text(j, t, "a `]` is expected here");
}

/* Types of the arguments, and the examples' binding of the symbols. */
static ig_status trace_read_types(trace_job *j, const char *dims) {
    for (int i = 0; i < j->nin; i++) {
        ir_type t = ir_tensor_type((ig_dtype)j->in[i]->dtype, j->in[i]->rank, j->in[i]->dim);
        if (!rt_vec_push(trace_alloc(j), &j->types, t)) return fe_status(j->c, rt_fail_memory());
    }
    if (!dims) return NULL;
    const char *ranges = strchr(dims, ';');
    trace_text t = {dims, ranges ? ranges + 1 : dims};
    if (ranges) RT_TRY(trace_read_ranges(j, &t));
    t.at = dims;
    int arg = 0;
    do RT_TRY(trace_read_type(j, &t, arg++));
    while (trace_take(&t, ','));
    if (!trace_take(&t, 0) && !trace_take(&t, ';'))
        return trace_bad_text(j, &t, "`,` or `;` is expected here");
    for (uint32_t i = 0; i < j->first.binding.n; i++)
        if (j->first.binding.data[i] < 0)
            return trace_fail(j, IG_INVALID, "no argument has the dim %s",
                              j->module->symbols.data[i].name);
    return NULL;
}

/* --- Examples of the second run ------------------------------------------------------------ */

/* Another size for every symbol, within its range, and different ones for different symbols where
 * that is possible. */
static bool trace_other_sizes(trace_job *j) {
    const ir_module *m = j->module;
    for (uint32_t i = 0; i < m->symbols.n; i++) {
        int64_t had = j->first.binding.data[i], by = 1 + (int64_t)(i % 7);
        int64_t now = had > m->symbols.data[i].hi - by ? had - by : had + by;
        if (now < m->symbols.data[i].lo) now = had < m->symbols.data[i].hi ? had + 1 : had - 1;
        if (now < m->symbols.data[i].lo) now = had;
        if (!rt_vec_push(trace_alloc(j), &j->second.binding, now)) return false;
    }
    return true;
}

static size_t trace_gcd(size_t a, size_t b) {
    while (b) {
        size_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

/* An example of the second sizes with the elements of the first, in another order. */
static ig_tensor *trace_other_example(trace_job *j, fe_call *c, int arg) {
    const ig_tensor *x = j->in[arg];
    int64_t dim[IG_MAX_RANK] = {0};
    size_t width = rt_dtype_bytes((ig_dtype)x->dtype), have = x->buf->bytes / width;
    for (int i = 0; i < x->rank; i++)
        if (!ir_dim_eval(j->module, j->types.data[arg].dim[i], j->second.binding.data, &dim[i]))
            return fe_error(c, IG_RANGE, "dim %d of argument %d is too large for the trace check",
                            i, arg);
    ig_tensor *t = fe_new(c, (ig_dtype)x->dtype, x->rank, dim);
    if (fe_is_poison(t) || !t->buf->bytes) return t;
    if (!have) {
        memset(t->buf->data, 0, t->buf->bytes);
        return t;
    }
    size_t step = have / 2 + 1, n = t->buf->bytes / width;
    while (trace_gcd(step, have) != 1) step++;
    for (size_t i = 0, at = have > 1; i < n; i++, at = (at + step) % have)
        memcpy((char *)t->buf->data + i * width, (const char *)x->buf->data + at * width, width);
    return t;
}

/* --- One run ------------------------------------------------------------------------------- */

void fe_call_user(fe_call *c, ig_trace_fn fn, void *user, ig_tensor *const *in, ig_tensor **out) {
    fe_stream *s = c->s;
    uint32_t missing = s->missing;
    const fe_grad *open = s->grad;
    rt_fp_leave(c->fp);
    fn(user, in, out);
    c->fp = rt_fp_enter();
    while (s->scope != &c->scope) {
        fe_scope *left = s->scope;
        while (left->first) fe_move(left->first, &c->scope);
        fe_scope_pop(s, left);
        rt_free(s->session->alloc, left, sizeof *left);
    }
    s->missing = missing;
    if (s->grad != open) fe_grad_close(s); /* left open by the function */
}

/* A result is missing: for an error of the run, for an earlier one (what the function captured is
 * poison), or the function did not set it. */
static void trace_bad_result(trace_job *j, fe_call *c, int i, const ig_tensor *t) {
    if (c->s->error) return;
    if (t && j->earlier)
        fe_error(c, ig_status_code(j->earlier),
                 "the function left result %d poison, for an earlier error: %s", i,
                 ig_status_text(j->earlier));
    else
        fe_error(c, IG_TRACE, "the function left result %d %s", i, t ? "poison" : "NULL");
}

/* The values that are results, and the last values of assigned handles. */
static bool trace_take_results(trace_job *j, fe_call *c, trace_run *r, ig_tensor *const *out) {
    uint32_t val;
    for (int i = 0; i < j->nout; i++) {
        if (!out[i] || fe_is_poison(out[i])) {
            trace_bad_result(j, c, i, out[i]);
            return false;
        }
        if (!fe_is_usable(c, out[i], i) || !rec_value_of(c, &r->rec, out[i], &val)) return false;
        if (!rt_vec_push(trace_alloc(j), &r->results, val)) return fe_error_memory(c), false;
    }
    for (uint32_t i = 0; i < r->rec.captures.n; i++) {
        if (!r->rec.captures.data[i].state) continue;
        if (!rt_vec_push(trace_alloc(j), &r->results, r->rec.captures.data[i].handle->val))
            return fe_error_memory(c), false;
    }
    return true;
}

/* Reads that were let pass but depend on what turned out to be state. */
static void trace_check_reads(fe_call *c, const fe_rec *r) {
    bool *depends = rec_dependence(r);
    if (!depends) {
        fe_error_memory(c);
        return;
    }
    for (uint32_t i = 0; i < r->reads.n && !c->s->error; i++) {
        const rec_read *read = &r->reads.data[i];
        if (!depends[read->val]) continue;
        ig_status e = rec_read_error(r, depends, read->val);
        if (read->site) e = rt_status_at(e, read->site->file, read->site->line);
        fe_error_status(c, rt_status_op(e, read->api));
    }
    rt_free(r->session->alloc, depends, r->values.n + 1u);
}

/* Make the arguments, run, collect.  `in` and `out` have room for all. */
static void trace_run_in(trace_job *j, fe_call *c, trace_run *r, bool other, ig_tensor **in,
                         ig_tensor **out) {
    for (int i = 0; i < j->nin; i++) {
        in[i] = other ? trace_other_example(j, c, i) : fe_alias(c, j->in[i], j->in[i]->rank, NULL);
        if (fe_is_poison(in[i])) return;
        if (!rec_argument(&r->rec, in[i], &j->types.data[i])) {
            fe_error_memory(c);
            return;
        }
    }
    c->s->rec = &r->rec;
    fe_call_user(c, j->fn, j->user, in, out);
    if (!c->s->error && trace_take_results(j, c, r, out)) trace_check_reads(c, &r->rec);
    c->s->rec = NULL;
    rec_restore(&r->rec);
}

/* One run in a call of its own; the error it left, if any. */
static ig_status trace_run_once(trace_job *j, trace_run *r, bool other) {
    fe_call c;
    fe_stream *s = j->c->s;
    ig_status before = s->error;
    bool hook_due = s->hook_due;
    size_t bytes = (size_t)(j->nin + j->nout + 1) * sizeof(ig_tensor *);
    ig_tensor **room = rt_alloc_zero(trace_alloc(j), bytes);
    rec_init(&r->rec, s->session, j->module, r->binding.data);
    if (!room) return fe_status(j->c, rt_fail_memory());
    s->error = NULL;
    j->earlier = before;
    if (fe_enter(&c, j->c->site, "trace")) {
        trace_run_in(j, &c, r, other, room, room + j->nin);
        fe_exit(&c);
    }
    rt_free(trace_alloc(j), room, bytes);
    ig_status e = s->error;
    s->error = before;
    s->hook_due = hook_due;
    return e;
}

/* --- The check ----------------------------------------------------------------------------- */

static ig_status trace_differs(trace_job *j, const rec_node *a, const rec_node *b,
                               const char *why) {
    ig_status e = trace_fail(
        j, IG_TRACE,
        "the trace check failed: run again with other sizes and values, the function does "
        "something else: %s",
        why);
    if (a)
        e = rt_status_note(e, "first run: %s at %s:%d", a->api, trace_file(a->site),
                           trace_line(a->site));
    if (b)
        e = rt_status_note(e, "second run: %s at %s:%d", b->api, trace_file(b->site),
                           trace_line(b->site));
    return e;
}

/* A captured tensor is the same in both runs. */
static ig_status trace_compare_capture(trace_job *j, const rec_capture *a, const rec_capture *b,
                                       const rec_node *n) {
    const ig_tensor *x = a->handle, *y = b->handle;
    bool same = a->state == b->state && x->dtype == y->dtype && x->rank == y->rank &&
                !memcmp(x->dim, y->dim, sizeof(int64_t) * x->rank);
    if (same && a->state && x == y) return NULL;
    if (same && a->buf->bytes == b->buf->bytes &&
        (!a->buf->bytes || !memcmp(a->buf->data, b->buf->data, a->buf->bytes)))
        return NULL;
    return rt_status_note(
        trace_differs(j, n, n,
                      "a constant it makes or takes from outside is not the same (a random "
                      "number of its own, an extent, a counter)"),
        "the constant was made at %s:%d", trace_file(x->site), trace_line(x->site));
}

static ig_status trace_compare_operand(trace_job *j, const rec_node *a, uint32_t x, uint32_t y) {
    const fe_rec *r = &j->first.rec, *q = &j->second.rec;
    const rec_value *v = &r->values.data[x], *w = &q->values.data[y];
    bool same = v->kind == w->kind && (v->kind == REC_CAPTURE || v->index == w->index);
    if (same && v->kind == REC_OP) /* the same one of its results */
        same = x - r->nodes.data[v->index].out == y - q->nodes.data[w->index].out;
    if (!same) return trace_differs(j, a, NULL, "an op gets other operands");
    if (v->kind != REC_CAPTURE) return NULL;
    return trace_compare_capture(j, &r->captures.data[v->index], &q->captures.data[w->index], a);
}

static ig_status trace_compare_node(trace_job *j, const rec_node *a, const rec_node *b) {
    const fe_rec *r = &j->first.rec, *q = &j->second.rec;
    if (a->site != b->site || a->op != b->op || a->part != b->part || a->nin != b->nin ||
        a->nout != b->nout)
        return trace_differs(j, a, b,
                             "its ops are others (a branch on something the trace cannot see)");
    bool same = a->attr.i == b->attr.i;
    for (uint32_t k = 0; k < a->nout; k++)
        same = same &&
               ir_type_eq(&r->values.data[a->out + k].type, &q->values.data[b->out + k].type);
    if (!same)
        return trace_differs(
            j, a, b,
            "a shape or position depends on the example's sizes (an extent taken by ig_dim or "
            "ig_shape: use ig_extent, -1 or ..._like)");
    for (uint32_t k = 0; k < a->nin; k++)
        RT_TRY(trace_compare_operand(j, a, r->operands.data[a->in0 + k],
                                     q->operands.data[b->in0 + k]));
    return NULL;
}

static ig_status trace_compare(trace_job *j) {
    const fe_rec *r = &j->first.rec, *q = &j->second.rec;
    for (uint32_t i = 0; i < r->nodes.n || i < q->nodes.n; i++) {
        const rec_node *a = i < r->nodes.n ? &r->nodes.data[i] : NULL,
                       *b = i < q->nodes.n ? &q->nodes.data[i] : NULL;
        if (!a || !b) return trace_differs(j, a, b, "it runs more or fewer ops");
        RT_TRY(trace_compare_node(j, a, b));
    }
    if (j->first.results.n != j->second.results.n)
        return trace_differs(j, NULL, NULL, "it assigns other tensors");
    for (uint32_t i = 0; i < j->first.results.n; i++)
        RT_TRY(trace_compare_operand(j, NULL, j->first.results.data[i], j->second.results.data[i]));
    return NULL;
}

/* --- The module ---------------------------------------------------------------------------- */

/* The bytes of a capture with canonical NaNs; *copy_ is to be freed when set. */
static const void *trace_bytes(trace_job *j, const rec_capture *k, void **copy_) {
    const fe_buf *b = k->buf;
    *copy_ = NULL;
    if (b->canon || !b->bytes || !rt_is_float((ig_dtype)k->handle->dtype)) return b->data;
    if (!(*copy_ = rt_alloc(trace_alloc(j), b->bytes))) return NULL;
    memcpy(*copy_, b->data, b->bytes);
    ir_canon_nan((ig_dtype)k->handle->dtype, *copy_, fe_numel(k->handle));
    return *copy_;
}

/* A named capture becomes a weight; the same name twice must mean the same elements. */
static ir_ref trace_weight(trace_job *j, ir_builder *b, const rec_capture *k, const ir_type *type,
                           const void *bytes) {
    const ig_tensor *t = k->handle;
    const ir_weight *w = ir_find_weight(j->module, t->name);
    if (w && (!ir_type_eq(&w->type, type) || (w->bytes && memcmp(w->data, bytes, w->bytes))))
        ir_build_error(b, trace_fail(j, IG_TRACE,
                                     "two different tensors are named %s; one was made at %s:%d",
                                     t->name, trace_file(t->site), trace_line(t->site)));
    ig_status e = w ? NULL : ir_add_weight(j->module, t->name, *type, bytes, true);
    if (e) ir_build_error(b, e);
    const char *name = ir_intern_str(j->module, t->name, strlen(t->name));
    if (!name) ir_build_error(b, rt_fail_memory());
    return ir_emit0(b, OP_weight, &(ir_attr_sym){.name = name});
}

static ir_ref trace_capture(trace_job *j, ir_builder *b, const rec_capture *k,
                            const ir_type *type) {
    const ig_tensor *t = k->handle;
    void *copy;
    if (!t->name && k->buf->bytes > TRACE_CONST_BYTES) {
        ig_status e = rt_fail(
            trace_alloc(j), IG_TRACE,
            "a tensor of %zu bytes (%s) made at %s:%d is neither an argument nor named: name it by "
            "ig_name, which makes it a weight, or pass it as an argument",
            k->buf->bytes, fe_type_text(j->c, t).s, trace_file(t->site), trace_line(t->site));
        if (k->used) e = rt_status_at(e, k->used->file, k->used->line);
        ir_build_error(b, rt_status_op(e, k->used_by));
        return (ir_ref){0};
    }
    const void *bytes = trace_bytes(j, k, &copy);
    ir_ref r = {0};
    if (k->buf->bytes && !bytes)
        ir_build_error(b, rt_fail_memory());
    else
        r = t->name ? trace_weight(j, b, k, type, bytes)
                    : ir_const(b, *type, bytes ? bytes : "", k->buf->bytes);
    rt_free(trace_alloc(j), copy, copy ? k->buf->bytes : 0);
    return r;
}

/* The value in the function, made at its first use. */
static ir_ref trace_ref(trace_job *j, ir_builder *b, ir_ref *map, uint32_t val) {
    const fe_rec *r = &j->first.rec;
    const rec_value *v = &r->values.data[val];
    if (!map[val].i && v->kind == REC_CAPTURE && !b->error)
        map[val] = trace_capture(j, b, &r->captures.data[v->index], &v->type);
    return map[val];
}

/* Arguments, then state. */
static void trace_params(trace_job *j, ir_builder *b, ir_ref *map, uint32_t *nstate_) {
    const fe_rec *r = &j->first.rec;
    *nstate_ = 0;
    for (int i = 0; i < j->nin; i++) map[i] = ir_param(b, j->types.data[i], NULL);
    for (uint32_t i = 0; i < r->captures.n; i++) {
        const rec_capture *k = &r->captures.data[i];
        if (!k->state) continue;
        map[k->val] = ir_param(b, r->values.data[k->val].type, k->handle->name);
        ++*nstate_;
    }
}

static void trace_emit(trace_job *j, ir_builder *b, ir_ref *map, const rec_node *n, ir_ref *in) {
    const fe_rec *r = &j->first.rec;
    rec_place(b, n);
    for (uint32_t k = 0; k < n->nin; k++)
        in[k] = trace_ref(j, b, map, r->operands.data[n->in0 + k]);
    rec_emit(r, b, n, in, map + n->out);
}

/* What was captured is made before everything else when there are regions: it must be visible
 * wherever it is used. */
static void trace_early(trace_job *j, ir_builder *b, ir_ref *map) {
    const fe_rec *r = &j->first.rec;
    if (!r->nregion) return;
    for (uint32_t i = 0; i < r->operands.n; i++) trace_ref(j, b, map, r->operands.data[i]);
}

/* The recording as the module's function. */
static ig_status trace_build(trace_job *j, uint32_t *nstate_) {
    const fe_rec *r = &j->first.rec;
    uint32_t widest = j->first.results.n;
    for (uint32_t i = 0; i < r->nodes.n; i++)
        if (r->nodes.data[i].nin > widest) widest = r->nodes.data[i].nin;
    ir_ref *map = rt_alloc_zero(trace_alloc(j), (r->values.n + 1u) * sizeof *map);
    ir_ref *in = rt_alloc(trace_alloc(j), (widest + 1u) * sizeof *in);
    ig_status e = map && in ? NULL : fe_status(j->c, rt_fail_memory());
    if (!e) {
        ir_builder b;
        ir_build_begin(&b, j->module, j->name, IR_FN, IR_BUILD_RAW);
        trace_params(j, &b, map, nstate_);
        trace_early(j, &b, map);
        for (uint32_t i = 0; i < r->nodes.n && !b.error; i++)
            trace_emit(j, &b, map, &r->nodes.data[i], in);
        for (uint32_t i = 0; i < j->first.results.n; i++)
            in[i] = trace_ref(j, &b, map, j->first.results.data[i]);
        e = ir_build_end(&b, (int)j->first.results.n, in, NULL);
    }
    rt_free(trace_alloc(j), map, map ? (r->values.n + 1u) * sizeof *map : 0);
    rt_free(trace_alloc(j), in, in ? (widest + 1u) * sizeof *in : 0);
    return e ? fe_status(j->c, e) : NULL;
}

/* The handles of state, in order, for the module object. */
static ig_status trace_hand_over(trace_job *j, uint32_t nstate, ig_module **out_) {
    ig_tensor **state = rt_alloc(trace_alloc(j), (nstate + 1u) * sizeof *state);
    if (!state) return fe_status(j->c, rt_fail_memory());
    uint32_t n = 0;
    for (uint32_t i = 0; i < j->first.rec.captures.n; i++)
        if (j->first.rec.captures.data[i].state) state[n++] = j->first.rec.captures.data[i].handle;
    ir_module *m = j->module;
    j->module = NULL;
    ig_status e = fe_module_new(trace_alloc(j), m, nstate, state, out_);
    rt_free(trace_alloc(j), state, (nstate + 1u) * sizeof *state);
    return e;
}

/* --- The whole ----------------------------------------------------------------------------- */

static ig_status trace_check_args(trace_job *j) {
    if (j->c->s->rec)
        return trace_fail(j, IG_TRACE,
                          fe_is_traced(j->c)
                              ? "a trace is under way: call the function instead of tracing it"
                              : "a gradient scope is open: trace before it begins");
    if (!j->fn || j->nin < 0 || j->nout < 1 || j->nin > TRACE_MAX_ARGS || j->nout > TRACE_MAX_ARGS)
        return trace_fail(j, IG_INVALID,
                          "a function, its arguments and at least one result are needed");
    if (!ir_is_ident(j->name, strlen(j->name)))
        return trace_fail(j, IG_INVALID, "the name `%s` is not an identifier", j->name);
    for (int i = 0; i < j->nin; i++)
        if (!fe_is_usable(j->c, j->in[i], i)) return fe_readable(j->c, j->in[i]);
    return NULL;
}

static ig_status trace_all(trace_job *j, const ig_trace_options *opt, ig_module **out_) {
    bool once = opt && opt->flags & IG_TRACE_ONCE;
    uint32_t nstate = 0;
    RT_TRY(trace_check_args(j));
    RT_TRY(ir_module_new(trace_alloc(j), j->name, &j->module));
    j->module->class = j->c->s->session->class;
    j->module->unchecked = once;
    RT_TRY(trace_read_types(j, opt ? opt->dims : NULL));
    RT_TRY(trace_run_once(j, &j->first, false));
    if (!once) {
        if (!trace_other_sizes(j)) return fe_status(j->c, rt_fail_memory());
        ig_status e = trace_run_once(j, &j->second, true);
        if (e)
            return rt_status_note(
                e, "in the second run of the trace check, with other sizes and values");
        RT_TRY(trace_compare(j));
    }
    RT_TRY(trace_build(j, &nstate));
    j->module->nstate = nstate;
    RT_TRY(ir_verify(j->module));
    return trace_hand_over(j, nstate, out_);
}

static void trace_free_run(trace_job *j, trace_run *r) {
    if (r->rec.session) rec_free(&r->rec);
    rt_vec_free(trace_alloc(j), &r->binding);
    rt_vec_free(trace_alloc(j), &r->results);
}

ig_status ig_trace_at(const ig_site *site, ig_trace_fn fn, void *user, int nin,
                      ig_tensor *const *in, int nout, const ig_trace_options *opt,
                      ig_module **out_) {
    fe_call c;
    *out_ = NULL;
    RT_TRY(fe_enter_status(&c, site, "trace"));
    trace_job j = {.c = &c, .fn = fn, .user = user, .nin = nin, .nout = nout, .in = in};
    j.name = opt && opt->name ? opt->name : "traced";
    ig_status e = trace_all(&j, opt, out_);
    trace_free_run(&j, &j.second);
    trace_free_run(&j, &j.first);
    rt_vec_free(fe_alloc(&c), &j.types);
    ir_module_free(j.module);
    fe_exit(&c);
    return e;
}

bool ig_tracing(void) {
    ig_session *s = ig_session_current();
    return s && s->stream.rec && !s->stream.rec->tape;
}
