/* threads.h - how many threads this process has. */
#ifndef TESTS_THREADS_H
#define TESTS_THREADS_H
#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#define THREADS_EXITING 4u /* PF_EXITING, proc(5): the system has not cleared it away yet */

/* A thread that was joined may still be listed for a moment: it is not counted. */
static inline long threads_now(void) {
    long n = 0;
    DIR *list = opendir("/proc/self/task");
    ck_assert_ptr_nonnull(list);
    for (struct dirent *d; (d = readdir(list));) {
        char path[300], line[512];
        unsigned flags;
        snprintf(path, sizeof path, "/proc/self/task/%s/stat", d->d_name);
        FILE *f = d->d_name[0] == '.' ? NULL : fopen(path, "r");
        if (!f) continue;
        char *behind = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
        if (behind && sscanf(behind, ") %*c %*d %*d %*d %*d %*d %u", &flags) == 1)
            n += !(flags & THREADS_EXITING);
        fclose(f);
    }
    closedir(list);
    return n;
}
#endif
