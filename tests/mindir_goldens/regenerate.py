"""Makes the goldens of one release of MindSpore again: its files and its own answers on a CPU.

    pip install mindspore==2.10.0 "numpy<2"                     (Python 3.11)
    pip install mindspore==2.0.0 "numpy<1.24" "pillow<10"       (Python 3.9)
    python tests/mindir_goldens/regenerate.py [--only WORD] [folder]

Run once with each release; MindSpore is needed for nothing else. The result lies in
``tests/data/mindir/<release>``: ``<network>.mindir`` with ``<network>.npz``, the networks of one
operator together in ``operators.tar.xz``, and ``manifest.json``, where their SHA-256 is that of
all their names and contents in order. In an ``.npz``, ``<call>.in.<name>`` is an input and
``<call>.out.<i>`` MindSpore's answer; bfloat16 is written as float32.

The numbers in MindSpore's names of nodes depend on what a process did before, so a file made again
means the same and may differ in some bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import operators
from case import SEED, Expression, Network
from mindspore.train import serialization

HERE = Path(__file__).resolve().parent

HEADER = """import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
"""
JOBS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="names that hold this word")
    default = HERE.parent / "data" / "mindir" / ms.__version__
    parser.add_argument("folder", nargs="?", type=Path, default=default)
    parser.add_argument("--make", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    if given.make:
        make_operators(given.make[:-1], Path(given.make[-1]))
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    path = given.folder / "manifest.json"
    before = json.loads(path.read_text()) if given.only and path.exists() else {}
    members, missing = write_operators(given.folder, given.only)
    missing = {**before.get("not_exported", {}), **missing}
    networks = {**before.get("networks", {}), **write_networks(given.folder, given.only)}
    manifest = {
        "mindspore": ms.__version__,
        "seed": SEED,
        "operators": {"count": len(members) // 2, "sha256": digest_of_all(members)},
        "not_exported": {n: why for n, why in missing.items() if f"{n}.npz" not in members},
        "networks": networks,
    }
    path.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


# --- networks of one operator ------------------------------------------------------------------


def write_operators(folder: Path, only: str) -> tuple[dict[str, bytes], dict[str, str]]:
    """Write ``operators.tar.xz``; return its members, and why others are not there."""
    known = operator_cases()
    names = [n for n in known if only in n]
    path = folder / "operators.tar.xz"
    before = unpacked(path) if only and path.exists() else {}
    members = {n: content for n, content in before.items() if Path(n).stem in known}
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        halves = [Maker(names[n::JOBS], made) for n in range(JOBS)]
        while [half for half in halves if half.advance()]:
            time.sleep(0.2)
        missing = {p.stem: p.read_text() for p in sorted(made.glob("*.missing"))}
        for name in names:
            if name not in missing:
                members |= {f: (made / f).read_bytes() for f in (f"{name}.mindir", f"{name}.npz")}
    pack(path, members)
    print(f"{len(members) // 2} operators, {len(missing)} not exported")
    return members, missing


class Maker:
    """Makes cases in a process of its own, begun again after each that MindSpore dies of."""

    def __init__(self, names: Sequence[str], scratch: Path) -> None:
        self._names, self._scratch = names, scratch
        self._process: Any = None

    def advance(self) -> bool:
        """Begin, or begin again, what has ended; return whether there is more to wait for."""
        if self._process is not None and self._process.poll() is None:
            return True
        pending = [n for n in self._names if not self._is_made(n)]
        if self._process is not None and pending:
            (self._scratch / f"{pending[0]}.missing").write_text("MindSpore crashed")
            del pending[0]
        if pending:
            order = [sys.executable, __file__, "--make", *pending, str(self._scratch)]
            self._process = subprocess.Popen(order)
        return bool(pending)

    def _is_made(self, name: str) -> bool:
        return any((self._scratch / f"{name}.{kind}").exists() for kind in ("npz", "missing"))


def make_operators(names: Sequence[str], scratch: Path) -> None:
    """Write the files of some cases, or why there are none."""
    known = operator_cases()
    for name in names:
        try:
            make_operator(known[name], scratch)
        except Exception as error:  # whatever a release lacks
            (scratch / f"{name}.missing").write_text(reason(error))


def operator_cases() -> dict[str, Expression]:
    cases = list(operators.CASES)
    if hasattr(ms, "mint"):
        import mint_operators

        cases += mint_operators.CASES
    found = {c.name: c for c in cases}
    assert len(found) == len(cases), "two cases have one name"
    return found


def unpacked(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]


def pack(path: Path, members: dict[str, bytes]) -> None:
    """Write an archive that depends on nothing but its members, which are much alike."""
    with tarfile.open(path, "w:xz") as archive:
        for name, content in sorted(members.items()):
            described = tarfile.TarInfo(name)
            described.size = len(content)
            archive.addfile(described, io.BytesIO(content))


def make_operator(case: Expression, scratch: Path) -> None:
    header = HEADER + ("from mindspore import mint\n" if hasattr(ms, "mint") else "")
    net = randomised(built(case, header, scratch), case.name)
    arrays = case.arrays()
    exported(net, [ms.Tensor(a) for a in arrays.values()], scratch / case.name)
    if case.answer:
        other = replace(case, name=f"{case.name}_answer", text=case.answer)
        net = randomised(built(other, header, scratch), case.name)
    (scratch / f"{case.name}.npz").write_bytes(packed(np.savez, [answers(net, arrays)]))


def built(case: Expression, header: str, scratch: Path) -> Any:
    """Return the network of an expression; MindSpore reads its source from a file."""
    path = scratch / f"expression_{case.name}.py"
    path.write_text(header + case.source())
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return getattr(module, f"Net_{case.name}")()


def reason(error: Exception) -> str:
    """Return what an error says: the first line that is no rule or heading."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith("-")]
    return f"{type(error).__name__}: {told[0] if told else ''}"[:160]


# --- whole networks ----------------------------------------------------------------------------


def write_networks(folder: Path, only: str) -> dict[str, Any]:
    from networks import NETWORKS

    found: dict[str, Any] = {}
    for network in NETWORKS:
        if only in network.name and ms.__version__ in network.releases:
            found[network.name] = write_network(network, folder)
            print(network.name, found[network.name]["bytes"])
    return found


@contextlib.contextmanager
def splitting(wanted: bool) -> Iterator[None]:
    """Let MindSpore take any weights for very many (it asks at a gigabyte)."""
    usual = serialization.TOTAL_SAVE
    serialization.TOTAL_SAVE = 0 if wanted else usual
    try:
        yield
    finally:
        serialization.TOTAL_SAVE = usual


def write_network(network: Network, folder: Path) -> dict[str, Any]:
    net = randomised(network.make(), network.name)
    feeds = network.arrays()
    given = network.exported() if network.exported else [ms.Tensor(a) for a in feeds[0].values()]
    with splitting(network.splits):
        path = exported(net, given, folder / network.name, **network.options)
    if network.answer:
        net = randomised(network.answer(), network.name)
    answered = packed(np.savez_compressed, [answers(net, a) for a in feeds])
    (folder / f"{network.name}.npz").write_bytes(answered)
    return {
        "file": path.relative_to(folder).as_posix(),
        "bytes": path.stat().st_size,
        "sha256": digest(path.read_bytes()),
    }


# --- what both do ------------------------------------------------------------------------------


def randomised(net: Any, name: str) -> Any:
    """Draw a network's weights anew: MindSpore's own beginnings hide mistakes (zeros, ones)."""
    rng = np.random.default_rng([SEED, *name.encode()])
    for parameter in net.get_parameters():
        shape, dtype = parameter.shape, parameter.dtype
        if not str(dtype).startswith(("Float", "BFloat")):
            continue
        fan_in = max(1, int(np.prod(shape[1:])))
        values = rng.uniform(-1, 1, shape) / np.sqrt(fan_in)
        if any(w in parameter.name for w in ("gamma", "variance", "running_var")):
            values = rng.uniform(0.5, 1.5, shape)
        parameter.set_data(ms.Tensor(values.astype(np.float32)).astype(dtype))
    return net.set_train(False)


def exported(net: Any, inputs: Sequence[Any], stem: Path, **options: Any) -> Path:
    """Export a network; return the file that holds its graph, writable and free of old ones."""
    for old in (
        stem.with_name(f"{stem.name}.mindir"),
        stem.with_name(f"{stem.name}_graph.mindir"),
    ):
        old.unlink(missing_ok=True)
    shutil.rmtree(stem.with_name(f"{stem.name}_variables"), ignore_errors=True)
    ms.export(net, *inputs, file_name=str(stem), file_format="MINDIR", **options)
    path = stem.with_name(f"{stem.name}.mindir")
    if not path.exists():
        path = stem.with_name(f"{stem.name}_graph.mindir")
    for one in (path, *stem.parent.glob(f"{stem.name}_variables/*")):
        os.chmod(one, 0o644)
    return path


def answers(net: Any, arrays: dict[str, Any]) -> dict[str, Any]:
    """Return one call's inputs and answers by the names that they have in an ``.npz``."""
    results = net(*(ms.Tensor(a) for a in arrays.values()))
    found = {f"in.{k}": a for k, a in arrays.items()}
    for place, result in enumerate(leaves(results)):
        found[f"out.{place}"] = plain(result)
    return found


def leaves(result: Any) -> Iterable[Any]:
    if isinstance(result, (tuple, list)):
        for item in result:
            yield from leaves(item)
    else:
        yield result


def plain(result: Any) -> Any:
    if isinstance(result, ms.Tensor):
        if str(result.dtype) == "BFloat16":
            result = result.astype(ms.float32)
        return result.asnumpy()
    return np.array(result)


def packed(save: Callable[..., None], calls: Sequence[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **{f"{n}.{k}": a for n, call in enumerate(calls) for k, a in call.items()})
    return buffer.getvalue()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digest_of_all(members: dict[str, bytes]) -> str:
    total = hashlib.sha256()
    for name, content in sorted(members.items()):
        total.update(name.encode() + content)
    return total.hexdigest()


if __name__ == "__main__":
    main()
