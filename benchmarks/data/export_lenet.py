"""Write lenet_b8.mindir and lenet_b8.npz beside this file; needs MindSpore (made with 2.0.0).

    python benchmarks/data/export_lenet.py

LeNet-5 with random weights for a batch of 8 rows. The ``.npz`` holds ``x`` FP32 [8,1,32,32] and
``y`` FP32 [8,10], what MindSpore itself answers to it on a CPU.
"""

from __future__ import annotations

from pathlib import Path

import mindspore
import numpy as np
from mindspore import Tensor, export, nn

HERE = Path(__file__).resolve().parent


class LeNet(nn.Cell):
    """Two convolutions and three dense layers, as LeCun et al. had them in 1998, with ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.SequentialCell(
            nn.Conv2d(1, 6, 5, pad_mode="valid", has_bias=True),
            nn.ReLU(),
            nn.MaxPool2d(2, 2),
            nn.Conv2d(6, 16, 5, pad_mode="valid", has_bias=True),
            nn.ReLU(),
            nn.MaxPool2d(2, 2),
            nn.Flatten(),
            nn.Dense(400, 120),
            nn.ReLU(),
            nn.Dense(120, 84),
            nn.ReLU(),
            nn.Dense(84, 10),
        )

    def construct(self, x):  # noqa: D102
        return self.net(x)


def main() -> None:
    """Export the network and keep its answer."""
    mindspore.set_context(mode=mindspore.GRAPH_MODE, device_target="CPU")
    mindspore.set_seed(7)
    net, rng = LeNet().set_train(False), np.random.default_rng(7)
    for parameter in net.get_parameters():
        spread = 1 / np.sqrt(max(1, np.prod(parameter.shape[1:])))
        drawn = rng.standard_normal(parameter.shape) * spread
        parameter.set_data(Tensor(drawn.astype(np.float32)))
    x = rng.standard_normal((8, 1, 32, 32)).astype(np.float32).round(4)
    y = net(Tensor(x)).asnumpy()
    np.savez_compressed(HERE / "lenet_b8.npz", x=x, y=y)
    export(net, Tensor(x), file_name=str(HERE / "lenet_b8"), file_format="MINDIR")


if __name__ == "__main__":
    main()
