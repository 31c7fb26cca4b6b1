"""Calls over REST some of whose tensors lie in shared memory: made whole before they run."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import NamedTuple

from serving.frontends.rest.v2_call import V2Call
from serving.frontends.rest.wire import Call, Headers
from serving.frontends.shared_memory import gate
from serving.frontends.shared_memory.regions import Regions
from serving.frontends.shared_memory.sharing import ON_LOOP_BYTES, Shared, Sharing
from serving.request import Elsewhere

_MOST_KNOWN = 256


class _Known(NamedTuple):
    """What ``sharing`` came to; ``elsewhere`` holds for requests that look the same."""

    sharing: Sharing
    shared: Shared
    elsewhere: Elsewhere


class SharedCalls:
    """One for the front end; ``regions`` None where clients may not use shared memory.

    Codecs give the same ``Sharing`` to calls that are alike: then its regions are known, until
    some are unregistered. Event loop only.
    """

    def __init__(self, regions: Regions | None, pool: Executor) -> None:
        self._regions = regions
        self._pool = pool
        self._known: dict[int, _Known] = {}
        if regions is not None:
            regions.on_unregister.append(self._known.clear)

    def whole(
        self, call: Call, headers: Headers, client: tuple[str, int] | None
    ) -> Call | asyncio.Future[V2Call]:
        """Return a call that can run, or a future of one whose inputs are large.

        ``client`` is its address and port. Raises a ``ServingError``, as the future does.
        """
        if not isinstance(call, V2Call) or call.sharing is None:
            return call
        sharing, request = call.sharing, call.request
        is_local = gate.local_http(client, headers)
        regions = gate.opened(self._regions, is_local, sharing.where)
        known = self._known.get(id(sharing))
        if known is None or known.sharing is not sharing:
            shared = sharing.found(regions)
            elsewhere = shared.elsewhere(request, call.description)
            if elsewhere is None:
                return self._filled(call, shared)
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            known = self._known[id(sharing)] = _Known(sharing, shared, elsewhere)
        else:
            known.shared.check()
        return call._replace(
            request=request._replace(elsewhere=known.elsewhere), sharing=None, shared=known.shared
        )

    def _filled(self, call: V2Call, shared: Shared) -> Call | asyncio.Future[V2Call]:
        def filled() -> V2Call:
            return call._replace(request=shared.fill(call.request), sharing=None, shared=shared)

        if shared.input_bytes <= ON_LOOP_BYTES:
            return filled()
        return asyncio.get_running_loop().run_in_executor(self._pool, filled)
