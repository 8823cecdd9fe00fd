/* 03_per_example.c - the gradient of every single example, at the price of a batch.
 *
 *   per_example DATA_DIR
 *
 * A linear classifier of the digits is trained for a while.  Then the loss of ONE image is traced,
 * differentiated by its weights, which are lifted to arguments, and batched: the images get lanes,
 * the weights are shared.  The gradients say which images the classifier still has most to learn
 * from; clipped one by one and summed they are what private training needs.  A lane has the bits of
 * the gradient of its image alone. */
#include "ingot/ingot.h"
#include <stdio.h>
#include <stdlib.h>

enum { PIXELS = 64, CLASSES = 10, SHOWN = 5 };

typedef struct model {
    ig_tensor *w, *b;
} model;

static void check(ig_status s) {
    if (!s && !ig_error()) return;
    fprintf(stderr, "per_example: %s\n", s ? ig_status_text(s) : ig_error_text());
    exit(1);
}

/* The loss of images [..,64] with labels [..]. */
static void loss(void *user, ig_tensor *const *in, ig_tensor **out) {
    model *m = user;
    out[0] = ig_cross_entropy(ig_linear(in[0], m->w, m->b), in[1]);
}

static void train(model *m, ig_tensor *const *in, int steps) {
    ig_optimizer *sgd;
    check(ig_optimizer_new(IG_LIST(m->w, m->b), &(ig_optimizer_options){.momentum = 0.9}, &sgd));
    for (int k = 0; k < steps; k++) {
        IG_GRAD_SCOPE {
            ig_tensor *y;
            ig_optimizer_watch(sgd);
            loss(m, in, &y);
            ig_backward(y);
        }
        ig_optimizer_step(sgd, 0.5);
    }
    ig_optimizer_free(sgd);
}

/* (image, label, w, b) -> (loss, ^w, ^b) on N lanes. */
static ig_module *per_example(model *m, ig_tensor *const *one, ig_module **single_) {
    ig_module *f, *g, *lanes;
    check(ig_trace(loss, m, 2, one, 1, &(ig_trace_options){.name = "loss"}, &f));
    check(ig_value_and_grad(f, "@*", &g));
    check(ig_lift(g, "@*", single_));
    check(ig_vmap(*single_, "N in 1..2048", (int[]){0, 0, -1, -1}, NULL, &lanes));
    check(ig_module_compile(lanes, NULL));
    ig_module_free(g);
    ig_module_free(f);
    return lanes;
}

/* sqrt of the sum of squares of both gradients, by lane. */
static ig_tensor *norms(ig_tensor *gw, ig_tensor *gb) {
    ig_tensor *w = ig_sum(ig_square(gw), IG_AXES(1, 2)), *b = ig_sum(ig_square(gb), 1);
    return ig_sqrt(ig_add(w, b));
}

int main(int argc, char **argv) {
    char path[2][4096];
    if (argc != 2) return fprintf(stderr, "usage: per_example DATA_DIR\n"), 2;
    snprintf(path[0], sizeof *path, "%s/digits_images.npy", argv[1]);
    snprintf(path[1], sizeof *path, "%s/digits_labels.npy", argv[1]);
    ig_tensor *x =
        ig_div(ig_cast(ig_reshape(ig_npy_load(path[0]), IG_DIMS(-1, PIXELS)), IG_f32), 16);
    ig_tensor *y = ig_cast(ig_npy_load(path[1]), IG_i64);
    model m = {ig_name(ig_zeros(IG_f32, IG_DIMS(PIXELS, CLASSES)), "w"),
               ig_name(ig_zeros(IG_f32, IG_DIMS(CLASSES)), "b")};
    ig_tensor *all[2] = {x, y}, *one[2] = {ig_slice(x, IG_AT(17)), ig_slice(y, IG_AT(17))};
    train(&m, all, 100);

    ig_module *single, *lanes = per_example(&m, one, &single);
    ig_tensor *arg[4] = {x, y, m.w, m.b}, *r[3], *own[4] = {one[0], one[1], m.w, m.b}, *q[3];
    check(ig_module_run(lanes, 4, arg, 3, r));
    check(ig_module_run(single, 4, own, 3, q));
    ig_tensor *norm = norms(r[1], r[2]), *largest, *which;
    ig_topk(norm, SHOWN, 0, &largest, &which);
    check(NULL);
    printf("%lld images, mean loss %.4f, mean norm of a gradient %.4f\n", (long long)ig_dim(x, 0),
           ig_item_f64(ig_mean(r[0], IG_ALL_AXES)), ig_item_f64(ig_mean(norm, IG_ALL_AXES)));
    for (int k = 0; k < SHOWN; k++) {
        int64_t i = ig_item_i64(ig_slice(which, IG_AT(k)));
        ig_tensor *z = ig_linear(ig_slice(x, IG_AT(i)), m.w, m.b);
        printf("  image %4lld, a %lld taken for a %lld: norm %.4f\n", (long long)i,
               (long long)ig_item_i64(ig_slice(y, IG_AT(i))),
               (long long)ig_item_i64(ig_argmax(z, 0)), ig_item_f64(ig_slice(largest, IG_AT(k))));
    }
    ig_tensor *by = ig_minimum(ig_div(1.0f, norm), 1);
    ig_tensor *clipped = ig_ein("g[i,o] += by[n]*g[n,i,o]", by, r[1]);
    printf("sum of gradients clipped to 1: norm %.4f\n",
           ig_item_f64(ig_global_norm(IG_LIST(clipped))));
    bool same = ig_equal(ig_slice(r[1], IG_AT(17)), q[1]) &&
                ig_equal(ig_slice(r[2], IG_AT(17)), q[2]);
    printf("image 17 alone: %s\n", same ? "same bits" : "DIFFERENT BITS");
    check(NULL);
    ig_module_free(lanes);
    ig_module_free(single);
    ig_session_free(NULL);
    return !same;
}
