#!/bin/sh
# demo.sh BUILD [--flip-bit] - train, trace, save, compile, deploy, compare; see `./dev demo`.
set -eu
build=$1
shift
flip=
for arg; do
    case $arg in
    --flip-bit) flip=--flip-bit ;;
    *) echo "demo: unknown option $arg (there is --flip-bit)" >&2; exit 2 ;;
    esac
done
here=$(dirname "$0")
out=$build/demo
mkdir -p "$out"
rm -f "$out"/*

"$build/examples/train_digits" "$here/data" "$out" >"$out/report"
"$build/ingot" build "$out/digits.ingot" -o "$out" --cpu host >/dev/null
cc -std=gnu11 -O2 -I"$out" "$here/04_deploy.c" "$out/digits.o" -o "$out/deploy"
"$out/deploy" "$out/heldout.f32" "$out/deployed.f32" $flip >>"$out/report"
"$build/ingot" build "$out/step.ingot" -o "$out" --cpu host >/dev/null
cc -std=gnu11 -O2 -I"$out" "$here/05_train_deployed.c" "$out/step.o" -o "$out/train_deployed"
"$out/train_deployed" "$out" >>"$out/report"

value() { sed -n "s/^$1 //p" "$out/report"; }
text=$(size -A "$out/digits.o" | awk '$1 ~ /^\.text/ {n += $2} END {print n}')
undefined=$(nm -u "$out/digits.o" "$out/step.o" | awk 'NF == 2 {print $2}' | grep -vx -e memcpy -e memset -e memmove || true)
rows=$(($(wc -c <"$out/labels.u8")))
if cmp -s "$out/eager.f32" "$out/deployed.f32"; then deployed=equal; else deployed=DIFFER; fi
bits=equal
[ "$deployed" = equal ] && [ "$(value compiled_bits)" = equal ] && [ "$(value step_bits)" = equal ] &&
    [ "$(value step_deployed_bits)" = equal ] || bits=DIFFER

cat <<TXT
digits network 64-64-10, held-out images: $rows

  accuracy, median of 5 seeds    $(value accuracy)   ($(value accuracy_min) .. $(value accuracy_max))
  training, 5 seeds              $(value train_s) s (loss, gradient and Adam: one compiled step)
  compile                        $(value step_compile_ms) ms the step, $(value compile_ms) ms the prediction

  time of a training step     batch 64
  eager                      $(printf '%8.1f us' "$(value step_eager_us)")
  compiled                   $(printf '%8.1f us' "$(value step_compiled_us)")
  deployed object            $(printf '%8.1f us' "$(value step_deployed_us)")   (loss $(value step_deployed_loss) in two epochs)

  time per image              batch $rows      batch 1
  eager                      $(printf '%8.3f us  %8.3f us' "$(value eager_us)" "$(value eager_one_us)")
  compiled                   $(printf '%8.3f us  %8.3f us' "$(value compiled_us)" "$(value compiled_one_us)")
  deployed object            $(printf '%8.3f us  %8.3f us' "$(value deployed_us)" "$(value deployed_one_us)")

  deployed: text $text bytes, start to first result $(value first_us) us, undefined symbols: ${undefined:-none}
  bits: training eager = compiled: $(value step_bits); compiled = deployed: $(value step_deployed_bits)
  bits: eager = compiled (batch 1, 7, $rows): $(value compiled_bits); eager = deployed: $deployed

TXT
ok=ok
[ "$bits" = equal ] && [ -z "$undefined" ] || ok=FAILED
awk "BEGIN {exit !($(value accuracy) >= 0.96)}" || ok=FAILED
accuracy=$(printf '%.2f' "$(value accuracy)")
echo "demo: $ok accuracy=$accuracy bits=$bits images=$rows text=$text first_us=$(value first_us)"
[ "$ok" = ok ]
