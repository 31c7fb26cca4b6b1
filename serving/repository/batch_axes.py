"""The batch axes that ``servable.toml`` asserts: read, and checked against a signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serving.errors import ConfigError, did_you_mean, listing
from serving.tensor import BatchAxes, Signature, TensorSpec

EXPECTED = '"none", or {inputs = {name = axis, ...}, outputs = {name = axis, ...}}'
_AXIS = 'an axis (0 or more) or "none"'


@dataclass(frozen=True)
class AssertedAxes:
    """The axis that counts rows, by tensor name; ``None`` for a tensor that all rows share.

    ``off`` asks for no batching at all; the tables are empty then.
    """

    off: bool = False
    inputs: tuple[tuple[str, int | None], ...] = ()
    outputs: tuple[tuple[str, int | None], ...] = ()


def parse_axes(value: object) -> AssertedAxes | None:
    """Read the TOML value of ``batch_axes``. Raises ConfigError naming the key inside it."""
    if value is None or isinstance(value, AssertedAxes):
        return value
    if value == "none":
        return AssertedAxes(off=True)
    if not isinstance(value, dict):
        raise _wrong("batch_axes", EXPECTED, value)
    for key in value:
        if key not in ("inputs", "outputs"):
            raise ConfigError(
                f"key 'batch_axes.{key}' is not known", where=f"batch_axes.{key}",
                expected=EXPECTED, fix=did_you_mean(str(key), ("inputs", "outputs")),
            )  # fmt: skip
    return AssertedAxes(inputs=_table("inputs", value), outputs=_table("outputs", value))


def resolve_axes(
    asserted: AssertedAxes | None, signature: Signature, walked: BatchAxes
) -> BatchAxes:
    """Return the axes to use: the asserted ones, or those that the axis walk found.

    Raises ConfigError when the assertion does not fit the signature: a tensor that does not
    exist or is not named, or an axis that the tensor does not have.
    """
    if asserted is None:
        return walked
    if asserted.off:
        return BatchAxes.refused('switched off by batch_axes = "none" in servable.toml')
    return BatchAxes(
        True,
        "asserted by batch_axes in servable.toml",
        _fit("inputs", dict(asserted.inputs), signature.inputs),
        _fit("outputs", dict(asserted.outputs), signature.outputs),
    )


def _table(side: str, value: Mapping[str, object]) -> tuple[tuple[str, int | None], ...]:
    key = f"batch_axes.{side}"
    table = value.get(side)
    if not isinstance(table, dict) or not table:
        raise _wrong(key, "a table of tensor names and axes, {name = axis, ...}", table)
    axes: list[tuple[str, int | None]] = []
    for name, axis in table.items():
        if axis == "none":
            axes.append((name, None))
        elif isinstance(axis, int) and not isinstance(axis, bool) and axis >= 0:
            axes.append((name, axis))
        else:
            raise _wrong(f"{key}.{name}", _AXIS, axis)
    if all(axis is None for _, axis in axes):
        raise ConfigError(
            f"key {key!r} names no axis", where=key, expected="at least one tensor with an axis",
            fix='to switch batching off write batch_axes = "none"',
        )  # fmt: skip
    return tuple(axes)


def _fit(
    side: str, axes: Mapping[str, int | None], specs: Sequence[TensorSpec]
) -> tuple[int | None, ...]:
    names = [spec.name for spec in specs]
    for name in axes:
        if name not in names:
            raise ConfigError(
                f"key 'batch_axes.{side}.{name}' names no tensor of the model",
                where=f"batch_axes.{side}.{name}", expected=listing(names),
                fix=did_you_mean(name, names),
            )  # fmt: skip
    missing = [name for name in names if name not in axes]
    if missing:
        raise ConfigError(
            f"key 'batch_axes.{side}' leaves out {listing(missing)}",
            where=f"batch_axes.{side}", expected=f"every tensor of {side} with {_AXIS}",
        )  # fmt: skip
    for spec in specs:
        axis = axes[spec.name]
        if axis is not None and spec.shape is not None and axis >= len(spec.shape):
            raise ConfigError(
                f"key 'batch_axes.{side}.{spec.name}' is beyond the tensor's last axis",
                where=f"batch_axes.{side}.{spec.name}",
                expected=f"an axis of {spec.text()}", given=str(axis),
            )  # fmt: skip
    return tuple(axes[name] for name in names)


def _wrong(key: str, expected: str, given: object) -> ConfigError:
    shown = "nothing" if given is None else repr(given)
    return ConfigError(f"key {key!r} has a wrong value", where=key, expected=expected, given=shown)
