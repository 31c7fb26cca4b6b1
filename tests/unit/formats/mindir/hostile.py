"""A process that converts damaged files within little memory and time, and tells what happened.

    python -m tests.unit.formats.mindir.hostile SEED FIRST LAST FOLDER

Each line is a case's number, what was done to which file, and the outcome: ``converted``, the
code of a ``LoadError``, or ``BAD`` with the other error. It is killed (SIGALRM) by a case of more
than ``LIMIT_S`` seconds; the last line names it.
"""

from __future__ import annotations

import random
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

import onnx

from serving.errors import LoadError
from serving.formats.mindir.convert import convert
from tests.unit.formats.mindir.goldens import FOLDER, KEY, RELEASES, networks, operators
from tests.unit.formats.mindir.mutations import damaged

MEMORY_BYTES = 1 << 30
LIMIT_S = 10
SOURCES = (networks(), operators())


def attempt(path: Path) -> str:
    """Convert a file; return the outcome in a word, or more where it is bad."""
    try:
        made = convert(path, KEY)
        made.save(path.with_suffix(".onnx"))
        check(path.with_suffix(".onnx"))
    except LoadError as error:
        return error.code
    except Exception as error:
        return f"BAD {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return "converted"


def check(path: Path) -> None:
    """Fail unless a file is a valid ONNX model; an unknown rank, which engines take, is valid."""
    model = onnx.load(str(path))
    for stated in (*model.graph.input, *model.graph.output):
        stated.type.tensor_type.shape.SetInParent()
    onnx.checker.check_model(model)


def case(seed: int, number: int) -> tuple[str, bytes]:
    """Return one damaged file, always the same, and what was done to which."""
    rng = random.Random(f"{seed}/{number}")
    golden = rng.choice(rng.choice(SOURCES))
    done, content = damaged(rng, golden.content())
    return f"{golden} {done}", content


def main(seed: int, first: int, last: int, folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    path = folder / "m_graph.mindir"
    for weights in (FOLDER / RELEASES[0]).glob("*_variables"):
        shutil.copytree(weights, folder / weights.name)
    for number in range(first, last):
        done, content = case(seed, number)
        path.write_bytes(content)
        print(number, done, end=" ", flush=True)
        start = time.monotonic()
        signal.alarm(LIMIT_S)
        outcome = attempt(path)
        signal.alarm(0)
        print(f"{time.monotonic() - start:.2f}s", outcome, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
