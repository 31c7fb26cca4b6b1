"""How many files the server may have open: connections, segments and links each are one."""

from __future__ import annotations

import resource

from serving.config import ServerSettings
from serving.errors import ConfigError

_LEAST = 48
_LEAST_OF_PROCESS = 8
"""A server with one worker begins with 21, each more worker adds 4 and each front end 8; and while
it starts there are helpers besides."""


def take_all(settings: ServerSettings) -> None:
    """Raise this process's limit to what the system allows it.

    Raises ConfigError where that is too little for a start, clients not counted.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    least = _LEAST + _LEAST_OF_PROCESS * (settings.workers + settings.frontends)
    if 0 <= hard < least:  # below 0: without a limit
        raise ConfigError(
            "the limit on open files is too low to start",
            code="start_failed",
            where="ulimit -n",
            expected=f"at least {least}, and one more for each connection",
            given=str(hard),
            fix="raise it for whoever starts the server: ulimit -n 65536, LimitNOFILE=65536 in a "
            "systemd unit, --ulimit nofile=65536 of docker run",
        )
