"""The tables of ``servable.toml`` about ``servable_config.py``: its stages and its methods."""

from __future__ import annotations

from dataclasses import dataclass

from serving.repository import setting_values as values
from serving.repository.setting_key import key


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """The table ``[stages]``: how the Python functions of a servable are run."""

    workers: int = key(
        1, "a whole number, 1 to 64",
        "Processes that run the functions of servable_config.py, for each version that serves.",
        values.whole(1, 64),
    )  # fmt: skip
    device_id: int = key(
        0, "a whole number, 0 or more",
        "What the functions find in the environment variable SERVING_DEVICE_ID.",
        values.whole(0),
    )  # fmt: skip
    run_timeout_s: float | None = key(
        None, "a number of seconds, above 0",
        "How long one call of a function may take; then its process is ended and replaced, and "
        "the instances it worked on fail. By default run_timeout_s of the servable holds.",
        values.number(0, above=True),
    )  # fmt: skip
    python: str | None = key(
        None, "an absolute path",
        "The Python interpreter (3.9 or newer, with numpy) that imports servable_config.py and "
        "runs its functions, where the packages it needs are installed apart from the server.",
        values.absolute,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """The table ``[methods]``: which methods of a servable clients can call."""

    hidden: bool = key(
        False, "true or false",
        "Whether clients can also call the methods that MindSpore Serving makes of every model, "
        "@call_<model>_<subgraph> with inputs x0, x1, ... and outputs y0, y1, ...",
        values.flag,
    )  # fmt: skip
