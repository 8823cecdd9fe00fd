/* plugin.c - the one exported function of libingot-llvm, and what keeps LLVM from ending the
 * process.
 *
 * LLVM reports some defects by calling a handler and then exit.  While a compile runs, the
 * handler is ours and leaves by longjmp.  What LLVM held at that moment (memory, perhaps a lock)
 * is lost, so the plug-in counts as dead from then on and refuses further work.  The handler is
 * shared by everyone in the process who uses this LLVM: it acts only on threads that are inside
 * a compile of ours, and it is removed when the last compile ends. */
#include "codegen/llvm/emit.h"
#include <llvm-c/ErrorHandling.h>
#include <llvm/Config/llvm-config.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

typedef struct plugin_call {
    struct plugin_call *next;
    pthread_t thread;
    jmp_buf out;
    bool ready;    /* `out` is set */
    char *message; /* borrowed */
    size_t size;
} plugin_call;

static pthread_mutex_t plugin_lock = PTHREAD_MUTEX_INITIALIZER;
static plugin_call *plugin_calls; /* the compiles that run; under the lock */
static bool plugin_is_ready;      /* targets are initialised; under the lock */
static atomic_bool plugin_is_dead;

/* This thread's compile, or NULL. */
static plugin_call *plugin_find_call(void) {
    pthread_mutex_lock(&plugin_lock);
    plugin_call *c = plugin_calls;
    while (c && !pthread_equal(c->thread, pthread_self())) c = c->next;
    pthread_mutex_unlock(&plugin_lock);
    return c;
}

/* LLVM is about to end the process: leave it.  Returning would end it after all, as its other users
 * expect. */
static void plugin_on_fatal(const char *why) {
    plugin_call *c = plugin_find_call();
    if (!c || !c->ready) return;
    atomic_store(&plugin_is_dead, true);
    snprintf(c->message, c->size, "LLVM gave up: %s", why ? why : "");
    longjmp(c->out, 1);
}

/* LLVM's default prints errors and ends the process; keep the first one. */
static void plugin_on_diagnostic(LLVMDiagnosticInfoRef info, void *user) {
    emit *e = user;
    if (LLVMGetDiagInfoSeverity(info) != LLVMDSError) return;
    char *text = LLVMGetDiagInfoDescription(info);
    emit_fail(e, IG_INTERNAL, "LLVM: %s", text);
    LLVMDisposeMessage(text);
}

static void plugin_enter(plugin_call *c) {
    pthread_mutex_lock(&plugin_lock);
    if (!plugin_is_ready) emit_init_targets();
    plugin_is_ready = true;
    if (!plugin_calls) LLVMInstallFatalErrorHandler(plugin_on_fatal);
    c->next = plugin_calls;
    plugin_calls = c;
    pthread_mutex_unlock(&plugin_lock);
}

static void plugin_leave(const plugin_call *c) {
    pthread_mutex_lock(&plugin_lock);
    plugin_call **at = &plugin_calls;
    while (*at != c) at = &(*at)->next;
    *at = c->next;
    if (!plugin_calls) LLVMResetFatalErrorHandler();
    pthread_mutex_unlock(&plugin_lock);
}

/* Emit, generate, copy the object out. */
static void plugin_run(emit *e, void **object_, size_t *n_) {
    LLVMMemoryBufferRef buf = NULL;
    LLVMContextSetDiagnosticHandler(e->ctx, plugin_on_diagnostic, e);
    if (!emit_module(e) || !emit_object(e, &buf)) return;
    size_t n = LLVMGetBufferSize(buf);
    void *object = e->host->alloc(n);
    if (object) {
        memcpy(object, LLVMGetBufferStart(buf), n);
        *object_ = object;
        *n_ = n;
    } else {
        emit_fail(e, IG_MEMORY, "out of memory");
    }
    LLVMDisposeMemoryBuffer(buf);
}

/* The same with a way out: false when LLVM gave up.  What must outlive that lives in the
 * caller's frame. */
static bool plugin_try(plugin_call *call, emit *e, void **object_, size_t *n_) {
    if (setjmp(call->out)) return false;
    call->ready = true;
    plugin_run(e, object_, n_);
    return true;
}

static int plugin_compile(const cg_llvm_host *host, const cg_llvm_job *job, void **object_,
                          size_t *n_, char *message, size_t message_size) {
    plugin_call call = {.thread = pthread_self(), .message = message, .size = message_size};
    emit e;
    *object_ = NULL;
    *n_ = 0;
    if (message_size) message[0] = 0;
    if (atomic_load(&plugin_is_dead)) {
        snprintf(message, message_size,
                 "LLVM failed earlier in this process and is not used again");
        return IG_INTERNAL;
    }
    plugin_enter(&call);
    emit_init(&e, host, job, message, message_size);
    bool alive = plugin_try(&call, &e, object_, n_);
    call.ready = false;
    int code = alive ? e.code : IG_INTERNAL;
    if (alive)
        emit_free(&e);
    else
        rt_arena_free(&e.arena); /* LLVM's own memory is lost */
    plugin_leave(&call);
    return code;
}

IG_API const cg_llvm_api *ig_llvm_plugin(void);
const cg_llvm_api *ig_llvm_plugin(void) {
    static const cg_llvm_api api = {CG_LLVM_ABI, LLVM_VERSION_STRING, plugin_compile};
    return &api;
}
