/* header.c - the C header that goes with a deployment object: all that a second program needs to
 * know. */
#include "codegen/header.h"
#include "passes/pass.h"
#include "runtime/kernel_abi.h"
#include <ctype.h>
#include <string.h>

bool cg_is_identifier(const char *s) {
    if (!isalpha((unsigned char)*s) && *s != '_') return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && *s != '_') return false;
    return true;
}

static void header_upper(rt_str *out, const char *s) {
    for (; *s; s++) {
        char c = (char)toupper((unsigned char)*s);
        rt_str_add(out, &c, 1);
    }
}

/* One line about a parameter or result: ` *   in[0]  x  f32[B,64]`. */
static void header_port(const ir_func *f, rt_str *out, const char *what, uint32_t k,
                        const char *name, const ir_type *t) {
    rt_str_printf(out, " *   %s[%u]  ", what, k);
    if (name) rt_str_printf(out, "%s ", name);
    ir_type_print(f->module, t, out);
    rt_str_puts(out, "\n");
}

static void header_ports(const ir_func *f, const char *prefix, rt_str *out) {
    rt_str_puts(out, " * Buffers are contiguous, row-major, in the machine's byte order; bool is "
                     "one byte, 0 or 1.\n");
    for (uint32_t k = 0; k < ir_nparam(f); k++)
        header_port(f, out, "in", k, k < f->param_names.n ? f->param_names.data[k] : NULL,
                    ir_val_type(f, ir_param_ref(f, k)));
    for (uint32_t k = 0; k < f->results.n; k++)
        header_port(f, out, "out", k, NULL, ir_result_type(f, k));
    uint32_t state = f->module->nstate;
    if (!state) return;
    rt_str_printf(
        out,
        " * The last %u inputs and outputs are state: pass what the call before returned.  "
        "An\n * output must not overlap an input, but state that ",
        state);
    header_upper(out, prefix);
    rt_str_puts(out,
                "_IN_PLACE has a 1\n * for may stay in its buffer (the same pointer in and out); "
                "of other state there are two\n * buffers, exchanged after every call.\n");
}

static void header_dims(const ir_module *m, rt_str *out) {
    if (!m->symbols.n) {
        rt_str_puts(out, " * There are no dynamic dims: `dims` may be NULL.\n");
        return;
    }
    rt_str_puts(out, " * Dynamic dims:\n");
    for (uint32_t k = 0; k < m->symbols.n; k++)
        rt_str_printf(out, " *   dims[%u]  %s in %lld..%lld\n", k, m->symbols.data[k].name,
                      (long long)m->symbols.data[k].lo, (long long)m->symbols.data[k].hi);
}

/* --- What the program calls and checks -------------------------------------------------------- */

static const char header_custom[] =
    "#ifndef IG_CUSTOM_DEFINED\n#define IG_CUSTOM_DEFINED\n"
    "typedef struct ig_array {\n    void *data;\n    int32_t dtype, rank;\n    int64_t dim[8];\n"
    "} ig_array;\n"
    "typedef struct ig_custom_args {\n    void *user; /* NULL */\n    const char *text;\n"
    "    int32_t nin, nout;\n    const ig_array *in, *out;\n} ig_custom_args;\n"
    "typedef int32_t (*ig_custom_fn)(const ig_custom_args *args);\n#endif\n"
    "/* C functions that the program must be linked with: 0, or what they failed with. */\n";

/* Declare the C functions that are called, each once. */
static void header_functions(const ir_func *f, rt_str *out) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->ops.n; i++) {
        const ir_op *o = &f->ops.data[i];
        const ir_attr_custom *a = ir_attr_get(f->module, o->attr);
        bool first = o->code == OP_custom || o->code == OP_host;
        for (uint32_t k = 0; first && k < i; k++) {
            const ir_op *p = &f->ops.data[k];
            const ir_attr_custom *b = ir_attr_get(f->module, p->attr);
            first = (p->code != OP_custom && p->code != OP_host) || b->name != a->name;
        }
        if (!first) continue;
        if (!n++) rt_str_puts(out, header_custom);
        rt_str_printf(out, "int32_t %s(const ig_custom_args *args); /* version %lld%s%s */\n",
                      a->name, (long long)a->version, o->code == OP_custom ? ": " : "",
                      o->code == OP_custom ? a->type : "");
    }
    if (n) rt_str_puts(out, "\n");
}

/* One line for each code that a failed assertion gives. */
static void header_asserts(const ir_func *f, const char *prefix, rt_str *out) {
    int code = RT_HOST_ASSERT;
    for (uint32_t i = 0; i < f->ops.n; i++) {
        if (f->ops.data[i].code != OP_assert) continue;
        const ir_attr_assert *a = ir_attr_get(f->module, f->ops.data[i].attr);
        ir_loc_rec at = ir_loc_get(f->module, f->ops.data[i].loc);
        rt_str_puts(out, "#define ");
        header_upper(out, prefix);
        rt_str_printf(out, "_CHECK%d %d /* %s:%u: ", code - RT_HOST_ASSERT, code,
                      at.file ? at.file : "?", at.line);
        for (const char *s = a->text ? a->text : ""; *s; s++)
            rt_str_add(out, *s == '/' || (unsigned char)*s < ' ' ? " " : s, 1);
        rt_str_puts(out, " */\n");
        code++;
    }
    if (code > RT_HOST_ASSERT) rt_str_puts(out, "\n");
}

/* Constants a caller wants: sizes of static buffers, counts. */
static void header_macros(const ir_func *f, const char *prefix, rt_str *out) {
    for (int side = 0; side < 2; side++) {
        uint32_t n = side ? f->results.n : ir_nparam(f);
        rt_str_puts(out, "#define ");
        header_upper(out, prefix);
        rt_str_printf(out, "_%s %u\n", side ? "OUTPUTS" : "INPUTS", n);
        for (uint32_t k = 0; k < n; k++) {
            const ir_type *t = side ? ir_result_type(f, k) : ir_val_type(f, ir_param_ref(f, k));
            int64_t numel;
            size_t bytes;
            if (!ir_type_is_static(t) || !ir_type_bytes(t, &numel, &bytes)) continue;
            rt_str_puts(out, "#define ");
            header_upper(out, prefix);
            rt_str_printf(out, "_%s%u_BYTES %zu\n", side ? "OUT" : "IN", k, bytes);
        }
    }
}

/* How many state tensors there are, and which may stay in their buffers. */
static ig_status header_state(const ir_module *m, const char *prefix, rt_str *out) {
    if (!m->nstate) return NULL;
    bool *in_place = rt_alloc_zero(m->alloc, m->nstate);
    ig_status s = in_place ? pass_in_place(m, in_place) : rt_fail_memory();
    rt_str_puts(out, "#define ");
    header_upper(out, prefix);
    rt_str_printf(out, "_STATE %u\n#define ", m->nstate);
    header_upper(out, prefix);
    rt_str_puts(out, "_IN_PLACE {");
    for (uint32_t k = 0; !s && k < m->nstate; k++)
        rt_str_printf(out, "%s%d", k ? ", " : "", in_place[k]);
    rt_str_puts(out, "}\n");
    rt_free(m->alloc, in_place, m->nstate);
    return s;
}

static const char header_exec[] =
    "#ifndef IG_EXEC_DEFINED\n#define IG_EXEC_DEFINED\n"
    "/* Runs a kernel over [0, n) in any split and order; returns when all is done.  ps: "
    "estimated\n"
    " * picoseconds of the whole in one part.  A NULL executor is serial. */\n"
    "typedef void (*ig_kernel)(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi);\n"
    "typedef struct ig_exec {\n"
    "    void (*run)(const struct ig_exec *self, ig_kernel kernel, void *const *bufs, const "
    "int64_t *dims,\n"
    "                int64_t n, int64_t ps);\n"
    "} ig_exec;\n#endif\n\n";

/* Both, of the function as it is compiled: with what it calls inside. */
static ig_status header_asks(const ir_func *entry, const char *prefix, rt_str *out) {
    ir_module *flat;
    RT_TRY(pass_run_list("inline,expand", entry->module, &flat));
    const ir_func *f = ir_find_func(flat, entry->name);
    header_asserts(f, prefix, out);
    header_functions(f, out);
    ir_module_free(flat);
    return NULL;
}

ig_status cg_header(const ir_module *m, const char *entry, const char *prefix, const cg_cpu *cpu,
                    rt_str *out) {
    const ir_func *f = ir_find_func(m, entry);
    if (!f) return rt_fail(m->alloc, IG_INVALID, "the module has no function @%s", entry);
    rt_str_printf(out, "/* %s.h - @%s of module %s, compiled for %s (%s) by Ingot %s.\n *\n",
                  prefix, entry, m->name, cpu->name, cpu->triple, IG_VERSION_STRING);
    header_ports(f, prefix, out);
    header_dims(m, out);
    rt_str_puts(out, " *\n * Re-entrant; allocates nothing; needs nothing but memcpy, memset and "
                     "memmove,\n * and the C functions declared below, if any. */\n");
    rt_str_puts(out, "#ifndef ");
    header_upper(out, prefix);
    rt_str_puts(out, "_H\n#define ");
    header_upper(out, prefix);
    rt_str_puts(out, "_H\n#include <stddef.h>\n#include <stdint.h>\n\n"
                     "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n");
    header_macros(f, prefix, out);
    RT_TRY(header_state(m, prefix, out));
    rt_str_puts(out, "\n");
    RT_TRY(header_asks(f, prefix, out));
    rt_str_puts(out, header_exec);
    rt_str_printf(
        out,
        "/* Bytes of workspace for these dims.  0; 1 when a dim is outside its range; 2 when a "
        "size\n"
        " * overflows.  A run also gives 3: a loop would go round more often than its cap; 4: a C\n"
        " * function failed; 16 and more: what is checked above does not hold. */\n"
        "int %s_workspace(const int64_t *dims, size_t *bytes);\n\n"
        "/* Run.  `ws`: the workspace, 64-byte aligned.  exec NULL: serial.  Results as above. */\n"
        "int %s_run(const void *const *in, void *const *out, const int64_t *dims, void *ws,\n"
        "        const ig_exec *exec);\n",
        prefix, prefix);
    rt_str_puts(out, "\n#ifdef __cplusplus\n}\n#endif\n#endif\n");
    return out->failed ? rt_fail_memory() : NULL;
}
