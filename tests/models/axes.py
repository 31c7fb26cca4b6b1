"""Models whose first axis is, or is not, a batch: the cases a batcher must tell apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper

from serving.tensor import Dim
from tests.models.graph import Array, build, save, value, weights

node = helper.make_node


def fixed_batch(path: Path, rows: int = 1, seed: int = 0) -> Path:
    """A dense layer exported for exactly ``rows`` rows: ``x`` [rows,8] -> ``y`` [rows,3]."""
    constants = {"w": weights(np.random.default_rng(seed), 8, 3)}
    ends = [value("x", "FP32", [rows, 8])], [value("y", "FP32", [rows, 3])]
    return save(build([node("MatMul", ["x", "w"], ["y"])], *ends, constants), path)


def softmax_over_rows(path: Path) -> Path:
    """``x`` FP32 [batch,4] -> ``y``: softmax over axis 0, so a row depends on its neighbours."""
    ends = [value("x", "FP32", ["batch", 4])], [value("y", "FP32", ["batch", 4])]
    return save(build([node("Softmax", ["x"], ["y"], axis=0)], *ends), path)


def attention_over_rows(path: Path, size: int = 8, seed: int = 0) -> Path:
    """Self-attention on one sequence: ``x`` FP32 [seq,8] -> ``y`` [seq,8]; axis 0 is the tokens."""
    rng = np.random.default_rng(seed)
    constants: dict[str, Array] = {k: weights(rng, size, size) for k in ("wq", "wk", "wv")}
    nodes = [
        node("MatMul", ["x", "wq"], ["q"]),
        node("MatMul", ["x", "wk"], ["k"]),
        node("MatMul", ["x", "wv"], ["v"]),
        node("Transpose", ["k"], ["kt"], perm=[1, 0]),
        node("MatMul", ["q", "kt"], ["scores"]),
        node("Softmax", ["scores"], ["shares"], axis=-1),
        node("MatMul", ["shares", "v"], ["y"]),
    ]
    ends = [value("x", "FP32", ["seq", size])], [value("y", "FP32", ["seq", size])]
    return save(build(nodes, *ends, constants), path)


def lstm_over_rows(path: Path, inputs: int = 6, hidden: int = 8, seed: int = 0) -> Path:
    """An LSTM whose axis 0 is time: ``x`` FP32 [time,6] -> ``y`` [time,8], ``h`` [1,1,8].

    Each row of ``y`` depends on the rows before it; ``h`` is the state after the last one.
    """
    rng = np.random.default_rng(seed)
    constants: dict[str, Array] = {
        "w": weights(rng, inputs, 4 * hidden).T[None],
        "r": weights(rng, hidden, 4 * hidden).T[None],
        "axis1": np.array([1], np.int64),
        "axes12": np.array([1, 2], np.int64),
    }
    nodes = [
        node("Unsqueeze", ["x", "axis1"], ["steps"]),
        node("LSTM", ["steps", "w", "r"], ["all", "h"], hidden_size=hidden),
        node("Squeeze", ["all", "axes12"], ["y"]),
    ]
    outputs = [value("y", "FP32", ["time", hidden]), value("h", "FP32", [1, 1, hidden])]
    return save(build(nodes, [value("x", "FP32", ["time", inputs])], outputs, constants), path)


def graph_convolution(path: Path, features: int = 5, classes: int = 3, seed: int = 0) -> Path:
    """One layer of a GCN: ``adjacency`` [n,n], ``features`` [n,5] -> ``scores`` FP32 [n,3].

    Axis 0 counts the nodes of one graph; two graphs cannot be laid one after the other.
    """
    constants = {"w": weights(np.random.default_rng(seed), features, classes)}
    nodes = [
        node("MatMul", ["features", "w"], ["mapped"]),
        node("MatMul", ["adjacency", "mapped"], ["mixed"]),
        node("Relu", ["mixed"], ["scores"]),
    ]
    inputs = [value("adjacency", "FP32", ["n", "n"]), value("features", "FP32", ["n", features])]
    return save(build(nodes, inputs, [value("scores", "FP32", ["n", classes])], constants), path)


def recurrent_state(path: Path, inputs: int = 6, hidden: int = 8, seed: int = 0) -> Path:
    """One step of a GRU with its state beside the input; the state's batch is in axis 1.

    ``x`` FP32 [batch,6], ``state`` FP32 [1,batch,8] -> ``y`` FP32 [batch,8],
    ``state_out`` FP32 [1,batch,8].
    """
    rng = np.random.default_rng(seed)
    constants: dict[str, Array] = {
        "w": weights(rng, inputs, 3 * hidden).T[None],
        "r": weights(rng, hidden, 3 * hidden).T[None],
        "b": weights(rng, 6 * hidden)[None],
        "axis0": np.array([0], np.int64),
    }
    nodes = [
        node("Unsqueeze", ["x", "axis0"], ["step"]),
        node("GRU", ["step", "w", "r", "b", "", "state"], ["", "state_out"], hidden_size=hidden),
        node("Squeeze", ["state_out", "axis0"], ["y"]),
    ]
    state: list[Dim] = [1, "batch", hidden]
    inputs_ = [value("x", "FP32", ["batch", inputs]), value("state", "FP32", state)]
    outputs = [value("y", "FP32", ["batch", hidden]), value("state_out", "FP32", state)]
    return save(build(nodes, inputs_, outputs, constants), path)
