"""V2 calls in JSON that fit one frame, as rows; see ``row_form``."""

from __future__ import annotations

from collections.abc import Sequence

from serving.frontends.method import Describe
from serving.frontends.rest import json_answer, v2_answer, v2_frame
from serving.frontends.rest.row_form import Cut, Written, stacks
from serving.frontends.rest.v2_call import V2Call
from serving.frontends.rest.v2_frame import Frame
from serving.frontends.rest.wire import Reply
from serving.request import Description, InferRequest, InferResponse, VersionName
from serving.tensor import Array, Tensor

_MOST_FORMS = 2048


class V2Rows:
    """The rows of one frame that come to one URL."""

    def __init__(self, model: str, version: VersionName | None, frame: Frame) -> None:
        self.model = model
        self.version = version
        self.frame = frame
        self.unit = frame.plain.inputs[0].shape[0]

    def holds(self, describe: Describe) -> bool:
        """Return whether the URL still stands for the version that the frame is of."""
        return describe(self.model, self.version, None) is self.frame.description

    def request(self, texts: Sequence[bytes]) -> InferRequest | None:
        """Return the request of all calls; a text is what stands within a list's brackets."""
        array = self.frame.packer.rows(texts)
        return None if array is None else self._request(array.shape, array)

    def written(self, response: InferResponse) -> Written | None:
        """Return the answers to all calls."""
        unit = self.unit
        columns: list[json_answer.Rows] = []
        looks: list[v2_answer.Look] = []
        for tensor in response.outputs:
            array, shape = tensor.array, (unit, *tensor.shape[1:])
            if array is None or not v2_answer.is_short(tensor.dtype, shape):
                return None
            column = json_answer.rows(array.reshape(len(array) // unit, -1))
            if column is None:
                return None
            looks.append((tensor.name, tensor.dtype.name, shape, None))
            columns.append(column)
        begin, starts = v2_answer.frame(self.model, response.version, tuple(looks))
        behind = [column.behind(start) for column, start in zip(columns, starts, strict=True)]
        before, texts, after = json_answer.side_by_side(behind)
        return Written(Reply(b""), begin + before, texts, after + b"}]}")

    def one(self, response: InferResponse) -> Reply | None:
        """Return the answer to a call, if it is short and JSON has all its numbers."""
        written = v2_answer.write(self.model, "", response, {}, False)
        return None if written is None else Reply(written.head)

    def call(self) -> V2Call:
        """Return one of the calls."""
        request = self._request((self.unit,), None)
        return V2Call(self.model, self.frame.description, request, "", False, {})

    def _request(self, shape: tuple[int, ...], array: Array | None) -> InferRequest:
        (like,), known = self.frame.plain.inputs, self.frame.description
        return InferRequest(
            known.servable,
            (Tensor(like.name, like.dtype, shape, array),),
            version=self.version,
            outputs=self.frame.plain.outputs,
            generation=known.generation,
        )


_forms: dict[tuple[str, VersionName | None, int], V2Rows] = {}


def cut(
    model: str, version: VersionName | None, body: bytes, description: Description
) -> Cut | None:
    """Return the form of a body for a URL, None for one that has none; it is always the same."""
    found = v2_frame.find(body, description)
    if found is None:
        return None
    frame, at = found
    if not stacks(description, frame.plain.inputs[0].shape[0]):
        return None
    key = model, version, id(frame)
    form = _forms.get(key)
    if form is None or form.frame is not frame:
        if len(_forms) >= _MOST_FORMS:
            _forms.clear()
        form = _forms[key] = V2Rows(model, version, frame)
    return Cut(form, at + 1, len(frame.end) + 1)
