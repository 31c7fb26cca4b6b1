"""What a request of TensorFlow Serving's clients asks for: servable, version or label, signature.

A signature is a method here. No name, and ``serving_default``, are the method that need not be
named: a model's only one, or of several the one called ``predict``.
"""

from __future__ import annotations

from typing import NamedTuple

from serving.errors import InvalidRequest, NotFound
from serving.frontends.method import Describe, checked
from serving.repository.labels import is_label
from serving.request import Description, VersionName
from serving.v1 import METHOD

DEFAULT_SIGNATURE = "serving_default"
_WHERE = "signature_name"
_MAX_NAME = 255


class Target(NamedTuple):
    """A servable, and a version of it or None for the newest."""

    servable: str
    version: VersionName | None = None

    def described(self, describe: Describe, signature: str = "") -> Description:
        """Return the description of what a signature's name stands for.

        Raises NotFound, in the words of these clients where it is the signature, and Unavailable.
        """
        method = None if signature in ("", DEFAULT_SIGNATURE) else checked(signature, _WHERE)
        try:
            return describe(self.servable, self.version, method)
        except NotFound as error:
            if error.code != "unknown_method":
                raise
            raise self._no_signature(method, error) from None

    def _no_signature(self, method: str | None, error: NotFound) -> NotFound:
        problem = "several signatures: name one" if method is None else f"no signature {method!r}"
        is_model = error.expected == repr(METHOD)
        return NotFound(
            f"servable {self.servable!r} has {problem}",
            code="unknown_method",
            where=_WHERE,
            expected=repr(DEFAULT_SIGNATURE) if is_model else error.expected,
            fix=f"leave {_WHERE} out" if is_model else error.fix,
        )


def servable(name: str, where: str) -> str:
    """Return a servable's name; raises for none, and for what can be no name."""
    if not name:
        raise InvalidRequest(
            "the request names no model",
            code="servable_not_named",
            where=where,
            fix="set it to the name of a servable; `serving list` shows them",
        )
    if len(name) > _MAX_NAME:
        raise NotFound(
            f"no servable is called {name[:40]!r}...", code="unknown_servable", where=where
        )
    return name


def number(version: int, where: str) -> int | None:
    """Return a version's number; raises NotFound for what can be none.

    0, which no version has here, is the newest, as OpenVINO's client means it: it always sends one.
    """
    if version >= 0:
        return version or None
    raise NotFound(
        f"there is no version {version}",
        code="unknown_version",
        where=where,
        expected="a positive number, or 0 for the newest",
        fix="leave the version out for the newest",
    )


def label(text: str, where: str) -> str:
    """Return a version's label; raises NotFound for what can be none."""
    if is_label(text):
        return text
    raise NotFound(
        f"there is no label {text[:40]!r}",
        code="unknown_version",
        where=where,
        expected="a label that servable.toml gives to a version",
        fix="ask for a version by its number, or leave it out for the newest",
    )
