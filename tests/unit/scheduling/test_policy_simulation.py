"""The batching policy as a whole, in simulated time: recorded run times, seeded callers."""

import pytest

from serving.scheduling.cost import RUN_OVERHEAD_S
from tests.unit.scheduling.simulator import Simulation

# Seconds a row by rows of a run, measured with ONNX Runtime on one core each.
TRANSFORMER = {1: 2.70e-3, 2: 2.34e-3, 4: 2.14e-3, 8: 2.06e-3, 16: 2.05e-3, 32: 2.19e-3}
RESNET = {1: 18.45e-3, 2: 18.45e-3, 4: 18.45e-3, 8: 18.9e-3, 16: 20.4e-3, 32: 23.7e-3}
TINY = {1: 5e-6, 2: 3e-6, 4: 2e-6, 8: 1.5e-6, 16: 1e-6, 32: 0.8e-6}


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


@pytest.mark.parametrize(("per_row", "rate"), [(TRANSFORMER, 370), (RESNET, 54)])
def test_policy_at_half_load_is_as_quick_as_a_queue_without_batches(
    per_row: dict[int, float], rate: float
) -> None:
    story = Simulation(per_row, slots=2).open(rate, 20_000 / rate)
    # M/D/2 at half load: 99 of 100 are through after 2.54 times a lone run.
    assert story.percentile(0.99) <= 2.54 * 1.25 * (per_row[1] + RUN_OVERHEAD_S)


def test_policy_hardly_delays_requests_that_come_at_random() -> None:
    story = Simulation(TRANSFORMER, slots=2).open(450, 20)
    assert story.percentile(0.5) <= TRANSFORMER[1] * 1.1 + RUN_OVERHEAD_S
