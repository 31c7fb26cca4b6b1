"""``distributed.declare_servable``: known, checked, and refused."""

from __future__ import annotations

from typing import NoReturn, Optional

from serving.register import checks
from serving.register.model import Indices


def declare_servable(
    rank_size: int,
    stage_size: int,
    with_batch_dim: bool = True,
    without_batch_dim_inputs: Optional[Indices] = None,
    enable_pipeline_infer: bool = False,
) -> NoReturn:
    """Refuse a model that is spread over ``rank_size`` devices. Raises RuntimeError."""
    checks.integer("rank_size", rank_size, 1)
    checks.integer("stage_size", stage_size, 1)
    checks.flag("with_batch_dim", with_batch_dim)
    checks.flag("enable_pipeline_infer", enable_pipeline_infer)
    if without_batch_dim_inputs is not None:
        checks.integers("without_batch_dim_inputs", without_batch_dim_inputs, 0)
    raise RuntimeError(
        "distributed.declare_servable: models that are spread over several devices (rank_size "
        f"{rank_size}) are not served; export the model for one device and use declare_model"
    )
