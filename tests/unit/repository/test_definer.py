"""What a ``servable_config.py`` registers, asked of real helpers; and helpers that misbehave."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from serving.definition import Definition
from serving.errors import LoadError
from serving.repository import definer
from serving.repository.stage_settings import StageSettings

METHOD = """
@register.register_method(output_names="y")
def call(x):
    return x
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "m"
    (folder / "1").mkdir(parents=True)
    return folder


async def define(folder: Path, code: str = METHOD, *, timeout_s: float = 30) -> Definition:
    text = f"from serving import register\n{code}"
    (folder / "servable_config.py").write_text(text)
    return await definer.define(
        "m", folder, folder / "1", timeout_s=timeout_s, stages=StageSettings()
    )


async def test_definer_returns_what_is_registered(folder: Path) -> None:
    definition = await define(folder)
    assert [method.name for method in definition.methods] == ["call"]


async def test_definer_leaves_nothing_in_the_model_folder(folder: Path) -> None:
    (folder / "tools.py").write_text("a = 1\n")
    await define(folder, "from . import tools\n" + METHOD)
    assert sorted(p.name for p in folder.rglob("*")) == ["1", "servable_config.py", "tools.py"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("x = (", "m/servable_config.py:2: SyntaxError"),
        ("import nothing_of_that_name", "m/servable_config.py:2: ModuleNotFoundError"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        ("import time; time.sleep(600)", "gave no sign of life for 1 s and was stopped"),
    ],
)
async def test_definer_says_why_there_is_no_definition(
    folder: Path, code: str, reason: str
) -> None:
    with pytest.raises(LoadError) as caught:
        await define(folder, code, timeout_s=1 if "sleep" in code else 30)
    assert reason in str(caught.value)
    assert str(folder.parent) not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("net.onnx", "which is not in folder 1"),
        ("../../../net.onnx", "which is outside of the model directory"),
        ("/etc/passwd", "which is outside of the model directory"),
    ],
)
async def test_definer_refuses_models_that_are_not_the_version_s(
    folder: Path, file: str, text: str
) -> None:
    code = f'net = register.declare_model({file!r}, "ONNX")\n' + METHOD
    with pytest.raises(LoadError, match="declare_model"):
        await define(folder, code)
    (folder / "1" / "net.onnx").write_text("a model")
    if file == "net.onnx":
        assert (await define(folder, code)).models[0].files == (file,)


async def test_definer_uses_the_interpreter_and_the_device_of_the_settings(folder: Path) -> None:
    code = "import os\nassert False, (os.environ['OTHER'], os.environ['SERVING_DEVICE_ID'])\n"
    (folder / "servable_config.py").write_text(code)
    other = folder.parent.parent / "python"
    other.write_text(f'#!/bin/sh\nOTHER=yes exec {sys.executable} "$@"\n')
    other.chmod(0o755)
    stages = StageSettings(python=str(other), device_id=3)
    with pytest.raises(LoadError, match=r"\('yes', '3'\)"):
        await definer.define("m", folder, folder, timeout_s=30, stages=stages)
    missing = StageSettings(python="/no/such/python")
    with pytest.raises(LoadError, match="could not be started: No such file"):
        await definer.define("m", folder, folder, timeout_s=30, stages=missing)
