"""The models that are measured, one input row for each, and at which concurrency."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from benchmarks.resnet import resnet50
from tests.models import graph, lenet, mlp, transformer

Array = NDArray[Any]


@dataclass(frozen=True)
class Workload:
    """One model and how it is loaded.

    ``workers`` is what the server is started with and what the engine's limit is taken at;
    ``floors`` says whether the front end, not the engine, is what bounds it, so that the echoes
    are measured with its bodies. ``http`` lists connections; ``grpc`` (connections, streams).
    ``kept`` models take long to write and are taken from the cache if they are there. ``only_json``
    ones are there for the sake of their JSON body.
    """

    name: str
    make: Callable[[Path], Path]
    draw: Callable[[np.random.Generator], Array]
    workers: int = 1
    floors: bool = False
    kept: bool = False
    only_json: bool = False
    http: tuple[int, ...] = (1, 8, 64)
    grpc: tuple[tuple[int, int], ...] = ((1, 1), (8, 1), (8, 8), (1, 64))


def _floats(*shape: int) -> Callable[[np.random.Generator], Array]:
    return lambda rng: rng.standard_normal((1, *shape)).astype(np.float32).round(4)


def _two_ms(path: Path) -> Path:
    """Build an encoder that takes about 2 ms a row on one core of a current server."""
    return transformer(path, layers=12)


def image_mean(path: Path) -> Path:
    """Write ``image`` FP32 [batch,3,224,224] -> ``mean`` FP32 [batch,3], of each colour."""
    inputs = [graph.value("image", "FP32", ["batch", 3, 224, 224])]
    outputs = [graph.value("mean", "FP32", ["batch", 3])]
    node = helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=0)
    return graph.save(graph.build([node], inputs, outputs, opset=17), path)


IMAGE_JSON = Workload(
    "image-mean", image_mean, _floats(3, 224, 224), only_json=True, http=(1, 8), grpc=()
)
"""A body of 1.1 MB of JSON floats, and next to no work: reading it is what is measured."""

WORKLOADS = (
    Workload("tiny", mlp, _floats(16), floors=True),
    Workload("lenet", lenet, _floats(1, 32, 32), floors=True),
    Workload("transformer", _two_ms, lambda rng: rng.integers(0, 1000, (1, 64)), workers=2),
    Workload(
        "resnet50",
        resnet50,
        _floats(3, 224, 224),
        workers=2,
        kept=True,
        http=(1, 8),
        grpc=((1, 1), (8, 1)),
    ),
)


@dataclass(frozen=True)
class Case:
    """A workload made concrete: its repository, one row, and the engine's answer to it."""

    workload: Workload
    model_dir: Path
    model: Path
    input_name: str
    row: Array
    output_name: str
    expected: Array

    @property
    def name(self) -> str:
        """The workload's."""
        return self.workload.name


def prepare(workload: Workload, cache: Path) -> Case:
    """Generate the model in ``cache`` and ask the engine for the right answer to one row."""
    model_dir = cache / workload.name
    model = model_dir / workload.name / "1" / "model.onnx"
    if not (workload.kept and model.exists()):
        partial = model.with_suffix(".partial")
        workload.make(partial).rename(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    row = workload.draw(np.random.default_rng(7))
    source, target = session.get_inputs()[0].name, session.get_outputs()[0].name
    (expected,) = session.run([target], {source: row})
    return Case(workload, model_dir, model, source, row, target, expected)
