/* read.h - the words of the text form: tokens, dims, types, data and attributes.  For parse.c. */
#ifndef IR_READ_H
#define IR_READ_H
#include "ir/text.h"
#include <stdarg.h>

/* Reading a text front to back; the first error sticks. */
typedef struct ir_reader {
    const ig_allocator *alloc; /* of errors; everything else is allocated as the module is */
    const char *name, *text;   /* name NULL: errors are not described, a dim that is none is
                                * IR_DIM_BAD, and m may be NULL */
    size_t n, at, tok;         /* length, position, start of the last token */
    ir_module *m;              /* borrowed: names are interned there, dims looked up */
    ig_status error;
    rt_str buf;       /* the last string read */
    rt_arena scratch; /* data of the op being read */
    /* What names in dims stand for; NULL: the symbols of m. */
    bool (*symbol)(void *user, const char *s, size_t n, ir_dim *out_);
    void *user;
} ir_reader;

/* Errors: all give false.  At a place; at the last token; with a code; "result i of what is a,
 * not b (Iinv)". */
bool ir_read_fail_at(ir_reader *r, size_t at, ig_code code, const char *message);
bool ir_read_fail(ir_reader *r, const char *fmt, ...) IG_PRINTF(2, 3);
bool ir_read_fail_code(ir_reader *r, ig_code code, const char *fmt, ...) IG_PRINTF(3, 4);
bool ir_read_fail_types(ir_reader *r, const char *what, uint32_t i, const ir_type *is,
                        const ir_type *want, int inv);
bool ir_read_no_memory(ir_reader *r);
/* Take over the error of another part, giving it the place in the text; true when there is none. */
bool ir_read_take(ir_reader *r, size_t at, ig_status s);

/* Tokens.  `accept` and `word` consume what they name if it is next, `expect` fails otherwise. */
void ir_read_space(ir_reader *r);
char ir_read_peek(ir_reader *r); /* the next character that is not space; 0 at the end */
bool ir_read_accept(ir_reader *r, const char *punct);
bool ir_read_expect(ir_reader *r, const char *punct);
bool ir_read_word(ir_reader *r, const char *word);
bool ir_read_ident(ir_reader *r, const char **s_,
                   size_t *n_);           /* in the text; false: none is next */
bool ir_read_string(ir_reader *r);        /* a quoted string, into r->buf */
const char *ir_read_symbol(ir_reader *r); /* an identifier or string, interned; NULL on failure */
bool ir_read_is_digit(const ir_reader *r, size_t i);
bool ir_read_range(ir_reader *r, int64_t lo, int64_t hi, int64_t *out_);
bool ir_read_int(ir_reader *r, int64_t *out_);
bool ir_read_enum(ir_reader *r, const char *const *names, uint8_t *out_);

bool ir_read_dim(ir_reader *r, ir_dim *out_);
bool ir_read_type(ir_reader *r, ir_type *out_);
/* Elements of a type: `[1.0, 2.0]`, `splat 1.0` or `hex{...}`.  The bytes live in r->scratch, or
 * are a buffer that the caller owns, also when reading fails. */
bool ir_read_data(ir_reader *r, const ir_type *type, bool buffer, ir_data *out_);
/* Fields `name=value` in any order, each at most once; a missing one is zero. */
bool ir_read_attr(ir_reader *r, ir_attr_kind kind, ir_attr_any *out_);

#endif
