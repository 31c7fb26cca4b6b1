"""The request parameters of V2 that this server acts on; the others go to the servable.

Sources: the Open Inference Protocol's ``parameters`` and Triton's extensions of it: parameters
(reserved names), schedule policy (``priority``, ``timeout``) and sequence (``sequence_id``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from serving.errors import InvalidRequest
from serving.frontends.method import checked

Scalar = str | int | float | bool

_MAX_TIMEOUT_US = 24 * 3600 * 1_000_000
_MAX_PRIORITY = 2**31 - 1
_EMPTY_FINAL = "triton_enable_empty_final_response"


@dataclass(frozen=True)
class Parameters:
    """A request's parameters, understood.

    ``priority`` is the data plane's (0 the most urgent): V2 counts from 1, and its 0 means "not
    said". ``timeout_s`` is None without a limit. ``method`` is empty where it is not said.
    ``custom`` are those left for the servable.
    """

    method: str = ""
    priority: int = 0
    timeout_s: float | None = None
    sequence: str = ""
    binary_data_output: bool = False
    custom: Mapping[str, Scalar] = field(default_factory=dict)


NONE = Parameters()


def understand(given: Mapping[str, Scalar], where: str = "parameters") -> Parameters:
    """Sort out a request's parameters.

    Raises InvalidRequest for a wrong type or a name that is reserved for servers, and NotFound for
    what can be no method.
    """
    custom = dict(given)
    # Triton's clients ask so for an empty message behind the last of many answers to a request;
    # here every answer is the last, and says so.
    boolean(custom.pop(_EMPTY_FINAL, False), f"{where}.{_EMPTY_FINAL}")
    for name in custom:
        if name == "headers" or name.startswith("triton_"):
            raise InvalidRequest(
                f"parameter {name[:80]!r} is reserved for servers",
                code="reserved_parameter",
                where=where,
                fix="choose another name",
            )
    priority = integer(custom.pop("priority", 0), f"{where}.priority", _MAX_PRIORITY)
    timeout_us = integer(custom.pop("timeout", 0), f"{where}.timeout", _MAX_TIMEOUT_US)
    return Parameters(
        method=_method(custom.pop("method", ""), f"{where}.method"),
        priority=max(0, priority - 1),
        timeout_s=timeout_us / 1e6 if timeout_us else None,
        sequence=_sequence(custom, where),
        binary_data_output=boolean(
            custom.pop("binary_data_output", False), f"{where}.binary_data_output"
        ),
        custom=custom,
    )


def _method(value: Scalar, where: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(
            "a parameter has the wrong type",
            code="bad_parameter",
            where=where,
            expected="the name of a method",
            given=repr(value)[:60],
        )
    return checked(value, where)


def _sequence(custom: dict[str, Scalar], where: str) -> str:
    key = custom.pop("sequence_id", 0)
    if isinstance(key, str):
        return key
    return str(number) if (number := integer(key, f"{where}.sequence_id", 2**64 - 1)) else ""


def refuse_input_parameters(given: Mapping[str, Scalar], where: str) -> None:
    """Raise InvalidRequest for an input's parameters that only outputs have.

    Those about shared memory are left to ``serving.frontends.shared_memory``.
    """
    if given.get("classification"):
        raise InvalidRequest(
            "only outputs have classes",
            code="bad_parameter",
            where=f"{where}.classification",
            fix="say it in the parameters of a wanted output",
        )


def other_method(named: str, said: str) -> InvalidRequest:
    """Return the error for parameters that ask for another method than the model's name."""
    return InvalidRequest(
        "the parameters name another method than the model's name does",
        code="bad_parameter",
        where="parameters.method",
        expected=repr(named[:80]),
        given=repr(said[:80]),
    )


def says_text(given: Mapping[str, Scalar]) -> bool:
    """Return whether a tensor's parameters say that its BYTES are text (MLServer's content types).

    Matters only where a method takes both.
    """
    return given.get("content_type") == "str"


def integer(value: Scalar, where: str, most: int) -> int:
    """Return a parameter that must be an integer from 0 to ``most``."""
    if type(value) is not int or not 0 <= value <= most:
        raise InvalidRequest(
            "a parameter has the wrong value",
            code="bad_parameter",
            where=where,
            expected=f"an integer from 0 to {most}",
            given=repr(value)[:60],
        )
    return value


def boolean(value: Scalar, where: str) -> bool:
    """Return a parameter that must be true or false."""
    if not isinstance(value, bool):
        raise InvalidRequest(
            "a parameter has the wrong type",
            code="bad_parameter",
            where=where,
            expected="true or false",
            given=repr(value)[:60],
        )
    return value
