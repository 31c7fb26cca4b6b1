"""Registered as it was done before MindSpore Serving 1.5."""

import numpy as np
from mindspore_serving.server import register

register.declare_servable(
    servable_file="tensor_add.mindir", model_format="MindIR", with_batch_dim=False
)


def to_float32(x1, x2):
    return x1.astype(np.float32), x2.astype(np.float32)


def to_float32_all(instances):
    for x1, x2 in instances:
        yield x1.astype(np.float32), x2.astype(np.float32)


def total(y):
    return y.sum()


@register.register_method(output_names=["y"])
def add_common(x1, x2):
    y = register.call_servable(x1, x2)
    return y


@register.register_method(output_names=["y"])
def add_cast(x1, x2):
    x1, x2 = register.call_preprocess(to_float32, x1, x2)
    y = register.call_servable(x1, x2)
    return y


@register.register_method(output_names=["total", "y"])
def add_total(x1, x2):
    x1, x2 = register.call_preprocess_pipeline(to_float32_all, x1, x2)
    y = register.call_servable(x1, x2)
    t = register.call_postprocess(total, y)
    return t, y
