"""Which of an engine's optimisation profiles runs given shapes, and how many rows fit; pure."""

from __future__ import annotations

from typing import List, Optional, Sequence, Set, Tuple

from serving.backends.base import BackendError
from serving.backends.tensorrt.options import Range
from serving.backends.tensorrt.ports import Port, Ports, Shape
from serving.tensor import element_count, shape_text

_MOST_GEARS = 4096


def choose(ports: Ports, shapes: Sequence[Shape]) -> int:
    """Return the profile for the inputs' shapes; raises BackendError naming the misfit.

    Where several hold them, the one whose usual shapes are nearest in size is the one that the
    engine's kernels were picked for.
    """
    fitting: List[Tuple[int, int]] = []
    for profile in range(ports.profiles):
        pairs = [(port.ranges[profile], shape) for port, shape in zip(ports.inputs, shapes)]
        if all(_holds(ranges, shape) for ranges, shape in pairs):
            distance = sum(
                abs(element_count(ranges[1]) - element_count(shape)) for ranges, shape in pairs
            )
            fitting.append((distance, profile))
    if fitting:
        return min(fitting)[1]
    for port, shape in zip(ports.inputs, shapes):
        if not any(_holds(ranges, shape) for ranges in port.ranges):
            raise BackendError(
                f"input {port.name!r} has the shape {shape_text(shape)}; the engine was built for "
                f"{' or '.join(_text(ranges) for ranges in port.ranges)}"
            )
    raise BackendError(
        "no profile of the engine holds these shapes together: "
        + ", ".join(f"{p.name!r} {shape_text(s)}" for p, s in zip(ports.inputs, shapes))
    )


def rows(ports: Ports) -> Optional[Tuple[int, ...]]:
    """Return the numbers of rows that some profile takes, or None where there is no such bound.

    Rows are counted along the first axis, which must vary together in all inputs.
    """
    if not ports.inputs or any(not p.shape or p.shape[0] >= 0 for p in ports.inputs):
        return None
    found: Set[int] = set()
    for profile in range(ports.profiles):
        low = max(port.ranges[profile][0][0] for port in ports.inputs)
        high = min(port.ranges[profile][2][0] for port in ports.inputs)
        if high - low >= _MOST_GEARS:
            return None
        found.update(range(max(low, 1), high + 1))
    return tuple(sorted(found)) or None


def largest(port: Port) -> Shape:
    """Return the largest shape of an input over all profiles, by its number of elements."""
    return max((ranges[2] for ranges in port.ranges), key=element_count, default=port.shape)


def _holds(ranges: Range, shape: Shape) -> bool:
    low, _, high = ranges
    return len(shape) == len(low) and all(a <= n <= b for a, n, b in zip(low, shape, high))


def _text(ranges: Range) -> str:
    low, _, high = ranges
    if low == high:
        return shape_text(low)
    return f"{shape_text(low)} to {shape_text(high)}"
