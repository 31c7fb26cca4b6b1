"""What an engine is made for and by, and the digest under which it is kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from serving.backends.base import BackendError
from serving.backends.tensorrt.cuda import Cuda
from serving.backends.tensorrt.library import Library, library
from serving.building.tensorrt_order import Order
from serving.building.tensorrt_profiles import profiles
from serving.errors import LoadError
from serving.formats.digest import digest_of
from serving.formats.external_data import external_files
from serving.formats.progress import Progress
from serving.formats.skeleton import read_skeleton

_REVISION = 1
"""Grows when this builder makes other engines of the same question."""


@dataclass(frozen=True)
class Target:
    """The library that builds and the GPU that will run: ``NVIDIA L4 (8.9)``.

    With the option ``compute_capability`` TensorRT-RTX builds for a kind of GPU that need not be
    here; ``gpu`` is then that capability alone.
    """

    library: Library
    gpu: str

    @staticmethod
    def here(order: Order) -> Target:
        """Find out; raises BackendError or ImportError for what is missing."""
        capability = order.options.compute_capability
        if capability:
            return Target(library(), f"compute capability {capability}")
        return Target(library(), _gpu())

    def parts(self, order: Order, content: str) -> dict[str, Any]:
        """Return everything that makes one engine differ from another, in words."""
        options = asdict(order.options)
        for run_only in ("cuda_graphs", "engine_host_code", "profiles"):
            del options[run_only]
        return {
            "builder": _REVISION,
            "content": content,
            "module": self.library.name,
            "version": self.library.version,
            "gpu": self.gpu,
            "signature": order.signature.to_json(),
            "profiles": [dict(profile) for profile in profiles(order)],
            "options": options,
        }

    def identity(self, order: Order, progress: Progress) -> str:
        """Return the digest of all parts; raises LoadError for what cannot be built anyway."""
        text = json.dumps(self.parts(order, content_of(order, progress)), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def content_of(order: Order, progress: Progress) -> str:
    """Return the digest of the model and its files of weights."""
    files = external_files(read_skeleton(order.source), order.source.parent)
    return digest_of(order.source, files, progress)


def _gpu() -> str:
    try:
        cuda = Cuda(0)
        cuda.use()
        properties = cuda.call("cudaGetDeviceProperties", 0)
    except BackendError as error:
        raise LoadError(
            f"no GPU to build for: {error}",
            code="no_gpu",
            fix="build on a machine with the GPU, or, with TensorRT-RTX, name its kind with the "
            'option "compute_capability", such as "8.6"',
        ) from error
    name = properties.name
    text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    return f"{text} ({properties.major}.{properties.minor})"
