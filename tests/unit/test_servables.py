"""The model repository that ships with the project answers rightly, engine alone."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest

SERVABLES = Path(__file__).resolve().parents[2] / "servables"
DIGITS = SERVABLES / "digits"
SHIPPED = sorted(path.parent for path in SERVABLES.glob("*/train.py"))


def load_script(servable: str) -> ModuleType:
    """Import a servable's training script from its file."""
    name = f"{servable}_train"
    spec = importlib.util.spec_from_file_location(name, SERVABLES / servable / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up while it is being executed
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
    return module


def stated(servable: str) -> tuple[int, int]:
    """Return the accuracy that a servable's note states: how many right, of how many."""
    note = (SERVABLES / servable / "README.md").read_text()
    (found,) = re.findall(r"Accuracy on them: (\d+) of (\d+) = \*\*", note)
    return int(found[0]), int(found[1])


def open_model(servable: str) -> onnxruntime.InferenceSession:
    model = str(SERVABLES / servable / "1" / "model.onnx")
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("digits")


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    return open_model("digits")


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda p: p.name)
def test_servables_are_small_and_have_an_example_and_a_note_on_their_origin(folder: Path):
    assert (folder / "1" / "model.onnx").stat().st_size < 500_000
    assert {"README.md", "answer.json", "sample.json"} <= {p.name for p in folder.iterdir()}
    note = (folder / "README.md").read_text()
    assert note.startswith(f"# {folder.name}\n")
    for said in ("Held out", "Accuracy on them", "## Data and licence"):
        assert said in note


def test_servables_folder_holds_nothing_but_what_is_described():
    assert [p.name for p in SHIPPED] == ["digits", "language", "penguins"]
    assert [p for p in SERVABLES.iterdir() if p not in SHIPPED] == []


def test_digits_recognises_over_98_percent_of_held_out(script, session):
    training, held_out = script.split()
    assert (len(training.labels), len(held_out.labels)) == (1437, 360)
    probabilities, label = session.run(["probabilities", "label"], {"image": held_out.images})
    right = int((label == held_out.labels).sum())
    assert right / 360 > 0.98
    # another processor may round one digit over the border
    assert stated("digits") == (pytest.approx(right, abs=1), 360)
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


def test_penguins_recognises_over_95_percent_of_held_out():
    script, session = load_script("penguins"), open_model("penguins")
    training, held_out = script.split()
    assert (len(training), len(held_out)) == (273, 69)
    species, probabilities = session.run(["species", "probabilities"], script.columns(held_out))
    right = sum(found == row["species"] for found, row in zip(species, held_out, strict=True))
    assert right / len(held_out) > 0.95
    assert stated("penguins") == (pytest.approx(right, abs=1), len(held_out))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    names = np.array(["Adelie", "Chinstrap", "Gentoo"])
    assert names[probabilities.argmax(axis=1)].tolist() == species.tolist()


def test_penguins_sample_is_held_out_and_its_answer_is_the_table_s():
    script = load_script("penguins")
    (instance,) = json.loads((SERVABLES / "penguins/sample.json").read_text())["instances"]
    (answer,) = json.loads((SERVABLES / "penguins/answer.json").read_text())["instances"]
    _, held_out = script.split()
    same = [row for row in held_out if instance.items() <= row.items()]
    assert [row["species"] for row in same] == [answer["species"]]


def test_penguins_takes_an_island_that_nobody_has_heard_of():
    script, session = load_script("penguins"), open_model("penguins")
    row = {**script.split()[1][-1], "island": "Atlantis", "sex": "unknown"}
    (species,) = session.run(["species"], script.columns([row]))
    assert species.tolist() == [row["species"]]


def test_language_recognises_over_95_percent_of_held_out():
    script, session = load_script("language"), open_model("language")
    training, held_out = script.split()
    assert (len(training.texts), len(held_out.texts)) == (264, 66)
    assert set(held_out.languages) == set(script.LANGUAGES)
    assert not set(training.texts) & set(held_out.texts)
    found = [
        session.run(["language"], {"text": script.encoded(text)})[0][0] for text in held_out.texts
    ]
    right = sum(a == b for a, b in zip(found, held_out.languages, strict=True))
    assert right / len(found) > 0.95
    assert stated("language") == (pytest.approx(right, abs=1), len(found))


@pytest.mark.parametrize("length", [0, 1, 2, 3, 1000])
def test_language_takes_texts_of_any_length(length: int):
    session = open_model("language")
    text = np.full((2, length), ord("x"), np.uint8)
    language, probabilities = session.run(["language", "probabilities"], {"text": text})
    assert language.shape == (2,)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_language_sample_is_a_sentence_that_was_not_trained_on():
    script = load_script("language")
    (instance,) = json.loads((SERVABLES / "language/sample.json").read_text())["instances"]
    text = bytes(instance["text"]).decode()
    assert text == script.SAMPLE
    assert text not in script.split()[0].texts


def test_language_graph_hashes_as_the_training_does():
    """Compare the graph's scores with those of the table rows that the script looks up."""
    script, session = load_script("language"), open_model("language")
    model = onnx.load(SERVABLES / "language/1/model.onnx")
    tables = {c.name: onnx.numpy_helper.to_array(c) for c in model.graph.initializer}
    for text in (script.SAMPLE, "WO IST DER BAHNHOF?", "\u00bfqu\u00e9 tal, 99%?", "a"):
        pairs, triples = script.hashes(text)
        scores = (
            tables["pair_weights"][pairs].mean(axis=0, dtype=np.float64)
            + tables["triple_weights"][triples].mean(axis=0, dtype=np.float64)
            + tables["bias"]
        )
        expected = np.exp(scores) / np.exp(scores).sum()
        (given,) = session.run(["probabilities"], {"text": script.encoded(text)})
        np.testing.assert_allclose(given[0], expected, atol=1e-4)
