/* session.c - sessions, scopes, errors, and the frame around every public call.
 *
 * The one thread-local pointer of the library is here: the calling thread's stream.  A session
 * serves one thread at a time, so that nothing here takes a lock.  Every tensor is in exactly one
 * list: that of a user's scope, of a public call under way (temporaries), of the session (no scope
 * was open), or of the kept ones. */
#include "frontend/fe.h"
#include "runtime/base/log.h"
#include "runtime/fpenv.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local fe_stream *session_stream __attribute__((tls_model("initial-exec")));

/* Poison for a thread that could not get a session. */
static ig_tensor session_no_poison = {.refs = 1};

ig_tensor *fe_poison_none(void) { return &session_no_poison; }

/* --- Sessions ------------------------------------------------------------------------------ */

static ig_status session_make(const ig_session_options *opt, ig_session **out_) {
    const ig_allocator *alloc = opt && opt->alloc ? opt->alloc : ig_allocator_default();
    const char *trap = getenv("IG_NAN");
    ig_session *s = rt_alloc_zero(alloc, sizeof *s);
    *out_ = s;
    if (!s) return rt_fail_memory();
    s->alloc = alloc;
    s->class = opt && opt->nofma ? IR_CLASS_NOFMA : IR_CLASS_FMA;
    s->nan_trap = (opt && opt->nan_trap) || (trap && *trap && strcmp(trap, "0") != 0);
    fe_kernels_choose(s);
    s->stream.session = s;
    s->stream.scope = &s->stream.root;
    s->poison.session = s;
    s->poison.refs = 1;
    s->poison.scope = &s->stream.kept;
    ig_status e = ir_ref_ctx_new(alloc, &s->ref);
    if (e) {
        rt_free(alloc, s, sizeof *s);
        *out_ = NULL;
    }
    return e;
}

ig_status ig_session_new(const ig_session_options *opt, ig_session **out_) {
    return session_make(opt, out_);
}

/* The calling thread's stream, with a default session when it has none; NULL when memory is out. */
static fe_stream *session_get(void) {
    if (!session_stream) {
        ig_session *s;
        ig_status_free(session_make(NULL, &s));
        if (!s) return NULL;
        session_stream = &s->stream;
    }
    return session_stream;
}

ig_session *ig_session_current(void) {
    fe_stream *s = session_get();
    return s ? s->session : NULL;
}

ig_session *ig_session_use(ig_session *s) {
    ig_session *before = session_stream ? session_stream->session : NULL;
    session_stream = s ? &s->stream : NULL;
    return before;
}

/* Log the tensors of a list; their number. */
static size_t session_report(const fe_scope *scope, const char *how) {
    size_t n = 0;
    for (const ig_tensor *t = scope->first; t; t = t->next, n++)
        rt_log("leak", "%s:%d: a tensor of %zu bytes made here is still %s",
               t->site ? t->site->file : "(unknown)", t->site ? t->site->line : 0, ig_nbytes(t),
               how);
    return n;
}

size_t ig_session_free(ig_session *s) {
    if (!s && session_stream) s = session_stream->session;
    if (!s) return 0;
    fe_stream *stream = &s->stream;
    size_t alive = 0;
    if (s->rng) fe_release(s->rng);
    s->rng = NULL;
    fe_grad_close(stream);
    fe_grad_forget(s);
    fe_relations_forget(s);
    while (stream->scope != &stream->root) {
        alive += session_report(stream->scope, "in a scope that was never ended");
        fe_scope *top = stream->scope;
        fe_scope_pop(stream, top);
        rt_free(s->alloc, top, sizeof *top);
    }
    alive += session_report(&stream->kept, "kept");
    while (stream->kept.first) {
        stream->kept.first->refs = 1;
        fe_release(stream->kept.first);
    }
    if (rt_log_on("leak"))
        session_report(&stream->root, "held by the session (made under no scope)");
    while (stream->root.first) {
        stream->root.first->refs = 1;
        fe_release(stream->root.first);
    }
    ig_status_free(stream->error);
    ir_ref_ctx_free(s->ref);
    fe_keep_free(s);
    if (session_stream == stream) session_stream = NULL;
    rt_free(s->alloc, s, sizeof *s);
    return alive;
}

void ig_session_nan_trap(ig_session *s, bool on) {
    if (!s) s = ig_session_current();
    if (s) s->nan_trap = on;
}

ig_memory ig_memory_stats(const ig_session *s) {
    if (!s) s = ig_session_current();
    return s ? s->memory : (ig_memory){0};
}

ig_eager_count ig_eager_counts(const ig_session *s) {
    if (!s) s = ig_session_current();
    return s ? s->count : (ig_eager_count){0};
}

/* --- Scopes -------------------------------------------------------------------------------- */

void fe_scope_push(fe_stream *s, fe_scope *scope) {
    scope->parent = s->scope;
    scope->first = NULL;
    s->scope = scope;
}

void fe_scope_pop(fe_stream *s, fe_scope *scope) {
    s->scope = scope->parent;
    while (scope->first) {
        ig_tensor *t = scope->first;
        if (t->refs > 1) fe_move(t, &s->kept);
        fe_release(t);
    }
}

void ig_scope_begin(void) {
    fe_call c;
    if (!fe_enter(&c, NULL, "scope")) return;
    fe_stream *s = c.s;
    fe_scope *scope = rt_alloc_zero(s->session->alloc, sizeof *scope);
    if (!scope || s->missing) {
        rt_free(s->session->alloc, scope, scope ? sizeof *scope : 0);
        s->missing++;
        fe_error_memory(&c);
        scope = NULL;
    }
    fe_exit(&c);
    if (scope) fe_scope_push(s, scope);
}

void ig_scope_end(void) {
    fe_stream *s = session_stream;
    if (!s) return;
    if (s->missing) {
        s->missing--;
        return;
    }
    fe_scope *scope = s->scope;
    if (scope == &s->root || (s->call && scope == &s->call->scope)) {
        fe_call c;
        if (!fe_enter(&c, NULL, "scope")) return;
        fe_error(&c, IG_INVALID, "ig_scope_end without a matching ig_scope_begin");
        fe_exit(&c);
        return;
    }
    fe_scope_pop(s, scope);
    rt_free(s->session->alloc, scope, sizeof *scope);
}

ig_tensor *ig_keep(ig_tensor *t) {
    if (!t || fe_is_poison(t)) return t;
    fe_scope *kept = &t->session->stream.kept;
    if (t->scope == kept)
        t->refs++;
    else
        fe_move(t, kept);
    return t;
}

void ig_free(ig_tensor *t) {
    if (!t || fe_is_poison(t)) return;
    if (t->refs > 1) fe_move(t, &t->session->stream.kept);
    fe_release(t);
}

/* --- Errors -------------------------------------------------------------------------------- */

ig_status ig_error(void) { return session_stream ? session_stream->error : NULL; }

const char *ig_error_text(void) { return ig_status_text(ig_error()); }

ig_status ig_error_take(void) {
    ig_status e = ig_error();
    if (e) session_stream->error = NULL;
    return e;
}

void ig_error_clear(void) { ig_status_free(ig_error_take()); }

void ig_error_set_hook(ig_session *s, ig_error_hook hook, void *user) {
    if (!s) s = ig_session_current();
    if (!s) return;
    s->hook = hook;
    s->hook_user = user;
    s->stream.hook_due = false;
}

ig_status fe_status(fe_call *c, ig_status s) {
    if (c->site) s = rt_status_at(s, c->site->file, c->site->line);
    return rt_status_op(s, c->op);
}

ig_tensor *fe_error_status(fe_call *c, ig_status s) {
    ig_session *session = c->s->session;
    s = fe_status(c, s);
    if (c->s->error) {
        ig_status_free(s);
    } else {
        c->s->error = s;
        c->s->hook_due = session->hook != NULL;
    }
    return &session->poison;
}

ig_status fe_error_aside(fe_call *c) {
    ig_status before = c->s->error;
    c->s->error = NULL;
    return before;
}

ig_status fe_error_back(fe_call *c, ig_status before) {
    ig_status e = c->s->error;
    c->s->error = before;
    c->s->hook_due = c->s->hook_due && before;
    return e;
}

ig_tensor *fe_error_memory(fe_call *c) { return fe_error_status(c, rt_fail_memory()); }

ig_tensor *fe_error(fe_call *c, ig_code code, const char *fmt, ...) {
    rt_str s;
    va_list ap;
    rt_str_init(&s, fe_alloc(c));
    va_start(ap, fmt);
    rt_str_vprintf(&s, fmt, ap);
    va_end(ap);
    const ir_module *m = fe_module(c); /* a dim that memory lacked for is not the user's mistake */
    bool lacked = s.failed || (m && ir_dims_lacked_memory(m));
    ig_status e = lacked ? rt_fail_memory() : rt_fail(fe_alloc(c), code, "%s", rt_str_text(&s));
    rt_str_free(&s);
    return fe_error_status(c, e);
}

/* --- The frame of a public call ------------------------------------------------------------ */

bool fe_enter(fe_call *c, const ig_site *site, const char *op) {
    fe_stream *s = session_get();
    if (!s) return false;
    c->s = s;
    c->site = site;
    c->op = op;
    c->outer = s->call;
    s->call = c;
    fe_scope_push(s, &c->scope);
    c->fp = rt_fp_enter();
    return true;
}

ig_status fe_enter_status(fe_call *c, const ig_site *site, const char *op) {
    return fe_enter(c, site, op) ? NULL : rt_fail_memory();
}

void fe_exit(fe_call *c) {
    fe_stream *s = c->s;
    fe_scope_pop(s, &c->scope);
    s->call = c->outer;
    rt_fp_leave(c->fp);
    if (!s->call && s->hook_due) { /* last of all: the hook may longjmp */
        s->hook_due = false;
        if (s->error) s->session->hook(s->session->hook_user, s->error);
    }
}

ig_tensor *fe_hand_out(fe_call *c, ig_tensor *t) {
    if (!t || fe_is_poison(t)) return fe_poison(c);
    if (t->scope != &c->scope) t = fe_alias(c, t, t->rank, NULL);
    if (!fe_is_poison(t)) fe_move(t, c->scope.parent);
    return t;
}

ig_tensor *fe_leave(fe_call *c, ig_tensor *t) {
    t = fe_hand_out(c, t);
    fe_exit(c);
    return t;
}
