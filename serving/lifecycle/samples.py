"""Which samples a version is warmed with, and which rows it is proved on."""

from __future__ import annotations

from typing import Any, TypedDict

from serving.lifecycle.version import Version
from serving.repository.example import REQUEST_FILE
from serving.repository.warmup import resolved


class LoadSamples(TypedDict):
    """The fields of ``Load`` that say so."""

    warmup: list[dict[str, Any]]
    sample: str


def samples_for(version: Version) -> LoadSamples:
    """Return the samples of a plain model; raises LoadError for one whose file is not there.

    A request to a method of stages is none to the models behind it: those get made-up inputs.
    """
    source = version.source
    assert source is not None
    if source.code is not None:
        return {"warmup": [], "sample": ""}
    ordered = resolved(version.settings.warmup, source.folder)
    sample = "" if source.example is None else str((source.folder / REQUEST_FILE).resolve())
    return {"warmup": [asked.to_json() for asked in ordered], "sample": sample}
