"""What ``declare_model`` may say of devices: ``Context``, a description for each, and the old form.

All of it is written down as strings and numbers; what becomes of it is decided where the model is
loaded.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar, Dict, List, Mapping, Tuple

from serving.register import checks

_LOG = logging.getLogger(__name__)

_PRECISION = ("origin", "fp16")
_FORMATS = ("ND", "NCHW", "NHWC", "CHWN", "NC1HWC0", "NHWC1C0")
_ANY: Tuple[str, ...] = ()


class DeviceInfoContext:
    """What is said of one kind of device; every option is a string."""

    _device_type = ""
    _options: ClassVar[Mapping[str, Tuple[str, ...]]] = {}
    _words = ("", "")

    def __init__(self, **options: Any) -> None:
        self.context_map: Dict[str, str] = {"device_type": self._device_type}
        owner, kind = self._words
        for name, value in options.items():
            if name not in self._options:
                raise RuntimeError(f"Set {owner.lower()} failed, unsupported {kind} {name}")
            allowed = self._options[name]
            if allowed:
                checks.choice(name, value, owner, allowed)
            self.context_map[name] = checks.text(name, value)

    def __str__(self) -> str:
        return str(self.context_map)


class CPUDeviceInfo(DeviceInfoContext):
    """A CPU: ``precision_mode`` "origin" or "fp16"."""

    _device_type = "cpu"
    _options: ClassVar[Mapping[str, Tuple[str, ...]]] = {"precision_mode": _PRECISION}
    _words = ("Cpu device info", "option")


class GPUDeviceInfo(DeviceInfoContext):
    """An NVIDIA GPU: ``precision_mode`` "origin" or "fp16"."""

    _device_type = "gpu"
    _options: ClassVar[Mapping[str, Tuple[str, ...]]] = {"precision_mode": _PRECISION}
    _words = ("Gpu device info", "option")


class AscendDeviceInfo(DeviceInfoContext):
    """An Ascend NPU: the options of its model converter (AIPP file, formats, precision, fusion)."""

    _device_type = "ascend"
    _options: ClassVar[Mapping[str, Tuple[str, ...]]] = {
        "insert_op_cfg_path": _ANY,
        "input_format": _FORMATS,
        "input_shape": _ANY,
        "output_type": ("FP32", "FP16", "UINT8"),
        "precision_mode": (
            "force_fp16", "allow_fp32_to_fp16", "must_keep_origin_dtype", "allow_mix_precision",
        ),
        "op_select_impl_mode": ("high_performance", "high_precision"),
        "fusion_switch_config_path": _ANY,
        "buffer_optimize_mode": (
            "l1_optimize", "l2_optimize", "off_optimize", "l1_and_l2_optimize",
        ),
    }  # fmt: skip
    _words = ("Ascend device info", "parameter")


class Context:
    """Options of a model: threads, and what was said of each kind of device."""

    def __init__(self, **options: Any) -> None:
        self._said: Dict[str, Any] = {}
        self._devices: List[DeviceInfoContext] = []
        for name, value in options.items():
            if name == "thread_num":
                self._said[name] = checks.integer(name, value, 1)
            elif name == "thread_affinity_core_list":
                cores = checks.integers(name, value, 0, single=False, repeats=True)
                self._said[name] = list(cores)
            elif name == "enable_parallel":
                self._said[name] = checks.flag(name, value)
            else:
                raise RuntimeError("Set context failed, unsupported option " + name)

    def append_device_info(self, device_info: DeviceInfoContext) -> None:
        """Add what is said of one kind of device; once for each."""
        if not isinstance(device_info, DeviceInfoContext):
            raise RuntimeError(
                "Parameter 'device_info' should instance of CPUDeviceInfo, GPUDeviceInfo, or "
                f"AscendDeviceInfo, but actually {type(device_info)}"
            )
        device_type = device_info.context_map["device_type"]
        if any(d.context_map["device_type"] == device_type for d in self._devices):
            raise RuntimeError(f"Device info of type {device_type} has already been appended")
        self._devices.append(device_info)

    def to_json(self) -> Dict[str, Any]:
        """Return what was said: the options, and ``devices``, a mapping of strings for each."""
        return {**self._said, "devices": [dict(d.context_map) for d in self._devices]}

    def __str__(self) -> str:
        return str(self.to_json())


class _Options:
    """The form of before MindSpore Serving 1.6: one device, given as ``options``."""

    def __init__(self, old: str, new: str, info: DeviceInfoContext) -> None:
        _LOG.warning("'%s' is deprecated, use '%s' instead", old, new)
        self.context = Context()
        self.context.append_device_info(info)


class AclOptions(_Options):
    """Deprecated: ``context`` with an ``AscendDeviceInfo``."""

    def __init__(self, **options: Any) -> None:
        super().__init__("AclOptions", "AscendDeviceInfo", AscendDeviceInfo(**options))


class GpuOptions(_Options):
    """Deprecated: ``context`` with a ``GPUDeviceInfo``."""

    def __init__(self, **options: Any) -> None:
        super().__init__("GpuOptions", "GPUDeviceInfo", GPUDeviceInfo(**options))
