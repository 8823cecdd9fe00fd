#!/usr/bin/env python3
"""readme.py BUILD - the README's example compiles and runs as shown; its commands and files exist."""
import os
import re
import subprocess
import sys
import tempfile

build = os.path.abspath(sys.argv[1])
text = open("README.md").read()
failed = passed = 0


def check(what, ok, detail=""):
    global failed, passed
    if ok:
        passed += 1
    else:
        failed += 1
        print("FAILED:", what, detail)


examples = re.findall(r"```c\n(.*?)```", text, re.S)
check("there is a C example", len(examples) >= 1)
with tempfile.TemporaryDirectory() as d:
    for k, code in enumerate(e for e in examples if "int main" in e):
        src = os.path.join(d, f"e{k}.c")
        open(src, "w").write(code)
        p = subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-Iinclude", src, "-o", src[:-2], "-L" + build, "-lingot",
                            "-Wl,-rpath," + build], capture_output=True, text=True)
        check("the example compiles", p.returncode == 0, p.stderr)
        if p.returncode == 0:
            p = subprocess.run([src[:-2]], capture_output=True, text=True, cwd=d,
                               env=dict(os.environ, IG_LLVM_PLUGIN=os.path.join(build, "libingot-llvm.so")))
            check("the example runs", p.returncode == 0, p.stdout + p.stderr)
            check("it prints `same bits`", "same bits" in p.stdout, p.stdout)
for command in re.findall(r"^\s*\./dev (\w+)", text, re.M):
    check(f"./dev {command} exists", f"cmd_{command}()" in open("dev").read())
for path in re.findall(r"\]\(([\w./-]+)\)", text):
    check(f"link {path}", os.path.exists(path))
print(f"{passed} passed, {failed} failed")
sys.exit(failed != 0)
