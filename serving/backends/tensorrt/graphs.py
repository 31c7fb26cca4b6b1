"""Launches recorded as CUDA graphs: one call instead of one per kernel.

A graph holds addresses, shapes and the inside of its context, so each has a context of its own
whose shapes never change again (TensorRT's documentation asks for that). All contexts of a lane
share the memory that kernels compute in: one run at a time goes through a lane. Copies are not
part of a graph, so that one graph serves the rows of any segment.
"""

from __future__ import annotations

import collections
import logging
from typing import Any, Callable, List, Mapping, Optional

from serving.backends.base import BackendError, DeviceLost
from serving.backends.tensorrt.buffer import Buffer
from serving.backends.tensorrt.context import Context, Shapes
from serving.backends.tensorrt.cuda import Cuda, attempt, worst

_log = logging.getLogger("serving.tensorrt")

_AFTER_RUNS = 3
"""Runs of the same shapes before they are given a context: making one takes milliseconds."""
_KEPT = 16
_COUNTED = 64


class Graph:
    """A context that runs one set of shapes, and its recorded launch once there is one."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.launches: Any = None
        self.settled = False
        """True after a plain run: only then is nothing left in the context that is done once."""


class Graphs:
    """The graphs of one lane; used by the thread that holds it.

    ``refused`` says why there are none, empty where there may be.
    """

    def __init__(
        self, cuda: Cuda, stream: int, make: Callable[[], Context], *, refused: str = ""
    ) -> None:
        self._cuda = cuda
        self._stream = stream
        self._make = make
        self.refused = refused
        self._runs: "collections.OrderedDict[Shapes, int]" = collections.OrderedDict()
        self._kept: "collections.OrderedDict[Shapes, Graph]" = collections.OrderedDict()

    def find(self, shapes: Shapes, buffers: Mapping[str, Buffer]) -> Optional[Graph]:
        """Return what runs these shapes, made now if they were met often; None for the others.

        Where none can be made that is told once, and all runs are plain from then on.
        """
        graph = self._kept.get(shapes)
        if graph is not None:
            self._kept.move_to_end(shapes)
            return graph
        if self.refused or not self._due(shapes):
            return None
        try:
            return self._keep(shapes, buffers)
        except DeviceLost:
            raise
        except BackendError as error:
            self._refuse(error)
            return None

    def run(self, graph: Graph) -> None:
        """Queue one run: plainly the first time, recorded the second, by its graph from then on."""
        if graph.launches is None and graph.settled and not self.refused:
            try:
                graph.context.check_recordable()
                graph.launches = self._record(graph.context.enqueue)
            except DeviceLost:
                raise
            except BackendError as error:
                self._refuse(error)
        if graph.launches is None:
            graph.context.enqueue()
            graph.settled = True
        else:
            self._cuda.call("cudaGraphLaunch", graph.launches, self._stream)

    def clear(self) -> Optional[BackendError]:
        """Let all go: their addresses are no longer good. Returns what went wrong."""
        errors: List[Optional[BackendError]] = []
        while self._kept:
            errors.append(self._drop(self._kept.popitem()[1]))
        self._runs.clear()
        return worst(errors)

    def _due(self, shapes: Shapes) -> bool:
        self._runs[shapes] = runs = self._runs.get(shapes, 0) + 1
        self._runs.move_to_end(shapes)
        if len(self._runs) > _COUNTED:
            self._runs.popitem(last=False)
        return runs > _AFTER_RUNS

    def _keep(self, shapes: Shapes, buffers: Mapping[str, Buffer]) -> Graph:
        if len(self._kept) >= _KEPT:
            self._drop(self._kept.popitem(last=False)[1])
        context = self._make()
        try:
            context.shape(shapes, buffers)
            context.tie(buffers)
        except BaseException:
            context.close()
            raise
        graph = self._kept[shapes] = Graph(context)
        return graph

    def _drop(self, graph: Graph) -> Optional[BackendError]:
        error = None
        if graph.launches is not None:
            error = attempt(self._cuda.call, "cudaGraphExecDestroy", graph.launches)
        graph.context.close()
        return error

    def _refuse(self, error: BackendError) -> None:
        self.refused = str(error)
        _log.info("CUDA graphs are not used for this model: %s", error)

    def _record(self, enqueue: Callable[[], None]) -> Any:
        # Thread-local: what other threads allocate meanwhile does not spoil this recording.
        mode = self._cuda.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._cuda.call("cudaStreamBeginCapture", self._stream, mode)
        try:
            enqueue()
        except BaseException:
            # The stream must leave its recording; what that gives is of no use.
            self._abandon()
            raise
        graph = self._cuda.call("cudaStreamEndCapture", self._stream)
        try:
            return self._cuda.call("cudaGraphInstantiate", graph, 0)
        finally:
            attempt(self._cuda.call, "cudaGraphDestroy", graph)

    def _abandon(self) -> None:
        try:
            graph = self._cuda.call("cudaStreamEndCapture", self._stream)
        except DeviceLost:
            raise
        except BackendError:
            return  # it was spoilt, so there is no graph
        if graph is not None and int(graph):
            attempt(self._cuda.call, "cudaGraphDestroy", graph)
