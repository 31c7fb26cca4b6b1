"""What becomes of a request whose worker was lost."""

from __future__ import annotations

import pytest

from serving.errors import Status
from serving.scheduling.suspicion import Cause, Loss, RunTerms, Step, blame, lost, next_step

CRASHED, HUNG, ENDED = Cause.CRASHED, Cause.HUNG, Cause.ENDED


def step(cause: Cause, attempts: int = 0, **more: bool) -> Step:
    told = {"alone": False, "apart": False, "idempotent": True, **more}
    return next_step(cause, attempts=attempts, **told)


def test_request_of_a_worker_ended_from_outside_runs_once_more_and_is_then_tried_apart() -> None:
    assert step(ENDED) is Step.REPEAT
    assert step(ENDED, alone=True) is Step.REPEAT
    assert step(ENDED, 1, alone=True) is Step.TRY_APART


@pytest.mark.parametrize("alone", [False, True])
def test_request_of_a_crashed_worker_never_meets_another_serving_one(alone: bool) -> None:
    assert step(CRASHED, alone=alone) is Step.TRY_APART
    assert step(CRASHED, 1, alone=alone) is Step.TRY_APART


def test_run_that_hung_with_one_request_is_not_repeated() -> None:
    assert step(HUNG, alone=True) is Step.BLAME
    assert step(HUNG, alone=True, idempotent=False) is Step.BLAME
    assert step(HUNG) is Step.TRY_APART


@pytest.mark.parametrize("cause", [CRASHED, HUNG, ENDED])
def test_request_that_ends_a_worker_of_its_own_is_to_blame(cause: Cause) -> None:
    assert step(cause, 1, apart=True, alone=True) is Step.BLAME


@pytest.mark.parametrize("cause", list(Cause))
def test_request_is_run_three_times_at_most(cause: Cause) -> None:
    assert step(cause, 2) is Step.GIVE_UP


@pytest.mark.parametrize("cause", list(Cause))
def test_request_of_a_servable_that_is_not_idempotent_is_not_repeated(cause: Cause) -> None:
    assert step(cause, idempotent=False) is Step.GIVE_UP
    error = lost(idempotent=False)
    assert (error.code, error.status) == ("worker_lost", Status.UNAVAILABLE)
    assert "idempotent = false" in str(error)


def test_blame_says_how_the_process_ended_and_is_no_call_to_try_again() -> None:
    error = blame(Loss(CRASHED, "ended by SIGFPE"), RunTerms())
    assert (error.code, error.status) == ("crashed_the_worker", Status.INTERNAL)
    assert "SIGFPE" in str(error)
    assert error.retry_after_s is None


def test_blame_for_a_hang_names_the_limit_and_where_to_raise_it() -> None:
    error = blame(Loss(HUNG, "a run took longer than 2 s"), RunTerms(timeout_s=2))
    assert (error.code, error.status) == ("run_timeout", Status.DEADLINE_EXCEEDED)
    assert error.expected == "at most 2 s"
    assert "run_timeout_s" in error.fix
    assert "--run-timeout-s" in error.fix


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("attempts", [0, 1])
def test_request_whose_worker_lost_its_device_runs_elsewhere(attempts: int, apart: bool) -> None:
    assert step(Cause.DEVICE, attempts, alone=True, apart=apart) is Step.REPEAT


def test_request_that_met_one_lost_device_after_the_other_is_given_up() -> None:
    assert step(Cause.DEVICE, 2) is Step.GIVE_UP


def test_request_that_must_not_run_twice_is_given_up_with_its_device() -> None:
    assert step(Cause.DEVICE, 0, idempotent=False) is Step.GIVE_UP
