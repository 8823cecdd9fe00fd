/* fuse.h - the plan that fuse.c makes and outline.c carries out. */
#ifndef PASS_FUSE_H
#define PASS_FUSE_H
#include "ir/intern.h"
#include "ir/rows.h"
#include "passes/pass.h"

/* How fusion sees an op; derived from the `lower` column of ops.def in fuse.c. */
typedef enum fuse_kind {
    FUSE_NONE,     /* ends and kernel-level ops: not here */
    FUSE_CALL,     /* stays in the entry function */
    FUSE_WEIGHT,   /* stays in the entry function */
    FUSE_CONST,    /* copied into clusters when all its elements are equal, else stays */
    FUSE_ALIAS,    /* the same memory under another shape: stays, or an index map */
    FUSE_COPY,     /* detach and barrier: the operand itself */
    FUSE_EW,       /* elementwise; cheap to compute again */
    FUSE_MATH,     /* elementwise or generated from the index; dear */
    FUSE_MOVE,     /* picks elements of its first operand */
    FUSE_SPREAD,   /* picks the same element many times */
    FUSE_PICK,     /* picks elements at computed places, some of them many times */
    FUSE_JOIN,     /* picks elements of one of its operands */
    FUSE_UPDATE,   /* the first operand with some elements replaced */
    FUSE_REDUCE,   /* a core that accepts an epilogue, its operand fused */
    FUSE_SCAN,     /* a core that is always a root, its operand fused */
    FUSE_CONTRACT, /* a core that accepts an epilogue, its operands in memory */
    FUSE_PUT,      /* a core that is always a root, its operands fused */
    FUSE_WHOLE     /* a kernel of its own: operands and results in memory */
} fuse_kind;
fuse_kind fuse_kind_of(ir_opcode op);

#define FUSE_OPERANDS 16 /* of a cluster: its kernel keeps as many base addresses */
#define FUSE_RESULTS  IG_MAX_RANK /* of a cluster: as many as a call places */
#define FUSE_NAME_MAX 48

/* A cluster: one kernel.  Ops are numbers in the function; the results of some members are the
 * cluster's, that of the root, which is the last op of all, among them. */
typedef struct fuse_cluster {
    uint32_t root, root_space;
    uint32_t result[FUSE_RESULTS], nresult; /* whose results are the cluster's; root first */
    uint32_t weight; /* size of the kernel: members, for every index they are evaluated at */
    uint32_t again;  /* cost of elements computed more than once */
    bool core;       /* holds a reduce, cumred or ein */
    ir_rows rows;    /* of the reductions; their row is 0 when they do not share their rows */
    RT_VEC(uint32_t) placed; /* its spaces whose map is known */
    bool wide; /* a concat of more than FUSE_OPERANDS values: cut into several kernels */
    RT_VEC(uint32_t) member; /* from the root upwards */
    RT_VEC(uint32_t) edge;   /* values read from memory; while planning, those undecided too */
} fuse_cluster;

typedef struct fuse_need {
    uint32_t space, next;
} fuse_need; /* next: number + 1, 0 = last */
typedef struct fuse_space {
    uint32_t cluster;
    bool many, operand;
    ir_rowmap at; /* where its subscripts come from in the cluster's rows */
} fuse_space;

typedef struct fuse_plan {
    const ir_func *f;          /* borrowed */
    const ig_allocator *alloc; /* borrowed */
    ir_ref *alias;             /* value -> the value it is (copies looked through) */
    bool *must;                /* value -> has to be in memory */
    uint32_t *first;           /* value -> the first place in the entry that reads it: an op */
    uint32_t *need;            /* value -> first need + 1 */
    uint32_t *uses;            /* value -> number of uses */
    uint32_t *root_of;         /* op -> cluster + 1 that it is the root of, or 0 */
    bool *whole;               /* op -> a loop that is one kernel, or inside of one */
    RT_VEC(fuse_need) needs;
    RT_VEC(fuse_space) spaces;
    RT_VEC(fuse_cluster) clusters;
    RT_VEC(uint32_t) users; /* scratch: the clusters that use the op being decided */
    bool failed;            /* memory is out */
    bool log;               /* IG_LOG=fusion */
} fuse_plan;

/* Whether a constant is one value repeated: such constants are copied into clusters. */
bool fuse_is_uniform(const ir_func *f, const ir_op *o);
static inline bool fuse_has_edge(const fuse_cluster *c, ir_ref v) {
    for (uint32_t i = 0; i < c->edge.n; i++)
        if (c->edge.data[i] == v.i) return true;
    return false;
}

/* Whether some result of an op is needed. */
bool fuse_is_used(const fuse_plan *p, const ir_op *o);
/* loop.c: whether a scan becomes one kernel. */
bool fuse_is_loop_kernel(const ir_func *f, const ir_op *o);
/* The reduction of a cluster that is to be computed in two steps, or NULL. */
const ir_op *fuse_split(const fuse_plan *p, const fuse_cluster *c);

/* The clusters of a module so far. */
typedef struct fuse_made {
    uint32_t next_name; /* the number of the next one */
    ir_index twins;     /* by what they compute; owned */
} fuse_made;
/* outline.c: emit the planned function and its clusters into out. */
ig_status fuse_outline(fuse_plan *p, ir_module *out, fuse_made *made);
#endif
