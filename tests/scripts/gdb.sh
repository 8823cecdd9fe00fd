#!/bin/bash
# gdb.sh BUILD - gdb stops in a kernel by its name, and its backtrace goes through generated code to the caller.
set -u
build=$(realpath "$1")
if ! command -v gdb >/dev/null || [ ! -x "$build/tests/test_llvm" ] || [ ! -e "$build/libingot-llvm.so" ]; then
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
passed=0 failed=0
expect() { # pattern, what it shows
    if grep -qE "$1" <<<"$out"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $2"; fi
}
out=$(CK_FORK=no CK_RUN_CASE=host IG_LLVM_PLUGIN=$build/libingot-llvm.so gdb -nx -batch -iex 'set debuginfod enabled off' \
    -ex 'set breakpoint pending on' -ex 'break k0_scale' -ex run -ex bt -ex 'info symbol $pc' -ex delete -ex continue \
    "$build/tests/test_llvm" 2>&1 </dev/null)
if grep -qE 'ptrace|Could not trace|not permitted' <<<"$out" && ! grep -q 'k0_scale ()' <<<"$out"; then
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
expect 'Breakpoint 1, .*k0_scale' "a breakpoint on the kernel's name"
expect '#0 .*k0_scale' "the kernel in the backtrace"
expect '#1 .*ingot_launch' "the launch in the backtrace"
expect '#2 .*predict' "the host program in the backtrace"
expect '#3 .*host_fn' "the caller in the backtrace"
expect '100%: Checks: 1, Failures: 0' "going on after it"
[ $failed -eq 0 ] || echo "$out"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
