"""The path to which TensorFlow Serving's and KServe's first clients POST.

It is ``/v1/models/{name}[/versions/{number}|/labels/{label}]:predict``; what they ask with GET is
in ``tf_routes``.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from serving.frontends import version_name
from serving.frontends.method import Describe
from serving.frontends.rest import names, status, tf_codec, tf_row_form
from serving.frontends.rest.exchange import Exchange
from serving.frontends.rest.row_form import Cut
from serving.frontends.rest.tf_codec import TfCall
from serving.frontends.rest.wire import Headers
from serving.frontends.tensorflow import target
from serving.frontends.tensorflow.target import Target

START = b"/v1/models/"
_PATH = re.compile(
    rb"/v1/models/(?P<name>%(text)b+)"
    rb"(?:/versions/(?P<version>%(text)b+)|/labels/(?P<label>%(text)b+))?%(colon)bpredict"
    % {b"text": names.BEFORE_COLON, b"colon": names.COLON}
)


_NEWEST = "0"
"""A version's number that stands for the newest: see ``target.number``."""


def find(raw_path: bytes) -> TfRoute | None:
    """Return the format of a path as the client wrote it, None for any other; raises NotFound."""
    found = _PATH.fullmatch(raw_path)
    if found is None:
        return None
    name, version, label = (None if part is None else _decoded(part) for part in found.groups())
    assert name is not None
    return TfRoute(target_of(name, version, label))


def target_of(name: str, version: str | None = None, label: str | None = None) -> Target:
    """Return what the parts of a path ask for; raises NotFound for what can be none."""
    servable = names.check(name)
    if label is not None:
        return Target(servable, target.label(label, "path"))
    if version is None or version == _NEWEST:
        return Target(servable)
    return Target(servable, version_name.read(version, "path"))


class TfRoute:
    """One path's codec."""

    __slots__ = ("_target",)
    error = staticmethod(status.v2_error)
    exchange = Exchange

    def __init__(self, asked: Target) -> None:
        self._target = asked

    def decode(self, body: bytes, headers: Headers, describe: Describe, now: float) -> TfCall:
        """Decode a body; raises a ``ServingError``."""
        return tf_codec.decode(self._target, body, headers, describe, now)

    def cut(self, body: bytes, headers: Headers, describe: Describe, /) -> Cut | None:
        """Return what a body has in common with others but for numbers, if anything."""
        return tf_row_form.cut(self._target, body, headers, describe)

    def decodes_fast(self, _size: int, _headers: Headers, _describe: Describe, /) -> bool:
        """Return False: every number is read from text."""
        return False


def _decoded(segment: bytes) -> str:
    return unquote_to_bytes(segment).decode("utf-8", "replace")
