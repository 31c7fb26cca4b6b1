"""Which tensors of a V2 request lie in regions: what its parameters say, and what is done then.

Source: Triton's system shared memory extension: ``shared_memory_region``, ``_byte_size`` and
``_offset`` (into the region) stand among the parameters of an input or of a wanted output.

Codecs collect the parameters and leave inputs without elements (``Sharing``); then the regions are
looked up (``Shared``, on the event loop). Large numbers stay where they are: the worker that runs
them copies them (``elsewhere``). Other tensors are read and written here (on any thread).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from serving.errors import InvalidRequest, TooLarge
from serving.frontends import raw_tensor, v2_parameters
from serving.frontends.fit import check_text
from serving.frontends.plan import InputPlan, plan_for
from serving.frontends.shared_memory.region import Region
from serving.frontends.shared_memory.regions import LARGEST, Regions
from serving.frontends.v2_parameters import Scalar
from serving.request import Description, Elsewhere, FileSpan, InferRequest
from serving.tensor import BOOL, TEXT, Tensor, element_count

ON_LOOP_BYTES = 1 << 20
"""More is read and written where others do not wait for it."""

ELSEWHERE_BYTES = 32 << 10
"""Less is copied faster here than a worker is told where it lies."""

MOST_ELSEWHERE = 16
"""Tensors of one request that its worker copies: a run has many requests, and one message."""

_PREFIX = "shared_memory_"
_REGION, _SIZE, _OFFSET = f"{_PREFIX}region", f"{_PREFIX}byte_size", f"{_PREFIX}offset"


def of(parameters: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return those of a tensor's parameters that are about shared memory."""
    return {name: value for name, value in parameters.items() if name.startswith(_PREFIX)}


class Sharing(NamedTuple):
    """The parameters of those tensors that lie in regions, by name; none of them checked."""

    inputs: Mapping[str, Mapping[str, Scalar]]
    outputs: Mapping[str, Mapping[str, Scalar]]

    @property
    def where(self) -> str:
        """A place in the request where shared memory is asked for."""
        for side, tensors in (("inputs", self.inputs), ("outputs", self.outputs)):
            for name, parameters in tensors.items():
                return f"{side}.{name}.parameters.{next(iter(parameters))}"
        return ""

    def found(self, regions: Regions) -> Shared:
        """Look the regions up. Raises InvalidRequest, NotFound, and TooLarge."""
        shared = Shared(
            {name: _place(p, f"inputs.{name}", regions) for name, p in self.inputs.items()},
            {name: _place(p, f"outputs.{name}", regions) for name, p in self.outputs.items()},
        )
        if shared.input_bytes > regions.request_bytes:
            raise TooLarge(
                "the request's tensors in shared memory are too large",
                expected=f"at most {regions.request_bytes} bytes",
                given=f"{shared.input_bytes} bytes",
                limit=regions.request_bytes,
            )
        return shared


def given(
    inputs: Mapping[str, Mapping[str, Scalar]], outputs: Mapping[str, Mapping[str, Scalar]]
) -> Sharing | None:
    """Return what is shared, None where nothing is."""
    return Sharing(inputs, outputs) if inputs or outputs else None


class Place(NamedTuple):
    """``size`` bytes from ``at`` on of a region; ``name`` is the region's."""

    name: str
    region: Region
    at: int
    size: int


class Shared(NamedTuple):
    """Where the tensors lie; it holds the regions, so that they can be unregistered meanwhile."""

    inputs: Mapping[str, Place]
    outputs: Mapping[str, Place]

    @property
    def input_bytes(self) -> int:
        """How much there is to read."""
        return sum(place.size for place in self.inputs.values())

    @property
    def output_bytes(self) -> int:
        """How much there may be to write."""
        return sum(place.size for place in self.outputs.values())

    def check(self) -> None:
        """Raise InvalidRequest for a place that is not in its object any more."""
        for side, places in (("inputs", self.inputs), ("outputs", self.outputs)):
            for name, place in places.items():
                place.region.check(place.at, place.size, f"{side}.{name}.parameters")

    def elsewhere(self, request: InferRequest, description: Description) -> Elsewhere | None:
        """Return where a worker finds the tensors; None for those that are to be copied here.

        It copies bytes as they are, rows from one place to another: nothing of a pipeline, no
        strings, no BOOL (which has to be looked at), no rows on another axis than the first or more
        than a batch has (of which each run would copy a little), and nothing that has not the size
        of its shape.
        """
        count = len(self.inputs) + len(self.outputs)
        size = self.input_bytes + self.output_bytes
        if description.method or count > MOST_ELSEWHERE or size < ELSEWHERE_BYTES:
            return None
        plans = plan_for(description).by_name
        for tensor in request.inputs:
            place = self.inputs.get(tensor.name)
            if place is not None and not _as_it_is(tensor, place, plans[tensor.name], description):
                return None
        return Elsewhere(_spans(self.inputs), _spans(self.outputs))

    def fill(self, request: InferRequest) -> InferRequest:
        """Return the request with the elements of its inputs.

        They are copied, so that what is checked is what runs. Raises InvalidRequest.
        """
        return request._replace(inputs=tuple([self._filled(t) for t in request.inputs]))

    def _filled(self, tensor: Tensor) -> Tensor:
        name, dtype, shape = tensor.name, tensor.dtype, tensor.shape
        place = self.inputs.get(name)
        if place is None:
            return tensor
        where = f"inputs.{name}"
        data = place.region.read(place.at, place.size, where)
        value = raw_tensor.read(data, dtype, shape, name, where)
        if dtype is TEXT:
            check_text(value.items or (), where)
        return Tensor(name, dtype, shape, value.array, value.items)

    def store(
        self, outputs: Iterable[Tensor], stored: Collection[str] = ()
    ) -> dict[str, dict[str, str | int]]:
        """Write outputs to their places; return the parameters that say so, by name.

        Those in ``stored`` are there already. Raises InvalidRequest for one that does not fit.
        """
        told: dict[str, dict[str, str | int]] = {}
        for tensor in outputs:
            place = self.outputs.get(tensor.name)
            if place is not None:
                size = tensor.nbytes if tensor.name in stored else _write(tensor, place)
                told[tensor.name] = {_REGION: place.name, _SIZE: size}
                if place.at:
                    told[tensor.name][_OFFSET] = place.at
        return told


def _as_it_is(tensor: Tensor, place: Place, plan: InputPlan, description: Description) -> bool:
    dtype = tensor.dtype
    if dtype.is_bytes or dtype is BOOL or not place.size:
        return False
    if place.size != element_count(tensor.shape) * dtype.itemsize:
        return False
    if not description.batch.batched:
        return True
    return plan.axis == 0 and tensor.shape[0] <= description.max_batch_size


def _spans(places: Mapping[str, Place]) -> dict[str, FileSpan]:
    return {name: place.region.span(place.at, place.size) for name, place in places.items()}


def _write(tensor: Tensor, place: Place) -> int:
    data, where = raw_tensor.write(tensor), f"outputs.{tensor.name}"
    if len(data) > place.size:
        raise InvalidRequest(
            "the output does not fit its place in shared memory",
            code="region_too_small",
            where=where,
            expected=f"{len(data)} bytes",
            given=f"{_SIZE} {place.size}",
            fix="make the region larger, or leave it out for this output",
        )
    place.region.write(place.at, data, where)
    return len(data)


def _place(parameters: Mapping[str, Scalar], where: str, regions: Regions) -> Place:
    where = f"{where}.parameters"
    for word in parameters:
        if word not in (_REGION, _SIZE, _OFFSET):
            raise InvalidRequest(
                f"parameter {word[:80]!r} is not known",
                code="bad_parameter",
                where=where,
                expected=f"{_REGION}, {_SIZE}, {_OFFSET}",
            )
    name = parameters.get(_REGION)
    if not isinstance(name, str) or _SIZE not in parameters:
        raise InvalidRequest(
            "a tensor in shared memory needs the name of its region, and its size",
            code="bad_parameter",
            where=where,
            expected=f"{_REGION} (text) and {_SIZE} (integer)",
        )
    size = v2_parameters.integer(parameters[_SIZE], f"{where}.{_SIZE}", LARGEST)
    at = v2_parameters.integer(parameters.get(_OFFSET, 0), f"{where}.{_OFFSET}", LARGEST)
    region = regions.find(name, f"{where}.{_REGION}")
    region.check(at, size, where)
    return Place(name, region, at, size)
