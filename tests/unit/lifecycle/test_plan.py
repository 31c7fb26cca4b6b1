"""What to load and what to let go of, for every situation of a servable's folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from serving.lifecycle.plan import Known, Step, plan
from serving.repository.observation import Offer, Source
from serving.repository.scanner import ServableScan, VersionScan
from serving.repository.settings import ServableSettings
from serving.repository.snapshot import Print
from serving.repository.version_policy import AllVersions, SpecificVersions, VersionPolicy


def source(number: int, content: int = 1) -> Source:
    name = f"m/{number}/model.onnx"
    files = Print(((name, (content, 100, 1)),))
    return Source(Path("/r") / name, Path("/r/m") / str(number), files, ServableSettings())


def offer(
    *numbers: int, policy: VersionPolicy | None = None, moving: tuple[int, ...] = ()
) -> Offer:
    """Offer versions; those in ``moving`` are still being written."""
    settings = ServableSettings() if policy is None else ServableSettings(versions=policy)
    versions = tuple(VersionScan(n, f"m/{n}/model.onnx", Path(f"/r/m/{n}")) for n in numbers)
    return Offer(
        ServableScan("m", settings, versions),
        {n: source(n) for n in numbers},
        frozenset(numbers) - set(moving),
        frozenset(numbers),
    )


def serving(number: int, content: int = 1, *, busy: bool = False) -> Known:
    return Known(True, source(number, content), busy)


def failed(number: int, content: int = 1) -> Known:
    return Known(False, source(number, content))


def test_plan_loads_a_new_version_beside_the_old_one() -> None:
    assert plan(offer(1, 2), {1: serving(1)}) == Step((2,), load=(2,))


def test_plan_keeps_the_old_version_until_the_new_one_serves() -> None:
    coming = {1: serving(1), 2: Known(False, source(2), busy=True)}
    assert plan(offer(1, 2), coming) == Step((2,))
    assert plan(offer(1, 2), {1: serving(1), 2: serving(2)}) == Step((2,), retire=(1,))


def test_plan_keeps_a_deleted_version_while_only_a_copy_could_take_its_place() -> None:
    known = {1: serving(1)}
    assert plan(offer(2, moving=(2,)), known) == Step()
    assert plan(offer(2), known) == Step((2,), load=(2,))
    assert plan(offer(2), {**known, 2: serving(2)}) == Step((2,), retire=(1,))
    # Another that serves takes its place already, whatever is being copied.
    both = {1: serving(1), 2: serving(2)}
    assert plan(offer(2, 3, moving=(3,)), both) == Step((2,), retire=(1,))
    # Nothing is left.
    assert plan(offer(), known) == Step(retire=(1,))


def test_plan_keeps_the_old_version_when_the_new_one_failed() -> None:
    assert plan(offer(1, 2), {1: serving(1), 2: failed(2)}) == Step((2,))


def test_plan_tries_a_failed_version_again_once_its_files_change() -> None:
    assert plan(offer(1), {1: failed(1, content=9)}) == Step((1,), load=(1,))
    assert plan(offer(1), {1: failed(1)}) == Step((1,))


def test_plan_loads_changed_files_of_a_version_that_serves() -> None:
    assert plan(offer(1), {1: serving(1, content=9)}) == Step((1,), load=(1,))
    assert plan(offer(1), {1: serving(1, content=9, busy=True)}) == Step((1,))


def test_plan_waits_for_files_that_are_still_written() -> None:
    assert plan(offer(1, 2, moving=(2,)), {1: serving(1)}) == Step((1,))
    assert plan(offer(1, moving=(1,)), {1: serving(1, content=9)}) == Step((1,))
    assert plan(offer(1, moving=(1,)), {}) == Step()


def test_plan_keeps_a_deleted_version_where_one_failed_and_another_is_being_copied() -> None:
    known = {1: serving(1), 2: failed(2)}
    assert plan(offer(2, 3, moving=(3,)), known) == Step((2,))
    assert plan(offer(2, 3), known) == Step((3,), load=(3,), forget=(2,))
    assert plan(offer(2), known) == Step((2,), retire=(1,))


def test_plan_lets_go_of_a_deleted_version() -> None:
    assert plan(offer(1), {1: serving(1), 2: serving(2)}) == Step((1,), retire=(2,))
    assert plan(None, {2: serving(2), 3: failed(3)}) == Step(retire=(2,), forget=(3,))


def test_plan_keeps_a_deleted_version_until_the_one_before_it_serves_again() -> None:
    assert plan(offer(1), {2: serving(2)}) == Step((1,), load=(1,))
    loading = {1: Known(False, source(1), busy=True), 2: serving(2)}
    assert plan(offer(1), loading) == Step((1,))
    # Where that one cannot be served, deleted is deleted.
    assert plan(offer(1), {1: failed(1), 2: serving(2)}) == Step((1,), retire=(2,))


def test_plan_keeps_a_deleted_version_where_all_or_nothing_is_asked_for() -> None:
    whole = replace(offer(1), all_or_nothing=True)
    assert plan(whole, {1: failed(1), 2: serving(2)}) == Step((1,))
    assert plan(whole, {1: serving(1), 2: serving(2)}) == Step((1,), retire=(2,))


def test_plan_keeps_what_serves_while_its_folder_is_away_for_an_instant() -> None:
    away = replace(offer(), there=frozenset({1}))
    assert plan(away, {1: serving(1)}) == Step((1,))


def test_plan_keeps_what_serves_when_its_model_file_is_gone() -> None:
    empty = VersionScan(2, "m/2", None, "is empty: still being copied?")
    there = offer(1)
    there = replace(
        there,
        servable=replace(there.servable, versions=(*there.servable.versions, empty)),
        there=frozenset({1, 2}),
    )
    assert plan(there, {2: serving(2)}) == Step((2,))


def test_plan_keeps_what_serves_when_the_settings_are_broken() -> None:
    broken = Offer(ServableScan("m", reason="servable.toml is not valid TOML"))
    assert plan(broken, {1: serving(1), 2: failed(2)}) == Step(forget=(2,))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (AllVersions(), Step((3, 2, 1), load=(2, 1))),
        (SpecificVersions((2, 3)), Step((3, 2), load=(2,))),
        (SpecificVersions((2,)), Step((2,), load=(2,))),
        (SpecificVersions((9,)), Step()),
    ],
)
def test_plan_follows_the_version_policy(policy: VersionPolicy, expected: Step) -> None:
    assert plan(offer(1, 2, 3, policy=policy), {3: serving(3)}) == expected


def test_plan_lets_go_of_what_a_new_policy_does_not_want() -> None:
    known = {2: serving(2), 3: serving(3)}
    assert plan(offer(2, 3, policy=SpecificVersions((2,))), known) == Step((2,), retire=(3,))


def test_plan_touches_nothing_that_is_busy() -> None:
    draining = {1: Known(False, source(1), busy=True)}
    assert plan(None, draining) == Step()
    assert plan(offer(1), {1: Known(False, source(1, 9), busy=True)}) == Step((1,))


def in_turn(*numbers: int, moving: tuple[int, ...] = ()) -> Offer:
    """Offer versions of which a device holds one at a time."""
    given = offer(*numbers, moving=moving)
    settings = ServableSettings(update="in_turn")
    return replace(given, servable=replace(given.servable, settings=settings))


def test_plan_in_turn_lets_go_of_the_old_version_before_it_loads_the_new_one() -> None:
    assert plan(in_turn(1, 2), {1: serving(1)}) == Step((2,), retire=(1,))
    assert plan(in_turn(1, 2), {1: Known(False, source(1), busy=True)}) == Step((2,))
    assert plan(in_turn(1, 2), {}) == Step((2,), load=(2,))


def test_plan_in_turn_lets_go_of_a_version_before_it_loads_its_changed_files() -> None:
    assert plan(in_turn(1), {1: serving(1, content=9)}) == Step((1,), retire=(1,))
    assert plan(in_turn(1), {1: serving(1, content=9, busy=True)}) == Step((1,))
    assert plan(in_turn(1), {}) == Step((1,), load=(1,))


def test_plan_in_turn_keeps_the_old_version_while_the_new_one_is_being_copied() -> None:
    assert plan(in_turn(1, 2, moving=(2,)), {1: serving(1)}) == Step((1,))


def test_plan_in_turn_loads_the_version_before_when_the_new_one_failed() -> None:
    assert plan(in_turn(1, 2), {2: failed(2)}) == Step((1,), load=(1,))
    # It stays failed, until its files change.
    assert plan(in_turn(1, 2), {1: serving(1), 2: failed(2)}) == Step((1,))
    assert plan(in_turn(1, 2), {1: serving(1), 2: failed(2, content=9)}) == Step((2,), retire=(1,))
