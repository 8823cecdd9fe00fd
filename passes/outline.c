/* outline.c - carry out the plan of fusion: clusters become functions, the entry calls them.
 *
 * The entry keeps weights, constants and reshapes (aliases of memory) and gets one call per
 * cluster, at the place of the cluster's root.  A returned value must own its memory: what is a
 * parameter, weight, constant, a second return of one value, or a reshape of such, is returned
 * through a copying cluster. */
#include "passes/fuse.h"
#include "runtime/base/hash.h"

#include <stdio.h>
#include <string.h>

#define OUTLINE_WORDS (FUSE_NAME_MAX - 12) /* of a name, the rest is `k<number>_` */

typedef struct outline {
    fuse_plan *p;
    ir_module *out;
    ir_builder top;  /* the entry */
    ir_ref *map;     /* value of f -> value of the entry */
    ir_ref *inner;   /* value of f -> value of the cluster being built */
    uint32_t *stamp; /* value -> cluster + 1 that `inner` is about */
    bool *claimed;   /* value -> its memory is an output already, or a loop's */
    uint32_t region; /* open */
    fuse_made *made;
    uint32_t name_before; /* the number to go back to when a cluster is dropped */
} outline;

/* --- Names ---------------------------------------------------------------------------------- */

/* k<number>_<words>, unlike any function of either module. */
static void outline_name(outline *l, const char *words, char name[FUSE_NAME_MAX + 1]) {
    do {
        snprintf(name, FUSE_NAME_MAX + 1, "k%u_%s", l->made->next_name++, words);
    } while (ir_find_func(l->out, name) || ir_find_func(l->p->f->module, name));
}

/* What an op is called in a kernel's name: a reduction by what it does. */
static void outline_word(const outline *l, const ir_op *o, char word[OUTLINE_WORDS]) {
    const ir_attr_info *info = &ir_attr_tab[ir_op_tab[o->code].attr];
    const char *attr = ir_attr_get(l->p->f->module, o->attr), *name = ir_op_tab[o->code].name;
    for (uint32_t i = 0; i < info->nfield; i++)
        if (info->field[i].kind == FIELD_redop)
            name = ir_enum_names(FIELD_redop)[*(const uint8_t *)(attr + info->field[i].offset)];
    bool scan = fuse_kind_of((ir_opcode)o->code) == FUSE_SCAN;
    snprintf(word, OUTLINE_WORDS, "%s%s", scan ? "cum" : "", name);
}

static bool outline_is_movement(ir_opcode op) {
    fuse_kind k = fuse_kind_of(op);
    return k == FUSE_MOVE || k == FUSE_SPREAD || k == FUSE_JOIN || k == FUSE_UPDATE ||
           k == FUSE_ALIAS;
}

/* The cluster's ops in order, each once but for reductions; movement is only named when there is
 * nothing else. */
static void outline_words(const outline *l, const fuse_cluster *c, char words[OUTLINE_WORDS]) {
    bool seen[OP_END] = {false};
    size_t n = 0;
    for (int movement = 0; movement < 2 && !n; movement++) {
        for (uint32_t i = c->member.n; i-- > 0;) {
            const ir_op *o = &l->p->f->ops.data[c->member.data[i]];
            char word[OUTLINE_WORDS];
            outline_word(l, o, word);
            size_t len = strlen(word);
            if (seen[o->code] || outline_is_movement((ir_opcode)o->code) != movement) continue;
            if (n + len + 2 > OUTLINE_WORDS) continue;
            if (n) words[n++] = '_';
            memcpy(words + n, word, len);
            n += len;
            seen[o->code] = o->code != OP_reduce;
        }
    }
    words[n] = '\0';
}

/* --- Clusters ------------------------------------------------------------------------------- */

/* Begin a cluster with parameters of these types. */
static void outline_begin(outline *l, ir_builder *b, const char *words, uint32_t n,
                          const ir_type *type, ir_ref *param_) {
    char name[FUSE_NAME_MAX + 1];
    l->name_before = l->made->next_name;
    outline_name(l, words, name);
    ir_build_begin(b, l->out, name, IR_CLUSTER, IR_BUILD_RAW);
    b->loc = l->top.loc;
    for (uint32_t k = 0; k < n; k++) param_[k] = ir_param(b, type[k], NULL);
}

/* Whether cluster `f` computes what is being built, with nres results; b lacks the return yet. */
static bool outline_is_same(const ir_func *f, const ir_func *b, uint32_t nres, const ir_ref *res) {
    const ir_op *ret = ir_return_op(f);
    if (f->kind != IR_CLUSTER || f->ops.n != b->ops.n + 1 || f->values.n != b->values.n)
        return false;
    if (ir_nparam(f) != ir_nparam(b) || ret->nin != nres) return false;
    for (uint32_t k = 0; k < nres; k++)
        if (ir_op_in(f, ret, k).i != res[k].i) return false;
    for (uint32_t k = 0; k < ir_nparam(f); k++)
        if (!ir_type_eq(ir_val_type(f, ir_param_ref(f, k)), ir_val_type(b, ir_param_ref(b, k))))
            return false;
    for (uint32_t i = 0; i < b->ops.n; i++) {
        const ir_op *x = &f->ops.data[i], *y = &b->ops.data[i];
        if (x->code != y->code || x->attr.i != y->attr.i || x->nin != y->nin) return false;
        for (uint32_t k = 0; k < x->nin; k++)
            if (ir_op_in(f, x, k).i != ir_op_in(b, y, k).i) return false;
    }
    return true;
}

/* Equal for clusters that compute the same. */
static uint64_t outline_hash(const ir_func *f, uint32_t nres, const ir_ref *res) {
    uint64_t h = nres;
    for (uint32_t k = 0; k < nres; k++) h = rt_hash_mix(h, res[k].i);
    for (uint32_t k = 0; k < ir_nparam(f); k++)
        h = rt_hash_mix(h, f->values.data[ir_param_ref(f, k).i].type);
    for (uint32_t i = 0; i < f->ops.n; i++) {
        const ir_op *o = &f->ops.data[i];
        h = rt_hash_mix(h, (uint64_t)o->code << 32 | o->attr.i);
        for (uint32_t k = 0; k < o->nin; k++) h = rt_hash_mix(h, ir_op_in(f, o, k).i);
    }
    return h;
}

/* A cluster of the module that computes the same: repeated layers share their kernels. */
static const ir_func *outline_twin(const outline *l, const ir_builder *b, uint64_t hash,
                                   uint32_t nres, const ir_ref *res) {
    const ir_index *ix = &l->made->twins;
    uint32_t at = ir_index_start(ix, hash), id;
    while (!b->error && ir_index_next(ix, hash, &at, &id))
        if (outline_is_same(l->out->funcs.data[id], b->f, nres, res)) return l->out->funcs.data[id];
    return NULL;
}

/* End a cluster, or drop it where there is one like it, and call it; the call's first result. */
static ir_ref outline_call_all(outline *l, ir_builder *b, uint32_t nres, const ir_ref *res,
                               uint32_t n, const ir_ref *in) {
    ir_attr_call call;
    memset(&call, 0, sizeof call);
    uint64_t hash = b->error ? 0 : outline_hash(b->f, nres, res);
    const ir_func *twin = outline_twin(l, b, hash, nres, res);
    if (twin) {
        call.callee = twin->name;
        ir_build_abort(b);
        l->made->next_name = l->name_before;
    } else {
        ir_func *f = NULL;
        ir_build_error(&l->top, ir_build_end(b, (int)nres, res, &f));
        if (!l->top.error && !ir_index_reserve(l->out->alloc, &l->made->twins))
            ir_build_error(&l->top, rt_fail_memory());
        if (l->top.error) return (ir_ref){0};
        ir_index_add(&l->made->twins, hash, l->out->funcs.n - 1);
        call.callee = f->name;
    }
    return ir_emit(&l->top, OP_call, &call, (int)n, in);
}

/* The same with one result. */
static ir_ref outline_call(outline *l, ir_builder *b, ir_ref result, uint32_t n, const ir_ref *in) {
    return outline_call_all(l, b, 1, &result, n, in);
}

/* A uniform constant inside a cluster: a scalar, broadcast. */
static ir_ref outline_const(ir_builder *b, const ir_module *from, const ir_op *o) {
    const ir_attr_const *a = ir_attr_get(from, o->attr);
    ir_ref r = ir_const(b, ir_scalar_type((ig_dtype)a->type.dtype), a->data.bytes,
                        rt_dtype_bytes((ig_dtype)a->type.dtype));
    if (!a->type.rank) return r;
    ir_attr_bcast to;
    memset(&to, 0, sizeof to);
    to.dims.n = a->type.rank;
    memcpy(to.dims.d, a->type.dim, sizeof a->type.dim); /* constants: the same in every module */
    return ir_emit1(b, OP_broadcast, &to, r);
}

/* Values that the members read from memory, in the order of their first use. */
static uint32_t outline_params(outline *l, const fuse_cluster *c, uint32_t id, ir_ref *param_) {
    const ir_func *f = l->p->f;
    uint32_t n = 0;
    for (uint32_t i = c->member.n; i-- > 0;) {
        const ir_op *o = &f->ops.data[c->member.data[i]];
        for (uint32_t k = 0; k < o->nin; k++) {
            ir_ref v = l->p->alias[ir_op_in(f, o, k).i];
            if (l->stamp[v.i] == id || !fuse_has_edge(c, v)) continue;
            l->stamp[v.i] = id;
            param_[n++] = v;
        }
    }
    return n;
}

/* Copy the members into the cluster. */
static void outline_members(outline *l, ir_builder *b, const fuse_cluster *c, uint32_t id) {
    const ir_func *f = l->p->f;
    for (uint32_t i = c->member.n; i-- > 0;) {
        const ir_op *o = &f->ops.data[c->member.data[i]];
        for (uint32_t k = 0; k < o->nin; k++) {
            ir_ref in = ir_op_in(f, o, k), v = l->p->alias[in.i];
            const ir_op *d = ir_def_op(f, v);
            if (l->stamp[v.i] != id && d && fuse_is_uniform(f, d)) {
                l->inner[v.i] = outline_const(b, f->module, d);
                l->stamp[v.i] = id;
            }
            if (l->stamp[v.i] != id)
                ir_build_error(b, rt_fail(l->out->alloc, IG_INTERNAL,
                                          "fusion lost an operand of %s; please report it",
                                          ir_op_tab[o->code].name));
            l->inner[in.i] = l->inner[v.i];
        }
        ir_copy_op(b, f, c->member.data[i], l->inner);
        l->stamp[o->out0] = id;
    }
}

/* Room for the totals of the blocks of a reduction (ir_rows_has_room). */
static ir_ref outline_room(outline *l, ir_builder *b, const ir_op *o) {
    static const uint64_t zero = 0;
    const ir_func *f = l->p->f;
    const ir_attr_reduce *a = ir_attr_get(f->module, o->attr);
    ir_type x = ir_import_type(l->out, f->module, *ir_val_type(f, ir_op_in(f, o, 0)));
    ir_type t = ir_import_type(l->out, f->module, *ir_val_type(f, ir_op_out(o, 0)));
    ir_dim n = 1;
    for (int i = 0; i < a->axes.n; i++) n = ir_dim_mul(l->out, n, x.dim[a->axes.a[i]]);
    n = ir_dim_floordiv(l->out, ir_dim_add(l->out, n, IR_REDUCE_BLOCK - 1), IR_REDUCE_BLOCK);
    ir_attr_bcast to;
    memset(&to, 0, sizeof to);
    to.dims.n = (uint8_t)(t.rank + 1);
    for (int i = 0; i < t.rank; i++) to.dims.d[i] = t.dim[i];
    to.dims.d[t.rank] = ir_dim_max(l->out, n, 1);
    bool half = x.dtype == IG_f16 || x.dtype == IG_bf16; /* summed up in f32 */
    ig_dtype d = half ? IG_f32 : (ig_dtype)x.dtype;
    return ir_emit1(b, OP_broadcast, &to,
                    ir_const(b, ir_scalar_type(d), &zero, rt_dtype_bytes(d)));
}

static void outline_set_loc(outline *l, const ir_op *o) {
    ir_loc_rec at = ir_loc_get(l->p->f->module, o->loc);
    l->top.loc = ir_intern_loc(l->out, at.file, at.line);
}

static void outline_cluster(outline *l, const fuse_cluster *c, uint32_t id) {
    const ir_func *f = l->p->f;
    const ir_op *root = &f->ops.data[c->root];
    char words[OUTLINE_WORDS];
    ir_ref value[FUSE_OPERANDS], in[FUSE_OPERANDS], param[FUSE_OPERANDS], result[FUSE_RESULTS];
    ir_type type[FUSE_OPERANDS];
    ir_builder b;
    uint32_t n = outline_params(l, c, id, value);
    for (uint32_t k = 0; k < n; k++) {
        in[k] = l->map[value[k].i];
        type[k] = ir_import_type(l->out, f->module, *ir_val_type(f, value[k]));
    }
    outline_set_loc(l, root);
    outline_words(l, c, words);
    outline_begin(l, &b, words, n, type, param);
    for (uint32_t k = 0; k < n; k++) l->inner[value[k].i] = param[k];
    outline_members(l, &b, c, id);
    for (uint32_t k = 0; k < c->nresult; k++) /* in the order of the program */
        result[c->nresult - 1 - k] = l->inner[f->ops.data[c->result[k]].out0];
    const ir_op *split = fuse_split(l->p, c);
    if (split) result[c->nresult] = outline_room(l, &b, split);
    ir_ref r = outline_call_all(l, &b, c->nresult + (split != NULL), result, n, in);
    for (uint32_t k = 0; k < c->nresult; k++)
        l->map[f->ops.data[c->result[k]].out0] = ir_result(r, c->nresult - 1 - k);
}

/* One call that concatenates values of the entry. */
static ir_ref outline_concat_some(outline *l, const void *attr, uint32_t n, const ir_ref *in) {
    ir_ref param[FUSE_OPERANDS];
    ir_type type[FUSE_OPERANDS];
    ir_builder b;
    for (uint32_t k = 0; k < n; k++) type[k] = ir_type_of(&l->top, in[k]);
    outline_begin(l, &b, ir_op_tab[OP_concat].name, n, type, param);
    return outline_call(l, &b, ir_emit(&b, OP_concat, attr, (int)n, param), n, in);
}

/* A concat of many values: groups first, then groups of groups. */
static void outline_wide(outline *l, const fuse_cluster *c) {
    const ir_func *f = l->p->f;
    const ir_op *root = &f->ops.data[c->root];
    const void *attr = ir_attr_get(f->module, root->attr);
    uint32_t n = root->nin;
    ir_ref *list = rt_alloc(l->out->alloc, n * sizeof *list);
    if (!list) {
        ir_build_error(&l->top, rt_fail_memory());
        return;
    }
    outline_set_loc(l, root);
    for (uint32_t k = 0; k < n; k++) list[k] = l->map[l->p->alias[ir_op_in(f, root, k).i].i];
    while (n > 1 && !l->top.error) {
        uint32_t made = 0;
        for (uint32_t k = 0; k < n; k += FUSE_OPERANDS) {
            uint32_t some = n - k < FUSE_OPERANDS ? n - k : FUSE_OPERANDS;
            list[made++] = some > 1 ? outline_concat_some(l, attr, some, list + k) : list[k];
        }
        n = made;
    }
    l->map[root->out0] = list[0];
    rt_free(l->out->alloc, list, root->nin * sizeof *list);
}

/* A cluster of one op with all its results.  Those of a sort are returned twice: nobody reads the
 * second ones, whose memory is room for the kernel to work in (codegen/sort.c). */
static void outline_whole(outline *l, uint32_t op) {
    const ir_func *f = l->p->f;
    const ir_op *o = &f->ops.data[op];
    ir_ref in[IR_CUSTOM_OPERANDS], param[IR_CUSTOM_OPERANDS], result[2 * IG_MAX_RANK];
    ir_type type[IR_CUSTOM_OPERANDS];
    ir_attr_call call;
    ir_builder b;
    ir_func *made = NULL;
    uint32_t nresult = o->code == OP_sort ? 2u * o->nout : o->nout;
    memset(&call, 0, sizeof call);
    outline_set_loc(l, o);
    for (uint32_t k = 0; k < o->nin; k++) {
        in[k] = l->map[l->p->alias[ir_op_in(f, o, k).i].i];
        type[k] = ir_type_of(&l->top, in[k]);
    }
    outline_begin(l, &b, ir_op_tab[o->code].name, o->nin, type, param);
    ir_attr_any attr;
    ir_import_attr(l->out, f->module, o->attr, &attr);
    ir_ref r = ir_emit(&b, (ir_opcode)o->code, &attr, o->nin, param);
    for (uint32_t k = 0; k < nresult; k++) result[k] = ir_result(r, k % o->nout);
    ir_build_error(&l->top, ir_build_end(&b, (int)nresult, result, &made));
    if (l->top.error) return;
    call.callee = made->name;
    r = ir_emit(&l->top, OP_call, &call, o->nin, in);
    for (uint32_t k = 0; k < o->nout; k++) l->map[o->out0 + k] = ir_result(r, k);
}

/* --- The entry ------------------------------------------------------------------------------ */

/* Copy an op into the entry with its operands looked up through copies. */
static void outline_keep(outline *l, uint32_t op) {
    const ir_func *f = l->p->f;
    const ir_op *o = &f->ops.data[op];
    for (uint32_t k = 0; k < o->nin; k++) {
        ir_ref in = ir_op_in(f, o, k);
        l->map[in.i] = l->map[l->p->alias[in.i].i];
    }
    ir_copy_op(&l->top, f, op, l->map);
}

static void outline_call_op(outline *l, uint32_t op) {
    const ir_func *f = l->p->f;
    const ir_attr_call *a = ir_attr_get(f->module, f->ops.data[op].attr);
    const ir_func *callee = a->callee ? ir_find_func(f->module, a->callee) : NULL;
    if (callee && callee->kind == IR_FN)
        ir_build_error(&l->top, rt_fail(l->out->alloc, IG_INVALID,
                                        "@%s calls @%s: run the pass inline before fuse", f->name,
                                        a->callee));
    outline_keep(l, op);
}

/* Whether the memory of a value may be that of a result of the open region: it is computed there,
 * by a kernel, or it is an op's result that lies in one place (not so what a loop carries, which
 * lies in two by turns). */
static bool outline_is_own(const outline *l, ir_ref base, bool kernel) {
    const ir_func *f = l->p->f;
    const ir_op *o = ir_def_op(f, base);
    if (!o || o->code == OP_const || o->code == OP_weight || l->claimed[base.i]) return false;
    if (o->parent != l->region) return false;
    if (!o->nregion || l->p->whole[o - f->ops.data]) return true;
    if (kernel || o->code == OP_while) return false;
    const ir_attr_scan *a = ir_attr_get(f->module, o->attr);
    return o->code == OP_if || base.i - o->out0 >= (uint32_t)a->carries;
}

static ir_ref outline_copy(outline *l, ir_ref v) {
    ir_ref in = l->map[v.i], param;
    ir_type type = ir_type_of(&l->top, in);
    ir_builder b;
    outline_begin(l, &b, "copy", 1, &type, &param);
    return outline_call(l, &b, ir_emit1(&b, OP_detach, NULL, param), 1, &in);
}

/* The value to return or yield for v: itself when it owns its memory, else a copy. */
static ir_ref outline_result(outline *l, ir_ref v, bool kernel) {
    const ir_func *f = l->p->f;
    ir_ref base = v = l->p->alias[v.i];
    const ir_op *o = ir_def_op(f, base);
    while (o && fuse_kind_of((ir_opcode)o->code) == FUSE_ALIAS && o->parent == l->region) {
        base = l->p->alias[ir_op_in(f, o, 0).i];
        o = ir_def_op(f, base);
    }
    if (!outline_is_own(l, base, kernel)) return outline_copy(l, v);
    l->claimed[base.i] = true;
    return l->map[v.i];
}

static uint32_t outline_carries(const ir_func *f, const ir_op *o) {
    const ir_attr_scan *a = ir_attr_get(f->module, o->attr);
    return o->code == OP_scan ? (uint32_t)a->carries : o->code == OP_while ? o->nin : 0;
}

/* Whether a loop is the last to read a value, and does so once: kernels that read it are called
 * before. */
static bool outline_reads_last(const outline *l, const ir_op *loop, ir_ref v) {
    const fuse_plan *p = l->p;
    const ir_func *f = p->f;
    const uint32_t at = (uint32_t)(loop - f->ops.data);
    uint32_t times = 0;
    for (uint32_t i = 0; i < f->ops.n; i++)
        for (uint32_t k = 0; k < f->ops.data[i].nin; k++) {
            const ir_op *o = &f->ops.data[i];
            if (ir_op_in(f, o, k).i != v.i) continue;
            fuse_kind kind = fuse_kind_of((ir_opcode)o->code);
            times += i == at;
            if (i != at && (kind == FUSE_CALL || kind == FUSE_ALIAS || kind == FUSE_COPY ||
                            kind == FUSE_WHOLE || p->whole[i]))
                return false;
        }
    for (uint32_t i = 0; i < p->clusters.n; i++)
        if (p->clusters.data[i].root > at && fuse_has_edge(&p->clusters.data[i], v)) return false;
    return times == 1;
}

/* Whether carried value j of a loop is one of the loop around it, on its way through its body: then
 * both have the same memory. */
static bool outline_passes(const outline *l, const ir_op *o, uint32_t j) {
    const ir_func *f = l->p->f;
    const ir_region *r = &f->regions.data[o->parent];
    const ir_op *owner = &f->ops.data[r->op], *yield = &f->ops.data[r->end - 1];
    if (!o->parent || !o->nregion || l->p->whole[o - f->ops.data]) return false;
    ir_ref v = ir_op_in(f, o, j), result = ir_op_out(o, j);
    uint32_t first = r->param0 + (owner->code == OP_scan);
    return v.i >= first && v.i < first + outline_carries(f, owner) &&
           ir_op_in(f, yield, v.i - first).i == result.i && l->p->uses[result.i] == 1 &&
           outline_reads_last(l, o, v);
}

/* Whether a value is what another loop carried, for this one alone: it stays where it lies. */
static bool outline_follows(const outline *l, const ir_op *loop, ir_ref v) {
    const ir_func *f = l->p->f;
    const ir_op *o = ir_def_op(f, v);
    return o && (o->code == OP_scan || o->code == OP_while) && o->parent == loop->parent &&
           !l->p->whole[o - f->ops.data] && v.i - o->out0 < outline_carries(f, o) &&
           l->p->uses[v.i] == 1;
}

/* The k-th value to be carried into a loop, which writes to its memory: one that nobody else reads.
 */
static ir_ref outline_entering(outline *l, const ir_op *loop, uint32_t k) {
    const ir_func *f = l->p->f;
    ir_ref in = ir_op_in(f, loop, k), v = l->p->alias[in.i], base = v;
    if (outline_passes(l, loop, k) || outline_follows(l, loop, in)) return l->map[in.i];
    const ir_op *o = ir_def_op(f, base);
    bool alone = v.i == in.i && l->p->uses[v.i] == 1;
    while (o && fuse_kind_of((ir_opcode)o->code) == FUSE_ALIAS) {
        ir_ref of = ir_op_in(f, o, 0);
        base = l->p->alias[of.i];
        o = ir_def_op(f, base);
        alone &= base.i == of.i && l->p->uses[base.i] == 1;
    }
    return o && alone ? outline_result(l, v, true) : outline_copy(l, v);
}

/* The k-th operand of a yield.  What the condition of a while gives is only read, and a carried
 * value that is handed on as it is stays where it is. */
static ir_ref outline_yielded(outline *l, const ir_op *owner, const ir_op *yield, uint32_t k) {
    const ir_func *f = l->p->f;
    bool scan = owner->code == OP_scan, cond = yield->parent == owner->region0;
    ir_ref v = l->p->alias[ir_op_in(f, yield, k).i];
    const ir_op *o = ir_def_op(f, v);
    bool kept = k < outline_carries(f, owner) &&
                (v.i == f->regions.data[yield->parent].param0 + scan + k ||
                 (o && outline_passes(l, o, v.i - o->out0)));
    if (kept || (owner->code == OP_while && cond)) return l->map[v.i];
    return outline_result(l, v, true);
}

/* Begin an op with regions, or end a region.  What is carried into a loop, and what a region
 * yields, is memory of its own: the planner gives it to the op (passes/memplan.c). */
static void outline_flow(outline *l, const ir_op *o) {
    const ir_func *f = l->p->f;
    const ir_op *owner = o->nregion ? o : &f->ops.data[f->regions.data[o->parent].op];
    uint32_t carries = outline_carries(f, o);
    ir_ref *in = rt_alloc(l->out->alloc, ((size_t)o->nin + 1) * sizeof *in);
    if (!in) ir_build_error(&l->top, rt_fail_memory());
    outline_set_loc(l, o);
    for (uint32_t k = 0; in && k < o->nin; k++) {
        if (!o->nregion)
            in[k] = outline_yielded(l, owner, o, k);
        else if (k < carries)
            in[k] = outline_entering(l, o, k);
        else
            in[k] = l->map[l->p->alias[ir_op_in(f, o, k).i].i];
    }
    if (in) ir_copy_op_with(&l->top, f, o, in, l->map);
    rt_free(l->out->alloc, in, ((size_t)o->nin + 1) * sizeof *in);
    uint32_t next = o->nregion ? o->region0 : o->parent + 1;
    l->region = next < owner->region0 + owner->nregion ? next : owner->parent;
}

/* Add a value that a cluster is to read, once; uniform constants are copied into it instead. */
static void outline_reads(outline *l, ir_ref in, ir_ref *value, uint32_t *n, uint32_t most) {
    ir_ref v = l->p->alias[in.i];
    const ir_op *d = ir_def_op(l->p->f, v);
    if (d && fuse_is_uniform(l->p->f, d)) return;
    for (uint32_t i = 0; i < *n; i++)
        if (value[i].i == v.i) return;
    if (*n < most) value[(*n)++] = v;
}

/* A scan as a cluster with all its results. */
static void outline_loop(outline *l, uint32_t op) {
    const ir_func *f = l->p->f;
    const ir_op *o = &f->ops.data[op];
    ir_ref value[FUSE_OPERANDS], in[FUSE_OPERANDS], param[FUSE_OPERANDS], result[IG_MAX_RANK];
    ir_type type[FUSE_OPERANDS] = {{0}};
    ir_attr_call call;
    ir_builder b;
    ir_func *made = NULL;
    uint32_t n = 0, end = ir_op_after(f, op);
    memset(&call, 0, sizeof call);
    outline_set_loc(l, o);
    for (uint32_t i = op; i < end; i++)
        for (uint32_t k = 0; k < f->ops.data[i].nin; k++) {
            ir_ref v = ir_op_in(f, &f->ops.data[i], k);
            if (ir_home(f, l->p->alias[v.i]) != o->region0)
                outline_reads(l, v, value, &n, FUSE_OPERANDS);
        }
    for (uint32_t k = 0; k < n; k++) {
        in[k] = l->map[value[k].i];
        type[k] = ir_type_of(&l->top, in[k]);
    }
    outline_begin(l, &b, ir_op_tab[o->code].name, n, type, param);
    for (uint32_t k = 0; k < n; k++) l->inner[value[k].i] = param[k];
    for (uint32_t i = op; i < end; i++)
        for (uint32_t k = 0; k < f->ops.data[i].nin; k++) {
            ir_ref v = ir_op_in(f, &f->ops.data[i], k), from = l->p->alias[v.i];
            const ir_op *d = ir_def_op(f, from);
            if (ir_home(f, from) == o->region0 || !d || !fuse_is_uniform(f, d)) continue;
            l->inner[from.i] = outline_const(&b, f->module, d);
        }
    for (uint32_t i = op; i < end; i++) {
        const ir_op *x = &f->ops.data[i];
        for (uint32_t k = 0; k < x->nin; k++) {
            ir_ref v = ir_op_in(f, x, k);
            if (ir_home(f, v) != o->region0) l->inner[v.i] = l->inner[l->p->alias[v.i].i];
        }
        ir_copy_op(&b, f, i, l->inner);
    }
    for (uint32_t k = 0; k < o->nout; k++) result[k] = l->inner[o->out0 + k];
    ir_build_error(&l->top, ir_build_end(&b, o->nout, result, &made));
    if (l->top.error) return;
    call.callee = made->name;
    ir_ref r = ir_emit(&l->top, OP_call, &call, (int)n, in);
    for (uint32_t k = 0; k < o->nout; k++) l->map[o->out0 + k] = ir_result(r, k);
}

static void outline_op(outline *l, uint32_t op) {
    const fuse_plan *p = l->p;
    const ir_op *o = &p->f->ops.data[op];
    bool needed = fuse_is_used(p, o);
    uint32_t id = p->root_of[op];
    if (p->whole[op]) {
        if (o->nregion) outline_loop(l, op);
        return;
    }
    switch (fuse_kind_of((ir_opcode)o->code)) {
    case FUSE_WEIGHT:
    case FUSE_CONST:
    case FUSE_ALIAS:
        if (needed) outline_keep(l, op);
        break;
    case FUSE_CALL:
        if (o->code == OP_call) outline_call_op(l, op);
        if (o->nregion || o->code == OP_yield) outline_flow(l, o);
        break;
    case FUSE_WHOLE:
        if (needed || !o->nout) outline_whole(l, op);
        break;
    default:
        if (id && p->clusters.data[id - 1].wide)
            outline_wide(l, &p->clusters.data[id - 1]);
        else if (id)
            outline_cluster(l, &p->clusters.data[id - 1], id);
    }
}

static ig_status outline_return(outline *l) {
    const ir_op *ret = ir_return_op(l->p->f);
    const ig_allocator *a = l->out->alloc;
    ir_ref *results = rt_alloc(a, ((size_t)ret->nin + 1) * sizeof *results);
    if (!results) ir_build_error(&l->top, rt_fail_memory());
    outline_set_loc(l, ret);
    for (uint32_t k = 0; k < ret->nin && !l->top.error; k++)
        results[k] = outline_result(l, ir_op_in(l->p->f, ret, k), false);
    ig_status s = ir_build_end(&l->top, ret->nin, results, NULL);
    rt_free(a, results, ((size_t)ret->nin + 1) * sizeof *results);
    return s;
}

ig_status fuse_outline(fuse_plan *p, ir_module *out, fuse_made *made) {
    const ir_func *f = p->f;
    const ig_allocator *a = out->alloc;
    size_t n = f->values.n;
    outline l = {.p = p, .out = out, .made = made};
    l.map = pass_begin(&l.top, out, f, IR_BUILD_RAW);
    l.inner = rt_alloc_zero(a, n * sizeof *l.inner);
    l.stamp = rt_alloc_zero(a, n * sizeof *l.stamp);
    l.claimed = rt_alloc_zero(a, n * sizeof *l.claimed);
    if (!l.inner || !l.stamp || !l.claimed) ir_build_error(&l.top, rt_fail_memory());
    for (uint32_t o = 0; o < f->ops.n && !l.top.error; o++) outline_op(&l, o);
    ig_status s = outline_return(&l);
    rt_free(a, l.map, n * sizeof *l.map);
    rt_free(a, l.inner, n * sizeof *l.inner);
    rt_free(a, l.stamp, n * sizeof *l.stamp);
    rt_free(a, l.claimed, n * sizeof *l.claimed);
    return s;
}
