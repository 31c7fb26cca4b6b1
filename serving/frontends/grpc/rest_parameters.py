"""Parameters of V2's REST side, which some clients send over gRPC as well.

There they say which tensors lie behind the JSON, and how long they are. KServe's client writes them
into one request, whichever way that goes.
"""

from __future__ import annotations

from collections.abc import Mapping

from serving.errors import InvalidRequest
from serving.frontends.v2_parameters import Scalar, boolean, integer

_LARGEST = 2**63 - 1
_REQUEST, _OUTPUT, _INPUT = "binary_data_output", "binary_data", "binary_data_size"
_ALL = (_REQUEST, _OUTPUT, _INPUT)


def check_request(given: Mapping[str, Scalar], where: str) -> None:
    """Raise InvalidRequest for what REST has elsewhere, or where it is not a boolean.

    True and false alike mean the raw outputs that gRPC has.
    """
    _check_places(given, _REQUEST, where)
    if _REQUEST in given:
        boolean(given[_REQUEST], f"{where}.{_REQUEST}")


def check_output(given: Mapping[str, Scalar], where: str) -> None:
    """Raise InvalidRequest as ``check_request`` does, for one output."""
    _check_places(given, _OUTPUT, where)
    if _OUTPUT in given:
        boolean(given[_OUTPUT], f"{where}.{_OUTPUT}")


def check_input(given: Mapping[str, Scalar], raw: memoryview | None, where: str) -> None:
    """Raise InvalidRequest for a size that is not that of the input's raw contents."""
    _check_places(given, _INPUT, where)
    if _INPUT not in given:
        return
    size = integer(given[_INPUT], f"{where}.{_INPUT}", _LARGEST)
    if raw is None or size != len(raw):
        raise InvalidRequest(
            "the size of the binary data is not that of the input's raw contents",
            code="wrong_size",
            where=f"{where}.{_INPUT}",
            expected="no such parameter" if raw is None else f"{len(raw)}, or no such parameter",
            given=str(size),
        )


def _check_places(given: Mapping[str, Scalar], here: str, where: str) -> None:
    for name in _ALL:
        if name != here and name in given:
            raise InvalidRequest(
                f"parameter {name!r} belongs to the REST side of the protocol",
                code="bad_parameter",
                where=f"{where}.{name}",
                fix="leave it out: over gRPC outputs are always raw, inputs raw or typed",
            )
