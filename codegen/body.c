/* body.c - transcendental functions in a kernel: the body of ir/math*.c, built once a kernel and
 * copied op by op through cg_ew.
 *
 * A body has no branches.  Where it names a usual case (ir_math_emit), what only the other case
 * needs is moved behind one: the ops that nothing but the third operands of the selects on that
 * case hang on, and the selects.  They run when an element of the vector is not usual, and then for
 * all of them, so that the bits are those of the straight line. */
#include "codegen/kernel.h"

/* --- The body of a function at a type, built on first use ------------------------------------- */

static cg_body *body_of(cg_kernel *k, ir_opcode op, ig_dtype d) {
    for (uint32_t i = 0; i < k->bodies.n; i++)
        if (k->bodies.data[i]->op == op && k->bodies.data[i]->dtype == d) return k->bodies.data[i];
    const ig_allocator *a = k->b.m->alloc;
    ir_ref in[3];
    cg_body *body = rt_alloc_zero(a, sizeof *body);
    if (!body || !rt_vec_push(a, &k->bodies, body)) {
        rt_free(a, body, sizeof *body);
        ir_build_error(&k->b, rt_fail_memory());
        return NULL;
    }
    body->op = op;
    body->dtype = d;
    ir_build_begin(&body->b, k->b.m, ir_op_tab[op].name, IR_FN, IR_BUILD_OPT);
    for (int i = 0; i < ir_op_tab[op].arity; i++)
        in[i] = ir_param(&body->b, ir_scalar_type(d), NULL);
    body->result = ir_math_emit(&body->b, op, in, &body->usual);
    if (body->b.error) { /* hand the error over */
        ir_build_error(&k->b, body->b.error);
        body->b.error = NULL;
        return NULL;
    }
    return body;
}

/* --- The usual case --------------------------------------------------------------------------- */

/* What a body needs per value: where it went, and whether more than the rare case needs it. */
typedef struct body_value {
    ir_ref to;
    bool common;
} body_value;

typedef struct body_copy {
    cg_kernel *k;
    const cg_body *body;
    const ir_func *f;
    body_value *v; /* by value of the body */
} body_copy;

static bool body_is_choice(const body_copy *c, const ir_op *o) {
    return c->body->usual.i && o->code == OP_select && ir_op_in(c->f, o, 0).i == c->body->usual.i;
}

/* Mark what is needed besides the third operands of the choices. */
static void body_mark(body_copy *c) {
    c->v[c->body->result.i].common = true;
    for (uint32_t i = c->f->ops.n; i-- > 0;) {
        const ir_op *o = &c->f->ops.data[i];
        uint32_t n = body_is_choice(c, o) ? 2 : o->nin;
        if (!c->v[o->out0].common) continue;
        for (uint32_t j = 0; j < n; j++) c->v[ir_op_in(c->f, o, j).i].common = true;
    }
}

/* --- Copying ---------------------------------------------------------------------------------- */

/* Copy one op of a body. */
static void body_op(body_copy *c, const ir_op *o) {
    cg_kernel *k = c->k;
    const void *attr = ir_attr_get(k->b.m, o->attr);
    ir_ref in[3], *to = &c->v[o->out0].to;
    if (o->code == OP_const) {
        const ir_attr_const *lit = attr;
        *to = ir_const(&k->b, lit->type, lit->data.bytes, (size_t)lit->data.n);
        return;
    }
    if (!ir_is_elementwise((ir_opcode)o->code) || o->nin > 3) {
        cg_broken(k, "the body of a function holds more than elementwise ops");
        return;
    }
    for (uint32_t i = 0; i < o->nin; i++) in[i] = c->v[ir_op_in(c->f, o, i).i].to;
    if (o->code == OP_bitcast) { /* the bits of a NaN never matter there: math.c, law 2 */
        *to = cg_bits(k, in[0], (ig_dtype)((const ir_attr_dtype *)attr)->dtype);
        return;
    }
    ig_dtype d = (ig_dtype)ir_val_type(c->f, ir_op_in(c->f, o, o->nin - 1u))->dtype;
    *to = cg_ew(k, (ir_opcode)o->code, attr, d, o->nin, in);
}

/* Write the choices [first, end) of the body as one branch, with all that only they need. */
static void body_branch(body_copy *c, uint32_t first, uint32_t end) {
    enum { MOST = 4 };
    const ir_op *op = c->f->ops.data;
    ir_ref near[MOST], chosen[MOST];
    int n = (int)(end - first);
    cg_kernel *k = c->k;
    ir_ref all = c->v[c->body->usual.i].to;
    if (n > MOST) {
        cg_broken(k, "the body of a function has too many choices");
        return;
    }
    for (int i = 0; i < n; i++)
        near[i] = cg_splat(k, c->v[ir_op_in(c->f, &op[first + (uint32_t)i], 1).i].to,
                           cg_lanes_of(k, all));
    uint32_t branch = cg_if(k, cg_test(k, IR_bitop_bor, cg_un(k, OP_lnot, all)));
    for (uint32_t i = 0; i < end; i++)
        if (i >= first || !c->v[op[i].out0].common) body_op(c, &op[i]);
    for (int i = 0; i < n; i++) chosen[i] = c->v[op[first + (uint32_t)i].out0].to;
    cg_else(k, n, chosen);
    ir_ref r = cg_if_end(k, branch, n, near);
    for (int i = 0; i < n; i++) c->v[op[first + (uint32_t)i].out0].to = (ir_ref){r.i + (uint32_t)i};
}

static void body_ops(body_copy *c) {
    const ir_op *op = c->f->ops.data;
    for (uint32_t i = 0; i < c->f->ops.n && !cg_failed(c->k); i++) {
        uint32_t end = i;
        while (end < c->f->ops.n && body_is_choice(c, &op[end])) end++;
        if (end > i) {
            body_branch(c, i, end);
            i = end - 1;
        } else if (c->v[op[i].out0].common) {
            body_op(c, &op[i]);
        }
    }
}

/* Begin a copy; false after an error.  To be freed with body_end. */
static bool body_begin(body_copy *c, cg_kernel *k, ir_opcode op, ig_dtype d) {
    *c = (body_copy){.k = k, .body = body_of(k, op, d)};
    if (!c->body) return false;
    c->f = c->body->b.f;
    c->v = rt_alloc_zero(k->b.m->alloc, c->f->values.n * sizeof *c->v);
    if (!c->v) {
        ir_build_error(&k->b, rt_fail_memory());
        return false;
    }
    body_mark(c);
    return true;
}

static void body_end(body_copy *c) {
    rt_free(c->k->b.m->alloc, c->v, c->f->values.n * sizeof *c->v);
}

int64_t cg_math_bytes(cg_kernel *k, ir_opcode op, ig_dtype d) {
    body_copy c;
    int64_t most = 1;
    if (!body_begin(&c, k, op, d)) return most;
    for (uint32_t i = 1; i < c.f->values.n; i++) {
        int64_t n = (int64_t)rt_dtype_bytes((ig_dtype)ir_val_type(c.f, (ir_ref){i})->dtype);
        if (c.v[i].common && n > most) most = n;
    }
    body_end(&c);
    return most;
}

ir_ref cg_math(cg_kernel *k, ir_opcode op, ig_dtype d, int nin, const ir_ref *in) {
    body_copy c;
    if (!body_begin(&c, k, op, d)) return (ir_ref){0};
    for (int i = 0; i < nin; i++) c.v[ir_param_ref(c.f, (uint32_t)i).i].to = in[i];
    body_ops(&c);
    ir_ref r = c.v[c.body->result.i].to;
    body_end(&c);
    return r;
}
