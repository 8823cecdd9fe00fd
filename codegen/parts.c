/* parts.c - machine code for a lowered module, in parts.
 *
 * An image is linked from several objects (link.c).  The kernels are as many as pay, cut where the
 * estimated work is even.  The host program is the last: it runs once a call, so its code is
 * generated quickly, which takes a sixth of the time.  Threads take one object after the other.
 * The cut does not depend on the number of threads, so neither do the bytes of the image.  A
 * deployment object is one part: nothing here merges relocatable files, and nobody waits for it.
 *
 * The threads live for one compile.  Those of the pool have small stacks, and a compile would keep
 * them from every launch for as long as it takes. */
#include "codegen/parts.h"
#include "ingot/threads.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Estimated work, in ops of 16 us: what a kernel costs beside its ops, and what a part must have at
 * least, as it costs 0.4 ms of its own. */
#define PARTS_KERNEL 40
#define PARTS_WORTH  300
#define PARTS_STACK  ((size_t)8 << 20) /* as the main thread of a process has it */

typedef struct parts_one {
    cg_llvm_job job;
    void *object;
    size_t n;
    int code;
    char message[512];
} parts_one;

typedef struct parts {
    const cg_llvm_api *api;
    cg_llvm_host host;
    const ig_allocator *inner; /* the module's, for one thread at a time */
    ig_allocator locked;
    pthread_mutex_t lock;
    atomic_uint next;
    uint32_t n;
    parts_one part[CG_MAX_PARTS];
} parts;

/* --- Running -------------------------------------------------------------------------------- */

static void *parts_resize(void *user, void *ptr, size_t old, size_t size, size_t align) {
    parts *p = user;
    pthread_mutex_lock(&p->lock);
    void *r = p->inner->resize(p->inner->user, ptr, old, size, align);
    pthread_mutex_unlock(&p->lock);
    return r;
}

/* Compile parts until none is left. */
static void *parts_work(void *user) {
    parts *p = user;
    for (uint32_t k; (k = atomic_fetch_add(&p->next, 1)) < p->n;) {
        parts_one *x = &p->part[k];
        x->job.alloc = &p->locked;
        x->code =
            p->api->compile(&p->host, &x->job, &x->object, &x->n, x->message, sizeof x->message);
    }
    return NULL;
}

/* The same on up to `threads` threads, the calling one included. */
static void parts_run(parts *p, uint32_t threads) {
    pthread_t other[CG_MAX_PARTS];
    pthread_attr_t attr;
    sigset_t all, old;
    uint32_t n = 0;
    if (threads > 1 && !pthread_attr_init(&attr)) {
        pthread_attr_setstacksize(&attr, PARTS_STACK);
        sigfillset(&all); /* the program's threads take its signals */
        pthread_sigmask(SIG_SETMASK, &all, &old);
        while (n + 1 < threads && !pthread_create(&other[n], &attr, parts_work, p)) n++;
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        pthread_attr_destroy(&attr);
    }
    parts_work(p);
    while (n > 0) pthread_join(other[--n], NULL);
}

/* Hand out the objects, or what went wrong in the first part that failed. */
static ig_status parts_end(const parts *p, cg_parts *parts_) {
    ig_status s = NULL;
    for (uint32_t k = 0; k < p->n; k++) {
        const parts_one *x = &p->part[k];
        parts_->object[parts_->n++] = (cg_object){x->object, x->n};
        if (x->code && !s)
            s = rt_status_op(rt_fail(p->inner, (ig_code)x->code, "%s", x->message), "llvm");
    }
    if (s) cg_parts_free(parts_);
    return s;
}

void cg_parts_free(cg_parts *parts) {
    for (uint32_t k = 0; k < parts->n; k++) free((void *)(uintptr_t)parts->object[k].data);
    parts->n = 0;
}

/* --- Cutting -------------------------------------------------------------------------------- */

/* How long a kernel takes, about; host functions are no part of this. */
static uint64_t parts_cost(const ir_func *f) {
    return f->kind == IR_KERNEL ? PARTS_KERNEL + f->ops.n : 0;
}

static void parts_add(parts *p, const cg_llvm_job *job, uint32_t first, uint32_t last) {
    parts_one *x = &p->part[p->n++];
    x->job = *job;
    x->job.export_kernels = true;
    x->job.first = first;
    x->job.last = last;
}

/* The kernels come first in a lowered module, then its host functions. */
static void parts_cut(parts *p, const cg_llvm_job *job) {
    const ir_module *m = job->module;
    uint32_t kernels = 0, first = 0;
    uint64_t all = 0, before = 0;
    while (kernels < m->funcs.n && m->funcs.data[kernels]->kind == IR_KERNEL)
        all += parts_cost(m->funcs.data[kernels++]);
    uint64_t n = all / PARTS_WORTH;
    if (n > CG_MAX_PARTS - 1) n = CG_MAX_PARTS - 1;
    for (uint32_t k = 0; k < kernels; k++) {
        before += parts_cost(m->funcs.data[k]);
        if (k + 1 < kernels && before * n < all * (p->n + 1)) continue;
        parts_add(p, job, first, k + 1);
        first = k + 1;
    }
    parts_add(p, job, kernels, m->funcs.n);
    p->part[p->n - 1].job.quick = true;
}

/* --- Interface ------------------------------------------------------------------------------ */

static ig_status parts_generate(const cg_llvm_job *job, bool split, cg_parts *parts_) {
    const ig_allocator *a = job->module->alloc;
    parts *p = rt_alloc_zero(a, sizeof *p);
    *parts_ = (cg_parts){.n = 0};
    if (!p) return rt_fail_memory();
    p->inner = a;
    p->locked = (ig_allocator){parts_resize, p};
    pthread_mutex_init(&p->lock, NULL);
    ig_status s = cg_plugin(a, &p->api, &p->host);
    if (!s) {
        if (split)
            parts_cut(p, job);
        else
            p->part[p->n++].job = *job;
        uint32_t threads = (uint32_t)ig_threads_count();
        bool dumps = p->host.dump_llvm || p->host.dump_asm;
        parts_run(p, dumps ? 1 : threads < p->n ? threads : p->n);
        s = parts_end(p, parts_);
    }
    pthread_mutex_destroy(&p->lock);
    rt_free(a, p, sizeof *p);
    return s;
}

ig_status cg_parts_whole(const cg_llvm_job *job, cg_parts *parts_) {
    return parts_generate(job, false, parts_);
}

ig_status cg_parts_split(const cg_llvm_job *job, cg_parts *parts_) {
    return parts_generate(job, true, parts_);
}
