"""What ``servable_config.py`` uses to register models and methods; MindSpore Serving's API.

``from serving.register import ...`` and ``from mindspore_serving.server import register`` reach the
same objects. The file runs in helpers and stage workers, never in the server itself, so this
package keeps to Python 3.9 syntax, numpy and the standard library.
"""

from serving.register.context import (
    AclOptions,
    AscendDeviceInfo,
    Context,
    CPUDeviceInfo,
    GPUDeviceInfo,
    GpuOptions,
)
from serving.register.deprecated import (
    call_postprocess,
    call_postprocess_pipeline,
    call_preprocess,
    call_preprocess_pipeline,
    call_servable,
    declare_servable,
)
from serving.register.method import add_stage, register_method
from serving.register.model import Model, declare_model

__all__ = [
    "declare_model",
    "Model",
    "AscendDeviceInfo",
    "CPUDeviceInfo",
    "GPUDeviceInfo",
    "Context",
    "register_method",
    "add_stage",
    "AclOptions",
    "GpuOptions",
    "declare_servable",
    "call_preprocess",
    "call_preprocess_pipeline",
    "call_servable",
    "call_postprocess",
    "call_postprocess_pipeline",
]
