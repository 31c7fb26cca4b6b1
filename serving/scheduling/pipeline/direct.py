"""Methods that are one model and nothing else: a request of one instance is a ticket of its line.

Such a request needs no walk through a graph, and costs little more than one for the model itself.
What differs are names and shapes, worked out once for each look of a request. What does not fit,
is text, or changes its type on the way takes the ordinary way, where it is served or refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from serving.definition import INPUTS, Kind, Method
from serving.errors import InternalError, InvalidRequest, ServingError
from serving.request import Description, InferRequest, InferResponse
from serving.scheduling.admission import Admission, Look, look, order_of, outputs_of
from serving.scheduling.batch import ShapeClass
from serving.scheduling.line import Line
from serving.scheduling.pipeline.instances import count, cut
from serving.scheduling.pipeline.port import Port, Terms
from serving.scheduling.pipeline.signature import PortKey
from serving.scheduling.ticket import Ticket
from serving.tensor import BF16, Tensor

_LOOKS_REMEMBERED = 256
_NO_TERMS = Terms("", None, 0, 0.0)

OnEnd = Callable[["DirectTicket", ServingError | None], None]
"""Told once, before its caller, that a ticket is over: with its error, or None."""


class _Given(NamedTuple):
    """An input of the model: its place in the request, and what the model knows it as."""

    place: int
    like: Tensor


class Taken(NamedTuple):
    """An output of the method: its place among the model's, and the axis that it is without."""

    place: int
    name: str
    axis: int | None


class Fit(NamedTuple):
    """What follows from a request's look: how it goes in, and how its answer comes out."""

    given: tuple[_Given, ...]
    admission: Admission
    shape: ShapeClass
    taken: tuple[Taken, ...]


class Rows(NamedTuple):
    """How requests of one look go in as rows of one, and how their answers come out."""

    given: tuple[_Given, ...]
    taken: tuple[Taken, ...]

    def request(self, request: InferRequest) -> InferRequest:
        """Return the model's request of all rows, for the method's of all instances."""
        inputs = []
        for place, like in self.given:
            array = request.inputs[place].array
            assert array is not None
            shape = (len(array) * like.shape[0], *like.shape[1:])
            whole = array if array.shape == shape else array.reshape(shape)
            inputs.append(Tensor(like.name, like.dtype, shape, whole))
        return InferRequest(request.servable, tuple(inputs), generation=request.generation)


class Direct:
    """The straight way of one method. Event loop only."""

    def __init__(self, method: Method, port: Port) -> None:
        self.line: Line = port.line
        self._method = method
        self._port = port
        self._fits: dict[Look, Fit | None] = {}
        self._rows: dict[Look, Rows | None] = {}

    @staticmethod
    def of(method: Method, ports: Mapping[PortKey, Port]) -> Direct | None:
        """Return the way of a method, None for one that has none."""
        if len(method.nodes) != 1 or method.nodes[0].kind is not Kind.MODEL or not method.inputs:
            return None
        if any(ref.node == INPUTS for ref in method.returns):
            return None
        port = ports[method.nodes[0].name, method.nodes[0].subgraph]
        signature = port.line.description.signature
        if any(s.dtype.is_bytes or s.dtype is BF16 for s in signature.inputs + signature.outputs):
            return None
        return Direct(method, port)

    def fit(self, request: InferRequest, description: Description) -> Fit | None:
        """Return how a request of this look goes this way, None for one that does not.

        ``description`` is the method's.
        """
        key = look(request)
        try:
            return self._fits[key]
        except KeyError:
            pass
        try:
            fit = self._fitted(request, description)
        except InvalidRequest:
            return None  # the ordinary way says what is wrong
        if len(self._fits) >= _LOOKS_REMEMBERED:
            self._fits.clear()
        self._fits[key] = fit
        return fit

    def ticket(
        self,
        request: InferRequest,
        fit: Fit,
        version: int,
        on_end: OnEnd,
    ) -> DirectTicket:
        """Return a ticket for the model's line; ``version`` stands in the answer."""
        given = request.inputs
        inputs = []
        for place, like in fit.given:
            array, shape = given[place].array, like.shape
            assert array is not None
            whole = array if array.shape == shape else array.reshape(shape)
            inputs.append(Tensor(like.name, like.dtype, shape, whole))
        return DirectTicket(request, tuple(inputs), fit, self.line, version, on_end)

    def rows(self, request: InferRequest, description: Description) -> Rows | None:
        """Return how requests of this look, one instance each, go to the model as its rows.

        None where they must go one by one. ``description`` is the method's.
        """
        key = (request.outputs, *[(t.name, t.dtype.code, t.shape[1:]) for t in request.inputs])
        try:
            return self._rows[key]
        except KeyError:
            pass
        if len(self._rows) >= _LOOKS_REMEMBERED:
            self._rows.clear()
        rows = self._rows[key] = self._rows_of(request, description)
        return rows

    def _rows_of(self, request: InferRequest, description: Description) -> Rows | None:
        line = self.line
        outputs = line.description.batch.outputs
        if not line.ties(line.instance_rows) or any(axis != 0 for axis in outputs):
            return None
        first = tuple([_first(tensor) for tensor in request.inputs if tensor.array is not None])
        if len(first) < len(request.inputs):
            return None
        fit = self.fit(request._replace(inputs=first), description)
        if fit is None or fit.admission.rows != line.instance_rows:
            return None
        return Rows(fit.given, fit.taken)

    def _fitted(self, request: InferRequest, description: Description) -> Fit | None:
        if any(tensor.array is None or tensor.dtype is BF16 for tensor in request.inputs):
            return None
        order = order_of(request, description)
        given = tuple([request.inputs[index] for index in order])
        if count(given) != 1:
            return None
        (node,) = self._method.nodes
        values = cut(given, 0)
        asked = self._port.request(tuple([values[ref.output] for ref in node.inputs]), _NO_TERMS)
        admission, shape = self.line.check(asked)
        returns = self._method.returns
        taken = [
            Taken(returns[i].output, self._method.outputs[i], self._port.axis(returns[i].output))
            for i in outputs_of(request, description)
        ]
        places = [order[ref.output] for ref in node.inputs]
        likes = [Tensor(t.name, t.dtype, t.shape) for t in asked.inputs]
        return Fit(tuple(map(_Given, places, likes)), admission, shape, tuple(taken))


class DirectTicket(Ticket):
    """A ticket of a model's line whose answer is that of a method; ``OnEnd`` counts it there.

    Its request is the method's, while ``inputs`` are as the model takes them.
    """

    __slots__ = ("_on_end", "_taken", "_version")

    def __init__(
        self,
        request: InferRequest,
        inputs: tuple[Tensor, ...],
        fit: Fit,
        line: Line,
        version: int,
        on_end: OnEnd,
    ) -> None:
        super().__init__(request, fit.admission, fit.shape, line, time.monotonic())
        self.inputs = inputs
        self._taken = fit.taken
        self._version = version
        self._on_end = on_end

    def succeed(self, response: InferResponse) -> None:
        """Answer with the model's outputs as the method returns them; axis 0 counts instances."""
        found = response.outputs
        try:
            response.outputs = tuple([taken_of(found[t.place], t) for t in self._taken])
        except InternalError as error:
            response.release()
            self.fail(error)
            return
        response.servable = self.request.servable
        response.version = self._version
        self._on_end(self, None)
        super().succeed(response)

    def fail(self, error: ServingError) -> None:
        """Answer with an error."""
        self._on_end(self, error)
        super().fail(error)


def taken_of(tensor: Tensor, wanted: Taken, count: int = 1) -> Tensor:
    """Return an output of the model as one of a method: so many instances, on axis 0.

    Of several the model has the rows of all behind one another.
    """
    shape, axis = tensor.shape, wanted.axis
    if axis is None:
        shape = (1, *shape) if count == 1 else (count, shape[0] // count, *shape[1:])
    else:
        if axis >= len(shape) or shape[axis] != count:
            raise InternalError(f"output {tensor.name!r} does not have the one row it should")
        if axis:
            shape = (1, *shape[:axis], *shape[axis + 1 :])
    array = tensor.array
    assert array is not None
    whole = array if array.shape == shape else array.reshape(shape)
    return Tensor(wanted.name, tensor.dtype, shape, whole)


def _first(tensor: Tensor) -> Tensor:
    assert tensor.array is not None
    shape = (1, *tensor.shape[1:])
    return Tensor(tensor.name, tensor.dtype, shape, tensor.array[:1].reshape(shape))
