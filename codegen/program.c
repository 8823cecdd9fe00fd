/* program.c - a planned module becomes kernels and a host program: a launch for each call of the
 * entry function, and one kernel for all launches that do the same. */
#include "codegen/lower.h"
#include "ir/intern.h"
#include "passes/pass.h"
#include "runtime/base/hash.h"
#include "runtime/base/log.h"

#include <stdio.h>
#include <string.h>

typedef struct program {
    const ir_module *in;
    ir_module *out;
    const ir_func *entry;
    const cg_cpu *cpu;
    ir_index twins; /* kernels by what they do; owned */
    ir_index known; /* launches by what their kernel is lowered from; owned */
    RT_VEC(cg_launch) launches;
    RT_VEC(const char *) blobs; /* names of the constants each launch passes after the results */
} program;

/* --- Constants ------------------------------------------------------------------------------ */

/* Whether all elements of a constant have the same bytes. */
static bool program_is_splat(const ir_attr_const *a) {
    const char *bytes = a->data.bytes;
    size_t size = rt_dtype_bytes((ig_dtype)a->type.dtype), n = (size_t)a->data.n;
    return n <= size || !memcmp(bytes, bytes + size, n - size);
}

/* The weight of the lowered module that holds a constant; its name begins with a dot
 * (cg_weight_is_const). */
ig_status cg_const_weight(ir_module *out, ir_attr number, const ir_attr_const *a,
                          const char **name_) {
    char name[48];
    int n = snprintf(name, sizeof name, ".c%u", number.i);
    const ir_weight *w;
    while ((w = ir_find_weight(out, name)) && w->data != a->data.bytes &&
           n < (int)sizeof name - 1) {
        name[n++] = '_';
        name[n] = '\0';
    }
    if (!w) RT_TRY(ir_add_weight(out, name, a->type, a->data.bytes, false));
    *name_ = ir_find_weight(out, name)->name;
    return NULL;
}

/* --- Equal kernels -------------------------------------------------------------------------- */

static bool program_same_values(const ir_func *f, const ir_func *g) {
    for (uint32_t i = 1; i < f->values.n; i++) {
        const ir_value *x = &f->values.data[i], *y = &g->values.data[i];
        if (x->type != y->type || x->def != y->def || x->index != y->index ||
            x->is_param != y->is_param)
            return false;
    }
    return true;
}

/* Whether two kernels of a module do the same: all but their name and the lines they come from.
 * Types and attributes are interned, so that equal ones have equal numbers. */
static bool program_is_same(const ir_func *f, const ir_func *g) {
    if (f->kind != g->kind || f->ops.n != g->ops.n || f->values.n != g->values.n ||
        f->operands.n != g->operands.n || f->regions.n != g->regions.n)
        return false;
    for (uint32_t i = 0; i < f->ops.n; i++) {
        ir_op x = f->ops.data[i], y = g->ops.data[i];
        x.loc = y.loc;
        if (memcmp(&x, &y, sizeof x)) return false;
    }
    return program_same_values(f, g) &&
           !memcmp(f->operands.data, g->operands.data, f->operands.n * sizeof *f->operands.data) &&
           !memcmp(f->regions.data, g->regions.data, f->regions.n * sizeof *f->regions.data);
}

/* Equal for kernels that do the same. */
static uint64_t program_hash(const ir_func *f) {
    uint64_t h = rt_hash(f->operands.data, f->operands.n * sizeof *f->operands.data, f->values.n);
    for (uint32_t i = 0; i < f->ops.n; i++)
        h = rt_hash_mix(h, (uint64_t)f->ops.data[i].code << 32 | f->ops.data[i].attr.i);
    return h;
}

/* Layers of one shape have one kernel: drop the last one when an earlier one does the same. */
static ig_status program_share(program *p, const char **kernel) {
    const ir_func *last = p->out->funcs.data[p->out->funcs.n - 1];
    uint64_t hash = program_hash(last);
    uint32_t at = ir_index_start(&p->twins, hash), id;
    while (ir_index_next(&p->twins, hash, &at, &id)) {
        const ir_func *f = p->out->funcs.data[id];
        if (!program_is_same(f, last)) continue;
        *kernel = f->name;
        ir_drop_func(p->out);
        return NULL;
    }
    if (!ir_index_reserve(p->in->alloc, &p->twins)) return rt_fail_memory();
    ir_index_add(&p->twins, hash, p->out->funcs.n - 1);
    return NULL;
}

/* --- One kernel ----------------------------------------------------------------------------- */

/* A kernel name that is free. */
static const char *program_name(ir_module *out, const char *want, char *buf, size_t size) {
    snprintf(buf, size, "%s", want);
    for (unsigned i = 1; ir_find_func(out, buf); i++) snprintf(buf, size, "%s.%u", want, i);
    return buf;
}

/* Find the constants of a cluster that need memory, and name their weights. */
static ig_status program_find_blobs(program *p, cg_low *l, cg_launch *launch) {
    const ir_func *f = l->f;
    for (uint32_t i = 0; i < f->ops.n; i++) {
        const ir_op *o = &f->ops.data[i];
        if (o->code != OP_const) continue;
        const ir_attr_const *a = ir_attr_get(f->module, o->attr);
        if (program_is_splat(a)) continue;
        RT_TRY(cg_const_weight(p->out, o->attr, a, &l->blob[o->out0]));
        if (!rt_vec_push(p->out->alloc, &p->blobs, l->blob[o->out0])) return rt_fail_memory();
        launch->nblob++;
    }
    return NULL;
}

/* The operand whose memory result i of a call lies in, or -1. */
static int program_lies_in(const program *p, const ir_op *call, uint32_t i) {
    const ir_places *to = &((const ir_attr_call *)ir_attr_get(p->in, call->attr))->at;
    return to->p[i].kind == IR_PLACE_IN ? (int)to->p[i].at : -1;
}

/* The value of the entry function whose memory v is. */
static ir_ref program_base(const program *p, ir_ref v) {
    for (const ir_op *o; (o = ir_def_op(p->entry, v));) {
        int k = o->code == OP_reshape ? 0
                : o->code == OP_call  ? program_lies_in(p, o, v.i - o->out0)
                                      : -1;
        if (k < 0) break;
        v = ir_op_in(p->entry, o, (uint32_t)k);
    }
    return v;
}

/* Whether a call writes the output that state k comes out in; UINT32_MAX: it is none. */
static bool program_writes_state(const program *p, const ir_places *to, uint32_t k) {
    uint32_t out = p->entry->results.n - p->in->nstate + k;
    for (int i = 0; k != UINT32_MAX && i < to->n; i++)
        if (to->p[i].kind == IR_PLACE_OUT && to->p[i].at == (ir_dim)out) return true;
    return false;
}

/* The number of the state that goes in as v, or UINT32_MAX. */
static uint32_t program_state_of(const program *p, ir_ref v) {
    uint32_t first = ir_nparam(p->entry) - p->in->nstate;
    for (uint32_t k = 0; k < p->in->nstate && p->entry == ir_entry(p->in); k++)
        if (ir_param_ref(p->entry, first + k).i == v.i) return k;
    return UINT32_MAX;
}

/* Whether no result of a call lies in the memory of an operand: where memplan.c places it is the
 * place of an operand that dies there, or nowhere near one; state may come out where it went in. */
static bool program_is_apart(const program *p, const ir_op *call) {
    const ir_places *to = &((const ir_attr_call *)ir_attr_get(p->in, call->attr))->at;
    for (uint32_t i = 0; i < call->nout; i++)
        if (program_lies_in(p, call, i) >= 0) return false;
    for (uint32_t i = 0; i < call->nin; i++) {
        ir_ref v = program_base(p, ir_op_in(p->entry, call, i));
        const ir_op *o = ir_def_op(p->entry, v);
        if (o && o->nregion) return false; /* what was yielded, wherever that is */
        if (!o && program_writes_state(p, to, program_state_of(p, v))) return false;
        if (!o || o->code != OP_call) continue; /* never written */
        const ir_places *from = &((const ir_attr_call *)ir_attr_get(p->in, o->attr))->at;
        uint32_t which = v.i - o->out0;
        for (int k = 0; k < to->n; k++)
            if (to->p[k].kind == from->p[which].kind && to->p[k].at == from->p[which].at)
                return false;
    }
    return true;
}

/* The bytes of a value of the entry function that is known when it is compiled, or NULL. */
static const void *program_known(const program *p, ir_ref v) {
    const ir_op *o = ir_def_op(p->entry, program_base(p, v));
    if (!o) return NULL;
    const void *attr = ir_attr_get(p->in, o->attr);
    if (o->code == OP_const) return ((const ir_attr_const *)attr)->data.bytes;
    if (o->code != OP_weight) return NULL;
    return ir_find_weight(p->in, ((const ir_attr_sym *)attr)->name)->data;
}

/* Pack the operand of a contraction ahead when its elements are known. */
static ig_status program_pack(program *p, cg_low *l, cg_launch *launch) {
    uint32_t param;
    if (!launch->call || !cg_gemm_packs(l, &param)) return NULL;
    const void *data = program_known(p, ir_op_in(p->entry, launch->call, param));
    if (!data) return NULL;
    RT_TRY(cg_gemm_pack_weight(l, data, &l->packed_name));
    if (!l->packed_name) return NULL;
    if (!rt_vec_push(p->out->alloc, &p->blobs, l->packed_name)) return rt_fail_memory();
    launch->nblob++;
    launch->packed = (int)param;
    return NULL;
}

/* The parameters of the kernel: operands, results, constants, then the part of the outermost loop.
 */
static void program_params(cg_low *l) {
    const ir_func *f = l->f;
    ir_builder *b = &l->k.b;
    char name[24];
    unsigned at = 0;
    for (uint32_t i = 0; i < ir_nparam(f); i++) {
        snprintf(name, sizeof name, "b%u", at++);
        ir_ref v = ir_param_ref(f, i);
        l->mem[v.i] = ir_param(b, ir_mem_type((ig_dtype)cg_type(l, v)->dtype), name);
    }
    for (uint32_t i = 0; i < f->results.n; i++) {
        snprintf(name, sizeof name, "b%u", at++);
        l->out[i] = ir_param(b, ir_mem_type((ig_dtype)ir_result_type(f, i)->dtype), name);
    }
    for (uint32_t i = 0; i < f->ops.n; i++) {
        uint32_t v = f->ops.data[i].out0;
        if (f->ops.data[i].code != OP_const || !l->blob[v]) continue;
        snprintf(name, sizeof name, "b%u", at++);
        l->mem[v] = ir_param(b, ir_mem_type((ig_dtype)ir_val_type(f, (ir_ref){v})->dtype), name);
    }
    if (l->packed_name) {
        snprintf(name, sizeof name, "b%u", at++);
        l->packed = ir_param(
            b, ir_mem_type((ig_dtype)ir_find_weight(b->m, l->packed_name)->type.dtype), name);
    }
    l->lo = ir_param(b, ir_scalar_type(IG_i64), "lo");
    l->hi = ir_param(b, ir_scalar_type(IG_i64), "hi");
}

/* Evaluate the symbolic dims of the cluster at the top, where every loop sees them. */
static void program_dims(cg_low *l) {
    for (uint32_t i = 1; i < l->f->values.n && !cg_lower_failed(l); i++) {
        const ir_type *t = ir_val_type(l->f, (ir_ref){i});
        for (int k = 0; k < t->rank; k++) cg_dim(&l->k, t->dim[k]);
    }
}

static void program_write(cg_low *l, ir_dim *n_) {
    program_params(l);
    program_dims(l);
    cg_lanes_prepare(l);
    cg_reduce_prepare(l);
    cg_ein_prepare(l);
    if (cg_room_nest(l, n_) || cg_rows_nest(l, n_)) return;
    if (cg_scan_nest(l, n_) || cg_gemm_nest(l, n_)) return;
    if (cg_scatter_nest(l, n_) || cg_sort_nest(l, n_) || cg_steps_nest(l, n_)) return;
    cg_plain_nest(l, n_);
}

/* Forget what writing a kernel needed. */
static void program_free_writing(cg_low *l) {
    const ig_allocator *a = l->f->module->alloc;
    rt_vec_free(a, &l->frames);
    rt_vec_free(a, &l->groups);
    rt_vec_free(a, &l->memo);
    rt_vec_free(a, &l->args);
    rt_vec_free(a, &l->nests);
    memset(l->bucket, 0, sizeof l->bucket);
    cg_kernel_free(&l->k);
}

static void program_free_low(cg_low *l) {
    const ig_allocator *a = l->f->module->alloc;
    rt_free(a, l->mem, l->f->values.n * sizeof *l->mem);
    rt_free(a, l->blob, l->f->values.n * sizeof *l->blob);
    rt_free(a, l->scratch, l->f->values.n * sizeof *l->scratch);
    rt_free(a, l->out, (l->f->results.n + 1) * sizeof *l->out);
    program_free_writing(l);
}

static const char *program_callee(const program *p, const cg_launch *launch) {
    return ((const ir_attr_call *)ir_attr_get(p->in, launch->call->attr))->callee;
}

/* All that a kernel is lowered from: the cluster, whether an operand is packed, where the results
 * lie. */
static uint64_t program_from(const program *p, const cg_launch *launch) {
    uint64_t name = (uint64_t)(uintptr_t)program_callee(p, launch); /* interned */
    uint64_t how = (uint64_t)launch->apart << 1 | (launch->packed >= 0);
    return rt_hash_mix(name, how << 8 | (uint8_t)launch->home);
}

/* An earlier launch whose kernel is lowered from the same, or NULL. */
static const cg_launch *program_earlier(const program *p, const cg_launch *launch) {
    uint64_t hash = launch->call ? program_from(p, launch) : 0;
    uint32_t at = ir_index_start(&p->known, hash), id;
    while (launch->call && ir_index_next(&p->known, hash, &at, &id)) {
        const cg_launch *x = &p->launches.data[id];
        if (x->apart == launch->apart && x->home == launch->home &&
            (x->packed >= 0) == (launch->packed >= 0) &&
            program_callee(p, x) == program_callee(p, launch))
            return x;
    }
    return NULL;
}

/* Write a kernel of a cluster; share it when an earlier one does the same. */
static ig_status program_lower_one(program *p, cg_low *l, const char *want, const char **kernel_,
                                   ir_dim *n_, ir_dim *cost_) {
    char name[128];
    ir_func *kernel;
    program_name(p->out, want, name, sizeof name);
    cg_kernel_begin(&l->k, p->out, name, IR_KERNEL);
    if (!cg_lower_failed(l)) program_write(l, n_);
    if (!cg_lower_failed(l)) *cost_ = cg_cost(l);
    ig_status s = ir_build_end(&l->k.b, 0, NULL, &kernel);
    if (s) return rt_status_note(s, "lowering @%s", l->f->name);
    *kernel_ = kernel->name;
    return p->entry ? program_share(p, kernel_) : NULL;
}

static ig_status program_lower(program *p, cg_low *l, cg_launch *launch) {
    char name[128];
    ir_dim cost;
    l->room = launch->call && ir_rows_has_room(l->f) ? CG_ROOM_FILL : CG_ROOM_NONE;
    RT_TRY(program_lower_one(p, l, l->f->name, &launch->kernel, &launch->n, &launch->cost));
    if (!l->room) return NULL;
    program_free_writing(l);
    l->room = CG_ROOM_READ;
    snprintf(name, sizeof name, "%s_end", l->f->name);
    return program_lower_one(p, l, name, &launch->end, &launch->end_n, &cost);
}

/* The kernel of one cluster. */
static ig_status program_kernel(program *p, const ir_func *cluster, const ir_dims *stride,
                                cg_launch *launch) {
    const ig_allocator *a = p->out->alloc;
    const cg_launch *earlier;
    cg_low l = {.f = cluster, .cpu = p->cpu, .stride = stride, .k.b.m = p->out};
    l.mem = rt_alloc_zero(a, cluster->values.n * sizeof *l.mem);
    l.blob = rt_alloc_zero(a, cluster->values.n * sizeof *l.blob);
    l.out = rt_alloc_zero(a, (cluster->results.n + 1) * sizeof *l.out);
    l.scratch = rt_alloc_zero(a, cluster->values.n * sizeof *l.scratch);
    ig_status s = l.mem && l.blob && l.out && l.scratch ? program_find_blobs(p, &l, launch)
                                                        : rt_fail_memory();
    l.apart = launch->apart = launch->call && program_is_apart(p, launch->call);
    launch->home = launch->call ? program_lies_in(p, launch->call, 0) : -1;
    if (launch->home >= 0) l.update = pass_update_of(cluster, (uint32_t)launch->home);
    if (!s) s = program_pack(p, &l, launch);
    if (!s && (earlier = program_earlier(p, launch))) {
        launch->kernel = earlier->kernel;
        launch->end = earlier->end;
        launch->end_n = earlier->end_n;
        launch->n = earlier->n;
        launch->cost = earlier->cost;
    } else if (!s) {
        s = program_lower(p, &l, launch);
    }
    program_free_low(&l);
    return s;
}

ig_status cg_lower_cluster(const ir_func *cluster, const ir_dims *stride, const cg_cpu *cpu,
                           ir_module *out, ir_dim *n_, ir_dim *ps_) {
    program p = {.in = cluster->module, .out = out, .cpu = cpu};
    cg_launch launch = {.packed = -1};
    ig_status s = program_kernel(&p, cluster, stride, &launch);
    if (!s && launch.nblob)
        s = rt_fail(out->alloc, IG_UNSUPPORTED, "@%s has a constant that needs memory",
                    cluster->name);
    rt_vec_free(out->alloc, &p.blobs);
    *n_ = launch.n;
    *ps_ = launch.cost;
    return s;
}

/* --- The whole ------------------------------------------------------------------------------ */

static ig_status program_kernels(program *p, const ir_func *f) {
    for (uint32_t i = 0; i < f->ops.n; i++) {
        const ir_op *o = &f->ops.data[i];
        if (o->code != OP_call) continue;
        const ir_attr_call *a = ir_attr_get(p->in, o->attr);
        const ir_func *callee = ir_find_func(p->in, a->callee);
        ig_assert(p->in->alloc,
                  callee && callee->kind == IR_CLUSTER && a->at.n == callee->results.n);
        cg_launch launch = {.call = o, .packed = -1};
        launch.invoked = cg_invoked(p->in, o);
        if (!launch.invoked) RT_TRY(program_kernel(p, callee, NULL, &launch));
        if (!rt_vec_push(p->in->alloc, &p->launches, launch) ||
            !ir_index_reserve(p->in->alloc, &p->known))
            return rt_fail_memory();
        if (!launch.invoked)
            ir_index_add(&p->known, program_from(p, &launch), p->launches.n - 1);
    }
    uint32_t at = 0;
    for (uint32_t i = 0; i < p->launches.n; i++) {
        p->launches.data[i].blob = p->blobs.data + at;
        at += p->launches.data[i].nblob;
    }
    return cg_host(p->in, f, p->out, p->launches.data);
}

static void program_dump(const ir_module *m) {
    rt_str text;
    if (!rt_dump_on("kernel")) return;
    rt_str_init(&text, m->alloc);
    ir_print(m, &text, IR_PRINT_ELIDE);
    rt_dump("kernel", text.failed ? "; out of memory\n" : rt_str_text(&text));
    rt_str_free(&text);
}

ig_status cg_lower(const ir_module *planned, const char *entry, const cg_cpu *cpu,
                   ir_module **out_) {
    const ir_func *f = ir_find_func(planned, entry);
    program p = {.in = planned, .entry = f, .cpu = cpu};
    *out_ = NULL;
    if (!f || f->kind != IR_FN)
        return rt_fail(planned->alloc, IG_INVALID, "there is no function @%s", entry);
    if (!cg_cpu_serves(cpu, planned->class))
        return rt_fail(planned->alloc, IG_UNSUPPORTED,
                       "target %s has no fused multiply-add: it needs a module of class nofma",
                       cpu->name);
    RT_TRY(ir_module_shell(planned, &p.out));
    ig_status s = program_kernels(&p, f);
    ir_index_free(planned->alloc, &p.twins);
    ir_index_free(planned->alloc, &p.known);
    rt_vec_free(planned->alloc, &p.launches);
    rt_vec_free(planned->alloc, &p.blobs);
    if (s) {
        ir_module_free(p.out);
        return s;
    }
    program_dump(p.out);
    *out_ = p.out;
    return NULL;
}
