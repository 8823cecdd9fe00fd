/* custom.c - the C functions that programs call, by name.
 *
 * A C function belongs to the process, as a symbol does, and so does this list: modules find their
 * functions in it in whatever session and thread they are loaded.  The list is made of the
 * descriptions themselves, which live as long as the process, so that registering needs no memory
 * and finding no lock. */
#include "runtime/base/custom.h"

#include <stdatomic.h>
#include <string.h>

static _Atomic(ig_custom *) custom_first;
static atomic_flag custom_busy = ATOMIC_FLAG_INIT;

const ig_custom *rt_custom_find(const char *name, int64_t version) {
    for (const ig_custom *c = atomic_load(&custom_first); c && name; c = c->next)
        if (c->version == version && !strcmp(c->name, name)) return c;
    return NULL;
}

ig_status rt_custom_get(const ig_allocator *a, const char *name, int64_t version,
                        const ig_custom **out_) {
    *out_ = rt_custom_find(name, version);
    if (*out_) return NULL;
    return rt_fail(a, IG_UNSUPPORTED,
                   "the C function %s, version %lld, is not registered: describe it and call "
                   "ig_custom_register before the module is loaded or run",
                   name ? name : "", (long long)version);
}

static bool custom_is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

const char *rt_custom_wrong(const ig_custom *op) {
    if (!op || !op->fn || !op->name) return "it has no function or no name";
    if (!custom_is_letter(*op->name)) return "its name is not a C identifier";
    for (const char *s = op->name; *s; s++)
        if (!custom_is_letter(*s) && !(*s >= '0' && *s <= '9'))
            return "its name is not a C identifier";
    return op->version < 1 ? "versions begin at 1" : NULL;
}

ig_status ig_custom_register(ig_custom *op) {
    const ig_allocator *a = ig_allocator_default();
    const char *wrong = rt_custom_wrong(op);
    if (wrong) return rt_fail(a, IG_INVALID, "a C function cannot be registered: %s", wrong);
    if (rt_custom_find(op->name, op->version) == op) return NULL;
    while (atomic_flag_test_and_set(&custom_busy)) {
    }
    const ig_custom *old = rt_custom_find(op->name, op->version);
    if (!old) {
        op->next = atomic_load(&custom_first);
        atomic_store(&custom_first, op);
    }
    atomic_flag_clear(&custom_busy);
    if (!old || old == op) return NULL;
    return rt_fail(a, IG_INVALID, "another C function is registered as %s, version %d", op->name,
                   op->version);
}
