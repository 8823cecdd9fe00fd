/* pipeline.c - the whole optimiser on one page.
 *
 *   inline    calls of fn functions disappear, so that fusion sees one program
 *   discharge  memory that changes becomes values
 *   expand    so do composites, which matter to derivatives only
 *   simplify  algebra that keeps every bit, folding and value numbering, to a fixpoint
 *   flow      what loops and branches are known to do before they begin
 *   dce       what these left unused
 *   fuse      the program becomes calls of clusters, one kernel each
 *   memplan   every call result gets its place: an output, or an offset in the one workspace
 *
 * Each pass reads a module and emits a new one; between passes the module is verified, and can be
 * dumped (IG_DUMP=fuse), timed (IG_LOG=pass) and run alone (`ingot opt`).  Bits never change. */
#include "passes/pass.h"

ig_status pass_pipeline(const ir_module *in, ir_module **out_) {
    return pass_run_list("inline,discharge,expand,simplify,flow,dce,fuse,memplan", in, out_);
}
