/* ref_dims.c - bind a module's dim symbols from the shapes of real arguments.
 *
 * A dim that is one unknown symbol, or a linear form in one (2*B+1), determines it; every other dim
 * is checked once its symbols are known.  Dims are visited until nothing new is learnt, so that
 * their order does not matter. */
#include "ir/ref.h"

#include <string.h>

enum { BIND_UNKNOWN = -1 }; /* the value of a symbol that is not known yet */

typedef struct bind_run {
    const ir_func *f;
    const ig_allocator *alloc;
    int64_t *symbols;
    RT_VEC(ir_dim) stack; /* of dims still to look into */
    bool no_memory;
} bind_run;

/* Whether the dim mentions symbol `sym`, or any unknown one when sym is UINT32_MAX. */
static bool bind_mentions(bind_run *b, ir_dim d, uint32_t sym) {
    const ir_dim_term *term;
    b->stack.n = 0;
    if (!rt_vec_push(b->alloc, &b->stack, d)) return b->no_memory = true;
    while (b->stack.n) {
        ir_dim top = b->stack.data[--b->stack.n];
        uint32_t n = ir_dim_is_const(top) ? 0 : ir_dim_terms(b->f->module, top, &term);
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t k = 0; k < term[i].natom; k++) {
                const ir_dim_atom *x = term[i].atom[k];
                if (x->kind == DIM_SYM) {
                    bool unknown = b->symbols[x->sym] == BIND_UNKNOWN;
                    if (sym == UINT32_MAX ? unknown : x->sym == sym) return true;
                } else if (!rt_vec_push(b->alloc, &b->stack, x->a) ||
                           !rt_vec_push(b->alloc, &b->stack, x->b)) {
                    return b->no_memory = true;
                }
            }
    }
    return false;
}

/* The only unknown symbol of a dim that is linear in it, and its coefficient; UINT32_MAX when there
 * is no such. */
static uint32_t bind_linear(bind_run *b, ir_dim d, int64_t *coef_) {
    const ir_dim_term *term;
    uint32_t n = ir_dim_terms(b->f->module, d, &term), found = UINT32_MAX;
    for (uint32_t i = 0; i < n; i++) {
        const ir_dim_atom *x = term[i].natom == 1 ? term[i].atom[0] : NULL;
        if (!x || x->kind != DIM_SYM || b->symbols[x->sym] != BIND_UNKNOWN) continue;
        if (found != UINT32_MAX) return UINT32_MAX;
        found = x->sym;
        *coef_ = term[i].coef;
    }
    if (found == UINT32_MAX) return found;
    b->symbols[found] = 0; /* nothing else may be unknown, and the symbol may occur only there */
    bool other = bind_mentions(b, d, UINT32_MAX);
    b->symbols[found] = BIND_UNKNOWN;
    for (uint32_t i = 0, seen = 0; i < n && !other; i++)
        for (uint32_t k = 0; k < term[i].natom; k++) {
            const ir_dim_atom *x = term[i].atom[k];
            if (x->kind == DIM_SYM)
                other = other || (x->sym == found && seen++);
            else
                other = other || bind_mentions(b, x->a, found) || bind_mentions(b, x->b, found);
        }
    return other ? UINT32_MAX : found;
}

/* Solve d = value for the symbol: one evaluation at a point where d is defined gives the constant
 * part. */
static bool bind_solve(bind_run *b, ir_dim d, int64_t value, uint32_t sym, int64_t coef) {
    const ir_symbol *s = &b->f->module->symbols.data[sym];
    const int64_t point[] = {s->lo, s->hi, s->hi < INT32_MAX ? s->hi : INT32_MAX};
    for (size_t i = 0; i < sizeof point / sizeof *point; i++) {
        int64_t there, away, x;
        b->symbols[sym] = point[i];
        bool ok = ir_dim_eval(b->f->module, d, b->symbols, &there);
        b->symbols[sym] = BIND_UNKNOWN;
        if (!ok || __builtin_sub_overflow(value, there, &away) || away % coef) continue;
        if (__builtin_add_overflow(point[i], away / coef, &x) || x < 0) continue;
        b->symbols[sym] = x;
        return true;
    }
    return false;
}

static ig_status bind_fail(bind_run *b, uint32_t k, int i, int64_t have, const char *what, ir_dim d,
                           int64_t want) {
    const ir_func *f = b->f;
    const char *name = k < f->param_names.n && f->param_names.data[k] ? f->param_names.data[k] : "";
    rt_str text;
    rt_str_init(&text, b->alloc);
    if (!ir_dim_is_const(d)) {
        rt_str_puts(&text, " but ");
        ir_dim_print(f->module, d, &text);
        rt_str_puts(&text, " is ");
    } else {
        rt_str_puts(&text, ", not ");
    }
    ig_status s = rt_fail(b->alloc, IG_SHAPE, "%s: argument %u%s%s: dim %d is %lld%s%s%lld",
                          f->name, k, *name ? " %" : "", name, i, (long long)have,
                          rt_str_text(&text), what, (long long)want);
    rt_str_free(&text);
    return s;
}

/* Visit one dim of one argument: learn a symbol, check, or put off (*open_). */
static ig_status bind_dim(bind_run *b, uint32_t k, int i, ir_dim d, int64_t have, bool *learnt_,
                          bool *open_) {
    const ir_module *m = b->f->module;
    int64_t coef = 1, value;
    uint32_t sym;
    if (!ir_dim_is_const(d) && bind_mentions(b, d, UINT32_MAX)) {
        sym = bind_linear(b, d, &coef);
        if (sym == UINT32_MAX || !bind_solve(b, d, have, sym, coef)) return *open_ = true, NULL;
        *learnt_ = true;
        const ir_symbol *s = &m->symbols.data[sym];
        if (b->symbols[sym] < s->lo) return bind_fail(b, k, i, have, "at least ", d, s->lo);
        if (b->symbols[sym] > s->hi) return bind_fail(b, k, i, have, "at most ", d, s->hi);
    }
    if (!ir_dim_eval(m, d, b->symbols, &value)) value = -1;
    return value == have ? NULL : bind_fail(b, k, i, have, "", d, value);
}

static ig_status bind_check_arg(bind_run *b, uint32_t k, const ir_tensor *x) {
    const ir_func *f = b->f;
    const ir_type *t = ir_val_type(f, ir_param_ref(f, k));
    if (x->dtype != t->dtype)
        return rt_fail(b->alloc, IG_DTYPE, "%s: argument %u is %s, not %s", f->name, k,
                       ig_dtype_name((ig_dtype)x->dtype), ig_dtype_name((ig_dtype)t->dtype));
    if (x->rank != t->rank)
        return rt_fail(b->alloc, IG_SHAPE, "%s: argument %u has rank %d, not %d", f->name, k,
                       x->rank, t->rank);
    return NULL;
}

/* Whether the function mentions a symbol: in a type, or in the dims of an attribute. */
static bool bind_uses(bind_run *b, uint32_t sym) {
    const ir_func *f = b->f;
    for (uint32_t v = 1; v < f->values.n; v++)
        for (int i = 0; i < ir_val_type(f, (ir_ref){v})->rank; i++)
            if (bind_mentions(b, ir_val_type(f, (ir_ref){v})->dim[i], sym)) return true;
    for (uint32_t o = 0; o < f->ops.n; o++) {
        ir_attr attr = f->ops.data[o].attr;
        const ir_attr_info *info = &ir_attr_tab[ir_attr_kind_of(f->module, attr)];
        char *at = (char *)(uintptr_t)ir_attr_get(f->module, attr); /* read only */
        for (uint32_t i = 0; i < info->nfield; i++) {
            int n;
            const ir_dim *d = ir_dims_in(info->field[i].kind, at + info->field[i].offset, &n);
            for (int k = 0; k < n; k++)
                if (bind_mentions(b, d[k], sym)) return true;
        }
    }
    return false;
}

/* Learn what the arguments tell until nothing new comes. */
static ig_status bind_args(bind_run *b, int nin, const ir_tensor *in) {
    for (bool learnt = true, open = true; learnt && open;) {
        learnt = open = false;
        for (int k = 0; k < nin; k++) {
            const ir_type *t = ir_val_type(b->f, ir_param_ref(b->f, (uint32_t)k));
            for (int i = 0; i < t->rank; i++) {
                if (t->dim[i] == in[k].dim[i]) continue; /* a constant, and right */
                RT_TRY(bind_dim(b, (uint32_t)k, i, t->dim[i], in[k].dim[i], &learnt, &open));
                if (b->no_memory) return rt_fail_memory();
            }
        }
    }
    return NULL;
}

ig_status ir_bind_dims(const ir_func *f, int nin, const ir_tensor *in, int64_t *symbols_) {
    const ir_module *m = f->module;
    bind_run b = {.f = f, .alloc = m->alloc, .symbols = symbols_};
    if (nin != (int)ir_nparam(f))
        return rt_fail(m->alloc, IG_INVALID, "%s takes %u arguments, not %d", f->name, ir_nparam(f),
                       nin);
    for (uint32_t i = 0; i < m->symbols.n; i++) symbols_[i] = BIND_UNKNOWN;
    for (int k = 0; k < nin; k++) RT_TRY(bind_check_arg(&b, (uint32_t)k, &in[k]));
    ig_status s = bind_args(&b, nin, in);
    for (uint32_t i = 0; i < m->symbols.n && !s; i++) {
        if (symbols_[i] != BIND_UNKNOWN) continue;
        if (bind_uses(&b, i)) /* true also when memory is out */
            s = b.no_memory ? rt_fail_memory()
                            : rt_fail(m->alloc, IG_SHAPE,
                                      "%s: no argument determines the dim %s, or none fits it",
                                      f->name, m->symbols.data[i].name);
        symbols_[i] = m->symbols.data[i].lo;
    }
    rt_vec_free(m->alloc, &b.stack);
    return s;
}
