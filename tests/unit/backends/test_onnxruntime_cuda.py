"""ONNX Runtime on a GPU: what it is told, what its failures mean, and that it never slips away."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.backends.base import BackendError, Device, DeviceLost, MemoryExhausted, ModelSource
from serving.backends.onnxruntime_cuda import LOST, Options, failure, fell_back
from serving.backends.registry import open_backend
from serving.backends.tensorrt import faults
from serving.tensor import FP32, Tensor
from tests import models
from tests.doubles.gpu import simulated_gpu
from tests.doubles.onnxruntime_cuda import simulated_onnxruntime_gpu

GPU = Device("gpu", 0)


def test_options_become_those_of_the_engine() -> None:
    told = {"gpu_mem_limit_mb": "2", "cudnn_conv_algo_search": "exhaustive", "use_tf32": "false"}
    assert Options.parse(told).provider(3) == (
        "CUDAExecutionProvider",
        {
            "device_id": "3", "gpu_mem_limit": "2097152", "cudnn_conv_algo_search": "EXHAUSTIVE",
            "use_tf32": "0",
        },
    )  # fmt: skip
    assert Options.parse({}).provider(0)[1] == {
        "device_id": "0", "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("gpu_mem_limit", "1", "did you mean 'gpu_mem_limit_mb'"),
        ("precision", "fp16", "known: gpu_mem_limit_mb, cudnn_conv_algo_search, use_tf32"),
        ("gpu_mem_limit_mb", "0", "a number from 1 to 1048576, given '0'"),
        ("gpu_mem_limit_mb", "1.5", "given '1.5'"),
        ("cudnn_conv_algo_search", "HEURISTIC", "heuristic or exhaustive or default"),
        ("use_tf32", "on", "true or false, given 'on'"),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_option_that_is_wrong_is_named_on_every_device(
    tmp_path: Path, device: str, name: str, value: str, says: str
) -> None:
    path = models.identity(tmp_path / "m.onnx", "FP32", ("batch",))
    with simulated_onnxruntime_gpu():
        backend = open_backend("onnxruntime", Device(device, 0))
        with pytest.raises(BackendError) as error:
            backend.load(ModelSource(str(path), 1, {name: value}))
    assert name in str(error.value)
    assert says in str(error.value)


def test_codes_that_lose_the_device_are_those_that_tensorrt_is_judged_by() -> None:
    with simulated_gpu():
        from cuda.bindings import runtime

        codes: Any = runtime.cudaError_t
        for code in codes:
            assert (int(code) in LOST) is (code.name in faults.LOST), code.name


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("CUDA failure 2: out of memory", MemoryExhausted),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED", MemoryExhausted),
        ("Failed to allocate memory for requested buffer of size 8388608000", MemoryExhausted),
        ("CUDA failure 700: an illegal memory access was encountered", DeviceLost),
        ("CUDA failure 719: unspecified launch failure", DeviceLost),
        ("CUBLAS failure 14: ...; CUDA failure 214: uncorrectable ECC error", DeviceLost),
        ("CUDNN failure 5000: device-side assert triggered", DeviceLost),
        ("CUDA failure 1: invalid argument", BackendError),
        ("CUDA failure 7000: of no such code", BackendError),
        ("Got invalid dimensions for input: x", BackendError),
    ],
)
def test_failure_is_of_the_kind_that_its_words_tell(text: str, kind: type[BackendError]) -> None:
    assert type(failure(text)) is kind
    assert text in str(failure(text))


def test_log_of_a_fall_back_is_told_without_folders_and_colours() -> None:
    log = (
        "\x1b[1;31m2026-01-01 [E:onnxruntime:Default, a.cc:1 f] cannot open /opt/cuda/lib/x.so of "
        "the driver\x1b[m\nnoise\n"
    )
    said = fell_back(log)
    assert said == "ONNX Runtime cannot use CUDA: cannot open … of the driver"
    assert fell_back("").endswith("its log does not say why")


def test_package_for_processors_alone_is_named_with_the_one_to_install() -> None:
    with pytest.raises(BackendError, match=r"built without CUDA \(install onnxruntime-gpu"):
        open_backend("onnxruntime", GPU)


def test_library_that_is_missing_is_named_and_the_log_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ORT_DOUBLE_MISSING", "libcublasLt.so.13")
    with simulated_onnxruntime_gpu(), pytest.raises(BackendError) as error:
        open_backend("onnxruntime", GPU)
    assert str(error.value) == (
        "ONNX Runtime cannot use CUDA: it needs libcublasLt.so.13, which cannot be found (this "
        "build requires cuDNN 9.* and CUDA 13.*)"
    )
    os.write(2, b"after\n")
    out, err = capfd.readouterr()
    assert out == ""
    assert "Failed to create CUDAExecutionProvider" in err
    assert err.endswith("after\n")


def test_device_that_is_not_there_is_no_session_on_the_cpu(tmp_path: Path) -> None:
    with simulated_onnxruntime_gpu(), pytest.raises(BackendError, match=r"total number .*\(1\)"):
        open_backend("onnxruntime", Device("gpu", 1))


def test_session_that_slips_onto_the_cpu_later_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = models.identity(tmp_path / "m.onnx", "FP32", ("batch",))
    with simulated_onnxruntime_gpu():
        backend = open_backend("onnxruntime", GPU)
        monkeypatch.setenv("ORT_DOUBLE_MISSING", "libcudnn.so.9")
        with pytest.raises(BackendError, match="put the model on the CPU, not on gpu:0"):
            backend.load(ModelSource(str(path), 1))


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (2, MemoryExhausted, "out of memory"),
        (700, DeviceLost, "an illegal memory access"),
        (710, DeviceLost, "device-side assert"),
    ],
)
def test_run_that_fails_on_the_device_tells_how_and_nothing_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[BackendError], words: str
) -> None:
    path = models.identity(tmp_path / "m.onnx", "FP32", ("batch",))
    x, y = np.arange(2, dtype=np.float32), np.zeros(2, np.float32)
    monkeypatch.setenv("ORT_DOUBLE_FAIL", f"{code}:3")  # the first run is the one at the start
    with simulated_onnxruntime_gpu():
        model = open_backend("onnxruntime", GPU).load(ModelSource(str(path), 1))
        binding = model.bind([Tensor("x", FP32, (2,), x)], [Tensor("y", FP32, (2,), y)])
        binding.run()
        assert y.tolist() == [0, 1]
        with pytest.raises(BackendError) as error:
            binding.run()
    assert type(error.value) is kind
    assert words in str(error.value)
    for leak in ("hostname", "expr", "/", "onnxruntime::", os.uname().nodename):
        assert leak not in str(error.value)


def test_model_is_put_on_the_device_of_its_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, trace = models.identity(tmp_path / "m.onnx", "FP32", ("batch",)), tmp_path / "trace"
    monkeypatch.setenv("ORT_DOUBLE_DEVICES", "2")
    monkeypatch.setenv("ORT_DOUBLE_TRACE", str(trace))
    with simulated_onnxruntime_gpu():
        open_backend("onnxruntime", Device("gpu", 1)).load(ModelSource(str(path), 1))
    told = [json.loads(line) for line in trace.read_text().splitlines()]
    assert [entry["device_id"] for entry in told] == ["1", "1"]
