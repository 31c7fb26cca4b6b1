"""What several front-end processes do not offer, said before anything is started."""

from __future__ import annotations

from serving.config import ServerSettings
from serving.errors import ConfigError


def check_frontends(settings: ServerSettings) -> None:
    """Raise ConfigError for what several front-end processes do not offer."""
    if settings.frontends == 1:
        return
    if settings.grpc_engine != "lane":
        raise ConfigError(
            "only this project's own gRPC server can share its port between processes",
            where="--grpc-engine",
            given=f"--grpc-engine {settings.grpc_engine} with --frontends {settings.frontends}",
            fix="use --grpc-engine lane, or --frontends 1",
        )
    if settings.client_shared_memory:
        raise ConfigError(
            "clients' shared memory is not offered by several front-end processes yet",
            where="--client-shared-memory",
            given=f"--client-shared-memory with --frontends {settings.frontends}",
            fix="use --frontends 1: such requests bring no large bodies, so one process is enough",
        )
