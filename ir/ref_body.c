/* ref_body.c - straight-line bodies run op by op over arrays; transcendental functions and Philox
 * are such bodies.
 *
 * A body is prepared once: constants are spread over a chunk, every other value gets a chunk-sized
 * slot that is used again after the value's last use, so that a body of a hundred ops works in a
 * few kilobytes.  Running it is then one elementwise row per op and chunk.  The arithmetic is
 * ir_ew_run's; nothing is defined here but the layout of the random bits.  A body holds its work
 * memory: one thread at a time. */
#include "ir/ref.h"

#include <string.h>

enum { BODY_CHUNK = 512, BODY_CELL = BODY_CHUNK * 8 };

typedef struct body_step {
    ir_opcode op;
    const void *attr; /* borrowed from the module */
    ig_dtype from, to;
    uint8_t nin;
    uint32_t in[3], out; /* places */
} body_step;

/* Places: parameters first, then cells of BODY_CELL bytes (constants, and slots). */
struct ir_body {
    const ig_allocator *alloc;
    ir_class cls;
    uint32_t nparam, nresult, nstep, ncell;
    const ir_func *f; /* borrowed: types of parameters and results */
    body_step *step;  /* owned */
    uint32_t *result; /* owned: place of each result */
    char *cell;       /* owned */
    size_t step_bytes, result_bytes, cell_bytes;
};

/* --- Preparing -------------------------------------------------------------------------------- */

typedef struct body_plan {
    const ir_func *f;
    uint32_t *place; /* of every value */
    uint32_t *last;  /* op of the last use of every value; UINT32_MAX for results */
    uint32_t *spare; /* cells free again, a stack */
    uint32_t nspare, ncell;
} body_plan;

static ig_status body_check(const ig_allocator *a, const ir_func *f) {
    for (uint32_t i = 0; i + 1 < f->ops.n; i++) {
        const ir_op *o = &f->ops.data[i];
        const ir_type *t = ir_val_type(f, ir_op_out(o, 0));
        bool ok = o->code == OP_const || ir_is_elementwise((ir_opcode)o->code);
        if (!ok || t->rank || t->lanes || t->mem)
            return rt_fail(a, IG_INTERNAL, "body %s: %s is not an elementwise op on scalars",
                           f->name, ir_op_tab[o->code].name);
        if (o->nin &&
            ir_math_has((ir_opcode)o->code, (ig_dtype)ir_val_type(f, ir_op_in(f, o, 0))->dtype))
            return rt_fail(a, IG_INTERNAL, "body %s: %s has a body itself", f->name,
                           ir_op_tab[o->code].name);
    }
    return NULL;
}

/* The last use of every value. */
static void body_fill_last(body_plan *p) {
    const ir_func *f = p->f;
    for (uint32_t i = 0; i < f->ops.n; i++) {
        const ir_op *o = &f->ops.data[i];
        for (uint32_t k = 0; k < o->nin; k++)
            p->last[ir_op_in(f, o, k).i] = i + 1 < f->ops.n ? i : UINT32_MAX;
    }
}

/* Give every value its place and every op its step. */
static void body_plan_steps(body_plan *p, ir_body *b) {
    const ir_func *f = p->f;
    for (uint32_t k = 0; k < b->nparam; k++) p->place[ir_param_ref(f, k).i] = k;
    for (uint32_t i = 0; i + 1 < f->ops.n; i++) {
        const ir_op *o = &f->ops.data[i];
        bool is_const = o->code == OP_const;
        uint32_t out = !is_const && p->nspare ? p->spare[--p->nspare] : b->nparam + p->ncell++;
        body_step *s = &b->step[b->nstep++];
        *s = (body_step){.op = (ir_opcode)o->code, .nin = (uint8_t)o->nin, .out = out};
        s->attr = ir_attr_get(f->module, o->attr);
        s->to = (ig_dtype)ir_val_type(f, ir_op_out(o, 0))->dtype;
        p->place[o->out0] = out;
        for (uint32_t k = 0; k < o->nin; k++) {
            ir_ref r = ir_op_in(f, o, k);
            s->in[k] = p->place[r.i];
            s->from = (ig_dtype)ir_val_type(f, r)->dtype;
            const ir_op *def = ir_def_op(f, r);
            if (!def || def->code == OP_const || p->last[r.i] != i) continue;
            p->spare[p->nspare++] = p->place[r.i];
            p->last[r.i] = UINT32_MAX; /* an operand used twice is freed once */
        }
    }
    const ir_op *ret = ir_return_op(f);
    for (uint32_t k = 0; k < b->nresult; k++) b->result[k] = p->place[ir_op_in(f, ret, k).i];
}

/* Spread every constant over its cell and drop its step. */
static void body_fill_consts(ir_body *b) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < b->nstep; i++) {
        const body_step *s = &b->step[i];
        if (s->op != OP_const) {
            b->step[kept++] = *s;
            continue;
        }
        const ir_attr_const *a = s->attr;
        char *cell = b->cell + (size_t)(s->out - b->nparam) * BODY_CELL;
        for (size_t k = 0; k < BODY_CHUNK; k++)
            memcpy(cell + k * a->data.n, a->data.bytes, a->data.n);
    }
    b->nstep = kept;
}

ig_status ir_body_new(const ig_allocator *a, const ir_func *f, ir_class cls, ir_body **out_) {
    *out_ = NULL;
    RT_TRY(body_check(a, f));
    ir_body *b = rt_alloc_zero(a, sizeof *b);
    size_t words = (size_t)f->values.n * sizeof(uint32_t);
    uint32_t *scratch = rt_alloc_zero(a, 3 * words);
    if (b) {
        *b = (ir_body){
            .alloc = a, .cls = cls, .f = f, .nparam = ir_nparam(f), .nresult = f->results.n};
        b->step_bytes = (size_t)f->ops.n * sizeof *b->step;
        b->result_bytes = (size_t)(b->nresult ? b->nresult : 1) * sizeof *b->result;
        b->step = rt_alloc_zero(a, b->step_bytes);
        b->result = rt_alloc_zero(a, b->result_bytes);
    }
    if (b && scratch && b->step && b->result) {
        body_plan p = {.f = f,
                       .place = scratch,
                       .last = scratch + f->values.n,
                       .spare = scratch + 2 * f->values.n};
        body_fill_last(&p);
        body_plan_steps(&p, b);
        b->ncell = p.ncell;
        b->cell_bytes = (size_t)(p.ncell ? p.ncell : 1) * BODY_CELL;
        b->cell = rt_alloc_buffer(a, b->cell_bytes);
    }
    rt_free(a, scratch, 3 * words);
    if (!b || !b->cell) {
        ir_body_free(b);
        return rt_fail_memory();
    }
    body_fill_consts(b);
    *out_ = b;
    return NULL;
}

void ir_body_free(ir_body *b) {
    if (!b) return;
    rt_free(b->alloc, b->step, b->step_bytes);
    rt_free(b->alloc, b->result, b->result_bytes);
    rt_free_buffer(b->alloc, b->cell, b->cell_bytes);
    rt_free(b->alloc, b, sizeof *b);
}

/* --- Running ---------------------------------------------------------------------------------- */

/* Where a place begins, at element `at` of the whole arrays. */
static const char *body_at(const ir_body *b, uint32_t place, const void *const *in, int64_t at) {
    if (place >= b->nparam) return b->cell + (size_t)(place - b->nparam) * BODY_CELL;
    ig_dtype d = (ig_dtype)ir_val_type(b->f, ir_param_ref(b->f, place))->dtype;
    return (const char *)in[place] + (size_t)at * rt_dtype_bytes(d);
}

void ir_body_run(const ir_body *b, int64_t n, const void *const *in, void *const *out) {
    for (int64_t at = 0; at < n; at += BODY_CHUNK) {
        int64_t m = n - at < BODY_CHUNK ? n - at : BODY_CHUNK;
        for (uint32_t i = 0; i < b->nstep; i++) {
            const body_step *s = &b->step[i];
            ir_ew e = {.cls = b->cls, .op = s->op, .attr = s->attr, .from = s->from, .to = s->to};
            e.n = m;
            for (int k = 0; k < s->nin; k++) e.in[k] = body_at(b, s->in[k], in, at);
            e.out = b->cell + (size_t)(s->out - b->nparam) * BODY_CELL;
            ir_ew_run(&e);
        }
        for (uint32_t k = 0; k < b->nresult; k++) {
            size_t bytes = rt_dtype_bytes((ig_dtype)ir_result_type(b->f, k)->dtype);
            char *to = (char *)out[k] + (size_t)at * bytes;
            memcpy(to, body_at(b, b->result[k], in, at), (size_t)m * bytes);
        }
    }
}

/* --- Bodies by name --------------------------------------------------------------------------- */

typedef struct body_entry {
    ir_opcode op;
    ig_dtype dtype;
    ir_class cls;
    ir_module *module; /* owned */
    ir_body *body;     /* owned */
} body_entry;

struct ir_ref_ctx {
    const ig_allocator *alloc;
    RT_VEC(body_entry) entries;
};

static void body_entry_free(body_entry *e) {
    ir_body_free(e->body);
    ir_module_free(e->module);
}

/* Emit the body of an op into a module of its own and prepare it. */
static ig_status body_entry_make(const ig_allocator *a, body_entry *e) {
    ir_builder b;
    ir_func *f;
    ir_ref in[4] = {{0}}, out[4] = {{0}};
    bool philox = e->op == OP_rng_bits;
    int nin = philox ? 4 : ir_op_tab[e->op].arity;
    if (!philox && !ir_math_has(e->op, e->dtype))
        return rt_fail(a, IG_INTERNAL, "%s has no definition at %s", ir_op_tab[e->op].name,
                       ig_dtype_name(e->dtype));
    RT_TRY(ir_module_new(a, ir_op_tab[e->op].name, &e->module));
    e->module->class = e->cls;
    ir_build_begin(&b, e->module, ir_op_tab[e->op].name, IR_FN, IR_BUILD_CSE);
    for (int k = 0; k < nin && k < 4; k++) in[k] = ir_param(&b, ir_scalar_type(e->dtype), NULL);
    if (philox)
        ir_philox_emit(&b, in, out);
    else
        out[0] = ir_math_emit(&b, e->op, in, NULL);
    ig_status s = ir_build_end(&b, philox ? 4 : 1, out, &f);
    if (!s) s = ir_body_new(a, f, e->cls, &e->body);
    if (s) ir_module_free(e->module);
    return s;
}

ig_status ir_body_find(const ir_ref_call *c, ir_opcode op, ig_dtype dtype, const ir_body **out_,
                       void **owned_) {
    ir_ref_ctx *ctx = c->ctx;
    body_entry e = {.op = op, .dtype = dtype, .cls = c->cls};
    *owned_ = NULL;
    for (uint32_t i = 0; ctx && i < ctx->entries.n; i++) {
        const body_entry *have = &ctx->entries.data[i];
        if (have->op != op || have->dtype != dtype || have->cls != c->cls) continue;
        *out_ = have->body;
        return NULL;
    }
    const ig_allocator *a = ctx ? ctx->alloc : c->alloc;
    body_entry *owned = ctx ? NULL : rt_alloc(a, sizeof *owned);
    if (!ctx && !owned) return rt_fail_memory();
    ig_status s = body_entry_make(a, &e);
    if (!s && ctx && !rt_vec_push(a, &ctx->entries, e)) {
        body_entry_free(&e);
        s = rt_fail_memory();
    }
    if (s) {
        rt_free(a, owned, sizeof *owned);
        return s;
    }
    if (owned) *owned = e;
    *owned_ = owned;
    *out_ = e.body;
    return NULL;
}

void ir_body_drop(const ig_allocator *a, void *owned) {
    if (!owned) return;
    body_entry_free(owned);
    rt_free(a, owned, sizeof(body_entry));
}

const ig_allocator *ir_ref_ctx_alloc(const ir_ref_ctx *ctx) { return ctx->alloc; }

ig_status ir_ref_ctx_new(const ig_allocator *a, ir_ref_ctx **out_) {
    ir_ref_ctx *ctx = *out_ = rt_alloc_zero(a, sizeof *ctx);
    if (!ctx) return rt_fail_memory();
    ctx->alloc = a;
    return NULL;
}

void ir_ref_ctx_free(ir_ref_ctx *ctx) {
    if (!ctx) return;
    for (uint32_t i = 0; i < ctx->entries.n; i++) body_entry_free(&ctx->entries.data[i]);
    rt_vec_free(ctx->alloc, &ctx->entries);
    rt_free(ctx->alloc, ctx, sizeof *ctx);
}

/* --- Random bits ------------------------------------------------------------------------------ */

/* Counter number q gives four words: elements 4q .. 4q+3 of u32, or 2q and 2q+1 of u64, low word
 * first.  The counter is q in its two lower words, 0 in the upper ones; the key is the operand. */
ig_status ir_ref_rng(const ir_ref_call *c) {
    ir_tensor *y = &c->out[0];
    const uint32_t *key = c->in[0].data;
    const int64_t count = ir_ref_numel(y), per = y->dtype == IG_u64 ? 2 : 4;
    uint32_t in[4][BODY_CHUNK], word[4][BODY_CHUNK];
    const ir_body *body;
    void *owned;
    RT_TRY(ir_body_find(c, OP_rng_bits, IG_u32, &body, &owned));
    for (int64_t q = 0, n = (count + per - 1) / per; q < n; q += BODY_CHUNK) {
        int64_t m = n - q < BODY_CHUNK ? n - q : BODY_CHUNK;
        for (int64_t k = 0; k < m; k++) {
            in[0][k] = key[0];
            in[1][k] = key[1];
            in[2][k] = (uint32_t)(q + k);
            in[3][k] = (uint32_t)((uint64_t)(q + k) >> 32);
        }
        ir_body_run(body, m, (const void *const[]){in[0], in[1], in[2], in[3]},
                    (void *const[]){word[0], word[1], word[2], word[3]});
        for (int64_t i = q * per, k = 0; i < count && k < m * per; i++, k++) {
            int64_t w = k % per * (4 / per), at = k / per;
            if (per == 4)
                ((uint32_t *)y->data)[i] = word[w][at];
            else
                ((uint64_t *)y->data)[i] = word[w][at] | (uint64_t)word[w + 1][at] << 32;
        }
    }
    ir_body_drop(c->alloc, owned);
    return NULL;
}
