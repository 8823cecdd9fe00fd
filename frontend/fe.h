/* fe.h - what the files of the frontend share: sessions, tensors, the one way to run an op, the
 * recorder. */
#ifndef FE_FE_H
#define FE_FE_H

#include "ingot/ingot.h"
#include "ir/ir.h"

/* --- Values and handles -------------------------------------------------------------------- */

/* The elements of a value, shared by the handles that have it. */
typedef struct fe_buf {
    uint32_t refs;
    bool owned; /* ours: the elements stand behind it; else borrowed from the user */
    bool canon; /* known to hold canonical NaNs only */
    uint8_t given; /* to the module that runs: 0, 1, or 2 when more than once */
    void *data; /* NULL when empty */
    size_t bytes;
    void (*release)(void *user, const void *data); /* of a borrowed buffer; may be NULL */
    void *user;
} fe_buf;

/* Every tensor is in exactly one scope's list; the list of kept tensors is one too. */
typedef struct fe_scope {
    struct fe_scope *parent;
    ig_tensor *first;
} fe_scope;

struct ig_tensor {
    ig_session *session; /* NULL: the poison tensor of a thread without a session */
    fe_buf *buf;         /* one share owned; NULL: poison */
    fe_scope *scope;
    ig_tensor *prev, *next;
    const ig_site *site; /* where it was made; may be NULL */
    char *name;          /* owned; NULL, or the weight it becomes in a trace */
    ig_tensor *grad;     /* owned, in the stream's list of gradients; NULL: none */
    uint32_t refs;
    uint32_t born;       /* the recording during which the handle was made, or 0 */
    uint32_t region;     /* the region of that recording, or 0 */
    uint32_t trace, val; /* the recording that knows the value, and its number there */
    uint8_t dtype, rank;
    bool argument; /* an argument of the traced function */
    int64_t dim[IG_MAX_RANK];
};

static inline bool fe_is_dtype(ig_dtype d) { return d > IG_NONE && d < IG_DTYPE_END; }
static inline bool fe_is_poison(const ig_tensor *t) { return !t->buf; }

typedef struct fe_rec fe_rec;
typedef struct fe_call fe_call;
typedef struct fe_grad fe_grad;

/* What one thread is doing. */
typedef struct fe_stream {
    ig_session *session;   /* the session it is part of */
    fe_scope root, kept;   /* results made under no scope; tensors taken out of scopes */
    fe_scope grads;        /* gradients, which belong to their tensors */
    fe_scope *scope;       /* innermost */
    uint32_t missing;      /* scopes begun when memory was out */
    ig_status error;       /* the first error; owned */
    bool hook_due;         /* the error hook is to be called when the outermost call ends */
    fe_rec *rec;           /* borrowed: the recording under way, or NULL */
    fe_grad *grad;         /* owned: the gradient scope that is open, or NULL */
    const ig_site *graded; /* where the last one began */
    uint32_t missing_grad; /* those begun in vain */
    fe_call *call;         /* innermost public call */
} fe_stream;

/* Freed blocks by size, and freed handles (buffer.c). */
enum { FE_KEEP_CLASSES = 4 * 18 }; /* the largest block that is kept has 2^24 bytes or so */
typedef struct fe_kept fe_kept;
typedef struct fe_keep {
    fe_kept *block[FE_KEEP_CLASSES], *handle;
    size_t bytes;
    uint32_t handles;
} fe_keep;

struct ig_session {
    fe_stream stream;
    fe_keep keep;
    const ig_allocator *alloc; /* borrowed */
    ir_class class;
    ir_ref_ctx *ref; /* owned: what the reference prepares once */
    bool nan_trap;
    bool refer;                           /* every op runs on the reference */
    const struct cg_eager_level *kernels; /* built in; may be NULL */
    ig_eager_count count;
    ig_tensor poison;
    ig_tensor *rng;         /* kept; NULL until first used */
    uint32_t ntrace;        /* recordings begun */
    struct fe_backs *backs; /* owned: gradient functions by recording (grad.c); may be NULL */
    struct fe_relations *relations; /* owned: compiled relations (relation.c); may be NULL */
    ig_grad_count grad_count;
    ig_memory memory;
    ig_error_hook hook;
    void *hook_user;
};

/* --- Public calls (session.c) -------------------------------------------------------------- */

/* One public call: names the op for errors, sets the floating-point environment (numerics rule 14)
 * and collects the temporaries of a composite, which go when it returns. */
struct fe_call {
    fe_stream *s;
    const ig_site *site;
    const char *op;
    fe_call *outer;
    fe_scope scope;
    uint32_t fp;
};

/* Begin a call; false when there is no memory for a session. */
bool fe_enter(fe_call *c, const ig_site *site, const char *op);
/* End it; temporaries are released. */
void fe_exit(fe_call *c);
/* End it and hand t (poison allowed) to the caller's scope.  A tensor that is not a temporary of
 * the call is copied, so that a result is always a new handle. */
ig_tensor *fe_leave(fe_call *c, ig_tensor *t);
/* The same without ending the call: for calls with several results. */
ig_tensor *fe_hand_out(fe_call *c, ig_tensor *t);
/* The poison tensor of a thread that has no session. */
ig_tensor *fe_poison_none(void);
static inline ig_tensor *fe_poison(const fe_call *c) { return &c->s->session->poison; }
static inline const ig_allocator *fe_alloc(const fe_call *c) { return c->s->session->alloc; }

#define FE_ENTER(site, name) \
    fe_call c_;              \
    fe_call *const c = &c_;  \
    if (!fe_enter(c, (site), (name))) return fe_poison_none()
#define FE_ENTER_OR(site, name, failed) \
    fe_call c_;                         \
    fe_call *const c = &c_;             \
    if (!fe_enter(c, (site), (name))) return failed

/* Record an error of this call; poison. */
ig_tensor *fe_error(fe_call *c, ig_code code, const char *fmt, ...) IG_PRINTF(3, 4);
/* Record an error made elsewhere, adding place and op; poison. */
ig_tensor *fe_error_status(fe_call *c, ig_status s);
ig_tensor *fe_error_memory(fe_call *c);
/* An error handed to the caller instead: place and op added. */
ig_status fe_status(fe_call *c, ig_status s);
/* Ops in a call that reports through a status: set the stream's error aside, and hand out the one
 * that was recorded since, putting that back. */
ig_status fe_error_aside(fe_call *c);
ig_status fe_error_back(fe_call *c, ig_status before);
/* Begin a call that reports through a status: NULL and c entered, or why not. */
ig_status fe_enter_status(fe_call *c, const ig_site *site, const char *op);

/* Scopes for internal use: push a scope that lives on the C stack, release what is left in it. */
void fe_scope_push(fe_stream *s, fe_scope *scope);
void fe_scope_pop(fe_stream *s, fe_scope *scope);

/* Call a function of the user, with the user's floating-point environment; what the scopes that it
 * left open hold becomes ours (trace.c). */
void fe_call_user(fe_call *c, void (*fn)(void *, ig_tensor *const *, ig_tensor **), void *user,
                  ig_tensor *const *in, ig_tensor **out);

/* --- Tensors (tensor.c) -------------------------------------------------------------------- */

/* A new handle of the call's scope with room for its elements; poison after an error. */
ig_tensor *fe_new(fe_call *c, ig_dtype dtype, int rank, const int64_t *dim);
/* A new handle over a buffer, whose share it takes over, also when it fails. */
ig_tensor *fe_over(fe_call *c, ig_dtype dtype, int rank, const int64_t *dim, fe_buf *buf);
/* A new handle sharing the value of t (dims as given when dim is not NULL). */
ig_tensor *fe_alias(fe_call *c, ig_tensor *t, int rank, const int64_t *dim);
/* A new handle with a copy of elements, made canonical. */
ig_tensor *fe_leaf(fe_call *c, ig_dtype dtype, int rank, const int64_t *dim, const void *data);
/* Put fresh elements from outside in order: bools 0 or 1, NaNs canonical. */
void fe_clean(ig_tensor *t);
/* A scalar with the value of a host number; an error when the type cannot hold it. */
ig_tensor *fe_number(fe_call *c, ig_dtype dtype, ig_arg x);
static inline ig_tensor *fe_int(fe_call *c, ig_dtype dtype, int64_t x) {
    return fe_number(c, dtype, ig_arg_i(x));
}
static inline ig_tensor *fe_float(fe_call *c, ig_dtype dtype, double x) {
    return fe_number(c, dtype, ig_arg_f(x));
}
void fe_retain(ig_tensor *t);
void fe_release(ig_tensor *t);
/* A buffer of the session with room for its elements; one over memory of the user.  NULL when
 * memory is out. */
fe_buf *fe_buf_new(ig_session *s, size_t bytes);
fe_buf *fe_buf_borrow(ig_session *s, const void *data, size_t bytes);
ig_tensor *fe_handle_new(ig_session *s); /* uninitialised */
void fe_handle_free(ig_session *s, ig_tensor *t);
void fe_keep_free(ig_session *s); /* give back what is kept */
void fe_buf_retain(fe_buf *b);
void fe_buf_release(ig_session *s, fe_buf *b);
/* Move a tensor to another scope's list. */
void fe_move(ig_tensor *t, fe_scope *to);
/* A product of extents: wrapping, as those of an empty tensor may be anything. */
static inline int64_t fe_wrap_mul(int64_t a, int64_t b) {
    return (int64_t)((uint64_t)a * (uint64_t)b);
}
/* Give a handle the value of v (same type and shape). */
void fe_rebind(fe_call *c, ig_tensor *t, ig_tensor *v);
static inline bool fe_same_shape(const ig_tensor *a, const ig_tensor *b) {
    bool same = a->rank == b->rank;
    for (int i = 0; same && i < a->rank; i++) same = a->dim[i] == b->dim[i];
    return same;
}
int64_t fe_numel(const ig_tensor *t);
ir_tensor fe_ir_tensor(const ig_tensor *t);
static inline void fe_fill_ir_tensor(const ig_tensor *t, ir_tensor *r_) {
    r_->dtype = t->dtype;
    r_->rank = t->rank;
    r_->data = t->buf->data;
    for (int i = 0; i < t->rank; i++) r_->dim[i] = t->dim[i];
}
/* Make NaNs canonical where they become visible (numerics rule 2); false when memory is out. */
bool fe_canon(fe_call *c, ig_tensor *t);
/* Check a tensor argument of a public call: not NULL, not poison, of this session. */
bool fe_refuse(fe_call *c, const ig_tensor *t, int operand); /* record what is wrong; false */
static inline bool fe_is_usable(fe_call *c, const ig_tensor *t, int operand) {
    return (t && t->buf && t->session == c->s->session) || fe_refuse(c, t, operand);
}
/* The same for a value about to be read: inside a trace it must not depend on the arguments. */
bool fe_observe(fe_call *c, ig_tensor *t);
/* The same for calls that report through a status. */
ig_status fe_readable(fe_call *c, ig_tensor *t);
/* Element k of a readable tensor as a double, or as an integer (rules of convert). */
double fe_get_f64(const ig_tensor *t, int64_t k);
int64_t fe_get_i64(const ig_tensor *t, int64_t k);
/* A text of n bytes that ig_text_free frees. */
char *fe_text_new(const ig_allocator *a, const void *bytes, size_t n);

/* --- Running ops (eager.c) ----------------------------------------------------------------- */

/* Types print into a buffer of their own. */
typedef struct fe_text {
    char s[192];
} fe_text;
fe_text fe_type_text(const fe_call *c, const ig_tensor *t);
#define FE_TYPE(t) fe_type_text(c, (t)).s
fe_text fe_dim_text(const fe_call *c, ir_dim d);
#define FE_DIM(d) fe_dim_text(c, (d)).s

/* Note where the operands of a failed op were made. */
ig_status fe_note_operands(fe_call *c, ig_status e, int nin, ig_tensor *const *in);
/* Run an op whose operands and result fit its type rule, by a kernel or else the reference; nothing
 * is recorded.  False after an error. */
bool fe_run_op(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor *const *in,
               ig_tensor *out);
/* An attribute of m with its dims evaluated; false on overflow. */
bool fe_eval_attr(const ir_module *m, const int64_t *symbols, ir_attr_kind kind, const void *attr,
                  ir_attr_any *out_);
/* Run one op and record it when a trace is under way.  Dims in attr may be symbolic in a trace. */
ig_tensor *fe_op(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor *const *in);
/* The same for an op with several results, as many as its type rule gives; false after an error,
 * and all are poison. */
enum { FE_RESULTS = IG_MAX_RANK };
bool fe_ops(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor *const *in, int nout,
            ig_tensor **out_);
static inline ig_tensor *fe_op1(fe_call *c, ir_opcode op, const void *attr, ig_tensor *x) {
    return fe_op(c, op, attr, 1, &x);
}
static inline ig_tensor *fe_op2(fe_call *c, ir_opcode op, const void *attr, ig_tensor *x,
                                ig_tensor *y) {
    ig_tensor *in[2] = {x, y};
    return fe_op(c, op, attr, 2, in);
}
static inline ig_tensor *fe_op3(fe_call *c, ir_opcode op, const void *attr, ig_tensor *x,
                                ig_tensor *y, ig_tensor *z) {
    ig_tensor *in[3] = {x, y, z};
    return fe_op(c, op, attr, 3, in);
}

/* An elementwise op on operands of one element type that broadcast to one shape; they may be
 * replaced in `in`. */
ig_tensor *fe_ew(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor **in);

/* --- Kernels (kernels.c) ------------------------------------------------------------------- */

/* Choose the session's kernels: those of the best level here that has its class.  IG_EAGER names
 * another level, or `reference`. */
void fe_kernels_choose(ig_session *s);
typedef enum fe_ran { FE_NO_KERNEL, FE_RAN, FE_FAILED } fe_ran;
/* The same as fe_run_op, if there is a kernel; every result of the op. */
fe_ran fe_kernels_run(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor *const *in,
                      ig_tensor *const *out);
/* Run the kernel of one of the families that count their own rows. */
fe_ran fe_kernels_lines(fe_call *c, int row, int form, void *const *bufs, const int64_t *dims);
/* relation.c: a relation with constraints, compiled when it is worth it. */
fe_ran fe_relation_run(fe_call *c, const ir_rel *rel, ig_tensor *const *in, ig_tensor *out);
void fe_relations_forget(ig_session *s); /* free what is kept */
/* An elementwise op outside of traces, broadcasting included, in a session that has kernels and no
 * NaN trap; NULL when there is no kernel, or the operands do not fit. */
ig_tensor *fe_kernels_ew(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor *const *in);

/* Run a kernel over its rows; by the pool when the picoseconds it is estimated to take are worth
 * it. */
void fe_launch(ig_kernel kernel, void *const *bufs, const int64_t *dims, int64_t rows, int64_t ps);
/* Ops that only move elements (move.c), on a result with elements; false when it is none. */
bool fe_move_run(ir_opcode op, const void *attr, int nin, ig_tensor *const *in, ig_tensor *out);
/* gather and scatter (windows.c), on a result with elements. */
fe_ran fe_gather_run(const void *attr, int nin, ig_tensor *const *in, ig_tensor *out);
fe_ran fe_scatter_run(fe_call *c, const void *attr, int nin, ig_tensor *const *in, ig_tensor *out);
/* sort (order.c), on lines with elements, in a session that has kernels. */
fe_ran fe_sort_run(fe_call *c, const void *attr, int nin, ig_tensor *const *in,
                   ig_tensor *const *out);

/* --- Operands (operands.c) ----------------------------------------------------------------- */

/* The dims of a tensor: symbolic where a trace knows them so. */
ir_dims fe_dims(const fe_call *c, const ig_tensor *t);
ir_module *fe_module(const fe_call *c); /* of the trace, or NULL */
/* The shape two shapes broadcast to; false after an error. */
bool fe_broadcast_dims(fe_call *c, ig_tensor *a, ig_tensor *b, ir_dims *out_);
/* Broadcast tensors to one shape, in place; false after an error. */
bool fe_spread(fe_call *c, int n, ig_tensor **t);
/* t broadcast to dims (numpy: aligned at the last axis); t itself when it has them. */
ig_tensor *fe_expand(fe_call *c, ig_tensor *t, const ir_dims *dims);
/* Arguments to tensors of one promoted type; false after an error. */
bool fe_promote(fe_call *c, int n, const ig_arg *args, ig_tensor **out_);
/* One argument as a tensor. */
ig_tensor *fe_arg(fe_call *c, ig_arg a);
ig_tensor *fe_convert(fe_call *c, ig_tensor *t, ig_dtype dtype);
/* A tensor of dims filled with a scalar. */
ig_tensor *fe_fill(fe_call *c, ig_tensor *scalar, const ir_dims *dims);
ig_tensor *fe_iota(fe_call *c, ig_dtype dtype, const ir_dims *dims, int axis);
/* Axis in [0, rank); false after an error. */
bool fe_axis(fe_call *c, int axis, int rank, int *out_);
/* A list of axes, resolved and sorted; none twice. */
bool fe_axes(fe_call *c, ig_axes axes, int rank, ir_axes *out_);
/* Extents from the user (numbers, or ig_extent codes); under infer one may be -1 and becomes
 * IR_DIM_BAD. */
bool fe_user_dims(fe_call *c, ig_dims dims, bool infer, ir_dims *out_);

/* Elementwise by value (ops.c), operands of equal type; broadcasting done here. */
ig_tensor *fe_ew2(fe_call *c, ir_opcode op, const void *attr, ig_tensor *x, ig_tensor *y);
ig_tensor *fe_cmp(fe_call *c, ir_cmpop op, ig_tensor *x, ig_tensor *y);
ig_tensor *fe_bit(fe_call *c, ir_bitop op, ig_tensor *x, ig_tensor *y);
ig_tensor *fe_select(fe_call *c, ig_tensor *p, ig_tensor *x, ig_tensor *y);
static inline ig_tensor *fe_add(fe_call *c, ig_tensor *x, ig_tensor *y) {
    return fe_ew2(c, OP_add, NULL, x, y);
}
static inline ig_tensor *fe_sub(fe_call *c, ig_tensor *x, ig_tensor *y) {
    return fe_ew2(c, OP_sub, NULL, x, y);
}
static inline ig_tensor *fe_mul(fe_call *c, ig_tensor *x, ig_tensor *y) {
    return fe_ew2(c, OP_mul, NULL, x, y);
}
static inline ig_tensor *fe_div(fe_call *c, ig_tensor *x, ig_tensor *y) {
    return fe_ew2(c, OP_div, NULL, x, y);
}
/* x with a number of its own type. */
ig_tensor *fe_with(fe_call *c, ir_opcode op, ig_tensor *x, double number);

/* Movement by value (shape.c). */
ig_tensor *fe_reshape(fe_call *c, ig_tensor *x, const ir_dims *dims);
ig_tensor *fe_transpose(fe_call *c, ig_tensor *x, const ir_axes *perm);
ig_tensor *fe_flip(fe_call *c, ig_tensor *x, const ir_axes *axes);
/* [lo, hi) of one axis. */
ig_tensor *fe_cut(fe_call *c, ig_tensor *x, int axis, ir_dim lo, ir_dim hi);
ig_tensor *fe_pad_with(fe_call *c, ig_tensor *x, const ir_attr_pad *pad, ig_tensor *value);
ig_tensor *fe_concat(fe_call *c, int n, ig_tensor *const *list, int axis);
/* x without, or with new, axes of extent 1. */
ig_tensor *fe_drop_axes(fe_call *c, ig_tensor *x, const ir_axes *axes);
ig_tensor *fe_new_axes(fe_call *c, ig_tensor *x, const ir_axes *axes);

/* Reductions and indexing by value (reduce.c, index.c, sort.c). */
ig_tensor *fe_reduce(fe_call *c, ir_redop op, ig_tensor *x, const ir_axes *axes, bool keep);
ig_tensor *fe_take(fe_call *c, ig_tensor *x, const int64_t *index, int64_t n, int axis);
/* Scalar with the number of elements in these axes of x, also when it is dynamic. */
ig_tensor *fe_count(fe_call *c, ig_tensor *x, const ir_axes *axes, ig_dtype dtype);

/* Index tensors for some axes of a value, increasing (gather.c). */
typedef struct fe_pick {
    int n;
    bool apart; /* others stand between the axes: the positions' axes come first */
    int axis[IG_MAX_RANK];
    ig_tensor *at[IG_MAX_RANK];
} fe_pick;
/* Bring the index tensors into the form of gather and scatter; false after an error. */
bool fe_pick_ready(fe_call *c, ig_tensor *x, fe_pick *p);
ig_tensor *fe_pick_get(fe_call *c, ig_tensor *x, fe_pick *p);
/* x with v, which broadcasts to what fe_pick_get would give, combined there. */
ig_tensor *fe_pick_put(fe_call *c, ig_tensor *x, fe_pick *p, ir_putop op, ig_tensor *v);
/* A value about to be put into x, of x's element type (index.c). */
ig_tensor *fe_put_value(fe_call *c, const ig_tensor *x, ig_arg v);

/* --- Functions of the IR as eager calls (play.c) ------------------------------------------- */

/* Run every op of f, which has no calls, as eager ops, and record them when a recording is under
 * way.  symbols: numbers of the dims of f's module; dims: the same as dims of the recording (NULL:
 * by name; not used outside of one).  The results are temporaries of the call, or arguments.  False
 * after an error. */
bool fe_play(fe_call *c, const ir_func *f, const int64_t *symbols, const ir_dim *dims,
             ig_tensor *const *in, ig_tensor **out_);

/* --- Recording (record.c) ------------------------------------------------------------------ */

/* The type a value has in the recording under way, symbolic dims included; the value is captured
 * when it is new. */
bool fe_rec_type(fe_call *c, ig_tensor *t, ir_type *out_);
/* The same for a tensor the recording may not know; no capture. */
const ir_type *fe_rec_known(const fe_rec *rec, const ig_tensor *t);
ir_module *fe_rec_module(const fe_rec *rec);
uint32_t fe_rec_id(const fe_rec *rec);
/* Value of a dim under the example's binding; false on overflow. */
bool fe_rec_eval(const fe_rec *rec, ir_dim d, int64_t *out_);
/* An attribute with its dims evaluated under the example's sizes; false on overflow. */
bool fe_rec_eval_attr(const fe_rec *rec, ir_attr_kind kind, const void *attr, ir_attr_any *out_);
/* Append an op with its results; false when memory is out. */
bool fe_rec_append(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor *const *in,
                   int nout, const ir_type *type, ig_tensor *const *out);
/* Regions of the recording: begin an op, begin each of its regions with parameters, end each with
 * what it yields, end the op with its results; false when memory is out. */
uint32_t fe_rec_region(const fe_rec *rec); /* the innermost open one, or 0 */
bool fe_rec_begin(fe_call *c, ir_opcode op, const void *attr, int nin, ig_tensor *const *in);
bool fe_rec_enter(fe_call *c, int n, const ir_type *type, ig_tensor *const *param);
bool fe_rec_yield(fe_call *c, int n, ig_tensor *const *in);
bool fe_rec_end(fe_call *c, int n, const ir_type *type, ig_tensor *const *out);
/* Such an op failed before its end, unless ok; gives ok. */
bool fe_rec_check(fe_call *c, bool ok);
/* Whether a trace is under way; a recording may also be that of a gradient scope. */
bool fe_is_traced(const fe_call *c);
/* The handle is about to get the value of v; false when it must not. */
bool fe_rec_rebind(fe_call *c, ig_tensor *t, ig_tensor *v);
/* The value is about to be read; false after an error. */
bool fe_rec_observe(fe_call *c, ig_tensor *t);

/* --- Gradients (grad.c) -------------------------------------------------------------------- */

/* The op recorded last has these operands and results: those that its derivative reads are held.
 * False when memory is out. */
bool fe_grad_note(fe_call *c, int nin, ig_tensor *const *in, int nout, ig_tensor *const *out);
/* A handle is about to be assigned. */
void fe_grad_assigned(fe_call *c, const ig_tensor *t);
/* End the gradient scope, if one is open. */
void fe_grad_close(fe_stream *s);
void fe_grad_forget(ig_session *s); /* free what is kept between scopes */
/* Run a module on as many arguments and results as it has; results are temporaries of the call. */
ig_status fe_module_run(fe_call *c, ig_module *m, ig_tensor *const *in, ig_tensor **out_);

/* --- Functions with derivatives of their own (flow.c) --------------------------------------- */

typedef struct fe_composite {
    const char *name;
    ig_body_fn fn, lin, vjp; /* one rule */
    void *fn_user, *user;    /* of fn, and of the rule */
} fe_composite;
bool fe_composite_run(fe_call *c, const fe_composite *d, int nin, ig_tensor *const *in, int nout,
                      ig_tensor **out_);

/* --- C functions and assertions (custom.c) ------------------------------------------------- */

/* An error when a module names a C function that is not registered. */
ig_status fe_custom_check(const ir_module *m);
/* The error for a code other than 0 of a module's native code, at the place in the source. */
ig_status fe_custom_failed(const ig_allocator *a, const ir_module *m, int32_t code);

/* A module object over an IR module, which it owns from now on, also after an error (module.c). */
ig_status fe_module_new(const ig_allocator *alloc, ir_module *ir, uint32_t nstate,
                        ig_tensor *const *state, ig_module **out_);
const ir_module *fe_module_ir(const ig_module *m);
/* The same over a module that borrows weights of m, whose state it takes over when it has it. */
ig_status fe_module_derived(const ig_module *m, ir_module *ir, ig_module **out_);

#endif
