"""Small networks of sequences, graphs and tables."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from case import Literal, Network, f, i
from mindspore import Tensor, nn, ops


class Attention(nn.Cell):
    def __init__(self, width: int, heads: int, dtype: Any = ms.float32) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query = nn.Dense(width, width).to_float(dtype)
        self.key = nn.Dense(width, width).to_float(dtype)
        self.value = nn.Dense(width, width).to_float(dtype)
        self.out = nn.Dense(width, width).to_float(dtype)
        self.dtype = dtype
        self.scores = ops.BatchMatMul(transpose_b=True)
        self.mix = ops.BatchMatMul()

    def split(self, x):
        n, rows, _ = x.shape
        return x.reshape(n, rows, self.heads, self.size).transpose(0, 2, 1, 3)

    def construct(self, x, memory, mask):
        q = self.split(self.query(x))
        k = self.split(self.key(memory))
        v = self.split(self.value(memory))
        scores = self.scores(q, k) / ops.cast(self.size**0.5, self.dtype)
        scores = scores + (1.0 - mask.astype(self.dtype)) * -10000.0
        mixed = self.mix(ops.softmax(scores, -1), v).transpose(0, 2, 1, 3)
        n, rows = x.shape[:2]
        return self.out(mixed.reshape(n, rows, -1))


class Layer(nn.Cell):
    def __init__(self, width: int, dtype: Any = ms.float32, decodes: bool = False) -> None:
        super().__init__()
        self.decodes = decodes
        self.itself = Attention(width, 2, dtype)
        self.other = Attention(width, 2, dtype)
        self.norms = nn.CellList([nn.LayerNorm((width,)).to_float(dtype) for _ in range(3)])
        self.wide = nn.Dense(width, 2 * width, activation="gelu").to_float(dtype)
        self.narrow = nn.Dense(2 * width, width).to_float(dtype)

    def construct(self, x, mask, memory, seen):
        x = self.norms[0](x + self.itself(x, x, mask))
        if self.decodes:
            x = self.norms[1](x + self.other(x, memory, seen))
        return self.norms[2](x + self.narrow(self.wide(x)))


class Encoder(nn.Cell):
    """Words, places and kinds; attention that a mask limits; the first word's summary too."""

    def __init__(self, dtype: Any = ms.float32, width: int = 8) -> None:
        super().__init__()
        self.words = nn.Embedding(30, width)
        self.kinds = nn.Embedding(2, width, use_one_hot=True)
        self.places = ms.Parameter(Tensor(np.zeros((6, width)), ms.float32), name="places")
        self.norm = nn.LayerNorm((width,))
        self.layers = nn.CellList([Layer(width, dtype) for _ in range(2)])
        self.summary = nn.Dense(width, width, activation="tanh").to_float(dtype)
        self.dtype = dtype

    def construct(self, input_ids, token_type_ids, attention_mask):
        x = self.words(input_ids) + self.kinds(token_type_ids) + self.places
        x = self.norm(x).astype(self.dtype)
        mask = attention_mask.expand_dims(1).expand_dims(1)
        for layer in self.layers:
            x = layer(x, mask, x, mask)
        first = ops.squeeze(x[:, 0:1, :], 1)
        return x.astype(ms.float32), self.summary(first).astype(ms.float32)


class Translator(nn.Cell):
    """An encoder, and a decoder that sees only what came before; scores of the next word."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.words = nn.Embedding(20, width)
        self.encoder = Layer(width)
        self.decoder = Layer(width, decodes=True)
        self.scores = ops.MatMul(transpose_b=True)
        waves = np.sin(np.arange(5)[:, None] / 10 ** np.arange(width)[None])
        self.waves = Tensor(waves, ms.float32)
        self.before = Tensor(np.tril(np.ones((1, 1, 4, 4))), ms.float32)

    def construct(self, source, target):
        seen = ops.not_equal(source, 0).astype(ms.float32).reshape(source.shape[0], 1, 1, -1)
        x = self.words(source) * 8**0.5 + self.waves[: source.shape[1]]
        memory = self.encoder(x, seen, x, seen)
        y = self.words(target) * 8**0.5 + self.waves[: target.shape[1]]
        y = self.decoder(y, self.before, memory, seen)
        table = self.words.embedding_table
        logits = self.scores(y.reshape(-1, 8), table)
        return ops.log_softmax(logits, -1).reshape(target.shape[0], -1, 20)


class Step(nn.Cell):
    """One step of a decoder that keeps keys and values: rotated places, gated layers."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.project = nn.Dense(width, 3 * width, has_bias=False)
        self.gate = nn.Dense(width, 2 * width, has_bias=False)
        self.raise_ = nn.Dense(width, 2 * width, has_bias=False)
        self.lower = nn.Dense(2 * width, width, has_bias=False)
        self.scale = ms.Parameter(Tensor(np.ones(width), ms.float32), name="scale_gamma")

    def norm(self, x):
        return x * ops.rsqrt(ops.square(x).mean(-1, True) + 1e-6) * self.scale

    def rotate(self, x, cosine, sine):
        left, right = ops.split(x, 4, -1)
        return x * cosine + ops.concat((-right, left), -1) * sine

    def construct(self, x, keys, values, place):
        angles = place.astype(ms.float32).expand_dims(-1) / ops.pow(
            10.0, ops.arange(4).astype(ms.float32) / 4.0
        )
        angles = ops.concat((angles, angles), -1).expand_dims(1)
        q, k, v = ops.split(self.project(self.norm(x)), 8, -1)
        q = self.rotate(q, ops.cos(angles), ops.sin(angles))
        k = self.rotate(k, ops.cos(angles), ops.sin(angles))
        keys = ops.concat((keys, k), 1)
        values = ops.concat((values, v), 1)
        scores = ops.softmax(ops.bmm(q, keys.transpose(0, 2, 1)) / 8**0.5, -1)
        x = x + ops.bmm(scores, values)
        inner = self.norm(x)
        gated = self.gate(inner)
        return (
            x + self.lower(gated * ops.sigmoid(gated) * self.raise_(inner)),
            keys,
            values,
        )


class Neighbours(nn.Cell):
    """Attention over a graph's edges, two heads, an ELU between."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.CellList([nn.Dense(5, 4, has_bias=False) for _ in range(2)])
        self.to_self = nn.CellList([nn.Dense(4, 1) for _ in range(2)])
        self.to_other = nn.CellList([nn.Dense(4, 1) for _ in range(2)])
        self.last = nn.Dense(8, 3)
        self.leaky = nn.LeakyReLU(0.2)

    def construct(self, features, bias):
        heads = []
        for n in range(2):
            h = self.maps[n](features)
            scores = self.to_self[n](h) + ops.transpose(self.to_other[n](h), (1, 0))
            heads.append(ops.elu(ops.matmul(ops.softmax(self.leaky(scores) + bias, -1), h)))
        return ops.softmax(self.last(ops.concat(heads, -1)), 1)


class Spread(nn.Cell):
    """Graph convolutions over a normalised matrix of neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Dense(5, 6, has_bias=False)
        self.last = nn.Dense(6, 3, has_bias=False)

    def construct(self, features, adjacency):
        degree = adjacency.sum(axis=1)
        scale = ops.pow(degree, -0.5)
        normal = scale.expand_dims(-1) * adjacency * scale.expand_dims(0)
        return normal @ self.last(ops.relu(normal @ self.first(features)))


class WideDeep(nn.Cell):
    """Ids looked up twice: summed as they are, and through dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = ms.Parameter(Tensor(np.zeros((40, 1)), ms.float32), name="wide")
        self.deep = nn.Embedding(40, 6)
        self.layers = nn.SequentialCell(
            nn.Dense(30, 16, activation="relu"),
            nn.Dense(16, 8, activation="relu"),
            nn.Dense(8, 1),
        )
        self.bias = ms.Parameter(Tensor([0.1], ms.float32), name="bias")

    def construct(self, ids, weights):
        mask = weights.expand_dims(-1)
        wide = ops.ReduceSum()(ops.gather(self.wide, ids, 0) * mask, 1) + self.bias
        deep = self.layers((self.deep(ids) * mask).reshape(-1, 30))
        score = wide + deep
        return score, ops.sigmoid(score)


class Pairs(nn.Cell):
    """Users and things: an inner product beside a perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.user = nn.Embedding(9, 4)
        self.thing = nn.Embedding(11, 4)
        self.first = nn.Dense(8, 6, activation="relu")
        self.last = nn.Dense(10, 1)

    def construct(self, users, things):
        u, t = ops.squeeze(self.user(users), 1), ops.squeeze(self.thing(things), 1)
        deep = self.first(ops.concat((u, t), 1))
        score = self.last(ops.concat((u * t, deep), 1))
        values, order = ops.topk(score.reshape(-1), 3)
        return score, values, order


class Phrases(nn.Cell):
    """Convolutions of three widths over words, the largest answer of each."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(25, 6)
        self.convs = nn.CellList([nn.Conv2d(1, 4, (n, 6), pad_mode="valid") for n in (2, 3, 4)])
        self.last = nn.Dense(12, 2)

    def construct(self, ids):
        x = self.words(ids).expand_dims(1)
        found = [ops.ReduceMax()(ops.relu(c(x)), (2, 3)) for c in self.convs]
        return self.last(ops.concat(found, 1))


class Moods(nn.Cell):
    """Words through a recurrent layer in both directions; the mean decides."""

    def __init__(self, recurrent: Any) -> None:
        super().__init__()
        self.words = nn.Embedding(25, 6)
        self.recurrent = recurrent(6, 5, batch_first=True, bidirectional=True)
        self.last = nn.Dense(10, 2)

    def construct(self, ids):
        hidden, _ = self.recurrent(self.words(ids))
        return self.last(hidden.mean(1))


class Unrolled(nn.Cell):
    """A recurrent cell written out over the steps, as people did before there was a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(4, 6)
        self.attend = nn.Dense(6, 1)

    def construct(self, x, state):
        states = []
        for n in range(5):
            state = self.cell(x[:, n], state)
            states.append(state)
        rows = ops.stack(states, 1)
        weights = ops.softmax(self.attend(rows), 1)
        return (rows * weights).sum(axis=1), state


IDS = {
    "input_ids": i(2, 6, low=0, high=30),
    "token_type_ids": i(2, 6, low=0, high=2),
    "attention_mask": Literal([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], "int32"),
}
NETWORKS = [
    Network("encoder", Encoder, [IDS]),
    Network("encoder_fp16", lambda: Encoder(ms.float16), [IDS]),
    Network(
        "translator",
        Translator,
        [
            {
                "source": Literal([[3, 9, 4, 2, 0], [5, 1, 0, 0, 0]], "int32"),
                "target": i(2, 4, low=1, high=20),
            }
        ],
    ),
    Network(
        "decoder_step",
        Step,
        [
            {
                "x": f(2, 1, 8),
                "keys": f(2, 3, 8),
                "values": f(2, 3, 8),
                "place": Literal([3, 3], "int32"),
            }
        ],
    ),
    Network(
        "neighbours",
        Neighbours,
        [{"features": f(7, 5), "bias": Literal((np.eye(7) + np.eye(7, k=1) - 1) * 1e4, "float32")}],
    ),
    Network(
        "spread",
        Spread,
        [
            {
                "features": f(6, 5),
                "adjacency": Literal(np.eye(6) + np.eye(6, k=1) + np.eye(6, k=-1), "float32"),
            }
        ],
    ),
    Network("wide_deep", WideDeep, [{"ids": i(3, 5, low=0, high=40), "weights": f(3, 5)}]),
    Network(
        "pairs",
        Pairs,
        [
            {
                "users": i(6, 1, low=0, high=9),
                "things": Literal([[0], [2], [4], [6], [8], [10]], "int32"),
            }
        ],
    ),
    Network("phrases", Phrases, [{"ids": i(2, 7, low=0, high=25)}]),
    Network("moods_lstm", lambda: Moods(nn.LSTM), [{"ids": i(2, 6, low=0, high=25)}]),
    Network("moods_gru", lambda: Moods(nn.GRU), [{"ids": i(2, 6, low=0, high=25)}]),
    Network("unrolled", Unrolled, [{"x": f(2, 5, 4), "state": f(2, 6)}]),
]
