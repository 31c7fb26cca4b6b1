"""Networks that people serve are accepted, and their rows really are independent."""

from __future__ import annotations

import numpy as np
import pytest

from serving.formats.batch_axis import prove
from tests.unit.formats import architectures
from tests.unit.formats.nets import rows_agree

NOISE = np.random.default_rng(3)
IDS = np.array([[1, 5, 2, 9, 0], [3, 3, 4, 1, 7], [8, 2, 2, 6, 5], [1, 5, 2, 9, 0]])
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 0]])


def noise(*shape: int) -> np.ndarray:
    return NOISE.standard_normal(shape).astype("float32")


PENGUINS = {
    "length": noise(4, 1),
    "depth": noise(4, 1),
    "island": np.array([["a"], ["c"], ["b"], ["a"]], dtype=object),
}
CASES = {
    "mlp": (architectures.mlp(), {"x": noise(4, 4)}),
    "lenet": (architectures.lenet(), {"x": noise(3, 1, 12, 12)}),
    "residual_cnn": (architectures.residual_cnn(), {"x": noise(3, 3, 7, 9)}),
    "transformer": (architectures.transformer(), {"ids": IDS, "mask": MASK}),
    "transformer_merged": (architectures.transformer(merged=True), {"ids": IDS, "mask": MASK}),
    "pipeline": (architectures.pipeline(), PENGUINS),
    "trees": (architectures.trees(), {"x": noise(5, 3)}),
    "recurrent": (architectures.recurrent(), {"x": noise(3, 4, 2)}),
}


@pytest.mark.parametrize("name", CASES)
def test_architecture_is_accepted_and_its_rows_are_independent(name: str) -> None:
    net, feeds = CASES[name]
    proof = prove(net)
    count = len(net.graph.node)
    assert proof.reason == (
        f"axis 0 of every input reaches axis 0 of every output ({count} "
        f"node{'' if count == 1 else 's'} walked)"
    )
    assert proof.batched
    assert proof.inputs == (0,) * len(net.graph.input)
    assert proof.outputs == (0,) * len(net.graph.output)
    rows_agree(net, feeds)
