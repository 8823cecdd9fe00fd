/* kernel.h - writing kernel-level IR: constants, loops, dims, memory, and elementwise ops made of
 * what every target has.
 *
 * Registers.  A tensor element lives in a register of type cg_reg(dtype): f16 and bf16 as the f32
 * of the same value (numerics rule 1: widen exactly, operate, round), everything else as itself.
 * cg_load widens and cg_store packs. */
#ifndef CG_KERNEL_H
#define CG_KERNEL_H
#include "codegen/target.h"

/* Lanes of a vector: the lanes of a reduction, so that one vector is one step of it. */
#define CG_LANES IR_LANES

typedef struct cg_dim_ref {
    ir_dim d;
    ir_ref r;
} cg_dim_ref;
typedef struct cg_pack_ref {
    ig_dtype d;
    ir_ref wide, bits;
} cg_pack_ref;
typedef struct cg_body {
    ir_opcode op;
    ig_dtype dtype;
    ir_builder b;
    ir_ref result;
    ir_ref usual; /* of ir_math_emit */
} cg_body;

/* A function being written at kernel level. */
typedef struct cg_kernel {
    ir_builder b;
    int64_t lanes;             /* of vectors made now: CG_LANES, or 0 for scalars */
    RT_VEC(cg_dim_ref) dims;   /* evaluated in the function's body */
    RT_VEC(cg_pack_ref) packs; /* registers that came from 16 bits */
    RT_VEC(cg_body *) bodies;  /* of transcendental functions; owned */
} cg_kernel;

void cg_kernel_begin(cg_kernel *k, ir_module *m, const char *name, ir_func_kind kind);
/* Free what cg_kernel_begin and the writing allocated, the builder excepted. */
void cg_kernel_free(cg_kernel *k);
static inline bool cg_failed(const cg_kernel *k) { return k->b.error != NULL; }
/* Record an internal contradiction. */
void cg_broken(cg_kernel *k, const char *what);

/* Constants and vectors. */
ir_ref cg_i64(cg_kernel *k, int64_t x);
ir_ref cg_int(cg_kernel *k, ig_dtype d, int64_t x);
ir_ref cg_flt(cg_kernel *k, ig_dtype d, double x);
int cg_lanes_of(const cg_kernel *k, ir_ref r);
ig_dtype cg_dtype_of(const cg_kernel *k, ir_ref r);
/* As a vector of `lanes` (0: as it is). */
ir_ref cg_splat(cg_kernel *k, ir_ref r, int64_t lanes);
ir_ref cg_extract(cg_kernel *k, ir_ref r, int64_t lane);
ir_ref cg_half(cg_kernel *k, ir_ref x, int64_t which); /* 0 the low lanes, 1 the high ones */
/* Transpose n vectors of n lanes. */
void cg_turn(cg_kernel *k, int n, ir_ref *x);
ir_ref cg_max_lane(cg_kernel *k, ir_ref x);
/* Whether all lanes (band) or some (bor) are true; a scalar is what it is. */
ir_ref cg_test(cg_kernel *k, ir_bitop op, ir_ref x);
/* Kernel ops on values of one register type; a scalar operand is splatted when the other is a
 * vector. */
ir_ref cg_un(cg_kernel *k, ir_opcode op, ir_ref x);
ir_ref cg_bin(cg_kernel *k, ir_opcode op, ir_ref x, ir_ref y);
ir_ref cg_cmp(cg_kernel *k, ir_cmpop op, ir_ref x, ir_ref y);
ir_ref cg_bit(cg_kernel *k, ir_bitop op, ir_ref x, ir_ref y);
ir_ref cg_shift(cg_kernel *k, ir_shop op, ir_ref x, int64_t by);
ir_ref cg_select(cg_kernel *k, ir_ref c, ir_ref x, ir_ref y);
ir_ref cg_cast(cg_kernel *k, ir_ref x, ig_dtype to); /* the kernel op `convert` */
ir_ref cg_bits(cg_kernel *k, ir_ref x, ig_dtype to); /* the kernel op `bitcast` */

/* Loops and branches: begin gives the index (and the carried values), end yields and gives the
 * results.  A loop without carried values that is known to go round once is only its body. */
typedef struct cg_loop {
    uint32_t op;
    ir_ref index;
} cg_loop;
cg_loop cg_for(cg_kernel *k, ir_ref lo, ir_ref hi, int64_t step, int n, const ir_ref *init,
               ir_ref *carried_);
ir_ref cg_for_end(cg_kernel *k, cg_loop l, int n, const ir_ref *yield); /* the first of n results */
uint32_t cg_if(cg_kernel *k, ir_ref cond);
void cg_else(cg_kernel *k, int n, const ir_ref *yield);
ir_ref cg_if_end(cg_kernel *k, uint32_t op, int n, const ir_ref *yield);

/* The value of a dim as an i64 scalar; the dim belongs to the module of the builder. */
ir_ref cg_dim(cg_kernel *k, ir_dim d);

/* Memory, by element index (i64 scalar or vector); lanes 0 loads a scalar. */
ir_ref cg_load(cg_kernel *k, ir_ref mem, ir_ref index, int64_t lanes);
void cg_store(cg_kernel *k, ir_ref mem, ir_ref index, ir_ref value);
/* The same, past the caches: mem is aligned, the index a multiple of the value's lanes. */
void cg_stream(cg_kernel *k, ir_ref mem, ir_ref index, ir_ref value);
ir_ref cg_alloc(cg_kernel *k, ig_dtype d, int64_t n);
void cg_prefetch(cg_kernel *k, ir_ref mem, ir_ref index);

/* The register type of an element type. */
static inline ig_dtype cg_reg(ig_dtype d) { return d == IG_f16 || d == IG_bf16 ? IG_f32 : d; }
/* A register rounded to what its element type can hold (only 16-bit floats change). */
ir_ref cg_round(cg_kernel *k, ig_dtype d, ir_ref x);

/* half.c: the 16 bits of a float, as u32, and back; NaN becomes the positive quiet NaN. */
ir_ref cg_pack16(cg_kernel *k, ig_dtype d, ir_ref f32);
ir_ref cg_unpack16(cg_kernel *k, ig_dtype d, ir_ref bits);
/* f64 -> f32 rounded to odd, from which a second rounding to 16 bits is exact. */
ir_ref cg_to_odd(cg_kernel *k, ir_ref f64);

/* ew.c: a tensor-level elementwise op on registers.  dtype is that of the operands (of the last one
 * for select); the result is a register of the op's result type. */
ir_ref cg_ew(cg_kernel *k, ir_opcode op, const void *attr, ig_dtype dtype, int nin,
             const ir_ref *in);
ir_ref cg_convert(cg_kernel *k, ig_dtype from, ig_dtype to, ir_ref x);
/* body.c: a transcendental function of registers of type d, f32 or f64. */
ir_ref cg_math(cg_kernel *k, ir_opcode op, ig_dtype d, int nin, const ir_ref *in);
/* Bytes of the widest number in the usual case of its body. */
int64_t cg_math_bytes(cg_kernel *k, ir_opcode op, ig_dtype d);
/* Four u32 words of Philox. */
void cg_philox(cg_kernel *k, const ir_ref in[4], ir_ref out_[4]);
#endif
