"""The names of ``[options.ascend]``: one table for the backend and for the builder of its models.

Imports nothing of CANN: the builder reads it where there may be no device.
"""

from __future__ import annotations

from typing import Dict, Mapping

from serving.errors import did_you_mean

SOC = "soc_version"
INPUT_SHAPE = "input_shape"
ROWS, IMAGE, DIMS = "dynamic_batch_size", "dynamic_image_size", "dynamic_dims"
AIPP = "insert_op_conf"
ARGUMENTS = "arguments"
OUTPUT_BYTES = "output_bytes"

OPTIONS: Dict[str, str] = {
    SOC: "the chip that atc compiles for, such as Ascend310P3; by default that of the device",
    INPUT_SHAPE: "atc's --input_shape, in place of what the model's own sizes come to",
    ROWS: "atc's --dynamic_batch_size, in place of the servable's batch sizes",
    IMAGE: "atc's --dynamic_image_size, as \"height,width;height,width\"",
    DIMS: "atc's --dynamic_dims, as \"1,128;4,128\"",
    AIPP: "the path of a static AIPP configuration, atc's --insert_op_conf",
    ARGUMENTS: "further arguments of atc, such as \"--precision_mode_v2=origin\"",
    OUTPUT_BYTES: "the most bytes of an output that the model does not bound",
}  # fmt: skip


def unknown(options: Mapping[str, str]) -> str:
    """Return what is wrong with the names, empty if nothing is."""
    for name in options:
        if name not in OPTIONS:
            near = did_you_mean(name, OPTIONS) or f"it has {', '.join(OPTIONS)}"
            return f"the backend 'ascend' has no option {name!r}; {near}"
    return ""
