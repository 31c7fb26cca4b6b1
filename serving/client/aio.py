"""The client for asyncio: every call is awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
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
_SIDE_BY_SIDE = 32
"""Requests of one ``predict_rows`` that are under way at once."""


class AsyncClient:
    """``Client`` for asyncio: the same arguments, methods, results and errors.

    Used on one event loop, the one that runs when the first call is made. Cancelling a call
    withdraws its request from the server.
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
        self._target = channel.target(address)
        self._credentials = credentials_for(tls, credentials)
        self._timeout_s = timeout_s
        self._talk = Talk(retries)
        self._opened: grpc.aio.Channel | None = None
        self._calls: dict[str, Any] = {}
        self._closed = False

    async def predict(
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
        """Run a servable on whole tensors; see ``Client.predict``."""
        order = Order(servable, version, method, tuple(outputs), request_id, priority)
        return await self._run(self._talk.predict(order, inputs, self._deadline(timeout_s)))

    async def predict_rows(
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
        """Run a servable on examples without batch axis; see ``Client.predict_rows``."""
        deadline = self._deadline(timeout_s)
        order = Order(servable, version, method, tuple(outputs), request_id, priority)
        known = await self._run(self._talk.describe(servable, version, method, deadline))
        groups = rows.group(rows_, known)
        places = asyncio.Semaphore(_SIDE_BY_SIDE)

        async def send(sent: rows.Group) -> Prediction:
            async with places:
                return await self._run(self._talk.send(order, sent.inputs, known, deadline))

        try:
            async with asyncio.TaskGroup() as together:
                sending = [together.create_task(send(sent)) for sent in groups]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return rows.join(groups, [task.result() for task in sending], known)

    async def describe(
        self,
        servable: str | None = None,
        version: VersionName | None = None,
        method: str | None = None,
    ) -> Description:
        """Return what a servable takes and gives, as of now; see ``Client.describe``."""
        deadline = self._deadline(None)
        return await self._run(self._talk.describe_now(servable, version, method, deadline))

    async def servables(self) -> list[ServableVersion]:
        """List every version that the server knows; see ``Client.servables``."""
        return await self._run(self._talk.servables(self._deadline(None)))

    async def ready(self, servable: str | None = None) -> bool:
        """Return whether requests are taken; see ``Client.ready``."""
        return await self._run(self._talk.ready(servable, self._deadline(None)))

    async def wait_until_ready(self, timeout_s: float, servable: str | None = None) -> None:
        """Wait for ``ready``; raises DeadlineExceeded when it is not in time."""
        await self._run(self._talk.wait_until_ready(self._address, servable, timeout_s))

    async def close(self) -> None:
        """Close the connection; calls under way are cancelled. May be repeated."""
        opened, self._opened, self._closed = self._opened, None, True
        if opened is not None:
            await opened.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _deadline(self, timeout_s: float | None) -> float | None:
        return self._talk.deadline(self._timeout_s if timeout_s is None else timeout_s)

    async def _run(self, steps: Steps[T]) -> T:
        """Carry out steps until they return or raise."""
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    step = steps.send(b"")
                    continue
                try:
                    answer = await self._ask(step)
                except ServingError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _ask(self, ask: Ask) -> bytes:
        try:
            answer: bytes = await self._call(ask.method)(
                ask.payload, timeout=ask.timeout_s, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as error:
            raise failure.from_rpc(
                self._address,
                error.code(),
                error.details(),
                error.trailing_metadata(),
                ask.timeout_s,
            ) from None
        return answer

    def _call(self, method: str) -> Any:
        """Return a call; the channel is opened late, for grpc ties it to the running loop."""
        if self._closed:
            raise ValueError("this client is closed")
        if self._opened is None:
            options = channel.options(self._target)
            self._opened = (
                grpc.aio.insecure_channel(self._target, options)
                if self._credentials is None
                else grpc.aio.secure_channel(self._target, self._credentials, options)
            )
            opened = self._opened
            self._calls = {m: opened.unary_unary(channel.path(m)) for m in channel.METHODS}
        return self._calls[method]
