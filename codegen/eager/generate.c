/* generate.c - eager-gen LEVEL OBJECT TABLE: write the eager kernels of a level, when the project
 * is built.  The object holds the code; the table, as assembler text, what eager.h says of
 * cg_eager_level.  The same sources give the same bytes. */
#include "codegen/eager/clusters.h"

#include <stdio.h>
#include <string.h>

/* Begin an array of the table. */
static void write_array(FILE *f, const char *level, const char *what) {
    fprintf(f,
            "\n    .balign 8\n    .globl ig_eager_%s_%s\n    .hidden ig_eager_%s_%s\n"
            "    .type ig_eager_%s_%s, %%object\nig_eager_%s_%s:\n.L%s:\n",
            level, what, level, what, level, what, level, what, what);
}

/* Rows are numbered as their first kernels come. */
static void write_table(FILE *f, const char *level, const eager_entries *e) {
    static uint16_t row[CG_EAGER_VARIANTS * IG_DTYPE_END];
    uint16_t rows = 0;
    fprintf(f, "    .section .rodata\n");
    for (uint32_t i = 0; i < e->n; i++)
        if (!row[e->data[i].key]) row[e->data[i].key] = ++rows;
    write_array(f, level, "row");
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) fprintf(f, "    .short %u\n", row[i]);
    write_array(f, level, "dtype");
    for (uint32_t i = 0; i < e->n; i++)
        if (!i || e->data[i].key != e->data[i - 1].key)
            fprintf(f, "    .byte %d\n", (int)e->data[i].dtype);
    write_array(f, level, "ps");
    for (uint32_t i = 0; i < e->n; i++)
        if (!i || e->data[i].key != e->data[i - 1].key)
            fprintf(f, "    .short %u\n", e->data[i].ps);
    write_array(f, level, "code");
    for (uint32_t i = 0; i < e->n;) {
        const char *name[CG_EAGER_FORMS] = {0};
        uint32_t key = e->data[i].key;
        for (; i < e->n && e->data[i].key == key; i++) name[e->data[i].form] = e->data[i].name;
        for (int form = 0; form < CG_EAGER_FORMS; form++)
            if (name[form])
                fprintf(f, "    .long \"%s\" - .Lcode\n", name[form]);
            else
                fprintf(f, "    .long 0\n");
    }
    fprintf(f, "\n    .section .note.GNU-stack, \"\", %%progbits\n");
}

static ig_status write_level(const cg_cpu *cpu, const char *object, const char *table) {
    const ig_allocator *a = ig_allocator_default();
    eager_entries entries = {0};
    ir_module *kernels = NULL;
    cg_bytes code = {0};
    ig_status s = eager_lower_all(a, cpu, &kernels, &entries);
    if (!s) s = cg_build_kernels(kernels, cpu, &code);
    FILE *f = s ? NULL : fopen(object, "wb");
    FILE *t = s ? NULL : fopen(table, "wb");
    if (f && t) {
        fwrite(code.data, 1, code.n, f);
        write_table(t, cpu->name, &entries);
    }
    bool ok = f && t && !ferror(f) && !ferror(t);
    if (f) ok = !fclose(f) && ok;
    if (t) ok = !fclose(t) && ok;
    if (!s && !ok) s = rt_fail(a, IG_IO, "%s or %s cannot be written", object, table);
    cg_bytes_free(&code);
    ir_module_free(kernels);
    rt_vec_free(a, &entries);
    return s;
}

int main(int argc, char **argv) {
    const cg_cpu *cpu = argc == 4 ? cg_cpu_find(argv[1]) : NULL;
    if (!cpu) {
        fputs("usage: eager-gen LEVEL OBJECT TABLE\n", stderr);
        return 2;
    }
    ig_status s = write_level(cpu, argv[2], argv[3]);
    if (!s) return 0;
    fprintf(stderr, "eager-gen: %s\n", ig_status_text(s));
    ig_status_free(s);
    return 1;
}
