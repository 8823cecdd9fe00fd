/* invoke.h - what a lowered module asks of the process that runs it. */
#ifndef CG_INVOKE_H
#define CG_INVOKE_H
#include "codegen/target.h"

#define CG_ARRAY_BYTES 80 /* of an ig_array; its pointer is the first member */

/* The C functions that a lowered module calls, by number; *import_ is owned by the caller, n_ of
 * them, their names borrowed from the module. */
ig_status cg_imports(const ir_module *lowered, cg_import **import_, uint32_t *n_);
#endif
