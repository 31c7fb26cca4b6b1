"""When crashes are a loop."""

from serving.master.crashes import CrashLog

NEVER = float("-inf")


def test_fifth_crash_within_a_minute_is_a_loop() -> None:
    log = CrashLog()
    assert [log.crashed(1, float(now), NEVER) for now in range(5)] == [False] * 4 + [True]


def test_crashes_of_different_models_are_not_added_up() -> None:
    log = CrashLog()
    assert not any(log.crashed(model, 1.0, NEVER) for model in range(8))


def test_run_that_went_well_clears_the_crashes_before_it() -> None:
    log = CrashLog()
    for now in range(4):
        log.crashed(1, float(now), NEVER)
    assert not log.crashed(1, 5.0, well_s=4.0)
    assert [log.crashed(1, 6.0 + n, well_s=4.0) for n in range(4)] == [False] * 3 + [True]


def test_crashes_over_a_longer_time_are_no_loop() -> None:
    log = CrashLog()
    assert not any(log.crashed(1, now * 20.0, NEVER) for now in range(20))


def test_model_that_was_unloaded_begins_anew() -> None:
    log = CrashLog()
    for now in range(4):
        log.crashed(1, float(now), NEVER)
    log.forget(1)
    assert not log.crashed(1, 5.0, NEVER)
