#!/bin/bash
# hvp.sh BUILD - the example of second derivatives prints what it did when its text was committed, to the last digit.
set -u
export LD_LIBRARY_PATH=$(realpath "$1") IG_LLVM_PLUGIN=$(realpath "$1")/libingot-llvm.so
if diff <("$1/examples/hvp") examples/06_hvp.txt; then
    echo "1 passed, 0 failed"
else
    echo "0 passed, 1 failed"
    exit 1
fi
