/* flow.c - loops and branches of the host program.
 *
 * A carried value has one memory where the call that makes the next value writes it in the place of
 * the one before.  Else it has two: that of the operand and that of the call.  They change places
 * with every trip, as carried values of the kernel-level loop, so that nothing is copied.  A value
 * that goes through a loop in the body takes its memories with it, and comes out in one of them.
 * Slices are views of their operand; what a scan stacks is written in place.
 *
 * A `while` that is about to exceed its cap writes the program's code, and so ends every `while`
 * around it: a condition is only believed as long as the code is OK. */
#include "codegen/host.h"
#include "ir/text.h"
#include "runtime/base/plant.h"

#include <string.h>

/* Of loops and branches; the tests of dims and of a cap are branches of the host program, too. */
#define FLOW_MAX_NEST (IR_MAX_NEST - 2)

typedef struct host_flow {
    const ir_op *o;
    uint32_t region;
    cg_loop loop;
    uint32_t op;    /* of the kernel level: a while, or the branch of an if */
    ir_ref index;   /* scan: the step.  if: the chosen region.  while with a cap: trips so far */
    uint32_t moves; /* carried values that have two memories */
    ir_ref cur[IR_MAX_RESULTS], next[IR_MAX_RESULTS]; /* memories, by carried value; {0}: one */
} host_flow;

static host_flow *flow_top(const host *h) { return &h->flow[h->nflow - 1]; }

static const ir_op *flow_yield(const host *h, const ir_op *o, uint32_t k) {
    return &h->f->ops.data[h->f->regions.data[o->region0 + k].end - 1];
}

static uint32_t flow_carries(const host *h, const ir_op *o) {
    if (o->code == OP_scan)
        return (uint32_t)((const ir_attr_scan *)ir_attr_get(h->in, o->attr))->carries;
    return o->code == OP_while ? o->nin : 0;
}

/* The call's result behind value k of a yield; a parameter, when a carried value is handed on. */
static ir_ref flow_source(const host *h, const ir_op *yield, uint32_t k) {
    ir_ref v = ir_op_in(h->f, yield, k);
    const ir_op *o = ir_def_op(h->f, v);
    while (o && o->code == OP_reshape) v = ir_op_in(h->f, o, 0), o = ir_def_op(h->f, v);
    return v;
}

/* The planned memory of a call's result. */
static ir_ref flow_place(host *h, ir_ref v) {
    const ir_op *o = ir_def_op(h->f, v);
    if (!o || o->code != OP_call) {
        cg_broken(&h->k, "a region yields what no kernel made");
        return (ir_ref){0};
    }
    const ir_attr_call *a = ir_attr_get(h->in, o->attr);
    return cg_host_place(h, &a->at, v.i - o->out0, ir_val_type(h->f, v)->dtype);
}

ir_ref cg_host_row(host *h, ir_ref mem, const ir_type *element) {
    int n = h->nflow;
    while (n && h->flow[n - 1].o->code != OP_scan) n--;
    if (!n) {
        cg_broken(&h->k, "a row without a scan");
        return mem;
    }
    ir_type t = ir_import_type(h->k.b.m, h->in, *element);
    ir_ref size = cg_dim(&h->k, ir_type_numel(h->k.b.m, &t));
    return ir_emit2(&h->k.b, OP_view, NULL, mem, cg_bin(&h->k, OP_mul, h->flow[n - 1].index, size));
}

/* --- The program's code --------------------------------------------------------------------- */

ir_ref cg_host_code(host *h, ir_ref code) {
    bool fails = false;
    for (uint32_t i = 0; i < h->f->ops.n; i++) {
        const ir_op *o = &h->f->ops.data[i];
        fails |= o->code == OP_while || (o->code == OP_call && cg_invoked(h->in, o));
    }
    if (!fails || cg_failed(&h->k)) return code;
    h->code = cg_alloc(&h->k, IG_i32, 1);
    cg_store(&h->k, h->code, cg_i64(&h->k, 0), code);
    return code;
}

/* --- Loops ---------------------------------------------------------------------------------- */

/* Whether what a yield gives lies where the carried value lies: handed on, or updated in place. */
static bool flow_stays(const host *h, ir_ref v) {
    const ir_op *o = ir_def_op(h->f, v);
    if (!o || o->code != OP_call) return !o;
    return ((const ir_attr_call *)ir_attr_get(h->in, o->attr))->at.p[v.i - o->out0].kind ==
           IR_PLACE_IN;
}

static bool flow_is_loop(const ir_op *o) {
    return o && (o->code == OP_scan || o->code == OP_while);
}

/* The memory for the next one of carried value k, made by value v of the yield; {0}: the same. */
static ir_ref flow_next(host *h, const ir_op *o, uint32_t k, ir_ref v) {
    if (h->spare[o->out0 + k].i) return h->spare[o->out0 + k];
    for (const ir_op *in; flow_is_loop(in = ir_def_op(h->f, v));)
        v = flow_source(h, flow_yield(h, in, in->nregion - 1u), v.i - in->out0);
    return flow_stays(h, v) ? (ir_ref){0} : flow_place(h, v);
}

/* Find the memories of the carried values, and list those that change: cur, next, cur, next ... */
static uint32_t flow_begin_carries(host *h, host_flow *fl, const ir_op *yield, ir_ref *list_) {
    uint32_t n = 0;
    for (uint32_t k = 0; k < flow_carries(h, fl->o); k++) {
        ir_ref v = flow_source(h, yield, k);
        fl->cur[k] = cg_host_memory(h, ir_op_in(h->f, fl->o, k));
        fl->next[k] = flow_next(h, fl->o, k, v);
        if (!fl->next[k].i) continue;
        if (RT_PLANTED(carried_in_place)) fl->next[k] = fl->cur[k];
        list_[n++] = fl->cur[k];
        list_[n++] = fl->next[k];
    }
    fl->moves = n / 2;
    return n;
}

/* In a region the memories are those that the kernel-level loop carries, n values from `carried`
 * on. */
static void flow_take(host *h, host_flow *fl, const ir_ref *carried, uint32_t param0,
                      const ir_op *yield) {
    for (uint32_t k = 0, at = 0; k < flow_carries(h, fl->o); k++) {
        if (fl->next[k].i) {
            fl->cur[k] = carried[at++];
            fl->next[k] = carried[at++];
            if (yield) {
                ir_ref v = flow_source(h, yield, k);
                (flow_is_loop(ir_def_op(h->f, v)) ? h->spare : h->mem)[v.i] = fl->next[k];
            }
        }
        h->mem[param0 + k] = fl->cur[k];
    }
}

/* What the next trip begins with: every pair the other way round, or as a loop in the body left it.
 */
static uint32_t flow_swap(const host *h, const host_flow *fl, const ir_op *yield, ir_ref *list_) {
    uint32_t n = 0;
    for (uint32_t k = 0; k < flow_carries(h, fl->o); k++) {
        ir_ref v = flow_source(h, yield, k);
        bool loop = flow_is_loop(ir_def_op(h->f, v));
        if (!fl->next[k].i) continue;
        list_[n++] = loop ? h->mem[v.i] : fl->next[k];
        list_[n++] = loop ? h->spare[v.i] : fl->cur[k];
    }
    return n;
}

/* After the loop: results lie where the carried values lie then. */
static void flow_give(host *h, const host_flow *fl, ir_ref first) {
    for (uint32_t k = 0, at = 0; k < flow_carries(h, fl->o); k++) {
        h->mem[fl->o->out0 + k] = fl->next[k].i ? ir_result(first, at) : fl->cur[k];
        if (!fl->next[k].i) continue;
        h->spare[fl->o->out0 + k] = ir_result(first, at + 1);
        at += 2;
    }
}

/* The step in memory, where the region reads it. */
static void flow_step_memory(host *h, host_flow *fl, ir_ref param) {
    bool used = false;
    for (uint32_t i = 0; i < h->f->operands.n; i++) used |= h->f->operands.data[i].i == param.i;
    if (!used) return;
    h->mem[param.i] = cg_alloc(&h->k, IG_i64, 1);
    cg_store(&h->k, h->mem[param.i], cg_i64(&h->k, 0), fl->index);
}

static void flow_begin_scan(host *h, host_flow *fl) {
    cg_kernel *k = &h->k;
    const ir_op *o = fl->o;
    const ir_attr_scan *a = ir_attr_get(h->in, o->attr);
    uint32_t param0 = h->f->regions.data[o->region0].param0, carries = flow_carries(h, o);
    const ir_op *yield = flow_yield(h, o, 0);
    ir_ref list[2 * IR_MAX_RESULTS], carried[2 * IR_MAX_RESULTS];
    uint32_t n = flow_begin_carries(h, fl, yield, list);
    ir_ref steps = cg_dim(k, ir_dim_import(k->b.m, h->in, a->n));
    fl->loop = cg_for(k, cg_i64(k, 0), steps, 1, (int)n, list, carried);
    flow_take(h, fl, carried, param0 + 1, yield);
    fl->index = fl->loop.index;
    if (a->reverse)
        fl->index = cg_bin(k, OP_sub, cg_bin(k, OP_sub, steps, cg_i64(k, 1)), fl->loop.index);
    flow_step_memory(h, fl, (ir_ref){param0});
    for (uint32_t i = carries; i < o->nin; i++) {
        ir_ref p = {param0 + 1 + i};
        h->mem[p.i] = cg_host_row(h, cg_host_memory(h, ir_op_in(h->f, o, i)), ir_val_type(h->f, p));
    }
}

static void flow_end_scan(host *h, host_flow *fl, const ir_op *yield) {
    ir_ref list[2 * IR_MAX_RESULTS];
    uint32_t n = flow_swap(h, fl, yield, list);
    flow_give(h, fl, cg_for_end(&h->k, fl->loop, (int)n, list));
    for (uint32_t k = flow_carries(h, fl->o); k < yield->nin; k++)
        h->mem[fl->o->out0 + k] = flow_place(h, flow_source(h, yield, k));
}

/* Begin region k of a kernel-level while; the carried values are in `carried`, then the trips. */
static void flow_begin_trip(host *h, host_flow *fl, int k, ir_ref *carried) {
    ir_type type[2 * IR_MAX_RESULTS + 1];
    const ir_func *f = h->k.b.f;
    if (cg_failed(&h->k)) return;
    const ir_op *mine = &f->ops.data[fl->op];
    for (uint32_t i = 0; i < mine->nin; i++) type[i] = *ir_val_type(f, ir_op_in(f, mine, i));
    ir_region_begin(&h->k.b, fl->op, k, mine->nin, type, carried);
    uint32_t region = fl->o->region0 + (uint32_t)k;
    flow_take(h, fl, carried, h->f->regions.data[region].param0,
              k ? flow_yield(h, fl->o, 1) : NULL);
    fl->index = carried[2 * fl->moves];
}

static void flow_begin_while(host *h, host_flow *fl) {
    ir_ref list[2 * IR_MAX_RESULTS + 1], carried[2 * IR_MAX_RESULTS + 1];
    uint32_t n = flow_begin_carries(h, fl, flow_yield(h, fl->o, 1), list);
    list[n++] = cg_i64(&h->k, 0);
    if (n > IR_MAX_RESULTS) {
        ir_build_error(&h->k.b, rt_fail(h->in->alloc, IG_UNSUPPORTED,
                                        "a compiled loop carries at most %d values",
                                        IR_MAX_RESULTS / 2 - 1));
        return;
    }
    fl->op = ir_op_begin(&h->k.b, OP_while, NULL, (int)n, list, 2);
    flow_begin_trip(h, fl, 0, carried);
}

/* The condition: true, nothing has failed, and the cap is not reached. */
static ir_ref flow_condition(host *h, const host_flow *fl, const ir_op *yield) {
    cg_kernel *k = &h->k;
    const ir_attr_while *a = ir_attr_get(h->in, fl->o->attr);
    ir_ref zero = cg_i64(k, 0), ok = cg_int(k, IG_i32, RT_HOST_OK);
    ir_ref more = cg_load(k, cg_host_memory(h, ir_op_in(h->f, yield, 0)), zero, 0);
    if (a->cap) {
        ir_ref over = cg_cmp(k, IR_cmpop_le, cg_i64(k, a->cap), fl->index);
        uint32_t branch = cg_if(k, cg_bit(k, IR_bitop_band, more, over));
        cg_store(k, h->code, zero, cg_int(k, IG_i32, RT_HOST_CAP));
        cg_else(k, 0, NULL);
        cg_if_end(k, branch, 0, NULL);
    }
    ir_ref fine = cg_cmp(k, IR_cmpop_eq, cg_load(k, h->code, zero, 0), ok);
    return cg_bit(k, IR_bitop_band, more, fine);
}

static void flow_end_while(host *h, host_flow *fl, const ir_op *yield) {
    cg_kernel *k = &h->k;
    ir_ref list[2 * IR_MAX_RESULTS + 1];
    if (fl->region == fl->o->region0) {
        ir_ref more = flow_condition(h, fl, yield);
        ir_region_end(&k->b, 1, &more);
        flow_begin_trip(h, fl, 1, list);
        fl->region++;
        return;
    }
    uint32_t n = flow_swap(h, fl, yield, list);
    list[n++] = cg_bin(k, OP_add, fl->index, cg_i64(k, 1));
    ir_region_end(&k->b, (int)n, list);
    flow_give(h, fl, ir_op_end(&k->b, fl->op));
    h->nflow--;
}

/* --- Branches ------------------------------------------------------------------------------- */

/* Region k runs when it is the chosen one. */
static void flow_begin_branch(host *h, host_flow *fl) {
    cg_kernel *k = &h->k;
    ir_ref number = cg_int(k, IG_i32, fl->region - fl->o->region0);
    fl->op = cg_if(k, cg_cmp(k, IR_cmpop_eq, fl->index, number));
}

static void flow_begin_if(host *h, host_flow *fl) {
    cg_kernel *k = &h->k;
    ir_ref v = ir_op_in(h->f, fl->o, 0), zero = cg_int(k, IG_i32, 0);
    ir_ref last = cg_int(k, IG_i32, fl->o->nregion - 1);
    ir_ref x = cg_load(k, cg_host_memory(h, v), cg_i64(k, 0), 0);
    if (ir_val_type(h->f, v)->dtype == IG_bool)
        fl->index = cg_select(k, x, zero, last);
    else
        fl->index = cg_bin(k, OP_max, cg_bin(k, OP_min, x, last), zero);
    flow_begin_branch(h, fl);
}

static void flow_end_branch(host *h, host_flow *fl) {
    cg_kernel *k = &h->k;
    const ir_op *o = fl->o, *first = flow_yield(h, o, 0);
    cg_else(k, 0, NULL);
    cg_if_end(k, fl->op, 0, NULL);
    if (++fl->region < o->region0 + o->nregion) {
        flow_begin_branch(h, fl);
        return;
    }
    for (uint32_t i = 0; i < o->nout; i++)
        h->mem[o->out0 + i] = flow_place(h, flow_source(h, first, i));
    h->nflow--;
}

/* --- Any op --------------------------------------------------------------------------------- */

void cg_host_begin(host *h, const ir_op *o) {
    size_t room = FLOW_MAX_NEST * sizeof *h->flow;
    if (!h->flow) h->flow = rt_alloc_zero(h->in->alloc, room);
    if (!h->flow || h->nflow == FLOW_MAX_NEST) {
        ig_status s = h->flow ? rt_fail(h->in->alloc, IG_RANGE,
                                        "compiled loops and branches nest at most %d deep",
                                        FLOW_MAX_NEST)
                              : rt_fail_memory();
        ir_build_error(&h->k.b, rt_status_op(s, ir_op_tab[o->code].name));
        return;
    }
    host_flow *fl = &h->flow[h->nflow++];
    fl->o = o;
    fl->region = o->region0;
    h->k.b.loc = o->loc;
    if (o->code == OP_scan)
        flow_begin_scan(h, fl);
    else if (o->code == OP_while)
        flow_begin_while(h, fl);
    else
        flow_begin_if(h, fl);
}

void cg_host_yield(host *h, const ir_op *yield) {
    if (cg_failed(&h->k)) return;
    host_flow *fl = flow_top(h);
    if (fl->o->code == OP_while) {
        flow_end_while(h, fl, yield);
    } else if (fl->o->code == OP_if) {
        flow_end_branch(h, fl);
    } else {
        h->nflow--;
        flow_end_scan(h, fl, yield);
    }
}

void cg_host_flow_free(host *h) {
    rt_free(h->in->alloc, h->flow, FLOW_MAX_NEST * sizeof *h->flow);
    h->flow = NULL;
}
