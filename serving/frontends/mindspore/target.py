"""What a request asks for: servable, method and version, found or refused in the known words."""

from __future__ import annotations

from typing import NamedTuple

from serving.errors import NotFound
from serving.frontends.method import Describe
from serving.request import Description

_MAX_NAME = 255
_MAX_VERSION = 2**32 - 1


class Target(NamedTuple):
    """``version`` 0 is the newest that runs."""

    name: str
    method: str
    version: int

    def missing(self, what: str) -> str:
        """Return the text for a servable or method (``what``) that is not there."""
        version = f" version({self.version}) " if self.version else ""
        name, method = self.name[:_MAX_NAME], self.method[:_MAX_NAME]
        return f"Request servable({name}) method({method}) {version}, {what} is not available"

    def find(self, describe: Describe) -> Description:
        """Return the description; raises NotFound or Unavailable."""
        if not 0 < len(self.name) <= _MAX_NAME:
            raise NotFound("no servable has such a name", code="unknown_servable")
        if not 0 <= self.version <= _MAX_VERSION:
            raise NotFound("no servable has such a version", code="unknown_version")
        is_name = 0 < len(self.method) <= _MAX_NAME
        description = describe(self.name, self.version or None, self.method if is_name else None)
        if not is_name:  # and not the one that may be left out elsewhere
            raise NotFound("there is no such method", code="unknown_method")
        return description
