/* build.c - the builder: the only way a function comes into being.
 *
 * Ops are appended in pre-order.  Each emission asks the type rule, then (by flag) the fold rules
 * and the table of values already computed, and appends only what is left.  The first error sticks
 * with its location; later emissions give {0}, so that callers test once, at ir_build_end.
 *
 * A region op is appended when it begins, with its regions reserved side by side; its results are
 * numbered when it ends.  So a body cannot name them, and value numbers follow definition order. */
#include "ir/ir.h"
#include "ir/intern.h"
#include "ir/text.h"
#include "runtime/base/hash.h"
#include <stdio.h>
#include <string.h>

/* What a builder remembers beside the function: value numbering, and room for operand types. */
struct ir_cse {
    ir_index ix; /* hash of (op, attr, operands) -> op number */
    RT_VEC(ir_type) types;
};

/* --- Errors ---------------------------------------------------------------------------------- */

void ir_build_error(ir_builder *b, ig_status s) {
    if (!s) return;
    if (b->error) {
        ig_status_free(s);
        return;
    }
    ir_loc_rec at = b->m ? ir_loc_get(b->m, b->loc) : (ir_loc_rec){0};
    b->error = at.file ? rt_status_at(s, at.file, (int)at.line) : s;
}

/* Record an error of an op; {0}. */
static ir_ref build_fail(ir_builder *b, ir_opcode op, ig_code code, const char *message) {
    if (!b->error)
        ir_build_error(b,
                       rt_status_op(rt_fail(b->m->alloc, code, "%s", message), ir_op_tab[op].name));
    return (ir_ref){0};
}

static ir_ref build_no_memory(ir_builder *b) {
    ir_build_error(b, rt_fail_memory());
    return (ir_ref){0};
}

/* --- Functions ------------------------------------------------------------------------------- */

/* Free a function that no module holds. */
static void build_free_func(ir_func *f) {
    const ig_allocator *a = f->module->alloc;
    rt_vec_free(a, &f->ops);
    rt_vec_free(a, &f->values);
    rt_vec_free(a, &f->operands);
    rt_vec_free(a, &f->regions);
    rt_vec_free(a, &f->results);
    rt_vec_free(a, &f->param_names);
    rt_free(a, f, sizeof *f);
}

static void build_free_cse(ir_builder *b) {
    if (!b->cse) return;
    ir_index_free(b->m->alloc, &b->cse->ix);
    rt_vec_free(b->m->alloc, &b->cse->types);
    rt_free(b->m->alloc, b->cse, sizeof *b->cse);
    b->cse = NULL;
}

void ir_build_begin(ir_builder *b, ir_module *m, const char *name, ir_func_kind kind,
                    unsigned flags) {
    const ig_allocator *a = m->alloc;
    *b = (ir_builder){.m = m, .flags = flags};
    b->cse = rt_alloc_zero(a, sizeof *b->cse);
    b->f = rt_alloc_zero(a, sizeof *b->f);
    if (b->f) b->f->module = m; /* ir_build_abort needs it */
    if (!b->cse || !b->f) {
        build_no_memory(b);
        return;
    }
    b->f->kind = kind;
    b->f->name = ir_intern_str(m, name, strlen(name));
    if (!b->f->name || !rt_vec_push(a, &b->f->values, (ir_value){0}) ||
        !rt_vec_push(a, &b->f->regions, ((ir_region){.param0 = 1})))
        build_no_memory(b);
}

ir_ref ir_param(ir_builder *b, ir_type type, const char *name) {
    const ig_allocator *a = b->m->alloc;
    const char *kept = NULL;
    if (b->error) return (ir_ref){0};
    ir_func *f = b->f;
    ir_region *body = &f->regions.data[0];
    if (f->ops.n || body->nparam >= UINT16_MAX) {
        ir_build_error(b, rt_fail(a, IG_INTERNAL, "parameters come before the first op"));
        return (ir_ref){0};
    }
    for (int i = 0; i < type.rank; i++)
        if (type.dim[i] == IR_DIM_BAD)
            return build_no_memory(b); /* whoever made it reports sizes */
    if (name && !(kept = ir_intern_str(b->m, name, strlen(name)))) return build_no_memory(b);
    ir_value v = {.index = (uint16_t)body->nparam, .is_param = true};
    v.type = ir_intern_type(b->m, &type);
    if (v.type == UINT32_MAX || !rt_vec_reserve(a, &f->values, f->values.n + 1) ||
        !rt_vec_push(a, &f->param_names, kept))
        return build_no_memory(b);
    f->values.data[f->values.n++] = v;
    body->nparam++;
    return (ir_ref){f->values.n - 1};
}

ir_ref ir_capture(ir_builder *b, ir_type type) {
    if (b->error) return (ir_ref){0};
    ir_value v = {.type = ir_intern_type(b->m, &type), .is_param = true};
    if (v.type == UINT32_MAX || !rt_vec_push(b->m->alloc, &b->f->values, v))
        return build_no_memory(b);
    return (ir_ref){b->f->values.n - 1};
}

/* --- Emission -------------------------------------------------------------------------------- */

/* Whether region `outer` is `inner` or encloses it. */
static bool build_encloses(const ir_func *f, uint32_t outer, uint32_t inner) {
    while (inner > outer) inner = f->regions.data[inner].parent;
    return inner == outer;
}

/* Whether a value may be used in the open region (I1). */
static bool build_is_visible(const ir_builder *b, ir_ref r) {
    const ir_func *f = b->f;
    if (!r.i || r.i >= f->values.n) return false;
    const ir_value *v = &f->values.data[r.i];
    return build_encloses(f, v->is_param ? v->def : f->ops.data[v->def].parent, b->region);
}

/* Whether an op may have these operands; false after an error. */
static bool build_check_operands(ir_builder *b, ir_opcode op, int nin, const ir_ref *in) {
    if (nin < 0 || nin > UINT16_MAX) {
        build_fail(b, op, IG_RANGE, "too many operands; the limit is 65535");
        return false;
    }
    for (int k = 0; k < nin; k++)
        if (!build_is_visible(b, in[k])) {
            build_fail(b, op, IG_INVALID, "an operand is not defined here (I1)");
            return false;
        }
    return true;
}

/* Gather operand types into the builder's scratch; NULL after an error. */
static const ir_type *build_types(ir_builder *b, ir_opcode op, int nin, const ir_ref *in) {
    if (!build_check_operands(b, op, nin, in)) return NULL;
    if (!rt_vec_reserve(b->m->alloc, &b->cse->types, (uint32_t)nin + 1)) {
        build_no_memory(b);
        return NULL;
    }
    for (int k = 0; k < nin; k++) b->cse->types.data[k] = *ir_val_type(b->f, in[k]);
    return b->cse->types.data;
}

/* Ask the type rule; false after an error. */
static bool build_infer(ir_builder *b, ir_opcode op, const void *attr, int nin, const ir_ref *in,
                        ir_type *out, int *nout_) {
    const ir_type *types = build_types(b, op, nin, in);
    if (!types) return false;
    ir_infer c = {.m = b->m, .op = op, .nin = nin, .in = types, .attr = attr, .out = out};
    if (!ir_infer_types(&c)) {
        build_fail(b, op, c.code, c.message);
        return false;
    }
    *nout_ = c.nout;
    return true;
}

/* Append values of these types, defined by op `def`; the first one's number, or 0. */
static uint32_t build_results(ir_builder *b, uint32_t def, int nout, const ir_type *out) {
    ir_func *f = b->f;
    if (!rt_vec_reserve(b->m->alloc, &f->values, f->values.n + (uint32_t)nout)) {
        build_no_memory(b);
        return 0;
    }
    uint32_t first = f->values.n;
    for (int k = 0; k < nout; k++) {
        ir_value v = {.type = ir_intern_type(b->m, &out[k]), .def = def, .index = (uint16_t)k};
        if (v.type == UINT32_MAX) {
            build_no_memory(b);
            return 0;
        }
        f->values.data[f->values.n++] = v;
    }
    f->ops.data[def].out0 = first;
    f->ops.data[def].nout = (uint16_t)nout;
    return first;
}

/* Append an op without results yet; its number, or UINT32_MAX after an error. */
static uint32_t build_append(ir_builder *b, ir_opcode op, ir_attr attr, int nin, const ir_ref *in) {
    const ig_allocator *a = b->m->alloc;
    ir_func *f = b->f;
    if (!rt_vec_reserve(a, &f->ops, f->ops.n + 1) ||
        !rt_vec_reserve(a, &f->operands, f->operands.n + (uint32_t)nin)) {
        build_no_memory(b);
        return UINT32_MAX;
    }
    ir_op o = {.code = (uint16_t)op,
               .nin = (uint16_t)nin,
               .in0 = f->operands.n,
               .out0 = f->values.n,
               .parent = b->region,
               .attr = attr,
               .loc = b->loc};
    for (int k = 0; k < nin; k++) f->operands.data[f->operands.n++] = in[k];
    f->ops.data[f->ops.n++] = o;
    return f->ops.n - 1;
}

/* Intern an attribute struct; NULL is the zeroed struct of the op's kind. */
static bool build_attr(ir_builder *b, ir_opcode op, const void *attr, ir_attr *out_) {
    *out_ = ir_intern_attr(b->m, (ir_attr_kind)ir_op_tab[op].attr, attr);
    if (out_->i != UINT32_MAX) return true;
    build_no_memory(b);
    return false;
}

/* --- Value numbering ------------------------------------------------------------------------- */

/* Operands k in the order that the key uses: commuting operands sorted. */
static uint32_t build_key_in(ir_opcode op, int nin, const ir_ref *in, int k) {
    if (nin != 2 || !ir_op_tab[op].commutes) return in[k].i;
    bool swap = in[0].i > in[1].i;
    return in[swap ? 1 - k : k].i;
}

static uint64_t build_hash(ir_opcode op, ir_attr attr, int nin, const ir_ref *in) {
    uint64_t h = rt_hash_mix((uint64_t)op, attr.i);
    for (int k = 0; k < nin; k++) h = rt_hash_mix(h, build_key_in(op, nin, in, k));
    return h;
}

/* The op that computed this already, where it is visible; its first result or {0}. */
static ir_ref build_find(const ir_builder *b, uint64_t h, ir_opcode op, ir_attr attr, int nin,
                         const ir_ref *in) {
    const ir_func *f = b->f;
    uint32_t at = ir_index_start(&b->cse->ix, h), id;
    while (ir_index_next(&b->cse->ix, h, &at, &id)) {
        const ir_op *o = &f->ops.data[id];
        if (o->code != op || o->attr.i != attr.i || o->nin != nin) continue;
        int same = 0;
        while (same < nin && build_key_in(op, nin, in, same) ==
                                 build_key_in(op, nin, &f->operands.data[o->in0], same))
            same++;
        if (same == nin && build_encloses(f, o->parent, b->region)) return ir_op_out(o, 0);
    }
    return (ir_ref){0};
}

static bool build_is_end(ir_opcode op) { return op == OP_yield || op == OP_return; }

/* A sum of one operand is a reduce between two permutations (numerics rule 7). */
static ir_ref build_ein_sum(ir_builder *b, const ir_rel *r, ir_ref x) {
    ir_ein_steps steps;
    char message[256];
    if (!ir_ein_check(r, message, sizeof message))
        return build_fail(b, OP_ein, IG_INVALID, message);
    if (ir_type_of(b, x).rank != r->in[0].n)
        return build_fail(b, OP_ein, IG_SHAPE, "the relation does not have the operand's rank");
    ir_ein_sum_steps(r, &steps);
    if (steps.moves_first) x = ir_emit1(b, OP_transpose, &steps.first, x);
    x = ir_emit1(b, OP_reduce, &steps.reduce, x);
    return steps.moves_last ? ir_emit1(b, OP_transpose, &steps.last, x) : x;
}

/* Append an op whose types are known. */
static ir_ref build_emit(ir_builder *b, ir_opcode op, const void *attr, int nin, const ir_ref *in,
                         int nout, const ir_type *out) {
    ir_attr kept;
    bool number = b->flags & IR_BUILD_CSE && !ir_op_tab[op].effect && nout > 0;
    if (!build_attr(b, op, attr, &kept)) return (ir_ref){0};
    uint64_t h = number ? build_hash(op, kept, nin, in) : 0;
    if (number) {
        ir_ref old = build_find(b, h, op, kept, nin, in);
        if (old.i) return old;
        if (!ir_index_reserve(b->m->alloc, &b->cse->ix)) return build_no_memory(b);
    }
    uint32_t o = build_append(b, op, kept, nin, in);
    if (o == UINT32_MAX) return (ir_ref){0};
    uint32_t first = build_results(b, o, nout, out);
    if (!first) return (ir_ref){0};
    if (number) ir_index_add(&b->cse->ix, h, o);
    return (ir_ref){nout ? first : 0};
}

ir_ref ir_emit(ir_builder *b, ir_opcode op, const void *attr, int nin, const ir_ref *in) {
    static const ir_attr_any zero;
    ir_type out[IR_MAX_RESULTS];
    int nout;
    if (b->error) return (ir_ref){0};
    if (ir_has_regions(op) || build_is_end(op))
        return build_fail(b, op, IG_INTERNAL, "begins and ends with its region; it is not emitted");
    if (!attr) attr = &zero;
    if (op == OP_ein && nin == 1 && ir_ein_is_sum(&((const ir_attr_ein *)attr)->rel))
        return build_ein_sum(b, &((const ir_attr_ein *)attr)->rel, in[0]);
    if (!build_infer(b, op, attr, nin, in, out, &nout)) return (ir_ref){0};
    if (b->flags & IR_BUILD_FOLD && !ir_op_tab[op].effect) {
        ir_ref r = ir_fold(b, op, attr, nin, in);
        if (r.i || b->error) return b->error ? (ir_ref){0} : r;
    }
    return build_emit(b, op, attr, nin, in, nout, out);
}

/* --- Regions --------------------------------------------------------------------------------- */

/* How many regions are open. */
static int build_depth(const ir_builder *b) {
    int n = 0;
    for (uint32_t r = b->region; r; r = b->f->regions.data[r].parent) n++;
    return n;
}

uint32_t ir_op_begin(ir_builder *b, ir_opcode op, const void *attr, int nin, const ir_ref *in,
                     int nregion) {
    static const ir_attr_any zero;
    ir_type out[IR_MAX_RESULTS];
    ir_attr kept;
    int nout;
    if (b->error) return UINT32_MAX;
    ir_func *f = b->f;
    if (!attr) attr = &zero;
    if (!ir_has_regions(op) || nregion != ir_region_count(op, attr)) {
        build_fail(b, op, IG_INTERNAL, "does not have this number of regions");
        return UINT32_MAX;
    }
    if (build_depth(b) >= IR_MAX_NEST) {
        ig_status s =
            rt_fail(b->m->alloc, IG_RANGE, "regions nest at most %d deep (I5)", IR_MAX_NEST);
        ir_build_error(b, rt_status_op(s, ir_op_tab[op].name));
        return UINT32_MAX;
    }
    if (!build_infer(b, op, attr, nin, in, out, &nout)) return UINT32_MAX;
    if (!build_attr(b, op, attr, &kept)) return UINT32_MAX;
    if (!rt_vec_reserve(b->m->alloc, &f->regions, f->regions.n + (uint32_t)nregion)) {
        build_no_memory(b);
        return UINT32_MAX;
    }
    uint32_t o = build_append(b, op, kept, nin, in);
    if (o == UINT32_MAX) return o;
    f->ops.data[o].region0 = f->regions.n;
    f->ops.data[o].nregion = (uint16_t)nregion;
    for (int k = 0; k < nregion; k++)
        f->regions.data[f->regions.n++] = (ir_region){.op = o, .parent = b->region};
    return o;
}

void ir_region_begin(ir_builder *b, uint32_t op, int k, int nparam, const ir_type *param,
                     ir_ref *param_) {
    for (int i = 0; i < nparam; i++) param_[i] = (ir_ref){0};
    if (b->error) return;
    ir_func *f = b->f;
    if (op >= f->ops.n || k < 0 || k >= f->ops.data[op].nregion || nparam > UINT16_MAX ||
        f->ops.data[op].parent != b->region ||
        f->regions.data[f->ops.data[op].region0 + (uint32_t)k].end) {
        ir_build_error(b, rt_fail(b->m->alloc, IG_INTERNAL, "a region is begun out of turn"));
        return;
    }
    if (!rt_vec_reserve(b->m->alloc, &f->values, f->values.n + (uint32_t)nparam)) {
        build_no_memory(b);
        return;
    }
    uint32_t region = f->ops.data[op].region0 + (uint32_t)k;
    ir_region *r = &f->regions.data[region];
    r->first = f->ops.n;
    r->param0 = f->values.n;
    r->nparam = (uint32_t)nparam;
    for (int i = 0; i < nparam; i++) {
        ir_value v = {.def = region, .index = (uint16_t)i, .is_param = true};
        v.type = ir_intern_type(b->m, &param[i]);
        if (v.type == UINT32_MAX) {
            build_no_memory(b);
            return;
        }
        param_[i] = (ir_ref){f->values.n};
        f->values.data[f->values.n++] = v;
    }
    b->region = region;
}

/* Append the op that ends the open region. */
static bool build_end_region(ir_builder *b, ir_opcode op, int n, const ir_ref *in) {
    if (!build_check_operands(b, op, n, in)) return false;
    if (build_append(b, op, (ir_attr){0}, n, in) == UINT32_MAX) return false;
    b->f->regions.data[b->region].end = b->f->ops.n;
    return true;
}

void ir_region_end(ir_builder *b, int n, const ir_ref *yield) {
    if (b->error) return;
    if (!b->region) {
        ir_build_error(b, rt_fail(b->m->alloc, IG_INTERNAL, "no region is open"));
        return;
    }
    if (build_end_region(b, OP_yield, n, yield)) b->region = b->f->regions.data[b->region].parent;
}

/* Types that region k of an op yields, into out; their number, or -1 when there are too many. */
static int build_yield_types(const ir_func *f, const ir_op *o, uint32_t k, ir_type *out) {
    const ir_region *r = &f->regions.data[o->region0 + k];
    const ir_op *y = &f->ops.data[r->end - 1];
    if (y->nin > IR_MAX_RESULTS) return -1;
    for (uint32_t i = 0; i < y->nin; i++) out[i] = *ir_val_type(f, ir_op_in(f, y, i));
    return y->nin;
}

static bool build_same_types(int n, const ir_type *a, const ir_type *b) {
    for (int i = 0; i < n; i++)
        if (!ir_type_eq(&a[i], &b[i])) return false;
    return true;
}

/* The parameters of a loop body are the index and the carried values. */
static bool build_check_loop(const ir_func *f, const ir_op *o) {
    const ir_region *r = &f->regions.data[o->region0];
    ir_type index = ir_scalar_type(IG_i64);
    if (r->nparam + 1 != o->nin || !ir_type_eq(ir_val_type(f, (ir_ref){r->param0}), &index))
        return false;
    for (uint32_t k = 2; k < o->nin; k++)
        if (!ir_type_eq(ir_val_type(f, ir_op_in(f, o, k)),
                        ir_val_type(f, (ir_ref){r->param0 + k - 1})))
            return false;
    return true;
}

/* The results of an op whose regions ir_flow_check knows. */
static ir_ref build_end_flow(ir_builder *b, uint32_t op) {
    ir_flow c = {.f = b->f, .o = &b->f->ops.data[op]};
    ir_loc loc = b->loc;
    b->loc = c.o->loc;
    bool fits = ir_flow_check(&c);
    if (!fits) {
        char message[sizeof c.message + 8];
        snprintf(message, sizeof message, "%s (I11)", c.message);
        build_fail(b, (ir_opcode)c.o->code, IG_SHAPE, message);
    }
    b->loc = loc;
    uint32_t first = fits ? build_results(b, op, c.nout, c.out) : 0;
    return (ir_ref){fits && c.nout ? first : 0};
}

ir_ref ir_op_end(ir_builder *b, uint32_t op) {
    ir_type out[IR_MAX_RESULTS], other[IR_MAX_RESULTS];
    if (b->error) return (ir_ref){0};
    const ir_func *f = b->f;
    const ir_op *o = &f->ops.data[op];
    for (uint32_t k = 0; k < o->nregion; k++)
        if (!f->regions.data[o->region0 + k].end)
            return build_fail(b, (ir_opcode)o->code, IG_INTERNAL, "a region was not ended");
    if (o->code != OP_for && o->code != OP_kif) return build_end_flow(b, op);
    int n = build_yield_types(f, o, 0, out);
    bool fits;
    if (o->code == OP_for) {
        fits = build_check_loop(f, o) && n == o->nin - 2;
        for (int k = 0; fits && k < n; k++)
            fits = ir_type_eq(&out[k], ir_val_type(f, ir_op_in(f, o, (uint32_t)k + 2)));
    } else {
        const ir_region *r = &f->regions.data[o->region0];
        fits = n >= 0 && !r[0].nparam && !r[1].nparam;
        fits = fits && build_yield_types(f, o, 1, other) == n && build_same_types(n, out, other);
    }
    if (!fits)
        return build_fail(b, (ir_opcode)o->code, IG_SHAPE,
                          "what its regions take and yield does not fit (I5)");
    uint32_t first = build_results(b, op, n, out);
    return (ir_ref){n ? first : 0};
}

/* --- The end --------------------------------------------------------------------------------- */

static ig_status build_finish(ir_builder *b, int n, const ir_ref *results) {
    const ig_allocator *a = b->m->alloc;
    if (b->region) return rt_fail(a, IG_INTERNAL, "@%s: a region is still open", b->f->name);
    if (!build_end_region(b, OP_return, n, results)) return NULL;
    for (int k = 0; k < n; k++)
        if (!rt_vec_push(a, &b->f->results, b->f->values.data[results[k].i].type))
            return rt_fail_memory();
    if (!ir_add_func(b->m, b->f)) return rt_fail_memory();
    rt_vec_trim(a, &b->f->ops);
    rt_vec_trim(a, &b->f->values);
    rt_vec_trim(a, &b->f->operands);
    rt_vec_trim(a, &b->f->regions);
    rt_vec_trim(a, &b->f->results);
    rt_vec_trim(a, &b->f->param_names);
    return NULL;
}

ig_status ir_build_end(ir_builder *b, int n, const ir_ref *results, ir_func **out_) {
    if (out_) *out_ = NULL;
    if (!b->error) ir_build_error(b, build_finish(b, n, results));
    ig_status s = b->error;
    b->error = NULL;
    if (s) {
        ir_build_abort(b);
        return s;
    }
    if (out_) *out_ = b->f;
    b->f = NULL;
    build_free_cse(b);
    return NULL;
}

void ir_build_abort(ir_builder *b) {
    if (!b->m) return; /* never begun */
    if (b->f) build_free_func(b->f);
    b->f = NULL;
    build_free_cse(b);
    ig_status_free(b->error);
    b->error = NULL;
}

/* --- Constants ------------------------------------------------------------------------------- */

ir_ref ir_const(ir_builder *b, ir_type type, const void *bytes, size_t n) {
    uint8_t small[256], *copy = small;
    if (b->error) return (ir_ref){0};
    if (n > sizeof small && !(copy = rt_alloc(b->m->alloc, n))) return build_no_memory(b);
    if (n) memcpy(copy, bytes, n);
    size_t size = type.dtype < IG_DTYPE_END ? rt_dtype_bytes(type.dtype) : 0;
    if (type.dtype == IG_bool)
        for (size_t i = 0; i < n; i++) copy[i] = copy[i] != 0;
    else if (size && rt_is_float(type.dtype))
        ir_canon_nan(type.dtype, copy, (int64_t)(n / size));
    ir_attr_const a = {.type = type, .data = {copy, n}};
    ir_ref r = ir_emit0(b, OP_const, &a);
    if (copy != small) rt_free(b->m->alloc, copy, n);
    return r;
}

/* A scalar of one type converted to another as `convert` does, into 8 bytes. */
static bool build_convert(ir_builder *b, ig_dtype from, void *x, ig_dtype to, uint64_t *out_) {
    ir_attr_dtype a = {.dtype = (uint8_t)to};
    ir_tensor in = {.dtype = (uint8_t)from, .data = x}, out = {.dtype = (uint8_t)to, .data = out_};
    *out_ = 0;
    if (b->error) return false;
    ir_build_error(b, ir_ref_op(b->m->alloc, b->m->class, OP_convert, &a, 1, &in, 1, &out));
    return !b->error;
}

ir_ref ir_const_f(ir_builder *b, ig_dtype dtype, double x) {
    uint64_t y;
    if (!build_convert(b, IG_f64, &x, dtype, &y)) return (ir_ref){0};
    return ir_const(b, ir_scalar_type(dtype), &y, rt_dtype_bytes(dtype));
}

ir_ref ir_const_i(ir_builder *b, ig_dtype dtype, int64_t x) {
    uint64_t y;
    if (!build_convert(b, IG_i64, &x, dtype, &y)) return (ir_ref){0};
    return ir_const(b, ir_scalar_type(dtype), &y, rt_dtype_bytes(dtype));
}

ir_ref ir_const_like(ir_builder *b, ir_ref like, double x) {
    ir_type t = ir_type_of(b, like);
    uint64_t y;
    if (b->error) return (ir_ref){0};
    if (!t.dtype || t.mem) {
        ir_build_error(b, rt_fail(b->m->alloc, IG_INTERNAL, "a constant like no value"));
        return (ir_ref){0};
    }
    if (!build_convert(b, IG_f64, &x, t.dtype, &y)) return (ir_ref){0};
    size_t size = rt_dtype_bytes(t.dtype);
    if (t.lanes) {
        uint8_t lane[UINT8_MAX * sizeof y];
        for (size_t k = 0; k < t.lanes; k++) memcpy(lane + k * size, &y, size);
        return ir_const(b, t, lane, t.lanes * size);
    }
    ir_ref scalar = ir_const(b, ir_scalar_type(t.dtype), &y, size);
    if (!t.rank) return scalar;
    ir_attr_bcast a = {.dims = {.n = t.rank}};
    memcpy(a.dims.d, t.dim, sizeof t.dim);
    return ir_emit1(b, OP_broadcast, &a, scalar);
}

/* --- Reading and copying --------------------------------------------------------------------- */

ir_type ir_type_of(const ir_builder *b, ir_ref r) {
    return b->f && r.i && r.i < b->f->values.n ? *ir_val_type(b->f, r) : (ir_type){0};
}

uint32_t *ir_count_uses(const ir_func *f, const ig_allocator *a) {
    uint32_t *uses = rt_alloc_zero(a, (size_t)f->values.n * sizeof *uses);
    for (uint32_t i = 0; uses && i < f->operands.n; i++) uses[f->operands.data[i].i]++;
    return uses;
}

static ir_type build_import_type(ir_module *to, const ir_module *from, ir_type t,
                                 const ir_dim *by) {
    for (int i = 0; i < t.rank; i++) t.dim[i] = ir_dim_import_by(to, from, t.dim[i], by);
    return t;
}

ir_type ir_import_type(ir_module *to, const ir_module *from, ir_type t) {
    return build_import_type(to, from, t, NULL);
}

void ir_import_attr_by(ir_module *to, const ir_module *from, ir_attr a, const ir_dim *by,
                       ir_attr_any *out_) {
    const ir_attr_info *info = &ir_attr_tab[ir_attr_kind_of(from, a)];
    *out_ = (ir_attr_any){{0}};
    memcpy(out_, ir_attr_get(from, a), info->size);
    for (uint32_t k = 0; (by || to != from) && k < info->nfield; k++) {
        void *at = (char *)out_ + info->field[k].offset;
        int n;
        ir_dim *dim = ir_dims_in(info->field[k].kind, at, &n);
        ir_type *type = at;
        ir_places *places = at;
        for (int i = 0; i < n; i++) dim[i] = ir_dim_import_by(to, from, dim[i], by);
        switch (info->field[k].kind) {
        case FIELD_type: *type = build_import_type(to, from, *type, by); break;
        case FIELD_places:
            for (int i = 0; i < places->n; i++)
                places->p[i].at = ir_dim_import_by(to, from, places->p[i].at, by);
            break;
        default: break;
        }
    }
}

void ir_import_attr(ir_module *to, const ir_module *from, ir_attr a, ir_attr_any *out_) {
    ir_import_attr_by(to, from, a, NULL, out_);
}

/* Begin the copy of region k of `owner` in the open op `mine`. */
static void build_copy_region(ir_builder *b, const ir_func *from, const ir_op *owner, uint32_t k,
                              uint32_t mine, ir_ref *map) {
    ir_type types[IR_MAX_RESULTS + 1];
    ir_ref params[IR_MAX_RESULTS + 1];
    const ir_region *r = &from->regions.data[owner->region0 + k];
    if (b->error) return;
    if (r->nparam > IR_MAX_RESULTS + 1) {
        build_fail(b, (ir_opcode)owner->code, IG_INTERNAL, "too many region parameters");
        return;
    }
    for (uint32_t i = 0; i < r->nparam; i++)
        types[i] = ir_import_type(b->m, from->module, *ir_val_type(from, (ir_ref){r->param0 + i}));
    ir_region_begin(b, mine, (int)k, (int)r->nparam, types, params);
    for (uint32_t i = 0; i < r->nparam; i++) map[r->param0 + i] = params[i];
}

/* End the open region as the yield `o` of `from` does, and go on with the next region or end the
 * op. */
static void build_copy_yield(ir_builder *b, const ir_func *from, const ir_op *o, const ir_ref *in,
                             ir_ref *map) {
    const ir_op *owner = &from->ops.data[from->regions.data[o->parent].op];
    uint32_t next = o->parent - owner->region0 + 1, mine = b->f->regions.data[b->region].op;
    ir_region_end(b, o->nin, in);
    if (next < owner->nregion) {
        build_copy_region(b, from, owner, next, mine, map);
        return;
    }
    ir_ref r = ir_op_end(b, mine);
    for (uint32_t i = 0; i < owner->nout; i++) map[owner->out0 + i] = ir_result(r, i);
}

void ir_copy_op_with(ir_builder *b, const ir_func *from, const ir_op *o, const ir_ref *in,
                     ir_ref *map) {
    ir_attr_any attr;
    ir_loc loc = b->loc;
    if (b->error) return;
    ir_import_attr(b->m, from->module, o->attr, &attr);
    ir_loc_rec at = ir_loc_get(from->module, o->loc);
    b->loc = b->m == from->module ? o->loc : ir_intern_loc(b->m, at.file, at.line);
    if (o->code == OP_yield) {
        build_copy_yield(b, from, o, in, map);
    } else if (o->nregion) {
        uint32_t mine = ir_op_begin(b, (ir_opcode)o->code, &attr, o->nin, in, o->nregion);
        build_copy_region(b, from, o, 0, mine, map);
    } else {
        ir_ref r = ir_emit(b, (ir_opcode)o->code, &attr, o->nin, in);
        for (uint32_t i = 0; i < o->nout; i++) map[o->out0 + i] = ir_result(r, i);
    }
    b->loc = loc;
}

void ir_copy_op(ir_builder *b, const ir_func *from, uint32_t o, ir_ref *map) {
    const ir_op *op = &from->ops.data[o];
    ir_ref few[8] = {{0}}, *in = few;
    if (b->error) return;
    if (op->nin > 8) in = rt_alloc(b->m->alloc, op->nin * sizeof *in);
    if (in) {
        for (uint32_t k = 0; k < op->nin; k++) in[k] = map[ir_op_in(from, op, k).i];
        ir_copy_op_with(b, from, op, in, map);
    } else {
        build_no_memory(b);
    }
    if (in != few) rt_free(b->m->alloc, in, op->nin * sizeof *in);
}
