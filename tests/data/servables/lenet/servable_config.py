"""A model frozen to a batch of two rows; the label is found by a built-in stage."""

from mindspore_serving.server import register

model = register.declare_model(model_file="lenet.onnx", model_format="ONNX", with_batch_dim=True)


@register.register_method(output_names="scores")
def predict(x):
    return register.add_stage(model, x, outputs_count=1)


@register.register_method(output_names="label")
def classify(x):
    scores = register.add_stage(model, x, outputs_count=1)
    return register.add_stage("argmax_cpp", scores, outputs_count=1)
