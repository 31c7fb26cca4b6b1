"""Stages that bring no code of the user: ``argmax_cpp``, named as in MindSpore Serving."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Callable, Mapping

import numpy as np

from serving.register.values import Unfit

_TYPES = {"bool": "kMSI_Bool", "str": "kMSI_String", "object": "kMSI_String"}


def argmax(x: Any) -> "np.int64":
    """Return where the largest of all elements is, counted in C order."""
    array = np.asarray(x)
    if array.dtype.kind not in "iuf":
        name = _TYPES.get(type(x).__name__) or _TYPES.get(array.dtype.name, array.dtype.name)
        raise Unfit(f"Argmax not support data type {name}")
    if not array.size:
        raise Unfit("Argmax needs at least one element")
    return np.int64(array.argmax())


BUILTIN_CALLS: Mapping[str, Callable[..., Any]] = MappingProxyType({"argmax_cpp": argmax})
"""What runs for each of ``serving.definition.BUILTINS``."""
