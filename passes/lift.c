/* lift.c - weights become arguments: (x..) -> (y..) is (x.., w..) -> (y..).
 *
 * A module is a function with its weights.  Who trains them has them outside, and gives them at
 * every call.  Values and derivatives keep their bits: a weight is read where it was read. */
#include "passes/derive.h"
#include "passes/pass.h"

typedef struct lift {
    const ir_func *f;
    pass_wrt of; /* weights, in the order of the arguments they become */
    ir_builder b;
    ir_ref *map;   /* values of f -> of the copy */
    ir_ref *param; /* by number of weight: the argument it becomes, or 0 */
} lift;

static void lift_params(lift *l, uint32_t from, uint32_t to) {
    for (uint32_t k = from; k < to; k++) {
        ir_ref p = ir_param_ref(l->f, k);
        ir_type t = ir_import_type(l->b.m, l->f->module, *ir_val_type(l->f, p));
        l->map[p.i] = ir_param(&l->b, t, l->f->param_names.data[k]);
    }
}

static void lift_weights(lift *l) {
    for (uint32_t k = 0; k < l->of.n; k++)
        l->param[l->of.data[k] & ~PASS_WRT_WEIGHT] =
            ir_param(&l->b, pass_wrt_type(l->f->module, l->of.data[k]), NULL);
}

/* The argument that an op of f has become, or 0. */
static ir_ref lift_argument(const lift *l, const ir_op *o) {
    const ir_module *m = l->f->module;
    if (o->code != OP_weight) return (ir_ref){0};
    const ir_weight *w = ir_find_weight(m, ((const ir_attr_sym *)ir_attr_get(m, o->attr))->name);
    return l->param[w - m->weights.data];
}

static ig_status lift_body(lift *l) {
    const ir_func *f = l->f;
    uint32_t plain = ir_nparam(f) - f->module->nstate;
    lift_params(l, 0, plain);
    lift_weights(l);
    lift_params(l, plain, ir_nparam(f));
    for (uint32_t i = 0; i + 1 < f->ops.n && !l->b.error; i++) {
        const ir_op *o = &f->ops.data[i];
        ir_ref argument = lift_argument(l, o);
        if (argument.i)
            l->map[o->out0] = argument;
        else if (!o->parent)
            ir_copy_op(&l->b, f, i, l->map);
    }
    ig_status s = pass_end(&l->b, f, l->map);
    l->map = NULL;
    return s;
}

static ig_status lift_build(lift *l, const ir_module *flat, ir_module **out_) {
    const ig_allocator *a = flat->alloc;
    size_t values = l->f->values.n * sizeof *l->map,
           weights = (flat->weights.n + 1u) * sizeof *l->param;
    pass_made made;
    RT_TRY(pass_begin_more(flat, "lift", &made, &l->b));
    l->map = rt_alloc_zero(a, values);
    l->param = rt_alloc_zero(a, weights);
    ig_status s = NULL;
    if (l->map && l->param) {
        s = lift_body(l);
    } else {
        ir_build_abort(&l->b);
        s = rt_fail_memory();
    }
    rt_free(a, l->map, values);
    rt_free(a, l->param, weights);
    return pass_finish(&made, s, out_);
}

ig_status pass_lift(const ir_module *in, const char *of, ir_module **out_) {
    ir_module *flat;
    lift l = {0};
    *out_ = NULL;
    RT_TRY(pass_flatten(in, &flat));
    ig_status s = pass_wrt_read(flat, of ? of : "@*", &l.of);
    for (uint32_t k = 0; !s && k < l.of.n; k++)
        if (!(l.of.data[k] & PASS_WRT_WEIGHT))
            s = rt_fail(flat->alloc, IG_INVALID, "argument %u is an argument already: name weights",
                        l.of.data[k]);
    l.f = ir_entry(flat);
    if (!s) s = lift_build(&l, flat, out_);
    rt_vec_free(flat->alloc, &l.of);
    ir_module_free(flat);
    return s;
}
