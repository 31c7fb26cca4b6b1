"""``model_warmup`` of a ``config.pbtxt`` as samples of this server; pure.

Source of the meaning: the comments on ``ModelWarmup`` in Triton's ``model_config.proto``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serving.errors import ConfigError
from serving.repository.stubs import triton_model_config_pb2 as pb
from serving.repository.warmup import MOST_RUNS, MOST_SAMPLES
from serving.warmup import FILE, RANDOM, ZEROS, Fill, WarmUp

FOLDER = "warmup"
"""Where, in the servable's folder, the files of ``input_data_file`` lie."""


def samples(config: Any, file: str) -> Iterator[WarmUp]:
    """Yield the samples that a ``ModelConfig`` asks for.

    ``file`` is the name of its file, for messages. Raises ConfigError for a mistake in one.
    """
    if len(config.model_warmup) > MOST_SAMPLES:
        raise _wrong(file, "model_warmup", f"at most {MOST_SAMPLES}", len(config.model_warmup))
    for place, given in enumerate(config.model_warmup):
        where = f"model_warmup[{place}]"
        if given.count > MOST_RUNS:
            raise _wrong(file, f"{where}.count", f"at most {MOST_RUNS}", given.count)
        rows = given.batch_size or 1
        batched = config.max_batch_size > 0
        if rows > 1 and not batched:
            raise _wrong(file, f"{where}.batch_size", "1 for a model without batches", rows)
        inputs = {
            name: _fill(given.inputs[name], (rows,) if batched else (), file, f"{where}.{name}")
            for name in sorted(given.inputs)
        }
        yield WarmUp(given.name or where, "", inputs, RANDOM, rows, given.count or 1)


def _fill(given: Any, rows: tuple[int, ...], file: str, where: str) -> Fill:
    if any(size < 1 for size in given.dims):
        raise _wrong(file, f"{where}.dims", "the size of each axis", list(given.dims))
    shape = (*rows, *given.dims)
    number = given.data_type
    dtype = pb.DataType.Name(number).removeprefix("TYPE_") if number else ""
    dtype = "BYTES" if dtype == "STRING" else dtype
    kind = given.WhichOneof("input_data_type")
    if kind is None:
        raise _wrong(file, where, "zero_data, random_data or input_data_file", "none of them")
    if kind != "input_data_file":
        return Fill(ZEROS if kind == "zero_data" else RANDOM, shape, "", dtype)
    name = given.input_data_file
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise _wrong(file, f"{where}.input_data_file", f"a file in the folder {FOLDER}", name)
    return Fill(FILE, shape, f"{FOLDER}/{name}", dtype)


def _wrong(file: str, key: str, expected: str, given: object) -> ConfigError:
    return ConfigError(
        f"{file}: {key!r} has a wrong value", where=key, expected=expected, given=repr(given)
    )
