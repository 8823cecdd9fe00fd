/* excess.c - what a run took too much of, and which loop is to blame. */
#include "frontend/excess.h"

#include <inttypes.h>

/* Whether a value is a result of the function, whose memory is the caller's. */
static bool excess_is_result(const ir_func *f, ir_ref v) {
    const ir_op *ret = ir_return_op(f);
    for (uint32_t k = 0; k < ret->nin; k++)
        if (ir_op_in(f, ret, k).i == v.i) return true;
    return false;
}

/* Bytes of what an op gives to other ops; SIZE_MAX when they are more than can be counted. */
static size_t excess_bytes(const ir_func *f, const ir_op *o, const int64_t *symbols) {
    size_t all = 0;
    for (uint32_t k = 0; k < o->nout; k++) {
        const ir_type *t = ir_val_type(f, ir_op_out(o, k));
        size_t n = rt_dtype_bytes((ig_dtype)t->dtype);
        if (excess_is_result(f, ir_op_out(o, k))) continue;
        for (int i = 0; i < t->rank; i++) {
            int64_t d;
            if (!ir_dim_eval(f->module, t->dim[i], symbols, &d) || d < 0 ||
                !rt_mul_size(n, (size_t)d, &n))
                return SIZE_MAX;
        }
        if (!rt_add_size(all, n, &all)) return SIZE_MAX;
    }
    return all;
}

/* The op whose results take most; NULL: none has any. */
static const ir_op *excess_largest(const ir_func *f, const int64_t *symbols, size_t *bytes_) {
    const ir_op *most = NULL;
    *bytes_ = 0;
    for (uint32_t i = 0; i < f->ops.n; i++) {
        size_t n = excess_bytes(f, &f->ops.data[i], symbols);
        if (n <= *bytes_) continue;
        most = &f->ops.data[i];
        *bytes_ = n;
    }
    return most;
}

/* "scan at net.c:12" */
static void excess_name(const ir_func *f, const ir_op *o, rt_str *out) {
    ir_loc_rec at = ir_loc_get(f->module, o->loc);
    rt_str_puts(out, ir_op_tab[o->code].name);
    if (at.file) rt_str_printf(out, " at %s:%u", at.file, at.line);
}

ig_status fe_excess_memory(const ir_func *f, const int64_t *symbols, uint64_t bytes,
                           uint64_t limit) {
    const ig_allocator *a = f->module->alloc;
    size_t most;
    const ir_op *o = excess_largest(f, symbols, &most);
    ig_status s = limit ? rt_fail(a, IG_MEMORY,
                                  "the run takes %" PRIu64
                                  " bytes or more besides arguments, results "
                                  "and weights; the limit is %" PRIu64 " (ig_module_set_limit)",
                                  bytes, limit)
                        : rt_fail(a, IG_MEMORY,
                                  "out of memory: the run takes %" PRIu64
                                  " bytes besides arguments, results and weights",
                                  bytes);
    if (!o) return s;
    rt_str name;
    rt_str_init(&name, a);
    excess_name(f, o, &name);
    const char *advice =
        o->code == OP_scan
            ? ": keep less of its steps for reverse mode (IG_CKPT_SQRT or a number of "
              "states in ig_scan_options.keep), or raise the limit"
        : o->code == OP_while ? ": keep fewer states for reverse mode (a number in "
                                "ig_while_options.keep, or a lower cap), or raise the limit"
                              : "";
    s = rt_status_note(s, "%zu of them are what %s gives%s", most, rt_str_text(&name), advice);
    rt_str_free(&name);
    return s;
}

ig_status fe_excess_trips(const ir_func *f) {
    const ig_allocator *a = f->module->alloc;
    rt_str names;
    int n = 0;
    rt_str_init(&names, a);
    for (uint32_t i = 0; i < f->ops.n; i++) {
        const ir_op *o = &f->ops.data[i];
        const ir_attr_while *loop = ir_attr_get(f->module, o->attr);
        if (o->code != OP_while || !loop->cap) continue;
        rt_str_puts(&names, n++ ? ", " : "");
        excess_name(f, o, &names);
        rt_str_printf(&names, " (%" PRId64 ")", loop->cap);
    }
    ig_status s = rt_fail(a, IG_RANGE, "%s would go round more often than its cap: %s",
                          n > 1 ? "one of these loops" : "the loop", rt_str_text(&names));
    rt_str_free(&names);
    return s;
}
