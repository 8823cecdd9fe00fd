#!/bin/bash
# examples.sh BUILD - examples print what they did when their texts were committed, to the last digit.
set -u
export LD_LIBRARY_PATH=$(realpath "$1") IG_LLVM_PLUGIN=$(realpath "$1")/libingot-llvm.so
passed=0 failed=0
same() { # text, command...
    local text=$1
    shift
    if diff <("$@") "$text"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}
same examples/06_hvp.txt "$1/examples/hvp"
same examples/03_per_example.txt "$1/examples/per_example" examples/data
same examples/08_loops.txt "$1/examples/loops"
same examples/10_custom.txt "$1/examples/custom"
same examples/09_characters.txt "$1/examples/characters" LICENSE
# Eager, traced, compiled and deployed give the same bits, or it exits 1.
if "$1/examples/newton" >/dev/null; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
