/* ways.c - reference, as one lane of a batch, eager, compiled at every level, saved and loaded,
 * deployed. */
#include "tests/ways.h"
#include "frontend/fe.h"
#include "ir/file.h"
#include "passes/transform.h"
#include "runtime/custom.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const ig_allocator *A(void) { return ig_allocator_default(); }
static bool ways_always(void) { return true; }

/* --- Outputs
 * ------------------------------------------------------------------------------------------ */

size_t way_bytes(const ir_tensor *t) {
    int64_t n = 1;
    if (!rt_numel_checked(t->dim, t->rank, &n)) return 0;
    return (size_t)n * rt_dtype_bytes(t->dtype);
}

bool way_alloc_outputs(const way_case *c, ir_tensor *out) {
    for (int k = 0; k < c->nout; k++) {
        ig_status s = ir_result_shape(c->f, c->symbols, (uint32_t)k, &out[k]);
        if (s) return ig_status_free(s), false;
        size_t n = way_bytes(&out[k]);
        out[k].data = rt_alloc_buffer(A(), n + 64);
        if (!out[k].data) return false;
        memset(out[k].data, 0xa5,
               n + 64); /* a skipped tail shows, and so does a write behind the end */
    }
    return true;
}

void way_free_outputs(int n, ir_tensor *out) {
    for (int k = 0; k < n; k++) {
        if (out[k].data) rt_free_buffer(A(), out[k].data, way_bytes(&out[k]) + 64);
        out[k].data = NULL;
    }
}

int way_compare(int n, ir_tensor *want, ir_tensor *got, int64_t *element_) {
    for (int k = 0; k < n; k++) {
        size_t bytes = way_bytes(&want[k]), size = rt_dtype_bytes(want[k].dtype);
        ir_canon_nan(want[k].dtype, want[k].data, (int64_t)(bytes / size));
        ir_canon_nan(got[k].dtype, got[k].data, (int64_t)(bytes / size));
        for (size_t i = 0; i < bytes + 64; i++) {
            uint8_t x = ((uint8_t *)want[k].data)[i], y = ((uint8_t *)got[k].data)[i];
            if (i >= bytes ? y != 0xa5 : x != y) return *element_ = (int64_t)(i / size), k;
        }
    }
    return -1;
}

/* --- The reference
 * ------------------------------------------------------------------------------------ */

static ig_status ways_reference(const way_case *c, ir_tensor *out) {
    return ir_ref_run(c->f, A(), c->symbols, c->nin, c->in, c->nout, out);
}

/* --- As the second of two lanes, the first of which has the elements from behind
 * ---------------------- */

enum { WAYS_LANES = 2 };

/* The same type with the axis of lanes. */
static ir_tensor ways_wide(const ir_tensor *t) {
    ir_tensor w = {.dtype = t->dtype, .rank = (uint8_t)(t->rank + 1), .dim = {WAYS_LANES}};
    memcpy(w.dim + 1, t->dim, t->rank * sizeof *t->dim);
    w.data = rt_alloc_buffer(A(), WAYS_LANES * way_bytes(t) + 64);
    return w;
}

static ig_status ways_lanes_run(const way_case *c, const ir_func *f, ir_tensor *out) {
    ir_tensor in[64], wide[64];
    bool ok = c->nin <= 64 && c->nout <= 64;
    for (int k = 0; k < c->nin && ok; k++) {
        const ir_tensor *x = &c->in[k];
        size_t size = rt_dtype_bytes(x->dtype), bytes = way_bytes(x);
        in[k] = ways_wide(x);
        for (size_t i = 0; i < bytes; i += size)
            memcpy((char *)in[k].data + i, (char *)x->data + bytes - size - i, size);
        if (bytes) memcpy((char *)in[k].data + bytes, x->data, bytes);
    }
    for (int k = 0; k < c->nout && ok; k++) wide[k] = ways_wide(&out[k]);
    ig_status s = ir_ref_run(f, A(), c->symbols, c->nin, in, c->nout, wide);
    for (int k = 0; k < c->nout; k++) {
        size_t bytes = way_bytes(&out[k]);
        if (!s && bytes) memcpy(out[k].data, (char *)wide[k].data + bytes, bytes);
        rt_free_buffer(A(), wide[k].data, WAYS_LANES * bytes + 64);
    }
    for (int k = 0; k < c->nin; k++)
        rt_free_buffer(A(), in[k].data, WAYS_LANES * way_bytes(&c->in[k]) + 64);
    return s;
}

static ig_status ways_lanes(const way_case *c, ir_tensor *out) {
    ir_module *m;
    if (ir_entry(c->module) != c->f) return ways_reference(c, out);
    ig_status s = pass_vmap(c->module, "2", NULL, NULL, &m);
    int code = ig_status_code(s);
    if (code == IG_SHAPE || code == IG_UNSUPPORTED) { /* no room for an axis; no rule (if, scan) */
        ig_status_free(s);
        return ways_reference(c, out);
    }
    if (!s) s = ways_lanes_run(c, ir_entry(m), out);
    ir_module_free(m);
    return s;
}

/* --- Eager: every op through the one function behind the public calls
 * --------------------------------- */

static ig_dims ways_dims(int rank, const int64_t *dim) {
    ig_dims d = {rank, {0}};
    for (int i = 0; i < rank; i++) d.d[i] = dim[i];
    return d;
}

/* The attribute of an op with the sizes of the symbols. */
static void ways_attr(const way_case *c, const ir_op *op, ir_attr_any *out_) {
    const void *attr = ir_attr_get(c->module, op->attr);
    fe_eval_attr(c->module, c->symbols, (ir_attr_kind)ir_op_tab[op->code].attr, attr, out_);
}

static void ways_eager_op(const way_case *c, const ir_op *op, ig_tensor **value) {
    ig_tensor *in[64], *out[FE_RESULTS] = {NULL};
    ir_attr_any attr;
    fe_call call;
    for (uint32_t k = 0; k < op->nin; k++) in[k] = value[ir_op_in(c->f, op, k).i];
    if (!fe_enter(&call, NULL, ir_op_tab[op->code].name)) return;
    ways_attr(c, op, &attr);
    if (op->nout == 1)
        out[0] = fe_op(&call, op->code, &attr, op->nin, in);
    else
        fe_ops(&call, op->code, &attr, op->nin, in, op->nout, out);
    for (uint32_t k = 0; k < op->nout; k++) value[op->out0 + k] = fe_hand_out(&call, out[k]);
    fe_exit(&call);
}

static void ways_range(const way_case *c, uint32_t first, uint32_t end, ig_tensor **value);

/* An op with regions, for the C functions that stand for these. */
typedef struct ways_flow {
    const way_case *c;
    const ir_op *op;
    ig_tensor **value;
} ways_flow;

static void ways_region(const ways_flow *w, uint32_t k, ig_tensor *const *in, ig_tensor **out) {
    const ir_func *f = w->c->f;
    const ir_region *r = &f->regions.data[w->op->region0 + k];
    const ir_op *yield = &f->ops.data[r->end - 1];
    bool scan = w->op->code == OP_scan; /* its region has the step first */
    for (uint32_t i = 0; i < r->nparam; i++)
        w->value[r->param0 + i] = in[scan ? (i ? i - 1 : r->nparam - 1) : i];
    ways_range(w->c, r->first, r->end - 1, w->value);
    for (uint32_t i = 0; i < yield->nin; i++) out[i] = w->value[ir_op_in(f, yield, i).i];
}

#define WAYS_REGION(k)                                                              \
    static void ways_region##k(void *user, ig_tensor *const *in, ig_tensor **out) { \
        ways_region(user, k, in, out);                                              \
    }
WAYS_REGION(0)
WAYS_REGION(1)
WAYS_REGION(2)
WAYS_REGION(3)

static void ways_flow_op(const way_case *c, const ir_op *op, ig_tensor **value) {
    static const ig_body_fn region[4] = {ways_region0, ways_region1, ways_region2, ways_region3};
    ir_attr_any attr;
    const ir_attr_scan *scan = (const ir_attr_scan *)(const void *)&attr;
    const ir_attr_while *loop = (const ir_attr_while *)(const void *)&attr;
    ways_attr(c, op, &attr);
    ways_flow w = {c, op, value};
    ig_tensor *in[IR_MAX_RESULTS], **out = value + op->out0;
    for (uint32_t k = 0; k < op->nin; k++) in[k] = value[ir_op_in(c->f, op, k).i];
    if (op->code == OP_composite) {
        ways_region0(&w, in, out);
    } else if (op->code == OP_while) {
        ig_while(region[0], region[1], &w, op->nin, in, loop->cap, out);
    } else if (op->code == OP_scan) {
        int n = (int)scan->carries, ny = op->nout - n;
        ig_scan_options opt = {.steps = scan->n, .reverse = scan->reverse};
        ig_scan(region[0], &w, n, in, op->nin - n, in + n, ny, &opt, out);
    } else if (ig_dtype_of(in[0]) == IG_bool) {
        ig_if(in[0], region[0], region[1], &w, 0, NULL, op->nout, out);
    } else {
        ig_switch(in[0], op->nregion, region, &w, 0, NULL, op->nout, out);
    }
}

static void ways_range(const way_case *c, uint32_t first, uint32_t end, ig_tensor **value) {
    for (uint32_t o = first; o < end; o = ir_op_after(c->f, o)) {
        const ir_op *op = &c->f->ops.data[o];
        if (op->nregion)
            ways_flow_op(c, op, value);
        else
            ways_eager_op(c, op, value);
    }
}

static ig_status ways_eager_run(const way_case *c, ig_tensor **value, ir_tensor *out) {
    for (int k = 0; k < c->nin; k++)
        value[ir_param_ref(c->f, (uint32_t)k).i] = ig_tensor_from_at(
            NULL, c->in[k].dtype, ways_dims(c->in[k].rank, c->in[k].dim), c->in[k].data);
    ways_range(c, 0, c->f->ops.n - 1, value);
    const ir_op *ret = ir_return_op(c->f);
    for (int k = 0; k < c->nout; k++) {
        ig_status s =
            ig_read(value[ir_op_in(c->f, ret, (uint32_t)k).i], out[k].data, way_bytes(&out[k]));
        if (s) return ig_status_free(s), ig_error_take();
    }
    return ig_error_take();
}

static ig_status ways_eager(const way_case *c, ir_tensor *out) {
    ig_session_options opt = {.nofma = c->module->class == IR_CLASS_NOFMA};
    ig_session *session;
    RT_TRY(ig_session_new(&opt, &session));
    ig_session *before = ig_session_use(session);
    ig_tensor **value = rt_alloc_zero(A(), c->f->values.n * sizeof *value);
    ig_status s = value ? ways_eager_run(c, value, out) : rt_fail_memory();
    rt_free(A(), value, c->f->values.n * sizeof *value);
    ig_session_free(session);
    ig_session_use(before);
    return s;
}

/* --- Compiled
 * ----------------------------------------------------------------------------------------- */

/* Call the host program of an image, or one that is deployed (NULL). */
static ig_status ways_call(const way_case *c, const rt_image *image, rt_host_fn run,
                           rt_workspace_fn workspace, ir_tensor *out) {
    const void *in[64], **table = NULL, **weights = NULL;
    void *outs[64];
    uint32_t room = 0;
    uint64_t bytes = 0;
    ig_status s = image ? rt_custom_table(A(), image, c->module->weights.n, &table, &room, &weights)
                        : NULL;
    if (s) {
        rt_free(A(), table, room * sizeof *table);
        return s;
    }
    for (int k = 0; k < c->nin; k++) in[k] = c->in[k].data;
    for (int k = 0; k < c->nout; k++) outs[k] = out[k].data;
    for (uint32_t k = 0; weights && k < c->module->weights.n; k++)
        weights[k] = c->module->weights.data[k].data;
    int32_t code = workspace(c->symbols, &bytes);
    void *ws = code ? NULL : rt_alloc_buffer(A(), bytes + 64);
    if (ws) {
        memset(ws, 0x5a, bytes + 64);
        code = run(in, outs, c->symbols, ws, NULL, weights);
        for (int k = 0; k < 64; k++)
            if (((uint8_t *)ws)[bytes + (uint64_t)k] != 0x5a)
                code = 99; /* wrote behind the workspace */
        rt_free_buffer(A(), ws, bytes + 64);
    }
    rt_free(A(), table, room * sizeof *table);
    return code ? rt_fail(A(), IG_INTERNAL, "the host program returned %d", code) : NULL;
}

static ig_status ways_compile(const way_case *c, const cg_cpu *cpu, way_kept *kept) {
    cg_bytes image = {0};
    ig_status s = cg_compile(c->module, c->f->name, cpu, &image);
    if (!s) s = rt_image_load(A(), image.data, image.n, &kept->image);
    cg_bytes_free(&image);
    return s;
}

void way_release(way_kept *kept) {
    rt_image_free(kept->image);
    if (kept->lib) dlclose(kept->lib);
    *kept = (way_kept){0};
}

static ig_status ways_compiled(const way_case *c, const cg_cpu *cpu, ir_tensor *out) {
    way_kept own = {0}, *kept = c->kept ? c->kept : &own;
    ig_status s = kept->image ? NULL : ways_compile(c, cpu, kept);
    if (!s) {
        char name[256];
        snprintf(name, sizeof name, "%s_workspace", c->f->name);
        rt_host_fn run = (rt_host_fn)(uintptr_t)rt_image_find(kept->image, c->f->name);
        rt_workspace_fn ws = (rt_workspace_fn)(uintptr_t)rt_image_find(kept->image, name);
        s = run && ws ? ways_call(c, kept->image, run, ws, out)
                      : rt_fail(A(), IG_INTERNAL, "the image has no @%s", c->f->name);
    }
    way_release(&own);
    return s;
}

static ig_status ways_host(const way_case *c, ir_tensor *out) {
    return ways_compiled(c, cg_cpu_host(c->module->class), out);
}

static ig_status ways_saved(const way_case *c, ir_tensor *out) {
    rt_str file;
    rt_str_init(&file, A());
    ir_module *back = NULL;
    ig_status s = ir_save(c->module, NULL, 0, &file);
    if (!s) s = ir_load(A(), file.data, file.n, &back);
    if (!s) {
        way_case again = *c;
        again.module = back;
        again.f = ir_find_func(back, c->f->name);
        s = again.f ? ways_host(&again, out) : rt_fail(A(), IG_INTERNAL, "the function was lost");
    }
    ir_module_free(back);
    rt_str_free(&file);
    return s;
}

#define LEVEL(level)                                                                     \
    static bool ways_has_##level(void) { return cg_cpu_runs_here(cg_cpu_find(#level)); } \
    static ig_status ways_level_##level(const way_case *c, ir_tensor *out) {             \
        return ways_compiled(c, cg_cpu_find(#level), out);                               \
    }
#define CPU(level, ...) LEVEL(level)
#include "codegen/cpus.def"
#undef CPU

/* --- Deployed: object -> shared library by the C compiler -> dlopen
 * ------------------------------------- */

typedef int (*ways_run_fn)(const void *const *, void *const *, const int64_t *, void *,
                           const ig_exec *);
typedef int (*ways_size_fn)(const int64_t *, size_t *);

static ways_run_fn ways_deployed_run;
static ways_size_fn ways_deployed_size;
static int32_t ways_deployed_call(const void *const *in, void *const *out, const int64_t *dims,
                                  void *ws, const ig_exec *exec, const void *const *weights) {
    (void)weights;
    return ways_deployed_run(in, out, dims, ws, exec);
}
static int32_t ways_deployed_workspace(const int64_t *dims, uint64_t *bytes) {
    size_t n = 0;
    int code = ways_deployed_size(dims, &n);
    *bytes = n;
    return code;
}

/* Build, link, load; the files are gone afterwards. */
static ig_status ways_deploy(const way_case *c, way_kept *kept) {
    char dir[] = "/tmp/ingot-way-XXXXXX", path[64], so[64], command[256];
    if (!mkdtemp(dir)) return rt_fail(A(), IG_IO, "cannot make a temporary folder");
    snprintf(path, sizeof path, "%s/m.o", dir);
    snprintf(so, sizeof so, "%s/m.so", dir);
    snprintf(command, sizeof command, "cc -shared -nostdlib -Wl,--no-undefined -o %s %s -lc", so,
             path);
    cg_bytes object = {0};
    ig_status s = cg_build(c->module, c->f->name, "m", cg_cpu_host(c->module->class), &object);
    FILE *f = s ? NULL : fopen(path, "wb");
    if (!s && !f) s = rt_fail(A(), IG_IO, "%s cannot be written", path);
    if (f) {
        fwrite(object.data, 1, object.n, f);
        fclose(f);
        kept->lib = system(command) ? NULL : dlopen(so, RTLD_NOW | RTLD_LOCAL);
        if (!kept->lib) s = rt_fail(A(), IG_INTERNAL, "the object cannot be linked or loaded");
    }
    cg_bytes_free(&object);
    unlink(path);
    unlink(so);
    rmdir(dir);
    return s;
}

static ig_status ways_deployed(const way_case *c, ir_tensor *out) {
    way_kept own = {0}, *kept = c->kept ? c->kept : &own;
    ig_status s = kept->lib ? NULL : ways_deploy(c, kept);
    if (!s) {
        ways_deployed_run = (ways_run_fn)(uintptr_t)dlsym(kept->lib, "m_run");
        ways_deployed_size = (ways_size_fn)(uintptr_t)dlsym(kept->lib, "m_workspace");
        s = ways_call(c, NULL, ways_deployed_call, ways_deployed_workspace, out);
    }
    way_release(&own);
    return s;
}

/* clang-format off */
const way way_tab[] = {
    {"reference", ways_always, ways_reference},
    {"lanes", ways_always, ways_lanes},
    {"eager", ways_always, ways_eager},
    {"compiled", ways_always, ways_host},
    {"saved", ways_always, ways_saved},
#define CPU(level, ...) {#level, ways_has_##level, ways_level_##level},
#include "codegen/cpus.def"
#undef CPU
    {"deployed", ways_always, ways_deployed},
    {NULL, NULL, NULL},
};
/* clang-format on */

const way *way_find(const char *name) {
    for (const way *w = way_tab; w->name; w++)
        if (!strcmp(w->name, name)) return w;
    return NULL;
}

bool way_repeats(const way *w, ir_class cls) {
    const cg_cpu *cpu = cg_cpu_host(cls);
    return cpu && !strcmp(w->name, cpu->name);
}
