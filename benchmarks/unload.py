"""Load and unload a model again and again, and see whether its memory comes back.

    python -m benchmarks.unload                  # 200 times a model of 50 MB
    python -m benchmarks.unload --cycles 5

The memory of all processes of the server (PSS) is looked at with the model loaded and after each
unload; what counts is that the last of these is not more than the first was.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from benchmarks.processes import Running, serving
from benchmarks.watch import Watch, draw, percentile
from tests.models import mlp, tagged

_INPUTS = 256
_SETTLE_S = 5.0


def _post(running: Running, path: str, body: object) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{running.rest_port}{path}",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        answer.read()


def _settled(watch: Watch) -> float:
    """Return the memory once it falls no more: unloading gives it back a moment later."""
    last, deadline = watch.look().total, time.monotonic() + _SETTLE_S
    while time.monotonic() < deadline:
        time.sleep(0.1)
        now = watch.look().total
        if now >= last - 0.5:
            return now
        last = now
    return last


def scene(running: Running, given: argparse.Namespace) -> bool:
    """Go through all cycles; return whether memory came back to within a tenth."""
    watch = Watch(running)
    ask = {"servable": "big", "instances": [{"x": [0.5] * _INPUTS}]}
    empty: list[float] = []
    full: list[float] = []
    before = _settled(watch)
    began = time.monotonic()
    for _ in range(given.cycles):
        _post(running, "/v2/repository/models/big/load", {})
        _post(running, "/predict", ask)
        full.append(watch.look().total)
        _post(running, "/v2/repository/models/big/unload", {})
        empty.append(_settled(watch))
    each = (time.monotonic() - began) / given.cycles
    # At first a process that looks into models may still be there: the lower of two beginnings.
    growth = empty[-1] / min(before, empty[0]) - 1
    print(f"{given.cycles} cycles of {each:.2f} s; PSS of all processes in MiB")
    print(f"before the first   {before:8.1f}")
    print(f"loaded             {percentile(full, 0.5):8.1f} (median), {max(full):.1f} at most")
    print(f"unloaded, first    {empty[0]:8.1f}")
    print(f"unloaded, median   {percentile(empty, 0.5):8.1f}, {max(empty):.1f} at most")
    print(f"unloaded, last     {empty[-1]:8.1f}, {growth:+.1%} of the beginning")
    if given.plot is not None:
        draw(watch, f"{given.cycles} loads and unloads of a model of {given.mb} MB", given.plot)
    return growth <= 0.1


def main() -> None:
    """Run the scene; exit status 1 when the memory did not come back."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unload", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--mb", type=int, default=50, help="size of the model")
    parser.add_argument("--plot", type=Path, help="draw memory over time into this SVG or PNG")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        hidden = given.mb * 1_000_000 // (4 * (_INPUTS + 4))
        mlp(Path(folder) / "big" / "1" / "model.onnx", inputs=_INPUTS, hidden=hidden)
        tagged(Path(folder) / "small" / "1" / "model.onnx", 1.0)
        options = ("--model-control", "explicit", "--load-servables", "small")
        with serving(Path(folder), *options) as running:
            came_back = scene(running, given)
    sys.exit(0 if came_back else 1)


if __name__ == "__main__":
    main()
