/* simplify.c - algebra that keeps every bit, to a fixpoint.
 *
 * Ops are emitted again in order; an op about to be emitted is matched with the rules (rules.c,
 * moves.c) against what was emitted before, and what replaces it goes the same way.  Operands are
 * final when an op's turn comes, and every rule looks only at operands: so one walk reaches the
 * fixpoint.  Folding and value numbering happen in the builder.  Ops that lost their last use stay;
 * dce removes them.
 *
 *   IG_FUEL=n        at most n rewrites: bisects a miscompile to one of them
 *   IG_LOG=simplify  every rewrite, with its place
 *   IG_LOG=licence   what a licence would allow (numerics rule 11), its place, what it saves
 *
 * Cost: each op is matched with the rules of its opcode, a handful of short patterns. */
#include "passes/simplify.h"
#include "runtime/base/log.h"

#include <stdlib.h>
#include <string.h>

#define SIMPLIFY_MAX_DEPTH 16 /* of rewrites that lead to rewrites; none is known above 4 */

ig_status pass_run_simplify(const ir_module *in, ir_module *out);

/* A rule, read. */
typedef struct rule {
    const simplify_rule *text;
    simplify_pattern from, to;
    uint32_t next; /* rule of the same root op, + 1 */
} rule;

typedef struct simplify {
    ir_builder b;
    RT_VEC(rule) rules;     /* owned */
    uint32_t first[OP_END]; /* root op -> rule + 1 */
    RT_VEC(uint32_t) uses;  /* owned: of values of b.f, as far as the source tells */
    int64_t fuel;
    int depth;
    bool log, log_licence;
} simplify;

/* --- Reports ---------------------------------------------------------------------------------- */

/* Ops of a pattern that are not on constants alone. */
static int simplify_count_ops(const simplify_pattern *p, int node, bool *varies_) {
    const simplify_node *x = &p->node[node];
    int n = 0;
    bool varies = x->kind == NODE_ANY;
    for (int k = 0; k < x->nin; k++) n += simplify_count_ops(p, x->in[k], &varies);
    *varies_ |= varies;
    return n + (x->kind == NODE_OP && varies);
}

static void simplify_report(const simplify *s, const char *word, const rule *r, ir_ref x) {
    const simplify_rule *t = r->text;
    ir_loc_rec at = ir_loc_get(s->b.m, s->b.loc);
    bool varies = false;
    int saved = simplify_count_ops(&r->from, 0, &varies) - simplify_count_ops(&r->to, 0, &varies);
    rt_str type, need;
    rt_str_init(&type, s->b.m->alloc);
    rt_str_init(&need, s->b.m->alloc);
    ir_type_print(s->b.m, ir_val_type(s->b.f, x), &type);
    simplify_licence_text(t->need, &need);
    rt_log(word, "%s:%u: %s: %s -> %s%s%s; saves %d op%s on %s", at.file ? at.file : "?", at.line,
           t->name, t->from, t->to, t->need ? " needs " : "", rt_str_text(&need), saved,
           saved == 1 ? "" : "s", rt_str_text(&type));
    rt_str_free(&type);
    rt_str_free(&need);
}

/* --- Rewriting -------------------------------------------------------------------------------- */

static ir_ref simplify_op(void *user, ir_builder *b, ir_opcode op, const void *attr, int nin,
                          const ir_ref *in);

/* Rewrite by a rule of the table; {0} when none applies. */
static ir_ref simplify_try_rules(simplify *s, ir_opcode op, const void *attr, int nin,
                                 const ir_ref *in) {
    simplify_bind bind;
    for (uint32_t i = s->first[op]; i; i = s->rules.data[i - 1].next) {
        rule *r = &s->rules.data[i - 1];
        if (r->text->need && !(s->log_licence && s->depth == 1)) continue;
        if (!simplify_match(s->b.f, &r->from, op, attr, nin, in, &bind)) continue;
        if (!simplify_admits(s->b.f, r->text, &bind)) continue;
        if (r->text->need) {
            simplify_report(s, "licence", r, bind.of['x']);
            continue;
        }
        s->fuel--;
        if (s->log) simplify_report(s, "simplify", r, bind.of['x']);
        return simplify_build(&s->b, &r->to, &bind, simplify_op, s);
    }
    return (ir_ref){0};
}

/* Rewrite by a rule about movement; {0} when none applies. */
static ir_ref simplify_try_moves(simplify *s, ir_opcode op, const void *attr, int nin,
                                 const ir_ref *in) {
    simplify_move_call c = {&s->b, op, attr, nin, in, s->uses.data, s->uses.n, simplify_op, s};
    for (const simplify_move *m = simplify_moves; m->name; m++) {
        if (m->op != OP_END && m->op != op) continue;
        ir_ref r = m->rule(&c);
        if (!r.i) continue;
        s->fuel--;
        ir_loc_rec at = ir_loc_get(s->b.m, s->b.loc);
        if (s->log) rt_log("simplify", "%s:%u: %s", at.file ? at.file : "?", at.line, m->name);
        return r;
    }
    return (ir_ref){0};
}

static bool simplify_is_constant(const simplify *s, int nin, const ir_ref *in) {
    for (int k = 0; k < nin; k++)
        if (!ir_splat(s->b.f, in[k])) return false;
    return true;
}

/* Emit an op, or what replaces it.  Rewrites lead to rewrites a few times; no rule makes a cycle,
 * and the depth is bounded all the same. */
static ir_ref simplify_op(void *user, ir_builder *b, ir_opcode op, const void *attr, int nin,
                          const ir_ref *in) {
    simplify *s = user;
    ir_ref r = {0};
    if (b->error) return r;
    s->depth++;
    if (nin && !ir_op_tab[op].effect && s->fuel > 0 && s->depth <= SIMPLIFY_MAX_DEPTH &&
        !simplify_is_constant(s, nin, in)) {
        r = simplify_try_rules(s, op, attr, nin, in);
        if (!r.i && !b->error) r = simplify_try_moves(s, op, attr, nin, in);
    }
    if (!r.i && !b->error) r = ir_emit(b, op, attr, nin, in);
    s->depth--;
    return r;
}

/* --- Functions -------------------------------------------------------------------------------- */

/* Add the uses that a source value has to the value that it became. */
static void simplify_add_uses(simplify *s, ir_ref r, uint32_t uses) {
    const ig_allocator *a = s->b.m->alloc;
    if (!r.i) return;
    while (s->uses.n <= r.i)
        if (!rt_vec_push(a, &s->uses, 0)) {
            ir_build_error(&s->b, rt_fail_memory());
            return;
        }
    s->uses.data[r.i] += uses;
}

/* Emit source op o through the rules. */
static void simplify_source_op(simplify *s, const ir_func *f, uint32_t o, ir_ref *map, ir_ref *in) {
    const ir_op *op = &f->ops.data[o];
    ir_attr_any attr;
    ir_loc_rec at = ir_loc_get(f->module, op->loc);
    if (op->nregion || op->nout != 1) {
        ir_copy_op(&s->b, f, o, map);
        return;
    }
    s->b.loc = ir_intern_loc(s->b.m, at.file, at.line);
    ir_import_attr(s->b.m, f->module, op->attr, &attr);
    for (uint32_t k = 0; k < op->nin; k++) in[k] = map[ir_op_in(f, op, k).i];
    map[op->out0] = simplify_op(s, &s->b, (ir_opcode)op->code, &attr, op->nin, in);
}

static ig_status simplify_func(simplify *s, ir_module *out, const ir_func *f) {
    const ig_allocator *a = out->alloc;
    size_t most = 1;
    for (uint32_t o = 0; o < f->ops.n; o++)
        if (f->ops.data[o].nin > most) most = f->ops.data[o].nin;
    uint32_t *uses = ir_count_uses(f, a);
    ir_ref *in = rt_alloc(a, most * sizeof *in);
    ir_ref *map = pass_begin(&s->b, out, f, IR_BUILD_OPT);
    if (!uses || !in) ir_build_error(&s->b, rt_fail_memory());
    s->uses.n = 0;
    s->depth = 0;
    uint32_t end = f->regions.data[0].end - 1;
    for (uint32_t o = 0; map && !s->b.error && o < end; o++) {
        const ir_op *op = &f->ops.data[o];
        simplify_source_op(s, f, o, map, in);
        if (op->code == OP_yield) op = &f->ops.data[f->regions.data[op->parent].op];
        for (uint32_t k = 0; k < op->nout; k++) /* those of a region op exist when it has ended */
            simplify_add_uses(s, map[op->out0 + k], uses[op->out0 + k]);
    }
    rt_free(a, uses, (size_t)f->values.n * sizeof *uses);
    rt_free(a, in, most * sizeof *in);
    return pass_end(&s->b, f, map);
}

/* Read the rules into s, in the order of the table for each root op. */
static ig_status simplify_read_rules(simplify *s, const ig_allocator *a) {
    uint32_t n = 0;
    while (simplify_rules[n].name) n++;
    if (!rt_vec_reserve(a, &s->rules, n)) return rt_fail_memory();
    for (uint32_t i = n; i-- > 0;) {
        rule *r = &s->rules.data[i];
        *r = (rule){.text = &simplify_rules[i]};
        bool read = simplify_parse(r->text->from, &r->from) && simplify_parse(r->text->to, &r->to);
        ig_assert(a, read);
        uint32_t *first = &s->first[r->from.node[0].op];
        r->next = *first;
        *first = i + 1;
    }
    s->rules.n = n;
    return NULL;
}

ig_status pass_run_simplify(const ir_module *in, ir_module *out) {
    const char *fuel = getenv("IG_FUEL");
    simplify *s = rt_alloc_zero(out->alloc, sizeof *s);
    if (!s) return rt_fail_memory();
    s->fuel = fuel ? strtoll(fuel, NULL, 10) : INT64_MAX;
    s->log = rt_log_on("simplify");
    s->log_licence = rt_log_on("licence");
    ig_status st = simplify_read_rules(s, out->alloc);
    for (uint32_t i = 0; !st && i < in->funcs.n; i++) {
        const ir_func *f = in->funcs.data[i];
        bool tensors = f->kind == IR_FN || f->kind == IR_CLUSTER;
        st = tensors ? simplify_func(s, out, f) : pass_copy_func(out, f);
    }
    rt_vec_free(out->alloc, &s->rules);
    rt_vec_free(out->alloc, &s->uses);
    rt_free(out->alloc, s, sizeof *s);
    return st;
}
