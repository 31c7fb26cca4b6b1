"""Models of a batch of four rows, and the ways to run them."""

import numpy as np
from mindspore_serving.server import register

add = register.declare_model(model_file="add_b4.mindir", model_format="MindIR", with_batch_dim=True)
both = register.declare_model(
    model_file="addv_b4.mindir",
    model_format="MindIR",
    with_batch_dim=True,
    without_batch_dim_inputs=1,
)


@register.register_method(output_names=["y"])
def predict(x1, x2):
    return register.add_stage(add, x1, x2, outputs_count=1)


@register.register_method(output_names=["s", "d"])
def predict_v(x, v):
    s, d = register.add_stage(both, x, v, outputs_count=2)
    return s, d


def call_one(x1, x2):
    return add.call(x1, x2)


@register.register_method(output_names=["y"])
def via_call(x1, x2):
    return register.add_stage(call_one, x1, x2, outputs_count=1)


def call_many(instances):
    for (y,) in add.call([list(instance) for instance in instances]):
        yield y, len(instances)


@register.register_method(output_names=["y", "n"])
def via_call_batch(x1, x2):
    y, n = register.add_stage(call_many, x1, x2, outputs_count=2, batch_size=0)
    return y, n


def call_six(x1, x2):
    return np.stack([y for (y,) in add.call([[x1, x2]] * 6)])


@register.register_method(output_names=["y"])
def via_call_six(x1, x2):
    return register.add_stage(call_six, x1, x2, outputs_count=1)
