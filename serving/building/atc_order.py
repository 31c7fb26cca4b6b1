"""What ``atc`` is asked to do with a model: its arguments, and the gears that come of them. Pure.

``atc`` compiles for fixed sizes or for a list of gears, so a batch is compiled for the numbers of
rows that the servable allows. It wants two gears at least: one alone is a fixed size.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from serving.backends.ascend.options import (
    AIPP,
    ARGUMENTS,
    DIMS,
    IMAGE,
    INPUT_SHAPE,
    ROWS,
    SOC,
    unknown,
)
from serving.errors import LoadError
from serving.tensor import BatchAxes, Signature, TensorSpec

FRAMEWORKS: Dict[str, int] = {"mindir": 1, "air": 1, "onnx": 5}
_GEARS = (ROWS, IMAGE, DIMS)
_MOST_GEARS = 100
_SOC = re.compile(r"Ascend\w+")


@dataclass(frozen=True)
class Order:
    """A question of ``serving.repository.engines``, read.

    ``signature`` is None where nobody could read it off the file. Paths are absolute.
    """

    source: str
    format: str
    signature: Optional[Signature]
    batch: BatchAxes
    max_batch_size: int
    batch_sizes: Optional[Tuple[int, ...]]
    options: Mapping[str, str]
    folder: str = ""

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Order":
        """Read a question; raises KeyError, TypeError, ValueError or LoadError."""
        signature, sizes = data["signature"], data["batch_sizes"]
        options = {str(k): str(v) for k, v in data["options"].items()}
        if unknown(options):
            raise _option(unknown(options), "docs/ascend.md lists them")
        if data["format"] not in FRAMEWORKS:
            raise LoadError(f"atc does not read {data['format']} files", code="unsupported_format")
        return Order(
            str(data["source"]),
            str(data["format"]),
            None if signature is None else Signature.from_json(signature),
            BatchAxes.from_json(data["batch"]),
            int(data["max_batch_size"]),
            None if sizes is None else tuple(int(n) for n in sizes),
            options,
            str(data.get("folder", "")),
        )

    @property
    def soc(self) -> str:
        """The chip that the options name, empty for that of the device."""
        soc = self.options.get(SOC, "")
        if soc and not _SOC.fullmatch(soc):
            raise _option(f"{SOC} = {soc!r} is no chip's name", "write it like Ascend310P3")
        return soc


@dataclass(frozen=True)
class Plan:
    """Arguments about sizes and kind, without files and chip; ``gears`` are numbers of rows.

    ``fixed_rows`` is the one number of rows where the batch was compiled for no other.
    """

    arguments: Tuple[str, ...]
    gears: Optional[Tuple[int, ...]] = None
    fixed_rows: Optional[int] = None


def plan(order: Order) -> Plan:
    """Decide on the arguments; raises LoadError where sizes vary and nobody says how."""
    given = [name for name in _GEARS if name in order.options]
    if len(given) > 1:
        raise _option(f"{' and '.join(given)} exclude each other", "keep one of them")
    found = _given(order, given[0]) if given else _from_batch(order)
    further = [f"--{AIPP}={order.options[AIPP]}"] if AIPP in order.options else []
    try:
        further += shlex.split(order.options.get(ARGUMENTS, ""))
    except ValueError as error:
        raise _option(f"{ARGUMENTS} cannot be read: {error}", "close its quotes") from None
    return Plan((*found.arguments, *further), found.gears, found.fixed_rows)


def command(atc: str, order: Order, soc: str, output: str, arguments: Tuple[str, ...]) -> List[str]:
    """Return the words that run ``atc``; it adds ``.om`` to ``output``."""
    return [
        atc,
        f"--model={order.source}",
        f"--framework={FRAMEWORKS[order.format]}",
        f"--output={output}",
        f"--soc_version={soc}",
        *arguments,
    ]


def allowed_rows(order: Order) -> Tuple[int, ...]:
    """Return the numbers of rows to compile for: those that settings name, or powers of two."""
    if order.batch_sizes:
        return tuple(sorted(set(order.batch_sizes)))
    rows = []
    size = 1
    while size < order.max_batch_size:
        rows.append(size)
        size *= 2
    return (*rows, order.max_batch_size)


def _given(order: Order, name: str) -> Plan:
    """Take the gears that the options spell out."""
    arguments = [f"--{name}={order.options[name]}"]
    shape = order.options.get(INPUT_SHAPE) or _shapes(order, {})
    if shape:
        arguments.insert(0, f"--input_shape={shape}")
    if name == DIMS:
        arguments.append("--input_format=ND")  # atc takes free axes of that format alone
    if name != ROWS:
        return Plan(tuple(arguments))
    try:
        rows = tuple(sorted(int(n) for n in order.options[ROWS].split(",")))
    except ValueError:
        raise _option(f"{ROWS} is no list of numbers", "write it like 1,2,4,8") from None
    return Plan(tuple(arguments), rows)


def _from_batch(order: Order) -> Plan:
    if INPUT_SHAPE in order.options:
        return Plan((f"--input_shape={order.options[INPUT_SHAPE]}",))
    axes = _batch_axes(order)
    inputs = () if order.signature is None else order.signature.inputs
    for index, spec in enumerate(inputs):
        _check_rest(spec, axes.get(index))
    if not axes:
        return Plan(())
    rows = allowed_rows(order)
    if len(rows) > _MOST_GEARS:
        raise _option(
            f"{len(rows)} batch sizes are more than atc takes ({_MOST_GEARS})",
            "name fewer in batch_sizes",
        )
    if len(rows) == 1:
        fixed = _shapes(order, dict.fromkeys(axes, rows[0]))
        return Plan((f"--input_shape={fixed}",), None, rows[0])
    shape = f"--input_shape={_shapes(order, {})}"
    if all(axis == 0 for axis in axes.values()):
        return Plan((shape, f"--{ROWS}={','.join(map(str, rows))}"), rows)
    gears = ";".join(",".join([str(n)] * len(axes)) for n in rows)
    return Plan((shape, f"--{DIMS}={gears}", "--input_format=ND"), rows)


def _batch_axes(order: Order) -> Dict[int, int]:
    """Return by input the axis that counts rows, where it varies."""
    if order.signature is None or not order.batch.batched:
        return {}
    return {
        index: axis
        for index, (spec, axis) in enumerate(zip(order.signature.inputs, order.batch.inputs))
        if axis is not None and spec.shape is not None and _varies(spec.shape[axis])
    }


def _check_rest(spec: TensorSpec, batch: Optional[int]) -> None:
    fix = (
        f"write the sizes into [options.ascend]: {INPUT_SHAPE} for one of each, {DIMS} or {IMAGE} "
        "for several"
    )
    if spec.shape is None:
        raise LoadError(
            f"input {spec.name!r} has no known number of axes", code="unknown_shape", fix=fix
        )
    if any(_varies(dim) for axis, dim in enumerate(spec.shape) if axis != batch):
        beside = "beside the batch " if batch is not None else ""
        raise LoadError(
            f"input {spec.name!r} {spec.text()} has sizes that vary {beside}and atc compiles for "
            "sizes that it knows",
            code="unknown_shape",
            fix=fix,
        )


def _shapes(order: Order, rows: Mapping[int, int]) -> str:
    """Return ``--input_shape``'s value, with these rows instead of -1 by input."""
    if order.signature is None:
        return ""
    axes = _batch_axes(order)
    told = []
    for index, spec in enumerate(order.signature.inputs):
        if set(spec.name) & set(";,"):
            raise LoadError(
                f"the name of input {spec.name!r} holds a comma or semicolon, by which atc divides "
                "its arguments",
                code="build_failed",
                fix="rename the input and export the model again",
            )
        dims = [
            str(rows.get(index, -1) if axis == axes.get(index) else (-1 if _varies(dim) else dim))
            for axis, dim in enumerate(spec.shape or ())
        ]
        told.append(f"{spec.name}:{','.join(dims)}")
    return ";".join(told)


def _varies(dim: object) -> bool:
    return not isinstance(dim, int) or dim < 0


def _option(message: str, fix: str) -> LoadError:
    return LoadError(f"[options.ascend] {message}", code="bad_option", fix=fix)
