#!/usr/bin/env python3
"""run.py BUILD [--rounds N] [--only TEXT] [--out FOLDER] [--quick] [--cpu] [--without NAMES] - every row of the benchmarks, ours beside the peers.

Each contender runs alone in its own process, its thread variables set before it starts; contenders take turns, round by
round; a cell is the median over the rounds.  A peer that is not installed, or does not do a row, is an empty cell.
Writes FOLDER/report.md, ratios.svg and rounds.csv.  See bench/README.md.
"""
import csv
import os
import platform
import re
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
PARITY = 0.05  # a ratio within this of 1 is parity: noise of a shared machine
SKIP = 77
LIMIT_S = 300  # for one process

# What a C peer needs to build: include folders are the compiler's own.
C_PEERS = {"openblas": ["-lopenblas"], "onednn": ["-ldnnl"], "libxsmm": ["-lxsmm", "-lopenblas", "-lm"]}
PY_PEERS = ["numpy", "torch", "torch.compile", "jax", "onnxruntime"]
VECTOR_PEERS = ["sleef", "libmvec"]

GEMM = [f"gemm:{n}x{n}x{n}" for n in (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)]
GEMM += [f"gemm:{m}x{n}x{k}" for n, k in ((768, 768), (3072, 768)) for m in (1, 2, 4, 8, 16, 32)]
GEMM += ["gemm:64x768x768", "gemm:128x768x768", "gemm:128x3072x768", "gemm:128x768x3072", "gemm:512x3072x768"]
GEMM += ["gemm:256x256x256:tb", "gemm:256x256x256:ta", "gemm:128x768x768:tb", "gemm:37x53x71", "gemm:100x100x100"]
GEMM += ["gemm:64x64x64:b16", "gemm:128x64x128:b12", "gemm:128x128x64:tb:b12"]
FLAT = [r for r in GEMM if ":b" not in r]
LATE = [f"gemm:{m}x768x768{w}:d" for w in ("", ":w") for m in (1, 8, 64, 512)]
EAGER = [f"gemm:{n}x{n}x{n}:e" for n in (64, 128, 512, 1024)] + [f"gemm:{m}x768x768:e" for m in (1, 8, 64, 512)]
GEMV = [f"gemv:{n}{w}" for w in ("", ":w") for n in ("768x768", "3072x768", "4096x4096")]
DENSE = ["128x768x768", "128x3072x768", "128x768x3072", "512x3072x768"]
LONG = ["sum:16777216", "argmax:16777216", "sum:262144"]
NORMS = ["chain:1048576", "softmax:16384x1024", "layernorm:16384x1024", "rmsnorm:16384x1024", "softmax:64x1024"]
DERIVED = ["hvp:64x512", "lstm:128x32x128", "lstm_grad:128x32x128", "lstm_hvp:128x32x128", "solver:8x256",
           "solver_jvp:8x256", "solver_grad:8x256", "ssm:10000x256x16"]
ATTENTION = [f"attention{w}:{n}" for n in ("1x4096x64", "12x512x64") for w in ("", "_causal", "_grad")]
MODELS = {r.split(":")[0] for r in DERIVED + ATTENTION}
GROUPS = [  # title, threads, rows
    ("GEMM f32, 1 thread", 1, GEMM),
    ("GEMM f32, constant weights, 1 thread", 1, [r + ":w" for r in FLAT]),
    ("GEMM f32, 2 threads", 2, FLAT),
    ("GEMM f32, constant weights, 2 threads", 2, [r + ":w" for r in FLAT]),
    ("GEMM f32, rows known when it runs, 1 thread", 1, LATE),
    ("GEMM f32, eager, 1 thread", 1, EAGER),
    ("Matrix times vector f32, 1 thread", 1, GEMV),
    ("Matrix times vector f32, 2 threads", 2, GEMV),
    ("gelu(x w + b) + residual f32, constant weights, 1 thread", 1, ["dense:" + d for d in DENSE]),
    ("Deep dot products f32, 1 thread", 1, ["gemm:1x1x8192", "gemm:1x1x65536"]),
    ("Fused chains and norms f32, 1 thread", 1, NORMS),
    ("Fused chains and norms f32, 2 threads", 2, NORMS),
    ("Long reductions f32, 1 thread", 1, LONG),
    ("Long reductions f32, 2 threads", 2, LONG),
    ("Functions f32 in L1, 1 thread", 1,
     [f"{f}:4096" for f in ("exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "erf", "pow", "atan2", "sigmoid", "gelu")]),
    ("Calls, 1 thread", 1, ["add:8", "digits:1"]),
    ("Training step of 784-512-512-10 with Adam f32, 1 thread", 1, ["train:64", "train:8", "train_eager:64", "train_eager:8"]),
    ("Training step of 784-512-512-10 with Adam f32, 2 threads", 2, ["train:64", "train:8"]),
    ("Loops and second derivatives f32, 1 thread", 1, DERIVED),
    ("Attention f32, 1 thread", 1, ATTENTION),
    ("Attention f32, 2 threads", 2, ATTENTION),
]
FUNCTIONS = {r for t, _, rows in GROUPS if t.startswith("Functions") for r in rows}
QUICK = ["gemm:64x64x64", "gemm:512x512x512", "gemm:8x768x768", "gemm:128x768x768", "gemv:768x768", "chain:1048576",
         "gemm:128x768x768:w", "dense:128x768x768", "softmax:64x1024", "exp:4096", "add:8", "digits:1"]


def options():
    o = {"rounds": 5, "only": "", "without": "", "out": os.path.join(ROOT, "build-bench", "report"), "quick": False, "cpu": False}
    args, build = sys.argv[1:], None
    while args:
        a = args.pop(0)
        if a in ("--quick", "--cpu"):
            o[a[2:]] = True
        elif a.startswith("--") and a[2:] in o and args:
            o[a[2:]] = type(o[a[2:]])(args.pop(0))
        elif not a.startswith("-") and build is None:
            build = a
        else:
            sys.exit(__doc__)
    o["build"] = os.path.abspath(build or "build")
    return o


def environment(threads):
    """Every known thread variable, before the process starts: libraries read them when they are loaded."""
    env = dict(os.environ, BENCH_THREADS=str(threads), IG_THREADS=str(threads))
    for v in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        env[v] = str(threads)
    env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=" + ("true" if threads > 1 else "false")
    env["JAX_PLATFORMS"] = "cpu"
    env.pop("OPENBLAS_CORETYPE", None)
    env.pop("OPENBLAS_L2_SIZE", None)
    return env


def variables_of(name):
    """A distribution's OpenBLAS may not know a new CPU and fall back to a narrower ISA: never quote that as a win."""
    return {"OPENBLAS_CORETYPE": "SkylakeX"} if name in ("openblas", "libxsmm") and "avx512f" in cpu_flags() else {}


def pin(threads):
    """For a process before it starts: as many CPUs as it may use threads, whatever its library thinks."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cpus = sorted(os.sched_getaffinity(0))[-threads:]
    return lambda: os.sched_setaffinity(0, cpus)


def cpu_flags():
    try:
        return re.search(r"^flags\s*: (.*)$", open("/proc/cpuinfo").read(), re.M)[1].split()
    except (OSError, TypeError):
        return []


def build_peers(build):
    """Compile bench/peers/*.c for the libraries that are installed; returns contenders by name."""
    found = {}
    folder = os.path.join(build, "bench-peers")
    os.makedirs(folder, exist_ok=True)
    for name, libs in C_PEERS.items():
        exe = os.path.join(folder, name)
        p = subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-I", ROOT, os.path.join(HERE, "peers", name + ".c"),
                            "-o", exe, *libs], capture_output=True, text=True)
        if p.returncode == 0:
            found[name] = [exe]
    python = os.environ.get("IG_BENCH_PYTHON")
    venv = os.path.join(ROOT, "build-bench", "venv", "bin", "python")
    python = python or (venv if os.path.exists(venv) else sys.executable)
    for name in PY_PEERS:
        if subprocess.run([python, "-c", "import " + name.split(".")[0]], capture_output=True).returncode == 0:
            found[name] = [python, os.path.join(HERE, "peers", "python.py"), name]
    return found


def command(name, row, build, peers):
    """How a contender runs a row; None when it has no program for it."""
    math = os.path.join(build, "bench", "bench_math")
    if row in FUNCTIONS:
        f = row.split(":")[0]
        peer = os.path.join(build, "bench", "peer_math")
        return {"ours": [math, f], **{v: [peer, v, f] for v in VECTOR_PEERS if os.path.exists(peer)}}.get(name)
    if row.split(":")[0] in MODELS:
        if name == "ours":
            return [os.path.join(build, "bench", "models"), row]
        peer = peers.get(name, [])
        return [peer[0], os.path.join(HERE, "peers", "models.py"), name, row] if name in PY_PEERS and peer else None
    if name == "ours" and row.startswith("train"):
        return [os.path.join(build, "bench", "train"), row]
    if name == "ours":
        return [os.path.join(build, "bench", "ours"), row]
    if name == "limit":
        return [os.path.join(build, "bench", "limit"), row]
    return peers[name] + [row] if name in peers else None


def run_once(cmd, env, threads):
    """(seconds or None, info, why)"""
    try:
        p = subprocess.run(cmd, capture_output=True, text=True, env=env, timeout=LIMIT_S, cwd=ROOT,
                           preexec_fn=pin(threads))
    except subprocess.TimeoutExpired:
        return None, {}, f"no end after {LIMIT_S} s"
    if p.returncode:
        return None, {}, "" if p.returncode == SKIP else (p.stderr.strip().split("\n") or ["?"])[-1]
    info = dict(re.findall(r"^info (\S+) (.*)$", p.stdout, re.M))
    m = re.search(r"^(?:seconds )?([0-9.]+(?:e[-+]?\d+)?)\s*$", p.stdout, re.M)
    return (float(m[1]) if m else None), info, "" if m else "printed no time"


def measure(rows, threads, o, peers, raw, infos, notes):
    """{row: {contender: median seconds}}, in alternated rounds; raw rounds are appended to raw."""
    env = environment(threads)
    out = {}
    for row in rows:
        left_out = o["without"].split(",")
        names = [n for n in ("ours", "limit", *C_PEERS, *PY_PEERS, *VECTOR_PEERS) if n not in left_out]
        times = {}
        gone = set()
        for r in range(o["rounds"]):
            for name in names:
                cmd = None if name in gone else command(name, row, o["build"], peers)
                if not cmd:
                    continue
                seconds, info, why = run_once(cmd, env | variables_of(name), threads)
                if seconds is None:
                    gone.add(name)
                    if why:
                        notes.append(f"{row}, {threads} threads, {name}: {why}")
                    continue
                times.setdefault(name, []).append(seconds)
                infos.setdefault(name, {}).update(info)
                raw.append([row, threads, name, r, f"{seconds:.9g}"])
        out[row] = {n: statistics.median(t) for n, t in times.items()}
        print(f"{row:28s} " + "  ".join(f"{n} {s * 1e6:.4g}us" for n, s in out[row].items()), flush=True)
    return out


def unit(row, seconds):
    """The customary figure of a row: GFLOP/s, ns an element, or microseconds."""
    m = re.match(r"(\w+):(\d+)(?:x(\d+))?(?:x(\d+))?", row)
    batch = re.search(r":b(\d+)", row)
    if m[1] in ("gemm", "dense"):
        return f"{2 * int(m[2]) * int(m[3]) * int(m[4]) * int(batch[1] if batch else 1) / seconds * 1e-9:.1f} GF"
    if row in FUNCTIONS:
        return f"{seconds * 1e9:.3f} ns"
    return f"{seconds * 1e6:.2f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def best_peer(cells):
    peers = {n: s for n, s in cells.items() if n not in ("ours", "limit")}
    return min(peers.items(), key=lambda x: x[1]) if peers else (None, None)


def ratio_text(ratio):
    return f"**{ratio:.2f}**" if ratio < 1 - PARITY else f"{ratio:.2f}" + ("" if ratio > 1 + PARITY else " =")


def table(rows, cells):
    names = [n for n in [*C_PEERS, *PY_PEERS, *VECTOR_PEERS] if any(n in cells[r] for r in rows)]
    lines = ["| row | ours | of the limit | " + "".join(n + " | " for n in names) + "best peer / ours |",
             "|---|---|---|" + "---|" * len(names) + "---|"]
    for r in rows:
        c = cells[r]
        if "ours" not in c:
            lines.append(f"| {r} | | | " + "".join((unit(r, c[n]) if n in c else "") + " | " for n in names) + " |")
            continue
        share = f"{100 * c['limit'] / c['ours']:.0f} %" if "limit" in c else ""
        name, s = best_peer(c)
        lines.append(f"| {r} | {unit(r, c['ours'])} | {share} | " +
                     "".join((unit(r, c[n]) if n in c else "") + " | " for n in names) +
                     (f"{ratio_text(s / c['ours'])} ({name}) |" if name else " |"))
    return lines


def summary(rows, cells):
    """Geometric mean and worst of the ratios to the best peer."""
    ratios = {r: best_peer(cells[r])[1] / cells[r]["ours"] for r in rows if "ours" in cells[r] and best_peer(cells[r])[1]}
    if not ratios:
        return []
    worst = min(ratios, key=ratios.get)
    return ["", f"Best peer / ours: geometric mean {statistics.geometric_mean(ratios.values()):.2f}, worst "
            f"{ratios[worst]:.2f} ({worst}), {sum(x < 1 - PARITY for x in ratios.values())} of {len(ratios)} rows lost."]


def epilogues(results):
    """What bias, gelu and residual add to the product with the same weights."""
    times = {r: c["ours"] for title, rows, cells in results if ", 1 thread" in title
             for r, c in cells.items() if "ours" in c}
    pairs = [(r, r.replace("dense:", "gemm:") + ":w") for r in times if r.startswith("dense:")]
    lines = [f"| {r} | {unit(r, times[r])} | {unit(plain, times[plain])} | {times[r] / times[plain]:.2f} |"
             for r, plain in pairs if plain in times]
    return ["## Epilogues", "", "| row | with bias, gelu, residual | plain product | time / plain |", "|---|---|---|---|",
            *lines, ""] if lines else []


def compile_table(o):
    """bench/compile's own table, as it prints it."""
    p = subprocess.run([os.path.join(o["build"], "bench", "compile"), str(max(o["rounds"], 5))], capture_output=True,
                       text=True, cwd=ROOT)
    return ["## Compile time", "", p.stdout.strip() if p.returncode == 0 else "failed: " + p.stderr.strip(), ""]


def svg(results):
    """Ratios to the best peer as bars on a logarithmic axis."""
    import math
    bars = []
    for title, rows, cells in results:
        for r in rows:
            name, s = best_peer(cells[r])
            if name and "ours" in cells[r]:
                bars.append((f"{r} {'2T' if ', 2 threads' in title else ''}", s / cells[r]["ours"]))
    h, left, mid, scale = 16, 210, 480, 90  # 90 pixels a doubling
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="800" height="{h * len(bars) + 40}" font-family="sans-serif" font-size="11">',
           '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="{mid}" y="14" text-anchor="middle">time of the best peer / ours (right of the line: ours faster)</text>']
    for k in range(-3, 4):
        x = mid + k * scale
        out.append(f'<line x1="{x}" y1="22" x2="{x}" y2="{h * len(bars) + 26}" stroke="{"#444" if k == 0 else "#ddd"}"/>')
        out.append(f'<text x="{x}" y="{h * len(bars) + 38}" text-anchor="middle">{2.0 ** k:g}</text>')
    for i, (label, ratio) in enumerate(bars):
        w = max(-3.0, min(3.0, math.log2(ratio))) * scale
        colour = "#888" if abs(ratio - 1) <= PARITY else "#2a7" if ratio > 1 else "#c43"
        y = 24 + i * h
        out.append(f'<text x="{left}" y="{y + 12}" text-anchor="end">{label}</text>')
        out.append(f'<rect x="{min(mid, mid + w):.1f}" y="{y + 2}" width="{max(abs(w), 1):.1f}" height="{h - 4}" fill="{colour}"/>')
    return "\n".join(out + ["</svg>", ""])


def cpu_name():
    try:
        return re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())[1]
    except (OSError, TypeError):
        return platform.machine()


def report(o, results, infos, notes, started):
    lines = ["# Benchmark report", "",
             f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime(started))} UTC, {cpu_name()}, {os.cpu_count()} CPUs, "
             f"{o['rounds']} alternated rounds, medians{' of CPU time' if o['cpu'] else ''}. Load at the end: {os.getloadavg()[0]:.1f}.", "",
             "A ratio above 1 means that ours is faster; `=` is parity (within 5 %), bold is a loss. An empty cell: the peer is",
             "not installed or does not do the row. \"Of the limit\": the measured FMA peak (GEMM) or a copy of the same bytes.", ""]
    for title, rows, cells in results:
        lines += [f"## {title}", "", *table(rows, cells), *summary(rows, cells), ""]
    lines += epilogues(results) + (compile_table(o) if "compile".startswith(o["only"]) else [])
    lines += ["![ratios](ratios.svg)", "", "## Contenders", "", "| contender | version | ISA it ran |", "|---|---|---|"]
    lines += [f"| {n} | {i.get('version', '')} | {i.get('isa', '')} |" for n, i in sorted(infos.items())]
    names = ["BENCH_THREADS", "IG_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "XLA_FLAGS"]
    lines += ["", "## Thread variables", ""]
    for threads in sorted({t for _, t, _ in GROUPS}):
        env = environment(threads)
        lines.append(f"- {threads} thread{'s' if threads > 1 else ''}: " + ", ".join(f"`{n}={env[n]}`" for n in names if n in env))
    lines += [f"- {n}: " + ", ".join(f"`{k}={v}`" for k, v in variables_of(n).items()) for n in sorted(infos) if variables_of(n)]
    if notes:
        lines += ["", "## What went wrong", ""] + ["- " + n for n in notes]
    open(os.path.join(o["out"], "report.md"), "w").write("\n".join(lines) + "\n")
    open(os.path.join(o["out"], "ratios.svg"), "w").write(svg(results))


def main():
    o = options()
    os.makedirs(o["out"], exist_ok=True)
    if o["cpu"]:
        os.environ["BENCH_CLOCK"] = "cpu"
    os.environ.setdefault("IG_LLVM_PLUGIN", os.path.join(o["build"], "libingot-llvm.so"))
    peers, raw, infos, notes, results, started = build_peers(o["build"]), [], {}, [], [], time.time()
    print("peers: " + ", ".join(sorted(peers)), flush=True)
    for title, threads, rows in GROUPS:
        rows = [r for r in rows if o["only"] in r and (threads == 1 or not o["cpu"]) and (not o["quick"] or r in QUICK)]
        if rows:
            print(f"-- {title}", flush=True)
            results.append((title, rows, measure(rows, threads, o, peers, raw, infos, notes)))
    with open(os.path.join(o["out"], "rounds.csv"), "w", newline="") as f:
        csv.writer(f).writerows([["row", "threads", "contender", "round", "seconds"], *raw])
    report(o, results, infos, notes, started)
    print(f"report: {os.path.join(o['out'], 'report.md')}")
    return 0 if results else 1


sys.exit(main())
