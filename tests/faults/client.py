"""A client on one connection that tells apart every way in which a call can end."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime


@dataclass(frozen=True)
class Answer:
    """A complete HTTP answer; ``body`` is its JSON."""

    status: int
    body: Any


@dataclass(frozen=True)
class Refused:
    """No byte of an answer came: refused, or closed before it began. Safe to send again."""

    reason: str


class Truncated(AssertionError):
    """An answer began and did not end."""


class Client:
    """One keep-alive connection to ``/predict`` of a server; not shared between threads."""

    def __init__(self, port: int, servable: str, timeout_s: float = 20.0) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        self._servable = servable

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self) -> None:
        """Open the connection now; raises OSError."""
        self._connection.connect()

    def send(self, **inputs: Any) -> Answer | Refused:
        """Call with one instance. Raises Truncated, and TimeoutError after the time given."""
        body = json.dumps({"servable": self._servable, "instances": [inputs]})
        try:
            self._connection.request("POST", "/predict", body, {"content-type": "application/json"})
            response = self._connection.getresponse()
        except TimeoutError:
            raise
        except http.client.RemoteDisconnected as error:  # closed, and not one byte of an answer
            self.close()
            return Refused(repr(error))
        except http.client.HTTPException as error:
            raise Truncated(f"half a head: {error!r}") from error
        except (ConnectionError, OSError) as error:
            self.close()
            return Refused(repr(error))
        try:
            with response:
                data = response.read()
        except (http.client.HTTPException, ConnectionError) as error:
            raise Truncated(f"half a body: {error!r}") from error
        return Answer(response.status, json.loads(data))

    def close(self) -> None:
        self._connection.close()


def rows_of(path: Path, name: str, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Run rows one by one on a bare onnxruntime; returns the first output of each, stacked."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.stack([session.run(None, {name: row[None]})[0][0] for row in rows])
