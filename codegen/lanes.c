/* lanes.c - how many lanes the loops along a result take at a time.
 *
 * CG_LANES, the lanes of a reduction, or twice as many where these are a single machine vector: the
 * ops of one vector wait for each other, and a processor looks only so far ahead for the next one.
 * AVX-512, f32 in L1, 32 lanes beside 16: log 0.12 ns an element and 0.18, sin 0.17 and 0.20, exp
 * 0.105 and 0.117.  Fewer than CG_LANES are no better: f64 on AVX2, 16 lanes beside 8, exp 0.55 and
 * 0.62, erf 2.5 and 2.9, log 0.79 and 0.71.  A single op or two wait for memory instead: more lanes
 * would be code without speed.
 *
 * Reductions of columns work in memory and want long pieces of each row: a strip of 64 columns,
 * unless what is computed on the way wants registers.  Columns of 16384 x 1024 f32, 64 lanes beside
 * 16: sum 3.6 ms and 12.3, softmax 11 and 36. */
#include "codegen/lower.h"

#define LANES_VECTORS 2
#define LANES_FEW     4 /* ops: fewer are a matter of memory */
#define LANES_STRIP   (4 * CG_LANES)
#define LANES_SUMS    4 /* more take so much memory that strips must be narrow */

static bool lanes_is_key(const ir_type *t) { return t->rank == 1 && t->dim[0] == 2; }

/* Whether an op works on each lane by itself, and reads its operands' lanes side by side. */
static bool lanes_is_plain(const cg_low *l, const ir_op *o) {
    switch (o->code) {
    case OP_const:
    case OP_broadcast:
    case OP_detach:
    case OP_barrier:
    case OP_reduce:
    case OP_return: return true;
    case OP_reshape: return ir_rows_is_unit_reshape(l->f, o);
    case OP_slice: return lanes_is_key(cg_type(l, ir_op_out(o, 0)));
    default: return ir_is_elementwise((ir_opcode)o->code);
    }
}

/* Bytes of the widest number that computing an op takes. */
static int64_t lanes_bytes(cg_low *l, const ir_op *o, bool *dear) {
    ig_dtype d = cg_reg((ig_dtype)cg_type(l, ir_op_out(o, 0))->dtype);
    if (!ir_math_has((ir_opcode)o->code, d)) return (int64_t)rt_dtype_bytes(d);
    *dear = true;
    return cg_math_bytes(&l->k, (ir_opcode)o->code, d);
}

void cg_lanes_prepare(cg_low *l) {
    int64_t most = 1, ops = 0, sums = 0;
    bool plain = true, dear = false, words = false;
    l->step = l->whole = CG_LANES;
    for (uint32_t i = 0; i < l->f->ops.n; i++) {
        const ir_op *o = &l->f->ops.data[i];
        plain &= lanes_is_plain(l, o) || o->code == OP_rng_bits;
        words |= o->code == OP_rng_bits;
        sums += o->code == OP_reduce;
        if (!o->nout || o->code == OP_const) continue;
        int64_t n = lanes_bytes(l, o, &dear);
        ops += ir_is_elementwise((ir_opcode)o->code);
        if (n > most) most = n;
    }
    for (uint32_t i = 0; i < ir_nparam(l->f); i++) {
        ig_dtype d = cg_reg((ig_dtype)cg_type(l, ir_param_ref(l->f, i))->dtype);
        if ((int64_t)rt_dtype_bytes(d) > most) most = (int64_t)rt_dtype_bytes(d);
    }
    if (sums) l->strip = CG_LANES;
    if (!plain || cg_lower_failed(l)) return;
    if (words) { /* a block makes four lanes */
        l->whole = 4 * CG_LANES;
        return;
    }
    int64_t lanes = LANES_VECTORS * l->cpu->vector_bits / (8 * most);
    bool many = dear || ops >= LANES_FEW;
    if (many && lanes > CG_LANES) l->step = l->whole = 2 * CG_LANES;
    if (sums && sums <= LANES_SUMS) l->strip = many ? 2 * l->step : LANES_STRIP;
}
