/* header.h - the C header that goes with a deployment object. */
#ifndef CG_HEADER_H
#define CG_HEADER_H
#include "codegen/target.h"

/* Write `<prefix>.h` for an entry function: shapes, dims and their ranges, the two prototypes. */
ig_status cg_header(const ir_module *m, const char *entry, const char *prefix, const cg_cpu *cpu,
                    rt_str *out);
/* Whether a name can be the prefix of C functions. */
bool cg_is_identifier(const char *s);
#endif
