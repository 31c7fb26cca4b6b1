"""Remember how to read a V2 request: its JSON part is the same for requests alike.

Clients that send tensors as binary data repeat the JSON part byte for byte, so it is understood
once; then the bytes behind it are only viewed as the tensors it named. So do clients whose tensors
lie in shared memory: of their requests the JSON part is all.
"""

from __future__ import annotations

from typing import NamedTuple

from serving.frontends import raw_tensor
from serving.frontends.classification import Classes
from serving.frontends.shared_memory.sharing import Sharing
from serving.frontends.v2_parameters import NONE, Parameters
from serving.request import Description
from serving.tensor import Tensor

LONGEST_HEAD = 4096
_MOST_RECIPES = 2048


class Wanted(NamedTuple):
    """What a request asks for beside its inputs; ``outputs`` None is all of them."""

    outputs: tuple[str, ...] | None = None
    binary: dict[str, bool] = {}  # noqa: RUF012  (never written to)
    parameters: Parameters = NONE
    classes: Classes | None = None


class Recipe(NamedTuple):
    """The tensors in the order of their bytes; ``order[i]`` is where input i stands among them."""

    description: Description
    tensors: tuple[raw_tensor.Look, ...]
    order: tuple[int, ...]
    wanted: Wanted

    def inputs(self, tail: memoryview) -> tuple[Tensor, ...] | None:
        """Return views of the bytes in signature order; None when their number is wrong.

        Raises InvalidRequest for a BOOL that is neither 0 nor 1.
        """
        found: list[Tensor] = []
        at = 0
        for look in self.tensors:
            data = tail[at : at + look.nbytes]
            at += look.nbytes
            if len(data) != look.nbytes:
                return None
            found.append(look.read(data))
        return tuple([found[i] for i in self.order]) if at == len(tail) else None


class SharedRecipe(NamedTuple):
    """The whole of a request that shares memory; ``inputs`` that lie there have no elements."""

    description: Description
    inputs: tuple[Tensor, ...]
    sharing: Sharing
    wanted: Wanted


_recipes: dict[tuple[int, bytes], Recipe] = {}
_shared: dict[tuple[int, bytes], SharedRecipe] = {}


def find(description: Description, head: bytes) -> Recipe | None:
    """Return the recipe for a JSON part that was seen before for the very same description."""
    recipe = _recipes.get((id(description), head))
    return None if recipe is None or recipe.description is not description else recipe


def remember(
    description: Description,
    head: bytes,
    inputs: tuple[Tensor, ...],
    names: list[str],
    wanted: Wanted,
) -> None:
    """Keep what a JSON part meant; ``names`` are the inputs in the order of their binary data.

    Does nothing where some inputs were not binary, or are strings, which have no fixed size.
    """
    if len(head) > LONGEST_HEAD or len(names) != len(inputs):
        return
    if any(tensor.dtype.is_bytes for tensor in inputs):
        return
    looks = {t.name: raw_tensor.Look.of(t) for t in inputs}
    order = tuple([names.index(tensor.name) for tensor in inputs])
    if len(_recipes) >= _MOST_RECIPES:
        _recipes.clear()
    tensors = tuple([looks[name] for name in names])
    _recipes[id(description), head] = Recipe(description, tensors, order, wanted)


def find_shared(description: Description, body: bytes) -> SharedRecipe | None:
    """Return the recipe for a request that was seen before for the very same description."""
    if not _shared:
        return None
    recipe = _shared.get((id(description), body))
    return None if recipe is None or recipe.description is not description else recipe


def remember_shared(
    description: Description,
    body: bytes,
    inputs: tuple[Tensor, ...],
    sharing: Sharing,
    wanted: Wanted,
) -> None:
    """Keep what a request without binary data and without an id meant."""
    if len(body) > LONGEST_HEAD:
        return
    if len(_shared) >= _MOST_RECIPES:
        _shared.clear()
    _shared[id(description), body] = SharedRecipe(description, inputs, sharing, wanted)
