"""V2 calls that bring one short row as binary data behind one JSON part; see ``row_form``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.frontends.method import Describe
from serving.frontends.rest import json_answer, v2_answer
from serving.frontends.rest.row_form import Cut, Written, stacks
from serving.frontends.rest.v2_call import HEADER_LENGTH, V2Call
from serving.frontends.rest.v2_recipe import Recipe
from serving.frontends.rest.wire import Reply
from serving.request import InferRequest, InferResponse, VersionName
from serving.tensor import BOOL, Tensor

LARGEST_ROW_BYTES = 8 * 1024
"""Of larger ones the copy that puts them behind one another costs more than it saves."""

_MOST_FORMS = 256
_BINARY = b"application/octet-stream"


class V2BinaryRows:
    """The rows of one recipe that come to one URL."""

    def __init__(self, model: str, version: VersionName | None, recipe: Recipe) -> None:
        self.model = model
        self.version = version
        self.recipe = recipe

    def holds(self, describe: Describe) -> bool:
        """Return whether the URL still stands for the version that the recipe is of."""
        return describe(self.model, self.version, None) is self.recipe.description

    def request(self, texts: Sequence[bytes]) -> InferRequest | None:
        """Return the request of all rows; a text is the elements of one."""
        (look,) = self.recipe.tensors
        flat = np.frombuffer(b"".join(texts), look.dtype.numpy)
        array = flat.reshape((len(texts), *look.shape[1:]))
        return self._request(Tensor(look.name, look.dtype, array.shape, array))

    def written(self, response: InferResponse) -> Written | None:
        """Return the answers to all rows, if all their outputs are short and binary."""
        wanted = self.recipe.wanted
        columns: list[json_answer.Rows] = []
        looks: list[v2_answer.Look] = []
        for tensor in response.outputs:
            array, default = tensor.array, wanted.parameters.binary_data_output
            if array is None or not wanted.binary.get(tensor.name, default):
                return None
            size = array.nbytes // len(array)
            if size > LARGEST_ROW_BYTES:
                return None
            data = array.tobytes()
            texts = [data[at : at + size] for at in range(0, size * len(array), size)]
            looks.append((tensor.name, tensor.dtype.name, (1, *tensor.shape[1:]), size))
            columns.append(json_answer.Rows(b"", texts, b""))
        begin, starts = v2_answer.frame(self.model, response.version, tuple(looks))
        head = b"".join([begin, *starts, b"}]}"])
        before, texts, after = json_answer.side_by_side(columns)
        like = Reply(b"", _BINARY, ((HEADER_LENGTH, b"%d" % len(head)),))
        return Written(like, head + before, texts, after)

    def one(self, response: InferResponse) -> Reply:
        """Return the answer to a row; raises InvalidRequest for what JSON cannot hold."""
        (look,), wanted = self.recipe.tensors, self.recipe.wanted
        request = self._request(Tensor(look.name, look.dtype, look.shape))
        default = wanted.parameters.binary_data_output
        call = V2Call(self.model, self.recipe.description, request, "", default, wanted.binary)
        return call.encode([response])

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
    if len(recipe.tensors) != 1 or not stacks(recipe.description) or not _is_plain(recipe):
        return None
    (look,) = recipe.tensors
    if look.dtype is BOOL or look.shape[0] != 1 or not 0 < look.nbytes <= LARGEST_ROW_BYTES:
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
    asked = recipe.wanted.parameters
    urgent = asked.timeout_s is not None or asked.priority or asked.sequence
    return not urgent and not asked.custom and not asked.method
