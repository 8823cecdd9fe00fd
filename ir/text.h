/* text.h - what the printer, the parser, the verifier and the file loader share. */
#ifndef IR_TEXT_H
#define IR_TEXT_H
#include "ir/ir.h"
#include "runtime/base/budget.h"

/* Regions nest at most so deep (I5): readers, passes and code generators may rely on it. */
#define IR_MAX_NEST 64
/* Constants up to so many elements are written element by element; larger ones as hex digits. */
#define IR_INLINE_ELEMENTS 64

/* Letters, digits, '_' and '.', not beginning with a digit or '.': a name that is printed
 * without quotes. */
bool ir_is_ident(const char *s, size_t n);
static inline bool ir_is_ident_start(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
static inline bool ir_is_ident_char(char c) {
    return ir_is_ident_start(c) || (c >= '0' && c <= '9') || c == '.';
}

extern const char *const ir_place_names[]; /* by ir_place_kind */
extern const char *const ir_ckpt_names[];  /* by -ir_field_ckpt, NULL-terminated */
extern const char *const ir_class_names[];     /* by ir_class, NULL-terminated */
extern const char *const ir_func_kind_names[]; /* by ir_func_kind, NULL-terminated */

/* Add a double-quoted string with escapes. */
void ir_print_quoted(rt_str *out, const char *s, size_t n);
/* Add n elements as `[1.0, 2.0]`, `splat 1.0` or `hex{...}`, whichever reads back as the same
 * bytes. */
void ir_print_data(ig_dtype dtype, const void *bytes, uint64_t n, rt_str *out, unsigned flags);
/* The first element that is a bool other than 0 and 1 or a NaN that is not canonical; n when
 * there is none (I7). */
uint64_t ir_data_bad(ig_dtype dtype, const void *bytes, uint64_t n);
/* The invariant that an op breaks when its type rule refuses it (verify.c). */
int ir_rule_invariant(ir_opcode op, uint32_t nin);
/* ir_emit for readers.  Dims say only that they failed; what succeeds at the second attempt failed
 * for want of memory, and the builder's error says so. */
void ir_read_emit(ir_builder *b, ir_opcode op, const void *attr, uint32_t nin, const ir_ref *in);
/* Readers may use so much memory for an input of n bytes: IR_READ_FACTOR times its size and
 * IR_READ_FIXED, errors included.  A reader builds its module with budget->alloc and ends with
 * ir_reader_end: the module in *out_, which goes on with the budget's underlying allocator, or an
 * error and no module.  `error` is the reader's own, or NULL. */
#define IR_READ_FACTOR 4u
#define IR_READ_FIXED  (256u << 10)
void ir_reader_budget(rt_budget *budget, const ig_allocator *alloc, size_t n);
ig_status ir_reader_end(const rt_budget *budget, const char *name, size_t n, ig_status error,
                        ir_module *m, ir_module **out_);
/* Decimal text to an element, correctly rounded in one step; false when malformed or (integers)
 * out of range. */
bool ir_parse_element(const char *s, size_t n, ig_dtype dtype, void *out_);

#endif
