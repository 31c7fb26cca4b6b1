"""Who may ask over REST: what a request is refused with that does not show the server's token."""

from __future__ import annotations

from serving.dataplane import DataPlane
from serving.errors import Unauthenticated
from serving.frontends.rest.wire import Headers

OPEN_PATHS = frozenset(("/v2/health/live", "/v2/health/ready"))
"""What everybody is told: those who look after the server's health show no token."""

CHALLENGE = b"www-authenticate", b'Bearer realm="serving", Basic realm="serving"'
"""What goes with the refusal (RFC 9110, section 11.6.1); browsers ask for the second's password."""


def shut_out(plane: DataPlane, headers: Headers) -> Unauthenticated | None:
    """Return what a request with these headers is refused with, None for one that is let in."""
    given = headers.get(b"authorization")
    try:
        plane.let_in(None if given is None else given.decode("latin-1"))
    except Unauthenticated as error:
        return error
    return None
