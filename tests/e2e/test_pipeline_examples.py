"""The servables of tests/data/servables, served: their values, under both import names.

What is expected is worked out here (for digits by the model alone, on the pixels that the files
were made of), or comes with the data: LeNet's scores from MindSpore.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from sklearn.datasets import load_digits  # type: ignore[import-untyped]

from tests.servables import NAMES, OWN_IMPORT, ROOT, THEIR_IMPORT, lay_out
from tests.server import ServerProcess, serving

GUIDE = (ROOT / "docs" / "pipelines.md").read_text()
MODULES = ("types", "json", "numpy")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ONE = [[1.0, 2.0], [3.0, 4.0]]
TWO = [[10.0, 20.0], [30.0, 40.0]]


@pytest.fixture(scope="module", params=[THEIR_IMPORT, OWN_IMPORT], ids=["theirs", "own"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """All the servables, under one of the import names."""
    folder = tmp_path_factory.mktemp("examples")
    models = lay_out(folder / "models", import_line=request.param)
    for name in MODULES:
        shutil.copytree(models / "kinds", models / name)
    write_guide(models / "tongue")
    with serving(models, folder / "scratch") as running:
        yield running


def write_guide(folder: Path) -> None:
    """Do what the guide says in its first five minutes."""
    (folder / "1").mkdir(parents=True)
    shutil.copy(ROOT / "servables" / "language" / "1" / "model.onnx", folder / "1")
    block = re.search(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert block is not None
    (folder / "servable_config.py").write_text(block[1])


def ask(server: ServerProcess, servable: str, method: str, *instances: Any) -> list[dict[str, Any]]:
    status, answer = server.predict(
        {"servable": servable, "method": method, "instances": list(instances)}
    )
    assert status == 200, answer
    found: list[dict[str, Any]] = answer["instances"]
    return found


def refused(server: ServerProcess, method: str, value: Any) -> str:
    """Return the text that MindSpore's clients get for an instance of ``kinds`` that fails."""
    status, answer = server.post(f"/model/kinds:{method}", {"instances": [{"x": value}]})
    assert status == 200
    return str(answer["error_msg"])


def test_every_example_is_ready(server: ServerProcess) -> None:
    for name in (*NAMES, *MODULES, "tongue"):
        assert server.get(f"/v2/models/{name}/ready")[0] == 200, server.log()


def test_guide_is_answered_as_it_says(server: ServerProcess) -> None:
    asked = re.search(r"^curl localhost:1500/predict -d '(.*)'$", GUIDE, re.MULTILINE)
    told = re.search(r"^```json\n(.*)\n```$", GUIDE, re.MULTILINE)
    assert asked is not None
    assert told is not None
    status, answer = server.predict(json.loads(asked[1]))
    assert status == 200, answer
    probability = answer["instances"][0]["probability"]
    expected = json.loads(told[1])
    assert probability == pytest.approx(expected["instances"][0].pop("probability"), abs=1e-3)
    answer["instances"][0].pop("probability")
    assert answer == expected


def test_servables_may_be_called_like_modules(server: ServerProcess) -> None:
    for name in MODULES:
        assert ask(server, name, "describe", {"x": "a"}) == [{"y": "str:'a'"}]


def test_add_is_a_model_and_a_stage_before_it(server: ServerProcess) -> None:
    total = [[11.0, 22.0], [33.0, 44.0]]
    assert ask(server, "add", "add_common", {"x1": ONE, "x2": TWO}) == [{"y": total}]
    whole = [[1, 2], [3, 4]]
    assert ask(server, "add", "add_cast", {"x1": whole, "x2": TWO}) == [{"y": total}]


def test_add_sub_is_two_models_in_a_row(server: ServerProcess) -> None:
    x1, x2, x3 = np.array(ONE), np.array(TWO), np.ones((2, 2))
    inputs = {"x1": ONE, "x2": TWO, "x3": x3.tolist()}
    (answer,) = ask(server, "add_sub", "add_sub_only_model", inputs)
    assert answer == {"y": (x1 + x2 - x3).tolist()}
    (answer,) = ask(server, "add_sub", "add_scale_sub", {**inputs, "factor": 2.0})
    assert answer == {"y": ((x1 + x2) * 2 - x3).tolist(), "sum": (x1 + x2).tolist()}
    (answer,) = ask(server, "add_sub", "side_by_side", inputs)
    assert answer == {"both": (x1 + x2).tolist(), "three": (x3 - x1 - x2).tolist()}


def test_old_form_does_the_same(server: ServerProcess) -> None:
    inputs = {"x1": ONE, "x2": TWO}
    total = [[11.0, 22.0], [33.0, 44.0]]
    assert ask(server, "old_style", "add_common", inputs) == [{"y": total}]
    assert ask(server, "old_style", "add_cast", inputs) == [{"y": total}]
    assert ask(server, "old_style", "add_total", inputs) == [{"total": 110.0, "y": total}]
    for method in ("add_cast", "add_total"):
        wrong = {"instances": {"x1": "text", "x2": TWO}}
        told = str(server.post(f"/model/old_style:{method}", wrong)[1]["error_msg"])
        where = f"method: '{method}', stage index(begin with 1): 1, error msg: "
        assert told.startswith(f"Call Preprocess Failed, {where}'str' object has no attribute")


def test_whole_instances_run_together_and_are_answered_as_alone(server: ServerProcess) -> None:
    random = np.random.default_rng(5)
    ones, others = (random.standard_normal((40, 2, 2), np.float32) for _ in range(2))
    instances = [
        {"x1": {"b64": _b64(one), "type": "fp32", "shape": [2, 2]},
         "x2": {"b64": _b64(other), "type": "fp32", "shape": [2, 2]}}
        for one, other in zip(ones, others, strict=True)
    ]  # fmt: skip
    status, answer = server.post("/model/add:add_common", {"instances": instances})
    assert status == 200
    found = np.array([instance["y"] for instance in answer["instances"]], np.float32)
    assert np.array_equal(found, ones + others)
    alone = [
        server.post("/model/add:add_common", {"instances": [instance]})[1]["instances"][0]["y"]
        for instance in instances[:5]
    ]
    assert np.array_equal(np.array(alone, np.float32), found[:5])
    told = server.get("/v2/models/stats")[1]["model_stats"]
    (model,) = [m for m in told if m["name"] == "add:tensor_add.mindir"]
    assert max(batch["batch_size"] for batch in model["batch_stats"]) > 1
    assert (
        sum(b["batch_size"] * b["compute_infer"]["count"] for b in model["batch_stats"])
        == (model["inference_count"])
    )


def test_whole_instance_must_be_all_of_what_was_exported(server: ServerProcess) -> None:
    for given in ([[1.0, 2.0]], [[1.0, 2.0]] * 4):
        body = {"instances": [{"x1": given, "x2": given}]}
        status, answer = server.post("/model/add:add_common", body)
        told = f"Given model input 0 size {len(given) * 8} not match the size 16 defined in model"
        assert (status, answer) == (200, {"error_msg": told})


def _b64(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> str:
    return base64.b64encode(array.tobytes()).decode()


def test_models_of_four_rows_take_one_instance_and_many(server: ServerProcess) -> None:
    rows = [{"x1": [float(i), 1.0], "x2": [2.0, 3.0]} for i in range(6)]
    sums = [{"y": [i + 2.0, 4.0]} for i in range(6)]
    for method in ("predict", "via_call"):
        assert ask(server, "addb", method, rows[0]) == sums[:1]
        assert ask(server, "addb", method, *rows) == sums
    answers = ask(server, "addb", "via_call_batch", *rows)
    assert [{"y": answer["y"]} for answer in answers] == sums
    assert all(1 <= answer["n"] <= 6 for answer in answers)
    assert ask(server, "addb", "via_call_six", rows[1]) == [{"y": [[3.0, 4.0]] * 6}]


def test_input_without_batch_is_never_another_requests(server: ServerProcess) -> None:
    rows = [{"x": [1.0, 2.0], "v": [float(i), -float(i)]} for i in range(5)]
    assert ask(server, "addb", "predict_v", *rows) == [
        {"s": [1.0 + i, 2.0 - i], "d": [1.0 - i, 2.0 + i]} for i in range(5)
    ]


def pictures(count: int, form: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return files of digits, eight times their size, and what the model sees in them."""
    images, labels = load_digits(return_X_y=True)
    instances = []
    for pixels in images[:count]:
        grey = np.rint(pixels.reshape(8, 8) * (255 / 16)).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(np.kron(grey, np.ones((8, 8), np.uint8))).save(file, form)
        instances.append({"image": {"b64": base64.b64encode(file.getvalue()).decode()}})
    model = onnxruntime.InferenceSession(
        str(ROOT / "servables" / "digits" / "1" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    rows = images[:count].reshape(-1, 1, 8, 8).astype(np.float32)
    (scores,) = model.run(["probabilities"], {"image": rows})
    assert (scores.argmax(1) == labels[:count]).mean() > 0.9
    return instances, [DIGITS[best] for best in scores.argmax(1)]


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_digits_are_read_from_files_in_every_way(server: ServerProcess, form: str) -> None:
    instances, labels = pictures(20, form)
    for method in ("top1", "batch", "by_call", "by_call_batch"):
        answers = ask(server, "digits_images", f"classify_{method}", *instances)
        assert [answer["label"] for answer in answers] == labels, method
    for label, answer in zip(
        labels, ask(server, "digits_images", "classify_top5", *instances), strict=True
    ):
        assert answer["label"].split(";")[0] == label
        assert len(set(answer["label"].split(";"))) == 5
        assert answer["score"] == sorted(answer["score"], reverse=True)
        assert 0.5 < sum(answer["score"]) <= 1.001


def test_lenet_answers_as_mindspore_does(server: ServerProcess) -> None:
    known = np.load(ROOT / "tests" / "data" / "mindspore" / "lenet.npz")
    instances = [{"x": x.tolist()} for x in known["x"]]
    answers = ask(server, "lenet", "predict", *instances)
    np.testing.assert_allclose([a["scores"] for a in answers], known["y"], rtol=1e-4, atol=1e-6)
    for instance, scores in zip(instances, known["y"], strict=True):
        assert ask(server, "lenet", "classify", instance) == [{"label": int(scores.argmax())}]


NOT_SURVIVED_THERE = {
    "none": "function 'kinds._none' returned None (a 'return' may be missing), which is no numpy",
    "lists": "The outputs number 2 of one instance returned by function 'kinds._lists' is not equa",
    "a_dict": "function 'kinds._dict' returned an object of type dict, which is no numpy array",
    "too_many_outputs": "The outputs number 2 of one instance returned by function 'kinds._too_man",
    "batch_few": "The number 0 of instances returned by function 'kinds._batch_few' is not equal t",
    "leave": "the function left with sys.exit(3)",
}


def test_mistakes_fail_their_request_and_no_worker(server: ServerProcess) -> None:
    before = ask(server, "kinds", "slow", {"x": 0.0})
    for method, text in NOT_SURVIVED_THERE.items():
        told = refused(server, method, [1, 5])
        assert told.startswith("Call Function 'kinds._"), told
        assert f"method: '{method}', stage index(begin with 1): 1, error msg: {text}" in told
    assert ask(server, "kinds", "slow", {"x": 0.0}) == before


def test_arrays_in_any_order_and_of_strings_are_values(server: ServerProcess) -> None:
    nothing = {"x": 0}
    assert ask(server, "kinds", "fortran", nothing) == [{"y": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]}]
    assert ask(server, "kinds", "transposed", nothing) == [
        {"y": [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]}
    ]
    assert ask(server, "kinds", "texts", nothing) == [{"y": ["a", "b"]}]
    assert ask(server, "kinds", "in_place", {"x": [1.0, 2.0]}) == [{"y": [2.0, 3.0]}]


def test_one_failing_instance_leaves_the_others(server: ServerProcess) -> None:
    instances = [{"x": [1, 5]}, {"x": [6, 7]}, {"x": [2, 2]}]
    status, answer = server.post("/model/kinds:batch_fail", {"instances": instances})
    assert status == 200
    first, second, third = answer["instances"]
    assert (first, third) == ({"y": [1, 5]}, {"y": [2, 2]})
    assert second["error_msg"] == (
        "Call Function 'kinds._batch_fail' Failed, method: 'batch_fail', "
        "stage index(begin with 1): 1, error msg: thirteen"
    )


def test_guide_to_tests_of_ones_own_passes_as_it_stands(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "testing-servables.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "test_tongue.py").write_text("\n".join(blocks))
    write_guide(tmp_path / "models" / "tongue")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_tongue.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={**os.environ, "SERVING_CACHE_DIR": str(tmp_path / "cache")},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "4 passed" in ran.stdout
