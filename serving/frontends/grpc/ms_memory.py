"""The shared memory objects that one message of MindSpore Serving's clients names.

Its tensors name an object themselves (``ShmTensorData``), call by call; who may, and which
objects, is as for the regions of V2. Any thread.
"""

from __future__ import annotations

from serving.errors import InvalidRequest, NotFound, Overloaded, ServingError, Status, TooLarge
from serving.frontends.grpc.stubs import ms_service_pb2 as pb
from serving.frontends.shared_memory.region import Region
from serving.frontends.shared_memory.regions import LARGEST, Regions

MOST_OBJECTS = 64
"""Objects that one message may have open."""

_WHERE = "shm_data"


class NotOpened(ServingError):
    """An object that cannot be opened, in MindSpore Serving's words."""

    status = Status.FAILED_PRECONDITION
    code = "no_shared_memory_object"


class Memory:
    """Made for a message of a client that may use shared memory; opens each object once."""

    def __init__(self, regions: Regions) -> None:
        self._limit = self._left = regions.request_bytes
        self._open: dict[tuple[str, int], Region] = {}

    def read(self, given: pb.ShmTensorData) -> memoryview:
        """Return a copy of an input's bytes; raises a ``ServingError``."""
        region = self._region(given)
        region.check(given.data_offset, given.data_size, _WHERE)
        if given.data_size > self._left:
            raise TooLarge(
                "the request's tensors in shared memory are too large",
                expected=f"at most {self._limit} bytes",
            )
        self._left -= given.data_size
        return region.read(given.data_offset, given.data_size, _WHERE)

    def check(self, given: pb.ShmTensorData) -> None:
        """See that an output can be written there; raises a ``ServingError``."""
        self._region(given).check(given.data_offset, given.data_size, _WHERE)

    def write(self, given: pb.ShmTensorData, data: memoryview) -> bytes:
        """Write an output; return the serialised place that the reply names."""
        if len(data) > given.data_size:
            raise InvalidRequest(
                "the output does not fit its place in shared memory",
                code="region_too_small",
                expected=f"{len(data)} bytes",
                given=f"data_size {given.data_size}",
            )
        self._region(given).write(given.data_offset, data, _WHERE)
        place = pb.ShmTensorData()
        place.CopyFrom(given)
        place.data_size = len(data)
        return bytes(place.SerializeToString())

    def _region(self, given: pb.ShmTensorData) -> Region:
        key, size = given.memory_key, given.bytes_size
        region = self._open.get((key, size))
        if region is not None:
            return region
        if len(self._open) >= MOST_OBJECTS:
            raise Overloaded(
                "the message names too many shared memory objects",
                code="too_many_regions",
                expected=f"at most {MOST_OBJECTS}",
            )
        try:
            region = Region.open(f"object {key[:80]!r}", key, 0, min(size, LARGEST), _WHERE)
        except NotFound:
            raise NotOpened(f"Failed to shm_open {key[:80]} , errno: 2") from None
        self._open[key, size] = region
        return region
