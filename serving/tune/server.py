"""A server of the tuning's own: on free ports, with one servable, and with settings at will."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from serving.config import ServerSettings
from serving.errors import LoadError, ServingError, Unavailable
from serving.tune.overlay import Overlay
from serving.tune.setting import SERVABLE_KEYS, SERVER_KEYS, Setting, Value

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 40.0
_LOAD_TIMEOUT_S = 600.0
_POLL_S = 0.02
_HOST = "127.0.0.1"
_KEPT = frozenset({"cache_dir", "max_request_mb", "memory_mb", "load_timeout_s", "run_timeout_s"})
"""What the environment may say of the server: nothing that is measured, no door, no token."""


@dataclass(frozen=True)
class Reading:
    """What the server had counted at a moment: V2 statistics, and processor seconds so far."""

    statistics: Mapping[str, Any]
    front_cpu_s: float
    worker_cpu_s: float


class OwnServer:
    """Starts ``serving start`` on an overlay, and brings settings into effect. A context manager.

    The servable is loaded anew for a change of its own settings; for another number of workers or
    front ends the server is started anew. ``start`` is what has effect before anything was changed.
    """

    def __init__(self, overlay: Overlay, servable: str, start: Setting, scratch: Path) -> None:
        self._overlay = overlay
        self._servable = servable
        self._start = start
        self._scratch = scratch
        self._process: subprocess.Popen[bytes] | None = None
        self._now: Setting | None = None
        self.rest_port = 0
        self.grpc_port = 0

    def __enter__(self) -> OwnServer:
        """Return itself; nothing runs yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server, whatever happened."""
        self.stop()

    def use(self, setting: Setting) -> None:
        """Serve with a setting. Raises LoadError with the server's reason where it cannot."""
        alive = self._process is not None and self._process.poll() is None
        if alive and self._now == setting:
            return
        if not alive or self._now is None or _process_counts(self._now) != _process_counts(setting):
            self.stop()
            self._launch(setting)
        self._now = None
        changes = setting.changes(self._start)
        self._overlay.settle({name: changes[name] for name in SERVABLE_KEYS if name in changes})
        path = f"/v2/repository/models/{quote(self._servable, safe='')}/load"
        status, answer = self._call("POST", path, b"{}")
        if status != 200:
            reason = _error(answer)
            raise LoadError(f"the model could not be loaded: {reason}", code="not_served")
        self._now = setting

    def get(self, path: str) -> Any:
        """Return a JSON answer. Raises Unavailable for any other."""
        status, answer = self._call("GET", path, None)
        if status != 200:
            raise Unavailable(_error(answer), code="refused")
        return json.loads(answer)

    def read(self) -> Reading:
        """Return what the server has counted."""
        statistics = self.get(f"/v2/models/{quote(self._servable, safe='')}/stats")
        _, metrics = self._call("GET", "/metrics", None)
        text = metrics.decode()
        return Reading(
            statistics,
            total(text, "process_cpu_seconds_total"),
            total(text, "serving_worker_cpu_seconds_total"),
        )

    def stop(self) -> None:
        """Stop the server, gently and then not."""
        process, self._process, self._now = self._process, None, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass
        finally:  # an impatient second Ctrl-C included
            process.kill()
            process.wait()

    # -- inside --------------------------------------------------------------------------------

    def _launch(self, setting: Setting) -> None:
        ready, log = self._scratch / "ready.json", self._scratch / "server.log"
        ready.unlink(missing_ok=True)
        arguments = [
            "start", "--model-dir", str(self._overlay.model_dir), "--host", _HOST,
            "--rest-port", "0", "--grpc-port", "0", "--ready-file", str(ready),
            "--workers", str(setting.workers), "--frontends", str(setting.frontends),
            "--model-control", "explicit", "--log-level", "warning",
        ]  # fmt: skip
        command = [sys.executable, "-m", "serving.tune.tied", str(os.getpid()), *arguments]
        with log.open("wb") as sink:
            # A session of its own: Ctrl-C is for this process, which stops the server itself.
            self._process = subprocess.Popen(
                command, stdout=sink, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env=environment(os.environ), start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not ready.exists():
            ended, late = self._process.poll() is not None, time.monotonic() > deadline
            if ended or late:
                said = log.read_text(errors="replace").strip().splitlines()[-3:]
                why = "it ended" if ended else f"it was not ready within {_START_TIMEOUT_S:g} s"
                raise ServingError(
                    "a server of its own could not be started: " + " / ".join([why, *said]),
                    code="start_failed",
                )
            time.sleep(_POLL_S)
        told = json.loads(ready.read_text())
        self.rest_port, self.grpc_port = told["rest_port"], told["grpc_port"]

    def _call(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(_HOST, self.rest_port, timeout=_LOAD_TIMEOUT_S)
        headers = {} if body is None else {"Content-Type": "application/json"}
        with contextlib.closing(connection):
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException) as error:
                raise Unavailable(
                    f"the server that is measured did not answer: {error}", code="no_answer"
                ) from None


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for the server: without what would make it another one."""
    ours = {f.name for f in dataclasses.fields(ServerSettings)} - _KEPT
    dropped = {f"SERVING_{name.upper()}" for name in ours}
    return {name: value for name, value in given.items() if name not in dropped}


def total(metrics: str, family: str) -> float:
    """Return the sum of a family's samples in a text of Prometheus."""
    line = re.compile(rf"^{re.escape(family)}(?:\{{[^\n]*\}})? (\S+)$", re.MULTILINE)
    return sum(float(value) for value in line.findall(metrics))


def _process_counts(setting: Setting) -> list[Value]:
    return [setting.value(name) for name in SERVER_KEYS]


def _error(answer: bytes) -> str:
    try:
        document = json.loads(answer)
    except ValueError:
        return answer.decode("utf-8", "replace")[:200]
    return str(document.get("error") or document.get("detail") or document)
