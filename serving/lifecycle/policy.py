"""Which versions of a servable are wanted: a pure function of what is there and the policy."""

from __future__ import annotations

from collections.abc import Set

from serving.repository.version_policy import AllVersions, LatestVersions, VersionPolicy


def wanted(available: Set[int], policy: VersionPolicy) -> tuple[int, ...]:
    """Return the versions to serve, highest first: the order in which to load them.

    ``available`` holds the versions with a complete model file: one that is still being copied
    does not count yet, so the one before it stays wanted.
    """
    newest_first = tuple(sorted(available, reverse=True))
    if isinstance(policy, AllVersions):
        return newest_first
    if isinstance(policy, LatestVersions):
        return newest_first[: policy.count]
    return tuple(v for v in newest_first if v in policy.versions)


def absent(available: Set[int], policy: VersionPolicy) -> tuple[int, ...]:
    """Return the versions that the policy names and the repository does not hold, ascending."""
    if isinstance(policy, AllVersions | LatestVersions):
        return ()
    return tuple(sorted(set(policy.versions) - available))
