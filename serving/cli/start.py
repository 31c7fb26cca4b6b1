"""``serving start``: merges flag, environment, file and default, and runs the server."""

from __future__ import annotations

import dataclasses
import gc
import logging
import os
from pathlib import Path
from typing import Any

import click

from serving import logs
from serving.cli.backends import backend_option, backends_of
from serving.cli.config_file import use_config_file
from serving.cli.environment import unheard
from serving.cli.options import MODEL_DIR_HELP, Folder, ModelDir, Seconds, Whole, option
from serving.config import ServerSettings
from serving.devices import devices_text, parse_devices
from serving.errors import ConfigError

_DEFAULTS = {f.name: f.default for f in dataclasses.fields(ServerSettings)}
_PORT = Whole(0, 65535)
_MAX_WORKERS = 64
_MAX_FRONTENDS = 16

_EPILOG = """
\b
Examples:
  serving start --model-dir servables
  serving start --model-dir servables --host 0.0.0.0 --workers 4
  serving start --model-dir servables --devices cpu,gpu:0
  SERVING_REST_PORT=8000 serving start --config serving.toml

\b
A file for --config holds the same names with underscores:
  model_dir = "servables"
  rest_port = 8000

A flag wins over the environment, the environment over the file, the file over the default.
"""


@click.command(
    "start",
    epilog=_EPILOG,
    short_help="Serve a folder of models over gRPC and REST.",
    context_settings={"max_content_width": 100},
)
@option("model-dir", MODEL_DIR_HELP, metavar="DIR", type=ModelDir(), required=True)
@option(
    "host",
    "Address to listen on; 0.0.0.0 for all networks of this machine.",
    default=_DEFAULTS["host"],
    metavar="ADDRESS",
)
@option(
    "rest-port",
    "Port for REST; 0 picks a free one.",
    type=_PORT,
    default=_DEFAULTS["rest_port"],
    metavar="PORT",
)
@option(
    "grpc-port",
    "Port for gRPC; 0 picks a free one.",
    type=_PORT,
    default=_DEFAULTS["grpc_port"],
    metavar="PORT",
)
@option(
    "devices",
    "Devices that run models: cpu, gpu, gpu:0, gpu:0-3, ascend:0, ... separated by commas, or auto "
    "for all that are found and the CPU. `serving devices` tells what there is.",
    default=_DEFAULTS["devices"],
    metavar="LIST",
)
@option(
    "workers",
    "CPU worker processes; the cores are shared out between them. Other devices have one each.",
    type=Whole(1, _MAX_WORKERS),
    default=_DEFAULTS["workers"],
    metavar="N",
)
@option(
    "frontends",
    "Processes that hold clients' connections and read and write their messages. With 1 the "
    "server's own process does; more pay where that is what limits: large bodies, fast devices, "
    "many cores.",
    type=Whole(1, _MAX_FRONTENDS),
    default=_DEFAULTS["frontends"],
    metavar="N",
)
@option(
    "grpc-engine",
    "What speaks gRPC: lane, this project's own, or grpcio, which takes more time for a call.",
    type=click.Choice(["lane", "grpcio"]),
    default=_DEFAULTS["grpc_engine"],
)
@option(
    "tls-cert",
    "Certificate chain (PEM) for TLS on both ports; renewed when the file changes.",
    type=Folder(),
    metavar="FILE",
)
@option("tls-key", "The private key of --tls-cert (PEM).", type=Folder(), metavar="FILE")
@option(
    "tls-client-ca",
    "With TLS: admit only clients whose certificate this authority has signed (PEM).",
    type=Folder(),
    metavar="FILE",
)
@option(
    "max-request-mb",
    "Largest request, in MiB; a larger one is refused.",
    type=Whole(min=1),
    default=_DEFAULTS["max_request_mb"],
    metavar="N",
)
@option(
    "memory-mb",
    "Shared memory that the tensors of all servables may take together, in MiB.",
    type=Whole(min=1),
    default=_DEFAULTS["memory_mb"],
    metavar="N",
)
@option(
    "max-queue-size",
    "Requests that may wait for all servables together; more are refused as overloaded.",
    type=Whole(min=1),
    default=_DEFAULTS["max_queue_size"],
    metavar="N",
)
@option(
    "max-queue-mb",
    "Tensors that the requests waiting for all servables may hold together, in MiB.",
    type=Whole(min=1),
    default=_DEFAULTS["max_queue_mb"],
    metavar="N",
)
@option(
    "drain-timeout-s",
    "How long a stop waits for requests that are running, in seconds.",
    type=Seconds(min=0),
    default=_DEFAULTS["drain_timeout_s"],
    metavar="S",
)
@option(
    "load-timeout-s",
    "How long loading and warming one version may take, in seconds.",
    type=Seconds(min=0, min_open=True),
    default=_DEFAULTS["load_timeout_s"],
    metavar="S",
)
@option(
    "run-timeout-s",
    "How long one run of a model may take, in seconds; a longer one is ended. 0: no limit.",
    type=Seconds(min=0),
    default=_DEFAULTS["run_timeout_s"],
    metavar="S",
)
@option(
    "heartbeat-timeout-s",
    "How long a worker may give no sign of life before it is replaced, in seconds. 0: for ever.",
    type=Seconds(min=0),
    default=_DEFAULTS["heartbeat_timeout_s"],
    metavar="S",
)
@option(
    "worker-memory-limit-mb",
    "A worker that holds more memory of its own, in MiB, is replaced between runs. 0: no limit.",
    type=Whole(min=0),
    default=_DEFAULTS["worker_memory_limit_mb"],
    metavar="N",
)
@option(
    "worker-nice",
    "How far workers give way to the process that answers clients: niceness on top of its own. So "
    "answers go out at once though all cores compute. 0 turns it off, for machines where other "
    "programs should not go before the workers.",
    type=Whole(0, 19),
    default=_DEFAULTS["worker_nice"],
    metavar="N",
)
@option(
    "busy-poll-us",
    "How long a worker looks out for its next batch before it falls asleep, in microseconds, and "
    "the server, for 200 of them at most, for an answer; they give the core away meanwhile to "
    "whoever wants it. Small models answer twice as fast for it; 0 turns it off and saves power.",
    type=Whole(0, 10_000),
    default=_DEFAULTS["busy_poll_us"],
    metavar="N",
)
@option(
    "model-control",
    "poll: follow changes of the folder; none: load once; explicit: load and unload on request "
    "(`serving load`, `serving unload`, V2 repository calls).",
    type=click.Choice(["none", "poll", "explicit"]),
    default=_DEFAULTS["model_control"],
)
@option(
    "poll-interval-s",
    "How often the folder is looked at, in seconds.",
    type=Seconds(min=0.05),
    default=_DEFAULTS["poll_interval_s"],
    metavar="S",
)
@option(
    "load-servables",
    "With explicit control: what to load at the start, as NAME,NAME or *.",
    default=_DEFAULTS["load_servables"],
    metavar="NAMES",
)
@option(
    "admin-token-file",
    "With explicit control: file with the secret that loading and unloading asks for.",
    type=Folder(),
    metavar="FILE",
)
@option(
    "client-token-file",
    "File with a secret that every client must send, as 'Authorization: Bearer SECRET'; only "
    "health is told to everybody. Use it with TLS.",
    type=Folder(),
    metavar="FILE",
)
@option(
    "strict-readiness",
    "Report ready only if every servable is, not just one.",
    is_flag=True,
    default=_DEFAULTS["strict_readiness"],
)
@option("ready-file", "File to create once the server is ready.", type=Folder(), metavar="FILE")
@option(
    "cache-dir", "Folder for what is kept from one start to the next.", type=Folder(), metavar="DIR"
)
@option(
    "cache-mb",
    "Disk space in the cache folder that converted models may take, in MiB.",
    type=Whole(min=0),
    default=_DEFAULTS["cache_mb"],
    metavar="N",
)
@option(
    "client-shared-memory",
    "Let clients on this machine send and get tensors in shared memory of theirs.",
    is_flag=True,
    default=_DEFAULTS["client_shared_memory"],
)
@option(
    "log-format",
    "Form of the log lines on standard error.",
    type=click.Choice(["text", "json"]),
    default=_DEFAULTS["log_format"],
)
@option(
    "log-level",
    "Least level that is logged.",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default=_DEFAULTS["log_level"],
)
@backend_option
@option(
    "config",
    "TOML file with any of these options.",
    type=Folder(),
    is_eager=True,
    expose_value=False,
    callback=use_config_file,
    metavar="FILE",
)
@click.pass_context
def start_command(ctx: click.Context, /, **values: Any) -> None:
    """Serve every model in a folder until SIGTERM, SIGINT or SIGHUP.

    Stopping drains first: requests that are running are answered, new ones are refused.
    """
    # Nearly all that a request makes is gone with it, cycles or not: looking for rubbish after
    # every 700 objects took 6 % of a small request. And what imports make, which is next, stays.
    gc.set_threshold(20_000, 20, 50)
    backends = backends_of(ctx, values.pop("backend"))
    settings = checked(ServerSettings(**values, backends=backends))
    _name_unheard(ctx, settings)
    from serving.master import headstart
    from serving.repository.interpreter import import_numpy

    headstart.begin(settings)
    try:
        import_numpy()
        from serving.repository.scanner import check_model_dir

        check_model_dir(settings.model_dir)
        from serving.master.server import run

        status = run(settings)
    finally:
        headstart.end()
    ctx.exit(status)


def _name_unheard(ctx: click.Context, settings: ServerSettings) -> None:
    """Log the variables of the environment that were perhaps meant to be settings."""
    root = ctx.find_root().command
    remarks = unheard(os.environ, root) if isinstance(root, click.Group) else []
    if remarks:
        logs.configure(settings.log_format, settings.log_level, "master")
    for remark in remarks:
        logging.getLogger("serving.master").warning("%s", remark)


def checked(settings: ServerSettings) -> ServerSettings:
    """Return the settings if they go together. Raises ConfigError naming the flag."""
    devices = devices_text(parse_devices(settings.devices))
    if not settings.host.strip():
        raise ConfigError("--host is empty", where="--host", expected="an address such as 0.0.0.0")
    if settings.rest_port == settings.grpc_port != 0:
        raise ConfigError(
            f"--rest-port and --grpc-port are both {settings.rest_port}", where="--grpc-port",
            expected="two different ports", fix="0 picks a free one",
        )  # fmt: skip
    from serving.frontends.tls import certificates_of
    from serving.lifecycle.gate import check_exposed

    certificates_of(settings)
    check_exposed(settings)
    if settings.ready_file is not None:
        _check_ready_file(settings.ready_file)
    return dataclasses.replace(settings, devices=devices, model_dir=Path(settings.model_dir))


def _check_ready_file(file: Path) -> None:
    """Raise ConfigError where the file could not be written: a script would wait for ever."""
    folder = file.absolute().parent
    if file.is_dir():
        problem, fix = "is a folder", "name a file in it"
    elif not folder.is_dir():
        problem, fix = "lies in a folder that is not there", f"create {folder}"
    elif not os.access(folder, os.W_OK | os.X_OK):
        problem, fix = "lies in a folder that cannot be written", f"let this user write {folder}"
    else:
        return
    raise ConfigError(f"--ready-file {file} {problem}", where="--ready-file", fix=fix)
