"""The settings of a server that a script starts: those of ``serving start``, from the environment.

A script gives addresses and servables; all else that ``serving start`` can be told comes from its
environment variables (``SERVING_LOG_LEVEL``, ``SERVING_CACHE_DIR``...) and from the file that
``SERVING_CONFIG`` names.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from serving.api.start_config import Wanted
from serving.cli.backends import backends_of
from serving.cli.start import start_command
from serving.config import ServerSettings
from serving.errors import ConfigError

_OWN = ("host", "rest_port", "grpc_port", "tls_cert", "tls_key", "tls_client_ca", "ready_file")
"""What the script says itself, or what has no meaning without the command."""


def settings(wanted: tuple[Wanted, ...]) -> ServerSettings:
    """Return the settings; raises RuntimeError for a variable or file that is wrong.

    There are as many CPU workers as the servable with the most devices names, unless
    ``SERVING_WORKERS`` says otherwise.
    """
    directory = wanted[0].directory if wanted else Path.cwd()
    try:
        context = start_command.make_context("serving start", ["--model-dir", str(directory)])
    except click.ClickException as error:
        raise RuntimeError(error.format_message()) from None
    with context:
        said = dict(context.params)
        try:
            backends = backends_of(context, said.pop("backend"))
        except ConfigError as error:
            raise RuntimeError(str(error)) from None
        given = ServerSettings(**said, backends=backends)
        source = context.get_parameter_source("workers")
    fields = dataclasses.fields(ServerSettings)
    defaults: dict[str, Any] = {f.name: f.default for f in fields if f.name in _OWN}
    workers = given.workers
    if source is click.core.ParameterSource.DEFAULT:
        workers = max([len(want.devices) for want in wanted], default=0) or given.workers
    if given.model_control == "explicit":
        raise RuntimeError(
            "SERVING_MODEL_CONTROL=explicit is for `serving start`: a script says itself what is "
            "served; use poll or none"
        )
    return dataclasses.replace(given, workers=workers, **defaults)
