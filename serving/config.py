"""The settings of one server process, after flag, environment, file and default were merged."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class BackendSettings:
    """Where a backend's workers and helpers run: ``[backends.NAME]`` of the server's file.

    ``python`` is the interpreter that has the engine, empty for the server's own; ``env`` are
    environment variables beside the server's. ``module`` names the package to import where there
    are several of one engine (TensorRT: ``tensorrt`` or ``tensorrt_rtx``). ``options`` are the
    backend's own, and what a servable's ``[options.NAME]`` are laid over.
    """

    python: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    module: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def interpreter(self) -> str:
        """The interpreter of its workers and helpers."""
        return self.python or sys.executable

    def environment(self, backend: str) -> dict[str, str]:
        """Return the variables of its processes, beside those of the server's environment."""
        chosen = {f"SERVING_{backend.upper()}_MODULE": self.module} if self.module else {}
        return {**self.env, **chosen}


@dataclass(frozen=True)
class ServerSettings:
    """Everything ``serving start`` can be told.

    Ports: 0 picks a free one. ``workers`` counts CPU workers; ``frontends`` the processes that hold
    clients' connections, where 1 is the master itself. Sizes are in MiB, times in seconds.
    ``grpc_engine`` is lane, this project's own server for gRPC, or grpcio.
    ``tls_cert`` and ``tls_key`` turn TLS on for both ports; with ``tls_client_ca`` clients must
    show a certificate of that authority.
    ``model_control`` is none, poll or explicit; ``load_servables`` names what explicit control
    begins with, separated by commas, or ``*``. ``memory_mb`` bounds the shared memory that tensors
    may take, all servables together; ``max_queue_size`` and ``max_queue_mb`` the requests that may
    wait and the tensors that they may hold, all servables together as well;
    ``run_timeout_s`` bounds one run, ``heartbeat_timeout_s`` a worker's silence and
    ``worker_memory_limit_mb`` its memory, each 0 for no bound;
    ``worker_nice`` is added to the server's own niceness for its workers, 0 to 19;
    ``busy_poll_us`` is how long workers look out for their next run before they fall asleep, and
    the master, for 200 of it at most, for an answer; 0 for never;
    ``cache_mb`` the converted models that are kept in ``cache_dir``. ``client_shared_memory`` lets
    clients on this machine name shared memory of theirs. ``devices`` is a list as
    ``serving.devices`` reads it; ``backends`` says by name where engines live.
    """

    model_dir: Path
    host: str = "127.0.0.1"
    rest_port: int = 1500
    grpc_port: int = 5500
    devices: str = "cpu"
    workers: int = 1
    backends: Mapping[str, BackendSettings] = field(default_factory=dict)
    frontends: int = 1
    grpc_engine: str = "lane"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    max_request_mb: int = 100
    memory_mb: int = 2048
    max_queue_size: int = 10_000
    max_queue_mb: int = 1024
    drain_timeout_s: float = 30.0
    load_timeout_s: float = 300.0
    run_timeout_s: float = 60.0
    heartbeat_timeout_s: float = 10.0
    worker_memory_limit_mb: int = 0
    worker_nice: int = 5
    busy_poll_us: int = 700
    model_control: str = "poll"
    poll_interval_s: float = 2.0
    load_servables: str | None = None
    admin_token_file: Path | None = None
    client_token_file: Path | None = None
    strict_readiness: bool = False
    ready_file: Path | None = None
    cache_dir: Path | None = None
    cache_mb: int = 10240
    client_shared_memory: bool = False
    log_format: str = "text"
    log_level: str = "info"
