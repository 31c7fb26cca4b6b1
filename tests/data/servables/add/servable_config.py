"""One model; a stage in front of it casts whatever comes."""

import numpy as np
from mindspore_serving.server import register

tensor_add = register.declare_model(
    model_file="tensor_add.mindir", model_format="MindIR", with_batch_dim=False
)


def to_float32(x1, x2):
    return x1.astype(np.float32), x2.astype(np.float32)


@register.register_method(output_names=["y"])
def add_common(x1, x2):
    y = register.add_stage(tensor_add, x1, x2, outputs_count=1)
    return y


@register.register_method(output_names=["y"])
def add_cast(x1, x2):
    x1, x2 = register.add_stage(to_float32, x1, x2, outputs_count=2, tag="Preprocess")
    y = register.add_stage(tensor_add, x1, x2, outputs_count=1)
    return y
