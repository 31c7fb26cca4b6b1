"""The Python client against a real ``serving start``."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime as ort
import pytest

from serving.client import AsyncClient, Client
from serving.errors import (
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    ServingError,
    TooLarge,
    Unavailable,
)
from serving.tensor import bf16_to_float32
from tests import models
from tests.server import ServerProcess, serving

ROOT = Path(__file__).resolve().parents[2]
RANDOM = np.random.default_rng(5)
INPUTS: dict[str, dict[str, Any]] = {
    "mlp": {"x": RANDOM.uniform(-1, 1, (5, 16)).astype(np.float32)},
    "mlp_fp16": {"x": RANDOM.uniform(-1, 1, (2, 16)).astype(np.float16)},
    "multi": {
        "left": RANDOM.uniform(-1, 1, (2, 3)).astype(np.float32),
        "right": np.array([[1, 2**53 + 1], [-4, 5]]),
    },
    "scalar_input": {"x": np.ones((2, 4), np.float32), "scale": np.array(2.5, np.float32)},
    "odd_names": {"serving_default_input:0": np.ones((2, 2), np.float32)},
    "variable_width": {"x": np.ones((2, 9), np.float32)},
    "recurrent_state": {
        "x": RANDOM.uniform(-1, 1, (1, 6)).astype(np.float32),
        "state": np.zeros((1, 1, 8), np.float32),
    },
}


def put(root: Path, name: str, make: Any, *more: Any) -> None:
    path = root / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    make(path, *more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    for name in [*INPUTS, "string_lookup", "zip_map", "sequence"]:
        put(root, name, getattr(models, name))
    put(root, "halves", models.identity, "BF16")
    put(root, "words", models.identity, "BYTES", ("batch",))
    shutil.copytree(ROOT / "servables" / "digits", root / "digits")
    return root


@pytest.fixture(scope="module", params=["grpcio", "lane"])
def server(
    request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    options = ("--max-request-mb", "4", "--grpc-engine", request.param)
    with serving(folder, tmp_path_factory.mktemp("server"), *options) as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.grpc) as opened:
        yield opened


def digit() -> Any:
    body = json.loads((ROOT / "servables" / "digits" / "sample.json").read_text())
    return body["instances"][0]["image"]


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_prediction_equals_the_engine(client: Client, folder: Path, name: str) -> None:
    session = ort.InferenceSession(
        str(folder / name / "1" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    answer = client.predict(name, INPUTS[name], request_id="a-1")
    assert (answer.servable, answer.version, answer.id) == (name, 1, "a-1")
    assert list(answer) == names
    for key, value in zip(names, session.run(None, INPUTS[name]), strict=True):
        assert answer[key].dtype == value.dtype
        np.testing.assert_array_equal(answer[key], value)
    as_lists = client.predict(name, {key: value.tolist() for key, value in INPUTS[name].items()})
    for key in names:
        np.testing.assert_array_equal(as_lists[key], answer[key])


def test_rows_equal_the_whole(client: Client) -> None:
    given = RANDOM.uniform(-1, 1, (70, 16)).astype(np.float32)
    rows = client.predict_rows("mlp", given)
    assert len(rows) == 70
    whole = client.predict("mlp", given[:1])["y"][0]
    np.testing.assert_allclose(rows[0]["y"], whole, rtol=1e-5)
    single = [client.predict("mlp", given[i : i + 1])["y"][0] for i in (33, 69)]
    np.testing.assert_allclose([rows[33]["y"], rows[69]["y"]], single, rtol=1e-5)


def test_strings_bfloat16_and_documents_go_through(client: Client) -> None:
    assert client.predict("string_lookup", ["one", "two", "ü"])["number"].tolist() == [1, 2, -1]
    assert client.predict("words", ["é\0", "", "語"])["y"].tolist() == ["é\0", "", "語"]
    halves = np.array([[1, 0.1, -3.5]], ml_dtypes.bfloat16)
    raw = client.predict("halves", halves)["y"]
    np.testing.assert_array_equal(raw, halves.view(np.uint16))
    np.testing.assert_array_equal(bf16_to_float32(raw), halves.astype(np.float32))
    answer = client.predict("zip_map", np.array([[1] * 4, [-1] * 4], np.float32))
    assert answer["label"].tolist() == ["spam", "ham"]
    assert [max(p, key=p.get) for p in answer["probabilities"]] == ["spam", "ham"]
    parts = client.predict("sequence", [[1, 2, 3, 4], [5, 6, 7, 8]])["parts"]
    assert parts.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_description_says_what_the_model_declares(client: Client) -> None:
    known = client.describe("multi")
    assert [spec.text() for spec in known.signature.inputs] == ["FP32[batch,3]", "INT64[batch,2]"]
    assert (known.batch.batched, known.batch.inputs) == (True, (0, 0))
    assert client.describe("zip_map").signature.outputs[1].json
    assert not client.describe("sequence").batch.batched
    rows = {(row.servable, row.version): row.state for row in client.servables()}
    assert rows["multi", 1] == "READY"
    assert client.ready()
    assert client.ready("multi")
    assert not client.ready("nobody")


@pytest.mark.parametrize(
    ("call", "cls", "code", "where"),
    [
        (("multl", [1]), NotFound, "unknown_servable", "servable"),
        ((None, [1]), NotFound, "servable_not_named", "servable"),
        (("mlp", np.ones((1, 16))), InvalidRequest, "wrong_dtype", "inputs.x"),
        (("mlp", np.ones(16, np.float32)), InvalidRequest, "wrong_rank", "inputs.x"),
        (("mlp", [[1] * 15]), InvalidRequest, "wrong_shape", "inputs.x"),
        (("mlp", {"y": [1]}), InvalidRequest, "unknown_input", "inputs.y"),
        (("multi", {"left": [[1, 2, 3]]}), InvalidRequest, "missing_input", "inputs.right"),
    ],
)
def test_mistake_is_raised_as_the_server_s_own_error(
    client: Client, call: Any, cls: type[ServingError], code: str, where: str
) -> None:
    with pytest.raises(cls) as failed:
        client.predict(*call)
    assert (failed.value.code, failed.value.where) == (code, where)


def test_too_large_a_request_names_the_limit_and_the_flag(client: Client) -> None:
    with pytest.raises(TooLarge) as failed:
        client.predict("mlp", np.zeros((100_000, 16), np.float32))
    assert failed.value.expected == f"at most {4 << 20} bytes"
    assert "--max-request-mb" in failed.value.fix


async def test_asyncio_client_does_the_same(server: ServerProcess) -> None:
    async with AsyncClient(server.grpc) as client:
        x = INPUTS["mlp"]["x"]
        answers = await asyncio.gather(*[client.predict("mlp", x[i : i + 1]) for i in range(5)])
        rows = await client.predict_rows("mlp", x)
        for answer, row in zip(answers, rows, strict=True):
            np.testing.assert_allclose(answer["y"][0], row["y"], rtol=1e-5)
        assert (await client.describe("mlp")).version == 1
        assert await client.ready("mlp")
        assert len(await client.servables()) >= len(INPUTS)
        with pytest.raises(NotFound):
            await client.predict("nobody", [1])
        with pytest.raises(InvalidRequest, match="rows|axes") as failed:
            await client.predict_rows("mlp", [x[0], [x[1]]])
        assert failed.value.where == "rows[1].x"


def test_client_waits_for_a_server_that_is_still_starting(folder: Path, tmp_path: Path) -> None:
    with serving(folder, tmp_path, wait=False) as starting:
        starting.wait_ready()
        with Client(starting.grpc) as client:
            client.wait_until_ready(60)
            client.wait_until_ready(60, "digits")
            assert client.predict("digits", [digit()])["label"].tolist() == [5]
            with pytest.raises(DeadlineExceeded, match="'nobody'"):
                client.wait_until_ready(0.3, "nobody")
            assert starting.stop() == 0
            assert not client.ready()
            with pytest.raises(Unavailable, match="nothing listens"):
                client.predict("digits", [digit()])
            port = str(starting.grpc_port)
            with serving(folder, tmp_path / "again", "--grpc-port", port):
                assert client.predict("digits", [digit()])["label"].tolist() == [5]


def test_client_asks_a_server_on_this_machine_without_a_proxy(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("grpc_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("no_grpc_proxy", raising=False)
    with Client(server.grpc) as client:
        assert client.ready()


def test_overload_reaches_the_caller_as_such(tmp_path: Path) -> None:
    put(tmp_path / "models", "slow", models.slow, 100)
    settings = "max_queue_size = 1\nmax_batch_size = 1\n"
    (tmp_path / "models" / "slow" / "servable.toml").write_text(settings)

    async def flood(address: str) -> list[Any]:
        async with AsyncClient(address) as client:
            spec = (await client.describe("slow")).signature.inputs[0]
            shape = [dim if isinstance(dim, int) else 1 for dim in spec.shape or ()]
            calls = [client.predict("slow", np.zeros(shape, spec.dtype.numpy)) for _ in range(30)]
            return await asyncio.gather(*calls, return_exceptions=True)

    with serving(tmp_path / "models", tmp_path / "s") as running:
        answers = asyncio.run(flood(running.grpc))
    failures = [answer for answer in answers if isinstance(answer, Exception)]
    assert 0 < len(failures) < len(answers)
    assert {type(failure) for failure in failures} == {Overloaded}
    assert {failure.retry_after_s for failure in failures} == {1.0}
