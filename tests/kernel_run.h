/* kernel_run.h - run kernel-level IR in an interpreter that trusts nothing.
 *
 * Every access is checked against its buffer, scratch memory must be written before it is read, and
 * ops must be as plain as codegen/ew.c promises: no division by 0 or INT_MIN / -1, no shift past
 * the width, no fma in class nofma, no arithmetic on 16-bit floats, alloc only at the top of a
 * kernel. */
#ifndef TESTS_KERNEL_RUN_H
#define TESTS_KERNEL_RUN_H
#include "ir/ir.h"

typedef struct kernel_run_opts {
    int parts;        /* every launch in this many parts, last part first */
    uint64_t max_ops; /* give up beyond (0: never) */
} kernel_run_opts;

/* Run the host program "<entry>" of a lowered module with its workspace; weights come from the
 * module.  *code_ is what it returned (an rt_host_code); an error is a broken rule. */
ig_status kernel_run(const ir_module *lowered, const char *entry, const int64_t *symbols, int nin,
                     const ir_tensor *in, int nout, ir_tensor *out, const kernel_run_opts *opts,
                     int32_t *code_);
#endif
