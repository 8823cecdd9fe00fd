/* clusters.c - the clusters behind the eager kernels, one a row of the op table, variant of its
 * attribute, element type and form; and their lowering.
 *
 * Nothing here knows single ops but the families of eager.h: which instances of an op exist is what
 * its type rule accepts.  Sizes are the module's symbols d0, d1, ... in the order in which a form
 * lists its dims; strides are symbols, too, and a kernel trusts them, so that a caller may give any
 * number for them, 0 and negative ones included. */
#include "codegen/eager/clusters.h"
#include "codegen/kernel.h"

#include <stdio.h>
#include <string.h>

#define SIZE_MAX_DIM (INT64_C(1) << 48)

/* A cluster: an instance of an op in one form. */
typedef struct draft {
    ir_opcode op;
    int variant, form;
    ig_dtype key;   /* the element type it is found by */
    ig_dtype dtype; /* of the result */
    const void *attr;
    int nin;
    ir_type in[3];     /* of the parameters */
    ir_dims stride[3]; /* n 0: contiguous */
    unsigned spread;   /* bit k: parameter k has one element a row, and is broadcast */
    const ir_func *f;  /* once it is made */
} draft;

typedef struct maker {
    const cg_cpu *cpu;
    ir_module *m;       /* the clusters; owned */
    ir_module *kernels; /* owned until it is handed out */
    ir_dim d[CG_EAGER_DIMS];
    RT_VEC(draft) drafts;
    eager_entries *entries;
} maker;

/* --- One kernel ----------------------------------------------------------------------------- */

static ir_dims maker_dims(int n, const ir_dim *d) {
    ir_dims r = {.n = (uint8_t)n};
    for (int i = 0; i < n; i++) r.d[i] = d[i];
    return r;
}

/* ig_eager_v3.add.f32.0, with the attribute's number before the element type when there is more
 * than one. */
static void maker_name(const maker *k, const draft *w, char *buf, size_t size) {
    char variant[16] = "";
    if (cg_eager_variants(w->op) > 1) snprintf(variant, sizeof variant, "%d.", w->variant);
    snprintf(buf, size, "ig_eager_%s.%s.%s%s.%d", k->cpu->name, ir_op_tab[w->op].name, variant,
             w->key ? ig_dtype_name(w->key) : "all", w->form);
}

/* Whether an instance exists: the type rule accepts its operands. */
static bool maker_accepts(maker *k, draft *w) {
    ir_type in[3], out[IR_MAX_RESULTS];
    for (int i = 0; i < w->nin; i++) {
        in[i] = w->in[i];
        if (w->spread >> i & 1) in[i] = ir_tensor_type((ig_dtype)in[i].dtype, 2, k->d);
    }
    ir_infer rule = {.m = k->m, .op = w->op, .nin = w->nin, .in = in, .attr = w->attr, .out = out};
    bool ok = ir_infer_types(&rule);
    if (ok) w->dtype = (ig_dtype)out[0].dtype;
    return ok;
}

/* Make the cluster of an instance that exists. */
static ig_status maker_add(maker *k, const draft *wanted) {
    draft w = *wanted;
    ir_builder b;
    ir_ref v[3];
    ir_func *f;
    char name[96];
    if (!maker_accepts(k, &w)) return NULL;
    maker_name(k, &w, name, sizeof name);
    ir_build_begin(&b, k->m, name, IR_CLUSTER, IR_BUILD_RAW);
    for (int i = 0; i < w.nin; i++) v[i] = ir_param(&b, w.in[i], NULL);
    for (int i = 0; i < w.nin; i++)
        if (w.spread >> i & 1) {
            ir_attr_bcast rows = {.dims = maker_dims(2, k->d), .axes = {.n = 1}};
            v[i] = ir_emit1(&b, OP_broadcast, &rows, v[i]);
        }
    ir_ref r[2 * IG_MAX_RANK] = {ir_emit(&b, w.op, w.attr, w.nin, v)};
    int n = 1;
    if (w.op == OP_sort) /* results, and the room it works in (codegen/sort.c) */
        for (; n < 2 * w.nin; n++) r[n] = ir_result(r[0], (uint32_t)(n % w.nin));
    RT_TRY(ir_build_end(&b, n, r, &f));
    w.f = f;
    w.attr = NULL;
    return rt_vec_push(k->m->alloc, &k->drafts, w) ? NULL : rt_fail_memory();
}

static ig_status maker_enter(maker *k, const draft *w, int form, uint16_t ps, const char *name) {
    eager_entry e = {.form = form, .dtype = w->dtype, .ps = ps};
    e.key = (uint32_t)((cg_eager_first[w->op] + w->variant) * IG_DTYPE_END + (int)w->key);
    e.name = ir_intern_str(k->kernels, name, strlen(name));
    return e.name && rt_vec_push(k->m->alloc, k->entries, e) ? NULL : rt_fail_memory();
}

/* A kernel that writes how many rows another one has, and its estimated picoseconds. */
static ig_status maker_size(maker *k, const draft *w, ir_dim rows, ir_dim ps) {
    cg_kernel kernel;
    char name[112];
    snprintf(name, sizeof name, "%s.size", w->f->name);
    cg_kernel_begin(&kernel, k->kernels, name, IR_KERNEL);
    ir_ref out = ir_param(&kernel.b, ir_mem_type(IG_i64), "b0");
    ir_param(&kernel.b, ir_scalar_type(IG_i64), "lo");
    ir_param(&kernel.b, ir_scalar_type(IG_i64), "hi");
    cg_store(&kernel, out, cg_i64(&kernel, 0), cg_dim(&kernel, rows));
    cg_store(&kernel, out, cg_i64(&kernel, 1), cg_dim(&kernel, ps));
    ig_status s = ir_build_end(&kernel.b, 0, NULL, NULL);
    cg_kernel_free(&kernel);
    return s ? s : maker_enter(k, w, w->form + CG_EAGER_SIZE, 0, name);
}

/* Lower one cluster and enter its kernel. */
static ig_status maker_lower(maker *k, const draft *w) {
    enum { SAMPLE = 1024 }; /* elements of the estimate */
    static const int64_t dims[CG_EAGER_DIMS] = {1, SAMPLE};
    int64_t cost = 0;
    ir_dim rows, ps;
    RT_TRY(cg_lower_cluster(w->f, w->stride, k->cpu, k->kernels, &rows, &ps));
    ig_assert(k->m->alloc, ir_find_func(k->kernels, w->f->name));
    if (!ir_is_elementwise(w->op)) {
        RT_TRY(maker_enter(k, w, w->form, 0, w->f->name));
        return maker_size(k, w, rows, ps);
    }
    ig_assert(k->m->alloc, rows == k->d[0] && ir_dim_eval(k->kernels, ps, dims, &cost));
    cost /= SAMPLE;
    return maker_enter(k, w, w->form, (uint16_t)(cost < UINT16_MAX ? cost : UINT16_MAX),
                       w->f->name);
}

/* --- Families ------------------------------------------------------------------------------- */

/* Rows of operands with a stride each.  Swapping the operands of an op that commutes gives the
 * forms in which only the first one is a scalar. */
static ig_status make_elementwise(maker *k, draft *w) {
    w->nin = ir_op_tab[w->op].arity;
    unsigned all = (1u << w->nin) - 1;
    for (unsigned form = 0; form == 0 || form < all; form++) {
        if (ir_op_tab[w->op].commutes && form == 1) continue;
        w->form = (int)form;
        w->spread = form;
        for (int i = 0; i < w->nin; i++) {
            bool one = form >> i & 1;
            w->in[i] = ir_tensor_type(cg_eager_operand(w->op, i, w->key), one ? 1 : 2, k->d);
            w->stride[i] = maker_dims(one ? 1 : 2, (ir_dim[]){k->d[2 + i], 1});
        }
        RT_TRY(maker_add(k, w));
    }
    return NULL;
}

/* [outer, n] and [outer, n, inner]. */
static ig_status make_lines(maker *k, draft *w) {
    w->nin = ir_op_tab[w->op].arity;
    for (w->form = 0; w->form < 2; w->form++) {
        w->in[0] = ir_tensor_type(w->key, 2 + w->form, k->d);
        RT_TRY(maker_add(k, w));
    }
    return NULL;
}

static ig_status make_reduce(maker *k, draft *w) {
    ir_attr_reduce a = {.axes = {.n = 1, .a = {1}}};
    cg_eager_set_variant(w->op, w->variant, &a);
    w->attr = &a;
    return make_lines(k, w);
}

/* Forwards; from the end is rare, and made of reversals. */
static ig_status make_cumred(maker *k, draft *w) {
    ir_attr_cumred a = {.axis = 1};
    cg_eager_set_variant(w->op, w->variant, &a);
    if (a.reverse) return NULL;
    w->attr = &a;
    return make_lines(k, w);
}

static ig_status make_iota(maker *k, draft *w) {
    ir_attr_iota a = {.axis = 1};
    cg_eager_set_variant(w->op, w->variant, &a);
    if (w->key != IG_NONE) return NULL;
    w->attr = &a;
    for (w->form = 0; w->form < 2; w->form++) {
        a.dims = maker_dims(2 + w->form, k->d);
        RT_TRY(maker_add(k, w));
    }
    return NULL;
}

static ig_status make_rng(maker *k, draft *w) {
    ir_attr_rng a = {.dims = maker_dims(1, k->d)};
    cg_eager_set_variant(w->op, w->variant, &a);
    w->attr = &a;
    w->nin = 1;
    w->in[0] = ir_tensor_type(w->key, 1, (ir_dim[]){2});
    return maker_add(k, w);
}

static ig_status make_ein(maker *k, draft *w) {
    enum { BATCH, M, N, K };                          /* numbers of the variables, and their dims */
    bool wide = w->key == IG_i32 || w->key == IG_i64; /* products of narrower ones wrap: rare */
    if (!rt_is_float(w->key) && !wide) return NULL;
    w->nin = 2;
    for (w->form = 0; w->form < 4; w->form++) {
        bool km = w->form & 1, nk = w->form & 2;
        ir_attr_ein a = {.rel = {.nvar = 4, .nin = 2, .norder = 1, .monoid = IR_redop_sum}};
        a.rel.order[0] = K;
        a.rel.out = (ir_axes){3, {BATCH, M, N}};
        a.rel.in[0] = km ? (ir_axes){3, {BATCH, K, M}} : (ir_axes){3, {BATCH, M, K}};
        a.rel.in[1] = nk ? (ir_axes){3, {BATCH, N, K}} : (ir_axes){3, {BATCH, K, N}};
        for (int i = 0; i < 2; i++) {
            ir_dim d[3];
            for (int j = 0; j < 3; j++) d[j] = k->d[a.rel.in[i].a[j]];
            w->in[i] = ir_tensor_type(w->key, 3, d);
        }
        w->attr = &a;
        RT_TRY(maker_add(k, w));
    }
    return NULL;
}

/* Updates that are combined, element by element at their places. */
static ig_status make_scatter(maker *k, draft *w) {
    ir_attr_scatter a = {.axes = {.n = 1}};
    cg_eager_set_variant(w->op, w->variant, &a);
    if (a.op == IR_putop_set || a.oob != IR_oob_drop) return NULL;
    w->attr = &a;
    w->nin = 3;
    w->in[0] = ir_tensor_type(w->key, 1, k->d);
    w->in[1] = ir_tensor_type(w->key, 1, k->d + 1);
    w->in[2] = ir_tensor_type(IG_i64, 1, k->d + 1);
    return maker_add(k, w);
}

/* Keys of the widest type of their kind, with positions. */
static ig_status make_sort(maker *k, draft *w) {
    ir_attr_sort a = {.axis = 1, .keys = 1};
    cg_eager_set_variant(w->op, w->variant, &a);
    if (cg_eager_sorted_as(w->key) != w->key) return NULL;
    w->attr = &a;
    w->nin = 2;
    w->in[0] = ir_tensor_type(w->key, 2, k->d);
    w->in[1] = ir_tensor_type(IG_i64, 2, k->d);
    return maker_add(k, w);
}

/* --- All ------------------------------------------------------------------------------------ */

static ig_status make_family(maker *k, draft *w) {
    ir_attr_any attr;
    memset(&attr, 0, sizeof attr);
    if (w->op == OP_iota) return make_iota(k, w); /* the one family without an operand */
    if (w->key == IG_NONE) return NULL;
    switch (w->op) {
    case OP_reduce: return make_reduce(k, w);
    case OP_cumred: return make_cumred(k, w);
    case OP_rng_bits: return make_rng(k, w);
    case OP_ein: return make_ein(k, w);
    case OP_scatter: return make_scatter(k, w);
    case OP_sort: return make_sort(k, w);
    default:
        if (!ir_is_elementwise(w->op)) return NULL;
        cg_eager_set_variant(w->op, w->variant, &attr);
        w->attr = &attr;
        return make_elementwise(k, w);
    }
}

static ig_status make_all(maker *k) {
    for (int i = 0; i < CG_EAGER_DIMS; i++) {
        char name[8];
        snprintf(name, sizeof name, "d%d", i);
        k->d[i] = ir_add_symbol(k->m, name, 0, SIZE_MAX_DIM);
        if (k->d[i] == IR_DIM_BAD) return rt_fail_memory();
    }
    k->m->class = k->cpu->class;
    for (int op = 0; op < OP_END; op++)
        for (int v = 0; v < cg_eager_variants((ir_opcode)op); v++)
            for (int d = 0; d < IG_DTYPE_END; d++) {
                draft w = {.op = (ir_opcode)op, .variant = v, .key = (ig_dtype)d};
                RT_TRY(make_family(k, &w));
            }
    RT_TRY(ir_module_shell(k->m, &k->kernels));
    for (uint32_t i = 0; i < k->drafts.n; i++) RT_TRY(maker_lower(k, &k->drafts.data[i]));
    return NULL;
}

ig_status eager_lower_all(const ig_allocator *a, const cg_cpu *cpu, ir_module **kernels_,
                          eager_entries *entries) {
    maker k = {.cpu = cpu, .entries = entries};
    RT_TRY(ir_module_new(a, "eager", &k.m));
    ig_status s = make_all(&k);
    rt_vec_free(a, &k.drafts);
    ir_module_free(k.m);
    if (s)
        ir_module_free(k.kernels);
    else
        *kernels_ = k.kernels;
    return s;
}
