"""What the prober of GPUs says where the packages that it asks are not installed."""

from __future__ import annotations

import sys

import pytest

from serving.probing import gpu
from serving.probing.answering import Absent


def test_gpu_without_cuda_bindings_names_the_package_and_the_other_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cuda", None)
    with pytest.raises(Absent) as told:
        gpu.devices()
    assert str(told.value).startswith("cuda-bindings cannot be imported: ")
    assert "; pip install cuda-bindings, or " in str(told.value)
    assert str(told.value).endswith("python under [backends.tensorrt]")


@pytest.mark.parametrize("module", ["tensorrt", "tensorrt_rtx"])
def test_gpu_without_its_engine_names_the_module_that_was_asked_for(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gpu.MODULE_VARIABLE, module)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Absent, match=f"^{module} cannot be imported: .*; pip install {module}, "):
        gpu.engine()
