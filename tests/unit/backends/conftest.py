"""The double of ``acl``, as it is, initialised, and with files for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import models
from tests.doubles import ascend
from tests.doubles.om import compile_om


@pytest.fixture
def double() -> Iterator[Any]:
    with ascend.installed() as installed:
        yield installed


@pytest.fixture
def acl(double: Any) -> Any:
    import acl as module  # type: ignore[import-not-found]

    return module


@pytest.fixture
def broken(double: Any) -> Callable[[str], Any]:
    """Return what expects a violation with these words in it."""

    def expect(words: str) -> Any:
        return pytest.raises(double.ContractViolation, match=words)

    return expect


@pytest.fixture
def card(acl: Any) -> Any:
    """Return the library with a device and a context of this thread."""
    assert acl.init() == 0
    assert acl.rt.set_device(0) == 0
    acl.context = acl.rt.create_context(0)[0]
    return acl


@pytest.fixture
def gears(tmp_path: Path) -> Path:
    onnx = models.identity(tmp_path / "gears.onnx", "FP32", ("batch",))
    return compile_om(onnx, tmp_path / "gears.om", kind="batch", gears=[[1], [2], [4]])


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    onnx = models.identity(tmp_path / "plain.onnx", "FP32", (2,))
    return compile_om(onnx, tmp_path / "plain.om")


@pytest.fixture
def free(tmp_path: Path) -> Path:
    onnx = models.identity(tmp_path / "free.onnx", "FP32", ("n",))
    return compile_om(onnx, tmp_path / "free.om", kind="free")
