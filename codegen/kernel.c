/* kernel.c - the vocabulary of kernel-level code: constants, vectors, loops, dims, memory. */
#include "codegen/kernel.h"

#include <string.h>

/* --- Life ----------------------------------------------------------------------------------- */

void cg_kernel_begin(cg_kernel *k, ir_module *m, const char *name, ir_func_kind kind) {
    *k = (cg_kernel){0};
    ir_build_begin(&k->b, m, name, kind, IR_BUILD_OPT);
}

void cg_kernel_free(cg_kernel *k) {
    const ig_allocator *a = k->b.m->alloc;
    for (uint32_t i = 0; i < k->bodies.n; i++) {
        ir_build_abort(&k->bodies.data[i]->b);
        rt_free(a, k->bodies.data[i], sizeof(cg_body));
    }
    rt_vec_free(a, &k->bodies);
    rt_vec_free(a, &k->dims);
    rt_vec_free(a, &k->packs);
}

void cg_broken(cg_kernel *k, const char *what) {
    ir_build_error(&k->b, rt_fail(k->b.m->alloc, IG_INTERNAL, "lowering: %s", what));
}

/* --- Constants and vectors ------------------------------------------------------------------ */

ir_ref cg_i64(cg_kernel *k, int64_t x) { return ir_const_i(&k->b, IG_i64, x); }
ir_ref cg_int(cg_kernel *k, ig_dtype d, int64_t x) { return ir_const_i(&k->b, d, x); }
ir_ref cg_flt(cg_kernel *k, ig_dtype d, double x) { return ir_const_f(&k->b, d, x); }

int cg_lanes_of(const cg_kernel *k, ir_ref r) { return r.i ? ir_val_type(k->b.f, r)->lanes : 0; }
ig_dtype cg_dtype_of(const cg_kernel *k, ir_ref r) {
    return r.i ? (ig_dtype)ir_val_type(k->b.f, r)->dtype : IG_i64;
}

ir_ref cg_splat(cg_kernel *k, ir_ref r, int64_t lanes) {
    if (!lanes || !r.i || cg_lanes_of(k, r)) return r;
    return ir_emit1(&k->b, OP_splat, &(ir_attr_lanes){.lanes = lanes}, r);
}

ir_ref cg_extract(cg_kernel *k, ir_ref r, int64_t lane) {
    return ir_emit1(&k->b, OP_extract, &(ir_attr_index){.index = lane}, r);
}

ir_ref cg_half(cg_kernel *k, ir_ref x, int64_t which) {
    return ir_emit1(&k->b, OP_vhalf, &(ir_attr_index){.index = which}, x);
}

/* Each step exchanges one bit of the vectors' numbers with one of the lanes': first inside 128
 * bits, then between them, which are single shuffles on every target. */
void cg_turn(cg_kernel *k, int n, ir_ref *x) {
    int near = 16 / (int)rt_dtype_bytes(cg_dtype_of(k, x[0]));
    if (near > n) near = n;
    for (int bit = 1; bit < n && !cg_failed(k); bit *= 2) {
        ir_attr_deal a = {.group = bit < near ? 1 : near, .segment = bit < near ? near : n};
        for (int i = 0; i < n; i++) {
            if (i & bit) continue;
            ir_ref even = x[i], odd = x[i | bit];
            a.odd = 0, x[i] = ir_emit2(&k->b, OP_deal, &a, even, odd);
            a.odd = 1, x[i | bit] = ir_emit2(&k->b, OP_deal, &a, even, odd);
        }
    }
}

ir_ref cg_max_lane(cg_kernel *k, ir_ref x) {
    while (!cg_failed(k) && cg_lanes_of(k, x)) {
        ir_ref high = cg_half(k, x, 1);
        x = cg_bin(k, OP_max, cg_half(k, x, 0), high);
    }
    return x;
}

ir_ref cg_test(cg_kernel *k, ir_bitop op, ir_ref x) {
    if (!cg_lanes_of(k, x)) return x;
    return ir_emit1(&k->b, OP_vtest, &(ir_attr_bitop){.op = (uint8_t)op}, x);
}

/* Bring operands to the same number of lanes. */
static void kernel_level(cg_kernel *k, int n, ir_ref *x) {
    int lanes = 0;
    for (int i = 0; i < n; i++)
        if (cg_lanes_of(k, x[i]) > lanes) lanes = cg_lanes_of(k, x[i]);
    for (int i = 0; i < n; i++) x[i] = cg_splat(k, x[i], lanes);
}

ir_ref cg_un(cg_kernel *k, ir_opcode op, ir_ref x) { return ir_emit1(&k->b, op, NULL, x); }

/* A kernel op on up to three operands of equal lanes. */
static ir_ref kernel_op(cg_kernel *k, ir_opcode op, const void *attr, int n, ir_ref *in) {
    kernel_level(k, n, in);
    return ir_emit(&k->b, op, attr, n, in);
}

ir_ref cg_bin(cg_kernel *k, ir_opcode op, ir_ref x, ir_ref y) {
    ir_ref in[2] = {x, y};
    return kernel_op(k, op, NULL, 2, in);
}

ir_ref cg_cmp(cg_kernel *k, ir_cmpop op, ir_ref x, ir_ref y) {
    ir_ref in[2] = {x, y};
    return kernel_op(k, OP_cmp, &(ir_attr_cmpop){.op = (uint8_t)op}, 2, in);
}

ir_ref cg_bit(cg_kernel *k, ir_bitop op, ir_ref x, ir_ref y) {
    ir_ref in[2] = {x, y};
    return kernel_op(k, OP_bit, &(ir_attr_bitop){.op = (uint8_t)op}, 2, in);
}

ir_ref cg_shift(cg_kernel *k, ir_shop op, ir_ref x, int64_t by) {
    ir_ref in[2] = {x, cg_int(k, cg_dtype_of(k, x), by)};
    return kernel_op(k, OP_shift, &(ir_attr_shop){.op = (uint8_t)op}, 2, in);
}

ir_ref cg_select(cg_kernel *k, ir_ref c, ir_ref x, ir_ref y) {
    ir_ref in[3] = {c, x, y};
    return kernel_op(k, OP_select, NULL, 3, in);
}

ir_ref cg_cast(cg_kernel *k, ir_ref x, ig_dtype to) {
    if (cg_dtype_of(k, x) == to) return x;
    return ir_emit1(&k->b, OP_convert, &(ir_attr_dtype){.dtype = (uint8_t)to}, x);
}

ir_ref cg_bits(cg_kernel *k, ir_ref x, ig_dtype to) {
    if (cg_dtype_of(k, x) == to) return x;
    return ir_emit1(&k->b, OP_bitcast, &(ir_attr_dtype){.dtype = (uint8_t)to}, x);
}

/* --- Loops and branches --------------------------------------------------------------------- */

#define KERNEL_CARRY IR_MAX_RESULTS

#define KERNEL_ONCE UINT32_MAX /* the op of a loop that was not written */

/* Whether a loop is known to go round once. */
static bool kernel_is_once(const cg_kernel *k, ir_ref lo, ir_ref hi, int64_t step) {
    const void *at = ir_splat(k->b.f, lo), *to = ir_splat(k->b.f, hi);
    int64_t from, end;
    if (!at || !to) return false;
    memcpy(&from, at, sizeof from);
    memcpy(&end, to, sizeof end);
    return from < end && end - from <= step;
}

cg_loop cg_for(cg_kernel *k, ir_ref lo, ir_ref hi, int64_t step, int n, const ir_ref *init,
               ir_ref *carried_) {
    ir_ref in[KERNEL_CARRY + 2] = {lo, hi}, param[KERNEL_CARRY + 1] = {{0}};
    ir_type type[KERNEL_CARRY + 1] = {ir_scalar_type(IG_i64)};
    for (int i = 0; i < n; i++) carried_[i] = (ir_ref){0};
    if (cg_failed(k)) return (cg_loop){0};
    if (!n && kernel_is_once(k, lo, hi, step)) return (cg_loop){.op = KERNEL_ONCE, .index = lo};
    for (int i = 0; i < n; i++) {
        in[i + 2] = init[i];
        type[i + 1] = *ir_val_type(k->b.f, init[i]);
    }
    ir_attr_for attr = {.kind = IR_loop_seq, .step = step};
    cg_loop l = {.op = ir_op_begin(&k->b, OP_for, &attr, n + 2, in, 1)};
    ir_region_begin(&k->b, l.op, 0, n + 1, type, param);
    l.index = param[0];
    for (int i = 0; i < n; i++) carried_[i] = param[i + 1];
    return l;
}

ir_ref cg_for_end(cg_kernel *k, cg_loop l, int n, const ir_ref *yield) {
    if (l.op == KERNEL_ONCE) return (ir_ref){0};
    ir_region_end(&k->b, n, yield);
    return ir_op_end(&k->b, l.op);
}

uint32_t cg_if(cg_kernel *k, ir_ref cond) {
    uint32_t op = ir_op_begin(&k->b, OP_kif, NULL, 1, &cond, 2);
    ir_region_begin(&k->b, op, 0, 0, NULL, NULL);
    return op;
}

void cg_else(cg_kernel *k, int n, const ir_ref *yield) {
    if (cg_failed(k)) return;
    uint32_t op = k->b.f->regions.data[k->b.region].op;
    ir_region_end(&k->b, n, yield);
    ir_region_begin(&k->b, op, 1, 0, NULL, NULL);
}

ir_ref cg_if_end(cg_kernel *k, uint32_t op, int n, const ir_ref *yield) {
    ir_region_end(&k->b, n, yield);
    return ir_op_end(&k->b, op);
}

/* --- Dims ----------------------------------------------------------------------------------- */

/* floor(a / b) for b > 0, and its remainder. */
static ir_ref kernel_floordiv(cg_kernel *k, ir_ref a, ir_ref b, bool rem) {
    ir_ref one = cg_i64(k, 1), zero = cg_i64(k, 0);
    ir_ref d = cg_bin(k, OP_max, b, one), q = cg_bin(k, OP_div, a, d);
    ir_ref r = cg_bin(k, OP_sub, a, cg_bin(k, OP_mul, q, d));
    ir_ref below = cg_cmp(k, IR_cmpop_lt, r, zero);
    if (rem) return cg_select(k, below, cg_bin(k, OP_add, r, d), r);
    return cg_select(k, below, cg_bin(k, OP_sub, q, one), q);
}

/* The value of one atom; the depth of a dim is bounded by dim.c. */
static ir_ref kernel_atom(cg_kernel *k, const ir_dim_atom *x) {
    if (x->kind == DIM_SYM) return ir_emit0(&k->b, OP_ksym, &(ir_attr_index){.index = x->sym});
    ir_ref a = cg_dim(k, x->a), b = cg_dim(k, x->b);
    switch (x->kind) {
    case DIM_FLOORDIV: return kernel_floordiv(k, a, b, false);
    case DIM_MOD: return kernel_floordiv(k, a, b, true);
    case DIM_MIN: return cg_bin(k, OP_min, a, b);
    case DIM_MAX: return cg_bin(k, OP_max, a, b);
    default: cg_broken(k, "a dim atom of unknown kind"); return (ir_ref){0};
    }
}

/* Sum the terms of a polynomial. */
static ir_ref kernel_poly(cg_kernel *k, ir_dim d) {
    const ir_dim_term *term;
    uint32_t n = ir_dim_terms(k->b.m, d, &term);
    ir_ref sum = {0};
    for (uint32_t i = 0; i < n; i++) {
        ir_ref t = {0};
        for (uint32_t j = 0; j < term[i].natom; j++) {
            ir_ref x = kernel_atom(k, term[i].atom[j]);
            t = t.i ? cg_bin(k, OP_mul, t, x) : x;
        }
        ir_ref c = cg_i64(k, term[i].coef);
        t = !t.i ? c : term[i].coef == 1 ? t : cg_bin(k, OP_mul, t, c);
        sum = sum.i ? cg_bin(k, OP_add, sum, t) : t;
    }
    return sum.i ? sum : cg_i64(k, 0);
}

ir_ref cg_dim(cg_kernel *k, ir_dim d) {
    if (d >= 0) return cg_i64(k, d);
    if (cg_failed(k)) return (ir_ref){0};
    if (d == IR_DIM_BAD) {
        const ir_module *m = k->b.m;
        ir_build_error(&k->b, ir_dims_lacked_memory(m)
                                  ? rt_fail_memory()
                                  : rt_fail(m->alloc, IG_RANGE, "a size overflows or is negative"));
        return (ir_ref){0};
    }
    for (uint32_t i = 0; i < k->dims.n; i++)
        if (k->dims.data[i].d == d) return k->dims.data[i].r;
    ir_ref r = kernel_poly(k, d);
    if (!k->b.region && r.i && !rt_vec_push(k->b.m->alloc, &k->dims, ((cg_dim_ref){d, r})))
        ir_build_error(&k->b, rt_fail_memory());
    return r;
}

/* --- Memory --------------------------------------------------------------------------------- */

ir_ref cg_alloc(cg_kernel *k, ig_dtype d, int64_t n) {
    return ir_emit0(&k->b, OP_alloc, &(ir_attr_alloc){.dtype = (uint8_t)d, .n = n});
}

ir_ref cg_load(cg_kernel *k, ir_ref mem, ir_ref index, int64_t lanes) {
    ig_dtype d = cg_dtype_of(k, mem);
    ir_ref r = ir_emit2(&k->b, OP_load, &(ir_attr_lanes){.lanes = lanes}, mem, index);
    if (cg_reg(d) == d) return r;
    return cg_unpack16(k, d, cg_cast(k, cg_bits(k, r, IG_u16), IG_u32));
}

/* A register as its element type has it in memory. */
static ir_ref kernel_pack(cg_kernel *k, ig_dtype d, ir_ref x) {
    return cg_reg(d) == d ? x : cg_bits(k, cg_cast(k, cg_pack16(k, d, x), IG_u16), d);
}

void cg_store(cg_kernel *k, ir_ref mem, ir_ref index, ir_ref value) {
    ir_emit3(&k->b, OP_store, NULL, mem, index, kernel_pack(k, cg_dtype_of(k, mem), value));
}

void cg_stream(cg_kernel *k, ir_ref mem, ir_ref index, ir_ref value) {
    ir_emit3(&k->b, OP_stream, NULL, mem, index, kernel_pack(k, cg_dtype_of(k, mem), value));
}

void cg_prefetch(cg_kernel *k, ir_ref mem, ir_ref index) {
    ir_emit2(&k->b, OP_prefetch, NULL, mem, index);
}
