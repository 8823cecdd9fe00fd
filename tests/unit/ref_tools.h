/* ref_tools.h - what the tests of the reference share: tensors of literals, one op on them,
 * comparison. */
#ifndef TESTS_REF_TOOLS_H
#define TESTS_REF_TOOLS_H
#include "ir/ref.h"
#include "tests/unit/suite.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

#define LEN(a) (sizeof(a) / sizeof *(a))

static inline const ig_allocator *A(void) { return ig_allocator_default(); }

static inline ir_tensor tensor(ig_dtype dtype, int rank, const int64_t *dim, void *data) {
    ir_tensor t = {.dtype = (uint8_t)dtype, .rank = (uint8_t)rank, .data = data};
    for (int i = 0; i < rank; i++) t.dim[i] = dim[i];
    return t;
}
#define DIMS(...) \
    (const int64_t[]) { __VA_ARGS__ }
#define VEC(dtype, n, data) tensor(dtype, 1, DIMS(n), data)
#define SCALAR(dtype, data) tensor(dtype, 0, NULL, data)

static inline void run_class(ir_class cls, ir_opcode op, const void *attr, int nin,
                             const ir_tensor *in, ir_tensor out) {
    static const union {
        ir_attr_none none;
        char zero[512];
    } nothing;
    ig_status s = ir_ref_op(A(), cls, op, attr ? attr : &nothing, nin, in, 1, &out);
    if (s) ck_abort_msg("%s", ig_status_text(s));
}
static inline void run(ir_opcode op, const void *attr, int nin, const ir_tensor *in,
                       ir_tensor out) {
    run_class(IR_CLASS_FMA, op, attr, nin, in, out);
}

/* The first elements of an array, one by one. */
#define EXPECT(got, ...)                                                        \
    do {                                                                        \
        const __typeof__((got)[0]) want_[] = {__VA_ARGS__};                     \
        for (size_t i_ = 0; i_ < LEN(want_); i_++)                              \
            if ((got)[i_] != want_[i_])                                         \
                ck_abort_msg(#got "[%zu] is %g, not %g", i_, (double)(got)[i_], \
                             (double)want_[i_]);                                \
    } while (0)

/* Run all tests of a case; main's result. */
static inline int run_suite(TCase *t) {
    Suite *s = suite_create("ref");
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    return suite_run(s);
}
#endif
