/* segment.c - scans that keep few states, before they are walked backwards.
 *
 * A scan of N steps that is to keep n states (ckpt=k(n), or sqrt: n about sqrt N) becomes a scan of
 * n segments whose body is a scan of N / n steps, rounded up: reverse mode keeps the carried values
 * before every segment, and goes through a segment once more when it comes to it, keeping then what
 * `auto` keeps of its steps.  So two steps are computed for one, and n states and N / n steps are
 * kept.
 *
 * No bit changes.  The steps are the same ops in the same order.  What is sliced is padded to whole
 * segments, and what is stacked is cut; a step behind the last one hands the carried values on.
 * Backwards these are slices, pads and branches, which add to nothing: every cotangent is summed in
 * the order in which the scan in one piece sums it. */
#include "passes/derive.h"
#include "passes/walk.h"
#include <math.h>
#include <string.h>

int64_t pass_sqrt(int64_t n) {
    int64_t r = (int64_t)sqrt((double)n);
    while (r > 0 && r > n / r) r--;
    while (r * r < n) r++;
    return r;
}

/* A scan that is cut. */
typedef struct segment {
    ir_builder *b;
    const ir_func *f;
    const ir_op *o;
    ir_ref *map; /* values of f -> values of b */
    ir_dim steps, length, count;
    bool numbered;                 /* the step uses its number */
    bool whole;                    /* the segments have just the steps */
    uint32_t carries, nin, nout;   /* nin: with the number of the step, and whether it is one */
    ir_ref in[IR_MAX_RESULTS + 2]; /* operands */
    ir_ref p[IR_MAX_RESULTS + 3];  /* parameters of the region that is open */
    ir_type type[IR_MAX_RESULTS + 3];
    ir_ref out[IR_MAX_RESULTS];
} segment;

/* How many states a scan is to keep; 0: that is not asked. */
static int64_t segment_count(const ir_func *f, const ir_attr_scan *a) {
    int64_t lo, hi;
    ir_dim_range(f->module, a->n, &lo, &hi);
    int64_t n = a->ckpt == IR_CKPT_SQRT ? pass_sqrt(hi) : a->ckpt;
    if (n > IR_CKPT_MOST) n = IR_CKPT_MOST;
    return n > 0 && n < hi ? n : 0;
}

/* Whether a scan is to be cut: not when its slices or elements have no room for one more axis, or
 * it no room for two more operands; then it keeps the carried values of every step. */
static bool segment_is_due(const ir_func *f, const ir_op *o) {
    if (o->code != OP_scan || o->nin + 2 > IR_MAX_RESULTS) return false;
    const ir_attr_scan *a = ir_attr_get(f->module, o->attr);
    bool room = segment_count(f, a) > 0;
    for (uint32_t k = (uint32_t)a->carries; k < o->nin; k++)
        room = room && ir_val_type(f, ir_op_in(f, o, k))->rank < IG_MAX_RANK;
    for (uint32_t k = (uint32_t)a->carries; k < o->nout; k++)
        room = room && ir_val_type(f, ir_op_out(o, k))->rank < IG_MAX_RANK;
    return room;
}

/* [N, ..] as [count, length, ..], zeros behind the last step. */
static ir_ref segment_cut(segment *s, ir_ref x) {
    ir_module *m = s->b->m;
    ir_type t = ir_type_of(s->b, x);
    if (s->b->error) return x;
    if (!s->whole) {
        ir_attr_pad pad = {.lo = {.n = t.rank}, .hi = {.n = t.rank}, .interior = {.n = t.rank}};
        pad.hi.d[0] = ir_dim_sub(m, ir_dim_mul(m, s->count, s->length), s->steps);
        x = EMIT_AS(s->b, pad, &pad, x, emit_scalar(s->b, &t, 0));
    }
    t.dim[0] = s->length;
    t = emit_longer(t, 0, s->count);
    return EMIT_AS(s->b, reshape, (&(ir_attr_dims){.dims = emit_dims(&t)}), x);
}

/* The way back. */
static ir_ref segment_join(segment *s, ir_ref x) {
    ir_type t = ir_type_of(s->b, x);
    if (s->b->error) return x;
    t.rank--;
    memmove(t.dim + 1, t.dim + 2, (size_t)(t.rank - 1) * sizeof *t.dim);
    t.dim[0] = ir_dim_mul(s->b->m, s->count, s->length);
    x = EMIT_AS(s->b, reshape, (&(ir_attr_dims){.dims = emit_dims(&t)}), x);
    if (s->whole) return x;
    ir_dims lo = {.n = t.rank};
    t.dim[0] = s->steps;
    ir_dims hi = emit_dims(&t);
    return emit_slice(s->b, x, &lo, &hi, NULL);
}

static bool segment_is_numbered(const ir_func *f, const ir_op *o) {
    const ir_region *r = &f->regions.data[o->region0];
    for (uint32_t i = r->first; i < r->end; i++)
        for (uint32_t k = 0; k < f->ops.data[i].nin; k++)
            if (ir_op_in(f, &f->ops.data[i], k).i == r->param0) return true;
    return false;
}

/* Carried values, slices, the number of every step where it is used and, where some are none, which
 * are. */
static void segment_operands(segment *s) {
    ir_type steps = ir_tensor_type(IG_i64, 1, &s->steps),
            flag = ir_tensor_type(IG_bool, 1, &s->steps);
    for (s->nin = 0; s->nin < s->o->nin; s->nin++) {
        ir_ref x = s->map[ir_op_in(s->f, s->o, s->nin).i];
        s->in[s->nin] = s->nin < s->carries ? x : segment_cut(s, x);
    }
    ir_attr_iota count = {.dtype = IG_i64, .dims = emit_dims(&steps)};
    if (s->numbered) s->in[s->nin++] = segment_cut(s, ir_emit0(s->b, OP_iota, &count));
    if (!s->whole) s->in[s->nin++] = segment_cut(s, emit_fill(s->b, &flag, 1));
}

/* Begin a scan on what is in s->in; s->p are the parameters of its region. */
static uint32_t segment_begin(segment *s, const ir_attr_scan *a) {
    uint32_t op = ir_op_begin(s->b, OP_scan, a, (int)s->nin, s->in, 1);
    s->type[0] = ir_scalar_type(IG_i64);
    for (uint32_t k = 0; k < s->nin && !s->b->error; k++) {
        ir_type t = ir_type_of(s->b, s->in[k]);
        if (k >= s->carries) t = ir_tensor_type((ig_dtype)t.dtype, t.rank - 1, t.dim + 1);
        s->type[k + 1] = t;
    }
    ir_region_begin(s->b, op, 0, (int)s->nin + 1, s->type, s->p);
    return op;
}

static void segment_end(segment *s, uint32_t op) {
    ir_region_end(s->b, (int)s->nout, s->out);
    ir_ref y = ir_op_end(s->b, op);
    for (uint32_t k = 0; k < s->nout; k++) s->out[k] = ir_result(y, k);
}

/* The step itself, its parameters entered; s->out is what it yields. */
static void segment_body(segment *s) {
    const ir_region *r = &s->f->regions.data[s->o->region0];
    const ir_op *yield = &s->f->ops.data[r->end - 1];
    if (s->numbered) s->map[r->param0] = s->p[1 + s->o->nin];
    for (uint32_t k = 0; k < s->o->nin; k++) s->map[r->param0 + 1 + k] = s->p[1 + k];
    for (uint32_t i = r->first; i + 1 < r->end && !s->b->error; i++)
        ir_copy_op(s->b, s->f, i, s->map);
    for (uint32_t k = 0; k < s->nout; k++) s->out[k] = s->map[ir_op_in(s->f, yield, k).i];
}

/* The step where it is one; behind the last the carried values stay. */
static void segment_step(segment *s) {
    if (s->whole) {
        segment_body(s);
        return;
    }
    uint32_t op = ir_op_begin(s->b, OP_if, &(ir_attr_regions){.n = 2}, 1, &s->p[s->nin], 2);
    ir_region_begin(s->b, op, 0, 0, NULL, NULL);
    segment_body(s);
    ir_region_end(s->b, (int)s->nout, s->out);
    ir_region_begin(s->b, op, 1, 0, NULL, NULL);
    for (uint32_t k = 0; k < s->nout && !s->b->error; k++) {
        ir_type t = ir_type_of(s->b, s->out[k]);
        s->out[k] = k < s->carries ? s->p[1 + k] : emit_fill(s->b, &t, 0);
    }
    ir_region_end(s->b, (int)s->nout, s->out);
    ir_ref y = ir_op_end(s->b, op);
    for (uint32_t k = 0; k < s->nout; k++) s->out[k] = ir_result(y, k);
}

static void segment_scan(segment *s) {
    ir_module *m = s->b->m;
    ir_attr_any attr;
    ir_import_attr(m, s->f->module, s->o->attr, &attr);
    ir_attr_scan outer = attr.a_scan, inner = outer;
    s->carries = (uint32_t)outer.carries;
    s->nout = s->o->nout;
    s->steps = outer.n;
    s->count = segment_count(s->f, ir_attr_get(s->f->module, s->o->attr));
    s->length = ir_dim_floordiv(m, ir_dim_add(m, s->steps, s->count - 1), s->count);
    if (ir_dim_is_const(s->steps)) s->count = (s->steps + s->length - 1) / s->length;
    s->numbered = segment_is_numbered(s->f, s->o);
    s->whole = ir_dim_mul(m, s->count, s->length) == s->steps;
    outer.n = outer.ckpt = s->count;
    inner.n = s->length;
    inner.ckpt = IR_CKPT_AUTO;
    segment_operands(s);
    uint32_t op = segment_begin(s, &outer);
    memcpy(s->in, s->p + 1, s->nin * sizeof *s->in);
    uint32_t in = segment_begin(s, &inner);
    segment_step(s);
    segment_end(s, in);
    segment_end(s, op);
    for (uint32_t k = 0; k < s->nout && !s->b->error; k++)
        s->map[s->o->out0 + k] = k < s->carries ? s->out[k] : segment_join(s, s->out[k]);
}

/* Copy f, cutting the scans that are in no other one that is cut. */
static ig_status segment_func(ir_module *out, const ir_func *f, ir_ref *map) {
    ir_builder b;
    segment *s = rt_alloc_zero(out->alloc, sizeof *s); /* too large for the stack */
    ir_ref *own = pass_begin(&b, out, f, IR_BUILD_RAW);
    if (!s) ir_build_error(&b, rt_fail_memory());
    for (uint32_t i = 0; own && !b.error && i + 1 < f->ops.n;) {
        const ir_op *o = &f->ops.data[i];
        if (segment_is_due(f, o)) {
            b.loc = emit_loc(out, f, o);
            *s = (segment){.b = &b, .f = f, .o = o, .map = own};
            segment_scan(s);
            i = ir_op_after(f, i);
        } else {
            ir_copy_op(&b, f, i++, own);
        }
    }
    if (own) memcpy(map, own, f->values.n * sizeof *map);
    rt_free(out->alloc, s, sizeof *s);
    return pass_end(&b, f, own);
}

bool pass_has_segments(const ir_func *f) {
    for (uint32_t i = 0; i < f->ops.n; i++)
        if (segment_is_due(f, &f->ops.data[i])) return true;
    return false;
}

/* One module after another: what stood in a scan is cut in the next. */
ig_status pass_segment(const ir_module *flat, ir_module **out_, ir_ref *map) {
    const ir_func *f = ir_entry(flat);
    const ig_allocator *a = flat->alloc;
    const uint32_t n = f->values.n;
    const ir_module *in = flat;
    ig_status s = NULL;
    for (uint32_t v = 0; v < n; v++) map[v] = (ir_ref){v};
    *out_ = NULL;
    while (!s && pass_has_segments(f)) {
        ir_module *next;
        const size_t bytes = f->values.n * sizeof *map;
        ir_ref *step = rt_alloc_zero(a, bytes);
        s = step ? ir_module_shell(flat, &next) : rt_fail_memory();
        if (!s) {
            s = segment_func(next, f, step);
            for (uint32_t v = 0; v < n; v++) map[v] = step[map[v].i];
            ir_module_free(*out_);
            *out_ = next;
            in = next;
        }
        rt_free(a, step, bytes);
        if (!s) f = ir_entry(in);
    }
    if (s) {
        ir_module_free(*out_);
        *out_ = NULL;
    }
    return s;
}
