#!/bin/bash
# cli.sh BUILD - the `ingot` program as a stranger uses it: help, wrong flags, missing and broken files, pipes.
set -u
ingot=$(realpath "$1/ingot")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
passed=0 failed=0
expect() { # what, exit code, pattern in the output, command...
    local what=$1 code=$2 pattern=$3 out got
    shift 3
    out=$("$@" 2>&1 </dev/null)
    got=$?
    if [ $got -eq "$code" ] && grep -qE -- "$pattern" <<<"$out"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $what: exit $got (wanted $code), wanted /$pattern/ in:"
        head -n 20 <<<"$out"
    fi
}
cat >"$dir/m.ig" <<'IR'
module m class fma {
  dim B in 1..64
  fn @f(%x: f32[B,3], %w: f32[3,2]) -> (f32[B,2]) {
    %1 = ein %x, %w rel="y[a,b] += a[a,c]*b[c,b] over (c)"
    %2 = tanh %1
    return %2
  }
}
IR
python3 - "$dir" <<'PY'
import struct, sys
def npy(path, shape, data):
    h = "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }" % (shape,)
    h += ' ' * ((-(len(h) + 11)) % 64) + '\n'
    open(path, 'wb').write(b'\x93NUMPY\x01\x00' + struct.pack('<H', len(h)) + h.encode() + struct.pack('<%df' % len(data), *data))
d = sys.argv[1]
npy(d + '/x.npy', (2, 3), [1, 0, 0, 0, 1, 0.5])
npy(d + '/w.npy', (3, 2), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
npy(d + '/bad.npy', (2, 4), [0] * 8)
PY
expect "no command shows help" 2 'ingot show' "$ingot"
expect "help fits and exits 0" 0 'ingot build' "$ingot" help
[ "$("$ingot" help | wc -l)" -le 24 ] && passed=$((passed + 1)) || { failed=$((failed + 1)); echo "FAILED: help is longer than a screen"; }
expect "version" 0 'ingot 0' "$ingot" --version
expect "unknown command" 2 "unknown command 'shw'" "$ingot" shw
expect "unknown option" 2 'unknown option --fast' "$ingot" show --fast "$dir/m.ig"
expect "missing file" 1 'cannot open .*nothing.ingot' "$ingot" show "$dir/nothing.ingot"
expect "a folder instead of a file" 1 'not a regular file' "$ingot" show "$dir"
expect "show prints" 0 'tanh' "$ingot" show "$dir/m.ig"
expect "check counts" 0 'ok, 1 function' "$ingot" check "$dir/m.ig"
expect "opt runs one pass" 0 'ein' "$ingot" opt --passes dce "$dir/m.ig"
expect "opt runs the pipeline" 0 'call' "$ingot" opt "$dir/m.ig"
expect "opt refuses an unknown pass" 1 'dcx' "$ingot" opt --passes dcx "$dir/m.ig"
"$ingot" opt "$dir/m.ig" >"$dir/opt.ig"
expect "what opt prints reads back" 0 'ok' "$ingot" check "$dir/opt.ig"
expect "transform derives" 0 'fn @f_vjp.*f32\[3,2\], %3: f32\[B,2\]' "$ingot" transform "$dir/m.ig" vjp
expect "transform batches derivatives" 0 'fn @f_vjp_vmap.*f32\[8,B,3\]' "$ingot" transform "$dir/m.ig" "vjp 0; vmap 8"
expect "transform refuses an unknown word" 1 'no transformation .gard' "$ingot" transform "$dir/m.ig" gard
expect "transform says how it is used" 2 'usage: ingot transform' "$ingot" transform "$dir/m.ig"
printf 'module m {\n  fn @f(%%x: f32[3]) -> (f32[3]) {\n    %%1 = tnh %%x\n    return %%1\n  }\n}\n' >"$dir/bad.ig"
expect "a text error shows line, column and caret" 1 'bad.ig:3:[0-9]+:.*tnh' "$ingot" show "$dir/bad.ig"
expect "the caret" 1 '\^' "$ingot" show "$dir/bad.ig"
expect "run prints" 0 '0\.0996' "$ingot" run "$dir/m.ig" "$dir/x.npy" "$dir/w.npy"
expect "run by the reference" 0 '0\.0996' "$ingot" run "$dir/m.ig" "$dir/x.npy" "$dir/w.npy" --reference
expect "run writes" 0 'y.npy' "$ingot" run "$dir/m.ig" "$dir/x.npy" "$dir/w.npy" -o "$dir/y.npy"
[ -s "$dir/y.npy" ] && passed=$((passed + 1)) || { failed=$((failed + 1)); echo "FAILED: y.npy was not written"; }
expect "too few inputs" 1 'takes 2 inputs .f32.B,3., f32.3,2..; 1' "$ingot" run "$dir/m.ig" "$dir/x.npy"
expect "a wrong shape names both" 1 'f32\[2,4\]|\[2,4\]|4' "$ingot" run "$dir/m.ig" "$dir/bad.npy" "$dir/w.npy"
expect "build needs -o" 2 'where to write' "$ingot" build "$dir/m.ig"
expect "build writes object and header" 0 'm.h' "$ingot" build "$dir/m.ig" -o "$dir/out"
expect "the header declares m_run" 0 'int m_run\(' cat "$dir/out/m.h"
for level in v3 v4 aarch64; do
    expect "build for $level" 0 'm.o' "$ingot" build "$dir/m.ig" -o "$dir/out-$level" --cpu $level
    und=$(nm -u "$dir/out-$level/m.o" | awk '{print $2}' | grep -vx -e memcpy -e memset -e memmove)
    [ -z "$und" ] && passed=$((passed + 1)) || { failed=$((failed + 1)); echo "FAILED: $level leaves undefined: $und"; }
done
expect "an fma module is refused for v2" 1 'nofma' "$ingot" build "$dir/m.ig" -o "$dir/out" --cpu v2
sed 's/class fma/class nofma/' "$dir/m.ig" >"$dir/n.ig"
expect "a nofma module builds for v2" 0 'n.o' "$ingot" build "$dir/n.ig" -o "$dir/out" --cpu v2
expect "an unknown level lists the levels" 1 'aarch64' "$ingot" build "$dir/m.ig" -o "$dir/out" --cpu v9
expect "ops" 0 '^tanh' "$ingot" ops
"$ingot" ops --json | python3 -m json.tool >/dev/null && passed=$((passed + 1)) || { failed=$((failed + 1)); echo "FAILED: ops --json is not JSON"; }
expect "doctor" 0 'self-test ok' "$ingot" doctor
"$ingot" show - <"$dir/m.ig" | grep -q tanh && passed=$((passed + 1)) || { failed=$((failed + 1)); echo "FAILED: standard input"; }
head -c 20 /dev/urandom >"$dir/r.ingot"
expect "garbage is refused" 1 'r.ingot' "$ingot" show "$dir/r.ingot"
expect "a full disk is an error" 1 'write|space' bash -c "'$ingot' ops >/dev/full"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
