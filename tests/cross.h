/* cross.h - a deployed aarch64 object under qemu-user, where this machine is another one.  Needs
 * qemu-aarch64, ld.lld or aarch64-linux-gnu-ld, and clang or aarch64-linux-gnu-gcc; no C library
 * for aarch64. */
#ifndef TESTS_CROSS_H
#define TESTS_CROSS_H
#include "tests/ways.h"

/* Whether the tools are here (tried once). */
bool cross_available(void);
/* Run n bindings of one function; out: one array of outputs a binding. */
ig_status cross_run(const way_case *c, int n, ir_tensor *const *out);
void cross_end(void); /* remove temporary files */
#endif
