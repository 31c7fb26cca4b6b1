"""What a start script wants to have served: one config, and several of them made into one whole."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.api import checks as own
from serving.register import checks
from serving.repository import names

_DEVICE_TYPES = ("ascend", "gpu", "cpu")
_MODES = ("AES-GCM", "AES-CBC")
_MOST_WORKERS = 64


class ServableStartConfig:
    """One servable, or one version of it. All errors are RuntimeErrors.

    ``servable_directory``, the folder that the servable's folder is in, may be relative to the
    folder of the script. ``version_number`` 0 is the highest there is. ``num_parallel_workers``
    counts all processes, those of ``device_ids`` included. ``dec_key`` decrypts its models.
    """

    def __init__(
        self,
        servable_directory: Any,
        servable_name: Any,
        device_ids: Any = None,
        version_number: Any = 0,
        device_type: Any = None,
        num_parallel_workers: Any = 0,
        dec_key: Any = None,
        dec_mode: Any = "AES-GCM",
    ) -> None:
        checks.text("servable_directory", servable_directory)
        script = os.path.dirname(os.path.realpath(sys.argv[0]))
        self.servable_directory = os.path.realpath(os.path.join(script, servable_directory))
        self.servable_name = checks.text("servable_name", servable_name)
        self.version_number = checks.integer("version_number", version_number, 0)
        workers = own.between("num_parallel_workers", num_parallel_workers, 0, _MOST_WORKERS)
        self.dec_key = own.key(dec_key)
        if checks.text("dec_mode", dec_mode) not in _MODES:
            raise RuntimeError("Parameter 'dec_mode' expected to be 'AES-GCM' or 'AES-CBC'")
        self.dec_mode: str = dec_mode
        ids = () if device_ids is None else device_ids
        self.device_ids = checks.integers("device_ids", ids, 0)
        self.device_type = _device_type(device_type)
        self.num_parallel_workers = workers if workers or self.device_ids else 1


@dataclass(frozen=True)
class Wanted:
    """One servable of a start.

    ``versions`` without any are those that its ``servable.toml`` chooses, by default the highest.
    ``devices`` in the order that they were named in. ``workers`` are processes for its Python
    stages, ``key`` decrypts its models (``mode``: AES-GCM or AES-CBC).
    """

    directory: Path
    name: str
    versions: tuple[int, ...] = ()
    devices: tuple[int, ...] = ()
    workers: int = 1
    key: bytes | None = None
    mode: str = ""


def configs_of(given: Any) -> tuple[ServableStartConfig, ...]:
    """Return what ``start_servables`` was given as a tuple. Raises RuntimeError."""
    if isinstance(given, ServableStartConfig):
        given = (given,)
    if not isinstance(given, (tuple, list)):
        raise RuntimeError(
            f"Parameter '{given}' should be ServableStartConfig, list or tuple of "
            f"ServableStartConfig, but actually {type(given)}"
        )
    for item in given:
        if not isinstance(item, ServableStartConfig):
            raise RuntimeError(
                f"The item of parameter '{given}' should be ServableStartConfig, but actually "
                f"{type(item)}"
            )
        if item.device_type not in ("none", "cpu"):
            raise RuntimeError(
                f"The device type '{item.device_type}' of servable name {item.servable_name} is "
                "inconsistent with current running environment, supported device type: "
                "None or 'Cpu'"
            )
    return tuple(given)


def merge(configs: Sequence[ServableStartConfig]) -> tuple[Wanted, ...]:
    """Put what was said of the same servable together. Raises RuntimeError where it disagrees."""
    by_name: dict[str, list[ServableStartConfig]] = {}
    for config in configs:
        mine = by_name.setdefault(config.servable_name, [])
        if mine and mine[0].servable_directory != config.servable_directory:
            raise RuntimeError(
                f"The servable directory of servable name {config.servable_name} is different in "
                f"multiple configurations, servable directory: {config.servable_directory} and "
                f"{mine[0].servable_directory}"
            )
        if mine and (mine[0].dec_key, mine[0].dec_mode) != (config.dec_key, config.dec_mode):
            raise RuntimeError(
                f"The dec key or dec mode of servable name {config.servable_name} is different in "
                "multiple configurations."
            )
        mine.append(config)
    return tuple(_wanted(name, mine) for name, mine in by_name.items())


def _wanted(name: str, configs: list[ServableStartConfig]) -> Wanted:
    first = configs[0]
    directory = Path(first.servable_directory)
    _check_place(directory, name)
    numbers = {config.version_number for config in configs}
    if 0 in numbers and len(numbers) > 1:
        numbers = numbers - {0} | {_newest(directory / name)}
    devices = tuple(dict.fromkeys(d for config in configs for d in config.device_ids))
    processes = max(config.num_parallel_workers for config in configs)
    return Wanted(
        directory,
        name,
        tuple(sorted(numbers - {0})),
        devices,
        max(1, processes - len(devices)),
        first.dec_key,
        first.dec_mode,
    )


def _check_place(directory: Path, name: str) -> None:
    folder = directory / name
    if not folder.is_dir():
        raise RuntimeError(
            f"Check servable config failed, directory '{folder}' not exist, servable directory "
            f"'{directory}', servable name '{name}'"
        )
    file = folder / names.STAGES_FILE
    # Model files alone are enough here; of a folder with neither it is the file that is missed.
    found = [entry.name for entry in folder.iterdir()]
    models = any(names.is_model_name(f) or names.version_of(f) is not None for f in found)
    if not file.is_file() and not models:
        raise RuntimeError(
            f"Check servable config failed, file '{file}' not exist,  servable directory "
            f"'{directory}', servable name '{name}'"
        )


def _newest(folder: Path) -> int:
    """Return the highest version that has a folder; 0 without any."""
    numbers = [int(f.name) for f in folder.iterdir() if f.name.isdecimal() and f.is_dir()]
    return max(numbers, default=0)


def _device_type(given: Any) -> str:
    if given is None:
        return "none"
    kind = checks.text("device_type", given).lower()
    if kind not in (*_DEVICE_TYPES, "none"):
        raise RuntimeError(
            f"Unsupported device type '{given}', only support 'Ascend', 'GPU', 'CPU' and None, "
            "case ignored"
        )
    return kind
