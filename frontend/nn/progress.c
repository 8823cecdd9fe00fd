/* progress.c - a line on the terminal. */
#include "ingot/nn.h"
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { PROGRESS_BAR = 24 };
#define PROGRESS_EVERY 0.1 /* seconds between two drawings */

static double progress_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void ig_progress_begin(ig_progress *p, const char *what, int64_t total) {
    *p = (ig_progress){.what = what, .total = total, .on = isatty(STDERR_FILENO)};
    p->begun = progress_now();
}

void ig_progress_step(ig_progress *p, int64_t done, double loss) {
    char bar[PROGRESS_BAR + 1];
    if (!p->on) return;
    double now = progress_now(), passed = now - p->begun;
    if (now - p->drawn < PROGRESS_EVERY && done < p->total) return;
    p->drawn = now;
    double share = p->total > 0 ? (double)done / (double)p->total : 1;
    double rate = passed > 0 ? (double)done / passed : 0;
    int64_t left = rate > 0 ? (int64_t)((double)(p->total - done) / rate + 0.5) : 0;
    for (int i = 0; i < PROGRESS_BAR; i++) bar[i] = (double)i < share * PROGRESS_BAR ? '=' : ' ';
    bar[PROGRESS_BAR] = 0;
    fprintf(stderr, "\r%s %lld/%lld [%s] %.0f/s eta %lld:%02lld loss %.4g ", p->what,
            (long long)done, (long long)p->total, bar, rate, (long long)(left / 60),
            (long long)(left % 60), loss);
    fflush(stderr);
}

void ig_progress_end(ig_progress *p) {
    if (p->on) fputc('\n', stderr);
    p->on = false;
}
