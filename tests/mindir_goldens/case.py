"""What a golden is: a network's text or factory, its inputs, and how they are drawn."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Union

import numpy as np

SEED = 20240617
RELEASES = ("2.0.0", "2.10.0")


@dataclass(frozen=True)
class Draw:
    """An input's dtype and shape, and the range that its values are drawn from."""

    dtype: str
    shape: tuple[int, ...]
    low: float = -2.0
    high: float = 2.0

    def array(self, rng: np.random.Generator) -> Any:
        if self.dtype == "bool":
            return rng.random(self.shape) < 0.5
        if self.dtype.startswith(("int", "uint")):
            return rng.integers(int(self.low), int(self.high), self.shape).astype(self.dtype)
        return rng.uniform(self.low, self.high, self.shape).astype(self.dtype)


@dataclass(frozen=True)
class Distinct:
    """Floats of which no two are equal, in random order: for operators that sort or choose."""

    shape: tuple[int, ...]

    def array(self, rng: np.random.Generator) -> Any:
        count = int(np.prod(self.shape))
        return (rng.permutation(count).reshape(self.shape) / count - 0.4).astype("float32")


@dataclass(frozen=True)
class Literal:
    """An input whose values are given."""

    values: Any
    dtype: str

    def array(self, rng: np.random.Generator) -> Any:
        return np.array(self.values, self.dtype)


Input = Union[Draw, Distinct, Literal]


def f(*shape: int, low: float = -2.0, high: float = 2.0) -> Draw:
    """Draw FP32 numbers."""
    return Draw("float32", shape, low, high)


def h(*shape: int, low: float = -2.0, high: float = 2.0) -> Draw:
    """Draw FP16 numbers."""
    return Draw("float16", shape, low, high)


def p(*shape: int) -> Draw:
    """Draw FP32 numbers well above nothing."""
    return Draw("float32", shape, 0.25, 3.0)


def unit(*shape: int) -> Draw:
    """Draw FP32 numbers within (-1, 1)."""
    return Draw("float32", shape, -0.95, 0.95)


def i(*shape: int, low: int = -9, high: int = 10) -> Draw:
    """Draw INT32 numbers."""
    return Draw("int32", shape, low, high)


def long(*shape: int, low: int = -9, high: int = 10) -> Draw:
    """Draw INT64 numbers."""
    return Draw("int64", shape, low, high)


def b(*shape: int) -> Draw:
    """Draw truth values."""
    return Draw("bool", shape)


def d(*shape: int) -> Distinct:
    """Draw distinct FP32 numbers."""
    return Distinct(shape)


@dataclass(frozen=True)
class Expression:
    """A network of one expression over ``inputs`` and over layers (``self.<name>``).

    MindSpore lacks CPU kernels for some operators: it exports them and cannot run them. For these
    ``answer`` computes the same of other operators.
    """

    name: str
    text: str
    inputs: Mapping[str, Input]
    layers: Mapping[str, str] = field(default_factory=dict)
    answer: str = ""

    def source(self) -> str:
        """Return the network's class, called ``Net_<name>``."""
        layers = [f"        self.{k} = {v}\n" for k, v in self.layers.items()]
        return (
            f"class Net_{self.name}(nn.Cell):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n" + "".join(layers) + "\n"
            f"    def construct(self, {', '.join(self.inputs)}):\n"
            f"        return {self.text}\n"
        )

    def arrays(self) -> dict[str, Any]:
        rng = np.random.default_rng([SEED, zlib.crc32(self.name.encode())])
        return {k: v.array(rng) for k, v in self.inputs.items()}


def each(texts: Mapping[str, str], **given: Any) -> list[Expression]:
    """Make an expression of each text; ``given`` are inputs, and layers where they are text."""
    layers = {k: v for k, v in given.items() if isinstance(v, str)}
    inputs = {k: v for k, v in given.items() if not isinstance(v, str)}
    return [Expression(k, v, inputs, layers) for k, v in texts.items()]


def answered(cases: Sequence[Expression], answers: Mapping[str, str]) -> list[Expression]:
    """Give some cases an expression that computes their answers."""
    assert set(answers) <= {c.name for c in cases}, set(answers) - {c.name for c in cases}
    return [replace(c, answer=answers.get(c.name, "")) for c in cases]


def layers(rows: Mapping[str, str], **inputs: Input) -> list[Expression]:
    """Make a network of each layer, applied to the inputs in their order."""
    call = f"self.layer({', '.join(inputs)})"
    return [Expression(k, call, inputs, {"layer": v}) for k, v in rows.items()]


@dataclass(frozen=True)
class Network:
    """A whole network. Each of ``feeds`` is one call of it.

    ``exported`` makes other inputs for the call of ``export`` (a length of ``None`` varies);
    ``options`` are further arguments of ``export``; ``splits`` writes the weights to other files,
    as MindSpore does when there are very many. ``answer`` makes what answers instead where
    MindSpore exports a network that its CPU kernels cannot run.
    """

    name: str
    make: Callable[[], Any]
    feeds: Sequence[Mapping[str, Input]]
    exported: Any = None
    splits: bool = False
    answer: Callable[[], Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    releases: Sequence[str] = RELEASES

    def arrays(self) -> list[dict[str, Any]]:
        rng = np.random.default_rng([SEED, zlib.crc32(self.name.encode())])
        return [{k: v.array(rng) for k, v in feed.items()} for feed in self.feeds]
