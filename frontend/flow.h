/* flow.h - branches and loops on bodies of C, for play.c, whose bodies are regions of the IR.  Each
 * runs, or is recorded, as the stream asks (flow.c). */
#ifndef FE_FLOW_H
#define FE_FLOW_H
#include "frontend/fe.h"

typedef struct fe_body {
    ig_body_fn fn;
    void *user;
} fe_body;

/* index: a bool or i32 scalar; a body for each of attr->n.  Results are the call's. */
bool fe_if(fe_call *c, ig_tensor *index, const ir_attr_regions *attr, const fe_body *body,
           ig_tensor *const *in, int nout, ig_tensor **out_);
bool fe_while(fe_call *c, fe_body cond, fe_body body, int n, ig_tensor *const *init,
              const ir_attr_while *attr, ig_tensor **out_);
/* in: carried values, then nx that are sliced.  The body gets carried values, slices and the step.
 */
bool fe_scan(fe_call *c, fe_body body, ig_tensor *const *in, int nx, int ny,
             const ir_attr_scan *attr, ig_tensor **out_);
#endif
