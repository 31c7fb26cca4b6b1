"""Variables of the environment that look like settings of the server and are none.

A slip of the pen in a variable would otherwise be a default that nobody asked for. Variables of
other commands are known; those that Kubernetes and Docker make of the names of services are not
meant for anybody.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

import click

from serving.cli.options import ENV_PREFIX
from serving.errors import did_you_mean

_OF_SERVICES = re.compile(
    r".*_(?:SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_.*)?)"
)
_ADDRESS = re.compile(r"(?:tcp|udp|sctp)://.*")
_BESIDE = re.compile(rf"{ENV_PREFIX}(?:DEVICE_ID|[A-Z]+_MODULE|STUB_ABSENT)")
"""What processes of the server tell each other so."""


def unheard(environ: Mapping[str, str], root: click.Group) -> list[str]:
    """Return a remark on each variable of the environment that no command of ``root`` hears."""
    suspects = [name for name, value in environ.items() if _is_suspect(name, value)]
    if not suspects:
        return []
    settings = _heard(root.commands["start"])
    if settings.issuperset(suspects):
        return []  # the other commands are not imported for it
    known = settings.union(*map(_heard, root.commands.values()))
    return [_remark(name, settings) for name in sorted(suspects) if name not in known]


def _is_suspect(name: str, value: str) -> bool:
    if not name.startswith(ENV_PREFIX) or _BESIDE.fullmatch(name):
        return False
    return not (_OF_SERVICES.fullmatch(name) or _ADDRESS.fullmatch(value))


def _heard(command: click.Command) -> set[str]:
    return set(_variables(command.params))


def _variables(params: Collection[click.Parameter]) -> Iterator[str]:
    for param in params:
        if isinstance(param.envvar, str):
            yield param.envvar
        elif param.envvar is not None:
            yield from param.envvar


def _remark(name: str, known: Collection[str]) -> str:
    hint = did_you_mean(name, known)
    return f"the environment variable {name} is not a setting and changes nothing" + (
        f" ({hint})" if hint else ""
    )
