/* text.c - show, opt, check, ops: what needs only the IR. */
#include "frontend/cli/cli.h"
#include "passes/pass.h"
#include "passes/transform.h"
#include <stdio.h>
#include <string.h>

/* Print a module to standard output and free it. */
static int text_print(ir_module *m, unsigned flags) {
    rt_str out;
    rt_str_init(&out, m->alloc);
    ir_print(m, &out, flags);
    bool failed = out.failed;
    if (!failed) fwrite(rt_str_text(&out), 1, out.n, stdout);
    rt_str_free(&out);
    ir_module_free(m);
    return failed ? cli_fail(rt_fail_memory()) : CLI_OK;
}

int cli_show(int argc, char **argv) {
    cli_option o[] = {{"locs", 'l', false, NULL, false}, {"full", 'f', false, NULL, false}};
    int n = cli_options(argc, argv, o, 2);
    if (n < 0) return CLI_USAGE;
    if (n != 1) return cli_usage("show", "give one module");
    ir_module *m;
    ig_status s = cli_load(argv[1], &m);
    if (s) return cli_fail(s);
    return text_print(m, (o[0].given ? IR_PRINT_LOCS : 0) | (o[1].given ? 0 : IR_PRINT_ELIDE));
}

int cli_opt(int argc, char **argv) {
    cli_option o[] = {{"passes", 'p', true, NULL, false}, {"locs", 'l', false, NULL, false}};
    int n = cli_options(argc, argv, o, 2);
    if (n < 0) return CLI_USAGE;
    if (n != 1) return cli_usage("opt", "give one module");
    ir_module *m, *done = NULL;
    ig_status s = cli_load(argv[1], &m);
    if (s) return cli_fail(s);
    s = o[0].given ? pass_run_list(o[0].value, m, &done) : pass_pipeline(m, &done);
    int code = s ? cli_fail(s) : text_print(done, o[1].given ? IR_PRINT_LOCS : 0);
    ir_module_free(m);
    return code;
}

int cli_transform(int argc, char **argv) {
    cli_option o[] = {{"locs", 'l', false, NULL, false}};
    int n = cli_options(argc, argv, o, 1);
    if (n < 0) return CLI_USAGE;
    if (n != 2) return cli_usage("transform", "give a module and what to do with it");
    ir_module *m, *done = NULL;
    ig_status s = cli_load(argv[1], &m);
    if (s) return cli_fail(s);
    s = pass_transform(argv[2], m, &done);
    int code = s ? cli_fail(s) : text_print(done, o[0].given ? IR_PRINT_LOCS : 0);
    ir_module_free(m);
    return code;
}

int cli_check(int argc, char **argv) {
    int n = cli_options(argc, argv, NULL, 0);
    if (n < 0) return CLI_USAGE;
    if (n < 1) return cli_usage("check", "give at least one module");
    int code = CLI_OK;
    for (int i = 1; i <= n; i++) {
        ir_module *m;
        ig_status s = cli_load(argv[i], &m);
        if (s) {
            code = cli_fail(s);
            continue;
        }
        uint32_t ops = 0;
        for (uint32_t k = 0; k < m->funcs.n; k++) ops += m->funcs.data[k]->ops.n;
        printf("%s: ok, %u function%s, %u ops, %u weight%s%s\n", argv[i], m->funcs.n,
               m->funcs.n == 1 ? "" : "s", ops, m->weights.n, m->weights.n == 1 ? "" : "s",
               m->unchecked ? ", traced without the trace check" : "");
        ir_module_free(m);
    }
    return code;
}

static const char *text_level(char level) {
    return level == 't' ? "tensor" : level == 'k' ? "kernel" : "both";
}

static void text_ops_json(void) {
    fputs("[\n", stdout);
    for (int k = 0; k < OP_END; k++) {
        const ir_op_info *i = &ir_op_tab[k];
        const ir_attr_info *a = &ir_attr_tab[i->attr];
        printf("  {\"name\": \"%s\", \"version\": %u, \"operands\": ", i->name, i->version);
        if (i->arity == IR_ARITY_V)
            fputs("null", stdout);
        else
            printf("%u", i->arity);
        printf(", \"level\": \"%s\", \"type\": \"%s\", \"commutes\": %s, \"associative\": %s, "
               "\"effect\": %s, \"attributes\": [",
               text_level(i->level), i->type_rule, i->commutes ? "true" : "false",
               i->associative ? "true" : "false", i->effect ? "true" : "false");
        for (uint32_t f = 0; f < a->nfield; f++)
            printf("%s\"%s\"", f ? ", " : "", a->field[f].name);
        printf("]}%s\n", k + 1 < OP_END ? "," : "");
    }
    fputs("]\n", stdout);
}

int cli_ops(int argc, char **argv) {
    cli_option o[] = {{"json", 'j', false, NULL, false}};
    int n = cli_options(argc, argv, o, 1);
    if (n < 0) return CLI_USAGE;
    if (n) return cli_usage("ops", "takes no file");
    if (o[0].given) return text_ops_json(), CLI_OK;
    printf("%-10s %3s %8s  %-6s  %-9s  %s\n", "op", "ver", "operands", "level", "type",
           "attributes");
    for (int k = 0; k < OP_END; k++) {
        const ir_op_info *i = &ir_op_tab[k];
        char arity[8] = "any";
        if (i->arity != IR_ARITY_V) snprintf(arity, sizeof arity, "%u", i->arity);
        printf("%-10s %3u %8s  %-6s  %-9s ", i->name, i->version, arity, text_level(i->level),
               i->type_rule);
        const ir_attr_info *a = &ir_attr_tab[i->attr];
        for (uint32_t f = 0; f < a->nfield; f++) printf(" %s", a->field[f].name);
        putchar('\n');
    }
    return CLI_OK;
}
