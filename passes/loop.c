/* loop.c - which scans become one kernel with the loop inside.
 *
 * Launching kernels at every step costs more than the steps of a small cell do.  A scan is one
 * kernel when its elements go their ways apart: what depends on carried values is elementwise and
 * has their shape, and so has every stacked element.  Then the kernel takes some elements at a time
 * through all steps, with the carried values in registers (codegen/steps.c).  What does not depend
 * on them may be read or moved in any way. */
#include "passes/fuse.h"

#include <string.h>

#define LOOP_WEIGHT 64          /* ops: a step should not spill */
#define LOOP_PORTS  IG_MAX_RANK /* results that a call places */

typedef struct loop_check {
    const ir_func *f;
    const ir_op *o;
    const ir_region *region;
    bool *depends; /* by value: on a carried value; owned */
    ir_type shape;
    uint32_t weight, reads;
} loop_check;

static bool loop_has_shape(const loop_check *c, ir_ref v) {
    return ir_same_dims(ir_val_type(c->f, v), &c->shape);
}

/* One op of the region; the yield is looked at apart. */
static bool loop_admits(loop_check *c, const ir_op *o) {
    fuse_kind kind = fuse_kind_of((ir_opcode)o->code);
    bool ew = ir_is_elementwise((ir_opcode)o->code) || kind == FUSE_COPY, depends = false;
    for (uint32_t k = 0; k < o->nin; k++) {
        ir_ref v = ir_op_in(c->f, o, k);
        depends |= c->depends[v.i];
        const ir_op *d = ir_def_op(c->f, v);
        c->reads += ir_home(c->f, v) != o->parent && !(d && d->code == OP_const);
    }
    if (o->nout) c->depends[o->out0] = depends;
    c->weight += kind == FUSE_MATH ? 4 : kind == FUSE_EW;
    if (depends) return ew && loop_has_shape(c, ir_op_out(o, 0));
    if (kind == FUSE_CONST) return fuse_is_uniform(c->f, o);
    return ew || kind == FUSE_EW || kind == FUSE_MOVE || kind == FUSE_SPREAD || kind == FUSE_PICK ||
           ir_rows_is_unit_reshape(c->f, o);
}

static bool loop_check_ops(loop_check *c, uint32_t carries) {
    const ir_op *yield = &c->f->ops.data[c->region->end - 1];
    for (uint32_t k = 0; k < carries; k++) {
        ir_ref p = {c->region->param0 + 1 + k};
        c->depends[p.i] = true;
        if (!loop_has_shape(c, p)) return false;
    }
    for (uint32_t i = c->region->first; i + 1 < c->region->end; i++)
        if (!loop_admits(c, &c->f->ops.data[i])) return false;
    for (uint32_t k = 0; k < yield->nin; k++)
        if (!loop_has_shape(c, ir_op_in(c->f, yield, k))) return false;
    return c->weight <= LOOP_WEIGHT && c->reads + c->o->nin <= FUSE_OPERANDS;
}

bool fuse_is_loop_kernel(const ir_func *f, const ir_op *o) {
    const ir_attr_scan *a = ir_attr_get(f->module, o->attr);
    loop_check c = {.f = f, .o = o, .region = &f->regions.data[o->region0]};
    const ir_op *yield = &f->ops.data[c.region->end - 1];
    if (!yield->nin || yield->nin > LOOP_PORTS) return false;
    c.shape = *ir_val_type(f, ir_op_in(f, yield, 0));
    c.depends = rt_alloc_zero(f->module->alloc, f->values.n);
    bool fits = c.depends && loop_check_ops(&c, (uint32_t)a->carries);
    rt_free(f->module->alloc, c.depends, f->values.n);
    return fits;
}
