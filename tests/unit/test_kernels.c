/* test_kernels.c - the kernels built into the library give the bytes of the reference: every row of
 * the op table, variant of its attribute and element type, in every form, at every level that runs
 * here.  No elementwise op on f32 may be left to the reference. */
#include "codegen/eager/eager.h"
#include "frontend/fe.h"
#include "tests/gen.h"
#include "tests/unit/suite.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = GEN_OPERANDS };

/* Two sessions of one class: a level's kernels, and the reference. */
typedef struct pair {
    const cg_eager_level *level;
    ir_class cls;
    ig_session *s[2];
    gen g;
    uint64_t served, referred;
} pair;

static ig_session *open_session(const char *how, ir_class cls) {
    ig_session_options opt = {.nofma = cls == IR_CLASS_NOFMA};
    ig_session *s;
    setenv("IG_EAGER", how, 1);
    ig_status e = ig_session_new(&opt, &s);
    ck_assert_msg(!e, "%s", ig_status_text(e));
    unsetenv("IG_EAGER");
    return s;
}

static pair open_pair(const cg_eager_level *l) {
    pair p = {.level = l, .cls = cg_cpu_find(l->name)->class, .g = {7}};
    p.s[0] = open_session(l->name, p.cls);
    p.s[1] = open_session("reference", p.cls);
    ck_assert_ptr_eq(p.s[0]->kernels, l);
    ck_assert_ptr_null(p.s[1]->kernels);
    return p;
}

static void close_pair(pair *p) {
    for (int i = 0; i < 2; i++) ck_assert_uint_eq(ig_session_free(p->s[i]), 0);
    ig_session_use(NULL);
}

/* --- One op on both ------------------------------------------------------------------------- */

typedef struct call {
    ir_opcode op;
    const void *attr;
    bool broadcast; /* through fe_ew; else the shapes are the type rule's business */
    int nin;
    ig_dtype dtype[MOST];
    ig_dims dims[MOST];
} call;

static size_t call_numel(const ig_dims *d) {
    size_t n = 1;
    for (int i = 0; i < d->n; i++) n *= (size_t)d->d[i];
    return n;
}

/* Run in the current session; NULL when the type rule refuses.  Memory of the caller (free). */
static void *call_run(const call *k, void *const *data, size_t *bytes_, ig_dtype *dtype_) {
    ig_tensor *in[MOST];
    fe_call c;
    ig_scope_begin();
    for (int i = 0; i < k->nin; i++) in[i] = ig_tensor_from(k->dtype[i], k->dims[i], data[i]);
    if (!fe_enter(&c, NULL, ir_op_tab[k->op].name)) ck_abort_msg("no session");
    ig_tensor *t = fe_leave(&c, k->broadcast ? fe_ew(&c, k->op, k->attr, k->nin, in)
                                             : fe_op(&c, k->op, k->attr, k->nin, in));
    char *out = NULL;
    if (!ig_is_poison(t)) {
        *bytes_ = ig_nbytes(t);
        *dtype_ = ig_dtype_of(t);
        out = malloc(*bytes_ + 1);
        ig_status e = ig_read(t, out, *bytes_);
        if (e) ck_abort_msg("%s", ig_status_text(e));
    } else {
        ig_error_clear();
    }
    ig_scope_end();
    return out;
}

static void call_print(const call *k, char *text, size_t size) {
    int n = snprintf(text, size, "%s", ir_op_tab[k->op].name);
    for (int i = 0; i < k->nin && n < (int)size; i++) {
        n += snprintf(text + n, size - (size_t)n, " %s[", ig_dtype_name(k->dtype[i]));
        for (int j = 0; j < k->dims[i].n && n < (int)size; j++)
            n += snprintf(text + n, size - (size_t)n, "%lld,", (long long)k->dims[i].d[j]);
        n += snprintf(text + n, size - (size_t)n, "]");
    }
}

/* Both give the same bytes; whether the op exists on these operands. */
static bool check_call(pair *p, const call *k) {
    void *data[MOST] = {0}, *out[2];
    size_t bytes[2] = {0};
    ig_dtype dtype[2] = {0};
    char text[256];
    bool positive = !strcmp(ir_op_tab[k->op].domain, "positive");
    for (int i = 0; i < k->nin; i++) {
        size_t n = call_numel(&k->dims[i]);
        data[i] = malloc(n * 8 + 8);
        gen_data(&p->g, k->dtype[i], (int64_t)n, positive, data[i]);
    }
    uint64_t before = p->s[0]->count.reference;
    for (int i = 0; i < 2; i++) {
        ig_session_use(p->s[i]);
        out[i] = call_run(k, data, &bytes[i], &dtype[i]);
    }
    call_print(k, text, sizeof text);
    if (!out[0] != !out[1] || dtype[0] != dtype[1] || bytes[0] != bytes[1])
        ck_abort_msg("%s: %s: results of different types", p->level->name, text);
    bool exists = out[0] != NULL;
    size_t at = 0;
    while (exists && at < bytes[0] && ((char *)out[0])[at] == ((char *)out[1])[at]) at++;
    if (at < bytes[0])
        ck_abort_msg("%s: %s: element %zu differs from the reference", p->level->name, text,
                     at / ig_dtype_size(dtype[0]));
    for (int i = 0; i < 2; i++) free(out[i]);
    for (int i = 0; i < k->nin; i++) free(data[i]);
    if (exists && bytes[0]) {
        if (p->s[0]->count.reference == before)
            p->served++;
        else
            p->referred++;
    }
    return exists;
}

/* --- Elementwise ---------------------------------------------------------------------------- */

/* Shapes that broadcast together, in every order of operands. */
static const ig_dims ew_shapes[][3] = {
    {{1, {0}}, {1, {0}}, {1, {0}}},
    {{0}, {0}, {0}},
    {{1, {1}}, {1, {1}}, {1, {1}}},
    {{1, {8}}, {1, {8}}, {1, {8}}},
    {{1, {33}}, {0}, {1, {33}}},
    {{2, {5, 47}}, {2, {5, 47}}, {2, {5, 47}}},
    {{2, {5, 19}}, {1, {19}}, {0}},
    {{2, {5, 19}}, {2, {5, 1}}, {1, {19}}},
    {{2, {5, 1}}, {2, {1, 17}}, {2, {5, 17}}},
    {{3, {3, 4, 17}}, {3, {3, 1, 17}}, {2, {4, 1}}},
    {{4, {2, 3, 1, 5}}, {4, {1, 3, 4, 1}}, {4, {2, 1, 4, 5}}},
    {{2, {0, 3}}, {1, {3}}, {2, {1, 3}}},
    {{3, {2, 1, 1}}, {3, {1, 3, 1}}, {3, {1, 1, 16}}},
};

static void check_elementwise(pair *p, ir_opcode op, int variant, ig_dtype d) {
    ir_attr_any attr;
    bool exists = false;
    memset(&attr, 0, sizeof attr);
    cg_eager_set_variant(op, variant, &attr);
    uint64_t before = p->referred;
    for (size_t i = 0; i < sizeof ew_shapes / sizeof *ew_shapes; i++)
        for (int turn = 0; turn < ir_op_tab[op].arity; turn++) {
            call k = {.op = op, .attr = &attr, .broadcast = true, .nin = ir_op_tab[op].arity};
            for (int j = 0; j < k.nin; j++) {
                k.dims[j] = ew_shapes[i][(j + turn) % k.nin];
                k.dtype[j] = cg_eager_operand(op, j, d);
            }
            exists |= check_call(p, &k);
        }
    if (exists && d == IG_f32)
        ck_assert_msg(p->referred == before, "%s: %s of f32 ran on the reference", p->level->name,
                      ir_op_tab[op].name);
}

static void elementwise(pair *p) {
    for (int op = 0; op < OP_END; op++) {
        if (!ir_is_elementwise((ir_opcode)op)) continue;
        for (int v = 0; v < cg_eager_variants((ir_opcode)op); v++)
            for (int d = IG_NONE + 1; d < IG_DTYPE_END; d++)
                check_elementwise(p, (ir_opcode)op, v, (ig_dtype)d);
    }
}

/* --- Families ------------------------------------------------------------------------------- */

static const ig_dims line_shapes[] = {
    {1, {1}},       {1, {17}},         {2, {5, 3}},    {2, {3, 40}},      {3, {2, 5, 3}},
    {3, {4, 1, 7}}, {4, {2, 3, 5, 2}}, {2, {0, 4}},    {2, {4, 0}},       {3, {2, 33, 17}},
    {1, {4099}},    {2, {4100, 2}},    {2, {2, 9000}}, {3, {1, 1, 1025}}, {2, {1030, 3}},
};

static void reductions(pair *p) {
    for (int v = 0; v < cg_eager_variants(OP_reduce); v++)
        for (int d = IG_NONE + 1; d < IG_DTYPE_END; d++)
            for (size_t i = 0; i < sizeof line_shapes / sizeof *line_shapes; i++)
                for (unsigned axes = 1; axes < 1u << line_shapes[i].n; axes++) {
                    ir_attr_reduce a = {0};
                    cg_eager_set_variant(OP_reduce, v, &a);
                    for (int k = 0; k < line_shapes[i].n; k++)
                        if (axes >> k & 1) a.axes.a[a.axes.n++] = (uint8_t)k;
                    call k = {OP_reduce, &a, false, 1, {(ig_dtype)d}, {line_shapes[i]}};
                    check_call(p, &k);
                }
    ck_assert_uint_eq(p->referred, 0);
}

static void lines(pair *p) {
    for (size_t i = 0; i < sizeof line_shapes / sizeof *line_shapes; i++)
        for (int axis = 0; axis < line_shapes[i].n; axis++) {
            ig_dims dims = line_shapes[i];
            for (int v = 0; v < cg_eager_variants(OP_iota); v++) {
                ir_attr_iota a = {.axis = axis, .dims.n = (uint8_t)dims.n};
                memcpy(a.dims.d, dims.d, sizeof *dims.d * (size_t)dims.n);
                cg_eager_set_variant(OP_iota, v, &a);
                check_call(p, &(call){OP_iota, &a, false, 0, {0}, {{0}}});
            }
            for (int v = 0; v < cg_eager_variants(OP_cumred); v++)
                for (int d = IG_NONE + 1; d < IG_DTYPE_END; d++) {
                    ir_attr_cumred a = {.axis = axis};
                    cg_eager_set_variant(OP_cumred, v, &a);
                    check_call(p, &(call){OP_cumred, &a, false, 1, {(ig_dtype)d}, {dims}});
                }
        }
    for (size_t i = 0; i < sizeof line_shapes / sizeof *line_shapes; i++)
        for (int v = 0; v < cg_eager_variants(OP_rng_bits); v++) {
            ir_attr_rng a = {.dims.n = (uint8_t)line_shapes[i].n};
            memcpy(a.dims.d, line_shapes[i].d, sizeof a.dims.d);
            cg_eager_set_variant(OP_rng_bits, v, &a);
            check_call(p, &(call){OP_rng_bits, &a, false, 1, {IG_u32}, {{1, {2}}}});
        }
}

/* A window to which something is added, anywhere; it does not count as served when its sum is not.
 */
static void windows(pair *p) {
    for (int d = IG_NONE + 1; d < IG_DTYPE_END; d++) {
        ir_attr_dupd add = {.op = IR_setop_add};
        ig_dtype t = (ig_dtype)d;
        check_call(p, &(call){OP_dupdate, &add, false, 3, {t, t, IG_i64}, {{1, {40}}, {1, {17}}}});
        check_call(
            p,
            &(call){
                OP_dupdate, &add, false, 4, {t, t, IG_i64, IG_i64}, {{2, {9, 20}}, {2, {4, 19}}}});
    }
    ck_assert_uint_eq(p->referred, 0);
}

static const char *const relations[] = {
    "y[m,n] += a[m,k]*b[k,n] over (k)",
    "y[m,n] += a[k,m]*b[k,n] over (k)",
    "y[m,n] += a[m,k]*b[n,k] over (k)",
    "y[m,n] += a[k,m]*b[n,k] over (k)",
    "y[n,m] += a[m,k]*b[k,n] over (k)",
    "y[b,m,n] += a[b,m,k]*b[b,k,n] over (k)",
    "y[m,b,n] += a[b,m,k]*b[b,k,n] over (k)",
    "y[b,m,n] += a[m,b,k]*b[k,n,b] over (k)",
    "y[m] += a[m,k]*b[k] over (k)",
    "y[n] += a[k]*b[k,n] over (k)",
    "y[] += a[k]*b[k] over (k)",
    "y[m,n] += a[m]*b[n] over ()",
    "y[b] += a[b]*b[b] over ()",
    "y[m,p,n] += a[p,m,k]*b[k,n] over (k)",
    "y[m,n] += a[m,j,k]*b[j,k,n] over (j,k)",
    "y[m,n] += a[m,j,k]*b[j,k,n] over (k,j)",
    "y[m,n] += a[m,k]*b[j,n] over (k,j)",
    "y[m,n] max= a[m,k]*b[k,n] over (k)",
};

static void contractions(pair *p) {
    static const int64_t extents[] = {0, 1, 2, 3, 5, 16, 17, 33};
    for (size_t i = 0; i < sizeof relations / sizeof *relations; i++)
        for (int d = IG_NONE + 1; d < IG_DTYPE_END; d++)
            for (int round = 0; round < 12; round++) {
                ir_attr_ein a = {0};
                char message[384];
                int64_t of[IR_EIN_VARS];
                ck_assert_msg(ir_ein_parse(NULL, relations[i], strlen(relations[i]), &a.rel,
                                           message, sizeof message),
                              "%s: %s", relations[i], message);
                for (int v = 0; v < IR_EIN_VARS; v++)
                    of[v] = extents[gen_below(&p->g, round < 6 ? 8 : 5)];
                if (round == 11 && d == IG_f32 && a.rel.norder) of[a.rel.order[0]] = 1100;
                call k = {OP_ein, &a, false, 2, {(ig_dtype)d, (ig_dtype)d}, {{0}}};
                for (int j = 0; j < 2; j++) {
                    k.dims[j].n = a.rel.in[j].n;
                    for (int m = 0; m < k.dims[j].n; m++) k.dims[j].d[m] = of[a.rel.in[j].a[m]];
                }
                check_call(p, &k);
            }
}

/* --- Movement, and whatever the generators make ---------------------------------------------- */

static ig_dims plain_dims(int rank, const ir_dim *d) {
    ig_dims r = {.n = rank};
    for (int i = 0; i < rank; i++) r.d[i] = d[i];
    return r;
}

static void instances(pair *p) {
    for (int op = 0; op < OP_END; op++)
        for (int i = 0; i < 60 && gen_has((ir_opcode)op); i++) {
            gen_op o;
            if (!gen_instance(&p->g, (ir_opcode)op, NULL, &o)) continue;
            call k = {(ir_opcode)op, &o.attr, false, o.nin, {0}, {{0}}};
            for (int j = 0; j < o.nin; j++) {
                k.dtype[j] = (ig_dtype)o.in[j].dtype;
                k.dims[j] = plain_dims(o.in[j].rank, o.in[j].dim);
            }
            check_call(p, &k);
        }
}

/* Shapes that make tiles, tails of tiles and long lines. */
static void movement(pair *p) {
    static const ig_dtype sizes[] = {IG_bool, IG_bf16, IG_i32, IG_f64};
    static const uint8_t perms[][3] = {{0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    const ig_dims box = {3, {17, 33, 40}}, scalar = {0}, line = {1, {(1 << 21) + 1}};
    uint64_t before = p->referred;
    for (int s = 0; s < 4; s++) {
        for (int i = 0; i < 5; i++) {
            ir_attr_perm a = {.perm = {3, {perms[i][0], perms[i][1], perms[i][2]}}};
            check_call(p, &(call){OP_transpose, &a, false, 1, {sizes[s]}, {box}});
        }
        for (int axes = 1; axes < 8; axes++) {
            ir_attr_axes a = {.axes.n = 0};
            for (int i = 0; i < 3; i++)
                if (axes >> i & 1) a.axes.a[a.axes.n++] = (uint8_t)i;
            check_call(p, &(call){OP_reverse, &a, false, 1, {sizes[s]}, {box}});
        }
        ir_attr_bcast fill = {.dims = {1, {1 << 21}}};
        check_call(p, &(call){OP_broadcast, &fill, false, 1, {sizes[s]}, {scalar}});
        ir_attr_slice part = {.lo = {1, {1}}, .hi = {1, {(1 << 21) + 1}}, .step = {1, {1}}};
        check_call(p, &(call){OP_slice, &part, false, 1, {sizes[s]}, {line}});
    }
    ck_assert_uint_eq(p->referred, before);
}

/* --- Calls that are worth splitting --------------------------------------------------------- */

/* Long lines, many rows, and a product of matrices: the pool shares them out. */
static void long_calls(pair *p) {
    static const ig_dims shape[][3] = {
        {{1, {100003}}, {1, {100003}}, {1, {100003}}},
        {{1, {100003}}, {0}, {1, {100003}}},
        {{2, {331, 303}}, {1, {303}}, {2, {331, 1}}},
        {{3, {3, 331, 101}}, {3, {1, 331, 1}}, {3, {3, 1, 101}}},
    };
    static const ir_opcode op[] = {OP_add, OP_div, OP_exp, OP_pow, OP_select, OP_convert};
    ir_attr_any attr;
    memset(&attr, 0, sizeof attr);
    cg_eager_set_variant(OP_convert, IG_bf16, &attr);
    uint64_t before = p->referred;
    for (size_t i = 0; i < sizeof op / sizeof *op; i++)
        for (size_t j = 0; j < sizeof shape / sizeof *shape; j++) {
            call k = {op[i], &attr, true, ir_op_tab[op[i]].arity, {0}, {{0}}};
            for (int m = 0; m < k.nin; m++) {
                k.dtype[m] = cg_eager_operand(op[i], m, IG_f32);
                k.dims[m] = shape[j][m];
            }
            check_call(p, &k);
        }
    ir_attr_reduce rows = {.op = IR_redop_sum, .axes = {1, {1}}}, columns = {.axes = {1, {0}}};
    check_call(p, &(call){OP_reduce, &rows, false, 1, {IG_f32}, {{2, {331, 303}}}});
    check_call(p, &(call){OP_reduce, &columns, false, 1, {IG_f32}, {{2, {331, 303}}}});
    ir_attr_ein dot = {0};
    char text[384];
    const char *rel = "y[m,n] += a[m,k]*b[n,k] over (k)";
    ck_assert_msg(ir_ein_parse(NULL, rel, strlen(rel), &dot.rel, text, sizeof text), "%s", text);
    check_call(p,
               &(call){OP_ein, &dot, false, 2, {IG_f32, IG_f32}, {{2, {97, 531}}, {2, {65, 531}}}});
    ck_assert_uint_eq(p->referred, before);
}

/* --- Suite ---------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(pair *p);
} subjects[] = {{"elementwise", elementwise},   {"reductions", reductions}, {"lines", lines},
                {"contractions", contractions}, {"long calls", long_calls}, {"movement", movement},
                {"windows", windows},           {"instances", instances}};
enum { SUBJECTS = sizeof subjects / sizeof *subjects };

START_TEST(as_the_reference) {
    for (const cg_eager_level *l = cg_eager_tab; l->name; l++) {
        if (!cg_cpu_runs_here(cg_cpu_find(l->name))) continue;
        pair p = open_pair(l);
        subjects[_i].run(&p);
        printf("kernels: %s %s: %llu calls by kernels, %llu by the reference\n", l->name,
               subjects[_i].name, (unsigned long long)p.served, (unsigned long long)p.referred);
        ck_assert_uint_gt(p.served, 20);
        close_pair(&p);
    }
}
END_TEST

/* IG_EAGER chooses; a class without a level is the reference's. */
START_TEST(sessions_choose) {
    if (!cg_eager_tab[0].name) return;
    ig_session *s = open_session("no such level", IR_CLASS_FMA);
    ck_assert_ptr_null(s->kernels);
    ig_session_free(s);
    for (const cg_eager_level *l = cg_eager_tab; l->name; l++) {
        ir_class other = cg_cpu_find(l->name)->class == IR_CLASS_FMA ? IR_CLASS_NOFMA
                                                                     : IR_CLASS_FMA;
        s = open_session(l->name, other);
        ck_assert_ptr_null(s->kernels);
        ig_session_free(s);
    }
    s = open_session("", IR_CLASS_NOFMA);
    const cg_eager_level *best = s->kernels;
    if (best) ck_assert_int_eq(cg_cpu_find(best->name)->class, IR_CLASS_NOFMA);
    ig_session_free(s);
}
END_TEST

/* Attributes and variants are each other's inverse. */
START_TEST(variants_are_numbers) {
    for (int op = 0; op < OP_END; op++)
        for (int v = 0; v < cg_eager_variants((ir_opcode)op); v++) {
            ir_attr_any attr;
            memset(&attr, 0, sizeof attr);
            cg_eager_set_variant((ir_opcode)op, v, &attr);
            ck_assert_int_eq(cg_eager_variant((ir_opcode)op, &attr), v);
        }
}
END_TEST

int main(void) {
    Suite *s = suite_create("kernels");
    TCase *t = tcase_create("kernels");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, variants_are_numbers);
    tcase_add_test(t, sessions_choose);
    tcase_add_loop_test(t, as_the_reference, 0, SUBJECTS);
    suite_add_tcase(s, t);
    return suite_run(s);
}
