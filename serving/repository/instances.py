"""Where a servable is loaded: ``[instances]`` in ``servable.toml``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from serving.devices import KINDS, Where
from serving.errors import ConfigError, did_you_mean

EXPECTED = 'a table {cpu = n or "all", gpu = n, [n, ...] or "all", ascend = n, [n, ...] or "all"}'
_ONE = 'a whole number, 1 or more, a list of device numbers, or "all"'
_CPU = 'a whole number of CPU workers, 1 or more, or "all"'
_MOST = 64


@dataclass(frozen=True)
class Instances:
    """By kind of device the numbers of those that load it; None: all. No kind: everywhere.

    ``firm`` makes a kind that the server does not have an error; what a ``config.pbtxt`` says of
    instances is kept as far as there are such devices.
    """

    kinds: Mapping[str, tuple[int, ...] | None] = field(default_factory=dict)
    firm: bool = True

    def __str__(self) -> str:
        """Return it as TOML."""
        parts = [f"{k} = {'all' if v is None else list(v)}" for k, v in self.kinds.items()]
        return "{" + ", ".join(parts) + "}"

    def where(self, kinds: Iterable[str]) -> tuple[Where, ...]:
        """Return where of a server with these kinds of devices it is loaded, in their order."""
        if not self.kinds:
            return tuple(Where(kind) for kind in kinds)
        mine = tuple(Where(kind, self.kinds[kind]) for kind in kinds if kind in self.kinds)
        return mine or (() if self.firm else tuple(Where(kind) for kind in kinds))


EVERYWHERE = Instances()


def parse_instances(value: object) -> Instances:
    """Read the TOML value of ``instances``. Raises ConfigError naming the key inside it."""
    if isinstance(value, Instances):
        return value
    if not isinstance(value, dict) or not value:
        raise _wrong("instances", EXPECTED, value)
    kinds: dict[str, tuple[int, ...] | None] = {}
    for kind, given in value.items():
        if kind not in KINDS:
            raise ConfigError(
                f"key 'instances.{kind}' is not known", where=f"instances.{kind}",
                expected=EXPECTED, fix=did_you_mean(str(kind), KINDS),
            )  # fmt: skip
        kinds[kind] = _numbers(kind, given)
    return Instances({kind: kinds[kind] for kind in KINDS if kind in kinds})


def _numbers(kind: str, given: object) -> tuple[int, ...] | None:
    expected = _CPU if kind == "cpu" else _ONE
    if given == "all":
        return None
    if isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= _MOST:
        return tuple(range(given))
    if kind != "cpu" and isinstance(given, list) and given and all(map(_is_number, given)):
        return tuple(sorted(set(given)))
    raise _wrong(f"instances.{kind}", expected, given)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10_000


def _wrong(key: str, expected: str, given: object) -> ConfigError:
    return ConfigError(
        f"key {key!r} has a wrong value", where=key, expected=expected, given=repr(given)[:60]
    )
