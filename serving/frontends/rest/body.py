"""Read request bodies within limits: the size of one, and the sum of those being handled."""

from __future__ import annotations

from serving.errors import InvalidRequest, Overloaded, TooLarge
from serving.frontends import body_memory
from serving.frontends.rest.asgi import ClientGone, Receive
from serving.frontends.rest.large_body import ReadInto
from serving.frontends.rest.wire import Headers

_STEP_BYTES = 4 << 20
"""Of a large body so much is reserved at a time: what is announced need never be sent."""


class BodyTooLarge(TooLarge):
    """A body over the limit; the rest of it was not read."""


class BodyMemoryFull(Overloaded):
    """Too many large bodies at once; the rest of this one was not read."""


class BodyBudget:
    """Bounds the bytes of request bodies that are held at one time.

    Owned by the inference routes and used from the event loop only. Bodies that arrive in one
    piece are not counted: they are smaller than the server's read buffer.
    """

    def __init__(self, limit_bytes: int, budget_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._left = max(budget_bytes, limit_bytes)

    @property
    def left_bytes(self) -> int:
        """Bytes that may still be taken."""
        return self._left

    def give_back(self, size: int) -> None:
        """Return what ``read`` took; ``size`` is the second value it returned."""
        self._left += size

    async def read(self, receive: Receive, headers: Headers) -> tuple[bytes, int]:
        """Return a request's body, and how many bytes of the budget it took.

        Raises BodyTooLarge (by Content-Length before anything is read), Overloaded, ClientGone.
        """
        self._length(headers)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            if len(body) > self.limit_bytes:
                raise self._too_large(str(len(body)), TooLarge)
            return body, 0
        return await self._read_on(receive, bytearray(body))

    async def read_straight(self, read_into: ReadInto, headers: Headers) -> tuple[memoryview, int]:
        """Do as ``read`` does, of a large body that is read straight into one buffer."""
        size, taken = self._length(headers), 0
        try:
            buffer = body_memory.room(size)
            while taken < size:
                step = min(_STEP_BYTES, size - taken)
                self._take(step)
                taken += step
                await read_into(buffer[taken - step : taken])
        except BaseException:
            self._left += taken
            raise
        return buffer, taken

    def _length(self, headers: Headers) -> int:
        """Return the length that the head tells, 0 where it tells none."""
        told = headers.get(b"content-length")
        size = 0 if told is None else _number(told)
        if told is not None and size > self.limit_bytes:
            raise self._too_large(told.decode("latin-1"))
        return size

    def _take(self, size: int) -> None:
        if size > self._left:
            raise BodyMemoryFull(
                "too many large requests are being received at once",
                code="body_memory_full",
                fix="send them one after the other, or raise --memory-mb",
                retry_after_s=1.0,
            )
        self._left -= size

    async def _read_on(self, receive: Receive, body: bytearray) -> tuple[bytes, int]:
        """Collect further pieces, however small, in one buffer."""
        taken, more = 0, True
        try:
            while more:
                if len(body) > self.limit_bytes:
                    raise self._too_large(f"at least {len(body)}")
                self._take(len(body) - taken)
                taken = len(body)
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                body += message.get("body", b"")
                more = message.get("more_body", False)
            if len(body) > self.limit_bytes:
                raise self._too_large(str(len(body)), TooLarge)
            return bytes(body), taken
        except BaseException:
            self._left += taken
            raise

    def _too_large(self, given: str, kind: type[TooLarge] = BodyTooLarge) -> TooLarge:
        return kind(
            "the body is larger than this server accepts",
            where="body",
            expected=f"at most {self.limit_bytes} bytes",
            given=f"{given} bytes",
            fix="send fewer rows at once, or raise --max-request-mb",
            limit=self.limit_bytes,
        )


def _number(text: bytes) -> int:
    if text.isdigit() and len(text) < 19:
        return int(text)
    raise InvalidRequest(
        "the Content-Length header is no length", code="bad_length", where="header Content-Length"
    )
