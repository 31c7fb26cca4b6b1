"""One version of one servable as it was loaded, or was tried: a *generation* of its number."""

from __future__ import annotations

from serving.artifact import Artifact
from serving.lifecycle.state import State, move
from serving.repository.conversions import Kept
from serving.repository.example import Example
from serving.repository.observation import Source
from serving.repository.settings import ServableSettings
from serving.repository.triton_folder import TritonFolder
from serving.tensor import BatchAxes


class Version:
    """What is known of a version. Owned by the manager; read by data plane and pages.

    ``model`` is its number in messages to workers, another one for each time that the version is
    loaded. ``source`` is what it is made from, None if there is nothing to load. ``reason`` says
    why it is FAILED; ``note`` what a READY one should tell its operator, and ``trouble`` why what
    lies in its folder now does not take its place. ``batch`` is what the proof left. ``kept``
    keeps what its file was converted to where workers find it.
    """

    def __init__(
        self,
        model: int,
        servable: str,
        number: int,
        source: Source | None,
        settings: ServableSettings,
    ) -> None:
        self.model = model
        self.servable = servable
        self.number = number
        self.source = source
        self.settings = settings
        self.state = State.NEW
        self.reason = ""
        self.note = ""
        self.trouble = ""
        self.artifact: Artifact | None = None
        self.kept: Kept | None = None
        self.batch = BatchAxes.refused("not examined yet")
        self.load_ms = 0.0

    @property
    def triton(self) -> TritonFolder | None:
        """What its folder's ``config.pbtxt`` says, where it is set up by one."""
        return None if self.source is None else self.source.triton

    @property
    def example(self) -> Example | None:
        """The request that lies beside it, if one does."""
        return None if self.source is None else self.source.example

    @property
    def said(self) -> str:
        """What an operator should know of it besides its state."""
        return self.reason or self.trouble or self.note

    def become(self, target: State, reason: str = "") -> None:
        """Move to another state; FAILED wants its reason."""
        self.state = move(self.state, target)
        self.reason = reason

    def let_go(self) -> None:
        """Give back what was kept for loading it: nothing loads it any more."""
        if self.kept is not None:
            self.kept.close()
            self.kept = None


def who(version: Version) -> dict[str, object]:
    """Return what a log line says about a version."""
    return {"servable": version.servable, "version": version.number}
