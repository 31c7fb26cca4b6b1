"""The helper that imports user code: its answers, and what may not get into them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from serving.definition import Definition
from tests.servables import NAMES, OWN_IMPORT, THEIR_IMPORT, lay_out


def describe(*requests: Any) -> tuple[list[dict[str, Any]], str]:
    """Return the helper's answers, and what it said on standard error."""
    lines = "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in requests)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "serving.register.describe"],
        input=lines, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def question(folder: Path, number: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": number, "folder": str(folder), "name": folder.name, **more}


def test_examples_register_the_same_under_both_import_names(tmp_path: Path) -> None:
    theirs = lay_out(tmp_path / "theirs", import_line=THEIR_IMPORT)
    own = lay_out(tmp_path / "own", import_line=OWN_IMPORT)
    folders = [root / name for name in NAMES for root in (theirs, own)]
    answers, _ = describe(*(question(f, i) for i, f in enumerate(folders)))
    assert [a["id"] for a in answers] == list(range(len(folders)))
    found = [Definition.from_json(a["definition"]) for a in answers]
    for name, one, two in zip(NAMES, found[::2], found[1::2], strict=True):
        assert (one.models, one.functions, one.methods) == (two.models, two.functions, two.methods)
        assert one.methods, name
        for model in one.models:
            assert all((theirs / name / "1" / file).is_file() for file in model.files), name


LOUD = """
import os, subprocess, sys, threading, time
print("printed")
os.write(1, b"written\\n")
subprocess.run(["echo", "by a child"])
threading.Thread(target=time.sleep, args=(600,)).start()
print("asked:", sys.stdin.read())
from serving import register
@register.register_method("y")
def predict(x):
    return x
if os.environ["SERVING_DEVICE_ID"] == "3":
    raise RuntimeError("device 3")
"""


def test_user_code_cannot_get_into_the_answers(tmp_path: Path) -> None:
    folder = tmp_path / "loud"
    folder.mkdir()
    (folder / "servable_config.py").write_text(LOUD)
    answers, said = describe(question(folder), question(folder, 2, device_id=3))
    assert [m["name"] for m in answers[0]["definition"]["methods"]] == ["predict"]
    assert answers[1] == {"id": 2, "error": "loud/servable_config.py:13: RuntimeError: device 3"}
    assert {"printed", "written", "by a child", "asked: "} <= set(said.splitlines())


@pytest.mark.parametrize("line", ["x", "[]", "{}", '{"id": "a"}', '{"id": 1, "folder": "/"}'])
def test_request_that_is_none_is_answered(line: str) -> None:
    answers, _ = describe(line)
    assert answers == [
        {"id": None, "error": "the request is no line of JSON with id, folder and name"}
    ]


def test_helper_leaves_no_bytecode(tmp_path: Path) -> None:
    lay_out(tmp_path, ["digits_images"])
    answers, _ = describe(question(tmp_path / "digits_images"))
    assert "definition" in answers[0]
    assert not list(tmp_path.rglob("*.pyc"))
