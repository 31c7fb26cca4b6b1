"""Calls over REST some of whose tensors lie in shared memory: made whole before they run."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from serving.frontends.rest.v2_call import V2Call
from serving.frontends.rest.wire import Call, Headers
from serving.frontends.shared_memory import gate
from serving.frontends.shared_memory.regions import Regions
from serving.frontends.shared_memory.sharing import ON_LOOP_BYTES


class SharedCalls:
    """One for the front end; ``regions`` None where clients may not use shared memory.

    Event loop only.
    """

    def __init__(self, regions: Regions | None, pool: Executor) -> None:
        self._regions = regions
        self._pool = pool

    def whole(
        self, call: Call, headers: Headers, client: tuple[str, int] | None
    ) -> Call | asyncio.Future[V2Call]:
        """Return a call with its inputs, or a future of one that is large.

        ``client`` is its address and port. Raises a ``ServingError``, as the future does.
        """
        if not isinstance(call, V2Call) or call.sharing is None:
            return call
        is_local = gate.local_http(client, headers)
        shared = call.sharing.found(gate.opened(self._regions, is_local, call.sharing.where))

        def filled() -> V2Call:
            return call._replace(request=shared.fill(call.request), sharing=None, shared=shared)

        if shared.input_bytes <= ON_LOOP_BYTES:
            return filled()
        return asyncio.get_running_loop().run_in_executor(self._pool, filled)
