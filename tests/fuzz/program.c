/* program.c - random tensor programs: every op of the table that has a generator, operands adapted
 * to fit; branches and loops around them, nested.
 *
 * Some programs have dims that are symbols.  An op is drawn for the sizes that the symbols have;
 * then every extent that a symbol has, of its operands and of its attribute, is that symbol.  Where
 * the type rule cannot see that the op is right for other sizes, too, it is left out. */
#include "tests/fuzz/fuzz.h"
#include "passes/transform.h"
#include "runtime/base/log.h"
#include <stdio.h>
#include <string.h>

static const ig_allocator *A(void) { return ig_allocator_default(); }
enum { PROGRAM_VALUES = 400, PROGRAM_STEPS = 14, PROGRAM_NEST = 3 };

typedef struct program {
    gen *g;
    ir_builder b;
    int n;
    ir_ref value[PROGRAM_VALUES];
    int depth; /* of regions */
    int64_t symbols[FUZZ_SYMBOLS];
} program;

static int64_t program_numel(const ir_type *t) {
    int64_t n = 1;
    return rt_numel_checked(t->dim, t->rank, &n) ? n : 0;
}

/* The type with the sizes that the symbols have. */
static ir_type program_plain(const program *p, ir_type t) {
    for (int i = 0; i < t.rank; i++) ir_dim_eval(p->b.m, t.dim[i], p->symbols, &t.dim[i]);
    return t;
}

static ir_type program_type(const program *p, ir_ref v) {
    return program_plain(p, ir_type_of(&p->b, v));
}

static bool program_is_symbolic(const ir_type *t) {
    bool any = false;
    for (int i = 0; i < t->rank; i++) any |= !ir_dim_is_const(t->dim[i]);
    return any;
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

/* A value without symbols; there is a parameter without. */
static ir_ref program_any_plain(program *p) {
    for (int tries = 0; tries < 20; tries++) {
        ir_ref v = p->value[gen_below(p->g, (uint64_t)p->n)];
        ir_type t = ir_type_of(&p->b, v);
        if (!program_is_symbolic(&t)) return v;
    }
    return p->value[0];
}

/* A scalar everywhere in a shape with symbols. */
static ir_ref program_fill(program *p, const ir_type *to) {
    ir_type one = ir_scalar_type((ig_dtype)to->dtype);
    ir_attr_bcast a;
    memset(&a, 0, sizeof a);
    a.dims.n = to->rank;
    memcpy(a.dims.d, to->dim, sizeof a.dims.d);
    return ir_emit1(&p->b, OP_broadcast, &a, program_adapt(p, program_any_plain(p), &one));
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
    return program_is_symbolic(to) ? program_fill(p, to)
                                   : program_adapt(p, program_any_plain(p), to);
}

/* A dim of `like` with symbols that has this size, or the size. */
static ir_dim program_named(const program *p, const ir_type *like, ir_dim size) {
    ir_type plain = program_plain(p, *like);
    for (int i = 0; i < like->rank; i++)
        if (!ir_dim_is_const(like->dim[i]) && plain.dim[i] == size) return like->dim[i];
    return size;
}

/* Dims of `like` take the place of the sizes of an instance; whether its type rule accepts it. */
static bool program_name_sizes(const program *p, const ir_type *like, gen_op *o) {
    const ir_attr_info *info = &ir_attr_tab[ir_op_tab[o->op].attr];
    ir_type out[IR_MAX_RESULTS];
    for (int k = 0; k < o->nin; k++)
        for (int i = 0; i < o->in[k].rank; i++)
            o->in[k].dim[i] = program_named(p, like, o->in[k].dim[i]);
    for (uint32_t i = 0; i < info->nfield; i++) {
        ir_dims *d = (ir_dims *)(void *)(o->attr.bytes + info->field[i].offset);
        for (int k = 0; info->field[i].kind == FIELD_dims && k < d->n; k++)
            d->d[k] = program_named(p, like, d->d[k]);
    }
    ir_infer rule = {
        .m = p->b.m, .op = o->op, .nin = o->nin, .in = o->in, .attr = &o->attr, .out = out};
    return ir_infer_types(&rule);
}

static void program_flow(program *p);

static void program_step(program *p) {
    if (gen_one_in(p->g, 12) && p->depth < PROGRAM_NEST) {
        program_flow(p);
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
    ir_type plain = program_plain(p, like);
    if (!gen_instance(p->g, op, &plain, &o)) return;
    if (program_is_symbolic(&like) && !program_name_sizes(p, &like, &o)) return;
    ir_ref in[GEN_OPERANDS];
    for (int k = 0; k < o.nin; k++) in[k] = program_operand(p, &o.in[k]);
    program_add_all(p, ir_emit(&p->b, op, &o.attr, o.nin, in));
}

/* --- Regions ---------------------------------------------------------------------------------- */

static ir_ref program_any(program *p) { return p->value[gen_below(p->g, (uint64_t)p->n)]; }

/* A few steps inside of a region; its last value. */
static ir_ref program_inside(program *p) {
    p->depth++;
    for (int k = 0, n = 1 + (int)gen_below(p->g, 4); k < n; k++) program_step(p);
    p->depth--;
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
    if (x.rank && program_plain(p, x).dim[0] < 9) {
        a.n = x.dim[0];
        type[1 + nin] = ir_tensor_type((ig_dtype)x.dtype, x.rank - 1, x.dim + 1);
        in[nin++] = last;
    }
    uint32_t op = ir_op_begin(&p->b, OP_scan, &a, nin, in, 1);
    ir_region_begin(&p->b, op, 0, nin + 1, type, param);
    for (int k = 1; k <= nin; k++) program_add(p, param[k]);
    if (gen_one_in(p->g, 3)) program_add(p, param[0]);
    last = program_inside(p);
    ir_type t = program_type(p, last);
    for (int k = 0; k < carries; k++) yield[k] = program_operand(p, &type[1 + k]);
    yield[carries] = last;
    bool stacks = t.rank < 6 && program_numel(&t) < 4000 && !gen_one_in(p->g, 3);
    p->n = before; /* values of the region end with it */
    ir_region_end(&p->b, carries + stacks, yield);
    program_add_all(p, ir_op_end(&p->b, op));
}

/* Branches that give something like a value that is there: by a bool, or by a number that may be
 * out of range. */
static void program_if(program *p) {
    ir_type type = ir_type_of(&p->b, program_any(p));
    bool two = gen_below(p->g, 2);
    ir_attr_regions a = {.n = two ? 2 : 1 + (int)gen_below(p->g, 4)};
    ir_type chooser = ir_scalar_type(two ? IG_bool : IG_i32);
    ir_ref cond = program_operand(p, &chooser);
    int before = p->n;
    uint32_t op = ir_op_begin(&p->b, OP_if, &a, 1, &cond, (int)a.n);
    for (int k = 0; k < a.n; k++) {
        ir_region_begin(&p->b, op, k, 0, NULL, NULL);
        program_inside(p);
        ir_ref yield = program_operand(p, &type);
        p->n = before;
        ir_region_end(&p->b, 1, &yield);
    }
    program_add_all(p, ir_op_end(&p->b, op));
}

/* Whether a while goes on: as long as its counter says, perhaps only if its values say so, too. */
static ir_ref program_goes_on(program *p, ir_ref counter, int64_t trips) {
    ir_type truth = ir_scalar_type(IG_bool);
    ir_attr_cmpop lt = {.op = IR_cmpop_lt};
    ir_attr_bitop both = {.op = IR_bitop_band};
    ir_ref more = ir_emit2(&p->b, OP_cmp, &lt, counter, ir_const_i(&p->b, IG_i64, trips));
    if (gen_below(p->g, 2)) return more;
    program_inside(p);
    return ir_emit2(&p->b, OP_bit, &both, more, program_operand(p, &truth));
}

/* A while of a few trips over one or two values behind its counter. */
static void program_while(program *p) {
    int carries = 1 + (int)gen_below(p->g, 2), before = p->n;
    int64_t trips = (int64_t)gen_below(p->g, 5);
    ir_attr_while a = {.cap = gen_below(p->g, 2) ? 0 : trips + (int64_t)gen_below(p->g, 3)};
    ir_ref in[3] = {ir_const_i(&p->b, IG_i64, 0)}, param[3], yield[3];
    ir_type type[3] = {ir_scalar_type(IG_i64)};
    for (int k = 1; k <= carries; k++) type[k] = ir_type_of(&p->b, in[k] = program_any(p));
    uint32_t op = ir_op_begin(&p->b, OP_while, &a, carries + 1, in, 2);
    ir_region_begin(&p->b, op, 0, carries + 1, type, param);
    for (int k = 0; k <= carries; k++) program_add(p, param[k]);
    ir_ref more = program_goes_on(p, param[0], trips);
    p->n = before;
    ir_region_end(&p->b, 1, &more);
    ir_region_begin(&p->b, op, 1, carries + 1, type, param);
    for (int k = 0; k <= carries; k++) program_add(p, param[k]);
    program_inside(p);
    for (int k = 1; k <= carries; k++) yield[k] = program_operand(p, &type[k]);
    yield[0] = ir_emit2(&p->b, OP_add, NULL, param[0], ir_const_i(&p->b, IG_i64, 1));
    p->n = before;
    ir_region_end(&p->b, carries + 1, yield);
    program_add_all(p, ir_op_end(&p->b, op));
}

static void program_flow(program *p) {
    static void (*const flow[])(program *) = {program_scan, program_scan, program_while,
                                              program_if};
    flow[gen_below(p->g, sizeof flow / sizeof *flow)](p);
}

/* --- Programs --------------------------------------------------------------------------------- */

bool fuzz_inputs(gen *g, fuzz_case *c) {
    c->nin = (int)ir_nparam(c->f);
    for (int k = 0; k < c->nin; k++) {
        const ir_type *t = ir_val_type(c->f, ir_param_ref(c->f, (uint32_t)k));
        ir_tensor *x = &c->in[k];
        *x = (ir_tensor){.dtype = t->dtype, .rank = t->rank};
        for (int i = 0; i < t->rank; i++) ir_dim_eval(c->m, t->dim[i], c->symbols, &x->dim[i]);
        size_t bytes = way_bytes(x);
        x->data = rt_alloc_buffer(A(), bytes + 64);
        if (!x->data) return false;
        int64_t n = (int64_t)(bytes / rt_dtype_bytes(t->dtype));
        if (g) gen_data(g, t->dtype, n, gen_one_in(g, 4), x->data);
    }
    return true;
}

/* Parameters; one extent of some of them, where the program has symbols, is a symbol. */
static void program_params(program *p) {
    int symbols = gen_one_in(p->g, 4) ? 1 + (int)gen_below(p->g, FUZZ_SYMBOLS) : 0;
    ir_dim dim[FUZZ_SYMBOLS];
    for (int k = 0; k < symbols; k++) {
        char name[2] = {(char)('N' + k), 0};
        p->symbols[k] = gen_below(p->g, 3) ? (int64_t)gen_below(p->g, 9)
                                           : (int64_t)gen_below(p->g, 70);
        dim[k] = ir_add_symbol(p->b.m, name, 0, p->symbols[k] + (int64_t)gen_below(p->g, 40));
    }
    for (int k = 0, n = 1 + (int)gen_below(p->g, 4); k < n + symbols; k++) {
        ir_type t = gen_type(p->g, gen_dtype(p->g), 3000);
        if (k >= n && !t.rank) t.dim[t.rank++] = 1;
        if (k >= n) t.dim[gen_below(p->g, t.rank)] = dim[k - n];
        program_add(p, ir_param(&p->b, t, NULL));
    }
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
    program_params(&p);
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
    memcpy(out_->symbols, p.symbols, sizeof p.symbols);
    return fuzz_inputs(g, out_);
}

static void program_free_inputs(fuzz_case *c) {
    way_free_outputs(c->nin, c->in);
    c->nin = 0;
}

bool fuzz_transform(gen *g, fuzz_case *c) {
    static const char *const words[] = {"jvp",         "vjp",      "vmap 3",      "vjp; vmap 2",
                                        "vmap 2; vjp", "jvp; jvp", "jvp; vmap 3", "vjp; jvp"};
    ir_module *m;
    const char *word = words[gen_below(g, sizeof words / sizeof *words)];
    ig_status s = pass_transform(word, c->m, &m);
    if (s) {
        bool refused = ig_status_code(s) == IG_UNSUPPORTED || ig_status_code(s) == IG_SHAPE ||
                       ig_status_code(s) == IG_INVALID;
        if (!refused) snprintf(c->broken, sizeof c->broken, "%s: %s", word, ig_status_text(s));
        return ig_status_free(s), true;
    }
    if (ir_nparam(ir_entry(m)) > FUZZ_PARAMS || ir_entry(m)->results.n > FUZZ_RESULTS)
        return ir_module_free(m), true;
    program_free_inputs(c);
    ir_module_free(c->m);
    c->m = m;
    c->f = ir_entry(m);
    return fuzz_inputs(g, c);
}

void fuzz_free(fuzz_case *c) {
    program_free_inputs(c);
    ir_module_free(c->m);
    memset(c, 0, sizeof *c);
}

way_case fuzz_way_case(const fuzz_case *c) {
    return (way_case){c->m, c->f, c->nin, (int)c->f->results.n, c->in, c->symbols, NULL};
}
