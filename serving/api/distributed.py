"""``mindspore_serving.server.distributed``: known, checked, and refused.

A model that is spread over several devices is run by agents, one for each device, which load the
parts that MindSpore has cut it into. This server has no agents.
"""

from __future__ import annotations

from typing import Any, NoReturn

from serving.register import checks
from serving.register.distributed import declare_servable

__all__ = ["declare_servable", "start_servable", "startup_agents"]

_WAY_OUT = "export the model for one device and start it with start_servables"


def start_servable(
    servable_directory: Any,
    servable_name: Any,
    rank_table_json_file: Any,
    version_number: Any = 1,
    distributed_address: Any = "0.0.0.0:6200",
    wait_agents_time_in_seconds: Any = 0,
) -> NoReturn:
    """Refuse to start a servable that is spread over devices. Raises RuntimeError."""
    checks.text("servable_directory", servable_directory)
    checks.text("servable_name", servable_name)
    checks.text("rank_table_json_file", rank_table_json_file)
    checks.integer("version_number", version_number, 0)
    checks.text("distributed_address", distributed_address)
    checks.integer("wait_agents_time_in_seconds", wait_agents_time_in_seconds, 0)
    raise RuntimeError(
        f"distributed.start_servable: servable '{servable_name}' is spread over several devices, "
        f"which this server does not do; {_WAY_OUT}"
    )


def startup_agents(distributed_address: Any, model_files: Any, *_: Any, **__: Any) -> NoReturn:
    """Refuse to start agents. Raises RuntimeError."""
    checks.text("distributed_address", distributed_address)
    checks.texts("model_files", model_files)
    raise RuntimeError(
        "distributed.startup_agents: this server runs no agents for models that are spread over "
        f"several devices; {_WAY_OUT}"
    )
