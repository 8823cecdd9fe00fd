#!/usr/bin/env python3
"""blocking.py [BUILD] [--only TEXT] [--rounds N] - the tiles that the model of contractions chooses against a search.

For each shape: the product with the tile that codegen/gemm_plan.c chooses, and with every other one of a list that
IG_TILE asks for, each compiled anew (no cache), on one thread.  The three fastest take turns with the model's for N
rounds more.  Prints microseconds and the model's time over the best one found; the goal is 1.05."""
import os
import statistics
import subprocess
import sys

SHAPES = ["32x32x32", "64x64x64", "100x100x100", "128x128x128", "256x256x256", "512x512x512", "1x3072x768", "8x768x768",
          "32x768x768", "128x768x768", "37x53x71", "128x768x768:tb"]
# Rows x vectors: all shapes of tiles, from one row of many vectors to many rows of one.
TILES = ["1x4", "1x8", "2x4", "2x8", "4x2", "4x3", "4x4", "4x6", "6x2", "6x4", "8x1", "8x2", "8x3", "10x2", "12x1",
         "12x2", "13x2", "14x2", "16x1", "5x5"]


def options():
    o, args = {"build": "build", "only": "", "rounds": 5}, sys.argv[1:]
    while args:
        a = args.pop(0)
        if a in ("--only", "--rounds") and args:
            o[a[2:]] = type(o[a[2:]])(args.pop(0))
        elif not a.startswith("-"):
            o["build"] = a
        else:
            sys.exit(__doc__)
    return o


def measure(build, shape, tile):
    """Microseconds of a run; tile None: the model's."""
    env = dict(os.environ, IG_CACHE="0", IG_THREADS="1", BENCH_THREADS="1")
    env.pop("IG_TILE", None)
    if tile:
        env["IG_TILE"] = tile
    out = subprocess.run([os.path.join(build, "bench", "ours"), "gemm:" + shape], env=env, check=True,
                         capture_output=True, text=True).stdout
    return 1e6 * float(out.split("seconds ")[1])


def compare(o, shape):
    first = {t: measure(o["build"], shape, t) for t in TILES}
    few = sorted(first, key=first.get)[:3]
    rounds = {t: [] for t in [None] + few}
    for _ in range(o["rounds"]):
        for t in rounds:
            rounds[t].append(measure(o["build"], shape, t))
    time = {t: statistics.median(r) for t, r in rounds.items()}
    best = min(few, key=time.get)
    return time[None], best, time[best]


def main():
    o = options()
    print(f"{'shape':16}{'model us':>10}{'best us':>10}  tile   ratio")
    for shape in SHAPES:
        if o["only"] not in shape:
            continue
        model, tile, best = compare(o, shape)
        print(f"{shape:16}{model:10.2f}{best:10.2f}  {tile:6}{model / min(model, best):6.3f}", flush=True)


main()
