/* file.h - modules as `.ingot` files, version 0.  docs/format.md is the specification. */
#ifndef IR_FILE_H
#define IR_FILE_H
#include "ir/ir.h"
#include "runtime/base/container.h"

/* Append the module as a whole file to out.  `extra` sections (compiled images, tag "IMAG") are
 * borrowed and stored as they are; their tags must not be those of the module itself. */
ig_status ir_save(const ir_module *m, const rt_section *extra, uint32_t nextra, rt_str *out);
/* The same without source locations. */
ig_status ir_save_stripped(const ir_module *m, const rt_section *extra, uint32_t nextra,
                           rt_str *out);

/* Append what the code of the module depends on - all but source locations, and hashes of the
 * elements of weights - as bytes to compare: equal modules give equal bytes.  It is not a file. */
ig_status ir_save_code(const ir_module *m, rt_str *out);

/* Read and verify a module; weights are copied.  Errors name the section, function and op. */
ig_status ir_load(const ig_allocator *alloc, const void *bytes, size_t n, ir_module **out_);
/* The same with weights borrowed from `bytes`: 64-byte aligned, and outliving the module. */
ig_status ir_load_borrowed(const ig_allocator *alloc, const void *bytes, size_t n,
                           ir_module **out_);

#endif
