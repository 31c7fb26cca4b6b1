"""The three policies that ``versions`` in ``servable.toml`` may state."""

from __future__ import annotations

from dataclasses import dataclass

from serving.errors import ConfigError, did_you_mean

EXPECTED = '"all", {latest = n} or {specific = [n, ...]}'


@dataclass(frozen=True)
class AllVersions:
    """Serve every version there is."""

    def __str__(self) -> str:
        return '"all"'


@dataclass(frozen=True)
class LatestVersions:
    """Serve the ``count`` highest versions."""

    count: int = 1

    def __str__(self) -> str:
        return f"{{latest = {self.count}}}"


@dataclass(frozen=True)
class SpecificVersions:
    """Serve these versions, as far as they are there."""

    versions: tuple[int, ...]

    def __str__(self) -> str:
        return f"{{specific = {list(self.versions)}}}"


VersionPolicy = AllVersions | LatestVersions | SpecificVersions


def parse_policy(value: object) -> VersionPolicy:
    """Read the TOML value of ``versions``. Raises ConfigError naming the key inside it."""
    if isinstance(value, VersionPolicy):
        return value
    if value == "all":
        return AllVersions()
    if not isinstance(value, dict) or not value:
        raise _wrong("versions", EXPECTED, value)
    for key in value:
        if key not in ("latest", "specific"):
            hint = did_you_mean(str(key), ("latest", "specific"))
            raise ConfigError(
                f"key 'versions.{key}' is not known", where=f"versions.{key}",
                expected=EXPECTED, fix=hint,
            )  # fmt: skip
    if len(value) > 1:
        raise _wrong("versions", "one of latest and specific", value)
    if "latest" in value:
        count = value["latest"]
        if not _is_positive(count):
            raise _wrong("versions.latest", "a whole number, 1 or more", count)
        return LatestVersions(count)
    wanted = value["specific"]
    if not isinstance(wanted, list) or not wanted or not all(map(_is_positive, wanted)):
        raise _wrong("versions.specific", "a list of whole numbers, 1 or more", wanted)
    return SpecificVersions(tuple(sorted(set(wanted))))


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _wrong(key: str, expected: str, given: object) -> ConfigError:
    return ConfigError(
        f"key {key!r} has a wrong value", where=key, expected=expected, given=repr(given)
    )
