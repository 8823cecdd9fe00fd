/* jacobian.c - Jacobians: derivatives on as many lanes as there are directions.
 *
 * jacfwd pushes every direction of an argument forward, jacrev pulls every direction of a result
 * back: one batched derivative for each of them, put side by side in one function. */
#include "passes/derive.h"
#include "passes/emit.h"

/* --- Jacobians ------------------------------------------------------------------------------ */

/* One batched derivative: by one wrt (forward) or of one result. */
typedef struct jac_part {
    ir_module *m; /* owned */
    uint32_t of;  /* the wrt or result */
} jac_part;

typedef struct jac {
    ir_module *flat;
    const ir_func *f;
    bool forward;
    pass_wrt wrt;
    RT_VEC(jac_part) parts;
    ir_builder b;
    RT_VEC(ir_ref) args, results;
} jac;

/* The type of which a part goes through all directions. */
static ir_type jac_type(const jac *j, const jac_part *p) {
    return j->forward ? pass_wrt_type(j->flat, j->wrt.data[p->of]) : *ir_result_type(j->f, p->of);
}

static ig_status jac_add(jac *j, uint32_t of) {
    const ig_allocator *a = j->flat->alloc;
    uint32_t n = ir_nparam(j->f);
    jac_part p = {.of = of};
    pass_ask ask = {.what = j->forward ? PASS_FORWARD : 0, .wrt = j->wrt, .result = (int)of};
    ir_module *one = NULL;
    int *axes = rt_alloc(a, (n + 1u) * sizeof *axes);
    if (!axes) return rt_fail_memory();
    for (uint32_t k = 0; k <= n; k++) axes[k] = k < n ? -1 : 0;
    if (j->forward) {
        ask.wrt.data = &j->wrt.data[of];
        ask.wrt.n = 1;
        ask.result = -1;
    }
    ir_type type = jac_type(j, &p);
    ir_dim count = ir_type_numel(j->flat, &type);
    ig_status s = count == IR_DIM_BAD ? rt_fail(a, IG_RANGE, "a Jacobian is too large") : NULL;
    if (!s) s = pass_differentiate(j->flat, &ask, &one);
    if (!s) s = pass_vmap_by(one, count, axes, NULL, &p.m);
    if (!s && !rt_vec_push(a, &j->parts, p)) {
        ir_module_free(p.m);
        s = rt_fail_memory();
    }
    ir_module_free(one);
    rt_free(a, axes, (n + 1u) * sizeof *axes);
    return s;
}

/* All directions of a type: [n, dims..], lane i being 1 at element i. */
static ir_ref jac_directions(jac *j, const ir_type *type) {
    ir_builder *b = &j->b;
    ir_dim n = ir_type_numel(b->m, type);
    ir_attr_iota row = {.dtype = IG_i64, .dims = {.n = 2, .d = {n, n}}, .axis = 0}, column = row;
    ir_type square = {.dtype = type->dtype, .rank = 2, .dim = {n, n}};
    ir_type all = emit_longer(*type, 0, n);
    ir_attr_dims shape = {.dims = emit_dims(&all)};
    column.axis = 1;
    ir_ref i = ir_emit0(b, OP_iota, &row), k = ir_emit0(b, OP_iota, &column);
    ir_ref one = emit_fill(b, &square, 1), zero = emit_fill(b, &square, 0);
    ir_ref eye = EMIT(b, select, emit_cmp(b, IR_cmpop_eq, i, k), one, zero);
    return EMIT_AS(b, reshape, &shape, eye);
}

/* [n, rest..] with n back in its own dims, before (backward) or behind the rest. */
static ir_ref jac_shape(jac *j, ir_ref r, const ir_type *type) {
    ir_builder *b = &j->b;
    ir_type t = ir_type_of(b, r);
    if (b->error) return (ir_ref){0};
    int rest = t.rank - 1, at = j->forward ? rest : 0;
    if (rest + type->rank > IG_MAX_RANK) {
        ir_build_error(b, rt_fail(b->m->alloc, IG_SHAPE, "a Jacobian of rank %d; the limit is %d",
                                  rest + type->rank, IG_MAX_RANK));
        return (ir_ref){0};
    }
    ir_attr_dims a = {.dims = {.n = (uint8_t)(rest + type->rank)}};
    r = emit_move_axis(b, r, 0, at);
    t = ir_type_of(b, r);
    for (int i = 0; i < rest; i++)
        a.dims.d[i < at ? i : i + type->rank] = t.dim[i < at ? i : i + 1];
    for (int i = 0; i < type->rank; i++) a.dims.d[at + i] = type->dim[i];
    return EMIT_AS(b, reshape, &a, r);
}

/* Results of part k, at the places where they belong: results outside, wrt inside. */
static void jac_part_emit(jac *j, uint32_t k) {
    const jac_part *p = &j->parts.data[k];
    const ir_func *g = ir_entry(p->m);
    uint32_t n = g->results.n, stride = j->parts.n;
    ir_type type = jac_type(j, p);
    type = ir_import_type(j->b.m, j->flat, type);
    j->args.data[ir_nparam(j->f)] = jac_directions(j, &type);
    ir_ref *r = rt_alloc_zero(j->b.m->alloc, (n + 1u) * sizeof *r);
    if (!r) {
        ir_build_error(&j->b, rt_fail_memory());
        return;
    }
    pass_splice(&j->b, g, j->args.data, r);
    for (uint32_t i = 0; i < n; i++)
        j->results.data[j->forward ? i * stride + k : k * n + i] = jac_shape(j, r[i], &type);
    rt_free(j->b.m->alloc, r, (n + 1u) * sizeof *r);
}

static ig_status jac_emit(jac *j) {
    const ig_allocator *a = j->flat->alloc;
    uint32_t n = ir_nparam(j->f);
    uint32_t all = j->parts.n ? j->parts.n * ir_entry(j->parts.data[0].m)->results.n : 0;
    if (!rt_vec_reserve(a, &j->args, n + 1) || !rt_vec_reserve(a, &j->results, all + 1))
        ir_build_error(&j->b, rt_fail_memory());
    for (uint32_t k = 0; k < n && !j->b.error; k++) {
        ir_type t = ir_import_type(j->b.m, j->flat, *ir_val_type(j->f, ir_param_ref(j->f, k)));
        j->args.data[k] = ir_param(&j->b, t, j->f->param_names.data[k]);
    }
    for (uint32_t k = 0; k < j->parts.n && !j->b.error; k++) jac_part_emit(j, k);
    return ir_build_end(&j->b, (int)all, j->results.data, NULL);
}

static ig_status jac_run(jac *j, const char *word, ir_module **out_) {
    pass_made made;
    RT_TRY(pass_no_state(j->flat, word));
    if (j->forward)
        for (uint32_t i = 0; i < j->wrt.n; i++) RT_TRY(jac_add(j, i));
    for (uint32_t k = 0; !j->forward && k < j->f->results.n; k++)
        if (rt_is_float(ir_result_type(j->f, k)->dtype)) RT_TRY(jac_add(j, k));
    RT_TRY(pass_begin_more(j->flat, word, &made, &j->b));
    return pass_finish(&made, jac_emit(j), out_);
}

ig_status pass_jacobian(const ir_module *in, bool forward, const char *wrt, ir_module **out_) {
    jac j = {.forward = forward};
    *out_ = NULL;
    RT_TRY(pass_flatten(in, &j.flat));
    const ig_allocator *a = j.flat->alloc;
    j.f = ir_entry(j.flat);
    ig_status s = pass_wrt_read(j.flat, wrt, &j.wrt);
    if (!s) s = jac_run(&j, forward ? "jacfwd" : "jacrev", out_);
    for (uint32_t i = 0; i < j.parts.n; i++) ir_module_free(j.parts.data[i].m);
    rt_vec_free(a, &j.parts);
    rt_vec_free(a, &j.args);
    rt_vec_free(a, &j.results);
    rt_vec_free(a, &j.wrt);
    ir_module_free(j.flat);
    return s;
}

ig_status pass_hessian(const ir_module *in, const char *wrt, ir_module **out_) {
    ir_module *grad;
    *out_ = NULL;
    RT_TRY(pass_derive(in, PASS_GRAD, wrt, &grad));
    ig_status s = pass_jacobian(grad, true, wrt, out_);
    ir_module_free(grad);
    return s;
}
