"""The simulated GPU holds its users to the documentation: one test for each rule."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import models
from tests.doubles.gpu import ENVIRONMENT, simulated_gpu
from tests.doubles.tensorrt import tensorrt_plan

POISON = 0xDB


class Gpu:
    """The two modules, a logger, and short names for what every test does."""

    def __init__(self, machine: Any) -> None:
        import importlib

        self.machine = machine
        self.cuda: Any = importlib.import_module("cuda.bindings.runtime")
        self.trt: Any = importlib.import_module("tensorrt")
        self.said: list[str] = []
        trt, said = self.trt, self.said

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, msg: str) -> None:
                said.append(f"{severity.name}: {msg}")

        self.logger = Logger()

    def ok(self, result: tuple[Any, ...]) -> Any:
        assert result[0].name == "cudaSuccess", result
        return result[1] if len(result) > 1 else None

    def engine(self, source: Path, *profiles: Any, **plan: Any) -> Any:
        told = tensorrt_plan.Plan(source.read_bytes(), profiles, **plan)
        return self.trt.Runtime(self.logger).deserialize_cuda_engine(told.to_bytes())

    def to_device(self, target: int, array: np.ndarray[Any, Any], stream: int) -> Any:
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        address = array.__array_interface__["data"][0]
        return self.cuda.cudaMemcpyAsync(target, address, array.nbytes, kind, stream)

    def to_host(self, array: np.ndarray[Any, Any], source: int, stream: int) -> Any:
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        address = array.__array_interface__["data"][0]
        return self.cuda.cudaMemcpyAsync(address, source, array.nbytes, kind, stream)

    def record(self, context: Any, stream: int) -> int:
        mode = self.cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.ok(self.cuda.cudaStreamBeginCapture(stream, mode))
        assert context.execute_async_v3(stream)
        graph = self.ok(self.cuda.cudaStreamEndCapture(stream))
        ready: int = self.ok(self.cuda.cudaGraphInstantiate(graph, 0))
        return ready

    def pinned(self, count: int) -> np.ndarray[Any, Any]:
        import ctypes

        address = self.ok(self.cuda.cudaHostAlloc(4 * count, 0))
        return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address))


@pytest.fixture
def gpu() -> Iterator[Gpu]:
    with simulated_gpu() as machine:
        yield Gpu(machine)


@pytest.fixture
def ready(gpu: Gpu, tmp_path: Path) -> tuple[Any, int, int, int]:
    """Return a context for 3 rows of ``y = x`` with addresses set: context, stream, x, y."""
    engine = gpu.engine(models.identity(tmp_path / "m", "FP32", ("n",)), {"x": [[1], [4], [8]]})
    context = engine.create_execution_context()
    stream = gpu.ok(gpu.cuda.cudaStreamCreateWithFlags(1))
    x, y = gpu.ok(gpu.cuda.cudaMalloc(12)), gpu.ok(gpu.cuda.cudaMalloc(12))
    assert context.set_input_shape("x", (3,))
    assert context.set_tensor_address("x", x)
    assert context.set_tensor_address("y", y)
    return context, stream, x, y


def test_double_runs_an_engine(gpu: Gpu, ready: tuple[Any, int, int, int]) -> None:
    context, stream, x, y = ready
    given, out = gpu.pinned(3), gpu.pinned(3)
    given[:] = [1, 2, 3]
    gpu.ok(gpu.to_device(x, given, stream))
    assert context.execute_async_v3(stream)
    gpu.ok(gpu.to_host(out, y, stream))
    gpu.ok(gpu.cuda.cudaStreamSynchronize(stream))
    assert out.tolist() == [1, 2, 3]
    assert gpu.machine.violations == []


def test_double_shows_poison_until_the_stream_is_waited_for(
    gpu: Gpu, ready: tuple[Any, int, int, int]
) -> None:
    context, stream, x, y = ready
    given, out = gpu.pinned(3), gpu.pinned(3)
    given[:] = [1, 2, 3]
    gpu.ok(gpu.to_device(x, given, stream))
    assert context.execute_async_v3(stream)
    gpu.ok(gpu.to_host(out, y, stream))
    gpu.machine.drain()  # it is done, and still nothing is to be seen
    assert set(out.view(np.uint8).tolist()) == {POISON}
    gpu.ok(gpu.cuda.cudaStreamSynchronize(stream))
    assert out.tolist() == [1, 2, 3]


@pytest.mark.parametrize("shape", [(9,), (0,), (3, 1)])
def test_double_takes_no_shape_outside_of_the_profile(
    gpu: Gpu, ready: tuple[Any, int, int, int], shape: tuple[int, ...]
) -> None:
    assert not ready[0].set_input_shape("x", shape)
    assert "Supported range is [1] to [8]" in gpu.said[-1]


def test_double_runs_nothing_without_shapes(gpu: Gpu, tmp_path: Path) -> None:
    engine = gpu.engine(models.identity(tmp_path / "m", "FP32", ("n",)), {"x": [[1], [4], [8]]})
    context = engine.create_execution_context()
    assert context.infer_shapes() == ["x"]
    assert not context.execute_async_v3(gpu.ok(gpu.cuda.cudaStreamCreateWithFlags(1)))
    assert "not all input shapes were set" in gpu.said[-1]


def test_double_runs_nothing_without_addresses(gpu: Gpu, tmp_path: Path) -> None:
    engine = gpu.engine(models.identity(tmp_path / "m", "FP32", (2,)))
    context = engine.create_execution_context()
    assert not context.execute_async_v3(gpu.ok(gpu.cuda.cudaStreamCreateWithFlags(1)))
    assert "the address of x is not set" in gpu.said[-1]


@pytest.mark.parametrize("how", ["short", "freed", "host"])
def test_double_tells_of_memory_that_will_not_do(
    gpu: Gpu, ready: tuple[Any, int, int, int], how: str
) -> None:
    context, stream, _, y = ready
    if how == "short":
        assert context.set_tensor_address("y", gpu.ok(gpu.cuda.cudaMalloc(11)))
    elif how == "freed":
        gpu.ok(gpu.cuda.cudaFree(y))
    else:
        assert context.set_tensor_address("y", gpu.ok(gpu.cuda.cudaHostAlloc(12, 0)))
    assert not context.execute_async_v3(stream)
    assert gpu.machine.violations == ["y lies in memory that is not alive or too short"]


def test_double_takes_one_run_at_a_time_for_a_context(
    gpu: Gpu, ready: tuple[Any, int, int, int]
) -> None:
    context, stream, _, _ = ready
    assert context.execute_async_v3(stream)
    assert not context.execute_async_v3(stream)
    assert "under way" in gpu.machine.violations[0]
    gpu.ok(gpu.cuda.cudaStreamSynchronize(stream))
    assert context.execute_async_v3(stream)


def test_double_forgets_shapes_with_the_profile(gpu: Gpu, tmp_path: Path) -> None:
    profile = {"x": [[1], [4], [8]]}
    engine = gpu.engine(models.identity(tmp_path / "m", "FP32", ("n",)), profile, profile)
    context = engine.create_execution_context()
    stream = gpu.ok(gpu.cuda.cudaStreamCreateWithFlags(1))
    assert context.set_input_shape("x", (3,))
    assert context.infer_shapes() == []
    assert context.set_optimization_profile_async(1, stream)
    assert context.infer_shapes() == ["x"]
    assert not context.set_optimization_profile_async(2, stream)


@pytest.mark.parametrize("way", ["from", "to"])
def test_double_copies_only_memory_of_the_host_that_is_reached(
    gpu: Gpu, ready: tuple[Any, int, int, int], way: str
) -> None:
    _, stream, x, _ = ready
    plain = np.zeros(3, np.float32)
    result = gpu.to_device(x, plain, stream) if way == "from" else gpu.to_host(plain, x, stream)
    assert result[0].name == "cudaErrorInvalidValue"
    assert "does not reach" in gpu.machine.violations[0]


def test_double_copies_nothing_into_memory_registered_to_be_read(gpu: Gpu) -> None:
    page = mmap.mmap(-1, 4096)
    array = np.frombuffer(page, np.float32, 3)
    address = array.__array_interface__["data"][0]
    stream, x = gpu.ok(gpu.cuda.cudaStreamCreateWithFlags(1)), gpu.ok(gpu.cuda.cudaMalloc(12))
    gpu.ok(gpu.cuda.cudaHostRegister(address, 4096, gpu.cuda.cudaHostRegisterReadOnly))
    gpu.ok(gpu.to_device(x, array, stream))
    assert gpu.to_host(array, x, stream)[0].name == "cudaErrorInvalidValue"
    gpu.ok(gpu.cuda.cudaStreamSynchronize(stream))
    gpu.ok(gpu.cuda.cudaHostUnregister(address))


def test_double_registers_memory_once(gpu: Gpu) -> None:
    page = mmap.mmap(-1, 8192)
    address = np.frombuffer(page, np.uint8).__array_interface__["data"][0]
    gpu.ok(gpu.cuda.cudaHostRegister(address, 8192, 0))
    inner = gpu.cuda.cudaHostRegister(address + 4096, 4096, 0)
    assert inner[0].name == "cudaErrorHostMemoryAlreadyRegistered"
    gpu.ok(gpu.cuda.cudaHostUnregister(address))
    again = gpu.cuda.cudaHostUnregister(address)
    assert again[0].name == "cudaErrorHostMemoryNotRegistered"


def test_double_registers_memory_that_may_only_be_read_as_such_alone(gpu: Gpu) -> None:
    fd = os.memfd_create("pages")
    os.ftruncate(fd, 4096)
    page = mmap.mmap(fd, 4096, access=mmap.ACCESS_READ)
    os.close(fd)
    address = np.frombuffer(page, np.uint8).__array_interface__["data"][0]
    plain = gpu.cuda.cudaHostRegister(address, 4096, gpu.cuda.cudaHostRegisterDefault)
    assert plain[0].name == "cudaErrorInvalidValue"
    gpu.ok(gpu.cuda.cudaHostRegister(address, 4096, gpu.cuda.cudaHostRegisterReadOnly))


def test_double_sees_rows_that_are_written_while_they_are_copied(
    gpu: Gpu, ready: tuple[Any, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, stream, x, _ = ready
    monkeypatch.setattr(gpu.machine, "sleep_s", 0.2)
    given = gpu.pinned(3)
    given[:] = 1
    assert context.execute_async_v3(stream)  # so that the copy has to wait
    gpu.ok(gpu.to_device(x, given, stream))
    given[:] = 2
    gpu.ok(gpu.cuda.cudaStreamSynchronize(stream))
    assert "was written while a copy from it" in gpu.machine.violations[0]


def test_double_lets_nothing_wait_or_allocate_in_a_recording(
    gpu: Gpu, ready: tuple[Any, int, int, int]
) -> None:
    _, stream, _, _ = ready
    mode = gpu.cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    for call in (
        lambda: gpu.cuda.cudaStreamSynchronize(stream),
        lambda: gpu.cuda.cudaMalloc(16),
    ):
        gpu.ok(gpu.cuda.cudaStreamBeginCapture(stream, mode))
        assert call()[0].name == "cudaErrorStreamCaptureUnsupported"
        ended = gpu.cuda.cudaStreamEndCapture(stream)
        assert ended[0].name == "cudaErrorStreamCaptureInvalidated"
        assert ended[1] is None
        gpu.cuda.cudaGetLastError()


def test_double_plays_a_recording_as_often_as_it_is_launched(
    gpu: Gpu, ready: tuple[Any, int, int, int]
) -> None:
    context, stream, x, y = ready
    given, out = gpu.pinned(3), gpu.pinned(3)
    assert context.execute_async_v3(stream)
    gpu.ok(gpu.cuda.cudaStreamSynchronize(stream))
    ready_graph = gpu.record(context, stream)
    assert gpu.machine.launches == 1
    for value in (4, 5):
        given[:] = value
        gpu.ok(gpu.to_device(x, given, stream))
        gpu.ok(gpu.cuda.cudaGraphLaunch(ready_graph, stream))
        gpu.ok(gpu.to_host(out, y, stream))
        gpu.ok(gpu.cuda.cudaStreamSynchronize(stream))
        assert out.tolist() == [value] * 3
    assert gpu.machine.violations == []
    assert context.set_input_shape("x", (3,))
    gpu.ok(gpu.cuda.cudaGraphLaunch(ready_graph, stream))
    gpu.ok(gpu.cuda.cudaStreamSynchronize(stream))
    assert "after its context's shapes had changed" in gpu.machine.violations[0]


def test_double_wants_a_plain_run_before_a_recording(
    gpu: Gpu, ready: tuple[Any, int, int, int]
) -> None:
    context, stream, _, _ = ready
    gpu.record(context, stream)
    assert "not run plainly" in gpu.machine.violations[0]


def test_double_runs_no_two_contexts_in_the_same_memory(gpu: Gpu, tmp_path: Path) -> None:
    engine = gpu.engine(models.identity(tmp_path / "m", "FP32", (2,)))
    shared = gpu.ok(gpu.cuda.cudaMalloc(engine.device_memory_size_v2))
    strategy = gpu.trt.ExecutionContextAllocationStrategy.USER_MANAGED
    contexts = [engine.create_execution_context(strategy) for _ in range(2)]
    streams = [gpu.ok(gpu.cuda.cudaStreamCreateWithFlags(1)) for _ in range(2)]
    for context in contexts:
        for name in "xy":
            assert context.set_tensor_address(name, gpu.ok(gpu.cuda.cudaMalloc(8)))
    assert not contexts[0].execute_async_v3(streams[0])
    assert "given no memory" in gpu.said[-1]
    for context in contexts:
        context.set_device_memory(shared, engine.device_memory_size_v2)
    assert contexts[0].execute_async_v3(streams[0])
    assert not contexts[1].execute_async_v3(streams[1])
    assert "a run in its memory was under way" in gpu.machine.violations[0]
    gpu.ok(gpu.cuda.cudaStreamSynchronize(streams[0]))
    assert contexts[1].execute_async_v3(streams[1])
    gpu.ok(gpu.cuda.cudaStreamSynchronize(streams[1]))


def test_double_keeps_a_sticky_error_for_good(gpu: Gpu) -> None:
    from cuda.simulated.failures import Order

    gpu.machine.failures.order(Order("cudaMalloc", -1, 2, "cudaErrorIllegalAddress"))
    address = gpu.ok(gpu.cuda.cudaMalloc(16))
    assert gpu.cuda.cudaMalloc(16)[0].name == "cudaErrorIllegalAddress"
    assert gpu.cuda.cudaGetLastError()[0].name == "cudaErrorIllegalAddress"
    assert gpu.cuda.cudaMemGetInfo() == (gpu.cuda.cudaError_t.cudaErrorIllegalAddress, None, None)
    assert gpu.cuda.cudaFree(address)[0].name == "cudaErrorIllegalAddress"
    assert not gpu.machine.on_device.live


def test_double_forgets_an_ordinary_error_once_it_was_asked_for(gpu: Gpu) -> None:
    assert gpu.cuda.cudaSetDevice(7)[0].name == "cudaErrorInvalidDevice"
    assert gpu.cuda.cudaGetLastError()[0].name == "cudaErrorInvalidDevice"
    assert gpu.cuda.cudaGetLastError()[0].name == "cudaSuccess"


def test_double_takes_no_subclass_whose_base_was_not_initialised(gpu: Gpu) -> None:
    class Careless(gpu.trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match="must be called"):
        gpu.trt.Runtime(Careless())


def test_double_tells_of_an_engine_that_goes_before_its_context(gpu: Gpu, tmp_path: Path) -> None:
    engine = gpu.engine(models.identity(tmp_path / "m", "FP32", (2,)))
    engine.contexts += 1  # as if a context were held elsewhere, without a reference to it
    del engine
    assert "before its contexts" in gpu.machine.violations[0]


def test_double_obeys_its_environment_in_other_processes(tmp_path: Path) -> None:
    code = textwrap.dedent(
        """
        from cuda.bindings import runtime as cuda
        import tensorrt
        assert cuda.cudaGetDeviceCount()[1] == 3
        assert cuda.cudaSetDevice(1)[0].name == "cudaSuccess"
        for expected in ("cudaSuccess", "cudaErrorMemoryAllocation", "cudaSuccess"):
            assert cuda.cudaMalloc(64)[0].name == expected, expected
        assert cuda.cudaMalloc(2 << 20)[0].name == "cudaErrorMemoryAllocation"
        """
    )
    report, once = tmp_path / "report", tmp_path / "once"
    env = {
        **os.environ,
        **ENVIRONMENT,
        "TRT_DOUBLE_DEVICES": "3",
        "TRT_DOUBLE_MEMORY_MB": "1",
        "TRT_DOUBLE_FAIL": "cudaMalloc@1:2:cudaErrorMemoryAllocation",
        "TRT_DOUBLE_FAIL_ONCE": str(once),
        "TRT_DOUBLE_REPORT": str(report),
    }
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    told = json.loads(report.read_text())
    assert told["live"] == {"device memory": 2}
    assert told["calls"]["cudaMalloc"] == 4
    assert once.exists()
    env["TRT_DOUBLE_MEMORY_MB"] = "8192"
    again = code.replace('"cudaErrorMemoryAllocation", ', '"cudaSuccess", ', 1)
    again = again.replace('== "cudaErrorMemoryAllocation"', '== "cudaSuccess"')
    subprocess.run([sys.executable, "-c", again], env=env, check=True)
