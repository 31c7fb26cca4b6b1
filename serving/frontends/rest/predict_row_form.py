"""Calls of ``POST /predict`` that fit one frame, as rows; see ``row_form``."""

from __future__ import annotations

from collections.abc import Sequence

from serving.frontends.method import Describe
from serving.frontends.rest import json_answer, predict_frame
from serving.frontends.rest.predict_frame import Frame, FramedCall
from serving.frontends.rest.predict_plain import LARGEST_BYTES, MEDIA
from serving.frontends.rest.row_form import Cut, Written
from serving.frontends.rest.wire import Headers, Reply
from serving.request import InferRequest, InferResponse
from serving.tensor import Tensor

_MOST_FORMS = 2048


class PredictRows:
    """The rows of one frame whose numbers stand in lists of known lengths."""

    unit = 1

    def __init__(self, frame: Frame) -> None:
        self.frame = frame

    def holds(self, describe: Describe) -> bool:
        """Return whether the frame's version still is what its bodies ask for."""
        return describe(self.frame.servable, None, None) is self.frame.description

    def request(self, texts: Sequence[bytes]) -> InferRequest | None:
        """Return the request of all rows; a text is what stands within a list's brackets."""
        frame = self.frame
        assert frame.packer is not None
        array = frame.packer.rows(texts)
        if array is None:
            return None
        spec, known = frame.input.spec, frame.description
        tensor = Tensor(spec.name, spec.dtype, array.shape, array)
        return InferRequest(known.servable, (tensor,), generation=known.generation)

    def written(self, response: InferResponse) -> Written | None:
        """Return the answers to all rows."""
        columns = []
        for start, tensor in zip(self.frame.answer, response.outputs, strict=True):
            column = None if tensor.array is None else json_answer.rows(tensor.array)
            if column is None:
                return None
            columns.append(column.behind(start))
        before, texts, after = json_answer.side_by_side(columns)
        return Written(Reply(b""), before, texts, after + b"}]}")

    def one(self, response: InferResponse) -> Reply | None:
        """Return the answer to a row, if JSON has all its numbers."""
        return predict_frame.write(self.frame, response)

    def call(self) -> FramedCall:
        """Return a row as a call."""
        known = self.frame.description
        return FramedCall(self.frame, (InferRequest(known.servable, ()),))


_forms: dict[int, PredictRows] = {}


def cut(body: bytes, headers: Headers) -> Cut | None:
    """Return the form of a body, None for one that has none. Of a frame it is always the same."""
    found = predict_frame.find(body)
    if found is None or len(body) > LARGEST_BYTES or headers.get(b"content-type") not in MEDIA:
        return None
    frame, at = found
    behind = len(frame.end) + 1
    if frame.packer is None or body[at : at + 1] != b"[" or body[-behind:][:1] != b"]":
        return None
    form = _forms.get(id(frame))
    if form is None or form.frame is not frame:
        if len(_forms) >= _MOST_FORMS:
            _forms.clear()
        form = _forms[id(frame)] = PredictRows(frame)
    return Cut(form, at + 1, behind)
