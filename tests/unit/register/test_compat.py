"""The import name ``mindspore_serving``: what it costs, when it yields, and how it is installed."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import setuptools

from serving import register
from serving.register.loading import COMPAT

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("grpc", "fastapi", "uvicorn", "onnxruntime", "serving.master", "serving.api", "asyncio")


def python(program: str, **how: Any) -> str:
    """Run a program; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, timeout=60, check=True, **how,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.mark.parametrize(
    "line",
    [
        "from mindspore_serving.server import register",
        "from mindspore_serving.server.register import declare_model",
        "from mindspore_serving import server, client; server.register",
        "from mindspore_serving.server import distributed; distributed.declare_servable",
    ],
)
def test_import_name_costs_a_worker_no_server(line: str) -> None:
    program = f"{line}\nimport sys; print(*(m for m in {HEAVY} if m in sys.modules))"
    assert python(program) == ""


def test_import_name_reaches_the_same_objects() -> None:
    program = "from mindspore_serving.server import register as r; import serving.register as o\n"
    program += "print(all(getattr(r, n) is getattr(o, n) for n in o.__all__), len(o.__all__))"
    assert python(program) == f"True {len(register.__all__)}"


def test_import_name_has_all_that_scripts_use() -> None:
    program = """
from mindspore_serving import client, server
from mindspore_serving.client import Client, SSLConfig
from mindspore_serving.server import SSLConfig, ServableStartConfig, distributed, master, register
from mindspore_serving.server import start_grpc_server, start_restful_server, start_servables, stop
from mindspore_serving.server.register import *
assert callable(server.master.context.set_max_enqueued_requests)
assert callable(server.distributed.start_servable)
assert callable(server.distributed.startup_agents)
assert server.register.add_stage is add_stage
assert client.Client is Client
"""
    python(program)


def test_import_name_has_no_other_names() -> None:
    program = "import mindspore_serving.server as s\ntry: s.nope\n"
    program += "except AttributeError as e: print(e)"
    assert python(program) == "module 'mindspore_serving.server' has no attribute 'nope'"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("from mindspore_serving import master", "start_grpc_server(address) and"),
        ("from mindspore_serving import worker", "ServableStartConfig and start_servables, or"),
        (
            "from mindspore_serving.server.register import PipelineServable as P; P('a', 'b', 1)",
            "register_pipeline was in MindSpore Serving 1.3 alone; register one method instead",
        ),
        (
            "from mindspore_serving.server import register; register.register_pipeline(['y'])",
            "register_pipeline was in MindSpore Serving 1.3 alone; register one method instead",
        ),
    ],
)
def test_import_name_tells_what_took_the_place_of_older_names(line: str, text: str) -> None:
    program = f"try: {line}\nexcept (ImportError, RuntimeError) as e: print(e)"
    assert text in python(program)


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """A folder of packages where a MindSpore Serving of another's is installed, and ours."""
    folder = tmp_path / "site"
    package = folder / "mindspore_serving" / "server"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("REAL = True\n")
    (package / "__init__.py").write_text("raise RuntimeError('the real one')\n")
    (folder / "serving-mindspore.pth").write_text(f"{COMPAT}\n")
    return folder


def test_real_installation_wins(real: Path) -> None:
    # However this package is installed here: without the line of its own installation.
    program = "import site, sys\n"
    program += "sys.path = [p for p in sys.path if not p.endswith('serving/register/compat')]\n"
    program += f"site.addsitedir({str(real)!r})\n"
    program += "import mindspore_serving as m; print(m.REAL, sys.path[-1])"
    assert python(program) == f"True {COMPAT}"


def test_stages_register_here_even_beside_a_real_installation(real: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "shop"
    folder.mkdir(parents=True)
    (folder / "servable_config.py").write_text(
        "from mindspore_serving.server import register\n"
        "@register.register_method('y')\n"
        "def predict(x):\n    return x\n"
    )
    program = "from pathlib import Path; from serving.register.loading import load\n"
    program += f"print(load(Path({str(folder)!r}), 'shop').definition.methods[0].name)"
    assert python(program, env={**os.environ, "PYTHONPATH": str(real)}) == "predict"


def commands(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the build steps that setup.py adds."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **given: found.update(given["cmdclass"]))
    runpy.run_path(str(ROOT / "setup.py"))
    return found


def build_pth(monkeypatch: pytest.MonkeyPatch, folder: Path, editable: bool) -> str:
    """Run the step as ``pip install`` does; return the text of the file."""
    monkeypatch.chdir(ROOT)
    step = commands(monkeypatch)["build_pth"](setuptools.Distribution())
    step.build_lib = str(folder / "unused" if editable else folder)
    step.editable_mode = editable
    installs = SimpleNamespace(install_lib=str(folder))
    step.get_finalized_command = {"install": installs}.__getitem__
    step.run()
    (written,) = folder.iterdir()
    assert written.name == "serving-mindspore.pth"
    return written.read_text()


def test_wheel_has_one_line_that_names_the_folder_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = build_pth(monkeypatch, tmp_path / "site", editable=False)
    assert line == "serving/register/compat\n"
    assert (ROOT / line.strip()).samefile(COMPAT)


def test_editable_installation_names_the_folder_of_the_tree(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = build_pth(monkeypatch, tmp_path / "site", editable=True)
    assert line == f"{ROOT / 'serving' / 'register' / 'compat'}\n"


def test_build_makes_the_file_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found = commands(monkeypatch)
    assert ("build_pth", None) in found["build"].sub_commands
    step = found["build_pth"](setuptools.Distribution())
    step.build_lib = "lib"
    assert step.get_outputs() == ["lib/serving-mindspore.pth"]


def test_file_goes_where_the_build_puts_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    found = commands(monkeypatch)
    whole = setuptools.Distribution({"name": "serving", "cmdclass": found})
    step = whole.get_command_obj("build_pth")
    step.ensure_finalized()
    build = whole.get_command_obj("build_py")
    build.ensure_finalized()
    assert step.get_outputs() == [str(Path(build.build_lib) / "serving-mindspore.pth")]


def test_packages_of_the_wheel_hold_the_import_name() -> None:
    found = setuptools.find_packages(str(ROOT), include=["serving*"])
    compat = "serving.register.compat.mindspore_serving"
    assert {compat, f"{compat}.server", f"{compat}.client"} <= set(found)
