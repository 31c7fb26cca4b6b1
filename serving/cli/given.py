"""What ``serving predict`` was given to send: files and ``NAME=VALUE``, made into inputs or rows.

A value may come without the batch axis: it is then one row. A value for a method is one instance,
but in .npz files and in "inputs", where axis 0 counts instances.
"""

from __future__ import annotations

import base64
import binascii
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from serving.cli import picture
from serving.errors import ConfigError, did_you_mean, listing
from serving.request import Description
from serving.tensor import ANY, BY_NAME, BYTES, TensorSpec
from serving.v1 import METHOD

_MOST_FP32 = float(np.finfo(np.float32).max)
_BODY = ("servable", "version", "method", "instances", "inputs", "parameters", "id")


@dataclass(frozen=True)
class Given:
    """Either rows, without the batch axis, or whole inputs by name; and what was done to them."""

    inputs: Mapping[str, Any] | None = None
    rows: Sequence[Any] | None = None
    request_id: str = ""
    notes: tuple[str, ...] = field(default=())


class Reader:
    """Reads values for one servable; raises ConfigError for what cannot be one.

    ``scale`` are the values of black and white in pictures, None for the usual ones.
    """

    def __init__(self, known: Description, scale: tuple[float, float] | None) -> None:
        self._known = known
        self._scale = scale
        self._specs = {spec.name: spec for spec in known.signature.inputs}
        axes = known.batch.inputs if known.batch.batched else (None,) * len(self._specs)
        self._axes = dict(zip(self._specs, axes, strict=True))
        self._notes: list[str] = []

    def file(self, path: str) -> Given:
        """Read the file that was named without an input; ``-`` is JSON from standard input."""
        ending = Path(path).suffix.lower()
        if path == "-" or ending == ".json":
            return self._json(path)
        if ending == ".npz":
            arrays = _numpy(path)
            inputs = {name: self._whole(arrays[name], self._spec(name)) for name in arrays.files}
            return Given(inputs)
        if len(self._specs) != 1:
            raise _bad(
                f"{path} holds one input, and servable {self._known.servable!r} has several",
                fix=f"say which: --input NAME=@{path}, one of {listing(self._specs)}",
            )
        spec = next(iter(self._specs.values()))
        value = self._from_file(path, spec)
        if ending == ".txt" and spec.dtype is ANY:
            return Given(rows=value.splitlines())
        return self._one({spec.name: value})

    def _one(self, values: Mapping[str, Any], request_id: str = "") -> Given:
        """Return values by name: one instance of a method, or inputs of a model."""
        notes = tuple(self._notes)
        if self._known.method:
            return Given(rows=[values], request_id=request_id, notes=notes)
        inputs = {name: self._whole(value, self._spec(name)) for name, value in values.items()}
        return Given(inputs, request_id=request_id, notes=notes)

    def pairs(self, texts: Sequence[str]) -> Given:
        """Read ``NAME=VALUE`` and ``NAME=@FILE``."""
        inputs: dict[str, Any] = {}
        for text in texts:
            # Names may hold "=" themselves; a known one is believed.
            known = [n for n in self._specs if text.startswith(f"{n}=")]
            name = max(known, key=len) if known else text.partition("=")[0]
            if "=" not in text:
                raise _bad(f"--input {text} has no value", expected="NAME=VALUE or NAME=@FILE")
            spec, value = self._spec(name), text[len(name) + 1 :]
            is_file = value[:1] == "@"
            inputs[name] = self._from_file(value[1:], spec) if is_file else _literal(value, spec)
        return self._one(inputs)

    def _spec(self, name: str) -> TensorSpec:
        if name not in self._specs:
            raise _bad(
                f"servable {self._known.servable!r} has no input {name!r}",
                expected=listing(self._specs),
                fix=did_you_mean(name, self._specs),
            )
        return self._specs[name]

    def _json(self, path: str) -> Given:
        data = sys.stdin.buffer.read() if path == "-" else _bytes(path)
        try:
            document = json.loads(data)
        except ValueError as error:
            raise _bad(f"{_shown(path)} is not JSON: {error}") from None
        return self.document(document, path)

    def document(self, document: Any, path: str) -> Given:
        """Read what a JSON file holds; ``path`` names it in errors."""
        if isinstance(document, list):
            return Given(rows=[self._row(row) for row in document])
        if not isinstance(document, dict):
            raise _bad(f"{_shown(path)} holds neither an object nor a list")
        if not document.keys() & {"instances", "inputs"} or document.keys() & self._specs.keys():
            return self._one(self._row(document))
        return self._body(document, path)

    def _body(self, body: dict[str, Any], path: str) -> Given:
        """Read what ``POST /predict`` would take."""
        for key in body:
            if key not in _BODY:
                raise _bad(
                    f"{_shown(path)}: key {key!r} is not known", fix=did_you_mean(key, _BODY)
                )
        named = body.get("servable")
        if named not in (None, self._known.servable):
            raise _bad(f"{_shown(path)} is for servable {named!r}, not {self._known.servable!r}")
        method = body.get("method")
        if method not in (None, self._known.method or METHOD):
            raise _bad(f"{_shown(path)} is for method {method!r}", fix=f"add --method {method}")
        if body.get("parameters"):
            raise _bad(f"{_shown(path)}: parameters can only be sent over REST")
        if ("instances" in body) == ("inputs" in body):
            raise _bad(f"{_shown(path)} has both 'instances' and 'inputs'", fix="leave out one")
        request_id = str(body.get("id") or "")
        if "inputs" in body:
            if not isinstance(body["inputs"], dict):
                raise _bad(
                    f"{_shown(path)}: 'inputs' is not an object of the form {{input: value}}"
                )
            return Given(self._by_name(body["inputs"]), request_id=request_id)
        if not isinstance(body["instances"], list):
            raise _bad(f"{_shown(path)}: 'instances' is not a list")
        return Given(rows=[self._row(row) for row in body["instances"]], request_id=request_id)

    def _by_name(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: self._whole(_plain(value, self._spec(name)), self._spec(name))
            for name, value in values.items()
        }

    def _row(self, row: Any) -> Any:
        if isinstance(row, dict) and not (len(self._specs) == 1 and "b64" in row):
            return {name: _plain(value, self._spec(name)) for name, value in row.items()}
        return _plain(row, next(iter(self._specs.values()))) if self._specs else row

    def _from_file(self, path: str, spec: TensorSpec) -> Any:
        ending = Path(path).suffix.lower()
        if ending == ".npy":
            return _numpy(path)
        if ending == ".json":
            return _plain(_parsed(_bytes(path), path), spec)
        if spec.dtype is ANY:
            return _bytes(path).decode() if ending == ".txt" else _bytes(path)
        if ending in picture.ENDINGS:
            array, note = picture.read(Path(path), spec, self._axes[spec.name], self._scale)
            self._notes.append(note)
            return array
        if spec.dtype is BYTES:
            if ending == ".txt":
                return _bytes(path).decode("utf-8", "surrogateescape").splitlines()
            return _bytes(path)
        if ending == ".txt":
            raise _bad(
                f"{path} is text, and input {spec.name!r} takes none",
                expected=f"{spec.text()}, as .npy, .json or NAME=VALUE",
            )
        raise _bad(
            f"what {path} holds cannot be told",
            expected=f"a name ending in .npy, .npz, .json, .txt, {', '.join(picture.ENDINGS)}",
        )

    def _whole(self, value: Any, spec: TensorSpec) -> Any:
        """Return a value with its batch axis: one row where it had none."""
        axis = self._axes[spec.name]
        if axis is None or spec.shape is None or _depth(value) != len(spec.shape) - 1:
            return value
        if isinstance(value, np.ndarray):
            return np.expand_dims(value, axis)
        return [value] if axis == 0 else value


def _depth(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.ndim
    return 1 + _depth(value[0]) if isinstance(value, list) and value else int(value == [])


def _literal(text: str, spec: TensorSpec) -> Any:
    try:
        if spec.dtype is BYTES and text[:1] != "[":
            return text
        return _plain(json.loads(text), spec)
    except ValueError:
        if spec.dtype.is_bytes:
            return text
        raise _bad(
            f"the value of input {spec.name!r} is not JSON",
            expected=f"numbers for {spec.text()}, such as 3 or [[1, 2], [3, 4]]",
            given=text[:80],
            fix=f"is it a file? --input {spec.name}=@{text[:80]}" if Path(text).exists() else "",
        ) from None


def _plain(value: Any, spec: TensorSpec) -> Any:
    """Return a JSON value with ``{"b64": ...}`` read: raw elements, or the bytes of a string."""
    if not (isinstance(value, dict) and "b64" in value):
        return _as_over_rest(value) if spec.dtype is ANY else value
    try:
        data = base64.b64decode(value["b64"], validate=True)
        dtype = BY_NAME[value.get("dtype", "BYTES")] if spec.dtype is ANY else spec.dtype
        if dtype.numpy is None:
            return data
        shape = value.get("shape") or [d if isinstance(d, int) else -1 for d in spec.shape or (-1,)]
        return np.frombuffer(data, dtype.numpy).reshape(shape)
    except (binascii.Error, KeyError, TypeError, ValueError) as error:
        raise _bad(f"the b64 value of input {spec.name!r} cannot be read: {error}") from None


def _as_over_rest(value: Any) -> Any:
    """Return JSON numbers in the dtype that ``POST /predict`` reads them in; the rest as it is."""
    try:
        array = np.asarray(value)
    except ValueError:  # of uneven lists; the client has the words
        return value
    if array.dtype.kind not in "if" or not array.size:
        return value
    if array.dtype.kind == "i":
        fits = array.min() >= -(2**31) and array.max() < 2**31
        return array.astype(np.int32) if fits else array
    return array.astype(np.float32) if abs(array).max() <= _MOST_FP32 else array


def _parsed(data: bytes, path: str) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise _bad(f"{path} is not JSON: {error}") from None


def _numpy(path: str) -> Any:
    return _readable(path, lambda: np.load(path, allow_pickle=False))


def _bytes(path: str) -> bytes:
    data: bytes = _readable(path, Path(path).read_bytes)
    return data


def _readable(path: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except OSError as error:
        raise _bad(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError) as error:
        raise _bad(f"{path} cannot be read: {error}") from None


def _shown(path: str) -> str:
    return "standard input" if path == "-" else path


def _bad(message: str, expected: str = "", given: str = "", fix: str = "") -> ConfigError:
    return ConfigError(message, code="bad_input", expected=expected, given=given, fix=fix)
