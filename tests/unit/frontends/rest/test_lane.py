"""What the lane takes and remembers, without a connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import orjson
import pytest

from serving.frontends.rest.lane import MAX_BODY_BYTES, Head, Lane, LaneCall
from serving.frontends.rest.wire import Reply
from serving.frontends.shared_memory.regions import Registry
from serving.tensor import BOOL, FP32
from tests.doubles.plane import StubPlane
from tests.shared_objects import shared_objects
from tests.unit.frontends.rest.served import describe_as, spec

BODY = json.dumps({"instances": [[1, 2]]}).encode()
LENGTH = (b"content-length", b"%d" % len(BODY))


@pytest.fixture
def pool() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as found:
        yield found


@pytest.fixture
def lane(pool: Executor) -> Lane:
    return Lane(StubPlane(describe_as((spec("x", FP32, "n", 2),))), pool, 1 << 20)


def plain(lane: Lane) -> Head:
    head = lane.head(b"/predict", [LENGTH], True)
    assert head is not None
    return head


def test_lane_remembers_no_long_url(lane: Lane) -> None:
    """A version may be as long as a head; of a thousand such the server would hold 100 MB."""
    for version, kept in ((b"1", True), (b"9" * 2000, False)):
        url = b"/v2/models/m/versions/%b/infer" % version
        heads = [lane.head(url, [LENGTH], True) for _ in range(2)]
        assert heads[0] is not None
        assert heads[1] is not None
        assert (heads[0].form is heads[1].form) is kept


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"content-length", b"")],
        [(b"content-length", b"+1")],
        [(b"content-length", b"%d" % (MAX_BODY_BYTES + 1))],
        [(b"content-length", b"9" * 30)],
        [LENGTH, (b"transfer-encoding", b"chunked")],
        [LENGTH, (b"content-encoding", b"gzip")],
        [LENGTH, (b"expect", b"100-continue")],
        [LENGTH, (b"upgrade", b"h2c")],
    ],
)
def test_lane_takes_no_head_that_is_not_plain(
    lane: Lane, fields: list[tuple[bytes, bytes]]
) -> None:
    assert lane.head(b"/predict", [LENGTH], True) is not None
    assert lane.head(b"/predict", fields, True) is None


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        (b"/predict", True),
        (b"/v2/models/m/infer", True),
        (b"/v2/models/%6d/versions/1/infer", True),
        (b"/predict?x", False),
        (b"/predict#x", False),
        (b"/predict/", False),
        (b"/v2/models/m/infer?x=/infer", False),
        (b"/v2/models/../infer", False),
        (b"/v2/models/m\xff/infer", False),
        (b"/v2/models/m", False),
        (b"http://host/predict", False),
    ],
)
def test_lane_takes_only_the_paths_of_inference_routes(lane: Lane, url: bytes, taken: bool) -> None:
    for _ in range(2):  # found, and remembered
        assert (lane.head(url, [LENGTH], True) is not None) is taken


def test_lane_takes_no_body_over_the_servers_limit(pool: Executor) -> None:
    small = Lane(StubPlane(), pool, len(BODY) - 1)
    assert small.head(b"/predict", [LENGTH], True) is None


@pytest.mark.parametrize(
    "text",
    [
        b"POST /predict HTTP/1.1\nhost: t\r\n\r\n" + BODY,
        b"POST /predict HTTP/1.1\r\nhost: t\r\r\n\r\n" + BODY,
        b"POST /predict HTTP/1.1\r\nhost: t\r\n\r\n" + BODY + b"\r\n",
        b"POST /predict HTTP/1.1\r\nhost: " + b"t" * 4096 + b"\r\n\r\n" + BODY,
    ],
)
def test_lane_remembers_no_head_whose_end_is_in_doubt(lane: Lane, text: bytes) -> None:
    lane.learn(text, plain(lane))
    assert lane.known(text) is None


def test_lane_remembers_heads_and_so_many(lane: Lane) -> None:
    head, texts = plain(lane), []
    for number in range(1500):
        texts.append(b"POST /predict HTTP/1.1\r\nx-n: %d\r\n\r\n" % number + BODY)
        lane.learn(texts[-1], head)
        assert lane.known(texts[-1]) == (head, BODY)
    assert lane.known(texts[0]) is None
    assert lane.known(texts[-1] + b"x") is None
    assert lane.known(texts[-1][:-1]) is None


async def test_lane_call_given_up_before_its_turn_claims_nothing(lane: Lane) -> None:
    replies: list[Any] = []
    call = LaneCall(lane, plain(lane), lambda _, reply: replies.append(reply))
    call.feed(BODY)
    call.abandon()
    call.run()
    assert isinstance(lane.plane, StubPlane)
    assert lane.plane.requests == replies == []


@pytest.mark.parametrize("cut", range(0, len(BODY), 5))
def test_lane_call_joins_the_pieces_of_a_body(lane: Lane, cut: int) -> None:
    bodies: list[bytes] = []

    class Form:
        def decode(self, body: bytes, *_: Any) -> Any:
            bodies.append(body)
            raise ZeroDivisionError

        def error(self, *_: Any) -> Reply:
            return Reply(b"", status=500)

    replies: list[Reply] = []
    head = plain(lane)._replace(form=Form())  # type: ignore[arg-type]
    call = LaneCall(lane, head, lambda _, reply: replies.append(reply))
    for piece in (BODY[:cut], BODY[cut : cut + 1], BODY[cut + 1 :]):
        call.feed(piece)
    call.run()
    assert bodies == [BODY]
    assert [reply.status for reply in replies] == [500]


async def test_lane_call_given_up_while_its_shared_memory_is_read_claims_nothing(
    pool: Executor,
) -> None:
    size = 2 << 20
    with shared_objects() as objects:
        known = Registry(size, size)
        await known.register("r", objects.make("a", bytes(size)), 0, size)
        plane = StubPlane(describe_as((spec("x", BOOL, "n", 2),)))  # whose bytes are looked at
        lane = Lane(plane, pool, 1 << 20, known)
        places = {"shared_memory_region": "r", "shared_memory_byte_size": size}
        given = {"name": "x", "datatype": "BOOL", "shape": [size // 2, 2], "parameters": places}
        body = orjson.dumps({"inputs": [given]})
        fields = [(b"content-length", b"%d" % len(body))]
        head = lane.head(b"/v2/models/m/infer", fields, True)
        assert head is not None
        replies: list[Reply] = []
        calls = [
            LaneCall(lane, head, lambda _, reply: replies.append(reply), ("127.0.0.1", 1))
            for _ in range(2)
        ]
        for call in calls:
            call.feed(body)
            call.run()
        calls[0].abandon()
        async with asyncio.timeout(10):
            while not replies:
                await asyncio.sleep(0.001)
        assert [reply.status for reply in replies] == [200]
        assert len(plane.requests) == 1
