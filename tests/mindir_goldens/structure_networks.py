"""Networks that try the format: branches, loops, lengths that vary, encryption, other types."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from case import Literal, Network, d, f, h, i
from mindspore import Tensor, nn, ops
from text_networks import Attention
from vision_networks import Digits

KEY = b"0123456789ABCDEF"


class Branch(nn.Cell):
    """A branch that the input decides, with a layer in each arm."""

    def __init__(self) -> None:
        super().__init__()
        self.positive = nn.Dense(4, 3)
        self.negative = nn.Dense(4, 3)

    def construct(self, x):
        if x.sum() > 0:  # noqa: SIM108  the branch is what is tested
            y = self.positive(x)
        else:
            y = self.negative(-x) * 2
        return y + 1


class Nested(nn.Cell):
    """A branch in a branch, and several values out of each."""

    def construct(self, x, y):
        total = x.sum()
        if total > 0:
            if total > 4:
                x, y = y, x
            else:
                x = x * 2
            y = y + 1
        else:
            y = y - x
        return x, y


class Loop(nn.Cell):
    """A loop that a number in the input ends; two values go round, a layer inside."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Dense(4, 4)

    def construct(self, x, count):
        total = x * 0
        while count > 0:
            x = ops.tanh(self.dense(x))
            total = total + x
            count = count - 1
        return total, count


class LoopWithBranch(nn.Cell):
    """A branch within a loop, and a loop after it."""

    def construct(self, x, count):
        step = Tensor(0, ms.int32)
        while step < count:
            if x.max() > 3:  # noqa: SIM108
                x = x / 2
            else:
                x = x + 1
            step = step + 1
        while x.sum() < 20:
            x = x * 2
        return x, step


class NestedLoop(nn.Cell):
    """A loop within a loop."""

    def construct(self, x, rows, columns):
        row = Tensor(0, ms.int32)
        while row < rows:
            column = Tensor(0, ms.int32)
            while column < columns:
                x = x * 1.1 + 0.1
                column = column + 1
            x = -x
            row = row + 1
        return x


class Several(nn.Cell):
    """Outputs of several types, one of them an input as it came."""

    def construct(self, x, y):
        return x @ x.T, (ops.argmax(x, 1), y), x > 0, x.astype(ms.float16)


class Shapes(nn.Cell):
    """Lengths of the input used as numbers: reshapes, slices, masks, means by hand."""

    def construct(self, x):
        n, rows, width = x.shape
        flat = x.reshape(n * rows, width)
        mean = flat.sum(axis=0) / (n * rows)
        halves = x.reshape(n, rows, width // 2, 2).transpose(0, 3, 1, 2)
        spread = ops.broadcast_to(mean, (n, 1, width)) + x[:, rows // 2 : rows // 2 + 1]
        return (
            halves.reshape(n, -1),
            ops.tile(spread, (1, 2, 1)),
            ops.ones_like(x) * rows,
        )


class Varying(nn.Cell):
    """Attention over as many rows as come."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention(8, 2)
        self.last = nn.Dense(8, 3)

    def construct(self, x, mask):
        mask = mask.expand_dims(1).expand_dims(1)
        return self.last(self.attention(x, x, mask)).mean(1)


class Brain(nn.Cell):
    """Layers computed in bfloat16, the rest in float32."""

    def __init__(self, dtype: Any) -> None:
        super().__init__()
        self.first = nn.Dense(6, 8).to_float(dtype)
        self.last = nn.Dense(8, 3).to_float(dtype)

    def construct(self, x):
        return self.last(ops.relu(self.first(x))).astype(ms.float32)


class Half(nn.Cell):
    """FP16 from the input to the output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, has_bias=True).to_float(ms.float16)
        self.dense = nn.Dense(4, 3).to_float(ms.float16)

    def construct(self, x):
        return ops.softmax(self.dense(ops.relu(self.conv(x)).mean((2, 3))), -1)


class Shared(nn.Cell):
    """One layer used twice, and a weight used as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Dense(5, 5)
        self.scale = ms.Parameter(Tensor(0.5, ms.float32), name="scale")

    def construct(self, x):
        return self.layer(ops.relu(self.layer(x))) * self.scale + self.layer.weight.sum()


class Preprocessed(nn.Cell):
    """Bytes in, scaled and put into the order of channels inside the network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.mean = Tensor(np.array([120.0, 115.0, 100.0]), ms.float32)

    def construct(self, image):
        x = (image.astype(ms.float32) - self.mean) / 58.0
        return self.conv(x.transpose(0, 3, 1, 2)).mean((2, 3))


class Assigned(nn.Cell):
    """Parts of a tensor written over, as Python writes it."""

    def construct(self, x, n):
        y = x * 1
        y[0] = 1.0
        y[:, 1] = x[:, 2]
        y[1:, 2:] = 0
        y[n] = y[n] + 2
        return y


class Picture(nn.Cell):
    """A picture of any size: convolved, pooled, enlarged to twice the size, averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, pad_mode="pad", padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.pool = nn.MaxPool2d(2, 2)
        self.up = nn.Conv2dTranspose(4, 2, 2, stride=2, pad_mode="valid")
        self.last = nn.Dense(4, 3)

    def construct(self, x):
        x = self.pool(ops.relu(self.norm(self.conv(x))))
        return self.up(x), self.last(ops.mean(x, (2, 3)))


class Rows(nn.Cell):
    """As many rows as come: normalised, joined, split, the best two of each."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm((6,))
        self.dense = nn.Dense(12, 8)

    def construct(self, x):
        x = self.dense(ops.concat((self.norm(x), x), -1))
        left, right = ops.split(x, 4, -1)
        best, _ = ops.topk(left * ops.sigmoid(right), 2)
        return best, ops.stack((left, right), 1), ops.argmax(x, -1), x.max(axis=0)


class Choice(nn.Cell):
    """Which of three layers runs is a number in the input; each a function of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.CellList([nn.Dense(4, 4) for _ in range(3)])

    def construct(self, x, which):
        if which == 0:
            x = self.layers[0](x)
        elif which == 1:
            x = self.layers[1](x)
        else:
            x = self.layers[2](x)
        return ops.relu(x)


class Search(nn.Cell):
    """A loop that breaks off, and a value that only one way out gives."""

    def construct(self, x):
        found = Tensor(-1, ms.int32)
        place = Tensor(0, ms.int32)
        while place < 5:
            if x[place] > 1.0:
                found = place
                break
            place = place + 1
        return found, place


class Greedy(nn.Cell):
    """Words chosen one after the other, each from those before."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(12, 6)
        self.cell = nn.Dense(12, 6)
        self.scores = nn.Dense(6, 12)

    def construct(self, word, state):
        chosen = word + 0
        for _ in range(4):
            state = ops.tanh(self.cell(ops.concat((self.words(word), state), -1)))
            word = ops.argmax(self.scores(state), -1).astype(ms.int32)
            chosen = ops.concat((chosen, word), 0)
        return chosen, state


def varying(*shapes: list[Any]) -> Any:
    return lambda: [ms.Tensor(shape=s, dtype=ms.float32) for s in shapes]


def encrypted(mode: str) -> dict[str, Any]:
    return {"enc_key": KEY, "enc_mode": mode}


IMAGE = [{"image": f(2, 1, 16, 16)}]
ROWS = f(3, 4)
COUNTS = [0, 1, 3, 7]
NETWORKS = [
    Network("branch", Branch, [{"x": f(2, 4, low=0.1)}, {"x": f(2, 4, high=-0.1)}]),
    Network(
        "nested_branch",
        Nested,
        [{"x": Literal([a, 1.0], "float32"), "y": f(2)} for a in (5, 1, -4)],
    ),
    Network("loop", Loop, [{"x": f(2, 4), "count": Literal(n, "int32")} for n in COUNTS]),
    Network(
        "loop_with_branch",
        LoopWithBranch,
        [{"x": f(2, 2, low=0.5), "count": Literal(n, "int32")} for n in COUNTS],
    ),
    Network(
        "nested_loop",
        NestedLoop,
        [
            {"x": f(2, 3), "rows": Literal(a, "int32"), "columns": Literal(b, "int32")}
            for a, b in ((0, 2), (2, 0), (2, 3))
        ],
    ),
    Network("several", Several, [{"x": d(3, 4), "y": i(2, 2)}]),
    Network("shapes", Shapes, [{"x": f(2, 3, 4)}]),
    Network(
        "shapes_varying",
        Shapes,
        [{"x": f(n, r, 4)} for n, r in ((2, 3), (1, 5))],
        exported=varying([None, None, 4]),
    ),
    Network(
        "digits_varying",
        Digits,
        [{"image": f(n, 1, 16, 16)} for n in (1, 3)],
        exported=varying([None, 1, 16, 16]),
    ),
    Network(
        "attention_varying",
        Varying,
        [{"x": f(n, r, 8), "mask": Literal(np.tri(n, r), "float32")} for n, r in ((1, 4), (3, 2))],
        exported=varying([None, None, 8], [None, None]),
    ),
    Network(
        "brain",
        lambda: Brain(ms.bfloat16),
        [{"x": f(4, 6)}],
        answer=lambda: Brain(ms.float32),
        releases=("2.10.0",),
    ),
    Network("assigned", Assigned, [{"x": f(3, 4), "n": Literal([2, 0], "int32")}]),
    Network(
        "picture_varying",
        Picture,
        [{"x": f(n, 3, r, c)} for n, r, c in ((1, 16, 12), (2, 8, 20))],
        exported=varying([None, 3, None, None]),
    ),
    Network("rows_varying", Rows, [{"x": f(n, 6)} for n in (1, 4)], exported=varying([None, 6])),
    Network("choice", Choice, [{"x": f(2, 4), "which": Literal(n, "int32")} for n in (0, 1, 2)]),
    Network(
        "search",
        Search,
        [{"x": Literal(row, "float32")} for row in ([0, 2, 0, 3, 0], [0, 0, 0, 0, 0])],
    ),
    Network("greedy", Greedy, [{"word": Literal([3], "int32"), "state": f(1, 6)}]),
    Network("half", Half, [{"x": h(1, 2, 6, 6)}]),
    Network("shared", Shared, [{"x": f(2, 5)}]),
    Network(
        "preprocessed",
        Preprocessed,
        [{"image": Literal(np.arange(2 * 6 * 6 * 3).reshape(2, 6, 6, 3) % 256, "uint8")}],
    ),
    Network("digits_aes_gcm", Digits, IMAGE, options=encrypted("AES-GCM")),
    Network("digits_aes_cbc", Digits, IMAGE, options=encrypted("AES-CBC")),
    Network("digits_sm4_cbc", Digits, IMAGE, options=encrypted("SM4-CBC")),
    Network("digits_split", Digits, IMAGE, splits=True),
    Network("digits_split_aes_gcm", Digits, IMAGE, splits=True, options=encrypted("AES-GCM")),
]
