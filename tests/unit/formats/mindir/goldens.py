"""Files that MindSpore exported, with its own answers, and how a conversion is held against them.

``tests/mindir_goldens`` makes them; here they are only read.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Mapping

import numpy as np
import onnxruntime as ort

from serving.formats.mindir.convert import convert

FOLDER = Path(__file__).resolve().parents[3] / "data" / "mindir"
RELEASES = tuple(sorted(p.name for p in FOLDER.iterdir() if p.is_dir()))
KEY = b"0123456789ABCDEF"
EXACT, HALF = 1e-4, 1e-2
"""How far an answer may be off, as a part of the largest number in it: float32, float16."""
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Golden:
    """A file and MindSpore's answers. A network of one operator lies in an archive."""

    release: str
    name: str
    archive: Path | None
    computes_in_half: bool

    def place(self, folder: Path) -> Path:
        """Return the path of the file, unpacked into ``folder`` if need be."""
        if self.archive is None:
            plain = FOLDER / self.release / f"{self.name}.mindir"
            return plain if plain.exists() else plain.with_name(f"{self.name}_graph.mindir")
        path = folder / f"{self.name}.mindir"
        path.write_bytes(self.content())
        return path

    def content(self) -> bytes:
        """Return the file's bytes, encrypted if it is."""
        if self.archive is None:
            return self.place(FOLDER).read_bytes()
        return members(self.archive)[f"{self.name}.mindir"]

    def calls(self) -> list[tuple[dict[str, Array], list[Array]]]:
        """Return the inputs by name and the answers of each call."""
        content = io.BytesIO(
            members(self.archive)[f"{self.name}.npz"]
            if self.archive
            else (FOLDER / self.release / f"{self.name}.npz").read_bytes()
        )
        with np.load(content) as arrays:
            found: dict[str, tuple[dict[str, Array], list[Array]]] = {}
            for name in arrays.files:
                call, kind, rest = name.split(".", 2)
                inputs, answers = found.setdefault(call, ({}, []))
                if kind == "in":
                    inputs[rest] = arrays[name]
                else:
                    answers.append(arrays[name])
        return list(found.values())

    def __str__(self) -> str:
        return f"{self.release}-{self.name}"


def networks() -> list[Golden]:
    """Return the goldens that are whole networks."""
    return [
        Golden(r, p.stem, None, "fp16" in p.stem or p.stem in ("half", "brain"))
        for r in RELEASES
        for p in sorted((FOLDER / r).glob("*.npz"))
    ]


def operators() -> list[Golden]:
    """Return the goldens of one operator each."""
    found = []
    for release in RELEASES:
        archive = FOLDER / release / "operators.tar.xz"
        names = [Path(n).stem for n in members(archive) if n.endswith(".npz")]
        found += [Golden(release, n, archive, n.startswith("half_")) for n in names]
    return found


@cache
def members(archive: Path) -> Mapping[str, bytes]:
    """Return the files of an archive by name."""
    with tarfile.open(archive) as opened:
        return {m.name: opened.extractfile(m).read() for m in opened}  # type: ignore[union-attr]


def check(golden: Golden, folder: Path) -> None:
    """Convert a golden, run it, and hold each output of each call against MindSpore's."""
    session = opened(golden.place(folder), folder)
    names = [i.name for i in session.get_inputs()]
    for inputs, answers in golden.calls():
        assert set(names) == set(inputs)
        found = session.run(None, inputs)
        assert len(found) == len(answers)
        for place, (got, wanted) in enumerate(zip(found, answers, strict=True)):
            agree(got, wanted, HALF if golden.computes_in_half else EXACT, f"output {place}")


def opened(path: Path, folder: Path) -> Any:
    """Convert a file and open the result in onnxruntime, one thread, nothing printed."""
    saved = folder / "converted.onnx"
    convert(path, KEY).save(saved)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(str(saved), options, providers=["CPUExecutionProvider"])


def agree(got: Array, wanted: Array, part: float, what: str) -> None:
    """Fail unless two arrays agree: whole numbers exactly, floats to a part of the largest."""
    assert got.shape == wanted.shape, what
    assert got.dtype == wanted.dtype, what
    if wanted.dtype.kind != "f":
        np.testing.assert_array_equal(got, wanted, what)
        return
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(np.where(finite, 0, got), np.where(finite, 0, wanted), what)
    if finite.any():
        exact = wanted[finite].astype(np.float64)
        worst = np.abs(got[finite].astype(np.float64) - exact).max()
        assert worst <= part * np.abs(exact).max(), f"{what} is off by {worst:.2e}"
