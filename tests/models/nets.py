"""Ordinary nets with a batch axis in front: the models that a server should be fast on."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import helper
from onnx.external_data_helper import convert_model_to_external_data

from tests.models.graph import Array, build, save, value, weights

node = helper.make_node


def mlp(path: Path, inputs: int = 16, hidden: int = 32, outputs: int = 4, seed: int = 0) -> Path:
    """Two dense layers: ``x`` FP32 [batch,16] -> ``y`` FP32 [batch,4]."""
    nodes, constants = _mlp(inputs, hidden, outputs, seed)
    ends = [value("x", "FP32", ["batch", inputs])], [value("y", "FP32", ["batch", outputs])]
    return save(build(nodes, *ends, constants), path)


def mlp_fp16(path: Path, seed: int = 0) -> Path:
    """The same net in half precision throughout: ``x`` FP16 [batch,16] -> ``y`` FP16 [batch,4]."""
    nodes, constants = _mlp(16, 32, 4, seed)
    halves = {k: v.astype(np.float16) for k, v in constants.items()}
    ends = [value("x", "FP16", ["batch", 16])], [value("y", "FP16", ["batch", 4])]
    return save(build(nodes, *ends, halves), path)


def mlp_external_data(path: Path, seed: int = 0) -> Path:
    """``mlp`` with its weights in a second file, ``<path>.data``, beside the model."""
    nodes, constants = _mlp(16, 32, 4, seed)
    ends = [value("x", "FP32", ["batch", 16])], [value("y", "FP32", ["batch", 4])]
    model = build(nodes, *ends, constants)
    path.parent.mkdir(parents=True, exist_ok=True)
    convert_model_to_external_data(model, location=f"{path.name}.data", size_threshold=0)
    beside = path.with_name(f"{path.name}.data")
    beside.unlink(missing_ok=True)
    onnx.save_model(model, str(path))
    return path


def mlp_whole_numbers(path: Path, seed: int = 0) -> Path:
    """``mlp`` with whole numbers from -4 to 4 for weights: exact on inputs that are whole, too.

    With inputs from -8 to 8 no sum is beyond 2**17, and FP32 adds whole numbers up to 2**24
    without rounding: the answer is the same in whatever order an engine adds.
    """
    rng = np.random.default_rng(seed)
    nodes, constants = _mlp(16, 32, 4, seed)
    whole = {k: rng.integers(-4, 5, v.shape).astype(np.float32) for k, v in constants.items()}
    ends = [value("x", "FP32", ["batch", 16])], [value("y", "FP32", ["batch", 4])]
    return save(build(nodes, *ends, whole), path)


def _mlp(
    inputs: int, hidden: int, outputs: int, seed: int
) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    rng = np.random.default_rng(seed)
    constants: dict[str, Array] = {
        "w1": weights(rng, inputs, hidden),
        "b1": weights(rng, hidden),
        "w2": weights(rng, hidden, outputs),
        "b2": weights(rng, outputs),
    }
    nodes = [
        node("Gemm", ["x", "w1", "b1"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "w2", "b2"], ["y"]),
    ]
    return nodes, constants


def mlp_int8_static(path: Path, seed: int = 0) -> Path:
    """One dense layer on int8 weights with scales fixed beforehand (QDQ form).

    ``x`` FP32 [batch,16] -> ``y`` FP32 [batch,4]; a row's answer does not depend on its batch.
    """
    rng = np.random.default_rng(seed)
    constants: dict[str, Array] = {
        "x_scale": np.array(4 / 127, np.float32),
        "w_scale": np.array(1 / 127, np.float32),
        "zero": np.array(0, np.int8),
        "w8": np.clip(np.round(weights(rng, 16, 4) * 127), -127, 127).astype(np.int8),
    }
    nodes = [
        node("QuantizeLinear", ["x", "x_scale", "zero"], ["x8"]),
        node("DequantizeLinear", ["x8", "x_scale", "zero"], ["xq"]),
        node("DequantizeLinear", ["w8", "w_scale", "zero"], ["wq"]),
        node("MatMul", ["xq", "wq"], ["y"]),
    ]
    ends = [value("x", "FP32", ["batch", 16])], [value("y", "FP32", ["batch", 4])]
    return save(build(nodes, *ends, constants), path)


def mlp_int8_dynamic(path: Path, seed: int = 0) -> Path:
    """One dense layer that picks its int8 scale from the whole input tensor at run time.

    ``x`` FP32 [batch,16] -> ``y`` FP32 [batch,4]. One scale serves the whole batch, so a row's
    answer moves a little with the rows beside it: batching is right only within a tolerance.
    """
    rng = np.random.default_rng(seed)
    constants: dict[str, Array] = {
        "w_scale": np.array(1 / 127, np.float32),
        "w_zero": np.array(0, np.int8),
        "w8": np.clip(np.round(weights(rng, 16, 4) * 127), -127, 127).astype(np.int8),
    }
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["x8", "x_scale", "x_zero"]),
        node("MatMulInteger", ["x8", "w8", "x_zero", "w_zero"], ["y32"]),
        node("Cast", ["y32"], ["yf"], to=1),
        node("Mul", ["x_scale", "w_scale"], ["scale"]),
        node("Mul", ["yf", "scale"], ["y"]),
    ]
    ends = [value("x", "FP32", ["batch", 16])], [value("y", "FP32", ["batch", 4])]
    return save(build(nodes, *ends, constants), path)


def lenet(path: Path, seed: int = 0) -> Path:
    """LeNet-5: ``image`` FP32 [batch,1,32,32] -> ``logits`` FP32 [batch,10]."""
    rng = np.random.default_rng(seed)

    def kernel(out: int, into: int) -> Array:
        return weights(rng, into * 25, out).T.reshape(out, into, 5, 5)

    constants: dict[str, Array] = {"c1": kernel(6, 1), "c2": kernel(16, 6)}
    sizes = (400, 120, 84, 10)
    for i, (fan_in, out) in enumerate(pairwise(sizes), start=1):
        constants[f"w{i}"], constants[f"b{i}"] = weights(rng, fan_in, out), weights(rng, out)
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        node("Conv", ["image", "c1"], ["conv1"], kernel_shape=[5, 5]),
        node("Relu", ["conv1"], ["relu1"]),
        node("MaxPool", ["relu1"], ["pool1"], **pool),
        node("Conv", ["pool1", "c2"], ["conv2"], kernel_shape=[5, 5]),
        node("Relu", ["conv2"], ["relu2"]),
        node("MaxPool", ["relu2"], ["pool2"], **pool),
        node("Flatten", ["pool2"], ["flat"]),
        node("Gemm", ["flat", "w1", "b1"], ["dense1"]),
        node("Relu", ["dense1"], ["relu3"]),
        node("Gemm", ["relu3", "w2", "b2"], ["dense2"]),
        node("Relu", ["dense2"], ["relu4"]),
        node("Gemm", ["relu4", "w3", "b3"], ["logits"]),
    ]
    ends = [value("image", "FP32", ["batch", 1, 32, 32])], [value("logits", "FP32", ["batch", 10])]
    return save(build(nodes, *ends, constants), path)
