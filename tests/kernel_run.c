/* kernel_run.c - the interpreter of kernel-level IR: op by op, elementwise ops through the
 * reference. */
#include "tests/kernel_run.h"
#include "runtime/custom.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LANES 128
#define MAX_STACK (256 << 10) /* what the code generator offers a kernel */

typedef struct memory {
    char *data;
    size_t bytes;
    char *written; /* scratch memory: one flag a byte; NULL for buffers */
    bool read_only;
} memory;

typedef struct value {
    char bytes[MAX_LANES * 8]; /* lanes, packed */
    memory mem;
} value;

typedef struct run {
    const ir_module *m;
    const char *entry;
    const int64_t *symbols;
    int nin, nout;
    const ir_tensor *in;
    ir_tensor *out;
    memory ws;
    ir_ref_ctx *ref;
    kernel_run_opts opts;
    uint64_t ops;
    char message[256];
} run;

typedef struct frame {
    run *r;
    const ir_func *f;
    value *v;
    value *ret; /* results of the function */
    memory alloc[256];
    int nalloc;
    size_t stack;
} frame;

#define BROKEN(...) return snprintf(r->message, sizeof r->message, __VA_ARGS__), false

static size_t tensor_bytes(const ir_tensor *t) {
    size_t n = rt_dtype_bytes((ig_dtype)t->dtype);
    for (int i = 0; i < t->rank; i++) n *= (size_t)t->dim[i];
    return n;
}

static size_t type_size(const ir_type *t) { return rt_dtype_bytes((ig_dtype)t->dtype); }
static int type_lanes(const ir_type *t) { return t->lanes ? t->lanes : 1; }
static value *val(frame *fr, const ir_op *o, uint32_t k) { return &fr->v[ir_op_in(fr->f, o, k).i]; }
static const ir_type *in_type(const frame *fr, const ir_op *o, uint32_t k) {
    return ir_val_type(fr->f, ir_op_in(fr->f, o, k));
}

static int64_t lane_i64(const value *v, int lane) {
    int64_t x;
    memcpy(&x, v->bytes + lane * 8, 8);
    return x;
}
static void set_i64(value *v, int64_t x) { memcpy(v->bytes, &x, 8); }

/* The lane as a zero-extended integer. */
static uint64_t lane_bits(const value *v, size_t size, int lane) {
    uint64_t x = 0;
    memcpy(&x, v->bytes + (size_t)lane * size, size);
    return x;
}

/* --- Rules ---------------------------------------------------------------------------------- */

static bool check_plain(frame *fr, const ir_op *o) {
    run *r = fr->r;
    const ir_type *t = in_type(fr, o, o->nin - 1u);
    size_t size = type_size(t);
    ig_dtype d = (ig_dtype)t->dtype;
    if ((d == IG_f16 || d == IG_bf16) && o->code != OP_bitcast)
        BROKEN("%s on a 16-bit float", ir_op_tab[o->code].name);
    if (o->code == OP_convert) {
        ig_dtype to = (ig_dtype)((const ir_attr_dtype *)ir_attr_get(r->m, o->attr))->dtype;
        if (to == IG_f16 || to == IG_bf16) BROKEN("convert to a 16-bit float");
        if (d == IG_bool || to == IG_bool) BROKEN("convert from or to bool");
    }
    if (ir_math_has((ir_opcode)o->code, d)) BROKEN("%s is not expanded", ir_op_tab[o->code].name);
    if (o->code == OP_fma && r->m->class == IR_CLASS_NOFMA)
        BROKEN("fma in a module of class nofma");
    if (o->code == OP_rem && rt_is_float(d)) BROKEN("rem of floats");
    for (int i = 0; i < type_lanes(t); i++) {
        uint64_t y = o->nin > 1 ? lane_bits(val(fr, o, 1), size, i) : 0,
                 x = lane_bits(val(fr, o, 0), size, i);
        uint64_t ones = size == 8 ? UINT64_MAX : (UINT64_C(1) << (size * 8)) - 1;
        if ((o->code == OP_div || o->code == OP_rem) && rt_is_int(d)) {
            if (!y) BROKEN("%s by 0", ir_op_tab[o->code].name);
            if (rt_is_signed(d) && y == ones && x == (ones >> 1) + 1) BROKEN("INT_MIN / -1");
        }
        if (o->code == OP_shift && y >= size * 8) BROKEN("shift by %llu", (unsigned long long)y);
    }
    return true;
}

static bool run_ew(frame *fr, const ir_op *o) {
    run *r = fr->r;
    ir_tensor in[3], out;
    if (!check_plain(fr, o)) return false;
    for (uint32_t i = 0; i < o->nin; i++) {
        const ir_type *t = in_type(fr, o, i);
        in[i] = (ir_tensor){.dtype = t->dtype,
                            .rank = t->lanes ? 1 : 0,
                            .dim = {t->lanes},
                            .data = val(fr, o, i)->bytes};
    }
    const ir_type *t = ir_val_type(fr->f, ir_op_out(o, 0));
    out = (ir_tensor){.dtype = t->dtype,
                      .rank = t->lanes ? 1 : 0,
                      .dim = {t->lanes},
                      .data = fr->v[o->out0].bytes};
    ig_status s = ir_ref_op_in(r->ref, r->m->class, (ir_opcode)o->code, ir_attr_get(r->m, o->attr),
                               o->nin, in, 1, &out);
    if (!s) return true;
    snprintf(r->message, sizeof r->message, "%s", ig_status_text(s));
    ig_status_free(s);
    return false;
}

/* --- Memory --------------------------------------------------------------------------------- */

static bool run_access(frame *fr, const ir_op *o, bool store) {
    run *r = fr->r;
    const memory *m = &val(fr, o, 0)->mem;
    const ir_type *it = in_type(fr, o, 1),
                  *t = store ? in_type(fr, o, 2) : ir_val_type(fr->f, ir_op_out(o, 0));
    size_t size = type_size(t);
    char *bytes = store ? val(fr, o, 2)->bytes : fr->v[o->out0].bytes;
    if (store && m->read_only) BROKEN("store to read-only memory");
    for (int i = 0; i < type_lanes(t); i++) {
        int64_t at = it->lanes ? lane_i64(val(fr, o, 1), i) : lane_i64(val(fr, o, 1), 0) + i;
        if (at < 0 || (uint64_t)at >= m->bytes / size)
            BROKEN("%s of element %lld of %zu", store ? "store" : "load", (long long)at,
                   m->bytes / size);
        char *to = m->data + (size_t)at * size, *lane = bytes + (size_t)i * size;
        if (store)
            memcpy(to, lane, size);
        else
            memcpy(lane, to, size);
        if (store && t->dtype == IG_bool && *(uint8_t *)lane > 1)
            BROKEN("a bool that is not 0 or 1");
        if (!m->written) continue;
        char *mark = m->written + (size_t)at * size;
        if (store)
            memset(mark, 1, size);
        else if (!*mark)
            BROKEN("load of scratch memory that was not written");
    }
    return true;
}

static bool run_alloc(frame *fr, const ir_op *o) {
    run *r = fr->r;
    const ir_attr_alloc *a = ir_attr_get(r->m, o->attr);
    size_t n = (size_t)a->n * rt_dtype_bytes((ig_dtype)a->dtype);
    if (o->parent || fr->nalloc == 256) BROKEN("alloc inside a loop");
    if ((fr->stack += n) > MAX_STACK) BROKEN("%zu bytes of scratch memory", fr->stack);
    memory m = {.data = calloc(2, n), .bytes = n};
    if (!m.data) BROKEN("out of memory");
    m.written = m.data + n;
    fr->alloc[fr->nalloc++] = m;
    fr->v[o->out0].mem = m;
    return true;
}

/* --- Host ----------------------------------------------------------------------------------- */

static bool run_func(run *r, const ir_func *f, const value *args, value *ret);

static bool run_launch(frame *fr, const ir_op *o) {
    run *r = fr->r;
    const ir_attr_call *a = ir_attr_get(r->m, o->attr);
    const ir_func *f = ir_find_func(r->m, a->callee);
    value *args = calloc(o->nin + 1u, sizeof *args);
    int64_t n = lane_i64(val(fr, o, o->nin - 2u), 0), parts = r->opts.parts > 1 ? r->opts.parts : 1;
    bool ok = args != NULL;
    for (uint32_t i = 0; i + 2 < o->nin; i++) args[i] = *val(fr, o, i);
    for (int64_t p = parts - 1; p >= 0 && ok; p--) {
        int64_t lo = n / parts * p + (p < n % parts ? p : n % parts);
        int64_t hi = lo + n / parts + (p < n % parts);
        set_i64(&args[o->nin - 2], lo);
        set_i64(&args[o->nin - 1], hi);
        if (hi > lo) ok = run_func(r, f, args, NULL);
    }
    free(args);
    return ok;
}

/* Call a C function: the cells get their pointers, as compiled code does it. */
static bool run_invoke(frame *fr, const ir_op *o) {
    run *r = fr->r;
    const ir_attr_invoke *a = ir_attr_get(r->m, o->attr);
    ig_status s = rt_custom_builtin();
    const ig_custom *op = s ? NULL : rt_custom_find(a->name, a->version);
    ig_status_free(s);
    if (!op) BROKEN("there is no C function %s", a->name);
    memory *cells = &val(fr, o, 0)->mem;
    ig_array *array = (ig_array *)(void *)cells->data;
    for (uint32_t k = 1; k < o->nin; k++) array[k - 1].data = val(fr, o, k)->mem.data;
    int32_t nin = o->nin - 1 - (int32_t)a->nout;
    ig_custom_args args = {op->user, a->text, nin, (int32_t)a->nout, array, array + nin};
    int32_t code = op->fn(&args);
    memcpy(fr->v[o->out0].bytes, &code, sizeof code);
    return true;
}

static bool run_port(frame *fr, const ir_op *o) {
    run *r = fr->r;
    value *v = &fr->v[o->out0];
    const void *attr = ir_attr_get(r->m, o->attr);
    const ir_attr_port *p = attr;
    if (o->code == OP_kin) {
        if (p->index >= r->nin) BROKEN("there is no input %lld", (long long)p->index);
        v->mem = (memory){r->in[p->index].data, tensor_bytes(&r->in[p->index]), NULL, true};
    } else if (o->code == OP_kout) {
        if (p->index >= r->nout) BROKEN("there is no output %lld", (long long)p->index);
        v->mem = (memory){r->out[p->index].data, tensor_bytes(&r->out[p->index]), NULL, false};
    } else if (o->code == OP_kws) {
        int64_t at = lane_i64(val(fr, o, 0), 0);
        if (at < 0 || (uint64_t)at > r->ws.bytes || at % 64)
            BROKEN("workspace offset %lld", (long long)at);
        v->mem = (memory){r->ws.data + at, r->ws.bytes - (size_t)at, NULL, false};
    } else {
        const ir_weight *w = ir_find_weight(r->m, ((const ir_attr_wport *)attr)->name);
        if (!w) BROKEN("there is no weight");
        v->mem = (memory){(char *)(uintptr_t)w->data, (size_t)w->bytes, NULL, true};
    }
    return true;
}

/* --- Control -------------------------------------------------------------------------------- */

static bool run_region(frame *fr, const ir_region *g, value *out);

static bool run_for(frame *fr, const ir_op *o) {
    const ir_attr_for *a = ir_attr_get(fr->r->m, o->attr);
    const ir_region *g = &fr->f->regions.data[o->region0];
    int64_t lo = lane_i64(val(fr, o, 0), 0), hi = lane_i64(val(fr, o, 1), 0);
    uint32_t n = o->nin - 2u;
    value *carried = calloc(n + 1, sizeof *carried);
    bool ok = carried != NULL;
    for (uint32_t k = 0; k < n && ok; k++) carried[k] = *val(fr, o, k + 2);
    for (int64_t i = lo; i < hi && ok; i += a->step) {
        set_i64(&fr->v[g->param0], i);
        for (uint32_t k = 0; k < n; k++) fr->v[g->param0 + 1 + k] = carried[k];
        ok = run_region(fr, g, carried);
    }
    for (uint32_t k = 0; k < n && ok; k++) fr->v[o->out0 + k] = carried[k];
    free(carried);
    return ok;
}

static bool run_kif(frame *fr, const ir_op *o) {
    const ir_region *g = &fr->f->regions.data[o->region0 + (val(fr, o, 0)->bytes[0] ? 0u : 1u)];
    value *out = calloc(o->nout + 1u, sizeof *out);
    bool ok = out && run_region(fr, g, out);
    for (uint32_t k = 0; k < o->nout && ok; k++) fr->v[o->out0 + k] = out[k];
    free(out);
    return ok;
}

static void run_vector(frame *fr, const ir_op *o) {
    const ir_type *t = ir_val_type(fr->f, ir_op_out(o, 0));
    value *v = &fr->v[o->out0];
    size_t size = type_size(t);
    const ir_attr_index *a = ir_attr_get(fr->r->m, o->attr);
    int64_t index = o->code == OP_vzip ? 0 : a->index;
    if (o->code == OP_viota)
        for (int64_t i = 0; i < t->lanes; i++) memcpy(v->bytes + i * 8, &i, 8);
    else if (o->code == OP_splat)
        for (int i = 0; i < t->lanes; i++)
            memcpy(v->bytes + (size_t)i * size, val(fr, o, 0)->bytes, size);
    else if (o->code == OP_vzip)
        for (int i = 0; i < t->lanes; i++)
            memcpy(v->bytes + (size_t)i * size, val(fr, o, i & 1)->bytes + (size_t)(i / 2) * size,
                   size);
    else if (o->code == OP_extract)
        memmove(v->bytes, val(fr, o, 0)->bytes + (size_t)index * size, size);
    else
        memmove(v->bytes, val(fr, o, 0)->bytes + (size_t)index * size * (size_t)type_lanes(t),
                size * (size_t)type_lanes(t));
}

static void run_deal(frame *fr, const ir_op *o) {
    const ir_attr_deal *a = ir_attr_get(fr->r->m, o->attr);
    const ir_type *t = ir_val_type(fr->f, ir_op_out(o, 0));
    value *v = &fr->v[o->out0];
    size_t size = type_size(t);
    for (unsigned i = 0; i < t->lanes; i++) {
        int64_t from = ir_deal_lane(a, t->lanes, i);
        memcpy(v->bytes + i * size,
               val(fr, o, from >= t->lanes)->bytes + (size_t)(from % t->lanes) * size, size);
    }
}

static void run_test(frame *fr, const ir_op *o, ir_bitop op) {
    const char *x = val(fr, o, 0)->bytes;
    bool r = op == IR_bitop_band;
    for (int i = 0; i < ir_val_type(fr->f, ir_op_in(fr->f, o, 0))->lanes; i++)
        r = op == IR_bitop_band ? r && x[i] : r || x[i];
    fr->v[o->out0].bytes[0] = r;
}

static bool run_op(frame *fr, const ir_op *o) {
    run *r = fr->r;
    const void *attr = ir_attr_get(r->m, o->attr);
    if (r->opts.max_ops && ++r->ops > r->opts.max_ops) BROKEN("too many ops");
    switch (o->code) {
    case OP_const: {
        const ir_attr_const *c = attr;
        memcpy(fr->v[o->out0].bytes, c->data.bytes, (size_t)c->data.n);
        return true;
    }
    case OP_for: return run_for(fr, o);
    case OP_kif: return run_kif(fr, o);
    case OP_load: return run_access(fr, o, false);
    case OP_store:
    case OP_stream: return run_access(fr, o, true);
    case OP_aligned: fr->v[o->out0].bytes[0] = 1; return true;
    case OP_prefetch: return true;
    case OP_alloc: return run_alloc(fr, o);
    case OP_splat:
    case OP_viota:
    case OP_vhalf:
    case OP_extract:
    case OP_vzip: run_vector(fr, o); return true;
    case OP_deal: run_deal(fr, o); return true;
    case OP_vtest: run_test(fr, o, ((const ir_attr_bitop *)attr)->op); return true;
    case OP_ksym:
        set_i64(&fr->v[o->out0], r->symbols[((const ir_attr_index *)attr)->index]);
        return true;
    case OP_kin:
    case OP_kout:
    case OP_kws:
    case OP_kweight: return run_port(fr, o);
    case OP_launch: return run_launch(fr, o);
    case OP_invoke: return run_invoke(fr, o);
    default:
        if (!ir_is_elementwise((ir_opcode)o->code))
            BROKEN("%s at kernel level", ir_op_tab[o->code].name);
        return run_ew(fr, o);
    }
}

/* The ops of a region; `out` gets what it yields. */
static bool run_region(frame *fr, const ir_region *g, value *out) {
    for (uint32_t i = g->first; i < g->end; i++) {
        const ir_op *o = &fr->f->ops.data[i];
        if (o->code == OP_yield || o->code == OP_return) {
            value tmp[IR_MAX_RESULTS];
            for (uint32_t k = 0; k < o->nin; k++) tmp[k] = *val(fr, o, k);
            if (o->nin && out) memcpy(out, tmp, o->nin * sizeof *out);
            return true;
        }
        if (!run_op(fr, o)) {
            if (!strstr(fr->r->message, " in @")) {
                size_t n = strlen(fr->r->message);
                snprintf(fr->r->message + n, sizeof fr->r->message - n, " in @%s, op %u",
                         fr->f->name, i);
            }
            return false;
        }
        /* skip the bodies of nested regions */
        int nested = o->nregion;
        if (nested) i = fr->f->regions.data[o->region0 + (uint32_t)nested - 1].end - 1;
    }
    return true;
}

static bool run_func(run *r, const ir_func *f, const value *args, value *ret) {
    frame fr = {.r = r, .f = f, .ret = ret};
    fr.v = calloc(f->values.n + 1, sizeof *fr.v);
    if (!fr.v) BROKEN("out of memory");
    for (uint32_t i = 0; i < ir_nparam(f); i++) fr.v[ir_param_ref(f, i).i] = args[i];
    bool ok = run_region(&fr, &f->regions.data[0], ret);
    for (int i = 0; i < fr.nalloc; i++) free(fr.alloc[i].data);
    free(fr.v);
    return ok;
}

static bool run_program(run *r, int32_t *code_) {
    char name[256];
    value ret[2];
    uint64_t bytes;
    snprintf(name, sizeof name, "%s_workspace", r->entry);
    const ir_func *host = ir_find_func(r->m, r->entry), *ws = ir_find_func(r->m, name);
    if (!host || !ws) BROKEN("no host program @%s", r->entry);
    if (!run_func(r, ws, NULL, ret)) return false;
    memcpy(&bytes, ret[0].bytes, 8);
    memcpy(code_, ret[1].bytes, 4);
    if (*code_) return true;
    r->ws = (memory){.data = aligned_alloc(64, (bytes + 127) / 64 * 64), .bytes = bytes};
    if (!r->ws.data) BROKEN("out of memory");
    memset(r->ws.data, 0x5a, bytes);
    bool ok = run_func(r, host, NULL, ret);
    memcpy(code_, ret[0].bytes, 4);
    free(r->ws.data);
    return ok;
}

ig_status kernel_run(const ir_module *lowered, const char *entry, const int64_t *symbols, int nin,
                     const ir_tensor *in, int nout, ir_tensor *out, const kernel_run_opts *opts,
                     int32_t *code_) {
    run r = {.m = lowered,
             .entry = entry,
             .symbols = symbols,
             .nin = nin,
             .nout = nout,
             .in = in,
             .out = out};
    if (opts) r.opts = *opts;
    *code_ = -1;
    RT_TRY(ir_ref_ctx_new(lowered->alloc, &r.ref));
    bool ok = run_program(&r, code_);
    ir_ref_ctx_free(r.ref);
    return ok ? NULL : rt_fail(lowered->alloc, IG_INTERNAL, "%s", r.message);
}
