"""The streams of one connection: opening, filling, running, ending them.

A stream whose message is whole is run at once, unless answers that the client does not read have
piled up: then it is parked until they have gone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from serving.frontends.grpc.lane import answers, frames
from serving.frontends.grpc.lane.call import Call
from serving.frontends.grpc.lane.faults import Code, ConnectionFault, StreamFault
from serving.frontends.grpc.lane.frames import Buffer
from serving.frontends.grpc.lane.header_reader import HeaderReader
from serving.frontends.grpc.lane.intake import Intake
from serving.frontends.grpc.lane.messages import (
    PREFIX_BYTES,
    BadMessage,
    Packed,
    check_encoding,
)
from serving.frontends.grpc.lane.metadata import Value
from serving.frontends.grpc.lane.outgoing import BACKLOG_BYTES, Outgoing
from serving.frontends.grpc.lane.parked import Parked
from serving.frontends.grpc.lane.request_head import (
    IDENTITY,
    Malformed,
    WrongCall,
    WrongHttp,
    check_trailers,
)
from serving.frontends.grpc.lane.settings import MAX_STREAMS
from serving.frontends.grpc.lane.shared import Shared
from serving.frontends.grpc.lane.stream import Stream
from serving.frontends.grpc.status_code import StatusCode

SILENCE_S = 60.0
"""How long a client may leave a message unfinished, or an answer unread, before its call ends."""

_REMEMBERED = 256


class Streams:
    """Owned by a connection; ``on_empty`` is called when the last stream has gone.

    ``shared`` is what all connections share.
    """

    def __init__(self, shared: Shared, out: Outgoing, on_empty: Callable[[], None]) -> None:
        self.shared = shared
        self._out = out
        self._on_empty = on_empty
        self._reader = HeaderReader(shared.shut_out)
        self._intake = Intake(shared.limit_bytes, shared.budget, out)
        self._live: dict[int, Stream] = {}
        # Those that ended lately: negative where we ended them and the client may not know yet.
        self._closed: deque[int] = deque(maxlen=_REMEMBERED)
        self._parked = Parked(out)
        self.last_id = 0
        self.completed = 0
        self.shut = False
        """New streams are ignored: the client was told that they would be."""

    def __len__(self) -> int:
        return len(self._live)

    @property
    def peer_name(self) -> object:
        """The address that the socket has of the client; None once it has gone."""
        return self._out.peer_name

    # -- what the client sends -------------------------------------------------------------------

    def headers(self, stream_id: int, ended: bool, block: bytes) -> None:
        """Take a header block: of a new call, or the end of one. Raises both kinds of fault."""
        stream = self._live.get(stream_id)
        if stream is not None or stream_id <= self.last_id:
            self._later_headers(stream_id, stream, ended, block)
            return
        if not stream_id & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a client's stream with an even number")
        self.last_id = stream_id
        try:
            head = self._reader.request(block)
        except Malformed:
            raise StreamFault(stream_id, Code.PROTOCOL_ERROR) from None
        if self.shut:
            return
        if len(self._live) >= MAX_STREAMS:
            raise StreamFault(stream_id, Code.REFUSED_STREAM)
        stream = Stream(self, stream_id, head, self._out.peer.initial_window)
        stream.heard_all = ended
        self._live[stream_id] = stream
        if ended and head.length:
            raise StreamFault(stream_id, Code.PROTOCOL_ERROR)
        if head.timeout_s is not None:
            stream.deadline = time.monotonic() + head.timeout_s
            self.shared.deadlines.add(stream)
        self._route(stream)

    def whole_call(self, stream_id: int, block: bytes, data: bytes, span: tuple[int, int]) -> bool:
        """Begin a call whose header block and only message came together.

        ``span`` is where the message and its prefix stand in ``data``. False, having done nothing,
        for all that are not as most calls are.
        """
        head = self._reader.known(block)
        if head is None or stream_id <= self.last_id or not stream_id & 1 or self.shut:
            return False
        method = self.shared.methods.get(head.path)
        if method is None or method.shortcut is None or not head.plain:
            return False
        start, end = span
        size = end - start
        first = start + PREFIX_BYTES
        if size < PREFIX_BYTES or data[start:first] != (size - PREFIX_BYTES).to_bytes(PREFIX_BYTES):
            return False
        if head.length is not None and head.length != size:
            return False
        if size - PREFIX_BYTES > self.shared.limit_bytes or len(self._live) >= MAX_STREAMS:
            return False
        if self._out.backlog > BACKLOG_BYTES:
            return False
        self.last_id = stream_id
        stream = Stream(self, stream_id, head, self._out.peer.initial_window)
        stream.heard_all = True
        stream.received = size
        stream.method = method
        self._live[stream_id] = stream
        if head.timeout_s is not None:
            stream.deadline = time.monotonic() + head.timeout_s
            self.shared.deadlines.add(stream)
        call = stream.call = Call(self, stream, method)
        call.run(data[first:end])
        return True

    def data(self, stream_id: int, ended: bool, data: Buffer, span: tuple[int, int, int]) -> None:
        """Take what a DATA frame holds: ``span`` is start, end, and what counts for the window.

        Raises both kinds of fault.
        """
        start, end, length = span
        stream = self._live.get(stream_id)
        if stream is None or stream.heard_all:
            self._late_data(stream_id, stream)
            return
        stream.their_window -= length
        if stream.their_window < 0:
            raise StreamFault(stream_id, Code.FLOW_CONTROL_ERROR)
        size = end - start
        stream.received += size
        if ended:
            self._heard_all(stream)
        if stream.ending:
            return
        method = stream.method
        if (
            ended
            and stream.inbox is None
            and size >= PREFIX_BYTES
            and not data[start]
            and int.from_bytes(data[start + 1 : start + PREFIX_BYTES]) == size - PREFIX_BYTES
            and size - PREFIX_BYTES <= self.shared.limit_bytes
            and method is not None
            and not method.request_streaming
            and self._out.backlog <= BACKLOG_BYTES
        ):
            call = stream.call = Call(self, stream, method)
            message = data[start + PREFIX_BYTES : end]
            call.run(message if isinstance(message, bytes) else message.tobytes())
            return
        self._collect(stream, data[start:end], length)

    def reset_by_client(self, stream_id: int) -> bool:
        """End a stream as its client asked; return whether it was cut short."""
        stream = self._live.get(stream_id)
        if stream is None:
            return False
        self._drop(stream, stream_id)
        return True

    def widen(self, stream_id: int, size: int) -> None:
        """Add to what may be sent on a stream; raises StreamFault."""
        stream = self._live.get(stream_id)
        if stream is None:
            return
        if not size:
            raise StreamFault(stream_id, Code.PROTOCOL_ERROR)
        if not self._out.widen_stream(stream, size):
            raise StreamFault(stream_id, Code.FLOW_CONTROL_ERROR)

    def widen_all(self, size: int) -> None:
        """Change what may be sent on every stream; raises ConnectionFault."""
        if size and not self._out.widen_all(self._live.values(), size):
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window over 2^31-1")

    # -- what ends streams from here -------------------------------------------------------------

    def reset(self, stream_id: int, code: Code) -> None:
        """End a stream with a RST_STREAM."""
        self._out.control(frames.rst_stream(stream_id, code))
        stream = self._live.get(stream_id)
        if stream is not None:
            self._drop(stream, -stream_id)
        elif -stream_id not in self._closed:
            self._closed.append(-stream_id)

    def expire(self, stream: Stream) -> None:
        """End a call whose deadline has passed."""
        if not stream.ending:
            self._withdraw(stream, StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def end_all(self, code: StatusCode, details: str) -> None:
        """End every call that is still without its end."""
        for stream in list(self._live.values()):
            if not stream.ending:
                self._withdraw(stream, code, details)

    def abandon_all(self) -> None:
        """The connection has gone: nobody waits for anything."""
        self._parked.clear()
        for stream in list(self._live.values()):
            self._drop(stream, -stream.id)

    def sweep(self, now: float) -> None:
        """End the calls whose clients have been silent for too long; ``now`` is monotonic."""
        for stream in list(self._live.values()):
            if stream.silent_s(now) > SILENCE_S:
                if stream.outbox:
                    self.reset(stream.id, Code.CANCEL)
                else:
                    text = f"nothing of the request's message came for {SILENCE_S:g} s"
                    self._withdraw(stream, StatusCode.DEADLINE_EXCEEDED, text)

    # -- what calls ask for ----------------------------------------------------------------------

    def answer(self, stream: Stream, message: bytes) -> None:
        """Send the message of a call that went well, and its end."""
        if not self._out.answer_now(stream, message):
            self._out.answer(stream, message)
        elif stream.heard_all and stream.inbox is None:
            self.completed += 1
            self._let_go(stream, stream.id)
        else:
            self.on_sent(stream)

    def send(self, stream: Stream, message: bytes) -> None:
        """Send one of several messages."""
        self._out.send(stream, message)

    def take(self, stream: Stream) -> Packed:
        """Return the next message of a stream, and give the client room for more."""
        return self._intake.take(stream)

    def fail(
        self,
        stream: Stream,
        code: StatusCode,
        details: str,
        trailers: Iterable[tuple[str, Value]] = (),
    ) -> None:
        """End a call with a status; OK ends one that has sent all its messages."""
        block = (answers.trailers if stream.opened else answers.trailers_only)(
            code, details, trailers
        )
        self._out.end(stream, block)

    def on_sent(self, stream: Stream) -> None:
        """Let go of a stream that has sent all, or let its call go on."""
        if stream.ending:
            self.completed += 1
            if not stream.heard_all:
                # The rest of the request is of no use; without this its client would send it.
                self._out.control(frames.rst_stream(stream.id, Code.NO_ERROR))
            self._close(stream, stream.id if stream.heard_all else -stream.id)
        elif stream.call is not None:
            stream.call.sent()
        if self._parked.waiting:
            self._parked.go_on(self._run_packed)

    # -- how it goes -----------------------------------------------------------------------------

    def _route(self, stream: Stream) -> None:
        """Find what answers a call, and begin what does not wait for a message."""
        head = stream.head
        refusal = head.refusal
        if isinstance(refusal, WrongHttp):
            self._out.end(stream, answers.http_status(refusal.status))
            return
        if isinstance(refusal, WrongCall):
            self.fail(stream, refusal.code, refusal.details, refusal.trailers)
            return
        method = self.shared.methods.get(head.path)
        if method is None:
            self.fail(stream, StatusCode.UNIMPLEMENTED, "Method not found!")
            return
        if head.encoding != IDENTITY:
            try:
                check_encoding(head.encoding)
            except BadMessage as bad:
                self.fail(stream, bad.code, bad.details, _READ_HERE)
                return
        stream.method = method
        if method.request_streaming:
            call = stream.call = Call(self, stream, method)
            call.run_streaming()
        elif stream.heard_all:
            self._run(stream)

    def _collect(self, stream: Stream, piece: Buffer, length: int) -> None:
        """Put a piece of a message to the rest of it, and go on where that makes it whole."""
        inbox = stream.inbox
        try:
            if inbox is not None and len(piece) < inbox.room and not stream.heard_all:
                self._intake.put(stream, inbox, piece, length)
                return
            inbox = self._intake.feed(stream, piece, length)
        except BadMessage as bad:
            self._withdraw(stream, bad.code, bad.details)
            return
        if stream.call is not None:
            stream.call.feed()
        elif stream.heard_all or len(inbox.ready) > 1:
            self._run(stream)

    def _run(self, stream: Stream) -> None:
        """Run a call that takes one message, now that all has come."""
        inbox = stream.inbox
        count = len(inbox.ready) if inbox is not None else 0
        if inbox is not None and inbox.within:
            self.fail(stream, StatusCode.INTERNAL, "the request ended within a message")
        elif inbox is None or count != 1:
            text = f"the method takes one message, and {count} came"
            self.fail(stream, StatusCode.UNIMPLEMENTED, text)
        elif self._out.backlog > BACKLOG_BYTES:
            self._parked.add(stream)
        else:
            self._run_packed(stream)

    def _run_packed(self, stream: Stream) -> None:
        assert stream.method is not None
        call = stream.call = Call(self, stream, stream.method)
        call.run_packed(self.take(stream))

    def _heard_all(self, stream: Stream) -> None:
        stream.heard_all = True
        length = stream.head.length
        if length is not None and length != stream.received:
            raise StreamFault(stream.id, Code.PROTOCOL_ERROR)

    def _later_headers(
        self, stream_id: int, stream: Stream | None, ended: bool, block: bytes
    ) -> None:
        """Take a block on a stream that is not new; it must be read, whatever comes of it."""
        fields = self._reader.fields(block)
        if stream is None:
            if -stream_id in self._closed or self.shut:
                return
            if stream_id in self._closed:
                raise StreamFault(stream_id, Code.STREAM_CLOSED)
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a stream opened behind a later one")
        if stream.heard_all:
            raise StreamFault(stream_id, Code.STREAM_CLOSED)
        try:
            check_trailers(fields)
        except Malformed:
            ended = False
        if not ended:
            raise StreamFault(stream_id, Code.PROTOCOL_ERROR)
        self._heard_all(stream)
        if stream.ending:
            return
        if stream.call is not None:
            stream.call.feed()
        else:
            self._run(stream)

    def _late_data(self, stream_id: int, stream: Stream | None) -> None:
        if stream is None:
            if stream_id > self.last_id or not stream_id:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "DATA on a stream that is not open")
            if -stream_id in self._closed or self.shut:
                return
        raise StreamFault(stream_id, Code.STREAM_CLOSED)

    def _withdraw(self, stream: Stream, code: StatusCode, details: str) -> None:
        """Stop what runs for a stream and end it with a status."""
        call, stream.call = stream.call, None
        self._out.forget(stream)
        self.fail(stream, code, details)
        if call is not None:
            call.abandon()

    def _drop(self, stream: Stream, remembered: int) -> None:
        call = stream.call
        self._close(stream, remembered)
        if call is not None:
            call.abandon()

    def _close(self, stream: Stream, remembered: int) -> None:
        self._out.forget(stream)
        stream.ending = True
        self._intake.drop(stream)
        self._let_go(stream, remembered)

    def _let_go(self, stream: Stream, remembered: int) -> None:
        """Forget a stream that has nothing to send, and nothing of whose request is held."""
        stream.call = None
        self._live.pop(stream.id, None)
        self._closed.append(remembered)
        if stream.deadline is not None:
            self.shared.deadlines.discard(stream)
        if self._parked.waiting:
            self._parked.go_on(self._run_packed)
        if not self._live:
            self._on_empty()


_READ_HERE = (("grpc-accept-encoding", "identity,deflate,gzip"),)
