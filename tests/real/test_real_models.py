"""Real models, all in one folder without any settings, asked real questions over every wire.

Each answer is right in its meaning, and equals the bare engine's on the same inputs bit for bit:
requests are sent one at a time, for a batch may add up in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from serving.tensor import Array
from tests.real import digits, mindspore, pictures, sound, tables, text, wires
from tests.real.engine import ONE_WORKER, Engine, Output
from tests.real.fetch import fetch
from tests.real.wires import GrpcClient
from tests.server import ServerProcess, serving

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

MODELS = {
    model.name: model
    for family in (sound, pictures, text, digits, tables, mindspore)
    for model in family.MODELS
}
Wire = Callable[[str, Mapping[str, Array], Sequence[Output]], list[Output]]


@pytest.fixture(scope="module")
def fetched() -> Path:
    return fetch()


@pytest.fixture(scope="module")
def folder(fetched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    for model in MODELS.values():
        version = root / model.name / "1"
        version.mkdir(parents=True)
        model.place(fetched, version)
    return root


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(folder, tmp_path_factory.mktemp("server"), *ONE_WORKER) as running:
        yield running


@pytest.fixture(scope="module")
def engines(folder: Path) -> dict[str, Engine]:
    return {name: Engine(folder / name / "1" / "model.onnx") for name in MODELS}


@pytest.fixture(scope="module")
def all_wires(server: ServerProcess) -> Iterator[dict[str, Wire]]:
    with GrpcClient(server.grpc) as client:
        yield {
            "predict": lambda *asked: wires.predict_json(server.base, *asked),
            "v2-json": lambda name, inputs, _: wires.v2_json(server.base, name, inputs),
            "v2-binary": lambda name, inputs, _: wires.v2_binary(server.base, name, inputs),
            "grpc": lambda name, inputs, _: client.infer(name, inputs),
        }


@pytest.mark.parametrize("wire", ["predict", "v2-json", "v2-binary", "grpc"])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_real_model_answers_rightly_and_as_the_engine(
    name: str, wire: str, fetched: Path, engines: dict[str, Engine], all_wires: dict[str, Wire]
) -> None:
    asked = 0

    def infer(inputs: Mapping[str, Array]) -> dict[str, Output]:
        nonlocal asked
        asked += 1
        expected = engines[name].run(inputs)
        outputs = all_wires[wire](name, inputs, expected)
        assert [output.name for output in outputs] == [output.name for output in expected]
        for got, wanted in zip(outputs, expected, strict=True):
            assert got.equals(wanted), f"{got.name} {got.datatype}{got.shape} differs"
        return {output.name: output for output in outputs}

    MODELS[name].ask(fetched, infer)
    assert asked


BATCHED = (
    "basic_pitch", "digits_half", "digits_split", "minilm", "onet", "orientation", "penguin_maps",
)  # fmt: skip
ALONE = {
    "digits_int8": "takes its scale from all rows of the batch together",
    "face_finder": "picks from all rows at once",
    "iris": "is fixed at 3",
    "mindspore_2.0.0": "is fixed at 2",
    "mindspore_2.10.0": "is fixed at 2",
    "silero_vad": "the first axis of input 'state' is fixed at 2",
    "swift_f0": "is fixed at 1",
}
"""Why a model's requests run one by one; of magika only its own made-up inputs decide."""


@pytest.mark.parametrize("name", BATCHED)
def test_real_model_whose_rows_do_not_touch_is_batched(server: ServerProcess, name: str) -> None:
    assert ", batched up to 32" in _verdict(server, name)


@pytest.mark.parametrize("name", sorted(ALONE))
def test_real_model_whose_rows_touch_is_not_batched(server: ServerProcess, name: str) -> None:
    assert ", not batched: " in _verdict(server, name)
    assert ALONE[name] in _verdict(server, name)


def _verdict(server: ServerProcess, name: str) -> str:
    lines = server.log().splitlines()
    (line,) = (line for line in lines if "ready in" in line and f"servable={name} " in line)
    return line


def test_every_real_model_is_ready_without_settings(server: ServerProcess, folder: Path) -> None:
    assert not list(folder.rglob("*.toml"))
    for name in MODELS:
        status, told = server.get(f"/v2/models/{name}/ready")
        assert status == 200, told
