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
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
