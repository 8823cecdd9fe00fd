/* excess.h - errors of runs that took too much (excess.c). */
#ifndef FE_EXCESS_H
#define FE_EXCESS_H
#include "ir/ir.h"

/* The run takes so many bytes, more than the limit (0: than there are): which op keeps most. */
ig_status fe_excess_memory(const ir_func *f, const int64_t *symbols, uint64_t bytes,
                           uint64_t limit);
/* A loop would exceed its cap, in compiled code, which does not know which one: those it may be. */
ig_status fe_excess_trips(const ir_func *f);
#endif
