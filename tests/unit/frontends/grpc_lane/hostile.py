"""Sessions of right, wrong and damaged frames against connections of the lane, without sockets.

    python -m tests.unit.frontends.grpc_lane.hostile SEED FIRST COUNT

Plays the sessions FIRST to FIRST + COUNT, and prints how many frames they had. After each nothing
may be left of it, and all that the server sent must be sound: frames that a decoder reads, within
the windows it was given, on streams that are open. The first session that is not right ends it.
"""

from __future__ import annotations

import asyncio
import random
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import hpack
import numpy as np

from serving.errors import Overloaded, ServingError
from serving.frontends.grpc.calls import Inference
from serving.frontends.grpc.health import HealthService
from serving.frontends.grpc.lane import reader
from serving.frontends.grpc.lane.connection import Connection
from serving.frontends.grpc.lane.server import LaneServer
from serving.frontends.grpc.ms_service import MindSporeService
from serving.frontends.grpc.reflection import V1, ReflectionService
from serving.frontends.grpc.service import InferenceService
from serving.frontends.grpc.v1_service import V1Service
from serving.request import InferRequest, InferResponse, RowsListener
from serving.tensor import FP32, BatchAxes, Tensor
from tests.doubles.plane import StubClaim, StubPlane
from tests.unit.frontends.grpc.served import echo

from . import raw
from .raw import DATA, END_HEADERS, END_STREAM, HEADERS, Frame, frame
from .running import feed, infer_message

PATHS = (
    raw.LIVE, raw.INFER, raw.INFER, raw.INFER, raw.STREAM, raw.STREAM, "/serving.v1.Serving/List",
    "/mindspore.serving.proto.MSService/Predict", "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch", f"/{V1}/ServerReflectionInfo", "/no.Such/Method",
)  # fmt: skip
SIZES = (0, 1, 100, 65_535, 2**31 - 1)
LIMIT_BYTES, HELD_BYTES = 100_000, 300_000
TURNS = 30


class Wrong(Exception):
    """The server did what it must not."""


ROWS = replace(echo("m", FP32), batch=BatchAxes(True, "made up", (0,), (0,)))


class Together:
    """Callers who came as rows of one request: who of them waits, and whom to tell."""

    def __init__(self, request: InferRequest, unit: int, listener: RowsListener) -> None:
        self.request = request
        self.unit = unit
        self.listener = listener
        self.waits = set(range(request.inputs[0].shape[0] // unit))

    def some(self, rng: random.Random) -> range:
        """Return callers behind one another, all of whom wait."""
        first = last = rng.choice(sorted(self.waits))
        while last + 1 in self.waits and rng.random() < 0.7:
            last += 1
        return range(first, last + 1)


class ChancyPlane(StubPlane):
    """Answers at once, later, or with an error; knows every claim and what became of it."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(ROWS)
        self.rng = rng
        self.begin(rng)

    def begin(self, rng: random.Random) -> None:
        """Begin with the next session."""
        self.rng = rng
        self.claims: list[StubClaim] = []
        self.waiting: list[StubClaim] = []
        self.together: list[Together] = []
        self.released = self.answered_together = 0

    def take_rows(
        self, request: InferRequest, unit: int, listener: RowsListener
    ) -> Together | None:
        if self.rng.random() < 0.1:
            return None
        if self.rng.random() < 0.1:
            raise Overloaded("full", retry_after_s=1.0)
        self.together.append(Together(request, unit, listener))
        return self.together[-1]

    def abandon_row(self, claim: Together, caller: int) -> None:
        claim.waits.remove(caller)

    def claim(self, request: Any) -> StubClaim:
        if self.rng.random() < 0.1:
            raise Overloaded("full", retry_after_s=1.0)
        claim = super().claim(request)
        self.claims.append(claim)
        return claim

    def commit(self, claim: StubClaim) -> None:
        if self.rng.random() < 0.5:
            self.waiting.append(claim)
        else:
            self._answer(claim)

    def answer_some(self, share: float) -> None:
        waiting, self.waiting = self.waiting, []
        for claim in waiting:
            if claim.answer.done():
                continue
            if self.rng.random() < share:
                self._answer(claim)
            else:
                self.waiting.append(claim)
        for claim in self.together:
            while claim.waits and self.rng.random() < share:
                self._tell(claim)

    def _tell(self, claim: Together) -> None:
        told = claim.some(self.rng)
        claim.waits.difference_update(told)
        if self.rng.random() < 0.1:
            claim.listener(told.start, len(told), ServingError("no", code="no"))
            return
        (whole,) = claim.request.inputs
        assert whole.array is not None
        rows = whole.array[told.start * claim.unit : told.stop * claim.unit]
        outputs = (Tensor(whole.name, whole.dtype, rows.shape, rows),)
        self.answered_together += 1
        answer = InferResponse("m", ROWS.version, "", outputs, self._count_release)
        claim.listener(told.start, len(told), answer)

    def _answer(self, claim: StubClaim) -> None:
        if self.rng.random() < 0.1:
            claim.answer.set_exception(ServingError("no", code="no"))
        elif self.rng.random() < 0.05:
            claim.answer.cancel()
        else:
            super().commit(claim)

    def settled(self) -> bool:
        """Whether every claim was abandoned, failed, or answered and released."""
        answers = [claim.answer for claim in self.claims]
        if not all(answer.done() for answer in answers) or any(c.waits for c in self.together):
            return False
        good = [a for a in answers if not a.cancelled() and a.exception() is None]
        return self.released == len(good) + self.answered_together


class Wire:
    """Stands for the transport; holds what the server says against what it may say."""

    def __init__(self) -> None:
        self.closing = self.finished = False
        self.reading = True
        self.unsent = 0
        self.buffer = b""
        self.decoder = hpack.Decoder()
        self.window = 65_535
        self.initial = 65_535
        self.windows: dict[int, int] = {}
        self.largest_frame = 16_384
        self.opened: set[int] = set()
        self.anything = False
        self.wrong: Exception | None = None
        self.ended: set[int] = set()
        self.sent: dict[int, int] = {}

    def get_extra_info(self, name: str) -> Any:
        return self if name == "socket" else None

    def setsockopt(self, *_: Any) -> None: ...

    def set_write_buffer_limits(self, high: int) -> None: ...

    def set_protocol(self, _protocol: Any) -> None: ...

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.finished = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def write(self, data: bytes) -> None:
        if self.finished:
            self.wrong = self.wrong or Wrong("a write behind the end")
        if data.startswith(b"HTTP/1.1"):
            return
        self.buffer += data
        while len(self.buffer) >= 9:
            high, low, kind, flags, stream = struct.unpack_from(">HBBBL", self.buffer)
            length = high << 8 | low
            if len(self.buffer) < 9 + length:
                raise Wrong("a write ends within a frame")
            try:
                self._check(Frame(kind, flags, stream, self.buffer[9 : 9 + length]))
            except Exception as error:  # the event loop would only log it
                self.wrong = self.wrong or error
            self.buffer = self.buffer[9 + length :]

    def _check(self, found: Frame) -> None:
        stream = found.stream
        if len(found.payload) > self.largest_frame:
            raise Wrong(f"a frame of {len(found.payload)} bytes")
        if found.kind in (DATA, HEADERS):
            if stream in self.ended or not (self.anything or stream in self.opened):
                raise Wrong(f"{found.kind} on stream {stream}, which is not open")
            if found.flags & END_STREAM:
                self.ended.add(stream)
        if found.kind == HEADERS:
            fields = dict(self.decoder.decode(found.payload))
            if not {":status", "grpc-status"} & fields.keys():
                raise Wrong(f"a block that says nothing: {fields}")
        if found.kind == DATA:
            size = len(found.payload)
            self.window -= size
            self.sent[stream] = self.sent.get(stream, 0) + size
            if self.window < 0 or self.sent[stream] > self.initial + self.windows.get(stream, 0):
                raise Wrong("more data than the windows let through")
        if found.kind == raw.RST_STREAM:
            self.ended.add(stream)


class Session:
    """One connection's worth of frames, made up as it goes."""

    def __init__(self, rng: random.Random, wire: Wire) -> None:
        self.rng = rng
        self.wire = wire
        self.encoder = hpack.Encoder()
        self.next = 1
        self._ahead = b""
        self.streams: list[int] = []
        self.polite = rng.random() < 0.5
        shape = rng.choice([6, (1, 6), (1, 6), (2, 6), (1, 3000)])
        self.message = raw.message(infer_message(np.ones(shape, np.float32)))

    def step(self) -> bytes:
        """Return the next frames."""
        rng = self.rng
        kinds = (
            (self._call, 25), (self._crowd, 6), (self._open, 10), (self._data, 25),
            (self._reset, 8), (self._widen, 10), (self._settings, 4), (self._small, 6),
            (self._pieces, 4), (self._end, 2),
            (self._noise, 0 if self.polite else 2), (self._damaged, 0 if self.polite else 2),
        )  # fmt: skip
        (make,) = rng.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])
        self._ahead = b""
        made = make()
        return self._ahead + made

    def _fields(self) -> raw.Fields:
        rng = self.rng
        more: raw.Fields = []
        if rng.random() < 0.3:
            more.append(("grpc-timeout", rng.choice(["1n", "5m", "1S", "1H", "x"])))
        if rng.random() < 0.2:
            more.append(("grpc-encoding", rng.choice(["gzip", "identity", "deflate", "br"])))
        if rng.random() < 0.3:
            more.append((rng.choice(["x-a", "x-request-id"]), "v" * rng.choice([1, 50, 3000])))
        if rng.random() < 0.05:
            more.append(rng.choice([("Bad", "x"), ("x-bin", "!"), (":late", "x"), ("te", "x")]))
        if rng.random() < 0.05:
            self.encoder.header_table_size = rng.choice([0, 64, 4096])
        return [*raw.fields(rng.choice(PATHS)), *more]

    def _block(self) -> bytes:
        block = bytes(self.encoder.encode(self._fields()))
        return block if self.polite or self.rng.random() < 0.99 else self.rng.randbytes(20)

    def _new(self) -> int:
        stream, self.next = self.next, self.next + 2 * self.rng.choice([1, 1, 1, 2])
        self.streams.append(stream)
        self.wire.opened.add(stream)
        return stream

    def _any(self) -> int:
        if not self.streams:
            return self.next if not self.polite else self._new_open()
        if not self.polite and self.rng.random() < 0.01:
            return self.rng.choice([0, 2, self.next, 2**31 - 1])
        return self.rng.choice(self.streams[-6:])

    def _new_open(self) -> int:
        self._ahead = frame(HEADERS, END_HEADERS, self._new(), self._block())
        return self.streams[-1]

    def _body(self) -> bytes:
        rng = self.rng
        kind = rng.random()
        if kind < 0.6:
            return self.message * rng.choice([1, 1, 1, 3])  # more than one for a stream
        if kind < 0.8:
            return raw.EMPTY * rng.choice([1, 1, 2, 5])
        return rng.choice([b"", b"\0\0", b"\1\0\0\0\3abc", b"\0\xff\xff\xff\xff", rng.randbytes(9)])

    def _call(self) -> bytes:
        stream = self._new()
        return frame(HEADERS, END_HEADERS, stream, self._block()) + self._frames(stream, True)

    def _crowd(self) -> bytes:
        """Calls that may go together."""
        calls = []
        for _ in range(self.rng.choice([2, 3, 8])):
            stream, block = self._new(), bytes(self.encoder.encode(raw.fields(raw.INFER)))
            calls.append(frame(HEADERS, END_HEADERS, stream, block))
            calls.append(frame(DATA, END_STREAM, stream, self.message))
        return b"".join(calls)

    def _open(self) -> bytes:
        flags = END_HEADERS | self.rng.choice([0, 0, END_STREAM])
        return frame(HEADERS, flags, self._new(), self._block())

    def _data(self) -> bytes:
        return self._frames(self._any(), self.rng.random() < 0.5)

    def _frames(self, stream: int, end: bool) -> bytes:
        body, rng = self._body(), self.rng
        size = rng.choice([1 << 14, 1 << 14, 7, 1000])
        parts = [body[at : at + size] for at in range(0, min(len(body), 20 * size), size)] or [b""]
        made = []
        for index, part in enumerate(parts):
            flags = END_STREAM if end and index == len(parts) - 1 else 0
            if rng.random() < 0.1 and len(part) < 1 << 13:
                pad = rng.choice([0, 1, 255])
                part, flags = bytes([pad]) + part + bytes(pad), flags | raw.PADDED
            made.append(frame(DATA, flags, stream, part))
        return b"".join(made)

    def _reset(self) -> bytes:
        return frame(raw.RST_STREAM, 0, self._any(), struct.pack(">L", self.rng.choice([0, 8, 99])))

    def _widen(self) -> bytes:
        rare = 0 if self.polite else 1
        size = self.rng.choices(SIZES, [rare, 20, 40, 40, rare])[0]
        stream = 0 if self.rng.random() < 0.3 else self._any()
        if stream:
            self.wire.windows[stream] = self.wire.windows.get(stream, 0) + size
        else:
            self.wire.window += size
        return raw.window(stream, size)

    def _settings(self) -> bytes:
        rng = self.rng
        pairs = []
        for _ in range(rng.choice([0, 1, 1, 2])):
            pair = rng.choice([(4, 0), (4, 100), (4, 70_000), (5, 16_384), (5, 20_000), (1, 0),
                               (3, 5), (6, 99), (0x77, 1)])  # fmt: skip
            pairs.append(pair)
            if pair[0] == 4:
                self.wire.initial = max(self.wire.initial, pair[1])
            if pair[0] == 5:
                self.wire.largest_frame = max(self.wire.largest_frame, pair[1])
        return rng.choice([raw.settings(*pairs), frame(raw.SETTINGS, raw.ACK, 0)])

    def _small(self) -> bytes:
        rng = self.rng
        return rng.choice(
            [
                frame(raw.PING, rng.choice([0, 1]), 0, rng.choice([b"12345678", b"drained?"])),
                frame(raw.PRIORITY, 0, self._any() or 1, rng.randbytes(5)),
                frame(rng.randrange(10, 256), rng.randrange(256), self._any(), rng.randbytes(4)),
            ]
        )

    def _end(self) -> bytes:
        stream = self._any()
        trailers = self.encoder.encode([("x-after", "v" * self.rng.choice([1, 100]))])
        return frame(HEADERS, END_HEADERS | END_STREAM, stream, bytes(trailers))

    def _pieces(self) -> bytes:
        block, stream = self._block(), self._new()
        cuts = sorted(self.rng.randrange(len(block) + 1) for _ in range(self.rng.choice([1, 3])))
        parts = [block[a:b] for a, b in zip([0, *cuts], [*cuts, len(block)], strict=True)]
        made = [frame(HEADERS, self.rng.choice([0, END_STREAM]), stream, parts[0])]
        made += [frame(raw.CONTINUATION, 0, stream, part) for part in parts[1:-1]]
        return b"".join([*made, frame(raw.CONTINUATION, END_HEADERS, stream, parts[-1])])

    def _noise(self) -> bytes:
        rng = self.rng
        size = rng.choice([0, 4, 5, 8, 30])
        stream = rng.choice([0, self._any()])
        made = frame(rng.randrange(10), rng.randrange(256), stream, rng.randbytes(size))
        self._may_have_said(made)
        return made

    def _damaged(self) -> bytes:
        made = bytearray(self._call())
        for _ in range(self.rng.choice([1, 3])):
            made[self.rng.randrange(len(made))] = self.rng.randrange(256)
        self._may_have_said(made)
        return bytes(made[: self.rng.choice([len(made), self.rng.randrange(len(made)) + 1])])

    def _may_have_said(self, _made: bytes | bytearray) -> None:
        """What damage says cannot be known: hold the server to less from here on."""
        self.wire.window = self.wire.initial = 1 << 40
        self.wire.largest_frame = 1 << 24
        self.wire.anything = True


@dataclass
class Tally:
    """What came of the sessions.

    Whole frames read, claims of one and of several together, answers, connections cut short.
    """

    frames: int = 0
    claims: int = 0
    together: int = 0
    answers: int = 0
    cut: int = 0


class Arena:
    """The server that all sessions are played against."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.plane = ChancyPlane(random.Random())
        self.server = LaneServer(LIMIT_BYTES, HELD_BYTES, threads)
        inference = Inference(self.plane, threads)
        self.health = HealthService(self.plane)
        for each in (
            InferenceService(self.plane, inference),
            V1Service(self.plane, inference),
            MindSporeService(self.plane, inference),
            self.health,
            ReflectionService(("a.B",)),
        ):
            self.server.add(each.methods())
        self.inference = inference
        self.tally = Tally()

    async def play(self, rng: random.Random) -> None:
        """Play one session. Raises Wrong, or what the server does."""
        plane, wire = self.plane, Wire()
        # By the clock, a session would not go the same way twice.
        reader.TURN_S = rng.choice([-1.0, 1e9])
        plane.begin(rng)
        connection = self.server._connected()
        connection.connection_made(wire)
        session = Session(rng, wire)
        waiting = raw.PREFACE + raw.settings() if rng.random() < 0.98 else rng.randbytes(30)
        paused = False
        for _ in range(rng.choice([5, 40, 80])):
            if wire.closing or wire.finished:
                self.tally.cut += 1
                break
            waiting += session.step()
            if rng.random() < 0.6:
                waiting = self._deliver(connection, wire, waiting, rng)
            if rng.random() < 0.3:
                await asyncio.sleep(0)
            if rng.random() < 0.2:
                plane.answer_some(0.5)
            if rng.random() < 0.05:
                (connection.resume_writing if paused else connection.pause_writing)()
                paused = not paused
            self._meddle(connection, rng)
        self.tally.frames += connection._reader.progress
        self.tally.claims += len(plane.claims)
        self.tally.together += len(plane.together)
        self.tally.answers += plane.released
        await self._end(connection, wire)

    def _deliver(
        self, connection: Connection, wire: Wire, waiting: bytes, rng: random.Random
    ) -> bytes:
        """Hand over what waits, all or a part, in one read or several; return the rest."""
        cut = rng.choice([len(waiting), len(waiting), rng.randrange(len(waiting) + 1)])
        for end in (cut - cut // 2, cut // 2):
            if end and wire.reading and not wire.closing:
                feed(connection, waiting[:end])
                waiting = waiting[end:]
        return waiting

    def _meddle(self, connection: Connection, rng: random.Random) -> None:
        chance = rng.random()
        if chance < 0.003:
            connection.drain()
        elif chance < 0.006:
            connection.drained()
        elif chance < 0.008:
            connection.end_all()
        elif chance < 0.015:
            connection.sweep(time.monotonic() + rng.choice([0, 1000]))

    async def _end(self, connection: Connection, wire: Wire) -> None:
        shared, plane = self.server._shared, self.plane
        streams, out = connection._streams, connection._out  # which it lets go of at its end
        out.flush()
        wire.closing = True
        connection.connection_lost(None)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        plane.answer_some(1.0)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        left = {
            "streams": len(streams),
            "bytes of the budget": HELD_BYTES - shared.budget.left,
            "bytes of answers": HELD_BYTES - shared.unread.left,
            "tasks": len(shared.tasks),
            "deadlines": sum(map(len, shared.deadlines._slots.values())),
            "watchers": self.health._watchers,
            "running": self.inference.under_way,
            "claims": int(not plane.settled()),
            "backlog": out.backlog,
            "waiting": len(out._waiting),
            "connections": len(self.server._connections),
        }
        if wire.wrong is not None:
            raise wire.wrong
        if any(left.values()):
            raise Wrong(f"left behind: { {what: n for what, n in left.items() if n} }")


async def play(seed: str, first: int, count: int) -> Tally:
    """Play sessions; return what came of them. Raises Wrong with the session's number."""
    turn_s = reader.TURN_S
    with ThreadPoolExecutor(1) as threads:
        arena = Arena(threads)
        faults: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: faults.append(told))
        for number in range(first, first + count):
            try:
                await arena.play(random.Random(f"{seed}/{number}"))
                if faults:
                    raise Wrong(f"the event loop was told: {faults}")
            except Exception as error:
                raise Wrong(f"seed {seed}, session {number}: {error!r}") from error
        await arena.server.stop(None)
    reader.TURN_S = turn_s
    return arena.tally


def main(seed: str, first: int, count: int) -> None:
    print(f"{count} sessions are all right: {asyncio.run(play(seed, first, count))}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
