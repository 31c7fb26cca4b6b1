"""What MindSpore Serving's clients are made to ask: a sum and LeNet, over both of its protocols."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from benchmarks.wires import Wire, WrongAnswer
from benchmarks.workloads import Array
from serving.frontends.grpc.stubs import ms_service_pb2 as pb

PREDICT = "/mindspore.serving.proto.MSService/Predict"
_ROOT = Path(__file__).resolve().parents[1]
_ADD = _ROOT / "tests" / "data" / "servables" / "add" / "1" / "tensor_add.mindir"
_LENET = _ROOT / "benchmarks" / "data" / "lenet_b8.mindir"

_CONFIG = """
from mindspore_serving.server import register

net = register.declare_model(
    model_file="{file}", model_format="MindIR", with_batch_dim={with_batch_dim}
)


@register.register_method(output_names=["y"])
def predict({inputs}):
    return register.add_stage(net, {inputs}, outputs_count=1)
"""


@dataclass(frozen=True)
class Job:
    """A servable with a method ``predict``, one instance to ask it for, and the right answer."""

    name: str
    model: Path
    with_batch_dim: bool
    inputs: dict[str, Array]
    expected: Array

    def lay_out(self, repository: Path) -> None:
        """Write it into a model repository, in the form that MindSpore Serving takes too."""
        version = repository / self.name / "1"
        version.mkdir(parents=True)
        shutil.copyfile(self.model, version / self.model.name)
        filled = _CONFIG.format(
            file=self.model.name,
            with_batch_dim=self.with_batch_dim,
            inputs=", ".join(self.inputs),
        )
        (repository / self.name / "servable_config.py").write_text(filled)

    def wires(self) -> tuple[Wire, Wire]:
        """Return the request over gRPC and over REST."""
        return _grpc(self), _rest(self)


def jobs() -> tuple[Job, Job]:
    """Return both: [2,2] + [2,2], and a LeNet exported for 8 rows that is asked for one."""
    pair = {
        "x1": np.array([[1.5, 2.5], [3.5, 4.5]], np.float32),
        "x2": np.array([[0.25, 0.5], [0.75, 1.0]], np.float32),
    }
    summed = np.array([[1.75, 3.0], [4.25, 5.5]], np.float32)
    with np.load(_LENET.with_suffix(".npz")) as stored:
        picture, scores = stored["x"][0], stored["y"][0]
    return (
        Job("add", _ADD, False, pair, summed),
        Job("lenet", _LENET, True, {"x": picture}, scores),
    )


def _grpc(job: Job) -> Wire:
    request = pb.PredictRequest()
    request.servable_spec.name = job.name
    request.servable_spec.method_name = "predict"
    instance = request.instances.add()
    for name, array in job.inputs.items():
        item = instance.items[name]
        item.shape.dims.extend(array.shape)
        item.dtype = pb.MS_FLOAT32
        item.data = array.tobytes()
    return Wire("grpc", PREDICT, {}, request.SerializeToString(deterministic=True), _reply)


def _reply(answer: bytes, _headers: dict[str, str]) -> Array:
    reply = pb.PredictReply.FromString(answer)
    if reply.error_msg:
        raise WrongAnswer(f"refused: {reply.error_msg[0].error_msg!r}")
    (instance,) = reply.instances
    tensor = instance.items["y"]
    return np.frombuffer(tensor.data, np.float32).reshape(*tensor.shape.dims)


def _rest(job: Job) -> Wire:
    # Shortest decimals of float32, and all with a point: for MindSpore Serving 1 is an integer.
    instance = {name: _plain(array) for name, array in job.inputs.items()}
    body = orjson.dumps({"instances": [instance]})
    headers = {"Content-Type": "application/json"}
    return Wire("rest-json", f"/model/{job.name}:predict", headers, body, _document)


def _plain(array: Array) -> object:
    return _nest([float(str(number)) for number in array.ravel()], array.shape)


def _nest(flat: list[float], shape: tuple[int, ...]) -> object:
    if len(shape) <= 1:
        return flat
    size = len(flat) // shape[0]
    return [_nest(flat[at : at + size], shape[1:]) for at in range(0, len(flat), size)]


def _document(answer: bytes, _headers: dict[str, str]) -> Array:
    told = orjson.loads(answer)
    if "instances" not in told:
        raise WrongAnswer(f"refused: {told}")
    (instance,) = told["instances"]
    return np.array(instance["y"], np.float32)
