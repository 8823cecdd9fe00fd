/* program.c - random tensor programs: every op of the table that has a generator, operands adapted
 * to fit. */
#include "tests/fuzz/fuzz.h"
#include "passes/transform.h"
#include "runtime/base/log.h"
#include <string.h>

static const ig_allocator *A(void) { return ig_allocator_default(); }
enum { PROGRAM_VALUES = 400, PROGRAM_STEPS = 14 };

typedef struct program {
    gen *g;
    ir_builder b;
    int n;
    ir_ref value[PROGRAM_VALUES];
    bool positive[FUZZ_PARAMS];
} program;

static int64_t program_numel(const ir_type *t) {
    int64_t n = 1;
    return rt_numel_checked(t->dim, t->rank, &n) ? n : 0;
}

static ir_ref program_add(program *p, ir_ref r) {
    if (r.i && p->n < PROGRAM_VALUES) p->value[p->n++] = r;
    return r;
}

/* The results of the op whose first one this is. */
static void program_add_all(program *p, ir_ref first) {
    const ir_op *made = first.i ? ir_def_op(p->b.f, first) : NULL;
    for (uint32_t k = 0; made && k < made->nout; k++) program_add(p, ir_result(first, k));
}

static ir_ref program_reshape(program *p, ir_ref v, const ir_type *to) {
    ir_attr_dims a;
    memset(&a, 0, sizeof a);
    a.dims.n = to->rank;
    memcpy(a.dims.d, to->dim, sizeof a.dims.d);
    return ir_emit1(&p->b, OP_reshape, &a, v);
}

/* Make a value of type `to` out of any value: convert, flatten, cut or fill, reshape. */
static ir_ref program_adapt(program *p, ir_ref v, const ir_type *to) {
    ir_type t = ir_type_of(&p->b, v);
    int64_t have = program_numel(&t), want = program_numel(to);
    if (t.dtype != to->dtype) {
        ir_attr_dtype a;
        memset(&a, 0, sizeof a);
        a.dtype = to->dtype;
        v = ir_emit1(&p->b, OP_convert, &a, v);
    }
    if (have != want) {
        ir_type flat = {.dtype = to->dtype, .rank = 1, .dim = {have}};
        v = program_reshape(p, v, &flat);
        if (have > want) {
            ir_attr_slice a;
            memset(&a, 0, sizeof a);
            a.lo.n = a.hi.n = a.step.n = 1;
            a.lo.d[0] = (ir_dim)gen_below(p->g, (uint64_t)(have - want) + 1);
            a.hi.d[0] = a.lo.d[0] + want;
            a.step.v[0] = 1;
            v = ir_emit1(&p->b, OP_slice, &a, v);
        } else {
            ir_attr_pad a;
            memset(&a, 0, sizeof a);
            a.lo.n = a.hi.n = a.interior.n = 1;
            a.lo.d[0] = (ir_dim)gen_below(p->g, (uint64_t)(want - have) + 1);
            a.hi.d[0] = want - have - a.lo.d[0];
            v = ir_emit2(&p->b, OP_pad, &a, v, ir_const_i(&p->b, to->dtype, 1));
        }
    }
    t = ir_type_of(&p->b, v);
    if (!ir_type_eq(&t, to)) v = program_reshape(p, v, to);
    return v;
}

/* An operand: a value of the very type when there is one (mostly), else one that is adapted. */
static ir_ref program_operand(program *p, const ir_type *to) {
    ir_ref same[PROGRAM_VALUES];
    uint64_t n = 0;
    for (int k = 0; k < p->n; k++) {
        ir_type t = ir_type_of(&p->b, p->value[k]);
        if (ir_type_eq(&t, to)) same[n++] = p->value[k];
    }
    if (n && gen_below(p->g, 8)) return same[gen_below(p->g, 2) ? n - 1 : gen_below(p->g, n)];
    return program_adapt(p, p->value[gen_below(p->g, (uint64_t)p->n)], to);
}

static void program_scan(program *p);
static void program_if(program *p);

static void program_step(program *p) {
    if (gen_one_in(p->g, 12) && !p->b.region) {
        if (gen_one_in(p->g, 3))
            program_if(p);
        else
            program_scan(p);
        return;
    }
    ir_opcode op = (ir_opcode)gen_below(p->g, OP_END);
    gen_op o;
    if (gen_below(p->g, 2)) /* chains of elementwise ops are what fusion is about */
        while (!ir_is_elementwise(op)) op = (ir_opcode)gen_below(p->g, OP_END);
    const ir_op *last = ir_def_op(p->b.f, p->value[p->n - 1]);
    if (last && last->code == OP_mul && gen_below(p->g, 2)) op = OP_add; /* what could be fused */
    if (!gen_has(op)) return;
    uint64_t near = gen_below(p->g, 2) ? (uint64_t)p->n - 1 : gen_below(p->g, (uint64_t)p->n);
    ir_type like = ir_type_of(&p->b, p->value[near]);
    if (!gen_instance(p->g, op, &like, &o)) return;
    ir_ref in[GEN_OPERANDS];
    for (int k = 0; k < o.nin; k++) in[k] = program_operand(p, &o.in[k]);
    program_add_all(p, ir_emit(&p->b, op, &o.attr, o.nin, in));
}

/* --- Regions ---------------------------------------------------------------------------------- */

static ir_ref program_any(program *p) { return p->value[gen_below(p->g, (uint64_t)p->n)]; }

/* A few steps inside of a region; its last value. */
static ir_ref program_inside(program *p) {
    for (int k = 0, n = 1 + (int)gen_below(p->g, 4); k < n; k++) program_step(p);
    return p->value[p->n - 1];
}

/* A scan over one or two carried values and perhaps a sliced one. */
static void program_scan(program *p) {
    ir_ref in[3], param[4], yield[3];
    ir_type type[4] = {ir_scalar_type(IG_i64)}, x = {0};
    int carries = 1 + (int)gen_below(p->g, 2), nin = carries, before = p->n;
    ir_attr_scan a = {.carries = carries, .reverse = gen_one_in(p->g, 2)};
    for (int k = 0; k < carries; k++) type[1 + k] = ir_type_of(&p->b, in[k] = program_any(p));
    a.n = (ir_dim)gen_below(p->g, 5);
    ir_ref last = program_any(p);
    x = ir_type_of(&p->b, last);
    if (x.rank && x.dim[0] < 9) {
        a.n = x.dim[0];
        type[1 + nin] = ir_tensor_type((ig_dtype)x.dtype, x.rank - 1, x.dim + 1);
        in[nin++] = last;
    }
    uint32_t op = ir_op_begin(&p->b, OP_scan, &a, nin, in, 1);
    ir_region_begin(&p->b, op, 0, nin + 1, type, param);
    for (int k = 1; k <= nin; k++) program_add(p, param[k]);
    if (gen_one_in(p->g, 3)) program_add(p, param[0]);
    last = program_inside(p);
    ir_type t = ir_type_of(&p->b, last);
    for (int k = 0; k < carries; k++) yield[k] = program_operand(p, &type[1 + k]);
    yield[carries] = last;
    bool stacks = t.rank < 6 && program_numel(&t) < 4000 && !gen_one_in(p->g, 3);
    p->n = before; /* values of the region end with it */
    ir_region_end(&p->b, carries + stacks, yield);
    program_add_all(p, ir_op_end(&p->b, op));
}

/* Two branches that give something like a value that is there. */
static void program_if(program *p) {
    ir_type type = ir_type_of(&p->b, program_any(p)), truth = ir_scalar_type(IG_bool);
    ir_attr_regions a = {.n = 2};
    ir_ref cond = program_operand(p, &truth);
    int before = p->n;
    uint32_t op = ir_op_begin(&p->b, OP_if, &a, 1, &cond, 2);
    for (int k = 0; k < 2; k++) {
        ir_region_begin(&p->b, op, k, 0, NULL, NULL);
        program_inside(p);
        ir_ref yield = program_operand(p, &type);
        p->n = before;
        ir_region_end(&p->b, 1, &yield);
    }
    program_add_all(p, ir_op_end(&p->b, op));
}

static bool program_inputs(gen *g, fuzz_case *c) {
    c->nin = (int)ir_nparam(c->f);
    for (int k = 0; k < c->nin; k++) {
        const ir_type *t = ir_val_type(c->f, ir_param_ref(c->f, (uint32_t)k));
        ir_tensor *x = &c->in[k];
        *x = (ir_tensor){.dtype = t->dtype, .rank = t->rank};
        for (int i = 0; i < t->rank; i++) x->dim[i] = t->dim[i];
        size_t bytes = way_bytes(x);
        x->data = rt_alloc_buffer(A(), bytes + 64);
        if (!x->data) return false;
        if (g) gen_data(g, t->dtype, program_numel(t), gen_one_in(g, 4), x->data);
    }
    return true;
}

bool fuzz_generate(gen *g, fuzz_case *out_) {
    static program p; /* too large for the stack of a forked worker under a sanitizer */
    memset(&p, 0, sizeof p);
    memset(out_, 0, sizeof *out_);
    p.g = g;
    ig_status s = ir_module_new(A(), "fuzz", &out_->m);
    if (s) return ig_status_free(s), false;
    if (gen_one_in(g, 5)) out_->m->class = IR_CLASS_NOFMA;
    ir_build_begin(&p.b, out_->m, "f", IR_FN, IR_BUILD_RAW);
    for (int k = 0, n = 1 + (int)gen_below(g, 4); k < n; k++)
        program_add(&p, ir_param(&p.b, gen_type(g, gen_dtype(g), 3000), NULL));
    int first = p.n;
    uint64_t most = 1 + gen_below(g, PROGRAM_STEPS); /* many short programs and some long ones */
    for (int k = 0, n = 2 + (int)gen_below(g, most); k < n; k++) program_step(&p);
    ir_ref result[3];
    int nout = 1 + (int)gen_below(g, 3);
    for (int k = 0; k < nout; k++) {
        int late = p.n > first ? first + (int)gen_below(g, (uint64_t)(p.n - first)) : 0;
        result[k] = k == 0 ? p.value[p.n - 1] : p.value[gen_below(g, 10) ? late : 0];
    }
    s = ir_build_end(&p.b, nout, result, NULL);
    if (s) {
        rt_log("fuzz", "the generator made an invalid program: %s", ig_status_text(s));
        ig_status_free(s);
        fuzz_free(out_);
        return false;
    }
    out_->f = ir_find_func(out_->m, "f");
    return program_inputs(g, out_);
}

static void program_free_inputs(fuzz_case *c) {
    for (int k = 0; k < c->nin; k++)
        if (c->in[k].data) rt_free_buffer(A(), c->in[k].data, way_bytes(&c->in[k]) + 64);
    c->nin = 0;
}

bool fuzz_transform(gen *g, fuzz_case *c) {
    static const char *const words[] = {"jvp",         "vjp",      "vmap 3",      "vjp; vmap 2",
                                        "vmap 2; vjp", "jvp; jvp", "jvp; vmap 3", "vjp; jvp"};
    ir_module *m;
    ig_status s = pass_transform(words[gen_below(g, sizeof words / sizeof *words)], c->m, &m);
    if (s) return ig_status_free(s), true;
    if (ir_nparam(ir_entry(m)) > FUZZ_PARAMS || ir_entry(m)->results.n > FUZZ_RESULTS)
        return ir_module_free(m), true;
    program_free_inputs(c);
    ir_module_free(c->m);
    c->m = m;
    c->f = ir_entry(m);
    return program_inputs(g, c);
}

void fuzz_free(fuzz_case *c) {
    program_free_inputs(c);
    ir_module_free(c->m);
    memset(c, 0, sizeof *c);
}

way_case fuzz_way_case(const fuzz_case *c) {
    return (way_case){c->m, c->f, c->nin, (int)c->f->results.n, c->in, NULL, NULL};
}

uint32_t fuzz_ops(const fuzz_case *c) {
    uint32_t n = 0;
    for (uint32_t o = 0; o < c->f->ops.n; o++)
        n += c->f->ops.data[o].code != OP_const && c->f->ops.data[o].code != OP_return;
    return n;
}

/* Whether all results of an op that are needed are inputs. */
static bool program_is_cut(const ir_op *op, ir_ref target, const bool *cut, const bool *need) {
    bool cuts = true;
    for (uint32_t k = 0; k < op->nout; k++)
        cuts &= !need[op->out0 + k] || (cut && cut[op->out0 + k] && op->out0 + k != target.i);
    return cuts;
}

/* Mark what the target needs, stopping at cuts and parameters.  Ops with regions are wholes. */
static void program_mark(const ir_func *f, ir_ref target, const bool *cut, bool *need) {
    need[target.i] = true;
    for (uint32_t o = f->ops.n; o-- > 0;) {
        const ir_op *op = &f->ops.data[o];
        if (op->parent || program_is_cut(op, target, cut, need)) continue;
        for (uint32_t i = o; i < ir_op_after(f, o); i++)
            for (uint32_t k = 0; k < f->ops.data[i].nin; k++) {
                ir_ref v = ir_op_in(f, &f->ops.data[i], k);
                if (!ir_home(f, v)) need[v.i] = true;
            }
    }
}

static bool program_is_input(const ir_func *f, uint32_t v, ir_ref target, const bool *cut) {
    return f->values.data[v].is_param || (cut && cut[v] && v != target.i);
}

/* Fill a parameter that stands for value v of c: an old input, or what the reference computes. */
static bool program_fill(const fuzz_case *c, uint32_t v, ir_tensor *out) {
    const ir_value *value = &c->f->values.data[v];
    if (value->is_param) return memcpy(out->data, c->in[value->index].data, way_bytes(out)), true;
    fuzz_case part;
    if (!fuzz_extract(c, (ir_ref){v}, NULL, &part)) return false;
    ig_status s = ir_ref_run(part.f, A(), NULL, part.nin, part.in, 1, out);
    fuzz_free(&part);
    return s ? (ig_status_free(s), false) : true;
}

bool fuzz_extract(const fuzz_case *c, ir_ref target, const bool *cut, fuzz_case *out_) {
    const ir_func *f = c->f;
    uint32_t n = f->values.n, source[FUZZ_PARAMS], nsource = 0;
    bool *need = rt_alloc_zero(A(), n);
    ir_ref *map = rt_alloc_zero(A(), n * sizeof *map);
    ir_builder b;
    memset(out_, 0, sizeof *out_);
    if (ir_home(f, target)) { /* of a region: it has no value outside of it */
        rt_free(A(), need, n);
        rt_free(A(), map, n * sizeof *map);
        return false;
    }
    ig_status s = need && map ? ir_module_new(A(), "fuzz", &out_->m) : rt_fail_memory();
    if (!s) {
        out_->m->class = c->m->class;
        program_mark(f, target, cut, need);
        ir_build_begin(&b, out_->m, "f", IR_FN, IR_BUILD_RAW);
        for (uint32_t v = 1; v < n; v++)
            if (need[v] && program_is_input(f, v, target, cut) && nsource < FUZZ_PARAMS) {
                map[v] = ir_param(&b, *ir_val_type(f, (ir_ref){v}), NULL);
                source[nsource++] = v;
            }
        for (uint32_t o = 0; o < f->ops.n; o = ir_op_after(f, o)) {
            const ir_op *op = &f->ops.data[o];
            bool made = true;
            for (uint32_t k = 0; k < op->nout; k++)
                made &= !need[op->out0 + k] || map[op->out0 + k].i;
            for (uint32_t i = o; !made && i < ir_op_after(f, o); i++) ir_copy_op(&b, f, i, map);
        }
        s = ir_build_end(&b, 1, &map[target.i], NULL);
    }
    bool ok = !s;
    if (ok) {
        out_->f = ir_find_func(out_->m, "f");
        ok = program_inputs(NULL, out_);
        for (uint32_t k = 0; ok && k < nsource; k++) ok = program_fill(c, source[k], &out_->in[k]);
    }
    ig_status_free(s);
    rt_free(A(), need, n);
    rt_free(A(), map, n * sizeof *map);
    if (!ok) fuzz_free(out_);
    return ok;
}
