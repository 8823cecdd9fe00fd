#!/bin/bash
# schedules.sh BUILD - tiles that the model would not choose give the committed hashes too: a schedule never changes bits.
set -u
build=$(realpath "$1")
passed=0 failed=0
for tile in 1x1 2x4 3x1 5x2 7x3 12x1 14x2; do
    for program in attention dots ein_orders gemm gradient mlp; do
        if out=$(IG_TILE=$tile IG_TEST_QUICK=1 IG_CACHE=0 "$build/tests/test_corpus" $program 2>&1); then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            echo "FAILED: $program with tiles of $tile"
            tail -n 5 <<<"$out"
        fi
    done
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
