/* test_verify.c - every invariant broken in memory, as a faulty pass would: the builder lets
 * none of these through. */
#include "hostile.h"
#include "ir/intern.h"
#include "ir/text.h"
#include "tests/unit/suite.h"

static ir_module *m;
static ir_func *f; /* @main */

/* A module in which everything that can be broken occurs once. */
static const char text[] =
    "module m {\n"
    "  dim B in 1..8\n"
    "  dim C in 1..8\n"
    "  weight @w : f32[2,2] = splat 1.0\n"
    "  weight @v : f32[2] = splat 1.0\n"
    "  cluster @g(%x: f32[B,2]) -> (f32[B,2]) {\n"
    "    %1 = neg %x\n"
    "    return %1\n"
    "  }\n"
    "  fn @main(%x: f32[B,2], %y: f32[B,2]) -> (f32[B,2]) {\n"
    "    %3 = add %x, %y\n"                                          /* op 0 */
    "    %4 = weight name=@w\n"                                      /* op 1 */
    "    %5 = ein %3, %4 rel=\"y[a,b] += a[a,c]*b[c,b] over (c)\"\n" /* op 2 */
    "    %6 = call %5 callee=@g\n"                                   /* op 3 */
    "    %7 = const type=f32[2] data=[1.0, 2.0]\n"                   /* op 4 */
    "    %8 = reduce %6 op=sum axes=[0]\n"                           /* op 5 */
    "    return %6\n"                                                /* op 6 */
    "  }\n"
    "  kernel @k(%p: bool[], %x: f32[], %n: i64[], %b: mem<f32>) -> () {\n"
    "    %5 = kif %p {\n" /* op 0, regions 1 and 2 */
    "      %6 = neg %x\n" /* op 1 */
    "      yield %6\n"    /* op 2 */
    "    } {\n"
    "      yield %x\n" /* op 3 */
    "    }\n"
    "    %8 = for %n, %n, %5 kind=seq step=1 (%i: i64[], %acc: f32[]) {\n" /* op 4, region 3 */
    "      %9 = add %acc, %x\n"                                            /* op 5 */
    "      yield %9\n"                                                     /* op 6 */
    "    }\n"
    "    store %b, %n, %8\n" /* op 7 */
    "    return\n"           /* op 8 */
    "  }\n"
    "  host @h() -> () {\n"
    "    return\n"
    "  }\n"
    "}\n";

static void setup(void) {
    ig_status s = ir_parse(ig_allocator_default(), "t", text, strlen(text), &m);
    ck_assert_msg(!s, "%s", ig_status_text(s));
    f = ir_find_func(m, "main");
    s = ir_verify(m);
    ck_assert_msg(!s, "%s", ig_status_text(s));
}

static void teardown(void) { ir_module_free(m); }

/* ir_verify reports `invariant` with these words, and ir_verify_func agrees where it can. */
static void expect(int invariant, const char *words) {
    char number[16];
    ig_status s = ir_verify(m);
    snprintf(number, sizeof number, "I%d: ", invariant);
    ck_assert_msg(s != NULL, "nothing is reported for I%d: %s", invariant, words);
    ck_assert_int_eq(ig_status_code(s), IG_INVALID);
    ck_assert_msg(strstr(ig_status_text(s), number), "I%d is not in:\n%s", invariant,
                  ig_status_text(s));
    ck_assert_msg(strstr(ig_status_text(s), words), "`%s` is not in:\n%s", words,
                  ig_status_text(s));
    ig_status_free(s);
    rt_str out; /* what is broken prints */
    rt_str_init(&out, ig_allocator_default());
    ir_print(m, &out, IR_PRINT_LOCS);
    rt_str_free(&out);
}

static ir_func *kernel(void) { return ir_find_func(m, "k"); }
static ir_op *op(ir_func *g, uint32_t i) { return &g->ops.data[i]; }
static ir_ref *in(ir_func *g, uint32_t i, uint32_t k) {
    return &g->operands.data[op(g, i)->in0 + k];
}
static void set_dtype(ir_func *g, uint32_t *type, ig_dtype dtype) {
    ir_type t = *g->module->types.data[*type];
    t.dtype = (uint8_t)dtype;
    *type = ir_intern_type(g->module, &t);
}
static ir_attr attr(ir_attr_kind kind, const void *a) { return ir_intern_attr(m, kind, a); }

START_TEST(i1_use_before_definition) {
    in(f, 0, 1)->i = op(f, 2)->out0;
    expect(1, "operand 1, %5, is not defined before");
}
END_TEST
START_TEST(i1_use_of_itself) {
    in(f, 0, 0)->i = op(f, 0)->out0;
    expect(1, "is not defined before");
}
END_TEST
START_TEST(i1_use_of_nothing) {
    in(f, 0, 0)->i = 0;
    expect(1, "%0, is not defined");
}
END_TEST
START_TEST(i1_use_beyond_the_table) {
    in(f, 0, 0)->i = 4000000;
    expect(1, "%4000000");
}
END_TEST
START_TEST(i1_use_from_another_region) {
    in(kernel(), 3, 0)->i =
        op(kernel(), 1)->out0; /* the else branch yields a value of the then branch */
    expect(1, "in a region that does not enclose the op");
}
END_TEST
START_TEST(i1_result_of_a_loop_inside_of_it) {
    in(kernel(), 5, 0)->i = op(kernel(), 4)->out0;
    expect(1, "is not defined before");
}
END_TEST
START_TEST(i1_operands_beyond_the_pool) {
    op(f, 0)->in0 = UINT32_MAX;
    expect(1, "beyond the tables");
}
END_TEST
START_TEST(i1_values_out_of_order) {
    op(f, 0)->out0++;
    expect(1, "in order of definition");
}
END_TEST
START_TEST(i1_value_with_a_wrong_definition) {
    f->values.data[op(f, 2)->out0].def = 0;
    expect(1, "another definition");
}
END_TEST
START_TEST(i2_wrong_type) {
    set_dtype(f, &f->values.data[op(f, 0)->out0].type, IG_f64);
    expect(2, "result 0 is f64[B,2], not f32[B,2]");
}
END_TEST
START_TEST(i2_operands_that_do_not_fit) {
    in(f, 0, 1)->i = 0;
    in(f, 0, 1)->i = ir_param_ref(f, 0).i;
    ir_type t = *ir_val_type(f, ir_param_ref(f, 0));
    t.dim[1] = 3;
    f->values.data[ir_param_ref(f, 0).i].type = ir_intern_type(m, &t);
    expect(2, "");
}
END_TEST
START_TEST(i2_number_of_results) {
    op(f, 5)->code = OP_barrier;
    op(f, 5)->attr = (ir_attr){0};
    expect(2, "");
}
END_TEST
START_TEST(i2_no_type) {
    ir_type t = *ir_val_type(f, (ir_ref){1});
    t.rank = 9;
    f->values.data[1].type = ir_intern_type(m, &t);
    expect(2, "parameter 0 is no type");
}
END_TEST
START_TEST(i2_type_beyond_the_table) {
    f->values.data[1].type = m->types.n;
    expect(2, "a type that the module does not hold");
}
END_TEST
START_TEST(i2_result_type_beyond_the_table) {
    m->funcs.data[0]->results.data[0] = UINT32_MAX;
    expect(8, "the signature of @g cannot be read");
}
END_TEST
START_TEST(i3_kernel_op_in_a_function) {
    op(f, 4)->code = OP_viota;
    op(f, 4)->attr = attr(ATTR_lanes, &(ir_attr_lanes){.lanes = 4});
    expect(3, "may not live in a fn");
}
END_TEST
START_TEST(i3_tensor_op_in_a_kernel) {
    kernel()->ops.data[5].code = OP_detach;
    expect(3, "may not live in a kernel");
}
END_TEST
START_TEST(i3_tensor_value_in_a_kernel) {
    ir_type t = ir_tensor_type(IG_f32, 1, (ir_dim[]){4});
    kernel()->values.data[2].type = ir_intern_type(m, &t);
    expect(3, "type of the other level");
}
END_TEST
START_TEST(i3_unknown_kind) {
    f->kind = (ir_func_kind)9;
    expect(3, "no known kind");
}
END_TEST
START_TEST(i4_operand_count) {
    op(f, 0)->nin = 1;
    expect(4, "has 1 operands; its row in the table says 2");
}
END_TEST
START_TEST(i4_attribute_kind) {
    op(f, 5)->attr = (ir_attr){0};
    expect(4, "attribute of kind none, not reduce");
}
END_TEST
START_TEST(i4_field_out_of_range) {
    op(f, 5)->attr = attr(ATTR_reduce, &(ir_attr_reduce){.op = 77});
    expect(4, "field op is outside its range");
}
END_TEST
START_TEST(i4_unknown_op) {
    op(f, 5)->code = OP_END + 3;
    expect(4, "there is no op with the code");
}
END_TEST
START_TEST(i5_region_without_yield) {
    kernel()->ops.data[2].code = OP_barrier;
    expect(5, "ends in yield");
}
END_TEST
START_TEST(i5_return_in_the_middle) {
    op(f, 1)->code = OP_return;
    expect(5, "is not the last of its region");
}
END_TEST
START_TEST(i5_empty_region) {
    kernel()->regions.data[1].end = kernel()->regions.data[1].first;
    expect(5, "region 1 is empty");
}
END_TEST
START_TEST(i5_regions_that_overlap) {
    kernel()->regions.data[2].first--;
    expect(5, "not nested");
}
END_TEST
START_TEST(i5_region_counts) {
    op(f, 0)->nregion = 1;
    expect(5, "has 1 regions");
}
END_TEST
START_TEST(i5_region_in_itself) {
    kernel()->regions.data[1].parent = 1;
    expect(5, "not nested");
}
END_TEST
START_TEST(i5_wrong_parent) {
    op(kernel(), 5)->parent = 0;
    expect(5, "does not lie in its region");
}
END_TEST
START_TEST(i5_return_of_too_few) {
    op(f, 6)->nin = 0;
    expect(5, "gives 0 values; the function promises 1");
}
END_TEST
START_TEST(i5_return_of_another_type) {
    set_dtype(f, &f->results.data[0], IG_i32);
    expect(5, "value 0 is f32[B,2], not i32[B,2]");
}
END_TEST
START_TEST(i5_yield_of_another_type) {
    in(kernel(), 3, 0)->i = 3; /* %n */
    expect(5, "value 0 is i64[], not f32[]");
}
END_TEST
START_TEST(i5_yield_of_too_many) {
    ir_func *k = kernel();
    op(k, 6)->nin = 0;
    expect(5, "gives 0 values; for has 1 results");
}
END_TEST
START_TEST(i5_loop_parameter) {
    ir_func *k = kernel();
    set_dtype(k, &k->values.data[k->regions.data[3].param0].type, IG_i32);
    expect(5, "loop parameter 0 is i32[], not i64[]");
}
END_TEST
START_TEST(i5_ops_behind_the_body) {
    f->regions.data[0].end--;
    expect(5, "");
}
END_TEST
START_TEST(i5_no_body) {
    f->ops.n = 0;
    expect(5, "no body");
}
END_TEST
START_TEST(i5_parameter_names) {
    f->param_names.n = 1;
    expect(5, "1 parameter names for 2 parameters");
}
END_TEST
START_TEST(i6_undeclared_symbol) {
    m->symbols.n = 0;
    expect(6, "undeclared symbol");
}
END_TEST
START_TEST(i6_range) {
    m->symbols.data[1].lo = 9;
    expect(6, "dim C has the range 9..8");
}
END_TEST
START_TEST(i6_negative) {
    m->symbols.data[1].lo = -1;
    expect(6, "dim C has the range -1..8");
}
END_TEST
START_TEST(i7_const_bytes) {
    float x[3] = {0};
    ir_attr_const a = {.type = ir_tensor_type(IG_f32, 1, (ir_dim[]){2}), .data = {x, 12}};
    op(f, 4)->attr = attr(ATTR_const, &a);
    expect(7, "12 bytes");
}
END_TEST
START_TEST(i7_const_nan) {
    uint32_t x[2] = {0, 0xffc00000};
    ir_attr_const a = {.type = ir_tensor_type(IG_f32, 1, (ir_dim[]){2}), .data = {x, 8}};
    op(f, 4)->attr = attr(ATTR_const, &a);
    expect(7, "element 1 is a NaN that is not canonical");
}
END_TEST
START_TEST(i7_const_bool) {
    uint8_t x[2] = {2, 1};
    ir_attr_const a = {.type = ir_tensor_type(IG_bool, 1, (ir_dim[]){2}), .data = {x, 2}};
    op(f, 4)->attr = attr(ATTR_const, &a);
    expect(7, "element 0 is a bool");
}
END_TEST
START_TEST(i7_weight_bytes) {
    m->weights.data[0].bytes = 4;
    expect(7, "weight @w has 4 bytes");
}
END_TEST
START_TEST(i8_no_callee) {
    op(f, 3)->attr = attr(ATTR_call, &(ir_attr_call){.callee = "nobody"});
    expect(8, "there is no function @nobody");
}
END_TEST
START_TEST(i8_calls_itself) {
    op(f, 3)->attr = attr(ATTR_call, &(ir_attr_call){.callee = "main"});
    expect(8, "@main calls itself");
}
END_TEST
/* Functions were exchanged or named anew: find them as they are now. */
static void find_anew(void) {
    ir_func *all[8];
    uint32_t n = m->funcs.n;
    ck_assert_uint_le(n, 8);
    memcpy(all, m->funcs.data, n * sizeof *all);
    m->funcs.n = m->intern->func_of.n = 0;
    for (uint32_t i = 0; i < n; i++) ck_assert(ir_add_func(m, all[i]));
}

START_TEST(i8_calls_a_later_function) {
    ir_func *g = m->funcs.data[0];
    m->funcs.data[0] = f;
    m->funcs.data[1] = g;
    find_anew();
    expect(8, "@g stands after its caller");
}
END_TEST
START_TEST(i8_calls_a_kernel) {
    ir_func *g = m->funcs.data[0];
    g->name = ir_intern_str(m, "was_g", 5);
    kernel()->name = ir_intern_str(m, "g", 1);
    find_anew();
    expect(8, "@g stands after its caller");
    op(f, 3)->code = OP_launch;
    expect(3, "may not live in a fn");
}
END_TEST
START_TEST(i8_signature) {
    ir_func *g = m->funcs.data[0];
    set_dtype(g, &g->values.data[1].type, IG_f64);
    expect(8, "f64[B,2]");
}
END_TEST
START_TEST(i8_signature_that_cannot_be_read) {
    m->funcs.data[0]->regions.data[0].nparam = 4000000000u;
    expect(8, "the signature of @g cannot be read");
}
END_TEST
START_TEST(i9_no_weight) {
    op(f, 1)->attr = attr(ATTR_sym, &(ir_attr_sym){.name = "z"});
    expect(9, "there is no weight @z");
}
END_TEST
START_TEST(i9_no_weight_name) {
    op(f, 1)->attr = attr(ATTR_sym, NULL);
    expect(9, "there is no weight @");
}
END_TEST
START_TEST(i9_two_weights) {
    m->weights.data[1].name = m->weights.data[0].name;
    expect(9, "two weights are called w");
}
END_TEST
START_TEST(i9_two_functions) {
    f->name = m->funcs.data[0]->name;
    expect(9, "two functions are called g");
}
END_TEST
START_TEST(i9_two_symbols) {
    m->symbols.data[1].name = m->symbols.data[0].name;
    expect(9, "two dims are called B");
}
END_TEST
START_TEST(i9_symbol_name) {
    m->symbols.data[1].name = ir_intern_str(m, "a b", 3);
    expect(9, "not an identifier");
}
END_TEST
START_TEST(i10_unbound_variable) {
    ir_attr_ein a = *(const ir_attr_ein *)ir_attr_get(m, op(f, 2)->attr);
    a.rel.out.a[1] = 5;
    op(f, 2)->attr = attr(ATTR_ein, &a);
    expect(10, "");
}
END_TEST
START_TEST(i10_order) {
    ir_attr_ein a = *(const ir_attr_ein *)ir_attr_get(m, op(f, 2)->attr);
    a.rel.norder = 0;
    op(f, 2)->attr = attr(ATTR_ein, &a);
    expect(10, "");
}
END_TEST
START_TEST(i10_any_bytes) {
    uint64_t seed = 7;
    for (int round = 0; round < 2000; round++) {
        ir_attr_ein a = *(const ir_attr_ein *)ir_attr_get(m, op(f, 2)->attr);
        for (int k = 0; k < 3; k++)
            ((uint8_t *)&a)[hostile_random(&seed) % sizeof a.rel] =
                (uint8_t)(hostile_random(&seed) % 19);
        ir_attr kept = op(f, 2)->attr;
        op(f, 2)->attr = attr(ATTR_ein, &a);
        ig_status_free(ir_verify(m)); /* must not crash */
        op(f, 2)->attr = kept;
    }
}
END_TEST

/* One defect, one line; many defects, at most twenty and a count. */
START_TEST(violations_are_collected) {
    ig_status s;
    in(f, 0, 1)->i = 0;
    s = ir_verify(m);
    ck_assert_msg(s && !strchr(ig_status_text(s), '\n'), "%s", ig_status_text(s));
    ig_status_free(s);
    set_dtype(f, &f->results.data[0], IG_i32);
    m->symbols.data[1].lo = 9;
    s = ir_verify(m);
    ck_assert(s && strstr(ig_status_text(s), "I1: ") && strstr(ig_status_text(s), "I5: ") &&
              strstr(ig_status_text(s), "I6: "));
    ig_status_free(s);
    for (int i = 0; i < 40; i++) {
        char name[16];
        snprintf(name, sizeof name, "S%d", i);
        ir_add_symbol(m, name, 0, 1);
        m->symbols.data[m->symbols.n - 1].hi = -1;
    }
    s = ir_verify(m);
    int lines = 1;
    for (const char *c = ig_status_text(s); *c; c++) lines += *c == '\n';
    ck_assert_int_eq(lines, 21);
    ck_assert(strstr(ig_status_text(s), "and 23 more"));
    ig_status_free(s);
}
END_TEST

START_TEST(one_function_alone) {
    ck_assert_ptr_null(ir_verify_func(f));
    in(f, 0, 1)->i = 0;
    ig_status s = ir_verify_func(f);
    ck_assert(s && strstr(ig_status_text(s), "I1: @main op 0 add"));
    ig_status_free(s);
    ck_assert_ptr_null(ir_verify_func(kernel()));
}
END_TEST

START_TEST(the_place_is_named) {
    op(f, 0)->loc = ir_intern_loc(m, "mlp.c", 12);
    in(f, 0, 1)->i = 0;
    expect(1, "I1: @main op 0 add at mlp.c:12: ");
}
END_TEST

/* --- I11 -------------------------------------------------------------------------------------- */

static const char flow_text[] =
    "module m {\n"
    "  fn @f(%p: bool[], %h: f32[2], %x: f32[4,3], %z: f64[2]) -> (f32[2], f32[4,3]) {\n"
    "    %1, %2 = scan %h, %x n=4 carries=1 reverse=false (%t: i64[], %c: f32[2], %s: f32[3]) {\n"
    "      yield %c, %s\n" /* op 1, region 1 */
    "    }\n"
    "    %3 = while %1 cap=9 (%c: f32[2]) {\n" /* op 2, regions 2 and 3 */
    "      yield %p\n"                         /* op 3 */
    "    } (%c: f32[2]) {\n"
    "      yield %c\n" /* op 4 */
    "    }\n"
    "    %4 = if %p n=2 {\n" /* op 5, regions 4 and 5 */
    "      yield %h\n"       /* op 6 */
    "    } {\n"
    "      yield %3\n" /* op 7 */
    "    }\n"
    "    return %4, %2\n"
    "  }\n"
    "}\n";

static void flow_setup(void) {
    ig_status s = ir_parse(ig_allocator_default(), "t", flow_text, strlen(flow_text), &m);
    ck_assert_msg(!s, "%s", ig_status_text(s));
    f = ir_find_func(m, "f");
    s = ir_verify(m);
    ck_assert_msg(!s, "%s", ig_status_text(s));
}

static ir_ref *flow_operand(uint32_t op, uint32_t k) {
    return &f->operands.data[f->ops.data[op].in0 + k];
}

START_TEST(flow_scan_carry) {
    *flow_operand(1, 0) = (ir_ref){f->regions.data[1].param0}; /* the step */
    expect(11, "carried value 0 is i64[], not f32[2]");
}
END_TEST
START_TEST(flow_scan_element) {
    *flow_operand(1, 1) = *flow_operand(1, 0);
    expect(11, "a result is f32[4,3], not f32[4,2]");
}
END_TEST
START_TEST(flow_scan_slice) {
    *flow_operand(0, 1) = ir_param_ref(f, 1);
    expect(2, "operand 1 is f32[2]");
}
END_TEST
START_TEST(flow_scan_parameter) {
    f->values.data[f->regions.data[1].param0 + 2].type = f->values.data[ir_param_ref(f, 1).i].type;
    expect(11, "region parameter 2 is f32[2], not f32[3]");
}
END_TEST
START_TEST(flow_while_condition) {
    *flow_operand(3, 0) = (ir_ref){f->regions.data[2].param0};
    expect(11, "the condition's value 0 is f32[2], not bool[]");
}
END_TEST
START_TEST(flow_while_carry) {
    *flow_operand(4, 0) = ir_param_ref(f, 3);
    expect(11, "carried value 0 is f64[2], not f32[2]");
}
END_TEST
START_TEST(flow_if_branch) {
    *flow_operand(7, 0) = ir_param_ref(f, 3);
    expect(11, "a later region's value 0 is f64[2], not f32[2]");
}
END_TEST
START_TEST(flow_if_result) {
    f->values.data[f->ops.data[5].out0].type = f->values.data[ir_param_ref(f, 3).i].type;
    expect(11, "a result is f64[2], not f32[2]");
}
END_TEST
START_TEST(flow_operand_out_of_range) {
    *flow_operand(7, 0) = (ir_ref){9999};
    expect(1, "%9999");
}
END_TEST

/* Regions nest as deep as they may, and no deeper; what nests so deep is too deep to compile, and
 * says so. */
START_TEST(flow_nests) {
    for (int depth = IR_MAX_NEST; depth <= IR_MAX_NEST + 1; depth++) {
        rt_str s;
        ir_module *deep;
        rt_str_init(&s, ig_allocator_default());
        rt_str_puts(&s, "module m {\n  fn @f(%p: bool[], %x: f32[]) -> (f32[]) {\n");
        for (int i = 0; i < depth; i++) rt_str_printf(&s, "%%r%d = if %%p n=2 {\n", i);
        for (int i = depth; i-- > 0;) {
            rt_str_puts(&s, "yield %");
            if (i + 1 < depth)
                rt_str_printf(&s, "r%d", i + 1);
            else
                rt_str_puts(&s, "x");
            rt_str_puts(&s, "\n} {\nyield %x\n}\n");
        }
        rt_str_puts(&s, "return %r0\n}\n}\n");
        ig_status e = ir_parse(ig_allocator_default(), "deep", rt_str_text(&s), s.n, &deep);
        ck_assert_int_eq(e != NULL, depth > IR_MAX_NEST);
        if (!e) e = ir_verify(deep), ck_assert(!e);
        ig_status_free(e);
        ir_module_free(deep);
        rt_str_free(&s);
    }
}
END_TEST

int main(void) {
    const TTest *const tests[] = {i1_use_before_definition,
                                  i1_use_of_itself,
                                  i1_use_of_nothing,
                                  i1_use_beyond_the_table,
                                  i1_use_from_another_region,
                                  i1_result_of_a_loop_inside_of_it,
                                  i1_operands_beyond_the_pool,
                                  i1_values_out_of_order,
                                  i1_value_with_a_wrong_definition,
                                  i2_wrong_type,
                                  i2_operands_that_do_not_fit,
                                  i2_number_of_results,
                                  i2_no_type,
                                  i2_type_beyond_the_table,
                                  i2_result_type_beyond_the_table,
                                  i3_kernel_op_in_a_function,
                                  i3_tensor_op_in_a_kernel,
                                  i3_tensor_value_in_a_kernel,
                                  i3_unknown_kind,
                                  i4_operand_count,
                                  i4_attribute_kind,
                                  i4_field_out_of_range,
                                  i4_unknown_op,
                                  i5_region_without_yield,
                                  i5_return_in_the_middle,
                                  i5_empty_region,
                                  i5_regions_that_overlap,
                                  i5_region_counts,
                                  i5_region_in_itself,
                                  i5_wrong_parent,
                                  i5_return_of_too_few,
                                  i5_return_of_another_type,
                                  i5_yield_of_another_type,
                                  i5_yield_of_too_many,
                                  i5_loop_parameter,
                                  i5_ops_behind_the_body,
                                  i5_no_body,
                                  i5_parameter_names,
                                  i6_undeclared_symbol,
                                  i6_range,
                                  i6_negative,
                                  i7_const_bytes,
                                  i7_const_nan,
                                  i7_const_bool,
                                  i7_weight_bytes,
                                  i8_no_callee,
                                  i8_calls_itself,
                                  i8_calls_a_later_function,
                                  i8_calls_a_kernel,
                                  i8_signature,
                                  i8_signature_that_cannot_be_read,
                                  i9_no_weight,
                                  i9_no_weight_name,
                                  i9_two_weights,
                                  i9_two_functions,
                                  i9_two_symbols,
                                  i9_symbol_name,
                                  i10_unbound_variable,
                                  i10_order,
                                  i10_any_bytes,
                                  violations_are_collected,
                                  one_function_alone,
                                  the_place_is_named};
    Suite *s = suite_create("verify");
    TCase *t = tcase_create("verify");
    tcase_add_checked_fixture(t, setup, teardown);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) tcase_add_test(t, tests[i]);
    suite_add_tcase(s, t);
    t = tcase_create("flow");
    tcase_add_checked_fixture(t, flow_setup, teardown);
    tcase_add_test(t, flow_scan_carry);
    tcase_add_test(t, flow_scan_element);
    tcase_add_test(t, flow_scan_slice);
    tcase_add_test(t, flow_scan_parameter);
    tcase_add_test(t, flow_while_condition);
    tcase_add_test(t, flow_while_carry);
    tcase_add_test(t, flow_if_branch);
    tcase_add_test(t, flow_if_result);
    tcase_add_test(t, flow_operand_out_of_range);
    tcase_add_test(t, flow_nests);
    suite_add_tcase(s, t);
    return suite_run(s);
}
