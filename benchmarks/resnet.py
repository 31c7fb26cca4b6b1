"""ResNet-50 as PyTorch's exporter writes it (batch norms folded), with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from tests.models.graph import Array, build, save, value, weights

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""(width, blocks, stride of the first block) of each stage; He et al., 2015, table 1."""

EXPANSION = 4
RESIDUAL_GAIN = 0.2  # there is no batch norm to tame 16 additions in a row


class _Net:
    """Collects nodes and weights; every method returns the name of the tensor it produced."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        out = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def conv(
        self, x: str, into: int, out: int, size: int, stride: int, gain: float = 2**0.5
    ) -> str:
        name = f"conv_{len(self.nodes)}"
        kernel = weights(self.rng, into * size * size, out).T.reshape(out, into, size, size)
        self.constants[f"{name}.weight"] = kernel * np.float32(gain)
        self.constants[f"{name}.bias"] = np.zeros(out, np.float32)
        shape = {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": [size // 2] * 4}
        return self.op("Conv", x, f"{name}.weight", f"{name}.bias", **shape)

    def block(self, x: str, into: int, width: int, stride: int) -> str:
        """One bottleneck: 1x1, 3x3 (which carries the stride), 1x1, and the way around them."""
        out = width * EXPANSION
        y = self.op("Relu", self.conv(x, into, width, 1, 1))
        y = self.op("Relu", self.conv(y, width, width, 3, stride))
        y = self.conv(y, width, out, 1, 1, RESIDUAL_GAIN)
        around = x if into == out and stride == 1 else self.conv(x, into, out, 1, stride, 1.0)
        return self.op("Relu", self.op("Add", y, around))


def resnet50(path: Path, seed: int = 0) -> Path:
    """Write it to ``path``: ``image`` FP32 [batch,3,224,224] -> ``logits`` FP32 [batch,1000].

    53 convolutions, 25.5 million weights (102 MB), 4.1 billion multiplications a row.
    """
    net = _Net(seed)
    x = net.op("Relu", net.conv("image", 3, 64, 7, 2))
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    into = 64
    for width, blocks, stride in STAGES:
        for index in range(blocks):
            x = net.block(x, into, width, stride if index == 0 else 1)
            into = width * EXPANSION
    flat = net.op("Flatten", net.op("GlobalAveragePool", x), axis=1)
    net.constants["fc.weight"] = weights(net.rng, into, 1000)
    net.constants["fc.bias"] = np.zeros(1000, np.float32)
    net.nodes.append(helper.make_node("Gemm", [flat, "fc.weight", "fc.bias"], ["logits"]))
    inputs = [value("image", "FP32", ["batch", 3, 224, 224])]
    outputs = [value("logits", "FP32", ["batch", 1000])]
    return save(build(net.nodes, inputs, outputs, net.constants), path)
