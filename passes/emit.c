/* emit.c - see emit.h. */
#include "passes/emit.h"
#include <string.h>

ir_loc emit_loc(ir_module *m, const ir_func *f, const ir_op *o) {
    ir_loc_rec at = ir_loc_get(f->module, o->loc);
    return m == f->module ? o->loc : ir_intern_loc(m, at.file, at.line);
}

/* --- Constants ------------------------------------------------------------------------------ */

ir_ref emit_cmp(ir_builder *b, ir_cmpop op, ir_ref x, ir_ref y) {
    return EMIT_AS(b, cmp, &(ir_attr_cmpop){.op = (uint8_t)op}, x, y);
}

ir_ref emit_scalar(ir_builder *b, const ir_type *type, double x) {
    return ir_const_f(b, (ig_dtype)type->dtype, x);
}

ir_dims emit_dims(const ir_type *type) {
    ir_dims d = {.n = type->rank};
    memcpy(d.d, type->dim, sizeof d.d);
    return d;
}

ir_type emit_longer(ir_type t, int axis, ir_dim n) {
    memmove(t.dim + axis + 1, t.dim + axis, (size_t)(t.rank - axis) * sizeof *t.dim);
    t.dim[axis] = n;
    t.rank++;
    return t;
}

ir_ref emit_fill(ir_builder *b, const ir_type *type, double x) {
    ir_attr_bcast a = {.dims = emit_dims(type)};
    ir_ref r = emit_scalar(b, type, x);
    return type->rank ? EMIT_AS(b, broadcast, &a, r) : r;
}

/* --- Movement ------------------------------------------------------------------------------- */

ir_axes emit_other_axes(const ir_axes *axes, int rank) {
    ir_axes rest = {0};
    for (int i = 0, k = 0; i < rank; i++) {
        if (k < axes->n && axes->a[k] == i)
            k++;
        else
            rest.a[rest.n++] = (uint8_t)i;
    }
    return rest;
}

ir_ref emit_repeat(ir_builder *b, ir_ref x, const ir_type *full, const ir_axes *lost) {
    ir_attr_bcast a = {.dims = emit_dims(full), .axes = emit_other_axes(lost, full->rank)};
    return lost->n ? EMIT_AS(b, broadcast, &a, x) : x;
}

ir_ref emit_slice(ir_builder *b, ir_ref x, const ir_dims *lo, const ir_dims *hi,
                  const ir_ints *step) {
    ir_attr_slice a = {.lo = *lo, .hi = *hi, .step = {.n = lo->n}};
    for (int i = 0; i < lo->n; i++) a.step.v[i] = step ? step->v[i] : 1;
    return EMIT_AS(b, slice, &a, x);
}

ir_ref emit_lanes(ir_builder *b, ir_ref x, ir_dim n) {
    ir_type t = emit_longer(ir_type_of(b, x), 0, n);
    return emit_repeat(b, x, &t, &(ir_axes){.n = 1});
}

ir_ref emit_over_lanes(ir_builder *b, ir_ref x, const ir_type *full) {
    ir_axes rest = emit_other_axes(&(ir_axes){.n = 1}, full->rank);
    return emit_repeat(b, x, full, &rest);
}

/* All comes from an x with `by` more elements; an x shorter than that is shifted out whole. */
ir_ref emit_shift(ir_builder *b, ir_ref x, int axis, ir_dim by, bool back, ir_ref fill) {
    ir_type t = ir_type_of(b, x);
    ir_attr_pad pad = {.lo = {.n = t.rank}, .hi = {.n = t.rank}, .interior = {.n = t.rank}};
    ir_dims lo = {.n = t.rank}, hi = emit_dims(&t);
    if (b->error) return (ir_ref){0};
    by = ir_dim_min(b->m, by, t.dim[axis]);
    (back ? &pad.hi : &pad.lo)->d[axis] = by;
    if (back) {
        lo.d[axis] = by;
        hi.d[axis] = ir_dim_add(b->m, by, t.dim[axis]);
    }
    return emit_slice(b, EMIT_AS(b, pad, &pad, x, fill), &lo, &hi, NULL);
}

ir_ref emit_move_axis(ir_builder *b, ir_ref x, int from, int to) {
    ir_attr_perm a = {.perm = {.n = ir_type_of(b, x).rank}};
    if (from == to) return x;
    for (int i = 0, k = 0; i < a.perm.n; i++) {
        if (k == from) k++;
        a.perm.a[i] = (uint8_t)(i == to ? from : k++);
    }
    return EMIT_AS(b, transpose, &a, x);
}

ir_ref emit_pad_mask(ir_builder *b, const ir_attr_pad *a, const ir_type *x) {
    ir_type flag = *x;
    flag.dtype = IG_bool;
    ir_ref no = emit_fill(b, &flag, 0);
    return EMIT_AS(b, pad, a, no, emit_scalar(b, &flag, 1));
}

/* --- Contractions --------------------------------------------------------------------------- */

ir_ref emit_spread(ir_builder *b, ir_ref x, const ir_axes *access, const ir_axes *vars,
                   const ir_dim *dim) {
    ir_attr_perm turn = {.perm = {0}};
    ir_attr_bcast wide = {.dims = {.n = vars->n}};
    bool turned = false;
    for (int i = 0; i < vars->n; i++) {
        wide.dims.d[i] = dim[vars->a[i]];
        for (int k = 0; k < access->n; k++) {
            if (access->a[k] != vars->a[i]) continue;
            turned |= turn.perm.n != k;
            turn.perm.a[turn.perm.n++] = (uint8_t)k;
            wide.axes.a[wide.axes.n++] = (uint8_t)i;
        }
    }
    if (turned) x = EMIT_AS(b, transpose, &turn, x);
    return wide.axes.n < vars->n ? EMIT_AS(b, broadcast, &wide, x) : x;
}

ir_ref emit_contract(ir_builder *b, const ir_axes *out, int n, const ir_axes *in, const ir_ref *x) {
    ir_attr_ein a = {.rel = {.nin = (uint8_t)n, .monoid = IR_redop_sum, .out = *out}};
    memcpy(a.rel.in, in, (size_t)n * sizeof *in);
    ir_ein_number(&a.rel);
    for (uint8_t v = out->n; v < a.rel.nvar; v++) a.rel.order[a.rel.norder++] = v;
    if (a.rel.norder) return ir_emit(b, OP_ein, &a, n, x);
    ir_dim dim[IR_EIN_VARS] = {0};
    ir_ref product = {0};
    for (int k = 0; k < n; k++) {
        ir_type t = ir_type_of(b, x[k]);
        for (int i = 0; i < in[k].n; i++) dim[in[k].a[i]] = t.dim[i];
    }
    for (int k = 0; k < n; k++) {
        ir_ref wide = emit_spread(b, x[k], &in[k], out, dim);
        product = product.i ? EMIT(b, mul, product, wide) : wide;
    }
    return product;
}
