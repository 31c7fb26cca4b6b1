"""Small networks that see: the topologies that people train, with few channels."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from case import Network, d, f, unit
from mindspore import Tensor, nn, ops


def conv(inner: int, outer: int, size: int = 3, stride: int = 1, group: int = 1) -> Any:
    return nn.Conv2d(inner, outer, size, stride=stride, pad_mode="same", group=group)


def block(inner: int, outer: int, size: int = 3, stride: int = 1, group: int = 1) -> Any:
    return nn.SequentialCell(
        conv(inner, outer, size, stride, group), nn.BatchNorm2d(outer), nn.ReLU6()
    )


class Digits(nn.Cell):
    """Two convolutions with pooling and three dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 5, pad_mode="valid", has_bias=True)
        self.second = nn.Conv2d(4, 6, 3, pad_mode="valid")
        self.pool = nn.MaxPool2d(2, 2)
        self.relu = nn.ReLU()
        self.flatten = nn.Flatten()
        self.wide = nn.Dense(24, 20, activation="relu")
        self.last = nn.Dense(20, 10)

    def construct(self, image):
        image = self.pool(self.relu(self.first(image)))
        image = self.pool(self.relu(self.second(image)))
        return self.last(self.wide(self.flatten(image)))


class Residual(nn.Cell):
    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.first = block(inner, outer, stride=stride)
        self.second = nn.SequentialCell(conv(outer, outer), nn.BatchNorm2d(outer))
        self.project = inner != outer
        self.shortcut = conv(inner, outer, 1, stride)

    def construct(self, x):
        beside = self.shortcut(x) if self.project else x
        return ops.relu(self.second(self.first(x)) + beside)


class Residuals(nn.Cell):
    """A stem with padded pooling, residual blocks, the mean over the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 7, stride=2, pad_mode="pad", padding=3)
        self.norm = nn.BatchNorm2d(6)
        self.pool = nn.MaxPool2d(3, 2, pad_mode="same")
        self.blocks = nn.SequentialCell(Residual(6, 6, 1), Residual(6, 10, 2))
        self.mean = ops.ReduceMean(keep_dims=True)
        self.last = nn.Dense(10, 7)

    def construct(self, x):
        x = self.blocks(self.pool(ops.relu(self.norm(self.stem(x)))))
        return self.last(self.mean(x, (2, 3)).reshape(x.shape[0], -1))


class Inverted(nn.Cell):
    """Expand, convolve each channel alone, weigh the channels, shrink, add."""

    def __init__(self, width: int, outer: int, stride: int) -> None:
        super().__init__()
        wide = 3 * width
        self.expand = block(width, wide, 1)
        self.depthwise = block(wide, wide, 3, stride, wide)
        self.squeeze = nn.Dense(wide, 4)
        self.excite = nn.Dense(4, wide)
        self.gate = nn.HSigmoid()
        self.act = nn.HSwish()
        self.shrink = nn.SequentialCell(conv(wide, outer, 1), nn.BatchNorm2d(outer))
        self.adds = stride == 1 and width == outer

    def construct(self, x):
        y = self.act(self.depthwise(self.expand(x)))
        scale = self.gate(self.excite(ops.relu(self.squeeze(y.mean((2, 3))))))
        y = self.shrink(y * scale.expand_dims(-1).expand_dims(-1))
        return x + y if self.adds else y


class Mobile(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.SequentialCell(
            block(3, 4, 3, 2), Inverted(4, 4, 1), Inverted(4, 6, 2), conv(6, 12, 1)
        )
        self.last = nn.Dense(12, 5)

    def construct(self, x):
        return ops.softmax(self.last(ops.mean(self.body(x), (2, 3))), -1)


class DenseBlocks(nn.Cell):
    """Every layer sees all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 4)
        self.layers = nn.CellList([self._layer(4 + 3 * n) for n in range(3)])
        self.transition = nn.SequentialCell(nn.BatchNorm2d(13), conv(13, 6, 1))
        self.pool = nn.AvgPool2d(2, 2)
        self.last = nn.Dense(6 * 16, 4)

    def _layer(self, inner: int) -> Any:
        return nn.SequentialCell(nn.BatchNorm2d(inner), nn.ReLU(), conv(inner, 3))

    def construct(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = ops.concat((x, layer(x)), 1)
        return self.last(ops.flatten(self.pool(self.transition(x))))


class Branches(nn.Cell):
    """Parallel paths of several sizes, joined; factored convolutions; padded means."""

    def __init__(self) -> None:
        super().__init__()
        self.one = block(3, 4, 1)
        self.rows = nn.SequentialCell(
            block(3, 3, 1), nn.Conv2d(3, 4, (1, 5)), nn.Conv2d(4, 4, (5, 1))
        )
        self.pooled = nn.SequentialCell(nn.AvgPool2d(3, 1, pad_mode="same"), conv(3, 2, 1))
        self.largest = nn.MaxPool2d(3, 1, pad_mode="same")
        self.last = conv(13, 5, 1)

    def construct(self, x):
        joined = ops.cat((self.one(x), self.rows(x), self.pooled(x), self.largest(x)), axis=1)
        return ops.log_softmax(self.last(joined).mean((2, 3)), -1)


class Shuffled(nn.Cell):
    """Channels in two halves, one convolved, then mixed by a transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(3, 8, 3, 2)
        self.branch = nn.SequentialCell(block(4, 4, 1), block(4, 4, 3, 1, 4), block(4, 4, 1))
        self.last = nn.Dense(8, 3)

    def construct(self, x):
        x = self.stem(x)
        n, c, height, width = x.shape
        for _ in range(2):
            left, right = ops.split(x, 4, axis=1)
            x = ops.concat((left, self.branch(right)), 1)
            x = x.reshape(n, 2, c // 2, height, width).transpose(0, 2, 1, 3, 4)
            x = x.reshape(n, c, height, width)
        return self.last(x.mean((2, 3)))


class Hourglass(nn.Cell):
    """Down, up by transposed convolutions, with the picture of each size passed over."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = block(1, 4)
        self.down = block(4, 6)
        self.bottom = block(6, 8)
        self.pool = nn.MaxPool2d(2, 2)
        self.up_one = nn.Conv2dTranspose(8, 6, 2, stride=2, pad_mode="same", has_bias=True)
        self.up_two = nn.Conv2dTranspose(6, 4, 4, stride=2, pad_mode="pad", padding=1)
        self.join_one = block(12, 6)
        self.join_two = block(8, 4)
        self.last = nn.Conv2d(4, 2, 1, has_bias=True)

    def construct(self, x):
        one = self.enter(x)
        two = self.down(self.pool(one))
        bottom = self.bottom(self.pool(two))
        joined = self.join_one(ops.concat((two, self.up_one(bottom)), 1))
        joined = self.join_two(ops.concat((one, self.up_two(joined)), 1))
        return ops.sigmoid(self.last(joined))


class Segments(nn.Cell):
    """Dilated convolutions of several reaches, resized back to the picture; the best class."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(3, 6, 3, 2)
        self.reaches = nn.CellList([nn.Conv2d(6, 4, 3, dilation=n) for n in (1, 2, 3)])
        self.whole = conv(6, 4, 1)
        self.last = nn.Conv2d(16, 5, 1, has_bias=True)

    def construct(self, x):
        size = x.shape[2:]
        x = self.stem(x)
        paths = [reach(x) for reach in self.reaches]
        whole = self.whole(ops.mean(x, (2, 3), True))
        paths.append(ops.interpolate(whole, size=x.shape[2:], mode="bilinear", align_corners=True))
        scores = self.last(ops.concat(paths, 1))
        scores = ops.interpolate(scores, size=size, mode="bilinear", align_corners=True)
        return scores, ops.argmax(scores, 1)


class Pyramid(nn.Cell):
    """Features of two sizes added after nearest-neighbour enlargement; scores of both in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.small = block(3, 6, 3, 2)
        self.smaller = block(6, 6, 3, 2)
        self.side = conv(6, 6, 1)
        self.head = nn.Conv2d(6, 2 * 7, 1, has_bias=True)
        self.enlarge = ops.ResizeNearestNeighbor((8, 8))

    def construct(self, x):
        fine = self.small(x)
        coarse = self.smaller(fine)
        fine = self.side(fine) + self.enlarge(coarse)
        rows = []
        for level in (fine, coarse):
            raw = self.head(level).transpose(0, 2, 3, 1)
            rows.append(raw.reshape(raw.shape[0], -1, 7))
        found = ops.concat(rows, 1)
        centre = ops.sigmoid(found[..., 0:2])
        size = ops.exp(found[..., 2:4])
        return centre - size / 2, centre + size / 2, ops.sigmoid(found[..., 4:])


class Proposals(nn.Cell):
    """Boxes from deltas, the best few, those that overlap left out, features cut out for each."""

    def __init__(self) -> None:
        super().__init__()
        self.decode = ops.BoundingBoxDecode(
            means=(0.0, 0.0, 0.0, 0.0),
            stds=(0.5, 0.5, 1.0, 1.0),
            max_shape=(32, 32),
            wh_ratio_clip=0.016,
        )
        self.best = ops.TopK(sorted=True)
        self.unite = ops.NMSWithMask(0.3)
        self.cut = ops.ROIAlign(3, 3, 0.25, 2)
        self.features = conv(3, 4)
        self.pool = nn.MaxPool2d(4, 4)
        self.last = nn.Dense(36, 5)
        rows, columns = np.mgrid[2:30:7, 2:30:7]
        corners = np.stack([columns, rows, columns + 9, rows + 11], -1)
        self.anchors = Tensor(corners.reshape(-1, 4), ms.float32)

    def construct(self, image, deltas, scores):
        boxes = self.decode(self.anchors, deltas)
        values, order = self.best(scores, 6)
        chosen = ops.gather(boxes, order, 0)
        scored = ops.concat((chosen, values.expand_dims(-1)), 1)
        kept, index, mask = self.unite(scored)
        rois = ops.concat((ops.zeros((6, 1), ms.float32), kept[:, :4]), 1)
        cut = self.cut(self.pool(self.features(image)), rois)
        return kept, index, mask, self.last(cut.reshape(6, -1))


class Sharpened(nn.Cell):
    """A picture twice its size, by channels that become pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.SequentialCell(conv(1, 8), nn.PReLU(8))
        self.last = conv(8, 4)
        self.shuffle = nn.PixelShuffle(2)

    def construct(self, x):
        return ops.clip_by_value(self.shuffle(self.last(self.first(x))) + 0.5, 0.0, 1.0)


class Patches(nn.Cell):
    """A picture in patches with a class token and learned places, through one encoder layer."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, width, 4, stride=4, pad_mode="valid", has_bias=True)
        self.token = ms.Parameter(ops.ones((1, 1, width), ms.float32), name="token")
        self.places = ms.Parameter(ops.ones((1, 17, width), ms.float32), name="places")
        self.norm_one = nn.LayerNorm((width,))
        self.norm_two = nn.LayerNorm((width,))
        self.qkv = nn.Dense(width, 3 * width)
        self.out = nn.Dense(width, width)
        self.wide = nn.Dense(width, 2 * width)
        self.narrow = nn.Dense(2 * width, width)
        self.gelu = nn.GELU(approximate=False)
        self.last = nn.Dense(width, 6)

    def construct(self, x):
        x = self.cut(x)
        n, c = x.shape[:2]
        x = x.reshape(n, c, -1).transpose(0, 2, 1)
        x = ops.concat((ops.tile(self.token, (n, 1, 1)), x), 1) + self.places
        rows = x.shape[1]
        qkv = self.qkv(self.norm_one(x)).reshape(n, rows, 3, 2, c // 2).transpose(2, 0, 3, 1, 4)
        q, k, v = ops.unstack(qkv, axis=0)
        scores = ops.softmax(ops.matmul(q, k.swapaxes(-1, -2)) * (c // 2) ** -0.5, -1)
        x = x + self.out(ops.matmul(scores, v).transpose(0, 2, 1, 3).reshape(n, rows, c))
        x = x + self.narrow(self.gelu(self.wide(self.norm_two(x))))
        return self.last(x[:, 0])


NETWORKS = [
    Network("digits", Digits, [{"image": f(2, 1, 16, 16)}]),
    Network("residuals", Residuals, [{"x": f(1, 3, 32, 32)}]),
    Network("mobile", Mobile, [{"x": f(2, 3, 16, 16)}]),
    Network("dense_blocks", DenseBlocks, [{"x": f(1, 3, 8, 8)}]),
    Network("branches", Branches, [{"x": f(1, 3, 9, 9)}]),
    Network("shuffled", Shuffled, [{"x": f(2, 3, 12, 12)}]),
    Network("hourglass", Hourglass, [{"x": f(1, 1, 16, 12)}]),
    Network("segments", Segments, [{"x": f(1, 3, 16, 16)}]),
    Network("pyramid", Pyramid, [{"x": f(1, 3, 16, 16)}]),
    Network(
        "proposals", Proposals, [{"image": f(1, 3, 32, 32), "deltas": unit(16, 4), "scores": d(16)}]
    ),
    Network("sharpened", Sharpened, [{"x": f(1, 1, 7, 9)}]),
    Network("patches", Patches, [{"x": f(2, 3, 16, 16)}]),
]
