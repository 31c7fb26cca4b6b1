"""V2 calls that bring short rows as binary data behind one JSON part; see ``row_form``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from serving.frontends import raw_tensor
from serving.frontends.method import Describe
from serving.frontends.rest import json_answer, v2_answer
from serving.frontends.rest.row_form import Cut, Written, stacks
from serving.frontends.rest.v2_call import HEADER_LENGTH, V2Call
from serving.frontends.rest.v2_recipe import Recipe
from serving.frontends.rest.wire import Reply
from serving.frontends.rows import LARGEST_BYTES
from serving.request import InferRequest, InferResponse, VersionName
from serving.tensor import BOOL, Tensor

_MOST_FORMS = 2048
_MOST_HEADS = 64
_BINARY = b"application/octet-stream"


class _Head(NamedTuple):
    """The JSON part of an answer, and the header field that tells how long it is."""

    text: bytes
    fields: tuple[tuple[bytes, bytes], ...]


class V2BinaryRows:
    """The rows of one recipe that come to one URL."""

    def __init__(self, model: str, version: VersionName | None, recipe: Recipe) -> None:
        self.model = model
        self.version = version
        self.recipe = recipe
        self.unit = recipe.tensors[0].shape[0]
        self._binary = recipe.wanted.binary
        self._default = recipe.wanted.parameters.binary_data_output
        self._heads: dict[tuple[int, tuple[v2_answer.Look, ...]], _Head] = {}

    def holds(self, describe: Describe) -> bool:
        """Return whether the URL still stands for the version that the recipe is of."""
        return describe(self.model, self.version, None) is self.recipe.description

    def request(self, texts: Sequence[bytes]) -> InferRequest | None:
        """Return the request of all calls; a text is the elements of one."""
        (look,) = self.recipe.tensors
        flat = np.frombuffer(b"".join(texts), look.dtype.numpy)
        array = flat.reshape((len(texts) * self.unit, *look.shape[1:]))
        return self._request(Tensor(look.name, look.dtype, array.shape, array))

    def written(self, response: InferResponse) -> Written | None:
        """Return the answers to all calls, if all their outputs are short and binary."""
        unit = self.unit
        columns: list[json_answer.Rows] = []
        looks: list[v2_answer.Look] = []
        for tensor in response.outputs:
            array = tensor.array
            if array is None or not self._binary.get(tensor.name, self._default):
                return None
            size = array.nbytes * unit // len(array)
            if size > LARGEST_BYTES:
                return None
            data = array.tobytes()
            texts = [data[at : at + size] for at in range(0, len(data), size)]
            looks.append((tensor.name, tensor.dtype.name, (unit, *tensor.shape[1:]), size))
            columns.append(json_answer.Rows(b"", texts, b""))
        head = self._head(response.version, tuple(looks))
        before, texts, after = json_answer.side_by_side(columns)
        return Written(Reply(b"", _BINARY, head.fields), head.text + before, texts, after)

    def one(self, response: InferResponse) -> Reply | None:
        """Return the answer to a call, if all of it is binary."""
        if response.parameters:
            return None
        looks: list[v2_answer.Look] = []
        data: list[bytes | memoryview] = []
        for tensor in response.outputs:
            name = tensor.name
            if tensor.array is None or not self._binary.get(name, self._default):
                return None
            data.append(raw_tensor.write(tensor))
            looks.append((name, tensor.dtype.name, tensor.shape, len(data[-1])))
        key = response.version, tuple(looks)
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            head = self._heads[key] = self._head(*key)
        return Reply(b"".join([head.text, *data]), _BINARY, head.fields)

    def call(self) -> V2Call:
        """Return one of the calls."""
        (look,), wanted = self.recipe.tensors, self.recipe.wanted
        request = self._request(Tensor(look.name, look.dtype, look.shape))
        known = self.recipe.description
        return V2Call(self.model, known, request, "", self._default, wanted.binary)

    def _head(self, version: int, looks: tuple[v2_answer.Look, ...]) -> _Head:
        begin, starts = v2_answer.frame(self.model, version, looks)
        text = b"".join([begin, *starts, b"}]}"])
        return _Head(text, ((HEADER_LENGTH, b"%d" % len(text)),))

    def _request(self, tensor: Tensor) -> InferRequest:
        known = self.recipe.description
        return InferRequest(
            known.servable,
            (tensor,),
            version=self.version,
            outputs=self.recipe.wanted.outputs,
            generation=known.generation,
        )


_forms: dict[tuple[str, VersionName | None, int], V2BinaryRows] = {}


def cut(model: str, version: VersionName | None, head_bytes: int, recipe: Recipe) -> Cut | None:
    """Return the form of bodies of a recipe for a URL, None where there is none; always the same.

    Their JSON part has ``head_bytes``.
    """
    if len(recipe.tensors) != 1 or not _is_plain(recipe):
        return None
    (look,) = recipe.tensors
    if look.dtype is BOOL or not 0 < look.nbytes <= LARGEST_BYTES:
        return None
    if not look.shape or not stacks(recipe.description, look.shape[0]):
        return None
    key = model, version, id(recipe)
    form = _forms.get(key)
    if form is None or form.recipe is not recipe:
        if len(_forms) >= _MOST_FORMS:
            _forms.clear()
        form = _forms[key] = V2BinaryRows(model, version, recipe)
    return Cut(form, head_bytes, 0)


def _is_plain(recipe: Recipe) -> bool:
    """Return whether nothing is asked for that concerns one request alone."""
    if recipe.wanted.classes is not None:
        return False
    asked = recipe.wanted.parameters
    urgent = asked.timeout_s is not None or asked.priority or asked.sequence
    return not urgent and not asked.custom and not asked.method
