#!/usr/bin/env python3
"""table_laws.py - the op table and the attribute table defend themselves.

Copies the tables and the files that read them, breaks one thing at a time and shows that the compiler refuses it, and
for the reason that was meant.  Every compiler that is found has to.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wno-missing-braces", "-Werror=unused-function",
         "-Werror=incompatible-pointer-types", "-c", "-o", os.devnull]


def row(name, old, new):
    """Edit the row of one op or attribute: the pattern `old` becomes `new`, once."""
    def edit(text):
        lines = text.split("\n")
        for i, line in enumerate(lines):
            if re.match(r"(OP|ATTR|ENUM)\( *" + name + r"\b", line):
                lines[i] = re.sub(old, new, line, count=1)
                if lines[i] == line:
                    sys.exit(f"table_laws: {old!r} is not in the row of {name}")
                return "\n".join(lines)
        sys.exit(f"table_laws: there is no row {name}")
    return edit


def twice(name):
    return row(name, r"^.*$", lambda m: m.group(0) + "\n" + m.group(0))


def swap(old, new):
    def edit(text):
        if old not in text:
            sys.exit(f"table_laws: {old!r} is gone")
        return text.replace(old, new, 1)
    return edit


# what is broken, the file to edit, the edit, the file that must not compile, why the compiler has to say so
OPS = [
    ("a row without its fold rule", "ir/ops.def", row("add", r"R\( *add,", "R(nosuch,"), "ir/fold.c", "fold_nosuch"),
    ("a row without its reference rule", "ir/ops.def", row("pad", r"(R\( *pad, *)pad", r"\1nosuch"), "ir/ref.c",
     "rule_nosuch"),
    ("a row without its type rule", "ir/ops.def", row("sqrt", r"float,", "nosuch,"), "ir/infer.c", "type_nosuch"),
    ("a row without its generator", "ir/ops.def", row("shift", r"shift,( *F)", r"nosuch,\1"), "tests/gen.c",
     "gen_in_nosuch"),
    ("a rule without a row", "ir/ops.def", row("iota", r"(R\( *_, *)iota", r"\1const"), "ir/ref.c",
     "rule_iota.*(unused|defined but not used)|unused.*rule_iota"),
    ("a rule with another signature", "ir/ref.c", swap("rule_reduce(const ir_ref_call *c)", "rule_reduce(int c)"),
     "ir/ref.c", "incompatible"),
    ("linear in an operand that is not there", "ir/ops.def", row("neg", r"F\(0,0,0,1\)", "F(0,0,0,2)"), "ir/op.c",
     "linear in an operand"),
    ("an effect that is folded", "ir/ops.def", row("barrier", r"R\( *_,", "R(neg,"), "ir/op.c", "never folded"),
    ("a unary op that commutes", "ir/ops.def", row("neg", r"F\(0,", "F(1,"), "ir/op.c", "only a binary op commutes"),
    ("one op twice", "ir/ops.def", twice("mul"), "ir/op.c", "OP_mul"),
    ("an unknown attribute kind", "ir/ops.def", row("exp", r"none,", "nosuch,"), "ir/op.c", "ATTR_nosuch"),
    ("an unknown level", "ir/ops.def", row("exp", r" b,", " z,"), "ir/op.c", "OP_LEVEL_z"),
    ("a row without its derivative", "ir/ops.def", row("exp", r"(math, *)exp,", r"\1nosuch,"), "passes/linearize.c",
     "lin_nosuch"),
    ("a derivative without a row", "ir/ops.def", row("rem", r"(R\(.*rem, *)rem,", r"\1zero,"), "passes/linearize.c",
     "lin_rem.*(unused|defined but not used)|unused.*lin_rem"),
    ("a row without its transpose rule", "ir/ops.def", row("reverse", r"(linear, *)reverse,", r"\1nosuch,"),
     "passes/transpose.c", "tr_nosuch"),
    ("a row without its batch rule", "ir/ops.def", row("reduce", r"(reduce, *)reduce *\)\)", r"\1nosuch))"),
     "passes/vmap.c", "batch_nosuch"),
    ("a batch rule with another signature", "passes/vmap.c", swap("batch_reverse(batch_call *c)", "batch_reverse(int c)"),
     "passes/vmap.c", "incompatible"),
    ("a linear op that is not transposed", "ir/ops.def", row("neg", r"(linear, *)neg,", r"\1_,"), "ir/op.c",
     "if and only if it has a transpose rule"),
    ("an op that is transposed and not linear", "ir/ops.def", row("exp", r"(math, *exp, *)_,", r"\1neg,"), "ir/op.c",
     "if and only if it has a transpose rule"),
    ("an op whose derivative was forgotten", "ir/ops.def", row("exp", r"(math, *)exp,", r"\1_,"), "ir/op.c",
     "has a derivative, or says zero"),
    ("an op whose batching was forgotten", "ir/ops.def", row("rint", r"ew( *\)\))", r"_\1"), "ir/op.c",
     "can be batched"),
    ("an op without a meaning", "ir/ops.def", row("weight", r"(R\( *_, *)weight", r"\1_"), "ir/op.c",
     "has a reference rule"),
]
ATTRS = [
    ("an unknown field kind", "ir/attrs.def", row("reduce", r"F\(redop,", "F(nosuch,"), "ir/attr.c", "nosuch"),
    ("one attribute twice", "ir/attrs.def", twice("pad"), "ir/attr.c", "ir_attr_pad"),
    ("an attribute that is gone", "ir/attrs.def", row("slice", r"^.*$", ""), "ir/op.c", "ATTR_slice"),
    ("an enumeration that is gone", "ir/attrs.def", row("cmpop", r"^ENUM.*$", ""), "ir/attr.c", "cmpop"),
]


def compiles(compiler, folder, source):
    p = subprocess.run([compiler, *FLAGS, "-I" + folder, "-I" + os.path.join(folder, "include"),
                        os.path.join(folder, source)], capture_output=True, text=True)
    return p.returncode == 0, p.stderr


def check(compiler, folder, cases):
    """Break one thing after the other; those that were refused for the right reason."""
    refused = set()
    for what, path, edit, source, why in cases:
        full = os.path.join(folder, path)
        with open(full, encoding="utf-8") as f:
            good = f.read()
        with open(full, "w", encoding="utf-8") as f:
            f.write(edit(good))
        ok, message = compiles(compiler, folder, source)
        with open(full, "w", encoding="utf-8") as f:
            f.write(good)
        if ok:
            print(f"{compiler}: accepted: {what}")
        elif not re.search(why, message):
            print(f"{compiler}: refused, but not because of `{why}`: {what}\n{message}")
        else:
            refused.add(what)
    return refused


def main():
    compilers = [c for c in ("gcc", "clang") if shutil.which(c)] or [os.environ.get("CC", "cc")]
    with tempfile.TemporaryDirectory() as folder:
        for part in ("include", "ir", "passes", "runtime"):
            shutil.copytree(os.path.join(ROOT, part), os.path.join(folder, part))
        os.mkdir(os.path.join(folder, "tests"))
        for name in ("gen.c", "gen.h"):
            shutil.copy(os.path.join(ROOT, "tests", name), os.path.join(folder, "tests", name))
        refused = {"ops.def": set(w[0] for w in OPS), "attrs.def": set(w[0] for w in ATTRS)}
        for compiler in compilers:
            for source in sorted({case[3] for case in OPS + ATTRS}):
                ok, message = compiles(compiler, folder, source)
                if not ok:
                    sys.exit(f"{compiler}: {source} does not compile as it is\n{message}")
            for name, cases in (("ops.def", OPS), ("attrs.def", ATTRS)):
                refused[name] &= check(compiler, folder, cases)
    good = True
    line = []
    for name, cases in (("ops.def", OPS), ("attrs.def", ATTRS)):
        good &= len(refused[name]) == len(cases)
        line.append(f"{name}: {len(refused[name])} of {len(cases)} rejected")
    print("; ".join(line) + " (by " + " and ".join(compilers) + ")")
    return 0 if good else 1


sys.exit(main())
