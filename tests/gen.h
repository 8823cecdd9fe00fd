/* gen.h - random valid instances of any op of the table, and random data: no code for single ops.
 */
#ifndef TESTS_GEN_H
#define TESTS_GEN_H
#include "ir/ir.h"

/* A generator of random numbers (splitmix64): the seed is the state. */
typedef struct gen {
    uint64_t state;
} gen;
uint64_t gen_u64(gen *g);
/* Uniform in [0, n); 0 for n 0. */
uint64_t gen_below(gen *g, uint64_t n);
bool gen_one_in(gen *g, uint64_t n);

/* An op with its attribute and the types of its operands. */
enum { GEN_OPERANDS = 12 };
typedef struct gen_op {
    ir_opcode op;
    union { /* the struct of the op's attribute kind */
        char bytes[sizeof(ir_attr_call) > sizeof(ir_attr_ein) ? sizeof(ir_attr_call)
                                                              : sizeof(ir_attr_ein)];
        ir_attr_const align_;
        ir_attr_slice slice;
        ir_attr_pad pad;
    } attr;
    int nin;
    ir_type in[GEN_OPERANDS];
    uint64_t store[64]; /* bytes of a constant */
} gen_op;

/* gen_ein.c: the generator of the domain `ein`. */
bool gen_in_ein(gen *g, gen_op *o);

/* Whether the table gives the op a generator (its domain is not `none`). */
bool gen_has(ir_opcode op);
/* A random instance that the type rule accepts.  like: the type wished for the first operand, or
 * NULL. */
bool gen_instance(gen *g, ir_opcode op, const ir_type *like, gen_op *out_);
/* A random static shape: extents 0, 1, odd, prime; at most `limit` elements. */
ir_type gen_type(gen *g, ig_dtype dtype, int64_t limit);
ig_dtype gen_dtype(gen *g);
/* Random elements: special values (NaN, infinities, zeros, denormals, extremes) among ordinary
 * ones. positive: without sign, for the domain of that name. */
void gen_data(gen *g, ig_dtype dtype, int64_t n, bool positive, void *out);
#endif
