/* ir.h - the SSA IR: one data structure for tensor programs and for kernels.
 *
 * A module holds functions and the tables they share (strings, dims, attributes, locations, weights).  A function is
 * a sequence of ops numbered in one pre-order; a region (loop body, branch) is a contiguous run of that sequence and
 * may use any value of an enclosing region (implicit capture).  There is no CFG and no phi: a region ends in `yield`.
 * Everything is an index; storage belongs to the module and is freed with it.  Passes read an immutable function and
 * emit a new one through the builder; folding and value numbering happen at emission; dead code is "not copied".
 *
 * Invariants (ir/verify.c cites the numbers):
 *   I1  an operand is defined before its use, in the same or an enclosing region of the same function; values are
 *       numbered in order of definition (results of an op with regions after its regions)
 *   I2  result types are what the op's type rule derives from operand types and attribute
 *   I3  the op's level admits it in a function of this kind
 *   I4  operand count matches the table; attribute kind matches the table
 *   I5  every region is non-empty and ends in its only `yield` (functions: `return`), with the arity and types promised;
 *       regions nest at most 64 deep
 *   I6  every dim symbol in a type is declared by the module, with 0 <= lo <= hi
 *   I7  constants have exactly the bytes of their type; NaNs in them are canonical; bools are 0 or 1
 *   I8  a callee exists, stands before its callers (so nothing is recursive), and its signature fits the call, operands that results lie in their results
 *   I9  weights named exist, names of functions, weights and symbols are unique
 *   I10 an ein relation is well formed: every variable has an extent, from an operand or given; none stands twice in one
 *       access; those of the result, those listed in `over` and those that constraints determine from them are all;
 *       what is listed is needed; factors stand before indices; numbering, coefficients and constants are in order
 *   I11 regions fit their op: those of `if` take nothing and yield the same types; that of `scan` takes (i64 step,
 *       carried, slices) and yields (carried, elements); those of `while` take the carried values, the first yields a
 *       bool, the second the carried values; those of `composite` are its body and its rule (ops.def)
 *   I12 what `ref` gives is operand 0 of `read` and `write`, and only that
 */
#ifndef IR_IR_H
#define IR_IR_H

#include "ingot/base.h"
#include "runtime/base/arena.h"
#include "runtime/base/status.h"
#include "runtime/base/str.h"
#include "runtime/base/vec.h"
#include "runtime/dtype.h"

/* --- References --------------------------------------------------------------------------------------- */

typedef struct ir_ref { uint32_t i; } ir_ref;   /* a value of a function; 0 = none */
typedef struct ir_attr { uint32_t i; } ir_attr; /* an interned attribute; 0 = the `none` attribute */
typedef struct ir_loc { uint32_t i; } ir_loc;   /* an interned source location; 0 = unknown */

/* A dim: >= 0 is the constant itself, < 0 names an interned polynomial over the module's dim symbols.
 * Equal dims have equal ir_dim (polynomials are normalised), so == is proof of equality. */
typedef int64_t ir_dim;
#define IR_DIM_BAD INT64_MIN /* overflow, negative constant, or out of memory */

/* --- Types -------------------------------------------------------------------------------------------- */

/* tensor: lanes 0, mem 0.  Kernel level: rank 0 with lanes n = vector of n; mem 1 = pointer to elements. */
typedef struct ir_type {
    uint8_t dtype, rank, lanes, mem;
    ir_dim dim[IG_MAX_RANK]; /* unused ones are 0 */
} ir_type;

typedef struct ir_dims { uint8_t n; ir_dim d[IG_MAX_RANK]; } ir_dims;
typedef struct ir_axes { uint8_t n, a[IG_MAX_RANK]; } ir_axes;
typedef struct ir_ints { uint8_t n; int64_t v[IG_MAX_RANK]; } ir_ints;
typedef struct ir_data { const void *bytes; uint64_t n; } ir_data; /* little-endian elements; borrowed */

/* An ein relation (relation.c): out[...] monoid= product of the factors over the variables in `order`, for all
 * assignments of the variables within their extents that every constraint admits.  Accesses are lists of variables,
 * none twice; strides, padding, windows and diagonals are constraints between variables.  An operand may instead be an
 * index: the value of look[k] - 1 is its element; factors come first.  Variables that are neither of the result nor in
 * `order` are determined by the constraints.
 * Variables are numbered by first appearance: the result's, the operands' from left to right, those of `order`. */
#define IR_EIN_VARS 16
#define IR_EIN_OPERANDS 4
#define IR_EIN_CONSTRAINTS 8
#define IR_EIN_COEF 32767                   /* coefficients, at most */
#define IR_EIN_FAR (INT64_C(1) << 40)       /* constants and given extents, at most: sums do not overflow */
typedef struct ir_ein_con {                 /* sum of c[v] * v, + c0, is 0, or (least) at least 0 */
    int64_t c0;
    int16_t c[IR_EIN_VARS];
    uint8_t least;
    uint8_t unused_[7];
} ir_ein_con;
typedef struct ir_rel {
    uint8_t nvar, nin, norder, monoid; /* monoid: an ir_redop among sum, prod, max, min */
    uint8_t ncon, look[IR_EIN_OPERANDS];
    uint16_t given;                    /* bit v: extent[v] says how far v runs; else an operand has it */
    ir_axes out, in[IR_EIN_OPERANDS];  /* variable numbers, one a dimension */
    uint8_t order[IR_EIN_VARS];        /* reduction variables, outermost first (numerics rule 6) */
    ir_dim extent[IR_EIN_VARS];        /* 0 where not given; not there when nothing is given and ncon is 0 */
    ir_ein_con con[IR_EIN_CONSTRAINTS];
} ir_rel;

/* Where results of a planned call live: one entry a result. */
typedef enum ir_place_kind {
    IR_PLACE_WS = 1,
    IR_PLACE_OUT = 2,
    IR_PLACE_WS_ROW = 3, /* inside of a scan: where the step is in a stacked result that lives there */
    IR_PLACE_OUT_ROW = 4,
    IR_PLACE_IN = 5 /* in the memory of an operand of the same type, which dies there */
} ir_place_kind;
typedef struct ir_places {
    uint8_t n;
    struct { uint8_t kind; ir_dim at; } p[IG_MAX_RANK]; /* byte offset in the workspace, output or operand number */
} ir_places;

/* --- Attributes: structs from attrs.def --------------------------------------------------------------- */

#define IR_CAT_(a, b) a##b
#define IR_CAT(a, b) IR_CAT_(a, b)

enum { /* IR_rmode_even, IR_rmode_floor, ... : see IR_ENUM_ below */
    IR_ENUM_DUMMY_
};
#define IR_E1(k, a) IR_##k##_##a
#define IR_E2(k, a, ...) IR_##k##_##a, IR_E1(k, __VA_ARGS__)
#define IR_E3(k, a, ...) IR_##k##_##a, IR_E2(k, __VA_ARGS__)
#define IR_E4(k, a, ...) IR_##k##_##a, IR_E3(k, __VA_ARGS__)
#define IR_E5(k, a, ...) IR_##k##_##a, IR_E4(k, __VA_ARGS__)
#define IR_E6(k, a, ...) IR_##k##_##a, IR_E5(k, __VA_ARGS__)
#define IR_E7(k, a, ...) IR_##k##_##a, IR_E6(k, __VA_ARGS__)
#define IR_E8(k, a, ...) IR_##k##_##a, IR_E7(k, __VA_ARGS__)
#define IR_NARG_(a, b, c, d, e, f, g, h, n, ...) n
#define IR_NARG(...) IR_NARG_(__VA_ARGS__, 8, 7, 6, 5, 4, 3, 2, 1, 0)
#define ENUM(kind, ...) typedef enum ir_##kind { IR_CAT(IR_E, IR_NARG(__VA_ARGS__))(kind, __VA_ARGS__) } ir_##kind;
#include "ir/attrs.def"

typedef int64_t ir_field_int;
typedef uint8_t ir_field_flag, ir_field_dtype;
typedef ir_dim ir_field_dim;
typedef ir_dims ir_field_dims;
typedef ir_axes ir_field_axes;
typedef ir_ints ir_field_ints;
typedef const char *ir_field_sym;
typedef ir_type ir_field_type;
typedef ir_data ir_field_data;
typedef ir_rel ir_field_rel;
typedef ir_places ir_field_places;
/* What reverse mode keeps of what regions compute (docs/transform.md): the states before n steps of a loop, or: */
typedef int64_t ir_field_ckpt;
enum { IR_CKPT_AUTO = 0, IR_CKPT_ALL = -1, IR_CKPT_SQRT = -2, IR_CKPT_DOTS = -3, IR_CKPT_MOST = 1 << 20 };
static inline bool ir_ckpt_is_valid(ir_field_ckpt v) { return v >= IR_CKPT_DOTS && v <= IR_CKPT_MOST; }
#define ENUM(kind, ...) typedef uint8_t ir_field_##kind;
#include "ir/attrs.def"

#define F(kind, name) ir_field_##kind name;
#define ATTR(name, fields) typedef struct ir_attr_##name { fields char end_; } ir_attr_##name;
#include "ir/attrs.def"
#undef F

typedef enum ir_attr_kind {
#define ATTR(name, fields) ATTR_##name,
#include "ir/attrs.def"
    ATTR_END
} ir_attr_kind;

typedef enum ir_field_kind {
    FIELD_int, FIELD_flag, FIELD_dtype, FIELD_dim, FIELD_dims, FIELD_axes, FIELD_ints, FIELD_sym, FIELD_type,
    FIELD_data, FIELD_rel, FIELD_places, FIELD_ckpt,
#define ENUM(kind, ...) FIELD_##kind,
#include "ir/attrs.def"
    FIELD_END
} ir_field_kind;

typedef struct ir_field { ir_field_kind kind; const char *name; uint32_t offset; } ir_field;
typedef struct ir_attr_info { const char *name; uint32_t size; uint32_t nfield; const ir_field *field; } ir_attr_info;
extern const ir_attr_info ir_attr_tab[ATTR_END];
/* Names of an enumerated field kind, NULL-terminated; NULL for other kinds. */
const char *const *ir_enum_names(ir_field_kind kind);
/* Whether a field says what its absence says, too: it is neither printed nor saved then. */
bool ir_field_is_absent(const ir_field *f, const void *at);
/* The dims that a field holds (of lists, of a relation, one dim), *n_ of them. */
ir_dim *ir_dims_in(ir_field_kind kind, void *at, int *n_);

/* --- Ops: from ops.def -------------------------------------------------------------------------------- */

typedef enum ir_opcode {
#define OP(name, ...) OP_##name,
#include "ir/ops.def"
#undef OP
    OP_END
} ir_opcode;

#define IR_ARITY_V 255
#define IR_LINEAR_V 255 /* which operands: decided by the attribute */
typedef struct ir_op_info {
    const char *name;
    uint8_t version, arity; /* arity IR_ARITY_V = any */
    char level;             /* 't', 'k', 'b' */
    uint8_t attr;           /* ir_attr_kind */
    bool commutes, associative, effect;
    uint8_t linear;         /* bit i = operand i, or IR_LINEAR_V */
    const char *type_rule, *domain;
    bool elementwise; /* reference rule is `ew` */
} ir_op_info;
extern const ir_op_info ir_op_tab[OP_END];
/* OP_END when there is none of that name. */
ir_opcode ir_op_find(const char *name, size_t n);
static inline bool ir_is_elementwise(ir_opcode op) { return ir_op_tab[op].elementwise; }
/* What a scatter computes with an element and its update; not for `set`. */
static inline ir_opcode ir_put_code(unsigned putop) {
    static const uint16_t code[] = {OP_END, OP_add, OP_mul, OP_min, OP_max};
    return (ir_opcode)code[putop < 5 ? putop : 0];
}
#define IR_MAX_BRANCHES 64
#define IR_CUSTOM_OPERANDS 16 /* of an op that is a C function, and its results */
#define IR_CUSTOM_RESULTS IG_MAX_RANK
static inline bool ir_has_regions(ir_opcode op) {
    return op == OP_for || op == OP_kif || op == OP_if || op == OP_scan || op == OP_while ||
           op == OP_composite;
}
/* How many regions an op has; attr is the struct of its attribute kind. */
int ir_region_count(ir_opcode op, const void *attr);

/* --- Storage ------------------------------------------------------------------------------------------ */

typedef struct ir_op {
    uint16_t code;    /* ir_opcode */
    uint16_t nin, nout, nregion;
    uint32_t in0;     /* first operand in func.operands */
    uint32_t out0;    /* first result value (results are contiguous) */
    uint32_t region0; /* first region in func.regions (contiguous), when nregion > 0 */
    uint32_t parent;  /* region that holds the op; 0 is the function body */
    ir_attr attr;
    ir_loc loc;
} ir_op;

/* Ops [first, end) in pre-order, the last one being `yield` or `return`.  Region 0 is the function body. */
typedef struct ir_region {
    uint32_t op;             /* the op that owns the region; unused for region 0 */
    uint32_t parent;         /* enclosing region; 0 for region 0 itself */
    uint32_t first, end;     /* ops */
    uint32_t param0, nparam; /* parameter values, contiguous */
} ir_region;

typedef struct ir_value {
    uint32_t type;    /* in module.types */
    uint32_t def;     /* op number, or region number for a parameter */
    uint16_t index;   /* which result or parameter */
    bool is_param;
} ir_value;

/* fn: tensor program.  cluster: tensor program that becomes one kernel.  kernel: loop nest.  host: the program that
 * checks dims, places buffers and launches kernels. */
typedef enum ir_func_kind { IR_FN, IR_CLUSTER, IR_KERNEL, IR_HOST } ir_func_kind;

typedef struct ir_module ir_module;
typedef struct ir_func {
    ir_module *module; /* borrowed */
    const char *name;  /* interned */
    ir_func_kind kind;
    RT_VEC(ir_op) ops;
    RT_VEC(ir_value) values;    /* values.data[0] is unused */
    RT_VEC(ir_ref) operands;
    RT_VEC(ir_region) regions;  /* regions.data[0] is the body; its params are the function's */
    RT_VEC(uint32_t) results;   /* the function's result types, in module.types */
    RT_VEC(const char *) param_names; /* interned or NULL, one a parameter; printed when set */
} ir_func;

/* A named blob: trained weights, or a constant too large to be inline. */
typedef struct ir_weight {
    const char *name; /* interned */
    ir_type type;     /* static dims */
    const void *data; /* owned when `owned`, else borrowed for the life of the module */
    uint64_t bytes;
    bool owned;
} ir_weight;

/* A dim symbol: lo <= value <= hi. */
typedef struct ir_symbol { const char *name; int64_t lo, hi; } ir_symbol;
typedef struct ir_loc_rec { const char *file; uint32_t line; } ir_loc_rec;

typedef enum ir_class { IR_CLASS_FMA, IR_CLASS_NOFMA } ir_class; /* numerics rule 12 */

typedef struct ir_dim_table ir_dim_table;   /* dim.c */
typedef struct ir_intern ir_intern;         /* module.c: strings, attributes, locations */

struct ir_module {
    const ig_allocator *alloc; /* borrowed */
    rt_arena arena;            /* owns strings, attributes, inline constants */
    const char *name;          /* interned */
    ir_class class;
    bool unchecked;            /* traced with IG_TRACE_ONCE: the trace check did not run */
    uint32_t nstate;           /* the last nstate parameters and results of the entry function are state */
    RT_VEC(ir_symbol) symbols;
    RT_VEC(ir_weight) weights;
    RT_VEC(ir_func *) funcs;   /* owned */
    RT_VEC(const ir_type *) types; /* interned in the arena; types.data[0] is no type */
    ir_dim_table *dims;        /* owned */
    ir_intern *intern;         /* owned */
};

/* --- Modules (module.c) ------------------------------------------------------------------------------- */

ig_status ir_module_new(const ig_allocator *alloc, const char *name, ir_module **out_);
void ir_module_free(ir_module *m);
/* Interned copy of n bytes, NUL-terminated; NULL when memory is out. */
const char *ir_intern_str(ir_module *m, const char *s, size_t n);
/* The loc of file:line; {0} for unknown, or when memory is out (a location is never worth an error). */
ir_loc ir_intern_loc(ir_module *m, const char *file, uint32_t line);
ir_loc_rec ir_loc_get(const ir_module *m, ir_loc loc); /* file NULL when unknown */
/* Its number in m->types; UINT32_MAX when memory is out.  Of a kept type only the dims up to its rank are stored. */
uint32_t ir_intern_type(ir_module *m, const ir_type *type);
/* Intern an attribute struct (deep copy); ir_attr{UINT32_MAX} when memory is out. */
ir_attr ir_intern_attr(ir_module *m, ir_attr_kind kind, const void *attr);
/* The struct, never NULL.  Behind the entries of a list any bytes may stand: compare and copy by entries. */
const void *ir_attr_get(const ir_module *m, ir_attr a);
ir_attr_kind ir_attr_kind_of(const ir_module *m, ir_attr a);
ir_func *ir_find_func(const ir_module *m, const char *name);         /* any string; NULL when absent */
/* The function a module is about: the one of its name, else the last tensor function; NULL when there is none. */
const ir_func *ir_entry(const ir_module *m);
/* Remove the function that was added last; nothing refers to it. */
void ir_drop_func(ir_module *m);
const ir_weight *ir_find_weight(const ir_module *m, const char *name);
/* Add a weight; data is copied when `copy`, else borrowed.  The type must be static. */
ig_status ir_add_weight(ir_module *m, const char *name, ir_type type, const void *data, bool copy);
/* The same with a buffer of the module's allocator (rt_alloc_buffer), which the module then owns; not on failure. */
ig_status ir_add_weight_owned(ir_module *m, const char *name, ir_type type, void *data);
/* Find or add a dim symbol; IR_DIM_BAD when memory is out.  An existing symbol keeps its range. */
ir_dim ir_add_symbol(ir_module *m, const char *name, int64_t lo, int64_t hi);
/* An empty copy of everything but the functions (weights borrowed from m, which must outlive the copy). */
ig_status ir_module_shell(const ir_module *m, ir_module **out_);

/* --- Dims (dim.c): polynomials over symbols with integer coefficients and opaque atoms
 *     floordiv(p,q), mod(p,q), min(p,q), max(p,q).  m may be NULL when both operands are constant.
 *     Every function returns IR_DIM_BAD on overflow or when memory is out, and passes IR_DIM_BAD through. */
ir_dim ir_dim_add(ir_module *m, ir_dim a, ir_dim b);
ir_dim ir_dim_sub(ir_module *m, ir_dim a, ir_dim b); /* a constant result below 0 is IR_DIM_BAD */
ir_dim ir_dim_mul(ir_module *m, ir_dim a, ir_dim b);
ir_dim ir_dim_floordiv(ir_module *m, ir_dim a, ir_dim b); /* exact polynomial division where it divides */
ir_dim ir_dim_mod(ir_module *m, ir_dim a, ir_dim b);
ir_dim ir_dim_min(ir_module *m, ir_dim a, ir_dim b);
ir_dim ir_dim_max(ir_module *m, ir_dim a, ir_dim b);
static inline bool ir_dim_is_const(ir_dim d) { return d >= 0; }
/* d elements with `interior` more between any two: d + (d - 1) * interior, or 0 when d is 0. */
ir_dim ir_dim_spread(ir_module *m, ir_dim d, int64_t interior);
/* Whether a <= b is proved for every value of the symbols; false means unknown.  Makes no new dims. */
bool ir_dim_le(const ir_module *m, ir_dim a, ir_dim b);
/* Bounds over the symbols' ranges (saturating at 0 and INT64_MAX). */
void ir_dim_range(const ir_module *m, ir_dim d, int64_t *lo_, int64_t *hi_);
/* Value under a binding of the symbols, in the order of m->symbols; false on overflow or a negative value. */
bool ir_dim_eval(const ir_module *m, ir_dim d, const int64_t *symbols, int64_t *out_);
/* Read a dim structurally, for code generation: one node at a time. */
typedef enum ir_dim_node_kind { DIM_CONST, DIM_SYM, DIM_SUM, DIM_PROD, DIM_FLOORDIV, DIM_MOD, DIM_MIN, DIM_MAX } ir_dim_node_kind;
/* A linear form: sum over terms of coef * product of atoms. */
typedef struct ir_dim_atom { ir_dim_node_kind kind; uint32_t sym; ir_dim a, b; } ir_dim_atom; /* DIM_SYM, or DIM_FLOORDIV.. of (a, b) */
typedef struct ir_dim_term { int64_t coef; uint32_t natom; const ir_dim_atom *const *atom; } ir_dim_term; /* an atom may repeat: power */
uint32_t ir_dim_terms(const ir_module *m, ir_dim d, const ir_dim_term **out_); /* only for d < 0 */
/* Text: `B`, `2*B+1`, `floordiv(B+3,4)*4`; the parser reads the same.  n is the number of bytes read, 0 on error. */
void ir_dim_print(const ir_module *m, ir_dim d, rt_str *out);
/* The same dim in another module (symbols matched by name, added when absent). */
ir_dim ir_dim_import(ir_module *to, const ir_module *from, ir_dim d);
/* The same with dims of `to` in the place of symbols, by number; NULL: by name. */
ir_dim ir_dim_import_by(ir_module *to, const ir_module *from, ir_dim d, const ir_dim *by);
/* Whether memory was out in one of these functions since the last question: then IR_DIM_BAD, or an order that is not
 * proved, says nothing about the values.  Whoever is about to report these asks first. */
bool ir_dims_lacked_memory(const ir_module *m);

/* --- Types (type.c) ----------------------------------------------------------------------------------- */

ir_type ir_tensor_type(ig_dtype dtype, int rank, const ir_dim *dims);
static inline ir_type ir_scalar_type(ig_dtype dtype) { return (ir_type){.dtype = (uint8_t)dtype}; }
static inline ir_type ir_vec_type(ig_dtype dtype, int lanes) { return (ir_type){.dtype = (uint8_t)dtype, .lanes = (uint8_t)lanes}; }
static inline ir_type ir_mem_type(ig_dtype dtype) { return (ir_type){.dtype = (uint8_t)dtype, .mem = 1}; }
/* The lane that `deal` puts at lane i: of operand 0, or from `lanes` on of operand 1. */
static inline int64_t ir_deal_lane(const ir_attr_deal *a, int64_t lanes, int64_t i) {
    int64_t at = i % a->segment, half = a->segment / 2, n = at % half;
    return i - at + at / half * lanes + (2 * (n / a->group) + a->odd) * a->group + n % a->group;
}
bool ir_type_eq(const ir_type *a, const ir_type *b);
bool ir_same_dims(const ir_type *a, const ir_type *b);
bool ir_type_is_static(const ir_type *t);
/* Number of elements as a dim. */
ir_dim ir_type_numel(ir_module *m, const ir_type *t);
/* Static types only: elements and bytes; false on overflow. */
bool ir_type_bytes(const ir_type *t, int64_t *numel_, size_t *bytes_);
void ir_type_print(const ir_module *m, const ir_type *t, rt_str *out); /* f32[B,784], vec<16 x f32>, mem<f32> */

/* --- The type rule (infer.c): one function for builder, parser, verifier and eager calls --------------- */

#define IR_MAX_RESULTS 256
typedef struct ir_infer {
    ir_module *m;        /* NULL for eager calls: all dims constant, no symbols, weights or callees */
    ir_opcode op;
    int nin;
    const ir_type *in;
    const void *attr;    /* struct of the op's attribute kind */
    int nout;            /* set by the rule */
    ir_type *out;        /* room for IR_MAX_RESULTS */
    ig_code code;        /* on failure */
    char message[384];   /* on failure: what is wrong and what to do, without op name or place */
} ir_infer;
bool ir_infer_types(ir_infer *c); /* false on error */

/* --- Building (build.c) ------------------------------------------------------------------------------- */

typedef enum ir_build_flags {
    IR_BUILD_RAW = 0,    /* exactly what is emitted: traces, tapes, scripts (numerics rule 10) */
    IR_BUILD_FOLD = 1,   /* identities and small constants (<= 64 elements) */
    IR_BUILD_CSE = 2,    /* value numbering of pure ops */
    IR_BUILD_OPT = 3
} ir_build_flags;

typedef struct ir_cse ir_cse;
typedef struct ir_builder {
    ir_module *m;        /* borrowed */
    ir_func *f;          /* the function being built; owned until ir_build_end */
    unsigned flags;
    ir_loc loc;          /* stamped on every op */
    ig_status error;     /* the first error; owned.  After it every emission gives {0} */
    uint32_t region;     /* the open region */
    ir_cse *cse;         /* owned */
} ir_builder;

/* Begin a function.  Parameters are added with ir_param before the first op. */
void ir_build_begin(ir_builder *b, ir_module *m, const char *name, ir_func_kind kind, unsigned flags);
ir_ref ir_param(ir_builder *b, ir_type type, const char *name /* may be NULL */);
/* A value that stands for one of another function, in a function that is never finished: the linear half of a derivative
 * names values of its primal half so. */
ir_ref ir_capture(ir_builder *b, ir_type type);
/* Emit an op without regions; the first result, or {0} after an error.  attr NULL = the zeroed struct. */
ir_ref ir_emit(ir_builder *b, ir_opcode op, const void *attr, int nin, const ir_ref *in);
static inline ir_ref ir_emit0(ir_builder *b, ir_opcode op, const void *attr) { return ir_emit(b, op, attr, 0, NULL); }
static inline ir_ref ir_emit1(ir_builder *b, ir_opcode op, const void *attr, ir_ref x) { return ir_emit(b, op, attr, 1, &x); }
static inline ir_ref ir_emit2(ir_builder *b, ir_opcode op, const void *attr, ir_ref x, ir_ref y) { ir_ref in[2] = {x, y}; return ir_emit(b, op, attr, 2, in); }
static inline ir_ref ir_emit3(ir_builder *b, ir_opcode op, const void *attr, ir_ref x, ir_ref y, ir_ref z) { ir_ref in[3] = {x, y, z}; return ir_emit(b, op, attr, 3, in); }
/* The k-th result of the op whose first result is r. */
static inline ir_ref ir_result(ir_ref r, uint32_t k) { return (ir_ref){r.i ? r.i + k : 0}; }
/* An op with regions: begin, then for each region ir_region_begin, ops, ir_region_end (emits the yield); ir_op_end gives
 * the first result.  Regions of `for`: (index i64, carried...) ; of `kif`: none, two regions; of others: I11. */
uint32_t ir_op_begin(ir_builder *b, ir_opcode op, const void *attr, int nin, const ir_ref *in, int nregion);
void ir_region_begin(ir_builder *b, uint32_t op, int k, int nparam, const ir_type *param, ir_ref *param_);
void ir_region_end(ir_builder *b, int n, const ir_ref *yield);
ir_ref ir_op_end(ir_builder *b, uint32_t op);
/* Emit `return`, add the function to the module and hand it out.  On error nothing is added. */
ig_status ir_build_end(ir_builder *b, int n, const ir_ref *results, ir_func **out_ /* may be NULL */);
void ir_build_abort(ir_builder *b); /* drop what was built, its error included */
/* Constants.  ir_const copies; scalars convert the double / int exactly or saturate as `convert` does. */
ir_ref ir_const(ir_builder *b, ir_type type, const void *bytes, size_t n);
ir_ref ir_const_f(ir_builder *b, ig_dtype dtype, double x);
ir_ref ir_const_i(ir_builder *b, ig_dtype dtype, int64_t x);
/* The same value broadcast to the shape (or lanes) of `like`, with its dtype. */
ir_ref ir_const_like(ir_builder *b, ir_ref like, double x);
ir_type ir_type_of(const ir_builder *b, ir_ref r);
/* Record an error in the builder at its current location (keeps the first). */
void ir_build_error(ir_builder *b, ig_status s);
/* Copy op `o` of `from` into b with operands mapped by map[value]; results are entered into map.  An op with regions is
 * begun, and its first region; a `yield` ends its region, and begins the next one or ends the op.  So whoever copies
 * the ops of a function one after the other copies the regions, too. */
void ir_copy_op(ir_builder *b, const ir_func *from, uint32_t o, ir_ref *map);
/* The same with these operands, values of b. */
void ir_copy_op_with(ir_builder *b, const ir_func *from, const ir_op *o, const ir_ref *in, ir_ref *map);
/* The region in which a value is visible. */
static inline uint32_t ir_home(const ir_func *f, ir_ref v) {
    const ir_value *x = &f->values.data[v.i];
    return x->is_param ? x->def : f->ops.data[x->def].parent;
}
/* The op behind op `o` and its regions. */
uint32_t ir_op_after(const ir_func *f, uint32_t o);
/* flow.c: whether the regions of `if`, `scan` or `while` fit it (I11), and the results that they give. */
typedef struct ir_flow {
    const ir_func *f;
    const ir_op *o;
    int nout;
    ir_type out[IR_MAX_RESULTS];
    char message[320]; /* on failure: both types */
} ir_flow;
bool ir_flow_check(ir_flow *c);
/* Why an op with regions cannot have the checkpoint policy of its attribute; NULL when it can. */
const char *ir_ckpt_wrong(ir_opcode op, const void *attr);
/* Room for an attribute of any kind, and an attribute of one module as a struct for another (dims imported). */
typedef union ir_attr_any {
#define ATTR(name, fields) ir_attr_##name a_##name;
#include "ir/attrs.def"
} ir_attr_any;
void ir_import_attr(ir_module *to, const ir_module *from, ir_attr a, ir_attr_any *out_);
void ir_import_attr_by(ir_module *to, const ir_module *from, ir_attr a, const ir_dim *by, ir_attr_any *out_);
/* A type of one module in another (dims imported). */
ir_type ir_import_type(ir_module *to, const ir_module *from, ir_type t);
/* fold.c: an identity or constant result for an op about to be emitted, or {0}. */
ir_ref ir_fold(ir_builder *b, ir_opcode op, const void *attr, int nin, const ir_ref *in);
/* A splat is one constant element in every place: a uniform constant, or a broadcast, reshape or vector of one.
 * Its element, or NULL; whether it is the number v, the sign of zero included. */
const void *ir_splat(const ir_func *f, ir_ref r);
bool ir_is_splat(const ir_func *f, ir_ref r, double v);

/* --- Reading ------------------------------------------------------------------------------------------ */

static inline const ir_op *ir_def_op(const ir_func *f, ir_ref r) {
    const ir_value *v = &f->values.data[r.i];
    return v->is_param ? NULL : &f->ops.data[v->def];
}
static inline const ir_type *ir_val_type(const ir_func *f, ir_ref r) { return f->module->types.data[f->values.data[r.i].type]; }
static inline const ir_type *ir_result_type(const ir_func *f, uint32_t k) { return f->module->types.data[f->results.data[k]]; }
static inline ir_ref ir_op_in(const ir_func *f, const ir_op *o, uint32_t k) { return f->operands.data[o->in0 + k]; }
static inline ir_ref ir_op_out(const ir_op *o, uint32_t k) { return (ir_ref){o->out0 + k}; }
static inline uint32_t ir_nparam(const ir_func *f) { return f->regions.data[0].nparam; }
static inline ir_ref ir_param_ref(const ir_func *f, uint32_t k) { return (ir_ref){f->regions.data[0].param0 + k}; }
static inline const ir_op *ir_return_op(const ir_func *f) { return &f->ops.data[f->regions.data[0].end - 1]; }
/* Number of uses of every value (calloc'ed array of values.n, owned by the caller; NULL when memory is out). */
uint32_t *ir_count_uses(const ir_func *f, const ig_allocator *a);

/* --- Checking, printing, parsing, files --------------------------------------------------------------- */

/* verify.c: all violations, one line each with its invariant number, in one status. */
ig_status ir_verify(const ir_module *m);
ig_status ir_verify_func(const ir_func *f);
/* print.c */
typedef enum ir_print_flags {
    IR_PRINT_LOCS = 1,
    IR_PRINT_ELIDE = 2 /* leave out large data: for reading only, the parser refuses it */
} ir_print_flags;
void ir_print(const ir_module *m, rt_str *out, unsigned flags);
void ir_print_func(const ir_func *f, rt_str *out, unsigned flags);
void ir_print_op(const ir_func *f, uint32_t o, rt_str *out, unsigned flags); /* one op with its regions */
/* parse.c: text -> module; errors are `name:line:column: message`, the source line and a caret.  Not verified. */
ig_status ir_parse(const ig_allocator *alloc, const char *name, const char *text, size_t n, ir_module **out_);
/* ein.c: `y[b,o] += x[b,i]*w[i,o] over (i)`; on error message (with a caret under the place) into msg.  Dims of ranges
 * are over the symbols of m. */
bool ir_ein_parse(ir_module *m, const char *text, size_t n, ir_rel *out_, char *msg, size_t msg_size);
/* The same where extents may be left out or called by names that operands' axes give them (`x[i:N]`): dims are those of
 * the operands, in the order of the relation.  m may be NULL when all are constant. */
bool ir_ein_parse_for(ir_module *m, const char *text, size_t n, int nin, const ir_dims *dims, ir_rel *out_, char *msg,
                      size_t msg_size);
/* Variables i, j, k, ...; result y, operands a, b, c, d. */
void ir_ein_print(const ir_module *m, const ir_rel *rel, rt_str *out);
/* relation.c */
bool ir_ein_check(const ir_rel *rel, char *msg, size_t msg_size); /* I10 */
void ir_ein_number(ir_rel *rel); /* number the variables of a relation that is well formed otherwise; sets nvar */
/* Without constraints, given extents and indices: each variable is a loop. */
bool ir_ein_is_plain(const ir_rel *rel);
/* How constraints are met, in turn: each at the first level (0: the result's variables are known; i: the i first of
 * `order` are, too) where at most one of its variables is unknown.  Equation `number` gives var, or index operand
 * `number` does; or they are tested.  A variable that is given is within its extent, or the tuple does not exist. */
typedef enum ir_ein_meet { IR_EIN_SOLVE, IR_EIN_LOOK, IR_EIN_TEST, IR_EIN_MATCH } ir_ein_meet;
typedef struct ir_ein_step { uint8_t meet, number, var, level; } ir_ein_step;
typedef struct ir_ein_plan {
    uint8_t n;
    uint32_t known; /* bit v: a loop variable or determined */
    ir_ein_step step[IR_EIN_CONSTRAINTS + IR_EIN_OPERANDS];
} ir_ein_plan;
void ir_ein_meet_all(const ir_rel *rel, ir_ein_plan *out_);
/* Fill order: of n candidates, in turn, those that are not of the result and not determined by what is listed. */
void ir_ein_list_order(ir_rel *rel, int n, const uint8_t *var);
/* The extents of all variables; false: operand *k_ has another one along its axis *i_ than was seen before. */
bool ir_ein_extents(const ir_rel *rel, const ir_type *in, ir_dim *extent_, int *k_, int *i_);
/* The transpose with respect to factor k: its access and the result's change places, where type is that of the operand.
 * Constraints stay; what determines variables lists the reduction variables of rel before others. */
void ir_ein_swap(ir_rel *rel, int k, const ir_type *type);
/* `y[..] += x[..]` of one operand has the order of reduce, not of ein (numerics rule 7): ir_emit writes it as
 * transpose (when moves_first), reduce, transpose (when moves_last); eager callers do the same. */
typedef struct ir_ein_steps { bool moves_first, moves_last; ir_attr_perm first, last; ir_attr_reduce reduce; } ir_ein_steps;
bool ir_ein_is_sum(const ir_rel *rel);
void ir_ein_sum_steps(const ir_rel *rel, ir_ein_steps *out_); /* rel passed ir_ein_check */

/* --- Meaning: the reference (ref.c), the definition of every bit ---------------------------------------- */

typedef struct ir_tensor { /* contiguous, row-major, little-endian */
    uint8_t dtype, rank;
    int64_t dim[IG_MAX_RANK];
    void *data; /* may be NULL when empty */
} ir_tensor;

/* Run one op without regions on real data.  Output tensors have their types and memory set by the caller. */
ig_status ir_ref_op(const ig_allocator *a, ir_class cls, ir_opcode op, const void *attr, int nin,
                    const ir_tensor *in, int nout, ir_tensor *out);
/* What the reference prepares once (bodies of transcendental functions) and keeps between calls of one thread. */
typedef struct ir_ref_ctx ir_ref_ctx;
ig_status ir_ref_ctx_new(const ig_allocator *a, ir_ref_ctx **out_);
void ir_ref_ctx_free(ir_ref_ctx *ctx);
/* ir_ref_op with such a context; the allocator is the context's. */
ig_status ir_ref_op_in(ir_ref_ctx *ctx, ir_class cls, ir_opcode op, const void *attr, int nin,
                       const ir_tensor *in, int nout, ir_tensor *out);
/* Run a tensor function.  symbols: values in module order, bound by the caller.  out: memory set by the caller. */
ig_status ir_ref_run(const ir_func *f, const ig_allocator *a, const int64_t *symbols, int nin,
                     const ir_tensor *in, int nout, ir_tensor *out);
/* Bind the module's symbols from argument shapes; error naming argument and dim when they do not fit. */
ig_status ir_bind_dims(const ir_func *f, int nin, const ir_tensor *in, int64_t *symbols_);
/* Result shapes under a binding (data left NULL). */
ig_status ir_result_shape(const ir_func *f, const int64_t *symbols, uint32_t k, ir_tensor *out_);
/* Canonicalise every NaN of a buffer to the positive quiet NaN (numerics rule 2). */
void ir_canon_nan(ig_dtype dtype, void *data, int64_t n);

/* Kernel-block constants of the orders (numerics rules 5 and 7). */
#define IR_LANES 16
#define IR_REDUCE_BLOCK 4096
#define IR_CUMRED_BLOCK 1024
#define IR_KB 512

/* math.c: the one body of a transcendental function, op by op, on scalars (f32 or f64).  16-bit floats go through f32.
 * Emits into b for operands of any shape or lanes; the reference evaluates the same ops.
 * *usual_ (NULL: not wanted) is a bool that holds for nearly all arguments of nearly all programs, or nothing: where it
 * holds, the third operands of the selects on it, which follow each other, need not be computed. */
bool ir_math_has(ir_opcode op, ig_dtype dtype);
ir_ref ir_math_emit(ir_builder *b, ir_opcode op, const ir_ref *in, ir_ref *usual_);
/* Philox4x32-10: (key0, key1, counter lo, counter hi) as u32 values of one shape -> four u32 values. */
void ir_philox_emit(ir_builder *b, const ir_ref in[4], ir_ref out_[4]);

#endif
