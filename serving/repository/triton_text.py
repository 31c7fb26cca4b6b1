"""Reads the text of a ``config.pbtxt``; a mistake in it is named by line, column and the near name.

The text format and its type checks are protobuf's own; only the wording of errors is ours.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor

from serving.errors import ConfigError, did_you_mean
from serving.repository.stubs import triton_model_config_pb2 as pb

_PACKAGE = pb.ModelConfig.DESCRIPTOR.file.package
_FIELD = re.compile(rf'Message type "{_PACKAGE}\.([\w.]+)" has no field named "(.*?)"')
_ENUM = re.compile(rf'Enum type "{_PACKAGE}\.([\w.]+)" has no value named (.*?)\.?$')
_TWICE = re.compile(r'should not have multiple "(.*?)" fields')
_BESIDE = re.compile(r'Field "(.*?)" is specified along with field "(.*?)"')
_PLACE = re.compile(r"^\d+:\d+ : (?:'.*?': )?(?=[A-Z])", re.DOTALL)
_LONGEST = 120


def parse_config(data: bytes, file: str) -> Any:
    """Return the ``ModelConfig`` message that the bytes of a ``config.pbtxt`` say.

    ``file`` is its name for messages, relative to the model directory. Raises ConfigError with
    ``where`` = ``<file>:<line>:<column>`` (both from 1).
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{file} is not UTF-8 text (at line {line})", where=file) from None
    config = pb.ModelConfig()
    try:
        text_format.Parse(text, config)
    except text_format.ParseError as error:
        raise _mistake(error, file) from None
    return config


def _mistake(error: text_format.ParseError, file: str) -> ConfigError:
    line, column = error.GetLine() or 1, error.GetColumn() or 1
    problem, fix = _wording(str(error))
    return ConfigError(
        f"{file}, line {line}, column {column}: {problem}", where=f"{file}:{line}:{column}", fix=fix
    )


def _wording(said: str) -> tuple[str, str]:
    """Return the problem and its fix in words of people who write the file."""
    if match := _FIELD.search(said):
        message, name = _message(match[1]), match[2]
        fields = [field.name for field in message.fields]
        return f"{name!r} is not a field of {message.name}", (
            did_you_mean(name, fields) or _elsewhere(name) or f"known: {', '.join(fields)}"
        )
    if match := _ENUM.search(said):
        values = list(_enum(match[1]).values_by_name)
        fix = did_you_mean(match[2], values) or f"known: {', '.join(values)}"
        return f"{match[2]!r} is not a {match[1].rsplit('.', 1)[-1]}", fix
    if match := _TWICE.search(said):
        return f"{match[1]!r} is given twice", "keep one of them"
    if match := _BESIDE.search(said):
        return f"{match[1]!r} cannot stand beside {match[2]!r}", "keep one of them"
    plain = _PLACE.sub("", said)
    return plain if len(plain) <= _LONGEST else plain[:_LONGEST] + "...", ""


def _elsewhere(name: str) -> str:
    """Say where a field that is written at the wrong place belongs, or return ``""``."""
    for field in pb.ModelConfig.DESCRIPTOR.fields:
        inner = field.message_type
        if inner is not None and name in inner.fields_by_name:
            return f"it belongs in {field.name} {{ }}"
    return ""


def _message(path: str) -> Descriptor:
    found: Descriptor = pb.DESCRIPTOR.pool.FindMessageTypeByName(f"{_PACKAGE}.{path}")
    return found


def _enum(path: str) -> Any:
    return pb.DESCRIPTOR.pool.FindEnumTypeByName(f"{_PACKAGE}.{path}")
