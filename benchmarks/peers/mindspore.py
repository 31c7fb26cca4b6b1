"""MindSpore Serving itself, on a CPU through MindSpore Lite, in an environment of its own.

Its newest release wants Python 3.9, and an engine that no package of that Python holds: the one in
MindSpore Lite's wheel for Python 3.7 is the same library under another name. It looks for its
parts beside the name it was first loaded by, which is why it is preloaded.
"""

from __future__ import annotations

import contextlib
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers.environment import NotInstalled, environment
from benchmarks.peers.peer import Start
from benchmarks.peers.run import started
from benchmarks.processes import Running

NAME = "MindSpore Serving 2.0.2"
_PACKAGES = (
    "mindspore-serving==2.0.2",
    "numpy==1.23.5",
    "packaging",
    "protobuf==3.20.3",
    "psutil",
)
_LITE = "mindspore-lite==2.0.0"
_LITE_PYTHON = "3.7"
_ENGINE = "libmindspore-extendrt_python.so"
_WANTED = "libmindspore-lite.so"


def install(cache: Path, python: str) -> Path:
    """Return the folder of its environment, made once with ``python``; raises NotInstalled."""
    home = environment(cache, "mindspore", _PACKAGES, python)
    libraries = _libraries(home)
    if not (libraries / _WANTED).exists():
        _fetch_engine(home)
        (libraries / _WANTED).symlink_to(_ENGINE)
    return home


@contextlib.contextmanager
def mindspore_running(home: Path, repository: Path) -> Iterator[Running]:
    """Run it on all servables of a repository until the block is left."""
    libraries = _libraries(home)

    def plan(_folder: Path, rest_port: int, grpc_port: int) -> Start:
        script = Path(__file__).with_name("mindspore_server.py")
        command = [str(home / "bin" / "python"), str(script), str(repository)]
        env = {"LD_LIBRARY_PATH": str(libraries), "LD_PRELOAD": str(libraries / _ENGINE)}
        ports = [str(rest_port), str(grpc_port)]
        return Start([*command, *ports], env, rest_port, grpc_port, "/")

    with started(NAME, plan) as running:
        yield running


def _libraries(home: Path) -> Path:
    return home / "lite" / "mindspore_lite" / "lib"


def _fetch_engine(home: Path) -> None:
    command = [str(home / "bin" / "pip"), "download", "-q", "--no-deps", "-d", str(home)]
    command += ["--only-binary", ":all:", "--python-version", _LITE_PYTHON, _LITE]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(home.glob("mindspore_lite-*.whl"))
    if made.returncode or not wheels:
        raise NotInstalled(f"{_LITE} cannot be fetched: {made.stderr.strip()[-400:]}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(home / "lite")
    wheels[0].unlink()
