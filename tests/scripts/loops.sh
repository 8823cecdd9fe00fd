#!/bin/bash
# loops.sh BUILD - the example of derivatives through loops prints what it did when its text was committed.
set -u
export LD_LIBRARY_PATH=$(realpath "$1") IG_LLVM_PLUGIN=$(realpath "$1")/libingot-llvm.so
if diff <("$1/examples/loops") examples/08_loops.txt; then
    echo "1 passed, 0 failed"
else
    echo "0 passed, 1 failed"
    exit 1
fi
