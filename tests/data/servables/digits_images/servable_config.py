"""Image files of digits: decode, resize and normalise, the model, the best one or five labels.

The same service three times: stage by stage, in batches, and with the model called by a function.
"""

import io
import json
import os

import numpy as np
from mindspore_serving.server import register
from PIL import Image

from .labels import LABELS

model = register.declare_model(model_file="model.onnx", model_format="ONNX", with_batch_dim=True)

with open(os.path.join(os.path.dirname(__file__), "pixels.json")) as file:
    PIXELS = json.load(file)


def preprocess(image):
    """Take a PNG or JPEG file's bytes; return FP32 [1,8,8]."""
    with Image.open(io.BytesIO(image.tobytes())) as picture:
        grey = picture.convert("L").resize((PIXELS["size"],) * 2, Image.Resampling.BOX)
    pixels = np.asarray(grey, np.float32)
    pixels *= PIXELS["brightest"] / 255
    return pixels[np.newaxis]


def top1(scores):
    return LABELS[int(np.argmax(scores))]


def top5(scores):
    best = np.argsort(scores)[::-1][:5]
    return ";".join(LABELS[i] for i in best), scores[best]


@register.register_method(output_names=["label"])
def classify_top1(image):
    image = register.add_stage(preprocess, image, outputs_count=1)
    scores, _ = register.add_stage(model, image, outputs_count=2)
    return register.add_stage(top1, scores, outputs_count=1)


@register.register_method(output_names=["label", "score"])
def classify_top5(image):
    image = register.add_stage(preprocess, image, outputs_count=1)
    scores, _ = register.add_stage(model, image, outputs_count=2)
    label, score = register.add_stage(top5, scores, outputs_count=2)
    return label, score


def preprocess_batch(instances):
    for (image,) in instances:
        yield preprocess(image)


def top1_batch(instances):
    scores = np.stack([scores for (scores,) in instances])
    return [LABELS[i] for i in scores.argmax(1)]


@register.register_method(output_names=["label"])
def classify_batch(image):
    image = register.add_stage(preprocess_batch, image, outputs_count=1, batch_size=0)
    scores, _ = register.add_stage(model, image, outputs_count=2)
    return register.add_stage(top1_batch, scores, outputs_count=1, batch_size=16)


def call_model(image):
    scores, _ = model.call(preprocess(image))
    return top1(scores)


@register.register_method(output_names=["label"])
def classify_by_call(image):
    return register.add_stage(call_model, image, outputs_count=1)


def call_model_batch(instances):
    for scores, _ in model.call([[preprocess(image)] for (image,) in instances]):
        yield top1(scores)


@register.register_method(output_names=["label"])
def classify_by_call_batch(image):
    return register.add_stage(call_model_batch, image, outputs_count=1, batch_size=32)
