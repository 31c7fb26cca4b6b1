"""The client for ordinary code: every call waits for its answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc

from serving.client import channel, failure, rows
from serving.client.prediction import Prediction
from serving.client.steps import Ask, Order, Pause, ServableVersion, Steps, Talk
from serving.client.tls import Tls
from serving.client.tls import credentials as credentials_for
from serving.errors import ServingError
from serving.request import Description, VersionName

T = TypeVar("T")
_SIDE_BY_SIDE = 8
"""Requests of one ``predict_rows`` that are under way at once."""


class Client:
    """A connection to a server's gRPC port, kept open; may be shared between threads.

    ``address`` is ``host:port``. ``timeout_s`` bounds each call, attempts and pauses included;
    None for no bound. ``retries`` is how often a call is made again that surely was not run:
    nothing listened, or the server said that it is loading or shutting down. ``tls`` True connects
    with TLS and trusts the usual authorities; ``Tls(ca=...)`` says whom to trust, and which
    certificate to show. ``credentials`` are gRPC's own, for all else that it can do. ``token`` is
    what a server with ``--client-token-file`` asks for.

    Nothing is sent before the first call. Use it in a ``with`` block, or ``close`` it.
    """

    def __init__(
        self,
        address: str = channel.DEFAULT_ADDRESS,
        *,
        timeout_s: float | None = 60.0,
        retries: int = 3,
        tls: bool | Tls = False,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | None = None,
    ) -> None:
        self._address = address
        self._metadata = channel.metadata(token)
        self._timeout_s = timeout_s
        self._talk = Talk(retries)
        target = channel.target(address)
        options = channel.options(target)
        credentials = credentials_for(tls, credentials)
        self._channel = (
            grpc.insecure_channel(target, options)
            if credentials is None
            else grpc.secure_channel(target, credentials, options)
        )
        self._calls = {m: self._channel.unary_unary(channel.path(m)) for m in channel.METHODS}

    def predict(
        self,
        servable: str | None = None,
        inputs: Any = (),
        *,
        version: VersionName | None = None,
        method: str | None = None,
        outputs: Sequence[str] = (),
        timeout_s: float | None = None,
        request_id: str = "",
        priority: int = 0,
    ) -> Prediction:
        """Run a servable on whole tensors, the batch axis included, and return its outputs.

        ``servable`` may be None when the server has exactly one. ``inputs`` is a dict by name, a
        tuple in the signature's order, or the value of the only input. A value is an array, or
        nested lists, numbers or text, which become the declared dtype. ``method`` may be None
        where a servable has one, or one called ``predict``; axis 0 of its inputs and outputs
        counts instances, and what it declares no dtype for goes as numpy has it: INT64, FP64,
        TEXT for str, BYTES for bytes. ``outputs`` names those
        that are wanted (all). ``priority`` 0 is the most urgent. ``timeout_s`` None is the
        client's own. Raises ``ServingError``: InvalidRequest, NotFound, Overloaded, Unavailable,
        DeadlineExceeded, ExecutionFailed...
        """
        order = Order(servable, version, method, tuple(outputs), request_id, priority)
        return self._run(self._talk.predict(order, inputs, self._deadline(timeout_s)))

    def predict_rows(
        self,
        servable: str | None,
        rows_: Sequence[Any],
        *,
        version: VersionName | None = None,
        method: str | None = None,
        outputs: Sequence[str] = (),
        timeout_s: float | None = None,
        request_id: str = "",
        priority: int = 0,
    ) -> list[dict[str, Any]]:
        """Run a servable on examples without batch axis; return the outputs of each, by name.

        A row is a dict by name, a tuple in order, or the value of the only input; rows may
        differ in shape. They go out in as few requests as the servable allows. Everything else is
        as in ``predict``; if one request fails, its error is raised and no row is returned. Rows
        of a method whose outputs may be of any type go one by one.
        """
        deadline = self._deadline(timeout_s)
        order = Order(servable, version, method, tuple(outputs), request_id, priority)
        known = self._run(self._talk.describe(servable, version, method, deadline))
        groups = rows.group(rows_, known)
        work = [self._talk.send(order, sent.inputs, known, deadline) for sent in groups]
        if len(work) == 1:
            answers = [self._run(work[0])]
        else:
            with ThreadPoolExecutor(_SIDE_BY_SIDE) as threads:
                answers = list(threads.map(self._run, work))
        return rows.join(groups, answers, known)

    def describe(
        self,
        servable: str | None = None,
        version: VersionName | None = None,
        method: str | None = None,
    ) -> Description:
        """Return what a servable takes and gives, as of now: signature, batching, versions.

        ``method`` is which of its methods is described.
        """
        deadline = self._deadline(None)
        return self._run(self._talk.describe_now(servable, version, method, deadline))

    def servables(self) -> list[ServableVersion]:
        """List every version that the server knows, with its state and why it is not READY."""
        return self._run(self._talk.servables(self._deadline(None)))

    def ready(self, servable: str | None = None) -> bool:
        """Return whether the server, or one servable, takes requests; False if nothing listens."""
        return self._run(self._talk.ready(servable, self._deadline(None)))

    def wait_until_ready(self, timeout_s: float, servable: str | None = None) -> None:
        """Wait for ``ready``; raises DeadlineExceeded when it is not in time."""
        self._run(self._talk.wait_until_ready(self._address, servable, timeout_s))

    def close(self) -> None:
        """Close the connection; calls under way end with an error. May be repeated."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _deadline(self, timeout_s: float | None) -> float | None:
        return self._talk.deadline(self._timeout_s if timeout_s is None else timeout_s)

    def _run(self, steps: Steps[T]) -> T:
        """Carry out steps until they return or raise."""
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    step = steps.send(b"")
                    continue
                try:
                    answer = self._ask(step)
                except ServingError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    def _ask(self, ask: Ask) -> bytes:
        try:
            answer: bytes = self._calls[ask.method](
                ask.payload, timeout=ask.timeout_s, metadata=self._metadata
            )
        except grpc.RpcError as error:
            raise failure.from_rpc(
                self._address,
                error.code(),
                error.details(),
                error.trailing_metadata(),
                ask.timeout_s,
            ) from None
        return answer
