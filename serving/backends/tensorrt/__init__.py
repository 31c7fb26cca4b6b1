"""TensorRT on NVIDIA GPUs: runs serialized engines on rows where they lie in shared memory.

``open`` is what the registry asks for. One file per noun, from the bottom up: ``options``;
``library`` the Python module and its log; ``cuda`` the checked runtime calls and ``faults`` what
their errors mean; ``lent`` memory that the GPU reaches, ``buffer`` memory of our own; ``ports``
and ``profiles`` what an engine takes, ``description`` what its builder told; ``context`` and
``sized_later`` TensorRT's execution context and allocator, ``graphs`` recorded launches, ``lane``
a stream that runs go through, ``lanes`` all of a model; ``binding``, ``model`` and ``backend``
what a worker holds.
"""

from __future__ import annotations

from serving.backends.base import Backend, Device


def open(device: Device) -> Backend:
    """Take hold of a GPU; raises BackendError, and ImportError where a package is missing."""
    # The builder imports options and library from here and must not need a driver for it.
    from serving.backends.tensorrt.backend import TensorRt

    return TensorRt(device)
