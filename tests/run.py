#!/usr/bin/env python3
"""run.py BUILD ASAN_BUILD [--only NAME] - run every test and add the counts up.

Tests are programs: Check suites (tests/test_*), counting programs (a last line "N passed, N failed, N skipped"), and
scripts that exit 0.  What could not run is counted as skipped, never as passed.
"""
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

args = [a for a in sys.argv[1:] if not a.startswith("--")]
only = sys.argv[sys.argv.index("--only") + 1] if "--only" in sys.argv else None
if only in args:
    args.remove(only)
BUILD, ASAN = args[0], args[1]
LIMIT = 1800  # seconds for one program; a hang is a failure

totals = {"passed": 0, "failed": 0, "skipped": 0}
failures = []
times = []
jobs = []
lock = threading.Lock()


def counts(text, code):
    """(passed, failed, skipped) as the program reports them."""
    m = re.findall(r"Checks: (\d+), Failures: (\d+), Errors: (\d+)", text)
    skipped = sum(int(x) for x in re.findall(r"(\d+) skipped", text))
    if m:
        passed = failed = 0
        for checks, f, e in m:
            failed += int(f) + int(e)
            passed += int(checks) - int(f) - int(e)
        return passed, failed, skipped
    m = re.findall(r"(\d+) passed, (\d+) failed(?:, (\d+) skipped)?", text)
    if m:
        p, f, s = m[-1]
        return int(p), int(f), int(s or 0)
    return (1, 0, skipped) if code == 0 else (0, 1, skipped)


def run(name, command, env=None):
    """Queue a program."""
    if not only or only in name:
        jobs.append((name, command, env))


def run_now(name, command, env):
    start = time.time()
    plugin = os.path.abspath(os.path.join(ASAN if "(asan" in name else BUILD, "libingot-llvm.so"))
    # No image comes from a cache, and the user's own is not touched; test_cache has folders of its own.
    full = dict(os.environ, CK_DEFAULT_TIMEOUT="300", IG_LLVM_PLUGIN=plugin, IG_CACHE="0", **(env or {}))
    try:
        p = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=LIMIT, env=full,
                           stdin=subprocess.DEVNULL)
        text, code = p.stdout + p.stderr, p.returncode
    except subprocess.TimeoutExpired as e:
        text, code = (e.stdout or b"").decode(errors="replace") + f"\nno end after {LIMIT} s", 124
    passed, failed, skipped = counts(text, code)
    if code and not failed:
        failed = 1
    with lock:
        times.append((time.time() - start, name))
        totals["passed"] += passed
        totals["failed"] += failed
        totals["skipped"] += skipped
        note = f", {skipped} skipped" if skipped else ""
        print(f"{'ok  ' if not failed else 'FAIL'} {name}: {passed} passed, {failed} failed{note}"
              f"  ({time.time() - start:.1f} s)", flush=True)
        if failed:
            failures.append(name)
            print("\n".join("    " + l for l in text.strip().split("\n")[-40:]), flush=True)


def programs(build):
    folder = os.path.join(build, "tests")
    if not os.path.isdir(folder):
        return []
    return sorted(f for f in os.listdir(folder) if f.startswith("test_") and os.access(os.path.join(folder, f), os.X_OK)
                  and os.path.isfile(os.path.join(folder, f)))


def main():
    found = programs(BUILD)
    if not found:
        print("no test program was built (is `check` installed?)")
        return 1
    # The longest first: two jobs run at a time.
    run("fuzz", [os.path.join(BUILD, "tests", "fuzz"), "--standard"])
    run("fuzz: planted miscompiles", [os.path.join(BUILD, "tests", "fuzz_plants"), "--plants"])
    for t in found:
        run(t, [os.path.join(BUILD, "tests", t)])
    # Leaks are judged where nothing foreign leaks: LLVM keeps its tables until exit.
    asan = {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0", "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
            "LSAN_OPTIONS": "suppressions=tests/lsan.supp:print_suppressions=0:use_tls=0", "IG_TEST_QUICK": "1"}
    for t in programs(ASAN):
        run(t + " (asan, ubsan)", [os.path.join(ASAN, "tests", t)], asan)
    for script in sorted(os.listdir("tests/scripts")):
        interpreter = {"sh": "bash", "py": sys.executable}.get(script.rsplit(".", 1)[-1])
        if interpreter:
            run(script, [interpreter, os.path.join("tests/scripts", script), BUILD])
    run("fuzz (asan, ubsan)", [os.path.join(ASAN, "tests", "fuzz"), "--programs", "200"], asan)
    run("check", [sys.executable, "tests/style/check.py", BUILD])
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(lambda job: run_now(*job), jobs))
    slowest = sorted(times, reverse=True)[:10]
    print("slowest: " + ", ".join(f"{name} {seconds:.0f} s" for seconds, name in slowest))
    if failures:
        print("failed: " + ", ".join(failures))
    print(f"{totals['passed']} passed, {totals['failed']} failed, {totals['skipped']} skipped")
    return 1 if totals["failed"] else 0


sys.exit(main())
