/* test_mdwe.c - compiled code under PR_SET_MDWE (systemd's MemoryDenyWriteExecute): the system
 * refuses memory that is, or was, both writable and executable.
 *
 * Sets the restriction, which children inherit, proves that it holds, and runs the programs beside
 * this one that compile, load and run most. */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SET_MDWE         65 /* PR_SET_MDWE, since Linux 6.3 */
#define REFUSE_EXEC_GAIN 1

static int passed, failed;

static void check(int ok, const char *what) {
    passed += ok;
    failed += !ok;
    if (!ok) printf("FAILED: %s\n", what);
}

/* Run a program; its exit code, or -1. */
static int run(const char *path, char *const *argv) {
    int status;
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) return -1;
    if (!pid) {
        execv(path, argv);
        _exit(127);
    }
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) return -1;
    return WEXITSTATUS(status);
}

/* Whether memory can be had that is writable and executable. */
static int has_rwx(void) {
    void *p =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p != MAP_FAILED;
}

int main(int argc, char **argv) {
    (void)argv;
    static const char *const program[][4] = {{"test_image"},   {"test_trace"},
                                             {"test_threads"}, {"test_fpenv"},
                                             {"test_native"},  {"fuzz", "--programs", "60"}};
    char self[PATH_MAX], path[PATH_MAX + 32];
    if (argc > 1) return has_rwx();
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0) return perror("/proc/self/exe"), 1;
    self[n] = 0;
    if (prctl(SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0)) {
        printf("mdwe: the kernel has no PR_SET_MDWE (%s)\n0 passed, 0 failed, 1 skipped\n",
               strerror(errno));
        return 0;
    }
    check(!has_rwx(), "the restriction does not hold here");
    check(run(self, (char *[]){self, "child", NULL}) == 0, "it does not hold in a child");
    const char *folder = dirname(self);
    for (size_t k = 0; k < sizeof program / sizeof *program; k++) {
        char *args[5] = {path};
        for (int i = 1; i < 4; i++) args[i] = (char *)program[k][i];
        snprintf(path, sizeof path, "%s/%s", folder, program[k][0]);
        check(run(path, args) == 0, path);
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
