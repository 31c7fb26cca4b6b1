"""One version of one servable as it was loaded, or was tried: a *generation* of its number."""

from __future__ import annotations

import time
from collections.abc import Iterator

from serving.definition import Definition
from serving.lifecycle.member import Member
from serving.lifecycle.state import State, move
from serving.repository.class_labels import ClassLabels
from serving.repository.example import Example
from serving.repository.observation import Source
from serving.repository.settings import ServableSettings
from serving.repository.triton_folder import TritonFolder
from serving.tensor import fixed_batch

_COMING = (State.NEW, State.LOADING, State.WARMING)


class Version:
    """What is known of a version. Owned by the manager; read by data plane and pages.

    ``generation`` tells one loading of its number from another. ``source`` is what it is made
    from, None if there is nothing to load. ``members`` are its models: the one of a plain
    servable, or those that its ``definition`` declares once that is known. ``reason`` says why it
    is FAILED; ``note`` what a READY one should tell its operator, and ``trouble`` why what lies in
    its folder now does not take its place. ``doing`` is what is being done to bring it up.
    """

    def __init__(
        self,
        generation: int,
        servable: str,
        number: int,
        source: Source | None,
        settings: ServableSettings,
    ) -> None:
        self.generation = generation
        self.servable = servable
        self.number = number
        self.source = source
        self.settings = settings
        self.definition: Definition | None = None
        self.members: tuple[Member, ...] = ()
        if source is not None and source.code is None:
            self.members = (Member(generation, source.path),)
        self.state = State.NEW
        self.reason = ""
        self.note = ""
        self.trouble = ""
        self.doing = "waits for its turn"
        self.load_ms = 0.0
        self._born = time.monotonic()

    @property
    def triton(self) -> TritonFolder | None:
        """What its folder's ``config.pbtxt`` says, where it is set up by one."""
        return None if self.source is None else self.source.triton

    @property
    def example(self) -> Example | None:
        """The request that lies beside it, if one does."""
        return None if self.source is None else self.source.example

    @property
    def class_labels(self) -> ClassLabels:
        """The names of classes that elements of its outputs stand for."""
        return () if self.source is None else self.source.class_labels

    @property
    def said(self) -> str:
        """What an operator should know of it besides its state."""
        if self.state in _COMING:
            return f"{self.doing} ({time.monotonic() - self._born:.0f} s)"
        return self.reason or self.trouble or self.note

    @property
    def batching(self) -> str:
        """How its models batch, in words."""
        return "; ".join(member.named(self._batched(member)) for member in self.members)

    @property
    def placement(self) -> str:
        """The kinds of devices that have it, in words; nothing where that is the CPU alone."""
        kinds = dict.fromkeys(placed.kind for m in self.members for placed in m.placed)
        return "" if set(kinds) <= {"cpu"} else f"on {', '.join(kinds)}"

    def _batched(self, member: Member) -> str:
        if not member.batch.batched:
            return f"not batched: {member.batch.reason}"
        assert member.artifact is not None
        assert member.artifact.signature is not None
        fixed = fixed_batch(member.artifact.signature, member.batch)
        return f"batched up to {fixed or self.settings.max_batch_size}"

    def define(self, definition: Definition, numbers: Iterator[int]) -> None:
        """Take over what its ``servable_config.py`` registers; ``numbers`` are for its models."""
        assert self.source is not None
        home = self.source.path
        self.definition = definition
        self.members = tuple(
            Member(next(numbers), home / file, declared, subgraph)
            for declared in definition.models
            for subgraph, file in enumerate(declared.files)
        )

    def become(self, target: State, reason: str = "") -> None:
        """Move to another state; FAILED wants its reason."""
        self.state = move(self.state, target)
        self.reason = reason

    def let_go(self) -> None:
        """Give back what was kept for loading it: nothing loads it any more."""
        for member in self.members:
            member.let_go()


def who(version: Version) -> dict[str, object]:
    """Return what a log line says about a version."""
    return {"servable": version.servable, "version": version.number}
