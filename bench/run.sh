#!/bin/sh
# run.sh BUILD [options] - the benchmarks beside their peers: bench/README.md
exec python3 "$(dirname "$0")/run.py" "$@"
