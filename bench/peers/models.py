#!/usr/bin/env python3
"""models.py MODULE ROW - torch, jax or onnxruntime on the rows of bench/models.c (protocol: bench/contender.h)."""
import importlib
import os
import re
import sys

from python import SKIP, measure

LAYERS = 4


def floats(np, *shape):
    """bench_floats of contender.h."""
    n, seed, mask = int(np.prod(shape)), 1, 0xffffffff
    out = np.empty(n, np.uint32)
    # the generator in blocks: state k is a^k * seed + c * (a^k - 1) / (a - 1) modulo 2^32
    block = np.empty(min(n, 4096), np.uint64)
    for i in range(len(block)):
        seed = (seed * 1664525 + 1013904223) & mask
        block[i] = seed
    a, c = 1, 0
    for _ in range(len(block)):
        a, c = a * 1664525 & mask, (c * 1664525 + 1013904223) & mask
    for at in range(0, n, len(block)):
        m = min(len(block), n - at)
        out[at:at + m] = block[:m]
        block = (block * a + c) & mask
    return ((out >> 8).astype(np.float32) / np.float32(8388608) - np.float32(1)).reshape(shape)


def arrays(np, what, m, n, k):
    """Arguments of a row, as bench/models.c has them."""
    f = lambda scale, *s: floats(np, *s) * np.float32(scale)
    if what == "hvp":
        return [f(1, m, n)] + [f(0.07, n, n) for _ in range(LAYERS)]
    if what.startswith("lstm"):
        return [f(1, m, n, k), f(0.09, k, 4 * k), f(0.09, k, 4 * k), f(0.09, 4 * k)]
    if what.startswith("solver"):
        return [f(0.06, n, n), f(1, m, n)]
    if what.startswith("attention"):
        return [f(1 + i, m, n, k) for i in range(3)]
    if what == "ssm":
        return [f(1, m, n), abs(f(0.1, m, n)), f(1, m, k), f(1, m, k), -abs(f(1, n, k)), np.zeros((n, k), np.float32)]
    sys.exit(SKIP)


def jax_models(jax):
    """What the rows compute: of all arguments a number, or results."""
    jnp, lax = jax.numpy, jax.lax

    def mlp(x, *w):
        for a in w:
            x = jnp.tanh(x @ a)
        return jnp.mean(x * x)

    def lstm(x, w, u, b):
        def step(state, row):
            h, c = state
            i, f, g, o = jnp.split(row + h @ u, 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h
        zero = jnp.zeros((x.shape[1], u.shape[0]), x.dtype)
        _, hs = lax.scan(step, (zero, zero), x @ w + b)
        return jnp.mean(hs * hs)

    def fixed_point(turn, x0):
        moves = lambda s: jnp.max(jnp.abs(s[0] - s[1])) > 1e-5
        return lax.while_loop(moves, lambda s: (turn(s[0]), s[0]), (x0, x0 + 1))[0]

    def solver(w, b):
        x = fixed_point(lambda x: jnp.tanh(x @ w + b), jnp.zeros_like(b))
        return jnp.sum(x * x)

    @jax.custom_vjp
    def implicit(w, b):
        return fixed_point(lambda x: jnp.tanh(x @ w + b), jnp.zeros_like(b))

    def implicit_fwd(w, b):
        x = implicit(w, b)
        return x, (x, w, b)

    def implicit_bwd(res, ct):  # the cotangent of the fixed point solves y = ct + J^T y: the same loop again
        x, w, b = res
        _, pull = jax.vjp(lambda x, w, b: jnp.tanh(x @ w + b), x, w, b)
        y = fixed_point(lambda y: ct + pull(y)[0], jnp.zeros_like(ct))
        return pull(y)[1:]
    implicit.defvjp(implicit_fwd, implicit_bwd)

    def ssm(x, dt, b, c, a, h):
        def step(h, row):
            x, dt, b, c = row
            h = jnp.exp(dt[:, None] * a) * h + (dt * x)[:, None] * b
            return h, jnp.sum(h * c, 1)
        return lax.scan(step, h, (x, dt, b, c))

    def attention(q, k, v, causal=False):
        heads = lambda t: t[:, :, None]
        return jax.nn.dot_product_attention(heads(q), heads(k), heads(v), is_causal=causal)[:, :, 0]
    square = lambda fn: lambda *a: jnp.mean(fn(*a) ** 2)
    return {"hvp": mlp, "lstm": lstm, "lstm_grad": lstm, "lstm_hvp": lstm, "solver": solver, "solver_jvp": solver,
            "solver_grad": lambda w, b: jnp.sum(implicit(w, b) ** 2), "attention": attention,
            "attention_causal": lambda *a: attention(*a, causal=True), "attention_grad": square(attention), "ssm": ssm}


def run_jax(jax, what, args):
    fn = jax_models(jax)[what]
    args = [jax.numpy.asarray(a) for a in args]
    wrt = {"hvp": range(1, 5), "lstm": range(1, 4), "solver": range(2), "attention": range(3)}.get(what.split("_")[0])
    if what.endswith("grad"):
        fn = jax.value_and_grad(fn, tuple(wrt))
    elif what.endswith(("hvp", "jvp")):
        inner = jax.grad(fn, tuple(wrt)) if what.endswith("hvp") else fn
        at = tuple(args[i] for i in wrt)
        rest = args[:wrt[0]]
        args = [at, at]
        fn = lambda at, along: jax.jvp(lambda *w: inner(*rest, *w), at, along)
    fn = jax.jit(fn)
    measure(lambda: jax.block_until_ready(fn(*args)))


def torch_lstm(torch, args):
    x, w, u, b = args
    net = torch.nn.LSTM(w.shape[0], u.shape[0])
    with torch.no_grad():
        net.weight_ih_l0.copy_(w.T), net.weight_hh_l0.copy_(u.T), net.bias_ih_l0.copy_(b), net.bias_hh_l0.zero_()
    params = [net.weight_ih_l0, net.weight_hh_l0, net.bias_ih_l0]
    return (lambda: (net(x)[0] ** 2).mean()), params


def torch_attention(torch, args, causal):
    return torch.nn.functional.scaled_dot_product_attention(*(t[:, None] for t in args), is_causal=causal)[:, 0]


def run_torch(torch, what, args):
    torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "1")))
    print("info isa", torch.backends.cpu.get_cpu_capability())
    args = [torch.from_numpy(a) for a in args]
    kind, _, derive = what.partition("_")
    if kind == "hvp":
        params = [torch.nn.Parameter(a) for a in args[1:]]

        def loss():
            h = args[0]
            for p in params:
                h = torch.tanh(h @ p)
            return (h * h).mean()
        derive = "hvp"
    elif kind == "lstm":
        loss, params = torch_lstm(torch, args)
        if derive == "hvp":  # oneDNN's layer has no second derivative
            torch.backends.mkldnn.enabled = False
    elif kind == "attention":
        params = [a.requires_grad_(derive == "grad") for a in args]
        if derive != "grad":
            loss = lambda: torch_attention(torch, args, derive == "causal")
        else:
            loss = lambda: (torch_attention(torch, args, False) ** 2).mean()
    else:
        sys.exit(SKIP)
    if derive == "grad":
        return measure(lambda: torch.autograd.grad(loss(), params))
    if derive == "hvp":
        along = [p.detach().clone() for p in params]
        return measure(lambda: torch.autograd.grad(torch.autograd.grad(loss(), params, create_graph=True), params, along))
    torch.set_grad_enabled(False)
    measure(loss)


def run_onnxruntime(ort, what, args):
    """The state space as a Loop, the only row here that runs without derivatives and is no plain graph."""
    if what != "ssm":
        sys.exit(SKIP)
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    import numpy as np
    F, node, value = TensorProto.FLOAT, helper.make_node, helper.make_tensor_value_info
    names = ["x", "dt", "b", "c", "a", "h"]
    body = [node("Gather", [n, "i"], [n + "i"]) for n in names[:4]]
    body += [node("Unsqueeze", ["dti", "one"], ["d1"]), node("Mul", ["d1", "a"], ["da"]), node("Exp", ["da"], ["e"]),
             node("Mul", ["e", "h0"], ["eh"]), node("Mul", ["dti", "xi"], ["dx"]), node("Unsqueeze", ["dx", "one"], ["d2"]),
             node("Mul", ["d2", "bi"], ["u"]), node("Add", ["eh", "u"], ["h1"]), node("Mul", ["h1", "ci"], ["hc"]),
             node("ReduceSum", ["hc", "one"], ["y"], keepdims=0), node("Identity", ["go"], ["on"])]
    channels, states = args[4].shape
    loop = helper.make_graph(body, "step", [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []),
                                            value("h0", F, [channels, states])],
                             [value("on", TensorProto.BOOL, []), value("h1", F, [channels, states]), value("y", F, [channels])])
    graph = helper.make_graph(
        [node("Loop", ["steps", "", "h"], ["last", "all"], body=loop)], "ssm",
        [value(n, F, list(a.shape)) for n, a in zip(names, args)],
        [value("last", F, [channels, states]), value("all", F, [args[0].shape[0], channels])],
        [numpy_helper.from_array(np.array([1], np.int64), "one"), numpy_helper.from_array(np.array(len(args[0]), np.int64), "steps")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 9
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("BENCH_THREADS", "1"))
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = dict(zip(names, args))
    measure(lambda: session.run(None, feed))


def main():
    name, text = sys.argv[1], sys.argv[2]
    m = re.match(r"([a-z0-9_]+):(\d+)(?:x(\d+))?(?:x(\d+))?", text)
    run = {"jax": run_jax, "torch": run_torch, "onnxruntime": run_onnxruntime}.get(name)
    if not run:
        sys.exit(SKIP)
    try:
        module = importlib.import_module(name)
    except ImportError:
        sys.exit(SKIP)
    import numpy as np
    print("info version", module.__version__)
    run(module, m[1], arrays(np, m[1], *(int(g or 1) for g in m.groups()[1:])))


if __name__ == "__main__":
    main()
