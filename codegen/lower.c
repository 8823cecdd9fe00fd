/* lower.c - the pull evaluator: code for one element (or CG_LANES consecutive ones) of a value of a
 * cluster.
 *
 * cg_pull(v, ix) asks for value v at subscript ix.  The rule of v's op turns ix into the operands'
 * subscripts, waits for them, and gives a register.  So movement costs nothing: a transpose
 * permutes subscripts, a slice adds to one; what is left at the leaves are loads.  Each (value,
 * subscript) is written once (the memo), which keeps shared operands shared.
 *
 * A rule is a small state machine on a frame: `wait` for an operand and return, go on at the next
 * step when the register is in l->ret, `give` the result.  Frames are on a heap stack, so that no
 * depth of cluster exhausts the C stack; only reductions inside reductions recurse, to
 * CG_CORE_DEPTH.
 *
 * Values that exist only for some subscripts (pad, concat, dupdate) branch.  A scalar subscript
 * takes one branch.  A vector that lies wholly inside runs the fast branch; one that straddles an
 * edge gathers with clamped subscripts and selects; one that lies outside never touches the
 * operand, which may be empty. */
#include "codegen/lower.h"

#include <string.h>

/* --- Scopes and memo ------------------------------------------------------------------------ */

/* Whether some subscript differs between lanes. */
static bool lower_varies(const cg_low *l, ir_ref v, const cg_ix *ix) {
    for (int i = 0; i < cg_type(l, v)->rank; i++) {
        cg_ix x = ix[i].kind == CG_IX_FLAT ? l->groups.data[ix[i].r].t : ix[i];
        if (x.kind != CG_IX_UNIFORM) return true;
    }
    return false;
}

/* What a memo entry is found by: a single element is the same for every number of lanes. */
static int64_t lower_lanes_at(const cg_low *l, ir_ref v, const cg_ix *ix) {
    return lower_varies(l, v, ix) ? l->k.lanes : 0;
}

static uint32_t lower_hash(const cg_low *l, ir_ref v, const cg_ix *ix) {
    uint64_t h = v.i * UINT64_C(0x9e3779b97f4a7c15);
    for (int i = 0; i < cg_type(l, v)->rank; i++)
        h = (h ^ ix[i].r ^ ((uint64_t)ix[i].pos << 32)) * UINT64_C(0xff51afd7ed558ccd),
        h ^= h >> 32;
    return (uint32_t)(h % CG_MEMO_BUCKETS);
}

static bool lower_same_ix(const cg_ix *a, const cg_ix *b, int n) {
    for (int i = 0; i < n; i++)
        if (a[i].kind != b[i].kind || a[i].pos != b[i].pos || a[i].r != b[i].r ||
            a[i].stride != b[i].stride)
            return false;
    return true;
}

/* The register of v at ix, when it was written in an open scope. */
static ir_ref lower_known(const cg_low *l, ir_ref v, const cg_ix *ix) {
    int rank = cg_type(l, v)->rank;
    int64_t lanes = lower_lanes_at(l, v, ix);
    for (uint32_t i = l->bucket[lower_hash(l, v, ix)]; i; i = l->memo.data[i - 1].next) {
        const cg_memo *m = &l->memo.data[i - 1];
        if (m->v == v.i && m->lanes == lanes && lower_same_ix(m->ix, ix, rank)) return m->r;
    }
    return (ir_ref){0};
}

void cg_seed(cg_low *l, ir_ref v, const cg_ix *ix, ir_ref r) {
    if (cg_lower_failed(l)) return;
    uint32_t h = lower_hash(l, v, ix);
    cg_memo m = {
        .v = v.i, .next = l->bucket[h], .bucket = h, .lanes = lower_lanes_at(l, v, ix), .r = r};
    for (int i = 0; i < cg_type(l, v)->rank; i++) m.ix[i] = ix[i];
    if (!rt_vec_push(l->k.b.m->alloc, &l->memo, m)) {
        ir_build_error(&l->k.b, rt_fail_memory());
        return;
    }
    l->bucket[h] = l->memo.n;
}

static cg_nest lower_scope(const cg_low *l, cg_loop loop) {
    return (cg_nest){loop, l->memo.n, l->groups.n};
}

/* Forget what was made since the scope began; entries leave their buckets newest first. */
static void lower_forget(cg_low *l, cg_nest nest) {
    while (l->memo.n > nest.memo) {
        const cg_memo *m = &l->memo.data[--l->memo.n];
        l->bucket[m->bucket] = m->next;
    }
    l->groups.n = nest.groups;
}

cg_nest cg_open_for(cg_low *l, ir_ref lo, ir_ref hi, int64_t step, int n, const ir_ref *init,
                    ir_ref *carried_) {
    return lower_scope(l, cg_for(&l->k, lo, hi, step, n, init, carried_));
}

ir_ref cg_close_for(cg_low *l, cg_nest nest, int n, const ir_ref *yield) {
    lower_forget(l, nest);
    return cg_for_end(&l->k, nest.loop, n, yield);
}

cg_nest cg_open_if(cg_low *l, ir_ref cond) {
    return lower_scope(l, (cg_loop){cg_if(&l->k, cond), {0}});
}

void cg_open_else(cg_low *l, cg_nest nest, int n, const ir_ref *yield) {
    lower_forget(l, nest);
    cg_else(&l->k, n, yield);
}

ir_ref cg_close_if(cg_low *l, cg_nest nest, int n, const ir_ref *yield) {
    lower_forget(l, nest);
    return cg_if_end(&l->k, nest.loop.op, n, yield);
}

/* --- Frames --------------------------------------------------------------------------------- */

static cg_frame *lower_top(cg_low *l) { return &l->frames.data[l->frames.n - 1]; }

/* Ask for an operand; the frame goes on at `step` once it is in l->ret.  The last thing a rule
 * does. */
static void lower_wait(cg_low *l, cg_frame *f, uint32_t step, ir_ref v, const cg_ix *ix) {
    if (f) f->step = step;
    l->ret = lower_known(l, v, ix);
    if (!l->ret.i && l->rows) l->ret = cg_rows_find(l, v, ix);
    if (l->ret.i) return;
    cg_frame n = {.v = v, .arg = l->args.n, .nest = l->nests.n};
    if (cg_type(l, v)->rank) memcpy(n.ix, ix, cg_type(l, v)->rank * sizeof *ix);
    n.vary = lower_varies(l, v, ix);
    if (!rt_vec_push(l->k.b.m->alloc, &l->frames, n)) ir_build_error(&l->k.b, rt_fail_memory());
}

/* End the frame with its register. */
static void lower_give(cg_low *l, ir_ref r) {
    cg_frame f = l->frames.data[--l->frames.n];
    l->args.n = f.arg;
    l->nests.n = f.nest;
    l->ret = r;
    cg_seed(l, f.v, f.ix, r);
    if (l->rows) cg_rows_tell(l, f.v, f.ix, r);
}

static const ir_op *lower_op(const cg_low *l, const cg_frame *f) { return ir_def_op(l->f, f->v); }
static ir_ref lower_in(const cg_low *l, const cg_frame *f, uint32_t k) {
    return ir_op_in(l->f, lower_op(l, f), k);
}
static const void *lower_attr(const cg_low *l, const cg_frame *f) {
    return ir_attr_get(l->f->module, lower_op(l, f)->attr);
}

static void lower_keep_arg(cg_low *l, ir_ref r) {
    if (!rt_vec_push(l->k.b.m->alloc, &l->args, r)) ir_build_error(&l->k.b, rt_fail_memory());
}

static void lower_push_nest(cg_low *l, cg_nest n) {
    if (!rt_vec_push(l->k.b.m->alloc, &l->nests, n)) ir_build_error(&l->k.b, rt_fail_memory());
}

/* In a branch of a frame whose lanes differ, every side yields vectors. */
static ir_ref lower_side(cg_low *l, const cg_frame *f, ir_ref r) {
    return f->vary ? cg_splat(&l->k, r, l->k.lanes) : r;
}

/* --- Leaves --------------------------------------------------------------------------------- */

const ir_dims *cg_strides(const cg_low *l, ir_ref v) {
    if (!l->stride || ir_def_op(l->f, v)) return NULL;
    const ir_dims *s = &l->stride[v.i - ir_param_ref(l->f, 0).i];
    return s->n ? s : NULL;
}

/* Where the element at a subscript lies in the memory of a value. */
static cg_ix lower_place(cg_low *l, ir_ref v, const cg_ix *ix) {
    const ir_type *t = cg_type(l, v);
    const ir_dims *stride = cg_strides(l, v);
    if (!stride) return cg_ix_flat(l, t->rank, t->dim, ix);
    cg_ix at = cg_ix_const(l, 0);
    for (int i = 0; i < t->rank; i++) at = cg_ix_add(l, at, cg_ix_mul_dim(l, ix[i], stride->d[i]));
    return at;
}

/* An element of memory: broadcast, vector load or gather, by what the subscript is. */
static ir_ref lower_load(cg_low *l, ir_ref mem, ir_ref v, const cg_ix *ix) {
    cg_ix at = lower_place(l, v, ix);
    if (at.kind == CG_IX_UNIFORM) return cg_load(&l->k, mem, (ir_ref){at.r}, 0);
    if (at.kind == CG_IX_LINEAR && at.stride == 1)
        return cg_load(&l->k, mem, (ir_ref){at.r}, l->k.lanes);
    return cg_load(&l->k, mem, cg_ix_value(l, at), l->k.lanes);
}

static void lower_memory(cg_low *l, cg_frame *f) {
    cg_ix whole[IG_MAX_RANK];
    ir_ref x = cg_steps_slice(l, f->v, f->ix, whole);
    if (x.i) {
        lower_give(l, lower_load(l, l->mem[x.i], x, whole));
        return;
    }
    if (!l->mem[f->v.i].i) {
        cg_broken(&l->k, "a value without memory");
        return;
    }
    lower_give(l, lower_load(l, l->mem[f->v.i], f->v, f->ix));
}

/* The register of an element of a constant. */
static ir_ref lower_const_bytes(cg_low *l, ig_dtype d, const void *bytes) {
    uint16_t h;
    if (cg_reg(d) == d) return ir_const(&l->k.b, ir_scalar_type(d), bytes, rt_dtype_bytes(d));
    memcpy(&h, bytes, sizeof h);
    return cg_flt(&l->k, IG_f32, (double)(d == IG_f16 ? rt_f16_to_f32(h) : rt_bf16_to_f32(h)));
}

static void lower_const(cg_low *l, cg_frame *f) {
    const ir_attr_const *a = lower_attr(l, f);
    if (l->mem[f->v.i].i) {
        lower_memory(l, f);
    } else if (!a->data.n) { /* empty: its elements are never looked at */
        lower_give(l, cg_int(&l->k, cg_reg((ig_dtype)a->type.dtype), 0));
    } else {
        lower_give(l, lower_const_bytes(l, (ig_dtype)a->type.dtype, a->data.bytes));
    }
}

static void lower_iota(cg_low *l, cg_frame *f) {
    const ir_attr_iota *a = lower_attr(l, f);
    lower_give(l, cg_convert(&l->k, IG_i64, (ig_dtype)a->dtype, cg_ix_value(l, f->ix[a->axis])));
}

static void lower_dim(cg_low *l, cg_frame *f) {
    const ir_attr_extent *a = lower_attr(l, f);
    lower_give(l, cg_dim(&l->k, a->n));
}

/* The words of the blocks from `block` on, u64 like it. */
static void lower_rng_words(cg_low *l, const ir_ref key[2], ir_ref block, ir_ref w_[4]) {
    cg_kernel *k = &l->k;
    ir_ref in[4] = {key[0], key[1], cg_cast(k, block, IG_u32),
                    cg_cast(k, cg_shift(k, IR_shop_right, block, 32), IG_u32)};
    cg_philox(k, in, w_);
}

/* Two words as one. */
static ir_ref lower_rng_pair(cg_low *l, ir_ref low, ir_ref high) {
    cg_kernel *k = &l->k;
    high = cg_shift(k, IR_shop_left, cg_cast(k, high, IG_u64), 32);
    return cg_bit(k, IR_bitop_bor, cg_cast(k, low, IG_u64), high);
}

/* Lanes from a multiple of their number on: whole blocks, their words in turn. */
static ir_ref lower_rng_blocks(cg_low *l, const ir_ref key[2], ir_ref first, bool wide) {
    cg_kernel *k = &l->k;
    int64_t each = wide ? 2 : 4;
    ir_ref w[4], lane = ir_emit0(&k->b, OP_viota, &(ir_attr_lanes){.lanes = k->lanes / each});
    ir_ref block =
        cg_cast(k, cg_bin(k, OP_add, lane, cg_bin(k, OP_div, first, cg_i64(k, each))), IG_u64);
    lower_rng_words(l, key, block, w);
    if (wide) {
        ir_ref second = lower_rng_pair(l, w[2], w[3]);
        return ir_emit2(&k->b, OP_vzip, NULL, lower_rng_pair(l, w[0], w[1]), second);
    }
    w[0] = ir_emit2(&k->b, OP_vzip, NULL, w[0], w[2]);
    w[1] = ir_emit2(&k->b, OP_vzip, NULL, w[1], w[3]);
    return ir_emit2(&k->b, OP_vzip, NULL, w[0], w[1]);
}

/* Any elements, a block each. */
static ir_ref lower_rng_elements(cg_low *l, const ir_ref key[2], ir_ref i, bool wide) {
    cg_kernel *k = &l->k;
    ir_ref w[4], zero = cg_int(k, IG_u64, 0);
    lower_rng_words(l, key, cg_shift(k, IR_shop_right, i, wide ? 1 : 2), w);
    ir_ref low = cg_cmp(k, IR_cmpop_eq, cg_bit(k, IR_bitop_band, i, cg_int(k, IG_u64, 1)), zero);
    if (wide) {
        ir_ref second = lower_rng_pair(l, w[2], w[3]);
        return cg_select(k, low, lower_rng_pair(l, w[0], w[1]), second);
    }
    ir_ref two = cg_cmp(k, IR_cmpop_eq, cg_bit(k, IR_bitop_band, i, cg_int(k, IG_u64, 2)), zero);
    ir_ref odd = cg_select(k, low, w[2], w[3]);
    return cg_select(k, two, cg_select(k, low, w[0], w[1]), odd);
}

/* Element i is word i mod 4 (u64: pair i mod 2) of the block of counter i / 4 (i / 2). */
static void lower_rng(cg_low *l, cg_frame *f) {
    const ir_attr_rng *a = lower_attr(l, f);
    bool wide = a->width == IR_width_u64;
    if (f->step < 2) {
        if (f->step) f->tmp[0] = l->ret;
        cg_ix at = cg_ix_const(l, f->step);
        lower_wait(l, f, f->step + 1, lower_in(l, f, 0), &at);
        return;
    }
    const ir_type *t = cg_type(l, f->v);
    ir_ref key[2] = {f->tmp[0], l->ret};
    cg_ix at = cg_ix_flat(l, t->rank, t->dim, f->ix);
    if (at.kind == CG_IX_LINEAR && at.pos && at.stride == 1 && l->k.lanes >= 8)
        lower_give(l, lower_rng_blocks(l, key, (ir_ref){at.r}, wide));
    else
        lower_give(l, lower_rng_elements(l, key, cg_cast(&l->k, cg_ix_value(l, at), IG_u64), wide));
}

static void lower_weight(cg_low *l, cg_frame *f) { lower_memory(l, f); }

/* --- Elementwise and movement --------------------------------------------------------------- */

static void lower_ew(cg_low *l, cg_frame *f) {
    const ir_op *o = lower_op(l, f);
    if (f->step) f->tmp[f->step - 1] = l->ret;
    if (f->step < o->nin) {
        lower_wait(l, f, f->step + 1, lower_in(l, f, f->step), f->ix);
        return;
    }
    ig_dtype d = (ig_dtype)cg_type(l, lower_in(l, f, o->nin - 1u))->dtype;
    lower_give(l, cg_ew(&l->k, (ir_opcode)o->code, lower_attr(l, f), d, o->nin, f->tmp));
}

/* Wait for operand 0 at the subscript, and give it. */
static void lower_pass(cg_low *l, cg_frame *f, const cg_ix *ix) {
    if (f->step)
        lower_give(l, l->ret);
    else
        lower_wait(l, f, 1, lower_in(l, f, 0), ix);
}

static void lower_copy(cg_low *l, cg_frame *f) { lower_pass(l, f, f->ix); }

/* Axes of extent 1 come and go without arithmetic. */
static void lower_unit_reshape(cg_low *l, const cg_frame *f, cg_ix *ix_) {
    const ir_type *t = cg_type(l, f->v), *x = cg_type(l, lower_in(l, f, 0));
    int from = 0;
    for (int i = 0; i < x->rank; i++) {
        if (x->dim[i] == 1) {
            ix_[i] = cg_ix_const(l, 0);
            continue;
        }
        while (t->dim[from] == 1) from++;
        ix_[i] = f->ix[from++];
    }
}

static void lower_reshape(cg_low *l, cg_frame *f) {
    const ir_type *t = cg_type(l, f->v), *x = cg_type(l, lower_in(l, f, 0));
    cg_ix ix[IG_MAX_RANK] = {{0}};
    if (!f->step && ir_rows_is_unit_reshape(l->f, lower_op(l, f)))
        lower_unit_reshape(l, f, ix);
    else if (!f->step)
        cg_ix_split(l, cg_ix_flat(l, t->rank, t->dim, f->ix), x->rank, x->dim, ix);
    lower_pass(l, lower_top(l), ix);
}

static void lower_transpose(cg_low *l, cg_frame *f) {
    const ir_attr_perm *a = lower_attr(l, f);
    cg_ix ix[IG_MAX_RANK] = {{0}};
    for (int i = 0; i < a->perm.n; i++) ix[a->perm.a[i]] = f->ix[i];
    lower_pass(l, f, ix);
}

static void lower_broadcast(cg_low *l, cg_frame *f) {
    const ir_attr_bcast *a = lower_attr(l, f);
    const ir_type *x = cg_type(l, lower_in(l, f, 0));
    cg_ix ix[IG_MAX_RANK] = {{0}};
    for (int i = 0; i < x->rank; i++)
        ix[i] = x->dim[i] == 1 ? cg_ix_const(l, 0) : f->ix[a->axes.a[i]];
    lower_pass(l, f, ix);
}

static void lower_slice(cg_low *l, cg_frame *f) {
    const ir_attr_slice *a = lower_attr(l, f);
    cg_ix ix[IG_MAX_RANK] = {{0}};
    for (int i = 0; i < a->step.n && !f->step; i++) {
        ix[i] = f->ix[i];
        if (a->step.v[i] != 1) ix[i] = cg_ix_mul(l, ix[i], a->step.v[i]);
        if (a->lo.d[i]) ix[i] = cg_ix_add(l, ix[i], cg_ix_uniform(cg_dim(&l->k, a->lo.d[i])));
    }
    lower_pass(l, f, ix);
}

static void lower_reverse(cg_low *l, cg_frame *f) {
    const ir_attr_axes *a = lower_attr(l, f);
    const ir_type *t = cg_type(l, f->v);
    cg_ix ix[IG_MAX_RANK];
    memcpy(ix, f->ix, sizeof ix);
    for (int i = 0; i < a->axes.n && !f->step; i++) {
        int at = a->axes.a[i];
        ir_ref last = cg_i64(&l->k, 1);
        last = cg_bin(&l->k, OP_sub, cg_dim(&l->k, t->dim[at]), last);
        ix[at] = cg_ix_add(l, cg_ix_mul(l, f->ix[at], -1), cg_ix_uniform(last));
    }
    lower_pass(l, f, ix);
}

/* --- Windows: values that exist for some subscripts only ------------------------------------ */

/* A window into an operand: where lanes are inside, and the operand's subscript. */
typedef struct lower_window {
    bool vary;     /* the test differs between lanes */
    bool linear;   /* and is of consecutive subscripts, so that all lanes are inside when the first
                      and last are */
    ir_ref inside; /* bool, scalar or vector; {0}: always */
    ir_ref all, any;       /* bool scalars, when it varies */
    cg_ix ix[IG_MAX_RANK]; /* valid when all lanes are inside */
} lower_window;

static ir_ref lower_and(cg_low *l, ir_ref x, ir_ref y) {
    return !x.i ? y : cg_bit(&l->k, IR_bitop_band, x, y);
}

/* Narrow the window: t in [0, n) along one axis, with stride s (every s-th t exists). */
static void lower_window_axis(cg_low *l, lower_window *w, int axis, cg_ix t, ir_ref n, int64_t s) {
    cg_kernel *k = &l->k;
    ir_ref zero = cg_i64(k, 0), v = cg_ix_value(l, t), in;
    bool vary = t.kind != CG_IX_UNIFORM;
    if (s != 1) {
        ir_ref step = cg_i64(k, s), at = cg_bin(k, OP_max, v, zero);
        in = cg_cmp(k, IR_cmpop_eq, cg_bin(k, OP_rem, at, step), zero);
        in = lower_and(l, in, cg_cmp(k, IR_cmpop_le, zero, v));
        v = cg_bin(k, OP_div, at, step);
        in = lower_and(l, in, cg_cmp(k, IR_cmpop_lt, v, n));
        t = (cg_ix){vary ? CG_IX_VECTOR : CG_IX_UNIFORM, 0, v.i, 0};
    } else {
        in = cg_cmp(k, IR_cmpop_lt, v, n);
        in = lower_and(l, cg_cmp(k, IR_cmpop_le, zero, v), in);
    }
    w->linear = vary ? !w->vary && s == 1 && t.kind == CG_IX_LINEAR : w->linear;
    w->vary |= vary;
    w->inside = lower_and(l, w->inside, in);
    w->ix[axis] = t;
}

static void lower_window_end(cg_low *l, lower_window *w) {
    if (!w->vary) return;
    w->all = cg_test(&l->k, IR_bitop_band, w->inside);
    w->any = cg_test(&l->k, IR_bitop_bor, w->inside);
}

/* Subscripts that are valid in every lane, given that some lane is inside. */
static void lower_window_clamp(cg_low *l, lower_window *w, const ir_type *t) {
    cg_kernel *k = &l->k;
    for (int i = 0; i < t->rank; i++) {
        cg_ix x = cg_ix_solid(l, w->ix[i]);
        if (x.kind == CG_IX_UNIFORM) continue;
        ir_ref one = cg_i64(k, 1), last = cg_bin(k, OP_sub, cg_dim(k, t->dim[i]), one);
        ir_ref v = cg_i64(k, 0);
        v = cg_bin(k, OP_max, cg_bin(k, OP_min, cg_ix_value(l, x), last), v);
        w->ix[i] = (cg_ix){CG_IX_VECTOR, 0, v.i, 0};
    }
}

/* The window of a pad.  Axes without padding pass through. */
static lower_window lower_pad_window(cg_low *l, const cg_frame *f) {
    const ir_attr_pad *a = lower_attr(l, f);
    const ir_type *x = cg_type(l, lower_in(l, f, 0));
    lower_window w = {0};
    for (int i = 0; i < x->rank; i++) {
        w.ix[i] = f->ix[i];
        if (!a->lo.d[i] && !a->hi.d[i] && !a->interior.v[i]) continue;
        cg_ix lo = cg_ix_mul(l, cg_ix_uniform(cg_dim(&l->k, a->lo.d[i])), -1);
        ir_ref n = cg_dim(&l->k, x->dim[i]);
        lower_window_axis(l, &w, i, cg_ix_add(l, f->ix[i], lo), n, a->interior.v[i] + 1);
    }
    lower_window_end(l, &w);
    return w;
}

enum { PAD_VALUE, PAD_OPEN, PAD_FAST, PAD_SLOW, PAD_PLAIN };

/* Deeper than this, a straddling vector is not worth a second copy of the operand's code. */
#define LOWER_FAST_DEPTH 2

/* Open the branch that reads the operand of a pad. */
static void lower_pad_open(cg_low *l, cg_frame *f) {
    lower_window w = lower_pad_window(l, f);
    ir_ref x = lower_in(l, f, 0);
    f = lower_top(l);
    f->tmp[0] = lower_side(l, f, l->ret);
    f->tmp[1] = w.inside;
    f->tmp[2] = w.any;
    if (!w.inside.i) {
        lower_wait(l, f, PAD_PLAIN, x, w.ix);
    } else if (!w.vary) {
        lower_push_nest(l, cg_open_if(l, w.inside));
        lower_wait(l, f, PAD_FAST, x, w.ix);
    } else if (w.linear && l->nests.n < LOWER_FAST_DEPTH) {
        lower_push_nest(l, cg_open_if(l, w.all));
        lower_wait(l, f, PAD_FAST, x, w.ix);
    } else {
        lower_push_nest(l, cg_open_if(l, w.any));
        lower_window_clamp(l, &w, cg_type(l, x));
        lower_wait(l, f, PAD_SLOW, x, w.ix);
    }
}

/* The branch where all lanes were inside is written; write the others. */
static void lower_pad_else(cg_low *l, cg_frame *f) {
    ir_ref r = lower_side(l, f, l->ret);
    cg_nest nest = l->nests.data[l->nests.n - 1];
    cg_open_else(l, nest, 1, &r);
    if (!f->tmp[2].i) {
        lower_give(l, cg_close_if(l, nest, 1, &f->tmp[0]));
        return;
    }
    ir_ref x = lower_in(l, f, 0);
    lower_push_nest(l, cg_open_if(l, f->tmp[2]));
    lower_window w = lower_pad_window(l, f);
    lower_window_clamp(l, &w, cg_type(l, x));
    lower_wait(l, lower_top(l), PAD_SLOW, x, w.ix);
}

/* Close every branch of a frame; r is the value of the innermost first side, `other` of its else.
 */
static void lower_close(cg_low *l, const cg_frame *f, ir_ref r, ir_ref other) {
    cg_nest nest = l->nests.data[l->nests.n - 1];
    cg_open_else(l, nest, 1, &r);
    r = cg_close_if(l, nest, 1, &other);
    for (uint32_t i = l->nests.n - 1; i-- > f->nest;) r = cg_close_if(l, l->nests.data[i], 1, &r);
    lower_give(l, r);
}

static void lower_pad(cg_low *l, cg_frame *f) {
    switch (f->step) {
    case PAD_VALUE: lower_wait(l, f, PAD_OPEN, lower_in(l, f, 1), NULL); break;
    case PAD_OPEN: lower_pad_open(l, f); break;
    case PAD_FAST: lower_pad_else(l, f); break;
    case PAD_SLOW:
        lower_close(l, f, cg_select(&l->k, f->tmp[1], lower_side(l, f, l->ret), f->tmp[0]),
                    f->tmp[0]);
        break;
    default: lower_give(l, l->ret); break;
    }
}

/* Operand `n` of a concat: its window along the axis. */
static lower_window lower_concat_window(cg_low *l, const cg_frame *f, uint32_t n) {
    const ir_attr_axis *a = lower_attr(l, f);
    int axis = (int)a->axis;
    lower_window w = {0};
    memcpy(w.ix, f->ix, sizeof w.ix);
    ir_dim at = 0;
    for (uint32_t i = 0; i < n; i++)
        at = ir_dim_add(l->k.b.m, at, cg_type(l, lower_in(l, f, i))->dim[axis]);
    cg_ix t = cg_ix_add(l, f->ix[axis], cg_ix_mul(l, cg_ix_uniform(cg_dim(&l->k, at)), -1));
    lower_window_axis(l, &w, axis, t, cg_dim(&l->k, cg_type(l, lower_in(l, f, n))->dim[axis]), 1);
    lower_window_end(l, &w);
    return w;
}

static ir_ref lower_zero(cg_low *l, const cg_frame *f) {
    return lower_side(l, f, cg_int(&l->k, cg_reg((ig_dtype)cg_type(l, f->v)->dtype), 0));
}

/* Close every fast side from the inside out; r is the value of the innermost else. */
static void lower_concat_end(cg_low *l, const cg_frame *f, ir_ref r) {
    for (uint32_t i = l->nests.n; i-- > f->nest;) r = cg_close_if(l, l->nests.data[i], 1, &r);
    lower_give(l, r);
}

/* A scalar position along the axis: a chain of branches, the last operand without one. */
static void lower_concat_chain(cg_low *l, cg_frame *f) {
    uint32_t n = lower_op(l, f)->nin, i = f->step / 2;
    if (f->step & 1) {
        ir_ref r = lower_side(l, f, l->ret);
        if (i == n - 1) {
            lower_concat_end(l, f, r);
            return;
        }
        cg_open_else(l, l->nests.data[l->nests.n - 1], 1, &r);
        i++;
    }
    lower_window w = lower_concat_window(l, f, i);
    if (i < n - 1) lower_push_nest(l, cg_open_if(l, w.inside));
    lower_wait(l, lower_top(l), 2 * i + 1, lower_in(l, f, i), w.ix);
}

/* Lanes differ along the axis.  First, for consecutive lanes, a chain of branches for the operand
 * that holds them all; then (from step 2n on) the operands that hold some, one after the other. */
static void lower_concat_lanes(cg_low *l, cg_frame *f) {
    uint32_t n = lower_op(l, f)->nin, i = f->step / 2;
    if (f->step & 1) {
        ir_ref r = lower_side(l, f, l->ret);
        cg_nest nest = l->nests.data[l->nests.n - 1];
        if (i >= n) r = cg_select(&l->k, f->tmp[1], r, f->tmp[0]);
        cg_open_else(l, nest, 1, &r);
        if (i >= n) f->tmp[0] = cg_close_if(l, nest, 1, &f->tmp[0]), l->nests.n--;
        i++;
    }
    if (i == 2 * n) {
        lower_concat_end(l, f, f->tmp[0]);
        return;
    }
    lower_window w = lower_concat_window(l, f, i % n);
    if (i < n && (!w.linear || f->nest >= LOWER_FAST_DEPTH))
        i = n, w = lower_concat_window(l, f, 0);
    if (i == n) f->tmp[0] = lower_zero(l, f);
    f->tmp[1] = w.inside;
    lower_push_nest(l, cg_open_if(l, i < n ? w.all : w.any));
    if (i >= n) lower_window_clamp(l, &w, cg_type(l, lower_in(l, f, i % n)));
    lower_wait(l, lower_top(l), 2 * i + 1, lower_in(l, f, i % n), w.ix);
}

static void lower_concat(cg_low *l, cg_frame *f) {
    const ir_attr_axis *a = lower_attr(l, f);
    if (cg_ix_solid(l, f->ix[a->axis]).kind == CG_IX_UNIFORM)
        lower_concat_chain(l, f);
    else
        lower_concat_lanes(l, f);
}

/* --- Windows at run-time positions ---------------------------------------------------------- */

/* Wait for the start indices from operand `first` on; they end up, clamped, in l->args.  True when
 * all are there. */
static bool lower_starts(cg_low *l, cg_frame *f, uint32_t first, const ir_type *whole,
                         const ir_dim *part) {
    uint32_t n = whole->rank;
    cg_kernel *k = &l->k;
    if (f->step > n) return true;
    if (f->step) {
        uint32_t i = f->step - 1;
        ir_ref last = cg_dim(k, part[i]);
        last = cg_bin(k, OP_sub, cg_dim(k, whole->dim[i]), last);
        ir_ref zero = cg_i64(k, 0);
        lower_keep_arg(l, cg_bin(k, OP_max, cg_bin(k, OP_min, l->ret, last), zero));
        f = lower_top(l);
    }
    if (f->step == n) {
        f->step++;
        return true;
    }
    lower_wait(l, f, f->step + 1, lower_in(l, f, first + f->step), NULL);
    return false;
}

static void lower_dslice(cg_low *l, cg_frame *f) {
    const ir_type *x = cg_type(l, lower_in(l, f, 0)), *t = cg_type(l, f->v);
    uint32_t done = x->rank + 2u;
    cg_ix ix[IG_MAX_RANK] = {{0}};
    if (f->step == done) {
        lower_give(l, l->ret);
        return;
    }
    if (!lower_starts(l, f, 1, x, t->dim) || cg_lower_failed(l)) return;
    f = lower_top(l);
    for (int i = 0; i < x->rank; i++)
        ix[i] = cg_ix_add(l, f->ix[i], cg_ix_uniform(l->args.data[f->arg + (uint32_t)i]));
    lower_wait(l, f, done, lower_in(l, f, 0), ix);
}

/* Open the branch that reads the update; tmp[0] is x here. */
static void lower_dupdate_open(cg_low *l, cg_frame *f, uint32_t next) {
    const ir_type *u = cg_type(l, lower_in(l, f, 1));
    lower_window w = {0};
    f->tmp[0] = lower_side(l, f, l->ret);
    for (int i = 0; i < u->rank; i++) {
        cg_ix start = cg_ix_uniform(l->args.data[f->arg + (uint32_t)i]);
        cg_ix t = cg_ix_add(l, f->ix[i], cg_ix_mul(l, start, -1));
        lower_window_axis(l, &w, i, t, cg_dim(&l->k, u->dim[i]), 1);
    }
    lower_window_end(l, &w);
    f = lower_top(l);
    f->tmp[1] = w.inside;
    if (w.inside.i) {
        lower_push_nest(l, cg_open_if(l, w.vary ? w.any : w.inside));
        lower_window_clamp(l, &w, u);
    }
    lower_wait(l, f, next, lower_in(l, f, 1), w.ix);
}

static void lower_dupdate(cg_low *l, cg_frame *f) {
    const ir_attr_dupd *a = lower_attr(l, f);
    const ir_type *x = cg_type(l, f->v), *u = cg_type(l, lower_in(l, f, 1));
    uint32_t have_x = x->rank + 2u, have_u = x->rank + 3u;
    ig_dtype d = (ig_dtype)x->dtype;
    if (f->step == have_x) {
        lower_dupdate_open(l, f, have_u);
    } else if (f->step == have_u) {
        ir_ref in[2] = {f->tmp[0], l->ret}, r = l->ret;
        if (a->op == IR_setop_add) r = cg_ew(&l->k, OP_add, NULL, d, 2, in);
        if (!f->tmp[1].i) {
            lower_give(l, r);
            return;
        }
        r = cg_select(&l->k, f->tmp[1], lower_side(l, f, r), f->tmp[0]);
        lower_close(l, f, r, f->tmp[0]);
    } else if (lower_starts(l, f, 2, x, u->dim) && !cg_lower_failed(l)) {
        f = lower_top(l);
        lower_wait(l, f, have_x, lower_in(l, f, 0), f->ix);
    }
}

/* --- Reading at index tensors --------------------------------------------------------------- */

/* All indices are in l->args: read x there.  With fill, behind a branch as in a pad. */
static void lower_gather_open(cg_low *l, cg_frame *f) {
    cg_kernel *k = &l->k;
    const ir_attr_gather *a = lower_attr(l, f);
    const ir_type *x = cg_type(l, lower_in(l, f, 0)), *at = cg_type(l, lower_in(l, f, 1));
    lower_window w = {0};
    for (int i = 0, n = 0, rest = at->rank; i < x->rank; i++) {
        if (n == a->axes.n || a->axes.a[n] != i) {
            w.ix[i] = f->ix[i < a->batch ? i : rest++];
            continue;
        }
        ir_ref t = l->args.data[f->arg + (uint32_t)n++], size = cg_dim(k, x->dim[i]);
        if (a->oob == IR_oob_clamp) {
            t = cg_bin(k, OP_min, t, cg_bin(k, OP_sub, size, cg_i64(k, 1)));
            t = cg_bin(k, OP_max, t, cg_i64(k, 0));
        }
        cg_ix ix = {cg_lanes_of(k, t) ? CG_IX_VECTOR : CG_IX_UNIFORM, 0, t.i, 0};
        if (a->oob == IR_oob_clamp)
            w.ix[i] = ix;
        else
            lower_window_axis(l, &w, i, ix, size, 1);
    }
    lower_window_end(l, &w);
    f->tmp[1] = w.inside;
    if (w.inside.i) {
        f->tmp[0] = lower_zero(l, f);
        lower_push_nest(l, cg_open_if(l, w.vary ? w.any : w.inside));
        lower_window_clamp(l, &w, x);
    }
    lower_wait(l, lower_top(l), (uint32_t)a->axes.n + 1, lower_in(l, f, 0), w.ix);
}

static void lower_gather(cg_low *l, cg_frame *f) {
    uint32_t n = ((const ir_attr_gather *)lower_attr(l, f))->axes.n;
    if (f->step <= n) {
        if (f->step) lower_keep_arg(l, cg_cast(&l->k, l->ret, IG_i64));
        if (cg_lower_failed(l)) return;
        if (f->step == n)
            lower_gather_open(l, f);
        else
            lower_wait(l, f, f->step + 1, lower_in(l, f, f->step + 1), f->ix);
    } else if (!f->tmp[1].i) {
        lower_give(l, l->ret);
    } else {
        ir_ref r = cg_select(&l->k, f->tmp[1], lower_side(l, f, l->ret), f->tmp[0]);
        lower_close(l, f, r, f->tmp[0]);
    }
}

/* --- Cores ---------------------------------------------------------------------------------- */

/* Write a core in place of an element; its loops pull its operands. */
static void lower_core(cg_low *l, cg_frame *f,
                       ir_ref (*at)(cg_low *, const ir_op *, const cg_ix *)) {
    cg_ix ix[IG_MAX_RANK] = {{0}};
    for (int i = 0; i < cg_type(l, f->v)->rank; i++) ix[i] = cg_ix_solid(l, f->ix[i]);
    if (l->depth >= CG_CORE_DEPTH) {
        cg_broken(&l->k, "reductions are nested too deeply in one cluster");
        return;
    }
    l->depth++;
    ir_ref r = at(l, lower_op(l, lower_top(l)), ix);
    l->depth--;
    if (!cg_lower_failed(l)) lower_give(l, r);
}

static void lower_reduce(cg_low *l, cg_frame *f) { lower_core(l, f, cg_reduce_at); }
static void lower_cumred(cg_low *l, cg_frame *f) { lower_core(l, f, cg_cumred_at); }
static void lower_ein(cg_low *l, cg_frame *f) { lower_core(l, f, cg_ein_at); }

/* --- The table ------------------------------------------------------------------------------ */

/* cg_ew knows the bodies of transcendental functions, and long division. */
typedef void (*lower_rule)(cg_low *l, cg_frame *f);

#define lower__                                                   NULL
#define lower_flow                                                NULL /* codegen/flow.c */
#define lower_scatter                                             NULL /* whole kernels */
#define lower_sort                                                NULL
#define lower_custom                                              NULL /* codegen/invoke.c */
#define lower_math                                                lower_ew
#define lower_rem                                                 lower_ew
#define R(fold, ref, lower, ...)                                  lower_##lower
#define OP(name, ver, n, level, attr, type, domain, flags, rules) [OP_##name] = rules,
static const lower_rule lower_tab[OP_END] = {
#include "ir/ops.def"
};
#undef OP
#undef R

/* One step of the top frame. */
static void lower_step(cg_low *l) {
    cg_frame *f = lower_top(l);
    const ir_op *o = lower_op(l, f);
    if (!o) {
        lower_memory(l, f);
        return;
    }
    if (!lower_tab[o->code]) {
        ir_build_error(&l->k.b, rt_fail(l->k.b.m->alloc, IG_INTERNAL,
                                        "%s cannot be part of a kernel", ir_op_tab[o->code].name));
        return;
    }
    l->k.b.loc = o->loc;
    lower_tab[o->code](l, f);
}

ir_ref cg_pull(cg_low *l, ir_ref v, const cg_ix *ix) {
    uint32_t base = l->frames.n;
    ir_loc loc = l->k.b.loc;
    lower_wait(l, NULL, 0, v, ix);
    while (l->frames.n > base && !cg_lower_failed(l)) lower_step(l);
    l->k.b.loc = loc;
    if (cg_lower_failed(l)) {
        l->frames.n = base;
        return (ir_ref){0};
    }
    return l->ret;
}
