"""A transformer encoder in the words that PyTorch's exporter uses: views written out as shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from tests.models.graph import Array, build, save, value, weights

VOCABULARY = 1000
CLASSES = 4


class _Encoder:
    """Collects nodes and weights layer by layer; every method returns the name it produced."""

    def __init__(self, hidden: int, heads: int, length: int, seed: int) -> None:
        self.hidden, self.heads, self.length = hidden, heads, length
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {
            "axis0": np.array([0], np.int64),
            "index0": np.array(0, np.int64),
            "len": np.array([length], np.int64),
            "heads": np.array([heads], np.int64),
            "head_size": np.array([hidden // heads], np.int64),
            "hidden": np.array([hidden], np.int64),
            "sqrt_d": np.array((hidden // heads) ** 0.5, np.float32),
            "sqrt2": np.array(2**0.5, np.float32),
            "one": np.array(1, np.float32),
            "half": np.array(0.5, np.float32),
        }

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        out = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def weight(self, *shape: int) -> str:
        name = f"param_{len(self.constants)}"
        self.constants[name] = weights(self.rng, *shape)
        return name

    def dense(self, x: str, fan_in: int, out: int) -> str:
        product = self.op("MatMul", x, self.weight(fan_in, out))
        return self.op("Add", self.weight(out), product)

    def norm(self, x: str) -> str:
        name = f"param_{len(self.constants)}"
        self.constants[f"{name}_scale"] = np.ones(self.hidden, np.float32)
        self.constants[f"{name}_bias"] = np.zeros(self.hidden, np.float32)
        return self.op("LayerNormalization", x, f"{name}_scale", f"{name}_bias", axis=-1)

    def view(self, x: str, like: str, *sizes: str) -> str:
        """Reshape to [batch of ``like``, *sizes], the batch taken from the tensor's own shape."""
        batch = self.op("Gather", self.op("Shape", like), "index0", axis=0)
        row = self.op("Unsqueeze", batch, "axis0")
        return self.op("Reshape", x, self.op("Concat", row, *sizes, axis=0))

    def split_heads(self, x: str, perm: list[int]) -> str:
        return self.op("Transpose", self.view(x, x, "len", "heads", "head_size"), perm=perm)

    def attention(self, x: str) -> str:
        query, key, rows = (self.dense(x, self.hidden, self.hidden) for _ in range(3))
        scores = self.op(
            "MatMul", self.split_heads(query, [0, 2, 1, 3]), self.split_heads(key, [0, 2, 3, 1])
        )
        shares = self.op("Softmax", self.op("Div", scores, "sqrt_d"), axis=-1)
        mixed = self.op("MatMul", shares, self.split_heads(rows, [0, 2, 1, 3]))
        joined = self.view(self.op("Transpose", mixed, perm=[0, 2, 1, 3]), x, "len", "hidden")
        return self.dense(joined, self.hidden, self.hidden)

    def gelu(self, x: str) -> str:
        erf = self.op("Erf", self.op("Div", x, "sqrt2"))
        return self.op("Mul", self.op("Mul", x, self.op("Add", erf, "one")), "half")

    def layer(self, x: str) -> str:
        x = self.norm(self.op("Add", x, self.attention(x)))
        wide = self.gelu(self.dense(x, self.hidden, 4 * self.hidden))
        return self.norm(self.op("Add", x, self.dense(wide, 4 * self.hidden, self.hidden)))


def transformer(
    path: Path, layers: int = 4, hidden: int = 128, heads: int = 4, length: int = 64, seed: int = 0
) -> Path:
    """Encoder with a classifier on its first token.

    ``ids`` INT64 [batch,64] -> ``logits`` FP32 [batch,4]. Ids must be below 1000. With the default
    sizes one row costs 0.7 to 2 ms of one core.
    """
    encoder = _Encoder(hidden, heads, length, seed)
    words = encoder.op("Gather", encoder.weight(VOCABULARY, hidden), "ids", axis=0)
    x = encoder.norm(encoder.op("Add", words, encoder.weight(1, length, hidden)))
    for _ in range(layers):
        x = encoder.layer(x)
    first = encoder.op("Gather", x, "index0", axis=1)
    head, bias = encoder.weight(hidden, CLASSES), encoder.weight(CLASSES)
    nodes = [*encoder.nodes, helper.make_node("Gemm", [first, head, bias], ["logits"])]
    inputs = [value("ids", "INT64", ["batch", length])]
    outputs = [value("logits", "FP32", ["batch", CLASSES])]
    return save(build(nodes, inputs, outputs, encoder.constants), path)
