"""Runs models for functions that call them (``Model.call``), while their workers wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from serving.errors import InvalidRequest, NotFound, Overloaded, ServingError, Unavailable
from serving.scheduling.pipeline.pipeline import Pipeline
from serving.scheduling.pipeline.port import Port, Terms, Values
from serving.scheduling.pipeline.visit import ModelVisit
from serving.scheduling.scheduler import Scheduler
from serving.scheduling.stages.calls import CallTerms, ModelAnswer

_AT_ONCE = 256
"""Instances of one call that are under way together: a call must not fill the model's queue."""


class ModelCalls:
    """Implements ``stages.calls.ModelCalls``; ``pipelines`` are the open ones, by generation."""

    def __init__(self, scheduler: Scheduler, pipelines: Mapping[int, Pipeline]) -> None:
        self._scheduler = scheduler
        self._pipelines = pipelines

    async def call(
        self,
        generation: int,
        model: str,
        subgraph: int,
        instances: Sequence[Values],
        terms: CallTerms,
    ) -> ModelAnswer:
        """Run instances, however many, through a model; see ``stages.calls.ModelCalls``."""
        pipeline = self._pipelines.get(generation)
        if pipeline is None:
            raise Unavailable("the version was unloaded", code="unloaded", retry_after_s=1.0)
        port = pipeline.ports.get((model, subgraph))
        if port is None:
            raise _unknown(pipeline, model, subgraph)
        takes = len(port.input_rows)
        for index, values in enumerate(instances):
            if len(values) != takes:
                raise InvalidRequest(
                    f"The inputs count {len(values)} of instance {index} is not equal to the "
                    f"inputs count {takes} of the model"
                )
        told = Terms(terms.id, terms.deadline, terms.priority, time.monotonic())
        return await _Call(self._scheduler, port, instances, told).run()


def _unknown(pipeline: Pipeline, model: str, subgraph: int) -> NotFound:
    """Return the error for a model that is not there, in the words of MindSpore Serving."""
    subgraphs = sum(key == model for key, _ in pipeline.ports)
    if subgraphs:
        return NotFound(
            f"The model does not have subgraph of index {subgraph}, the subgraph count of the "
            f"model is {subgraphs}"
        )
    return NotFound(
        "the model is not declared, ensure that interface 'declare_model' can take effect when "
        "importing servable_config.py by the serving server"
    )


class _Call:
    """One call: claims are made as earlier ones are answered."""

    def __init__(
        self, scheduler: Scheduler, port: Port, instances: Sequence[Values], terms: Terms
    ) -> None:
        self._scheduler = scheduler
        self._port = port
        self._instances = instances
        self._terms = terms
        self._results: list[Values | ServingError | None] = [None] * len(instances)
        self._pending: dict[asyncio.Future[Any], tuple[int, ModelVisit]] = {}
        self._answered: list[ModelVisit] = []

    async def run(self) -> ModelAnswer:
        try:
            for index in range(len(self._instances)):
                while not self._begin(index):
                    await self._some()
                if len(self._pending) >= _AT_ONCE:
                    await self._some()
            while self._pending:
                await self._some()
        except BaseException:
            for _, visit in self._pending.values():
                visit.abandon()
            self._release()
            raise
        results = [r for r in self._results if r is not None]
        assert len(results) == len(self._instances)
        return ModelAnswer(results, self._release)

    def _begin(self, index: int) -> bool:
        """Claim for one instance; False if it must wait for others of this call."""
        try:
            request = self._port.request(self._instances[index], self._terms)
            visit = ModelVisit.begin(self._scheduler, self._port, request)
        except Overloaded as error:
            if self._pending:
                return False
            self._results[index] = error
        except ServingError as error:
            self._results[index] = error
        else:
            self._pending[visit.answer] = (index, visit)
        return True

    async def _some(self) -> None:
        """Wait until some instance is answered."""
        done, _ = await asyncio.wait(self._pending, return_when=asyncio.FIRST_COMPLETED)
        for answer in done:
            index, visit = self._pending.pop(answer)
            error = answer.exception()
            if error is None:
                self._answered.append(visit)
                try:
                    self._results[index] = visit.values()
                except ServingError as broken:
                    self._results[index] = broken
            elif isinstance(error, ServingError):
                self._results[index] = error
            else:
                raise error

    def _release(self) -> None:
        answered, self._answered = self._answered, []
        for visit in answered:
            visit.release()
