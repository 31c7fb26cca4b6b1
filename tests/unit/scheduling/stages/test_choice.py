"""What a free stage worker does next."""

from __future__ import annotations

from collections.abc import Mapping

from serving.scheduling.stages.choice import Choice, MethodView, RoomView, choose


def room(
    method: str, *, born: float = 0.0, waiting: int = 1, most: int = 1, priority: int = 0
) -> RoomView:
    return RoomView(method, priority, born, waiting, most)


def methods(**views: tuple[int, float]) -> Mapping[str, MethodView]:
    return {name: MethodView(*view) for name, view in views.items()}


def test_choice_of_one_worker_is_the_oldest_request_whatever_it_takes() -> None:
    rooms = [room("fast", born=2.0), room("slow", born=1.0)]
    known = methods(fast=(0, 0.001), slow=(0, 9.0))
    assert choose(rooms, known, free=1, workers=1) == Choice(1, 1)


def test_choice_prefers_urgent_requests() -> None:
    rooms = [room("a", born=1.0, priority=1), room("b", born=2.0, priority=0)]
    assert choose(rooms, methods(a=(0, 0), b=(0, 0)), free=1, workers=1) == Choice(1, 1)


def test_choice_shares_workers_between_methods() -> None:
    rooms = [room("a", born=1.0, waiting=50), room("b", born=9.0)]
    assert choose(rooms, methods(a=(2, 0.1), b=(0, 0.1)), free=2, workers=4) == Choice(1, 1)


def test_slow_method_leaves_the_last_worker_to_a_fast_one_that_is_in_use() -> None:
    rooms = [room("slow", waiting=100)]
    known = methods(slow=(1, 0.1), fast=(0, 0.001))
    assert choose(rooms, known, free=1, workers=2) is None
    assert choose(rooms, known, free=2, workers=3) == Choice(0, 1)


def test_slow_method_has_all_workers_while_no_other_is_in_use() -> None:
    rooms = [room("slow", waiting=100)]
    assert choose(rooms, methods(slow=(1, 0.1)), free=1, workers=2) == Choice(0, 1)


def test_slow_method_has_at_least_one_worker() -> None:
    rooms = [room("slow", waiting=100)]
    known = methods(slow=(0, 0.1), fast=(1, 0.001))
    assert choose(rooms, known, free=1, workers=2) == Choice(0, 1)


def test_fast_method_takes_the_last_worker() -> None:
    rooms = [room("slow", born=0.0, waiting=100), room("fast", born=5.0)]
    known = methods(slow=(1, 0.1), fast=(0, 0.001))
    assert choose(rooms, known, free=1, workers=2) == Choice(1, 1)


def test_methods_that_take_about_as_long_share_the_last_worker() -> None:
    rooms = [room("a", waiting=5)]
    assert choose(rooms, methods(a=(1, 0.1), b=(0, 0.06)), free=1, workers=2) == Choice(0, 1)


def test_short_runs_never_keep_a_worker_free() -> None:
    rooms = [room("a", waiting=5)]
    assert choose(rooms, methods(a=(1, 0.004), b=(0, 0.0001)), free=1, workers=2) == Choice(0, 1)


def test_choice_divides_what_waits_by_the_free_workers() -> None:
    known = methods(a=(0, 0.1))
    assert choose([room("a", waiting=7, most=128)], known, free=2, workers=2) == Choice(0, 4)
    assert choose([room("a", waiting=7, most=3)], known, free=2, workers=2) == Choice(0, 3)
    assert choose([room("a", waiting=7, most=128)], known, free=1, workers=2) == Choice(0, 7)


def test_choice_is_none_where_nobody_waits() -> None:
    assert choose([], {}, free=1, workers=1) is None
