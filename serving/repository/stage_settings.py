"""The tables of ``servable.toml`` about ``servable_config.py``: its stages and its methods."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator

from serving.repository.setting_key import STRICT, absolute, key


class StageSettings(BaseModel):
    """The table ``[stages]``: how the Python functions of a servable are run."""

    model_config = STRICT

    workers: int = key(
        1, "a whole number, 1 to 64",
        "Processes that run the functions of servable_config.py, for each version that serves.",
        ge=1, le=64,
    )  # fmt: skip
    device_id: int = key(
        0, "a whole number, 0 or more",
        "What the functions find in the environment variable SERVING_DEVICE_ID.", ge=0,
    )  # fmt: skip
    run_timeout_s: float | None = key(
        None, "a number of seconds, above 0",
        "How long one call of a function may take; then its process is ended and replaced, and "
        "the instances it worked on fail. By default run_timeout_s of the servable holds.", gt=0,
    )  # fmt: skip
    python: Annotated[str | None, BeforeValidator(absolute)] = key(
        None, "an absolute path",
        "The Python interpreter (3.9 or newer, with numpy) that imports servable_config.py and "
        "runs its functions, where the packages it needs are installed apart from the server.",
    )  # fmt: skip


class MethodSettings(BaseModel):
    """The table ``[methods]``: which methods of a servable clients can call."""

    model_config = STRICT

    hidden: bool = key(
        False, "true or false",
        "Whether clients can also call the methods that MindSpore Serving makes of every model, "
        "@call_<model>_<subgraph> with inputs x0, x1, ... and outputs y0, y1, ...",
    )  # fmt: skip
