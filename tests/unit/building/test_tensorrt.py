"""The builder as its master sees it: lines of JSON in, lines of JSON out, on the doubles."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.backends.base import Device, ModelSource
from serving.backends.registry import open_backend
from serving.formats.onnx_model import describe
from serving.formats.tensorrt_engine import read_header
from serving.repository.helper import Helper
from serving.tensor import FP32, Tensor
from tests import models
from tests.doubles.gpu import ENVIRONMENT, simulated_gpu


def question(source: Path, *, largest: int = 8, **options: str) -> dict[str, Any]:
    artifact = describe(source)
    assert artifact.signature is not None
    return {
        "source": str(source),
        "format": "onnx",
        "signature": artifact.signature.to_json(),
        "batch": artifact.batch.to_json(),
        "max_batch_size": largest,
        "batch_sizes": None,
        "options": options,
    }


def ask(*questions: dict[str, Any], **env: str) -> list[dict[str, Any]]:
    """Return the answers of a builder, progress left out."""
    lines = "".join(json.dumps({"id": n, **q}) + "\n" for n, q in enumerate(questions))
    done = subprocess.run(
        [sys.executable, "-m", "serving.building.tensorrt"],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **ENVIRONMENT, **env},
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    final = [answer for answer in answers if "progress" not in answer]
    assert [answer["id"] for answer in final] == list(range(len(questions)))
    return final


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "cache" / "draft"
    folder.mkdir(parents=True)
    return folder


def test_engine_that_was_built_runs(tmp_path: Path, folder: Path) -> None:
    source = models.mlp_whole_numbers(tmp_path / "m.onnx")
    (answer,) = ask({**question(source), "folder": str(folder)})
    built = answer["built"]
    assert built["file"] == "model.plan"
    assert built["gears"] is None
    assert built["signature"] == question(source)["signature"]
    assert sorted(path.name for path in folder.iterdir()) == ["engine.json", "model.plan"]
    assert read_header(folder / "model.plan").version == built["identity_parts"]["version"]
    with simulated_gpu() as machine:
        backend = open_backend("tensorrt", Device("gpu", 0))
        model = backend.load(ModelSource(str(folder / "model.plan"), 1))
        assert model.signature.inputs[0].shape == ("batch", 16)
        given = np.ones((8, 16), np.float32)
        outputs = model.bind([Tensor("x", FP32, (8, 16), given)], None).run()
        assert outputs is not None
        assert outputs[0].shape == (8, 4)
        backend.close()
        assert machine.report()["live"] == {}


async def test_builder_is_spoken_to_as_any_helper(tmp_path: Path, folder: Path) -> None:
    source = models.mlp(tmp_path / "m.onnx")
    told: list[str] = []
    helper = Helper(module="serving.building.tensorrt", timeout_s=60, env=ENVIRONMENT)
    try:
        first = await helper.ask({"identity": question(source)}, ("identity", "error"))
        asked = {**question(source), "folder": str(folder)}
        second = await helper.ask(asked, ("built", "error"), told.append)
    finally:
        await helper.close()
    assert len(first["identity"]) == 64
    assert "built" in second
    assert told[:2] == ["reading the model", "parsing the model"]


def test_identity_says_whether_an_engine_would_be_another(tmp_path: Path) -> None:
    source, other = models.mlp(tmp_path / "a.onnx"), models.mlp(tmp_path / "b.onnx", seed=1)
    copy = models.mlp(tmp_path / "c.onnx")
    told = [
        answer["identity"]
        for answer in ask(
            {"identity": question(source)},
            {"identity": question(copy)},
            {"identity": question(source, cuda_graphs="off")},
            {"identity": question(other)},
            {"identity": question(source, largest=16)},
            {"identity": question(source, precision="fp16")},
            {"identity": question(source, memory_pool_mb="64")},
        )
    ]
    assert told[0] == told[1] == told[2]
    assert len(set(told)) == 5


def test_identity_takes_no_build(tmp_path: Path) -> None:
    timeline = tmp_path / "timeline"
    env = {"TRT_DOUBLE_TIMELINE": str(timeline)}
    asked = question(models.mlp(tmp_path / "m.onnx"))
    ask({"identity": asked}, **env)
    assert not timeline.exists()
    ask({**asked, "folder": str(tmp_path)}, **env)
    assert json.loads(timeline.read_text())["event"] == "build"


def test_identity_covers_weights_beside_the_model(tmp_path: Path) -> None:
    one = models.mlp_external_data(tmp_path / "one" / "m.onnx")
    two = models.mlp_external_data(tmp_path / "two" / "m.onnx")
    data = two.with_name("m.onnx.data")
    changed = bytearray(data.read_bytes())
    changed[0] ^= 1
    data.write_bytes(changed)
    first, second = ask({"identity": question(one)}, {"identity": question(two)})
    assert first["identity"] != second["identity"]


def test_model_in_lower_precision_leaves_no_copy_of_itself(tmp_path: Path, folder: Path) -> None:
    source = models.mlp(tmp_path / "m.onnx")
    (answer,) = ask({**question(source, precision="fp16"), "folder": str(folder)})
    assert answer["built"]["notes"] == ["3 of 3 operators run in fp16"]
    assert sorted(path.name for path in folder.iterdir()) == ["engine.json", "model.plan"]


def test_timings_are_kept_beside_the_engines(tmp_path: Path, folder: Path) -> None:
    asked = {**question(models.mlp(tmp_path / "m.onnx")), "folder": str(folder)}
    ask(asked)
    (kept,) = folder.parent.glob("timing-*.cache")
    assert kept.name == "timing-tensorrt-10.14.1.48-Simulated-GPU-8.0.cache"
    first = kept.read_bytes()
    ask(asked)
    assert kept.read_bytes().startswith(first)
    assert len(kept.read_bytes()) == 2 * len(first)


@pytest.mark.parametrize(
    ("model", "options", "code", "words"),
    [
        ("string_lookup", {}, "unsupported_operator", r"node 0 LabelEncoder: Plugin not found"),
        ("variable_width", {}, "unknown_shape", r"varies in 'width'"),
        ("mlp", {"precison": "fp16"}, "tensorrt_unusable", r"did you mean 'precision'"),
        ("mlp", {"compute_capability": "8.6"}, "bad_option", r"knows no option 'compute_cap"),
        ("mlp", {"profile.y": "1,2,3"}, "bad_option", r"names no input"),
    ],
)
def test_what_cannot_be_built_is_told_with_its_code(
    tmp_path: Path, folder: Path, model: str, options: dict[str, str], code: str, words: str
) -> None:
    source = getattr(models, model)(tmp_path / "m.onnx")
    (answer,) = ask({**question(source, **options), "folder": str(folder)})
    assert answer["error"]["code"] == code
    text = f"{answer['error']['message']} {answer['error']['fix']}"
    assert re.search(words, text), text


def test_build_that_fails_is_told_in_tensorrts_words(tmp_path: Path, folder: Path) -> None:
    asked = {**question(models.mlp(tmp_path / "m.onnx")), "folder": str(folder)}
    (answer,) = ask(asked, TRT_DOUBLE_FAIL="build_serialized_network:1:cudaErrorInvalidValue")
    assert answer["error"]["code"] == "build_failed"
    assert "the build failed on order" in answer["error"]["message"]


def test_machine_without_a_gpu_is_told(tmp_path: Path) -> None:
    asked = {"identity": question(models.mlp(tmp_path / "m.onnx"))}
    (answer,) = ask(asked, TRT_DOUBLE_DEVICES="0")
    assert answer["error"]["code"] == "no_gpu"


def test_package_that_is_missing_is_told(tmp_path: Path) -> None:
    asked = {"identity": question(models.mlp(tmp_path / "m.onnx"))}
    (answer,) = ask(asked, SERVING_TENSORRT_MODULE="tensorrt_rtx")
    assert answer["error"]["code"] == "package_missing"
    assert "tensorrt_rtx" in answer["error"]["message"]


def test_questions_that_cannot_be_read_do_not_end_the_builder(tmp_path: Path) -> None:
    lines = 'nonsense\n{"id": 1}\n{"id": 2, "source": 3, "format": "onnx"}\n'
    done = subprocess.run(
        [sys.executable, "-m", "serving.building.tensorrt"],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **ENVIRONMENT},
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["id"] for answer in answers] == [None, 1, 2]
    assert {answer["error"]["code"] for answer in answers} == {"bad_question"}
