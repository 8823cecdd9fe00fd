/* host.h - a host program being written, for host.c and the regions in it (flow.c). */
#ifndef CG_HOST_H
#define CG_HOST_H
#include "codegen/lower.h"

typedef struct host {
    cg_kernel k;
    const ir_module *in;
    const ir_func *f;
    ir_ref *mem; /* by value of f; owned */
    ir_ref *spare; /* by value of f: the other memory of a carried value, or {0}; owned */
    RT_VEC(struct host_dim {
        ir_dim d;
        bool extent;
    })
    dims;             /* to be checked */
    ir_ref bad, over; /* bool */
    ir_ref code;      /* memory of the rt_host_code, where the program itself may fail; else {0} */
    struct host_flow *flow; /* of open regions; owned */
    int nflow;
    int64_t nassert; /* assertions so far */
} host;

/* host.c: the memory of a value, and the whole memory at a place. */
ir_ref cg_host_memory(host *h, ir_ref v);
ir_ref cg_host_place(host *h, const ir_places *at, uint32_t i, uint8_t dtype);
ir_ref cg_host_result(host *h, const ir_op *call, uint32_t i);
/* invoke.c: a call of a C function, or an assertion. */
void cg_host_invoke(host *h, const ir_op *call, const ir_op *invoked);

/* flow.c: begin an op with regions; end a region at its yield. */
void cg_host_begin(host *h, const ir_op *o);
void cg_host_yield(host *h, const ir_op *yield);
/* The element of a stacked result for the step of the innermost scan. */
ir_ref cg_host_row(host *h, ir_ref mem, const ir_type *element);
/* The code of the dims' check; where the program itself may fail, its memory is set, too. */
ir_ref cg_host_code(host *h, ir_ref code);
void cg_host_flow_free(host *h);
#endif
