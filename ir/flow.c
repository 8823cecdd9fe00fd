/* flow.c - the types of `if`, `scan` and `while`: their type rules (infer.c says what they accept),
 * and what their regions take and yield (I11), for the builder and the verifier alike. */
#include "ir/infer.h"

#include <stdio.h>
#include <string.h>

int ir_region_count(ir_opcode op, const void *attr) {
    int64_t n;
    switch (op) {
    case OP_for:
    case OP_scan: return 1;
    case OP_kif:
    case OP_composite:
    case OP_while: return 2;
    case OP_if:
        n = ((const ir_attr_regions *)attr)->n;
        return n < 1 ? 1 : n > IR_MAX_BRANCHES ? IR_MAX_BRANCHES : (int)n;
    default: return 0;
    }
}

uint32_t ir_op_after(const ir_func *f, uint32_t o) {
    const ir_op *op = &f->ops.data[o];
    return op->nregion ? f->regions.data[op->region0 + op->nregion - 1u].end : o + 1;
}

/* --- Type rules ------------------------------------------------------------------------------- */

#define TYPE(t) IR_INFER_TYPE(t)
#define DIM(d)  IR_INFER_DIM(d)

static bool flow_is_scalar(const ir_type *t, ig_dtype d) {
    return t->dtype == d && !t->rank && !t->lanes && !t->mem;
}

const char *ir_ckpt_wrong(ir_opcode op, const void *attr) {
    const ir_attr_scan *scan = attr;
    const ir_attr_while *loop = attr;
    const ir_attr_regions *branch = attr;
    ir_field_ckpt v = op == OP_scan ? scan->ckpt : op == OP_while ? loop->ckpt : branch->ckpt;
    if (!ir_ckpt_is_valid(v))
        return "there is no such checkpoint policy; k(n) is for 1 to 2^20 states";
    if (v == IR_CKPT_AUTO || op == OP_scan) return NULL;
    if (op == OP_if)
        return v != IR_CKPT_ALL && v != IR_CKPT_DOTS ? "the policies sqrt and k(n) are for loops"
               : branch->n != 1 ? "the policies all and dots are for an if of one region"
                                : NULL;
    if (v == IR_CKPT_DOTS) return "the policy dots is not for while, which keeps states";
    return v > 0 || loop->cap ? NULL
                              : "the policies all and sqrt have room for as many trips as the cap "
                                "says, and the loop has none: give it a cap, or keep k(n) states";
}

static bool flow_check_ckpt(ir_infer *c, ir_opcode op) {
    const char *wrong = ir_ckpt_wrong(op, c->attr);
    return !wrong || ir_infer_fail(c, IG_INVALID, "%s", wrong);
}

bool ir_infer_if(ir_infer *c) {
    const ir_attr_regions *a = c->attr;
    c->nout = 0;
    if (!flow_check_ckpt(c, OP_if)) return false;
    if (a->n < 1 || a->n > IR_MAX_BRANCHES)
        return ir_infer_fail(c, IG_RANGE, "%lld regions; an if has 1 to %d", (long long)a->n,
                             IR_MAX_BRANCHES);
    if (flow_is_scalar(&c->in[0], IG_i32)) return true;
    if (!flow_is_scalar(&c->in[0], IG_bool))
        return ir_infer_fail(c, IG_DTYPE, "the condition is %s; a bool or i32 scalar is needed",
                             TYPE(&c->in[0]));
    return a->n == 2 || ir_infer_fail(c, IG_RANGE, "a bool chooses between two regions, not %lld",
                                      (long long)a->n);
}

bool ir_infer_scan(ir_infer *c) {
    const ir_attr_scan *a = c->attr;
    c->nout = 0;
    if (c->nin > IR_MAX_RESULTS)
        return ir_infer_fail(c, IG_INVALID, "%d operands; the limit is %d", c->nin, IR_MAX_RESULTS);
    if (a->carries < 0 || a->carries > c->nin)
        return ir_infer_fail(c, IG_RANGE, "%lld carried values of %d operands",
                             (long long)a->carries, c->nin);
    if (!flow_check_ckpt(c, OP_scan)) return false;
    if (a->n == IR_DIM_BAD || (!c->m && a->n < 0))
        return ir_infer_fail(c, IG_RANGE, "the number of steps is not a valid extent");
    for (int k = 0; k < c->nin; k++) {
        const ir_type *x = &c->in[k];
        if (!ir_infer_check_tensor(c, k)) return false;
        if (k >= a->carries && (!x->rank || x->dim[0] != a->n))
            return ir_infer_fail(c, IG_SHAPE,
                                 "operand %d is %s: a slice a step needs a first axis of %s", k,
                                 TYPE(x), DIM(a->n));
    }
    return true;
}

bool ir_infer_while(ir_infer *c) {
    const ir_attr_while *a = c->attr;
    if (a->cap < 0) return ir_infer_fail(c, IG_RANGE, "a cap of %lld trips", (long long)a->cap);
    if (!flow_check_ckpt(c, OP_while)) return false;
    if (c->nin > IR_MAX_RESULTS)
        return ir_infer_fail(c, IG_INVALID, "%d carried values; the limit is %d", c->nin,
                             IR_MAX_RESULTS);
    for (int k = 0; k < c->nin; k++) c->out[k] = c->in[k];
    c->nout = c->nin;
    return true;
}

bool ir_infer_composite(ir_infer *c) {
    c->nout = 0;
    if (c->nin >= IR_MAX_RESULTS)
        return ir_infer_fail(c, IG_INVALID, "%d operands; the limit is %d", c->nin,
                             IR_MAX_RESULTS - 1);
    for (int k = 0; k < c->nin; k++)
        if (!ir_infer_check_tensor(c, k)) return false;
    return true;
}

/* The results are tangents of the floats among y. */
bool ir_infer_pull(ir_infer *c) {
    const ir_attr_pull *a = c->attr;
    c->nout = 0;
    if (a->nx < 0 || a->ny < 0 || a->nx > c->nin || a->ny > c->nin - a->nx ||
        a->ny > IR_MAX_RESULTS)
        return ir_infer_fail(c, IG_INVALID, "%d operands are fewer than a rule needs", c->nin);
    for (int64_t k = 0; k < a->ny; k++)
        if (rt_is_float((ig_dtype)c->in[a->nx + k].dtype)) c->out[c->nout++] = c->in[a->nx + k];
    return true;
}

/* --- Messages --------------------------------------------------------------------------------- */

/* Types print into a buffer of their own. */
static void *flow_lend(void *user, void *ptr, size_t old_size, size_t new_size, size_t align) {
    (void)ptr, (void)old_size, (void)align;
    return new_size && new_size <= 128 ? user : NULL;
}

static void flow_type_text(const ir_flow *c, const ir_type *t, char text[128]) {
    ig_allocator lend = {flow_lend, text};
    rt_str s;
    text[0] = 0;
    rt_str_init(&s, &lend);
    ir_type_print(c->f->module, t, &s);
}

/* Whether what number k is has the type it should have. */
static bool flow_same(ir_flow *c, const char *what, uint32_t k, const ir_type *is,
                      const ir_type *want) {
    char have[128], need[128];
    if (ir_type_eq(is, want)) return true;
    flow_type_text(c, is, have);
    flow_type_text(c, want, need);
    snprintf(c->message, sizeof c->message, "%s %u is %s, not %s", what, k, have, need);
    return false;
}

static bool flow_count(ir_flow *c, const char *what, uint32_t is, uint32_t want) {
    if (is == want) return true;
    snprintf(c->message, sizeof c->message, "%s %u values, not %u", what, is, want);
    return false;
}

/* --- Regions ---------------------------------------------------------------------------------- */

static const ir_region *flow_region(const ir_flow *c, uint32_t k) {
    return &c->f->regions.data[c->o->region0 + k];
}

static const ir_op *flow_yield(const ir_flow *c, uint32_t k) {
    return &c->f->ops.data[flow_region(c, k)->end - 1];
}

static const ir_type *flow_yielded(const ir_flow *c, uint32_t k, uint32_t i) {
    return ir_val_type(c->f, ir_op_in(c->f, flow_yield(c, k), i));
}

static const ir_type *flow_param(const ir_flow *c, uint32_t k, uint32_t i) {
    return ir_val_type(c->f, (ir_ref){flow_region(c, k)->param0 + i});
}

static const ir_type *flow_operand(const ir_flow *c, uint32_t i) {
    return ir_val_type(c->f, ir_op_in(c->f, c->o, i));
}

static bool flow_if(ir_flow *c) {
    c->nout = flow_yield(c, 0)->nin;
    if (c->nout > IR_MAX_RESULTS) return flow_count(c, "a region yields", c->o->nin, 0);
    for (int i = 0; i < c->nout; i++) c->out[i] = *flow_yielded(c, 0, (uint32_t)i);
    for (uint32_t k = 0; k < c->o->nregion; k++) {
        if (!flow_count(c, "a region takes", flow_region(c, k)->nparam, 0) ||
            !flow_count(c, "a later region yields", flow_yield(c, k)->nin, (uint32_t)c->nout))
            return false;
        for (int i = 0; i < c->nout; i++)
            if (!flow_same(c, "a later region's value", (uint32_t)i,
                           flow_yielded(c, k, (uint32_t)i), &c->out[i]))
                return false;
    }
    return true;
}

/* The region takes the step, the carried values and slices. */
static bool flow_scan_params(ir_flow *c, uint32_t carries) {
    ir_type step = ir_scalar_type(IG_i64);
    if (!flow_count(c, "the region takes", flow_region(c, 0)->nparam, c->o->nin + 1u) ||
        !flow_same(c, "region parameter", 0, flow_param(c, 0, 0), &step))
        return false;
    for (uint32_t i = 0; i < c->o->nin; i++) {
        ir_type t = *flow_operand(c, i);
        if (i >= carries) t = ir_tensor_type((ig_dtype)t.dtype, t.rank - 1, t.dim + 1);
        if (!flow_same(c, "region parameter", i + 1, flow_param(c, 0, i + 1), &t)) return false;
    }
    return true;
}

static bool flow_scan(ir_flow *c) {
    const ir_attr_scan *a = ir_attr_get(c->f->module, c->o->attr);
    uint32_t carries = (uint32_t)a->carries, n = flow_yield(c, 0)->nin;
    if (!flow_scan_params(c, carries)) return false;
    if (n < carries || n > IR_MAX_RESULTS) return flow_count(c, "the region yields", n, carries);
    for (uint32_t i = 0; i < n; i++) {
        ir_type t = *flow_yielded(c, 0, i);
        if (i < carries && !flow_same(c, "carried value", i, &t, flow_operand(c, i))) return false;
        if (i >= carries) {
            if (t.rank == IG_MAX_RANK) {
                snprintf(c->message, sizeof c->message, "yielded value %u has %d axes already", i,
                         IG_MAX_RANK);
                return false;
            }
            memmove(t.dim + 1, t.dim, t.rank * sizeof *t.dim);
            t.dim[0] = a->n;
            t.rank++;
        }
        c->out[i] = t;
    }
    c->nout = (int)n;
    return true;
}

static bool flow_while(ir_flow *c) {
    ir_type truth = ir_scalar_type(IG_bool);
    for (uint32_t k = 0; k < 2; k++) {
        if (!flow_count(c, "a region takes", flow_region(c, k)->nparam, c->o->nin)) return false;
        for (uint32_t i = 0; i < c->o->nin; i++)
            if (!flow_same(c, "region parameter", i, flow_param(c, k, i), flow_operand(c, i)))
                return false;
    }
    if (!flow_count(c, "the condition yields", flow_yield(c, 0)->nin, 1) ||
        !flow_same(c, "the condition's value", 0, flow_yielded(c, 0, 0), &truth) ||
        !flow_count(c, "the body yields", flow_yield(c, 1)->nin, c->o->nin))
        return false;
    for (uint32_t i = 0; i < c->o->nin; i++) {
        c->out[i] = *flow_operand(c, i);
        if (!flow_same(c, "carried value", i, flow_yielded(c, 1, i), &c->out[i])) return false;
    }
    c->nout = c->o->nin;
    return true;
}

static bool flow_is_float(const ir_type *t) { return rt_is_float((ig_dtype)t->dtype); }

/* The region of a rule takes x.., y.. and the derivatives `in` of the floats among n values, and
 * yields those of the floats among the others. */
static bool flow_rule(ir_flow *c, uint32_t k, uint32_t nx, const ir_type *y, uint32_t ny,
                      bool lin) {
    uint32_t param = 0, yields = 0;
    const ir_region *r = flow_region(c, k);
    for (uint32_t pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < nx + ny; i++) {
            const ir_type *t = i < nx ? flow_operand(c, i) : &y[i - nx];
            bool derives = flow_is_float(t) && (i < nx) == lin;
            if (pass && !derives) continue;
            if (param == r->nparam) return flow_count(c, "the rule takes", r->nparam, param + 1);
            if (!flow_same(c, "the rule's parameter", param, flow_param(c, k, param), t))
                return false;
            param++;
        }
    if (!flow_count(c, "the rule takes", r->nparam, param)) return false;
    for (uint32_t i = 0; i < nx + ny; i++) {
        const ir_type *t = i < nx ? flow_operand(c, i) : &y[i - nx];
        if (!flow_is_float(t) || (i < nx) == lin) continue;
        if (yields < flow_yield(c, k)->nin &&
            !flow_same(c, "the rule's value", yields, flow_yielded(c, k, yields), t))
            return false;
        yields++;
    }
    return flow_count(c, "the rule yields", flow_yield(c, k)->nin, yields);
}

static bool flow_composite(ir_flow *c) {
    const ir_attr_composite *a = ir_attr_get(c->f->module, c->o->attr);
    uint32_t n = flow_yield(c, 0)->nin;
    if (!flow_count(c, "its body takes", flow_region(c, 0)->nparam, c->o->nin)) return false;
    for (uint32_t i = 0; i < c->o->nin; i++)
        if (!flow_same(c, "parameter", i, flow_param(c, 0, i), flow_operand(c, i))) return false;
    if (!n || n > IR_MAX_RESULTS) return flow_count(c, "its body gives", n, n ? IR_MAX_RESULTS : 1);
    for (uint32_t i = 0; i < n; i++) c->out[i] = *flow_yielded(c, 0, i);
    c->nout = (int)n;
    return flow_rule(c, 1, c->o->nin, c->out, n, a->rule == IR_rule_lin);
}

bool ir_flow_check(ir_flow *c) {
    c->nout = 0;
    c->message[0] = 0;
    switch (c->o->code) {
    case OP_if: return flow_if(c);
    case OP_scan: return flow_scan(c);
    case OP_composite: return flow_composite(c);
    default: return flow_while(c);
    }
}
