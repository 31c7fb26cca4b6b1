"""``python -m serving.building.atc``: makes OM files of ONNX, MindIR and AIR files.

CANN's compiler ``atc`` does the work. Questions and answers are lines of JSON, as
``serving.repository.engines`` writes and reads them::

    {"id": 1, "identity": {source, format, signature, batch, max_batch_size, batch_sizes, options}}
    {"id": 1, "identity": "<SHA-256 of content, chip, CANN's version and arguments>"}
    {"id": 2, source, ..., "folder": "where to write"}
    {"id": 2, "progress": "..."}
    {"id": 2, "built": {file, identity_parts, notes, signature, gears, took_s}}
    {"id": 2, "error": {code, message, fix}}

``atc`` may compute for minutes without a word. While it computes, that is told as progress; an
``atc`` that does not even compute is silent, and whoever asked ends it with this process: both are
in one process group.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

from serving.backends.ascend.options import AIPP
from serving.building import atc_toolkit
from serving.building.atc_order import Order, Plan, command, plan
from serving.building.atc_output import Output
from serving.errors import LoadError
from serving.formats.om_file import problem_of

MODEL = "model.om"
_SCRATCH = "atc-work"
_CHUNK_BYTES = 4 << 20
_STEP_S = 2.0
_NOT_WEIGHTS = {".json", ".md", ".py", ".toml", ".txt", ".pbtxt"}

Tell = Callable[[str], None]


def main() -> None:
    """Answer on what was standard output, and send whatever else is printed to the errors."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with answers:
        serve(sys.stdin, answers)


def serve(questions: IO[str], answers: IO[str]) -> None:
    """Answer line by line until the questions end."""

    def write(message: Mapping[str, Any]) -> None:
        answers.write(json.dumps(message, allow_nan=False) + "\n")
        answers.flush()

    for line in questions:
        if not line.strip():
            continue
        question = json.loads(line)
        number = question.pop("id")

        def tell(text: str, number: int = number) -> None:
            write({"id": number, "progress": text})

        write({"id": number, **_answer(question, tell)})


def _answer(question: Mapping[str, Any], tell: Tell) -> Dict[str, Any]:
    try:
        if "identity" in question:
            return {"identity": identity(Order.from_json(question["identity"]), tell)}
        return {"built": build(Order.from_json(question), tell)}
    except LoadError as error:
        return {"error": {"code": error.code, "message": error.message, "fix": error.fix}}
    except OSError as error:
        why = f"a file could not be read or written: {os.strerror(error.errno or 0)}"
        return {"error": {"code": "build_failed", "message": why, "fix": ""}}


def identity(order: Order, tell: Tell) -> str:
    """Return what an OM is remembered by; nothing is compiled. Raises LoadError, OSError."""
    parts = _parts(order, plan(order), atc_toolkit.find_atc())
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for name, file in _content(Path(order.source)):
        tell(f"reading {file.name}")
        digest.update(f"\0{name}\0{file.stat().st_size}\0".encode())
        _feed(digest, file)
    if AIPP in order.options:
        _feed(digest, Path(order.options[AIPP]))
    return digest.hexdigest()


def build(order: Order, tell: Tell) -> Dict[str, Any]:
    """Run ``atc`` and return what it built. Raises LoadError, OSError."""
    began = time.monotonic()
    decided = plan(order)
    atc = atc_toolkit.find_atc()
    parts = _parts(order, decided, atc)
    folder = Path(order.folder)
    scratch = folder / _SCRATCH  # atc leaves kernels and reports where it is run
    scratch.mkdir()
    try:
        words = command(atc, order, parts["soc"], str(folder / "model"), decided.arguments)
        output, status = _run(words, scratch, tell)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if status or not (folder / MODEL).is_file():
        raise output.failure(status)
    if problem_of(folder / MODEL):
        raise LoadError(f"atc wrote a file, and {problem_of(folder / MODEL)}", code="build_failed")
    return {
        "file": MODEL,
        "identity_parts": parts,
        "notes": _notes(decided),
        "signature": None if order.signature is None else order.signature.to_json(),
        "gears": None if decided.gears is None else list(decided.gears),
        "took_s": round(time.monotonic() - began, 3),
    }


def _parts(order: Order, decided: Plan, atc: str) -> Dict[str, Any]:
    aipp = order.options.get(AIPP)
    if aipp is not None and not (os.path.isabs(aipp) and os.path.isfile(aipp)):
        raise LoadError(
            f"[options.ascend] {AIPP} is not the absolute path of a file", code="bad_option"
        )
    return {
        "format": order.format,
        "soc": order.soc or atc_toolkit.soc_of_device(),
        "cann": atc_toolkit.version(atc),
        "arguments": list(decided.arguments),
    }


def _notes(decided: Plan) -> List[str]:
    if decided.gears:
        return [f"compiled for {', '.join(map(str, decided.gears))} rows a run"]
    if decided.fixed_rows:
        return [f"compiled for runs of {decided.fixed_rows} rows, no fewer and no more"]
    return []


def _run(words: List[str], folder: Path, tell: Tell) -> Tuple[Output, int]:
    """Run ``atc`` to its end; returns what it printed and its status."""
    output = Output()
    with subprocess.Popen(
        words,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        lines: "queue.SimpleQueue[Optional[str]]" = queue.SimpleQueue()
        threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
        computed = 0.0
        while True:
            try:
                line = lines.get(timeout=_STEP_S)
            except queue.Empty:
                seconds = _computed_s()
                if seconds > computed:
                    computed = seconds
                    tell(f"atc has computed for {seconds:.0f} s")
                continue
            if line is None:
                return output, process.wait()
            progress = output.add(line)
            if progress:
                tell(progress)


def _read(stream: IO[str], lines: "queue.SimpleQueue[Optional[str]]") -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _computed_s() -> float:
    """Return the processor time of this process group but for this process, in seconds."""
    group, ticks = os.getpgrp(), 0
    for folder in os.listdir("/proc"):
        if not folder.isdigit() or int(folder) == os.getpid():
            continue
        try:
            with open(f"/proc/{folder}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == group:
            ticks += sum(int(n) for n in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def _content(source: Path) -> Iterator[Tuple[str, Path]]:
    """Yield the model's file, and whatever beside it may hold its weights."""
    yield "", source
    for file in sorted(source.parent.rglob("*")):
        beside = file.is_file() and file != source and file.suffix not in _NOT_WEIGHTS
        if beside and not file.name.startswith("."):
            yield str(file.relative_to(source.parent)), file


def _feed(digest: Any, file: Path) -> None:
    with file.open("rb") as stream:
        while True:
            chunk = stream.read(_CHUNK_BYTES)
            if not chunk:
                return
            digest.update(chunk)


if __name__ == "__main__":
    main()
