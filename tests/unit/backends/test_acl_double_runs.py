"""The double of ``acl`` holds callers to CANN's rules: streams, models, ownership, faults."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import models
from tests.doubles.om import ACL_FOLDER, compile_om
from tests.unit.backends.acl_caller import D2H, H2D, Run

# 6. What is asynchronous.


def test_double_does_nothing_of_a_stream_before_it_is_synchronised(card: Any, plain: Path) -> None:
    run = Run(card, plain)
    run.put(np.array([3, 4], np.float32))
    pinned, _ = card.rt.malloc_host(8)
    assert run.start() == 0
    assert card.rt.memcpy_async(pinned, 8, run.wanted_at[0], 8, D2H, run.stream) == 0
    early = ctypes.string_at(pinned, 8)
    assert early == b"\xa5" * 8
    assert card.rt.synchronize_stream(run.stream) == 0
    assert np.frombuffer(ctypes.string_at(pinned, 8), np.float32).tolist() == [3, 4]


def test_double_wants_what_is_in_flight_left_alone(
    card: Any, plain: Path, broken: Callable[[str], Any]
) -> None:
    run = Run(card, plain)
    run.put(np.zeros(2, np.float32))
    assert run.start() == 0
    for call in (
        lambda: card.rt.free(run.given_at[0]),
        lambda: card.destroy_data_buffer(run.given_buffers[0]),
        lambda: card.mdl.destroy_dataset(run.wanted),
        lambda: card.mdl.unload(run.model),
        lambda: card.rt.destroy_stream(run.stream),
        lambda: card.update_data_buffer(run.given_buffers[0], run.given_at[0], 8),
        lambda: run.put(np.ones(2, np.float32)),
    ):
        with broken("in flight"):
            call()
    assert card.rt.synchronize_stream(run.stream) == 0


def test_double_notices_a_source_that_changed_and_memory_that_is_not_pinned(
    card: Any, broken: Callable[[str], Any]
) -> None:
    device, _ = card.rt.malloc(8, 0)
    pinned, _ = card.rt.malloc_host(8)
    stream, _ = card.rt.create_stream()
    host = np.zeros(8, np.uint8)
    with broken("not pinned"):
        card.rt.memcpy_async(device, 8, host.ctypes.data, 8, H2D, stream)
    assert card.rt.memcpy_async(device, 8, pinned, 8, H2D, stream) == 0
    ctypes.memset(pinned, 1, 1)
    with broken("changed while it was in flight"):
        card.rt.synchronize_stream(stream)


def test_double_does_not_take_a_model_on_two_streams(
    card: Any, plain: Path, broken: Callable[[str], Any]
) -> None:
    run = Run(card, plain)
    other, _ = card.rt.create_stream()
    assert run.start() == 0
    with broken("one model is in flight on two streams"):
        run.start(other)
    assert card.rt.synchronize_stream(run.stream) == 0
    assert run.start(other) == 0


# 7. Who owns what.


def test_double_frees_nothing_with_a_data_set(
    double: Any, card: Any, plain: Path, broken: Callable[[str], Any]
) -> None:
    run = Run(card, plain)
    assert card.mdl.destroy_dataset(run.given) == 0
    with broken("after this dataset was given up"):
        card.mdl.destroy_dataset(run.given)
    live = double.report()["live"]
    assert (live["data buffer"], live["device memory"], live["dataset"]) == (2, 2, 1)
    assert double.report()["live_bytes"] == 16
    assert card.destroy_data_buffer(run.given_buffers[0]) == 0
    assert double.report()["live"]["device memory"] == 2
    assert len(double.report()["violations"]) == 1


# 8. What models say of themselves.


def test_double_has_gears_as_a_last_input_found_by_name(card: Any, gears: Path) -> None:
    run = Run(card, gears)
    name = "ascend_mbatch_shape_data"
    assert card.mdl.get_num_inputs(run.desc) == 2
    assert card.mdl.get_input_index_by_name(run.desc, name) == (1, 0)
    assert card.mdl.get_input_index_by_name(run.desc, "nosuch")[1] != 0
    assert card.mdl.get_input_size_by_index(run.desc, 0) == 16
    told = {"batchCount": 3, "batch": [1, 2, 4]}
    assert card.mdl.get_dynamic_batch(run.desc) == (told, 0)
    assert card.mdl.get_cur_output_dims(run.desc, 0) == ({}, 100000)
    assert run.rows(2) == 0
    assert card.mdl.get_cur_output_dims(run.desc, 0)[0]["dims"] == [2]


def test_double_runs_at_the_gear_that_was_set_for_that_execution(card: Any, gears: Path) -> None:
    run = Run(card, gears)
    run.put(np.arange(1, 5, dtype=np.float32))
    assert run.start() == 145013
    assert run.rows(3) == 145013
    assert run.rows(0) == 100000
    assert run.rows(2) == 0
    assert run.start() == 0
    assert card.rt.synchronize_stream(run.stream) == 0
    poison = np.frombuffer(b"\xa5" * 8, np.float32).tolist()
    assert run.get(4) == [1, 2, *poison]
    assert run.start() == 145013


def test_double_wants_buffers_of_the_largest_gear_but_for_64_bytes(
    card: Any, tmp_path: Path
) -> None:
    onnx = models.identity(tmp_path / "m.onnx", "FP32", (64,))
    run = Run(card, compile_om(onnx, tmp_path / "m.om"))
    for size, code in ((256 - 64, 0), (256 - 65, 145000)):
        card.update_data_buffer(run.wanted_buffers[0], run.wanted_at[0], size)
        assert run.start() == code
        if code == 0:
            assert card.rt.synchronize_stream(run.stream) == 145000  # what runs over is noticed


def test_double_leaves_free_sizes_to_the_caller(card: Any, free: Path) -> None:
    run = Run(card, free)
    assert card.mdl.get_input_size_by_index(run.desc, 0) == 0
    assert card.mdl.get_cur_output_dims(run.desc, 0) == ({}, 200001)
    run.put(np.arange(3, dtype=np.float32))
    assert run.start() == 100000
    desc = card.create_tensor_desc(0, [3], 2)
    assert card.mdl.set_dataset_tensor_desc(run.given, desc, 0) == (run.given, 0)
    card.destroy_tensor_desc(desc)
    assert run.start() == 0
    assert card.rt.synchronize_stream(run.stream) == 0
    told = card.mdl.get_dataset_tensor_desc(run.wanted, 0)
    assert card.get_tensor_desc_num_dims(told) == 1
    assert card.get_tensor_desc_dim_v2(told, 0) == (3, 0)
    assert run.get(3) == [0, 1, 2]


# 9. Memory that the library takes for the caller.


def test_double_allocates_an_output_that_has_no_address(
    double: Any, card: Any, plain: Path
) -> None:
    run = Run(card, plain)
    run.put(np.array([5, 6], np.float32))
    card.update_data_buffer(run.wanted_buffers[0], 0, 0)
    before = double.report()["live"]["device memory"]
    assert run.start() == 100000
    assert card.mdl.execute(run.model, run.given, run.wanted) == 0
    assert double.report()["live"]["device memory"] == before + 1
    address = card.get_data_buffer_addr(run.wanted_buffers[0])
    assert card.get_data_buffer_size_v2(run.wanted_buffers[0]) == 8
    assert card.rt.free(address) == 0


# 10. The GIL.


def test_double_stops_other_threads_in_execute_and_not_in_synchronize(
    card: Any, tmp_path: Path
) -> None:
    onnx = models.identity(tmp_path / "m.onnx", "FP32", (2,))
    run = Run(card, compile_om(onnx, tmp_path / "m.om", sleep_ms=400))
    run.put(np.zeros(2, np.float32))

    def longest_pause(do: Callable[[], Any]) -> float:
        pauses, stop = [0.0], threading.Event()

        def beat() -> None:
            last = time.monotonic()
            while not stop.is_set():
                time.sleep(0.005)
                now = time.monotonic()
                pauses.append(now - last)
                last = now

        thread = threading.Thread(target=beat)
        thread.start()
        time.sleep(0.05)
        assert do() == 0
        stop.set()
        thread.join()
        return max(pauses)

    assert longest_pause(lambda: card.mdl.execute(run.model, run.given, run.wanted)) > 0.35
    assert run.start() == 0
    assert longest_pause(lambda: card.rt.synchronize_stream(run.stream)) < 0.3


# 11. Faults.


def test_double_fails_the_call_that_it_is_told_to(
    double: Any, card: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    double.fail_at("rt.malloc", 2, 207001)
    assert [card.rt.malloc(64, 0)[1] for _ in range(3)] == [0, 207001, 0]
    monkeypatch.setenv("ACL_DOUBLE_FAIL", "rt.malloc:1=207018;*:1=500000")
    double.renew()
    assert card.init() == 500000
    assert card.init() == 0
    card.rt.set_device(0)
    assert card.rt.malloc(64, 0) == (0, 207018)
    assert "told to fail" in card.get_recent_err_msg()


def test_double_times_out_and_goes_on(card: Any, tmp_path: Path) -> None:
    onnx = models.identity(tmp_path / "m.onnx", "FP32", (2,))
    run = Run(card, compile_om(onnx, tmp_path / "m.om", sleep_ms=200))
    run.put(np.array([1, 2], np.float32))
    assert run.start() == 0
    assert card.rt.synchronize_stream_with_timeout(run.stream, 50) == 507046
    assert card.rt.synchronize_stream_with_timeout(run.stream, -1) == 0
    assert run.get(2) == [1, 2]


def test_double_loses_a_device_while_a_file_says_so(
    double: Any, acl: Any, tmp_path: Path, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACL_DOUBLE_LOST", str(tmp_path))
    double.renew()
    acl.init()
    acl.rt.set_device(0)
    run = Run(acl, plain)
    assert run.start() == 0
    (tmp_path / "0").touch()
    assert acl.rt.synchronize_stream(run.stream) == 507010
    assert acl.rt.set_device(0) == 507010
    (tmp_path / "0").unlink()
    assert acl.rt.set_device(0) == 0


def test_double_refuses_broken_files_and_other_chips(card: Any, plain: Path) -> None:
    whole = plain.read_bytes()
    for content, code in ((whole[:-1], 145006), (b"IMOD", 145006), (b"x" * 300, 145006)):
        plain.write_bytes(content)
        assert card.mdl.load_from_file(str(plain)) == (0, code)
    assert card.mdl.load_from_file(str(plain.parent / "nosuch")) == (0, 145002)
    other = compile_om(plain.with_suffix(".onnx"), plain, soc="Ascend910B3")
    assert card.mdl.load_from_file(str(other)) == (0, 545001)


def test_double_reports_a_failed_execution_when_synchronised(card: Any, tmp_path: Path) -> None:
    onnx = models.picky(tmp_path / "m.onnx")
    om = compile_om(onnx, tmp_path / "m.om", kind="batch", gears=[[1], [2]])
    run = Run(card, om)
    run.put(np.array([5000], np.int64))
    assert run.rows(1) == 0
    assert run.start() == 0
    assert card.rt.synchronize_stream(run.stream) == 507011
    assert card.get_recent_err_msg()


# 12. Numbers, and what is written down.


def test_double_computes_what_the_model_says(card: Any, tmp_path: Path) -> None:
    import onnxruntime as ort

    onnx = models.mlp_whole_numbers(tmp_path / "m.onnx")
    run = Run(card, compile_om(onnx, tmp_path / "m.om", kind="batch", gears=[[1], [3]]))
    x = (np.arange(48, dtype=np.float32) % 7).reshape(3, 16)
    run.put(x)
    assert run.rows(3) == 0
    assert run.start() == 0
    assert card.rt.synchronize_stream(run.stream) == 0
    wanted = ort.InferenceSession(str(onnx)).run(None, {"x": x})[0]
    assert run.get(12) == wanted.ravel().tolist()


def test_double_writes_a_trace_and_a_report(tmp_path: Path, gears: Path) -> None:
    program = f"""
import acl
acl.init(); acl.rt.set_device(0); acl.rt.malloc(100, 0)
acl.mdl.load_from_file({str(gears)!r})
try:
    acl.rt.free(77)
except AssertionError:
    pass
"""
    env = {
        **os.environ, "PYTHONPATH": str(ACL_FOLDER),
        "ACL_DOUBLE_TRACE": str(tmp_path / "trace"), "ACL_DOUBLE_REPORT": str(tmp_path / "report"),
    }  # fmt: skip
    subprocess.run([sys.executable, "-c", program], env=env, check=True, timeout=60)
    trace = [json.loads(line) for line in (tmp_path / "trace").read_text().splitlines()]
    assert [one["call"] for one in trace] == [
        "init", "rt.set_device", "rt.malloc", "mdl.load_from_file",
    ]  # fmt: skip
    report = json.loads((tmp_path / "report").read_text())
    assert report["live"] == {"device memory": 1, "model": 1}
    assert report["live_bytes"] == 100
    assert report["violations"] == ["0x4d is used as device memory and is no handle"]
