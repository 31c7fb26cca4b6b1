"""Train the digits servable and write its model and an example; numpy, nothing heavier.

    python servables/digits/train.py

A small convolutional net on scikit-learn's 8x8 digits: 3x3 convolution to 16 channels, 3x3
convolution to 32, 2x2 max pooling, 64 hidden units, 10 classes. Trained with Adam for a fixed
number of epochs from a fixed seed; nothing is tuned or stopped by looking at the held-out digits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
Params = dict[str, Floats]

HERE = Path(__file__).resolve().parent
SEED = 2020
EPOCHS = 30
ROWS = 32
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-4
HELD_OUT_EVERY = 5
PIXEL_MAX = 16.0
SAMPLE = 7  # which held-out digit sample.json carries


@dataclass(frozen=True)
class Digits:
    """Images FP32 [n,1,8,8] with pixel values 0..16, and their labels INT64 [n]."""

    images: Floats
    labels: Labels


def split() -> tuple[Digits, Digits]:
    """Return (training, held-out): every fifth digit of the set, from the first, is held out."""
    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float32).reshape(-1, 1, 8, 8)
    labels = labels.astype(np.int64)
    held = np.arange(len(labels)) % HELD_OUT_EVERY == 0
    return Digits(images[~held], labels[~held]), Digits(images[held], labels[held])


def initial(rng: np.random.Generator) -> Params:
    """Return He-normal weights and zero biases; convolutions are stored as [in*3*3, out]."""

    def weights(fan_in: int, out: int) -> Floats:
        spread = np.float32(np.sqrt(2.0 / fan_in))
        return np.asarray(rng.standard_normal((fan_in, out)) * spread, np.float32)

    shapes = {"conv1": (9, 16), "conv2": (16 * 9, 32), "hidden": (32 * 16, 64), "out": (64, 10)}
    params: Params = {}
    for name, (fan_in, out) in shapes.items():
        params[f"{name}.weight"] = weights(fan_in, out)
        params[f"{name}.bias"] = np.zeros(out, np.float32)
    return params


def patches(x: Floats) -> Floats:
    """Return the 3x3 neighbourhoods of ``x`` [n,c,8,8], zero padded, as [n*64, c*9]."""
    n, c = x.shape[:2]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = sliding_window_view(padded, (3, 3), axis=(2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * 64, c * 9)


def fold(columns: Floats, n: int, c: int) -> Floats:
    """Add gradients of patches [n*64, c*9] back onto the [n,c,8,8] image they came from."""
    parts = columns.reshape(n, 8, 8, c, 3, 3).transpose(0, 3, 4, 5, 1, 2)
    padded = np.zeros((n, c, 10, 10), np.float32)
    for dy in range(3):
        for dx in range(3):
            padded[:, :, dy : dy + 8, dx : dx + 8] += parts[:, :, dy, dx]
    return padded[:, :, 1:9, 1:9]


def to_image(columns: Floats, n: int) -> Floats:
    """Return [n*64, c] as [n,c,8,8]."""
    return columns.reshape(n, 8, 8, -1).transpose(0, 3, 1, 2)


def gradients(params: Params, x: Floats, labels: Labels) -> Params:
    """Return the gradient of the mean cross entropy for images [n,1,8,8] scaled to 0..1."""
    n = len(x)
    cols1 = patches(x)
    act1 = np.maximum(cols1 @ params["conv1.weight"] + params["conv1.bias"], 0)
    cols2 = patches(to_image(act1, n))
    act2 = np.maximum(cols2 @ params["conv2.weight"] + params["conv2.bias"], 0)
    quads = to_image(act2, n).reshape(n, 32, 4, 2, 4, 2).transpose(0, 1, 2, 4, 3, 5)
    quads = quads.reshape(n, 32, 4, 4, 4)
    winner = quads.argmax(axis=-1)[..., None]
    flat = np.take_along_axis(quads, winner, axis=-1).reshape(n, -1)
    act3 = np.maximum(flat @ params["hidden.weight"] + params["hidden.bias"], 0)
    logits = act3 @ params["out.weight"] + params["out.bias"]

    logits -= logits.max(axis=1, keepdims=True)
    d_logits = np.exp(logits)
    d_logits /= d_logits.sum(axis=1, keepdims=True)
    d_logits[np.arange(n), labels] -= 1
    d_logits /= n
    d_act3 = (d_logits @ params["out.weight"].T) * (act3 > 0)
    d_flat = d_act3 @ params["hidden.weight"].T
    d_quads = np.zeros_like(quads)
    np.put_along_axis(d_quads, winner, d_flat.reshape(n, 32, 4, 4, 1), axis=-1)
    d_image = d_quads.reshape(n, 32, 4, 4, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, 32, 8, 8)
    d_act2 = d_image.transpose(0, 2, 3, 1).reshape(n * 64, 32) * (act2 > 0)
    d_cols2 = d_act2 @ params["conv2.weight"].T
    d_act1 = fold(d_cols2, n, 16).transpose(0, 2, 3, 1).reshape(n * 64, 16) * (act1 > 0)

    pairs = {
        "conv1": (cols1, d_act1),
        "conv2": (cols2, d_act2),
        "hidden": (flat, d_act3),
        "out": (act3, d_logits),
    }
    grads: Params = {}
    for name, (inputs, d_outputs) in pairs.items():
        grads[f"{name}.weight"] = inputs.T @ d_outputs
        grads[f"{name}.bias"] = d_outputs.sum(axis=0)
    return grads


def train(digits: Digits, seed: int = SEED, epochs: int = EPOCHS) -> Params:
    """Return weights after ``epochs`` passes of AdamW, the rate falling along a cosine to zero."""
    rng = np.random.default_rng(seed)
    params = initial(rng)
    first = {k: np.zeros_like(v) for k, v in params.items()}
    second = {k: np.zeros_like(v) for k, v in params.items()}
    images = digits.images / np.float32(PIXEL_MAX)
    per_epoch = -(-len(images) // ROWS)
    for step in range(epochs * per_epoch):
        if step % per_epoch == 0:
            order = rng.permutation(len(images))
        at = step % per_epoch * ROWS
        rows = order[at : at + ROWS]
        rate = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * step / (epochs * per_epoch)))
        for name, grad in gradients(params, images[rows], digits.labels[rows]).items():
            first[name] += 0.1 * (grad - first[name])
            second[name] += 0.001 * (grad * grad - second[name])
            mean = first[name] / (1 - 0.9 ** (step + 1))
            spread = np.sqrt(second[name] / (1 - 0.999 ** (step + 1))) + 1e-8
            decay = WEIGHT_DECAY if name.endswith("weight") else 0.0
            params[name] -= (rate * (mean / spread + decay * params[name])).astype(np.float32)
    return params


def to_onnx(params: Params) -> onnx.ModelProto:
    """Return the trained net as ONNX; it takes raw pixels and scales them itself."""
    kernels = {
        "conv1.weight": params["conv1.weight"].T.reshape(16, 1, 3, 3),
        "conv2.weight": params["conv2.weight"].T.reshape(32, 16, 3, 3),
    }
    constants: Params = {**params, **kernels, "scale": np.array(1 / PIXEL_MAX, np.float32)}
    node = helper.make_node
    pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        node("Mul", ["image", "scale"], ["scaled"]),
        node("Conv", ["scaled", "conv1.weight", "conv1.bias"], ["conv1"], **pads),
        node("Relu", ["conv1"], ["relu1"]),
        node("Conv", ["relu1", "conv2.weight", "conv2.bias"], ["conv2"], **pads),
        node("Relu", ["conv2"], ["relu2"]),
        node("MaxPool", ["relu2"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["pooled"], ["flat"], axis=1),
        node("Gemm", ["flat", "hidden.weight", "hidden.bias"], ["hidden"]),
        node("Relu", ["hidden"], ["relu3"]),
        node("Gemm", ["relu3", "out.weight", "out.bias"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"], axis=1),
        node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "digits",
        [value("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [
            value("probabilities", TensorProto.FLOAT, ["batch", 10]),
            value("label", TensorProto.INT64, ["batch"]),
        ],
        [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in constants.items()],
        doc_string="8x8 handwritten digits; pixel values 0 (paper) to 16 (ink)",
    )
    model = helper.make_model(
        graph,
        producer_name="serving-digits",
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def predict(params: Params, images: Floats) -> Labels:
    """Return the label of each image [n,1,8,8] of raw pixels, computed by numpy alone."""
    n = len(images)
    x = images / np.float32(PIXEL_MAX)
    act1 = np.maximum(patches(x) @ params["conv1.weight"] + params["conv1.bias"], 0)
    act2 = patches(to_image(act1, n)) @ params["conv2.weight"] + params["conv2.bias"]
    pooled = np.maximum(to_image(act2, n), 0).reshape(n, 32, 4, 2, 4, 2).max(axis=(3, 5))
    hidden = pooled.reshape(n, -1) @ params["hidden.weight"] + params["hidden.bias"]
    logits = np.maximum(hidden, 0) @ params["out.weight"] + params["out.bias"]
    return np.asarray(logits.argmax(axis=1), np.int64)


def sample(held_out: Digits) -> tuple[str, str]:
    """Return the body of ``POST /predict`` for one held-out digit, and its right answer."""
    image = held_out.images[SAMPLE].astype(int).tolist()
    body = {"servable": "digits", "instances": [{"image": image}]}
    answer = {"instances": [{"label": int(held_out.labels[SAMPLE])}]}
    return json.dumps(body, separators=(",", ":")) + "\n", json.dumps(answer) + "\n"


def main() -> None:
    """Train, print the held-out accuracy, write ``1/model.onnx`` and the two JSON files."""
    training, held_out = split()
    # One thread: the order of additions, and so every weight, is then the same on each run.
    with threadpool_limits(limits=1):
        params = train(training)
        right = int((predict(params, held_out.images) == held_out.labels).sum())
    total = len(held_out.labels)
    print(f"held-out accuracy: {right}/{total} = {right / total:.2%}")
    (HERE / "1").mkdir(exist_ok=True)
    (HERE / "1" / "model.onnx").write_bytes(to_onnx(params).SerializeToString(deterministic=True))
    body, answer = sample(held_out)
    (HERE / "sample.json").write_text(body)
    (HERE / "answer.json").write_text(answer)
    print(f"sample.json holds a {held_out.labels[SAMPLE]}")


if __name__ == "__main__":
    main()
