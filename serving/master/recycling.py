"""When a worker holds so much memory that it is replaced by a fresh one: pure rules."""

from __future__ import annotations

from dataclasses import dataclass, field

_GROWTH = 1.25
_KEPT_SHARE = 0.1
_KEPT_MB = 64


def outgrown(held_mb: int, fresh_mb: int, limit_mb: int) -> bool:
    """Return whether a worker is over its limit (0: none) and a fresh one would hold less.

    ``fresh_mb`` is what it held once it had loaded its models. Where those alone come near the
    limit, or over it, a fresh worker would soon be there again: it must have grown by a quarter.
    """
    return 0 < limit_mb < held_mb and held_mb > _GROWTH * fresh_mb


@dataclass
class Growth:
    """What one worker's memory did with the loads and unloads that it had to itself; in MiB."""

    fresh_mb: int = 0
    kept_mb: int = 0
    _due_mb: int = 0
    _grew: dict[int, int] = field(default_factory=dict)

    def loaded(self, model: int, before_mb: int, after_mb: int) -> None:
        """Loading a model took memory."""
        self._grew[model] = max(0, after_mb - before_mb)
        self.fresh_mb += self._grew[model]

    def unloaded(self, model: int, before_mb: int, after_mb: int) -> None:
        """Unloading it gave memory back, or less than it had taken."""
        due = self.forget(model)
        self._due_mb += due
        self.kept_mb = max(0, self.kept_mb + due - (before_mb - after_mb))

    def forget(self, model: int) -> int:
        """A model is gone, whatever that gave back; returns what it had taken."""
        due = self._grew.pop(model, 0)
        self.fresh_mb = max(0, self.fresh_mb - due)
        return due

    @property
    def leaked(self) -> bool:
        """Whether much more was kept after unloads than should have been."""
        return self.kept_mb > max(_KEPT_MB, _KEPT_SHARE * self._due_mb)
