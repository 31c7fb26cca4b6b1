"""All networks of one operator over MindSpore's ``ops``, ``nn`` and tensor methods."""

# One answer is one line.
# ruff: noqa: E501

from __future__ import annotations

from array_operators import ARRAYS
from case import answered
from layer_operators import LAYERS
from number_operators import NUMBERS

ANSWERS = {
    "softmax_axes": "ops.exp(x) / ops.exp(x).sum((1, 2), keepdims=True)",
    "accumulate_n": "x + y + x",
    "einsum": "x @ y",
    "roll": "ops.concat((x[:, :, -1:], x[:, :, :-1]), 2)",
    "euclidean_norm": "ops.sqrt(ops.square(x).sum(axis=1))",
    "embedding_lookup_layer": "ops.gather(self.layer.embedding_table, n, 0)",
    "instance_norm2d": (
        "(x - x.mean((2, 3), True)) / ops.sqrt(ops.square(x - x.mean((2, 3), True)).mean((2, 3), True)"
        " + 1e-5) * self.layer.gamma.reshape(1, 4, 1, 1) + self.layer.beta.reshape(1, 4, 1, 1)"
    ),
    "instance_norm1d": (
        "(x - x.mean(2, True)) / ops.sqrt(ops.square(x - x.mean(2, True)).mean(2, True)"
        " + 1e-5) * self.layer.gamma.reshape(1, 4, 1) + self.layer.beta.reshape(1, 4, 1)"
    ),
}
CASES = answered([*NUMBERS, *ARRAYS, *LAYERS], ANSWERS)
