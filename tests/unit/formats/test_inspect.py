"""The helper process: one line in, one line out, whatever the files are."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from serving.artifact import Artifact, Format
from serving.formats import inspect as helper
from tests.unit.formats import architectures
from tests.unit.formats.mindir.test_reader import product_net


def ask(lines: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options.get("flags", []), "-m", "serving.formats.inspect"]
    return subprocess.run(
        command, input=lines, capture_output=True, text=True, timeout=60, check=True
    )


def request(number: int, path: Path) -> str:
    return json.dumps({"id": number, "path": str(path)}) + "\n"


def test_helper_answers_every_line_in_order_and_ends_with_its_input(tmp_path: Path) -> None:
    good = tmp_path / "model.onnx"
    good.write_bytes(architectures.mlp().SerializeToString())
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(good.read_bytes()[:-40])
    missing = tmp_path / "missing.onnx"
    done = ask(request(7, good) + request(3, cut) + "nonsense\n\n" + request(9, missing))
    said = [json.loads(line) for line in done.stdout.splitlines()]
    answers = [line for line in said if "progress" not in line]  # a busy machine has some
    assert [a["id"] for a in answers] == [7, 3, None, 9]
    first, second, bad, last = (Artifact.from_json(a["artifact"]) for a in answers)
    assert first.runnable
    assert first.batch.batched
    assert first.static_outputs
    assert (second.format, second.backend) == (Format.ONNX, "")
    assert "not a whole ONNX model" in second.reason
    assert "no line of JSON" in bad.reason
    assert last.reason == "the file 'missing.onnx' cannot be read: No such file or directory"


def test_helper_does_not_import_onnx_before_an_onnx_file_comes(tmp_path: Path) -> None:
    path = tmp_path / "m.plan"
    path.write_bytes(b"ptrt" + bytes(64))
    done = ask(request(1, path), flags=["-X", "importtime"])
    assert json.loads(done.stdout)["artifact"]["format"] == "tensorrt-engine"
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "serving.formats.recognise" in imported
    assert not imported & {"onnx", "google.protobuf", "onnxruntime"}


def test_helper_turns_any_failure_into_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(path: Path) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(helper, "recognise", fail)
    answers = io.StringIO()
    helper.serve(io.StringIO(request(4, tmp_path / "m.onnx")), answers)
    artifact = json.loads(answers.getvalue())["artifact"]
    assert artifact["backend"] == ""
    assert artifact["reason"] == "the file could not be understood (RuntimeError)"
    shown = capsys.readouterr()
    assert "secret detail" in shown.err
    assert shown.out == ""


def test_helper_answers_for_a_folder_given_as_a_file(tmp_path: Path) -> None:
    found = helper.inspect(tmp_path)
    assert not found.runnable
    assert str(tmp_path.parent) not in found.reason


def test_helper_tells_of_progress_before_it_answers(tmp_path: Path) -> None:
    path = product_net().save(tmp_path / "m.mindir")
    lines = [json.loads(line) for line in ask(request(5, path)).stdout.splitlines()]
    assert {line["id"] for line in lines} == {5}
    assert lines[0]["progress"] == "converting 1 operator to ONNX"
    assert [line for line in lines if "artifact" in line] == lines[-1:]
