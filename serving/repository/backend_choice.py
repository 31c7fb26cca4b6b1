"""Which backend runs a model on which kind of device, and why none does: a pure table."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace

from serving.artifact import Artifact, Format
from serving.devices import BACKENDS, KINDS, Where
from serving.errors import LoadError

TENSORRT_BUILDER = "serving.building.tensorrt"
ATC_BUILDER = "serving.building.atc"

_KIND_OF = {backend: kind for kind, backend in BACKENDS.items()}


@dataclass(frozen=True)
class Route:
    """How a format runs on a kind of device: by a backend, after a builder if one is named.

    With ``needs_onnx`` the builder takes ONNX: as it is, or as the file was converted.
    """

    backend: str
    builder: str = ""
    needs_onnx: bool = False


ROUTES: Mapping[tuple[Format, str], Route] = {
    (Format.ONNX, "cpu"): Route("onnxruntime"),
    (Format.ONNX, "gpu"): Route("tensorrt", TENSORRT_BUILDER, needs_onnx=True),
    (Format.ONNX, "ascend"): Route("ascend", ATC_BUILDER, needs_onnx=True),
    (Format.MINDIR, "cpu"): Route("onnxruntime", needs_onnx=True),
    (Format.MINDIR, "gpu"): Route("tensorrt", TENSORRT_BUILDER, needs_onnx=True),
    (Format.MINDIR, "ascend"): Route("ascend", ATC_BUILDER),
    (Format.MINDIR_ENCRYPTED, "cpu"): Route("onnxruntime", needs_onnx=True),
    (Format.MINDIR_ENCRYPTED, "gpu"): Route("tensorrt", TENSORRT_BUILDER, needs_onnx=True),
    (Format.MINDIR_ENCRYPTED, "ascend"): Route("ascend", ATC_BUILDER, needs_onnx=True),
    (Format.AIR, "ascend"): Route("ascend", ATC_BUILDER),
    (Format.OM, "ascend"): Route("ascend"),
    (Format.TENSORRT, "gpu"): Route("tensorrt"),
}

_CUDA = Route("onnxruntime", needs_onnx=True)

SECOND_ROUTES: Mapping[tuple[Format, str], Route] = {
    (Format.ONNX, "gpu"): _CUDA,
    (Format.MINDIR, "gpu"): _CUDA,
    (Format.MINDIR_ENCRYPTED, "gpu"): _CUDA,
}
"""What is taken where the first route's builder refuses a model, or its package is missing."""

REFUSALS = frozenset(
    {
        "build_failed", "package_missing", "signature_differs", "unknown_shape",
        "unsupported_format", "unsupported_operator",
    }
)  # fmt: skip
"""Codes of a builder that cannot take the model. A wrong option is the servable's to mend."""

SECOND_TITLE = "onnxruntime (CUDA)"

_NEEDS = {"cpu": "a CPU", "gpu": "an NVIDIA GPU", "ascend": "an Ascend device"}


@dataclass(frozen=True)
class Choice:
    """One kind of device that runs a model, where, and how; ``second`` where that is refused."""

    where: Where
    route: Route
    second: Route | None = None

    @property
    def kind(self) -> str:
        """The kind of device."""
        return self.where.kind

    def instead(self, refusal: LoadError) -> Choice | None:
        """Return what to try after a builder's refusal; None where nothing may be."""
        if self.second is None or refusal.code not in REFUSALS:
            return None
        return replace(self, route=self.second, second=None)


@dataclass(frozen=True)
class Choices:
    """The kinds that run a model, in the server's order, and why others do not, by kind."""

    made: tuple[Choice, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


def choose(
    artifact: Artifact,
    wheres: Iterable[Where],
    pin: str | None,
    *,
    named: Container[str] = (),
    keeps_plain: bool = True,
) -> Choices:
    """Choose for each kind of device that a server has and a servable is loaded on.

    ``pin`` is the backend that its settings ask for, and ``named`` are the kinds that they name: a
    pin of a kind's second backend holds for those alone. ``keeps_plain`` says that what is made of
    an encrypted file may be kept on disk.
    """
    made: list[Choice] = []
    refused: dict[str, str] = {}
    for where in wheres:
        choice = _choice(artifact, where, pin, where.kind in named, keeps_plain)
        if isinstance(choice, Choice):
            made.append(choice)
        else:
            refused[where.kind] = choice
    return Choices(tuple(made), refused)


def _choice(
    artifact: Artifact, where: Where, pin: str | None, named: bool, keeps_plain: bool
) -> Choice | str:
    """Return what runs it there, or why nothing does."""
    kind = where.kind
    found = ROUTES.get((artifact.format, kind))
    if found is None or (kind == "cpu" and not artifact.runnable):
        return artifact.reason or f"no backend runs {artifact.format.value} on {kind}"
    if kind == "cpu":
        found = Route(artifact.backend)  # what the inspection has found out
    second = SECOND_ROUTES.get((artifact.format, kind))
    if pin is not None and pin != found.backend:
        also = second is not None and pin == second.backend
        if not also or not named:
            unless = f", unless [instances] names {kind}" if also else ""
            return f"its settings ask for backend {pin!r}, which runs on {_KIND_OF[pin]}{unless}"
        assert second is not None
        found = second
    if not artifact.runnable and (found.needs_onnx or artifact.format is Format.ONNX):
        return artifact.reason or "it cannot be read"
    if artifact.refusal and found.backend == artifact.backend:
        return artifact.refusal
    if artifact.refusal and second is not None and second.backend == artifact.backend:
        second = None
    if artifact.format is Format.MINDIR_ENCRYPTED and found.builder and not keeps_plain:
        return (
            "what is built for the device would lie in the cache folder unencrypted (set "
            "cache_decrypted = true to allow that)"
        )
    return Choice(where, found, second if pin is None else None)


def kinds_for(format: Format) -> tuple[str, ...]:
    """Return the kinds of devices that run a format."""
    return tuple(kind for kind in KINDS if (format, kind) in ROUTES)


def needs(format: Format) -> str:
    """Say what a format needs, for a server that has none of it; empty for an unknown one."""
    kinds = kinds_for(format)
    return " or ".join(_NEEDS[kind] for kind in kinds)
