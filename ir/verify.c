/* verify.c - the invariants of ir.h, all violations in one status.
 *
 * Order of work: the module's tables; then each function in three steps.  (1) Structure: every
 * index in range, regions a proper nesting of the op sequence, values defined once in order of
 * definition.  A function that fails here is not looked at further, because nothing in it can be
 * followed safely.  (2) Each op: level, arity, attribute, operands in scope.  (3) Each op whose
 * parts are sound: the type rule, regions, constants, callees.  So one defect gives one line, not
 * a cascade.  Text and files cannot express every violation (the builder refuses most), passes
 * that patch can.
 *
 * Beyond the letter of ir.h: regions nest at most IR_MAX_NEST deep (I5); a callee stands before
 * its callers, which excludes recursion and lets text and files be read in one pass (I8); symbol
 * names are identifiers (I9).
 *
 * Not checked: attribute and location handles and interned pointers (only the module's own tables
 * make them); that a polynomial dim is >= 0 for all values of its symbols (entry checks do that);
 * bounds of loads and stores; contents of weights (readers check them once); dead or duplicate ops
 * (they are legal); that `places` do not overlap. */
#include "ir/text.h"
#include "runtime/base/hash.h"
#include <stdio.h>
#include <string.h>

#define VERIFY_MOST 20 /* violations reported; more are counted */

typedef struct verifier {
    const ig_allocator *alloc;
    ir_module *m; /* only dims are added, by type rules */
    const ir_func *f;
    uint32_t fnumber; /* of f in the module, or UINT32_MAX when it is not in it */
    uint32_t op;      /* being checked, or UINT32_MAX */
    uint32_t bad;     /* violations so far */
    rt_str report;
    bool no_memory;
    uint32_t *home;   /* region of each value once it is defined, + 1 */
    bool *open;       /* by region: encloses the current op */
    ir_type *types;   /* operand types of one op */
    uint32_t most_in; /* room in types */
} verifier;

/* --- Reporting -------------------------------------------------------------------------------- */

/* Report a violation of invariant `inv`. */
IG_PRINTF(3, 4)
static void verify_bad(verifier *v, int inv, const char *fmt, ...) {
    rt_str *s = &v->report;
    va_list ap;
    if (v->bad++ >= VERIFY_MOST) return;
    if (s->n) rt_str_puts(s, "\n");
    rt_str_printf(s, "I%d: ", inv);
    if (v->f) rt_str_printf(s, "@%s", v->f->name ? v->f->name : "?");
    if (v->f && v->op < v->f->ops.n) {
        const ir_op *o = &v->f->ops.data[v->op];
        ir_loc_rec loc = ir_loc_get(v->m, o->loc);
        rt_str_printf(s, " op %u", v->op);
        if (o->code < OP_END) rt_str_printf(s, " %s", ir_op_tab[o->code].name);
        if (loc.file) rt_str_printf(s, " at %s:%u", loc.file, loc.line);
    }
    if (v->f) rt_str_puts(s, ": ");
    va_start(ap, fmt);
    rt_str_vprintf(s, fmt, ap);
    va_end(ap);
}

/* Report `what` followed by two types. */
static void verify_bad_types(verifier *v, int inv, const char *what, const ir_type *is,
                             const ir_type *want) {
    rt_str s;
    rt_str_init(&s, v->alloc);
    ir_type_print(v->m, is, &s);
    rt_str_puts(&s, ", not ");
    ir_type_print(v->m, want, &s);
    verify_bad(v, inv, "%s is %s", what, rt_str_text(&s));
    if (s.failed) v->no_memory = true;
    rt_str_free(&s);
}

/* --- Dims and types --------------------------------------------------------------------------- */

/* Whether every symbol of a dim is declared; explicit stack, as dims nest. */
static bool verify_dim(const verifier *v, ir_dim d) {
    ir_dim stack[2 * IR_MAX_NEST + 2];
    int n = 0;
    stack[n++] = d;
    while (n) {
        const ir_dim_term *term;
        d = stack[--n];
        if (d == IR_DIM_BAD) return false;
        if (ir_dim_is_const(d)) continue;
        uint32_t nterm = ir_dim_terms(v->m, d, &term);
        if (!nterm) return false;
        for (uint32_t i = 0; i < nterm; i++)
            for (uint32_t k = 0; k < term[i].natom; k++) {
                const ir_dim_atom *a = term[i].atom[k];
                if (a->kind == DIM_SYM) {
                    if (a->sym >= v->m->symbols.n) return false;
                    continue;
                }
                if (n + 2 > (int)(sizeof stack / sizeof stack[0])) return true;
                stack[n++] = a->a;
                stack[n++] = a->b;
            }
    }
    return true;
}

/* Whether a type is one at all; says what is wrong with it. */
static bool verify_type(verifier *v, const ir_type *t, const char *what) {
    if (t->dtype == IG_NONE || t->dtype >= IG_DTYPE_END || t->rank > IG_MAX_RANK || t->mem > 1 ||
        ((t->lanes || t->mem) && t->rank) || (t->lanes && t->mem)) {
        verify_bad(v, 2, "%s is no type", what);
        return false;
    }
    for (int i = 0; i < t->rank; i++)
        if (!verify_dim(v, t->dim[i])) {
            verify_bad(v, 6, "%s has a dim over an undeclared symbol in axis %d", what, i);
            return false;
        }
    return true;
}

/* Tensor functions hold tensors; kernels and host programs scalars, vectors and memory. */
static bool verify_type_level(verifier *v, const ir_type *t, const char *what) {
    bool tensor = v->f->kind == IR_FN || v->f->kind == IR_CLUSTER;
    if (!verify_type(v, t, what)) return false;
    if (tensor ? !t->lanes && !t->mem : !t->rank) return true;
    verify_bad(v, 3, "%s has a type of the other level", what);
    return false;
}

/* --- Structure (I1, I5) ----------------------------------------------------------------------- */

/* Every value and result has a type of the module. */
static bool verify_type_numbers(verifier *v) {
    const ir_func *f = v->f;
    bool sound = true;
    for (uint32_t i = 0; i < f->values.n && sound; i++)
        sound = f->values.data[i].type < v->m->types.n;
    for (uint32_t i = 0; i < f->results.n && sound; i++) sound = f->results.data[i] < v->m->types.n;
    if (!sound) verify_bad(v, 2, "a value has a type that the module does not hold");
    return sound;
}

/* Every index of every op and region is in range. */
static bool verify_ranges(verifier *v) {
    const ir_func *f = v->f;
    if (!f->regions.n || !f->values.n || !f->ops.n) {
        verify_bad(v, 5, "the function has no body");
        return false;
    }
    for (uint32_t i = 0; i < f->ops.n; i++) {
        const ir_op *o = &f->ops.data[i];
        v->op = i;
        if (o->code >= OP_END)
            verify_bad(v, 4, "there is no op with the code %u", o->code);
        else if (ir_attr_kind_of(v->m, o->attr) != ir_op_tab[o->code].attr &&
                 ir_has_regions((ir_opcode)o->code))
            verify_bad(v, 4, "has an attribute of another kind");
        else if (o->nregion != ir_region_count((ir_opcode)o->code, ir_attr_get(v->m, o->attr)))
            verify_bad(v, 5, "has %u regions", o->nregion);
        else if ((uint64_t)o->in0 + o->nin > f->operands.n || o->parent >= f->regions.n ||
                 (o->nout && (uint64_t)o->out0 + o->nout > f->values.n) ||
                 (o->nregion && (uint64_t)o->region0 + o->nregion > f->regions.n))
            verify_bad(v, 1, "refers beyond the tables of its function");
        else
            continue;
        return false;
    }
    v->op = UINT32_MAX;
    if (!verify_type_numbers(v)) return false;
    for (uint32_t i = 0; i < f->regions.n; i++) {
        const ir_region *r = &f->regions.data[i];
        if (r->first < r->end && r->end <= f->ops.n &&
            (uint64_t)r->param0 + r->nparam <= f->values.n && r->parent < f->regions.n &&
            (i == 0 || r->op < f->ops.n))
            continue;
        verify_bad(v, 5, "region %u is empty or refers beyond the tables of its function", i);
        return false;
    }
    return true;
}

typedef struct verify_frame {
    uint32_t region, op;
    int k;
} verify_frame;

/* The walk over the ops of a function in which every region is entered once. */
typedef struct verify_walk {
    verify_frame frame[IR_MAX_NEST + 1];
    int n;
    uint32_t value;   /* the next value to be defined */
    uint32_t regions; /* entered */
} verify_walk;

/* Values [first, first + n) are the next ones and know their definition. */
static bool verify_define(verifier *v, verify_walk *w, uint32_t first, uint32_t n, uint32_t def,
                          bool param) {
    if (n && first != w->value) {
        verify_bad(v, 1, "values are not numbered in order of definition: %%%u where %%%u is due",
                   first, w->value);
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        const ir_value *x = &v->f->values.data[first + i];
        if (x->def == def && x->index == i && x->is_param == param) continue;
        verify_bad(v, 1, "value %%%u names another definition than its own", first + i);
        return false;
    }
    w->value += n;
    return true;
}

/* Enter region k of the op that owns it, whose first op must be `at`. */
static bool verify_enter(verifier *v, verify_walk *w, uint32_t op, int k, uint32_t at) {
    uint32_t number = op == UINT32_MAX ? 0 : v->f->ops.data[op].region0 + (uint32_t)k;
    const ir_region *r = &v->f->regions.data[number];
    uint32_t parent = w->n ? w->frame[w->n - 1].region : 0;
    if (r->first != at || r->parent != parent ||
        (w->n && (r->op != op || number == 0 || r->end > v->f->regions.data[parent].end))) {
        verify_bad(v, 5, "region %u is not nested in its parent", number);
        return false;
    }
    if (w->n > IR_MAX_NEST) {
        verify_bad(v, 5, "regions nest deeper than %d", IR_MAX_NEST);
        return false;
    }
    w->frame[w->n++] = (verify_frame){number, op, k};
    w->regions++;
    return verify_define(v, w, r->param0, r->nparam, number, true);
}

/* Leave all regions that end after op i; results of their ops are defined then. */
static bool verify_leave(verifier *v, verify_walk *w, uint32_t i) {
    while (w->n && v->f->regions.data[w->frame[w->n - 1].region].end == i + 1) {
        verify_frame fr = w->frame[--w->n];
        if (fr.op == UINT32_MAX) return true;
        const ir_op *o = &v->f->ops.data[fr.op];
        if (fr.k + 1 < o->nregion) return verify_enter(v, w, fr.op, fr.k + 1, i + 1);
        if (!verify_define(v, w, o->out0, o->nout, fr.op, false)) return false;
    }
    return true;
}

/* Regions nest, end in their only yield or return, and values are defined in order. */
static bool verify_nesting(verifier *v) {
    const ir_func *f = v->f;
    verify_walk w = {.value = 1};
    if (!verify_enter(v, &w, UINT32_MAX, 0, 0)) return false;
    for (uint32_t i = 0; i < f->ops.n; i++) {
        const ir_op *o = &f->ops.data[i];
        v->op = i;
        if (!w.n || o->parent != w.frame[w.n - 1].region) {
            verify_bad(v, 5, "does not lie in its region");
            return false;
        }
        bool last = f->regions.data[o->parent].end == i + 1;
        ir_opcode end = o->parent ? OP_yield : OP_return;
        if (last != (o->code == end) || (!last && (o->code == OP_yield || o->code == OP_return))) {
            verify_bad(v, 5,
                       last ? "is the last of its region, which ends in %s"
                            : "is not the last of its region; only there is %s",
                       ir_op_tab[last ? (int)end : o->code].name);
            return false;
        }
        if (o->nregion
                ? !verify_enter(v, &w, i, 0, i + 1)
                : !verify_define(v, &w, o->out0, o->nout, i, false) || !verify_leave(v, &w, i))
            return false;
    }
    v->op = UINT32_MAX;
    if (w.n == 0 && w.value == f->values.n && w.regions == f->regions.n) return true;
    verify_bad(v, 5, "there are ops, values or regions outside of the body");
    return false;
}

/* --- One op ----------------------------------------------------------------------------------- */

/* An enumerated, flag or list field holds a value of its kind (I4). */
static bool verify_field(verifier *v, const ir_field *fd, const void *at) {
    const char *const *names = ir_enum_names(fd->kind);
    uint8_t u8 = *(const uint8_t *)at;
    unsigned n = 0;
    while (names && names[n]) n++;
    switch (fd->kind) {
    case FIELD_flag: return u8 <= 1;
    case FIELD_dtype: return u8 > IG_NONE && u8 < IG_DTYPE_END;
    case FIELD_dims:
    case FIELD_ints:
    case FIELD_axes:
    case FIELD_places: return u8 <= IG_MAX_RANK;
    case FIELD_type: return verify_type(v, at, "the attribute's type");
    case FIELD_ckpt: return ir_ckpt_is_valid(*(const ir_field_ckpt *)at);
    default: return !names || u8 < n;
    }
}

/* Dims in an attribute are over declared symbols (I6). */
static bool verify_field_dims(const verifier *v, const ir_field *fd, const void *at) {
    const ir_places *places = at;
    int n;
    const ir_dim *d = ir_dims_in(fd->kind, (void *)(uintptr_t)at, &n);
    for (int i = 0; i < n; i++)
        if (!verify_dim(v, d[i])) return false;
    if (fd->kind == FIELD_places)
        for (int i = 0; i < places->n; i++)
            if (!verify_dim(v, places->p[i].at)) return false;
    return true;
}

static bool verify_attr(verifier *v, const ir_op *o) {
    ir_attr_kind kind = ir_attr_kind_of(v->m, o->attr);
    const ir_attr_info *info = &ir_attr_tab[kind];
    const char *attr = ir_attr_get(v->m, o->attr);
    if (kind != ir_op_tab[o->code].attr) {
        verify_bad(v, 4, "has an attribute of kind %s, not %s", info->name,
                   ir_attr_tab[ir_op_tab[o->code].attr].name);
        return false;
    }
    for (uint32_t i = 0; i < info->nfield; i++) {
        const ir_field *fd = &info->field[i];
        uint32_t bad = v->bad;
        if (!verify_field(v, fd, attr + fd->offset)) {
            if (v->bad == bad) verify_bad(v, 4, "field %s is outside its range", fd->name);
            return false;
        }
        if (!verify_field_dims(v, fd, attr + fd->offset)) {
            verify_bad(v, 6, "field %s has a dim over an undeclared symbol", fd->name);
            return false;
        }
    }
    return true;
}

/* A yield or return: as wide as its region's results, and asks no type rule. */
static bool verify_is_end(const ir_op *o) { return o->code == OP_yield || o->code == OP_return; }

/* Operands are defined before, in a region that encloses the op (I1); the types of
 * those that a type rule is asked about into v->types. */
static bool verify_operands(verifier *v, const ir_op *o) {
    for (uint32_t i = 0; i < o->nin; i++) {
        uint32_t x = v->f->operands.data[o->in0 + i].i;
        if (!x || x >= v->f->values.n || !v->home[x]) {
            verify_bad(v, 1, "operand %u, %%%u, is not defined before", i, x);
            return false;
        }
        if (!v->open[v->home[x] - 1]) {
            verify_bad(v, 1,
                       "operand %u, %%%u, is defined in a region that does not enclose the op", i,
                       x);
            return false;
        }
        if (!verify_is_end(o)) v->types[i] = *ir_val_type(v->f, (ir_ref){x});
    }
    return true;
}

/* The op may live in a function of this kind (I3) and has the operands of its table row (I4). */
static bool verify_row(verifier *v, const ir_op *o) {
    const ir_op_info *info = &ir_op_tab[o->code];
    bool tensor = v->f->kind == IR_FN || v->f->kind == IR_CLUSTER;
    if (info->level != 'b' && (info->level == 't') != tensor) {
        verify_bad(v, 3, "may not live in a %s", ir_func_kind_names[v->f->kind]);
        return false;
    }
    if (info->arity != IR_ARITY_V && o->nin != info->arity) {
        verify_bad(v, 4, "has %u operands; its row in the table says %u", o->nin, info->arity);
        return false;
    }
    return true;
}

/* Constants have their bytes, canonical NaNs and proper bools (I7). */
static bool verify_const(verifier *v, const ir_attr_const *a) {
    ir_type t = a->type;
    int64_t numel;
    size_t bytes;
    if (t.lanes) t.rank = 1, t.dim[0] = t.lanes;
    if (!ir_type_bytes(&t, &numel, &bytes) || bytes != a->data.n) {
        verify_bad(v, 7, "the data has %llu bytes, which are not those of its type",
                   (unsigned long long)a->data.n);
        return false;
    }
    uint64_t bad = ir_data_bad(t.dtype, a->data.bytes, (uint64_t)numel);
    if (bad == (uint64_t)numel) return true;
    verify_bad(v, 7, "element %llu is %s", (unsigned long long)bad,
               t.dtype == IG_bool ? "a bool other than 0 and 1" : "a NaN that is not canonical");
    return false;
}

/* Whether the types of parameters and results can be read. */
static bool verify_signature_is_sound(const ir_module *m, const ir_func *f) {
    if (!f->regions.n || (uint64_t)f->regions.data[0].param0 + ir_nparam(f) > f->values.n)
        return false;
    for (uint32_t i = 0; i < ir_nparam(f); i++)
        if (f->values.data[ir_param_ref(f, i).i].type >= m->types.n) return false;
    for (uint32_t i = 0; i < f->results.n; i++)
        if (f->results.data[i] >= m->types.n) return false;
    return true;
}

/* The callee is a function that stands before this one and may be called from here (I8). */
/* A result in the memory of an operand has an operand like it. */
static bool verify_places(verifier *v, const ir_op *o, const ir_places *to) {
    for (uint32_t i = 0; i < to->n && i < o->nout; i++) {
        if (to->p[i].kind != IR_PLACE_IN) continue;
        int64_t k = to->p[i].at;
        if (k >= 0 && k < o->nin &&
            ir_type_eq(ir_val_type(v->f, ir_op_in(v->f, o, (uint32_t)k)),
                       ir_val_type(v->f, ir_op_out(o, i))))
            continue;
        verify_bad(v, 8, "result %u lies in an operand that is none or has another type", i);
        return false;
    }
    return true;
}

static bool verify_callee(verifier *v, const ir_op *o, const ir_attr_call *a) {
    const ir_func *f = a->callee ? ir_find_func(v->m, a->callee) : NULL;
    const char *name = a->callee ? a->callee : "";
    if (!f) {
        verify_bad(v, 8, "there is no function @%s", name);
        return false;
    }
    if (!verify_signature_is_sound(v->m, f)) {
        verify_bad(v, 8, "the signature of @%s cannot be read", name);
        return false;
    }
    uint32_t number = 0;
    while (v->m->funcs.data[number] != f) number++;
    if (f == v->f || (v->fnumber != UINT32_MAX && number > v->fnumber)) {
        verify_bad(v, 8,
                   f == v->f ? "@%s calls itself"
                             : "@%s stands after its caller: recursion is not offered",
                   name);
        return false;
    }
    if (o->code == OP_launch && v->f->kind != IR_HOST) {
        verify_bad(v, 8, "only a host program launches kernels");
        return false;
    }
    bool fits = o->code == OP_launch ? f->kind == IR_KERNEL
                                     : f->kind == IR_FN || f->kind == IR_CLUSTER;
    if (!fits) verify_bad(v, 8, "@%s is a %s", name, ir_func_kind_names[f->kind]);
    return fits && verify_places(v, o, &a->at);
}

/* What must hold before the type rule is asked: its answer would cite a less exact invariant. */
static bool verify_special(verifier *v, const ir_op *o) {
    const void *attr = ir_attr_get(v->m, o->attr);
    const char *name = NULL;
    char msg[256];
    switch (o->code) {
    case OP_const: return verify_const(v, attr);
    case OP_call:
    case OP_launch: return verify_callee(v, o, attr);
    case OP_weight: name = ((const ir_attr_sym *)attr)->name; break;
    case OP_kweight: name = ((const ir_attr_wport *)attr)->name; break;
    case OP_ein:
        if (ir_ein_check(&((const ir_attr_ein *)attr)->rel, msg, sizeof msg)) return true;
        verify_bad(v, 10, "%s", msg);
        return false;
    default: return true;
    }
    if (name && ir_find_weight(v->m, name)) return true;
    verify_bad(v, 9, "there is no weight @%s", name ? name : "");
    return false;
}

int ir_rule_invariant(ir_opcode op, uint32_t nin) {
    if (ir_op_tab[op].arity != IR_ARITY_V && nin != ir_op_tab[op].arity) return 4;
    switch (op) {
    case OP_const: return 7;
    case OP_call:
    case OP_launch: return 8;
    case OP_weight:
    case OP_kweight: return 9;
    case OP_ein: return 10;
    default: return 2;
    }
}

/* Results are those of the type rule (I2).  Some ops have the results that their regions yield (I5,
 * I11). */
static void verify_types(verifier *v, const ir_op *o) {
    ir_type out[IR_MAX_RESULTS];
    char what[32];
    ir_infer c = {.m = v->m,
                  .op = (ir_opcode)o->code,
                  .nin = o->nin,
                  .in = v->types,
                  .attr = ir_attr_get(v->m, o->attr),
                  .out = out};
    if (!ir_infer_types(&c)) {
        if (c.code == IG_MEMORY)
            v->no_memory = true;
        else
            verify_bad(v, ir_rule_invariant((ir_opcode)o->code, o->nin), "%s", c.message);
        return;
    }
    if (o->code == OP_kif || o->code == OP_if || o->code == OP_scan || o->code == OP_composite)
        return;
    if (c.nout != o->nout) {
        verify_bad(v, 2, "has %u results; its type rule gives %d", o->nout, c.nout);
        return;
    }
    for (uint32_t i = 0; i < o->nout; i++) {
        const ir_type *is = ir_val_type(v->f, ir_op_out(o, i));
        snprintf(what, sizeof what, "result %u", i);
        if (verify_type_level(v, is, what) && !ir_type_eq(is, &out[i]))
            verify_bad_types(v, 2, what, is, &out[i]);
    }
}

/* Whether `what` number i has the type it should have; else it is reported. */
static bool verify_same(verifier *v, const char *what, uint32_t i, const ir_type *is,
                        const ir_type *want) {
    char text[48];
    if (ir_type_eq(is, want)) return true;
    snprintf(text, sizeof text, "%s %u", what, i);
    verify_bad_types(v, 5, text, is, want);
    return false;
}

/* A `yield` fits the op that owns the region, a `return` the function (I5). */
static void verify_end(verifier *v, const ir_op *o) {
    const ir_func *f = v->f;
    if (o->code == OP_return) {
        if (o->nin != f->results.n)
            verify_bad(v, 5, "gives %u values; the function promises %u", o->nin, f->results.n);
        else
            for (uint32_t i = 0; i < o->nin; i++)
                if (!verify_same(v, "value", i, ir_val_type(f, ir_op_in(f, o, i)),
                                 ir_result_type(f, i)))
                    return;
        return;
    }
    const ir_op *owner = &f->ops.data[f->regions.data[o->parent].op];
    if (owner->code != OP_for && owner->code != OP_kif) return; /* verify_flow has checked it */
    if (o->nin != owner->nout) {
        verify_bad(v, 5, "gives %u values; %s has %u results", o->nin, ir_op_tab[owner->code].name,
                   owner->nout);
        return;
    }
    for (uint32_t i = 0; i < o->nin; i++)
        if (!verify_same(v, "value", i, ir_val_type(f, ir_op_in(f, o, i)),
                         ir_val_type(f, ir_op_out(owner, i))))
            return;
}

/* Parameters of the regions: (index, carried...) for a loop, none for a branch (I5). */
static void verify_region_params(verifier *v, const ir_op *o) {
    const ir_func *f = v->f;
    const ir_region *r = &f->regions.data[o->region0];
    ir_type index = ir_scalar_type(IG_i64);
    if (o->code == OP_kif) {
        if (r[0].nparam || r[1].nparam)
            verify_bad(v, 5, "the regions of a branch take no parameters");
        return;
    }
    if (o->nin < 2 || r->nparam != o->nin - 1u) {
        verify_bad(v, 5, "the loop carries %d values; its region takes %u parameters", o->nin - 2,
                   r->nparam);
        return;
    }
    if (!verify_same(v, "loop parameter", 0, ir_val_type(f, (ir_ref){r->param0}), &index)) return;
    for (uint32_t i = 2; i < o->nin; i++)
        if (!verify_same(v, "loop parameter", i - 1, ir_val_type(f, (ir_ref){r->param0 + i - 1}),
                         &v->types[i]))
            return;
}

/* Whether every operand of the yields of an op is a value at all; what they are is asked later. */
static bool verify_can_read_yields(const verifier *v, const ir_op *o) {
    for (uint32_t k = 0; k < o->nregion; k++) {
        const ir_op *y = &v->f->ops.data[v->f->regions.data[o->region0 + k].end - 1];
        for (uint32_t i = 0; i < y->nin; i++) {
            uint32_t x = ir_op_in(v->f, y, i).i;
            if (!x || x >= v->f->values.n) return false;
        }
    }
    return true;
}

/* The regions of `if`, `scan` and `while` fit it, and its results are what they give (I11). */
static void verify_flow(verifier *v, const ir_op *o) {
    ir_flow c = {.f = v->f, .o = o};
    if (!verify_can_read_yields(v, o)) return;
    if (!ir_flow_check(&c)) {
        verify_bad(v, 11, "%s", c.message);
        return;
    }
    if (c.nout != o->nout) {
        verify_bad(v, 11, "has %u results; its regions give %d", o->nout, c.nout);
        return;
    }
    for (uint32_t i = 0; i < o->nout; i++) {
        const ir_type *is = ir_val_type(v->f, ir_op_out(o, i));
        if (!ir_type_eq(is, &c.out[i])) verify_bad_types(v, 11, "a result", is, &c.out[i]);
    }
}

/* A ref goes nowhere but to those who read and write it (I12). */
static bool verify_refs(verifier *v, const ir_op *o) {
    for (uint32_t k = 0; k < o->nin; k++) {
        const ir_op *d = ir_def_op(v->f, ir_op_in(v->f, o, k));
        bool is = d && d->code == OP_ref, asks = o->code == OP_read || o->code == OP_write;
        if (is == (asks && !k)) continue;
        verify_bad(v, 12,
                   is ? "operand %u is a ref: it is only read and written" : "operand %u is no ref",
                   k);
        return false;
    }
    return true;
}

static void verify_op(verifier *v, const ir_op *o) {
    bool sound = verify_row(v, o);
    sound = verify_attr(v, o) && sound;
    sound = verify_operands(v, o) && verify_refs(v, o) && sound;
    if (!sound || !verify_special(v, o)) return;
    if (verify_is_end(o)) {
        verify_end(v, o);
        return;
    }
    uint32_t bad = v->bad;
    verify_types(v, o);
    if (o->code == OP_for || o->code == OP_kif)
        verify_region_params(v, o);
    else if (o->nregion && bad == v->bad)
        verify_flow(v, o);
}

/* --- Functions -------------------------------------------------------------------------------- */

/* Values of a definition become visible. */
static void verify_make_visible(verifier *v, uint32_t first, uint32_t n, uint32_t region) {
    for (uint32_t i = 0; i < n; i++) v->home[first + i] = region + 1;
}

/* Check every op in order, tracking which values are in scope.  The structure is sound. */
static void verify_ops(verifier *v) {
    const ir_func *f = v->f;
    uint32_t region = 0;
    v->open[0] = true;
    verify_make_visible(v, f->regions.data[0].param0, f->regions.data[0].nparam, 0);
    for (uint32_t i = 0; i < f->ops.n; i++) {
        const ir_op *o = &f->ops.data[i];
        v->op = i;
        verify_op(v, o);
        if (!o->nregion) verify_make_visible(v, o->out0, o->nout, region);
        uint32_t enter = o->nregion ? o->region0 : 0;
        while (!enter && region &&
               f->regions.data[region].end == i + 1) { /* leave, perhaps into the next one */
            const ir_op *owner = &f->ops.data[f->regions.data[region].op];
            v->open[region] = false;
            if (++region < owner->region0 + owner->nregion) {
                enter = region;
            } else {
                region = owner->parent;
                verify_make_visible(v, owner->out0, owner->nout, region);
            }
        }
        if (enter) {
            region = enter;
            v->open[region] = true;
            verify_make_visible(v, f->regions.data[region].param0, f->regions.data[region].nparam,
                                region);
        }
    }
    v->op = UINT32_MAX;
}

static void verify_signature(verifier *v) {
    const ir_func *f = v->f;
    char what[32];
    if (f->param_names.n != ir_nparam(f))
        verify_bad(v, 5, "%u parameter names for %u parameters", f->param_names.n, ir_nparam(f));
    for (uint32_t i = 0; i < f->regions.n; i++)
        for (uint32_t k = 0; k < f->regions.data[i].nparam; k++) {
            snprintf(what, sizeof what, i ? "region parameter %u" : "parameter %u", k);
            verify_type_level(v, ir_val_type(f, (ir_ref){f->regions.data[i].param0 + k}), what);
        }
    for (uint32_t i = 0; i < f->ops.n;
         i++) /* the results of a branch have no rule that checks them */
        for (uint32_t k = 0; f->ops.data[i].nregion && k < f->ops.data[i].nout; k++)
            verify_type_level(v, ir_val_type(f, ir_op_out(&f->ops.data[i], k)),
                              "a result of a branch");
}

/* Memory for the walk over f; false when there is none. */
static bool verify_reserve(verifier *v) {
    const ir_func *f = v->f;
    v->most_in = 0;
    for (uint32_t i = 0; i < f->ops.n; i++)
        if (f->ops.data[i].nin > v->most_in && !verify_is_end(&f->ops.data[i]))
            v->most_in = f->ops.data[i].nin;
    v->home = rt_alloc_zero(v->alloc, f->values.n * sizeof *v->home);
    v->open = rt_alloc_zero(v->alloc, f->regions.n * sizeof *v->open);
    v->types = rt_alloc_zero(v->alloc, (v->most_in + 1u) * sizeof *v->types);
    return v->home && v->open && v->types;
}

static void verify_release(verifier *v) {
    rt_free(v->alloc, v->home, v->f->values.n * sizeof *v->home);
    rt_free(v->alloc, v->open, v->f->regions.n * sizeof *v->open);
    rt_free(v->alloc, v->types, (v->most_in + 1u) * sizeof *v->types);
    v->home = NULL;
    v->open = NULL;
    v->types = NULL;
}

static void verify_func(verifier *v, const ir_func *f, uint32_t number) {
    v->f = f;
    v->fnumber = number;
    v->op = UINT32_MAX;
    if ((unsigned)f->kind > IR_HOST)
        verify_bad(v, 3, "the function has no known kind");
    else if (verify_ranges(v) && verify_nesting(v)) {
        if (verify_reserve(v)) {
            verify_signature(v);
            verify_ops(v);
        } else {
            v->no_memory = true;
        }
        verify_release(v);
    }
    v->f = NULL;
}

/* --- Modules ---------------------------------------------------------------------------------- */

/* The i-th name of a table of the module; tables are told apart by `what`. */
static const char *verify_name(const ir_module *m, char what, uint32_t i) {
    return what == 'w'   ? m->weights.data[i].name
           : what == 'f' ? m->funcs.data[i]->name
                         : m->symbols.data[i].name;
}

/* Names of one table are unique (I9); they are interned, so equal names are equal pointers. */
static void verify_unique(verifier *v, char table, uint32_t n, const char *what) {
    uint32_t cap = 4;
    while (cap / 2 < n && cap <= UINT32_MAX / 4) cap *= 2;
    size_t size = (size_t)cap * sizeof(uint32_t);
    uint32_t *set = rt_alloc_zero(v->alloc, size);
    if (!set) {
        v->no_memory = true;
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        const char *name = verify_name(v->m, table, i);
        if (!name) {
            verify_bad(v, 9, "%s %u has no name", what, i);
            continue;
        }
        uint32_t h = (uint32_t)rt_hash_mix(0, (uintptr_t)name) & (cap - 1);
        while (set[h] && verify_name(v->m, table, set[h] - 1) != name) h = (h + 1) & (cap - 1);
        if (set[h])
            verify_bad(v, 9, "two %ss are called %s", what, name);
        else
            set[h] = i + 1;
    }
    rt_free(v->alloc, set, size);
}

static void verify_tables(verifier *v) {
    const ir_module *m = v->m;
    for (uint32_t i = 0; i < m->symbols.n; i++) {
        const ir_symbol *y = &m->symbols.data[i];
        if (y->lo < 0 || y->lo > y->hi)
            verify_bad(v, 6, "dim %s has the range %lld..%lld", y->name, (long long)y->lo,
                       (long long)y->hi);
        if (y->name && !ir_is_ident(y->name, strlen(y->name)))
            verify_bad(v, 9, "the name of dim `%s` is not an identifier", y->name);
    }
    for (uint32_t i = 0; i < m->weights.n; i++) {
        const ir_weight *w = &m->weights.data[i];
        int64_t numel;
        size_t bytes;
        if (!verify_type(v, &w->type, "the type of a weight")) continue;
        if (w->type.lanes || w->type.mem || !ir_type_bytes(&w->type, &numel, &bytes) ||
            bytes != w->bytes)
            verify_bad(v, 7, "weight @%s has %llu bytes, which are not those of its type", w->name,
                       (unsigned long long)w->bytes);
    }
    verify_unique(v, 's', m->symbols.n, "dim");
    verify_unique(v, 'w', m->weights.n, "weight");
    verify_unique(v, 'f', m->funcs.n, "function");
}

static void verify_begin(verifier *v, const ir_module *m) {
    *v = (verifier){.alloc = m->alloc, .m = (ir_module *)(uintptr_t)m, .op = UINT32_MAX};
    rt_str_init(&v->report, m->alloc);
}

/* All violations in one status. */
static ig_status verify_finish(verifier *v) {
    ig_status s = NULL;
    if (v->bad > VERIFY_MOST) rt_str_printf(&v->report, "\nand %u more", v->bad - VERIFY_MOST);
    if (v->no_memory || v->report.failed)
        s = rt_fail_memory();
    else if (v->bad)
        s = rt_fail(v->alloc, IG_INVALID, "%s", rt_str_text(&v->report));
    rt_str_free(&v->report);
    return s;
}

ig_status ir_verify_func(const ir_func *f) {
    verifier v;
    const ir_module *m = f->module;
    uint32_t number = UINT32_MAX;
    for (uint32_t i = 0; i < m->funcs.n; i++)
        if (m->funcs.data[i] == f) number = i;
    verify_begin(&v, m);
    verify_func(&v, f, number);
    return verify_finish(&v);
}

ig_status ir_verify(const ir_module *m) {
    verifier v;
    verify_begin(&v, m);
    verify_tables(&v);
    for (uint32_t i = 0; i < m->funcs.n; i++) verify_func(&v, m->funcs.data[i], i);
    return verify_finish(&v);
}
