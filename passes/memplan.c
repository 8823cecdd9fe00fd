/* memplan.c - a place for every call result, decided before anything runs.
 *
 * Input: a fused function: weights, constants, reshapes and calls.  A result that is returned,
 * possibly through reshapes, lives in that output.  Every other lives in the one workspace, at an
 * offset that is a multiple of 64.
 *
 * A block is memory with one lifetime: from the call that writes it to the last call that reads
 * it.  Reshapes are the same block.  A result takes over the block of an operand that dies at this
 * very call when the cluster has no contraction, reads the operand at the index it writes and
 * nowhere else, and the sizes match: each element is read before it is overwritten, in whatever
 * order and split the kernel runs.  A kernel with several results reads all it needs for an index
 * before it writes there.  Or when the cluster is an update (dupdate, scatter) of the operand, and
 * reads it for nothing else: then the kernel writes what is updated, and nothing is copied.
 *
 * Blocks of constant size are packed together: the largest first, each at the lowest offset where
 * nothing that lives at the same time is in the way (within a few percent of optimal on real
 * programs, and simple).  A block of symbolic size shares a slot with blocks that are dead by then
 * and provably not smaller or not larger; slots follow the constant part one after the other.
 * Offsets are dims, evaluated when the program runs.
 *
 * Regions.  A value that is used inside of an op with regions, and made outside, lives until that
 * op ends.  The elements that a scan stacks are written where they belong in the result, and what
 * an `if` yields is written to its result.  A loop has one block for a value that it carries where
 * the call that makes the next one may take over that of the one before.  Else it has two: that of
 * the operand, which nobody else reads (passes/outline.c), and that of the call; the host program
 * lets them change places with every trip (codegen/flow.c).  A carried value that goes through a
 * loop in the body is carried there in the same blocks.
 *
 * Parameters, weights and constants are never written.  Cost: quadratic in the number of blocks at
 * worst. */
#include "passes/pass.h"
#include "runtime/base/plant.h"

#include <string.h>

#define PLAN_ALIGN  RT_ALIGN_BUFFER
#define PLAN_NO_OUT UINT32_MAX

typedef struct plan_block {
    uint32_t first, last; /* ops: written by first, last read by last */
    uint32_t out;         /* output number, or PLAN_NO_OUT */
    ir_dim bytes;         /* rounded up to PLAN_ALIGN */
    ir_dim at;            /* offset in the workspace; IR_DIM_BAD until it is placed */
} plan_block;

/* Memory of symbolic size that blocks use one after the other. */
typedef struct plan_slot {
    ir_dim bytes, at;
    uint32_t last; /* of its newest block */
} plan_slot;

typedef struct plan {
    const ir_func *f;          /* borrowed */
    const ig_allocator *alloc; /* borrowed */
    ir_module *out;            /* borrowed; its dims are computed with */
    ir_ref *base;              /* value -> the value whose memory it is */
    uint32_t *block;           /* base value -> block + 1, or 0: not ours to write */
    uint32_t *last;            /* base value -> last op that reads it */
    uint32_t *role;            /* base value -> the result of a region op that it becomes, or 0 */
    uint8_t *in;               /* value -> operand + 1 that it lies in, or 0 */
    RT_VEC(plan_block) blocks;
    RT_VEC(plan_slot) slots;
    RT_VEC(uint32_t) slot_of; /* block -> slot + 1, or 0 */
    RT_VEC(uint32_t) order;   /* blocks of constant size, the largest first */
    ig_status error;          /* owned */
} plan;

static bool plan_fail(plan *p, ig_status s) {
    if (p->error)
        ig_status_free(s);
    else
        p->error = s;
    return false;
}

/* A size is not known: memory is out, or it is too large. */
static bool plan_fail_size(plan *p, const char *what) {
    if (ir_dims_lacked_memory(p->out)) return plan_fail(p, rt_fail_memory());
    return plan_fail(p, rt_fail(p->alloc, IG_RANGE, "@%s: %s is too large", p->f->name, what));
}

/* --- Sizes ---------------------------------------------------------------------------------- */

static ir_dim plan_round(ir_module *m, ir_dim bytes) {
    ir_dim up = ir_dim_add(m, bytes, PLAN_ALIGN - 1);
    return ir_dim_mul(m, ir_dim_floordiv(m, up, PLAN_ALIGN), PLAN_ALIGN);
}

/* Of so many values one after the other. */
static ir_dim plan_stacked(ir_module *m, const ir_type *t, ir_dim n) {
    ir_dim bytes = ir_dim_mul(m, ir_type_numel(m, t), (ir_dim)rt_dtype_bytes((ig_dtype)t->dtype));
    return plan_round(m, ir_dim_mul(m, n, bytes));
}

static ir_dim plan_bytes(ir_module *m, const ir_type *t) { return plan_stacked(m, t, 1); }

/* --- In place ------------------------------------------------------------------------------- */

/* Whether parameter k of a cluster is only read at the index that is written: everything computed
 * from it is elementwise, and the kernel takes no element twice. */
static ig_status plan_fill_pointwise(const ig_allocator *a, const ir_func *c, uint32_t k,
                                     bool *plain_) {
    bool *from = rt_alloc_zero(a, c->values.n * sizeof *from), plain = true;
    if (!from) return rt_fail_memory();
    from[ir_param_ref(c, k).i] = true; /* values computed from the parameter */
    for (uint32_t i = 0; i < c->ops.n && plain; i++) {
        const ir_op *o = &c->ops.data[i];
        bool reads = false, ew = ir_is_elementwise((ir_opcode)o->code);
        for (uint32_t j = 0; j < o->nin; j++) reads |= from[ir_op_in(c, o, j).i];
        if (reads && !ew && o->code != OP_detach && o->code != OP_return) plain = false;
        if (o->code == OP_cumred || o->code == OP_ein) plain = false; /* tiles overlap */
        if (o->nout) from[o->out0] = reads;
    }
    rt_free(a, from, c->values.n * sizeof *from);
    *plain_ = plain;
    return NULL;
}

static bool plan_is_pointwise(plan *p, const ir_func *c, uint32_t k) {
    bool plain = false;
    ig_status s = plan_fill_pointwise(p->alloc, c, k, &plain);
    return s ? plan_fail(p, s) : plain;
}

const ir_op *pass_update_of(const ir_func *c, uint32_t k) {
    const ir_op *ret = ir_return_op(c), *o = ret->nin ? ir_def_op(c, ir_op_in(c, ret, 0)) : NULL;
    uint32_t reads = 0, param = ir_param_ref(c, k).i;
    if (ret->nin != 1 || !o || (o->code != OP_dupdate && o->code != OP_scatter)) return NULL;
    for (uint32_t i = 0; i < c->operands.n; i++) reads += c->operands.data[i].i == param;
    return reads == 1 && ir_op_in(c, o, 0).i == param ? o : NULL;
}

/* Whether nothing reads the memory of operand k after this call, which reads it as this operand
 * alone, and it could hold the result. */
static bool plan_dies(const plan *p, uint32_t op, uint32_t k, const ir_type *result) {
    const ir_op *o = &p->f->ops.data[op];
    ir_ref base = p->base[ir_op_in(p->f, o, k).i];
    const ir_type *t = ir_val_type(p->f, ir_op_in(p->f, o, k));
    uint32_t times = 0;
    for (uint32_t j = 0; j < o->nin; j++) times += p->base[ir_op_in(p->f, o, j).i].i == base.i;
    return p->last[base.i] == op && times == 1 && ir_same_dims(t, result) &&
           rt_dtype_bytes((ig_dtype)t->dtype) == rt_dtype_bytes((ig_dtype)result->dtype);
}

/* Whether one of the results of a call before number r has the block. */
static bool plan_is_taken(const plan *p, const ir_op *o, uint32_t r, uint32_t id) {
    bool taken = false;
    for (uint32_t j = 0; j < r; j++) taken |= p->block[ir_op_out(o, j).i] == id;
    return taken;
}

/* The block of an operand that the call may write its result number r into; 0: there is none. */
static uint32_t plan_reuse(plan *p, uint32_t op, const ir_func *callee, uint32_t r) {
    const ir_op *o = &p->f->ops.data[op];
    ir_ref v = ir_op_out(o, r);
    for (uint32_t k = 0; k < o->nin && k < UINT8_MAX; k++) {
        uint32_t id = p->block[p->base[ir_op_in(p->f, o, k).i].i];
        if (!id || plan_is_taken(p, o, r, id)) continue;
        if (p->blocks.data[id - 1].out != PLAN_NO_OUT) continue;
        if (!plan_dies(p, op, k, ir_val_type(p->f, v))) continue;
        bool update = pass_update_of(callee, k);
        if (update) p->in[v.i] = (uint8_t)(k + 1);
        if (update || plan_is_pointwise(p, callee, k)) return id;
        if (p->error) return 0;
    }
    return 0;
}

/* How many of the results of a region op are carried values. */
static uint32_t plan_carries(const plan *p, const ir_op *o) {
    if (o->code == OP_scan)
        return (uint32_t)((const ir_attr_scan *)ir_attr_get(p->f->module, o->attr))->carries;
    return o->code == OP_while ? o->nin : 0;
}

/* The block that carried value k of a loop begins in: that of the operand, or of what the loop
 * around it, or one before it, carries there. */
static uint32_t plan_carried(const plan *p, const ir_op *o, uint32_t k) {
    const ir_func *f = p->f;
    for (;;) {
        ir_ref v = p->base[ir_op_in(f, o, k).i];
        const ir_region *r = &f->regions.data[ir_home(f, v)];
        const ir_op *made = ir_def_op(f, v);
        if (made ? !plan_carries(p, made) : r == f->regions.data) return p->block[v.i];
        o = made ? made : &f->ops.data[r->op];
        k = made ? v.i - o->out0 : v.i - r->param0 - (o->code == OP_scan);
        if (k >= plan_carries(p, o)) return made ? p->block[v.i] : 0;
    }
}

/* The same where it is the next one of a carried value of loop `loop`: only into that value. */
static uint32_t plan_reuse_carried(plan *p, uint32_t op, const ir_func *callee, uint32_t r,
                                   const ir_op *loop) {
    const ir_op *o = &p->f->ops.data[op];
    ir_ref v = ir_op_out(o, r);
    uint32_t carry = p->role[v.i] - 1, first = p->f->regions.data[o->parent].param0;
    ir_ref was = {first + (loop->code == OP_scan) + carry};
    for (uint32_t k = 0; k < o->nin && k < UINT8_MAX; k++) {
        if (p->base[ir_op_in(p->f, o, k).i].i != was.i) continue;
        if (!plan_dies(p, op, k, ir_val_type(p->f, v))) return 0;
        if (!pass_update_of(callee, k) && !plan_is_pointwise(p, callee, k)) return 0;
        uint32_t id = plan_carried(p, loop, carry);
        if (plan_is_taken(p, o, r, id)) return 0;
        p->in[v.i] = (uint8_t)(k + 1);
        return id;
    }
    return 0;
}

/* --- Lifetimes ------------------------------------------------------------------------------ */

/* Op number i reads a value: when it stands inside of ops that the value stands outside of, until
 * these end. */
static void plan_use(plan *p, ir_ref v, uint32_t i) {
    const ir_func *f = p->f;
    uint32_t until = ir_op_after(f, i) - 1, home = ir_home(f, v);
    for (uint32_t r = f->ops.data[i].parent; r != home; r = f->regions.data[r].parent)
        until = ir_op_after(f, f->regions.data[r].op) - 1;
    if (until > p->last[v.i]) p->last[v.i] = until;
}

/* What a yield gives becomes results of the op; not the condition of a while. */
static void plan_fill_roles(plan *p, const ir_op *yield) {
    const ir_op *o = &p->f->ops.data[p->f->regions.data[yield->parent].op];
    if (o->code == OP_while && yield->parent == o->region0) return;
    for (uint32_t k = 0; k < yield->nin; k++)
        p->role[p->base[ir_op_in(p->f, yield, k).i].i] = k + 1;
}

/* What one loop carried and the next one goes on with lives as long as that. */
static void plan_extend_lives(plan *p) {
    const ir_func *f = p->f;
    for (uint32_t i = f->ops.n; i-- > 0;) {
        const ir_op *o = &f->ops.data[i];
        for (uint32_t k = 0; k < plan_carries(p, o); k++) {
            uint32_t v = p->base[ir_op_in(f, o, k).i].i, last = p->last[o->out0 + k];
            if (ir_def_op(f, (ir_ref){v}) && last > p->last[v]) p->last[v] = last;
        }
    }
}

/* Find the memory behind every value, and the last op that reads it. */
static void plan_fill_lives(plan *p) {
    const ir_func *f = p->f;
    for (uint32_t i = 0; i < f->values.n; i++) p->base[i] = (ir_ref){i};
    for (uint32_t i = 0; i < f->ops.n; i++) {
        const ir_op *o = &f->ops.data[i];
        for (uint32_t k = 0; k < o->nin; k++) plan_use(p, p->base[ir_op_in(f, o, k).i], i);
        if (o->code == OP_yield) plan_fill_roles(p, o);
        if (o->code == OP_reshape) p->base[o->out0] = p->base[ir_op_in(f, o, 0).i];
    }
    plan_extend_lives(p);
}

static bool plan_add_block(plan *p, plan_block b) {
    if (b.bytes == IR_DIM_BAD) return plan_fail_size(p, "a value");
    if (rt_vec_push(p->alloc, &p->blocks, b) && rt_vec_push(p->alloc, &p->slot_of, 0)) return true;
    return plan_fail(p, rt_fail_memory());
}

/* Blocks of the results of a region op, and the block of every value that it carries: from the op
 * on, as long as its result is read. */
static void plan_flow(plan *p, uint32_t op, const uint32_t *out_of) {
    const ir_op *o = &p->f->ops.data[op];
    uint32_t carries = plan_carries(p, o), end = ir_op_after(p->f, op) - 1;
    for (uint32_t k = 0; k < o->nout && !p->error; k++) {
        ir_ref v = ir_op_out(o, k);
        if (p->last[v.i] < end) p->last[v.i] = end;
        if (k < carries) {
            uint32_t id = plan_carried(p, o, k);
            if (!id)
                plan_fail(p, rt_fail(p->alloc, IG_INVALID,
                                     "@%s: a loop carries what no call made for it: run the pass "
                                     "fuse before memplan",
                                     p->f->name));
            else if (p->blocks.data[id - 1].last < p->last[v.i])
                p->blocks.data[id - 1].last = p->last[v.i];
            continue;
        }
        ir_type mine = ir_import_type(p->out, p->f->module, *ir_val_type(p->f, v));
        if (plan_add_block(p, (plan_block){op, p->last[v.i], out_of[v.i], plan_bytes(p->out, &mine),
                                           IR_DIM_BAD}))
            p->block[v.i] = p->blocks.n;
    }
}

/* The block of a call's result that becomes a result of the op around it; 0: its own. */
static uint32_t plan_role(plan *p, uint32_t call, const ir_func *callee, uint32_t r,
                          uint32_t *first_, uint32_t *last_) {
    const ir_func *f = p->f;
    ir_ref v = ir_op_out(&f->ops.data[call], r);
    if (!p->role[v.i]) return 0;
    uint32_t op = f->regions.data[f->ops.data[call].parent].op, k = p->role[v.i] - 1;
    const ir_op *o = &f->ops.data[op];
    if (k >= plan_carries(p, o)) return p->block[ir_op_out(o, k).i];
    uint32_t through = op, at = k;
    while (p->role[f->ops.data[through].out0 + at]) { /* what the loop around it carries */
        at = p->role[f->ops.data[through].out0 + at] - 1;
        through = f->regions.data[f->ops.data[through].parent].op;
    }
    *first_ = through;
    *last_ = p->last[f->ops.data[through].out0 + at];
    return plan_reuse_carried(p, call, callee, r, o);
}

/* Give every result of a call a block. */
static void plan_call(plan *p, uint32_t op, const uint32_t *out_of) {
    const ir_op *o = &p->f->ops.data[op];
    const ir_attr_call *a = ir_attr_get(p->f->module, o->attr);
    const ir_func *callee = a->callee ? ir_find_func(p->f->module, a->callee) : NULL;
    if (!callee || callee->kind != IR_CLUSTER || o->nout > IG_MAX_RANK) {
        plan_fail(p, rt_fail(p->alloc, IG_INVALID,
                             "@%s calls what is not a cluster: run the pass fuse before "
                             "memplan",
                             p->f->name));
        return;
    }
    for (uint32_t k = 0; k < o->nout && !p->error; k++) {
        ir_ref v = ir_op_out(o, k);
        const ir_type *t = ir_val_type(p->f, v);
        uint32_t last = p->last[v.i] > op ? p->last[v.i] : op, out = out_of[v.i], first = op;
        uint32_t id = plan_role(p, op, callee, k, &first, &last);
        if (id || p->error) {
            p->block[v.i] = id;
            continue;
        }
        if (out == PLAN_NO_OUT && !p->role[v.i]) id = plan_reuse(p, op, callee, k);
        if (id) {
            p->blocks.data[id - 1].last = last;
        } else {
            ir_type mine = ir_import_type(p->out, p->f->module, *t);
            if (!plan_add_block(
                    p, (plan_block){first, last, out, plan_bytes(p->out, &mine), IR_DIM_BAD}))
                return;
            id = p->blocks.n;
        }
        p->block[v.i] = id;
    }
}

/* Which output each value is returned as; an error when it is not a call's own result. */
static void plan_fill_outs(plan *p, uint32_t *out_of) {
    const ir_func *f = p->f;
    const ir_op *ret = ir_return_op(f);
    for (uint32_t i = 0; i < f->values.n; i++) out_of[i] = PLAN_NO_OUT;
    for (uint32_t k = 0; k < ret->nin; k++) {
        ir_ref base = p->base[ir_op_in(f, ret, k).i];
        const ir_op *o = ir_def_op(f, base);
        bool own = o && (o->code == OP_call || o->code == OP_if || o->code == OP_scan);
        if (own) own = base.i - o->out0 >= plan_carries(p, o);
        if (!own || out_of[base.i] != PLAN_NO_OUT) {
            plan_fail(p, rt_fail(p->alloc, IG_INVALID,
                                 "result %u of @%s is not a call's own result: run the "
                                 "pass fuse before memplan",
                                 k, f->name));
            return;
        }
        out_of[base.i] = k;
    }
}

static void plan_fill_blocks(plan *p) {
    const ir_func *f = p->f;
    uint32_t *out_of = rt_alloc(p->alloc, f->values.n * sizeof *out_of);
    if (!out_of) {
        plan_fail(p, rt_fail_memory());
        return;
    }
    plan_fill_outs(p, out_of);
    for (uint32_t i = 0; i < f->ops.n && !p->error; i++) {
        if (f->ops.data[i].code == OP_call) plan_call(p, i, out_of);
        if (f->ops.data[i].nregion) plan_flow(p, i, out_of);
    }
    rt_free(p->alloc, out_of, f->values.n * sizeof *out_of);
}

/* --- Placing -------------------------------------------------------------------------------- */

static bool plan_overlap(const plan_block *a, const plan_block *b) {
    if (RT_PLANTED(reused_live_slot)) return a->first < b->last && b->first < a->last;
    return a->first <= b->last && b->first <= a->last;
}

/* Insert a block into the order: the largest first, then the earliest. */
static bool plan_add_order(plan *p, uint32_t id) {
    if (!rt_vec_push(p->alloc, &p->order, id)) return plan_fail(p, rt_fail_memory());
    uint32_t i = p->order.n - 1;
    for (; i && p->blocks.data[p->order.data[i - 1]].bytes < p->blocks.data[id].bytes; i--)
        p->order.data[i] = p->order.data[i - 1];
    p->order.data[i] = id;
    return true;
}

/* The lowest offset at which the n-th block of the order meets none of those placed before it. */
static ir_dim plan_lowest(const plan *p, uint32_t n) {
    const plan_block *b = &p->blocks.data[p->order.data[n]];
    ir_dim at = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (uint32_t i = 0; i < n; i++) {
            const plan_block *c = &p->blocks.data[p->order.data[i]];
            if (!plan_overlap(b, c) || at >= c->at + c->bytes || c->at >= at + b->bytes) continue;
            at = c->at + c->bytes;
            moved = true;
        }
    }
    return at;
}

/* Place the blocks of constant size; the end of the constant part, or IR_DIM_BAD when it
 * overflows. */
static ir_dim plan_place_static(plan *p) {
    ir_dim end = 0, total = 0;
    for (uint32_t i = 0; i < p->blocks.n && !p->error; i++) {
        const plan_block *b = &p->blocks.data[i];
        if (b->out != PLAN_NO_OUT || !ir_dim_is_const(b->bytes)) continue;
        total = ir_dim_add(NULL, total,
                           b->bytes); /* offsets stay below the sum, so it is checked once */
        if (!plan_add_order(p, i)) return IR_DIM_BAD;
    }
    for (uint32_t n = 0; n < p->order.n && total != IR_DIM_BAD; n++) {
        plan_block *b = &p->blocks.data[p->order.data[n]];
        b->at = plan_lowest(p, n);
        if (b->at + b->bytes > end) end = b->at + b->bytes;
    }
    return total == IR_DIM_BAD ? IR_DIM_BAD : end;
}

/* A free slot that fits a block: one that is large enough before one that has to grow. */
static uint32_t plan_find_slot(plan *p, const plan_block *b) {
    uint32_t grow = 0;
    for (uint32_t i = 0; i < p->slots.n; i++) {
        const plan_slot *s = &p->slots.data[i];
        if (s->last >= b->first) continue;
        if (ir_dim_le(p->out, b->bytes, s->bytes)) return i + 1;
        if (!grow && ir_dim_le(p->out, s->bytes, b->bytes)) grow = i + 1;
    }
    return grow;
}

/* Give the blocks of symbolic size their slots, and the slots their offsets after `end`. */
static void plan_place_symbolic(plan *p, ir_dim end) {
    for (uint32_t i = 0; i < p->blocks.n; i++) {
        const plan_block *b = &p->blocks.data[i];
        if (b->out != PLAN_NO_OUT || ir_dim_is_const(b->bytes)) continue;
        uint32_t id = plan_find_slot(p, b);
        if (!id && !rt_vec_push(p->alloc, &p->slots, ((plan_slot){.bytes = b->bytes}))) {
            plan_fail(p, rt_fail_memory());
            return;
        }
        if (!id) id = p->slots.n;
        plan_slot *s = &p->slots.data[id - 1];
        if (!ir_dim_le(p->out, b->bytes, s->bytes)) s->bytes = b->bytes;
        s->last = b->last;
        p->slot_of.data[i] = id;
    }
    for (uint32_t i = 0; i < p->slots.n; i++) {
        p->slots.data[i].at = end;
        end = ir_dim_add(p->out, end, p->slots.data[i].bytes);
    }
    for (uint32_t i = 0; i < p->blocks.n; i++)
        if (p->slot_of.data[i]) p->blocks.data[i].at = p->slots.data[p->slot_of.data[i] - 1].at;
    if (end == IR_DIM_BAD) plan_fail_size(p, "the workspace");
    if (ir_dims_lacked_memory(p->out))
        plan_fail(p, rt_fail_memory()); /* an order was not found, and a slot may be too small */
}

/* --- Emission ------------------------------------------------------------------------------- */

/* Whether a call's result is an element of what a scan stacks. */
static bool plan_is_row(const plan *p, const ir_op *call, ir_ref v) {
    if (!p->role[v.i]) return false;
    const ir_op *o = &p->f->ops.data[p->f->regions.data[call->parent].op];
    return o->code == OP_scan && p->role[v.i] > plan_carries(p, o);
}

static void plan_emit_call(plan *p, ir_builder *b, const ir_op *o, ir_ref *map) {
    const ir_func *f = p->f;
    ir_ref in[UINT8_MAX];
    ir_attr_call a = *(const ir_attr_call *)ir_attr_get(f->module, o->attr);
    if (o->nin > UINT8_MAX) {
        ir_build_error(
            b, rt_fail(p->alloc, IG_UNSUPPORTED, "@%s: a call has too many operands", f->name));
        return;
    }
    memset(&a.at, 0, sizeof a.at);
    a.at.n = (uint8_t)o->nout;
    for (uint32_t k = 0; k < o->nout; k++) {
        ir_ref v = ir_op_out(o, k);
        const plan_block *block = &p->blocks.data[p->block[v.i] - 1];
        bool is_out = block->out != PLAN_NO_OUT;
        a.at.p[k].kind = is_out ? IR_PLACE_OUT : IR_PLACE_WS;
        if (plan_is_row(p, o, v)) a.at.p[k].kind += IR_PLACE_WS_ROW - IR_PLACE_WS;
        a.at.p[k].at = is_out ? (ir_dim)block->out : block->at;
        if (!p->in[v.i]) continue;
        a.at.p[k].kind = IR_PLACE_IN;
        a.at.p[k].at = p->in[v.i] - 1;
    }
    for (uint32_t k = 0; k < o->nin; k++) in[k] = map[ir_op_in(f, o, k).i];
    ir_loc_rec at = ir_loc_get(f->module, o->loc);
    b->loc = ir_intern_loc(b->m, at.file, at.line);
    ir_ref r = ir_emit(b, OP_call, &a, o->nin, in);
    for (uint32_t k = 0; k < o->nout; k++) map[o->out0 + k] = ir_result(r, k);
}

static ig_status plan_emit(plan *p) {
    const ir_func *f = p->f;
    ir_builder b;
    ir_ref *map = pass_begin(&b, p->out, f, IR_BUILD_RAW);
    for (uint32_t i = 0; map && i + 1 < f->ops.n; i++) {
        if (f->ops.data[i].code == OP_call)
            plan_emit_call(p, &b, &f->ops.data[i], map);
        else
            ir_copy_op(&b, f, i, map);
    }
    return pass_end(&b, f, map);
}

/* Plan one entry function and emit it. */
static ig_status plan_func(const ir_func *f, ir_module *out) {
    const ig_allocator *a = out->alloc;
    size_t n = f->values.n;
    plan p = {.f = f, .alloc = a, .out = out};
    p.base = rt_alloc(a, n * sizeof *p.base);
    p.block = rt_alloc_zero(a, n * sizeof *p.block);
    p.last = rt_alloc_zero(a, n * sizeof *p.last);
    p.role = rt_alloc_zero(a, n * sizeof *p.role);
    p.in = rt_alloc_zero(a, n);
    if (!p.base || !p.block || !p.last || !p.role || !p.in) plan_fail(&p, rt_fail_memory());
    if (!p.error) plan_fill_lives(&p);
    if (!p.error) plan_fill_blocks(&p);
    ir_dim end = p.error ? 0 : plan_place_static(&p);
    if (!p.error) plan_place_symbolic(&p, end);
    ig_status s = p.error ? p.error : plan_emit(&p);
    rt_vec_free(a, &p.blocks);
    rt_vec_free(a, &p.slots);
    rt_vec_free(a, &p.slot_of);
    rt_vec_free(a, &p.order);
    rt_free(a, p.base, n * sizeof *p.base);
    rt_free(a, p.block, n * sizeof *p.block);
    rt_free(a, p.last, n * sizeof *p.last);
    rt_free(a, p.role, n * sizeof *p.role);
    rt_free(a, p.in, n);
    return s;
}

ig_status pass_run_memplan(const ir_module *in, ir_module *out) {
    for (uint32_t i = 0; i < in->funcs.n; i++) {
        const ir_func *f = in->funcs.data[i];
        RT_TRY(f->kind == IR_FN ? plan_func(f, out) : pass_copy_func(out, f));
    }
    return NULL;
}

/* The steps of the scan that a call stands in. */
static ir_dim plan_steps(const ir_func *f, const ir_op *call) {
    const ir_op *o = &f->ops.data[f->regions.data[call->parent].op];
    bool scan = call->parent && o->code == OP_scan;
    return scan ? ((const ir_attr_scan *)ir_attr_get(f->module, o->attr))->n : 1;
}

/* A place in the workspace, by op and result; begin with op 0, result 0. */
typedef struct plan_seat {
    uint32_t op, k;
    ir_dim at, bytes;
} plan_seat;

static bool plan_next_seat(const ir_func *f, plan_seat *s) {
    for (; s->op < f->ops.n; s->op++, s->k = 0) {
        const ir_op *o = &f->ops.data[s->op];
        if (o->code != OP_call) continue;
        const ir_attr_call *a = ir_attr_get(f->module, o->attr);
        while (s->k < a->at.n && s->k < o->nout) {
            uint32_t k = s->k++;
            bool row = a->at.p[k].kind == IR_PLACE_WS_ROW;
            if (a->at.p[k].kind != IR_PLACE_WS && !row) continue;
            s->at = a->at.p[k].at;
            s->bytes = plan_stacked(f->module, ir_val_type(f, ir_op_out(o, k)),
                                    row ? plan_steps(f, o) : 1);
            return true;
        }
    }
    return false;
}

/* The end of the blocks of constant size, from which on slots follow each other without a gap: so
 * the end of the last one is known without any order among sizes.  Another plan ends where the
 * farthest block does. */
ir_dim pass_workspace(const ir_func *f) {
    ir_module *m = f->module;
    ir_dim end = 0, far = 0;
    uint32_t left = 0;
    for (plan_seat s = {0}; plan_next_seat(f, &s);) {
        bool fixed = ir_dim_is_const(s.at) && ir_dim_is_const(s.bytes);
        if (fixed) end = ir_dim_max(m, end, ir_dim_add(m, s.at, s.bytes));
        left += !fixed;
    }
    for (bool more = left > 0; more;) {
        ir_dim size = 0;
        more = false;
        for (plan_seat s = {0}; plan_next_seat(f, &s);) {
            if (s.at != end || (ir_dim_is_const(s.at) && ir_dim_is_const(s.bytes))) continue;
            size = more ? ir_dim_max(m, size, s.bytes) : s.bytes;
            more = true;
            left--;
        }
        if (size == 0) break;
        end = ir_dim_add(m, end, size);
    }
    if (!left) return end;
    for (plan_seat s = {0}; plan_next_seat(f, &s);)
        far = ir_dim_max(m, far, ir_dim_add(m, s.at, s.bytes));
    return far;
}

/* --- State in place ------------------------------------------------------------------------- */

/* The value whose memory v is. */
static ir_ref state_base(const ir_func *f, ir_ref v) {
    for (const ir_op *o; (o = ir_def_op(f, v)) && o->code == OP_reshape;) v = ir_op_in(f, o, 0);
    return v;
}

/* Whether an argument may be overwritten by the call that op `writer` is. */
static ig_status state_fill(const ir_func *f, ir_ref argument, uint32_t writer, bool *fits_) {
    const ir_op *w = &f->ops.data[writer];
    *fits_ = w->code == OP_call && !w->parent;
    if (!*fits_) return NULL;
    const ir_attr_call *a = ir_attr_get(f->module, w->attr);
    const ir_func *cluster = ir_find_func(f->module, a->callee);
    const ir_type *result = ir_val_type(f, ir_op_out(w, 0));
    for (uint32_t i = 0; *fits_ && i < f->ops.n; i++) {
        const ir_op *o = &f->ops.data[i];
        if (o->code == OP_reshape) continue;
        for (uint32_t k = 0; *fits_ && k < o->nin; k++) {
            ir_ref v = ir_op_in(f, o, k);
            if (state_base(f, v).i != argument.i) continue;
            *fits_ = o->code == OP_call && /* what is yielded or carried may be read elsewhere */
                     (i < writer || (i == writer && ir_same_dims(ir_val_type(f, v), result)));
            if (*fits_ && i == writer)
                RT_TRY(plan_fill_pointwise(f->module->alloc, cluster, k, fits_));
        }
    }
    return NULL;
}

ig_status pass_fill_in_place(const ir_module *planned, bool *in_place_) {
    const ir_func *f = ir_entry(planned);
    uint32_t nin = ir_nparam(f) - planned->nstate, nout = f->results.n - planned->nstate;
    for (uint32_t k = 0; k < planned->nstate; k++) {
        ir_ref r = state_base(f, ir_op_in(f, ir_return_op(f), nout + k));
        RT_TRY(state_fill(f, ir_param_ref(f, nin + k), f->values.data[r.i].def, &in_place_[k]));
    }
    return NULL;
}

ig_status pass_in_place(const ir_module *m, bool *in_place_) {
    ir_module *planned;
    RT_TRY(pass_pipeline(m, &planned));
    ig_status s = pass_fill_in_place(planned, in_place_);
    ir_module_free(planned);
    return s;
}
