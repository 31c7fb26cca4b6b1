"""What both wires of V2's model repository extension have in common: the index, and overrides.

Source: Triton's ``extension_model_repository``. States are Triton's words; a servable that has no
version yet, or none loaded, has an empty version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from serving.errors import InvalidRequest
from serving.repository import override
from serving.repository.override import Override

_STATES = {
    "NEW": "LOADING",
    "LOADING": "LOADING",
    "WARMING": "LOADING",
    "READY": "READY",
    "DRAINING": "UNLOADING",
    "UNLOADED": "UNAVAILABLE",
    "FAILED": "UNAVAILABLE",
}


class Entry(NamedTuple):
    """One line of the index."""

    name: str
    version: str
    state: str
    reason: str
    labels: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the line as REST answers it.

        Beyond Triton's it names labels, where there are, and workers, where some have a device.
        """
        told = self._asdict()
        if not self.labels:
            del told["labels"]
        if all(worker.startswith("cpu-") for worker in self.workers):
            del told["workers"]
        return told


def entries(rows: Iterable[Mapping[str, Any]], *, ready: bool = False) -> Iterator[Entry]:
    """Return the index of what the data plane lists; with ``ready`` only what serves."""
    for row in rows:
        state = _STATES[row["state"]]
        if not ready or state == "READY":
            version = "" if row["version"] is None else str(row["version"])
            labels, workers = tuple(row.get("labels", ())), tuple(row.get("workers", ()))
            yield Entry(row["name"], version, state, row["reason"], labels, workers)


def read_override(config: str, files: Mapping[str, bytes]) -> Override:
    """Return what a load brings along; ``files`` by parameter name. Raises InvalidRequest."""
    return Override(config, {override.file_key(name): data for name, data in files.items()})


def unknown_parameter(name: str) -> InvalidRequest:
    """Return the error for a parameter that loading does not have."""
    return InvalidRequest(
        f"loading has no parameter {name[:60]!r}",
        code="bad_parameter",
        where="parameters",
        expected="config, or file:<version>/<file>",
    )
