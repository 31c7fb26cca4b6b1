"""Conversations that MindSpore Serving had with its clients, had again with this server.

Every recorded request goes to servables that behave as those it was recorded with. Codes, texts,
values, types, shapes and the form of each answer are compared; every deliberate difference is
listed here with its reason and what is answered instead.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serving.api.client import Client
from serving.frontends.grpc.stubs import ms_service_pb2 as pb
from tests import servables
from tests.e2e import mindspore_recordings as recordings
from tests.e2e.mindspore_recordings import PREDICT, Record
from tests.server import ServerProcess, serving

_OTHER_JSON = "the place of the error is told in the words of another library"
_LATER = "how many run together is a matter of who else waits"
_NOT_CUT = "numbers beyond 32 bits were made into others"
_NO_SHM = "any client could have any shared memory object of the machine opened by its name"

GRPC_DIFFERENT = {
    "zero_instances": "was never answered",
    "shm_input_bad_key": _NO_SHM,
    "output_buffer_bad_key": _NO_SHM,
    "addv_different_v_first_wins": "the first instance's v was used for all of them",
    "batchlen0_20": _LATER,
    "via_call_batch_6": _LATER,
    "plus1_int32_scalar": "numpy 2 keeps an int32 when 1 is added, numpy 1 made it an int64",
    "oversized_1.4MB_limit_1MB": "gRPC itself puts the word SERVER: before the text since then",
    "unknown_rpc": "gRPC's Python has a text of its own",
}
REST_DIFFERENT: dict[str, tuple[str, Any]] = {
    "bad_json": (_OTHER_JSON, "Illegal JSON format."),
    "bad_json2": (_OTHER_JSON, "Illegal JSON format."),
    "b64_bad_chars": (
        "was never answered",
        "Parser request failed, '!!!!' is illegal b64 encode string",
    ),
    "describe_bigint": (_NOT_CUT, {"y": "ndarray:int64:[]:1099511627776"}),
    "echo_bigint": (_NOT_CUT, {"y": 1099511627776}),
    "pass_list_bigint": (_NOT_CUT, {"y": [1099511627776]}),
    "describe_float_1e300": (_NOT_CUT, {"y": "ndarray:float64:[]:1e+300"}),
    "describe_list_obj_str": ("base64 in a list was not decoded", {"y": "str:'abc'"}),
    "echo_list_obj_str": ("base64 in a list was not decoded", {"y": "abc"}),
    "OPTIONS": ("is answered in JSON like other methods", "only support POST"),
}
CLIENT_DIFFERENT = {
    "noconn": "gRPC itself says more since then",
    "describe_npbool": "numpy 2 has another name for the class",
    "echo_npbool": "numpy 2 has another name for the class",
}


def same(kind: str, different: Any) -> list[Any]:
    """Return the recordings of a kind that are expected to go as they went."""
    found = [record for record in recordings.load(kind) if record["name"] not in different]
    return [pytest.param(record, id=record["name"]) for record in found]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with replaying(tmp_path_factory.mktemp("replay"), "lane") as found:
        yield found


@pytest.fixture(scope="module")
def grpcio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with replaying(tmp_path_factory.mktemp("grpcio"), "grpcio") as found:
        yield found


@contextlib.contextmanager
def replaying(folder: Path, engine: str) -> Iterator[ServerProcess]:
    """Run a server with the servables that the recordings were made with."""
    models = servables.lay_out(folder / "models", ("add", "add_sub", "addb", "kinds"))
    (models / "add" / "servable.toml").write_text("versions = { latest = 2 }\n")
    options = ("--max-request-mb", "1", "--grpc-engine", engine)
    with serving(models, folder / "run", *options) as found:
        yield found


@pytest.fixture(scope="module", params=["server", "grpcio"])
def channel(request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(request.getfixturevalue(request.param).grpc) as opened:
        yield opened


def ask(channel: grpc.Channel, data: bytes, path: str = PREDICT) -> pb.PredictReply:
    return pb.PredictReply.FromString(channel.unary_unary(path)(data, timeout=30))


def refused(channel: grpc.Channel, record: Record, path: str = PREDICT) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as failed:
        ask(channel, recordings.grpc_request(record), path)
    return failed.value.code().name, str(failed.value.details())


@pytest.mark.parametrize("record", same("grpc", GRPC_DIFFERENT))
def test_grpc_reply_is_the_recorded_one(channel: grpc.Channel, record: Record) -> None:
    if record["status"] == "OK":
        reply = ask(channel, recordings.grpc_request(record))
        assert reply == recordings.grpc_reply(record)
    else:
        assert refused(channel, record) == (record["status"], record["details"])


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("zero_instances", 2, "instances count is 0"),
        ("shm_input_bad_key", 1, "(send the elements in 'data')"),
        ("output_buffer_bad_key", 1, "(leave output_buffers out: outputs come in the reply)"),
    ],
)
def test_grpc_refuses_what_was_done_or_never_answered(
    channel: grpc.Channel, name: str, code: int, text: str
) -> None:
    reply = ask(channel, recordings.grpc_request(recordings.one("grpc", name)))
    (error,) = reply.error_msg
    assert (error.error_code, text in error.error_msg.decode()) == (code, True)
    assert not reply.instances


@pytest.fixture(scope="module")
def sharing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    """Yield a channel to a server that opens shared memory of its clients."""
    folder = tmp_path_factory.mktemp("sharing")
    models = servables.lay_out(folder / "models", ("add", "kinds"))
    with (
        serving(models, folder / "run", "--client-shared-memory") as found,
        grpc.insecure_channel(found.grpc) as opened,
    ):
        yield opened


@pytest.mark.parametrize("name", ["shm_input_bad_key", "output_buffer_bad_key"])
def test_grpc_reply_about_shared_memory_is_the_recorded_one_where_it_is_on(
    sharing: grpc.Channel, name: str
) -> None:
    record = recordings.one("grpc", name)
    assert ask(sharing, recordings.grpc_request(record)) == recordings.grpc_reply(record)


def test_grpc_takes_each_instance_at_its_own_value_beside_the_batch(channel: grpc.Channel) -> None:
    record = recordings.one("grpc", "addv_different_v_first_wins")
    message = pb.PredictRequest.FromString(recordings.grpc_request(record))
    reply = ask(channel, recordings.grpc_request(record))
    assert not reply.error_msg
    assert len(reply.instances) == len(message.instances) > 1
    for given, got in zip(message.instances, reply.instances, strict=True):
        x, v = (np.frombuffer(given.items[name].data, "<f4") for name in ("x", "v"))
        assert np.array_equal(np.frombuffer(got.items["s"].data, "<f4"), x + v)
        assert np.array_equal(np.frombuffer(got.items["d"].data, "<f4"), x - v)


@pytest.mark.parametrize("name", ["batchlen0_20", "via_call_batch_6"])
def test_grpc_reply_differs_in_how_many_ran_together_and_else_not(
    channel: grpc.Channel, name: str
) -> None:
    record = recordings.one("grpc", name)
    reply, expected = ask(channel, recordings.grpc_request(record)), recordings.grpc_reply(record)
    for got, wanted in zip(reply.instances, expected.instances, strict=True):
        together = int(np.frombuffer(got.items["n"].data, "<i8")[0])
        assert 1 <= together <= len(reply.instances)
        got.items["n"].data = wanted.items["n"].data
    assert reply == expected


def test_grpc_reply_has_the_type_that_numpy_gives_here(channel: grpc.Channel) -> None:
    record = recordings.one("grpc", "plus1_int32_scalar")
    expected = recordings.grpc_reply(record)
    expected.instances[0].items["value"].CopyFrom(
        recordings.tensor_of(np.array(3, np.int32)[()] + 1)
    )
    expected.instances[0].items["value"].shape.SetInParent()
    assert ask(channel, recordings.grpc_request(record)) == expected


def test_grpc_s_own_refusals_differ_in_their_texts_only(channel: grpc.Channel) -> None:
    record = recordings.one("grpc", "oversized_1.4MB_limit_1MB")
    code, text = refused(channel, record)
    assert (code, text.removeprefix("SERVER: ")) == (record["status"], record["details"])
    unknown = recordings.one("grpc", "unknown_rpc")
    path = PREDICT.replace("Predict", "Nothing")
    assert refused(channel, {"request_b64": ""}, path)[0] == unknown["status"]


def send(server: ServerProcess, record: Record) -> tuple[int, str | None, bytes]:
    caller = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    try:
        body = recordings.rest_body(record)
        caller.request(record["method"], record["path"], body, record["headers"])
        answer = caller.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read()
    finally:
        caller.close()


@pytest.mark.parametrize("record", same("rest", REST_DIFFERENT))
def test_rest_answer_is_the_recorded_one(server: ServerProcess, record: Record) -> None:
    """Byte for byte; but the reason phrase, which no client reads, is "OK" and not "Client"."""
    content_type = dict(record["resp_headers"])["Content-Type"]
    expected = (record["status"], content_type, record["resp_body"].encode())
    assert send(server, record) == expected


@pytest.mark.parametrize("name", REST_DIFFERENT)
def test_rest_answer_differs_where_it_should(server: ServerProcess, name: str) -> None:
    _reason, expected = REST_DIFFERENT[name]
    status, _, body = send(server, recordings.one("rest", name))
    assert status == 200
    answer = json.loads(body)
    if isinstance(expected, str):
        assert expected in answer["error_msg"]
    else:
        assert answer == {"instances": [expected]}


@pytest.mark.parametrize("record", same("client", CLIENT_DIFFERENT))
def test_python_client_answers_and_raises_as_recorded(
    server: ServerProcess, record: Record
) -> None:
    """``mindspore_serving.client`` as it comes with this package."""
    if "args" in record:
        assert raised(lambda: Client(*record["args"])) == record["raises"]
        return
    version = record.get("version", 0)
    caller = Client(server.grpc, record["servable"], record["method"], version)
    instances = recordings.client_instances(record)
    try:
        if "raises" in record:
            assert raised(lambda: caller.infer(instances)) == record["raises"]
        else:
            assert recordings.client_result(caller.infer(instances)) == record["result"]
            later = caller.infer_async(instances)
            assert recordings.client_result(later.result()) == record["result"]
    finally:
        caller.channel.close()


def raised(call: Callable[[], Any]) -> str:
    with pytest.raises(RuntimeError) as error:
        call()
    return f"{type(error.value).__name__}: {error.value}"


@pytest.mark.parametrize("name", ["describe_npbool", "echo_npbool"])
def test_python_client_refuses_a_numpy_bool_by_the_name_it_has_here(name: str) -> None:
    record = recordings.one("client", name)
    caller = Client("127.0.0.1:1", record["servable"], record["method"])
    try:
        text = raised(lambda: caller.infer(recordings.client_instances(record)))
    finally:
        caller.channel.close()
    assert text == record["raises"].replace("<class 'numpy.bool_'>", str(np.bool_))


def test_python_client_without_a_server_says_what_grpc_says() -> None:
    record = recordings.one("client", "noconn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        caller = Client(f"127.0.0.1:{free.getsockname()[1]}", "add", "add_common")
        try:
            answer = caller.infer(recordings.client_instances(record))
        finally:
            caller.channel.close()
    assert answer["error"].startswith(record["result"]["error"])


def test_every_recording_is_played() -> None:
    kinds = {"grpc": GRPC_DIFFERENT, "rest": REST_DIFFERENT, "client": CLIENT_DIFFERENT}
    equal = {kind: len(same(kind, different)) for kind, different in kinds.items()}
    apart = {kind: len(different) for kind, different in kinds.items()}
    print(f"recordings that go as they went: {equal}; differently, as listed: {apart}")
    assert equal == {"grpc": 73, "rest": 99, "client": 42}
    assert apart == {"grpc": 9, "rest": 10, "client": 3}
    assert sum(equal.values()) + sum(apart.values()) == 236
