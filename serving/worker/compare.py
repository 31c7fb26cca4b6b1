"""Runs a model once and compares what comes out with what should: ``serving convert --verify``.

``python -m serving.worker.compare BACKEND MODEL INPUTS.npz OUTPUTS.npz [TOLERANCE]`` prints one
line of JSON: ``{"outputs": [{"name", "shape", "error", "largest", "allowed", "agrees"}, ...]}``,
or ``{"problem": "..."}`` when they cannot be compared. It ends with 0 in both cases.
"""

from __future__ import annotations

import json
import sys
import zipfile
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from serving.backends.base import BackendError, Device, ModelSource
from serving.backends.registry import open_backend
from serving.tensor import BF16, Array, Tensor, TensorSpec, bf16_to_float32, float32_to_bf16

TOLERANCES: Dict[str, float] = {"FP16": 1e-2, "BF16": 2e-2, "FP32": 1e-4, "FP64": 1e-6}
"""Largest difference of an element, as a part of the output's largest; others must be equal."""


class Incomparable(Exception):
    """The arrays do not fit the model; the text says how."""


def compare(
    backend: str,
    model: str,
    inputs: Mapping[str, Array],
    expected: Mapping[str, Array],
    tolerance: Optional[float] = None,
) -> List[Dict[str, Any]]:
    """Return for each output how far it is from what is expected.

    Arrays belong to the tensors of their names; where the names are others, to those in order.
    Raises Incomparable, or BackendError with the engine's reason.
    """
    loaded = open_backend(backend, Device()).load(ModelSource(model, 1))
    signature = loaded.signature
    given = matched("input", signature.inputs, inputs)
    wanted = matched("output", signature.outputs, expected)
    tensors = [_tensor(spec, array) for spec, array in zip(signature.inputs, given)]
    answers = loaded.bind(tensors, None).run()
    assert answers is not None
    return [
        difference(spec, answer, array, tolerance)
        for spec, answer, array in zip(signature.outputs, answers, wanted)
    ]


def matched(side: str, specs: Sequence[TensorSpec], arrays: Mapping[str, Array]) -> List[Array]:
    """Return the arrays in the order of the tensors; raises Incomparable."""
    if len(arrays) != len(specs):
        raise Incomparable(f"the model has {len(specs)} {side}s and the file {len(arrays)} arrays")
    if all(spec.name in arrays for spec in specs):
        return [arrays[spec.name] for spec in specs]
    return list(arrays.values())


def _tensor(spec: TensorSpec, array: Array) -> Tensor:
    if spec.dtype is BF16 and array.dtype == np.float32:
        array = float32_to_bf16(array)
    if spec.dtype.numpy is None or array.dtype != spec.dtype.numpy:
        raise Incomparable(f"input {spec.name!r} is {spec.dtype.name}, the array {array.dtype}")
    shape = spec.shape
    if shape is not None and (
        len(shape) != array.ndim
        or any(isinstance(n, int) and n >= 0 and n != m for n, m in zip(shape, array.shape))
    ):
        raise Incomparable(f"input {spec.name!r} is {spec.text()}, the array {list(array.shape)}")
    return Tensor(spec.name, spec.dtype, array.shape, np.ascontiguousarray(array))


def difference(
    spec: TensorSpec, answer: Tensor, expected: Array, tolerance: Optional[float]
) -> Dict[str, Any]:
    """Say how far an answer is from what is expected; NaN agrees with NaN only."""
    found = {"name": spec.name, "shape": list(answer.shape)}
    if answer.array is None:
        raise Incomparable(f"output {spec.name!r} holds no numbers")
    if tuple(expected.shape) != tuple(answer.shape):
        told = f"the shape is {list(answer.shape)}, expected {list(expected.shape)}"
        return {**found, "problem": told, "agrees": False}
    array = answer.array
    if spec.dtype is BF16:
        array = bf16_to_float32(array)
        expected = expected if expected.dtype != np.uint16 else bf16_to_float32(expected)
    ours, theirs = array.astype(np.float64), expected.astype(np.float64)
    part = TOLERANCES.get(spec.dtype.name, 0.0) if tolerance is None else tolerance
    with np.errstate(invalid="ignore"):
        apart = np.where((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)), 0.0, ours - theirs)
    error = float(np.max(np.abs(apart), initial=0.0))
    finite = theirs[np.isfinite(theirs)]
    largest = float(np.max(np.abs(finite), initial=0.0))
    return {
        **found,
        "error": error if np.isfinite(error) else None,
        "largest": largest,
        "allowed": part * largest,
        "agrees": bool(error <= part * largest),
    }


def _read(path: str) -> Dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise Incomparable(f"{path} is no .npz file")
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise Incomparable(f"{path} cannot be read: {error}") from error


def main(arguments: Sequence[str]) -> Dict[str, Any]:
    """Return what is printed."""
    backend, model, inputs, expected, *more = arguments
    tolerance = float(more[0]) if more else None
    try:
        found = compare(backend, model, _read(inputs), _read(expected), tolerance)
    except (Incomparable, BackendError) as problem:
        return {"problem": str(problem)}
    return {"outputs": found}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
