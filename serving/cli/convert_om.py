"""``serving convert ... -o FILE.om``: a model is compiled for an Ascend chip by CANN's ``atc``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.cli.model_file import ask
from serving.errors import ConfigError, LoadError
from serving.inspection import Question

if TYPE_CHECKING:
    from serving.artifact import Artifact

SUFFIX = ".om"
_BUILDER = "serving.building.atc"
_FORMATS = ("onnx", "mindir", "air")
_SILENCE_S = 900.0
"""atc may think about one operator for minutes; what it computes meanwhile is told."""


@dataclass(frozen=True)
class OmOrder:
    """What to compile for: the chip, empty for this machine's, rows of a run, atc's options."""

    soc: str = ""
    batch_sizes: tuple[int, ...] | None = None
    options: tuple[str, ...] = ()


def parse_sizes(text: str | None) -> tuple[int, ...] | None:
    """Read ``1,2,4``; raises ConfigError."""
    if text is None:
        return None
    try:
        sizes = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        sizes = ()
    if not sizes or sizes[0] < 1:
        raise ConfigError(
            "the batch sizes are not numbers of rows", where="--batch-sizes", given=text,
            expected="whole numbers, such as 1,2,4,8",
        )  # fmt: skip
    return sizes


def convert_to_om(file: Path, output: Path, order: OmOrder, tell: Callable[[str], None]) -> str:
    """Compile a model file; returns what was made, for people. Raises ConfigError, LoadError.

    A MindIR file is converted to ONNX first, as it is for serving: its batch is free then. One that
    has no conversion is given to atc as it is.
    """
    import asyncio

    with tempfile.TemporaryDirectory(dir=output.absolute().parent, prefix=".serving-") as folder:
        made = Path(folder) / "model.onnx"
        artifact = ask(Question(file, output=str(made)), tell)
        _check_format(file, artifact)
        source = made if artifact.conversion is not None else file.absolute()
        (Path(folder) / "om").mkdir()
        question = _question(source, artifact, order, Path(folder) / "om")
        built = asyncio.run(_build(question, tell))
        os.replace(Path(folder) / "om" / built["file"], output)
    return _report(file, output, artifact, built)


def _check_format(file: Path, artifact: Artifact) -> None:
    form = artifact.format.value
    if form not in _FORMATS:
        fix = "convert it to ONNX first" if form == "mindir-encrypted" else ""
        raise ConfigError(
            f"{file} is no model that atc compiles", where="FILE", given=form,
            expected="ONNX, MindIR or AIR", fix=fix or artifact.reason,
        )  # fmt: skip
    if form == "onnx" and artifact.signature is None:
        raise LoadError(artifact.reason, code="broken_model")


def _question(source: Path, artifact: Artifact, order: OmOrder, folder: Path) -> dict[str, Any]:
    from serving.repository.settings import ServableSettings

    converted = artifact.conversion is not None
    return {
        "source": str(source.absolute()),
        "format": "onnx" if converted else artifact.format.value,
        "signature": None if artifact.signature is None else artifact.signature.to_json(),
        "batch": artifact.batch.to_json(),
        "max_batch_size": ServableSettings().max_batch_size,
        "batch_sizes": None if order.batch_sizes is None else list(order.batch_sizes),
        "folder": str(folder.absolute()),
        "options": _options(order),
    }


def _options(order: OmOrder) -> Mapping[str, str]:
    """Return the options by name; raises ConfigError for one without a value."""
    options = {"soc_version": order.soc} if order.soc else {}
    for text in order.options:
        name, sign, value = text.partition("=")
        if not sign:
            raise ConfigError(
                f"the option {text!r} has no value", where="--option", expected="NAME=VALUE"
            )
        options[name] = value
    return options


async def _build(question: Mapping[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    from serving.repository.helper import Helper, HelperFailed

    helper = Helper(module=_BUILDER, timeout_s=_SILENCE_S)
    try:
        answer = await helper.ask(question, ("built", "error"), tell)
    except HelperFailed as failure:
        raise LoadError(f"the builder {failure}", code="build_failed") from None
    finally:
        await helper.close()
    if "error" in answer:
        error = answer["error"]
        raise LoadError(str(error["message"]), code=str(error["code"]), fix=str(error["fix"]))
    built: dict[str, Any] = answer["built"]
    return built


def _report(file: Path, output: Path, artifact: Artifact, built: Mapping[str, Any]) -> str:
    from serving.cli.model_file import side
    from serving.cli.table import size_text

    parts = built["identity_parts"]
    inputs, outputs = side(artifact)
    lines = [
        f"{file.name}: {artifact.format.value}, {size_text(artifact.size_bytes)}",
        f"wrote {output.name}, {size_text(output.stat().st_size)}, for {parts['soc']} by CANN "
        f"{parts['cann']}; compiled in {built['took_s']:.1f} s",
        *([f"{', '.join(inputs)} -> {', '.join(outputs)}"] if inputs else []),
        *built["notes"],
        *([f"note: compiled as it is: {artifact.reason}"] if _unconverted(artifact) else []),
    ]
    return "\n".join(lines)


def _unconverted(artifact: Artifact) -> bool:
    return artifact.format.value == "mindir" and artifact.conversion is None
