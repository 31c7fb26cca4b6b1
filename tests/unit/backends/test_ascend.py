"""The Ascend backend on the double of ``acl``: sizes, gears, threads, errors."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.backends.base import (
    Backend,
    BackendError,
    DeviceLost,
    MemoryExhausted,
    Model,
    ModelSource,
)
from serving.backends.registry import open_backend
from serving.devices import Device
from serving.tensor import FP32, INT64, Array, Tensor, TensorSpec
from tests import models
from tests.doubles import ascend
from tests.doubles.om import compile_om

NPU = Device("ascend", 0)
Load = Callable[..., Model]


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("ACL_DOUBLE_TRACE", str(tmp_path / "trace"))
    monkeypatch.setenv("ACL_DOUBLE_LOST", str(tmp_path / "lost"))
    with ascend.installed() as installed:
        yield installed
        assert installed.report()["violations"] == []
        assert installed.report()["live"] == {}


@pytest.fixture
def backend(double: Any) -> Iterator[Backend]:
    backend = open_backend("ascend", NPU)
    yield backend
    backend.close()


@pytest.fixture
def load(backend: Backend, tmp_path: Path) -> Load:
    """Return what compiles an ONNX file with the double and loads it."""

    def load(onnx: Path, options: dict[str, str] | None = None, **how: Any) -> Model:
        om = compile_om(onnx, tmp_path / f"{onnx.stem}.om", **how)
        return backend.load(ModelSource(str(om), 1, options or {}))

    return load


@pytest.fixture
def echo(load: Load, tmp_path: Path) -> Model:
    onnx = models.identity(tmp_path / "echo.onnx", "FP32", ("batch", 3))
    return load(onnx, kind="batch", gears=[[1], [2], [4]])


def run(model: Model, *arrays: Array) -> list[Array]:
    named = zip(model.signature.inputs, arrays, strict=True)
    outputs = model.bind([Tensor.of(spec.name, array) for spec, array in named], None).run()
    assert outputs is not None
    return [tensor.array for tensor in outputs if tensor.array is not None]


def traced(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "trace").read_text().splitlines()]


def rows(count: int, start: int = 0) -> Array:
    return np.arange(start, start + 3 * count, dtype=np.float32).reshape(count, 3)


# -- sizes and gears ---


def test_ascend_names_tensors_as_people_do_and_the_batch_that_varies(echo: Model) -> None:
    assert echo.signature.inputs == (TensorSpec("x", FP32, ("batch", 3)),)
    assert echo.signature.outputs == (TensorSpec("y", FP32, ("batch", 3)),)
    assert echo.gears == (1, 2, 4)


def test_ascend_sets_the_gear_before_every_execution(echo: Model, tmp_path: Path) -> None:
    bindings = {n: echo.bind([Tensor.of("x", rows(n))], None) for n in (1, 4, 2)}
    began = len(traced(tmp_path))
    for count in (4, 4, 1, 2, 4):
        outputs = bindings[count].run()
        assert outputs is not None
        assert outputs[0].shape == (count, 3)
    calls = [one for one in traced(tmp_path)[began:] if one.get("call", "")[:4] == "mdl."]
    sets = [(one["call"], one["args"][-1]) for one in calls][::2]
    assert sets == [("mdl.set_dynamic_batch_size", n) for n in (4, 4, 1, 2, 4)]
    assert [one["call"] for one in calls][1::2] == ["mdl.execute_async"] * 5
    executed = [one["gear"] for one in traced(tmp_path) if one.get("event") == "execute"]
    assert executed == [[4], [4], [1], [2], [4]]


def test_ascend_run_makes_calls_in_this_order_and_takes_no_memory(
    echo: Model, tmp_path: Path
) -> None:
    binding = echo.bind([Tensor.of("x", rows(2))], None)
    began = len(traced(tmp_path))
    binding.run()
    assert [one["call"] for one in traced(tmp_path)[began:] if "call" in one] == [
        "rt.set_context",
        "rt.memcpy_async",
        "mdl.set_dynamic_batch_size",
        "mdl.execute_async",
        "rt.memcpy_async",
        "rt.synchronize_stream",
    ]


def test_ascend_gives_everything_back_in_this_order(
    backend: Backend, echo: Model, tmp_path: Path
) -> None:
    began = len(traced(tmp_path))
    echo.close()
    backend.close()
    calls = [one["call"] for one in traced(tmp_path)[began:]]
    one_side = ["destroy_data_buffer", "rt.free", "rt.free_host", "mdl.destroy_dataset"]
    assert calls == [
        "rt.set_context",
        *one_side,
        "destroy_data_buffer", "destroy_data_buffer", "rt.free", "rt.free_host", "rt.free",
        "mdl.destroy_dataset",
        "mdl.unload",
        "mdl.destroy_desc",
        "rt.destroy_stream",
        "rt.destroy_context",
        "rt.reset_device",
        "finalize",
    ]  # fmt: skip


def test_ascend_refuses_rows_that_are_no_gear_and_lives_on(echo: Model) -> None:
    with pytest.raises(BackendError, match=r"compiled for 1, 2 or 4 rows a run; .* 'x' has 3"):
        run(echo, rows(3))
    with pytest.raises(BackendError, match=r"other sizes than x \[2,2\]"):
        run(echo, np.zeros((2, 2), np.float32))
    with pytest.raises(BackendError, match="input 'x' is INT64, the model takes FP32"):
        echo.bind([Tensor("x", INT64, (2, 3), np.zeros((2, 3), np.int64))], None)
    assert np.array_equal(run(echo, rows(2))[0], rows(2))


def test_ascend_leaves_rows_beyond_a_smaller_gear_alone(echo: Model) -> None:
    out = np.full((4, 3), 7, np.float32)
    echo.bind([Tensor.of("x", rows(2))], [Tensor("y", FP32, (2, 3), out[:2])]).run()
    assert out[:2].tolist() == rows(2).tolist()
    assert (out[2:] == 7).all()


def test_ascend_takes_a_model_with_fixed_sizes(load: Load, tmp_path: Path) -> None:
    model = load(models.identity(tmp_path / "m.onnx", "FP32", (2, 3)))
    assert model.gears is None
    assert model.signature.inputs[0].shape == (2, 3)
    assert np.array_equal(run(model, rows(2))[0], rows(2))
    with pytest.raises(BackendError, match=r"shape \[1,3\], the model takes \[2,3\]"):
        run(model, rows(1))


def test_ascend_takes_image_sizes_as_gears(load: Load, tmp_path: Path) -> None:
    onnx = models.identity(tmp_path / "m.onnx", "FP32", (1, 3, "h", "w"))
    model = load(onnx, kind="image", gears=[[8, 4], [4, 4]])
    assert model.gears is None
    assert model.signature.inputs[0].shape == (1, 3, "height", "width")
    for height in (4, 8):
        image = np.random.default_rng(0).random((1, 3, height, 4), np.float32)
        assert np.array_equal(run(model, image)[0], image)
    with pytest.raises(BackendError, match="compiled for other sizes"):
        run(model, np.zeros((1, 3, 6, 4), np.float32))


def test_ascend_takes_sizes_of_all_inputs_as_gears(load: Load, tmp_path: Path) -> None:
    onnx = models.add(tmp_path / "m.onnx", ("batch", "n"))
    gears = [[b, n, b, n] for b in (1, 2) for n in (4, 8)]
    model = load(onnx, kind="dims", gears=gears)
    assert model.gears == (1, 2)
    for count, width in ((2, 4), (1, 8), (2, 8)):
        ones = np.ones((count, width), np.float32)
        assert np.array_equal(run(model, ones, ones)[0], ones * 2)
    with pytest.raises(BackendError, match="compiled for other sizes"):
        run(model, np.ones((2, 5), np.float32), np.ones((2, 5), np.float32))


def test_ascend_takes_free_sizes_where_outputs_are_bounded_by_an_option(
    load: Load, tmp_path: Path
) -> None:
    onnx = models.non_zero(tmp_path / "m.onnx")
    with pytest.raises(BackendError, match="how large output .* give the option 'output_bytes'"):
        load(onnx, kind="free")
    with pytest.raises(BackendError, match="is a number of bytes, not 'much'"):
        load(onnx, {"output_bytes": "much"}, kind="free")
    model = load(onnx, {"output_bytes": "64"}, kind="free")
    for values, wanted in (([1, 0, 1], [[0, 2]]), ([0, 0], [[]]), ([1] * 8, [list(range(8))])):
        assert run(model, np.array(values, np.float32))[0].tolist() == wanted
    with pytest.raises(BackendError):
        run(model, np.ones(9, np.float32))  # 72 bytes
    assert run(model, np.ones(1, np.float32))[0].tolist() == [[0]]


def test_ascend_refuses_dynamic_aipp_and_unknown_options(load: Load, tmp_path: Path) -> None:
    onnx = models.identity(tmp_path / "m.onnx", "FP32", (2,))
    with pytest.raises(BackendError, match="dynamic AIPP.*static AIPP"):
        load(onnx, dynamic_aipp=True)
    with pytest.raises(BackendError, match="no option 'outputbytes'; did you mean 'output_bytes'"):
        load(onnx, {"outputbytes": "1"})


# -- threads ---


def test_ascend_loads_on_one_thread_and_runs_on_others(load: Load, tmp_path: Path) -> None:
    onnx = models.identity(tmp_path / "m.onnx", "FP32", ("batch", 3))
    found: list[Any] = []

    def in_thread(do: Callable[[], Any]) -> Any:
        thread = threading.Thread(target=lambda: found.append(do()))
        thread.start()
        thread.join()
        return found.pop()

    model = in_thread(lambda: load(onnx, kind="batch", gears=[[1], [2]]))
    for start in range(3):
        assert np.array_equal(in_thread(lambda s=start: run(model, rows(2, s)))[0], rows(2, start))
    in_thread(model.close)


def test_ascend_runs_of_one_model_take_turns(double: Any, load: Load, tmp_path: Path) -> None:
    onnx = models.identity(tmp_path / "m.onnx", "FP32", ("batch", 3))
    model = load(onnx, kind="batch", gears=[[1], [2]])
    double.world().sleep_s = 0.02
    wrong: list[int] = []

    def many(seed: int) -> None:
        for start in range(seed, seed + 10):
            if not np.array_equal(run(model, rows(2, start))[0], rows(2, start)):
                wrong.append(start)

    threads = [threading.Thread(target=many, args=(100 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_ascend_lets_other_threads_go_on_while_the_device_computes(
    double: Any, echo: Model
) -> None:
    double.world().sleep_s = 0.6
    pauses = [0.0]
    done = threading.Event()

    def beat() -> None:
        last = time.monotonic()
        while not done.is_set():
            time.sleep(0.005)
            pauses.append(time.monotonic() - last)
            last = time.monotonic()

    thread = threading.Thread(target=beat)
    thread.start()
    run(echo, rows(4))
    done.set()
    thread.join()
    assert max(pauses) < 0.4


def test_ascend_run_that_is_cancelled_ends_with_the_device_and_fails(
    double: Any, echo: Model
) -> None:
    double.world().sleep_s = 0.4
    out = np.full((2, 3), 7, np.float32)
    binding = echo.bind([Tensor.of("x", rows(2))], [Tensor("y", FP32, (2, 3), out)])
    threading.Timer(0.1, binding.cancel).start()
    began = time.monotonic()
    with pytest.raises(BackendError, match="cancelled"):
        binding.run()
    assert time.monotonic() - began > 0.3
    assert (out == 7).all()
    double.world().sleep_s = 0.0
    assert np.array_equal(run(echo, rows(2))[0], rows(2))


# -- errors ---


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (100000, BackendError), (107000, BackendError), (145000, BackendError),
        (545001, BackendError), (200001, BackendError),
        (200000, MemoryExhausted), (207001, MemoryExhausted), (207018, MemoryExhausted),
        (245000, MemoryExhausted),
        (107002, DeviceLost), (107017, DeviceLost), (507010, DeviceLost), (507015, DeviceLost),
        (507046, DeviceLost), (507899, DeviceLost),
    ],
)  # fmt: skip
def test_ascend_code_of_a_run_has_its_class(
    double: Any, echo: Model, code: int, kind: type[BackendError]
) -> None:
    double.fail_at("mdl.execute_async", 1, code)
    with pytest.raises(BackendError) as raised:
        run(echo, rows(1))
    assert type(raised.value) is kind
    assert f"CANN's mdl.execute_async failed with {code}" in str(raised.value)
    assert "the double was told to fail" in str(raised.value)
    if kind is DeviceLost:
        with pytest.raises(DeviceLost):
            run(echo, rows(1))
    else:
        assert np.array_equal(run(echo, rows(1))[0], rows(1))


def test_ascend_device_that_is_lost_while_it_computes_is_told(
    double: Any, echo: Model, backend: Backend, tmp_path: Path
) -> None:
    (tmp_path / "lost").mkdir()
    double.world().sleep_s = 0.5
    threading.Timer(0.1, (tmp_path / "lost" / "0").touch).start()
    with pytest.raises(DeviceLost, match="507010"):
        run(echo, rows(1))
    with pytest.raises(DeviceLost):
        backend.load(ModelSource(str(tmp_path / "echo.om"), 1))
    backend.close()
    with pytest.raises(DeviceLost):
        open_backend("ascend", NPU)
    (tmp_path / "lost" / "0").unlink()
    open_backend("ascend", NPU).close()


def test_ascend_failure_of_a_model_on_the_device_loses_it(load: Load, tmp_path: Path) -> None:
    model = load(models.picky(tmp_path / "m.onnx"), kind="batch", gears=[[1], [2]])
    with pytest.raises(DeviceLost, match=r"507011 \(the execution failed on the device\)"):
        run(model, np.array([5000], np.int64))


def test_ascend_refuses_what_cannot_be_loaded_with_the_reason(
    load: Load, backend: Backend, tmp_path: Path
) -> None:
    onnx = models.identity(tmp_path / "m.onnx", "FP32", (2,))
    with pytest.raises(BackendError, match="545001 .*the model is for Ascend910B3"):
        load(onnx, soc="Ascend910B3")
    (tmp_path / "m.om").write_bytes((tmp_path / "m.om").read_bytes()[:-5])
    with pytest.raises(BackendError, match=r"145006 \(the model file is not whole\)"):
        backend.load(ModelSource(str(tmp_path / "m.om"), 1))
    with pytest.raises(BackendError, match="145002") as raised:
        backend.load(ModelSource(str(tmp_path / "nosuch"), 1))
    assert str(tmp_path) not in str(raised.value)


def test_ascend_device_that_is_not_there_is_told(double: Any) -> None:
    with pytest.raises(BackendError, match=r"rt.set_device failed with 107001 \(there is no such"):
        open_backend("ascend", Device("ascend", 3))
    with pytest.raises(BackendError, match="runs on ascend devices, not on gpu:0"):
        open_backend("ascend", Device("gpu", 0))


def test_ascend_without_cann_names_the_package() -> None:
    with pytest.raises(BackendError, match="'ascend' needs a package that is missing: .*'acl'"):
        open_backend("ascend", NPU)


def test_ascend_two_devices_of_one_process_are_kept_apart(
    double: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACL_DOUBLE_DEVICES", "2")
    double.renew()
    onnx = models.identity(tmp_path / "m.onnx", "FP32", ("batch", 3))
    om = compile_om(onnx, tmp_path / "m.om", kind="batch", gears=[[1], [2]])
    backends = [open_backend("ascend", Device("ascend", n)) for n in range(2)]
    loaded = [backend.load(ModelSource(str(om), 1)) for backend in backends]
    for model in loaded * 2:
        assert np.array_equal(run(model, rows(2))[0], rows(2))
    executed = [one["device"] for one in traced(tmp_path) if one.get("event") == "execute"]
    assert executed == [0, 1, 0, 1]
    for backend in backends:
        backend.close()


def test_ascend_tells_versions(backend: Backend) -> None:
    assert backend.versions() == {"acl": "1.15.0", "soc": "Ascend310P3"}


def test_ascend_does_without_what_older_releases_lack(
    backend: Backend, echo: Model, double: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import acl  # type: ignore[import-not-found]

    monkeypatch.delattr(acl, "get_version")
    monkeypatch.delattr(acl, "get_recent_err_msg")
    assert backend.versions() == {"acl": "unknown", "soc": "Ascend310P3"}
    double.fail_at("mdl.execute_async", 1, 145000)
    with pytest.raises(BackendError, match=r"145000 \(a parameter is not valid for the model\)$"):
        run(echo, rows(1))
