"""Which version a label stands for now: what settings say, as far as it serves."""

from __future__ import annotations

from collections.abc import Set

from serving.repository.labels import NONE, Labels, offered


class LabelBook:
    """Owns the labels of all servables. Used by the data plane, event loop only."""

    def __init__(self) -> None:
        self._wanted: dict[str, Labels] = {}
        self._offered: dict[str, Labels] = {}

    def want(self, servable: str, labels: Labels) -> None:
        """Take over what a servable's settings say; ``settle`` makes it hold."""
        if labels:
            self._wanted[servable] = labels
        else:
            self._wanted.pop(servable, None)

    def settle(self, servable: str, ready: Set[int]) -> Labels:
        """Return the labels that may be asked for while these versions are READY."""
        labels = self._wanted.get(servable, NONE)
        if not labels:
            self._offered.pop(servable, None)
            return NONE
        found = self._offered[servable] = offered(labels, ready, self._offered.get(servable, NONE))
        return found

    def number(self, servable: str, label: str) -> int | None:
        """Return the version that a label stands for now, None if it cannot be asked for."""
        return self._offered.get(servable, NONE).get(label)

    def wanted(self, servable: str, label: str) -> int | None:
        """Return the version that a label is to stand for, whether it serves or not."""
        return self._wanted.get(servable, NONE).get(label)

    def all_wanted(self, servable: str) -> Labels:
        """Return what a servable's settings say."""
        return self._wanted.get(servable, NONE)

    def of_version(self, servable: str, version: int) -> list[str]:
        """Return the labels that stand for a version now."""
        return [label for label, n in self.offered(servable).items() if n == version]

    def offered(self, servable: str) -> Labels:
        """Return a servable's labels that may be asked for."""
        return self._offered.get(servable, NONE)
