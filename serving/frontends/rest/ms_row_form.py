"""Calls of MindSpore Serving's clients with one instance of plain numbers; see ``row_form``."""

from __future__ import annotations

from collections.abc import Sequence

from serving.frontends.method import Describe
from serving.frontends.mindspore import instances
from serving.frontends.mindspore.instances import Common
from serving.frontends.mindspore.target import Target
from serving.frontends.plan import plan_for
from serving.frontends.rest import json_answer, ms_plain
from serving.frontends.rest.ms_codec import MsCall
from serving.frontends.rest.ms_plain import LARGEST_BYTES
from serving.frontends.rest.one_row import Forms, OneRow
from serving.frontends.rest.plain_numbers import Packer
from serving.frontends.rest.row_form import Cut, Written
from serving.frontends.rest.wire import Reply
from serving.request import Description, InferRequest, InferResponse
from serving.tensor import Array, Tensor, element_count

_NOBODY = Common("", None)


class MsRows:
    """The rows that come to one URL."""

    unit = 1

    def __init__(self, target: Target, description: Description, packer: Packer) -> None:
        self.description = description
        self._target = target
        self._packer = packer
        (self._spec,) = description.signature.inputs
        (item,) = plan_for(description).inputs
        sizes = tuple([size for size in item.row or () if isinstance(size, int)])
        kind = self._spec.dtype.numpy
        self._points = element_count(sizes) if kind is not None and kind.kind == "f" else 0
        self._answer = ms_plain.starts(description)

    def holds(self, describe: Describe) -> bool:
        """Return whether the URL still stands for the version that the rows are for."""
        return self._target.find(describe) is self.description

    def request(self, texts: Sequence[bytes]) -> InferRequest | None:
        """Return the request of all rows; a text is what stands within a list's brackets.

        An integer is none of these clients' fractions: see ``ms_plain``.
        """
        points = self._points
        for text in texts:
            if text.count(b".") != points:
                return None
        array = self._packer.rows(texts)
        return None if array is None else self._request(array.shape, array)

    def written(self, response: InferResponse) -> Written | None:
        """Return the answers to all rows."""
        columns = []
        for start, place, _ in self._answer:
            array = response.outputs[place].array
            if array is None:
                return None
            if array.dtype.kind == "f" and array.dtype.itemsize < 8:
                array = array.astype("<f8")
            column = json_answer.rows(array)
            if column is None:
                return None
            columns.append(column.behind(start))
        before, texts, after = json_answer.side_by_side(columns)
        return Written(Reply(b""), b'{"instances":[' + before, texts, after + b"}]}")

    def one(self, response: InferResponse) -> Reply | None:
        """Return the answer to a row, if it is plain."""
        written = ms_plain.write([response], self.description)
        return None if written is None else Reply(written)

    def call(self) -> MsCall:
        """Return a row as a call."""
        return MsCall(self._target, self.description, (self._request((1,), None),))

    def _request(self, shape: tuple[int, ...], array: Array | None) -> InferRequest:
        tensor = Tensor(self._spec.name, self._spec.dtype, shape, array)
        return instances.request(self.description, (tensor,), self._target, _NOBODY)


def _says_more(body: bytes, row: OneRow) -> bool:
    """Return whether a body has a bare value, other members, or one twice: then it has quotes."""
    return row.name is None or len(row.members) != 1 or body.count(b'"') != 4


_forms = Forms(MsRows, _says_more)


def cut(target: Target, body: bytes, describe: Describe) -> Cut | None:
    """Return the form of a body for a URL, None for one that has none; it is always the same.

    Raises what ``describe`` raises.
    """
    if len(body) > LARGEST_BYTES:
        return None
    return _forms.cut(target, target.find(describe), body)
