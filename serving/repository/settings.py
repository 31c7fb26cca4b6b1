"""The settings of one servable: ``<servable>/servable.toml``, strict, typed and documented."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from serving.errors import ConfigError, did_you_mean
from serving.inspection import KeySource
from serving.repository import batch_axes as axes
from serving.repository import labels as version_labels
from serving.repository import names, version_policy
from serving.repository import warmup as warmups
from serving.repository.batch_axes import AssertedAxes
from serving.repository.labels import Labels
from serving.repository.setting_key import STRICT, absolute, each, expected
from serving.repository.setting_key import key as _key
from serving.repository.stage_settings import MethodSettings, StageSettings
from serving.repository.version_policy import LatestVersions, VersionPolicy
from serving.warmup import WarmUp

_POSITIVE = "a whole number, 1 or more"
_GIVEN_LIMIT = 60
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _variable(value: object) -> object:
    if isinstance(value, str) and not _VARIABLE.fullmatch(value):
        raise ValueError("not a name")
    return value


class ServableSettings(BaseModel):
    """What ``servable.toml`` can say. Every key is optional; an unknown key is an error."""

    model_config = STRICT

    model_file: str | None = _key(
        None, "the name of a file, without a folder",
        "The model file in each version folder. Needed only where several files could be meant.",
    )  # fmt: skip
    backend: Literal["onnxruntime"] | None = _key(
        None, '"onnxruntime"', "The engine that must run the model; by default the format decides."
    )
    max_batch_size: int = _key(
        32, _POSITIVE, "Most rows that run together. 1 switches batching off.", ge=1
    )
    max_queue_delay_ms: float | None = _key(
        None, "a number, 0 or more",
        "How long a batch that is not full may wait for more rows while a worker is free, in "
        "milliseconds. 0 never waits: requests pile up only while all workers are busy. By "
        "default the server waits a moment (2 ms at most) where it has learned that more "
        "requests follow in that time and that joining them saves more.", ge=0,
    )  # fmt: skip
    max_queue_size: int = _key(
        1000, _POSITIVE, "Most requests that may wait; more are refused as overloaded.", ge=1
    )
    max_queue_mb: int = _key(
        512, _POSITIVE,
        "Most MiB of tensors that waiting requests may hold; more are refused as overloaded.", ge=1,
    )  # fmt: skip
    warmup: Annotated[tuple[WarmUp, ...], BeforeValidator(warmups.parse_warmup)] = _key(
        (), warmups.EXPECTED,
        "Samples that a version runs before it is ready. Without any, one made-up row is run.",
    )  # fmt: skip
    threads: int | None = _key(
        None, _POSITIVE,
        "Engine threads in each worker; by default the cores are shared out between workers.", ge=1,
    )  # fmt: skip
    load_timeout_s: float | None = _key(
        None, "a number of seconds, above 0",
        "How long loading and warming one version may take, in seconds; by default the server's "
        "--load-timeout-s.", gt=0,
    )  # fmt: skip
    run_timeout_s: float | None = _key(
        None, "a number of seconds, 0 for no limit",
        "How long one run may take, in seconds; a longer one is ended, and its request answered "
        "with run_timeout. By default the server's --run-timeout-s.", ge=0,
    )  # fmt: skip
    idempotent: bool = _key(
        True, "true or false",
        "Whether a request may be run again when the process that ran it is lost. false: it is "
        "answered with worker_lost (503) at once.",
    )  # fmt: skip
    versions: Annotated[VersionPolicy, BeforeValidator(version_policy.parse_policy)] = _key(
        LatestVersions(1), version_policy.EXPECTED,
        "Which versions are served: all, the n highest, or those listed.",
    )  # fmt: skip
    update: Literal["beside", "in_turn"] = _key(
        "beside", '"beside" or "in_turn"',
        "How a version takes the place of another: loaded beside it and switched to, or, for "
        "devices that cannot hold both, loaded after the other is gone. Requests are refused (503) "
        "in between.",
    )  # fmt: skip
    labels: Annotated[Labels, BeforeValidator(version_labels.parse_labels)] = _key(
        version_labels.NONE, version_labels.EXPECTED,
        "Names for versions, such as stable and canary, that requests may ask for in place of "
        "numbers.",
    )  # fmt: skip
    batch_axes: Annotated[AssertedAxes | None, BeforeValidator(axes.parse_axes)] = _key(
        None, axes.EXPECTED,
        'Asserts the axis that counts rows, for every input and output ("none" for a tensor that '
        'all rows share), where it cannot be proved; it is still tested on real runs. "none" in '
        "place of the table runs every request alone.",
    )  # fmt: skip

    key_env: Annotated[str | None, BeforeValidator(_variable)] = _key(
        None, "the name of an environment variable",
        "Where the key of an encrypted MindIR is: a variable of the server's environment that "
        "holds it, as it is or written hex:... or base64:...",
    )  # fmt: skip
    key_file: Annotated[str | None, BeforeValidator(absolute)] = _key(
        None, "an absolute path",
        "In place of key_env: a file that holds the key, in the same forms. Keep it out of the "
        "model directory.",
    )  # fmt: skip
    dec_mode: Literal["AES-GCM", "AES-CBC", "SM4-CBC"] | None = _key(
        None, '"AES-GCM", "AES-CBC" or "SM4-CBC"',
        "How an encrypted MindIR must be encrypted; by default the file says how it is.",
    )  # fmt: skip
    cache_decrypted: bool = _key(
        False, "true or false",
        "Whether the converted form of an encrypted MindIR, which is not encrypted, may be kept "
        "in --cache-dir. By default it stays in memory, and every start converts anew.",
    )  # fmt: skip

    stages: StageSettings = Field(default_factory=StageSettings)
    methods: MethodSettings = Field(default_factory=MethodSettings)

    @field_validator("model_file")
    @classmethod
    def _plain_name(cls, value: str | None) -> str | None:
        if value is not None and (value in ("", ".", "..") or "/" in value or "\0" in value):
            raise ValueError("not a plain name")
        return value

    @model_validator(mode="after")
    def _one_key(self) -> ServableSettings:
        if self.key_env is not None and self.key_file is not None:
            raise ConfigError(
                "key_env and key_file are both set", where="key_file", fix="keep one of them"
            )
        if self.dec_mode is not None and self.key_env is None and self.key_file is None:
            raise ConfigError(
                "dec_mode is set without a key", where="dec_mode", fix="set key_env or key_file"
            )
        return self

    @property
    def key(self) -> KeySource | None:
        """Where the key of an encrypted model lies, if settings say so."""
        if self.key_env is None and self.key_file is None:
            return None
        return KeySource(self.key_env or "", self.key_file or "", self.dec_mode or "")


@dataclass(frozen=True)
class SettingDoc:
    """One key for the reference: its name, what it takes, its default in TOML, its meaning."""

    name: str
    type: str
    default: str
    text: str


def parse_settings(data: bytes, file: str) -> ServableSettings:
    """Read the bytes of a ``servable.toml``.

    ``file`` is its name for messages, relative to the model directory. Raises ConfigError
    naming the file, the key, what is expected and given, and for an unknown key the nearest.
    """
    table = read_toml(data, file)
    try:
        return ServableSettings.model_validate(table)
    except ConfigError as error:
        raise _in_file(error, file) from None
    except ValidationError as error:
        raise _wrong_keys(error, file) from None


def read_toml(data: bytes, file: str) -> dict[str, Any]:
    """Parse TOML. Raises ConfigError naming the file and, for a syntax error, the line."""
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{file} is not UTF-8 text (at line {line})", where=file) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}", where=file) from None
    except RecursionError:
        raise ConfigError(f"{file} is nested too deeply", where=file) from None


def setting_reference() -> tuple[SettingDoc, ...]:
    """Return every key of ``servable.toml`` in order, taken from the typed settings."""
    return tuple(
        SettingDoc(name, expected(field), _default(field), field.description or "")
        for name, field in each(ServableSettings)
    )


def reference_markdown() -> str:
    """Return the reference as a Markdown table, for the documentation."""
    rows = ["| key | takes | default | meaning |", "| --- | --- | --- | --- |"]
    for doc in setting_reference():
        cells = (f"`{doc.name}`", doc.type, doc.default, doc.text)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    if field.default is None:
        return "automatic"
    if isinstance(field.default, VersionPolicy):
        return f"`{field.default}`"
    if isinstance(field.default, (Mapping, tuple)):
        return "none"
    return f"`{json.dumps(field.default)}`"


def _wrong_keys(error: ValidationError, file: str) -> ConfigError:
    problems: dict[str, ConfigError] = {}
    for item in error.errors():
        key = ".".join(map(str, item["loc"]))
        if key not in problems:
            problems[key] = _wrong_key(key, item["type"], item["input"], file)
    first, *others = problems.values()
    if others:
        first.message += f" (wrong too: {', '.join(sorted(o.where for o in others))})"
    return first


def _wrong_key(key: str, kind: str, given: object, file: str) -> ConfigError:
    known = dict(each(ServableSettings))
    if kind == "model_type":
        return ConfigError(f"{file}: {key!r} is a table: write [{key}]", where=key)
    if kind == "extra_forbidden" or key not in known:
        hint = did_you_mean(key, known)
        return ConfigError(
            f"{file}: key {key!r} is not known",
            where=key,
            fix=hint or f"known keys: {', '.join(known)}",
        )
    return ConfigError(
        f"{file}: key {key!r} has a wrong value",
        where=key,
        expected=expected(known[key]),
        # Who takes key_env for the key itself must not find it in a log.
        given="" if key in ("key_env", "key_file") else _shown(given),
    )


def _in_file(error: ConfigError, file: str) -> ConfigError:
    return ConfigError(
        f"{file}: {error.message}",
        where=error.where,
        expected=error.expected,
        given=error.given[:_GIVEN_LIMIT],
        fix=error.fix,
    )


def _shown(value: object) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _GIVEN_LIMIT else text[:_GIVEN_LIMIT] + "..."


DEFAULT_SETTINGS = ServableSettings()
SETTINGS_FILE = names.SETTINGS_FILE
