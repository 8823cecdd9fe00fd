/* cli.h - the parts of the `ingot` program. */
#ifndef FE_CLI_H
#define FE_CLI_H
#include "ir/ir.h"

enum cli_exit { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

typedef struct cli_command {
    const char *name, *usage, *doc;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name */
} cli_command;
extern const cli_command cli_commands[]; /* ended by a NULL name */

/* Print an error and free it; gives CLI_FAILED. */
int cli_fail(ig_status s);
/* Print a usage error with what to do; gives CLI_USAGE. */
int cli_usage(const char *command, const char *fmt, ...) IG_PRINTF(2, 3);
/* Read a module from a file: `.ingot`, or text (`-` is standard input). */
ig_status cli_load(const char *path, ir_module **out_);
/* The function a module is about: the named one, else its only function, else the last one. */
ig_status cli_entry(const ir_module *m, const char *name, const ir_func **out_);

/* A small option reader: --name VALUE, --name=VALUE, -n VALUE, flags; everything else is
 * positional. */
typedef struct cli_option {
    const char *name;
    char letter;
    bool takes_value;
    const char *value;
    bool given;
} cli_option;
/* Compacts positional arguments to argv[1..]; their number, or -1 after printing a usage error. */
int cli_options(int argc, char **argv, cli_option *options, int n);

int cli_show(int argc, char **argv);
int cli_opt(int argc, char **argv);
int cli_transform(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_run(int argc, char **argv);
int cli_build(int argc, char **argv);
int cli_ops(int argc, char **argv);
int cli_doctor(int argc, char **argv);
#endif
