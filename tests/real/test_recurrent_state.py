"""A recurrent model whose state has its rows in axis 1, batched because its settings say so."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from serving.tensor import Array
from tests.real.engine import ONE_WORKER, Engine
from tests.real.fetch import fetch
from tests.real.wires import GrpcClient
from tests.server import ServerProcess, serving

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

_SETTINGS = """
max_queue_delay_ms = 20.0

[batch_axes]
inputs = { input = 0, state = 1, sr = "none" }
outputs = { output = 0, stateN = 1 }
"""
_CLIENTS, _STEPS = 4, 12
_RATE = np.array(16000, np.int64)


@pytest.fixture(scope="module")
def model() -> Path:
    return fetch() / "silero_vad.onnx"


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    servable = tmp_path_factory.mktemp("repository") / "vad"
    (servable / "1").mkdir(parents=True)
    shutil.copyfile(model, servable / "1" / "model.onnx")
    (servable / "servable.toml").write_text(_SETTINGS)
    options = (*ONE_WORKER, "--log-level", "debug")
    with serving(servable.parent, tmp_path_factory.mktemp("server"), *options) as running:
        yield running


def test_streams_of_several_clients_share_runs_and_keep_their_own_state(
    server: ServerProcess, model: Path
) -> None:
    engine = Engine(model)

    def stream(client: GrpcClient, seed: int) -> None:
        random = np.random.default_rng(seed)
        state: Array = np.zeros((2, 1, 128), np.float32)
        for _ in range(_STEPS):
            sound = random.uniform(-1, 1, (1, 576)).astype(np.float32)
            inputs = {"input": sound, "state": state, "sr": _RATE}
            for got, wanted in zip(client.infer("vad", inputs), engine.run(inputs), strict=True):
                assert (got.name, got.shape) == (wanted.name, wanted.shape)
                np.testing.assert_allclose(got.array(), wanted.array(), rtol=1e-4, atol=1e-5)
                state = got.array()  # the last output is the next state

    with GrpcClient(server.grpc) as client, ThreadPoolExecutor(_CLIENTS) as pool:
        list(pool.map(stream, [client] * _CLIENTS, range(_CLIENTS)))
    assert re.search(rf"ran [2-{_CLIENTS}] rows", server.log())
