"""What the stand-in for ``atc`` does: it checks its arguments and writes an OM of the double.

It prints what the real one prints, and knows the errors about sizes and gears under their own
codes. MindIR is read by this project's importer; an AIR file is what ``tests.doubles.om`` writes.

From the environment: ``ATC_DOUBLE_PYTHON`` (an interpreter with this project), ``ATC_DOUBLE``
(``hang``, ``crash``, ``work`` for a while and print nothing, or a code such as ``E10016`` to fail
with), ``ATC_DOUBLE_CALLS`` (a file: the arguments of each call, one line of JSON).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
KNOWN = {
    "model", "framework", "output", "soc_version", "input_shape", "input_format", "log",
    "dynamic_batch_size", "dynamic_image_size", "dynamic_dims", "insert_op_conf", "output_type",
    "precision_mode", "precision_mode_v2", "deterministic",
}  # fmt: skip
EXCLUDING = ("dynamic_batch_size", "dynamic_image_size", "dynamic_dims")


def fail(code: str, text: str) -> None:
    print("ATC run failed, Please check the detail log, Try 'atc --help' for more information")
    print(f"{code}: {text}")
    print("        Solution: Try again with a valid argument.", flush=True)
    sys.exit(1)


def main() -> None:
    words = sys.argv[1:]
    if os.environ.get("ATC_DOUBLE_CALLS"):
        with open(os.environ["ATC_DOUBLE_CALLS"], "a", encoding="utf-8") as file:
            file.write(json.dumps(words) + "\n")
    print("ATC start working now, please wait for a moment.", flush=True)
    behave(os.environ.get("ATC_DOUBLE", ""))
    given = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
    for name in given:
        if name not in KNOWN:
            fail("E10001", f"Value [{given[name]}] for parameter [{name}] is invalid.")
    for name in ("model", "framework", "output", "soc_version"):
        if name not in given:
            fail("E10007", f"Parameter [{name}] is required.")
    compile_model(given)
    print("...", flush=True)
    print("ATC run success, welcome to the next use.", flush=True)


def behave(how: str) -> None:
    if how == "hang":
        time.sleep(3600)
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "work":
        end = time.monotonic() + 5
        while time.monotonic() < end:
            pass
    if how.startswith("E"):
        fail(how, "The double was told to fail so, in /home/somebody/model/net.onnx.")


def compile_model(given: dict[str, str]) -> None:
    sys.path.insert(0, str(ROOT))
    from tests.doubles.om import NotCompiled, compile_om

    if [name in given for name in EXCLUDING].count(True) > 1:
        fail("E10009", "dynamic_batch_size, dynamic_image_size, dynamic_dims exclude each other.")
    shapes = read_shapes(given.get("input_shape", ""))
    kind, gears = read_gears(given, shapes)
    try:
        out = Path(given["output"] + ".om")
        compile_om(
            onnx_of(given), out, kind=kind, gears=gears, soc=given["soc_version"], shapes=shapes
        )
    except NotCompiled as error:
        fail("E10001", f"Value [-1] for parameter [Inputs] is invalid. Reason: {error}")


def onnx_of(given: dict[str, str]) -> Path:
    """Return an ONNX file of the model, made if it has to be."""
    path = Path(given["model"])
    if given["framework"] == "5":
        return path
    if given["framework"] != "1":
        fail("E10001", f"Value [{given['framework']}] for parameter [framework] is invalid.")
    from serving.formats.inspect import Helper
    from serving.inspection import Question
    from tests.doubles.om import read_air

    written = Path.cwd() / "made.onnx"
    if path.suffix == ".air":
        written.write_bytes(read_air(path))
        return written
    Helper().inspect(Question(path, output=str(written)))
    if not written.is_file():
        fail("E16001", "The MindIR file cannot be read.")
    return written


def read_shapes(text: str) -> dict[str, list[int]]:
    shapes = {}
    for one in filter(None, text.split(";")):
        name, _, sizes = one.rpartition(":")
        try:
            shapes[name] = [int(size) for size in sizes.split(",")] if sizes else []
        except ValueError:
            fail("E10002", f"Value [{text}] for parameter [--input_shape] is invalid.")
    return shapes


def read_gears(given: dict[str, str], shapes: dict[str, list[int]]) -> tuple[str, list[list[int]]]:
    """Return the kind and the gears as the double writes them, refusing what ``atc`` refuses."""
    if "dynamic_batch_size" in given:
        rows = [int(n) for n in given["dynamic_batch_size"].split(",")]
        check_gears([[n] for n in rows])
        if not any(sizes and sizes[0] == -1 for sizes in shapes.values()):
            fail("E10012", "[--dynamic_batch_size] is set, and no input has -1 for its batch.")
        if any(-1 in sizes[1:] for sizes in shapes.values()):
            fail("E10018", "Only the batch size may be -1 when dynamic_batch_size is set.")
        return "batch", [[n] for n in rows]
    if "dynamic_image_size" in given:
        sizes = [[int(n) for n in one.split(",")] for one in given["dynamic_image_size"].split(";")]
        check_gears(sizes)
        return "image", sizes
    if "dynamic_dims" in given:
        if given.get("input_format") != "ND":
            fail("E10001", "Value [NCHW] for parameter [input_format] is invalid.")
        found = []
        for one in given["dynamic_dims"].split(";"):
            left = iter(int(n) for n in one.split(","))
            found.append([next(left) if d == -1 else d for s in shapes.values() for d in s])
        check_gears(found)
        return "dims", found
    return "static", []


def check_gears(gears: list[list[int]]) -> None:
    if len(gears) < 2:
        fail("E10035", f"The number of gears is {len(gears)}, at least 2 are wanted.")
    if len(gears) > 100:
        fail("E10036", f"The number of gears is {len(gears)}, at most 100 are taken.")
    if len({tuple(gear) for gear in gears}) < len(gears):
        fail("E10039", "A gear is there twice.")


if __name__ == "__main__":
    main()
