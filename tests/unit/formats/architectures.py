"""Whole networks as exporters write them, each one expected to be batchable."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from tests.unit.formats.nets import INT64, STRING, constant, model, node, tensor, weights

ML = "ai.onnx.ml"


def mlp() -> onnx.ModelProto:
    nodes = [
        node("Gemm", ["x", "w1", "b1"], ["h"], "fc1"),
        node("Relu", ["h"], ["r"], "relu"),
        node("Gemm", ["r", "w2", "b2"], ["y"], "fc2", transB=1),
        node("Softmax", ["y"], ["p"], "softmax", axis=-1),
    ]
    constants = [weights("w1", 4, 8), weights("b1", 8), weights("w2", 3, 8), weights("b2", 3)]
    return model(nodes, [tensor("x", ["batch", 4])], [tensor("p", ["batch", 3])], constants)


def lenet() -> onnx.ModelProto:
    """A LeNet whose flattening is Reshape to [-1, 64]."""
    nodes = [
        node("Conv", ["x", "k1", "c1"], ["a"], "conv1", kernel_shape=[3, 3]),
        node("Relu", ["a"], ["ar"]),
        node("MaxPool", ["ar"], ["ap"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["ap", "k2"], ["b"], "conv2", kernel_shape=[2, 2]),
        node("AveragePool", ["b"], ["bp"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Reshape", ["bp", "shape"], ["f"], "flatten"),
        node("MatMul", ["f", "w"], ["g"], "fc"),
        node("Add", ["g", "bias"], ["y"]),
    ]
    constants = [
        weights("k1", 4, 1, 3, 3), weights("c1", 4), weights("k2", 16, 4, 2, 2),
        constant("shape", [-1, 64]), weights("w", 64, 10), weights("bias", 10),
    ]  # fmt: skip
    return model(nodes, [tensor("x", ["N", 1, 12, 12])], ["y"], constants, opset=13)


def residual_cnn() -> onnx.ModelProto:
    """Convolution, frozen batch norm, a residual sum, global pooling and Flatten."""
    nodes = [
        node("Conv", ["x", "k1"], ["a"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["a", "g", "o", "m", "v"], ["n"], "bn"),
        node("HardSwish", ["n"], ["h"]),
        node("Conv", ["h", "k2"], ["b"], pads=[1, 1, 1, 1]),
        node("Add", ["b", "h"], ["s"], "residual"),
        node("Clip", ["s", "zero", "six"], ["c"]),
        node("GlobalAveragePool", ["c"], ["p"]),
        node("Flatten", ["p"], ["f"], axis=1),
        node("Gemm", ["f", "w", "bias"], ["y"]),
    ]
    constants = [
        weights("k1", 6, 3, 3, 3), weights("k2", 6, 6, 3, 3), weights("g", 6), weights("o", 6),
        weights("m", 6), constant("v", np.ones(6)), weights("w", 6, 5), weights("bias", 5),
        constant("zero", np.float32(0)), constant("six", np.float32(6)),
    ]  # fmt: skip
    return model(nodes, [tensor("x", ["unk__12", 3, "h", "w"])], ["y"], constants)


def _length(nodes: list[onnx.NodeProto], of: str, axis: int, to: str) -> str:
    """Shape, Gather and Unsqueeze, as PyTorch's exporter writes ``x.size(axis)``."""
    nodes += [
        node("Shape", [of], [f"{to}_shape"]),
        node("Gather", [f"{to}_shape", f"index{axis}"], [f"{to}_number"], axis=0),
        node("Unsqueeze", [f"{to}_number", "index0v"], [to]),
    ]
    return to


def transformer(merged: bool = False) -> onnx.ModelProto:
    """An encoder block with dynamic batch and length; ``merged`` projects [batch * time, d]."""
    nodes: list[onnx.NodeProto] = [node("Gather", ["table", "ids"], ["embedded"])]
    batch, time = _length(nodes, "ids", 0, "n"), _length(nodes, "ids", 1, "t")
    nodes += [
        node("Slice", ["positions", "index0v", time, "index1v"], ["place"]),
        node("Add", ["embedded", "place"], ["x"]),
        node("Concat", [batch, time, "heads", "width"], ["split_heads"], axis=0),
        node("Concat", [batch, time, "eight"], ["together"], axis=0),
        node("Concat", ["minus", "eight"], ["flat"], axis=0),
    ]
    for name in "qkv":
        source = "x"
        if merged:
            nodes.append(node("Reshape", ["x", "flat"], [f"{name}_flat"], f"{name}/merge"))
            source = f"{name}_flat"
        nodes += [
            node("MatMul", [source, f"w{name}"], [f"{name}_raw"], f"{name}/MatMul"),
            node("Add", [f"{name}_raw", "bias"], [f"{name}_sum"]),
            node("Reshape", [f"{name}_sum", "split_heads"], [f"{name}_heads"], f"{name}/split"),
            node("Transpose", [f"{name}_heads"], [name], perm=[0, 2, 1, 3]),
        ]
    nodes += [
        node("Transpose", ["k"], ["k_turned"], perm=[0, 1, 3, 2]),
        node("MatMul", ["q", "k_turned"], ["scores"], "scores"),
        node("Div", ["scores", "two"], ["scaled"]),
        node("Unsqueeze", ["mask", "index12v"], ["mask4"]),
        node("Cast", ["mask4"], ["mask_real"], to=1),
        node("Sub", ["one", "mask_real"], ["hidden"]),
        node("Mul", ["hidden", "low"], ["bias4"]),
        node("Add", ["scaled", "bias4"], ["masked"]),
        node("Softmax", ["masked"], ["weights"], "attn/Softmax", axis=-1),
        node("MatMul", ["weights", "v"], ["mixed"]),
        node("Transpose", ["mixed"], ["turned"], perm=[0, 2, 1, 3]),
        node("Reshape", ["turned", "together" if merged else "keep"], ["joined"], "attn/join"),
        node("Add", ["joined", "x"], ["sum"]),
        node("LayerNormalization", ["sum", "scale", "bias"], ["y"], axis=-1),
    ]
    constants = [
        weights("table", 20, 8), weights("positions", 1, 16, 8), weights("wq", 8, 8),
        weights("wk", 8, 8), weights("wv", 8, 8), weights("bias", 8), weights("scale", 8),
        constant("heads", [2]), constant("width", [4]), constant("eight", [8]),
        constant("minus", [-1]), constant("keep", [0, 0, -1]),
        constant("index0", 0), constant("index1", 1), constant("index0v", [0]),
        constant("index1v", [1]), constant("index12v", [1, 2]),
        constant("two", np.float32(2)), constant("one", np.float32(1)),
        constant("low", np.float32(-1e4)),
    ]  # fmt: skip
    inputs = [
        tensor("ids", ["batch", "sequence"], INT64), tensor("mask", ["batch", "sequence"], INT64)
    ]  # fmt: skip
    return model(nodes, inputs, ["y"], constants)


def pipeline() -> onnx.ModelProto:
    """Scaled numbers and an encoded category into a classifier with ZipMap, as skl2onnx has it."""
    nodes = [
        node("Concat", ["length", "depth"], ["numbers"], axis=1),
        node("Imputer", ["numbers"], ["filled"], domain=ML, imputed_value_floats=[0.0, 0.0]),
        node("Scaler", ["filled"], ["scaled"], domain=ML, offset=[1.0, 2.0], scale=[0.5, 0.25]),
        node("OneHotEncoder", ["island"], ["hot"], domain=ML, cats_strings=["a", "b", "c"]),
        node("Reshape", ["hot", "table"], ["coded"]),
        node("Concat", ["scaled", "coded"], ["features"], axis=1),
        node(
            "LinearClassifier", ["features"], ["found", "scores"], domain=ML,
            coefficients=np.linspace(-1, 1, 15).tolist(), intercepts=[0.1, 0.0, -0.1],
            classlabels_ints=[0, 1, 2], post_transform="SOFTMAX",
        ),
        node("Normalizer", ["scores"], ["normal"], domain=ML, norm="L1"),
        node("Cast", ["found"], ["number"], to=INT64),
        node("ArrayFeatureExtractor", ["names", "number"], ["named"], domain=ML),
        node("Reshape", ["named", "vector"], ["label"]),
        node(
            "ZipMap", ["normal"], ["probabilities"], domain=ML,
            classlabels_strings=["p", "q", "r"],
        ),
    ]  # fmt: skip
    inputs = [tensor("length", [None, 1]), tensor("depth", [None, 1])]
    inputs.append(tensor("island", [None, 1], STRING))
    mapping = helper.make_map_type_proto(STRING, helper.make_tensor_type_proto(1, []))
    zipped = helper.make_value_info("probabilities", helper.make_sequence_type_proto(mapping))
    names = helper.make_tensor("names", STRING, [3], [b"p", b"q", b"r"])
    constants = [names, constant("table", [-1, 3]), constant("vector", [-1])]
    return model(nodes, inputs, [tensor("label", [None], STRING), zipped], constants)


def trees() -> onnx.ModelProto:
    attributes = {
        "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [1, 0, 0],
        "nodes_values": [0.0, 0.0, 0.0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0], "target_nodeids": [1, 2], "target_ids": [0, 0],
        "target_weights": [1.5, -2.5], "n_targets": 1,
    }  # fmt: skip
    nodes = [node("TreeEnsembleRegressor", ["x"], ["y"], "trees", domain=ML, **attributes)]
    return model(nodes, [tensor("x", ["rows", 3])], [tensor("y", ["rows", 1])])


def recurrent() -> onnx.ModelProto:
    """Batch first outside, time first inside, with a first state made from the batch's size."""
    nodes = [
        node("Transpose", ["x"], ["timed"], perm=[1, 0, 2]),
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"], axis=0),
        node("Concat", ["one", "n", "three"], ["state_shape"], axis=0),
        node("ConstantOfShape", ["state_shape"], ["state"]),
        node("LSTM", ["timed", "w", "r", "b", "", "state", "state"], ["all", "last"], "lstm",
             hidden_size=3),
        node("Squeeze", ["all", "one"], ["path"]),
        node("Transpose", ["path"], ["y"], perm=[1, 0, 2]),
        node("Squeeze", ["last", "zero"], ["end"]),
    ]  # fmt: skip
    constants = [
        weights("w", 1, 12, 2), weights("r", 1, 12, 3), weights("b", 1, 24),
        constant("zero", [0]), constant("one", [1]), constant("three", [3]),
    ]  # fmt: skip
    return model(nodes, [tensor("x", ["batch", "time", 2])], ["y", "end"], constants)
