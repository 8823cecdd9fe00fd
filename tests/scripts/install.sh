#!/bin/bash
# install.sh BUILD - what `meson install` puts down is enough: headers, pkg-config, the program, the plug-in.
set -u
build=$(realpath "$1")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
passed=0 failed=0
ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED: $*"; }
DESTDIR=$dir meson install -C "$build" --no-rebuild --quiet >"$dir/log" 2>&1 && ok || { bad "meson install"; cat "$dir/log"; }
pc=$(find "$dir" -name ingot.pc | head -n 1)
[ -n "$pc" ] && ok || bad "no ingot.pc"
lib=$(dirname "$(find "$dir" -name libingot.so | head -n 1)")
export PKG_CONFIG_PATH=$(dirname "$pc") PKG_CONFIG_SYSROOT_DIR=$dir
cc examples/01_eager.c $(pkg-config --cflags --libs ingot) -o "$dir/eager" 2>"$dir/log" && ok || { bad "compiling against the installed library"; cat "$dir/log"; }
out=$(cd "$dir" && LD_LIBRARY_PATH=$lib ./eager)
grep -q 'same bits' <<<"$out" && ok || bad "the installed library does not compile kernels: $out"
bin=$(find "$dir" -type f -name ingot -perm -u+x | head -n 1)
"$bin" doctor | grep -q 'self-test ok' && ok || bad "the installed program"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
