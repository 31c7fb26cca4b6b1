"""Descriptions of made-up servables, and requests for them as clients would send them."""

from __future__ import annotations

import numpy as np

from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.request import Description
from serving.tensor import BatchAxes, DType, Signature, TensorSpec


def echo(name: str, *dtypes: DType, version: int = 3, ready: bool = True) -> Description:
    """Return a servable with inputs ``x0``, ``x1``... and outputs of the same names."""
    specs = tuple(TensorSpec(f"x{i}", dtype, None) for i, dtype in enumerate(dtypes))
    return Description(
        name,
        version,
        Signature(specs, specs),
        BatchAxes.refused("made up"),
        1,
        "made-up",
        ready,
        (version,),
    )


def raw_request(name: str, *arrays: tuple[str, np.ndarray]) -> pb.ModelInferRequest:
    """Return a request whose inputs ``x0``, ``x1``... are (datatype, array), sent raw."""
    message = pb.ModelInferRequest(model_name=name)
    for index, (datatype, array) in enumerate(arrays):
        message.inputs.add(name=f"x{index}", datatype=datatype, shape=array.shape)
        message.raw_input_contents.append(array.tobytes())
    return message
