#!/bin/bash
# identical.sh BUILD - compiling is a function of module and target: the same bytes on every run, for every number of
# threads, from any folder, with any addresses.
set -u
ingot=$(realpath "$1/ingot")
corpus=$(realpath tests/corpus)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
passed=0 failed=0
same() { # what, file, file
    if [ -s "$2" ] && cmp "$2" "$3"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $1"; fi
}

for program in mlp softmax gemm calls; do
    for level in v3 v4 aarch64; do
        for threads in 1 2; do
            mkdir -p "$dir/$threads/$level"
            cp "$corpus/$program.ir" "$dir/$threads/m.ir"
            noise=$(printf '%*s' $((threads * 3000)) x) # moves the stack
            (cd "$dir/$threads" && env "NOISE=$noise" IG_THREADS=$threads \
                "$ingot" build m.ir -o "$level" --cpu $level --name $program >/dev/null)
        done
        same "object of $program for $level" "$dir/1/$level/$program.o" "$dir/2/$level/$program.o"
    done
done

# Images, as the cache keeps them.
cat >"$dir/m.ig" <<'IR'
module m {
  fn @f() -> (f32[64,48], f32[64]) {
    %1 = iota dtype=f32 dims=[64,48] axis=1
    %2 = iota dtype=f32 dims=[48,48] axis=0
    %3 = ein %1, %2 rel="y[i,j] += a[i,k]*b[k,j] over (k)"
    %4 = barrier %3
    %5 = tanh %4
    %6 = barrier %5
    %7 = reduce %6 op=sum axes=[1]
    %8 = exp %7
    return %6, %8
  }
}
IR
for threads in 1 2; do
    mkdir -m 700 "$dir/cache$threads"
    IG_CACHE=1 IG_CACHE_DIR=$dir/cache$threads IG_THREADS=$threads "$ingot" run "$dir/m.ig" >/dev/null
done
image=$(ls "$dir/cache1")
same "image" "$dir/cache1/$image" "$dir/cache2/$image"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
