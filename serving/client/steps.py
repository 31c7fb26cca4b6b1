"""What a client does, step by step, without doing any of it: the same for sync and async.

Each function here is a generator: it yields an ``Ask`` (make this call, send me its answer or
throw me its error) or a ``Pause``, and returns what its caller wanted. ``blocking`` and ``aio``
carry the steps out.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from serving.client import prediction, retry
from serving.client.failure import NO_SERVER
from serving.client.inputs import to_tensors
from serving.client.prediction import Prediction
from serving.errors import (
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    ServingError,
    Unavailable,
)
from serving.request import Description, VersionName
from serving.tensor import Tensor
from serving.v1 import description as wire_description
from serving.v1 import tensors
from serving.v1.stubs import serving_v1_pb2 as pb

T = TypeVar("T")
Key = tuple[str | None, VersionName | None, str | None]
"""Servable, version and method as a caller names them."""
_POLL_S = 0.1


@dataclass(frozen=True)
class Ask:
    """A call to make: the method of the service, its serialised request, and a time limit."""

    method: str
    payload: bytes
    timeout_s: float | None


@dataclass(frozen=True)
class Pause:
    """Time to let pass, in seconds."""

    seconds: float


Steps = Generator[Ask | Pause, bytes, T]


@dataclass(frozen=True)
class ServableVersion:
    """One version that the server knows; ``version`` is None where none could be made out.

    ``state`` is READY, LOADING, FAILED...; ``reason`` says why it is not READY.
    """

    servable: str
    version: int | None
    state: str
    reason: str


@dataclass(frozen=True)
class Order:
    """What a caller asks for besides inputs; None and empty mean the server's own choice."""

    servable: str | None = None
    version: VersionName | None = None
    method: str | None = None
    outputs: tuple[str, ...] = ()
    request_id: str = ""
    priority: int = 0


class Talk:
    """Knows the descriptions that were asked for before; one for each client.

    ``retries`` bounds how often one call is made again. Safe for use from several threads.
    """

    def __init__(
        self,
        retries: int,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._retries = retries
        self._clock = clock
        self._chance = chance
        self._known: dict[Key, Description] = {}

    def deadline(self, timeout_s: float | None) -> float | None:
        """Return the monotonic time at which a timeout that begins now ends."""
        if timeout_s is None:
            return None
        if not timeout_s > 0:
            raise ValueError(f"timeout_s must be above 0, not {timeout_s!r}")
        return self._clock() + timeout_s

    def predict(self, order: Order, inputs: Any, deadline: float | None) -> Steps[Prediction]:
        """Run one request."""
        key = (order.servable, order.version, order.method)
        fresh = key not in self._known
        known = yield from self.describe(*key, deadline)
        try:
            return (yield from self.send(order, to_tensors(inputs, known), known, deadline))
        except InvalidRequest:
            # A new version may have come in the meantime, with another signature.
            if fresh:
                raise
            latest = yield from self.describe_now(*key, deadline)
            if latest.signature == known.signature:
                raise
        return (yield from self.send(order, to_tensors(inputs, latest), latest, deadline))

    def send(
        self, order: Order, inputs: list[Tensor], known: Description, deadline: float | None
    ) -> Steps[Prediction]:
        """Run one request whose inputs are tensors already, made for what is ``known``.

        Where the answer shows that to be out of date, the next request asks anew.
        """
        key, payload = (order.servable, order.version, order.method), request(order, inputs)
        try:
            data = yield from self._call("Predict", payload, deadline)
            answer = prediction.read(data, is_method=bool(known.method))
        except InvalidRequest:
            self._known.pop(key, None)
            raise
        if answer.version != known.version:  # another is preferred, or a label stands for it
            self._known.pop(key, None)
        return answer

    def describe(
        self,
        servable: str | None,
        version: VersionName | None,
        method: str | None,
        deadline: float | None,
    ) -> Steps[Description]:
        """Return what a servable takes and gives; asks the server once."""
        found = self._known.get((servable, version, method))
        if found is None:
            found = yield from self.describe_now(servable, version, method, deadline)
        return found

    def describe_now(
        self,
        servable: str | None,
        version: VersionName | None,
        method: str | None,
        deadline: float | None,
    ) -> Steps[Description]:
        """Return what a servable takes and gives, as of now."""
        request = pb.DescribeRequest(
            servable=servable or "", method=method or "", **_version(version)
        )
        answer = yield from self._call("Describe", request.SerializeToString(), deadline)
        try:
            found = wire_description.from_message(pb.DescribeResponse.FromString(answer))
        except (DecodeError, KeyError) as error:
            raise _unreadable(error) from error
        self._known[servable, version, method] = found
        return found

    def servables(self, deadline: float | None) -> Steps[list[ServableVersion]]:
        """List every version that the server knows."""
        answer = yield from self._call("List", b"", deadline)
        try:
            rows = pb.ListResponse.FromString(answer).versions
        except DecodeError as error:
            raise _unreadable(error) from error
        return [ServableVersion(r.servable, r.version or None, r.state, r.reason) for r in rows]

    def ready(self, servable: str | None, deadline: float | None) -> Steps[bool]:
        """Return whether requests are taken; False too when nothing listens."""
        request = pb.ReadyRequest(servable=servable or "").SerializeToString()
        try:
            answer = yield Ask("Ready", request, self._left(deadline))
        except Unavailable as error:
            if error.code != NO_SERVER:
                raise
            return False
        try:
            return bool(pb.ReadyResponse.FromString(answer).ready)
        except DecodeError as error:
            raise _unreadable(error) from error

    def wait_until_ready(self, address: str, servable: str | None, timeout_s: float) -> Steps[None]:
        """Ask until the answer is yes; raises DeadlineExceeded when it is not in time."""
        deadline = self.deadline(timeout_s)
        assert deadline is not None
        what = address if servable is None else f"servable {servable!r} on {address}"
        while not (yield from self._ready_in_time(servable, deadline)):
            if self._clock() + _POLL_S >= deadline:
                raise DeadlineExceeded(
                    f"{what} was not ready within {timeout_s:g} s",
                    code="not_ready",
                    fix="servables() and the server's log say why",
                )
            yield Pause(_POLL_S)

    def _ready_in_time(self, servable: str | None, deadline: float) -> Steps[bool]:
        try:
            return (yield from self.ready(servable, deadline))
        except (DeadlineExceeded, Unavailable):
            return False

    def _call(self, method: str, payload: bytes, deadline: float | None) -> Steps[bytes]:
        """Make a call, and make it again where that is safe and the deadline allows it."""
        attempt = 0
        while True:
            try:
                return (yield Ask(method, payload, self._left(deadline)))
            except ServingError as error:
                pause = retry.pause_s(error, attempt, self._retries, self._chance())
                if pause is None or (deadline is not None and self._clock() + pause >= deadline):
                    raise
            attempt += 1
            yield Pause(pause)

    def _left(self, deadline: float | None) -> float | None:
        return None if deadline is None else max(0.001, deadline - self._clock())


def request(order: Order, inputs: list[Tensor]) -> bytes:
    """Return a serialised PredictRequest."""
    head = pb.PredictRequest(
        servable=order.servable or "",
        **_version(order.version),
        method=order.method or "",
        id=order.request_id,
        outputs=order.outputs,
        priority=order.priority,
    )
    sealed = [(tensor, False) for tensor in inputs]
    return tensors.pack(head.SerializeToString(), tensors.REQUEST_INPUTS, sealed)


def _version(version: VersionName | None) -> dict[str, Any]:
    """Return the fields that name a version: its number, or its label."""
    return {"label": version} if isinstance(version, str) else {"version": version or 0}


def _unreadable(error: Exception) -> InternalError:
    return InternalError(f"the server's answer cannot be read: {error!r}")
