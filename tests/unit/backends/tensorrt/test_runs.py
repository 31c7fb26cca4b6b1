"""Runs: graphs, profiles, types, values on the host, sizes known later, two at once, a lost GPU."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from serving.backends.base import Backend, BackendError, DeviceLost, MemoryExhausted, Model
from serving.tensor import BF16, BY_NAME, FP32, INT64, DType, Tensor
from tests import models
from tests.models.graph import build, save, value
from tests.unit.backends.tensorrt.conftest import Load

PROFILE = {"x": [[1, 16], [4, 16], [8, 16]]}


def mlp(load: Load, tmp_path: Path, **options: str) -> Model:
    return load(models.mlp_whole_numbers(tmp_path / "mlp.onnx"), PROFILE, options=options)


def rows(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(-8, 9, (count, 16)).astype(np.float32)


def answer(model: Model, given: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    outputs = model.bind([Tensor("x", FP32, given.shape, given)], None).run()
    assert outputs is not None
    assert outputs[0].array is not None
    return outputs[0].array


def expected(tmp_path: Path, given: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import onnxruntime as ort

    session = ort.InferenceSession(tmp_path / "mlp.onnx", providers=["CPUExecutionProvider"])
    result: np.ndarray[Any, Any] = session.run(None, {"x": given})[0]
    return result


def order(machine: Any, call: str, number: int, error: str) -> None:
    from cuda.simulated.failures import Order

    machine.failures.order(Order(call, -1, number, error))


def test_runs_of_every_size_agree_with_the_cpu(machine: Any, load: Load, tmp_path: Path) -> None:
    model = mlp(load, tmp_path)
    for count in (1, 8, 3, 8, 1, 2, 8, 8, 8, 1, 1, 1, 3):
        given = rows(count, seed=count)
        assert answer(model, given).tolist() == expected(tmp_path, given).tolist()
    assert machine.graph_launches > 0


def test_runs_of_equal_shapes_are_recorded_after_a_plain_one_in_a_context_of_their_own(
    machine: Any, load: Load, tmp_path: Path
) -> None:
    model = mlp(load, tmp_path)
    before = machine.objects["contexts"]
    for _ in range(3):
        answer(model, rows(2))
    assert machine.objects["contexts"] == before
    answer(model, rows(2))
    assert machine.objects["contexts"] == before + 1
    assert machine.graph_launches == 0
    for _ in range(4):
        answer(model, rows(2))
    assert machine.graph_launches == 4
    assert machine.failures.counts["cudaGraphInstantiate"] == 1
    assert machine.objects["contexts"] == before + 1


def test_runs_are_not_recorded_where_it_is_turned_off(
    machine: Any, load: Load, tmp_path: Path
) -> None:
    model = mlp(load, tmp_path, cuda_graphs="off")
    for _ in range(6):
        answer(model, rows(2))
    assert machine.graph_launches == 0


@pytest.mark.parametrize(
    "call", ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"]
)
def test_runs_that_cannot_be_recorded_run_plainly_and_that_is_told(
    call: str, machine: Any, load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = mlp(load, tmp_path)
    order(machine, call, 1, "cudaErrorNotSupported")
    given = rows(2)
    with caplog.at_level(logging.INFO, "serving.tensorrt"):
        for _ in range(8):
            assert answer(model, given).tolist() == expected(tmp_path, given).tolist()
    assert machine.graph_launches == 0
    assert machine.failures.counts["cudaStreamBeginCapture"] == 1
    assert ["graphs are not used" in r.message for r in caplog.records].count(True) == 1


def test_runs_that_are_recorded_ask_nothing_of_the_context(
    machine: Any, load: Load, tmp_path: Path
) -> None:
    model = mlp(load, tmp_path)
    for count in (1, 5) * 5:
        answer(model, rows(count))
    before = machine.failures.total
    shapes = machine.failures.counts["set_input_shape"]
    for count in (1, 5) * 3:
        given = rows(count)
        assert answer(model, given).tolist() == expected(tmp_path, given).tolist()
    assert machine.failures.counts["set_input_shape"] == shapes
    # A run is two copies, a launch and a wait.
    assert machine.failures.total - before == 6 * 4


def test_runs_use_the_profile_that_was_made_for_them(
    machine: Any, load: Load, tmp_path: Path
) -> None:
    small = {"x": [[1, 16], [1, 16], [1, 16]]}
    large = {"x": [[2, 16], [8, 16], [8, 16]]}
    model = load(models.mlp_whole_numbers(tmp_path / "mlp.onnx"), small, large)
    before = machine.failures.counts["set_optimization_profile_async"]
    for count in (8, 8, 8, 1, 1, 8):
        given = rows(count)
        assert answer(model, given).tolist() == expected(tmp_path, given).tolist()
    # 8 is profile 1, where loading left the context: then to 0, and back.
    assert machine.failures.counts["set_optimization_profile_async"] - before == 2


@pytest.mark.parametrize(
    "name", ["FP32", "FP16", "BF16", "INT8", "UINT8", "INT32", "INT64", "BOOL"]
)
def test_runs_carry_every_type_that_tensorrt_has(
    name: str, machine: Any, load: Load, tmp_path: Path
) -> None:
    dtype: DType = BY_NAME[name]
    assert dtype.numpy is not None
    model = load(
        models.identity(tmp_path / "m.onnx", name, ("batch", 3)), {"x": [[1, 3], [2, 3], [4, 3]]}
    )
    given = np.array([[0, 1, 0], [1, 1, 0]], dtype.numpy)
    if dtype is BF16:
        given = np.array([[0x3F80, 0xC000, 0x7FC1], [0, 1, 2]], np.uint16)
    assert model.signature.inputs[0].dtype is dtype
    outputs = model.bind([Tensor("x", dtype, (2, 3), given)], None).run()
    assert outputs is not None
    assert outputs[0].array is not None
    assert outputs[0].array.tobytes() == given.tobytes()


def test_runs_take_inputs_whose_values_decide_shapes(
    machine: Any, load: Load, tmp_path: Path
) -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    ends = [value("x", "FP32", [6]), value("shape", "INT64", [2])], [value("y", "FP32", ["a", "b"])]
    model = load(save(build(nodes, *ends), tmp_path / "m.onnx"), on_host=["shape"])
    given = np.arange(6, dtype=np.float32)
    for shape in ([2, 3], [3, 2], [6, 1], [6, 1], [6, 1], [6, 1], [2, 3]):
        outputs = model.bind(
            [Tensor("x", FP32, (6,), given), Tensor("shape", INT64, (2,), np.array(shape))], None
        ).run()
        assert outputs is not None
        assert outputs[0].array is not None
        assert outputs[0].array.tolist() == given.reshape(shape).tolist()
    assert machine.graph_launches == 0  # a recording would keep the values of its first run


def test_runs_whose_sizes_come_later_are_not_recorded(
    machine: Any, load: Load, tmp_path: Path
) -> None:
    model = load(models.non_zero(tmp_path / "m.onnx"), {"x": [[1], [4], [8]]})
    for round in range(6):
        given = np.array([1, 0, round, 1], np.float32)
        assert answer(model, given).tolist() == [np.nonzero(given)[0].tolist()]
    assert machine.graph_launches == 0
    assert machine.failures.counts["cudaStreamBeginCapture"] == 0


def test_runs_whose_size_comes_later_may_be_bound_where_it_fits(
    machine: Any, load: Load, tmp_path: Path
) -> None:
    model = load(models.non_zero(tmp_path / "m.onnx"), {"x": [[1], [4], [8]]})
    given, out = np.array([1, 0, 1], np.float32), np.full((1, 2), 9)
    binding = model.bind([Tensor("x", FP32, (3,), given)], [Tensor("where", INT64, (1, 2), out)])
    assert binding.run() is None
    assert out.tolist() == [[0, 2]]
    given[1] = 1
    out[:] = 9
    with pytest.raises(BackendError, match=r"'where' has the shape \[1,3\], bound was \[1,2\]"):
        binding.run()
    assert out.tolist() == [[9, 9]]


def test_two_runs_are_under_way_at_once(
    load: Load, machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeline = tmp_path / "timeline"
    machine._timeline = str(timeline)
    machine.sleep_s = 0.2
    model = mlp(load, tmp_path)
    threads = [threading.Thread(target=answer, args=(model, rows(2))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = [json.loads(line) for line in timeline.read_text().splitlines()]
    assert [event["event"] for event in events] == ["begin", "begin", "end", "end"]
    assert len({event["stream"] for event in events}) == 2


def test_more_runs_than_lanes_wait_for_one(load: Load, machine: Any, tmp_path: Path) -> None:
    model = mlp(load, tmp_path)
    answers: list[list[list[float]]] = []
    given = rows(3)

    def run() -> None:
        answers.append(answer(model, given).tolist())

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [expected(tmp_path, given).tolist()] * 6


def test_a_kernel_that_faults_loses_the_device(load: Load, machine: Any, tmp_path: Path) -> None:
    model = mlp(load, tmp_path)
    order(machine, "kernel", 2, "cudaErrorIllegalAddress")
    answer(model, rows(2))
    with pytest.raises(DeviceLost, match="illegal memory access"):
        answer(model, rows(2))
    with pytest.raises(DeviceLost):
        answer(model, rows(2))
    with pytest.raises(DeviceLost):
        model.close()
    machine.revive()


def test_memory_that_lacks_at_load_is_told_and_nothing_is_kept(
    load: Load, machine: Any, tmp_path: Path
) -> None:
    machine.memory = 600
    with pytest.raises(MemoryExhausted, match="memory does not suffice"):
        mlp(load, tmp_path)
    assert machine.report()["live"] == {}


def test_memory_that_lacks_for_a_size_known_later_fails_that_run_alone(
    load: Load, machine: Any, tmp_path: Path
) -> None:
    model = load(models.non_zero(tmp_path / "m.onnx"), {"x": [[1], [4], [256]]})
    machine.memory = machine.on_device.total + 600
    with pytest.raises(MemoryExhausted):
        answer(model, np.ones(256, np.float32))
    assert answer(model, np.array([0, 1], np.float32)).tolist() == [[1]]


def test_words_of_tensorrt_come_with_its_refusal(load: Load, machine: Any, tmp_path: Path) -> None:
    model = mlp(load, tmp_path)
    order(machine, "execute_async_v3", 1, "cudaErrorInvalidValue")
    with pytest.raises(BackendError, match="the run was refused: .*cudaErrorInvalidValue"):
        answer(model, rows(2))
    assert answer(model, rows(2)).shape == (2, 4)


def test_a_device_beyond_those_there_is_named(machine: Any) -> None:
    from serving.backends.base import Device
    from serving.backends.registry import open_backend

    with pytest.raises(BackendError, match="no gpu:3; this process sees gpu:0 alone"):
        open_backend("tensorrt", Device("gpu", 3))


def test_no_device_at_all_is_told(machine: Any) -> None:
    from serving.backends.base import Device
    from serving.backends.registry import open_backend

    machine.devices = 0
    with pytest.raises(BackendError, match="no NVIDIA GPU can be used here"):
        open_backend("tensorrt", Device("gpu", 0))


def test_versions_are_told(backend: Backend) -> None:
    assert backend.versions() == {"tensorrt": "10.14.1.48", "cuda": "13.1", "cuda driver": "13.1"}
