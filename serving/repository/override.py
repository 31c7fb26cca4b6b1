"""Files and settings of a servable that come with a request, not from the model directory.

They are written to a private folder of the same layout as a model directory, so that all rules of
the repository hold for them too. Names are checked before anything is written: a version and a
file, nothing that could lead elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import json_format, text_format

from serving.errors import InvalidRequest
from serving.repository import names
from serving.repository.stubs import triton_model_config_pb2 as pb

PREFIX = "file:"
_MOST_FILES = 256
_LONGEST_NAME_BYTES = 255


@dataclass(frozen=True)
class Override:
    """``config`` is a model configuration in Triton's JSON; ``files`` by (version, file name)."""

    config: str = ""
    files: Mapping[tuple[int, str], bytes] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Return whether anything is overridden."""
        return bool(self.config or self.files)


def file_key(name: str) -> tuple[int, str]:
    """Return version and file of a parameter ``file:<version>/<file>``; raises InvalidRequest."""
    version, slash, file = name.removeprefix(PREFIX).partition("/")
    number = names.version_of(version)
    plain = (
        file not in ("", ".", "..")
        and file.isprintable()
        and not {"/", "\\"} & set(file)
        and len(file.encode("utf-8", "replace")) <= _LONGEST_NAME_BYTES
    )
    if not slash or number is None or not plain:
        raise InvalidRequest(
            "a file that comes with the request has no usable name",
            code="bad_parameter",
            where=f"parameters.{name[:60]}",
            expected="file:<version>/<file>, such as file:1/model.onnx",
        )
    return number, file


def check(servable: str, override: Override) -> None:
    """Raise InvalidRequest for a servable's name, or a number of files, that cannot be."""
    problem = names.name_problem(servable) if servable else "the name is empty"
    if problem:
        raise InvalidRequest(problem, code="bad_parameter", where="model_name")
    if len(override.files) > _MOST_FILES:
        raise InvalidRequest(
            "too many files come with the request",
            code="bad_parameter",
            where="parameters",
            expected=f"at most {_MOST_FILES}",
            given=str(len(override.files)),
        )


def config_text(config: str) -> bytes:
    """Return the text of a ``config.pbtxt`` that says what the JSON says; raises InvalidRequest."""
    message = pb.ModelConfig()
    try:
        if not config.lstrip().startswith("{"):
            raise json_format.ParseError("it is not an object")
        json_format.Parse(config, message, max_recursion_depth=32)
    except (json_format.ParseError, RecursionError) as error:
        raise InvalidRequest(
            "the model configuration cannot be read",
            code="bad_parameter",
            where="parameters.config",
            expected="Triton's model configuration as JSON",
            given=str(error)[:200],
        ) from None
    return text_format.MessageToString(message).encode()


def write(root: Path, servable: str, override: Override) -> None:
    """Write an override below ``root``, which is empty and nobody else's."""
    home = root / servable
    home.mkdir(mode=0o700)
    if override.config:
        _write(home / names.TRITON_FILE, config_text(override.config))
    for (version, file), content in override.files.items():
        folder = home / str(version)
        folder.mkdir(mode=0o700, exist_ok=True)
        _write(folder / file, content)


def _write(file: Path, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(file, flags, 0o600), "wb") as stream:
        stream.write(content)
