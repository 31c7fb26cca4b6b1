"""Values on their way into Python functions and back: the rules of MindSpore Serving, and no traps.

A function gets arrays of its own (it may write to them, and may keep them): what it was called with
lies in memory that goes back into use as soon as it has answered.

- Numbers: it sees an array (0-d for a scalar; bfloat16 widened to float32). It returns an array or
  a numpy scalar, which keeps its dtype, or a ``bool`` (BOOL), ``int`` (INT64) or ``float`` (FP64),
  each of shape ().
- Text: it sees a ``str``, or an object array of them where there are several. It returns the same;
  a single ``str`` has shape ().
- Bytes: it sees a 1-D ``uint8`` array, or an object array of ``bytes`` where there are several. It
  returns ``bytes``, of shape (), or an array of them.

Whatever has a method ``asnumpy`` (a ``mindspore.Tensor``) counts as the array that it returns. So
do lists whose elements are alike (nested ones, too, and those of arrays), and objects that say
themselves what array they are: a picture of Pillow, a ``torch.Tensor``.
"""

from __future__ import annotations

from typing import Any, Callable, Iterable, List, Optional, Tuple

import numpy as np

from serving.tensor import (
    BF16,
    BOOL,
    BYTES,
    DTYPES,
    FP64,
    INT64,
    TEXT,
    Array,
    DType,
    Tensor,
    bf16_to_float32,
    element_count,
)

_BY_NUMPY = {d.numpy: d for d in DTYPES if d.numpy is not None and d is not BF16}
_INT64 = np.iinfo(np.int64)
_VALUES = "numpy array, number, bool, str or bytes"


class Unfit(Exception):
    """No value that a stage can pass on; the text names it, and says why it is none."""


def to_python(tensor: Tensor, copy: bool = True) -> Any:
    """Return what a function sees of a value; shares no memory with it, if it is to ``copy``."""
    if tensor.array is not None:
        if tensor.dtype is BF16:
            return bf16_to_float32(tensor.array).reshape(tensor.shape)
        array = tensor.array.copy() if copy else tensor.array
        return array.reshape(tensor.shape)
    items = tensor.items or ()
    single = len(tensor.shape) <= 1 and element_count(tensor.shape) == 1
    if tensor.dtype is TEXT:
        texts = [bytes(item).decode() for item in items]
        return texts[0] if single else _objects(texts, tensor.shape)
    if single:
        return np.frombuffer(bytes(items[0]), np.uint8).copy()
    return _objects([bytes(item) for item in items], tensor.shape)


def from_python(value: Any) -> Tensor:
    """Return the value that a function gave; numbers share its memory. Raises Unfit."""
    convert = getattr(value, "asnumpy", None)
    if callable(convert):
        value = convert()
    if isinstance(value, str):
        return _strings(TEXT, (), [_encoded(value)])
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _strings(BYTES, (), [bytes(value)])
    if isinstance(value, (np.ndarray, np.generic)):
        return _of_array(np.asarray(value))
    if isinstance(value, bool):
        return _numbers(np.asarray(value), BOOL)
    if isinstance(value, int):
        if not _INT64.min <= value <= _INT64.max:
            raise Unfit(f"the integer {value}, which does not fit 64 bits")
        return _numbers(np.asarray(value, np.int64), INT64)
    if isinstance(value, float):
        return _numbers(np.asarray(value, np.float64), FP64)
    if isinstance(value, (list, tuple, range)):
        return _of_list(value)
    if _is_array(value):
        return _of_array(_as_array(value))
    raise Unfit(f"{_what(value)}, which is no {_VALUES}")


def _of_list(values: Any) -> Tensor:
    """Return a list as the array that it stands for: of numbers, or of nothing but text or bytes.

    Numpy would make text of the numbers beside it, and drop zeros at the end of bytes.
    """
    array = _as_array(values)
    if array.dtype.kind in "US":
        array = np.array(values, object)
    if array.dtype.kind == "O" and not _alike(array.ravel()):
        raise Unfit(
            f"{_what(values)} that holds something else than numbers, only str or only bytes"
        )
    return _of_array(array)


def _as_array(value: Any) -> Array:
    """Return what numpy makes of a value; raises Unfit."""
    try:
        return np.asarray(value)
    except ValueError:  # from numpy, as for rows that differ in length
        raise Unfit(f"{_what(value)} whose elements differ in size, which makes no array") from None
    except Exception as error:  # from the value's own code
        raise Unfit(f"{_what(value)}, of which numpy makes no array: {error}") from None


def _is_array(value: Any) -> bool:
    """Say whether a value offers itself as an array, or as a buffer with a type of its own."""
    kind = type(value)
    if hasattr(kind, "__array__") or hasattr(value, "__array_interface__"):
        return True
    try:
        memoryview(value).release()
    except TypeError:
        return False
    return True


def _of_array(array: Array) -> Tensor:
    dtype = _BY_NUMPY.get(array.dtype)
    if dtype is not None:
        return _numbers(array, dtype)
    if array.dtype.name == "bfloat16":
        return _numbers(np.ascontiguousarray(array).view(np.uint16).reshape(array.shape), BF16)
    if array.dtype.kind == "U":
        return _strings(TEXT, array.shape, [_encoded(str(text)) for text in array.ravel()])
    if array.dtype.kind == "S":
        return _strings(BYTES, array.shape, [bytes(item) for item in array.ravel()])
    if array.dtype.kind == "O":
        return _of_objects(array)
    dtype = _BY_NUMPY.get(array.dtype.newbyteorder("<"))
    if dtype is not None:
        return _numbers(array, dtype)
    raise Unfit(f"an array of {array.dtype}, which no stage can pass on: convert it with .astype()")


def _numbers(array: Array, dtype: DType) -> Tensor:
    # A 0-d array would come out of ascontiguousarray with one axis.
    return Tensor(
        "", dtype, array.shape, np.ascontiguousarray(array, dtype.numpy).reshape(array.shape)
    )


def _of_objects(array: Array) -> Tensor:
    items = list(array.ravel())
    kind = _alike(items)
    if kind is TEXT:
        return _strings(TEXT, array.shape, [_encoded(item) for item in items])
    if kind is BYTES:
        return _strings(BYTES, array.shape, [bytes(item) for item in items])
    raise Unfit(
        "an array of Python objects that are neither all str nor all bytes: give numbers a dtype "
        "of their own"
    )


def _alike(items: Iterable[Any]) -> Optional[DType]:
    """Return TEXT or BYTES if all items are one of them; None for others, and for no items."""
    found = list(items)
    for dtype, kinds in ((TEXT, (str,)), (BYTES, (bytes, bytearray, memoryview))):
        if found and all(isinstance(item, kinds) for item in found):
            return dtype
    return None


def _strings(dtype: DType, shape: Tuple[int, ...], items: List[bytes]) -> Tensor:
    return Tensor("", dtype, shape, items=items)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise Unfit(f"a str with {text[error.start]!r}, which is no character") from None


def _objects(items: List[Any], shape: Tuple[int, ...]) -> Array:
    array = np.empty(len(items), object)
    array[:] = items
    return array.reshape(shape)


def _what(value: Any) -> str:
    """Name a value's type in a sentence, with a hint where the mistake is a common one."""
    hints: Tuple[Tuple[Callable[[Any], bool], str], ...] = (
        (lambda v: v is None, "None (a 'return' may be missing)"),
        (lambda v: isinstance(v, (list, tuple)), f"a {type(value).__name__}"),
        (
            lambda v: hasattr(v, "__next__"),
            "a generator (add_stage(..., batch_size=...) is for functions that yield)",
        ),
        (lambda v: hasattr(v, "__await__"), "a coroutine (stages are plain functions)"),
    )
    for fits, words in hints:
        if fits(value):
            return words
    return f"an object of type {type(value).__name__}"
