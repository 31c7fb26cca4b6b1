"""Heads of TensorRT engines, read on machines that have no TensorRT."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from serving.formats.inspect import inspect
from serving.formats.tensorrt_engine import EngineHeader, header, read_header


def head(magic: bytes, length: int, version: tuple[int, ...]) -> bytes:
    return magic + struct.pack("<IQQ4B", 0, 2, length, *version) + bytes(36)


def test_header_of_tensorrt_rtx_tells_its_version() -> None:
    told = header(head(b"vtrt", 20132, (1, 7, 1, 116)), 20132)
    assert told == EngineHeader("tensorrt_rtx", "1.7.1.116", "")
    assert told.detail == "built by TensorRT-RTX 1.7.1.116"


def test_header_of_tensorrt_tells_its_version_and_no_length() -> None:
    told = header(head(b"ftrt", 7, (10, 14, 1, 48)), 9999)
    assert (told.module, told.version, told.problem) == ("tensorrt", "10.14.1.48", "")


def test_header_of_an_old_engine_tells_no_version() -> None:
    told = header(head(b"ptrt", 7, (1, 2, 3, 4)), 64)
    assert (told.module, told.version, told.problem) == ("tensorrt", "", "")
    assert told.detail == "built by TensorRT"


def test_header_that_states_another_length_is_damage() -> None:
    assert (
        "states 100 bytes, the file has 99" in header(head(b"vtrt", 100, (1, 7, 1, 0)), 99).problem
    )


@pytest.mark.parametrize("size", [4, 31])
def test_header_that_is_cut_is_told(size: int) -> None:
    assert "cut short" in header(head(b"ftrt", 100, (10, 0, 0, 0))[:size], size).problem


def test_header_of_something_else_is_no_engine(tmp_path: Path) -> None:
    path = tmp_path / "m.plan"
    path.write_bytes(b"\x08\x08onnx")
    assert "no TensorRT engine" in read_header(path).problem


def test_inspection_of_an_engine_tells_who_built_it(tmp_path: Path) -> None:
    path = tmp_path / "m.plan"
    path.write_bytes(head(b"vtrt", 64, (1, 7, 1, 116)))
    assert inspect(path).detail == "built by TensorRT-RTX 1.7.1.116"
