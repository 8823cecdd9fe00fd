/* pass.c - the table of passes and what happens around each of them. */
#include "passes/pass.h"
#include "runtime/base/log.h"

#include <string.h>
#include <time.h>

#define PASS(name, doc) ig_status pass_run_##name(const ir_module *in, ir_module *out);
#include "passes/passes.def"
#undef PASS

const pass_info pass_tab[] = {
#define PASS(name, doc) {#name, doc, pass_run_##name},
#include "passes/passes.def"
#undef PASS
    {NULL, NULL, NULL}};

const pass_info *pass_find(const char *name, size_t n) {
    for (const pass_info *p = pass_tab; p->name; p++)
        if (strlen(p->name) == n && !memcmp(p->name, name, n)) return p;
    return NULL;
}

static double pass_now(void) {
    struct timespec t;
    return clock_gettime(CLOCK_MONOTONIC, &t) ? 0
                                              : (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static uint32_t pass_count_ops(const ir_module *m) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->funcs.n; i++) n += m->funcs.data[i]->ops.n;
    return n;
}

static void pass_dump(const char *word, const ir_module *m) {
    if (!rt_dump_on(word)) return;
    rt_str s;
    rt_str_init(&s, m->alloc);
    ir_print(m, &s, IR_PRINT_LOCS);
    rt_dump(word, s.failed ? "; out of memory\n" : rt_str_text(&s));
    rt_str_free(&s);
}

pass_clock pass_clock_start(const ir_module *in) {
    return (pass_clock){pass_now(), pass_count_ops(in)};
}

ig_status pass_after(const char *word, pass_clock clock, ir_module *out) {
    double took = pass_now() - clock.start;
    pass_dump(word, out); /* before it is verified: a dump of what is wrong is worth most */
    ig_status s = ir_verify(out);
    if (s) {
        ir_module_free(out);
        return rt_status_note(s, "after pass %s: this is a defect of the pass", word);
    }
    rt_log("pass", "%-8s %8.0f us  %u ops -> %u", word, took, clock.ops, pass_count_ops(out));
    return NULL;
}

ig_status pass_run(const pass_info *p, const ir_module *in, ir_module **out_) {
    ir_module *out;
    *out_ = NULL;
    pass_clock clock = pass_clock_start(in);
    RT_TRY(ir_module_shell(in, &out));
    ig_status s = p->run(in, out);
    if (s) {
        ir_module_free(out);
        return rt_status_note(s, "in pass %s", p->name);
    }
    RT_TRY(pass_after(p->name, clock, out));
    *out_ = out;
    return NULL;
}

/* Weights that `old` owns and `next` borrows from it change owner, so that old can be freed. */
static void pass_hand_over(ir_module *old, ir_module *next) {
    for (uint32_t i = 0; i < old->weights.n; i++) {
        ir_weight *w = &old->weights.data[i];
        for (uint32_t k = 0; w->owned && k < next->weights.n; k++) {
            ir_weight *v = &next->weights.data[k];
            if (v->owned || v->data != w->data) continue;
            v->owned = true;
            w->owned = false;
        }
    }
}

ig_status pass_run_list(const char *names, const ir_module *in, ir_module **out_) {
    ir_module *owned = NULL; /* the newest result */
    *out_ = NULL;
    while (*names) {
        size_t n = strcspn(names, ",");
        const pass_info *p = pass_find(names, n);
        ir_module *next = NULL;
        ig_status s = p ? pass_run(p, owned ? owned : in, &next)
                        : rt_fail(in->alloc, IG_INVALID, "there is no pass `%.*s`", (int)n, names);
        if (owned && next) pass_hand_over(owned, next);
        ir_module_free(owned);
        if (s) return s;
        owned = next;
        names += n + (names[n] == ',');
    }
    if (!owned) return rt_fail(in->alloc, IG_INVALID, "the list of passes is empty");
    *out_ = owned;
    return NULL;
}
