"""One model of a version: a file that is described, proved and loaded under a number of its own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from serving.artifact import Artifact
from serving.definition import DeclaredModel
from serving.repository.conversions import Kept
from serving.repository.engines import Built
from serving.tensor import BatchAxes


@dataclass(frozen=True)
class Placed:
    """A kind of device that has a model loaded: by which backend, for which numbers of rows."""

    kind: str
    backend: str
    gears: tuple[int, ...] | None = None


class Member:
    """What is known of one model file of a version. Owned by it.

    ``model`` is its number in messages to workers, another one for each time that the version is
    loaded. ``declared`` is what ``servable_config.py`` says of it, with ``subgraph`` its place
    among the files there; None in a servable without one. ``batch`` is what the proof left,
    ``note`` what an operator should know. ``kept`` keeps what the file was converted to where
    workers find it, and ``hold`` what was built of it: ``made``, by kind of device;
    ``placed`` is where it is loaded.
    """

    def __init__(
        self,
        model: int,
        path: Path,
        declared: DeclaredModel | None = None,
        subgraph: int = 0,
    ) -> None:
        self.model = model
        self.path = path
        self.declared = declared
        self.subgraph = subgraph
        self.artifact: Artifact | None = None
        self.batch = BatchAxes.refused("not examined yet")
        self.note = ""
        self.kept: Kept | None = None
        self.placed: tuple[Placed, ...] = ()
        self.made: dict[str, Built] = {}
        self._held: list[int] = []

    def hold(self, descriptor: int) -> None:
        """Keep what a descriptor holds until the member is let go of."""
        self._held.append(descriptor)

    @property
    def file(self) -> str:
        """The file as its version knows it: as it was declared, or its own name."""
        return self.path.name if self.declared is None else self.declared.files[self.subgraph]

    def named(self, text: str) -> str:
        """Return a text about it, with the file's name where a version has several."""
        return text if self.declared is None else f"{self.file}: {text}"

    def let_go(self) -> None:
        """Give back what was kept for loading it: nothing loads it any more."""
        if self.kept is not None:
            self.kept.close()
            self.kept = None
        while self._held:
            os.close(self._held.pop())
