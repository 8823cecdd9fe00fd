/* grad_needs.c - which values of an op its derivative reads.
 *
 * A gradient scope holds values for the sake of rules, and most rules read few: those of add none,
 * that of exp its result.  What a rule reads is found by using it: the pullback of the op alone
 * says which values it asks for.  An answer is kept by op, attribute and types. */
#include "frontend/grad_needs.h"
#include "passes/transform.h"
#include "runtime/base/hash.h"
#include <string.h>

/* The op on parameters; the sum of its result. */
static ig_status needs_build(ir_module *m, const fe_rec *r, const rec_node *n) {
    ir_builder b;
    ir_ref in[GRAD_NEED_OPERANDS], y;
    ir_attr_any attr;
    ir_build_begin(&b, m, "op", IR_FN, IR_BUILD_RAW);
    for (uint32_t k = 0; k < n->nin; k++) {
        uint32_t val = r->operands.data[n->in0 + k];
        in[k] = ir_param(&b, ir_import_type(m, r->module, r->values.data[val].type), NULL);
    }
    ir_import_attr(m, r->module, n->attr, &attr);
    y = ir_emit(&b, (ir_opcode)n->op, &attr, (int)n->nin, in);
    ir_attr_reduce sum = {.op = IR_redop_sum, .axes = {.n = ir_type_of(&b, y).rank}};
    for (uint8_t i = 0; i < sum.axes.n; i++) sum.axes.a[i] = i;
    if (sum.axes.n) y = ir_emit1(&b, OP_reduce, &sum, y);
    return ir_build_end(&b, 1, &y, NULL);
}

/* Ask the pullback; whatever it cannot say is all. */
static uint32_t needs_ask(const fe_rec *r, const rec_node *n) {
    const ig_allocator *a = r->session->alloc;
    uint32_t wrt[GRAD_NEED_OPERANDS], nwrt = 0, needs = 0;
    ir_module *m, *back = NULL;
    pass_numbers given = {0};
    for (uint32_t k = 0; k < n->nin; k++)
        if (rt_is_float(r->values.data[r->operands.data[n->in0 + k]].type.dtype)) wrt[nwrt++] = k;
    if (!nwrt || !rt_is_float(r->values.data[n->out].type.dtype)) return 0;
    ig_status s = ir_module_new(a, "op", &m);
    if (!s) {
        m->class = r->session->class;
        s = needs_build(m, r, n);
        if (!s) s = pass_pullback(m, nwrt, wrt, &back, &given);
        ir_module_free(m);
    }
    for (uint32_t i = 0; i < given.n; i++)
        needs |= given.data[i] <= n->nin ? 1u << (given.data[i] - 1) : GRAD_NEED_RESULT;
    rt_vec_free(a, &given);
    ir_module_free(back);
    if (!s) return needs;
    ig_status_free(s);
    return GRAD_NEED_ALL;
}

uint32_t fe_grad_needs(grad_need *kept, const fe_rec *r, const rec_node *n) {
    grad_need key = {.op = n->op + 1u, .attr = n->attr.i, .nin = n->nin};
    if (n->part != REC_WHOLE || n->nout != 1 || n->nin > GRAD_NEED_OPERANDS || r->open.n)
        return GRAD_NEED_ALL;
    for (uint32_t k = 0; k < n->nin; k++) {
        key.type[k] = ir_intern_type(r->module, &r->values.data[r->operands.data[n->in0 + k]].type);
        if (key.type[k] == UINT32_MAX) return GRAD_NEED_ALL;
    }
    grad_need *at = &kept[rt_hash(&key, sizeof key, 0) % GRAD_NEEDS];
    key.needs = at->needs;
    if (memcmp(at, &key, sizeof key) != 0) {
        key.needs = needs_ask(r, n);
        *at = key;
    }
    return at->needs;
}
