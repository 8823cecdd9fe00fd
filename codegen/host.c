/* host.c - the host program of an image: check the dims, place the buffers, launch the kernels in
 * order.
 *
 * Dims are integers given by the caller.  Every symbolic dim of the program is checked before any
 * is used: symbols are in their range, no extent is negative, no divisor 0 (BAD_DIMS), and nothing
 * overflows (OVERFLOW).  Whether i64 arithmetic overflowed is decided by an upper bound on all
 * intermediate results, computed in f64 beside it: relative error 2^-50 cannot hide the distance
 * between the limit 2^62 and 2^63.  Dims whose range proves the bound need no check. */
#include "codegen/host.h"
#include "passes/pass.h"

#include <string.h>

#define HOST_LIMIT 0x1p62

/* --- What has to be checked ----------------------------------------------------------------- */

static bool host_add_dim(host *h, ir_dim d, bool extent) {
    struct host_dim *x;
    if (d >= 0) return true;
    for (uint32_t i = 0; i < h->dims.n; i++) {
        x = &h->dims.data[i];
        if (x->d != d) continue;
        x->extent |= extent;
        return true;
    }
    if (!rt_vec_reserve(h->in->alloc, &h->dims, h->dims.n + 1)) return false;
    x = &h->dims.data[h->dims.n++];
    x->d = d;
    x->extent = extent;
    return true;
}

static bool host_add_type(host *h, const ir_type *t) {
    for (int k = 0; k < t->rank; k++)
        if (!host_add_dim(h, t->dim[k], true)) return false;
    return true;
}

/* The dims of all values of a function and of the clusters it calls. */
static bool host_add_func(host *h, const ir_func *f) {
    for (uint32_t i = 1; i < f->values.n; i++)
        if (!host_add_type(h, ir_val_type(f, (ir_ref){i}))) return false;
    for (uint32_t i = 0; i < f->ops.n; i++) {
        const ir_attr_call *a = ir_attr_get(h->in, f->ops.data[i].attr);
        if (f->ops.data[i].code != OP_call) continue;
        const ir_func *callee = ir_find_func(h->in, a->callee);
        for (uint32_t v = 1; v < callee->values.n; v++)
            if (!host_add_type(h, ir_val_type(callee, (ir_ref){v}))) return false;
        for (int k = 0; k < a->at.n; k++)
            if ((a->at.p[k].kind == IR_PLACE_WS || a->at.p[k].kind == IR_PLACE_WS_ROW) &&
                !host_add_dim(h, a->at.p[k].at, true))
                return false;
    }
    return true;
}

/* The operands of every atom are dims, too, of any sign. */
static bool host_add_atoms(host *h) {
    const ir_dim_term *term;
    for (uint32_t i = 0; i < h->dims.n; i++) {
        uint32_t n = ir_dim_terms(h->k.b.m, h->dims.data[i].d, &term);
        for (uint32_t t = 0; t < n; t++)
            for (uint32_t j = 0; j < term[t].natom; j++) {
                const ir_dim_atom *x = term[t].atom[j];
                if (x->kind == DIM_SYM) continue;
                if (!host_add_dim(h, x->a, false) || !host_add_dim(h, x->b, false)) return false;
            }
    }
    return true;
}

/* --- Checks --------------------------------------------------------------------------------- */

static ir_ref host_or(host *h, ir_ref x, ir_ref y) {
    return x.i ? cg_bit(&h->k, IR_bitop_bor, x, y) : y;
}

static void host_check_symbols(host *h) {
    cg_kernel *k = &h->k;
    const ir_module *m = k->b.m;
    for (uint32_t i = 0; i < m->symbols.n; i++) {
        ir_ref s = ir_emit0(&k->b, OP_ksym, &(ir_attr_index){.index = i});
        h->bad = host_or(h, h->bad, cg_cmp(k, IR_cmpop_lt, s, cg_i64(k, m->symbols.data[i].lo)));
        h->bad = host_or(h, h->bad, cg_cmp(k, IR_cmpop_lt, cg_i64(k, m->symbols.data[i].hi), s));
    }
}

/* A bound on the atom's value, from the ranges of the symbols. */
static double host_atom_bound(const host *h, const ir_dim_atom *x) {
    const ir_module *m = h->k.b.m;
    int64_t lo, hi, other;
    if (x->kind == DIM_SYM) return (double)m->symbols.data[x->sym].hi;
    ir_dim_range(m, x->a, &lo, &hi);
    ir_dim_range(m, x->b, &lo, &other);
    if (x->kind == DIM_MOD || (x->kind == DIM_MAX && other > hi)) hi = other;
    return (double)hi;
}

/* Whether the ranges alone show that the dim neither overflows nor is negative; *sign_ when it may
 * be negative. */
static bool host_is_proved(const host *h, ir_dim d, bool *sign_) {
    const ir_dim_term *term;
    double sum = 0;
    uint32_t n = ir_dim_terms(h->k.b.m, d, &term);
    *sign_ = false;
    for (uint32_t i = 0; i < n; i++) {
        double t = (double)term[i].coef;
        if (t < 0) t = -t, *sign_ = true;
        for (uint32_t j = 0; j < term[i].natom; j++) {
            if (term[i].atom[j]->kind != DIM_SYM)
                *sign_ = true; /* its operands may have any sign */
            t *= host_atom_bound(h, term[i].atom[j]) + 1;
        }
        sum += t;
    }
    return sum < HOST_LIMIT && !*sign_;
}

/* The value of an atom as f64, without its sign. */
static ir_ref host_atom_size(host *h, const ir_dim_atom *x) {
    cg_kernel *k = &h->k;
    if (x->kind == DIM_SYM)
        return cg_un(
            k, OP_abs,
            cg_cast(k, ir_emit0(&k->b, OP_ksym, &(ir_attr_index){.index = x->sym}), IG_f64));
    ir_ref a = cg_un(k, OP_abs, cg_cast(k, cg_dim(k, x->a), IG_f64));
    ir_ref b = cg_un(k, OP_abs, cg_cast(k, cg_dim(k, x->b), IG_f64));
    return cg_bin(k, OP_add, a, b); /* bounds quotient, remainder, minimum and maximum alike */
}

/* Check one dim, whose atoms' operands are checked as dims of their own. */
static void host_check_dim(host *h, struct host_dim x) {
    cg_kernel *k = &h->k;
    const ir_dim_term *term;
    bool sign;
    uint32_t n = ir_dim_terms(k->b.m, x.d, &term);
    ir_ref sum = cg_flt(k, IG_f64, 0);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < term[i].natom; j++) {
            const ir_dim_atom *a = term[i].atom[j];
            if (a->kind != DIM_FLOORDIV && a->kind != DIM_MOD) continue;
            ir_ref one = cg_i64(k, 1);
            h->bad = host_or(h, h->bad, cg_cmp(k, IR_cmpop_lt, cg_dim(k, a->b), one));
        }
    if (host_is_proved(h, x.d, &sign)) return;
    for (uint32_t i = 0; i < n; i++) {
        double c = (double)term[i].coef;
        ir_ref t = cg_flt(k, IG_f64, c < 0 ? -c : c);
        for (uint32_t j = 0; j < term[i].natom; j++)
            t = cg_bin(k, OP_mul, t, host_atom_size(h, term[i].atom[j]));
        sum = cg_bin(k, OP_add, sum, t);
    }
    h->over = host_or(h, h->over, cg_cmp(k, IR_cmpop_le, cg_flt(k, IG_f64, HOST_LIMIT), sum));
    if (!sign || !x.extent) return;
    ir_ref zero = cg_i64(k, 0);
    h->bad = host_or(h, h->bad, cg_cmp(k, IR_cmpop_lt, cg_dim(k, x.d), zero));
}

/* The rt_host_code of these dims. */
static ir_ref host_check(host *h, const cg_launch *launch) {
    cg_kernel *k = &h->k;
    bool room = host_add_func(h, h->f) && host_add_dim(h, pass_workspace(h->f), true);
    for (uint32_t i = 0; room && launch && i < h->f->ops.n; i++)
        if (h->f->ops.data[i].code == OP_call) room = host_add_dim(h, (launch++)->n, true);
    if (!room || !host_add_atoms(h)) {
        ir_build_error(&k->b, rt_fail_memory());
        return (ir_ref){0};
    }
    host_check_symbols(h);
    for (uint32_t i = 0; i < h->dims.n && !cg_failed(k); i++) host_check_dim(h, h->dims.data[i]);
    ir_ref code = cg_int(k, IG_i32, RT_HOST_OK);
    if (h->over.i) code = cg_select(k, h->over, cg_int(k, IG_i32, RT_HOST_OVERFLOW), code);
    return h->bad.i ? cg_select(k, h->bad, cg_int(k, IG_i32, RT_HOST_BAD_DIMS), code) : code;
}

/* --- Buffers and launches ------------------------------------------------------------------- */

static ir_ref host_port(host *h, ir_opcode op, int64_t index, uint8_t dtype) {
    return ir_emit0(&h->k.b, op, &(ir_attr_port){.index = index, .dtype = dtype});
}

static ir_ref host_weight(host *h, const char *name, uint8_t dtype) {
    const char *kept = ir_intern_str(h->k.b.m, name, strlen(name));
    if (!kept) ir_build_error(&h->k.b, rt_fail_memory());
    return kept ? ir_emit0(&h->k.b, OP_kweight, &(ir_attr_wport){.name = kept, .dtype = dtype})
                : (ir_ref){0};
}

static ir_ref host_in_workspace(host *h, ir_dim at, uint8_t dtype) {
    return ir_emit1(&h->k.b, OP_kws, &(ir_attr_dtype){.dtype = dtype}, cg_dim(&h->k, at));
}

/* Where the memory planner put a result; the whole of one that is stacked. */
ir_ref cg_host_place(host *h, const ir_places *at, uint32_t i, uint8_t dtype) {
    if (at->p[i].kind == IR_PLACE_OUT || at->p[i].kind == IR_PLACE_OUT_ROW)
        return host_port(h, OP_kout, at->p[i].at, dtype);
    return host_in_workspace(h, at->p[i].at, dtype);
}

/* The memory of a value.  That of a weight is named where it is used: one that is only read packed
 * is no part of the program. */
ir_ref cg_host_memory(host *h, ir_ref v) {
    const ir_op *o = ir_def_op(h->f, v);
    const char *name = NULL;
    while (o && o->code == OP_reshape) v = ir_op_in(h->f, o, 0), o = ir_def_op(h->f, v);
    if (h->mem[v.i].i || !o) return h->mem[v.i];
    const void *attr = ir_attr_get(h->in, o->attr);
    if (o->code == OP_weight)
        name = ((const ir_attr_sym *)attr)->name;
    else
        ir_build_error(&h->k.b, cg_const_weight(h->k.b.m, o->attr, attr, &name));
    return name ? host_weight(h, name, ir_val_type(h->f, v)->dtype) : (ir_ref){0};
}

/* The memory that result i of a call is written to. */
ir_ref cg_host_result(host *h, const ir_op *o, uint32_t i) {
    const ir_attr_call *a = ir_attr_get(h->in, o->attr);
    ir_ref v = ir_op_out(o, i);
    const ir_type *t = ir_val_type(h->f, v);
    if (h->mem[v.i].i) return h->mem[v.i]; /* a loop has set it */
    if (a->at.p[i].kind == IR_PLACE_IN)
        return h->mem[v.i] = cg_host_memory(h, ir_op_in(h->f, o, (uint32_t)a->at.p[i].at));
    ir_ref mem = cg_host_place(h, &a->at, i, t->dtype);
    bool row = a->at.p[i].kind == IR_PLACE_WS_ROW || a->at.p[i].kind == IR_PLACE_OUT_ROW;
    return h->mem[v.i] = row ? cg_host_row(h, mem, t) : mem;
}

/* Whether a launch inside of a loop is for no executor, whatever the dims: then it is a plain call.
 */
static bool host_is_small(const host *h, const cg_launch *launch) {
    return h->nflow && launch->n > 0 && launch->cost >= 0 && launch->cost < RT_WORTH_PS;
}

static void host_call(host *h, const ir_op *o, const cg_launch *launch) {
    cg_kernel *k = &h->k;
    if (launch->invoked) {
        cg_host_invoke(h, o, launch->invoked);
        return;
    }
    uint32_t n = 0, count = o->nin + o->nout + launch->nblob + 2u;
    const ig_allocator *alloc = h->in->alloc;
    ir_ref *in = rt_alloc(alloc, count * sizeof *in);
    if (!in) {
        ir_build_error(&k->b, rt_fail_memory());
        return;
    }
    for (uint32_t i = 0; i < o->nin; i++)
        in[n++] = (int)i == launch->packed ? (ir_ref){0} : cg_host_memory(h, ir_op_in(h->f, o, i));
    for (uint32_t i = 0; i < o->nout; i++) in[n++] = cg_host_result(h, o, i);
    for (uint32_t i = 0; i < launch->nblob; i++)
        in[n++] =
            host_weight(h, launch->blob[i], ir_find_weight(k->b.m, launch->blob[i])->type.dtype);
    if (launch->packed >= 0) /* not read there: any address of its type will do */
        in[launch->packed] = host_in_workspace(
            h, 0, ir_val_type(h->f, ir_op_in(h->f, o, (uint32_t)launch->packed))->dtype);
    in[n++] = cg_dim(k, launch->n);
    in[n++] = cg_dim(k, host_is_small(h, launch) ? 0 : launch->cost);
    k->b.loc = o->loc;
    ir_emit(&k->b, OP_launch, &(ir_attr_call){.callee = launch->kernel}, (int)n, in);
    if (launch->end) {
        in[n - 2] = cg_dim(k, launch->end_n);
        in[n - 1] = cg_i64(k, 0);
        ir_emit(&k->b, OP_launch, &(ir_attr_call){.callee = launch->end}, (int)n, in);
    }
    rt_free(alloc, in, count * sizeof *in);
}

/* One op of the entry function. */
static ig_status host_op(host *h, const ir_op *o, const cg_launch **launch) {
    switch (o->code) {
    case OP_weight:
    case OP_const:
    case OP_reshape:
    case OP_return: break;
    case OP_call: host_call(h, o, (*launch)++); break;
    case OP_if:
    case OP_scan:
    case OP_while: cg_host_begin(h, o); break;
    case OP_yield: cg_host_yield(h, o); break;
    default:
        return rt_fail(h->in->alloc, IG_INTERNAL,
                       "%s is left in the entry function: it was not fused",
                       ir_op_tab[o->code].name);
    }
    return NULL;
}

static ig_status host_launches(host *h, const cg_launch *launch) {
    for (uint32_t i = 0; i < ir_nparam(h->f); i++) {
        ir_ref v = ir_param_ref(h->f, i);
        h->mem[v.i] = host_port(h, OP_kin, i, ir_val_type(h->f, v)->dtype);
    }
    for (uint32_t i = 0; i < h->f->ops.n && !cg_failed(&h->k); i++)
        RT_TRY(host_op(h, &h->f->ops.data[i], &launch));
    return NULL;
}

/* --- The two functions ---------------------------------------------------------------------- */

static void host_free(host *h) {
    cg_kernel_free(&h->k);
    cg_host_flow_free(h);
    rt_vec_free(h->in->alloc, &h->dims);
    rt_free(h->in->alloc, h->mem, h->f->values.n * sizeof *h->mem);
    rt_free(h->in->alloc, h->spare, h->f->values.n * sizeof *h->spare);
}

/* End the function, or hand out what went wrong. */
static ig_status host_end(host *h, ig_status s, int n, const ir_ref *results) {
    if (s) ir_build_error(&h->k.b, s);
    return ir_build_end(&h->k.b, n, results, NULL);
}

static ig_status host_entry(host *h, const cg_launch *launch) {
    cg_kernel *k = &h->k;
    ig_status s = NULL;
    cg_kernel_begin(k, k->b.m, h->f->name, IR_HOST);
    ir_ref code = host_check(h, launch);
    code = cg_host_code(h, code);
    bool checked = h->bad.i || h->over.i;
    uint32_t branch = 0;
    if (checked) branch = cg_if(k, cg_cmp(k, IR_cmpop_eq, code, cg_int(k, IG_i32, RT_HOST_OK)));
    if (!cg_failed(k)) s = host_launches(h, launch);
    if (checked) {
        cg_else(k, 0, NULL);
        cg_if_end(k, branch, 0, NULL);
    }
    if (h->code.i) code = cg_load(k, h->code, cg_i64(k, 0), 0);
    return host_end(h, s, 1, &code);
}

static ig_status host_workspace(host *h) {
    cg_kernel *k = &h->k;
    rt_str name;
    rt_str_init(&name, h->in->alloc);
    rt_str_printf(&name, "%s_workspace", h->f->name);
    bool named = !name.failed;
    cg_kernel_begin(k, k->b.m, rt_str_text(&name), IR_HOST);
    rt_str_free(&name);
    if (!named) return host_end(h, rt_fail_memory(), 0, NULL);
    ir_ref result[2];
    result[1] = host_check(h, NULL);
    ir_ref fine = cg_cmp(k, IR_cmpop_eq, result[1], cg_int(k, IG_i32, RT_HOST_OK));
    ir_ref zero = cg_i64(k, 0);
    result[0] = cg_select(k, fine, cg_dim(k, pass_workspace(h->f)), zero);
    return host_end(h, NULL, 2, result);
}

ig_status cg_host(const ir_module *planned, const ir_func *entry, ir_module *out,
                  const cg_launch *launch) {
    host h = {.in = planned, .f = entry, .k.b.m = out};
    h.mem = rt_alloc_zero(planned->alloc, entry->values.n * sizeof *h.mem);
    h.spare = rt_alloc_zero(planned->alloc, entry->values.n * sizeof *h.spare);
    ig_status s = h.mem && h.spare ? host_entry(&h, launch) : rt_fail_memory();
    host_free(&h);
    if (s) return s;
    h = (host){.in = planned, .f = entry, .k.b.m = out};
    s = host_workspace(&h);
    host_free(&h);
    return s;
}
