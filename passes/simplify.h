/* simplify.h - the algebraic rules, shared by the pass and by the test that tries every one of
 * them on every value. */
#ifndef PASS_SIMPLIFY_H
#define PASS_SIMPLIFY_H
#include "passes/pass.h"

/* What a rewrite may assume beyond the bits (numerics rule 11); 0 is nothing. */
typedef enum simplify_licence {
    NSZ = 1,       /* the sign of zero does not matter */
    NNAN = 2,      /* no NaN occurs */
    NINF = 4,      /* no infinity occurs */
    REASSOC = 8,   /* sums and products may be regrouped */
    CONTRACT = 16, /* a multiply and an add may round once */
    RECIP = 32,    /* a division may be a multiplication by the reciprocal */
    AFN = 64       /* functions may be approximated */
} simplify_licence;

/* A rule: `from` may be replaced by `to`.  Patterns are text:
 *   x y z      any value; the same letter is the same value
 *   A C D      any constant, the same everywhere (a splat)
 *   0 -0 1 2   such a constant of this value, of the type of x; `true`, `false` of the shape of x
 *   op(..)     an op of the table; op.word(..) with this word in its attribute: cmp.lt, bit.xor
 * In `to` an op on constants only is evaluated as it is emitted: div(1,C) is a number.
 * `types` says which element types x may have: a letter each of f float, i signed, u unsigned,
 * b bool. */
typedef struct simplify_rule {
    const char *name, *from, *to, *types;
    unsigned need;                                       /* simplify_licence bits */
    bool (*guard)(ig_dtype dtype, const void *constant); /* on the element of C; NULL = always */
} simplify_rule;
extern const simplify_rule simplify_rules[]; /* ended by a NULL name */

/* A pattern read into nodes, in pre-order; node 0 is the root. */
#define SIMPLIFY_NODES 12
typedef enum simplify_kind { NODE_OP, NODE_ANY, NODE_CONST, NODE_NUMBER, NODE_BOOL } simplify_kind;
typedef struct simplify_node {
    simplify_kind kind;
    char letter;   /* of ANY and CONST */
    double number; /* of NUMBER and BOOL */
    ir_opcode op;
    int word;       /* value of the attribute's one enumerated field; -1 = any */
    int nin, in[3]; /* nodes */
} simplify_node;
typedef struct simplify_pattern {
    int n;
    simplify_node node[SIMPLIFY_NODES];
} simplify_pattern;
/* False when the text is malformed. */
bool simplify_parse(const char *text, simplify_pattern *out_);

/* Values of letters; index: the letter. */
typedef struct simplify_bind {
    ir_ref of[128];
} simplify_bind;
/* Match operands of an op about to be emitted; false leaves *bind in any state. */
bool simplify_match(const ir_func *f, const simplify_pattern *p, ir_opcode op, const void *attr,
                    int nin, const ir_ref *in, simplify_bind *bind);
/* Emit a pattern with its letters bound, each op through `emit`. */
typedef ir_ref (*simplify_emit)(void *user, ir_builder *b, ir_opcode op, const void *attr, int nin,
                                const ir_ref *in);
ir_ref simplify_build(ir_builder *b, const simplify_pattern *p, const simplify_bind *bind,
                      simplify_emit emit, void *user);
/* Whether a rule admits what was matched: the type of x, and its guard. */
bool simplify_admits(const ir_func *f, const simplify_rule *r, const simplify_bind *bind);

/* moves.c: rules about movement and contractions, which a pattern of letters cannot say.  All keep
 * every bit. */
typedef struct simplify_move_call {
    ir_builder *b;
    ir_opcode op;
    const void *attr;
    int nin;
    const ir_ref *in;
    const uint32_t *uses; /* of values of b->f, as far as the source tells; nuses entries */
    uint32_t nuses;
    simplify_emit emit;
    void *user;
} simplify_move_call;
typedef struct simplify_move {
    const char *name;
    ir_opcode op;                                /* OP_END: any */
    ir_ref (*rule)(const simplify_move_call *c); /* {0} when it does not apply */
} simplify_move;
extern const simplify_move simplify_moves[]; /* ended by a NULL name */

/* Names of the licences in a set, `NSZ|NNAN`. */
void simplify_licence_text(unsigned set, rt_str *out);
#endif
