"""What every backend promises, asked of the stub and of ONNX Runtime alike."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serving.backends.base import BackendError, Device, Model, ModelSource
from serving.backends.registry import open_backend
from serving.tensor import BYTES, FP32, INT64, DType, Signature, Tensor, TensorSpec
from tests import models

BACKENDS = ("stub", "onnxruntime")
Open = Callable[[str], Model]


def stub(path: Path, dtype: DType, do: dict[str, object]) -> Path:
    signature = Signature(
        (TensorSpec("x", dtype, ("batch",)),), (TensorSpec("y", dtype, ("batch",)),)
    )
    path.write_text(json.dumps({**signature.to_json(), "do": do}))
    return path


@pytest.fixture(params=BACKENDS)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Return what loads a model of a kind into the backend under test."""

    def load(kind: str) -> Model:
        path = tmp_path / kind
        if request.param == "onnxruntime":
            {
                "echo": lambda: models.identity(path, "FP32", ("batch",)),
                "words": lambda: models.identity(path, "BYTES", ("batch",)),
                "fails": lambda: models.divider(path),
                "long": lambda: models.spinning(path),
                "broken": lambda: path.write_bytes(b"no model at all"),
            }[kind]()
        else:
            {
                "echo": lambda: stub(path, FP32, {}),
                "words": lambda: stub(path, BYTES, {}),
                "fails": lambda: stub(path, INT64, {"fail_on": 0}),
                "long": lambda: stub(path, INT64, {"sleep_ms": 60_000}),
                "broken": lambda: path.write_bytes(b"no model at all"),
            }[kind]()
        return open_backend(request.param, Device()).load(ModelSource(str(path), 1))

    return load


def floats(*values: float) -> Tensor:
    return Tensor("x", FP32, (len(values),), np.array(values, np.float32))


def test_backend_writes_into_bound_outputs_again_and_again(opened: Open) -> None:
    given, out = floats(1, 2, 3), np.zeros(3, np.float32)
    binding = opened("echo").bind([given], [Tensor("y", FP32, (3,), out)])
    assert binding.run() is None
    assert out.tolist() == [1, 2, 3]
    assert given.array is not None
    given.array[1] = -7
    assert binding.run() is None
    assert out.tolist() == [1, -7, 3]


def test_backend_returns_outputs_that_are_not_bound(opened: Open) -> None:
    binding = opened("echo").bind([floats(4, 5)], None)
    for _ in range(2):
        outputs = binding.run()
        assert outputs is not None
        assert (outputs[0].name, outputs[0].dtype, outputs[0].shape) == ("y", FP32, (2,))
        assert outputs[0].array is not None
        assert outputs[0].array.tolist() == [4, 5]


def test_backend_reads_inputs_that_may_not_be_written(opened: Open) -> None:
    given = floats(8, 9)
    assert given.array is not None
    given.array.flags.writeable = False
    out = np.zeros(2, np.float32)
    opened("echo").bind([given], [Tensor("y", FP32, (2,), out)]).run()
    assert out.tolist() == [8, 9]


def test_backend_refuses_a_bound_output_of_another_size(opened: Open) -> None:
    out = np.full(3, 5, np.float32)
    with pytest.raises(BackendError):
        opened("echo").bind([floats(1, 2)], [Tensor("y", FP32, (3,), out)]).run()
    assert out.tolist() == [5, 5, 5]


def test_backend_carries_strings(opened: Open) -> None:
    items = [b"", "zwölf".encode(), b"x" * 300]
    outputs = opened("words").bind([Tensor("x", BYTES, (3,), items=items)], None).run()
    assert outputs is not None
    assert list(outputs[0].items or ()) == items


def test_backend_tells_a_failed_run_and_lives_on(opened: Open) -> None:
    model = opened("fails")
    with pytest.raises(BackendError):
        model.bind([Tensor("x", INT64, (2,), np.array([2, 0]))], None).run()
    assert model.bind([Tensor("x", INT64, (1,), np.array([2]))], None).run() is not None


def test_backend_ends_a_run_that_is_cancelled(opened: Open) -> None:
    model = opened("long")
    name = model.signature.inputs[0].name
    binding = model.bind([Tensor(name, INT64, (1,), np.array([2**40]))], None)
    timer = threading.Timer(0.2, binding.cancel)
    timer.start()
    began = time.monotonic()
    with pytest.raises(BackendError):
        binding.run()
    timer.join()
    assert 0.1 < time.monotonic() - began < 20


def test_backend_refuses_a_broken_file(opened: Open) -> None:
    with pytest.raises(BackendError):
        opened("broken")


def test_onnxruntime_binding_takes_outputs_of_changing_size(tmp_path: Path) -> None:
    path = models.non_zero(tmp_path / "m.onnx")
    model = open_backend("onnxruntime", Device()).load(ModelSource(str(path), 1))
    given = floats(1, 0, 1)
    assert given.array is not None
    binding = model.bind([given], None)
    for values, wanted in (([1, 0, 1], [[0, 2]]), ([0, 0, 0], [[]]), ([1, 1, 1], [[0, 1, 2]])):
        given.array[:] = values
        outputs = binding.run()
        assert outputs is not None
        assert outputs[0].array is not None
        assert outputs[0].array.tolist() == wanted


def test_backend_that_is_not_known_is_named() -> None:
    with pytest.raises(BackendError, match="'nosuch'.*onnxruntime, stub"):
        open_backend("nosuch", Device())
