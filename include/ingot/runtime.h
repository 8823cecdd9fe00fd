/* ingot/runtime.h - run compiled modules with libingot-rt alone: no IR, no compiler, no LLVM.
 *
 * A program is the native code and the weights of an `.ingot` file that was saved after
 * ig_module_compile.  It is immutable: any number of threads may run it at once, each with its own
 * workspace. */
#ifndef INGOT_RUNTIME_H
#define INGOT_RUNTIME_H

#include "ingot/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ig_program ig_program;

/* Load the native code for this machine.  Errors: IO, FORMAT for a malformed file, UNSUPPORTED when
 * the file holds no code for this machine. */
IG_API IG_MUST_USE ig_status ig_program_load(const char *path, ig_program **out_);
/* The same from the bytes of a file, which may be freed afterwards; alloc NULL: the C library's. */
IG_API IG_MUST_USE ig_status ig_program_read(const ig_allocator *alloc, const void *bytes, size_t n,
                                             ig_program **out_);
/* The CPU level the code was compiled for. */
IG_API const char *ig_program_level(const ig_program *p);
/* Bytes of workspace for these values of the dynamic dims (in the module's order; NULL when there
 * are none).  RANGE when one is outside its range or a size overflows. */
IG_API IG_MUST_USE ig_status ig_program_workspace(const ig_program *p, const int64_t *dims,
                                                  size_t *bytes_);
/* Run: one pointer an input and an output, in the order of the traced function (state last), to
 * contiguous row-major elements of the sizes the dims say; ws is 64-byte aligned and of the size
 * above; exec NULL: serial (see ig_pool_exec).  Allocates nothing when it succeeds.  RANGE for bad
 * dims. */
IG_API IG_MUST_USE ig_status ig_program_run(const ig_program *p, const void *const *in,
                                            void *const *out, const int64_t *dims, void *ws,
                                            const ig_exec *exec);
IG_API void ig_program_free(ig_program *p); /* NULL is allowed */

#ifdef __cplusplus
}
#endif
#endif
