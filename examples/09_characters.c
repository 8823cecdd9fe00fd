/* 09_characters.c - a small transformer learns to write like a text, character by character.
 *
 *   characters TEXT [STEPS]
 *
 * One block: attention over the last 32 characters with four heads, then two dense layers, each
 * around a normalisation and added to what came in.  The training step (loss, gradient, clipping,
 * AdamW with a warmed-up cosine rate) is traced and compiled.  Prints the loss on the way and what
 * the model writes after a few words: every character is the likeliest.  The same on every machine
 * and any number of threads, to the last bit. */
#include "ingot/ingot.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SPAN = 32, WIDE = 64, HEADS = 4, INNER = 128, BATCH = 16, CODES = 128, MAX_TEXT = 1 << 20 };
enum { TABLE, PLACE, QKV, MIX, GAIN1, UP, UP_B, DOWN, GAIN2, HEAD, PARAMS };

typedef struct model {
    ig_tensor *p[PARAMS];
    ig_optimizer *adam;
    int64_t steps;
} model;

static unsigned char text[MAX_TEXT];

static void check(ig_status s) {
    if (!s && !ig_error()) return;
    fprintf(stderr, "characters: %s\n", s ? ig_status_text(s) : ig_error_text());
    exit(1);
}

static void model_new(model *m, int64_t steps) {
    static const struct {
        const char *name;
        ig_dims dims;
    } shape[PARAMS] = {
        [TABLE] = {"table", {2, {CODES, WIDE}}}, [PLACE] = {"place", {2, {SPAN, WIDE}}},
        [QKV] = {"qkv", {2, {WIDE, 3 * WIDE}}},  [MIX] = {"mix", {2, {WIDE, WIDE}}},
        [GAIN1] = {"gain1", {1, {WIDE}}},        [UP] = {"up", {2, {WIDE, INNER}}},
        [UP_B] = {"up_b", {1, {INNER}}},         [DOWN] = {"down", {2, {INNER, WIDE}}},
        [GAIN2] = {"gain2", {1, {WIDE}}},        [HEAD] = {"head", {2, {WIDE, CODES}}},
    };
    ig_tensor *rng = ig_rng(1);
    for (int k = 0; k < PARAMS; k++) {
        ig_dims d = shape[k].dims;
        ig_tensor *t = d.n == 2                   ? ig_weights(IG_XAVIER_NORMAL, rng, IG_f32, d)
                       : k == GAIN1 || k == GAIN2 ? ig_ones(IG_f32, d)
                                                  : ig_zeros(IG_f32, d);
        m->p[k] = ig_keep(ig_name(t, shape[k].name));
    }
    m->steps = steps;
    const ig_optimizer_options opt = {
        .update = IG_ADAMW, .beta2 = 0.98, .decay = 0.01, .clip_norm = 1};
    check(ig_optimizer_new(((ig_list){PARAMS, m->p}), &opt, &m->adam));
}

/* One third of [B,SPAN,3*WIDE] by heads: [B,HEADS,SPAN,WIDE/HEADS]. */
static ig_tensor *heads(ig_tensor *qkv, int part) {
    ig_tensor *x = ig_slice(qkv, IG_FULL, IG_FULL, IG_RANGE(part * WIDE, (part + 1) * WIDE));
    x = ig_reshape(x, IG_DIMS(-1, SPAN, HEADS, WIDE / HEADS));
    return ig_transpose(x, IG_AXES(0, 2, 1, 3));
}

/* Codes [B,SPAN] -> logits [B,SPAN,CODES] of the characters that follow. */
static ig_tensor *logits(const model *m, ig_tensor *codes) {
    ig_tensor *const *p = m->p;
    ig_tensor *x = ig_add(ig_embedding(p[TABLE], codes), p[PLACE]);
    ig_tensor *qkv = ig_matmul(ig_rms_norm(x, p[GAIN1], 1e-5), p[QKV]);
    ig_tensor *seen = ig_attention(heads(qkv, 0), heads(qkv, 1), heads(qkv, 2),
                                   &(ig_attention_options){.causal = true});
    seen = ig_reshape(ig_transpose(seen, IG_AXES(0, 2, 1, 3)), IG_DIMS(-1, SPAN, WIDE));
    x = ig_add(x, ig_matmul(seen, p[MIX]));
    ig_tensor *h = ig_gelu(ig_linear(ig_rms_norm(x, p[GAIN2], 1e-5), p[UP], p[UP_B]));
    return ig_matmul(ig_add(x, ig_matmul(h, p[DOWN])), p[HEAD]);
}

static void step(void *user, ig_tensor *const *in, ig_tensor **out) {
    model *m = user;
    IG_GRAD_SCOPE {
        ig_optimizer_watch(m->adam);
        out[0] = ig_cross_entropy(logits(m, in[0]), in[1]);
        ig_backward(out[0]);
    }
    const ig_rate_options rate = {.base = 0.005, .warmup = 20, .total = m->steps};
    ig_optimizer_step(m->adam, ig_rate(ig_optimizer_steps(m->adam), &rate));
}

static void predict(void *user, ig_tensor *const *in, ig_tensor **out) {
    out[0] = ig_argmax(ig_slice(logits(user, in[0]), IG_AT(0), IG_AT(-1)), -1);
}

/* SPAN characters from each of these positions, and those one further. */
static void windows(const int64_t *at, int64_t n, ig_tensor **in) {
    static int64_t code[2][BATCH][SPAN];
    for (int side = 0; side < 2; side++)
        for (int64_t i = 0; i < n; i++)
            for (int k = 0; k < SPAN; k++) code[side][i][k] = text[at[i] + k + side];
    for (int side = 0; side < 2; side++)
        in[side] = ig_tensor_from(IG_i64, IG_DIMS(n, SPAN), code[side]);
}

static void train(model *m, int64_t length) {
    const int64_t *at, first[BATCH] = {0};
    ig_batches *order;
    ig_module *one = NULL;
    ig_progress bar;
    const ig_batches_options opt = {.rows = length - SPAN, .batch = BATCH, .drop_last = true};
    check(ig_batches_new(&opt, &order));
    ig_tensor *in[2], *loss;
    windows(first, BATCH, in);
    check(ig_trace(step, m, 2, in, 1, &(ig_trace_options){.name = "step"}, &one));
    check(ig_module_compile(one, NULL));
    ig_progress_begin(&bar, "training", m->steps);
    for (int64_t k = 0; k < m->steps; k++) IG_SCOPE {
            int64_t n = ig_batches_next(order, &at);
            if (!n) n = ig_batches_next(order, &at);
            windows(at, n, in);
            check(ig_module_run(one, 2, in, 1, &loss));
            ig_progress_step(&bar, k + 1, ig_item_f64(loss));
            if (k % (m->steps / 4) == 0 || k + 1 == m->steps)
                printf("step %4lld  loss %.4f\n", (long long)k + 1, ig_item_f64(loss));
        }
    ig_progress_end(&bar);
    ig_module_free(one);
    ig_batches_free(order);
}

/* Go on from the last SPAN characters of what stands there. */
static void write_text(model *m, const char *begin, int count) {
    int64_t code[SPAN + 256];
    ig_module *next;
    size_t n = strlen(begin);
    for (size_t i = 0; i < SPAN; i++) code[i] = begin[n - SPAN + i];
    ig_tensor *in = ig_tensor_from(IG_i64, IG_DIMS(1, SPAN), code), *c;
    check(ig_trace(predict, m, 1, &in, 1, &(ig_trace_options){.name = "next"}, &next));
    check(ig_module_compile(next, NULL));
    fputs(begin, stdout);
    putchar('|');
    for (int k = 0; k < count; k++) IG_SCOPE {
            in = ig_tensor_from(IG_i64, IG_DIMS(1, SPAN), code + k);
            check(ig_module_run(next, 1, &in, 1, &c));
            code[SPAN + k] = ig_item_i64(c);
            putchar(code[SPAN + k] == '\n' ? ' ' : (int)code[SPAN + k]);
        }
    putchar('\n');
    ig_module_free(next);
}

int main(int argc, char **argv) {
    model m;
    FILE *f = argc > 1 ? fopen(argv[1], "rb") : NULL;
    if (!f) return fprintf(stderr, "usage: characters TEXT [STEPS]\n"), 2;
    int64_t length = (int64_t)fread(text, 1, sizeof text, f),
            steps = argc > 2 ? atoll(argv[2]) : 2000;
    fclose(f);
    for (int64_t i = 0; i < length; i++) text[i] = text[i] < CODES ? text[i] : '?';
    if (length <= SPAN + BATCH || steps < 4) return fprintf(stderr, "characters: too short\n"), 2;
    model_new(&m, steps);
    train(&m, length);
    write_text(&m, "You may reproduce and distribute copies of the Work or ", 120);
    write_text(&m, "Licensor shall not be liable for any ", 120);
    ig_optimizer_free(m.adam);
    for (int k = 0; k < PARAMS; k++) ig_free(m.p[k]);
    check(NULL);
    return ig_session_free(NULL) != 0;
}
