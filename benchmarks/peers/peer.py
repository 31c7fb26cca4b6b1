"""How each peer is started on a case, at its best settings, and how it is asked."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks import wires
from benchmarks.wires import Wire
from benchmarks.workloads import Array, Case
from serving.tensor import Tensor

HERE = Path(__file__).resolve().parent
_TRITON_TYPES = {"float32": "TYPE_FP32", "int64": "TYPE_INT64"}


@dataclass(frozen=True)
class Start:
    """A command, its environment and ports, and a path that answers when it is ready."""

    command: list[str]
    env: dict[str, str]
    rest_port: int
    grpc_port: int
    ready: str
    cwd: Path | None = None


@dataclass(frozen=True)
class Peer:
    """One server. ``batches`` says for a number of clients how many rows it is told to gather.

    ``wires`` maps the wire formats that it is asked in to the one of this server that does the same
    work, beside which its figures stand.
    """

    name: str
    packages: tuple[str, ...]
    start: Callable[[Case, Path, Path, str, int, int, int], Start]
    wires: dict[str, str] = field(default_factory=dict)
    gathers: bool = False

    def wire(self, case: Case, name: str) -> Wire:
        """Return a wire format of this peer for one row."""
        if name in _OWN:
            return _OWN[name](case)
        return next(w for w in wires.wires(case) if w.name == name)


def _spec(case: Case, *, as_json: bool) -> str:
    return json.dumps(
        {
            "model": str(case.model),
            "input": case.input_name,
            "output": case.output_name,
            "dtype": str(case.row.dtype),
            "shape": list(case.row.shape[1:]),
            "json": as_json,
        }
    )


def _env(case: Case, batch: int, *, as_json: bool) -> dict[str, str]:
    return {
        "BENCH_SPEC": _spec(case, as_json=as_json),
        "BENCH_BATCH": str(batch),
        "BENCH_WORKERS": str(case.workload.workers),
    }


def _mosec(
    case: Case, home: Path, _folder: Path, wire: str, batch: int, rest: int, grpc: int
) -> Start:
    command = [str(home / "bin" / "python"), str(HERE / "mosec_server.py")]
    command += ["--address", "127.0.0.1", "--port", str(rest), "--log-level", "error"]
    return Start(command, _env(case, batch, as_json=wire == "json"), rest, grpc, "/")


def _litserve(
    case: Case, home: Path, folder: Path, _wire: str, batch: int, rest: int, grpc: int
) -> Start:
    command = [str(home / "bin" / "python"), str(HERE / "litserve_server.py")]
    env = {**_env(case, batch, as_json=True), "BENCH_PORT": str(rest)}
    return Start(command, env, rest, grpc, "/health", folder)


def _mlserver(
    case: Case, home: Path, folder: Path, _wire: str, _batch: int, rest: int, grpc: int
) -> Start:
    model = {"name": case.workload.name, "implementation": "mlserver_model.Inference"}
    settings = {
        "host": "127.0.0.1",
        "http_port": rest,
        "grpc_port": grpc,
        "metrics_endpoint": None,
        # Without workers it is faster on small models; with them it has more than one core.
        "parallel_workers": case.workload.workers if case.workload.workers > 1 else 0,
        "debug": False,
    }
    (folder / "model-settings.json").write_text(json.dumps(model))
    (folder / "settings.json").write_text(json.dumps(settings))
    env = {**_env(case, 1, as_json=True), "PYTHONPATH": str(HERE)}
    ready = f"/v2/models/{case.workload.name}/ready"
    return Start([str(home / "bin" / "mlserver"), "start", str(folder)], env, rest, grpc, ready)


def _triton(
    case: Case, home: Path, folder: Path, _wire: str, _batch: int, rest: int, grpc: int
) -> Start:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    packages = home / "lib" / f"python{version}" / "site-packages"
    server = packages / "pytriton" / "tritonserver"
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True)
    for file in (server / "backends" / "python").iterdir():
        (backend / file.name).symlink_to(file)
    stub = "triton_python_backend_stub"
    (backend / stub).symlink_to(server / "python_backend_stubs" / version / stub)
    home_of_model = folder / "models" / case.workload.name
    (home_of_model / "1").mkdir(parents=True)
    (home_of_model / "1" / "model.py").symlink_to(HERE / "triton_model.py")
    (home_of_model / "config.pbtxt").write_text(_triton_config(case))
    command = [
        str(server / "bin" / "tritonserver"),
        "--model-repository", str(folder / "models"),
        "--backend-directory", str(folder / "backends"),
        "--http-address", "127.0.0.1", "--http-port", str(rest),
        "--grpc-address", "127.0.0.1", "--grpc-port", str(grpc),
        "--allow-metrics", "false", "--disable-auto-complete-config",
    ]  # fmt: skip
    env = {
        "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"),
        "PYTHONPATH": str(packages),
        "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    return Start(command, env, rest, grpc, "/v2/health/ready")


def _triton_config(case: Case) -> str:
    kind = _TRITON_TYPES[str(case.row.dtype)]
    inner = ", ".join(map(str, case.row.shape[1:]))
    outer = ", ".join(map(str, case.expected.shape[1:]))
    return f"""backend: "python"
max_batch_size: 64
input [{{ name: "{case.input_name}" data_type: {kind} dims: [{inner}] }}]
output [{{ name: "{case.output_name}" data_type: TYPE_FP32 dims: [{outer}] }}]
dynamic_batching {{ }}
instance_group [{{ count: {case.workload.workers} kind: KIND_CPU }}]
parameters {{ key: "model" value {{ string_value: "{case.model}" }} }}
"""


def _raw(case: Case) -> Wire:
    shape = case.expected.shape

    def read(answer: bytes, _headers: dict[str, str]) -> Array:
        return np.frombuffer(answer, case.expected.dtype).reshape(shape)

    return Wire("raw", "/inference", {}, case.row.tobytes(), read)


def _json(path: str) -> Callable[[Case], Wire]:
    def make(case: Case) -> Wire:
        body = orjson.dumps({"x": case.row[0]}, option=orjson.OPT_SERIALIZE_NUMPY)

        def read(answer: bytes, _headers: dict[str, str]) -> Array:
            return np.array([orjson.loads(answer)["y"]])

        return Wire("json", path, {"Content-Type": "application/json"}, body, read)

    return make


def _mlserver_json(case: Case) -> Wire:
    (plain,) = [w for w in wires.wires(case) if w.name == "v2-json"]

    def read(answer: bytes, _headers: dict[str, str]) -> Array:
        found: Any = {o["name"]: o for o in orjson.loads(answer)["outputs"]}[case.output_name]
        return np.array(found["data"]).reshape(found["shape"])

    kind = Tensor.of(case.input_name, case.row).dtype.name
    described = {"name": case.input_name, "shape": list(case.row.shape), "datatype": kind}
    body = orjson.dumps(
        {"inputs": [{**described, "data": case.row.ravel()}]}, option=orjson.OPT_SERIALIZE_NUMPY
    )
    return Wire("v2-json", plain.path, plain.headers, body, read)


_OWN: dict[str, Callable[[Case], Wire]] = {
    "raw": _raw,
    "json": _json("/inference"),
    "litserve-json": _json("/predict"),
    "mlserver-json": _mlserver_json,
}

PEERS = (
    Peer(
        "mosec",
        ("mosec==0.9.8", "onnxruntime", "numpy", "orjson"),
        _mosec,
        {"raw": "v2-binary", "json": "rest-json"},
        gathers=True,
    ),
    Peer(
        "triton",
        ("nvidia-pytriton==0.7.0", "onnxruntime", "numpy"),
        _triton,
        {"v2-json": "v2-json", "v2-binary": "v2-binary", "grpc": "grpc"},
    ),
    Peer(
        "mlserver",
        ("mlserver==1.7.1", "uvloop<0.22", "onnxruntime", "numpy"),
        _mlserver,
        {"mlserver-json": "v2-json", "grpc": "grpc"},
    ),
    Peer(
        "litserve",
        ("litserve==0.2.19", "onnxruntime", "numpy"),
        _litserve,
        {"litserve-json": "rest-json"},
        gathers=True,
    ),
)
