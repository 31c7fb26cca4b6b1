"""What is run before a version is READY: samples from files, and made-up ones.

Written by the master from settings, carried out by workers. It travels as JSON. Python 3.9
syntax, standard library only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

RANDOM, ZEROS, FILE = "random", "zeros", "file"


@dataclass(frozen=True)
class Fill:
    """The values of one input: made up (``random``, ``zeros``) or the elements in a ``file``.

    ``shape`` is that of the whole tensor, batch axis included; None leaves it to the signature.
    A file holds elements as V2's binary data has them. ``dtype`` is the name of the data type that
    the settings say it has, empty where they say none.
    """

    values: str = RANDOM
    shape: Optional[Tuple[int, ...]] = None
    file: str = ""
    dtype: str = ""


@dataclass(frozen=True)
class WarmUp:
    """One sample, run ``count`` times.

    Either ``file`` holds a body of ``POST /predict``, or ``inputs`` say how each input is made:
    those that are not named are made up with ``values``, and with ``rows`` rows. A ``required``
    sample that fails keeps its version from being served.
    """

    name: str
    file: str = ""
    inputs: Mapping[str, Fill] = field(default_factory=dict)
    values: str = RANDOM
    rows: int = 1
    count: int = 1
    required: bool = True

    def to_json(self) -> Dict[str, Any]:
        """Return the form that ``from_json`` reads."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "WarmUp":
        """Rebuild what ``to_json`` wrote."""
        inputs = {
            name: Fill(**{**fill, "shape": None if fill["shape"] is None else tuple(fill["shape"])})
            for name, fill in data["inputs"].items()
        }
        return WarmUp(**{**data, "inputs": inputs})
