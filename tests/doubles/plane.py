"""A data plane without processes: answers with a Python function, for front-end tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from serving.dataplane import RepositoryControl
from serving.errors import ControlOff, NotFound, ServingError, Unauthenticated, did_you_mean
from serving.request import Description, InferRequest, InferResponse, Listener
from serving.statistics import ProcessUsage, ServerStatistics, TensorMemory
from serving.tensor import Tensor

NOTHING_YET = ServerStatistics((), (), (), TensorMemory(0, 0, 1 << 31), ProcessUsage(0.0, 0, 0.0))


class StubClaim:
    """A claim that holds its request until it is committed."""

    def __init__(self, request: InferRequest, description: Description) -> None:
        self.request = request
        self.description = description
        self.answer: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()

    def tell(self, listener: Listener) -> None:
        def told(done: asyncio.Future[InferResponse]) -> None:
            failed = asyncio.CancelledError() if done.cancelled() else done.exception()
            listener(failed or done.result())

        self.answer.add_done_callback(told)


class StubPlane:
    """Serves the given descriptions by calling ``model(request)``; records what happened.

    Several descriptions of one servable are its methods. ``told`` is what ``statistics`` returns;
    ``errors`` are front end and code of those answered. It asks its clients for the ``token``.
    """

    def __init__(
        self,
        *descriptions: Description,
        model: Callable[[InferRequest], tuple[Tensor, ...]] | None = None,
    ) -> None:
        self._known: dict[str, dict[str, Description]] = {}
        for d in descriptions:
            self._known.setdefault(d.servable, {})[d.method] = d
        self._model = model or (lambda request: request.inputs)
        self.is_ready = True
        self.token: str | None = None
        self.told = NOTHING_YET
        self.errors: list[tuple[str, str]] = []
        self.requests: list[InferRequest] = []
        self.released = 0
        self.abandoned = 0

    def claim(self, request: InferRequest) -> StubClaim:
        claim = StubClaim(request, self.describe(request.servable, request.version, request.method))
        self.requests.append(request)
        return claim

    def commit(self, claim: StubClaim) -> None:
        try:
            outputs = self._model(claim.request)
        except ServingError as error:
            claim.answer.set_exception(error)
            return
        wanted = claim.request.outputs
        if wanted is not None:
            by_name = {t.name: t for t in outputs}
            outputs = tuple(by_name[name] for name in wanted)
        d = claim.description
        claim.answer.set_result(
            InferResponse(d.servable, d.version, claim.request.id, outputs, self._count_release)
        )

    def abandon(self, claim: StubClaim) -> None:
        self.abandoned += 1
        claim.answer.cancel()

    def describe(
        self, servable: str | None, version: int | None = None, method: str | None = None
    ) -> Description:
        if servable is None and len(self._known) == 1:
            (servable,) = self._known
        known = self._known.get(servable or "")
        if known is None:
            raise NotFound(
                f"servable {servable!r} is not served here",
                code="unknown_servable",
                fix=did_you_mean(servable or "", self._known),
            )
        versions = next(iter(known.values())).versions
        if version is not None and version not in versions:
            message = f"servable {servable!r} has no version {version}"
            raise NotFound(message, code="unknown_version")
        named = method or ("predict" if len(known) > 1 else next(iter(known)))
        found = known.get("" if "" in known and named == "predict" else named)
        if found is None:
            message = f"servable {servable!r} has no method {named!r}"
            raise NotFound(message, code="unknown_method")
        return found if version in (None, found.version) else replace(found, version=version)

    def methods(self, servable: str, version: int | None = None) -> tuple[str, ...]:
        known = self._known.get(servable)
        if known is None:
            raise NotFound(f"servable {servable!r} is not served here", code="unknown_servable")
        return tuple(name for name in known if name)

    async def servables(self) -> list[dict[str, Any]]:
        return [
            {"name": d.servable, "version": d.version, "state": "READY", "reason": ""}
            for d in (next(iter(known.values())) for known in self._known.values())
        ]

    def answered_with(self, error: ServingError, front_end: str) -> None:
        self.errors.append((front_end, error.code))

    async def statistics(self) -> ServerStatistics:
        return self.told

    async def index(self) -> list[dict[str, Any]]:
        return await self.servables()

    def let_in(self, authorization: str | None) -> None:
        if self.token is not None and authorization != f"Bearer {self.token}":
            raise Unauthenticated("a stub asks for its token")

    def control(self, authorization: str | None) -> RepositoryControl:
        raise ControlOff("a stub loads nothing")

    def live(self) -> bool:
        return True

    def ready(self) -> bool:
        return self.is_ready

    def _count_release(self) -> None:
        self.released += 1
