/* shrink.c - comparing a way with the reference, and making a differing program small. */
#include "codegen/target.h"
#include "passes/pass.h"
#include "runtime/base/plant.h"
#include "tests/fuzz/fuzz.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHRINK_OUTPUTS = FUZZ_RESULTS, SHRINK_TRIPS = 64 };

#ifdef IG_PLANT
/* The kernels of a program as text; NULL on an error.  The caller frees it. */
static char *shrink_lowered(const fuzz_case *c) {
    ir_module *planned, *lowered;
    char *text = NULL;
    ig_status s = pass_pipeline(c->m, &planned);
    if (!s) {
        s = cg_lower(planned, c->f->name, cg_cpu_host(c->m->class), &lowered);
        ir_module_free(planned);
    }
    if (!s) {
        rt_str kernels;
        rt_str_init(&kernels, ig_allocator_default());
        ir_print(lowered, &kernels, 0);
        text = strdup(rt_str_text(&kernels));
        rt_str_free(&kernels);
        ir_module_free(lowered);
    }
    ig_status_free(s);
    return text;
}

/* Whether the planted miscompile is in the program's code.  Equal kernels give equal bits: where it
 * is not, machine code need not be made. */
static bool shrink_is_planted(const fuzz_case *c) {
    int id = rt_planted;
    char *with = shrink_lowered(c);
    rt_planted = 0;
    char *without = shrink_lowered(c);
    rt_planted = id;
    bool same = with && without && !strcmp(with, without);
    free(with);
    free(without);
    return !same;
}
#endif

/* As fuzz_differs; also whether it is the reference that failed. */
static int shrink_compare(const fuzz_case *c, const way *w, int64_t *element_, char *why,
                          size_t size, bool *broken_) {
    way_case k = fuzz_way_case(c);
    ir_tensor want[SHRINK_OUTPUTS] = {0}, got[SHRINK_OUTPUTS] = {0};
    int bad = -1;
    *element_ = -1;
    *broken_ = false;
    if (size) why[0] = 0;
#ifdef IG_PLANT
    if (rt_planted && !shrink_is_planted(c)) return -1;
#endif
    if (!way_alloc_outputs(&k, want) || !way_alloc_outputs(&k, got))
        snprintf(why, size, "out of memory"), bad = 0;
    ig_status s = bad < 0 ? way_tab[0].run(&k, want) : NULL;
    *broken_ = s != NULL;
    if (!s && bad < 0) s = w->run(&k, got);
    if (s) {
        snprintf(why, size, "%s", ig_status_text(s));
        ig_status_free(s);
        bad = 0;
    } else if (bad < 0)
        bad = way_compare(k.nout, want, got, element_);
    way_free_outputs(k.nout, want);
    way_free_outputs(k.nout, got);
    return bad;
}

int fuzz_differs(const fuzz_case *c, const way *w, int64_t *element_, char *why, size_t size) {
    bool broken;
    return shrink_compare(c, w, element_, why, size, &broken);
}

/* An edit that the reference refuses is no smaller case. */
static bool shrink_differs(const fuzz_case *c, const way *w) {
    int64_t element;
    bool broken;
    return shrink_compare(c, w, &element, NULL, 0, &broken) >= 0 && !broken;
}

/* Give every while without a cap one: an edited condition may never say no. */
static void shrink_cap(fuzz_case *c) {
    ir_func *f = ir_find_func(c->m, "f");
    for (uint32_t o = 0; o < f->ops.n; o++) {
        ir_op *op = &f->ops.data[o];
        if (op->code != OP_while) continue;
        ir_attr_while a = *(const ir_attr_while *)ir_attr_get(c->m, op->attr);
        if (a.cap) continue;
        a.cap = SHRINK_TRIPS;
        op->attr = ir_intern_attr(c->m, ir_attr_kind_of(c->m, op->attr), &a);
    }
}

static void shrink_replace(fuzz_case *c, fuzz_case *by) {
    fuzz_free(c);
    *c = *by;
}

/* The first value whose own program differs becomes the program. */
static const char *shrink_to_first(fuzz_case *c, const way *w) {
    for (uint32_t o = 0; o < c->f->ops.n; o++) {
        const ir_op *op = &c->f->ops.data[o];
        fuzz_case part;
        if (!op->nout || !fuzz_extract(c, (ir_ref){op->out0}, NULL, &part)) continue;
        if (shrink_differs(&part, w)) {
            const char *name = ir_op_tab[op->code].name;
            shrink_replace(c, &part);
            return name;
        }
        fuzz_free(&part);
    }
    const ir_op *ret = ir_return_op(c->f);
    for (uint32_t k = 0; k < ret->nin; k++) { /* a returned parameter has no op */
        fuzz_case part;
        if (!fuzz_extract(c, ir_op_in(c->f, ret, k), NULL, &part)) continue;
        if (shrink_differs(&part, w)) {
            shrink_replace(c, &part);
            return "return";
        }
        fuzz_free(&part);
    }
    return "(only together)";
}

/* Turn intermediate values into inputs, latest first, while the program still differs. */
static bool shrink_cut(fuzz_case *c, const way *w) {
    uint32_t n = c->f->values.n;
    ir_ref target = ir_op_in(c->f, ir_return_op(c->f), 0);
    bool cut[4096];
    if (n > sizeof cut) return false;
    for (uint32_t v = n; v-- > 1;) {
        memset(cut, 0, sizeof cut);
        const ir_op *def = ir_def_op(c->f, (ir_ref){v});
        if (!def || v == target.i || def->code == OP_const || def->parent) continue;
        cut[v] = true;
        fuzz_case part;
        if (!fuzz_extract(c, target, cut, &part)) continue;
        if (fuzz_ops(&part) < fuzz_ops(c) && shrink_differs(&part, w)) {
            shrink_replace(c, &part);
            return true;
        }
        fuzz_free(&part);
    }
    return false;
}

/* Change single ops, those in regions too, while the program still differs and gets shorter. */
static bool shrink_edit(fuzz_case *c, const way *w) {
    for (uint32_t o = 0; o + 1 < c->f->ops.n; o++) {
        const ir_op *op = &c->f->ops.data[o];
        const uint32_t ways[] = {op->nin + 1u, op->nregion, op->nregion ? op->nout : 0u};
        for (int kind = FUZZ_DROP; op->nout && op->code != OP_const && kind >= 0; kind--)
            for (uint32_t k = 0; k < ways[kind]; k++) {
                fuzz_case part;
                if (!fuzz_edited(c, o, (fuzz_edit)kind, k, &part)) continue;
                shrink_cap(&part);
                if (fuzz_ops(&part) < fuzz_ops(c) && shrink_differs(&part, w)) {
                    shrink_replace(c, &part);
                    return true;
                }
                fuzz_free(&part);
            }
    }
    return false;
}

void fuzz_shrink(fuzz_case *c, const way *w, const char **op_) {
    *op_ = c->f->results.n ? shrink_to_first(c, w) : "?";
    if (c->f->results.n == 1)
        while (shrink_cut(c, w) || shrink_edit(c, w)) {
        }
}
