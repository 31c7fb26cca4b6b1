"""Settings, their texts, and which values are worth trying."""

from __future__ import annotations

from serving.tune.setting import Setting, space, summary, text, worth_trying


def test_space_has_batches_up_to_what_can_be_under_way():
    assert space((1,), (1,), 2, True, 48, None)["max_batch_size"] == (1, 2, 4, 8, 16, 32, 64)
    assert space((1,), (1,), 2, True, 1, None)["max_batch_size"] == (1,)
    assert max(space((1,), (1,), 2, True, 10_000, None)["max_batch_size"]) == 256  # type: ignore[type-var]


def test_space_has_no_wait_above_half_of_the_target():
    assert space((1,), (1,), 2, True, 64, 4.0)["max_queue_delay_ms"] == (None, 0.0, 0.5, 2.0)


def test_space_of_an_unbatched_servable_has_no_batches():
    assert set(space((1, 2), (1,), 2, False, 64, None)) == {"workers", "frontends", "threads"}


def test_as_many_threads_as_automatic_gives_are_not_tried():
    threads = space((1, 2), (1,), 4, True, 64, None)["threads"]
    assert threads == (None, 1, 2, 4)
    assert worth_trying(threads, "threads", Setting(workers=1), 4) == [1, 2]
    assert worth_trying(threads, "threads", Setting(workers=2), 4) == [1, 4]
    assert worth_trying(threads, "threads", Setting(threads=2), 4) == [None, 1, 4]
    assert worth_trying((1, 2), "workers", Setting(), 4) == [2]


def test_a_wait_is_not_tried_where_rows_run_one_by_one():
    assert worth_trying((None, 0.0, 1.0), "max_queue_delay_ms", Setting(1), 4) == []
    assert worth_trying((None, 0.0, 1.0), "max_queue_delay_ms", Setting(2), 4) == [0.0, 1.0]


def test_changes_are_told_with_the_new_values():
    assert Setting(64, None, 2).changes(Setting(32, 1.0, 2)) == {
        "max_batch_size": 64,
        "max_queue_delay_ms": None,
    }


def test_texts_are_what_one_would_write():
    assert text("max_queue_delay_ms", None) == "max_queue_delay_ms = automatic"
    assert text("workers", 2) == "--workers 2"
    assert summary(Setting(8, 0.5)) == "workers 1, front ends 1, batch 8, delay 0.5, threads auto"
