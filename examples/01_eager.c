/* 01_eager.c - eager tensor code, traced and compiled: the example of the README. */
#include "ingot/ingot.h"
#include <stdio.h>

static void score(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *w = user;
    out[0] = ig_softmax(ig_matmul(in[0], w), -1); /* runs when called; print or debug it here */
}

int main(void) {
    ig_tensor *w = ig_name(ig_normal(NULL, IG_f32, IG_DIMS(3, 2), 0, 1), "w");
    ig_tensor *x = ig_tensor_from(IG_f32, IG_DIMS(2, 3), ((float[]){1, 2, 3, 4, 5, 6}));
    ig_tensor *eager, *compiled;
    score(w, &x, &eager);
    ig_print(eager);

    ig_module *m = NULL;
    ig_trace_options opt = {.name = "score", .dims = "[B,3]; B in 1..1024"};
    ig_status s = ig_trace(score, w, 1, &x, 1, &opt, &m);
    if (!s) s = ig_module_compile(m, NULL);
    if (!s) s = ig_module_run(m, 1, &x, 1, &compiled);
    if (!s) s = ig_module_save(m, "score.ingot");
    puts(s ? ig_status_text(s) : ig_equal(eager, compiled) ? "same bits" : "different bits");
    return s != NULL;
}
