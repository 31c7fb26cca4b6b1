"""Names of servables as clients give them: decoded, and refused when no name can be so.

Names that pass are short, so that later errors may repeat them and look for similar ones.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from serving.errors import NotFound

MAX_NAME = 255
COLON = rb"(?::|%3[Aa])"
"""The colon before a verb or method in a raw path; clients that quote paths encode it."""
BEFORE_COLON = rb"(?:(?!%3[Aa])[^/:])"
"""A byte of what stands before it, to be decoded once the path is split."""
_INFER_ROUTE = b"/v2/models/"


def check(name: str, where: str = "path") -> str:
    """Return the name; raises NotFound for one that no servable can have."""
    if (
        0 < len(name) <= MAX_NAME
        and name not in (".", "..")
        and name.isprintable()
        and "/" not in name
        and "\\" not in name
    ):
        return name
    shown = name if len(name) <= 40 else name[:40] + "..."
    raise NotFound(f"servable {shown!r} is not served here", code="unknown_servable", where=where)


def infer_route(raw_path: bytes) -> tuple[str, str | None] | None:
    """Return model and version of ``/v2/models/{m}[/versions/{v}]/infer``, else None.

    The path is split before it is decoded, so that ``%2F`` never makes a segment. Raises
    NotFound for a name that cannot be one.
    """
    if not raw_path.startswith(_INFER_ROUTE):
        return None
    parts = raw_path[len(_INFER_ROUTE) :].split(b"/")
    if len(parts) == 2 and parts[1] == b"infer":
        return check(_decode(parts[0])), None
    if len(parts) == 4 and parts[1] == b"versions" and parts[3] == b"infer":
        return check(_decode(parts[0])), _decode(parts[2])
    return None


def _decode(segment: bytes) -> str:
    if b"%" not in segment:
        return segment.decode("ascii", "replace")
    return unquote_to_bytes(segment).decode("utf-8", "replace")
