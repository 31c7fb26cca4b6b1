"""A MindIR file described by conversion: where the result goes, and what becomes of trouble."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from serving.artifact import Artifact, Format
from serving.formats import inspect as helper
from serving.formats.mindir.convert import Converted
from serving.inspection import KeySource, Question
from tests.unit.formats.mindir.mindir_files import Net
from tests.unit.formats.mindir.test_reader import KEY, W, X, encrypted, product_net, split


def look(path: Path, **more: Any) -> Artifact:
    return helper.Helper().inspect(Question(path, **more))


def answer(artifact: Artifact) -> np.ndarray[Any, Any]:
    assert artifact.conversion is not None
    session = ort.InferenceSession(artifact.conversion.path)
    found: np.ndarray[Any, Any] = session.run(None, {"x": X})[0]
    return found


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return product_net().save(tmp_path / "net.mindir")


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NET_KEY", KEY.decode())
    monkeypatch.setenv("OTHER_KEY", KEY.decode()[::-1])
    path = tmp_path / "sealed.mindir"
    path.write_bytes(encrypted(product_net().model.SerializeToString(), "AES-GCM"))
    return path


def cache(tmp_path: Path) -> dict[str, Any]:
    return {"cache_dir": str(tmp_path / "cache"), "cache_bytes": 1 << 30}


def test_description_says_what_the_file_holds_and_what_it_became(plain: Path) -> None:
    found = look(plain)
    assert (found.format, found.backend, found.producer) == (
        Format.MINDIR, "onnxruntime", "MindSpore 2.10.0",
    )  # fmt: skip
    assert found.operators == {"MatMul": 1}
    assert found.detail == "1 operator; as ONNX: opset 17, 2 nodes"
    assert found.size_bytes == plain.stat().st_size
    assert found.signature is not None
    assert [s.text() for s in found.signature.inputs] == ["FP32[batch,3]"]
    assert found.batch.batched
    assert found.static_outputs


def test_description_alone_writes_nothing(plain: Path) -> None:
    found = look(plain)
    assert found.conversion is not None
    assert found.conversion.path == ""
    assert os.listdir(plain.parent) == [plain.name]


def test_conversion_is_kept_by_content_whatever_the_name(plain: Path, tmp_path: Path) -> None:
    first = look(plain, **cache(tmp_path))
    renamed = plain.rename(tmp_path / "other.mindir")
    again = look(renamed, **cache(tmp_path))
    assert first.conversion is not None
    assert again.conversion is not None
    assert (first.conversion.cached, again.conversion.cached) == (False, True)
    assert first.conversion.path == again.conversion.path
    assert first.identity == again.identity != first.digest
    np.testing.assert_array_equal(answer(again), X @ W)


def test_conversion_is_made_anew_when_split_weights_change(tmp_path: Path) -> None:
    path = split(product_net(), tmp_path)
    first = look(path, **cache(tmp_path))
    assert first.notes == ("weights in net_variables/data_0",)
    data = tmp_path / "net_variables" / "data_0"
    data.write_bytes(data.read_bytes()[:64] + (2 * W).tobytes())
    second = look(path, **cache(tmp_path))
    assert second.conversion is not None
    assert not second.conversion.cached
    np.testing.assert_array_equal(answer(second), X @ (2 * W))


def test_kept_conversion_of_an_encrypted_model_needs_the_key(sealed: Path, tmp_path: Path) -> None:
    right = look(sealed, key=KeySource("NET_KEY"), **cache(tmp_path))
    again = look(sealed, key=KeySource("NET_KEY"), **cache(tmp_path))
    assert again.conversion is not None
    assert again.conversion.cached
    np.testing.assert_array_equal(answer(right), X @ W)
    wrong = look(sealed, key=KeySource("OTHER_KEY"), **cache(tmp_path))
    assert not wrong.runnable
    assert "does not open with this key" in wrong.reason
    assert not look(sealed, **cache(tmp_path)).runnable


def test_encrypted_model_goes_to_memory_and_nowhere_else(sealed: Path, tmp_path: Path) -> None:
    memory = os.memfd_create("model")
    try:
        private = f"/proc/{os.getpid()}/fd/{memory}"
        scratch = str(tmp_path / "scratch")
        found = look(
            sealed, key=KeySource("NET_KEY"), private=private, scratch=scratch, **cache(tmp_path)
        )
        assert found.conversion is not None
        assert found.conversion.path == private
        np.testing.assert_array_equal(answer(found), X @ W)
    finally:
        os.close(memory)
    assert os.listdir(tmp_path) == [sealed.name]


def test_key_for_a_file_that_needs_none_is_noted(plain: Path) -> None:
    found = look(plain, key=KeySource("NO_SUCH_VARIABLE"))
    assert found.runnable
    assert found.notes == ("a key is named, but the file is not encrypted",)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_cache_without_room_is_a_note_and_the_scratch_folder_is_used(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    save = Converted.save

    def full(self: Converted, path: Path, wrote: Callable[[int], None] | None = None) -> None:
        if path.is_relative_to(tmp_path / "cache"):
            path.write_bytes(b"half")
            raise OSError(number, "full")
        save(self, path, wrote)

    monkeypatch.setattr(Converted, "save", full)
    found = look(plain, scratch=str(tmp_path / "scratch"), **cache(tmp_path))
    assert found.conversion is not None
    assert found.conversion.path.startswith(str(tmp_path / "scratch"))
    np.testing.assert_array_equal(answer(found), X @ W)
    (note,) = found.notes
    assert f"the cache folder cannot be used ({os.strerror(number)})" in note
    assert os.listdir(tmp_path / "cache") == []


def test_no_room_anywhere_is_a_reason(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Converted, path: Path, wrote: Callable[[int], None] | None = None) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Converted, "save", full)
    found = look(plain, scratch=str(tmp_path / "scratch"), **cache(tmp_path))
    assert not found.runnable
    assert "cannot be written: No space left on device (make room on the disk)" in found.reason
    left = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert left == [plain]


def test_file_that_changes_meanwhile_is_refused_and_not_kept(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Converted.save

    def slow(self: Converted, path: Path, wrote: Callable[[int], None] | None = None) -> None:
        save(self, path, wrote)
        plain.write_bytes(plain.read_bytes())

    monkeypatch.setattr(Converted, "save", slow)
    found = look(plain, **cache(tmp_path))
    assert not found.runnable
    assert "changed while it was being converted" in found.reason
    assert os.listdir(tmp_path / "cache") == []


def test_operators_without_conversion_are_named_and_counted(tmp_path: Path) -> None:
    net = Net()
    value = net.input("x", "float32", (2, 3))
    for operator in ("Teleport", "ReLU", "Teleport", "Divine"):
        value = net.op(operator, [value], ("float32", (2, 3)))
    net.output(value)
    found = look(net.save(tmp_path / "m.mindir"))
    assert not found.runnable
    assert "2 operators without a conversion: Teleport (2, first at 'Default/Tele" in found.reason
    assert "Divine (1, first at 'Default/Divine" in found.reason
    assert "file_format='ONNX'" in found.reason
    assert found.operators == {"Teleport": 2, "ReLU": 1, "Divine": 1}


def test_batch_that_cannot_be_freed_stays_fixed_and_the_reason_says_why(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", "float32", (2, 3))
    net.output(net.op("Transpose", [x, net.constant((1, 0))], ("float32", (3, 2))))
    found = look(net.save(tmp_path / "m.mindir"))
    assert found.signature is not None
    assert found.signature.inputs[0].shape == (2, 3)
    assert "fixed at 2, and cannot be freed: " in found.batch.reason
    assert found.exported_rows == 0


def test_batch_that_was_freed_is_remembered_with_its_size(tmp_path: Path) -> None:
    net = Net()
    x, y = (net.input(name, "float32", (2, 3)) for name in "xy")
    net.output(net.op("Add", [x, y], ("float32", (2, 3))))
    for _ in range(2):  # converted, and then found
        found = look(net.save(tmp_path / "m.mindir"), **cache(tmp_path))
        assert found.signature is not None
        assert [spec.shape for spec in found.signature.inputs] == [("batch", 3)] * 2
        assert found.exported_rows == 2
    assert Artifact.from_json(found.to_json()) == found


def test_memory_that_a_file_may_take_is_bounded_by_its_size(plain: Path) -> None:
    code = (
        "from pathlib import Path; import sys; from serving.formats.inspect import limit_memory\n"
        "limit_memory(Path(sys.argv[1])); small = bytearray(256 << 20)\n"
        "try: bytearray(4 << 30)\n"
        "except MemoryError: print('refused')\n"
        "with open(sys.argv[1], 'ab') as file: file.truncate(600 << 20)\n"
        "limit_memory(Path(sys.argv[1])); bytearray(4 << 30); print('given')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(plain)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "refused\ngiven\n", done.stderr


def test_lack_of_memory_is_a_reason(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(path: Path) -> None:
        raise MemoryError

    monkeypatch.setattr(helper, "recognise", greedy)
    assert "takes more memory than its size warrants" in look(plain).reason
