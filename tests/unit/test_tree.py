"""What no module of the tree may do, read off its syntax; and what the master must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import models
from tests.server import serving

ROOT = Path(__file__).parents[2] / "serving"
EVERY = sorted(ROOT.rglob("*.py"))
LEAVES = (
    "tensor", "errors", "artifact", "definition", "logs", "exit_codes", "request", "warmup",
    "devices", "gears",
)  # fmt: skip
IN_WORKERS_PARTS = ("worker", "channel", "backends", "register")
IN_WORKERS = sorted(
    [
        ROOT / f"{n}.py"
        for n in (
            "tensor",
            "errors",
            "artifact",
            "definition",
            "logs",
            "warmup",
            "devices",
            "gears",
        )
    ]
    + [p for part in IN_WORKERS_PARTS for p in (ROOT / part).rglob("*.py")]
)
ENGINES = {"onnxruntime", "onnx", "tensorrt", "mindspore", "mindspore_lite", "acl"}
OWN = {"ascend": {"acl"}}
"""What the modules of a package may import beside."""
PROBES = sorted((ROOT / "probing").rglob("*.py"))
FORBIDDEN = {"pickle", "marshal", "shelve", "multiprocessing", "dill", "cloudpickle"}


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", IN_WORKERS + PROBES, ids=name)
def test_tree_keeps_worker_modules_to_python_3_9(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Match)]
    slotted = [k.arg for n in ast.walk(tree) if isinstance(n, ast.Call) for k in n.keywords]
    assert not {"slots", "kw_only"} & set(slotted)


@pytest.mark.parametrize("path", IN_WORKERS, ids=name)
def test_tree_keeps_worker_modules_to_numpy_and_their_engine(path: Path) -> None:
    allowed = {"numpy", "serving"} | ({path.stem} & ENGINES) | OWN.get(path.parent.name, set())
    for module in imports(ast.parse(path.read_text())):
        top, *rest = module.split(".")
        assert top in sys.stdlib_module_names or top in allowed, module
        if top == "serving" and rest:
            assert rest[0] in (*LEAVES, *IN_WORKERS_PARTS), module


@pytest.mark.parametrize("path", EVERY, ids=name)
def test_tree_never_unpickles_or_evaluates_data(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not {m.split(".")[0] for m in imports(tree)} & FORBIDDEN
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("eval", "exec", "yaml.load", "yaml.unsafe_load")


def test_tree_keeps_engines_out_of_the_modules_of_the_master() -> None:
    program = "import serving.master.server, sys; print(*sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = {module.split(".")[0] for module in told.stdout.split()}
    assert "serving" in loaded
    assert not loaded & ENGINES


def test_tree_keeps_engines_out_of_the_memory_of_a_live_master(tmp_path: Path) -> None:
    models.mlp(tmp_path / "models" / "mlp" / "1" / "model.onnx")
    with serving(tmp_path / "models", tmp_path / "scratch") as server:
        mapped = [m.path for m in psutil.Process(server.pid).memory_maps()]
        workers = [m.path for m in server.workers()[0].memory_maps()]
    assert any("onnxruntime" in path for path in workers)
    assert not [p for p in mapped if any(f"/{engine}" in p for engine in ENGINES)]
