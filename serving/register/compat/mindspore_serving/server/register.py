"""``mindspore_serving.server.register``: the objects of ``serving.register``.

And the names that only MindSpore Serving 1.3 had, to say what took their place.
"""

from typing import Any, NoReturn

from serving.register import *  # noqa: F403
from serving.register import __all__  # noqa: F401


def register_pipeline(*_: Any, **__: Any) -> NoReturn:
    """Refuse a pipeline of methods. Raises RuntimeError."""
    raise RuntimeError(
        "register_pipeline was in MindSpore Serving 1.3 alone; register one method instead, with "
        "the stages of all methods that it calls: y = add_stage(model, x, outputs_count=1)"
    )


PipelineServable = register_pipeline
"""What such pipelines called; refused in the same words."""
