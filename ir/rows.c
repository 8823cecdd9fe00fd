/* rows.c - index maps of programs that reduce rows. */
#include "ir/rows.h"

#include <string.h>

static const ir_rowmap rows_unknown = {.n = -1};

bool ir_rowmap_same(const ir_rowmap *a, const ir_rowmap *b) {
    return a->n == b->n && (a->n < 0 || !memcmp(a->at, b->at, (size_t)a->n));
}

/* Axes of the full index that are longer than 1. */
static uint32_t rows_axes(const ir_rows *r) {
    uint32_t mask = 0;
    for (int i = 0; i < r->full.n; i++) mask |= (uint32_t)(r->full.d[i] != 1) << i;
    return mask;
}

/* Axes of the full index that a map reads. */
static uint32_t rows_image(const ir_rowmap *m) {
    uint32_t mask = 0;
    for (int k = 0; k < m->n; k++)
        if (m->at[k] >= 0) mask |= 1u << m->at[k];
    return mask;
}

static bool rows_is_ordered(const ir_rowmap *m) {
    int last = -1;
    for (int k = 0; k < m->n; k++) {
        if (m->at[k] < 0) continue;
        if (m->at[k] <= last) return false;
        last = m->at[k];
    }
    return m->n >= 0;
}

ir_rowmap ir_rows_begin(ir_rows *r, const ir_type *t) {
    ir_rowmap m = {.n = (int8_t)t->rank};
    *r = (ir_rows){.full = {.n = t->rank}};
    for (int i = 0; i < t->rank; i++) {
        r->full.d[i] = t->dim[i];
        m.at[i] = (int8_t)(t->dim[i] == 1 ? IR_ROWS_UNIT : i);
    }
    return m;
}

bool ir_rows_has_room(const ir_func *f) {
    const ir_op *ret = ir_return_op(f);
    uint32_t reductions = 0;
    if (f->kind != IR_CLUSTER || ret->nin < 2) return false;
    ir_ref last = ir_op_in(f, ret, ret->nin - 1u);
    const ir_op *o = ir_def_op(f, last);
    const ir_op *c = o && o->code == OP_broadcast ? ir_def_op(f, ir_op_in(f, o, 0)) : NULL;
    for (uint32_t i = 0; i < f->ops.n; i++) reductions += f->ops.data[i].code == OP_reduce;
    return c && c->code == OP_const && reductions == 1 &&
           ir_val_type(f, last)->rank == ir_result_type(f, 0)->rank + 1;
}

/* The axes longer than 1, in order. */
static int rows_long_axes(const ir_type *t, int *axis_) {
    int n = 0;
    for (int i = 0; i < t->rank; i++)
        if (t->dim[i] != 1) axis_[n++] = i;
    return n;
}

bool ir_rows_is_unit_reshape(const ir_func *f, const ir_op *o) {
    if (o->code != OP_reshape) return false;
    const ir_type *t = ir_val_type(f, ir_op_out(o, 0)), *x = ir_val_type(f, ir_op_in(f, o, 0));
    int a[IG_MAX_RANK], b[IG_MAX_RANK], n = rows_long_axes(t, a);
    if (rows_long_axes(x, b) != n) return false;
    for (int i = 0; i < n; i++)
        if (t->dim[a[i]] != x->dim[b[i]]) return false;
    return true;
}

ir_rowmap ir_rows_operand(const ir_func *f, const ir_op *o, uint32_t k, const ir_rowmap *at) {
    ir_rowmap m = rows_unknown;
    if (at->n < 0 || !o->nout) return m;
    if (ir_is_elementwise((ir_opcode)o->code)) return *at;
    const ir_type *t = ir_val_type(f, ir_op_out(o, 0)), *x = ir_val_type(f, ir_op_in(f, o, k));
    if (o->code == OP_broadcast) {
        const ir_attr_bcast *a = ir_attr_get(f->module, o->attr);
        m.n = (int8_t)x->rank;
        for (int j = 0; j < x->rank; j++)
            m.at[j] = x->dim[j] == 1 ? IR_ROWS_UNIT : at->at[a->axes.a[j]];
    } else if (ir_rows_is_unit_reshape(f, o)) {
        int from[IG_MAX_RANK], n = 0;
        rows_long_axes(t, from);
        m.n = (int8_t)x->rank;
        for (int j = 0; j < x->rank; j++)
            m.at[j] = x->dim[j] == 1 ? IR_ROWS_UNIT : at->at[from[n++]];
    }
    return m;
}

bool ir_rows_reduce(ir_rows *r, const ir_func *f, const ir_op *o, const ir_rowmap *at,
                    ir_rowmap *x_) {
    const ir_attr_reduce *a = ir_attr_get(f->module, o->attr);
    const ir_type *x = ir_val_type(f, ir_op_in(f, o, 0));
    uint32_t row = rows_axes(r) & ~rows_image(at);
    if (at->n < 0 || !row || (r->row && r->row != row)) return false;
    ir_rowmap m = {.n = (int8_t)x->rank};
    uint32_t left = row;
    int kept = 0, red = 0;
    for (int j = 0; j < x->rank && j < IG_MAX_RANK; j++) {
        bool reduced = red < a->axes.n && a->axes.a[red] == j;
        red += reduced;
        m.at[j] = reduced ? IR_ROWS_UNIT : at->at[kept++];
        if (!reduced || x->dim[j] == 1) continue;
        if (!left) return false;
        m.at[j] = (int8_t)__builtin_ctz(left);
        left &= left - 1;
    }
    for (int j = 0; j < x->rank; j++)
        if (m.at[j] >= 0 && x->dim[j] != r->full.d[m.at[j]]) return false;
    if (left || !rows_is_ordered(&m)) return false;
    r->row = row;
    *x_ = m;
    return true;
}

bool ir_rows_open(ir_rows *r, const ir_func *f, const ir_op *o, const ir_rowmap *at,
                  ir_rowmap *x_, int8_t to_[IG_MAX_RANK]) {
    const ir_attr_reduce *a = ir_attr_get(f->module, o->attr);
    const ir_type *x = ir_val_type(f, ir_op_in(f, o, 0));
    uint32_t row = 0;
    if (r->row || !ir_rows_is_full(r, at)) return false;
    memset(to_, IR_ROWS_UNIT, IG_MAX_RANK);
    for (int j = 0, kept = 0, red = 0; j < x->rank; j++) {
        bool reduced = red < a->axes.n && a->axes.a[red] == j;
        red += reduced;
        if (reduced)
            row |= (uint32_t)(x->dim[j] != 1) << j;
        else if (at->at[kept++] >= 0)
            to_[at->at[kept - 1]] = (int8_t)j;
    }
    if (!row) return false;
    *x_ = ir_rows_begin(r, x);
    r->row = row;
    return true;
}

void ir_rowmap_turn(ir_rowmap *m, const int8_t to[IG_MAX_RANK]) {
    for (int k = 0; k < m->n && k < IG_MAX_RANK; k++)
        if (m->at[k] >= 0) m->at[k] = to[m->at[k]];
}

bool ir_rows_is_row(const ir_rows *r, const ir_rowmap *m) {
    return r->row && rows_is_ordered(m) && rows_image(m) == (rows_axes(r) & ~r->row);
}

bool ir_rows_is_full(const ir_rows *r, const ir_rowmap *m) {
    return rows_is_ordered(m) && rows_image(m) == rows_axes(r);
}

bool ir_rows_is_prefix(const ir_rows *r, const ir_rowmap *m) {
    uint32_t image = rows_image(m), lack = rows_axes(r) & ~image;
    return rows_is_ordered(m) && image && lack && image < (lack & -lack);
}
