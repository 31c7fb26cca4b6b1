"""The settings of one server process, after flag, environment, file and default were merged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ServerSettings:
    """Everything ``serving start`` can be told.

    Ports: 0 picks a free one. ``workers`` counts CPU workers. Sizes are in MiB, times in seconds.
    ``memory_mb`` bounds the shared memory that tensors may take, all servables together.
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
    strict_readiness: bool = False
    ready_file: Path | None = None
    cache_dir: Path | None = None
    log_format: str = "text"
    log_level: str = "info"
