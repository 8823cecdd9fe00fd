"""index.py - the rows of bench/index.c by numpy and torch: milliseconds, medians of 7."""
import statistics
import time

import numpy as np
import torch

torch.set_num_threads(1)
MANY = 1 << 20
rng = np.random.default_rng(1)
x = rng.standard_normal(MANY, dtype=np.float32)
at = rng.integers(0, MANY, MANY)
few = rng.integers(0, 1000, MANY)
table = rng.standard_normal((50000, 128), dtype=np.float32)
words = rng.integers(0, 50000, 512)
u = rng.standard_normal((512, 128), dtype=np.float32)
lines = rng.standard_normal((1024, 1024), dtype=np.float32)
t = {k: torch.from_numpy(v) for k, v in dict(x=x, at=at, few=few, table=table, words=words, u=u, lines=lines).items()}


def ms(f):
    times = []
    f()
    for _ in range(7):
        start = time.perf_counter()
        f()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def added(a, i, v):
    r = a.copy()
    np.add.at(r, i, v)
    return r


ROWS = [
    ("gather 1M of 1M", lambda: x[at], lambda: t["x"][t["at"]]),
    ("embedding 512 of 50000x128", lambda: table[words], lambda: t["table"][t["words"]]),
    ("scatter add 1M to 1M", lambda: added(x, at, x), lambda: t["x"].index_add(0, t["at"], t["x"])),
    ("scatter add 1M to 1000 of 1M", lambda: added(x, few, x), lambda: t["x"].index_add(0, t["few"], t["x"])),
    ("scatter add 512 to 50000x128", lambda: added(table, words, u),
     lambda: t["table"].index_add(0, t["words"], t["u"])),
    ("sort 1M", lambda: np.sort(x, kind="stable"), lambda: torch.sort(t["x"], stable=True)),
    ("argsort 1M", lambda: np.argsort(x, kind="stable"), lambda: torch.argsort(t["x"], stable=True)),
    ("sort 1024x1024", lambda: np.sort(lines, kind="stable"), lambda: torch.sort(t["lines"], stable=True)),
    ("top 10 of 1M", lambda: np.argpartition(x, -10)[-10:], lambda: torch.topk(t["x"], 10)),
]
print(f"{'ms':32} {'numpy':>9} {'torch':>9}")
for name, a, b in ROWS:
    print(f"{name:32} {ms(a):9.3f} {ms(b):9.3f}")
