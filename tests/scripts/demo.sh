#!/bin/bash
# demo.sh BUILD - the demo ends well, and its comparison notices a flipped bit.
set -u
build=$1
passed=0 failed=0
check() { # what, condition...
    local what=$1
    shift
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $what"; fi
}
out=$(sh examples/demo.sh "$build" 2>&1)
code=$?
last=$(tail -n 1 <<<"$out")
echo "$out"
check "the demo exits 0" [ $code -eq 0 ]
check "the last line says ok and equal bits" grep -q '^demo: ok accuracy=0\.9[6-9] bits=equal ' <<<"$last"
text=$(sed -n 's/.* text=\([0-9]*\).*/\1/p' <<<"$last")
check "the text of the deployed object is at most 6 KB (it is $text)" [ "${text:-99999}" -le 6144 ]
out=$(sh examples/demo.sh "$build" --flip-bit 2>&1)
code=$?
check "--flip-bit exits 1" [ $code -eq 1 ]
check "--flip-bit prints bits=DIFFER" grep -q 'bits=DIFFER' <<<"$(tail -n 1 <<<"$out")"
out=$(sh examples/demo.sh "$build" --wrong 2>&1)
check "a wrong option exits 2" [ $? -eq 2 ]
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
