"""Calls of ``:predict`` with one instance of plain numbers, as rows; see ``row_form``."""

from __future__ import annotations

from collections.abc import Sequence

from serving.frontends.method import Describe
from serving.frontends.rest import json_answer, tf_answer
from serving.frontends.rest.one_row import Forms, OneRow
from serving.frontends.rest.plain_numbers import Packer
from serving.frontends.rest.predict_call import PredictCall
from serving.frontends.rest.predict_plain import LARGEST_BYTES, MEDIA
from serving.frontends.rest.predict_rows import Group
from serving.frontends.rest.row_form import Cut, Written
from serving.frontends.rest.tf_codec import TfCall
from serving.frontends.rest.wire import Headers, Reply
from serving.frontends.tensorflow.target import DEFAULT_SIGNATURE, Target
from serving.request import Description, InferRequest, InferResponse
from serving.tensor import Array, Tensor

_ALONE = (Group((0,), ()),)


class TfRows:
    """The rows that come to one URL."""

    unit = 1

    def __init__(self, target: Target, description: Description, packer: Packer) -> None:
        self.description = description
        self._target = target
        self._packer = packer
        (self._spec,) = description.signature.inputs
        names = [json_answer.dumps(spec.name) for spec in description.signature.outputs]
        self._starts = [b"%b%b:" % (b"," if place else b"{", n) for place, n in enumerate(names)]

    def holds(self, describe: Describe) -> bool:
        """Return whether the URL still stands for the version that the rows are for."""
        return self._target.described(describe) is self.description

    def request(self, texts: Sequence[bytes]) -> InferRequest | None:
        """Return the request of all rows; a text is what stands within a list's brackets."""
        array = self._packer.rows(texts)
        return None if array is None else self._request(array.shape, array)

    def written(self, response: InferResponse) -> Written | None:
        """Return the answers to all rows."""
        columns = []
        for tensor in response.outputs:
            column = None if tensor.array is None else json_answer.rows(tensor.array)
            if column is None:
                return None
            columns.append(column)
        end = b"]}"
        if len(columns) > 1:
            pairs = zip(self._starts, columns, strict=True)
            columns, end = [column.behind(start) for start, column in pairs], b"}]}"
        before, texts, after = json_answer.side_by_side(columns)
        return Written(Reply(b""), b'{"predictions":[' + before, texts, after + end)

    def one(self, response: InferResponse) -> Reply:
        """Return the answer to a row."""
        description = self.description
        return Reply(tf_answer.predictions(_ALONE, [response], description, stacked=False))

    def call(self) -> TfCall:
        """Return a row as a call."""
        request = self._request((1,), None)
        return TfCall(PredictCall(self.description, (request,), _ALONE, ""), stacked=False)

    def _request(self, shape: tuple[int, ...], array: Array | None) -> InferRequest:
        tensor = Tensor(self._spec.name, self._spec.dtype, shape, array)
        version, known = self._target.version, self.description
        return InferRequest(known.servable, (tensor,), version, generation=known.generation)


def _says_more(body: bytes, row: OneRow) -> bool:
    """Return whether a body says more than a row and the usual signature, or a member twice.

    Then it has more quotes.
    """
    members = row.members
    signature = members.get("signature_name", DEFAULT_SIGNATURE)
    strings = 2 * len(members) - 1 + (row.name is not None)
    return not (
        members.keys() <= {"instances", "signature_name"}
        and signature in ("", DEFAULT_SIGNATURE)
        and body.count(b'"') == 2 * strings
    )


_forms = Forms(TfRows, _says_more)


def cut(target: Target, body: bytes, headers: Headers, describe: Describe) -> Cut | None:
    """Return the form of a body for a URL, None for one that has none; it is always the same.

    Raises what ``describe`` raises.
    """
    if len(body) > LARGEST_BYTES or headers.get(b"content-type") not in MEDIA:
        return None
    description = target.described(describe)
    return None if description.method else _forms.cut(target, description, body)
