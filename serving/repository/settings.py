"""The settings of one servable: ``<servable>/servable.toml``, strict, typed and documented."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from serving.errors import ConfigError, did_you_mean
from serving.inspection import KeySource
from serving.repository import batch_axes as axes
from serving.repository import engine_options, names, version_policy
from serving.repository import instances as placements
from serving.repository import labels as version_labels
from serving.repository import setting_values as values
from serving.repository import warmup as warmups
from serving.repository.batch_axes import AssertedAxes
from serving.repository.engine_options import Options
from serving.repository.instances import Instances
from serving.repository.labels import Labels
from serving.repository.setting_key import Fault, Key, WrongKey, WrongKeys, each, read_table, table
from serving.repository.setting_key import key as _key
from serving.repository.stage_settings import MethodSettings, StageSettings
from serving.repository.version_policy import LatestVersions, VersionPolicy
from serving.warmup import WarmUp

_POSITIVE = "a whole number, 1 or more"
_GIVEN_LIMIT = 60


@dataclass(frozen=True, kw_only=True)
class ServableSettings:
    """What ``servable.toml`` can say. Every key is optional; an unknown key is an error."""

    set_keys: frozenset[str] = field(default=frozenset(), compare=False)
    """Those that somebody has set; a table counts as one."""

    model_file: str | None = _key(
        None, "the name of a file, without a folder",
        "The model file in each version folder. Needed only where several files could be meant.",
        values.file_name,
    )  # fmt: skip
    backend: Literal["onnxruntime", "tensorrt", "ascend"] | None = _key(
        None, '"onnxruntime", "tensorrt" or "ascend"',
        "The engine that must run the model, and with it the kind of device: if it cannot, the "
        "version fails. By default the format and the server's devices decide.",
        values.one_of("onnxruntime", "tensorrt", "ascend"),
    )  # fmt: skip
    instances: Instances = _key(
        placements.EVERYWHERE, placements.EXPECTED,
        "Which of the server's devices load the model: how many CPU workers, which GPUs or Ascend "
        "devices. A kind that is not named does not load it. By default all do.",
        placements.parse_instances,
    )  # fmt: skip
    batch_sizes: tuple[int, ...] | None = _key(
        None, "a list of whole numbers, 1 or more",
        "The numbers of rows that a model is compiled for, where an engine wants to know them; "
        "batches are filled up to the next one. By default the powers of two up to "
        "max_batch_size.",
        values.sizes,
    )  # fmt: skip
    options: Options = _key(
        engine_options.NONE, engine_options.EXPECTED,
        "What an engine is told, by backend, such as [options.tensorrt] precision = \"fp16\"; "
        "docs/devices.md leads to the names.",
        engine_options.parse_options,
    )  # fmt: skip
    max_batch_size: int = _key(
        32, _POSITIVE, "Most rows that run together. 1 switches batching off.",
        values.whole(1),
    )  # fmt: skip
    max_queue_delay_ms: float | None = _key(
        None, "a number, 0 or more",
        "How long a batch that is not full may wait for more rows while a worker is free, in "
        "milliseconds. 0 never waits: requests pile up only while all workers are busy. By "
        "default the server waits a moment (2 ms at most) where it has learned that more "
        "requests follow in that time and that joining them saves more.",
        values.number(0),
    )  # fmt: skip
    max_queue_size: int = _key(
        1000, _POSITIVE, "Most requests that may wait; more are refused as overloaded.",
        values.whole(1),
    )  # fmt: skip
    max_queue_mb: int = _key(
        512, _POSITIVE,
        "Most MiB of tensors that waiting requests may hold; more are refused as overloaded.",
        values.whole(1),
    )  # fmt: skip
    warmup: tuple[WarmUp, ...] = _key(
        (), warmups.EXPECTED,
        "Samples that a version runs before it is ready. Without any, one made-up row is run.",
        warmups.parse_warmup,
    )  # fmt: skip
    threads: int | None = _key(
        None, _POSITIVE,
        "Engine threads in each worker; by default the cores are shared out between workers.",
        values.whole(1),
    )  # fmt: skip
    load_timeout_s: float | None = _key(
        None, "a number of seconds, above 0",
        "How long loading and warming one version may take, in seconds; by default the server's "
        "--load-timeout-s.",
        values.number(0, above=True),
    )  # fmt: skip
    run_timeout_s: float | None = _key(
        None, "a number of seconds, 0 for no limit",
        "How long one run may take, in seconds; a longer one is ended, and its request answered "
        "with run_timeout. By default the server's --run-timeout-s.",
        values.number(0),
    )  # fmt: skip
    idempotent: bool = _key(
        True, "true or false",
        "Whether a request may be run again when the process that ran it is lost. false: it is "
        "answered with worker_lost (503) at once.",
        values.flag,
    )  # fmt: skip
    versions: VersionPolicy = _key(
        LatestVersions(1), version_policy.EXPECTED,
        "Which versions are served: all, the n highest, or those listed.",
        version_policy.parse_policy,
    )  # fmt: skip
    update: Literal["beside", "in_turn"] = _key(
        "beside", '"beside" or "in_turn"',
        "How a version takes the place of another: loaded beside it and switched to, or, for "
        "devices that cannot hold both, loaded after the other is gone. Requests are refused (503) "
        "in between.",
        values.one_of("beside", "in_turn"),
    )  # fmt: skip
    labels: Labels = _key(
        version_labels.NONE, version_labels.EXPECTED,
        "Names for versions, such as stable and canary, that requests may ask for in place of "
        "numbers.",
        version_labels.parse_labels,
    )  # fmt: skip
    batch_axes: AssertedAxes | None = _key(
        None, axes.EXPECTED,
        'Asserts the axis that counts rows, for every input and output ("none" for a tensor that '
        'all rows share), where it cannot be proved; it is still tested on real runs. "none" in '
        "place of the table runs every request alone.",
        axes.parse_axes,
    )  # fmt: skip

    key_env: str | None = _key(
        None, "the name of an environment variable",
        "Where the key of an encrypted MindIR is: a variable of the server's environment that "
        "holds it, as it is or written hex:... or base64:...",
        values.variable,
    )  # fmt: skip
    key_file: str | None = _key(
        None, "an absolute path",
        "In place of key_env: a file that holds the key, in the same forms. Keep it out of the "
        "model directory.",
        values.absolute,
    )  # fmt: skip
    dec_mode: Literal["AES-GCM", "AES-CBC", "SM4-CBC"] | None = _key(
        None, '"AES-GCM", "AES-CBC" or "SM4-CBC"',
        "How an encrypted MindIR must be encrypted; by default the file says how it is.",
        values.one_of("AES-GCM", "AES-CBC", "SM4-CBC"),
    )  # fmt: skip
    cache_decrypted: bool = _key(
        False, "true or false",
        "Whether the converted form of an encrypted MindIR, which is not encrypted, may be kept "
        "in --cache-dir. By default it stays in memory, and every start converts anew.",
        values.flag,
    )  # fmt: skip

    stages: StageSettings = table(StageSettings)
    methods: MethodSettings = table(MethodSettings)

    def __post_init__(self) -> None:
        if self.key_env is not None and self.key_file is not None:
            raise ConfigError(
                "key_env and key_file are both set", where="key_file", fix="keep one of them"
            )
        if self.dec_mode is not None and self.key_env is None and self.key_file is None:
            raise ConfigError(
                "dec_mode is set without a key", where="dec_mode", fix="set key_env or key_file"
            )

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
    given = read_toml(data, file)
    try:
        return replace(read_table(ServableSettings, given), set_keys=frozenset(given))
    except ConfigError as error:
        raise _in_file(error, file) from None
    except WrongKeys as error:
        raise _wrong_keys(error.keys, file) from None
    except RecursionError:  # in the words of a reader
        raise _too_deep(file) from None


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
        raise _too_deep(file) from None


def setting_reference() -> tuple[SettingDoc, ...]:
    """Return every key of ``servable.toml`` in order, taken from the typed settings."""
    return tuple(
        SettingDoc(name, key.expected, _default(key.default), key.text)
        for name, key in each(ServableSettings)
    )


def reference_markdown() -> str:
    """Return the reference as a Markdown table, for the documentation."""
    rows = ["| key | takes | default | meaning |", "| --- | --- | --- | --- |"]
    for doc in setting_reference():
        cells = (f"`{doc.name}`", doc.type, doc.default, doc.text)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _default(value: object) -> str:
    if value is None:
        return "automatic"
    if isinstance(value, VersionPolicy):
        return f"`{value}`"
    if isinstance(value, (Mapping, tuple)):
        return "none"
    if isinstance(value, Instances):
        return "everywhere"
    return f"`{json.dumps(value)}`"


def _wrong_keys(wrong: Sequence[WrongKey], file: str) -> ConfigError:
    known = dict(each(ServableSettings))
    error, *others = (_wrong_key(key, known, file) for key in wrong)
    if others:
        error.message += f" (wrong too: {', '.join(sorted(o.where for o in others))})"
    return error


def _wrong_key(wrong: WrongKey, known: Mapping[str, Key], file: str) -> ConfigError:
    name = wrong.name
    if wrong.fault is Fault.NO_TABLE:
        return ConfigError(f"{file}: {name!r} is a table: write [{name}]", where=name)
    if wrong.fault is Fault.UNKNOWN:
        hint = did_you_mean(name, known)
        return ConfigError(
            f"{file}: key {name!r} is not known",
            where=name,
            fix=hint or f"known keys: {', '.join(known)}",
        )
    return ConfigError(
        f"{file}: key {name!r} has a wrong value",
        where=name,
        expected=known[name].expected,
        # Who takes key_env for the key itself must not find it in a log.
        given="" if name in ("key_env", "key_file") else _shown(wrong.given),
    )


def _too_deep(file: str) -> ConfigError:
    return ConfigError(f"{file} is nested too deeply", where=file)


def _in_file(error: ConfigError, file: str) -> ConfigError:
    return ConfigError(
        f"{file}: {error.message}",
        where=error.where,
        expected=error.expected,
        given=error.given[:_GIVEN_LIMIT],
        fix=error.fix,
    )


def _shown(value: object) -> str:
    try:
        text = json.dumps(value, default=str, ensure_ascii=False)
    except RecursionError:  # a key of many dots is a table for each
        return "tables within tables"
    return text if len(text) <= _GIVEN_LIMIT else text[:_GIVEN_LIMIT] + "..."


DEFAULT_SETTINGS = ServableSettings()
SETTINGS_FILE = names.SETTINGS_FILE
