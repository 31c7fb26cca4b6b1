"""Which route somebody meant whose path is none: by slashes, letters' case, or a slip."""

from __future__ import annotations

import re
from collections.abc import Iterable

from serving.errors import did_you_mean

_VARIES = re.compile(r"\{\w+\}")
_TOKEN = re.compile(r"[/:]|[^/:]+")
_SEPARATORS = {"/", ":"}
_MOST = 512
_PROBES = {
    **dict.fromkeys(("/live", "/livez", "/alive", "/ping"), "/v2/health/live"),
    **dict.fromkeys(("/ready", "/readyz", "/health", "/healthz"), "/v2/health/ready"),
}
"""Where other servers are asked how they are, and where this one is."""


def hint(path: str, routes: Iterable[str]) -> str:
    """Return ``did you mean '/v2'?``, or an empty string.

    ``routes`` are paths with ``{name}`` for what varies. First comes a route that the path is but
    for its slashes and the case of the fixed words; then the one with the fewest words misspelt;
    then one that begins with the same word, and in which nothing varies.
    """
    plain = "/" + "/".join(part for part in path.split("/") if part)
    if len(plain) > _MOST:
        return ""
    probe = _PROBES.get(plain.casefold(), "")
    if probe in (routes := tuple(routes)):
        return f"did you mean {probe!r}?"
    known = sorted(routes, key=lambda route: len(_VARIES.sub("", route)), reverse=True)
    filled = [meant for route in known if (meant := _filled(route, plain))]
    near = [found for route in known if (found := _corrected(route, plain))]
    if filled or near:
        meant = filled[0] if filled else min(near)[1]
        return f"did you mean {meant!r}?" if meant != path else ""
    first = plain.split("/")[1].casefold()
    return did_you_mean(
        plain, [route for route in known if "{" not in route and route.split("/")[1] == first]
    )


def _filled(route: str, path: str) -> str:
    """Return the route with what varies taken from the path, nothing if the path is not like it."""
    words = _VARIES.split(route)
    found = re.fullmatch("([^/]+?)".join(map(re.escape, words)), path, re.IGNORECASE)
    if found is None:
        return ""
    return "".join(word + value for word, value in zip(words, [*found.groups(), ""], strict=True))


def _corrected(route: str, path: str) -> tuple[int, str] | None:
    """Return how many words of a route are misspelt in the path, and the path with them right."""
    wanted, given = _TOKEN.findall(route), _TOKEN.findall(path)
    if len(wanted) != len(given):
        return None
    slips, right = 0, ""
    for word, token in zip(wanted, given, strict=True):
        if word.startswith("{"):
            right += token
            continue
        right += word
        if word != token.casefold():
            slips += 1
            if not ({word, token} == _SEPARATORS or did_you_mean(token, [word])):
                return None
    return slips, right
