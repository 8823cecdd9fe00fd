/* op.c - the op table as data, and the laws every row must obey.
 *
 * Nothing here names an op: all of it is pasted from ops.def.  A column token that no folder knows
 * (an arity, a level, an attribute kind) is an undeclared identifier; a row that breaks a law fails
 * a static assertion that names it. */
#include "ir/ir.h"

#include <string.h>

/* Arity and linear columns: a number, or V for "any" and "decided by the attribute". */
enum { OP_ARITY_0, OP_ARITY_1, OP_ARITY_2, OP_ARITY_3, OP_ARITY_V = IR_ARITY_V };
enum {
    OP_LINEAR_0,
    OP_LINEAR_1,
    OP_LINEAR_2,
    OP_LINEAR_3,
    OP_LINEAR_4,
    OP_LINEAR_5,
    OP_LINEAR_6,
    OP_LINEAR_7,
    OP_LINEAR_V = IR_LINEAR_V
};
enum { OP_LEVEL_t = 't', OP_LEVEL_k = 'k', OP_LEVEL_b = 'b' };

/* OP_PROBE(X) is 1 when the token behind X is a macro that expands to `~, 1`, else 0. */
#define OP_SECOND(a, b, ...) b
#define OP_PROBE_(...)       OP_SECOND(__VA_ARGS__, 0, ~)
#define OP_PROBE(x)          OP_PROBE_(x)
#define OP_IS_EW_ew          ~, 1
#define OP_IS_NONE__         ~, 1

#define F(c, a, e, l) c, a, e, OP_LINEAR_##l
#define R(fold, ref, lower, lin, tr, batch)                                                  \
    OP_PROBE(OP_IS_NONE_##fold), OP_PROBE(OP_IS_NONE_##ref), OP_PROBE(OP_IS_EW_##ref),       \
        OP_PROBE(OP_IS_NONE_##lower), OP_PROBE(OP_IS_NONE_##lin), OP_PROBE(OP_IS_NONE_##tr), \
        OP_PROBE(OP_IS_NONE_##batch)

/* --- The table -------------------------------------------------------------------------------- */

#define OP_ROW_(name, ver, n, level, attr, type, domain, c, a, e, l, nofold, noref, ew, ...) \
    {name, ver, n, level, attr, c, a, e, l, type, domain, ew},
#define OP_ROW(...) OP_ROW_(__VA_ARGS__)
#define OP(name, ver, n, level, attr, type, domain, f, r) \
    OP_ROW(#name, ver, OP_ARITY_##n, OP_LEVEL_##level, ATTR_##attr, #type, #domain, f, r)
const ir_op_info ir_op_tab[OP_END] = {
#include "ir/ops.def"
};
#undef OP

/* --- The laws --------------------------------------------------------------------------------- */

#define OP_LAW_(name, ver, n, level, c, a, e, l, nofold, noref, ew, nolow, nolin, notr, nobatch)  \
    _Static_assert((ver) >= 1 && (ver) <= 255, name ": versions begin at 1");                     \
    _Static_assert(!(c) || (n) == OP_ARITY_2, name ": only a binary op commutes");                \
    _Static_assert(!(a) || (n) == OP_ARITY_2, name ": only a binary op associates");              \
    _Static_assert(!(noref), name ": every op has a reference rule");                             \
    _Static_assert(!(e) || (nofold), name ": an op with an effect is never folded");              \
    _Static_assert((n) == OP_ARITY_V || (l) == OP_LINEAR_V || ((unsigned)(l) >> (n)) == 0,        \
                   name ": linear in an operand that it does not have");                          \
    _Static_assert(!(ew) || (level) == OP_LEVEL_b, name ": elementwise ops live at both levels"); \
    _Static_assert(!(ew) || ((n) >= OP_ARITY_1 && (n) <= OP_ARITY_3),                             \
                   name ": elementwise arity is 1 to 3");                                         \
    _Static_assert(!(ew) || !(e), name ": an elementwise op has no effect");                      \
    _Static_assert((nolin) == OP_IS_ALONE(n, level, nolow),                                       \
                   name ": what is computed from operands has a derivative, or says zero");       \
    _Static_assert((nobatch) == OP_IS_ALONE(n, level, nolow),                                     \
                   name ": what is computed from operands can be batched");                       \
    _Static_assert((level) == OP_LEVEL_k ? (notr) : ((l) == OP_LINEAR_0) == (notr),               \
                   name ": linear, if and only if it has a transpose rule");
/* No value flows through: nothing is computed, from nothing, or in a kernel. */
#define OP_IS_ALONE(n, level, nolow) ((n) == OP_ARITY_0 || (level) == OP_LEVEL_k || (nolow))
#define OP_LAW(...)                  OP_LAW_(__VA_ARGS__)
#define OP(name, ver, n, level, attr, type, domain, f, r) \
    OP_LAW(#name, ver, OP_ARITY_##n, OP_LEVEL_##level, f, r)
#include "ir/ops.def"
#undef OP
_Static_assert(OP_END <= UINT16_MAX, "an op code fits ir_op.code");

/* --- Reading ---------------------------------------------------------------------------------- */

ir_opcode ir_op_find(const char *name, size_t n) {
    for (int i = 0; i < OP_END; i++) {
        const char *s = ir_op_tab[i].name;
        if (strlen(s) == n && !memcmp(s, name, n)) return (ir_opcode)i;
    }
    return OP_END;
}
