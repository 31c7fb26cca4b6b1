"""ModelInfer calls that differ in their numbers only; see ``row_form``."""

from __future__ import annotations

from collections.abc import Sequence

from serving.dataplane import DataPlane
from serving.frontends.grpc import v2_codec, wire
from serving.frontends.grpc.row_form import cut, stacked
from serving.frontends.method import Describe
from serving.frontends.raw_tensor import Look
from serving.frontends.rows import LARGEST_BYTES, stacks
from serving.request import Description, InferRequest, InferResponse, VersionName
from serving.tensor import BOOL

Raw = tuple[memoryview, ...]


class V2Rows:
    """The rows of messages with one head: see ``row_form.RowForm``. Each has ``unit`` of them.

    ``model`` is the name that they ask for, ``target`` what that stands for.
    """

    def __init__(
        self,
        model: str,
        target: tuple[str, VersionName | None, str | None],
        description: Description,
        inputs: tuple[Look, ...],
        outputs: tuple[str, ...] | None,
        unit: int,
    ) -> None:
        self._model = model
        self._target = target
        self._description = description
        self._inputs = inputs
        self._outputs = outputs
        self.unit = unit

    @staticmethod
    def of(
        model: str,
        target: tuple[str, VersionName | None, str | None],
        description: Description,
        inputs: tuple[Look, ...],
        outputs: tuple[str, ...] | None,
    ) -> V2Rows | None:
        """Return the form of messages, None where they have none: few rows of numbers have one."""
        numbers = all(look.nbytes and look.dtype is not BOOL for look in inputs)
        short = sum([look.nbytes for look in inputs]) <= LARGEST_BYTES
        units = {look.shape[0] if look.shape else 0 for look in inputs}
        if not (numbers and short and len(units) == 1):
            return None
        (unit,) = units
        if not stacks(description, unit):
            return None
        return V2Rows(model, target, description, inputs, outputs, unit)

    def takes(self, raw: Raw) -> bool:
        """Return whether these are the values of such a message."""
        if len(raw) != len(self._inputs):
            return False
        for data, look in zip(raw, self._inputs, strict=True):  # noqa: SIM110 - all() takes longer
            if len(data) != look.nbytes:
                return False
        return True

    def holds(self, describe: Describe) -> bool:
        """Return whether the name still stands for the model that was described."""
        return describe(*self._target) is self._description

    def request(self, texts: Sequence[Raw]) -> InferRequest:
        """Return the request of all rows; a text is what ``takes`` takes."""
        columns = zip(*texts, strict=True)
        inputs = [stacked(look, parts) for look, parts in zip(self._inputs, columns, strict=True)]
        known = self._description
        return InferRequest(
            known.servable,
            tuple(inputs),
            version=self._target[1],
            method=self._target[2],
            outputs=self._outputs,
            generation=known.generation,
        )

    def written(self, response: InferResponse, count: int) -> list[bytes] | None:
        """Return the answers to so many calls, if all their outputs are short and numbers."""
        columns: list[list[bytes]] = []
        looks: list[tuple[str, str, tuple[int, ...]]] = []
        for tensor in response.outputs:
            if tensor.array is None:
                return None
            size = tensor.array.nbytes // count
            if size > LARGEST_BYTES:
                return None
            columns.append(cut(wire.before_raw_output(size), tensor, count))
            looks.append((tensor.name, tensor.dtype.name, (self.unit, *tensor.shape[1:])))
        head = v2_codec.head(self._model, response.version, tuple(looks))
        if len(columns) == 1:
            return [head + text for text in columns[0]]
        return [head + b"".join(parts) for parts in zip(*columns, strict=True)]

    def one(self, response: InferResponse) -> bytes:
        """Return the answer to a call; raises a ``ServingError``."""
        return v2_codec.encode(self._model, response)

    def failed(self, error: BaseException, _plane: DataPlane) -> BaseException:
        """Return the error: the call ends with its status, and is counted there."""
        return error
