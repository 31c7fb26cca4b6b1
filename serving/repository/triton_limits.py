"""What a ``config.pbtxt`` may ask for and this server does not do: refusals and remarks; pure.

A *refusal* keeps the folder from being served, because answers or their meaning would be others
than the file promises. A *remark* names a setting that changes speed or comfort only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from serving.errors import did_you_mean
from serving.repository.stubs import triton_model_config_pb2 as pb

Rule = tuple[Callable[[Any], bool], str]
"""A test of the ``ModelConfig`` message, and what to say where it holds."""

TENSORRT = ("tensorrt_plan", "tensorrt")
"""Triton's words for engines, which run on GPUs only."""

_RUNS_HERE = ("onnxruntime_onnx", "onnxruntime", "", *TENSORRT)

_ENSEMBLE = (
    "is a pipeline of other models, which is written otherwise here (put the models of its steps "
    "into one version folder and chain them in a servable_config.py: docs/pipelines.md)"
)
_TENSORFLOW = "is a TensorFlow model (export it to ONNX with tf2onnx)"
_PLATFORMS = {
    "ensemble": _ENSEMBLE,
    "tensorflow_graphdef": _TENSORFLOW,
    "tensorflow_savedmodel": _TENSORFLOW,
    "tensorflow": _TENSORFLOW,
    "pytorch_libtorch": "is a TorchScript model (export it with torch.onnx.export)",
    "pytorch": "is a PyTorch model (export it with torch.onnx.export)",
    "python": (
        "is Python code for Triton's own interface (serve the model it calls as ONNX, and the rest "
        "as functions of a servable_config.py: docs/pipelines.md)"
    ),
    "openvino": "is an OpenVINO model (serve the ONNX file it was converted from)",
    "fil": "is a forest of trees (export it to ONNX with skl2onnx or onnxmltools)",
    "dali": "is a DALI pipeline (write it as functions of a servable_config.py: docs/pipelines.md)",
    "vllm": "is a language model for vLLM, which this server does not run",
    "tensorrtllm": "is a language model for TensorRT-LLM, which this server does not run",
}
_OTHER = "is not run by this server (it runs 'onnxruntime': export the model to ONNX)"
_ONNX = {"backend": "onnxruntime", "platform": "onnxruntime_onnx"}
"""Triton's words for ONNX models, by field."""
_ONNX_MEANT = ("onnx", "ort")
"""Words that are not its own, and too short for a hint by their letters."""


def refusal(config: Any) -> str:
    """Return why a model with these settings must not be served, and the way out, or ``""``."""
    for field in ("backend", "platform"):
        engine = getattr(config, field)
        if engine not in _RUNS_HERE:
            return f"{field} {engine!r} {_PLATFORMS.get(engine) or _unknown(field, engine)}"
    for holds, text in _REFUSALS:
        if holds(config):
            return text
    return ""


def _unknown(field: str, engine: str) -> str:
    """Say what is to be done about a word that is none of Triton's own."""
    meant = _ONNX[field]
    hint = did_you_mean(meant if engine.lower() in _ONNX_MEANT else engine, [meant])
    return f"is not run by this server ({hint})" if hint else _OTHER


def remarks(config: Any) -> Iterator[str]:
    """Yield what is not honoured, each with what happens instead."""
    for holds, text in _REMARKS:
        if holds(config):
            yield f"not honoured: {text}"


def _has(*path: str) -> Callable[[Any], bool]:
    """Return whether the last field of a path is written: not its default, or not empty."""

    def test(config: Any) -> bool:
        message = config
        for name in path[:-1]:
            message = getattr(message, name)
        last = getattr(message, path[-1])
        if hasattr(last, "ListFields"):
            return bool(message.HasField(path[-1]))
        return bool(last)

    return test


def _tensor_has(field: str, sides: Sequence[str] = ("input", "output")) -> Callable[[Any], bool]:
    def test(config: Any) -> bool:
        return any(_has(field)(tensor) for side in sides for tensor in getattr(config, side))

    return test


def _reshaped(config: Any) -> bool:
    return any(
        t.HasField("reshape") and list(t.reshape.shape) != list(t.dims)
        for t in (*config.input, *config.output)
    )


def _several_instances(config: Any) -> bool:
    return any(group.count > 1 for group in config.instance_group)


def on_gpu(config: Any) -> bool:
    """Return whether instances are asked for on GPUs."""
    gpu = pb.ModelInstanceGroup.KIND_GPU
    return any(group.kind == gpu or group.gpus for group in config.instance_group)


def _placed(config: Any) -> bool:
    fields = ("profile", "passive", "secondary_devices", "host_policy", "rate_limiter")
    return any(_has(field)(group) for group in config.instance_group for field in fields)


def _prioritised(config: Any) -> bool:
    batching = config.dynamic_batching
    return bool(batching.default_priority_level or batching.priority_queue_policy)


def _timed(config: Any) -> bool:
    policy = config.dynamic_batching.default_queue_policy
    return bool(policy.default_timeout_microseconds or policy.timeout_action)


_REFUSALS: tuple[Rule, ...] = (
    (
        _has("ensemble_scheduling"),
        f"ensemble_scheduling {_ENSEMBLE}",
    ),
    (
        _has("sequence_batching"),
        "sequence_batching keeps state between the requests of a client, which this server does "
        "not do (make the state an input and an output, and send it with each request)",
    ),
    (
        _has("model_transaction_policy", "decoupled"),
        "model_transaction_policy { decoupled: true } sends any number of responses to a request; "
        "this server sends one (remove it if one is right)",
    ),
    (
        _reshaped,
        "reshape gives clients other shapes than the model has, which this server does not do "
        "(remove reshape, give dims as the model has them, and let clients send those)",
    ),
    (
        _tensor_has("is_shape_tensor"),
        "is_shape_tensor exists for TensorRT engines only (remove it)",
    ),
    (
        _tensor_has("is_non_linear_format_io"),
        "is_non_linear_format_io exists for TensorRT engines only (remove it)",
    ),
    (
        _tensor_has("allow_ragged_batch", ("input",)),
        "allow_ragged_batch joins rows of different shapes end to end, which this server does not "
        "do (remove it: requests of different shapes then run in different batches)",
    ),
    (
        _has("batch_input"),
        "batch_input makes inputs of the model from the shapes of a batch, which this server does "
        "not do (make them inputs that clients send)",
    ),
    (
        _has("batch_output"),
        "batch_output cuts outputs by the shapes of inputs, which this server does not do (let "
        "the model give each output a batch axis)",
    ),
    (
        _has("model_operations", "op_library_filename"),
        "model_operations loads a library of custom operators, which this server does not do "
        "(export the model with standard operators)",
    ),
    (
        _has("model_repository_agents", "agents"),
        "model_repository_agents may change a model while it is loaded, which this server does "
        "not do (store the model as it shall run, and remove the agents)",
    ),
)

_REMARKS: tuple[Rule, ...] = (
    (
        _several_instances,
        "instance_group count: a servable runs on all CPU workers of the server, whose number is "
        "set by --workers, and once on each of its GPUs, two batches at a time",
    ),
    (
        on_gpu,
        "instance_group KIND_GPU and gpus, where the server has no such GPU: it runs on the "
        "devices that the server has (--devices)",
    ),
    (
        _placed,
        "instance_group profile, passive, secondary_devices, host_policy and rate_limiter: "
        "instances are workers of the server, all alike",
    ),
    (
        _has("dynamic_batching", "preferred_batch_size"),
        "dynamic_batching preferred_batch_size: a batch is what waits when a worker is free, up "
        "to max_batch_size",
    ),
    (
        _has("dynamic_batching", "preserve_ordering"),
        "dynamic_batching preserve_ordering: every answer is sent as soon as it is there",
    ),
    (
        _prioritised,
        "dynamic_batching default_priority_level and priority_queue_policy: a request without a "
        "priority goes first, with those of priority 1, and all share one queue",
    ),
    (
        _timed,
        "dynamic_batching default_queue_policy default_timeout_microseconds and timeout_action: "
        "only a timeout that the client sends ends a request",
    ),
    (
        _tensor_has("optional", ("input",)),
        "input optional: every request must bring every input",
    ),
    (
        _has("optimization"),
        "optimization: ONNX Runtime's own defaults are used",
    ),
    (
        _has("response_cache", "enable"),
        "response_cache: every request runs the model",
    ),
    (
        _has("cc_model_filenames"),
        "cc_model_filenames: every device gets default_model_filename",
    ),
    (
        _has("metric_tags"),
        "metric_tags: a servable has no labels of its own in metrics",
    ),
    (
        _has("model_metrics"),
        "model_metrics: a servable has no buckets of its own in metrics",
    ),
    (
        _has("runtime"),
        "runtime: the engine is ONNX Runtime, as installed with the server",
    ),
)
