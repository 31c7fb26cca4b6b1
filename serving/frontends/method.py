"""How front ends name the methods of a servable, and ask for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from serving.dataplane import DataPlane
from serving.errors import NotFound
from serving.request import Description, VersionName
from serving.v1 import METHOD

Describe = Callable[[str | None, VersionName | None, str | None], Description]
"""``DataPlane.describe``, perhaps asked from another thread."""

_MAX_NAME = 255
_MARK = ":"
"""Between servable and method in the name of a V2 model; no servable's name holds one."""


def split(model: str) -> tuple[str, str | None]:
    """Return servable and method (None: not said) of a V2 model's name; raises NotFound."""
    if _MARK not in model:
        return model, None
    servable, _, method = model.partition(_MARK)
    if not method:
        raise NotFound(
            "the model's name ends where its method should be",
            code="unknown_method",
            where="model name",
        )
    return servable, checked(method, "model name")


def model_name(servable: str, method: str) -> str:
    """Return the name by which a method is a model."""
    return f"{servable}{_MARK}{method}"


def servable_of(model: str) -> str:
    """Return the servable in a name by which something is counted."""
    return model.partition(_MARK)[0]


def checked(method: str, where: str) -> str:
    """Return a method's name; raises NotFound for what can be none.

    Names that pass are short, so that later errors may repeat them and look for similar ones.
    """
    if len(method) <= _MAX_NAME:
        return method
    raise NotFound(f"there is no method {method[:40]!r}...", code="unknown_method", where=where)


def name_of(description: Description) -> str:
    """Return what the described method is called; a model itself has the one ``predict``."""
    return description.method or METHOD


def is_usual(description: Description) -> bool:
    """Return whether the described method is the one that is meant when none is named."""
    return name_of(description) == METHOD or len(description.methods) == 1


def example(description: Description) -> Mapping[str, Any] | None:
    """Return the example that lies beside the servable, if it is one for this method.

    ``request`` is a body of ``POST /predict``.
    """
    found: Mapping[str, Any] | None = description.details.get("example")
    if found is None:
        return None
    named = found["request"].get("method")
    is_its = is_usual(description) if named is None else named == name_of(description)
    return found if is_its else None


def of_model(plane: DataPlane, model: str, version: VersionName | None = None) -> Description:
    """Return the description that a V2 model's name stands for; some method's, if it names none.

    For what all methods have in common, such as readiness. Raises NotFound and Unavailable.
    """
    servable, method = split(model)
    try:
        return plane.describe(servable, version, method)
    except NotFound as error:
        if method is not None or error.code != "unknown_method":
            raise
        methods = plane.methods(servable, version)
        if not methods:
            raise
    return plane.describe(servable, version, methods[0])
