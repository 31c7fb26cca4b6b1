"""Recurrent layers agree with loops over their steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.mindir_files import RELEASES, Net, run_net
from tests.unit.formats.mindir.one_node import Array, Fixed, agrees, floats, like, run_node

STEPS, BATCH, INPUTS, HIDDEN = 5, 2, 4, 3
X = floats(STEPS, BATCH, INPUTS)


def sigmoid(x: Array) -> Array:
    found: Array = 1 / (1 + np.exp(-x))
    return found


def lstm_steps(x: Array, h: Array, c: Array, w: Array, r: Array, b: Array) -> dict[str, Array]:
    """w: (4 hidden, inputs), r: (4 hidden, hidden); gates are input, forget, cell, output."""
    kept: dict[str, list[Array]] = {n: [] for n in "hcifgot"}
    for row in x:
        i, f, g, o = np.split(row @ w.T + h @ r.T + b, 4, -1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        c = f * c + i * g
        h = o * np.tanh(c)
        for name, value in zip("hcifgot", (h, c, i, f, g, o, np.tanh(c)), strict=True):
            kept[name].append(value)
    return {n: np.stack(v) for n, v in kept.items()}


def gru_steps(
    x: Array, h: Array, w: Array, r: Array, b: Array, d: Array, reset_after: bool = True
) -> Array:
    """w: (3 hidden, inputs), r: (3 hidden, hidden); gates are reset, update, new."""
    found = []
    n = h.shape[-1]
    for row in x:
        wr, wz, wn = np.split(row @ w.T + b, 3, -1)
        rr, rz, _ = np.split(h @ r.T + d, 3, -1)
        reset, update = sigmoid(wr + rr), sigmoid(wz + rz)
        if reset_after:
            new = np.tanh(wn + reset * (h @ r[2 * n :].T + d[2 * n :]))
        else:
            new = np.tanh(wn + (reset * h) @ r[2 * n :].T + d[2 * n :])
        h = (1 - update) * new + update * h
        found.append(h)
    return np.stack(found)


def layer(gates: int, directions: int) -> list[tuple[Array, Array, Array, Array]]:
    rows = gates * HIDDEN
    return [
        (floats(rows, INPUTS), floats(rows, HIDDEN), floats(rows), floats(rows))
        for _ in range(directions)
    ]


def flat(parts: list[tuple[Array, Array, Array, Array]], terms: int) -> Array:
    """Return weights as MindSpore keeps them: input, hidden, then biases summed or apart."""
    found = [p[0] for p in parts] + [p[1] for p in parts]
    if terms == 1:
        found += [p[2] + p[3] for p in parts]
    if terms == 2:
        found += [t for p in parts for t in p[2:]]
    return np.concatenate([f.reshape(-1) for f in found]).reshape(-1, 1, 1)


def sizes(bidirectional: bool, has_bias: bool, layers: int = 1) -> dict[str, Any]:
    return {
        "input_size": INPUTS, "hidden_size": HIDDEN, "num_layers": layers, "has_bias": has_bias,
        "bidirectional": bidirectional, "dropout": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(("directions", "terms"), [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)])
def test_lstm_agrees_with_a_loop(tmp_path: Path, release: str, directions: int, terms: int) -> None:
    parts = layer(4, directions)
    h, c = floats(directions, BATCH, HIDDEN), floats(directions, BATCH, HIDDEN)
    ways = []
    for k, (w, r, b, d) in enumerate(parts):
        x = X[::-1] if k else X
        way = lstm_steps(x, h[k], c[k], w, r, b + d if terms else np.zeros_like(b))
        ways.append({n: v[::-1] if k else v for n, v in way.items()})
    y = np.concatenate([way["h"] for way in ways], -1)
    last_h = np.stack([way["h"][0 if k else -1] for k, way in enumerate(ways)])
    last_c = np.stack([way["c"][0 if k else -1] for k, way in enumerate(ways)])
    memory = np.zeros(1, "float32")
    weights = flat(parts, terms)
    found = run_lstm(tmp_path, release, [X, h, c, weights], like(y, last_h, last_c, memory, memory),
                     sizes(directions == 2, terms > 0))  # fmt: skip
    agrees(found, y, last_h, last_c)


def run_lstm(
    folder: Path, release: str, given: Any, stated: Any, attributes: dict[str, Any], **more: Any
) -> list[Array]:
    """Run an LSTM, whose settings are attributes in every release."""
    net = Net(release)
    names = [net.input(f"x{i}", "float32", v.shape) for i, v in enumerate(given)]
    operator = more.get("operator", "LSTM")
    made = net.op(operator, names, stated, attributes)
    wanted = more.get("wanted", 3)
    items = [net.op("TupleGetItem", [made, net.constant(i)], stated[i]) for i in range(wanted)]
    net.output(net.op("MakeTuple", items, None))
    return run_net(net, folder, *given)


@pytest.mark.parametrize("terms", [0, 2])
def test_cudnn_gru_agrees_with_a_loop(tmp_path: Path, terms: int) -> None:
    parts = layer(3, 1)
    w, r, b, d = parts[0]
    h = floats(1, BATCH, HIDDEN)
    none = np.zeros_like(b)
    y = gru_steps(X, h[0], w, r, b if terms else none, d if terms else none)
    memory = np.zeros(1, "float32")
    found = run_lstm(
        tmp_path, "2.10", [X, h, flat(parts, terms)], like(y, y[-1:], memory, memory),
        sizes(False, terms > 0), operator="CudnnGRU", wanted=2,
    )  # fmt: skip
    agrees(found, y, y[-1:])


@pytest.mark.parametrize(("change", "why"), [
    ({"num_layers": 2}, "stacks several layers"), ({"proj_size": 2}, "proj_size"),
    ({"hidden_size": 4}, "no layer of its sizes"),
])  # fmt: skip
def test_lstm_that_is_no_single_plain_layer_is_refused(
    tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    state = floats(1, BATCH, HIDDEN)
    stated = like(floats(STEPS, BATCH, HIDDEN), state, state)
    with pytest.raises(LoadError, match=why):
        run_lstm(tmp_path, "2.10", [X, state, state, flat(layer(4, 1), 1)], stated,
                 {**sizes(False, True), **change})  # fmt: skip


@pytest.mark.parametrize("forget_bias", [0.0, 1.0])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_dynamic_rnn_gives_states_and_gates_of_every_step(
    tmp_path: Path, dtype: str, forget_bias: float
) -> None:
    w, r, b, _ = layer(4, 1)[0]
    h, c = floats(1, BATCH, HIDDEN), floats(1, BATCH, HIDDEN)

    def as_dynamic(gates: Array) -> Array:
        i, f, g, o = np.split(gates, 4)
        return np.concatenate([i, g, f, o])

    weight = np.concatenate([as_dynamic(w), as_dynamic(r)], 1).T
    given = [v.astype(dtype) for v in (X, weight, as_dynamic(b), h, c)]
    more = np.concatenate([np.zeros(HIDDEN), np.full(HIDDEN, forget_bias), np.zeros(2 * HIDDEN)])
    exact = [v.astype("float64") for v in given]
    i, g, f, o = np.split(exact[1].T, 4)
    plain = np.concatenate([i, f, g, o])
    steps = lstm_steps(exact[0], exact[3][0], exact[4][0], plain[:, :INPUTS], plain[:, INPUTS:],
                       b.astype(dtype) + more)  # fmt: skip
    expected = [steps[n].astype(dtype) for n in "hhcigfot"]
    found = run_node(
        tmp_path, "DynamicRNN", [*given[:3], Fixed(None), *given[3:]], like(*expected), "2.0",
        forget_bias=forget_bias, cell_type="LSTM", direction="UNIDIRECTIONAL", cell_depth=1,
        use_peephole=False, keep_prob=1.0, cell_clip=-1.0, num_proj=0, time_major=True,
        activation="tanh", is_training=True,
    )  # fmt: skip
    loose = 2e-3 if dtype == "float16" else 1e-5
    agrees(found, *expected, rtol=loose, atol=loose)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("order", ["rzh", "zrh"])
@pytest.mark.parametrize("biased", [True, False])
def test_dynamic_gru_agrees_with_a_loop(
    tmp_path: Path, order: str, reset_after: bool, biased: bool, rank: int
) -> None:
    w, r, b, d = layer(3, 1)[0]
    h = floats(BATCH, HIDDEN)
    if not biased:
        b, d = np.zeros_like(b), np.zeros_like(d)
    y = gru_steps(X, h, w, r, b, d, reset_after)

    def arranged(gates: Array) -> Array:
        reset, update, new = np.split(gates, 3)
        rows = [reset, update, new] if order == "rzh" else [update, reset, new]
        return np.ascontiguousarray(np.concatenate(rows).T)

    biases = [arranged(b), arranged(d)] if biased else [Fixed(None)] * 2
    start = h if rank == 2 else h[None]
    found = run_node(
        tmp_path, "DynamicGRUV2", [X, arranged(w), arranged(r), *biases, Fixed(None), start],
        like(*[y] * 6), "2.0", outputs=[0, 1], gate_order=order, reset_after=reset_after,
        direction="UNIDIRECTIONAL", time_major=True, activation="tanh",
    )  # fmt: skip
    agrees(found, y, y)


@pytest.mark.parametrize(("change", "why"), [
    ({"direction": "BIDIRECTIONAL"}, "another order"), ({"cell_clip": 2.0}, "cell_clip"),
    ({"time_major": False}, "batch first"), ({"gate_order": "hrz"}, "order of gates"),
])  # fmt: skip
def test_dynamic_gru_with_other_settings_is_refused(
    tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    w, r, b, d = layer(3, 1)[0]
    given = [X, w.T.copy(), r.T.copy(), b, d, Fixed(None), floats(BATCH, HIDDEN)]
    with pytest.raises(LoadError, match=why):
        run_node(tmp_path, "DynamicGRUV2", given, like(*[floats(5, 2, 3)] * 6), "2.0", **change)
