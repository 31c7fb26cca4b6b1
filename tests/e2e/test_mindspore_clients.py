"""Conversations that MindSpore Serving had with its clients, had again with this server.

Codes, texts, values, types, shapes and the form of each answer are compared with what was
recorded; every deliberate difference is listed here with its reason and what is said instead.
Methods that run Python stages are not offered yet; they are counted, not played.
"""

from __future__ import annotations

import base64
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
from onnx import helper

from serving.frontends.grpc.stubs import ms_service_pb2 as pb
from tests import models
from tests.e2e import mindspore_recordings as recordings
from tests.e2e.mindspore_recordings import Replay
from tests.faults.trap import POISON, trap
from tests.models.graph import build, save, value
from tests.server import ServerProcess, serving

PREDICT = "/mindspore.serving.proto.MSService/Predict"
ROOT = Path(__file__).parents[2]

# What is different, why, and what is answered here.
GRPC_DIFFERENT = {
    "zero_instances": ("was never answered", 2, "instances count is 0"),
    "shm_input_bad_key": (
        "any client could have any shared memory object opened by its name",
        1,
        "Shared memory is not opened by this server (send the elements in 'data')",
    ),
    "output_buffer_bad_key": (
        "any client could have any shared memory object written to by its name",
        1,
        "Shared memory is not opened by this server (leave output_buffers out:",
    ),
}
REST_DIFFERENT = {
    "bad_json": ("the place of the error is told in this server's words", "Illegal JSON format."),
    "bad_json2": ("the place of the error is told in this server's words", "Illegal JSON format."),
    "b64_bad_chars": (
        "was never answered",
        "Parser request failed, '!!!!' is illegal b64 encode string",
    ),
    "echo_bigint": ("integers beyond 32 bits were cut to 0", {"y": 1099511627776}),
    "pass_list_bigint": ("integers beyond 32 bits were cut to 0", {"y": [1099511627776]}),
    "pass_list_obj_b64": ("what is text is sent as text", {"y": ["abc"]}),
    "pass_obj_b64_shape1": ("what is text is sent as text", {"y": ["abc"]}),
    "echo_list_obj_str": ("base64 in a list was not decoded", {"y": "abc"}),
    "OPTIONS": ("is answered in JSON like other methods", "only support POST"),
}  # fmt: skip


def replays(kind: str, different: dict[str, Any] | None = None) -> list[Any]:
    found = [recordings.replay(record) for record in recordings.load(kind)]
    apart = {"addv_different_v_first_wins", *(different or {})}
    return [
        pytest.param(replay, id=replay.name)
        for replay in found
        if replay is not None and replay.name not in apart
    ]


def one(kind: str, name: str) -> Replay:
    (record,) = [record for record in recordings.load(kind) if record["name"] == name]
    found = recordings.replay(record)
    assert found is not None
    return found


def echoes() -> set[recordings.Echo]:
    every = [recordings.replay(r) for k in ("grpc", "rest", "client") for r in recordings.load(k)]
    return {found.echo for found in every if found is not None and found.echo is not None}


def repository(folder: Path) -> Path:
    """Write the models that the recordings are about."""
    for version in ("1", "2"):
        path = folder / "add" / version / "model.onnx"
        formula(path, [("Add", "x1", "x2", "y")], {"x1": (2, 2), "x2": (2, 2)})
    (folder / "add" / "servable.toml").write_text("versions = { latest = 2 }\n")
    steps = [("Add", "x1", "x2", "sum"), ("Sub", "sum", "x3", "y")]
    formula(folder / "add_sub" / "1" / "model.onnx", steps, {f"x{i}": (2, 2) for i in (1, 2, 3)})
    rows = ("batch", 2)
    formula(folder / "addb" / "1" / "m.onnx", [("Add", "x1", "x2", "y")], {"x1": rows, "x2": rows})
    steps = [("Add", "x", "v", "s"), ("Sub", "x", "v", "d")]
    formula(folder / "addv" / "1" / "m.onnx", steps, {"x": rows, "v": (2,)}, rows)
    (folder / "addv" / "servable.toml").write_text(
        '[batch_axes]\ninputs = { x = 0, v = "none" }\noutputs = { s = 0, d = 0 }\n'
    )
    models.add(folder / "tight" / "1" / "model.onnx")
    (folder / "tight" / "servable.toml").write_text("max_queue_size = 2\n")
    for echo in echoes():
        word = {"str": "BYTES", "bool": "BOOL"}.get(echo.word, echo.word.upper())
        word = word.replace("FLOAT", "FP")
        models.identity(folder / echo.servable / "1" / "model.onnx", word, echo.shape)
    return folder


def formula(
    path: Path,
    steps: list[tuple[str, str, str, str]],
    inputs: dict[str, tuple[int | str, ...]],
    shape: tuple[int | str, ...] | None = None,
) -> None:
    """Write a model of FP32 operators; outputs are the results that no step takes."""
    taken = {name for _, left, right, _ in steps for name in (left, right)}
    results = [result for *_, result in steps if result not in taken]
    nodes = [helper.make_node(op, [left, right], [result]) for op, left, right, result in steps]
    given = [value(name, "FP32", dims) for name, dims in inputs.items()]
    shape = shape or next(iter(inputs.values()))
    save(build(nodes, given, [value(name, "FP32", shape) for name in results]), path)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("mindspore")
    with serving(repository(folder / "models"), folder / "run", "--max-request-mb", "1") as found:
        yield found


@pytest.fixture(scope="module")
def channel(server: ServerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as opened:
        yield opened


def predict(channel: grpc.Channel, message: Any, path: str = PREDICT) -> pb.PredictReply:
    call = channel.unary_unary(
        path,
        request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
        response_deserializer=pb.PredictReply.FromString,
    )
    reply: pb.PredictReply = call(message, timeout=30)
    return reply


def send(
    server: ServerProcess, method: str, path: str, body: bytes | None
) -> tuple[int, str, bytes]:
    """Return status, content type and body of one HTTP exchange."""
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.headers["content-type"], answer.read()
    finally:
        connection.close()


def body_of(found: Replay) -> bytes | None:
    encoded = found.record.get("body_b64")
    return None if encoded is None else base64.b64decode(encoded)


def text_of(reply: pb.PredictReply) -> str:
    (error,) = reply.error_msg
    return str(error.error_msg.decode())


@pytest.mark.parametrize("found", replays("grpc", GRPC_DIFFERENT))
def test_grpc_reply_is_the_recorded_one(channel: grpc.Channel, found: Replay) -> None:
    assert found.record["status"] == "OK"
    reply = predict(channel, recordings.request_message(found))
    assert reply == recordings.expected_message(found)


@pytest.mark.parametrize("name", GRPC_DIFFERENT)
def test_grpc_reply_differs_where_it_should(channel: grpc.Channel, name: str) -> None:
    _reason, code, text = GRPC_DIFFERENT[name]
    found = one("grpc", name)
    reply = predict(channel, recordings.request_message(found))
    assert [error.error_code for error in reply.error_msg] == [code]
    assert text in text_of(reply)
    assert not reply.instances


def test_grpc_takes_each_instance_at_its_own_value_beside_the_batch(channel: grpc.Channel) -> None:
    """Recorded: the first instance's ``v`` was used for all of them."""
    found = one("grpc", "addv_different_v_first_wins")
    message = recordings.request_message(found)
    reply = predict(channel, message)
    assert not reply.error_msg
    assert len(reply.instances) == len(message.instances) > 1
    for given, got in zip(message.instances, reply.instances, strict=True):
        x, v = (np.frombuffer(given.items[name].data, "<f4") for name in ("x", "v"))
        assert np.array_equal(np.frombuffer(got.items["s"].data, "<f4"), x + v)
        assert np.array_equal(np.frombuffer(got.items["d"].data, "<f4"), x - v)


def test_grpc_refuses_bytes_that_are_no_message_as_recorded(channel: grpc.Channel) -> None:
    (record,) = [r for r in recordings.load("grpc") if r["name"] == "unparsable_request"]
    with pytest.raises(grpc.RpcError) as failed:
        predict(channel, base64.b64decode(record["request_b64"]))
    assert failed.value.code().name == record["status"]
    assert failed.value.details() == record["details"]


def test_grpc_refuses_a_message_over_the_limit_as_recorded(channel: grpc.Channel) -> None:
    """But for the word "SERVER:", which gRPC itself puts before it since then."""
    (record,) = [r for r in recordings.load("grpc") if r["name"].startswith("oversized")]
    message = pb.PredictRequest()
    tensor = message.instances.add().items["x"]
    tensor.data = bytes(record["request_len"] - 100)
    tensor.data += bytes(record["request_len"] - message.ByteSize())
    assert message.ByteSize() == record["request_len"]
    with pytest.raises(grpc.RpcError) as failed:
        predict(channel, message)
    assert failed.value.code().name == record["status"]
    assert str(failed.value.details()).removeprefix("SERVER: ") == record["details"]


def test_grpc_refuses_another_call_of_the_service(channel: grpc.Channel) -> None:
    """Recorded with an empty text; gRPC's Python has one of its own."""
    with pytest.raises(grpc.RpcError) as failed:
        predict(channel, b"", PREDICT.replace("Predict", "Nothing"))
    assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("found", replays("rest", REST_DIFFERENT))
def test_rest_answer_is_the_recorded_one(server: ServerProcess, found: Replay) -> None:
    """Byte for byte; but the reason phrase, which no client reads, is "OK" and not "Client"."""
    record = found.record
    told = send(server, record["method"], recordings.rest_path(found), body_of(found))
    expected = found.renamed(record["resp_body"]).encode()
    assert told == (record["status"], dict(record["resp_headers"])["Content-Type"], expected)


@pytest.mark.parametrize("name", REST_DIFFERENT)
def test_rest_answer_differs_where_it_should(server: ServerProcess, name: str) -> None:
    _reason, expected = REST_DIFFERENT[name]
    found = one("rest", name)
    status, _, body = send(
        server, found.record["method"], recordings.rest_path(found), body_of(found)
    )
    assert status == 200
    answer = json.loads(body)
    if isinstance(expected, str):
        assert expected in answer["error_msg"]
    else:
        assert answer == {"instances": [expected]}


def test_rest_refuses_a_body_over_the_limit_as_recorded(server: ServerProcess) -> None:
    (record,) = [r for r in recordings.load("rest") if r["name"].startswith("oversized")]
    path = record["path"]
    status, kind, body = send(server, "POST", path, b" " * record["body_len"])
    assert (status, kind) == (200, "application/json")
    assert body.decode() == record["resp_body"]


@pytest.mark.parametrize("found", replays("client"))
def test_python_client_gets_the_recorded_result(channel: grpc.Channel, found: Replay) -> None:
    reply = predict(channel, recordings.client_request(found))
    expected = json.loads(found.renamed(json.dumps(found.record["result"])))
    assert recordings.client_result(reply) == expected


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
    status, _, answer = send(server, "POST", "/model/tight:predict", body)
    assert (status, json.loads(answer)) == (200, {"error_msg": text})


def test_instances_are_as_many_as_the_queue_takes(channel: grpc.Channel) -> None:
    rows = [{"x1": np.full(2, i, "f4"), "x2": np.ones(2, "f4")} for i in range(900)]
    reply = predict(channel, plain_request("addb", *rows))
    assert not reply.error_msg
    sums = [np.frombuffer(instance.items["y"].data, "<f4") for instance in reply.instances]
    assert np.array_equal(sums, [[i + 1, i + 1] for i in range(900)])


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
        status, kind, body = send(server, "POST", path, (ROOT / sample).read_bytes())
    assert (status, kind) == (200, "application/json")
    assert re.fullmatch(
        re.escape(shown).replace(re.escape("[...]"), r"\[[0-9.e,-]+\]"), body.decode()
    )


def test_every_recording_is_played_or_counted() -> None:
    """Played and the same, played with a stated difference, stages, and the client by itself."""
    total = {kind: len(recordings.load(kind)) for kind in ("grpc", "rest", "client")}
    assert total == {"grpc": 82, "rest": 109, "client": 45}
    same = {
        "grpc": len(replays("grpc", GRPC_DIFFERENT)) + 2,  # no message, too large
        "rest": len(replays("rest", REST_DIFFERENT)) + 1,  # too large
        "client": len(replays("client")),
    }
    different = {
        "grpc": len(GRPC_DIFFERENT) + 2,  # another value beside the batch, another call
        "rest": len(REST_DIFFERENT),
        "client": 0,
    }
    records = recordings.load("client")
    alone = sum("result" not in r or r["name"] in recordings.NO_REQUEST for r in records)
    stages = {kind: total[kind] - same[kind] - different[kind] for kind in total}
    stages["client"] -= alone
    assert same == {"grpc": 49, "rest": 70, "client": 13}
    assert different == {"grpc": 5, "rest": 9, "client": 0}
    assert (stages, alone) == ({"grpc": 28, "rest": 30, "client": 14}, 18)
