"""What a loaded model says of itself: names, types, sizes, gears."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, List, Tuple

import acl

from serving.backends.ascend.constants import DTYPES, DYNAMIC_AIPP_INPUT, GEAR_INPUT
from serving.backends.ascend.failure import check, value
from serving.backends.ascend.gears import Kind, Shape, Sizes
from serving.backends.base import BackendError
from serving.tensor import UINT8, DType, element_count

# atc names an output "<operator>:<its output>:<tensor>"; the tensor's name is what people know.
_OUTPUT_NAME = re.compile(r"[^:]*:\d+:(.+)", re.DOTALL)


@dataclass(frozen=True)
class Told:
    """One input or output; ``nbytes`` is what it takes at the largest gear, 0 if unbounded."""

    name: str
    dtype: DType
    nbytes: int


@dataclass(frozen=True)
class Description:
    """A model: what is told of each input (the gear's own left out) and output, and the sizes.

    ``gear_input`` is the index of the input that sets gears, -1 where there is none.
    """

    inputs: Tuple[Told, ...]
    outputs: Tuple[Told, ...]
    sizes: Sizes
    gear_input: int
    gear_bytes: int


def describe(desc: int) -> Description:
    """Read a description that was filled by ``get_desc``; raises BackendError."""
    gear_input = -1
    inputs = []
    shapes = []
    for index in range(acl.mdl.get_num_inputs(desc)):
        name = acl.mdl.get_input_name_by_index(desc, index)
        if name == DYNAMIC_AIPP_INPUT:
            raise BackendError(
                "the model wants image settings with every run (dynamic AIPP), which are not "
                "given; compile it with a static AIPP configuration"
            )
        if name == GEAR_INPUT:
            gear_input = index
            continue
        told = Told(name, _dtype(name, acl.mdl.get_input_data_type(desc, index)),
                    acl.mdl.get_input_size_by_index(desc, index))  # fmt: skip
        inputs.append(told)
        dims = value("mdl.get_input_dims_v2", acl.mdl.get_input_dims_v2(desc, index))["dims"]
        shapes.append(_image_bytes(told, tuple(int(d) for d in dims)))
    sizes = _sizes(desc, tuple(shapes), gear_input >= 0)
    gear_bytes = acl.mdl.get_input_size_by_index(desc, gear_input) if gear_input >= 0 else 0
    return Description(tuple(inputs), _outputs(desc), sizes, gear_input, gear_bytes)


def output_dims(desc: int, index: int) -> Shape:
    """Return an output's sizes at the gear that is set, or its only ones."""
    answer = acl.mdl.get_cur_output_dims(desc, index)
    return tuple(int(d) for d in value("mdl.get_cur_output_dims", answer)["dims"])


def free_output_dims(dataset: int, index: int) -> Shape:
    """Return what the last run of a model with free sizes made of an output."""
    desc = acl.mdl.get_dataset_tensor_desc(dataset, index)
    if not desc:
        raise BackendError(f"CANN does not tell the sizes of output {index}")
    count = acl.get_tensor_desc_num_dims(desc)
    return tuple(
        int(value("get_tensor_desc_dim_v2", acl.get_tensor_desc_dim_v2(desc, axis)))
        for axis in range(count)
    )


def _outputs(desc: int) -> Tuple[Told, ...]:
    count = acl.mdl.get_num_outputs(desc)
    full = [acl.mdl.get_output_name_by_index(desc, index) for index in range(count)]
    short = [_tensor_name(name) for name in full]
    names = short if len(set(short)) == count else full
    return tuple(
        Told(
            name,
            _dtype(name, acl.mdl.get_output_data_type(desc, index)),
            acl.mdl.get_output_size_by_index(desc, index),
        )
        for index, name in enumerate(names)
    )


def _tensor_name(name: str) -> str:
    found = _OUTPUT_NAME.fullmatch(name)
    return found.group(1) if found else name


def _dtype(name: str, number: int) -> DType:
    if number not in DTYPES:
        raise BackendError(f"tensor {name!r} has CANN's data type {number}, which is not served")
    return DTYPES[number]


def _image_bytes(told: Told, shape: Shape) -> Shape:
    """Return an input's sizes, as rows of bytes where static AIPP takes YUV420SP.

    Such an image has half as many bytes as its height, width and channels tell.
    """
    image = told.dtype is UINT8 and len(shape) == 4 and min(shape) > 0
    if image and told.nbytes * 2 == element_count(shape):
        return (shape[0], told.nbytes // shape[0])
    return shape


def _sizes(desc: int, shapes: Tuple[Shape, ...], geared: bool) -> Sizes:
    if not geared:
        free = any(d < 0 for shape in shapes for d in shape)
        return Sizes(Kind.FREE if free else Kind.FIXED, shapes)
    batch = value("mdl.get_dynamic_batch", acl.mdl.get_dynamic_batch(desc))
    if batch.get("batchCount"):
        return Sizes(Kind.ROWS, shapes, tuple((int(n),) for n in sorted(batch["batch"])))
    image = value("mdl.get_dynamic_hw", acl.mdl.get_dynamic_hw(desc, -1))
    if image.get("hwCount"):
        return Sizes(Kind.IMAGE, shapes, tuple((int(h), int(w)) for h, w in image["hw"]))
    count = value(
        "mdl.get_input_dynamic_gear_count", acl.mdl.get_input_dynamic_gear_count(desc, -1)
    )
    found, code = acl.mdl.get_input_dynamic_dims(desc, -1, count)
    check("mdl.get_input_dynamic_dims", code)
    return Sizes(Kind.DIMS, shapes, tuple(_gear(one) for one in found))


def _gear(told: Any) -> Shape:
    dims: List[int] = [int(d) for d in told["dims"]]
    return tuple(dims[: int(told["dimCount"])])
