/* 05_train_deployed.c - a program that trains and is linked to nothing of ours but the object of a
 * training step: `ingot build step.ingot`, which 02_train_digits.c saved.
 *
 *   train_deployed DIR
 *
 * Reads what training begins with from DIR (train_x.f32, train_y.i64, begin.state) and goes over
 * the rows twice.  The state that comes out - parameters, moments, the count of steps - must have
 * the bytes of end.state, which is what the library made of the same batches.
 *
 * State goes in and comes out.  What STEP_IN_PLACE has a 1 for stays in its buffer; of other state
 * there would be two, which are exchanged after every step.  Which input is what stands in step.h.
 */
#include "step.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PIXELS = 64, BATCH = 64, EPOCHS = 2, FIRST = STEP_INPUTS - STEP_STATE, MAX_ROWS = 4096 };

static const size_t size[STEP_STATE] = {
    STEP_IN2_BYTES,  STEP_IN3_BYTES,  STEP_IN4_BYTES,  STEP_IN5_BYTES,  STEP_IN6_BYTES,
    STEP_IN7_BYTES,  STEP_IN8_BYTES,  STEP_IN9_BYTES,  STEP_IN10_BYTES, STEP_IN11_BYTES,
    STEP_IN12_BYTES, STEP_IN13_BYTES, STEP_IN14_BYTES,
};

static float x[MAX_ROWS * PIXELS];
static int64_t y[MAX_ROWS];
static const int in_place[STEP_STATE] = STEP_IN_PLACE;
static void *state[2][STEP_STATE];

static size_t read_file(const char *dir, const char *name, void *to, size_t room) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(to, 1, room, f) : 0;
    if (f) fclose(f);
    if (!n) exit((fprintf(stderr, "train_deployed: cannot read %s\n", path), 1));
    return n;
}

static void *workspace(void) {
    const int64_t most = BATCH;
    size_t bytes;
    if (step_workspace(&most, &bytes)) return NULL;
    return aligned_alloc(64, (bytes + 64) / 64 * 64);
}

/* One step from state[now] to the other set. */
static float train_step(int64_t row, int64_t rows, int now, void *ws) {
    const void *in[STEP_INPUTS] = {x + row * PIXELS, y + row};
    float loss;
    void *out[STEP_OUTPUTS] = {&loss};
    for (int k = 0; k < STEP_STATE; k++) {
        in[FIRST + k] = state[now][k];
        out[1 + k] = state[!now][k];
    }
    if (step_run(in, out, &rows, ws, NULL)) exit((fprintf(stderr, "train_deployed: a step\n"), 1));
    return loss;
}

/* Split the bytes of a file into the tensors of a set. */
static void split_state(const char *bytes) {
    for (int k = 0; k < STEP_STATE; bytes += size[k++]) memcpy(state[0][k], bytes, size[k]);
}

static int same_state(int now, const char *bytes) {
    int same = 1;
    for (int k = 0; k < STEP_STATE; bytes += size[k++])
        same = same && !memcmp(state[now][k], bytes, size[k]);
    return same;
}

int main(int argc, char **argv) {
    static char bytes[1 << 20];
    struct timespec t[2];
    float first = 0, loss = 0;
    int now = 0, steps = 0;
    if (argc != 2) return fprintf(stderr, "usage: train_deployed DIR\n"), 2;
    int64_t rows = (int64_t)(read_file(argv[1], "train_y.i64", y, sizeof y) / sizeof *y);
    read_file(argv[1], "train_x.f32", x, sizeof x);
    for (int k = 0; k < STEP_STATE; k++)
        for (int set = 0; set < 2; set++) {
            state[set][k] = set && in_place[k] ? state[0][k] : malloc(size[k]);
            if (!state[set][k]) return 1;
        }
    void *ws = workspace();
    read_file(argv[1], "begin.state", bytes, sizeof bytes);
    split_state(bytes);
    clock_gettime(CLOCK_MONOTONIC, &t[0]);
    for (int epoch = 0; epoch < EPOCHS; epoch++)
        for (int64_t row = 0; row < rows; row += BATCH, now = !now) {
            loss = train_step(row, rows - row < BATCH ? rows - row : BATCH, now, ws);
            if (!steps++) first = loss;
        }
    clock_gettime(CLOCK_MONOTONIC, &t[1]);
    double us = 1e6 * (double)(t[1].tv_sec - t[0].tv_sec) +
                1e-3 * (double)(t[1].tv_nsec - t[0].tv_nsec);
    read_file(argv[1], "end.state", bytes, sizeof bytes);
    printf("step_deployed_us %.1f\n", us / steps);
    printf("step_deployed_loss %.3f -> %.3f\n", (double)first, (double)loss);
    printf("step_deployed_bits %s\n", same_state(now, bytes) ? "equal" : "DIFFER");
    return 0;
}
