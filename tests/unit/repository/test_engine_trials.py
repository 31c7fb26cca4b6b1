"""ONNX Runtime itself, in a helper, says of models whether it would refuse them."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest

from serving.artifact import Artifact
from serving.config import BackendSettings
from serving.formats.onnx_model import examine
from serving.repository import engine_trials
from serving.repository.engine_trials import NOT_TRIED, tried
from tests.unit.formats.nets import written

RELU = "(float[N,4] x) => (y) { y = Relu(x) }"


def new_opset() -> Artifact:
    net = written(RELU)
    net.opset_import[0].version = 999
    return examine(net)


def custom(domain: str, name: str) -> Artifact:
    net = written(RELU)
    net.graph.node[0].domain, net.graph.node[0].op_type = domain, name
    net.opset_import.add(domain=domain, version=1)
    net.graph.output[0].type.tensor_type.elem_type = 1
    return examine(net)


def ask(*artifacts: Artifact, python: str = "") -> list[Artifact]:
    backends = {"onnxruntime": BackendSettings(python)} if python else {}
    return asyncio.run(tried(artifacts, backends, timeout_s=60))


def test_engine_s_own_words_say_what_it_refuses_and_what_it_takes() -> None:
    opset, foreign, unknown, own = ask(
        new_opset(), custom("com.acme", "Swirl"), custom("com.microsoft", "Swirl"),
        custom("com.microsoft", "Gelu"),
    )  # fmt: skip
    assert re.match(r"opset 999 of ai\.onnx is newer than .* up to \d+ \(export", opset.refusal)
    assert foreign.refusal.startswith("ONNX Runtime has no operator com.acme:Swirl (export")
    assert unknown.refusal.startswith("ONNX Runtime has no operator com.microsoft:Swirl")
    assert own.refusal == ""
    assert {a.trials for a in (opset, foreign, unknown, own)} == {()}
    assert not any(a.notes for a in (opset, foreign, unknown, own))


def test_no_helper_is_started_for_what_every_engine_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_trials, "_PROBER", "there.is.no.such.module")
    plain = examine(written(RELU))
    assert ask(plain) == [plain]


def test_model_that_cannot_be_tried_is_not_refused_and_a_note_says_so(tmp_path: Path) -> None:
    (found,) = ask(new_opset(), python=str(tmp_path / "python"))
    assert found.refusal == ""
    assert found.notes[-1].startswith(f"{NOT_TRIED} whether ONNX Runtime has all")
    assert "could not be started: No such file" in found.notes[-1]
    assert str(tmp_path) not in found.notes[-1]


def test_what_came_of_a_trial_survives_the_way_between_processes() -> None:
    there = replace(new_opset(), refusal="too new")
    assert Artifact.from_json(there.to_json()) == there
