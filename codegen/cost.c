/* cost.c - what a kernel is estimated to cost, so that an executor can tell whether a launch is
 * worth splitting.
 *
 * An estimate in picoseconds as a polynomial of the dims, evaluated by the host program before the
 * launch: every op of the cluster once an element, every byte that comes from or goes to memory.
 * It is a hint: a wrong one costs time, never bits, and nothing checks its arithmetic at run time.
 * bench/pool.c prints it beside the measured time; within a factor of 3 or so is what the
 * executor's threshold needs. */
#include "codegen/lower.h"

/* Of one core; measured on AVX2 at about 3 GHz: two vector instructions a cycle that wait for each
 * other now and then, and memory that is mostly in the second-level cache. */
#define COST_PS_VECTOR 200 /* one operation on a whole vector register */
#define COST_PS_BYTE   25
/* Operations that these count as: */
#define COST_DIVIDE 8                 /* a float division or square root */
#define COST_SCALAR 64                /* integer division, which no vector unit does */
#define COST_GATHER 40                /* an element that does not lie beside its neighbour */
#define COST_SORT   400               /* an element of a sort, in all its passes */
#define COST_HALF   12                /* from 16 bits to a register, or back */
#define COST_MAX    ((ir_dim)1 << 62) /* picoseconds: what cannot be counted is long */

typedef struct cost {
    const cg_low *l;
    ir_module *m;
    ir_dim sum;
} cost;

/* Add n elements at so many picoseconds each. */
static void cost_add(cost *c, ir_dim n, int64_t ps) {
    c->sum = ir_dim_add(c->m, c->sum, ir_dim_mul(c->m, n, ps ? ps : 1));
}

/* Picoseconds of one operation, in whole vectors. */
static int64_t cost_each(const cost *c, ig_dtype d) {
    return (int64_t)rt_dtype_bytes(cg_reg(d)) * 8 * COST_PS_VECTOR / c->l->cpu->vector_bits;
}

/* n elements through memory. */
static void cost_memory(cost *c, ir_dim n, const ir_type *t) {
    ig_dtype d = (ig_dtype)t->dtype;
    int64_t half = cg_reg(d) == d ? 0 : COST_HALF * cost_each(c, d);
    cost_add(c, n, (int64_t)rt_dtype_bytes(d) * COST_PS_BYTE + half);
}

static int64_t cost_body(const ir_func *f) {
    int64_t n = 0;
    for (uint32_t i = 0; i < f->ops.n; i++) n += f->ops.data[i].code != OP_const;
    return n;
}

/* Operations an element: those of its body for a transcendental function, which lowering built. */
static int64_t cost_ops(const cost *c, const ir_op *o, ig_dtype d) {
    const cg_kernel *k = &c->l->k;
    if (o->code == OP_transpose) {
        const ir_attr_perm *a = ir_attr_get(c->l->f->module, o->attr);
        return a->perm.n && a->perm.a[a->perm.n - 1] != a->perm.n - 1 ? COST_GATHER : 1;
    }
    if (o->code == OP_sort) return COST_SORT;
    bool divides = o->code == OP_div || o->code == OP_rem;
    for (uint32_t i = 0; i < k->bodies.n; i++)
        if (k->bodies.data[i]->op == o->code) return cost_body(k->bodies.data[i]->b.f);
    if (divides && !rt_is_float(d)) return COST_SCALAR;
    return divides || o->code == OP_sqrt ? COST_DIVIDE : 1;
}

/* How often the op works: once an element of its result, of its operand when it reduces, or of the
 * whole iteration space. */
static ir_dim cost_steps(const cost *c, const ir_op *o) {
    const ir_func *f = c->l->f;
    if (o == c->l->update) return ir_type_numel(c->m, ir_val_type(f, ir_op_in(f, o, 1)));
    if (o->code == OP_reduce) return ir_type_numel(c->m, ir_val_type(f, ir_op_in(f, o, 0)));
    if (o->code != OP_ein) return ir_type_numel(c->m, ir_val_type(f, ir_op_out(o, 0)));
    const ir_rel *rel = &((const ir_attr_ein *)ir_attr_get(f->module, o->attr))->rel;
    ir_dim n = ir_type_numel(c->m, ir_val_type(f, ir_op_out(o, 0))), extent[IR_EIN_VARS];
    ir_type in[IR_EIN_OPERANDS];
    int operand, axis;
    for (int i = 0; i < rel->nin; i++) in[i] = *ir_val_type(f, ir_op_in(f, o, (uint32_t)i));
    ir_ein_extents(rel, in, extent, &operand, &axis);
    for (int i = 0; i < rel->norder; i++) n = ir_dim_mul(c->m, n, extent[rel->order[i]]);
    return n;
}

/* How often the loop goes round that an op stands in. */
static ir_dim cost_trips(const cost *c, const ir_op *o) {
    const ir_func *f = c->l->f;
    const ir_op *loop = &f->ops.data[f->regions.data[o->parent].op];
    return ((const ir_attr_scan *)ir_attr_get(f->module, loop->attr))->n;
}

static void cost_op(cost *c, const ir_op *o) {
    const ir_func *f = c->l->f;
    if (o->code == OP_const || o->code == OP_return || !o->nout) return;
    const ir_type *t = ir_val_type(f, ir_op_out(o, 0));
    ig_dtype d = (ig_dtype)t->dtype;
    ir_dim n = cost_steps(c, o);
    if (o->nregion) return;
    if (o->parent) n = ir_dim_mul(c->m, n, cost_trips(c, o));
    cost_add(c, n, cost_ops(c, o, d) * cost_each(c, d));
    bool part = o->code == OP_slice || o->code == OP_dslice ||
                o->code == OP_gather; /* does not read all there is */
    for (uint32_t i = 0; i < o->nin; i++) {
        ir_ref x = ir_op_in(f, o, i);
        if (ir_def_op(f, x) || (o == c->l->update && !i)) continue;
        const ir_type *xt = ir_val_type(f, x);
        cost_memory(c, part ? n : ir_type_numel(c->m, xt), xt);
    }
}

ir_dim cg_cost(const cg_low *l) {
    cost c = {.l = l, .m = l->k.b.m};
    for (uint32_t i = 0; i < l->f->ops.n; i++) cost_op(&c, &l->f->ops.data[i]);
    for (uint32_t i = 0; i < l->f->results.n; i++) {
        const ir_type *t = l->update ? cg_type(l, ir_op_in(l->f, l->update, 1))
                                     : ir_result_type(l->f, i);
        cost_memory(&c, ir_type_numel(c.m, t), t);
    }
    return c.sum == IR_DIM_BAD ? COST_MAX : c.sum;
}
