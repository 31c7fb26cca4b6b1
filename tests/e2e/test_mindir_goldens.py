"""Networks that MindSpore exported, served from one folder: its own answers, also row by row.

The files and answers are those of ``tests/data/mindir``; most were exported with a batch of two.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from serving.client import Client
from serving.errors import Unavailable
from tests.server import ServerProcess, serving
from tests.unit.formats.mindir.goldens import EXACT, HALF, KEY, Golden, agree, networks
from tests.unit.formats.mindir.refusals import REFUSED

ALL = {str(golden): golden for golden in networks()}
REFUSALS = {
    name: said
    for name, golden in ALL.items()
    if (said := REFUSED.get(f"{golden.release}/{golden.name}") or REFUSED.get(golden.name))
}
GOLDENS = {name: golden for name, golden in ALL.items() if name not in REFUSALS}
ROWS = 1e-3
"""Rows that run alone may be summed in another order; half precision shows it."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("models")
    for name, golden in ALL.items():
        folder = root / name / "1"
        folder.mkdir(parents=True)
        path = golden.place(folder)
        shutil.copy(path, folder)
        weights = path.with_name(path.stem.removesuffix("_graph") + "_variables")
        if weights.is_dir():
            shutil.copytree(weights, folder / weights.name)
        if path.read_bytes()[1:4] == b"\x5e\x3a\x7f":
            (root / name / "servable.toml").write_text('key_env = "GOLDEN_KEY"\n')
    scratch = tmp_path_factory.mktemp("server")
    with serving(root, scratch, env={"GOLDEN_KEY": KEY.decode()}, wait=False) as running:
        running.wait_ready(110)
        yield running


def ask(client: Client, name: str, inputs: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
    answer = client.predict(name, inputs)
    return [np.asarray(answer[s.name]) for s in client.describe(name).signature.outputs]


def part(golden: Golden) -> float:
    return HALF if golden.computes_in_half else EXACT


@pytest.mark.parametrize("name", GOLDENS)
def test_served_network_gives_the_answers_of_mindspore(server: ServerProcess, name: str) -> None:
    with Client(server.grpc) as client:
        for inputs, wanted in GOLDENS[name].calls():
            found = ask(client, name, inputs)
            assert len(found) == len(wanted)
            for place, (got, right) in enumerate(zip(found, wanted, strict=True)):
                agree(got, right, part(GOLDENS[name]), f"output {place}")


@pytest.mark.parametrize("name", GOLDENS)
def test_served_network_whose_batch_is_free_gives_each_row_alone(
    server: ServerProcess, name: str
) -> None:
    with Client(server.grpc) as client:
        batch = client.describe(name).batch
        if not batch.batched:
            assert batch.reason
            return
        for inputs, wanted in GOLDENS[name].calls():
            count = max(len(array) for array in inputs.values() if array.ndim)
            for row in {0, count - 1}:
                one = {n: a[row : row + 1] if a.ndim else a for n, a in inputs.items()}
                for got, right in zip(ask(client, name, one), wanted, strict=True):
                    near(got, right, row, max(part(GOLDENS[name]), ROWS))


def near(got: np.ndarray[Any, Any], right: np.ndarray[Any, Any], row: int, allowed: float) -> None:
    """Fail unless ``got`` is that row of ``right``: exactly, if they are whole numbers."""
    scale = float(np.abs(right.astype(np.float64)).max(initial=0))
    atol = allowed * scale if right.dtype.kind == "f" else 0
    np.testing.assert_allclose(
        got.astype(np.float64), right[row : row + 1].astype(np.float64), rtol=0, atol=atol
    )


@pytest.mark.parametrize("name", REFUSALS)
def test_network_that_is_not_covered_is_refused_by_name(server: ServerProcess, name: str) -> None:
    with Client(server.grpc) as client, pytest.raises(Unavailable) as caught:
        client.describe(name)
    assert REFUSALS[name] in caught.value.message


def test_most_networks_of_a_fixed_batch_are_freed(server: ServerProcess) -> None:
    status, metadata = server.get("/v2/models/2.0.0-digits")
    assert status == 200
    assert metadata["inputs"][0]["shape"] == [-1, 1, 16, 16]
    freed = [line for line in server.log().splitlines() if ", batched up to 32" in line]
    assert len(freed) > len(GOLDENS) / 2
