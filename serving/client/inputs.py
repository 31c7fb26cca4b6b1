"""The inputs of one request, however they were given: by name, in order, or the only one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.client import values
from serving.errors import InvalidRequest, listing
from serving.request import Description
from serving.tensor import Tensor


def to_tensors(inputs: Any, known: Description) -> list[Tensor]:
    """Return the inputs as tensors of the declared dtypes.

    ``inputs`` is a mapping by name, a tuple in the signature's order, or the one input itself.
    A name that is not known goes to the server, which says so.
    """
    specs = {spec.name: spec for spec in known.signature.inputs}
    given = by_name(inputs, list(specs), known.servable)
    return [values.to_tensor(name, value, specs.get(name)) for name, value in given.items()]


def by_name(inputs: Any, names: list[str], servable: str) -> Mapping[str, Any]:
    """Return inputs by name, however they were given; raises InvalidRequest."""
    if isinstance(inputs, Mapping):
        return inputs
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    if len(given) != len(names):
        raise InvalidRequest(
            f"servable {servable!r} has {len(names)} inputs",
            code="wrong_count",
            where="inputs",
            expected=f"a dict with {listing(names)}, or a tuple in this order",
            given=f"{len(given)} without a name",
        )
    return dict(zip(names, given, strict=True))
