/* index.c - arithmetic on subscripts.
 *
 * Most index arithmetic of a kernel is uniform or moves by one a lane; keeping that knowledge in
 * the subscript is what turns a load into a broadcast, a vector load or a gather.  A reshape, or
 * loops run as one, give subscripts that are quotients of one flat index; as long as they are only
 * put together again (contiguous operands), no division appears.  What is written twice is found
 * again by the builder's value numbering, also when it was written outside a loop. */
#include "codegen/lower.h"

cg_ix cg_ix_const(cg_low *l, int64_t x) { return cg_ix_uniform(cg_i64(&l->k, x)); }

ir_ref cg_ix_value(cg_low *l, cg_ix x) {
    cg_kernel *k = &l->k;
    x = cg_ix_solid(l, x);
    ir_ref r = {x.r};
    if (x.kind != CG_IX_LINEAR) return r;
    ir_ref lane = ir_emit0(&k->b, OP_viota, &(ir_attr_lanes){.lanes = k->lanes});
    if (x.stride != 1) lane = cg_bin(k, OP_mul, lane, cg_i64(k, x.stride));
    return cg_bin(k, OP_add, r, lane);
}

/* A run of m entries of a group as one subscript of the joined axis. */
static cg_ix index_join(cg_low *l, cg_ix first, int m) {
    const cg_group g = l->groups.data[first.r];
    ir_module *mod = l->k.b.m;
    ir_dim rest = 1, span = 1;
    int before = first.pos;
    for (int i = first.pos + m; i < g.dims.n; i++) rest = ir_dim_mul(mod, rest, g.dims.d[i]);
    for (int i = first.pos; i < first.pos + m; i++) span = ir_dim_mul(mod, span, g.dims.d[i]);
    while (before && g.dims.d[before - 1] == 1) before--;
    cg_ix r = cg_ix_div(l, g.t, rest, false);
    return before ? cg_ix_div(l, r, span, true) : r;
}

cg_ix cg_ix_solid(cg_low *l, cg_ix x) { return x.kind == CG_IX_FLAT ? index_join(l, x, 1) : x; }

cg_ix cg_ix_add(cg_low *l, cg_ix x, cg_ix y) {
    cg_kernel *k = &l->k;
    x = cg_ix_solid(l, x), y = cg_ix_solid(l, y);
    if (x.kind == CG_IX_VECTOR || y.kind == CG_IX_VECTOR) {
        ir_ref r = cg_ix_value(l, y);
        r = cg_bin(k, OP_add, cg_ix_value(l, x), r);
        return (cg_ix){CG_IX_VECTOR, 0, r.i, 0};
    }
    ir_ref r = cg_bin(k, OP_add, (ir_ref){x.r}, (ir_ref){y.r});
    int64_t stride = x.stride + y.stride;
    return stride ? (cg_ix){CG_IX_LINEAR, 0, r.i, stride} : cg_ix_uniform(r);
}

cg_ix cg_ix_mul(cg_low *l, cg_ix x, int64_t c) {
    int64_t stride;
    x = cg_ix_solid(l, x);
    if (c == 1) return x;
    if (c == 0) return cg_ix_const(l, 0);
    if (__builtin_mul_overflow(x.stride, c, &stride)) {
        ir_build_error(&l->k.b, rt_fail(l->k.b.m->alloc, IG_RANGE, "a size overflows"));
        return x;
    }
    x.r = cg_bin(&l->k, OP_mul, (ir_ref){x.r}, cg_i64(&l->k, c)).i;
    x.stride = stride;
    x.pos = 0;
    return x;
}

cg_ix cg_ix_mul_dim(cg_low *l, cg_ix x, ir_dim d) {
    if (d >= 0) return cg_ix_mul(l, x, d);
    x = cg_ix_solid(l, x);
    ir_ref r = cg_dim(&l->k, d);
    r = cg_bin(&l->k, OP_mul, cg_ix_value(l, x), r);
    return (cg_ix){x.kind == CG_IX_UNIFORM ? CG_IX_UNIFORM : CG_IX_VECTOR, 0, r.i, 0};
}

cg_ix cg_ix_div(cg_low *l, cg_ix x, ir_dim d, bool rem) {
    cg_kernel *k = &l->k;
    if (d == 1) return rem ? cg_ix_const(l, 0) : x;
    x = cg_ix_solid(l, x);
    if (x.kind == CG_IX_LINEAR && x.pos && d > 0 &&
        d % k->lanes == 0) { /* no lane crosses a multiple of d */
        cg_ix base = cg_ix_div(l, cg_ix_uniform((ir_ref){x.r}), d, rem);
        return rem ? cg_ix_aligned((ir_ref){base.r}) : base;
    }
    ir_ref v = cg_ix_value(l, x), r;
    if (d > 1 && !(d & (d - 1))) {
        r = rem ? cg_bit(k, IR_bitop_band, v, cg_i64(k, d - 1))
                : cg_shift(k, IR_shop_right, v, __builtin_ctzll((unsigned long long)d));
    } else {
        ir_ref by = cg_dim(k, d);
        if (d <= 0) by = cg_bin(k, OP_max, by, cg_i64(k, 1));
        r = cg_bin(k, rem ? OP_rem : OP_div, v, by);
    }
    return (cg_ix){x.kind == CG_IX_UNIFORM ? CG_IX_UNIFORM : CG_IX_VECTOR, 0, r.i, 0};
}

/* How many subscripts from `at` on are consecutive entries of one group with the box's own dims. */
static int index_run(const cg_low *l, int n, const ir_dim *dim, const cg_ix *ix, int at) {
    if (ix[at].kind != CG_IX_FLAT) return 1;
    const cg_group *g = &l->groups.data[ix[at].r];
    int m = 1;
    while (at + m < n && ix[at + m].kind == CG_IX_FLAT && ix[at + m].r == ix[at].r &&
           ix[at + m].pos == ix[at].pos + m && dim[at + m] == g->dims.d[ix[at].pos + m])
        m++;
    return m;
}

cg_ix cg_ix_flat(cg_low *l, int n, const ir_dim *dim, const cg_ix *ix) {
    cg_ix sum = {0};
    ir_dim stride[IG_MAX_RANK], s = 1;
    for (int i = n; i-- > 0; s = ir_dim_mul(l->k.b.m, s, dim[i])) stride[i] = s;
    for (int i = 0; i < n && !cg_lower_failed(l);) {
        int m = index_run(l, n, dim, ix, i);
        if (m == 1 && dim[i] == 1) {
            i++;
            continue;
        }
        cg_ix t = m > 1 ? index_join(l, ix[i], m) : ix[i];
        i += m;
        t = cg_ix_mul_dim(l, t, stride[i - 1]);
        sum = sum.r ? cg_ix_add(l, sum, t) : t;
    }
    return sum.r ? sum : cg_ix_const(l, 0);
}

void cg_ix_split(cg_low *l, cg_ix t, int n, const ir_dim *dim, cg_ix *ix_) {
    cg_group g = {.t = cg_ix_solid(l, t), .dims = {.n = (uint8_t)n}};
    if (n == 1) {
        ix_[0] = g.t;
        return;
    }
    for (int i = 0; i < n; i++) {
        g.dims.d[i] = dim[i];
        ix_[i] = (cg_ix){CG_IX_FLAT, (uint16_t)i, l->groups.n, 0};
    }
    if (n && !rt_vec_push(l->k.b.m->alloc, &l->groups, g)) {
        ir_build_error(&l->k.b, rt_fail_memory());
        for (int i = 0; i < n; i++) ix_[i] = g.t;
    }
}
