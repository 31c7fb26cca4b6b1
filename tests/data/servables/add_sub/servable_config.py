"""Two models in a row: x1 + x2 - x3; with a function between them, (x1 + x2) * factor - x3."""

import numpy as np
from mindspore_serving.server import register

add_model = register.declare_model(
    model_file="tensor_add.mindir", model_format="MindIR", with_batch_dim=False
)
sub_model = register.declare_model(
    model_file="tensor_sub.onnx", model_format="ONNX", with_batch_dim=False
)


@register.register_method(output_names=["y"])
def add_sub_only_model(x1, x2, x3):
    y = register.add_stage(add_model, x1, x2, outputs_count=1)
    y = register.add_stage(sub_model, y, x3, outputs_count=1)
    return y


def scale(y, factor):
    return (y * factor).astype(np.float32)


@register.register_method(output_names=["y", "sum"])
def add_scale_sub(x1, x2, x3, factor):
    total = register.add_stage(add_model, x1, x2, outputs_count=1)
    scaled = register.add_stage(scale, total, factor, outputs_count=1)
    y = register.add_stage(sub_model, scaled, x3, outputs_count=1)
    return y, total


@register.register_method(output_names=["both", "three"])
def side_by_side(x1, x2, x3):
    both = register.add_stage(add_model, x1, x2, outputs_count=1)
    three = x3
    for x in (x1, x2):
        three = register.add_stage(sub_model, three, x, outputs_count=1)
    return both, three
