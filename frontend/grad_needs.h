/* grad_needs.h - which values of an op its derivative reads (grad_needs.c). */
#ifndef FE_GRAD_NEEDS_H
#define FE_GRAD_NEEDS_H
#include "frontend/fe_rec.h"

enum {
    GRAD_NEEDS = 256, /* answers that are kept */
    GRAD_NEED_OPERANDS = 4
};
#define GRAD_NEED_RESULT (1u << GRAD_NEED_OPERANDS)
#define GRAD_NEED_ALL    UINT32_MAX /* also of operands behind the fourth */

/* An answer, at a place that its key hashes to. */
typedef struct grad_need {
    uint32_t op, attr, nin, type[GRAD_NEED_OPERANDS]; /* op: + 1, 0: none */
    uint32_t needs;                                   /* bit k: operand k; GRAD_NEED_RESULT */
} grad_need;

/* What the derivative of a node reads; kept: GRAD_NEEDS answers of r's module.  All: of ops with
 * regions and what they have inside, whose derivative runs them again. */
uint32_t fe_grad_needs(grad_need *kept, const fe_rec *r, const rec_node *n);
#endif
