"""One version of one servable, from the day the repository showed it."""

from __future__ import annotations

from pathlib import Path

from serving.artifact import Artifact
from serving.lifecycle.state import State, move
from serving.repository.example import Example
from serving.repository.settings import ServableSettings
from serving.repository.triton_folder import TritonFolder
from serving.tensor import BatchAxes


class Version:
    """What is known of a version. Owned by the manager; read by data plane and pages.

    ``model`` is its number in messages to workers. ``reason`` says why it is FAILED;
    ``note`` what a READY one should tell its operator. ``batch`` is what the proof left.
    ``triton`` is what its folder's ``config.pbtxt`` says, where it is set up by one.
    """

    def __init__(
        self,
        model: int,
        servable: str,
        number: int,
        path: Path | None,
        settings: ServableSettings,
        triton: TritonFolder | None = None,
    ) -> None:
        self.model = model
        self.servable = servable
        self.number = number
        self.path = path
        self.settings = settings
        self.triton = triton
        self.state = State.NEW
        self.reason = ""
        self.note = ""
        self.artifact: Artifact | None = None
        self.batch = BatchAxes.refused("not examined yet")
        self.load_ms = 0.0
        self.example: Example | None = None

    @property
    def title(self) -> str:
        """Name and number for people: ``digits version 3``."""
        return f"{self.servable} version {self.number}"

    def become(self, target: State, reason: str = "") -> None:
        """Move to another state; FAILED wants its reason."""
        self.state = move(self.state, target)
        self.reason = reason
