/* data.c - batches in an order that a seed decides, and checkpoints: what a training run needs to
 * go on with the same bits where it was stopped. */
#include "frontend/fe.h"
#include "ingot/nn.h"
#include "ir/file.h"
#include "runtime/base/container.h"
#include "runtime/fpenv.h"
#include <string.h>

/* --- Batches --------------------------------------------------------------------------------- */

struct ig_batches {
    ig_session *session; /* borrowed */
    ig_batches_options opt;
    ig_tensor *state; /* kept: seed, epoch, rows given */
    int64_t *order;   /* owned: of the epoch that it was made for */
    int64_t seed, epoch;
    bool ordered;
};

void ig_batches_free(ig_batches *b) {
    if (!b) return;
    const ig_allocator *a = b->session->alloc;
    ig_free(b->state);
    rt_free(a, b->order, ((size_t)b->opt.rows + 1) * sizeof *b->order);
    rt_free(a, b, sizeof *b);
}

static ig_tensor *batches_leaf(fe_call *c, int64_t seed, int64_t epoch, int64_t at) {
    int64_t v[3] = {seed, epoch, at}, three = 3;
    return fe_leaf(c, IG_i64, 1, &three, v);
}

static ig_status batches_new(fe_call *c, const ig_batches_options *opt, ig_batches **out_) {
    const ig_allocator *a = fe_alloc(c);
    if (opt->rows < 1 || opt->batch < 1 || opt->rows > (int64_t)1 << 31)
        return fe_status(c, rt_fail(a, IG_RANGE, "%lld rows in batches of %lld",
                                    (long long)opt->rows, (long long)opt->batch));
    ig_batches *b = rt_alloc_zero(a, sizeof *b);
    if (!b) return fe_status(c, rt_fail_memory());
    b->session = c->s->session;
    b->opt = *opt;
    b->order = rt_alloc(a, ((size_t)opt->rows + 1) * sizeof *b->order);
    ig_status before = fe_error_aside(c);
    ig_tensor *state = batches_leaf(c, (int64_t)opt->seed, 0, 0);
    if (!fe_is_poison(state)) b->state = ig_keep(ig_name(state, "batches"));
    ig_status s = fe_error_back(c, before);
    if (!s && !b->order) s = fe_status(c, rt_fail_memory());
    if (s)
        ig_batches_free(b);
    else
        *out_ = b;
    return s;
}

ig_status ig_batches_new(const ig_batches_options *opt, ig_batches **out_) {
    fe_call c;
    *out_ = NULL;
    RT_TRY(fe_enter_status(&c, NULL, "batches_new"));
    ig_status s = batches_new(&c, opt, out_);
    fe_exit(&c);
    return s;
}

/* The order of an epoch. */
static bool batches_fill(fe_call *c, ig_batches *b, int64_t seed, int64_t epoch) {
    if (b->ordered && b->seed == seed && b->epoch == epoch) return true;
    if (b->opt.in_order) {
        for (int64_t i = 0; i < b->opt.rows; i++) b->order[i] = i;
    } else {
        ig_tensor *rng = ig_rng_at(NULL, (uint64_t)seed + ((uint64_t)epoch << 32));
        ig_tensor *order = ig_permutation_at(NULL, rng, b->opt.rows);
        if (!fe_observe(c, order)) return false;
        memcpy(b->order, order->buf->data, (size_t)b->opt.rows * sizeof *b->order);
    }
    b->seed = seed;
    b->epoch = epoch;
    b->ordered = true;
    return true;
}

static int64_t batches_next(fe_call *c, ig_batches *b, const int64_t **rows_) {
    int64_t v[3];
    if (!fe_observe(c, b->state)) return 0;
    memcpy(v, b->state->buf->data, sizeof v);
    if (v[1] < 0 || v[2] < 0 || v[2] > b->opt.rows) {
        fe_error(c, IG_RANGE, "the state of the batches is not one of these %lld rows",
                 (long long)b->opt.rows);
        return 0;
    }
    int64_t n = b->opt.rows - v[2];
    if (n > b->opt.batch) n = b->opt.batch;
    if (n < b->opt.batch && b->opt.drop_last) n = 0;
    if (n && !batches_fill(c, b, v[0], v[1])) return 0;
    *rows_ = b->order + v[2];
    ig_tensor *next = n ? batches_leaf(c, v[0], v[1], v[2] + n)
                        : batches_leaf(c, v[0], v[1] + 1, 0);
    fe_rebind(c, b->state, next);
    return fe_is_poison(next) ? 0 : n;
}

int64_t ig_batches_next(ig_batches *b, const int64_t **rows_) {
    *rows_ = NULL;
    FE_ENTER_OR(NULL, "batches_next", 0);
    int64_t n = 0;
    if (fe_is_traced(c))
        fe_error(c, IG_TRACE, "batches are taken outside of a trace: pass them as arguments");
    else
        n = batches_next(c, b, rows_);
    fe_exit(c);
    return n;
}

ig_tensor *ig_batches_state(const ig_batches *b) { return b->state; }

/* --- Checkpoints ----------------------------------------------------------------------------- */

/* Call for every tensor of the lists; the first error. */
typedef ig_status (*checkpoint_each)(fe_call *c, ir_module *m, ig_tensor *t);

static ig_status checkpoint_walk(fe_call *c, ir_module *m, int nlist, const ig_list *lists,
                                 checkpoint_each each) {
    for (int i = 0; i < nlist; i++)
        for (int k = 0; k < lists[i].n; k++) {
            ig_tensor *t = lists[i].t[k];
            ig_status s = fe_readable(c, t);
            if (!s && !t->name)
                s = fe_status(c, rt_fail(fe_alloc(c), IG_INVALID,
                                         "tensor %d of list %d has no name (ig_name)", k, i));
            if (!s) s = each(c, m, t);
            if (s) return s;
        }
    return NULL;
}

static ig_status checkpoint_put(fe_call *c, ir_module *m, ig_tensor *t) {
    if (ir_find_weight(m, t->name))
        return fe_status(c,
                         rt_fail(fe_alloc(c), IG_INVALID, "two tensors have the name %s", t->name));
    return ir_add_weight(m, t->name, ir_tensor_type((ig_dtype)t->dtype, t->rank, t->dim),
                         t->buf->data, false);
}

static ig_status checkpoint_check(fe_call *c, ir_module *m, ig_tensor *t) {
    const ir_weight *w = ir_find_weight(m, t->name);
    ir_type type = ir_tensor_type((ig_dtype)t->dtype, t->rank, t->dim);
    if (w && ir_type_eq(&w->type, &type)) return NULL;
    if (!w) return fe_status(c, rt_fail(fe_alloc(c), IG_INVALID, "the file has no %s", t->name));
    rt_str have;
    rt_str_init(&have, fe_alloc(c));
    ir_type_print(m, &w->type, &have);
    ig_status s = rt_fail(fe_alloc(c), IG_SHAPE, "%s is %s, and %s in the file", t->name,
                          FE_TYPE(t), rt_str_text(&have));
    rt_str_free(&have);
    return fe_status(c, s);
}

/* New handles are made before anything is assigned. */
static ig_status checkpoint_assign(fe_call *c, ir_module *m, int nlist, const ig_list *lists) {
    uint32_t n = 0, made = 0;
    for (int i = 0; i < nlist; i++) n += (uint32_t)lists[i].n;
    if (n != m->weights.n)
        return fe_status(c, rt_fail(fe_alloc(c), IG_INVALID,
                                    "the file has %u tensors, %u are asked for", m->weights.n, n));
    ig_tensor **fresh = rt_alloc(fe_alloc(c), (n + 1u) * sizeof *fresh);
    bool ok = fresh != NULL;
    for (int i = 0; ok && i < nlist; i++)
        for (int k = 0; ok && k < lists[i].n; k++) {
            const ig_tensor *t = lists[i].t[k];
            const ir_weight *w = ir_find_weight(m, t->name);
            ok = !fe_is_poison(
                fresh[made++] = fe_leaf(c, (ig_dtype)t->dtype, t->rank, t->dim, w->data));
        }
    made = 0;
    for (int i = 0; ok && i < nlist; i++)
        for (int k = 0; k < lists[i].n; k++) fe_rebind(c, lists[i].t[k], fresh[made++]);
    rt_free(fe_alloc(c), fresh, (n + 1u) * sizeof *fresh);
    return ok ? NULL : fe_status(c, rt_fail_memory());
}

static ig_status checkpoint_save(fe_call *c, const char *path, int nlist, const ig_list *lists) {
    ir_module *m;
    rt_str s;
    RT_TRY(ir_module_new(fe_alloc(c), "checkpoint", &m));
    rt_str_init(&s, fe_alloc(c));
    ig_status e = checkpoint_walk(c, m, nlist, lists, checkpoint_put);
    if (!e) e = ir_save(m, NULL, 0, &s);
    if (!e) e = rt_file_write(fe_alloc(c), path, s.data, s.n);
    rt_str_free(&s);
    ir_module_free(m);
    return e;
}

static ig_status checkpoint_load(fe_call *c, const char *path, int nlist, const ig_list *lists) {
    ir_module *m = NULL;
    void *bytes;
    size_t n;
    RT_TRY(rt_file_read(fe_alloc(c), path, PTRDIFF_MAX, &bytes, &n));
    ig_status e = ir_load(fe_alloc(c), bytes, n, &m);
    if (!e) e = checkpoint_walk(c, m, nlist, lists, checkpoint_check);
    if (!e) e = checkpoint_assign(c, m, nlist, lists);
    ir_module_free(m);
    rt_free(fe_alloc(c), bytes, n);
    return e ? rt_status_note(e, "in %s", path) : NULL;
}

/* Save or load; a value that is being recorded cannot be either. */
static ig_status
checkpoint_call(const char *name, const char *path, int nlist, const ig_list *lists,
                ig_status (*run)(fe_call *c, const char *path, int nlist, const ig_list *lists)) {
    fe_call c;
    RT_TRY(fe_enter_status(&c, NULL, name));
    ig_status s = c.s->rec ? fe_status(&c, rt_fail(fe_alloc(&c), IG_TRACE,
                                                   "a checkpoint is written and read outside of "
                                                   "what is recorded"))
                           : run(&c, path, nlist, lists);
    fe_exit(&c);
    return s;
}

ig_status ig_checkpoint_save(const char *path, int nlist, const ig_list *lists) {
    return checkpoint_call("checkpoint_save", path, nlist, lists, checkpoint_save);
}

ig_status ig_checkpoint_load(const char *path, int nlist, const ig_list *lists) {
    return checkpoint_call("checkpoint_load", path, nlist, lists, checkpoint_load);
}
