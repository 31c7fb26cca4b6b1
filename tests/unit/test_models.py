"""The generated test models do what their docstrings say, in onnxruntime alone."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from serving.tensor import BF16, BY_NAME
from tests import models

RNG = np.random.default_rng(5)


def load(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def rows(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


INDEPENDENT = {
    "mlp": (models.mlp, lambda n: rows(n, 16), 1e-6),
    "mlp_external_data": (models.mlp_external_data, lambda n: rows(n, 16), 1e-6),
    "mlp_fp16": (models.mlp_fp16, lambda n: rows(n, 16).astype(np.float16), 1e-2),
    "mlp_int8_static": (models.mlp_int8_static, lambda n: rows(n, 16), 1e-6),
    "lenet": (models.lenet, lambda n: rows(n, 1, 32, 32), 1e-5),
    "transformer": (models.transformer, lambda n: RNG.integers(0, 1000, (n, 64)), 1e-4),
    "variable_width": (models.variable_width, lambda n: rows(n, 7), 0),
    "odd_names": (models.odd_names, lambda n: rows(n, 2), 0),
    "zip_map": (models.zip_map, lambda n: rows(n, 4), 0),
}
MIXING = {
    "softmax_over_rows": (models.softmax_over_rows, (6, 4)),
    "attention_over_rows": (models.attention_over_rows, (6, 8)),
    "lstm_over_rows": (models.lstm_over_rows, (6, 6)),
    "mlp_int8_dynamic": (models.mlp_int8_dynamic, (6, 16)),
}


@pytest.mark.parametrize("name", INDEPENDENT)
def test_model_with_a_batch_axis_gives_each_row_its_own_answer(tmp_path, name):
    make, draw, tolerance = INDEPENDENT[name]
    session = load(make(tmp_path / "model.onnx"))
    x = session.get_inputs()[0].name
    batch = draw(5)
    output = session.get_outputs()[0].name
    (together,) = session.run([output], {x: batch})
    assert len(together) == 5
    for i in range(5):
        (alone,) = session.run([output], {x: batch[i : i + 1]})
        if together.dtype == object:
            assert together[i] == alone[0]
        else:
            np.testing.assert_allclose(together[i], alone[0], atol=tolerance)
    if together.dtype != object:
        assert np.ptp(together.astype(np.float64), axis=0).max() > 1e-3  # rows are told apart


@pytest.mark.parametrize("name", MIXING)
def test_model_without_a_batch_axis_changes_when_rows_are_cut(tmp_path, name):
    make, shape = MIXING[name]
    session = load(make(tmp_path / "model.onnx"))
    x = rows(*shape)
    x[0] *= 4
    output = session.get_outputs()[0].name
    whole = session.run([output], {"x": x})[0]
    part = session.run([output], {"x": x[3:]})[0]
    assert np.abs(whole[3:] - part).max() > 1e-4


def test_recurrent_state_carries_its_batch_in_axis_one(tmp_path):
    session = load(models.recurrent_state(tmp_path / "model.onnx"))
    x, state = rows(3, 6), rows(1, 3, 8)
    y, after = session.run(None, {"x": x, "state": state})
    assert (y.shape, after.shape) == ((3, 8), (1, 3, 8))
    for i in range(3):
        alone = session.run(None, {"x": x[i : i + 1], "state": state[:, i : i + 1]})
        np.testing.assert_allclose(alone[0][0], y[i], atol=1e-6)
        np.testing.assert_allclose(alone[1][:, 0], after[:, i], atol=1e-6)


def test_graph_convolution_mixes_the_nodes_of_one_graph(tmp_path):
    session = load(models.graph_convolution(tmp_path / "model.onnx"))
    features = rows(4, 5)
    own = session.run(None, {"adjacency": np.eye(4, dtype=np.float32), "features": features})[0]
    turned = np.roll(np.eye(4, dtype=np.float32), 1, axis=0)
    moved = session.run(None, {"adjacency": turned, "features": features})[0]
    np.testing.assert_allclose(moved, np.roll(own, 1, axis=0), atol=1e-6)


@pytest.mark.parametrize("held", [1, 4])
def test_fixed_batch_refuses_any_other_number_of_rows(tmp_path, held):
    session = load(models.fixed_batch(tmp_path / "model.onnx", held))
    assert session.run(None, {"x": rows(held, 8)})[0].shape == (held, 3)
    with pytest.raises(Exception, match="Got: 7 Expected: "):
        session.run(None, {"x": rows(7, 8)})


@pytest.mark.parametrize("dtype", [n for n in BY_NAME if n not in ("BYTES", "BF16")])
@pytest.mark.parametrize("shape", [(2, 3), ()])
def test_identity_returns_every_numeric_dtype(tmp_path, dtype, shape):
    declared = ("batch", 3) if shape else ()
    session = load(models.identity(tmp_path / "model.onnx", dtype, declared))
    x = RNG.integers(0, 2, shape).astype(BY_NAME[dtype].numpy)
    (y,) = session.run(None, {"x": np.asarray(x)})
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, x)


def test_identity_returns_strings(tmp_path):
    session = load(models.identity(tmp_path / "model.onnx", "BYTES", ("batch",)))
    words = np.array(["", "grün", "x" * 300], object)
    assert session.run(None, {"x": words})[0].tolist() == words.tolist()


def test_identity_returns_bf16_patterns_through_a_binding(tmp_path):
    session = load(models.identity(tmp_path / "model.onnx", "BF16"))
    x = RNG.integers(0, 2**16, (2, 3)).astype(np.uint16)
    y = np.zeros_like(x)
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, BF16.onnx, x.shape, x.ctypes.data)
    binding.bind_output("y", "cpu", 0, BF16.onnx, y.shape, y.ctypes.data)
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(y, x)


def test_small_forms_compute_what_they_say(tmp_path):
    one = rows(2, 3)
    run = {
        "add": load(models.add(tmp_path / "a.onnx", ("batch", 3))),
        "multi": load(models.multi(tmp_path / "m.onnx")),
        "scaled": load(models.scalar_input(tmp_path / "s.onnx")),
        "total": load(models.scalar_output(tmp_path / "t.onnx")),
        "empty": load(models.empty_size(tmp_path / "e.onnx")),
        "words": load(models.string_lookup(tmp_path / "w.onnx")),
    }
    np.testing.assert_array_equal(run["add"].run(None, {"x": one, "y": one})[0], 2 * one)
    right = np.array([[1, 2], [3, 4]])
    total, doubled, positive = run["multi"].run(None, {"left": one, "right": right})
    np.testing.assert_allclose(total, one.sum(axis=1), atol=1e-6)
    np.testing.assert_array_equal(doubled, [[2, 4], [6, 8]])
    np.testing.assert_array_equal(positive, one > 0)
    four = rows(2, 4)
    scaled = run["scaled"].run(None, {"x": four, "scale": np.array(3, np.float32)})[0]
    np.testing.assert_array_equal(scaled, four * np.float32(3))
    assert run["total"].run(None, {"x": four})[0].shape == ()
    assert run["empty"].run(None, {"x": np.zeros((5, 0), np.float32)})[0].shape == (5, 0)
    words = np.array(["two", "zero", "ten"], object)
    assert run["words"].run(None, {"word": words})[0].tolist() == [2, 0, -1]


def test_outputs_of_other_kinds_are_what_they_say(tmp_path):
    found = load(models.non_zero(tmp_path / "n.onnx"))
    assert found.run(None, {"x": np.array([0, 3, 0, 5], np.float32)})[0].tolist() == [[1, 3]]

    boxes = np.array([[[0, 0, 1, 1], [0, 0, 1, 0.9], [2, 2, 3, 3]]] * 2, np.float32)
    scores = np.array([[[0.9, 0.8, 0.7]], [[0.2, 0.8, 0.05]]], np.float32)
    picked = load(models.non_max_suppression(tmp_path / "s.onnx"))
    kept = picked.run(None, {"boxes": boxes, "scores": scores})[0]
    assert kept.tolist() == [[0, 0, 0], [0, 0, 2], [1, 0, 1]]

    maps = load(models.zip_map(tmp_path / "z.onnx"))
    features = np.array([[1, 1, 0, 0], [-1, 0, 0, 0]], np.float32)
    label, probabilities = maps.run(None, {"features": features})
    assert label.tolist() == ["spam", "ham"]
    assert probabilities[0]["spam"] == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-6)
    assert sum(probabilities[1].values()) == pytest.approx(1)

    x = rows(3, 4)
    parts = load(models.sequence(tmp_path / "q.onnx")).run(None, {"x": x})[0]
    np.testing.assert_array_equal(np.stack(parts), x)

    wrong = load(models.misdeclared(tmp_path / "d.onnx"))
    assert len(wrong.get_outputs()[0].shape) == 2
    assert wrong.run(None, {"x": x[:, :3]})[0].shape == (3, 3, 3)


def test_picky_fails_the_whole_batch_for_one_row(tmp_path):
    session = load(models.picky(tmp_path / "model.onnx"))
    assert session.run(None, {"id": np.array([0, 9])})[0].shape == (2, 4)
    with pytest.raises(Exception, match="out of data bounds"):
        session.run(None, {"id": np.array([0, 10, 3])})


def test_slow_takes_about_the_time_it_was_asked_for(tmp_path):
    session = load(models.slow(tmp_path / "model.onnx", ms=60))
    row = np.array([[1, 2, 3, 6]], np.float32)
    session.run(None, {"x": row})
    times = []
    for _ in range(5):
        start = time.perf_counter()
        (mean,) = session.run(None, {"x": row})
        times.append(time.perf_counter() - start)
    np.testing.assert_allclose(mean, [[3.0]], atol=1e-3)
    assert min(times) > 0.005  # the calibration may have run while other work held the cores
    assert (tmp_path / "model.onnx").stat().st_size < 200_000


def test_spinning_and_greedy_do_as_much_as_they_are_asked_to(tmp_path):
    spinning = load(models.spinning(tmp_path / "s.onnx"))
    assert spinning.run(None, {"turns": np.array([1000])})[0].tolist() == [1000]
    greedy = load(models.greedy(tmp_path / "g.onnx"))
    assert greedy.run(None, {"mb": np.array([2])})[0].tolist() == [2 * 2**18]


REFUSED = {
    "unsupported_opset": (models.unsupported_opset, "pset 99"),
    "unsupported_ir": (models.unsupported_ir, "IR version: 99"),
    "unknown_operator": (models.unknown_operator, "com.example"),
    "missing_external_data": (models.missing_external_data, "model.onnx.data"),
    "truncated": (models.truncated, "INVALID_PROTOBUF|[Pp]rotobuf"),
    "garbage": (models.garbage, "INVALID_PROTOBUF|[Pp]rotobuf"),
    "empty_file": (models.empty_file, "No graph"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_faulty_file_is_refused_with_an_exception(tmp_path, name):
    make, message = REFUSED[name]
    path = make(tmp_path / "model.onnx")
    with pytest.raises(Exception, match=message):
        load(path)


LOADER = """
import resource, sys, onnxruntime as o
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
limit = int(sys.argv[2]) * 2**20
if limit:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
options = o.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 4
try:
    session = o.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
except Exception as error:
    sys.exit(f"refused: {type(error).__name__}")
# not ru_maxrss: that starts from the peak of the process that forked this one
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(int(peak.split()[1]) // 1024)
"""


def child(path: Path, limit_mb: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LOADER, str(path), str(limit_mb)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 traps on this division")
def test_crash_at_load_kills_its_process(tmp_path):
    process = child(models.crash_at_load(tmp_path / "model.onnx"))
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGFPE


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 traps on this division")
def test_divider_refuses_zero_and_crashes_on_minus_one(tmp_path):
    path = models.divider(tmp_path / "model.onnx")
    session = load(path)
    assert session.run(None, {"x": np.array([2])})[0].tolist() == [-(2**62)]
    with pytest.raises(Exception, match="division by zero"):
        session.run(None, {"x": np.array([2, 0])})
    code = LOADER + "import numpy; session.run(None, {'x': numpy.array([-1])})"
    ended = subprocess.run([sys.executable, "-c", code, str(path), "0"], capture_output=True)
    assert ended.returncode == -signal.SIGFPE


@pytest.mark.parametrize("make", [models.hang_at_load, models.expand_at_load])
def test_hanging_load_is_still_busy_when_a_good_one_is_done(tmp_path, make):
    hanging = child(make(tmp_path / "hang.onnx"), limit_mb=4096)
    try:
        good = child(models.hang_at_load(tmp_path / "good.onnx", steps=1, width=64))
        out, err = good.communicate(timeout=30)
        assert good.returncode == 0, err
        assert int(out) < 500
        with pytest.raises(subprocess.TimeoutExpired):
            hanging.wait(timeout=2)
    finally:
        hanging.kill()
        hanging.communicate()


def test_exhausting_load_takes_its_memory_or_all_that_its_limit_leaves(tmp_path):
    path = models.exhaust_memory_at_load(tmp_path / "model.onnx", mb=512)
    assert path.stat().st_size < 10_000
    out, err = child(path).communicate(timeout=60)
    assert int(out) > 512, err
    out, err = child(path, limit_mb=450).communicate(timeout=60)
    assert 200 < int(out) < 450, err


def test_oversized_load_takes_its_memory_or_is_refused_under_a_limit(tmp_path):
    path = models.oversized(tmp_path / "model.onnx", mb=256)
    assert path.with_name("model.onnx.data").stat().st_blocks * 512 < 100_000
    out, err = child(path).communicate(timeout=60)
    assert int(out) > 512, err
    _, err = child(path, limit_mb=500).communicate(timeout=60)
    assert "refused: RuntimeException" in err
