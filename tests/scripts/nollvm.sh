#!/bin/bash
# nollvm.sh BUILD - a program that loads and runs a compiled module maps no libLLVM and no page that is both writable
# and executable.
set -u
build=$(realpath "$1")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
passed=0 failed=0
ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED: $*"; }
export LD_LIBRARY_PATH=$build IG_LLVM_PLUGIN=$build/libingot-llvm.so
(cd "$dir" && "$build/examples/eager" >/dev/null) || bad "the example"
cat >"$dir/load.c" <<'C'
#include "ingot/ingot.h"
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv) {
    ig_module *m = NULL;
    ig_tensor *x = ig_ones(IG_f32, IG_DIMS(5, 3)), *y;
    ig_status s = ig_module_load(argv[1], &m);
    if (!s) s = ig_module_run(m, 1, &x, 1, &y);
    if (s) return puts(ig_status_text(s)), 1;
    if (!ig_module_get_info(m).level) return puts("not compiled"), 1;
    char line[1024];
    FILE *f = fopen("/proc/self/maps", "r");
    int bad = 0;
    while (fgets(line, sizeof line, f))
        if (strstr(line, "libLLVM") || strstr(line, "rwxp") || strstr(line, "libingot-llvm")) bad = 1, fputs(line, stdout);
    return (void)argc, bad;
}
C
cc -I"include" "$dir/load.c" -o "$dir/load" -L"$build" -lingot || bad "compiling"
"$dir/load" "$dir/score.ingot" && ok || bad "libLLVM or an rwx page is mapped"

# The runtime alone: the same file, linked to libingot-rt only.
cat >"$dir/rt.c" <<'C'
#include "ingot/runtime.h"
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    ig_program *p = NULL;
    float x[6] = {1, 2, 3, 4, 5, 6}, y[4] = {0};
    const void *in[1] = {x};
    void *out[1] = {y};
    int64_t rows = 2, bad = 1 << 20;
    size_t n;
    ig_status s = ig_program_load(argv[1], &p);
    if (!s) s = ig_program_workspace(p, &rows, &n);
    if (s) return puts(ig_status_text(s)), 1;
    void *ws = aligned_alloc(64, (n + 64) / 64 * 64);
    if ((s = ig_program_run(p, in, out, &rows, ws, NULL))) return puts(ig_status_text(s)), 1;
    if (!(s = ig_program_workspace(p, &bad, &n))) return puts("a bad dim was accepted"), 1;
    ig_status_free(s);
    printf("%.4f %.4f\n", y[0] + y[1], y[2] + y[3]);
    free(ws);
    ig_program_free(p);
    return (void)argc, 0;
}
C
cc -I"include" "$dir/rt.c" -o "$dir/rt" -L"$build" -lingot-rt && ok || bad "linking to libingot-rt alone"
out=$("$dir/rt" "$dir/score.ingot")
[ "$out" = "1.0000 1.0000" ] && ok || bad "the runtime alone gives: $out"
ldd "$dir/rt" | grep -qE 'libingot\.so|LLVM' && bad "the runtime needs more than itself" || ok
head -c 4000 "$dir/score.ingot" >"$dir/cut.ingot"
"$dir/rt" "$dir/cut.ingot" | grep -q 'truncated' && ok || bad "a truncated file is not named as such"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
