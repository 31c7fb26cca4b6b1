"""MindSpore Serving's clients ask for models themselves: full queues, many instances, lost workers.

What they say to methods is in ``test_mindspore_replay``.
"""

from __future__ import annotations

import http.client
import json
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serving.frontends.grpc.stubs import ms_service_pb2 as pb
from tests import models
from tests.e2e import mindspore_recordings as recordings
from tests.e2e.mindspore_recordings import PREDICT
from tests.faults.trap import POISON, trap
from tests.server import ServerProcess, serving

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("mindspore")
    for name in ("sums", "tight"):
        models.add(folder / "models" / name / "1" / "model.onnx")
    (folder / "models" / "tight" / "servable.toml").write_text("max_queue_size = 2\n")
    with serving(folder / "models", folder / "run") as found:
        yield found


@pytest.fixture(scope="module")
def channel(server: ServerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as opened:
        yield opened


def predict(channel: grpc.Channel, message: pb.PredictRequest) -> pb.PredictReply:
    call = channel.unary_unary(PREDICT)
    return pb.PredictReply.FromString(call(message.SerializeToString(), timeout=30))


def send(server: ServerProcess, path: str, body: bytes) -> tuple[int, str | None, bytes]:
    caller = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    try:
        caller.request("POST", path, body)
        answer = caller.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read()
    finally:
        caller.close()


def plain_request(servable: str, *rows: dict[str, Any]) -> pb.PredictRequest:
    """Return a request with an instance for each row of numpy values."""
    spec = pb.ServableSpec(name=servable, method_name="predict")
    message = pb.PredictRequest(servable_spec=spec)
    for row in rows:
        items = message.instances.add().items
        for name, given in row.items():
            items[name].CopyFrom(recordings.tensor_of(given))
    return message


def test_a_full_queue_refuses_the_request_in_known_words(
    server: ServerProcess, channel: grpc.Channel
) -> None:
    text = "Serving Error: enqueued requests count exceeds the limit 2"
    row = {"x": np.float32(1), "y": np.float32(2)}
    reply = predict(channel, plain_request("tight", row, row, row))
    assert [(e.error_code, e.error_msg.decode()) for e in reply.error_msg] == [(1, text)]
    assert len(predict(channel, plain_request("tight", row, row)).instances) == 2
    body = json.dumps({"instances": [{"x": 1.0, "y": 2.0}] * 3}).encode()
    status, _, answer = send(server, "/model/tight:predict", body)
    assert (status, json.loads(answer)) == (200, {"error_msg": text})


def test_instances_are_as_many_as_the_queue_takes(channel: grpc.Channel) -> None:
    rows = [{"x": np.float32(i), "y": np.float32(1)} for i in range(900)]
    reply = predict(channel, plain_request("sums", *rows))
    assert not reply.error_msg
    (name,) = reply.instances[0].items
    sums = [np.frombuffer(instance.items[name].data, "<f4") for instance in reply.instances]
    assert np.array_equal(np.ravel(sums), [i + 1 for i in range(900)])


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 traps on this division")
def test_an_instance_that_fails_or_kills_its_worker_fails_alone(tmp_path: Path) -> None:
    trap(tmp_path / "models" / "trap" / "1" / "model.onnx")
    with serving(tmp_path / "models", tmp_path / "run") as server:
        with grpc.insecure_channel(server.grpc) as opened:
            rows = [{"x": np.int64(x)} for x in (2, -2, 6)]  # -2: division by zero
            refused = predict(opened, plain_request("trap", *rows))
            rows = [{"x": np.int64(x)} for x in (2, POISON, 6)]
            killed = predict(opened, plain_request("trap", *rows))
        assert server.stop() == 0
    gone = "Request servable(trap) method(predict) , servable is not available"
    assert [error.error_code for error in refused.error_msg] == [0, 1, 0]
    assert [(e.error_code, e.error_msg.decode()) for e in killed.error_msg] == [
        (0, ""), (2, gone), (0, ""),
    ]  # fmt: skip
    for reply in (refused, killed):
        found = [np.frombuffer(i.items["y"].data, "<i8") for i in reply.instances if i.items]
        assert np.array_equal(found, [[-(2**61)], [-(2**60)]])


def test_the_guide_s_call_is_answered_as_it_shows(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "mindspore-clients.md").read_text()
    ((path, sample),) = re.findall(r"^curl localhost:1500(\S+) -d @(\S+)$", guide, re.MULTILINE)
    (shown,) = re.findall(r"^```json\n(.*?)\n```$", guide, re.MULTILINE)
    with serving(ROOT / "servables", tmp_path) as server:
        status, kind, body = send(server, path, (ROOT / sample).read_bytes())
    assert (status, kind) == (200, "application/json")
    assert re.fullmatch(
        re.escape(shown).replace(re.escape("[...]"), r"\[[0-9.e,-]+\]"), body.decode()
    )
