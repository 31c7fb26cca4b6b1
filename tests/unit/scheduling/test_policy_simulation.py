"""The batching policy as a whole, in simulated time: recorded run times, seeded callers."""

import pytest

from serving.scheduling.cost import RUN_OVERHEAD_S
from tests.unit.scheduling.simulator import IDEAL, Machine, Simulation

# Seconds a row by rows of a run, measured with ONNX Runtime on one core each.
TRANSFORMER = {1: 2.70e-3, 2: 2.34e-3, 4: 2.14e-3, 8: 2.06e-3, 16: 2.05e-3, 32: 2.19e-3}
RESNET = {1: 18.45e-3, 2: 18.45e-3, 4: 18.45e-3, 8: 18.9e-3, 16: 20.4e-3, 32: 23.7e-3}
IDENTITY = {1: 60e-6, 32: 55e-6}  # 602 KB a row, from and to clients' memory
LENET = {1: 22e-6, 4: 20e-6, 32: 20e-6}
TINY = {1: 5e-6, 2: 3e-6, 4: 2e-6, 8: 1.5e-6, 16: 1e-6, 32: 0.8e-6}

# What master, worker and client take of two cores beside the engine, from CPU times of real runs.
# There the server did 7,300 requests of identity a second with all 8 callers in one run, and 9,900
# in two; here 7,000 and 9,850.
IDENTITY_MACHINE = Machine(35e-6, 35e-6, 80e-6, 40e-6, 12e-6, cores=2)
LENET_MACHINE = Machine(6e-6, 6e-6, 150e-6, 60e-6, 4e-6, cores=2)
TINY_MACHINE = Machine(5e-6, 5e-6, 60e-6, 60e-6, 3e-6, cores=2)
TRANSFORMER_MACHINE = Machine(40e-6, 40e-6, 100e-6, 100e-6, 25e-6, cores=2)


def share(per_row: dict[int, float], callers: int, seconds: float) -> float:
    """Return the rate of closed-loop callers on two slots by the best there could be."""
    story = Simulation(per_row, slots=2).closed(callers, seconds)
    return story.rate * min(per_row.values()) / 2


@pytest.mark.parametrize(
    ("per_row", "callers", "least"),
    [(TRANSFORMER, 8, 0.90), (TRANSFORMER, 16, 0.95), (TRANSFORMER, 64, 0.97), (RESNET, 8, 0.98)],
)
def test_policy_keeps_the_engine_at_its_best(
    per_row: dict[int, float], callers: int, least: float
) -> None:
    assert share(per_row, callers, 20) >= least


@pytest.mark.parametrize("per_row", [TRANSFORMER, RESNET, TINY])
def test_policy_never_makes_a_lone_caller_wait(per_row: dict[int, float]) -> None:
    story = Simulation(per_row, slots=2).closed(1, 400 * per_row[1] + 0.1)
    assert story.percentile(0.99) <= per_row[1] * 1.03 + RUN_OVERHEAD_S


def test_policy_brings_callers_of_a_tiny_model_together() -> None:
    story = Simulation(TINY, slots=1).closed(16, 1)
    assert story.sizes.most_common(1)[0][0] == 16


def test_policy_does_not_batch_what_gains_nothing() -> None:
    story = Simulation(RESNET, slots=2).closed(8, 60)
    ones = story.sizes[1] + story.sizes[2]
    assert ones >= 0.95 * story.sizes.total()


def to_one_run(per_row: dict[int, float], machine: Machine, slots: int, callers: int) -> float:
    """Return the rate that is learned, by that where callers are never divided into relays."""

    def rate(relays: int | None) -> float:
        simulation = Simulation(per_row, slots, machine=machine, relays=relays)
        return simulation.closed(callers, 1.5, think_s=20e-6).rate

    return rate(None) / rate(1)


def test_policy_divides_callers_who_leave_the_worker_idle_while_they_are_answered() -> None:
    assert to_one_run(IDENTITY, IDENTITY_MACHINE, 1, 8) >= 1.25


@pytest.mark.parametrize(
    ("per_row", "machine", "slots", "callers"),
    [
        (LENET, LENET_MACHINE, 1, 8), (LENET, LENET_MACHINE, 1, 32),
        (TINY, TINY_MACHINE, 1, 8), (TINY, TINY_MACHINE, 1, 32),
        (TRANSFORMER, TRANSFORMER_MACHINE, 2, 8), (TRANSFORMER, TRANSFORMER_MACHINE, 2, 64),
    ],
)  # fmt: skip
def test_policy_loses_nothing_where_relays_do_not_pay(
    per_row: dict[int, float], machine: Machine, slots: int, callers: int
) -> None:
    assert to_one_run(per_row, machine, slots, callers) >= 0.97


def test_two_relays_would_cost_callers_of_a_tiny_model_a_fifth() -> None:
    def rate(relays: int) -> float:
        simulation = Simulation(TINY, 1, machine=TINY_MACHINE, relays=relays)
        return simulation.closed(8, 0.3, think_s=20e-6).rate

    assert rate(2) <= 0.8 * rate(1)


@pytest.mark.parametrize(
    ("per_row", "rate", "machine"),
    [(TRANSFORMER, 370, IDEAL), (TRANSFORMER, 370, TRANSFORMER_MACHINE), (RESNET, 54, IDEAL)],
)
def test_policy_at_half_load_is_as_quick_as_a_queue_without_batches(
    per_row: dict[int, float], rate: float, machine: Machine
) -> None:
    story = Simulation(per_row, slots=2, machine=machine).open(rate, 20_000 / rate)
    # M/D/2 at half load: 99 of 100 are through after 2.54 times a lone run.
    assert story.percentile(0.99) <= 2.54 * 1.25 * (per_row[1] + RUN_OVERHEAD_S)


def test_policy_hardly_delays_requests_that_come_at_random() -> None:
    story = Simulation(TRANSFORMER, slots=2).open(450, 20)
    assert story.percentile(0.5) <= TRANSFORMER[1] * 1.1 + RUN_OVERHEAD_S
