"""What the image runs, run here: its settings, and the health check that it asks itself with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.server import serving
from tests.unit.test_deploy import health_check, image_environment

SERVABLES = Path(__file__).parents[2] / "servables"


def healthy(port: int) -> bool:
    """Return whether one of the checks is passed that fail a container only if all of them fail."""
    return any(passes(port) for _ in range(3))


def passes(port: int) -> bool:
    _, *arguments = health_check()
    done = subprocess.run(
        [sys.executable, *arguments], env={"SERVING_REST_PORT": str(port)}, capture_output=True,
        timeout=30,
    )  # fmt: skip
    return done.returncode == 0


def test_image_settings_start_a_server_that_its_health_check_finds(tmp_path: Path) -> None:
    own = ("SERVING_HOST", "SERVING_LOG_FORMAT")
    settings = {name: image_environment()[name] for name in own}
    with serving(SERVABLES, tmp_path, env=settings) as server:
        assert healthy(server.rest_port)
        assert server.log().startswith("{")
        port = server.rest_port
        assert server.stop() == 0
    assert not healthy(port)
