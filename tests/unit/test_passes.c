/* test_passes.c - running passes; fusion and the memory plan on random programs.
 *
 * A planned program is run here as its plan says: every call result is written where its place is,
 * in one workspace filled with rubbish, so that a lifetime that is too short, an overlap or an
 * output that aliases an input changes bits.  Clusters themselves run on the reference. */
#include "ir/ir.h"
#include "ir/rows.h"
#include "passes/pass.h"
#include "tests/unit/suite.h"
#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_VALUES 96

static uint64_t seed;
static uint32_t draw(uint32_t n) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % n;
}

static void ok(ig_status s) {
    if (s) ck_abort_msg("%s", ig_status_text(s));
}

/* --- Random programs ------------------------------------------------------------------------ */

typedef struct maker {
    ir_builder b;
    ir_ref v[MAX_VALUES];
    uint32_t n;
} maker;

static ir_type type_of(const maker *m, ir_ref r) { return ir_type_of(&m->b, r); }

static void add(maker *m, ir_ref r) {
    int64_t lo, hi;
    if (m->b.error) ck_abort_msg("%s", ig_status_text(m->b.error));
    ir_type t = type_of(m, r);
    ir_dim_range(m->b.m, ir_type_numel(m->b.m, &t), &lo, &hi);
    if (m->n < MAX_VALUES && hi <= 3000) m->v[m->n++] = r;
}

/* A value of this element type and rank (-1: any), recent ones more often; {0} if there is none. */
static ir_ref pick(const maker *m, ig_dtype d, int rank) {
    for (int tries = 0; tries < 40; tries++) {
        uint32_t i = draw(m->n), j = draw(m->n);
        ir_ref r = m->v[i > j ? i : j];
        ir_type t = type_of(m, r);
        if (t.dtype == d && (rank < 0 || t.rank == rank)) return r;
    }
    return (ir_ref){0};
}

static ir_ref pick_like(const maker *m, ir_ref x) {
    ir_type a = type_of(m, x);
    for (int tries = 0; tries < 20; tries++) {
        ir_ref r = m->v[draw(m->n)];
        ir_type t = type_of(m, r);
        if (ir_type_eq(&a, &t)) return r;
    }
    return x;
}

static void make_elementwise(maker *m) {
    static const ir_opcode un[] = {OP_neg, OP_abs, OP_exp, OP_sqrt},
                           bin[] = {OP_add, OP_sub, OP_mul, OP_max, OP_div};
    ir_ref x = pick(m, IG_f32, -1), y = pick_like(m, x);
    ir_attr_cmpop lt = {.op = IR_cmpop_lt};
    ir_attr_dtype to16 = {.dtype = IG_f16}, back = {.dtype = IG_f32};
    switch (draw(6)) {
    case 0: add(m, ir_emit1(&m->b, un[draw(4)], NULL, x)); break;
    case 1:
        add(m, ir_emit3(&m->b, OP_select, NULL, ir_emit2(&m->b, OP_cmp, &lt, x, y), x, y));
        break;
    case 2:
        add(m, ir_emit1(&m->b, OP_convert, &back, ir_emit1(&m->b, OP_convert, &to16, x)));
        break;
    default: add(m, ir_emit2(&m->b, bin[draw(5)], NULL, x, y));
    }
}

static void make_spread(maker *m) {
    ir_ref x = pick(m, IG_f32, draw(2) ? 1 : 0), z = pick(m, IG_f32, 2);
    if (!x.i || !z.i) return;
    ir_type t = type_of(m, x), like = type_of(m, z);
    ir_attr_bcast a = {.dims = {2, {like.dim[0], like.dim[1]}}};
    if (t.rank) {
        uint8_t axis = (uint8_t)draw(2);
        a.dims.d[axis] = t.dim[0];
        a.axes = (ir_axes){1, {axis}};
    }
    add(m, ir_emit1(&m->b, OP_broadcast, &a, x));
}

static void make_move(maker *m) {
    ir_ref x = pick(m, IG_f32, 2);
    if (!x.i) return;
    ir_type t = type_of(m, x);
    ir_dim d0 = t.dim[0], d1 = t.dim[1];
    ir_attr_perm swap = {.perm = {2, {1, 0}}};
    ir_attr_axes axes = {.axes = {1, {(uint8_t)draw(2)}}};
    ir_attr_axis axis = {.axis = draw(2)};
    ir_attr_slice slice = {.lo = {2, {0, 1}}, .hi = {2, {d0, d1}}, .step = {2, {1, 1 + draw(2)}}};
    ir_attr_pad pad = {.lo = {2, {1, 0}}, .hi = {2, {0, 2}}, .interior = {2, {0, draw(2)}}};
    ir_attr_dims flat = {.dims = {1, {ir_dim_mul(m->b.m, d0, d1)}}},
                 turned = {.dims = {2, {d1, d0}}};
    ir_ref in[2] = {x, pick_like(m, x)};
    switch (draw(8)) {
    case 0: add(m, ir_emit1(&m->b, OP_transpose, &swap, x)); break;
    case 1: add(m, ir_emit1(&m->b, OP_reverse, &axes, x)); break;
    case 2:
        if (ir_dim_le(m->b.m, 1, d1)) add(m, ir_emit1(&m->b, OP_slice, &slice, x));
        break;
    case 3: add(m, ir_emit2(&m->b, OP_pad, &pad, x, ir_const_f(&m->b, IG_f32, 0.5))); break;
    case 4: add(m, ir_emit(&m->b, OP_concat, &axis, 2, in)); break;
    case 5: add(m, ir_emit1(&m->b, OP_reshape, draw(2) ? &flat : &turned, x)); break;
    case 6: add(m, ir_emit1(&m->b, OP_barrier, NULL, x)); break;
    default: add(m, ir_emit1(&m->b, OP_detach, NULL, x));
    }
}

static void make_window(maker *m) {
    ir_ref x = pick(m, IG_f32, 2), i = m->v[4]; /* the parameter %i */
    if (!x.i) return;
    ir_type t = type_of(m, x);
    if (!ir_dim_le(m->b.m, 1, t.dim[0]) || !ir_dim_le(m->b.m, 1, t.dim[1])) return;
    ir_attr_dims window = {.dims = {2, {t.dim[0], 1}}};
    ir_ref in[4] = {x, i, i}, u = ir_emit(&m->b, OP_dslice, &window, 3, in);
    ir_attr_dupd how = {.op = (uint8_t)draw(2)};
    ir_ref up[4] = {pick_like(m, x), u, i, i};
    add(m, u);
    if (draw(2)) add(m, ir_emit(&m->b, OP_dupdate, &how, 4, up));
}

static void make_core(maker *m) {
    ir_ref x = pick(m, IG_f32, 2), y = pick(m, IG_f32, 2);
    if (!x.i) return;
    ir_attr_reduce red = {.op = (uint8_t)(draw(2) ? IR_redop_sum : IR_redop_max),
                          .axes = {1, {(uint8_t)draw(2)}}};
    ir_attr_cumred cum = {.op = IR_redop_sum, .axis = draw(2), .reverse = (uint8_t)draw(2)};
    static const ir_rel matmul = {.nvar = 3,
                                  .nin = 2,
                                  .norder = 1,
                                  .monoid = IR_redop_sum,
                                  .out = {2, {0, 1}},
                                  .in = {{2, {0, 2}}, {2, {2, 1}}},
                                  .order = {2}};
    ir_attr_ein ein = {.rel = matmul};
    ir_type a = type_of(m, x), b = type_of(m, y);
    if (draw(6) == 0) red.axes = (ir_axes){2, {0, 1}};
    switch (draw(3)) {
    case 0: add(m, ir_emit1(&m->b, OP_reduce, &red, x)); break;
    case 1: add(m, ir_emit1(&m->b, OP_cumred, &cum, x)); break;
    default:
        if (a.dim[1] == b.dim[0]) add(m, ir_emit2(&m->b, OP_ein, &ein, x, y));
    }
}

static void make_source(maker *m) {
    ir_ref z = pick(m, IG_f32, 2);
    ir_type t = type_of(m, z.i ? z : m->v[0]);
    ir_attr_iota iota = {.dtype = IG_f32, .dims = {2, {t.dim[0], t.dim[1]}}, .axis = draw(2)};
    static const float some[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
                       same[10] = {3, 3, 3, 3, 3, 3, 3, 3, 3, 3};
    static const uint32_t key[2] = {7, 9};
    ir_attr_rng rng = {.dims = iota.dims};
    ir_attr_dtype f32 = {.dtype = IG_f32};
    ir_type flat = ir_tensor_type(IG_f32, 2, (ir_dim[]){2, 5}),
            k2 = ir_tensor_type(IG_u32, 1, (ir_dim[]){2});
    switch (draw(4)) {
    case 0: add(m, ir_emit0(&m->b, OP_iota, &iota)); break;
    case 1: add(m, ir_const(&m->b, flat, some, sizeof some)); break;
    case 2: add(m, ir_const(&m->b, flat, same, sizeof same)); break;
    default:
        add(m, ir_emit1(&m->b, OP_convert, &f32,
                        ir_emit1(&m->b, OP_rng_bits, &rng, ir_const(&m->b, k2, key, 8))));
    }
}

/* A random function @f with a dynamic dim, of about n ops. */
static ir_module *make_program(const ig_allocator *a, int n) {
    ir_module *mod;
    maker m = {0};
    ok(ir_module_new(a, "random", &mod));
    ir_dim B = ir_add_symbol(mod, "B", 1, 6);
    static const float w[20] = {1,  -2, 3,  4,  0.5f, 6,  -7, 8,  9,  10,
                                11, 12, 13, 14, 15,   16, 17, 18, 19, 20};
    ok(ir_add_weight(mod, "w", ir_tensor_type(IG_f32, 2, (ir_dim[]){5, 4}), w, true));
    ir_build_begin(&m.b, mod, "f", IR_FN, IR_BUILD_RAW);
    add(&m, ir_param(&m.b, ir_tensor_type(IG_f32, 2, (ir_dim[]){B, 5}), "x"));
    add(&m, ir_param(&m.b, ir_tensor_type(IG_f32, 2, (ir_dim[]){B, 5}), "y"));
    add(&m, ir_param(&m.b, ir_tensor_type(IG_f32, 1, (ir_dim[]){5}), "v"));
    add(&m, ir_param(&m.b, ir_scalar_type(IG_f32), "s"));
    add(&m, ir_param(&m.b, ir_scalar_type(IG_i64), "i"));
    ir_attr_sym sym = {.name = "w"};
    add(&m, ir_emit0(&m.b, OP_weight, &sym));
    for (int k = 0; k < n; k++) {
        switch (draw(9)) {
        case 0: make_spread(&m); break;
        case 1: make_move(&m); break;
        case 2: make_window(&m); break;
        case 3: make_core(&m); break;
        case 4: make_source(&m); break;
        default: make_elementwise(&m);
        }
    }
    ir_ref out[6];
    int nout = 1 + (int)draw(5);
    for (int k = 0; k < nout; k++) out[k] = m.v[m.n - 1 - draw(m.n < 12 ? m.n : 12)];
    ok(ir_build_end(&m.b, nout, out, NULL));
    ok(ir_verify(mod));
    return mod;
}

/* --- Running a planned program -------------------------------------------------------------- */

static size_t tensor_bytes(const ir_tensor *t) {
    int64_t n;
    ck_assert(rt_numel_checked(t->dim, t->rank, &n));
    return (size_t)n * rt_dtype_bytes((ig_dtype)t->dtype);
}

static ir_tensor shape(const ir_func *f, ir_ref v, const int64_t *symbols) {
    const ir_type *t = ir_val_type(f, v);
    ir_tensor r = {.dtype = t->dtype, .rank = t->rank};
    for (int i = 0; i < t->rank; i++)
        ck_assert(ir_dim_eval(f->module, t->dim[i], symbols, &r.dim[i]));
    return r;
}

static bool meet(const char *a, size_t n, const char *b, size_t k) {
    return a < b + k && b < a + n;
}

/* A call that writes over operand k reads, for each element of its results, only that element of
 * the operand: change all others and look. */
static void check_in_place(const ir_func *callee, const int64_t *symbols, uint32_t nin,
                           const ir_tensor *in, uint32_t k, uint32_t nout,
                           const ir_tensor *result) {
    size_t bytes = tensor_bytes(&in[k]), size = rt_dtype_bytes((ig_dtype)in[k].dtype);
    size_t n = bytes / size, where[3] = {0, n / 2, n - 1};
    for (int i = 0; i < 3 && bytes; i++) {
        ir_tensor changed[16], out[IG_MAX_RANK];
        memcpy(changed, in, nin * sizeof *in);
        changed[k].data = malloc(bytes);
        for (size_t b = 0; b < bytes; b++) ((char *)changed[k].data)[b] = (char)(0x3c + (b & 3));
        memcpy((char *)changed[k].data + where[i] * size, (char *)in[k].data + where[i] * size,
               size);
        for (uint32_t j = 0; j < nout; j++)
            out[j] = result[j], out[j].data = malloc(tensor_bytes(&result[j]));
        ok(ir_ref_run(callee, callee->module->alloc, symbols, (int)nin, changed, (int)nout, out));
        for (uint32_t j = 0; j < nout; j++) {
            size_t one = rt_dtype_bytes((ig_dtype)result[j].dtype);
            ck_assert(!memcmp((char *)out[j].data + where[i] * one,
                              (char *)result[j].data + where[i] * one, one));
            free(out[j].data);
        }
        free(changed[k].data);
    }
}

/* Where the plan puts a result of a call. */
static char *place_of(const ir_module *m, const ir_places *at, uint32_t k, const int64_t *symbols,
                      size_t bytes, char *ws, size_t ws_size, const ir_tensor *in,
                      const ir_tensor *out) {
    int64_t where;
    ck_assert(ir_dim_eval(m, at->p[k].at, symbols, &where));
    if (at->p[k].kind == IR_PLACE_OUT) return out[where].data;
    if (at->p[k].kind == IR_PLACE_IN) return in[where].data;
    ck_assert_uint_eq((size_t)where % 64, 0);
    ck_assert_uint_le((size_t)where + bytes, ws_size);
    return ws + where;
}

/* Run one call: on the reference, into fresh memory, then to its places. */
static void run_call(const ir_func *f, const ir_op *o, const int64_t *symbols, ir_tensor *value,
                     char *ws, size_t ws_size, ir_tensor *out) {
    const ir_attr_call *a = ir_attr_get(f->module, o->attr);
    const ir_func *callee = ir_find_func(f->module, a->callee);
    ir_tensor in[16], result[IG_MAX_RANK];
    char *place[IG_MAX_RANK];
    ck_assert_uint_le(o->nin, 16);
    ck_assert_uint_le(o->nout, IG_MAX_RANK);
    ck_assert_uint_eq(a->at.n, o->nout);
    for (uint32_t k = 0; k < o->nin; k++) in[k] = value[ir_op_in(f, o, k).i];
    for (uint32_t j = 0; j < o->nout; j++) {
        result[j] = shape(f, ir_op_out(o, j), symbols);
        size_t bytes = tensor_bytes(&result[j]);
        place[j] = place_of(f->module, &a->at, j, symbols, bytes, ws, ws_size, in, out);
        for (uint32_t k = 0; k < o->nin; k++) /* the same block, or nothing in common */
            if (in[k].data != place[j])
                ck_assert(!meet(place[j], bytes, in[k].data, tensor_bytes(&in[k])));
        for (uint32_t k = 0; k < j; k++)
            ck_assert(!meet(place[j], bytes, place[k], tensor_bytes(&result[k])));
        result[j].data = malloc(bytes + 1);
    }
    ok(ir_ref_run(callee, f->module->alloc, symbols, o->nin, in, o->nout, result));
    for (uint32_t j = 0; j < o->nout; j++)
        for (uint32_t k = 0; k < o->nin; k++)
            if (in[k].data == place[j] && tensor_bytes(&result[j]))
                check_in_place(callee, symbols, o->nin, in, k, o->nout, result);
    for (uint32_t j = 0; j < o->nout; j++) {
        memcpy(place[j], result[j].data, tensor_bytes(&result[j]));
        free(result[j].data);
        result[j].data = place[j];
        value[o->out0 + j] = result[j];
    }
}

static void run_planned(const ir_func *f, const int64_t *symbols, const ir_tensor *in,
                        ir_tensor *out) {
    int64_t size;
    ck_assert(ir_dim_eval(f->module, pass_workspace(f), symbols, &size));
    char *ws = aligned_alloc(64, ((size_t)size + 64) & ~(size_t)63);
    ir_tensor *value = calloc(f->values.n, sizeof *value);
    memset(ws, 0xa5, (size_t)size);
    for (uint32_t k = 0; k < ir_nparam(f); k++) value[ir_param_ref(f, k).i] = in[k];
    for (uint32_t i = 0; i + 1 < f->ops.n; i++) {
        const ir_op *o = &f->ops.data[i];
        ir_tensor t = shape(f, ir_op_out(o, 0), symbols);
        const void *attr = ir_attr_get(f->module, o->attr);
        if (o->code == OP_const)
            t.data = (void *)(uintptr_t)((const ir_attr_const *)attr)->data.bytes;
        else if (o->code == OP_weight)
            t.data = (void *)(uintptr_t)ir_find_weight(f->module, ((const ir_attr_sym *)attr)->name)
                         ->data;
        else if (o->code == OP_reshape)
            t.data = value[ir_op_in(f, o, 0).i].data;
        else {
            ck_assert_int_eq(o->code, OP_call);
            run_call(f, o, symbols, value, ws, (size_t)size, out);
            continue;
        }
        value[o->out0] = t;
    }
    const ir_op *ret = ir_return_op(f);
    for (uint32_t k = 0; k < ret->nin; k++)
        ck_assert_ptr_eq(value[ir_op_in(f, ret, k).i].data, out[k].data);
    free(value);
    free(ws);
}

static void fill(ir_tensor *t) {
    size_t n = tensor_bytes(t);
    t->data = malloc(n + 1);
    for (size_t i = 0; i * 4 < n && t->dtype == IG_f32; i++)
        ((float *)t->data)[i] = (float)((int)draw(2001) - 1000) / 256.0f;
    if (t->dtype == IG_i64) *(int64_t *)t->data = draw(3);
}

/* The program before and after, on the same data. */
static void compare(const ir_func *f, const ir_func *g, int64_t B) {
    ir_tensor in[8], want[8], got[8];
    uint32_t nin = ir_nparam(f), nout = f->results.n;
    for (uint32_t k = 0; k < nin; k++) {
        in[k] = shape(f, ir_param_ref(f, k), &B);
        fill(&in[k]);
    }
    for (uint32_t k = 0; k < nout; k++) {
        ok(ir_result_shape(f, &B, k, &want[k]));
        got[k] = want[k];
        want[k].data = malloc(tensor_bytes(&want[k]) + 1);
        got[k].data = malloc(tensor_bytes(&want[k]) + 1);
    }
    ok(ir_ref_run(f, f->module->alloc, &B, (int)nin, in, (int)nout, want));
    run_planned(g, &B, in, got);
    for (uint32_t k = 0; k < nout; k++) {
        int64_t numel;
        ck_assert(rt_numel_checked(want[k].dim, want[k].rank, &numel));
        ir_canon_nan((ig_dtype)want[k].dtype, want[k].data, numel);
        ir_canon_nan((ig_dtype)want[k].dtype, got[k].data, numel);
        ck_assert_msg(!memcmp(want[k].data, got[k].data, tensor_bytes(&want[k])),
                      "result %u differs", k);
        free(want[k].data);
        free(got[k].data);
    }
    for (uint32_t k = 0; k < nin; k++) free(in[k].data);
}

/* The axes longer than 1, and how many. */
static int long_dims(const ir_type *t, ir_dim *dim_) {
    int n = 0;
    for (int i = 0; i < t->rank; i++)
        if (t->dim[i] != 1) dim_[n++] = t->dim[i];
    return n;
}

/* A reshape inside a cluster only inserts or removes axes of extent 1. */
static void check_unit_reshape(const ir_func *f, const ir_op *o) {
    ir_dim x[IG_MAX_RANK], y[IG_MAX_RANK];
    int n = long_dims(ir_val_type(f, ir_op_in(f, o, 0)), x);
    ck_assert_int_eq(n, long_dims(ir_val_type(f, ir_op_out(o, 0)), y));
    ck_assert(!memcmp(x, y, (size_t)n * sizeof *x));
}

/* Several reductions in one cluster: their operands have the same long axes, and they leave the
 * same ones. */
static void check_rows(const ir_func *f) {
    ir_dim x[2][IG_MAX_RANK], y[2][IG_MAX_RANK];
    int nx = -1, ny = -1;
    for (uint32_t k = 0; k < f->ops.n; k++) {
        const ir_op *o = &f->ops.data[k];
        if (o->code != OP_reduce) continue;
        bool first = nx < 0;
        int n = long_dims(ir_val_type(f, ir_op_in(f, o, 0)), x[!first]);
        int m = long_dims(ir_val_type(f, ir_op_out(o, 0)), y[!first]);
        if (first) nx = n, ny = m;
        ck_assert(n == nx && m == ny);
        ck_assert(!memcmp(x[0], x[!first], (size_t)n * sizeof **x));
        ck_assert(!memcmp(y[0], y[!first], (size_t)m * sizeof **y));
    }
}

/* What fusion promises about every cluster. */
static void check_clusters(const ir_module *m) {
    for (uint32_t i = 0; i < m->funcs.n; i++) {
        const ir_func *f = m->funcs.data[i];
        uint32_t cores = 0, reductions = 0;
        if (f->kind != IR_CLUSTER) continue;
        ck_assert_uint_le(strlen(f->name), 48);
        ck_assert_uint_le(ir_nparam(f), 16);
        ck_assert_uint_le(f->results.n, IG_MAX_RANK);
        for (uint32_t k = 1; k + ir_rows_has_room(f) < f->results.n; k++)
            ck_assert(ir_same_dims(ir_result_type(f, 0), ir_result_type(f, k)));
        for (uint32_t k = 0; k < f->ops.n; k++) {
            ir_opcode op = (ir_opcode)f->ops.data[k].code;
            cores += op == OP_cumred || op == OP_ein;
            reductions += op == OP_reduce;
            ck_assert(op != OP_call && op != OP_barrier && op != OP_weight);
            if (op == OP_reshape) check_unit_reshape(f, &f->ops.data[k]);
        }
        ck_assert_uint_le(cores, 1);
        ck_assert(!cores || !reductions);
        if (reductions > 1) check_rows(f);
    }
}

static void dump(const ir_module *m) {
    rt_str s;
    rt_str_init(&s, m->alloc);
    ir_print(m, &s, 0);
    fputs(rt_str_text(&s), stderr);
    rt_str_free(&s);
}

START_TEST(random_programs_keep_their_bits) {
    for (int round = 0; round < 120; round++) {
        ir_module *in, *out;
        seed = 0x9e3779b97f4a7c15u * (uint64_t)(_i * 1000 + round + 1);
        in = make_program(ig_allocator_default(), 4 + round % 60);
        if (getenv("TEST_DUMP")) dump(in);
        ok(round % 2 ? pass_pipeline(in, &out) : pass_run_list("fuse,memplan", in, &out));
        if (getenv("TEST_DUMP")) dump(out);
        check_clusters(out);
        for (int64_t B = 1; B <= 6; B += 2)
            compare(ir_find_func(in, "f"), ir_find_func(out, "f"), B);
        ir_module_free(out);
        ir_module_free(in);
    }
}
END_TEST

/* --- Shapes of clusters --------------------------------------------------------------------- */

static ir_module *parse(const char *text) {
    ir_module *m;
    ok(ir_parse(ig_allocator_default(), "test", text, strlen(text), &m));
    ok(ir_verify(m));
    return m;
}

/* Names of the clusters after `passes`, in order, separated by blanks. */
static const char *clusters(const char *passes, const char *text) {
    static char names[2048];
    ir_module *in = parse(text), *out;
    ok(pass_run_list(passes, in, &out));
    names[0] = 0;
    for (uint32_t i = 0; i < out->funcs.n; i++) {
        if (out->funcs.data[i]->kind != IR_CLUSTER) continue;
        if (names[0]) strcat(names, " ");
        strcat(names, out->funcs.data[i]->name);
    }
    ir_module_free(out);
    ir_module_free(in);
    return names;
}

#define FN(params, results, body)                                                                  \
    "module m class fma state 0 { dim B in 1..64 fn @f(" params ") -> (" results ") {\n" body "} " \
    "}"

START_TEST(chains_become_one_kernel) {
    ck_assert_str_eq(
        clusters("fuse", FN("%x: f32[B,8], %y: f32[B,8]", "f32[B,8]",
                            "%1 = add %x, %y\n%2 = mul %1, %x\n%3 = tanh %2\nreturn %3\n")),
        "k0_add_mul_tanh");
    ck_assert_str_eq(
        clusters("fuse", FN("%x: f32[B,8], %w: f32[8,4], %v: f32[4]", "f32[B,4]",
                            "%1 = ein %x, %w rel=\"y[b,o] += x[b,i]*w[i,o]\"\n"
                            "%2 = broadcast %v dims=[B,4] axes=[1]\n%3 = add %1, %2\nreturn %3\n")),
        "k0_ein_add");
    ck_assert_str_eq(
        clusters("fuse", FN("%x: f32[B,8]", "f32[B]",
                            "%1 = mul %x, %x\n%2 = reduce %1 op=sum axes=[1]\n%3 = sqrt %2\n"
                            "return %3\n")),
        "k0_mul_sum_sqrt");
}
END_TEST

START_TEST(reductions_of_the_same_rows_share_a_kernel) {
    ck_assert_str_eq(
        clusters("fuse",
                 FN("%x: f32[B,8]", "f32[B,8]",
                    "%1 = reduce %x op=max axes=[1]\n%2 = broadcast %1 dims=[B,8] axes=[0]\n"
                    "%3 = sub %x, %2\n%4 = exp %3\n%5 = reduce %4 op=sum axes=[1]\n"
                    "%6 = broadcast %5 dims=[B,8] axes=[0]\n%7 = div %4, %6\nreturn %7\n")),
        "k0_max_sub_exp_sum_div");
    ck_assert_str_eq( /* rows, then columns */
        clusters("fuse",
                 FN("%x: f32[8,8]", "f32[8,8]",
                    "%1 = reduce %x op=max axes=[1]\n%2 = broadcast %1 dims=[8,8] axes=[0]\n"
                    "%3 = sub %x, %2\n%4 = reduce %3 op=sum axes=[0]\n"
                    "%5 = broadcast %4 dims=[8,8] axes=[1]\n%6 = div %3, %5\nreturn %6\n")),
        "k0_max k1_sub_sum_div");
    ck_assert_str_eq( /* a row that stands for a column */
        clusters("fuse",
                 FN("%x: f32[8,8]", "f32[8,8]",
                    "%1 = reduce %x op=max axes=[1]\n%2 = broadcast %1 dims=[8,8] axes=[1]\n"
                    "%3 = sub %x, %2\nreturn %3\n")),
        "k0_max k1_sub");
    ck_assert_str_eq( /* one long row would keep the other threads from its elements */
        clusters("fuse",
                 FN("%x: f32[100000]", "f32[100000]",
                    "%1 = reduce %x op=max axes=[0]\n%2 = broadcast %1 dims=[100000] axes=[]\n"
                    "%3 = sub %x, %2\nreturn %3\n")),
        "k0_max k1_sub");
}
END_TEST

START_TEST(a_second_core_begins_a_new_kernel) {
    ck_assert_str_eq(clusters("fuse", FN("%x: f32[B,8], %w: f32[8,8]", "f32[B,8]",
                                         "%1 = ein %x, %w rel=\"y[b,o] += x[b,i]*w[i,o]\"\n"
                                         "%2 = ein %1, %w rel=\"y[b,o] += x[b,i]*w[i,o]\"\n"
                                         "%3 = add %1, %2\nreturn %3\n")),
                     "k0_ein k1_ein_add");
    ck_assert_str_eq(
        clusters("fuse", FN("%x: f32[B,8]", "f32[B,8]",
                            "%1 = neg %x\n%2 = cumred %1 op=sum axis=1\n%3 = exp %2\nreturn %3\n")),
        "k0_neg_cumsum k1_exp");
}
END_TEST

START_TEST(dear_ops_are_computed_once) {
    ck_assert_str_eq(
        clusters("fuse", FN("%x: f32[8]", "f32[B,8]",
                            "%1 = exp %x\n%2 = broadcast %1 dims=[B,8] axes=[1]\n%3 = neg %2\n"
                            "return %3\n")),
        "k0_exp k1_neg");
    ck_assert_str_eq(
        clusters("fuse", FN("%x: f32[8]", "f32[B,8]",
                            "%1 = neg %x\n%2 = broadcast %1 dims=[B,8] axes=[1]\n%3 = exp %2\n"
                            "return %3\n")),
        "k0_neg_exp");
    ck_assert_str_eq(
        clusters("fuse",
                 FN("%x: f32[8,8]", "f32[8,8]",
                    "%1 = exp %x\n%2 = transpose %1 perm=[1,0]\n%3 = add %1, %2\nreturn %3\n")),
        "k0_exp k1_add");
    ck_assert_str_eq(
        clusters("fuse", FN("%x: f32[8,8]", "f32[8,8], f32[8,8]",
                            "%1 = neg %x\n%2 = exp %1\n%3 = sqrt %1\nreturn %2, %3\n")),
        "k0_neg_exp_sqrt");
}
END_TEST

#define STATE "%w: f32[8,B], %m: f32[8,B], %g: f32[8,B]"

/* What is read elsewhere, too, is a further result of a kernel that uses it or what it is made of,
 * where nothing between reads it. */
START_TEST(kernels_have_several_results) {
    ck_assert_str_eq(clusters("fuse", FN(STATE, "f32[8,B], f32[8,B]",
                                         "%1 = add %m, %g\n%2 = sub %w, %1\nreturn %2, %1\n")),
                     "k0_add_sub");
    ck_assert_str_eq(clusters("fuse", FN(STATE, "f32[8,B], f32[8,B]",
                                         "%1 = exp %g\n%2 = tanh %g\nreturn %2, %1\n")),
                     "k0_exp_tanh");
    ck_assert_str_eq(clusters("fuse", FN(STATE, "f32[8,B], f32[8,B]",
                                         "%1 = exp %g\n%2 = tanh %m\nreturn %2, %1\n")),
                     "k0_exp k1_tanh");
    ck_assert_str_eq(clusters("fuse", FN(STATE, "f32[8,B], f32[8,8]", /* the product waits for it */
                                         "%1 = exp %g\n"
                                         "%2 = ein %1, %1 rel=\"y[i,j] += a[i,k]*b[j,k]\"\n"
                                         "%3 = neg %1\nreturn %3, %2\n")),
                     "k0_exp k1_ein k2_neg");
    ck_assert_str_eq(clusters("fuse", FN(STATE, "f32[8,B], f32[8,B]", /* a row: used, and given */
                                         "%1 = exp %g\n%2 = reduce %1 op=sum axes=[1]\n"
                                         "%3 = broadcast %2 dims=[8,B] axes=[0]\n"
                                         "%4 = div %1, %3\n%5 = sub %g, %3\nreturn %4, %5\n")),
                     "k0_exp_sum_div_sub");
    ck_assert_str_eq(clusters("fuse", FN(STATE, "f32[8,8], f32[8,8]", /* stays an epilogue */
                                         "%1 = ein %m, %g rel=\"y[i,j] += a[i,k]*b[j,k]\"\n"
                                         "%2 = exp %1\n%3 = neg %2\nreturn %2, %3\n")),
                     "k0_ein_exp k1_neg");
}
END_TEST

START_TEST(results_own_their_memory) {
    ck_assert_str_eq(
        clusters("fuse", FN("%x: f32[8]", "f32[8], f32[8], f32[8], f32[2,4]",
                            "%1 = neg %x\n%2 = reshape %x dims=[2,4]\nreturn %x, %1, %1, %2\n")),
        "k0_neg k1_copy k2_copy");
    ck_assert_str_eq(clusters("fuse", FN("%x: f32[8]", "f32[2,4]",
                                         "%1 = neg %x\n%2 = reshape %1 dims=[2,4]\n"
                                         "return %2\n")),
                     "k0_neg");
    ck_assert_str_eq(
        clusters("fuse", FN("%x: f32[8]", "f32[8], f32[]",
                            "%1 = const type=f32[] data=[1.0]\n%2 = detach %x\nreturn %2, %1\n")),
        "k0_copy k1_copy");
}
END_TEST

START_TEST(barriers_stop_fusion) {
    ck_assert_str_eq(clusters("fuse", FN("%x: f32[8]", "f32[8]",
                                         "%1 = neg %x\n%2 = barrier %1\n%3 = exp %2\nreturn %3\n")),
                     "k0_neg k1_exp");
    ck_assert_str_eq(clusters("fuse", FN("%x: f32[8]", "f32[8]",
                                         "%1 = neg %x\n%2 = detach %1\n%3 = exp %2\nreturn %3\n")),
                     "k0_neg_exp");
}
END_TEST

START_TEST(operands_are_limited) {
    char text[4096] = "module m class fma state 0 { fn @f(";
    for (int i = 0; i < 40; i++) sprintf(text + strlen(text), "%s%%p%d: f32[2]", i ? ", " : "", i);
    strcat(text, ") -> (f32[80]) {\n%c = concat ");
    for (int i = 0; i < 40; i++) sprintf(text + strlen(text), "%s%%p%d", i ? ", " : "", i);
    strcat(text, " axis=0\nreturn %c\n} }");
    ck_assert_str_eq(clusters("fuse,memplan", text), "k0_concat k1_concat k2_concat");
}
END_TEST

/* --- Plans ---------------------------------------------------------------------------------- */

static const char *workspace(const char *text) {
    static char out[256];
    ir_module *in = parse(text), *m;
    rt_str s;
    ok(pass_run_list("fuse,memplan", in, &m));
    rt_str_init(&s, m->alloc);
    ir_dim_print(m, pass_workspace(ir_find_func(m, "f")), &s);
    snprintf(out, sizeof out, "%s", rt_str_text(&s));
    rt_str_free(&s);
    ir_module_free(m);
    ir_module_free(in);
    return out;
}

START_TEST(memory_is_used_again) {
    /* Barriers keep the kernels apart; each result replaces the one before, in place. */
    ck_assert_str_eq(
        workspace(FN("%x: f32[100]", "f32[100]",
                     "%1 = neg %x\n%2 = barrier %1\n%3 = exp %2\n%4 = barrier %3\n%5 = sqrt %4\n"
                     "%6 = barrier %5\n%7 = neg %6\nreturn %7\n")),
        "448");
    /* A reversal cannot work in place, so two blocks alternate. */
    ck_assert_str_eq(
        workspace(FN("%x: f32[B,16]", "f32[B,16]",
                     "%1 = reverse %x axes=[1]\n%2 = barrier %1\n%3 = reverse %2 axes=[0]\n"
                     "%4 = barrier %3\n%5 = reverse %4 axes=[1]\n%6 = barrier %5\n%7 = neg %6\n"
                     "return %7\n")),
        "128*B");
    /* Nor where the operand is read through a reshape as well. */
    ck_assert_str_eq(
        workspace(FN("%x: f32[8,8]", "f32[8,8]",
                     "%1 = neg %x\n%2 = barrier %1\n%3 = reshape %2 dims=[64]\n"
                     "%4 = slice %3 lo=[0] hi=[8] step=[1]\n%5 = broadcast %4 dims=[8,8] axes=[1]\n"
                     "%6 = add %2, %5\n%7 = barrier %6\n%8 = neg %7\nreturn %8\n")),
        "512");
    ck_assert_str_eq(workspace(FN("%x: f32[8]", "f32[8]", "%1 = neg %x\nreturn %1\n")), "0");
    /* A smaller symbolic block fits where a larger one died. */
    ck_assert_str_eq(
        workspace(FN("%x: f32[B,16]", "f32[B]",
                     "%1 = reverse %x axes=[1]\n%2 = barrier %1\n%3 = reduce %2 op=max axes=[1]\n"
                     "%4 = cumred %3 op=sum axis=0\n%5 = cumred %4 op=sum axis=0\nreturn %5\n")),
        "64*B+64*floordiv(B+15,16)");
}
END_TEST

START_TEST(what_does_not_fit_is_refused) {
    ir_module *in = parse(FN("%x: f32[8]", "f32[8]", "%1 = neg %x\nreturn %1\n")), *out;
    ig_status s = pass_run_list("memplan", in, &out);
    ck_assert_int_eq(ig_status_code(s), IG_INVALID);
    ck_assert_ptr_nonnull(strstr(ig_status_text(s), "fuse"));
    ig_status_free(s);
    s = pass_run_list("fuse,nothing", in, &out);
    ck_assert_ptr_nonnull(strstr(ig_status_text(s), "there is no pass `nothing`"));
    ck_assert_ptr_null(out);
    ig_status_free(s);
    s = pass_run_list("", in, &out);
    ck_assert_int_eq(ig_status_code(s), IG_INVALID);
    ig_status_free(s);
    ir_module_free(in);
}
END_TEST

START_TEST(passes_are_found_by_name) {
    for (const pass_info *p = pass_tab; p->name; p++)
        ck_assert_ptr_eq(pass_find(p->name, strlen(p->name)), p);
    ck_assert_ptr_null(pass_find("fus", 3));
    ck_assert_ptr_null(pass_find("", 0));
}
END_TEST

/* --- Failing allocator ---------------------------------------------------------------------- */

START_TEST(no_allocation_failure_leaks_or_crashes) {
    bool done = false;
    for (long n = 0; !done; n += 1 + n / 40) {
        counting f = COUNTING(LONG_MAX);
        ig_allocator a = {counting_resize, &f};
        seed = 4242;
        ir_module *in = make_program(&a, 40), *out;
        f.fail = f.at + n;
        ig_status s = pass_run_list("fuse,memplan", in, &out);
        done = !s;
        ig_status_free(s);
        ir_module_free(out);
        ir_module_free(in);
        ck_assert_int_eq((long)f.live, 0);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("passes");
    TCase *c = tcase_create("passes");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, random_programs_keep_their_bits, 0, 8);
    tcase_add_test(c, chains_become_one_kernel);
    tcase_add_test(c, reductions_of_the_same_rows_share_a_kernel);
    tcase_add_test(c, a_second_core_begins_a_new_kernel);
    tcase_add_test(c, dear_ops_are_computed_once);
    tcase_add_test(c, kernels_have_several_results);
    tcase_add_test(c, results_own_their_memory);
    tcase_add_test(c, barriers_stop_fusion);
    tcase_add_test(c, operands_are_limited);
    tcase_add_test(c, memory_is_used_again);
    tcase_add_test(c, what_does_not_fit_is_refused);
    tcase_add_test(c, passes_are_found_by_name);
    tcase_add_test(c, no_allocation_failure_leaks_or_crashes);
    suite_add_tcase(s, c);
    return suite_run(s);
}
