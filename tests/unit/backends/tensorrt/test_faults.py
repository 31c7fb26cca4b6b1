"""What CUDA's error codes and TensorRT's words become."""

from __future__ import annotations

import pytest

from serving.backends.base import BackendError, DeviceLost, MemoryExhausted
from serving.backends.tensorrt import faults


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cudaErrorInvalidValue", BackendError),
        ("cudaErrorInvalidResourceHandle", BackendError),
        ("cudaErrorLaunchOutOfResources", BackendError),
        ("cudaErrorMemoryAllocation", MemoryExhausted),
        ("cudaErrorIllegalAddress", DeviceLost),
        ("cudaErrorLaunchFailure", DeviceLost),
        ("cudaErrorECCUncorrectable", DeviceLost),
        ("cudaErrorDevicesUnavailable", DeviceLost),
        ("cudaErrorUnknown", DeviceLost),
    ],
)
def test_cuda_error_becomes_the_kind_that_it_means(name: str, kind: type[BackendError]) -> None:
    error = faults.of_cuda("cudaMalloc", name, "some text")
    assert type(error) is kind
    assert "cudaMalloc failed: some text" in str(error)
    assert name in str(error)


@pytest.mark.parametrize("words", ["Error Code 2: OutOfMemory (x)", "GPU out of memory"])
def test_tensorrt_words_about_memory_become_lack_of_memory(words: str) -> None:
    assert type(faults.of_tensorrt("it failed", words)) is MemoryExhausted


def test_tensorrt_silence_is_told() -> None:
    assert "said nothing" in str(faults.of_tensorrt("it failed", ""))


def test_words_lose_source_lines_and_folders() -> None:
    words = (
        "[runtime.cpp::parsePlan::314] Error Code 1: Serialization (in /home/me/models/a.plan) "
        "ModelImporter.cpp:140: While parsing"
    )
    assert faults.plain(words) == "Error Code 1: Serialization (in …) While parsing"


def test_lost_errors_are_names_that_cuda_has() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    known = set(runtime.cudaError_t.__members__)
    assert known >= faults.LOST | faults.NO_MEMORY
