/* module.c - module objects: run by the reference or by compiled code, save, load, share.
 *
 * The code (IR, weights, native image) is immutable once it is shared and counted by an atomic;
 * everything a run writes - workspace, tables of pointers, state handles - belongs to the module
 * object, so that objects on one code may run in different threads at once.  A run allocates its
 * results and, when it grows, the workspace. */
#include "codegen/header.h"
#include "codegen/target.h"
#include "frontend/excess.h"
#include "frontend/fe.h"
#include "ir/file.h"
#include "passes/derive.h"
#include "passes/pass.h"
#include "runtime/base/budget.h"
#include "runtime/base/container.h"
#include "runtime/custom.h"
#include "runtime/fpenv.h"
#include <stdatomic.h>
#include <string.h>

#define MODULE_IMAGE_TAG "IMAG"

/* What objects of one module share. */
typedef struct module_code {
    const ig_allocator *alloc; /* borrowed */
    atomic_uint refs;
    atomic_uint lent;         /* how many of them are of code that uses our weights */
    struct module_code *base; /* one share: whose weights we use; or NULL */
    ir_module *ir;            /* owned */
    const ir_func *entry;     /* in ir */
    cg_bytes bytes;           /* owned: the native image, empty when not compiled */
    char level[16];           /* of the image */
    rt_image *image;          /* owned: mapped, or NULL when it is for another machine */
    rt_host_fn run;
    rt_workspace_fn workspace;
    uint32_t room;
    const void **table;   /* owned: `room` pointers, imports and weights; NULL without an image */
    const void **weights; /* in the table: by number in ir */
} module_code;

struct ig_module {
    const ig_allocator *alloc; /* borrowed */
    module_code *code;         /* one share */
    const ig_exec *exec;       /* borrowed; NULL: serial */
    uint32_t nin, nout, nstate;
    ig_tensor **state; /* owned, handles retained; NULL: not bound */
    int64_t *symbols;  /* owned scratch: values of the dim symbols */
    ir_tensor *args;   /* owned scratch: arguments, then results */
    const void **in;   /* owned scratch: their elements */
    void **out;
    bool *in_place;      /* owned: by number of state; NULL: not known yet */
    ig_tensor **given;   /* owned scratch: arguments, then state */
    ig_tensor **results; /* owned scratch */
    void *workspace;     /* owned */
    size_t workspace_bytes;
    size_t limit; /* of a run's memory; 0: none */
};

/* --- Code ---------------------------------------------------------------------------------- */

static void module_code_drop_image(module_code *k) {
    rt_free(k->alloc, k->table, k->room * sizeof *k->table);
    k->table = k->weights = NULL;
    k->room = 0;
    rt_image_free(k->image);
    cg_bytes_free(&k->bytes);
    k->bytes = (cg_bytes){0};
    k->image = NULL;
    k->run = NULL;
    k->workspace = NULL;
    k->level[0] = 0;
}

static void module_code_release(module_code *k) {
    if (!k || atomic_fetch_sub(&k->refs, 1) != 1) return;
    module_code *base = k->base;
    module_code_drop_image(k);
    ir_module_free(k->ir);
    rt_free(k->alloc, k, sizeof *k);
    if (!base) return;
    atomic_fetch_sub(&base->lent, 1);
    module_code_release(base);
}

/* State keeps its type: a result takes the place of the argument. */
static ig_status module_check_state(const ir_module *ir, const ir_func *f) {
    uint32_t nin = ir_nparam(f), nout = f->results.n;
    if (ir->nstate > nin || ir->nstate > nout)
        return rt_fail(ir->alloc, IG_FORMAT,
                       "the module %s has fewer arguments or results than state", ir->name);
    for (uint32_t k = 0; k < ir->nstate; k++)
        if (!ir_type_eq(ir_val_type(f, ir_param_ref(f, nin - ir->nstate + k)),
                        ir_result_type(f, nout - ir->nstate + k)))
            return rt_fail(ir->alloc, IG_FORMAT,
                           "state %u of the module %s comes out with another type", k, ir->name);
    return NULL;
}

/* Code over an IR module, which it owns from now on, also after an error. */
static ig_status module_code_new(const ig_allocator *alloc, ir_module *ir, module_code **out_) {
    const ir_func *entry = ir_entry(ir);
    module_code *k = NULL;
    *out_ = NULL;
    ig_status e = entry ? module_check_state(ir, entry)
                        : rt_fail(alloc, IG_FORMAT, "the module %s has no function", ir->name);
    if (!e && !(k = rt_alloc_zero(alloc, sizeof *k))) e = rt_fail_memory();
    if (e) {
        ir_module_free(ir);
        return e;
    }
    k->alloc = alloc;
    atomic_init(&k->refs, 1);
    atomic_init(&k->lent, 0);
    k->ir = ir;
    k->entry = entry;
    *out_ = k;
    return NULL;
}

/* Take over an image; map it when it is for this machine. */
static ig_status module_code_set_image(module_code *k, cg_bytes *bytes, bool map) {
    rt_image *image = NULL;
    rt_image_entry code = {NULL, NULL};
    uint32_t room = 0;
    const void **table = NULL, **weights = NULL;
    ig_status e = map ? rt_image_load(k->alloc, bytes->data, bytes->n, &image) : NULL;
    if (!e && map) {
        code = rt_image_find_entry(image, k->entry->name);
        if (!code.run)
            e = rt_fail(k->alloc, IG_FORMAT, "the image has no function %s", k->entry->name);
    }
    if (!e && map) e = rt_custom_table(k->alloc, image, k->ir->weights.n, &table, &room, &weights);
    if (e) {
        rt_free(k->alloc, table, room * sizeof *table);
        rt_image_free(image);
        return e;
    }
    for (uint32_t i = 0; map && i < k->ir->weights.n; i++) weights[i] = k->ir->weights.data[i].data;
    module_code_drop_image(k);
    k->room = room;
    k->table = table;
    k->weights = weights;
    k->bytes = *bytes;
    *bytes = (cg_bytes){0};
    k->image = image;
    k->run = code.run;
    k->workspace = code.workspace;
    memcpy(k->level, ((const rt_image_header *)k->bytes.data)->level, sizeof k->level);
    k->level[sizeof k->level - 1] = 0;
    return NULL;
}

/* --- Objects ------------------------------------------------------------------------------- */

static void module_free_state(ig_module *m) {
    if (!m->state) return;
    for (uint32_t i = 0; i < m->nstate; i++) fe_release(m->state[i]);
    rt_free(m->alloc, m->state, (m->nstate + 1u) * sizeof *m->state);
    m->state = NULL;
}

void ig_module_free(ig_module *m) {
    if (!m) return;
    const ig_allocator *a = m->alloc;
    uint32_t nsym = m->code ? m->code->ir->symbols.n : 0;
    module_free_state(m);
    rt_free(a, m->symbols, m->symbols ? (nsym + 1u) * sizeof *m->symbols : 0);
    rt_free(a, m->args, m->args ? (m->nin + m->nout + 1u) * sizeof *m->args : 0);
    rt_free(a, m->in, m->in ? (m->nin + 1u) * sizeof *m->in : 0);
    rt_free(a, m->out, m->out ? (m->nout + 1u) * sizeof *m->out : 0);
    rt_free(a, m->in_place, m->nstate + 1u);
    rt_free(a, m->given, (m->nin + 1u) * sizeof *m->given);
    rt_free(a, m->results, m->results ? (m->nout + 1u) * sizeof *m->results : 0);
    rt_free_buffer(a, m->workspace, m->workspace_bytes);
    module_code_release(m->code);
    rt_free(a, m, sizeof *m);
}

/* An object on code, of which it takes one share over, also after an error. */
static ig_status module_object(const ig_allocator *a, module_code *k, ig_module **out_) {
    ig_module *m = rt_alloc_zero(a, sizeof *m);
    *out_ = NULL;
    if (!m) {
        module_code_release(k);
        return rt_fail_memory();
    }
    m->alloc = a;
    m->code = k;
    m->exec = ig_pool_exec();
    m->nin = ir_nparam(k->entry);
    m->nout = k->entry->results.n;
    m->nstate = k->ir->nstate;
    m->symbols = rt_alloc_zero(a, (k->ir->symbols.n + 1u) * sizeof *m->symbols);
    m->args = rt_alloc_zero(a, (m->nin + m->nout + 1u) * sizeof *m->args);
    m->in = rt_alloc_zero(a, (m->nin + 1u) * sizeof *m->in);
    m->out = rt_alloc_zero(a, (m->nout + 1u) * sizeof *m->out);
    m->given = rt_alloc_zero(a, (m->nin + 1u) * sizeof *m->given);
    m->results = rt_alloc_zero(a, (m->nout + 1u) * sizeof *m->results);
    if (!m->symbols || !m->args || !m->in || !m->out || !m->given || !m->results) {
        ig_module_free(m);
        return rt_fail_memory();
    }
    *out_ = m;
    return NULL;
}

static ig_status module_bind(ig_module *m, uint32_t n, ig_tensor *const *state) {
    if (n != m->nstate)
        return rt_fail(m->alloc, IG_INVALID, "the module has %u state tensors, %u are given",
                       m->nstate, n);
    for (uint32_t i = 0; i < n; i++)
        if (!state[i] || fe_is_poison(state[i]))
            return rt_fail(m->alloc, IG_INVALID, "state tensor %u is NULL or poison", i);
    ig_tensor **copy = rt_alloc(m->alloc, (n + 1u) * sizeof *copy);
    if (!copy) return rt_fail_memory();
    for (uint32_t i = 0; i < n; i++) fe_retain(copy[i] = state[i]);
    module_free_state(m);
    m->state = copy;
    return NULL;
}

ig_status ig_module_bind_state(ig_module *m, int nstate, ig_tensor *const *state) {
    return module_bind(m, (uint32_t)nstate, state);
}

ig_status fe_module_new(const ig_allocator *alloc, ir_module *ir, uint32_t nstate,
                        ig_tensor *const *state, ig_module **out_) {
    module_code *k;
    *out_ = NULL;
    RT_TRY(module_code_new(alloc, ir, &k));
    RT_TRY(module_object(alloc, k, out_));
    ig_status e = nstate ? module_bind(*out_, nstate, state) : NULL;
    if (e) {
        ig_module_free(*out_);
        *out_ = NULL;
    }
    return e;
}

const ir_module *fe_module_ir(const ig_module *m) { return m->code->ir; }

/* Weights are those of the code that has them itself: no chain of borrowers grows. */
ig_status fe_module_derived(const ig_module *m, ir_module *ir, ig_module **out_) {
    module_code *base = m->code->base ? m->code->base : m->code;
    RT_TRY(fe_module_new(m->alloc, ir, 0, NULL, out_));
    atomic_fetch_add(&base->refs, 1);
    atomic_fetch_add(&base->lent, 1);
    (*out_)->code->base = base;
    (*out_)->exec = m->exec;
    (*out_)->limit = m->limit;
    ig_status e = m->state ? module_bind(*out_, m->nstate, m->state) : NULL;
    if (!e) return NULL;
    ig_module_free(*out_);
    *out_ = NULL;
    return e;
}

ig_status ig_module_share(ig_module *m, ig_module **out_) {
    atomic_fetch_add(&m->code->refs, 1);
    RT_TRY(module_object(m->alloc, m->code, out_));
    (*out_)->exec = m->exec;
    (*out_)->limit = m->limit;
    return NULL;
}

ig_module_info ig_module_get_info(const ig_module *m) {
    return (ig_module_info){
        .name = m->code->ir->name,
        .entry = m->code->entry->name,
        .nin = (int)(m->nin - m->nstate),
        .nout = (int)(m->nout - m->nstate),
        .nstate = (int)m->nstate,
        .unchecked = m->code->ir->unchecked,
        .level = m->code->level[0] ? m->code->level : NULL,
    };
}

ig_tensor *ig_module_state(const ig_module *m, int k) {
    return m->state && k >= 0 && (uint32_t)k < m->nstate ? m->state[k] : NULL;
}

const char *ig_module_state_name(const ig_module *m, int k) {
    bool exists = k >= 0 && (uint32_t)k < m->nstate;
    return exists ? m->code->entry->param_names.data[m->nin - m->nstate + (uint32_t)k] : NULL;
}

int ig_module_weights(const ig_module *m) { return (int)m->code->ir->weights.n; }

ig_tensor *ig_module_weight_at(const ig_site *site, const ig_module *m, int k) {
    FE_ENTER(site, "module_weight");
    if (k < 0 || k >= ig_module_weights(m))
        return fe_leave(c, fe_error(c, IG_RANGE, "there is no weight %d: the module has %d", k,
                                    ig_module_weights(m)));
    const ir_weight *w = &m->code->ir->weights.data[k];
    ig_tensor *t = fe_leaf(c, (ig_dtype)w->type.dtype, w->type.rank, w->type.dim, w->data);
    return fe_leave(c, fe_is_poison(t) ? t : ig_name(t, w->name));
}

void ig_module_set_exec(ig_module *m, const ig_exec *exec) { m->exec = exec; }
void ig_module_set_limit(ig_module *m, size_t bytes) { m->limit = bytes; }

/* --- Running ------------------------------------------------------------------------------- */

/* Run the native code on prepared pointers. */
static ig_status module_run_native(ig_module *m) {
    const module_code *k = m->code;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < m->nin; i++) m->in[i] = m->args[i].data;
    for (uint32_t i = 0; i < m->nout; i++) m->out[i] = m->args[m->nin + i].data;
    int32_t code = k->workspace(m->symbols, &bytes);
    if (!code && m->limit && bytes > m->limit)
        return fe_excess_memory(k->entry, m->symbols, bytes, m->limit);
    if (!code && bytes > m->workspace_bytes) {
        void *more = bytes > PTRDIFF_MAX ? NULL : rt_alloc_buffer(m->alloc, (size_t)bytes);
        if (!more) return fe_excess_memory(k->entry, m->symbols, bytes, 0);
        rt_free_buffer(m->alloc, m->workspace, m->workspace_bytes);
        m->workspace = more;
        m->workspace_bytes = (size_t)bytes;
    }
    if (!code) code = k->run(m->in, m->out, m->symbols, m->workspace, m->exec, k->weights);
    if (code == RT_HOST_CAP) return fe_excess_trips(k->entry);
    return code ? fe_custom_failed(m->alloc, k->ir, code) : NULL;
}

/* Run by the reference, which takes memory as it goes. */
static ig_status module_run_reference(ig_module *m) {
    const ir_func *f = m->code->entry;
    rt_budget budget;
    rt_budget_init(&budget, m->alloc, m->limit ? m->limit : SIZE_MAX);
    ig_status e = ir_ref_run(f, &budget.alloc, m->symbols, (int)m->nin, m->args, (int)m->nout,
                             m->args + m->nin);
    if (!budget.wanted) return rt_status_use_alloc(e, m->alloc);
    ig_status_free(e);
    return fe_excess_memory(f, m->symbols, budget.wanted, m->limit);
}

/* --- Running inside a recording: the ops themselves are recorded ---------------------------- */

/* What a dim of parameter k is in the recording: a symbol that stands alone is given the argument's
 * dim. */
static ig_status module_bind_symbol(const ig_module *m, fe_call *c, ir_dim d, ir_dim have,
                                    ir_dim *dims) {
    const ir_module *ir = m->code->ir;
    const ir_dim_term *term;
    int64_t lo, hi;
    if (ir_dim_is_const(d) || ir_dim_terms(ir, d, &term) != 1 || term->coef != 1 ||
        term->natom != 1 || term->atom[0]->kind != DIM_SYM)
        return NULL;
    const ir_symbol *s = &ir->symbols.data[term->atom[0]->sym];
    dims[term->atom[0]->sym] = have;
    ir_dim_range(fe_module(c), have, &lo, &hi);
    if (lo >= s->lo && hi <= s->hi) return NULL;
    return rt_fail(m->alloc, IG_RANGE, "%s is %s, which may be outside %lld..%lld", s->name,
                   FE_DIM(have), (long long)s->lo, (long long)s->hi);
}

/* The dims of the recording that the module's symbols stand for, and whether all arguments fit. */
static ig_status module_bind_dims(const ig_module *m, fe_call *c, ig_tensor *const *in,
                                  ir_dim *dims) {
    const ir_func *f = m->code->entry;
    for (uint32_t i = 0; i < f->module->symbols.n; i++) dims[i] = m->symbols[i];
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t k = 0; k < m->nin; k++) {
            const ir_type *t = ir_val_type(f, ir_param_ref(f, k));
            ir_dims have = fe_dims(c, in[k]);
            for (int i = 0; i < have.n; i++) {
                if (!pass) RT_TRY(module_bind_symbol(m, c, t->dim[i], have.d[i], dims));
                if (!pass ||
                    ir_dim_import_by(fe_module(c), f->module, t->dim[i], dims) == have.d[i])
                    continue;
                return rt_fail(m->alloc, IG_SHAPE,
                               "dim %d of argument %u is %s, which the module does not take for "
                               "every size",
                               i, k, FE_DIM(have.d[i]));
            }
        }
    return NULL;
}

/* Play the entry function, its calls inlined. */
static ig_status module_play_ops(ig_module *m, fe_call *c, ig_tensor *const *in,
                                 const ir_dim *dims) {
    ir_module *flat;
    RT_TRY(pass_flatten(m->code->ir, &flat));
    ig_status before = fe_error_aside(c);
    fe_play(c, ir_entry(flat), m->symbols, dims, in, m->results);
    ir_module_free(flat);
    return fe_error_back(c, before);
}

static ig_status module_play(ig_module *m, fe_call *c, ig_tensor *const *in) {
    size_t bytes = (m->code->ir->symbols.n + 1u) * sizeof(ir_dim);
    if (m->code->ir->class != c->s->session->class)
        return rt_fail(m->alloc, IG_INVALID,
                       "the module and the session are of different classes (fma and nofma)");
    ir_dim *dims = rt_alloc(m->alloc, bytes);
    if (!dims) return rt_fail_memory();
    ig_status s = module_bind_dims(m, c, in, dims);
    if (!s) s = module_play_ops(m, c, in, dims);
    rt_free(m->alloc, dims, bytes);
    return s;
}

/* --- Running ------------------------------------------------------------------------------- */

/* Ask once which state may stay in its buffer. */
static ig_status module_fill_in_place(ig_module *m) {
    bool *in_place = rt_alloc_zero(m->alloc, m->nstate + 1u);
    ig_status s = in_place ? pass_in_place(m->code->ir, in_place) : rt_fail_memory();
    if (!s)
        m->in_place = in_place;
    else
        rt_free(m->alloc, in_place, m->nstate + 1u);
    return s;
}

/* Whether result i may be written over its state: native code, a value that no other handle has and
 * that is ours, and is no other argument of this run. */
static bool module_stays(const ig_module *m, uint32_t i) {
    uint32_t plain = m->nout - m->nstate, k = i - plain;
    if (i < plain || !m->in_place || !m->in_place[k]) return false;
    const fe_buf *b = m->state[k]->buf;
    return b->given == 1 && b->refs == 1 && b->owned;
}

/* Make the handle of result i, a new tensor or the state itself, and tell where its elements go. */
static ig_status module_result(ig_module *m, fe_call *c, uint32_t i, bool handles) {
    ir_tensor *r = &m->args[m->nin + i];
    if (handles && module_stays(m, i)) {
        m->results[i] = m->state[i - (m->nout - m->nstate)];
        m->results[i]->buf->canon = false;
    } else {
        RT_TRY(ir_result_shape(m->code->entry, m->symbols, i, r));
        m->results[i] = fe_new(c, (ig_dtype)r->dtype, r->rank, r->dim);
        if (fe_is_poison(m->results[i])) return rt_fail_memory();
    }
    r->data = m->results[i]->buf->data;
    return NULL;
}

/* Fill in the arguments. */
static ig_status module_fill_args(ig_module *m, fe_call *c, int nin, ig_tensor *const *in) {
    for (uint32_t i = 0; i < m->nin; i++) {
        ig_tensor *t = i < (uint32_t)nin ? in[i] : m->state[i - (uint32_t)nin];
        if (!fe_is_usable(c, t, (int)i)) return fe_readable(c, t);
        m->given[i] = t;
        t->buf->given = 0;
        fe_fill_ir_tensor(t, &m->args[i]);
    }
    for (uint32_t i = 0; i < m->nin; i++)
        if (m->given[i]->buf->given < 2) m->given[i]->buf->given++;
    return NULL;
}

/* Fill in the arguments, bind the dims, make the results, run. */
static ig_status module_run(ig_module *m, fe_call *c, int nin, ig_tensor *const *in) {
    RT_TRY(module_fill_args(m, c, nin, in));
    RT_TRY(ir_bind_dims(m->code->entry, (int)m->nin, m->args, m->symbols));
    if (c->s->rec) return module_play(m, c, m->given);
    bool handles = nin < (int)m->nin && m->code->run;
    if (handles && !m->in_place) RT_TRY(module_fill_in_place(m));
    for (uint32_t i = 0; i < m->nout; i++) RT_TRY(module_result(m, c, i, handles));
    return m->code->run ? module_run_native(m) : module_run_reference(m);
}

ig_status fe_module_run(fe_call *c, ig_module *m, ig_tensor *const *in, ig_tensor **out_) {
    RT_TRY(module_run(m, c, (int)m->nin, in));
    memcpy(out_, m->results, m->nout * sizeof *out_);
    return NULL;
}

static ig_status module_check_counts(const ig_module *m, int nin, int nout) {
    uint32_t plain_in = m->nin - m->nstate, plain_out = m->nout - m->nstate;
    if (nin == (int)m->nin && nout == (int)m->nout) return NULL;
    if (nin != (int)plain_in || nout != (int)plain_out)
        return rt_fail(m->alloc, IG_INVALID,
                       "%d arguments and %d results are given; the module has %u and %u%s", nin,
                       nout, plain_in, plain_out, m->nstate ? " and its state" : "");
    return m->state ? NULL
                    : rt_fail(m->alloc, IG_INVALID,
                              "the module has %u state tensors: give them as the last arguments "
                              "and results, or bind handles by ig_module_bind_state",
                              m->nstate);
}

ig_status ig_module_run_at(const ig_site *site, ig_module *m, int nin, ig_tensor *const *in,
                           int nout, ig_tensor **out_) {
    fe_call c;
    for (int i = 0; i < nout; i++) out_[i] = fe_poison_none();
    RT_TRY(fe_enter_status(&c, site, "module_run"));
    ig_status e = module_check_counts(m, nin, nout);
    if (!e) e = module_run(m, &c, nin, in);
    for (int i = 0; i < nout; i++) out_[i] = fe_hand_out(&c, e ? NULL : m->results[i]);
    for (uint32_t i = (uint32_t)nout; !e && i < m->nout; i++) {
        ig_tensor *t = m->state[i - (uint32_t)nout];
        if (t != m->results[i]) fe_rebind(&c, t, m->results[i]);
    }
    e = e ? fe_status(&c, e) : NULL;
    fe_exit(&c);
    return e;
}

/* --- Compiling, files ---------------------------------------------------------------------- */

/* A level by name, NULL: the best of this machine. */
static ig_status module_level(const ig_module *m, const char *level, const cg_cpu **out_) {
    *out_ = level ? cg_cpu_find(level) : cg_cpu_host(m->code->ir->class);
    if (!*out_)
        return rt_fail(m->alloc, IG_UNSUPPORTED,
                       level ? "there is no CPU level %s" : "no CPU level fits this machine",
                       level);
    if (cg_cpu_serves(*out_, m->code->ir->class)) return NULL;
    return rt_fail(m->alloc, IG_UNSUPPORTED,
                   "the level %s has no fused multiply-add: it needs a module of class nofma "
                   "(ig_session_options.nofma)",
                   (*out_)->name);
}

static ig_status module_compile(ig_module *m, const char *level) {
    const cg_cpu *cpu;
    cg_bytes bytes = {0};
    if (atomic_load(&m->code->refs) - atomic_load(&m->code->lent) != 1)
        return rt_fail(m->alloc, IG_INVALID,
                       "the module is shared: compile it before ig_module_share");
    RT_TRY(module_level(m, level, &cpu));
    RT_TRY(cg_compile(m->code->ir, m->code->entry->name, cpu, &bytes));
    ig_status e = module_code_set_image(m->code, &bytes, cg_cpu_runs_here(cpu));
    cg_bytes_free(&bytes);
    return e;
}

static ig_status module_build(const ig_module *m, const char *prefix, const char *level,
                              const char *path) {
    const cg_cpu *cpu;
    cg_bytes object = {0};
    if (!prefix || !cg_is_identifier(prefix))
        return rt_fail(m->alloc, IG_INVALID, "the prefix `%s` is not a C identifier",
                       prefix ? prefix : "");
    RT_TRY(module_level(m, level, &cpu));
    RT_TRY(cg_build(m->code->ir, m->code->entry->name, prefix, cpu, &object));
    ig_status e = rt_file_write(m->alloc, path, object.data, object.n);
    cg_bytes_free(&object);
    return e;
}

static ig_status module_save(const ig_module *m, const char *path) {
    const module_code *k = m->code;
    rt_section image = {.tag = MODULE_IMAGE_TAG, .size = k->bytes.n, .data = k->bytes.data};
    rt_str s;
    rt_str_init(&s, m->alloc);
    ig_status e = ir_save(k->ir, &image, k->bytes.n ? 1 : 0, &s);
    if (!e) e = rt_file_write(m->alloc, path, s.data, s.n);
    rt_str_free(&s);
    return e;
}

/* Map the first image in the file that this machine can run. */
static ig_status module_load_image(module_code *k, const void *bytes, size_t n) {
    rt_container *file = rt_alloc(k->alloc, sizeof *file); /* too large for the stack */
    const rt_section *s;
    if (!file) return rt_fail_memory();
    ig_status e = rt_container_read(k->alloc, bytes, n, file);
    for (uint32_t i = 0; !e && !k->image && (s = rt_container_find(file, MODULE_IMAGE_TAG, i));
         i++) {
        cg_bytes copy = {
            .data = rt_alloc(k->alloc, (size_t)s->size), .n = (size_t)s->size, .alloc = k->alloc};
        if (!copy.data) {
            e = s->size ? rt_fail_memory()
                        : rt_fail(k->alloc, IG_FORMAT, "an empty image in the file");
            break;
        }
        memcpy(copy.data, s->data, copy.n);
        e = module_code_set_image(k, &copy, true);
        cg_bytes_free(&copy);
        if (ig_status_code(e) == IG_UNSUPPORTED) { /* for another machine */
            ig_status_free(e);
            e = NULL;
        }
    }
    rt_free(k->alloc, file, sizeof *file);
    return e;
}

static ig_status module_load(const ig_allocator *a, const void *bytes, size_t n, ig_module **out_) {
    ir_module *ir;
    module_code *k;
    RT_TRY(ir_load(a, bytes, n, &ir));
    ig_status missing = fe_custom_check(ir);
    if (missing) {
        ir_module_free(ir);
        return missing;
    }
    RT_TRY(module_code_new(a, ir, &k));
    ig_status e = module_load_image(k, bytes, n);
    if (!e) return module_object(a, k, out_);
    module_code_release(k);
    return e;
}

static ig_status module_load_file(const char *path, ig_module **out_) {
    ig_session *s = ig_session_current();
    void *bytes;
    size_t n;
    *out_ = NULL;
    if (!s) return rt_fail_memory();
    RT_TRY(rt_file_read(s->alloc, path, PTRDIFF_MAX, &bytes, &n));
    ig_status e = module_load(s->alloc, bytes, n, out_);
    rt_free(s->alloc, bytes, n);
    return e ? rt_status_note(e, "in %s", path) : NULL;
}

static ig_status module_text(const ig_module *m, char **text_) {
    rt_str s;
    rt_str_init(&s, m->alloc);
    ir_print(m->code->ir, &s, IR_PRINT_LOCS);
    *text_ = s.failed ? NULL : fe_text_new(m->alloc, s.data, s.n);
    rt_str_free(&s);
    return *text_ ? NULL : rt_fail_memory();
}

/* Constants are folded and numbers printed here: the caller's rounding mode must not show. */
#define MODULE_GUARDED(call)     \
    uint32_t fp = rt_fp_enter(); \
    ig_status e = (call);        \
    rt_fp_leave(fp);             \
    return e

ig_status ig_module_compile(ig_module *m, const char *level) {
    MODULE_GUARDED(module_compile(m, level));
}

ig_status ig_module_build(const ig_module *m, const char *prefix, const char *level,
                          const char *path) {
    MODULE_GUARDED(module_build(m, prefix, level, path));
}

ig_status ig_module_save(const ig_module *m, const char *path) {
    MODULE_GUARDED(module_save(m, path));
}

ig_status ig_module_load(const char *path, ig_module **out_) {
    MODULE_GUARDED(module_load_file(path, out_));
}

ig_status ig_module_text(const ig_module *m, char **text_) {
    MODULE_GUARDED(module_text(m, text_));
}
