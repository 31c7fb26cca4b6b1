"""One call of MindSpore Serving's clients on the data plane: its instances fail one by one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

from serving.dataplane import DataPlane
from serving.errors import ServingError
from serving.frontends.mindspore.runs import Ends, Runs
from serving.frontends.rest import exchange
from serving.frontends.rest.exchange import Exchange
from serving.frontends.rest.ms_codec import MsCall
from serving.frontends.rest.wire import Call


class MsExchange(Exchange):
    """An exchange whose call is an ``MsCall``; it is written from outcomes, errors among them."""

    __slots__ = ("_runs", "_written")

    def __init__(
        self,
        plane: DataPlane,
        pool: Executor,
        call: Call,
        finish: Callable[[exchange.Outcome], None],
    ) -> None:
        super().__init__(plane, pool, call, finish)
        assert isinstance(call, MsCall)
        self._written = call
        self._runs = Runs(plane, call.instances, "rest", self._on_outcomes)

    def start(self) -> None:
        """Claim and commit the instances; raises what concerns all of them."""
        self._runs.start()

    def abandon(self) -> None:
        """Nobody waits any more: withdraw what is not answered, release what is."""
        self._finish = None
        self._runs.abandon()

    def _on_outcomes(self, outcomes: Ends) -> None:
        if isinstance(outcomes, ServingError):
            self._end(outcomes)
            return
        responses = [o for o in outcomes if not isinstance(o, ServingError)]
        self._encode(responses, lambda: self._written.encode(outcomes))
