"""Models whose output sizes or kinds are not what a tensor declaration can say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from tests.models.graph import Array, build, save, value

node = helper.make_node


def non_zero(path: Path) -> Path:
    """``x`` FP32 [n] -> ``where`` INT64 [1,found]: the size depends on the values."""
    ends = [value("x", "FP32", ["n"])], [value("where", "INT64", [1, "found"])]
    return save(build([node("NonZero", ["x"], ["where"])], *ends), path)


def non_max_suppression(path: Path) -> Path:
    """``boxes`` FP32 [batch,n,4], ``scores`` FP32 [batch,1,n] -> ``picked`` INT64 [picked,3].

    Keeps up to 10 boxes a row that overlap by at most half. ``picked`` holds (row, class, box),
    so its first axis is not the batch and its first column counts rows of the run.
    """
    constants: dict[str, Array] = {
        "most": np.array([10], np.int64),
        "overlap": np.array([0.5], np.float32),
        "least": np.array([0.1], np.float32),
    }
    nodes = [node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], ["picked"])]
    inputs = [value("boxes", "FP32", ["batch", "n", 4]), value("scores", "FP32", ["batch", 1, "n"])]
    return save(build(nodes, inputs, [value("picked", "INT64", ["picked", 3])], constants), path)


def zip_map(path: Path) -> Path:
    """A linear classifier as scikit-learn's exporter writes it, with a sequence of maps.

    ``features`` FP32 [batch,4] -> ``label`` BYTES [batch] (``ham`` or ``spam``),
    ``probabilities`` sequence(map(string, float)), one map a row. ``spam`` wins where the sum of
    the features is positive.
    """
    nodes = [
        node(
            "LinearClassifier",
            ["features"],
            ["label", "scores"],
            domain="ai.onnx.ml",
            classlabels_strings=["ham", "spam"],
            coefficients=[-1.0] * 4 + [1.0] * 4,
            intercepts=[0.0, 0.0],
            post_transform="SOFTMAX",
        ),
        node(
            "ZipMap",
            ["scores"],
            ["probabilities"],
            domain="ai.onnx.ml",
            classlabels_strings=["ham", "spam"],
        ),
    ]
    score = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    rows = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.STRING, score))
    outputs = [
        value("label", "BYTES", ["batch"]),
        helper.make_value_info("probabilities", rows),
    ]
    inputs = [value("features", "FP32", ["batch", 4])]
    return save(build(nodes, inputs, outputs, domains={"ai.onnx.ml": 1}), path)


def sequence(path: Path) -> Path:
    """Cuts ``x`` FP32 [batch,4] into ``parts``, a sequence of tensors FP32 [4], one a row."""
    nodes = [node("SplitToSequence", ["x"], ["parts"], axis=0, keepdims=0)]
    part = helper.make_tensor_type_proto(TensorProto.FLOAT, [4])
    outputs = [helper.make_value_info("parts", helper.make_sequence_type_proto(part))]
    return save(build(nodes, [value("x", "FP32", ["batch", 4])], outputs), path)


def misdeclared(path: Path) -> Path:
    """Declares ``y`` FP32 [batch,3] and returns [batch,3,3] (rank 3): the file is wrong.

    onnxruntime only warns, because the input's rank is not declared. ``x`` FP32 of any shape
    [batch,3] -> the outer product of each row with itself.
    """
    constants = {"last": np.array([-1], np.int64), "middle": np.array([-2], np.int64)}
    nodes = [
        node("Unsqueeze", ["x", "last"], ["column"]),
        node("Unsqueeze", ["x", "middle"], ["row"]),
        node("Mul", ["column", "row"], ["y"]),
    ]
    ends = [value("x", "FP32", None)], [value("y", "FP32", ["batch", 3])]
    return save(build(nodes, *ends, constants), path)
