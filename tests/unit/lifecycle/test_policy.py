"""Which versions are wanted."""

import pytest

from serving.lifecycle.policy import absent, wanted
from serving.repository.version_policy import (
    AllVersions,
    LatestVersions,
    SpecificVersions,
    VersionPolicy,
)


@pytest.mark.parametrize(
    ("available", "policy", "expected"),
    [
        ({1, 10, 9}, LatestVersions(), (10,)),
        ({1, 10, 9}, LatestVersions(2), (10, 9)),
        ({1}, LatestVersions(5), (1,)),
        ({2, 1, 3}, AllVersions(), (3, 2, 1)),
        ({1, 2, 3}, SpecificVersions((1, 3)), (3, 1)),
        ({1, 2}, SpecificVersions((7,)), ()),
        (set(), LatestVersions(), ()),
        (set(), AllVersions(), ()),
    ],
)
def test_policy_wants_versions_highest_first(
    available: set[int], policy: VersionPolicy, expected: tuple[int, ...]
) -> None:
    assert wanted(available, policy) == expected


def test_policy_names_the_versions_that_are_not_there() -> None:
    assert absent({1, 2}, SpecificVersions((2, 7, 9))) == (7, 9)
    assert absent({1, 2}, LatestVersions(3)) == ()
    assert absent(set(), AllVersions()) == ()
