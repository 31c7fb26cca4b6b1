"""What only prints, checks or records is left out; what changes the model is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.mindir_files import Net, run_net

F = "float32"
X = np.array([1, 2, 3], F)


def network(operator: str, *given: str | bool) -> Net:
    """Return twice the input, once the operator has had the input after what is given."""
    net = Net()
    x = net.input("x", F, X.shape)
    token = net.monad()
    constants = [net.constant(v) for v in given]
    done = net.op(operator, [*constants, x, token], ("int32", (1,)))
    after = net.op("UpdateState", [token, done], None)
    twice = net.op("Add", [x, x], (F, X.shape))
    net.output(net.op("Depend", [twice, after], (F, X.shape)))
    return net


@pytest.mark.parametrize(
    ("operator", "given"),
    [("Print", ()), ("Assert", (True,)), ("ScalarSummary", ("loss",)),
     ("TensorSummary", ("rows",)), ("ImageSummary", ("image",)), ("HistogramSummary", ("w",))],
)  # fmt: skip
def test_side_effect_that_tells_is_left_out(
    tmp_path: Path, operator: str, given: tuple[str | bool, ...]
) -> None:
    (found,) = run_net(network(operator, *given), tmp_path, X)
    np.testing.assert_array_equal(found, X * 2)


def test_side_effect_that_changes_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="AssignAdd .* changes the model's state"):
        run_net(network("AssignAdd"), tmp_path, X)
