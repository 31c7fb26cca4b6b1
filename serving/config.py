"""The settings of one server process, after flag, environment, file and default were merged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ServerSettings:
    """Everything ``serving start`` can be told.

    Ports: 0 picks a free one. ``workers`` counts CPU workers. Sizes are in MiB, times in seconds.
    ``model_control`` is none, poll or explicit; ``load_servables`` names what explicit control
    begins with, separated by commas, or ``*``. ``memory_mb`` bounds the shared memory that tensors
    may take, all servables together;
    ``cache_mb`` the converted models that are kept in ``cache_dir``.
    """

    model_dir: Path
    host: str = "127.0.0.1"
    rest_port: int = 1500
    grpc_port: int = 5500
    devices: str = "cpu"
    workers: int = 1
    max_request_mb: int = 100
    memory_mb: int = 2048
    drain_timeout_s: float = 30.0
    load_timeout_s: float = 300.0
    model_control: str = "poll"
    poll_interval_s: float = 2.0
    load_servables: str | None = None
    admin_token_file: Path | None = None
    strict_readiness: bool = False
    ready_file: Path | None = None
    cache_dir: Path | None = None
    cache_mb: int = 10240
    log_format: str = "text"
    log_level: str = "info"
