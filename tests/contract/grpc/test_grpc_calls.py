"""What gRPC's own clients see is the same whichever engine answers them."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_reflection.v1alpha import reflection_pb2

from serving.errors import ExecutionFailed
from serving.frontends.grpc.reflection import V1
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.frontends.grpc.stubs import ms_service_pb2 as ms
from serving.frontends.shared_memory.regions import Registry
from serving.request import InferRequest
from serving.tensor import FP32, Tensor
from serving.v1 import ERROR_TRAILER
from serving.v1.stubs import serving_v1_pb2 as v1
from tests.contract.grpc.conftest import Serving
from tests.doubles.plane import StubClaim, StubPlane
from tests.unit.frontends.grpc.running import WAIT_S, channel, infer, unary, until
from tests.unit.frontends.grpc.served import echo, raw_request

ONES = np.ones((2, 3), np.float32)
INFER = "/inference.GRPCInferenceService/ModelInfer"


class HeldPlane(StubPlane):
    """Answers only when told to; keeps the claims."""

    def __init__(self) -> None:
        super().__init__(echo("m", FP32))
        self.claims: list[StubClaim] = []

    def commit(self, claim: StubClaim) -> None:
        self.claims.append(claim)

    def answer(self) -> None:
        claims, self.claims = self.claims, []
        for claim in claims:
            super().commit(claim)


def plane() -> StubPlane:
    return StubPlane(echo("m", FP32))


def request(array: Any = ONES) -> pb.ModelInferRequest:
    return raw_request("m", ("FP32", array))


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return failed.value


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_packed_requests_are_read(serving: Serving, compression: grpc.Compression) -> None:
    for size in (6, 200_000):
        array = np.arange(size, dtype=np.float32)
        async with serving(plane()) as front, channel(front.port) as opened:
            answer = await infer(opened, request(array), compression=compression)
        assert answer.raw_output_contents[0] == array.tobytes()


async def test_packed_requests_that_unpack_to_too_much_are_refused(serving: Serving) -> None:
    large = request(np.zeros(3 << 18, np.float32))
    used = plane()
    async with serving(used, max_request_mb=1) as front, channel(front.port) as opened:
        error = await failure(infer(opened, large, compression=grpc.Compression.Gzip))
        assert await infer(opened, request())
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == "Decompressed message larger than max"
    assert len(used.requests) == 1


async def test_messages_over_the_limit_are_refused_in_the_same_words(serving: Serving) -> None:
    large = request(np.zeros(1 << 18, np.float32))
    async with serving(plane(), max_request_mb=1) as front, channel(front.port) as opened:
        error = await failure(infer(opened, large))
    size = large.ByteSize()
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == f"SERVER: Received message larger than max ({size} vs. {1 << 20})"


@pytest.mark.parametrize("size", [4000, 4096, 16_384, 70_000, 5_000_000])
async def test_messages_of_any_size_come_and_go(serving: Serving, size: int) -> None:
    array = np.random.default_rng(size).random(size, np.float32)
    async with serving(plane()) as front, channel(front.port) as opened:
        answer = await infer(opened, request(array))
    assert answer.raw_output_contents[0] == array.tobytes()


async def test_many_calls_at_once_keep_their_answers_apart(serving: Serving) -> None:
    arrays = [np.full(1 + 97 * i, i, np.float32) for i in range(200)]
    async with serving(plane()) as front, channel(front.port) as opened:
        answers = await asyncio.gather(*(infer(opened, request(a)) for a in arrays))
    for array, answer in zip(arrays, answers, strict=True):
        assert answer.raw_output_contents[0] == array.tobytes()


async def test_calls_are_answered_as_they_end_and_not_as_they_began(serving: Serving) -> None:
    held = HeldPlane()
    async with serving(held) as front, channel(front.port) as opened:
        slow = infer(opened, request())
        await until(lambda: len(held.claims) == 1)
        assert (await unary(opened, "ServerLive", b"", pb.ServerLiveResponse)).live
        assert not slow.done()
        held.answer()
        assert await slow


async def test_metadata_comes_with_text_and_bytes(serving: Serving) -> None:
    used = plane()
    async with serving(used) as front, channel(front.port) as opened:
        extra = (("trace-bin", b"\0\xff"), ("x-request-id", "id with spaces, and commas"))
        answer = await infer(opened, request(), metadata=extra)
    assert answer.id == used.requests[0].id == "id with spaces, and commas"


@pytest.mark.parametrize("text", ["50 % of é and ✓\n\t~", "", "x" * 3000])
async def test_error_texts_arrive_as_they_are(serving: Serving, text: str) -> None:
    def fail(_request: InferRequest) -> tuple[Tensor, ...]:
        raise ExecutionFailed(text, code="because", where="inputs.x0")

    used = StubPlane(echo("m", FP32), model=fail)
    async with serving(used) as front, channel(front.port) as opened:
        error = await failure(infer(opened, request()))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == f"inputs.x0: {text}"
    trailers = dict(error.trailing_metadata())
    assert (trailers["error-code"], trailers["error-where"]) == ("because", "inputs.x0")
    assert used.errors == [("grpc", "because")]


async def test_errors_with_binary_trailers_arrive_whole(serving: Serving) -> None:
    def fail(_request: InferRequest) -> tuple[Tensor, ...]:
        raise ExecutionFailed("no é", code="because", fix="do otherwise")

    used = StubPlane(echo("m", FP32), model=fail)
    async with serving(used) as front, channel(front.port) as opened:
        error = await failure(opened.unary_unary("/serving.v1.Serving/Predict")(predict()))
    told = dict(error.trailing_metadata())[ERROR_TRAILER]
    assert isinstance(told, bytes)
    assert v1.Error.FromString(told).fix == "do otherwise"


def predict() -> bytes:
    tensor = v1.Tensor(name="x0", dtype="FP32", shape=ONES.shape, data=ONES.tobytes())
    return bytes(v1.PredictRequest(servable="m", inputs=[tensor]).SerializeToString())


async def test_serving_v1_is_answered(serving: Serving) -> None:
    async with serving(plane()) as front, channel(front.port) as opened:
        answer = await opened.unary_unary("/serving.v1.Serving/Predict")(predict())
        listed = await opened.unary_unary("/serving.v1.Serving/List")(b"")
    assert v1.PredictResponse.FromString(answer).outputs[0].data == ONES.tobytes()
    assert v1.ListResponse.FromString(listed).versions


async def test_mindspore_clients_are_answered_in_their_form(serving: Serving) -> None:
    known = ms.PredictRequest(servable_spec={"name": "m", "method_name": "predict"})
    tensor = known.instances.add().items["x0"]
    tensor.dtype, tensor.data = ms.MS_FLOAT32, ONES.tobytes()
    tensor.shape.dims.extend(ONES.shape)
    unknown = ms.PredictRequest(servable_spec={"name": "n", "method_name": "predict"})
    async with serving(plane()) as front, channel(front.port) as opened:
        call = opened.unary_unary("/mindspore.serving.proto.MSService/Predict")
        good, bad, none = [
            ms.PredictReply.FromString(await call(m.SerializeToString()))
            for m in (known, unknown, ms.PredictRequest())
        ]
        error = await failure(call(b"\xff"))
    assert good.instances[0].items["x0"].data == ONES.tobytes()
    assert [len(reply.error_msg) for reply in (good, bad, none)] == [0, 1, 1]
    assert error.code() is grpc.StatusCode.INTERNAL


async def test_a_cancelled_call_is_withdrawn(serving: Serving) -> None:
    held = HeldPlane()
    async with serving(held) as front, channel(front.port) as opened:
        calls = [infer(opened, request()) for _ in range(20)]
        await until(lambda: len(held.claims) == 20)
        for call in calls[:10]:
            call.cancel()
        await until(lambda: held.abandoned == 10)
        held.claims = [claim for claim in held.claims if not claim.answer.done()]
        held.answer()
        for call in calls[10:]:
            assert await call
    assert (held.abandoned, held.released) == (10, 10)


async def test_calls_of_a_client_that_goes_are_withdrawn(serving: Serving) -> None:
    held = HeldPlane()
    async with serving(held) as front:
        async with channel(front.port) as opened:
            calls = [infer(opened, request()) for _ in range(5)]
            await until(lambda: len(held.claims) == 5)
        await until(lambda: held.abandoned == 5)
        for call in calls:
            with pytest.raises(asyncio.CancelledError):
                await call


async def test_an_answer_that_crosses_the_cancellation_gives_its_rows_back(
    serving: Serving,
) -> None:
    held = HeldPlane()
    async with serving(held) as front, channel(front.port) as opened:
        for _ in range(30):
            call = infer(opened, request())
            await until(lambda: len(held.claims) == 1)
            call.cancel()
            held.answer() if not held.claims[0].answer.done() else held.claims.clear()
        await until(lambda: held.released + held.abandoned >= 30)
        assert (await unary(opened, "ServerLive", b"", pb.ServerLiveResponse)).live


async def test_a_deadline_ends_a_call_and_leaves_others(serving: Serving) -> None:
    held = HeldPlane()
    async with serving(held) as front, channel(front.port) as opened:
        patient = infer(opened, request())
        await until(lambda: len(held.claims) == 1)
        error = await failure(infer(opened, request(), timeout=0.5))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: held.abandoned == 1)
        held.claims = [claim for claim in held.claims if not claim.answer.done()]
        held.answer()
        assert await patient


async def test_deadlines_reach_the_plane_to_the_tenth(serving: Serving) -> None:
    used = plane()
    async with serving(used) as front, channel(front.port) as opened:
        for timeout in (1.5, 90.0, 7200.0):
            before = time.monotonic()
            await infer(opened, request(), timeout=timeout)
            deadline = used.requests[-1].deadline
            assert deadline is not None
            assert before + timeout - 0.1 - timeout / 100 < deadline < before + timeout * 1.01 + 1


async def test_methods_that_are_not_there_are_told_so(serving: Serving) -> None:
    async with serving(plane()) as front, channel(front.port) as opened:
        for path in ("/inference.GRPCInferenceService/Nope", "/no.Service/At", "/x"):
            error = await failure(opened.unary_unary(path)(b""))
            assert error.code() is grpc.StatusCode.UNIMPLEMENTED
            assert error.details() == "Method not found!"


@pytest.mark.parametrize(
    ("name", "word"), [("TraceSetting", "/metrics"), ("LogSettings", "--log-level")]
)
async def test_extensions_that_are_not_offered_say_what_to_do(
    serving: Serving, name: str, word: str
) -> None:
    async with serving(plane()) as front, channel(front.port) as opened:
        error = await failure(opened.unary_unary(f"/inference.GRPCInferenceService/{name}")(b""))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert word in str(error.details())


async def test_streams_of_questions_are_answered_one_by_one(serving: Serving) -> None:
    async with serving(plane()) as front, channel(front.port) as opened:
        stream = opened.stream_stream(
            f"/{V1}/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )()
        for _ in range(50):
            await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            answer = await asyncio.wait_for(stream.read(), WAIT_S)
            assert answer.list_services_response.service
        await stream.done_writing()
        assert await asyncio.wait_for(stream.read(), WAIT_S) is grpc.aio.EOF
        assert await stream.code() is grpc.StatusCode.OK


async def test_blocking_clients_are_answered_too(serving: Serving) -> None:
    async with serving(plane()) as front:

        def ask() -> list[bytes]:
            with grpc.insecure_channel(f"127.0.0.1:{front.port}") as opened:
                call = opened.unary_unary(INFER)
                waiting = [call.future(request().SerializeToString()) for _ in range(64)]
                return [answer.result(WAIT_S) for answer in waiting]

        answers = await asyncio.to_thread(ask)
    expected = pb.ModelInferResponse.FromString(answers[0])
    assert expected.raw_output_contents[0] == ONES.tobytes()
    assert set(answers) == {answers[0]}


async def test_clients_may_ask_whether_the_server_is_there(serving: Serving) -> None:
    options = [
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.keepalive_timeout_ms", 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    async with (
        serving(plane()) as front,
        grpc.aio.insecure_channel(f"127.0.0.1:{front.port}", options=options) as opened,
    ):
        assert await infer(opened, request())
        await asyncio.sleep(2.5)
        assert opened.get_state() is grpc.ChannelConnectivity.READY
        assert await infer(opened, request())


async def test_a_client_with_a_narrow_window_gets_its_answers(serving: Serving) -> None:
    options = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.max_frame_size", 16384)]
    array = np.random.default_rng(1).random(400_000, np.float32)
    async with (
        serving(plane()) as front,
        grpc.aio.insecure_channel(f"127.0.0.1:{front.port}", options=options) as opened,
    ):
        answers = await asyncio.gather(*(infer(opened, request(array)) for _ in range(6)))
    assert all(answer.raw_output_contents[0] == array.tobytes() for answer in answers)


async def test_clients_on_a_unix_socket_are_answered_as_those_on_this_machine(
    serving: Serving, tmp_path: Path
) -> None:
    path = tmp_path / "here.sock"
    array = np.random.default_rng(2).random(200_000, np.float32)
    regions = Registry(1 << 20, 1 << 20)
    async with serving(plane(), unix=str(path), regions=regions) as front:
        async with grpc.aio.insecure_channel(f"unix:{path}") as opened:
            answer = await infer(opened, request(array))
            assert answer.raw_output_contents[0] == array.tobytes()
            shared = "/inference.GRPCInferenceService/SystemSharedMemoryStatus"
            assert await opened.unary_unary(shared)(b"") == b""
        await front.drain(WAIT_S)
    assert not path.exists()


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return self_signed(tmp_path)


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for localhost and its key."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    places = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(places), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_file, key_file


async def test_tls_clients_are_answered_and_plain_ones_are_not(
    serving: Serving, files: tuple[Path, Path]
) -> None:
    certificate, key = files
    array = np.random.default_rng(1).random(300_000, np.float32)
    async with serving(plane(), tls_cert=certificate, tls_key=key) as front:
        credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{front.port}", credentials) as opened:
            assert await infer(opened, request())
            answer = await infer(opened, request(array))
            assert answer.raw_output_contents[0] == array.tobytes()
        async with channel(front.port) as plain:
            error = await failure(infer(plain, request()))
            assert error.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("offered", [["h2"], ["http/1.1", "h2"], ["http/1.1"], []])
async def test_tls_clients_must_agree_to_http_2(
    serving: Serving, files: tuple[Path, Path], offered: list[str]
) -> None:
    certificate, key = files
    context = ssl.create_default_context(cafile=str(certificate))
    if offered:
        context.set_alpn_protocols(offered)
    async with serving(plane(), tls_cert=certificate, tls_key=key) as front:
        try:
            reader, writer = await asyncio.open_connection("localhost", front.port, ssl=context)
            told = writer.get_extra_info("ssl_object").selected_alpn_protocol()
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            async with asyncio.timeout(WAIT_S):
                greeting = await reader.read(9)
            writer.transport.abort()
        except (ConnectionError, ssl.SSLError):
            told, greeting = None, b""
    assert (told == "h2") is ("h2" in offered)
    assert bool(greeting) is ("h2" in offered)
