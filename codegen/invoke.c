/* invoke.c - C functions and assertions in the host program.
 *
 * Passes see an op that calls a C function as a cluster of its own, whose call has places for the
 * results as any other; here it becomes an `invoke` in place of a launch.  Its first operand are
 * cells on the stack, one ig_array a tensor: a pointer (stored when the call is emitted), element
 * type and rank, extents.
 *
 * When a function fails, or what an assertion asks for does not hold, the program's code says so;
 * from then on no C function is called, and every `while` ends. */
#include "codegen/host.h"
#include "codegen/invoke.h"

#include <stddef.h>
#include <string.h>

#define INVOKE_CELLS (sizeof(ig_array) / sizeof(int64_t))
_Static_assert(offsetof(ig_array, data) == 0 && offsetof(ig_array, dtype) == 8 &&
                   offsetof(ig_array, rank) == 12 && offsetof(ig_array, dim) == 16 &&
                   sizeof(ig_array) == CG_ARRAY_BYTES,
               "an ig_array is a pointer, two ints, extents");

const ir_op *cg_invoked(const ir_module *planned, const ir_op *call) {
    const ir_attr_call *a = ir_attr_get(planned, call->attr);
    const ir_func *f = a->callee ? ir_find_func(planned, a->callee) : NULL;
    if (!f || f->kind != IR_CLUSTER) return NULL;
    const ir_op *o = &f->ops.data[0];
    return o->code == OP_custom || o->code == OP_host || o->code == OP_assert ? o : NULL;
}

/* The number of a C function among those of the program. */
static int64_t invoke_number(const ir_func *f, const ir_attr_invoke *want) {
    int64_t n = 0;
    for (uint32_t i = 0; i < f->ops.n; i++) {
        if (f->ops.data[i].code != OP_invoke) continue;
        const ir_attr_invoke *a = ir_attr_get(f->module, f->ops.data[i].attr);
        if (a->name == want->name && a->version == want->version) return a->index;
        if (a->index >= n) n = a->index + 1;
    }
    return n;
}

ig_status cg_imports(const ir_module *lowered, cg_import **import_, uint32_t *n_) {
    *import_ = NULL;
    *n_ = 0;
    for (int fill = 0; fill < 2; fill++) {
        for (uint32_t k = 0; k < lowered->funcs.n; k++) {
            const ir_func *f = lowered->funcs.data[k];
            for (uint32_t i = 0; i < f->ops.n; i++) {
                if (f->ops.data[i].code != OP_invoke) continue;
                const ir_attr_invoke *a = ir_attr_get(lowered, f->ops.data[i].attr);
                if (fill)
                    (*import_)[a->index] = (cg_import){a->name, a->version};
                else if (a->index >= *n_)
                    *n_ = (uint32_t)a->index + 1;
            }
        }
        if (fill || !*n_) return NULL;
        if (!(*import_ = rt_alloc_zero(lowered->alloc, *n_ * sizeof **import_))) {
            *n_ = 0;
            return rt_fail_memory();
        }
    }
    return NULL;
}

/* Fill the cells of tensor number i but for its pointer. */
static void invoke_cells(host *h, ir_ref cells, uint32_t i, ir_type t) {
    cg_kernel *k = &h->k;
    int64_t at = (int64_t)(i * INVOKE_CELLS) + 1;
    t = ir_import_type(k->b.m, h->in, t);
    cg_store(k, cells, cg_i64(k, at), cg_i64(k, t.dtype | (int64_t)t.rank << 32));
    for (int d = 0; d < t.rank; d++) cg_store(k, cells, cg_i64(k, at + 1 + d), cg_dim(k, t.dim[d]));
}

/* Call a function with the operands and results of a call; what it returns. */
static ir_ref invoke_emit(host *h, const ir_op *o, ir_attr_invoke a) {
    cg_kernel *k = &h->k;
    ir_ref in[1 + IR_CUSTOM_OPERANDS + IR_CUSTOM_RESULTS];
    uint32_t n = 1, all = o->nin + o->nout;
    in[0] = cg_alloc(k, IG_i64, (int64_t)((all ? all : 1) * INVOKE_CELLS));
    for (uint32_t i = 0; i < all; i++) {
        ir_ref v = i < o->nin ? ir_op_in(h->f, o, i) : ir_op_out(o, i - o->nin);
        invoke_cells(h, in[0], i, *ir_val_type(h->f, v));
        in[n++] = i < o->nin ? cg_host_memory(h, v) : cg_host_result(h, o, i - o->nin);
    }
    a.name = ir_intern_str(k->b.m, a.name, strlen(a.name));
    if (!a.name) ir_build_error(&k->b, rt_fail_memory());
    if (cg_failed(k)) return (ir_ref){0};
    a.index = invoke_number(k->b.f, &a);
    a.nout = o->nout;
    k->b.loc = o->loc;
    return ir_emit(&k->b, OP_invoke, &a, (int)n, in);
}

/* Whether all bools in a memory hold. */
static ir_ref invoke_holds(host *h, ir_ref v) {
    cg_kernel *k = &h->k;
    ir_type t = ir_import_type(k->b.m, h->in, *ir_val_type(h->f, v));
    ir_ref mem = cg_host_memory(h, v), all = cg_int(k, IG_bool, 1), now;
    if (!t.rank) return cg_load(k, mem, cg_i64(k, 0), 0);
    cg_loop l = cg_for(k, cg_i64(k, 0), cg_dim(k, ir_type_numel(k->b.m, &t)), 1, 1, &all, &now);
    now = cg_bit(k, IR_bitop_band, now, cg_load(k, mem, l.index, 0));
    return cg_for_end(k, l, 1, &now);
}

static void invoke_fail(host *h, int64_t code) {
    cg_store(&h->k, h->code, cg_i64(&h->k, 0), cg_int(&h->k, IG_i32, code));
}

void cg_host_invoke(host *h, const ir_op *o, const ir_op *what) {
    cg_kernel *k = &h->k;
    const void *attr = ir_attr_get(h->in, what->attr);
    const ir_attr_host *to = attr;
    const ir_attr_custom *op = attr;
    ir_ref ok = cg_int(k, IG_i32, RT_HOST_OK), code = cg_load(k, h->code, cg_i64(k, 0), 0);
    ir_ref go = cg_cmp(k, IR_cmpop_eq, code, ok);
    if (what->code == OP_assert) {
        ir_ref not = cg_un(k, OP_lnot, invoke_holds(h, ir_op_in(h->f, o, 0)));
        uint32_t branch = cg_if(k, cg_bit(k, IR_bitop_band, go, not ));
        invoke_fail(h, RT_HOST_ASSERT + h->nassert++);
        invoke_emit(
            h, o,
            (ir_attr_invoke){RT_ASSERT_REPORT, 1, ((const ir_attr_assert *)attr)->text, 0, 0, 0});
        cg_else(k, 0, NULL);
        cg_if_end(k, branch, 0, NULL);
        return;
    }
    for (uint32_t i = 0; i < o->nout; i++) cg_host_result(h, o, i);
    uint32_t branch = cg_if(k, go), failed;
    ir_ref r = what->code == OP_host
                   ? invoke_emit(h, o, (ir_attr_invoke){to->name, to->version, to->text, 0, 0, 0})
                   : invoke_emit(h, o, (ir_attr_invoke){op->name, op->version, NULL, 0, 0, 0});
    failed = cg_if(k, cg_cmp(k, IR_cmpop_ne, r, ok));
    invoke_fail(h, RT_HOST_CUSTOM);
    cg_else(k, 0, NULL);
    cg_if_end(k, failed, 0, NULL);
    cg_else(k, 0, NULL);
    cg_if_end(k, branch, 0, NULL);
}
