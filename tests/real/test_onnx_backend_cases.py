"""The onnx package's own cases for engines, served from one folder over V2.

Whatever runs on the bare engine is served, and answered bit for bit as the bare engine answers;
the only exceptions are inputs and outputs that the V2 protocol has no datatype for, and those are
known by the types that the model itself declares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
import pytest

from serving.tensor import BY_ONNX, Array
from tests.real.backend_cases import BackendCase, collect
from tests.real.engine import ONE_WORKER, Engine, EngineRefused, Output
from tests.real.wires import GrpcClient, Refused, v2_binary
from tests.server import ServerProcess, serving

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

_LEAST_SERVED = 1000

Wire = Callable[[str, dict[str, Array]], list[Output]]


@dataclass(frozen=True)
class Suite:
    """Of ``total`` cases those that the bare engine runs, with its answers.

    ``uncarried`` are the ones with a type that V2 has no datatype for, and which.
    """

    total: int
    cases: dict[str, BackendCase]
    expected: dict[str, tuple[Output, ...]]
    uncarried: dict[str, str]


@pytest.fixture(scope="module")
def suite() -> Suite:
    total = 0
    cases, expected = {}, {}
    for case in collect():
        total += 1
        try:
            expected[case.name] = Engine(case.model).run(case.inputs)
        except EngineRefused:
            continue
        cases[case.name] = case
    uncarried = {name: why for name, case in cases.items() if (why := _uncarried(case))}
    return Suite(total, cases, expected, uncarried)


@pytest.fixture(scope="module")
def server(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("backend_cases")
    for case in suite.cases.values():
        path = root / case.name / "1" / "model.onnx"
        path.parent.mkdir(parents=True)
        path.write_bytes(case.model)
    with serving(root, tmp_path_factory.mktemp("server"), *ONE_WORKER, wait=False) as running:
        running.wait_ready(240)
        yield running


@pytest.mark.parametrize("wire", ["v2-binary", "grpc"])
def test_every_case_that_v2_can_carry_is_answered_as_by_the_engine(
    wire: str, suite: Suite, server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {}
    with GrpcClient(server.grpc) as client:
        infer = client.infer if wire == "grpc" else partial(v2_binary, server.base)
        for name in sorted(suite.cases.keys() - suite.uncarried.keys()):
            difference = _difference(infer, suite, name)
            if difference:
                wrong[name] = difference
    served = len(suite.cases) - len(suite.uncarried) - len(wrong)
    with capsys.disabled():
        print(
            f"\nonnx {onnx.__version__} backend cases over {wire}: {served} served and equal of "
            f"{len(suite.cases)} that run on the bare engine of {suite.total}; "
            f"not carried by V2: {_counted(suite.uncarried)}"
        )
    assert not wrong
    assert served >= _LEAST_SERVED


def test_every_other_case_is_refused_with_the_reason(suite: Suite, server: ServerProcess) -> None:
    assert suite.uncarried
    for name, why in suite.uncarried.items():
        status, told = server.get(f"/v2/models/{name}/ready")
        assert status == 503
        assert why in told["error"]


def test_nothing_but_these_types_is_refused(suite: Suite) -> None:
    assert set(suite.uncarried.values()) <= {"is a sequence", "is an optional"} | {
        f"has the element type {name}"
        for name in (
            "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0",
            "FLOAT4E2M1", "UINT4", "INT4", "UINT2", "INT2", "COMPLEX64", "COMPLEX128",
        )
    }  # fmt: skip


def _uncarried(case: BackendCase) -> str:
    """Return which type of the model's own inputs or outputs V2 has no datatype for, or ""."""
    graph = onnx.ModelProto.FromString(case.model).graph
    for info in graph.input:
        kind = info.type.WhichOneof("value")
        if kind != "tensor_type":
            return "is an optional" if kind == "optional_type" else "is a sequence"
    for info in (*graph.input, *graph.output):
        number = info.type.tensor_type.elem_type
        if info.type.HasField("tensor_type") and number not in BY_ONNX:
            return f"has the element type {onnx.TensorProto.DataType.Name(number)}"
    return ""


def _difference(infer: Wire, suite: Suite, name: str) -> str:
    """Serve one case; say how its answer differs from the engine's, or return ""."""
    inputs = {key: x for key, x in suite.cases[name].inputs.items() if isinstance(x, np.ndarray)}
    try:
        outputs = infer(name, inputs)
    except Refused as refused:
        return str(refused)
    expected = suite.expected[name]
    if [output.name for output in outputs] != [output.name for output in expected]:
        return f"outputs {[output.name for output in outputs]}"
    for got, wanted in zip(outputs, expected, strict=True):
        if not got.equals(wanted):
            return f"output {got.name} {got.datatype}{got.shape}, not {wanted.datatype}"
    return ""


def _counted(refusals: dict[str, str]) -> str:
    counts = Counter(refusals.values())
    return ", ".join(f"{count} where one {why}" for why, count in counts.most_common())
