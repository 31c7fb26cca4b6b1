"""Tensors in shared memory of clients: NVIDIA's client, MindSpore's messages, hostile owners."""

from __future__ import annotations

import collections
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from onnx import helper

from serving.frontends.grpc.stubs import inference_v2_pb2 as v2
from serving.frontends.grpc.stubs import ms_service_pb2 as pb
from tests.e2e.mindspore_recordings import PREDICT, tensor_of
from tests.models.graph import build, save, value
from tests.server import ServerProcess, call, serving, until
from tests.shared_objects import Objects, shared_objects

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("triton_memory_calls.py")
ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)
SYSTEM = "/v2/systemsharedmemory"
INFER = "/v2/models/double/infer"
WIDE_INFER = "/v2/models/wide/infer"
WIDE = 8192
LARGE = 2 * WIDE * 4
"""Bytes of tensors that are left to workers."""


def double(path: Path, columns: int = 4) -> Path:
    ends = [value(name, "FP32", ["n", columns]) for name in ("x", "y")]
    return save(build([helper.make_node("Add", ["x", "x"], ["y"])], ends[:1], ends[1:]), path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    double(folder / "double" / "1" / "model.onnx")
    double(folder / "wide" / "1" / "model.onnx", WIDE)
    shutil.copytree(ROOT / "servables" / "digits", folder / "digits")
    return folder


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    scratch = tmp_path_factory.mktemp("server")
    with serving(models, scratch, "--client-shared-memory", "--max-request-mb", "4") as running:
        yield running


@pytest.fixture(scope="module")
def grpcio(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    options = ("--client-shared-memory", "--grpc-engine", "grpcio")
    with serving(models, tmp_path_factory.mktemp("grpcio"), *options) as running:
        yield running


@pytest.fixture
def objects(server: ServerProcess) -> Iterator[Objects]:
    with shared_objects() as made:
        yield made
    server.post(f"{SYSTEM}/unregister", {})


@pytest.fixture(params=["http", "grpc", "grpc to grpcio"])
def told(request: pytest.FixtureRequest, server: ServerProcess, grpcio: ServerProcess) -> Any:
    """Return what tritonclient was told over one wire."""
    kind, _, to_grpcio = request.param.partition(" ")
    answering = grpcio if to_grpcio else server
    address = f"127.0.0.1:{server.rest_port}" if kind == "http" else answering.grpc
    with shared_objects() as made:
        run = subprocess.run(
            [sys.executable, "-W", "ignore", str(SCRIPT), kind, address, made.prefix],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        assert made.left() == []
    return {"kind": kind, **json.loads(run.stdout)}


def test_tritonclient_sends_and_gets_tensors_in_shared_memory(told: Any) -> None:
    doubled = (2 * ROWS).tolist()
    assert told["both"] == doubled
    none_follow = {"binary_data_size": 0} if told["kind"] == "http" else {}
    assert told["parameters"] == {
        "shared_memory_region": "out", "shared_memory_byte_size": 48, "shared_memory_offset": 64,
        **none_follow,
    }  # fmt: skip
    assert told["input"] == told["output 1"] == doubled
    assert told["output 3"] == (6 * ROWS).tolist()
    assert "system_shared_memory" in told["extensions"]
    status = {region["name"]: region for region in told["status"]}
    assert sorted(status) == ["in", "out"]
    # protobuf writes 64-bit numbers as strings into JSON
    assert [int(status["in"][key]) for key in ("offset", "byte_size")] == [64, 48]
    assert status["in"]["key"].endswith("-in")
    assert (told["left"], told["none left"]) == (["out"], [])


def test_tritonclient_is_told_what_is_wrong_with_a_region(told: Any) -> None:
    bad, missing = "400", "404"
    if told["kind"] == "grpc":
        bad, missing = "StatusCode.INVALID_ARGUMENT", "StatusCode.NOT_FOUND"
    for name, status, *words in (
        ("too far", bad, "region 'in'", "offset 4", "48 bytes in the region", "inputs.x"),
        ("wrong size", bad, "48 bytes", "given 44 bytes"),
        ("too small", bad, "48 bytes", "shared_memory_byte_size 44", "outputs.y"),
        ("unknown", missing, "'no-such'", "register it first"),
        ("unregistered", missing, "'in'"),
        ("twice", bad, "region 'in' is registered already"),
        ("no object", missing, "no shared memory object"),
        ("too large", bad, "region 'other'", "1048576 bytes", "112 bytes in the object"),
    ):
        given, text = told[name]
        assert given == status, (name, text)
        assert [word for word in words if word not in text] == [], (name, text)
        assert "/dev" not in text
    status, text = told["cuda"]
    assert status == ("400" if told["kind"] == "http" else "StatusCode.UNIMPLEMENTED")
    assert "CUDA shared memory is not offered here" in text


def test_example_of_the_guide_prints_what_it_says(server: ServerProcess) -> None:
    text = (ROOT / "docs" / "shared-memory.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (says,) = re.findall(r"print\(.*\)  # (.*)", example)
    assert example.count("localhost:1500") == 1
    run = subprocess.run(
        [sys.executable, "-c", example.replace("localhost:1500", f"127.0.0.1:{server.rest_port}")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, f"{says}\n"), run.stderr
    assert not [name for name in os.listdir("/dev/shm") if name.startswith("my-")]


def places(region: str, size: int, **more: Any) -> dict[str, Any]:
    return {"shared_memory_region": region, "shared_memory_byte_size": size, **more}


def stored(region: str, size: int) -> dict[str, Any]:
    """Return what an answer says of an output there: no data follow it."""
    return places(region, size, binary_data_size=0)


def body(rows: int, parameters: dict[str, Any], output: dict[str, Any] | None = None) -> Any:
    given = {"name": "x", "datatype": "FP32", "shape": [rows, 4], "parameters": parameters}
    wanted = [{"name": "y", "parameters": output}] if output else []
    return {"inputs": [given], "outputs": wanted}


def register(server: ServerProcess, name: str, key: str, size: int, offset: int = 0) -> Any:
    asked = {"key": key, "byte_size": size, "offset": offset}
    return server.post(f"{SYSTEM}/region/{name}/register", asked)


def test_large_tensors_are_read_and_written_on_threads(
    server: ServerProcess, objects: Objects
) -> None:
    rows = np.random.default_rng(5).random((200_000, 4), np.float32)
    size = rows.nbytes
    key, answer = objects.make("in", rows.tobytes()), objects.make("out", bytes(size))
    assert register(server, "in", key, size) == (200, {})
    assert register(server, "out", answer, size) == (200, {})
    # A message that is short takes the lane, a long one the ordinary way.
    for padding in ("", "x" * 100_000):
        objects.path("out").write_bytes(bytes(size))
        asked = body(200_000, places("in", size), places("out", size))
        status, found = server.post(INFER, {**asked, "id": padding})
        assert (status, found["outputs"][0]["parameters"]) == (200, stored("out", size))
        assert objects.path("out").read_bytes() == (2 * rows).tobytes()


def large(
    server: ServerProcess, objects: Objects, word: str, seed: int, shape: tuple[int, int]
) -> tuple[Any, Any]:
    """Register regions of one more client; return what it asks, and what it is to find."""
    rows = np.random.default_rng(seed).random(shape, np.float32)
    data = bytes(16) + rows.tobytes()
    for kind, first in (("in", data), ("out", bytes(LARGE + 32))):
        name = f"{kind}-{word}"
        assert register(server, name, objects.make(name, first), LARGE + 16)[0] == 200
    asked = body(shape[0], places(f"in-{word}", LARGE, shared_memory_offset=16))
    asked["inputs"][0]["shape"] = shape
    asked["outputs"] = [{"name": "y", "parameters": places(f"out-{word}", LARGE + 16)}]
    return asked, (2 * rows).tobytes()


@pytest.mark.parametrize(
    ("model", "shape"),
    [("wide", (2, WIDE)), ("double", (LARGE // 16, 4))],
    ids=["a few large rows", "more rows than a batch"],
)
def test_rows_that_a_worker_copies_are_those_of_their_client(
    server: ServerProcess, objects: Objects, model: str, shape: tuple[int, int]
) -> None:
    clients = [large(server, objects, str(n), n, shape) for n in range(12)]

    def ask(number: int) -> None:
        asked, doubled = clients[number]
        for _ in range(10):
            objects.path(f"out-{number}").write_bytes(bytes(LARGE + 32))
            status, found = server.post(INFER.replace("double", model), asked)
            assert (status, found["outputs"][0]["parameters"]) == (
                200,
                stored(f"out-{number}", LARGE),
            )
            assert found["outputs"][0]["shape"] == list(shape)
            assert objects.path(f"out-{number}").read_bytes() == doubled + bytes(32)

    with ThreadPoolExecutor(len(clients)) as threads:
        list(threads.map(ask, range(len(clients))))


def test_worker_lets_go_of_an_object_once_its_region_is_unregistered(
    server: ServerProcess, objects: Objects
) -> None:
    asked, _ = large(server, objects, "kept", 5, (2, WIDE))
    maps = [Path(f"/proc/{worker.pid}/maps") for worker in server.workers()]

    def mapped() -> bool:
        return any(objects.name("in-kept") in found.read_text() for found in maps)

    for _ in range(2 * len(maps)):
        assert server.post(WIDE_INFER, asked)[0] == 200
    assert mapped(), "a place that is used again is mapped"
    assert server.post(f"{SYSTEM}/region/in-kept/unregister", {})[0] == 200
    until(lambda: not mapped(), 10, "the mapping's end")
    assert server.post(WIDE_INFER, asked)[0] == 404
    rows = np.full((2, WIDE), 3, np.float32)
    key = objects.make("another", bytes(16) + rows.tobytes())
    assert register(server, "in-kept", key, LARGE + 16)[0] == 200
    assert server.post(WIDE_INFER, asked)[0] == 200
    assert objects.path("out-kept").read_bytes()[:LARGE] == (2 * rows).tobytes()


@pytest.mark.parametrize("wire", ["http", "grpc"])
def test_large_output_that_does_not_fit_is_told_by_its_size(
    server: ServerProcess, objects: Objects, wire: str
) -> None:
    asked, _ = large(server, objects, "small", 6, (2, WIDE))
    if wire == "http":
        asked["outputs"][0]["parameters"]["shared_memory_byte_size"] = LARGE - 4
        for _ in range(3):
            status, found = server.post(WIDE_INFER, asked)
            assert (status, f"expected {LARGE} bytes" in found["error"]) == (400, True)
    else:
        message = v2.ModelInferRequest(model_name="wide")
        tensors = (
            message.inputs.add(name="x", datatype="FP32", shape=[2, WIDE]),
            message.outputs.add(name="y"),
        )
        for tensor, said in zip(
            tensors,
            (places("in-small", LARGE, shared_memory_offset=16), places("out-small", LARGE - 4)),
            strict=True,
        ):
            for key, value in said.items():
                kind = "string_param" if isinstance(value, str) else "int64_param"
                setattr(tensor.parameters[key], kind, value)
        with grpc.insecure_channel(server.grpc) as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            for _ in range(3):
                with pytest.raises(grpc.RpcError, match=f"expected {LARGE} bytes"):
                    infer(message.SerializeToString(), timeout=30)
    assert objects.path("out-small").read_bytes() == bytes(LARGE + 32)


def test_client_that_cuts_its_object_short_meanwhile_hurts_nobody_else(
    server: ServerProcess, objects: Objects
) -> None:
    workers = [worker.pid for worker in server.workers()]
    bad, doubled = large(server, objects, "bad", 99, (2, WIDE))
    clients = [large(server, objects, str(n), n, (2, WIDE)) for n in range(32)]
    path = objects.path("in-bad")
    kept = path.read_bytes()
    done = threading.Event()
    outcomes: collections.Counter[int] = collections.Counter()

    def cut() -> None:
        while not done.is_set():
            with path.open("r+b") as file:
                file.truncate(4096)
                file.truncate(LARGE + 16)
                file.write(kept)

    def ask_badly() -> None:
        while not done.is_set():
            status, found = server.post(WIDE_INFER, bad)
            outcomes[status] += 1
            if status != 200:
                assert status == 400, found
                assert "bytes in the object" in found["error"]

    def ask(number: int) -> None:
        asked, right = clients[number]
        for _ in range(12):
            objects.path(f"out-{number}").write_bytes(bytes(LARGE + 32))
            status, found = server.post(WIDE_INFER, asked)
            assert status == 200, found
            assert objects.path(f"out-{number}").read_bytes()[:LARGE] == right

    with ThreadPoolExecutor(len(clients) + 4) as threads:
        spoiling = [threads.submit(job) for job in (cut, ask_badly, ask_badly, ask_badly)]
        try:
            list(threads.map(ask, range(len(clients))))
        finally:
            done.set()
        for job in spoiling:
            job.result(timeout=30)
    assert outcomes[400], "no object was cut short in time"
    assert server.post(WIDE_INFER, bad)[0] == 200
    assert objects.path("out-bad").read_bytes()[:LARGE] == doubled
    assert [worker.pid for worker in server.workers()] == workers


def test_one_request_reads_no_more_than_its_limit(server: ServerProcess, objects: Objects) -> None:
    size = 5 << 20
    assert register(server, "in", objects.make("in", bytes(size)), size) == (200, {})
    status, found = server.post(INFER, body(size // 16, places("in", size)))
    assert status == 413
    assert "at most 4194304 bytes" in found["error"]


@pytest.mark.parametrize("way", ["lane", "ordinary"])
def test_object_that_was_cut_short_is_an_error_and_no_end_of_the_server(
    server: ServerProcess, objects: Objects, way: str
) -> None:
    key, size = objects.make("in", ROWS.tobytes()), ROWS.nbytes
    assert register(server, "in", key, size) == (200, {})
    assert register(server, "out", objects.make("out", bytes(size)), size) == (200, {})
    padding = "" if way == "lane" else "x" * 100_000
    asked = {**body(3, places("in", size), places("out", size)), "id": padding}
    assert server.post(INFER, asked)[0] == 200
    for word in ("out", "in"):
        os.truncate(objects.path(word), 20)
        status, found = server.post(INFER, asked)
        assert status == 400
        assert f"region '{word}'" in found["error"]
        assert "20 bytes in the object" in found["error"]
        assert objects.path(word).stat().st_size == 20
    assert server.get("/v2/health/live")[0] == 200


def test_region_outlives_its_name_and_an_unregistered_one_can_be_registered_anew(
    server: ServerProcess, objects: Objects
) -> None:
    size = ROWS.nbytes
    register(server, "in", objects.make("in", ROWS.tobytes()), size)
    objects.path("in").unlink()
    assert server.post(INFER, body(3, places("in", size)))[0] == 200
    key = objects.make("in", (3 * ROWS).tobytes())
    assert server.post(f"{SYSTEM}/region/in/unregister", {})[0] == 200
    assert server.post(f"{SYSTEM}/region/in/unregister", {})[0] == 200
    assert register(server, "in", key, size)[0] == 200
    _, found = server.post(INFER, body(3, places("in", size)))
    assert found["outputs"][0]["data"] == (6 * ROWS).ravel().tolist()


def test_only_plain_objects_of_the_server_s_user_are_opened(
    server: ServerProcess, objects: Objects, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(bytes(64))
    objects.path("link").symlink_to(tmp_path / "file")
    os.mkfifo(objects.path("pipe"))
    objects.path("folder").mkdir()
    missing = register(server, "r", objects.name("nothing"), 16)
    assert missing[0] == 404
    kinds = ["link", "pipe", "folder"]
    if os.geteuid() == 0:
        objects.make("foreign", bytes(64))
        os.chown(objects.path("foreign"), 12345, 12345)
        kinds.append("foreign")
    for kind in kinds:
        status, found = register(server, "r", objects.name(kind), 16)
        told = found["error"].replace(f"-{kind}'", "-nothing'")
        assert (status, told) == (404, missing[1]["error"])
    assert server.get(f"{SYSTEM}/status") == (200, [])


@pytest.mark.parametrize(
    "key",
    ["", "/", "//x", "..", "/..", ".", "a/b", "/a/b", "../etc/passwd", "/proc/self/mem", "a\0b",
     "a\nb", "x" * 256, "é" * 128],
)  # fmt: skip
def test_key_that_is_no_plain_name_is_refused(server: ServerProcess, key: str) -> None:
    status, found = register(server, "r", key, 16)
    assert status == 400
    assert "is not the name of a shared memory object" in found["error"]


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"byte_size": 16}, "'key'"),
        ({"key": 5, "byte_size": 16}, "'key'"),
        ({"key": "k"}, "'byte_size'"),
        ({"key": "k", "byte_size": 0}, "'byte_size'"),
        ({"key": "k", "byte_size": -1}, "'byte_size'"),
        ({"key": "k", "byte_size": 2**63}, "'byte_size'"),
        ({"key": "k", "byte_size": 1.5}, "'byte_size'"),
        ({"key": "k", "byte_size": True}, "'byte_size'"),
        ({"key": "k", "byte_size": 16, "offset": -1}, "'offset'"),
        ({"key": "k", "byte_size": 16, "offset": "0"}, "'offset'"),
        ([], "object"),
    ],
)
def test_registration_that_cannot_be_read_is_refused(
    server: ServerProcess, asked: Any, word: str
) -> None:
    status, found = server.post(f"{SYSTEM}/region/r/register", asked)
    assert status == 400
    assert word in found["error"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"shared_memory_region": "in"}, ("shared_memory_byte_size",)),
        ({"shared_memory_byte_size": 48}, ("shared_memory_region",)),
        ({**places("in", 48), "shared_memory_colour": 1}, ("shared_memory_colour",)),
        (places("in", -48), ("shared_memory_byte_size",)),
        (places("in", 2**70), ("shared_memory_byte_size",)),
        (places("in", 48, shared_memory_offset=-16), ("shared_memory_offset",)),
        (places("in", 48, shared_memory_offset=2**63 - 1), ("9223372036854775807", "region 'in'")),
        (places("in", 49), ("49 bytes", "48 bytes in the region")),
        (places("in", 48, binary_data_size=48), ("beside",)),
        ({"shared_memory_region": 5, "shared_memory_byte_size": 48}, ("shared_memory_region",)),
    ],
)
def test_place_of_a_tensor_that_cannot_be_is_refused(
    server: ServerProcess, objects: Objects, parameters: Any, words: tuple[str, ...]
) -> None:
    register(server, "in", objects.make("in", ROWS.tobytes()), 48)
    status, found = server.post(INFER, body(3, parameters))
    assert status == 400
    assert [word for word in words if word not in found["error"]] == []


@pytest.mark.parametrize("header", ["Origin", "X-Forwarded-For", "Forwarded", "Via"])
def test_shared_memory_is_not_for_web_pages_and_those_behind_a_proxy(
    server: ServerProcess, objects: Objects, header: str
) -> None:
    register(server, "in", objects.make("in", ROWS.tobytes()), 48)
    for method, path, asked in (
        ("POST", f"{SYSTEM}/region/r/register", {"key": objects.name("in"), "byte_size": 48}),
        ("GET", f"{SYSTEM}/status", None),
        ("POST", f"{SYSTEM}/unregister", {}),
        ("POST", INFER, body(3, places("in", 48))),
    ):
        status, found = call(method, server.base + path, asked, {header: "http://a"})
        assert (status, "own machine" in found["error"]) == (401, True)
    assert len(server.get(f"{SYSTEM}/status")[1]) == 1


def test_routes_are_documented_where_they_are_offered(server: ServerProcess) -> None:
    paths = server.get("/openapi.json")[1]["paths"]
    assert sorted(path for path in paths if "shared" in path) == [
        f"{SYSTEM}/region/{{name}}/register",
        f"{SYSTEM}/region/{{name}}/status",
        f"{SYSTEM}/region/{{name}}/unregister",
        f"{SYSTEM}/status",
        f"{SYSTEM}/unregister",
    ]


def test_shared_memory_is_off_unless_asked_for(
    models: Path, tmp_path: Path, objects: Objects
) -> None:
    key = objects.make("in", ROWS.tobytes())
    with serving(models, tmp_path) as off:
        for status, found in (
            off.get(f"{SYSTEM}/status"),
            off.get(f"{SYSTEM}/region/in/status"),
            register(off, "in", key, 48),
            off.post(f"{SYSTEM}/unregister", {}),
            off.post(INFER, body(3, places("in", 48))),
        ):
            assert (status, "--client-shared-memory" in found["error"]) == (400, True)
        assert "system_shared_memory" not in off.get("/v2")[1]["extensions"]
        assert SYSTEM not in json.dumps(off.get("/openapi.json")[1])


@pytest.fixture(params=["server", "grpcio"])
def channel(request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(request.getfixturevalue(request.param).grpc) as opened:
        yield opened


def ask(channel: grpc.Channel, message: pb.PredictRequest, **how: Any) -> pb.PredictReply:
    answer = channel.unary_unary(PREDICT)(message.SerializeToString(), timeout=30, **how)
    return pb.PredictReply.FromString(answer)


def place(key: str, size: int, at: int, length: int = 16) -> pb.ShmTensorData:
    return pb.ShmTensorData(memory_key=key, bytes_size=size, data_offset=at, data_size=length)


def rows_of(given: str, taken: str, length: int = 16) -> pb.PredictRequest:
    """Return a message of an instance for each row: all but the last lie in shared memory."""
    message = pb.PredictRequest(servable_spec=pb.ServableSpec(name="double", method_name="predict"))
    for index, row in enumerate(ROWS):
        instance = message.instances.add()
        instance.items["x"].CopyFrom(tensor_of(row))
        if index < 2:
            instance.items["x"].shm_data.CopyFrom(place(given, 48, 16 * index))
            instance.output_buffers["y"].CopyFrom(place(taken, 100, 20 + 16 * index, length))
    return message


def test_mindspore_messages_name_objects_of_their_own(
    channel: grpc.Channel, objects: Objects
) -> None:
    given, taken = objects.make("in", ROWS.tobytes()), objects.make("out", bytes(100))
    message = rows_of(given, taken)
    reply = ask(channel, message)
    assert not reply.error_msg
    for index in (0, 1):
        tensor = reply.instances[index].items["y"]
        assert tensor.WhichOneof("data_oneof") == "shm_data"
        assert tensor.shm_data == message.instances[index].output_buffers["y"]
        assert list(tensor.shape.dims) == [4]
    assert reply.instances[2].items["y"] == tensor_of(2 * ROWS[2])
    written = objects.path("out").read_bytes()
    assert written == bytes(20) + (2 * ROWS[:2]).tobytes() + bytes(48)


def test_mindspore_messages_are_told_what_is_wrong_with_an_object(
    channel: grpc.Channel, objects: Objects
) -> None:
    given, taken = objects.make("in", ROWS.tobytes()), objects.make("out", bytes(100))
    short = rows_of(given, taken)
    short.instances[1].items["x"].shm_data.data_offset = 40
    outside = rows_of(given, taken)
    outside.instances[0].output_buffers["y"].data_offset = 2**64 - 1
    lying = rows_of(given, taken)
    lying.instances[0].output_buffers["y"].bytes_size = 1 << 40
    path = rows_of(given, taken)
    path.instances[0].items["x"].shm_data.memory_key = "/../etc/passwd"
    for message, code, text in (
        (short, 2, "16 bytes at offset 40"),
        (outside, 2, "100 bytes in the region"),
        (lying, 2, "100 bytes in the object"),
        (path, 2, "not the name of a shared memory object"),
    ):
        reply = ask(channel, message)
        (error,) = reply.error_msg
        assert (error.error_code, text in error.error_msg.decode()) == (code, True), error
        assert not reply.instances


def test_mindspore_instance_whose_output_does_not_fit_fails_alone(
    channel: grpc.Channel, objects: Objects
) -> None:
    given, taken = objects.make("in", ROWS.tobytes()), objects.make("out", bytes(100))
    reply = ask(channel, rows_of(given, taken, length=12))
    assert [e.error_code for e in reply.error_msg] == [2, 2, 0]
    assert "does not fit its place" in reply.error_msg[0].error_msg.decode()
    assert reply.instances[2].items["y"] == tensor_of(2 * ROWS[2])
    assert objects.path("out").read_bytes() == bytes(100)


def test_mindspore_messages_through_a_proxy_open_nothing(
    channel: grpc.Channel, objects: Objects
) -> None:
    given, taken = objects.make("in", ROWS.tobytes()), objects.make("out", bytes(100))
    reply = ask(channel, rows_of(given, taken), metadata=(("x-forwarded-for", "10.0.0.1"),))
    (error,) = reply.error_msg
    assert (error.error_code, b"own machine" in error.error_msg) == (1, True)
    assert objects.path("out").read_bytes() == bytes(100)
