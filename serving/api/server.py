"""``mindspore_serving.server``: start servables and servers in this process, and stop them.

One server lives in a process at a time. As in MindSpore Serving, an error of any ``start_...``
stops whatever was started before it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec

from serving import logs
from serving.api import addresses, environment
from serving.api import checks as own
from serving.api.embedded import Embedded
from serving.api.life import Ended, Life
from serving.api.signals import Signals
from serving.api.ssl_config import SSLConfig
from serving.api.start_config import ServableStartConfig, Wanted, configs_of, merge
from serving.config import ServerSettings
from serving.errors import ConfigError, ServingError
from serving.register import checks

__all__ = [
    "SSLConfig",
    "ServableStartConfig",
    "start_grpc_server",
    "start_restful_server",
    "start_servables",
    "stop",
]

_log = logging.getLogger("serving.api")
_P = ParamSpec("_P")

_MOST_MESSAGE_MB = 512
_TLS_ARGUMENTS = {
    "--tls-client-ca": "custom_ca",
    "--tls-cert": "certificate",
    "--tls-key": "private_key",
}
_SIGNALLED = "because of signal SIGINT or SIGTERM"


class _Process:
    """What there is of a server in this process."""

    def __init__(self) -> None:
        self.life: Life | None = None
        self.settings: ServerSettings | None = None
        self.started: set[str] = set()
        self.max_waiting: int | None = None
        self.starting = 0
        self.lock = threading.Lock()
        self.at_end = False
        self.signals = Signals(self._ask_stop, lambda: self.starting > 0 or self.at_end)
        self.detach: Callable[[], None] = lambda: None

    def _ask_stop(self) -> None:
        if self.life is not None:
            self.life.ask_stop()

    def wait(self) -> None:
        """Keep the process alive, after its script, until the server is stopped."""
        self.at_end = True
        if self.life is not None:
            self.life.wait()

    def alive(self, wanted: tuple[Wanted, ...] = ()) -> Life:
        """Return the life that goes on, or a new one."""
        if self.life is not None and self.life.over:
            self.forget(self.life)
        if self.life is None:
            settings = environment.settings(wanted)
            if self.max_waiting is not None:
                settings = dataclasses.replace(settings, max_queue_size=self.max_waiting)
            self.detach = logs.attach(settings.log_format, settings.log_level, "master")
            self.settings = settings
            life = Life(settings)
            self.signals.catch()
            self.life = life
            life.start()
        return self.life

    def forget(self, life: Life) -> None:
        """Begin anew after a life that is over."""
        if self.life is life:
            self.life = self.settings = None
            self.started.clear()
            self.signals.give_back()
            self.detach()


_process = _Process()
# Not atexit, which comes too late: by then the interpreter has closed all pools of threads, those
# that large requests are decoded in. What is registered last is called first.
threading._register_atexit(_process.wait)  # type: ignore[attr-defined]


def _starts(what: str) -> Callable[[Callable[_P, None]], Callable[_P, None]]:
    """Stop everything when a start fails, and make a RuntimeError of what it raised."""

    def of(start: Callable[_P, None]) -> Callable[_P, None]:
        @functools.wraps(start)
        def started(*args: _P.args, **kwargs: _P.kwargs) -> None:
            try:
                with _starting():
                    start(*args, **kwargs)
            except Ended:
                stop()
                raise RuntimeError(f"Fail to start {what} {_SIGNALLED}") from None
            except ServingError as error:
                stop()
                raise RuntimeError(f"Fail to start {what}: {error}") from None
            except BaseException:
                stop()
                raise

        return started

    return of


@contextlib.contextmanager
def _starting() -> Iterator[None]:
    """Note that the main thread waits for a start; a signal then has it raise."""
    mine = threading.current_thread() is threading.main_thread()
    _process.starting += mine
    try:
        with _process.lock:
            yield
    finally:
        _process.starting -= mine


@_starts("workers")
def start_servables(servable_configs: Any, enable_lite: Any = False) -> None:
    """Serve one ServableStartConfig, or a list or tuple of them; returns when all of it serves.

    ``enable_lite`` is checked and makes no difference: which engine runs a model is found out from
    its file. Raises RuntimeError with the reason.
    """
    configs = configs_of(servable_configs)
    checks.flag("enable_lite", enable_lite)
    wanted = merge(configs)
    if "servables" in _process.started:
        raise addresses.failed("Master gRPC server is already running")
    life = _process.alive(wanted)
    _process.started.add("servables")
    life.do(lambda embedded: embedded.serve(wanted))


@_starts("the gRPC server")
def start_grpc_server(address: Any, max_msg_mb_size: Any = 100, ssl_config: Any = None) -> None:
    """Answer gRPC on ``ip:port`` or ``unix:path``: every protocol that ``serving start`` speaks.

    ``max_msg_mb_size`` is 1 to 512. Raises RuntimeError.
    """
    place = addresses.grpc_address(checks.text("address", address))
    more = _door(max_msg_mb_size, ssl_config, "type")
    if "grpc" in _process.started:
        raise addresses.failed("Serving gRPC server is already running")

    async def opened(embedded: Embedded, settings: ServerSettings) -> None:
        with _bound(f"Serving gRPC server start failed, create server failed, address {address}"):
            await embedded.open_grpc(settings, place.unix)

    _open("grpc", opened, host=place.host, grpc_port=place.port, **more)


@_starts("the RESTful server")
def start_restful_server(address: Any, max_msg_mb_size: Any = 100, ssl_config: Any = None) -> None:
    """Answer REST on ``ip:port``: every path that ``serving start`` has.

    ``max_msg_mb_size`` is 1 to 512. Raises RuntimeError.
    """
    place = addresses.rest_address(checks.text("address", address))
    more = _door(max_msg_mb_size, ssl_config, "class")
    if "rest" in _process.started:
        raise addresses.failed("RESTful server is already running")

    async def opened(embedded: Embedded, settings: ServerSettings) -> None:
        with _bound(f"RESTful server start failed, bind to the socket address {address} failed"):
            await embedded.open_rest(settings)

    _open("rest", opened, host=place.host, rest_port=place.port, **more)


def stop() -> None:
    """Stop everything: requests that were accepted are answered first. May be repeated."""
    life = _process.life
    if life is not None:
        life.stop()
        _process.forget(life)


def set_max_enqueued_requests(max_enqueued_requests: Any) -> None:
    """Let at most so many requests wait; more are refused. Holds for later starts as well."""
    most = checks.integer("max_enqueued_requests", max_enqueued_requests, 1)
    _process.max_waiting = most
    life = _process.life
    if life is not None and not life.over:

        async def bound(embedded: Embedded) -> None:
            embedded.bound_waiting(most)

        with contextlib.suppress(Ended):
            life.do(bound)


def _door(max_msg_mb_size: Any, ssl_config: Any, kind: str) -> dict[str, Any]:
    """Return what a front end's settings are besides its address. Raises RuntimeError."""
    size_mb = own.between("max_msg_mb_size", max_msg_mb_size, 1, _MOST_MESSAGE_MB)
    found: dict[str, Any] = {"max_request_mb": size_mb}
    if ssl_config is not None:
        if not isinstance(ssl_config, SSLConfig):
            raise RuntimeError(f"The type of ssl_config should be {kind} of SSLConfig")
        found["tls_cert"] = Path(ssl_config.certificate)
        found["tls_key"] = Path(ssl_config.private_key)
        if ssl_config.verify_client and ssl_config.custom_ca is not None:
            found["tls_client_ca"] = Path(ssl_config.custom_ca)
    return found


def _open(
    name: str,
    opened: Callable[[Embedded, ServerSettings], Awaitable[None]],
    **settings: Any,
) -> None:
    life = _process.alive()
    assert _process.settings is not None
    mine = dataclasses.replace(_process.settings, **settings)
    _process.started.add(name)
    life.do(lambda embedded: opened(embedded, mine))


@contextlib.contextmanager
def _bound(problem: str) -> Iterator[None]:
    """Say in MindSpore Serving's words that an address cannot be had, and why.

    What is wrong with TLS is told of the SSLConfig: a script has no flags.
    """
    try:
        yield
    except ConfigError as error:
        why = error.message
        for flag, argument in _TLS_ARGUMENTS.items():
            why = why.replace(flag, f"{argument} of SSLConfig")
        raise addresses.failed(f"{problem}: {why}") from None
