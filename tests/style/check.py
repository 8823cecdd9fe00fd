#!/usr/bin/env python3
"""check.py BUILD - the laws of the house that a machine can check.

Layers (who may include whom), headers alone, public headers as C++, sizes, words that must not appear in the
library, what the shared libraries need, and the laws of the op table.  Prints one line a violation and a count.
"""
import concurrent.futures
import filecmp
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.chdir(ROOT)
BUILD = sys.argv[1] if len(sys.argv) > 1 else "build"

# folder -> prefixes it may include (its own folder is always allowed); the longest matching folder counts.
PUBLIC = ["ingot/"]
LAW = {
    "runtime/base": PUBLIC,
    "runtime": PUBLIC + ["runtime/"],
    "ir": PUBLIC + ["ir/", "runtime/base/", "runtime/dtype.h"],
    "passes": PUBLIC + ["passes/", "ir/", "runtime/base/", "runtime/dtype.h"],
    "codegen": PUBLIC + ["codegen/", "passes/pass.h", "ir/", "runtime/image.h", "runtime/kernel_abi.h",
                         "runtime/cache.h",
                         "runtime/base/", "runtime/dtype.h"],
    "frontend": PUBLIC + ["frontend/", "codegen/", "passes/", "ir/", "runtime/"],
    "include": PUBLIC,
    "examples": PUBLIC + ["digits.h", "step.h"],  # which `ingot build` writes
    "bench": PUBLIC + ["bench/"],
}
LLVM_ONLY = "codegen/llvm"
LINES = {".c": 100, ".h": 100, ".cc": 100, ".def": 120}
FILE_LINES, FUNCTION_LINES = 1000, 100
# Longer than the limit, with the reason.
LONG_FILES = {}
LONG_FUNCTIONS = {}
WIDE_FILES = {"ir/ir.h": "one-line inline accessors and the op builders, read as a table",
              "ir/ops.def": "the op table: one row an op, columns aligned"}
# The library never prints, exits or aborts: the exceptions are what the user asked for by an environment word.
SILENT = re.compile(r"\b(printf|puts|putchar|perror|fprintf|abort|exit|_exit|longjmp|assert)\s*\(")
SPEAKERS = {"runtime/base/log.c": "IG_LOG", "runtime/base/status.c": "ig_assert in debug builds",
            "frontend/print.c": "ig_print", "runtime/custom.c": "ig_debug_print", "frontend/nn/progress.c": "the progress line",
            "codegen/eager/generate.c": "the program that writes the eager kernels when the project is built"}
LIBRARY = ("runtime", "ir", "passes", "codegen", "frontend")
LOOSE_ENDS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")

problems = []


def complain(where, what):
    problems.append(f"{where}: {what}")


def tracked():
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True).stdout
    return [f for f in out.split("\n") if os.path.splitext(f)[1] in LINES and os.path.exists(f)]


def folder_of(path):
    best = ""
    for f in LAW:
        if path.startswith(f + "/") and len(f) > len(best):
            best = f
    return best


def check_layers(path, lines):
    folder = folder_of(path)
    for n, line in enumerate(lines, 1):
        m = re.match(r'\s*#\s*include\s+([<"])([^">]+)[>"]', line)
        if not m:
            continue
        name = m.group(2)
        if "llvm-c/" in name and not path.startswith(LLVM_ONLY + "/"):
            complain(f"{path}:{n}", "llvm-c is included outside codegen/llvm")
        if "ffi.h" in name and path != "frontend/custom.c":
            complain(f"{path}:{n}", "libffi is included outside frontend/custom.c")
        if m.group(1) == "<" or not folder:
            continue
        if "/" not in name and os.path.exists(os.path.join(os.path.dirname(path), name)):
            name = os.path.join(os.path.dirname(path), name)
        allowed = LAW[folder] + ([folder + "/"] if folder != "runtime/base" else ["runtime/base/"])
        if not any(name.startswith(p) for p in allowed) and not os.path.exists(
                os.path.join(os.path.dirname(path), name)):
            complain(f"{path}:{n}", f"{folder} may not include {name}")


def check_sizes(path, lines):
    limit = LINES[os.path.splitext(path)[1]]
    for n, line in enumerate(lines, 1):
        if len(line) > limit and path not in WIDE_FILES:
            complain(f"{path}:{n}", f"{len(line)} columns (limit {limit})")
        if LOOSE_ENDS.search(line) and path != "tests/style/check.py":
            complain(f"{path}:{n}", "a loose end")
        if line != line.rstrip() or "\t" in line:
            complain(f"{path}:{n}", "trailing space or tab")
    if len(lines) > FILE_LINES and path not in LONG_FILES:
        complain(path, f"{len(lines)} lines (limit {FILE_LINES}): split by subject")
    if path.endswith(".c"):
        start = None
        for n, line in enumerate(lines, 1):
            if start is None and re.match(r"[A-Za-z_].*[\)\w]\s*\{\s*$", line) and "(" in line or (
                    start is None and re.match(r"\s+.*\)\s*\{\s*$", line) and n > 1
                    and re.match(r"[A-Za-z_][^;={]*\([^;{]*$", lines[n - 2])):
                start = n
            elif line.startswith("}") and start:
                name = re.search(r"(\w+)\s*\(", lines[start - 1] if "(" in lines[start - 1] else lines[start - 2])
                name = name.group(1) if name else "?"
                if n - start > FUNCTION_LINES and f"{path}:{name}" not in LONG_FUNCTIONS:
                    complain(f"{path}:{start}", f"{name} has {n - start} lines (limit {FUNCTION_LINES})")
                start = None


def check_silence(path, lines):
    if not path.startswith(LIBRARY) or path in SPEAKERS or path.startswith("frontend/cli/") or not path.endswith(".c"):
        return
    for n, line in enumerate(lines, 1):
        code = re.sub(r'"(\\.|[^"\\])*"|/\*.*?\*/|//.*', "", line)
        if SILENT.search(code):
            if "longjmp" in code and path.startswith(LLVM_ONLY):
                continue  # leaving LLVM's fatal error handler
            complain(f"{path}:{n}", "the library prints, exits or aborts: " + line.strip())


def compile_ok(command, what):
    p = subprocess.run(command, capture_output=True, text=True)
    if p.returncode:
        complain(what, "does not compile alone: " + (p.stderr.strip().split("\n") or [""])[0])


def check_headers(files):
    headers = [f for f in files if f.endswith(".h") and folder_of(f) not in ("examples",)]
    llvm = subprocess.run(["sh", "-c", "llvm-config-19 --includedir || true"], capture_output=True, text=True)
    for h in headers:
        if h.startswith(LLVM_ONLY) and not llvm.stdout.strip():
            continue
        compile_ok(["cc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-I.", "-Iinclude",
                    "-isystem", llvm.stdout.strip() or ".", "-fsyntax-only", "-x", "c", h], h)
    cxx = subprocess.run(["sh", "-c", "command -v c++ || command -v clang++"], capture_output=True, text=True).stdout.strip()
    for h in headers:
        if h.startswith("include/"):
            text = open(h).read()
            for inc in re.findall(r"#\s*include\s+\"([^\"]+)\"", text):
                if not os.path.exists(os.path.join(os.path.dirname(h), inc)) and not os.path.exists("include/" + inc):
                    complain(h, f"a public header includes {inc}, which is not public")
            if cxx:
                compile_ok([cxx, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-Iinclude", "-fsyntax-only", "-x", "c++", h], h)
    return bool(cxx)


def check_libraries():
    def needed(lib):
        p = subprocess.run(["readelf", "-d", lib], capture_output=True, text=True)
        return re.findall(r"NEEDED.*\[(.*?)\]", p.stdout)
    for lib in ("libingot-rt.so", "libingot.so"):
        path = os.path.join(BUILD, lib)
        if not os.path.exists(path):
            complain(path, "is not built")
            continue
        for n in needed(path):
            if not re.match(r"lib(c|m|dl|pthread|ingot-rt|asan|ubsan)\b", n) and "ld-linux" not in n:
                complain(lib, f"needs {n}")
    with tempfile.TemporaryDirectory() as d:  # the runtime alone is enough to link against
        src = os.path.join(d, "a.c")
        open(src, "w").write('#include "ingot/base.h"\nint main(void) { return ig_status_code(0); }\n')
        p = subprocess.run(["cc", "-Iinclude", src, "-o", d + "/a", "-Wl,--no-undefined", "-L" + BUILD, "-lingot-rt"],
                           capture_output=True, text=True)
        if p.returncode:
            complain("libingot-rt", "does not link alone: " + p.stderr.strip().split("\n")[-1])


def check_eager():
    """The eager kernels are a function of the sources: written again they have the same bytes."""
    folder = os.path.join(BUILD, "codegen", "eager")
    generate = os.path.join(folder, "eager-gen")
    made_here = os.path.exists(generate)  # not where the build took those of another one
    levels = sorted(f[len("eager_"):-2] for f in (os.listdir(folder) if made_here else [])
                    if f.startswith("eager_") and f.endswith(".o"))
    env = dict(os.environ, IG_LLVM_PLUGIN=os.path.abspath(os.path.join(BUILD, "libingot-llvm.so")))
    with tempfile.TemporaryDirectory() as d:
        def write(level):
            out = [os.path.join(d, f"eager_{level}.{end}") for end in ("o", "S")]
            subprocess.run([generate, level] + out, env=env)
            return [o for o in out if not os.path.exists(o) or
                    not filecmp.cmp(o, os.path.join(folder, os.path.basename(o)), shallow=False)]
        with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
            for different in pool.map(write, levels):
                for o in different:
                    complain(os.path.basename(o), "written again it has other bytes")
    print(f"eager kernels: {len(levels)} levels written again" if levels else "eager kernels: none, 1 skipped")


def check_table():
    script = "tests/style/table_laws.py"
    if not os.path.exists(script):
        script = "tests/style/table_laws.sh"
    p = subprocess.run([sys.executable if script.endswith("py") else "bash", script], capture_output=True, text=True)
    print((p.stdout.strip().split("\n") or [""])[-1])
    if p.returncode:
        complain("table laws", (p.stdout + p.stderr).strip().split("\n")[-1])


def main():
    files = tracked()
    for path in files:
        lines = open(path, encoding="utf-8").read().split("\n")
        if lines and lines[-1] == "":
            lines.pop()
        check_layers(path, lines)
        check_sizes(path, lines)
        check_silence(path, lines)
    has_cxx = check_headers(files)
    check_libraries()
    check_eager()
    check_table()
    for p in problems:
        print(p)
    print(f"check: {len(files)} files, {len(problems)} problems" + ("" if has_cxx else " (no C++ compiler: C++ headers skipped)"))
    return 1 if problems else 0


sys.exit(main())
