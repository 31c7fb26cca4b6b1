"""The model repository that ships with the project answers rightly, engine alone."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest

SERVABLES = Path(__file__).resolve().parents[2] / "servables"
DIGITS = SERVABLES / "digits"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("digits_train", DIGITS / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up while it is being executed
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "digits_train", module)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    model = str(DIGITS / "1" / "model.onnx")
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def test_digits_recognises_over_98_percent_of_held_out(script, session):
    training, held_out = script.split()
    assert (len(training.labels), len(held_out.labels)) == (1437, 360)
    probabilities, label = session.run(["probabilities", "label"], {"image": held_out.images})
    assert (label == held_out.labels).mean() > 0.98
    np.testing.assert_array_equal(probabilities.argmax(axis=1), label)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_digits_sample_is_a_held_out_digit_and_gets_its_label(script, session):
    body = json.loads((DIGITS / "sample.json").read_text())
    assert body["servable"] == "digits"
    (instance,) = body["instances"]
    image = np.array([instance["image"]], np.float32)
    _, held_out = script.split()
    same = (held_out.images == image).all(axis=(1, 2, 3))
    assert same.sum() == 1
    (label,) = session.run(["label"], {"image": image})
    assert label.tolist() == held_out.labels[same].tolist()


def test_digits_signature_is_the_documented_one(session):
    def described(values):
        return [(v.name, v.type, v.shape) for v in values]

    assert described(session.get_inputs()) == [("image", "tensor(float)", ["batch", 1, 8, 8])]
    assert described(session.get_outputs()) == [
        ("probabilities", "tensor(float)", ["batch", 10]),
        ("label", "tensor(int64)", ["batch"]),
    ]


def test_digits_file_loads_in_older_engines(session):
    model = onnx.load(DIGITS / "1" / "model.onnx")
    assert model.ir_version <= 10
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert model.producer_name == "serving-digits"
    assert (DIGITS / "1" / "model.onnx").stat().st_size < 200_000


def test_digits_rows_do_not_depend_on_their_batch(script, session):
    images = script.split()[1].images[:8]
    (together,) = session.run(["probabilities"], {"image": images})
    for i, row in enumerate(together):
        (alone,) = session.run(["probabilities"], {"image": images[i : i + 1]})
        np.testing.assert_allclose(alone[0], row, atol=1e-6)


def test_digits_training_gradients_match_differences_of_the_loss(script):
    """Compare the hand-written backward pass with differences of the loss, weight by weight."""
    rng = np.random.default_rng(1)
    params = {k: v.astype(np.float64) for k, v in script.initial(rng).items()}
    # noise, not digits: on blank paper ReLU stands on its kink and has no derivative
    images, labels = rng.random((4, 1, 8, 8)), np.array([3, 1, 4, 1])
    grads = script.gradients(params, images, labels)

    def loss() -> float:
        n = len(images)
        x = script.patches(images) @ params["conv1.weight"] + params["conv1.bias"]
        x = script.patches(script.to_image(np.maximum(x, 0), n))
        x = np.maximum(x @ params["conv2.weight"] + params["conv2.bias"], 0)
        x = script.to_image(x, n).reshape(n, 32, 4, 2, 4, 2).max(axis=(3, 5)).reshape(n, -1)
        x = np.maximum(x @ params["hidden.weight"] + params["hidden.bias"], 0)
        x = x @ params["out.weight"] + params["out.bias"]
        return float(-(x[np.arange(n), labels] - np.log(np.exp(x).sum(axis=1))).mean())

    for name, grad in grads.items():
        at = np.unravel_index(np.abs(grad).argmax(), grad.shape)
        before = params[name][at]
        params[name][at] = before + 1e-5
        above = loss()
        params[name][at] = before - 1e-5
        below = loss()
        params[name][at] = before
        assert (above - below) / 2e-5 == pytest.approx(grad[at], rel=1e-2), name
