"""The examples of docs/pipelines.md: they register, and their functions do what the text says."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from serving.register import package
from serving.register.calls import Instances, set_caller
from serving.register.execution import run
from serving.register.loading import Registered, load
from serving.register.values import from_python, to_python

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "servables" / "language" / "1" / "model.onnx"


@pytest.fixture
def guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registered]:
    """The servable of the guide, all its Python blocks in one file."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    text = (ROOT / "docs" / "pipelines.md").read_text()
    folder = tmp_path / "tongue"
    (folder / "1").mkdir(parents=True)
    shutil.copy(MODEL, folder / "1" / "model.onnx")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (folder / "servable_config.py").write_text("\n".join(blocks))
    set_caller(run_model)
    yield load(folder, "tongue")
    set_caller(None)
    package._forget()


def run_model(key: str, subgraph: int, instances: Instances) -> Instances:
    """Run instances one by one, as rows of batches of one."""
    session = onnxruntime.InferenceSession(str(MODEL), providers=["CPUExecutionProvider"])
    answers = []
    for (text,) in instances:
        label, scores = session.run(None, {"text": to_python(text)[np.newaxis]})
        answers.append((from_python(label[0]), from_python(scores[0])))
    return answers


def stage(guide: Registered, name: str, *values: Any) -> Any:
    (outcome,) = run(
        guide.definition.function(name),
        guide.functions[name],
        "tongue",
        [tuple(map(from_python, values))],
    )
    return outcome if isinstance(outcome, str) else tuple(map(to_python, outcome))


def test_guide_registers_its_methods(guide: Registered) -> None:
    assert [(m.name, m.inputs, m.outputs) for m in guide.definition.methods] == [
        ("detect", ("text",), ("language", "probability")),
        ("scaled", ("picture",), ("scaled",)),
        ("ascertain", ("text",), ("language",)),
    ]
    assert guide.definition.function("scale").batch_size == 16


def test_guide_detects_german(guide: Registered) -> None:
    letters = stage(guide, "to_bytes", "Wo ist der Bahnhof?")
    ((_, scores),) = run_model("model.onnx", 0, [(from_python(letters[0]),)])
    language, probability = stage(guide, "best", to_python(scores))
    assert language == "German"
    assert probability.dtype == np.float32
    assert stage(guide, "certain", "Wo ist der Bahnhof?") == ("German",)
    assert stage(guide, "certain", "") == "this is no language that I know"


def test_guide_scales_pictures(guide: Registered) -> None:
    (scaled,) = stage(guide, "scale", np.full((2, 2), 51, np.uint8))
    assert scaled.tolist() == np.full((2, 2), 0.2, np.float32).tolist()
