"""A network of the shape of ResNet-50 with weights of chance: 53 convolutions, 25.5 M weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from tests.models.graph import Array, build, save, value

_STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))
"""Blocks, width and first stride of each stage."""
_WIDER = 4
CLASSES = 1000


class _Net:
    """Collects nodes and weights; every method returns the name it produced."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        out = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def stored(self, values: Array) -> str:
        name = f"w{len(self.constants)}"
        self.constants[name] = np.asarray(values, np.float32)
        return name

    def conv(self, x: str, into: int, out: int, size: int, stride: int = 1) -> str:
        """Convolve and normalise, as frameworks export it before anything is folded."""
        scale = 1 / np.sqrt(into * size * size)
        kernel = self.stored(self.rng.standard_normal((out, into, size, size)) * scale)
        pads = [size // 2] * 4
        sizes = {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": pads}
        y = self.op("Conv", x, kernel, **sizes)
        norm = [self.stored(np.full(out, fill)) for fill in (1.0, 0.0, 0.0, 1.0)]
        return self.op("BatchNormalization", y, *norm, epsilon=1e-5)

    def block(self, x: str, into: int, width: int, stride: int) -> str:
        out = width * _WIDER
        y = self.op("Relu", self.conv(x, into, width, 1))
        y = self.op("Relu", self.conv(y, width, width, 3, stride))
        y = self.conv(y, width, out, 1)
        if into != out:
            x = self.conv(x, into, out, 1, stride)
        return self.op("Relu", self.op("Add", x, y))


def residual_net(path: Path, seed: int = 0) -> Path:
    """Write it: ``image`` FP32 [batch,3,224,224] -> ``logits`` FP32 [batch,1000]."""
    net = _Net(seed)
    x = net.op("Relu", net.conv("image", 3, 64, 7, 2))
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    into = 64
    for blocks, width, first in _STAGES:
        for index in range(blocks):
            x = net.block(x, into, width, first if index == 0 else 1)
            into = width * _WIDER
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    head = net.stored(net.rng.standard_normal((into, CLASSES)) / np.sqrt(into))
    bias = net.stored(np.zeros(CLASSES))
    nodes = [*net.nodes, helper.make_node("Gemm", [x, head, bias], ["logits"])]
    inputs = [value("image", "FP32", ["batch", 3, 224, 224])]
    outputs = [value("logits", "FP32", ["batch", CLASSES])]
    return save(build(nodes, inputs, outputs, net.constants), path)
