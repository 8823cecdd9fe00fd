#!/usr/bin/env python3
"""python.py MODULE ROW - numpy, torch, torch.compile, jax or onnxruntime as a contender (protocol: bench/contender.h)."""
import importlib
import os
import re
import sys
import time

SKIP, SAMPLES, SAMPLE_SECONDS = 77, 15, 0.02
now = time.process_time if os.environ.get("BENCH_CLOCK") == "cpu" else time.perf_counter  # contender.h


def measure(fn):
    fn(), fn()
    t = now()
    fn()
    once = max(now() - t, 1e-9)
    times = min(max(int(SAMPLE_SECONDS / once), 1), 1000000)
    samples = []
    for _ in range(3 if once > 0.2 else SAMPLES):
        t = now()
        for _ in range(times):
            fn()
        samples.append((now() - t) / times)
    print("seconds %.9g" % sorted(samples)[len(samples) // 2])


def chain(x, y, maximum):
    t = x
    for _ in range(5):
        t = maximum(t * y + x - y, x)
    return t


def layernorm(x, mean, rsqrt):
    c = x - mean(x)
    return c * rsqrt(mean(c * c) + 1e-5)


def arrays(np, row):
    """What a row computes on: numpy arrays."""
    what, (m, n, k), flags = row
    rng = np.random.default_rng(1)
    make = lambda *s: rng.uniform(-1, 1, s).astype(np.float32)
    if what == "gemm":
        b = [flags["b"]] if flags["b"] > 1 else []
        return make(*b, *((k, m) if flags["ta"] else (m, k))), make(*b, *((n, k) if flags["tb"] else (k, n)))
    if what == "gemv":
        return make(m, n), make(n)
    if what == "dense":
        return make(m, k), make(m, n), make(k, n), make(n)
    if what in ("chain", "add"):
        return make(m), make(m)
    if what in ("sum", "argmax"):
        return (make(m),)
    if what == "digits":
        return make(m, 64), make(64, 64), make(64), make(64, 10), make(10)
    if what in ("softmax", "layernorm", "rmsnorm"):
        return (make(m, n),)
    sys.exit(SKIP)


def expression(what, flags, swap, lib):
    """The row as a function of its arrays; lib: a namespace of functions."""
    def gemm(a, b):
        return (swap(a) if flags["ta"] else a) @ (swap(b) if flags["tb"] else b)
    return {"gemm": gemm, "gemv": lambda a, b: a @ b, "add": lambda a, b: a + b,
            "chain": lambda x, y: chain(x, y, lib["maximum"]), "softmax": lib.get("softmax"),
            "layernorm": lambda x: layernorm(x, lib["mean"], lib["rsqrt"]),
            "dense": lambda x, y, w, b: lib["gelu"](x @ w + b) + y,
            "sum": lambda x: x.sum(), "argmax": lambda x: x.argmax(),
            "rmsnorm": lambda x: x * lib["rsqrt"](lib["mean"](x * x) + 1e-5),
            "digits": lambda x, a, b, c, d: lib["softmax"](lib["relu"](x @ a + b) @ c + d)}[what]


def run_numpy(np, row):
    if row[0] == "dense":
        sys.exit(SKIP)  # no erf
    def softmax(x):
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)
    lib = {"maximum": np.maximum, "softmax": softmax, "mean": lambda x: x.mean(-1, keepdims=True),
           "rsqrt": lambda x: 1 / np.sqrt(x), "relu": lambda x: np.maximum(x, 0)}
    fn, args = expression(row[0], row[2], lambda x: np.swapaxes(x, -1, -2), lib), arrays(np, row)
    measure(lambda: fn(*args))


TORCH_COMPILED = ("chain", "sum", "argmax", "softmax", "layernorm", "rmsnorm", "dense", "digits")


def run_torch(torch, row, compiled=False):
    import numpy as np
    if compiled and row[0] not in TORCH_COMPILED:
        sys.exit(SKIP)
    torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "1")))
    torch.set_grad_enabled(False)
    print("info isa", torch.backends.cpu.get_cpu_capability())
    F = torch.nn.functional
    lib = {"maximum": torch.maximum, "softmax": lambda x: torch.softmax(x, -1), "mean": lambda x: x.mean(-1, keepdim=True),
           "rsqrt": torch.rsqrt, "relu": torch.relu, "gelu": F.gelu}
    fn = expression(row[0], row[2], lambda x: x.transpose(-1, -2), lib)
    if row[0] == "layernorm":
        fn = lambda x: F.layer_norm(x, x.shape[-1:])
    args = [torch.from_numpy(a) for a in arrays(np, row)]
    if row[0] in ("digits", "dense"):
        fn, args = frozen(torch, fn, args, {"digits": 1, "dense": 2}[row[0]])
    if compiled:
        import torch._inductor.config
        torch._inductor.config.freezing = True
        fn = torch.compile(fn)
    elif row[0] == "digits":
        fn = torch.jit.freeze(torch.jit.trace(fn.eval(), args))
    measure(lambda: fn(*args))


def train_arrays(np, batch):
    """Data and weights of the training step."""
    rng = np.random.default_rng(1)
    wide = (784, 512, 512, 10)
    w = [rng.normal(0, (2 / a) ** 0.5, (a, b)).astype(np.float32) for a, b in zip(wide, wide[1:])]
    x = rng.uniform(0, 1, (batch, wide[0])).astype(np.float32)
    return x, rng.integers(0, 10, batch), [p for a in w for p in (a, np.zeros(a.shape[1], np.float32))]


def train_torch(torch, batch, compiled):
    """Loss, backward and fused Adam; compiled: the loss with its backward, and the update."""
    import numpy as np
    torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "1")))
    x, y, params = train_arrays(np, batch)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    params = [torch.nn.Parameter(torch.from_numpy(p)) for p in params]

    def loss(x, y, w1, b1, w2, b2, w3, b3):
        h = torch.relu(torch.addmm(b2, torch.relu(torch.addmm(b1, x, w1)), w2))
        return torch.nn.functional.cross_entropy(torch.addmm(b3, h, w3), y)
    adam = torch.optim.Adam(params, lr=1e-3, fused=not compiled, foreach=compiled or None)
    fn, update = (torch.compile(loss), torch.compile(adam.step)) if compiled else (loss, adam.step)

    def step():
        adam.zero_grad(set_to_none=True)
        fn(x, y, *params).backward()
        update()
    measure(step)


def train_jax(jax, batch):
    import numpy as np
    jnp = jax.numpy
    x, y, params = train_arrays(np, batch)

    def loss(p, x, y):
        h = jax.nn.relu(jax.nn.relu(x @ p[0] + p[1]) @ p[2] + p[3])
        z = jax.nn.log_softmax(h @ p[4] + p[5])
        return -jnp.take_along_axis(z, y[:, None], 1).mean()

    def step(state, x, y):
        p, m, v, t = state
        l, g = jax.value_and_grad(loss)(p, x, y)
        t = t + 1
        m = [0.9 * a + 0.1 * b for a, b in zip(m, g)]
        v = [0.999 * a + 0.001 * b * b for a, b in zip(v, g)]
        c1, c2 = 1 / (1 - 0.9 ** t), 1 / (1 - 0.999 ** t)
        p = [a - 0.001 * (b * c1) / (jnp.sqrt(c * c2) + 1e-8) for a, b, c in zip(p, m, v)]
        return (p, m, v, t), l
    step = jax.jit(step, donate_argnums=0)
    p = [jnp.asarray(a) for a in params]
    zeros = lambda: [jnp.zeros_like(a) for a in p]
    state, x, y = (p, zeros(), zeros(), jnp.float32(0)), jnp.asarray(x), jnp.asarray(y)

    def run():
        nonlocal state
        state, l = step(state, x, y)
        jax.block_until_ready((state, l))
    measure(run)


def frozen(torch, fn, args, n):
    """The row as a module with its weights as parameters, and the n arguments that are none."""
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.ParameterList([torch.nn.Parameter(a, requires_grad=False) for a in args[n:]])

        def forward(self, *x):
            return fn(*x, *self.w)
    return Net().eval(), args[:n]


def run_jax(jax, row):
    import numpy as np
    jnp = jax.numpy
    lib = {"maximum": jnp.maximum, "softmax": lambda x: jax.nn.softmax(x, -1), "mean": lambda x: x.mean(-1, keepdims=True),
           "rsqrt": jax.lax.rsqrt, "relu": lambda x: jnp.maximum(x, 0),
           "gelu": lambda x: jax.nn.gelu(x, approximate=False)}
    fn = expression(row[0], row[2], lambda x: jnp.swapaxes(x, -1, -2), lib)
    if row[0] != "add":
        fn = jax.jit(fn)
    args = [jnp.asarray(a) for a in arrays(np, row)]
    measure(lambda: fn(*args).block_until_ready())


def run_onnxruntime(ort, row):
    """Rows with constant weights: what a deployed model would run."""
    what, (m, n, k), flags = row
    if what not in ("digits", "dense") and not (what == "gemm" and flags["w"] and flags["b"] == 1):
        sys.exit(SKIP)
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    arg = arrays(np, row)
    if what == "gemm" and flags["ta"]:
        sys.exit(SKIP)
    names, nodes = {
        "gemm": (["x", "w"], [helper.make_node("Gemm", ["x", "w"], ["y"], transB=int(flags["tb"]))]),
        "dense": (["x", "r", "w", "b"],
                  [helper.make_node("Gemm", ["x", "w", "b"], ["h"]), helper.make_node("Gelu", ["h"], ["g"]),
                   helper.make_node("Add", ["g", "r"], ["y"])]),
        "digits": (["x", "w1", "b1", "w2", "b2"],
                   [helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]), helper.make_node("Relu", ["h"], ["r"]),
                    helper.make_node("Gemm", ["r", "w2", "b2"], ["s"]), helper.make_node("Softmax", ["s"], ["y"], axis=-1)]),
    }[what]
    inputs = 2 if what == "dense" else 1
    shape = [m, 10 if what == "digits" else n]
    graph = helper.make_graph(nodes, what, [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(a.shape))
                                            for name, a in zip(names[:inputs], arg)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
                              [numpy_helper.from_array(a, name) for name, a in zip(names[inputs:], arg[inputs:])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 9
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("BENCH_THREADS", "1"))
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = dict(zip(names[:inputs], arg))
    measure(lambda: session.run(None, feed))


def main():
    name, text = sys.argv[1], sys.argv[2]
    m = re.match(r"([a-z0-9_]+):(\d+)(?:x(\d+))?(?:x(\d+))?", text)
    batch = re.search(r":b(\d+)", text)
    row = (m[1], [int(g or 1) for g in m.groups()[1:]],
           {"ta": ":ta" in text, "tb": ":tb" in text, "w": ":w" in text, "b": int(batch[1]) if batch else 1})
    try:
        module = importlib.import_module(name.split(".")[0])
    except ImportError:
        sys.exit(SKIP)
    print("info version", module.__version__)
    if row[0] in ("train", "train_eager"):
        if name == "jax" and row[0] == "train":
            return train_jax(module, row[1][0])
        if name in ("torch", "torch.compile") and (name == "torch" or row[0] == "train"):
            return train_torch(module, row[1][0], name == "torch.compile")
        sys.exit(SKIP)
    if name == "torch.compile":
        run_torch(module, row, compiled=True)
    else:
        globals()["run_" + name](module, row)


if __name__ == "__main__":
    main()
