#!/bin/sh
# bench.sh BUILD - the frame of the benchmarks works: one row, one round, a report with a number in it.
set -eu
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
python3 bench/run.py "$1" --only digits:1 --rounds 1 --out "$out" >/dev/null
grep -q '^| digits:1 | [0-9.]* [um]s |' "$out/report.md"
grep -q '^digits:1,1,ours,0,[0-9.e-]*' "$out/rounds.csv"
grep -q '<svg ' "$out/ratios.svg"
