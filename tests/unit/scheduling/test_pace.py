"""When a run waits for the loop to come to rest."""

from serving.scheduling.pace import LONGEST_S, Pace

BUSY, IDLE = 50e-6, 1e-6


def linger(pace: Pace, start: float, turns: list[tuple[float, int]]) -> tuple[int, float]:
    """Ask turn by turn (how long it took, rows then); return turns lingered, and when it ended."""
    now, lingered = start, 0
    rows = 1
    for took, rows in [(0.0, 1), *turns]:
        now += took
        if not pace.lingers(now, took, rows):
            break
        lingered += 1
    pace.sent(rows)
    return lingered, now


def taught(bringing: bool) -> Pace:
    pace = Pace()
    for number in range(400):
        turns = [(BUSY, 2 if bringing else 1), *[(IDLE, 2 if bringing else 1)] * 50]
        linger(pace, number * 1.0, turns)
    return pace


def test_pace_lingers_while_the_loop_brings_requests() -> None:
    pace = taught(bringing=True)
    turns = [(BUSY, 2), (BUSY, 3), (BUSY, 4), *[(IDLE, 4)] * 100]
    lingered, ended = linger(pace, 1000.0, turns)
    assert lingered >= 4
    assert ended - 1000.0 < 3 * BUSY + 30e-6


def test_pace_hardly_ever_lingers_for_a_lone_caller() -> None:
    pace = taught(bringing=False)
    lingered = [linger(pace, 1000.0 + n, [(IDLE, 1)] * 50)[0] for n in range(320)]
    assert sum(count > 0 for count in lingered) == 10
    assert max(lingered) * IDLE < 30e-6


def test_pace_does_not_linger_for_ever_under_a_busy_loop() -> None:
    pace = taught(bringing=True)
    _, ended = linger(pace, 1000.0, [(BUSY, 2)] * 1000)
    assert ended - 1000.0 <= LONGEST_S + BUSY


def test_pace_learns_anew_when_requests_come_together_again() -> None:
    pace = taught(bringing=False)
    for number in range(200):
        linger(pace, 1000.0 + number, [(BUSY, 2), *[(IDLE, 2)] * 50])
    assert linger(pace, 2000.0, [(BUSY, 2), *[(IDLE, 2)] * 50])[0] > 0
